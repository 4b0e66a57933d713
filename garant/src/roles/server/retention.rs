//! Destroys what has been kept for as long as the policy says, and journals that it did (promise BK-6 for the journal's own
//! payloads, JO-2).
//!
//! An action is journaled as intended before and as done after. Both are found again after a crash between the two: a day
//! whose payloads are still there is simply due again, and destroying is idempotent.

use std::sync::Arc;

use engine::{BoxFuture, Context, Engine, EngineError};
use event::journal::{Destroyed, DestructionIntended};
use event::{Day, Retention as Class, Span};
use tokio::sync::watch;

use crate::configuration::Configuration;

/// How often to look. A day is destroyed within an hour of being due.
const LOOK_EVERY: Span = Span::from_secs(3600);

/// Destroys day keys that are due.
pub(crate) struct Retention {
    configuration: watch::Receiver<Arc<Configuration>>,
}

impl Retention {
    pub(crate) fn new(configuration: watch::Receiver<Arc<Configuration>>) -> Self {
        Self { configuration }
    }

    async fn forget(&self, context: Context) -> Result<(), EngineError> {
        loop {
            self.destroy_what_is_due(&context).await?;
            let mut left = LOOK_EVERY;
            // In small steps, so that a frozen engine can be told from one with nothing to do.
            while left > Span::ZERO {
                context.progress.tick();
                let step = left.min(Span::from_secs(10));
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(step.to_std()) => left = left - step,
                }
            }
        }
    }

    async fn destroy_what_is_due(&self, context: &Context) -> Result<(), EngineError> {
        // First, and whatever becomes of the rest: on a full disk this makes the room that journaling the rest needs.
        if let Err(error) = context.samples.expire(context.clock.now()).await {
            tracing::warn!(%error, "old samples can't be dropped; tried again within the hour");
        }
        let configuration = self.configuration.borrow().clone();
        for class in Class::ALL {
            let kept = configuration.kept(class);
            // A day is due once its last instant is older than what is kept.
            let first_kept = (context.clock.now() - kept).day();
            for (day, entries) in context.journal.days_before(class, first_kept).await? {
                self.destroy(context, class, day, entries).await?;
            }
        }
        Ok(())
    }

    async fn destroy(&self, context: &Context, class: Class, day: Day, entries: u64) -> Result<(), EngineError> {
        let class_name = class.as_str().to_owned();
        context.recorder.record(&DestructionIntended { class: class_name.clone(), day, entries }).await?;
        context.journal.destroy(class, day).await?;
        context.recorder.record(&Destroyed { class: class_name, day, entries }).await?;
        context.progress.tick();
        Ok(())
    }
}

impl Engine for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn floor(&self) -> u8 {
        2
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.forget(context))
    }
}
