//! What is said for everybody of the backups: which probes are up, which time was covered, and the findings. No name of a host, no
//! place, no error.

use std::collections::{BTreeMap, BTreeSet};

use event::evidence::{Changed, Covered, Found, Gap, State};
use event::{FindingId, Interval, ProbeId, ServiceId, Span, Time};

use crate::config::EVERY;

/// The longest that a turn of the engine takes; what is longer was not looked at in time.
const TURN_MAX: Span = Span::from_secs(20);

/// The record of all probes, from the start of a session on.
#[derive(Debug)]
pub(crate) struct Statement {
    revision: String,
    said_until: Time,
    looked_at: Time,
    states: BTreeMap<ProbeId, State>,
    /// Findings that are open, and since the start those that were said not to be.
    findings: BTreeMap<(FindingId, ProbeId), bool>,
    /// Findings that could not be looked for at some time since the last record.
    unknown: BTreeSet<(FindingId, ProbeId)>,
}

/// What is seen in a turn.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    /// Each probe, its service, and whether its last attempt was a success. Those of which nothing is known yet are left out.
    pub(crate) probes: Vec<(ProbeId, ServiceId, bool)>,
    /// Each finding of each probe, and whether it is there.
    pub(crate) findings: Vec<(FindingId, ProbeId, bool)>,
    /// Findings that could not be looked for.
    pub(crate) unknown: Vec<(FindingId, ProbeId)>,
}

/// What is to be journaled.
#[derive(Default, Debug)]
pub(crate) struct Said {
    pub(crate) covered: Option<Covered>,
    pub(crate) changed: Vec<Changed>,
    pub(crate) found: Vec<Found>,
}

impl Statement {
    /// Nothing is covered before `now`.
    pub(crate) fn new(revision: String, now: Time) -> Self {
        Self {
            revision,
            said_until: now,
            looked_at: now,
            states: BTreeMap::new(),
            findings: BTreeMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// A turn of the engine.
    pub(crate) fn turn(&mut self, now: Time, seen: &Seen) -> Said {
        let mut said = Said::default();
        let before = self.looked_at;
        if now < before || now.since(before) > TURN_MAX {
            // The clock was set back, or nobody looked: what is said begins anew, and the time between is not covered.
            said.covered = (before > self.said_until).then(|| self.covered(before));
            self.said_until = now;
        }
        self.looked_at = now;
        for (probe, service, succeeds) in &seen.probes {
            let state = if *succeeds { State::Up } else { State::Down };
            let known = self.states.insert(probe.clone(), state);
            if known != Some(state) {
                let after = if known.is_none() { now } else { before.min(now) };
                said.changed.push(Changed { probe: probe.clone(), service: service.clone(), state, after, by: now });
            }
        }
        for (finding, probe, open) in &seen.findings {
            let known = self.findings.insert((finding.clone(), probe.clone()), *open);
            if known != Some(*open) {
                let after = if known.is_none() { now } else { before.min(now) };
                said.found.push(Found { finding: finding.clone(), probe: probe.clone(), open: *open, after, by: now });
            }
        }
        self.unknown.extend(seen.unknown.iter().cloned());
        let is_due = now.since(self.said_until) >= EVERY - Span::from_secs(1) || !said.changed.is_empty();
        if is_due && now > self.said_until {
            said.covered = Some(self.covered(now));
        }
        said
    }

    /// The findings that are open.
    pub(crate) fn open(&self) -> BTreeSet<(FindingId, ProbeId)> {
        self.findings.iter().filter(|(_, open)| **open).map(|(key, _)| key.clone()).collect()
    }

    /// The record of what is not said yet, at the end.
    pub(crate) fn end(&mut self) -> Option<Covered> {
        (self.looked_at > self.said_until).then(|| self.covered(self.looked_at))
    }

    /// The record from where the last one ended. It speaks of a minute at most, and what is left is for the next: where records do not touch,
    /// a promise about a longer time can't be seen broken.
    fn covered(&mut self, looked_until: Time) -> Covered {
        let until = looked_until.min(self.said_until + EVERY);
        let interval = Interval::new(self.said_until, until);
        self.said_until = until;
        let unknown = self.unknown.clone();
        if until == looked_until {
            self.unknown.clear();
        }
        let gap = |(finding, probe)| Gap { probe, finding: Some(finding), interval };
        let gaps = unknown.into_iter().map(gap).collect();
        Covered { interval, revision: self.revision.clone(), every: None, gaps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    fn seen(up: bool) -> Seen {
        let probe: ProbeId = "shop-log".parse().expect("a name");
        let finding = ("backup-failing".parse().expect("a name"), probe.clone(), !up);
        Seen {
            probes: vec![(probe, "shop".parse().expect("a name"), up)],
            findings: vec![finding],
            unknown: Vec::new(),
        }
    }

    #[test]
    fn a_minute_is_a_record_and_a_change_is_said_at_once() {
        let mut statement = Statement::new("r1".to_owned(), at(0));
        let first = statement.turn(at(0), &seen(true));
        assert_eq!((first.changed.len(), first.found.len(), first.covered), (1, 1, None));
        let mut records = Vec::new();
        for second in (5..=65).step_by(5) {
            records.extend(statement.turn(at(second), &seen(true)).covered);
        }
        assert_eq!(records.iter().map(|record| record.interval.end).collect::<Vec<_>>(), [at(60)]);
        let down = statement.turn(at(70), &seen(false));
        assert_eq!((down.changed[0].state, down.changed[0].after, down.changed[0].by), (State::Down, at(65), at(70)));
        assert!(down.found[0].open && down.covered.is_some());
        assert_eq!(statement.open().len(), 1);
    }

    #[test]
    fn what_could_not_be_looked_for_is_a_gap_of_its_finding() {
        let mut statement = Statement::new("r1".to_owned(), at(0));
        let unknown: (FindingId, ProbeId) = ("copy-elsewhere".parse().expect("one"), "shop-full".parse().expect("one"));
        statement.turn(at(0), &seen(true));
        statement.turn(at(5), &Seen { unknown: vec![unknown.clone()], ..seen(true) });
        statement.turn(at(10), &seen(true));
        let gaps = statement.end().expect("a record").gaps;
        assert_eq!(gaps, [Gap { probe: unknown.1, finding: Some(unknown.0), interval: Interval::new(at(0), at(10)) }]);
        statement.turn(at(15), &seen(true));
        assert_eq!(statement.end().expect("a record").gaps, [], "it is known again");
    }

    /// A turn is a little late each time, and the records touch all the same.
    #[test]
    fn records_touch() {
        let mut statement = Statement::new("r1".to_owned(), at(0));
        let mut records = Vec::new();
        for turn in 0..1000 {
            let now = at(0) + Span::from_millis(5_003 * turn);
            records.extend(statement.turn(now, &seen(turn < 500)).covered);
        }
        records.extend(statement.end());
        assert!(records.len() > 80);
        for pair in records.windows(2) {
            assert_eq!(pair[0].interval.end, pair[1].interval.start);
            assert!(pair[0].interval.length() <= EVERY);
        }
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_covered() {
        let mut statement = Statement::new("r1".to_owned(), at(0));
        for second in (0..=30).step_by(5) {
            statement.turn(at(second), &seen(true));
        }
        let late = statement.turn(at(100), &seen(true));
        assert_eq!(late.covered.expect("what was looked at").interval, Interval::new(at(0), at(30)));
        statement.turn(at(110), &seen(true));
        assert_eq!(statement.end().expect("the rest").interval, Interval::new(at(100), at(110)));
    }
}
