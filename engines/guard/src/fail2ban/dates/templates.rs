//! The templates of a detector: those of fail2ban, in its order, and those that a `datepattern` asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::super::pattern::Pattern;
use super::DateError;
use super::bounds::{self, AT_LINE_BEGIN};
use super::python::Texts;
use super::template::{Contents, Template};

/// Patterns that one `datepattern` may have.
const PATTERN_LIMIT: usize = 100;

/// Bytes that one of them may have.
const LENGTH_LIMIT: usize = 10_000;

/// ISO 8601 without separators: the only built-in pattern with directives that has no colon.
pub(super) const COMPACT: &str = r"%ExY%Exm%Exd(?:T|  ?)%ExH%ExM%ExS(?:[.,]%f)?(?:\s*%z)?";

/// What is tried without a `datepattern`, each also at the start of the line and there first.
pub(super) const DEFAULTS: [&str; 17] = [
    // ISO 8601 and its like: 2005-01-23T21:59:59.981746, 2005/01/23 21:59:59, 2005.01.23 06:43:20
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    // asctime and syslog: Sun Jan 23 21:59:59.011 2005
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // Sun Jan 23 2005 21:59:59.011
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    // 23/01/2005 21:59:59, 23/01/05 21:59:59, 17-07-2008 17:23:25
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    // Apache, named, Roundcube: 31/Oct/2006:09:22:55 -0000, 26-Jul-2007 15:20:52.252
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    // cPanel: 05/20/2008:01:57:39
    r"%m/%d/%ExY:%H:%M:%S",
    // 01-27-2012 16:22:44.252
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    "EPOCH",
    // A time without a date
    r"{^LN-BEG}%H:%M:%S",
    // <09/16/08@05:03:30>
    r"^<%m/%d/%Exy@%H:%M:%S>",
    // MySQL: 130322 11:46:11
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    // Tomcat: Sep 16, 2008 5:03:30 AM
    r"%b %d, %ExY %I:%M:%S %p",
    // ASSP: Apr-27-13 02:33:06
    r"^%b-%d-%Exy %k:%M:%S",
    // 20050123T215959, 20050123 215959
    COMPACT,
    // monit: PDT Apr 16 21:05:29
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // +00:00 Jan 23 21:59:59.011 2005
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    "TAI64N",
];

/// The templates of a detector, in the order in which they are first tried.
#[derive(Debug)]
pub(super) struct TemplateList {
    templates: Vec<Template>,
    any: OnceLock<Any>,
}

/// What tells that none of the templates matches a line of ASCII.
#[derive(Debug)]
struct Any {
    /// The characters with which lines begin that one matches; nothing when these are all.
    beginnings: Option<[bool; 128]>,
    /// What finds something in every line in which one does.
    expression: Option<regex::Regex>,
}

impl TemplateList {
    fn new(templates: Vec<Template>) -> Self {
        Self { templates, any: OnceLock::new() }
    }

    /// Whether one of them may match a line of ASCII.
    pub(super) fn may_match(&self, line: &str, contents: Contents) -> bool {
        if !self.templates.iter().any(|template| contents.may_match(template.need)) {
            return false;
        }
        if memchr::memchr(b'\n', line.as_bytes()).is_some() {
            return true;
        }
        let any = self.any.get_or_init(|| {
            let patterns = self.templates.iter().map(|template| Pattern::new(&template.regex, false).ok());
            let patterns: Option<Vec<_>> = patterns.collect();
            Any {
                beginnings: patterns.as_ref().and_then(Pattern::beginnings),
                expression: patterns.and_then(|patterns| Pattern::approximation(&patterns)),
            }
        });
        let begins = |characters: &[bool; 128]| {
            line.bytes().next().is_none_or(|first| characters.get(usize::from(first)).is_some_and(|is_one| *is_one))
        };
        any.beginnings.as_ref().is_none_or(begins)
            && any.expression.as_ref().is_none_or(|expression| expression.is_match(line))
    }
}

impl std::ops::Deref for TemplateList {
    type Target = [Template];

    fn deref(&self) -> &[Template] {
        &self.templates
    }
}

/// Builds the templates of one detector.
pub(super) struct Templates {
    /// All templates made so far, whether the detector tries them or not.
    made: Vec<Template>,
    /// Which of them a pattern means.
    known: HashMap<String, usize>,
    /// What is tried, in this order.
    tried: Vec<usize>,
    /// The defaults with those at the start of the line, once they are asked for.
    defaults: Option<Vec<usize>>,
    started_in: i64,
}

/// What tells patterns apart: the case of one without directives does not matter.
fn key_of(pattern: &str) -> String {
    if pattern.contains('%') { pattern.to_owned() } else { pattern.to_uppercase() }
}

/// Templates that are in use, by their pattern and the year.
type InUse = Vec<(Option<String>, i64, Weak<TemplateList>)>;

impl Templates {
    /// The templates of a `datepattern`, the same for all who ask while somebody has them: their expressions are large.
    pub(super) fn shared(datepattern: Option<&str>, started_in: i64) -> Result<Arc<TemplateList>, DateError> {
        static IN_USE: Mutex<InUse> = Mutex::new(Vec::new());
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|(.., templates)| templates.strong_count() > 0);
        let known = in_use.iter().find(|(pattern, year, _)| pattern.as_deref() == datepattern && *year == started_in);
        if let Some(templates) = known.and_then(|(.., templates)| templates.upgrade()) {
            return Ok(templates);
        }
        let templates = Arc::new(TemplateList::new(Self::of(datepattern, started_in)?));
        in_use.push((datepattern.map(str::to_owned), started_in, Arc::downgrade(&templates)));
        Ok(templates)
    }

    /// The templates of a `datepattern`, one pattern to a line; without one, the defaults.
    pub(super) fn of(datepattern: Option<&str>, started_in: i64) -> Result<Vec<Template>, DateError> {
        let mut templates =
            Self { made: Vec::new(), known: HashMap::new(), tried: Vec::new(), defaults: None, started_in };
        let patterns = datepattern.unwrap_or_default().split('\n').map(str::trim).filter(|line| !line.is_empty());
        for (place, pattern) in patterns.enumerate() {
            let error = |reason: String| DateError::Pattern { pattern: pattern.to_owned(), reason };
            if place >= PATTERN_LIMIT || pattern.len() > LENGTH_LIMIT {
                return Err(error(format!(
                    "more than {PATTERN_LIMIT} patterns, or one of more than {LENGTH_LIMIT} bytes"
                )));
            }
            let before = templates.tried.len();
            templates.add(pattern).map_err(error)?;
            templates.check(before).map_err(error)?;
        }
        if templates.tried.is_empty() {
            templates
                .add_defaults(|_| true)
                .and_then(|()| templates.check(0))
                .map_err(|reason| DateError::Pattern { pattern: "{DEFAULT}".to_owned(), reason })?;
        }
        let mut made: Vec<Option<Template>> = templates.made.into_iter().map(Some).collect();
        Ok(templates.tried.iter().filter_map(|place| made.get_mut(*place)?.take()).collect())
    }

    /// Reads the expressions of what is tried from the given place on, and compiles the first.
    fn check(&mut self, from: usize) -> Result<(), String> {
        for (count, place) in self.tried.iter().skip(from).enumerate() {
            let Some(template) = self.made.get_mut(*place) else { continue };
            template.prepare()?;
            if count == 0 {
                template.compile(Texts::Ascii)?;
            }
        }
        Ok(())
    }

    fn name(&self, place: usize) -> &str {
        self.made.get(place).map_or("", |template| &template.name)
    }

    /// The template of a pattern, made when it is new.
    fn template(&mut self, pattern: &str, key: &str) -> Result<usize, String> {
        if let Some(place) = self.known.get(key) {
            return Ok(*place);
        }
        let of_epoch = if key.contains("EPOCH") {
            match key {
                _ if bounds::replace_mark(pattern, &["{EPOCH}", "{LEPOCH}"], "").is_some() => {
                    Template::of_epoch_in(pattern, key.contains("LEPOCH"))
                }
                "EPOCH" | "{^LN-BEG}EPOCH" | "^EPOCH" => Some(Template::of_epoch(false, key != "EPOCH")),
                "LEPOCH" | "{^LN-BEG}LEPOCH" | "^LEPOCH" => Some(Template::of_epoch(true, key != "LEPOCH")),
                _ => None,
            }
        } else {
            None
        };
        let template = match (of_epoch, key) {
            (Some(template), _) => template,
            (None, "TAI64N" | "{^LN-BEG}TAI64N" | "^TAI64N") => Template::of_tai64n(key != "TAI64N"),
            _ => Template::of_pattern(pattern, self.started_in)?,
        };
        self.made.push(template);
        self.known.insert(key.to_owned(), self.made.len() - 1);
        Ok(self.made.len() - 1)
    }

    /// The template whose name and pattern are those of another, wrapped.
    fn wrapped(&mut self, place: usize, wrap: impl Fn(&str) -> String) -> Result<usize, String> {
        let Some(template) = self.made.get(place) else { return Ok(place) };
        let name = wrap(&template.name);
        if let Some(known) = self.known.get(&name) {
            return Ok(*known);
        }
        let pattern = template.pattern.as_deref().map_or(name, wrap);
        self.template(&pattern, &key_of(&pattern))
    }

    fn try_next(&mut self, place: usize, skips_known: bool) -> Result<(), String> {
        if self.tried.iter().any(|tried| self.name(*tried) == self.name(place)) {
            return if skips_known { Ok(()) } else { Err(format!("it is {} a second time", self.name(place))) };
        }
        self.tried.push(place);
        Ok(())
    }

    /// Adds what one pattern means.
    fn add(&mut self, pattern: &str) -> Result<(), String> {
        let key = key_of(pattern);
        let place = match (self.known.get(&key), key.as_str()) {
            (Some(place), _) => *place,
            (None, AT_LINE_BEGIN) => return self.add_defaults(Template::is_at_line_begin),
            // It adds none in fail2ban 1.0.2: alone it means the defaults, after another pattern nothing.
            (None, "{DEFAULT}") => return self.add_defaults(|_| false),
            (None, _) if key.contains("{DATE}") => return self.add_around(pattern),
            (None, "{NONE}") => self.template("{UNB}^", &key)?,
            (None, _) => self.template(pattern, &key)?,
        };
        self.try_next(place, false)
    }

    /// The places of the defaults.
    fn bare_defaults(&mut self) -> Result<Vec<usize>, String> {
        DEFAULTS.iter().map(|pattern| self.template(pattern, &key_of(pattern))).collect()
    }

    /// Adds those of the defaults that are wanted, the ones at the start of the line first.
    fn add_defaults(&mut self, is_wanted: impl Fn(&Template) -> bool) -> Result<(), String> {
        let skips_known = !self.tried.is_empty();
        if self.defaults.is_none() {
            let bare = self.bare_defaults()?;
            let mut all = Vec::new();
            for place in &bare {
                if self.name(*place).starts_with(AT_LINE_BEGIN) || self.name(*place).starts_with('^') {
                    continue;
                }
                let anchored = self.wrapped(*place, |text| format!("{AT_LINE_BEGIN}{text}"))?;
                if self.name(anchored) != self.name(*place) {
                    if let Some(template) = self.made.get_mut(anchored) {
                        template.weight = 100.0;
                    }
                    all.push(anchored);
                }
            }
            all.extend(bare);
            self.defaults = Some(all);
        }
        for place in self.defaults.clone().unwrap_or_default() {
            if self.made.get(place).is_some_and(&is_wanted) {
                self.try_next(place, skips_known)?;
            }
        }
        Ok(())
    }

    /// Adds the defaults in the place of `{DATE}` in a pattern.
    fn add_around(&mut self, pattern: &str) -> Result<(), String> {
        let skips_known = !self.tried.is_empty();
        for place in self.bare_defaults()? {
            let wrap = |text: &str| {
                bounds::replace_mark(pattern, &["{DATE}"], bounds::unbound(text)).unwrap_or_else(|| pattern.to_owned())
            };
            let place = self.wrapped(place, wrap)?;
            self.try_next(place, skips_known)?;
        }
        Ok(())
    }
}
