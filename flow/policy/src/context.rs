//! What is known of the whole policy while its tables are read.

use std::collections::{BTreeMap, BTreeSet};

use crate::mistake::{Found, Mistake};
use crate::name::{Name, Noun};
use crate::place::Place;
use crate::redact::Hidden;
use crate::suggest::nearest;

/// How many declared names are listed to somebody who used another.
const NAMES_SHOWN_MAX: usize = 8;

/// Mistakes, declared names and references, collected across all tables.
#[derive(Debug, Default)]
pub(crate) struct Context {
    pub(crate) found: Found,
    /// How often a value was passed over because a syntax error had said enough.
    pub(crate) passed_over: usize,
    /// One section alone: names are declared nowhere, and what it asks must be what its reference says.
    pub(crate) is_example: bool,
    /// Files with syntax errors: what seems to be missing there may only be unreadable.
    broken: BTreeSet<u32>,
    /// Where each name is declared; `None` when garant itself provides it.
    declared: BTreeMap<Noun, BTreeMap<String, Option<Place>>>,
    references: Vec<Reference>,
    /// Nouns of which a declaration could not be read: a reference to them proves nothing.
    incomplete: BTreeSet<Noun>,
    /// What no record may hold.
    hidden: Vec<Hidden>,
}

#[derive(Debug)]
struct Reference {
    noun: Noun,
    declared_by: &'static str,
    name: String,
    place: Place,
}

impl Context {
    pub(crate) fn mistake(&mut self, mistake: Mistake) {
        self.found.push(mistake);
    }

    /// No record may hold this.
    pub(crate) fn hide(&mut self, hidden: Hidden) {
        self.hidden.push(hidden);
    }

    pub(crate) fn take_hidden(&mut self) -> Vec<Hidden> {
        std::mem::take(&mut self.hidden)
    }

    /// Grows whenever there is a reason for a section to return nothing.
    pub(crate) const fn reasons(&self) -> usize {
        self.found.count() + self.passed_over
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

    /// A table defines this name. The second of two that define the same one is a mistake.
    pub(crate) fn declare(&mut self, noun: Noun, name: &str, place: Place, remedy: &'static str) {
        let names = self.declared.entry(noun).or_default();
        match names.get(name).copied().flatten() {
            None => {
                names.insert(name.to_owned(), Some(place));
            }
            Some(first) => {
                let reason = format!("two {noun}s are called `{name}`");
                self.mistake(Mistake::new(place, reason, remedy).also(first, "the first one is here"));
            }
        }
    }

    /// garant defines this name by itself.
    pub(crate) fn provide(&mut self, noun: Noun, name: String) {
        self.declared.entry(noun).or_default().entry(name).or_insert(None);
    }

    /// A name of this noun is declared somewhere, but can't be read.
    pub(crate) fn declaration_lost(&mut self, noun: Noun) {
        self.incomplete.insert(noun);
    }

    /// Something is said of this name: it must be declared, before or after.
    pub(crate) fn refer<N: Name>(&mut self, name: &str, place: Place) {
        let (noun, declared_by) = (N::NOUN, N::DECLARED_BY);
        self.references.push(Reference { noun, declared_by, name: name.to_owned(), place });
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
