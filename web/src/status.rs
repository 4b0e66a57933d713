//! `/api/status.json`: what is up, which promises are kept, and how garant itself is doing. `garant status` reads it.
//!
//! The structs are the contract: the command deserialises what this module serialises. Keys are added, never changed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use event::policy::{Agreement, Applied, Maintenance, Probe, Text};
use event::promise::{Figure, Outcome, Reason};
use event::{FindingId, Interval, Monotonic, ObserverId, ProbeId, PromiseId, ServiceId, Span, Time};
use promise::{InEffect, Objective};
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::lang::Language;
use crate::state::State;
use engine::standing::{OpenFinding, Phases, ProbeStanding};

/// How old beyond three turns the state of a probe may be before it counts as unknown.
const STALE_AFTER: Span = Span::from_secs(60);
/// How long nothing must have looked to be told beside a state: as long as a standstill that is journaled.
const UNWATCHED_MIN: Span = Span::from_secs(2);
/// By how much the clocks of those who record may differ.
const CLOCKS: Span = Span::from_secs(5);
/// For how long the state of the services is shown before it is reckoned again.
const PRESENT_FOR: Span = Span::from_secs(1);

/// The body of the answer.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Status {
    /// Release of the server.
    pub version: String,
    /// When this was true.
    pub at: Time,
    /// The zone of the policy, in which people read the times.
    #[serde(default)]
    pub time_zone: String,
    /// Whether the public pages are open.
    pub publish: bool,
    /// Revision of the policy in effect.
    pub revision: Option<String>,
    /// Why the last reload of the policy was refused; nothing after one that was taken.
    #[serde(default)]
    pub reload_error: Option<String>,
    /// The log.
    pub journal: JournalStatus,
    /// How far the clock stands behind what was recorded, once it was set back: times in the future are shown as now.
    #[serde(default)]
    pub clock_behind: Option<Span>,
    /// Services, in the order of the policy.
    pub services: Vec<ServiceStatus>,
    /// Probes, by probe and observer.
    #[serde(default)]
    pub probes: Vec<ProbeStatus>,
    /// When all promises were last evaluated.
    #[serde(default)]
    pub evaluated_at: Option<Time>,
    /// Promises as of then, in the order of the policy.
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
    /// When the service last changed to it, whichever of its probes tells; nothing while that is not known.
    pub since: Option<Time>,
    /// When it was last known to be otherwise, if nobody looked between then and `since`: it changed at some time of that.
    #[serde(default)]
    pub began_after: Option<Time>,
    /// What of the time since then nothing looked, for it did not run.
    #[serde(default)]
    pub unwatched: Option<UnwatchedStatus>,
    /// What observers that see trouble say.
    pub details: Vec<DetailStatus>,
    /// The announced maintenance under way.
    #[serde(default)]
    pub maintenance: Option<MaintenanceStatus>,
}

/// Times in which nothing looked: garant did not run.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct UnwatchedStatus {
    /// How long altogether.
    pub length: Span,
    /// The last of them.
    pub last: Interval,
}

/// What observers of a probe say of trouble.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct DetailStatus {
    /// The probe.
    pub probe: ProbeId,
    /// Who says so.
    pub observers: Vec<ObserverId>,
    /// In words.
    pub text: String,
}

/// An announced maintenance under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct MaintenanceStatus {
    /// Until when.
    pub until: Time,
    /// What customers are told.
    pub text: Text,
}

/// A finding that is open in a probe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct FindingStatus {
    /// What was found.
    pub finding: FindingId,
    /// In words, by the last look that could tell: on what, the figure and the threshold.
    pub text: String,
    /// Since when.
    pub since: Time,
    /// When it was last known not to be there, if nobody looked between then and `since`: it began at some time of that.
    #[serde(default)]
    pub began_after: Option<Time>,
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
    /// Whether it may have been so before, since the first look of this run already showed it.
    #[serde(default)]
    pub or_before: bool,
    /// When the probe was last asked.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// Where the time of that answer went.
    pub phases: Phases,
    /// When the certificate that was shown expires.
    pub certificate_expires: Option<Time>,
    /// Findings that are open.
    #[serde(default)]
    pub findings: Vec<FindingStatus>,
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
    /// Its objectives; one that was not judged yet is missing.
    pub objectives: Vec<ObjectiveStatus>,
}

/// An objective as of the last evaluation.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct ObjectiveStatus {
    /// Number of the objective in its promise, from 0.
    pub objective: u32,
    /// What is promised: the key of the objective in the policy, such as `availability`.
    #[serde(default)]
    pub kind: String,
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
    /// The last verdict in the journal; nothing while there is none.
    pub journaled: Option<JournaledStatus>,
}

/// The last verdict in the journal on an objective.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct JournaledStatus {
    /// Sequence of the entry that holds it.
    pub sequence: u64,
    /// When it was judged.
    pub at: Time,
    /// What it says.
    pub outcome: Outcome,
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
    // One instant for all of it: nothing holds since a later one.
    let now = state.clock.now();
    // Each is borrowed in a statement of its own. Within the expression below a borrow would last until its end: its channel could
    // not be written meanwhile, and a second borrow of it would wait for the writer that waits for the first. The journal would
    // stand still with them.
    let vkey = state.identity.borrow().vkey.clone();
    let size = *state.journal.size_watch().borrow();
    let in_effect = Arc::clone(&state.in_effect.borrow());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: now,
        time_zone: policy.zone.name().to_owned(),
        publish: policy.publish,
        revision: policy.applied.as_ref().map(|applied| applied.revision.clone()),
        journal: JournalStatus {
            vkey,
            size,
            published_size: published.as_ref().map(|published| published.size),
            published_at: published.as_ref().map(|published| published.at),
            witnesses: published.iter().flat_map(|p| &p.cosignatures).map(|c| c.witness.clone()).collect(),
            fault: health.fault.map(|fault| fault.reason),
        },
        reload_error: policy.reload_error.clone(),
        clock_behind: clock_behind(&in_effect, now),
        services: services(state, &standings, now),
        probes: probes(state, standings, now),
        evaluated_at: in_effect.evaluated_at(),
        promises: policy.applied.as_ref().map(|applied| promises(state, applied, now)).unwrap_or_default(),
        engines: engines(state),
    }
}

fn probes(state: &State, standings: Vec<ProbeStanding>, now: Time) -> Vec<ProbeStatus> {
    let in_effect = Arc::clone(&state.in_effect.borrow());
    let status = |row: ProbeStanding| {
        let findings = findings(&in_effect, &row);
        let ProbeStanding { probe, observer, state, or_before, at, took, phases, certificate_expires, .. } = row;
        let (since, state) = (state.map(|(_, since)| since.min(now)), CurrentState::of(state.map(|(state, _)| state)));
        ProbeStatus { probe, observer, state, since, or_before, at, took, phases, certificate_expires, findings }
    };
    standings.into_iter().map(status).collect()
}

/// The findings that are open in a probe. Since when is in the journal, which knows it from before the start of the process.
pub(crate) fn findings(in_effect: &InEffect, row: &ProbeStanding) -> Vec<FindingStatus> {
    let status = |open: &OpenFinding| {
        let key = (open.finding.clone(), row.probe.clone(), row.observer.clone());
        let known = in_effect.open_findings.get(&key).filter(|began| began.by <= open.since);
        let since = known.map_or(open.since, |began| began.by);
        let began_after = known.and_then(|began| began.after);
        FindingStatus { finding: open.finding.clone(), text: open.text.clone(), since, began_after }
    };
    row.findings.iter().map(status).collect()
}

fn promises(state: &State, applied: &Applied, now: Time) -> Vec<PromiseStatus> {
    let in_effect = Arc::clone(&state.in_effect.borrow());
    let promise = |promise: &event::policy::Promise| PromiseStatus {
        promise: promise.id.clone(),
        text: promise.text.clone(),
        outcome: in_effect.outcome(promise),
        objectives: (0..)
            .zip(&promise.objectives)
            .filter_map(|(number, clause)| Some((Objective::of(clause)?, number, in_effect.now(promise, number)?)))
            .map(|(objective, number, standing)| ObjectiveStatus {
                objective: standing.verdict.objective,
                kind: objective.key().to_owned(),
                measure: Text { fr: Language::French.measure(&objective), en: Language::English.measure(&objective) },
                outcome: standing.verdict.outcome,
                figure: standing.verdict.figure,
                reasons: standing.verdict.reasons.clone(),
                window: standing.verdict.window,
                since: standing.since.min(now),
                at: standing.verdict.at,
                journaled: in_effect.of(promise, number).map(|found| JournaledStatus {
                    sequence: found.sequence,
                    at: found.verdict.at,
                    outcome: found.verdict.outcome,
                }),
            })
            .collect(),
    };
    applied.promises.iter().map(promise).collect()
}

/// The current state of each service, by the rule of verdicts for each probe: the worst of its probes, without regard to the
/// past. Since when is the matter of the journal, whose reader is some seconds behind: until it has the same state, the
/// service changed when the last of its probes did. After a start nothing is said of it until the journal was read.
pub(crate) fn services(state: &State, standings: &[ProbeStanding], now: Time) -> Vec<ServiceStatus> {
    let policy = Arc::clone(&state.policy.borrow());
    let Some(applied) = policy.applied.as_ref() else { return Vec::new() };
    let in_effect = Arc::clone(&state.in_effect.borrow());
    let maintenance = under_way(applied, now);
    let standings = grouped(standings, |row| &row.probe);
    let probes = grouped(&applied.probes, |probe| &probe.service);
    let service = |service: &event::policy::Service| {
        let probes = probes.get(&service.id).map(Vec::as_slice).unwrap_or_default();
        let mut seen: Vec<(CurrentState, Vec<&ProbeStanding>)> = probes
            .iter()
            .map(|probe| {
                let rows = standings.get(&probe.id).map(Vec::as_slice).unwrap_or_default();
                let fresh: Vec<_> = rows.iter().copied().filter(|row| is_fresh(probe, row, now)).collect();
                (agreed(probe.agreement, &fresh), fresh)
            })
            .collect();
        // What is worst is told first.
        seen.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
        let worst = seen.first().map_or(CurrentState::Unknown, |(state, _)| *state);
        let rows = || seen.iter().flat_map(|(_, rows)| rows);
        let journaled = in_effect.services.get(&service.id).filter(|known| CurrentState::of(known.state) == worst);
        let changes = rows().filter_map(|row| Some((row.state?.1, row.or_before)));
        let is_known = worst != CurrentState::Unknown && in_effect.evaluated_at().is_some();
        // What the first look of a run showed may have been so before: the journal tells.
        let last = changes.max().filter(|(_, or_before)| is_known && !or_before);
        let changed = || last.map(|(since, _)| since);
        let mut details: Vec<DetailStatus> = Vec::new();
        for row in rows().filter(|row| !row.text.is_empty()) {
            // The rows of a probe follow one another.
            let same = details.iter_mut().rev().take_while(|detail| detail.probe == row.probe);
            match same.into_iter().find(|detail| detail.text == row.text) {
                Some(detail) => detail.observers.push(row.observer.clone()),
                None => details.push(DetailStatus {
                    probe: row.probe.clone(),
                    observers: vec![row.observer.clone()],
                    text: row.text.clone(),
                }),
            }
        }
        let since = journaled.map(|known| known.since).or_else(changed).map(|since| since.min(now));
        ServiceStatus {
            service: service.id.clone(),
            title: service.title.clone(),
            state: worst,
            since,
            began_after: journaled.and_then(|known| known.began_after).filter(|after| Some(*after) < since),
            unwatched: since.and_then(|since| unwatched(&in_effect, Interval::new(since, now))),
            details,
            maintenance: maintenance.get(&service.id).cloned(),
        }
    };
    applied.services.iter().map(service).collect()
}

/// What of `within` nothing looked; breaks that are shorter than [`UNWATCHED_MIN`] are none.
fn unwatched(in_effect: &InEffect, within: Interval) -> Option<UnwatchedStatus> {
    let breaks = in_effect.unwatched.inside(within).filter(|interval| interval.length() >= UNWATCHED_MIN);
    breaks.fold(None, |sum: Option<UnwatchedStatus>, last| {
        let length = sum.map_or(Span::ZERO, |sum| sum.length) + last.length();
        Some(UnwatchedStatus { length, last })
    })
}

/// How far the newest of what is told lies in the future, if by more than clocks may differ: the clock was set back.
fn clock_behind(in_effect: &InEffect, now: Time) -> Option<Span> {
    let services = in_effect.services.values().map(|standing| standing.since);
    let verdicts = in_effect.all().map(|journaled| journaled.verdict.at);
    let findings = in_effect.open_findings.values().map(|began| began.by);
    let newest = services.chain(verdicts).chain(findings).max()?;
    Some(newest.since(now)).filter(|behind| *behind > CLOCKS)
}

/// The services as they were at most [`PRESENT_FOR`] ago: a page is asked for by strangers, as often as they like, and a policy may
/// have ten thousand probes.
#[derive(Default)]
pub struct Present(Mutex<Option<Reckoned>>);

/// The services, and when that was reckoned.
type Reckoned = (Monotonic, Arc<Vec<ServiceStatus>>);

impl Present {
    pub(crate) fn services(&self, state: &State) -> Arc<Vec<ServiceStatus>> {
        let now = state.clock.monotonic();
        let mut reckoned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, services)) = reckoned.as_ref().filter(|(at, _)| now.since(*at) < PRESENT_FOR) {
            return Arc::clone(services);
        }
        let services = Arc::new(services(state, &(state.probes)(), state.clock.now()));
        *reckoned = Some((now, Arc::clone(&services)));
        services
    }
}

/// The announced maintenance under way, by service; of several the one that ends last.
fn under_way(applied: &Applied, now: Time) -> HashMap<&ServiceId, MaintenanceStatus> {
    let mut windows: Vec<_> =
        applied.maintenance.iter().filter(|w| w.interval.start <= now && now < w.interval.end).collect();
    windows.sort_by_key(|window| window.interval.end);
    let status = |window: &Maintenance| MaintenanceStatus { until: window.interval.end, text: window.text.clone() };

    let mut by_service = HashMap::new();
    for window in windows {
        by_service.extend(window.services.iter().map(|service| (service, status(window))));
    }
    by_service
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
    let states = rows.iter().filter_map(|row| row.state).map(|(state, _)| state);
    CurrentState::of(promise::agreed_state(agreement, states))
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
