//! The mutation campaign: every way we could think of to deceive a reader, by attacker, each with what finds it and how
//! it is named. Promises BX-4 (history can't be rewritten unnoticed) and BX-2 (the log shows tampering to an outsider).

mod hostile;
mod with_key;
mod without_key;

use event::evidence::Covered;
use event::journal::{DestructionIntended, KeyAnnounced};
use event::policy::{Applied, Text};
use event::promise::{Figure, Outcome, Unit, Verdict};
use event::{Family, Interval, Kind, Retention, Span};

use super::*;
use crate::testing::{Files, Log, TEAM_NOTE, test_key};

const ORIGIN: &str = "shop.example/1";
const MINUTE: Span = Span::from_secs(60);

fn applied(revision: &str) -> Applied {
    let service = event::policy::Service { id: "shop".parse().expect("a name"), title: Text::default() };
    let coverage = r#"{"objective":"coverage","service":"shop","at_least":1000000000,"over":86400000000}"#;
    let coverage: event::policy::Clause = serde_json::from_str(coverage).expect("JSON");
    let promise = event::policy::Promise {
        id: "AV-1".parse().expect("a name"),
        revision: "0123456789abcdef".to_owned(),
        text: Text::default(),
        objectives: vec![coverage; 2],
    };
    Applied {
        revision: revision.to_owned(),
        services: vec![service],
        probes: vec![],
        findings: vec![],
        maintenance: vec![],
        promises: vec![promise],
    }
}

fn verdict(log: &Log, outcome: Outcome) -> Verdict {
    Verdict {
        promise: "AV-1".parse().expect("a name"),
        revision: "0123456789abcdef".to_owned(),
        objective: 0,
        evaluator: 1,
        tree_size: log.entries.len() as u64,
        at: log.now,
        window: Interval::new(log.now - MINUTE, log.now),
        outcome,
        figure: Some(Figure { unit: Unit::Ppb, low: 1, high: 2, target: 3 }),
        reasons: vec![],
        evidence: vec![],
    }
}

fn grow(log: &mut Log, minutes: usize) {
    for _ in 0..minutes {
        let from = log.now;
        log.advance(MINUTE);
        log.append(&Covered {
            interval: Interval::new(from, log.now),
            revision: "a".to_owned(),
            every: None,
            gaps: vec![],
        });
        log.append_text(TEAM_NOTE.name, 1, &TEAM_NOTE.coarse(), r#"{"secret":"10.1.2.3"}"#);
    }
}

/// Entry 1 is the policy, 202 and 403 are verdicts, every other one is for the team; 604 entries in three bundles.
fn log() -> Log {
    let mut log = Log::new(ORIGIN, 1);
    log.append(&applied("a"));
    grow(&mut log, 100);
    let broken = verdict(&log, Outcome::Broken);
    log.append(&broken);
    grow(&mut log, 100);
    let kept = verdict(&log, Outcome::Kept);
    log.append(&kept);
    grow(&mut log, 100);
    log
}

fn pinned(log: &Log) -> Trust {
    Trust { vkey: Some(log.keys[0].vkey()), ..Trust::default() }
}

fn run(files: &Files, trust: &Trust) -> Result<Report, AuditError> {
    audit(files, trust, &mut |_| (), &mut |_, _| ())
}

/// The audit must fail with this meaning, and its message must hold these words.
fn found(what: &str, files: &Files, trust: &Trust, meaning: Meaning, words: &[&str]) {
    let error = run(files, trust).expect_err(what);
    let message = error.to_string();
    assert_eq!(error.meaning(), meaning, "{what}: {message}");
    for word in words {
        assert!(message.contains(word), "{what}: `{word}` is not in: {message}");
    }
}

#[test]
fn an_honest_log_verifies() {
    let log = log();
    let files = log.export();
    let (mut entries, mut steps) = (Vec::new(), Vec::new());
    let report =
        audit(&files, &pinned(&log), &mut |entry| entries.push(entry), &mut |done, all| steps.push((done, all)));
    let report = report.expect("honest");
    assert_eq!(report.authenticity, Authenticity::Authenticated);
    assert_eq!((report.size, report.root), (604, log.head(604).root));
    assert_eq!((report.disclosed, report.withheld, report.destroyed), (304, 300, 0));
    assert_eq!((report.verdicts, report.continues), (1, None), "the latest verdict of the one objective");
    assert_eq!(report.newest, Some(log.now));
    assert_eq!(report.remarks, Vec::<String>::new());
    assert_eq!(steps, [(256, 604), (512, 604), (604, 604)]);
    assert!(entries.iter().zip(0..).all(|(entry, n)| entry.sequence == n && entry.leaf.sequence == n));
    assert!(entries.iter().all(|entry| entry.envelope.is_some() == entry.leaf.is_public()));
    assert!(
        !files.0.values().any(|bytes| bytes.windows(8).any(|w| w == b"10.1.2.3")),
        "nothing of the team is exported"
    );
}

#[test]
fn every_size_verifies() {
    let mut log = Log::new(ORIGIN, 1);
    for size in 1..=530 {
        if size < 20 || (250..262).contains(&size) || size > 510 {
            let report = run(&log.export(), &pinned(&log)).expect("honest");
            assert_eq!(report.size, size);
        }
        log.append_text("future.kind", 1, "future.kind", "{}");
    }
}

#[test]
fn the_key_decides_what_a_report_is_worth() {
    let log = log();
    let files = log.export();
    assert_eq!(run(&files, &Trust::default()).map(|r| r.authenticity), Ok(Authenticity::SelfConsistent));
    let fingerprints = vec![log.keys[0].vkey().fingerprint()];
    let by_fingerprint = Trust { fingerprints, ..Trust::default() };
    assert_eq!(run(&files, &by_fingerprint).map(|r| r.authenticity), Ok(Authenticity::Authenticated));
    let by_policy = Trust { policy: Some(log.tlog_policy()), ..Trust::default() };
    assert_eq!(run(&files, &by_policy).map(|r| r.authenticity), Ok(Authenticity::Authenticated));
    // A whole other log of the same name, with its own key beside it.
    let forger = Log { keys: vec![test_key(66, ORIGIN)], ..log.clone() };
    let words = ["checkpoint", "it is another log, or somebody else's"];
    let mut own = Log::new(ORIGIN, 66);
    grow(&mut own, 3);
    for trust in [pinned(&log), by_fingerprint, by_policy] {
        found("another key, told in its log", &own.export(), &trust, Meaning::OtherKey, &words);
        found("another key", &forger.export(), &trust, Meaning::OtherKey, &["vkey"]);
    }
    found("a key that the log does not know", &forger.export(), &Trust::default(), Meaning::OtherKey, &["vkey"]);
    assert_eq!(run(&own.export(), &Trust::default()).map(|r| r.authenticity), Ok(Authenticity::SelfConsistent));
    let other_origin = Trust { vkey: Some(test_key(1, "other.example/1").vkey()), ..Trust::default() };
    found("another origin", &files, &other_origin, Meaning::OtherKey, &["`shop.example/1`, not `other.example/1`"]);
}

#[test]
fn unknown_kinds_are_kept() {
    let mut log = log();
    log.append_text("guard.banned", 1, "guard.banned", r#"{"new":true}"#);
    log.append_text("guard.banned", 1, "guard.banned", r#"{"new":true}"#);
    log.append_text("evidence.covered", 9, "evidence.covered", r#"{"shape":"of the future"}"#);
    log.append_text("guard.secret", 1, "team:future-family", "{}");
    let report = run(&log.export(), &pinned(&log)).expect("never fatal");
    let unknown: Vec<_> = report.unknown_kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(unknown, [("evidence.covered", 1), ("guard.banned", 2)]);
}

/// What an engine tells the team is in its family, as far as the reader knows the kind.
#[test]
fn a_known_team_kind_is_in_its_family() {
    let kind = Kind::team("guard.secret", Family::Security);
    for (coarse, is_known, holds) in [
        ("team:security", true, true),
        ("team:debugging", true, false),
        ("guard.secret", true, false),
        ("team:debugging", false, true),
        ("guard.secret", false, true),
    ] {
        let mut log = log();
        let sequence = log.append_text("guard.secret", 1, coarse, "{}");
        let team_kinds = if is_known { vec![kind] } else { vec![] };
        let report = run(&log.export_for_the_team(), &Trust { team_kinds, ..pinned(&log) });
        let what = format!("{coarse}, known: {is_known}");
        match report {
            Ok(report) => {
                assert!(holds, "{what}");
                assert_eq!(report.unknown_kinds.len(), usize::from(coarse == "guard.secret"), "{what}");
            }
            Err(error) => {
                assert!(!holds, "{what}: {error}");
                let text = error.to_string();
                assert!(text.contains(&format!("entry {sequence}")) && text.contains("team:security"), "{text}");
            }
        }
    }
    let mut log = log();
    log.append_text("guard.secret", 2, "team:security", "{}");
    let report = run(&log.export_for_the_team(), &Trust { team_kinds: vec![kind], ..pinned(&log) });
    assert_eq!(report.expect("never fatal").unknown_kinds.len(), 1, "a later version");
}

/// Retention: what is destroyed and said to be is no fault; the tree does not notice.
#[test]
fn destruction_is_provable() {
    let mut log = log();
    let (root_before, first_day) = (log.head(604).root, Log::new(ORIGIN, 1).now.day());
    log.advance(Span::from_days(400));
    log.destroy(Retention::Audit, first_day);
    log.destroy(Retention::Evidence, first_day);
    let report = run(&log.export(), &pinned(&log)).expect("destroyed as the log says");
    assert_eq!(log.head(604).root, root_before);
    assert_eq!(report.destroyed, 60, "up to midnight: the policy and one at each of 59 minutes; not the opening");
    assert_eq!(report.destroyed_days.len(), 2);
    assert_eq!(report.destroyed_days[1].day, first_day);
    // The word of a destruction outlives the retention of what it is about.
    let day_of_word = log.now.day();
    for later in [first_day.days() + 1, day_of_word.days()] {
        log.advance(Span::from_days(400));
        log.destroy(Retention::Evidence, event::Day::from_days(later));
    }
    let report = run(&log.export(), &pinned(&log)).expect("destroyed day by day");
    assert_eq!(report.destroyed_days.len(), 4, "each destruction is still told");
}

/// A copy made while a day is being destroyed: some payloads are gone, and only the announcement is there.
#[test]
fn an_announced_destruction_covers_what_is_gone() {
    let first_day = Log::new(ORIGIN, 1).now.day();
    let mut log = log();
    log.advance(Span::from_days(400));
    let announced = |entries| DestructionIntended { class: "evidence".to_owned(), day: first_day, entries };
    let mut before = log.clone();
    let sequence = log.append(&announced(60));
    assert_eq!(run(&log.export(), &pinned(&log)).expect("not begun").remarks, Vec::<String>::new());
    log.entries[10].payload = None;
    let report = run(&log.export(), &pinned(&log)).expect("begun");
    assert_eq!((report.destroyed, report.destroyed_days.len()), (1, 0));
    assert!(report.remarks[0].contains(&format!("entry {sequence} only announces")), "{:?}", report.remarks);
    assert_eq!(log.forget(Retention::Evidence, first_day), 59);
    assert_eq!(run(&log.export(), &pinned(&log)).map(|report| report.destroyed), Ok(60));
    log.append(&event::journal::Destroyed { class: "evidence".into(), day: first_day, entries: 60 });
    let report = run(&log.export(), &pinned(&log)).expect("done");
    assert_eq!((report.destroyed, report.remarks), (60, vec![]));
    // A clock that was set back writes to that day again, and the day is destroyed again.
    log.append(&announced(1));
    assert!(run(&log.export(), &pinned(&log)).is_ok());

    // Nothing covers more than it says, nor another day.
    before.append(&announced(1));
    before.entries[10].payload = None;
    before.entries[12].payload = None;
    let altered = Meaning::AlteredWithoutKey;
    found("beyond", &before.export(), &pinned(&before), altered, &["2 public entries", "1 were destroyed"]);
}

/// The key of a day opens all payloads or none: some gone and some shown is worth a remark.
#[test]
fn a_day_destroyed_in_part_is_remarked_upon() {
    let mut log = log();
    let day = log.envelope(353).expect("there").recorded_at.day();
    log.entries[353].payload = None;
    log.append(&event::journal::Destroyed { class: "evidence".into(), day, entries: 1 });
    let report = run(&log.export(), &pinned(&log)).expect("covered");
    assert!(report.remarks[0].contains("may have been picked"), "{:?}", report.remarks);
}

/// Everything that can be destroyed, by day and in order of age, as retention does it.
fn destroy_all(log: &mut Log) {
    log.advance(Span::from_days(2000));
    let days: std::collections::BTreeSet<_> =
        log.entries.iter().map(|entry| event::Day::of_hour(entry.leaf.hour)).collect();
    for day in days {
        for class in [Retention::Audit, Retention::Evidence] {
            log.destroy(class, day);
        }
    }
}

/// Its keys, its clock and its destructions are what the log can be checked by: they are kept as long as the log.
#[test]
fn what_the_log_says_of_itself_outlives_retention() {
    // A reader who pinned the old key follows the announcement, and a genuine checkpoint of the old key is still one.
    let (during, mut after) = rotated();
    destroy_all(&mut after);
    let old = Trust { vkey: Some(test_key(1, ORIGIN).vkey()), ..Trust::default() };
    let new = Trust { vkey: Some(test_key(2, ORIGIN).vkey()), ..Trust::default() };
    let since = Trust { since: Some(log().checkpoint(604)), ..new };
    for trust in [&old, &since] {
        let report = run(&after.export(), trust).expect("rotated as announced");
        assert_eq!(report.authenticity, Authenticity::Authenticated);
        assert!(report.destroyed > 300, "{}", report.destroyed);
    }
    // The retired key stays retired.
    let thief = Log { keys: vec![test_key(1, ORIGIN)], ..after.clone() };
    found("retired", &thief.export(), &old, Meaning::OtherKey, &["only by", "entry 615"]);

    // A clock that was set back, and said so.
    let mut stepped = log();
    let before = stepped.now;
    stepped.advance(Span::from_secs(-3600));
    stepped.append(&event::engine::ClockStepped { from: before, to: stepped.now });
    grow(&mut stepped, 200);
    destroy_all(&mut stepped);
    let report = run(&stepped.export(), &pinned(&stepped)).expect("an honest step");
    assert_eq!(report.remarks, Vec::<String>::new());

    // So no such entry is ever destroyed: without its payload it is hidden, whatever a destruction says.
    let places = [0, 604, 615, during.entries.len()];
    for sequence in places {
        let mut hidden = after.clone();
        let day = event::Day::of_hour(hidden.entries[sequence].leaf.hour);
        hidden.entries[sequence].payload = None;
        for class in ["evidence", "permanent"] {
            hidden.append(&event::journal::Destroyed { class: class.into(), day, entries: 9999 });
        }
        let what = format!("entry {sequence}, ");
        found(&what, &hidden.export(), &Trust::default(), Meaning::AlteredWithoutKey, &["journal.", "not disclosed"]);
    }
}

#[test]
fn clocks_may_be_set_back_when_the_log_says_so() {
    let mut log = log();
    let before = log.now;
    log.advance(Span::from_secs(-3600));
    log.append(&event::engine::ClockStepped { from: before, to: log.now });
    grow(&mut log, 200);
    assert!(run(&log.export(), &pinned(&log)).is_ok());
    log.advance(Span::from_secs(-3600));
    grow(&mut log, 1);
    let report = run(&log.export(), &pinned(&log)).expect("too recent to be held against it");
    assert!(report.remarks[0].contains("goes back"), "{:?}", report.remarks);
}

fn rotated() -> (Log, Log) {
    let mut log = log();
    let (old, new) = (log.keys[0].clone(), test_key(2, ORIGIN));
    log.append(&KeyAnnounced { vkey: new.vkey().to_string(), replaces: old.vkey().to_string() });
    log.keys = vec![old.clone(), new.clone()];
    grow(&mut log, 5);
    log.rotations.push(log.checkpoint(log.entries.len()));
    let during = log.clone();
    log.append(&event::journal::KeyRetired { vkey: old.vkey().to_string() });
    log.keys = vec![new];
    grow(&mut log, 5);
    (during, log)
}

/// A reader who pinned the first key follows the log to the second.
#[test]
fn a_rotated_key_is_followed() {
    let (during, after) = rotated();
    let old = Trust { vkey: Some(test_key(1, ORIGIN).vkey()), ..Trust::default() };
    let new = Trust { vkey: Some(test_key(2, ORIGIN).vkey()), ..Trust::default() };
    for (log, trust) in [(&during, &old), (&during, &new), (&after, &old), (&after, &new)] {
        let report = run(&log.export(), trust).expect("rotated as announced");
        assert_eq!(report.authenticity, Authenticity::Authenticated);
    }
    assert_eq!(run(&during.export(), &old).map(|report| report.signed_by.len()), Ok(2));
    // A checkpoint remembered from before the rotation is still good.
    let since = Trust { since: Some(log().checkpoint(604)), ..new.clone() };
    assert_eq!(run(&after.export(), &since).map(|report| report.continues), Ok(Some(604)));
    // Twice.
    let mut twice = after.clone();
    let third = test_key(3, ORIGIN);
    twice.append(&KeyAnnounced { vkey: third.vkey().to_string(), replaces: twice.keys[0].vkey().to_string() });
    twice.keys.push(third);
    twice.rotations.push(twice.checkpoint(twice.entries.len()));
    twice.keys.remove(0);
    grow(&mut twice, 2);
    assert!(run(&twice.export(), &old).is_ok());
}

#[test]
fn a_key_without_announcement_is_not_followed() {
    let (during, after) = rotated();
    let old = Trust { vkey: Some(test_key(1, ORIGIN).vkey()), ..Trust::default() };
    let mut silent = after.export();
    silent.0.remove("rotations");
    let altered = Meaning::AlteredWithoutKey;
    for trust in [&old, &Trust { vkey: Some(test_key(2, ORIGIN).vkey()), ..Trust::default() }] {
        found("rotations left out", &silent, trust, altered, &["rotations", "both keys of entry 604"]);
    }
    let by_old_alone = Log { keys: vec![test_key(1, ORIGIN)], ..during.clone() };
    let new_alone = Log { keys: vec![test_key(2, ORIGIN)], ..during.clone() };
    for (what, signed_by) in [("not by the new key", &by_old_alone), ("not by the old key", &new_alone)] {
        let mut files = after.export();
        files.0.insert("rotations".to_owned(), signed_by.checkpoint(during.entries.len()).into_bytes());
        found(what, &files, &old, altered, &["rotations", "not signed by both keys"]);
    }
    let mut early = after.export();
    early.0.insert("rotations".to_owned(), during.checkpoint(604).into_bytes());
    found("signed before the announcement", &early, &old, altered, &["rotations", "not signed by both keys"]);
    let mut broken = after.export();
    let note = during.checkpoint(during.entries.len());
    broken.0.insert("rotations".to_owned(), note.replacen("shop.example/1\n", "shop.example/2\n", 1).into_bytes());
    found("of another log", &broken, &old, Meaning::OtherKey, &["rotations", "shop.example/2"]);
    // A thief of the retired key signs on with it.
    let thief = Log { keys: vec![test_key(1, ORIGIN)], ..after };
    found("retired", &thief.export(), &old, Meaning::OtherKey, &["only by", "entry 615"]);
}

/// What a log says of itself holds together, or it is refused.
#[test]
fn a_log_that_contradicts_itself_is_refused() {
    let vkey = |seed: u8| test_key(seed, ORIGIN).vkey().to_string();
    let announced = |new: u8, old: u8| KeyAnnounced { vkey: vkey(new), replaces: vkey(old) };
    let refused = |what: &str, log: &Log, words: &[&str]| {
        found(what, &log.export(), &Trust::default(), Meaning::RewrittenByKeyHolder, words);
    };
    let with = |change: &dyn Fn(&mut Log)| {
        let mut log = log();
        change(&mut log);
        log
    };
    let mut not_opened = Log { entries: Vec::new(), ..log() };
    not_opened.append(&applied("a"));
    refused("not opened", &not_opened, &["entry 0", "begins with `journal.opened`"]);
    let mut foreign = Log { entries: Vec::new(), ..log() };
    foreign.append(&event::journal::Opened { origin: "other.example/1".to_owned(), vkey: vkey(1) });
    refused("another origin", &foreign, &["entry 0", "other.example/1"]);
    let mut foreign = Log { entries: Vec::new(), ..log() };
    let other = test_key(1, "other.example/1").vkey().to_string();
    foreign.append(&event::journal::Opened { origin: ORIGIN.to_owned(), vkey: other });
    refused("another key", &foreign, &["entry 0", "no key of the log"]);

    let never_used = with(&|log| {
        log.append(&announced(2, 3));
    });
    refused("an unknown key is replaced", &never_used, &["entry 604", "in use"]);
    let known = with(&|log| {
        log.append(&announced(1, 1));
    });
    refused("a key is not new", &known, &["entry 604", "must be new"]);
    let (_, retired) = rotated();
    let mut again = retired.clone();
    again.append(&announced(3, 1));
    refused("a retired key is replaced", &again, &["in use"]);
    let mut twice = retired;
    twice.append(&event::journal::KeyRetired { vkey: vkey(1) });
    refused("retired twice", &twice, &["not in use"]);
    let last = with(&|log| {
        log.append(&event::journal::KeyRetired { vkey: vkey(1) });
    });
    refused("the last key is retired", &last, &["no key was announced"]);
    let unreadable = with(&|log| {
        log.append_text("journal.destroyed", 1, "journal.destroyed", "{}");
    });
    refused("no body", &unreadable, &["entry 604", "can't be read"]);
}

/// A log that continues another says so in its second entry; a checkpoint of the other is compared with nothing.
#[test]
fn a_log_that_continues_another_accuses_nobody() {
    let old = log();
    let continued = || event::journal::Continued {
        old_origin: ORIGIN.to_owned(),
        old_checkpoint: old.checkpoint(604),
        old_size_at_hand: 604,
        reason: "the disk is lost".to_owned(),
    };
    let mut new = Log::new("shop.example/2", 5);
    new.append(&continued());
    grow(&mut new, 3);
    assert!(run(&new.export(), &pinned(&new)).is_ok());
    let since = Trust { since: Some(old.checkpoint(300)), ..pinned(&new) };
    found("the log before", &new.export(), &since, Meaning::NotCompared, &["`shop.example/1`", "continues"]);
    let stranger = Log::new("stranger.example/1", 6);
    let since = Trust { since: Some(stranger.checkpoint(1)), ..pinned(&new) };
    found("of a stranger", &new.export(), &since, Meaning::OtherKey, &["stranger.example/1"]);

    let altered = Meaning::RewrittenByKeyHolder;
    new.append(&continued());
    found("in mid-log", &new.export(), &pinned(&new), altered, &["its second entry or nowhere"]);
    for (origin, cited) in
        [("shop.example/2", old.checkpoint(3)), ("shop.example/0", old.checkpoint(3)), (ORIGIN, String::new())]
    {
        let mut new = Log::new("shop.example/2", 5);
        let (old_origin, old_checkpoint) = (origin.to_owned(), cited);
        new.append(&event::journal::Continued { old_origin, old_checkpoint, ..continued() });
        found("cites another", &new.export(), &pinned(&new), altered, &["entry 1"]);
    }
}

/// A proof carries its whole entry.
#[test]
fn a_proof_without_its_entry_is_refused() {
    let log = log();
    let honest = log.export();
    let path = "proof/403.tlog-proof";
    let proof = std::str::from_utf8(&honest.0[path]).expect("text");
    let whole = crate::tlog_proof::TlogProof::parse(proof).expect("a proof");
    let leaf = log.entries[403].leaf.encode();
    for proof in [
        crate::tlog_proof::TlogProof { extra: None, ..whole.clone() },
        whole.clone().with_evidence(&leaf, None),
        crate::tlog_proof::TlogProof { extra: Some(b"x\n".to_vec()), ..whole },
    ] {
        let mut files = honest.clone();
        files.0.insert(path.to_owned(), proof.to_text().into_bytes());
        found("less", &files, &pinned(&log), Meaning::AlteredWithoutKey, &[path]);
    }
}

/// A thief of the retired key goes on from before its end: who still pins that key is told what can be told.
#[test]
fn a_head_by_the_old_key_alone_is_remarked_upon() {
    let (during, after) = rotated();
    let old = Trust { vkey: Some(test_key(1, ORIGIN).vkey()), ..Trust::default() };
    let mut thief = Log { keys: vec![test_key(1, ORIGIN)], ..during.clone() };
    grow(&mut thief, 3);
    let report = run(&thief.export(), &old).expect("nothing in the files shows it");
    assert!(report.remarks[0].contains("entry 604 announces"), "{:?}", report.remarks);
    // From before the announcement there is nothing to be seen, but by who remembers a checkpoint.
    let mut earlier = log();
    grow(&mut earlier, 3);
    assert_eq!(run(&earlier.export(), &old).map(|report| report.remarks), Ok(vec![]));
    let since = Trust { since: Some(after.checkpoint(after.entries.len())), ..old.clone() };
    for log in [&thief, &earlier] {
        assert!(run(&log.export(), &since).is_err());
    }
    for log in [&during, &after] {
        assert_eq!(run(&log.export(), &old).map(|report| report.remarks), Ok(vec![]));
    }
}

/// What the log proposes as trust policy is not signed. One that can't be read is no fault of the log.
#[test]
fn a_proposed_policy_that_is_none_counts_for_nothing() {
    let log = log();
    for bytes in [&b"quorum all\n"[..], b"\xff", b"witness w x+00000000+BgAA\nquorum w\n"] {
        let mut files = log.export();
        files.0.insert("tlog-policy".to_owned(), bytes.to_vec());
        let report = run(&files, &pinned(&log)).expect("it holds");
        assert!(report.remarks[0].contains("tlog-policy"), "{:?}", report.remarks);
    }
}

#[test]
fn witnesses_are_counted_by_the_readers_policy() {
    let mut log = log();
    log.witnesses = vec![test_key(10, "w0.example"), test_key(11, "w1.example")];
    let policy = log.tlog_policy();
    let files = log.export();
    let trust = Trust { policy: Some(policy), ..Trust::default() };
    let report = run(&files, &trust).expect("both cosigned");
    assert!(report.cosigned_by.len() == 2 && report.cosigned_by.iter().all(|witness| witness.trusted));
    let report = run(&files, &pinned(&log)).expect("the log's own policy names them");
    assert!(report.cosigned_by.iter().all(|witness| !witness.trusted && witness.at == log.now));
    log.witnesses.pop();
    found("one is not enough", &log.export(), &trust, Meaning::NotWitnessed, &["only w0 cosigned"]);
    log.witnesses.clear();
    found("nobody", &log.export(), &trust, Meaning::NotWitnessed, &["nobody of it cosigned"]);
    // The log of a policy that names other logs only.
    let others = Log { keys: vec![test_key(1, "other.example/1")], ..log.clone() }.tlog_policy();
    found("not of this policy", &files, &Trust { policy: Some(others), ..Trust::default() }, Meaning::OtherKey, &[]);
}

#[test]
fn what_cannot_be_read_is_not_called_altered() {
    struct Broken;
    impl ExportSource for Broken {
        fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
            Err(io::Error::other(format!("no route to {path}")))
        }
    }
    let error = audit(&Broken, &Trust::default(), &mut |_| (), &mut |_, _| ()).expect_err("unreachable");
    assert_eq!(error.meaning(), Meaning::Unread);
    assert!(error.to_string().contains("no route to checkpoint"), "{error}");
    let empty = audit(&Files::default(), &Trust::default(), &mut |_| (), &mut |_, _| ()).expect_err("nothing there");
    assert_eq!(*empty.finding, AuditFault::Missing);
}

#[test]
fn age_is_judged_when_asked() {
    let log = log();
    let files = log.export();
    let at = |later: Span| Trust { at: Some(log.now + later), max_age: Some(Span::from_secs(3600)), ..pinned(&log) };
    assert!(run(&files, &at(Span::from_secs(3600))).is_ok());
    found("old", &files, &at(Span::from_secs(3601)), Meaning::OlderSnapshot, &["2026-11-23T04:00:00Z", "1 h"]);
    assert!(run(&files, &Trust { max_age: None, ..at(Span::from_days(9)) }).is_ok(), "not asked");
    // Dated ahead, it would look fresh when it is old; a little is what clocks are.
    let ahead = at(Span::from_secs(-3600));
    found("ahead", &files, &ahead, Meaning::WrongClock, &["2026-11-23T04:00:00Z", "it is 2026-11-23T03:00:00Z"]);
    assert!(run(&files, &at(Span::from_secs(-600))).is_ok());
    let report = run(&files, &Trust { max_age: None, ..ahead }).expect("not asked");
    assert!(report.remarks[0].contains("after now"), "{:?}", report.remarks);
}

/// When the last policy is destroyed, nothing that lies beside the log can stand for it.
#[test]
fn a_destroyed_policy_is_not_made_up() {
    let mut log = log();
    let honest = log.export();
    let day = event::Day::of_hour(log.entries[1].leaf.hour);
    log.entries[1].payload = None;
    log.append(&event::journal::Destroyed { class: "evidence".into(), day, entries: 1 });
    let files = log.export();
    assert_eq!((files.0.get("policy.json"), &files.0["verdicts.json"][..]), (None, &b"[]"[..]));
    assert!(run(&files, &pinned(&log)).is_ok());
    let altered = Meaning::AlteredWithoutKey;
    for made_up in [&honest.0["policy.json"][..], b"{}"] {
        let mut files = files.clone();
        files.0.insert("policy.json".to_owned(), made_up.to_vec());
        found("made up", &files, &pinned(&log), altered, &["policy.json", "destroyed"]);
    }
    let mut files = files.clone();
    for path in ["verdicts.json", "proof/403.tlog-proof"] {
        files.0.insert(path.to_owned(), honest.0[path].clone());
    }
    found("a verdict on nothing", &files, &pinned(&log), altered, &["verdicts.json, entry 403", "not the latest"]);
}

/// What a later release writes is not judged by an earlier one.
#[test]
fn a_list_of_a_later_version_is_no_fault() {
    let mut log = log();
    log.append_text("promise.verdict", 9, "promise.verdict", r#"{"shape":"of the future"}"#);
    let report = run(&log.export(), &pinned(&log)).expect("never fatal");
    assert!(report.remarks[0].contains("later version"), "{:?}", report.remarks);
}
