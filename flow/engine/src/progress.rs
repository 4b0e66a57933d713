//! The sign of life of an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// How an engine shows that it gets on. A tick costs one atomic addition, so a loop may tick at every turn.
///
/// The rule: tick when something was achieved or when there was nothing to do, never from a timer beside the work: a timer
/// goes on while the work hangs.
#[derive(Clone, Default, Debug)]
pub struct Progress(Arc<Ticks>);

#[derive(Default, Debug)]
struct Ticks {
    ticks: AtomicU64,
    first: Notify,
}

impl Progress {
    /// Says: I get on. The first tick says: I am ready.
    pub fn tick(&self) {
        if self.0.ticks.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.first.notify_one();
        }
    }

    /// How many ticks there were.
    pub fn ticks(&self) -> u64 {
        self.0.ticks.load(Ordering::Relaxed)
    }

    /// Waits for the first tick. One waiter only.
    pub(crate) async fn first(&self) {
        self.0.first.notified().await;
    }
}
