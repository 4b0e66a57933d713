//! What lies beside the tree: the policy in effect, the latest verdicts, and a proof of each. All of it is in the log as
//! well; here it must not say anything else.

use std::collections::BTreeMap;

use super::error::{AuditError, Finding};
use super::history::LatestPolicy;
use super::keys::continues;
use super::walk::Seen;
use super::{Source, optional_text, required_text};
use crate::Hash;
use crate::checkpoint::Checkpoint;
use crate::export::{self, ListedVerdict};
use crate::note::VerifierKey;
use crate::tlog_proof::{TlogProof, TlogProofError};
use event::Body as _;
use event::promise::Verdict;
use serde_json::Value;

/// A verdict that is listed, and what the log says at its place.
struct Listed {
    verdict: Value,
    path: String,
    proof: TlogProof,
    proof_head: Checkpoint,
    /// The leaf, once its entry has been read.
    leaf: Option<Vec<u8>>,
    /// The body, if it is a verdict.
    body: Option<Value>,
}

/// The files beside the tree.
pub(super) struct Beside {
    policy: Option<Value>,
    listed: BTreeMap<u64, Listed>,
    pub(super) remarks: Vec<String>,
}

fn json<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, AuditError> {
    serde_json::from_str(text).map_err(|error| {
        AuditError::at(path, Finding::Malformed { what: format!("it is not the JSON expected: {error}") })
    })
}

impl Beside {
    pub(super) fn read(source: &dyn Source, head: &Checkpoint) -> Result<Self, AuditError> {
        let policy = optional_text(source, export::POLICY)?;
        let policy = policy.map(|text| json(export::POLICY, &text)).transpose()?;
        let verdicts = optional_text(source, export::VERDICTS)?;
        let verdicts: Vec<ListedVerdict> =
            verdicts.map(|text| json(export::VERDICTS, &text)).transpose()?.unwrap_or_default();
        let mut beside = Self { policy, listed: BTreeMap::new(), remarks: Vec::new() };
        for ListedVerdict { sequence, verdict } in verdicts {
            if sequence >= head.size {
                // Over HTTP the list may have been made a moment after the checkpoint.
                beside
                    .remarks
                    .push(format!("the verdict of entry {sequence} is newer than the checkpoint: not verified"));
                continue;
            }
            let path = export::proof_path(sequence);
            let bad =
                |error: &dyn std::fmt::Display| AuditError::at(&path, Finding::Proof { error: error.to_string() });
            let proof = TlogProof::parse(&required_text(source, &path)?).map_err(|error| bad(&error))?;
            let note = crate::note::Note::parse(&proof.checkpoint_note).map_err(|error| bad(&error))?;
            let proof_head = Checkpoint::parse(&note.text).map_err(|error| bad(&error))?;
            if proof.index != sequence {
                return Err(bad(&format!("it is about entry {}", proof.index)));
            }
            let verdict = json(export::VERDICTS, verdict.get())?;
            beside.listed.insert(sequence, Listed { verdict, path, proof, proof_head, leaf: None, body: None });
        }
        Ok(beside)
    }

    /// Sizes at which the root of the log is needed.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.listed.values().map(|listed| listed.proof_head.size)
    }

    /// The next entry of the log.
    pub(super) fn entry(&mut self, seen: &Seen<'_>) {
        if let Some(listed) = self.listed.get_mut(&seen.leaf.sequence) {
            listed.leaf = Some(seen.leaf_bytes.to_vec());
            let verdict = seen.envelope.as_ref().filter(|envelope| envelope.kind == Verdict::KIND.name);
            listed.body = verdict.and_then(|envelope| serde_json::from_str(envelope.body.get()).ok());
        }
    }

    /// After the last entry: does it all agree? Returns how many verdicts do.
    pub(super) fn settle(
        &self,
        head: &Checkpoint,
        keys: &[VerifierKey],
        roots: &BTreeMap<u64, Hash>,
        policy_in_log: &LatestPolicy,
    ) -> Result<u64, AuditError> {
        let differs = |path: &str, what: &str| AuditError::at(path, Finding::Differs { what: what.to_owned() });
        match (&self.policy, policy_in_log) {
            (Some(_), LatestPolicy::Never) => return Err(differs(export::POLICY, "no policy was ever applied")),
            (Some(here), LatestPolicy::Applied(applied)) if *here != json::<Value>(export::POLICY, applied)? => {
                return Err(differs(export::POLICY, "it is not the policy that was applied last"));
            }
            _ => {}
        }
        for (sequence, listed) in &self.listed {
            let at = |path: &str, what: &str| {
                AuditError::of_entry(path, *sequence, Finding::Differs { what: what.to_owned() })
            };
            match &listed.body {
                None => return Err(at(export::VERDICTS, "that entry is no verdict that can be read")),
                Some(body) if *body != listed.verdict => return Err(at(export::VERDICTS, "that entry says otherwise")),
                Some(_) => {}
            }
            let refused = |error: TlogProofError| {
                AuditError::of_entry(&listed.path, *sequence, Finding::Proof { error: error.to_string() })
            };
            let leaf = listed.leaf.as_deref().unwrap_or_default();
            listed.proof.verify(leaf, keys).map_err(refused)?;
            if listed.proof.extra.is_some() {
                listed.proof.verify_evidence(keys).map_err(refused)?;
            }
            // A proof made on demand may be a moment newer than the checkpoint; it stands by its own signature.
            if listed.proof_head.size <= head.size {
                continues(&listed.path, &listed.proof_head, head, roots)?;
            }
        }
        Ok(self.listed.len() as u64)
    }
}
