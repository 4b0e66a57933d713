//! The reader of filters: from `sshd[mode=aggressive]` to a [`FilterDefinition`], as fail2ban's own reader does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::definition::{FilterDefinition, UseDns};
use super::ini::{Options, Value, is_space};
use super::interpolation::Lookup;
use super::library::{Config, Library};
use super::options::{extract, shell_words, short};
use super::problem::{Place, Problem, ReadError};
use super::tags::substitute;

#[cfg(test)]
pub(crate) mod oracle;
#[cfg(test)]
mod tests;

/// Options of a filter that its reader hands on.
pub(crate) const FILTER_OPTIONS: [&str; 7] =
    ["usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch"];

/// What a jail says, for a filter that is read outside of one.
#[derive(Clone, Debug)]
pub struct JailOverrides {
    /// Name of the jail.
    pub jail: String,
    /// Where lines come from, as `backend` says it: `systemd` selects the pattern of journald's prefix, all others that of
    /// files.
    pub backend: String,
    /// Options of the jail that come before those of the filter: `failregex`, `maxlines`, `datepattern` …
    pub options: Vec<(String, String)>,
}

impl Default for JailOverrides {
    fn default() -> Self {
        Self { jail: "test".to_owned(), backend: "auto".to_owned(), options: Vec::new() }
    }
}

/// Reads a filter of a configuration directory: `sshd`, `sshd[mode=aggressive]`, or the path of a file.
pub fn read_filter(config_dir: &Path, filter: &str, overrides: &JailOverrides) -> Result<FilterDefinition, ReadError> {
    let (name, options) = extract(filter).map_err(|reason| Problem::new(None, reason))?;
    let path = Path::new(&name);
    let is_path = name.contains('/') || [".conf", ".local"].iter().any(|end| name.ends_with(end));
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let (mut library, config) = match dir {
        // A file within a `filter.d` is read as its name is, with all that belongs to it.
        Some(dir) if is_path && dir.file_name().is_some_and(|name| name == "filter.d") => {
            let mut library = Library::open(dir.parent().unwrap_or(Path::new(".")))?;
            let config = library.config(&format!("filter.d/{stem}"))?;
            (library, config)
        }
        Some(_) if is_path => {
            let mut library = Library::open(config_dir)?;
            let config = library.file(path)?;
            (library, config)
        }
        _ => {
            let mut library = Library::open(config_dir)?;
            let name = if is_path { &stem } else { &name };
            let config = library.config(&format!("filter.d/{name}"))?;
            (library, config)
        }
    };
    let config = config.ok_or_else(|| missing(&library, &name, None))?;
    let mut given = Options::default();
    for (option, value) in &overrides.options {
        given.set(option.to_lowercase(), Value::new(value.as_str(), None));
    }
    let mut definition = Definition::new(config, &FILTER_OPTIONS, options, None);
    definition.set_log_type(&overrides.backend);
    definition.read_options(&given, false)?;
    filter_definition(
        &mut library,
        if is_path { &stem } else { &name },
        &definition.combined(&BTreeSet::new())?,
        &given,
    )
}

/// What is said of a filter without a file.
pub(crate) fn missing(library: &Library, name: &str, place: Option<Place>) -> Problem {
    Problem::new(
        place,
        format!(
            "there is no filter `{}` in {}: correct the name, or add filter.d/{}.conf",
            short(name),
            library.dir().display(),
            short(name)
        ),
    )
}

/// The definition of the options that a filter and its jail say; where both do, each as fail2ban applies them: patterns and
/// matches of journald of both, a date pattern of the jail, all else of the filter.
pub(crate) fn filter_definition(
    library: &mut Library,
    name: &str,
    filter: &Options,
    jail: &Options,
) -> Result<FilterDefinition, ReadError> {
    let mut found = FilterDefinition { name: name.to_owned(), maxlines: 1, ..FilterDefinition::default() };
    let mut problems = Vec::new();
    let both = |option: &str| [filter.get(option), jail.get(option)].into_iter().flatten();
    let patterns = |option: &str| -> Vec<String> {
        both(option)
            .flat_map(|value| value.text.split('\n'))
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let of_filter = |option: &str| filter.get(option).or_else(|| jail.get(option));
    found.failregex = patterns("failregex");
    found.ignoreregex = patterns("ignoreregex");
    found.prefregex = of_filter("prefregex").map(|value| value.text.clone()).filter(|text| !text.is_empty());
    found.datepattern = jail.get("datepattern").or_else(|| filter.get("datepattern")).map(|value| value.text.clone());
    if let Some(value) = of_filter("usedns") {
        found.use_dns = Some(use_dns(value, library));
    }
    if let Some(value) = of_filter("maxlines") {
        match integer(&value.text).map(u32::try_from) {
            Some(Ok(lines @ 1..)) => found.maxlines = lines,
            Some(_) => problems.push(Problem::new(
                value.place.clone(),
                format!("`maxlines = {}` is no number of lines: write 1 or more", short(&value.text)),
            )),
            // A word there is passed over, with fail2ban's default.
            None => library.note(Problem::new(
                value.place.clone(),
                format!(
                    "`maxlines = {}` is no number, and 1 is taken as fail2ban does: correct it",
                    short(&value.text)
                ),
            )),
        }
    }
    for value in both("journalmatch") {
        for line in value.text.split('\n').filter(|line| !line.is_empty()) {
            match shell_words(line) {
                Ok(words) => found.journalmatch.push(words),
                Err(reason) => problems.push(Problem::new(value.place.clone(), format!("`journalmatch`: {reason}"))),
            }
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(ReadError(problems)) }
}

fn use_dns(value: &Value, library: &mut Library) -> UseDns {
    match value.text.to_lowercase().as_str() {
        "yes" => UseDns::Yes,
        "warn" => UseDns::Warn,
        "no" => UseDns::No,
        "raw" => UseDns::Raw,
        other => {
            library.note(Problem::new(
                value.place.clone(),
                format!(
                    "`usedns = {}` is none of yes, warn, no, raw, and `no` is taken as fail2ban does: correct it",
                    short(other)
                ),
            ));
            UseDns::No
        }
    }
}

/// A switch, as Python prints it.
pub(crate) fn as_bool(text: &str) -> &'static str {
    if ["1", "on", "true", "yes"].contains(&text.to_lowercase().as_str()) { "True" } else { "False" }
}

/// Whether a switch is on or off; anything else counts as off.
pub(crate) fn is_bool(text: &str) -> bool {
    as_bool(text) == "True" || ["0", "off", "false", "no", ""].contains(&text.to_lowercase().as_str())
}

/// A whole number as Python reads one.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_matches(is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let grouped = !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    (grouped && digits.chars().all(|c| c.is_ascii_digit() || c == '_'))
        .then(|| text.replace('_', "").parse().ok())
        .flatten()
}

/// The file of a filter or an action while its options are resolved: `[Definition]`, overridden by the jail and by the options
/// in brackets, and `[Init]`, overridden by the latter.
pub(crate) struct Definition {
    config: Arc<Config>,
    names: &'static [&'static str],
    /// Options in brackets and of `[Init]`.
    init: Options,
    /// What is given from outside, in lower case: options of the jail and those in brackets.
    given: Options,
    /// Options of `[Definition]`.
    options: Options,
    /// Texts of tags that were looked up.
    looked_up: BTreeMap<String, Option<String>>,
}

impl Definition {
    pub(crate) fn new(
        config: Arc<Config>,
        names: &'static [&'static str],
        in_brackets: Vec<(String, String)>,
        place: Option<&Place>,
    ) -> Self {
        let mut init = Options::default();
        for (option, value) in in_brackets {
            init.set(option, Value::new(value, place.cloned()));
        }
        Self { config, names, init, given: Options::default(), options: Options::default(), looked_up: BTreeMap::new() }
    }

    /// Selects the prefix of lines by the backend, unless the filter or its options do.
    pub(crate) fn set_log_type(&mut self, backend: &str) {
        let own = self.init.get("logtype").is_some_and(|value| !value.text.is_empty());
        let of_file = self.config.sections.sections.get("Definition").is_some_and(|of| of.contains("logtype"));
        if !own && !of_file {
            let kind = if backend.starts_with("systemd") { "journal" } else { "file" };
            self.init.set("logtype", Value::new(kind, None));
        }
    }

    /// Reads the options; with `all`, those too that only the file itself uses.
    pub(crate) fn read_options(&mut self, jail: &Options, all: bool) -> Result<(), Problem> {
        let sections = &self.config.sections;
        let mut exact = jail.clone();
        exact.update(&self.init);
        let mut given = Options::default();
        for (name, value) in exact.iter() {
            given.set(name.to_lowercase(), value.clone());
        }
        let mut options = Options::default();
        for &name in self.names {
            if !exact.contains(name)
                && let Lookup::Found(value) = sections.get("Definition", name, Some(&given))?
            {
                options.set(name, value);
            }
        }
        if let Some(own) = sections.sections.get("Init") {
            for name in own.keys() {
                let Some(value) = sections.get("Init", name, None)?.found() else { continue };
                if !name.starts_with("known/") {
                    self.init.set(format!("known/{name}"), value.clone());
                }
                if !self.init.contains(name) {
                    self.init.set(name, value);
                }
            }
        }
        if all && let Some(own) = sections.sections.get("Definition") {
            for name in own.keys() {
                if !options.contains(name)
                    && let Some(value) = sections.get("Definition", name, None)?.found()
                {
                    options.set(name, value);
                }
            }
        }
        (self.given, self.options) = (given, options);
        Ok(())
    }

    /// All options with their tags substituted, except in those named.
    pub(crate) fn combined(&mut self, ignore: &BTreeSet<String>) -> Result<Options, Problem> {
        let mut all = self.options.clone();
        all.update(&self.init);
        let mut ignore = ignore.clone();
        ignore.extend(all.keys().filter_map(|name| {
            let (name, condition) = name.split_once('?')?;
            let word = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            (word && !condition.is_empty()).then(|| name.to_owned())
        }));
        let (sections, given, looked_up) = (&self.config.sections, &self.given, &mut self.looked_up);
        substitute(&all, "", &ignore, &mut |tag| {
            if let Some(known) = looked_up.get(tag) {
                return Ok(known.clone());
            }
            let text = sections.get_of_section("Definition", tag, given)?.found().map(|value| value.text);
            looked_up.insert(tag.to_owned(), text.clone());
            Ok(text)
        })
    }

    /// Options in brackets and of `[Init]`, with tags.
    pub(crate) fn init(&self) -> &Options {
        &self.init
    }

    /// The files it was read from.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }
}
