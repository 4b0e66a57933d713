//! From samples to a state: what one observer says of one probe.
//!
//! A single failed sample is weak evidence: a packet is lost, a server is restarted between two requests. Waiting for
//! the next turn is no better: a minute of outage passes before anybody says so. So a first failure puts the state in
//! *doubt* and the probe is asked again at once, by this observer after a short pause and by all others immediately.
//!
//! * The next answer fails too: **down**, since the first failing sample.
//! * The next answer is good: a *blip*. Something was wrong for less than a pause, and nobody can say how long. It is
//!   journaled as it is, a change to **flapping** by the failing sample and a change back by the good one: in between,
//!   time counts as down in the low figure and as up in the high one. Nothing is hidden, nothing is exaggerated.
//!
//! Recovery needs no confirmation: one good answer shows that the service answers.
//!
//! A service that keeps changing would fill the journal and tell nobody anything. More than four changes within ten
//! intervals are **flapping**, until five intervals in a row gave the same answer. Slowness is damped by itself: three
//! samples in a row make **degraded**, three make it up again, and neither counts as a change for flapping, because a
//! service that is slow now and then is up all the time.
//!
//! Brackets are conservative. A sample proves a state *somewhere* between its start and its end, so a change lies
//! between the **start** of the last sample that showed the old state and the **end** of the first that shows the new
//! one. Unknown samples prove nothing and change nothing; the gap they leave is the matter of [`crate::coverage`].

use std::collections::VecDeque;

use event::evidence::State;
use event::{Span, Time};

use crate::source::Reading;

/// More changes than this within [`FLAP_WINDOW`] intervals are flapping.
const FLAP_CHANGES_MAX: usize = 4;
/// Intervals over which changes are counted.
const FLAP_WINDOW: i64 = 10;
/// Intervals, and samples, of the same answer that end flapping.
const STABLE: u32 = 5;
/// The shortest that a state can be seen for.
const INSTANT: Span = Span::from_micros(1);
/// Samples in a row that make a service degraded, or not degraded any more.
const SLOW_SAMPLES: u32 = 3;

/// One answered sample, in wall-clock labels of one unbroken clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// When it was asked.
    pub(crate) start: Time,
    /// When it was answered.
    pub(crate) end: Time,
    /// The answer.
    pub(crate) reading: Reading,
}

/// A change to journal; see [`event::evidence::Changed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) state: State,
    pub(crate) after: Time,
    pub(crate) by: Time,
}

/// An unconfirmed failure.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Start of the last sample before it.
    after: Option<Time>,
    /// End of the failing sample.
    by: Time,
}

/// A row of equal answers.
#[derive(Clone, Copy, Debug)]
struct Run {
    good: bool,
    samples: u32,
    start: Time,
}

/// A drift between up and degraded.
#[derive(Clone, Copy, Debug)]
struct Drift {
    samples: u32,
    after: Time,
    by: Time,
}

/// The state machine of one lane: samples in, changes of state out.
#[derive(Debug)]
pub(crate) struct Observe {
    every: Span,
    confirm: bool,
    state: Option<State>,
    last: Option<Time>,
    last_by: Option<Time>,
    doubt: Option<Doubt>,
    drift: Option<Drift>,
    run: Option<Run>,
    changes: VecDeque<Time>,
}

impl Observe {
    /// A lane without a sample. Without `confirm`, one failing sample is enough: for probes that only read this machine.
    pub(crate) const fn new(every: Span, confirm: bool) -> Self {
        Self {
            every,
            confirm,
            state: None,
            last: None,
            last_by: None,
            doubt: None,
            drift: None,
            run: None,
            changes: VecDeque::new(),
        }
    }

    /// Whether a failure waits to be confirmed.
    pub(crate) const fn in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Drops an unconfirmed failure, because the observer itself stood still: the next sample begins anew. The failing
    /// sample showed nothing, so the last that did is the one before it.
    pub(crate) const fn drop_doubt(&mut self) {
        if let Some(doubt) = self.doubt.take() {
            self.last = doubt.after;
        }
    }

    /// Takes a sample; what has to be journaled is appended to `changes`, in the order in which it happened.
    pub(crate) fn take(&mut self, seen: Seen, changes: &mut Vec<Change>) {
        match seen.reading {
            Reading::Unknown => return,
            Reading::Up => self.good(seen, State::Up, changes),
            Reading::Degraded => self.good(seen, State::Degraded, changes),
            Reading::Down => self.bad(seen, changes),
        }
        self.last = Some(seen.start);
    }

    fn good(&mut self, seen: Seen, level: State, out: &mut Vec<Change>) {
        if let Some(doubt) = self.doubt.take() {
            let before = doubt.after.unwrap_or(doubt.by);
            self.change(State::Flapping, before, doubt.by, seen, out);
            if !self.is_flapping() {
                self.change(level, doubt.by, seen.end, seen, out);
            }
            return;
        }
        match self.state {
            None | Some(State::Down) => self.change(level, self.last.unwrap_or(seen.end), seen.end, seen, out),
            Some(State::Flapping) => self.settle(seen, true, level, out),
            Some(State::Up | State::Degraded) => self.slow_or_not(seen, level, out),
        }
    }

    fn bad(&mut self, seen: Seen, out: &mut Vec<Change>) {
        self.drift = None;
        match (self.doubt.take(), self.state) {
            (Some(doubt), _) => self.change(State::Down, doubt.after.unwrap_or(doubt.by), doubt.by, seen, out),
            (None, Some(State::Down)) => {}
            (None, Some(State::Flapping)) => self.settle(seen, false, State::Down, out),
            (None, None | Some(State::Up | State::Degraded)) if self.confirm => {
                self.doubt = Some(Doubt { after: self.last, by: seen.end });
            }
            (None, None | Some(State::Up | State::Degraded)) => {
                self.change(State::Down, self.last.unwrap_or(seen.end), seen.end, seen, out);
            }
        }
    }

    /// Whether the state is flapping until it settles, not just for the length of a blip.
    const fn is_flapping(&self) -> bool {
        self.run.is_some()
    }

    /// Journals a change, or the beginning of flapping when there were too many.
    fn change(&mut self, state: State, after: Time, by: Time, seen: Seen, out: &mut Vec<Change>) {
        self.drift = None;
        let window = Span::from_micros(self.every.micros().saturating_mul(FLAP_WINDOW));
        while self.changes.front().is_some_and(|&earlier| by.since(earlier) > window) {
            self.changes.pop_front();
        }
        // The first state of all is no change.
        if self.state.is_some() {
            self.changes.push_back(by);
        }
        let state = if self.changes.len() > FLAP_CHANGES_MAX {
            self.changes.clear();
            self.run = Some(Run { good: seen.reading != Reading::Down, samples: 1, start: seen.start });
            State::Flapping
        } else {
            state
        };
        if self.state != Some(state) {
            self.put(state, after, by, out);
        }
    }

    fn put(&mut self, state: State, after: Time, by: Time, out: &mut Vec<Change>) {
        // Brackets follow one another: a probe that asks nobody may open and close within one sample. The state that this one
        // ends was seen for an instant at least.
        let seen = self.last_by.map(|last_by| last_by + INSTANT);
        let after = seen.map_or(after, |seen| after.max(seen)).min(by);
        self.state = Some(state);
        self.last_by = Some(by);
        out.push(Change { state, after, by });
    }

    /// One more sample while flapping.
    fn settle(&mut self, seen: Seen, good: bool, level: State, out: &mut Vec<Change>) {
        let run = match self.run {
            Some(run) if run.good == good => Run { samples: run.samples + 1, ..run },
            _ => Run { good, samples: 1, start: seen.start },
        };
        self.run = Some(run);
        let stable = Span::from_micros(self.every.micros().saturating_mul(i64::from(STABLE)));
        if run.samples > STABLE && seen.start.since(run.start) >= stable {
            self.run = None;
            self.put(level, self.last.unwrap_or(seen.end), seen.end, out);
        }
    }

    fn slow_or_not(&mut self, seen: Seen, level: State, out: &mut Vec<Change>) {
        if self.state == Some(level) {
            self.drift = None;
            return;
        }
        let drift = match self.drift {
            Some(drift) => Drift { samples: drift.samples + 1, ..drift },
            None => Drift { samples: 1, after: self.last.unwrap_or(seen.end), by: seen.end },
        };
        self.drift = Some(drift);
        if drift.samples >= SLOW_SAMPLES {
            self.drift = None;
            self.put(level, drift.after, drift.by, out);
        }
    }
}

#[cfg(test)]
mod tests;
