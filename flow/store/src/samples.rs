//! Time series: every single sample for two days, then minutes, then hours.
//!
//! **Problem.** Monitors drown in their own samples: a row per sample for ever, rollups updated one by one, and deletions
//! that never give space back. **Principle.** Samples are not evidence (the journal has changes and coverage), so they may
//! be lost in small measure, and they are kept in partitions that are dropped whole. A coarse figure is always computed
//! from the finer one, never counted beside it, so both agree after a crash.

use async_trait::async_trait;
use event::{Interval, ObserverId, ProbeId, Span, Time};

use crate::StoreError;

mod histogram;

pub use histogram::Histogram;

/// How long single samples are kept.
pub const RAW_KEPT: Span = Span::from_secs(48 * 3600);
/// How long minutes are kept.
pub const MINUTES_KEPT: Span = Span::from_days(14);
/// How long hours are kept.
pub const HOURS_KEPT: Span = Span::from_days(400);
/// Longest interval of single samples that one call reads: samples are kept in order of time, not of probe, so such a read
/// costs as much as all samples of the interval.
pub const RAW_INTERVAL_MAX: Span = Span::from_secs(6 * 3600);

/// The state of a target, as one sample showed it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reading {
    /// The condition holds.
    Up,
    /// The condition holds, but more slowly than it should.
    Degraded,
    /// The condition does not hold.
    Down,
    /// The sample says nothing: it came too late, or the observer itself was in trouble.
    Unknown,
}

impl Reading {
    /// All readings; the place of each is the number stored for it.
    pub const ALL: [Self; 4] = [Self::Up, Self::Degraded, Self::Down, Self::Unknown];
}

/// A sample: one answer of one probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which probe.
    pub probe: ProbeId,
    /// Which observer asked.
    pub observer: ObserverId,
    /// When the question was asked; stored to the millisecond. A second sample of the same probe, observer and millisecond
    /// is ignored.
    pub at: Time,
    /// How long the answer took, in µs; stored from 0 to 2⁴⁰ µs (12 days).
    pub took: Span,
    /// The state that it showed.
    pub reading: Reading,
    /// A figure, in the unit of the probe: percent × 100, days, bytes.
    pub value: Option<i64>,
}

/// The length of time that one bucket stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resolution {
    /// One bucket per sample.
    Raw,
    /// One bucket per UTC minute that has samples.
    Minute,
    /// One bucket per UTC hour that has samples.
    Hour,
}

/// Count, sum and extremes of a set of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// How many figures.
    pub count: u64,
    /// Their sum; saturates.
    pub sum: i64,
    /// The smallest; 0 when there are none.
    pub min: i64,
    /// The largest; 0 when there are none.
    pub max: i64,
}

impl Tally {
    /// Counts one more figure.
    pub fn add(&mut self, figure: i64) {
        self.merge(&Self { count: 1, sum: figure, min: figure, max: figure });
    }

    /// Counts those of another tally.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count = self.count.saturating_add(other.count);
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean, rounded towards zero.
    pub fn mean(&self) -> Option<i64> {
        i64::try_from(self.count).ok().filter(|count| *count > 0).map(|count| self.sum / count)
    }
}

/// The samples of one stretch of time, merged: of one observer, or of all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// Start of the sample, of the minute or of the hour.
    pub start: Time,
    /// Samples by reading, in the order of [`Reading::ALL`].
    pub readings: [u64; 4],
    /// How long they took, in µs.
    pub took: Tally,
    /// Distribution of those lengths.
    pub spread: Histogram,
    /// Figures of the samples that have one.
    pub value: Tally,
}

impl Bucket {
    /// An empty bucket.
    pub fn starting(start: Time) -> Self {
        Self { start, ..Self::default() }
    }

    /// How many samples showed this.
    pub fn count(&self, reading: Reading) -> u64 {
        self.readings[reading as usize]
    }

    /// How many samples there were.
    pub fn samples(&self) -> u64 {
        self.readings.iter().sum()
    }

    /// Counts one more sample.
    pub fn add(&mut self, reading: Reading, took: Span, value: Option<i64>) {
        self.readings[reading as usize] += 1;
        self.took.add(took.micros());
        self.spread.add(took);
        if let Some(value) = value {
            self.value.add(value);
        }
    }

    /// Adds the samples of another bucket.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.readings.iter_mut().zip(other.readings) {
            *mine = mine.saturating_add(theirs);
        }
        self.took.merge(&other.took);
        self.spread.merge(&other.spread);
        self.value.merge(&other.value);
    }
}

/// Outcome of [`Samples::expire`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Partitions dropped.
    pub partitions: u64,
    /// Bytes given back.
    pub bytes: u64,
}

/// The time series.
///
/// # Contract
///
/// * [`record`](Self::record) never waits and never fails: at the bound of its queue, and while the storage fails, samples
///   are dropped and counted in [`StorageHealth::samples_dropped`](crate::StorageHealth). What it took is readable within
///   200 ms or so, and survives `kill -9` from then on; a power loss may cost some seconds.
/// * A file that is damaged is set aside and counted in [`StorageHealth::sample_files_damaged`](crate::StorageHealth):
///   samples are not evidence, and what is left of them goes on.
/// * A minute's bucket always equals the samples of that minute, an hour's bucket its minutes, also while they are still
///   growing and when samples arrive late.
/// * Samples more than a day ahead of the clock, or older than what is kept, are dropped and counted.
#[async_trait]
pub trait Samples: Send + Sync {
    /// Takes samples, in any order.
    fn record(&self, samples: Vec<Sample>);

    /// Waits until what was recorded before can be read.
    async fn settle(&self) -> Result<(), StoreError>;

    /// The buckets of a probe that start within the interval, in order of time, empty ones left out. With an observer, its
    /// samples only; without, those of all observers: merged for minutes and hours, one bucket each when raw.
    /// Single samples are read for six hours at most in one call, else [`StoreError::TooLarge`].
    async fn range(
        &self,
        probe: &ProbeId,
        observer: Option<&ObserverId>,
        interval: Interval,
        resolution: Resolution,
    ) -> Result<Vec<Bucket>, StoreError>;

    /// Drops what is older than what is kept: samples after 48 hours, minutes after 14 days, hours after 400 days, each
    /// partition as soon as all of it is. What a coarser figure still needs stays for a day at most, and on a full disk not at
    /// all: dropping needs no room, and makes some.
    async fn expire(&self, now: Time) -> Result<Expired, StoreError>;
}
