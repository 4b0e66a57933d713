//! The engine: follows the desired state, and carries lines, failures and bans between the parts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{BoxFuture, Context, DesiredState, Engine, EngineError};

use crate::config::Desired;
use crate::door::{GuardDoor, Shared};

/// The engine.
pub struct Guard {
    desired: DesiredState,
    #[expect(dead_code, reason = "the bans will be kept there")]
    state: PathBuf,
    shared: Arc<Shared>,
}

impl Guard {
    /// The engine, which keeps its own state in this directory.
    pub fn new(desired: DesiredState, state: PathBuf) -> Self {
        Self { desired, state, shared: Arc::default() }
    }

    /// Its door.
    pub fn door(&self) -> GuardDoor {
        GuardDoor::new(Arc::clone(&self.shared))
    }

    async fn guard(&self, context: Context) -> Result<(), EngineError> {
        let mut desired = self.desired.clone();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            let wanted: Option<Desired> = desired.current()?;
            self.shared.set(wanted);
            loop {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    _ = tick.tick() => context.progress.tick(),
                    () = desired.changed() => break,
                }
            }
        }
    }
}

impl Engine for Guard {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        4
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.guard(context))
    }
}
