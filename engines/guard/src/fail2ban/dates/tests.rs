//! The installed fail2ban is asked about the same lines in the same order: same template, same places, same time.
#![expect(clippy::disallowed_methods, reason = "the oracle is a program")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use event::{Time, Zone};
use serde::Serialize;
use serde_json::Value;

use super::*;

/// Where Debian's package has its tests and its filters.
const LOGS: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";
const FILTERS: &str = "/etc/fail2ban/filter.d";

const ZONES: [&str; 5] = ["Europe/Zurich", "UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia"];

/// When lines are read: the time of fail2ban's own tests, around new year, on a leap day, and when clocks are set.
const NOWS: [&str; 14] = [
    "2005-08-14T09:59:59Z",
    "2025-12-31T23:59:30Z",
    "2026-01-01T00:00:30Z",
    "2026-01-01T11:59:59Z",
    "2024-02-29T12:00:00Z",
    "2025-02-28T23:30:00Z",
    "2024-03-01T00:10:00Z",
    "2026-03-29T00:30:00Z",
    "2026-03-29T01:30:00Z",
    "2026-10-25T00:30:00Z",
    "2026-10-25T01:30:00Z",
    "2026-11-01T06:15:00Z",
    "2026-03-08T07:15:00Z",
    "2026-07-01T00:00:00Z",
];

#[derive(Clone, Serialize)]
struct Scenario {
    datepattern: Option<String>,
    log_zone: Option<String>,
    lines: Vec<(String, i64)>,
}

fn at(text: &str) -> i64 {
    Time::parse_rfc3339(text).expect("RFC 3339").micros() / 1_000_000
}

/// What fail2ban answers to each scenario.
fn oracle(zone: &str, started: i64, scenarios: &[Scenario]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fail2ban/dates_oracle.py");
    let mut child = Command::new("/usr/bin/python3")
        .arg(script)
        .args([zone, &started.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install python3 and fail2ban");
    let mut input = child.stdin.take().expect("piped");
    let lines: Vec<String> = scenarios.iter().map(|one| serde_json::to_string(one).expect("JSON")).collect();
    let feeding = thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").expect("the oracle reads");
        }
    });
    let output = child.wait_with_output().expect("it ends");
    feeding.join().expect("it was fed");
    assert!(output.status.success(), "install fail2ban: it is what garant is compared with");
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no answer, but {line}")))
        .collect();
    assert_eq!(answers.len(), scenarios.len());
    answers
}

/// What we answer, in the form of the oracle.
fn ours(detector: &mut DateDetector, line: &str, now: i64) -> Value {
    let now = Time::from_secs(now);
    let Some(found) = detector.match_time(line, now) else { return Value::Null };
    let place = |byte: usize| line[..byte].chars().count();
    let time: Value = match detector.time_of(&found, line, now) {
        Ok(time) => time.micros().into(),
        Err(Unread::Text) => "unreadable".into(),
        Err(Unread::Line) => "dropped".into(),
    };
    serde_json::json!([
        found.template,
        place(found.span.start),
        place(found.span.end),
        place(found.cut.start),
        place(found.cut.end),
        time
    ])
}

/// Whether two answers are the same; a time of fail2ban is a binary fraction, so that its microseconds are nearly.
fn is_same(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_array(), theirs.as_array()) else {
        return ours.is_null() && (theirs.is_null() || theirs == "dropped");
    };
    let is_same_time = match (ours[5].as_i64(), theirs[5].as_f64()) {
        (Some(ours), Some(theirs)) => (ours as f64 / 1e6 - theirs).abs() < 2e-6,
        _ => ours[5] == theirs[5],
    };
    ours[..5] == theirs[..5] && is_same_time
}

/// Compares all scenarios in a zone; how many lines, and how many of them with a time.
fn compare(zone: &str, started: i64, scenarios: &[Scenario]) -> (usize, usize) {
    let (mut lines, mut dated, mut differ) = (0, 0, Vec::new());
    let of = Zone::named(zone).expect("a zone");
    for (scenario, answer) in scenarios.iter().zip(oracle(zone, started, scenarios)) {
        let settings =
            DateSettings { zone: &of, log_zone: scenario.log_zone.as_deref(), started: Time::from_secs(started) };
        let detector = DateDetector::new(scenario.datepattern.as_deref(), &settings);
        let (mut detector, answers) = match (detector, answer.as_array()) {
            (Ok(detector), Some(answers)) => (detector, answers),
            (Err(_), None) => continue,
            (detector, _) => panic!("{:?}: {:?}, fail2ban: {answer}", scenario.datepattern, detector.err()),
        };
        for ((line, now), theirs) in scenario.lines.iter().zip(answers) {
            let ours = ours(&mut detector, line, *now);
            lines += 1;
            dated += usize::from(theirs.get(5).is_some_and(Value::is_number));
            if !is_same(&ours, theirs) {
                differ.push(format!(
                    "{zone} {:?} {:?} at {now}: {line:?}\n  ours {ours}\n  fail2ban {theirs}",
                    scenario.datepattern, scenario.log_zone
                ));
            }
        }
        assert_eq!(answers.len(), scenario.lines.len());
    }
    let shown: Vec<&str> = differ.iter().take(20).map(String::as_str).collect();
    assert!(differ.is_empty(), "{} of {lines} lines differ:\n{}", differ.len(), shown.join("\n"));
    (lines, dated)
}

/// The lines of all sample logs, each log by itself, comments too.
fn samples() -> Vec<Vec<String>> {
    let mut logs: Vec<_> =
        fs::read_dir(LOGS).expect("install fail2ban").map(|entry| entry.expect("an entry").path()).collect();
    logs.sort();
    let logs = logs.iter().filter(|path| path.is_file());
    logs.map(|path| {
        let text = String::from_utf8_lossy(&fs::read(path).expect("readable")).into_owned();
        text.lines().map(str::to_owned).collect()
    })
    .collect()
}

/// Every `datepattern` of the installed filters that stands for itself.
fn datepatterns() -> Vec<String> {
    let mut patterns = Vec::new();
    for entry in fs::read_dir(FILTERS).expect("install fail2ban") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let text = fs::read_to_string(path).expect("UTF-8");
        let mut is_pattern = false;
        for line in text.lines() {
            let value = line.strip_prefix("datepattern").and_then(|rest| rest.trim_start().strip_prefix('='));
            if let Some(value) = value {
                patterns.push(value.trim().replace("%%", "%"));
            } else if is_pattern && line.starts_with([' ', '\t']) {
                let last = patterns.last_mut().expect("one was begun");
                *last = format!("{last}\n{}", line.trim().replace("%%", "%"));
                continue;
            }
            is_pattern = value.is_some();
        }
    }
    patterns.retain(|pattern| !pattern.contains("<lt_") && !pattern.contains("%(") && !pattern.contains("<L_"));
    patterns.sort();
    patterns.dedup();
    assert!(patterns.len() > 20, "{patterns:?}");
    patterns
}

/// Scenarios of a `datepattern`: each log by itself, and all together.
fn scenarios(datepattern: Option<&str>, log_zone: Option<&str>, now: i64) -> Vec<Scenario> {
    let mut logs = samples();
    logs.push(logs.concat());
    let of = |log: Vec<String>| Scenario {
        datepattern: datepattern.map(str::to_owned),
        log_zone: log_zone.map(str::to_owned),
        lines: log.into_iter().map(|line| (line, now)).collect(),
    };
    logs.into_iter().map(of).collect()
}

/// "Every sample log … same result on 100 %": the dates, found by the built-in templates.
#[test]
fn sample_logs_have_the_dates_of_fail2ban() {
    let now = at(NOWS[0]);
    let (lines, dated) = compare("Europe/Zurich", now, &scenarios(None, None, now));
    assert!(lines > 5000 && dated > 2000, "{lines} lines, {dated} with a time");
}

/// In other zones, and read at times at which years and clocks change.
#[test]
fn dates_are_those_of_fail2ban_in_every_zone_at_every_time() {
    for (zone, log_zone) in ZONES.into_iter().zip([None, Some("UTC+0530"), None, Some("CET"), None]) {
        let started = at(NOWS[1]);
        let all: Vec<Scenario> =
            NOWS.iter().map(|now| scenarios(None, log_zone, at(now)).pop().expect("the logs together")).collect();
        compare(zone, started, &all);
    }
}

/// Every `datepattern` of the installed filters reads all sample logs as there.
#[test]
fn installed_datepatterns_read_sample_logs_as_fail2ban() {
    let now = at("2026-11-29T10:00:00Z");
    let all: Vec<Scenario> = datepatterns()
        .iter()
        .map(|pattern| scenarios(Some(pattern), None, now).pop().expect("the logs together"))
        .collect();
    compare("America/New_York", now, &all);
}
