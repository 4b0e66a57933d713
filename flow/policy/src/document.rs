//! All files of a policy as one tree, from which each crate takes its own tables.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slotted;
use std::path::Path;

use event::policy::Applied;

use crate::context::ReadContext;
use crate::load;
use crate::mistake::{Mistake, Mistakes};
use crate::name::Name;
use crate::place::Place;
use crate::source::Sources;
use crate::suggest::nearest;
use crate::table::{self, Section};
use crate::tree::{self, Data, Entries, Entry, Parsed};

/// The policy while it is read: tables are taken out of it one kind after the other, and mistakes collect in it.
#[derive(Debug, Default)]
pub struct Document {
    sources: Sources,
    root: Entries,
    context: ReadContext,
    /// The tables asked for: path, and whether there may be many.
    tables: BTreeMap<&'static str, bool>,
    /// The keys asked for at the top of the files.
    top: Vec<&'static str>,
}

impl Document {
    /// Reads `path` and every `*.toml` of the directory `conf.d` beside it, in alphabetical order.
    ///
    /// # Errors
    /// What could not be read at all: a missing or unreadable file, one that is not UTF-8, too large, or too many of
    /// them. Whatever is wrong *inside* the files is kept until [`Self::finish`].
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        Self::load_as(path, None)
    }

    /// The same, as if the first file held this text: before it is written.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_as(path: &Path, text: Option<&str>) -> Result<Self, Mistakes> {
        let mut document = Self::default();
        for (name, text) in load::files(path, text)? {
            document.add(name, text);
        }
        Ok(document)
    }

    /// A policy of one file that is already in memory.
    pub fn from_text(name: &str, text: &str) -> Self {
        let mut document = Self::default();
        if text.len() > load::POLICY_BYTES_MAX {
            let file = document.sources.add(name.to_owned(), None);
            document.context.set_broken(file);
            document.context.mistake(load::too_large(file));
        } else {
            document.add(name.to_owned(), text.to_owned());
        }
        document
    }

    /// For an example: one section alone, in which names are not declared; see [`crate::SectionDoc::check`].
    pub(crate) fn of_example(text: &str) -> Self {
        let mut document = Self::from_text("example", text);
        document.context.is_example = true;
        document
    }

    fn add(&mut self, name: String, text: String) {
        let file = u32::try_from(self.sources.files().len()).unwrap_or(u32::MAX);
        let Parsed { entries, mistakes, lossy } = tree::parse(file, &text);
        self.sources.add(name, Some(text));
        if lossy {
            self.context.set_broken(file);
        }
        for mistake in mistakes {
            self.context.mistake(mistake);
        }
        merge(&mut self.root, entries, &mut self.context);
    }

    /// Reads the keys at the top of the files, before the first table header.
    pub fn top<S: Section>(&mut self) -> Option<S> {
        let (section, asked) = table::read_top(&self.root, &mut self.context);
        self.top.extend(asked);
        section
    }

    /// Reads every `[[path]]`; another reader may do so too, for other keys. Tables with mistakes are left out of the result, and reported by [`Self::finish`].
    pub fn tables<S: Section>(&mut self, path: &'static str) -> Vec<S> {
        self.tables.insert(path, true);
        let Some(entry) = find(&self.root, path) else { return Vec::new() };
        read_all(path, entry, &mut self.context)
    }

    /// Reads every `[[parent.…]]`, whatever its second word, for keys that are the same in all of them: which tables there are
    /// is for others to say, who read the rest of them.
    pub fn tables_under<S: Section>(&mut self, parent: &str) -> Vec<S> {
        let Some(Entry { node, .. }) = self.root.get(parent) else { return Vec::new() };
        let Data::Table(kinds) = &node.data else { return Vec::new() };
        let lists = kinds.iter().filter(|(_, entry)| matches!(entry.node.data, Data::List { .. }));
        lists.flat_map(|(kind, entry)| read_all(&format!("{parent}.{kind}"), entry, &mut self.context)).collect()
    }

    /// Reads `[path]`, if it is there; another reader may do so too, for other keys.
    pub fn table<S: Section>(&mut self, path: &'static str) -> Option<S> {
        self.tables.insert(path, false);
        let Entry { key, node } = find(&self.root, path)?;
        let label = format!("[{path}]");
        match &node.data {
            Data::Table(entries) => return table::read(&label, node.place, entries, &mut self.context),
            Data::Broken => {}
            Data::List { of_headers: true, .. } => {
                let reason = format!("there is only one {label}");
                self.context.mistake(Mistake::new(node.place, reason, format!("write {label}, with one bracket")));
            }
            other => {
                let reason = format!("`{path}` is {}, and should be a table", other.describe());
                self.context.mistake(Mistake::new(*key, reason, format!("write {label} above its keys")));
            }
        }
        None
    }

    /// Whether the user wrote this table or top-level key.
    pub fn has(&self, path: &str) -> bool {
        find(&self.root, path).is_some()
    }

    /// The key of that path, `journal.retention.evidence`, or as much of it as the user wrote; else the start of the
    /// first file.
    pub fn place_of(&self, path: &str) -> Place {
        match find(&self.root, path) {
            Some(entry) => entry.key,
            None => path.rsplit_once('.').map_or_else(Place::default, |(parent, _)| self.place_of(parent)),
        }
    }

    /// Defines a name without a table, such as the observer that is there when none is declared.
    pub fn provide<N: Name>(&mut self, name: &N) {
        self.context.provide(N::NOUN, name.to_string());
    }

    /// Reports a mistake found by comparing tables with each other.
    pub fn mistake(&mut self, mistake: Mistake) {
        self.context.mistake(mistake);
    }

    /// Checks what its readers left to be compared with the whole policy, by [`crate::Table::check_against`]. `applied` is its
    /// public form, as far as it could be read.
    pub fn check(&mut self, applied: &Applied) {
        self.context.check(applied);
    }

    /// Whether a syntax error may hide part of the policy: then nothing that seems missing is worth reporting.
    pub fn is_broken(&self) -> bool {
        self.context.has_broken()
    }

    /// The end of the reading: the texts, if there is no mistake at all.
    ///
    /// # Errors
    /// All mistakes: of the grammar, of the tables, names that nobody declares, keys and tables that nobody took.
    pub fn finish(self) -> Result<Sources, Mistakes> {
        self.finish_with(Some(())).map(|((), sources)| sources)
    }

    /// As [`finish`](Self::finish), with something that was read, which is there unless there is a mistake.
    ///
    /// # Errors
    /// All mistakes; one that says so if `read` is nothing although none was reported.
    pub fn finish_with<T>(mut self, read: Option<T>) -> Result<(T, Sources), Mistakes> {
        self.report_leftovers();
        self.context.report_keys();
        if !self.context.is_example {
            self.context.resolve();
        }
        let top = self.top;
        self.context.found.explain_unknown(|key| {
            let move_it = || format!("`{key}` belongs to the top of the file, above the first table header");
            top.contains(&key).then(move_it)
        });
        self.sources.hide(self.context.take_hidden());
        match read {
            Some(read) => self.context.found.finish(self.sources).map(|sources| (read, sources)),
            None => Err(self.context.found.refuse(self.sources)),
        }
    }

    fn report_leftovers(&mut self) {
        let Self { root, context, tables, top, .. } = self;
        for (key, Entry { key: place, node }) in root.iter() {
            if top.contains(&key.as_str()) || tables.contains_key(key.as_str()) || matches!(node.data, Data::Broken) {
                continue;
            }
            let inner = |path: &&str| path.split_once('.').is_some_and(|(first, _)| first == key);
            let inside: Vec<&str> = tables.keys().copied().filter(inner).collect();
            if inside.is_empty() {
                context.mistake(unknown(*place, key, &node.data, tables, top));
                continue;
            }
            let headers = inside.iter().map(|path| header(path, tables)).collect::<Vec<_>>().join(", ");
            let Data::Table(entries) = &node.data else {
                let remedy = format!("write one of {headers}");
                context.mistake(Mistake::new(*place, format!("`{key}` is not a table by itself"), remedy));
                continue;
            };
            for (second, entry) in entries {
                let path = format!("{key}.{second}");
                if !tables.contains_key(path.as_str()) && !matches!(entry.node.data, Data::Broken) {
                    let remedy = match nearest(&path, inside.iter().copied()) {
                        Some(meant) => format!("did you mean {}?", header(meant, tables)),
                        None => format!("write one of {headers}"),
                    };
                    context.mistake(Mistake::new(entry.key, format!("there is no table `{path}`"), remedy));
                }
            }
        }
    }
}

/// Reads every table of the list at `path`.
fn read_all<S: Section>(path: &str, entry: &Entry, context: &mut ReadContext) -> Vec<S> {
    let label = format!("[[{path}]]");
    match &entry.node.data {
        Data::List { items, .. } => {
            let mut sections = Vec::new();
            for item in items {
                match &item.data {
                    Data::Table(entries) => sections.extend(table::read(&label, item.place, entries, context)),
                    Data::Broken => {}
                    other => {
                        let reason = format!("{label} is {}, and should be a table", other.describe());
                        context.mistake(Mistake::new(item.place, reason, format!("write {label} above its keys")));
                    }
                }
            }
            return sections;
        }
        Data::Broken => {}
        Data::Table(_) => {
            let reason = format!("there may be several {label}");
            context.mistake(Mistake::new(entry.node.place, reason, format!("write {label}, with two brackets")));
        }
        other => {
            let reason = format!("`{path}` is {}, and should be a table", other.describe());
            context.mistake(Mistake::new(entry.key, reason, format!("write {label} above its keys")));
        }
    }
    Vec::new()
}

/// The mistake about a table or key at the top of a file that no reader took.
fn unknown(
    place: Place,
    key: &str,
    data: &Data,
    tables: &BTreeMap<&'static str, bool>,
    top: &[&'static str],
) -> Mistake {
    let inner = match data {
        Data::Table(entries) => Some(entries.keys().next()),
        Data::List { of_headers: true, .. } => Some(None),
        _ => None,
    };
    let Some(inner) = inner else {
        let remedy = match nearest(key, top.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "remove it, or move it below the header of its table".to_owned(),
        };
        return Mistake::new(place, format!("there is no key `{key}` at the top of the policy"), remedy);
    };
    // `[[prob.http]]` is a table `prob` that holds `http`: the two words are compared together, then the first alone.
    let path = inner.map_or_else(|| key.to_owned(), |second| format!("{key}.{second}"));
    let known = || tables.keys().copied();
    let remedy = match nearest(&path, known()).or_else(|| nearest(key, known())) {
        Some(meant) => format!("did you mean {}?", header(meant, tables)),
        None => format!("write one of {}", known().map(|path| header(path, tables)).collect::<Vec<_>>().join(", ")),
    };
    Mistake::new(place, format!("there is no table `{key}`"), remedy)
}

fn header(path: &str, tables: &BTreeMap<&'static str, bool>) -> String {
    if tables.get(path) == Some(&true) { format!("[[{path}]]") } else { format!("[{path}]") }
}

fn find<'r>(root: &'r Entries, path: &str) -> Option<&'r Entry> {
    let Some((first, rest)) = path.split_once('.') else { return root.get(path) };
    match &root.get(first)?.node.data {
        Data::Table(entries) => find(entries, rest),
        _ => None,
    }
}

/// Adds what a further file says: tables are united key by key, `[[tables]]` follow each other, and nothing else may be
/// said twice.
fn merge(into: &mut Entries, from: Entries, context: &mut ReadContext) {
    for (key, entry) in from {
        match into.entry(key) {
            Slotted::Vacant(vacant) => {
                vacant.insert(entry);
            }
            Slotted::Occupied(mut occupied) => {
                let (name, first) = (occupied.key().clone(), occupied.get().key);
                match (&mut occupied.get_mut().node.data, entry.node.data) {
                    (Data::Table(into), Data::Table(from)) => merge(into, from, context),
                    (Data::List { items, of_headers: true }, Data::List { items: more, of_headers: true }) => {
                        items.extend(more);
                    }
                    (Data::Broken, _) | (_, Data::Broken) => {}
                    _ => {
                        let mistake =
                            Mistake::new(entry.key, format!("`{name}` is set twice"), "remove one of the two");
                        context.mistake(mistake.also(first, "the first one is here"));
                    }
                }
            }
        }
    }
}
