//! What counts of requests prove: one story per sentence of the rule (AV-1, BX-1).

use event::promise::{Outcome, Reason, Verdict};

use super::scene::*;
use crate::fact::Fact;
use crate::objective::{Objective, Requests};

const WINDOW: i64 = 10_000;

/// 99 % of the requests that `http` counts, as seen by these observers.
fn site(observers: &[&str]) -> Scene {
    let of = Requests { probe: name("http"), at_least: percent("99 %"), over: s(WINDOW) };
    let mut scene = Scene::default();
    scene.policy(0, &simple(observers, Objective::Requests(of)));
    scene
}

/// Counts of `observer` of 250 s each, from one instant to another; each of as many requests.
fn counting(scene: &mut Scene, observer: &str, from: i64, to: i64, of: (u32, u32)) {
    for start in (from..to).step_by(250) {
        scene.counted(observer, start, (start + 250).min(to), of);
    }
}

#[track_caller]
fn assert_is(verdict: &Verdict, figure: Option<(i64, i64)>, outcome: Outcome) {
    assert_eq!((bounds(verdict), verdict.outcome), (figure, outcome), "{verdict:?}");
}

use Outcome::{Broken, Kept, Unproven};

#[test]
fn each_request_weighs_the_same() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 9750, (100, 0));
    // A bad quarter of an hour at night is less than a bad minute at noon.
    scene.counted("a", 9750, WINDOW, (61, 39));
    let verdict = scene.verdict(WINDOW);
    assert_is(&verdict, Some((990_250_000, 990_250_000)), Kept);
    assert_eq!(verdict.reasons, [Reason::AtRisk]);
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 9750, (100, 0));
    scene.counted("a", 9750, WINDOW, (59, 41));
    assert_is(&scene.verdict(WINDOW), Some((989_750_000, 989_750_000)), Broken);
    // Shares are rounded outwards.
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, WINDOW, (299, 1));
    let verdict = scene.verdict(WINDOW);
    assert_is(&verdict, Some((996_666_666, 996_666_667)), Kept);
    assert_eq!(verdict.reasons, []);
}

/// BX-1. Time in which nobody counted is as long as it is, and what came in it may all have failed, or none.
#[test]
fn what_was_not_counted_is_not_taken_for_answered() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 4000, (100, 0));
    counting(&mut scene, "a", 4200, WINDOW, (100, 0));
    let verdict = scene.verdict(WINDOW);
    assert_is(&verdict, Some((980_000_000, 1_000_000_000)), Unproven);
    assert_eq!(verdict.reasons, [Reason::Unobserved { length: s(200) }]);
    // Half as much is within what may fail.
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 4000, (100, 0));
    counting(&mut scene, "a", 4100, WINDOW, (100, 0));
    assert_is(&scene.verdict(WINDOW), Some((990_000_000, 1_000_000_000)), Kept);
    // What went wrong for certain is not made good by what is not known.
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 5000, (97, 3));
    counting(&mut scene, "a", 5200, WINDOW, (97, 3));
    assert_is(&scene.verdict(WINDOW), Some((950_600_000, 970_600_000)), Broken);
}

#[test]
fn without_requests_nothing_is_proved() {
    let mut scene = site(&["a"]);
    let nothing = |verdict: &Verdict, missed: i64| {
        assert_is(verdict, None, Unproven);
        let unobserved = (missed > 0).then_some(Reason::Unobserved { length: s(missed) });
        assert_eq!(verdict.reasons, [Reason::NoEvidence].into_iter().chain(unobserved).collect::<Vec<_>>());
    };
    // Nobody counts: until so long after the next count was due, one is waited for.
    nothing(&scene.verdict(WINDOW + 420), WINDOW);
    assert_eq!(scene.verdict(WINDOW + 420).window, between(0, WINDOW));
    counting(&mut scene, "a", 0, WINDOW, (0, 0));
    nothing(&scene.verdict(WINDOW), 0);
    // Records of what was observed say nothing of requests.
    let mut scene = site(&["a"]);
    scene.covered("a", 0, WINDOW, &[]);
    assert_eq!(scene.verdict(WINDOW).window, between(0, WINDOW - 420));
}

#[test]
fn a_verdict_speaks_up_to_the_last_count() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 9600, (100, 0));
    let judged = |scene: &Scene, at: i64| {
        let verdict = scene.verdict(at);
        (verdict.window, verdict.outcome)
    };
    // The next count is not due yet, then late.
    assert_eq!(judged(&scene, WINDOW + 20), (between(0, 9600), Kept));
    assert_eq!(judged(&scene, WINDOW + 120), (between(0, 9700), Unproven));
}

/// A promise that is young is broken by what can't be made good any more: the time to come may be one in which none fails.
#[test]
fn the_time_to_come_may_be_good() {
    let young = |of: (u32, u32)| {
        let mut scene = site(&["a"]);
        counting(&mut scene, "a", 0, 1000, of);
        scene.verdict(1000)
    };
    let filling = Reason::WindowFilling { elapsed: s(1000), length: s(WINDOW) };
    let verdict = young((90, 10));
    assert_is(&verdict, Some((900_000_000, 900_000_000)), Unproven);
    assert_eq!(verdict.reasons, std::slice::from_ref(&filling));
    assert_is(&young((89, 11)), Some((890_000_000, 890_000_000)), Broken);
    let verdict = young((995, 5));
    assert_is(&verdict, Some((995_000_000, 995_000_000)), Kept);
    assert_eq!(verdict.reasons, [filling]);
}

/// Nobody knows which requests of a count that begins before the window came in it.
#[test]
fn a_count_that_reaches_beyond_the_window_may_belong_to_it() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, 900, (10, 0));
    scene.counted("a", 900, 1100, (10, 20));
    counting(&mut scene, "a", 1100, WINDOW + 1000, (10, 0));
    let verdict = scene.verdict(WINDOW + 1000);
    assert_eq!(verdict.window, between(1000, WINDOW + 1000));
    // 400 that were answered, and perhaps 20 that failed, perhaps none.
    assert_is(&verdict, Some((952_380_952, 1_000_000_000)), Unproven);
    // Of a count that goes on beyond the end too.
    assert_is(&scene.verdict(WINDOW + 1000 - 100), Some((952_380_952, 953_488_373)), Broken);
}

/// Each of two gates counts its own requests: their sums are what visitors got, and one that is silent leaves its share unknown.
#[test]
fn observers_add_up() {
    let both = |until: i64| {
        let mut scene = site(&["a", "b"]);
        counting(&mut scene, "a", 0, WINDOW, (100, 0));
        counting(&mut scene, "b", 0, until, (97, 3));
        scene
    };
    assert_is(&both(WINDOW).verdict(WINDOW), Some((985_000_000, 985_000_000)), Broken);
    let verdict = both(5000).verdict(WINDOW + 420);
    assert_eq!(verdict.reasons, [Reason::Unobserved { length: s(5000) }]);
    assert_eq!(bounds(&verdict), Some((495_000_000, 995_000_000)));
}

#[test]
fn only_counts_of_the_probe_by_who_is_asked_count() {
    let told = |alter: fn(&mut Entry)| {
        let mut scene = site(&["a"]);
        counting(&mut scene, "a", 0, WINDOW, (100, 0));
        let mut entry = Entry {
            recorded_at: t(WINDOW),
            observer: name("a"),
            fact: Fact::Counted(count("http", 2000, 2250, &[(0, 1000), (0, 1000)])),
        };
        alter(&mut entry);
        scene.tell(entry);
        scene.verdict(WINDOW).outcome
    };
    assert_eq!(told(|_| ()), Broken);
    assert_eq!(told(|entry| entry.observer = name("b")), Kept, "somebody who is not asked");
    let other = |probe, start, end| Fact::Counted(count(probe, start, end, &[(0, 1000)]));
    assert_eq!(told(|entry| entry.fact = Fact::Counted(count("other", 0, 100, &[(0, 1000)]))), Kept);
    assert_eq!(told(|entry| entry.fact = Fact::Counted(count("http", 2000, 2000, &[(0, 1000)]))), Kept, "of no time");
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, WINDOW, (100, 0));
    scene.tell(Entry { recorded_at: t(5000), observer: name("a"), fact: other("http", 5006, 5100) });
    assert_eq!(scene.verdict(WINDOW).outcome, Kept, "of the time to come");
}

/// Labels of a clock that stepped mean nothing, and an era in which nobody was asked was counted by nobody.
#[test]
fn time_that_nobody_can_place_is_unknown() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, WINDOW, (100, 0));
    scene.clock_stepped("a", 3000, 2500);
    let verdict = scene.verdict(WINDOW);
    assert_is(&verdict, Some((950_000_000, 1_000_000_000)), Unproven);
    assert_eq!(verdict.reasons, [Reason::Unobserved { length: s(500) }]);

    let mut scene = site(&["a"]);
    let asked = scene.judge.policy().expect("told").clone();
    let mut silent = asked.clone();
    silent.probes.clear();
    silent.revision = crate::revision::of_policy(&silent);
    scene.policy(1000, &silent).policy(2000, &asked);
    counting(&mut scene, "a", 0, WINDOW, (100, 0));
    assert_eq!(bounds(&scene.verdict(WINDOW)), Some((900_000_000, 1_000_000_000)));
}

#[test]
fn evidence_names_the_worst_counts() {
    let mut scene = site(&["a"]);
    for place in 0..20 {
        scene.counted("a", 500 * place, 500 * (place + 1), (10, u32::from(place % 5 == 1)));
    }
    // The policy, those that have failures, and of the rest the first ones.
    let expected = [0, 2, 7, 12, 17].into_iter().chain([1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14]);
    let mut expected: Vec<u64> = expected.collect();
    expected.sort_unstable();
    assert_eq!(scene.verdict(WINDOW).evidence, expected);
}

/// Counts outlive a save, and go with the window.
#[test]
fn counts_are_saved_and_forgotten() {
    let mut scene = site(&["a"]);
    counting(&mut scene, "a", 0, WINDOW, (97, 3));
    let expected = scene.verdict(WINDOW);
    let mut judge = reopened(&mut scene.judge, &mut std::collections::BTreeMap::new());
    assert_eq!(judge.verdict(&name("AV-1"), 0, t(WINDOW)), Some(expected));
    let all = between(0, 10 * WINDOW);
    let counts = |judge: &crate::Judge| judge.observed.counts(&name("a"), &name("http"), all).count();
    assert_eq!(counts(&judge), 40);
    judge.forget(t(10 * WINDOW));
    assert_eq!(counts(&judge), 0);
    assert!(judge.observed.counted_in(&name("a"), &name("http"), all).is_empty());
}
