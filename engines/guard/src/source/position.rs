//! How far the logs are read, as a value that is stored with what was made of their lines.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use event::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::log_file::LogFile;

/// Bytes before an offset, and at the start of a file, that are remembered.
pub(super) const WINDOW: usize = 256;
/// Version of the format of [`Positions`].
const FORMAT: u32 = 1;

/// Some bytes of a file, to be known again: how many, and 128 bits of their SHA-256. The bytes themselves are somebody's
/// addresses and names, and are not stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Fingerprint {
    length: u32,
    sha256: String,
}

impl Fingerprint {
    /// Of at most the first [`WINDOW`] of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(WINDOW)];
        let digest = Sha256::digest(bytes);
        let sha256 = digest.iter().take(16).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Self { length: u32::try_from(bytes.len()).unwrap_or(u32::MAX), sha256 }
    }

    fn is_of_zeros(&self) -> bool {
        let zeros = [0; WINDOW];
        zeros.get(..self.length as usize).is_some_and(|zeros| Self::of(zeros) == *self)
    }

    /// Reads the bytes at `offset` of `file`, if they are the ones.
    fn read(&self, file: &File, offset: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.length).ok().filter(|length| *length <= WINDOW)?];
        file.read_exact_at(&mut bytes, offset).ok()?;
        (Self::of(&bytes) == *self).then_some(bytes)
    }
}

/// What a file is to its path.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The file at the path.
    Current,
    /// One that was there, and whose rest is being read.
    Rotated,
    /// One that was read to its end, or is gone: known again when it comes back under any name.
    Done,
}

/// How far one file is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Position {
    /// Path at which it was followed.
    pub path: String,
    /// What it is to that path.
    pub place: Place,
    /// Device of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
    /// Bytes read, from its start.
    pub offset: u64,
    /// Start of its first line; nothing while that is not complete.
    pub first: Option<Fingerprint>,
    /// The bytes before the offset.
    pub before: Fingerprint,
    /// The offset is within a line that was cut at the bound.
    pub within: bool,
    /// When it was last written, as far as it was read.
    pub modified: Time,
}

impl Position {
    /// Whether something of the file is known but its inode. Zeros tell nothing: every hole looks like that.
    pub(super) fn is_telling(&self) -> bool {
        self.offset > 0 && !self.before.is_of_zeros()
    }

    /// The bytes before the offset, when `file` has this position: the same first line, and the same bytes there.
    pub(super) fn before_in(&self, file: &File) -> Option<Vec<u8>> {
        if let Some(first) = &self.first {
            first.read(file, 0)?;
        }
        self.before.read(file, self.offset.checked_sub(u64::from(self.before.length))?)
    }

    /// Whether `file` is a copy of the file that ends before this position: one that was made while more was written, and read. The
    /// same first line says so, and that it is no younger than what was read: logs that begin alike come one after the other.
    pub(super) fn is_behind(&self, file: &LogFile) -> bool {
        let is_shorter = file.size().is_ok_and(|size| size < self.offset);
        let first = self.first.as_ref().filter(|first| !first.is_of_zeros());
        is_shorter && file.modified() <= self.modified && first.is_some_and(|first| first.read(&file.file, 0).is_some())
    }
}

/// How far everything is read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Positions {
    format: u32,
    /// Of the log files.
    pub files: Vec<Position>,
    /// Cursors in journals of systemd, by the names of these.
    pub journals: BTreeMap<String, String>,
}

impl Positions {
    /// Takes out what is known of the logs of which `is_log` says so by their paths, and `is_journal` by their names.
    pub(crate) fn take(&mut self, is_log: &dyn Fn(&str) -> bool, is_journal: &dyn Fn(&str) -> bool) -> Self {
        let files = self.files.extract_if(.., |position| is_log(&position.path)).collect();
        let journals = self.journals.extract_if(.., |name, _| is_journal(name)).collect();
        Self { files, journals, ..Self::default() }
    }

    /// Adds what is known of logs of which nothing is known here.
    pub(crate) fn add(&mut self, older: Self) {
        let is_place = |position: &&Position| position.place != Place::Done;
        let known: HashSet<String> = self.files.iter().filter(is_place).map(|position| position.path.clone()).collect();
        let is_new = |position: &Position| position.place == Place::Done || !known.contains(&position.path);
        self.files.extend(older.files.into_iter().filter(is_new));
        for (name, cursor) in older.journals {
            self.journals.entry(name).or_insert(cursor);
        }
    }

    /// How much it is.
    pub(crate) fn len(&self) -> usize {
        self.files.len() + self.journals.len()
    }
}

impl Default for Positions {
    fn default() -> Self {
        Self { format: FORMAT, files: Vec::new(), journals: BTreeMap::new() }
    }
}
