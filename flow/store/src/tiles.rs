//! Hashes of subtrees, computed from stored tiles.
//!
//! A database keeps leaves and the roots of complete tiles; every hash between is computed again when asked for. That costs a
//! few hundred hashes for a proof, and saves storing twice as many hashes as there are entries.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use journal::Hash;
use journal::tile::TILE_WIDTH;
use journal::tree::{self, HashSource};

use crate::StoreError;

/// Levels of the tree in one level of tiles.
const HEIGHT: u8 = 8;
const WIDTH: u64 = TILE_WIDTH as u64;

/// The tree of a database during one call: each tile is loaded once.
pub(crate) struct Tiles<L> {
    load: L,
    loaded: RefCell<HashMap<(u8, u64), Vec<Hash>>>,
}

impl<L: Fn(u8, u64) -> Result<Vec<Hash>, StoreError>> Tiles<L> {
    /// `load` returns the hashes, as far as there are any, of the tile of that level (0: leaf hashes) and index.
    pub(crate) fn new(load: L) -> Self {
        Self { load, loaded: RefCell::default() }
    }
}

impl<L: Fn(u8, u64) -> Result<Vec<Hash>, StoreError>> HashSource for Tiles<L> {
    type Error = StoreError;

    fn subtree(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let (tile_level, height) = (level / HEIGHT, level % HEIGHT);
        let first = index << height;
        let tile = (tile_level, first / WIDTH);
        let mut loaded = self.loaded.borrow_mut();
        let hashes = match loaded.entry(tile) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert((self.load)(tile_level, tile.1)?),
        };
        // The subtree is complete, so it lies in one tile whatever its height.
        let from = usize::try_from(first % WIDTH).unwrap_or(usize::MAX);
        let hashes = hashes.get(from..from + (1 << height)).ok_or_else(|| StoreError::Damaged {
            what: "tree",
            reason: format!("the hash of level {level}, place {index} is missing"),
        })?;
        let mut hashes = hashes.to_vec();
        while let [_, _, ..] = hashes[..] {
            hashes = hashes.chunks_exact(2).map(|pair| tree::node_hash(&pair[0], &pair[1])).collect();
        }
        hashes.first().copied().ok_or(StoreError::Damaged { what: "tree", reason: "an empty tile".to_owned() })
    }
}
