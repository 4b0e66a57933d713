//! Both clocks at once.

use event::{Clock, Monotonic, Time};

/// A moment of both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// For labels.
    pub(crate) wall: Time,
    /// For lengths.
    pub(crate) monotonic: Monotonic,
}

impl Moment {
    /// Reads both clocks.
    pub(crate) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }
}
