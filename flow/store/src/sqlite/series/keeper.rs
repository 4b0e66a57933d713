//! The thread that writes samples and makes coarser buckets of them.
//!
//! What is due is in the files themselves: a file of samples lists the minutes that have samples which their bucket does not
//! count, a file of minutes the hours. The buckets of a place are always made anew from all that is below it, written durably,
//! and only then struck from the list. So it does not matter when the process died, or how late a sample came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::{Clock, ObserverId, ProbeId, Span, Time};
use rusqlite::{Connection, params};

use super::super::database::Failure;
use super::super::writer::Health;
use super::bucket;
use super::partition::{self, Grain, Partition, SERIES_MAX};
use crate::{Expired, RAW_KEPT, Sample};

/// How long after its end a minute or an hour is first rolled up: most samples of it have come by then.
const GRACE: Span = Span::from_secs(60);
/// Samples further ahead of the clock than this are not believed.
const AHEAD_MAX: Span = Span::from_days(1);
/// Files kept open.
const OPEN_MAX: usize = 6;

pub(super) struct Keeper {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    numbers: Numbers,
    open: HashMap<Partition, Connection>,
    stale_minutes: BTreeSet<i64>,
    stale_hours: BTreeSet<i64>,
}

impl Keeper {
    /// Finds out what is due.
    pub(super) fn new(dir: PathBuf, clock: Arc<dyn Clock>, health: Arc<Health>) -> Result<Self, Failure> {
        let numbers = Numbers::load(&dir)?;
        let mut keeper = Self {
            dir,
            clock,
            health,
            numbers,
            open: HashMap::new(),
            stale_minutes: BTreeSet::new(),
            stale_hours: BTreeSet::new(),
        };
        for partition in Partition::all(&keeper.dir)? {
            let stale = bucket::stale(keeper.connection(&partition)?)?;
            match partition.grain {
                Grain::Sample => keeper.stale_minutes.extend(stale),
                Grain::Minute => keeper.stale_hours.extend(stale),
                Grain::Hour => {}
            }
        }
        Ok(keeper)
    }

    fn connection(&mut self, partition: &Partition) -> rusqlite::Result<&mut Connection> {
        if !self.open.contains_key(partition) {
            if self.open.len() >= OPEN_MAX {
                self.open.clear();
            }
            self.open.insert(partition.clone(), partition.open(&self.dir)?);
        }
        self.open.get_mut(partition).ok_or(rusqlite::Error::InvalidQuery)
    }

    /// Keeps a batch; what can't be kept is dropped and counted.
    pub(super) fn keep(&mut self, samples: Vec<Sample>) {
        let now = self.clock.now();
        let believable = |at: Time| at > now - RAW_KEPT && at <= now + AHEAD_MAX;
        let mut rows: BTreeMap<Partition, Vec<(i64, i64, Option<i64>)>> = BTreeMap::new();
        let mut dropped = 0;
        for sample in samples {
            let number = believable(sample.at).then(|| self.numbers.of(&sample.probe, &sample.observer));
            let Some(Ok(Some(series))) = number else {
                dropped += 1;
                continue;
            };
            let partition = Partition::of(Grain::Sample, sample.at);
            let id = partition.id(Grain::Sample.place(sample.at), series);
            rows.entry(partition).or_default().push((id, bucket::pack(sample.took, sample.reading), sample.value));
        }
        for (partition, mut rows) in rows {
            // In order of time, so that the file grows at its end.
            rows.sort_unstable();
            if let Err(error) = self.insert(&partition, &rows) {
                dropped += rows.len();
                self.open.remove(&partition);
                tracing::warn!(%error, samples = rows.len(), "samples are dropped");
            }
        }
        self.health.samples_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    fn insert(&mut self, partition: &Partition, rows: &[(i64, i64, Option<i64>)]) -> Result<(), Failure> {
        let mut minutes = BTreeSet::new();
        let known_stale = std::mem::take(&mut self.stale_minutes);
        let result = self.connection(partition).map_err(Failure::from).and_then(|conn| {
            let tx = conn.transaction()?;
            {
                let mut insert =
                    tx.prepare_cached("INSERT OR IGNORE INTO sample (id, took, value) VALUES (?1, ?2, ?3)")?;
                for (id, took, value) in rows {
                    if insert.execute(params![id, took, value])? > 0 {
                        minutes.insert(Grain::Minute.place(Grain::Sample.start(partition.split(*id).0)));
                    }
                }
            }
            for minute in minutes.difference(&known_stale) {
                bucket::mark_stale(&tx, *minute)?;
            }
            Ok(tx.commit()?)
        });
        self.stale_minutes = known_stale;
        if result.is_ok() {
            self.stale_minutes.append(&mut minutes);
        }
        result
    }

    /// Rolls up what is due. What fails stays due.
    pub(super) fn roll_up(&mut self) {
        let now = self.clock.now();
        if let Err(error) = self.roll_up_due(now) {
            self.open.clear();
            tracing::warn!(%error, "time series can't be rolled up; tried again later");
        }
    }

    fn roll_up_due(&mut self, now: Time) -> Result<(), Failure> {
        let due = |grain: Grain, place: i64| grain.start(place + 1) + GRACE <= now;
        while let Some(minute) = self.stale_minutes.first().copied().filter(|minute| due(Grain::Minute, *minute)) {
            self.roll_minute(minute)?;
        }
        while let Some(hour) = self.stale_hours.first().copied().filter(|hour| due(Grain::Hour, *hour)) {
            self.roll_hour(hour)?;
        }
        Ok(())
    }

    fn roll_minute(&mut self, minute: i64) -> Result<(), Failure> {
        let start = Grain::Minute.start(minute);
        let samples = Partition::of(Grain::Sample, start);
        let buckets = bucket::minute_of_samples(self.connection(&samples)?, &samples, minute, "1")?;
        let minutes = Partition::of(Grain::Minute, start);
        let hour = Grain::Hour.place(start);
        let tx = self.connection(&minutes)?.transaction()?;
        bucket::replace(&tx, &minutes, minute, &buckets)?;
        bucket::mark_stale(&tx, hour)?;
        tx.commit()?;
        self.stale_hours.insert(hour);
        bucket::clear_stale(self.connection(&samples)?, minute)?;
        self.stale_minutes.remove(&minute);
        Ok(())
    }

    fn roll_hour(&mut self, hour: i64) -> Result<(), Failure> {
        let start = Grain::Hour.start(hour);
        let minutes = Partition::of(Grain::Minute, start);
        let buckets = bucket::hour_of_minutes(self.connection(&minutes)?, &minutes, hour)?;
        let hours = Partition::of(Grain::Hour, start);
        let tx = self.connection(&hours)?.transaction()?;
        bucket::replace(&tx, &hours, hour, &buckets)?;
        tx.commit()?;
        bucket::clear_stale(self.connection(&minutes)?, hour)?;
        self.stale_hours.remove(&hour);
        Ok(())
    }

    /// Drops the partitions of which nothing is kept any longer, once all that was due of them is done.
    pub(super) fn expire(&mut self, now: Time) -> Result<Expired, Failure> {
        self.roll_up_due(now)?;
        let mut expired = Expired::default();
        for partition in Partition::all(&self.dir)?.into_iter().filter(|partition| partition.is_over(now)) {
            self.open.remove(&partition);
            expired.bytes += partition.unlink(&self.dir)?;
            expired.partitions += 1;
        }
        Ok(expired)
    }
}

/// The number of each (probe, observer). A number, once given, means the same for ever.
struct Numbers {
    conn: Connection,
    known: HashMap<ProbeId, Vec<(ObserverId, i64)>>,
}

/// Where the numbers are.
pub(super) const NUMBERS: &str = "series.db";

impl Numbers {
    fn load(dir: &std::path::Path) -> Result<Self, Failure> {
        let schema = include_str!("../../../migrations/sqlite/series.sql");
        // FULL: samples must never be found under a number that a power loss has taken back.
        let conn = partition::open(&dir.join(NUMBERS), "FULL", schema)?;
        let mut known: HashMap<ProbeId, Vec<(ObserverId, i64)>> = HashMap::new();
        {
            let mut statement = conn.prepare("SELECT probe, observer, id FROM series")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (probe, observer): (String, String) = (row.get(0)?, row.get(1)?);
                if let (Ok(probe), Ok(observer)) = (probe.parse(), observer.parse()) {
                    known.entry(probe).or_insert_with(|| Vec::with_capacity(1)).push((observer, row.get(2)?));
                }
            }
        }
        Ok(Self { conn, known })
    }

    /// `None` when there are no numbers left.
    fn of(&mut self, probe: &ProbeId, observer: &ObserverId) -> rusqlite::Result<Option<i64>> {
        let known = self.known.get(probe).and_then(|known| known.iter().find(|(name, _)| name == observer));
        if let Some((_, number)) = known {
            return Ok(Some(*number));
        }
        let next: i64 = self.conn.query_row("SELECT coalesce(max(id), 0) + 1 FROM series", [], |row| row.get(0))?;
        if next >= SERIES_MAX {
            return Ok(None);
        }
        self.conn.execute(
            "INSERT INTO series (id, probe, observer) VALUES (?1, ?2, ?3)",
            params![next, probe.as_str(), observer.as_str()],
        )?;
        // Most probes have one observer: no room for more is taken beforehand.
        self.known.entry(probe.clone()).or_insert_with(|| Vec::with_capacity(1)).push((observer.clone(), next));
        Ok(Some(next))
    }
}
