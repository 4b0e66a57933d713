//! Absence: a finding was never open, and all the probes in which it is looked for were observed for long enough to say
//! so (WA-2).
//!
//! A detector writes an entry only when it finds something. Silence is therefore good news, but only where its probes
//! were observed: without coverage, it is no news.

use std::collections::BTreeSet;

use event::policy::Objective;
use event::{FindingId, Ppb, Span};
use policy::{Section, Table};

use crate::configuration::never;
use crate::lines::Subject;
use crate::ruling::{Case, Ruling, longest_first};
use crate::terms::{ENOUGH, Terms, windows};

/// `absence = { … }` of a promise.
pub(crate) struct Absence {
    finding: FindingId,
    observed: Ppb,
    over: Vec<Span>,
}

impl Section for Absence {
    const ABOUT: &'static str = "A finding is never open.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let finding = table.required("finding", "which finding");
        let doc = "the share of the window during which all probes that look for it must have been observed";
        let observed = table.or("observed", ENOUGH, doc);
        let over = windows(table);
        Some(Self { finding: finding?, observed, over: over? })
    }
}

impl Terms for Absence {
    fn objectives(self) -> Vec<Objective> {
        let Self { finding, observed, over } = self;
        over.into_iter().map(|over| Objective::Absence { finding: finding.clone(), observed, over }).collect()
    }
}

pub(crate) fn rule(case: &mut Case<'_>, finding: &FindingId, observed: Ppb) -> Ruling {
    let evidence = case.evidence;
    let worst = case.state(&Subject::Finding(finding.clone()));
    let eras = evidence.declared.finding(finding).into_iter().flat_map(|eras| eras.over(case.window));
    let probes: BTreeSet<_> = eras.flat_map(|(_, probes)| probes).collect();
    let mut cited = case.cite(probes.iter().copied());
    for open in longest_first(&worst.line.down) {
        if cited.is_full() {
            break;
        }
        for probe in &probes {
            let observers = evidence.declared.observers(probe).into_iter();
            for steps in observers.filter_map(|o| evidence.observed.finding_steps(o, probe, finding)) {
                steps.bounding(open, case.window).into_iter().for_each(|sequence| cited.cite(Some(sequence)));
            }
        }
    }
    never(case.window, &worst.line, &worst.blind, observed, cited)
}
