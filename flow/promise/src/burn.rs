//! Burn rates: how many times faster than promised an availability is being used up. For alerts, never for a verdict.
//!
//! The thresholds are those of the SRE Workbook (chapter 5, "multiwindow, multi-burn-rate alerts"): 14.4 times over an hour uses 2 %
//! of the budget of 30 days, 6 times over six hours 5 %. The short window ends the alert soon after the outage. Only what was
//! certainly down counts.

use event::policy::{Applied, Clause};
use event::{Interval, Ppb, PromiseId, ServiceId, Span, Time};

use crate::line::Evidence;
use crate::lines::{Lines, Subject};
use crate::objective::Objective;

/// A rule: the long window, the short one, and the burn rate in tenths that both must reach.
const RULES: [(Span, Span, i64); 2] =
    [(Span::from_secs(3600), Span::from_secs(300), 144), (Span::from_secs(6 * 3600), Span::from_secs(1800), 60)];

/// An objective whose budget is being used up too fast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Burning {
    /// The promise.
    pub promise: PromiseId,
    /// The number of the objective.
    pub objective: u32,
    /// The service.
    pub service: ServiceId,
    /// Over this length of time.
    pub over: Span,
    /// So many tenths as fast as the promise allows.
    pub tenths: i64,
    /// Whether it is the fast rule: all of it would be gone within days.
    pub fast: bool,
}

/// The objectives of the policy that burn at `at`, the fastest rule of each.
pub(crate) fn burning(applied: &Applied, evidence: Evidence<'_>, lines: &mut Lines, at: Time) -> Vec<Burning> {
    let clauses = applied.promises.iter().flat_map(|promise| (0..).zip(&promise.objectives).map(move |c| (promise, c)));
    let burns = |(promise, (objective, clause)): (&event::policy::Promise, (u32, &Clause))| {
        let Objective::Availability(availability) = Objective::of(clause)? else { return None };
        let (longest, ..) = RULES[1];
        let state =
            lines.state(evidence, &Subject::Service(availability.service.clone()), Interval::new(at - longest, at));
        if state.line.down.intervals().last().is_none_or(|last| last.end <= at - longest) {
            return None;
        }
        let rate = |window: Span| {
            let within = Interval::new(at - window, at);
            let down: Span = state.line.down.inside(within).map(Interval::length).fold(Span::ZERO, |sum, it| sum + it);
            tenths(down, window, availability.at_least)
        };
        let (over, rate, fast) = RULES.into_iter().zip([true, false]).find_map(|((long, short, least), fast)| {
            let rates = (rate(long)?, rate(short)?);
            (rates.0 >= least && rates.1 >= least).then_some((long, rates.0, fast))
        })?;
        let service = availability.service;
        Some(Burning { promise: promise.id.clone(), objective, service, over, tenths: rate, fast })
    };
    clauses.filter_map(burns).collect()
}

/// The burn rate in tenths; `None` where nothing may ever be down.
fn tenths(down: Span, window: Span, at_least: Ppb) -> Option<i64> {
    let allowed = 1_000_000_000 - at_least.parts();
    if allowed <= 0 || window <= Span::ZERO {
        return None;
    }
    let rate = i128::from(down.micros()) * 10_000_000_000 / (i128::from(window.micros()) * i128::from(allowed));
    Some(i64::try_from(rate).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_was_down_by_what_may_be() {
        let three_nines = Ppb::new(999_000_000);
        for (down, window, expected) in [(0, 3600, 0), (36, 3600, 100), (52, 3600, 144), (3600, 3600, 10_000)] {
            let rate = tenths(Span::from_secs(down), Span::from_secs(window), three_nines);
            assert_eq!(rate, Some(expected), "{down} s of {window} s");
        }
        assert_eq!(tenths(Span::from_secs(1), Span::from_secs(60), Ppb::new(1_000_000_000)), None);
    }
}
