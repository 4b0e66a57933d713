//! Seals what an observer saw into events and leaves them in a [`Sink`]; keeps them while it takes none.
//!
//! **Problem.** A disk fills up in the night. Whatever is seen from then on is exactly what people will ask about, and the
//! journal refuses it. **Principle.** Evidence is never lost silently: events that the sink refuses wait in memory, in
//! order, and are handed over as soon as there is room. The queue is bounded; at its bound the oldest go, and once the
//! sink takes events again, a blind interval says for each observer when something was lost.
//!
//! What belongs together is [sent](Recorder::send) together and is one transaction, also after it had to wait: a change is
//! never in the journal without its detail.
//!
//! The queue also takes events whose writer was aborted while it waited for the sink. They may be there already: an event is
//! known by observer, boot and sequence, so a second copy changes nothing.
//!
//! This is memory: it outlives a full disk, not the process. [`Recorder::flush`] tells how much would be lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event::{Body, BootId, Clock, Observed, ObserverId, PAYLOAD_BYTES_MAX, Time};
use serde::{Deserialize, Serialize};
use store::{Sink, StoreError, Taken};

mod spool;

use spool::Spool;
pub use spool::{SPOOL_BYTES_MAX, SPOOL_EVENTS_MAX, SpoolHealth};

/// How long the sink may take before events count as refused. A commit takes milliseconds.
const TAKE_LIMIT: Duration = Duration::from_secs(10);

/// Outcome for events that were sent together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// The events are in the journal, those that were new at these places, and survive a power loss.
    Logged(Vec<u64>),
    /// The events are in a spool, on their way to the journal, and survive a power loss.
    Spooled,
    /// The sink refuses at the moment: the events wait in memory and are handed over in their turn.
    Waiting,
}

impl Recorded {
    /// Whether the events survive a power loss.
    pub const fn is_durable(&self) -> bool {
        matches!(self, Self::Logged(_) | Self::Spooled)
    }
}

/// An event that can't be recorded, now or ever, and why.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The body does not serialise.
    #[error("a `{kind}` can't be recorded, its body does not serialise: {source}")]
    Body {
        /// Kind of the event.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The body is too long.
    #[error("a `{kind}` of {bytes} bytes can't be recorded: {PAYLOAD_BYTES_MAX} is the most")]
    TooLarge {
        /// Kind of the event.
        kind: &'static str,
        /// Length of its body.
        bytes: usize,
    },
    /// The journal will never take these events.
    #[error("a `{kind}` was refused by the journal: {source}")]
    Refused {
        /// Kind of the first of them.
        kind: String,
        /// Why.
        source: StoreError,
    },
}

/// What an event of an observer is known by: one that is sent again under it is in the journal once.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct EventNumber {
    /// The run of the observer's process that took it.
    pub boot: BootId,
    /// How many that run had taken before.
    pub sequence: u64,
}

/// The recorder of one observer: seals what it observes into events and sends them to the sink. Clones share its sequence.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<RecorderState>,
    stream: Arc<Stream>,
}

/// The sequence of one observer in this run of the process.
struct Stream {
    observer: ObserverId,
    next: AtomicU64,
}

impl Stream {
    fn of(observer: ObserverId) -> Arc<Self> {
        Arc::new(Self { observer, next: AtomicU64::new(0) })
    }

    fn take_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// Events that were sent together, and are handed over together.
#[derive(Clone)]
struct Group(Vec<Observed>);

impl Group {
    fn body_bytes(&self) -> usize {
        self.0.iter().map(|event| event.body.get().len()).sum()
    }
}

/// The sequences of all observers in this run of the process.
struct Streams {
    boot: BootId,
    of: Mutex<BTreeMap<ObserverId, Arc<Stream>>>,
}

impl Streams {
    fn of(&self, observer: ObserverId) -> Arc<Stream> {
        lock(&self.of).entry(observer).or_insert_with_key(|observer| Stream::of(observer.clone())).clone()
    }
}

/// The parts of a recorder that all its clones share.
struct RecorderState {
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    streams: Arc<Streams>,
    spool: Arc<Spool>,
}

/// Events that are being handed to the sink. Dropped unsettled, because their writer was aborted, they are queued again:
/// nobody knows whether they arrived.
struct Unsettled<'a> {
    spool: &'a Arc<Spool>,
    group: Option<Group>,
}

impl Unsettled<'_> {
    fn keep(&mut self, reason: &str) {
        if let Some(group) = self.group.take() {
            self.spool.keep(group, reason);
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.keep("the engine that recorded it was aborted meanwhile");
    }
}

/// Whether the sink would refuse the same events every time.
fn is_final(refused: &StoreError) -> bool {
    matches!(refused, StoreError::TooLarge { .. } | StoreError::Malformed { .. })
}

/// The reason why events wait when the sink has not answered in time.
fn late() -> String {
    format!("the journal did not answer within {} s", TAKE_LIMIT.as_secs())
}

/// Locks a mutex. No code of an engine runs while one of these locks is held, so a panic can't leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// The recorder of the process, for its own `observer`. `boot` is new for each run of the process.
    pub fn new(sink: Arc<dyn Sink>, observer: ObserverId, boot: BootId, clock: Arc<dyn Clock>) -> Self {
        let streams = Arc::new(Streams { boot, of: Mutex::default() });
        let spool = Arc::new(Spool::new(sink.clone(), clock.clone(), streams.clone()));
        let stream = streams.of(observer);
        Self { shared: Arc::new(RecorderState { sink, clock, streams, spool }), stream }
    }

    /// The recorder of another observer in this process; the same sequence each time it is asked for.
    #[must_use]
    pub fn for_observer(&self, observer: ObserverId) -> Self {
        let stream = self.shared.streams.of(observer);
        Self { shared: self.shared.clone(), stream }
    }

    /// The recorder of the engine `name` at the same vantage point.
    #[must_use]
    pub fn for_engine(&self, name: &str) -> Self {
        self.for_observer(self.stream.observer.beside(name))
    }

    /// The observer of this recorder.
    pub fn observer(&self) -> &ObserverId {
        &self.stream.observer
    }

    /// Makes an event of what was seen at `observed_at`, with the next number of the observer. It is to be
    /// [sent](Self::send), or journaled by a [`store::Step`]; one that never is leaves a gap in the numbers, and no harm.
    pub fn seal<B: Body>(&self, body: &B, observed_at: Time) -> Result<Observed, RecordError> {
        self.seal_numbered(body, observed_at, self.number())
    }

    /// The next number of the observer, for an event whose body is not known yet. Whoever keeps it with what the event will tell of
    /// can [seal](Self::seal_numbered) that again after a crash, and it is in the journal once.
    pub fn number(&self) -> EventNumber {
        EventNumber { boot: self.shared.streams.boot, sequence: self.stream.take_number() }
    }

    /// Makes an event as [`seal`](Self::seal) does, with a number that was taken before, in this run of the process or an earlier one.
    pub fn seal_numbered<B: Body>(
        &self,
        body: &B,
        observed_at: Time,
        number: EventNumber,
    ) -> Result<Observed, RecordError> {
        let EventNumber { boot, sequence } = number;
        let kind = B::KIND.name;
        let observed = Observed::new(body, self.stream.observer.clone(), boot, sequence, observed_at)
            .map_err(|source| RecordError::Body { kind, source })?;
        let bytes = observed.body.get().len();
        // The envelope adds some hundred bytes of names and numbers around the body.
        if bytes > PAYLOAD_BYTES_MAX - 4096 {
            return Err(RecordError::TooLarge { kind, bytes });
        }
        Ok(observed)
    }

    /// Hands over [sealed](Self::seal) events, of one observer or of several, to become one transaction: all of them are in
    /// the journal or none is. Returns when they are durable, or when they wait because the sink refuses. An error is a
    /// refusal for good, of all of them; what was sealed is refused only when there are more than
    /// [`store::EVENTS_MAX`] or some tens of megabytes of it.
    pub async fn send(&self, events: Vec<Observed>) -> Result<Recorded, RecordError> {
        self.send_to(&*self.shared.sink, events).await
    }

    /// As [`send`](Self::send), with a sink of the caller's that makes the events part of a larger transaction, the rows of
    /// a consumer say. What it does not take waits as everything does, and comes to the recorder's own sink, without the
    /// rest of that transaction.
    pub async fn send_to(&self, sink: &dyn Sink, events: Vec<Observed>) -> Result<Recorded, RecordError> {
        let spool = &self.shared.spool;
        let Some(kind) = events.first().map(|event| event.kind.clone()) else {
            return Ok(Recorded::Logged(Vec::new()));
        };
        let Some(group) = spool.queue_behind_others(Group(events)) else { return Ok(Recorded::Waiting) };

        let copy = group.0.clone();
        let mut unsettled = Unsettled { spool, group: Some(group) };
        let reason = match tokio::time::timeout(TAKE_LIMIT, sink.take(copy)).await {
            Ok(Ok(taken)) => {
                unsettled.group = None;
                return Ok(match taken {
                    Taken::Logged(places) => Recorded::Logged(places),
                    Taken::Spooled => Recorded::Spooled,
                });
            }
            Ok(Err(source)) if is_final(&source) => {
                unsettled.group = None;
                return Err(RecordError::Refused { kind, source });
            }
            Ok(Err(refused)) => refused.to_string(),
            Err(_) => late(),
        };
        unsettled.keep(&reason);
        Ok(Recorded::Waiting)
    }

    /// As [`send_to`](Self::send_to), but nothing waits: what the sink does not take now, or what would have to wait behind
    /// other events, is refused, and never handed over again. `None` says so. For what somebody will bring again when told
    /// that it was not recorded. A sink that does not answer in time may have taken it all the same.
    pub async fn offer_to(&self, sink: &dyn Sink, events: Vec<Observed>) -> Result<Option<Recorded>, RecordError> {
        let Some(kind) = events.first().map(|event| event.kind.clone()) else {
            return Ok(Some(Recorded::Logged(Vec::new())));
        };
        if !self.shared.spool.is_idle() {
            return Ok(None);
        }
        match tokio::time::timeout(TAKE_LIMIT, sink.take(events)).await {
            Ok(Ok(Taken::Logged(places))) => Ok(Some(Recorded::Logged(places))),
            Ok(Ok(Taken::Spooled)) => Ok(Some(Recorded::Spooled)),
            Ok(Err(source)) if is_final(&source) => Err(RecordError::Refused { kind, source }),
            Ok(Err(reason)) => {
                tracing::debug!(%reason, "the journal takes nothing: what was offered is refused");
                Ok(None)
            }
            Err(_) => {
                tracing::warn!(reason = late(), "what was offered is refused");
                Ok(None)
            }
        }
    }

    /// Records what is seen now: [`seal`](Self::seal) and [`send`](Self::send) of one event.
    pub async fn record<B: Body>(&self, body: &B) -> Result<Recorded, RecordError> {
        self.record_at(body, self.shared.clock.now()).await
    }

    /// Records what was seen at `observed_at`.
    pub async fn record_at<B: Body>(&self, body: &B, observed_at: Time) -> Result<Recorded, RecordError> {
        let event = self.seal(body, observed_at)?;
        self.send(vec![event]).await
    }

    /// What waits for the journal, and what was lost; for pages and metrics.
    pub fn health(&self) -> SpoolHealth {
        self.shared.spool.health()
    }

    /// Waits until nothing is waiting for the journal any more, for `within` at most. Returns how many events are still
    /// waiting, and would be lost if the process ended now.
    pub async fn flush(&self, within: event::Span) -> usize {
        self.shared.spool.flush(within.to_std()).await
    }
}

#[cfg(test)]
mod tests;
