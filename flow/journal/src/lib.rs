//! The log, and how a stranger checks it.
//!
//! A promise page is worth what its evidence is worth, and evidence that its owner can edit afterwards is worth nothing.
//! So every entry is committed to an append-only Merkle tree in the format that the transparency community already
//! uses (C2SP tlog-tiles over RFC 6962), signed at every step, and checked by tools that we did not write.
//!
//! This crate is the arithmetic of it: bytes in, bytes out. It knows no network, no database and no clock, so that
//! `garant verify`, which a customer runs against us, rests on this crate and on `event` alone. The transaction that
//! appends lives in `store`, the HTTP routes in `web`.
//!
//! From the leaf up:
//!
//! - [`seal`]: payload and salt → commitment; the sealed form at rest, whose key dies with its day;
//! - [`leaf`]: the bytes of one entry; [`disclosure`]: the line that opens its commitment;
//! - [`tree`]: hashes, roots, inclusion and consistency proofs; [`tile`]: the same tree as files;
//! - [`note`], [`checkpoint`], [`cosignature`]: who signs for which tree;
//! - [`witness`]: the one check that keeps a log from showing two histories, for both sides of it;
//! - [`tlog_proof`], [`tlog_policy`]: a proof in one file, and whose signatures count;
//! - [`listing`]: what lies beside the tree for people to read first;
//! - [`published`]: a checkpoint and that, as readers get them;
//! - [`export`] writes a log as files; [`audit`] verifies them from the first byte to the last.
//!
//! `docs/log.md` specifies all of it for whoever writes another verifier.

pub mod audit;
pub mod checkpoint;
pub mod cosignature;
pub mod disclosure;
pub mod export;
mod files;
mod hash;
pub mod leaf;
pub mod listing;
pub mod note;
pub mod published;
pub mod seal;
#[doc(hidden)]
pub mod testing;
pub mod tile;
pub mod tlog_policy;
pub mod tlog_proof;
pub mod tree;
pub mod witness;

pub use hash::{BadHash, Hash};
