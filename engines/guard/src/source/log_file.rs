//! One open log file, and how far it is read.
//!
//! Each read starts [`WINDOW`] bytes before the offset and compares them with what was there: a file that was truncated and has
//! grown past the offset again is not taken for the same, whatever its size and times say, and nothing can change in between
//! because it is one read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use event::{Monotonic, Time};

use super::position::{Fingerprint, Place, Position, WINDOW};
use super::tail::Batch;

/// Which file it is, whatever it is called. An inode is given to another file when it is free: while a file is open it is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    pub(super) identity: Identity,
    pub(super) offset: u64,
    /// The bytes before the offset.
    recent: Vec<u8>,
    first: Option<Fingerprint>,
    within: bool,
    modified: Time,
    /// Since when nothing came from a file that is no longer at its path; nothing while it is.
    pub(super) silent_since: Option<Monotonic>,
    /// The rest of a log that was truncated: its last line has an end, or is not whole.
    pub(super) is_copy: bool,
    /// Directory that it really is in, where its rotated siblings are.
    pub(super) directory: PathBuf,
}

/// Why reading ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// At the end, or before a line that has no end yet.
    End,
    /// The batch is full.
    Full,
    /// What was read is no longer in the file.
    Truncated,
}

impl LogFile {
    /// Opens a regular file, from its start. `InvalidInput` says that it is none.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A named pipe without a writer must not hold anything up.
        let file = OpenOptions::new().read(true).custom_flags(libc_nonblock()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
        }
        let directory = path.canonicalize().ok().and_then(|real| real.parent().map(Path::to_path_buf));
        Ok(Self {
            identity: Identity::of(&metadata),
            modified: modified(&metadata),
            file,
            offset: 0,
            recent: Vec::new(),
            first: None,
            within: false,
            silent_since: None,
            is_copy: false,
            directory: directory.unwrap_or_else(|| path.parent().unwrap_or(Path::new("/")).to_path_buf()),
        })
    }

    /// Goes on from `position`, if the file has it.
    pub(super) fn resume(&mut self, position: &Position) -> bool {
        let Some(before) = position.before_in(&self.file) else { return false };
        self.recent = before;
        self.offset = position.offset;
        self.first.clone_from(&position.first);
        self.within = position.within;
        true
    }

    /// Goes on behind the last whole line, without reading what is before it.
    pub(super) fn seek_to_end(&mut self) -> io::Result<()> {
        let end = self.size()?;
        self.seek(end)?;
        let line_start = self.recent.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if line_start > 0 {
            self.seek(end - (self.recent.len() - line_start) as u64)?;
        }
        Ok(())
    }

    /// Goes on at `offset`, which is the start of a line.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        let length = offset.min(WINDOW as u64);
        let mut recent = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut recent, offset - length)?;
        let mut start = vec![0; WINDOW];
        let read = self.file.read_at(&mut start, 0)?;
        self.note_first(&start[..read]);
        (self.recent, self.offset, self.within) = (recent, offset, false);
        Ok(())
    }

    /// Forgets what was read: the file starts anew.
    pub(super) fn restart(&mut self) {
        (self.offset, self.first, self.within) = (0, None, false);
        self.recent.clear();
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// When it was last written, as far as it was read.
    pub(super) const fn modified(&self) -> Time {
        self.modified
    }

    /// Whether it has no name any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Its position, for `path`.
    pub(super) fn position(&self, path: &str, place: Place) -> Position {
        Position {
            path: path.to_owned(),
            place,
            device: self.identity.device,
            inode: self.identity.inode,
            offset: self.offset,
            first: self.first.clone(),
            before: Fingerprint::of(&self.recent),
            within: self.within,
            modified: self.modified,
        }
    }

    /// Reads whole lines into `batch`, with `buffer` to read into, until its end or until the batch is full.
    pub(super) fn read(&mut self, batch: &mut Batch, slot: u32, buffer: &mut [u8]) -> io::Result<Outcome> {
        loop {
            if batch.is_full() {
                return Ok(Outcome::Full);
            }
            let kept = self.recent.len();
            let read = read_at(&self.file, buffer, self.offset - kept as u64)?;
            if read < kept || buffer[..kept] != self.recent {
                return Ok(Outcome::Truncated);
            }
            let data = &buffer[kept..read];
            if data.is_empty() {
                return Ok(Outcome::End);
            }
            if self.offset == 0 {
                self.note_first(data);
            }
            if !self.within && data.iter().all(|byte| *byte == 0) && self.skip_hole()? {
                continue;
            }
            let consumed = self.take(batch, slot, data);
            if consumed == 0 {
                return Ok(Outcome::End);
            }
            let end = kept + consumed;
            self.recent = buffer[end.saturating_sub(WINDOW)..end].to_vec();
            self.offset += consumed as u64;
            batch.charge(consumed);
            self.modified = self.file.metadata().map_or(self.modified, |metadata| modified(&metadata));
        }
    }

    /// The last line, which has no end: to be taken as one when nothing will follow it.
    pub(super) fn finish(&mut self, batch: &mut Batch, slot: u32, buffer: &mut [u8]) -> io::Result<()> {
        let kept = self.recent.len();
        let read = read_at(&self.file, buffer, self.offset - kept as u64)?;
        if self.is_copy || self.within || read <= kept || buffer[..kept] != self.recent {
            return Ok(());
        }
        let data = &buffer[kept..read];
        batch.push(slot, data, self.offset + data.len() as u64, false);
        self.recent = buffer[read.saturating_sub(WINDOW)..read].to_vec();
        self.offset += data.len() as u64;
        Ok(())
    }

    /// Takes the lines of `data`, which follows the offset, and says how many bytes that were.
    fn take(&mut self, batch: &mut Batch, slot: u32, data: &[u8]) -> usize {
        let mut consumed = 0;
        while consumed < data.len() && !batch.is_full() {
            let rest = &data[consumed..];
            if !self.within && rest[0] == 0 {
                consumed += rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
                continue;
            }
            let end = memchr::memchr(b'\n', rest);
            let length = end.unwrap_or(rest.len());
            let is_cut = length > batch.line_max();
            if end.is_none() && !is_cut && !self.within {
                break;
            }
            consumed += end.map_or(length, |end| end + 1);
            if !self.within {
                batch.push(slot, &rest[..length.min(batch.line_max())], self.offset + consumed as u64, is_cut);
            }
            self.within = end.is_none();
        }
        consumed
    }

    /// Goes to where the data is. A writer that does not append goes on at its old offset after its file was truncated, and leaves
    /// a hole before it, as large as the log was.
    fn skip_hole(&mut self) -> io::Result<bool> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.offset)) {
            Ok(data) if data > self.offset => self.seek(data).map(|()| true),
            // Zeros that somebody wrote, or a hole without anything behind it yet.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    fn note_first(&mut self, start: &[u8]) {
        let start = &start[..start.len().min(WINDOW)];
        match memchr::memchr(b'\n', start) {
            Some(end) => self.first = Some(Fingerprint::of(&start[..=end])),
            None if start.len() == WINDOW => self.first = Some(Fingerprint::of(start)),
            None => self.first = None,
        }
    }

    /// Whether `other`, shorter than what was read here, is a copy of it that is still being made; nothing when this file is not
    /// what it was.
    pub(super) fn is_start_of_this(&self, other: &Self) -> Option<bool> {
        let mut before = vec![0; self.recent.len()];
        self.file.read_exact_at(&mut before, self.offset - self.recent.len() as u64).ok()?;
        if before != self.recent {
            return None;
        }
        let size = other.size().ok()?;
        let window = usize::try_from(size.min(WINDOW as u64)).ok()?;
        let (mut ours, mut theirs) = (vec![0; window], vec![0; window]);
        for offset in [0, size - window as u64] {
            self.file.read_exact_at(&mut ours, offset).ok()?;
            if other.file.read_exact_at(&mut theirs, offset).is_err() || ours != theirs {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn libc_nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0)
}

pub(super) fn modified(metadata: &std::fs::Metadata) -> Time {
    Time::from_micros(metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1000))
}
