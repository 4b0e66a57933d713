//! What was observed, minute by minute: the book from which "unproven" is told from "up".
//!
//! A state that is never contradicted looks like a state that holds. It may also be an observer that sleeps. So each
//! observer keeps a book: a sample with an answer covers the time from its start until the next one is due, plus a
//! tolerance of a tenth of the interval (at least a second). When a minute is over and nothing that was asked in it is
//! still unanswered, one [`Coverage`] record says that it was lived, under which policy, and which probes were not
//! covered for which part of it.
//!
//! Time without a record is time that nobody observed. Hence the rule for everything unusual: *close the book*. The
//! sheet ends at the last instant that was certainly lived, and a new one starts when life goes on: after a suspension,
//! a step of the clock, a policy change, a storage that refused. What lies between has no record, and no detail to get
//! wrong.

use std::collections::BTreeMap;

use event::evidence::{Covered, Gap};
use event::{Interval, ProbeId, Span, Time};

use crate::schedule::LaneId;

/// Length of a sheet.
const SHEET: Span = Span::from_secs(60);
/// How long a sheet waits for answers to what was asked in it. An answer takes at most a timeout, a confirmation a second
/// one; what is still open then is a gap.
const PATIENCE: Span = Span::from_secs(150);
/// A record with more gaps than this is not written: hardly anything was observed, and no record at all says less.
const GAPS_MAX: usize = 20_000;
/// The least by which a sample covers beyond its interval.
const TOLERANCE_MIN: Span = Span::from_secs(1);

/// How long one sample covers.
pub(crate) fn covered_by_one(every: Span) -> Span {
    every + Span::from_micros(every.micros() / 10).max(TOLERANCE_MIN)
}

/// Coverage of one probe.
#[derive(Debug)]
struct Row {
    probe: ProbeId,
    every: Span,
    /// The samples so far cover until here.
    until: Time,
    /// What they did not cover since the sheet began.
    gaps: Vec<Interval>,
    /// Start of the sample that is not answered yet, or whose failure nobody has confirmed.
    open_since: Option<Time>,
    /// Whether it was answered, by a failure.
    doubtful: bool,
}

/// The book of one observer.
#[derive(Debug)]
pub(crate) struct Book {
    revision: String,
    sheet_start: Time,
    rows: BTreeMap<LaneId, Row>,
    /// How many open samples started in which minute.
    open: BTreeMap<Time, u32>,
}

impl Book {
    /// Starts a book at `now`, with no probe.
    pub(crate) const fn new(now: Time, revision: String) -> Self {
        Self { revision, sheet_start: now, rows: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// Takes a probe in. It is a gap until its first sample.
    pub(crate) fn add(&mut self, lane: LaneId, probe: ProbeId, every: Span) {
        let row = Row { probe, every, until: self.sheet_start, gaps: Vec::new(), open_since: None, doubtful: false };
        self.rows.insert(lane, row);
    }

    /// Takes a probe out.
    pub(crate) fn remove(&mut self, lane: LaneId) {
        if let Some(started) = self.rows.remove(&lane).and_then(|row| row.open_since) {
            self.release(started);
        }
    }

    /// A sample was started: the sheet waits for its answer.
    pub(crate) fn asked(&mut self, lane: LaneId, start: Time) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        if row.open_since.is_none() {
            row.open_since = Some(start);
            *self.open.entry(start.minute_start()).or_default() += 1;
        }
    }

    /// The sample that started at `start` was answered. `covers`: the answer says something about the probe. `doubtful`:
    /// it is a failure that nobody has confirmed yet, so the sheet keeps waiting.
    pub(crate) fn answered(&mut self, lane: LaneId, start: Time, covers: bool, doubtful: bool) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        if covers {
            if row.until < start {
                row.gaps.push(Interval::new(row.until, start));
            }
            row.until = row.until.max(start + covered_by_one(row.every));
        }
        row.doubtful = doubtful;
        if !doubtful && let Some(started) = row.open_since.take() {
            self.release(started);
        }
    }

    /// A failure that nobody confirmed says nothing of the probe after all: what it covered is not covered.
    pub(crate) fn retract(&mut self, lane: LaneId) {
        let Some(row) = self.rows.get_mut(&lane) else { return };
        if row.doubtful
            && let Some(started) = row.open_since.take()
        {
            row.doubtful = false;
            row.until = row.until.min(started);
            self.release(started);
        }
    }

    fn release(&mut self, started: Time) {
        let minute = started.minute_start();
        if let Some(count) = self.open.get_mut(&minute) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&minute);
            }
        }
    }

    /// The record of the sheet, once its minute is over and settled. To be called until it returns `None`.
    pub(crate) fn turn_sheet(&mut self, now: Time) -> Option<Covered> {
        loop {
            let end = self.sheet_start.minute_start() + SHEET;
            let settled = self.open.first_key_value().is_none_or(|(&minute, _)| minute >= end);
            if now < end || (!settled && now < end + PATIENCE) {
                return None;
            }
            // A sheet with nothing to say is left out; the next one may be better.
            if let Some(coverage) = self.write(end) {
                return Some(coverage);
            }
        }
    }

    /// Ends the sheet at `end`, the last instant that was certainly lived, whatever is still open; the next sheet starts
    /// there. More than one record when an earlier minute was still waiting for answers.
    pub(crate) fn close(&mut self, end: Time) -> Vec<Covered> {
        let mut sheets = Vec::new();
        while self.sheet_start < end {
            let sheet_end = (self.sheet_start.minute_start() + SHEET).min(end);
            sheets.extend(self.write(sheet_end));
        }
        self.sheet_start = end;
        sheets
    }

    /// Starts a new sheet at `now`, some time after [`close`](Self::close) ended the last one. It waits for nothing that was
    /// asked before.
    pub(crate) fn reopen(&mut self, now: Time) {
        self.sheet_start = now;
        self.open.clear();
        for row in self.rows.values_mut() {
            // A failure that nobody can confirm any more shows nothing.
            if row.doubtful
                && let Some(started) = row.open_since
            {
                row.until = row.until.min(started);
            }
            (row.open_since, row.doubtful) = (None, false);
            row.gaps.clear();
        }
    }

    /// Forgets what samples covered: their labels are worth nothing after a step of the clock.
    pub(crate) fn forget_samples(&mut self) {
        for row in self.rows.values_mut() {
            row.until = self.sheet_start;
        }
    }

    /// From the next sheet on, the policy is another one.
    pub(crate) fn revise(&mut self, revision: String) {
        self.revision = revision;
    }

    fn write(&mut self, end: Time) -> Option<Covered> {
        let sheet = Interval::new(self.sheet_start, end);
        self.sheet_start = end;
        if sheet.is_empty() || self.rows.is_empty() {
            return None;
        }
        let mut gaps = Vec::new();
        for row in self.rows.values_mut() {
            let mut missing = event::Spans::new();
            for gap in &row.gaps {
                missing.add(gap.intersect(sheet));
            }
            missing.add(Interval::new(row.until, end).intersect(sheet));
            if row.doubtful
                && let Some(start) = row.open_since
            {
                missing.add(Interval::new(start, end).intersect(sheet));
            }
            gaps.extend(missing.intervals().iter().map(|&interval| Gap {
                probe: row.probe.clone(),
                finding: None,
                interval,
            }));
            row.gaps.retain(|gap| gap.end > end);
        }
        (gaps.len() <= GAPS_MAX).then(|| Covered {
            interval: sheet,
            revision: self.revision.clone(),
            every: None,
            gaps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_secs(seconds)
    }

    fn book(probes: u32, every: i64) -> Book {
        let mut book = Book::new(at(0), "r1".to_owned());
        for n in 0..probes {
            book.add(LaneId(n), format!("p{n}").parse().expect("a name"), Span::from_secs(every));
        }
        book
    }

    fn sample(book: &mut Book, lane: u32, start: i64) {
        book.asked(LaneId(lane), at(start));
        book.answered(LaneId(lane), at(start), true, false);
    }

    fn told(coverage: Option<Covered>) -> (i64, i64, Vec<(String, i64, i64)>) {
        let coverage = coverage.expect("a record");
        let gaps = coverage.gaps.iter().map(|gap| {
            (gap.probe.to_string(), gap.interval.start.micros() / 1_000_000, gap.interval.end.micros() / 1_000_000)
        });
        (coverage.interval.start.micros() / 1_000_000, coverage.interval.end.micros() / 1_000_000, gaps.collect())
    }

    #[test]
    fn a_minute_is_told_once_with_its_gaps() {
        let mut book = book(2, 10);
        for start in [3, 13, 23, 33, 43, 53] {
            sample(&mut book, 0, start);
            if start != 33 {
                sample(&mut book, 1, start);
            }
        }
        assert_eq!(book.turn_sheet(at(59)), None, "not over yet");
        let expect = vec![("p0".into(), 0, 3), ("p1".into(), 0, 3), ("p1".into(), 34, 43)];
        assert_eq!(told(book.turn_sheet(at(60))), (0, 60, expect));
        assert_eq!(book.turn_sheet(at(60)), None);
        for start in [63, 73, 83, 93, 103, 113, 123] {
            sample(&mut book, 0, start);
            sample(&mut book, 1, start);
        }
        assert_eq!(told(book.turn_sheet(at(123))), (60, 120, vec![]));
    }

    #[test]
    fn a_sheet_waits_for_what_was_asked_in_it() {
        let mut book = book(1, 60);
        sample(&mut book, 0, 0);
        book.asked(LaneId(0), at(59));
        assert_eq!(book.turn_sheet(at(62)), None, "the answer may still come");
        book.answered(LaneId(0), at(59), true, true);
        assert_eq!(book.turn_sheet(at(63)), None, "a failure that nobody has confirmed");
        book.asked(LaneId(0), at(64));
        book.answered(LaneId(0), at(64), true, false);
        assert_eq!(told(book.turn_sheet(at(65))), (0, 60, vec![]));
        // But not for ever.
        book.asked(LaneId(0), at(110));
        assert_eq!(book.turn_sheet(at(269)), None);
        assert_eq!(told(book.turn_sheet(at(270))), (60, 120, vec![]), "covered by the sample of 64 s");
        assert_eq!(told(book.turn_sheet(at(330))), (120, 180, vec![("p0".into(), 130, 180)]));
    }

    #[test]
    fn an_unknown_sample_covers_nothing() {
        let mut book = book(1, 10);
        sample(&mut book, 0, 0);
        book.asked(LaneId(0), at(10));
        book.answered(LaneId(0), at(10), false, false);
        sample(&mut book, 0, 50);
        assert_eq!(told(book.turn_sheet(at(60))), (0, 60, vec![("p0".into(), 11, 50)]));
    }

    #[test]
    fn a_gap_over_midnight_is_split_between_sheets() {
        let mut book = book(1, 10);
        sample(&mut book, 0, 0);
        // The next sample starts in the second minute, before the first sheet is turned.
        sample(&mut book, 0, 70);
        assert_eq!(told(book.turn_sheet(at(71))), (0, 60, vec![("p0".into(), 11, 60)]));
        for start in [80, 90, 100, 110] {
            sample(&mut book, 0, start);
        }
        assert_eq!(told(book.turn_sheet(at(120))), (60, 120, vec![("p0".into(), 60, 70)]));
    }

    /// A suspension leaves no record, and an unconfirmed failure before it leaves a gap.
    #[test]
    fn closing_ends_the_sheet_and_leaves_the_rest_unproven() {
        let mut book = book(1, 10);
        sample(&mut book, 0, 0);
        book.asked(LaneId(0), at(10));
        book.answered(LaneId(0), at(10), true, true);
        assert_eq!(told(book.close(at(12)).pop()), (0, 12, vec![("p0".into(), 10, 12)]));
        book.reopen(at(312));
        sample(&mut book, 0, 320);
        assert_eq!(told(book.turn_sheet(at(360))), (312, 360, vec![("p0".into(), 312, 320), ("p0".into(), 331, 360)]));
    }

    /// A short stop in the middle of a long interval: what an unconfirmed failure had covered is not covered afterwards.
    #[test]
    fn a_failure_that_is_not_confirmed_covers_nothing_after_a_stop() {
        let mut book = book(1, 60);
        sample(&mut book, 0, 0);
        book.asked(LaneId(0), at(60));
        book.answered(LaneId(0), at(60), true, true);
        assert_eq!(book.close(at(62)).len(), 2);
        book.reopen(at(70));
        sample(&mut book, 0, 110);
        assert_eq!(told(book.turn_sheet(at(120))), (70, 120, vec![("p0".into(), 70, 110)]));
        // A good sample goes on to cover until the next is due.
        assert_eq!(book.close(at(121)).len(), 1);
        book.reopen(at(130));
        assert_eq!(told(book.close(at(180)).pop()), (130, 180, vec![("p0".into(), 176, 180)]));
    }

    #[test]
    fn after_a_step_of_the_clock_old_samples_cover_nothing() {
        let mut book = book(1, 10);
        sample(&mut book, 0, 3_600);
        assert_eq!(book.close(at(3_605)).len(), 61, "a record is a minute long at most");
        book.reopen(at(5));
        book.forget_samples();
        assert_eq!(told(book.turn_sheet(at(60))), (5, 60, vec![("p0".into(), 5, 60)]), "one hour back");
    }

    #[test]
    fn a_revision_starts_its_own_sheet() {
        let mut book = book(1, 10);
        sample(&mut book, 0, 0);
        assert_eq!(book.close(at(5)).pop().map(|c| c.revision), Some("r1".to_owned()));
        book.revise("r2".to_owned());
        book.remove(LaneId(0));
        book.add(LaneId(1), "new".parse().expect("a name"), Span::from_secs(10));
        sample(&mut book, 1, 8);
        let coverage = book.turn_sheet(at(60)).expect("a record");
        assert_eq!(coverage.revision, "r2");
        assert_eq!(told(Some(coverage)), (5, 60, vec![("new".into(), 5, 8), ("new".into(), 19, 60)]));
    }

    #[test]
    fn nothing_to_observe_is_no_coverage() {
        let mut book = Book::new(at(0), "r1".to_owned());
        assert_eq!(book.turn_sheet(at(120)), None);
    }
}
