//! An alert: a condition that is open, deduplicated by its key.

use std::collections::{BTreeMap, BTreeSet};

use event::policy::Text;
use event::{FindingId, HostId, ProbeId, RegionId, ServiceId, Time};
use serde::{Deserialize, Serialize};

use crate::act::Severity;
use crate::source::intake::intake_of;

/// Number of an alert, unique in an installation.
pub type AlertId = u64;

/// What kind of condition an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A probe is down.
    Probe,
    /// Observers do not agree about a probe, or its state changes too often to tell.
    Undecided,
    /// A probe is up, and slower than it should be.
    Degraded,
    /// A detector found something.
    Finding,
    /// A promise is broken.
    Promise,
    /// The budget of a promise is used up too fast.
    Burn,
    /// An observer sees nothing, or says nothing.
    Observer,
    /// An engine fails again and again.
    Engine,
    /// The journal can't be written.
    Storage,
    /// A witness does not answer, or contradicts the log.
    Witness,
    /// What is sent to customers is held.
    Hold,
    /// Told by a program outside, such as Prometheus.
    Outside,
}

impl Source {
    /// The word for it, as in labels and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Undecided => "undecided",
            Self::Degraded => "degraded",
            Self::Finding => "finding",
            Self::Promise => "promise",
            Self::Burn => "burn",
            Self::Observer => "observer",
            Self::Engine => "engine",
            Self::Storage => "storage",
            Self::Witness => "witness",
            Self::Hold => "hold",
            Self::Outside => "outside",
        }
    }

    /// Whether it says that something customers use does not work: such alerts can have one cause, and follow each other.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Probe | Self::Outside)
    }
}

/// An open condition, as its source tells it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Opening {
    /// The kind of condition.
    pub source: Source,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub title: Text,
    /// What was observed, in the words of whoever observed it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The same in French, where it can be said; empty where the words are of somebody who writes what he likes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail_fr: String,
    /// The services concerned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<ServiceId>,
    /// The probe that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeId>,
    /// The finding, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingId>,
    /// The hosts concerned.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostId>,
    /// The region concerned, when all of it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// Since when, by whoever observed it.
    pub since: Time,
    /// End of the first sample that shows it, if one does: what a reaction is counted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_by: Option<Time>,
    /// What to do: a text or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<Text>,
    /// Labels of an alert from outside, as it came.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of an alert from outside, as it came.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where its source shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Time at which it counts as over when it is not told again, for sources that can vanish; by the clock that never steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

impl Opening {
    /// A condition that concerns no place, to be filled in.
    pub fn bare(source: Source, since: Time) -> Self {
        Self {
            source,
            severity: Severity::Warning,
            title: Text::default(),
            detail: String::new(),
            detail_fr: String::new(),
            services: BTreeSet::new(),
            probe: None,
            finding: None,
            hosts: BTreeSet::new(),
            region: None,
            since,
            shown_by: None,
            runbook: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            url: None,
            until: None,
        }
    }
}

/// A condition opened (again, or with other words), or is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// What tells the condition from all others: `probe/shop-front`.
    pub key: String,
    /// The condition, or the time at which it was over.
    pub state: SignalState,
}

/// The two things that a [`Signal`] can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SignalState {
    /// The condition is open.
    Open(Box<Opening>),
    /// It is over since this time.
    Over(Time),
    /// Nobody looks any more since this time: the policy no longer asks for it.
    Gone(Time),
}

/// Somebody has taken an alert on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Acknowledgement {
    /// The person, or whoever had the team's token.
    pub by: String,
    /// When.
    pub at: Time,
    /// When it expires: whoever took it on may have forgotten it.
    pub until: Time,
}

/// An alert.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Alert {
    /// Its number.
    pub id: AlertId,
    /// The key of its condition.
    pub key: String,
    /// The condition, as it was told last.
    pub opening: Opening,
    /// When it was told first, by this machine.
    pub opened_at: Time,
    /// When it was over, by this machine; `None` while it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Time>,
    /// The last times at which it opened: one that opens again and again flaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub openings: Vec<Time>,
    /// Whether it flaps: it is not over before it has been quiet for a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// Whether it ended because the policy no longer asks for it: how it is now is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Whether somebody was told of it, and the journal says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reacted: bool,
    /// What the journal says for everybody of what came after that.
    #[serde(default, skip_serializing_if = "Answers::is_none")]
    pub answers: Answers,
    /// The alert that it follows: nobody is told of this one by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<AlertId>,
    /// What this alert leads, when it follows none and is told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead>,
}

/// What became of the messages about one failure, as far as everybody may know.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Answers {
    /// When a channel accepted the first of them, by this machine: one that was accepted before was about an earlier failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Time>,
    /// Whether one was delivered, and the journal says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delivered: bool,
    /// Whether somebody took it on, and the journal says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acknowledged: bool,
}

impl Answers {
    /// Whether nothing came.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Alert {
    /// Forgets what became of messages: this is another failure, which nobody was told of yet.
    pub(super) fn unanswered(&mut self) {
        (self.reacted, self.answers) = (false, Answers::default());
    }

    /// What alerts are gathered by that come at about the same time. One from outside that is at no place of the policy has its
    /// name alone: two of them have nothing to do with each other because of the time.
    pub fn gathered_by(&self) -> GatheredBy {
        let opening = &self.opening;
        let is_nowhere = opening.services.is_empty() && opening.hosts.is_empty() && opening.region.is_none();
        if opening.source != Source::Outside || !is_nowhere {
            return GatheredBy::Region(opening.region.clone());
        }
        let intake = intake_of(&self.key).unwrap_or_default().to_owned();
        GatheredBy::Name { intake, name: opening.labels.get("alertname").cloned().unwrap_or_default() }
    }

    /// Whether its condition is open.
    pub const fn fires(&self) -> bool {
        self.over_at.is_none()
    }
}

/// See [`Alert::gathered_by`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GatheredBy {
    /// The region; `None` is no declared one.
    Region(Option<RegionId>),
    /// The name that a program gives to all of them.
    Name {
        /// The program.
        intake: String,
        /// The name.
        name: String,
    },
}

/// The group of an alert that is told of: the alert itself and its followers, which have one cause.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Lead {
    /// When people were first to be told.
    pub begun_at: Time,
    /// Until when alerts that may have the same cause are taken together.
    pub gathers_until: Time,
    /// The number of members of which the first message spoke, or the last update: more than that is news.
    pub update_joined: u32,
    /// How often a member became something worse: slow, then down. News, as a member more is.
    #[serde(default)]
    pub worsened: u32,
    /// How often it fired again after it was over.
    #[serde(default)]
    pub again: u32,
    /// The updates so far.
    pub updates: u32,
    /// No update before this.
    pub next_update_at: Time,
    /// The highest severity of its members so far.
    pub severity: Severity,
    /// Who has taken it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// The step of the escalation policy that is in effect, counted from 0 through all rounds.
    pub step: u32,
    /// When that step began.
    pub step_at: Time,
    /// When the last member was over; `None` while one fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_at: Option<Time>,
    /// Whether it is over and everybody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// The person whom it was handed over to: told instead of those of the escalation policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_to: Option<String>,
    /// The alert that is the cause, when it is not the leader itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<AlertId>,
}

/// The places that a group extends over.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scope {
    /// The regions.
    pub regions: BTreeSet<RegionId>,
    /// The hosts.
    pub hosts: BTreeSet<HostId>,
    /// The services.
    pub services: BTreeSet<ServiceId>,
    /// Whether something in it has no declared region.
    pub somewhere: bool,
}

impl Scope {
    /// Adds what an alert concerns.
    pub fn add(&mut self, opening: &Opening) {
        match &opening.region {
            Some(region) => drop(self.regions.insert(region.clone())),
            None => self.somewhere = true,
        }
        self.hosts.extend(opening.hosts.iter().cloned());
        self.services.extend(opening.services.iter().cloned());
    }

    /// The only region of all of it.
    pub fn region(&self) -> Option<&RegionId> {
        if self.somewhere || self.regions.len() != 1 { None } else { self.regions.first() }
    }

    /// The only host of all of it.
    pub fn host(&self) -> Option<&HostId> {
        if self.hosts.len() == 1 { self.hosts.first() } else { None }
    }
}
