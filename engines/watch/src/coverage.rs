//! Coverage: which stretches of time each probe was observed in, and the records that say so.
//!
//! [`CoverageRecorder`] is kept per observer by [`crate::rounds`], which tells it of every look and every disturbance, and journals
//! the records that it returns. What it guarantees: no record claims time that nobody looked at.
//!
//! * **A look covers back.** It covers the time from the look before it, if both showed something and are no further apart
//!   than `every` and the lateness that a turn may have. Nothing covers forward: what the last look has not closed is *open*,
//!   and the record waits for it.
//! * **The first look covers nothing**, nor does the first after a gap: the gap lasts until it was *answered*. A look shows the
//!   state at some instant between its question and its answer, so while it is under way nobody knows the state yet, and what
//!   was journaled before the gap would stand there as if it had been seen.
//! * **What nothing closes is a gap**: at once when a look shows nothing, and after `every` and a patience when none comes.
//!   A failure that nobody has confirmed closes nothing until it is settled what it was.
//! * **Time in which the process stood still is in no record**, whatever was seen before and after.
//! * **What a heartbeat was told and did not take is a gap**: at the instant of the ping that was refused.
//! * **A finding that a look could not look for** is a gap of its own, back to the look before and on to the answer of the next
//!   one.
//!
//! Probes that are asked once a minute or more often share the records of at most a minute; others have records as long as
//! their `every`. A record is written as soon as all that it speaks of is decided: when its stretch is full, when something in
//! it (a change, a finding, a success) would be lost with the process, or when a verdict is about to wait for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use event::evidence::{Covered, Gap};
use event::{FindingId, Interval, ProbeId, Span, Spans, Time};

use crate::schedule::{LaneId, lateness_max};

/// How long, after `every`, an open stretch waits for a look that closes it. Less than the two minutes after which a verdict
/// takes time to be late.
const PATIENCE: Span = Span::from_secs(110);
/// After its `every` (none in the case of a minute's record) and so long, a record is written although its stretch is not full.
const WRITTEN_AFTER: Span = Span::from_secs(115);
/// How long something that would be lost with the process may wait for its record.
const AT_RISK_MAX: Span = Span::from_secs(10);
/// How often is looked whether there is a record to write.
const REVIEW_EVERY: Span = Span::from_secs(1);
/// A record with more gaps than this is not written: hardly anything was observed, and no record at all says less.
const GAPS_MAX: usize = 20_000;
/// Most stretches of a class that wait to be written. At the bound, what is open in them becomes a gap.
const STRETCHES_MAX: usize = 64;

/// One look at a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    /// When it began.
    pub(crate) start: Time,
    /// When it was answered.
    pub(crate) end: Time,
    /// Whether the look showed the state of the probe.
    pub(crate) known: bool,
    /// Findings that could not be looked for.
    pub(crate) blind: BTreeSet<FindingId>,
}

/// Coverage of one probe.
#[derive(Debug)]
struct Row {
    probe: ProbeId,
    every: Span,
    /// From when on it is observed: it is in no record of a stretch that began before.
    since: Time,
    /// When the probe was removed.
    removed_at: Option<Time>,
    /// Up to this instant it is decided what was observed.
    until: Time,
    /// The last look, if it showed the state.
    last: Option<Look>,
    /// Looks since an unconfirmed failure, that one included.
    in_doubt: Vec<Look>,
    /// Unobserved time that is in no record yet.
    gaps: Vec<Interval>,
    /// Unobserved time of single findings, while the probe itself was observed.
    finding_gaps: Vec<(FindingId, Interval)>,
}

impl Row {
    /// Longest time between two looks for the second to cover the time in between.
    fn reach(&self) -> Span {
        self.every + lateness_max(self.every)
    }

    fn take(&mut self, look: Look) {
        match self.last.take().filter(|last| look.known && look.start.since(last.start) <= self.reach()) {
            Some(last) => {
                for finding in last.blind.union(&look.blind) {
                    let end = if last.blind.contains(finding) { look.end } else { look.start };
                    self.finding_gaps.push((finding.clone(), Interval::new(last.start, end.max(last.start))));
                }
            }
            None => self.missed(if look.known { look.end } else { look.start }),
        }
        self.until = self.until.max(look.start);
        self.last = look.known.then_some(look);
    }

    /// Turns open time before `end` into a gap, since no look came.
    fn missed(&mut self, end: Time) {
        if self.until < end {
            self.gaps.push(Interval::new(self.until, end));
            self.until = end;
        }
    }

    /// Turns open time before `end` into a gap, whatever later looks show.
    fn give_up(&mut self, end: Time) {
        self.in_doubt.clear();
        self.last = None;
        self.missed(end);
    }

    /// Starts again at `now`, without a look.
    fn restart(&mut self, now: Time) {
        (self.since, self.until, self.last) = (now, now, None);
        self.in_doubt.clear();
        self.gaps.clear();
        self.finding_gaps.clear();
    }

    fn is_in(&self, class: Option<Span>, start: Time) -> bool {
        Covered::class(self.every) == class && self.since <= start && self.removed_at.is_none_or(|at| at > start)
    }
}

/// A stretch of time that is not recorded yet. It ends where the process stood still, or the policy changed.
#[derive(Debug)]
struct Stretch {
    start: Time,
    end: Option<Time>,
    revision: String,
}

/// The unwritten stretches of the probes that share their records.
#[derive(Debug)]
struct Class {
    every: Option<Span>,
    /// Oldest first; only the last has no end.
    stretches: VecDeque<Stretch>,
    /// When the oldest observation was made that would be lost with the process.
    at_risk: Option<Time>,
}

impl Class {
    fn length(&self) -> Span {
        self.every.unwrap_or(Covered::EVERY_MIN)
    }

    /// Ends the current stretch, and begins the next.
    fn cut(&mut self, end: Time, start: Time, revision: &str) {
        if let Some(current) = self.stretches.back_mut() {
            current.end = Some(end.max(current.start));
        }
        self.stretches.push_back(Stretch { start, end: None, revision: revision.to_owned() });
    }

    /// Whether a record up to `decided` is to be written, though its stretch is not full.
    fn is_due(&self, start: Time, decided: Time, now: Time) -> bool {
        let late = now.since(start) >= self.every.unwrap_or(Span::ZERO) + WRITTEN_AFTER;
        late || self.at_risk.is_some_and(|at| at < decided && now.since(at) >= AT_RISK_MAX)
    }
}

/// The coverage of one observer: looks in, records out.
#[derive(Debug)]
pub(crate) struct CoverageRecorder {
    revision: String,
    /// Boxed: a tree to which is added in order stays half empty.
    rows: BTreeMap<LaneId, Box<Row>>,
    /// Rows of probes that were removed, and are in stretches that are not written yet.
    removed: Vec<Row>,
    classes: Vec<Class>,
    next_review: Time,
}

impl CoverageRecorder {
    /// The coverage of an observer without probes.
    pub(crate) const fn new(now: Time) -> Self {
        let revision = String::new();
        Self { revision, rows: BTreeMap::new(), removed: Vec::new(), classes: Vec::new(), next_review: now }
    }

    /// Notes that another policy is in effect from `now` on. Called before probes are added and removed.
    pub(crate) fn revise(&mut self, revision: &str, now: Time) {
        if self.revision == revision {
            return;
        }
        revision.clone_into(&mut self.revision);
        for class in &mut self.classes {
            class.cut(now, now, revision);
        }
        self.bound(now);
    }

    /// Adds a probe, unobserved until its first look.
    pub(crate) fn add(&mut self, lane: LaneId, probe: ProbeId, every: Span, now: Time) {
        let row = Row {
            probe,
            every,
            since: now,
            removed_at: None,
            until: now,
            last: None,
            in_doubt: Vec::new(),
            gaps: Vec::new(),
            finding_gaps: Vec::new(),
        };
        self.rows.insert(lane, Box::new(row));
        let every = Covered::class(every);
        if !self.classes.iter().any(|class| class.every == every) {
            let stretch = Stretch { start: now, end: None, revision: self.revision.clone() };
            self.classes.push(Class { every, stretches: VecDeque::from([stretch]), at_risk: None });
        }
    }

    /// Removes a probe.
    pub(crate) fn remove(&mut self, lane: LaneId, now: Time) {
        if let Some(mut row) = self.rows.remove(&lane) {
            row.give_up(now);
            row.removed_at = Some(now);
            self.removed.push(*row);
        }
    }

    /// Takes a look that is over. `in_doubt`: the look is an unconfirmed failure, or one of the looks after it that did not
    /// settle what it was.
    pub(crate) fn looked(&mut self, lane: LaneId, look: Look, in_doubt: bool) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        if !in_doubt {
            for earlier in std::mem::take(&mut row.in_doubt) {
                row.take(earlier);
            }
            return row.take(look);
        }
        // Of successive looks that showed nothing, the last is enough.
        if row.in_doubt.last().is_some_and(|last| !last.known) && !look.known {
            row.in_doubt.pop();
        }
        row.in_doubt.push(look);
    }

    /// Takes back an unconfirmed failure: it showed nothing of the probe.
    pub(crate) fn retract(&mut self, lane: LaneId) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        for look in std::mem::take(&mut row.in_doubt) {
            row.take(Look { known: false, ..look });
        }
    }

    /// Notes that these probes could not be looked at during `interval`: open time in it becomes a gap.
    pub(crate) fn could_not_look(&mut self, lanes: impl Iterator<Item = LaneId>, interval: Interval) {
        for lane in lanes {
            let Some(row) = self.rows.get_mut(&lane) else { continue };
            if row.until < interval.end {
                row.gaps.push(Interval::new(row.until.max(interval.start), interval.end));
            }
        }
    }

    /// Notes that what this probe was told at `at` was not heard: that instant is a gap. Several between two looks are one
    /// gap, from the first to the last.
    pub(crate) fn not_heard(&mut self, lane: LaneId, at: Time) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        // What is decided may be written.
        let at = at.max(row.until);
        let end = at + Span::from_micros(1);
        match row.gaps.last_mut() {
            Some(open) if open.start >= row.until && open.start <= at => open.end = open.end.max(end),
            _ => row.gaps.push(Interval::new(at, end)),
        }
    }

    /// Notes that something was observed at `seen` that would be lost with the process: its record is written soon.
    pub(crate) fn hurry(&mut self, lane: LaneId, seen: Time) {
        let Some(row) = self.rows.get(&lane) else { return };
        let every = Covered::class(row.every);
        if let Some(class) = self.classes.iter_mut().find(|class| class.every == every) {
            class.at_risk.get_or_insert(seen);
        }
    }

    /// Notes that the process stood still. Time that was open before is closed by the next looks, as far as they reach.
    pub(crate) fn stood_still(&mut self, interval: Interval) {
        for class in &mut self.classes {
            class.cut(interval.start, interval.end, &self.revision);
        }
        self.bound(interval.end);
    }

    fn bound(&mut self, now: Time) {
        for class in self.classes.iter().filter(|class| class.stretches.len() > STRETCHES_MAX) {
            self.rows
                .values_mut()
                .filter(|row| Covered::class(row.every) == class.every)
                .for_each(|row| row.give_up(now));
        }
    }

    /// The records that are complete. Called at every turn of the loop; works once a second.
    pub(crate) fn complete(&mut self, now: Time) -> Vec<Covered> {
        if now < self.next_review {
            return Vec::new();
        }
        self.next_review = now + REVIEW_EVERY;
        for row in self.rows.values_mut() {
            if now.since(row.until) > row.every + PATIENCE {
                row.give_up(now);
            }
        }
        self.write(now, false)
    }

    /// The last records, up to `end`, the last instant at which the process certainly ran; open time is unobserved.
    pub(crate) fn finish(&mut self, end: Time) -> Vec<Covered> {
        let mut records = self.write(end, true);
        self.rows.values_mut().for_each(|row| row.give_up(end));
        records.extend(self.write(end, true));
        records
    }

    /// Starts again at `now`, and drops what is not written yet.
    pub(crate) fn restart(&mut self, now: Time) {
        self.next_review = now;
        self.removed.clear();
        self.rows.values_mut().for_each(|row| row.restart(now));
        for class in &mut self.classes {
            class.at_risk = None;
            class.stretches.clear();
            class.cut(now, now, &self.revision);
        }
    }

    /// Writes records up to where stretches are full and decided, or all of them.
    fn write(&mut self, now: Time, all: bool) -> Vec<Covered> {
        let mut records = Vec::new();
        let Self { rows, removed, classes, .. } = self;
        for class in &mut *classes {
            while let Some(stretch) = class.stretches.front() {
                let start = stretch.start;
                if stretch.end.is_some_and(|end| end <= start) {
                    class.stretches.pop_front();
                    continue;
                }
                let open = stretch.end.unwrap_or(now).max(start);
                let full = open.min(start + class.length());
                let rows = rows.values_mut().map(Box::as_mut).chain(&mut *removed);
                let mut concerned: Vec<&mut Row> = rows.filter(|row| row.is_in(class.every, start)).collect();
                let Some(decided) = concerned.iter().map(|row| row.until).min() else {
                    // No probe is asked in this stretch.
                    if stretch.end.is_none() {
                        break;
                    }
                    class.stretches.pop_front();
                    continue;
                };
                let end = decided.min(full);
                let is_full = end == full && (stretch.end.is_some() || full.since(start) == class.length());
                if start >= end || !(is_full || all || class.is_due(start, end, now)) {
                    break;
                }
                records.extend(record(&mut concerned, Interval::new(start, end), &stretch.revision, class.every));
                class.at_risk = class.at_risk.filter(|&at| at >= end);
                if let Some(stretch) = class.stretches.front_mut() {
                    stretch.start = end;
                }
            }
        }
        let asked: BTreeSet<_> = rows.values().map(|row| Covered::class(row.every)).collect();
        classes.retain(|class| class.stretches.len() > 1 || asked.contains(&class.every));
        let oldest = classes.iter().filter_map(|class| class.stretches.front()).map(|stretch| stretch.start).min();
        removed.retain(|row| row.removed_at.zip(oldest).is_some_and(|(at, oldest)| at > oldest));
        records
    }
}

/// One record, with its gaps.
fn record(rows: &mut [&mut Row], interval: Interval, revision: &str, every: Option<Span>) -> Option<Covered> {
    let mut gaps = Vec::new();
    for row in rows {
        let unobserved: Spans = row.gaps.iter().map(|gap| gap.intersect(interval)).collect();
        let mut blind: BTreeMap<&FindingId, Spans> = BTreeMap::new();
        for (finding, gap) in &row.finding_gaps {
            blind.entry(finding).or_default().add(gap.intersect(interval));
        }
        let of_findings = blind.into_iter().map(|(finding, spans)| (Some(finding), spans.minus(&unobserved)));
        for (finding, spans) in [(None, unobserved.clone())].into_iter().chain(of_findings) {
            gaps.extend(spans.intervals().iter().map(|&interval| Gap {
                probe: row.probe.clone(),
                finding: finding.cloned(),
                interval,
            }));
        }
        row.gaps.retain(|gap| gap.end > interval.end);
        row.finding_gaps.retain(|(_, gap)| gap.end > interval.end);
        // Every probe has a gap before its first look, and most have none for a long time after it: no room is kept.
        row.gaps.shrink_to_fit();
        row.finding_gaps.shrink_to_fit();
    }
    let record = Covered { interval, revision: revision.to_owned(), every, gaps };
    (record.gaps.len() <= GAPS_MAX).then_some(record)
}

#[cfg(test)]
mod tests;
