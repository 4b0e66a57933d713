//! The writer during an outage of the storage.
//!
//! At its start, the callers of the failed commit were told that nothing of it was kept. The writer releases the reserve,
//! which pays for the entry about the outage, and then refuses every further job at once: a queue that only grows helps
//! nobody, and an observer keeps what it could not hand over. Recovery is the same whether the disk was full or failed: the
//! outage ends when an entry is durable again.

use std::sync::atomic::Ordering;

use event::engine::StorageFault;
use event::{Monotonic, Span};

use super::Thread;
use crate::sqlite::database::SqliteError;
use crate::sqlite::own::OwnEvent;
use crate::{AppendsRefused, StoreError};

/// How often the storage is tried again when callers ask.
const RETRY_WHEN_ASKED_EVERY: Span = Span::from_millis(100);

/// An outage under way.
pub(super) struct Outage {
    fault: AppendsRefused,
    /// Whether an entry about the outage is in the journal.
    recorded: bool,
    tried: Monotonic,
}

impl Outage {
    fn event(&self, over: bool) -> OwnEvent {
        OwnEvent::Fault(StorageFault { since: self.fault.since, reason: self.fault.reason.clone(), over })
    }

    pub(super) fn refusal(&self) -> StoreError {
        let AppendsRefused { since, full, reason } = self.fault.clone();
        if full { StoreError::Full { since, reason } } else { StoreError::Unavailable { since, reason } }
    }
}

impl Thread {
    /// Allocates the reserve before it is needed.
    pub(super) fn prepare_reserve(&mut self) {
        match self.reserve.fill() {
            Ok(()) => self.health.reserve_ready.store(true, Ordering::Relaxed),
            Err(error) => {
                self.begin_outage(&SqliteError::File(error));
            }
        }
    }

    /// Releases the reserve, and journals the outage in its space.
    pub(super) fn begin_outage(&mut self, failure: &SqliteError) -> StoreError {
        let fault =
            AppendsRefused { since: self.log.clock.now(), full: failure.is_full(), reason: failure.to_string() };
        tracing::error!(reason = %fault.reason, full = fault.full, "the storage refuses: entries are refused until it works again");
        let mut outage = Outage { fault, recorded: false, tried: self.log.clock.monotonic() };
        self.release_reserve();
        outage.recorded = self.own.append(&mut self.log, &[outage.event(false)]).is_ok();
        self.health.set_fault(Some(outage.fault.clone()));
        self.send_size();
        let refusal = outage.refusal();
        self.outage = Some(outage);
        refusal
    }

    /// Ends the outage if the storage works again: the reserve can be allocated, there is room beside it, and the entry
    /// about the end is durable.
    pub(super) fn recover(&mut self, asked: bool) {
        let Some(mut outage) = self.outage.take() else { return };
        let now = self.log.clock.monotonic();
        if asked && now.since(outage.tried) < RETRY_WHEN_ASKED_EVERY {
            self.outage = Some(outage);
            return;
        }
        outage.tried = now;
        if !outage.recorded {
            outage.recorded = self.own.append(&mut self.log, &[outage.event(false)]).is_ok();
        }
        let works_again = outage.recorded
            && self.reserve.fill().and_then(|()| self.reserve.has_room_beside()).unwrap_or(false)
            && self.own.append(&mut self.log, &[outage.event(true)]).is_ok();
        if works_again {
            tracing::info!("the storage works again");
            self.health.reserve_ready.store(true, Ordering::Relaxed);
            self.health.set_fault(None);
        } else {
            self.release_reserve();
            self.outage = Some(outage);
        }
        self.send_size();
    }

    fn release_reserve(&self) {
        self.health.reserve_ready.store(false, Ordering::Relaxed);
        if let Err(error) = self.reserve.release() {
            tracing::error!(%error, "the reserve can't be given up");
        }
    }
}
