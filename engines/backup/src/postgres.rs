//! PostgreSQL: its write-ahead log received without pause, bases over the protocol of replication, and a restore to any second.
//!
//! **Problem.** A copy of the log that is made from files is late by a file, and one that follows the server does not know what it
//! does not have. A restore that is given a time stops at the newest there is, or does not start at all, when nothing was committed
//! behind it.
//! **Principle.** We are a standby that keeps every byte: [`receive`] takes the log as it is written, and tells the server that it has
//! a byte only when the repository has it, so that a slot of the server holds back what we lack. What was committed until when is
//! proved by asking the server how far it has written: a commit that was acknowledged by then is before that place. A restore reads
//! our own copy up to the instant, finds the last commit before it ([`records`]), and lets PostgreSQL recover to that record.
//!
//! A log is named by the system identifier of its cluster, and by a number behind a dot where the cluster was set back in time
//! without saying so: `7412345678901234567`, then `7412345678901234567.2`. FILE is the timeline, START and END are positions in
//! bytes (LSN). Where bytes are missing the names say so.

mod ahead;
mod around;
mod base;
mod examine;
mod live;
mod log_files;
mod plan;
mod problems;
mod receive;
mod records;
mod recovery;
mod restore;
mod resume;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use engine::{BoxFuture, Context, Watcher};
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::canary::{CanaryTable, Row, Statements};
use crate::checks::Examined;
use crate::config::Connection as Settings;
use crate::database::{Around, Database, DatabaseError, Problem, Restored, SHIP_AFTER, Shipped};
use crate::sealed::{Catalog, Manifest, Repository};
use wire::{Connection, Mode, WireError};

/// The major version that is tested.
const TESTED_MAJOR: u32 = 15;
/// The oldest major version: it introduced the form of base that is asked for.
const OLDEST_MAJOR: u32 = 15;

/// A position in a write-ahead log, in bytes; written as PostgreSQL does: `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Lsn(pub(crate) u64);

impl Lsn {
    /// The start of the segment that it is in.
    const fn segment_start(self, segment_bytes: u64) -> Self {
        Self(self.0 - self.0 % segment_bytes)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
        let parsed = text.split_once('/').and_then(|(high, low)| Some(parse(high)? << 32 | parse(low)?));
        parsed.map(Self).ok_or_else(|| format!("`{text}` is no position in a write-ahead log"))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A cluster of PostgreSQL on this host.
#[derive(Clone, Debug)]
pub struct Postgres {
    name: String,
    settings: Settings,
    ship_after: Span,
}

impl Postgres {
    /// The cluster of the backup `name`, reached as `settings` say.
    pub fn new(name: impl Into<String>, settings: Settings) -> Self {
        Self { name: name.into(), settings, ship_after: SHIP_AFTER }
    }

    /// Restores what `backup` was at the instant `to` into the folder `into`, which is empty or not there yet: a directory of data whose
    /// server was stopped in good order, on a timeline of its own. What is only needed meanwhile is in a folder in `work`, and is gone at
    /// the end. Needs the programs of PostgreSQL, of the version of the base, and no server.
    ///
    /// Tablespaces are in the folder `tablespaces` of the directory, with links that name it: whoever moves it mends them. The directory
    /// belongs to the user `postgres` where this process is root.
    ///
    /// # Errors
    /// [`DatabaseError::Unreachable`] where the repository does not prove that it has everything up to the instant. Whatever the error:
    /// what is in `into` then is of no use.
    pub async fn restore(
        context: &Context,
        repository: &Arc<Repository>,
        backup: &str,
        to: Time,
        into: &Path,
        work: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Restored, DatabaseError> {
        restore::restore(context, repository, backup, to, into, work, watcher).await
    }

    /// Up to which instant the log goes on from a base without a gap, or why the base is of no use.
    pub(crate) async fn through(
        repository: &Repository,
        catalog: &Catalog,
        set: &Manifest,
    ) -> Result<Result<Time, String>, DatabaseError> {
        plan::through(repository, catalog, set).await
    }

    /// Gives tables their names, where a server on what was restored knows them.
    pub(crate) async fn name_tables(server: &dyn Examined, around: &mut [Around]) -> Result<(), String> {
        around::name_tables(server, around).await
    }

    /// The transactions around the instant `to`, `each` on either side at most.
    ///
    /// # Errors
    /// The instant can't be reached.
    pub(crate) async fn around(
        repository: &Arc<Repository>,
        of: (&str, Time, usize),
        watcher: &dyn Watcher,
    ) -> Result<Vec<Around>, DatabaseError> {
        around::around(repository, of, watcher).await
    }

    /// Starts a server on what was restored from `set` into `data`, which is asked whether all is there. Nothing of this host is reached
    /// from it, none of the sockets `live` either.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn examine<'a>(
        context: &Context,
        set: &Manifest,
        data: &Path,
        work: &Path,
        live: &[PathBuf],
    ) -> Result<Box<dyn Examined + 'a>, DatabaseError> {
        examine::examine(context, set, data, work, live).await
    }

    /// Its socket: the file, or that of the usual port in the folder.
    fn socket(&self) -> PathBuf {
        let socket = &self.settings.socket;
        if socket.is_dir() { socket.join(".s.PGSQL.5432") } else { socket.clone() }
    }

    /// The name of its slot. A backup has no `_` in its name.
    fn slot(&self) -> String {
        Self::slot_of(&self.name)
    }

    /// The name of the slot of a backup.
    pub(crate) fn slot_of(name: &str) -> String {
        format!("garant_{}", name.replace('-', "_"))
    }

    /// The system identifier of the cluster.
    ///
    /// # Errors
    /// The server can't be asked.
    pub(crate) async fn system(&self, context: &Context) -> Result<String, DatabaseError> {
        let mut wire = self.replication(context).await?;
        Ok(server::Identity::ask(&mut wire).await.map_err(|error| self.error(error))?.system)
    }

    /// Drops the slot, and says whether there was one: nobody follows the log any more.
    ///
    /// # Errors
    /// The server can't be asked, or somebody uses the slot.
    pub(crate) async fn drop_slot(&self, context: &Context) -> Result<bool, DatabaseError> {
        let failed = |error: WireError| self.error(error);
        let mut sql = self.sql(context).await?;
        if server::Slot::find(&self.slot(), &mut sql).await.map_err(failed)?.is_none() {
            return Ok(false);
        }
        let mut wire = self.replication(context).await?;
        wire.query(&format!("DROP_REPLICATION_SLOT {}", self.slot())).await.map_err(failed)?;
        Ok(true)
    }

    /// The user that is connected as: the one of the settings, or that of this process.
    fn user(&self) -> Result<String, DatabaseError> {
        if let Some(user) = &self.settings.user {
            return Ok(user.clone());
        }
        let path = PathBuf::from("/etc/passwd");
        let text = std::fs::read_to_string(&path).map_err(|error| DatabaseError::Files { path, error })?;
        let own = rustix::process::geteuid().as_raw().to_string();
        let named = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == own).then(|| name.to_owned())
        });
        named.ok_or_else(|| self.error("the user of this process has no name: name one with `user` in the policy"))
    }

    async fn connect(&self, context: &Context, mode: Mode<'_>) -> Result<Result<Connection, WireError>, DatabaseError> {
        let user = self.user()?;
        let password = match &self.settings.password {
            Some(place) => Some(context.secrets.open(&place.secret()).await.map_err(|error| self.error(error))?),
            None => None,
        };
        Ok(Connection::open(&self.socket(), &user, password.as_ref(), mode).await)
    }

    async fn sql(&self, context: &Context) -> Result<Connection, DatabaseError> {
        self.connect(context, Mode::Sql).await?.map_err(|error| self.error(error))
    }

    async fn replication(&self, context: &Context) -> Result<Connection, DatabaseError> {
        self.connect(context, Mode::Replication).await?.map_err(|error| self.error(error))
    }

    /// What failed, with the name of the cluster.
    fn error(&self, what: impl fmt::Display) -> DatabaseError {
        DatabaseError::Database(format!("PostgreSQL of the backup {} ({}): {what}", self.name, self.socket().display()))
    }
}

impl Database for Postgres {
    fn problems<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>> {
        Box::pin(problems::problems(self, context))
    }

    /// Each base is a full one: PostgreSQL sends others from version 17 on.
    fn take_base<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        _full: bool,
        watcher: &'a dyn Watcher,
    ) -> BoxFuture<'a, Result<Manifest, DatabaseError>> {
        Box::pin(base::take(self, context, repository, watcher))
    }

    fn follow<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        shipped: &'a mut (dyn FnMut(Shipped) + Send),
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(receive::follow(self, context, repository, shipped))
    }

    fn newest_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
    ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>> {
        Box::pin(async move {
            let statements = table.of_postgres();
            let mut connection = self.of_canary(context, table).await?;
            let rows = connection.query(&statements.newest()).await;
            let rows = rows.map_err(|error| self.no_canary(&error, &statements))?;
            Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()??.parse().ok()))
        })
    }

    fn put_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
        row: Row,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(async move {
            let statements = table.of_postgres();
            let mut connection = self.of_canary(context, table).await?;
            let [put, remove] = statements.put(row);
            // Of several statements in one question the server makes one transaction.
            let done = connection.query(&format!("{put}; {remove}")).await;
            done.map(drop).map_err(|error| self.no_canary(&error, &statements))
        })
    }
}

impl Postgres {
    async fn of_canary(&self, context: &Context, table: &CanaryTable) -> Result<Connection, DatabaseError> {
        let connected = self.connect(context, Mode::Database(&table.database)).await?;
        connected.map_err(|error| self.error(error))
    }

    /// Why no canary row is committed.
    fn no_canary(&self, error: &WireError, statements: &Statements) -> DatabaseError {
        let remedy = match error {
            WireError::Refused(_) => format!("; {} TO the role of the agent", statements.remedy()),
            _ => String::new(),
        };
        self.error(format!("{error}{remedy}"))
    }
}
