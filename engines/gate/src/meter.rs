//! Who keeps an exchange waiting, counted in short steps: the deadline of a phase is on who is waited for, and on nobody else.
//!
//! Steps are counted, not clocks compared: a process that was stopped for a minute blames nobody for it.

use std::time::Duration;

use event::Span;

/// How often it is looked who is waited for.
pub(crate) const STEP: Duration = Duration::from_millis(250);
const STEP_SPAN: Span = Span::from_millis(250);
/// Steps over which the rate of a client is taken.
const STEPS_OF_RATE: u32 = 20;

/// Measures a client while it is waited for.
#[derive(Debug)]
pub(crate) struct ClientMeter {
    bytes_min: u64,
    steps: u32,
    bytes: u64,
}

impl ClientMeter {
    /// With so many bytes per second at least.
    pub(crate) fn new(rate_min: u32) -> Self {
        let per_second = u32::try_from(1000 / STEP.as_millis().max(1)).unwrap_or(1);
        Self { bytes_min: u64::from(rate_min) * u64::from(STEPS_OF_RATE / per_second), steps: 0, bytes: 0 }
    }

    /// One more step in which the client was waited for, after so many bytes in all.
    pub(crate) const fn is_too_slow(&mut self, bytes: u64) -> bool {
        self.steps += 1;
        if self.steps < STEPS_OF_RATE {
            return false;
        }
        let moved = bytes.saturating_sub(self.bytes);
        (self.steps, self.bytes) = (0, bytes);
        moved < self.bytes_min
    }
}

/// How long an upstream has moved nothing.
#[derive(Default, Debug)]
pub(crate) struct Quiet {
    steps: i64,
    bytes: u64,
}

impl Quiet {
    /// One more step in which the upstream was waited for, after so many bytes in all; whether nothing has moved for so long.
    pub(crate) const fn lasts(&mut self, bytes: u64, most: Span) -> bool {
        if bytes != self.bytes {
            (self.steps, self.bytes) = (0, bytes);
        }
        self.steps += 1;
        self.steps * STEP_SPAN.micros() >= most.micros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_too_slow_below_its_rate() {
        let slow = |per_step: u64| {
            let mut meter = ClientMeter::new(100);
            (1..200_u64).position(|step| meter.is_too_slow(step * per_step))
        };
        assert_eq!(slow(1), Some(19), "4 bytes a second");
        assert_eq!(slow(24), Some(19));
        assert_eq!(slow(26), None, "104 bytes a second");
    }

    #[test]
    fn what_moves_is_not_quiet() {
        let mut quiet = Quiet::default();
        assert!(!(0..100).any(|step| quiet.lasts(step, Span::from_secs(1))));
        let lasts = (0..10).position(|_| quiet.lasts(99, Span::from_secs(1)));
        assert_eq!(lasts, Some(2), "with the step before, a second");
    }
}
