//! Shifts for calendar programs: iCalendar, RFC 5545.
//!
//! A feed is fetched again and again, so an event keeps its `UID` for as long as its shift begins at the same instant: a calendar
//! then moves its end, or names somebody else, instead of showing two. Times are in UTC, which needs no `VTIMEZONE` and no rules
//! of the reader: each calendar shows them by its own clock. Shifts are shown as free time (`TRANSP`): on call is not busy.

use event::{Interval, Time};
use policy::{PersonName, ScheduleName};

use super::shifts::{Shift, ShiftSource};

/// Longest line, in octets, without its end (RFC 5545, 3.1).
const LINE_OCTETS_MAX: usize = 75;

/// A calendar that is being written.
#[derive(Clone, Debug)]
pub struct Calendar {
    text: String,
    installation: String,
    made_at: Time,
    has_events: bool,
}

impl Calendar {
    /// A calendar of this title. `installation` is the name of the log, which makes the identifiers of events unique beyond this
    /// garant.
    pub fn new(title: &str, installation: &str, made_at: Time) -> Self {
        let mut calendar =
            Self { text: String::new(), installation: installation.to_owned(), made_at, has_events: false };
        calendar.line("BEGIN", "VCALENDAR");
        calendar.line("VERSION", "2.0");
        calendar.line("PRODID", "-//garant//on-call schedule//EN");
        calendar.line("CALSCALE", "GREGORIAN");
        calendar.line("METHOD", "PUBLISH");
        // RFC 7986, and what programs read that are older than it.
        calendar.line("NAME", &escaped(title));
        calendar.line("X-WR-CALNAME", &escaped(title));
        calendar.line("REFRESH-INTERVAL;VALUE=DURATION", "PT1H");
        calendar.line("X-PUBLISHED-TTL", "PT1H");
        calendar
    }

    /// The calendar of a schedule: each shift with its person.
    pub fn of_schedule(name: &ScheduleName, shifts: &[Shift], installation: &str, made_at: Time) -> String {
        let mut calendar = Self::new(name.as_str(), installation, made_at);
        for shift in shifts {
            calendar.add(name, shift);
        }
        calendar.finish()
    }

    /// The calendar of a person: their shifts in all schedules.
    pub fn of_person<'a>(
        person: &PersonName,
        shifts: impl IntoIterator<Item = (&'a ScheduleName, &'a Shift)>,
        installation: &str,
        made_at: Time,
    ) -> String {
        let mut calendar = Self::new(person.as_str(), installation, made_at);
        for (schedule, shift) in shifts.into_iter().filter(|(_, shift)| shift.person == *person) {
            calendar.add(schedule, shift);
        }
        calendar.finish()
    }

    /// Adds a shift.
    pub fn add(&mut self, schedule: &ScheduleName, shift: &Shift) {
        let Interval { start, end } = shift.interval;
        // Calendars count seconds; what is shorter is no event.
        let (Some(from), Some(to)) = (stamp(start), stamp(end)) else { return };
        if from == to {
            return;
        }
        self.has_events = true;
        self.line("BEGIN", "VEVENT");
        let uid = format!("{schedule}-{}@{}", start.micros(), self.installation);
        self.line("UID", &escaped(&uid));
        let made_at = stamp(self.made_at).unwrap_or_else(|| from.clone());
        self.line("DTSTAMP", &made_at);
        self.line("DTSTART", &from);
        self.line("DTEND", &to);
        self.line("SUMMARY", &escaped(&format!("{schedule}: {}", shift.person)));
        if let ShiftSource::Override { by, reason, .. } = &shift.source {
            let separator = if by.is_empty() || reason.is_empty() { "" } else { ": " };
            let why = format!("{by}{separator}{reason}");
            if !why.is_empty() {
                self.line("DESCRIPTION", &escaped(&why));
            }
        }
        self.line("TRANSP", "TRANSPARENT");
        self.line("END", "VEVENT");
    }

    /// The text, with CRLF at the end of each line.
    pub fn finish(mut self) -> String {
        if !self.has_events {
            // A calendar needs a component (RFC 5545, 3.6), and an empty one is still a calendar.
            for (name, value) in [
                ("BEGIN", "VTIMEZONE"),
                ("TZID", "UTC"),
                ("BEGIN", "STANDARD"),
                ("DTSTART", "19700101T000000"),
                ("TZOFFSETFROM", "+0000"),
                ("TZOFFSETTO", "+0000"),
                ("END", "STANDARD"),
                ("END", "VTIMEZONE"),
            ] {
                self.line(name, value);
            }
        }
        self.line("END", "VCALENDAR");
        self.text
    }

    /// One content line, folded between characters.
    fn line(&mut self, name: &str, value: &str) {
        let mut octets = 0;
        for character in name.chars().chain([':']).chain(value.chars()) {
            if octets + character.len_utf8() > LINE_OCTETS_MAX {
                self.text.push_str("\r\n ");
                octets = 1;
            }
            self.text.push(character);
            octets += character.len_utf8();
        }
        self.text.push_str("\r\n");
    }
}

/// `20261207T080000Z`; nothing for an instant that no calendar has.
fn stamp(time: Time) -> Option<String> {
    let text = time.to_rfc3339();
    let shaped = text.len() == "2026-12-07T08:00:00Z".len();
    shaped.then(|| text.chars().filter(|character| !matches!(character, '-' | ':')).collect())
}

/// A value of type TEXT (RFC 5545, 3.3.11). Control characters are no text, and are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push(' '),
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}
