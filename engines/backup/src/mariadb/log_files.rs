//! The files of a binary log, put together of their pieces on the disk, and the transactions in them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use event::{Span, Time};

use super::base::BaseFacts;
use super::events::{
    self, EXECUTE_LOAD_QUERY, GTID, Gtid, HEADER_BYTES, Header, MAGIC, QUERY, ROTATE, STOP, XA_PREPARE, XID,
};
use super::mark::{self, Mark, Position, Window};
use super::waiting::{Facts, FileIdentity};
use crate::database::Commit;
use crate::sealed::{PieceName, unhex};

/// How far the clock of a server is believed to be ahead of that of the agent.
const APART_MAX: Span = Span::from_secs(2);
/// Bytes of a GTID event that are read: its header, its number and its domain.
const GTID_BYTES: usize = HEADER_BYTES + 8 + 4 + 1;
/// Most bytes of a statement that are read.
const QUERY_BYTES_MAX: usize = 64 * 1024;

/// A file, as far as it is there.
#[derive(Clone, Debug)]
struct LogFile {
    identity: FileIdentity,
    end: u64,
    /// Where its last event begins.
    tail: u64,
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
    /// The last of each domain and server, behind the base.
    pub(super) reached: BTreeMap<(u32, u32), Gtid>,
    /// From when to when nobody watched the log, where transactions of that time lie around the cut.
    pub(super) unwatched: Option<(Time, Time)>,
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
        let files = [(base.position.file, LogFile { identity, end: 0, tail: 0 })].into();
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
            self.give_up_unfinished(number)?;
            self.files.insert(name.file, LogFile { identity: facts.file.clone(), end: 0, tail: 0 });
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
        if name.end >= file.end {
            (file.end, file.tail) = (name.end, facts.tail.at);
        }
        self.marks.extend(&facts.marks);
        Ok(())
    }

    /// Leaves out what the end of a file has of a transaction without its end, once another file follows: a server that was killed while
    /// it wrote has left that, has given it up when it came back, and gives its number to another one.
    fn give_up_unfinished(&mut self, number: u32) -> io::Result<()> {
        let Some(file) = self.files.get(&number) else { return Ok(()) };
        let mut reader = BufReader::new(File::open(self.path(number))?);
        let mut is_at = 0_u64;
        // What is read already is not read again.
        let mut event_at = |at: u64, bytes: u64| {
            reader.seek_relative(i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(is_at).unwrap_or(i64::MAX))?;
            let mut event = Vec::new();
            is_at = at + io::Read::take(&mut reader, bytes).read_to_end(&mut event)? as u64;
            Ok::<_, io::Error>(event)
        };
        let last = Header::parse(&event_at(file.tail, HEADER_BYTES as u64)?);
        if last.is_some_and(|last| matches!(last.kind, ROTATE | STOP)) {
            return Ok(());
        }
        let mut at = if number == self.start.file { self.start.at } else { MAGIC.len() as u64 };
        // Of the transaction that has not ended: where it begins, and whether its next statement ends it.
        let mut open: Option<(u64, bool)> = None;
        while at < file.end {
            let event = event_at(at, HEADER_BYTES as u64)?;
            let malformed = || other(format!("there is no event at byte {at} of {}", file.identity.name));
            let header = Header::parse(&event).ok_or_else(malformed)?;
            match header.kind {
                GTID => {
                    let gtid = Gtid::parse(&event_at(at, GTID_BYTES as u64)?).ok_or_else(malformed)?;
                    open = Some((at, gtid.is_standalone));
                }
                XID | XA_PREPARE => open = None,
                QUERY if open.is_some_and(|(_, is_standalone)| is_standalone) => open = None,
                QUERY if events::is_end(&event_at(at, u64::from(header.size).min(QUERY_BYTES_MAX as u64))?) => {
                    open = None;
                }
                _ => {}
            }
            at += u64::from(header.size);
        }
        if let (Some((begins, _)), Some(file)) = (open, self.files.get_mut(&number)) {
            file.end = begins;
        }
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
        Transactions { position: self.start, reader: None, statements: 0 }
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
        let of = |(number, file): (&u32, &LogFile)| {
            let end = if *number == position.file { position.at } else { file.end };
            let path = self.path(*number);
            OpenOptions::new().write(true).open(&path)?.set_len(end)?;
            Ok(path)
        };
        self.files.range(..=position.file).map(of).collect()
    }
}

/// Reads the transactions of a log, one after the other.
#[derive(Debug)]
pub(super) struct Transactions {
    /// The next event.
    position: Position,
    reader: Option<(u32, BufReader<File>)>,
    /// How many statements were read that are to be done again: their rows are not in the log.
    statements: u64,
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
                let mut read = wanted;
                if header.kind == QUERY {
                    let mut query = event.get(..wanted).unwrap_or_default().to_vec();
                    query.resize(QUERY_BYTES_MAX.min(usize::try_from(size).unwrap_or(QUERY_BYTES_MAX)), 0);
                    reader.read_exact(query.get_mut(wanted..).unwrap_or_default())?;
                    read = query.len().max(wanted);
                    self.statements += u64::from(events::is_done_again(&query));
                }
                reader.seek_relative(i64::from(header.size) - i64::try_from(read).unwrap_or(0))?;
            }
            self.statements += u64::from(header.kind == EXECUTE_LOAD_QUERY);
            if header.kind == GTID {
                let gtid = Gtid::parse(&event).ok_or_else(|| other("a GTID is too short".into()))?;
                return Ok(Some(Transaction { position, gtid, at: header.at }));
            }
        }
    }

    /// How many statements were read so far whose rows are not in the log: what they do again need not be the same.
    pub(super) const fn statements(&self) -> u64 {
        self.statements
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
        // The clocks of server and agent differ a little. Who says to be of a later time was told so (`SET TIMESTAMP`).
        let believed = to..=window.known_at + APART_MAX;
        let mut cut = Cut { position, last: None, reached: BTreeMap::new(), unwatched: None };
        while let Some(transaction) = self.next(files)? {
            let may_be_later = window.from.is_none_or(|from| from <= transaction.position);
            if may_be_later && transaction.position < position {
                cut.unwatched = window.unwatched_from.map(|from| (from, window.known_at));
            }
            if transaction.position >= position || (may_be_later && believed.contains(&transaction.at)) {
                cut.position = position.min(transaction.position);
                return Ok((cut, Some(transaction)));
            }
            cut.reached.insert((transaction.gtid.domain, transaction.gtid.server), transaction.gtid);
            cut.last = Some(transaction);
        }
        Ok((cut, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mariadb::events::Format;
    use crate::mariadb::events::tests::{event, format_event};
    use crate::mariadb::waiting::Tail;

    /// A file of a log: transactions, each with its number and its second.
    fn file(transactions: &[(u64, u32)]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &format_event(100, 103)].concat();
        let mut add = |kind, second, body: &[u8]| {
            let end = u32::try_from(bytes.len() + HEADER_BYTES + body.len() + 4).expect("small");
            bytes.extend(event(kind, second, end, 0, body));
        };
        for (sequence, second) in transactions {
            add(GTID, *second, &[&sequence.to_le_bytes()[..], &[0; 11]].concat());
            add(XID, *second, &[0; 8]);
        }
        bytes
    }

    fn identity(name: &str) -> FileIdentity {
        let format = Format::parse(&format_event(100, 103)).expect("a format");
        FileIdentity::new(name, &format)
    }

    fn facts(file: u32, before: Option<u64>) -> Facts {
        let tail = Tail { at: 0, sha256: String::new() };
        Facts { file: identity(&format!("binlog.{file:06}")), before, tail, marks: Vec::new() }
    }

    fn name(file: u32, start: u64, end: u64) -> PieceName {
        PieceName { seq: 1, file, start, end }
    }

    fn base(at: u64) -> BaseFacts {
        BaseFacts {
            file: identity("binlog.000001"),
            first_event: crate::sealed::hex(&format_event(100, 103)),
            position: Position { file: 1, at },
            gtid: String::new(),
            to_lsn: 0,
            variables: BTreeMap::new(),
        }
    }

    fn window(from: Option<u64>, to: u64, known_at: i64) -> Window {
        let position = |at| Position { file: 1, at };
        Window { from: from.map(position), to: position(to), known_at: Time::from_secs(known_at), unwatched_from: None }
    }

    /// Number of the last transaction that is in the state of a second, and of the first that is not.
    fn cut(transactions: &[(u64, u32)], window: Window, to: i64) -> (Option<u64>, Option<u64>, u64) {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = file(transactions);
        let start = format_event(100, 103).len() as u64 + 4;
        let mut files = LogFiles::new(folder.path(), &base(start)).expect("files");
        files.add(&name(1, 0, bytes.len() as u64), &facts(1, None), &bytes).expect("added");
        let (cut, next) = files.transactions().cut(&files, window, Time::from_secs(to)).expect("found");
        let number = |transaction: Option<Transaction>| transaction.map(|it| it.gtid.sequence);
        assert_eq!(cut.reached.get(&(0, 7)).map(|gtid| gtid.sequence), number(cut.last));
        (number(cut.last), number(next), (cut.position.at - start) / TRANSACTION)
    }

    /// Bytes of a transaction of [`file`].
    const TRANSACTION: u64 = 19 + 19 + 4 + 19 + 8 + 4;

    #[test]
    fn headers_decide_between_the_marks_and_nowhere_else() {
        let start = format_event(100, 103).len() as u64 + 4;
        let at = |transactions: u64| start + transactions * TRANSACTION;
        let four = [(1, 200), (2, 201), (3, 202), (4, 203)];
        assert_eq!(cut(&four, window(None, at(4), 204), 202), (Some(2), Some(3), 2));
        assert_eq!(cut(&four, window(Some(at(4)), at(4), 204), 202), (Some(4), None, 4), "all were there before");
        assert_eq!(cut(&four, window(Some(at(1)), at(2), 204), 204), (Some(2), Some(3), 2), "the others came later");
        assert_eq!(cut(&four, window(Some(at(0)), at(0), 204), 204), (None, Some(1), 0));
        // The third says to be of another century, and the order of the log holds.
        let liar = [(1, 200), (2, 201), (3, 2_000_000_000), (4, 201)];
        assert_eq!(cut(&liar, window(None, at(4), 203), 202), (Some(4), None, 4));
        let late = [(1, 200), (2, 202), (3, 201)];
        assert_eq!(cut(&late, window(None, at(3), 203), 202), (Some(1), Some(2), 1));
    }

    /// BK-3: what a server that was killed has left of a transaction at the end of a file is no transaction, once it is back with another
    /// file.
    #[test]
    fn a_transaction_without_its_end_is_given_up() {
        const ROWS: u8 = 23;
        let gtid = |sequence: u64, flags: u8| [&sequence.to_le_bytes()[..], &[0; 4], &[flags], &[0; 6]].concat();
        let query = |text: &str| [&[0; 13][..], &[0], text.as_bytes()].concat();
        for (events, is_whole) in [
            (vec![(GTID, gtid(2, 0)), (ROWS, vec![0; 30]), (XID, vec![0; 8])], true),
            (vec![(GTID, gtid(2, 0)), (ROWS, vec![0; 30]), (XA_PREPARE, vec![0; 8])], true),
            (vec![(GTID, gtid(2, 0)), (ROWS, vec![0; 30]), (QUERY, query("COMMIT"))], true),
            (vec![(GTID, gtid(2, 0)), (QUERY, query("xa rollback X'41'"))], true),
            (vec![(GTID, gtid(2, 1)), (QUERY, query("CREATE TABLE t (id INT)"))], true),
            (vec![(GTID, gtid(2, 0)), (ROWS, vec![0; 30])], false),
            (vec![(GTID, gtid(2, 0)), (QUERY, query("INSERT INTO t VALUES (1)"))], false),
            (vec![(GTID, gtid(2, 1))], false),
            // It has ended with its file: what is behind it is the next one's.
            (vec![(GTID, gtid(2, 0)), (ROWS, vec![0; 30]), (STOP, Vec::new())], true),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut first = file(&[(1, 200)]);
            let (begins, mut tail) = (first.len() as u64, 0);
            for (kind, body) in &events {
                tail = first.len() as u64;
                let end = u32::try_from(first.len() + HEADER_BYTES + body.len() + 4).expect("small");
                first.extend(event(*kind, 201, end, 0, body));
            }
            let length = first.len() as u64;
            let mut files = LogFiles::new(folder.path(), &base(4)).expect("files");
            let mut of_first = facts(1, None);
            of_first.tail.at = tail;
            files.add(&name(1, 0, length), &of_first, &first).expect("added");
            let second = file(&[(2, 202), (3, 203)]);
            let end = second.len() as u64;
            files.add(&name(2, 0, end), &facts(2, Some(length)), &second).expect("added");
            let mut transactions = files.transactions();
            let found: Vec<u64> = std::iter::from_fn(|| transactions.next(&files).expect("read"))
                .map(|transaction| transaction.gtid.sequence)
                .collect();
            assert_eq!(found, if is_whole { vec![1, 2, 2, 3] } else { vec![1, 2, 3] }, "{events:?}");
            let cut = files.cut_at(Position { file: 2, at: end }).expect("cut");
            let kept = std::fs::metadata(&cut[0]).expect("there").len();
            assert_eq!(kept, if is_whole { length } else { begins }, "{events:?}");
        }
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = file(&[(1, 200), (2, 201)]);
        let length = bytes.len() as u64;
        let start = length - TRANSACTION;
        let mut files = LogFiles::new(folder.path(), &base(start)).expect("files");
        let refused = |files: &mut LogFiles, name: PieceName, facts: &Facts| {
            files.add(&name, facts, &[]).expect_err("it does not fit").to_string()
        };
        assert!(refused(&mut files, name(1, start + 1, length), &facts(1, None)).contains("begins behind the base"));
        // The base lies in the middle of a file, of which only the first event is known before.
        let middle = usize::try_from(start - 5).expect("small");
        files.add(&name(1, start - 5, length), &facts(1, None), &bytes[middle..]).expect("added");
        let mut transactions = files.transactions();
        let next = |transactions: &mut Transactions, files: &LogFiles| {
            transactions.next(files).expect("read").map(|transaction| transaction.gtid.sequence)
        };
        assert_eq!((next(&mut transactions, &files), next(&mut transactions, &files)), (Some(2), None));
        assert!(refused(&mut files, name(1, length + 1, length + 2), &facts(1, None)).contains("a gap before"));
        assert!(refused(&mut files, name(2, 0, 9), &facts(2, Some(length - 1))).contains("a gap between"));
        assert!(refused(&mut files, name(3, 0, 9), &facts(3, Some(length))).contains("a gap between"));
        assert!(refused(&mut files, name(2, 4, 9), &facts(2, None)).contains("a gap between"));
        assert!(refused(&mut files, name(2, 0, 9), &facts(1, Some(length))).contains("is of the file binlog.000001"));
        let mut another = facts(1, None);
        another.file.began_at = Time::from_secs(101);
        assert!(refused(&mut files, name(1, length, length), &another).contains("is another one"));

        // The next file comes in two parts, the first of which ends within a transaction.
        let second = file(&[(3, 202), (4, 203)]);
        let half = usize::try_from(second.len() as u64 - TRANSACTION - 30).expect("small");
        files.add(&name(2, 0, half as u64), &facts(2, Some(length)), &second[..half]).expect("added");
        assert_eq!((next(&mut transactions, &files), next(&mut transactions, &files)), (Some(3), None));
        files.add(&name(2, half as u64, second.len() as u64), &facts(2, None), &second[half..]).expect("added");
        assert_eq!((next(&mut transactions, &files), next(&mut transactions, &files)), (Some(4), None));
        let end = Position { file: 2, at: second.len() as u64 };
        assert_eq!(files.bytes_up_to(end), TRANSACTION + end.at);
        let cut = files.cut_at(Position { file: 2, at: end.at - TRANSACTION }).expect("cut");
        assert_eq!(std::fs::read(&cut[1]).expect("there"), file(&[(3, 202)]));
        assert_eq!(cut.len(), 2);
    }
}
