//! Figures as the pages write them, in both languages.
//!
//! A measured figure that misses its target must never be rounded until it looks like it. So the low end is rounded down,
//! the high end up, and decimals are added for as long as a figure on one side of the target would be shown as the target
//! itself.

use std::fmt::Write as _;

use event::{Ppb, Span};

use super::{Language, NARROW};

/// Decimals of a percentage that parts per billion can fill.
const DECIMALS_MAX: u32 = 7;
/// Decimals that a figure is shown with when its target needs fewer.
const DECIMALS_USUAL: u32 = 3;
const SECOND: i64 = 1_000_000;
const MILLISECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How a figure may be rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// Every decimal is shown.
    Exact,
    /// Rounded down; distinguishable from the target unless it is equal to it.
    Down(Ppb),
    /// Rounded up; distinguishable from the target unless it is equal to it.
    Up(Ppb),
}

impl Language {
    const fn decimal_mark(self) -> char {
        match self {
            Self::French => ',',
            Self::English => '.',
        }
    }

    /// `99.99 %`, `99,99 %`.
    pub fn percent(self, share: Ppb, precision: Precision) -> String {
        let parts = match precision {
            Precision::Exact => share.parts(),
            Precision::Down(target) => rounded(share.parts(), target.parts(), i64::div_euclid),
            Precision::Up(target) => rounded(share.parts(), target.parts(), |parts, step| -(-parts).div_euclid(step)),
        };
        let decimals = format!("{:07}", parts % 10_000_000);
        let decimals = decimals.trim_end_matches('0');
        let mut text = (parts / 10_000_000).to_string();
        if !decimals.is_empty() {
            text.push(self.decimal_mark());
            text.push_str(decimals);
        }
        text.push(NARROW);
        text.push('%');
        text
    }

    /// A length of time to the nearest second: `1 h 2 min 5 s`, `3 j 4 h`. Below ten seconds, milliseconds are shown.
    pub fn span(self, span: Span) -> String {
        let micros = span.micros().max(0);
        self.units(Rounding::Nearest.to(usual(micros), micros))
    }

    /// A length of time that is compared with `target`: shown as the target only when it is equal to it, with as many decimals
    /// as that takes.
    pub(super) fn measured(self, span: Span, target: Span, rounding: Rounding) -> String {
        let (micros, target) = (span.micros().max(0), target.micros());
        let finer = [SECOND, MILLISECOND, 1].into_iter().filter(|step| *step <= usual(micros));
        let rounded = finer.map(|step| rounding.to(step, micros));
        let told_apart = rounded.into_iter().find(|shown| shown.cmp(&target) == micros.cmp(&target));
        self.units(told_apart.unwrap_or(micros))
    }

    /// A length of time by its two largest units, for sentences: `41 min`, `3 d 4 h`. Nobody reads milliseconds there.
    pub fn about(self, span: Span) -> String {
        self.by_two_units(span, Rounding::Nearest)
    }

    /// A length of time after "at least": never more than it is, and "less than 1 s" would say nothing there.
    pub(super) fn bound(self, span: Span) -> String {
        match span.micros() {
            micros @ 1..SECOND => self.units(Rounding::Down.to(MILLISECOND.min(micros), micros)),
            _ => self.by_two_units(span, Rounding::Down),
        }
    }

    /// How much of a window has passed: not all of it before it has.
    pub(super) fn elapsed(self, span: Span) -> String {
        self.by_two_units(span, Rounding::Down)
    }

    fn by_two_units(self, span: Span, rounding: Rounding) -> String {
        let micros = span.micros();
        let step = match micros {
            DAY.. => HOUR,
            HOUR..DAY => MINUTE,
            _ => SECOND,
        };
        match (self, micros) {
            (Self::French, 1..SECOND) => format!("moins de 1{NARROW}s"),
            (Self::English, 1..SECOND) => format!("less than 1{NARROW}s"),
            _ => self.units(rounding.to(step, micros)),
        }
    }

    fn units(self, micros: i64) -> String {
        let micros = micros.max(0);
        let decimals = format!("{:06}", micros % SECOND);
        let decimals = decimals.trim_end_matches('0');
        if micros < 10 * SECOND || !decimals.is_empty() {
            let mut text = match micros / MINUTE {
                0 => String::new(),
                minutes => format!("{} ", self.units(minutes * MINUTE)),
            };
            text.push_str(&(micros % MINUTE / SECOND).to_string());
            if !decimals.is_empty() {
                text.push(self.decimal_mark());
                text.push_str(decimals);
            }
            return format!("{text}{NARROW}s");
        }
        let day = match self {
            Self::French => "j",
            Self::English => "d",
        };
        let mut rest = micros / SECOND;
        let mut parts = Vec::new();
        for (seconds, unit) in [(86_400, day), (3600, "h"), (60, "min"), (1, "s")] {
            parts.push((rest / seconds, unit));
            rest %= seconds;
        }
        let mut text = String::new();
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let gap = if text.is_empty() { "" } else { " " };
            // Writing to a String can't fail.
            let _infallible = write!(text, "{gap}{count}{NARROW}{unit}");
        }
        text
    }

    /// `365 days`, `365 jours`, `1 day`, `15 min`: the length of a window.
    pub fn window(self, span: Span) -> String {
        let days = span.micros() / (86_400 * SECOND);
        if days * 86_400 * SECOND == span.micros() && days > 0 { self.days(days) } else { self.about(span) }
    }

    pub(super) fn days(self, days: i64) -> String {
        format!("{}{NARROW}{}", self.count(days.unsigned_abs()), self.word_days(days))
    }

    pub(super) const fn word_days(self, days: i64) -> &'static str {
        match (self, days) {
            (Self::French, -1..=1) => "jour",
            (Self::French, _) => "jours",
            (Self::English, 1) => "day",
            (Self::English, _) => "days",
        }
    }

    /// `1 234 567`, `1,234,567`.
    pub fn count(self, count: u64) -> String {
        let digits = count.to_string();
        let mark = match self {
            Self::French => NARROW,
            Self::English => ',',
        };
        let mut text = String::new();
        for (position, digit) in digits.chars().enumerate() {
            if position > 0 && (digits.len() - position).is_multiple_of(3) {
                text.push(mark);
            }
            text.push(digit);
        }
        text
    }
}

/// How a length of time is rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rounding {
    Down,
    Nearest,
    Up,
}

impl Rounding {
    /// To a multiple of `step`.
    fn to(self, step: i64, micros: i64) -> i64 {
        let more = match self {
            Self::Down => 0,
            Self::Nearest => step / 2,
            Self::Up => step - 1,
        };
        micros.saturating_add(more).div_euclid(step) * step
    }
}

/// The least that is shown of such a length.
const fn usual(micros: i64) -> i64 {
    if micros < 10 * SECOND { MILLISECOND } else { SECOND }
}

/// Rounds to the usual decimals, or to as many more as tell the figure from the target.
fn rounded(parts: i64, target: i64, divide: impl Fn(i64, i64) -> i64) -> i64 {
    let mut decimals = DECIMALS_USUAL;
    loop {
        let step = 10_i64.pow(DECIMALS_MAX - decimals);
        let shown = divide(parts, step) * step;
        if decimals == DECIMALS_MAX || shown.cmp(&target) == parts.cmp(&target) {
            return shown;
        }
        decimals += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace(NARROW, " ")
    }

    #[test]
    fn a_missed_target_is_never_rounded_into_a_kept_one() {
        let target = Ppb::new(999_900_000);
        for (parts, down, up) in [
            (999_900_000, "99.99 %", "99.99 %"),
            (999_910_000, "99.991 %", "99.991 %"),
            (999_912_345, "99.991 %", "99.992 %"),
            (999_899_999, "99.989 %", "99.9899999 %"),
            (999_900_001, "99.9900001 %", "99.991 %"),
            (999_895_000, "99.989 %", "99.9895 %"),
            (1_000_000_000, "100 %", "100 %"),
            (0, "0 %", "0 %"),
        ] {
            let share = Ppb::new(parts);
            assert_eq!(plain(&Language::English.percent(share, Precision::Down(target))), down, "{parts} down");
            assert_eq!(plain(&Language::English.percent(share, Precision::Up(target))), up, "{parts} up");
        }
        // Every figure near the target is shown on the same side of it, or as the target only when it is equal.
        for parts in 999_899_000..999_901_000 {
            for precision in [Precision::Down(target), Precision::Up(target)] {
                let shown = Language::English.percent(Ppb::new(parts), precision);
                let shown = Ppb::parse_percent(&plain(&shown)).expect("what we print is a percentage");
                assert_eq!(shown.cmp(&target), Ppb::new(parts).cmp(&target), "{parts}");
            }
        }
        assert_eq!(Language::French.percent(target, Precision::Exact), "99,99\u{202f}%");
    }

    /// A length that misses its target by a millisecond is not shown as the target.
    #[test]
    fn a_length_is_shown_on_its_side_of_the_target() {
        let minute = Span::from_secs(60);
        for (micros, down, nearest, up) in [
            (60_000_000, "1 min", "1 min", "1 min"),
            (60_200_000, "1 min 0.2 s", "1 min 0.2 s", "1 min 1 s"),
            (59_800_000, "59 s", "59.8 s", "59.8 s"),
            (60_000_001, "1 min 0.000001 s", "1 min 0.000001 s", "1 min 1 s"),
            (4_253_123, "4.253 s", "4.253 s", "4.254 s"),
            (3_661_400_000, "1 h 1 min 1 s", "1 h 1 min 1 s", "1 h 1 min 2 s"),
        ] {
            for (rounding, shown) in [(Rounding::Down, down), (Rounding::Nearest, nearest), (Rounding::Up, up)] {
                let measured = Language::English.measured(Span::from_micros(micros), minute, rounding);
                assert_eq!(plain(&measured), shown, "{micros} {rounding:?}");
            }
        }
        let french = Language::French.measured(Span::from_millis(60_200), minute, Rounding::Nearest);
        assert_eq!(plain(&french), "1 min 0,2 s");
    }

    #[test]
    fn lengths_read_well() {
        for (span, exact, about) in [
            (Span::ZERO, "0 s", "0 s"),
            (Span::from_millis(850), "0.85 s", "less than 1 s"),
            (Span::from_millis(4_250), "4.25 s", "4 s"),
            (Span::from_secs(59), "59 s", "59 s"),
            (Span::from_secs(900), "15 min", "15 min"),
            (Span::from_secs(903), "15 min 3 s", "15 min 3 s"),
            (Span::from_secs(3605), "1 h 5 s", "1 h"),
            (Span::from_secs(3725), "1 h 2 min 5 s", "1 h 2 min"),
            (Span::from_secs(3 * 86_400 + 4 * 3600 + 59), "3 d 4 h 59 s", "3 d 4 h"),
            // To the nearest, whatever the unit.
            (Span::from_micros(1_678_432), "1.678 s", "2 s"),
            (Span::from_micros(9_999_600), "10 s", "10 s"),
            (Span::from_millis(59_700), "1 min", "1 min"),
            (Span::from_secs(4 * 3600 - 10), "3 h 59 min 50 s", "4 h"),
            (Span::from_secs(2 * 86_400 - 60), "1 d 23 h 59 min", "2 d"),
        ] {
            assert_eq!(plain(&Language::English.span(span)), exact);
            assert_eq!(plain(&Language::English.about(span)), about);
        }
        assert_eq!(plain(&Language::English.bound(Span::from_millis(850))), "0.85 s");
        assert_eq!(plain(&Language::English.bound(Span::from_millis(4_950))), "4 s", "at least");
        assert_eq!(plain(&Language::English.bound(Span::from_micros(7))), "0.000007 s");
        assert_eq!(plain(&Language::English.elapsed(Span::from_millis(3_599_900))), "59 min 59 s", "not an hour yet");
        assert_eq!(plain(&Language::French.span(Span::from_days(2))), "2 j");
        assert_eq!(plain(&Language::French.span(Span::from_millis(4_250))), "4,25 s");
        assert_eq!(plain(&Language::French.window(Span::from_days(365))), "365 jours");
        assert_eq!(plain(&Language::English.window(Span::from_days(1))), "1 day");
        assert_eq!(plain(&Language::English.window(Span::from_secs(90 * 60))), "1 h 30 min");
    }

    #[test]
    fn counts() {
        assert_eq!(Language::English.count(1_234_567), "1,234,567");
        assert_eq!(plain(&Language::French.count(1_234_567)), "1 234 567");
        assert_eq!(Language::French.count(999), "999");
    }
}
