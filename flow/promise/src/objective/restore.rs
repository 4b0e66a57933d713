//! Restore: a backup is brought back exactly, every so often, within so long, and without losing much (BK-2, BK-5, BX-3).
//!
//! What is promised has up to three limits, and each is an objective of its own: the time between two exact restores, for the proof of
//! one decays until the next; how long each took (RTO); and how much of the newest data each would have lost (RPO). So each has a
//! figure and a verdict, and the promise that holds them is kept when all are. One figure for all three would hide which was missed: a
//! restore that took too long would look like none at all.
//!
//! A restore that failed, or that was not exact, is no entry: it shows as the time without one. The other two figures are the worst
//! of the window, and not an average: whoever needs the data needs it once.

use std::cmp::Reverse;

use event::promise::{Figure, Outcome, Unit};
use event::{Interval, ProbeId, Span, Spans, Time};
use policy::{BackupName, Table};
use serde::{Deserialize, Serialize};

use crate::backups::BackupKind;
use crate::line::Evidence;
use crate::lines::Subject;
use crate::objective::freshness::longest_gap;
use crate::objective::{ObjectiveKind, Promised, Rule, windows};
use crate::observed::{Restore as Restored, Success};
use crate::ruling::{CITED_MAX, Case, Ruling, touched};

/// What of the exact restores is limited.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The time between the ends of two of them.
    Every,
    /// The time that each takes: the recovery time, whose objective is the RTO.
    Within,
    /// The age of the newest instant that could be restored when each began: the recovery point, whose objective is the RPO.
    LosesAtMost,
}

/// One limit of the exact restores of a backup.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// What is limited.
    pub limit: Limit,
    /// The probe of the restores of the backup.
    pub probe: ProbeId,
    /// The limit.
    pub at_most: Span,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Restore {
    const ABOUT: &'static str = "\
A backup is restored exactly every so often; with `within`, each time within so long (RTO), and with `loses_at_most`, never losing more \
of the newest data than that (RPO). Each of the three is judged by itself.";
    const EXAMPLE: &'static str =
        r#"{ backup = "shop-db", every = "26 h", within = "4 h", loses_at_most = "15 min", over = "30 d" }"#;
    const DOC: &'static str = "a backup is restored exactly so often, so soon and with so little lost";
    const MEASURE: [&'static str; 2] =
        ["plus longue durée entre deux restaurations exactes", "longest time between two exact restores"];

    fn measure(&self) -> [&'static str; 2] {
        match self.limit {
            Limit::Every => Self::MEASURE,
            Limit::Within => ["plus longue restauration (RTO)", "longest restore (RTO)"],
            Limit::LosesAtMost => [
                "plus grande perte de données qu’une restauration aurait laissée (RPO)",
                "largest loss of data that a restore would have left (RPO)",
            ],
        }
    }

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let backup: Option<BackupName> = table.required("backup", "which backup");
        let every: Option<Span> = table.required("every", "the longest time between the ends of two exact restores");
        let has_within = table.has("within");
        let within: Option<Span> = table.optional("within", "the longest time that an exact restore may take (RTO)");
        let has_loses = table.has("loses_at_most");
        let loses_at_most: Option<Span> = table.optional(
            "loses_at_most",
            "how old the newest instant that can be restored may be when an exact restore begins (RPO)",
        );
        let over = windows(table);
        if let Some(backup) = backup.clone() {
            table.check_against("backup", move |applied| BackupKind::Restore.lacking(&backup, applied));
        }
        let (every, over) = (every?, over?);
        if has_within && within.is_none() || has_loses && loses_at_most.is_none() {
            return None;
        }
        let limits = [
            ("every", Limit::Every, Some(every), "no two restores end at the same instant", "26 h"),
            ("within", Limit::Within, within, "no restore is made in no time", "4 h"),
            (
                "loses_at_most",
                Limit::LosesAtMost,
                loses_at_most,
                "what was written last is never yet in a backup",
                "15 min",
            ),
        ];
        for (key, _, limit, reason, such_as) in &limits {
            if *limit == Some(Span::ZERO) {
                let reason = format!("{reason}, so nobody can keep this promise");
                table.mistake(key, reason, format!("write a limit that can be met, such as {key} = \"{such_as}\""));
                return None;
            }
        }
        if let Some(short) = over.iter().find(|over| **over <= every) {
            let reason = format!("a gap of more than {every} can't be seen in a window of {short}");
            table.mistake("every", reason, "make it shorter than every window in `over`");
            return None;
        }
        let probe = BackupKind::Restore.probe(&backup?)?;
        let given = limits.into_iter().filter_map(|(_, limit, at_most, ..)| Some((limit, at_most?)));
        let of = |(limit, at_most): (Limit, Span)| {
            let probe = probe.clone();
            over.iter().map(move |over| Self { limit, probe: probe.clone(), at_most, over: *over }).collect::<Vec<_>>()
        };
        Some(given.flat_map(of).collect())
    }
}

impl Rule for Restore {
    fn subject(&self) -> Subject {
        Subject::Probe(self.probe.clone())
    }

    fn promised(&self) -> Promised {
        Promised::AtMost(self.at_most)
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let Self { probe, at_most, .. } = self;
        match self.limit {
            Limit::Every => {
                let (observed, window) = (case.evidence.observed, case.window);
                longest_gap(case, probe, *at_most, |observer| {
                    let restores = observed.restores(observer, probe, window).iter();
                    restores.map(|restore| Success { at: restore.at, sequence: restore.sequence }).collect()
                })
            }
            Limit::Within => self.longest(case, |restore| (restore.began(), restore.at)),
            Limit::LosesAtMost => self.longest(case, |restore| (restore.began() - restore.lost, restore.began())),
        }
    }
}

/// A length that is limited, of one restore of the window.
struct Length {
    high: Span,
    low: Span,
    order: (Time, u64),
}

impl Restore {
    /// The ruling on the longest of the lengths that lie `between` two instants of each restore of the window.
    fn longest(&self, case: &Case<'_>, between: impl Fn(&Restored) -> (Time, Time)) -> Ruling {
        let Self { probe, at_most, .. } = self;
        let window = case.window;
        let Evidence { declared, observed } = case.evidence;
        let nothing = Spans::new();
        let mut lengths = Vec::new();
        for observer in declared.observers(probe) {
            let doubtful = observed.doubtful(observer).unwrap_or(&nothing);
            lengths.extend(observed.restores(observer, probe, window).iter().map(|restore| {
                let (from, until) = between(restore);
                let until = until.max(from);
                let length = until.since(from);
                // What the clock did before the window may be forgotten.
                let doubt = touched(doubtful, Interval::new(from.max(window.start), until.max(window.start)));
                let low = (length - doubt).max(Span::ZERO);
                Length { high: length + doubt, low, order: (restore.at, restore.sequence) }
            }));
        }
        lengths.sort_by_key(|length| (Reverse(length.high), length.order));
        let mut cited = case.cite([probe]);
        for Length { order: (_, sequence), .. } in lengths.iter().take(CITED_MAX) {
            cited.cite(Some(*sequence));
        }
        let low = lengths.iter().map(|length| length.low).max();
        let Some((low, high)) = low.zip(lengths.first().map(|length| length.high)) else {
            return Ruling::no_evidence(Span::ZERO, cited);
        };
        let outcome = match () {
            () if low > *at_most => Outcome::Broken,
            () if high <= *at_most => Outcome::Kept,
            () => Outcome::Unproven,
        };
        let figure = Figure { unit: Unit::Micros, low: low.micros(), high: high.micros(), target: at_most.micros() };
        Ruling { outcome, figure: Some(figure), reasons: Vec::new(), cited }
    }
}
