//! A cache of the states of subjects over time, shared by objectives and kept from one evaluation to the next.
//!
//! An evaluation follows another within seconds, and a year of a service does not change meanwhile. So computed states are kept,
//! cut where an entry that was folded since may have changed them, and only the rest is computed again. Nothing of it is saved,
//! and a verdict is the same without it.

use std::collections::BTreeMap;

use event::{FindingId, Interval, ProbeId, ServiceId, Span, Time};

use crate::line::{Evidence, Worst};

/// A thing with a state over time, which objectives are judged by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A service: the worst of its probes.
    Service(ServiceId),
    /// All services together: the worst of all probes.
    AllServices,
    /// One probe.
    Probe(ProbeId),
    /// A finding, in all probes in which it is looked for.
    Finding(FindingId),
}

/// The cached states.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    known: BTreeMap<Subject, CachedState>,
    /// States at this instant and later may have changed.
    stale_from: Option<Time>,
}

#[derive(Clone, Debug)]
struct CachedState {
    within: Interval,
    state: Worst,
}

/// How far back a state is looked for at first.
const LOOK_BACK: Span = Span::from_secs(3600);

impl Lines {
    /// Called when an entry that was folded bears on `from` or later.
    pub(crate) fn changed_from(&mut self, from: Time) {
        self.stale_from = Some(self.stale_from.map_or(from, |stale| stale.min(from)));
    }

    /// Empties the cache: called when other records may count now, at any time of the past.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// Drops the states before `from`.
    pub(crate) fn forget_before(&mut self, from: Time) {
        for known in self.known.values_mut() {
            known.within.start = known.within.start.max(from);
            known.state.cut(known.within);
        }
    }

    fn refresh(&mut self) {
        let Some(stale) = self.stale_from.take() else { return };
        for known in self.known.values_mut().filter(|known| known.within.end > stale) {
            known.within.end = known.within.start.max(stale);
            known.state.cut(known.within);
        }
    }

    /// The state of the subject over `within`, and perhaps beyond.
    pub(crate) fn state(&mut self, evidence: Evidence<'_>, subject: &Subject, within: Interval) -> &Worst {
        self.refresh();
        let known = self.known.entry(subject.clone()).or_insert_with(|| {
            let within = Interval::new(within.start, within.start);
            CachedState { within, state: Worst::default() }
        });
        if known.within.is_empty() || within.start > known.within.end {
            *known = CachedState { within, state: evidence.state(subject, within) };
        }
        if within.start < known.within.start {
            let mut state = evidence.state(subject, Interval::new(within.start, known.within.start));
            state.append(&known.state);
            known.state = state;
            known.within.start = within.start;
        }
        if within.end > known.within.end {
            known.state.append(&evidence.state(subject, Interval::new(known.within.end, within.end)));
            known.within.end = within.end;
        }
        &known.state
    }
}

/// An error: the answer needs what was [forgotten](crate::Judge::forget).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forgotten;

/// The last instant at or before `time` at which the state was not unknown, and whether it was up then. `since` is the instant
/// from which on everything is remembered.
pub(crate) fn last_known(
    evidence: Evidence<'_>,
    subject: &Subject,
    time: Time,
    since: Time,
) -> Result<Option<(Time, bool)>, Forgotten> {
    let instant = Span::from_micros(1);
    let Some(beginning) = evidence.declared.beginning() else { return Ok(None) };
    let (mut end, mut length) = (time + instant, LOOK_BACK);
    while end > beginning {
        if end <= since {
            return Err(Forgotten);
        }
        let within = Interval::new((end - length).max(beginning).max(since), end);
        let line = evidence.state(subject, within).line;
        let last = |spans: &event::Spans| spans.intervals().last().map(|interval| interval.end);
        let up = last(&line.up);
        let not_up = last(&line.down).max(last(&line.undecided));
        if let Some(known) = up.max(not_up) {
            return Ok(Some((known - instant, up > not_up)));
        }
        (end, length) = (within.start, length + length);
    }
    Ok(None)
}

/// The outage that was going on at `time`, from there until the service is up again, as far as `until`. `Err` when that can't
/// be said because what was before `since` is forgotten.
pub(crate) fn outage_at(
    evidence: Evidence<'_>,
    service: &Subject,
    time: Time,
    until: Time,
    since: Time,
) -> Result<Option<Interval>, Forgotten> {
    if last_known(evidence, service, time, since)?.is_none_or(|(_, was_up)| was_up) {
        return Ok(None);
    }
    let (mut from, mut length) = (time, LOOK_BACK);
    while from < until {
        let next = Interval::new(from, until.min(from + length));
        if let Some(up) = evidence.state(service, next).line.up.intervals().first() {
            return Ok(Some(Interval::new(time, up.start)));
        }
        (from, length) = (next.end, length + length);
    }
    Ok(Some(Interval::new(time, Time::from_micros(i64::MAX))))
}
