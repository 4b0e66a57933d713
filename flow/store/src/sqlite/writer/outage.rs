//! The writer during an outage of the storage.
//!
//! At its start, the callers of the failed commit were told that nothing of it was kept. The writer releases the reserve,
//! which pays for the entry about the outage, and then refuses every further job at once: a queue that only grows helps
//! nobody, and an observer keeps what it could not hand over. Recovery is the same whether the disk was full or failed: the
//! outage ends when an entry is durable again.
//!
//! When the files are not in the data directory any more, nothing is tried: whatever is in their place belongs to another run.
//! That ends when they are back.

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
    /// Whether the files are not where they were.
    displaced: bool,
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
        if self.displaced {
            StoreError::Displaced { since, reason }
        } else if full {
            StoreError::Full { since, reason }
        } else {
            StoreError::Unavailable { since, reason }
        }
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
        if let Some(reason) = self.log.files.lost() {
            return self.begin_displacement(reason);
        }
        let mut outage = Outage { fault, displaced: false, recorded: false, tried: self.log.clock.monotonic() };
        let AppendsRefused { reason, full, .. } = &outage.fault;
        tracing::error!(%reason, full, "the storage refuses: entries are refused until it works again");
        self.release_reserve();
        outage.recorded = self.own.append(&mut self.log, &[outage.event(false)]).is_ok();
        self.health.set_fault(Some(outage.fault.clone()));
        self.send_size();
        let refusal = outage.refusal();
        self.outage = Some(outage);
        refusal
    }

    /// Begins an outage because the files are not in the data directory any more, for this `reason`.
    pub(super) fn begin_displacement(&mut self, reason: String) -> StoreError {
        tracing::error!(%reason, "nothing is recorded any more");
        let fault = AppendsRefused { since: self.log.clock.now(), full: false, reason };
        self.health.set_fault(Some(fault.clone()));
        let tried = self.log.clock.monotonic();
        let outage = Outage { fault, displaced: true, recorded: false, tried };
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
        if let Some(reason) = self.log.files.lost() {
            (outage.displaced, outage.fault.reason) = (true, reason);
            self.health.set_fault(Some(outage.fault.clone()));
            self.outage = Some(outage);
            return;
        }
        outage.displaced = false;
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
