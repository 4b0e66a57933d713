//! What all threads count together.

use std::sync::atomic::AtomicU64;

use crate::codec::refusal::{REFUSALS, Refusal};
use crate::count::Count;

/// Counts since the start.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    /// Connections of clients that are open.
    pub(crate) connections: AtomicU64,
    /// Connections that a bound has closed at once.
    pub(crate) turned_away: Count,
    /// Requests that the bound of an address has refused.
    pub(crate) requests_turned_away: Count,
    /// Connections of clients that are banned, which were closed.
    pub(crate) banned: Count,
    /// Handshakes that have failed.
    pub(crate) handshakes_failed: Count,
    /// Connections of declared proxies that did not say who the client is.
    pub(crate) proxy_heads_refused: Count,
    /// Replies by the hundreds of their status: those below 200 and above 599 do not occur.
    replies: [Count; 6],
    refusals: [Count; REFUSALS.len()],
    /// Lines of the access log that were lost.
    pub(crate) lines_lost: Count,
    /// News that the engine was too busy for.
    pub(crate) news_lost: Count,
}

impl Tally {
    pub(crate) fn replied(&self, status: u16) {
        if let Some(count) = self.replies.get(usize::from(status / 100)) {
            count.add();
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(count) = self.refusals.get(refusal as usize) {
            count.add();
        }
    }

    /// Replies by class of status: `2xx`.
    pub(crate) fn replies(&self) -> impl Iterator<Item = (String, u64)> {
        let counts = self.replies.iter().enumerate().skip(1);
        counts.map(|(hundreds, count)| (format!("{hundreds}xx"), count.read()))
    }

    /// How many messages of each class were refused.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        REFUSALS.iter().zip(&self.refusals).map(|(refusal, count)| (*refusal, count.read()))
    }
}
