//! Figures of the watch and the current state of its probes: for metrics, status and pages, never for a verdict.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::metrics::{MetricValue, MetricsSource, MetricsText};
use engine::standing::{OpenFinding, ProbeStanding, Probes};
use event::evidence::State;
use event::{ObserverId, ProbeId, Span, Time};
use store::Reading;

use crate::lane::LaneState;
use crate::source::{Answer, CompactPhases, Expiry};

/// The current state of one probe, as one observer sees it, in as few bytes as possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompactStanding {
    /// The state and since when, once it is known.
    pub state: Option<(State, Time)>,
    /// Whether the first look showed that state: it may have been so before.
    pub or_before: bool,
    /// The last reading.
    pub reading: Reading,
    /// When the last answer was asked for.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// The figure, in the unit of the kind.
    pub value: Option<i64>,
    /// Where the time of the answer went; zero for kinds that open no connection.
    pub phases: CompactPhases,
    /// When the certificate that was shown expires, over TLS.
    pub certificate: Option<Expiry>,
    /// The answer in words, for the team; empty while all is well.
    pub text: String,
}

/// Probe and observer.
type LaneName = (ProbeId, ObserverId);

/// Counters since the process started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Pairs of probe and observer.
    pub lanes: usize,
    /// Samples by reading, in the order of [`Reading::ALL`]; late ones are unknown.
    pub samples: [u64; 4],
    /// Turns that were not started because they were late, or found no room.
    pub skipped: u64,
    /// The latest start that was made, against when it was due.
    pub lateness_max: Span,
    /// Starts that were more than 100 ms late.
    pub late_starts: u64,
    /// Observers whose uplink is dead.
    pub cut_off: usize,
}

/// The figures, written by the watch and read by pages and metrics. Each method takes a lock or an atomic for microseconds.
#[derive(Default, Debug)]
pub struct Figures {
    lanes: AtomicUsize,
    samples: [AtomicU64; 4],
    skipped: AtomicU64,
    lateness_max: AtomicI64,
    late_starts: AtomicU64,
    cut_off: AtomicUsize,
    /// Of each lane, sorted by its name; `None` before the first look. Without room to spare, as a tree would have.
    standings: Mutex<Vec<(LaneName, Option<CompactStanding>)>>,
    /// Of the few lanes that have any.
    findings: Mutex<BTreeMap<LaneName, Vec<OpenFinding>>>,
}

impl Figures {
    /// The counters.
    pub fn counts(&self) -> Counts {
        Counts {
            lanes: self.lanes.load(Ordering::Relaxed),
            samples: [0, 1, 2, 3].map(|i| self.samples[i].load(Ordering::Relaxed)),
            skipped: self.skipped.load(Ordering::Relaxed),
            lateness_max: Span::from_micros(self.lateness_max.load(Ordering::Relaxed)),
            late_starts: self.late_starts.load(Ordering::Relaxed),
            cut_off: self.cut_off.load(Ordering::Relaxed),
        }
    }

    /// The current state of every probe, by probe and observer.
    pub fn standings(&self) -> Vec<(LaneName, CompactStanding)> {
        self.lock().iter().filter_map(|(name, standing)| Some((name.clone(), standing.clone()?))).collect()
    }

    pub(crate) fn set_lanes<'a>(&self, lanes: impl Iterator<Item = (&'a ProbeId, &'a ObserverId)>) {
        let mut board = self.lock();
        let before = std::mem::take(&mut *board);
        *board = lanes.map(|(probe, observer)| ((probe.clone(), observer.clone()), None)).collect();
        board.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        board.shrink_to_fit();
        for ((probe, observer), standing) in before {
            if let Some(now) = place(&mut board, &probe, &observer) {
                *now = standing;
            }
        }
        self.lock_findings().retain(|(probe, observer), _| place(&mut board, probe, observer).is_some());
        self.lanes.store(board.len(), Ordering::Relaxed);
    }

    pub(crate) fn set_findings(&self, probe: &ProbeId, observer: &ObserverId, open: Vec<OpenFinding>) {
        let mut findings = self.lock_findings();
        if !open.is_empty() {
            findings.insert((probe.clone(), observer.clone()), open);
        } else if !findings.is_empty() {
            findings.remove(&(probe.clone(), observer.clone()));
        }
    }

    pub(crate) fn set_cut_off(&self, observers: usize) {
        self.cut_off.store(observers, Ordering::Relaxed);
    }

    pub(crate) fn count_skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.samples[Reading::Unknown as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_start(&self, lateness: Span, reading: Reading) {
        self.samples[reading as usize].fetch_add(1, Ordering::Relaxed);
        self.lateness_max.fetch_max(lateness.micros(), Ordering::Relaxed);
        if lateness > Span::from_millis(100) {
            self.late_starts.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn stand(
        &self,
        probe: &ProbeId,
        observer: &ObserverId,
        state: Option<LaneState>,
        answer: &Answer,
        at: Time,
        took: Span,
    ) {
        let text = if answer.reading == Reading::Up { String::new() } else { answer.text.clone() };
        let Answer { reading, value, phases, certificate, .. } = *answer;
        let or_before = state.is_some_and(|state| state.or_before);
        let state = state.map(|LaneState { state, since, .. }| (state, since));
        let standing = CompactStanding { state, or_before, reading, at, took, value, phases, certificate, text };
        if let Some(place) = place(&mut self.lock(), probe, observer) {
            *place = Some(standing);
        }
    }

    /// The current state of every probe, for pages and metrics.
    pub fn probes(self: &Arc<Self>) -> Probes {
        let figures = Arc::clone(self);
        Arc::new(move || {
            let mut findings = figures.lock_findings().clone();
            let shown = |(key, standing): (LaneName, CompactStanding)| ProbeStanding {
                findings: findings.remove(&key).unwrap_or_default(),
                probe: key.0,
                observer: key.1,
                // Whoever could not look does not know, whatever was seen before.
                state: standing.state.filter(|_| standing.reading != Reading::Unknown),
                or_before: standing.or_before,
                at: standing.at,
                took: standing.took,
                value: standing.value,
                phases: standing.phases.spans(),
                certificate_expires: standing.certificate.map(Expiry::time),
                text: standing.text,
            };
            figures.standings().into_iter().map(shown).collect()
        })
    }

    fn lock_findings(&self) -> MutexGuard<'_, BTreeMap<LaneName, Vec<OpenFinding>>> {
        // Nothing that can panic runs under this lock.
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(LaneName, Option<CompactStanding>)>> {
        // Nothing that can panic runs under this lock.
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of that lane on the board.
fn place<'b, T>(board: &'b mut [(LaneName, T)], probe: &ProbeId, observer: &ObserverId) -> Option<&'b mut T> {
    let at = board.binary_search_by(|((of, by), _)| (of, by).cmp(&(probe, observer))).ok()?;
    board.get_mut(at).map(|(_, value)| value)
}

impl MetricsSource for Figures {
    fn write(&self, text: &mut MetricsText) {
        let counts = self.counts();
        let lanes = u64::try_from(counts.lanes).unwrap_or(u64::MAX);
        text.gauge("garant_watch_lanes", "", "Pairs of probe and observer.").sample(&[], lanes);
        let mut samples = text.counter("garant_watch_samples", "", "Samples by reading; late ones are unknown.");
        for (reading, word) in Reading::ALL.into_iter().zip(["up", "degraded", "down", "unknown"]) {
            samples.sample(&[("reading", word)], counts.samples[reading as usize]);
        }
        let cut_off = u64::try_from(counts.cut_off).unwrap_or(u64::MAX);
        text.gauge("garant_watch_cut_off", "", "Observers whose own way out is dead: no canary answers.")
            .sample(&[], cut_off);
        text.counter("garant_watch_skipped", "", "Turns that were not started: too late, or no room.")
            .sample(&[], counts.skipped);
        text.counter("garant_watch_late_starts", "", "Starts more than 100 ms behind their turn.")
            .sample(&[], counts.late_starts);
        text.gauge("garant_watch_start_delay_max_seconds", "seconds", "The latest start so far, against its turn.")
            .sample(&[], MetricValue::Millionths(counts.lateness_max.micros()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand probes of two observers: each byte here is 20 kB.
    #[test]
    fn a_standing_is_small() {
        let size = size_of::<(LaneName, Option<CompactStanding>)>();
        assert!(size <= 136, "{size} bytes");
    }
}
