//! Instants, lengths and shares as whole numbers, and the clock as an argument.
//!
//! Arithmetic saturates. A log may come from somebody who wants its verifier to fall over, and an instant that far from
//! ours means nothing anyway: what counts is that the same bytes give the same answer on every machine.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

const MICROS_PER_S: i64 = 1_000_000;

/// An instant: microseconds since 1970-01-01T00:00:00 UTC, leap seconds not counted (POSIX time).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Time(i64);

impl Time {
    /// The instant `micros` µs after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The instant `seconds` s after the epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_S))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole hours since the epoch: the coarse time that a leaf shows to everybody.
    pub const fn hour(self) -> i64 {
        self.0.div_euclid(3600 * MICROS_PER_S)
    }

    /// The UTC day.
    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(86_400 * MICROS_PER_S))
    }

    /// The start of the UTC minute that holds this instant.
    #[must_use]
    pub const fn minute_start(self) -> Self {
        Self(self.0.div_euclid(60 * MICROS_PER_S).saturating_mul(60 * MICROS_PER_S))
    }

    /// From `earlier` to `self`; negative when `self` is before `earlier`.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC, to the second: `2026-11-22T23:00:00Z`.
    pub fn to_rfc3339(self) -> String {
        self.to_string()
    }

    /// Reads RFC 3339 (`2026-11-22T23:00:00Z`, any offset).
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        Some(Self(timestamp.as_microsecond()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => {
                let seconds = timestamp.as_second();
                match jiff::Timestamp::from_second(seconds) {
                    Ok(whole) => write!(f, "{whole}"),
                    Err(_) => write!(f, "{timestamp}"),
                }
            }
            Err(_) => write!(f, "{} µs after 1970", self.0),
        }
    }
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Time {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A UTC day, counted from 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct Day(i64);

impl Day {
    /// The day `days` days after 1970-01-01.
    pub const fn from_days(days: i64) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i64 {
        self.0
    }

    /// Midnight UTC at which the day starts.
    pub const fn start(self) -> Time {
        Time(self.0.saturating_mul(86_400 * MICROS_PER_S))
    }

    /// The day that holds the given hour since the epoch.
    pub const fn of_hour(hour: i64) -> Self {
        Self(hour.div_euclid(24))
    }
}

impl fmt::Display for Day {
    /// `2026-11-22`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.start().to_string();
        f.write_str(text.get(..10).unwrap_or(&text))
    }
}

/// A length of time in microseconds; negative only as the result of a subtraction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Span(i64);

/// Why a text is not a length of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadSpan {
    text: String,
}

impl fmt::Display for BadSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a length of time: write a whole number and a unit, such as \"10 s\", \"5 min\", \"72 h\" or \"180 d\"",
            self.text
        )
    }
}

impl std::error::Error for BadSpan {}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `micros` µs.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
    /// `millis` ms.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }
    /// `seconds` s.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_S))
    }
    /// `days` days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self(days.saturating_mul(86_400 * MICROS_PER_S))
    }
    /// Microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
    /// The length as people say it: in whole minutes from two hours on, in whole seconds from two seconds on, or in milliseconds;
    /// rounded up.
    #[must_use]
    pub const fn coarse(self) -> Self {
        const STEPS: [(i64, i64); 3] =
            [(7200 * MICROS_PER_S, 60 * MICROS_PER_S), (2 * MICROS_PER_S, MICROS_PER_S), (2000, 1000)];
        let mut at = 0;
        while at < STEPS.len() {
            let (from, step) = STEPS[at];
            if self.0 >= from {
                return Self(self.0.saturating_add(step - 1) / step * step);
            }
            at += 1;
        }
        self
    }

    /// Whole seconds, rounded towards zero.
    pub const fn secs(self) -> i64 {
        self.0 / MICROS_PER_S
    }
    /// The same length for the standard library; a negative length is no time.
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }

    /// Reads `"10 s"`, `"15 min"`, `"1.5 h"` is refused (whole numbers only), `"180 d"`; units ms, s, min, h, d, w.
    pub fn parse(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan { text: text.to_owned() };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let number: i64 = number.parse().map_err(|_| bad())?;
        let unit: i64 = match unit.trim() {
            "ms" => 1000,
            "s" => MICROS_PER_S,
            "min" => 60 * MICROS_PER_S,
            "h" => 3600 * MICROS_PER_S,
            "d" | "j" => 86_400 * MICROS_PER_S,
            "w" => 7 * 86_400 * MICROS_PER_S,
            _ => return Err(bad()),
        };
        number.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Span {
    /// The largest unit that gives a whole number: `90 s`, `15 min`, `180 d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] = [
            (86_400 * MICROS_PER_S, "d"),
            (3600 * MICROS_PER_S, "h"),
            (60 * MICROS_PER_S, "min"),
            (MICROS_PER_S, "s"),
            (1000, "ms"),
        ];
        if self.0 == 0 {
            return f.write_str("0 s");
        }
        for (unit, name) in UNITS {
            if self.0 % unit == 0 {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} µs", self.0)
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A share in parts per billion: 99.99 % is 999,900,000. Whole numbers keep a verdict the same on every machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct Ppb(i64);

impl Ppb {
    /// All of it.
    pub const ONE: Self = Self(1_000_000_000);
    /// None of it.
    pub const ZERO: Self = Self(0);

    /// So many parts per billion.
    pub const fn new(parts: i64) -> Self {
        Self(parts)
    }

    /// Parts per billion.
    pub const fn parts(self) -> i64 {
        self.0
    }

    /// `part / whole`, rounded down; `None` when the whole is nothing.
    pub fn share(part: Span, whole: Span) -> Option<Self> {
        if whole.0 <= 0 {
            return None;
        }
        let parts = i128::from(part.0) * 1_000_000_000 / i128::from(whole.0);
        i64::try_from(parts).ok().map(Self)
    }

    /// Reads `"99.99 %"`: up to seven decimals, nothing lost.
    pub fn parse_percent(text: &str) -> Option<Self> {
        let number = text.trim().strip_suffix('%')?.trim();
        let (whole, decimals) = number.split_once(['.', ',']).unwrap_or((number, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 7 || !all_digits(whole) || !all_digits(decimals) {
            return None;
        }
        let parts: i64 = format!("{whole}{decimals:0<7}").parse().ok()?;
        (parts <= Self::ONE.0).then_some(Self(parts))
    }
}

impl fmt::Display for Ppb {
    /// `99.99 %`, with as many decimals as the figure needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:07}", self.0 % 10_000_000);
        let decimals = decimals.trim_end_matches('0');
        let dot = if decimals.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{decimals} %", self.0 / 10_000_000)
    }
}

/// A reading of a clock that never steps: microseconds since an arbitrary start, suspended time included
/// (CLOCK_BOOTTIME).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Monotonic(pub i64);

impl Monotonic {
    /// From `earlier` to `self`.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// The two clocks of a machine. Everything that needs the time gets one of these as an argument, so that a test can
/// step it, stop it, or make a year pass.
pub trait Clock: Send + Sync {
    /// The wall clock: good for labels, may step at any moment.
    fn now(&self) -> Time;
    /// The monotonic clock: good for lengths and timers, says nothing about the date.
    fn monotonic(&self) -> Monotonic;
    /// How much of the monotonic clock the machine slept through, altogether, where that is known: what tells a machine that
    /// slept from a process that was stopped.
    fn asleep(&self) -> Span {
        Span::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_span_is_what_people_say() {
        let coarse = |micros| Span::from_micros(micros).coarse().to_string();
        assert_eq!(coarse(5_039_045), "6 s");
        assert_eq!(coarse(1_216_833), "1217 ms");
        assert_eq!(coarse(7_200_000_001), "121 min");
        assert_eq!((coarse(17), coarse(0), coarse(i64::MAX).is_empty()), ("17 µs".into(), "0 s".into(), false));
    }

    #[test]
    fn spans_read_and_print_alike() {
        for text in ["10 s", "15 min", "72 h", "180 d", "250 ms"] {
            let span = Span::parse(text).expect(text);
            // 72 h is three days, and prints as the larger unit.
            let again = Span::parse(&span.to_string()).expect("what we print, we read");
            assert_eq!(span, again, "{text}");
        }
        for text in ["", "10", "s", "1.5 h", "-1 s", "10 parsecs", "99999999999999999999 s"] {
            assert!(Span::parse(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn percents_lose_nothing() {
        for (text, parts) in
            [("99.99 %", 999_900_000), ("100%", 1_000_000_000), ("0 %", 0), ("99,9999999 %", 999_999_999)]
        {
            assert_eq!(Ppb::parse_percent(text), Some(Ppb::new(parts)), "{text}");
        }
        for text in ["99.99", "101 %", "99.99999999 %", "-1 %", "% 5", "1e2 %"] {
            assert_eq!(Ppb::parse_percent(text), None, "{text}");
        }
        assert_eq!(Ppb::new(999_900_000).to_string(), "99.99 %");
        assert_eq!(Ppb::ONE.to_string(), "100 %");
    }

    #[test]
    fn times_print_as_rfc3339() {
        let time = Time::from_micros(1_795_388_400_123_456);
        assert_eq!(time.to_string(), "2026-11-22T23:00:00Z");
        assert_eq!(Time::parse_rfc3339("2026-11-22T23:00:00Z"), Some(Time::from_secs(1_795_388_400)));
        assert_eq!(time.day().to_string(), "2026-11-22");
        assert_eq!(Time::from_micros(-1).day(), Day::from_days(-1));
    }

    /// Nothing that a hostile log can say makes its reader fall over.
    #[test]
    fn arithmetic_ends_where_the_numbers_end() {
        for extreme in [i64::MIN, i64::MAX] {
            let (time, span) = (Time::from_micros(extreme), Span::from_micros(extreme));
            for other in [Time::from_micros(i64::MIN), Time::from_micros(i64::MAX), Time::default()] {
                let since = time.since(other);
                assert_eq!(since >= Span::ZERO, time >= other);
                assert_eq!(Monotonic(time.micros()).since(Monotonic(other.micros())), since);
            }
            assert_eq!(Time::from_secs(extreme), time);
            assert_eq!(Day::from_days(extreme).start(), time);
            assert_eq!([Span::from_secs(extreme), Span::from_millis(extreme), Span::from_days(extreme)], [span; 3]);
            assert_eq!((time + span, span + span), (time, span));
            let texts =
                [time.to_string(), span.to_string(), time.day().to_string(), Day::from_days(extreme).to_string()];
            assert!(texts.iter().all(|text| !text.is_empty()));
            assert!(time.minute_start() <= time && time.hour() / 24 == time.day().days() + i64::from(extreme < 0));
        }
    }
}
