//! Inclusion and consistency proofs: made as RFC 6962 §2.1.1 and §2.1.2 say, verified as RFC 9162 §2.1.3.2 and §2.1.4.2
//! say.

use super::{HashSource, node_hash, range_root};
use crate::Hash;

/// Why a proof proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// No such leaf, or no such older tree.
    #[error("{asked} is beyond the {size} entries of the tree")]
    Beyond {
        /// Index or older size.
        asked: u64,
        /// Size of the tree.
        size: u64,
    },
    /// Hashes are missing or left over.
    #[error("the proof has {found} hashes, which is not the number that such a proof has")]
    Length {
        /// How many it has.
        found: usize,
    },
    /// The hashes lead to another root.
    #[error("the proof leads to the root {computed}, not to {expected}")]
    Root {
        /// Where it leads.
        computed: Hash,
        /// Where it should.
        expected: Hash,
    },
}

/// Where a range of at least two leaves is split: the largest power of two below its length.
const fn split(length: u64) -> u64 {
    1 << (length - 1).ilog2()
}

/// The hashes that prove leaf `index` to be in the tree of the first `size` leaves, from the leaf's sibling upwards.
/// Empty when there is no such leaf; such a proof verifies nothing.
pub fn prove_inclusion<S: HashSource>(index: u64, size: u64, source: &S) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_root(middle, end, source)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, source)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that prove the tree of the first `old` leaves to be a prefix of the tree of the first `new`. Empty when
/// `old` is 0, equal to `new`, or beyond it.
pub fn prove_consistency<S: HashSource>(old: u64, new: u64, source: &S) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    // SUBPROOF(m, D[n], b) of the RFC as a loop; b: the old tree is still a whole subtree that the verifier knows.
    let (mut start, mut end, mut known) = (0, new, true);
    while old < end {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_root(middle, end, source)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, source)?);
            start = middle;
            known = false;
        }
    }
    if !known {
        proof.push(range_root(start, end, source)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that the leaf of hash `leaf` is entry `index` of the tree of `size` entries with root `root`.
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Beyond { asked: index, size });
    }
    let length = || ProofError::Length { found: proof.len() };
    let (mut node, mut last, mut computed) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(length());
        }
        if node & 1 == 1 || node == last {
            computed = node_hash(sibling, &computed);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            computed = node_hash(&computed, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length());
    }
    if computed == *root { Ok(()) } else { Err(ProofError::Root { computed, expected: *root }) }
}

/// Whether `proof` shows that the tree of `old` entries with root `old_root` is a prefix of the tree of `new` entries with
/// root `new_root`.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let length = || ProofError::Length { found: proof.len() };
    let same = |computed: Hash, expected: &Hash| {
        if computed == *expected { Ok(()) } else { Err(ProofError::Root { computed, expected: *expected }) }
    };
    if old > new {
        return Err(ProofError::Beyond { asked: old, size: new });
    }
    if old == 0 || old == new {
        // Nothing to prove: any tree continues the empty one, and a tree continues itself.
        let expected = if old == 0 { &super::EMPTY_ROOT } else { new_root };
        return if proof.is_empty() { same(*old_root, expected) } else { Err(length()) };
    }
    // A complete old tree is its own first hash; the prover leaves it out.
    let mut hashes = old.is_power_of_two().then_some(old_root).into_iter().chain(proof);
    let mut node = old - 1;
    let mut last = new - 1;
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let first = *hashes.next().ok_or_else(length)?;
    let (mut old_computed, mut new_computed) = (first, first);
    for hash in hashes {
        if last == 0 {
            return Err(length());
        }
        if node & 1 == 1 || node == last {
            old_computed = node_hash(hash, &old_computed);
            new_computed = node_hash(hash, &new_computed);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_computed = node_hash(&new_computed, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length());
    }
    same(old_computed, old_root)?;
    same(new_computed, new_root)
}
