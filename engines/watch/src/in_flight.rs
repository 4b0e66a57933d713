//! Limits on the number of questions under way, over all and to one target.
//!
//! [`crate::rounds`] asks before each start. The limit is made for the worst day, when nobody answers: a question that is
//! answered takes milliseconds, one that is not takes its whole timeout. With a smaller one, six thousand probes of a network
//! that is gone would leave no slot for those of healthy services, whose time would be unproven while nothing is wrong with
//! them. It is bounded by their share of the file descriptors that the process may have; a quarter is kept for confirmations, which must not
//! wait behind those who only take their turn.

use std::collections::HashMap;

use engine::descriptors;
use event::Span;

use crate::config::WatchOptions;
use crate::schedule::Cause;

/// The least limit, whatever the probes need.
const MIN: usize = 100;
/// Of all slots, this part is for confirmations only.
const KEPT_PART: usize = 4;

/// The limits, and how many questions are under way to each target.
#[derive(Debug)]
pub(crate) struct InFlight {
    all_max: usize,
    target_max: usize,
    targets: HashMap<String, usize>,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        Self { all_max: MIN, target_max: MIN, targets: HashMap::new() }
    }

    /// Sets the limits for `probes`, each given as its timeout and its interval. `descriptors`: how many files and sockets the
    /// process may have open; `None` for as many as it likes.
    pub(crate) fn set_limits(
        &mut self,
        options: &WatchOptions,
        probes: impl Iterator<Item = (Span, Span)>,
        descriptors: Option<u64>,
    ) {
        self.target_max = usize::try_from(options.per_target_max).unwrap_or(usize::MAX);
        self.all_max = options.in_flight_max.unwrap_or_else(|| {
            let (needed, affordable) = (needed(probes), descriptors::questions(descriptors));
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

    /// Whether a question to `target` may start, when so many are under way.
    pub(crate) fn admits(&self, under_way: usize, target: Option<&str>, cause: Cause) -> bool {
        let open_to = |max: usize| match cause {
            Cause::Call => max,
            Cause::Turn => max - max / KEPT_PART,
        };
        let at_target = target.and_then(|target| self.targets.get(target)).copied().unwrap_or(0);
        under_way < open_to(self.all_max) && at_target < open_to(self.target_max)
    }

    /// Takes one slot of `target`.
    pub(crate) fn begin(&mut self, target: Option<&str>) {
        if let Some(target) = target {
            *self.targets.entry(target.to_owned()).or_default() += 1;
        }
    }

    /// Frees one slot of `target`.
    pub(crate) fn end(&mut self, target: Option<&str>) {
        let Some(target) = target else { return };
        if let Some(count) = self.targets.get_mut(target) {
            *count -= 1;
            if *count == 0 {
                self.targets.remove(target);
            }
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
    (at_once + at_once / 10).min(lanes).max(MIN)
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
}
