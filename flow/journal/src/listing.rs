//! What is listed beside the tree: the policy in effect, and the latest verdict on each of its objectives.
//!
//! Both are in the log, so the list proves nothing that the log does not. But it is what people read first, and a list that
//! leaves out the newest verdict, or shows an older one in its place, deceives without a single false byte. So there is one
//! rule for what belongs into it, as of a size of the log, and everybody folds by it: who exports, who serves, who verifies.
//!
//! The rule: of each objective of each promise of the last `policy.applied`, the last `promise.verdict` on that promise and
//! objective, if it is on the revision in effect. Nothing else; and nothing at all when that policy can't be read. Of a verdict,
//! no more is read than what it is on: it is listed whatever its version, and whoever computed it.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::policy::Applied;
use event::promise::Verdict;
use event::{Body, Envelope, Kind, PromiseId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::export::ListedVerdict;

/// The last applied policy of the log.
#[derive(Clone, Debug, Default)]
pub enum ListedPolicy {
    /// No policy was ever applied.
    #[default]
    Never,
    /// The payload of its entry is destroyed.
    Destroyed,
    /// Its body, exactly as it is in the log. Shared, not copied: of ten thousand probes it has a megabyte.
    Applied(Arc<RawValue>),
}

/// The fields that a verdict of any version is taken to have.
#[derive(Deserialize)]
struct Subject {
    promise: PromiseId,
    revision: String,
    objective: u32,
}

/// A verdict of the log.
#[derive(Clone, Debug)]
struct Latest {
    sequence: u64,
    revision: String,
    body: Box<RawValue>,
}

/// The list, as of the entries taken so far.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    policy: ListedPolicy,
    /// Of each promise in effect, its revision and how many objectives it has.
    promises: BTreeMap<PromiseId, (String, u32)>,
    latest: BTreeMap<(PromiseId, u32), Latest>,
    newer_policy: bool,
    newer_verdict: bool,
}

impl Listing {
    /// The list of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kinds of the entries that bear on the list.
    pub const KINDS: [Kind; 2] = [Applied::KIND, Verdict::KIND];

    /// Whether an entry whose leaf names this kind concerns the list.
    pub fn concerns(coarse: &str) -> bool {
        Self::KINDS.iter().any(|kind| kind.name == coarse)
    }

    /// Takes the entry `sequence`, in the order of the log. Entries of other kinds may be left out.
    pub fn take(&mut self, sequence: u64, envelope: &Envelope) {
        if envelope.kind == Verdict::KIND.name {
            match serde_json::from_str(envelope.body.get()) {
                Ok(Subject { promise, revision, objective }) => {
                    let latest = Latest { sequence, revision, body: envelope.body.clone() };
                    self.latest.insert((promise, objective), latest);
                }
                Err(_) => self.newer_verdict |= envelope.version > Verdict::KIND.version,
            }
        } else if envelope.kind == Applied::KIND.name && envelope.version > Applied::KIND.version {
            self.newer_policy = true;
        } else if let Some(applied) = envelope.body::<Applied>() {
            self.newer_policy = false;
            self.policy = ListedPolicy::Applied(Arc::from(envelope.body.clone()));
            // A policy that can't be read puts nothing into effect.
            let promises = applied.map(|applied| applied.promises).unwrap_or_default().into_iter();
            self.promises = promises
                .map(|promise| {
                    let objectives = u32::try_from(promise.objectives.len()).unwrap_or(u32::MAX);
                    (promise.id, (promise.revision, objectives))
                })
                .collect();
        }
    }

    /// Takes the next entry when its payload is destroyed.
    pub fn lose(&mut self, coarse: &str) {
        if coarse == Applied::KIND.name {
            self.policy = ListedPolicy::Destroyed;
            self.promises.clear();
        }
    }

    /// The policy in effect.
    pub const fn policy(&self) -> &ListedPolicy {
        &self.policy
    }

    /// The body of the policy in effect, as it lies beside the log.
    pub fn policy_body(&self) -> Option<&RawValue> {
        match &self.policy {
            ListedPolicy::Applied(body) => Some(body),
            ListedPolicy::Never | ListedPolicy::Destroyed => None,
        }
    }

    /// Whether the policy in effect, or a verdict on nobody knows what, is of a later version than this release knows, so that
    /// what belongs into the list is unknown.
    pub const fn is_newer(&self) -> bool {
        self.newer_policy || self.newer_verdict
    }

    /// The objectives in effect, by promise and number.
    pub fn objectives(&self) -> impl Iterator<Item = (&PromiseId, u32)> {
        self.promises
            .iter()
            .flat_map(|(promise, (_, objectives))| (0..*objectives).map(move |number| (promise, number)))
    }

    /// The listed verdicts, by promise and objective.
    pub fn verdicts(&self) -> Vec<ListedVerdict> {
        let in_effect = self.latest.iter().filter(|((promise, objective), latest)| {
            let declared = self.promises.get(promise);
            declared.is_some_and(|(revision, objectives)| *revision == latest.revision && objective < objectives)
        });
        in_effect.map(|(_, latest)| ListedVerdict { sequence: latest.sequence, verdict: latest.body.clone() }).collect()
    }
}

#[cfg(test)]
mod tests;
