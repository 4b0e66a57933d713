//! Partitions: files that each hold one stretch of time, and are dropped as a whole.

use std::io;
use std::path::{Path, PathBuf};

use event::{Day, Interval, Span, Time};
use rusqlite::{Connection, OpenFlags};

use crate::{HOURS_KEPT, MINUTES_KEPT, RAW_KEPT};

/// Bits of a row's id that hold the number of its series.
const SERIES_BITS: u32 = 24;
/// Number of series that the bits can tell apart.
pub(super) const SERIES_MAX: i64 = 1 << SERIES_BITS;

/// End of the name of a damaged file that was set aside.
const SET_ASIDE: &str = ".damaged";

/// Most of a file that one connection holds in memory: samples are written at the end and read in order, so a large cache
/// would only hold what was just written.
const CACHE_KIB: u32 = 512;

/// How long a file that is too old may wait until everything is computed from it.
const OVERTIME: Span = Span::from_days(1);

/// The grain of a partition: what its rows stand for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Grain {
    Sample,
    Minute,
    Hour,
}

impl Grain {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Sample => "",
            Self::Minute => "minute-",
            Self::Hour => "hour-",
        }
    }

    /// The grain that is computed from this one.
    pub(super) const fn coarser(self) -> Option<Self> {
        match self {
            Self::Sample => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => None,
        }
    }

    /// The grain that this one is computed from.
    pub(super) const fn finer(self) -> Option<Self> {
        match self {
            Self::Sample => None,
            Self::Minute => Some(Self::Sample),
            Self::Hour => Some(Self::Minute),
        }
    }

    const fn kept(self) -> Span {
        match self {
            Self::Sample => RAW_KEPT,
            Self::Minute => MINUTES_KEPT,
            Self::Hour => HOURS_KEPT,
        }
    }

    /// Microseconds of one place in time.
    const fn unit(self) -> i64 {
        match self {
            Self::Sample => 1000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
        }
    }

    /// Which place in time: milliseconds, minutes or hours since 1970.
    pub(super) const fn place(self, time: Time) -> i64 {
        time.micros().div_euclid(self.unit())
    }

    /// When that place starts.
    pub(super) const fn start(self, place: i64) -> Time {
        Time::from_micros(place * self.unit())
    }

    /// The first place that starts at that time or later.
    pub(super) const fn place_from(self, time: Time) -> i64 {
        -(-time.micros()).div_euclid(self.unit())
    }

    const fn schema(self) -> &'static str {
        match self {
            Self::Sample => include_str!("../../../migrations/sqlite/samples.sql"),
            Self::Minute | Self::Hour => include_str!("../../../migrations/sqlite/buckets.sql"),
        }
    }

    /// What is computed from another file must be on disk before that file forgets that it was due.
    const fn synchronous(self) -> &'static str {
        match self {
            Self::Sample => "NORMAL",
            Self::Minute | Self::Hour => "FULL",
        }
    }
}

/// One partition: a file of that grain, from `start` on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Partition {
    pub(super) grain: Grain,
    /// Midnight UTC at which it starts, of a day or of the first of a month.
    start: Time,
}

impl Partition {
    /// The partition that holds `time`.
    pub(super) fn of(grain: Grain, time: Time) -> Self {
        let day = time.day();
        let start = match grain {
            Grain::Sample | Grain::Minute => day.start(),
            Grain::Hour => month_start(day),
        };
        Self { grain, start }
    }

    /// End of the stretch of time, excluded.
    fn end(&self) -> Time {
        match self.grain {
            Grain::Sample | Grain::Minute => self.start + Span::from_days(1),
            Grain::Hour => month_start((self.start + Span::from_days(31)).day()),
        }
    }

    pub(super) fn holds(&self, time: Time) -> bool {
        self.start <= time && time < self.end()
    }

    pub(super) fn interval(&self) -> Interval {
        Interval::new(self.start, self.end())
    }

    /// Whether everything in it is older than what is kept.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.end() + self.grain.kept() <= now
    }

    /// Whether it is so old that it is dropped even if a coarser file is not computed from it.
    pub(super) fn is_long_over(&self, now: Time) -> bool {
        self.is_over(now - OVERTIME)
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        let day = self.start.day().to_string();
        let label = if self.grain == Grain::Hour { day.get(..7).unwrap_or(&day) } else { &day };
        dir.join(format!("{}{label}.db", self.grain.prefix()))
    }

    /// The partition of that file name.
    fn named(name: &str) -> Option<Self> {
        let label = name.strip_suffix(".db")?;
        let (grain, label) = [Grain::Minute, Grain::Hour]
            .into_iter()
            .find_map(|grain| Some((grain, label.strip_prefix(grain.prefix())?)))
            .unwrap_or((Grain::Sample, label));
        let first_day = if grain == Grain::Hour { "-01" } else { "" };
        let start = Time::parse_rfc3339(&format!("{label}{first_day}T00:00:00Z"))?;
        Some(Self { grain, start })
    }

    /// All partitions of the folder, in order of grain and time; none when there is no folder.
    pub(super) fn all(dir: &Path) -> io::Result<Vec<Self>> {
        Self::all_named(dir, Self::named)
    }

    fn all_named(dir: &Path, named: impl Fn(&str) -> Option<Self>) -> io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut partitions = Vec::new();
        for entry in entries {
            partitions.extend(entry?.file_name().to_str().and_then(&named));
        }
        partitions.sort_unstable();
        Ok(partitions)
    }

    pub(super) fn open(&self, dir: &Path) -> rusqlite::Result<Connection> {
        open(&self.path(dir), self.grain.synchronous(), self.grain.schema())
    }

    /// Opens the file for reading; `None` when there is none.
    pub(super) fn open_read_only(&self, dir: &Path) -> rusqlite::Result<Option<Connection>> {
        open_read_only(&self.path(dir))
    }

    /// Removes the file; returns how many bytes that gives back.
    pub(super) fn unlink(&self, dir: &Path) -> io::Result<u64> {
        unlink(&self.path(dir))
    }

    /// The partitions whose files were set aside, in the same order as [`all`](Self::all).
    pub(super) fn all_set_aside(dir: &Path) -> io::Result<Vec<Self>> {
        Self::all_named(dir, |name| Self::named(name.strip_suffix(SET_ASIDE)?))
    }

    /// Removes the file that was set aside; returns how many bytes that gives back.
    pub(super) fn unlink_set_aside(&self, dir: &Path) -> io::Result<u64> {
        unlink(&with_suffix(&self.path(dir), SET_ASIDE))
    }

    /// The id of a row. Samples count milliseconds from the start of their file, which keeps ids short.
    pub(super) fn id(&self, place: i64, series: i64) -> i64 {
        ((place - self.origin()) << SERIES_BITS) | series
    }

    /// Place and series of a row.
    pub(super) fn split(&self, id: i64) -> (i64, i64) {
        ((id >> SERIES_BITS) + self.origin(), id & (SERIES_MAX - 1))
    }

    const fn origin(&self) -> i64 {
        match self.grain {
            Grain::Sample => Grain::Sample.place(self.start),
            Grain::Minute | Grain::Hour => 0,
        }
    }
}

fn month_start(day: Day) -> Time {
    let text = day.to_string();
    let first = text.get(..7).and_then(|month| Time::parse_rfc3339(&format!("{month}-01T00:00:00Z")));
    // Only a day outside of the calendar has no month: it then stands for itself.
    first.unwrap_or_else(|| day.start())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a database with its write-ahead log; returns how many bytes that gives back.
fn unlink(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    // The database goes last: after a crash, what is left is found again by its name.
    for suffix in ["-wal", "-shm", ""] {
        let path = with_suffix(path, suffix);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => {
                std::fs::remove_file(&path)?;
                bytes += metadata.len();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Renames a damaged database, so that a person can look at it and the program does not. A file that was set aside under
/// that name before is replaced: repeated damage does not fill the disk.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_suffix(path, SET_ASIDE);
    unlink(&aside)?;
    // The database last, as above. Its log goes with it: the next database of this name must not find it.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

pub(super) fn open(path: &Path, synchronous: &str, schema: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{CACHE_KIB}; {schema}"
    ))?;
    Ok(conn)
}

pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match Connection::open_with_flags(path, flags) {
        Ok(conn) => conn,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen) => return Ok(None),
        Err(error) => return Err(error),
    };
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    // Between the creation of a file and that of its tables, there is nothing in it.
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?;
    Ok((tables > 0).then_some(conn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_grain_and_time() {
        let time = Time::parse_rfc3339("2026-12-22T23:59:59Z").expect("a time");
        let dir = Path::new("samples");
        for (grain, name, end) in [
            (Grain::Sample, "2026-12-22.db", "2026-12-23T00:00:00Z"),
            (Grain::Minute, "minute-2026-12-22.db", "2026-12-23T00:00:00Z"),
            (Grain::Hour, "hour-2026-12.db", "2027-01-01T00:00:00Z"),
        ] {
            let partition = Partition::of(grain, time);
            assert_eq!(partition.path(dir), dir.join(name));
            assert_eq!(Partition::named(name), Some(partition.clone()));
            assert_eq!(partition.end().to_string(), end);
            assert!(!partition.is_over(partition.end() + grain.kept() - Span::from_micros(1)));
            assert!(partition.is_over(partition.end() + grain.kept()));
            let place = grain.place(time);
            assert_eq!(partition.split(partition.id(place, 77)), (place, 77));
        }
        for name in ["series.db", "2026-12-22.db-wal", "minute-2026-12.db", "hour-2026-12-22.db", "2026-13-01.db"] {
            assert_eq!(Partition::named(name), None, "{name}");
        }
    }

    #[test]
    fn the_first_place_of_an_interval_starts_inside() {
        for micros in [0, 1, 59_999_999, 60_000_000, 60_000_001, -1, -60_000_000] {
            let time = Time::from_micros(micros);
            let place = Grain::Minute.place_from(time);
            assert!(Grain::Minute.start(place) >= time && Grain::Minute.start(place - 1) < time, "{micros}");
        }
    }
}
