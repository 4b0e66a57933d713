//! `garant guard test` beside the installed `fail2ban-regex`: the same counts, of every sample log with every filter and mode.
#![expect(clippy::disallowed_methods, reason = "a test starts the program it compares with")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::door::{Call, Door, Mount, Reply};
use engine::sim::AtDoor;
use engine::{BoxFuture, Failure};
use event::Time;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::{Oracle, STARTED, Step, TEST_NOW};

const PROGRAM: &str = "/usr/bin/fail2ban-regex";
const SAMPLES: &str = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs";
const ZONE: &str = "Europe/Zurich";

/// Is never asked.
struct Nobody;

impl Door for Nobody {
    fn mounts(&self) -> &'static [Mount] {
        &[]
    }

    fn call(&self, _: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async { Reply::error(404, "nobody is here") })
    }
}

/// Runs `garant guard test` without an agent; what it prints, and its notes.
fn test(arguments: &[&str]) -> Result<(Vec<String>, Vec<String>), Failure> {
    // The years of dates depend on the time of the machine, which the program reads.
    let mut context = AtDoor::new(Arc::new(Nobody), Time::from_secs(STARTED));
    context.door = None;
    let command = garant_guard::commands().remove(0);
    let now = Time::from_secs(TEST_NOW).to_rfc3339();
    let usual = ["--time-zone", ZONE, "--now", &now];
    let usual = if arguments.contains(&"--now") { &usual[..2] } else { &usual[..] };
    let all: Vec<&str> = ["guard", "test"].iter().chain(usual).chain(arguments).copied().collect();
    context.run(command, &all)?;
    let notes = context.notes();
    Ok((context.lines, notes))
}

fn test_json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let (lines, _) = test(&all).unwrap_or_else(|failure| panic!("{arguments:?}: {failure}"));
    serde_json::from_str(&lines.concat()).expect("one object")
}

#[derive(Deserialize)]
struct Answer {
    printed: Vec<String>,
    found: Vec<(String, Option<f64>, Option<String>)>,
    error: Option<String>,
}

/// What `fail2ban-regex` prints for each list of arguments.
fn theirs(asked: &[Vec<String>]) -> Vec<Answer> {
    let mut python = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fail2ban/trial_oracle.py"))
        .arg(ZONE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install python3 and fail2ban (Debian's packages)");
    let mut input = python.stdin.take().expect("piped");
    let asked: Vec<String> = asked.iter().map(|args| json!({ "args": args, "now": TEST_NOW }).to_string()).collect();
    let feeding =
        std::thread::spawn(move || asked.iter().for_each(|line| writeln!(input, "{line}").expect("it reads")));
    let output = python.wait_with_output().expect("it ends");
    feeding.join().expect("it was fed");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// `Lines: …`, and the counts of each pattern and date template.
fn counts(printed: &[String]) -> Vec<String> {
    let printed = printed.iter().map(|line| line.trim_start_matches(['|', '-', '`', ' ']).trim());
    let mut section = "";
    let mut found = Vec::new();
    for line in printed {
        for title in ["Prefregex", "Failregex", "Ignoreregex", "Date template hits", "Lines"] {
            if line.starts_with(title) && line[title.len()..].starts_with(':') {
                section = title;
                found.push(line.to_owned());
            }
        }
        // `12) [3] pattern`: a pattern that has several lines is cut.
        let number = line.split(')').next().unwrap_or_default();
        let is_pattern = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if (is_pattern && matches!(section, "Failregex" | "Ignoreregex"))
            || (section == "Date template hits" && line.starts_with('['))
        {
            let is_title = line.starts_with("[#");
            if !is_title {
                found.push(line.to_owned());
            }
        }
    }
    found
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    filter: String,
    base: String,
    file: String,
}

impl Case {
    fn of(step: &Step) -> Self {
        let options: Vec<String> = step
            .options
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                format!("{name}=\"{}\"", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            .collect();
        let name = step.name.clone();
        let filter = if options.is_empty() { name } else { format!("{name}[{}]", options.join(", ")) };
        Self { filter, base: step.base.clone(), file: format!("{SAMPLES}/{}", step.file) }
    }
}

/// Every sample log with the filters and the options that the suite of fail2ban reads it with.
fn cases(oracle: &mut Oracle) -> Vec<Case> {
    let mut cases = BTreeSet::new();
    for step in oracle.samples() {
        if step.missing {
            continue;
        }
        cases.insert(Case::of(&step));
    }
    cases.into_iter().collect()
}

/// "prints the same counts" as `fail2ban-regex`: lines, what they are, hits of each pattern and each date template; and the failures
/// are those that a jail would count.
#[test]
fn every_sample_log_has_the_counts_of_fail2ban_regex() {
    // It holds the configuration of the tests while it runs.
    let mut oracle = Oracle::start();
    let cases = cases(&mut oracle);
    let mut asked = Vec::new();
    for Case { filter, base, file } in &cases {
        let args = |more: &[&str]| {
            more.iter().copied().chain(["-c", base, file, filter]).map(str::to_owned).collect::<Vec<_>>()
        };
        asked.push(args(&["--print-no-missed", "--print-no-ignored"]));
        asked.push(args(&["-o", "row"]));
    }
    let theirs = theirs(&asked);
    assert_eq!(theirs.len(), asked.len());
    let (mut wrong, mut lines, mut matched, mut failures) = (Vec::new(), 0, 0, 0);
    for (case, theirs) in cases.iter().zip(theirs.chunks(2)) {
        let Case { filter, base, file } = case;
        let [counted, found] = theirs else { panic!("two answers") };
        assert_eq!((&counted.error, &found.error), (&None, &None), "{filter} {file}: {:?}", counted.printed);
        let arguments = ["--config", base, filter, file, "--print-no-missed", "--print-no-ignored"];
        let (printed, _) = test(&arguments).unwrap_or_else(|failure| panic!("{filter} {file}: {failure}"));
        let (ours, theirs) = (counts(&printed), counts(&counted.printed));
        if ours != theirs {
            wrong.push(format!(
                "{filter} {file}\n  ours     {}\n  fail2ban {}",
                ours.join("\n           "),
                theirs.join("\n           ")
            ));
        }
        let told = test_json(&arguments[..4]);
        let line = format!(
            "Lines: {} lines, {} ignored, {} matched, {} missed",
            told["lines"], told["ignored"], told["matched"], told["missed"]
        );
        if theirs.last() != Some(&line) {
            wrong.push(format!("{filter} {file}\n  JSON     {line}\n  fail2ban {:?}", theirs.last()));
        }
        lines += told["lines"].as_u64().expect("a number");
        matched += told["matched"].as_u64().expect("a number");
        let ours: Vec<_> = told["matches"]
            .as_array()
            .expect("an array")
            .iter()
            .map(|one| {
                let time = one["time"].as_str().map(|time| Time::parse_rfc3339(time).expect("RFC 3339").micros());
                (one["host"].as_str().expect("a host").to_owned(), time, one["user"].as_str().map(str::to_owned))
            })
            .collect();
        #[expect(clippy::cast_possible_truncation, reason = "dates are far from the ends")]
        let theirs: Vec<_> = found
            .found
            .iter()
            .map(|(host, time, user)| (host.clone(), time.map(|time| (time * 1e6).round() as i64), user.clone()))
            .collect();
        failures += ours.len();
        if ours != theirs {
            wrong.push(format!("{filter} {file}\n  ours     {ours:?}\n  fail2ban {theirs:?}"));
        }
    }
    println!("{} filters with their options, {lines} lines, {matched} matched, {failures} failures", cases.len());
    assert!(
        cases.len() > 90 && lines > 2000 && failures > 600,
        "{} cases, {lines} lines, {failures} failures",
        cases.len()
    );
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n\n"));
}

/// With every regex tried, each sample line has the one failure that fail2ban's authors wrote beside it, at its number.
#[test]
fn every_sample_line_has_its_failure_in_json() {
    let mut oracle = Oracle::start();
    let steps = oracle.samples();
    let mut told: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    let (mut wrong, mut lines) = (Vec::new(), 0);
    for step in steps.iter().filter(|step| !step.missing && !step.journal && !step.expect.contains_key("constraint")) {
        let Case { filter, base, file } = Case::of(step);
        let all = told.entry((filter.clone(), base.clone(), file.clone())).or_insert_with(|| {
            let told = test_json(&["--config", &base, &filter, &file, "--check-all-regex"]);
            told["matches"].as_array().expect("an array").clone()
        });
        let found: Vec<_> = all.iter().filter(|one| one["line"] == step.number).collect();
        let expected = step.expect.get("match").and_then(Value::as_bool).unwrap_or(false);
        lines += 1;
        if found.len() != usize::from(expected) {
            wrong.push(format!(
                "{filter} {file}:{}: {} matches, annotated {}",
                step.number,
                found.len(),
                json!(step.expect)
            ));
            continue;
        }
        let Some(found) = found.first() else { continue };
        for key in ["host", "user"] {
            let Some(value) = step.expect.get(key).and_then(Value::as_str) else { continue };
            let written = value.parse::<std::net::IpAddr>().map_or_else(|_| value.to_owned(), |ip| ip.to_string());
            if found[key] != written.as_str() {
                wrong.push(format!("{filter} {file}:{}: {key} {}, annotated {value}", step.number, found[key]));
            }
        }
        if let Some(time) = step.expect.get("time").and_then(Value::as_str) {
            let local = jiff::civil::DateTime::strptime("%Y-%m-%dT%H:%M:%S%.f", time).expect("a date");
            let zone = jiff::tz::TimeZoneDatabase::bundled().get(ZONE).expect("a zone");
            let micros = zone.to_timestamp(local).expect("a time").as_microsecond();
            if found["time"] != Time::from_micros(micros).to_rfc3339() {
                wrong.push(format!("{filter} {file}:{}: time {}, annotated {time}", step.number, found["time"]));
            }
        }
    }
    println!("{lines} lines");
    assert!(lines > 1000, "{lines}");
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// The program itself prints what its Python does: a check of the oracle, and of stopping at the first pattern.
#[test]
fn the_installed_program_prints_the_same() {
    for (filter, log, more) in [
        ("sshd[mode=aggressive]", "sshd", &[][..]),
        ("sshd", "sshd", &["--no-check-all"]),
        ("postfix[mode=extra]", "postfix", &["--maxlines", "3"]),
        ("asterisk", "asterisk", &["--usedns", "no"]),
        ("apache-auth", "apache-auth", &["--raw"]),
        ("recidive", "recidive", &["--datepattern", "%Y-%m-%d %H:%M:%S"]),
        (r"^.*Failed password for .* from <HOST>", "sshd", &[]),
    ] {
        let log = format!("{SAMPLES}/{log}");
        let quiet = ["--print-no-missed", "--print-no-ignored"];
        let output = Command::new(PROGRAM)
            .args(more)
            .args(quiet)
            .args([log.as_str(), filter])
            .env("TZ", ZONE)
            .output()
            .expect("install fail2ban (Debian's package)");
        let printed: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        let arguments: Vec<&str> =
            [filter, log.as_str()].into_iter().chain(more.iter().copied()).chain(quiet).collect();
        let (ours, _) = test(&arguments).unwrap_or_else(|failure| panic!("{filter}: {failure}"));
        assert_eq!(counts(&ours), counts(&printed), "{filter}");
    }
}

const FAILED: &str = "Jun 21 16:47:48 host sshd[7]: Failed password for root from 192.0.2.7 port 2 ssh2";

/// The contract for scripts.
#[test]
fn json_is_one_object_with_a_match_for_each_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("auth.log");
    let missed = FAILED.replace("Failed", "Hum").replace("password", "d\u{202e}é");
    std::fs::write(&log, format!("# a comment\n\n{FAILED}\n{missed}\r\n{FAILED}")).expect("a file");
    let log = log.to_str().expect("UTF-8");
    let failregex = "^ host sshd\\[\\d+\\]: Failed password for <F-USER>\\S+</F-USER> from <HOST>";
    let now = "2026-08-01T00:00:00Z";
    let expected = json!({
        "lines": 2, "matched": 1, "missed": 1, "ignored": 0,
        "matches": [
            { "line": 3, "host": "192.0.2.7", "time": "2026-06-21T14:47:48Z", "user": "root", "regex": 1 },
        ],
    });
    assert_eq!(test_json(&[failregex, log, "--now", now]), expected);
    assert_eq!(
        test_json(&["sshd[mode=normal]", log, "--now", now, "--mode", "aggressive"])["matches"][0]["user"],
        "root"
    );
    // The last line has no end.
    let (_, notes) = test(&[failregex, log, "--now", now]).expect("it runs");
    assert!(notes[0].contains("the last line has no line feed"), "{notes:?}");
    let all = test_json(&[failregex, log, "--now", now, "--check-all-regex"]);
    assert_eq!((&all["lines"], &all["matches"][1]["line"]), (&json!(2), &json!(5)));
    let ignored = test_json(&[failregex, log, " from 192\\.0\\.2\\."]);
    assert_eq!((&ignored["ignored"], &ignored["matches"]), (&json!(1), &json!([])));
    // A line itself; a user with what JSON and terminals do not like.
    let line = FAILED.replace("root", "\"\u{202e}\u{1}😀");
    let (printed, _) = test(&[failregex, &line, "--json"]).expect("it runs");
    let printed = printed.concat();
    assert!(printed.is_ascii() && printed.ends_with('\n') && printed.lines().count() == 1, "{printed}");
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(told["matches"][0]["user"], "\"\u{202e}\u{1}😀");
    // A name is not looked up; as it is written, it matches.
    let named = FAILED.replace("192.0.2.7", "evil.example");
    let (printed, notes) = test(&[failregex, &named]).expect("it runs");
    assert!(printed.contains(&"Lines: 1 lines, 0 ignored, 0 matched, 1 missed".to_owned()), "{printed:?}");
    assert!(notes[0].contains("not looked up"), "{notes:?}");
    assert_eq!(test_json(&[failregex, &named, "--raw"])["matches"][0]["host"], "evil.example");
    let all = test_json(&[failregex, &named, "--check-all-regex"]);
    assert_eq!((&all["matched"], &all["matches"][0]["host"]), (&json!(0), &json!("evil.example")));
}

/// A zone changes the instant of a date that names none.
#[test]
fn dates_are_of_the_zone_and_the_year_that_are_given() {
    let command = |arguments: &[&str]| {
        let mut context = AtDoor::new(Arc::new(Nobody), Time::from_secs(STARTED));
        let all: Vec<&str> =
            ["guard", "test", "sshd", FAILED, "--json"].into_iter().chain(arguments.iter().copied()).collect();
        context.run(garant_guard::commands().remove(0), &all).map_err(|failure| failure.to_string())?;
        let told: Value = serde_json::from_str(&context.lines.concat()).expect("JSON");
        Ok::<_, String>(told["matches"][0]["time"].as_str().unwrap_or_default().to_owned())
    };
    for (zone, now, time) in [
        ("UTC", "2026-08-01T00:00:00Z", "2026-06-21T16:47:48Z"),
        ("America/New_York", "2026-08-01T00:00:00Z", "2026-06-21T20:47:48Z"),
        ("UTC+0530", "2026-08-01T00:00:00Z", "2026-06-21T11:17:48Z"),
        ("UTC", "2026-06-19T00:00:00+02:00", "2025-06-21T16:47:48Z"),
    ] {
        assert_eq!(command(&["--time-zone", zone, "--now", now]).as_deref(), Ok(time), "{zone} {now}");
    }
    let wrong = command(&["--time-zone", "Mars/Olympus"]).expect_err("no zone");
    assert!(wrong.contains("`Mars/Olympus` is no zone"), "{wrong}");
    let wrong = command(&["--now", "yesterday"]).expect_err("no time");
    assert!(wrong.contains("`yesterday` is no time"), "{wrong}");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("filter.d/broken.conf");
    std::fs::create_dir(folder.path().join("filter.d")).expect("a folder");
    std::fs::write(&broken, "[Definition]\nfailregex = ^a(b <HOST>\n").expect("a file");
    let unreadable = folder.path().join("filter.d/half.conf");
    std::fs::write(&unreadable, "[Definition]\nfailregex = ok <HOST>\nwhat is this\n").expect("a file");
    let here = folder.path().to_str().expect("UTF-8");
    let (broken, half) = (broken.to_str().expect("UTF-8"), unreadable.to_str().expect("UTF-8"));
    for (arguments, what) in [
        (&["sshd", "/nowhere/auth.log"][..], "the log /nowhere/auth.log can't be read: No such file"),
        (&["sshd", here], "is a directory"),
        (&["no-such-filter", FAILED], "there is no filter `no-such-filter`"),
        (&["/nowhere/filter.conf", FAILED], "/nowhere/filter.conf"),
        (&[broken, FAILED], "failregex 1"),
        (&[half, FAILED], "half.conf:3"),
        (&["failed from nobody .*", FAILED], "no group says who it was"),
        (&["sshd", "systemd-journal[what=1]"], "`what` is no option"),
        (&["sshd", "systemd-journal[journalpath=/nowhere/at/all]"], "/nowhere/at/all"),
        (&["sshd", FAILED, "--encoding", "ebcdic"], "`ebcdic` is not read"),
        (&["sshd", FAILED, "--mode", "a]b"], "no name of a mode"),
    ] {
        let failure = test(arguments).expect_err(what);
        let said = format!("{failure} {}", failure.what_to_do().unwrap_or_default());
        assert!(said.contains(what), "{arguments:?}: {said}");
        assert!(failure.what_to_do().is_some(), "{arguments:?}: {failure}");
    }
}

/// A line without an end, a long one, and many: what is kept does not grow with the log.
#[test]
fn a_large_log_is_read_as_a_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("long.log");
    let mut text = vec![b'x'; 3 << 20];
    text.extend_from_slice(format!("\n{FAILED}\n").as_bytes());
    std::fs::write(&log, text).expect("a file");
    let told = test_json(&["sshd", log.to_str().expect("UTF-8")]);
    assert_eq!((&told["lines"], &told["matched"], &told["matches"][0]["line"]), (&json!(2), &json!(1), &json!(2)));
    let (printed, _) = test(&["sshd", log.to_str().expect("UTF-8"), "--print-all-missed"]).expect("it runs");
    assert!(printed[0].starts_with("missed 1: xxx") && printed[0].len() <= (64 << 10) + 16, "{}", printed[0].len());
}

/// The journal is read to its end, with the matches of the filter, or with those that are given.
#[test]
fn the_journal_is_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut remote = Command::new("/usr/lib/systemd/systemd-journal-remote")
        .arg(format!("--output={}", folder.path().join("test.journal").display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install systemd-journal-remote (Debian's package)");
    let mut input = remote.stdin.take().expect("piped");
    for second in 0..3 {
        write!(
            input,
            "__REALTIME_TIMESTAMP={}\n_SYSTEMD_UNIT=ssh.service\n_COMM=sshd\nSYSLOG_IDENTIFIER=sshd\n_PID={second}\n_HOSTNAME=web1\n\
             MESSAGE=Failed password for root from 192.0.2.{second} port 2 ssh2\n\n",
            (1_700_000_000_i64 + second) * 1_000_000
        )
        .expect("written");
    }
    drop(input);
    assert!(remote.wait().expect("it ends").success(), "systemd-journal-remote failed");
    let log = format!("systemd-journal[journalpath={}]", folder.path().display());
    let told = test_json(&["sshd", &log, "--journalmatch", "_COMM=sshd"]);
    assert_eq!((&told["lines"], &told["matched"]), (&json!(3), &json!(3)), "{told}");
    assert_eq!(told["matches"][2]["time"], "2023-11-14T22:13:22Z");
    assert_eq!(test_json(&["sshd", &log, "-m", "_COMM=other"])["lines"], 0);
}

/// A filter of many patterns and a short log: only the patterns that a line needs are compiled.
#[test]
fn a_short_log_is_tested_at_once() {
    let start = Instant::now();
    let (printed, _) = test(&["sshd[mode=aggressive]", FAILED]).expect("it runs");
    let took = start.elapsed();
    println!("{took:?}");
    assert!(printed.iter().any(|line| line.contains("1 matched")), "{printed:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(Path::new(SAMPLES).is_dir());
}
