//! The sample suite of fail2ban: every line, every filter, every mode.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use event::Time;
use garant_guard::fail2ban::filter::{Filter, Match, Value as Field};
use serde_json::{Value, json};

use crate::beside::{Known, compile, difference, sample_settings, told};
use crate::oracle::{Oracle, Step, TEST_NOW};

struct Row {
    filter: Filter,
    lines: usize,
    matched: usize,
    used: BTreeSet<usize>,
    patterns: Vec<String>,
}

/// The annotation of a sample, compared with what was found.
fn annotated(step: &Step, found: &[Match]) -> Result<(), String> {
    let expected = step.expect.get("match").and_then(Value::as_bool).unwrap_or(false);
    let found: Vec<_> = found.iter().filter(|found| found.host.is_some() && !found.is_no_failure()).collect();
    let [found] = found[..] else {
        return if !expected && found.is_empty() { Ok(()) } else { Err(format!("{} patterns matched", found.len())) };
    };
    if !expected {
        return Err("matched, and should not".to_owned());
    }
    for (key, value) in &step.expect {
        let ours = match (key.as_str(), found.failure.fields.get(key.as_str())) {
            ("match" | "desc" | "constraint", _) => continue,
            ("time", _) if value.is_null() => continue,
            ("time", _) => {
                let local = jiff::civil::DateTime::strptime("%Y-%m-%dT%H:%M:%S%.f", value.as_str().unwrap_or_default())
                    .map_err(|error| error.to_string())?;
                let zone =
                    jiff::tz::TimeZoneDatabase::bundled().get("Europe/Zurich").map_err(|error| error.to_string())?;
                let at = zone.to_timestamp(local).map_err(|error| error.to_string())?;
                if found.time != Some(Time::from_micros(at.as_microsecond())) {
                    return Err(format!("time: {:?}, not {value}", found.time));
                }
                continue;
            }
            (_, Some(Field::Text(text))) => json!(text),
            (_, Some(Field::Tuple(of))) => json!(of),
            ("host", None) => json!(found.host.as_ref().map(garant_guard::fail2ban::filter::Host::text)),
            ("attempts", None) => json!(found.attempts()),
            ("users", None) => found.failure.users.iter().map(|user| json!(user.text())).collect(),
            ("ip", None) => json!(found.failure.ip.as_ref().map(garant_guard::fail2ban::filter::Host::text)),
            (_, None) => Value::Null,
        };
        let mut value = value.clone();
        if let Some(of) = value.as_array_mut()
            && key == "users"
        {
            of.sort_by_key(Value::to_string);
        }
        // An address may be written in another form than the canonical one.
        if let Some(address) = value.as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok()) {
            value = json!(address.to_string());
        }
        if ours != value {
            return Err(format!("{key}: {ours}, not {value}"));
        }
    }
    Ok(())
}

/// NH-1: every sample line has the result that fail2ban's authors wrote beside it and that the installed fail2ban gives, and each
/// pattern matches one of them.
#[test]
fn every_sample_has_the_result_of_fail2ban() {
    let mut oracle = Oracle::start();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut lines = 0;
    for step in oracle.samples() {
        if step.missing {
            wrong.push(format!("{}: no samples", step.name));
            continue;
        }
        let key = step.filter();
        let row = match rows.entry(key.clone()) {
            std::collections::btree_map::Entry::Occupied(row) => row.into_mut(),
            std::collections::btree_map::Entry::Vacant(row) => {
                let definition = oracle.open(&key, &step, &told(&sample_settings()));
                row.insert(Row {
                    filter: compile(&definition, &sample_settings()),
                    lines: 0,
                    matched: 0,
                    used: BTreeSet::new(),
                    patterns: definition.failregex,
                })
            }
        };
        let line = if step.journal {
            json!({ "cut": ["", "2005-08-14T10:00:00", step.line], "date": TEST_NOW })
        } else {
            json!({ "line": step.line })
        };
        let theirs = oracle.lines(&key, TEST_NOW, &[line], &json!({})).remove(0);
        let (now, mut names) = (Time::from_secs(TEST_NOW), Known(BTreeMap::new()));
        let ours = if step.journal {
            row.filter.process_dated(&step.line, now, now, &mut names)
        } else {
            row.filter.process_line(&step.line, now, &mut names)
        };
        lines += 1;
        row.lines += 1;
        let place = format!("{key}, {}:{}: {}", step.file, step.number, step.line);
        if let Some(difference) = difference(&ours, &theirs) {
            wrong.push(format!("{place}\n{difference}"));
        }
        let ours = ours.unwrap_or_default();
        row.used.extend(ours.iter().map(|found| found.regex));
        row.matched += usize::from(ours.iter().any(|found| found.host.is_some() && !found.is_no_failure()));
        if let Err(error) = annotated(&step, &ours) {
            wrong.push(format!("{place}\n{error}"));
        }
    }
    let used: BTreeSet<_> =
        rows.values().flat_map(|row| row.used.iter().map(|regex| row.patterns[regex - 1].clone())).collect();
    let mut table = String::from(
        "filter                                             patterns    used   lines  matched  given up\n",
    );
    for (key, row) in &rows {
        writeln!(
            table,
            "{key:50} {:8} {:7} {:7} {:8} {:9}",
            row.patterns.len(),
            row.used.len(),
            row.lines,
            row.matched,
            row.filter.step_limits()
        )
        .unwrap();
        for pattern in row.patterns.iter().filter(|pattern| !used.contains(*pattern)) {
            wrong.push(format!("{key}: no sample for {pattern}"));
        }
        if row.filter.step_limits() > 0 {
            wrong.push(format!("{key}: {} searches were given up", row.filter.step_limits()));
        }
    }
    println!("{table}{lines} lines, {} filters with their options, {} differences", rows.len(), wrong.len());
    assert!(lines > 1000, "{lines} lines: the samples of the package are incomplete");
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n\n")
    );
}
