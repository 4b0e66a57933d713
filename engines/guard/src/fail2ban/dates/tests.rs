//! The installed fail2ban is asked about the same lines in the same order: same template, same places, same time.
#![expect(clippy::disallowed_methods, reason = "the oracle is a program")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use drawn::Draws;
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
    let found = match detector.match_time(&LogLine::of(line), now) {
        Ok(Some(found)) => found,
        Ok(None) => return Value::Null,
        Err(_) => return "dropped".into(),
    };
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

/// Whether two answers are the same; a time of fail2ban is a binary fraction, so that its microseconds are nearly, the less so the
/// farther it is. One after the year 294,000 is the last one that we have.
fn is_same(ours: &Value, theirs: &Value) -> bool {
    let (Some(ours), Some(theirs)) = (ours.as_array(), theirs.as_array()) else {
        return ours == theirs;
    };
    let is_same_time = match (ours[5].as_i64(), theirs[5].as_f64()) {
        (Some(i64::MAX), Some(theirs)) => theirs >= i64::MAX as f64 / 1e6,
        (Some(ours), Some(theirs)) => (ours as f64 / 1e6 - theirs).abs() < 2e-6 + theirs.abs() * f64::EPSILON,
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
            // An expression that fail2ban compiles only at the first line, and then at each.
            (Err(_), Some(answers)) if answers.iter().all(|answer| answer == "dropped") => continue,
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

/// In other zones, and read at times at which years and clocks change: each line at another, and in each zone at another.
#[test]
fn dates_are_those_of_fail2ban_in_every_zone_at_every_time() {
    let zones = ZONES.into_iter().zip([None, Some("UTC+0530"), None, Some("CET"), None]);
    for (number, (zone, log_zone)) in zones.enumerate() {
        let started = at(NOWS[1]);
        let mut all = scenarios(None, log_zone, started).pop().expect("the logs together");
        for (line, (_, now)) in all.lines.iter_mut().enumerate() {
            // A line meets five of the times.
            *now = at(NOWS[(line + 3 * number) % NOWS.len()]);
        }
        compare(zone, started, &[all]);
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

/// What a date may be written by; a letter in braces is a field.
const FORMS: [&str; 40] = [
    "{Y}-{m}-{d} {H}:{M}:{S}",
    "{Y}-{m}-{d}T{H}:{M}:{S}.{f}{z}",
    "{Y}/{m}/{d} {H}:{M}:{S},{f} {z}",
    "{Y}.{m}.{d}  {k}:{M}:{S}",
    "{b} {e} {H}:{M}:{S}",
    "{b} {d} {H}:{M}:{S}.{f} {Y}",
    "{a} {b} {e} {H}:{M}:{S} {Y}",
    "{a} {b} {d} {Y} {H}:{M}:{S}.{f}",
    "{d}/{m}/{Y} {H}:{M}:{S}",
    "{d}/{m}/{y} {k}:{M}:{S}",
    "{d}-{m}-{Y} {H}:{M}:{S}",
    "{d}/{b}/{Y}:{H}:{M}:{S} {z}",
    "[{d}/{b}/{Y}:{H}:{M}:{S} {z}]",
    "{d}-{b}-{Y} {H}:{M}:{S}.{f}",
    "{m}/{d}/{Y}:{H}:{M}:{S}",
    "{m}-{d}-{Y} {H}:{M}:{S}.{f}",
    "{E}",
    "[{E}]",
    "{E}.{f}",
    "audit({E}.123:456): x",
    "{E}123",
    "{E}123456",
    "{E}123.5",
    "id={E}123;",
    "{H}:{M}:{S}",
    "<{m}/{d}/{y}@{H}:{M}:{S}>",
    "{y}{m}{d} {H}:{M}:{S}",
    "{y}{m}{d}  {k}:{M}:{S}",
    "{b} {d}, {Y} {I}:{M}:{S} {p}",
    "{b}-{d}-{y} {H}:{M}:{S}",
    "{Y}{m}{d}T{H}{M}{S}.{f}{z}",
    "{Y}{m}{d} {H}{M}{S} {z}",
    "{Z} {a} {b} {d} {H}:{M}:{S} {Y}",
    "{z} {b} {d} {H}:{M}:{S}",
    "@40000000{t}12345678",
    "{Y} {j}",
    "{Y} {W} {a}",
    "{Y} {W} {w}",
    "{I}:{M} {p}",
    "{B} {e} {A} {H}:{M}",
];

/// Patterns with what those of the installed filters do not have, and some that are none.
const PATTERNS: [&str; 40] = [
    "{^LN-BEG}",
    "{DEFAULT}",
    "{NONE}",
    "{UNB}%Y-%m-%d",
    "%ExY-%Exm-%Exd %ExH:%ExM:%ExS\n{DEFAULT}",
    "{^LN-BEG}%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\\s*%z)?\n^[^\\[]*\\[({DATE})\n{^LN-BEG}",
    "EPOCH",
    "LEPOCH",
    "{^LN-BEG}LEPOCH",
    "id={LEPOCH};",
    "^\\[{EPOCH}\\]",
    "%c",
    "%a %b %d %H:%M:%S %Y",
    "%x %X",
    "%Y %j",
    "%Y %U %a",
    "%Y %W %w",
    "%Y %W %a",
    "%I:%M(?: %p)?",
    "%I:%M %p",
    "%H:%M:%S(?: %Exz)?",
    "%ExZ %b %d %H:%M:%S",
    "(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\\.%f)?(?: %ExY)?",
    "%B %d %A %H:%M",
    "%b %d",
    "%m",
    "^(?P<Y>\\d+)/(?P<m>\\w+)/(?P<d>[^ ]+)",
    "**%H:%M**",
    "%Exk:%M:%S$",
    "TAI64N",
    "^TAI64N",
    "[^\\d]*(?:%d/%b/%Exy )?%Exl:%ExM:%ExS\n{NONE}",
    "^(?:<)?{DATE}",
    "{DATE}\n%Y",
    "%d/%m/%Y %H:%M:%S\n%m/%d/%Y %H:%M:%S",
    "%",
    "%Q",
    "(%Y",
    "{DEFAULT}\n{DEFAULT}",
    "%Y\n%Y",
];

/// A line with a date in one of the forms, near `now`; sometimes damaged.
fn drawn_line(draws: &mut Draws, now: i64) -> String {
    let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let near = match draws.below(4) {
        0 => now - draws.below(200_i64),
        1 => now + draws.below(3_i64) * 86_400 - 86_400 + draws.below(7200_i64) - 3600,
        2 => now - draws.below(400 * 86_400_i64),
        _ => 1_100_000_000 + draws.below(700_000_000_i64),
    };
    let (year, month, day) = local::calendar(near.div_euclid(local::DAY));
    let (month, day) = if draws.chance(5) { (2, 29) } else { (month, day) };
    let second = near.rem_euclid(local::DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let title = |name: &str| format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    let month_name = names[usize::try_from(month - 1).expect("a month")];
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let zones = ["+0200", "-03:30", "Z", "UTC", "+01", "GMT", "+1430", "-1159"];
    let named = ["CET", "PDT", "EST", "XYZ", "Z", "UTC", "cest", "CHST"];
    let fields = [
        ("{Y}", format!("{year:04}")),
        ("{y}", format!("{:02}", year % 100)),
        ("{m}", if draws.chance(10) { month.to_string() } else { format!("{month:02}") }),
        ("{d}", if draws.chance(10) { day.to_string() } else { format!("{day:02}") }),
        ("{e}", format!("{day:2}")),
        ("{b}", if draws.chance(10) { month_name.to_owned() } else { title(month_name) }),
        ("{B}", title(strptime::month_name(month))),
        ("{a}", draws.pick(&days).to_owned()),
        ("{A}", draws.pick(&["Monday", "thursday", "SUNDAY"]).to_owned()),
        ("{H}", format!("{hour:02}")),
        ("{k}", format!("{hour:2}")),
        ("{I}", format!("{:02}", (hour + 11) % 12 + 1)),
        ("{p}", draws.pick(&["AM", "PM", "am", "pm"]).to_owned()),
        ("{M}", format!("{minute:02}")),
        ("{S}", format!("{second:02}")),
        ("{f}", draws.below(1_000_000_u64).to_string()),
        ("{z}", draws.pick(&zones).to_owned()),
        ("{Z}", draws.pick(&named).to_owned()),
        ("{E}", near.to_string()),
        ("{t}", format!("{near:08x}")),
        ("{j}", format!("{:03}", draws.below(368_u64))),
        ("{W}", format!("{:02}", draws.below(55_u64))),
        ("{w}", draws.below(8_u64).to_string()),
    ];
    let mut date = draws.pick(&FORMS).to_owned();
    for (field, value) in fields {
        date = date.replace(field, &value);
    }
    let fronts = [
        "",
        "",
        "",
        "",
        " ",
        "[",
        "<",
        "x",
        "host ",
        "10.0.0.1 - - [",
        "é: ",
        "日本 [",
        "2026 ",
        "1 ",
        "t=",
        "\"",
        "id=",
    ];
    let ends = [
        "",
        " host sshd[1]: Failed",
        "] x",
        ">",
        "x",
        "5",
        ",123 x",
        " 2005",
        " +0100 z",
        "é",
        "٣",
        "; 2024-02-29 23:59:59",
        ": Jan  1 00:00:01",
    ];
    let mut line = format!("{}{date}{}", draws.pick(&fronts), draws.pick(&ends));
    if draws.chance(15) {
        let mut characters: Vec<char> = line.chars().collect();
        let place = draws.below(characters.len());
        characters[place] = draws.pick(&[
            '0', '9', ' ', ':', '-', 'A', 'ſ', 'K', 'İ', 'ı', '٣', '_', '\u{301}', '.', '+', '\u{a0}', '²', '\x1c',
        ]);
        line = characters.into_iter().collect();
    }
    line
}

/// Lines in runs of one form and one time, as a log has them, and then of another.
fn drawn_lines(draws: &mut Draws, count: usize, step: i64) -> Vec<(String, i64)> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let now = at(draws.pick(&NOWS)) + draws.below(step);
        for run in 0..=draws.below(4_i64) {
            let line = drawn_line(draws, now);
            for again in 0..=draws.below(3_i64) {
                lines.push((line.clone(), now + run * 170 + again));
            }
        }
    }
    lines
}

/// A letter that is `i` only for Python makes the name of a zone of a damaged one of a day. No zone has the name, and from then on
/// the template with a zone takes every `Sat` for one: a line without a date.
#[test]
fn a_dotted_i_makes_a_zone_of_a_weekday() {
    let now = at(NOWS[0]);
    let line = |day: &str| (format!("{day} Dec 28 19:05:38 2013 - [73540] (192.0.2.7) login error"), now);
    let lines = vec![line("Sat"), line("S\u{130}at"), line("Sat"), line("F\u{131}r"), line("FR\u{130}")];
    let patterns = [r"(?i:%H[^I]%M x[h-j])", r"(?i:%Hi%M)", r"(?i:%H(?-i:i)%M)", r"(?i:%H[^I]%M)"];
    let times = ["10i11", "10\u{131}11", "10\u{130}11 xI", "10:11 x\u{131}", "10:11 xi"];
    let mut all = vec![Scenario { datepattern: None, log_zone: None, lines }];
    for pattern in patterns {
        let lines = times.iter().map(|time| ((*time).to_owned(), now)).collect();
        all.push(Scenario { datepattern: Some(pattern.to_owned()), log_zone: None, lines });
    }
    let (lines, dated) = compare("Europe/Zurich", now, &all);
    assert_eq!((lines, dated), (25, 9));
}

/// Dates that are drawn, in every form, damaged ones and ones of other scripts with them, read by every pattern in every zone.
#[test]
fn drawn_dates_are_read_as_by_fail2ban() {
    let mut draws = Draws::from_environment();
    let trials: usize = std::env::var("GARANT_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let log_zones = [None, None, Some("UTC+02"), None, Some("-0330")];
    let all = ZONES.into_iter().zip(log_zones);
    for (zone, log_zone) in std::iter::repeat_n(all, trials.div_ceil(1000)).flatten() {
        let mut all =
            vec![Scenario { datepattern: None, log_zone: None, lines: drawn_lines(&mut draws, 1500, 90_000) }];
        for pattern in PATTERNS {
            let lines = drawn_lines(&mut draws, 60, 4000);
            all.push(Scenario { datepattern: Some(pattern.to_owned()), log_zone: log_zone.map(str::to_owned), lines });
        }
        compare(zone, at("2026-12-31T23:30:00Z"), &all);
    }
}

/// What is read byte by byte is what the expression finds, wherever in the line the search starts.
#[test]
fn usual_dates_are_read_without_an_expression_alike() {
    let mut draws = Draws::from_environment();
    let patterns =
        "{^LN-BEG}%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\\s*%z)?\n^[^\\[]*\\[({DATE})\n{^LN-BEG}";
    let mut short = 0;
    for patterns in [None, Some(patterns)] {
        let mut templates = templates::Templates::of(patterns, 2026).expect("they are read");
        templates.retain(template::Template::has_shape);
        assert!(templates.len() >= 6, "{}", templates.len());
        let drawn = drawn_lines(&mut draws, 3000, 90_000).into_iter().map(|(line, _)| line);
        for line in samples().concat().into_iter().chain(drawn).filter(|line| line.is_ascii()) {
            for template in &templates {
                let slow = template.find_by_expression(&line, 0, python::Texts::Ascii);
                assert_eq!(template.find(&line, 0, python::Texts::Ascii), slow, "{} in {line:?}", template.name);
                let Some(span) = slow.map(|found| found.span) else { continue };
                short += 1;
                for (part, from) in
                    [(&line[..span.end], span.start), (&line[..], span.start), (&line[..span.end - 1], 0)]
                {
                    let slow = template.find_by_expression(part, from, python::Texts::Ascii);
                    assert_eq!(template.find(part, from, python::Texts::Ascii), slow, "{} in {part:?}", template.name);
                }
            }
        }
    }
    assert!(short > 3000, "{short}");
}

/// A line whose parts are drawn from few, so that many are written as the one before.
fn line_of_few(draws: &mut Draws, date: &str) -> String {
    let front = draws.pick(&["", "", "", "[", "<<", "x ", "10.0.0.1 - - [", "1.2.3.4 - [a] [", "\u{e9} ["]);
    let behind = draws.pick(&[
        " web1 sshd[1]: x",
        " web1 cron: x",
        " 2026 host x",
        " 20",
        "]: \"GET / HTTP/1.1\" 200",
        "] \"GET /a\"",
        ".5 host",
        ",25",
        " +0200] \"GET /",
        " +0100] \"GET /",
        "Z host",
        "  Z host",
        "   +01:00 host",
        "         +01:00",
        "x",
        "",
        " ",
        " \u{e9}tage",
    ]);
    format!("{front}{date}{behind}")
}

#[test]
fn a_date_that_is_written_as_the_last_one_is_read_as_it() {
    let mut draws = Draws::from_environment();
    let patterns = [
        None,
        Some("{^LN-BEG}"),
        Some("^{DATE}"),
        Some("^[^\\[]*\\[({DATE})\n{^LN-BEG}"),
        Some("{^LN-BEG}(?:%a )?%b %d %H:%M:%S(?:\\.%f)?(?: %ExY)?\n^[^\\[]*\\[({DATE})\n{^LN-BEG}"),
    ];
    let (mut same, mut asked) = (0, 0);
    for round in 0..200 {
        // A usual day, and one on which clocks are set back from 3 to 2.
        let (zone, start, day) = draws.pick(&[
            ("UTC", "2026-11-29T10:00:05Z", ["Nov 29 ", "2026-11-29T", "29/Nov/2026:"]),
            ("Europe/Zurich", "2026-10-25T00:59:30Z", ["Oct 25 ", "2026-10-25T", "25/Oct/2026:"]),
            ("America/St_Johns", "2026-11-29T13:30:05Z", ["Nov 29 ", "2026-11-29 ", "29/Nov/2026 "]),
        ]);
        let zone = Zone::named(zone).unwrap();
        let settings = DateSettings { zone: &zone, log_zone: None, started: Time::from_secs(at(start)) };
        let pattern = patterns[round % patterns.len()];
        let mut quick = DateDetector::new(pattern, &settings).unwrap();
        let mut slow = DateDetector::new(pattern, &settings).unwrap();
        let dates = [
            "Nov 29 10:00:00",
            "Nov 29 10:00:01",
            "Nov  3 10:00:00",
            "2026-11-29T10:00:00",
            "2026-11-29 10:00:00.123",
            "29/Nov/2026:10:00:00",
            "29/Nov/2026:10:00:00 +0100",
            "10:00:00",
            "none",
        ];
        // Lines of one kind are most of a log.
        let usual = format!("{}@{}", draws.pick(&day), draws.pick(&["", "", ".123", " +0100"]));
        let usual = line_of_few(&mut draws, &usual);
        let hour = draws.pick(&["10", "02", "01", "09"]);
        let mut now = at(start);
        for _ in 0..100 {
            now += draws.pick(&[0, 0, 0, 1, 60, 1000]);
            let line = if draws.chance(80) {
                let other = draws.pick(&["10", "02", "09", "01", "03", " 2"]);
                let hour = if draws.chance(90) { hour } else { other };
                let minute =
                    if draws.chance(80) { "01" } else { draws.pick(&["00", "14", "15", "44", "59", "60", "x0"]) };
                usual.replace('@', &format!("{hour}:{minute}:{:02}", draws.below(62_u32)))
            } else {
                let date = draws.pick(&dates);
                line_of_few(&mut draws, date)
            };
            let (line, now) = (LogLine::of(&line), Time::from_secs(now));
            let read = |detector: &mut DateDetector| {
                let found = match detector.match_time(&line, now) {
                    Ok(found) => found?,
                    Err(error) => return Some((0..0, Err(error))),
                };
                Some((found.cut.clone(), detector.time_of(&found, line.text(), now)))
            };
            asked += 1;
            let quickly = quick.same_as_before(&line, now).map(|(cut, time)| (cut, Ok(time)));
            same += usize::from(quickly.is_some());
            let quickly = quickly.or_else(|| read(&mut quick));
            assert_eq!(quickly, read(&mut slow), "round {round}, {pattern:?}: {:?}", line.text());
            assert!(quick.hits().eq(slow.hits()), "round {round}, {pattern:?}: {:?}", line.text());
        }
    }
    assert!(same > asked / 20, "{same} of {asked} were written as the last one");
}
