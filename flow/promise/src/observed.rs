//! What observers said: the fold of `watch.*` and `engine.clock_stepped`.
//!
//! Everything is kept per observer, as spans that merge: a year of unbroken coverage is one interval. Nobody observes
//! before it happens, so what an entry says of a time after its own recording counts for nothing.

use std::collections::BTreeMap;

use event::evidence::{Changed, Covered, Found, Succeeded};
use event::{FindingId, Interval, ObserverId, ProbeId, Span, Spans, Time};
use serde::{Deserialize, Serialize};

use crate::declared::Declared;
use crate::steps::{Standing, Steps};

/// How far the clock of an observer may be ahead of that of the sequencer.
pub(crate) const SKEW: Span = Span::from_secs(5);

/// A coverage record ends a minute and is written after it; younger time is not yet reported rather than not observed.
pub(crate) const REPORTED_WITHIN: Span = Span::from_secs(120);

/// A success of a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub(crate) struct Success {
    /// When it arrived.
    pub at: Time,
    /// The entry that says so.
    pub sequence: u64,
}

/// What one observer said of one probe.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
struct Track {
    steps: Steps,
    gaps: Spans,
    successes: Vec<Success>,
    findings: BTreeMap<FindingId, Steps>,
}

/// What one observer said.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Observer {
    /// Stretches it reported on, by the revision of the policy it then followed.
    stretches: BTreeMap<String, Spans>,
    /// Its newest coverage record: the entry, the end of the stretch and the revision.
    newest: Option<(u64, Time, String)>,
    tracks: BTreeMap<ProbeId, Track>,
}

/// Whether time that is not yet reported counts as observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// No: what a verdict rests on.
    Strict,
    /// Yes, for [`REPORTED_WITHIN`] after an observer was last heard: what a status page shows as the state of now.
    Lenient,
}

/// The bracket of a change, as far as it can have been seen when it was recorded. Else a clock that was a year ahead for an
/// hour would leave a year of which nothing can be said.
fn not_before_it_happens(after: Time, by: Time, recorded_at: Time) -> (Time, Time) {
    let latest = recorded_at + SKEW;
    (after.min(latest), by.min(latest))
}

/// All observers.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Observed {
    observers: BTreeMap<ObserverId, Observer>,
    /// Of each vantage point, when the labels of its clock meant nothing.
    doubtful: BTreeMap<String, Spans>,
}

impl Observed {
    fn track(&mut self, observer: &ObserverId, probe: &ProbeId) -> &mut Track {
        self.observers.entry(observer.clone()).or_default().tracks.entry(probe.clone()).or_default()
    }

    pub(crate) fn changed(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, changed: &Changed) {
        let standing = Standing::from(changed.state);
        let (after, by) = not_before_it_happens(changed.after, changed.by, recorded_at);
        self.track(observer, &changed.probe).steps.change(after, by, standing, sequence);
    }

    pub(crate) fn coverage(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, coverage: &Covered) {
        let observer = self.observers.entry(observer.clone()).or_default();
        let Interval { start, end } = coverage.interval;
        let interval = Interval::new(start, end.min(recorded_at + SKEW));
        observer.stretches.entry(coverage.revision.clone()).or_default().add(interval);
        for gap in &coverage.gaps {
            // A gap wins over whatever another record says of the same time: two records that overlap are one too many.
            observer.tracks.entry(gap.probe.clone()).or_default().gaps.add(gap.interval.intersect(interval));
        }
        observer.newest = Some((sequence, interval.end, coverage.revision.clone()));
    }

    pub(crate) fn pinged(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, pinged: &Succeeded) {
        if pinged.at > recorded_at + SKEW {
            return;
        }
        let successes = &mut self.track(observer, &pinged.probe).successes;
        let place = successes.partition_point(|s| s.at <= pinged.at);
        successes.insert(place, Success { at: pinged.at, sequence });
    }

    pub(crate) fn finding(&mut self, sequence: u64, observer: &ObserverId, recorded_at: Time, finding: &Found) {
        let (after, by) = not_before_it_happens(finding.after, finding.by, recorded_at);
        let track = self.track(observer, &finding.probe);
        let steps = track.findings.entry(finding.finding.clone()).or_insert_with(Steps::clear);
        let standing = if finding.open { Standing::Down } else { Standing::Up };
        steps.change(after, by, standing, sequence);
    }

    pub(crate) fn clock_stepped(&mut self, observer: &ObserverId, doubtful: Interval) {
        self.doubtful.entry(observer.vantage().to_owned()).or_default().add(doubtful);
    }

    /// When this observer saw this probe, inside `within`.
    pub(crate) fn covered(
        &self,
        declared: &Declared,
        observer: &ObserverId,
        probe: &ProbeId,
        within: Interval,
        tail: Tail,
    ) -> Spans {
        let Some(seen) = self.observers.get(observer) else { return Spans::new() };
        let track = seen.tracks.get(probe);
        let mut stretches: Vec<Interval> = Vec::new();
        for (revision, spans) in &seen.stretches {
            if declared.asks(revision, probe, observer) {
                stretches.extend_from_slice(spans.clip(within).intervals());
            }
        }
        if tail == Tail::Lenient {
            let reported = seen.newest.iter().filter(|(_, _, revision)| declared.asks(revision, probe, observer));
            let heard = reported.map(|(_, end, _)| *end).chain(track.and_then(|t| t.steps.heard()));
            stretches.extend(heard.map(|end| Interval::new(end, end + REPORTED_WITHIN).intersect(within)));
        }
        stretches.sort_unstable();
        let covered: Spans = stretches.into_iter().collect();
        let covered = match track {
            Some(track) if !track.gaps.is_empty() => covered.minus(&track.gaps),
            _ => covered,
        };
        match self.doubtful(observer) {
            Some(doubtful) => covered.minus(doubtful),
            None => covered,
        }
    }

    /// What this observer says of the state of this probe.
    pub(crate) fn steps(&self, observer: &ObserverId, probe: &ProbeId) -> Option<&Steps> {
        self.observers.get(observer)?.tracks.get(probe).map(|track| &track.steps)
    }

    /// What this observer says of this finding; none when it never said anything, which is good news where it looked.
    pub(crate) fn finding_steps(&self, observer: &ObserverId, probe: &ProbeId, finding: &FindingId) -> Option<&Steps> {
        self.observers.get(observer)?.tracks.get(probe)?.findings.get(finding)
    }

    /// Its successes inside `within`, by time.
    pub(crate) fn successes(&self, observer: &ObserverId, probe: &ProbeId, within: Interval) -> &[Success] {
        let all =
            self.observers.get(observer).and_then(|o| o.tracks.get(probe)).map_or(&[][..], |track| &track.successes);
        let first = all.partition_point(|s| s.at < within.start);
        let after = all.partition_point(|s| s.at < within.end);
        &all[first.min(after)..after]
    }

    /// When the labels of its clock meant nothing: every engine at a vantage point has the same clock.
    pub(crate) fn doubtful(&self, observer: &ObserverId) -> Option<&Spans> {
        self.doubtful.get(observer.vantage())
    }

    /// The end of what it reported.
    pub(crate) fn reported_until(&self, observer: &ObserverId) -> Option<Time> {
        self.observers.get(observer)?.newest.as_ref().map(|(_, end, _)| *end)
    }

    /// Its newest coverage record, if that reaches beyond `start`.
    pub(crate) fn newest_coverage(&self, observer: &ObserverId, start: Time) -> Option<u64> {
        let newest = self.observers.get(observer)?.newest.as_ref().filter(|(_, end, _)| *end > start);
        newest.map(|(sequence, _, _)| *sequence)
    }
}
