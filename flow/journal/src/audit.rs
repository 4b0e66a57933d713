//! Verification of a log from its files alone, offline: the work of `garant verify`.
//!
//! Three people may want to deceive a reader of the log, and each is found in another way.
//!
//! - **A**, somebody *without the log's key* (a hoster, a mirror, a thief of the disk), alters the files. Every byte that
//!   means anything is hashed into the root that the log signed, so verification alone finds him. We hash every bundle;
//!   whoever samples misses what he skips. What A *can* do is to serve an older genuine export: it verifies, and only its
//!   age ([`Trust::max_age`]) or a checkpoint that the reader kept ([`Trust::since`]) shows it.
//! - **B**, the *holder of the key*, rewrites, truncates, back-dates, or shows two histories. His files verify; they are his.
//!   Only a checkpoint remembered elsewhere convicts him: the reader's own [`Trust::since`], or a witness in
//!   [`Trust::policy`].
//! - **C**, nobody in particular: something was never recorded. The log can't show what is not in it; the crate `promise`
//!   makes of every unobserved moment an *unproven* one.
//!
//! And a log is only as good as the key it is checked with. Checked against the key that lies beside it, it is
//! [`Authenticity::SelfConsistent`]: whoever replaced the log could have replaced the key.
//!
//! The audit is one pass in the order of the entries, holding one bundle and one open tile per level. It hands each entry
//! to a callback, so that verdicts can be recomputed in the same pass; what the callback has made of them counts only
//! when the audit returns a [`Report`]. Kinds that this release does not know are kept and counted, never fatal.

mod beside;
mod clock;
mod error;
mod history;
mod keys;
mod walk;

use std::collections::BTreeMap;
use std::io;

use event::{Envelope, Kind, Span, Time};

pub use crate::files::Directory;
pub use error::{AuditError, AuditFault, FaultPlace, Meaning};

use crate::Hash;
use crate::checkpoint::Checkpoint;
use crate::export;
use crate::leaf::Leaf;
use crate::note::{Fingerprint, Note, VerifierKey};
use crate::tlog_policy::{Evaluation, TlogPolicy};
use beside::Beside;
use history::History;
use keys::Keys;

/// How far apart two clocks may be before it is worth a word.
const SKEW: Span = Span::from_secs(600);

/// The source of a log's files: a directory, or a server.
pub trait ExportSource {
    /// The bytes at `path`, a relative path with `/` between its parts; `None` when there is no such file. An
    /// implementation bounds the size of what it reads.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
}

/// The knowledge of the reader that the log can't change.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The log's key, from elsewhere than the log.
    pub vkey: Option<VerifierKey>,
    /// Or its fingerprint, as from DNS; several while a key is being replaced.
    pub fingerprints: Vec<Fingerprint>,
    /// A checkpoint of this log that the reader kept, as the whole signed note.
    pub since: Option<String>,
    /// The witnesses that the reader relies on. Logs named in it count as pinned keys.
    pub policy: Option<TlogPolicy>,
    /// The current time. The audit has no clock of its own; without this, age is not judged.
    pub at: Option<Time>,
    /// Kinds that the reader knows beside those of `event`: what engines tell the team. Of another kind for the team it can't
    /// be said whether it is in the right family.
    pub team_kinds: Vec<Kind>,
    /// How old the newest entry may be at that time. With this, it may not be ahead of that time either, by more than ten
    /// minutes.
    pub max_age: Option<Span>,
}

/// A verified entry.
#[derive(Debug)]
pub struct Audited {
    /// Its place in the log.
    pub sequence: u64,
    /// Its leaf.
    pub leaf: Leaf,
    /// Its payload; `None` when it is not disclosed or destroyed.
    pub envelope: Option<Envelope>,
}

/// How far the signature of a log can be relied on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authenticity {
    /// Signed by a key that the reader pinned, or that this key led to.
    Authenticated,
    /// Signed by the key that lies beside the log. Whoever replaced the one could replace the other.
    SelfConsistent,
}

/// A cosignature of the head by a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownCosignature {
    /// Its name in the policy that names it.
    pub name: String,
    /// Its key.
    pub vkey: VerifierKey,
    /// When it cosigned.
    pub at: Time,
    /// Whether the reader's own policy names it. A witness that only the log names may be the log itself.
    pub trusted: bool,
}

/// A day of a retention class whose payloads the log says are destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestroyedDay {
    /// Retention class.
    pub class: String,
    /// Which day.
    pub day: event::Day,
    /// How many payloads, by the log's own account.
    pub entries: u64,
    /// The entry that says so.
    pub sequence: u64,
}

/// The result of an audit without a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Origin of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// The recomputed root over them, equal to the signed one.
    pub root: Hash,
    /// How far the signature can be relied on.
    pub authenticity: Authenticity,
    /// Keys of the log that signed the head.
    pub signed_by: Vec<VerifierKey>,
    /// Witnesses that cosigned the head.
    pub cosigned_by: Vec<KnownCosignature>,
    /// Size of the remembered checkpoint that the log continues.
    pub continues: Option<u64>,
    /// When the newest entry was recorded: exact when it is disclosed, else the start of its hour at least.
    pub newest: Option<Time>,
    /// Entries whose payload was there and was the committed one.
    pub disclosed: u64,
    /// Entries for the team, of which only the commitment is shown.
    pub withheld: u64,
    /// Public entries whose payload is gone, each covered by a destruction in the log.
    pub destroyed: u64,
    /// The destructions that the log records.
    pub destroyed_days: Vec<DestroyedDay>,
    /// Disclosed entries of kinds or versions that this release does not know, by kind.
    pub unknown_kinds: BTreeMap<String, u64>,
    /// Verdicts listed beside the log, each found in it and proved by its tlog-proof.
    pub verdicts: u64,
    /// Observations that disprove nothing but should be known.
    pub remarks: Vec<String>,
}

/// Verifies the whole log in `source`. Calls `entry` with every entry in order and `progress` with (entries verified,
/// entries in all) after each bundle.
pub fn audit(
    source: &dyn ExportSource,
    trust: &Trust,
    entry: &mut dyn FnMut(Audited),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, AuditError> {
    let head = SignedHead::read(source)?;
    let mut keys = Keys::read(source, trust, &head)?;
    let mut beside = Beside::read(source, &head.checkpoint)?;
    let mut policy_remarks = Vec::new();
    let proposed = proposed_policy(source, &mut policy_remarks)?;

    let mut history = History::new(&head.checkpoint.origin, &trust.team_kinds);
    let wanted: Vec<u64> = keys.sizes().chain(beside.sizes()).collect();
    let roots = walk::walk(
        source,
        &head.checkpoint,
        wanted,
        &mut |seen| {
            history.entry(&seen)?;
            beside.entry(&seen);
            entry(Audited { sequence: seen.leaf.sequence, leaf: seen.leaf, envelope: seen.envelope });
            Ok(())
        },
        progress,
    )?;
    history.finish()?;

    let authenticity = keys.settle(&head, &history.keys, &roots)?;
    let continues = keys.since(&head.checkpoint, history.continues.as_ref(), &roots)?;
    let verdicts = beside.settle(&head.checkpoint, keys.of_the_log(), &roots, &history.listing)?;
    let cosigned_by = cosigned_by(&head.note, trust.policy.as_ref(), proposed.as_ref())?;
    let newest = history.newest();
    let mut remarks = history.remarks;
    remarks.append(&mut keys.remarks);
    remarks.append(&mut policy_remarks);
    let unverifiable = trust.policy.iter().flat_map(|policy| &policy.unverifiable);
    remarks.extend(unverifiable.map(|witness| {
        format!(
            "the witness {} of your policy has a key of type 0x06 (ML-DSA-44), whose cosignatures this release can't verify: \
             it counts as one that did not cosign",
            witness.name
        )
    }));
    if history.listing.is_newer() {
        remarks.push(format!(
            "the log has a policy or verdicts of a later version than this release can read: whether `{}` leaves any out was not \
             verified",
            export::VERDICTS
        ));
    }
    judge_age(trust, newest, &cosigned_by, &mut remarks)?;

    Ok(Report {
        origin: head.checkpoint.origin,
        size: head.checkpoint.size,
        root: head.checkpoint.root,
        authenticity,
        signed_by: keys.signers,
        cosigned_by,
        continues,
        newest,
        disclosed: history.disclosed,
        withheld: history.withheld,
        destroyed: history.destroyed,
        destroyed_days: history.destroyed_days,
        unknown_kinds: history.unknown_kinds,
        verdicts,
        remarks,
    })
}

/// The checkpoint of an export, parsed and not verified.
struct SignedHead {
    note: Note,
    checkpoint: Checkpoint,
}

impl SignedHead {
    fn read(source: &dyn ExportSource) -> Result<Self, AuditError> {
        let text = required_text(source, export::CHECKPOINT)?;
        let at = |error: &dyn std::fmt::Display| {
            AuditError::at(export::CHECKPOINT, AuditFault::Malformed { what: error.to_string() })
        };
        let note = Note::parse(&text).map_err(|error| at(&error))?;
        let checkpoint = Checkpoint::parse(&note.text).map_err(|error| at(&error))?;
        Ok(Self { note, checkpoint })
    }
}

fn optional(source: &dyn ExportSource, path: &str) -> Result<Option<Vec<u8>>, AuditError> {
    source.read(path).map_err(|error| AuditError::at(path, AuditFault::Unreadable { error: error.to_string() }))
}

fn required(source: &dyn ExportSource, path: &str) -> Result<Vec<u8>, AuditError> {
    optional(source, path)?.ok_or_else(|| AuditError::at(path, AuditFault::Missing))
}

fn text(path: &str, bytes: Vec<u8>) -> Result<String, AuditError> {
    String::from_utf8(bytes)
        .map_err(|_| AuditError::at(path, AuditFault::Malformed { what: "the file is not UTF-8".to_owned() }))
}

fn optional_text(source: &dyn ExportSource, path: &str) -> Result<Option<String>, AuditError> {
    optional(source, path)?.map(|bytes| text(path, bytes)).transpose()
}

fn required_text(source: &dyn ExportSource, path: &str) -> Result<String, AuditError> {
    text(path, required(source, path)?)
}

/// The policy that the log proposes. It is not signed, and no more than a proposal: one that can't be read takes nothing
/// away from the log.
fn proposed_policy(source: &dyn ExportSource, remarks: &mut Vec<String>) -> Result<Option<TlogPolicy>, AuditError> {
    let Some(bytes) = optional(source, export::TLOG_POLICY)? else { return Ok(None) };
    let policy = match String::from_utf8(bytes) {
        Ok(text) => TlogPolicy::parse(&text).map_err(|error| error.to_string()),
        Err(_) => Err("the file is not UTF-8".to_owned()),
    };
    let remark =
        |error| remarks.push(format!("`{}` can't be read and counts for nothing: {error}", export::TLOG_POLICY));
    Ok(policy.map_err(remark).ok())
}

/// The cosignatures of the head: by the witnesses of the reader's policy, whose quorum must be met, and by those that the
/// log proposes.
fn cosigned_by(
    note: &Note,
    trusted: Option<&TlogPolicy>,
    proposed: Option<&TlogPolicy>,
) -> Result<Vec<KnownCosignature>, AuditError> {
    let count = |policy: &TlogPolicy| -> Result<Evaluation, AuditError> {
        let refused = |error: crate::cosignature::CosignatureError| {
            AuditError::at(export::CHECKPOINT, AuditFault::BadSignature { error: error.to_string() })
        };
        policy.count(note).map_err(refused)
    };
    let mut all: Vec<KnownCosignature> = Vec::new();
    for (policy, is_trusted) in [(trusted, true), (proposed, false)] {
        let Some(policy) = policy else { continue };
        let Evaluation { witnessed_by, quorum_met } = count(policy)?;
        for (witness, at) in witnessed_by {
            if !all.iter().any(|known| known.vkey == witness.vkey) {
                all.push(KnownCosignature { name: witness.name, vkey: witness.vkey, at, trusted: is_trusted });
            }
        }
        if is_trusted && !quorum_met {
            let by = all.iter().map(|cosigned| cosigned.name.clone()).collect();
            let quorum = policy.quorum.clone().unwrap_or_default();
            return Err(AuditError::at(export::CHECKPOINT, AuditFault::Unwitnessed { quorum, by }));
        }
    }
    Ok(all)
}

fn judge_age(
    trust: &Trust,
    newest: Option<Time>,
    cosigned_by: &[KnownCosignature],
    remarks: &mut Vec<String>,
) -> Result<(), AuditError> {
    if let (Some(at), Some(max_age)) = (trust.at, trust.max_age)
        && newest.is_none_or(|newest| newest < at - max_age)
    {
        return Err(AuditError::at(export::CHECKPOINT, AuditFault::Stale { newest, at, max_age }));
    }
    if let (Some(at), Some(newest)) = (trust.at, newest)
        && newest > at + SKEW
    {
        // A log dated ahead would look fresh for as long as its owner likes.
        if trust.max_age.is_some() {
            return Err(AuditError::at(export::CHECKPOINT, AuditFault::Ahead { newest, at }));
        }
        remarks.push(format!("the newest entry is dated {newest}, which is after now ({at}): a clock is wrong"));
    }
    if let Some(newest) = newest {
        for witness in cosigned_by.iter().filter(|witness| witness.at + SKEW < newest) {
            remarks.push(format!(
                "the witness {} cosigned at {}, before the newest entry says it was recorded ({newest}): a clock is wrong",
                witness.name, witness.at
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
