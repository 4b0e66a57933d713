//! `/api/status.json`: what is up, which promises are kept, and how garant itself is doing. `garant status` reads it.
//!
//! The structs are the contract: the command deserialises what this module serialises. Keys are added, never changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use event::policy::{Agreement, Applied, Probe, Text};
use event::promise::{Figure, Outcome, Reason};
use event::{Interval, ObserverId, ProbeId, PromiseId, ServiceId, Span, Time};
use promise::{Condition, Objective};
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::lang::Language;
use crate::state::State;
use engine::standing::{Phases, ProbeStanding};

/// How old beyond three turns the state of a probe may be before it counts as unknown.
const STALE_AFTER: Span = Span::from_secs(60);

/// The body of the answer.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Status {
    /// Release of the server.
    pub version: String,
    /// When this was true.
    pub at: Time,
    /// Whether the public pages are open.
    pub publish: bool,
    /// Revision of the policy in effect.
    pub revision: Option<String>,
    /// The log.
    pub journal: JournalStatus,
    /// Services, in the order of the policy.
    pub services: Vec<ServiceStatus>,
    /// Probes, by probe and observer.
    #[serde(default)]
    pub probes: Vec<ProbeStatus>,
    /// Promises, in the order of the policy.
    pub promises: Vec<PromiseStatus>,
    /// Engines.
    pub engines: Vec<EngineStatus>,
}

/// The log.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct JournalStatus {
    /// Verifier key of its checkpoints.
    pub vkey: String,
    /// Entries.
    pub size: u64,
    /// Entries below the published checkpoint.
    pub published_size: Option<u64>,
    /// When that was published.
    pub published_at: Option<Time>,
    /// Witnesses that cosigned it.
    pub witnesses: Vec<String>,
    /// Why entries are refused, while they are.
    pub fault: Option<String>,
}

/// A service.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct ServiceStatus {
    /// Which one.
    pub service: ServiceId,
    /// What customers call it.
    pub title: Text,
    /// The state by the rule of agreement.
    pub state: CurrentState,
    /// Since when, as far as the observers agree.
    pub since: Option<Time>,
    /// Texts of observers that see trouble, each once.
    pub details: Vec<String>,
}

/// The current state of one probe, as one observer sees it.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct ProbeStatus {
    /// Which probe.
    pub probe: ProbeId,
    /// Which observer.
    pub observer: ObserverId,
    /// The state.
    pub state: CurrentState,
    /// Since when it has been in this state.
    pub since: Option<Time>,
    /// When the probe was last asked.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// Where the time of that answer went.
    pub phases: Phases,
    /// When the certificate that was shown expires.
    pub certificate_expires: Option<Time>,
}

/// A promise.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct PromiseStatus {
    /// Which promise.
    pub promise: PromiseId,
    /// Its sentence.
    pub text: Text,
    /// Whether it is kept.
    pub outcome: Outcome,
    /// The verdicts in effect; an objective that was not judged yet is missing.
    pub objectives: Vec<ObjectiveStatus>,
}

/// The verdict in effect on an objective.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct ObjectiveStatus {
    /// Number of the objective in its promise, from 0.
    pub objective: u32,
    /// The measure and its window, in words.
    pub measure: Text,
    /// The verdict.
    pub outcome: Outcome,
    /// The measured figure.
    pub figure: Option<Figure>,
    /// The reasons of the outcome.
    pub reasons: Vec<Reason>,
    /// The window; the verdict speaks up to its end.
    pub window: Interval,
    /// Since when the outcome has been the same.
    pub since: Time,
    /// When it was judged.
    pub at: Time,
    /// Sequence of the entry that holds the verdict.
    pub sequence: u64,
}

/// An engine.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct EngineStatus {
    /// Its name.
    pub engine: String,
    /// Whether it is running.
    pub healthy: bool,
    /// Its state, in a word.
    pub state: String,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Reason of its last failure.
    pub last_error: Option<String>,
    /// Since when it has been in this state.
    pub since: Time,
}

/// The current state of a service or a probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum CurrentState {
    /// The condition holds.
    Up,
    /// The condition holds, but more slowly than it should.
    Degraded,
    /// No observer can tell.
    Unknown,
    /// The state changes too often to tell, or exactly half of the observers say so.
    Undecided,
    /// The condition does not hold.
    Down,
}

impl CurrentState {
    /// All words, from best to worst.
    pub const WORDS: [&'static str; 5] = ["up", "degraded", "unknown", "undecided", "down"];

    /// The word of the state, in JSON, metrics and on the command line.
    pub const fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    pub(crate) const fn of(state: Option<event::evidence::State>) -> Self {
        use event::evidence::State;
        match state {
            Some(State::Up) => Self::Up,
            Some(State::Degraded) => Self::Degraded,
            Some(State::Flapping) => Self::Undecided,
            Some(State::Down) => Self::Down,
            None => Self::Unknown,
        }
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/api/status.json", get(status))
}

async fn status(FromState(state): FromState<Arc<State>>) -> Response {
    answer::off_the_way(move || answer::json(StatusCode::OK, &of(&state))).await
}

/// The status now.
fn of(state: &State) -> Status {
    let policy = Arc::clone(&state.policy.borrow());
    let published = state.published.borrow().clone();
    let health = state.journal.health();
    let standings = (state.probes)();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: state.clock.now(),
        publish: policy.publish,
        revision: policy.applied.as_ref().map(|applied| applied.revision.clone()),
        journal: JournalStatus {
            vkey: state.identity.borrow().vkey.clone(),
            size: *state.journal.size_watch().borrow(),
            published_size: published.as_ref().map(|published| published.size),
            published_at: published.as_ref().map(|published| published.at),
            witnesses: published.iter().flat_map(|p| &p.cosignatures).map(|c| c.witness.clone()).collect(),
            fault: health.fault.map(|fault| fault.reason),
        },
        services: services(state, &standings),
        probes: standings.into_iter().map(probe).collect(),
        promises: policy.applied.as_ref().map(|applied| promises(state, applied)).unwrap_or_default(),
        engines: engines(state),
    }
}

fn probe(row: ProbeStanding) -> ProbeStatus {
    let ProbeStanding { probe, observer, state, at, took, phases, certificate_expires, value: _, text: _ } = row;
    let (since, state) = (state.map(|(_, since)| since), CurrentState::of(state.map(|(state, _)| state)));
    ProbeStatus { probe, observer, state, since, at, took, phases, certificate_expires }
}

fn promises(state: &State, applied: &Applied) -> Vec<PromiseStatus> {
    let in_effect = Arc::clone(&state.in_effect.borrow());
    let promise = |promise: &event::policy::Promise| PromiseStatus {
        promise: promise.id.clone(),
        text: promise.text.clone(),
        outcome: in_effect.outcome(promise),
        objectives: (0..)
            .zip(&promise.objectives)
            .filter_map(|(number, clause)| Some((Objective::of(clause)?, in_effect.of(promise, number)?)))
            .map(|(objective, standing)| ObjectiveStatus {
                objective: standing.verdict.objective,
                measure: Text { fr: Language::French.measure(&objective), en: Language::English.measure(&objective) },
                outcome: standing.verdict.outcome,
                figure: standing.verdict.figure,
                reasons: standing.verdict.reasons.clone(),
                window: standing.verdict.window,
                since: standing.since,
                at: standing.verdict.at,
                sequence: standing.sequence,
            })
            .collect(),
    };
    applied.promises.iter().map(promise).collect()
}

/// The current state of each service, by the rule of verdicts for each probe: the worst of its probes, without regard to the
/// past.
pub(crate) fn services(state: &State, standings: &[ProbeStanding]) -> Vec<ServiceStatus> {
    let policy = Arc::clone(&state.policy.borrow());
    let Some(applied) = policy.applied.as_ref() else { return Vec::new() };
    let now = state.clock.now();
    let standings = grouped(standings, |row| &row.probe);
    let probes = grouped(&applied.probes, |probe| &probe.service);
    let service = |service: &event::policy::Service| {
        let probes = probes.get(&service.id).map(Vec::as_slice).unwrap_or_default();
        let seen: Vec<(CurrentState, Vec<&ProbeStanding>)> = probes
            .iter()
            .map(|probe| {
                let rows = standings.get(&probe.id).map(Vec::as_slice).unwrap_or_default();
                let fresh: Vec<_> = rows.iter().copied().filter(|row| is_fresh(probe, row, now)).collect();
                (agreed(probe.agreement, &fresh), fresh)
            })
            .collect();
        let worst = seen.iter().map(|(state, _)| *state).max().unwrap_or(CurrentState::Unknown);
        let rows = || seen.iter().flat_map(|(_, rows)| rows);
        let changes = rows().filter_map(|row| row.state).filter(|(state, _)| CurrentState::of(Some(*state)) == worst);
        let mut details: Vec<String> = rows().map(|row| row.text.clone()).filter(|text| !text.is_empty()).collect();
        details.sort_unstable();
        details.dedup();
        ServiceStatus {
            service: service.id.clone(),
            title: service.title.clone(),
            state: worst,
            since: changes.map(|(_, since)| since).min(),
            details,
        }
    };
    applied.services.iter().map(service).collect()
}

/// The rows by key, in their order: a policy may have ten thousand probes, so they are not searched one by one.
fn grouped<T, K: Eq + Hash>(rows: &[T], key: impl Fn(&T) -> &K) -> HashMap<&K, Vec<&T>> {
    let mut groups: HashMap<&K, Vec<&T>> = HashMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    groups
}

fn is_fresh(probe: &Probe, row: &ProbeStanding, now: Time) -> bool {
    now.since(row.at) <= probe.every + probe.every + probe.every + STALE_AFTER
}

/// The state on which the observers of a probe agree, by the rule of verdicts. Up becomes degraded when one of them says so.
fn agreed(agreement: Agreement, rows: &[&ProbeStanding]) -> CurrentState {
    let states = || rows.iter().filter_map(|row| row.state).map(|(state, _)| state);
    match promise::agreed(agreement, states().map(Condition::from)) {
        None => CurrentState::Unknown,
        Some(Condition::Down) => CurrentState::Down,
        Some(Condition::Undecided) => CurrentState::Undecided,
        Some(Condition::Up) if states().any(|state| state == event::evidence::State::Degraded) => {
            CurrentState::Degraded
        }
        Some(Condition::Up) => CurrentState::Up,
    }
}

/// States of the engines.
pub(crate) fn engines(state: &State) -> Vec<EngineStatus> {
    let status = |health: engine::EngineHealth| EngineStatus {
        engine: health.engine.to_owned(),
        healthy: health.state == engine::EngineState::Running,
        state: word(health.state).to_owned(),
        attempts: health.attempts,
        last_error: health.last_error,
        since: health.since,
    };
    state.engines.read().into_iter().map(status).collect()
}

const fn word(state: engine::EngineState) -> &'static str {
    match state {
        engine::EngineState::Starting => "starting",
        engine::EngineState::Running => "running",
        engine::EngineState::Restarting => "restarting",
        engine::EngineState::Stopping => "stopping",
        engine::EngineState::Stopped => "stopped",
        engine::EngineState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests;
