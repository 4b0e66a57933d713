//! The Merkle tree of RFC 6962 §2.1.
//!
//! A tree of n leaves is known by its complete subtrees: one for each bit of n, largest first. [`Frontier`] keeps just
//! these (64 hashes at most), so appending costs two hashes on average and the root of any moment is a fold over them.
//! Proofs need hashes from inside the tree; they are asked of a [`HashSource`], which only ever has to know *complete*
//! subtrees, the ones that never change once written.

mod proof;

pub use proof::{ProofError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};

use sha2::{Digest as _, Sha256};

use crate::Hash;

/// The root of a tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = Hash::new([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update([0]);
    sha.update(leaf);
    Hash::new(sha.finalize().into())
}

/// SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut block = [1; 1 + 2 * Hash::BYTES];
    block[1..=Hash::BYTES].copy_from_slice(left.as_bytes());
    block[1 + Hash::BYTES..].copy_from_slice(right.as_bytes());
    Hash::new(Sha256::digest(block).into())
}

/// Gives the hash of complete subtrees.
pub trait HashSource {
    /// Why a hash can't be had.
    type Error;

    /// The root of the complete subtree over the leaves `[index · 2^level, (index + 1) · 2^level)`. Asked only for
    /// subtrees that lie wholly inside the tree size given to the calling function.
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// The complete subtrees that make up the leaves `[start, end)`, as (level, index), from left to right. `start` must be
/// a multiple of the largest power of two that fits the range, as in every range that RFC 6962 forms.
fn complete_subtrees(start: u64, end: u64) -> impl DoubleEndedIterator<Item = (u8, u64)> {
    let length = end.saturating_sub(start);
    (0..64u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
        // The leaves of the larger subtrees come before this one.
        let before = length & !((2u64 << level).wrapping_sub(1));
        (level, (start + before) >> level)
    })
}

/// The root over the leaves `[start, end)`.
fn range_root<S: HashSource>(start: u64, end: u64, source: &S) -> Result<Hash, S::Error> {
    let mut root = None;
    for (level, index) in complete_subtrees(start, end).rev() {
        let left = source.subtree(level, index)?;
        root = Some(root.map_or(left, |right| node_hash(&left, &right)));
    }
    Ok(root.unwrap_or(EMPTY_ROOT))
}

/// The root of the tree of the first `size` leaves.
pub fn root_at<S: HashSource>(size: u64, source: &S) -> Result<Hash, S::Error> {
    range_root(0, size, source)
}

/// The right edge of a tree: enough to append to it and to tell its root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    /// One hash per bit of `size`, largest subtree first.
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Of the empty tree.
    pub const fn new() -> Self {
        Self { size: 0, subtrees: Vec::new() }
    }

    /// Of the tree of the first `size` leaves of `source`.
    pub fn from_source<S: HashSource>(size: u64, source: &S) -> Result<Self, S::Error> {
        let subtrees = complete_subtrees(0, size).map(|(level, index)| source.subtree(level, index));
        Ok(Self { size, subtrees: subtrees.collect::<Result<_, _>>()? })
    }

    /// How many leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, given its [`leaf_hash`].
    pub fn push(&mut self, leaf: Hash) {
        self.push_noting(leaf, |_, _, _| ());
    }

    /// Appends a leaf and tells `note` (level, index, hash) of every complete subtree that it completes, the leaf itself
    /// first: what a [`HashSource`] has to remember, no more and no less.
    pub fn push_noting(&mut self, leaf: Hash, mut note: impl FnMut(u8, u64, Hash)) {
        let mut hash = leaf;
        note(0, self.size, hash);
        // Each trailing one bit of the old size is a complete subtree that merges with the one to its right.
        for level in 1..=u8::try_from(self.size.trailing_ones()).unwrap_or(64) {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            note(level, self.size >> level, hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut from_right = self.subtrees.iter().rev();
        let Some(last) = from_right.next() else { return EMPTY_ROOT };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests;
