//! Many filters over the same lines decide as each alone.

use std::collections::BTreeMap;
use std::path::Path;

use drawn::Draws;
use event::{Span, Time};
use garant_guard::fail2ban::filter::{FilterSet, FilterSettings, LineError, Match, NoNames};
use garant_guard::fail2ban::{FilterDefinition, JailOverrides, UseDns, read_filter};

use crate::beside::{compile, sample_settings};
use crate::mutated::mutated;
use crate::oracle::{Oracle, Step, TEST_NOW};

/// The installed filters, without options.
fn installed() -> Vec<FilterDefinition> {
    let config = std::env::var("FAIL2BAN_CONFIG").unwrap_or_else(|_| "/etc/fail2ban".to_owned());
    let mut names: Vec<String> = std::fs::read_dir(Path::new(&config).join("filter.d"))
        .expect("install fail2ban")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".conf")?.to_owned()))
        .collect();
    names.sort();
    let read = |name: &String| read_filter(Path::new(&config), name, &JailOverrides::default()).ok();
    names.iter().filter_map(read).filter(|definition| !definition.failregex.is_empty()).collect()
}

/// NH-1: what a set of all filters finds in every sample line, whichever filter it is for, is what each of them finds alone.
#[test]
fn filters_decide_together_as_each_alone() {
    let definitions = installed();
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

/// NH-1: so it is of a few filters that are drawn, and of lines of one of them and of the others that were changed at random.
/// `GARANT_LINES` is how many times one of them judges a line (5,000 when it is not set).
#[test]
fn filters_decide_together_as_each_alone_on_mutated_lines() {
    let wanted: usize =
        std::env::var("GARANT_LINES").map_or(5_000, |text| text.parse().expect("GARANT_LINES is a number"));
    let mut draws = Draws::from_environment();
    let definitions = installed();
    let mut samples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Step { name, line, .. } in Oracle::start().samples().into_iter().filter(|step| !step.missing) {
        samples.entry(name).or_default().push(line);
    }
    let known = |definition: &&FilterDefinition| samples.contains_key(&definition.name);
    let definitions: Vec<&FilterDefinition> = definitions.iter().filter(known).collect();
    let (mut judged, mut failures) = (0, 0);
    while judged < wanted {
        let settings = FilterSettings {
            use_dns: UseDns::No,
            check_all_regex: draws.chance(20),
            check_find_time: draws.chance(70),
            in_operation: draws.chance(70),
            ..FilterSettings::new(sample_settings().zone, sample_settings().started)
        };
        let drawn: Vec<&FilterDefinition> = (0..=draws.below(8_usize)).map(|_| draws.pick(&definitions)).collect();
        let mut alone: Vec<_> = drawn.iter().map(|definition| compile(definition, &settings)).collect();
        let mut together = FilterSet::new(drawn.iter().map(|definition| compile(definition, &settings)).collect());
        let mut now = Time::from_secs(TEST_NOW);
        for _ in 0..100 {
            now = now + Span::from_secs(draws.below(20_i64));
            let of = &samples[&draws.pick(&drawn).name];
            let at = draws.below(of.len());
            let line = mutated(&mut draws, &of[at], &of[(at + 1) % of.len()]);
            let mut found: Vec<Result<Vec<Match>, LineError>> = vec![Ok(Vec::new()); alone.len()];
            together.process_line(&line, now, &mut NoNames, &mut |filter, matches| found[filter] = matches);
            for ((filter, found), definition) in alone.iter_mut().zip(found).zip(&drawn) {
                let expected = filter.process_line(&line, now, &mut NoNames);
                failures += expected.as_ref().map_or(0, Vec::len);
                judged += 1;
                assert_eq!(found, expected, "{} among {}: {line:?} {settings:?}", definition.name, drawn.len());
            }
        }
    }
    assert!(failures > wanted / 50, "{failures}");
}
