//! The signals that ask a process to stop: SIGTERM and Ctrl-C.

use std::sync::Arc;

use engine::Clock;
use event::{Monotonic, Span};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Signals that come within this time of the first are the same wish: timeout(1) signals the process and, at once, its
/// group with it.
const ONE_WISH: Span = Span::from_secs(1);

/// The stream of wishes to stop: the first asks for an orderly end, the next for an end at once.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    clock: Arc<dyn Clock>,
    first: Option<Monotonic>,
}

impl StopSignals {
    /// Takes the signals from now on: they no longer end the process by themselves.
    pub(crate) fn taken(clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        Ok(Self {
            terminate: taken(SignalKind::terminate())?,
            interrupt: taken(SignalKind::interrupt())?,
            clock,
            first: None,
        })
    }

    /// Waits for the next wish.
    pub(crate) async fn next(&mut self) -> SignalKind {
        loop {
            let kind = tokio::select! {
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.interrupt.recv() => SignalKind::interrupt(),
            };
            let now = self.clock.monotonic();
            match self.first {
                Some(first) if now.since(first) < ONE_WISH => {}
                Some(_) => return kind,
                None => {
                    self.first = Some(now);
                    return kind;
                }
            }
        }
    }
}

/// The stream of one signal.
pub(crate) fn taken(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new("signals can't be received").because(&error))
}
