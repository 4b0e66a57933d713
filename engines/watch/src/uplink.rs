//! Whether a failure is the target's or the observer's own: the state of one observer's uplink.
//!
//! [`crate::rounds`] asks before it believes a failure. When the observer's link dies, or its name server, two hundred
//! services seem to be down at once. So before a failure counts, something else must have answered: a
//! *canary*, a host of somebody else's that answers whenever the observer's own way out works. A failure is held back
//! until the canary has spoken, which takes a round trip, so a real outage is told as fast as before. When no canary
//! answers either, nothing is known of the service: its sample is unknown, a doubt that had begun is dropped, and the time
//! is unproven, until a canary answers and a question that began after that is answered.
//!
//! Canaries are hosts of others, and are not asked more than needed: only after a failure, one question at a time and ten
//! a second at most. A good answer vouches for failures that began up to a second later, but a failure that *confirms*
//! another needs one that is younger than the first. While the way out is dead they are asked every ten seconds.
//!
//! Of an observer without canaries a failure is taken for the target's, unless it is plainly its own: no name server that answers
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

/// The uplink of one observer.
pub(crate) struct Uplink {
    canary: Arc<Canary>,
    asking: bool,
    asked_at: Option<Monotonic>,
    /// When the uplink was last seen to work.
    good_at: Option<Monotonic>,
    /// Since when the uplink is known to be dead.
    dead_since: Option<Time>,
    /// When the uplink was seen to work again: a failure that began before is the observer's own.
    back_at: Option<Monotonic>,
    held: Vec<Done>,
}

/// The party at fault for a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blame {
    /// The target.
    Target,
    /// The observer's own network.
    Ourselves,
    /// Not known before a canary has answered.
    AskCanaryFirst,
}

/// What a canary's answer means for what was held back.
pub(crate) struct CanaryVerdict {
    /// Failures that waited for the answer.
    pub(crate) held: Vec<Done>,
    /// Whether they count as failures of the target.
    pub(crate) believed: bool,
    /// Start of the outage of the uplink that is over now, if one is.
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

    /// The party at fault for a failure that began at `began`. `doubt`: when the failure began that this one confirms.
    pub(crate) fn blame(&self, began: Monotonic, doubt: Option<Monotonic>) -> Blame {
        if self.back_at.is_some_and(|back_at| began < back_at) {
            return Blame::Ourselves;
        }
        let needed = doubt.unwrap_or(Monotonic(began.0 - VOUCHES_FOR.micros()));
        if self.good_at.is_some_and(|good_at| good_at >= needed) { Blame::Target } else { Blame::AskCanaryFirst }
    }

    /// Keeps a failure until a canary has answered.
    pub(crate) fn hold(&mut self, done: Done) {
        self.held.push(done);
    }

    /// When to ask a canary next, if there is a reason to.
    pub(crate) fn due(&self) -> Option<Monotonic> {
        let pause = match (self.asking, self.held.is_empty(), self.dead_since) {
            (false, false, _) => PAUSE_MIN,
            (false, true, Some(_)) => DEAD_EVERY,
            (true, _, _) | (false, true, None) => return None,
        };
        Some(self.asked_at.map_or(Monotonic(i64::MIN), |asked_at| Monotonic(asked_at.0 + pause.micros())))
    }

    /// Notes that a canary is asked now.
    pub(crate) fn asked(&mut self, now: Monotonic) {
        (self.asking, self.asked_at) = (true, Some(now));
    }

    /// Takes the answer of a canary at `now`, or its absence; `None` when neither means anything, because the process stood
    /// still.
    pub(crate) fn answered(&mut self, good: Option<bool>, now: Monotonic, wall: Time) -> CanaryVerdict {
        self.asking = false;
        let mut verdict = CanaryVerdict { held: Vec::new(), believed: false, dead_since: None };
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

    /// Removes and returns the failures held for a canary's answer; called when the observer no longer has a canary.
    pub(crate) fn release(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.held)
    }

    /// Closes the outage of the uplink, if there is one, and starts a new one at `now`; returns the start of the closed one.
    pub(crate) fn interrupt(&mut self, now: Time) -> Option<Time> {
        self.dead_since.as_mut().map(|since| std::mem::replace(since, now))
    }
}
