//! The events of a host, on its disk until the server has them.
//!
//! **Problem.** An agent goes on acting while its server is dead, restarts, or can't be reached for a day. What it did is to be
//! in the journal all the same, once. **Principle.** The spool is a [`Sink`]: what it has taken is on the disk. It keeps *groups*,
//! what was [taken](Sink::take) together, with a number each; they are read in their order, and deleted when the server has
//! acknowledged them. Delivered twice does no harm, for an event is known by (observer, boot, sequence).
//!
//! Files: segments, `<number of the first group>.segment`, each a run of records: length of the group in bytes (4 bytes, little
//! endian), CRC-32 of it (4 bytes), the group: a line of JSON ([`Sent`]) for each event. A record that a crash has cut off is
//! dropped when the spool is opened: nobody was told that it was taken.
//!
//! At the bound the oldest segment goes, and the spool remembers for each observer when something was [lost](DiskSpool::losses),
//! until somebody has journaled it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::{Clock, Interval, Observed, ObserverId, Sent, Span, Time};
use tokio::sync::watch;

use crate::files::{sync_folder, write_whole};
use crate::{EVENTS_MAX, Sink, StoreError, Taken};

/// Largest group, in bytes.
const GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes before each group.
const HEADER: u64 = 8;
const LOST: &str = "lost.json";

/// The bounds of a [`DiskSpool`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpoolBounds {
    /// Most bytes of all segments. At the bound the oldest segment is dropped.
    pub bytes_max: u64,
    /// Size from which a new segment is begun: what is dropped at once.
    pub segment_bytes: u64,
}

impl Default for SpoolBounds {
    /// 64 MiB in segments of 1 MiB: some 200,000 events.
    fn default() -> Self {
        Self { bytes_max: 64 * 1024 * 1024, segment_bytes: 1024 * 1024 }
    }
}

/// What a spool holds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SpoolState {
    /// Number of the next group that is taken.
    pub next: u64,
    /// Groups that wait.
    pub groups: u64,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Events lost at the bound since the spool was opened.
    pub lost: u64,
}

/// Groups read from a spool, to be delivered together.
#[derive(Clone, Debug)]
pub struct SpooledBatch {
    /// The number to [acknowledge](DiskSpool::acknowledge) once they are delivered: one more than that of the last group.
    pub through: u64,
    /// Their events, in order.
    pub events: Vec<Sent>,
}

/// Bytes from which on a delivered segment is emptied.
const FREED_FROM: u64 = 64 * 1024;

/// The spool of a host: see [`spool`](self).
pub struct DiskSpool {
    dir: PathBuf,
    bounds: SpoolBounds,
    clock: Arc<dyn Clock>,
    files: Mutex<Files>,
    changed: watch::Sender<SpoolState>,
}

/// A segment on the disk.
#[derive(Debug)]
struct Segment {
    first: u64,
    groups: u64,
    bytes: u64,
}

struct Files {
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    open: Option<File>,
    /// Groups below this were delivered, and may still be in the oldest segment.
    acknowledged: u64,
    /// Where in the oldest segment the group `acknowledged` begins, when it is known.
    cursor: Option<(u64, u64)>,
    losses: BTreeMap<ObserverId, Interval>,
    lost: u64,
    fault: Option<Time>,
    /// Another process has it.
    is_lent: bool,
    /// For good.
    is_given_away: bool,
}

impl DiskSpool {
    /// Opens the spool in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// The folder can't be made, read or written.
    pub fn open(dir: &Path, bounds: SpoolBounds, clock: Arc<dyn Clock>) -> io::Result<Arc<Self>> {
        let files = Files::read(dir)?;
        let changed = watch::Sender::new(files.state());
        Ok(Arc::new(Self { dir: dir.to_owned(), bounds, clock, changed, files: Mutex::new(files) }))
    }

    /// Leaves the spool to another process: from now on it takes nothing, and nothing is read or deleted here.
    pub fn lend(&self) {
        let mut files = self.lock();
        (files.is_lent, files.open) = (true, None);
    }

    /// Leaves it to the other process for good: what is recorded here from now on is passed over, for that one sees the same.
    pub fn give_away(&self) {
        self.lock().is_given_away = true;
    }

    /// Whether another process has it.
    pub fn is_lent(&self) -> bool {
        self.lock().is_lent
    }

    /// Has the spool back, as the other process has left it.
    ///
    /// # Errors
    /// The folder can't be read: it stays as good as lent.
    pub fn take_back(&self) -> io::Result<()> {
        let mut files = self.lock();
        let lost = files.lost;
        *files = Files { lost, ..Files::read(&self.dir)? };
        self.changed.send_replace(files.state());
        Ok(())
    }

    /// The state now, and whenever it changes.
    pub fn state(&self) -> watch::Receiver<SpoolState> {
        self.changed.subscribe()
    }

    /// The oldest groups that were not acknowledged: one at least, if there is one, and as many as have no more than these
    /// bytes together. Blocks for the disk.
    ///
    /// # Errors
    /// The disk can't be read, or its bytes are not those that were written: the segment is left, for somebody to look at.
    pub fn next(&self, bytes_max: usize) -> io::Result<Option<SpooledBatch>> {
        let mut files = self.lock();
        let files = &mut *files;
        if files.is_lent {
            return Ok(None);
        }
        let Some(segment) = files.segments.iter().find(|segment| segment.first + segment.groups > files.acknowledged)
        else {
            return Ok(None);
        };
        let mut file = File::open(segment_path(&self.dir, segment.first))?;
        let (mut number, mut at) = files.cursor.unwrap_or((segment.first, 0));
        if number < segment.first || number > files.acknowledged {
            (number, at) = (segment.first, 0);
        }
        file.seek(SeekFrom::Start(at))?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        let end = segment.first + segment.groups;
        while number < end {
            let length = length_of(&mut file)?;
            if number < files.acknowledged {
                file.seek_relative_checked(length)?;
            } else {
                bytes += length;
                if !events.is_empty() && (bytes > bytes_max || events.len() >= EVENTS_MAX) {
                    break;
                }
                if events.is_empty() {
                    files.cursor = Some((number, at));
                }
                let group = group_of(&mut file, length)?;
                if !events.is_empty() && events.len() + group.len() > EVENTS_MAX {
                    break;
                }
                events.extend(group);
            }
            at += HEADER + length as u64;
            number += 1;
        }
        Ok(Some(SpooledBatch { through: number, events }))
    }

    /// Forgets the groups below `through`: the server has them. Blocks for the disk.
    ///
    /// # Errors
    /// A segment can't be removed; it is delivered once more after a restart.
    pub fn acknowledge(&self, through: u64) -> io::Result<()> {
        let mut files = self.lock();
        if files.is_lent {
            return Ok(());
        }
        files.acknowledged = files.acknowledged.max(through.min(files.next()));
        let mut removed = Ok(());
        while let Some(segment) = files.segments.front()
            && segment.first + segment.groups <= files.acknowledged
            // The number of the next group is that of the segment that is written to: it stays while it is small.
            && (files.segments.len() > 1 || segment.bytes >= self.freed_from(&files))
        {
            let (first, after) = (segment.first, segment.first + segment.groups);
            if files.segments.len() == 1 {
                removed = self.empty(&mut files, first, after);
                break;
            }
            removed = fs::remove_file(segment_path(&self.dir, first));
            if removed.is_err() {
                break;
            }
            files.segments.pop_front();
            files.cursor = None;
        }
        self.changed.send_replace(files.state());
        removed
    }

    /// When events of which observer were lost at the bound, as far as nobody has [journaled](Self::forget) it.
    pub fn losses(&self) -> BTreeMap<ObserverId, Interval> {
        self.lock().losses.clone()
    }

    /// Forgets losses that are journaled. Those that have grown since stay.
    ///
    /// # Errors
    /// The disk takes nothing: they are said once more after a restart.
    pub fn forget(&self, journaled: &BTreeMap<ObserverId, Interval>) -> io::Result<()> {
        let mut files = self.lock();
        if files.is_lent {
            return Ok(());
        }
        files.losses.retain(|observer, interval| journaled.get(observer) != Some(interval));
        self.keep_losses(&files.losses)
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_losses(&self, losses: &BTreeMap<ObserverId, Interval>) -> io::Result<()> {
        write_whole(&self.dir.join(LOST), &serde_json::to_vec(losses)?, 0o600)
    }

    /// Appends one group durably.
    fn append(&self, group: &[u8], events: usize) -> io::Result<()> {
        let mut files = self.lock();
        if files.is_given_away {
            return Ok(());
        }
        if files.is_lent {
            return Err(io::Error::other("another process has it"));
        }
        let record = HEADER + group.len() as u64;
        while files.bytes() + record > self.bounds.bytes_max && !files.segments.is_empty() {
            self.drop_oldest(&mut files)?;
        }
        let full = files.segments.back().is_none_or(|segment| segment.bytes >= self.bounds.segment_bytes);
        if full {
            let next = files.next();
            self.begin(&mut files, next)?;
        }
        let path = files.segments.back().map(|segment| segment_path(&self.dir, segment.first)).unwrap_or_default();
        let length = files.segments.back().map_or(0, |segment| segment.bytes);
        let file = match files.open.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).open(&path)?,
        };
        let written = write_record(&file, group);
        if let Err(error) = written {
            // Half a record is cut off again: what follows would not be found behind it.
            file.set_len(length)?;
            return Err(error);
        }
        files.open = Some(file);
        if let Some(segment) = files.segments.back_mut() {
            segment.groups += 1;
            segment.bytes += record;
        }
        tracing::trace!(events, "spooled");
        self.changed.send_replace(files.state());
        Ok(())
    }

    /// Begins a segment whose first group is `first`.
    fn begin(&self, files: &mut Files, first: u64) -> io::Result<()> {
        let path = segment_path(&self.dir, first);
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        sync_folder(&path)?;
        files.open = Some(open);
        files.segments.push_back(Segment { first, groups: 0, bytes: 0 });
        Ok(())
    }

    /// From how many bytes on the segment that is written to is emptied once all of it is delivered: to do so costs two writes. At
    /// once where the disk takes nothing.
    fn freed_from(&self, files: &Files) -> u64 {
        if files.fault.is_some() { 1 } else { FREED_FROM.min(self.bounds.segment_bytes) }
    }

    /// Empties the only segment, all of which is delivered, and has the next group begin in it. A full disk may have no room for
    /// another one beside it. After a crash in between, its groups are delivered once more.
    fn empty(&self, files: &mut Files, first: u64, after: u64) -> io::Result<()> {
        files.open = None;
        files.cursor = None;
        let (before, path) = (segment_path(&self.dir, first), segment_path(&self.dir, after));
        fs::rename(before, &path)?;
        // Until it is empty, they are its groups still.
        files.segments.iter_mut().for_each(|segment| segment.first = after);
        let open = OpenOptions::new().append(true).open(&path)?;
        open.set_len(0)?;
        files.segments = VecDeque::from([Segment { first: after, groups: 0, bytes: 0 }]);
        open.sync_all()?;
        sync_folder(&path)?;
        files.open = Some(open);
        Ok(())
    }

    /// Drops the oldest segment, and remembers when its events were seen.
    fn drop_oldest(&self, files: &mut Files) -> io::Result<()> {
        let Some(segment) = files.segments.front() else { return Ok(()) };
        let (first, next) = (segment.first, segment.first + segment.groups);
        let path = segment_path(&self.dir, first);
        let mut file = File::open(&path)?;
        let mut losses = files.losses.clone();
        let mut lost = 0;
        for number in first..next {
            let length = length_of(&mut file)?;
            let group = group_of(&mut file, length)?;
            if number < files.acknowledged {
                continue;
            }
            for event in group {
                lost += 1;
                let gap = Interval::new(event.observed_at, event.observed_at + Span::from_micros(1));
                let known = losses.entry(event.observer).or_insert(gap);
                *known = Interval::new(known.start.min(gap.start), known.end.max(gap.end));
            }
        }
        self.keep_losses(&losses)?;
        if files.segments.len() == 1 {
            files.open = None;
            self.begin(files, next)?;
        }
        fs::remove_file(&path)?;
        files.segments.pop_front();
        (files.cursor, files.losses) = (None, losses);
        files.acknowledged = files.acknowledged.max(next);
        files.lost += lost;
        tracing::error!(events = lost, "the spool is at its bound: the oldest events are lost");
        Ok(())
    }

    fn refused(&self, error: &io::Error) -> StoreError {
        let since = *self.lock().fault.get_or_insert_with(|| self.clock.now());
        let reason = format!("the spool {} takes nothing: {error}", self.dir.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { since, reason },
            _ => StoreError::Unavailable { since, reason },
        }
    }
}

impl Files {
    /// What is in the folder, which is made where it is missing.
    fn read(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A link would lead to a file of somebody else, whose end is cut off where it is no record.
            if !entry.file_type()?.is_file() {
                tracing::warn!(path = %entry.path().display(), "it is no file, and does not belong into a spool: passed over");
                continue;
            }
            let name = entry.file_name();
            let first: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(".segment")).and_then(|n| n.parse().ok());
            firsts.extend(first);
        }
        firsts.sort_unstable();
        let mut segments = VecDeque::new();
        for first in firsts {
            let (groups, bytes) = sound(&segment_path(dir, first))?;
            segments.push_back(Segment { first, groups, bytes });
        }
        let losses = match fs::read(dir.join(LOST)) {
            // One that can't be read is one that was never whole: it is written at once.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let acknowledged = segments.front().map_or(0, |segment: &Segment| segment.first);
        Ok(Self {
            segments,
            open: None,
            acknowledged,
            cursor: None,
            losses,
            lost: 0,
            fault: None,
            is_lent: false,
            is_given_away: false,
        })
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn next(&self) -> u64 {
        self.segments.back().map_or(self.acknowledged, |segment| segment.first + segment.groups)
    }

    fn state(&self) -> SpoolState {
        let next = self.next();
        SpoolState { next, groups: next - self.acknowledged, bytes: self.bytes(), lost: self.lost }
    }
}

#[async_trait]
impl Sink for Arc<DiskSpool> {
    async fn take(&self, events: Vec<Observed>) -> Result<Taken, StoreError> {
        if events.len() > EVENTS_MAX {
            let (size, max) = (events.len() as u64, EVENTS_MAX as u64);
            return Err(StoreError::TooLarge { what: "a group of events", size, max });
        }
        let count = events.len();
        let mut group = Vec::new();
        for event in events {
            // Every field serialises: strings, integers and JSON that was already valid.
            serde_json::to_writer(&mut group, &Sent::from(event))
                .map_err(|error| StoreError::Malformed { what: "envelope", reason: error.to_string() })?;
            group.push(b'\n');
        }
        if group.len() > GROUP_BYTES_MAX {
            let (size, max) = (group.len() as u64, GROUP_BYTES_MAX as u64);
            return Err(StoreError::TooLarge { what: "a group of events", size, max });
        }
        let spool = Self::clone(self);
        let taken = tokio::task::spawn_blocking(move || {
            let appended = spool.append(&group, count);
            match &appended {
                Ok(()) => spool.lock().fault = None,
                Err(error) => return Err(spool.refused(error)),
            }
            Ok(Taken::Spooled)
        });
        taken.await.map_err(|_| StoreError::Closed)?
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.segment"))
}

fn write_record(mut file: &File, group: &[u8]) -> io::Result<()> {
    let length = u32::try_from(group.len()).map_err(io::Error::other)?;
    let mut record = Vec::with_capacity(group.len() + 8);
    record.extend(length.to_le_bytes());
    record.extend(crc32fast::hash(group).to_le_bytes());
    record.extend(group);
    file.write_all(&record)?;
    file.sync_data()
}

fn length_of(file: &mut File) -> io::Result<usize> {
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > GROUP_BYTES_MAX { Err(damaged("a record is longer than any that is written")) } else { Ok(length) }
}

/// The bytes of a group, and whether they are those that were written. The file stands behind the length.
fn bytes_of(file: &mut File, length: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut sum = [0; 4];
    file.read_exact(&mut sum)?;
    let mut group = vec![0; length];
    file.read_exact(&mut group)?;
    let is_sound = crc32fast::hash(&group) == u32::from_le_bytes(sum);
    Ok((group, is_sound))
}

fn group_of(file: &mut File, length: usize) -> io::Result<Vec<Sent>> {
    let (group, is_sound) = bytes_of(file, length)?;
    if !is_sound {
        return Err(damaged("the bytes of a record are not those that were written"));
    }
    let lines = group.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| damaged(&error.to_string()))).collect()
}

fn damaged(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a segment of the spool is damaged: {how}"))
}

/// How many groups of a segment are whole, and how many bytes they are. What a crash has left behind them is cut off.
fn sound(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let whole = file.metadata()?.len();
    let (mut groups, mut bytes) = (0, 0);
    while bytes + HEADER <= whole {
        let Ok(length) = length_of(&mut file) else { break };
        if bytes + HEADER + length as u64 > whole || !bytes_of(&mut file, length)?.1 {
            break;
        }
        groups += 1;
        bytes += HEADER + length as u64;
    }
    if bytes < whole {
        tracing::warn!(
            segment = %path.display(), bytes = whole - bytes, "what a crash left at the end of the spool is dropped"
        );
        file.set_len(bytes)?;
        file.sync_all()?;
    }
    Ok((groups, bytes))
}

/// Passing over a group that is not wanted.
trait SeekRelative {
    fn seek_relative_checked(&mut self, length: usize) -> io::Result<()>;
}

impl SeekRelative for File {
    fn seek_relative_checked(&mut self, length: usize) -> io::Result<()> {
        let over = i64::try_from(length + 4).map_err(io::Error::other)?;
        self.seek(SeekFrom::Current(over)).map(drop)
    }
}

#[cfg(test)]
mod tests;
