//! Times that people read: in the zone of the policy, wherever they are shown; a break in the watch, and a clock that was set
//! back, are said.

use std::ffi::OsStr;
use std::process::Output;

use tempfile::TempDir;

use crate::harness::{Up, eventually, export, faketime, folder_with, garant, get, transcript};

/// A service that is up as long as garant runs: its probe reads this machine.
fn policy(zone: &str) -> String {
    format!(
        "publish = true\n{zone}[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\npublic = \"127.0.0.1:0\"\n\
         url = \"http://127.0.0.1/\"\n[[service]]\nname = \"shop\"\n[[probe.host]]\nname = \"machine\"\nservice = \"shop\"\n\
         every = \"1 s\"\n[[maintenance]]\nservices = [\"shop\"]\nfrom = \"2001-10-28T00:30:00Z\"\nto = \"2001-10-28T01:30:00Z\"\n\
         text.fr = \"Une heure.\"\ntext.en = \"An hour.\"\n[[promise]]\nid = \"AV-1\"\ntext.fr = \"La boutique répond.\"\n\
         text.en = \"The shop answers.\"\navailability = {{ service = \"shop\", at_least = \"99.9 %\", over = \"30 d\" }}\n"
    )
}

fn asked(folder: &TempDir, words: &[&str]) -> Output {
    let data = folder.path().join("data");
    let arguments: Vec<&OsStr> = words.iter().map(OsStr::new).chain([OsStr::new("--data"), data.as_os_str()]).collect();
    garant(&arguments)
}

fn said(folder: &TempDir, words: &[&str]) -> String {
    let output = asked(folder, words);
    assert!(output.status.success(), "{}", transcript(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn status_with(up: &Up, words: &str) -> String {
    // On a busy machine an answer may come too late for the command.
    let status = || Some(asked(&up.folder, &["status"])).filter(|output| output.status.success());
    eventually(words, || String::from_utf8(status()?.stdout).ok().filter(|status| status.contains(words)))
}

/// Whether every time of RFC 3339 in the text has this offset.
fn all_have(text: &str, offset: &str) -> bool {
    let after = |(place, _): (usize, &str)| text.get(place + ":00".len()..).unwrap_or_default();
    let is_time = |place: usize| place >= 13 && text.as_bytes().get(place - 3) == Some(&b'T');
    // The colon before the minutes of a time; its seconds and perhaps a fraction follow.
    let mut times = text.match_indices(':').filter(|(place, _)| is_time(*place)).peekable();
    assert!(times.peek().is_some(), "no time in {text}");
    times.all(|found| {
        after(found)
            .trim_start_matches([':', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
            .starts_with(offset)
    })
}

#[test]
fn every_output_follows_the_zone_of_the_policy() {
    let up = Up::start(&policy("time_zone = \"Asia/Kathmandu\"\n"));
    let status = status_with(&up, "AV-1  The shop answers.");
    assert!(status.contains("; times in Asia/Kathmandu\n") && all_have(&status, "+05:45"), "{status}");
    let trust_page = |path: &str| {
        let url = format!("{}{path}", up.ready["public"].as_str().expect("a public listener"));
        String::from_utf8(get(&url).expect("it is published")).expect("UTF-8")
    };
    assert!(trust_page("en").contains("All times are in Asia/Kathmandu, at present UTC+5:45."), "{}", trust_page("en"));
    let shown = eventually("evidence", || {
        Some(said(&up.folder, &["log", "show", "--kind", "evidence"])).filter(|shown| !shown.is_empty())
    });
    assert!(all_have(&shown, "+05:45"), "{shown}");
    let policy_file = up.path("garant.toml");
    let check = || {
        let checked = garant(&["check".as_ref(), "--policy".as_ref(), policy_file.as_os_str()]);
        (checked.status.code(), transcript(&checked))
    };
    let (code, notes) = check();
    assert!(
        code == Some(0) && notes.contains("from 2001-10-28T06:15:00+05:45 to 2001-10-28T07:15:00+05:45"),
        "{notes}"
    );
    eventually("a line on standard error", || up.errors().contains("a service changed its state").then_some(()));
    assert!(all_have(&up.errors(), "+05:45"), "{}", up.errors());

    // The same instant an hour apart: the clock was set back between the two.
    std::fs::write(&policy_file, policy("time_zone = \"Europe/Paris\"\n")).expect("written");
    let (_, notes) = check();
    assert!(notes.contains("from 2001-10-28T02:30:00+02:00 to 2001-10-28T02:30:00+01:00"), "{notes}");
    said(&up.folder, &["reload"]);
    let status = status_with(&up, "; times in Europe/Paris\n");
    assert!(!status.contains("+05:45"), "{status}");
    assert!(trust_page("fr").contains("Les heures sont celles du fuseau Europe/Paris"), "{}", trust_page("fr"));

    // What programs read is in UTC, and an export does not say where its team lives.
    let json = said(&up.folder, &["status", "--json"]);
    assert!(json.contains("\"time_zone\":\"Europe/Paris\"") && !json.contains("+01:00"), "{json}");
    let to = up.path("export");
    let vkey = export(&up.path("data"), &to);
    let verified = garant(&["verify".as_ref(), to.as_os_str(), "--vkey".as_ref(), vkey.as_ref()]);
    assert!(verified.status.success() && all_have(&transcript(&verified), "Z"), "{}", transcript(&verified));
    let policy = std::fs::read_to_string(to.join("policy.json")).expect("the public part of the policy");
    assert!(!policy.contains("Paris"), "{policy}");

    std::fs::write(&policy_file, policy_with_a_slip()).expect("written");
    let (code, mistakes) = check();
    assert!(code == Some(2) && mistakes.contains("did you mean \"Europe/Paris\"?"), "{mistakes}");
}

fn policy_with_a_slip() -> String {
    policy("time_zone = \"Europe/Pari\"\n")
}

/// A garant whose wall clock is so far from that of the machine.
fn start_at(folder: TempDir, offset: &str) -> Up {
    let library = faketime();
    Up::start_with(
        folder,
        &[
            ("LD_PRELOAD", library.as_os_str()),
            ("FAKETIME", OsStr::new(offset)),
            ("NO_FAKE_STAT", OsStr::new("1")),
            ("DONT_FAKE_MONOTONIC", OsStr::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ],
    )
}

/// Stopped an hour ago: what is up since before was not watched in between.
#[test]
fn a_break_is_said() {
    let up = start_at(folder_with(&policy("")), "-3600");
    status_with(&up, "  up         shop since ");
    let up = Up::start_in(up.stop());
    let status = status_with(&up, ", not watched from ");
    let line = status.lines().find(|line| line.contains("not watched")).expect("the service");
    let times: Vec<&str> = line.split([' ', ',']).filter(|word| word.ends_with('Z')).collect();
    let [since, from, to] = times[..] else { panic!("{line}") };
    assert!(since <= from && from < to, "{line}");
    let trust_page = get(&format!("{}en", up.team)).expect("a page");
    assert!(
        String::from_utf8_lossy(&trust_page).contains("not watched from "),
        "{}",
        String::from_utf8_lossy(&trust_page)
    );
}

/// Set back by an hour while nothing ran: nothing holds since a time to come, and it is said why.
#[test]
fn a_clock_that_was_set_back_is_said() {
    let up = start_at(folder_with(&policy("")), "+3600");
    status_with(&up, "  up         shop since ");
    let up = Up::start_in(up.stop());
    let status = status_with(&up, "behind what was recorded before: it was set back");
    assert!(up.errors().contains("the clock was set back while nothing ran"), "{}", up.errors());
    let json = up.status();
    let (now, since) = (json["at"].as_i64(), json["services"][0]["since"].as_i64());
    assert!(since.is_none_or(|since| Some(since) <= now), "{json}");
    assert!(status.contains("  clock      it stands "), "{status}");
}
