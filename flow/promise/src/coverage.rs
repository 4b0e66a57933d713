//! Coverage: the share of the window during which every probe of the service was observed (BX-1).
//!
//! The window ends where the records of the observers do, so all of it is known: observed, or not.

use event::policy::Objective;
use event::promise::{Outcome, Reason};
use event::{Ppb, ServiceId, Span};
use policy::{Section, Table};

use crate::lines::Subject;
use crate::ruling::{Budget, Case, Ruling, share};
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
    let blind = case.blind(&Subject::Service(service.clone()));
    let whole = window.length();
    let missed = blind.length();
    let budget = Budget { used_at_least: missed, used_at_most: missed, of: Budget::of(target, case.over, Span::ZERO) };
    let cited = case.cite(case.probes(service));
    let Some((low, _)) = share(whole - missed, whole) else {
        return Ruling::nothing(vec![budget.reason(), Reason::NoEvidence], missed, cited);
    };
    // One figure: no rounding up of what is exactly known.
    let (outcome, figure) = case.at_least(low, low, target, budget);
    let mut reasons = vec![budget.reason()];
    if missed == whole {
        reasons.push(Reason::NoEvidence);
    }
    if missed > Span::ZERO {
        reasons.push(Reason::Unobserved { length: missed });
    }
    if outcome == Outcome::Kept && budget.is_at_risk() {
        reasons.push(Reason::AtRisk);
    }
    Ruling { outcome, figure: Some(figure), reasons, cited }
}
