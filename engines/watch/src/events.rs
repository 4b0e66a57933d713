//! What the watch tells the team beside the evidence that it gives.

use engine::heartbeat::Said;
use event::{Body, Family, Kind, ProbeId, Span, Time};
use serde::{Deserialize, Serialize};

/// The kinds of events that the watch alone writes.
pub const KINDS: &[Kind] = &[Detail::KIND, Pinged::KIND];

/// A sign of life that is no success arrived: a job started, or failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Pinged {
    /// The heartbeat.
    pub(crate) probe: ProbeId,
    /// When it arrived.
    pub(crate) at: Time,
    /// What it said.
    pub(crate) ping: Said,
}

impl Body for Pinged {
    const KIND: Kind = Kind::team("watch.pinged", Family::Monitoring);
}

/// What the team needs to know about a change or a finding, and nobody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Detail {
    /// The probe.
    pub(crate) probe: ProbeId,
    /// What was seen, in words: status, error, figure and threshold.
    pub(crate) text: String,
    /// How long the sample took.
    pub(crate) took: Span,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("watch.detail", Family::Monitoring);
}
