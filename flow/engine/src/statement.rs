//! What is said for everybody of one probe of an engine of a host: its state, which time it covered, and its findings.
//!
//! An engine tells it in turns of some seconds how things are; it makes changes, findings and coverage records of that, each where it is
//! due. Time in which no turn came has no record, and so is unproven.

use event::evidence::{Changed, Covered, Found, Gap, State};
use event::{FindingId, Interval, ProbeId, ServiceId, Span, Time};

/// The longest stretch of a coverage record.
pub const EVERY: Span = Covered::EVERY_MIN;

/// What stands between a full record and the next one; longer than the engine needs for one turn.
pub const TURN_MAX: Span = Span::from_secs(15);

/// The record of one probe, from its start on.
#[derive(Debug)]
pub struct Statement {
    probe: ProbeId,
    service: ServiceId,
    revision: String,
    /// Up to when everything is said.
    said_until: Time,
    /// Up to when everything was looked at.
    looked_until: Time,
    gaps: Vec<Interval>,
    state: Option<State>,
    findings: Vec<Finding>,
}

/// A finding, and whether it is there.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    open: Option<bool>,
    last_look: Time,
}

/// What is to be journaled.
#[derive(Default, Debug)]
pub struct Said {
    /// The record of a stretch of time.
    pub covered: Option<Covered>,
    /// The state, where it has changed.
    pub changed: Option<Changed>,
    /// Findings that have opened or closed.
    pub found: Vec<Found>,
}

impl Statement {
    /// Of a probe with these findings, in the order in which a turn is told of them. Nothing is covered before `now`.
    pub fn new(probe: ProbeId, service: ServiceId, revision: String, findings: &[&'static str], now: Time) -> Self {
        let finding = |name: &&'static str| Finding { name, open: None, last_look: now };
        Self {
            probe,
            service,
            revision,
            said_until: now,
            looked_until: now,
            gaps: Vec::new(),
            state: None,
            findings: findings.iter().map(finding).collect(),
        }
    }

    /// A turn of the engine: the state, whether everything was looked at up to `now` and since the turn before (unless that is longer
    /// ago than a turn takes), and which of the findings are open.
    pub fn turn(&mut self, now: Time, state: State, all_seen: bool, open: &[bool]) -> Said {
        let mut said = Said::default();
        if now < self.looked_until {
            // The clock was set back: what was said stands, and nothing is said twice.
            (self.said_until, self.looked_until) = (now, now);
            self.gaps.clear();
        }
        let turn = Interval::new(self.looked_until, now);
        if turn.length() > TURN_MAX {
            // Nobody looked: that is said by having no record of just this time.
            said.covered = self.end();
            self.said_until = now;
            self.gaps.clear();
        } else if !all_seen && turn.length() > Span::ZERO {
            match self.gaps.last_mut() {
                Some(last) if last.end == turn.start => last.end = turn.end,
                _ => self.gaps.push(turn),
            }
        }
        self.looked_until = now;
        if self.state != Some(state) {
            let after = if self.state.is_none() { now } else { turn.start };
            self.state = Some(state);
            let (probe, service) = (self.probe.clone(), self.service.clone());
            said.changed = Some(Changed { probe, service, state, after, by: now });
        }
        for (finding, open) in self.findings.iter_mut().zip(open) {
            if finding.open != Some(*open) {
                let after = if finding.open.is_none() { now } else { finding.last_look };
                finding.open = Some(*open);
                if let Ok(name) = finding.name.parse::<FindingId>() {
                    said.found.push(Found { finding: name, probe: self.probe.clone(), open: *open, after, by: now });
                }
            }
            finding.last_look = now;
        }
        // A change would be lost with the process: it never waits for its record.
        let is_due = now.since(self.said_until) >= EVERY - Span::from_secs(1) || said.changed.is_some();
        if is_due && now > self.said_until {
            said.covered = Some(self.covered(now));
        }
        said
    }

    /// Whether the finding was said to be there.
    pub fn is_open(&self, finding: &str) -> bool {
        self.findings.iter().any(|known| known.name == finding && known.open == Some(true))
    }

    /// The record of what is not said yet, at the end.
    pub fn end(&mut self) -> Option<Covered> {
        (self.looked_until > self.said_until).then(|| self.covered(self.looked_until))
    }

    /// The record from where the last one ended. It speaks of a minute at most. What a late turn leaves is for the next, so that records touch.
    fn covered(&mut self, looked_until: Time) -> Covered {
        let from = self.said_until;
        let until = looked_until.min(from + EVERY);
        let interval = Interval::new(from, until);
        let within = |gap: &Interval, start: Time, end: Time| {
            let (start, end) = (gap.start.max(start), gap.end.min(end));
            (end > start).then(|| Interval::new(start, end))
        };
        let gaps = std::mem::take(&mut self.gaps);
        self.gaps = gaps.iter().filter_map(|gap| within(gap, until, looked_until)).collect();
        let gaps = gaps.iter().filter_map(|gap| within(gap, from, until));
        let gaps = gaps.map(|gap| Gap { probe: self.probe.clone(), finding: None, interval: gap }).collect();
        self.said_until = until;
        Covered { interval, revision: self.revision.clone(), every: None, gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    fn statement() -> Statement {
        Statement::new(
            "guard".parse().expect("ok"),
            "guard".parse().expect("ok"),
            "r1".to_owned(),
            &["one", "two", "three"],
            at(0),
        )
    }

    #[test]
    fn a_quiet_minute_is_one_record() {
        let mut statement = statement();
        let mut records = Vec::new();
        for second in (0..=180).step_by(5) {
            records.extend(statement.turn(at(second), State::Up, true, &[false, false, false]).covered);
        }
        records.extend(statement.end());
        let spans: Vec<_> = records.iter().map(|record| (record.interval.start, record.interval.end)).collect();
        assert_eq!(spans, [(at(0), at(60)), (at(60), at(120)), (at(120), at(180))]);
        assert!(records.iter().all(|record| record.gaps.is_empty() && record.revision == "r1"));
    }

    #[test]
    fn what_was_not_read_is_a_gap_and_a_finding() {
        let mut statement = statement();
        let first = statement.turn(at(0), State::Up, true, &[false, false, false]);
        assert_eq!(first.changed.map(|changed| changed.state), Some(State::Up));
        assert_eq!(first.found.len(), 3, "all are known not to be there");
        assert!(statement.turn(at(5), State::Up, true, &[false, false, false]).found.is_empty());
        let lost = statement.turn(at(10), State::Up, false, &[true, false, false]);
        assert_eq!(lost.found.iter().map(|found| (found.open, found.after)).collect::<Vec<_>>(), [(true, at(5))]);
        statement.turn(at(15), State::Up, false, &[true, false, false]);
        assert!(!statement.turn(at(20), State::Up, true, &[false, false, false]).found[0].open);
        let record = statement.end().expect("a record");
        assert_eq!(record.gaps.iter().map(|gap| gap.interval).collect::<Vec<_>>(), [Interval::new(at(5), at(15))]);
    }

    /// A turn is a little late each time, and the records touch all the same, with every gap.
    #[test]
    fn records_touch() {
        let mut statement = statement();
        let (mut records, mut unread) = (Vec::new(), Span::ZERO);
        for turn in 0..1000 {
            let now = at(0) + Span::from_millis(5_003 * turn);
            let is_lost = turn % 7 == 3;
            unread = unread + if is_lost { Span::from_millis(5_003) } else { Span::ZERO };
            records.extend(statement.turn(now, State::Up, !is_lost, &[is_lost, false, false]).covered);
        }
        records.extend(statement.end());
        for pair in records.windows(2) {
            assert_eq!(pair[0].interval.end, pair[1].interval.start);
            assert!(pair[0].interval.length() <= EVERY);
        }
        let gaps = records.iter().flat_map(|record| &record.gaps).map(|gap| gap.interval.length().micros());
        assert_eq!(gaps.sum::<i64>(), unread.micros());
    }

    /// NH-1, JO-1: what was looked at before a standstill is covered, and a person is told when it was and how long.
    #[test]
    fn just_the_time_of_a_standstill_has_no_record() {
        for stood in [20, 80, 300] {
            let mut statement = statement();
            let mut records = Vec::new();
            for second in (0..=40).step_by(5).chain((40 + stood..=100 + stood).step_by(5)) {
                records.extend(statement.turn(at(second), State::Up, true, &[false, false, false]).covered);
            }
            records.extend(statement.end());
            let spans: Vec<_> = records.iter().map(|record| (record.interval.start, record.interval.end)).collect();
            assert_eq!(spans, [(at(0), at(40)), (at(40 + stood), at(100 + stood))]);
            assert!(records.iter().all(|record| record.gaps.is_empty()));
        }
    }

    #[test]
    fn unenforced_bans_are_down_at_once() {
        let mut statement = statement();
        statement.turn(at(0), State::Up, true, &[false, false, false]);
        let said = statement.turn(at(5), State::Down, true, &[false, true, false]);
        assert_eq!(said.changed.map(|changed| (changed.state, changed.after)), Some((State::Down, at(0))));
        assert!(said.covered.is_some());
        assert_eq!(said.found.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_says_nothing_twice() {
        let mut statement = statement();
        for second in (0..60).step_by(5) {
            statement.turn(at(second), State::Up, true, &[false, false, false]);
        }
        let turns =
            (-600..=-540).step_by(5).map(|second| statement.turn(at(second), State::Up, true, &[false, false, false]));
        let record = turns.filter_map(|said| said.covered).last().expect("a record");
        assert_eq!(record.interval.start, at(-600));
    }
}
