//! When to ask.
//!
//! Ten thousand probes at ten seconds are a thousand starts a second. Starting them together, or sleeping a little before
//! each, either floods the network or takes half an hour to begin. So every pair of probe and observer has its own place
//! in the interval, computed from its name: the load is even from the first second, and the same after a restart.
//!
//! One heap holds the next turn of every pair; nothing sleeps on its own. Turns are counted on the monotonic clock, so a
//! stepped wall clock neither skips nor doubles one. Turns that passed while the process stood still are not made up
//! for: nobody asked then, and asking five minutes' worth at once would prove nothing about those minutes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use event::{Monotonic, ObserverId, ProbeId, Span};

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
    /// When to look at it: later than `scheduled` once it found no room.
    at: Monotonic,
    /// Of which lane.
    pub(crate) lane: LaneId,
    /// When it should have started.
    pub(crate) scheduled: Monotonic,
    /// Why.
    pub(crate) cause: Cause,
}

impl Due {
    /// Whether it was looked at before and found no room.
    pub(crate) fn again(&self) -> bool {
        self.at > self.scheduled
    }
}

/// The least time by which a start may be late and still count.
const LATENESS_MIN: Span = Span::from_millis(100);

/// How late a start may be: a tenth of the interval, but at least 100 ms. A later one says something about us, and
/// nothing about the service.
pub(crate) fn lateness_max(every: Span) -> Span {
    Span::from_micros(every.micros() / 10).max(LATENESS_MIN)
}

/// The place of a pair in an interval of `every`: the same in every run, spread evenly over all pairs.
pub(crate) fn phase(probe: &ProbeId, observer: &ObserverId, every: Span) -> Span {
    // FNV-1a, whose low bits are poor, and the finaliser of SplitMix64. Both are fixed for ever, which the standard
    // library does not promise of its own hasher.
    let bytes = probe.as_str().bytes().chain([0]).chain(observer.as_str().bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let hash = hash ^ (hash >> 31);
    let every = u64::try_from(every.micros()).unwrap_or(1).max(1);
    Span::from_micros(i64::try_from(hash % every).unwrap_or(0))
}

/// The first instant not before `now` that is `phase` after a whole number of intervals.
pub(crate) fn next_turn(now: Monotonic, every: Span, phase: Span) -> Monotonic {
    let every = every.micros().max(1);
    let turns = (now.0 - phase.micros()).div_euclid(every);
    let candidate = turns * every + phase.micros();
    Monotonic(if candidate < now.0 { candidate + every } else { candidate })
}

/// All starts to come.
#[derive(Default)]
pub(crate) struct Schedule {
    heap: BinaryHeap<Reverse<Due>>,
}

impl Schedule {
    /// Plans a start.
    pub(crate) fn plan(&mut self, lane: LaneId, at: Monotonic, cause: Cause) {
        self.heap.push(Reverse(Due { at, lane, scheduled: at, cause }));
    }

    /// Looks at a start again after `pause`: it found no room.
    pub(crate) fn postpone(&mut self, due: Due, now: Monotonic, pause: Span) {
        self.heap.push(Reverse(Due { at: Monotonic(now.0 + pause.micros()), ..due }));
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
    use super::*;

    fn probe(n: u32) -> ProbeId {
        format!("probe-{n}").parse().expect("a name")
    }

    fn observer(name: &str) -> ObserverId {
        name.parse().expect("a name")
    }

    #[test]
    fn the_place_in_the_interval_is_stable_and_differs_between_observers() {
        let every = Span::from_secs(10);
        let here = phase(&probe(1), &observer("gravelines"), every);
        // Fixed for ever: a release that moves every probe would open a gap in every installation.
        assert_eq!(here, phase(&probe(1), &observer("gravelines"), every));
        assert_ne!(here, phase(&probe(1), &observer("strasbourg"), every));
        assert_ne!(here, phase(&probe(2), &observer("gravelines"), every));
    }

    #[test]
    fn ten_thousand_probes_spread_evenly() {
        let every = Span::from_secs(10);
        let mut per_100_ms = [0u32; 100];
        for n in 0..10_000 {
            let place = phase(&probe(n), &observer("local"), every).micros() / 100_000;
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
    fn turns_are_on_the_grid() {
        let (every, phase) = (Span::from_secs(10), Span::from_secs(3));
        for (now, expect) in [(0, 3), (3, 3), (4, 13), (12, 13), (-1, 3), (-8, -7), (1_000, 1_003)] {
            let turn = next_turn(Monotonic(now * 1_000_000), every, phase);
            assert_eq!(turn, Monotonic(expect * 1_000_000), "from {now} s");
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
        schedule.postpone(first, Monotonic(25), Span::from_micros(10));
        assert_eq!(schedule.pop(Monotonic(25)).map(|due| due.lane), Some(LaneId(2)));
        let late = schedule.pop(Monotonic(40)).expect("lane 0, then lane 1");
        assert_eq!(late.lane, LaneId(0));
        let late = schedule.pop(Monotonic(40)).expect("postponed to 35");
        assert_eq!((late.lane, late.scheduled), (LaneId(1), Monotonic(10)), "it remembers when it was due");
    }
}
