//! The verdicts in effect, and beside each the verdict of the last evaluation.

use std::sync::Arc;

use event::policy::Promise;
use event::promise::{Outcome, Verdict};
use event::{PromiseId, Spans, Time};
use serde::{Deserialize, Serialize};

use crate::burn::Burning;
use crate::services::{OpenFindings, Services};

/// The verdicts in effect: of each objective the latest journaled one, which there is a proof of, and the one of the last
/// evaluation, which people are shown. The judge hands it to the pages after each evaluation.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct InEffect {
    /// The time of the last evaluation, whether or not a verdict of it was journaled.
    #[serde(skip)]
    evaluated_at: Option<Time>,
    /// Sorted by promise and objective.
    verdicts: Vec<VerdictInEffect>,
    /// Sorted by promise and objective.
    #[serde(skip)]
    evaluated: Vec<EvaluatedVerdict>,
    /// The state of each service by the entries that the evaluation read.
    #[serde(skip)]
    pub services: Services,
    /// The open findings by the same entries.
    #[serde(skip)]
    pub open_findings: OpenFindings,
    /// The objectives whose budget is being used up too fast, by the same.
    #[serde(skip)]
    pub burning: Arc<Vec<Burning>>,
    /// When nothing looked at anything, by the same.
    #[serde(skip)]
    pub unwatched: Arc<Spans>,
}

/// A verdict of the last evaluation.
#[derive(Clone, PartialEq, Debug)]
pub struct EvaluatedVerdict {
    /// The verdict, without the entries that it cites.
    pub verdict: Verdict,
    /// The time from which on the outcome has been the same, for this revision of the promise.
    pub since: Time,
}

/// A journaled verdict in effect.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct VerdictInEffect {
    /// The verdict.
    pub verdict: Verdict,
    /// The entry that holds it.
    pub sequence: u64,
    /// The time from which on the outcome has been the same, for this revision of the promise.
    pub since: Time,
}

impl InEffect {
    fn find(&self, promise: &PromiseId, objective: u32) -> Result<usize, usize> {
        self.verdicts.binary_search_by(|row| key(&row.verdict).cmp(&(promise, objective)))
    }

    /// Adds the verdict of entry `sequence`. Called in the order of the log.
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

    /// Sets the verdicts of the evaluation at `at`. Called once those of them that were journaled are [taken](Self::take).
    pub fn evaluate(&mut self, at: Time, verdicts: impl IntoIterator<Item = Verdict>) {
        let before = std::mem::take(&mut self.evaluated);
        let evaluated = |verdict: Verdict| {
            let same = |other: &Verdict| {
                (&other.promise, other.objective, &other.revision, other.outcome)
                    == (&verdict.promise, verdict.objective, &verdict.revision, verdict.outcome)
            };
            let journaled = self.latest(&verdict.promise, verdict.objective).filter(|found| same(&found.verdict));
            let since = journaled.map(|found| found.since);
            let since = since.or_else(|| Some(before.iter().find(|found| same(&found.verdict))?.since));
            EvaluatedVerdict {
                since: since.unwrap_or(verdict.at),
                verdict: Verdict { evidence: Vec::new(), ..verdict },
            }
        };
        let mut evaluated: Vec<_> = verdicts.into_iter().map(evaluated).collect();
        evaluated.sort_by(|one, other| key(&one.verdict).cmp(&key(&other.verdict)));
        self.evaluated = evaluated;
        self.evaluated_at = Some(at);
    }

    /// The time of the last evaluation, whether or not a verdict of it was journaled.
    pub fn evaluated_at(&self) -> Option<Time> {
        self.evaluated_at
    }

    /// The verdicts of the last evaluation, by promise and objective.
    pub fn evaluated(&self) -> &[EvaluatedVerdict] {
        &self.evaluated
    }

    /// The verdict of the last evaluation on an objective; `None` when it was not judged since this revision of the promise was
    /// declared.
    pub fn now(&self, promise: &Promise, objective: u32) -> Option<&EvaluatedVerdict> {
        let place = self.evaluated.binary_search_by(|row| key(&row.verdict).cmp(&(&promise.id, objective))).ok()?;
        self.evaluated.get(place).filter(|found| found.verdict.revision == promise.revision)
    }

    /// Forgets verdicts on what is no longer promised: other promises, other revisions.
    pub fn keep_only(&mut self, promises: &[Promise]) {
        self.verdicts.retain(|row| {
            promises.iter().any(|promise| promise.id == row.verdict.promise && promise.revision == row.verdict.revision)
        });
    }

    /// The journaled verdicts in effect, by promise and objective.
    pub fn all(&self) -> impl Iterator<Item = &VerdictInEffect> {
        self.verdicts.iter()
    }

    /// The latest journaled verdict on an objective, of whatever revision of its promise.
    pub fn latest(&self, promise: &PromiseId, objective: u32) -> Option<&VerdictInEffect> {
        self.verdicts.get(self.find(promise, objective).ok()?)
    }

    /// The journaled verdict in effect on an objective; `None` when there is none on this revision of the promise.
    pub fn of(&self, promise: &Promise, objective: u32) -> Option<&VerdictInEffect> {
        self.latest(&promise.id, objective).filter(|found| found.verdict.revision == promise.revision)
    }

    /// The outcome of a promise at the last evaluation: broken when any objective is, kept when all are, else unproven.
    pub fn outcome(&self, promise: &Promise) -> Outcome {
        let outcomes = (0..)
            .zip(&promise.objectives)
            .map(|(number, _)| self.now(promise, number).map_or(Outcome::Unproven, |found| found.verdict.outcome));
        // No objective, no evidence.
        outcomes.reduce(worse).unwrap_or(Outcome::Unproven)
    }
}

fn key(verdict: &Verdict) -> (&PromiseId, u32) {
    (&verdict.promise, verdict.objective)
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
    use event::policy::{Clause, Text};
    use event::promise::{Figure, Unit};
    use event::{Interval, Ppb, Span};

    use super::*;
    use crate::objective::{Availability, Objective};

    fn promise() -> Promise {
        let availability = Availability {
            service: "shop".parse().expect("a name"),
            at_least: Ppb::new(500_000_000),
            over: Span::from_days(1),
        };
        Promise {
            id: "AV-1".parse().expect("a name"),
            revision: "r1".to_owned(),
            text: Text::default(),
            objectives: vec![Clause::from(&Objective::Availability(availability))],
        }
    }

    fn verdict(at: i64, outcome: Outcome, low: i64) -> Verdict {
        let at = Time::from_secs(at);
        Verdict {
            promise: "AV-1".parse().expect("a name"),
            revision: "r1".to_owned(),
            objective: 0,
            evaluator: crate::EVALUATOR,
            tree_size: 1,
            at,
            window: Interval::new(Time::from_secs(0), at),
            outcome,
            figure: Some(Figure { unit: Unit::Ppb, low, high: 1_000_000_000, target: 500_000_000 }),
            reasons: vec![],
            evidence: vec![0],
        }
    }

    /// What people are shown is the last evaluation; what there is a proof of is the last verdict in the journal.
    #[test]
    fn the_last_evaluation_is_beside_the_last_verdict_in_the_journal() {
        let (promise, mut in_effect) = (promise(), InEffect::default());
        in_effect.take(7, verdict(100, Outcome::Kept, 900_000_000));
        in_effect.evaluate(Time::from_secs(200), [verdict(200, Outcome::Kept, 800_000_000)]);
        let shown = |in_effect: &InEffect| {
            let now = in_effect.now(&promise, 0).expect("evaluated");
            (now.verdict.outcome, now.verdict.figure.expect("a figure").low, now.since)
        };
        assert_eq!(shown(&in_effect), (Outcome::Kept, 800_000_000, Time::from_secs(100)));
        assert_eq!(in_effect.evaluated_at(), Some(Time::from_secs(200)));
        let journaled = in_effect.of(&promise, 0).expect("journaled");
        assert_eq!((journaled.sequence, journaled.verdict.at), (7, Time::from_secs(100)));

        // A journal that takes nothing: the outcome of now is told all the same, and since when.
        for at in [300, 400] {
            in_effect.evaluate(Time::from_secs(at), [verdict(at, Outcome::Broken, 400_000_000)]);
            assert_eq!(shown(&in_effect), (Outcome::Broken, 400_000_000, Time::from_secs(300)));
            assert_eq!(in_effect.outcome(&promise), Outcome::Broken);
            assert_eq!(in_effect.of(&promise, 0).map(|found| found.verdict.outcome), Some(Outcome::Kept));
        }
        in_effect.take(8, verdict(410, Outcome::Broken, 400_000_000));
        in_effect.evaluate(Time::from_secs(420), [verdict(420, Outcome::Broken, 300_000_000)]);
        assert_eq!(shown(&in_effect), (Outcome::Broken, 300_000_000, Time::from_secs(410)));

        let tightened = Promise { revision: "r2".to_owned(), ..promise.clone() };
        assert!(in_effect.now(&tightened, 0).is_none() && in_effect.of(&tightened, 0).is_none());
        assert_eq!(in_effect.outcome(&tightened), Outcome::Unproven);
    }

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
