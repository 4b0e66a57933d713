//! The policy as the public may see it: what verdicts are computed against.
//!
//! A policy of a later release may hold keys, words and objectives that this one does not know. They are kept as they were
//! written: a [`Clause`] is read only when somebody wants to judge it, and revisions are digests of bytes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Body, Family, FindingId, Interval, Kind, ObserverId, ProbeId, PromiseId, ServiceId, Span};

/// A text in French and English.
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
    /// One observer is enough.
    Any,
    /// All observers.
    All,
    /// A word of a later release: whatever the observers see, the probe is undecided.
    #[serde(other)]
    Other,
}

/// A probe, without what it asks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Probe {
    /// Its name.
    pub id: ProbeId,
    /// `http`, `tcp`, `tls`, `dns`, `heartbeat`, `host`…
    #[serde(with = "shared")]
    pub kind: Arc<str>,
    /// The service whose state the probe shows.
    pub service: ServiceId,
    /// Longest time between two questions.
    pub every: Span,
    /// The observers that ask.
    #[serde(with = "shared")]
    pub observers: Arc<[ObserverId]>,
    /// The agreement at which the probe counts as down.
    pub agreement: Agreement,
}

/// Serialisation of what many probes say alike: in memory it is shared, and it is written out for each.
pub mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the value.
    pub fn serialize<T: Serialize + ?Sized, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    /// Reads a value of its own.
    pub fn deserialize<'de, T, D>(from: D) -> Result<Arc<T>, D::Error>
    where
        T: ToOwned<Owned: Deserialize<'de>> + ?Sized,
        Arc<T>: From<T::Owned>,
        D: Deserializer<'de>,
    {
        T::Owned::deserialize(from).map(Arc::from)
    }
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

/// One objective of a promise, as it was written.
#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct Clause(Box<RawValue>);

impl Clause {
    /// The clause that says this: what `promise` calls an objective.
    pub fn of(objective: &impl Serialize) -> Self {
        // Names and integers always serialise.
        Self(serde_json::value::to_raw_value(objective).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }

    /// Its text, one value of JSON.
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Clause {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Clause {}

/// A promise, public form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Promise {
    /// First 16 hexadecimal digits of the SHA-256 of its bytes without this member, which comes first: a promise that is
    /// tightened or relaxed is another revision, whose window starts anew.
    pub revision: String,
    /// Its id.
    pub id: PromiseId,
    /// The sentence it keeps.
    pub text: Text,
    /// What is measured; the promise is kept when all are.
    pub objectives: Vec<Clause>,
}

/// A policy was put into effect. What is not in it is no longer in effect.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Applied {
    /// First 16 hexadecimal digits of the SHA-256 of its bytes without this member, which comes first.
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
    /// What customers call it.
    pub title: Text,
    /// In the samples of which probes.
    pub probes: Vec<ProbeId>,
}

impl Body for Applied {
    const KIND: Kind = Kind::public("policy.applied", Family::Security);
}

/// A change of the policy, for the team (promise JO-3).
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
    const KIND: Kind = Kind::record("policy.changed", Family::Security);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_is_kept_as_it_was_written() {
        for written in [r#"{"objective":"restore", "at_most":1,"backup":"shop-db"}"#, "7"] {
            let clause: Clause = serde_json::from_str(written).expect("JSON");
            assert_eq!(
                (clause.json(), serde_json::to_string(&clause).expect("it serialises").as_str()),
                (written, written)
            );
        }
    }

    #[test]
    fn a_word_of_a_later_release_is_no_mistake() {
        assert_eq!(serde_json::from_str::<Agreement>(r#""two_regions""#).expect("a word"), Agreement::Other);
    }
}
