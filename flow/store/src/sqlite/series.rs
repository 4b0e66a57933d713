//! Time series: a queue, a thread that empties it, and readers.

mod bucket;
mod expiry;
mod keeper;
mod numbers;
mod partition;
mod read;
mod trouble;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use event::{Clock, Interval, ObserverId, ProbeId, Time};
use tokio::sync::{Semaphore, oneshot};

use super::database::SqliteError;
use super::writer::Health;
use crate::{Bucket, Expired, OpenError, RAW_INTERVAL_MAX, Resolution, Sample, StoreError};
use keeper::Keeper;
use read::Query;

/// Samples that may wait; beyond, they are dropped and counted. Five megabytes, since names are shared, and as much again for
/// those that are being written: a disk that hangs for a minute costs ten thousand probes nothing.
const QUEUE_SAMPLES: usize = 65_536;
/// How long samples are gathered before they are written together.
const GATHER: Duration = Duration::from_millis(200);
/// How often the thread looks for what is due when no samples come.
const IDLE: Duration = Duration::from_secs(10);
/// Reads at a time.
const READERS: usize = 2;

pub(super) struct Series {
    dir: PathBuf,
    readers: Arc<Semaphore>,
    writer: SeriesWriter,
}

struct SeriesWriter {
    queue: Arc<Queue>,
    health: Arc<Health>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    samples: Vec<Sample>,
    requests: Vec<Request>,
    closed: bool,
}

enum Request {
    Settle(oneshot::Sender<()>),
    Expire(Time, oneshot::Sender<Result<Expired, StoreError>>),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for requests, and a little longer, so that several are served together.
    fn next(&self) -> Waiting {
        let idle = |waiting: &mut Waiting| waiting.samples.is_empty() && waiting.requests.is_empty() && !waiting.closed;
        let (waiting, _) =
            self.changed.wait_timeout_while(self.lock(), IDLE, idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |waiting: &mut Waiting| {
            !waiting.samples.is_empty()
                && waiting.samples.len() < QUEUE_SAMPLES / 2
                && waiting.requests.is_empty()
                && !waiting.closed
        };
        let (mut waiting, _) =
            self.changed.wait_timeout_while(waiting, GATHER, gathering).unwrap_or_else(PoisonError::into_inner);
        let closed = waiting.closed;
        Waiting { closed, ..std::mem::take(&mut *waiting) }
    }
}

impl Series {
    pub(super) fn open(dir: PathBuf, clock: Arc<dyn Clock>, health: Arc<Health>) -> Result<Self, OpenError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(OpenError::io("creating the directory of samples", &dir))?;
        let mut keeper = Keeper::new(dir.clone(), clock, Arc::clone(&health))
            .map_err(|failure| OpenError::Database { dir: dir.clone(), reason: failure.to_string() })?;
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let run = move || while !serve(&mut keeper, theirs.next()) {};
        let thread = std::thread::Builder::new()
            .name("series-writer".to_owned())
            .spawn(run)
            .map_err(OpenError::io("starting the thread that writes", &dir))?;
        let writer = SeriesWriter { queue, health, thread: Some(thread) };
        Ok(Self { dir, readers: Arc::new(Semaphore::new(READERS)), writer })
    }

    pub(super) fn record(&self, mut samples: Vec<Sample>) {
        let writer = &self.writer;
        let mut waiting = writer.queue.lock();
        let room = QUEUE_SAMPLES - waiting.samples.len().min(QUEUE_SAMPLES);
        let dropped = samples.len().saturating_sub(room);
        samples.truncate(room);
        let first = waiting.samples.is_empty();
        waiting.samples.append(&mut samples);
        let many = waiting.samples.len() >= QUEUE_SAMPLES / 2;
        drop(waiting);
        if first || many {
            writer.queue.changed.notify_one();
        }
        writer.health.samples_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.queue.lock().requests.push(request(reply));
        self.writer.queue.changed.notify_one();
        answer.await.map_err(|_| StoreError::Closed)
    }

    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        self.ask(Request::Settle).await
    }

    pub(super) async fn expire(&self, now: Time) -> Result<Expired, StoreError> {
        self.ask(|reply| Request::Expire(now, reply)).await?
    }

    pub(super) async fn range(
        &self,
        probe: ProbeId,
        observer: Option<ObserverId>,
        interval: Interval,
        resolution: Resolution,
    ) -> Result<Vec<Bucket>, StoreError> {
        if resolution == Resolution::Raw && interval.length() > RAW_INTERVAL_MAX {
            let seconds = |span: event::Span| span.secs().unsigned_abs();
            let (size, max) = (seconds(interval.length()), seconds(RAW_INTERVAL_MAX));
            return Err(StoreError::TooLarge { what: "an interval of single samples, in seconds,", size, max });
        }
        let unreadable = |reason: String| StoreError::Read { what: "a time series", reason };
        let permit = Arc::clone(&self.readers).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let dir = self.dir.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Query::new(&dir, &probe, observer.as_ref()).and_then(|query| query.range(interval, resolution))
        });
        let buckets = task.await.map_err(|_| unreadable("it was abandoned".to_owned()))?;
        buckets.map_err(|failure: SqliteError| unreadable(failure.to_string()))
    }
}

/// Serves the requests; returns whether the last of them was to stop.
fn serve(keeper: &mut Keeper, waiting: Waiting) -> bool {
    let Waiting { samples, requests, closed } = waiting;
    if !samples.is_empty() {
        keeper.keep(samples);
    }
    keeper.roll_up();
    for request in requests {
        // A caller that gave up meanwhile gets no answer.
        match request {
            Request::Settle(reply) => reply.send(()).unwrap_or_default(),
            Request::Expire(now, reply) => {
                let expired = keeper.expire(now).map_err(|failure| StoreError::Unavailable {
                    since: now,
                    reason: format!("old samples can't be dropped: {failure}"),
                });
                drop(reply.send(expired));
            }
        }
    }
    closed
}

impl Drop for SeriesWriter {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The hook has already reported a panic of the thread.
            thread.join().unwrap_or_default();
        }
    }
}
