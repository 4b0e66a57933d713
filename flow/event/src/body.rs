//! The kinds of events and what they have in common.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The readers of a kind's payloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Everybody. Holds no name, address, host detail or secret. Every entry of a public kind is disclosed in an export,
    /// so that nothing a verdict rests on can be left out.
    Public,
    /// The team. An export holds the commitment only.
    Team,
}

/// The four families of an audit log (promise JO-1). Of a team entry, the family is all that a stranger learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// Access and authority: what somebody did, and what was attempted.
    Security,
    /// States of what is watched: up, down, not observed.
    Monitoring,
    /// Figures and verdicts.
    Statistics,
    /// Traces that help to find a fault in garant itself.
    Debugging,
}

impl Family {
    /// The word used in a leaf.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Monitoring => "monitoring",
            Self::Statistics => "statistics",
            Self::Debugging => "debugging",
        }
    }
}

/// How long payloads of a kind are kept. The policy gives each class but the last its length; the day's key of the class is
/// then destroyed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Retention {
    /// What verdicts rest on: outlives the longest window of any objective.
    Evidence,
    /// Records that the team must be able to show for years: changes, approvals, access.
    Records,
    /// Events that the team needs for forensics.
    Audit,
    /// Events that help to find a fault in garant itself, kept for days.
    Traces,
    /// Entries of the log about itself: kept as long as the log. Without its keys, its clock and its destructions, no reader
    /// could follow from an old key to a new one, or tell what is destroyed from what is hidden. Few, small, without
    /// personal data.
    Permanent,
}

impl Retention {
    /// All classes.
    pub const ALL: [Self; 5] = [Self::Evidence, Self::Records, Self::Audit, Self::Traces, Self::Permanent];

    /// The word used for key files and in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Records => "records",
            Self::Audit => "audit",
            Self::Traces => "traces",
            Self::Permanent => "permanent",
        }
    }

    /// The class of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// A kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// `engine.verb`, for ever.
    pub name: &'static str,
    /// Version of the body. A reader of version n reads every version up to n.
    pub version: u16,
    /// The readers of its payloads.
    pub audience: Audience,
    /// Its family in the audit log.
    pub family: Family,
    /// How long its payloads are kept.
    pub retention: Retention,
}

impl Kind {
    /// A kind that everybody may read, and that verdicts may rest on.
    pub const fn public(name: &'static str, family: Family) -> Self {
        Self { name, version: 1, audience: Audience::Public, family, retention: Retention::Evidence }
    }

    /// A kind that everybody may read for as long as there is the log: what the log says of itself. No personal data, ever.
    pub const fn permanent(name: &'static str, family: Family) -> Self {
        Self { name, version: 1, audience: Audience::Public, family, retention: Retention::Permanent }
    }

    /// A kind that only the team may read, kept for as long as forensics need it.
    pub const fn team(name: &'static str, family: Family) -> Self {
        Self { name, version: 1, audience: Audience::Team, family, retention: Retention::Audit }
    }

    /// A kind that only the team may read, kept for years.
    pub const fn record(name: &'static str, family: Family) -> Self {
        Self { retention: Retention::Records, ..Self::team(name, family) }
    }

    /// A kind that only the team may read, kept for days.
    pub const fn trace(name: &'static str) -> Self {
        Self { retention: Retention::Traces, ..Self::team(name, Family::Debugging) }
    }

    /// What its leaves show: the name of a public kind, `team:` and the family of another.
    pub fn coarse(&self) -> String {
        match self.audience {
            Audience::Public => self.name.to_owned(),
            Audience::Team => format!("team:{}", self.family.as_str()),
        }
    }
}

/// The body of an event, typed. Serialised as a JSON object without floats.
pub trait Body: Serialize + DeserializeOwned + Send {
    /// The kind that this type is the body of.
    const KIND: Kind;
}

/// Every kind that is not of one engine alone, in the order of the modules: all public kinds, and those of the team that
/// several crates write. The rest are in the crates of their engines.
pub fn kinds() -> &'static [Kind] {
    use crate::{engine, evidence, journal, policy, promise};
    const KINDS: &[Kind] = &[
        engine::Started::KIND,
        engine::Failed::KIND,
        engine::Stopped::KIND,
        engine::Blind::KIND,
        engine::ClockStepped::KIND,
        engine::StorageFault::KIND,
        engine::DataMoved::KIND,
        evidence::Changed::KIND,
        evidence::Covered::KIND,
        evidence::Succeeded::KIND,
        evidence::Found::KIND,
        evidence::Reacted::KIND,
        evidence::Restored::KIND,
        evidence::Counted::KIND,
        journal::Opened::KIND,
        journal::Continued::KIND,
        journal::KeyAnnounced::KIND,
        journal::KeyRetired::KIND,
        journal::DestructionIntended::KIND,
        journal::Destroyed::KIND,
        policy::Applied::KIND,
        policy::Changed::KIND,
        promise::Verdict::KIND,
    ];
    KINDS
}

/// The kind of that name among [`kinds`].
pub fn kind_named(name: &str) -> Option<&'static Kind> {
    kinds().iter().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_dotted() {
        let mut names: Vec<_> = kinds().iter().map(|k| k.name).collect();
        assert!(names.iter().all(|n| n.split('.').count() == 2), "{names:?}");
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(before, names.len(), "two kinds share a name");
    }

    /// A stranger who follows the keys, the clock and the destructions of a log needs each of these entries.
    #[test]
    fn what_the_log_says_of_itself_is_kept_as_long_as_the_log() {
        for kind in kinds() {
            let of_itself = kind.name.starts_with("journal.") || kind.name == "engine.clock_stepped";
            assert_eq!(kind.retention == Retention::Permanent, of_itself, "{}", kind.name);
            let is_public = matches!(kind.retention, Retention::Evidence | Retention::Permanent);
            assert_eq!(is_public, kind.audience == Audience::Public, "{}", kind.name);
        }
    }
}
