//! When to ask: a heap of the next turns of all pairs of probe and observer.
//!
//! Each turn is drawn between half of `every` and the whole of it after the one before. Why not on a grid: a service that
//! fails for a second of every minute would be asked at the same second of each minute for ever, and be always up or always
//! down. Drawn from the kernel's randomness, no turn can be foreseen, so what is seen is a fair sample of what was, and `every`
//! is the longest time between two looks. It costs a third more questions.
//!
//! Ten thousand probes at ten seconds are thirteen hundred starts a second. First questions are spread, too: started
//! together they would flood the network.
//!
//! Turns are counted on the monotonic clock, so a stepped wall clock neither skips nor doubles one. Turns that passed while
//! the process stood still are not made up for: nobody asked then, and asking five minutes' worth at once would prove nothing
//! about those minutes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use engine::Random;
use event::{Monotonic, Span};

/// A pair of probe and observer, numbered for the life of the engine; numbers are not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct LaneId(pub(crate) u32);

/// Why somebody is asked now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cause {
    /// It is the turn of the lane.
    Turn,
    /// A first failure is to be confirmed, or something was heard: out of turn.
    Call,
}

/// A start that is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Due {
    /// When it should start.
    pub(crate) at: Monotonic,
    /// Of which lane.
    pub(crate) lane: LaneId,
    /// Why.
    pub(crate) cause: Cause,
}

/// The least time by which a start may be late and still count.
const LATENESS_MIN: Span = Span::from_millis(100);

/// How late a start may be: a tenth of the interval, but at least 100 ms. A later one says something about us, and
/// nothing about the service.
pub(crate) fn lateness_max(every: Span) -> Span {
    Span::from_micros(every.micros() / 10).max(LATENESS_MIN)
}

/// The turn after the one at `turn`: half of `every` later at least, and `every` at most.
pub(crate) fn turn_after(turn: Monotonic, every: Span, random: &dyn Random) -> Monotonic {
    let half = every.micros() / 2;
    Monotonic(turn.0 + half + drawn_below(every.micros() - half + 1, random))
}

/// The first turn of a pair that is new: within `within` of `now`.
pub(crate) fn first_turn(now: Monotonic, within: Span, random: &dyn Random) -> Monotonic {
    Monotonic(now.0 + drawn_below(within.micros(), random))
}

/// A number from 0 to `bound` - 1. The bounds are so small against 64 bits that the remainder is even enough.
fn drawn_below(bound: i64, random: &dyn Random) -> i64 {
    let bound = u64::try_from(bound).unwrap_or(0).max(1);
    i64::try_from(random.number() % bound).unwrap_or(0)
}

/// All starts to come.
#[derive(Default)]
pub(crate) struct Schedule {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Schedule {
    /// Plans a start.
    pub(crate) fn plan(&mut self, lane: LaneId, at: Monotonic, cause: Cause) {
        self.heap.push(Reverse(Due { at, lane, cause }));
    }

    /// The next start that is due at `now`.
    pub(crate) fn pop(&mut self, now: Monotonic) -> Option<Due> {
        (self.heap.peek()?.0.at <= now).then(|| self.heap.pop()).flatten().map(|Reverse(due)| due)
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }
}

#[cfg(test)]
mod tests {
    use engine::random::SeededRandom;

    use super::*;

    /// Whatever the period of an outage, turns meet it as often as it is long.
    #[test]
    fn turns_are_drawn_evenly() {
        let (every, random) = (Span::from_secs(60), SeededRandom::new(1));
        let (mut turn, mut seconds) = (Monotonic(0), [0_u32; 60]);
        for _ in 0..60_000 {
            let next = turn_after(turn, every, &random);
            let distance = next.since(turn);
            assert!((Span::from_secs(30)..=every).contains(&distance), "{distance}");
            turn = next;
            seconds[usize::try_from(turn.0 / 1_000_000 % 60).expect("a second of a minute")] += 1;
        }
        // The mean is 1,000; six standard deviations are 190.
        assert!(seconds.iter().all(|n| (800..=1_200).contains(n)), "{seconds:?}");
        for every in [1, 2, 3] {
            let (lone, every) = (Monotonic(7), Span::from_micros(every));
            assert!((0..20).all(|_| turn_after(lone, every, &random).since(lone) <= every));
        }
    }

    #[test]
    fn first_turns_are_spread() {
        let random = SeededRandom::new(1);
        let mut per_100_ms = [0u32; 100];
        for _ in 0..10_000 {
            let place = first_turn(Monotonic(0), Span::from_secs(10), &random).0 / 100_000;
            per_100_ms[usize::try_from(place).expect("inside the interval")] += 1;
        }
        // The mean is 100; six standard deviations are 60.
        assert!(per_100_ms.iter().all(|&n| (40..=160).contains(&n)), "{per_100_ms:?}");
    }

    #[test]
    fn a_start_may_be_late_by_a_tenth() {
        for (every_ms, expect_ms) in [(500, 100), (1_000, 100), (10_000, 1_000), (60_000, 6_000)] {
            assert_eq!(lateness_max(Span::from_millis(every_ms)), Span::from_millis(expect_ms), "{every_ms} ms");
        }
    }

    #[test]
    fn starts_come_in_order_and_not_early() {
        let mut schedule = Schedule::default();
        for (lane, at) in [(0, 30), (1, 10), (2, 20)] {
            schedule.plan(LaneId(lane), Monotonic(at), Cause::Turn);
        }
        assert_eq!(schedule.next(), Some(Monotonic(10)));
        assert_eq!(schedule.pop(Monotonic(9)), None);
        let first = schedule.pop(Monotonic(25)).expect("due");
        assert_eq!(first.lane, LaneId(1));
        assert_eq!(schedule.pop(Monotonic(25)).map(|due| due.lane), Some(LaneId(2)));
        assert_eq!(schedule.pop(Monotonic(40)).map(|due| (due.lane, due.at)), Some((LaneId(0), Monotonic(30))));
    }
}
