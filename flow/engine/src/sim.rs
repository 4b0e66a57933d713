//! A context without an outside world, for the tests of engines.
//!
//! A journal in memory that can be told to refuse, samples and projections in memory, no programs, a clock that passes with
//! tokio's paused one. With these a test is a year long and lasts some milliseconds. The real stores have threads of their
//! own, which paused time does not wait for: they belong into tests on the running clock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::{Body, BootId, Clock, Day, Interval, Observed, ObserverId, ProbeId, Retention, Span, Time};
use journal::Hash;
use journal::tile::TileId;
use store::{Bucket, Entry, Expired, Head, Projection, Resolution, Retained, Sample, StorageHealth, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::net::{Net, Options, SetupError};
use crate::processes::{Output, ProcessError};
use crate::random::SeededRandom;
use crate::{Context, Processes, Progress, Recorder};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that an engine sees, to be looked at and tampered with.
pub struct World {
    /// Its clock.
    pub clock: Arc<SimClock>,
    /// Its journal.
    pub journal: Arc<MemoryJournal>,
    /// Its samples.
    pub samples: Arc<MemorySamples>,
    /// Its projections.
    pub projections: Arc<MemoryProjections>,
    /// Stops its engines.
    pub stop: CancellationToken,
}

impl World {
    /// A world in which it is `now`.
    pub fn at(now: Time) -> Self {
        Self {
            clock: Arc::new(SimClock::starting_at(now)),
            journal: Arc::default(),
            samples: Arc::default(),
            projections: Arc::default(),
            stop: CancellationToken::new(),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// A recorder for that observer.
    pub fn recorder(&self, observer: ObserverId) -> Recorder {
        Recorder::new(self.journal.clone(), observer, BootId::from_bytes([7; 16]), self.clock.clone())
    }

    /// The context of an engine, with the machine's real network.
    pub fn context(&self, observer: ObserverId) -> Result<Context, SetupError> {
        let net = Net::new(&Options::default(), self.clock.clone())?;
        Ok(self.context_with(observer, net))
    }

    /// The context of an engine, with this network.
    pub fn context_with(&self, observer: ObserverId, net: Net) -> Context {
        Context {
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            net: Arc::new(net),
            processes: Arc::new(NoProcesses),
            recorder: self.recorder(observer),
            samples: self.samples.clone(),
            projections: self.projections.clone(),
            journal: self.journal.clone(),
            progress: Progress::default(),
            stop: self.stop.clone(),
        }
    }
}

/// A machine on which nothing is installed.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoProcesses;

#[async_trait]
impl Processes for NoProcesses {
    async fn run(&self, program: &str, _: &[&str], _: Span, _: usize) -> Result<Output, ProcessError> {
        Err(ProcessError::Start { program: program.to_owned(), source: std::io::ErrorKind::NotFound.into() })
    }
}

/// A journal that keeps events, but no tree: there is nothing to prove in a test of an engine.
pub struct MemoryJournal {
    inner: Mutex<JournalState>,
    size: watch::Sender<u64>,
}

#[derive(Default)]
struct JournalState {
    events: Vec<Observed>,
    known: HashMap<(ObserverId, BootId, u64), u64>,
    refuse: Option<StoreError>,
    stall: bool,
    choke_on: Option<u64>,
}

impl JournalState {
    fn take(&mut self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError> {
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        if events.iter().any(|event| Some(event.sequence) == self.choke_on) {
            return Err(StoreError::TooLarge { what: "a payload", size: 2, max: 1 });
        }
        let mut places = Vec::with_capacity(events.len());
        for event in events {
            let next = self.events.len() as u64;
            let place = *self.known.entry((event.observer.clone(), event.boot, event.sequence)).or_insert(next);
            if place == next {
                self.events.push(event);
            }
            places.push(place);
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
    /// Refuses everything from now on, as a full disk does, until it is given `None`.
    pub fn refuse(&self, error: Option<StoreError>) {
        lock(&self.inner).refuse = error;
    }

    /// Finds the event of that number of its observer too large, and whatever is handed over together with it.
    pub fn choke_on(&self, sequence: u64) {
        lock(&self.inner).choke_on = Some(sequence);
    }

    /// Takes what it is given but does not answer, until it is told otherwise.
    pub fn stall(&self, stall: bool) {
        lock(&self.inner).stall = stall;
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

/// What a question about the tree gets.
fn no_tree<T>(what: &'static str) -> Result<T, StoreError> {
    Err(StoreError::Read { what, reason: "a journal in memory has no tree".to_owned() })
}

#[async_trait]
impl store::Journal for MemoryJournal {
    async fn append(&self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError> {
        let (taken, stall) = {
            let mut state = lock(&self.inner);
            let taken = state.take(events);
            self.size.send_replace(state.events.len() as u64);
            (taken, state.stall)
        };
        if stall {
            std::future::pending::<()>().await;
        }
        taken
    }

    async fn head(&self) -> Result<Head, StoreError> {
        no_tree("the head")
    }

    async fn leaves(&self, _: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        no_tree("leaves")
    }

    async fn entries(&self, _: Range<u64>) -> Result<Vec<Entry>, StoreError> {
        no_tree("entries")
    }

    async fn tile(&self, _: TileId) -> Result<Option<Vec<u8>>, StoreError> {
        no_tree("a tile")
    }

    async fn inclusion(&self, _: u64, _: u64) -> Result<Vec<Hash>, StoreError> {
        no_tree("an inclusion proof")
    }

    async fn consistency(&self, _: u64, _: u64) -> Result<Vec<Hash>, StoreError> {
        no_tree("a consistency proof")
    }

    async fn root_at(&self, _: u64) -> Result<Hash, StoreError> {
        no_tree("a root")
    }

    async fn publish(&self, _: String, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn published(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn rotations(&self, _: u64) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn days_before(&self, _: Retention, _: Day) -> Result<Vec<Retained>, StoreError> {
        Ok(Vec::new())
    }

    async fn intend(&self, _: Retention, _: Day) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn destroy(&self, _: Retention, _: Day) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn size_watch(&self) -> watch::Receiver<u64> {
        self.size.subscribe()
    }

    fn health(&self) -> StorageHealth {
        StorageHealth::default()
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

/// Projections in memory.
#[derive(Default)]
pub struct MemoryProjections(Mutex<BTreeMap<String, Projection>>);

#[async_trait]
impl store::Projections for MemoryProjections {
    async fn load(&self, name: &str) -> Result<Option<Projection>, StoreError> {
        Ok(lock(&self.0).get(name).cloned())
    }

    async fn save(&self, name: &str, expected: Option<u64>, cursor: u64, state: Vec<u8>) -> Result<(), StoreError> {
        let mut all = lock(&self.0);
        let found = all.get(name).map(|projection| projection.cursor);
        if found != expected {
            return Err(StoreError::Conflict { name: name.to_owned(), expected, found });
        }
        all.insert(name.to_owned(), Projection { cursor, state });
        Ok(())
    }
}
