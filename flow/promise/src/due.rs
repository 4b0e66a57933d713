//! The rule of which verdicts are journaled: those that changed, and each at least once a day.

use event::Span;
use event::promise::{Reason, Verdict};

/// Longest time between two journaled verdicts on an objective.
pub const DAILY: Span = Span::from_days(1);

/// Whether `fresh` is to be journaled after `last`, the verdict journaled before on the same objective: it has another outcome,
/// revision or evaluator, began or ceased to be at risk, or is a day younger. A figure that moves is no reason: it moves every
/// second.
pub fn due(last: Option<&Verdict>, fresh: &Verdict) -> bool {
    let at_risk = |verdict: &Verdict| verdict.reasons.contains(&Reason::AtRisk);
    last.is_none_or(|last| {
        (last.outcome, &last.revision, last.evaluator, at_risk(last))
            != (fresh.outcome, &fresh.revision, fresh.evaluator, at_risk(fresh))
            || fresh.at.since(last.at) >= DAILY
    })
}
