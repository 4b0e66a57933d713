//! Availability: the share of the window, announced maintenance set apart, during which the service was up (AV-1).
//!
//! Counting checks gives a figure that changes with the interval between them: 30 days of checks every 60 s, and one
//! outage of 4 minutes during which the check is repeated every 20 s, make 99.972 % in a peer instead of 99.991 %. Only
//! time is measured here. `low` counts as up what is up for certain, `high` what is not down for certain.

use event::promise::{Outcome, Reason};
use event::{Ppb, ServiceId, Span, Spans};
use policy::Table;
use serde::{Deserialize, Serialize};

use crate::line::Line;
use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Rule, read_share};
use crate::ruling::{Budget, Case, Ruling, share};

/// The service is up for at least this share of the window, announced maintenance set apart.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Availability {
    /// The service.
    pub service: ServiceId,
    /// The promised share.
    pub at_least: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Availability {
    const ABOUT: &'static str = "The share of the time during which a service is up, announced maintenance set apart.";
    const EXAMPLE: &'static str = r#"{ service = "shop", at_least = "99.9 %", over = "30 d" }"#;
    const DOC: &'static str = "a service is up for so much of the time, announced maintenance set apart";
    const MEASURE: [&'static str; 2] = ["disponibilité", "availability"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        read_share(table, "the share of the window during which it is up", |service, at_least, over| Self {
            service,
            at_least,
            over,
        })
    }
}

impl Rule for Availability {
    fn subject(&self) -> Subject {
        Subject::Service(self.service.clone())
    }

    fn promised(&self) -> Promised {
        Promised::AtLeast(self.at_least)
    }

    fn sets_maintenance_apart(&self) -> bool {
        true
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let Self { service, at_least: target, .. } = self;
        let target = *target;
        let window = case.window;
        let apart = case.apart(service);
        let Line { up, down, undecided, lone } = case.line(&self.subject(), &apart);
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
}
