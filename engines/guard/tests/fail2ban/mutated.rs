//! Sample lines, changed at random and given to both.
//!
//! Settings, zones, date patterns and numbers of lines are drawn too. `GARANT_SEED` is the seed, `GARANT_LINES` the number of lines (20,000 when it is not set).

use std::collections::BTreeMap;
use std::net::IpAddr;

use drawn::Draws;
use event::{Time, Zone};
use garant_guard::fail2ban::UseDns;
use garant_guard::fail2ban::filter::FilterSettings;
use serde_json::{Value, json};

use crate::beside::{FIND_TIME, Known, compile, difference, sample_settings, told};
use crate::oracle::{Oracle, Step, TEST_NOW};

/// How many lines one filter sees, one after the other.
const STRETCH: usize = 148;

/// Texts that pull at what patterns and addresses are made of.
const PIECES: &[&str] = &[
    "1.2.3.4",
    "192.0.2.255",
    "256.1.1.1",
    "::1",
    "2001:db8::1",
    "::ffff:192.0.2.7",
    "[2001:db8::7]",
    "[192.0.2.1]",
    "1:2:3:4:5:6:7:8",
    "1::2::3",
    "::",
    "example.com",
    "host.invalid",
    "known.example",
    "192.0.2.0/24",
    "2001:db8::/32",
    "01.02.03.04",
    "192.0.2.1:22",
    "rhost=",
    "user=",
    " from ",
    " port 22",
    "root",
    "admin",
    "\"",
    "'",
    "<",
    ">",
    "[",
    "]",
    "(",
    ")",
    ":",
    ": ",
    "  ",
    " ",
    "\t",
    "-",
    "--",
    "_",
    ".",
    "..",
    "\\",
    "/",
    "%",
    "@",
    "=",
    ",",
    ";",
    "#",
    "$",
    "^",
    "|",
    "é",
    "ß",
    "ſ",
    "K",
    "İ",
    "ı",
    "\u{a0}",
    "\u{2003}",
    "\u{85}",
    "\u{2028}",
    "\u{fffd}",
    "日本",
    "²",
    "½",
    "٣",
    "\u{301}",
    "\r",
    "\u{1c}",
    "\u{b}",
    "\u{0}",
    "\u{7f}",
    "😀",
    "0",
    "1",
    "99999999999",
    "a",
    "Z",
    "failed",
    "Failed",
    "error",
    "ssh2",
    "[preauth]",
    "invalid user ",
    "Accepted",
    "Disconnected",
    "Connection closed",
    "sshd[1]:",
    "/32",
    "/0",
    "/129",
];

/// What a jail may find dates by.
const DATE_PATTERNS: &[&str] = &[
    "{DEFAULT}",
    "{^LN-BEG}",
    "{NONE}",
    "%b %d %H:%M:%S",
    "{^LN-BEG}%b %d %H:%M:%S\n{DEFAULT}",
    "^[^\\[]*\\[({DATE})\n{^LN-BEG}",
    "^(?:\\S+ )?{DATE}",
    "%Y-%m-%d %H:%M:%S\n%d/%b/%Y:%H:%M:%S %z\n%b %d %H:%M:%S",
    "EPOCH\n%H:%M",
];

/// A line, changed in a few places.
pub(crate) fn mutated(draws: &mut Draws, line: &str, other: &str) -> String {
    let mut text: Vec<char> = line.chars().collect();
    for _ in 0..draws.below(4_usize) {
        let at = draws.below(text.len() + 1);
        let end = (at + draws.below(12_usize)).min(text.len());
        match draws.below(9_u8) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, draws.pick(PIECES).chars())),
            2 => drop(text.splice(at..end, draws.pick(PIECES).chars())),
            3 => {
                let piece: Vec<_> = text[at..end].to_vec();
                let times = draws.below(4_usize);
                drop(text.splice(at..at, piece.repeat(times)));
            }
            4 => text.truncate(at.max(text.len() / 2)),
            5 => {
                let from: Vec<_> = other.chars().collect();
                let start = draws.below(from.len() + 1);
                drop(text.splice(at..end, from[start..].iter().copied()));
            }
            6 => {
                if let Some(c) = text.get_mut(at) {
                    *c = if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
                }
            }
            7 => {
                if let Some(c) = text.get_mut(at) {
                    *c = char::from(u8::try_from(32 + draws.below(95_u32)).unwrap_or(b' '));
                }
            }
            _ => {
                let there = draws.below(text.len() + 1);
                if at < text.len() && there < text.len() {
                    text.swap(at, there);
                }
            }
        }
    }
    text.retain(|c| *c != '\n');
    if draws.chance(1) {
        let at = draws.below(text.len() + 1);
        text.insert(at, '\n');
    }
    text.into_iter().collect()
}

fn settings(draws: &mut Draws) -> FilterSettings {
    if draws.chance(40) {
        return sample_settings();
    }
    let zone = draws.pick(&["Europe/Zurich", "Europe/Zurich", "UTC", "America/New_York", "Asia/Kolkata"]);
    FilterSettings {
        zone: Zone::named(zone).expect("it is a zone"),
        log_zone: draws.pick(&[None, None, None, Some("UTC+0200"), Some("CET"), Some("-03:30")]).map(str::to_owned),
        use_dns: draws.pick(&[UseDns::Yes, UseDns::Warn, UseDns::No, UseDns::Raw]),
        check_all_regex: draws.chance(20),
        raw_host: draws.chance(20),
        check_find_time: draws.chance(70),
        find_time: FIND_TIME,
        in_operation: draws.chance(70),
        ignore_pending: draws.chance(80),
        ..sample_settings()
    }
}

/// NH-1: lines that were changed at random have the result of the installed fail2ban, over stretches of lines that one filter
/// sees with all its state, under all settings.
#[test]
fn mutated_lines_have_the_result_of_fail2ban() {
    let wanted: usize =
        std::env::var("GARANT_LINES").map_or(20_000, |text| text.parse().expect("GARANT_LINES is a number"));
    let mut draws = Draws::from_environment();
    let mut oracle = Oracle::start();
    let mut groups: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for step in oracle.samples().into_iter().filter(|step| !step.missing) {
        groups.entry(step.filter()).or_default().push(step);
    }
    let groups: Vec<_> = groups.into_values().collect();
    let addresses: [IpAddr; 2] = ["198.51.100.7".parse().unwrap(), "2001:db8::77".parse().unwrap()];
    let names = BTreeMap::from([
        ("known.example".to_owned(), addresses.to_vec()),
        ("example.com".to_owned(), vec![addresses[0]]),
    ]);
    let told_names = json!(names);
    let mut known = Known(names);
    let (mut lines, mut matched, mut wrong, mut limits, mut slow, mut turn) = (0, 0, Vec::new(), 0, 0, 0);
    while lines < wanted {
        // Every filter in turn, so that none is left out by chance.
        let samples = &groups[turn % groups.len()];
        turn += 1;
        let settings = settings(&mut draws);
        let mut definition = oracle.open("mutated", &samples[0], &told(&settings));
        if draws.chance(25) {
            // As a jail may have it.
            definition.maxlines = draws.below(5_u32) + 1;
            if !samples[0].journal && draws.chance(60) {
                definition.datepattern = Some(draws.pick(DATE_PATTERNS).to_owned());
            }
            oracle.define("mutated", &definition, &told(&settings));
        }
        let mut filter = compile(&definition, &settings);
        let mut now = TEST_NOW;
        let mut at = draws.below(samples.len());
        let mut asked = Vec::new();
        for _ in 0..STRETCH {
            // Lines of one connection stand together: most often the next one follows.
            at = if draws.chance(80) { (at + 1) % samples.len() } else { draws.below(samples.len()) };
            let other = draws.pick(samples).line;
            let line = mutated(&mut draws, &samples[at].line, &other);
            asked.push(if samples[at].journal {
                json!({ "cut": ["", "", line], "date": now - draws.below(1200_i64) })
            } else {
                json!({ "line": line })
            });
        }
        for part in asked.chunks(STRETCH / 4) {
            // What is remembered of a connection ages.
            now += draws.below(200_i64);
            let answers = oracle.lines("mutated", now, part, &told_names);
            for (question, theirs) in part.iter().zip(&answers) {
                if theirs.slow {
                    slow += 1;
                    continue;
                }
                let ours = if let Some(date) = question.get("date").and_then(Value::as_i64) {
                    let line = question["cut"][2].as_str().unwrap_or_default();
                    filter.process_dated(line, Time::from_secs(date), Time::from_secs(now), &mut known)
                } else {
                    let line = question["line"].as_str().unwrap_or_default();
                    filter.process_line(line, Time::from_secs(now), &mut known)
                };
                lines += 1;
                matched += usize::from(!theirs.matches.is_empty());
                if let Some(difference) = difference(&ours, theirs) {
                    wrong.push(format!(
                        "{} {:?}, {} lines, dates {:?}\n{settings:?}\n{question}\ncut: {:?}\n{difference}",
                        definition.name, samples[0].options, definition.maxlines, definition.datepattern, theirs.cut
                    ));
                }
            }
        }
        limits += filter.step_limits();
    }
    println!(
        "{lines} lines, {matched} matched, {limits} searches given up, {slow} lines too slow for Python, {} differences",
        wrong.len()
    );
    assert!(matched * 5 > lines, "{matched} of {lines} lines matched: the changes are too many to tell anything");
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n")
    );
}
