//! The clock on the wall: from what calendar and clock of a zone show to the instant, and back.
//!
//! People agree on "Monday at 9", never on a number of hours, so a schedule is made of readings of a clock. When the clock is
//! set forward, some readings never come; when it is set back, some come twice. One rule covers both: **a reading means the
//! first instant at which calendar and clock show it, or something later.** A hand-over at 02:30 on the night on which the
//! clock jumps from 02:00 to 03:00 is at the jump; on the night on which 02:30 comes twice, it is at the first of the two. So
//! later readings never mean earlier instants, and shifts neither overlap nor leave a hole. A day that a zone leaves out
//! (Pacific/Apia, 2011-12-30) has all its readings at the instant at which the next day begins.

use std::fmt;

use event::{Time, Zone};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use policy::{Slot, Value};

/// Minutes in a day of the calendar, as a clock counts them: a day of 23 or 25 hours has as many readings as any other.
pub(super) const DAY_MINUTES: i64 = 24 * 60;

/// The words for the days of the week, Monday first.
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Calendar and clock of a zone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct WallClock {
    zone: Zone,
    rules: TimeZone,
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.zone)
    }
}

impl WallClock {
    pub(super) fn of(zone: &Zone) -> Self {
        // A zone has been found in the same database before.
        let rules = TimeZoneDatabase::bundled().get(zone.name()).unwrap_or(TimeZone::UTC);
        Self { zone: zone.clone(), rules }
    }

    pub(super) const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The day that the calendar shows; for an instant beyond all calendars the last day, or the first.
    pub(super) fn date(&self, at: Time) -> Date {
        let instant = Timestamp::from_microsecond(at.micros());
        let instant = instant.unwrap_or(if at.micros() < 0 { Timestamp::MIN } else { Timestamp::MAX });
        Date(self.rules.to_datetime(instant).date())
    }

    /// The instant that a reading means: `minutes` after midnight of `date`, as the clock counts them, which may be more than a
    /// day. See the head of this file for what a clock leaves out or shows twice.
    pub(super) fn first(&self, date: Date, minutes: i64) -> Time {
        let reading = date.0.at(0, 0, 0, 0).saturating_add(SignedDuration::from_mins(minutes));
        let instant = match self.rules.to_ambiguous_timestamp(reading).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(reading)
            }
            // By the later offset the reading is before the jump, and the jump is the next thing to come.
            AmbiguousOffset::Gap { after, .. } => after
                .to_timestamp(reading)
                .map(|before| self.rules.following(before).next().map_or(before, |jump| jump.timestamp())),
        };
        let instant = instant.unwrap_or(if reading.year() < 0 { Timestamp::MIN } else { Timestamp::MAX });
        Time::from_micros(instant.as_microsecond())
    }
}

/// A day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Date(civil::Date);

impl Date {
    /// The first year and the last that a policy may name.
    const YEARS: std::ops::RangeInclusive<i16> = 2000..=2999;

    /// Reads `2026-12-07`.
    pub fn parse(text: &str) -> Option<Self> {
        let shape = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
        let shaped = text.len() == "2026-12-07".len() && text.bytes().enumerate().all(shape);
        let date: civil::Date = shaped.then(|| text.parse().ok())??;
        Self::YEARS.contains(&date.year()).then_some(Self(date))
    }

    /// The day of the week, 0 for Monday.
    pub(super) fn weekday(self) -> usize {
        usize::from(self.0.weekday().to_monday_zero_offset().unsigned_abs())
    }

    /// So many days later, or earlier; the calendar ends with the year 9999.
    pub(super) fn plus(self, days: i64) -> Self {
        let days = days.clamp(-FARTHEST_DAYS, FARTHEST_DAYS);
        Self(self.0.saturating_add(days.days()))
    }

    /// Days from `earlier` to this one.
    pub(super) fn since(self, earlier: Self) -> i64 {
        self.0.duration_since(earlier.0).as_hours() / 24
    }

    /// The nearest days before and after that are this day of the week.
    pub(super) fn nearest(self, weekday: usize) -> [Self; 2] {
        let back = i64::try_from((self.weekday() + 7 - weekday) % 7).unwrap_or_default();
        [self.plus(-back), self.plus(7 - back)]
    }
}

/// More days than the calendar has.
const FARTHEST_DAYS: i64 = 7_000_000;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Value for Date {
    const SHAPE: &'static str = "a day";
    const EXAMPLE: &'static str = "\"2026-12-07\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.date::<Self>()?;
        let date = Self::parse(text);
        if date.is_none() {
            let reason = format!("`{}` is not a day", text.chars().take(40).collect::<String>().escape_debug());
            slot.wrong(reason, "write year, month and day, such as \"2026-12-07\"");
        }
        date
    }
}

/// The day of the week that a word means, 0 for Monday.
pub(super) fn weekday_named(word: &str) -> Option<usize> {
    WEEKDAYS.iter().position(|known| known.eq_ignore_ascii_case(word))
}

/// The word for a day of the week, 0 for Monday.
pub(super) fn weekday_word(weekday: usize) -> &'static str {
    WEEKDAYS.get(weekday).copied().unwrap_or("Sun")
}

/// Minutes since midnight of `HH:MM`, up to 23:59.
pub(super) fn minutes_of(text: &str) -> Option<i64> {
    let digits = |text: &str| (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse());
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (i64, i64) = (digits(hours)?.ok()?, digits(minutes)?.ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// `HH:MM` of minutes since midnight.
pub(super) fn clock_text(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clock leaves out is at the jump, what it shows twice is at the first time, and the order is kept.
    #[test]
    fn a_reading_means_one_instant() {
        for (zone, date, minutes, instant) in [
            ("UTC", "2026-12-07", 9 * 60, "2026-12-07T09:00:00Z"),
            ("Europe/Paris", "2026-12-07", 9 * 60, "2026-12-07T08:00:00Z"),
            ("Europe/Paris", "2026-07-06", 9 * 60, "2026-07-06T07:00:00Z"),
            // Forward: 02:00 to 03:00 at 01:00 UTC.
            ("Europe/Paris", "2026-03-29", 119, "2026-03-29T00:59:00Z"),
            ("Europe/Paris", "2026-03-29", 120, "2026-03-29T01:00:00Z"),
            ("Europe/Paris", "2026-03-29", 150, "2026-03-29T01:00:00Z"),
            ("Europe/Paris", "2026-03-29", 180, "2026-03-29T01:00:00Z"),
            ("Europe/Paris", "2026-03-29", 181, "2026-03-29T01:01:00Z"),
            // Back: 03:00 to 02:00 at 01:00 UTC.
            ("Europe/Paris", "2026-10-25", 120, "2026-10-25T00:00:00Z"),
            ("Europe/Paris", "2026-10-25", 150, "2026-10-25T00:30:00Z"),
            ("Europe/Paris", "2026-10-25", 180, "2026-10-25T02:00:00Z"),
            // Half an hour, in autumn of the other half of the world.
            ("Australia/Lord_Howe", "2026-10-04", 135, "2026-10-03T15:30:00Z"),
            // Back over midnight: the day begins once the clock shows it for good.
            ("America/Sao_Paulo", "2018-02-18", 0, "2018-02-18T03:00:00Z"),
            // A day that was left out.
            ("Pacific/Apia", "2011-12-30", 0, "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-30", 23 * 60, "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-31", 0, "2011-12-30T10:00:00Z"),
        ] {
            let clock = WallClock::of(&Zone::named(zone).expect("a zone"));
            let found = clock.first(Date::parse(date).expect("a day"), minutes);
            assert_eq!(found.to_rfc3339(), instant, "{zone} {date} {minutes}");
        }
        for extreme in [i64::MIN, i64::MAX] {
            let clock = WallClock::of(&Zone::UTC);
            let date = clock.date(Time::from_micros(extreme));
            clock.first(date.plus(extreme), extreme.signum() * DAY_MINUTES);
        }
    }

    #[test]
    fn days_and_times_are_read_strictly() {
        for (text, sound) in [
            ("2026-12-07", true),
            ("2024-02-29", true),
            ("2026-02-29", false),
            ("2026-12-7", false),
            ("20261207", false),
            ("2026-12-07T00:00", false),
            ("1999-12-31", false),
            ("", false),
        ] {
            assert_eq!(Date::parse(text).is_some(), sound, "{text}");
        }
        for (text, minutes) in [
            ("09:00", Some(540)),
            ("23:59", Some(1439)),
            ("24:00", None),
            ("9:00", None),
            ("09:60", None),
            ("09", None),
        ] {
            assert_eq!(minutes_of(text), minutes, "{text}");
        }
        let monday = Date::parse("2026-12-07").expect("a day");
        assert_eq!(monday.weekday(), 0);
        assert_eq!(monday.nearest(0)[0], monday);
        assert_eq!(monday.nearest(6).map(|day| day.to_string()), ["2026-12-06", "2026-12-13"]);
    }
}
