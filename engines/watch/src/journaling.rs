//! The queue from [`crate::rounds`] to the journal.
//!
//! A commit takes milliseconds, and seconds on a bad day; the rounds must go on. So events go into a queue that a task of its
//! own empties, many at a time and in their order. What is sent together, a change and its detail say, is in the journal in
//! one transaction.
//!
//! At the bound of the queue everything is dropped until it is empty again, and [`Journaling::has_dropped`] says so. The
//! rounds then count as mute: what they saw meanwhile is no evidence, and is journaled anew afterwards. Dropping only what
//! does not fit would be worse: a change of state might be lost between two that are kept.
//!
//! The same task keeps the rows of the watch: of each heartbeat what it has said, and of each observer up to when it recorded
//! what it observed. From that the next start tells how long nobody looked. A row is kept in the transaction of the events that
//! it follows from, so that a crash loses both or neither; when the journal refused them for a while, after them.
//!
//! **A ping does not wait for the journal**: what is refused is answered 503, and is recorded neither now nor later, or a job
//! that was told to call again would count twice. So a heartbeat hears a ping only once it is recorded ([`Settled`]).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use engine::heartbeat::{Delivery, Said};
use engine::{Recorded, Recorder};
use event::evidence::Covered;
use event::{Observed, ObserverId, ProbeId, Span, Time};
use store::{Consumers, EVENTS_MAX, ROWS_MAX, Row, Sink, Step, StoreError, Taken};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::order::WatchEvent;
use crate::source::heartbeat::{CONSUMER, Heard, SavedHeartbeats, row};

/// Most events that wait: ten thousand probes may all change at once, each with its detail.
const QUEUE_MAX: usize = 32 * 1024;
/// Before the name of an observer in the key of its row.
const OBSERVED: &str = "observed/";
/// How long the last rows wait for the events that wait for the journal.
const FLUSH_WITHIN: Span = Span::from_secs(4);
/// Events after which a transaction takes no more items of the queue.
const BATCH_MAX: usize = 256;

/// A ping to journal.
pub(crate) struct Told {
    /// What arrived, acknowledged once it is recorded.
    pub(crate) delivery: Delivery,
    /// When it was said.
    pub(crate) at: Time,
    /// How long the job may take that said it started.
    pub(crate) grace: Span,
}

/// What became of a ping.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The heartbeat.
    pub(crate) probe: ProbeId,
    /// The message.
    pub(crate) ping: Said,
    /// The run of the job, if it names one.
    pub(crate) run: Option<String>,
    /// When it was said.
    pub(crate) at: Time,
    /// Whether it is in the journal; if not it never will be.
    pub(crate) is_recorded: bool,
}

/// What is handed over together.
#[derive(Default)]
struct Item {
    events: Vec<Observed>,
    /// The ping that this follows from.
    ping: Option<Told>,
    /// Rows that changed.
    rows: Vec<Row>,
    /// What changes what all heartbeats have said.
    change: Option<Change>,
}

/// A change of what all heartbeats have said.
enum Change {
    /// The wall clock was set by so much.
    Step(Span),
    /// Only these are waited for from now on.
    Only(HashSet<ProbeId>),
}

impl Item {
    /// Number of events and rows, for the bound of the queue.
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
    settled: mpsc::UnboundedSender<Settled>,
    dropping: bool,
}

impl Journaling {
    /// Starts the task. `saved` is what heartbeats have said until now; what becomes of their pings is told to `settled`.
    pub(crate) fn start(
        recorder: Recorder,
        state: Arc<dyn Consumers>,
        saved: SavedHeartbeats,
        settled: mpsc::UnboundedSender<Settled>,
    ) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let kept = Kept { state, rows: BTreeMap::new(), saved, settled: settled.clone() };
        let mut task = JoinSet::new();
        task.spawn(empty(items, recorder.clone(), kept, Arc::clone(&waiting)));
        Self { own: recorder, recorders: BTreeMap::new(), queue, waiting, task, settled, dropping: false }
    }

    /// Journals entries, each seen by its observer at `observed_at`, in one transaction.
    pub(crate) fn send(&mut self, entries: Vec<(ObserverId, WatchEvent)>, observed_at: Time) {
        let mut observed_until = BTreeMap::new();
        for (observer, entry) in &entries {
            if let WatchEvent::Covered(Covered { interval, .. }) = entry {
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
        self.put(Item { events, rows, ..Item::default() });
    }

    /// Journals a ping, keeps what its heartbeat has said with it, and acknowledges it once it is recorded.
    pub(crate) fn send_ping(&mut self, observer: ObserverId, entry: &WatchEvent, told: Told) {
        let Some(event) = self.seal(observer, entry, told.at) else { return settle(&self.settled, told, false) };
        self.put(Item { events: vec![event], ping: Some(told), ..Item::default() });
    }

    /// The wall clock was set: what heartbeats have said moves with it.
    pub(crate) fn step(&self, by: Span) {
        self.change(Change::Step(by));
    }

    /// Forgets heartbeats that are not waited for any more.
    pub(crate) fn keep_only(&self, declared: HashSet<ProbeId>) {
        self.change(Change::Only(declared));
    }

    /// These are few, and are never dropped.
    fn change(&self, change: Change) {
        // The task ends with this only.
        drop(self.queue.send(Item { change: Some(change), ..Item::default() }));
    }

    fn seal(&mut self, observer: ObserverId, entry: &WatchEvent, at: Time) -> Option<Observed> {
        let own = &self.own;
        let recorder = self.recorders.entry(observer).or_insert_with_key(|observer| own.for_observer(observer.clone()));
        let sealed = match entry {
            WatchEvent::Changed(body) => recorder.seal(body, at),
            WatchEvent::Detail(body) => recorder.seal(body, at),
            WatchEvent::Covered(body) => recorder.seal(body, at),
            WatchEvent::Found(body) => recorder.seal(body, at),
            WatchEvent::Succeeded(body) => recorder.seal(body, at),
            WatchEvent::Pinged(body) => recorder.seal(body, at),
            WatchEvent::ClockStepped(body) => recorder.seal(body, at),
            WatchEvent::Blind(body) => recorder.seal(body, at),
        };
        sealed
            .inspect_err(|error| {
                tracing::error!(%error, observer = %recorder.observer(), "an entry of the watch is lost");
            })
            .ok()
    }

    fn put(&mut self, item: Item) {
        let size = item.size();
        if size == 0 {
            return;
        }
        if self.dropping {
            return refuse(&self.settled, item);
        }
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed) + size;
        // The task ends with this only.
        let refused = if waiting > QUEUE_MAX { Some(item) } else { self.queue.send(item).err().map(|item| item.0) };
        if let Some(item) = refused {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            tracing::error!(waiting, "the journal is too slow: entries of the watch are dropped");
            self.dropping = true;
            refuse(&self.settled, item);
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

    /// Waits until the queue is empty, for `within` at most; returns whether it is.
    pub(crate) async fn finish(self, within: Span) -> bool {
        let Self { queue, mut task, .. } = self;
        drop(queue);
        tokio::time::timeout(within.to_std(), task.join_next()).await.is_ok()
    }
}

/// Refuses the ping of what was dropped.
fn refuse(settled: &mpsc::UnboundedSender<Settled>, item: Item) {
    if let Some(told) = item.ping {
        settle(settled, told, false);
    }
}

/// Says what became of a ping: to the watch, and to the job, which is told to try again when it was not recorded.
fn settle(settled: &mpsc::UnboundedSender<Settled>, told: Told, is_recorded: bool) {
    let Told { delivery, at, .. } = told;
    let (probe, ping, run) = (delivery.probe.clone(), delivery.ping.ping, delivery.ping.run.clone());
    // At the stop nobody listens any more: the next run reads the row.
    drop(settled.send(Settled { probe, ping, run, at, is_recorded }));
    if is_recorded {
        delivery.acknowledge();
    }
}

async fn empty(
    mut items: mpsc::UnboundedReceiver<Item>,
    recorder: Recorder,
    mut kept: Kept,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(first) = items.recv().await {
        let mut next = Some(first);
        let (mut batch, mut events, mut size) = (Vec::new(), 0, 0);
        while let Some(item) = next {
            events += item.events.len();
            size += item.size();
            let change = item.change.is_some();
            batch.push(item);
            next = if events < BATCH_MAX && !change { items.try_recv().ok() } else { None };
        }
        let change = batch.last_mut().and_then(|last| last.change.take());
        hand_over(batch, &recorder, &mut kept).await;
        if let Some(change) = change {
            kept.change(change);
            kept.keep_alone(&recorder).await;
        }
        waiting.fetch_sub(size, Ordering::Relaxed);
    }
    if !kept.rows.is_empty() {
        recorder.flush(FLUSH_WITHIN).await;
        kept.keep_alone(&recorder).await;
    }
}

/// A batch is one transaction; but one of tens of thousands of events takes several.
async fn hand_over(batch: Vec<Item>, recorder: &Recorder, kept: &mut Kept) {
    let counts = batch.iter().map(|item| (item.events.len(), item.rows.len() + usize::from(item.ping.is_some())));
    let (events, rows) = counts.fold((0, 0), |(events, rows), item| (events + item.0, rows + item.1));
    if events <= EVENTS_MAX && rows <= ROWS_MAX {
        return hand_over_together(batch, recorder, kept).await;
    }
    for mut item in batch {
        // Its rows follow from its events, so they come last.
        while item.events.len() > EVENTS_MAX {
            let events = item.events.drain(..EVENTS_MAX).collect();
            hand_over_together(vec![Item { events, ..Item::default() }], recorder, kept).await;
        }
        hand_over_together(vec![item], recorder, kept).await;
    }
}

async fn hand_over_together(batch: Vec<Item>, recorder: &Recorder, kept: &mut Kept) {
    let (mut events, mut pings) = (Vec::new(), Vec::new());
    let mut heard: BTreeMap<ProbeId, Heard> = BTreeMap::new();
    for item in batch {
        kept.rows.extend(item.rows.into_iter().map(|row| (row.key().to_owned(), row)));
        let Some(told) = item.ping else {
            events.extend(item.events.into_iter().map(|event| (event, false)));
            continue;
        };
        // Who has stopped waiting was told to try again.
        if !told.delivery.is_awaited() {
            settle(&kept.settled, told, false);
            continue;
        }
        let probe = told.delivery.probe.clone();
        let heard = heard.entry(probe).or_insert_with_key(|probe| kept.saved.heard(probe));
        heard.hear(told.delivery.ping.ping, told.delivery.ping.run.as_deref(), told.at, told.grace);
        events.extend(item.events.into_iter().map(|event| (event, true)));
        pings.push(told);
    }
    if !pings.is_empty() {
        let all = events.iter().map(|(event, _)| event.clone()).collect();
        let is_recorded = kept.offer(all, &heard, recorder).await;
        if is_recorded {
            for (probe, heard) in heard {
                kept.saved.note(probe, heard);
            }
        }
        for told in pings {
            settle(&kept.settled, told, is_recorded);
        }
        if is_recorded {
            return;
        }
        events.retain(|(_, is_ping)| !is_ping);
    }
    let events: Vec<Observed> = events.into_iter().map(|(event, _)| event).collect();
    if events.is_empty() {
        return kept.keep_alone(recorder).await;
    }
    let sent = if kept.rows.is_empty() {
        recorder.send(events).await
    } else {
        let together = WithRows { state: &*kept.state, rows: kept.first_rows() };
        let sent = recorder.send_to(&together, events).await;
        if matches!(sent, Ok(Recorded::Logged(_))) {
            kept.forget(together.rows);
        }
        sent
    };
    if let Err(error) = sent {
        tracing::error!(%error, "entries of the watch are lost");
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

/// The rows of the watch that have changed, by key, until they are kept. None is kept while events wait for the journal: what
/// it follows from may be among them.
struct Kept {
    state: Arc<dyn Consumers>,
    rows: BTreeMap<String, Row>,
    /// What heartbeats have said, as recorded.
    saved: SavedHeartbeats,
    settled: mpsc::UnboundedSender<Settled>,
}

impl Kept {
    /// As many as one transaction takes.
    fn first_rows(&self) -> Vec<Row> {
        self.rows.values().take(ROWS_MAX).cloned().collect()
    }

    /// Changes what all heartbeats have said.
    fn change(&mut self, change: Change) {
        let rows = match change {
            Change::Step(by) => {
                self.saved.step(by);
                self.saved.rows()
            }
            Change::Only(declared) => self.saved.keep_only(|probe| declared.contains(probe)),
        };
        self.rows.extend(rows.into_iter().map(|row| (row.key().to_owned(), row)));
    }

    /// Offers events with pings among them, and what their heartbeats have `heard` with them; whether they are recorded. If
    /// not, they never will be.
    async fn offer(&mut self, events: Vec<Observed>, heard: &BTreeMap<ProbeId, Heard>, recorder: &Recorder) -> bool {
        let of_pings: Vec<Row> = heard.iter().filter_map(|(probe, heard)| row(probe, heard)).collect();
        let room = ROWS_MAX.saturating_sub(of_pings.len());
        let waiting: Vec<Row> = self.rows.values().take(room).cloned().collect();
        // What waits of the same heartbeat is older.
        let rows = waiting.iter().chain(&of_pings).cloned().collect();
        let together = WithRows { state: &*self.state, rows };
        match recorder.offer_to(&together, events).await {
            Ok(Some(recorded)) if recorded.is_durable() => {
                self.forget(waiting);
                self.forget(of_pings);
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::error!(%error, "pings are refused");
                false
            }
        }
    }

    fn forget(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.rows.remove(row.key());
        }
    }

    /// Keeps rows that no new event goes with. What can't be kept now is kept with what comes next.
    async fn keep_alone(&mut self, recorder: &Recorder) {
        while !self.rows.is_empty() && recorder.health().waiting == 0 {
            let together = WithRows { state: &*self.state, rows: self.first_rows() };
            match together.take(Vec::new()).await {
                Ok(_) => self.forget(together.rows),
                Err(error) => {
                    tracing::error!(%error, "what heartbeats said, and up to when was observed, can't be kept for now");
                    return;
                }
            }
        }
    }
}

/// Takes events together with rows of the watch, in one transaction. The watch is the only writer of its rows, and counts its
/// steps.
struct WithRows<'a> {
    state: &'a dyn Consumers,
    rows: Vec<Row>,
}

#[async_trait]
impl Sink for WithRows<'_> {
    async fn take(&self, events: Vec<Observed>) -> Result<Taken, StoreError> {
        let from = self.state.position(CONSUMER).await?;
        let to = from.map_or(0, |position| position + 1);
        let step = Step { rows: self.rows.clone(), events, ..Step::new(CONSUMER, from, to) };
        self.state.step(step).await.map(Taken::Logged)
    }
}

#[cfg(test)]
mod tests {
    use crate::events::Detail;
    use engine::heartbeat::{Ping, Pings, Receipt, Said};
    use engine::sim::World;
    use event::evidence::{Changed, State, Succeeded};
    use tokio::task::JoinHandle;

    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn changed(observer: &str) -> (ObserverId, WatchEvent) {
        let (probe, service) = ("front".parse().expect("a name"), "shop".parse().expect("a name"));
        let changed = Changed { probe, service, state: State::Up, after: NOW, by: NOW };
        (observer.parse().expect("a name"), WatchEvent::Changed(changed))
    }

    fn start(world: &World) -> Journaling {
        let (settled, _) = mpsc::unbounded_channel();
        start_settling(world, settled)
    }

    fn start_settling(world: &World, settled: mpsc::UnboundedSender<Settled>) -> Journaling {
        let recorder = world.recorder("here.watch".parse().expect("a name"));
        Journaling::start(recorder, world.journal.clone(), SavedHeartbeats::default(), settled)
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
        let detail = WatchEvent::Detail(Detail {
            reasons: Vec::new(),
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

    /// A ping of a job, with the row of its heartbeat; whether it was acknowledged.
    async fn ping(journaling: &mut Journaling, pings: &Pings, minute: i64) -> JoinHandle<Receipt> {
        let at = NOW + Span::from_secs(60 * minute);
        let ping = Ping { uuid: "1234".to_owned(), ping: Said::Success, run: None, at, body_bytes: 0 };
        let job = tokio::spawn({
            let pings = pings.clone();
            async move { pings.deliver(ping).await }
        });
        let delivery = pings.clone().listen().await.next().await;
        let entry = WatchEvent::Succeeded(Succeeded { probe: delivery.probe.clone(), at });
        let told = Told { delivery, at, grace: Span::from_secs(60) };
        journaling.send_ping("here.watch".parse().expect("a name"), &entry, told);
        job
    }

    /// The minutes of the pings that are journaled, and that of the row.
    fn kept(world: &World) -> (Vec<i64>, Option<i64>) {
        let minutes = world.journal.of::<Succeeded>().into_iter().map(|said| said.at.since(NOW).secs() / 60).collect();
        let row = world.journal.rows_of(CONSUMER).remove("heartbeat/nightly");
        let heard = |value: Vec<u8>| serde_json::from_slice::<Heard>(&value).expect("what was heard");
        (minutes, row.and_then(|row| heard(row).success).map(|at| at.since(NOW).secs() / 60))
    }

    fn hub() -> Pings {
        let pings = Pings::new();
        pings.know([("1234".to_owned(), "nightly".parse().expect("a name"))].into());
        pings
    }

    /// At whatever await the process is killed: a ping is in the journal if and only if its heartbeat has heard it.
    #[tokio::test(start_paused = true)]
    async fn a_crash_keeps_a_ping_and_its_row_or_neither() {
        let (world, pings) = (World::at(NOW), hub());
        let mut journaling = start(&world);
        let job = ping(&mut journaling, &pings, 0).await;
        assert_eq!(job.await.expect("no panic"), Receipt::Known);
        assert_eq!(kept(&world), (vec![0], Some(0)));
        // Killed before the store answers: what it was given first is there, and nothing that would have come after.
        world.journal.stall(true);
        let job = ping(&mut journaling, &pings, 1).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        drop(journaling);
        assert_eq!(kept(&world), (vec![0, 1], Some(1)));
        assert_eq!(job.await.expect("no panic"), Receipt::Busy, "in doubt the job calls again");

        // Killed before it takes anything.
        let (world, pings) = (World::at(NOW), hub());
        let mut journaling = start(&world);
        let full = || store::StoreError::Full { since: NOW, reason: "no space left on device".to_owned() };
        world.journal.refuse(Some(full()));
        let job = ping(&mut journaling, &pings, 0).await;
        assert_eq!(job.await.expect("no panic"), Receipt::Busy);
        journaling.step(Span::from_secs(60));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!((kept(&world), world.journal.rows_of(CONSUMER).len()), ((vec![], None), 0));
        drop(journaling);
        assert_eq!(kept(&world), (vec![], None));
    }

    /// What is answered 503 is recorded neither now nor later, and nothing is known of it; what was seen meanwhile comes.
    #[tokio::test(start_paused = true)]
    async fn a_ping_that_is_refused_is_never_recorded() {
        let (world, pings) = (World::at(NOW), hub());
        let (settled, mut outcomes) = mpsc::unbounded_channel();
        let mut journaling = start_settling(&world, settled);
        assert_eq!(ping(&mut journaling, &pings, 0).await.await.expect("no panic"), Receipt::Known);
        world.journal.refuse(Some(store::StoreError::Full { since: NOW, reason: "full".to_owned() }));
        let job = ping(&mut journaling, &pings, 1).await;
        journaling.send(vec![changed("here.watch")], NOW);
        assert_eq!(job.await.expect("no panic"), Receipt::Busy);
        // There is room again, but what waits is not handed over yet: a ping that is taken now would come before it.
        world.journal.refuse(None);
        assert_eq!(ping(&mut journaling, &pings, 2).await.await.expect("no panic"), Receipt::Busy);
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        assert_eq!(world.journal.of::<Changed>().len(), 1);
        assert_eq!(kept(&world), (vec![0], Some(0)));
        assert_eq!(ping(&mut journaling, &pings, 3).await.await.expect("no panic"), Receipt::Known);
        assert!(journaling.finish(Span::from_secs(5)).await);
        assert_eq!(kept(&world), (vec![0, 3], Some(3)));
        let recorded = std::iter::from_fn(|| outcomes.try_recv().ok().map(|settled| settled.is_recorded));
        assert_eq!(recorded.collect::<Vec<_>>(), [true, false, false, true]);
    }

    /// Whoever was answered 503 because the journal is slow calls again: the first call does not count beside the second.
    #[tokio::test(start_paused = true)]
    async fn a_ping_that_nobody_waits_for_is_not_recorded() {
        let (world, pings) = (World::at(NOW), hub());
        let mut journaling = start(&world);
        world.journal.stall(true);
        journaling.send(vec![changed("here.watch")], NOW);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let job = ping(&mut journaling, &pings, 0).await;
        assert_eq!(job.await.expect("no panic"), Receipt::Busy, "after five seconds");
        world.journal.stall(false);
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        assert_eq!(ping(&mut journaling, &pings, 1).await.await.expect("no panic"), Receipt::Known);
        assert_eq!(kept(&world), (vec![1], Some(1)));
    }

    /// Rows follow what had to wait, and are not lost when nothing comes any more.
    #[tokio::test(start_paused = true)]
    async fn rows_follow_the_events_that_had_to_wait() {
        let world = World::at(NOW);
        let mut journaling = start(&world);
        let covered = || {
            let interval = event::Interval::new(NOW, NOW + Span::from_secs(60));
            let covered = Covered { interval, revision: "r1".to_owned(), every: None, gaps: vec![] };
            ("here.watch".parse().expect("a name"), WatchEvent::Covered(covered))
        };
        world.journal.refuse(Some(store::StoreError::Full { since: NOW, reason: "full".to_owned() }));
        journaling.send(vec![covered()], NOW);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(world.journal.rows_of(CONSUMER).len(), 0);
        world.journal.refuse(None);
        assert!(journaling.finish(Span::from_secs(5)).await);
        assert_eq!((world.journal.of::<Covered>().len(), world.journal.rows_of(CONSUMER).len()), (1, 1));
    }

    /// The wall clock is set, and heartbeats are removed: the rows follow, in the order of what was said.
    #[tokio::test(start_paused = true)]
    async fn rows_follow_the_clock_and_the_policy() {
        let (world, pings) = (World::at(NOW), hub());
        let mut journaling = start(&world);
        assert_eq!(ping(&mut journaling, &pings, 1).await.await.expect("no panic"), Receipt::Known);
        journaling.step(Span::from_secs(3600));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(kept(&world), (vec![1], Some(61)));
        assert_eq!(ping(&mut journaling, &pings, 2).await.await.expect("no panic"), Receipt::Known);
        assert_eq!(kept(&world), (vec![1, 2], Some(2)));
        journaling.keep_only(HashSet::new());
        assert!(journaling.finish(Span::from_secs(5)).await);
        assert_eq!(kept(&world), (vec![1, 2], None));
    }

    /// A writer that was aborted may leave a step behind that is made later: the count of steps is read anew.
    #[tokio::test(start_paused = true)]
    async fn a_step_of_another_writer_is_survived() {
        let (world, pings) = (World::at(NOW), hub());
        let mut journaling = start(&world);
        for minute in 0..3 {
            let position = store::Rows::position(&*world.journal, CONSUMER).await.expect("readable");
            let step = Step::new(CONSUMER, position, position.map_or(0, |position| position + 1));
            world.journal.step(step).await.expect("made");
            let job = ping(&mut journaling, &pings, minute).await;
            assert_eq!(job.await.expect("no panic"), Receipt::Known);
        }
        assert_eq!(kept(&world), (vec![0, 1, 2], Some(2)));
    }

    /// More than one transaction takes: all of it comes, rows last.
    #[tokio::test(start_paused = true)]
    async fn what_no_transaction_takes_is_several() {
        let world = World::at(NOW);
        let mut journaling = start(&world);
        let covered = Covered {
            interval: event::Interval::new(NOW, NOW + Span::from_secs(60)),
            revision: "r1".to_owned(),
            every: None,
            gaps: vec![],
        };
        let mut entries = vec![changed("here.watch"); 2 * EVENTS_MAX + 1];
        entries.push(("here.watch".parse().expect("a name"), WatchEvent::Covered(covered)));
        journaling.send(entries, NOW);
        let rows = (0..=ROWS_MAX).map(|n| Row::Put { key: n.to_string(), value: vec![] }).collect();
        journaling.put(Item { rows, ..Item::default() });
        assert!(journaling.finish(Span::from_secs(5)).await);
        assert_eq!(world.journal.events().len(), 2 * EVENTS_MAX + 2);
        assert_eq!(world.journal.rows_of(CONSUMER).len(), ROWS_MAX + 2);
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
