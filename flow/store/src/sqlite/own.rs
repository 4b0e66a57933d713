//! Events that the store records of itself, appended as those of any other observer.

use std::io;

use event::engine::StorageFault;
use event::{BootId, Observed, ObserverId, Time};

use super::database::SqliteError;
use super::transaction::Log;
use super::work::{Mark, Reply, Work};

/// The store as an observer of itself.
pub(super) struct OwnEvents {
    pub(super) observer: ObserverId,
    pub(super) boot: BootId,
    pub(super) next: u64,
}

impl OwnEvents {
    /// Appends events of the store. The sequence of the store moves on only after the commit: an event that is appended
    /// again after a doubt is found to be there.
    pub(super) fn append(&mut self, log: &mut Log, bodies: &[OwnEvent]) -> Result<(), SqliteError> {
        let at = log.clock.now();
        let events = (self.next..).zip(bodies).map(|(sequence, body)| body.observed(self, sequence, at));
        let events: Vec<_> = events.collect::<Result<_, _>>().map_err(io::Error::other)?;
        self.next += events.len() as u64;
        let outcome = log.commit(&mut [Work::Append { events, reply: Reply::unasked() }]);
        if outcome.is_err() {
            self.next -= bodies.len() as u64;
        }
        outcome
    }

    /// Appends one event and notes in the row of the retained day what it says, in one transaction. Returns its place.
    pub(super) fn append_marking(
        &mut self,
        log: &mut Log,
        body: &OwnEvent,
        mark: Mark,
    ) -> Result<Option<u64>, SqliteError> {
        let event = body.observed(self, self.next, log.clock.now()).map_err(io::Error::other)?;
        // After a doubt the next event has another body: a number is never used twice.
        self.next += 1;
        let mut works = [Work::Mark { event: Box::new(event), mark, reply: Reply::unasked() }];
        log.commit(&mut works)?;
        let [Work::Mark { reply, .. }] = works else { return Ok(None) };
        Ok(reply.into_outcome().ok())
    }
}

/// An event that the store records of itself.
pub(super) enum OwnEvent {
    Opened(event::journal::Opened),
    Continued(event::journal::Continued),
    Intended(event::journal::DestructionIntended),
    Destroyed(event::journal::Destroyed),
    Fault(StorageFault),
}

impl OwnEvent {
    fn observed(&self, own: &OwnEvents, sequence: u64, at: Time) -> Result<Observed, serde_json::Error> {
        match self {
            Self::Opened(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Continued(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Intended(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Destroyed(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Fault(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
        }
    }
}
