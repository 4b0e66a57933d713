//! A log with journaled verdicts, and everything that somebody with the key might do to it (BX-4).

use event::engine::ClockStepped;
use event::evidence::{Changed, Covered, Found, State};
use event::policy::Clause;
use event::promise::{Outcome, Verdict};
use event::{Body, BootId, Envelope, InstallationId, Observed, Span, Time};

use super::scene::*;
use crate::audit::{NotJudged, Recheck, Rechecked, Standing, VerdictFault};
use crate::objective::{Absence, Objective};
use crate::{EVALUATOR, Judge, due, revision};

const HOUR: i64 = 3600;

#[derive(Default)]
struct Log {
    entries: Vec<Envelope>,
    judge: Judge,
}

fn envelope<B: Body>(recorded_at: i64, body: &B) -> Envelope {
    let at = t(recorded_at);
    let observed = Observed::new(body, name("a"), BootId::from_bytes([0; 16]), 0, at).expect("serialises");
    observed.record(InstallationId::from_bytes([0; 16]), "shop.example/1", at)
}

impl Log {
    fn write<B: Body>(&mut self, recorded_at: i64, body: &B) {
        self.write_by("a", recorded_at, body);
    }

    fn write_by<B: Body>(&mut self, observer: &str, recorded_at: i64, body: &B) {
        let envelope = Envelope { observer: name(observer), ..envelope(recorded_at, body) };
        self.judge.apply(self.entries.len() as u64, &envelope).expect("readable");
        self.entries.push(envelope);
    }

    /// Three days with coverage by the minute, an outage, and the verdicts that are due.
    fn three_days() -> Self {
        let mut log = Self::default();
        let declared = simple(&["a"], availability("99 %", 48 * HOUR));
        log.write(0, &declared);
        let changed = |state, at| Changed { probe: name("http"), service: name(SHOP), state, after: t(at), by: t(at) };
        log.write(0, &changed(State::Up, 0));
        let mut last: Option<Verdict> = None;
        for minute in 1..=72 * 60 {
            let end = minute * 60;
            match end {
                // Half an hour of two days is 98.96 %.
                _ if end == 30 * HOUR => log.write(end, &changed(State::Down, end)),
                _ if end == 30 * HOUR + 1860 => log.write(end, &changed(State::Up, end)),
                _ => {}
            }
            let interval = between(end - 60, end);
            log.write(end, &Covered { interval, revision: declared.revision.clone(), every: None, gaps: vec![] });
            if minute % 10 != 0 {
                continue;
            }
            let fresh = log.judge.verdict(&name("AV-1"), 0, t(end)).expect("declared");
            if due(last.as_ref(), &fresh) {
                if end > 24 * HOUR {
                    // Something that matters is written between the reading and the verdict.
                    log.write(end, &ClockStepped { from: t(end - 1), to: t(end) });
                }
                log.write(end + 1, &fresh);
                last = Some(fresh);
            }
        }
        log
    }

    fn recheck(&self) -> Rechecked {
        let mut recheck = Recheck::new();
        (0..).zip(&self.entries).for_each(|(sequence, entry)| recheck.entry(sequence, Some(entry)));
        recheck.finish(self.entries.len() as u64)
    }

    fn verdicts(&self) -> Vec<(usize, Verdict)> {
        let verdict = |entry: &Envelope| entry.body::<Verdict>().map(|v| v.expect("readable"));
        self.entries.iter().enumerate().filter_map(|(i, entry)| Some((i, verdict(entry)?))).collect()
    }

    /// Puts `verdict` in the place of an entry.
    fn forge(&mut self, index: usize, verdict: &Verdict) {
        let recorded_at = self.entries[index].recorded_at.micros() / 1_000_000;
        self.entries[index] = envelope(recorded_at, verdict);
    }
}

#[test]
fn an_honest_log_is_confirmed() {
    let log = Log::three_days();
    let rechecked = log.recheck();
    assert_eq!(rechecked.faults, []);
    let verdicts = log.verdicts();
    assert_eq!(rechecked.verdicts, verdicts.len() as u64);
    assert!(verdicts.iter().any(|(_, v)| v.outcome == Outcome::Broken), "{verdicts:?}");
    assert!(verdicts.len() >= 4 && verdicts.len() < 20, "on change and daily: {}", verdicts.len());
    assert_eq!(rechecked.latest.last().map(|latest| latest.sequence), verdicts.last().map(|(i, _)| *i as u64));
    assert_eq!(rechecked.judge.next(), log.entries.len() as u64);
    assert!(rechecked.latest.iter().all(|latest| latest.standing == Standing::Confirmed && latest.in_effect));
}

type Alteration = fn(&mut Verdict);
type Expected = fn(&VerdictFault) -> bool;

#[test]
fn an_altered_verdict_is_found() {
    let alterations: [(&str, Alteration, Expected); 9] = [
        ("outcome", |v| v.outcome = Outcome::Kept, |f| matches!(f, VerdictFault::Mismatch { .. })),
        ("figure", |v| v.figure.as_mut().expect("measured").low += 1, |f| matches!(f, VerdictFault::Mismatch { .. })),
        ("reasons", |v| v.reasons.clear(), |f| matches!(f, VerdictFault::Mismatch { .. })),
        ("evidence", |v| v.evidence.truncate(1), |f| matches!(f, VerdictFault::Mismatch { .. })),
        (
            "window",
            |v| v.window.start = v.window.start + Span::from_secs(1),
            |f| matches!(f, VerdictFault::Mismatch { .. }),
        ),
        ("revision", |v| v.revision.replace_range(..1, "x"), |f| matches!(f, VerdictFault::Mismatch { .. })),
        ("promise", |v| v.promise = name("AV-2"), |f| matches!(f, VerdictFault::NotDeclared { .. })),
        ("what was read", |v| v.tree_size += 10, |f| matches!(f, VerdictFault::FromTheFuture { .. })),
        ("the instant", |v| v.at = v.at - Span::from_secs(2 * HOUR), |f| matches!(f, VerdictFault::Dated { .. })),
    ];
    for (what, alter, expected) in alterations {
        let mut log = Log::three_days();
        let (index, mut verdict) =
            log.verdicts().into_iter().find(|(_, v)| v.outcome == Outcome::Broken).expect("one is broken");
        alter(&mut verdict);
        log.forge(index, &verdict);
        let faults = log.recheck().faults;
        assert_eq!(faults.len(), 1, "{what}: {faults:?}");
        assert!(expected(&faults[0]), "{what}: {}", faults[0]);
        assert!(faults[0].to_string().contains(&format!("entry {index}")), "{what}: {}", faults[0]);
    }
}

/// An older reading of the log than another verdict's leaves out what became known in between.
#[test]
fn a_verdict_that_goes_back_is_found() {
    let mut log = Log::three_days();
    let verdicts = log.verdicts();
    let [(_, first), .., (last, _)] = &verdicts[..] else { panic!("several verdicts") };
    let older = Verdict { tree_size: first.tree_size, ..verdicts[verdicts.len() - 1].1.clone() };
    log.forge(*last, &older);
    assert!(matches!(log.recheck().faults[..], [VerdictFault::GoesBack { .. }]));
}

#[test]
fn a_mismatch_names_both_figures() {
    let mut log = Log::three_days();
    let (index, mut verdict) = log.verdicts().pop().expect("some");
    let figure = verdict.figure.as_mut().expect("measured");
    (figure.low, figure.high) = (999_999_999, 1_000_000_000);
    log.forge(index, &verdict);
    let message = log.recheck().faults[0].to_string();
    assert!(message.contains("AV-1") && message.contains("[999999999, 1000000000]"), "{message}");
    assert!(message.contains("make it broken with [98"), "{message}");
}

#[test]
fn verdicts_left_out_are_missed() {
    let mut log = Log::three_days();
    let before = log.entries.len();
    log.entries.retain(|entry| entry.body::<Verdict>().is_none() || entry.recorded_at < t(2 * HOUR));
    assert!(log.entries.len() < before);
    let faults = log.recheck().faults;
    assert_eq!(
        faults.iter().filter(|f| matches!(f, VerdictFault::Lapsed { .. })).count(),
        2,
        "twice in three days: {faults:?}"
    );
}

/// A server that was off for a week owes no verdict for that week.
#[test]
fn silence_is_no_lapse() {
    let mut log = Log::three_days();
    let changed = Changed { probe: name("http"), service: name(SHOP), state: State::Up, after: t(0), by: t(0) };
    let week_later = 10 * 24 * HOUR;
    log.write(week_later, &changed);
    log.write(week_later + 60, &changed);
    assert_eq!(log.recheck().faults, []);
}

/// What was told for the first time in days that are destroyed is told again daily; verdicts name the newest telling, and
/// nothing that happened before their window. So they can be computed again although the first days are gone; those of
/// the first days after them can't, and nobody is to blame, however long the log was silent.
#[test]
fn verdicts_outlive_the_first_telling() {
    let story = |first_day_destroyed: bool, silent: bool| {
        let mut declared = simple(&["a", "gone"], availability("50 %", 2 * HOUR));
        declared.promises[0].objectives.push(Clause::from(&Objective::Absence(Absence {
            finding: name("disk-usage"),
            observed: percent("50 %"),
            over: s(2 * HOUR),
        })));
        declared.promises[0].revision = revision::of_promise(&declared.promises[0]);
        declared.revision = revision::of_policy(&declared);
        let mut log = Log::default();
        let tell = |log: &mut Log, at: i64, state| {
            let told = Changed { probe: name("http"), service: name(SHOP), state, after: t(at), by: t(at) };
            log.write(at, &declared);
            log.write(at, &told);
            let (finding, probe) = (name("disk-usage"), name("http"));
            log.write(at, &Found { finding, probe, open: true, after: t(at), by: t(at) });
        };
        // An outage and a finding that go on for days, and an observer that was never heard again.
        let interval = between(0, HOUR);
        tell(&mut log, 0, State::Down);
        log.write_by(
            "gone",
            HOUR,
            &Covered { interval, revision: declared.revision.clone(), every: None, gaps: vec![] },
        );
        let days: &[i64] = if silent { &[5] } else { &[1, 2, 3] };
        for day in days {
            tell(&mut log, day * 24 * HOUR, State::Down);
        }
        // As soon as the log is written again, its windows reach back into the silence.
        let back = days[0] * 24 * HOUR;
        log.judge.verdicts(t(back)).iter().for_each(|verdict| log.write(back, verdict));
        let end = 6 * 24 * HOUR;
        let interval = between(end - 2 * HOUR, end);
        log.write(end, &Covered { interval, revision: declared.revision.clone(), every: None, gaps: vec![] });
        let verdicts = log.judge.verdicts(t(end));
        assert!(verdicts.iter().all(|v| v.outcome == Outcome::Broken), "{verdicts:?}");
        for verdict in &verdicts {
            log.write(end, verdict);
        }
        let mut recheck = Recheck::new();
        for (sequence, entry) in (0..).zip(&log.entries) {
            if entry.recorded_at < t(24 * HOUR) && first_day_destroyed {
                recheck.destroyed(sequence, &entry.kind, entry.recorded_at.hour());
            } else {
                recheck.entry(sequence, Some(entry));
            }
        }
        let rechecked = recheck.finish(log.entries.len() as u64);
        assert_eq!(rechecked.faults, [], "destroyed {first_day_destroyed}, silent {silent}");
        (rechecked.verdicts, rechecked.out_of_reach)
    };
    for silent in [false, true] {
        for destroyed in [false, true] {
            let expected = if destroyed { (2, 2) } else { (4, 0) };
            assert_eq!(story(destroyed, silent), expected, "destroyed {destroyed}, silent {silent}");
        }
    }
}

/// What is found when the payloads of these entries are gone.
fn without(log: &Log, gone: impl Fn(u64, &Envelope) -> bool) -> Rechecked {
    let mut recheck = Recheck::new();
    for (sequence, entry) in (0..).zip(&log.entries) {
        if gone(sequence, entry) && entry.kind != ClockStepped::KIND.name {
            recheck.destroyed(sequence, &entry.kind, entry.recorded_at.hour());
        } else {
            recheck.entry(sequence, Some(entry));
        }
    }
    recheck.finish(log.entries.len() as u64)
}

/// The first day destroyed: verdicts that rest on it are out of reach, and no fault is imagined. Nor is a confirmation.
#[test]
fn destroyed_evidence_is_no_fault() {
    let log = Log::three_days();
    let rechecked = without(&log, |_, entry| entry.recorded_at < t(24 * HOUR));
    assert_eq!((&rechecked.faults[..], rechecked.verdicts), (&[][..], 0));
    assert!(rechecked.out_of_reach > 0 && !rechecked.is_confirmed());
    assert!(rechecked.latest.iter().all(|latest| latest.standing == Standing::OutOfReach));
    assert!(Log::three_days().recheck().is_confirmed());
}

/// Destroying a day of evidence does not help a false verdict: later verdicts that rest on it are not confirmed either.
#[test]
fn a_verdict_that_nobody_can_compute_is_not_confirmed() {
    let mut log = Log::three_days();
    let (last, verdict) = log.verdicts().pop().expect("verdicts");
    let invented = Verdict { outcome: Outcome::Kept, reasons: vec![], ..verdict };
    log.forge(last, &invented);
    assert!(matches!(log.recheck().faults[..], [VerdictFault::Mismatch { .. }]));
    // The outage is destroyed, and the policy told again.
    let retold = log.entries[0].clone();
    let place = log.entries.iter().position(|entry| entry.recorded_at > t(40 * HOUR)).expect("three days");
    log.entries[place] = Envelope { recorded_at: log.entries[place].recorded_at, ..retold };
    let gone = |_: u64, entry: &Envelope| (t(30 * HOUR)..t(31 * HOUR)).contains(&entry.recorded_at);
    let rechecked = without(&log, gone);
    assert_eq!(rechecked.faults, []);
    assert!(!rechecked.is_confirmed());
    let latest = rechecked.latest.last().expect("one");
    let outcome = latest.verdict.as_ref().map(|verdict| verdict.outcome);
    assert_eq!((outcome, latest.standing), (Some(Outcome::Kept), Standing::OutOfReach));
    // Evidence that is destroyed after a verdict was computed excuses nothing in it.
    let (last, _) = log.verdicts().pop().expect("verdicts");
    let after = |sequence: u64, _: &Envelope| sequence > last as u64;
    assert!(matches!(without(&log, after).faults[..], [VerdictFault::Mismatch { .. }]));
}

/// What a policy that can be read does not declare, or declares otherwise, no destruction excuses.
#[test]
fn no_destruction_excuses_what_a_policy_says() {
    let gone = |sequence: u64, entry: &Envelope| sequence > 0 && entry.recorded_at < t(24 * HOUR);
    let alterations: [(Alteration, Expected); 3] = [
        (|v| v.promise = name("AV-2"), |f| matches!(f, VerdictFault::NotDeclared { .. })),
        (|v| v.objective = 7, |f| matches!(f, VerdictFault::NotDeclared { .. })),
        (|v| v.revision.replace_range(..1, "x"), |f| matches!(f, VerdictFault::Mismatch { .. })),
    ];
    for (alter, expected) in alterations {
        let mut log = Log::three_days();
        let (index, mut verdict) = log.verdicts().pop().expect("verdicts");
        alter(&mut verdict);
        log.forge(index, &verdict);
        let rechecked = without(&log, gone);
        assert!(rechecked.faults.first().is_some_and(expected), "{:?}", rechecked.faults);
        // Unless the policy itself is gone.
        let rechecked = without(&log, |_, entry| entry.recorded_at < t(24 * HOUR));
        assert_eq!(rechecked.faults, []);
        assert!(!rechecked.is_confirmed());
    }
}

/// A verdict without payload may have been on anything: what was said before it is not the last word.
#[test]
fn an_older_verdict_does_not_stand_for_a_destroyed_one() {
    let log = Log::three_days();
    let (last, _) = log.verdicts().pop().expect("verdicts");
    let rechecked = without(&log, |sequence, _| sequence >= last as u64);
    assert_eq!(rechecked.faults, []);
    let latest = rechecked.latest.last().expect("one");
    assert!(latest.sequence < last as u64 && latest.standing == Standing::OutOfReach, "{latest:?}");
}

/// The evidence altered and not the verdict: the tree would show it first, and the verdict no longer follows.
#[test]
fn altered_evidence_is_found() {
    let mut log = Log::three_days();
    let down = log.entries.iter().position(|e| e.body.get().contains("\"down\"") && e.kind == "evidence.changed");
    let down = down.expect("an outage");
    let up = Changed { probe: name("http"), service: name(SHOP), state: State::Up, after: Time::default(), by: t(60) };
    log.entries[down] = envelope(30 * HOUR, &up);
    assert!(log.recheck().faults.iter().any(|f| matches!(f, VerdictFault::Mismatch { .. })));
}

#[test]
fn an_unchanged_name_for_a_changed_promise_is_found() {
    let mut applied = simple(&["a"], availability("99 %", 1000));
    applied.promises[0].objectives = vec![Clause::from(&availability("9 %", 1000))];
    let mut log = Log::default();
    log.write(0, &applied);
    let faults = log.recheck().faults;
    assert!(matches!(&faults[..], [VerdictFault::Revision { .. }, VerdictFault::Revision { .. }]), "{faults:?}");
}

/// A body as another release may write it.
fn raw(envelope: &Envelope, version: u16, body: &str) -> Envelope {
    Envelope { version, body: serde_json::from_str(body).expect("JSON"), ..envelope.clone() }
}

/// A verdict of a later release is no fault, whatever it says, and no confirmation. Only the newest of an objective matters.
#[test]
fn a_verdict_of_a_later_release_is_not_judged() {
    type Later = fn(&Envelope, Verdict) -> Envelope;
    let later: [(&str, Later, NotJudged); 4] = [
        (
            "evaluator",
            |entry, verdict| {
                let body = serde_json::to_string(&Verdict { evaluator: EVALUATOR + 1, ..verdict }).expect("serialises");
                raw(entry, 1, &body.replace("\"broken\"", "\"excused\""))
            },
            NotJudged::Evaluator(i64::from(EVALUATOR) + 1),
        ),
        ("version", |entry, _| raw(entry, 2, entry.body.get()), NotJudged::Version(2)),
        (
            "kept by version",
            |entry, verdict| {
                let kept = Verdict { outcome: Outcome::Kept, reasons: vec![], ..verdict };
                raw(entry, 2, &serde_json::to_string(&kept).expect("serialises"))
            },
            NotJudged::Version(2),
        ),
        ("shape", |entry, _| raw(entry, 3, r#"{"about":"AV-1"}"#), NotJudged::Version(3)),
    ];
    for (what, write, why) in later {
        let mut log = Log::three_days();
        let verdicts = log.verdicts();
        let (last, verdict) = verdicts.last().cloned().expect("verdicts");
        log.entries[last] = write(&log.entries[last], verdict);
        let rechecked = log.recheck();
        assert_eq!((&rechecked.faults[..], rechecked.not_judged), (&[][..], 1), "{what}");
        assert_eq!(rechecked.latest.last().expect("one").standing, Standing::NotJudged(why), "{what}");
        assert!(!rechecked.is_confirmed(), "{what}");
        // One that another follows shows nothing to anybody.
        let mut log = Log::three_days();
        let (first, verdict) = verdicts[0].clone();
        log.entries[first] = write(&log.entries[first], verdict);
        let rechecked = log.recheck();
        assert_eq!((&rechecked.faults[..], rechecked.not_judged), (&[][..], 1), "{what}");
        assert!(rechecked.is_confirmed(), "{what}");
    }
}

/// A policy of a later release: what is not known in it is kept, and judged by nobody; what is known is judged as ever.
#[test]
fn a_policy_of_a_later_release_is_no_fault() {
    let mut log = Log::three_days();
    let (_, verdict) = log.verdicts().pop().expect("verdicts");
    let objective = r#"{"objective":"restore","backup":"shop-db","at_most":1}"#;
    let with = |revision: &str| {
        let promise = format!(
            r#"{{"revision":"{revision}","id":"BK-2","text":{{"fr":"","en":""}},"objectives":[{objective}],"by":"x"}}"#
        );
        let revision = revision::Revision::of(&promise).expect("first").computed;
        (promise.replace(r#""revision":"""#, &format!(r#""revision":"{revision}""#)), revision)
    };
    let (promise, revision) = with("");
    let body = log.entries[0].body.get();
    let body = body.replace(r#""promises":["#, &format!(r#""severity":[],"promises":[{promise},"#));
    let claimed = revision::Revision::of(&body).expect("first");
    let good = body.replace(&claimed.claimed, &claimed.computed);
    let last = log.entries.len();
    log.entries.push(Envelope { recorded_at: t(72 * HOUR + 1), ..raw(&log.entries[0], 1, &good) });
    assert_eq!(log.recheck().faults, []);
    assert!(log.recheck().policy_is_known);

    // A verdict on what is not known, of the very evaluator that this release has.
    let read = log.entries.len() as u64;
    let unknown = Verdict { promise: name("BK-2"), revision, tree_size: read, at: t(72 * HOUR), ..verdict };
    log.entries.push(envelope(72 * HOUR + 2, &unknown));
    let rechecked = log.recheck();
    assert_eq!((&rechecked.faults[..], rechecked.not_judged), (&[][..], 1));
    let latest = rechecked.latest.last().expect("one");
    assert_eq!((latest.standing, latest.in_effect), (Standing::NotJudged(NotJudged::Objective), true));
    assert!(!rechecked.is_confirmed());
    // Of another revision than the policy has, it is wrong whoever judges.
    let at = log.entries.len() - 1;
    log.forge(at, &Verdict { revision: "x".to_owned(), ..unknown });
    assert!(matches!(log.recheck().faults[..], [VerdictFault::NotDeclared { .. }]));
    log.entries.pop();

    // What this release does not know is part of the revision.
    log.entries[last] = raw(&log.entries[last], 1, &good.replace("shop-db", "shop-dc"));
    let changed = |fault: &VerdictFault, of: &str| matches!(fault, VerdictFault::Revision { what, computed: Some(_), .. } if what == of);
    let faults = log.recheck().faults;
    assert!(changed(&faults[0], "promise BK-2") && changed(&faults[1], "the policy"), "{faults:?}");
    let last_member = good.replacen(r#"{"revision""#, r#"{"zones":[],"revision""#, 1);
    log.entries[last] = raw(&log.entries[last], 1, &last_member);
    assert!(matches!(&log.recheck().faults[..], [VerdictFault::Revision { computed: None, .. }]));

    // One of a later version: nobody can tell what is in effect, and no verdict on it has lapsed.
    log.entries[last] = raw(&log.entries[last], 2, "{}");
    for hour in 73..120 {
        for minute in 0..12 {
            log.entries.push(envelope(hour * HOUR + minute * 300, &ClockStepped { from: t(0), to: t(0) }));
        }
    }
    let rechecked = log.recheck();
    assert_eq!((&rechecked.faults[..], rechecked.policy_is_known), (&[][..], false));
    assert!(!rechecked.is_confirmed());
}
