//! Wall clock and monotonic clock, read together.

use event::{Clock, Monotonic, Time};

/// An instant on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// Wall clock, for labels.
    pub(crate) wall: Time,
    /// Monotonic clock, for lengths.
    pub(crate) monotonic: Monotonic,
}

impl Moment {
    /// Reads both clocks.
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}
