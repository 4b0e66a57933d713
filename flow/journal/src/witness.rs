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

use std::collections::BTreeMap;

use event::Time;
use serde::{Deserialize, Serialize};

use crate::Hash;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{self, CosignatureError};
use crate::note::{KeyType, NOTE_BYTES_MAX, Note, NoteError, Signature, SigningKey, VerifierKey};
use crate::tile::parse_decimal;
use crate::tree;

/// Most hashes in the consistency proof of a request.
pub const PROOF_HASHES_MAX: usize = 63;
/// Longest request that is read, in bytes.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + 8 * 1024;
/// Content type of the answer that tells the size.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// What a witness knows of one log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Known {
    /// Keys whose checkpoints it accepts; two while the log rotates its key.
    pub keys: Vec<VerifierKey>,
    /// Size of the latest checkpoint that it cosigned; 0 before the first.
    pub size: u64,
    /// Root of that checkpoint.
    pub root: Hash,
}

/// What a witness remembers: the contents of its state file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub struct State {
    /// Logs by origin.
    pub logs: BTreeMap<String, Known>,
}

/// A request that was not granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{status}: {}", body.trim_end())]
pub struct Refusal {
    /// HTTP status: 400, 403, 404, 409 or 422.
    pub status: u16,
    /// Body of the answer.
    pub body: String,
    /// Content type of the answer.
    pub content_type: &'static str,
    /// The log signed something that does not continue what it signed before. The request is evidence: keep it.
    pub misbehaviour: bool,
}

impl Refusal {
    fn new(status: u16, why: impl Into<String>) -> Self {
        let body = why.into() + "\n";
        Self { status, body, content_type: "text/plain; charset=utf-8", misbehaviour: false }
    }

    fn stale(size: u64) -> Self {
        let body = format!("{size}\n");
        Self { status: 409, body, content_type: SIZE_CONTENT_TYPE, misbehaviour: false }
    }

    /// The size of the latest checkpoint that the witness cosigned, when that is what it answered.
    pub fn known_size(status: u16, body: &str) -> Option<u64> {
        (status == 409).then(|| parse_decimal(body.strip_suffix('\n')?)).flatten()
    }
}

/// The body of `POST <prefix>/add-checkpoint`, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
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

/// Takes the body of a request apart; the refusal is a 400.
pub fn parse_request(request: &str) -> Result<Request, Refusal> {
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
    Ok(Request { old_size, proof, checkpoint, note })
}

impl State {
    /// From now on checkpoints signed by `key` are accepted for the log that the key names. What is known of the log stays.
    pub fn trust(&mut self, key: VerifierKey) {
        let log = self.logs.entry(key.name().to_owned());
        let log = log.or_insert_with(|| Known { keys: Vec::new(), size: 0, root: tree::EMPTY_ROOT });
        if key.key_type() == KeyType::Ed25519 && !log.keys.contains(&key) {
            log.keys.push(key);
        }
    }

    /// No longer accepts checkpoints signed by `key`. What is known of the log stays.
    pub fn distrust(&mut self, key: &VerifierKey) {
        if let Some(log) = self.logs.get_mut(key.name()) {
            log.keys.retain(|known| known != key);
        }
    }
}

/// Grants or refuses a request: the witness's side. On success `state` knows the new checkpoint and the body of the answer
/// is returned: cosignature lines. On refusal `state` is unchanged.
pub fn add_checkpoint(state: &mut State, key: &SigningKey, request: &str, now: Time) -> Result<String, Refusal> {
    let Request { old_size, proof, checkpoint, note } = parse_request(request)?;
    let log = state
        .logs
        .get_mut(&checkpoint.origin)
        .ok_or_else(|| Refusal::new(404, format!("no log `{}` is known here", checkpoint.origin)))?;
    note.signed_by(&log.keys).map_err(|error| Refusal::new(403, error.to_string()))?;
    if old_size != log.size {
        return Err(Refusal::stale(log.size));
    }
    if checkpoint.size == log.size && checkpoint.root != log.root {
        let why = format!("another root was cosigned for the {} entries of `{}`", log.size, checkpoint.origin);
        return Err(Refusal { misbehaviour: true, ..Refusal::new(409, why) });
    }
    tree::verify_consistency(old_size, &log.root, checkpoint.size, &checkpoint.root, &proof).map_err(|error| {
        // A proof of the wrong length is a mistake of the sender; one that leads elsewhere may be a fork.
        let why = format!("the checkpoint does not continue the one of {old_size} entries: {error}");
        Refusal { misbehaviour: matches!(error, tree::ProofError::Root { .. }), ..Refusal::new(422, why) }
    })?;
    log.size = checkpoint.size;
    log.root = checkpoint.root;
    Ok(format!("{}\n", cosignature::cosign(key, &note.text, now)))
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
            found = Some((signature, time));
        }
    }
    found.ok_or_else(|| AnswerError::Nothing(witness.describe()))
}

#[cfg(test)]
mod tests;
