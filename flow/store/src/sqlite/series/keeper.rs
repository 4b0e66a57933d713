//! The thread that writes samples and makes coarser buckets of them.
//!
//! The files themselves say what is still to be computed: a file of samples lists the minutes whose bucket does not count
//! all their samples, a file of minutes the hours. The buckets of a place are always computed anew from all that is below
//! it, written durably, and only then struck from the list. So it does not matter when the process died, or how late a
//! sample came.
//!
//! **No file stops the others.** Samples are not evidence, so a file that fails must not stop the watch or other files: a
//! damaged file is set aside, and what was computed into it is computed again from the finer file, as far as that is there;
//! a file that fails otherwise is not tried for a while, and longer each time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::{Clock, Span, Time};
use rusqlite::{Connection, params};

use super::super::database::SqliteError;
use super::super::writer::Health;
use super::bucket;
use super::numbers::{NUMBERS, Numbers};
use super::partition::{self, Grain, Partition, SERIES_MAX};
use super::trouble::{self, PartitionError, Trouble};
use crate::{RAW_KEPT, Sample};

/// How long after its end a minute or an hour is first rolled up: most samples of it have come by then.
const GRACE: Span = Span::from_secs(60);
/// Samples further ahead of the clock than this are dropped.
const AHEAD_MAX: Span = Span::from_days(1);
/// Files of samples kept open.
const OPEN_MAX: usize = 3;
/// Places rolled up before the queue is looked at again.
const ROLLS_MAX: usize = 64;
/// Series rolled up together, which bounds the memory that takes: 200 bytes each. Every part reads the samples of its
/// minute again, so there are eight parts at most.
const SERIES_AT_ONCE: i64 = 2048;
const PARTS_MAX: i64 = 8;
pub(super) struct Keeper {
    pub(super) dir: PathBuf,
    clock: Arc<dyn Clock>,
    health: Arc<Health>,
    /// The numbers of series; `None` while they can't be read.
    numbers: Option<Numbers>,
    pub(super) open: HashMap<Partition, Connection>,
    stale_minutes: BTreeSet<i64>,
    stale_hours: BTreeSet<i64>,
    /// Files whose list of stale places has not been read yet.
    pub(super) unread: BTreeSet<Partition>,
    pub(super) trouble: Trouble,
    /// Whether samples are being dropped because no number is left for their series.
    dropping: bool,
}

impl Keeper {
    /// Opens the folder and reads the lists of stale places, as far as the files can be read.
    pub(super) fn new(dir: PathBuf, clock: Arc<dyn Clock>, health: Arc<Health>) -> Result<Self, SqliteError> {
        let mut keeper = Self {
            dir,
            clock,
            health,
            numbers: None,
            open: HashMap::new(),
            stale_minutes: BTreeSet::new(),
            stale_hours: BTreeSet::new(),
            unread: BTreeSet::new(),
            trouble: Trouble::default(),
            dropping: false,
        };
        if let Err(error) = keeper.load_numbers() {
            tracing::warn!(%error, "the list of series can't be read: samples are dropped until it can");
        }
        keeper.unread = Partition::all(&keeper.dir)?.into_iter().filter(|p| p.grain != Grain::Hour).collect();
        keeper.read_what_is_due();
        Ok(keeper)
    }

    /// Reads the numbers of series. Without them no file says whose samples it holds: when they are damaged or gone, all
    /// files are set aside with them, for a number must never mean two things.
    fn load_numbers(&mut self) -> Result<(), SqliteError> {
        let path = self.dir.join(NUMBERS);
        if path.try_exists()? {
            match Numbers::load(&self.dir) {
                Err(failure) if failure.is_damage() => {
                    self.set_all_aside(&failure.to_string())?;
                    partition::set_aside(&path)?;
                    self.count_damaged();
                }
                numbers => {
                    self.numbers = Some(numbers?);
                    return Ok(());
                }
            }
        } else {
            self.set_all_aside("the list of series is gone")?;
        }
        self.numbers = Some(Numbers::load(&self.dir)?);
        Ok(())
    }

    fn set_all_aside(&mut self, reason: &str) -> Result<(), SqliteError> {
        for partition in Partition::all(&self.dir)? {
            self.set_file_aside(&partition, reason)?;
        }
        Ok(())
    }

    fn count_damaged(&self) {
        self.health.sample_files_damaged.fetch_add(1, Ordering::Relaxed);
    }

    fn connection(&mut self, partition: &Partition) -> Result<&mut Connection, PartitionError> {
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(partition) {
            self.open.clear();
        }
        match self.open.entry(partition.clone()) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(closed) => Ok(closed.insert(partition.open(&self.dir).map_err(trouble::of(partition))?)),
        }
    }

    pub(super) const fn stale(&mut self, of: Grain) -> &mut BTreeSet<i64> {
        match of {
            Grain::Sample | Grain::Minute => &mut self.stale_minutes,
            Grain::Hour => &mut self.stale_hours,
        }
    }

    pub(super) fn read_what_is_due(&mut self) {
        let now = self.clock.monotonic();
        let readable: Vec<_> =
            self.unread.iter().filter(|unread| !self.trouble.must_wait(unread, now)).cloned().collect();
        for partition in readable {
            match self.connection(&partition).and_then(|conn| bucket::stale(conn).map_err(trouble::of(&partition))) {
                Ok(places) => {
                    if let Some(coarser) = partition.grain.coarser() {
                        self.stale(coarser).extend(places);
                    }
                    self.unread.remove(&partition);
                    self.note_success(&partition);
                }
                Err(fault) => self.handle(fault),
            }
        }
    }

    /// Notes that a file works. Only files of samples stay open: the others are needed once a minute or once an hour.
    fn note_success(&mut self, partition: &Partition) {
        self.trouble.forget(partition);
        if partition.grain != Grain::Sample {
            self.open.remove(partition);
        }
    }

    /// Handles a failure of a file: a damaged one is set aside, another is not tried for a while.
    fn handle(&mut self, PartitionError { partition, failure }: PartitionError) {
        self.open.remove(&partition);
        let failure = if failure.is_damage() {
            match self.set_file_aside(&partition, &failure.to_string()) {
                Ok(()) => return self.mark_lost_as_stale(&partition),
                Err(failure) => failure,
            }
        } else {
            failure
        };
        if self.trouble.failed(&partition, self.clock.monotonic()) {
            let file = partition.path(&self.dir);
            tracing::warn!(file = %file.display(), error = %failure, "a file of samples fails; it is tried again later");
        }
    }

    /// Sets a file aside, and forgets its stale places.
    fn set_file_aside(&mut self, partition: &Partition, reason: &str) -> Result<(), SqliteError> {
        self.open.remove(partition);
        let aside = partition::set_aside(&partition.path(&self.dir))?;
        self.forget(partition);
        self.count_damaged();
        let file = aside.display();
        tracing::warn!(%file, reason, "a file of samples is damaged and was set aside: plots have a gap, no verdict rests on it");
        Ok(())
    }

    pub(super) fn forget(&mut self, partition: &Partition) {
        self.open.remove(partition);
        self.unread.remove(partition);
        self.trouble.forget(partition);
        if let Some(coarser) = partition.grain.coarser() {
            self.stale(coarser).retain(|place| !partition.holds(coarser.start(*place)));
        }
    }

    /// Marks as stale what a lost file of buckets held, as far as the finer file is there.
    fn mark_lost_as_stale(&mut self, lost: &Partition) {
        let Some(finer) = lost.grain.finer() else { return };
        for partition in Partition::all(&self.dir).unwrap_or_default() {
            if partition.grain != finer || !lost.holds(partition.interval().start) {
                continue;
            }
            let marked = self
                .connection(&partition)
                .and_then(|conn| bucket::mark_all_stale(conn, &partition).map_err(trouble::of(&partition)));
            match marked {
                Ok(places) => {
                    self.stale(lost.grain).extend(places);
                    self.note_success(&partition);
                }
                Err(PartitionError { failure, .. }) => {
                    self.open.remove(&partition);
                    let file = partition.path(&self.dir);
                    tracing::warn!(file = %file.display(), error = %failure, "what was lost can't be made again from this file");
                }
            }
        }
    }

    /// Writes a batch of samples; those that can't be written are dropped and counted.
    pub(super) fn keep(&mut self, samples: Vec<Sample>) {
        let now = self.clock.now();
        let believable = |at: Time| at > now - RAW_KEPT && at <= now + AHEAD_MAX;
        let mut rows: BTreeMap<Partition, Vec<(i64, i64, Option<i64>)>> = BTreeMap::new();
        let mut dropped = 0;
        let mut refused = if self.numbers.is_none() { self.load_numbers().err() } else { None };
        for sample in samples {
            let number = match &mut self.numbers {
                Some(numbers) if believable(sample.at) => numbers.of(&sample.probe, &sample.observer),
                _ => Ok(None),
            };
            match number {
                Ok(Some(series)) => {
                    let partition = Partition::of(Grain::Sample, sample.at);
                    let id = partition.id(Grain::Sample.place(sample.at), series);
                    rows.entry(partition).or_default().push((
                        id,
                        bucket::pack(sample.took, sample.reading),
                        sample.value,
                    ));
                }
                Ok(None) => dropped += 1,
                Err(error) => {
                    dropped += 1;
                    refused = Some(error.into());
                }
            }
        }
        for (partition, mut rows) in rows {
            // In order of time, so that the file grows at its end.
            rows.sort_unstable();
            match self.insert(&partition, &rows) {
                Ok(()) => self.trouble.forget(&partition),
                Err(fault) => {
                    dropped += rows.len();
                    self.handle(fault);
                }
            }
        }
        if let Some(error) = &refused
            && !self.dropping
        {
            tracing::warn!(%error, "the list of series can't be written: samples are dropped, and counted, until it can");
        }
        self.dropping = refused.is_some();
        self.health.samples_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    fn insert(&mut self, partition: &Partition, rows: &[(i64, i64, Option<i64>)]) -> Result<(), PartitionError> {
        let mut minutes = BTreeSet::new();
        let known_stale = std::mem::take(&mut self.stale_minutes);
        let result = self.connection(partition).and_then(|conn| {
            let mut store = || {
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
                tx.commit()
            };
            store().map_err(trouble::of(partition))
        });
        self.stale_minutes = known_stale;
        if result.is_ok() {
            self.stale_minutes.append(&mut minutes);
        }
        result
    }

    /// Computes some of the stale buckets. A failure leaves them stale.
    pub(super) fn roll_up(&mut self) {
        self.read_what_is_due();
        let mut left = ROLLS_MAX;
        for coarse in [Grain::Minute, Grain::Hour] {
            self.roll_up_due(coarse, &mut left, |_| true);
        }
    }

    /// Computes at most `left` stale places of grain `coarse`, of the files that `wanted` selects.
    pub(super) fn roll_up_due(&mut self, coarse: Grain, left: &mut usize, wanted: impl Fn(&Partition) -> bool) {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let Some(fine) = coarse.finer() else { return };
        let due = |place: &i64| coarse.start(place + 1) + GRACE <= now;
        let places: Vec<i64> = self.stale(coarse).iter().copied().take_while(due).collect();
        for place in places {
            let (below, above) = (Partition::of(fine, coarse.start(place)), Partition::of(coarse, coarse.start(place)));
            // A file that failed lately is skipped; the places of the others are not.
            if [&below, &above].iter().any(|file| self.trouble.must_wait(file, monotonic)) || !wanted(&below) {
                continue;
            }
            // Setting a file aside changes what is due.
            if *left == 0 || !self.stale(coarse).contains(&place) {
                continue;
            }
            *left -= 1;
            match self.roll(&below, &above, place) {
                Ok(()) => [&below, &above].into_iter().for_each(|file| self.note_success(file)),
                Err(fault) => self.handle(fault),
            }
        }
    }

    /// Computes the buckets of one place.
    fn roll(&mut self, below: &Partition, above: &Partition, place: i64) -> Result<(), PartitionError> {
        let numbers = self.numbers.as_ref().map_or(SERIES_MAX, |numbers| numbers.next);
        let at_once = SERIES_AT_ONCE.max(numbers / PARTS_MAX + 1);
        let hour = Grain::Hour.place(above.grain.start(place));
        let mut target = above.open(&self.dir).map_err(trouble::of(above))?;
        let source = self.connection(below)?;
        let tx = target.transaction().map_err(trouble::of(above))?;
        let mut from = 0;
        while from < numbers {
            let buckets = bucket::rolled(source, below, place, (from, from + at_once)).map_err(trouble::of(below))?;
            bucket::replace(&tx, above, place, &buckets).map_err(trouble::of(above))?;
            from += at_once;
        }
        if above.grain == Grain::Minute {
            bucket::mark_stale(&tx, hour).map_err(trouble::of(above))?;
        }
        tx.commit().map_err(trouble::of(above))?;
        if above.grain == Grain::Minute {
            self.stale_hours.insert(hour);
        }
        let source = self.connection(below)?;
        bucket::clear_stale(source, place).map_err(trouble::of(below))?;
        self.stale(above.grain).remove(&place);
        Ok(())
    }
}
