//! The observations of all observers: the fold of `evidence.*` and `engine.clock_stepped`.
//!
//! Everything is kept per observer, as spans that merge: a year of unbroken coverage is one interval. What an entry says of a
//! time after its own recording counts for nothing, since it can't have been observed.

use std::collections::BTreeMap;

use event::engine::{Blind, BlindCause};
use event::evidence::{Changed, Counted, Covered, Found, Reacted, ReactedTo, Restored, State, Succeeded};
use event::{FindingId, Interval, ObserverId, ProbeId, Span, Spans, Time};
use serde::{Deserialize, Serialize};

use crate::declared::Declarations;
use crate::deltas::{self, DeltaRow};
use crate::steps::{Condition, Steps};

/// How far the clock of an observer may be ahead of that of the server that records.
pub(crate) const SKEW: Span = Span::from_secs(5);

/// How long after the time between two looks a coverage record may come before the time without one counts as not observed.
pub(crate) const LATE: Span = Span::from_secs(120);

/// The engine whose records they are.
const WATCH: &str = "watch";

/// For how long it is remembered that nothing was observed: records that begin after it come within two minutes and the `every` of
/// their probes, which is a day at most.
const BLIND_KEPT: Span = Span::from_days(2);

/// A success of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Success {
    /// The time of its ping.
    pub at: Time,
    /// The entry that reports it.
    pub sequence: u64,
}

impl DeltaRow<2> for Success {
    fn numbers(&self) -> [i64; 2] {
        [self.at.micros(), self.sequence.cast_signed()]
    }

    fn of([at, sequence]: [i64; 2]) -> Option<Self> {
        Some(Self { at: Time::from_micros(at), sequence: sequence.cast_unsigned() })
    }
}

/// A restore that was exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Restore {
    /// When it had ended.
    pub at: Time,
    /// How long it took.
    pub took: Span,
    /// How old the newest instant that could be restored was when it began.
    pub lost: Span,
    /// The entry that reports it.
    pub sequence: u64,
}

impl Restore {
    /// When it began.
    pub(crate) fn began(&self) -> Time {
        self.at - self.took
    }
}

impl DeltaRow<4> for Restore {
    fn numbers(&self) -> [i64; 4] {
        [self.at.micros(), self.took.micros(), self.lost.micros(), self.sequence.cast_signed()]
    }

    fn of([at, took, lost, sequence]: [i64; 4]) -> Option<Self> {
        let (at, took, lost) = (Time::from_micros(at), Span::from_micros(took), Span::from_micros(lost));
        Some(Self { at, took, lost, sequence: sequence.cast_unsigned() })
    }
}

/// A count of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count {
    /// When it ends, as far as can have been seen when it was recorded.
    pub end: Time,
    /// When it begins.
    pub start: Time,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that failed.
    pub failed: u64,
    /// The entry that tells it.
    pub sequence: u64,
}

impl DeltaRow<5> for Count {
    fn numbers(&self) -> [i64; 5] {
        let [answered, failed, sequence] = [self.answered, self.failed, self.sequence].map(u64::cast_signed);
        [self.end.micros(), self.start.micros(), answered, failed, sequence]
    }

    fn of([end, start, answered, failed, sequence]: [i64; 5]) -> Option<Self> {
        let [answered, failed, sequence] = [answered, failed, sequence].map(i64::cast_unsigned);
        Some(Self { end: Time::from_micros(end), start: Time::from_micros(start), answered, failed, sequence })
    }
}

/// A message about a failure, or a test message, that a channel accepted; or a ban that answers an offence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reaction {
    /// When what it answers was seen or complete, or when the test message was put in the queue.
    pub since: Time,
    /// When a channel accepted it, or the ban was in force.
    pub at: Time,
    /// The entry that says so.
    pub sequence: u64,
}

impl DeltaRow<3> for Reaction {
    fn numbers(&self) -> [i64; 3] {
        [self.since.micros(), self.at.micros(), self.sequence.cast_signed()]
    }

    fn of([since, at, sequence]: [i64; 3]) -> Option<Self> {
        let (since, at) = (Time::from_micros(since), Time::from_micros(at));
        Some(Self { since, at, sequence: sequence.cast_unsigned() })
    }
}

/// All that one observer said of one probe.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Track {
    /// The state that it reported last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    steps: Steps,
    gaps: Spans,
    #[serde(with = "deltas")]
    successes: Vec<Success>,
    findings: BTreeMap<FindingId, Seeking>,
    /// The messages about its changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "deltas")]
    reactions: Vec<Reaction>,
    /// The bans that answer the offences that it saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "deltas")]
    bans: Vec<Reaction>,
    /// The exact restores that it reported, by their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "deltas")]
    restores: Vec<Restore>,
    /// The requests that it counted, by the ends of its counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "deltas")]
    counts: Vec<Count>,
    /// When it counted.
    #[serde(default, skip_serializing_if = "Spans::is_empty")]
    counted: Spans,
}

/// All that one observer said of one finding in one probe.
#[derive(Clone, Serialize, Deserialize, Debug)]
struct Seeking {
    steps: Steps,
    /// The time during which the finding could not be looked for, although the probe was observed.
    gaps: Spans,
}

impl Track {
    /// Whether everything at `from` goes on for ever: no step, gap, success, message, ban, restore or count is later.
    fn is_over(&self, from: Time) -> bool {
        let over = |steps: &Steps, gaps: &Spans| steps.is_constant_from(from) && gaps.is_empty();
        let found = self.findings.values().all(|seeking| over(&seeking.steps, &seeking.gaps));
        let answered = !self.reactions.is_empty() || !self.bans.is_empty();
        let succeeded = !self.successes.is_empty() || !self.restores.is_empty();
        over(&self.steps, &self.gaps) && self.counted.is_empty() && !succeeded && !answered && found
    }
}

impl Default for Seeking {
    fn default() -> Self {
        Self { steps: Steps::clear(), gaps: Spans::new() }
    }
}

/// The properties of a coverage record that decide for which probes it counts: the revision of its policy, and its `every`.
type RecordClass = (String, Option<Span>);

/// The coverage records and the test messages of one observer.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Reports {
    /// The time that its records cover, by class.
    stretches: Vec<(RecordClass, Spans)>,
    /// Its newest record: the entry, and the end of the time that it covers.
    newest: Option<(u64, Time)>,
    /// The test messages that it sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "deltas")]
    tests: Vec<Reaction>,
    /// When it said that it observed nothing, which records say later.
    #[serde(default, skip_serializing_if = "Spans::is_empty")]
    blind: Spans,
}

/// All that one observer said.
#[derive(Clone, Debug, Default)]
struct ObserverHistory {
    reports: Reports,
    tracks: BTreeMap<ProbeId, Track>,
}

/// The part of a probe that an observer looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aspect<'a> {
    /// Its own state.
    State,
    /// A finding in it.
    Finding(&'a FindingId),
}

/// The bracket of a change, cut to what can have been seen when it was recorded. Otherwise a clock that was a year ahead for an
/// hour would leave a year of which nothing can be said.
fn not_before_it_happens(after: Time, by: Time, recorded_at: Time) -> (Time, Time) {
    let latest = recorded_at + SKEW;
    (after.min(latest), by.min(latest))
}

/// The fold of all observers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observations {
    observers: BTreeMap<ObserverId, ObserverHistory>,
    /// Time during which the labels of the clock of a vantage mean nothing.
    doubtful: BTreeMap<String, Spans>,
}

impl Observations {
    fn track(&mut self, observer: &ObserverId, probe: &ProbeId) -> &mut Track {
        self.observers.entry(observer.clone()).or_default().tracks.entry(probe.clone()).or_default()
    }

    pub(crate) fn changed(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, changed: &Changed) {
        let condition = Condition::from(changed.state);
        let (after, by) = not_before_it_happens(changed.after, changed.by, recorded_at);
        let track = self.track(observer, &changed.probe);
        track.state = Some(changed.state);
        track.steps.change(after, by, condition, sequence);
    }

    pub(crate) fn coverage(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, coverage: &Covered) {
        let observer = self.observers.entry(observer.clone()).or_default();
        let Interval { start, end } = coverage.interval;
        let interval = Interval::new(start, end.min(recorded_at + SKEW));
        let of = |((revision, every), _): &&mut (RecordClass, Spans)| {
            (revision, every) == (&coverage.revision, &coverage.every)
        };
        // The newest come last, and are asked for most.
        if let Some((_, spans)) = observer.reports.stretches.iter_mut().rev().find(of) {
            spans.add(interval);
        } else {
            let class = (coverage.revision.clone(), coverage.every);
            observer.reports.stretches.push((class, [interval].into_iter().collect()));
        }
        for gap in &coverage.gaps {
            // A gap wins over whatever another record says of the same time: two records that overlap are one too many.
            let track = observer.tracks.entry(gap.probe.clone()).or_default();
            let gaps = match &gap.finding {
                None => &mut track.gaps,
                Some(finding) => &mut track.findings.entry(finding.clone()).or_default().gaps,
            };
            gaps.add(gap.interval.intersect(interval));
        }
        observer.reports.newest = Some((sequence, interval.end));
    }

    pub(crate) fn succeeded(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, succeeded: &Succeeded) {
        if succeeded.at > recorded_at + SKEW {
            return;
        }
        let successes = &mut self.track(observer, &succeeded.probe).successes;
        let place = successes.partition_point(|s| s.at <= succeeded.at);
        successes.insert(place, Success { at: succeeded.at, sequence });
    }

    pub(crate) fn restored(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, restored: &Restored) {
        let Restored { ref probe, at, took, lost } = *restored;
        if at > recorded_at + SKEW {
            return;
        }
        let restores = &mut self.track(observer, probe).restores;
        let place = restores.partition_point(|restore| restore.at <= at);
        restores.insert(place, Restore { at, took, lost, sequence });
    }

    pub(crate) fn counted(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, counted: &Counted) {
        let Interval { start, end } = counted.interval;
        let interval = Interval::new(start, end.min(recorded_at + SKEW));
        if interval.is_empty() {
            return;
        }
        let (mut answered, mut failed) = (0_u64, 0_u64);
        for minute in &counted.minutes {
            (answered, failed) = (answered + u64::from(minute.answered), failed + u64::from(minute.failed));
        }
        let track = self.track(observer, &counted.probe);
        track.counted.add(interval);
        let place = track.counts.partition_point(|count| count.end <= interval.end);
        track.counts.insert(place, Count { end: interval.end, start, answered, failed, sequence });
    }

    /// Folds a message that a channel accepted, or a ban. What is about a finding, or of a later release, counts for nothing; nor does
    /// what became of a message once it was accepted.
    pub(crate) fn reacted(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, reacted: &Reacted) {
        let message = Reaction { since: reacted.since, at: reacted.at, sequence };
        if message.at > recorded_at + SKEW {
            return;
        }
        match (reacted.to, &reacted.probe, &reacted.finding) {
            (ReactedTo::Failure, Some(probe), None) => self.track(observer, probe).reactions.push(message),
            (ReactedTo::Offence, Some(probe), None) => self.track(observer, probe).bans.push(message),
            (ReactedTo::Test, ..) => self.observers.entry(observer.clone()).or_default().reports.tests.push(message),
            _ => {}
        }
    }

    pub(crate) fn found(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, found: &Found) {
        let (after, by) = not_before_it_happens(found.after, found.by, recorded_at);
        let track = self.track(observer, &found.probe);
        let seeking = track.findings.entry(found.finding.clone()).or_default();
        let condition = if found.open { Condition::Down } else { Condition::Up };
        seeking.steps.change(after, by, condition, sequence);
    }

    /// Drops what no instant from `before` on needs, and all that is left of the tracks of probes that `is_removed` names.
    ///
    /// A time of doubtful labels counts whole, however long ago it began, so it stays whole while it reaches `before`. The first
    /// one of all stays too: see [`clock_stepped`](Self::clock_stepped).
    pub(crate) fn forget(&mut self, before: Time, is_removed: impl Fn(&ProbeId) -> bool) {
        let rest = Interval::new(before, Time::from_micros(i64::MAX));
        for observer in self.observers.values_mut() {
            observer.reports.stretches.iter_mut().for_each(|(_, spans)| spans.cut(rest));
            observer.reports.tests.retain(|test| test.at >= before);
            observer.reports.blind.cut(rest);
            observer.reports.stretches.retain(|(_, spans)| !spans.is_empty());
            for track in observer.tracks.values_mut() {
                track.steps.forget(before);
                track.gaps.cut(rest);
                track.successes.drain(..track.successes.partition_point(|success| success.at < before));
                track.restores.drain(..track.restores.partition_point(|restore| restore.at < before));
                track.counts.drain(..track.counts.partition_point(|count| count.end <= before));
                track.counted.cut(rest);
                track.reactions.retain(|message| message.since.max(message.at) >= before);
                track.bans.retain(|ban| ban.at >= before);
                for seeking in track.findings.values_mut() {
                    seeking.steps.forget(before);
                    seeking.gaps.cut(rest);
                }
            }
            observer.tracks.retain(|probe, track| !track.is_over(before) || !is_removed(probe));
        }
        self.observers.retain(|_, said| {
            let Reports { stretches, newest, tests, blind } = &said.reports;
            let is_remembered =
                !said.tracks.is_empty() || !stretches.is_empty() || !tests.is_empty() || !blind.is_empty();
            is_remembered || newest.is_some_and(|(_, end)| end > before)
        });
        // Rules join the doubtful times of several vantages: what touches one that reaches `before` belongs to it.
        let all = self.doubtful.values().fold(Spans::new(), |all, spans| all.union(spans));
        let reaching = all.intervals().iter().find(|interval| interval.end >= before);
        let before = reaching.map_or(before, |interval| interval.start.min(before));
        self.doubtful.values_mut().for_each(|spans| spans.drain_between_first_and(before));
    }

    /// The coverage records of each observer.
    pub(crate) fn reports(&self) -> impl Iterator<Item = (&ObserverId, &Reports)> {
        self.observers.iter().map(|(observer, said)| (observer, &said.reports))
    }

    pub(crate) fn reports_of(&self, observer: &ObserverId) -> Option<&Reports> {
        self.observers.get(observer).map(|said| &said.reports)
    }

    pub(crate) fn tracks(&self) -> impl Iterator<Item = (&ObserverId, &ProbeId, &Track)> {
        self.observers.iter().flat_map(|(observer, said)| said.tracks.iter().map(move |(p, t)| (observer, p, t)))
    }

    /// The first instant that a coverage record under this revision covers.
    pub(crate) fn first_under(&self, revision: &str) -> Option<Time> {
        let stretches = self.observers.values().flat_map(|said| &said.reports.stretches);
        let starts = stretches.filter(|((of, _), _)| of == revision).filter_map(|(_, spans)| spans.intervals().first());
        starts.map(|interval| interval.start).min()
    }

    pub(crate) fn vantages(&self) -> impl Iterator<Item = &String> {
        self.doubtful.keys()
    }

    pub(crate) fn stepped(&self, vantage: &str) -> Option<&Spans> {
        self.doubtful.get(vantage)
    }

    pub(crate) fn restore_reports(&mut self, observer: ObserverId, reports: Reports) {
        self.observers.entry(observer).or_default().reports = reports;
    }

    pub(crate) fn restore_track(&mut self, observer: ObserverId, probe: ProbeId, track: Track) {
        self.observers.entry(observer).or_default().tracks.insert(probe, track);
    }

    pub(crate) fn restore_stepped(&mut self, vantage: &str, doubtful: Spans) {
        self.doubtful.insert(vantage.to_owned(), doubtful);
    }

    /// Folds a step of the clock of a vantage. False when what was before `since` is forgotten and it can't be told how long labels
    /// meant nothing: the `doubtful` time began before `since`, and may have touched others that were forgotten. It touched them
    /// all if it reaches from the first of each vantage, or from before that, to `since`.
    pub(crate) fn clock_stepped(&mut self, observer: &ObserverId, doubtful: Interval, since: Time) -> bool {
        let mut firsts = self.doubtful.values().filter_map(|spans| spans.intervals().first());
        let reaches_over_all = firsts.all(|first| doubtful.start <= first.end && doubtful.end >= since);
        self.doubtful.entry(observer.vantage().to_owned()).or_default().add(doubtful);
        doubtful.is_empty() || doubtful.start >= since || reaches_over_all
    }

    /// The time covered by those records of this observer that count for this probe, by class.
    fn stretches<'a>(
        &'a self,
        declared: &'a Declarations,
        observer: &'a ObserverId,
        probe: &'a ProbeId,
    ) -> impl Iterator<Item = &'a Spans> {
        let all = self.observers.get(observer).into_iter().flat_map(|seen| &seen.reports.stretches);
        all.filter(move |((revision, every), _)| declared.counts(revision, *every, probe, observer)).map(|(_, s)| s)
    }

    /// Folds a time in which an engine observed nothing; false when the watch did all the same.
    pub(crate) fn blind(&mut self, observer: &ObserverId, blind: &Blind) -> bool {
        let stood_still = match blind.cause {
            BlindCause::Stopped | BlindCause::Suspended => true,
            BlindCause::Restart | BlindCause::Frozen | BlindCause::Storage => blind.engine == WATCH,
            // What does not reach out was watched.
            BlindCause::Uplink => false,
        };
        if stood_still {
            let spans = &mut self.observers.entry(observer.clone()).or_default().reports.blind;
            spans.cut(Interval::new(blind.interval.start - BLIND_KEPT, Time::from_micros(i64::MAX)));
            spans.add(blind.interval);
        }
        stood_still
    }

    /// Up to when records of this observer reach.
    pub(crate) fn recorded_until(&self, observer: &ObserverId) -> Option<Time> {
        self.observers.get(observer)?.reports.newest.map(|(_, end)| end)
    }

    /// Forgets the states of which `is_asked` says that nobody looks any more, for when it is looked again, it may be another. Returns
    /// whose they were.
    pub(crate) fn forget_states_unless(
        &mut self,
        is_asked: impl Fn(&ObserverId, &ProbeId) -> bool,
    ) -> Vec<(ObserverId, ProbeId)> {
        let mut forgotten = Vec::new();
        for (observer, said) in &mut self.observers {
            for (probe, track) in said.tracks.iter_mut().filter(|(_, track)| track.state.is_some()) {
                if !is_asked(observer, probe) {
                    track.state = None;
                    forgotten.push((observer.clone(), probe.clone()));
                }
            }
        }
        forgotten
    }

    /// When no observer reported anything, from the first report of which something is remembered on: nothing ran. After the last
    /// one, when an observer said so.
    pub(crate) fn unwatched(&self) -> Spans {
        let stretches = self.observers.values().flat_map(|said| &said.reports.stretches);
        let mut reported: Vec<Interval> = stretches.flat_map(|(_, spans)| spans.intervals()).copied().collect();
        reported.sort_unstable_by_key(|interval| interval.start);
        let reported: Spans = reported.into_iter().collect();
        let ends = reported.intervals().first().zip(reported.intervals().last());
        let Some((first, last)) = ends else { return Spans::new() };
        let since_then = Interval::new(last.end, Time::from_micros(i64::MAX));
        let blind = self.observers.values().map(|said| said.reports.blind.clip(since_then));
        blind.fold(reported.complement(Interval::new(first.start, last.end)), |all, blind| all.union(&blind))
    }

    /// The time inside `within` during which this observer looked at this aspect of this probe.
    pub(crate) fn covered(
        &self,
        declared: &Declarations,
        observer: &ObserverId,
        probe: &ProbeId,
        aspect: Aspect<'_>,
        within: Interval,
    ) -> Spans {
        let stretches = self.stretches(declared, observer, probe).map(|spans| spans.clip(within));
        let mut covered = stretches.reduce(|all, spans| all.union(&spans)).unwrap_or_default();
        let track = self.track_of(observer, probe);
        let finding = match aspect {
            Aspect::State => None,
            Aspect::Finding(finding) => track.and_then(|track| track.findings.get(finding)),
        };
        let without = [track.map(|track| &track.gaps), finding.map(|seeking| &seeking.gaps), self.doubtful(observer)];
        for spans in without.into_iter().flatten().filter(|spans| !spans.is_empty()) {
            covered = covered.minus(spans);
        }
        covered
    }

    /// The largest end of the records of this observer that count for this probe.
    pub(crate) fn reported_until(
        &self,
        declared: &Declarations,
        observer: &ObserverId,
        probe: &ProbeId,
    ) -> Option<Time> {
        self.stretches(declared, observer, probe).filter_map(|spans| Some(spans.intervals().last()?.end)).max()
    }

    fn track_of(&self, observer: &ObserverId, probe: &ProbeId) -> Option<&Track> {
        self.observers.get(observer)?.tracks.get(probe)
    }

    /// The state of this probe that this observer reported last.
    pub(crate) fn last_state(&self, observer: &ObserverId, probe: &ProbeId) -> Option<State> {
        self.track_of(observer, probe)?.state
    }

    /// The state of this probe over time, by this observer.
    pub(crate) fn steps(&self, observer: &ObserverId, probe: &ProbeId) -> Option<&Steps> {
        self.track_of(observer, probe).map(|track| &track.steps)
    }

    /// The finding over time, by this observer; `None` when it never reported any, so that it was never open where it looked.
    pub(crate) fn finding_steps(&self, observer: &ObserverId, probe: &ProbeId, finding: &FindingId) -> Option<&Steps> {
        self.track_of(observer, probe)?.findings.get(finding).map(|seeking| &seeking.steps)
    }

    /// The successes that this observer heard inside `within`, by time.
    pub(crate) fn successes(&self, observer: &ObserverId, probe: &ProbeId, within: Interval) -> &[Success] {
        let all = self.track_of(observer, probe).map_or(&[][..], |track| &track.successes);
        let first = all.partition_point(|s| s.at < within.start);
        let after = all.partition_point(|s| s.at < within.end);
        &all[first.min(after)..after]
    }

    /// The exact restores that this observer reported and that ended inside `within`, by time.
    pub(crate) fn restores(&self, observer: &ObserverId, probe: &ProbeId, within: Interval) -> &[Restore] {
        let all = self.track_of(observer, probe).map_or(&[][..], |track| &track.restores);
        let first = all.partition_point(|restore| restore.at < within.start);
        let after = all.partition_point(|restore| restore.at < within.end);
        &all[first.min(after)..after]
    }

    /// The counts of requests by this observer of which some is inside `within`, by their ends.
    pub(crate) fn counts(
        &self,
        observer: &ObserverId,
        probe: &ProbeId,
        within: Interval,
    ) -> impl Iterator<Item = &Count> + use<'_> {
        let all = self.track_of(observer, probe).map_or(&[][..], |track| &track.counts);
        let first = all.partition_point(|count| count.end <= within.start);
        all[first..].iter().filter(move |count| count.start < within.end)
    }

    /// The time inside `within` in which this observer counted every request.
    pub(crate) fn counted_in(&self, observer: &ObserverId, probe: &ProbeId, within: Interval) -> Spans {
        let counted = self.track_of(observer, probe).map(|track| track.counted.clip(within)).unwrap_or_default();
        match self.doubtful(observer) {
            Some(doubtful) if !doubtful.is_empty() => counted.minus(doubtful),
            _ => counted,
        }
    }

    /// The largest end of the counts of this observer.
    pub(crate) fn counted_until(&self, observer: &ObserverId, probe: &ProbeId) -> Option<Time> {
        self.track_of(observer, probe)?.counts.last().map(|count| count.end)
    }

    /// The messages about changes of this probe, each with the vantage from which it was sent.
    pub(crate) fn reactions(&self, probe: &ProbeId) -> impl Iterator<Item = (&str, Reaction)> {
        let told = self.observers.iter().filter_map(|(observer, said)| Some((observer, said.tracks.get(probe)?)));
        told.flat_map(|(observer, track)| track.reactions.iter().map(|message| (observer.vantage(), *message)))
    }

    /// The bans that were in force from inside `within` on and answer an offence that this probe saw, each with the vantage from
    /// which it was told.
    pub(crate) fn bans(&self, probe: &ProbeId, within: Interval) -> impl Iterator<Item = (&str, Reaction)> {
        let told = self.observers.iter().filter_map(|(observer, said)| Some((observer, said.tracks.get(probe)?)));
        let bans = told.flat_map(|(observer, track)| track.bans.iter().map(|ban| (observer.vantage(), *ban)));
        bans.filter(move |(_, ban)| within.start <= ban.at && ban.at < within.end)
    }

    /// The test messages that were queued and accepted inside `within`, each with the vantage from which it was sent.
    pub(crate) fn tests(&self, within: Interval) -> Vec<(&str, Reaction)> {
        let sent = self
            .observers
            .iter()
            .flat_map(|(observer, said)| said.reports.tests.iter().map(|test| (observer.vantage(), *test)));
        let is_inside = |time: Time| within.start <= time && time < within.end;
        sent.filter(|(_, test)| is_inside(test.since) && is_inside(test.at)).collect()
    }

    /// The time during which the labels of this observer's clock mean nothing. All engines of a vantage share its clock.
    pub(crate) fn doubtful(&self, observer: &ObserverId) -> Option<&Spans> {
        self.doubtful.get(observer.vantage())
    }

    /// The newest coverage record of this observer, if it reaches beyond `start`.
    pub(crate) fn newest_coverage(&self, observer: &ObserverId, start: Time) -> Option<u64> {
        let newest = self.observers.get(observer)?.reports.newest.filter(|(_, end)| *end > start);
        newest.map(|(sequence, _)| sequence)
    }
}
