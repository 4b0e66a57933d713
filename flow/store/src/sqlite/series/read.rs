//! Reading buckets, including minutes and hours that are not rolled up yet.
//!
//! The list of what is stale is always read before the buckets: whatever is rolled up between the two reads is then either
//! computed from what is below it, or found rolled up. Both are the same figure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use event::{Interval, ObserverId, ProbeId, Time};
use rusqlite::{OptionalExtension as _, params};

use super::bucket;
use super::numbers::NUMBERS;
use super::partition::{self, Grain, Partition};
use crate::{Bucket, Resolution};

type Error = super::super::database::SqliteError;

/// The buckets of these series, by place.
type Buckets = BTreeMap<Time, Bucket>;

pub(super) struct Query<'a> {
    pub(super) dir: &'a Path,
    pub(super) series: Vec<i64>,
    /// All partitions of the folder.
    pub(super) partitions: Vec<Partition>,
}

impl<'a> Query<'a> {
    pub(super) fn new(dir: &'a Path, probe: &ProbeId, observer: Option<&ObserverId>) -> Result<Self, Error> {
        let partitions = Partition::all(dir)?;
        let Some(conn) = partition::open_read_only(&dir.join(NUMBERS))? else {
            return Ok(Self { dir, series: Vec::new(), partitions });
        };
        let mut statement =
            conn.prepare("SELECT id FROM series WHERE probe = ?1 AND (?2 IS NULL OR observer = ?2) ORDER BY id")?;
        let parameters = params![probe.as_str(), observer.map(ObserverId::as_str)];
        let series = statement.query_map(parameters, |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self { dir, series, partitions })
    }

    pub(super) fn range(&self, interval: Interval, resolution: Resolution) -> Result<Vec<Bucket>, Error> {
        if self.series.is_empty() || interval.is_empty() {
            return Ok(Vec::new());
        }
        match resolution {
            Resolution::Raw => self.samples(interval),
            Resolution::Minute => Ok(self.minutes(interval)?.into_values().collect()),
            Resolution::Hour => Ok(self.hours(interval)?.into_values().collect()),
        }
    }

    /// The partitions of that grain that overlap the interval, and the part of it in each.
    fn partitions(&self, grain: Grain, interval: Interval) -> impl Iterator<Item = (&Partition, Interval)> {
        let of_grain = self.partitions.iter().filter(move |partition| partition.grain == grain);
        of_grain
            .map(move |partition| (partition, partition.interval().intersect(interval)))
            .filter(|(_, part)| !part.is_empty())
    }

    fn samples(&self, interval: Interval) -> Result<Vec<Bucket>, Error> {
        let mut buckets = Vec::new();
        for (partition, part) in self.partitions(Grain::Sample, interval) {
            let Some(conn) = partition.open_read_only(self.dir)? else { continue };
            let condition = bucket::only(&self.series);
            bucket::each_sample(
                &conn,
                partition,
                places(Grain::Sample, part),
                &condition,
                |place, _, reading, took, value| {
                    let mut one = Bucket::starting(Grain::Sample.start(place));
                    one.add(reading, took, value);
                    buckets.push(one);
                },
            )?;
        }
        Ok(buckets)
    }

    fn minutes(&self, interval: Interval) -> Result<Buckets, Error> {
        let mut found = Buckets::new();
        let mut stale = BTreeSet::new();
        let (from, to) = places(Grain::Minute, interval);
        for (partition, _) in self.partitions(Grain::Sample, interval) {
            let Some(conn) = partition.open_read_only(self.dir)? else { continue };
            for minute in bucket::stale(&conn)?.into_iter().filter(|minute| (from..to).contains(minute)) {
                let by_series = bucket::minute_of_samples(&conn, partition, minute, &bucket::only(&self.series))?;
                for bucket in by_series.values() {
                    merge(&mut found, bucket);
                }
                stale.insert(minute);
            }
        }
        self.rolled(Grain::Minute, interval, &stale, &mut found)?;
        Ok(found)
    }

    fn hours(&self, interval: Interval) -> Result<Buckets, Error> {
        let mut stale = BTreeSet::new();
        for (grain, finer) in [(Grain::Sample, Grain::Minute), (Grain::Minute, Grain::Hour)] {
            for (partition, _) in self.partitions(grain, interval) {
                let Some(conn) = partition.open_read_only(self.dir)? else { continue };
                let places = bucket::stale(&conn)?;
                stale.extend(places.into_iter().map(|place| Grain::Hour.place(finer.start(place))));
            }
        }
        let (from, to) = places(Grain::Hour, interval);
        stale.retain(|hour| (from..to).contains(hour));
        let mut found = Buckets::new();
        for hour in &stale {
            let start = Grain::Hour.start(*hour);
            for minute in self.minutes(Interval::new(start, Grain::Hour.start(hour + 1)))?.into_values() {
                merge(&mut found, &Bucket { start, ..minute });
            }
        }
        self.rolled(Grain::Hour, interval, &stale, &mut found)?;
        Ok(found)
    }

    /// Adds the buckets of that grain that are rolled up and not stale.
    fn rolled(
        &self,
        grain: Grain,
        interval: Interval,
        stale: &BTreeSet<i64>,
        found: &mut Buckets,
    ) -> Result<(), Error> {
        for (partition, part) in self.partitions(grain, interval) {
            let Some(conn) = partition.open_read_only(self.dir)? else { continue };
            let mut statement = conn.prepare(&format!("{} WHERE id = ?1", bucket::SELECT))?;
            let (from, to) = places(grain, part);
            // Rows are in order of time, those of one series far apart: each is looked up by its id.
            for place in (from..to).filter(|place| !stale.contains(place)) {
                for series in &self.series {
                    let id = partition.id(place, *series);
                    let row = statement.query_row([id], |row| bucket::read(partition, row)).optional()?;
                    if let Some(bucket) = row {
                        merge(found, &bucket);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The places that start within the interval, as `[from, to)`.
fn places(grain: Grain, interval: Interval) -> (i64, i64) {
    (grain.place_from(interval.start), grain.place_from(interval.end))
}

fn merge(found: &mut Buckets, bucket: &Bucket) {
    found.entry(bucket.start).or_insert_with(|| Bucket::starting(bucket.start)).merge(bucket);
}
