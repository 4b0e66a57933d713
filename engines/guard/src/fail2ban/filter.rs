//! A filter: lines of a log in, failures out, with the decisions of fail2ban's `Filter`.
//!
//! A line has its date cut out, must match the `prefregex` if there is one, and is then given to each pattern of a failure in
//! turn. Lines of one connection are joined by its identifier (`<F-MLFID>`), and with `maxlines` patterns see several lines.

mod candidates;
mod expression;
mod failure;
mod grams;
mod host;
mod set;
mod tags;
mod tally;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use event::{Span, Time, Zone};

pub use failure::{Failure, Value};
pub use host::{BadHost, Host};
pub use set::{FilterSet, Told};
pub use tally::{Buffered, Tally};

use super::dates::{DateDetector, DateError, DateSettings, LogLine, Unread};
use super::definition::{FilterDefinition, UseDns};
use super::pattern::{Found, PatternError, Shape};
use candidates::Candidates;
use expression::{Expression, Hit};
use failure::Connections;
use host::As;

/// How long a line may be, in bytes. A longer one is not looked at.
pub const MAX_LINE: usize = 64 << 10;
/// How far the date of a line may be from now while the log is followed; farther, it is taken for now.
const MAX_DEVIATION: Span = Span::from_secs(60);

/// What does not depend on the file of a filter.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are the switches of fail2ban's filter")]
pub struct FilterSettings {
    /// The zone of the machine: that of a date which names none.
    pub zone: Zone,
    /// The zone of the log, when it is another (`logtimezone`).
    pub log_zone: Option<String>,
    /// When the program was started: the years that a date may be of depend on it.
    pub started: Time,
    /// Whether names are looked up.
    pub use_dns: UseDns,
    /// Whether all patterns are tried, rather than until the first that matches.
    pub check_all_regex: bool,
    /// Whether names are taken as they are, without looking them up.
    pub raw_host: bool,
    /// Whether the dates of lines are compared with now.
    pub check_find_time: bool,
    /// How old a line may be while the log is caught up with.
    pub find_time: Span,
    /// Whether the log is followed, rather than caught up with.
    pub in_operation: bool,
    /// Whether failures without an author are kept back.
    pub ignore_pending: bool,
}

impl FilterSettings {
    /// The settings of a jail that sets none, on a machine in this zone.
    pub fn new(zone: Zone, started: Time) -> Self {
        Self {
            zone,
            log_zone: None,
            started,
            use_dns: UseDns::Warn,
            check_all_regex: false,
            raw_host: false,
            check_find_time: true,
            find_time: Span::from_secs(600),
            in_operation: true,
            ignore_pending: true,
        }
    }
}

/// A failure that a line told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Match {
    /// Which pattern found it: from 1, in the order of the file.
    pub regex: usize,
    /// Who it was; none while that is not known (only with [`FilterSettings::check_all_regex`], or pending failures shown).
    pub host: Option<Host>,
    /// When it was; none when no date is known.
    pub time: Option<Time>,
    /// The date of its line, where that is so far from now that `time` is now instead.
    pub written: Option<Time>,
    /// What else is known of it.
    pub failure: Failure,
}

impl Match {
    /// The user, where one is named.
    pub fn user(&self) -> Option<&str> {
        self.failure.text("user")
    }

    /// Whether the line tells of no failure by itself (`<F-NOFAIL>`); only with [`FilterSettings::check_all_regex`] or without a
    /// connection are such lines handed on.
    pub fn is_no_failure(&self) -> bool {
        self.failure.has("nofail")
    }

    /// How many lines tell of it.
    pub fn attempts(&self) -> usize {
        self.failure.lines
    }
}

/// Why a filter can't be used.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum FilterError {
    /// A pattern can't be read.
    #[error("filter `{filter}`, {option} {number}: {error}")]
    Pattern {
        /// The filter.
        filter: String,
        /// The option it stands in.
        option: &'static str,
        /// Which of them, from 1.
        number: usize,
        /// What is wrong.
        #[source]
        error: PatternError,
    },
    /// The dates of its lines can't be found.
    #[error("filter `{filter}`: {error}")]
    Dates {
        /// The filter.
        filter: String,
        /// What is wrong.
        #[source]
        error: DateError,
    },
    /// A pattern of a failure does not say who it was.
    #[error("filter `{filter}`, failregex {number}: no group says who it was; add <HOST>, <ADDR>, <F-ID> or <F-MLFID>")]
    NoIdentity {
        /// The filter.
        filter: String,
        /// Which of them, from 1.
        number: usize,
    },
}

/// Why a line was not judged to its end.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
pub enum LineError {
    /// It is longer than [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes, and was not looked at")]
    TooLong,
    /// Its date has numbers that no date has.
    #[error("the date of the line can't be read, and the line was not judged")]
    Date,
    /// What it names as its author can't be read.
    #[error(transparent)]
    Host(#[from] BadHost),
}

/// Looks up names, for filters with `usedns = yes` or `warn`.
pub trait Names {
    /// The addresses of a name; none when it has none, or when they are not known.
    fn addresses(&mut self, name: &str) -> Vec<IpAddr>;
}

/// Knows no name.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoNames;

impl Names for NoNames {
    fn addresses(&mut self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// A text and its kind.
#[derive(Debug)]
struct Seen {
    text: String,
    shape: Shape,
}

impl Default for Seen {
    fn default() -> Self {
        Self { text: String::new(), shape: Shape::of("") }
    }
}

/// What was found of the date of a line.
#[derive(Clone, Debug)]
struct Dated {
    /// What is cut out of the line.
    cut: Range<usize>,
    /// The date; that of an earlier line, or now, where there was none to read.
    date: Option<Time>,
    /// The one that it had, where it is now instead.
    replaced: Option<Time>,
    /// Whether there was none to read.
    is_missing: bool,
    written: Written,
}

impl Dated {
    const fn read(cut: Range<usize>, date: Time, written: Written) -> Self {
        Self { cut, date: Some(date), replaced: None, is_missing: false, written }
    }
}

/// How the date of a line was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Written {
    /// As what is cut out, which was read: it stands for lines that have none.
    Read,
    /// As what is cut out.
    Cut,
    /// As in the last line that had one.
    Last,
    /// Not in the line: it is known.
    Given(Time),
}

/// The place of the lines among the texts of a filter.
const LINES: usize = 0;
/// The place of the content.
const CONTENT: usize = 1;

/// A filter and its state.
#[derive(Debug)]
pub struct Filter {
    settings: FilterSettings,
    prefregex: Option<Expression>,
    failregex: Vec<Expression>,
    ignoreregex: Vec<Expression>,
    candidates: Candidates,
    /// The patterns that the line at hand could match.
    possible: Vec<u64>,
    seam: Vec<u8>,
    max_lines: usize,
    /// The lines that patterns see, without their dates; only kept with several.
    buffer: Vec<Buffered>,
    /// What patterns see: the lines, each with its newline, and the content that the `prefregex` found in them.
    texts: [Seen; 2],
    /// Which of the two the patterns of a failure see.
    seen: usize,
    connections: Connections,
    dates: DateDetector,
    /// The pattern that the dates are found by.
    date_pattern: Option<String>,
    /// The last date that was read.
    last_date: Option<Time>,
    /// How it was written; only kept with several lines.
    last_date_text: String,
    step_limits: u64,
    /// What is counted besides failures, for those who test a filter.
    tally: Option<Tally>,
}

impl Filter {
    /// The filter of a definition. Its patterns are read here, and compiled when a line first needs them.
    pub fn compile(definition: &FilterDefinition, settings: FilterSettings) -> Result<Self, FilterError> {
        let only_addresses = settings.use_dns == UseDns::No;
        let max_lines = usize::try_from(definition.maxlines.max(1)).unwrap_or(1);
        let expression = |option, number, text: &str, multi_line| {
            Expression::new(text, only_addresses, multi_line).map_err(|error| FilterError::Pattern {
                filter: definition.name.clone(),
                option,
                number,
                error,
            })
        };
        let prefregex = definition
            .prefregex
            .as_ref()
            .filter(|text| !text.is_empty())
            .map(|text| expression("prefregex", 1, text, false))
            .transpose()?;
        let mut failregex = Vec::with_capacity(definition.failregex.len());
        for (index, text) in definition.failregex.iter().enumerate() {
            let found = expression("failregex", index + 1, text, max_lines > 1)?;
            if !found.identifies() && !prefregex.as_ref().is_some_and(Expression::identifies) {
                return Err(FilterError::NoIdentity { filter: definition.name.clone(), number: index + 1 });
            }
            failregex.push(found);
        }
        let candidates = Candidates::of_patterns(&failregex);
        let dates = DateDetector::new(
            definition.datepattern.as_deref(),
            &DateSettings { zone: &settings.zone, log_zone: settings.log_zone.as_deref(), started: settings.started },
        )
        .map_err(|error| FilterError::Dates { filter: definition.name.clone(), error })?;
        let ignoreregex = definition
            .ignoreregex
            .iter()
            .enumerate()
            .map(|(index, text)| expression("ignoreregex", index + 1, text, false))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            settings,
            prefregex,
            failregex,
            ignoreregex,
            candidates,
            possible: Vec::new(),
            seam: Vec::new(),
            max_lines,
            buffer: Vec::new(),
            texts: [Seen::default(), Seen::default()],
            seen: LINES,
            connections: Connections::default(),
            dates,
            date_pattern: definition.datepattern.clone(),
            last_date: None,
            last_date_text: String::new(),
            step_limits: 0,
            tally: None,
        })
    }

    /// Compiles all patterns, so that one that is refused is known before there is a line.
    pub fn check(&self, name: &str) -> Result<(), FilterError> {
        let of = |option, expressions: &[Expression]| {
            for (index, one) in expressions.iter().enumerate() {
                one.pattern().check().map_err(|error| FilterError::Pattern {
                    filter: name.to_owned(),
                    option,
                    number: index + 1,
                    error,
                })?;
            }
            Ok(())
        };
        of("prefregex", self.prefregex.as_slice())?;
        of("failregex", &self.failregex)?;
        of("ignoreregex", &self.ignoreregex)
    }

    /// Says whether the log is followed, or caught up with.
    pub fn set_in_operation(&mut self, in_operation: bool) {
        self.settings.in_operation = in_operation;
    }

    /// How many searches were given up at their limit of steps, or had a pattern that the engine refused.
    pub fn step_limits(&self) -> u64 {
        self.step_limits
    }

    /// Counts from here on what no failure tells of; every line is then judged to its end, which is slower.
    pub fn keep_tally(&mut self) {
        self.tally = Some(Tally { ignoreregex: vec![0; self.ignoreregex.len()], ..Tally::default() });
    }

    /// What was counted since [`keep_tally`](Self::keep_tally).
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// How many lines patterns see at once.
    pub fn max_lines(&self) -> usize {
        self.max_lines
    }

    /// The lines that patterns of several lines still see.
    pub fn buffered(&self) -> &[Buffered] {
        &self.buffer
    }

    /// The date templates that gave dates, by their names in fail2ban, and how many each; in the order of their ranking.
    pub fn date_hits(&self) -> impl Iterator<Item = (&str, u32)> {
        self.dates.hits()
    }

    /// How many patterns of a failure there are.
    pub fn len(&self) -> usize {
        self.failregex.len()
    }

    /// Whether there is no pattern of a failure.
    pub fn is_empty(&self) -> bool {
        self.failregex.is_empty()
    }

    /// What a line tells, without its newline.
    pub fn process_line(&mut self, line: &str, now: Time, names: &mut dyn Names) -> Result<Vec<Match>, LineError> {
        let line = LogLine::of(line);
        let dated = self.date_of(&line, now)?;
        self.process_rest(&line, &dated, None, now, names)
    }

    /// What a line tells whose date is known, as that of an entry of the journal is.
    pub fn process_dated(
        &mut self,
        line: &str,
        date: Time,
        now: Time,
        names: &mut dyn Names,
    ) -> Result<Vec<Match>, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let dated = self.dated(line, date, now);
        self.process_rest(&LogLine::of(line), &dated, None, now, names)
    }

    /// The date of a line, which is known, as one of a log that is followed.
    fn dated(&mut self, line: &str, date: Time, now: Time) -> Dated {
        self.last_date = Some(date);
        let cut = line.len()..line.len();
        self.compared(Dated::read(cut, date, Written::Given(date)), now)
    }

    /// The date of a line. Each line has to be asked for: what is found decides how the next ones are read.
    fn date_of(&mut self, line: &LogLine<'_>, now: Time) -> Result<Dated, LineError> {
        if line.text().len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        if let Some((cut, date)) = self.dates.same_as_before(line, now) {
            self.last_date = Some(date);
            return Ok(self.compared(Dated::read(cut, date, Written::Read), now));
        }
        let known = self.last_date.filter(|date| *date > now - MAX_DEVIATION);
        let whole = line.text().len()..line.text().len();
        let mut dated = Dated { cut: whole, date: None, replaced: None, is_missing: false, written: Written::Cut };
        if let Some(found) = self.dates.match_time(line, now).map_err(|_| LineError::Date)? {
            if found.cut.is_empty() {
                // A date that may be missing, and is.
                dated.date = Some(known.unwrap_or(now));
                if known.is_some() {
                    (dated.cut, dated.written) = (0..0, Written::Last);
                }
            } else {
                match self.dates.time_of(&found, line.text(), now) {
                    Ok(read) => {
                        dated.date = Some(read);
                        dated.written = Written::Read;
                        self.last_date = dated.date;
                    }
                    Err(Unread::Text) => {}
                    Err(Unread::Line) => return Err(LineError::Date),
                }
                dated.cut = found.cut;
            }
        }
        dated.is_missing = dated.date.is_none();
        if dated.is_missing {
            if known.is_some() {
                (dated.cut, dated.written) = (0..0, Written::Last);
                dated.date = known;
            } else if self.settings.check_find_time && self.settings.in_operation {
                dated.date = Some(now);
            }
        }
        Ok(self.compared(dated, now))
    }

    /// A date that is not far from now, while the log is followed.
    fn compared(&mut self, mut dated: Dated, now: Time) -> Dated {
        if self.settings.check_find_time
            && self.settings.in_operation
            && let Some(known) = dated.date
            // Compared in whole seconds, as there.
            && known.since(now).secs().abs() > MAX_DEVIATION.secs()
        {
            (dated.date, dated.replaced) = (Some(now), dated.date);
            self.last_date = dated.date;
        }
        dated
    }

    /// What a line tells whose date was found. `may_match` says whether a pattern may match it, when that is known.
    fn process_rest(
        &mut self,
        line: &LogLine<'_>,
        dated: &Dated,
        may_match: Option<bool>,
        now: Time,
        names: &mut dyn Names,
    ) -> Result<Vec<Match>, LineError> {
        let several = self.max_lines > 1;
        match dated.written {
            Written::Read if several => line.text()[dated.cut.clone()].clone_into(&mut self.last_date_text),
            Written::Given(date) if several => self.last_date_text = date.to_rfc3339(),
            _ => {}
        }
        if self.settings.check_find_time
            && !self.settings.in_operation
            && dated.date.is_some_and(|date| date < now - self.settings.find_time)
        {
            return Ok(Vec::new());
        }
        if several {
            self.take_lines(line, dated, may_match);
            // With a `prefregex`, it decides what stays for the next line.
            let is_judged = self.prefregex.is_some() || self.tally.is_some();
            if !is_judged && !self.buffer.iter().any(|line| line.is_possible) {
                return Ok(Vec::new());
            }
            self.texts[LINES].set_lines(&self.buffer);
            let Seen { text, shape } = &self.texts[LINES];
            if !self.candidates.find(text, shape.is_ascii(), &mut self.possible) && !is_judged {
                return Ok(Vec::new());
            }
        } else {
            self.candidates.note(line.text(), &dated.cut);
            if !self.find_candidates(line, dated) && self.tally.is_none() {
                return Ok(Vec::new());
            }
            self.take_line(line.text(), dated);
        }
        let mut found = self.find(dated.date, dated.is_missing, now, names)?;
        for failure in &mut found {
            failure.written = dated.replaced;
        }
        Ok(found)
    }

    /// Finds the patterns that a line without its date may match; whether there are any.
    fn find_candidates(&mut self, line: &LogLine<'_>, dated: &Dated) -> bool {
        self.candidates.find_without(line.text(), &dated.cut, line.is_ascii(), &mut self.possible, &mut self.seam)
    }

    /// The failures in the lines at hand, of which this one is the last.
    fn find(
        &mut self,
        date: Option<Time>,
        no_date: bool,
        now: Time,
        names: &mut dyn Names,
    ) -> Result<Vec<Match>, LineError> {
        let mut found = Vec::new();
        let several = self.max_lines > 1;
        // What the line numbers of a match are counted in: the lines as they were before any was taken out.
        let original = several.then(|| self.buffer.clone());
        if !self.ignoreregex.is_empty() && self.ignoreregex.len() + 2 < self.failregex.len() && self.is_ignored(None) {
            return Ok(found);
        }
        let Some(prefix) = self.prefix(original.as_deref()) else { return Ok(found) };
        for index in 0..self.failregex.len() {
            if !candidates::has(&self.possible, index) {
                continue;
            }
            let Seen { text, shape } = &self.texts[self.seen];
            let hit = match self.failregex[index].search(text, *shape, original.as_deref()) {
                Ok(Some(hit)) => hit,
                Ok(None) => continue,
                Err(_) => {
                    self.step_limits += 1;
                    continue;
                }
            };
            let groups = self.failregex[index].groups(text, &hit.found);
            if !self.ignoreregex.is_empty() && self.is_ignored(Some(&hit)) {
                if !self.settings.check_all_regex {
                    break;
                }
                continue;
            }
            if no_date && date.is_none() && self.settings.check_find_time {
                continue;
            }
            let failure = joined(self.prefix_groups(&prefix), groups);
            if !self.settings.check_all_regex || several {
                self.replace_buffer(hit.unmatched_lines());
            }
            match self.take_failure(index, failure, &hit, date, now, names, &mut found)? {
                Taken::Nothing => {}
                Taken::Failure if self.settings.check_all_regex => {}
                Taken::Failure | Taken::Line => break,
            }
        }
        Ok(found)
    }

    /// What the `prefregex` found, with its content put where the patterns of a failure see it; `None` when it does not match.
    fn prefix(&mut self, lines: Option<&[Buffered]>) -> Option<Prefix> {
        let Some(expression) = &self.prefregex else { return Some(Prefix::Groups(BTreeMap::new())) };
        let [Seen { text, shape }, content] = &mut self.texts;
        let Ok(hit) = expression.search(text, *shape, lines) else {
            self.step_limits += 1;
            return None;
        };
        if let Some(tally) = &mut self.tally {
            tally.is_prefixed = hit.is_some();
        }
        let hit = hit?;
        if lines.is_none() && expression.is_plain() {
            // Most lines end here: the groups are read when a pattern of a failure matches.
            if let Some(span) = expression.content(&hit.found) {
                content.set(&text[span]);
                self.seen = CONTENT;
            }
            return Some(Prefix::Found(hit.found));
        }
        let mut groups = expression.groups(text, &hit.found);
        if let Some(Some(Value::Text(content))) = groups.remove("content")
            && !content.is_empty()
        {
            self.replace_buffer(vec![Buffered::of(content)]);
        }
        Some(Prefix::Groups(groups))
    }

    fn prefix_groups(&self, prefix: &Prefix) -> Groups {
        match (prefix, &self.prefregex) {
            (Prefix::Found(found), Some(expression)) => {
                let mut groups = expression.groups(&self.texts[LINES].text, found);
                groups.remove("content");
                groups
            }
            (Prefix::Groups(groups), _) => groups.clone(),
            (Prefix::Found(_), None) => Groups::new(),
        }
    }

    /// Adds what one pattern found.
    #[expect(clippy::too_many_arguments, reason = "it is the end of the loop over the patterns")]
    fn take_failure(
        &mut self,
        index: usize,
        mut failure: Failure,
        hit: &Hit,
        date: Option<Time>,
        now: Time,
        names: &mut dyn Names,
        found: &mut Vec<Match>,
    ) -> Result<Taken, LineError> {
        let connection = failure.fields.get("mlfid").cloned();
        if let Some(id) = &connection {
            failure = self.connections.merge(id, failure, hit, now);
            // The users of a connection are one set for all patterns that match the line.
            for earlier in found.iter_mut().map(|found| &mut found.failure).filter(|earlier| !earlier.users.is_empty())
            {
                if earlier.fields.get("mlfid") == Some(id) && earlier.users.is_subset(&failure.users) {
                    earlier.users.clone_from(&failure.users);
                }
            }
            if failure.has("nofail") && !self.settings.check_all_regex {
                self.connections.update(id, &failure);
                return Ok(Taken::Line);
            }
        } else {
            failure.lines += hit.matched();
        }
        let hosts = self.identify(&mut failure, connection.is_some(), names);
        if let Some(id) = &connection {
            self.connections.update(id, &failure);
        }
        match hosts? {
            Identity::Missing => return Ok(Taken::Nothing),
            Identity::Pending if !self.settings.check_all_regex && self.settings.ignore_pending => {
                return Ok(Taken::Line);
            }
            Identity::Pending => found.push(Match { regex: index + 1, host: None, time: date, written: None, failure }),
            Identity::Known(hosts) => {
                for host in hosts {
                    let (host, failure) = (Some(host), failure.clone());
                    found.push(Match { regex: index + 1, host, time: date, written: None, failure });
                }
            }
        }
        Ok(Taken::Failure)
    }

    fn identify(&self, failure: &mut Failure, is_connection: bool, names: &mut dyn Names) -> Result<Identity, BadHost> {
        let is_raw = self.settings.raw_host || self.settings.use_dns == UseDns::Raw;
        let default = if is_raw { As::Raw } else { As::Any };
        let prefix = |how| match failure.text("cidr") {
            Some(cidr) if !cidr.is_empty() => {
                let prefix = host::number(cidr).ok_or(BadHost)?;
                Ok(As::Prefix(u32::try_from(prefix).unwrap_or(u32::MAX)))
            }
            _ => Ok(how),
        };
        let id = failure.fields.get("fid");
        let (text, how) = if let Some(ip) = failure.text("ip4") {
            (Value::Text(ip.to_owned()), prefix(As::V4)?)
        } else if let Some(ip) = failure.text("ip6") {
            (Value::Text(ip.to_owned()), prefix(As::V6)?)
        } else if let Some(name) = failure.text("dns") {
            if !is_raw {
                return Ok(Identity::Known(self.look_up(name, names)));
            }
            (Value::Text(name.to_owned()), As::Raw)
        } else if let Some(id) = id {
            (id.clone(), default)
        } else {
            if !is_connection {
                return Ok(Identity::Missing);
            }
            failure.is_pending = true;
            return Ok(Identity::Pending);
        };
        match id.filter(|id| **id != text).cloned() {
            None => Ok(Identity::Known(vec![read(&text, how)?])),
            Some(id) => {
                failure.ip = Some(read(&text, how)?);
                Ok(Identity::Known(vec![read(&id, default)?]))
            }
        }
    }

    fn look_up(&self, name: &str, names: &mut dyn Names) -> Vec<Host> {
        // Only what is written as an address of the fourth version is taken for one here, as there.
        if let Ok(address) = name.parse() {
            return vec![Host::of(IpAddr::V4(address))];
        }
        if !matches!(self.settings.use_dns, UseDns::Yes | UseDns::Warn) {
            return Vec::new();
        }
        let mut hosts: Vec<_> = names.addresses(name).into_iter().map(Host::of).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Whether one of the patterns of what is not to count matches: the lines of a match when patterns see several, and all else.
    fn is_ignored(&mut self, hit: Option<&Hit>) -> bool {
        let several = self.max_lines > 1;
        let matched = hit.filter(|_| several).and_then(Hit::matched_lines).map(|lines| {
            let mut seen = Seen::default();
            seen.set_lines(lines);
            seen
        });
        let Seen { text, shape } = matched.as_ref().unwrap_or(&self.texts[self.seen]);
        let mut ignored = false;
        for (index, expression) in self.ignoreregex.iter().enumerate() {
            match expression.pattern().search(text, *shape) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    ignored = true;
                    let Some(tally) = &mut self.tally else { break };
                    tally.note_ignored(index);
                    if !self.settings.check_all_regex {
                        break;
                    }
                }
                Err(_) => self.step_limits += 1,
            }
        }
        if ignored
            && let Some(hit) = hit
            && several
        {
            self.replace_buffer(hit.unmatched_lines());
        }
        ignored
    }

    /// Lets the patterns see a line without its date.
    fn take_line(&mut self, line: &str, dated: &Dated) {
        if let Some(tally) = &mut self.tally {
            tally.is_ignored = false;
        }
        self.seen = LINES;
        self.texts[LINES].set_line([&line[..dated.cut.start], &line[dated.cut.end..]]);
    }

    /// Adds a line without its date to those that patterns see.
    fn take_lines(&mut self, line: &LogLine<'_>, dated: &Dated, may_match: Option<bool>) {
        let is_possible = may_match.unwrap_or_else(|| self.find_candidates(line, dated));
        if let Some(tally) = &mut self.tally {
            tally.is_ignored = false;
        }
        self.seen = LINES;
        let line = line.text();
        let date = match dated.written {
            Written::Read | Written::Cut => line[dated.cut.clone()].to_owned(),
            Written::Last | Written::Given(_) => self.last_date_text.clone(),
        };
        let text = [&line[..dated.cut.start], &line[dated.cut.end..]].concat();
        self.buffer.push(Buffered { text, date, date_at: dated.cut.start, is_possible });
        let surplus = self.buffer.len().saturating_sub(self.max_lines);
        self.buffer.drain(..surplus);
    }

    /// Lets the patterns of a failure see other lines.
    fn replace_buffer(&mut self, lines: Vec<Buffered>) {
        if self.max_lines > 1 {
            self.buffer = lines;
            self.texts[LINES].set_lines(&self.buffer);
            self.seen = LINES;
        } else {
            self.texts[CONTENT].set_lines(&lines);
            self.seen = CONTENT;
        }
    }
}

impl Seen {
    fn set_line(&mut self, parts: [&str; 2]) {
        self.text.clear();
        self.text.push_str(parts[0]);
        self.text.push_str(parts[1]);
        self.end();
    }

    fn set(&mut self, line: &str) {
        self.set_line([line, ""]);
    }

    fn set_lines(&mut self, lines: &[Buffered]) {
        self.text.clear();
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                self.text.push('\n');
            }
            self.text.push_str(&line.text);
        }
        self.end();
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.shape = Shape::of(&self.text);
    }
}

/// What the groups of a pattern matched.
type Groups = BTreeMap<Arc<str>, Option<Value>>;

/// What the `prefregex` found.
enum Prefix {
    /// Where it was found in the lines.
    Found(Found),
    /// What its groups matched.
    Groups(Groups),
}

/// What came of a pattern that matched.
enum Taken {
    /// Nothing: it does not say who it was.
    Nothing,
    /// A failure.
    Failure,
    /// The line is done with.
    Line,
}

enum Identity {
    /// No group says who it was.
    Missing,
    /// A later line may say who it was.
    Pending,
    Known(Vec<Host>),
}

fn read(value: &Value, how: As) -> Result<Host, BadHost> {
    match value {
        Value::Text(text) => Host::read(text, how),
        Value::Tuple(of) => {
            let parts: Vec<_> = of.iter().map(|part| part.as_deref().unwrap_or("")).collect();
            Ok(Host::raw(&parts.join(" ")))
        }
    }
}

fn joined(mut all: Groups, groups: Groups) -> Failure {
    all.extend(groups);
    let fields = all
        .into_iter()
        .filter(|(name, _)| !name.starts_with("skiplines"))
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    Failure { fields, ..Failure::default() }
}
