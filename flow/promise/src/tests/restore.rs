//! What restores proved: one story per sentence of the rule (BK-2, BK-5, BX-3).

use event::Span;
use event::evidence::{Restored, Succeeded};
use event::promise::{Outcome, Reason, Verdict};

use super::scene::*;
use crate::fact::Fact;
use crate::objective::{Limit, Objective, Restore};

const WINDOW: i64 = 10_000;
const EVERY: i64 = 3000;
const WITHIN: i64 = 600;
const LOSES: i64 = 60;

/// The restores of the backup whose probe is `http`, looked at by `a`.
fn backup() -> Scene {
    let of = |limit, at_most| {
        Objective::Restore(Restore { limit, probe: name("http"), at_most: s(at_most), over: s(WINDOW) })
    };
    let limits = [of(Limit::Every, EVERY), of(Limit::Within, WITHIN), of(Limit::LosesAtMost, LOSES)];
    let mut applied = simple(&["a"], availability("99 %", WINDOW));
    applied.promises = vec![promise(&limits)];
    applied.revision = crate::revision::of_policy(&applied);
    let mut scene = Scene::default();
    scene.policy(0, &applied);
    scene
}

/// The verdicts on the three limits.
fn judged(scene: &mut Scene) -> [Verdict; 3] {
    let verdicts = scene.covered("a", 0, WINDOW, &[]).judge.clone().verdicts(t(WINDOW));
    verdicts.try_into().expect("three objectives")
}

/// A restore every 2500 s, but that of 5000 s, which is as given.
fn with(at: i64, took: i64, lost: i64) -> Scene {
    let mut scene = backup();
    scene.restored("a", 2500, 300, 10).restored("a", at, took, lost).restored("a", 7500, 300, 10);
    scene
}

#[track_caller]
fn assert_is(verdict: &Verdict, figure: Option<(i64, i64)>, outcome: Outcome) {
    let figure = figure.map(|(low, high)| (s(low).micros(), s(high).micros()));
    assert_eq!((bounds(verdict), verdict.outcome), (figure, outcome), "{verdict:?}");
}

#[test]
fn each_limit_is_kept_or_broken_by_itself() {
    use Outcome::{Broken, Kept};
    let [every, within, loses] = judged(&mut with(5000, 600, 60));
    assert_is(&every, Some((2500, 2500)), Kept);
    assert_is(&within, Some((600, 600)), Kept);
    assert_is(&loses, Some((60, 60)), Kept);
    assert_eq!((every.reasons, within.reasons, loses.reasons), (vec![], vec![], vec![]));
    // The worst of the window, whatever came after.
    let [every, within, loses] = judged(&mut with(5000, 601, 10));
    assert_is(&every, Some((2500, 2500)), Kept);
    assert_is(&within, Some((601, 601)), Broken);
    assert_is(&loses, Some((10, 10)), Kept);
    let [_, within, loses] = judged(&mut with(5000, 10, 61));
    assert_is(&within, Some((300, 300)), Kept);
    assert_is(&loses, Some((61, 61)), Broken);
}

/// A promise decays until the next restore, which may be the one that is due.
#[test]
fn time_without_a_restore_is_counted_to_the_end() {
    let mut scene = with(5000, 10, 10);
    let at = |scene: &mut Scene, until: i64| {
        let scene = scene.covered("a", 0, until, &[]);
        scene.judge.clone().verdict(&name("AV-1"), 0, t(until)).expect("declared")
    };
    assert_is(&at(&mut scene, 10_500), Some((3000, 3000)), Outcome::Kept);
    assert_is(&at(&mut scene, 10_501), Some((3001, 3001)), Outcome::Broken);
    // One that took long, or lost much, is exact all the same, and the time starts anew with it.
    let [every, ..] = judged(&mut with(5000, 5000, 5000));
    assert_is(&every, Some((2500, 2500)), Outcome::Kept);
}

/// BX-1. Where nothing was restored nothing is proved; and where somebody looked for long, the promise is broken.
#[test]
fn without_a_restore_nothing_is_proved() {
    let [every, within, loses] = judged(&mut backup());
    assert_is(&every, Some((WINDOW, WINDOW)), Outcome::Broken);
    for verdict in [within, loses] {
        assert_is(&verdict, None, Outcome::Unproven);
        assert_eq!(verdict.reasons, [Reason::NoEvidence]);
    }
    // A success of the probe, a backup made, is no restore.
    let mut scene = backup();
    let succeeded = Fact::Succeeded(Succeeded { probe: name("http"), at: t(5000) });
    scene.tell(Entry { recorded_at: t(5000), observer: name("a"), fact: succeeded });
    let [every, within, _] = judged(&mut scene);
    assert_is(&every, Some((WINDOW, WINDOW)), Outcome::Broken);
    assert_is(&within, None, Outcome::Unproven);
    // What nobody looked at may have been restored or not.
    let mut scene = backup();
    scene.restored("a", 2500, 10, 10).restored("a", 7500, 10, 10).covered("a", 0, WINDOW, &[(4000, 6000)]);
    let every = scene.judge.clone().verdict(&name("AV-1"), 0, t(WINDOW)).expect("declared");
    assert_is(&every, Some((2500, 5000)), Outcome::Unproven);
    assert_eq!(every.reasons, [Reason::Unobserved { length: s(2000) }]);
}

/// A young promise is kept by the first restore of each, and broken by one that certainly missed.
#[test]
fn the_first_restore_counts() {
    let first = |took: i64| {
        let mut scene = backup();
        scene.restored("a", 800, took, 10).covered("a", 0, 1000, &[]);
        scene.judge.clone().verdicts(t(1000))
    };
    assert_eq!(first(600).iter().map(|verdict| verdict.outcome).collect::<Vec<_>>(), [Outcome::Kept; 3]);
    let verdicts = first(700);
    let outcomes: Vec<_> = verdicts.iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [Outcome::Kept, Outcome::Broken, Outcome::Kept]);
    let filling = Reason::WindowFilling { elapsed: s(1000), length: s(WINDOW) };
    assert!(verdicts.iter().all(|verdict| verdict.reasons == [filling.clone()]), "{verdicts:?}");
}

#[test]
fn a_clock_that_stepped_makes_lengths_doubtful() {
    let stepped = |from: i64, to: i64, observer: &str| {
        let mut scene = with(5000, 590, 55);
        judged(scene.clock_stepped(observer, from, to))
    };
    // While it was restored: it may have taken longer.
    let [every, within, loses] = stepped(4500, 4520, "a");
    assert_is(&within, Some((570, 610)), Outcome::Unproven);
    assert_is(&loses, Some((55, 55)), Outcome::Kept);
    assert_eq!(bounds(&every).map(|(_, high)| high), Some(s(2520).micros()));
    // Between the newest instant that could be restored, at 4355, and the beginning.
    let [_, within, loses] = stepped(4400, 4380, "a");
    assert_is(&within, Some((590, 590)), Outcome::Kept);
    assert_is(&loses, Some((35, 75)), Outcome::Unproven);
    // That of another clock, or at another time, bears on nothing.
    for [_, within, loses] in [stepped(4400, 4700, "b"), stepped(5500, 5300, "a")] {
        assert_is(&within, Some((590, 590)), Outcome::Kept);
        assert_is(&loses, Some((55, 55)), Outcome::Kept);
    }
}

/// A restore belongs to the window in which it ended, with all of its length; a step of the clock before the window is forgotten.
#[test]
fn a_restore_counts_where_it_ended() {
    let until = WINDOW + 1000;
    let judged = |at: i64, stepped_at: i64| {
        let mut scene = backup();
        scene.restored("a", at, 700, 100).clock_stepped("a", stepped_at, stepped_at + 5).covered("a", 0, until, &[]);
        scene.judge.forget(t(until + 7200));
        scene.judge.clone().verdicts(t(until))
    };
    assert_is(&judged(1100, 900)[1], Some((700, 700)), Outcome::Broken);
    assert_is(&judged(1100, 900)[2], Some((100, 100)), Outcome::Broken);
    assert_is(&judged(1100, 998)[1], Some((695, 705)), Outcome::Broken);
    assert_is(&judged(999, 900)[1], None, Outcome::Unproven);
    assert_is(&judged(until, 900)[1], None, Outcome::Unproven);
}

/// Makes another entry of one.
type Alter = fn(&mut Entry, &mut Restored);

#[test]
fn only_restores_of_the_backup_by_who_looks_count() {
    let told = |alter: Alter| {
        let mut restored = Restored { probe: name("http"), at: t(9000), took: s(10), lost: s(10) };
        let fact = Fact::Restored(restored.clone());
        let mut entry = Entry { recorded_at: t(9000), observer: name("a"), fact };
        alter(&mut entry, &mut restored);
        entry.fact = Fact::Restored(restored);
        let mut scene = backup();
        scene.tell(entry);
        judged(&mut scene)[1].outcome
    };
    assert_eq!(told(|_, _| ()), Outcome::Kept);
    let others: [(&str, Alter); 3] = [
        ("of another probe", |_, restored| restored.probe = name("other")),
        ("by somebody who is not asked", |entry, _| entry.observer = name("b")),
        ("of the time to come", |_, restored| restored.at = t(9006)),
    ];
    for (what, alter) in others {
        assert_eq!(told(alter), Outcome::Unproven, "an entry {what}");
    }
    // A length that no restore has is none.
    assert_eq!(told(|_, restored| restored.took = Span::from_micros(-1)), Outcome::Kept);
}

#[test]
fn evidence_names_the_worst_restores() {
    // The policy, three restores, and the record.
    let [every, within, loses] = judged(&mut with(5000, 600, 60));
    assert_eq!(every.evidence, [0, 3, 4], "the last gap of those that are equal: after the third");
    assert_eq!((within.evidence, loses.evidence), (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]));
    let mut scene = backup();
    for second in 1..=20 {
        scene.restored("a", 400 * second, if second <= 5 { 1 } else { 2 }, 1);
    }
    let [_, within, loses] = judged(&mut scene);
    assert_eq!(within.evidence, [0].into_iter().chain(6..20).chain([21]).collect::<Vec<u64>>());
    assert_eq!(loses.evidence, (0..15).chain([21]).collect::<Vec<u64>>());
}

/// Restores outlive a save, and go with the window.
#[test]
fn restores_are_saved_and_forgotten() {
    let mut scene = with(5000, 600, 60);
    let expected = judged(&mut scene);
    let mut rows = std::collections::BTreeMap::new();
    let mut judge = reopened(&mut scene.judge, &mut rows);
    assert_eq!(judge.verdicts(t(WINDOW)), expected);
    let restores =
        |judge: &crate::Judge| judge.observed.restores(&name("a"), &name("http"), between(0, 10 * WINDOW)).len();
    assert_eq!(restores(&judge), 3);
    judge.forget(t(10 * WINDOW));
    assert_eq!(restores(&judge), 0);
}
