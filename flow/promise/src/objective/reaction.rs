//! Reaction: somebody is told of every failure of a service within so long (WA-3), or every offender is banned (NH-1, in
//! [`offences`]).
//!
//! A failure runs from when a service is down, by the agreement of its observers, until it is up again; observers that disagree or
//! fall silent in between do not end it, for nobody is told of one failure twice. It is told once a channel accepts a message about a
//! change of one of its probes. `low` is what is certain, `high` what is possible: a failure that nobody was told of was perhaps over
//! before anybody had to be, and a clock that stepped makes both of its ends doubtful.
//!
//! A failure that is over within the time promised asks for nobody: telling nobody of it does not count, and telling somebody late
//! neither, or silence would be the better choice. Where nothing failed, test messages say how long the way to somebody is.

mod offences;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use event::promise::{Figure, Outcome, Reason, Unit};
use event::{Interval, Ppb, ProbeId, ServiceId, Span, Spans, Time};
use policy::{Slot, Table, Value};

use serde::{Deserialize, Serialize};

use crate::line::{Evidence, Line, Worst};
use crate::lines::Subject;
use crate::objective::{ObjectiveKind, Promised, Rule, observed, windows};
use crate::observed::{LATE, Reaction as Message};
use crate::ruling::{CITED_MAX, Case, Cited, Ruling, share, touched};

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// Failures of a service: somebody is told.
    #[default]
    Failures,
    /// Offences that the probes of a service saw: the offender is banned.
    Offences,
}

impl Answered {
    /// Whether the word is left out of the public form, which had none before there were two.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_failures(&self) -> bool {
        *self == Self::Failures
    }
}

impl Value for Answered {
    const SHAPE: &'static str = "\"failures\" or \"offences\"";
    const EXAMPLE: &'static str = "\"offences\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("failures", Self::Failures), ("offences", Self::Offences)])
    }
}

/// Every failure, or every offence, is answered within so long.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Reaction {
    /// What is answered.
    #[serde(default, skip_serializing_if = "Answered::is_failures")]
    pub to: Answered,
    /// The service; without one, each of all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// Longest time allowed from the end of the first sample that shows the failure until a channel accepts the message, or from
    /// when the offence is complete until the ban is in force.
    pub within: Span,
    /// Share of the window during which all probes must have been observed for the promise to be kept; of offences, been up.
    pub observed: Ppb,
    /// Length of the window.
    pub over: Span,
}

impl ObjectiveKind for Reaction {
    const ABOUT: &'static str = "\
Somebody is told of every failure of a service within so long, announced maintenance set apart. Without a failure, test messages show \
how long the way is. With `to = \"offences\"`, every offender that the probes of the service see is banned within so long, and only \
bans show it.";
    const EXAMPLE: &'static str = r#"{ service = "shop", within = "3 min", over = "30 d" }"#;
    const DOC: &'static str = "somebody is told of a failure, or an offender is banned, within so long";
    const MEASURE: [&'static str; 2] =
        ["plus longue attente avant que quelqu’un soit prévenu", "longest time until somebody was told"];

    fn measure(&self) -> [&'static str; 2] {
        match self.to {
            Answered::Failures => Self::MEASURE,
            Answered::Offences => {
                ["plus longue attente avant un bannissement", "longest time until an offender was banned"]
            }
        }
    }

    fn read(table: &mut Table<'_>) -> Option<Vec<Self>> {
        let given: Option<Answered> = table.optional(
            "to",
            "what is answered: \"failures\", as without it, by telling somebody, or \"offences\" by a ban",
        );
        let is_misspelt = table.has("to") && given.is_none();
        let to = given.unwrap_or_default();
        let doc = "which service; without one, each of all services. Offences need one";
        let has_service = table.has("service");
        let service: Option<ServiceId> = table.optional("service", doc);
        let within: Option<Span> = table.required(
            "within",
            "the longest time from the first sample that shows a failure until a channel accepts the message about it, or \
             from when an offence is complete, by the date of its last failure, until the ban is in force",
        );
        let doc = "the share of the window during which all probes must have been observed; with `to = \"offences\"`, been up";
        let observed = observed(table, doc);
        let over = windows(table);
        let (within, over, observed) = (within?, over?, observed?);
        if is_misspelt {
            return None;
        }
        if to == Answered::Offences && !has_service {
            let reason = "`to = \"offences\"` needs `service`: offences are what the probes of one service see";
            table.mistake("to", reason, "name the service of the guard's probes, such as service = \"guard\"");
            return None;
        }
        if within == Span::ZERO {
            let (reason, remedy) = match to {
                Answered::Failures => {
                    ("nobody can be told at the instant of a failure, so nobody can keep this promise", "3 min")
                }
                Answered::Offences => {
                    ("nobody can be banned at the instant of an offence, so nobody can keep this promise", "2 s")
                }
            };
            table.mistake("within", reason, format!("write how long it may take, such as \"{remedy}\""));
            return None;
        }
        if let Some(short) = over.iter().find(|over| **over <= within) {
            let reason = format!("a reaction of more than {within} can't be seen in a window of {short}");
            table.mistake("within", reason, "make it shorter than every window in `over`");
            return None;
        }
        Some(over.into_iter().map(|over| Self { to, service: service.clone(), within, observed, over }).collect())
    }
}

impl Rule for Reaction {
    fn subject(&self) -> Subject {
        self.service.clone().map_or(Subject::AllServices, Subject::Service)
    }

    fn promised(&self) -> Promised {
        Promised::AtMost(self.within)
    }

    fn sets_maintenance_apart(&self) -> bool {
        self.to == Answered::Failures
    }

    fn judge(&self, case: &mut Case<'_>) -> Ruling {
        if self.to == Answered::Offences {
            return offences::judge(self, case);
        }
        let window = case.window;
        let evidence = case.evidence;
        let services = match &self.service {
            Some(service) => vec![service],
            None => evidence.declared.services_over(window),
        };
        let mut all = Totals::default();
        let mut failures = Vec::new();
        for service in &services {
            let apart = case.apart(service);
            let line = case.line(&Subject::Service((*service).clone()), &Spans::new());
            let up = line.up.clone();
            let line = line.without(&apart);
            failures.extend(self.failures(case, service, &up, &line));
            all.add(&line, &apart);
        }
        let Worst { line: Line { lone, .. }, blind } = case.state(&self.subject());
        let missed = blind.length();
        let mut cited = case.cite(services.iter().flat_map(|service| case.probes(service)));
        failures.sort_by_key(|failure| (Reverse(failure.high), failure.start));
        for failure in failures.iter().take(CITED_MAX) {
            failure.cite(case, &mut cited);
        }
        let mut bounds: Vec<(Span, Span)> = failures.iter().map(|failure| (failure.low, failure.high)).collect();
        let has_failed = failures.iter().any(|failure| failure.down.is_some());
        let mut is_proved = has_failed;
        if !has_failed {
            let mut tests = evidence.observed.tests(window);
            is_proved = !tests.is_empty();
            tests.sort_by_key(|(_, test)| {
                (Reverse(Interval::new(test.since, test.at).length()), test.at, test.sequence)
            });
            for (vantage, test) in tests {
                cited.cite(Some(test.sequence));
                let doubtful = evidence.observed.stepped(vantage).cloned().unwrap_or_default();
                bounds.push(lasted(&doubtful, test.since, test.at));
            }
        }
        let (low, high) = (bounds.iter().map(|(low, _)| *low).max(), bounds.iter().map(|(_, high)| *high).max());
        let (Some((low, high)), false) = (low.zip(high), window.is_empty()) else {
            return Ruling::no_evidence(missed, cited);
        };
        let seen = share(window.length() - missed, window.length());
        let enough = seen.is_some_and(|(share, _)| share >= self.observed.parts());
        let outcome = match () {
            () if low > self.within => Outcome::Broken,
            () if is_proved && high <= self.within && enough => Outcome::Kept,
            () => Outcome::Unproven,
        };
        let (low, high, target) = (low.micros(), high.micros(), self.within.micros());
        let figure = Figure { unit: Unit::Micros, low, high, target };
        let reasons = all.reasons(is_proved, missed, lone.length(), window);
        Ruling { outcome, figure: Some(figure), reasons, cited }
    }
}

impl Reaction {
    /// The failures of a service that bear on the figure. `up` is the whole of the time at which it was up, `line` lacks maintenance.
    fn failures(&self, case: &Case<'_>, service: &ServiceId, up: &Spans, line: &Line) -> Vec<Failure> {
        let window = case.window;
        let next = up.intervals().iter().skip(1).map(|up| up.start).chain([window.end]);
        let troubles = up.intervals().iter().zip(next).filter_map(|(up, end)| {
            let trouble = Interval::new(up.end, end);
            let mut down = line.down.inside(trouble);
            let down = down.next().map(|first| Interval::new(first.start, down.last().map_or(first.end, |i| i.end)));
            let start = down.or_else(|| line.undecided.inside(trouble).next())?.start;
            Some((up.start, trouble, start, down))
        });
        let mut troubles = troubles.peekable();
        if troubles.peek().is_none() {
            return Vec::new();
        }
        let Evidence { declared, observed } = case.evidence;
        let probes = case.probes(service);
        let observers: BTreeSet<_> = probes.iter().flat_map(|probe| declared.observers(probe)).collect();
        let doubtful = observers.into_iter().filter_map(|observer| observed.doubtful(observer));
        let doubtful = doubtful.fold(Spans::new(), |all, spans| all.union(spans));
        let mut messages: Vec<(&str, Message)> = probes.iter().flat_map(|probe| observed.reactions(probe)).collect();
        messages.sort_by_key(|(_, message)| message.since);

        let failure = |(recovered, trouble, start, down): (Time, Interval, Time, Option<Interval>)| {
            let about = |message: &Message| message.since >= trouble.start || message.at >= trouble.start;
            let first = messages.partition_point(|(_, message)| message.since < recovered);
            let after = messages.partition_point(|(_, message)| message.since < trouble.end);
            let told = messages[first..after].iter().filter(|(_, message)| about(message));
            let told = told.min_by_key(|(_, message)| (message.at, message.sequence));
            let doubtful = match told.and_then(|(vantage, _)| observed.stepped(vantage)) {
                Some(spans) => doubtful.union(spans),
                None => doubtful.clone(),
            };
            let told = told.map(|(_, message)| *message);
            let since = |until: Time| lasted(&doubtful, start, until);
            let due = start + self.within;
            let (low, high) = match told {
                Some(message) if message.at <= due => {
                    down?;
                    since(message.at)
                }
                _ if since(trouble.end).1 <= self.within => return None,
                _ => {
                    let (low, high) = since(told.map_or(trouble.end, |message| message.at));
                    let certain = down.map(|down| since(down.end).0).filter(|certain| *certain > self.within);
                    let low = match (certain, told) {
                        (Some(_), Some(_)) => low,
                        // Until then, the entry may be on its way.
                        (Some(certain), None) if window.end >= due + LATE => certain,
                        _ => Span::ZERO,
                    };
                    (low, high)
                }
            };
            let probes = probes.iter().map(|probe| (*probe).clone()).collect();
            Some(Failure { start, down, low, high, told: told.map(|message| message.sequence), probes })
        };
        troubles.filter_map(failure).collect()
    }
}

/// A failure, or with `down` absent perhaps one, that bears on the figure.
struct Failure {
    /// When it was seen.
    start: Time,
    /// From there until the end of the last time at which the service was certainly down.
    down: Option<Interval>,
    low: Span,
    high: Span,
    /// The entry that says that somebody was told.
    told: Option<u64>,
    /// The probes of the service.
    probes: Vec<ProbeId>,
}

impl Failure {
    fn cite(&self, case: &Case<'_>, cited: &mut Cited) {
        cited.cite(self.told);
        if let Some(down) = self.down {
            case.cite_outages(cited, &self.probes.iter().collect(), &[down].into_iter().collect());
        }
    }
}

/// Bounds of the time from `from` until `until`, both read from clocks that stepped during the doubtful time.
fn lasted(doubtful: &Spans, from: Time, until: Time) -> (Span, Span) {
    let time = Interval::new(from, until.max(from));
    let (length, doubt) = (time.length(), touched(doubtful, time));
    ((length - doubt).max(Span::ZERO), length + doubt)
}

/// What is said beside the figure, of all services together.
#[derive(Default)]
struct Totals {
    down: Span,
    outages: u64,
    apart: Spans,
}

impl Totals {
    fn add(&mut self, line: &Line, apart: &Spans) {
        self.down = self.down + line.down.length();
        self.outages += line.down.intervals().len() as u64;
        self.apart = self.apart.union(apart);
    }

    fn reasons(&self, is_proved: bool, missed: Span, lone: Span, window: Interval) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if self.outages > 0 {
            reasons.push(Reason::Down { length: self.down, outages: self.outages });
        }
        if !is_proved {
            reasons.push(Reason::NoEvidence);
        }
        if missed > Span::ZERO {
            reasons.push(Reason::Unobserved { length: missed });
        }
        if !self.apart.is_empty() {
            reasons.push(Reason::Maintenance { length: self.apart.length() });
        }
        if lone + lone > window.length() - missed {
            reasons.push(Reason::LoneObserver);
        }
        reasons
    }
}
