//! The events that the journal has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use event::engine::{Blind, BlindCause};
use event::{BootId, Clock, Interval, Observed, ObserverId, Span, Time};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::{APPEND_LIMIT, Stream, Waiting, lock};

/// Most events that wait.
pub const SPOOL_EVENTS_MAX: usize = 10_000;

/// Most bytes of bodies that wait.
pub const SPOOL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many events are handed over at once.
const BATCH: usize = 256;

/// Delay after the first refusal; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The name under which lost events are journaled: they may be of any engine of that observer.
const EVERY_ENGINE: &str = "all";

/// How the queue before the journal is doing.
#[derive(Clone, PartialEq, Eq, Serialize, Default, Debug)]
pub struct SpoolHealth {
    /// Events that wait.
    pub waiting: usize,
    /// Events lost at the bound of the queue since the process started.
    pub lost: u64,
    /// Since when events have been waiting.
    pub since: Option<Time>,
    /// Why, in the words of the last refusal.
    pub reason: Option<String>,
}

/// The queue, and the task that empties it. The task exists only while there is something to hand over.
pub(super) struct Spool {
    journal: Arc<dyn store::Journal>,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Whether nothing is waiting.
    empty: watch::Sender<bool>,
    /// Asks the task to try again now.
    retry: Notify,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Waiting>,
    bytes: usize,
    /// Events that the task has taken out and is handing over.
    under_way: usize,
    /// Whether there is a task.
    draining: bool,
    /// What was lost since the last blind interval was journaled.
    gaps: BTreeMap<ObserverId, Gap>,
    lost: u64,
    fault: Option<(Time, String)>,
}

/// What one observer has lost.
struct Gap {
    stream: Arc<Stream>,
    boot: BootId,
    interval: Interval,
}

impl Gap {
    fn merge(&mut self, other: &Self) {
        self.interval.start = self.interval.start.min(other.interval.start);
        self.interval.end = self.interval.end.max(other.interval.end);
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.under_way == 0 && self.gaps.is_empty()
    }

    fn push(&mut self, event: Waiting) {
        self.bytes += event.observed.body.get().len();
        self.events.push_back(event);
        self.make_room();
    }

    /// Puts back what was taken out and refused, in front.
    fn put_back(&mut self, events: Vec<Waiting>) {
        self.under_way = 0;
        for event in events.into_iter().rev() {
            self.bytes += event.observed.body.get().len();
            self.events.push_front(event);
        }
        self.make_room();
    }

    fn take_batch(&mut self) -> Vec<Waiting> {
        let count = BATCH.min(self.events.len());
        let batch: Vec<Waiting> = self.events.drain(..count).collect();
        self.bytes -= batch.iter().map(|event| event.observed.body.get().len()).sum::<usize>();
        self.under_way = batch.len();
        batch
    }

    /// At the bound, the oldest goes: it is the one that other sources most likely have too.
    fn make_room(&mut self) {
        while self.events.len() > SPOOL_EVENTS_MAX || self.bytes > SPOOL_BYTES_MAX {
            let Some(Waiting { observed, stream }) = self.events.pop_front() else { break };
            self.bytes -= observed.body.get().len();
            self.lost += 1;
            let end = observed.observed_at + Span::from_micros(1);
            let gap = Gap { stream, boot: observed.boot, interval: Interval::new(observed.observed_at, end) };
            self.add_gap(observed.observer, gap);
        }
    }

    fn add_gap(&mut self, observer: ObserverId, gap: Gap) {
        match self.gaps.get_mut(&observer) {
            Some(known) => known.merge(&gap),
            None => drop(self.gaps.insert(observer, gap)),
        }
    }
}

impl Spool {
    pub(super) fn new(journal: Arc<dyn store::Journal>, clock: Arc<dyn Clock>) -> Self {
        let (empty, _) = watch::channel(true);
        Self { journal, clock, queue: Mutex::default(), empty, retry: Notify::new() }
    }

    pub(super) fn health(&self) -> SpoolHealth {
        let queue = lock(&self.queue);
        let (since, reason) = queue.fault.clone().unzip();
        SpoolHealth { waiting: queue.events.len() + queue.under_way, lost: queue.lost, since, reason }
    }

    /// Takes the event when others are waiting, so that order is kept; otherwise hands it back, to be appended at once.
    pub(super) fn queue_behind_others(self: &Arc<Self>, event: Waiting) -> Option<Waiting> {
        let queue = lock(&self.queue);
        if queue.is_idle() {
            return Some(event);
        }
        self.enqueue(queue, event);
        None
    }

    /// Takes an event that the journal has not taken.
    pub(super) fn keep(self: &Arc<Self>, event: Waiting, reason: &str) {
        let mut queue = lock(&self.queue);
        let since = queue.fault.as_ref().map_or_else(|| self.clock.now(), |(since, _)| *since);
        queue.fault = Some((since, reason.to_owned()));
        self.enqueue(queue, event);
    }

    fn enqueue(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>, event: Waiting) {
        queue.push(event);
        self.empty.send_replace(false);
        // Without a runtime the process is ending; the next event, if there is one, tries again.
        if !queue.draining
            && let Ok(runtime) = Handle::try_current()
        {
            queue.draining = true;
            runtime.spawn(self.clone().drain());
        }
    }

    async fn drain(self: Arc<Self>) {
        let mut delay = RETRY_MIN;
        loop {
            match self.hand_over().await {
                Ok(true) => {
                    delay = RETRY_MIN;
                    continue;
                }
                Ok(false) => {}
                Err(reason) => {
                    tracing::warn!(reason, "the journal takes no events; they wait in memory");
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.retry.notified() => {}
                    }
                    delay = (delay * 2).min(RETRY_MAX);
                    continue;
                }
            }
            let mut queue = lock(&self.queue);
            if queue.is_idle() {
                queue.draining = false;
                queue.fault = None;
                self.empty.send_replace(true);
                return;
            }
        }
    }

    /// Hands over one batch, or else the blind intervals. Whether there was anything.
    async fn hand_over(&self) -> Result<bool, String> {
        let batch = lock(&self.queue).take_batch();
        if batch.is_empty() {
            return self.hand_over_gaps().await;
        }
        let copies = batch.iter().map(|event| event.observed.clone()).collect();
        let refused = self.append(copies).await.err();
        let mut queue = lock(&self.queue);
        match refused {
            None => {
                queue.under_way = 0;
                Ok(true)
            }
            Some(reason) => {
                queue.put_back(batch);
                let since = queue.fault.as_ref().map_or_else(|| self.clock.now(), |(since, _)| *since);
                queue.fault = Some((since, reason.clone()));
                Err(reason)
            }
        }
    }

    /// Journals what was lost. It is forgotten only once that is durable.
    async fn hand_over_gaps(&self) -> Result<bool, String> {
        let gaps = std::mem::take(&mut lock(&self.queue).gaps);
        if gaps.is_empty() {
            return Ok(false);
        }
        let blinds = gaps.iter().filter_map(|(observer, gap)| self.blind(observer, gap)).collect();
        let appended = self.append(blinds).await;
        if appended.is_err() {
            let mut queue = lock(&self.queue);
            for (observer, gap) in gaps {
                queue.add_gap(observer, gap);
            }
        }
        appended.map(|()| true)
    }

    fn blind(&self, observer: &ObserverId, gap: &Gap) -> Option<Observed> {
        let body = Blind { engine: EVERY_ENGINE.to_owned(), interval: gap.interval, cause: BlindCause::Storage };
        let number = gap.stream.take_number();
        // Three plain fields always serialise.
        Observed::new(&body, observer.clone(), gap.boot, number, self.clock.now()).ok()
    }

    async fn append(&self, events: Vec<Observed>) -> Result<(), String> {
        match tokio::time::timeout(APPEND_LIMIT, self.journal.append(events)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the journal did not answer within {} s", APPEND_LIMIT.as_secs())),
        }
    }

    pub(super) async fn flush(&self, within: Duration) -> usize {
        self.retry.notify_one();
        let mut empty = self.empty.subscribe();
        if tokio::time::timeout(within, empty.wait_for(|empty| *empty)).await.is_err() {
            tracing::warn!("events are still waiting for the journal");
        }
        self.health().waiting
    }
}
