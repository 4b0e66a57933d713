//! The fold, and the questions that may be asked of it.

use event::engine::ClockStepped;
use event::evidence::{Changed, Covered, Found, Succeeded};
use event::policy::{Applied, Clause, Objective, Promise};
use event::promise::{Reason, Verdict};
use event::{Envelope, ObserverId, ProbeId, PromiseId, Time, Unreadable};
use serde::{Deserialize, Serialize};

use crate::declared::Declared;
use crate::eras::Eras;
use crate::fact::Fact;
use crate::line::Evidence;
use crate::observed::{LATE, Observed};
use crate::ruling::{Case, Lines};
use crate::{EVALUATOR, absence, availability, configuration, coverage, freshness};

/// What the entries below [`next`](Judge::next) say, in the form that verdicts are computed from.
///
/// Two judges that folded the same entries are equal in every answer, on every machine: there is no clock, no float and
/// no order of a hash map in here. It serialises, so a projection may keep it and go on where it stopped.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub struct Judge {
    next: u64,
    declared: Declared,
    observed: Observed,
}

impl Judge {
    /// A judge that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries read: those with a sequence below this.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The entry `sequence`, and those before it that were not shown, bear on nothing: they are of team kinds.
    pub fn skip(&mut self, sequence: u64) {
        self.next = self.next.max(sequence + 1);
    }

    /// Folds the entry `sequence`. Entries come in the order of the log; one that was read before changes nothing, one
    /// that is left out counts as [`skip`](Self::skip)ped.
    ///
    /// # Errors
    ///
    /// The body of a kind that verdicts rest on can't be read. The entry then counts for nothing, here as with everybody
    /// who has the same bytes, and the fold may go on.
    pub fn apply(&mut self, sequence: u64, envelope: &Envelope) -> Result<(), Unreadable> {
        match Fact::read(envelope) {
            Ok(Some(fact)) => self.fold(sequence, &envelope.observer, envelope.recorded_at, &fact),
            Ok(None) => self.skip(sequence),
            Err(unreadable) => {
                self.skip(sequence);
                return Err(unreadable);
            }
        }
        Ok(())
    }

    /// A policy was recorded.
    pub fn apply_policy(&mut self, sequence: u64, recorded_at: Time, applied: &Applied) {
        if self.is_new(sequence) {
            self.declared.apply(sequence, recorded_at, applied);
        }
    }

    /// The state of a probe changed for `observer`.
    pub fn apply_changed(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, changed: &Changed) {
        if self.is_new(sequence) {
            self.observed.changed(sequence, observer, recorded_at, changed);
        }
    }

    /// `observer` reported what it observed.
    pub fn apply_covered(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, coverage: &Covered) {
        if self.is_new(sequence) {
            self.observed.coverage(sequence, observer, recorded_at, coverage);
        }
    }

    /// A sign of life arrived at `observer`.
    pub fn apply_succeeded(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, pinged: &Succeeded) {
        if self.is_new(sequence) {
            self.observed.pinged(sequence, observer, recorded_at, pinged);
        }
    }

    /// A finding opened or closed for `observer`.
    pub fn apply_found(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, finding: &Found) {
        if self.is_new(sequence) {
            self.observed.finding(sequence, observer, recorded_at, finding);
        }
    }

    /// The clock of `observer` stepped.
    pub fn apply_clock_stepped(&mut self, sequence: u64, observer: &ObserverId, stepped: &ClockStepped) {
        if self.is_new(sequence) {
            self.observed.clock_stepped(observer, stepped.doubtful());
        }
    }

    pub(crate) fn fold(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, fact: &Fact) {
        match fact {
            Fact::Applied(applied) => self.apply_policy(sequence, recorded_at, applied),
            Fact::Changed(changed) => self.apply_changed(sequence, observer, recorded_at, changed),
            Fact::Covered(coverage) => self.apply_covered(sequence, observer, recorded_at, coverage),
            Fact::Succeeded(pinged) => self.apply_succeeded(sequence, observer, recorded_at, pinged),
            Fact::Found(finding) => self.apply_found(sequence, observer, recorded_at, finding),
            Fact::ClockStepped(stepped) => self.apply_clock_stepped(sequence, observer, stepped),
        }
    }

    fn is_new(&mut self, sequence: u64) -> bool {
        let new = sequence >= self.next;
        self.skip(sequence);
        new
    }

    pub(crate) const fn evidence(&self) -> Evidence<'_> {
        Evidence { declared: &self.declared, observed: &self.observed }
    }

    /// The policy in effect.
    pub fn policy(&self) -> Option<&Applied> {
        self.declared.policy()
    }

    /// The newest entry that holds it.
    pub fn policy_sequence(&self) -> Option<u64> {
        self.declared.sequence()
    }

    /// Up to when a verdict at `at` can speak of these probes: as far as the records of all who look at them reach. An
    /// observer that is silent is waited for until [`LATE`] after its next look was due, and then missed.
    fn reach<'a>(&self, probes: impl IntoIterator<Item = &'a ProbeId>, at: Time) -> Time {
        let reach = |probe: &'a ProbeId| {
            let asked = self.declared.asked(probe)?;
            let latest = |observer| {
                let until = self.observed.reported_until(&self.declared, observer, probe);
                until.map_or(at - asked.every - LATE, |until| until.max(at - asked.every - LATE)).min(at)
            };
            asked.observers.iter().map(latest).min()
        };
        probes.into_iter().filter_map(reach).min().unwrap_or(at)
    }

    /// The probes that an objective rests on by the policy in effect.
    fn concerned<'a>(&'a self, objective: &'a Objective) -> &'a [ProbeId] {
        match objective {
            Objective::Availability { service, .. } | Objective::Coverage { service, .. } => {
                self.declared.service(service).and_then(Eras::last).map_or(&[], Vec::as_slice)
            }
            Objective::Absence { finding, .. } => {
                self.declared.finding(finding).and_then(Eras::last).map_or(&[], Vec::as_slice)
            }
            Objective::Configuration { probe, .. } | Objective::Freshness { probe, .. } => std::slice::from_ref(probe),
        }
    }

    /// Every objective of every promise in effect that this release knows, judged at `at`, in the order of the policy.
    pub fn verdicts(&self, at: Time) -> Vec<Verdict> {
        let mut lines = Lines::default();
        let promises = self.policy().map(|policy| policy.promises.as_slice()).unwrap_or_default();
        let clauses = promises.iter().flat_map(|promise| (0u32..).zip(&promise.objectives).map(move |c| (promise, c)));
        let verdict = |(promise, (index, clause)): (&Promise, (u32, &Clause))| {
            Some(self.judge(promise, index, &clause.read()?, at, &mut lines))
        };
        clauses.filter_map(verdict).collect()
    }

    /// One objective, counted from 0, of a promise in effect, judged at `at`; `None` when there is none, or none that this
    /// release knows.
    pub fn verdict(&self, promise: &PromiseId, objective: u32, at: Time) -> Option<Verdict> {
        self.verdict_with(promise, objective, at, &mut Lines::default())
    }

    /// The same with what was worked out before for this `at` and these entries.
    pub(crate) fn verdict_with(
        &self,
        promise: &PromiseId,
        objective: u32,
        at: Time,
        lines: &mut Lines,
    ) -> Option<Verdict> {
        let (promise, clause) = self.clause(promise, objective)?;
        Some(self.judge(promise, objective, &clause.read()?, at, lines))
    }

    /// An objective, counted from 0, of a promise in effect, as it was written.
    pub(crate) fn clause(&self, promise: &PromiseId, objective: u32) -> Option<(&Promise, &Clause)> {
        let promise = self.policy()?.promises.iter().find(|p| p.id == *promise)?;
        Some((promise, promise.objectives.get(usize::try_from(objective).ok()?)?))
    }

    fn judge(&self, promise: &Promise, index: u32, objective: &Objective, at: Time, lines: &mut Lines) -> Verdict {
        let over = objective.over();
        let window = self.declared.window(promise, over, self.reach(self.concerned(objective), at));
        let mut case = Case { evidence: self.evidence(), lines, window, over };
        let ruling = match objective {
            Objective::Availability { service, at_least, .. } => availability::rule(&mut case, service, *at_least),
            Objective::Freshness { probe, at_most, .. } => freshness::rule(&mut case, probe, *at_most),
            Objective::Coverage { service, at_least, .. } => coverage::rule(&mut case, service, *at_least),
            Objective::Configuration { probe, observed, .. } => configuration::rule(&mut case, probe, *observed),
            Objective::Absence { finding, observed, .. } => absence::rule(&mut case, finding, *observed),
        };
        let elapsed = window.length();
        let filling = (elapsed < over).then_some(Reason::WindowFilling { elapsed, length: over });
        Verdict {
            promise: promise.id.clone(),
            revision: promise.revision.clone(),
            objective: index,
            evaluator: EVALUATOR,
            tree_size: self.next,
            at,
            window,
            outcome: ruling.outcome,
            figure: ruling.figure,
            reasons: filling.into_iter().chain(ruling.reasons).collect(),
            evidence: ruling.cited.into_sequences(),
        }
    }
}
