//! MariaDB: bases by mariadb-backup, the binary log by the protocol of replicas, restored to any second.
//!
//! The main flow: [`MariaDb::problems`] says what keeps it from working; [`Database::follow`] receives the log as a replica does, and
//! puts it into the repository piece by piece (`follow.rs`); [`Database::take_base`] lets mariadb-backup read the files of the server, and
//! streams what it gives (`base.rs`). Back: [`MariaDb::restore`] needs the repository and the programs of MariaDB, and no server.
//!
//! # Which transactions belong to an instant
//!
//! Those that were committed before it, and none of which the last statement began at or after it. An instant is a full second here, as
//! the log knows no less: fractions of what is asked for are dropped. Where each second ends in the log is known from marks
//! (`mark.rs`), and within the second around it from the headers of the transactions. The order is that of the log: what is in it
//! before a transaction that belongs is restored, what is behind one that does not is not.
//!
//! What it does not know: policies, the journal, who calls it and how often.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{BoxFuture, Context};
use event::Time;
use sha2::{Digest as _, Sha256};

use crate::Connection as Settings;
use crate::canary::{CanaryTable, Row, Statements};
use crate::checks::Examined;
use crate::database::{Around, Database, DatabaseError, Problem, Restored, Shipped, Watcher};
use crate::sealed::{Catalog, Manifest, Repository};

mod around;
mod base;
mod connection;
mod dump;
mod events;
mod examine;
mod follow;
mod lineage;
mod live;
mod log_files;
mod mark;
mod packets;
mod plan;
mod problems;
mod replay;
mod restore;
mod sql;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;

use connection::Connection;
use packets::ProtocolError;

/// A server of MariaDB that is backed up.
#[derive(Clone, Debug)]
pub struct MariaDb {
    name: String,
    settings: Settings,
    work: PathBuf,
}

impl MariaDb {
    /// The server that is reached so, as the backup `name`; small files are written in `work`, a folder of its own.
    pub fn new(name: impl Into<String>, settings: Settings, work: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), settings, work: work.into() }
    }

    /// Restores the newest state of `backup` that the instant `to` shows into the folder `into`, which is empty or not there yet. What is
    /// written meanwhile goes into a folder in `work`, and is gone at the end. Needs the programs of MariaDB, and no server.
    ///
    /// Fractions of a second are dropped. The folder is that of a server which was stopped in good order; it belongs to the user `mysql`
    /// where this process is root.
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
        repository: &Arc<Repository>,
        catalog: &Catalog,
        set: &Manifest,
    ) -> Result<Result<Time, String>, DatabaseError> {
        plan::through(repository, catalog, set).await
    }

    /// The transactions around the instant `to`, `each` on either side at most.
    ///
    /// # Errors
    /// The instant can't be reached.
    pub(crate) async fn around(
        context: &Context,
        repository: &Arc<Repository>,
        of: (&str, Time, usize),
        work: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Vec<Around>, DatabaseError> {
        around::around(context, repository, of, work, watcher).await
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

    /// As which replica the log is received: replicas have the numbers that somebody gave them, which are small.
    fn replica(&self) -> u32 {
        let hash = Sha256::digest(format!("garant replica {}", self.name));
        let number = hash.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        number & 0x3fff_ffff | 0x8000_0000
    }

    /// What messages call the server.
    fn asking(&self) -> String {
        format!("MariaDB at {}", self.settings.socket.display())
    }

    async fn connect(&self, context: &Context) -> Result<Connection, DatabaseError> {
        let opened = Connection::open(context, &self.settings).await;
        opened.map_err(|error| DatabaseError::Database(format!("{}: {error}", self.asking())))
    }
}

impl Database for MariaDb {
    fn problems<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>> {
        Box::pin(problems::problems(self, context))
    }

    fn take_base<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        full: bool,
        watcher: &'a dyn Watcher,
    ) -> BoxFuture<'a, Result<Manifest, DatabaseError>> {
        Box::pin(base::take(self, context, repository, full, watcher))
    }

    fn follow<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        shipped: &'a mut (dyn FnMut(Shipped) + Send),
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(follow::follow(self, context, repository, shipped))
    }

    fn newest_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
    ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>> {
        Box::pin(async move {
            let (mut connection, statements) = (self.connect(context).await?, table.of_mariadb());
            let newest = connection.value(&statements.newest()).await;
            let newest = newest.map_err(|error| self.no_canary(&error, &statements))?;
            Ok(newest.parse().ok())
        })
    }

    fn put_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
        row: Row,
    ) -> BoxFuture<'a, Result<(), DatabaseError>> {
        Box::pin(async move {
            let (mut connection, statements) = (self.connect(context).await?, table.of_mariadb());
            let [put, remove] = statements.put(row);
            for statement in ["START TRANSACTION", &put, &remove, "COMMIT"] {
                connection.query(statement).await.map_err(|error| self.no_canary(&error, &statements))?;
            }
            Ok(())
        })
    }
}

impl MariaDb {
    /// Why no canary row is committed.
    fn no_canary(&self, error: &ProtocolError, statements: &Statements) -> DatabaseError {
        let remedy = match error {
            ProtocolError::Refused { .. } => format!("; {} TO the user of the agent", statements.remedy()),
            _ => String::new(),
        };
        DatabaseError::Database(format!("{}: {error}{remedy}", self.asking()))
    }
}

/// Says of whom something was asked, where that failed.
trait Asking<T> {
    fn asking(self, whom: &str) -> Result<T, DatabaseError>;
}

impl<T> Asking<T> for Result<T, ProtocolError> {
    fn asking(self, whom: &str) -> Result<T, DatabaseError> {
        self.map_err(|error| DatabaseError::Database(format!("{whom}: {error}")))
    }
}
