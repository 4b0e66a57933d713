//! Findings of an audit: where, and what each means.

use std::fmt;

use event::{Day, Span, Time};

use crate::Hash;

/// The place of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultPlace {
    /// The file.
    pub path: String,
    /// The entry, when the fault concerns one.
    pub sequence: Option<u64>,
}

impl fmt::Display for FaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "{}, entry {sequence}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// The meaning of a finding: which attack, or accident, explains it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Meaning {
    /// The files could not be read: nothing is shown.
    Unread,
    /// Attacker A, or damage.
    AlteredWithoutKey,
    /// An earlier state of the log, genuine in itself.
    OlderSnapshot,
    /// Attacker B.
    RewrittenByKeyHolder,
    /// Not the key that the reader pinned.
    OtherKey,
    /// Of the log before this one: nothing is shown about it here.
    NotCompared,
    /// No outside witness confirms that others see the same log.
    NotWitnessed,
    /// The times of the log can't be right.
    WrongClock,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread => "the log could not be read whole, so nothing is proved either way; try again",
            Self::AlteredWithoutKey => "these files are not what the log signed: they were altered, or damaged, by somebody without its key",
            Self::OlderSnapshot => "this is an older state of the log than it should be: somebody serves an old copy, or the holder of the key cut off the end",
            Self::RewrittenByKeyHolder => "the log contradicts itself, or what it signed before: only the holder of its key can have done that",
            Self::OtherKey => "the log is not signed by the key that you trust: it is another log, or somebody else's",
            Self::WrongClock => "your clock is wrong, or the log's is, or the log is dated ahead so that it still looks fresh when it is old",
            Self::NotCompared => "nothing here speaks against either log; verify what is left of the one before with --since, and keep a checkpoint of this one from now on",
            Self::NotWitnessed => "the witnesses you rely on do not vouch for it: a history shown only to you can't be ruled out",
        })
    }
}

/// A fault of a log that the audit found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuditFault {
    /// Reading failed.
    #[error("it can't be read: {error}")]
    Unreadable {
        /// Why.
        error: String,
    },
    /// A file that the checkpoint requires is not there.
    #[error("there is no such file, and the log has one")]
    Missing,
    /// Bytes of a form that nothing of garant writes.
    #[error("{what}")]
    Malformed {
        /// The fault of form.
        what: String,
    },
    /// A signature that does not verify.
    #[error("{error}")]
    BadSignature {
        /// The error of the verification, with the key.
        error: String,
    },
    /// Signed, but not by a key that the reader trusts, nor by one that such a key announced.
    #[error("it is signed by {found}; you trust {trusted}, and no announcement in the log leads from there to here")]
    WrongKey {
        /// The keys that signed.
        found: String,
        /// The keys that should have signed.
        trusted: String,
    },
    /// Signed only by a key that the log retired before.
    #[error("it is signed only by {key}, which entry {retired_at} of this log retired")]
    RetiredKey {
        /// The retired key.
        key: String,
        /// The entry that retired it.
        retired_at: u64,
    },
    /// Of another log.
    #[error("it is about the log `{found}`, not `{expected}`")]
    WrongOrigin {
        /// The origin found.
        found: String,
        /// The origin expected.
        expected: String,
    },
    /// The remembered checkpoint is of the log that this one continues.
    #[error(
        "it is of the log `{old}`, which `{origin}` continues since it began, as its entry 1 says: the entries of the old log \
         are not in this one, so the two can't be compared"
    )]
    OfTheLogBefore {
        /// The log before.
        old: String,
        /// This log.
        origin: String,
    },
    /// What an entry says of the log can't be, where it stands.
    #[error("{what}")]
    Contradiction {
        /// What can't be, and why.
        what: String,
    },
    /// The entry belongs to another log.
    #[error("it is an entry of the log `{found}`")]
    Foreign {
        /// The log that it names.
        found: String,
    },
    /// The leaf names another sequence than its place.
    #[error("its leaf says that it is entry {found}")]
    WrongSequence {
        /// The sequence in the leaf.
        found: u64,
    },
    /// The entries make another root than the one signed.
    #[error("the {size} entries make the root {computed}, but the log signed {signed}")]
    WrongRoot {
        /// Number of entries.
        size: u64,
        /// Root of the entries.
        computed: Hash,
        /// Root in the checkpoint.
        signed: Hash,
    },
    /// A tile that the entries do not make.
    #[error("it is not the tile that the entries make")]
    WrongTile,
    /// A payload that the leaf does not commit to.
    #[error("the payload is not the one that was committed: its commitment is {computed}, the leaf has {committed}")]
    WrongPayload {
        /// Commitment of what is there.
        computed: Hash,
        /// Commitment in the leaf.
        committed: Hash,
    },
    /// Leaf and envelope contradict each other.
    #[error("leaf and payload disagree about its {what}: `{leaf}` and `{payload}`")]
    Disagree {
        /// The field in question.
        what: &'static str,
        /// Value in the leaf.
        leaf: String,
        /// Value in the payload.
        payload: String,
    },
    /// A public entry has no payload, and no destruction explains it.
    #[error("a public entry (`{coarse}`, {day}) is not disclosed, and no destruction in the log covers it")]
    Hidden {
        /// Its kind.
        coarse: String,
        /// Its day.
        day: Day,
    },
    /// More public entries of a day are missing than were destroyed.
    #[error("{missing} public entries of {day} are not disclosed, but the log says that {destroyed} were destroyed")]
    HiddenBeyond {
        /// Which day.
        day: Day,
        /// How many are missing.
        missing: u64,
        /// How many were destroyed.
        destroyed: u64,
    },
    /// An entry is older than the one before it.
    #[error("the log's clock goes back from {from} to {to}, and no `engine.clock_stepped` in it says so")]
    ClockWentBack {
        /// Time of the entry before.
        from: Time,
        /// Latest time that the entry can have.
        to: Time,
    },
    /// A file beside the log differs from the log.
    #[error("it differs from the log: {what}")]
    Differs {
        /// The difference.
        what: String,
    },
    /// A proof that proves nothing.
    #[error("the proof does not hold: {error}")]
    Proof {
        /// Why.
        error: String,
    },
    /// The remembered checkpoint is beyond the log.
    #[error("you remember {remembered} entries, this log has {size}")]
    Shorter {
        /// Remembered size.
        remembered: u64,
        /// Size of this log.
        size: u64,
    },
    /// The log signed two trees of the same size.
    #[error("a checkpoint signed by this log has the root {other} for its first {size} entries; here they make {here}")]
    Forked {
        /// Size of both.
        size: u64,
        /// Root in the other checkpoint.
        other: Hash,
        /// Root of the entries here.
        here: Hash,
    },
    /// The reader's quorum is not met.
    #[error("your policy asks for cosignatures by `{quorum}`; {}", if by.is_empty() { "nobody of it cosigned".to_owned() } else { format!("only {} cosigned", by.join(", ")) })]
    Unwitnessed {
        /// The quorum.
        quorum: String,
        /// The witnesses that cosigned.
        by: Vec<String>,
    },
    /// Nothing new for too long.
    #[error("{}, which is more than {max_age} before {at}", match newest { Some(newest) => format!("the newest entry was recorded at {newest}"), None => "there is no entry".to_owned() })]
    Stale {
        /// Time of the newest entry.
        newest: Option<Time>,
        /// The current time.
        at: Time,
        /// Highest age allowed.
        max_age: Span,
    },
    /// The newest entry is later than now, so that its age means nothing.
    #[error("the newest entry is dated {newest}, and it is {at}: how old it is can't be told")]
    Ahead {
        /// Time of the newest entry.
        newest: Time,
        /// The current time.
        at: Time,
    },
}

impl AuditFault {
    /// The meaning of this finding.
    pub const fn meaning(&self) -> Meaning {
        match self {
            Self::Unreadable { .. } => Meaning::Unread,
            Self::Missing
            | Self::Malformed { .. }
            | Self::BadSignature { .. }
            | Self::Foreign { .. }
            | Self::WrongSequence { .. }
            | Self::WrongRoot { .. }
            | Self::WrongTile
            | Self::WrongPayload { .. }
            | Self::Disagree { .. }
            | Self::Hidden { .. }
            | Self::HiddenBeyond { .. }
            | Self::Differs { .. }
            | Self::Proof { .. } => Meaning::AlteredWithoutKey,
            Self::WrongKey { .. } | Self::RetiredKey { .. } | Self::WrongOrigin { .. } => Meaning::OtherKey,
            Self::OfTheLogBefore { .. } => Meaning::NotCompared,
            Self::ClockWentBack { .. } | Self::Forked { .. } | Self::Contradiction { .. } => {
                Meaning::RewrittenByKeyHolder
            }
            Self::Shorter { .. } | Self::Stale { .. } => Meaning::OlderSnapshot,
            Self::Unwitnessed { .. } => Meaning::NotWitnessed,
            Self::Ahead { .. } => Meaning::WrongClock,
        }
    }
}

/// The error of a log that does not verify: what was found, where, and what it means.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {finding}. That means: {}.", finding.meaning())]
pub struct AuditError {
    /// The place.
    pub place: FaultPlace,
    /// The finding. Boxed, because an error is rare and a result is not.
    pub finding: Box<AuditFault>,
}

impl AuditError {
    /// An error about a file.
    pub(super) fn at(path: &str, finding: AuditFault) -> Self {
        Self { place: FaultPlace { path: path.to_owned(), sequence: None }, finding: Box::new(finding) }
    }

    /// An error about an entry, in a file.
    pub(super) fn of_entry(path: &str, sequence: u64, finding: AuditFault) -> Self {
        Self { place: FaultPlace { path: path.to_owned(), sequence: Some(sequence) }, finding: Box::new(finding) }
    }

    /// The meaning of the finding.
    pub fn meaning(&self) -> Meaning {
        self.finding.meaning()
    }
}
