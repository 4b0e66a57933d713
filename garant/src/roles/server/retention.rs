//! Destroys what has been kept for as long as the policy says, and journals that it did (promise BK-6 for the journal's own
//! payloads, JO-2).
//!
//! An action is journaled as intended before and as done after. Both are found again after a crash between the two: a day
//! whose payloads are still there is simply due again, and destroying is idempotent.
//!
//! What is due is due by the wall clock, which may be wrong: see [`steady`].

use std::sync::Arc;

use engine::{BoxFuture, Context, Engine, EngineError};
use event::journal::{Destroyed, DestructionIntended};
use event::{Day, Retention as Class, Span, Time};
use tokio::sync::watch;

use crate::configuration::Configuration;

mod steady;

use steady::Steady;

/// How often to look. A day is destroyed within an hour of being due, while the clock is steady.
const LOOK_EVERY: Span = Span::from_secs(3600);
/// How often to look at the clock, and to give a sign of life.
const STEP: Span = Span::from_secs(10);

/// Destroys day keys that are due.
pub(crate) struct Retention {
    configuration: watch::Receiver<Arc<Configuration>>,
    newest_before: Option<Time>,
}

impl Retention {
    /// `newest_before`: when the newest entry from before this start of the process was recorded.
    pub(crate) const fn new(configuration: watch::Receiver<Arc<Configuration>>, newest_before: Option<Time>) -> Self {
        Self { configuration, newest_before }
    }

    async fn forget(&self, context: Context) -> Result<(), EngineError> {
        let mut steady = Steady::new(Arc::clone(&context.clock), STEP, self.newest_before);
        let mut left = Span::ZERO;
        loop {
            context.progress.tick();
            steady.look();
            // Asked also when nothing is to be looked for yet: it warns.
            let may_destroy = steady.may_destroy();
            if left <= Span::ZERO && may_destroy {
                self.destroy_what_is_due(&context).await?;
                left = LOOK_EVERY;
            }
            // In small steps, so that a frozen engine can be told from one with nothing to do.
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(STEP.to_std()) => left = left - STEP,
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
