//! The queue of events that the sink has not taken yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use event::engine::{Blind, BlindCause};
use event::{Clock, Interval, Observed, ObserverId, Span, Time};
use serde::Serialize;
use store::{Sink, Taken};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::{Group, Streams, TAKE_LIMIT, is_final, late, lock};

/// Most events that wait.
pub const SPOOL_EVENTS_MAX: usize = 10_000;

/// Most bytes of bodies that wait.
pub const SPOOL_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Most events that are handed over at once, and most bytes of bodies, but for a group that is longer by itself.
const BATCH_EVENTS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Delay after the first refusal; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The name under which lost events are journaled: they may be of any engine of that observer.
const EVERY_ENGINE: &str = "all";

/// State of the queue before the journal.
#[derive(Clone, PartialEq, Eq, Serialize, Default, Debug)]
pub struct SpoolHealth {
    /// Number of waiting events.
    pub waiting: usize,
    /// Events lost at the bound of the queue since the process started.
    pub lost: u64,
    /// When the oldest of them began to wait.
    pub since: Option<Time>,
    /// Why they wait, in the words of the last refusal.
    pub reason: Option<String>,
}

/// The queue, and the task that empties it. The task exists only while there is something to hand over.
pub(super) struct Spool {
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    streams: Arc<Streams>,
    queue: Mutex<Queue>,
    /// Whether nothing is waiting.
    empty: watch::Sender<bool>,
    /// Asks the task to try again now.
    retry: Notify,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Group>,
    /// Events in the groups.
    events: usize,
    /// Bytes of their bodies.
    bytes: usize,
    /// Number of events that the task has taken out and is handing over.
    under_way: usize,
    /// Whether the task exists.
    draining: bool,
    /// Intervals in which events were lost, since the last blind interval was journaled.
    gaps: BTreeMap<ObserverId, Interval>,
    lost: u64,
    fault: Option<(Time, String)>,
}

/// Outcome of handing over one batch.
enum Handed {
    /// The batch is durable.
    Over,
    /// There was no batch to hand over.
    Nothing,
    /// The sink refuses at the moment, for this reason.
    Refused(String),
    /// The sink will never take this batch.
    Unfit,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.under_way == 0 && self.gaps.is_empty()
    }

    fn push(&mut self, group: Group) {
        self.count(&group);
        self.groups.push_back(group);
        self.make_room();
    }

    /// Puts groups that were taken out and refused back in front.
    fn put_back(&mut self, groups: Vec<Group>) {
        self.under_way = 0;
        for group in groups.into_iter().rev() {
            self.count(&group);
            self.groups.push_front(group);
        }
        self.make_room();
    }

    fn count(&mut self, group: &Group) {
        self.events += group.0.len();
        self.bytes += group.body_bytes();
    }

    fn pop(&mut self) -> Option<Group> {
        let group = self.groups.pop_front()?;
        self.events -= group.0.len();
        self.bytes -= group.body_bytes();
        Some(group)
    }

    /// Takes out whole groups, so that each stays within one transaction.
    fn take_batch(&mut self, groups_max: usize) -> Vec<Group> {
        let (mut batch, mut events, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = self.groups.front() {
            (events, bytes) = (events + next.0.len(), bytes + next.body_bytes());
            let full = batch.len() >= groups_max || events > BATCH_EVENTS_MAX || bytes > BATCH_BYTES_MAX;
            if full && !batch.is_empty() {
                break;
            }
            batch.extend(self.pop());
        }
        self.under_way = batch.iter().map(|group| group.0.len()).sum();
        batch
    }

    /// Drops the oldest groups while the queue is beyond its bound: their events are the ones that another observer most
    /// likely saw too.
    fn make_room(&mut self) {
        while self.events > SPOOL_EVENTS_MAX || self.bytes > SPOOL_BYTES_MAX {
            let Some(group) = self.pop() else { break };
            self.lose(group);
        }
    }

    fn lose(&mut self, group: Group) {
        for observed in group.0 {
            self.lost += 1;
            let end = observed.observed_at + Span::from_micros(1);
            self.add_gap(observed.observer, Interval::new(observed.observed_at, end));
        }
    }

    fn blame(&mut self, reason: &str, clock: &dyn Clock) {
        let since = self.fault.as_ref().map_or_else(|| clock.now(), |(since, _)| *since);
        self.fault = Some((since, reason.to_owned()));
    }

    fn add_gap(&mut self, observer: ObserverId, gap: Interval) {
        let known = self.gaps.entry(observer).or_insert(gap);
        *known = Interval::new(known.start.min(gap.start), known.end.max(gap.end));
    }
}

impl Spool {
    pub(super) fn new(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, streams: Arc<Streams>) -> Self {
        let (empty, _) = watch::channel(true);
        Self { sink, clock, streams, queue: Mutex::default(), empty, retry: Notify::new() }
    }

    pub(super) fn health(&self) -> SpoolHealth {
        let queue = lock(&self.queue);
        let (since, reason) = queue.fault.clone().unzip();
        SpoolHealth { waiting: queue.events + queue.under_way, lost: queue.lost, since, reason }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.queue).is_idle()
    }

    /// Queues the group when others are waiting, so that order is kept; otherwise returns it, to be sent at once.
    pub(super) fn queue_behind_others(self: &Arc<Self>, group: Group) -> Option<Group> {
        let queue = lock(&self.queue);
        if queue.is_idle() {
            return Some(group);
        }
        self.enqueue(queue, group);
        None
    }

    /// Queues a group that the sink has refused.
    pub(super) fn keep(self: &Arc<Self>, group: Group, reason: &str) {
        let mut queue = lock(&self.queue);
        queue.blame(reason, &*self.clock);
        self.enqueue(queue, group);
    }

    fn enqueue(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>, group: Group) {
        queue.push(group);
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
        let mut groups_max = BATCH_EVENTS_MAX;
        loop {
            match self.hand_over(groups_max).await {
                Handed::Over => (delay, groups_max) = (RETRY_MIN, BATCH_EVENTS_MAX),
                // One group in it is unfit: sent one by one, it is found.
                Handed::Unfit => groups_max = 1,
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
    async fn hand_over(&self, groups_max: usize) -> Handed {
        let batch = lock(&self.queue).take_batch(groups_max);
        if batch.is_empty() {
            return self.hand_over_gaps().await;
        }
        let handed = self.take(batch.iter().flat_map(|group| group.0.iter().cloned()).collect()).await;
        let mut queue = lock(&self.queue);
        match &handed {
            Handed::Refused(reason) => {
                queue.put_back(batch);
                queue.blame(reason, &*self.clock);
            }
            Handed::Unfit if batch.len() > 1 => queue.put_back(batch),
            Handed::Unfit => {
                queue.under_way = 0;
                for group in batch {
                    queue.lose(group);
                }
            }
            Handed::Over | Handed::Nothing => queue.under_way = 0,
        }
        handed
    }

    /// Journals the intervals in which events were lost, and forgets them once that is durable.
    async fn hand_over_gaps(&self) -> Handed {
        let gaps = std::mem::take(&mut lock(&self.queue).gaps);
        if gaps.is_empty() {
            return Handed::Nothing;
        }
        let blinds = gaps.iter().filter_map(|(observer, gap)| self.blind(observer, *gap)).collect();
        let handed = self.take(blinds).await;
        if let Handed::Refused(_) = handed {
            let mut queue = lock(&self.queue);
            for (observer, gap) in gaps {
                queue.add_gap(observer, gap);
            }
        }
        handed
    }

    fn blind(&self, observer: &ObserverId, interval: Interval) -> Option<Observed> {
        let body = Blind { engine: EVERY_ENGINE.to_owned(), interval, cause: BlindCause::Storage };
        let number = self.streams.of(observer.clone()).take_number();
        // Three plain fields always serialise.
        Observed::new(&body, observer.clone(), self.streams.boot, number, self.clock.now()).ok()
    }

    async fn take(&self, events: Vec<Observed>) -> Handed {
        match tokio::time::timeout(TAKE_LIMIT, self.sink.take(events)).await {
            Ok(Ok(Taken::Logged(_) | Taken::Spooled)) => Handed::Over,
            Ok(Err(error)) if is_final(&error) => {
                tracing::error!(%error, "an event that waited for the journal does not fit into it");
                Handed::Unfit
            }
            Ok(Err(error)) => Handed::Refused(error.to_string()),
            Err(_) => Handed::Refused(late()),
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
