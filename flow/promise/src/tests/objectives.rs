//! One story per rule.

use event::evidence::{Changed, Covered, State};
use event::policy::Agreement;
use event::promise::{Outcome, Reason, Verdict};
use event::{Interval, Span, Time};

use super::scene::*;
use crate::fact::Fact;
use crate::objective::{Absence, Configuration, Coverage, Freshness, Objective};

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
    let verdict = scene.verdict(1130);
    assert_eq!((verdict.outcome, verdict.figure), (Outcome::Unproven, None));
    let budget = Reason::Budget { used_at_least: s(0), used_at_most: s(1000), of: s(990) };
    assert_eq!(verdict.reasons, [budget, Reason::NoEvidence, Reason::Unobserved { length: s(1000) }]);

    // A state without coverage is no evidence either, and half of it proves half.
    scene.changed("a", State::Up, 0, 0);
    assert_eq!(scene.verdict(1130).outcome, Outcome::Unproven);
    scene.covered("a", 0, 500, &[]);
    let verdict = scene.verdict(1130);
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Kept, Some((500_000_000, 1_000_000_000))));
    assert!(verdict.reasons.contains(&Reason::Unobserved { length: s(500) }));
}

#[test]
fn observers_vote_and_a_draw_is_undecided() {
    // Whether each observer sees it down; whether it is up by majority, any and all, `None` if undecided.
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
    scene.policy(0, &simple(&["a", "b"], availability("99.99 %", 870)));
    scene.changed("a", State::Up, 0, 0).covered("a", 0, 1000, &[]);
    let verdict = scene.verdict(1000);
    let budget = Reason::Budget { used_at_least: s(0), used_at_most: s(0), of: Span::from_millis(87) };
    assert_eq!((verdict.outcome, verdict.reasons), (Outcome::Kept, vec![budget, Reason::LoneObserver]));
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
    let line = scene.judge.evidence().service(&name(SHOP), between(0, 1000)).line;
    assert_eq!(line.undecided, [between(490, 513)].into_iter().collect());
    assert!(line.down.is_empty());
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
    let verdict = scene.verdict(235);
    assert_eq!(
        (verdict.window, bounds(&verdict)),
        (between(0, 105), Some((1_000_000_000, 1_000_000_000))),
        "recorded at 100, and 5 s of skew"
    );
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
    let state = scene.judge.evidence().service(&name(SHOP), between(0, 1000));
    assert_eq!(state.blind, [between(400, 500)].into_iter().collect());
    assert_eq!(state.line.up, [between(0, 400), between(500, 1000)].into_iter().collect());
}

#[test]
fn coverage_is_what_was_seen_of_every_probe() {
    let objective =
        |at_least| Objective::Coverage(Coverage { service: name(SHOP), at_least: percent(at_least), over: s(1000) });
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], objective("95 %"))).changed("a", State::Up, 0, 0);
    let verdict = scene.verdict(60);
    assert_eq!((verdict.outcome, verdict.window.length()), (Outcome::Unproven, s(0)), "not yet reported: {verdict:?}");
    scene.covered("a", 0, 1000, &[(300, 400)]);
    let verdict = scene.verdict(1000);
    assert_eq!((verdict.outcome, bounds(&verdict)), (Outcome::Broken, Some((900_000_000, 900_000_000))));
    assert!(verdict.reasons.contains(&Reason::Unobserved { length: s(100) }));
    // Ten minutes later nothing more was reported: two of them may still be, and the rest nobody observed.
    let verdict = scene.verdict(1600);
    assert_eq!((verdict.window, bounds(&verdict)), (between(470, 1470), Some((530_000_000, 530_000_000))));
}

/// Pings; what was not listened to; the figure in seconds, and what it comes to.
type Silence<'a> = (&'a str, &'a [i64], &'a [(i64, i64)], (i64, i64), Outcome);

#[test]
fn a_heartbeat_is_as_fresh_as_its_longest_gap() {
    let objective = Objective::Freshness(Freshness { probe: name("http"), at_most: s(100), over: s(1000) });
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
    assert!(verdict.reasons.contains(&Reason::Down { length: s(190), outages: 1 }), "{verdict:?}");
}

#[test]
fn configuration_and_absence_must_hold_at_every_moment() {
    let probe =
        Objective::Configuration(Configuration { probe: name("http"), observed: percent("90 %"), over: s(1000) });
    let finding = Objective::Absence(Absence { finding: name("disk-usage"), observed: percent("90 %"), over: s(1000) });
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

/// A verdict speaks up to where everybody's records reach; who is silent is waited for until his next look is two minutes late.
#[test]
fn a_window_ends_where_the_records_do() {
    let slow = |every: i64| {
        let mut slow = probe("slow", SHOP, &["b.watch"], Agreement::Majority);
        slow.every = s(every);
        let http = probe("http", SHOP, &["a.watch"], Agreement::Majority);
        policy(vec![http, slow], vec![], vec![promise(&[availability("99 %", 10_000)])])
    };
    let mut scene = Scene::default();
    scene.policy(0, &slow(10)).covered("a.watch", 0, 600, &[]).covered("b.watch", 0, 540, &[]);
    assert_eq!(scene.verdict(610).window, between(0, 540));
    assert_eq!(scene.verdict(610).at, t(610));
    assert_eq!(scene.verdict(700).window, between(0, 570), "10 s between two looks, and two minutes late");
    assert_eq!(scene.verdict(300).window, between(0, 300), "never beyond the instant of the verdict");
    assert_eq!(scene.verdict(20).window, between(0, 20));
    // A probe that is asked each quarter of an hour is reported as seldom, in records of its own.
    let mut scene = Scene::default();
    scene.policy(0, &slow(900)).covered("a.watch", 0, 1800, &[]).covered("b.watch", 0, 1800, &[]);
    assert_eq!(scene.verdict(1810).window, between(0, 790), "records by the minute do not speak of it");
    scene.covered_every("b.watch", Some(900), 0, 900);
    assert_eq!(scene.verdict(1810).window, between(0, 900));
    assert_eq!(scene.verdict(3000).window, between(0, 1980), "900 s and two minutes");
    // Before anybody reported there is nothing to say.
    let mut scene = Scene::default();
    scene.policy(0, &slow(10));
    assert_eq!((scene.verdict(50).window, scene.verdict(50).figure), (between(0, 0), None));
}

/// A budget is what may go wrong over the whole window: 99.9 % of 30 days are 43 min 12 s.
#[test]
fn a_young_promise_is_broken_only_by_more_than_its_budget() {
    let month = 30 * DAY;
    let budget = 43 * 60 + 12;
    // Down for so long in the first hours; what it comes to.
    let cases =
        [(1, Outcome::Unproven), (budget, Outcome::Unproven), (budget + 1, Outcome::Broken), (0, Outcome::Kept)];
    for (length, outcome) in cases {
        let mut scene = Scene::default();
        scene.policy(0, &simple(&["a"], availability("99.9 %", month))).changed("a", State::Up, 0, 0);
        if length > 0 {
            scene.changed("a", State::Down, 100, 100).changed("a", State::Up, 100 + length, 100 + length);
        }
        let now = if length == 1 { 660 } else { 10 * 3600 };
        scene.covered("a", 0, now, &[]);
        let verdict = scene.verdict(now);
        assert_eq!(verdict.outcome, outcome, "{length}: {verdict:?}");
        let used = s(length);
        let expected = Reason::Budget { used_at_least: used, used_at_most: used, of: s(budget) };
        assert_eq!(verdict.reasons[..2], [Reason::WindowFilling { elapsed: s(now), length: s(month) }, expected]);
    }
    // One second of ten minutes is more than half of nothing yet, and far from half of the budget.
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], availability("99.9 %", month))).changed("a", State::Up, 0, 0);
    scene.changed("a", State::Down, 100, 100).changed("a", State::Up, 1400, 1400).covered("a", 0, 20 * DAY, &[]);
    let verdict = scene.verdict(20 * DAY);
    assert_eq!(verdict.outcome, Outcome::Kept);
    assert!(verdict.reasons.contains(&Reason::AtRisk), "1300 s of 2592 s: {verdict:?}");
}

/// Announced maintenance has no part in the budget either.
#[test]
fn maintenance_makes_the_budget_smaller() {
    let mut scene = Scene::default();
    let http = probe("http", SHOP, &["a"], Agreement::Majority);
    let promised = vec![promise(&[availability("90 %", 10_000)])];
    scene.policy(0, &policy(vec![http], vec![maintenance(100, 600)], promised)).changed("a", State::Up, 0, 0);
    scene.covered("a", 0, 1000, &[(700, 710)]);
    let verdict = scene.verdict(1000);
    let budget = Reason::Budget { used_at_least: s(0), used_at_most: s(10), of: s(950) };
    assert!(verdict.reasons.contains(&budget), "{verdict:?}");
    assert_eq!(verdict.outcome, Outcome::Kept);
}

/// The promises of a starter policy, two minutes after its first start: a site that fails its first answer, and 1.9 s before
/// the first sample that nobody looked.
#[test]
fn the_first_two_minutes_prove_nothing_and_break_nothing() {
    let days = |days: i64| days * DAY;
    let coverage =
        |over| Objective::Coverage(Coverage { service: name(SHOP), at_least: percent("99 %"), over: s(over) });
    let objectives: Vec<Objective> = [30, 180, 365].map(|over| availability("99.9 %", days(over))).into();
    let objectives = [objectives, vec![coverage(days(30))]].concat();
    let http = probe("http", SHOP, &["here.watch"], Agreement::Majority);
    let mut scene = Scene::default();
    scene.policy(0, &policy(vec![http], vec![], vec![promise(&objectives)]));
    let at = |micros: i64| Time::from_micros(micros);
    let tell = |scene: &mut Scene, recorded_at: i64, fact: Fact| {
        scene.tell(Entry { recorded_at: t(recorded_at), observer: name("here.watch"), fact });
    };
    let revision = scene.judge.policy().expect("told").revision.clone();
    let changed =
        |state, after, by| Changed { probe: name("http"), service: name(SHOP), state, after: at(after), by: at(by) };
    tell(&mut scene, 2, Fact::Changed(changed(State::Down, 1_900_000, 1_900_000)));
    tell(&mut scene, 12, Fact::Changed(changed(State::Up, 1_850_000, 9_900_000)));
    for minute in 0..2 {
        let interval = Interval::new(at((minute * 60_000_000).max(1_900_000)), t(minute * 60 + 60));
        let covered = Covered { interval, revision: revision.clone(), every: None, gaps: vec![] };
        tell(&mut scene, minute * 60 + 60, Fact::Covered(covered));
    }
    let verdicts = scene.judge.verdicts(t(121));
    assert_eq!(verdicts.len(), 4);
    for verdict in &verdicts {
        assert_eq!(verdict.outcome, Outcome::Unproven, "{verdict:?}");
        assert_eq!(verdict.window, between(0, 120));
    }
    let budget = |verdict: &Verdict| match verdict.reasons[1] {
        Reason::Budget { used_at_least, used_at_most, of } => (used_at_least, used_at_most, of),
        _ => panic!("{verdict:?}"),
    };
    // Down and up within one turn: nobody can say how long. And nobody looked for the first 1.9 s.
    assert_eq!(budget(&verdicts[0]), (s(0), Span::from_millis(9_900), s(43 * 60 + 12)));
    assert_eq!(budget(&verdicts[3]), (Span::from_millis(1_900), Span::from_millis(1_900), s(7 * 3600 + 12 * 60)));

    // Down for certain, for the 50 s after that.
    tell(&mut scene, 130, Fact::Changed(changed(State::Down, 125_000_000, 125_000_000)));
    tell(&mut scene, 176, Fact::Changed(changed(State::Up, 175_000_000, 175_000_000)));
    let covered = Covered { interval: between(120, 180), revision, every: None, gaps: vec![] };
    tell(&mut scene, 181, Fact::Covered(covered));
    for verdict in scene.judge.verdicts(t(181)).iter().take(3) {
        assert_eq!(verdict.outcome, Outcome::Unproven, "{verdict:?}");
        assert_eq!(budget(verdict).0, s(50));
    }
}

/// One finding that could not be looked for is a gap of that finding: the probe was observed, and so were the others.
#[test]
fn a_gap_of_a_finding_is_not_a_gap_of_its_probe() {
    let absence =
        |finding| Objective::Absence(Absence { finding: name(finding), observed: percent("90 %"), over: s(1000) });
    let http = probe("http", SHOP, &["a"], Agreement::Majority);
    let objectives = [absence("disk-usage"), absence("raid-degraded"), availability("99 %", 1000)];
    let mut applied = policy(vec![http], vec![], vec![promise(&objectives)]);
    let mut other = applied.findings[0].clone();
    other.finding = name("raid-degraded");
    applied.findings.push(other);
    applied.revision = crate::revision::of_policy(&applied);
    let mut scene = Scene::default();
    scene.policy(0, &applied).changed("a", State::Up, 0, 0).covered("a", 0, 1000, &[]);
    let mut last = scene.entries.last().expect("told").clone();
    if let Fact::Covered(coverage) = &mut last.fact {
        let gap = |finding| event::evidence::Gap { probe: name("http"), finding, interval: between(200, 400) };
        coverage.gaps = vec![gap(Some(name("disk-usage")))];
    }
    scene.tell(last);
    let outcomes: Vec<_> = scene.judge.verdicts(t(1000)).iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unproven, Outcome::Kept, Outcome::Kept]);
}

/// A clock is shared by all that observe from one place, and by nobody else.
#[test]
fn a_stepped_clock_is_doubtful_for_its_whole_vantage() {
    for (who, kept) in [("a.watch", false), ("a.guard", false), ("a.b.watch", true), ("b.watch", true)] {
        let mut scene = Scene::default();
        scene.policy(0, &simple(&["a.watch"], availability("99 %", 1000))).changed("a.watch", State::Up, 0, 0);
        scene.clock_stepped(who, 400, 600).covered("a.watch", 0, 1000, &[]);
        assert_eq!(scene.verdict(1000).outcome == Outcome::Kept, kept, "{who}");
    }
}

/// What was told more than a day ago is not compared any more: told anew, it is undecided.
#[test]
fn what_is_told_anew_of_long_ago_is_undecided() {
    for (after, high, low) in [(2 * DAY - 3600, 4, 4), (2 * DAY - DAY - 1, 4, 3)] {
        let mut scene = Scene::default();
        scene.policy(0, &simple(&["a"], availability("99 %", 4 * DAY))).changed("a", State::Up, 0, 0);
        scene.changed("a", State::Up, 2 * DAY, 2 * DAY).changed("a", State::Up, after, after);
        scene.covered("a", 0, 4 * DAY, &[]);
        let (lower, upper) = bounds(&scene.verdict(4 * DAY)).expect("measured");
        assert_eq!(upper, high * 250_000_000);
        assert_eq!((lower + 3000) / 250_000_000, low, "{after}: {lower}");
    }
}
