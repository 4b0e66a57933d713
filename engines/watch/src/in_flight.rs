//! Limits on the number of questions under way, over all and to one target, and the queue of those that find no room.
//!
//! [`crate::rounds`] asks before each start. The limit is made for the worst day, when nobody answers: a question that is
//! answered takes milliseconds, one that is not takes its whole timeout. With a smaller one, six thousand probes of a network
//! that is gone would leave no slot for those of healthy services, whose time would be unproven while nothing is wrong with
//! them. It is bounded by their share of the file descriptors that the process may have; a quarter is kept for confirmations, which must not
//! wait behind those who only take their turn.
//!
//! Whoever finds no room **keeps its place**: the first that came is the first to be asked once there is room, confirmations
//! before turns. If each tried again by itself, chance would decide, and two probes that hang could keep a third waiting for
//! minutes. Those whose target has no room wait at that target, so they hold up nobody else; each slot that is freed there
//! lets the first of them into the common queue, with the place that it had.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use engine::descriptors;
use event::{Monotonic, Span};

use crate::config::WatchOptions;
use crate::schedule::{Cause, LaneId};

/// The least limit, whatever the probes need.
const MIN: usize = 100;
/// Of all slots, this part is for confirmations only.
const KEPT_PART: usize = 4;

/// A place in the queue: confirmations first, and of those of one cause the oldest.
type Place = (Reverse<Cause>, u64);

/// A start that waits for room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Waiting {
    pub(crate) lane: LaneId,
    pub(crate) cause: Cause,
    /// When it was due.
    pub(crate) due: Monotonic,
    target: Option<Box<str>>,
}

/// The questions under way to one target, and those that wait for them.
#[derive(Default, Debug)]
struct Target {
    under_way: usize,
    waiting: BTreeMap<Place, Waiting>,
}

/// The limits, how many questions are under way to each target, and who waits.
#[derive(Debug)]
pub(crate) struct InFlight {
    all_max: usize,
    target_max: usize,
    targets: HashMap<Box<str>, Target>,
    /// Those whose target had room when it was looked at last.
    waiting: BTreeMap<Place, Waiting>,
    next_place: u64,
    /// What the last warning said, which is not said again.
    warned: Option<(usize, usize)>,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        Self {
            all_max: MIN,
            target_max: MIN,
            targets: HashMap::new(),
            waiting: BTreeMap::new(),
            next_place: 0,
            warned: None,
        }
    }

    /// Sets the limits for `probes`, each given as its timeout and its interval. `descriptors`: how many files and sockets the
    /// process may have open; `None` for as many as it likes. Warns when they are too low for the worst day, unless that was
    /// said before.
    pub(crate) fn set_limits(
        &mut self,
        options: &WatchOptions,
        probes: impl Iterator<Item = (Span, Span)> + Clone,
        descriptors: Option<u64>,
    ) {
        self.target_max = usize::try_from(options.per_target_max).unwrap_or(usize::MAX);
        let warning = if let Some(max) = options.in_flight_max {
            self.all_max = max;
            too_few(max, probes).map(|(needed, warning)| ((max, needed), warning))
        } else {
            let (needed, affordable) = (needed(probes), descriptors::questions(descriptors));
            self.all_max = needed.max(MIN).min(affordable);
            (needed > affordable).then(|| {
                let warning = format!(
                    "if nobody answered, {needed} questions of probes would be under way at once, and the process has file \
                     descriptors for {affordable}: raise its limit (LimitNOFILE of systemd, `ulimit -n`), or probes will wait \
                     for each other then, and what they miss will be unknown"
                );
                ((affordable, needed), warning)
            })
        };
        let about = warning.as_ref().map(|(about, _)| *about);
        if let Some((_, warning)) = warning.filter(|_| about != self.warned) {
            tracing::warn!("{warning}");
        }
        self.warned = about;
        // There may be room now at any target.
        self.targets.values_mut().for_each(|target| self.waiting.append(&mut target.waiting));
        self.targets.retain(|_, target| target.under_way > 0);
    }

    /// How many questions may be under way for this cause, where `max` are at most.
    const fn open_to(cause: Cause, max: usize) -> usize {
        match cause {
            Cause::Call => max,
            Cause::Turn => max - max / KEPT_PART,
        }
    }

    fn target_admits(&self, target: Option<&str>, cause: Cause) -> bool {
        let at_target = target.and_then(|target| self.targets.get(target)).map_or(0, |target| target.under_way);
        at_target < Self::open_to(cause, self.target_max)
    }

    /// Whether a question to `target` may start, when so many are under way.
    pub(crate) fn admits(&self, under_way: usize, target: Option<&str>, cause: Cause) -> bool {
        under_way < Self::open_to(cause, self.all_max) && self.target_admits(target, cause)
    }

    /// Puts a start that was not admitted at the end of the queue of its cause.
    pub(crate) fn wait(&mut self, lane: LaneId, cause: Cause, due: Monotonic, target: Option<&str>) {
        let place = (Reverse(cause), self.next_place);
        self.next_place += 1;
        self.put(place, Waiting { lane, cause, due, target: target.map(Box::from) });
    }

    fn put(&mut self, place: Place, waiting: Waiting) {
        let at_target = waiting.target.as_ref().filter(|target| !self.target_admits(Some(target), waiting.cause));
        match at_target.and_then(|target| self.targets.get_mut(target)) {
            Some(target) => target.waiting.insert(place, waiting),
            None => self.waiting.insert(place, waiting),
        };
    }

    /// The first in the queue for whom there is room, when so many are under way. It has left the queue.
    pub(crate) fn next(&mut self, under_way: usize) -> Option<Waiting> {
        loop {
            let first = self.waiting.first_entry()?;
            if under_way >= Self::open_to(first.get().cause, self.all_max) {
                return None;
            }
            let (place, waiting) = first.remove_entry();
            if self.target_admits(waiting.target.as_deref(), waiting.cause) {
                return Some(waiting);
            }
            self.put(place, waiting);
        }
    }

    /// Takes one slot of `target`.
    pub(crate) fn begin(&mut self, target: Option<&str>) {
        if let Some(target) = target {
            self.targets.entry(target.into()).or_default().under_way += 1;
        }
    }

    /// Frees one slot of `target`, for the first of those that wait there.
    pub(crate) fn end(&mut self, target: Option<&str>) {
        let Some(name) = target else { return };
        let Some(target) = self.targets.get_mut(name) else { return };
        target.under_way -= 1;
        self.waiting.extend(target.waiting.pop_first());
        if target.under_way == 0 {
            self.waiting.append(&mut target.waiting);
            self.targets.remove(name);
        }
    }
}

/// How many questions are under way at once, when none is answered: a turn and its confirmation, two timeouts, of each
/// interval, which is three quarters of `every` on average; and a tenth more, because chance does not spread them evenly.
fn needed(probes: impl Iterator<Item = (Span, Span)>) -> usize {
    const WHOLE: i64 = 1_000_000;
    let (mut lanes, mut parts) = (0_usize, 0_i64);
    for (timeout, every) in probes {
        let every = (every.micros() / 4 * 3).max(1);
        let busy = i128::from(timeout.micros().saturating_mul(2).clamp(0, every));
        lanes += 1;
        parts += i64::try_from(busy * i128::from(WHOLE) / i128::from(every)).unwrap_or(WHOLE);
    }
    let at_once = usize::try_from(parts / WHOLE + 1).unwrap_or(usize::MAX);
    // Each lane has one question under way at most.
    (at_once + at_once / 10).min(lanes)
}

/// Warns of a limit that is lower than the probes need when none is answered; with how many they need.
pub(crate) fn too_few(max: usize, probes: impl Iterator<Item = (Span, Span)>) -> Option<(usize, String)> {
    let needed = needed(probes);
    (needed > max).then(|| {
        let warning = format!(
            "`in_flight_max` of [watch] is {max}: if nobody answered, {needed} questions of probes would be under way at once. \
             Probes will wait for each other then, those of healthy services too, and what they miss will be unknown: raise \
             it, or leave it out"
        );
        (needed, warning)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(options: WatchOptions, probes: usize, timeout: i64, every: i64, descriptors: Option<u64>) -> usize {
        let mut in_flight = InFlight::new();
        let each = (Span::from_secs(timeout), Span::from_secs(every));
        in_flight.set_limits(&options, std::iter::repeat_n(each, probes), descriptors);
        in_flight.all_max
    }

    #[test]
    fn the_limit_is_made_for_the_worst_day() {
        let usual = WatchOptions::default();
        for (probes, timeout, every, descriptors, expect) in [
            (10, 10, 60, None, 100),
            (10_000, 5, 10, None, 10_000),
            (10_000, 10, 60, None, 4_889),
            (10_000, 10, 60, Some(524_288), 4_889),
            (10_000, 10, 60, Some(1_024), 320),
            (10, 10, 60, Some(100), 1),
            (0, 10, 60, None, 100),
        ] {
            assert_eq!(limit(usual, probes, timeout, every, descriptors), expect, "{probes} probes, {descriptors:?}");
        }
        let said = WatchOptions { in_flight_max: Some(500), ..usual };
        assert_eq!(limit(said, 10_000, 5, 10, Some(1_024)), 500, "the policy has the last word");
    }

    #[test]
    fn a_quarter_is_kept_for_confirmations() {
        let mut in_flight = InFlight::new();
        in_flight.set_limits(&WatchOptions { in_flight_max: Some(8), per_target_max: 4 }, std::iter::empty(), None);
        let may = |in_flight: &InFlight, under_way, cause| in_flight.admits(under_way, Some("a:80"), cause);
        assert!(may(&in_flight, 5, Cause::Turn) && !may(&in_flight, 6, Cause::Turn));
        assert!(may(&in_flight, 7, Cause::Call) && !may(&in_flight, 8, Cause::Call));
        (0..3).for_each(|_| in_flight.begin(Some("a:80")));
        assert!(!may(&in_flight, 3, Cause::Turn) && may(&in_flight, 3, Cause::Call));
        assert!(in_flight.admits(3, Some("b:80"), Cause::Turn) && in_flight.admits(3, None, Cause::Turn));
        in_flight.end(Some("a:80"));
        assert!(may(&in_flight, 2, Cause::Turn));
    }
    fn waiting(in_flight: &mut InFlight, under_way: usize) -> Option<u32> {
        in_flight.next(under_way).map(|waiting| waiting.lane.0)
    }

    #[test]
    fn who_came_first_is_asked_first() {
        let mut in_flight = InFlight::new();
        in_flight.set_limits(&WatchOptions { in_flight_max: Some(4), per_target_max: 2 }, std::iter::empty(), None);
        let full = Some("full:80");
        (0..2).for_each(|_| in_flight.begin(full));
        for (lane, cause, target) in [
            (0, Cause::Turn, full),
            (1, Cause::Turn, Some("other:80")),
            (2, Cause::Turn, full),
            (3, Cause::Turn, None),
            (4, Cause::Call, None),
        ] {
            in_flight.wait(LaneId(lane), cause, Monotonic(0), target);
        }
        assert_eq!(waiting(&mut in_flight, 4), None, "no room at all");
        assert_eq!(waiting(&mut in_flight, 3), Some(4), "a confirmation comes first");
        assert_eq!(waiting(&mut in_flight, 3), None, "the last slot is not for turns");
        assert_eq!(waiting(&mut in_flight, 2), Some(1), "nobody waits behind a target that is full");
        in_flight.end(full);
        assert_eq!(waiting(&mut in_flight, 2), Some(0), "its place was before that of lane 3");
        in_flight.begin(full);
        assert_eq!(waiting(&mut in_flight, 2), Some(3));
        assert_eq!(waiting(&mut in_flight, 0), None, "the target of lane 2 is full");
        in_flight.set_limits(&WatchOptions { in_flight_max: Some(4), per_target_max: 100 }, std::iter::empty(), None);
        assert_eq!(waiting(&mut in_flight, 0), Some(2), "with a higher limit there is room");
        (0..2).for_each(|_| in_flight.end(full));
        assert!(in_flight.targets.is_empty() && in_flight.waiting.is_empty());
    }

    #[test]
    fn a_limit_that_is_too_low_is_named() {
        let probes = || std::iter::repeat_n((Span::from_secs(5), Span::from_secs(10)), 3);
        let (needed, warning) = too_few(2, probes()).expect("two that hang keep the third waiting");
        assert!(needed == 3 && warning.contains("is 2: if nobody answered, 3 questions"), "{warning}");
        assert_eq!((too_few(3, probes()), too_few(4, probes())), (None, None));
        let seldom = || std::iter::repeat_n((Span::from_secs(10), Span::from_secs(3600)), 60);
        assert_eq!(too_few(1, seldom()), None);
        let mut in_flight = InFlight::new();
        for (max, warned) in [(2, Some((2, 3))), (2, Some((2, 3))), (3, None)] {
            in_flight.set_limits(&WatchOptions { in_flight_max: Some(max), per_target_max: 9 }, probes(), None);
            assert_eq!(in_flight.warned, warned, "{max}");
        }
    }
}
