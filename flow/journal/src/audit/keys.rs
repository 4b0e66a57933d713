//! The keys of a log: which signed the head, and how the reader comes to trust one of them.

use std::collections::BTreeMap;

use super::error::{AuditError, AuditFault};
use super::history::KeyEvents;
use super::{Authenticity, ExportSource, SignedHead, Trust, optional_text, required_text};
use crate::Hash;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::export;
use crate::note::{BadKey, Fingerprint, Note, NoteError, VerifierKey};
use crate::tlog_policy::TlogPolicy;

/// Name of the reader's remembered checkpoint in errors.
const SINCE: &str = "the checkpoint that you remember";

/// The keys of the log and of the reader, and the notes signed with them.
pub(super) struct Keys {
    /// Keys that the reader pinned, in full.
    pinned: Vec<VerifierKey>,
    /// Keys that the reader pinned by their fingerprints.
    fingerprints: Vec<Fingerprint>,
    /// Keys that the log says are or were its own, pinned or not.
    own: Vec<VerifierKey>,
    /// Those of the log's keys that signed the head.
    pub(super) signers: Vec<VerifierKey>,
    rotations: Vec<(Note, Checkpoint)>,
    since: Option<(Note, Checkpoint)>,
    pub(super) remarks: Vec<String>,
}

fn parse(path: &str, note: Note) -> Result<(Note, Checkpoint), AuditError> {
    let checkpoint = Checkpoint::parse(&note.text);
    let malformed = |error: CheckpointError| AuditError::at(path, AuditFault::Malformed { what: error.to_string() });
    checkpoint.map(|checkpoint| (note, checkpoint)).map_err(malformed)
}

fn bad_signature(path: &str) -> impl Fn(NoteError) -> AuditError + '_ {
    move |error| AuditError::at(path, AuditFault::BadSignature { error: error.to_string() })
}

fn of_origin(path: &str, found: &str, expected: &str) -> Result<(), AuditError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(AuditError::at(path, AuditFault::WrongOrigin { found, expected }))
}

fn names<'k>(keys: impl IntoIterator<Item = &'k VerifierKey>) -> String {
    let names: Vec<_> = keys.into_iter().map(VerifierKey::describe).collect();
    if names.is_empty() { "nobody known".to_owned() } else { names.join(", ") }
}

impl Keys {
    /// Reads the key beside the log, the rotations and what the reader brought, and checks that the head is signed by
    /// the key beside it.
    pub(super) fn read(source: &dyn ExportSource, trust: &Trust, head: &SignedHead) -> Result<Self, AuditError> {
        let line = required_text(source, export::VKEY)?;
        let vkey: VerifierKey =
            line.strip_suffix('\n').unwrap_or(&line).parse().map_err(|error: BadKey| {
                AuditError::at(export::VKEY, AuditFault::Malformed { what: error.to_string() })
            })?;
        let origin = head.checkpoint.origin.as_str();
        of_origin(export::VKEY, vkey.name(), origin)?;
        let mut pinned: Vec<_> = trust.vkey.iter().cloned().collect();
        for key in &pinned {
            of_origin(export::CHECKPOINT, origin, key.name())?;
        }
        // A trust policy may name many logs; this one must be among them.
        let logs: Vec<_> = trust.policy.iter().flat_map(TlogPolicy::log_keys).collect();
        let here: Vec<_> = logs.iter().filter(|key| key.name() == origin).cloned().collect();
        if !logs.is_empty() && here.is_empty() {
            let finding = AuditFault::WrongKey { found: names([&vkey]), trusted: names(&logs) };
            return Err(AuditError::at(export::CHECKPOINT, finding));
        }
        pinned.extend(here);
        let signers = head.note.signed_by(std::slice::from_ref(&vkey)).map_err(bad_signature(export::CHECKPOINT))?;
        let signers = signers.into_iter().cloned().collect();

        let rotations = Note::parse_many(&optional_text(source, export::ROTATIONS)?.unwrap_or_default());
        let rotations = rotations
            .map_err(|error| AuditError::at(export::ROTATIONS, AuditFault::Malformed { what: error.to_string() }))?
            .into_iter()
            .map(|note| parse(export::ROTATIONS, note))
            .collect::<Result<Vec<_>, _>>()?;
        for (_, checkpoint) in &rotations {
            of_origin(export::ROTATIONS, &checkpoint.origin, origin)?;
        }
        let since = trust.since.as_deref().map(|note| {
            let malformed = |error: NoteError| AuditError::at(SINCE, AuditFault::Malformed { what: error.to_string() });
            parse(SINCE, Note::parse(note).map_err(malformed)?)
        });
        let since = since.transpose()?;
        let (fingerprints, remarks) = (trust.fingerprints.clone(), Vec::new());
        Ok(Self { pinned, fingerprints, own: vec![vkey], signers, rotations, since, remarks })
    }

    /// Sizes at which the root of the log is needed.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u64> {
        self.rotations.iter().chain(&self.since).map(|(_, checkpoint)| checkpoint.size)
    }

    /// Keys that are or were the log's own.
    pub(super) fn of_the_log(&self) -> &[VerifierKey] {
        &self.own
    }

    /// Follows the rotations, once all entries are read, from a key that the reader trusts to one that signed the head.
    pub(super) fn settle(
        &mut self,
        head: &SignedHead,
        events: &KeyEvents,
        roots: &BTreeMap<u64, Hash>,
    ) -> Result<Authenticity, AuditError> {
        let unpinned = self.pinned.is_empty() && self.fingerprints.is_empty();
        let beside = std::mem::take(&mut self.own);
        let told = events.announced.iter().flat_map(|(_, new, old)| [new, old]).chain(&events.opened);
        for key in told.chain(&self.pinned) {
            if key.name() == head.checkpoint.origin && !self.own.contains(key) {
                self.own.push(key.clone());
            }
        }
        let matches = |key: &VerifierKey| self.fingerprints.contains(&key.fingerprint());
        for key in beside {
            // A stranger can add a signature to a note: the key beside the log must be one that the log or the reader knows.
            if self.own.contains(&key) {
                continue;
            }
            let nothing_to_compare = unpinned && self.own.is_empty();
            if nothing_to_compare || matches(&key) {
                self.own.push(key);
            } else {
                let finding = AuditFault::WrongKey { found: names([&key]), trusted: names(&self.own) };
                return Err(AuditError::at(export::VKEY, finding));
            }
        }
        self.signers = owned(head.note.signers(&self.own).map_err(bad_signature(export::CHECKPOINT))?);

        let mut trusted = self.pinned.clone();
        trusted.extend(self.own.iter().filter(|key| matches(key)).cloned());
        if unpinned {
            trusted.clone_from(&self.own);
        }
        let mut shown = Vec::new();
        for (note, checkpoint) in &self.rotations {
            let signers = note.signers(&self.own).map_err(bad_signature(export::ROTATIONS))?;
            if !signers.is_empty() {
                continues(export::ROTATIONS, checkpoint, &head.checkpoint, roots)?;
            }
            let announced = events.announced.iter().filter(|(sequence, new, old)| {
                *sequence < checkpoint.size && signers.contains(&old) && signers.contains(&new)
            });
            let mut is_of_an_announcement = false;
            for (sequence, new, old) in announced {
                is_of_an_announcement = true;
                shown.push(*sequence);
                if trusted.contains(old) {
                    trusted.push(new.clone());
                }
            }
            if !is_of_an_announcement {
                let what =
                    "a note in it is not signed by both keys of an announcement that is among its entries".to_owned();
                return Err(AuditError::at(export::ROTATIONS, AuditFault::Differs { what }));
            }
        }
        let is_retired = |key: &VerifierKey| events.retired.iter().any(|(_, retired)| retired == key);
        let mut retired = events.announced.iter().filter(|(_, _, old)| is_retired(old));
        if let Some((sequence, ..)) = retired.find(|(sequence, ..)| !shown.contains(sequence)) {
            let what = format!("no note in it is signed by both keys of entry {sequence}, whose old key is retired");
            return Err(AuditError::at(export::ROTATIONS, AuditFault::Differs { what }));
        }
        let retired_at =
            |key: &VerifierKey| events.retired.iter().find(|(_, retired)| retired == key).map(|(at, _)| *at);
        let by_trusted: Vec<_> = self.signers.iter().filter(|key| trusted.contains(key)).collect();
        if by_trusted.iter().any(|key| retired_at(key).is_none()) {
            self.remarks.extend(events.announced.iter().filter_map(|announced| forsaken(announced, &self.signers)));
            return Ok(if unpinned { Authenticity::SelfConsistent } else { Authenticity::Authenticated });
        }
        let retired = by_trusted.iter().find_map(|key| Some((key, retired_at(key)?)));
        let finding = if let Some((key, retired_at)) = retired {
            AuditFault::RetiredKey { key: key.describe(), retired_at }
        } else {
            let pins: Vec<_> = self.fingerprints.iter().map(ToString::to_string).collect();
            let trusted = match pins.as_slice() {
                [] => names(&self.pinned),
                pins => format!("the key with the fingerprint {}", pins.join(" or ")),
            };
            AuditFault::WrongKey { found: names(&self.signers), trusted }
        };
        Err(AuditError::at(export::CHECKPOINT, finding))
    }

    /// Checks that the log continues the checkpoint that the reader remembers; returns its size. That checkpoint must be
    /// signed by a key that is or was the log's. One of the log that this one took the place of, whose head was `before`, can't
    /// be compared with it, and is no fault of either.
    pub(super) fn since(
        &self,
        head: &Checkpoint,
        before: Option<&Checkpoint>,
        roots: &BTreeMap<u64, Hash>,
    ) -> Result<Option<u64>, AuditError> {
        let Some((note, checkpoint)) = &self.since else { return Ok(None) };
        if before.is_some_and(|before| before.origin == checkpoint.origin) {
            let (old, origin) = (checkpoint.origin.clone(), head.origin.clone());
            return Err(AuditError::at(SINCE, AuditFault::OfTheLogBefore { old, origin }));
        }
        of_origin(SINCE, &checkpoint.origin, &head.origin)?;
        match note.signed_by(&self.own) {
            Ok(_) => {}
            Err(error @ NoteError::BadSignature { .. }) => return Err(bad_signature(SINCE)(error)),
            Err(_) => {
                let found = note.signatures.iter().map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ");
                let finding = AuditFault::WrongKey { found, trusted: names(&self.own) };
                return Err(AuditError::at(SINCE, finding));
            }
        }
        continues(SINCE, checkpoint, head, roots)?;
        Ok(Some(checkpoint.size))
    }
}

/// A remark about a head that only the old key of an announcement signed. The holder of a retired key can go on from before
/// its retirement, and readers who never saw the new key can't tell; but this much of it shows.
fn forsaken((sequence, new, old): &(u64, VerifierKey, VerifierKey), signers: &[VerifierKey]) -> Option<String> {
    let by_old_alone = signers.contains(old) && !signers.contains(new);
    by_old_alone.then(|| {
        format!(
            "entry {sequence} announces that {} will remain and {} will go, but the head is signed by the old key alone: the \
             announcement is a moment old, or was given up, or somebody who has the old key goes on without the new one. A \
             later checkpoint, by the new key, would show it (--since)",
            new.describe(),
            old.describe()
        )
    })
}

fn owned(keys: Vec<&VerifierKey>) -> Vec<VerifierKey> {
    keys.into_iter().cloned().collect()
}

/// Whether the tree of the log continues a checkpoint that the log signed before.
pub(super) fn continues(
    path: &str,
    older: &Checkpoint,
    head: &Checkpoint,
    roots: &BTreeMap<u64, Hash>,
) -> Result<(), AuditError> {
    match roots.get(&older.size) {
        Some(root) if *root == older.root => Ok(()),
        Some(root) => {
            let finding = AuditFault::Forked { size: older.size, other: older.root, here: *root };
            Err(AuditError::at(path, finding))
        }
        None => Err(AuditError::at(path, AuditFault::Shorter { remembered: older.size, size: head.size })),
    }
}
