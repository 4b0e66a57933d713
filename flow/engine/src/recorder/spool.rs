//! The events that the journal has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use event::engine::{Blind, BlindCause};
use event::{BootId, Clock, Interval, Observed, ObserverId, Span, Time};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::{APPEND_LIMIT, Stream, Waiting, is_final, lock};

/// Most events that wait.
pub const SPOOL_EVENTS_MAX: usize = 10_000;

/// Most bytes of bodies that wait.
pub const SPOOL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most events that are handed over at once, and most bytes of bodies, but for an event that is longer by itself.
const BATCH_EVENTS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

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

/// What became of a batch.
enum Handed {
    /// It is durable.
    Over,
    /// There was nothing to hand over.
    Nothing,
    /// Not now, for this reason.
    Refused(String),
    /// Never.
    Unfit,
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

    fn take_batch(&mut self, events_max: usize) -> Vec<Waiting> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < events_max && (batch.is_empty() || bytes < BATCH_BYTES_MAX) {
            let Some(event) = self.events.pop_front() else { break };
            bytes += event.observed.body.get().len();
            batch.push(event);
        }
        self.bytes -= bytes;
        self.under_way = batch.len();
        batch
    }

    /// At the bound, the oldest goes: it is the one that other sources most likely have too.
    fn make_room(&mut self) {
        while self.events.len() > SPOOL_EVENTS_MAX || self.bytes > SPOOL_BYTES_MAX {
            let Some(event) = self.events.pop_front() else { break };
            self.bytes -= event.observed.body.get().len();
            self.lose(event);
        }
    }

    fn lose(&mut self, Waiting { observed, stream }: Waiting) {
        self.lost += 1;
        let end = observed.observed_at + Span::from_micros(1);
        let gap = Gap { stream, boot: observed.boot, interval: Interval::new(observed.observed_at, end) };
        self.add_gap(observed.observer, gap);
    }

    fn blame(&mut self, reason: &str, clock: &dyn Clock) {
        let since = self.fault.as_ref().map_or_else(|| clock.now(), |(since, _)| *since);
        self.fault = Some((since, reason.to_owned()));
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
        queue.blame(reason, &*self.clock);
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
        let mut events_max = BATCH_EVENTS_MAX;
        loop {
            match self.hand_over(events_max).await {
                Handed::Over => (delay, events_max) = (RETRY_MIN, BATCH_EVENTS_MAX),
                // One of them is the culprit: one by one, it will be found.
                Handed::Unfit => events_max = 1,
                Handed::Refused(reason) => {
                    tracing::warn!(reason, "the journal takes no events; they wait in memory");
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = self.retry.notified() => {}
                    }
                    delay = (delay * 2).min(RETRY_MAX);
                }
                Handed::Nothing => {
                    let mut queue = lock(&self.queue);
                    if queue.is_idle() {
                        queue.draining = false;
                        queue.fault = None;
                        self.empty.send_replace(true);
                        return;
                    }
                }
            }
        }
    }

    /// Hands over one batch, or else the blind intervals.
    async fn hand_over(&self, events_max: usize) -> Handed {
        let batch = lock(&self.queue).take_batch(events_max);
        if batch.is_empty() {
            return self.hand_over_gaps().await;
        }
        let handed = self.append(batch.iter().map(|event| event.observed.clone()).collect()).await;
        let mut queue = lock(&self.queue);
        match &handed {
            Handed::Refused(reason) => {
                queue.put_back(batch);
                queue.blame(reason, &*self.clock);
            }
            Handed::Unfit if batch.len() > 1 => queue.put_back(batch),
            Handed::Unfit => {
                queue.under_way = 0;
                for event in batch {
                    queue.lose(event);
                }
            }
            Handed::Over | Handed::Nothing => queue.under_way = 0,
        }
        handed
    }

    /// Journals what was lost. It is forgotten only once that is durable.
    async fn hand_over_gaps(&self) -> Handed {
        let gaps = std::mem::take(&mut lock(&self.queue).gaps);
        if gaps.is_empty() {
            return Handed::Nothing;
        }
        let blinds = gaps.iter().filter_map(|(observer, gap)| self.blind(observer, gap)).collect();
        let handed = self.append(blinds).await;
        if let Handed::Refused(_) = handed {
            let mut queue = lock(&self.queue);
            for (observer, gap) in gaps {
                queue.add_gap(observer, gap);
            }
        }
        handed
    }

    fn blind(&self, observer: &ObserverId, gap: &Gap) -> Option<Observed> {
        let body = Blind { engine: EVERY_ENGINE.to_owned(), interval: gap.interval, cause: BlindCause::Storage };
        let number = gap.stream.take_number();
        // Three plain fields always serialise.
        Observed::new(&body, observer.clone(), gap.boot, number, self.clock.now()).ok()
    }

    async fn append(&self, events: Vec<Observed>) -> Handed {
        match tokio::time::timeout(APPEND_LIMIT, self.journal.append(events)).await {
            Ok(Ok(_)) => Handed::Over,
            Ok(Err(error)) if is_final(&error) => {
                tracing::error!(%error, "an event that waited for the journal does not fit into it");
                Handed::Unfit
            }
            Ok(Err(error)) => Handed::Refused(error.to_string()),
            Err(_) => Handed::Refused(format!("the journal did not answer within {} s", APPEND_LIMIT.as_secs())),
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
