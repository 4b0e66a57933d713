//! Windows of the week: `Mon-Fri 08:00-18:00`, as a clock on the wall shows them.

use std::fmt;
use std::str::FromStr;

use event::{Interval, Spans};
use policy::{Slot, Value};

use super::clock::{DAY_MINUTES, Date, WallClock, clock_text, minutes_of, weekday_named, weekday_word};

/// Minutes in a week, as clocks count them.
const WEEK_MINUTES: i64 = 7 * DAY_MINUTES;

/// A part of every week: on some of its days, from one reading of the clock to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// The days on which it begins, Monday first.
    days: [bool; 7],
    /// When it begins, in minutes after midnight.
    from: i64,
    /// When it ends, in minutes after midnight of the day on which it begins: at most a week later.
    to: i64,
    /// As it is written.
    text: String,
}

impl FromStr for Window {
    type Err = ();

    /// `08:00-18:00`, `Mon-Fri 08:00-18:00`, `Mon,Wed 22:00-07:00` (to the next day), `Sat-Sun` (whole days),
    /// `Fri 18:00-Mon 08:00`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, from, to) = match words.as_slice() {
            [times] if times.starts_with(|first: char| first.is_ascii_digit()) => {
                let (from, to) = times_of(times).ok_or(())?;
                ([true; 7], from, to)
            }
            [days] => (days_of(days).ok_or(())?, 0, DAY_MINUTES),
            [days, times] => {
                let (from, to) = times_of(times).ok_or(())?;
                (days_of(days).ok_or(())?, from, to)
            }
            [first, middle, to] => {
                let (from, last) = middle.split_once('-').ok_or(())?;
                let first = weekday_named(first).ok_or(())?;
                let ahead = (weekday_named(last).ok_or(())? + 7 - first) % 7;
                let from = minutes_of(from).ok_or(())?;
                let to = end_of(to).ok_or(())? + i64::try_from(ahead).unwrap_or_default() * DAY_MINUTES;
                let mut days = [false; 7];
                days.iter_mut().skip(first).take(1).for_each(|day| *day = true);
                (days, from, if to > from { to } else { to + WEEK_MINUTES })
            }
            _ => return Err(()),
        };
        Ok(Self { days, from, to, text: words.join(" ") })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Value for Window {
    const SHAPE: &'static str = "a part of the week";
    const EXAMPLE: &'static str = "\"Mon-Fri 08:00-18:00\"";

    fn read(mut slot: Slot<'_>) -> Option<Self> {
        let text = slot.text::<Self>()?;
        let window = text.parse().ok();
        if window.is_none() {
            let reason =
                format!("`{}` is not {}", text.chars().take(60).collect::<String>().escape_debug(), Self::SHAPE);
            let remedy = "write days and times, or one of the two, such as \"Mon-Fri 08:00-18:00\", \"22:00-07:00\", \"Sat-Sun\" or \
                          \"Fri 18:00-Mon 08:00\"; a whole day is \"00:00-24:00\"";
            slot.wrong(reason, remedy);
        }
        window
    }
}

/// `08:00-18:00`; an end that is not after the beginning is on the next day. Both the same is neither nothing nor a whole day
/// for certain, so it is refused.
fn times_of(text: &str) -> Option<(i64, i64)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minutes_of(from)?, end_of(to)?);
    (from != to).then_some((from, if to > from { to } else { to + DAY_MINUTES }))
}

fn end_of(text: &str) -> Option<i64> {
    if text == clock_text(DAY_MINUTES) { Some(DAY_MINUTES) } else { minutes_of(text) }
}

/// `Mon`, `Mon-Fri`, `Fri-Mon`, `Mon,Wed-Thu`.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (weekday_named(first)?, weekday_named(last)?);
        for ahead in 0..=(last + 7 - first) % 7 {
            days.iter_mut().skip((first + ahead) % 7).take(1).for_each(|day| *day = true);
        }
    }
    Some(days)
}

/// Whether the windows leave out nothing of the week.
pub(super) fn cover_the_week(windows: &[Window]) -> bool {
    missing_of_the_week(windows).is_none()
}

/// The first reading of the week that is in no window: `Mon 00:00`.
pub(super) fn missing_of_the_week(windows: &[Window]) -> Option<String> {
    let mut parts: Vec<(i64, i64)> = Vec::new();
    for window in windows {
        for day in (0..).zip(window.days).filter(|(_, begins)| *begins).map(|(day, _)| day * DAY_MINUTES) {
            // What reaches into the next week is at the beginning of this one as well.
            for week in [0, WEEK_MINUTES] {
                parts.push((day + window.from - week, day + window.to - week));
            }
        }
    }
    parts.sort_unstable();
    let reached = parts.iter().fold(0, |reached, (from, to)| if *from <= reached { reached.max(*to) } else { reached });
    let weekday = usize::try_from(reached / DAY_MINUTES).unwrap_or_default();
    (reached < WEEK_MINUTES).then(|| format!("{} {}", weekday_word(weekday), clock_text(reached % DAY_MINUTES)))
}

/// The windows that begin on the days from `first` to `last`.
pub(super) fn spans(windows: &[Window], clock: &WallClock, first: Date, last: Date) -> Spans {
    let mut found: Vec<Interval> = Vec::new();
    let mut date = first;
    while date <= last {
        let begins = |window: &&Window| window.days.get(date.weekday()).copied().unwrap_or_default();
        let interval = |window: &Window| Interval::new(clock.first(date, window.from), clock.first(date, window.to));
        found.extend(windows.iter().filter(begins).map(interval));
        let next = date.plus(1);
        if next == date {
            break;
        }
        date = next;
    }
    found.sort_unstable();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_written_as_people_say_them() {
        let days = |text: &str| text.bytes().map(|byte| byte == b'x').collect::<Vec<_>>();
        for (text, on, from, to) in [
            ("08:00-18:00", "xxxxxxx", 480, 1080),
            ("22:00-07:00", "xxxxxxx", 1320, 1860),
            ("00:00-24:00", "xxxxxxx", 0, 1440),
            ("Mon-Fri 08:00-18:00", "xxxxx--", 480, 1080),
            ("mon,wed 08:00-24:00", "x-x----", 480, 1440),
            ("Fri-Mon 12:00-13:30", "x---xxx", 720, 810),
            ("Sat-Sun", "-----xx", 0, 1440),
            ("Sun", "------x", 0, 1440),
            ("Fri 18:00-Mon 08:00", "----x--", 1080, 4800),
            ("Mon 08:00-Mon 08:00", "x------", 480, 480 + 7 * 1440),
        ] {
            let window: Window = text.parse().unwrap_or_else(|()| panic!("{text}"));
            assert_eq!((window.days.to_vec(), window.from, window.to), (days(on), from, to), "{text}");
        }
        for text in [
            "",
            " ",
            "-",
            "Mon-",
            "Mo",
            "08:00",
            "8:00-9:00",
            "08:00-08:00",
            "24:00-08:00",
            "08:00-25:00",
            "Mon 08:00",
            "08:00-18:00 Mon",
            "Mon-Fri 08:00-Sat 10:00",
            "Mon Tue 08:00-18:00 x",
            "08:00-18:00-20:00",
            "lundi",
        ] {
            assert_eq!(text.parse::<Window>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_of_the_week_is_in_no_window() {
        let missing = |texts: &[&str]| {
            let windows: Vec<Window> = texts.iter().map(|text| text.parse().expect("a window")).collect();
            missing_of_the_week(&windows)
        };
        assert_eq!(missing(&[]).as_deref(), Some("Mon 00:00"));
        assert_eq!(missing(&["22:00-07:00"]).as_deref(), Some("Mon 07:00"));
        assert_eq!(missing(&["22:00-07:00", "07:00-22:00"]), None);
        assert_eq!(missing(&["Mon-Fri 00:00-24:00", "Sat 00:00-23:59"]).as_deref(), Some("Sat 23:59"));
        assert_eq!(missing(&["Sun 12:00-Sun 12:00"]), None);
    }
}
