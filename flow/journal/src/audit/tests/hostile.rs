//! Somebody who wants a verifier to fall over: what is found does not matter here, only that something is said.

use drawn::Draws;
use event::journal::{Destroyed, KeyRetired};
use serde_json::Value;

use super::*;
use crate::testing::spoiled;

/// A little of everything that the audit itself reads.
fn small() -> Log {
    let mut log = Log::new(ORIGIN, 1);
    log.witnesses = vec![test_key(10, "w0.example")];
    log.append(&applied("a"));
    grow(&mut log, 2);
    log.append(&event::engine::ClockStepped { from: log.now, to: log.now - MINUTE });
    let kept = verdict(&log, Outcome::Kept);
    log.append(&kept);
    let (old, new) = (log.keys[0].clone(), test_key(2, ORIGIN));
    log.append(&KeyAnnounced { vkey: new.vkey().to_string(), replaces: old.vkey().to_string() });
    log.keys = vec![old.clone(), new.clone()];
    log.rotations.push(log.checkpoint(log.entries.len()));
    log.append(&KeyRetired { vkey: old.vkey().to_string() });
    log.keys = vec![new];
    log.append(&Destroyed { class: "evidence".to_owned(), day: log.now.day(), entries: 3 });
    log.entries[3].payload = None;
    log
}

fn trusts(log: &Log) -> [Trust; 2] {
    let at = Some(log.now);
    let since = Some(log.checkpoint(4));
    let all = Trust { since, at, max_age: Some(MINUTE), policy: Some(log.tlog_policy()), ..pinned(log) };
    [all, Trust { at, ..Trust::default() }]
}

/// Whatever comes of it can be shown.
fn show(files: &Files, trusts: &[Trust]) {
    for trust in trusts {
        match run(files, trust) {
            Ok(report) => drop(format!("{report:?}")),
            Err(error) => drop(error.to_string()),
        }
    }
}

#[test]
fn random_bytes_make_no_audit_fall_over() {
    let log = small();
    let (honest, trusts) = (log.export(), trusts(&log));
    assert!(run(&honest, &trusts[1]).is_ok(), "{:?}", run(&honest, &trusts[1]));
    let paths: Vec<&String> = honest.0.keys().collect();
    let mut draws = Draws::of(7);
    for _ in 0..4000 {
        let mut files = honest.clone();
        for _ in 0..=draws.below(3) {
            let bytes = files.0.get_mut(paths[draws.below(paths.len())]).expect("there");
            let (from, to) = (draws.below(bytes.len()), draws.below(bytes.len()));
            let (from, to) = (from.min(to), from.max(to));
            match draws.below(6) {
                0 => bytes.truncate(from),
                1 => drop(bytes.drain(from..to)),
                2 => drop(bytes.splice(from..from, bytes[from..to].to_vec())),
                3 => drop(bytes.splice(from..to, *b"9223372036854775807")),
                4 => drop(bytes.splice(from..to, *b"-9223372036854775808")),
                _ if from < to => bytes[from] = u8::try_from(draws.below(256)).expect("a byte"),
                _ => {}
            }
        }
        show(&files, &trusts);
    }
}

/// The holder of the key commits to what he wants.
#[test]
fn no_field_at_any_extreme_makes_an_audit_fall_over() {
    let honest = small();
    let mut tried = 0;
    for place in 0..honest.entries.len() {
        let Some(payload) = honest.entries[place].payload.as_deref() else { continue };
        let envelope: Value = serde_json::from_slice(payload).expect("JSON");
        for envelope in spoiled(&envelope) {
            let mut log = honest.clone();
            let entry = &mut log.entries[place];
            let payload = envelope.to_string().into_bytes();
            entry.leaf.commitment = crate::seal::commitment(&entry.salt, &payload);
            let recorded_at = envelope["recorded_at"].as_i64();
            entry.leaf.hour = recorded_at.map_or(entry.leaf.hour, |micros| event::Time::from_micros(micros).hour());
            entry.payload = Some(payload);
            show(&log.export(), &trusts(&honest));
            tried += 1;
        }
    }
    for hour in [i64::MIN, i64::MIN + 1, -10_000_000, 10_000_000, i64::MAX] {
        for place in 0..honest.entries.len() {
            let mut log = honest.clone();
            log.entries[place].leaf.hour = hour;
            for payload in [log.entries[place].payload.clone(), None] {
                log.entries[place].payload = payload;
                show(&log.export(), &trusts(&honest));
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

/// An hour beyond any calendar is no leaf.
#[test]
fn an_hour_at_the_end_of_the_numbers_is_refused() {
    let mut log = small();
    log.entries[3].leaf.hour = i64::MAX;
    found("the hour", &log.export(), &pinned(&log), Meaning::AlteredWithoutKey, &["entry 3", "not a leaf"]);
}

/// Whatever a log says of itself too often has a bound.
#[test]
fn what_a_log_says_too_often_has_a_bound() {
    let mut log = log();
    for _ in 0..150 {
        log.advance(Span::from_days(1));
        let (day, gone) = (log.now.day(), log.append_text("future.kind", 1, "future.kind", "{}"));
        log.append_text("future.kind", 1, "future.kind", "{}");
        log.append(&DestructionIntended { class: "evidence".to_owned(), day, entries: 1 });
        log.entries[usize::try_from(gone).expect("small")].payload = None;
    }
    let report = run(&log.export(), &pinned(&log)).expect("it holds");
    assert_eq!((report.remarks.len(), report.remarks[100].as_str()), (101, "and 50 more remarks"));
    assert_eq!(report.unknown_kinds.get("future.kind"), Some(&150));
    let replaces = test_key(1, ORIGIN).vkey().to_string();
    for number in 0..=256_u16 {
        let seed = [[7; 30].as_slice(), &number.to_be_bytes()].concat().try_into().expect("32 bytes");
        let vkey = crate::note::SigningKey::generate(seed, ORIGIN).expect("a key").vkey().to_string();
        log.append(&KeyAnnounced { vkey, replaces: replaces.clone() });
    }
    found("keys", &log.export(), &pinned(&log), Meaning::AlteredWithoutKey, &["one key more"]);
}

/// The key that a log begins with can't be said anew.
#[test]
fn a_log_is_opened_once() {
    let mut log = log();
    let thief = test_key(66, ORIGIN);
    log.append(&event::journal::Opened { origin: ORIGIN.to_owned(), vkey: thief.vkey().to_string() });
    let trust = pinned(&log);
    log.keys = vec![thief];
    for trust in [trust, Trust::default()] {
        found("opened again", &log.export(), &trust, Meaning::RewrittenByKeyHolder, &["entry 604", "begins with"]);
    }
}
