//! What the store records of itself, through the same door as everybody.

use std::io;

use event::engine::StorageFault;
use event::{BootId, Day, Observed, ObserverId, Retention, Time};

use super::Work;
use crate::sqlite::database::Failure;
use crate::sqlite::transaction::Log;

/// The store as an observer of itself.
pub(in crate::sqlite) struct OwnEvents {
    pub(in crate::sqlite) observer: ObserverId,
    pub(in crate::sqlite) boot: BootId,
    pub(in crate::sqlite) next: u64,
}

impl OwnEvents {
    /// Appends what the store has to say of itself. Its sequence goes on only when this is in the log: what is said
    /// again after a doubt is found to be there.
    pub(in crate::sqlite) fn append(&mut self, log: &mut Log, bodies: &[OwnEvent]) -> Result<(), Failure> {
        let at = log.clock.now();
        let events = (self.next..).zip(bodies).map(|(sequence, body)| body.observed(self, sequence, at));
        let events: Vec<_> = events.collect::<Result<_, _>>().map_err(io::Error::other)?;
        self.next += events.len() as u64;
        let outcome = log.commit(vec![Work::Append(events)]);
        if outcome.is_err() {
            self.next -= bodies.len() as u64;
        }
        outcome.map(drop)
    }

    /// Appends one of these and notes what it says of a retained day, in one transaction. Returns its place.
    pub(in crate::sqlite) fn append_marking(
        &mut self,
        log: &mut Log,
        body: &OwnEvent,
        mark: Mark,
    ) -> Result<Vec<u64>, Failure> {
        let event = body.observed(self, self.next, log.clock.now()).map_err(io::Error::other)?;
        // After a doubt the next of these says something else: a number is never used twice.
        self.next += 1;
        let outcome = log.commit(vec![Work::Mark { event: Box::new(event), mark }])?;
        Ok(outcome.into_iter().next().and_then(Result::ok).unwrap_or_default())
    }
}

/// What an entry of the store itself says of the payloads of a class and day.
#[derive(Clone, Copy, Debug)]
pub(in crate::sqlite) enum Mark {
    /// They will be destroyed.
    Intended { class: Retention, day: Day },
    /// They are.
    Destroyed { class: Retention, day: Day },
}

/// What the store has to say of itself.
pub(in crate::sqlite) enum OwnEvent {
    Opened(event::journal::Opened),
    Succeeded(event::journal::Succeeded),
    Intended(event::journal::DestructionIntended),
    Destroyed(event::journal::Destroyed),
    Fault(StorageFault),
}

impl OwnEvent {
    fn observed(&self, own: &OwnEvents, sequence: u64, at: Time) -> Result<Observed, serde_json::Error> {
        match self {
            Self::Opened(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Succeeded(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Intended(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Destroyed(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
            Self::Fault(body) => Observed::new(body, own.observer.clone(), own.boot, sequence, at),
        }
    }
}
