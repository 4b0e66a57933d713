//! Whether a failure is theirs or ours.
//!
//! **Problem.** The observer's link dies, or its name server, and every monitor cries that two hundred services are down
//! at once. Its history says so for ever. **Principle.** Before a failure counts, something else must have answered: a
//! *canary*, a host of somebody else's that answers whenever the observer's own way out works. A failure is held back
//! until the canary has spoken, which takes a round trip, so a real outage is told as fast as before. When no canary
//! answers either, nothing is known of the service: its sample is unknown, a doubt that had begun is dropped, and the time
//! is unproven, until a canary answers and a question that began after that is answered.
//!
//! Canaries are hosts of others, and are not asked more than needed: only after a failure, one question at a time and ten
//! a second at most. A good answer vouches for failures that began up to a second later, but a failure that *confirms*
//! another needs one that is younger than the first. While the way out is dead they are asked every ten seconds.
//!
//! An observer without canaries takes a failure for theirs, unless it is plainly its own: no name server that answers
//! anything, nothing left to ask with, or no way to that network at all.

use std::sync::Arc;

use event::{Monotonic, Span, Time};

use crate::order::Done;
use crate::source::canary::Canary;

/// How long a canary may take to answer.
pub(crate) const TIMEOUT: Span = Span::from_secs(3);
/// How much older than the beginning of a failure a good answer may be.
const VOUCHES_FOR: Span = Span::from_secs(1);
/// Least time between two questions.
const PAUSE_MIN: Span = Span::from_millis(100);
/// How often to ask while the way out is dead.
const DEAD_EVERY: Span = Span::from_secs(10);

/// The way out of one observer.
pub(crate) struct Uplink {
    canary: Arc<Canary>,
    asking: bool,
    asked_at: Option<Monotonic>,
    /// The latest instant at which it was seen to work.
    good_at: Option<Monotonic>,
    /// Since when it is known not to.
    dead_since: Option<Time>,
    /// When it was last seen to work again: what began before is ours.
    back_at: Option<Monotonic>,
    held: Vec<Done>,
}

/// What a canary's answer means for what was held back.
pub(crate) struct Verdict {
    /// Failures that waited for it.
    pub(crate) held: Vec<Done>,
    /// Whether they are to be believed.
    pub(crate) believed: bool,
    /// Since when the way out was dead, when it is over.
    pub(crate) dead_since: Option<Time>,
}

impl Uplink {
    pub(crate) fn new(canary: Arc<Canary>) -> Self {
        Self { canary, asking: false, asked_at: None, good_at: None, dead_since: None, back_at: None, held: Vec::new() }
    }

    pub(crate) fn canary(&self) -> &Arc<Canary> {
        &self.canary
    }

    pub(crate) const fn dead_since(&self) -> Option<Time> {
        self.dead_since
    }

    /// Whether a failure that began then is theirs; `None` when a canary must be asked first. `doubt`: when the failure
    /// began that it confirms.
    pub(crate) fn is_theirs(&self, began: Monotonic, doubt: Option<Monotonic>) -> Option<bool> {
        if self.back_at.is_some_and(|back_at| began < back_at) {
            return Some(false);
        }
        let needed = doubt.unwrap_or(Monotonic(began.0 - VOUCHES_FOR.micros()));
        self.good_at.is_some_and(|good_at| good_at >= needed).then_some(true)
    }

    /// Keeps a failure until a canary has answered.
    pub(crate) fn hold(&mut self, done: Done) {
        self.held.push(done);
    }

    /// When to ask next, if there is a reason to.
    pub(crate) fn due(&self) -> Option<Monotonic> {
        let pause = match (self.asking, self.held.is_empty(), self.dead_since) {
            (false, false, _) => PAUSE_MIN,
            (false, true, Some(_)) => DEAD_EVERY,
            (true, _, _) | (false, true, None) => return None,
        };
        Some(self.asked_at.map_or(Monotonic(i64::MIN), |asked_at| Monotonic(asked_at.0 + pause.micros())))
    }

    /// It is asked now.
    pub(crate) fn asked(&mut self, now: Monotonic) {
        (self.asking, self.asked_at) = (true, Some(now));
    }

    /// It answered at `now`, or did not: `None` when that says nothing, because the process stood still meanwhile.
    pub(crate) fn answered(&mut self, good: Option<bool>, now: Monotonic, wall: Time) -> Verdict {
        self.asking = false;
        let mut verdict = Verdict { held: Vec::new(), believed: false, dead_since: None };
        match good {
            None => return verdict,
            Some(true) => {
                self.good_at = Some(now);
                verdict.dead_since = self.dead_since.take();
                verdict.believed = verdict.dead_since.is_none();
                if !verdict.believed {
                    self.back_at = Some(now);
                }
            }
            Some(false) => {
                let first = self.held.iter().map(|done| done.started.wall).min().unwrap_or(wall);
                self.dead_since.get_or_insert(first);
            }
        }
        verdict.held = std::mem::take(&mut self.held);
        verdict
    }

    /// Gives back what it holds: it goes.
    pub(crate) fn release(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.held)
    }

    /// Ends what is said of a dead way out, when it is; it may go on from `now`.
    pub(crate) fn interrupt(&mut self, now: Time) -> Option<Time> {
        self.dead_since.as_mut().map(|since| std::mem::replace(since, now))
    }
}
