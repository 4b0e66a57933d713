//! The tree as files: C2SP tlog-tiles.
//!
//! A tile holds 256 neighbouring hashes, an entry bundle the 256 leaves below a tile of level 0. A full one never changes,
//! so it can be copied, cached and served by anything that serves files; only the right edge of the tree is in partial
//! ones, whose path names their width so that they never change either.
//!
//! Beside the entry bundles of the standard lie our payload bundles, under the same number and width: see
//! [`disclosure`](crate::disclosure).
//!
//! Beware of a trap: the Go checksum database, and `tlog_tiles` which is ported from it, spell the same tile
//! `tile/8/<L>/…`; C2SP spells it `tile/<L>/…`.

use crate::Hash;
use crate::tree::{Frontier, HashSource};

/// Hashes in a full tile, leaves in a full bundle.
pub const TILE_WIDTH: u16 = 256;
const WIDTH: u64 = TILE_WIDTH as u64;
/// Levels of the tree in one level of tiles: 2^8 = 256.
const TILE_HEIGHT: u8 = 8;
/// Highest level of tiles that a tree of 64-bit size can have.
const LEVEL_MAX: u8 = 7;

/// A tile of hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TileId {
    /// Level 0 holds leaf hashes; each hash of level n + 1 is the root of a full tile of level n.
    pub level: u8,
    /// Which one of its level, from the left.
    pub index: u64,
    /// How many hashes: 1 to 256.
    pub width: u16,
}

/// A bundle of entries, or of payloads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId {
    /// Which one, from the left: its first entry is `256 · index`.
    pub index: u64,
    /// How many entries: 1 to 256.
    pub width: u16,
}

/// What a path under the root of a log names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// `tile/<L>/<N>`
    Tile(TileId),
    /// `tile/entries/<N>`
    Entries(BundleId),
    /// `payload/<N>`
    Payload(BundleId),
}

impl Resource {
    /// Whether a log of exactly `size` entries has it: each full one, and the partial ones of its right edge.
    pub fn is_of(&self, size: u64) -> bool {
        let (index, width, count) = match self {
            Self::Tile(id) => (id.index, id.width, size >> (id.level * TILE_HEIGHT)),
            Self::Entries(id) | Self::Payload(id) => (id.index, id.width, size),
        };
        let full = count / WIDTH;
        if width == TILE_WIDTH { index < full } else { index == full && u64::from(width) == count % WIDTH }
    }
}

/// `<N>[.p/<W>]`: the number in groups of three digits, all but the last with an `x` before.
fn number(index: u64, width: u16) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    if width == TILE_WIDTH { text } else { format!("{text}.p/{width}") }
}

/// Reads decimal digits without a sign or superfluous zeros.
pub(crate) fn parse_decimal<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// Reads `<N>[.p/<W>]`.
fn parse_number(text: &str) -> Option<(u64, u16)> {
    let (number, width) = match text.split_once(".p/") {
        None => (text, TILE_WIDTH),
        Some((number, width)) => (number, parse_decimal(width).filter(|w| (1..TILE_WIDTH).contains(w))?),
    };
    let mut index = 0u64;
    let mut groups = number.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let digits = if groups.peek().is_some() { group.strip_prefix('x')? } else { group };
        let leading_group_of_zeros = first && groups.peek().is_some() && digits == "000";
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) || leading_group_of_zeros {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        first = false;
    }
    Some((index, width))
}

impl TileId {
    /// `tile/<L>/<N>[.p/<W>]`
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, number(self.index, self.width))
    }

    /// The bytes of the tile, from the subtrees of `source`.
    pub fn hashes<S: HashSource>(&self, source: &S) -> Result<Vec<u8>, S::Error> {
        let mut bytes = Vec::with_capacity(usize::from(self.width) * Hash::BYTES);
        for position in 0..u64::from(self.width) {
            let hash = source.subtree(self.level * TILE_HEIGHT, self.index * WIDTH + position)?;
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok(bytes)
    }
}

impl BundleId {
    /// Sequence of its first entry.
    pub const fn start(&self) -> u64 {
        self.index * WIDTH
    }

    /// `tile/entries/<N>[.p/<W>]`
    pub fn entries_path(&self) -> String {
        format!("tile/entries/{}", number(self.index, self.width))
    }

    /// `payload/<N>[.p/<W>]`
    pub fn payload_path(&self) -> String {
        format!("payload/{}", number(self.index, self.width))
    }
}

/// What the path names, if it is the one right spelling of something that a log of `u64::MAX` entries could have.
pub fn parse_path(path: &str) -> Option<Resource> {
    if let Some(number) = path.strip_prefix("payload/") {
        let (index, width) = parse_number(number)?;
        return bundle(index, width).map(Resource::Payload);
    }
    let (kind, number) = path.strip_prefix("tile/")?.split_once('/')?;
    let (index, width) = parse_number(number)?;
    if kind == "entries" {
        return bundle(index, width).map(Resource::Entries);
    }
    let level = parse_decimal(kind).filter(|level| *level <= LEVEL_MAX)?;
    let hashes_of_level = u64::MAX >> (level * TILE_HEIGHT);
    (index <= hashes_of_level / WIDTH).then_some(Resource::Tile(TileId { level, index, width }))
}

fn bundle(index: u64, width: u16) -> Option<BundleId> {
    (index <= u64::MAX / WIDTH).then_some(BundleId { index, width })
}

/// The (index, width) pairs that cover `count` things.
fn cover(count: u64) -> impl Iterator<Item = (u64, u16)> {
    let (full, rest) = (count / WIDTH, u16::try_from(count % WIDTH).unwrap_or(0));
    (0..full).map(|index| (index, TILE_WIDTH)).chain((rest > 0).then_some((full, rest)))
}

/// Every tile of a tree of `size` leaves, level by level.
pub fn tiles_for(size: u64) -> impl Iterator<Item = TileId> {
    (0..=LEVEL_MAX).flat_map(move |level| {
        cover(size >> (level * TILE_HEIGHT)).map(move |(index, width)| TileId { level, index, width })
    })
}

/// Every bundle of a log of `size` entries.
pub fn bundles_for(size: u64) -> impl Iterator<Item = BundleId> {
    cover(size).map(|(index, width)| BundleId { index, width })
}

/// Why bytes are not the entry bundle that they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BundleError {
    /// An entry's length has 16 bits.
    #[error("entry {position} of the bundle has {length} bytes; at most 65535 fit")]
    TooLong {
        /// Which one, from 0.
        position: usize,
        /// Its length.
        length: usize,
    },
    /// The bytes end inside an entry.
    #[error("the bundle ends inside its entry {position}")]
    Cut {
        /// Which one, from 0.
        position: usize,
    },
    /// More or fewer entries than the path says.
    #[error("the bundle holds {found} entries or more, {expected} expected")]
    Count {
        /// How many were read before it was clear.
        found: usize,
        /// How many the path says.
        expected: u16,
    },
}

/// The bytes of an entry bundle: each leaf after its length as a big-endian u16.
pub fn encode_bundle<L: AsRef<[u8]>>(leaves: &[L]) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::with_capacity(leaves.iter().map(|leaf| 2 + leaf.as_ref().len()).sum());
    for (position, leaf) in leaves.iter().enumerate() {
        let leaf = leaf.as_ref();
        let length = u16::try_from(leaf.len()).map_err(|_| BundleError::TooLong { position, length: leaf.len() })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(leaf);
    }
    Ok(bytes)
}

/// The `width` leaves of an entry bundle.
pub fn decode_bundle(mut bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut leaves = Vec::with_capacity(usize::from(width));
    while !bytes.is_empty() {
        let position = leaves.len();
        if position == usize::from(width) {
            return Err(BundleError::Count { found: position + 1, expected: width });
        }
        let (length, rest) = bytes.split_first_chunk().ok_or(BundleError::Cut { position })?;
        let (leaf, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BundleError::Cut { position })?;
        leaves.push(leaf);
        bytes = rest;
    }
    if leaves.len() == usize::from(width) {
        Ok(leaves)
    } else {
        Err(BundleError::Count { found: leaves.len(), expected: width })
    }
}

/// Cuts a stream of leaf hashes into tiles: each full tile as soon as it is full, the partial ones at the end. Holds one
/// open tile per level, whatever the size of the log.
#[derive(Debug, Default)]
pub struct Tiler {
    frontier: Frontier,
    /// Of each level, the bytes of the tile that is being filled.
    open: Vec<Vec<u8>>,
}

impl Tiler {
    /// Of an empty log.
    pub const fn new() -> Self {
        Self { frontier: Frontier::new(), open: Vec::new() }
    }

    /// The tree so far.
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Appends a leaf hash; gives each tile that it fills to `full`.
    pub fn push<E>(&mut self, leaf: Hash, mut full: impl FnMut(TileId, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let (frontier, open) = (&mut self.frontier, &mut self.open);
        let mut outcome = Ok(());
        frontier.push_noting(leaf, |level, index, hash| {
            if level % TILE_HEIGHT != 0 || outcome.is_err() {
                return;
            }
            let level = level / TILE_HEIGHT;
            if open.len() <= usize::from(level) {
                open.resize_with(usize::from(level) + 1, || Vec::with_capacity(usize::from(TILE_WIDTH) * Hash::BYTES));
            }
            let tile = &mut open[usize::from(level)];
            tile.extend_from_slice(hash.as_bytes());
            if tile.len() == usize::from(TILE_WIDTH) * Hash::BYTES {
                outcome = full(TileId { level, index: index / WIDTH, width: TILE_WIDTH }, tile);
                tile.clear();
            }
        });
        outcome
    }

    /// The partial tiles at the right edge of the tree, lowest level first.
    pub fn partial(&self) -> impl Iterator<Item = (TileId, &[u8])> {
        let size = self.frontier.size();
        (0..=LEVEL_MAX).zip(&self.open).filter_map(move |(level, bytes)| {
            let hashes = size >> (level * TILE_HEIGHT);
            let width = u16::try_from(hashes % WIDTH).ok().filter(|width| *width > 0)?;
            Some((TileId { level, index: hashes / WIDTH, width }, bytes.as_slice()))
        })
    }
}

#[cfg(test)]
mod tests;
