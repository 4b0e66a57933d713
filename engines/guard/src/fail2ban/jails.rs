//! The reader of jails: `jail.conf`, `jail.d`, `jail.local` and all they name, as fail2ban's own reader does it.

use std::path::{Path, PathBuf};

use event::Span;

use super::actions::read_actions;
use super::duration;
use super::ini::{Options, Sections, Value};
use super::interpolation::Lookup;
use super::jail::{Backend, BanTime, BrokenJail, Ignored, Increment, Jail, Jails, LogPath};
use super::library::{Config, INCLUDES, Library};
use super::options::{extract, short, words};
use super::problem::{Place, Problem, ReadError};
use super::reader::{Definition, FILTER_OPTIONS, as_bool, filter_definition, integer, is_bool, missing};

#[cfg(test)]
mod tests;

/// Most jails of one configuration.
const JAILS_MAX: usize = 1_000;
/// Most log paths and most ignored addresses of one jail.
const LIST_MAX: usize = 10_000;
/// Version whose behaviour is followed, for `%(fail2ban_version)s`.
const VERSION: &str = "1.0.2";

/// Options of a jail, in the order in which they are read, with their type and default.
const OPTIONS: [(Kind, &str, Option<&str>); 29] = [
    (Kind::Bool, "enabled", Some("False")),
    (Kind::Text, "backend", Some("auto")),
    (Kind::Int, "maxretry", None),
    (Kind::Int, "maxmatches", None),
    (Kind::Text, "findtime", None),
    (Kind::Text, "bantime", None),
    (Kind::Bool, "bantime.increment", None),
    (Kind::Text, "bantime.factor", None),
    (Kind::Text, "bantime.formula", None),
    (Kind::Text, "bantime.multipliers", None),
    (Kind::Text, "bantime.maxtime", None),
    (Kind::Text, "bantime.rndtime", None),
    (Kind::Bool, "bantime.overalljails", None),
    (Kind::Text, "ignorecommand", None),
    (Kind::Bool, "ignoreself", None),
    (Kind::Text, "ignoreip", None),
    (Kind::Text, "ignorecache", None),
    (Kind::Text, "filter", Some("")),
    (Kind::Text, "logtimezone", None),
    (Kind::Text, "logencoding", None),
    (Kind::Text, "logpath", None),
    (Kind::Text, "action", Some("")),
    (Kind::Text, "usedns", None),
    (Kind::Text, "prefregex", None),
    (Kind::Text, "ignoreregex", None),
    (Kind::Text, "failregex", None),
    (Kind::Int, "maxlines", None),
    (Kind::Text, "datepattern", None),
    (Kind::Text, "journalmatch", None),
];

/// Type of an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Int,
    Bool,
}

/// Where fail2ban keeps its bans.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Database {
    /// In this file; with the place that says so.
    File(PathBuf, Option<Place>),
    /// Nowhere that outlives it: `dbfile` is `None` or `:memory:`.
    Nowhere(String, Option<Place>),
}

/// Reads where fail2ban keeps its bans: `dbfile` of `fail2ban.conf`, `fail2ban.local` and their directories. `None` when none of
/// them says so.
pub fn read_database(config_dir: &Path) -> Result<Option<Database>, ReadError> {
    let mut library = Library::open(config_dir)?;
    let Some(config) = library.config("fail2ban")? else { return Ok(None) };
    let Some(value) = config.sections.get("Definition", "dbfile", None)?.found() else { return Ok(None) };
    let text = value.text.trim();
    Ok(match text {
        "" => None,
        ":memory:" => Some(Database::Nowhere(text.to_owned(), value.place)),
        none if none.eq_ignore_ascii_case("none") => Some(Database::Nowhere(text.to_owned(), value.place)),
        path => Some(Database::File(PathBuf::from(path), value.place)),
    })
}

/// Reads one jail as if it were enabled; `None` when there is none of that name.
pub fn read_as_enabled(config_dir: &Path, name: &str) -> Result<Option<Jail>, ReadError> {
    let mut library = Library::open(config_dir)?;
    let Some(config) = library.config("jail")? else { return Ok(None) };
    let mut sections = with_version(&library, &config);
    if !is_jail(name) || !sections.sections.contains(name) {
        return Ok(None);
    }
    sections.sections.entry(name).set("enabled", Value::new("true", None));
    read_jail(&mut library, &mut sections, name)
}

fn is_jail(section: &str) -> bool {
    !section.starts_with("KNOWN/") && section != INCLUDES
}

/// The sections of jails, with what fail2ban says of itself.
fn with_version(library: &Library, config: &Config) -> Sections {
    let mut sections = config.sections.clone();
    sections.defaults.set("fail2ban_version", Value::new(VERSION, None));
    sections.defaults.set("fail2ban_confpath", Value::new(library.dir().display().to_string(), None));
    sections
}

/// Reads the jails of a configuration directory.
pub fn read_jails(config_dir: &Path) -> Result<Jails, ReadError> {
    let mut library = Library::open(config_dir)?;
    let config = library.config("jail")?.ok_or_else(|| {
        Problem::new(
            Some(Place::whole(&config_dir.join("jail.conf"))),
            "there are no jails: jail.conf and jail.local are missing; give the directory of fail2ban's configuration",
        )
    })?;
    let mut sections = with_version(&library, &config);
    let names: Vec<String> = sections.sections.keys().filter(|name| is_jail(name)).map(str::to_owned).collect();
    if names.len() > JAILS_MAX {
        return Err(Problem::new(
            config.files.first().map(|file| Place::whole(file)),
            format!("there are {} jails, and at most {JAILS_MAX} are read: remove some", names.len()),
        )
        .into());
    }
    let (disabled, broken, notes) = (Vec::new(), Vec::new(), Vec::new());
    let (passed_over, mistyped) = (Vec::new(), Vec::new());
    let mut read = Jails { jails: Vec::new(), disabled, broken, notes, passed_over, mistyped };
    for name in names {
        match read_jail(&mut library, &mut sections, &name) {
            Ok(Some(jail)) => read.jails.push(jail),
            Ok(None) => read.disabled.push(name),
            Err(ReadError(problems)) => read.broken.push(BrokenJail { name, problems }),
        }
    }
    read.notes = library.notes().cloned().collect();
    read.passed_over = library.passed_over().iter().cloned().collect();
    read.mistyped = library.mistyped().iter().cloned().collect();
    Ok(read)
}

/// Reads some options of a jail: numbers and switches become what Python would print.
fn options_of(
    library: &mut Library,
    sections: &Sections,
    jail: &str,
    wanted: &[(Kind, &str, Option<&str>)],
) -> Result<Options, ReadError> {
    let mut options = Options::default();
    let mut problems = Vec::new();
    for &(kind, name, default) in wanted {
        match sections.get(jail, name, None)? {
            Lookup::Found(value) => {
                let text = match kind {
                    Kind::Text => Some(value.text.clone()),
                    Kind::Bool => {
                        if !is_bool(&value.text) {
                            let what = format!("`{name} = {}` is neither true nor false", short(&value.text));
                            library.mistype(value.place.clone(), &what);
                        }
                        Some(as_bool(&value.text).to_owned())
                    }
                    Kind::Int => integer(&value.text).map(|number| number.to_string()),
                };
                match text {
                    Some(text) => options.set(name, Value::new(text, value.place)),
                    None if name == "maxlines" => library.note(Problem::new(
                        value.place,
                        format!(
                            "`maxlines = {}` is no number, and is passed over as fail2ban does: correct it",
                            short(&value.text)
                        ),
                    )),
                    None => problems.push(Problem::new(
                        value.place,
                        format!("`{name} = {}` is no number: write a whole number", short(&value.text)),
                    )),
                }
            }
            Lookup::NoOption | Lookup::NoSection => {
                if let Some(default) = default {
                    options.set(name, Value::new(default, None));
                }
            }
        }
    }
    if problems.is_empty() { Ok(options) } else { Err(ReadError(problems)) }
}

/// Reads one jail; `None` when it is not enabled.
fn read_jail(library: &mut Library, sections: &mut Sections, name: &str) -> Result<Option<Jail>, ReadError> {
    let place = sections.sections.get(name).and_then(|own| own.iter().find_map(|(_, value)| value.place.clone()));
    let first = options_of(library, sections, name, &[OPTIONS[0], OPTIONS[1], OPTIONS[17]])?;
    let text = |options: &Options, name: &str| options.get(name).map(|value| value.text.clone()).unwrap_or_default();
    if text(&first, "enabled") != "True" {
        return Ok(None);
    }
    let filter = first.get("filter").cloned().unwrap_or_default();
    let has_own =
        matches!(sections.get(name, "failregex", None), Ok(Lookup::Found(own)) if !own.text.trim().is_empty());
    let mut definition = if filter.text.is_empty() && has_own {
        None
    } else if filter.text.is_empty() {
        library.note(Problem::new(
            filter.place.or_else(|| place.clone()),
            format!("the jail `{name}` has no filter, and finds nothing: write `filter = …`, or disable it"),
        ));
        None
    } else {
        let (filter_name, in_brackets) = extract(&filter.text)
            .map_err(|reason| Problem::new(filter.place.clone(), format!("`filter`: {reason}")))?;
        let config = library
            .config(&format!("filter.d/{filter_name}"))?
            .ok_or_else(|| missing(library, &filter_name, filter.place.clone()))?;
        let mut definition = Definition::new(config, &FILTER_OPTIONS, in_brackets, filter.place.as_ref());
        definition.set_log_type(&text(&first, "backend"));
        definition.read_options(&first, true)?;
        let known = definition.combined(&std::collections::BTreeSet::new())?;
        let own = sections.sections.entry(name);
        for (option, value) in known.iter().filter(|(option, _)| !option.starts_with("known/") && *option != "__name__")
        {
            own.set(format!("known/{option}"), value.clone());
        }
        Some((filter_name, definition))
    };
    let options = options_of(library, sections, name, &OPTIONS)?;
    if let Some((_, definition)) = &mut definition {
        definition.read_options(&options, false)?;
    }
    let action = options.get("action").cloned().unwrap_or_default();
    let actions = read_actions(library, name, &action, &options)?;
    if actions.is_empty() {
        library.note(Problem::new(
            action.place.or_else(|| place.clone()),
            format!("the jail `{name}` has no action, and bans nobody: write `action = …`, or disable it"),
        ));
    }
    let (filter_name, combined) = match definition {
        Some((filter_name, mut definition)) => (filter_name, definition.combined(&std::collections::BTreeSet::new())?),
        None => (String::new(), Options::default()),
    };
    let filter = filter_definition(library, &filter_name, &combined, &options)?;
    let values = Values { options: &options, problems: Vec::new() };
    values.jail(name, place, filter, actions).map(Some)
}

/// The options of a jail while they become values; all that is wrong with them is collected.
struct Values<'a> {
    options: &'a Options,
    problems: Vec<Problem>,
}

impl Values<'_> {
    fn jail(
        mut self,
        name: &str,
        place: Option<Place>,
        filter: super::FilterDefinition,
        actions: Vec<super::actions::Action>,
    ) -> Result<Jail, ReadError> {
        let backend = self.backend();
        let log_paths = if matches!(backend, Backend::Files) { self.log_paths() } else { Vec::new() };
        let find_time = self.time("findtime").unwrap_or(600);
        let ban_time = self.time("bantime").unwrap_or(600);
        let words: Vec<&str> =
            self.options.get("ignoreip").map(|value| words(&value.text).collect()).unwrap_or_default();
        if words.len() > LIST_MAX {
            self.problem("ignoreip", format!("has more than {LIST_MAX} entries: use networks"));
        }
        let jail = Jail {
            name: name.to_owned(),
            place,
            backend,
            log_paths,
            use_dns: filter.use_dns.unwrap_or_default(),
            filter,
            max_retry: self.count("maxretry", 3),
            max_matches: self.count("maxmatches", 50),
            find_time: Span::from_secs(find_time),
            ban_time: if ban_time == -1 { BanTime::Forever } else { BanTime::For(Span::from_secs(ban_time)) },
            increment: self.increment(),
            ignored: words.into_iter().take(LIST_MAX).map(Ignored::parse).collect(),
            ignore_self: self.text("ignoreself").is_none_or(|text| text == "True"),
            ignore_command: self.text("ignorecommand").filter(|text| !text.is_empty()),
            log_encoding: self.text("logencoding").unwrap_or_else(|| "auto".to_owned()),
            log_time_zone: self.text("logtimezone").filter(|text| !text.is_empty()),
            actions,
            places: self
                .options
                .iter()
                .filter_map(|(option, value)| Some((option.to_owned(), value.place.clone()?)))
                .collect(),
        };
        if self.problems.is_empty() { Ok(jail) } else { Err(ReadError(self.problems)) }
    }

    fn text(&self, option: &str) -> Option<String> {
        self.options.get(option).map(|value| value.text.clone())
    }

    fn problem(&mut self, option: &str, message: impl std::fmt::Display) {
        let place = self.options.get(option).and_then(|value| value.place.clone());
        self.problems.push(Problem::new(place, format!("`{option}` {message}")));
    }

    fn time(&mut self, option: &str) -> Option<i64> {
        let text = self.text(option)?;
        match duration::seconds(&text) {
            Ok(seconds) => Some(seconds),
            Err(reason) => {
                self.problem(option, format!("= {reason}"));
                None
            }
        }
    }

    fn count(&mut self, option: &str, default: u32) -> u32 {
        let Some(text) = self.text(option) else { return default };
        text.parse::<u32>().unwrap_or_else(|_| {
            self.problem(option, format!("= {} is no count: write 1 or more", short(&text)));
            default
        })
    }

    fn backend(&mut self) -> Backend {
        let text = self.text("backend").unwrap_or_default();
        let (name, options) = match extract(&text) {
            Ok(parts) => parts,
            Err(reason) => {
                self.problem("backend", format!("= {reason}"));
                return Backend::Files;
            }
        };
        match name.to_lowercase().as_str() {
            "systemd" => Backend::Journal(options),
            "auto" | "pyinotify" | "gamin" | "polling" => Backend::Files,
            _ => {
                self.problem(
                    "backend",
                    format!("= {} is none of auto, pyinotify, gamin, polling, systemd", short(&text)),
                );
                Backend::Files
            }
        }
    }

    fn log_paths(&mut self) -> Vec<LogPath> {
        let mut paths = Vec::new();
        for line in self.text("logpath").unwrap_or_default().split('\n').filter(|line| !line.is_empty()) {
            if paths.len() >= LIST_MAX {
                self.problem("logpath", format!("has more than {LIST_MAX} lines: use `*`"));
                break;
            }
            // As fail2ban reads it: what follows the last space says where to start.
            let (pattern, from) = line.rsplit_once(' ').unwrap_or((line, "head"));
            let tail = match from.to_lowercase().as_str() {
                "head" => false,
                "tail" => true,
                _ => {
                    self.problem(
                        "logpath",
                        format!("has `{}`: a path has no space in it, and `head` or `tail` may follow it", short(line)),
                    );
                    continue;
                }
            };
            paths.push(LogPath { pattern: pattern.to_owned(), tail });
        }
        paths
    }

    fn increment(&mut self) -> Option<Increment> {
        let given = |values: &Self, option: &str| values.text(option).filter(|text| !text.is_empty());
        if self.text("bantime.increment").as_deref() != Some("True") {
            return None;
        }
        let mut span = |option: &str| {
            given(self, option)?;
            self.time(option).map(Span::from_secs)
        };
        let (max_time, rnd_time) = (span("bantime.maxtime"), span("bantime.rndtime"));
        Some(Increment {
            factor: given(self, "bantime.factor"),
            formula: given(self, "bantime.formula"),
            multipliers: given(self, "bantime.multipliers"),
            max_time,
            rnd_time,
            overall_jails: self.text("bantime.overalljails").as_deref() == Some("True"),
        })
    }
}
