//! A time from the fields of a date, with what the line does not say taken from now.

use super::directives::{FIELDS, Field};
use super::local::{DAY, LocalClock, calendar, days, month_length};
use super::zones;

/// Why there is no time in the fields of a date. fail2ban goes on after the one and drops the line after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// It is no date of the calendar, or a word that means none: the line has no time of its own.
    Text,
    /// An abbreviation of a zone that nobody knows, or fields that make no date together: fail2ban drops the whole line.
    Line,
}

/// The zeros of the decimal digits that are not of ASCII (Unicode, category Nd): each is followed by the other nine.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x1_04a0, 0x1_0d30, 0x1_1066, 0x1_10f0, 0x1_1136, 0x1_11d0,
    0x1_12f0, 0x1_1450, 0x1_14d0, 0x1_1650, 0x1_16c0, 0x1_1730, 0x1_18e0, 0x1_1950, 0x1_1c50, 0x1_1d50, 0x1_1da0,
    0x1_6a60, 0x1_6ac0, 0x1_6b50, 0x1_d7ce, 0x1_d7d8, 0x1_d7e2, 0x1_d7ec, 0x1_d7f6, 0x1_e140, 0x1_e2f0, 0x1_e950,
    0x1_fbf0,
];

/// The value of a decimal digit of any script.
pub(super) fn digit(character: char) -> Option<i64> {
    if character.is_ascii() {
        return character.to_digit(10).map(i64::from);
    }
    let code = u32::from(character);
    let zero = ZEROS.iter().rev().find(|zero| **zero <= code)?;
    (code - zero < 10).then_some(i64::from(code - zero))
}

/// A whole number, as Python reads one.
pub(super) fn number(text: &str) -> Result<i64, Unread> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (if text.starts_with('-') { -1 } else { 1 }, digits),
        None => (1, text),
    };
    let mut value: i64 = 0;
    let mut may_separate = false;
    for character in digits.chars() {
        match digit(character) {
            Some(digit) => {
                value = value.saturating_mul(10).saturating_add(digit);
                may_separate = true;
            }
            None if character == '_' && may_separate => may_separate = false,
            None => return Err(Unread::Text),
        }
    }
    if may_separate { Ok(sign * value) } else { Err(Unread::Text) }
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
/// The name of a month, from 1.
#[cfg(test)]
pub(super) fn month_name(month: i64) -> &'static str {
    usize::try_from(month - 1).ok().and_then(|place| MONTHS.get(place)).copied().unwrap_or_default()
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The place of a name among `names`, or among their first three letters.
fn place(text: &str, names: &[&str], is_short: bool) -> Result<i64, Unread> {
    let text = text.to_lowercase();
    let found = names.iter().position(|name| if is_short { name.get(..3) == Some(&text) } else { *name == text });
    found.and_then(|place| i64::try_from(place).ok()).ok_or(Unread::Text)
}

/// The day of the year, from 1, of a day (Monday is 0) in a week that starts on Monday or on Sunday.
fn day_of_week(year: i64, week: i64, day: i64, starts_on_monday: bool) -> i64 {
    let first = (days(year, 1, 1) + 3).rem_euclid(7);
    let (first, day) = if starts_on_monday { (first, day) } else { ((first + 1) % 7, (day + 1) % 7) };
    if week == 0 { 1 + day - first } else { 1 + (7 - first) % 7 + 7 * (week - 1) + day }
}

/// What a line says of its date.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Said {
    pub(super) year: Option<i64>,
    pub(super) month: Option<i64>,
    pub(super) day: Option<i64>,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    weekday: Option<i64>,
    day_of_year: Option<i64>,
    /// The week, and whether it starts on Monday.
    week: Option<(i64, bool)>,
    /// Minutes ahead of UTC.
    pub(super) zone: Option<i64>,
}

impl Said {
    /// Reads the fields in the order in which the expression has them: a later one replaces an earlier one.
    pub(super) fn read<'a>(order: &[Field], text: impl Fn(Field) -> Option<&'a str>) -> Result<Self, Unread> {
        let mut said = Self::default();
        for field in order {
            let Some(value) = text(*field) else { continue };
            match FIELDS.get(usize::from(*field)).copied().unwrap_or_default() {
                "y" => {
                    let year = number(value)?;
                    said.year = Some(if year <= 2000 { year + 2000 } else { year });
                }
                "Y" => said.year = Some(number(value)?),
                "m" => said.month = Some(number(value)?),
                "B" => said.month = Some(place(value, &MONTHS, false)? + 1),
                "b" => said.month = Some(place(value, &MONTHS, true)? + 1),
                "d" => said.day = Some(number(value)?),
                "H" => said.hour = number(value)?,
                "I" => {
                    said.hour = number(value)?;
                    let half = order.iter().find(|field| FIELDS.get(usize::from(**field)) == Some(&"p"));
                    let half = half.map(|field| text(*field).ok_or(Unread::Line)).transpose()?;
                    match half.unwrap_or_default().to_lowercase().as_str() {
                        "" | "am" if said.hour == 12 => said.hour = 0,
                        "pm" if said.hour != 12 => said.hour += 12,
                        _ => {}
                    }
                }
                "M" => said.minute = number(value)?,
                "S" => said.second = number(value)?,
                "A" => said.weekday = Some(place(value, &WEEKDAYS, false)?),
                "a" => said.weekday = Some(place(value, &WEEKDAYS, true)?),
                "w" => said.weekday = Some((number(value)? + 6).rem_euclid(7)),
                "j" => said.day_of_year = Some(number(value)?),
                "U" => said.week = Some((number(value)?, false)),
                "W" => said.week = Some((number(value)?, true)),
                "z" | "Z" => said.zone = Some(zones::offset(value)?),
                _ => {}
            }
        }
        Ok(said)
    }

    /// The instant, in seconds. `zone` is for a date that names none, in minutes ahead of UTC; without one it is that of `local`.
    /// `now` is what the local clock shows, in microseconds.
    ///
    /// A date without a year is of this year, or of the last one when that is more than a day ahead; one without a day is
    /// today, or yesterday when that is ahead. Both are as fail2ban has them: what is compared with the local clock is in UTC
    /// when the zone is known.
    pub(super) fn instant(&self, zone: Option<i64>, now: i64, local: &mut LocalClock) -> Result<i64, Unread> {
        let (this_year, this_month, today) = calendar(now.div_euclid(1_000_000 * DAY));
        let (mut year, mut month, mut day) = (self.year.unwrap_or(this_year), self.month, self.day);
        if month.is_none() || day.is_none() {
            let of_week = match (self.week, self.weekday) {
                (Some((week, starts_on_monday)), Some(weekday)) => {
                    checked_year(year)?;
                    Some(day_of_week(year, week, weekday, starts_on_monday))
                }
                _ => None,
            };
            if let Some(day_of_year) = self.day_of_year.or(of_week) {
                checked_year(year)?;
                let (of_year, of_month, of_day) = calendar(days(year, 1, 1) + day_of_year - 1);
                checked_year(of_year)?;
                (year, month, day) = (of_year, Some(of_month), Some(of_day));
            }
        }
        let is_today = month.is_none() && day.is_none();
        let (month, day) = if is_today { (this_month, today) } else { month.zip(day).ok_or(Unread::Line)? };
        let mut shown = self.second_of(year, month, day)?;
        let zone = self.zone.or(zone);
        shown -= zone.unwrap_or(0) * 60;
        in_calendar(shown)?;
        let is_after = |shown: i64, now: i64| shown.saturating_mul(1_000_000) > now;
        if is_today && is_after(shown, now) {
            shown -= DAY;
            in_calendar(shown)?;
        }
        if self.year.is_none() && is_after(shown, now.saturating_add(DAY * 1_000_000)) {
            // The time of day is what it has become by the zone; the day is the one of the line.
            let last_year = year - 1;
            checked_year(last_year)?;
            checked_day(last_year, month, day)?;
            shown = days(last_year, month, day) * DAY + shown.rem_euclid(DAY);
        }
        if zone.is_some() { Ok(shown) } else { local.instant(shown).ok_or(Unread::Line) }
    }

    fn second_of(&self, year: i64, month: i64, day: i64) -> Result<i64, Unread> {
        checked_year(year)?;
        checked_day(year, month, day)?;
        let is_time = (0..24).contains(&self.hour) && (0..60).contains(&self.minute) && (0..60).contains(&self.second);
        if !is_time {
            return Err(Unread::Text);
        }
        Ok(days(year, month, day) * DAY + self.hour * 3600 + self.minute * 60 + self.second)
    }
}

fn checked_year(year: i64) -> Result<(), Unread> {
    if (1..=9999).contains(&year) { Ok(()) } else { Err(Unread::Text) }
}

fn checked_day(year: i64, month: i64, day: i64) -> Result<(), Unread> {
    let is_day = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    if is_day { Ok(()) } else { Err(Unread::Text) }
}

/// That a second is of a year from 1 to 9999: arithmetic out of it fails in Python, and drops the line.
fn in_calendar(shown: i64) -> Result<(), Unread> {
    let year = calendar(shown.div_euclid(DAY)).0;
    if (1..=9999).contains(&year) { Ok(()) } else { Err(Unread::Line) }
}
