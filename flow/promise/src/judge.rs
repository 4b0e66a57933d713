//! The judge: the fold of all entries, and the verdicts that follow from it.

use event::engine::{Blind, ClockStepped};
use event::evidence::{Changed, Counted, Covered, Found, Reacted, Restored, Succeeded};
use event::policy::{Applied, Clause, Promise};
use event::promise::{Reason, Verdict};
use event::{Body as _, Envelope, Interval, ObserverId, ProbeId, PromiseId, ServiceId, Span, Spans, Time, Unreadable};

use crate::audit::OLD_MAX;
use crate::burn::{self, Burning};
use crate::declared::Declarations;
use crate::eras::Eras;
use crate::fact::Fact;
use crate::line::Evidence;
use crate::lines::{self, Lines, Subject};
use crate::objective::{Objective, Records};
use crate::observed::{LATE, Observations, SKEW};
use crate::parts::Unsaved;
use crate::ruling::Case;
use crate::services::{Began, OpenFindings, Services, Standings};
use crate::{EVALUATOR, maintenance};

/// By how much more than `every` the end of what was before may be away from what began for that to need no word: an answer takes
/// its time.
const BEGAN_WITHIN: Span = Span::from_secs(10);

/// The fold of the entries below [`next`](Judge::next), in the form that verdicts are computed from.
///
/// Two judges that folded the same entries are equal in every answer, on every machine: there is no clock, no float and
/// no order of a hash map in here. It is saved in [parts](Judge::changed_parts), from which a restart goes on.
///
/// # Memory
///
/// A judge remembers everything until it is told to [forget](Judge::forget): then what any verdict may still need. That grows with
/// what changes within the longest window, by some 24 bytes a step of a state, gap of a record or success of a job, and 40 a count of
/// requests, of which a site without failures has 288 a day; with policies that
/// differ from the one before; and with steps of clocks. An engine bounds how often it journals a change of state.
#[derive(Clone, Debug)]
pub struct Judge {
    pub(crate) next: u64,
    /// The instant from which on nothing is forgotten.
    pub(crate) since: Time,
    pub(crate) declared: Declarations,
    pub(crate) observed: Observations,
    lines: Lines,
    pub(crate) standings: Standings,
    pub(crate) unsaved: Unsaved,
}

impl Default for Judge {
    fn default() -> Self {
        let (declared, observed) = (Declarations::default(), Observations::default());
        let since = Time::from_micros(i64::MIN);
        let (lines, standings, unsaved) = (Lines::default(), Standings::default(), Unsaved::default());
        Self { next: 0, since, declared, observed, lines, standings, unsaved }
    }
}

impl Judge {
    /// The value of `since` once an entry made something matter again that was forgotten: no answer is right until the log is read
    /// again.
    const NOT_REMEMBERED: Time = Time::from_micros(i64::MAX);

    /// A judge that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries read: those with a sequence below this.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Passes over the entry `sequence` and those before it that were not folded: no verdict rests on them.
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
            Ok(None) if envelope.kind == Blind::KIND.name => match envelope.body::<Blind>() {
                Some(Ok(blind)) => self.apply_blind(sequence, &envelope.observer, &blind),
                // No verdict rests on it.
                None | Some(Err(_)) => self.skip(sequence),
            },
            Ok(None) => self.skip(sequence),
            Err(unreadable) => {
                self.skip(sequence);
                return Err(unreadable);
            }
        }
        Ok(())
    }

    /// Folds a policy.
    pub fn apply_policy(&mut self, sequence: u64, recorded_at: Time, applied: &Applied) {
        if self.is_new(sequence) {
            let findings = applied.findings.iter().flat_map(|declared| &declared.probes);
            let mut probes = applied.probes.iter().map(|probe| &probe.id).chain(findings);
            if probes.any(|probe| self.declared.is_removed(probe, self.since)) {
                // A probe comes back, and what was said of it before may be forgotten.
                self.since = Self::NOT_REMEMBERED;
            }
            let is_known = self.declared.knows(&applied.revision);
            let from = self.declared.apply(sequence, recorded_at, applied);
            if let Some((from, applied)) = from.zip(self.declared.policy()) {
                let is_asked = |observer: &ObserverId, probe: &ProbeId| {
                    self.declared.asked(probe).is_some_and(|asked| asked.observers.contains(observer))
                };
                for (observer, probe) in self.observed.forget_states_unless(is_asked) {
                    self.unsaved.track(&observer, &probe);
                }
                self.standings.apply(applied, &self.declared, &self.observed, from);
            }
            match from {
                None => {}
                // Records of the past that follow it may count otherwise.
                Some(_) if is_known => self.lines.forget_all(),
                Some(from) => {
                    self.lines.changed_from(from);
                    // Records that were ahead of their policy count from now on.
                    self.observed.first_under(&applied.revision).into_iter().for_each(|at| self.lines.changed_from(at));
                }
            }
            self.unsaved.declared();
        }
    }

    /// Folds a change of state that `observer` saw.
    pub fn apply_changed(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, changed: &Changed) {
        if self.is_new(sequence) {
            let began = match self.observed.last_state(observer, &changed.probe) {
                Some(_) => self.began(observer, &changed.probe, recorded_at, changed.after, changed.by),
                None => Began { by: changed.by.min(recorded_at + SKEW), after: None },
            };
            self.observed.changed(sequence, observer, recorded_at, changed);
            self.lines.changed_from(changed.after.min(changed.by).min(recorded_at));
            self.unsaved.track(observer, &changed.probe);
            self.standings.changed(&changed.probe, &self.declared, &self.observed, began);
        }
    }

    /// The beginning of what `observer` says to have begun in this probe between `after` and `by`. An observer that starts anew
    /// does not know what was before: that was known up to where its records end.
    fn began(&self, observer: &ObserverId, probe: &ProbeId, recorded_at: Time, after: Time, by: Time) -> Began {
        let by = by.min(recorded_at + SKEW);
        let known = if after < by { Some(after) } else { self.observed.recorded_until(observer) };
        let every = self.declared.asked(probe).map_or(Span::ZERO, |asked| asked.every);
        Began { by, after: known.filter(|known| by.since(*known) > every + BEGAN_WITHIN) }
    }

    /// Folds a time in which an engine of `observer` observed nothing. No verdict rests on it.
    pub fn apply_blind(&mut self, sequence: u64, observer: &ObserverId, blind: &Blind) {
        if self.is_new(sequence) && self.observed.blind(observer, blind) {
            self.unsaved.observer(observer);
        }
    }

    /// Folds a coverage record of `observer`.
    pub fn apply_covered(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, coverage: &Covered) {
        if self.is_new(sequence) {
            self.observed.coverage(sequence, observer, recorded_at, coverage);
            self.lines.changed_from(coverage.interval.start);
            self.unsaved.observer(observer);
            coverage.gaps.iter().for_each(|gap| self.unsaved.track(observer, &gap.probe));
        }
    }

    /// Folds a success that `observer` heard of.
    pub fn apply_succeeded(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, succeeded: &Succeeded) {
        if self.is_new(sequence) {
            self.observed.succeeded(sequence, observer, recorded_at, succeeded);
            self.unsaved.track(observer, &succeeded.probe);
        }
    }

    /// Folds a finding that opened or closed for `observer`.
    pub fn apply_found(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, found: &Found) {
        if self.is_new(sequence) {
            let began = match self.observed.finding_steps(observer, &found.probe, &found.finding) {
                Some(_) => self.began(observer, &found.probe, recorded_at, found.after, found.by),
                None => Began { by: found.by.min(recorded_at + SKEW), after: None },
            };
            self.observed.found(sequence, observer, recorded_at, found);
            self.lines.changed_from(found.after.min(found.by).min(recorded_at));
            self.unsaved.track(observer, &found.probe);
            self.standings.found(observer, found, began);
        }
    }

    /// Folds a message about a failure, or a test message, that a channel accepted; or a ban.
    pub fn apply_reacted(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, reacted: &Reacted) {
        if self.is_new(sequence) {
            self.observed.reacted(sequence, observer, recorded_at, reacted);
            match &reacted.probe {
                Some(probe) => self.unsaved.track(observer, probe),
                None => self.unsaved.observer(observer),
            }
        }
    }

    /// Folds an exact restore that `observer` reports.
    pub fn apply_restored(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, restored: &Restored) {
        if self.is_new(sequence) {
            self.observed.restored(sequence, observer, recorded_at, restored);
            self.unsaved.track(observer, &restored.probe);
        }
    }

    /// Folds a count of requests by `observer`.
    pub fn apply_counted(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, counted: &Counted) {
        if self.is_new(sequence) {
            self.observed.counted(sequence, observer, recorded_at, counted);
            self.unsaved.track(observer, &counted.probe);
        }
    }

    /// Folds a step of the clock of `observer`.
    pub fn apply_clock_stepped(&mut self, sequence: u64, observer: &ObserverId, stepped: &ClockStepped) {
        if self.is_new(sequence) {
            if !self.observed.clock_stepped(observer, stepped.doubtful(), self.since) {
                self.since = Self::NOT_REMEMBERED;
            }
            self.lines.changed_from(stepped.doubtful().start);
            self.unsaved.vantage(observer);
        }
    }

    pub(crate) fn fold(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, fact: &Fact) {
        match fact {
            Fact::Applied(applied) => self.apply_policy(sequence, recorded_at, applied),
            Fact::Changed(changed) => self.apply_changed(sequence, observer, recorded_at, changed),
            Fact::Covered(coverage) => self.apply_covered(sequence, observer, recorded_at, coverage),
            Fact::Succeeded(succeeded) => self.apply_succeeded(sequence, observer, recorded_at, succeeded),
            Fact::Reacted(reacted) => self.apply_reacted(sequence, observer, recorded_at, reacted),
            Fact::Restored(restored) => self.apply_restored(sequence, observer, recorded_at, restored),
            Fact::Counted(counted) => self.apply_counted(sequence, observer, recorded_at, counted),
            Fact::Found(found) => self.apply_found(sequence, observer, recorded_at, found),
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

    /// The current state of each service of the policy in effect. No verdict rests on it.
    pub fn services(&self) -> &Services {
        self.standings.services()
    }

    /// The open findings. No verdict rests on them.
    pub fn open_findings(&self) -> &OpenFindings {
        self.standings.findings()
    }

    /// When no observer reported anything, or said that it could not: a state that is said to hold since before was not watched then.
    pub fn unwatched(&self) -> Spans {
        self.observed.unwatched()
    }

    /// The policy in effect.
    pub fn policy(&self) -> Option<&Applied> {
        self.declared.policy()
    }

    /// The newest entry that holds the policy in effect.
    pub fn policy_sequence(&self) -> Option<u64> {
        self.declared.sequence()
    }

    /// Every objective of every promise in effect that this release knows, judged at `at`, in the order of the policy.
    pub fn verdicts(&mut self, at: Time) -> Vec<Verdict> {
        let Self { next, since, declared, observed, lines, .. } = self;
        let evidence = Evidence { declared, observed };
        let promises = declared.policy().map(|policy| policy.promises.as_slice()).unwrap_or_default();
        let clauses = promises.iter().flat_map(|promise| (0u32..).zip(&promise.objectives).map(move |c| (promise, c)));
        let mut judging = Judging { evidence, lines, since: *since, next: *next, at };
        let judged = |(promise, (index, clause)): (&Promise, (u32, &Clause))| {
            Some(judging.verdict(promise, index, &Objective::of(clause)?))
        };
        clauses.filter_map(judged).collect()
    }

    /// The objectives whose budget is being used up too fast at `at`. No verdict rests on it.
    pub fn burning(&mut self, at: Time) -> Vec<Burning> {
        let Self { declared, observed, lines, .. } = self;
        let Some(policy) = declared.policy() else { return Vec::new() };
        burn::burning(policy, Evidence { declared, observed }, lines, at)
    }

    /// Whether verdicts at `at` need nothing of what was [forgotten](Self::forget). The caller asks before each evaluation, and reads
    /// the log again from its first entry when this is false: after a clock was set back, an entry about long ago, or the return
    /// of a probe that was removed.
    pub fn remembers(&self, at: Time) -> bool {
        if self.since == Time::from_micros(i64::MIN) {
            return true;
        }
        let evidence = self.evidence();
        let promises = self.policy().into_iter().flat_map(|policy| &policy.promises);
        let mut objectives =
            promises.flat_map(|promise| promise.objectives.iter().map(move |clause| (promise, clause)));
        objectives.all(|(promise, clause)| {
            let Some(objective) = Objective::of(clause) else { return true };
            let reach = evidence.reach(&objective, at);
            let window = self.declared.window(promise, objective.over(), reach);
            window.start.min(reach) >= self.since && self.knows_outages(&objective, window)
        })
    }

    /// Whether enough is remembered to say if an outage was going on when the maintenance inside `window` was announced.
    fn knows_outages(&self, objective: &Objective, window: Interval) -> bool {
        if !objective.sets_maintenance_apart() {
            return true;
        }
        let subject = objective.subject();
        let is_concerned = |service: &ServiceId| match &subject {
            Subject::Service(concerned) => service == concerned,
            Subject::AllServices => true,
            Subject::Probe(_) | Subject::Finding(_) => false,
        };
        self.declared.maintained().filter(|(service, _)| is_concerned(service)).all(|(service, eras)| {
            let subject = Subject::Service(service.clone());
            let mut ahead = eras.all().iter().filter(|era| !maintenance::ahead(era, window).is_empty());
            ahead.all(|era| lines::last_known(self.evidence(), &subject, era.from, self.since).is_ok())
        })
    }

    /// One objective, counted from 0, of a promise in effect, judged at `at`; `None` when there is none, or none that this
    /// release knows.
    pub fn verdict(&mut self, promise: &PromiseId, objective: u32, at: Time) -> Option<Verdict> {
        let Self { next, since, declared, observed, lines, .. } = self;
        let promise = declared.policy()?.promises.iter().find(|p| p.id == *promise)?;
        let rule = Objective::of(promise.objectives.get(usize::try_from(objective).ok()?)?)?;
        let evidence = Evidence { declared, observed };
        Some(Judging { evidence, lines, since: *since, next: *next, at }.verdict(promise, objective, &rule))
    }

    /// Drops what no verdict as of `now` − [`OLD_MAX`] or later needs. No such verdict changes, unless
    /// [`remembers`](Self::remembers) is false.
    pub fn forget(&mut self, now: Time) {
        let Some(before) = self.needed_from(now - OLD_MAX).filter(|before| *before > self.since) else { return };
        self.since = before;
        // Before it goes, so that its rows go too.
        self.unsaved.all_observed(&self.observed);
        self.observed.forget(before, |probe| self.declared.is_removed(probe, before));
        self.lines.forget_before(before);
    }

    /// The first instant that a verdict as of `at` or later may need; `None` when that can't be told.
    fn needed_from(&self, at: Time) -> Option<Time> {
        let evidence = self.evidence();
        let policy = self.policy()?;
        let mut from = at;
        for promise in &policy.promises {
            for objective in promise.objectives.iter().filter_map(Objective::of) {
                let subject = objective.subject();
                let asked = evidence.concerned(&subject).filter_map(|probe| self.declared.asked(probe));
                let every = asked.map(|asked| objective.records().every(asked.every)).max();
                let reach = at - every.unwrap_or(Span::ZERO).max(Span::ZERO) - LATE;
                from = from.min(reach).min(self.declared.window(promise, objective.over(), reach).start);
            }
        }
        // What was announced is excused or not by what the service was when it was announced.
        loop {
            let rest = Interval::new(from, Time::from_micros(i64::MAX));
            let mut needed = from;
            for (service, eras) in self.declared.maintained() {
                for era in eras.all().iter().filter(|era| !maintenance::ahead(era, rest).is_empty()) {
                    let subject = Subject::Service(service.clone());
                    let known = lines::last_known(evidence, &subject, era.from, self.since).ok()?;
                    needed = needed.min(known.map_or(era.from, |(time, _)| time.min(era.from)));
                }
            }
            if needed == from {
                return Some(from);
            }
            from = needed;
        }
    }

    /// The clause of an objective, counted from 0, of a promise in effect.
    pub(crate) fn clause(&self, promise: &PromiseId, objective: u32) -> Option<(&Promise, &Clause)> {
        let promise = self.policy()?.promises.iter().find(|p| p.id == *promise)?;
        Some((promise, promise.objectives.get(usize::try_from(objective).ok()?)?))
    }
}

impl Evidence<'_> {
    /// The end of the window of a verdict as of `at` on this objective: the instant up to which the records of all observers of its
    /// probes reach. A silent observer is waited for until [`LATE`] after its next look was due; then the window goes on without it.
    fn reach(&self, objective: &Objective, at: Time) -> Time {
        let records = objective.records();
        let reach = |probe: &ProbeId| {
            let asked = self.declared.asked(probe)?;
            let waited = at - records.every(asked.every) - LATE;
            let latest = |observer| {
                let until = match records {
                    Records::Covered => self.observed.reported_until(self.declared, observer, probe),
                    Records::Counted => self.observed.counted_until(observer, probe),
                };
                until.map_or(waited, |until| until.max(waited)).min(at)
            };
            asked.observers.iter().map(latest).min()
        };
        self.concerned(&objective.subject()).filter_map(reach).min().unwrap_or(at)
    }
}

impl<'e> Evidence<'e> {
    /// The probes of the subject in the policy in effect.
    fn concerned<'s>(&self, subject: &'s Subject) -> impl Iterator<Item = &'s ProbeId>
    where
        'e: 's,
    {
        let declared: &'e Declarations = self.declared;
        let last = |eras: Option<&'e Eras<Vec<ProbeId>>>| eras.and_then(Eras::last).map_or(&[][..], Vec::as_slice);
        let (one, all) = match subject {
            Subject::Service(service) => (last(declared.service(service)), None),
            Subject::Finding(finding) => (last(declared.finding(finding)), None),
            Subject::Probe(probe) => (std::slice::from_ref(probe), None),
            Subject::AllServices => (&[][..], declared.policy()),
        };
        one.iter().chain(all.into_iter().flat_map(|policy| &policy.probes).map(|probe| &probe.id))
    }
}

/// The parts of a judge that verdicts as of one instant are computed from.
struct Judging<'a> {
    evidence: Evidence<'a>,
    lines: &'a mut Lines,
    since: Time,
    next: u64,
    at: Time,
}

impl Judging<'_> {
    fn verdict(&mut self, promise: &Promise, index: u32, objective: &Objective) -> Verdict {
        let &mut Self { evidence, ref mut lines, since, next, at } = self;
        let over = objective.over();
        let reach = evidence.reach(objective, at);
        let window = evidence.declared.window(promise, over, reach);
        let ruling = objective.judge(&mut Case { evidence, lines, window, since, over });
        let elapsed = window.length();
        let filling = (elapsed < over).then_some(Reason::WindowFilling { elapsed, length: over });
        Verdict {
            promise: promise.id.clone(),
            revision: promise.revision.clone(),
            objective: index,
            evaluator: EVALUATOR,
            tree_size: next,
            at,
            window,
            outcome: ruling.outcome,
            figure: ruling.figure,
            reasons: filling.into_iter().chain(ruling.reasons).collect(),
            evidence: ruling.cited.into_sequences(),
        }
    }
}
