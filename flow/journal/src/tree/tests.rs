//! Against published vectors, and against the crate `tlog_tiles` (ported from Go's `x/mod/sumdb/tlog`) for every size.

use std::cell::Cell;

use tlog_tiles::HashReader;

use super::*;
use crate::testing::Tree;

/// Inputs and roots of the Certificate Transparency reference tests.
#[test]
fn certificate_transparency_vectors() {
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root().to_string(), roots[0]);
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        frontier.push(leaf_hash(leaf));
        assert_eq!(frontier.root().to_string(), *root);
    }
}

/// The stored hashes of `tlog_tiles`, in its own numbering.
#[derive(Default)]
struct Oracle(Vec<tlog_tiles::Hash>);

impl HashReader for Oracle {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).expect("small")]).collect())
    }
}

fn leaf(n: u64) -> Vec<u8> {
    format!("leaf {n}").into_bytes()
}

fn ours(hashes: Vec<tlog_tiles::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(|hash| Hash::new(hash.0)).collect()
}

#[test]
fn agrees_with_tlog_tiles_for_every_size() {
    const SIZES: u64 = 600;
    let (mut oracle, mut tree) = (Oracle::default(), Tree::default());
    let mut roots = vec![EMPTY_ROOT];
    for size in 1..=SIZES {
        let stored = tlog_tiles::stored_hashes(size - 1, &leaf(size - 1), &oracle).expect("stored");
        oracle.0.extend(stored);
        tree.push(leaf_hash(&leaf(size - 1)));
        let theirs = tlog_tiles::tree_hash(size, &oracle).expect("a root");
        let root = tree.frontier().root();
        assert_eq!(root, Hash::new(theirs.0), "root of {size}");
        assert_eq!(root_at(size, &tree), Ok(root));
        assert_eq!(Frontier::from_source(size, &tree).as_ref(), Ok(tree.frontier()), "frontier of {size}");
        roots.push(root);
        // Every index of small trees, a walk through larger ones.
        for index in (0..size).step_by(if size < 70 { 1 } else { 37 }) {
            let proof = prove_inclusion(index, size, &tree).expect("a proof");
            assert_eq!(
                proof,
                ours(tlog_tiles::prove_record(size, index, &oracle).expect("a proof")),
                "{index} in {size}"
            );
            assert_eq!(verify_inclusion(index, size, &leaf_hash(&leaf(index)), &proof, &root), Ok(()));
        }
        for old in (1..=size).step_by(if size < 70 { 1 } else { 29 }) {
            let proof = prove_consistency(old, size, &tree).expect("a proof");
            assert_eq!(proof, ours(tlog_tiles::prove_tree(size, old, &oracle).expect("a proof")), "{old} to {size}");
            let old_root = &roots[usize::try_from(old).expect("small")];
            assert_eq!(verify_consistency(old, old_root, size, &root, &proof), Ok(()), "{old} to {size}");
        }
    }
}

/// A proof altered in any way proves nothing: bits, hashes left out or added, other places, other roots.
#[test]
fn altered_proofs_are_refused() {
    let tree: Tree = (0..77).map(leaf).collect();
    let root = tree.frontier().root();
    let other = Hash::of(&[b"other"]);
    for size in 1..=77u64 {
        let root = root_at(size, &tree).expect("a root");
        for index in 0..size {
            let proof = prove_inclusion(index, size, &tree).expect("a proof");
            let verify = |index, size, proof: &[Hash], root| {
                verify_inclusion(index, size, &leaf_hash(&leaf(index)), proof, root)
            };
            for position in 0..proof.len() {
                let mut altered = proof.clone();
                altered[position] = other;
                assert!(verify(index, size, &altered, &root).is_err());
                altered.remove(position);
                assert!(verify(index, size, &altered, &root).is_err());
            }
            let longer = [&proof[..], &[other]].concat();
            assert!(verify(index, size, &longer, &root).is_err());
            assert!(verify(index + 1, size, &proof, &root).is_err());
            assert!(verify(index, size, &proof, &other).is_err());
        }
    }
    for old in 1..77 {
        let old_root = root_at(old, &tree).expect("a root");
        let proof = prove_consistency(old, 77, &tree).expect("a proof");
        for position in 0..proof.len() {
            let mut altered = proof.clone();
            altered[position] = other;
            assert!(verify_consistency(old, &old_root, 77, &root, &altered).is_err(), "{old}: hash {position} altered");
            altered.remove(position);
            assert!(
                verify_consistency(old, &old_root, 77, &root, &altered).is_err(),
                "{old}: hash {position} left out"
            );
        }
        let longer = [&proof[..], &[other]].concat();
        assert!(verify_consistency(old, &old_root, 77, &root, &longer).is_err(), "{old}: a hash too many");
        assert!(verify_consistency(old, &other, 77, &root, &proof).is_err(), "{old}: another old root");
        assert!(verify_consistency(old, &old_root, 77, &other, &proof).is_err(), "{old}: another new root");
    }
}

#[test]
fn what_is_not_there_has_no_proof() {
    let tree: Tree = (0..5).map(leaf).collect();
    let root = tree.frontier().root();
    assert_eq!(prove_inclusion(5, 5, &tree), Ok(vec![]));
    let beyond = verify_inclusion(5, 5, &leaf_hash(&leaf(4)), &[], &root);
    assert_eq!(beyond, Err(ProofError::Beyond { asked: 5, size: 5 }));
    assert_eq!(prove_consistency(6, 5, &tree), Ok(vec![]));
    assert_eq!(verify_consistency(6, &root, 5, &root, &[]), Err(ProofError::Beyond { asked: 6, size: 5 }));
    // The empty tree is a prefix of every tree, and only the empty tree is empty.
    assert_eq!(verify_consistency(0, &EMPTY_ROOT, 5, &root, &[]), Ok(()));
    assert!(verify_consistency(0, &root, 5, &root, &[]).is_err());
    assert!(verify_consistency(5, &EMPTY_ROOT, 5, &root, &[]).is_err());
}

/// A source that counts what it is asked.
struct Counting<'a>(&'a Tree, Cell<usize>);

impl HashSource for Counting<'_> {
    type Error = crate::testing::Outside;
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        self.1.set(self.1.get() + 1);
        self.0.subtree(level, index)
    }
}

/// The cost of a proof is a bounded number of look-ups, never a walk over the log.
#[test]
fn proofs_ask_for_few_hashes() {
    let tree: Tree = (0..100_003u64).map(u64::to_be_bytes).collect();
    let source = Counting(&tree, Cell::new(0));
    for index in [0, 1, 65_535, 65_536, 99_999, 100_002] {
        source.1.set(0);
        let proof = prove_inclusion(index, 100_003, &source).expect("a proof");
        assert!(proof.len() <= 17, "{} hashes", proof.len());
        assert!(source.1.get() <= 32, "{} look-ups", source.1.get());
    }
}

/// Sizes near the end of 64 bits neither overflow nor loop.
#[test]
fn the_largest_sizes_are_total() {
    let hash = Hash::of(&[b"x"]);
    assert!(verify_inclusion(u64::MAX - 1, u64::MAX, &hash, &[], &hash).is_err());
    assert!(verify_consistency(u64::MAX - 1, &hash, u64::MAX, &hash, &[]).is_err());
    assert!(verify_consistency(1 << 63, &hash, u64::MAX, &hash, &vec![hash; 100]).is_err());
    assert_eq!(complete_subtrees(0, u64::MAX).count(), 64);
    assert_eq!(complete_subtrees(0, 1 << 63).collect::<Vec<_>>(), [(63, 0)]);
}
