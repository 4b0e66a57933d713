//! The fold: repeatable, resumable, small.

use std::collections::BTreeMap;

use event::evidence::{Changed, Covered, State, Succeeded};
use event::policy::Agreement;
use event::promise::Outcome;
use event::{BootId, Envelope, InstallationId, Observed, ObserverId, ProbeId, Time};

use super::scene::*;
use crate::Judge;
use crate::objective::{Freshness, Objective};

const MINUTES: i64 = 525_600;

/// AV-1 over a year with three observers, a record each per minute: memory follows the changes.
#[test]
fn a_year_without_a_change_is_small() {
    let year = MINUTES * 60;
    let declared = simple(&["a", "b", "c"], availability("99.99 %", year));
    let mut judge = Judge::new();
    judge.apply_policy(0, t(0), &declared);
    let observers: [ObserverId; 3] = ["a", "b", "c"].map(name);
    let mut sequence = 1;
    for observer in &observers {
        let up = event::evidence::Changed {
            probe: name("http"),
            service: name(SHOP),
            state: State::Up,
            after: t(0),
            by: t(0),
        };
        judge.apply_changed(sequence, observer, t(0), &up);
        sequence += 1;
    }
    for minute in 0..MINUTES {
        let interval = between(minute * 60, minute * 60 + 60);
        let coverage =
            event::evidence::Covered { interval, revision: declared.revision.clone(), every: None, gaps: vec![] };
        for observer in &observers {
            judge.apply_covered(sequence, observer, interval.end, &coverage);
            sequence += 1;
        }
    }
    let size = |judge: &mut Judge| {
        let rows = judge.changed_parts().expect("JSON");
        rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>()
    };
    assert!(size(&mut judge) < 10_000, "a year without a change is small");
    let verdict = judge.verdicts(t(year)).pop().expect("declared");
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Kept, Some((1_000_000_000, 1_000_000_000))));
    // A minute later, only what changed is saved again.
    let interval = between(year, year + 60);
    let coverage = Covered { interval, revision: declared.revision.clone(), every: None, gaps: vec![] };
    judge.apply_covered(sequence, &observers[0], interval.end, &coverage);
    let rows: Vec<String> = judge.changed_parts().expect("JSON").into_iter().map(|(key, _)| key).collect();
    assert_eq!(rows, ["observer/a/00000", "judge"]);
}

/// What is long takes several rows, and gives them back.
#[test]
fn a_long_part_is_cut_into_rows() {
    let declared =
        simple(&["a"], Objective::Freshness(Freshness { probe: name("http"), at_most: s(10), over: s(3600) }));
    let mut judge = Judge::new();
    judge.apply_policy(0, t(0), &declared);
    for second in 1..=20_000 {
        let succeeded = Succeeded { probe: name("http"), at: t(second) };
        judge.apply_succeeded(second.unsigned_abs(), &name("a"), t(second), &succeeded);
    }
    let mut rows = BTreeMap::new();
    let mut again = reopened(&mut judge, &mut rows);
    let many = rows.keys().filter(|key| key.starts_with("tracks/")).count();
    assert!(many > 3, "{many}");
    assert_eq!(again.verdicts(t(20_000)), judge.verdicts(t(20_000)));
    judge.forget(t(20_000));
    assert!(judge.remembers(t(20_000)) && !judge.remembers(t(100)));
    assert_eq!(judge.verdicts(t(20_000)), again.verdicts(t(20_000)));
    let mut again = reopened(&mut judge, &mut rows);
    let few = rows.keys().filter(|key| key.starts_with("tracks/")).count();
    assert!(few < many, "{few} of {many}");
    assert_eq!(judge.verdicts(t(20_000)), again.verdicts(t(20_000)));
    // A row that is missing, and rows of another cursor, are no fold.
    assert!(Judge::from_parts(7, rows.clone()).is_err());
    let first = rows.keys().find(|key| key.starts_with("tracks/")).expect("one").clone();
    rows.insert(first.replace("00000", "00002"), rows[&first].clone());
    rows.remove(&first);
    assert!(Judge::from_parts(judge.next(), rows).is_err());
}

/// Years of probes that come and go, of observers that do, and of a clock that steps each day: what is kept of them is what
/// the window holds.
#[test]
fn what_was_removed_and_steps_of_clocks_are_forgotten() {
    const DAY: i64 = 86_400;
    let objective = || Objective::Freshness(Freshness { probe: name("http"), at_most: s(10), over: s(30 * DAY) });
    let declared = |day: i64| {
        let mut probes = vec![probe("http", "shop", &["a"], Agreement::Any)];
        probes.push(probe(&format!("probe-{day}"), "shop", &[&format!("o{day}.watch")], Agreement::Any));
        policy(probes, vec![], vec![promise(&[objective()])])
    };
    let mut judge = Judge::new();
    let (mut whole, mut rows) = (Judge::new(), BTreeMap::new());
    let mut sizes = Vec::new();
    let mut sequence = 0;
    for day in 0..200 {
        let (at, observer) = (day * DAY, name::<ObserverId>(&format!("o{day}.watch")));
        let (applied, probe) = (declared(day), name::<ProbeId>(&format!("probe-{day}")));
        let state = |state, second| Changed {
            probe: probe.clone(),
            service: name("shop"),
            state,
            after: t(at + second),
            by: t(at + second + 1),
        };
        let stepped = event::engine::ClockStepped { from: t(at + 100), to: t(at + 110) };
        let interval = between(at, at + DAY);
        let covered = Covered { interval, revision: applied.revision.clone(), every: None, gaps: vec![] };
        for judge in [&mut judge, &mut whole] {
            judge.apply_policy(sequence, t(at), &applied);
            judge.apply_changed(sequence + 1, &observer, t(at + 2), &state(State::Up, 1));
            judge.apply_changed(sequence + 2, &observer, t(at + 2), &state(State::Down, 50));
            judge.apply_clock_stepped(sequence + 3, &name("a"), &stepped);
            judge.apply_covered(sequence + 4, &observer, t(at + DAY), &covered);
        }
        sequence += 5;
        judge.forget(t(at + DAY));
        assert!(judge.remembers(t(at + DAY)));
        assert_eq!(judge.verdicts(t(at + DAY)), whole.verdicts(t(at + DAY)), "day {day}");
        judge = reopened(&mut judge, &mut rows);
        let spans = judge.observed.stepped("a").map_or(0, |spans| spans.intervals().len());
        sizes.push((judge.observed.tracks().count(), judge.observed.reports().count(), spans));
        let observers = rows.keys().filter(|key| key.starts_with("observer/")).count();
        assert_eq!(observers, judge.observed.reports().count(), "no row is left behind");
    }
    assert_eq!(sizes[100], sizes[199], "no growth beyond the window");
    assert!(sizes[199].0 < 40 && sizes[199].1 < 40 && sizes[199].2 < 40, "{:?}", sizes[199]);

    // What is declared again may need what is gone: the log is to be read again.
    let now = t(200 * DAY);
    let mut again = judge.clone();
    again.apply_policy(sequence, now, &declared(3));
    assert!(!again.remembers(now));
    assert!(!reopened(&mut again, &mut BTreeMap::new()).remembers(now), "not known after a restart either");
    // And a step from far back is one with others that are gone, unless it reaches over all of them.
    for (from, remembered) in [(199 * DAY, true), (3 * DAY, false), (100, true), (-5, true)] {
        let stepped = event::engine::ClockStepped { from: t(from), to: now };
        let mut again = judge.clone();
        again.apply_clock_stepped(sequence, &name("a"), &stepped);
        assert_eq!(again.remembers(now), remembered, "from {from}");
    }
}

/// Stopped anywhere and taken up again from its serialised state, entries told twice: the same verdicts.
#[test]
fn a_fold_resumes_where_it_stopped() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a", "b"], availability("99 %", 1000)));
    scene.changed("a", State::Up, 0, 0).changed("b", State::Up, 0, 0).covered("a", 0, 600, &[(100, 150)]);
    scene.changed("a", State::Down, 500, 510).clock_stepped("b", 300, 310).pinged("a", 600).finding("a", true, 1, 2);
    scene.covered("b", 0, 900, &[]);
    for stop in 0..=scene.entries.len() {
        let mut before = Scene::of(&scene.entries[..stop]).judge;
        let mut judge = reopened(&mut before, &mut BTreeMap::new());
        assert_eq!(judge.next(), stop as u64);
        for (sequence, entry) in (0..).zip(&scene.entries).skip(stop.saturating_sub(2)) {
            judge.fold(sequence, &entry.observer, entry.recorded_at, &entry.fact);
        }
        assert_eq!(judge.verdicts(t(1000)), scene.judge.verdicts(t(1000)), "stopped before {stop}");
    }
}

#[test]
fn envelopes_are_folded_and_what_is_not_evidence_passed_over() {
    let installation = InstallationId::from_bytes([1; 16]);
    let boot = BootId::from_bytes([2; 16]);
    let wrap = |observed: Observed| observed.record(installation, "shop.example/1", t(0));
    let applied = simple(&["a"], availability("99 %", 1000));
    let policy = wrap(Observed::new(&applied, name("a"), boot, 0, t(0)).expect("serialises"));
    let mut judge = Judge::new();
    judge.apply(3, &policy).expect("readable");
    assert_eq!((judge.next(), judge.policy_sequence()), (4, Some(3)));
    judge.skip(7);
    assert_eq!(judge.next(), 8);

    let newer = Envelope { version: 9, ..policy.clone() };
    judge.apply(8, &newer).expect("a later version is passed over");
    let unknown = Envelope { kind: "drill.begun".to_owned(), ..policy.clone() };
    judge.apply(9, &unknown).expect("an unknown kind is passed over");
    let body = serde_json::value::RawValue::from_string("{\"revision\":7}".to_owned()).expect("JSON");
    let broken = Envelope { body, recorded_at: Time::from_secs(1), ..policy };
    let error = judge.apply(10, &broken).expect_err("not a policy");
    assert!(error.to_string().contains("policy.applied"), "{error}");
    assert_eq!((judge.next(), judge.policy_sequence()), (11, Some(3)));
}
