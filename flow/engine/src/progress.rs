//! The sign of life of an engine: ticks, counted by the engine and checked by the supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The ticks of an engine. A tick costs one atomic addition, so a loop may tick at every turn.
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
    /// Counts a tick. The first one means that the engine is ready.
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
