//! The witness protocol (C2SP tlog-witness), for both sides of it.
//!
//! A witness remembers one checkpoint per log and cosigns the next only when it continues the one before. That is all, and
//! it is what keeps the holder of a log's key from rewriting the past: he would have to show the witness a tree that does
//! not contain what it cosigned yesterday.
//!
//! Everything here is a function of state, request and time. The caller does the rest, and must do it in this order, under
//! one lock: clone the state, [`add_checkpoint`], *store the new state durably*, answer. A witness that answers before
//! it has stored can be made to forget by pulling its plug. For the same reason a witness is never restored from a
//! backup: it is retired, and a new one takes its place under a new key.
//!
//! **What convicts a log.** Whoever reads a log's checkpoint can send it here with anything for a proof, so a refusal says
//! nothing about the log. A [`Fork`] does, and nobody without the log's key can make one: either two checkpoints of one
//! size with two roots, or a larger checkpoint with a proof that leads to its root from *another* tree of the size that
//! was cosigned. The hashes of such a proof are those of the larger tree, or SHA-256 is broken, so its log signed both a
//! tree that begins with one history and a tree that begins with another. (A size that is a power of two has a proof
//! without that hash; a fork behind it shows only at the next size that is none.)
//!
//! Implemented is tlog-witness 1.0.0, and from the editor's draft after it what 1.0.0 leaves open: an empty tree with
//! another root than the empty one is 422, and `GET <prefix>/<SHA-256 of the origin>/checkpoint` shows the latest
//! checkpoint cosigned ([`checkpoint_path`]). Cosignatures are Ed25519 only.

use std::collections::BTreeMap;
use std::fmt;

use event::Time;
use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{self, CosignatureError};
use crate::note::{KeyType, Note, NoteError, Signature, SigningKey, VerifierKey};
use crate::tile::parse_decimal;
use crate::tree::{self, ProofError};

/// Most hashes in the consistency proof of a request.
pub const PROOF_HASHES_MAX: usize = 63;
/// Longest request that is read, in bytes: a proof of 63 hashes, and a checkpoint with the sixteen signatures that every
/// reader of notes must take, all of the largest kind in use (ML-DSA-44). A stranger may send as much before anything is
/// known of him.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Content type of the answer that tells the size.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// What a witness knows of one log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Known {
    /// Keys whose checkpoints it accepts; two while the log rotates its key, none when it no longer cosigns for the log.
    pub keys: Vec<VerifierKey>,
    /// Size of the latest checkpoint that it cosigned; 0 before the first.
    pub size: u64,
    /// Root of that checkpoint.
    pub root: Hash,
    /// That checkpoint, with the log's signatures and the cosignature: what convicts the log if it signs another. Absent
    /// before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a witness remembers: the contents of its state file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub struct WitnessState {
    /// Logs by origin.
    pub logs: BTreeMap<String, Known>,
}

/// A request that was not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{status}: {}", body.trim_end())]
pub struct Refusal {
    /// HTTP status: 400, 403, 404, 409, 422 or 503.
    pub status: u16,
    /// Body of the answer.
    pub body: String,
    /// Content type of the answer.
    pub content_type: &'static str,
    /// Proof that the log signed two histories, if the request is one: keep it.
    pub fork: Option<Box<Fork>>,
}

/// Two checkpoints that one log signed and that no history has both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fork {
    /// Which log.
    pub origin: String,
    /// The checkpoint that was cosigned.
    pub cosigned: String,
    /// The request with the other, and with the proof that leads to it from another tree of the size that was cosigned;
    /// without a proof when both are of one size.
    pub request: String,
}

impl fmt::Display for Fork {
    /// For a file that convicts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, cosigned, request } = self;
        writeln!(f, "The log {origin} signed two histories. This was cosigned:\n\n{cosigned}")?;
        write!(f, "And this was to be cosigned (the body of POST add-checkpoint, C2SP tlog-witness):\n\n{request}")
    }
}

impl Refusal {
    fn new(status: u16, why: impl Into<String>) -> Self {
        let body = why.into() + "\n";
        Self { status, body, content_type: "text/plain; charset=utf-8", fork: None }
    }

    fn stale(size: u64) -> Self {
        let body = format!("{size}\n");
        Self { status: 409, body, content_type: SIZE_CONTENT_TYPE, fork: None }
    }

    /// The size of the latest checkpoint that the witness cosigned, when that is what it answered: status, content type
    /// and body must all say so, for the answer may stop a log.
    pub fn known_size(status: u16, content_type: &str, body: &str) -> Option<u64> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let says_size = status == 409 && media_type.eq_ignore_ascii_case(SIZE_CONTENT_TYPE);
        says_size.then(|| parse_decimal(body.strip_suffix('\n')?)).flatten()
    }
}

/// The body of `POST <prefix>/add-checkpoint`, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointRequest {
    /// Size that the log believes the witness to know.
    pub old_size: u64,
    /// Consistency proof from there to the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The note that carries it.
    pub note: Note,
}

/// The body of a request: the log's side.
pub fn encode_request(old_size: u64, proof: &[Hash], checkpoint_note: &str) -> String {
    let hashes: String = proof.iter().map(|hash| hash.to_base64() + "\n").collect();
    format!("old {old_size}\n{hashes}\n{checkpoint_note}")
}

/// Where a witness shows the latest checkpoint of a log that it cosigned, below its URL.
pub fn checkpoint_path(origin: &str) -> String {
    format!("{}/checkpoint", Hash::of(&[origin.as_bytes()]))
}

/// Takes the body of a request apart; the refusal is a 400.
pub fn parse_request(request: &str) -> Result<CheckpointRequest, Refusal> {
    let bad = |why: &str| Refusal::new(400, why);
    if request.len() > REQUEST_BYTES_MAX {
        return Err(bad("the request is too large"));
    }
    let (head, note) = request.split_once("\n\n").ok_or_else(|| bad("no empty line before the checkpoint"))?;
    let mut lines = head.split('\n');
    let old_size = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_decimal);
    let old_size = old_size.ok_or_else(|| bad("the first line is `old <size>`"))?;
    let proof: Vec<_> =
        lines.map(Hash::from_base64).collect::<Result<_, _>>().map_err(|error| bad(&error.to_string()))?;
    if proof.len() > PROOF_HASHES_MAX {
        return Err(bad("more than 63 hashes in the proof"));
    }
    let note = Note::parse(note).map_err(|error| bad(&error.to_string()))?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(|error: CheckpointError| bad(&error.to_string()))?;
    if old_size > checkpoint.size {
        return Err(bad("the old size is larger than the checkpoint"));
    }
    Ok(CheckpointRequest { old_size, proof, checkpoint, note })
}

impl Known {
    /// That the log signed `request` as well.
    fn fork(&self, origin: &str, request: &str) -> Option<Box<Fork>> {
        let (origin, request) = (origin.to_owned(), request.to_owned());
        Some(Box::new(Fork { origin, cosigned: self.note.clone()?, request }))
    }
}

impl WitnessState {
    /// From now on checkpoints signed by `key` are accepted for the log that the key names. What is known of the log stays.
    pub fn trust(&mut self, key: VerifierKey) {
        if key.key_type() != KeyType::Ed25519 {
            return;
        }
        let log = self.logs.entry(key.name().to_owned());
        let log = log.or_insert_with(|| Known { keys: Vec::new(), size: 0, root: tree::EMPTY_ROOT, note: None });
        if !log.keys.contains(&key) {
            log.keys.push(key);
        }
    }

    /// From now on exactly these keys are accepted for the logs that they name: a key that is missing is retired. Logs that
    /// none of them names keep theirs. What is known of any log stays.
    pub fn trust_only(&mut self, keys: &[VerifierKey]) {
        for key in keys {
            self.distrust(key.name());
        }
        for key in keys {
            self.trust(key.clone());
        }
    }

    /// No longer cosigns for the log. What is known of it stays, so that it can't come back with another history. Says
    /// whether it was known at all.
    pub fn distrust(&mut self, origin: &str) -> bool {
        self.logs.get_mut(origin).map(|log| log.keys.clear()).is_some()
    }

    /// The latest checkpoint that was cosigned of the log whose [`checkpoint_path`] this is.
    pub fn checkpoint_at(&self, path: &str) -> Option<&str> {
        let log = self.logs.iter().find(|(origin, _)| checkpoint_path(origin) == path);
        log.and_then(|(_, log)| log.note.as_deref())
    }
}

/// Grants or refuses a request: the witness's side. On success the body of the answer is returned, cosignature lines, and
/// `state` knows the new checkpoint; it is unchanged when the checkpoint is the one it knows. On refusal it is unchanged.
pub fn add_checkpoint(state: &mut WitnessState, key: &SigningKey, request: &str, now: Time) -> Result<String, Refusal> {
    let CheckpointRequest { old_size, proof, checkpoint, note } = parse_request(request)?;
    let Checkpoint { origin, size, root } = checkpoint;
    let log = state.logs.get_mut(&origin).filter(|log| !log.keys.is_empty());
    let log = log.ok_or_else(|| Refusal::new(404, format!("no log `{origin}` is known here")))?;
    let signers = note.signed_by(&log.keys).map_err(|error| Refusal::new(403, error.to_string()))?;
    if size == log.size && size > 0 && root != log.root {
        let why = format!("another root was cosigned for the {size} entries of `{origin}`");
        let refusal = if old_size == size { Refusal::new(409, why) } else { Refusal::stale(log.size) };
        return Err(Refusal { fork: log.fork(&origin, request), ..refusal });
    }
    if old_size != log.size {
        return Err(Refusal::stale(log.size));
    }
    if size == 0 && root != tree::EMPTY_ROOT {
        return Err(Refusal::new(422, "the root of no entries is that of the empty tree"));
    }
    tree::verify_consistency(old_size, &log.root, size, &root, &proof).map_err(|error| {
        let why = format!("the checkpoint does not continue the one of {old_size} entries: {error}");
        // A proof from another tree of that size is one of a fork; one that leads nowhere is anybody's.
        let forked = matches!(error, ProofError::Root { computed, .. } if computed != log.root
            && tree::verify_consistency(old_size, &computed, size, &root, &proof).is_ok());
        Refusal { fork: forked.then(|| log.fork(&origin, request)).flatten(), ..Refusal::new(422, why) }
    })?;
    // A cosignature says when it was given, and 1970 means "never".
    if now < Time::from_secs(1) {
        return Err(Refusal::new(503, "the clock of this witness is not set"));
    }
    let cosignature = cosignature::cosign(key, &note.text, now);
    if log.note.is_none() || size > log.size {
        let of_the_log = |line: &&Signature| signers.iter().any(|key| line.claims(key));
        let signatures = note.signatures.iter().filter(of_the_log).chain([&cosignature]).cloned().collect();
        let kept = Note { text: note.text.clone(), signatures }.to_string();
        (log.size, log.root, log.note) = (size, root, Some(kept));
    }
    Ok(format!("{cosignature}\n"))
}

/// Why the answer of a witness is of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// Not lines of signatures.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A cosignature that does not verify.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// A cosignature of no time, which does not say that the checkpoint is the latest.
    #[error("the cosignature by {0} has no time")]
    NoTime(String),
    /// Lines of other keys only.
    #[error("the answer holds no cosignature by {0}")]
    Nothing(String),
}

/// Reads the body of a 200 answer: the log's side. Returns the witness's cosignature of `note`, verified, and its time;
/// lines of other keys are ignored.
pub fn accept_answer(note: &Note, answer: &str, witness: &VerifierKey) -> Result<(Signature, Time), AnswerError> {
    let mut found = None;
    for line in answer.lines().take(crate::note::SIGNATURES_MAX) {
        let signature = Signature::parse_line(line)?;
        if signature.claims(witness) {
            let time = cosignature::verify(witness, &note.text, &signature)?;
            if time < Time::from_secs(1) {
                return Err(AnswerError::NoTime(witness.describe()));
            }
            found = Some((signature, time));
        }
    }
    found.ok_or_else(|| AnswerError::Nothing(witness.describe()))
}

#[cfg(test)]
mod tests;
