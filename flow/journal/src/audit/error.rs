//! What an audit may find, where, and what it means.

use std::fmt;

use event::{Day, Span, Time};

use crate::Hash;

/// Where something was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub path: String,
    /// The entry, when it concerns one.
    pub sequence: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "{}, entry {sequence}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// Who can have done it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Meaning {
    /// The files could not be read: nothing is shown either way.
    Unread,
    /// Attacker A, or damage.
    AlteredWithoutKey,
    /// An earlier state of the log, genuine in itself.
    OlderSnapshot,
    /// Attacker B.
    RewrittenByKeyHolder,
    /// Not the key that the reader pinned.
    OtherKey,
    /// Nobody outside vouches that others see the same log.
    NotWitnessed,
    /// The times of the log are not of this world.
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
            Self::NotWitnessed => "the witnesses you rely on do not vouch for it: a history shown only to you can't be ruled out",
        })
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
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
        /// What is wrong.
        what: String,
    },
    /// A signature that does not verify.
    #[error("{error}")]
    BadSignature {
        /// Whose.
        error: String,
    },
    /// Signed, but not by a key that the reader trusts, nor by one that such a key announced.
    #[error("it is signed by {found}; you trust {trusted}, and no announcement in the log leads from there to here")]
    WrongKey {
        /// Who signed.
        found: String,
        /// Who should have.
        trusted: String,
    },
    /// Signed only by a key that the log retired before.
    #[error("it is signed only by {key}, which entry {retired_at} of this log retired")]
    RetiredKey {
        /// Which key.
        key: String,
        /// By which entry.
        retired_at: u64,
    },
    /// Of another log.
    #[error("it is about the log `{found}`, not `{expected}`")]
    WrongOrigin {
        /// Which log it is about.
        found: String,
        /// Which it should be about.
        expected: String,
    },
    /// An entry of another log.
    #[error("it is an entry of the log `{found}`")]
    Foreign {
        /// Of which one.
        found: String,
    },
    /// A leaf says another place than the one it has.
    #[error("its leaf says that it is entry {found}")]
    WrongSequence {
        /// What it says.
        found: u64,
    },
    /// The entries make another root than the one signed.
    #[error("the {size} entries make the root {computed}, but the log signed {signed}")]
    WrongRoot {
        /// Over how many entries.
        size: u64,
        /// What they make.
        computed: Hash,
        /// What was signed.
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
    /// Leaf and envelope disagree.
    #[error("leaf and payload disagree about its {what}: `{leaf}` and `{payload}`")]
    Disagree {
        /// About what.
        what: &'static str,
        /// What the leaf says.
        leaf: String,
        /// What the payload says.
        payload: String,
    },
    /// A public entry without payload and without excuse.
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
    /// A file beside the log that does not say what the log says.
    #[error("it differs from the log: {what}")]
    Differs {
        /// How.
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
        /// Size that is remembered.
        remembered: u64,
        /// Size that is here.
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
        /// Who cosigned.
        by: Vec<String>,
    },
    /// Nothing new for too long.
    #[error("{}, which is more than {max_age} before {at}", match newest { Some(newest) => format!("the newest entry was recorded at {newest}"), None => "there is no entry".to_owned() })]
    Stale {
        /// Time of the newest entry.
        newest: Option<Time>,
        /// What time it is.
        at: Time,
        /// How old it may be.
        max_age: Span,
    },
    /// Newer than now, so that its age says nothing.
    #[error("the newest entry is dated {newest}, and it is {at}: how old it is can't be told")]
    Ahead {
        /// Time of the newest entry.
        newest: Time,
        /// What time it is.
        at: Time,
    },
}

impl Finding {
    /// Who can have done it.
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
            Self::ClockWentBack { .. } | Self::Forked { .. } => Meaning::RewrittenByKeyHolder,
            Self::Shorter { .. } | Self::Stale { .. } => Meaning::OlderSnapshot,
            Self::Unwitnessed { .. } => Meaning::NotWitnessed,
            Self::Ahead { .. } => Meaning::WrongClock,
        }
    }
}

/// Why a log does not verify: what was found, where, and what it means.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {finding}. That means: {}.", finding.meaning())]
pub struct AuditError {
    /// Where.
    pub place: Place,
    /// What. Boxed, because an error is rare and a result is not.
    pub finding: Box<Finding>,
}

impl AuditError {
    /// About a file.
    pub(super) fn at(path: &str, finding: Finding) -> Self {
        Self { place: Place { path: path.to_owned(), sequence: None }, finding: Box::new(finding) }
    }

    /// About an entry, in a file.
    pub(super) fn of_entry(path: &str, sequence: u64, finding: Finding) -> Self {
        Self { place: Place { path: path.to_owned(), sequence: Some(sequence) }, finding: Box::new(finding) }
    }

    /// Who can have done it.
    pub fn meaning(&self) -> Meaning {
        self.finding.meaning()
    }
}
