//! The queue of an engine that does what callers of its door want in its own loop, one wish after the other.

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use super::{Call, Door, Mount, Reply};
use crate::BoxFuture;

/// Wishes that wait. At the bound a further caller waits, within [`CALL_TIME_MAX`](super::CALL_TIME_MAX).
const WAITING_MAX: usize = 16;

/// A wish, and where its answer goes.
pub type Order<W> = (W, oneshot::Sender<Reply>);

/// The orders of an engine. They outlive an attempt of it: what waits is done by the next one.
pub struct Orders<W> {
    sender: mpsc::Sender<Order<W>>,
    receiver: Mutex<mpsc::Receiver<Order<W>>>,
}

impl<W> Default for Orders<W> {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl<W: Send + 'static> Orders<W> {
    /// The door through which they come, at this mount. `wish` reads what a call wants; `lost` is said where the engine can't answer.
    pub fn door(
        &self,
        mount: &'static [Mount],
        wish: fn(&Call) -> Result<W, Reply>,
        lost: &'static str,
    ) -> OrderDoor<W> {
        OrderDoor { sender: self.sender.clone(), mount, wish, lost }
    }

    /// The queue, for one attempt of the engine.
    pub async fn queue(&self) -> MutexGuard<'_, mpsc::Receiver<Order<W>>> {
        self.receiver.lock().await
    }
}

/// The door of [`Orders`].
pub struct OrderDoor<W> {
    sender: mpsc::Sender<Order<W>>,
    mount: &'static [Mount],
    wish: fn(&Call) -> Result<W, Reply>,
    lost: &'static str,
}

impl<W: Send + 'static> Door for OrderDoor<W> {
    fn mounts(&self) -> &'static [Mount] {
        self.mount
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let wish = match (self.wish)(&call) {
                Ok(wish) => wish,
                Err(reply) => return reply,
            };
            let (answer, answered) = oneshot::channel();
            let lost = || Reply::error(503, self.lost);
            if self.sender.send((wish, answer)).await.is_err() {
                return lost();
            }
            answered.await.unwrap_or_else(|_| lost())
        })
    }
}
