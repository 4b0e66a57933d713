//! Events of the watch for the team, beside the public evidence.

use engine::heartbeat::Said;
use engine::reason::Reason;
use event::{Body, Family, Kind, ProbeId, Span, Time};
use serde::{Deserialize, Serialize};

/// The kinds of events that the watch alone writes.
pub const KINDS: &[Kind] = &[Detail::KIND, Pinged::KIND];

/// A ping arrived that is no success: a job started, or failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Pinged {
    /// The heartbeat.
    pub(crate) probe: ProbeId,
    /// When it arrived.
    pub(crate) at: Time,
    /// The message of the ping.
    pub(crate) ping: Said,
}

impl Body for Pinged {
    const KIND: Kind = Kind::team("watch.pinged", Family::Monitoring);
}

/// The words and figures of a change or a finding, for the team alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Detail {
    /// The probe.
    pub(crate) probe: ProbeId,
    /// The observation in words: status, error, figure and threshold.
    pub(crate) text: String,
    /// The same for programs and other languages, as far as there are kinds for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<Reason>,
    /// How long the sample took.
    pub(crate) took: Span,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("watch.detail", Family::Monitoring);
}
