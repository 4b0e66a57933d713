//! Coverage: the share of the window during which every probe of the service was observed (BX-1).
//!
//! The newest minute is reported only when it is over. It is neither observed nor missed yet, so `high` counts it as
//! observed: a promise that was declared a moment ago is unproven, not broken.

use event::policy::Objective;
use event::promise::{Outcome, Reason};
use event::{Ppb, ServiceId, Span};
use policy::{Section, Table};

use crate::observed::REPORTED_WITHIN;
use crate::ruling::{Case, Ruling, at_least, at_risk, share};
use crate::terms::{Terms, windows};

/// `coverage = { … }` of a promise.
pub(crate) struct Coverage {
    service: ServiceId,
    at_least: Ppb,
    over: Vec<Span>,
}

impl Section for Coverage {
    const ABOUT: &'static str = "The share of the time during which all probes of a service were observed.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let service = table.required("service", "which service");
        let at_least = table.required("at_least", "the share of the window during which it is observed");
        let over = windows(table);
        Some(Self { service: service?, at_least: at_least?, over: over? })
    }
}

impl Terms for Coverage {
    fn objectives(self) -> Vec<Objective> {
        let Self { service, at_least, over } = self;
        over.into_iter().map(|over| Objective::Coverage { service: service.clone(), at_least, over }).collect()
    }
}

pub(crate) fn rule(case: &mut Case<'_>, service: &ServiceId, target: Ppb) -> Ruling {
    let window = case.window;
    let blind = case.lines.service(case.evidence, service, case.at).state.blind.clip(window);
    let whole = window.length();
    let not_yet_reported = match blind.intervals().last() {
        Some(last) if last.end == window.end => last.length().min(REPORTED_WITHIN),
        _ => Span::ZERO,
    };
    let missed = blind.length() - not_yet_reported;
    let cited = case.cite(case.probes(service));
    let bounds = (share(whole - blind.length(), whole), share(whole - missed, whole));
    let (Some((low, _)), Some((high, rounded))) = bounds else {
        return Ruling::no_evidence(Span::ZERO, cited);
    };
    // One figure where there is only one: no rounding up of what is exactly known.
    let high = if not_yet_reported == Span::ZERO { high } else { rounded };
    let (outcome, figure) = at_least(low, high, target);
    let mut reasons = Vec::new();
    if blind.length() == whole {
        reasons.push(Reason::NoEvidence);
    }
    if missed > Span::ZERO {
        reasons.push(Reason::Unobserved { length: missed });
    }
    if outcome == Outcome::Kept && at_risk(missed, whole, target) {
        reasons.push(Reason::AtRisk);
    }
    Ruling { outcome, figure: Some(figure), reasons, cited }
}
