//! The rule of which maintenance is set apart from availability.
//!
//! An outage must not be excused after the fact, and the journal proves the order. So a window counts only when
//!
//! - a policy that declares it was recorded before the window starts;
//! - no outage was going on then, by the last that was known of the service: the outage that had begun is not excused by what
//!   is announced during it, up to the moment when the service is up again;
//! - no later policy withdrew it. What is withdrawn no longer counts from the moment of the withdrawal on: a window
//!   that is shortened counts for what is left of it; one that is lengthened while it runs counts for what was
//!   announced. To lengthen it fairly, announce a second window before that one starts.

use event::{Interval, Spans, Time};

use crate::eras::{Era, Eras};

const BEGINNING: Time = Time::from_micros(i64::MIN);
const END: Time = Time::from_micros(i64::MAX);

/// The instants of `within` that are set apart, of the maintenance `windows` as they were declared over time. `outage_at` is the
/// outage that was going on at an instant, if any.
pub(crate) fn set_apart<E>(
    windows: &Eras<Vec<Interval>>,
    within: Interval,
    mut outage_at: impl FnMut(Time) -> Result<Option<Interval>, E>,
) -> Result<Spans, E> {
    let mut apart = Spans::new();
    for era in windows.all() {
        let before = apart.clip(Interval::new(BEGINNING, era.from));
        let announced: Spans = era.value.iter().map(|window| window.intersect(within)).collect();
        let kept = apart.clip(Interval::new(era.from, END)).intersect(&announced);
        let mut new = ahead(era, within).minus(&kept);
        if !new.is_empty()
            && let Some(outage) = outage_at(era.from)?
        {
            new = new.minus(&[outage].into_iter().collect());
        }
        apart = before.union(&kept).union(&new);
    }
    Ok(apart)
}

/// The windows of an era that start after it was declared, as far as they are inside `within`.
pub(crate) fn ahead(era: &Era<Vec<Interval>>, within: Interval) -> Spans {
    era.value.iter().filter(|window| window.start > era.from).map(|window| window.intersect(within)).collect()
}
