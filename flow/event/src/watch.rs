//! What the watch sees.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, FindingId, Interval, Kind, ProbeId, ServiceId, Span, Time};

/// What one observer says of one probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The condition holds.
    Up,
    /// It holds, but more slowly than it should. Counts as up.
    Degraded,
    /// It does not hold.
    Down,
    /// It changes too often to say: time that counts as down in the low figure and as up in the high one.
    Flapping,
}

/// The state of a probe changed, as one observer sees it. The change happened somewhere in `[after, by]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Changed {
    /// Which probe.
    pub probe: ProbeId,
    /// Of which service.
    pub service: ServiceId,
    /// What it is now.
    pub state: State,
    /// Start of the last sample that showed the state before; the same as `by` when there was none before.
    pub after: Time,
    /// End of the first sample that shows this state: a sample proves a state somewhere between its start and its end.
    pub by: Time,
}

impl Body for Changed {
    const KIND: Kind = Kind::public("watch.changed", Family::Monitoring);
}

/// One interval during which a probe was not observed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Gap {
    /// Which probe.
    pub probe: ProbeId,
    /// When.
    pub interval: Interval,
}

/// One observer's record of one stretch of time, a minute long at most: during it, every probe of the set was observed
/// but in the gaps. Time without such a record is time that nobody observed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Coverage {
    /// Which stretch.
    pub interval: Interval,
    /// Revision of the policy (as in [`crate::policy::Applied`]) that names the probes of this observer.
    pub revision: String,
    /// What of it was not observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

impl Body for Coverage {
    const KIND: Kind = Kind::public("watch.coverage", Family::Monitoring);
}

/// What a heartbeat said.
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

/// A sign of life arrived.
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
    const KIND: Kind = Kind::public("watch.pinged", Family::Monitoring);
}

/// A detector found something, or what it had found is over. Names no host: that is in [`Detail`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Finding {
    /// What was looked for.
    pub finding: FindingId,
    /// The probe whose samples were read.
    pub probe: ProbeId,
    /// Whether it is there now.
    pub open: bool,
    /// Start of the last sample that showed the opposite; the same as `by` when there was none before.
    pub after: Time,
    /// End of the first sample that shows this.
    pub by: Time,
}

impl Body for Finding {
    const KIND: Kind = Kind::public("watch.finding", Family::Monitoring);
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
