//! The verdicts in effect.

use event::policy::Promise;
use event::promise::{Outcome, Verdict};
use event::{PromiseId, Time};
use serde::{Deserialize, Serialize};

/// Verdicts in effect: the latest journaled one of each objective.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct InEffect {
    /// When everything was last evaluated, whether or not that was worth a new verdict.
    pub evaluated_at: Option<Time>,
    /// By promise and objective.
    verdicts: Vec<VerdictInEffect>,
}

/// A verdict in effect.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct VerdictInEffect {
    /// The verdict.
    pub verdict: Verdict,
    /// Which entry of the log says so.
    pub sequence: u64,
    /// Since when its outcome is what it is, for this revision of the promise.
    pub since: Time,
}

impl InEffect {
    fn find(&self, promise: &PromiseId, objective: u32) -> Result<usize, usize> {
        self.verdicts.binary_search_by(|row| (&row.verdict.promise, row.verdict.objective).cmp(&(promise, objective)))
    }

    /// Takes a verdict that entry `sequence` of the log holds. To be called in the order of the log.
    pub fn take(&mut self, sequence: u64, verdict: Verdict) {
        match self.find(&verdict.promise, verdict.objective) {
            Ok(place) => {
                let before = &self.verdicts[place];
                let same = before.verdict.outcome == verdict.outcome && before.verdict.revision == verdict.revision;
                let since = if same { before.since } else { verdict.at };
                self.verdicts[place] = VerdictInEffect { verdict, sequence, since };
            }
            Err(place) => {
                let since = verdict.at;
                self.verdicts.insert(place, VerdictInEffect { verdict, sequence, since });
            }
        }
    }

    /// Forgets verdicts on what is no longer promised: other promises, other revisions.
    pub fn keep_only(&mut self, promises: &[Promise]) {
        self.verdicts.retain(|row| {
            promises.iter().any(|promise| promise.id == row.verdict.promise && promise.revision == row.verdict.revision)
        });
    }

    /// All of them, by promise and objective.
    pub fn all(&self) -> impl Iterator<Item = &VerdictInEffect> {
        self.verdicts.iter()
    }

    /// The latest verdict on an objective, of whatever revision of its promise.
    pub fn latest(&self, promise: &PromiseId, objective: u32) -> Option<&VerdictInEffect> {
        self.verdicts.get(self.find(promise, objective).ok()?)
    }

    /// The verdict in effect on an objective; `None` when it was not judged since this revision of the promise was declared.
    pub fn of(&self, promise: &Promise, objective: u32) -> Option<&VerdictInEffect> {
        self.latest(&promise.id, objective).filter(|found| found.verdict.revision == promise.revision)
    }

    /// The outcome of a promise: broken when any objective is, kept when all are, else unproven.
    pub fn outcome(&self, promise: &Promise) -> Outcome {
        let outcomes = (0..)
            .zip(&promise.objectives)
            .map(|(number, _)| self.of(promise, number).map_or(Outcome::Unproven, |found| found.verdict.outcome));
        // No objective, no evidence.
        outcomes.reduce(worse).unwrap_or(Outcome::Unproven)
    }
}

const fn worse(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Broken, _) | (_, Outcome::Broken) => Outcome::Broken,
        (Outcome::Kept, Outcome::Kept) => Outcome::Kept,
        _ => Outcome::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_when_every_objective_is() {
        use Outcome::{Broken, Kept, Unproven};
        for (outcomes, expected) in [
            (&[Kept][..], Kept),
            (&[Kept, Kept], Kept),
            (&[Kept, Unproven], Unproven),
            (&[Unproven, Broken], Broken),
            (&[Broken, Kept], Broken),
        ] {
            assert_eq!(outcomes.iter().copied().reduce(worse), Some(expected), "{outcomes:?}");
        }
    }
}
