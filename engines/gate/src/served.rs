//! What is counted of how a site was served: requests by how they ended, and by how they came.
//!
//! A request counts when it has ended: then it was answered, or has failed for whoever asked. One that its client gave up is neither.

use crate::count::Count;
use crate::exchange::Outcome;
use crate::heads::Visitor;
use crate::stream::TlsVersion;

/// The counts of a site since the gate has known it; a reload changes nothing.
#[derive(Default, Debug)]
pub(crate) struct Served {
    /// Requests that were answered, by an upstream or for one.
    pub(crate) answered: Count,
    /// Requests that failed for the visitor: answered 5xx, by whomever, or cut off in the middle.
    pub(crate) failed: Count,
    /// Requests in clear, but those that were sent to https.
    pub(crate) clear: Count,
    /// Requests in clear that were sent to https.
    pub(crate) sent_to_https: Count,
    /// Requests over a version of TLS below 1.2, over 1.2 and over 1.3.
    pub(crate) over_tls: [Count; 3],
    /// Replies over TLS that had all fields that make browsers careful.
    pub(crate) careful: Count,
    /// Replies over TLS without one of them.
    pub(crate) bare: Count,
}

impl Served {
    /// A request came that an upstream is to answer.
    pub(crate) fn came(&self, visitor: Visitor) {
        match visitor.tls {
            None => self.clear.add(),
            Some(version) => self.over_tls[version as usize].add(),
        }
    }

    /// Requests over versions of TLS below 1.2.
    pub(crate) fn over_old_tls(&self) -> u64 {
        self.over_tls[TlsVersion::Old as usize].read()
    }

    /// A reply over TLS goes out, with all fields that make browsers careful or without one.
    pub(crate) fn replied(&self, is_bare: bool) {
        if is_bare { self.bare.add() } else { self.careful.add() }
    }

    /// A request is under way, until it [has ended](UnderWay::has_ended) or is dropped. `is_ending` says whether what is dropped then was
    /// cut off by the gate.
    pub(crate) const fn under_way<F: Fn() -> bool>(&self, is_ending: F) -> UnderWay<'_, F> {
        UnderWay { served: self, is_ending, has_ended: false }
    }
}

/// A request that has not ended.
pub(crate) struct UnderWay<'s, F: Fn() -> bool> {
    served: &'s Served,
    is_ending: F,
    has_ended: bool,
}

/// How a request ended, for whoever asked; `None` where that one gave it up.
fn was_answered(outcome: &Outcome) -> Option<bool> {
    let by_upstream = |why: &str| why.starts_with("the upstream");
    match outcome.cut {
        Some(why) if by_upstream(why) => Some(false),
        _ if outcome.status >= 500 => Some(false),
        // A WebSocket ends when either side goes away.
        None => Some(true),
        Some(_) if outcome.status == 101 => Some(true),
        Some(_) => None,
    }
}

impl<F: Fn() -> bool> UnderWay<'_, F> {
    /// Counts it; whether it was answered.
    pub(crate) fn has_ended(mut self, outcome: &Outcome) -> Option<bool> {
        self.has_ended = true;
        let answered = was_answered(outcome);
        match answered {
            Some(true) => self.served.answered.add(),
            Some(false) => self.served.failed.add(),
            None => {}
        }
        answered
    }
}

impl<F: Fn() -> bool> Drop for UnderWay<'_, F> {
    fn drop(&mut self) {
        if !self.has_ended && (self.is_ending)() {
            self.served.failed.add();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_given_up_is_neither_answered_nor_failed() {
        for (status, cut, answered) in [
            (200, None, Some(true)),
            (404, None, Some(true)),
            (503, None, Some(false)),
            (500, Some("the client went away"), Some(false)),
            (200, Some("the upstream broke off"), Some(false)),
            (200, Some("the upstream fell silent"), Some(false)),
            (101, Some("the client went away"), Some(true)),
            (101, Some("the upstream broke off"), Some(false)),
            (200, Some("the client went away"), None),
            (200, Some("the client was too slow"), None),
            (499, Some("the client went away"), None),
        ] {
            let outcome = Outcome { status, cut, ..Outcome::default() };
            assert_eq!(was_answered(&outcome), answered, "{status} {cut:?}");
        }
    }

    /// What the gate itself cuts off has failed; whose connection is closed on purpose has not.
    #[test]
    fn what_the_gate_cuts_off_has_failed() {
        let served = Served::default();
        drop(served.under_way(|| false));
        assert_eq!((served.answered.read(), served.failed.read()), (0, 0));
        drop(served.under_way(|| true));
        served.under_way(|| true).has_ended(&Outcome { status: 200, ..Outcome::default() });
        assert_eq!((served.answered.read(), served.failed.read()), (1, 1));
    }
}
