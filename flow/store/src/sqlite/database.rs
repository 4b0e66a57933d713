//! Connections, their settings, and the schema they find.

use std::path::{Path, PathBuf};
use std::time::Duration;

use event::Retention;
use rusqlite::{Connection, OpenFlags};

use crate::{OpenError, StoreError, words};

/// Each step brings a database from one schema version to the next; steps are never edited once released.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001_journal.sql")];
/// Stored in the header of the file, so that `file garant.db` and a careful program recognise it: "grnt".
const APPLICATION_ID: i32 = 0x6772_6e74;
/// Most of the database that the writer holds in memory, in KiB. A commit touches some hundred kilobytes of it; with four times
/// as much, appends were no faster.
const WRITER_CACHE_KIB: u32 = 2048;
/// The same for each reader.
const READER_CACHE_KIB: u32 = 512;
/// Pages of the write-ahead log after which a commit copies them into the database, in front of whoever waits for it. With
/// SQLite's own 1,000, more than one acknowledgement in a hundred waited for that under full load, so that it was the 99th
/// percentile; with four times as many it is fewer than one, each for longer. The file grows to some 16 MB.
const CHECKPOINT_PAGES: u32 = 4000;
/// How long a statement waits for another connection's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The files of the database that hold what is committed, in the data directory.
pub(super) const FILES: [&str; 2] = ["garant.db", "garant.db-wal"];

/// The database of a data directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("garant.db")
}

/// The connection that writes. Every commit is on disk when it returns, and deleted bytes are overwritten.
pub(super) fn open_writer(dir: &Path) -> Result<Connection, OpenError> {
    let wrong = |error: rusqlite::Error| OpenError::database(dir, &error);
    let mut conn = Connection::open(path(dir)).map_err(wrong)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(wrong)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;
         PRAGMA cache_size = -{WRITER_CACHE_KIB}; PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
         PRAGMA temp_store = MEMORY;",
    ))
    .map_err(wrong)?;
    migrate(&mut conn, dir)?;
    Ok(conn)
}

/// A connection that reads beside the writer.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.execute_batch(&format!("PRAGMA cache_size = -{READER_CACHE_KIB}; PRAGMA temp_store = MEMORY;"))?;
    Ok(conn)
}

/// The schema version of a database; refused when it is of a newer release.
pub(super) fn schema_version(conn: &Connection, dir: &Path) -> Result<u32, OpenError> {
    let found: u32 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| OpenError::database(dir, &error))?;
    let application: i32 = conn
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| OpenError::database(dir, &error))?;
    if found > 0 && application != APPLICATION_ID {
        let reason = "it is the database of another program".to_owned();
        return Err(OpenError::Database { dir: dir.to_owned(), reason });
    }
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(OpenError::NewerSchema { dir: dir.to_owned(), found, known });
    }
    Ok(found)
}

fn migrate(conn: &mut Connection, dir: &Path) -> Result<(), OpenError> {
    let found = schema_version(conn, dir)?;
    let wrong = |error: rusqlite::Error| OpenError::database(dir, &error);
    for (version, step) in (1u32..).zip(MIGRATIONS).skip(found as usize) {
        let tx = conn.transaction().map_err(wrong)?;
        tx.execute_batch(step).map_err(wrong)?;
        tx.pragma_update(None, "user_version", version).map_err(wrong)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrong)?;
        tx.commit().map_err(wrong)?;
    }
    Ok(())
}

/// An error of the storage: of the database, of a file, or of what was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqliteError {
    #[error("{}", words::sqlite(.0))]
    Database(#[from] rusqlite::Error),
    #[error("{}", words::io(.0))]
    File(#[from] std::io::Error),
}

impl SqliteError {
    /// Whether the file itself is at fault, so that no later attempt does better.
    pub(super) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        // What does not decode was never written by us.
        let Self::Database(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            || matches!(error, rusqlite::Error::InvalidQuery)
    }

    /// Whether more room would help.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::File(error) => {
                matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
        }
    }
}

/// For `map_err` of a read.
pub(super) fn unreadable(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| StoreError::Read { what, reason: words::sqlite(&error).to_owned() }
}

/// The number stored for a retention class; never changed.
pub(super) const fn class_number(class: Retention) -> i64 {
    match class {
        Retention::Evidence => 1,
        Retention::Audit => 2,
        Retention::Permanent => 3,
        Retention::Records => 4,
        Retention::Traces => 5,
    }
}

/// The class of a stored number.
pub(super) fn class_of(number: i64) -> Option<Retention> {
    Retention::ALL.into_iter().find(|class| class_number(*class) == number)
}
