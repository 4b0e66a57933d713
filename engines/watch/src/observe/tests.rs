//! The state machine on written-out samples, and a year of them.

use super::*;

const S: i64 = 1_000_000;

/// Runs samples written as `+` up, `~` slow, `-` down, `?` unknown, one every ten seconds from 0 s, each answered after
/// one second; a `!` before a sample makes it a confirmation, two seconds after the one before it.
fn run(observe: &mut Observe, samples: &str) -> Vec<(State, i64, i64)> {
    let mut changes = Vec::new();
    let (mut turn, mut extra) = (-1, 0);
    for letter in samples.chars() {
        let reading = match letter {
            '+' => Reading::Up,
            '~' => Reading::Degraded,
            '-' => Reading::Down,
            '?' => Reading::Unknown,
            _ => {
                extra = 2;
                continue;
            }
        };
        if extra == 0 {
            turn += 1;
        }
        let start = Time::from_secs(turn * 10 + extra);
        observe.take(Seen { start, end: start + Span::from_secs(1), reading }, &mut changes);
        extra = 0;
    }
    changes.iter().map(|c| (c.state, c.after.micros() / S, c.by.micros() / S)).collect()
}

fn check(samples: &str, expect: &[(State, i64, i64)]) {
    let mut observe = Observe::new(Span::from_secs(10), true);
    assert_eq!(run(&mut observe, samples), expect, "{samples}");
}

/// AV-1, WA-1: what is journaled of an outage is what happened, within its brackets.
#[test]
fn samples_become_changes() {
    use State::{Degraded, Down, Flapping, Up};
    // The first state is known from the end of the first sample on.
    check("+", &[(Up, 1, 1)]);
    check("++++", &[(Up, 1, 1)]);
    // One failure, confirmed at once: down by the end of the first failing sample.
    check("++-!-", &[(Up, 1, 1), (Down, 10, 21)]);
    // Confirmed by the next turn when nobody could be asked in between.
    check("++-!?-", &[(Up, 1, 1), (Down, 10, 21)]);
    // Back at the first good answer; the bracket opens at the last bad one.
    check("+-!--+", &[(Up, 1, 1), (Down, 1, 11), (Up, 20, 31)]);
    // A blip: undecided from the last good sample to the next good one.
    check("++-!+", &[(Up, 1, 1), (Flapping, 10, 21), (Up, 21, 23)]);
    check("++-!+++", &[(Up, 1, 1), (Flapping, 10, 21), (Up, 21, 23)]);
    // Down, or a blip, from the start.
    check("-!-", &[(Down, 1, 1)]);
    check("-!+", &[(Flapping, 1, 1), (Up, 1, 3)]);
    // A failure that nobody confirmed says nothing yet.
    check("++-", &[(Up, 1, 1)]);
    // Unknown samples change nothing, and brackets reach over them.
    check("+???-!-", &[(Up, 1, 1), (Down, 1, 41)]);
    check("??+", &[(Up, 21, 21)]);
    // Slow for two samples is nothing, for three it is degraded, since the first of them.
    check("+~~+~~+", &[(Up, 1, 1)]);
    check("+~~~+~++~", &[(Up, 1, 1), (Degraded, 1, 11)]);
    check("+~~~+++", &[(Up, 1, 1), (Degraded, 1, 11), (Up, 30, 41)]);
    check("~", &[(Degraded, 1, 1)]);
    // From degraded to down and back to up.
    check("~-!-+", &[(Degraded, 1, 1), (Down, 1, 11), (Up, 12, 21)]);
}

#[test]
fn probes_that_ask_nobody_are_not_confirmed() {
    let mut observe = Observe::new(Span::from_secs(10), false);
    let changes = run(&mut observe, "+-+");
    assert_eq!(changes, [(State::Up, 1, 1), (State::Down, 1, 11), (State::Up, 11, 21)]);
}

#[test]
fn more_than_four_changes_in_ten_intervals_are_flapping() {
    use State::{Down, Flapping, Up};
    check(
        "+-!-+-!-+-!-+",
        &[(Up, 1, 1), (Down, 1, 11), (Up, 12, 21), (Down, 21, 31), (Up, 32, 41), (Flapping, 41, 51)],
    );
    // Five intervals of the same answer end it; an unknown sample is no answer.
    check(
        "+-!-+-!-+-!-++++?+++",
        &[(Up, 1, 1), (Down, 1, 11), (Up, 12, 21), (Down, 21, 31), (Up, 32, 41), (Flapping, 41, 51), (Up, 110, 121)],
    );
    // The same number of changes, but slowly: each is told.
    let slowly = "+-!-+++++".repeat(6);
    let mut observe = Observe::new(Span::from_secs(10), true);
    let states: Vec<State> = run(&mut observe, &slowly).into_iter().map(|(state, ..)| state).collect();
    assert!(!states.contains(&Flapping), "{states:?}");
    assert_eq!(states.iter().filter(|&&state| state == Down).count(), 6);
}

#[test]
fn a_service_that_never_settles_says_so_once() {
    let mut observe = Observe::new(Span::from_secs(10), true);
    let changes = run(&mut observe, &"+-!-".repeat(1000));
    assert!(changes.len() <= 6, "{} changes journaled", changes.len());
    assert_eq!(changes.last().map(|c| c.0), Some(State::Flapping));
}

#[test]
fn a_suspended_observer_forgets_its_doubt() {
    let mut observe = Observe::new(Span::from_secs(10), true);
    let mut changes = Vec::new();
    let at = |s: i64, reading| Seen { start: Time::from_secs(s), end: Time::from_secs(s + 1), reading };
    observe.take(at(0, Reading::Up), &mut changes);
    observe.take(at(10, Reading::Down), &mut changes);
    assert!(observe.in_doubt());
    observe.drop_doubt();
    observe.take(at(310, Reading::Up), &mut changes);
    assert_eq!(changes.len(), 1, "no false alarm: {changes:?}");
}

/// A failure that was dropped shows no state: an outage after it began somewhere after the last good sample.
#[test]
fn a_dropped_failure_bounds_no_bracket() {
    let mut observe = Observe::new(Span::from_secs(10), true);
    let mut changes = Vec::new();
    let at = |s: i64, reading| Seen { start: Time::from_secs(s), end: Time::from_secs(s + 1), reading };
    observe.take(at(0, Reading::Up), &mut changes);
    observe.take(at(10, Reading::Down), &mut changes);
    observe.drop_doubt();
    observe.take(at(40, Reading::Down), &mut changes);
    observe.take(at(42, Reading::Down), &mut changes);
    assert_eq!(
        changes.last().map(|c| (c.state, c.after, c.by)),
        Some((State::Down, Time::from_secs(1) + INSTANT, Time::from_secs(41)))
    );
    // Nothing was seen before: nothing bounds it.
    let (mut observe, mut changes) = (Observe::new(Span::from_secs(10), true), Vec::new());
    observe.take(at(10, Reading::Down), &mut changes);
    observe.drop_doubt();
    observe.take(at(40, Reading::Up), &mut changes);
    assert_eq!(
        changes.last().map(|c| (c.state, c.after, c.by)),
        Some((State::Up, Time::from_secs(41), Time::from_secs(41)))
    );
}

/// Whatever the samples, brackets are in order and not inverted, states alternate, and the truth lies inside: a year of
/// outages of random length, sampled every minute.
#[test]
fn a_year_of_outages_lies_within_the_brackets() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: i64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        i64::try_from(random % u64::try_from(below).expect("positive")).expect("small")
    };
    let year = 365 * 86_400 * S;
    let mut outages = Vec::new();
    let mut at = 3_600 * S;
    while at < year {
        let length = if next(3) == 0 { next(3 * S) } else { 120 * S + next(3_600 * S) };
        outages.push((at, at + length));
        at += length + 3_600 * S + next(4 * 86_400 * S);
    }
    let down = |t: i64| {
        let i = outages.partition_point(|&(start, _)| start <= t);
        i > 0 && t < outages[i - 1].1
    };
    let every = 60 * S;
    let mut observe = Observe::new(Span::from_micros(every), true);
    let mut changes = Vec::new();
    let mut turn = 0;
    while turn < year {
        let mut start = turn + next(3 * S);
        for _ in 0..2 {
            let took = next(2 * S);
            // A sample tells the truth of some instant between its start and its end.
            let reading = if down(start + took / 2) { Reading::Down } else { Reading::Up };
            let seen = Seen { start: Time::from_micros(start), end: Time::from_micros(start + took), reading };
            observe.take(seen, &mut changes);
            if !observe.in_doubt() {
                break;
            }
            start += took + S;
        }
        turn += every;
    }
    assert!(changes.len() > 100, "{}", changes.len());
    for pair in changes.windows(2) {
        assert!(pair[0].after <= pair[0].by && pair[0].by <= pair[1].after, "{pair:?}");
        assert_ne!(pair[0].state, pair[1].state);
        // Between two brackets the state is certain.
        let (from, to) = (pair[0].by.micros(), pair[1].after.micros());
        for i in 0..=20 {
            let t = from + (to - from) * i / 20;
            match pair[0].state {
                State::Down => assert!(down(t), "{pair:?} at {t}"),
                // A blip shorter than the interval may pass between two samples unseen; longer outages may not.
                State::Up => assert!(
                    !outages.iter().any(|&(start, end)| start <= t && t < end && end - start > 2 * every),
                    "{pair:?} at {t}"
                ),
                State::Degraded | State::Flapping => {}
            }
        }
    }
}
