//! Figures of the guard, which its server shows in `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use engine::metrics::{FiguresTold, ToldFigure, ToldSample};

use crate::totals::RuleTotals;

const fn gauge(name: &'static str, about: &'static str) -> ToldFigure {
    ToldFigure { name, about, is_counter: false, label: None }
}

const fn counter(name: &'static str, about: &'static str, label: Option<&'static str>) -> ToldFigure {
    ToldFigure { name, about, is_counter: true, label }
}

const ENFORCED: ToldFigure = gauge("garant_guard_enforced", "Whether the packet filter drops who is banned.");
const BANS: ToldFigure = gauge("garant_guard_bans", "Bans in force.");
const UNREAD: ToldFigure = gauge("garant_guard_unread", "Logs that are not read, and rules that are not followed.");
const BANNED: ToldFigure = counter("garant_guard_banned", "Bans made.", None);
const LINES: ToldFigure = counter("garant_guard_lines", "Lines read.", None);
const FAILURES: ToldFigure = counter("garant_guard_failures", "Failures that a rule has counted.", Some("rule"));
const OFFENCES: ToldFigure = counter("garant_guard_offences", "Offences that failures have completed.", Some("rule"));

/// The figures. What is counted begins when the agent starts.
pub const FIGURES: &[ToldFigure] = &[ENFORCED, BANS, UNREAD, BANNED, LINES, FAILURES, OFFENCES];

/// How the guard stands.
#[derive(Default, Debug)]
pub(crate) struct Standing {
    pub(crate) is_enforced: bool,
    pub(crate) bans: u64,
    pub(crate) unread: u64,
    pub(crate) banned: u64,
    pub(crate) lines: u64,
    /// Of each rule by its name.
    pub(crate) rules: BTreeMap<String, RuleTotals>,
}

/// The figures as they stand; none while nothing is desired.
#[derive(Default, Debug)]
pub struct Figures(Mutex<Option<Standing>>);

impl Figures {
    pub(crate) fn stand(&self, standing: Option<Standing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

impl FiguresTold for Figures {
    fn told(&self) -> Vec<ToldSample> {
        let standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Standing { is_enforced, bans, unread, banned, lines, rules }) = &*standing else { return Vec::new() };
        let sample = |figure: ToldFigure, of: Option<&String>, count| {
            let figure = figure.name.to_owned();
            ToldSample { figure, of: of.cloned(), count }
        };
        let mut told = vec![
            sample(ENFORCED, None, u64::from(*is_enforced)),
            sample(BANS, None, *bans),
            sample(UNREAD, None, *unread),
            sample(BANNED, None, *banned),
            sample(LINES, None, *lines),
        ];
        for (rule, totals) in rules {
            told.push(sample(FAILURES, Some(rule), totals.failures));
            told.push(sample(OFFENCES, Some(rule), totals.offences));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use engine::metrics::{MetricsFormat, MetricsText};

    use super::*;

    /// NH-1: how the guard is doing is seen from outside.
    #[test]
    fn figures_are_those_of_its_status() {
        let figures = Figures::default();
        assert_eq!(figures.told(), [], "without [guard] there are none");
        let rules = [("sshd".to_owned(), RuleTotals { failures: 7, offences: 2, nameless: 0 })].into();
        figures.stand(Some(Standing { is_enforced: true, bans: 1, unread: 3, banned: 2, lines: 90, rules }));
        let mut text = MetricsText::new(MetricsFormat::OpenMetrics);
        text.told(FIGURES, &figures.told());
        let text = text.finish();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "garant_guard_enforced 1",
                "garant_guard_bans 1",
                "garant_guard_unread 3",
                "garant_guard_banned_total 2",
                "garant_guard_lines_total 90",
                "garant_guard_failures_total{rule=\"sshd\"} 7",
                "garant_guard_offences_total{rule=\"sshd\"} 2",
            ]
        );
    }
}
