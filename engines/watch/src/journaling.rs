//! From the rounds to the journal, without making them wait.
//!
//! A commit takes milliseconds, and seconds on a bad day; the rounds must go on. So events go into a queue that a task of its
//! own empties, many at a time and in their order. What is sent together, a change and its detail say, is in the journal in
//! one transaction.
//!
//! At the bound of the queue everything is dropped until it is empty again, and [`Journaling::has_dropped`] says so. The
//! rounds then count as mute: what they saw meanwhile is no evidence, and is journaled anew afterwards. Dropping only what
//! does not fit would be worse: a change of state might be lost between two that are kept.
//!
//! The same task keeps the rows of the watch, after the events that they follow from: of each heartbeat what it has said, and of
//! each observer up to when it recorded what it observed. From that the next start tells how long nobody looked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::Recorder;
use engine::heartbeat::Delivery;
use event::evidence::Covered;
use event::{Observed, ObserverId, Span, Time};
use store::{Consumers, ROWS_MAX, Row, Step, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::order::Entry;
use crate::source::heartbeat::CONSUMER;

/// Most events that wait: ten thousand probes may all change at once, each with its detail.
const QUEUE_MAX: usize = 32 * 1024;
/// Before the name of an observer in the key of its row.
const OBSERVED: &str = "observed/";
/// Events after which a transaction takes no more items of the queue.
const BATCH_MAX: usize = 256;

/// What is handed over together.
#[derive(Default)]
struct Item {
    events: Vec<Observed>,
    /// The ping whose event this is: who waits for its receipt.
    ping: Option<Delivery>,
    /// Rows that changed.
    rows: Vec<Row>,
}

impl Item {
    /// Its share of the queue.
    fn size(&self) -> usize {
        self.events.len() + self.rows.len()
    }
}

/// The queue and its task, which ends with this.
pub(crate) struct Journaling {
    own: Recorder,
    recorders: BTreeMap<ObserverId, Recorder>,
    queue: mpsc::UnboundedSender<Item>,
    /// Sizes of what was put into the queue and is not done with.
    waiting: Arc<AtomicUsize>,
    task: JoinSet<()>,
    dropping: bool,
}

impl Journaling {
    /// Starts the task.
    pub(crate) fn start(recorder: Recorder, state: Arc<dyn Consumers>) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(empty(items, recorder.clone(), state, Arc::clone(&waiting)));
        Self { own: recorder, recorders: BTreeMap::new(), queue, waiting, task, dropping: false }
    }

    /// Journals entries, each seen by its observer at `observed_at`, in one transaction.
    pub(crate) fn send(&mut self, entries: Vec<(ObserverId, Entry)>, observed_at: Time) {
        let mut observed_until = BTreeMap::new();
        for (observer, entry) in &entries {
            if let Entry::Covered(Covered { interval, .. }) = entry {
                let until = observed_until.entry(observer).or_insert(interval.end);
                *until = interval.end.max(*until);
            }
        }
        let row = |(observer, until): (&ObserverId, Time)| {
            let value = serde_json::to_vec(&until).ok()?;
            Some(Row::Put { key: format!("{OBSERVED}{observer}"), value })
        };
        let rows = observed_until.into_iter().filter_map(row).collect();
        let events = entries.into_iter().filter_map(|(observer, entry)| self.seal(observer, &entry, observed_at));
        let events = events.collect();
        self.put(Item { events, rows, ping: None });
    }

    /// Journals a ping, keeps what the heartbeats have said with it, and acknowledges it once it is recorded.
    pub(crate) fn send_ping(&mut self, observer: ObserverId, entry: &Entry, at: Time, ping: Delivery, rows: Vec<Row>) {
        let events = self.seal(observer, entry, at).into_iter().collect();
        self.put(Item { events, ping: Some(ping), rows });
    }

    /// Keeps what heartbeats have said. What finds no room is made up for by the next ping.
    pub(crate) fn keep(&mut self, rows: Vec<Row>) {
        self.put(Item { rows, ..Item::default() });
    }

    fn seal(&mut self, observer: ObserverId, entry: &Entry, at: Time) -> Option<Observed> {
        let own = &self.own;
        let recorder = self.recorders.entry(observer).or_insert_with_key(|observer| own.for_observer(observer.clone()));
        let sealed = match entry {
            Entry::Changed(body) => recorder.seal(body, at),
            Entry::Detail(body) => recorder.seal(body, at),
            Entry::Covered(body) => recorder.seal(body, at),
            Entry::Found(body) => recorder.seal(body, at),
            Entry::Succeeded(body) => recorder.seal(body, at),
            Entry::Pinged(body) => recorder.seal(body, at),
            Entry::ClockStepped(body) => recorder.seal(body, at),
            Entry::Blind(body) => recorder.seal(body, at),
        };
        sealed
            .inspect_err(|error| {
                tracing::error!(%error, observer = %recorder.observer(), "an entry of the watch is lost");
            })
            .ok()
    }

    fn put(&mut self, item: Item) {
        let size = item.size();
        if self.dropping || size == 0 {
            return;
        }
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed) + size;
        // The task ends with this only.
        if waiting > QUEUE_MAX || self.queue.send(item).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            tracing::error!(waiting, "the journal is too slow: entries of the watch are dropped");
            self.dropping = true;
        }
    }

    /// Whether entries were dropped since the queue was last empty. Once it is, nothing more is dropped.
    pub(crate) fn has_dropped(&mut self) -> bool {
        let dropped = self.dropping;
        if self.waiting.load(Ordering::Relaxed) == 0 {
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

async fn empty(
    mut items: mpsc::UnboundedReceiver<Item>,
    recorder: Recorder,
    state: Arc<dyn Consumers>,
    waiting: Arc<AtomicUsize>,
) {
    let mut kept = Kept { state, position: None };
    while let Some(first) = items.recv().await {
        let mut batch = vec![first];
        let mut events = batch[0].events.len();
        while events < BATCH_MAX
            && let Ok(next) = items.try_recv()
        {
            events += next.events.len();
            batch.push(next);
        }
        let size = batch.iter().map(Item::size).sum();
        hand_over(batch, &recorder, &mut kept).await;
        waiting.fetch_sub(size, Ordering::Relaxed);
    }
}

async fn hand_over(batch: Vec<Item>, recorder: &Recorder, kept: &mut Kept) {
    let (mut events, mut pings, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for item in batch {
        events.extend(item.events);
        pings.extend(item.ping);
        rows.extend(item.rows);
    }
    let mut durable = true;
    while !events.is_empty() {
        // As many as there are but for tens of thousands at once, which no transaction takes.
        let rest = events.split_off(events.len().min(store::EVENTS_MAX));
        match recorder.send(std::mem::replace(&mut events, rest)).await {
            Ok(recorded) => durable &= recorded.is_durable(),
            Err(error) => {
                tracing::error!(%error, "entries of the watch are lost");
                durable = false;
            }
        }
    }
    // What merely waits for the journal is not recorded: the job is told to try again.
    if durable {
        pings.into_iter().for_each(Delivery::acknowledge);
    }
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS_MAX));
        kept.keep(std::mem::replace(&mut rows, rest)).await;
    }
}

/// Up to when each observer had recorded what it observed, by an earlier run.
pub(crate) async fn observed_until(state: &dyn Consumers) -> Result<BTreeMap<ObserverId, Time>, StoreError> {
    let rows = state.rows(CONSUMER, OBSERVED, None, ROWS_MAX).await?;
    let read = |(key, value): (String, Vec<u8>)| {
        Some((key.strip_prefix(OBSERVED)?.parse().ok()?, serde_json::from_slice(&value).ok()?))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// The rows of the watch. This is their only writer, and counts its steps.
struct Kept {
    state: Arc<dyn Consumers>,
    /// `None`: not known, or none yet.
    position: Option<u64>,
}

impl Kept {
    /// What can't be kept is logged: the events are in the journal all the same.
    async fn keep(&mut self, rows: Vec<Row>) {
        if let Err(error) = self.try_keep(rows).await {
            self.position = None;
            tracing::error!(%error, "what heartbeats said, and up to when was observed, can't be kept over a restart");
        }
    }

    async fn try_keep(&mut self, rows: Vec<Row>) -> Result<(), StoreError> {
        if self.position.is_none() {
            self.position = self.state.position(CONSUMER).await?;
        }
        let to = self.position.map_or(0, |position| position + 1);
        self.state.step(Step { rows, ..Step::new(CONSUMER, self.position, to) }).await?;
        self.position = Some(to);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::events::Detail;
    use engine::sim::World;
    use event::evidence::{Changed, State};

    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn changed(observer: &str) -> (ObserverId, Entry) {
        let (probe, service) = ("front".parse().expect("a name"), "shop".parse().expect("a name"));
        let changed = Changed { probe, service, state: State::Up, after: NOW, by: NOW };
        (observer.parse().expect("a name"), Entry::Changed(changed))
    }

    fn start(world: &World) -> Journaling {
        Journaling::start(world.recorder("here.watch".parse().expect("a name")), world.journal.clone())
    }

    /// In the order in which they were sent, each by its observer.
    #[tokio::test(start_paused = true)]
    async fn entries_keep_their_order() {
        let world = World::at(NOW);
        let mut journaling = start(&world);
        for round in 0..1000 {
            let observers = if round % 2 == 0 { ["paris.watch", "lyon.watch"] } else { ["lyon.watch", "paris.watch"] };
            journaling.send(observers.map(changed).into(), NOW + Span::from_secs(round));
        }
        assert!(journaling.finish(Span::from_secs(1)).await);
        let events = world.journal.events();
        assert_eq!(events.len(), 2000);
        assert!(events.is_sorted_by_key(|event| event.observed_at));
        for observer in ["paris.watch", "lyon.watch"] {
            let of_observer = events.iter().filter(|event| event.observer.as_str() == observer);
            assert!(of_observer.map(|event| event.sequence).eq(0..1000));
        }
    }

    /// Of what is sent together, nothing is recorded without the rest.
    #[tokio::test(start_paused = true)]
    async fn what_is_sent_together_is_one_transaction() {
        let world = World::at(NOW);
        let mut journaling = start(&world);
        let detail = Entry::Detail(Detail {
            probe: "front".parse().expect("a name"),
            text: "refused".to_owned(),
            took: Span::ZERO,
        });
        let observer: ObserverId = "paris.watch".parse().expect("a name");
        world.journal.choke_on(1);
        journaling.send(vec![changed("paris.watch"), (observer, detail)], NOW);
        assert!(journaling.finish(Span::from_secs(1)).await);
        assert!(world.journal.events().is_empty(), "a change without its detail is not there");
    }

    /// At the bound all is dropped until the queue is empty, and it says so.
    #[tokio::test(start_paused = true)]
    async fn at_the_bound_everything_is_dropped_until_it_is_empty() {
        let world = World::at(NOW);
        let mut journaling = start(&world);
        let many = |count| vec![changed("paris.watch"); count];
        journaling.send(many(QUEUE_MAX), NOW);
        assert!(!journaling.has_dropped());
        journaling.send(many(1), NOW);
        journaling.send(many(1), NOW);
        assert!(journaling.has_dropped() && journaling.has_dropped(), "not empty yet");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(journaling.has_dropped(), "told once more after it is empty");
        assert!(!journaling.has_dropped());
        journaling.send(many(1), NOW);
        assert!(journaling.finish(Span::from_secs(1)).await);
        assert_eq!(world.journal.events().len(), QUEUE_MAX + 1);
    }
}
