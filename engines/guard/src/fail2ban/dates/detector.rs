//! Which template finds the date of a line: they are ranked by what they found before.
//!
//! The ranking is that of fail2ban, because it decides: two templates may read one line differently (`01/02/2005`), and the one
//! that matched the lines before is asked first, where the date was then. A template that finds a date further to the right than
//! usual gives way to one that finds it further to the left. Places are counted in characters, as there.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use event::{Span, Time, Zone};
use fancy_regex::Regex;

use super::directives::field;
use super::local::{LocalClock, calendar};
use super::python::Texts;
use super::shapes::MOST_BEHIND;
use super::strptime::{Said, Unread, digit};
use super::template::{Contents, Found, Kind, Need, Places, Template};
use super::templates::{TemplateList, Templates};
use super::{DateError, zones};

/// How long a template may go unused before another passes it that has matched less.
const UNUSED_MICROS: i64 = 300 * 1_000_000;

/// A place that no line reaches.
const NOWHERE: usize = 0x7fff_ffff;

/// What a detector is made for.
#[derive(Clone, Copy, Debug)]
pub struct DateSettings<'a> {
    /// The zone of the machine, in which a date is that names none.
    pub zone: &'a Zone,
    /// The zone of the log, when it is another (`logtimezone`, such as `UTC+0200`).
    pub log_zone: Option<&'a str>,
    /// When the program was started: the years that a date may be of depend on it.
    pub started: Time,
}

/// A template in the ranking.
#[derive(Clone, Copy, Debug)]
struct Rank {
    template: usize,
    /// Lines whose date it gave.
    hits: u32,
    /// When the last of them was, in microseconds.
    last_used: i64,
    /// Where it was.
    distance: usize,
}

/// One end of the last date, and the characters on its two sides.
#[derive(Clone, Copy, Debug)]
struct Edge {
    place: usize,
    before: Option<char>,
    after: Option<char>,
}

/// A date in a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeMatch {
    /// Which template found it, counted from 0 in the order of the pattern, or of the built-in ones.
    pub template: usize,
    /// All that the template matched, in bytes.
    pub span: Range<usize>,
    /// What is cut out of the line: its first group. May be empty, which means that the line has no date and need not have one.
    pub cut: Range<usize>,
    places: Places,
}

/// Finds the dates of a log's lines.
#[derive(Clone, Debug)]
pub struct DateDetector {
    templates: Arc<TemplateList>,
    /// Lines that the template found something in, whether it was chosen or not; by its place in `templates`.
    found_in: Vec<u64>,
    ranks: Vec<Rank>,
    first_unused: usize,
    last_rank: usize,
    start: Edge,
    end: Edge,
    local: LocalClock,
    /// Minutes ahead of UTC of the log's zone.
    log_zone: Option<i64>,
    /// The date that was read last: many lines of a busy log have one date.
    read: Option<Read>,
}

/// A date that was read.
#[derive(Clone, Debug)]
struct Read {
    template: usize,
    text: String,
    /// Where its fields are in the text.
    places: Places,
    time: Time,
    /// When it was read.
    at: Time,
    /// Where the minute is in the text, when the second follows it behind a colon, and the clock is not set around that time.
    minute: Option<usize>,
    /// What followed it, as far as its shape looks, when that alone says where it is: the same text is then the same date.
    behind: Option<Behind>,
}

/// What followed a date: so many bytes of these.
#[derive(Clone, Copy, Debug)]
struct Behind {
    bytes: [u8; MOST_BEHIND],
    length: usize,
}

impl Behind {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Read {
    /// Whether it would be read as the same instant now.
    fn means_the_same(&self, now: Time) -> bool {
        let (now, at) = (now.micros(), self.at.micros());
        now >= at && now.div_euclid(SAME_MICROS) == at.div_euclid(SAME_MICROS)
    }

    /// The instant of a date that differs from this one at most in the minute and the second, within a quarter of an hour.
    fn time_of(&self, text: &[u8], now: Time) -> Option<Time> {
        let ours = self.text.as_bytes();
        if text == ours {
            return Some(self.time);
        }
        let minute = self.minute?;
        let is_same_but_there = text.len() == ours.len()
            && text.get(..minute)? == ours.get(..minute)?
            && text.get(minute + 2) == Some(&b':')
            && text.get(minute + 5..)? == ours.get(minute + 5..)?;
        let number = |of: &[u8], place: usize| {
            let (tens, ones) = (of.get(place)?, of.get(place + 1)?);
            let is_number = (b'0'..b'6').contains(tens) && ones.is_ascii_digit();
            is_number.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        };
        let [minutes, seconds] = [number(text, minute)?, number(text, minute + 3)?];
        let [our_minutes, our_seconds] = [number(ours, minute)?, number(ours, minute + 3)?];
        let since = Span::from_secs((minutes - our_minutes) * 60 + seconds - our_seconds);
        let time = self.time + since;
        // A date to come may be of another year, and long ago zones changed at any minute.
        let is_recent = time <= now && time > now - Span::from_days(THIS_YEAR_DAYS);
        (is_same_but_there && minutes / 15 == our_minutes / 15 && is_recent).then_some(time)
    }
}

/// For how long a date means the same instant, in microseconds: days begin and zones change at multiples of it.
const SAME_MICROS: i64 = 15 * 60 * 1_000_000;
/// How far before now a date without a year is, in days, that is certainly of the year that was tried first.
const THIS_YEAR_DAYS: i64 = 300;

/// A line of a log, and what is asked of it more than once.
#[derive(Debug)]
pub struct LogLine<'a> {
    text: &'a str,
    texts: Texts,
    contents: OnceCell<Contents>,
}

impl<'a> LogLine<'a> {
    /// A line without its newline.
    pub fn of(text: &'a str) -> Self {
        let texts = if text.is_ascii() { Texts::Ascii } else { Texts::Unicode };
        Self { text, texts, contents: OnceCell::new() }
    }

    /// The line.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether all its characters are of ASCII.
    pub fn is_ascii(&self) -> bool {
        self.texts == Texts::Ascii
    }

    fn contents(&self) -> Contents {
        *self.contents.get_or_init(|| Contents::of(self.text))
    }

    /// The byte where the character of this number starts; the end of the line when it has fewer.
    fn byte(&self, place: usize) -> usize {
        match self.texts {
            Texts::Ascii => place.min(self.text.len()),
            Texts::Unicode => self.text.char_indices().nth(place).map_or(self.text.len(), |(byte, _)| byte),
        }
    }

    /// The number of characters before a byte.
    fn place(&self, byte: usize) -> usize {
        match self.texts {
            Texts::Ascii => byte,
            Texts::Unicode => self.text.get(..byte).map_or(0, |front| front.chars().count()),
        }
    }

    fn at(&self, place: usize) -> Option<char> {
        match self.texts {
            Texts::Ascii => self.text.as_bytes().get(place).map(|byte| char::from(*byte)),
            Texts::Unicode => self.text.chars().nth(place),
        }
    }

    fn before(&self, place: usize) -> Option<char> {
        place.checked_sub(1).and_then(|before| self.at(before))
    }
}

/// A match of a template, with its place in the ranking and in the line.
struct Candidate {
    template: usize,
    rank: usize,
    found: Found,
    distance: usize,
}

/// The match that was chosen: its template, its place in the ranking, and where it is, in characters.
struct Chosen {
    rank: usize,
    distance: usize,
    end: usize,
}

impl DateDetector {
    /// The detector of a `datepattern`, one pattern to a line; without one, that of the built-in templates.
    ///
    /// # Errors
    ///
    /// The pattern that can't be read, or the zone that nobody knows.
    pub fn new(datepattern: Option<&str>, settings: &DateSettings<'_>) -> Result<Self, DateError> {
        let local = LocalClock::of(settings.zone);
        let started_in = calendar(local.now(settings.started).div_euclid(86_400_000_000)).0;
        let templates = Templates::shared(datepattern, started_in)?;
        let log_zone =
            settings.log_zone.map(|zone| zones::offset(zone).map_err(|_| DateError::Zone { zone: zone.to_owned() }));
        let rank = |template| Rank { template, hits: 0, last_used: 0, distance: NOWHERE };
        let nowhere = Edge { place: NOWHERE, before: None, after: None };
        Ok(Self {
            found_in: vec![0; templates.len()],
            ranks: (0..templates.len()).map(rank).collect(),
            templates,
            first_unused: 0,
            last_rank: NOWHERE,
            start: Edge { place: 1, ..nowhere },
            end: nowhere,
            local,
            log_zone: log_zone.transpose()?,
            read: None,
        })
    }

    /// The name of a template, as fail2ban writes it.
    pub fn template_name(&self, template: usize) -> Option<&str> {
        self.templates.get(template).map(|template| template.name.as_str())
    }

    /// The templates that gave dates, by name, and how many each; in the order of their ranking.
    pub fn hits(&self) -> impl Iterator<Item = (&str, u32)> {
        let used = self.ranks.iter().filter(|rank| rank.hits > 0);
        used.filter_map(|rank| Some((self.template_name(rank.template)?, rank.hits)))
    }

    /// Searches `line` with the template at a place of the ranking, in all of it or in some of its characters.
    fn search(&mut self, line: &LogLine<'_>, rank: usize, part: Option<Range<usize>>) -> Option<Candidate> {
        let template = self.ranks.get(rank)?.template;
        let (text, from) = match part {
            Some(part) if part.start > part.end => return None,
            Some(part) => (line.text.get(..line.byte(part.end))?, line.byte(part.start)),
            None => (line.text, 0),
        };
        let found = self.templates.get(template)?.find(text, from, line.texts)?;
        if let Some(count) = self.found_in.get_mut(template) {
            *count += 1;
        }
        let distance = line.place(found.span.start);
        Some(Candidate { template, rank, found, distance })
    }

    fn is_anchored(&self, rank: usize) -> bool {
        self.ranks.get(rank).and_then(|rank| self.templates.get(rank.template)).is_some_and(Template::is_anchored)
    }

    fn need(&self, rank: usize) -> Need {
        let template = self.ranks.get(rank).and_then(|rank| self.templates.get(rank.template));
        template.map_or(Need::Nothing, |template| template.need)
    }

    /// Whether the line has, where the last date was, the characters around it that were there.
    fn has_same_edges(&self, line: &LogLine<'_>) -> bool {
        let is_word = |character: Option<char>| character.is_some_and(is_alphanumeric);
        let (start, end) = (self.start, self.end);
        let is_start =
            line.before(start.place) == start.before || (line.at(start.place) == start.after && !is_word(start.after));
        let is_end = line.at(end.place) == end.after || (line.before(end.place) == end.before && !is_word(end.before));
        is_start && is_end
    }

    /// Searches with the template that gave the last date. The second value is its place when it has seen the whole line.
    fn search_last(&mut self, line: &LogLine<'_>) -> (Option<Candidate>, Option<usize>) {
        let rank = self.last_rank;
        if rank >= self.ranks.len() {
            return (None, None);
        }
        if !self.is_anchored(rank) && self.has_same_edges(line) {
            return (self.search(line, rank, Some(self.start.place..self.end.place)), None);
        }
        (self.search(line, rank, None), Some(rank))
    }

    /// Searches with all templates in their order, but the one that is skipped; `reserve` is what is taken when none wins.
    fn search_all(
        &mut self,
        line: &LogLine<'_>,
        skipped: Option<usize>,
        mut reserve: Option<Candidate>,
    ) -> Option<Candidate> {
        let contents = line.is_ascii().then(|| line.contents());
        if contents.is_some_and(|contents| !self.templates.may_match(line.text, contents)) {
            return reserve;
        }
        for rank in 0..self.ranks.len() {
            if skipped == Some(rank) || contents.is_some_and(|contents| !contents.may_match(self.need(rank))) {
                continue;
            }
            let Some(candidate) = self.search(line, rank, None) else { continue };
            let Some(next) = self.ranks.get(rank + 1) else { return Some(candidate) };
            if self.is_anchored(rank) {
                return Some(candidate);
            }
            let Rank { hits, distance, .. } = *self.ranks.get(rank)?;
            let is_next_unused = self.found_in.get(next.template) == Some(&0);
            if candidate.distance == 0 && hits > 0 && is_next_unused {
                return Some(candidate);
            }
            if candidate.distance <= distance && candidate.distance <= self.start.place {
                return Some(candidate);
            }
            // Further to the right than before: this may be a date in the message.
            if candidate.distance < reserve.as_ref().map_or(NOWHERE, |reserve| reserve.distance) {
                reserve = Some(candidate);
            }
        }
        reserve
    }

    /// The date of a line, and what this says of the lines to come. `clock` is the time of the machine.
    ///
    /// # Errors
    ///
    /// The date is empty, and at the end of the line: fail2ban drops such a line.
    pub fn match_time(&mut self, line: &LogLine<'_>, clock: Time) -> Result<Option<TimeMatch>, Unread> {
        let (last, skipped) = self.search_last(line);
        let is_same = |candidate: &Candidate, detector: &Self| {
            detector.ranks.len() == 1
                || detector.is_anchored(candidate.rank)
                || (candidate.distance == detector.start.place
                    && line.place(candidate.found.span.end) == detector.end.place)
        };
        let chosen = match last {
            Some(candidate) if is_same(&candidate, self) => Some(candidate),
            last => self.search_all(line, skipped, last),
        };
        let Some(chosen) = chosen else { return Ok(None) };
        let end = line.place(chosen.found.span.end);
        let learned = self.learn(line, &Chosen { rank: chosen.rank, distance: chosen.distance, end }, clock);
        learned.ok_or(Unread::Line)?;
        let Candidate { found, template, .. } = chosen;
        // A first group that took no part is, in Python, the place before the last character.
        let nowhere = || {
            let last = line.text.char_indices().next_back().map_or(0, |(byte, _)| byte);
            last..last
        };
        let cut = found.first.unwrap_or_else(nowhere);
        Ok(Some(TimeMatch { template, span: found.span, cut, places: found.places }))
    }

    /// Takes note of where the date was, and moves its template to the front. Nothing when the date is empty and at the end of
    /// the line: fail2ban drops such a line with an error.
    fn learn(&mut self, line: &LogLine<'_>, chosen: &Chosen, clock: Time) -> Option<()> {
        let Chosen { rank, distance: start, end } = *chosen;
        let entry = self.ranks.get_mut(rank)?;
        entry.hits = entry.hits.saturating_add(1);
        entry.last_used = clock.micros();
        entry.distance = start;
        if self.first_unused == rank {
            self.first_unused += 1;
        }
        let after = Some(line.at(start)?);
        self.start = Edge { place: start, before: line.before(start), after };
        // At place 0 the character before is, in Python, the last of the line.
        let before = if end == 0 { line.text.chars().next_back() } else { line.before(end) };
        self.end = Edge { place: end, before, after: line.at(end) };
        self.last_rank = if rank != 0 && rank != self.last_rank { self.reorder(rank) } else { rank };
        Some(())
    }

    fn weight(&self, rank: Rank) -> f64 {
        let weight = self.templates.get(rank.template).map_or(1.0, |template| template.weight);
        let distance = u32::try_from(rank.distance.max(1)).unwrap_or(u32::MAX);
        f64::from(rank.hits) * weight / f64::from(distance)
    }

    /// Moves a template to the front, by half of its way or by one place, when it has the weight; its place then.
    fn reorder(&mut self, from: usize) -> usize {
        let Some(moved) = self.ranks.get(from).copied() else { return from };
        let may_pass = |detector: &Self, place: usize| {
            detector.ranks.get(place).is_some_and(|other| {
                detector.weight(moved) > detector.weight(*other) || moved.last_used - UNUSED_MICROS > other.last_used
            })
        };
        let mut to = if self.first_unused < from { self.first_unused } else { from / 2 };
        if !may_pass(self, to) {
            if to == from - 1 {
                return from;
            }
            to = from - 1;
            if !may_pass(self, to) {
                return from;
            }
        }
        if let Some(passed) = self.ranks.get_mut(to..=from) {
            passed.rotate_right(1);
        }
        while self.ranks.get(self.first_unused).is_some_and(|rank| rank.hits > 0) {
            self.first_unused += 1;
        }
        to
    }

    /// The instant of a date. `line` is the one it was found in; `now` is the time of the machine, for what the line leaves out.
    ///
    /// # Errors
    ///
    /// When there is no instant: see [`Unread`] for what becomes of the line.
    pub fn time_of(&mut self, found: &TimeMatch, line: &str, now: Time) -> Result<Time, Unread> {
        if let Some(time) = self.read_before(found, line, now) {
            return Ok(time);
        }
        let time = self.read(found, line, now)?;
        self.remember(found, line, time, now);
        Ok(time)
    }

    /// The date of a line that is written as the last one was, in the same quarter of an hour, and what is cut out for it: what
    /// [`match_time`] and [`time_of`] would say, with the same said of the lines to come. Most lines of a busy log are of this kind.
    ///
    /// [`match_time`]: Self::match_time
    /// [`time_of`]: Self::time_of
    pub fn same_as_before(&mut self, line: &LogLine<'_>, now: Time) -> Option<(Range<usize>, Time)> {
        if !line.is_ascii() {
            return None;
        }
        let read = self.read.as_ref().filter(|read| read.means_the_same(now))?;
        let (behind, rank) = (read.behind.as_ref()?, self.ranks.get(self.last_rank)?);
        let template = self.templates.get(rank.template).filter(|_| rank.template == read.template)?;
        let bytes = line.text.as_bytes();
        let start = template.shape.as_ref()?.place(bytes)?;
        let end = start + read.text.len();
        if !bytes.get(end..)?.starts_with(behind.as_slice()) {
            return None;
        }
        let time = read.time_of(bytes.get(start..end)?, now)?;
        let chosen = Chosen { rank: self.last_rank, distance: 0, end };
        if let Some(count) = self.found_in.get_mut(read.template) {
            *count += 1;
        }
        self.learn(line, &chosen, now)?;
        Some((start..end, time))
    }

    /// The instant of a date that is the same as the last one, when it means the same now.
    fn read_before(&self, found: &TimeMatch, line: &str, now: Time) -> Option<Time> {
        let read = self.read.as_ref().filter(|read| read.template == found.template)?;
        let (text, places) = fields(&found.places, line)?;
        (read.means_the_same(now) && text == read.text && places == read.places).then_some(read.time)
    }

    /// Remembers what a date meant, unless that depends on more than the day.
    fn remember(&mut self, found: &TimeMatch, line: &str, time: Time, now: Time) {
        let has =
            |name| field(name).and_then(|field| found.places.get(usize::from(field))).is_some_and(Option::is_some);
        let is_day = has("d") && (has("m") || has("b") || has("B"));
        let is_recent = time <= now && time > now - Span::from_days(THIS_YEAR_DAYS);
        let is_kept = is_day && (has("Y") || has("y") || is_recent);
        let is_date = self.templates.get(found.template).is_some_and(|template| template.kind == Kind::Fields);
        if let (true, true, Some((text, places))) = (is_kept, is_date, fields(&found.places, line)) {
            let behind = self.behind(found, line).filter(|_| text == &line[found.cut.clone()]);
            let place = |name| field(name).and_then(|field| *places.get(usize::from(field))?);
            let minute = match (place("M"), place("S")) {
                (Some((minute, minute_end)), Some((second, second_end)))
                    if minute_end == minute + 2
                        && second == minute + 3
                        && second_end == second + 2
                        && self.local.is_steady_around(time.micros().div_euclid(1_000_000)) =>
                {
                    usize::try_from(minute).ok()
                }
                _ => None,
            };
            let text = text.to_owned();
            self.read = Some(Read { template: found.template, text, places, time, at: now, minute, behind });
        }
    }

    /// What follows a date that its shape finds, wherever the front of a line has its place.
    fn behind(&self, found: &TimeMatch, line: &str) -> Option<Behind> {
        let shape = self.templates.get(found.template)?.shape.as_ref().filter(|_| line.is_ascii())?;
        let is_found = shape.place(line.as_bytes())? == found.cut.start
            && shape.find(line, 0).is_some_and(|found_by_shape| found_by_shape.span == found.span);
        let bytes = shape.looked_at_behind(line.as_bytes().get(found.cut.end..)?).filter(|_| is_found)?;
        let mut behind = Behind { bytes: [0; MOST_BEHIND], length: bytes.len() };
        behind.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(behind)
    }

    fn read(&mut self, found: &TimeMatch, line: &str, now: Time) -> Result<Time, Unread> {
        let template = self.templates.get(found.template).ok_or(Unread::Text)?;
        let text = |field: u8| {
            let (start, end) = (*found.places.get(usize::from(field))?)?;
            line.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        match template.kind {
            Kind::Fields => {
                let said = Said::read(&template.order, text)?;
                let now = self.local.now(now);
                said.instant(self.log_zone, now, &mut self.local).map(Time::from_secs)
            }
            Kind::Epoch { is_long, .. } => seconds(text(0).ok_or(Unread::Line)?, is_long),
            Kind::Tai64n => {
                let digits = text(0).and_then(|label| label.get(2..17)).ok_or(Unread::Text)?;
                i64::from_str_radix(digits, 16).map(Time::from_secs).map_err(|_| Unread::Text)
            }
        }
    }
}

/// The text from the first field to the last, and the places of the fields in it.
fn fields<'l>(places: &Places, line: &'l str) -> Option<(&'l str, Places)> {
    let (mut start, mut end) = (u32::MAX, 0);
    for (from, to) in places.iter().flatten() {
        (start, end) = (start.min(*from), end.max(*to));
    }
    let text = line.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    let mut moved = *places;
    for (from, to) in moved.iter_mut().flatten() {
        (*from, *to) = (from.checked_sub(start)?, to.checked_sub(start)?);
    }
    Some((text, moved))
}

/// Letters and digits, as Python has them: marks that are part of a letter are none.
fn is_alphanumeric(character: char) -> bool {
    static OTHERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}]").ok());
    if character.is_ascii() {
        return character.is_ascii_alphanumeric();
    }
    OTHERS.as_ref().is_some_and(|others| others.is_match(character.encode_utf8(&mut [0; 4]) as &str).unwrap_or(false))
}

/// The instant of a number of seconds; `is_long` when they may be milliseconds (13 characters) or microseconds (16 digits).
fn seconds(text: &str, is_long: bool) -> Result<Time, Unread> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let characters = text.chars().count();
    let micros_of_one: i64 = match (is_long, characters) {
        (true, 16..) if !text.contains('.') => 1,
        (true, 13..) => 1_000,
        _ => 1_000_000,
    };
    let mut value: i64 = 0;
    for character in whole.chars() {
        value = value.saturating_mul(10).saturating_add(digit(character).ok_or(Unread::Text)?);
    }
    let mut micros = value.saturating_mul(micros_of_one);
    let mut unit = micros_of_one;
    for character in fraction.chars() {
        unit /= 10;
        micros = micros.saturating_add(digit(character).ok_or(Unread::Text)? * unit);
    }
    Ok(Time::from_micros(micros))
}
