//! The bans of a fail2ban that garant takes over, read from its database.
//!
//! The database may be in use: it is opened for reading alone, with the locks of SQLite, and for as short as one transaction
//! takes. It belongs to another program, so nothing of it is trusted: only tables are read and no views, texts are short,
//! numbers are in range, and what is not is counted and passed over. The tables are those of fail2ban 0.9 to 1.1 (versions 1 to 4).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension as _, Row};

use crate::words;

/// Where Debian's package keeps it.
pub const DEBIAN_PATH: &str = "/var/lib/fail2ban/fail2ban.sqlite3";
/// Most rows of a table that are read: the newest.
pub const ROWS_MAX: usize = 1_000_000;
/// Largest file.
const FILE_MAX: u64 = 8 << 30;
/// Longest name of a jail and longest address, in bytes.
const TEXT_MAX: usize = 256;
/// Most steps of the virtual machine that a query may take: some hundred for each row.
const STEPS_MAX: u64 = 1_000_000_000;
const STEPS_BETWEEN_LOOKS: i32 = 100_000;
/// The last version of the tables, and the first in which a ban has a length and a count.
const VERSION: i64 = 4;
const VERSION_OF_LENGTHS: i64 = 3;
/// The length of a ban that fail2ban did not know when it brought its tables up to date.
const UNKNOWN_LENGTH: i64 = -2;
/// The columns that are read, in the order of a query.
const COLUMNS: [&str; 5] = ["jail", "ip", "timeofban", "bantime", "bancount"];

/// One ban, as fail2ban recorded it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fail2banBan {
    /// Name of the jail.
    pub jail: String,
    /// Who was banned: an address most often, but anything that a filter calls an id. Not checked.
    pub ip: String,
    /// When, in seconds since 1970.
    pub time_of_ban: i64,
    /// For how many seconds; negative is for ever. Unknown in the tables of older releases: it is that of the jail.
    pub ban_time: Option<i64>,
    /// How many times by now, with this one.
    pub ban_count: u32,
}

/// What the database holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fail2banBans {
    /// The last ban of each address in each jail (table `bips`, which older releases do not have), newest first; those that are over
    /// are among them.
    pub last: Vec<Fail2banBan>,
    /// Every ban that is remembered (table `bans`), newest first.
    pub history: Vec<Fail2banBan>,
    /// Rows that were passed over, for a value of them is none that fail2ban writes: how many, by the column of the first such one.
    pub passed_over: BTreeMap<&'static str, u64>,
    /// Whether a table has more than [`ROWS_MAX`] rows, and the oldest are missing here.
    pub cut: bool,
}

/// Why the database of fail2ban was not read.
#[derive(Debug, thiserror::Error)]
pub enum Fail2banError {
    /// It is not there.
    #[error(
        "there is no database of fail2ban at {0}: give its path (`dbfile` in fail2ban.conf), or import without bans if fail2ban \
         kept none"
    )]
    Missing(PathBuf),
    /// What is there is no file, or too large.
    #[error("{path} is no database of fail2ban: {reason}")]
    Strange {
        /// The path.
        path: PathBuf,
        /// What is strange.
        reason: String,
    },
    /// Its tables are of a version that is not known.
    #[error(
        "the database of fail2ban at {path} has version {found}, and versions 1 to {VERSION} are known: take a later release of garant"
    )]
    OtherVersion {
        /// The path.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite refused.
    #[error("the database of fail2ban at {path} can't be read: {reason}")]
    Refused {
        /// The path.
        path: PathBuf,
        /// What it said.
        reason: &'static str,
    },
}

/// Reads the database; blocks for up to five seconds while fail2ban writes.
pub fn read(path: &Path) -> Result<Fail2banBans, Fail2banError> {
    let strange = |reason: String| Fail2banError::Strange { path: path.to_owned(), reason };
    match path.metadata() {
        Ok(about) if !about.is_file() => return Err(strange("it is no file".to_owned())),
        Ok(about) if about.len() > FILE_MAX => return Err(strange(format!("it has more than {FILE_MAX} bytes"))),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fail2banError::Missing(path.to_owned()));
        }
        Err(error) => return Err(strange(words::io(&error))),
    }
    let refused = |error: Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => strange("it is no database of SQLite".to_owned()),
        Some(ErrorCode::OperationInterrupted) => strange("to read it takes too long".to_owned()),
        _ => Fail2banError::Refused { path: path.to_owned(), reason: words::sqlite(&error) },
    };
    let conn = open(path).map_err(refused)?;
    // One transaction, so that both tables are of one moment.
    let bans = conn.unchecked_transaction().map_err(refused)?;
    for table in ["fail2banDb", "bans"] {
        if !is_table(&bans, table).map_err(refused)? {
            return Err(strange(format!("it has no table `{table}`")));
        }
    }
    let version =
        bans.query_row("SELECT version FROM fail2banDb LIMIT 1", [], |row| Ok(row.get_ref(0)?.as_i64().unwrap_or(0)));
    let version = version.optional().map_err(refused)?.unwrap_or(0);
    if !(1..=VERSION).contains(&version) {
        return Err(Fail2banError::OtherVersion { path: path.to_owned(), found: version });
    }
    let mut read = Fail2banBans::default();
    if is_table(&bans, "bips").map_err(refused)? {
        read.last = rows(&bans, "bips", version, &mut read).map_err(refused)?;
    }
    read.history = rows(&bans, "bans", version, &mut read).map_err(refused)?;
    Ok(read)
}

fn open(path: &Path) -> Result<Connection, Error> {
    let mut conn =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    let mut looks = 0;
    conn.progress_handler(
        STEPS_BETWEEN_LOOKS,
        Some(move || {
            looks += 1;
            looks > STEPS_MAX / u64::from(STEPS_BETWEEN_LOOKS.unsigned_abs())
        }),
    )?;
    Ok(conn)
}

/// Whether there is a table of that name, and no view.
fn is_table(conn: &Connection, name: &str) -> Result<bool, Error> {
    let mut query = conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    query.exists([name])
}

fn rows(conn: &Connection, table: &str, version: i64, read: &mut Fail2banBans) -> Result<Vec<Fail2banBan>, Error> {
    let counted = if version < VERSION_OF_LENGTHS {
        // How many times by now is how many rows there are.
        format!("{UNKNOWN_LENGTH}, COUNT(*) OVER (PARTITION BY jail, ip)")
    } else {
        "bantime, bancount".to_owned()
    };
    let mut query = conn.prepare(&format!(
        "SELECT jail, ip, timeofban, {counted} FROM {table} ORDER BY timeofban DESC, rowid DESC LIMIT {}",
        ROWS_MAX + 1
    ))?;
    let mut found = query.query([])?;
    let (mut bans, mut seen) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        seen += 1;
        if seen > ROWS_MAX {
            read.cut = true;
            break;
        }
        match ban(row)? {
            Ok(ban) => bans.push(ban),
            Err(column) => *read.passed_over.entry(column).or_default() += 1,
        }
    }
    Ok(bans)
}

/// The ban of a row, or the column whose value is none that fail2ban writes.
fn ban(row: &Row<'_>) -> Result<Result<Fail2banBan, &'static str>, Error> {
    let text = |at: usize| -> Result<Option<String>, Error> {
        Ok(match row.get_ref(at)? {
            ValueRef::Text(bytes) if !bytes.is_empty() && bytes.len() <= TEXT_MAX => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            _ => None,
        })
    };
    let number = |at: usize| -> Result<Option<i64>, Error> {
        Ok(match row.get_ref(at)? {
            ValueRef::Integer(number) => Some(number),
            // `bantime` with a random part is no whole number.
            #[expect(clippy::cast_possible_truncation, reason = "cut to the range of i64, and seconds are enough")]
            ValueRef::Real(number) if number.is_finite() => Some(number as i64),
            _ => None,
        })
    };
    let (jail, ip, time_of_ban) = (text(0)?, text(1)?, number(2)?.filter(|time| *time >= 0));
    let (ban_time, ban_count) = (number(3)?, number(4)?.and_then(|count| u32::try_from(count).ok()));
    let known = [jail.is_some(), ip.is_some(), time_of_ban.is_some(), ban_time.is_some(), ban_count.is_some()];
    let impossible = COLUMNS.into_iter().zip(known).find(|(_, is_known)| !is_known).map_or("", |(column, _)| column);
    let (Some(jail), Some(ip), Some(time_of_ban), Some(ban_time), Some(ban_count)) =
        (jail, ip, time_of_ban, ban_time, ban_count)
    else {
        return Ok(Err(impossible));
    };
    let ban_time = Some(ban_time).filter(|time| *time != UNKNOWN_LENGTH);
    Ok(Ok(Fail2banBan { jail, ip, time_of_ban, ban_time, ban_count }))
}

#[cfg(test)]
mod tests;
