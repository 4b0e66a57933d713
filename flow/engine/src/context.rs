//! The contract of an engine: the context that it is given, and the trait that it implements.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use event::{Clock, Span};
use tokio_util::sync::CancellationToken;

use crate::net::Net;
use crate::{Programs, Progress, Random, Recorder, Secrets};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The means of an engine, the same on a server, on a host and at a gate: clocks, randomness, network, programs, secrets, recorder. A
/// test gives one without an outside world; see [`crate::sim`].
///
/// No store is in it: a right to a store is an argument of the engine's `new`, and so a matter of its type. An engine that
/// was not given the right to destroy a day can't.
#[derive(Clone)]
pub struct Context {
    /// Wall clock and monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Names, connections, TLS.
    pub net: Arc<Net>,
    /// Programs of the machine.
    pub programs: Arc<Programs>,
    /// Opens the secrets that the policy keeps elsewhere.
    pub secrets: Arc<Secrets>,
    /// Puts events into the journal.
    pub recorder: Recorder,
    /// Ticks of this attempt, the sign of life of the engine.
    pub progress: Progress,
    /// Cancelled when this engine is to stop.
    pub stop: CancellationToken,
}

/// A part of garant that runs for ever.
///
/// # Contract
///
/// * [`run`](Self::run) returns `Ok` only after [`Context::stop`] was cancelled. Ending earlier, an error and a panic are
///   the same thing: a failure. An engine that has nothing to do waits.
/// * It ticks [`Context::progress`] as soon as it is ready, and at least once per [`patience`](Self::patience). An engine
///   that does not tick is frozen: it is aborted and started again.
/// * It may be aborted at any `await`. What must not be half done is one transaction of a store, or is journaled as
///   intended before and found again by the next attempt.
/// * It never blocks its thread for longer than 100 ms: work that computes goes to `tokio::task::spawn_blocking`. One that
///   can't be aborted costs the whole process.
/// * It shares no lock with another engine. They meet through events.
/// * What it keeps for the next attempt is in `self`; the rest dies with the attempt.
pub trait Engine: Send + Sync {
    /// Name of the engine, as people see it.
    fn name(&self) -> &'static str;

    /// Place in the order of stopping: the highest number stops first, so an engine may rely on those with a lower one until
    /// its end.
    fn stop_order(&self) -> u8;

    /// Longest time without a tick; rounded up to whole seconds.
    fn patience(&self) -> Span {
        Span::from_secs(30)
    }

    /// Runs until [`Context::stop`] is cancelled. Called again for each attempt.
    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>>;
}

/// The error of a failed attempt, with all causes. Made by `?` from any error.
pub struct EngineError {
    cause: Box<dyn Error + Send + Sync>,
    fatal: bool,
}

impl EngineError {
    /// An error with a message for the team: what failed, on what, why, what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self { cause: message.into().into(), fatal: false }
    }

    /// An error that starting the engine again would not mend: everything stops. The process manager (systemd) starts a
    /// fresh process.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(message) }
    }

    /// Whether everything is to stop.
    pub const fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for EngineError {
    fn from(error: E) -> Self {
        Self { cause: Box::new(error), fatal: false }
    }
}

impl fmt::Display for EngineError {
    /// The message and its causes; a cause that the message already quotes is not said twice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.cause.to_string();
        let mut cause = self.cause.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !text.contains(&message) {
                text = format!("{text}: {message}");
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
