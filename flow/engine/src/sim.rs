//! A context without an outside world, for the tests of engines.
//!
//! A journal in memory that can be told to refuse, samples in memory, a clock that passes with tokio's paused one. With these
//! a test is a year long and lasts some milliseconds. The real stores have threads of their own, which paused time does not
//! wait for: they belong into tests on the running clock. A command is run by [`AtDoor`], without a process beside it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::{Body, BootId, Clock, InstallationId, Interval, Observed, ObserverId, ProbeId, Span, Time};
use journal::leaf::Leaf;
use journal::{seal, tree};
use store::{
    Bucket, Entry, Expired, Head, Numbers, Payload, RANGE_MAX, Resolution, Row, Sample, Select, Selected, Step,
    StorageHealth, StoreError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::net::{Net, NetOptions, SetupError};
use crate::random::SeededRandom;
use crate::{Context, Programs, Progress, Recorder};

mod at_door;

pub use at_door::AtDoor;

/// Origin of the log of a [`MemoryJournal`].
const SIM_LOG: &str = "shop.example/1";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A simulated world: clock, journal and samples of an engine, to be read and manipulated by its test.
pub struct World {
    /// Its clock.
    pub clock: Arc<SimClock>,
    /// Its journal, with the rows of consumers.
    pub journal: Arc<MemoryJournal>,
    /// Its samples.
    pub samples: Arc<MemorySamples>,
    /// Stops the engines.
    pub stop: CancellationToken,
    boot: u8,
}

impl World {
    /// A world in which the time is `now`.
    pub fn at(now: Time) -> Self {
        let (journal, samples) = (Arc::default(), Arc::default());
        let clock = Arc::new(SimClock::starting_at(now));
        Self { clock, journal, samples, stop: CancellationToken::new(), boot: 7 }
    }

    /// The same world for the next run of the process, which starts `later`.
    #[must_use]
    pub fn restarted(self, later: Span) -> Self {
        let Self { clock, journal, samples, boot, .. } = self;
        let clock = Arc::new(SimClock::starting_at(clock.now() + later));
        Self { clock, journal, samples, stop: CancellationToken::new(), boot: boot.wrapping_add(1) }
    }

    /// The time of the wall clock.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A recorder for that observer.
    pub fn recorder(&self, observer: ObserverId) -> Recorder {
        Recorder::new(self.journal.clone(), observer, BootId::from_bytes([self.boot; 16]), self.clock.clone())
    }

    /// The context of an engine, with the machine's real network.
    pub fn context(&self, observer: ObserverId) -> Result<Context, SetupError> {
        let net = Net::new(&NetOptions::default(), self.clock.clone())?;
        Ok(self.context_with(observer, net))
    }

    /// The context of an engine, with this network.
    pub fn context_with(&self, observer: ObserverId, net: Net) -> Context {
        Context {
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            net: Arc::new(net),
            programs: Arc::new(Programs::in_folders([])),
            secrets: Arc::default(),
            recorder: self.recorder(observer),
            progress: Progress::default(),
            stop: self.stop.clone(),
        }
    }
}

/// A journal that keeps events and the rows of consumers, but no tree: there is nothing to prove in a test of an engine.
pub struct MemoryJournal {
    inner: Mutex<JournalState>,
    size: watch::Sender<u64>,
}

#[derive(Default)]
struct JournalState {
    events: Vec<Observed>,
    known: HashMap<(ObserverId, BootId), Numbers>,
    refuse: Option<StoreError>,
    stall: bool,
    choke_on: Option<u64>,
    cursors: BTreeMap<String, u64>,
    rows: BTreeMap<(String, String), Vec<u8>>,
    destroyed: Vec<u64>,
    /// Entries that were opened for a reader.
    opened: Vec<u64>,
}

impl JournalState {
    fn entry(sequence: u64, event: &Observed, payload: bool) -> Entry {
        let recorded_at = event.observed_at;
        let (salt, coarse) = ([0; 32], event.coarse.clone());
        let bytes = event.clone().record(InstallationId::from_bytes([1; 16]), SIM_LOG, recorded_at).encode();
        let commitment = seal::commitment(&salt, &bytes);
        let leaf = Leaf { coarse, sequence, hour: recorded_at.hour(), commitment }.encode();
        Entry { sequence, leaf, payload: payload.then_some(Payload { salt, bytes }) }
    }

    fn step(&mut self, step: Step) -> Result<Vec<u64>, StoreError> {
        let found = self.cursors.get(step.consumer).copied();
        if found != step.from {
            return Err(StoreError::Conflict { name: step.consumer.to_owned(), expected: step.from, found });
        }
        let places = self.take(step.events)?;
        self.cursors.insert(step.consumer.to_owned(), step.to);
        for row in step.rows {
            let key = (step.consumer.to_owned(), row.key().to_owned());
            match row {
                Row::Put { value, .. } => drop(self.rows.insert(key, value)),
                Row::Delete { .. } => drop(self.rows.remove(&key)),
            }
        }
        Ok(places)
    }

    fn take(&mut self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError> {
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        if events.iter().any(|event| Some(event.sequence) == self.choke_on) {
            return Err(StoreError::TooLarge { what: "a payload", size: 2, max: 1 });
        }
        let mut places = Vec::with_capacity(events.len());
        for event in events {
            if self.known.entry((event.observer.clone(), event.boot)).or_default().take(event.sequence) {
                places.push(self.events.len() as u64);
                self.events.push(event);
            }
        }
        Ok(places)
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self { inner: Mutex::default(), size: watch::Sender::new(0) }
    }
}

impl MemoryJournal {
    /// Makes a change, sends the size, and then stalls if the test has asked for it.
    async fn change<T>(
        &self,
        change: impl FnOnce(&mut JournalState) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (changed, stall) = {
            let mut state = lock(&self.inner);
            let changed = change(&mut state);
            let size = state.events.len() as u64;
            self.size.send_if_modified(|known| std::mem::replace(known, size) != size);
            (changed, state.stall)
        };
        if stall {
            std::future::pending::<()>().await;
        }
        changed
    }

    /// Refuses everything from now on, as a full disk does; `None` ends that.
    pub fn refuse(&self, error: Option<StoreError>) {
        lock(&self.inner).refuse = error;
    }

    /// Refuses the event of that number of its observer as too large, and everything handed over with it.
    pub fn choke_on(&self, sequence: u64) {
        lock(&self.inner).choke_on = Some(sequence);
    }

    /// Takes events without answering, until it is called with `false`.
    pub fn stall(&self, stall: bool) {
        lock(&self.inner).stall = stall;
    }

    /// Destroys the payload of that entry: readers find its leaf alone.
    pub fn destroy(&self, sequence: u64) {
        lock(&self.inner).destroyed.push(sequence);
    }

    /// Entries opened for readers since the last call.
    pub fn take_opened(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.inner).opened)
    }

    /// The rows of a consumer, by key.
    pub fn rows_of(&self, consumer: &str) -> BTreeMap<String, Vec<u8>> {
        let of_consumer = |((name, key), value): (&(String, String), &Vec<u8>)| {
            (name == consumer).then(|| (key.clone(), value.clone()))
        };
        lock(&self.inner).rows.iter().filter_map(of_consumer).collect()
    }

    /// Everything recorded so far.
    pub fn events(&self) -> Vec<Observed> {
        lock(&self.inner).events.clone()
    }

    /// Everything of one kind recorded so far. Bodies that can't be read are left out.
    pub fn of<B: Body>(&self) -> Vec<B> {
        let state = lock(&self.inner);
        let of_kind = state.events.iter().filter(|event| event.kind == B::KIND.name);
        of_kind.filter_map(|event| serde_json::from_str(event.body.get()).ok()).collect()
    }
}

#[async_trait]
impl store::Append for MemoryJournal {
    async fn append(&self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError> {
        self.change(|state| state.take(events)).await
    }
}

#[async_trait]
impl store::Read for MemoryJournal {
    /// The head, with the right size and an empty root.
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(Head { size: lock(&self.inner).events.len() as u64, root: tree::EMPTY_ROOT, note: String::new() })
    }

    async fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let state = lock(&self.inner);
        let numbered = (0u64..).zip(&state.events).filter(|(sequence, _)| range.contains(sequence));
        Ok(numbered.map(|(sequence, event)| JournalState::entry(sequence, event, false).leaf).collect())
    }

    async fn select(&self, range: Range<u64>, select: &Select) -> Result<Selected, StoreError> {
        let mut state = lock(&self.inner);
        let size = state.events.len() as u64;
        let end = range.end.min(range.start.saturating_add(RANGE_MAX)).min(size).max(range.start);
        let mut entries = Vec::new();
        for (sequence, event) in
            (0u64..).zip(&state.events).filter(|(sequence, _)| (range.start..end).contains(sequence))
        {
            let leaf = JournalState::entry(sequence, event, false);
            if select.wants(&leaf.leaf) {
                entries.push(JournalState::entry(sequence, event, !state.destroyed.contains(&sequence)));
            }
        }
        state.opened.extend(entries.iter().map(|entry| entry.sequence));
        Ok(Selected { entries, to: end })
    }

    async fn published(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn rotations(&self, _: u64) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn size_watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    fn health(&self) -> StorageHealth {
        StorageHealth::default()
    }
}

#[async_trait]
impl store::Rows for MemoryJournal {
    async fn position(&self, consumer: &str) -> Result<Option<u64>, StoreError> {
        Ok(lock(&self.inner).cursors.get(consumer).copied())
    }

    async fn rows(
        &self,
        consumer: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.rows_of(consumer).into_iter();
        let wanted = rows.filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        Ok(wanted.take(limit).collect())
    }
}

#[async_trait]
impl store::Consumers for MemoryJournal {
    async fn step(&self, step: Step) -> Result<Vec<u64>, StoreError> {
        step.check()?;
        self.change(|state| state.step(step)).await
    }
}

/// Samples in memory.
#[derive(Default)]
pub struct MemorySamples(Mutex<Vec<Sample>>);

impl MemorySamples {
    /// Everything recorded so far.
    pub fn all(&self) -> Vec<Sample> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl store::Samples for MemorySamples {
    fn record(&self, samples: Vec<Sample>) {
        lock(&self.0).extend(samples);
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn range(
        &self,
        probe: &ProbeId,
        observer: Option<&ObserverId>,
        interval: Interval,
        resolution: Resolution,
    ) -> Result<Vec<Bucket>, StoreError> {
        let start = |at: Time| match resolution {
            Resolution::Raw => at,
            Resolution::Minute => at.minute_start(),
            Resolution::Hour => Time::from_secs(at.hour() * 3600),
        };
        let mut buckets: BTreeMap<Time, Bucket> = BTreeMap::new();
        for sample in lock(&self.0).iter() {
            let asked = sample.probe == *probe && observer.is_none_or(|observer| sample.observer == *observer);
            let at = start(sample.at);
            if asked && interval.start <= at && at < interval.end {
                let bucket = buckets.entry(at).or_insert_with(|| Bucket::starting(at));
                bucket.add(sample.reading, sample.took, sample.value);
            }
        }
        Ok(buckets.into_values().collect())
    }

    async fn expire(&self, _: Time) -> Result<Expired, StoreError> {
        Ok(Expired::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_event_is_appended_twice() {
        store::conformance::journal_cases::check_numbers(&MemoryJournal::default()).await;
    }
}
