//! Whether a visitor who was let in may stay. A site that is closed lets nobody in, and whoever is in already has to go: by a command,
//! by another policy that closes the site, does not have it any more, or keeps the visitor out of the path.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::worker::Worker;

/// The leave of a visitor to go on with one request.
pub(crate) struct Stay<'s> {
    worker: &'s Worker,
    host: &'s str,
    path: &'s str,
    visitor: IpAddr,
    /// The decision by which it was last found to go on.
    seen: AtomicU64,
}

impl<'s> Stay<'s> {
    /// Of a visitor who is let in by the decision of this number.
    pub(crate) const fn of(worker: &'s Worker, host: &'s str, path: &'s str, visitor: IpAddr, ruling: u64) -> Self {
        Self { worker, host, path, visitor, seen: AtomicU64::new(ruling) }
    }

    /// Whether it is over, for good. Costs a load unless something was decided.
    pub(crate) fn is_over(&self) -> bool {
        let ruling = self.worker.rulings();
        if self.seen.load(Ordering::Relaxed) == ruling {
            return false;
        }
        let is_over = !self.worker.plan().lets_in(self.host, self.path, self.visitor);
        if !is_over {
            self.seen.store(ruling, Ordering::Relaxed);
        }
        is_over
    }
}
