//! Kinds of events that the engine writes for the team. None holds an address of a client, a path or a field.

use event::{Body, Family, Kind};
use serde::{Deserialize, Serialize};

/// An upstream is in another state: up, down by its checks, ejected for failed requests, returning.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct UpstreamChanged {
    /// The site.
    pub(crate) site: String,
    /// Address and port of the upstream.
    pub(crate) upstream: String,
    /// `up`, `down`, `ejected`, `returning`.
    pub(crate) state: String,
    /// Why.
    pub(crate) reason: String,
}

impl Body for UpstreamChanged {
    const KIND: Kind = Kind::team("gate.upstream", Family::Monitoring);
}

/// Requests of a site go to another region.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct FailedOver {
    /// The site.
    pub(crate) site: String,
    /// The region that they went to; `none` where no upstream could be used.
    pub(crate) from: String,
    /// The region that they go to.
    pub(crate) to: String,
}

impl Body for FailedOver {
    const KIND: Kind = Kind::team("gate.failover", Family::Monitoring);
}

/// Messages whose framing has two readings were refused: how many of one class within a minute.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Refused {
    /// The class: `many-lengths`, `bare-lf`.
    pub(crate) class: String,
    /// How many.
    pub(crate) count: u64,
}

impl Body for Refused {
    const KIND: Kind = Kind::team("gate.refused", Family::Security);
}

/// Somebody has closed a site to visitors by a command, or taken that back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct AccessChanged {
    /// The site.
    pub(crate) site: String,
    /// Whether the command lets nobody in now; the policy may close the site besides.
    pub(crate) closed: bool,
    /// Ranges that are let in all the same.
    pub(crate) except: Vec<String>,
}

impl Body for AccessChanged {
    const KIND: Kind = Kind::team("gate.access", Family::Security);
}

/// A certificate was ordered for a site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Certified {
    /// The site; empty where it is about the account at the authority.
    pub(crate) site: String,
    /// Why there is none; absent where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
}

impl Body for Certified {
    const KIND: Kind = Kind::team("gate.certificate", Family::Security);
}

/// Requests of a minute in which some have failed for those who asked: answered 5xx, or cut off.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Failures {
    /// The site.
    pub(crate) site: String,
    /// Requests that an upstream was to answer.
    pub(crate) asked: u64,
    /// Of these, those that failed.
    pub(crate) failed: u64,
}

impl Body for Failures {
    const KIND: Kind = Kind::team("gate.failures", Family::Monitoring);
}

/// Somebody has an upstream get no new requests, or some again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct UpstreamDrained {
    /// Address and port of the upstream.
    pub(crate) upstream: String,
    /// Whether it gets none now.
    pub(crate) drained: bool,
}

impl Body for UpstreamDrained {
    const KIND: Kind = Kind::team("gate.drained", Family::Monitoring);
}

/// All kinds of this engine.
pub const KINDS: &[Kind] = &[
    Failures::KIND,
    UpstreamChanged::KIND,
    FailedOver::KIND,
    Refused::KIND,
    AccessChanged::KIND,
    Certified::KIND,
    UpstreamDrained::KIND,
];
