//! Kinds of events that the engine writes for the team. None holds a line of a log; an address is all of a person that one holds.

use event::{Body, Family, FindingId, Kind, ProbeId, Time};
use serde::{Deserialize, Serialize};

/// An address was banned.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Banned {
    /// The address, or the network of it that is banned.
    pub(crate) address: String,
    /// The rule.
    pub(crate) rule: String,
    /// The log in which the failures were.
    pub(crate) log: String,
    /// Number of failures.
    pub(crate) failures: u32,
    /// Until when; `None` for ever.
    pub(crate) until: Option<Time>,
    /// How many times it was banned by this rule, this time included.
    pub(crate) count: u32,
    /// Whether the packet filter drops it; `false` in simulation.
    pub(crate) enforced: bool,
    /// How often a ban that was in force already was prolonged since the last entry of it; 0 of a new one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) prolonged: u32,
}

impl Body for Banned {
    const KIND: Kind = Kind::team("guard.banned", Family::Security);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A ban ended before its time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Unbanned {
    /// The address, or the network.
    pub(crate) address: String,
    /// The rule that had banned it.
    pub(crate) rule: String,
}

impl Body for Unbanned {
    const KIND: Kind = Kind::team("guard.unbanned", Family::Security);
}

/// An address that a rule would have banned is on the allowlist.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Spared {
    /// The address.
    pub(crate) address: String,
    /// The rule.
    pub(crate) rule: String,
    /// Why it is never banned.
    pub(crate) reason: String,
}

impl Body for Spared {
    const KIND: Kind = Kind::team("guard.spared", Family::Security);
}

/// Something else had changed garant's table in the packet filter; it is as it was.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Mended {
    /// What was different.
    pub(crate) what: String,
}

impl Body for Mended {
    const KIND: Kind = Kind::team("guard.mended", Family::Security);
}

/// What was read in a minute, by one rule: only where there were failures.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Attempts {
    /// The rule.
    pub(crate) rule: String,
    /// Failures.
    pub(crate) failures: u64,
    /// Addresses that they came from.
    pub(crate) addresses: u64,
}

impl Body for Attempts {
    const KIND: Kind = Kind::team("guard.attempts", Family::Security);
}

/// Why something of the configuration is not followed, or a log is not read, in words for the team.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Impaired {
    /// What it is about: a log, a jail, the packet filter.
    pub(crate) what: String,
    /// Why.
    pub(crate) reason: String,
    /// Whether it is over.
    pub(crate) over: bool,
}

impl Body for Impaired {
    const KIND: Kind = Kind::team("guard.impaired", Family::Security);
}

/// What the findings are about, in words for the team; the channels of garant send it along.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Detail {
    /// The probe.
    pub(crate) probe: ProbeId,
    /// The finding that the words are of; none where they are of the probe itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<FindingId>,
    /// The words: which rule banned whom, which log is not read, why bans are not enforced.
    pub(crate) text: String,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("guard.detail", Family::Security);
}

/// The program of the policy was run for a ban or its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Acted {
    /// `ban` or `unban`.
    pub(crate) action: String,
    /// The address, or the network.
    pub(crate) address: String,
    /// The rule.
    pub(crate) rule: String,
    /// Why it failed; `None` when it did its work.
    pub(crate) failed: Option<String>,
}

impl Body for Acted {
    const KIND: Kind = Kind::team("guard.acted", Family::Security);
}

/// All kinds of this engine.
pub const KINDS: &[Kind] = &[
    Banned::KIND,
    Unbanned::KIND,
    Spared::KIND,
    Mended::KIND,
    Attempts::KIND,
    Impaired::KIND,
    Detail::KIND,
    Acted::KIND,
];
