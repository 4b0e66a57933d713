//! Which verdicts are journaled: those that changed, and each at least once a day.

use event::Span;
use event::promise::{Reason, Verdict};

/// How often a verdict is journaled though nothing changed.
pub const DAILY: Span = Span::from_days(1);

/// Whether `fresh` says something that `last`, the verdict journaled before on the same objective, does not: another
/// outcome, of another revision, at risk now and not before; or a day has passed. A figure that moves is no change: it
/// moves every second.
pub fn due(last: Option<&Verdict>, fresh: &Verdict) -> bool {
    let at_risk = |verdict: &Verdict| verdict.reasons.contains(&Reason::AtRisk);
    last.is_none_or(|last| {
        (last.outcome, &last.revision, last.evaluator, at_risk(last))
            != (fresh.outcome, &fresh.revision, fresh.evaluator, at_risk(fresh))
            || fresh.at.since(last.at) >= DAILY
    })
}
