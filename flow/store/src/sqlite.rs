//! One directory, one process, no server: the store of a single machine.
//!
//! ```text
//! garant.lock                     held while a process has the directory
//! garant.db (-wal, -shm)          entries, sealed payloads, tree, head, rows of consumers
//! keys/<class>/<day>.key          what opens the payloads; not in the database, so not in its copies
//! reserve                         space for the entry that says there is no space
//! samples/series.db               numbers of (probe, observer)
//! samples/<day>.db                samples of a day; minute-<day>.db and hour-<month>.db are made from them
//! ```
//!
//! **One writer, many callers.** A durable commit costs a disk flush, and a disk does some thousand of them a second. So all
//! writes go through one thread that takes whatever is waiting and commits it together: the more callers, the larger
//! the commit, and the cost of the flush is shared. Readers have connections of their own and never wait for the writer
//! (write-ahead log).
//!
//! **When the storage refuses**, the writer rolls back, tells every caller of that commit, uses the reserve
//! to journal the fault, and refuses further entries at once instead of letting them queue up. It tries again every second.

mod database;
mod destroy;
mod open;
mod own;
mod queries;
mod readers;
mod series;
mod transaction;
mod work;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use event::journal::Continued;
use event::{Clock, Day, InstallationId, Interval, Observed, ObserverId, ProbeId, Retention, Time};
use journal::Hash;
use journal::checkpoint::Checkpoint;
use journal::note::SigningKey;
use journal::tile::TileId;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::keys::KeyRing;
use crate::lock::DirLock;
use crate::sequence::LogIdentity;
use crate::{
    Append, Bucket, Consumers, EVENTS_MAX, Expired, Head, OpenError, Proofs, Publish, Read, Resolution, Retain,
    Retained, Rows, Sample, Samples, Select, Selected, Step, StorageHealth, StoreError,
};
use readers::Readers;
use series::Series;
use work::{Job, Reply, Work};
use writer::Writer;

/// How to open a data directory for writing.
pub struct SqliteOptions {
    /// The data directory; made when it is missing.
    pub dir: PathBuf,
    /// Origin of the log: `shop.example/1`.
    pub origin: String,
    /// Observer of the events that the store itself records: that the log was opened, that the disk was full.
    pub observer: ObserverId,
    /// Keys that sign checkpoints: one, or two while one replaces the other. Their name is the origin.
    pub signers: Vec<SigningKey>,
    /// Checkpoints remembered outside the data directory: each must be a prefix of the log, or nothing is opened.
    pub remembered: Vec<Checkpoint>,
    /// For a new log that follows one that can't be continued: becomes its second entry.
    pub continues: Option<Continued>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

/// An open data directory, for writing unless its type says otherwise.
pub struct Sqlite<Access = Writable> {
    identity: LogIdentity,
    readers: Readers,
    keys: Arc<KeyRing>,
    health: Arc<writer::Health>,
    size: watch::Receiver<u64>,
    access: Access,
}

/// A data directory, open for reading beside the process that writes to it.
pub type SqliteReader = Sqlite<ReadOnly>;

/// Marks a store that can only read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly;

/// Marks the store that writes: one in each directory. Dropping it finishes what was handed over and stops its threads.
pub struct Writable {
    series: Series,
    writer: Writer,
    /// Dropped last: the directory stays locked until the threads have ended.
    _lock: DirLock,
}

impl<Access> std::fmt::Debug for Sqlite<Access> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the directory for writing: locks it, brings the schema up to date, proves the log consistent with itself
    /// and with what was remembered of it, and, in a new directory, writes the first entry. Blocks for some milliseconds.
    pub fn open(options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        open::open(options)
    }

    /// Signs with these keys from now on, the current head included. One of them must be in use already, so that
    /// whoever trusts the log so far can follow.
    pub async fn sign_with(&self, signers: Vec<SigningKey>) -> Result<(), StoreError> {
        self.commit(|reply| Work::Sign { signers, reply }).await
    }

    async fn commit<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, StoreError> {
        self.access.writer.run(|reply| Job::Commit(work(reply))).await
    }
}

impl SqliteReader {
    /// Opens the directory for reading beside the process that writes to it, if there is one; takes no lock, changes nothing.
    /// [`Read::size_watch`] keeps the size found when it was opened.
    pub fn open_read_only(dir: &Path) -> Result<Arc<Self>, OpenError> {
        open::open_read_only(dir)
    }
}

impl<Access> Sqlite<Access> {
    /// Which installation this is, for its whole life.
    pub const fn installation(&self) -> InstallationId {
        self.identity.installation
    }

    /// Origin of the log.
    pub fn origin(&self) -> &str {
        &self.identity.origin
    }
}

#[async_trait]
impl Append for Sqlite {
    async fn append(&self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError> {
        admit(&events)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(|reply| Work::Append { events, reply }).await
    }
}

#[async_trait]
impl<Access: Send + Sync> Read for Sqlite<Access> {
    async fn head(&self) -> Result<Head, StoreError> {
        self.readers.run("the head of the log", queries::head).await
    }

    async fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.readers.run("the leaves", move |conn| queries::leaves(conn, range)).await
    }

    async fn select(&self, range: Range<u64>, select: &Select) -> Result<Selected, StoreError> {
        let (keys, select) = (Arc::clone(&self.keys), select.clone());
        self.readers.run("the entries", move |conn| queries::select(conn, &keys, range, &select)).await
    }

    async fn published(&self) -> Result<Option<String>, StoreError> {
        self.readers.run("the published checkpoint", queries::published).await
    }

    async fn rotations(&self, size: u64) -> Result<Vec<String>, StoreError> {
        self.readers.run("the rotations", move |conn| queries::rotations(conn, size)).await
    }

    fn size_watch(&self) -> watch::Receiver<u64> {
        self.size.clone()
    }

    fn health(&self) -> StorageHealth {
        self.health.report()
    }
}

#[async_trait]
impl<Access: Send + Sync> Proofs for Sqlite<Access> {
    async fn tile(&self, tile: TileId) -> Result<Option<Vec<u8>>, StoreError> {
        self.readers.run("a tile", move |conn| queries::tile(conn, tile)).await
    }

    async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        self.readers.run("a proof of inclusion", move |conn| queries::inclusion(conn, index, size)).await
    }

    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        self.readers.run("a proof of consistency", move |conn| queries::consistency(conn, old, new)).await
    }

    async fn root_at(&self, size: u64) -> Result<Hash, StoreError> {
        self.readers.run("a root", move |conn| queries::root_at(conn, size)).await
    }
}

#[async_trait]
impl Publish for Sqlite {
    async fn publish(&self, note: String, size: u64) -> Result<(), StoreError> {
        self.commit(|reply| Work::Publish { note, size, reply }).await
    }
}

#[async_trait]
impl Retain for Sqlite {
    async fn days_before(&self, class: Retention, day: Day) -> Result<Vec<Retained>, StoreError> {
        self.readers.run("the retained days", move |conn| queries::days_before(conn, class, day)).await
    }

    async fn intend(&self, class: Retention, day: Day) -> Result<Option<u64>, StoreError> {
        self.access.writer.run(|reply| Job::Intend { class, day, reply }).await
    }

    async fn destroy(&self, class: Retention, day: Day) -> Result<u64, StoreError> {
        self.access.writer.run(|reply| Job::Destroy { class, day, reply }).await
    }
}

/// Refuses events that could not be stored, before they are queued.
fn admit(events: &[Observed]) -> Result<(), StoreError> {
    if events.len() > EVENTS_MAX {
        let (size, max) = (events.len() as u64, EVENTS_MAX as u64);
        return Err(StoreError::TooLarge { what: "a number of events", size, max });
    }
    events.iter().try_for_each(crate::sequence::admit)
}

#[async_trait]
impl<Access: Send + Sync> Rows for Sqlite<Access> {
    async fn position(&self, consumer: &str) -> Result<Option<u64>, StoreError> {
        let consumer = consumer.to_owned();
        self.readers.run("the cursor of a consumer", move |conn| queries::position(conn, &consumer)).await
    }

    async fn rows(
        &self,
        consumer: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (consumer, prefix, after) = (consumer.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        let read = move |conn: &Connection| queries::rows(conn, &consumer, &prefix, after.as_deref(), limit);
        self.readers.run("the rows of a consumer", read).await
    }
}

#[async_trait]
impl Consumers for Sqlite {
    async fn step(&self, step: Step) -> Result<Vec<u64>, StoreError> {
        step.check()?;
        admit(&step.events)?;
        self.commit(|reply| Work::Step { step, reply }).await
    }
}

#[async_trait]
impl Samples for Sqlite {
    fn record(&self, samples: Vec<Sample>) {
        self.access.series.record(samples);
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.access.series.settle().await
    }

    async fn range(
        &self,
        probe: &ProbeId,
        observer: Option<&ObserverId>,
        interval: Interval,
        resolution: Resolution,
    ) -> Result<Vec<Bucket>, StoreError> {
        self.access.series.range(probe.clone(), observer.cloned(), interval, resolution).await
    }

    async fn expire(&self, now: Time) -> Result<Expired, StoreError> {
        self.access.series.expire(now).await
    }
}
