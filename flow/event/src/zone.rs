//! Time zones: the clocks by which people read an instant.
//!
//! Only what is shown to people is in a zone; what programs read and what is journaled stays in UTC. The rules of the zones are
//! in the binary: a container has no `/usr/share/zoneinfo`, and the same release shows the same time everywhere. A zone whose
//! rules have changed since is shown by the old ones until the next release; the instants are right all the same.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use crate::Time;

/// A time zone of the IANA database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone(TimeZone);

/// What the calendar and the clock of a zone show at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalTime {
    /// The year.
    pub year: i16,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The minute.
    pub minute: u8,
    /// The second.
    pub second: u8,
    /// Whether the clock shows this twice: it is set back that night.
    pub is_repeated: bool,
    /// How far the clock is ahead of UTC.
    ahead: Offset,
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone with this name, such as `Europe/Paris`, however its letters are written.
    pub fn named(name: &str) -> Option<Self> {
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        zone.iana_name().is_some().then_some(Self(zone))
    }

    /// The names of all zones.
    pub fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What calendar and clock show; nothing at an instant that no calendar has.
    pub fn at(&self, time: Time) -> Option<LocalTime> {
        let timestamp = Timestamp::from_microsecond(time.micros()).ok()?;
        let ahead = self.0.to_offset(timestamp);
        let shown = ahead.to_datetime(timestamp);
        Some(LocalTime {
            year: shown.year(),
            month: shown.month().unsigned_abs(),
            day: shown.day().unsigned_abs(),
            hour: shown.hour().unsigned_abs(),
            minute: shown.minute().unsigned_abs(),
            second: shown.second().unsigned_abs(),
            is_repeated: matches!(
                self.0.to_ambiguous_timestamp(shown).offset(),
                jiff::tz::AmbiguousOffset::Fold { .. }
            ),
            ahead,
        })
    }

    /// RFC 3339 to the second, with the offset of the zone: `2026-11-23T00:00:00+01:00`, in UTC `2026-11-22T23:00:00Z`.
    pub fn rfc3339(&self, time: Time) -> String {
        let whole = Timestamp::from_second(time.micros().div_euclid(1_000_000)).ok();
        match whole.filter(|_| *self != Self::UTC) {
            Some(whole) => whole.display_with_offset(self.0.to_offset(whole)).to_string(),
            None => time.to_rfc3339(),
        }
    }

    /// `text` with each time in UTC (`2026-11-22T23:00:00Z`, also with a fraction of the second) written with the offset of the
    /// zone, as [`Self::rfc3339`] does. Sentences of entries, details and lines of a log hold such times.
    pub fn of_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if *self == Self::UTC {
            return Cow::Borrowed(text);
        }
        let (mut shown, mut done, mut place) = (String::new(), 0, 0);
        while place + SHAPE.len() < text.len() {
            let found = text.get(place..).and_then(|rest| Some((rest, utc_at_start(rest)?)));
            let Some((rest, length)) = found else {
                place += 1;
                continue;
            };
            let (seconds, fraction) = rest.get(..length - 1).unwrap_or_default().split_at(SHAPE.len());
            let Some(time) = Time::parse_rfc3339(&format!("{seconds}Z")) else {
                place += length;
                continue;
            };
            let local = self.rfc3339(time);
            let (local, offset) = local.split_at_checked(SHAPE.len()).unwrap_or((&local, ""));
            shown.extend([text.get(done..place).unwrap_or_default(), local, fraction, offset]);
            place += length;
            done = place;
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        shown.push_str(text.get(done..).unwrap_or_default());
        Cow::Owned(shown)
    }
}

/// Date and time of RFC 3339, to the second.
const SHAPE: &[u8] = b"0000-00-00T00:00:00";

/// The length of the time in UTC that `text` starts with, its `Z` included.
fn utc_at_start(text: &str) -> Option<usize> {
    let (seconds, rest) = text.as_bytes().split_at_checked(SHAPE.len())?;
    let is_time =
        seconds.iter().zip(SHAPE).all(|(byte, of)| if *of == b'0' { byte.is_ascii_digit() } else { byte == of });
    let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fraction = rest.strip_prefix(b".").map_or(0, |rest| 1 + digits(rest));
    (is_time && fraction != 1 && rest.get(fraction) == Some(&b'Z')).then_some(SHAPE.len() + fraction + 1)
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl LocalTime {
    /// Year, month and day.
    pub const fn date(self) -> (i16, u8, u8) {
        (self.year, self.month, self.day)
    }

    /// How far the clock is ahead of UTC: `UTC+1`, `UTC+5:45`, `UTC`.
    pub fn ahead(self) -> String {
        let minutes = self.ahead.seconds() / 60;
        let (sign, minutes) = (if minutes < 0 { '−' } else { '+' }, minutes.abs());
        match (minutes / 60, minutes % 60) {
            (0, 0) => "UTC".to_owned(),
            (hours, 0) => format!("UTC{sign}{hours}"),
            (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time::parse_rfc3339(text).expect("RFC 3339")
    }

    fn zone(name: &str) -> Zone {
        Zone::named(name).unwrap_or_else(|| panic!("{name} is in the binary"))
    }

    #[test]
    fn zones_have_names() {
        for (name, found) in [
            ("UTC", Some("UTC")),
            ("Europe/Paris", Some("Europe/Paris")),
            ("europe/paris", Some("Europe/Paris")),
            ("US/Eastern", Some("US/Eastern")),
            ("Europe/Pari", None),
            ("Etc/Unknown", None),
            ("+01:00", None),
            ("CET-1CEST", None),
            ("/etc/localtime", None),
            ("../../etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(Zone::named(name).as_ref().map(Zone::name), found, "{name}");
        }
        assert!(Zone::names().iter().any(|name| name == "Asia/Kathmandu"));
        assert_eq!(Zone::default(), zone("UTC"));
    }

    /// The night on which the clock is set forward, the one on which it is set back, and a zone that is not whole hours away.
    #[test]
    fn an_instant_has_one_text_in_each_zone() {
        for (name, utc, shown, ahead, is_repeated) in [
            ("Europe/Paris", "2026-03-29T00:59:59Z", "2026-03-29T01:59:59+01:00", "UTC+1", false),
            ("Europe/Paris", "2026-03-29T01:00:00Z", "2026-03-29T03:00:00+02:00", "UTC+2", false),
            ("Europe/Paris", "2026-10-24T23:59:59Z", "2026-10-25T01:59:59+02:00", "UTC+2", false),
            ("Europe/Paris", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00", "UTC+2", true),
            ("Europe/Paris", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00+01:00", "UTC+1", true),
            ("Europe/Paris", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00+01:00", "UTC+1", false),
            ("Asia/Kathmandu", "2026-11-22T23:00:00Z", "2026-11-23T04:45:00+05:45", "UTC+5:45", false),
            ("America/St_Johns", "2026-11-22T23:00:00Z", "2026-11-22T19:30:00-03:30", "UTC−3:30", false),
            ("UTC", "2026-11-22T23:00:00Z", "2026-11-22T23:00:00Z", "UTC", false),
        ] {
            let (zone, time) = (zone(name), time(utc));
            assert_eq!(zone.rfc3339(time), shown);
            assert_eq!(Time::parse_rfc3339(shown), Some(time), "what is shown can be asked for");
            let local = zone.at(time).expect("a day of a calendar");
            assert_eq!((local.ahead().as_str(), local.is_repeated), (ahead, is_repeated), "{utc} in {name}");
            let clock = format!("{:02}:{:02}:{:02}", local.hour, local.minute, local.second);
            assert_eq!(Some(clock.as_str()), shown.get(11..19));
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!zone("Europe/Paris").rfc3339(Time::from_micros(extreme)).is_empty());
        }
        let micros = Time::from_micros(-1);
        assert_eq!(zone("Asia/Kathmandu").rfc3339(micros), "1970-01-01T05:29:59+05:30");
    }

    #[test]
    fn a_text_holds_times() {
        let paris = zone("Europe/Paris");
        for (text, shown) in [
            ("expired on 2026-11-22T23:00:00Z", "expired on 2026-11-23T00:00:00+01:00"),
            (
                "été, 2026-07-01T00:00:00Z to 2026-07-01T01:00:00Z é",
                "été, 2026-07-01T02:00:00+02:00 to 2026-07-01T03:00:00+02:00 é",
            ),
            ("2026-11-22T23:00:00.123456Z  INFO up", "2026-11-23T00:00:00.123456+01:00  INFO up"),
            ("2026-11-22T23:00:00Z", "2026-11-23T00:00:00+01:00"),
            ("2026-11-22T23:00:00.Z", "2026-11-22T23:00:00.Z"),
            ("2026-13-22T23:00:00Z", "2026-13-22T23:00:00Z"),
            ("2026-11-22T23:00:00+00:00", "2026-11-22T23:00:00+00:00"),
            ("", ""),
        ] {
            assert_eq!(paris.of_text(text), shown);
            assert_eq!(Zone::UTC.of_text(text), text);
        }
    }
}
