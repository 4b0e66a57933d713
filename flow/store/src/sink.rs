//! The destination of an observer's events.

use async_trait::async_trait;
use event::Observed;

use crate::{Append, StoreError};

/// Outcome for events that a [`Sink`] has taken. They are durable in both cases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The events are in the journal, those that were new at these places.
    Logged(Vec<u64>),
    /// The events are in a spool, on their way to the journal, which has yet to give them their places.
    Spooled,
}

/// Takes events for good: the journal itself where it is on the same machine, a spool on disk where it is not.
///
/// # Contract
///
/// * **Durable.** When [`take`](Self::take) returns `Ok`, a power loss does not lose the events.
/// * **Whole.** Either all the events of a call are taken or none is, and they come to the journal in one transaction.
/// * **Idempotent.** An event is known by (observer, boot, sequence): one that was taken before is not doubled. So a call that
///   was cancelled, and may or may not have happened, can be made again.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes the events, in that order; bounded as [`Append::append`].
    async fn take(&self, events: Vec<Observed>) -> Result<Taken, StoreError>;
}

/// The journal takes events by appending them.
#[async_trait]
impl<J: Append + ?Sized> Sink for J {
    async fn take(&self, events: Vec<Observed>) -> Result<Taken, StoreError> {
        self.append(events).await.map(Taken::Logged)
    }
}
