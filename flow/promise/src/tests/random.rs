//! A thousand random logs, honest and not, against the model that counts seconds (AV-1, BX-1).

use drawn::Draws;
use event::evidence::{Changed, Covered, Found, Gap, Reacted, ReactedTo, Restored, State, Succeeded};
use event::policy::{Agreement, Applied};
use event::promise::{Outcome, Reason, Verdict};
use event::{Interval, ObserverId, Ppb, ProbeId, Span, Time};

use super::model::{Model, Requested, Second, share};
use super::scene::*;
use crate::Judge;
use crate::fact::Fact;
use crate::objective::{
    Absence, Answered, Availability, Configuration, Coverage, Freshness, Limit, Objective, Reaction, Requests, Restore,
};

pub(super) const SECONDS: i64 = 240;
/// The first two are of one vantage, and share a clock.
const OBSERVERS: [&str; 3] = ["a.watch", "a.guard", "b"];
/// How often probes are asked. What is asked less than once a minute has records of its own.
const EVERY: [i64; 4] = [10, 10, 60, 90];
/// The reaction that is promised, in seconds.
const WITHIN: i64 = 10;
/// The limits of restores, in seconds.
const EVERY_RESTORE: i64 = 60;
const RESTORED_WITHIN: i64 = 15;
const LOSES_AT_MOST: i64 = 20;
const PROBES: [&str; 3] = ["http", "dns", "beat"];

fn some_interval(draws: &mut Draws, seconds: i64, longest: i64) -> Interval {
    let start = draws.below(seconds);
    between(start, (start + 1 + draws.below(longest)).min(seconds))
}

fn objectives(over: i64) -> Vec<Objective> {
    let over = s(over);
    let target = percent("80 %");
    let (service, probe) = (name(SHOP), name("beat"));
    let restore =
        |limit, at_most| Objective::Restore(Restore { limit, probe: name("beat"), at_most: s(at_most), over });
    vec![
        Objective::Availability(Availability { service, at_least: target, over }),
        Objective::Coverage(Coverage { service: name(SHOP), at_least: target, over }),
        Objective::Configuration(Configuration { probe: name("http"), observed: target, over }),
        Objective::Absence(Absence { finding: name("disk-usage"), observed: target, over }),
        Objective::Freshness(Freshness { probe, at_most: s(40), over }),
        Objective::Reaction(Reaction {
            to: Answered::Failures,
            service: Some(name(SHOP)),
            within: s(WITHIN),
            observed: target,
            over,
        }),
        Objective::Reaction(Reaction {
            to: Answered::Failures,
            service: None,
            within: s(WITHIN),
            observed: target,
            over,
        }),
        Objective::Reaction(Reaction {
            to: Answered::Offences,
            service: Some(name(SHOP)),
            within: s(WITHIN),
            // Everything is up for the smaller part of most stories.
            observed: percent("25 %"),
            over,
        }),
        restore(Limit::Every, EVERY_RESTORE),
        restore(Limit::Within, RESTORED_WITHIN),
        restore(Limit::LosesAtMost, LOSES_AT_MOST),
        Objective::Requests(Requests { probe: name("http"), at_least: percent("70 %"), over }),
    ]
}

fn some_policy(draws: &mut Draws, is_last: bool) -> Applied {
    let mut probes = Vec::new();
    for id in PROBES {
        if draws.chance(80) {
            let observers: Vec<&str> = OBSERVERS.into_iter().filter(|_| draws.chance(70)).collect();
            let agreement = draws.pick(&[Agreement::Majority, Agreement::Any, Agreement::All]);
            let service = draws.pick(&[SHOP, SHOP, SHOP, "mail"]);
            let every = s(draws.pick(&EVERY));
            probes.push(event::policy::Probe { every, ..probe(id, service, &observers, agreement) });
        }
    }
    // Few places to start and end, so that windows come back, are shortened and lengthened.
    let corner = |draws: &mut Draws| 40 * draws.below(7);
    let windows = (0..draws.below(3)).map(|_| maintenance(corner(draws), corner(draws))).collect();
    let promises =
        if is_last || draws.chance(80) { vec![promise(&objectives(draws.pick(&[100, 150])))] } else { vec![] };
    policy(probes, windows, promises)
}

fn some_fact(draws: &mut Draws, policies: &[Applied]) -> Fact {
    let probe: ProbeId = name(draws.pick(&PROBES));
    let bracket = some_interval(draws, SECONDS, 30);
    let by = if draws.chance(50) { bracket.start } else { bracket.end };
    match draws.below(29) {
        0..11 => {
            let interval = some_interval(draws, SECONDS, 120);
            let revision = draws.pick(policies).revision;
            let gaps = (0..draws.below(3)).map(|_| Gap {
                probe: name(draws.pick(&PROBES)),
                finding: draws.chance(30).then(|| name("disk-usage")),
                interval: some_interval(draws, SECONDS, 30),
            });
            let gaps = gaps.collect();
            let every = Covered::class(s(draws.pick(&EVERY)));
            Fact::Covered(Covered { interval, revision, every, gaps })
        }
        11..18 => {
            let state = draws.pick(&[State::Up, State::Up, State::Up, State::Down, State::Degraded, State::Flapping]);
            Fact::Changed(Changed { probe, service: name(SHOP), state, after: bracket.start, by })
        }
        18..20 => {
            let open = draws.chance(50);
            Fact::Found(Found { finding: name("disk-usage"), probe, open, after: bracket.start, by })
        }
        20..22 => Fact::Succeeded(Succeeded { probe: name("beat"), at: bracket.start }),
        22..25 => {
            let (since, at) = (bracket.start, if draws.chance(90) { bracket.end } else { bracket.start - s(5) });
            let finding = draws.chance(10).then(|| name("disk-usage"));
            let test = draws.chance(10);
            let offence = draws.chance(30);
            let later = draws.chance(15).then(|| draws.pick(&[ReactedTo::Delivered, ReactedTo::Acknowledged]));
            let reacted = match () {
                () if test => Reacted::to_test(since, at),
                () if offence => Reacted { finding, ..Reacted::to_offence(probe, since, at) },
                () => Reacted::to_failure(probe, finding, since, at),
            };
            // What became of a message counts for nothing.
            Fact::Reacted(Reacted { to: later.unwrap_or(reacted.to), ..reacted })
        }
        25..27 => {
            // Most are of the probe that is promised; a length that no restore has counts as none.
            let probe = if draws.chance(80) { name("beat") } else { probe };
            let (took, lost) = (s(draws.below(22) - 2), s(draws.below(30) - 2));
            Fact::Restored(Restored { probe, at: bracket.start, took, lost })
        }
        27 => {
            let Interval { start, end } = some_interval(draws, SECONDS, 120);
            let some = |draws: &mut Draws, most: i64| u32::try_from(draws.below(most)).expect("few");
            // Most are answered, and often there is none at all.
            let most = (40, 8);
            let minutes: Vec<_> = (0..draws.below(3)).map(|_| (some(draws, most.0), some(draws, most.1))).collect();
            let probe = if draws.chance(80) { "http" } else { "beat" };
            Fact::Counted(count(probe, start.micros() / 1_000_000, end.micros() / 1_000_000, &minutes))
        }
        _ => {
            let doubtful = some_interval(draws, SECONDS, 20);
            let (from, to) =
                if draws.chance(50) { (doubtful.start, doubtful.end) } else { (doubtful.end, doubtful.start) };
            Fact::ClockStepped(event::engine::ClockStepped { from, to })
        }
    }
}

/// Up to five policies, and a hundred facts in no order at all.
pub(super) fn some_log(draws: &mut Draws) -> Scene {
    let count = 1 + draws.below(5);
    let policies: Vec<Applied> = (1..=count).map(|i| some_policy(draws, i == count)).collect();
    let mut scene = Scene::default();
    let mut known: Vec<Applied> = Vec::new();
    for (i, applied) in (0..).zip(&policies) {
        scene.policy(SECONDS * i / (count + 1), applied);
        known.push(applied.clone());
        for _ in 0..draws.below(44) + 16 {
            let observer: ObserverId = name(draws.pick(&OBSERVERS));
            // Mostly recorded late, so that nothing is cut off; now and then, told before it happened.
            let recorded_at = if draws.chance(90) { SECONDS } else { draws.below(SECONDS) };
            let fact = some_fact(draws, &known);
            scene.tell(Entry { recorded_at: t(recorded_at), observer, fact });
        }
    }
    if draws.chance(50) {
        all_counted(draws, &mut scene);
    }
    scene
}

/// Everybody counts nearly all of the time: most requests are answered, or most fail.
fn all_counted(draws: &mut Draws, scene: &mut Scene) {
    let most = draws.pick(&[(90, 9), (90, 9), (5, 90)]);
    let length = draws.pick(&[20, 60]);
    for observer in OBSERVERS {
        for start in (0..SECONDS).step_by(usize::try_from(length).expect("few")) {
            if draws.chance(95) {
                let [answered, failed] = [most.0, most.1].map(|most| u32::try_from(draws.below(most)).expect("few"));
                let fact = Fact::Counted(count("http", start, start + length, &[(answered, failed)]));
                scene.tell(Entry { recorded_at: t(SECONDS), observer: name(observer), fact });
            }
        }
    }
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

/// What the model says of a share: kept, broken or unproven, with what went wrong for certain and what is not known to have
/// gone well, in seconds, and the length of a whole window without what is set apart.
fn judged(verdict: &Verdict, used: (i64, i64), counted: i64, what: &str) -> Outcome {
    let budget = Reason::Budget {
        used_at_least: s(used.0),
        used_at_most: s(used.1),
        of: Span::from_micros(counted * 1_000_000 * 20 / 100),
    };
    assert!(verdict.reasons.contains(&budget), "{what}: {budget:?} in {:?}", verdict.reasons);
    let Some(figure) = verdict.figure else { return Outcome::Unproven };
    let filling = verdict.reasons.iter().any(|reason| matches!(reason, Reason::WindowFilling { .. }));
    match () {
        () if figure.low >= figure.target => Outcome::Kept,
        () if filling && 100 * used.0 > 20 * counted => Outcome::Broken,
        () if !filling && figure.high < figure.target => Outcome::Broken,
        () => Outcome::Unproven,
    }
}

/// What the model says of a share of requests, with whether the window is young.
fn check_requests(verdict: &Verdict, found: &Requested, over: i64, what: &str) -> Option<(Outcome, bool)> {
    let whole = verdict.window.length().secs();
    let ((answered, failed), (perhaps_answered, perhaps_failed)) = (found.surely, found.perhaps);
    if whole == 0 || answered + failed + perhaps_answered + perhaps_failed == 0 {
        assert_eq!((verdict.outcome, verdict.figure), (Outcome::Unproven, None), "{what}");
        return None;
    }
    let (one, least_of) = (1_000_000_000, answered + failed + perhaps_failed);
    let least = if least_of == 0 { 0 } else { answered * one / least_of };
    let (greatest, of) = (answered + perhaps_answered, answered + perhaps_answered + failed);
    let greatest = if of == 0 { one } else { (greatest * one + of - 1) / of };
    let best = |whole: i64| (greatest * found.seconds + one * (whole - found.seconds) + whole - 1) / whole;
    assert_eq!(bounds(verdict), Some((least * found.seconds / whole, best(whole))), "{what}: {verdict:?}");
    let outcome = match () {
        () if least * found.seconds / whole >= 700_000_000 => Outcome::Kept,
        () if best(over) < 700_000_000 => Outcome::Broken,
        () => Outcome::Unproven,
    };
    assert_eq!(verdict.outcome, outcome, "{what}: {verdict:?}");
    let is_at_risk = outcome == Outcome::Kept && 2 * (one - best(over)) > 300_000_000;
    assert_eq!(verdict.reasons.contains(&Reason::AtRisk), is_at_risk, "{what}: {verdict:?}");
    Some((outcome, whole < over))
}

/// The outcomes that were drawn.
struct Drawn {
    /// Of the availability, with whether its window is young.
    outcome: Option<(Outcome, bool)>,
    reactions: Vec<Outcome>,
    bans: Option<Outcome>,
    /// Of the restores, each with its limit.
    restored: Vec<(i64, Outcome)>,
    /// Of the requests, with whether the window is young.
    requests: Option<(Outcome, bool)>,
}

fn check(seed: u64) -> Drawn {
    let mut draws = Draws::of(seed);
    let mut scene = some_log(&mut draws);
    let at = SECONDS - draws.below(30);
    let verdicts = scene.judge.verdicts(t(at));
    let [availability, coverage, configuration, absence, freshness, of_shop, of_all, banned, restores @ .., requests] =
        &verdicts[..]
    else {
        panic!("seed {seed}: twelve objectives, {verdicts:?}");
    };
    let what = |name: &str| format!("seed {seed}: {name}");
    // What is told of later seconds is in the log already, but the window is what the verdict speaks of.
    let model = Model::of(&scene.entries, SECONDS + 1);
    let clause = &scene.judge.policy().expect("a policy").promises[0].objectives[0];
    let over = Objective::of(clause).expect("known").over().secs();
    let (of_service, of_finding) = model.probes_of(&name(SHOP), &name("disk-usage"));
    let window = |verdict: &Verdict, probes: &[ProbeId]| {
        let reach = model.reach(probes, at);
        let start = model.since().max(reach - over);
        assert_eq!(verdict.window, between(start, reach.max(start)), "seed {seed}: {verdict:?}");
        assert_eq!(verdict.at, t(at));
        let range = usize::try_from(start).expect("positive")..usize::try_from(reach.max(start)).expect("positive");
        (!range.is_empty()).then_some(range)
    };
    let empty = |verdict: &Verdict| assert_eq!((verdict.outcome, verdict.figure), (Outcome::Unproven, None));
    let length = |of: usize| i64::try_from(of).expect("few");

    let mut outcome = None;
    if let Some(range) = window(availability, &of_service) {
        let states = &model.service(&name(SHOP))[..range.end];
        let apart = model.apart(&name(SHOP), states);
        let counted = states.iter().zip(&apart).skip(range.start).filter(|(_, apart)| !**apart);
        let counted: Vec<Second> = counted.map(|((state, _), _)| *state).collect();
        let (up, not_down, all) = counts(counted.iter());
        let any_seen = counted.iter().any(|state| *state != Second::Unknown);
        assert_eq!(bounds(availability), any_seen.then(|| share(up, not_down, all)), "{}", what("availability"));
        let set_apart = length(range.len()) - all;
        let used = (all - not_down, all - up);
        let expected = judged(availability, used, over - set_apart, &what("availability"));
        assert_eq!(availability.outcome, expected, "{}: {availability:?}", what("availability"));
        outcome = Some((expected, length(range.len()) < over));

        assert_eq!(coverage.window, availability.window);
        let states = &states[range.clone()];
        let observed = length(states.iter().filter(|(_, blind)| !blind).count());
        let blind = length(states.len()) - observed;
        let (low, _) = share(observed, observed, length(states.len()));
        assert_eq!(bounds(coverage), Some((low, low)), "{}", what("coverage"));
        let expected = judged(coverage, (blind, blind), over, &what("coverage"));
        assert_eq!(coverage.outcome, expected, "{}: {coverage:?}", what("coverage"));
    } else {
        empty(availability);
        empty(coverage);
    }

    let (http, beat) = (name("http"), name("beat"));
    if let Some(range) = window(configuration, std::slice::from_ref(&http)) {
        let conforming =
            model.probe(&http)[range].iter().map(|state| (*state, *state == Second::Unknown)).collect::<Vec<_>>();
        check_never(configuration, &conforming, &what("configuration"));
    } else {
        empty(configuration);
    }
    if let Some(range) = window(absence, &of_finding) {
        check_never(absence, &model.finding(&name("disk-usage"))[range], &what("absence"));
    } else {
        empty(absence);
    }
    if let Some(range) = window(freshness, std::slice::from_ref(&beat))
        && let Some(figure) = freshness.figure
    {
        let (low, high) = model.gaps(&beat, length(range.start)..length(range.end));
        assert_eq!(figure.low, s(low).micros(), "{}", what("freshness"));
        // A step of the clock makes the upper end larger than what the labels say, never smaller.
        assert!(figure.high >= s(high).micros(), "{}", what("freshness"));
    }
    let mut reactions = Vec::new();
    let shop = name(SHOP);
    for (verdict, service, probes) in [(of_shop, Some(&shop), &of_service), (of_all, None, &model.declared_probes())] {
        let what = what(if service.is_some() { "reaction" } else { "reaction of all services" });
        if let Some(range) = window(verdict, probes) {
            let states = &model.together(service)[range.clone()];
            let found = model.reaction(service, WITHIN, length(range.start)..length(range.end));
            let expected = found.figure.map(|(low, high)| (s(low).micros(), s(high).micros()));
            assert_eq!(bounds(verdict), expected, "{what}: {verdict:?}");
            let observed = states.iter().filter(|(_, blind)| !blind).count();
            let outcome = match found.figure {
                Some((low, _)) if low > WITHIN => Outcome::Broken,
                Some((_, high)) if high <= WITHIN && found.is_proved && 100 * observed >= 80 * states.len() => {
                    Outcome::Kept
                }
                _ => Outcome::Unproven,
            };
            assert_eq!(verdict.outcome, outcome, "{what}: {verdict:?}");
            reactions.push(outcome);
        } else {
            empty(verdict);
        }
    }
    let mut bans = None;
    if let Some(range) = window(banned, &of_service) {
        let what = what("bans");
        let states = &model.together(Some(&shop))[range.clone()];
        let found = model.bans(&shop, length(range.start)..length(range.end));
        let expected = found.map(|(low, high)| (s(low).micros(), s(high).micros()));
        assert_eq!(bounds(banned), expected, "{what}: {banned:?}");
        let up = states.iter().filter(|(state, _)| *state == Second::Up).count();
        let outcome = match found {
            Some((low, _)) if low > WITHIN => Outcome::Broken,
            Some((_, high)) if high <= WITHIN && 100 * up >= 25 * states.len() => Outcome::Kept,
            _ => Outcome::Unproven,
        };
        assert_eq!(banned.outcome, outcome, "{what}: {banned:?}");
        bans = Some(outcome);
    } else {
        empty(banned);
    }
    assert_eq!(restores.len(), 3, "seed {seed}: {verdicts:?}");
    let mut restored = Vec::new();
    for (verdict, limit) in restores.iter().zip([EVERY_RESTORE, RESTORED_WITHIN, LOSES_AT_MOST]) {
        let what = what("restores");
        let Some(range) = window(verdict, std::slice::from_ref(&beat)) else {
            empty(verdict);
            continue;
        };
        let found = model.restores(&beat, length(range.start)..length(range.end));
        let (figure, is_least) = match limit {
            // A step of the clock makes the upper end of a gap larger than what the labels say.
            EVERY_RESTORE => (found.gap, true),
            RESTORED_WITHIN => (found.took, false),
            _ => (found.lost, false),
        };
        let expected = figure.map(|(low, high)| (s(low).micros(), s(high).micros()));
        match (bounds(verdict), expected) {
            (Some((low, high)), Some((least, most))) if is_least => {
                assert!(low == least && high >= most, "{what}: {verdict:?}, by the model {least} and {most}");
            }
            (said, expected) => assert_eq!(said, expected, "{what}: {verdict:?}"),
        }
        let target = s(limit).micros();
        let outcome = match bounds(verdict) {
            Some((low, _)) if low > target => Outcome::Broken,
            Some((_, high)) if high <= target && found.took.is_some() => Outcome::Kept,
            _ => Outcome::Unproven,
        };
        assert_eq!(verdict.outcome, outcome, "{what}: {verdict:?}");
        restored.push((limit, outcome));
    }
    let reach = model.counts_reach(&http, at);
    let start = model.since().max(reach - over);
    assert_eq!(requests.window, between(start, reach.max(start)), "seed {seed}: {requests:?}");
    let requests = check_requests(requests, &model.requests(&http, start..reach), over, &what("requests"));
    Drawn { outcome, reactions, bans, restored, requests }
}

#[test]
fn a_thousand_logs_agree_with_the_model() {
    let drawn: Vec<Drawn> = (0..1000).map(check).collect();
    let outcomes: Vec<_> = drawn.iter().map(|drawn| drawn.outcome).collect();
    let reactions: Vec<_> = drawn.iter().flat_map(|drawn| &drawn.reactions).collect();
    let restored: Vec<_> = drawn.iter().flat_map(|drawn| &drawn.restored).collect();
    // What is drawn must reach every corner for this to mean anything.
    for outcome in [Outcome::Kept, Outcome::Broken, Outcome::Unproven] {
        for young in [true, false] {
            let count = outcomes.iter().filter(|o| **o == Some((outcome, young))).count();
            assert!(count > 10, "{outcome:?}, in a young window {young}: only {count} times");
            let count = drawn.iter().filter(|drawn| drawn.requests == Some((outcome, young))).count();
            assert!(count > 10, "{outcome:?}, of requests, in a young window {young}: only {count} times");
        }
        let count = reactions.iter().filter(|o| ***o == outcome).count();
        assert!(count > 10, "{outcome:?}, of a reaction: only {count} times");
        let count = drawn.iter().filter(|drawn| drawn.bans == Some(outcome)).count();
        assert!(count > 10, "{outcome:?}, of bans: only {count} times");
        for limit in [EVERY_RESTORE, RESTORED_WITHIN, LOSES_AT_MOST] {
            let count = restored.iter().filter(|of| ***of == (limit, outcome)).count();
            assert!(count > 10, "{outcome:?}, of restores with the limit {limit}: only {count} times");
        }
    }
}

/// The same story, every second of it so long.
fn stretched(entry: &Entry, by: i64) -> Entry {
    let time = |time: Time| Time::from_micros(time.micros() * by);
    let span = |span: Span| Span::from_micros(span.micros() * by);
    let interval = |i: Interval| Interval::new(time(i.start), time(i.end));
    let mut entry = entry.clone();
    entry.recorded_at = time(entry.recorded_at);
    match &mut entry.fact {
        Fact::Applied(applied) => {
            for promise in &mut applied.promises {
                for clause in &mut promise.objectives {
                    let mut objective = Objective::of(clause).expect("known");
                    match &mut objective {
                        Objective::Freshness(Freshness { at_most, over, .. })
                        | Objective::Restore(Restore { at_most, over, .. }) => {
                            (*at_most, *over) = (span(*at_most), span(*over));
                        }
                        Objective::Availability(Availability { over, .. })
                        | Objective::Coverage(Coverage { over, .. })
                        | Objective::Configuration(Configuration { over, .. })
                        | Objective::Absence(Absence { over, .. })
                        | Objective::Requests(Requests { over, .. }) => *over = span(*over),
                        Objective::Reaction(Reaction { within, over, .. }) => {
                            (*within, *over) = (span(*within), span(*over));
                        }
                    }
                    *clause = (&objective).into();
                }
            }
            applied.maintenance.iter_mut().for_each(|window| window.interval = interval(window.interval));
        }
        Fact::Changed(changed) => (changed.after, changed.by) = (time(changed.after), time(changed.by)),
        Fact::Found(found) => (found.after, found.by) = (time(found.after), time(found.by)),
        Fact::Succeeded(succeeded) => succeeded.at = time(succeeded.at),
        Fact::Reacted(reacted) => (reacted.since, reacted.at) = (time(reacted.since), time(reacted.at)),
        Fact::Restored(restored) => {
            restored.at = time(restored.at);
            (restored.took, restored.lost) = (span(restored.took), span(restored.lost));
        }
        Fact::Counted(counted) => counted.interval = interval(counted.interval),
        Fact::ClockStepped(stepped) => (stepped.from, stepped.to) = (time(stepped.from), time(stepped.to)),
        Fact::Covered(covered) => {
            covered.interval = interval(covered.interval);
            covered.gaps.iter_mut().for_each(|gap| gap.interval = interval(gap.interval));
        }
    }
    entry
}

/// A judge that is asked all the time, forgets what it may, and is saved and read again, says what one says that reads the whole
/// log for each answer; or it says that it can't.
#[test]
fn what_is_forgotten_or_kept_from_before_changes_no_verdict() {
    const HOUR: i64 = 3600;
    let (mut asked, mut forgot, mut refused, mut again, mut removed) = (0, 0, 0, 0, 0);
    for seed in 0..400 {
        let mut draws = Draws::of(77_000 + seed);
        let scene = some_log(&mut draws);
        let mut entries: Vec<Entry> = scene.entries.iter().map(|entry| stretched(entry, HOUR)).collect();
        // As a log is written: mostly soon after what it tells of, now and then days later.
        for entry in &mut entries {
            let told = match &entry.fact {
                Fact::Applied(_) => entry.recorded_at,
                Fact::Changed(changed) => changed.by.max(changed.after),
                Fact::Found(found) => found.by.max(found.after),
                Fact::Succeeded(succeeded) => succeeded.at,
                Fact::Reacted(reacted) => reacted.at,
                Fact::Restored(restored) => restored.at,
                Fact::Counted(counted) => counted.interval.end,
                Fact::ClockStepped(stepped) => stepped.from.max(stepped.to),
                Fact::Covered(covered) => covered.interval.end,
            };
            let late = if draws.chance(85) { draws.below(60) } else { draws.below(5 * 24 * HOUR) };
            entry.recorded_at = entry.recorded_at.min(told + s(late)).max(told);
        }
        entries.sort_by_key(|entry| entry.recorded_at);
        let mut judge = Judge::new();
        let mut rows = std::collections::BTreeMap::new();
        for (sequence, entry) in entries.iter().enumerate() {
            judge.fold(sequence as u64, &entry.observer, entry.recorded_at, &entry.fact);
            if !draws.chance(20) {
                continue;
            }
            let back = if draws.chance(80) { 0 } else { draws.below(3 * HOUR) };
            let at = entry.recorded_at + s(draws.below(300)) - s(back);
            if judge.remembers(at) {
                let expected = Scene::of(&entries[..=sequence]).judge.verdicts(at);
                assert_eq!(judge.verdicts(at), expected, "seed {seed}, entry {sequence}");
                asked += 1;
            } else {
                refused += 1;
                again += i32::from(judge.since == Time::from_micros(i64::MAX));
                judge = Scene::of(&entries[..=sequence]).judge;
                rows.clear();
            }
            if draws.chance(50) {
                let (before, tracks) = (judge.since, judge.observed.tracks().count());
                judge.forget(entry.recorded_at);
                forgot += i32::from(judge.since > before);
                removed += tracks - judge.observed.tracks().count();
            }
            if draws.chance(30) {
                judge = reopened(&mut judge, &mut rows);
            }
        }
    }
    // The draws must reach all of it, and refusals must be few.
    assert!(asked > 3000 && forgot > 300 && refused < asked / 10, "{asked} asked, {forgot} forgot, {refused} refused");
    assert!(
        again > 10 && removed > 10,
        "{again} times something forgotten mattered again, {removed} tracks were removed"
    );
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
