//! Requests: the share of real requests that were answered, as whoever stands in front of a site counted them (AV-1).
//!
//! Availability is time, seen by looks from outside; this is what visitors got, each of whom weighs the same. **Problem.** Of a time in
//! which nobody counted it is not known how many requests there were, and a gate that is dead counts none that fails. **Principle.**
//! Such time weighs as much as it is long, as if it had had as many requests for its length as the time that was counted: in `low` all
//! of them have failed, in `high` none has. So no outage can hide in what is not counted, and nobody has to guess what came.
//!
//! In a window that is still filling, the time to come is taken for one in which none fails: broken is what can't be made good.

use std::cmp::Reverse;

use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, Ppb, ProbeId, Span, Spans};
use policy::Table;
use serde::{Deserialize, Serialize};

use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Records, Rule, above_zero, windows};
use crate::observed::Count;
use crate::ruling::{CITED_MAX, Case, Ruling};

/// The kind of the probes that count, in the public policy.
const GATE: &str = "gate";

/// At least this share of the requests was answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// The probe that stands for the site.
    pub probe: ProbeId,
    /// The promised share.
    pub at_least: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Requests {
    const ABOUT: &'static str = "\
The share of the real requests of a site that were answered: not with 5xx, and not cut off in the middle. The probe is that of `observe` in a \
`[[site]]`. Time in which nobody counted is not taken for answered.";
    const EXAMPLE: &'static str = r#"{ probe = "shop-edge", at_least = "99.9 %", over = "30 d" }"#;
    const DOC: &'static str = "so many of the real requests of a site are answered";
    const MEASURE: [&'static str; 2] = ["part des requêtes abouties", "share of requests answered"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let probe: Option<ProbeId> =
            table.required("probe", "the probe that counts them: that of `observe` in a `[[site]]`");
        let at_least: Option<Ppb> = table.required("at_least", "the share of the requests that are answered");
        let over = windows(table);
        if let Some(probe) = probe.clone() {
            table.check_against("probe", move |applied| {
                let declared = applied.probes.iter().find(|declared| declared.id == probe)?;
                let counting = applied.probes.iter().filter(|declared| &*declared.kind == GATE);
                let counting: Vec<_> = counting.map(|declared| format!("\"{}\"", declared.id)).collect();
                let instead = match &counting[..] {
                    [] => "have a [[site]] count its requests: observe = { service = …, probe = … }".to_owned(),
                    _ => format!("write a probe that does: {}", counting.join(", ")),
                };
                (&*declared.kind != GATE).then(|| (format!("the probe `{probe}` counts no requests"), instead))
            });
        }
        let (probe, at_least) = (probe?, at_least?);
        above_zero(table, "at_least", at_least, "0 % is kept whatever happens, so nothing is promised")?;
        Some(over?.into_iter().map(|over| Self { probe: probe.clone(), at_least, over }).collect())
    }
}

/// What was counted in a window.
#[derive(Default)]
struct Counted {
    answered: u128,
    failed: u128,
    /// Of counts that reach beyond the window: nobody knows which of them belong to it.
    perhaps_answered: u128,
    perhaps_failed: u128,
}

impl Counted {
    fn add(&mut self, count: &Count, window: Interval) {
        let is_inside = window.start <= count.start && count.end <= window.end;
        let (answered, failed) = if is_inside {
            (&mut self.answered, &mut self.failed)
        } else {
            (&mut self.perhaps_answered, &mut self.perhaps_failed)
        };
        *answered += u128::from(count.answered);
        *failed += u128::from(count.failed);
    }

    const fn is_nothing(&self) -> bool {
        self.answered + self.failed + self.perhaps_answered + self.perhaps_failed == 0
    }

    /// The least and the greatest share that was answered, in parts per billion, rounded outwards.
    fn share(&self) -> (i128, i128) {
        let one = u128::from(Ppb::ONE.parts().unsigned_abs());
        let (least_of, greatest) =
            (self.answered + self.failed + self.perhaps_failed, self.answered + self.perhaps_answered);
        let low = (self.answered * one).checked_div(least_of).unwrap_or(0);
        let greatest_of = greatest + self.failed;
        let high = if greatest_of == 0 { one } else { (greatest * one).div_ceil(greatest_of) };
        (low.cast_signed(), high.cast_signed())
    }
}

/// The parts per billion of `whole` when a share is that of `counted`, and of the rest all or nothing.
fn spread(share: i128, counted: Span, of_rest: Ppb, whole: Span) -> i128 {
    let rest = i128::from(whole.micros()) - i128::from(counted.micros());
    share * i128::from(counted.micros()) + i128::from(of_rest.parts()) * rest
}

impl Requests {
    /// The time of the window in which each observer that was asked to count did.
    fn counted(&self, case: &Case<'_>) -> Spans {
        let (declared, observed) = (case.evidence.declared, case.evidence.observed);
        let mut counted = Spans::new();
        let eras = declared.probe(&self.probe).into_iter().flat_map(|eras| eras.over(case.window));
        for (era, asked) in eras {
            let observers = asked.iter().flat_map(|asked| asked.observers.iter());
            let by_all = observers
                .map(|observer| observed.counted_in(observer, &self.probe, era))
                .reduce(|all, spans| all.intersect(&spans));
            counted = counted.union(&by_all.unwrap_or_default());
        }
        counted
    }
}

impl Rule for Requests {
    fn subject(&self) -> Subject {
        Subject::Probe(self.probe.clone())
    }

    fn promised(&self) -> Promised {
        Promised::AtLeast(self.at_least)
    }

    fn records(&self) -> Records {
        Records::Counted
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let Self { probe, at_least, .. } = self;
        let (window, over) = (case.window, case.over);
        let whole = window.length();
        let counted = self.counted(case).length();
        let missed = whole - counted;
        let observers = case.evidence.declared.observers(probe).into_iter();
        let mut counts: Vec<&Count> =
            observers.flat_map(|observer| case.evidence.observed.counts(observer, probe, window)).collect();
        let mut all = Counted::default();
        for count in &counts {
            all.add(count, window);
        }
        counts.sort_unstable_by_key(|count| {
            (Reverse(count.failed), Reverse(count.answered), count.start, count.sequence)
        });
        let mut cited = case.cite([probe]);
        counts.iter().take(CITED_MAX).for_each(|count| cited.cite(Some(count.sequence)));
        if window.is_empty() || all.is_nothing() {
            return Ruling::no_evidence(missed, cited);
        }
        let (least, greatest) = all.share();
        let low = spread(least, counted, Ppb::ZERO, whole).div_euclid(i128::from(whole.micros()));
        let best_of = |length: Span| {
            let micros = i128::from(length.micros());
            (spread(greatest, counted, Ppb::ONE, length) + micros - 1).div_euclid(micros)
        };
        let (high, best) = (best_of(whole), best_of(over));
        let (one, target) = (i128::from(Ppb::ONE.parts()), i128::from(at_least.parts()));
        let outcome = match () {
            () if low >= target => Outcome::Kept,
            () if best < target => Outcome::Broken,
            () => Outcome::Unproven,
        };
        let mut reasons = Vec::new();
        if missed > Span::ZERO {
            reasons.push(Reason::Unobserved { length: missed });
        }
        if outcome == Outcome::Kept && 2 * (one - best) > one - target {
            reasons.push(Reason::AtRisk);
        }
        // Both are shares of one at most.
        let [low, high] = [low, high].map(|share| i64::try_from(share).unwrap_or(i64::MAX));
        let figure = Figure { unit: Unit::Ppb, low, high, target: at_least.parts() };
        Ruling { outcome, figure: Some(figure), reasons, cited }
    }
}
