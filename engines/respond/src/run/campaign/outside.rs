//! The other side of the channels: what arrives, and how they fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drawn::Draws;
use engine::clock::SimClock;
use engine::{BoxFuture, Clock as _};
use event::Time;

use crate::act::{Channel, Means, Message, Sent};

/// What a channel does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Well,
    /// A provider that answers 503.
    Fails,
    Refuses,
    Hangs,
    /// The message arrives and its answer does not.
    LosesAnswers,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) at: Time,
    pub(super) to: String,
    pub(super) message: Message,
}

/// The channels' other side.
pub(super) struct Outside {
    pub(super) truth: SimClock,
    pub(super) modes: Mutex<BTreeMap<String, Mode>>,
    pub(super) arrived: Mutex<Vec<Arrived>>,
    pub(super) draws: Mutex<Draws>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outside {
    pub(super) fn mode(&self, to: &str) -> Mode {
        lock(&self.modes).get(to).copied().unwrap_or(Mode::Well)
    }

    pub(super) fn arrives(&self, to: &str, message: &Message) {
        lock(&self.arrived).push(Arrived { at: self.truth.now(), to: to.to_owned(), message: message.clone() });
    }
}

/// A channel without a network.
pub(super) struct Fake {
    pub(super) kind: &'static str,
    pub(super) to: String,
    pub(super) outside: Arc<Outside>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to)
    }
}

impl Channel for Fake {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn send<'a>(&'a self, message: &'a Message, _: Option<&'a str>, _: Means<'a>) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let wait = lock(&self.outside.draws).below(300_u64);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let again = |reason: &str| Sent::Again { reason: reason.to_owned(), after: None };
            match self.outside.mode(&self.to) {
                Mode::Well => {
                    self.outside.arrives(&self.to, message);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Sent::Accepted { reference: Some(message.id.clone()) }
                }
                Mode::Fails => again("503"),
                Mode::Refuses => Sent::Refused { reason: "550".to_owned() },
                Mode::Hangs => std::future::pending().await,
                Mode::LosesAnswers => {
                    self.outside.arrives(&self.to, message);
                    again("cut")
                }
            }
        })
    }
}
