//! How much may be under way at once.
//!
//! **Problem.** A question that is answered takes milliseconds; one that nobody answers takes its whole timeout. So when a
//! network of six thousand probes is black-holed, a limit that was ample a minute ago is full of questions to it, and the
//! probes of healthy services find no room: their time is unproven while nothing is wrong with them. And what confirms a
//! first failure must not wait behind those who only take their turn.
//!
//! **Principle.** Room is for the worst day: a probe whose every question times out, with its confirmation, is under way
//! for two timeouts of each interval. It is bounded by the descriptors that the process may have, and a quarter is kept for
//! confirmations.

use std::collections::HashMap;

use event::Span;

use crate::config::Options;
use crate::schedule::Cause;

/// The least room, whatever the probes need.
const MIN: usize = 100;
/// Descriptors that are not for questions: the store, the web, and what else the process has open.
const DESCRIPTORS_KEPT: u64 = 256;
/// Descriptors of a question: its connection, and one to a name server or to another address of the name.
const DESCRIPTORS_EACH: u64 = 2;
/// Of the room, this part is for confirmations only.
const KEPT_PART: usize = 4;

/// The room there is, and who is in it.
#[derive(Debug)]
pub(crate) struct Room {
    all_max: usize,
    target_max: usize,
    targets: HashMap<String, usize>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { all_max: MIN, target_max: MIN, targets: HashMap::new() }
    }

    /// Makes room for probes, each given as its timeout and its interval. `descriptors`: how many the process may have;
    /// `None` for as many as it likes.
    pub(crate) fn furnish(
        &mut self,
        options: &Options,
        probes: impl Iterator<Item = (Span, Span)>,
        descriptors: Option<u64>,
    ) {
        self.target_max = usize::try_from(options.per_target_max).unwrap_or(usize::MAX);
        self.all_max = options.in_flight_max.unwrap_or_else(|| {
            let (needed, affordable) = (needed(probes), affordable(descriptors));
            if needed > affordable {
                tracing::warn!(
                    needed,
                    affordable,
                    "if nobody answered, the probes would need more file descriptors than the process may have: raise its \
                     limit (LimitNOFILE of systemd, `ulimit -n`), or some samples will be unknown then"
                );
            }
            needed.min(affordable)
        });
    }

    /// Whether there is room for a question to `target`, when so many are under way.
    pub(crate) fn has(&self, under_way: usize, target: Option<&str>, cause: Cause) -> bool {
        let open_to = |max: usize| match cause {
            Cause::Call => max,
            Cause::Turn => max - max / KEPT_PART,
        };
        let at_target = target.and_then(|target| self.targets.get(target)).copied().unwrap_or(0);
        under_way < open_to(self.all_max) && at_target < open_to(self.target_max)
    }

    /// A question to it leaves.
    pub(crate) fn enter(&mut self, target: Option<&str>) {
        if let Some(target) = target {
            *self.targets.entry(target.to_owned()).or_default() += 1;
        }
    }

    /// It is over.
    pub(crate) fn leave(&mut self, target: Option<&str>) {
        let Some(target) = target else { return };
        if let Some(count) = self.targets.get_mut(target) {
            *count -= 1;
            if *count == 0 {
                self.targets.remove(target);
            }
        }
    }
}

/// How many questions are under way at once, when none is answered: two timeouts of each interval, and a tenth more,
/// because chance does not spread them evenly.
fn needed(probes: impl Iterator<Item = (Span, Span)>) -> usize {
    const WHOLE: i64 = 1_000_000;
    let (mut lanes, mut parts) = (0_usize, 0_i64);
    for (timeout, every) in probes {
        let every = every.micros().max(1);
        let busy = i128::from(timeout.micros().saturating_mul(2).clamp(0, every));
        lanes += 1;
        parts += i64::try_from(busy * i128::from(WHOLE) / i128::from(every)).unwrap_or(WHOLE);
    }
    let at_once = usize::try_from(parts / WHOLE + 1).unwrap_or(usize::MAX);
    // Nobody is asked twice at once.
    (at_once + at_once / 10).min(lanes).max(MIN)
}

fn affordable(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return usize::MAX };
    let questions = descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH;
    usize::try_from(questions).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(options: Options, probes: usize, timeout: i64, every: i64, descriptors: Option<u64>) -> usize {
        let mut room = Room::new();
        let each = (Span::from_secs(timeout), Span::from_secs(every));
        room.furnish(&options, std::iter::repeat_n(each, probes), descriptors);
        room.all_max
    }

    #[test]
    fn there_is_room_for_the_worst_day() {
        let usual = Options::default();
        for (probes, timeout, every, descriptors, expect) in [
            (10, 10, 60, None, 100),
            (10_000, 5, 10, None, 10_000),
            (10_000, 10, 60, None, 3_667),
            (10_000, 10, 60, Some(524_288), 3_667),
            (10_000, 10, 60, Some(1_024), 384),
            (10, 10, 60, Some(100), 1),
        ] {
            assert_eq!(room(usual, probes, timeout, every, descriptors), expect, "{probes} probes, {descriptors:?}");
        }
        let said = Options { in_flight_max: Some(500), ..usual };
        assert_eq!(room(said, 10_000, 5, 10, Some(1_024)), 500, "the policy has the last word");
    }

    #[test]
    fn confirmations_always_find_room() {
        let mut room = Room::new();
        room.furnish(&Options { in_flight_max: Some(8), per_target_max: 4 }, std::iter::empty(), None);
        let may = |room: &Room, under_way, cause| room.has(under_way, Some("a:80"), cause);
        assert!(may(&room, 5, Cause::Turn) && !may(&room, 6, Cause::Turn));
        assert!(may(&room, 7, Cause::Call) && !may(&room, 8, Cause::Call));
        (0..3).for_each(|_| room.enter(Some("a:80")));
        assert!(!may(&room, 3, Cause::Turn) && may(&room, 3, Cause::Call));
        assert!(room.has(3, Some("b:80"), Cause::Turn) && room.has(3, None, Cause::Turn));
        room.leave(Some("a:80"));
        assert!(may(&room, 2, Cause::Turn));
    }
}
