//! The state of reading a policy, over all its tables.

use std::collections::btree_map::Entry as Slotted;
use std::collections::{BTreeMap, BTreeSet};

use event::policy::Applied;

use crate::mistake::{Found, Mistake, MistakeKind};
use crate::name::{Name, Noun};
use crate::place::Place;
use crate::redact::Hidden;
use crate::suggest::nearest;
use crate::tree::{Data, Entries, Entry};

/// Most declared names that are listed in a mistake about another.
const NAMES_SHOWN_MAX: usize = 8;

/// Mistakes, declared names and references, collected across all tables.
#[derive(Debug, Default)]
pub(crate) struct ReadContext {
    pub(crate) found: Found,
    /// Number of values skipped because a syntax error had been reported for them.
    pub(crate) passed_over: usize,
    /// Whether a single section is read, as an example: names are declared nowhere, and what it asks must be what its
    /// reference says.
    pub(crate) is_example: bool,
    /// Files with syntax errors: what seems to be missing there may only be unreadable.
    broken: BTreeSet<u32>,
    /// The place where each name is declared; `None` when garant itself provides it.
    declared: BTreeMap<Noun, BTreeMap<String, Option<Place>>>,
    references: Vec<Reference>,
    /// Nouns of which a declaration could not be read: a reference to them proves nothing.
    incomplete: BTreeSet<Noun>,
    /// Private values, which no record may hold.
    hidden: Vec<Hidden>,
    /// What was asked of each table, by the place of its header: a table may have several readers, and a key is unknown only
    /// when none of them asked for it.
    tables: BTreeMap<Place, Asked>,
    /// What is checked once the whole policy is read.
    later: Vec<Later>,
    /// How many required keys were found to be absent; [`Self::report_keys`] turns them into mistakes.
    missing: usize,
}

/// A value that can only be judged against what other parts of the policy declare.
struct Later {
    place: Place,
    check: Check,
}

/// What is wrong with a value, and what to write instead; `None` when nothing is.
pub(crate) type Check = Box<dyn FnOnce(&Applied) -> Option<(String, String)>>;

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The keys that all readers of one table asked for.
#[derive(Debug)]
struct Asked {
    /// `[[probe.http]]`, or the key of an inner table.
    label: String,
    /// The keys that the user wrote and nobody asked for so far, each with its place; `None` for a value that a syntax error made
    /// unreadable.
    left: Vec<(String, Option<Place>)>,
    /// The keys asked for, in the order of the first question, and whether the user wrote them.
    keys: Vec<(&'static str, bool)>,
    /// Keys that are needed and not there, with the remedy.
    missing: BTreeMap<&'static str, String>,
}

#[derive(Debug)]
struct Reference {
    noun: Noun,
    declared_by: &'static str,
    name: String,
    place: Place,
}

impl ReadContext {
    pub(crate) fn mistake(&mut self, mistake: Mistake) {
        self.found.push(mistake);
    }

    /// Notes a private value.
    pub(crate) fn hide(&mut self, hidden: Hidden) {
        self.hidden.push(hidden);
    }

    pub(crate) fn take_hidden(&mut self) -> Vec<Hidden> {
        std::mem::take(&mut self.hidden)
    }

    /// Number of reasons so far for a section to return nothing.
    pub(crate) const fn reasons(&self) -> usize {
        self.found.count() + self.passed_over + self.missing
    }

    /// Adds what one reader of the table at `place` asked for, and which of that is needed and not there.
    pub(crate) fn asked(
        &mut self,
        place: Place,
        label: &str,
        entries: &Entries,
        keys: &[&'static str],
        missing: BTreeMap<&'static str, String>,
    ) {
        self.missing += missing.len();
        let left = |(key, entry): (&String, &Entry)| {
            let broken = matches!(entry.node.data, Data::Broken);
            (!keys.contains(&key.as_str())).then(|| (key.clone(), (!broken).then_some(entry.key)))
        };
        let table = match self.tables.entry(place) {
            Slotted::Vacant(vacant) => {
                let left = entries.iter().filter_map(left).collect();
                vacant.insert(Asked { label: label.to_owned(), left, keys: Vec::new(), missing: BTreeMap::new() })
            }
            Slotted::Occupied(occupied) => {
                let table = occupied.into_mut();
                table.left.retain(|(key, _)| !keys.contains(&key.as_str()));
                table
            }
        };
        for key in keys {
            if table.keys.iter().all(|(known, _)| known != key) {
                table.keys.push((key, entries.contains_key(*key)));
            }
        }
        for (key, remedy) in missing {
            table.missing.entry(key).or_insert(remedy);
        }
    }

    /// Reports keys that no reader of their table asked for, and keys that are needed and not there. Called once, after
    /// the last reader.
    pub(crate) fn report_keys(&mut self) {
        for (place, mut table) in std::mem::take(&mut self.tables) {
            for mistake in table.unknown() {
                self.mistake(mistake);
            }
            // In a file with syntax errors, what is missing may be what could not be read.
            if self.is_broken(place.file) {
                continue;
            }
            for (key, remedy) in table.missing {
                self.mistake(Mistake::new(place, format!("{} needs `{key}`", table.label), remedy));
            }
        }
    }

    pub(crate) fn set_broken(&mut self, file: u32) {
        self.broken.insert(file);
    }

    pub(crate) fn is_broken(&self, file: u32) -> bool {
        self.broken.contains(&file)
    }

    pub(crate) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Declares a name. A second declaration of it is a mistake.
    pub(crate) fn declare(&mut self, noun: Noun, name: &str, place: Place, remedy: &'static str) {
        let names = self.declared.entry(noun).or_default();
        match names.get(name).copied().flatten() {
            None => {
                names.insert(name.to_owned(), Some(place));
            }
            // A second reader of the same table.
            Some(first) if first == place => {}
            Some(first) => {
                let reason = format!("two {noun}s are called `{name}`");
                self.mistake(Mistake::new(place, reason, remedy).also(first, "the first one is here"));
            }
        }
    }

    /// Declares a name that garant provides by itself.
    pub(crate) fn provide(&mut self, noun: Noun, name: String) {
        self.declared.entry(noun).or_default().entry(name).or_insert(None);
    }

    /// A name of this noun is declared somewhere, but can't be read.
    pub(crate) fn declaration_lost(&mut self, noun: Noun) {
        self.incomplete.insert(noun);
    }

    /// Refers to a name, which must be declared, before or after.
    pub(crate) fn refer<N: Name>(&mut self, name: &str, place: Place) {
        let (noun, declared_by) = (N::NOUN, N::DECLARED_BY);
        self.references.push(Reference { noun, declared_by, name: name.to_owned(), place });
    }

    /// Checks the value at `place` once the whole policy is read.
    pub(crate) fn check_later(&mut self, place: Place, check: Check) {
        self.later.push(Later { place, check });
    }

    /// Checks what had to wait for the whole policy, in its public form as far as it could be read.
    pub(crate) fn check(&mut self, applied: &Applied) {
        for Later { place, check } in std::mem::take(&mut self.later) {
            if let Some((reason, remedy)) = check(applied) {
                self.mistake(Mistake::new(place, reason, remedy));
            }
        }
    }

    /// Finds the references that lead nowhere, once everything is declared.
    pub(crate) fn resolve(&mut self) {
        let empty = BTreeMap::new();
        for Reference { noun, declared_by, name, place } in std::mem::take(&mut self.references) {
            let names = self.declared.get(noun).unwrap_or(&empty);
            if names.contains_key(&name) || self.incomplete.contains(noun) || self.has_broken() {
                continue;
            }
            let remedy = if let Some(meant) = nearest(&name, names.keys().map(String::as_str)) {
                format!("did you mean `{meant}`? Otherwise declare it with {declared_by}")
            } else if names.is_empty() {
                format!("no {noun} is declared: add {declared_by}")
            } else {
                let shown: Vec<_> = names.keys().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
                let more = if names.len() > NAMES_SHOWN_MAX { " and others" } else { "" };
                format!("declared are {}{more}; add {declared_by} for another", shown.join(", "))
            };
            self.found.push(Mistake::new(place, format!("no {noun} is called `{name}`"), remedy));
        }
    }
}

impl Asked {
    /// Mistakes about the keys that no reader asked for.
    fn unknown(&mut self) -> Vec<Mistake> {
        let Self { label, left, keys, missing } = self;
        let mut mistakes = Vec::new();
        for (key, place) in std::mem::take(left) {
            let Some(place) = place else { continue };
            let absent = keys.iter().filter(|(_, written)| !written).map(|(asked, _)| *asked);
            let remedy = if let Some(meant) = nearest(&key, absent) {
                // One slip of the finger is one mistake, not a missing key and an unknown one.
                missing.remove(meant);
                format!("did you mean `{meant}`?")
            } else {
                let known: Vec<_> = keys.iter().map(|(asked, _)| format!("`{asked}`")).collect();
                format!("it knows {}", known.join(", "))
            };
            let mistake = Mistake::new(place, format!("{label} has no key `{key}`"), remedy);
            mistakes.push(mistake.kind(MistakeKind::UnknownKey(key)));
        }
        mistakes
    }
}
