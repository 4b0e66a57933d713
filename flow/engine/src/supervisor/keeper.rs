//! The keeper: runs one engine, attempt after attempt.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use event::engine::{Blind, BlindCause, Failed, Started};
use event::{Interval, Monotonic, Span, Time};
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::backoff::{HEALTHY_AFTER, delay, in_seconds};
use super::{EngineState, Slot, record};
use crate::{Context, Engine, EngineError, Progress};

/// How often the ticks of the engine are checked.
const CHECK: Duration = Duration::from_secs(1);

/// How long an aborted engine may take to end. It ends at its next `await`.
const ABORT_LIMIT: Duration = Duration::from_secs(3);

/// A failure for which the whole process has to stop.
pub(super) struct Fatal {
    pub(super) reason: String,
}

impl Fatal {
    /// The keeper itself panicked or was cancelled.
    pub(super) fn unexpected(error: JoinError) -> Self {
        Self { reason: format!("its keeper ended: {}", panic_message(error)) }
    }
}

/// The keeper of one engine.
pub(super) struct Keeper {
    pub(super) engine: Arc<dyn Engine>,
    /// The runtime of the engine, if it is not that of the supervisor.
    pub(super) runtime: Option<Handle>,
    pub(super) context: Context,
    pub(super) stop: CancellationToken,
    pub(super) slot: Slot,
}

/// A failed attempt.
struct FailedAttempt {
    reason: String,
    cause: BlindCause,
    /// Since when the engine has observed nothing.
    since: (Time, Monotonic),
    /// Whether another attempt would not help: the engine said so, or its task could not be ended.
    fatal: bool,
}

impl Keeper {
    /// Makes one attempt after the other, until the engine is to stop.
    pub(super) async fn keep(self) -> Result<(), Fatal> {
        let mut failures = 0;
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.slot.set(|health| {
                health.state = EngineState::Starting;
                health.attempts = attempt;
            });
            record(&self.context.recorder, &Started { engine: self.name(), attempt }).await;
            let started = self.context.clock.monotonic();
            let Some(failure) = self.attempt().await else { return Ok(()) };

            let healthy = self.context.clock.monotonic().since(started) >= HEALTHY_AFTER;
            failures = if healthy { 1 } else { failures + 1 };
            let restart_in = if failure.fatal { Span::ZERO } else { delay(failures, &*self.context.random) };
            tracing::warn!(
                engine = self.engine.name(),
                reason = failure.reason,
                restart_in = in_seconds(restart_in),
                "engine failed"
            );
            self.slot.set(|health| {
                health.state = if failure.fatal { EngineState::Failed } else { EngineState::Restarting };
                health.failures = failures;
                health.last_error = Some(failure.reason.clone());
            });
            let failed = Failed { engine: self.name(), reason: failure.reason.clone(), restart_in };
            record(&self.context.recorder, &failed).await;
            let asked_to_stop = tokio::select! {
                () = self.stop.cancelled() => true,
                () = tokio::time::sleep(restart_in.to_std()) => false,
            };
            self.record_blind(&failure).await;
            if failure.fatal {
                return Err(Fatal { reason: failure.reason });
            }
            if asked_to_stop {
                return Ok(());
            }
        }
    }

    fn name(&self) -> String {
        self.engine.name().to_owned()
    }

    /// Journals the blind interval. Its end is counted on the monotonic clock: a step meanwhile neither hides nor invents
    /// blindness.
    async fn record_blind(&self, failure: &FailedAttempt) {
        let (start, since) = failure.since;
        let interval = Interval::new(start, start + self.context.clock.monotonic().since(since));
        record(&self.context.recorder, &Blind { engine: self.name(), interval, cause: failure.cause }).await;
    }

    fn now(&self) -> (Time, Monotonic) {
        (self.context.clock.now(), self.context.clock.monotonic())
    }

    /// Makes one attempt; `None` when it ended because the engine was to stop.
    async fn attempt(&self) -> Option<FailedAttempt> {
        let progress = Progress::default();
        let stop = self.stop.child_token();
        let recorder = self.context.recorder.for_engine(self.engine.name());
        let context = Context { recorder, progress: progress.clone(), stop, ..self.context.clone() };
        let engine = self.engine.clone();
        // A plain handle would leave the engine running, watched by nobody, when the keeper is aborted.
        let work = async move { engine.run(context).await };
        let mut task = AbortOnDropHandle::new(match &self.runtime {
            Some(runtime) => runtime.spawn(work),
            None => tokio::spawn(work),
        });

        #[expect(clippy::disallowed_methods, reason = "a timer of tokio wants to know its first instant")]
        let mut checks = interval_at(Instant::now() + CHECK, CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let patience = checks_of(self.engine.patience());
        let (mut ready, mut stopping) = (false, false);
        let (mut ticks, mut idle, mut sign_of_life) = (0, 0, self.now());
        loop {
            tokio::select! {
                biased;
                ended = &mut task => return self.judge(ended),
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.slot.set(|health| health.state = EngineState::Stopping);
                }
                () = progress.first(), if !ready => {
                    ready = true;
                    if !stopping {
                        self.slot.set(|health| health.state = EngineState::Running);
                    }
                }
                _ = checks.tick() => {
                    let now = progress.ticks();
                    if now == ticks {
                        idle += 1;
                    } else {
                        (ticks, idle, sign_of_life) = (now, 0, self.now());
                    }
                    // While the engine stops, the deadline for stopping counts instead.
                    if idle >= patience && !stopping {
                        break;
                    }
                }
            }
        }
        task.abort();
        let stuck = tokio::time::timeout(ABORT_LIMIT, &mut task).await.is_err();
        let mut reason = format!("frozen: no sign of life for {}", self.engine.patience());
        if stuck {
            reason.push_str(", and it blocks its thread");
        }
        Some(FailedAttempt { reason, cause: BlindCause::Frozen, since: sign_of_life, fatal: stuck })
    }

    /// What the end of the task means: a stop, or which failure.
    fn judge(&self, ended: Result<Result<(), EngineError>, JoinError>) -> Option<FailedAttempt> {
        let (reason, fatal) = match ended {
            Ok(Ok(())) if self.stop.is_cancelled() => return None,
            Ok(Ok(())) => ("it ended without being told to".to_owned(), false),
            Ok(Err(error)) => (error.to_string(), error.is_fatal()),
            Err(error) => (panic_message(error), false),
        };
        if self.stop.is_cancelled() {
            tracing::warn!(engine = self.engine.name(), reason, "engine failed while it stopped");
            self.slot.set(|health| health.last_error = Some(reason));
            return None;
        }
        Some(FailedAttempt { reason, cause: BlindCause::Restart, since: self.now(), fatal })
    }
}

/// A patience as a number of checks, rounded up.
fn checks_of(patience: Span) -> u64 {
    u64::try_from(patience.micros()).unwrap_or(0).div_ceil(1_000_000).max(1)
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", text_of(&*panic)),
        Err(_) => "it was aborted".to_owned(),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
