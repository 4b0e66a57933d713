//! The files beside the tree: the policy in effect, the latest verdicts, and a proof of each. All of it is in the log as
//! well; here it must be the same, byte for byte, and no less: see [`listing`](crate::listing).

use std::collections::BTreeMap;

use event::Body as _;
use event::promise::Verdict;
use serde_json::value::RawValue;

use super::error::{AuditError, AuditFault};
use super::keys::continues;
use super::walk::Seen;
use super::{ExportSource, optional_text, required_text};
use crate::Hash;
use crate::checkpoint::Checkpoint;
use crate::export::{self, ListedVerdict};
use crate::listing::{ListedPolicy, Listing};
use crate::note::VerifierKey;
use crate::tlog_proof::{TlogProof, TlogProofError};

/// A listed verdict, and the entry of the log at its place.
struct ListedEntry {
    verdict: Box<RawValue>,
    path: String,
    proof: TlogProof,
    proof_head: Checkpoint,
    /// The leaf, once its entry has been read.
    leaf: Option<Vec<u8>>,
    /// The body, if it is a verdict.
    body: Option<Box<RawValue>>,
}

/// The files beside the tree.
pub(super) struct Beside {
    policy: Option<String>,
    /// By sequence; `None` when there is no list.
    listed: Option<BTreeMap<u64, ListedEntry>>,
}

fn differs(path: &str, what: impl Into<String>) -> AuditError {
    AuditError::at(path, AuditFault::Differs { what: what.into() })
}

fn differs_at(path: &str, sequence: u64, what: impl Into<String>) -> AuditError {
    AuditError::of_entry(path, sequence, AuditFault::Differs { what: what.into() })
}

impl Beside {
    pub(super) fn read(source: &dyn ExportSource, head: &Checkpoint) -> Result<Self, AuditError> {
        let policy = optional_text(source, export::POLICY)?;
        let Some(text) = optional_text(source, export::VERDICTS)? else { return Ok(Self { policy, listed: None }) };
        let verdicts: Vec<ListedVerdict> = serde_json::from_str(&text).map_err(|error| {
            AuditError::at(
                export::VERDICTS,
                AuditFault::Malformed { what: format!("it is not the JSON expected: {error}") },
            )
        })?;
        let mut listed = BTreeMap::new();
        for ListedVerdict { sequence, verdict } in verdicts {
            if sequence >= head.size {
                let what = format!("the checkpoint has {} entries only", head.size);
                return Err(differs_at(export::VERDICTS, sequence, what));
            }
            let path = export::proof_path(sequence);
            let bad =
                |error: &dyn std::fmt::Display| AuditError::at(&path, AuditFault::Proof { error: error.to_string() });
            let proof = TlogProof::parse(&required_text(source, &path)?).map_err(|error| bad(&error))?;
            let note = crate::note::Note::parse(&proof.checkpoint_note).map_err(|error| bad(&error))?;
            let proof_head = Checkpoint::parse(&note.text).map_err(|error| bad(&error))?;
            if proof.index != sequence {
                return Err(bad(&format!("it is about entry {}", proof.index)));
            }
            let new = ListedEntry { verdict, path, proof, proof_head, leaf: None, body: None };
            if listed.insert(sequence, new).is_some() {
                return Err(differs_at(export::VERDICTS, sequence, "it is listed twice"));
            }
        }
        Ok(Self { policy, listed: Some(listed) })
    }

    fn all(&self) -> impl Iterator<Item = (&u64, &ListedEntry)> {
        self.listed.iter().flatten()
    }

    /// Sizes at which the root of the log is needed.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.all().map(|(_, listed)| listed.proof_head.size)
    }

    /// Takes the next entry of the log.
    pub(super) fn entry(&mut self, seen: &Seen<'_>) {
        let listed = self.listed.as_mut().and_then(|listed| listed.get_mut(&seen.leaf.sequence));
        if let Some(listed) = listed {
            listed.leaf = Some(seen.leaf_bytes.to_vec());
            let verdict = seen.envelope.as_ref().filter(|envelope| envelope.kind == Verdict::KIND.name);
            listed.body = verdict.map(|envelope| envelope.body.clone());
        }
    }

    /// Compares everything after the last entry. Returns how many verdicts agree.
    pub(super) fn settle(
        &self,
        head: &Checkpoint,
        keys: &[VerifierKey],
        roots: &BTreeMap<u64, Hash>,
        in_the_log: &Listing,
    ) -> Result<u64, AuditError> {
        for (sequence, listed) in self.all() {
            match &listed.body {
                None => {
                    return Err(differs_at(export::VERDICTS, *sequence, "that entry is no verdict that can be read"));
                }
                Some(body) if body.get() != listed.verdict.get() => {
                    return Err(differs_at(export::VERDICTS, *sequence, "that entry says otherwise"));
                }
                Some(_) => {}
            }
            let refused = |error: TlogProofError| {
                AuditError::of_entry(&listed.path, *sequence, AuditFault::Proof { error: error.to_string() })
            };
            let leaf = listed.leaf.as_deref().unwrap_or_default();
            listed.proof.verify(leaf, keys).map_err(refused)?;
            let (_, evidence) = listed.proof.verify_evidence(keys).map_err(refused)?;
            if evidence.leaf != leaf || evidence.disclosure.is_none() {
                let what = "it has to be the leaf and the line of the payload bundle, and is less";
                return Err(refused(TlogProofError::Evidence { index: *sequence, what }));
            }
            // A proof made on demand may be a moment newer than the checkpoint; it stands by its own signature.
            if listed.proof_head.size <= head.size {
                continues(&listed.path, &listed.proof_head, head, roots)?;
            }
        }
        if !in_the_log.is_newer() {
            self.policy_in_effect(in_the_log.policy())?;
            self.latest(in_the_log)?;
        }
        Ok(self.all().count() as u64)
    }

    fn policy_in_effect(&self, in_the_log: &ListedPolicy) -> Result<(), AuditError> {
        match (&self.policy, in_the_log) {
            (None, ListedPolicy::Never | ListedPolicy::Destroyed) => Ok(()),
            (None, ListedPolicy::Applied(_)) => Err(AuditError::at(export::POLICY, AuditFault::Missing)),
            (Some(here), ListedPolicy::Applied(applied)) if here == applied.get() => Ok(()),
            (Some(_), ListedPolicy::Applied(_)) => {
                Err(differs(export::POLICY, "it is not the policy that was applied last"))
            }
            (Some(_), ListedPolicy::Never) => Err(differs(export::POLICY, "no policy was ever applied")),
            (Some(_), ListedPolicy::Destroyed) => Err(differs(
                export::POLICY,
                "the policy that was applied last is destroyed: nothing can be shown in its place",
            )),
        }
    }

    /// Checks that the list has exactly the verdicts that belong into it.
    fn latest(&self, in_the_log: &Listing) -> Result<(), AuditError> {
        let expected: BTreeMap<u64, ListedVerdict> =
            in_the_log.verdicts().into_iter().map(|listed| (listed.sequence, listed)).collect();
        if self.listed.is_none() && !expected.is_empty() {
            return Err(AuditError::at(export::VERDICTS, AuditFault::Missing));
        }
        if let Some((sequence, _)) = self.all().find(|(sequence, _)| !expected.contains_key(sequence)) {
            let what = "that verdict is not the latest on an objective of the policy in effect";
            return Err(differs_at(export::VERDICTS, *sequence, what));
        }
        let left_out = |sequence: &&u64| self.listed.as_ref().is_none_or(|listed| !listed.contains_key(sequence));
        match expected.keys().find(left_out) {
            Some(sequence) => {
                let what = "the verdict of that entry is the latest on its objective, and it is left out";
                Err(differs_at(export::VERDICTS, *sequence, what))
            }
            None => Ok(()),
        }
    }
}
