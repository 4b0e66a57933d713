//! What an engine on a host is to do: a value that its server gives, in the engine's own words, and that the agent keeps.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::watch;

/// The desired state of one engine, now and after each change.
#[derive(Clone, Debug)]
pub struct DesiredState(watch::Receiver<Option<Arc<RawValue>>>);

impl DesiredState {
    /// The state that comes over this channel: `None` while nobody has said what is to be done, and `null` for nothing.
    pub const fn of(channel: watch::Receiver<Option<Arc<RawValue>>>) -> Self {
        Self(channel)
    }

    /// A state that never changes; for tests.
    pub fn fixed(value: Option<Box<RawValue>>) -> Self {
        Self(watch::channel(value.map(Arc::from)).1)
    }

    /// Whether somebody has said what the engine is to do, be it nothing. What can't be taken back has to wait for that: an agent whose
    /// state is lost follows nothing until its server is there.
    pub fn is_told(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What the engine is to do now; `None` for nothing.
    ///
    /// # Errors
    /// The state is of another release, which this one does not understand.
    pub fn current<D: DeserializeOwned>(&mut self) -> Result<Option<D>, serde_json::Error> {
        let value = self.0.borrow_and_update().clone();
        value.map_or(Ok(None), |value| serde_json::from_str(value.get()))
    }

    /// Waits until something else may be desired.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
