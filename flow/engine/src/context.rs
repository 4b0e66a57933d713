//! The two halves of the contract: what an engine is given, and what it must be.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use event::{Clock, Span};
use tokio_util::sync::CancellationToken;

use crate::net::Net;
use crate::{Processes, Progress, Random, Recorder};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything an engine knows of the world. A test hands over one that has no world; see [`crate::sim`].
#[derive(Clone)]
pub struct Context {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Names, connections, TLS.
    pub net: Arc<Net>,
    /// Programs of the machine.
    pub processes: Arc<dyn Processes>,
    /// Puts events into the journal.
    pub recorder: Recorder,
    /// Time series.
    pub samples: Arc<dyn store::Samples>,
    /// Folded states with their cursors.
    pub projections: Arc<dyn store::Projections>,
    /// The journal, to be read.
    pub journal: Arc<dyn store::Journal>,
    /// The sign of life of this attempt.
    pub progress: Progress,
    /// Cancelled when this engine is to stop.
    pub stop: CancellationToken,
}

/// What the supervisor does with an engine that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// Starts it again, after a delay.
    Restart,
    /// Stops everything: the others can't do without it, and a fresh process is better than a patched one. The process
    /// manager (systemd) starts that.
    StopProcess,
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
    /// Its name, as people see it.
    fn name(&self) -> &'static str;

    /// On which floor it stands. Floors are stopped from the top, so an engine may rely on those below until its end.
    fn floor(&self) -> u8;

    /// What to do when it fails.
    fn on_failure(&self) -> OnFailure {
        OnFailure::Restart
    }

    /// How long it may go without a tick; rounded up to whole seconds.
    fn patience(&self) -> Span {
        Span::from_secs(30)
    }

    /// Runs until it is told to stop. Called again for each attempt.
    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>>;
}

/// Why an engine gave up, with all causes. Made by `?` from any error.
pub struct EngineError(Box<dyn Error + Send + Sync>);

impl EngineError {
    /// With a message for the team: what failed, on what, why, what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into().into())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for EngineError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for EngineError {
    /// The message and its causes; a cause that the message already quotes is not said twice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
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
