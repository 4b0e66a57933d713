//! From the rounds to the journal, without making them wait.
//!
//! A commit takes milliseconds, and seconds on a bad day; the rounds must go on. So entries go into a queue that a task of
//! its own empties, many at a time, so that they share commits. Their order is kept: each is handed to the recorder
//! before the next, and only then all are waited for.
//!
//! At the bound of the queue everything is dropped until it is empty again, and [`Journaling::has_dropped`] says so. The
//! rounds then count as mute: what they saw meanwhile is no evidence, and is told anew afterwards. Dropping only what
//! does not fit would be worse: a change of state might be lost between two that are kept.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use engine::heartbeat::Delivery;
use engine::{RecordError, Recorded, Recorder};
use event::{ObserverId, Span, Time};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::order::Entry;
use crate::source::heartbeat::Memory;

/// Most entries that wait: ten thousand probes may all change at once, each with its detail.
const QUEUE_MAX: usize = 32 * 1024;
/// Most entries handed over together.
const BATCH_MAX: usize = 256;

/// An entry on its way.
pub(crate) struct Letter {
    pub(crate) observer: ObserverId,
    pub(crate) entry: Entry,
    pub(crate) observed_at: Time,
    /// Of a ping: who waits for its receipt, and what all heartbeats have said up to it.
    pub(crate) ping: Option<(Delivery, Memory)>,
}

/// What the queue holds.
enum Mail {
    Letter(Box<Letter>),
    /// To be kept as it is: what heartbeats have said was labelled anew.
    Memory(Memory),
}

impl Mail {
    fn letter(&self) -> Option<&Letter> {
        match self {
            Self::Letter(letter) => Some(letter),
            Self::Memory(_) => None,
        }
    }
}

/// The queue and its task, which ends with this.
pub(crate) struct Journaling {
    queue: mpsc::Sender<Mail>,
    task: JoinSet<()>,
    dropping: bool,
}

impl Journaling {
    /// Starts the task.
    pub(crate) fn start(recorder: Recorder, projections: Arc<dyn store::Projections>) -> Self {
        let (queue, mail) = mpsc::channel(QUEUE_MAX);
        let mut task = JoinSet::new();
        task.spawn(empty(mail, recorder, projections));
        Self { queue, task, dropping: false }
    }

    /// Puts an entry into the queue, or drops it.
    pub(crate) fn send(&mut self, letter: Letter) {
        self.put(Mail::Letter(Box::new(letter)));
    }

    /// Keeps what heartbeats have said. One that finds no room is made up for by the next ping.
    pub(crate) fn keep(&mut self, memory: Memory) {
        self.put(Mail::Memory(memory));
    }

    fn put(&mut self, mail: Mail) {
        if self.dropping {
            return;
        }
        if self.queue.try_send(mail).is_err() {
            tracing::error!(waiting = QUEUE_MAX, "the journal is too slow: entries of the watch are dropped");
            self.dropping = true;
        }
    }

    /// Whether entries were dropped since the queue was last empty. Once it is, nothing more is dropped.
    pub(crate) fn has_dropped(&mut self) -> bool {
        let dropped = self.dropping;
        if self.queue.capacity() == QUEUE_MAX {
            self.dropping = false;
        }
        dropped
    }

    /// Waits until all is handed over, for `within` at most; says whether it was.
    pub(crate) async fn finish(self, within: Span) -> bool {
        let Self { queue, mut task, .. } = self;
        drop(queue);
        tokio::time::timeout(within.to_std(), task.join_next()).await.is_ok()
    }
}

async fn empty(mut mail: mpsc::Receiver<Mail>, own: Recorder, projections: Arc<dyn store::Projections>) {
    let mut recorders: BTreeMap<ObserverId, Recorder> = BTreeMap::new();
    let mut batch = Vec::new();
    while mail.recv_many(&mut batch, BATCH_MAX).await > 0 {
        for letter in batch.iter().filter_map(Mail::letter) {
            recorders.entry(letter.observer.clone()).or_insert_with_key(|observer| own.for_observer(observer.clone()));
        }
        let records = batch.iter().filter_map(Mail::letter).filter_map(|letter| {
            let recorder = recorders.get(&letter.observer)?;
            Some(record(recorder, letter))
        });
        let mut outcomes = in_order(records.collect()).await.into_iter();
        let mut memory = None;
        for mail in batch.drain(..) {
            let letter = match mail {
                Mail::Letter(letter) => letter,
                Mail::Memory(newer) => {
                    memory = Some(newer);
                    continue;
                }
            };
            match outcomes.next() {
                Some(Ok(recorded)) => {
                    if let Some((delivery, newer)) = letter.ping {
                        memory = Some(newer);
                        // What merely waits for the journal is not recorded: the job is told to try again.
                        if matches!(recorded, Recorded::Durable(_)) {
                            delivery.acknowledge();
                        }
                    }
                }
                Some(Err(error)) => {
                    tracing::error!(%error, observer = %letter.observer, "an entry of the watch is lost");
                }
                // Each letter has its outcome.
                None => {}
            }
        }
        if let Some(memory) = memory {
            memory.save(&*projections).await;
        }
    }
}

type Record<'a> = Pin<Box<dyn Future<Output = Result<Recorded, RecordError>> + Send + 'a>>;

fn record<'a>(recorder: &'a Recorder, letter: &'a Letter) -> Record<'a> {
    let at = letter.observed_at;
    match &letter.entry {
        Entry::Changed(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Detail(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Covered(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Found(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Succeeded(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Pinged(body) => Box::pin(recorder.record_at(body, at)),
        Entry::ClockStepped(body) => Box::pin(recorder.record_at(body, at)),
        Entry::Blind(body) => Box::pin(recorder.record_at(body, at)),
    }
}

/// Runs all at once, each started before the next; the results are in the same order.
async fn in_order<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *result = Some(done),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn results_keep_their_order() {
        let started = std::sync::Mutex::new(Vec::new());
        let futures: Vec<Pin<Box<dyn Future<Output = u64> + Send + '_>>> = (0..10_u64)
            .map(|n| -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
                let started = &started;
                Box::pin(async move {
                    started.lock().expect("not poisoned").push(n);
                    tokio::time::sleep(Duration::from_millis(100 - 10 * n)).await;
                    n
                })
            })
            .collect();
        #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
        let before = tokio::time::Instant::now();
        assert_eq!(in_order(futures).await, (0..10).collect::<Vec<_>>());
        assert_eq!(before.elapsed(), Duration::from_millis(100), "all at once");
        assert_eq!(*started.lock().expect("not poisoned"), (0..10).collect::<Vec<_>>());
    }
}
