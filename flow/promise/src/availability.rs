//! Availability: the share of the window, announced maintenance set apart, during which the service was up (AV-1).
//!
//! Counting checks gives a figure that changes with the interval between them: 30 days of checks every 60 s, and one
//! outage of 4 minutes during which the check is repeated every 20 s, make 99.972 % in a peer instead of 99.991 %. Only
//! time is measured here. `low` counts as up what is up for certain, `high` what is not down for certain.

use event::policy::Objective;
use event::promise::{Outcome, Reason};
use event::{Ppb, ServiceId, Span, Spans};
use policy::{Section, Table};

use crate::line::Line;
use crate::lines::Subject;
use crate::ruling::{Budget, Case, Ruling, share};
use crate::terms::{Terms, windows};

/// `availability = { … }` of a promise.
pub(crate) struct Availability {
    service: ServiceId,
    at_least: Ppb,
    over: Vec<Span>,
}

impl Section for Availability {
    const ABOUT: &'static str = "The share of the time during which a service is up, announced maintenance set apart.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let service = table.required("service", "which service");
        let at_least = table.required("at_least", "the share of the window during which it is up");
        let over = windows(table);
        Some(Self { service: service?, at_least: at_least?, over: over? })
    }
}

impl Terms for Availability {
    fn objectives(self) -> Vec<Objective> {
        let Self { service, at_least, over } = self;
        over.into_iter().map(|over| Objective::Availability { service: service.clone(), at_least, over }).collect()
    }
}

pub(crate) fn rule(case: &mut Case<'_>, service: &ServiceId, target: Ppb) -> Ruling {
    let window = case.window;
    let apart = case.apart(service);
    let Line { up, down, undecided, lone } = case.line(&Subject::Service(service.clone()), &apart);
    let counted: Spans = apart.complement(window);
    let whole = counted.length();
    let observed = up.length() + down.length() + undecided.length();
    let unobserved = whole - observed;
    let used_at_most = whole - up.length();
    let of = Budget::of(target, case.over, apart.length());
    let budget = Budget { used_at_least: down.length(), used_at_most, of };

    let probes = case.probes(service);
    let mut cited = case.cite(probes.iter().copied());
    let bounds = (share(up.length(), whole), share(whole - down.length(), whole));
    let ((Some((low, _)), Some((_, high))), true) = (bounds, observed > Span::ZERO) else {
        return Ruling::nothing(vec![budget.reason(), Reason::NoEvidence], unobserved, cited);
    };
    case.cite_outages(&mut cited, &probes, &down);

    let (outcome, figure) = case.at_least(low, high, target, budget);
    let mut reasons = vec![budget.reason()];
    if !down.is_empty() {
        reasons.push(Reason::Down { length: down.length(), outages: down.intervals().len() as u64 });
    }
    if unobserved > Span::ZERO {
        reasons.push(Reason::Unobserved { length: unobserved });
    }
    if !apart.is_empty() {
        reasons.push(Reason::Maintenance { length: apart.length() });
    }
    let unconfirmed = lone.length();
    if unconfirmed + unconfirmed > observed {
        reasons.push(Reason::LoneObserver);
    }
    if outcome == Outcome::Kept && budget.is_at_risk() {
        reasons.push(Reason::AtRisk);
    }
    Ruling { outcome, figure: Some(figure), reasons, cited }
}
