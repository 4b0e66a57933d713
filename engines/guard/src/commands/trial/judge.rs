//! The lines of a log, judged by a filter and counted as `fail2ban-regex` counts them.

use std::net::IpAddr;

use engine::Failure;
use engine::command::CommandContext;
use event::Time;

use super::report::{Counts, Report, Verdict};
use crate::fail2ban::FilterDefinition;
use crate::fail2ban::filter::{Filter, LineError, Match, Names};

/// Counts the names that would be looked up.
#[derive(Default)]
struct Unasked(u64);

impl Names for Unasked {
    fn addresses(&mut self, _: &str) -> Vec<IpAddr> {
        self.0 += 1;
        Vec::new()
    }
}

/// A filter that is being tested.
pub(super) struct Judge {
    /// Says which lines are matched, missed and ignored.
    counter: Filter,
    /// Says who did what, where that is asked for.
    finder: Option<Filter>,
    /// Whether it says what every pattern finds.
    finds_all: bool,
    report: Report,
    counts: Counts,
    now: Time,
    /// Number of the line at hand.
    number: u64,
    names: Unasked,
    /// Lines that were not judged to their end, and why the first was not.
    unjudged: Option<(u64, u64, LineError)>,
}

impl Judge {
    pub(super) fn new(counter: Filter, finder: Option<Filter>, finds_all: bool, report: Report, now: Time) -> Self {
        let counts = Counts { failregex: vec![0; counter.len()], ..Counts::default() };
        Self { counter, finder, finds_all, report, counts, now, number: 0, names: Unasked::default(), unjudged: None }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// A line of a file; empty ones and comments are passed over.
    pub(super) fn line(&mut self, line: &str, context: &mut dyn CommandContext) {
        self.number += 1;
        if !line.is_empty() && !line.starts_with('#') {
            self.judge(line, None, context);
        }
    }

    /// The end of a file without a line feed: `fail2ban-regex` does not count it, and a jail waits for its end. Who has all that
    /// every pattern finds is told of it all the same.
    pub(super) fn open_end(&mut self, line: &str, context: &mut dyn CommandContext) {
        self.number += 1;
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        context.note("the last line has no line feed, and is not counted, as in fail2ban-regex");
        if self.finds_all
            && let Some(finder) = &mut self.finder
        {
            let failures = finder.process_line(line, self.now, &mut self.names);
            self.list(failures.unwrap_or_default(), context);
        }
    }

    fn list(&mut self, failures: Vec<Match>, context: &mut dyn CommandContext) {
        for found in failures {
            if found.host.is_some() && !found.is_no_failure() {
                self.report.found(self.number, &found, context);
            }
        }
    }

    /// A line of the journal.
    pub(super) fn dated(&mut self, line: &str, date: Time, context: &mut dyn CommandContext) {
        self.number += 1;
        self.judge(line, Some(date), context);
    }

    fn judge(&mut self, line: &str, date: Option<Time>, context: &mut dyn CommandContext) {
        let (now, number) = (self.now, self.number);
        let mut find = |filter: &mut Filter| match date {
            Some(date) => filter.process_dated(line, date, now, &mut self.names),
            None => filter.process_line(line, now, &mut self.names),
        };
        let before = self.counter.buffered().to_vec();
        let found = find(&mut self.counter);
        let failures = self.finder.as_mut().map(&mut find);
        if let Err(error) = found {
            self.unjudged.get_or_insert((0, number, error)).0 += 1;
        }
        let found = found.unwrap_or_default();
        for one in &found {
            if let Some(count) = self.counts.failregex.get_mut(one.regex - 1) {
                *count += 1;
            }
        }
        let tally = self.counter.tally();
        let is_ignored = found.iter().any(Match::is_no_failure) || tally.is_some_and(|tally| tally.is_ignored);
        self.counts.prefregex += u64::from(tally.is_some_and(|tally| tally.is_prefixed));
        // Lines before this one that a match took: they are matched too, and were counted as missed.
        if self.counter.max_lines() > 1 {
            let dropped = usize::from(before.len() >= self.counter.max_lines());
            for earlier in before.get(dropped..).unwrap_or_default() {
                if !self.counter.buffered().contains(earlier) {
                    self.counts.matched += 1;
                    self.counts.missed -= 1;
                    self.report.take_back_missed(&earlier.line(), context);
                }
            }
        }
        let (count, verdict) = if is_ignored {
            (&mut self.counts.ignored, Verdict::Ignored)
        } else if found.is_empty() {
            (&mut self.counts.missed, Verdict::Missed)
        } else {
            (&mut self.counts.matched, Verdict::Matched)
        };
        *count += 1;
        self.counts.lines += 1;
        self.report.line(verdict, number, line, self.counter.max_lines(), context);
        self.list(failures.and_then(Result::ok).unwrap_or_default(), context);
    }

    /// Prints what was counted, and says what was not judged.
    pub(super) fn end(self, definition: &FilterDefinition, context: &mut dyn CommandContext) -> Result<(), Failure> {
        if let Some((lines, first, error)) = self.unjudged {
            context.note(&format!(
                "{lines} lines were not judged to their end and count as missed; line {first}: {error}"
            ));
        }
        if self.counter.step_limits() > 0 {
            self.counter.check(&definition.name).map_err(|error| {
                Failure::new("the filter can't be used").because(&error).remedy("correct the pattern")
            })?;
            context.note(&format!(
                "{} searches were given up at their limit of steps: simplify the patterns that repeat a repetition",
                self.counter.step_limits()
            ));
        }
        if self.names.0 > 0 {
            context.note(
                "some lines name a host instead of an address: names are not looked up, and such lines are missed; \
                 --raw takes names as they are",
            );
        }
        self.report.end(&self.counts, definition, &self.counter, context);
        Ok(())
    }
}
