//! Which announced maintenance is set apart.
//!
//! An outage must not be excused after the fact, and the journal proves the order. So a window counts only when
//!
//! - a policy that declares it was recorded before the window starts;
//! - no outage was going on then: the outage that had begun is not excused by what is announced during it, up to the
//!   moment when the service is up again;
//! - no later policy withdrew it. What is withdrawn no longer counts from the moment of the withdrawal on: a window
//!   that is shortened counts for what is left of it; one that is lengthened while it runs counts for what was
//!   announced. To lengthen it fairly, announce a second window before that one starts.

use event::{Interval, Spans, Time};

use crate::eras::Eras;
use crate::line::Line;

const BEGINNING: Time = Time::from_micros(i64::MIN);
const END: Time = Time::from_micros(i64::MAX);

/// The instants that maintenance sets apart, given the windows as they were declared over time and the state of the
/// service from the first of these declarations on.
pub(crate) fn set_apart(windows: &Eras<Vec<Interval>>, state: &Line) -> Spans {
    let mut apart = Spans::new();
    for era in windows.all() {
        let before = apart.clip(Interval::new(BEGINNING, era.from));
        let announced: Spans = era.value.iter().copied().collect();
        let kept = apart.clip(Interval::new(era.from, END)).intersect(&announced);
        let ahead: Spans = era.value.iter().copied().filter(|window| window.start > era.from).collect();
        let mut new = ahead.minus(&kept);
        if let Some(outage) = outage_at(state, era.from) {
            new = new.minus(&[outage].into_iter().collect());
        }
        apart = before.union(&kept).union(&new);
    }
    apart
}

/// The stretch around `time` during which the service was never up for certain, when by then it had been seen not up.
fn outage_at(state: &Line, time: Time) -> Option<Interval> {
    let ups = state.up.intervals();
    let next = ups.partition_point(|up| up.start <= time);
    let start = ups[..next].last().map_or(BEGINNING, |up| up.end);
    let end = ups.get(next).map_or(END, |up| up.start);
    let so_far = Interval::new(start, time + event::Span::from_micros(1));
    let seen = !state.down.clip(so_far).is_empty() || !state.undecided.clip(so_far).is_empty();
    seen.then_some(Interval::new(start, end))
}
