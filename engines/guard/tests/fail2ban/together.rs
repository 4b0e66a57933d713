//! Many filters over the same lines decide as each alone.

use std::path::Path;

use event::{Span, Time};
use garant_guard::fail2ban::filter::{FilterSet, FilterSettings, LineError, Match, NoNames};
use garant_guard::fail2ban::{FilterDefinition, JailOverrides, UseDns, read_filter};

use crate::beside::{compile, sample_settings};
use crate::oracle::{Oracle, TEST_NOW};

/// NH-1: what a set of all filters finds in every sample line, whichever filter it is for, is what each of them finds alone.
#[test]
fn filters_decide_together_as_each_alone() {
    let config = std::env::var("FAIL2BAN_CONFIG").unwrap_or_else(|_| "/etc/fail2ban".to_owned());
    let mut names: Vec<String> = std::fs::read_dir(Path::new(&config).join("filter.d"))
        .expect("install fail2ban")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".conf")?.to_owned()))
        .collect();
    names.sort();
    let read = |name: &String| read_filter(Path::new(&config), name, &JailOverrides::default()).ok();
    let definitions: Vec<FilterDefinition> =
        names.iter().filter_map(read).filter(|definition| !definition.failregex.is_empty()).collect();
    assert!(definitions.len() > 80, "{}", definitions.len());
    let lines: Vec<String> =
        Oracle::start().samples().into_iter().filter(|step| !step.missing).map(|step| step.line).collect();
    let followed = FilterSettings {
        use_dns: UseDns::No,
        ..FilterSettings::new(sample_settings().zone, sample_settings().started)
    };
    for (settings, every) in [(followed, 2), (sample_settings(), 5)] {
        let mut alone: Vec<_> = definitions.iter().map(|definition| compile(definition, &settings)).collect();
        let mut together =
            FilterSet::new(definitions.iter().map(|definition| compile(definition, &settings)).collect());
        let mut failures = 0;
        for (number, line) in lines.iter().step_by(every).enumerate() {
            let now = Time::from_secs(TEST_NOW) + Span::from_secs(i64::try_from(number).unwrap());
            let mut found: Vec<Result<Vec<Match>, LineError>> = vec![Ok(Vec::new()); alone.len()];
            together.process_line(line, now, &mut NoNames, &mut |filter, matches| found[filter] = matches);
            for ((filter, found), definition) in alone.iter_mut().zip(found).zip(&definitions) {
                let expected = filter.process_line(line, now, &mut NoNames);
                failures += expected.as_ref().map_or(0, Vec::len);
                assert_eq!(found, expected, "{}: {line}", definition.name);
            }
        }
        assert!(failures > 500 / every, "{failures}");
    }
}
