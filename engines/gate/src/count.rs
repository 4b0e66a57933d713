//! Numbers that all threads count together.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. What is counted orders nothing: a reader may see one of two counts before the other.
#[derive(Default, Debug)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.add_all(1);
    }

    pub(crate) fn add_all(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on where another one is.
    pub(crate) fn follow(&self, before: &Self) {
        self.0.store(before.read(), Ordering::Relaxed);
    }
}
