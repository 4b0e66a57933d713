//! Lookup of an option, and what `%(…)s` stands for in it: options of the section, of `[DEFAULT]`, `%(section/option)s`,
//! `%(known/option)s` for what an earlier file said, and `%(__name__)s` for the section.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::ini::{DEFAULT, Options, Sections, Value};
use super::options::short;
use super::problem::Problem;

/// How deep references may hold references.
const DEPTH_MAX: u32 = 10;
/// Longest text that may come out.
const TEXT_MAX: usize = 1 << 20;
/// Most references that one option may resolve.
const STEPS_MAX: u32 = 100_000;

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A%\(([^)]+)\)s").ok());
static SECTION_REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"%\(([\w\-]+/([^)]+))\)s").ok());
static SECTION_OPTION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^([\w\-]+)/([^\s>]+)$").ok());

/// What a lookup found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Lookup {
    Found(Value),
    NoOption,
    NoSection,
}

impl Lookup {
    pub(crate) fn found(self) -> Option<Value> {
        match self {
            Self::Found(value) => Some(value),
            Self::NoOption | Self::NoSection => None,
        }
    }
}

/// Name of the section that keeps what earlier files said of a section.
pub(crate) fn known(section: &str) -> String {
    format!("KNOWN/{section}")
}

struct Scope<'a> {
    sections: &'a Sections,
    section: &'a str,
    option: &'a str,
    value: &'a Value,
    given: Option<&'a Options>,
    own: Option<&'a Options>,
    steps: u32,
}

impl Sections {
    /// An option with its references resolved; `given` (lower case) comes before the section, the section before `[DEFAULT]`.
    pub(crate) fn get(&self, section: &str, option: &str, given: Option<&Options>) -> Result<Lookup, Problem> {
        let own = self.sections.get(section);
        if own.is_none() && section != DEFAULT {
            return Ok(Lookup::NoSection);
        }
        let option = option.to_lowercase();
        let value = given
            .and_then(|given| given.get(&option))
            .or_else(|| own.and_then(|own| own.get(&option)))
            .or_else(|| self.defaults.get(&option));
        let Some(value) = value else { return Ok(Lookup::NoOption) };
        let mut scope = Scope { sections: self, section, option: &option, value, given, own, steps: 0 };
        let mut text = String::new();
        scope.interpolate(&value.text, &BTreeMap::new(), 1, &mut text)?;
        Ok(Lookup::Found(Value::new(text, value.place.clone())))
    }

    /// As [`Self::get`], where the option may name its section: `section/option`, `known/option`.
    pub(crate) fn get_of_section(&self, section: &str, option: &str, given: &Options) -> Result<Lookup, Problem> {
        if let Some(parts) = SECTION_OPTION.as_ref().and_then(|pattern| pattern.captures(option)) {
            let (of, name) = (&parts[1], &parts[2]);
            let sections = match of.to_lowercase().as_str() {
                "known" => vec![known(section), section.to_owned()],
                "default" => vec![DEFAULT.to_owned()],
                _ => vec![of.to_owned()],
            };
            for of in sections {
                if let found @ Lookup::Found(_) = self.get(&of, name, None)? {
                    return Ok(found);
                }
            }
        }
        self.get(section, option, Some(given))
    }
}

impl Scope<'_> {
    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.value.place.clone(), message)
    }

    fn lookup<'b>(&'b self, mapped: &'b BTreeMap<String, String>, name: &str) -> Option<&'b str> {
        if name == "__name__" {
            return Some(self.section);
        }
        let value = |options: Option<&'b Options>| options.and_then(|of| of.get(name)).map(|value| value.text.as_str());
        mapped
            .get(name)
            .map(String::as_str)
            .or_else(|| value(self.given))
            .or_else(|| value(self.own))
            .or_else(|| value(Some(&self.sections.defaults)))
    }

    /// Finds what `%(section/option)s` of a text stand for.
    fn map_sections(&self, text: &str, mapped: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = mapped.clone();
        let Some(pattern) = SECTION_REFERENCE.as_ref().filter(|_| text.contains('/') && text.contains("%(")) else {
            return all;
        };
        for found in pattern.captures_iter(text) {
            let (reference, option) = (&found[1], &found[2]);
            if self.lookup(&all, reference).is_some() {
                continue;
            }
            let of = &reference[..reference.len() - option.len() - 1];
            let sections = &self.sections.sections;
            let value = match of.to_lowercase().as_str() {
                "default" => None,
                "known" => sections.get(&known(self.section)).and_then(|known| known.get(option)),
                _ => match sections.get(of) {
                    Some(section) => section.get(option),
                    None => continue,
                },
            };
            if let Some(value) = value.or_else(|| self.sections.defaults.get(option)) {
                all.insert(reference.to_owned(), value.text.clone());
            }
        }
        all
    }

    fn interpolate(
        &mut self,
        text: &str,
        mapped: &BTreeMap<String, String>,
        depth: u32,
        out: &mut String,
    ) -> Result<(), Problem> {
        if depth > DEPTH_MAX {
            return Err(self.problem(format!(
                "`{}` of [{}] refers to itself, or its `%(…)s` are nested deeper than {DEPTH_MAX}: break the circle",
                self.option, self.section
            )));
        }
        let mapped = self.map_sections(text, mapped);
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            self.steps += 1;
            if self.steps > STEPS_MAX || out.len() > TEXT_MAX {
                return Err(self.problem(format!(
                    "`{}` of [{}] grows to more than {TEXT_MAX} bytes or {STEPS_MAX} references: shorten it",
                    self.option, self.section
                )));
            }
            if let Some(after) = rest.strip_prefix("%%") {
                out.push('%');
                rest = after;
                continue;
            }
            let Some(found) = REFERENCE.as_ref().and_then(|pattern| pattern.captures(rest)) else {
                return Err(self.problem(format!(
                    "in `{}` of [{}], `{}` is no `%(option)s`: write a percent sign as `%%`",
                    self.option,
                    self.section,
                    short(rest)
                )));
            };
            let name = found[1].to_lowercase();
            rest = &rest[found.get_match().end()..];
            let Some(value) = self.lookup(&mapped, &name).map(str::to_owned) else {
                return Err(self.problem(format!(
                    "`{}` of [{}] refers to `%({name})s`, and there is no such option: define it, or correct the name",
                    self.option, self.section
                )));
            };
            if value.contains('%') {
                self.interpolate(&value, &mapped, depth + 1, out)?;
            } else {
                out.push_str(&value);
            }
        }
        out.push_str(rest);
        Ok(())
    }
}
