//! One table of the policy, asked for its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use event::policy::Applied;

use crate::context::ReadContext;
use crate::mistake::Mistake;
use crate::name::Name;
use crate::place::Place;
use crate::redact::Hidden;
use crate::reference::{KeyDoc, Need};
use crate::tree::Entries;
use crate::value::{Slot, Value, as_toml};

/// A kind of table, or the keys of one that a single reader is interested in: a table may be read as several sections, each
/// of which asks for its own keys (and for the name, to know which table it reads). A key that none of them asks for is a
/// mistake.
///
/// `read` asks for **all** keys before it uses `?` on any of them: see the head of the crate. It returns `None` only
/// after a mistake was reported, by the table or by [`Table::mistake`].
pub trait Section: Sized {
    /// What the table is for, in a sentence or two of Markdown: the head of its chapter in `docs/policy.md`.
    const ABOUT: &'static str;
    /// An example of it, whole, in TOML with its header: shown in `docs/policy.md`, and read by [`crate::SectionDoc::check`].
    /// May be empty for a table that is only used inside others.
    const EXAMPLE: &'static str;

    /// Reads it.
    fn read(table: &mut Table<'_>) -> Option<Self>;
}

/// A table of the user's file, or a recorder of what is asked of one.
pub struct Table<'a>(Mode<'a>);

enum Mode<'a> {
    Reading(TableReader<'a>),
    Recording(&'a mut Vec<KeyDoc>),
}

/// A table of the file, and what was asked of it so far.
struct TableReader<'a> {
    /// `[[probe.http]]`, or the key of an inner table.
    label: &'a str,
    place: Place,
    entries: &'a Entries,
    context: &'a mut ReadContext,
    asked: Vec<&'static str>,
    /// Keys that are needed and not there, with the remedy.
    missing: BTreeMap<&'static str, String>,
}

/// Reads a section out of a table. What no reader asked for is reported after the last one, by [`ReadContext::report_keys`].
pub(crate) fn read<S: Section>(label: &str, place: Place, entries: &Entries, context: &mut ReadContext) -> Option<S> {
    let reasons_before = context.reasons();
    let mode = TableReader { label, place, entries, context, asked: Vec::new(), missing: BTreeMap::new() };
    let mut table = Table(Mode::Reading(mode));
    let section = S::read(&mut table);
    let asked = table.close();
    let recorded: Vec<&str> =
        if context.is_example { record::<S>().iter().map(|key| key.name).collect() } else { Vec::new() };
    if let Some((_, twice)) = recorded.iter().enumerate().find(|(index, key)| recorded[..*index].contains(key)) {
        let reason = format!("{label} asks for `{twice}` twice, perhaps with two meanings");
        context.mistake(Mistake::new(place, reason, "give one of the two another name"));
    }
    if context.is_example && section.is_some() && recorded.iter().ne(&asked) {
        let reason = format!("{label} does not ask for the same keys when it is recorded");
        context.mistake(Mistake::new(place, reason, "ask for all keys first, use `?` after"));
    }
    if section.is_none() && context.reasons() == reasons_before && !context.is_broken(place.file) {
        // Never silently nothing: a policy is used whole or not at all.
        context.mistake(Mistake::new(place, format!("{label} can't be used"), "report this as a fault of garant"));
    }
    section
}

/// Reads keys at the top of the file: what is not asked for may still be a table, and is looked at later.
pub(crate) fn read_top<S: Section>(entries: &Entries, context: &mut ReadContext) -> (Option<S>, Vec<&'static str>) {
    let label = "the top of the file";
    let mode =
        TableReader { label, place: Place::default(), entries, context, asked: Vec::new(), missing: BTreeMap::new() };
    let mut table = Table(Mode::Reading(mode));
    let section = S::read(&mut table);
    let Mode::Reading(reading) = table.0 else { return (section, Vec::new()) };
    for (key, remedy) in reading.missing {
        reading.context.mistake(Mistake::new(Place::default(), format!("{label} needs `{key}`"), remedy));
    }
    (section, reading.asked)
}

/// The keys that a section asks for.
pub(crate) fn record<S: Section>() -> Vec<KeyDoc> {
    let mut keys = Vec::new();
    // Whatever it makes of getting nothing is of no interest.
    drop(S::read(&mut Table(Mode::Recording(&mut keys))));
    keys
}

impl Table<'_> {
    /// The value of a key that must be there.
    pub fn required<V: Value>(&mut self, key: &'static str, doc: &'static str) -> Option<V> {
        V::read(self.needed::<V>(key, doc, |doc| doc)?)
    }

    /// The value of a key that may be absent.
    pub fn optional<V: Value>(&mut self, key: &'static str, doc: &'static str) -> Option<V> {
        V::read(self.slot::<V>(key, || KeyDoc::of::<V>(key, Need::Optional, doc))?)
    }

    /// The value of a key, or `default` (also after a mistake, which has been reported).
    pub fn or<V: Value + fmt::Display>(&mut self, key: &'static str, default: V, doc: &'static str) -> V {
        let slot = self.slot::<V>(key, || KeyDoc::of::<V>(key, Need::Default(as_toml(&default)), doc));
        slot.and_then(V::read).unwrap_or(default)
    }

    /// As [`Self::required`], and within the range.
    pub fn required_in<V>(&mut self, key: &'static str, range: &RangeInclusive<V>, doc: &'static str) -> Option<V>
    where
        V: Value + PartialOrd + fmt::Display,
    {
        self.needed::<V>(key, doc, |doc| doc.within(range))?.within(range)
    }

    /// As [`Self::optional`], and within the range.
    pub fn optional_in<V>(&mut self, key: &'static str, range: &RangeInclusive<V>, doc: &'static str) -> Option<V>
    where
        V: Value + PartialOrd + fmt::Display,
    {
        let slot = self.slot::<V>(key, || KeyDoc::of::<V>(key, Need::Optional, doc).within(range))?;
        slot.within(range)
    }

    /// As [`Self::or`], and within the range.
    pub fn or_in<V>(&mut self, key: &'static str, default: V, range: &RangeInclusive<V>, doc: &'static str) -> V
    where
        V: Value + PartialOrd + fmt::Display,
    {
        let need = || Need::Default(as_toml(&default));
        let slot = self.slot::<V>(key, || KeyDoc::of::<V>(key, need(), doc).within(range));
        slot.and_then(|slot| slot.within(range)).unwrap_or(default)
    }

    /// One value or a list of them; nothing when the key is absent.
    pub fn list<V: Value>(&mut self, key: &'static str, doc: &'static str) -> Vec<V> {
        let slot = self.slot::<V>(key, || KeyDoc::of::<V>(key, Need::Optional, doc).list());
        slot.and_then(Slot::list).unwrap_or_default()
    }

    /// One value or a list of at least one.
    pub fn required_list<V: Value>(&mut self, key: &'static str, doc: &'static str) -> Option<Vec<V>> {
        self.needed_some::<V>(key, doc, KeyDoc::list)?.list()
    }

    /// As [`Self::required_list`], and each within the range.
    pub fn required_list_in<V>(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<V>,
        doc: &'static str,
    ) -> Option<Vec<V>>
    where
        V: Value + PartialOrd + fmt::Display,
    {
        self.needed_some::<V>(key, doc, |doc| doc.within(range).list())?.list_within(range)
    }

    /// The name that this table defines. Two tables that define the same name are a mistake.
    pub fn declare<N: Name + Value>(&mut self, key: &'static str, doc: &'static str) -> Option<N> {
        let Some(slot) = self.needed::<N>(key, doc, |doc| doc.shape(N::NEW)) else {
            if let Mode::Reading(reading) = &mut self.0 {
                reading.context.declaration_lost(N::NOUN);
            }
            return None;
        };
        slot.declaration::<N>()
    }

    /// The name that this table defines, or `default` if it gives none; `in_words` says in the reference what that is.
    pub fn declare_or<N: Name + Value>(
        &mut self,
        key: &'static str,
        default: Option<N>,
        in_words: &'static str,
        doc: &'static str,
    ) -> Option<N> {
        let place = self.place();
        let doc = || KeyDoc::of::<N>(key, Need::Default(in_words.to_owned()), doc).shape(N::NEW);
        if let Some(slot) = self.slot::<N>(key, doc) {
            return slot.declaration::<N>();
        }
        if let Mode::Reading(reading) = &mut self.0 {
            match &default {
                Some(name) => {
                    let remedy = "give this one a `name` of its own";
                    reading.context.declare(N::NOUN, &name.to_string(), place, remedy);
                }
                None => reading.context.declaration_lost(N::NOUN),
            }
        }
        default
    }

    /// Defines a name without being asked, such as the finding that a probe looks for; any number of tables may provide
    /// the same one.
    pub fn provide<N: Name>(&mut self, name: &N) {
        if let Mode::Reading(reading) = &mut self.0 {
            reading.context.provide(N::NOUN, name.to_string());
        }
    }

    /// Whether the user wrote this key.
    pub fn has(&self, key: &str) -> bool {
        match &self.0 {
            Mode::Reading(reading) => reading.entries.contains_key(key),
            Mode::Recording(_) => false,
        }
    }

    /// Whether the user wrote a list without anything in it.
    pub fn has_empty_list(&self, key: &str) -> bool {
        match &self.0 {
            Mode::Reading(reading) => reading.entries.get(key).is_some_and(|entry| entry.node.is_empty_list()),
            Mode::Recording(_) => false,
        }
    }

    /// Whether what is read is the example of the reference, and nobody's policy.
    pub fn is_example(&self) -> bool {
        matches!(&self.0, Mode::Reading(reading) if reading.context.is_example)
    }

    /// The header of the table, or the key that holds it.
    pub fn place(&self) -> Place {
        match &self.0 {
            Mode::Reading(reading) => reading.place,
            Mode::Recording(_) => Place::default(),
        }
    }

    /// The value of the key; the table itself when there is no such key.
    pub fn place_of(&self, key: &str) -> Place {
        match &self.0 {
            Mode::Reading(reading) => reading.entries.get(key).map_or(reading.place, |entry| entry.node.place),
            Mode::Recording(_) => Place::default(),
        }
    }

    /// Something is wrong with the value of `key`, or with the table as a whole when it has no such key.
    pub fn mistake(&mut self, key: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        let place = self.place_of(key);
        self.report(Mistake::new(place, reason.into(), remedy.into()));
    }

    /// Checks the value of `key` against the public form of the policy, once all parts are read: `check` says what is wrong and
    /// what to write instead. Of tables with mistakes the public form has nothing, so what is absent from it proves nothing.
    pub fn check_against(&mut self, key: &str, check: impl FnOnce(&Applied) -> Option<(String, String)> + 'static) {
        let place = self.place_of(key);
        if let Mode::Reading(reading) = &mut self.0 {
            reading.context.check_later(place, Box::new(check));
        }
    }

    /// Reports a mistake made elsewhere, such as one that points at two places.
    pub fn report(&mut self, mistake: Mistake) {
        if let Mode::Reading(reading) = &mut self.0 {
            reading.context.mistake(mistake);
        }
    }

    /// Records the question, or finds the value. What the reference says of a key is made for the reference alone: of a table with
    /// tables inside it is long.
    fn slot<V: Value>(&mut self, key: &'static str, doc: impl FnOnce() -> KeyDoc) -> Option<Slot<'_>> {
        match &mut self.0 {
            Mode::Recording(keys) => {
                keys.push(doc());
                None
            }
            Mode::Reading(reading) => {
                reading.asked.push(key);
                let entry = reading.entries.get(key)?;
                if V::PRIVATE {
                    reading.context.hide(Hidden { place: entry.node.place, after: None });
                }
                Some(Slot { key, node: &entry.node, range: None, context: reading.context })
            }
        }
    }

    /// The same of a key that must be there: its absence is noted.
    fn needed<V: Value>(
        &mut self,
        key: &'static str,
        about: &'static str,
        refine: impl FnOnce(KeyDoc) -> KeyDoc,
    ) -> Option<Slot<'_>> {
        if let Mode::Reading(TableReader { entries, missing, .. }) = &mut self.0
            && !entries.contains_key(key)
        {
            missing.insert(key, format!("add {key} = {}: {about}", V::proposal()));
        }
        self.slot::<V>(key, || refine(KeyDoc::of::<V>(key, Need::Required, about)))
    }

    /// The same, unless it holds an empty list.
    fn needed_some<V: Value>(
        &mut self,
        key: &'static str,
        about: &'static str,
        refine: impl FnOnce(KeyDoc) -> KeyDoc,
    ) -> Option<Slot<'_>> {
        let mut slot = self.needed::<V>(key, about, refine)?;
        if slot.is_empty_list() {
            let key = slot.key().to_owned();
            slot.wrong(format!("`{key}` is empty"), format!("write {}, such as {key} = [{}]", V::SHAPE, V::EXAMPLE));
            return None;
        }
        Some(slot)
    }

    /// Hands over what was asked, to be compared with what is written once all readers are done.
    fn close(self) -> Vec<&'static str> {
        let Mode::Reading(TableReader { label, place, entries, context, asked, missing }) = self.0 else {
            return Vec::new();
        };
        context.asked(place, label, entries, &asked, missing);
        asked
    }
}
