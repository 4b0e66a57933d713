//! The clock on the wall: days of the calendar as numbers, and the instants of a zone.

use event::{Time, Zone};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// How often an instant is looked for before it is given up.
const PROBES: u32 = 6;

/// The days of the Gregorian calendar since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(super) const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of [`days`].
pub(super) const fn calendar(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// The days of a month.
pub(super) const fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A zone, and the offset that its last date had.
#[derive(Clone, Debug)]
pub(super) struct LocalClock {
    zone: TimeZone,
    /// Seconds from what the clock showed to the instant, at the last one found: it decides which of two instants is meant when
    /// the clock is set back.
    last: i64,
}

impl LocalClock {
    pub(super) fn of(zone: &Zone) -> Self {
        let zone = TimeZoneDatabase::bundled().get(zone.name()).unwrap_or(TimeZone::UTC);
        Self { zone, last: 0 }
    }

    /// What the clock shows in seconds since 1970-01-01 00:00, and whether it is set forward for the summer.
    fn shown(&self, second: i64) -> Option<(i64, bool)> {
        let timestamp = Timestamp::from_second(second).ok()?;
        let info = self.zone.to_offset_info(timestamp);
        Some((second + i64::from(info.offset().seconds()), info.dst().is_dst()))
    }

    /// What the clock shows at `time`, in microseconds since 1970-01-01 00:00.
    pub(super) fn now(&self, time: Time) -> i64 {
        let second = time.micros().div_euclid(1_000_000);
        let ahead = self.shown(second).map_or(0, |(shown, _)| shown - second);
        time.micros().saturating_add(ahead.saturating_mul(1_000_000))
    }

    /// Whether the clock is not set within a day of an instant, in seconds.
    pub(super) fn is_steady_around(&self, second: i64) -> bool {
        let ahead = |second: i64| self.shown(second).map(|(shown, _)| shown - second);
        ahead(second - DAY).is_some_and(|before| Some(before) == ahead(second) && Some(before) == ahead(second + DAY))
    }

    /// The instant at which the clock shows `shown`, in seconds.
    ///
    /// As `mktime` of glibc, which does not know whether it is summer: it starts from the offset of the last call, and corrects
    /// it by what the clock shows there. So when the clock is set back, the instant is that with the offset of the last call;
    /// a time that the clock skips is taken as one that summer time shows.
    pub(super) fn instant(&mut self, shown: i64) -> Option<i64> {
        let start = shown.checked_add(self.last)?;
        let (mut guess, mut before, mut last) = (start, start, start);
        let mut was_summer = false;
        for _ in 0..PROBES {
            let (at_guess, is_summer) = self.shown(guess)?;
            let error = shown - at_guess;
            if error == 0 || (guess == before && guess != last && was_summer <= is_summer) {
                self.last = guess - shown;
                return Some(guess);
            }
            (before, last) = (last, guess);
            guess += error;
            was_summer = is_summer;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_one_to_one() {
        let mut expected = -719_162;
        for year in 1..2500 {
            for month in 1..=12 {
                for day in 1..=month_length(year, month) {
                    assert_eq!(days(year, month, day), expected);
                    assert_eq!(calendar(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
        assert_eq!(days(1970, 1, 1), 0);
    }
}
