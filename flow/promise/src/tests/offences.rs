//! How soon offenders were banned: one story per sentence of the rule (NH-1).

use event::evidence::{Reacted, ReactedTo, State};
use event::policy::Agreement;
use event::promise::{Outcome, Reason, Verdict};

use super::scene::*;
use crate::fact::Fact;
use crate::objective::{Answered, Objective, Reaction};

const WINDOW: i64 = 10_000;
const WITHIN: i64 = 10;

fn banned_within(service: Option<&str>) -> Objective {
    let service = service.map(name);
    let (within, over) = (s(WITHIN), s(WINDOW));
    Objective::Reaction(Reaction { to: Answered::Offences, service, within, observed: percent("99 %"), over })
}

/// A log of the shop, read by `a`.
fn shop() -> Scene {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], banned_within(Some(SHOP)))).changed("a", State::Up, 0, 0);
    scene
}

fn judged(scene: &mut Scene) -> Verdict {
    scene.covered("a", 0, WINDOW, &[]).verdict(WINDOW)
}

#[track_caller]
fn assert_is(verdict: &Verdict, figure: Option<(i64, i64)>, outcome: Outcome) {
    let figure = figure.map(|(low, high)| (s(low).micros(), s(high).micros()));
    assert_eq!((bounds(verdict), verdict.outcome), (figure, outcome), "{verdict:?}");
}

#[test]
fn offenders_are_banned_in_time_or_not() {
    use Outcome::{Broken, Kept, Unproven};
    assert_is(&judged(shop().banned("a", 1000, 1001)), Some((1, 1)), Kept);
    assert_is(&judged(shop().banned("a", 1000, 1010)), Some((10, 10)), Kept);
    assert_is(&judged(shop().banned("a", 1000, 1011)), Some((11, 11)), Broken);
    // The longest of all counts, whoever told of it.
    assert_is(&judged(shop().banned("a", 1000, 1001).banned("b", 2000, 2030)), Some((30, 30)), Broken);
    // Two stamps of different clocks may be in the wrong order.
    assert_is(&judged(shop().banned("a", 1001, 1000)), Some((0, 0)), Kept);
    // Where nobody was banned, there is nothing to show, whatever was told of failures and tests.
    let verdict = judged(shop().tested("r", 500, 505).told("r", 500, 505));
    assert_is(&verdict, None, Unproven);
    assert_eq!(verdict.reasons, [Reason::NoEvidence]);
}

/// Bans are in force while the service is up. Other time can hold offences that nobody answered: the packet filter takes no ban, or
/// bans are simulated.
#[test]
fn time_in_which_nobody_is_banned_proves_nothing() {
    let with = |state: State, seconds: i64| {
        let mut scene = shop();
        scene.changed("a", state, 3000, 3000).changed("a", State::Up, 3000 + seconds, 3000 + seconds);
        judged(scene.banned("a", 1000, 1001))
    };
    for (state, reason) in [
        (State::Down, Reason::Down { length: s(101), outages: 1 }),
        (State::Flapping, Reason::Unobserved { length: s(101) }),
    ] {
        assert_is(&with(state, 100), Some((1, 1)), Outcome::Kept);
        let verdict = with(state, 101);
        assert_is(&verdict, Some((1, 1)), Outcome::Unproven);
        assert_eq!(verdict.reasons, [reason, Reason::LoneObserver]);
    }
    // A ban that certainly came too late is too late all the same.
    let mut scene = shop();
    scene.changed("a", State::Down, 3000, 3000).banned("a", 1000, 1020);
    assert_is(&judged(&mut scene), Some((20, 20)), Outcome::Broken);
}

/// A probe that is down is no offence; nor is a ban an answer to that.
#[test]
fn offences_and_failures_are_apart() {
    let down = |scene: &mut Scene| {
        scene.changed("a", State::Down, 3000, 3010).changed("a", State::Up, 4000, 4010);
    };
    let mut scene = shop();
    scene.changed("a", State::Down, 3000, 3010).changed("a", State::Up, 3020, 3030);
    assert_is(&judged(scene.banned("a", 1000, 1001)), Some((1, 1)), Outcome::Kept);
    let mut scene = Scene::default();
    let (within, over) = (s(180), s(WINDOW));
    let told = Reaction { to: Answered::Failures, service: Some(name(SHOP)), within, observed: percent("99 %"), over };
    scene.policy(0, &simple(&["a"], Objective::Reaction(told))).changed("a", State::Up, 0, 0);
    down(&mut scene);
    assert_is(&judged(scene.banned("a", 3010, 3011)), Some((990, 1000)), Outcome::Broken);
}

/// BX-1. What nobody read can hold offences that nobody answered.
#[test]
fn logs_that_were_not_read_prove_nothing() {
    let with_a_gap = |gap: i64| {
        let mut scene = shop();
        scene.banned("a", 1000, 1001).covered("a", 0, WINDOW, &[(5000, 5000 + gap)]).verdict(WINDOW)
    };
    assert_is(&with_a_gap(100), Some((1, 1)), Outcome::Kept);
    assert_is(&with_a_gap(101), Some((1, 1)), Outcome::Unproven);
    assert_eq!(with_a_gap(101).reasons, [Reason::Unobserved { length: s(101) }, Reason::LoneObserver]);
    // One that was certainly too late is so all the same.
    let mut scene = shop();
    scene.banned("a", 1000, 1020).covered("a", 0, WINDOW, &[(5000, 9000)]);
    assert_is(&scene.verdict(WINDOW), Some((20, 20)), Outcome::Broken);
}

/// Offenders don't wait for the end of announced maintenance.
#[test]
fn maintenance_sets_no_offence_apart() {
    let http = probe("http", SHOP, &["a"], Agreement::Majority);
    let mut scene = Scene::default();
    let promised = vec![promise(&[banned_within(Some(SHOP))])];
    scene.policy(0, &policy(vec![http], vec![maintenance(900, 2000)], promised));
    assert_is(&judged(scene.banned("a", 1000, 1011)), Some((11, 11)), Outcome::Broken);
}

#[test]
fn a_clock_that_stepped_makes_a_wait_doubtful() {
    let stepped = |observer: &str, from: i64, to: i64, at: i64| {
        judged(shop().banned("a", 1000, at).clock_stepped(observer, from, to))
    };
    assert_is(&stepped("a", 1002, 1005, 1006), Some((3, 9)), Outcome::Kept);
    assert_is(&stepped("a", 1005, 1002, 1008), Some((5, 11)), Outcome::Unproven);
    assert_is(&stepped("a", 1005, 1002, 1014), Some((11, 17)), Outcome::Broken);
    // That of another clock, or at another time, bears on nothing.
    assert_is(&stepped("b", 1005, 1002, 1008), Some((8, 8)), Outcome::Kept);
    assert_is(&stepped("a", 2005, 2002, 1008), Some((8, 8)), Outcome::Kept);
}

/// A ban belongs to the window in which it came into force, and as much of the wait as is inside.
#[test]
fn a_wait_is_cut_where_the_window_starts() {
    let with = |since: i64, at: i64| {
        let mut scene = shop();
        scene.banned("a", since, at).covered("a", 0, WINDOW + 1000, &[]);
        scene.verdict(WINDOW + 1000)
    };
    assert_is(&with(990, 1005), Some((5, 5)), Outcome::Kept);
    assert_is(&with(990, 1011), Some((11, 11)), Outcome::Broken);
    assert_is(&with(990, 999), None, Outcome::Unproven);
    assert_is(&with(WINDOW + 990, WINDOW + 999), Some((9, 9)), Outcome::Kept);
    assert_is(&with(WINDOW + 990, WINDOW + 1000), None, Outcome::Unproven);
}

/// Makes another entry of one.
type Alter = fn(&mut Reacted);

#[test]
fn only_bans_for_what_the_service_saw_count() {
    let told = |alter: Alter| {
        let mut reacted = Reacted::to_offence(name("http"), t(1000), t(1001));
        alter(&mut reacted);
        let mut scene = shop();
        scene.tell(Entry { recorded_at: t(1001), observer: name("a"), fact: Fact::Reacted(reacted) });
        judged(&mut scene).outcome
    };
    assert_eq!(told(|_| ()), Outcome::Kept);
    let others: [(&str, Alter); 7] = [
        ("of a finding", |reacted| reacted.finding = Some(name("disk-usage"))),
        ("of a probe of nobody", |reacted| reacted.probe = Some(name("other"))),
        ("of no probe", |reacted| reacted.probe = None),
        ("of a later release", |reacted| reacted.to = ReactedTo::Other),
        ("of a failure", |reacted| reacted.to = ReactedTo::Failure),
        ("of what somebody took on", |reacted| reacted.to = ReactedTo::Acknowledged),
        ("of the time to come", |reacted| reacted.at = t(1007)),
    ];
    for (what, alter) in others {
        assert_eq!(told(alter), Outcome::Unproven, "an entry {what}");
    }
}

/// The policy demands a service; a log that names none is judged all the same.
#[test]
fn without_a_service_all_of_them_are_meant() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], banned_within(None))).changed("a", State::Up, 0, 0);
    assert_is(&judged(scene.banned("a", 1000, 1001)), Some((1, 1)), Outcome::Kept);
}

#[test]
fn evidence_names_the_longest_waits() {
    // The policy, the record, and the bans: the last entry is the record.
    assert_eq!(judged(shop().banned("a", 1000, 1001)).evidence, [0, 2, 3]);
    let mut scene = shop();
    for (second, wait) in (0..20).map(|i| (1000 + 100 * i, if i < 5 { 1 } else { 2 })) {
        scene.banned("a", second, second + wait);
    }
    let expected: Vec<u64> = [0].into_iter().chain(7..21).chain([22]).collect();
    assert_eq!(judged(&mut scene).evidence, expected);
}

/// Bans outlive a save, and go with the window.
#[test]
fn bans_are_saved_and_forgotten() {
    let mut scene = shop();
    scene.banned("a", 1000, 1001);
    let expected = judged(&mut scene);
    let mut rows = std::collections::BTreeMap::new();
    let mut judge = reopened(&mut scene.judge, &mut rows);
    assert_eq!(judge.verdicts(t(WINDOW)), [expected]);
    let bans = |judge: &crate::Judge| judge.observed.bans(&name("http"), between(0, 10 * WINDOW)).count();
    assert_eq!(bans(&judge), 1);
    judge.forget(t(10 * WINDOW));
    assert_eq!(bans(&judge), 0);
}
