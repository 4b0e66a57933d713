//! Puts events into the journal, and keeps them while the journal takes none.
//!
//! **Problem.** A disk fills up in the night. Whatever is seen from then on is exactly what people will ask about, and the
//! journal refuses it. **Principle.** Evidence is never lost silently: an event that the journal refuses waits in memory, in
//! order, and is handed over as soon as there is room. The queue is bounded; at its bound the oldest event goes, and once the
//! journal writes again, a blind interval says for each observer when something was lost.
//!
//! The queue also takes an event whose writer was aborted while it waited for the journal. It may be there already: the
//! journal knows an event by observer, boot and sequence, so a second copy changes nothing.
//!
//! This is memory: it outlives a full disk, not the process. [`Recorder::flush`] tells how much would be lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event::{Body, BootId, Clock, Observed, ObserverId, PAYLOAD_BYTES_MAX, Time};
use store::StoreError;

mod spool;

use spool::Spool;
pub use spool::{SPOOL_BYTES_MAX, SPOOL_EVENTS_MAX, SpoolHealth};

/// How long the journal may take for an event before it counts as refused. A commit takes milliseconds.
const APPEND_LIMIT: Duration = Duration::from_secs(10);

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// It is in the journal, at this sequence, and survives a power loss.
    Durable(u64),
    /// The journal takes nothing at the moment: it waits in memory and will be written in its turn.
    Waiting,
}

impl Recorded {
    /// Its place in the log, if it is there.
    pub fn sequence(self) -> Option<u64> {
        match self {
            Self::Durable(sequence) => Some(sequence),
            Self::Waiting => None,
        }
    }
}

/// Why an event can't be recorded, now or ever.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Its body does not serialise.
    #[error("a `{kind}` can't be recorded, its body does not serialise: {source}")]
    Body {
        /// Kind of the event.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Its body is too long.
    #[error("a `{kind}` of {bytes} bytes can't be recorded: {PAYLOAD_BYTES_MAX} is the most")]
    TooLarge {
        /// Kind of the event.
        kind: &'static str,
        /// Length of its body.
        bytes: usize,
    },
    /// The journal will never take it.
    #[error("a `{kind}` was refused by the journal: {source}")]
    Refused {
        /// Kind of the event.
        kind: &'static str,
        /// Why.
        source: StoreError,
    },
}

/// Journals what one observer sees. Clones share its sequence.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
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

/// An event that has its number, and where that number came from.
struct Waiting {
    observed: Observed,
    stream: Arc<Stream>,
}

struct Shared {
    journal: Arc<dyn store::Journal>,
    boot: BootId,
    clock: Arc<dyn Clock>,
    streams: Mutex<BTreeMap<ObserverId, Arc<Stream>>>,
    spool: Arc<Spool>,
}

/// An event under way to the journal. When its writer is aborted meanwhile, nobody knows whether it arrived: it is handed
/// over again.
struct Unsettled<'a> {
    spool: &'a Arc<Spool>,
    event: Option<Waiting>,
}

impl Unsettled<'_> {
    fn keep(&mut self, reason: &str) {
        if let Some(event) = self.event.take() {
            self.spool.keep(event, reason);
        }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.keep("whoever recorded it was aborted meanwhile");
    }
}

/// Whether the journal will refuse the same event again, however often it is asked.
fn is_final(refused: &StoreError) -> bool {
    matches!(refused, StoreError::TooLarge { .. } | StoreError::Malformed { .. })
}

/// Locks. No code of an engine runs while one of these locks is held, so a panic can't leave anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// The recorder of the process, for its own `observer`. `boot` is new for each run of the process.
    pub fn new(journal: Arc<dyn store::Journal>, observer: ObserverId, boot: BootId, clock: Arc<dyn Clock>) -> Self {
        let stream = Stream::of(observer.clone());
        let spool = Arc::new(Spool::new(journal.clone(), clock.clone()));
        let streams = Mutex::new(BTreeMap::from([(observer, stream.clone())]));
        Self { shared: Arc::new(Shared { journal, boot, clock, streams, spool }), stream }
    }

    /// The recorder of another observer in this process; the same sequence each time it is asked for.
    #[must_use]
    pub fn for_observer(&self, observer: ObserverId) -> Self {
        let stream = lock(&self.shared.streams)
            .entry(observer)
            .or_insert_with_key(|observer| Stream::of(observer.clone()))
            .clone();
        Self { shared: self.shared.clone(), stream }
    }

    /// The recorder of the engine `name` at the same vantage point.
    #[must_use]
    pub fn for_engine(&self, name: &str) -> Self {
        self.for_observer(self.stream.observer.beside(name))
    }

    /// Who it is that sees.
    pub fn observer(&self) -> &ObserverId {
        &self.stream.observer
    }

    /// Records what is seen now. Returns when it is durable, or when it waits because the journal refuses.
    pub async fn record<B: Body>(&self, body: &B) -> Result<Recorded, RecordError> {
        self.record_at(body, self.shared.clock.now()).await
    }

    /// Records what was seen at `observed_at`.
    pub async fn record_at<B: Body>(&self, body: &B, observed_at: Time) -> Result<Recorded, RecordError> {
        let kind = B::KIND.name;
        let event = Waiting { observed: self.observed(body, observed_at)?, stream: self.stream.clone() };
        let spool = &self.shared.spool;
        let Some(event) = spool.queue_behind_others(event) else { return Ok(Recorded::Waiting) };

        let copy = event.observed.clone();
        let mut unsettled = Unsettled { spool, event: Some(event) };
        let appended = tokio::time::timeout(APPEND_LIMIT, self.shared.journal.append(vec![copy])).await;
        let reason = match appended {
            Ok(Ok(places)) => match places.first() {
                Some(place) => {
                    unsettled.event = None;
                    return Ok(Recorded::Durable(*place));
                }
                None => "the journal did not say where it put the event".to_owned(),
            },
            Ok(Err(source)) if is_final(&source) => {
                unsettled.event = None;
                return Err(RecordError::Refused { kind, source });
            }
            Ok(Err(refused)) => refused.to_string(),
            Err(_) => format!("the journal did not answer within {} s", APPEND_LIMIT.as_secs()),
        };
        unsettled.keep(&reason);
        Ok(Recorded::Waiting)
    }

    /// Wraps the body, and takes the next number of the observer for it.
    fn observed<B: Body>(&self, body: &B, observed_at: Time) -> Result<Observed, RecordError> {
        let kind = B::KIND.name;
        let mut observed = Observed::new(body, self.stream.observer.clone(), self.shared.boot, 0, observed_at)
            .map_err(|source| RecordError::Body { kind, source })?;
        let bytes = observed.body.get().len();
        // The envelope adds some hundred bytes of names and numbers around the body.
        if bytes > PAYLOAD_BYTES_MAX - 4096 {
            return Err(RecordError::TooLarge { kind, bytes });
        }
        observed.sequence = self.stream.take_number();
        Ok(observed)
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
