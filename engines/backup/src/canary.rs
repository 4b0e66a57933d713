//! Canary rows: a row is committed to the production database every minute, and each restore test must bring back exactly those that
//! were committed before its instant.
//!
//! **Problem.** A restored database that starts and answers may be one of another second; what the application checks is true a minute
//! earlier and later, too.
//! **Principle.** We are a client that knows what it was told: a row that was acknowledged before the instant must be there, one that was
//! begun at it or later must not. What was not acknowledged, or happened while the clock was set back, says nothing. A row is put and
//! the oldest are removed in one transaction, so that the newest row there says which others are. The table is not believed: what was
//! committed is remembered in a file of ours, before it is begun. Where the table is suddenly another one (it was rewound, or emptied),
//! what is remembered begins anew.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use engine::Context;
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::database::Database;

/// How many rows stay in the table.
const ROWS_KEPT: u64 = 60;
/// Most rows that are read of a table.
pub(crate) const ROWS_READ_MAX: u16 = 1000;
/// How long reading them may take.
pub(crate) const READ_WITHIN: Span = Span::from_secs(60);
/// What the check is called.
pub(crate) const NAME: &str = "canary rows";
/// Bytes of an entry: number, begun, acknowledged, each in eight bytes, lowest first.
const ENTRY_BYTES: u64 = 24;
/// Most entries that are remembered: beyond them the older half is forgotten. A row a minute is 104 days.
const ENTRIES_MAX: u64 = 150_000;

/// The table of a canary, whose columns are `n` and `written_us`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct CanaryTable {
    /// The database.
    pub database: String,
    /// The schema, of PostgreSQL.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl FromStr for CanaryTable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &&str| {
            !name.is_empty() && name.len() <= 63 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_$-".contains(c))
        };
        let parts: Vec<&str> = text.split('.').collect();
        if !parts.iter().all(is_name) {
            return Err(format!("`{text}` is no table"));
        }
        let (database, schema, table) = match parts.as_slice() {
            [database, table] => (database, None, table),
            [database, schema, table] => (database, Some((*schema).to_owned()), table),
            _ => return Err(format!("`{text}` is no table")),
        };
        Ok(Self { database: (*database).to_owned(), schema, table: (*table).to_owned() })
    }
}

impl fmt::Display for CanaryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, schema, table } = self;
        match schema {
            Some(schema) => write!(f, "{database}.{schema}.{table}"),
            None => write!(f, "{database}.{table}"),
        }
    }
}

impl CanaryTable {
    /// Its name in statements; the database is a part of it in MariaDB.
    fn quoted(&self, quote: char, with_database: bool) -> String {
        let database = with_database.then_some(&self.database);
        let parts = database.into_iter().chain(&self.schema).chain([&self.table]);
        // No name has a quote in it.
        parts.map(|part| format!("{quote}{part}{quote}")).collect::<Vec<_>>().join(".")
    }

    /// The statements, as a server of MariaDB reads names.
    pub(crate) fn of_mariadb(&self) -> Statements {
        Statements { table: self.quoted('`', true) }
    }

    /// The statements, as PostgreSQL reads names.
    pub(crate) fn of_postgres(&self) -> Statements {
        Statements { table: self.quoted('"', false) }
    }
}

/// What is asked of the table.
pub(crate) struct Statements {
    table: String,
}

impl Statements {
    /// The newest row.
    pub(crate) fn newest(&self) -> String {
        format!("SELECT MAX(n) FROM {}", self.table)
    }

    /// All rows.
    pub(crate) fn rows(&self) -> String {
        format!("SELECT n, written_us FROM {} ORDER BY n", self.table)
    }

    /// Puts a row, and removes those that are not kept.
    pub(crate) fn put(&self, row: Row) -> [String; 2] {
        let Row { n, written } = row;
        let last = n.saturating_sub(ROWS_KEPT);
        [
            format!("INSERT INTO {} (n, written_us) VALUES ({n}, {})", self.table, written.micros()),
            format!("DELETE FROM {} WHERE n <= {last}", self.table),
        ]
    }

    /// What makes the table.
    pub(crate) fn remedy(&self) -> String {
        format!(
            "make it, and let the agent use it: CREATE TABLE {} (n BIGINT PRIMARY KEY, written_us BIGINT NOT NULL); \
             GRANT INSERT, SELECT, DELETE ON it",
            self.table
        )
    }
}

/// A row of a canary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its number.
    pub n: u64,
    /// When it was begun.
    pub written: Time,
}

/// Something that is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    /// A row that was begun, and when it was acknowledged, if it was.
    Row { row: Row, committed: Option<Time> },
    /// The table was seen to be another one at `seen`; at `before` it was still the one before.
    Anew { seen: Time, before: Time },
}

impl Entry {
    fn bytes(self) -> [u8; 24] {
        let (n, first, second) = match self {
            Self::Row { row, committed } => (row.n, row.written, committed.map_or(0, Time::micros)),
            Self::Anew { seen, before } => (0, seen, before.micros()),
        };
        let mut bytes = [0; 24];
        for (part, number) in bytes.chunks_exact_mut(8).zip([n, first.micros().cast_unsigned(), second.cast_unsigned()])
        {
            part.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|number| u64::from_le_bytes(*number));
        let time = |at| Some(Time::from_micros(number(at)?.cast_signed()));
        let second = time(16)?;
        Some(match number(0)? {
            0 => Self::Anew { seen: time(8)?, before: second },
            n => Self::Row { row: Row { n, written: time(8)? }, committed: (second.micros() != 0).then_some(second) },
        })
    }
}

/// What is remembered of the rows, in a file.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    file: File,
    entries: u64,
    /// The highest number.
    last: u64,
    /// The newest row that was acknowledged, and those behind it that were not.
    committed: Option<u64>,
    open: Vec<u64>,
    /// The newest instant.
    newest: Time,
}

impl Memory {
    /// Opens the file; what was torn at its end is left out.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut memory = Self {
            path: path.to_owned(),
            entries: file.metadata()?.len() / ENTRY_BYTES,
            file,
            last: 0,
            committed: None,
            open: Vec::new(),
            newest: Time::from_micros(0),
        };
        for entry in read(path)? {
            memory.note(entry);
        }
        Ok(memory)
    }

    fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Row { row, committed } => {
                self.last = self.last.max(row.n);
                self.newest = self.newest.max(row.written).max(committed.unwrap_or(row.written));
                if committed.is_some() {
                    self.committed = Some(row.n);
                    self.open.clear();
                } else {
                    self.open.push(row.n);
                }
            }
            Entry::Anew { seen, .. } => {
                self.newest = self.newest.max(seen);
                (self.committed, self.open) = (None, Vec::new());
            }
        }
    }

    fn write(&mut self, at: u64, entry: Entry) -> io::Result<()> {
        self.file.write_all_at(&entry.bytes(), at * ENTRY_BYTES)?;
        self.file.sync_data()
    }

    fn add(&mut self, entry: Entry) -> io::Result<()> {
        if self.entries >= ENTRIES_MAX {
            self.forget()?;
        }
        self.write(self.entries, entry)?;
        self.entries += 1;
        Ok(())
    }

    /// Forgets the older half.
    fn forget(&mut self) -> io::Result<()> {
        let kept: Vec<u8> = read(&self.path)?
            .into_iter()
            .skip(usize::try_from(ENTRIES_MAX / 2).unwrap_or(0))
            .flat_map(Entry::bytes)
            .collect();
        let beside = self.path.with_extension("new");
        fs::write(&beside, &kept)?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &self.path)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        self.entries = kept.len() as u64 / ENTRY_BYTES;
        Ok(())
    }

    /// Begins a row at `now`, where `there` is the newest in the table.
    pub(crate) fn begin(&mut self, there: Option<u64>, now: Time) -> io::Result<Begun> {
        // The clock was set back: an instant that comes twice says nothing.
        let is_certain = now > self.newest;
        let is_known = there == self.committed || there.is_some_and(|n| self.open.contains(&n));
        if !is_known {
            let anew = Entry::Anew { seen: now, before: self.newest.min(now) };
            self.add(anew)?;
            self.note(anew);
        }
        if !is_certain {
            self.doubt(now)?;
        }
        let row = Row { n: self.last.max(there.unwrap_or(0)) + 1, written: now };
        self.add(Entry::Row { row, committed: None })?;
        self.last = row.n;
        self.open.push(row.n);
        Ok(Begun { row, at: self.entries - 1, is_certain })
    }

    /// What was committed at `now` or later, by a clock that was ahead, is uncertain.
    fn doubt(&mut self, now: Time) -> io::Result<()> {
        for (at, entry) in (0..).zip(read(&self.path)?) {
            if let Entry::Row { row, committed: Some(committed) } = entry
                && committed >= now
            {
                self.write(at, Entry::Row { row, committed: None })?;
            }
        }
        Ok(())
    }

    /// A row was acknowledged by `now`.
    pub(crate) fn committed(&mut self, begun: &Begun, now: Time) -> io::Result<()> {
        let is_certain = begun.is_certain && now >= begun.row.written;
        let entry = Entry::Row { row: begun.row, committed: is_certain.then_some(now) };
        self.write(begun.at, entry)?;
        // That it is there is known in any case.
        (self.committed, self.open) = (Some(begun.row.n), Vec::new());
        self.newest = self.newest.max(now);
        Ok(())
    }
}

/// A row that was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) row: Row,
    at: u64,
    is_certain: bool,
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    let most = (ENTRIES_MAX + 1) * ENTRY_BYTES;
    match File::open(path) {
        Ok(file) => file.take(most).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(bytes.chunks_exact(24).filter_map(Entry::of).collect())
}

/// Commits a row, and remembers that it was.
pub(crate) async fn put(
    database: &dyn Database,
    table: &CanaryTable,
    remembered: &Path,
    context: &Context,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", remembered.display());
    let there = database.newest_canary(context, table).await.map_err(|error| error.to_string())?;
    let mut memory = Memory::open(remembered).map_err(failed)?;
    let begun = memory.begin(there, context.clock.now()).map_err(failed)?;
    database.put_canary(context, table, begun.row).await.map_err(|error| error.to_string())?;
    memory.committed(&begun, context.clock.now()).map_err(failed)
}

/// Whether the rows that were restored are those of the instant `to`; `false` where nothing is remembered that says so. `rows` are those
/// of the table, or why they can't be read.
///
/// # Errors
/// They are not: which.
pub(crate) fn judge(path: &Path, rows: Result<Vec<Row>, String>, to: Time) -> Result<bool, String> {
    let entries = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    judge_by(&entries, rows, to)
}

fn judge_by(entries: &[Entry], rows: Result<Vec<Row>, String>, to: Time) -> Result<bool, String> {
    let mut of_epoch: Vec<(Row, Option<Time>)> = Vec::new();
    let mut known: BTreeMap<u64, (Row, Option<Time>)> = BTreeMap::new();
    let mut is_between = false;
    for entry in entries {
        match *entry {
            Entry::Row { row, committed } => {
                known.insert(row.n, (row, committed));
                of_epoch.push((row, committed));
            }
            Entry::Anew { seen, .. } if seen <= to => of_epoch.clear(),
            // What comes behind is of a later table.
            Entry::Anew { before, .. } => {
                is_between = before <= to;
                break;
            }
        }
    }
    if is_between {
        return Ok(false);
    }
    let must = of_epoch.iter().filter(|(_, committed)| committed.is_some_and(|committed| committed < to));
    let must: Vec<Row> = must.map(|(row, _)| *row).collect();
    let rows = match rows {
        Ok(rows) => rows,
        Err(why) if must.is_empty() => {
            tracing::info!(why, "no canary row is known of the instant, and none is there");
            return Ok(false);
        }
        Err(why) => return Err(format!("they can't be read: {why}")),
    };
    let there: BTreeMap<u64, Row> = rows.iter().map(|row| (row.n, *row)).collect();
    let last = there.last_key_value().map_or(0, |(n, _)| *n);
    let oldest = known.first_key_value().map_or(u64::MAX, |(n, _)| *n);
    for row in must.iter().filter(|row| row.n + ROWS_KEPT > last) {
        if !there.contains_key(&row.n) {
            return Err(format!("the row {}, committed at {} before {to}, is not there", row.n, row.written));
        }
    }
    for row in there.values() {
        match known.get(&row.n) {
            Some((remembered, _)) if remembered.written != row.written => {
                return Err(format!("the row {} is another one than was committed", row.n));
            }
            Some((_, Some(_))) if row.written >= to => {
                return Err(format!("the row {} is there, which was begun at {}, not before {to}", row.n, row.written));
            }
            None if row.n > oldest => {
                return Err(format!("the row {} is there, which was not committed before {to}", row.n));
            }
            _ => {}
        }
        if row.n + ROWS_KEPT <= last {
            return Err(format!("the row {} is there, which was removed with the row {last}", row.n));
        }
    }
    Ok(!must.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_secs(1_800_000_000 + seconds)
    }

    fn memory() -> (tempfile::TempDir, Memory) {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::open(&folder.path().join("canary")).expect("opened");
        (folder, memory)
    }

    /// Commits a row at each of these seconds, and gives what the table holds after each.
    fn commit(memory: &mut Memory, table: &mut Vec<Row>, seconds: impl IntoIterator<Item = i64>) {
        for second in seconds {
            let there = table.last().map(|row| row.n);
            let begun = memory.begin(there, at(second)).expect("begun");
            table.push(begun.row);
            table.retain(|row| row.n + ROWS_KEPT > begun.row.n);
            memory.committed(&begun, at(second) + Span::from_millis(20)).expect("remembered");
        }
    }

    #[test]
    fn exactly_the_rows_before_the_instant_pass() {
        let (_folder, mut memory) = memory();
        let mut table = Vec::new();
        commit(&mut memory, &mut table, (0..100).map(|n| n * 60));
        let judged = |rows: &[Row], to| judge(&memory.path, Ok(rows.to_vec()), at(to));
        let of = |through: u64| -> Vec<Row> {
            (1..=through)
                .filter(|n| n + ROWS_KEPT > through)
                .map(|n| Row { n, written: at((n.cast_signed() - 1) * 60) })
                .collect()
        };
        assert_eq!(judged(&of(100), 99 * 60 + 1), Ok(true));
        assert_eq!(judged(&of(100), 9_999_999), Ok(true));
        assert_eq!(judged(&of(50), 49 * 60 + 30), Ok(true));
        assert!(judged(&of(50), 50 * 60 + 30).expect_err("one is missing").contains("the row 51, committed"));
        assert!(judged(&of(51), 49 * 60 + 30).expect_err("one too many").contains("the row 51 is there"));
        assert_eq!(judged(&[], -5), Ok(false), "nothing was committed by then");
        assert!(judged(&of(1), -5).expect_err("one too many").contains("the row 1 is there"));
        let mut hole = of(50);
        hole.remove(30);
        judged(&hole, 49 * 60 + 30).expect_err("one is missing");
        let mut stale = of(100);
        stale.insert(0, Row { n: 3, written: at(120) });
        assert!(judged(&stale, 9_999_999).expect_err("it was removed").contains("was removed with"));
        let mut other = of(50);
        other[7].written = at(1);
        assert!(judged(&other, 49 * 60 + 30).expect_err("another").contains("another one"));
        let mut foreign = of(100);
        foreign.push(Row { n: 101, written: at(99 * 60) });
        judged(&foreign, 9_999_999).expect_err("one that nobody committed");
        let no_table = Err("no such table".to_owned());
        assert_eq!(judge(&memory.path, no_table.clone(), at(-5)), Ok(false));
        judge(&memory.path, no_table, at(100)).expect_err("it was there");
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        let (_folder, mut memory) = memory();
        let mut table = Vec::new();
        commit(&mut memory, &mut table, [0, 60]);
        let lost = memory.begin(Some(2), at(120)).expect("begun").row;
        let reopened = Memory::open(&memory.path).expect("opened");
        assert_eq!((reopened.last, reopened.committed, reopened.open), (3, Some(2), vec![3]));
        for rows in [table.clone(), [&table[..], &[lost]].concat()] {
            assert_eq!(judge(&memory.path, Ok(rows), at(200)), Ok(true));
        }
        // It was, as the table says; the next one goes on behind it.
        table.push(lost);
        commit(&mut memory, &mut table, [180]);
        assert_eq!(table.last().map(|row| row.n), Some(4));
        assert_eq!(judge(&memory.path, Ok(table), at(200)), Ok(true));
    }

    #[test]
    fn a_table_that_was_rewound_begins_anew() {
        let (_folder, mut memory) = memory();
        let mut table = Vec::new();
        commit(&mut memory, &mut table, [0, 60, 120, 180]);
        let before = table.clone();
        table.truncate(2);
        commit(&mut memory, &mut table, [240, 300]);
        assert_eq!(table.iter().map(|row| row.n).collect::<Vec<_>>(), [1, 2, 5, 6], "no number comes twice");
        let judged = |rows: &[Row], to| judge(&memory.path, Ok(rows.to_vec()), at(to));
        assert_eq!(judged(&before, 200), Ok(false), "it was rewound at some time behind the last row");
        assert_eq!(
            judged(&before, 180),
            Err(format!("the row 4 is there, which was begun at {}, not before {0}", at(180)))
        );
        assert_eq!(judged(&before[..3], 180), Ok(true));
        assert_eq!(judged(&table, 301), Ok(true));
        assert_eq!(judged(&table[..3], 299), Ok(true));
        judged(&before, 299).expect_err("that is of before");
    }

    #[test]
    fn instants_that_came_twice_say_nothing() {
        let (_folder, mut memory) = memory();
        let mut table = Vec::new();
        commit(&mut memory, &mut table, [0, 60, 120, 180]);
        let first = table.clone();
        // The clock is set back by two minutes.
        commit(&mut memory, &mut table, [61, 121, 181, 241]);
        assert_eq!(judge(&memory.path, Ok(first), at(150)), Ok(true), "the rows of before are sure");
        assert_eq!(judge(&memory.path, Ok(table[..7].to_vec()), at(190)), Ok(true));
        assert_eq!(judge(&memory.path, Ok(table), at(250)), Ok(true));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (_folder, mut memory) = memory();
        let all: Vec<u8> = (1..=ENTRIES_MAX)
            .flat_map(|n| {
                let written = at(n.cast_signed());
                Entry::Row { row: Row { n, written }, committed: Some(written) }.bytes()
            })
            .collect();
        fs::write(&memory.path, all).expect("written");
        memory = Memory::open(&memory.path).expect("opened");
        let begun = memory.begin(Some(ENTRIES_MAX), at(1_000_000)).expect("begun");
        memory.committed(&begun, at(1_000_001)).expect("remembered");
        assert_eq!(fs::metadata(&memory.path).expect("there").len(), (ENTRIES_MAX / 2 + 1) * ENTRY_BYTES);
        let last = *read(&memory.path).expect("read").last().expect("one");
        assert_eq!(last, Entry::Row { row: begun.row, committed: Some(at(1_000_001)) });
        assert_eq!(begun.row.n, ENTRIES_MAX + 1);
    }

    #[test]
    fn a_table_is_named() {
        let named = |text: &str| text.parse::<CanaryTable>();
        let shop = named("shop.garant_canary").expect("a table");
        assert_eq!(shop.of_mariadb().newest(), "SELECT MAX(n) FROM `shop`.`garant_canary`");
        let crm = named("crm.ops.canary").expect("a table");
        assert_eq!(crm.of_postgres().newest(), "SELECT MAX(n) FROM \"ops\".\"canary\"");
        assert_eq!((shop.to_string(), crm.to_string()), ("shop.garant_canary".into(), "crm.ops.canary".into()));
        for text in ["", "canary", "a.b.c.d", "a.", "a.b`", "a.b c", ".a"] {
            named(text).expect_err(text);
        }
    }
}
