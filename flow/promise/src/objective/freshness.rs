//! Freshness: two successes of a heartbeat, or of a kind of backup, are never further apart than promised.
//!
//! The figure is the longest gap inside the window, from its start to the first success and from the last success to
//! its end included: a job that stopped must not look fresh because it once was. Where nobody listened, a ping may have been
//! missed. So `low` is the longest stretch that was listened to without hearing a success, `high` the longest between
//! two successes. Where the clock of a listener stepped, `high` also counts the labels that mean nothing, because a
//! clock that is put back makes two successes look closer than they were.

use event::policy::{Applied, Probe};
use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, ObserverId, ProbeId, Span, Spans};
use policy::{BackupName, Table};
use serde::{Deserialize, Serialize};

use crate::backups::{BACKUP, BackupKind};
use crate::line::Evidence;
use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Rule, windows};
use crate::observed::{Aspect, Success};
use crate::ruling::{Case, Ruling, touched};

/// Two successes of a heartbeat, or of a kind of backup, are never further apart than this.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// The heartbeat, or the probe of the kind of backup.
    pub probe: ProbeId,
    /// Longest time allowed between two successes.
    pub at_most: Span,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Freshness {
    const ABOUT: &'static str = "\
Two successful pings of a heartbeat are never further apart than this; or, with `backup` and `kind`, two backups \
of that kind.";
    const EXAMPLE: &'static str = r#"{ probe = "shop-db-dump", at_most = "26 h", over = "30 d" }"#;
    const DOC: &'static str = "a heartbeat, or a kind of backup, succeeds at least so often";
    const MEASURE: [&'static str; 2] = ["plus longue durée entre deux succès", "longest time between two successes"];

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let probe = probe(table);
        let at_most: Option<Span> = table.required("at_most", "the longest time between two successes");
        let over = windows(table);
        let (at_most, over) = (at_most?, over?);
        if at_most == Span::ZERO {
            let reason = "no two successes are at the same instant, so nobody can keep this promise";
            table.mistake("at_most", reason, "write how long the data may go without a success, such as \"26 h\"");
            return None;
        }
        if let Some(short) = over.iter().find(|over| **over <= at_most) {
            let reason = format!("a gap of more than {at_most} can't be seen in a window of {short}");
            table.mistake("at_most", reason, "make it shorter than every window in `over`");
            return None;
        }
        let probe = probe?;
        Some(over.into_iter().map(|over| Self { probe: probe.clone(), at_most, over }).collect())
    }
}

/// The kind of probe that counts pings.
const HEARTBEAT: &str = "heartbeat";

/// Reads what must succeed: `probe`, or `backup` and `kind`.
fn probe(table: &mut Table<'_>) -> Option<ProbeId> {
    let doc = "which heartbeat; or the probe of a backup, which `backup` and `kind` name as well";
    let probe: Option<ProbeId> = table.optional("probe", doc);
    let backup: Option<BackupName> = table.optional("backup", "in the place of `probe`, which backup");
    let kind: Option<BackupKind> = table.optional("kind", "of a backup, of which of its kinds");
    if let Some(probe) = probe.clone() {
        table.check_against("probe", move |applied| has_successes(&probe, applied));
    }
    if let (Some(backup), Some(kind)) = (backup.clone(), kind) {
        table.check_against("kind", move |applied| kind.lacking(&backup, applied));
    }
    match (table.has("probe"), table.has("backup"), table.has("kind")) {
        (true, false, false) => probe,
        (false, true, true) => kind?.probe(&backup?),
        (true, ..) => {
            let extra = if table.has("backup") { "backup" } else { "kind" };
            let remedy = "remove `probe`, or `backup` and `kind`: of two things make two objectives";
            table.mistake(extra, format!("`probe` says already what must succeed, and so does `{extra}`"), remedy);
            None
        }
        (false, true, false) => {
            let reason = "of a backup, one kind is promised: each is made at times of its own";
            table.mistake("backup", reason, "add kind = \"log\", or \"full\", \"incremental\" or \"restore\"");
            None
        }
        (false, false, true) => {
            table.mistake("kind", "`kind` is that of a backup, and none is named", "add backup = \"…\" beside it");
            None
        }
        (false, false, false) => {
            let remedy = "add probe = \"…\" with a heartbeat, or backup = \"…\" and kind = \"log\"";
            table.mistake("", "nothing says what must succeed", remedy);
            None
        }
    }
}

/// What is wrong with a probe that counts no successes; one that is not there is reported as such.
fn has_successes(probe: &ProbeId, applied: &Applied) -> Option<(String, String)> {
    let declared = applied.probes.iter().find(|declared| declared.id == *probe)?;
    let Probe { kind, service, .. } = declared;
    (![HEARTBEAT, BACKUP].contains(&&**kind)).then(|| {
        let reason = format!(
            "`{probe}` is a [[probe.{kind}]], and only heartbeats and backups have successes of which freshness tells"
        );
        let remedy = format!(
            "name a [[probe.heartbeat]] or a backup, or promise the availability of service `{service}`, or the configuration of \
             this probe"
        );
        (reason, remedy)
    })
}

impl Rule for Freshness {
    fn subject(&self) -> Subject {
        Subject::Probe(self.probe.clone())
    }

    fn promised(&self) -> Promised {
        Promised::AtMost(self.at_most)
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        let Self { probe, at_most, .. } = self;
        let (observed, window) = (case.evidence.observed, case.window);
        longest_gap(case, probe, *at_most, |observer| observed.successes(observer, probe, window).to_vec())
    }
}

/// The ruling on the longest time between two successes of a probe, those that each of its observers `heard_by` in the window.
pub(super) fn longest_gap(
    case: &Case<'_>,
    probe: &ProbeId,
    at_most: Span,
    heard_by: impl Fn(&ObserverId) -> Vec<Success>,
) -> Ruling {
    let window = case.window;
    let Evidence { declared, observed } = case.evidence;
    let mut heard: Vec<Success> = Vec::new();
    let mut listened = Spans::new();
    let mut doubtful = Spans::new();
    for observer in declared.observers(probe) {
        heard.extend(heard_by(observer));
        listened = listened.union(&observed.covered(declared, observer, probe, Aspect::State, window));
        if let Some(spans) = observed.doubtful(observer) {
            doubtful = doubtful.union(spans);
        }
    }
    heard.sort_unstable();
    let missed = window.length() - listened.length();
    let mut cited = case.cite([probe]);
    if window.is_empty() || heard.is_empty() && listened.is_empty() {
        return Ruling::no_evidence(missed, cited);
    }

    let gap = |i: usize| {
        let start = if i == 0 { window.start } else { heard[i - 1].at };
        Interval::new(start, heard.get(i).map_or(window.end, |success| success.at))
    };
    let low = (0..=heard.len()).map(|i| longest(&listened, gap(i))).max().unwrap_or(Span::ZERO);
    let possible = |i: usize| gap(i).length() + touched(&doubtful, gap(i));
    let (worst, high) =
        (0..=heard.len()).map(|i| (i, possible(i))).max_by_key(|(i, length)| (*length, *i)).unwrap_or_default();
    let bounds = [worst.checked_sub(1), Some(worst)];
    bounds.into_iter().flatten().for_each(|i| cited.cite(heard.get(i).map(|success| success.sequence)));

    let outcome = match () {
        () if low > at_most => Outcome::Broken,
        () if high <= at_most && !heard.is_empty() => Outcome::Kept,
        () => Outcome::Unproven,
    };
    let mut reasons = Vec::new();
    if heard.is_empty() && outcome != Outcome::Broken {
        reasons.push(Reason::NoEvidence);
    }
    if missed > Span::ZERO {
        reasons.push(Reason::Unobserved { length: missed });
    }
    let figure = Figure { unit: Unit::Micros, low: low.micros(), high: high.micros(), target: at_most.micros() };
    Ruling { outcome, figure: Some(figure), reasons, cited }
}

/// The longest of these spans inside `gap`.
fn longest(spans: &Spans, gap: Interval) -> Span {
    spans.inside(gap).map(Interval::length).max().unwrap_or(Span::ZERO)
}
