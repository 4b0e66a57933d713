//! Configuration: every observation of a probe conformed, and enough of the window was observed for "every" to mean
//! something.
//!
//! One instant of certain non-conformity breaks the promise, however long the rest conformed. Undecided time, or too
//! little observed, leaves it unproven. The figure is the share of the observed time that conformed.

use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, Ppb, ProbeId, Span, Spans};
use policy::Table;
use serde::{Deserialize, Serialize};

use crate::line::{Line, Worst};
use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Rule, observed, windows};
use crate::ruling::{Case, Cited, Ruling, share};

/// Every observation of the probe conformed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The probe.
    pub probe: ProbeId,
    /// Share of the window that must have been observed for the promise to be kept.
    pub observed: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Configuration {
    const ABOUT: &'static str = "Every observation of a probe conforms.";
    const EXAMPLE: &'static str = r#"{ probe = "shop-tls", over = "30 d" }"#;
    const DOC: &'static str = "a probe always conforms";
    const MEASURE: [&'static str; 2] = ["conformité à chaque observation", "conformity at every observation"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let probe: Option<ProbeId> = table.required("probe", "which probe");
        let observed = observed(table, "the share of the window that must have been observed");
        let over = windows(table);
        let (probe, observed) = (probe?, observed?);
        Some(over?.into_iter().map(|over| Self { probe: probe.clone(), observed, over }).collect())
    }
}

impl Rule for Configuration {
    fn subject(&self) -> Subject {
        Subject::Probe(self.probe.clone())
    }

    fn promised(&self) -> Promised {
        Promised::Always(self.observed)
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let Worst { line, blind } = case.state(&self.subject());
        let mut cited = case.cite([&self.probe]);
        case.cite_outages(&mut cited, &[&self.probe].into(), &line.down);
        never(case.window, &line, &blind, self.observed, cited)
    }
}

/// The rule of [`Configuration`] and `Absence`: kept when the line was never down nor undecided and at least `required` of the
/// window was observed; broken by any time down.
pub(crate) fn never(window: Interval, line: &Line, unobserved: &Spans, required: Ppb, cited: Cited) -> Ruling {
    let missed = unobserved.length();
    let seen = window.length() - missed;
    let down = line.down.length();
    // Where several probes are looked at, one may be seen down while another is not observed.
    let judged = line.up.length() + down + line.undecided.length();
    let bounds = (share(line.up.length(), judged), share(judged - down, judged));
    let (Some((low, _)), Some((_, high))) = bounds else {
        return Ruling::no_evidence(missed, cited);
    };
    // Time down that is too short for nine decimals is time down all the same.
    let high = if down > Span::ZERO { high.min(Ppb::ONE.parts() - 1) } else { high };
    let enough = share(seen, window.length()).is_some_and(|(share, _)| share >= required.parts());
    let outcome = match () {
        () if down > Span::ZERO => Outcome::Broken,
        () if line.undecided.is_empty() && enough => Outcome::Kept,
        () => Outcome::Unproven,
    };
    let mut reasons = Vec::new();
    if down > Span::ZERO {
        reasons.push(Reason::Down { length: down, outages: line.down.intervals().len() as u64 });
    }
    if missed > Span::ZERO {
        reasons.push(Reason::Unobserved { length: missed });
    }
    let unconfirmed = line.lone.length();
    if unconfirmed + unconfirmed > judged {
        reasons.push(Reason::LoneObserver);
    }
    let figure = Figure { unit: Unit::Ppb, low, high, target: Ppb::ONE.parts() };
    Ruling { outcome, figure: Some(figure), reasons, cited }
}
