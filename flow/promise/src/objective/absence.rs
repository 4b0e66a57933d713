//! Absence: a finding was never open, and all the probes in which it is looked for were observed for long enough to say
//! so (WA-2).
//!
//! A detector writes an entry only when a finding opens or closes. So the absence of entries proves something only where the
//! probes were covered.

use std::collections::BTreeSet;

use event::{FindingId, Ppb, Span};
use policy::Table;
use serde::{Deserialize, Serialize};

use crate::lines::Subject;
use crate::objective::configuration::never;
use crate::objective::{ObjectiveKind, Promised, Rule, observed, windows};
use crate::ruling::{Case, Ruling, longest_first};

/// The finding was never open.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// The finding.
    pub finding: FindingId,
    /// Share of the window during which all probes in which it is looked for must have been observed for the promise to be kept.
    pub observed: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Absence {
    const ABOUT: &'static str = "A finding is never open.";
    const EXAMPLE: &'static str = r#"{ finding = "disk-usage", over = "30 d" }"#;
    const DOC: &'static str = "a finding is never open";
    const MEASURE: [&'static str; 2] = ["absence constatée", "absence observed"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let finding: Option<FindingId> = table.required("finding", "which finding");
        let doc = "the share of the window during which all probes that look for it must have been observed";
        let observed = observed(table, doc);
        let over = windows(table);
        let (finding, observed) = (finding?, observed?);
        Some(over?.into_iter().map(|over| Self { finding: finding.clone(), observed, over }).collect())
    }
}

impl Rule for Absence {
    fn subject(&self) -> Subject {
        Subject::Finding(self.finding.clone())
    }

    fn promised(&self) -> Promised {
        Promised::Never(self.observed)
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let finding = &self.finding;
        let evidence = case.evidence;
        let worst = case.state(&self.subject());
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
        never(case.window, &worst.line, &worst.blind, self.observed, cited)
    }
}
