//! The state of probes, services and findings, from what each observer says: observers vote, probes add up.
//!
//! At each instant, the observers that cover the probe and know its state have a vote; [`Agreement`] says how many must
//! see it down. One observer so covers for another's restart; two that disagree leave the instant undecided; none at
//! all leaves it unknown. A service is as bad as its worst probe: down before undecided before unknown before up.

use event::policy::Agreement;
use event::{FindingId, Interval, ProbeId, ServiceId, Spans, Time};

use crate::declared::Declarations;
use crate::lines::Subject;
use crate::observed::{Aspect, Observations};
use crate::steps::{Condition, Steps};

/// The state of something over a window. The first three sets are disjoint; the rest of the window is unknown.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Line {
    /// Up for certain.
    pub up: Spans,
    /// Down for certain.
    pub down: Spans,
    /// Observed, and neither for certain.
    pub undecided: Spans,
    /// The part of all these for which there was a single observer.
    pub lone: Spans,
}

/// The state of several probes together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Worst {
    /// As bad as the worst of them.
    pub line: Line,
    /// When at least one of them was not observed, or there was none.
    pub blind: Spans,
}

impl Line {
    /// The instants of `within` of which nothing is known.
    pub(crate) fn unknown(&self, within: Interval) -> Spans {
        self.up.union(&self.down).union(&self.undecided).complement(within)
    }

    /// The part inside `within`.
    pub(crate) fn clip(&self, within: Interval) -> Self {
        Self {
            up: self.up.clip(within),
            down: self.down.clip(within),
            undecided: self.undecided.clip(within),
            lone: self.lone.clip(within),
        }
    }

    /// The part that is not inside `apart`.
    pub(crate) fn without(mut self, apart: &Spans) -> Self {
        if !apart.is_empty() {
            for spans in [&mut self.up, &mut self.down, &mut self.undecided, &mut self.lone] {
                *spans = spans.minus(apart);
            }
        }
        self
    }

    fn cut(&mut self, within: Interval) {
        for spans in [&mut self.up, &mut self.down, &mut self.undecided, &mut self.lone] {
            spans.cut(within);
        }
    }

    fn add(&mut self, interval: Interval, condition: Condition, lone: bool) {
        match condition {
            Condition::Up => self.up.add(interval),
            Condition::Down => self.down.add(interval),
            Condition::Undecided => self.undecided.add(interval),
        }
        if lone {
            self.lone.add(interval);
        }
    }

    /// Adds a line of a later time.
    fn append(&mut self, later: &Self) {
        let pairs = [
            (&mut self.up, &later.up),
            (&mut self.down, &later.down),
            (&mut self.undecided, &later.undecided),
            (&mut self.lone, &later.lone),
        ];
        for (mine, theirs) in pairs {
            for interval in theirs.intervals() {
                mine.add(*interval);
            }
        }
    }
}

impl Worst {
    /// The part inside `within`.
    pub(crate) fn clip(&self, within: Interval) -> Self {
        Self { line: self.line.clip(within), blind: self.blind.clip(within) }
    }

    /// Removes what is not inside `within`.
    pub(crate) fn cut(&mut self, within: Interval) {
        self.line.cut(within);
        self.blind.cut(within);
    }

    /// Adds what was later.
    pub(crate) fn append(&mut self, later: &Self) {
        self.line.append(&later.line);
        for interval in later.blind.intervals() {
            self.blind.add(*interval);
        }
    }
}

/// The votes of the observers of a probe at one instant.
#[derive(Clone, Copy, Default)]
struct Votes {
    up: i32,
    down: i32,
    undecided: i32,
}

impl Votes {
    fn count(&mut self, condition: Condition, by: i32) {
        match condition {
            Condition::Up => self.up += by,
            Condition::Down => self.down += by,
            Condition::Undecided => self.undecided += by,
        }
    }

    const fn all(self) -> i32 {
        self.up + self.down + self.undecided
    }

    fn tally(self, agreement: Agreement) -> Option<Condition> {
        let all = self.all();
        let (down, up) = match agreement {
            Agreement::Majority => (2 * self.down > all, 2 * self.up > all),
            Agreement::Any => (self.down > 0, self.up == all),
            Agreement::All => (self.down == all, self.up > 0),
            Agreement::Other => (false, false),
        };
        match (all, down, up) {
            (0, _, _) => None,
            (_, true, _) => Some(Condition::Down),
            (_, _, true) => Some(Condition::Up),
            _ => Some(Condition::Undecided),
        }
    }
}

/// The condition on which the observers of a probe agree at one instant; `None` without observers. Called for verdicts and for the
/// current state alike, so that the two can't differ.
pub(crate) fn agreed(agreement: Agreement, votes: impl IntoIterator<Item = Condition>) -> Option<Condition> {
    let mut counted = Votes::default();
    votes.into_iter().for_each(|vote| counted.count(vote, 1));
    counted.tally(agreement)
}

/// The state over `within` by these observers, each given with the time during which it observed.
fn agree(agreement: Agreement, within: Interval, observers: &[(&Steps, Spans)]) -> Line {
    let mut edges: Vec<(Time, Condition, i32)> = Vec::new();
    for (steps, covered) in observers {
        for stretch in covered.clip(within).intervals() {
            for (interval, condition) in steps.over(*stretch) {
                edges.push((interval.start, condition, 1));
                edges.push((interval.end, condition, -1));
            }
        }
    }
    edges.sort_unstable_by_key(|(time, _, _)| *time);
    let mut line = Line::default();
    let mut votes = Votes::default();
    let mut edges = edges.into_iter().peekable();
    while let Some((time, condition, by)) = edges.next() {
        votes.count(condition, by);
        if let (Some((next, _, _)), Some(condition)) = (edges.peek(), votes.tally(agreement)) {
            line.add(Interval::new(time, *next), condition, votes.all() == 1);
        }
    }
    line
}

fn worst(within: Interval, parts: &[Line]) -> Worst {
    let mut all = Worst::default();
    for part in parts {
        all.line.down = all.line.down.union(&part.down);
        all.line.undecided = all.line.undecided.union(&part.undecided);
        all.line.lone = all.line.lone.union(&part.lone);
        all.blind = all.blind.union(&part.unknown(within));
    }
    if parts.is_empty() {
        all.blind.add(within);
    }
    all.line.undecided = all.line.undecided.minus(&all.line.down);
    all.line.up = all.line.down.union(&all.line.undecided).union(&all.blind).complement(within);
    all
}

/// All that was declared and observed.
#[derive(Clone, Copy)]
pub(crate) struct Evidence<'a> {
    pub declared: &'a Declarations,
    pub observed: &'a Observations,
}

impl Evidence<'_> {
    /// The state of a subject over `within`.
    pub(crate) fn state(&self, subject: &Subject, within: Interval) -> Worst {
        match subject {
            Subject::Service(service) => self.service(service, within),
            Subject::AllServices => self.all_services(within),
            Subject::Finding(finding) => self.finding(finding, within),
            Subject::Probe(probe) => {
                let line = self.probe(probe, within);
                let blind = line.unknown(within);
                Worst { line, blind }
            }
        }
    }

    /// The state of a probe.
    pub(crate) fn probe(&self, probe: &ProbeId, within: Interval) -> Line {
        let mut line = Line::default();
        let Some(eras) = self.declared.probe(probe) else { return line };
        let voters: Vec<(&Steps, Spans)> = self
            .declared
            .observers(probe)
            .into_iter()
            .filter_map(|observer| {
                let steps = self.observed.steps(observer, probe)?;
                Some((steps, self.observed.covered(self.declared, observer, probe, Aspect::State, within)))
            })
            .collect();
        for (interval, asked) in eras.over(within) {
            if let Some(asked) = asked {
                line.append(&agree(asked.agreement, interval, &voters));
            }
        }
        line
    }

    /// The state of a service: its probes as they were declared at each instant.
    pub(crate) fn service(&self, service: &ServiceId, within: Interval) -> Worst {
        let eras = self.declared.service(service).into_iter().flat_map(|eras| eras.over(within));
        several(eras, within, |probe, interval| self.probe(probe, interval))
    }

    /// The state of all services together, which is that of a service to which all probes belong.
    fn all_services(&self, within: Interval) -> Worst {
        let (mut down, mut undecided, mut lone, mut blind, mut asked) = (vec![], vec![], vec![], vec![], vec![]);
        for service in self.declared.services_over(within) {
            // A service is blind before it is declared; all of them together are not for that.
            let eras = self.declared.service(service).into_iter().flat_map(|eras| eras.over(within));
            let declared = eras.filter(|(_, probes)| !probes.is_empty()).map(|(interval, _)| interval);
            let declared: Spans = declared.collect();
            let of_service = self.service(service, within);
            down.extend_from_slice(of_service.line.down.intervals());
            undecided.extend_from_slice(of_service.line.undecided.intervals());
            lone.extend_from_slice(of_service.line.lone.intervals());
            blind.extend_from_slice(of_service.blind.intersect(&declared).intervals());
            asked.extend_from_slice(declared.intervals());
        }
        // One after the other, each set would be copied as often as there are services.
        let [down, undecided, lone, blind, asked] = [down, undecided, lone, blind, asked].map(|mut intervals| {
            intervals.sort_unstable_by_key(|interval: &Interval| interval.start);
            intervals.into_iter().collect::<Spans>()
        });
        let (blind, undecided) = (blind.union(&asked.complement(within)), undecided.minus(&down));
        let up = down.union(&undecided).union(&blind).complement(within);
        Worst { line: Line { up, down, undecided, lone }, blind }
    }

    /// Whether a finding was open. Nobody votes here: one observer that sees it is enough.
    pub(crate) fn finding(&self, finding: &FindingId, within: Interval) -> Worst {
        let clear = Steps::clear();
        let eras = self.declared.finding(finding).into_iter().flat_map(|eras| eras.over(within));
        several(eras, within, |probe, interval| {
            let observers = self.declared.observers(probe).into_iter();
            let voters: Vec<(&Steps, Spans)> = observers
                .map(|observer| {
                    let steps = self.observed.finding_steps(observer, probe, finding).unwrap_or(&clear);
                    let looked = Aspect::Finding(finding);
                    (steps, self.observed.covered(self.declared, observer, probe, looked, interval))
                })
                .collect();
            agree(Agreement::Any, interval, &voters)
        })
    }
}

/// The worst of several things whose number changes from one era to the next.
fn several<'e>(
    eras: impl Iterator<Item = (Interval, &'e Vec<ProbeId>)>,
    within: Interval,
    line_of: impl Fn(&ProbeId, Interval) -> Line,
) -> Worst {
    let mut all = Worst::default();
    let mut undeclared = within.start;
    for (interval, probes) in eras {
        all.blind.add(Interval::new(undeclared, interval.start));
        undeclared = interval.end;
        let parts: Vec<Line> = probes.iter().map(|probe| line_of(probe, interval)).collect();
        let part = worst(interval, &parts);
        all.append(&part);
    }
    all.blind.add(Interval::new(undeclared, within.end));
    all
}
