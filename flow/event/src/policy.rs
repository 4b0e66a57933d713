//! The policy as the public may see it: what verdicts are computed against.

use serde::{Deserialize, Serialize};

use crate::{Body, Family, FindingId, Interval, Kind, ObserverId, Ppb, ProbeId, PromiseId, ServiceId, Span};

/// A text in the two languages of the house.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
pub struct Text {
    /// French.
    pub fr: String,
    /// English.
    pub en: String,
}

/// How many observers must agree before a probe counts as down, of those that observe it at that instant.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// More than half. Exactly half is undecided: down in the low figure, up in the high one.
    #[default]
    Majority,
    /// One is enough.
    Any,
    /// All of them.
    All,
}

/// A probe, without what it asks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Probe {
    /// Its name.
    pub id: ProbeId,
    /// `http`, `tcp`, `tls`, `dns`, `heartbeat`, `host`…
    pub kind: String,
    /// The service whose state it tells.
    pub service: ServiceId,
    /// How often.
    pub every: Span,
    /// Who asks.
    pub observers: Vec<ObserverId>,
    /// When it counts as down.
    pub agreement: Agreement,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// What customers call it.
    pub title: Text,
}

/// A maintenance window. It excuses an outage only when it was recorded before it began.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Maintenance {
    /// Services concerned.
    pub services: Vec<ServiceId>,
    /// When.
    pub interval: Interval,
    /// What it means for customers.
    pub text: Text,
}

/// What is measured, and what figure is promised.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "objective", rename_all = "snake_case")]
pub enum Objective {
    /// The service is up for at least this share of the window, announced maintenance set apart.
    Availability {
        /// Which service.
        service: ServiceId,
        /// The share promised.
        at_least: Ppb,
        /// Length of the window.
        over: Span,
    },
    /// Two successful pings of a heartbeat are never further apart than this.
    Freshness {
        /// Which heartbeat.
        probe: ProbeId,
        /// The longest time allowed between two successes.
        at_most: Span,
        /// Length of the window.
        over: Span,
    },
    /// The service was observed for at least this share of the window.
    Coverage {
        /// Which service.
        service: ServiceId,
        /// The share promised.
        at_least: Ppb,
        /// Length of the window.
        over: Span,
    },
    /// Every observation of the probe conformed.
    Configuration {
        /// Which probe.
        probe: ProbeId,
        /// The share of the window that must have been observed for "every" to mean anything.
        observed: Ppb,
        /// Length of the window.
        over: Span,
    },
    /// The finding was never open.
    Absence {
        /// Which finding.
        finding: FindingId,
        /// The share of the window during which all probes that look for it must have been observed.
        observed: Ppb,
        /// Length of the window.
        over: Span,
    },
}

impl Objective {
    /// Length of the window that it is judged over.
    pub const fn over(&self) -> Span {
        match self {
            Self::Availability { over, .. }
            | Self::Freshness { over, .. }
            | Self::Coverage { over, .. }
            | Self::Configuration { over, .. }
            | Self::Absence { over, .. } => *over,
        }
    }
}

/// A promise, public form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Promise {
    /// Its id.
    pub id: PromiseId,
    /// First 16 hexadecimal digits of the SHA-256 of its JSON without this field: a promise that is tightened or relaxed
    /// is another revision, whose window starts anew.
    pub revision: String,
    /// The sentence it keeps.
    pub text: Text,
    /// What is measured; the promise is kept when all are.
    pub objectives: Vec<Objective>,
}

/// A policy was put into effect. What is not in it is no longer in effect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Applied {
    /// First 16 hexadecimal digits of the SHA-256 of the rest.
    pub revision: String,
    /// Services.
    pub services: Vec<Service>,
    /// Probes.
    pub probes: Vec<Probe>,
    /// Findings that detectors look for, with the probes whose samples they read.
    pub findings: Vec<Detector>,
    /// Maintenance windows.
    pub maintenance: Vec<Maintenance>,
    /// Promises.
    pub promises: Vec<Promise>,
}

/// A finding and where it is looked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Detector {
    /// What is looked for.
    pub finding: FindingId,
    /// In the samples of which probes.
    pub probes: Vec<ProbeId>,
}

impl Body for Applied {
    const KIND: Kind = Kind::public("policy.applied", Family::Security);
}

/// Who changed what in the policy: for the team (promise JO-3).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Changed {
    /// Revision now in effect.
    pub revision: String,
    /// Unified diff of the files.
    pub diff: String,
    /// `start`, `signal` or `reload`.
    pub trigger: String,
}

impl Body for Changed {
    const KIND: Kind = Kind::team("policy.changed", Family::Security);
}
