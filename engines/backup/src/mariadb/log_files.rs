//! The files of a binary log, put together of their pieces on the disk, and the transactions in them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use event::Time;

use super::base::BaseFacts;
use super::events::{self, GTID, Gtid, HEADER_BYTES, Header, MAGIC};
use super::mark::{self, Mark, Position, Window};
use super::waiting::{Facts, FileIdentity};
use crate::database::Commit;
use crate::sealed::{PieceName, unhex};

/// Bytes of a GTID event that are read: its header, its number and its domain.
const GTID_BYTES: usize = HEADER_BYTES + 8 + 4;

/// A file, as far as it is there.
#[derive(Clone, Debug)]
struct LogFile {
    identity: FileIdentity,
    end: u64,
}

/// The files of a log from the place of a base on.
#[derive(Debug)]
pub(super) struct LogFiles {
    folder: PathBuf,
    start: Position,
    first_event: Vec<u8>,
    files: BTreeMap<u32, LogFile>,
    marks: Vec<Mark>,
}

/// A transaction of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Transaction {
    /// Where it begins.
    pub(super) position: Position,
    pub(super) gtid: Gtid,
    /// The second in which its last statement began.
    pub(super) at: Time,
}

impl Transaction {
    pub(super) fn commit(&self) -> Commit {
        Commit { id: self.gtid.to_string(), at: self.at }
    }
}

/// Where the state of an instant ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// What lies before belongs to it.
    pub(super) position: Position,
    /// The last transaction that belongs to it, behind the base.
    pub(super) last: Option<Transaction>,
    /// The last number of each domain and server, behind the base.
    pub(super) reached: BTreeMap<(u32, u32), u64>,
}

fn other(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl LogFiles {
    /// The files that go on from a base, in an empty folder.
    pub(super) fn new(folder: &Path, base: &BaseFacts) -> io::Result<Self> {
        let first_event =
            unhex(&base.first_event).ok_or_else(|| other("the first event of the log is not hexadecimal".into()))?;
        let identity = base.file.clone();
        let files = [(base.position.file, LogFile { identity, end: 0 })].into();
        Ok(Self { folder: folder.to_owned(), start: base.position, first_event, files, marks: Vec::new() })
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        let name = self.files.get(&number).map(|file| file.identity.name.as_str());
        self.folder.join(name.unwrap_or_default())
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// It does not fit behind what is there, or is of another file of the same name; or the disk fails.
    pub(super) fn add(&mut self, name: &PieceName, facts: &Facts, bytes: &[u8]) -> io::Result<()> {
        if events::file_number(&facts.file.name) != Some(name.file) {
            return Err(other(format!("the piece {name} is of the file {}", facts.file.name)));
        }
        let before = self.files.last_key_value().map(|(number, file)| (*number, file.end));
        if let (Some((number, end)), None) = (before, self.files.get(&name.file)) {
            if name.start != 0 || number.checked_add(1) != Some(name.file) || facts.before != Some(end) {
                return Err(other(format!(
                    "the log has a gap between byte {end} of the file {number} and the piece {name}"
                )));
            }
            self.files.insert(name.file, LogFile { identity: facts.file.clone(), end: 0 });
        }
        let path = self.path(name.file);
        let Some(file) = self.files.get_mut(&name.file) else { return Ok(()) };
        if file.identity != facts.file {
            let began = facts.file.began_at;
            return Err(other(format!("the piece {name} is of a file that was begun at {began}, and is another one")));
        }
        let mut out = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        if file.end == 0 && name.start > 0 {
            // The base begins behind: what comes before it is the first event alone.
            if name.start > self.start.at {
                return Err(other(format!("the log begins behind the base, with the piece {name}")));
            }
            out.write_all(&[&MAGIC[..], &self.first_event].concat())?;
        } else if name.start > file.end {
            return Err(other(format!("the log has a gap before the piece {name}")));
        }
        out.seek(SeekFrom::Start(name.start))?;
        out.write_all(bytes)?;
        file.end = file.end.max(name.end);
        self.marks.extend(&facts.marks);
        Ok(())
    }

    /// Between which places the state of the instant ends, if the marks reach it. Marks long before are forgotten.
    pub(super) fn window(&mut self, to: Time) -> Option<Window> {
        let window = mark::window(&self.marks, to);
        if window.is_none() {
            let old = self.marks.len().saturating_sub(2 * mark::MARKS_MAX);
            self.marks.drain(..old);
        }
        window
    }

    /// Reads transactions from the base on.
    pub(super) fn transactions(&self) -> Transactions {
        Transactions { position: self.start, reader: None }
    }

    /// Bytes that are there from the base up to a place.
    pub(super) fn bytes_up_to(&self, position: Position) -> u64 {
        let of = |(number, file): (&u32, &LogFile)| {
            let from = if *number == self.start.file { self.start.at } else { 0 };
            let to = if *number == position.file { position.at } else { file.end };
            to.saturating_sub(from)
        };
        self.files.range(..=position.file).map(of).sum()
    }

    /// Cuts the log off at a place, and gives its files in order.
    pub(super) fn cut_at(&self, position: Position) -> io::Result<Vec<PathBuf>> {
        let numbers: Vec<u32> = self.files.range(..=position.file).map(|(number, _)| *number).collect();
        OpenOptions::new().write(true).open(self.path(position.file))?.set_len(position.at)?;
        Ok(numbers.into_iter().map(|number| self.path(number)).collect())
    }
}

/// Reads the transactions of a log, one after the other.
#[derive(Debug)]
pub(super) struct Transactions {
    /// The next event.
    position: Position,
    reader: Option<(u32, BufReader<File>)>,
}

impl Transactions {
    /// The next transaction; `None` where what is there ends. More may be added, and asked for again.
    pub(super) fn next(&mut self, files: &LogFiles) -> io::Result<Option<Transaction>> {
        loop {
            let Some(file) = files.files.get(&self.position.file) else { return Ok(None) };
            if self.position.at >= file.end {
                let next = self.position.file.saturating_add(1);
                if !files.files.contains_key(&next) {
                    return Ok(None);
                }
                self.position = Position { file: next, at: MAGIC.len() as u64 };
                continue;
            }
            let mut event = [0; GTID_BYTES];
            let there = file.end - self.position.at;
            let wanted = GTID_BYTES.min(usize::try_from(there).unwrap_or(GTID_BYTES));
            if wanted < HEADER_BYTES {
                return Ok(None);
            }
            let reader = self.reader(files)?;
            reader.read_exact(event.get_mut(..wanted).unwrap_or_default())?;
            let malformed =
                || other(format!("there is no event at byte {} of {}", self.position.at, file.identity.name));
            let header = Header::parse(&event).ok_or_else(malformed)?;
            let (position, size) = (self.position, u64::from(header.size));
            if header.kind == GTID && wanted < GTID_BYTES || size > there {
                // The rest of it may come yet.
                self.reader = None;
                return Ok(None);
            }
            self.position.at += size;
            if let Some((_, reader)) = &mut self.reader {
                let read = i64::try_from(wanted).unwrap_or(0);
                reader.seek_relative(i64::from(header.size) - read)?;
            }
            if header.kind == GTID {
                let gtid = Gtid::parse(&event).ok_or_else(|| other("a GTID is too short".into()))?;
                return Ok(Some(Transaction { position, gtid, at: header.at }));
            }
        }
    }

    fn reader(&mut self, files: &LogFiles) -> io::Result<&mut BufReader<File>> {
        let reader = match self.reader.take() {
            Some((number, reader)) if number == self.position.file => reader,
            _ => {
                let mut file = File::open(files.path(self.position.file))?;
                file.seek(SeekFrom::Start(self.position.at))?;
                BufReader::with_capacity(1024 * 1024, file)
            }
        };
        Ok(&mut self.reader.insert((self.position.file, reader)).1)
    }

    /// Finds where the state of the instant `to`, a full second, ends within the window, and the transaction behind it, if that is there.
    pub(super) fn cut(&mut self, files: &LogFiles, window: Window, to: Time) -> io::Result<(Cut, Option<Transaction>)> {
        let position = window.to.max(files.start);
        let mut cut = Cut { position, last: None, reached: BTreeMap::new() };
        while let Some(transaction) = self.next(files)? {
            let may_be_later = window.from.is_none_or(|from| from <= transaction.position);
            if transaction.position >= position || (may_be_later && transaction.at >= to) {
                cut.position = position.min(transaction.position);
                return Ok((cut, Some(transaction)));
            }
            let Gtid { domain, server, sequence } = transaction.gtid;
            cut.reached.insert((domain, server), sequence);
            cut.last = Some(transaction);
        }
        Ok((cut, None))
    }
}
