//! One story per rule.

use event::evidence::{Changed, State};
use event::policy::{Agreement, Objective};
use event::promise::{Outcome, Reason};

use super::scene::*;
use crate::ServiceState;
use crate::fact::Fact;

const DAY: i64 = 86_400;

/// AV-1. A peer that counts checks makes 99.972 % of this month; 4 minutes of 30 days are 99.991 % (issue 5401 of Uptime
/// Kuma, and its like).
#[test]
fn a_month_with_an_outage_of_four_minutes_is_99_991_percent() {
    let month = 30 * DAY;
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99.99 %", month)));
    scene.changed("a", State::Up, 0, 0);
    // Checked every 60 s; once it failed, every 20 s. Each check lasts no time here, and the outage is 4 min exactly.
    scene.changed("a", State::Down, 10 * DAY, 10 * DAY);
    scene.changed("a", State::Up, 10 * DAY + 240, 10 * DAY + 240);
    scene.covered("a", 0, month, &[]);
    let verdict = scene.verdict(month);
    let (low, high) = bounds(&verdict).expect("measured");
    assert_eq!((low, high), (999_907_407, 999_907_408), "99.991 %, rounded outwards");
    assert_eq!(verdict.outcome, Outcome::Kept);
    assert!(verdict.reasons.contains(&Reason::AtRisk), "4 min of 4 min 19 s are spent: {:?}", verdict.reasons);

    // With the brackets of real checks the figure is an interval, and still does not reach down to 99.972 %.
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99.99 %", month)));
    scene.changed("a", State::Up, 0, 0);
    scene.changed("a", State::Down, 10 * DAY - 30, 10 * DAY + 30);
    scene.changed("a", State::Up, 10 * DAY + 230, 10 * DAY + 250);
    scene.covered("a", 0, month, &[]);
    let verdict = scene.verdict(month);
    let (low, high) = bounds(&verdict).expect("measured");
    assert!(low > 999_720_000 && low <= 999_907_407 && high >= 999_907_408, "[{low}, {high}]");
    assert_eq!(verdict.outcome, Outcome::Unproven, "checks every minute can't prove four nines here");
}

/// BX-1. No evidence is not a kept promise.
#[test]
fn what_nobody_observed_is_unproven() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("1 %", 1000)));
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, verdict.figure), (Outcome::Unproven, None));
    assert_eq!(verdict.reasons, [Reason::NoEvidence, Reason::Unobserved { length: s(1000) }]);

    // A state without coverage is no evidence either, and half of it proves half.
    scene.changed("a", State::Up, 0, 0);
    assert_eq!(scene.verdict(1000).outcome, Outcome::Unproven);
    scene.covered("a", 0, 500, &[]);
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Kept, Some((500_000_000, 1_000_000_000))));
    assert!(verdict.reasons.contains(&Reason::Unobserved { length: s(500) }));
}

#[test]
fn observers_vote_and_a_draw_is_undecided() {
    // Who sees it down; whether the majority, any and all of them make it up.
    let cases: [(&[bool], [Option<bool>; 3]); 4] = [
        (&[true, true, false], [Some(false), Some(false), Some(true)]),
        (&[true, false], [None, Some(false), Some(true)]),
        (&[true, true, true], [Some(false); 3]),
        (&[false, false, false], [Some(true); 3]),
    ];
    for (sees_down, expected) in cases {
        for (agreement, expected) in [Agreement::Majority, Agreement::Any, Agreement::All].into_iter().zip(expected) {
            let observers = &["a", "b", "c"][..sees_down.len()];
            let http = probe("http", SHOP, observers, agreement);
            let mut scene = Scene::default();
            scene.policy(0, &policy(vec![http], vec![], vec![promise(&[availability("50 %", 100)])]));
            for (observer, down) in observers.iter().zip(sees_down) {
                scene.changed(observer, if *down { State::Down } else { State::Up }, 0, 0);
                scene.covered(observer, 0, 100, &[]);
            }
            let all = 1_000_000_000;
            let expected = expected.map_or((0, all), |up| if up { (all, all) } else { (0, 0) });
            assert_eq!(bounds(&scene.verdict(100)), Some(expected), "{sees_down:?} {agreement:?}");
        }
    }
}

#[test]
fn one_observer_covers_for_the_restart_of_another() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a", "b"], availability("99.99 %", 1000)));
    for observer in ["a", "b"] {
        scene.changed(observer, State::Up, 0, 0);
    }
    scene.covered("a", 0, 1000, &[(300, 400)]).covered("b", 0, 1000, &[(600, 700)]);
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Kept, Some((1_000_000_000, 1_000_000_000))));
    assert!(!verdict.reasons.contains(&Reason::LoneObserver));

    // The same from one only is kept, and says that nobody confirms it.
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a", "b"], availability("99.99 %", 1000)));
    scene.changed("a", State::Up, 0, 0).covered("a", 0, 1000, &[]);
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, verdict.reasons), (Outcome::Kept, vec![Reason::LoneObserver]));
}

#[test]
fn degraded_is_up_and_flapping_is_nothing() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("50 %", 1000)));
    scene.changed("a", State::Up, 0, 0).changed("a", State::Degraded, 100, 110).changed("a", State::Flapping, 400, 400);
    scene.changed("a", State::Up, 500, 500).covered("a", 0, 1000, &[]);
    assert_eq!(bounds(&scene.verdict(1000)), Some((900_000_000, 1_000_000_000)));
}

/// Someone who tells the past anew makes it less certain, never better (BX-4).
#[test]
fn a_late_entry_excuses_nothing() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
    scene.changed("a", State::Up, 0, 0).changed("a", State::Down, 500, 500).changed("a", State::Up, 600, 600);
    scene.covered("a", 0, 1000, &[]);
    assert_eq!(bounds(&scene.verdict(1000)), Some((900_000_000, 900_000_000)));
    scene.changed("a", State::Up, 400, 400);
    let verdict = scene.verdict(1000);
    assert_eq!(bounds(&verdict), Some((800_000_000, 1_000_000_000)));
    assert_eq!(verdict.outcome, Outcome::Unproven);
}

/// A state that lasted for one sample: the brackets before and after it overlap, and nothing is certain.
#[test]
fn a_single_bad_sample_is_undecided() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
    scene.changed("a", State::Up, 1, 1);
    // Samples of 3 s start at 490, 500 and 510; the one at 500 is bad.
    scene.changed("a", State::Down, 490, 503).changed("a", State::Up, 500, 513).covered("a", 0, 1000, &[]);
    let timeline = scene.judge.timeline(&name(SHOP), between(0, 1000));
    assert_eq!(timeline.undecided, [between(490, 513)].into_iter().collect());
    assert!(timeline.down.is_empty());
}

#[test]
fn the_window_fills_from_the_declaration_and_anew_with_each_revision() {
    let year = availability("99 %", 1000);
    let declared = simple(&["a"], year.clone());
    let mut scene = Scene::default();
    scene.policy(100, &declared);
    scene.changed("a", State::Up, 0, 0).covered("a", 0, 2000, &[]);
    let filling = |elapsed| Reason::WindowFilling { elapsed: s(elapsed), length: s(1000) };
    assert_eq!(scene.verdict(400).window, between(100, 400));
    assert!(scene.verdict(400).reasons.contains(&filling(300)));
    assert_eq!(scene.verdict(1500).window, between(500, 1500));
    assert!(!scene.verdict(1500).reasons.iter().any(|r| matches!(r, Reason::WindowFilling { .. })));

    // Applied again, with something else beside it: the same revision goes on.
    let mut beside = declared.clone();
    beside.probes.push(probe("other", "mail", &["a"], Agreement::Majority));
    beside.revision = crate::revision::of_policy(&beside);
    scene.policy(1500, &beside);
    assert_eq!(scene.verdict(1600).window, between(600, 1600));

    // Relaxed: another revision, another window.
    scene.policy(1600, &simple(&["a"], availability("98 %", 1000)));
    assert_eq!(scene.verdict(1700).window, between(1600, 1700));
    // Gone, and back as it was: anew as well.
    scene.policy(1700, &policy(vec![probe("http", SHOP, &["a"], Agreement::Majority)], vec![], vec![]));
    assert_eq!(scene.judge.verdicts(t(1750)), []);
    scene.policy(1800, &declared);
    assert_eq!(scene.verdict(1900).window, between(1800, 1900));
}

/// Maintenance windows, by when the policy that holds them was recorded.
type Announcements<'a> = &'a [(i64, &'a [(i64, i64)])];

#[test]
fn only_maintenance_announced_before_the_trouble_is_set_apart() {
    let up_until = |outage: i64| {
        move |windows: Announcements<'_>| {
            let mut scene = Scene::default();
            for (recorded_at, windows) in windows {
                let windows = windows.iter().map(|(start, end)| maintenance(*start, *end)).collect();
                let http = probe("http", SHOP, &["a"], Agreement::Majority);
                scene.policy(*recorded_at, &policy(vec![http], windows, vec![promise(&[availability("99 %", 1000)])]));
            }
            scene.changed("a", State::Up, 0, 0).changed("a", State::Down, outage, outage);
            scene.changed("a", State::Up, 700, 700).covered("a", 0, 1000, &[]);
            down(&scene.verdict(1000))
        }
    };
    // The service is down in [500, 700); what is left of it, by what was announced when.
    let cases: [(&str, Announcements<'_>, i64); 9] = [
        ("nothing", &[(0, &[])], 200),
        ("announced", &[(0, &[]), (400, &[(450, 650)])], 50),
        ("after the window began", &[(0, &[]), (460, &[(450, 750)])], 200),
        ("during the outage, for what is left of it", &[(0, &[]), (510, &[(520, 750)])], 200),
        ("withdrawn before", &[(0, &[(450, 650)]), (400, &[])], 200),
        ("withdrawn while it ran", &[(0, &[(450, 650)]), (600, &[])], 100),
        ("shortened while it ran", &[(0, &[(450, 750)]), (600, &[(450, 650)])], 50),
        ("lengthened while it ran", &[(0, &[(450, 600)]), (550, &[(450, 750)])], 100),
        ("a second one announced before either", &[(0, &[(450, 600), (600, 750)])], 0),
    ];
    for (what, windows, expected) in cases {
        assert_eq!(up_until(500)(windows), expected, "{what}");
    }
}

#[test]
fn a_clock_that_stepped_proves_nothing_in_between() {
    for (from, to) in [(400, 600), (600, 400)] {
        let mut scene = Scene::default();
        scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
        scene.changed("a", State::Up, 0, 0).clock_stepped("a", from, to).covered("a", 0, 1000, &[]);
        let verdict = scene.verdict(1000);
        assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Unproven, Some((800_000_000, 1_000_000_000))));
    }
}

#[test]
fn nobody_observes_the_future_or_for_a_policy_that_does_not_ask() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
    scene.changed("a", State::Up, 0, 0).changed("b", State::Up, 0, 0).covered("b", 0, 1000, &[]);
    assert_eq!(scene.verdict(1000).figure, None, "b was not asked");
    scene.covered("a", 0, 100, &[]);
    let mut last = scene.entries.last().expect("told").clone();
    if let crate::fact::Fact::Covered(coverage) = &mut last.fact {
        coverage.interval = between(100, 1000);
    }
    scene.tell(last);
    assert_eq!(bounds(&scene.verdict(1000)), Some((105_000_000, 1_000_000_000)), "recorded at 100, and 5 s of skew");
}

#[test]
fn probes_count_while_they_are_declared() {
    let http = probe("http", SHOP, &["a"], Agreement::Majority);
    let second = probe("second", SHOP, &["a"], Agreement::Majority);
    let promised = vec![promise(&[availability("99 %", 1000)])];
    let mut scene = Scene::default();
    scene.policy(0, &policy(vec![http.clone()], vec![], promised.clone()));
    scene.changed("a", State::Up, 0, 0).covered("a", 0, 400, &[]);
    // A probe is added that nobody has a state of, until it is removed.
    scene.policy(400, &policy(vec![http.clone(), second], vec![], promised.clone())).covered("a", 400, 500, &[]);
    scene.policy(500, &policy(vec![http], vec![], promised)).covered("a", 500, 1000, &[]);
    let timeline = scene.judge.timeline(&name(SHOP), between(0, 1000));
    assert_eq!(timeline.unknown, [between(400, 500)].into_iter().collect());
    assert_eq!(timeline.up, [between(0, 400), between(500, 1000)].into_iter().collect());
}

#[test]
fn coverage_is_what_was_seen_of_every_probe() {
    let objective = |at_least| Objective::Coverage { service: name(SHOP), at_least: percent(at_least), over: s(1000) };
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], objective("95 %"))).changed("a", State::Up, 0, 0);
    let verdict = scene.verdict(60);
    assert_eq!(verdict.outcome, Outcome::Unproven, "the first minute is not yet reported: {verdict:?}");
    scene.covered("a", 0, 1000, &[(300, 400)]);
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Broken, Some((900_000_000, 900_000_000))));
    assert!(verdict.reasons.contains(&Reason::Unobserved { length: s(100) }));
    // Ten minutes later nothing more was reported: two of them may still be.
    assert_eq!(bounds(&scene.verdict(1600)), Some((400_000_000, 520_000_000)));
}

/// Pings; what was not listened to; the figure in seconds, and what it comes to.
type Silence<'a> = (&'a str, &'a [i64], &'a [(i64, i64)], (i64, i64), Outcome);

#[test]
fn a_heartbeat_is_as_fresh_as_its_longest_gap() {
    let objective = Objective::Freshness { probe: name("http"), at_most: s(100), over: s(1000) };
    let every_90 = [90, 180, 270, 360, 450, 540, 630, 720, 810, 900, 990];
    let without_450 = [90, 180, 270, 360, 540, 630, 720, 810, 900, 990];
    let cases: [Silence<'_>; 6] = [
        ("on time", &every_90, &[], (90, 90), Outcome::Kept),
        ("one missed", &without_450, &[], (180, 180), Outcome::Broken),
        ("one missed while nobody listened", &without_450, &[(440, 460)], (90, 180), Outcome::Unproven),
        ("one missed, and nobody listened later", &without_450, &[(650, 700)], (180, 180), Outcome::Broken),
        ("stopped", &every_90[..5], &[], (550, 550), Outcome::Broken),
        ("never", &[], &[(0, 960)], (40, 1000), Outcome::Unproven),
    ];
    for (what, pings, gaps, (low, high), outcome) in cases {
        let mut scene = Scene::default();
        scene.policy(0, &simple(&["a"], objective.clone()));
        for at in pings {
            scene.pinged("a", *at);
        }
        scene.covered("a", 0, 1000, gaps);
        let verdict = scene.verdict(1000);
        let figure = (s(low).micros(), s(high).micros());
        assert_eq!((bounds(&verdict), verdict.outcome), (Some(figure), outcome), "{what}");
    }
    // Young, silent, and not yet too old: nothing is proved.
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], objective.clone())).covered("a", 0, 60, &[]);
    let verdict = scene.verdict(60);
    assert_eq!(verdict.outcome, Outcome::Unproven);
    assert!(verdict.reasons.contains(&Reason::NoEvidence));
    // A clock put back makes a gap of 190 s look like one of 90 s.
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], objective));
    scene.pinged("a", 90).clock_stepped("a", 170, 70).pinged("a", 180).covered("a", 0, 200, &[]);
    assert_eq!(scene.verdict(200).figure.map(|f| f.high), Some(s(190).micros()));
}

/// A state told with a clock that was ahead does not reach further than the telling: what is told later still counts.
#[test]
fn nobody_tells_the_future() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
    let ahead = Changed { probe: name("http"), service: name(SHOP), state: State::Up, after: t(9_000), by: t(9_000) };
    scene.tell(Entry { recorded_at: t(10), observer: name("a"), fact: Fact::Changed(ahead) });
    scene.changed("a", State::Down, 500, 510).changed("a", State::Up, 700, 710).covered("a", 0, 1000, &[]);
    let verdict = scene.verdict(1000);
    assert_eq!(verdict.outcome, Outcome::Broken, "{verdict:?}");
    assert_eq!(verdict.reasons[0], Reason::Down { length: s(190), outages: 1 });
}

#[test]
fn configuration_and_absence_must_hold_at_every_moment() {
    let probe = Objective::Configuration { probe: name("http"), observed: percent("90 %"), over: s(1000) };
    let finding = Objective::Absence { finding: name("disk-usage"), observed: percent("90 %"), over: s(1000) };
    // Bad from, until; bracket; gap; what it comes to.
    let cases = [
        ("always well", None, 0, 0, Outcome::Kept),
        ("a second bad", Some((500, 501)), 0, 0, Outcome::Broken),
        ("perhaps bad", Some((500, 501)), 1, 0, Outcome::Unproven),
        ("well as far as seen", None, 0, 90, Outcome::Kept),
        ("not seen enough", None, 0, 110, Outcome::Unproven),
        ("bad as far as seen", Some((500, 501)), 0, 400, Outcome::Broken),
    ];
    for (what, bad, bracket, gap, expected) in cases {
        let mut conforming = Scene::default();
        conforming.policy(0, &simple(&["a"], probe.clone())).changed("a", State::Up, 0, 0);
        let mut absent = Scene::default();
        absent.policy(0, &simple(&["a"], finding.clone()));
        if let Some((from, until)) = bad {
            conforming.changed("a", State::Down, from, from + bracket).changed("a", State::Up, until, until + bracket);
            absent.finding("a", true, from, from + bracket).finding("a", false, until, until + bracket);
        }
        for scene in [&mut conforming, &mut absent] {
            scene.covered("a", 0, 1000, &[(0, gap)]);
            let verdict = scene.verdict(1000);
            assert_eq!(verdict.outcome, expected, "{what}: {verdict:?}");
        }
    }
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], finding));
    assert_eq!(scene.verdict(1000).outcome, Outcome::Unproven, "silence without coverage is no news");
}

#[test]
fn evidence_names_what_bounds_the_longest_outages() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 10_000))).changed("a", State::Up, 0, 0);
    for i in 0..20 {
        let start = 100 + 100 * i;
        scene.changed("a", State::Down, start, start).changed("a", State::Up, start + 20 + i, start + 20 + i);
    }
    scene.covered("a", 0, 10_000, &[]);
    let verdict = scene.verdict(10_000);
    assert_eq!(verdict.evidence.len(), 16);
    assert!(verdict.evidence.is_sorted());
    let last_outage = [40, 41];
    for sequence in [0, 42].into_iter().chain(last_outage) {
        assert!(verdict.evidence.contains(&sequence), "{sequence} in {:?}", verdict.evidence);
    }
    assert!(!verdict.evidence.contains(&2), "the shortest outage weighs least");
}

#[test]
fn judging_waits_for_reports_but_not_for_ever() {
    let mut scene = Scene::default();
    assert_eq!(scene.judge.settled(t(50)), t(50), "nobody to wait for");
    scene.policy(0, &simple(&["a", "b"], availability("99 %", 1000)));
    scene.covered("a", 0, 600, &[]).covered("b", 0, 540, &[]);
    assert_eq!(scene.judge.settled(t(610)), t(540));
    assert_eq!(scene.judge.settled(t(700)), t(580));
}

#[test]
fn the_state_of_now_does_not_wait_for_coverage() {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99 %", 1000)));
    let shop = name(SHOP);
    assert_eq!(scene.judge.service_state(&shop, t(1)), ServiceState::Unknown);
    scene.changed("a", State::Up, 1, 1);
    assert_eq!(scene.judge.service_state(&shop, t(2)), ServiceState::Up);
    scene.covered("a", 0, 60, &[]).changed("a", State::Down, 60, 70);
    assert_eq!(scene.judge.service_state(&shop, t(65)), ServiceState::Undecided);
    assert_eq!(scene.judge.service_state(&shop, t(71)), ServiceState::Down);
    assert_eq!(scene.judge.service_state(&shop, t(191)), ServiceState::Unknown, "not heard of for two minutes");
}
