//! The dates that most logs have, read byte by byte: syslog, ISO 8601, and that of Apache and nginx.
//!
//! What is found here is what the expression of the template would find; whatever is not written in the usual way (a day of one
//! digit, a second of 60, a year that may follow) is left to the expression.

use std::ops::Range;

use super::directives::{FIELDS, Field, field};
use super::template::{Found, Places};

/// How the usual date of a template is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Date {
    /// `2005-01-23T21:59:59.981+0100`
    Iso,
    /// `Jan 23 21:59:59`
    Syslog,
    /// `23/Jan/2005:21:59:59 +0100`
    Apache,
}

/// As far behind a date as its shape looks, in bytes.
pub(super) const MOST_BEHIND: usize = 8;

/// What is in front of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Front {
    /// Anything, when the search starts at the date.
    Any,
    /// Nothing.
    Start,
    /// At most two characters that are of no word.
    LineBegin,
    /// Anything up to the first bracket.
    Bracket,
}

/// A template whose usual dates are read here.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    date: Date,
    front: Front,
    /// Decades that a year may be of.
    decades: Vec<i64>,
}

/// Patterns of the dates.
const ISO: [&str; 2] = [
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
];
const SYSLOG: [&str; 2] = [r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?", r"(?:%a )?%b %d %H:%M:%S(?:\.%f)?(?: %ExY)?"];
const APACHE: &str = r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?";

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A reader of one date; nothing as soon as it is not written in the usual way.
struct Reader<'a> {
    text: &'a [u8],
    place: usize,
    places: Places,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.place + ahead).copied()
    }

    fn byte(&mut self, of: &[u8]) -> Option<u8> {
        let byte = self.peek(0).filter(|byte| of.contains(byte))?;
        self.place += 1;
        Some(byte)
    }

    fn keep(&mut self, name: &str, length: usize) -> Option<()> {
        let range = (u32::try_from(self.place).ok()?, u32::try_from(self.place + length).ok()?);
        let slot: Field = field(name)?;
        *self.places.get_mut(usize::from(slot))? = Some(range);
        self.place += length;
        Some(())
    }

    /// A number of so many digits in a range.
    fn number(&mut self, name: &str, length: usize, range: Range<i64>) -> Option<()> {
        let digits = self.text.get(self.place..self.place + length)?;
        let mut value = 0;
        for digit in digits {
            value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        range.contains(&value).then_some(())?;
        self.keep(name, length)
    }

    fn month_name(&mut self) -> Option<()> {
        let name = self.text.get(self.place..self.place + 3)?;
        MONTHS.iter().any(|month| name.eq_ignore_ascii_case(month)).then_some(())?;
        self.keep("b", 3)
    }

    fn year(&mut self, decades: &[i64]) -> Option<()> {
        let digits = self.text.get(self.place..self.place + 3)?;
        let decade = digits
            .iter()
            .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))?;
        decades.contains(&decade).then_some(())?;
        self.number("Y", 4, 0..10_000)
    }

    fn time(&mut self) -> Option<()> {
        self.number("H", 2, 0..24)?;
        self.byte(b":")?;
        self.number("M", 2, 0..60)?;
        self.byte(b":")?;
        self.number("S", 2, 0..60)
    }

    /// A fraction of the second after one of these, when there is one.
    fn fraction(&mut self, points: &[u8]) -> Option<()> {
        if self.peek(0).is_some_and(|byte| points.contains(&byte)) {
            let length = self.text.iter().skip(self.place + 1).take_while(|byte| byte.is_ascii_digit()).take(7).count();
            (1..=6).contains(&length).then_some(())?;
            self.place += 1;
            self.keep("f", length)?;
        }
        Some(())
    }

    /// An offset or a `Z` at a distance from here, when there is one.
    fn zone(&mut self, distance: usize) -> Option<()> {
        match self.peek(distance) {
            Some(b'Z') => {
                self.place += distance;
                self.keep("z", 1)
            }
            Some(b'+' | b'-') => {
                let has_colon = self.peek(distance + 3) == Some(b':');
                let digits: &[usize] = if has_colon { &[1, 2, 4, 5] } else { &[1, 2, 3, 4] };
                let are_digits =
                    digits.iter().all(|digit| self.peek(distance + digit).is_some_and(|byte| byte.is_ascii_digit()));
                let is_short = matches!(self.peek(distance + 1), Some(b'0' | b'1'));
                (are_digits && is_short).then_some(())?;
                self.place += distance;
                self.keep("z", if has_colon { 6 } else { 5 })
            }
            Some(byte) if is_word(byte) && b"zZuUgG".contains(&byte) => None,
            _ => Some(()),
        }
    }

    /// That no word goes on here.
    fn end(&self) -> Option<()> {
        self.peek(0).is_none_or(|byte| !is_word(byte)).then_some(())
    }

    fn iso(&mut self, decades: &[i64]) -> Option<()> {
        self.year(decades)?;
        let separator = self.byte(b"-/.")?;
        self.number("m", 2, 1..13)?;
        self.byte(&[separator])?;
        self.number("d", 2, 1..32)?;
        self.byte(b"T ")?;
        self.time()?;
        self.fraction(b".,")?;
        let spaces = self.text.iter().skip(self.place).take_while(|byte| matches!(byte, 9..=13 | 28..=32)).count();
        self.zone(spaces)?;
        self.end()
    }

    fn syslog(&mut self) -> Option<()> {
        self.month_name()?;
        self.byte(b" ")?;
        if self.peek(0) == Some(b' ') {
            self.peek(1).filter(|byte| (b'1'..=b'9').contains(byte))?;
            self.keep("d", 2)?;
        } else {
            self.number("d", 2, 1..32)?;
        }
        self.byte(b" ")?;
        self.time()?;
        self.fraction(b".")?;
        // A year may follow.
        (self.peek(0) != Some(b' ') || self.peek(1).is_none_or(|byte| !byte.is_ascii_digit())).then_some(())?;
        self.end()
    }

    fn apache(&mut self, decades: &[i64]) -> Option<()> {
        self.number("d", 2, 1..32)?;
        let separator = self.byte(b"-/")?;
        self.month_name()?;
        self.byte(&[separator])?;
        self.year(decades)?;
        self.byte(b" :")?;
        self.time()?;
        self.fraction(b".")?;
        if self.peek(0) == Some(b' ') {
            self.zone(1)?;
        }
        self.end()
    }
}

impl Shape {
    /// The shape of a pattern, when it is one of those.
    pub(super) fn of(pattern: &str, decades: Vec<i64>) -> Option<Self> {
        let bracketed = pattern.strip_prefix(r"^[^\[]*\[(").and_then(|rest| rest.strip_suffix(')'));
        let (front, bare) = match (pattern.strip_prefix("{^LN-BEG}"), bracketed, pattern.strip_prefix('^')) {
            (Some(bare), ..) => (Front::LineBegin, bare),
            (None, Some(bare), _) => (Front::Bracket, bare),
            (None, None, Some(bare)) => (Front::Start, bare),
            (None, None, None) => (Front::Any, pattern),
        };
        let date = match bare {
            syslog if SYSLOG.contains(&syslog) => Date::Syslog,
            APACHE => Date::Apache,
            iso if ISO.contains(&iso) => Date::Iso,
            _ => return None,
        };
        Some(Self { date, front, decades })
    }

    /// Where a date can only be in a text that is searched from its start; nothing when that depends on more than its front.
    pub(super) fn place(&self, text: &[u8]) -> Option<usize> {
        match self.front {
            Front::Any => None,
            Front::Start => Some(0),
            Front::LineBegin => Some(text.iter().take(2).take_while(|byte| !is_word(**byte)).count()),
            Front::Bracket => Some(memchr::memchr(b'[', text)? + 1),
        }
    }

    /// What decides of all that follows a date; nothing when that can't be said in [`MOST_BEHIND`] bytes.
    pub(super) fn looked_at_behind<'t>(&self, behind: &'t [u8]) -> Option<&'t [u8]> {
        let bytes = behind.get(
            ..match self.date {
                // A space and the digit of a year.
                Date::Syslog => 2,
                // A space and an offset.
                Date::Iso | Date::Apache => MOST_BEHIND,
            },
        )?;
        // ISO 8601 has an offset after any number of spaces.
        let has_spaces = bytes[..2].iter().all(|byte| !byte.is_ascii_graphic());
        (self.date != Date::Iso || !has_spaces).then_some(bytes)
    }

    /// Where the date is, from a byte on, in a text of ASCII; nothing when the expression has to say.
    pub(super) fn find(&self, text: &str, from: usize) -> Option<Found> {
        let bytes = text.as_bytes();
        let (start, date) = match self.front {
            Front::Any => {
                let before = from.checked_sub(1).and_then(|before| bytes.get(before));
                before.is_none_or(|byte| !is_word(*byte)).then_some((from, from))?
            }
            Front::Start | Front::LineBegin | Front::Bracket if from == 0 => (0, self.place(bytes)?),
            Front::Start | Front::LineBegin | Front::Bracket => return None,
        };
        let mut reader = Reader { text: bytes, place: date, places: [None; FIELDS.len()] };
        match self.date {
            Date::Iso => reader.iso(&self.decades)?,
            Date::Syslog => reader.syslog()?,
            Date::Apache => reader.apache(&self.decades)?,
        }
        Some(Found { span: start..reader.place, first: Some(date..reader.place), places: reader.places })
    }
}
