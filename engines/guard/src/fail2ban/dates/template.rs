//! A template: one way to write a date, as an expression that finds it and the rule that makes a time of what it found.

use std::ops::Range;
use std::sync::OnceLock;

use fancy_regex::{Regex, RegexBuilder};

use super::super::pattern::Pattern;
use super::bounds::{self, AT_LINE_BEGIN, Begin, LINE_BEGIN, LINE_END, UNBOUND};
use super::directives::{self, FIELDS, Field};
use super::python::{self, Texts};
use super::shapes::Shape;
use super::templates::{COMPACT, DEFAULTS};

/// Steps back that a search may take; what needs more is no date.
const BACKTRACK_LIMIT: usize = 100_000;

/// How many digits the seconds since 1970 have at least.
const EPOCH_DIGITS: usize = 10;

/// What makes a time of what a template found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The fields of a date.
    Fields,
    /// Seconds since 1970, in the group of this number.
    Epoch {
        /// Whether milliseconds and microseconds may follow without a point.
        is_long: bool,
        group: usize,
    },
    /// A label of TAI64N.
    Tai64n,
}

/// What every date of a template has in it, so that a line without it need not be searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    /// Nothing is known.
    Nothing,
    /// A colon between two digits.
    Clock,
    /// So many digits in a row.
    Digits(usize),
    /// Ten digits in a row, and a place for seconds since 1970: the start of the line, or that of an entry of `audit`.
    Epoch,
    /// An at sign.
    At,
}

/// What a line has in it, of what templates need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Contents {
    has_clock: bool,
    has_at: bool,
    has_epoch_place: bool,
    digits: usize,
}

impl Contents {
    pub(super) fn of(line: &str) -> Self {
        let (mut has_clock, mut has_at, mut longest) = (false, false, 0);
        let (mut digits, mut is_after_clock) = (0, false);
        for byte in line.bytes() {
            if byte.is_ascii_digit() {
                has_clock |= is_after_clock;
                digits += 1;
                longest = longest.max(digits);
                is_after_clock = false;
            } else {
                has_at |= byte == b'@';
                is_after_clock = byte == b':' && digits > 0;
                digits = 0;
            }
        }
        let is_epoch_at_start = || line.starts_with(|first: char| first == '[' || first.is_ascii_digit());
        let has_epoch_place = longest >= EPOCH_DIGITS
            && (is_epoch_at_start() || memchr::memmem::find(line.as_bytes(), b"audit(").is_some());
        Self { has_clock, has_at, has_epoch_place, digits: longest }
    }

    /// Whether a template that needs this may match.
    pub(super) const fn may_match(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Clock => self.has_clock,
            Need::Digits(digits) => self.digits >= digits,
            Need::Epoch => self.has_epoch_place,
            Need::At => self.has_at,
        }
    }
}

/// Places of the fields of a match in its line, in bytes, by [`Field`]; that of a number alone is the first.
pub(super) type Places = [Option<(u32, u32)>; FIELDS.len()];

/// Where a template matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// All of it, in bytes.
    pub(super) span: Range<usize>,
    /// Its first group.
    pub(super) first: Option<Range<usize>>,
    pub(super) places: Places,
}

/// One way to write a date.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) name: String,
    /// The pattern with directives, when it has any.
    pub(super) pattern: Option<String>,
    /// The expression, as Python reads it.
    pub(super) regex: String,
    pub(super) weight: f64,
    flags: u8,
    pub(super) kind: Kind,
    /// Fields and their groups, in the order of the expression.
    groups: Vec<(Field, usize)>,
    /// The fields in that order.
    pub(super) order: Vec<Field>,
    pub(super) need: Need,
    /// How its usual dates are read without the expression.
    pub(super) shape: Option<Shape>,
    /// What finds something in every line in which the expression does, for texts of ASCII: most lines have no date of most
    /// templates, and this tells sooner.
    approximate: OnceLock<Option<regex::Regex>>,
    ascii: OnceLock<Option<Regex>>,
    unicode: OnceLock<Option<Regex>>,
}

impl Template {
    fn new(name: String, pattern: Option<&str>, bounded: bounds::Bounded, kind: Kind) -> Self {
        Self {
            name,
            pattern: pattern.map(str::to_owned),
            regex: bounded.regex,
            weight: 1.0,
            flags: bounded.flags,
            kind,
            groups: Vec::new(),
            order: Vec::new(),
            need: Need::Nothing,
            shape: None,
            approximate: OnceLock::new(),
            ascii: OnceLock::new(),
            unicode: OnceLock::new(),
        }
    }

    /// The template of a pattern with directives, for a program that started in the given year.
    pub(super) fn of_pattern(pattern: &str, started_in: i64) -> Result<Self, String> {
        let (mut bare, mut begin, mut is_end_bound) = (pattern, Begin::Word, true);
        if let Some(rest) = bare.strip_prefix(UNBOUND) {
            (bare, begin, is_end_bound) = (rest, Begin::Nothing, false);
        } else if let Some(rest) = bare.strip_prefix(AT_LINE_BEGIN) {
            (bare, begin) = (rest, Begin::Line);
        }
        let (mut regex, mut name) = directives::expand(bare, started_in)?;
        if has_words(bare) {
            regex.insert_str(0, "(?iu)");
        }
        let bounded = bounds::bound(&regex, begin, is_end_bound);
        if bounded.is_at_line_begin && !name.starts_with(AT_LINE_BEGIN) {
            name.insert_str(0, AT_LINE_BEGIN);
        }
        let shape = Shape::of(pattern, directives::recent_decades(started_in));
        let bare = pattern.strip_prefix(AT_LINE_BEGIN).unwrap_or(pattern);
        let need = match bare {
            COMPACT => Need::Digits(8),
            _ if DEFAULTS.contains(&bare) => Need::Clock,
            _ => Need::Nothing,
        };
        Ok(Self { need, shape, ..Self::new(name, Some(pattern), bounded, Kind::Fields) })
    }

    /// The template of seconds since 1970.
    pub(super) fn of_epoch(is_long: bool, is_at_line_begin: bool) -> Self {
        let number = epoch_expression(is_long);
        let mut name = if is_long { "LongEpoch" } else { "Epoch" }.to_owned();
        let kind = Kind::Epoch { is_long, group: 1 };
        let bounded = if is_at_line_begin {
            name.insert_str(0, AT_LINE_BEGIN);
            bounds::bound(&format!(r"((?P<square>(?<=^\[))?{number})(?(square)(?=\]))"), Begin::Line, true)
        } else {
            let regex = format!(
                r"((?:^|(?P<square>(?<=^\[))|(?P<selinux>(?<=\baudit\())){number})(?:(?(selinux)(?=:\d+\)))|(?(square)(?=\])))"
            );
            bounds::bound(&regex, Begin::Nothing, true)
        };
        let need = if is_at_line_begin { Need::Digits(EPOCH_DIGITS) } else { Need::Epoch };
        Self { need, ..Self::new(name, None, bounded, kind) }
    }

    /// The template of seconds since 1970 where a pattern has `{EPOCH}` or `{LEPOCH}`; nothing when it has neither.
    pub(super) fn of_epoch_in(pattern: &str, is_long: bool) -> Option<Self> {
        let number = format!("({})", epoch_expression(is_long));
        let regex = bounds::replace_mark(pattern, &["{EPOCH}", "{LEPOCH}"], &number)?;
        let bounded = bounds::bound(&format!("({regex})"), Begin::Word, true);
        Some(Self::new(pattern.to_owned(), None, bounded, Kind::Epoch { is_long, group: 2 }))
    }

    /// The template of labels of TAI64N.
    pub(super) fn of_tai64n(is_at_line_begin: bool) -> Self {
        let begin = if is_at_line_begin { Begin::Line } else { Begin::Nothing };
        let front = if is_at_line_begin { AT_LINE_BEGIN } else { "" };
        let bounded = bounds::bound("@[0-9a-f]{24}", begin, true);
        Self { need: Need::At, ..Self::new(format!("{front}TAI64N"), None, bounded, Kind::Tai64n) }
    }

    pub(super) const fn is_anchored(&self) -> bool {
        self.flags & (LINE_BEGIN | LINE_END) != 0
    }

    /// Whether its usual dates are read without the expression.
    #[cfg(test)]
    pub(super) const fn has_shape(&self) -> bool {
        self.shape.is_some()
    }

    pub(super) const fn is_at_line_begin(&self) -> bool {
        self.flags & LINE_BEGIN != 0
    }

    /// Reads the groups of the expression; the reason when it can't be read.
    pub(super) fn prepare(&mut self) -> Result<(), String> {
        let groups = python::translate(&self.regex, Texts::Ascii)?.groups;
        self.groups = groups
            .iter()
            .enumerate()
            .filter_map(|(place, name)| Some((directives::field(name.as_deref()?)?, place + 1)))
            .collect();
        self.order = self.groups.iter().map(|(field, _)| *field).collect();
        Ok(())
    }

    /// Compiles the expression; the reason when that is impossible.
    pub(super) fn compile(&self, texts: Texts) -> Result<Regex, String> {
        let translated = python::translate(&self.regex, texts)?;
        RegexBuilder::new(&translated.regex).backtrack_limit(BACKTRACK_LIMIT).build().map_err(|error| error.to_string())
    }

    /// Searches `text` from the byte `from` on. Characters before it count for boundaries.
    pub(super) fn find(&self, text: &str, from: usize, texts: Texts) -> Option<Found> {
        let shape = self.shape.as_ref().filter(|_| texts == Texts::Ascii);
        shape.and_then(|shape| shape.find(text, from)).or_else(|| self.find_by_expression(text, from, texts))
    }

    /// The same, without a shortcut.
    pub(super) fn find_by_expression(&self, text: &str, from: usize, texts: Texts) -> Option<Found> {
        if texts == Texts::Ascii && memchr::memchr(b'\n', text.as_bytes()).is_none() {
            let approximate = || Pattern::approximation([&Pattern::new(&self.regex, false).ok()?]);
            let approximate = self.approximate.get_or_init(approximate);
            if approximate.as_ref().is_some_and(|approximate| !approximate.is_match_at(text, from)) {
                return None;
            }
        }
        let compiled = match texts {
            Texts::Ascii => &self.ascii,
            Texts::Unicode => &self.unicode,
        };
        let regex = compiled.get_or_init(|| self.compile(texts).ok()).as_ref()?;
        let captures = regex.captures_from_pos(text, from).ok()??;
        let whole = captures.get(0)?;
        let mut places: Places = [None; FIELDS.len()];
        let place = |group: usize| {
            let group = captures.get(group)?;
            Some((u32::try_from(group.start()).ok()?, u32::try_from(group.end()).ok()?))
        };
        match self.kind {
            Kind::Fields => {
                for (field, group) in &self.groups {
                    if let Some(slot) = places.get_mut(usize::from(*field)) {
                        *slot = place(*group);
                    }
                }
            }
            Kind::Epoch { group, .. } => places[0] = place(group),
            Kind::Tai64n => places[0] = place(1),
        }
        Some(Found {
            span: whole.start()..whole.end(),
            first: captures.get(1).map(|group| group.start()..group.end()),
            places,
        })
    }
}

const fn epoch_expression(is_long: bool) -> &'static str {
    if is_long { r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?" } else { r"\d{10,11}\b(?:\.\d{3,6})?" }
}

/// Whether a pattern has words, such as the name of a month: their case is ignored.
fn has_words(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    bytes.windows(2).enumerate().any(|(place, pair)| {
        let is_escaped = place.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'%');
        matches!(pair, [b'%', b'a' | b'A' | b'b' | b'B' | b'p' | b'c']) && !is_escaped
    })
}
