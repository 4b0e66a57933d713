//! Coverage: the share of the window during which every probe of the service was observed (BX-1).
//!
//! The window ends where the records of the observers do, so all of it is known: observed, or not.

use event::promise::{Outcome, Reason};
use event::{Ppb, ServiceId, Span};
use policy::Table;
use serde::{Deserialize, Serialize};

use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Rule, read_share};
use crate::ruling::{Budget, Case, Ruling, share};

/// The service was observed for at least this share of the window.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// The service.
    pub service: ServiceId,
    /// The promised share.
    pub at_least: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Coverage {
    const ABOUT: &'static str = "The share of the time during which all probes of a service were observed.";
    const EXAMPLE: &'static str = r#"{ service = "shop", at_least = "99 %", over = "30 d" }"#;
    const DOC: &'static str = "a service is observed for so much of the time";
    const MEASURE: [&'static str; 2] = ["part du temps observée", "share of the time observed"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        read_share(table, "the share of the window during which it is observed", |service, at_least, over| Self {
            service,
            at_least,
            over,
        })
    }
}

impl Rule for Coverage {
    fn subject(&self) -> Subject {
        Subject::Service(self.service.clone())
    }

    fn promised(&self) -> Promised {
        Promised::AtLeast(self.at_least)
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let target = self.at_least;
        let window = case.window;
        let blind = case.blind(&self.subject());
        let whole = window.length();
        let missed = blind.length();
        let budget =
            Budget { used_at_least: missed, used_at_most: missed, of: Budget::of(target, case.over, Span::ZERO) };
        let cited = case.cite(case.probes(&self.service));
        let Some((low, _)) = share(whole - missed, whole) else {
            return Ruling::nothing(vec![budget.reason(), Reason::NoEvidence], missed, cited);
        };
        // The share is known exactly, so `low` is `high`.
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
}
