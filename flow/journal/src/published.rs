//! The published checkpoint with the files beside its tree, as readers get them.

use std::sync::Arc;

use event::Time;
use serde_json::value::RawValue;

use crate::Hash;
use crate::checkpoint::{self, CheckpointError};
use crate::cosignature;
use crate::listing::{ListedPolicy, Listing};
use crate::note::VerifierKey;

/// The published checkpoint: what is beyond it does not exist for readers.
#[derive(Clone, Debug)]
pub struct Published {
    /// The signed note, cosignatures included.
    pub note: String,
    /// Origin in the checkpoint.
    pub origin: String,
    /// Size in the checkpoint.
    pub size: u64,
    /// Root in the checkpoint.
    pub root: Hash,
    /// When the checkpoint was published.
    pub at: Time,
    /// Cosignatures of witnesses, verified.
    pub cosignatures: Vec<PublishedCosignature>,
    /// The files beside the tree of exactly this size. They are not those of the verdicts in effect, which may be ahead of
    /// the published checkpoint, or behind: a verifier would take the difference for a forgery.
    pub beside: Beside,
}

/// The files beside a tree.
#[derive(Clone, Default, Debug)]
pub struct Beside {
    /// `policy.json`, if a policy is in effect.
    pub policy: Option<Arc<RawValue>>,
    /// `verdicts.json`.
    pub verdicts: Vec<u8>,
}

impl Beside {
    /// The files of this list.
    pub fn of(listing: &Listing) -> Result<Self, serde_json::Error> {
        let policy = match listing.policy() {
            ListedPolicy::Applied(body) => Some(Arc::clone(body)),
            ListedPolicy::Never | ListedPolicy::Destroyed => None,
        };
        Ok(Self { policy, verdicts: serde_json::to_vec(&listing.verdicts())? })
    }
}

/// A cosignature of a checkpoint, verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedCosignature {
    /// Name of the witness's key.
    pub witness: String,
    /// When it cosigned.
    pub at: Time,
}

impl Published {
    /// Reads a note that one of `log_keys` signed, as published at `at`. Cosignatures of `witnesses` are verified, those of
    /// others are passed on unread. `listing` is as of its size.
    pub fn read(
        note: &str,
        log_keys: &[VerifierKey],
        witnesses: &[VerifierKey],
        at: Time,
        listing: &Listing,
    ) -> Result<Self, NotPublishable> {
        let opened = checkpoint::open(note, log_keys)?;
        let cosigners = cosignature::cosigners(&opened.note, witnesses)?;
        let cosigned = |(key, at): (&VerifierKey, Time)| PublishedCosignature { witness: key.name().to_owned(), at };
        Ok(Self {
            note: note.to_owned(),
            origin: opened.checkpoint.origin,
            size: opened.checkpoint.size,
            root: opened.checkpoint.root,
            at,
            cosignatures: cosigners.into_iter().map(cosigned).collect(),
            beside: Beside::of(listing)?,
        })
    }
}

/// The reason why a note can't be shown as the published checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum NotPublishable {
    /// The note is not a checkpoint of this log.
    #[error("the note is not a checkpoint signed by the log: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A line claims to come from a witness and does not verify.
    #[error("a cosignature does not verify: {0}")]
    Cosignature(#[from] cosignature::CosignatureError),
    /// The files beside the tree can't be written.
    #[error("the verdicts can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
