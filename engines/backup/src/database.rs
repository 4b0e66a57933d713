//! What the databases have in common: the pieces of their logs, the second to restore to, and what came of it.
//!
//! A database is followed without pause ([`Shipped`] says how far), and bases are taken of it now and then. A restore to an instant
//! takes the newest base before it that is of use, plays the log to the last commit before it, and says which commit that was. It fails where the
//! repository does not prove that it has everything up to the instant: it never gives the newest there is instead.

use std::path::PathBuf;
use std::sync::Arc;

use engine::{BoxFuture, Context};
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::canary::{CanaryTable, Row};
use crate::sealed::{Manifest, Repository, RepositoryError};
pub use engine::Watcher;

/// Longest time that something of a log waits before it leaves the host.
pub const SHIP_EVERY: Span = Span::from_secs(10);
/// How long it waits for more: what is left of [`SHIP_EVERY`] is for its way.
pub(crate) const SHIP_AFTER: Span = Span::from_micros(SHIP_EVERY.micros() * 4 / 5);
/// How often a log in which nothing happens says so, by a piece without bytes.
pub const IDLE_EVERY: Span = Span::from_secs(60);
/// Most bytes of a log that wait in memory; beyond them they leave at once.
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The head of a piece of log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct PieceHead {
    /// Whatever was committed before this instant is in this piece or before it. By the clock of the agent.
    pub through: Time,
    /// The instant of the first commit in it, as the log says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_commit: Option<Time>,
    /// The instant of the last commit in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Time>,
    /// What its engine needs to know beside: the name of the file, the version of the server.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub facts: serde_json::Value,
}

/// A piece of log has become durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipped {
    /// The log.
    pub log: String,
    /// Whatever was committed before this instant is durable.
    pub through: Time,
    /// Bytes of the log in the piece; 0 for one that says that nothing happened.
    pub bytes: u64,
    /// Whether the log is another one than before: a new base is needed at once.
    pub is_new_log: bool,
    /// Whether something in it can't be done again elsewhere: only a base behind it can be restored.
    pub needs_base: bool,
}

/// A commit in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Commit {
    /// The GTID, or the LSN of its record.
    pub id: String,
    /// When it was made, as the log says.
    pub at: Time,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Restored {
    /// The instant that was asked for.
    pub to: Time,
    /// The last commit that is in it; `None` where the base has no log behind it before the instant.
    pub last_commit: Option<Commit>,
    /// The first commit that is not in it; `None` where the log has none yet.
    pub next_commit: Option<Commit>,
    /// The base.
    pub set: String,
    /// The folder of data, of a server that was stopped in good order.
    pub folder: PathBuf,
    /// Bytes of the base and the log that were read, as they were before sealing.
    pub bytes: u64,
    /// Why it may differ from what there was at the instant, each in a sentence; empty where it is exact.
    #[serde(default)]
    pub doubts: Vec<String>,
    /// Newer bases that were of no use.
    #[serde(default)]
    pub passed_over: Vec<PassedOver>,
}

/// A base that a restore went without, for it was of no use.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct PassedOver {
    /// The set.
    pub set: String,
    /// What is wrong with it.
    pub why: String,
}

/// Most things of a transaction that are named.
pub(crate) const TOUCHED_MAX: usize = 20;

/// A transaction near an instant, for people who choose one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Around {
    /// Its commit.
    pub commit: Commit,
    /// Its number in PostgreSQL (xid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<u32>,
    /// Bytes of it in the log.
    pub bytes: u64,
    /// What it touched, as far as the log says that without values.
    pub touched: Vec<String>,
    /// Whether it is in the state of the instant.
    pub is_in: bool,
}

/// A database that can be followed and of which bases can be taken.
///
/// # Contract
///
/// * [`follow`](Self::follow) runs until [`Context::stop`] is cancelled, or fails; it goes on where the repository ends. It holds back
///   the database by nothing but the log that it has not received yet.
/// * [`take_base`](Self::take_base) may run at the same time. A base that is not complete is never found.
/// * Both may be dropped at any instant.
pub trait Database: Send + Sync {
    /// What keeps it from being backed up.
    fn problems<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>>;

    /// Takes a base: a full one, or one that holds what has changed since the last base.
    fn take_base<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        full: bool,
        watcher: &'a dyn Watcher,
    ) -> BoxFuture<'a, Result<Manifest, DatabaseError>>;

    /// Receives its log, and says of each piece when it is durable.
    fn follow<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        shipped: &'a mut (dyn FnMut(Shipped) + Send),
    ) -> BoxFuture<'a, Result<(), DatabaseError>>;

    /// The number of the newest canary row.
    fn newest_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
    ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>>;

    /// Commits a canary row, and removes the oldest with it.
    fn put_canary<'a>(
        &'a self,
        context: &'a Context,
        table: &'a CanaryTable,
        row: Row,
    ) -> BoxFuture<'a, Result<(), DatabaseError>>;
}

/// Something of a database that keeps it from being backed up, or restored to any second.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Problem {
    /// What is wrong: `log_bin is off`.
    pub what: String,
    /// The statement of SQL, or the line of a file, that mends it.
    pub remedy: String,
    /// Whether it keeps nothing from working, and may surprise later.
    pub is_warning: bool,
    /// What of the remedy a script can do.
    #[serde(default)]
    pub mend: Mend,
}

/// What a script can do about a [`Problem`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Mend {
    /// Nothing: it needs a person.
    #[default]
    ByHand,
    /// Run these statements of SQL as the administrator, which give the user its rights.
    Rights(String),
    /// Run these statements as the administrator, which change the server at once.
    Statements(String),
    /// Run these statements as the administrator, then start the server again.
    StatementsThenRestart(String),
    /// Add this line to the configuration of the server, then start it again.
    LineThenRestart(String),
    /// Nothing: it goes once a restore test of this release has passed.
    RestoreTest(String),
}

/// A database could not be backed up or restored.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The instant can't be reached: the reason, and what can be reached instead.
    #[error("{0}")]
    Unreachable(String),
    /// The database, or a program of it, failed: what, why, and what to do.
    #[error("{0}")]
    Database(String),
    /// A file or a directory of ours failed.
    #[error("{path}: {error}")]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A program of the database failed.
    #[error(transparent)]
    Program(#[from] engine::ProgramError),
}
