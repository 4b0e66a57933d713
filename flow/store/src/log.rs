//! The journal as an aggregate: what any store of it must do.

use std::ops::Range;

use async_trait::async_trait;
use event::{Day, Kind, Observed, Retention, Time};
use journal::Hash;
use journal::leaf::Leaf;
use journal::tile::TileId;
use tokio::sync::watch;

use crate::StoreError;

/// The head of the log: size, root and signed checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root of their tree (RFC 6962, section 2.1).
    pub root: Hash,
    /// The checkpoint of that size and root as a signed note, signed in the transaction that appended the last entry.
    pub note: String,
}

/// A payload, with the salt of its commitment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload {
    /// The 32 random bytes that hide the payload behind its commitment.
    pub salt: [u8; 32],
    /// The committed bytes: an [`event::Envelope`], never serialised again.
    pub bytes: Vec<u8>,
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the log, from 0.
    pub sequence: u64,
    /// Its leaf, see [`journal::leaf`].
    pub leaf: Vec<u8>,
    /// The payload; `None` once its day was destroyed.
    pub payload: Option<Payload>,
}

/// A day of a retention class whose payloads are there, or are being destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retained {
    /// The UTC day of their recording.
    pub day: Day,
    /// Number of entries with a payload.
    pub entries: u64,
    /// The entry that says that they will be destroyed, once there is one.
    pub intended: Option<u64>,
}

/// The journal refuses entries at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendsRefused {
    /// Since when.
    pub since: Time,
    /// Whether the storage is full.
    pub full: bool,
    /// The storage's own message.
    pub reason: String,
}

/// Condition of the storage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StorageHealth {
    /// Set while entries are refused.
    pub fault: Option<AppendsRefused>,
    /// Entries refused since the store was opened.
    pub entries_refused: u64,
    /// Samples dropped since the store was opened: the queue was full, the storage failed, or their time was absurd.
    pub samples_dropped: u64,
    /// Files of samples that were damaged, and set aside, since the store was opened.
    pub sample_files_damaged: u64,
    /// Whether the reserve that pays for the entry about a full disk is in place.
    pub reserve_ready: bool,
}

/// A selection of entries. The leaf decides, before anything is unsealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Select {
    /// Every entry.
    All,
    /// The public entries, which verdicts may rest on.
    Public,
    /// Those of these kinds. A leaf names a public kind, but only the family of a team kind, so entries of other team kinds of
    /// that family may be among them.
    Kinds(Vec<Kind>),
}

impl Select {
    /// Whether the entry with this leaf is selected. A leaf of another format is, and its reader finds out.
    pub fn wants(&self, leaf: &[u8]) -> bool {
        if *self == Self::All {
            return true;
        }
        Leaf::parse(leaf).map_or(true, |leaf| match self {
            Self::All => true,
            Self::Public => leaf.is_public(),
            Self::Kinds(kinds) => kinds.iter().any(|kind| kind.coarse() == leaf.coarse),
        })
    }
}

/// The result of a selection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// The entries wanted, in their order.
    pub entries: Vec<Entry>,
    /// The first place that was not looked at: ask again from there.
    pub to: u64,
}

/// Adds to the journal, an append-only log with proofs.
///
/// # Contract
///
/// Of the whole journal, whichever of [`Append`], [`Read`], [`Proofs`], [`Publish`] and [`Retain`] is given:
///
/// * **Order.** Sequences are given from 0 without gap. Entries are never changed, reordered or removed; only payloads go.
/// * **Whole.** Leaves, sealed payloads, stored hashes, the head and its signed checkpoint change in one transaction. After
///   `kill -9` at any instant, [`head`](Read::head) is the root of exactly the entries that are there.
/// * **Durable.** When [`append`](Self::append) returns `Ok`, a power loss does not lose the entries.
/// * **Idempotent.** An event is known by (observer, boot, sequence). One that is there already is not appended again,
///   whatever else the second copy says, and has no place in the answer. An observer may so send its spool again after a
///   doubt. Of each (observer, boot) the [`Numbers`](crate::Numbers) are kept, in a space that does not grow with the log.
/// * **Bounded.** At most [`EVENTS_MAX`] events and 64 MiB per call, and a bounded number in all calls under way: at
///   that bound `append` waits. A range longer than [`RANGE_MAX`] is cut there.
/// * **Cancelled** calls may or may not have happened; the idempotence above makes it safe to ask again.
#[async_trait]
pub trait Append: Send + Sync {
    /// Appends events in the given order and returns the places of those that were not there yet. All of them are kept or
    /// none is.
    async fn append(&self, events: Vec<Observed>) -> Result<Vec<u64>, StoreError>;
}

/// Reads the journal.
#[async_trait]
pub trait Read: Send + Sync {
    /// The last checkpoint signed.
    async fn head(&self) -> Result<Head, StoreError>;

    /// The leaves of a range, as far as there are any.
    async fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The entries of a range that are wanted, as far as there are any. It looks at [`RANGE_MAX`] leaves and opens 16 MiB of
    /// payload at most, and at one entry at least when the range starts below the head.
    async fn select(&self, range: Range<u64>, select: &Select) -> Result<Selected, StoreError>;

    /// The entries of a range, as far as there are any: a prefix of it, never empty when its start is below the head; cut as
    /// [`select`](Self::select) is.
    async fn entries(&self, range: Range<u64>) -> Result<Vec<Entry>, StoreError> {
        self.select(range, &Select::All).await.map(|selected| selected.entries)
    }

    /// All the entries of a range that are wanted, by as many reads as it takes: for kinds of which there are few.
    async fn select_all(&self, range: Range<u64>, select: &Select) -> Result<Vec<Entry>, StoreError> {
        let (mut all, mut next) = (Vec::new(), range.start);
        while next < range.end {
            let selected = self.select(next..range.end, select).await?;
            if selected.to <= next {
                break;
            }
            next = selected.to;
            all.extend(selected.entries);
        }
        Ok(all)
    }

    /// The last note published.
    async fn published(&self) -> Result<Option<String>, StoreError>;

    /// Checkpoints signed by several keys, one for each set of keys: how a reader gets from an old key to a new one. It is the
    /// first after the new key was announced, so that it stays what it is while both sign. Only those of at most `size`
    /// entries: a reader of a log of that size can't follow others, and is not to see them.
    async fn rotations(&self, size: u64) -> Result<Vec<String>, StoreError>;

    /// The size of the log, updated after each commit of this process. A hint: a reader that must not miss what another process
    /// appends looks at the [`head`](Self::head) now and then.
    fn size_watch(&self) -> watch::Receiver<u64>;

    /// The condition of the storage; never waits.
    fn health(&self) -> StorageHealth;
}

/// Reads the journal and proves what is in it.
#[async_trait]
pub trait Proofs: Read {
    /// The hashes of a tile (C2SP tlog-tiles), 32 bytes each; `None` when the log does not have that many entries.
    async fn tile(&self, tile: TileId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Proof that the entry `index` is in the tree of the first `size` (RFC 6962, section 2.1.1).
    async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError>;

    /// Proof that the tree of the first `old` entries is a prefix of the tree of the first `new` (section 2.1.2).
    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError>;

    /// Root of the tree of the first `size` entries.
    async fn root_at(&self, size: u64) -> Result<Hash, StoreError>;
}

/// Decides what readers outside get to see.
#[async_trait]
pub trait Publish: Proofs {
    /// Keeps a note of that size, with whatever cosignatures were collected, as the one that pages and readers get. A note
    /// smaller than the one published before changes nothing.
    async fn publish(&self, note: String, size: u64) -> Result<(), StoreError>;
}

/// Destroys payloads. Given to retention alone.
#[async_trait]
pub trait Retain: Read {
    /// The UTC days before `day` that have payloads of the class, or had and whose destruction is not finished.
    async fn days_before(&self, class: Retention, day: Day) -> Result<Vec<Retained>, StoreError>;

    /// Journals that the payloads of one class (not [`Retention::Permanent`]) and day will be destroyed. Returns the entry
    /// that says so: the same one when asked again, `None` when there are no such payloads.
    async fn intend(&self, class: Retention, day: Day) -> Result<Option<u64>, StoreError>;

    /// Destroys what [`intend`](Self::intend) announced, once a published checkpoint holds the announcement: in the database
    /// and its write-ahead log, then the key that opens every copy. Journals that it did, in the transaction that forgets
    /// the day. Leaves, hashes and proofs stay. Returns how many entries it concerned; 0 when it was done before. Started
    /// again after a crash, it finishes the work.
    async fn destroy(&self, class: Retention, day: Day) -> Result<u64, StoreError>;
}

/// Most events that one [`Append::append`] takes.
pub const EVENTS_MAX: usize = 4096;

/// Most entries, or leaves, that one read returns.
pub const RANGE_MAX: u64 = 4096;
