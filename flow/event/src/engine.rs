//! Events about garant's own engines.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, Interval, Kind, Span, Time};

/// An engine started, or started again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Started {
    /// Name of the engine.
    pub engine: String,
    /// 1 for the first start of this process.
    pub attempt: u32,
}

impl Body for Started {
    const KIND: Kind = Kind::trace("engine.started");
}

/// An engine returned an error, panicked, or stopped making progress.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Failed {
    /// Name of the engine.
    pub engine: String,
    /// What went wrong, for the team.
    pub reason: String,
    /// How long until it is started again.
    pub restart_in: Span,
}

impl Body for Failed {
    const KIND: Kind = Kind::trace("engine.failed");
}

/// An engine stopped because it was asked to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Stopped {
    /// Name of the engine.
    pub engine: String,
    /// Whether it kept its deadline.
    pub in_time: bool,
}

impl Body for Stopped {
    const KIND: Kind = Kind::trace("engine.stopped");
}

/// The reason why an engine observed nothing for a while.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum BlindCause {
    /// The engine was not running: it had failed and was waiting to be started again, or its process had ended.
    Restart,
    /// The engine was running, and did nothing.
    Frozen,
    /// The process did not run: it was stopped, or got no processor.
    Stopped,
    /// The machine was suspended.
    Suspended,
    /// The observations of the engine could not be recorded.
    Storage,
    /// The network of the observer was dead: nothing that everybody can reach answered either.
    Uplink,
}

/// An engine observed nothing during an interval. What depended on it is unproven there: coverage records have the gap, this
/// entry gives the reason.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Blind {
    /// Name of the engine.
    pub engine: String,
    /// The interval.
    pub interval: Interval,
    /// The reason.
    pub cause: BlindCause,
}

impl Body for Blind {
    const KIND: Kind = Kind::public("engine.blind", Family::Monitoring);
}

/// The wall clock of an observer stepped by more than two seconds. Between the two readings, labels can't be trusted:
/// the time is unproven for this observer.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ClockStepped {
    /// What the clock would have said without the step.
    pub from: Time,
    /// What the clock showed.
    pub to: Time,
}

impl ClockStepped {
    /// The span of labels that the step makes doubtful.
    pub fn doubtful(&self) -> Interval {
        Interval::new(self.from.min(self.to), self.from.max(self.to))
    }
}

impl Body for ClockStepped {
    const KIND: Kind = Kind::permanent("engine.clock_stepped", Family::Monitoring);
}

/// The journal could not be written for a while. The reserve paid for this entry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct StorageFault {
    /// Since when writes were refused.
    pub since: Time,
    /// The storage's own message.
    pub reason: String,
    /// Whether the storage works again.
    pub over: bool,
}

impl Body for StorageFault {
    const KIND: Kind = Kind::team("engine.storage_fault", Family::Debugging);
}

/// The data directory is not where garant ran on it last: it was moved or restored, or it is a copy.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct DataMoved {
    /// Where it was, in words.
    pub from: String,
    /// Where it is.
    pub to: String,
}

impl Body for DataMoved {
    const KIND: Kind = Kind::record("engine.data_moved", Family::Security);
}
