//! `/metrics`: figures of garant itself in OpenMetrics, or in the older text of Prometheus for who prefers it, for the team's own monitoring (promise WA-1).
//!
//! Nothing here is evidence: figures of the process begin at its start, and a verdict never reads them. Figures that only
//! an engine knows come through [`engine::metrics::MetricsSource`]: a new one is a file of its engine's, not an edit here.

mod process;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as FromState;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::metrics::{MetricFamily, MetricValue, MetricsFormat, MetricsText};
use engine::standing::ProbeStanding;
use event::Span;
use event::promise::{Outcome, Reason, Unit, Verdict};
use promise::{EvaluatedVerdict, InEffect, VerdictInEffect};

use crate::answer;
use crate::state::State;
use crate::status::{self, CurrentState};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(FromState(state): FromState<Arc<State>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = MetricsFormat::preferred(accept);
    let varying = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")];
    answer::off_the_way(move || (varying, expose(&state, format)).into_response()).await
}

fn expose(state: &State, format: MetricsFormat) -> String {
    let mut text = MetricsText::new(format);
    text.info("garant_build", "Which release this is.").sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    process::write(&mut text);
    journal(state, &mut text);
    promises(state, &mut text);
    probes(state, &mut text);
    engines(state, &mut text);
    for source in &state.figures {
        source.write(&mut text);
    }
    text.finish()
}

fn journal(state: &State, text: &mut MetricsText) {
    let health = state.journal.health();
    let size = *state.journal.size_watch().borrow();
    text.counter("garant_journal_entries", "", "Entries of the log.").sample(&[], size);
    text.counter("garant_journal_refused", "", "Entries that the storage refused.").sample(&[], health.entries_refused);
    text.gauge("garant_journal_fault", "", "Whether entries are refused now.").sample(&[], health.fault.is_some());
    text.gauge(
        "garant_journal_reserve_ready",
        "",
        "Whether the reserve that pays for the entry about a full disk is in place.",
    )
    .sample(&[], health.reserve_ready);
    text.counter("garant_samples_dropped", "", "Samples that were not stored.").sample(&[], health.samples_dropped);
    text.counter("garant_sample_files_damaged", "", "Files of samples that were damaged and set aside.")
        .sample(&[], health.sample_files_damaged);
    let published = state.published.borrow().clone();
    if let Some(published) = published {
        let age = state.clock.now().since(published.at);
        text.gauge("garant_log_published_entries", "", "Entries below the published checkpoint.")
            .sample(&[], published.size);
        text.gauge("garant_log_published_age_seconds", "seconds", "Time since a checkpoint was published.")
            .sample(&[], MetricValue::Millionths(age.micros()));
        text.gauge("garant_log_cosignatures", "", "Witnesses that cosigned the published checkpoint.")
            .sample(&[], published.cosignatures.len() as u64);
    }
}

const OUTCOMES: [&str; 3] = ["kept", "broken", "unproven"];

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Broken => "broken",
        Outcome::Unproven => "unproven",
    }
}

fn promises(state: &State, text: &mut MetricsText) {
    let policy = Arc::clone(&state.policy.borrow());
    let in_effect = Arc::clone(&state.in_effect.borrow());
    text.gauge("garant_policy_reload_refused", "", "Whether the last reload of the policy was refused.")
        .sample(&[], policy.reload_error.is_some());
    if let Some(at) = in_effect.evaluated_at() {
        text.gauge("garant_promises_evaluated_timestamp_seconds", "seconds", "When all promises were last evaluated.")
            .sample(&[], MetricValue::Millionths(at.micros()));
    }
    let promises = policy.applied.as_ref().map(|applied| applied.promises.as_slice()).unwrap_or_default();
    let mut outcomes = text.state_set("garant_promise_outcome", "Whether a promise is kept.");
    for promise in promises {
        outcomes.state(&[("promise", promise.id.as_str())], &OUTCOMES, Some(word(in_effect.outcome(promise))));
    }
    journaled(&in_effect, text);
    budgets(&in_effect, text);
    // One family for each unit: the figures of one family can be compared.
    for (unit, name, suffix, help) in [
        (Unit::Ppb, "garant_objective_ratio", "ratio", "Share measured, between low and high, and the target."),
        (Unit::Micros, "garant_objective_seconds", "seconds", "Time measured, between low and high, and the target."),
        (Unit::Count, "garant_objective_occurrences", "", "Occurrences counted, between low and high, and the target."),
    ] {
        let mut family = text.gauge(name, suffix, help);
        for standing in in_effect.evaluated() {
            let Some(figure) = standing.verdict.figure.filter(|figure| figure.unit == unit) else { continue };
            let objective = standing.verdict.objective.to_string();
            for (end, value) in [("low", figure.low), ("high", figure.high), ("target", figure.target)] {
                let labels = [("promise", standing.verdict.promise.as_str()), ("objective", &objective), ("end", end)];
                let value = match unit {
                    Unit::Ppb => MetricValue::Billionths(value),
                    Unit::Micros => MetricValue::Millionths(value),
                    Unit::Count => MetricValue::Whole(value),
                };
                family.sample(&labels, value);
            }
        }
    }
}

/// Families of the outcome of each objective at the last evaluation, and of the last verdict on it in the journal.
fn journaled(in_effect: &InEffect, text: &mut MetricsText) {
    let mut family = text.state_set("garant_objective_outcome", "Whether an objective is kept.");
    for EvaluatedVerdict { verdict, .. } in in_effect.evaluated() {
        let labels = [("promise", verdict.promise.as_str()), ("objective", &verdict.objective.to_string())];
        family.state(&labels, &OUTCOMES, Some(word(verdict.outcome)));
    }
    let help = "Whether an objective is kept by the last verdict on it in the journal.";
    let mut family = text.state_set("garant_objective_journaled_outcome", help);
    for VerdictInEffect { verdict, .. } in in_effect.all() {
        let labels = [("promise", verdict.promise.as_str()), ("objective", &verdict.objective.to_string())];
        family.state(&labels, &OUTCOMES, Some(word(verdict.outcome)));
    }
    let help = "The number of the entry that holds the last verdict in the journal.";
    let mut family = text.gauge("garant_objective_journaled_entry", "", help);
    for VerdictInEffect { verdict, sequence, .. } in in_effect.all() {
        let labels = [("promise", verdict.promise.as_str()), ("objective", &verdict.objective.to_string())];
        family.sample(&labels, *sequence);
    }
    let help = "When the last verdict in the journal was judged.";
    let mut family = text.gauge("garant_objective_journaled_timestamp_seconds", "seconds", help);
    for VerdictInEffect { verdict, .. } in in_effect.all() {
        let labels = [("promise", verdict.promise.as_str()), ("objective", &verdict.objective.to_string())];
        family.sample(&labels, MetricValue::Millionths(verdict.at.micros()));
    }
}

/// Families of the last evaluation: used budget, elapsed window, and the time up to which each speaks.
fn budgets(in_effect: &InEffect, text: &mut MetricsText) {
    let lengths = |family: &mut MetricFamily<'_>, verdict: &Verdict, ends: &[(&str, Span)]| {
        let objective = verdict.objective.to_string();
        for (end, span) in ends {
            let labels = [("promise", verdict.promise.as_str()), ("objective", &objective), ("end", *end)];
            family.sample(&labels, MetricValue::Millionths(span.micros()));
        }
    };
    let mut family = text.gauge(
        "garant_objective_budget_seconds",
        "seconds",
        "What may go wrong over the whole window, and what of it has: the truth is between the two uses.",
    );
    for EvaluatedVerdict { verdict, .. } in in_effect.evaluated() {
        for reason in &verdict.reasons {
            if let Reason::Budget { used_at_least, used_at_most, of } = reason {
                let ends = [("used_at_least", *used_at_least), ("used_at_most", *used_at_most), ("of", *of)];
                lengths(&mut family, verdict, &ends);
            }
        }
    }
    let help = "How much of the window has passed, and its length.";
    let mut family = text.gauge("garant_objective_window_seconds", "seconds", help);
    for EvaluatedVerdict { verdict, .. } in in_effect.evaluated() {
        let elapsed = verdict.window.length();
        let length = verdict.reasons.iter().find_map(|reason| match reason {
            Reason::WindowFilling { length, .. } => Some(*length),
            _ => None,
        });
        let ends = [("elapsed", elapsed), ("of", length.unwrap_or(elapsed))];
        lengths(&mut family, verdict, &ends);
    }
    let help = "Up to when the last evaluation speaks.";
    let mut family = text.gauge("garant_objective_as_of_timestamp_seconds", "seconds", help);
    for EvaluatedVerdict { verdict, .. } in in_effect.evaluated() {
        let labels = [("promise", verdict.promise.as_str()), ("objective", &verdict.objective.to_string())];
        family.sample(&labels, MetricValue::Millionths(verdict.window.end.micros()));
    }
}

fn probes(state: &State, text: &mut MetricsText) {
    let standings = (state.probes)();
    let mut family = text.state_set("garant_probe_state", "What an observer says of a probe.");
    for row in &standings {
        let labels = [("probe", row.probe.as_str()), ("observer", row.observer.as_str())];
        let current = CurrentState::of(row.state.map(|(state, _since)| state));
        family.state(&labels, &CurrentState::WORDS, Some(current.as_str()));
    }
    let mut family = text.gauge("garant_probe_duration_seconds", "seconds", "How long the last answer took.");
    for row in &standings {
        let labels = [("probe", row.probe.as_str()), ("observer", row.observer.as_str())];
        family.sample(&labels, MetricValue::Millionths(row.took.micros()));
    }
    let mut family =
        text.gauge("garant_probe_phase_seconds", "seconds", "Where the time of the last answer went, by phase.");
    for row in &standings {
        for (phase, took) in row.phases.each() {
            let labels = [("probe", row.probe.as_str()), ("observer", row.observer.as_str()), ("phase", phase)];
            family.sample(&labels, MetricValue::Millionths(took.micros()));
        }
    }
    let mut family = text.gauge(
        "garant_probe_certificate_expiry_timestamp_seconds",
        "seconds",
        "When the certificate that was shown last expires.",
    );
    for row in &standings {
        let Some(expires) = row.certificate_expires else { continue };
        let labels = [("probe", row.probe.as_str()), ("observer", row.observer.as_str())];
        family.sample(&labels, MetricValue::Millionths(expires.micros()));
    }
    let mut family = text.gauge("garant_probe_asked_timestamp_seconds", "seconds", "When the probe was last asked.");
    for row in &standings {
        let labels = [("probe", row.probe.as_str()), ("observer", row.observer.as_str())];
        family.sample(&labels, MetricValue::Millionths(row.at.micros()));
    }
    findings(state, &standings, text);
    let services = status::services(state, &standings, state.clock.now());
    let mut family = text.state_set("garant_service_state", "What the observers together say of a service.");
    for service in &services {
        family.state(&[("service", service.service.as_str())], &CurrentState::WORDS, Some(service.state.as_str()));
    }
    let mut family =
        text.gauge("garant_service_since_timestamp_seconds", "seconds", "When a service last changed its state.");
    for service in &services {
        let Some(since) = service.since else { continue };
        family.sample(&[("service", service.service.as_str())], MetricValue::Millionths(since.micros()));
    }
    let help = "Until when an announced maintenance under way lasts.";
    let mut family = text.gauge("garant_service_maintenance_until_timestamp_seconds", "seconds", help);
    for service in &services {
        let Some(maintenance) = &service.maintenance else { continue };
        family.sample(&[("service", service.service.as_str())], MetricValue::Millionths(maintenance.until.micros()));
    }
}

/// Families of the findings that are open. There are few, so the words of a finding may be a label.
fn findings(state: &State, standings: &[ProbeStanding], text: &mut MetricsText) {
    let in_effect = Arc::clone(&state.in_effect.borrow());
    let open = || standings.iter().flat_map(|row| status::findings(&in_effect, row).into_iter().map(move |f| (row, f)));
    let help = "A finding that is open: on what, the figure and the threshold.";
    let mut family = text.gauge("garant_finding_open", "", help);
    for (row, finding) in open() {
        let (probe, observer) = (row.probe.as_str(), row.observer.as_str());
        let labels = [("finding", finding.finding.as_str()), ("probe", probe), ("observer", observer)];
        family.sample(&[labels.as_slice(), &[("text", finding.text.as_str())]].concat(), 1_u64);
    }
    let help = "Since when a finding has been open.";
    let mut family = text.gauge("garant_finding_since_timestamp_seconds", "seconds", help);
    for (row, finding) in open() {
        let (probe, observer) = (row.probe.as_str(), row.observer.as_str());
        let labels = [("finding", finding.finding.as_str()), ("probe", probe), ("observer", observer)];
        family.sample(&labels, MetricValue::Millionths(finding.since.micros()));
    }
}

fn engines(state: &State, text: &mut MetricsText) {
    let engines = status::engines(state);
    let mut family = text.gauge("garant_engine_healthy", "", "Whether an engine runs as it should.");
    for engine in &engines {
        family.sample(&[("engine", &engine.engine)], engine.healthy);
    }
    let mut family = text.counter("garant_engine_starts", "", "How often an engine was started.");
    for engine in &engines {
        family.sample(&[("engine", &engine.engine)], u64::from(engine.attempts));
    }
}

#[cfg(test)]
mod tests;
