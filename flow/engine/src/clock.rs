//! Clocks: that of the machine, and one that a test sets.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use event::{Clock, Monotonic, Span, Time};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

mod steady;
mod watch;

pub use steady::Steady;
pub use watch::{ClockWatch, Oddity, STEP_MIN, timekeeper, timekeeper_of_agent};

/// The clocks of the machine: `CLOCK_REALTIME` for labels, `CLOCK_BOOTTIME` for lengths, because that goes on counting while
/// the machine is suspended. Both are read through the C library, where a test of the whole process can put other clocks in
/// between.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else is told to ask")]
        let now = SystemTime::now();
        let micros = |length: std::time::Duration| i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        Time::from_micros(now.duration_since(UNIX_EPOCH).map_or_else(|before| -micros(before.duration()), micros))
    }

    fn monotonic(&self) -> Monotonic {
        let reading = clock_gettime(ClockId::Boottime);
        Monotonic(reading.tv_sec * 1_000_000 + reading.tv_nsec / 1000)
    }

    /// Time that `CLOCK_BOOTTIME` counted and `CLOCK_MONOTONIC` did not.
    fn asleep(&self) -> Span {
        let awake = clock_gettime(ClockId::Monotonic);
        self.monotonic().since(Monotonic(awake.tv_sec * 1_000_000 + awake.tv_nsec / 1000))
    }
}

/// A clock for tests. Time passes with tokio's clock, so under paused time a simulated hour lasts as long as its events; the
/// wall clock can be set and stepped like a real one, and the machine can be suspended.
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
    /// The wall clock at `origin`, corrected by every step since, in µs.
    wall: AtomicI64,
    /// How long the machine was suspended altogether, in µs.
    suspended: AtomicI64,
    /// How long the process was stopped altogether, in µs.
    stopped: AtomicI64,
}

impl SimClock {
    /// A clock whose wall clock starts at `now`.
    #[expect(clippy::disallowed_methods, reason = "the simulated clock goes with the paused timers of tokio")]
    pub fn starting_at(now: Time) -> Self {
        Self {
            origin: Instant::now(),
            wall: AtomicI64::new(now.micros()),
            suspended: AtomicI64::new(0),
            stopped: AtomicI64::new(0),
        }
    }

    /// Steps the wall clock, forward or (with a negative length) back. The monotonic clock does not notice.
    pub fn step(&self, by: Span) {
        self.wall.fetch_add(by.micros(), Ordering::Relaxed);
    }

    /// Sets the wall clock.
    pub fn set(&self, now: Time) {
        self.step(now.since(self.now()));
    }

    /// Suspends the machine: both clocks have moved on when it wakes, but no timer has run.
    pub fn suspend(&self, length: Span) {
        self.suspended.fetch_add(length.micros(), Ordering::Relaxed);
    }

    /// Stops the process, as SIGSTOP does: as [`suspend`](Self::suspend), but the machine did not sleep.
    pub fn stop(&self, length: Span) {
        self.stopped.fetch_add(length.micros(), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        Time::from_micros(self.wall.load(Ordering::Relaxed).saturating_add(self.monotonic().0))
    }

    fn monotonic(&self) -> Monotonic {
        let awake = i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX);
        let lost = self.suspended.load(Ordering::Relaxed).saturating_add(self.stopped.load(Ordering::Relaxed));
        Monotonic(awake.saturating_add(lost))
    }

    fn asleep(&self) -> Span {
        Span::from_micros(self.suspended.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_machine_has_both_clocks() {
        let (wall, monotonic) = (SystemClock.now(), SystemClock.monotonic());
        assert!(wall > Time::from_secs(1_700_000_000), "{wall}");
        assert!(SystemClock.monotonic() >= monotonic);
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_time_passes_steps_and_sleeps() {
        let clock = SimClock::starting_at(Time::from_secs(1000));
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!((clock.now(), clock.monotonic()), (Time::from_secs(4600), Monotonic(3_600_000_000)));
        clock.step(Span::from_secs(-600));
        assert_eq!((clock.now(), clock.monotonic()), (Time::from_secs(4000), Monotonic(3_600_000_000)));
        clock.suspend(Span::from_secs(60));
        assert_eq!((clock.now(), clock.monotonic()), (Time::from_secs(4060), Monotonic(3_660_000_000)));
        clock.set(Time::from_secs(0));
        assert_eq!((clock.now(), clock.monotonic()), (Time::from_secs(0), Monotonic(3_660_000_000)));
    }
}
