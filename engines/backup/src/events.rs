//! Kinds of events that the engine writes for the team. None holds a secret.

use event::{Body, Family, FindingId, Kind, ProbeId, Span, Time};
use serde::{Deserialize, Serialize};

use crate::checks::Checked;

/// A base, or a snapshot of files, was completed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Taken {
    /// The backup.
    pub(crate) backup: String,
    /// The set, or the snapshot.
    pub(crate) set: String,
    /// `full` or `incremental`.
    pub(crate) kind: String,
    /// The instant that it shows.
    pub(crate) consistent_at: Time,
    /// Bytes as they were read.
    pub(crate) bytes: u64,
    /// How long it took, in seconds.
    pub(crate) took_s: u64,
}

impl Body for Taken {
    const KIND: Kind = Kind::team("backup.taken", Family::Monitoring);
}

/// A restore test has ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Tested {
    /// The backup.
    pub(crate) backup: String,
    /// The instant that was restored.
    pub(crate) to: Time,
    /// The copy that it was restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) copy: Option<String>,
    /// The set that was the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) set: Option<String>,
    /// Why it failed; none when it was exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What the application's checks have shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<Checked>,
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) took: Span,
}

impl Body for Tested {
    const KIND: Kind = Kind::team("backup.tested", Family::Monitoring);
}

/// A check of what is stored has ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Inspected {
    /// The backup.
    pub(crate) backup: String,
    /// Bytes that were read.
    pub(crate) read: u64,
    /// How long it took.
    pub(crate) took: Span,
    /// What is not as it was stored, in words; the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) wrong: Vec<String>,
    /// What could not be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unseen: Vec<String>,
}

impl Body for Inspected {
    const KIND: Kind = Kind::team("backup.checked", Family::Monitoring);
}

/// What was kept for as long as promised was destroyed at one copy: a folder, with its data key and all of its objects, or what only
/// expired snapshots of files held.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Destroyed {
    /// The copy.
    pub(crate) copy: String,
    /// The folder: a base, a day of log, or a repository of files.
    pub(crate) folder: String,
    /// How many objects that were; none is listed any more.
    pub(crate) objects: u64,
    /// How many of them are locked: hidden, and deleted when their locks end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) locked: u64,
    /// When the last of these locks ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locked_until: Option<Time>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Body for Destroyed {
    const KIND: Kind = Kind::team("backup.destroyed", Family::Monitoring);
}

/// A rewind of a live database: said before anything of it is changed, and when it has ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Rewound {
    /// The backup.
    pub(crate) backup: String,
    /// The instant.
    pub(crate) to: Time,
    /// How far it is.
    pub(crate) state: RewindState,
    /// Whether it goes on though what was committed last is not in the repository.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unshipped: bool,
    /// Why it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// How far a rewind is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RewindState {
    /// It was confirmed, and begins.
    Intended,
    /// What was restored is in the place of the data.
    Done,
    /// It has ended before; `error` says why.
    Failed,
    /// The data of before is in its place again.
    Undone,
}

impl Body for Rewound {
    const KIND: Kind = Kind::team("backup.rewound", Family::Monitoring);
}

/// What the findings are about, in words for the team; the channels of garant send it along.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Detail {
    /// The probe.
    pub(crate) probe: ProbeId,
    /// The finding that the words are of; none where they are of the probe itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<FindingId>,
    /// The words.
    pub(crate) text: String,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("backup.detail", Family::Monitoring);
}

/// All of them.
pub const KINDS: &[Kind] = &[Taken::KIND, Tested::KIND, Inspected::KIND, Destroyed::KIND, Rewound::KIND, Detail::KIND];
