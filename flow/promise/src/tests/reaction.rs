//! How soon somebody was told of a failure: one story per sentence of the rule (WA-3).

use event::evidence::{Changed, Reacted, ReactedTo, State};
use event::policy::{Agreement, Service, Text};
use event::promise::{Outcome, Reason, Verdict};

use super::scene::*;
use crate::fact::Fact;
use crate::objective::{Answered, Objective, Reaction};

const WINDOW: i64 = 10_000;
const WITHIN: i64 = 180;

fn reaction(service: Option<&str>) -> Objective {
    let (service, within) = (service.map(name), s(WITHIN));
    Objective::Reaction(Reaction {
        to: Answered::Failures,
        service,
        within,
        observed: percent("99 %"),
        over: s(WINDOW),
    })
}

/// The shop, watched by `a` from the beginning and up; promised is the reaction to its failures.
fn shop() -> Scene {
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], reaction(Some(SHOP)))).changed("a", State::Up, 0, 0);
    scene
}

/// Down from 1010 for certain; up again at 2010, and for certain not before 2000.
fn with_a_long_failure(scene: &mut Scene) -> &mut Scene {
    scene.changed("a", State::Down, 1000, 1010).changed("a", State::Up, 2000, 2010)
}

/// Down from 1010 until perhaps `after` and at most `by`.
fn down_until(scene: &mut Scene, after: i64, by: i64) -> &mut Scene {
    scene.changed("a", State::Down, 1000, 1010).changed("a", State::Up, after, by)
}

fn judged(scene: &mut Scene) -> Verdict {
    scene.covered("a", 0, WINDOW, &[]).verdict(WINDOW)
}

#[track_caller]
fn assert_is(verdict: &Verdict, figure: Option<(i64, i64)>, outcome: Outcome) {
    let figure = figure.map(|(low, high)| (s(low).micros(), s(high).micros()));
    assert_eq!((bounds(verdict), verdict.outcome), (figure, outcome), "{verdict:?}");
}

/// What is told of the outages; the figure in seconds, and what it comes to.
type Story<'a> = (&'a str, fn(&mut Scene) -> &mut Scene, Option<(i64, i64)>, Outcome);

#[test]
fn somebody_is_told_in_time_or_not() {
    use Outcome::{Broken, Kept, Unproven};
    let stories: [Story<'_>; 14] = [
        ("in time", |s| with_a_long_failure(s).told("r", 1010, 1060), Some((50, 50)), Kept),
        ("just in time", |s| with_a_long_failure(s).told("r", 1010, 1190), Some((180, 180)), Kept),
        ("a second late", |s| with_a_long_failure(s).told("r", 1010, 1191), Some((181, 181)), Broken),
        ("twice", |s| with_a_long_failure(s).told("r", 1010, 1500).told("r", 1010, 1020), Some((10, 10)), Kept),
        ("afterwards", |s| with_a_long_failure(s).told("r", 1010, 5000), Some((3990, 3990)), Broken),
        ("never", |s| with_a_long_failure(s), Some((990, 1000)), Broken),
        ("before all observers agreed", |s| with_a_long_failure(s).told("r", 1005, 1006), Some((0, 0)), Kept),
        ("never, and over before", |s| down_until(s, 1100, 1110), None, Unproven),
        ("late, and over before", |s| down_until(s, 1100, 1110).told("r", 1010, 5000), None, Unproven),
        ("in time, and over before", |s| down_until(s, 1100, 1110).told("r", 1010, 1020), Some((10, 10)), Kept),
        ("never, and perhaps over before", |s| down_until(s, 1180, 1200), Some((0, 190)), Unproven),
        (
            "late, and perhaps over before",
            |s| down_until(s, 1180, 1200).told("r", 1010, 1300),
            Some((0, 290)),
            Unproven,
        ),
        ("perhaps a failure", |s| s.changed("a", State::Flapping, 1010, 1010), Some((0, 8990)), Unproven),
        ("nothing failed, no test", |s| s, None, Unproven),
    ];
    for (what, story, figure, outcome) in stories {
        let mut scene = shop();
        story(&mut scene);
        let verdict = judged(&mut scene);
        let seconds = bounds(&verdict).map(|(low, high)| (low / 1_000_000, high / 1_000_000));
        assert_eq!((seconds, verdict.outcome), (figure, outcome), "{what}: {verdict:?}");
        let is_proved = figure.is_some() && what != "perhaps a failure";
        assert_eq!(!verdict.reasons.contains(&Reason::NoEvidence), is_proved, "{what}: {verdict:?}");
    }
}

#[test]
fn a_failure_under_way_is_as_long_as_it_is_seen() {
    let at = |end: i64| {
        let mut scene = shop();
        scene.changed("a", State::Down, 1000, 1010).tested("r", 500, 505).covered("a", 0, end, &[]).verdict(end)
    };
    assert_is(&at(1190), Some((5, 5)), Outcome::Kept);
    assert_is(&at(1191), Some((0, 181)), Outcome::Unproven);
    // An entry may be as late as a record.
    assert_is(&at(1309), Some((0, 299)), Outcome::Unproven);
    assert_is(&at(1310), Some((300, 300)), Outcome::Broken);
}

#[test]
fn a_test_message_is_the_evidence_where_nothing_failed() {
    assert_is(&judged(shop().tested("r", 500, 505).tested("r", 700, 720)), Some((20, 20)), Outcome::Kept);
    assert_is(&judged(shop().tested("r", 500, 681)), Some((181, 181)), Outcome::Broken);
    let verdict = judged(with_a_long_failure(&mut shop()).told("r", 1010, 1060).tested("r", 500, 681));
    assert_is(&verdict, Some((50, 50)), Outcome::Kept);
    // What asked for nobody leaves the test messages to speak.
    assert_is(&judged(down_until(&mut shop(), 1100, 1110).tested("r", 500, 505)), Some((5, 5)), Outcome::Kept);
    // One before the window is none.
    let mut scene = shop();
    scene.tested("r", 500, 505).covered("a", 0, 2 * WINDOW, &[]);
    assert_is(&scene.verdict(2 * WINDOW), None, Outcome::Unproven);
}

/// BX-1. Failures that nobody could see prove nothing.
#[test]
fn what_nobody_observed_proves_no_reaction() {
    let with_a_gap = |gap: i64| {
        let mut scene = shop();
        with_a_long_failure(&mut scene).told("r", 1010, 1060).covered("a", 0, WINDOW, &[(5000, 5000 + gap)]);
        scene.verdict(WINDOW)
    };
    assert_is(&with_a_gap(100), Some((50, 50)), Outcome::Kept);
    assert_is(&with_a_gap(101), Some((50, 50)), Outcome::Unproven);
    assert!(with_a_gap(101).reasons.contains(&Reason::Unobserved { length: s(101) }));
    let mut scene = Scene::default();
    scene.policy(0, &simple(&["a"], reaction(Some(SHOP)))).tested("r", 500, 505);
    assert_is(&scene.verdict(WINDOW), Some((5, 5)), Outcome::Unproven);
}

/// Whoever was told of a failure is not told again after a gap; whoever was not was not told by it.
#[test]
fn a_gap_ends_no_failure() {
    for (told, figure, outcome) in [(true, (50, 50), Outcome::Kept), (false, (990, 1000), Outcome::Broken)] {
        let mut scene = shop();
        with_a_long_failure(&mut scene);
        if told {
            scene.told("r", 1010, 1060);
        }
        scene.covered("a", 0, WINDOW, &[(1500, 1560)]);
        assert_is(&scene.verdict(WINDOW), Some(figure), outcome);
    }
    // One that went on before the window is none of it.
    let mut scene = shop();
    with_a_long_failure(&mut scene).tested("r", 5000, 5005).covered("a", 0, WINDOW + 1500, &[]);
    assert_is(&scene.verdict(WINDOW + 1500), Some((5, 5)), Outcome::Kept);
}

#[test]
fn announced_maintenance_asks_for_nobody() {
    let during = |start: i64, end: i64| {
        let http = probe("http", SHOP, &["a"], Agreement::Majority);
        let promised = vec![promise(&[reaction(Some(SHOP))])];
        let mut scene = Scene::default();
        scene.policy(0, &policy(vec![http], vec![maintenance(start, end)], promised)).changed("a", State::Up, 0, 0);
        with_a_long_failure(&mut scene).tested("r", 500, 505);
        scene
    };
    let verdict = judged(&mut during(900, 2100));
    assert_is(&verdict, Some((5, 5)), Outcome::Kept);
    assert_eq!(verdict.reasons, [Reason::Maintenance { length: s(1200) }, Reason::LoneObserver]);
    // What outlasts it begins with its end, and what is told during it is told at once.
    assert_is(&judged(&mut during(900, 1500)), Some((500, 510)), Outcome::Broken);
    assert_is(&judged(during(900, 1500).told("r", 1010, 1520)), Some((20, 20)), Outcome::Kept);
    assert_is(&judged(during(900, 1500).told("r", 1010, 1100)), Some((0, 0)), Outcome::Kept);
}

/// A clock that stepped makes both ends doubtful, whether it is that of the observer or of who sent the message.
#[test]
fn a_clock_that_stepped_makes_a_reaction_doubtful() {
    for observer in ["a", "r"] {
        let stepped = |from: i64, to: i64, at: i64| {
            let mut scene = shop();
            with_a_long_failure(&mut scene).told("r", 1010, at).clock_stepped(observer, from, to);
            judged(&mut scene)
        };
        assert_is(&stepped(1020, 1040, 1060), Some((30, 70)), Outcome::Kept);
        assert_is(&stepped(1040, 1020, 1180), Some((150, 190)), Outcome::Unproven);
        assert_is(&stepped(1040, 1020, 1195), Some((165, 205)), Outcome::Unproven);
        assert_is(&stepped(1040, 1020, 1500), Some((470, 510)), Outcome::Broken);
        assert_is(&stepped(3020, 3040, 1060), Some((50, 50)), Outcome::Kept);
    }
    assert_is(&judged(shop().tested("r", 500, 505).clock_stepped("r", 503, 501)), Some((3, 7)), Outcome::Kept);
    assert_is(&judged(shop().tested("r", 500, 505).clock_stepped("b", 503, 501)), Some((5, 5)), Outcome::Kept);
}

/// Makes another message of one.
type Alter = fn(&mut Reacted);

#[test]
fn only_messages_about_the_failure_count() {
    let told = |alter: Alter| {
        let mut reacted = Reacted::to_failure(name("http"), None, t(1010), t(1060));
        alter(&mut reacted);
        let mut scene = shop();
        with_a_long_failure(&mut scene);
        scene.tell(Entry { recorded_at: t(1060), observer: name("r"), fact: Fact::Reacted(reacted) });
        judged(&mut scene).outcome
    };
    assert_eq!(told(|_| ()), Outcome::Kept);
    let others: [(&str, Alter); 8] = [
        ("of a finding", |reacted| reacted.finding = Some(name("disk-usage"))),
        ("of a probe of nobody", |reacted| reacted.probe = Some(name("other"))),
        ("of no probe", |reacted| reacted.probe = None),
        ("of a later release", |reacted| reacted.to = ReactedTo::Other),
        ("that was delivered", |reacted| reacted.to = ReactedTo::Delivered),
        ("that was acknowledged", |reacted| reacted.to = ReactedTo::Acknowledged),
        ("of a failure before", |reacted| (reacted.since, reacted.at) = (t(900), t(910))),
        ("of the time to come", |reacted| reacted.at = t(1066)),
    ];
    for (what, alter) in others {
        assert_eq!(told(alter), Outcome::Broken, "a message {what}");
    }
    // One about the first failure, sent late, is none about the second.
    let mut scene = shop();
    with_a_long_failure(&mut scene).told("r", 1010, 1060);
    scene.changed("a", State::Down, 3000, 3010).told("r", 1010, 3020).changed("a", State::Up, 4000, 4010);
    assert_is(&judged(&mut scene), Some((990, 1000)), Outcome::Broken);
}

/// The message may name the change that one observer saw before the others agreed with it.
#[test]
fn a_message_may_name_a_change_before_observers_agreed() {
    let mut scene = Scene::default();
    let observers = ["a", "b", "c"];
    scene.policy(0, &simple(&observers, reaction(Some(SHOP))));
    for observer in observers {
        scene.changed(observer, State::Up, 0, 0);
    }
    scene.changed("a", State::Down, 1000, 1010).changed("b", State::Down, 1020, 1030).told("r", 1010, 1060);
    for observer in ["a", "b"] {
        scene.changed(observer, State::Up, 2000, 2010);
    }
    for observer in observers {
        scene.covered(observer, 0, WINDOW, &[]);
    }
    assert_is(&scene.verdict(WINDOW), Some((30, 30)), Outcome::Kept);
}

/// Without a service, each of them is asked about, for as long as it is there.
#[test]
fn each_of_all_services_is_asked_about() {
    let mail = |up_to_now: bool| {
        let http = probe("http", SHOP, &["a"], Agreement::Majority);
        let smtp = probe("smtp", "mail", &["a"], Agreement::Majority);
        let promised = vec![promise(&[reaction(None)])];
        let mut scene = Scene::default();
        scene.policy(0, &policy(vec![http.clone()], vec![], promised.clone())).changed("a", State::Up, 0, 0);
        with_a_long_failure(&mut scene).told("r", 1010, 1060).covered("a", 0, 5000, &[]);
        let mut both = policy(vec![http, smtp], vec![], promised);
        both.services.push(Service { id: name("mail"), title: Text::default() });
        scene.policy(5000, &both);
        let mut smtp = |state: State, after: i64, by: i64| {
            let changed = Changed { probe: name("smtp"), service: name("mail"), state, after: t(after), by: t(by) };
            scene.tell(Entry { recorded_at: t(by), observer: name("a"), fact: Fact::Changed(changed) });
        };
        smtp(State::Up, 5000, 5000);
        if !up_to_now {
            smtp(State::Down, 6000, 6000);
        }
        scene.covered("a", 5000, WINDOW, &[]).verdict(WINDOW)
    };
    assert_is(&mail(true), Some((50, 50)), Outcome::Kept);
    assert_is(&mail(false), Some((4000, 4000)), Outcome::Broken);
}

#[test]
fn evidence_names_the_message_and_what_it_answers() {
    let mut scene = shop();
    with_a_long_failure(&mut scene).told("r", 1010, 1060);
    // The policy, the record, the message, and the changes that bound what was certain.
    assert_eq!(judged(&mut scene).evidence, [0, 2, 3, 4, 5]);
    assert_eq!(judged(shop().tested("r", 500, 505)).evidence, [0, 2, 3]);
}

/// Messages outlive a save, and go with the window.
#[test]
fn messages_are_saved_and_forgotten() {
    let mut scene = shop();
    with_a_long_failure(&mut scene).told("r", 1010, 1060).tested("r", 500, 505);
    let expected = judged(&mut scene);
    let mut rows = std::collections::BTreeMap::new();
    let mut judge = reopened(&mut scene.judge, &mut rows);
    assert_eq!(judge.verdicts(t(WINDOW)), [expected]);
    let messages = |judge: &crate::Judge| {
        let within = between(0, 10 * WINDOW);
        judge.observed.reactions(&name("http")).count() + judge.observed.tests(within).len()
    };
    assert_eq!(messages(&judge), 2);
    judge.forget(t(10 * WINDOW));
    assert_eq!(messages(&judge), 0);
}
