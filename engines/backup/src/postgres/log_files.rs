//! The log of a restore: its files put together from pieces, and the commit found that is the last one before the instant.
//!
//! The instant ends before the first commit, in the order of the log, that was made at it or later. Commits take their time a little
//! before their place, so that the order of times is not quite that of places; but whoever was told before the instant that they have
//! committed has their place before such a commit, and whoever began at the instant or later has theirs behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use event::{Span, Time};

use super::Lsn;
use super::records::{NotALog, Record, Records};
use crate::database::{Commit, DatabaseError};
use crate::owner::Owner;

/// Name of the file that holds the segment in which `at` is.
fn segment_name(timeline: u32, at: Lsn, segment_bytes: u64) -> String {
    let (number, of_high) = (at.0 / segment_bytes, (1u64 << 32) / segment_bytes);
    format!("{timeline:08X}{:08X}{:08X}", number / of_high, number % of_high)
}

/// Writes files of a log into a folder.
#[derive(Debug)]
pub(super) struct LogFiles {
    folder: PathBuf,
    owner: Owner,
    segment_bytes: u64,
    /// The file that is written to: its timeline, where its segment begins, and itself.
    open: Option<(u32, Lsn, File)>,
}

impl LogFiles {
    pub(super) fn new(folder: &Path, owner: Owner, segment_bytes: u64) -> Self {
        Self { folder: folder.to_owned(), owner, segment_bytes, open: None }
    }

    fn path(&self, timeline: u32, at: Lsn) -> PathBuf {
        self.folder.join(segment_name(timeline, at, self.segment_bytes))
    }

    /// Writes bytes of the log of `timeline` from `at` on. They go on from those before.
    pub(super) fn write(&mut self, timeline: u32, mut at: Lsn, mut bytes: &[u8]) -> Result<(), DatabaseError> {
        while !bytes.is_empty() {
            let start = at.segment_start(self.segment_bytes);
            let path = self.path(timeline, at);
            let failed = |error| DatabaseError::Files { path: path.clone(), error };
            if self.open.as_ref().is_none_or(|(of, segment, _)| (*of, *segment) != (timeline, start)) {
                let file = self.begin(timeline, at, &path).map_err(failed)?;
                self.owner.give(&path)?;
                self.open = Some((timeline, start, file));
            }
            let Some((_, _, file)) = &self.open else { continue };
            let in_segment = at.0 - start.0;
            let room = usize::try_from(self.segment_bytes - in_segment).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            file.write_all_at(now, in_segment).map_err(failed)?;
            at = Lsn(at.0 + u64::try_from(now.len()).unwrap_or(0));
            bytes = later;
        }
        Ok(())
    }

    /// A file of the full length. On another timeline it begins with what the segment holds of the one before.
    fn begin(&self, timeline: u32, at: Lsn, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(self.segment_bytes)?;
        let start = at.segment_start(self.segment_bytes);
        if let Some((before, segment, _)) = &self.open
            && *before != timeline
            && *segment == start
        {
            let mut from = File::open(self.path(*before, start))?.take(at.0 - start.0);
            io::copy(&mut from, &mut &file)?;
        }
        Ok(file)
    }
}

/// A commit in the log, and the record of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Committed {
    pub(super) record: Record,
    pub(super) at: Time,
}

impl Committed {
    pub(super) fn commit(self) -> Commit {
        Commit { id: self.record.start.to_string(), at: self.at }
    }
}

/// Looks for the place of an instant.
#[derive(Debug)]
pub(super) struct Place {
    records: Records,
    instant: Time,
    /// What ends before is in the base, whatever its times say: the clock may have been set back before the base was taken.
    base: Lsn,
    /// The last commit before it.
    pub(super) last: Option<Committed>,
    /// The first commit at it or later: nothing from there on belongs to it.
    pub(super) next: Option<Committed>,
    /// The records before `next` that make a tablespace.
    pub(super) tablespaces: Vec<Lsn>,
    /// A commit behind `next` that claims to be of before the instant.
    pub(super) stray: Option<Time>,
}

/// How much later than the next one a commit may say that it was made: several are under way at once, and each takes its time before its
/// record is written. Whoever is told of the later record is told behind the instant.
const DISORDER_MAX: Span = Span::from_secs(1);

/// Whether a commit that stands behind the instant says that it was made before.
pub(super) fn is_stray(at: Time, instant: Time) -> bool {
    at + DISORDER_MAX < instant
}

impl Place {
    /// Looks for `instant`, from the byte `from` of the log on; the base holds what ends at `base` or before.
    pub(super) fn new(instant: Time, (from, base): (Lsn, Lsn), segment_bytes: u64) -> Self {
        Self {
            records: Records::starting_at(from, segment_bytes, None),
            instant,
            base,
            last: None,
            next: None,
            tablespaces: Vec::new(),
            stray: None,
        }
    }

    /// Reads on. `clock_ahead` is how far the clock that made the log was ahead of the one that the instant is of.
    pub(super) fn read(&mut self, bytes: &[u8], clock_ahead: Span) -> Result<(), NotALog> {
        let (instant, base, last, next) = (self.instant + clock_ahead, self.base, &mut self.last, &mut self.next);
        let (tablespaces, stray) = (&mut self.tablespaces, &mut self.stray);
        self.records.feed(bytes, |record| {
            if record.makes_tablespace && next.is_none() {
                tablespaces.push(record.start);
            }
            let Some(at) = record.commit else { return };
            if next.is_some() {
                if is_stray(at, instant) {
                    stray.get_or_insert(at - clock_ahead);
                }
                return;
            }
            let is_in = record.end <= base || at < instant;
            *(if is_in { &mut *last } else { &mut *next }) = Some(Committed { record, at });
        })
    }
}
