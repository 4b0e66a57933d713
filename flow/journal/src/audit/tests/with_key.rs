//! Attacker B: holds the key, so that everything verifies. Only what others remember convicts him.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::note::Note;
use crate::tree::prove_consistency;
use crate::witness::{self, WitnessState};

/// Changes the payload of an entry, and its leaf with it.
fn rewrite(log: &mut Log, sequence: usize, change: impl FnOnce(&str) -> String) {
    let entry = &mut log.entries[sequence];
    let payload = String::from_utf8(entry.payload.take().expect("there")).expect("text");
    let changed = change(&payload);
    assert_ne!(payload, changed, "the rewrite changes nothing");
    entry.leaf.commitment = crate::seal::commitment(&entry.salt, changed.as_bytes());
    entry.payload = Some(changed.into_bytes());
}

fn turn_a_verdict(log: &mut Log) {
    rewrite(log, 202, |payload| payload.replace("broken", "kept"));
}

fn take_out_a_verdict(log: &mut Log) {
    let mut again = Log::new(ORIGIN, 1);
    for entry in log.entries.iter().skip(1).filter(|entry| entry.leaf.sequence != 202) {
        let envelope = event::Envelope::decode(entry.payload.as_deref().expect("there")).expect("an envelope");
        again.append_envelope(&entry.leaf.coarse, &envelope);
    }
    again.now = log.now;
    *log = again;
    grow(log, 10);
}

fn back_date(log: &mut Log) {
    let recorded_at = log.envelope(303).expect("there").recorded_at;
    let earlier = (recorded_at - Span::from_secs(1)).micros();
    let (from, to) = (format!("recorded_at\":{}", recorded_at.micros()), format!("recorded_at\":{earlier}"));
    rewrite(log, 303, |payload| payload.replace(&from, &to));
}

fn salt_anew(log: &mut Log) {
    let entry = &mut log.entries[100];
    entry.salt = [0; 32];
    entry.leaf.commitment = crate::seal::commitment(&entry.salt, entry.payload.as_deref().expect("there"));
}

type Rewrite = fn(&mut Log);

/// Each makes another history of the first 604 entries.
const REWRITES: [(&str, Rewrite); 4] = [
    ("a verdict is turned", turn_a_verdict),
    ("a verdict is taken out", take_out_a_verdict),
    ("an entry is back-dated", back_date),
    ("the past is salted anew", salt_anew),
];

#[test]
fn a_rewrite_is_found_by_who_remembers() {
    let honest = log();
    for (what, change) in REWRITES {
        let mut rewritten = honest.clone();
        change(&mut rewritten);
        let files = rewritten.export();
        let alone = run(&files, &pinned(&honest));
        assert!(alone.is_ok(), "{what}: nothing in the files shows it, and docs/log.md says so: {alone:?}");
        let since = Trust { since: Some(honest.checkpoint(604)), ..pinned(&honest) };
        found(what, &files, &since, Meaning::RewrittenByKeyHolder, &["first 604 entries"]);
    }
}

#[test]
fn truncation_is_found_by_who_remembers() {
    let honest = log();
    let mut truncated = honest.clone();
    truncated.entries.truncate(300);
    let since = Trust { since: Some(honest.checkpoint(604)), ..pinned(&honest) };
    assert!(run(&truncated.export(), &pinned(&honest)).is_ok());
    found("truncated", &truncated.export(), &since, Meaning::OlderSnapshot, &["cut off the end"]);
    // And grown again, so that it is not shorter: then it is a fork.
    grow(&mut truncated, 200);
    found("grown again", &truncated.export(), &since, Meaning::RewrittenByKeyHolder, &["first 604 entries"]);
}

/// Two visitors are shown two histories; the one checkpoint that one of them keeps convicts the log for the other.
#[test]
fn a_fork_is_found_by_who_remembers() {
    let mut one = log();
    let mut other = one.clone();
    grow(&mut one, 4);
    let broken = verdict(&other, Outcome::Broken);
    other.append(&broken);
    grow(&mut other, 4);
    for (shown, kept) in [(&one, &other), (&other, &one)] {
        let since = Trust { since: Some(kept.checkpoint(610)), ..pinned(&one) };
        found("forked", &shown.export(), &since, Meaning::RewrittenByKeyHolder, &["first 610 entries"]);
    }
    let before = Trust { since: Some(one.checkpoint(604)), ..pinned(&one) };
    assert!(run(&one.export(), &before).is_ok() && run(&other.export(), &before).is_ok(), "alike until then");
}

/// A clumsy one leaves traces in the log itself.
#[test]
fn contradictions_inside_the_log_are_found() {
    let trust = pinned(&log());
    let altered = Meaning::AlteredWithoutKey;
    let mut backdated = log();
    backdated.advance(Span::from_days(-1));
    grow(&mut backdated, 1);
    backdated.advance(Span::from_days(1));
    grow(&mut backdated, 5);
    found("back-dated", &backdated.export(), &trust, Meaning::RewrittenByKeyHolder, &["entry 604", "goes back"]);

    let mut hour = log();
    hour.entries[303].leaf.hour += 1;
    found("the hour", &hour.export(), &trust, altered, &["entry 303", "hour"]);
    let mut kind = log();
    kind.entries[303].leaf.coarse = "evidence.changed".into();
    found("the kind", &kind.export(), &trust, altered, &["entry 303", "`evidence.changed`"]);
    let mut foreign = log();
    foreign.append_text("a.b", 1, "a.c", "{}");
    found("an unknown kind", &foreign.export(), &trust, altered, &["entry 604", "`a.c` and `a.b`"]);
    let mut no_envelope = log();
    rewrite(&mut no_envelope, 303, |_| "{}".to_owned());
    found("no envelope", &no_envelope.export(), &trust, altered, &["entry 303", "payload"]);

    // Fewer are said to be destroyed than are missing.
    let mut hidden = log();
    let day = hidden.envelope(353).expect("there").recorded_at.day();
    hidden.entries[353].payload = None;
    hidden.entries[355].payload = None;
    hidden.append(&event::journal::Destroyed { class: "evidence".into(), day, entries: 1 });
    found("hidden", &hidden.export(), &trust, altered, &["2 public entries", "1 were destroyed"]);
    // A destruction of another class, or of another day, excuses nothing.
    for (class, day) in [("audit", day), ("evidence", event::Day::from_days(day.days() - 1))] {
        let mut hidden = log();
        hidden.entries[353].payload = None;
        hidden.append(&event::journal::Destroyed { class: class.into(), day, entries: 9 });
        found("hidden", &hidden.export(), &trust, altered, &["entry 353", "no destruction"]);
    }
}

/// An honest witness with one small file.
struct Witness {
    state: WitnessState,
}

impl Witness {
    fn new(log: &Log) -> Self {
        let mut state = WitnessState::default();
        state.trust(log.keys[0].vkey());
        Self { state }
    }

    /// Asks for a cosignature of the log as it is; adds it to the checkpoint.
    fn cosign(&mut self, log: &Log) -> Result<String, witness::Refusal> {
        let size = log.entries.len() as u64;
        let known = self.state.logs[ORIGIN].size;
        let proof = prove_consistency(known, size, &log.tree(log.entries.len())).unwrap_or_default();
        let note = log.checkpoint(log.entries.len());
        let request = witness::encode_request(known.min(size), &proof, &note);
        let answer = witness::add_checkpoint(&mut self.state, &test_key(50, "w.example"), &request, log.now)?;
        Ok(note + &answer)
    }
}

/// It refuses to cosign the second history, so that whoever asks for its cosignature is not deceived.
#[test]
fn a_witness_stops_the_holder_of_the_key() {
    let honest = log();
    let policy = Log { witnesses: vec![test_key(50, "w.example")], ..honest.clone() }.tlog_policy();
    let trust = Trust { policy: Some(policy), ..Trust::default() };
    let mut witness = Witness::new(&honest);
    let cosigned = witness.cosign(&honest).expect("the first history");
    let mut files = honest.export();
    files.0.insert("checkpoint".into(), cosigned.clone().into_bytes());
    assert_eq!(run(&files, &trust).map(|report| report.cosigned_by.len()), Ok(1));

    for (what, change) in REWRITES {
        let mut rewritten = honest.clone();
        change(&mut rewritten);
        grow(&mut rewritten, 30);
        let refusal = witness.cosign(&rewritten).expect_err(what);
        assert_eq!((refusal.status, refusal.fork.is_some()), (422, true), "{what}: {refusal}");
        found(what, &rewritten.export(), &trust, Meaning::NotWitnessed, &["nobody of it cosigned"]);
        // Nor can the cosignature of the honest checkpoint be moved over.
        let mut note = Note::parse(&rewritten.checkpoint(rewritten.entries.len())).expect("a note");
        note.signatures.extend(Note::parse(&cosigned).expect("a note").signatures.pop());
        let mut files = rewritten.export();
        files.0.insert("checkpoint".into(), note.to_string().into_bytes());
        found(what, &files, &trust, Meaning::AlteredWithoutKey, &["cosignature", "does not verify"]);
    }
    let mut truncated = honest.clone();
    truncated.entries.truncate(300);
    assert_eq!(witness.cosign(&truncated).expect_err("shorter").status, 409);
    let mut grown = honest;
    grow(&mut grown, 30);
    assert!(witness.cosign(&grown).is_ok(), "the honest log goes on");
}

/// A checkpoint that the log never had, but its key signed: whoever holds it holds the proof of a fork.
#[test]
fn a_signed_contradiction_is_found() {
    let honest = log();
    let mut other = honest.clone();
    rewrite(&mut other, 202, |payload| payload.replace("broken", "unproven"));
    let mut files = honest.export();
    files.0.insert("proof/403.tlog-proof".into(), other.export().0["proof/403.tlog-proof"].clone());
    found("a proof from a fork", &files, &pinned(&honest), Meaning::RewrittenByKeyHolder, &["proof/403"]);
    let head = Checkpoint { size: 10, ..honest.head(604) };
    let since = Trust { since: Some(head.sign(&[&honest.keys[0]])), ..pinned(&honest) };
    found("a signed lie", &honest.export(), &since, Meaning::RewrittenByKeyHolder, &["first 10 entries"]);
}
