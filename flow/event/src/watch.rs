//! What the watch tells the team beside the evidence that it gives.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, Kind, ProbeId, Span, Time};

/// What a job said.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Ping {
    /// The job started.
    Start,
    /// The job succeeded.
    Success,
    /// The job failed.
    Fail,
}

/// A sign of life that is no success arrived: a job started, or failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Pinged {
    /// The heartbeat.
    pub probe: ProbeId,
    /// When it arrived.
    pub at: Time,
    /// What it said.
    pub ping: Ping,
}

impl Body for Pinged {
    const KIND: Kind = Kind::team("watch.pinged", Family::Monitoring);
}

/// What the team needs to know about a change or a finding, and nobody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Detail {
    /// The probe.
    pub probe: ProbeId,
    /// What was seen, in words: status, error, figure and threshold.
    pub text: String,
    /// How long the sample took.
    pub took: Span,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("watch.detail", Family::Monitoring);
}
