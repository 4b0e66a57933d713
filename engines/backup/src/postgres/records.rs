//! The records of a write-ahead log, told apart while its bytes go by: where each ends, and which of them commit.
//!
//! **Problem.** A second that was asked for has to become a place in the log, and a piece of log is best cut between two records.
//! The programs of PostgreSQL that read its log want whole files, and the version that wrote them.
//! **Principle.** What that takes has been the same since PostgreSQL 9.5: blocks (pages) of 8 KiB with a header (`xlog_internal.h`), records
//! with their length, their kind and the place of the record before (`xlogrecord.h`), and the instant at the start of a commit
//! (`xact.h`). Each record must name the one before it, so that a log that is not the continuation of another is noticed.
//! Numbers are little-endian, as on every machine that this release is built for.

use event::Time;

use super::Lsn;

/// Size of a block of the log. Another one is a matter of compiling the server.
pub(super) const BLOCK_BYTES: u64 = 8192;
/// Header of a block, and of the first block of a segment.
const SHORT_HEADER_BYTES: u64 = 24;
const LONG_HEADER_BYTES: u64 = 40;
/// Header of a record.
const RECORD_HEADER_BYTES: usize = 24;
/// How much of a record is looked at: its header, an origin, a transaction above, the header of its data, an instant and four bytes
/// behind it; or the header of its first block, with that of an image, and the file that it is in.
const KEPT_BYTES: usize = RECORD_HEADER_BYTES + 3 + 5 + 5 + 8 + 4;
/// Flags of a block: it begins inside a record; it is the first of a segment.
const IS_CONTINUED: u16 = 1;
const IS_LONG: u16 = 2;
/// Managers of resources (`rmgrlist.h`), and the kinds of their records that matter here.
const MANAGER_XLOG: u8 = 0;
const MANAGER_TRANSACTIONS: u8 = 1;
const MANAGER_TABLESPACES: u8 = 5;
const SWITCH: u8 = 0x40;
const CHECKPOINT_OF_A_STOP: u8 = 0x00;
const CREATE: u8 = 0x00;
const COMMIT: u8 = 0x00;
const COMMIT_PREPARED: u8 = 0x30;
const KIND_OF_TRANSACTION: u8 = 0x70;
const MANAGER_HEAP_2: u8 = 9;
const MANAGER_HEAP: u8 = 10;
/// A commit says more behind its instant; of that, that files are dropped.
const HAS_INFO: u8 = 0x80;
const DROPS_FILES: u64 = 1 << 2;
/// The header of a block says that an image of the block follows, whose header is longer where it is compressed and has a hole.
const HAS_IMAGE: u8 = 0x10;
const HAS_HOLE: u8 = 0x01;
const IS_COMPRESSED: u8 = 0x04 | 0x08 | 0x10;
/// Marks in front of what a record holds.
const ORIGIN: u8 = 253;
const TRANSACTION_ABOVE: u8 = 252;
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
/// 2000-01-01T00:00:00Z, from which PostgreSQL counts, in µs after 1970.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A record that has gone by whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// Where it begins, as PostgreSQL names it: behind the header of its block.
    pub(super) start: Lsn,
    /// Where the next one begins, or the header in front of it.
    pub(super) end: Lsn,
    /// The instant of the commit, if it is one.
    pub(super) commit: Option<Time>,
    /// Whether whoever replays it makes a tablespace, at the path that it had where it was written.
    pub(super) makes_tablespace: bool,
    /// Whether it is the checkpoint with which a server ends that stops in good order: nothing comes behind it until the next start.
    pub(super) is_stop: bool,
    /// The transaction that it belongs to; 0 for none.
    pub(super) transaction: u32,
    /// What it does to a table.
    pub(super) change: Option<Change>,
}

/// What a record does to a table, or all of them at its commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// A row, or several of one block.
    Inserts(Relation),
    /// A row.
    Updates(Relation),
    /// A row.
    Deletes(Relation),
    /// Files of tables and indexes go with the commit.
    DropsFiles,
}

/// The file that holds a table: the numbers of its database and of itself (`pg_relation_filenode`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Relation {
    pub(super) database: u32,
    pub(super) file: u32,
}

/// The bytes are not those of a log that goes on from where it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the write-ahead log is not one that this release can read, or does not go on from what was before, at {at}: {what}"
)]
pub(super) struct NotALog {
    /// Where.
    pub(super) at: Lsn,
    what: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The next block says where the next record begins.
    Lost,
    /// A record begins here.
    Between,
    /// In the header of a record.
    InHeader,
    /// In a record, which has so many bytes left.
    Inside { left: u64, is_whole: bool },
    /// Behind a record, so many bytes before the next.
    Behind { left: u64, record: Option<Record> },
    /// Nothing more comes in this segment.
    Skipping,
}

/// Reads records.
#[derive(Clone, Debug)]
pub(super) struct Records {
    segment_bytes: u64,
    at: u64,
    state: State,
    block_header: Vec<u8>,
    /// The first bytes of the record that is being read, and where it begins.
    kept: Vec<u8>,
    start: u64,
    /// The last whole record.
    previous: Option<Lsn>,
    boundary: Boundary,
    goes_on: bool,
}

/// A place at which reading may begin again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Boundary {
    /// Where: the end of a record, or the start of a block at which a record begins or nothing more comes.
    pub(super) at: Lsn,
    /// The last whole record before it, where it is known.
    pub(super) previous: Option<Lsn>,
}

impl Records {
    /// Reads from `at`: the start of a block, or of a record. `previous` is the record before, where it is known.
    pub(super) fn starting_at(at: Lsn, segment_bytes: u64, previous: Option<Lsn>) -> Self {
        let state = if at.0.is_multiple_of(BLOCK_BYTES) { State::Lost } else { State::Between };
        Self {
            segment_bytes,
            at: at.0,
            state,
            block_header: Vec::with_capacity(40),
            kept: Vec::with_capacity(KEPT_BYTES),
            start: at.0,
            previous,
            boundary: Boundary { at, previous },
            goes_on: previous.is_none(),
        }
    }

    /// The last place up to which all records are whole.
    pub(super) const fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// Whether a record has named the one that was given as the one before; true where none was given.
    pub(super) const fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Whether what goes by now only fills up a segment that was ended early: no record is in it.
    pub(super) fn is_skipping(&self) -> bool {
        self.state == State::Skipping
    }

    /// Reads what comes next, and tells of each record that is whole.
    ///
    /// # Errors
    /// Those bytes are no log, or another one.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Record)) -> Result<(), NotALog> {
        while !bytes.is_empty() {
            let in_block = self.at % BLOCK_BYTES;
            let header_bytes = self.header_bytes();
            if in_block < header_bytes {
                let taken = self.take(&mut bytes, header_bytes - in_block);
                self.block_header.extend(taken);
                if self.at % BLOCK_BYTES == header_bytes {
                    self.block()?;
                    self.block_header.clear();
                }
                continue;
            }
            let room = BLOCK_BYTES - in_block;
            match self.state {
                State::Lost => return Err(self.wrong("reading does not begin at a block")),
                State::Skipping => {
                    self.take(&mut bytes, room);
                    if self.at.is_multiple_of(BLOCK_BYTES) {
                        self.mark();
                    }
                }
                State::Between => {
                    self.start = self.at;
                    self.kept.clear();
                    self.state = State::InHeader;
                }
                State::InHeader => {
                    let missing = RECORD_HEADER_BYTES - self.kept.len();
                    let taken = self.take(&mut bytes, room.min(to_u64(missing)));
                    self.kept.extend(taken);
                    if self.kept.len() == RECORD_HEADER_BYTES {
                        let left = self.length()?.checked_sub(to_u64(RECORD_HEADER_BYTES));
                        let left = left.ok_or_else(|| self.wrong("a record is shorter than its header"))?;
                        if self.previous.is_some_and(|previous| previous.0 != number::<8>(&self.kept, 8)) {
                            return Err(self.wrong("a record does not name the one before it"));
                        }
                        self.goes_on = true;
                        self.inside(left, true, &mut found);
                    }
                }
                State::Inside { left, is_whole } => {
                    let taken = self.take(&mut bytes, room.min(left));
                    let kept = taken.get(..KEPT_BYTES.saturating_sub(self.kept.len())).unwrap_or(taken);
                    self.kept.extend(kept);
                    self.inside(left - to_u64(taken.len()), is_whole, &mut found);
                }
                State::Behind { left, record } => {
                    let taken = self.take(&mut bytes, left);
                    self.behind(left - to_u64(taken.len()), record, &mut found);
                }
            }
        }
        Ok(())
    }

    fn take<'a>(&mut self, bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
        let length = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let (taken, rest) = bytes.split_at(length);
        self.at += to_u64(length);
        *bytes = rest;
        taken
    }

    fn header_bytes(&self) -> u64 {
        let block = self.at - self.at % BLOCK_BYTES;
        if block.is_multiple_of(self.segment_bytes) { LONG_HEADER_BYTES } else { SHORT_HEADER_BYTES }
    }

    fn wrong(&self, what: &'static str) -> NotALog {
        NotALog { at: Lsn(self.at), what }
    }

    /// The whole length of the record, which its first bytes say.
    fn length(&self) -> Result<u64, NotALog> {
        match self.kept.get(..4) {
            Some(length) => Ok(number::<4>(length, 0)),
            None => Err(self.wrong("the length of a record is on two blocks")),
        }
    }

    /// The header of a block is there.
    fn block(&mut self) -> Result<(), NotALog> {
        let block = self.at - self.at % BLOCK_BYTES;
        let is_first = block.is_multiple_of(self.segment_bytes);
        let header = &self.block_header;
        let (magic, flags) = (number::<2>(header, 0), number::<2>(header, 2));
        let (address, continued_bytes) = (number::<8>(header, 8), number::<4>(header, 16));
        if self.state == State::Skipping && !is_first {
            return Ok(());
        }
        if magic == 0 && address == 0 && self.state == State::Lost && !is_first {
            // Behind the record that ends a segment early.
            self.state = State::Skipping;
            return Ok(());
        }
        let is_flagged = |flag: u16| flags & u64::from(flag) != 0;
        if address != block || is_flagged(IS_LONG) != is_first {
            return Err(self.wrong("a block is that of another place"));
        }
        if is_first && (number::<4>(header, 32) != self.segment_bytes || number::<4>(header, 36) != BLOCK_BYTES) {
            return Err(self.wrong("segments or blocks have another size"));
        }
        let is_continued = is_flagged(IS_CONTINUED);
        self.state = match self.state {
            State::Lost if is_continued && self.previous.is_none() => {
                State::Inside { left: continued_bytes, is_whole: false }
            }
            State::InHeader if is_continued => {
                if self.length()? != continued_bytes + to_u64(self.kept.len()) {
                    return Err(self.wrong("a record goes on with another length"));
                }
                State::InHeader
            }
            State::Inside { left, is_whole } if is_continued => {
                if left != continued_bytes {
                    return Err(self.wrong("a record goes on with another length"));
                }
                State::Inside { left, is_whole }
            }
            _ if is_continued => return Err(self.wrong("a record goes on that has not begun")),
            // A record that is not continued was given up: the server crashed while it was written.
            _ => State::Between,
        };
        if self.state == State::Between {
            self.boundary = Boundary { at: Lsn(block), previous: self.previous };
        }
        Ok(())
    }

    /// So much of a record is left.
    fn inside(&mut self, left: u64, is_whole: bool, found: &mut impl FnMut(Record)) {
        if left > 0 {
            self.state = State::Inside { left, is_whole };
            return;
        }
        let (start, end) = (Lsn(self.start), self.at.next_multiple_of(8));
        let is_switch = is_whole && self.kept[17] == MANAGER_XLOG && self.kept[16] & 0xf0 == SWITCH;
        self.previous = is_whole.then_some(start);
        if is_switch {
            let end = Lsn(self.at.next_multiple_of(self.segment_bytes));
            let (commit, change) = (None, None);
            found(Record { start, end, commit, makes_tablespace: false, is_stop: false, transaction: 0, change });
            self.state = State::Skipping;
            if self.at.is_multiple_of(BLOCK_BYTES) {
                self.mark();
            }
            return;
        }
        let makes_tablespace = self.kept[17] == MANAGER_TABLESPACES && self.kept[16] & 0xf0 == CREATE;
        let record = is_whole.then(|| Record {
            start,
            end: Lsn(end),
            commit: commit(&self.kept),
            makes_tablespace,
            is_stop: self.kept[17] == MANAGER_XLOG && self.kept[16] & 0xf0 == CHECKPOINT_OF_A_STOP,
            transaction: u32::try_from(number::<4>(&self.kept, 4)).unwrap_or(0),
            change: change(&self.kept),
        });
        self.behind(end - self.at, record, found);
    }

    /// So much of what fills up a record is left.
    fn behind(&mut self, left: u64, record: Option<Record>, found: &mut impl FnMut(Record)) {
        if left > 0 {
            self.state = State::Behind { left, record };
            return;
        }
        self.state = State::Between;
        self.mark();
        if let Some(record) = record {
            found(record);
        }
    }

    fn mark(&mut self) {
        self.boundary = Boundary { at: Lsn(self.at), previous: self.previous };
    }
}

/// The instant of a record that commits, of which `record` are the first bytes.
fn commit(record: &[u8]) -> Option<Time> {
    let data = data_of_commit(record)?;
    let micros = i64::from_le_bytes(record.get(data..data + 8)?.try_into().ok()?);
    Some(Time::from_micros(micros.saturating_add(EPOCH_MICROS)))
}

/// What a record does to a table, as far as its first bytes say (`heapam_xlog.h`, `xlogrecord.h`, `xact.h`).
fn change(record: &[u8]) -> Option<Change> {
    let info = *record.get(16)?;
    let change = match (*record.get(17)?, info & 0x70) {
        (MANAGER_TRANSACTIONS, _) if info & HAS_INFO != 0 => {
            let data = data_of_commit(record)?;
            return (number::<4>(record, data + 8) & DROPS_FILES != 0).then_some(Change::DropsFiles);
        }
        (MANAGER_HEAP, 0x00) | (MANAGER_HEAP_2, 0x50) => Change::Inserts,
        (MANAGER_HEAP, 0x10) => Change::Deletes,
        (MANAGER_HEAP, 0x20 | 0x40) => Change::Updates,
        _ => return None,
    };
    // Number of the block, flags, length of its data; then the header of an image; then the file: tablespace, database, file.
    let mut at = RECORD_HEADER_BYTES;
    let (block, flags) = (*record.get(at)?, *record.get(at + 1)?);
    at += 4;
    if block != 0 {
        return None;
    }
    if flags & HAS_IMAGE != 0 {
        let of_image = *record.get(at + 4)?;
        at += if of_image & HAS_HOLE != 0 && of_image & IS_COMPRESSED != 0 { 7 } else { 5 };
    }
    let part = |at: usize| Some(u32::from_le_bytes(*record.get(at..)?.first_chunk()?));
    Some(change(Relation { database: part(at + 4)?, file: part(at + 8)? }))
}

/// Where the data of a commit begins.
fn data_of_commit(record: &[u8]) -> Option<usize> {
    let kind = record.get(16)? & KIND_OF_TRANSACTION;
    if *record.get(17)? != MANAGER_TRANSACTIONS || !matches!(kind, COMMIT | COMMIT_PREPARED) {
        return None;
    }
    let mut at = RECORD_HEADER_BYTES;
    loop {
        match *record.get(at)? {
            ORIGIN => at += 3,
            TRANSACTION_ABOVE => at += 5,
            DATA_SHORT => return Some(at + 2),
            DATA_LONG => return Some(at + 5),
            _ => return None,
        }
    }
}

/// The number in `N` bytes from `at`; 0 where they are not there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..at + N).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
