//! The current state of each service and the open findings, each with its beginning: for people, never for a verdict.
//!
//! A verdict asks what held at each instant of a window, as far as records reach. People ask what is now, and since when it
//! has been so. A service is as bad as the worst of its probes, and a probe is what its observers agree on, by what each said
//! last. So a service is down without interruption while one of its probes hands over to another, and what it was before a
//! restart of the watch it still is after it, when the first looks find it the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::evidence::{Found, State};
use event::policy::{Agreement, Applied};
use event::{FindingId, ObserverId, ProbeId, ServiceId, Time};
use serde::{Deserialize, Serialize};

use crate::declared::Declarations;
use crate::line::agreed;
use crate::observed::Observations;
use crate::steps::Condition;

/// The current state of every service of the policy in effect.
pub type Services = Arc<BTreeMap<ServiceId, ServiceStanding>>;

/// The open findings, by finding, probe and observer, each with its beginning.
pub type OpenFindings = Arc<BTreeMap<(FindingId, ProbeId, ObserverId), Began>>;

/// The beginning of something, as far as it was watched.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Began {
    /// The time by which it had begun.
    pub by: Time,
    /// When what was before it was last known, if that is longer ago than the time between two looks: it began at some time from
    /// then to `by`, and nobody knows when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Time>,
}

/// The current state of a service.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct ServiceStanding {
    /// The state; flapping when observers do not agree, `None` while nothing was said of one of its probes.
    pub state: Option<State>,
    /// The time by which it had become so.
    pub since: Time,
    /// When it was last known to be otherwise, if that is longer before `since` than the time between two looks: see
    /// [`Began::after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_after: Option<Time>,
}

/// The state on which the observers of a probe agree, by the rule of verdicts; flapping where they do not. Up becomes degraded
/// when one of them says so.
pub fn agreed_state(agreement: Agreement, mut states: impl Iterator<Item = State> + Clone) -> Option<State> {
    match agreed(agreement, states.clone().map(Condition::from))? {
        Condition::Down => Some(State::Down),
        Condition::Undecided => Some(State::Flapping),
        Condition::Up if states.any(|state| state == State::Degraded) => Some(State::Degraded),
        Condition::Up => Some(State::Up),
    }
}

/// The number of probes of a service in each state, from best to worst.
type StateCounts = [usize; 5];

const fn rank(state: Option<State>) -> usize {
    match state {
        Some(State::Up) => 0,
        Some(State::Degraded) => 1,
        None => 2,
        Some(State::Flapping) => 3,
        Some(State::Down) => 4,
    }
}

fn worst(counts: &StateCounts) -> Option<State> {
    match counts.iter().rposition(|count| *count > 0)? {
        0 => Some(State::Up),
        1 => Some(State::Degraded),
        3 => Some(State::Flapping),
        4 => Some(State::Down),
        _ => None,
    }
}

/// The saved form of [`Standings`]: the beginnings, which do not follow from the rest of the fold.
pub(crate) type SavedStandings = (BTreeMap<ServiceId, ServiceStanding>, Vec<((FindingId, ProbeId, ObserverId), Began)>);

/// The service and the state of a probe of the policy in effect.
#[derive(Clone, Debug)]
struct ProbeState {
    service: ServiceId,
    state: Option<State>,
}

/// The current states, kept up to date by the fold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standings {
    probes: BTreeMap<ProbeId, ProbeState>,
    counts: BTreeMap<ServiceId, StateCounts>,
    services: Services,
    findings: OpenFindings,
}

impl Standings {
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    pub(crate) fn findings(&self) -> &OpenFindings {
        &self.findings
    }

    /// Called when a policy came into effect at `from`; `declared` has it.
    pub(crate) fn apply(&mut self, applied: &Applied, declared: &Declarations, observed: &Observations, from: Time) {
        let before = Arc::clone(&self.services);
        self.counts = applied.services.iter().map(|service| (service.id.clone(), StateCounts::default())).collect();
        let parts = applied.probes.iter().map(|probe| {
            let state = state(&probe.id, declared, observed);
            if let Some(counts) = self.counts.get_mut(&probe.service) {
                counts[rank(state)] += 1;
            }
            (probe.id.clone(), ProbeState { service: probe.service.clone(), state })
        });
        // Made anew as a whole: a tree to which is added one by one, in order, stays half empty.
        self.probes = parts.collect();
        let standing = |(service, counts): (&ServiceId, &StateCounts)| {
            let now = ServiceStanding { state: worst(counts), since: from, began_after: None };
            let same = before.get(service).filter(|before| before.state == now.state);
            (service.clone(), *same.unwrap_or(&now))
        };
        self.services = Arc::new(self.counts.iter().map(standing).collect());
        let gone = |probe: &ProbeId| !self.probes.contains_key(probe);
        if self.findings.keys().any(|(_, probe, _)| gone(probe)) {
            Arc::make_mut(&mut self.findings).retain(|(_, probe, _), _| !gone(probe));
        }
    }

    /// Called when an observer reported a state of this probe that began so; `observed` has it.
    pub(crate) fn changed(&mut self, probe: &ProbeId, declared: &Declarations, observed: &Observations, began: Began) {
        let Some(known) = self.probes.get_mut(probe) else { return };
        let state = state(probe, declared, observed);
        let before = std::mem::replace(&mut known.state, state);
        if before == state {
            return;
        }
        let Some(counts) = self.counts.get_mut(&known.service) else { return };
        counts[rank(before)] = counts[rank(before)].saturating_sub(1);
        counts[rank(state)] += 1;
        let state = worst(counts);
        let standing = ServiceStanding { state, since: began.by, began_after: began.after };
        if self.services.get(&known.service).is_some_and(|before| before.state != state) {
            Arc::make_mut(&mut self.services).insert(known.service.clone(), standing);
        }
    }

    /// Called when a finding opened or closed for an observer, and that began so.
    pub(crate) fn found(&mut self, observer: &ObserverId, found: &Found, began: Began) {
        let key = (found.finding.clone(), found.probe.clone(), observer.clone());
        if found.open != self.findings.contains_key(&key) {
            let findings = Arc::make_mut(&mut self.findings);
            if found.open {
                findings.insert(key, began)
            } else {
                findings.remove(&key)
            };
        }
    }

    /// The beginnings, as JSON of [`SavedStandings`].
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&(self.services.as_ref(), self.findings.iter().collect::<Vec<_>>()))
    }

    /// The states of a fold that was read back, with the saved beginnings.
    pub(crate) fn restore(declared: &Declarations, observed: &Observations, saved: SavedStandings) -> Self {
        let (services, findings) = saved;
        let findings = Arc::new(findings.into_iter().collect());
        let mut standings = Self { services: Arc::new(services), findings, ..Self::default() };
        if let Some((applied, since)) = declared.policy().zip(declared.newest()) {
            standings.apply(applied, declared, observed, since);
        }
        standings
    }
}

fn state(probe: &ProbeId, declared: &Declarations, observed: &Observations) -> Option<State> {
    let asked = declared.asked(probe)?;
    let said = asked.observers.iter().filter_map(|observer| observed.last_state(observer, probe));
    agreed_state(asked.agreement, said)
}
