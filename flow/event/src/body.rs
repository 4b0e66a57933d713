//! The kinds of events and what they have in common.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Who may read the payloads of a kind.
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
    /// Who did what, and what was attempted.
    Security,
    /// What was up, down, or not observed.
    Monitoring,
    /// Figures and verdicts.
    Statistics,
    /// What helps to find a fault in garant itself.
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

/// How long payloads of a kind are kept. The policy gives each class its length; the day's key of the class is then
/// destroyed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Retention {
    /// What verdicts rest on: outlives the longest window of any objective.
    Evidence,
    /// What the team needs for forensics.
    Audit,
}

impl Retention {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::Evidence, Self::Audit];

    /// The word used for key files and in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Audit => "audit",
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
    /// Who may read it.
    pub audience: Audience,
    /// Its family in the audit log.
    pub family: Family,
}

impl Kind {
    /// A kind that everybody may read.
    pub const fn public(name: &'static str, family: Family) -> Self {
        Self { name, version: 1, audience: Audience::Public, family }
    }

    /// A kind that only the team may read.
    pub const fn team(name: &'static str, family: Family) -> Self {
        Self { name, version: 1, audience: Audience::Team, family }
    }

    /// The retention class of its payloads: a public kind is evidence, whatever else it is.
    pub const fn retention(&self) -> Retention {
        match self.audience {
            Audience::Public => Retention::Evidence,
            Audience::Team => Retention::Audit,
        }
    }

    /// What its leaves show: the name of a public kind, `team:` and the family of another.
    pub fn coarse(&self) -> String {
        match self.audience {
            Audience::Public => self.name.to_owned(),
            Audience::Team => format!("team:{}", self.family.as_str()),
        }
    }
}

/// What happened, typed. Serialised as a JSON object without floats.
pub trait Body: Serialize + DeserializeOwned + Send {
    /// Its kind.
    const KIND: Kind;
}

/// Every kind that this release writes, in the order of the modules.
pub fn kinds() -> &'static [Kind] {
    use crate::{engine, journal, policy, promise, watch};
    const KINDS: &[Kind] = &[
        engine::Started::KIND,
        engine::Failed::KIND,
        engine::Stopped::KIND,
        engine::Blind::KIND,
        engine::ClockStepped::KIND,
        engine::StorageFault::KIND,
        journal::Opened::KIND,
        journal::Succeeded::KIND,
        journal::KeyAnnounced::KIND,
        journal::KeyRetired::KIND,
        journal::DestructionIntended::KIND,
        journal::Destroyed::KIND,
        policy::Applied::KIND,
        policy::Changed::KIND,
        promise::Verdict::KIND,
        watch::Changed::KIND,
        watch::Coverage::KIND,
        watch::Pinged::KIND,
        watch::Finding::KIND,
        watch::Detail::KIND,
    ];
    KINDS
}

/// The kind of that name, if this release knows it.
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
}
