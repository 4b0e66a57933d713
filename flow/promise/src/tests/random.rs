//! A thousand random logs, honest and not, against the model that counts seconds (AV-1, BX-1).

use event::evidence::{Changed, Covered, Found, Gap, State, Succeeded};
use event::policy::{Agreement, Applied, Objective};
use event::promise::{Outcome, Verdict};
use event::{Interval, ObserverId, Ppb, ProbeId};

use super::model::{Model, Second, share};
use super::scene::*;
use crate::fact::Fact;

/// SplitMix64: good enough, and the same on every machine.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        i64::try_from(z % u64::try_from(sides).expect("some sides")).expect("fewer than the sides")
    }

    pub(super) fn chance(&mut self, percent: i64) -> bool {
        self.roll(100) < percent
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(i64::try_from(of.len()).expect("short"))).expect("an index")].clone()
    }

    fn interval(&mut self, seconds: i64, longest: i64) -> Interval {
        let start = self.roll(seconds);
        between(start, (start + 1 + self.roll(longest)).min(seconds))
    }
}

const SECONDS: i64 = 240;
const OBSERVERS: [&str; 3] = ["a", "b", "c"];
const PROBES: [&str; 3] = ["http", "dns", "beat"];

fn objectives(over: i64) -> Vec<Objective> {
    let over = s(over);
    let target = percent("80 %");
    let (service, probe) = (name(SHOP), name("beat"));
    vec![
        Objective::Availability { service, at_least: target, over },
        Objective::Coverage { service: name(SHOP), at_least: target, over },
        Objective::Configuration { probe: name("http"), observed: target, over },
        Objective::Absence { finding: name("disk-usage"), observed: target, over },
        Objective::Freshness { probe, at_most: s(40), over },
    ]
}

fn some_policy(dice: &mut Dice, is_last: bool) -> Applied {
    let mut probes = Vec::new();
    for id in PROBES {
        if dice.chance(80) {
            let observers: Vec<&str> = OBSERVERS.into_iter().filter(|_| dice.chance(70)).collect();
            let agreement = dice.pick(&[Agreement::Majority, Agreement::Any, Agreement::All]);
            let service = dice.pick(&[SHOP, SHOP, SHOP, "mail"]);
            probes.push(probe(id, service, &observers, agreement));
        }
    }
    // Few places to start and end, so that windows come back, are shortened and lengthened.
    let corner = |dice: &mut Dice| 40 * dice.roll(7);
    let windows = (0..dice.roll(3)).map(|_| maintenance(corner(dice), corner(dice))).collect();
    let promises = if is_last || dice.chance(80) { vec![promise(&objectives(dice.pick(&[100, 150])))] } else { vec![] };
    policy(probes, windows, promises)
}

fn some_fact(dice: &mut Dice, policies: &[Applied]) -> Fact {
    let probe: ProbeId = name(dice.pick(&PROBES));
    let bracket = dice.interval(SECONDS, 30);
    let by = if dice.chance(50) { bracket.start } else { bracket.end };
    match dice.roll(20) {
        0..8 => {
            let interval = dice.interval(SECONDS, 120);
            let revision = dice.pick(policies).revision;
            let gaps = (0..dice.roll(3)).map(|_| Gap {
                probe: name(dice.pick(&PROBES)),
                finding: None,
                interval: dice.interval(SECONDS, 30),
            });
            Fact::Covered(Covered { interval, revision, every: None, gaps: gaps.collect() })
        }
        8..15 => {
            let state = dice.pick(&[State::Up, State::Up, State::Up, State::Down, State::Degraded, State::Flapping]);
            Fact::Changed(Changed { probe, service: name(SHOP), state, after: bracket.start, by })
        }
        15..17 => {
            let open = dice.chance(50);
            Fact::Found(Found { finding: name("disk-usage"), probe, open, after: bracket.start, by })
        }
        17..19 => Fact::Succeeded(Succeeded { probe: name("beat"), at: bracket.start }),
        _ => {
            let doubtful = dice.interval(SECONDS, 20);
            let (from, to) =
                if dice.chance(50) { (doubtful.start, doubtful.end) } else { (doubtful.end, doubtful.start) };
            Fact::ClockStepped(event::engine::ClockStepped { from, to })
        }
    }
}

/// Up to five policies, and a hundred facts in no order at all.
fn some_log(dice: &mut Dice) -> Scene {
    let count = 1 + dice.roll(5);
    let policies: Vec<Applied> = (1..=count).map(|i| some_policy(dice, i == count)).collect();
    let mut scene = Scene::default();
    let mut known: Vec<Applied> = Vec::new();
    for (i, applied) in (0..).zip(&policies) {
        scene.policy(SECONDS * i / (count + 1), applied);
        known.push(applied.clone());
        for _ in 0..dice.roll(40) + 10 {
            let observer: ObserverId = name(dice.pick(&OBSERVERS));
            // Mostly recorded late, so that nothing is cut off; now and then, told before it happened.
            let recorded_at = if dice.chance(90) { SECONDS } else { dice.roll(SECONDS) };
            let fact = some_fact(dice, &known);
            scene.tell(Entry { recorded_at: t(recorded_at), observer, fact });
        }
    }
    scene
}

/// Up, not down, and all of those counted.
fn counts<'a>(states: impl Iterator<Item = &'a Second>) -> (i64, i64, i64) {
    states.fold((0, 0, 0), |(up, not_down, all), state| {
        (up + i64::from(*state == Second::Up), not_down + i64::from(*state != Second::Down), all + 1)
    })
}

fn check_never(verdict: &Verdict, states: &[(Second, bool)], what: &str) {
    let judged: Vec<Second> =
        states.iter().map(|(state, _)| *state).filter(|state| *state != Second::Unknown).collect();
    let observed = states.iter().filter(|(_, blind)| !blind).count();
    let (up, not_down, all) = counts(judged.iter());
    let expected = (all > 0).then(|| share(up, not_down, all));
    assert_eq!(bounds(verdict), expected, "{what}");
    let enough = 100 * observed >= 80 * states.len();
    let outcome = match () {
        () if not_down < all => Outcome::Broken,
        () if all > 0 && up == all && enough => Outcome::Kept,
        () => Outcome::Unproven,
    };
    assert_eq!(verdict.outcome, outcome, "{what}: {verdict:?}");
}

fn check(seed: u64) -> Option<Outcome> {
    let mut dice = Dice(seed);
    let scene = some_log(&mut dice);
    let at = SECONDS - dice.roll(30);
    let verdicts = scene.judge.verdicts(t(at));
    let [availability, coverage, configuration, absence, freshness] = &verdicts[..] else {
        panic!("seed {seed}: five objectives, {verdicts:?}");
    };
    let what = |name: &str| format!("seed {seed}: {name}");
    // What is told of later seconds is in the log already, but `at` is where the verdict ends.
    let model = Model::of(&scene.entries, SECONDS + 1);
    let window = availability.window.start.micros() / 1_000_000..at;
    if window.is_empty() {
        assert!(verdicts.iter().all(|v| v.outcome == Outcome::Unproven && v.figure.is_none()), "{verdicts:?}");
        return None;
    }
    let range = usize::try_from(window.start).expect("not negative")..usize::try_from(at).expect("not negative");

    let states = &model.service(&name(SHOP))[..range.end];
    let apart = model.apart(&name(SHOP), states);
    let counted = states.iter().zip(&apart).take(range.end).skip(range.start).filter(|(_, apart)| !**apart);
    let counted: Vec<Second> = counted.map(|((state, _), _)| *state).collect();
    let (up, not_down, all) = counts(counted.iter());
    let any_seen = counted.iter().any(|state| *state != Second::Unknown);
    assert_eq!(bounds(availability), any_seen.then(|| share(up, not_down, all)), "{}", what("availability"));
    if let Some(figure) = availability.figure {
        let expected = match () {
            () if figure.low >= figure.target => Outcome::Kept,
            () if figure.high < figure.target => Outcome::Broken,
            () => Outcome::Unproven,
        };
        assert_eq!(availability.outcome, expected, "{}", what("availability"));
    }

    let states = &states[range.clone()];
    let all = i64::try_from(states.len()).expect("few");
    let observed = i64::try_from(states.iter().filter(|(_, blind)| !blind).count()).expect("few");
    let tail = i64::try_from(states.iter().rev().take_while(|(_, blind)| *blind).count().min(120)).expect("few");
    let (low, high) = share(observed, observed + tail, all);
    assert_eq!(bounds(coverage), Some((low, if tail == 0 { low } else { high })), "{}", what("coverage"));

    let conforming: Vec<(Second, bool)> =
        model.probe(&name("http"))[range.clone()].iter().map(|state| (*state, *state == Second::Unknown)).collect();
    check_never(configuration, &conforming, &what("configuration"));
    check_never(absence, &model.finding(&name("disk-usage"))[range], &what("absence"));

    if let Some(figure) = freshness.figure {
        let (low, high) = model.gaps(&name("beat"), window);
        assert_eq!(figure.low, s(low).micros(), "{}", what("freshness"));
        // A step of the clock makes the upper end larger than what the labels say, never smaller.
        assert!(figure.high >= s(high).micros(), "{}", what("freshness"));
    }
    Some(availability.outcome)
}

#[test]
fn a_thousand_logs_agree_with_the_model() {
    let outcomes: Vec<Option<Outcome>> = (0..1000).map(check).collect();
    // The dice must reach every corner for this to mean anything.
    for outcome in [Outcome::Kept, Outcome::Broken, Outcome::Unproven] {
        let count = outcomes.iter().filter(|o| **o == Some(outcome)).count();
        assert!(count > 20, "{outcome:?} only {count} times");
    }
}

#[test]
fn shares_are_rounded_outwards() {
    for (part, whole) in [(1, 3), (2, 3), (3, 3), (0, 3), (999_999_999, 1_000_000_007)] {
        let (low, high) = crate::ruling::share(s(part), s(whole)).expect("something");
        let exact = i128::from(part) * i128::from(Ppb::ONE.parts());
        assert!(i128::from(low) * i128::from(whole) <= exact && exact <= i128::from(high) * i128::from(whole));
        assert!(high - low <= 1);
    }
    assert_eq!(crate::ruling::share(s(0), s(0)), None);
}
