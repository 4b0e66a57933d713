//! How far the clock of a server is ahead of ours, from readings of both.

use event::{Monotonic, Span, Time};

/// How much two clocks may part in a while, one millionth of it each: quartz without any correction, and what one is slewed by at most.
const DRIFT_PPM: i64 = 600;

/// Two bounds of how far the server's clock is ahead of ours.
///
/// Each reading of the server's clock lies between two of ours, which are as far apart as the answer took. The receiver keeps what all
/// readings agree on: one that took long spoils nothing that a quick one has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    least: Span,
    most: Span,
    at: Monotonic,
}

impl Ahead {
    /// What one reading shows: `clock` was the server's at an instant between `before` and `after` of ours, which ends `at`.
    pub(super) fn read(clock: Time, (before, after): (Time, Time), at: Monotonic) -> Self {
        Self { least: clock.since(after.max(before)), most: clock.since(before), at }
    }

    /// What is known after this reading. Where it contradicts what was `known`, one of the clocks was set, and this one counts.
    pub(super) fn after(self, known: Option<Self>) -> Self {
        let Some(known) = known else { return self };
        let drift = Span::from_micros(self.at.since(known.at).micros().saturating_mul(DRIFT_PPM) / 1_000_000);
        let (least, most) = (self.least.max(known.least - drift), self.most.min(known.most + drift));
        if least <= most { Self { least, most, ..self } } else { self }
    }

    /// The best guess: none at all where the two clocks may be one.
    pub(super) fn guess(self) -> Span {
        if self.least <= Span::ZERO && self.most >= Span::ZERO {
            return Span::ZERO;
        }
        self.least + Span::from_micros((self.most - self.least).micros() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Span {
        Span::from_millis(ms)
    }

    /// BK-2: a slow answer of a server with another clock moves no commit to the other side of an instant.
    #[test]
    fn a_slow_reading_spoils_nothing_that_a_quick_one_has_shown() {
        let ours = Time::from_secs(1_000_000);
        let at = |ms: i64| Monotonic(ms * 1000);
        for offset in [ms(3_600_000), ms(-3_600_000)] {
            let reading = |begun: i64, before: i64, took: i64| {
                let (begun, until) = (ours + ms(begun), ours + ms(begun + took));
                Ahead::read(begun + ms(before) + offset, (begun, until), at(1000))
            };
            let quick = reading(0, 1, 2);
            assert!((quick.guess() - offset).micros().abs() <= 1000, "{quick:?}");
            let both = reading(1000, 790, 800).after(Some(quick));
            assert!((both.guess() - offset).micros().abs() <= 1000, "{both:?}");
            let both = quick.after(Some(reading(0, 790, 800)));
            assert!((both.guess() - offset).micros().abs() <= 1000, "{both:?}");
        }
        // One clock, however long it takes.
        assert_eq!(Ahead::read(ours, (ours - ms(1), ours + ms(900)), at(0)).guess(), Span::ZERO);
        // A clock that was set is believed at once, one that drifts after a while.
        let known = Some(Ahead::read(ours, (ours, ours), at(0)));
        assert_eq!(Ahead::read(ours + ms(5000), (ours, ours), at(1000)).after(known).guess(), ms(5000));
        let hour = Ahead::read(ours + ms(1000), (ours, ours), at(3_600_000)).after(known);
        assert_eq!(hour.guess(), ms(1000));
    }
}
