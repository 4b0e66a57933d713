//! Decides whether the clock can be trusted with destruction, which can't be undone.
//!
//! **Problem.** Retention ends by the wall clock. A machine whose battery is empty, or whose image was resumed, may wake
//! years ahead, and NTP needs minutes to say so; a key that was destroyed meanwhile is gone for ever. **Principle.** Nothing
//! is destroyed before the clock has run an hour without a step: NTP corrects a clock by stepping it soon after the start,
//! or after the network is there. A clock that stands more than a week ahead of the newest entry from before this start is
//! no likelier to be right than a garant that was off for a week, so it has to run for a day: time enough for somebody to
//! read the warning. Waiting costs nothing but a little disk; what is due is destroyed an hour, or a day, later.

use std::sync::Arc;

use event::{Clock, Monotonic, Span, Time};

use super::ClockWatch;

/// Time that a clock must have run without a step.
const STEADY: Span = Span::from_secs(3600);
/// How far ahead of the newest entry from before this start a clock may stand without more doubt: few installations are off for
/// longer, and wrong clocks are wrong by years.
const AHEAD_MAX: Span = Span::from_days(7);
/// Time that a clock which stands further ahead must have run without a step.
const STEADY_WHEN_AHEAD: Span = Span::from_days(1);

/// A watch over the clock since the engine started: says when something may be destroyed by it.
pub struct Steady {
    clock: Arc<dyn Clock>,
    watch: ClockWatch,
    since: Monotonic,
    /// When the newest entry from before this start of the process was recorded.
    newest_before: Option<Time>,
    warned: bool,
}

impl Steady {
    /// Starts the watch; the caller [looks](Self::look) at least once in `every`.
    pub fn new(clock: Arc<dyn Clock>, every: Span, newest_before: Option<Time>) -> Self {
        let (watch, since) = (ClockWatch::new(Arc::clone(&clock), every), clock.monotonic());
        Self { clock, watch, since, newest_before, warned: false }
    }

    /// Reads the clock. After a step, or when this was not called for a while, the required time starts anew.
    pub fn look(&mut self) {
        if !self.watch.look().is_empty() {
            (self.since, self.warned) = (self.clock.monotonic(), false);
        }
    }

    /// Whether the clock has run for long enough. Warns once while it stands far ahead.
    pub fn may_destroy(&mut self) -> bool {
        let now = self.clock.now();
        let newest = self.newest_before.filter(|newest| now.since(*newest) > AHEAD_MAX);
        if let Some(newest) = newest
            && !self.warned
        {
            self.warned = true;
            tracing::warn!(
                %now, %newest,
                "the clock is more than {AHEAD_MAX} ahead of the newest entry from before this start: nothing is destroyed until \
                 it has run {STEADY_WHEN_AHEAD} without a step. Correct it if it is wrong"
            );
        }
        let wanted = if newest.is_some() { STEADY_WHEN_AHEAD } else { STEADY };
        self.clock.monotonic().since(self.since) >= wanted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const NOW: Time = Time::from_secs(1_795_388_400);
    const EVERY: Span = Span::from_secs(10);

    #[derive(Default)]
    struct Clocks {
        passed: AtomicI64,
        stepped: AtomicI64,
    }

    impl Clock for Clocks {
        fn now(&self) -> Time {
            NOW + Span::from_micros(self.passed.load(Ordering::Relaxed) + self.stepped.load(Ordering::Relaxed))
        }
        fn monotonic(&self) -> Monotonic {
            Monotonic(self.passed.load(Ordering::Relaxed))
        }
    }

    /// Looks regularly for so long, then asks.
    fn after(steady: &mut Steady, clocks: &Clocks, span: Span) -> bool {
        let mut left = span;
        while left > Span::ZERO {
            clocks.passed.fetch_add(EVERY.min(left).micros(), Ordering::Relaxed);
            left = left - EVERY.min(left);
            steady.look();
        }
        steady.may_destroy()
    }

    fn start(newest_before: Option<Time>) -> (Steady, Arc<Clocks>) {
        let clocks = Arc::new(Clocks::default());
        (Steady::new(Arc::clone(&clocks) as _, EVERY, newest_before), clocks)
    }

    #[test]
    fn an_ordinary_start_waits_for_an_hour() {
        for newest in [None, Some(NOW - Span::from_days(6)), Some(NOW + Span::from_days(900))] {
            let (mut steady, clocks) = start(newest);
            assert!(!steady.may_destroy());
            assert!(!after(&mut steady, &clocks, STEADY - Span::from_secs(1)), "{newest:?}");
            assert!(after(&mut steady, &clocks, Span::from_secs(1)), "{newest:?}");
            clocks.stepped.fetch_add(Span::from_days(4000).micros(), Ordering::Relaxed);
            steady.look();
            assert!(!steady.may_destroy(), "a step while it runs");
        }
    }

    #[test]
    fn a_clock_far_ahead_waits_for_a_day_and_its_correction_ends_that() {
        let (mut steady, clocks) = start(Some(NOW - Span::from_days(3650)));
        assert!(!after(&mut steady, &clocks, STEADY + STEADY));
        assert!(!after(&mut steady, &clocks, Span::from_secs(22 * 3600 - 1)));
        assert!(after(&mut steady, &clocks, Span::from_secs(1)));

        let (mut steady, clocks) = start(Some(NOW - Span::from_days(3650)));
        assert!(!after(&mut steady, &clocks, STEADY + STEADY));
        clocks.stepped.fetch_sub(Span::from_days(3649).micros(), Ordering::Relaxed);
        steady.look();
        assert!(!steady.may_destroy());
        assert!(after(&mut steady, &clocks, STEADY));
    }

    #[test]
    fn a_sleeping_machine_proves_nothing() {
        let (mut steady, clocks) = start(None);
        clocks.passed.fetch_add(STEADY.micros(), Ordering::Relaxed);
        steady.look();
        assert!(!steady.may_destroy());
        assert!(after(&mut steady, &clocks, STEADY));
    }
}
