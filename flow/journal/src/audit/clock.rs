//! Check that the log's clock runs forward.
//!
//! The order of entries is certain, their times are claims. A time that goes back is how a back-dated entry shows, and
//! also how an honest clock that was set back shows. The honest one is followed at once by an `engine.clock_stepped`
//! that says by how much; the other is not.

use event::{Span, Time};

use super::error::AuditFault;

/// Steps up to this need not be reported: clocks are disciplined by small steps all the time.
const UNREPORTED: Span = Span::from_secs(2);
/// How long after the step, by the clock that stepped, it must have been reported.
const REPORTED_WITHIN: Span = Span::from_secs(120);

/// A step back that is not explained yet.
struct Back {
    sequence: u64,
    from: Time,
    to: Time,
}

/// The times of the entries so far.
#[derive(Default)]
pub(super) struct ClockTrace {
    last: Option<Time>,
    back: Option<Back>,
}

impl ClockTrace {
    /// Time of the newest entry.
    pub(super) const fn last(&self) -> Option<Time> {
        self.last
    }

    /// Takes the next entry, recorded between `earliest` and `latest` (the same instant when its payload is disclosed),
    /// which reports that a clock was set back by `stepped_back`. An error names the entry at which time went back.
    pub(super) fn entry(
        &mut self,
        sequence: u64,
        earliest: Time,
        latest: Time,
        stepped_back: Option<Span>,
    ) -> Result<(), (u64, AuditFault)> {
        if let Some(last) = self.last.filter(|last| latest + UNREPORTED < *last) {
            let back = self.back.get_or_insert(Back { sequence, from: last, to: latest });
            back.from = back.from.max(last);
            back.to = back.to.min(latest);
            self.last = Some(earliest);
        } else {
            self.last = Some(self.last.map_or(earliest, |last| last.max(earliest)));
        }
        match self.back.take() {
            Some(Back { sequence, from, to }) if earliest > to + REPORTED_WITHIN => {
                Err((sequence, AuditFault::ClockWentBack { from, to }))
            }
            back => {
                let explained =
                    |back: &Back| stepped_back.is_some_and(|by| back.from.since(back.to) <= by + UNREPORTED);
                self.back = back.filter(|back| !explained(back));
                Ok(())
            }
        }
    }

    /// The entry where time went back just before the end of the log, too recently to be explained.
    pub(super) fn unexplained(&self) -> Option<u64> {
        self.back.as_ref().map(|back| back.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries as (time in s, reported step back in s); the entry that is refused, if any.
    fn check(entries: &[(i64, i64)], refused: Option<u64>) {
        let mut trace = ClockTrace::default();
        let mut outcome = None;
        for (sequence, (second, step)) in (0..).zip(entries) {
            let at = Time::from_secs(*second);
            let step = (*step > 0).then(|| Span::from_secs(*step));
            if let Err((sequence, _)) = trace.entry(sequence, at, at, step) {
                outcome = Some(sequence);
                break;
            }
        }
        assert_eq!(outcome, refused, "{entries:?}");
    }

    #[test]
    fn time_goes_back_only_when_the_log_says_so() {
        check(&[(10, 0), (20, 0), (20, 0), (400, 0)], None);
        check(&[(100, 0), (98, 0), (101, 0), (500, 0)], None);
        // An hour back, reported at once or a little later.
        check(&[(9000, 0), (5400, 3600), (5401, 0), (9999, 0)], None);
        check(&[(9000, 0), (5401, 0), (5405, 3600), (9999, 0)], None);
        // Not reported, or reported too late, or by too little.
        check(&[(9000, 0), (5400, 0), (5401, 0), (9999, 0)], Some(1));
        check(&[(9000, 0), (5400, 0), (5600, 3600)], Some(1));
        check(&[(9000, 0), (5400, 600), (9999, 0)], Some(1));
        // Back-dating one entry: the next one shows it.
        check(&[(9000, 0), (10, 0), (9001, 0)], Some(1));
    }

    #[test]
    fn an_hour_is_all_that_a_hidden_entry_tells() {
        let mut trace = ClockTrace::default();
        let (hour, s) = (Time::from_secs(3600), Span::from_secs);
        assert_eq!(trace.entry(0, hour + s(1800), hour + s(1800), None), Ok(()));
        assert_eq!(trace.entry(1, hour, hour + s(3599), None), Ok(()), "the same hour");
        assert_eq!(trace.last(), Some(hour + s(1800)));
        assert_eq!(trace.entry(2, Time::from_secs(0), Time::from_secs(3000), None), Ok(()), "not yet explained");
        assert_eq!(trace.unexplained(), Some(2));
        assert!(trace.entry(3, hour + s(1900), hour + s(1900), None).is_err());
    }
}
