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

/// How long beyond three turns a standing may be old before it says nothing.
const STALE_AFTER: Span = Span::from_secs(60);

/// Everything.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Status {
    /// Release of the server.
    pub version: String,
    /// As of when.
    pub at: Time,
    /// Whether the public pages are open.
    pub publish: bool,
    /// Revision of the policy in effect.
    pub revision: Option<String>,
    /// The log.
    pub journal: JournalStatus,
    /// Services, in the order of the policy.
    pub services: Vec<ServiceStatus>,
    /// What each observer says of each probe, by probe and observer.
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
    /// What its observers say together.
    pub state: CurrentState,
    /// Since when, as far as the observers agree.
    pub since: Option<Time>,
    /// What observers that see trouble say, each once.
    pub details: Vec<String>,
}

/// What one observer says of one probe.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct ProbeStatus {
    /// Which one.
    pub probe: ProbeId,
    /// Who says so.
    pub observer: ObserverId,
    /// What it says.
    pub state: CurrentState,
    /// Since when.
    pub since: Option<Time>,
    /// When it was last asked.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// Where that time went.
    pub phases: Phases,
    /// When the certificate that was shown expires.
    pub certificate_expires: Option<Time>,
}

/// A promise.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct PromiseStatus {
    /// Which one.
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
    /// Which one, from 0.
    pub objective: u32,
    /// What it measures, over which window.
    pub measure: Text,
    /// The verdict.
    pub outcome: Outcome,
    /// What was measured.
    pub figure: Option<Figure>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The window; the verdict speaks up to its end.
    pub window: Interval,
    /// Since when the outcome holds.
    pub since: Time,
    /// When it was judged.
    pub at: Time,
    /// Entry of the log.
    pub sequence: u64,
}

/// An engine.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct EngineStatus {
    /// Its name.
    pub engine: String,
    /// Whether it runs as it should.
    pub healthy: bool,
    /// What it is doing, in a word.
    pub state: String,
    /// How often it was started.
    pub attempts: u32,
    /// Why it failed last.
    pub last_error: Option<String>,
    /// Since when it is in this state.
    pub since: Time,
}

/// What observers say of a service or a probe now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum CurrentState {
    /// The condition holds.
    Up,
    /// It holds, but more slowly than it should.
    Degraded,
    /// Nobody knows.
    Unknown,
    /// It changes too often to say, or exactly half of the observers say so.
    Undecided,
    /// It does not hold.
    Down,
}

impl CurrentState {
    /// All words, from best to worst.
    pub const WORDS: [&'static str; 5] = ["up", "degraded", "unknown", "undecided", "down"];

    /// Its word.
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

/// What the observers say of each service together: of a probe by the rule of verdicts, of a service what is worst of its
/// probes; of this instant, and without a memory.
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

/// The rows of each key, in their order: a policy may have ten thousand probes, and nothing is looked for twice.
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

/// What the observers of a probe say together, by the rule of verdicts. Up is degraded when one of them says so.
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

/// How the engines are doing.
pub(crate) fn engines(state: &State) -> Vec<EngineStatus> {
    let status = |health: engine::Health| EngineStatus {
        engine: health.engine.to_owned(),
        healthy: health.state == engine::State::Running,
        state: word(health.state).to_owned(),
        attempts: health.attempts,
        last_error: health.last_error,
        since: health.since,
    };
    state.engines.read().into_iter().map(status).collect()
}

const fn word(state: engine::State) -> &'static str {
    match state {
        engine::State::Starting => "starting",
        engine::State::Running => "running",
        engine::State::Restarting => "restarting",
        engine::State::Stopping => "stopping",
        engine::State::Stopped => "stopped",
        engine::State::Failed => "failed",
    }
}

#[cfg(test)]
mod tests;
