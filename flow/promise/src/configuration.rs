//! Configuration: every observation of a probe conformed, and enough of the window was observed for "every" to mean
//! something.
//!
//! One instant of certain non-conformity breaks the promise, however long the rest conformed. Undecided time, or too
//! little observed, leaves it unproven. The figure is the share of the observed time that conformed.

use event::policy::Objective;
use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, Ppb, ProbeId, Span, Spans};
use policy::{Section, Table};

use crate::line::{Line, Worst};
use crate::lines::Subject;
use crate::ruling::{Case, Cited, Ruling, share};
use crate::terms::{ENOUGH, Terms, windows};

/// `configuration = { … }` of a promise.
pub(crate) struct Configuration {
    probe: ProbeId,
    observed: Ppb,
    over: Vec<Span>,
}

impl Section for Configuration {
    const ABOUT: &'static str = "Every observation of a probe conforms.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let probe = table.required("probe", "which probe");
        let observed = table.or("observed", ENOUGH, "the share of the window that must have been observed");
        let over = windows(table);
        Some(Self { probe: probe?, observed, over: over? })
    }
}

impl Terms for Configuration {
    fn objectives(self) -> Vec<Objective> {
        let Self { probe, observed, over } = self;
        over.into_iter().map(|over| Objective::Configuration { probe: probe.clone(), observed, over }).collect()
    }
}

pub(crate) fn rule(case: &mut Case<'_>, probe: &ProbeId, observed: Ppb) -> Ruling {
    let Worst { line, blind } = case.state(&Subject::Probe(probe.clone()));
    let mut cited = case.cite([probe]);
    case.cite_outages(&mut cited, &[probe].into(), &line.down);
    never(case.window, &line, &blind, observed, cited)
}

/// The rule for whatever must never be so, given when it was and when nobody looked.
pub(crate) fn never(window: Interval, line: &Line, unobserved: &Spans, required: Ppb, cited: Cited) -> Ruling {
    let missed = unobserved.length();
    let seen = window.length() - missed;
    let down = line.down.length();
    // Of what was seen, and of the rest what was nevertheless seen to be wrong.
    let judged = line.up.length() + down + line.undecided.length();
    let bounds = (share(line.up.length(), judged), share(judged - down, judged));
    let (Some((low, _)), Some((_, high))) = bounds else {
        return Ruling::no_evidence(missed, cited);
    };
    // A moment too short for nine decimals is a moment all the same.
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
