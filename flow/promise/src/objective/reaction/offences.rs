//! Offences: every offender is banned within so long (NH-1).
//!
//! An offence runs from when it was complete, by the date of its last failure in the log, until the ban was in force. Each
//! ban is an entry of its own, so no line of any observer is asked for the figure. What it lacks are offences that nobody answered:
//! while the logs were not read, and while nobody was banned, because the packet filter took no ban or bans were simulated. Only time
//! in which the service is up is free of them, so all other time counts against `observed`.
//!
//! A wait that began before the window is cut where the window starts, as the first gap of freshness is: what came before
//! may be forgotten.

use std::cmp::Reverse;

use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Span, Spans};

use super::{Reaction, lasted};
use crate::line::{Line, Worst};
use crate::objective::Rule as _;
use crate::ruling::{Case, Ruling, share};

/// A ban that bears on the figure, by how it is cited.
struct Wait {
    high: Span,
    low: Span,
    order: (event::Time, u64),
}

/// The ruling on the bans of a service, or of all services.
pub(super) fn judge(objective: &Reaction, case: &mut Case<'_>) -> Ruling {
    let window = case.window;
    let observed = case.evidence.observed;
    let services = match &objective.service {
        Some(service) => vec![service],
        None => case.evidence.declared.services_over(window),
    };
    let probes: std::collections::BTreeSet<_> = services.iter().flat_map(|service| case.probes(service)).collect();
    let nothing = Spans::new();
    let bans = probes.iter().flat_map(|probe| observed.bans(probe, window));
    let mut waits: Vec<Wait> = bans
        .map(|(vantage, ban)| {
            let doubtful = observed.stepped(vantage).unwrap_or(&nothing);
            let (low, high) = lasted(doubtful, ban.since.max(window.start), ban.at);
            Wait { high, low, order: (ban.at, ban.sequence) }
        })
        .collect();
    waits.sort_by_key(|wait| (Reverse(wait.high), wait.order));
    let mut cited = case.cite(probes.iter().copied());
    for Wait { order: (_, sequence), .. } in &waits {
        if cited.is_full() {
            break;
        }
        cited.cite(Some(*sequence));
    }
    let Worst { line: Line { up, down, lone, .. }, .. } = case.state(&objective.subject());
    let (proved, down_for) = (up.length(), down.length());
    let missed = window.length() - proved - down_for;
    let (Some(low), Some(high)) = (waits.iter().map(|wait| wait.low).max(), waits.first().map(|wait| wait.high)) else {
        return Ruling::no_evidence(missed, cited);
    };
    let seen = share(proved, window.length());
    let enough = seen.is_some_and(|(share, _)| share >= objective.observed.parts());
    let outcome = match () {
        () if low > objective.within => Outcome::Broken,
        () if high <= objective.within && enough => Outcome::Kept,
        () => Outcome::Unproven,
    };
    let mut reasons = Vec::new();
    if down_for > Span::ZERO {
        reasons.push(Reason::Down { length: down_for, outages: down.intervals().len() as u64 });
    }
    if missed > Span::ZERO {
        reasons.push(Reason::Unobserved { length: missed });
    }
    if lone.length() + lone.length() > proved {
        reasons.push(Reason::LoneObserver);
    }
    let (low, high, target) = (low.micros(), high.micros(), objective.within.micros());
    let figure = Figure { unit: Unit::Micros, low, high, target };
    Ruling { outcome, figure: Some(figure), reasons, cited }
}
