//! Counts of the requests of a site, for everybody: how many were answered and how many failed, minute by minute.
//!
//! A record is due every five minutes, and at the end of a minute in which one has failed. It speaks of the time from the record before, in
//! which the gate has looked in turns at what it had counted: what was not looked at in time is in no record, for a gate that stood still
//! has answered nobody.

use engine::statement::TURN_MAX;
use event::evidence::{Counted, CountedMinute};
use event::{Interval, ProbeId, Span, Time};

const MINUTE: Span = Span::from_secs(60);

/// Requests that were answered, and requests that failed.
pub(crate) type Requests = [u64; 2];

/// The count of one site.
#[derive(Debug)]
pub(crate) struct Counting {
    probe: ProbeId,
    /// Up to when everything is said.
    said_until: Time,
    /// When the minute began, and what had been counted then.
    minute_from: Time,
    before: Requests,
    /// When the last turn was, and what had been counted then.
    seen_until: Time,
    seen: Requests,
    minutes: Vec<CountedMinute>,
}

impl Counting {
    /// Nothing is said of what was counted before `now`.
    pub(crate) const fn new(probe: ProbeId, counts: Requests, now: Time) -> Self {
        let (before, seen) = (counts, counts);
        Self { probe, said_until: now, minute_from: now, before, seen_until: now, seen, minutes: Vec::new() }
    }

    /// Whose requests they are.
    pub(crate) const fn probe(&self) -> &ProbeId {
        &self.probe
    }

    /// A turn, in which so much has been counted. The record, when one is due.
    pub(crate) fn turn(&mut self, counts: Requests, now: Time) -> Option<Counted> {
        if now < self.seen_until || now.since(self.seen_until) > TURN_MAX {
            // What was counted meanwhile comes with the next minute: nothing that has failed is lost.
            let record = self.end();
            (self.said_until, self.minute_from, self.seen_until) = (now, now, now);
            return record;
        }
        (self.seen_until, self.seen) = (now, counts);
        if now.since(self.minute_from) < MINUTE {
            return None;
        }
        let has_failed = self.end_minute();
        (has_failed || now.since(self.said_until) >= Counted::EVERY).then(|| self.record())
    }

    /// The record of what is not said yet, at the end.
    pub(crate) fn end(&mut self) -> Option<Counted> {
        self.end_minute();
        (self.seen_until > self.said_until).then(|| self.record())
    }

    /// Whether a request of the minute has failed.
    fn end_minute(&mut self) -> bool {
        let interval = Interval::new(self.minute_from, self.seen_until);
        let new = |index: usize| {
            let new =
                self.seen.get(index).zip(self.before.get(index)).map(|(seen, before)| seen.saturating_sub(*before));
            u32::try_from(new.unwrap_or_default()).unwrap_or(u32::MAX)
        };
        let (answered, failed) = (new(0), new(1));
        if answered > 0 || failed > 0 {
            self.minutes.push(CountedMinute { interval, answered, failed });
        }
        (self.minute_from, self.before) = (self.seen_until, self.seen);
        failed > 0
    }

    fn record(&mut self) -> Counted {
        let interval = Interval::new(self.said_until, self.seen_until);
        self.said_until = self.seen_until;
        Counted { probe: self.probe.clone(), interval, minutes: std::mem::take(&mut self.minutes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    /// Turns every five seconds in which so much has been counted.
    fn turns(counting: &mut Counting, from: i64, to: i64, counts: impl Fn(i64) -> Requests) -> Vec<Counted> {
        (from..=to).step_by(5).filter_map(|second| counting.turn(counts(second), at(second))).collect()
    }

    /// From when, to when, and of each minute how many were answered and how many failed.
    type Told = (i64, i64, Vec<(u32, u32)>);

    fn told(records: &[Counted]) -> Vec<Told> {
        let second = |time: Time| time.since(at(0)).secs();
        let told = |record: &Counted| {
            let minutes = record.minutes.iter().map(|minute| (minute.answered, minute.failed)).collect();
            (second(record.interval.start), second(record.interval.end), minutes)
        };
        records.iter().map(told).collect()
    }

    fn counting(before: Requests) -> Counting {
        Counting::new("shop-edge".parse().expect("a name"), before, at(0))
    }

    #[test]
    fn a_good_time_is_a_record_every_five_minutes() {
        let mut counting = counting([1000, 7]);
        let counts = |second: i64| [1000 + second.cast_unsigned(), 7];
        let records = turns(&mut counting, 0, 720, counts);
        assert_eq!(told(&records), [(0, 300, vec![(60, 0); 5]), (300, 600, vec![(60, 0); 5])]);
        let minutes = &records[0].minutes;
        assert!(minutes.windows(2).all(|pair| pair[0].interval.end == pair[1].interval.start));
        let last: Vec<_> = counting.end().into_iter().collect();
        assert_eq!(told(&last), [(600, 720, vec![(60, 0); 2])]);
        assert_eq!(counting.end(), None);
    }

    #[test]
    fn a_minute_without_requests_is_counted_and_not_listed() {
        let mut counting = counting([0, 0]);
        let records = turns(&mut counting, 0, 600, |second| [u64::from(second >= 90), 0]);
        assert_eq!(told(&records), [(0, 300, vec![(1, 0)]), (300, 600, vec![])]);
    }

    #[test]
    fn a_failure_is_told_at_the_end_of_its_minute() {
        let mut counting = counting([0, 0]);
        let records = turns(&mut counting, 0, 420, |second| [second.cast_unsigned(), u64::from(second >= 100)]);
        assert_eq!(told(&records), [(0, 120, vec![(60, 0), (60, 1)]), (120, 420, vec![(60, 0); 5])]);
    }

    /// NH-1: a gate that stood still, or whose clock was set, says nothing of that time, and forgets no failure.
    #[test]
    fn a_standstill_is_in_no_record() {
        for (stood, back_at) in [(100, 130), (-600, -570)] {
            let mut counting = counting([0, 0]);
            let mut records = turns(&mut counting, 0, 30, |_| [1, 0]);
            records.extend(turns(&mut counting, back_at, back_at + 60, |_| [3, 2]));
            let expected = [(0, 30, vec![(1, 0)]), (back_at, back_at + 60, vec![(2, 2)])];
            assert_eq!(told(&records), expected, "{stood} s later");
        }
    }
}
