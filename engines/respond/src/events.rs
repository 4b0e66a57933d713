//! Events of respond for the team. People stand in them under pseudonyms: the row that leads back to the name can be erased.
//!
//! For the public there is `evidence.reacted` alone: that somebody was told, was reached and took it on, and how fast.

use event::{Body, Family, Kind, Time};
use serde::{Deserialize, Serialize};

use crate::act::Severity;

/// The kinds of events that respond alone writes.
pub const KINDS: &[Kind] =
    &[AlertChanged::KIND, Notified::KIND, Silenced::KIND, OnCallChanged::KIND, HoldChanged::KIND];

/// An alert that is told of began, changed its scope, was acknowledged or handed over, or is over.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct AlertChanged {
    /// Its number.
    pub alert: u64,
    /// The key of its condition.
    pub key: String,
    /// `firing`, `scope`, `acknowledged`, `acknowledgement_expired`, `handed_over`, `resolved`.
    pub state: String,
    /// Its severity.
    pub severity: Severity,
    /// The alerts in its group by then, itself included.
    pub alerts: u64,
    /// Whoever acknowledged it, or has it now, as a pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

impl Body for AlertChanged {
    const KIND: Kind = Kind::team("respond.alert", Family::Monitoring);
}

/// A message to a person went on: queued, handed over to the channel, delivered, failed, acknowledged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Notified {
    /// The alert; 0 for a test.
    pub alert: u64,
    /// The person, as a pseudonym.
    pub person: String,
    /// The channel, without its address.
    pub channel: String,
    /// `queued`, `handed_over`, `delivered`, `failed`, `acknowledged`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Body for Notified {
    const KIND: Kind = Kind::team("respond.notified", Family::Monitoring);
}

/// A silence was made, changed or ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Silenced {
    /// Its identifier.
    pub id: String,
    /// What must hold for an alert, as people write it: `service="shop"`.
    pub matchers: Vec<String>,
    /// When it begins.
    pub from: Time,
    /// When it ends.
    pub to: Time,
    /// Who made it, as a pseudonym.
    pub person: String,
    /// Why.
    pub comment: String,
}

impl Body for Silenced {
    const KIND: Kind = Kind::team("respond.silenced", Family::Security);
}

/// Somebody is on call instead of whom the schedule names, or no longer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct OnCallChanged {
    /// Identifier of the override.
    pub id: String,
    /// The schedule.
    pub schedule: String,
    /// Who is on call, as a pseudonym.
    pub person: String,
    /// From when.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// Who said so, as a pseudonym.
    pub by: String,
    /// Whether the override was taken back.
    pub removed: bool,
}

impl Body for OnCallChanged {
    const KIND: Kind = Kind::team("respond.on_call", Family::Security);
}

/// What garant sends to customers is held, or no longer (IN-8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct HoldChanged {
    /// Whether it is held from now on.
    pub held: bool,
    /// Who said so, as a pseudonym.
    pub person: String,
    /// Why; empty at a release.
    pub reason: String,
}

impl Body for HoldChanged {
    const KIND: Kind = Kind::record("respond.hold", Family::Security);
}
