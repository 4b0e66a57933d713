//! Kinds of events that the engine writes for the team.

use event::{Body, Kind};
use serde::{Deserialize, Serialize};

/// A server took over the events of an agent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Attached {
    /// Release of the agent.
    pub(crate) version: String,
    /// Number of its process.
    pub(crate) pid: i32,
    /// Revision of the desired state that it follows.
    pub(crate) revision: u64,
}

impl Body for Attached {
    const KIND: Kind = Kind::trace("hosts.attached");
}

/// The agent can't be reached any more. It goes on alone, and what it does comes later.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Lost {
    /// Why.
    pub(crate) reason: String,
}

impl Body for Lost {
    const KIND: Kind = Kind::trace("hosts.lost");
}

/// All kinds of this engine.
pub const KINDS: &[Kind] = &[Attached::KIND, Lost::KIND];
