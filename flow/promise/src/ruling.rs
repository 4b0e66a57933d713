//! The input and the output of the rule of an objective, and what rules share: citations, shares and their rounding, budgets.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, ObserverId, Ppb, ProbeId, ServiceId, Span, Spans, Time};

use crate::line::{Evidence, Line, Worst};
use crate::lines::{Lines, Subject, outage_at};
use crate::maintenance;

/// Most entries that a verdict names.
pub(crate) const CITED_MAX: usize = 16;

/// Most coverage records among those entries.
pub(crate) const COVERAGE_CITED_MAX: usize = 5;

/// The input of a rule: the evidence and the window.
pub(crate) struct Case<'a> {
    pub evidence: Evidence<'a>,
    pub lines: &'a mut Lines,
    pub window: Interval,
    /// The instant from which on nothing is forgotten.
    pub since: Time,
    /// Length of a whole window. That of a young promise is shorter.
    pub over: Span,
}

/// The output of a rule: a verdict without its header.
pub(crate) struct Ruling {
    pub outcome: Outcome,
    pub figure: Option<Figure>,
    pub reasons: Vec<Reason>,
    pub cited: Cited,
}

impl Ruling {
    /// The ruling without any evidence: unproven, whatever is promised.
    pub(crate) fn no_evidence(unobserved: Span, cited: Cited) -> Self {
        Self::nothing(vec![Reason::NoEvidence], unobserved, cited)
    }

    /// The same, with `reasons` instead of [`Reason::NoEvidence`].
    pub(crate) fn nothing(mut reasons: Vec<Reason>, unobserved: Span, cited: Cited) -> Self {
        if unobserved > Span::ZERO {
            reasons.push(Reason::Unobserved { length: unobserved });
        }
        Self { outcome: Outcome::Unproven, figure: None, reasons, cited }
    }
}

/// The entries that a verdict cites: the first [`CITED_MAX`] that a rule names, so it names the weightiest first.
#[derive(Default)]
pub(crate) struct Cited(BTreeSet<u64>);

impl Cited {
    pub(crate) fn cite(&mut self, sequence: Option<u64>) {
        if !self.is_full() {
            self.0.extend(sequence);
        }
    }

    /// Whether no further entry is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= CITED_MAX
    }

    /// The entries in the order of the log.
    pub(crate) fn into_sequences(self) -> Vec<u64> {
        self.0.into_iter().collect()
    }
}

impl Case<'_> {
    /// The state of the subject over the window.
    pub(crate) fn state(&mut self, subject: &Subject) -> Worst {
        self.lines.state(self.evidence, subject, self.window).clip(self.window)
    }

    /// The state of the subject over the part of the window that is not set apart.
    pub(crate) fn line(&mut self, subject: &Subject, apart: &Spans) -> Line {
        self.lines.state(self.evidence, subject, self.window).line.clip(self.window).without(apart)
    }

    /// The time of the window during which at least one probe of the subject was not observed.
    pub(crate) fn blind(&mut self, subject: &Subject) -> Spans {
        self.lines.state(self.evidence, subject, self.window).blind.clip(self.window)
    }

    /// The time of the window that is set apart for maintenance of the service.
    pub(crate) fn apart(&self, service: &ServiceId) -> Spans {
        let Some(windows) = self.evidence.declared.maintenance(service) else { return Spans::new() };
        let subject = Subject::Service(service.clone());
        let Self { evidence, window, since, .. } = self;
        let outage_at = |time| outage_at(*evidence, &subject, time, window.end, *since);
        // `Judge::remembers` is asked first whether something needed is forgotten.
        maintenance::set_apart(windows, *window, outage_at).unwrap_or_default()
    }

    /// Cites the policy in effect and the newest coverage records of the observers of these probes. An observer that fell silent
    /// before the window is no evidence, and its last record may be destroyed.
    pub(crate) fn cite<'p>(&self, probes: impl IntoIterator<Item = &'p ProbeId>) -> Cited {
        let Evidence { declared, observed } = self.evidence;
        let mut cited = Cited::default();
        cited.cite(declared.sequence());
        let observers: BTreeSet<&ObserverId> = probes.into_iter().flat_map(|probe| declared.observers(probe)).collect();
        let newest = observers.into_iter().filter_map(|observer| observed.newest_coverage(observer, self.window.start));
        newest.take(COVERAGE_CITED_MAX).for_each(|sequence| cited.cite(Some(sequence)));
        cited
    }

    /// Cites the changes that bound the longest of these outages, as each observer of these probes saw them.
    pub(crate) fn cite_outages(&self, cited: &mut Cited, probes: &BTreeSet<&ProbeId>, outages: &Spans) {
        let Evidence { declared, observed } = self.evidence;
        for outage in longest_first(outages).take(CITED_MAX) {
            if cited.is_full() {
                return;
            }
            for probe in probes {
                for steps in declared.observers(probe).into_iter().filter_map(|o| observed.steps(o, probe)) {
                    steps.bounding(outage, self.window).into_iter().for_each(|sequence| cited.cite(Some(sequence)));
                }
            }
        }
    }

    /// Every probe that belonged to the service at some time of the window.
    pub(crate) fn probes(&self, service: &ServiceId) -> BTreeSet<&ProbeId> {
        let eras = self.evidence.declared.service(service);
        eras.into_iter().flat_map(|eras| eras.over(self.window)).flat_map(|(_, probes)| probes).collect()
    }
}

/// The intervals of a set, longest first, of equal ones the earlier first. They are sorted as far as they are asked for: a year
/// may have thousands, and a verdict cites few.
pub(crate) fn longest_first(spans: &Spans) -> impl Iterator<Item = Interval> {
    let intervals = spans.intervals().iter();
    let mut left: BinaryHeap<_> = intervals.map(|i| (i.length(), Reverse(i.start), i.end)).collect();
    std::iter::from_fn(move || left.pop().map(|(_, Reverse(start), end)| Interval::new(start, end)))
}

/// The whole length of those spans that touch `gap`.
pub(crate) fn touched(spans: &Spans, gap: Interval) -> Span {
    let first = spans.intervals().partition_point(|span| span.end < gap.start);
    let touching = spans.intervals()[first..].iter().take_while(|span| span.start <= gap.end);
    touching.fold(Span::ZERO, |sum, span| sum + span.length())
}

/// `part / whole` in parts per billion, rounded down and rounded up. `None` when the whole is zero.
pub(crate) fn share(part: Span, whole: Span) -> Option<(i64, i64)> {
    let low = Ppb::share(part, whole)?.parts();
    let exact = i128::from(low) * i128::from(whole.micros()) == i128::from(part.micros()) * 1_000_000_000;
    Some((low, low + i64::from(!exact)))
}

/// The time that may go wrong over a whole window (`of`), and bounds of what has gone wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub used_at_least: Span,
    pub used_at_most: Span,
    pub of: Span,
}

impl Budget {
    /// The time that may go wrong when `target` is promised over `over`, of which `apart` does not count; rounded down to a µs.
    pub(crate) fn of(target: Ppb, over: Span, apart: Span) -> Span {
        let counted = over.micros().saturating_sub(apart.micros());
        let missing = i128::from(Ppb::ONE.parts()) - i128::from(target.parts());
        let of = (missing * i128::from(counted)).div_euclid(i128::from(Ppb::ONE.parts()));
        Span::from_micros(i64::try_from(of).unwrap_or(i64::MAX))
    }

    pub(crate) const fn reason(self) -> Reason {
        let Self { used_at_least, used_at_most, of } = self;
        Reason::Budget { used_at_least, used_at_most, of }
    }

    /// Whether more than half of it is used for certain.
    pub(crate) fn is_at_risk(self) -> bool {
        2 * i128::from(self.used_at_least.micros()) > i128::from(self.of.micros())
    }
}

impl Case<'_> {
    /// The outcome and the figure of a promise of `target` or more, for the share `[low, high]`. In a window that is still filling
    /// the promise is broken only when more went wrong for certain than may go wrong in a whole window.
    pub(crate) fn at_least(&self, low: i64, high: i64, target: Ppb, budget: Budget) -> (Outcome, Figure) {
        let target = target.parts();
        let is_lost = if self.window.length() < self.over { budget.used_at_least > budget.of } else { high < target };
        let outcome = match () {
            () if low >= target => Outcome::Kept,
            () if is_lost => Outcome::Broken,
            () => Outcome::Unproven,
        };
        (outcome, Figure { unit: Unit::Ppb, low, high, target })
    }
}
