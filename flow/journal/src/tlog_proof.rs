//! A proof in one file (C2SP `c2sp.org/tlog-proof@v1`): this entry is in the log, under this signed checkpoint.
//!
//! It is the file behind each link of the trust page. The standard leaves room for "extra data", which it does not
//! authenticate; ours holds what the entry is: its leaf and, when it may be disclosed, the line that opens the leaf's
//! commitment. A reader who has this one file and the log's key can then check the verdict itself, offline. The extra
//! data needs no trust: the proof verifies the leaf, and the leaf verifies the payload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Hash;
use crate::checkpoint::{self, CheckpointError, VerifiedCheckpoint};
use crate::disclosure::Disclosure;
use crate::leaf::Leaf;
use crate::note::VerifierKey;
use crate::seal;
use crate::tile::parse_decimal;
use crate::tree::{self, HashSource, ProofError};

const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Hashes in an inclusion proof of a tree of 64-bit size.
const HASHES_MAX: usize = 64;
/// Longest file that is read, in bytes: a payload of the largest size fits, as base64.
const FILE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The contents of a `.tlog-proof` file, nothing of it verified yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// Which entry.
    pub index: u64,
    /// Inclusion proof, from the leaf's sibling upwards.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, cosignatures included, as it was signed.
    pub checkpoint_note: String,
    /// What the entry is; see [`TlogProof::evidence`].
    pub extra: Option<Vec<u8>>,
}

/// The entry itself, as carried in the extra data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence<'a> {
    /// The bytes of the leaf.
    pub leaf: &'a [u8],
    /// What opens its commitment, when that may be disclosed.
    pub disclosure: Option<Disclosure<'a>>,
}

/// Why a file proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlogProofError {
    /// Not such a file.
    #[error("not a tlog-proof: {0}")]
    Form(&'static str),
    /// Its checkpoint is not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not connect the entry with the checkpoint.
    #[error("entry {index} is not proved: {source}")]
    Proof {
        /// Which entry.
        index: u64,
        /// What is wrong with the hashes.
        source: ProofError,
    },
    /// The extra data is not the entry that the proof is about.
    #[error("the extra data is not entry {index}: {what}")]
    Evidence {
        /// Which entry.
        index: u64,
        /// What differs.
        what: &'static str,
    },
}

impl TlogProof {
    /// Proves entry `index` (below `size`) against a checkpoint of `size` entries.
    pub fn new<S: HashSource>(index: u64, size: u64, source: &S, checkpoint_note: String) -> Result<Self, S::Error> {
        Ok(Self { index, proof: tree::prove_inclusion(index, size, source)?, checkpoint_note, extra: None })
    }

    /// Puts the entry into the extra data.
    #[must_use]
    pub fn with_evidence(mut self, leaf: &[u8], disclosure: Option<&Disclosure<'_>>) -> Self {
        let mut extra = leaf.to_vec();
        extra.push(b'\n');
        if let Some(disclosure) = disclosure {
            disclosure.write_line(&mut extra);
        }
        self.extra = Some(extra);
        self
    }

    /// The entry in the extra data; `None` when there is none, or in a form that this release does not know.
    pub fn evidence(&self) -> Option<Evidence<'_>> {
        let extra = self.extra.as_deref()?;
        let end = extra.iter().position(|byte| *byte == b'\n')?;
        let (leaf, rest) = (&extra[..end], &extra[end + 1..]);
        let disclosure = match rest.strip_suffix(b"\n") {
            Some(line) => Some(Disclosure::parse(line).ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Evidence { leaf, disclosure })
    }

    /// The whole file.
    pub fn to_text(&self) -> String {
        let extra = self.extra.as_ref().map(|extra| format!("extra {}\n", STANDARD.encode(extra)));
        let hashes: String = self.proof.iter().map(|hash| hash.to_base64() + "\n").collect();
        format!("{HEADER}\n{}index {}\n{hashes}\n{}", extra.unwrap_or_default(), self.index, self.checkpoint_note)
    }

    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let form = TlogProofError::Form;
        if text.len() > FILE_BYTES_MAX {
            return Err(form("it is too large"));
        }
        let mut rest = text;
        let mut line = || -> Result<&str, TlogProofError> {
            let (line, after) = rest.split_once('\n').ok_or(form("it ends before its checkpoint"))?;
            rest = after;
            Ok(line)
        };
        if line()? != HEADER {
            return Err(form("its first line is not c2sp.org/tlog-proof@v1"));
        }
        let mut second = line()?;
        let mut extra = None;
        if let Some(encoded) = second.strip_prefix("extra ") {
            extra = Some(STANDARD.decode(encoded).map_err(|_| form("its extra data is not base64"))?);
            second = line()?;
        }
        let index = second.strip_prefix("index ").and_then(parse_decimal).ok_or(form("it has no index"))?;
        let mut proof = Vec::new();
        loop {
            match line()? {
                "" => break,
                _ if proof.len() == HASHES_MAX => return Err(form("it has more than 64 hashes")),
                hash => proof.push(Hash::from_base64(hash).map_err(|_| form("a line of it is not a hash"))?),
            }
        }
        Ok(Self { index, proof, checkpoint_note: rest.to_owned(), extra })
    }

    /// Verifies that `leaf` is the entry, under a checkpoint that one of `keys` signed. Witnesses are for
    /// [`tlog_policy`](crate::tlog_policy) to judge, over the note that is returned.
    pub fn verify(&self, leaf: &[u8], keys: &[VerifierKey]) -> Result<VerifiedCheckpoint, TlogProofError> {
        let opened = checkpoint::open(&self.checkpoint_note, keys)?;
        let head = &opened.checkpoint;
        tree::verify_inclusion(self.index, head.size, &tree::leaf_hash(leaf), &self.proof, &head.root)
            .map_err(|source| TlogProofError::Proof { index: self.index, source })?;
        Ok(opened)
    }

    /// Verifies the entry in the extra data: the leaf is in the log, and opens to the disclosed payload.
    pub fn verify_evidence(&self, keys: &[VerifierKey]) -> Result<(VerifiedCheckpoint, Evidence<'_>), TlogProofError> {
        let wrong = |what| TlogProofError::Evidence { index: self.index, what };
        let evidence = self.evidence().ok_or_else(|| wrong("there is none in a form that is known"))?;
        let opened = self.verify(evidence.leaf, keys)?;
        if let Some(disclosure) = &evidence.disclosure {
            let leaf = Leaf::parse(evidence.leaf).map_err(|_| wrong("its leaf is of an unknown form"))?;
            if disclosure.sequence != self.index || leaf.sequence != self.index {
                return Err(wrong("its sequence is another"));
            }
            if seal::commitment(&disclosure.salt, disclosure.payload) != leaf.commitment {
                return Err(wrong("its payload is not the one that was committed"));
            }
        }
        Ok((opened, evidence))
    }
}

#[cfg(test)]
mod tests;
