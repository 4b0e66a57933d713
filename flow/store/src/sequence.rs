//! From an observed event to what is stored of it: envelope, salt, commitment, leaf, sealed payload, hashes.
//!
//! The same for every database, so it is not beside the SQL of one. A [`Draft`] is everything that one transaction adds to
//! the log, computed before and outside of it; thrown away with the transaction, it leaves no trace.

use event::{Day, InstallationId, Observed, Retention, Time};
use journal::checkpoint::Checkpoint;
use journal::leaf::Leaf;
use journal::note::SigningKey;
use journal::seal::{self, DayKey};
use journal::tree::{self, Frontier};
use journal::{Hash, tile};

use crate::{StoreError, random};

/// Room for what the envelope adds to the body of an event.
const ENVELOPE_BYTES_MAX: usize = 4096;
/// Longest coarse kind.
const COARSE_BYTES_MAX: usize = 128;

/// What identifies the log in each envelope: the installation and the origin.
#[derive(Clone, Debug)]
pub(crate) struct LogIdentity {
    pub(crate) installation: InstallationId,
    pub(crate) origin: String,
}

/// The columns of the row of one entry.
pub(crate) struct EntryRow {
    pub(crate) sequence: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) class: Retention,
    pub(crate) day: Day,
    pub(crate) sealed: Vec<u8>,
}

/// Salts and nonces for one transaction, drawn from the system at once.
struct Randoms {
    bytes: Vec<u8>,
    used: usize,
}

impl Randoms {
    const SALT_BYTES: usize = 32;
    const NONCE_BYTES: usize = 12;

    fn for_entries(count: usize) -> std::io::Result<Self> {
        let mut bytes = vec![0; count * (Self::SALT_BYTES + Self::NONCE_BYTES)];
        random::fill(&mut bytes)?;
        Ok(Self { bytes, used: 0 })
    }

    fn take<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let taken = self.bytes.get(self.used..).and_then(|rest| rest.first_chunk::<N>()).copied();
        self.used += N;
        taken.map_or_else(random::bytes, Ok)
    }
}

/// The additions of one transaction to the log.
pub(crate) struct Draft<'a> {
    identity: &'a LogIdentity,
    recorded_at: Time,
    frontier: Frontier,
    randoms: Randoms,
    /// Roots of complete tiles: (level of the subtree, a multiple of 8; place; hash).
    pub(crate) tile_roots: Vec<(u8, u64, Hash)>,
}

impl<'a> Draft<'a> {
    /// A draft of about `count` entries after those of `frontier`.
    pub(crate) fn new(
        identity: &'a LogIdentity,
        recorded_at: Time,
        frontier: &Frontier,
        count: usize,
    ) -> std::io::Result<Self> {
        Ok(Self {
            identity,
            recorded_at,
            frontier: frontier.clone(),
            randoms: Randoms::for_entries(count)?,
            tile_roots: Vec::new(),
        })
    }

    /// The UTC day that all its entries are recorded on.
    pub(crate) fn day(&self) -> Day {
        self.recorded_at.day()
    }

    /// Appends an event: its envelope, sealed with the key of its class and of [`day`](Self::day), its leaf, its hashes.
    pub(crate) fn add(&mut self, event: Observed, key: &DayKey) -> std::io::Result<EntryRow> {
        let sequence = self.frontier.size();
        let class = event.retention;
        let coarse = event.coarse.clone();
        let payload = event.record(self.identity.installation, &self.identity.origin, self.recorded_at).encode();
        let salt = self.randoms.take()?;
        let commitment = seal::commitment(&salt, &payload);
        let leaf = Leaf { coarse, sequence, hour: self.recorded_at.hour(), commitment }.encode();
        let sealed = seal::seal(key, sequence, self.randoms.take()?, &salt, &payload).map_err(std::io::Error::other)?;
        let tile_roots = &mut self.tile_roots;
        self.frontier.push_noting(tree::leaf_hash(&leaf), |level, place, hash| {
            if level > 0 && u16::from(level) % u16::try_from(tile::TILE_WIDTH.ilog2()).unwrap_or(8) == 0 {
                tile_roots.push((level, place, hash));
            }
        });
        Ok(EntryRow { sequence, leaf, class, day: self.day(), sealed })
    }

    /// The checkpoint after its last entry.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.identity.origin.clone(), size: self.frontier.size(), root: self.frontier.root() }
    }

    /// The edge of the tree after its last entry, once the transaction has been committed.
    pub(crate) fn into_frontier(self) -> Frontier {
        self.frontier
    }
}

/// Refuses an event that could not be stored or exported, before it is queued.
pub(crate) fn admit(event: &Observed) -> Result<(), StoreError> {
    let payload_bytes = event.body.get().len() + ENVELOPE_BYTES_MAX;
    if payload_bytes > event::PAYLOAD_BYTES_MAX {
        let (size, max) = (payload_bytes as u64, event::PAYLOAD_BYTES_MAX as u64);
        return Err(StoreError::TooLarge { what: "a payload", size, max });
    }
    let coarse = &event.coarse;
    if coarse.is_empty() || coarse.len() > COARSE_BYTES_MAX || !coarse.bytes().all(|b| b.is_ascii_graphic()) {
        let reason = format!("`{coarse}` is not 1 to {COARSE_BYTES_MAX} printable ASCII characters without spaces");
        return Err(StoreError::Malformed { what: "coarse kind", reason });
    }
    if event.kind.len() + event.signature.as_ref().map_or(0, String::len) > ENVELOPE_BYTES_MAX / 2 {
        let reason = format!("and its signature are together longer than {} bytes", ENVELOPE_BYTES_MAX / 2);
        return Err(StoreError::Malformed { what: "type", reason });
    }
    Ok(())
}

/// The note of a checkpoint, signed by all keys.
pub(crate) fn sign(checkpoint: &Checkpoint, signers: &[SigningKey]) -> String {
    checkpoint.sign(&signers.iter().collect::<Vec<_>>())
}

/// Why the keys can't sign for the log of that origin.
pub(crate) fn refuse_signers(signers: &[SigningKey], origin: &str) -> Option<String> {
    if signers.is_empty() {
        return Some("no log key was given".to_owned());
    }
    let stranger = signers.iter().find(|key| key.name() != origin)?;
    Some(format!("the log key is named `{}`; the name of a key is the origin of its log", stranger.name()))
}
