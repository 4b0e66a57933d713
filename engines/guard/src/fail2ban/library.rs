//! The files of a configuration directory: each is read once, with the files it includes, and merged as fail2ban merges them.
//!
//! For `NAME`, in this order: `NAME.conf`, `NAME.d/*.conf`, `NAME.local`, `NAME.d/*.local`; of each, what is included `before`,
//! itself, and what is included `after`; a file `x.local` beside an included `x.conf` follows it. What is missing or not
//! UTF-8 is passed over, as fail2ban does, and noted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ini::{Options, Sections, parse};
use super::interpolation::known;
use super::options::short;
use super::problem::{Place, Problem, ReadError};

/// Name of the section that says what a file includes.
pub(crate) const INCLUDES: &str = "INCLUDES";
/// Largest file.
const FILE_MAX: u64 = 1 << 20;
/// Most files of one directory that match.
const MATCHES_MAX: usize = 1_000;
/// Most files that one configuration is merged of.
const MERGED_MAX: usize = 500;
/// Most files that are kept.
const KEPT_MAX: usize = 5_000;
/// How deep files may include files.
const DEPTH_MAX: usize = 16;
/// Most notes that are kept.
const NOTES_MAX: usize = 1_000;

/// One configuration, merged of its files.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What it says.
    pub(crate) sections: Sections,
    /// The files, in the order they were merged.
    pub(crate) files: Vec<PathBuf>,
}

/// A directory of configurations, and what was read of it.
pub(crate) struct Library {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Option<Arc<Sections>>>,
    configs: BTreeMap<String, Option<Arc<Config>>>,
    notes: BTreeSet<Problem>,
    passed_over: BTreeSet<Problem>,
    mistyped: BTreeSet<Problem>,
}

impl Library {
    /// A directory such as `/etc/fail2ban`.
    pub(crate) fn open(dir: &Path) -> Result<Self, Problem> {
        if !dir.is_dir() {
            return Err(Problem::new(
                None,
                format!("{} is no directory: give the directory that holds jail.conf and filter.d", dir.display()),
            ));
        }
        let dir = match dir.to_str() {
            Some(text) if text.len() > 1 => PathBuf::from(text.trim_end_matches('/')),
            _ => dir.to_owned(),
        };
        Ok(Self {
            dir,
            files: BTreeMap::new(),
            configs: BTreeMap::new(),
            notes: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            mistyped: BTreeSet::new(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes so far: what fail2ban would have warned of.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &Problem> {
        self.notes.iter()
    }

    /// Files that are there and were passed over.
    pub(crate) fn passed_over(&self) -> &BTreeSet<Problem> {
        &self.passed_over
    }

    /// Switches that are neither on nor off.
    pub(crate) fn mistyped(&self) -> &BTreeSet<Problem> {
        &self.mistyped
    }

    /// Takes a switch that is neither on nor off for off, as fail2ban does.
    pub(crate) fn mistype(&mut self, place: Option<Place>, what: &str) {
        if self.mistyped.len() < NOTES_MAX {
            self.mistyped.insert(Problem::new(place.clone(), format!("{what}: correct it")));
        }
        self.note(Problem::new(place, format!("{what}, and counts as `false` as with fail2ban: correct it")));
    }

    /// Passes a file over, as fail2ban does. What is done about that is decided by whoever reads more than once: the problem does not
    /// say it, and the note does.
    fn pass_over(&mut self, place: Place, what: &str, remedy: &str) {
        if self.passed_over.len() < NOTES_MAX {
            self.passed_over.insert(Problem::new(Some(place.clone()), format!("{what}: {remedy}")));
        }
        self.note(Problem::new(Some(place), format!("{what}, and is passed over as fail2ban does: {remedy}")));
    }

    pub(crate) fn note(&mut self, problem: Problem) {
        if self.notes.len() < NOTES_MAX {
            self.notes.insert(problem);
        }
    }

    /// The configuration of a name such as `jail` or `filter.d/sshd`; `None` when it has no file.
    pub(crate) fn config(&mut self, name: &str) -> Result<Option<Arc<Config>>, ReadError> {
        if let Some(config) = self.configs.get(name) {
            return Ok(config.clone());
        }
        let base = self.dir.join(name);
        let beside = |extension: &str| PathBuf::from(format!("{}.{extension}", base.display()));
        let mut files = vec![beside("conf")];
        files.extend(matching(&beside("d"), "conf")?);
        files.push(beside("local"));
        files.extend(matching(&beside("d"), "local")?);
        // A link that leads nowhere is a file that can't be read.
        files.retain(|file| file.symlink_metadata().is_ok());
        let config = if files.is_empty() { None } else { self.merge(&files)?.map(Arc::new) };
        self.configs.insert(name.to_owned(), config.clone());
        Ok(config)
    }

    /// The configuration of one file and what it includes, wherever it lies.
    pub(crate) fn file(&mut self, file: &Path) -> Result<Option<Arc<Config>>, ReadError> {
        Ok(self.merge(&[file.to_owned()])?.map(Arc::new))
    }

    fn merge(&mut self, files: &[PathBuf]) -> Result<Option<Config>, ReadError> {
        let mut all = Vec::new();
        self.with_includes(files, &mut Vec::new(), &mut all)?;
        let mut config = Config { sections: Sections::default(), files: Vec::new() };
        for file in all {
            if let Some(sections) = self.read(&file)? {
                add(&mut config.sections, &sections);
                config.files.push(file);
            }
        }
        Ok((!config.files.is_empty()).then_some(config))
    }

    /// The files in the order they are merged, with those they include.
    fn with_includes(
        &mut self,
        files: &[PathBuf],
        above: &mut Vec<PathBuf>,
        all: &mut Vec<PathBuf>,
    ) -> Result<(), ReadError> {
        let mut expanded: Vec<PathBuf> = Vec::new();
        for file in files {
            expanded.push(file.clone());
            let local = file.with_extension("local");
            if !files.contains(&local) && local.is_file() {
                expanded.push(local);
            }
        }
        for file in expanded {
            let Some(sections) = self.read(&file)? else { continue };
            if above.len() >= DEPTH_MAX || all.len() >= MERGED_MAX {
                return Err(Problem::new(
                    Some(Place::whole(&file)),
                    format!(
                        "files include files more than {DEPTH_MAX} deep, or more than {MERGED_MAX} of them: remove some of \
                         the `before` and `after`"
                    ),
                )
                .into());
            }
            let before = self.included(&file, &sections, "before", above)?;
            let after = self.included(&file, &sections, "after", above)?;
            above.push(file.clone());
            self.with_each(&before, above, all)?;
            all.push(file);
            self.with_each(&after, above, all)?;
            above.pop();
        }
        Ok(())
    }

    fn with_each(
        &mut self,
        files: &[PathBuf],
        above: &mut Vec<PathBuf>,
        all: &mut Vec<PathBuf>,
    ) -> Result<(), ReadError> {
        files.iter().try_for_each(|file| self.with_includes(std::slice::from_ref(file), above, all))
    }

    /// Files that a file includes `before` or `after` itself, without those that include it.
    fn included(
        &mut self,
        file: &Path,
        sections: &Sections,
        option: &str,
        above: &[PathBuf],
    ) -> Result<Vec<PathBuf>, ReadError> {
        if !sections.sections.contains(INCLUDES) {
            return Ok(Vec::new());
        }
        let Some(value) = sections.get(INCLUDES, option, None)?.found() else { return Ok(Vec::new()) };
        let dir = file.parent().unwrap_or(Path::new(""));
        let mut included = Vec::new();
        for name in value.text.split('\n').filter(|name| !name.is_empty()) {
            let path = dir.join(name);
            if above.contains(&path) {
                self.note(Problem::new(
                    value.place.clone(),
                    format!("`{option} = {}` closes a circle of includes, and is passed over: remove it", short(name)),
                ));
            } else {
                included.push(path);
            }
        }
        Ok(included)
    }

    /// A file, read once; `None` when it is not there or not text.
    fn read(&mut self, file: &Path) -> Result<Option<Arc<Sections>>, ReadError> {
        if let Some(known) = self.files.get(file) {
            return Ok(known.clone());
        }
        if self.files.len() >= KEPT_MAX {
            return Err(Problem::new(
                Some(Place::whole(file)),
                format!("more than {KEPT_MAX} files were read for this configuration: remove some"),
            )
            .into());
        }
        let sections = match text(file)? {
            Text::Missing => None,
            Text::Refused(reason) => {
                let what = format!("this file can't be read ({reason})");
                self.pass_over(Place::whole(file), &what, "mend it, or let the agent read it");
                None
            }
            Text::Foreign(line) => {
                self.pass_over(Place { file: Arc::from(file), line }, "this file is not UTF-8", "save it as UTF-8");
                None
            }
            Text::Read(text) => Some(Arc::new(parse(&text, &Arc::from(file))?)),
        };
        self.files.insert(file.to_owned(), sections.clone());
        Ok(sections)
    }
}

/// Adds a file to what earlier ones said: what it replaces is kept as `known`.
fn add(all: &mut Sections, file: &Sections) {
    all.defaults.update(&file.defaults);
    for (name, options) in file.sections.iter() {
        let (name, options) = conditional(name, options);
        match all.sections.get(name) {
            Some(old) => {
                let mut replaced = Options::default();
                for (option, value) in old.iter().filter(|(option, _)| options.contains(option)) {
                    replaced.set(option, value.clone());
                }
                all.sections.entry(&known(name)).update(&replaced);
                all.sections.entry(name).update(&options);
            }
            None => all.sections.set(name, options),
        }
    }
}

/// `[Init?family=inet6]` with an option `x` is `[Init]` with an option `x?family=inet6`.
fn conditional<'a>(name: &'a str, options: &Options) -> (&'a str, Options) {
    let at = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    let condition = &name[at..];
    if at == 0 || condition.len() < 2 || !condition.starts_with('?') {
        return (name, options.clone());
    }
    let mut conditional = Options::default();
    for (option, value) in options.iter() {
        conditional.set(format!("{option}{condition}"), value.clone());
    }
    (&name[..at], conditional)
}

/// Files of a directory with an extension, in order; hidden ones are passed over.
fn matching(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Problem> {
    let Ok(entries) = dir.read_dir() else { return Ok(Vec::new()) };
    let mut found = BTreeSet::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.strip_suffix(extension).is_some_and(|stem| stem.ends_with('.')) && !name.starts_with('.') {
            found.insert(entry.path());
        }
        if found.len() > MATCHES_MAX {
            return Err(Problem::new(
                Some(Place::whole(dir)),
                format!("there are more than {MATCHES_MAX} files `*.{extension}` in this directory: remove some"),
            ));
        }
    }
    Ok(found.into_iter().collect())
}

enum Text {
    Read(String),
    Missing,
    Refused(String),
    /// The line that is not UTF-8.
    Foreign(u32),
}

fn text(path: &Path) -> Result<Text, Problem> {
    // Asked before it is opened: to open a pipe waits for a writer.
    match path.metadata() {
        Ok(about) if about.is_file() => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Text::Refused(error.to_string())),
        _ => {
            return Ok(match path.symlink_metadata() {
                Ok(_) => Text::Refused("it is no file, or a link that leads to none".to_owned()),
                Err(_) => Text::Missing,
            });
        }
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Text::Missing),
        Err(error) => return Ok(Text::Refused(error.to_string())),
    }
    if bytes.len() as u64 > FILE_MAX {
        return Err(Problem::new(
            Some(Place::whole(path)),
            format!("this file is larger than {FILE_MAX} bytes: split it, or remove what does not belong there"),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Text::Read(text)),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().fold(1_u32, |line, &byte| line.saturating_add(u32::from(byte == b'\n')));
            Ok(Text::Foreign(line))
        }
    }
}
