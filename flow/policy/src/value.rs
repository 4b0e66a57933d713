//! What a key may hold.

mod plain;

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::context::ReadContext;
use crate::mistake::Mistake;
use crate::name::Name;
use crate::place::Place;
use crate::redact::Hidden;
use crate::reference::{KeyDoc, Need};
use crate::suggest::nearest;
use crate::table::{self, Section};
use crate::tree::{Data, Node};

/// A type that a key may hold. Every [`Section`] is one: a table inside a table.
pub trait Value: Sized {
    /// What it is in words, with the article: `a length of time`.
    const SHAPE: &'static str;
    /// How one is written in TOML: `"10 s"`, quotes included.
    const EXAMPLE: &'static str;
    /// What it is in words where a narrower range of its own is named beside it.
    const SHAPE_IN_RANGE: &'static str = Self::SHAPE;
    /// Whether it is nobody's business but the team's and garant's: see [`Private`].
    const PRIVATE: bool = false;

    /// What a remedy proposes, in TOML: the example, unless that must be another one each time.
    fn proposal() -> String {
        Self::EXAMPLE.to_owned()
    }

    /// Reads it; `None` only after a mistake was reported, as every function of the slot does.
    fn read(slot: Slot<'_>) -> Option<Self>;

    /// The keys inside, if it is a table.
    #[doc(hidden)]
    fn keys() -> Vec<KeyDoc> {
        Vec::new()
    }
}

impl<S: Section> Value for S {
    const SHAPE: &'static str = "a table";
    const EXAMPLE: &'static str = "{ … }";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.table()
    }

    fn keys() -> Vec<KeyDoc> {
        table::record::<S>()
    }
}

/// A value and where it is written, for checks that come later and have to point at it. Two are equal when their values
/// are: a policy whose lines have moved is the same policy.
#[derive(Clone, Copy, Debug)]
pub struct Located<V> {
    /// The value.
    pub value: V,
    /// Its place.
    pub place: Place,
}

impl<V: PartialEq> PartialEq for Located<V> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<V: Eq> Eq for Located<V> {}

impl<V: Value> Value for Located<V> {
    const SHAPE: &'static str = V::SHAPE;
    const EXAMPLE: &'static str = V::EXAMPLE;
    const PRIVATE: bool = V::PRIVATE;

    fn read(slot: Slot<'_>) -> Option<Self> {
        let place = slot.place();
        V::read(slot).map(|value| Self { value, place })
    }

    fn keys() -> Vec<KeyDoc> {
        V::keys()
    }
}

/// A value that no record may hold: a name, an address of a person, a token. It is read as any other, and
/// [`crate::Sources::redacted`] leaves it out. A key is declared private by its type, so it can't be read and forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Private<V>(pub V);

impl<V> fmt::Debug for Private<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<V: Value> Value for Private<V> {
    const SHAPE: &'static str = V::SHAPE;
    const EXAMPLE: &'static str = V::EXAMPLE;
    const PRIVATE: bool = true;

    fn read(slot: Slot<'_>) -> Option<Self> {
        V::read(slot).map(Self)
    }

    fn keys() -> Vec<KeyDoc> {
        V::keys()
    }
}

/// The value of one key in the user's file.
pub struct Slot<'a> {
    pub(crate) key: &'a str,
    pub(crate) node: &'a Node,
    /// The least and the largest number that it may hold, where the key narrows its kind.
    pub(crate) range: Option<(String, String)>,
    pub(crate) context: &'a mut ReadContext,
}

impl<'a> Slot<'a> {
    /// Where it is.
    pub const fn place(&self) -> Place {
        self.node.place
    }

    /// The key, for use in a reason.
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// Reports that the value is wrong.
    pub fn wrong(&mut self, reason: impl Into<String>, remedy: impl Into<String>) {
        self.context.mistake(Mistake::new(self.node.place, reason.into(), remedy.into()));
    }

    /// Keeps what follows the first `mark` out of every record: the query of a URL, the value of a header field.
    pub fn hide_after(&mut self, mark: char) {
        self.context.hide(Hidden { place: self.node.place, after: Some(mark) });
    }

    /// Keeps the value out of every record, as that of [`Private`]: for a table some of whose values are.
    pub fn hide(&mut self) {
        self.context.hide(Hidden { place: self.node.place, after: None });
    }

    /// Whether the value is written as a text.
    pub const fn is_text(&self) -> bool {
        matches!(self.node.data, Data::Text(_))
    }

    /// Whether the value is written as a table.
    pub const fn is_table(&self) -> bool {
        matches!(self.node.data, Data::Table(_))
    }

    /// The text of a value that is written as one.
    pub fn text<V: Value>(&mut self) -> Option<&'a str> {
        match &self.node.data {
            Data::Text(text) => Some(text),
            _ => self.wrong_type::<V, _>(),
        }
    }

    /// The whole number of a value that is written as one.
    pub fn integer<V: Value>(&mut self) -> Option<i64> {
        match self.node.data {
            Data::Integer(Some(number)) => Some(number),
            Data::Integer(None) => {
                self.wrong(format!("`{}` is too large a number", self.key), format!("write {}", self.shape::<V>()));
                None
            }
            _ => self.wrong_type::<V, _>(),
        }
    }

    /// The boolean of a value that is written as one.
    pub fn boolean<V: Value>(&mut self) -> Option<bool> {
        match self.node.data {
            Data::Boolean(truth) => Some(truth),
            _ => self.wrong_type::<V, _>(),
        }
    }

    /// The date and time of a value that is written as text or as a date, in RFC 3339 as far as it goes.
    pub fn date<V: Value>(&mut self) -> Option<&'a str> {
        match &self.node.data {
            Data::Text(date) | Data::Date(date) => Some(date),
            _ => self.wrong_type::<V, _>(),
        }
    }

    /// A value that knows how to read itself from text.
    pub fn parse<V: Value + FromStr>(mut self) -> Option<V> {
        let text = self.text::<V>()?;
        if let Ok(value) = text.parse() {
            return Some(value);
        }
        self.wrong(format!("`{}` is not {}", short(text), V::SHAPE), format!("write it like {}", V::EXAMPLE));
        None
    }

    /// One of several words.
    pub fn choose<V: Value + Clone>(mut self, words: &[(&str, V)]) -> Option<V> {
        let text = self.text::<V>()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let remedy = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!("write one of {}", known.join(", ")),
        };
        self.wrong(format!("`{}` can't be \"{}\"", self.key, short(text)), remedy);
        None
    }

    /// A table inside the table.
    pub fn table<S: Section>(mut self) -> Option<S> {
        let Data::Table(entries) = &self.node.data else { return self.wrong_type::<S, _>() };
        table::read(&format!("`{}`", self.key), self.node.place, entries, self.context)
    }

    /// A table whose keys are names that the user chose, `V` by name: [`Slot::key`] of each value is its name. All are read,
    /// whatever is wrong with one.
    pub fn named<T: Value, V: Value>(mut self) -> Option<Vec<(String, V)>> {
        let Data::Table(entries) = &self.node.data else { return self.wrong_type::<T, _>() };
        let context = self.context;
        let read = |(name, entry): (&String, &'a crate::tree::Entry)| {
            let slot = Slot { key: name, node: &entry.node, range: None, context: &mut *context };
            V::read(slot).map(|value| (name.clone(), value))
        };
        let values: Vec<Option<_>> = entries.iter().map(read).collect();
        values.into_iter().collect()
    }

    /// One value, or a list of them. All are read, whatever is wrong with one.
    pub(crate) fn list<V: Value>(self) -> Option<Vec<V>> {
        let Self { key, node, context, .. } = self;
        match &node.data {
            Data::List { items, .. } => {
                let read = |node| V::read(Slot { key, node, range: None, context: &mut *context });
                let values: Vec<Option<V>> = items.iter().map(read).collect();
                values.into_iter().collect()
            }
            _ => V::read(Slot { key, node, range: None, context }).map(|value| vec![value]),
        }
    }

    /// The same, each within the range.
    pub(crate) fn list_within<V>(self, range: &RangeInclusive<V>) -> Option<Vec<V>>
    where
        V: Value + PartialOrd + fmt::Display,
    {
        let Self { key, node, context, .. } = self;
        let nodes = match &node.data {
            Data::List { items, .. } => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let read = |node| Slot { key, node, range: None, context: &mut *context }.within(range);
        let values: Vec<Option<V>> = nodes.iter().map(read).collect();
        values.into_iter().collect()
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        self.node.is_empty_list()
    }

    pub(crate) fn within<V: Value + PartialOrd + fmt::Display>(self, range: &RangeInclusive<V>) -> Option<V> {
        let Self { key, node, context, .. } = self;
        let bounds = is_bare::<V>().then(|| (as_toml(range.start()), as_toml(range.end())));
        let value = V::read(Slot { key, node, range: bounds, context: &mut *context })?;
        if range.contains(&value) {
            return Some(value);
        }
        let reason = format!("`{key}` is {value}, out of range");
        let remedy = format!("write something from {} to {}", as_toml(range.start()), as_toml(range.end()));
        context.mistake(Mistake::new(node.place, reason, remedy));
        None
    }

    /// A name that must be declared elsewhere.
    pub(crate) fn reference<N: Name + Value>(mut self) -> Option<N> {
        let name = self.name::<N>()?;
        self.context.refer::<N>(&name.to_string(), self.node.place);
        Some(name)
    }

    /// A name that the table defines.
    pub(crate) fn declaration<N: Name + Value>(mut self) -> Option<N> {
        let name = self.name::<N>();
        match &name {
            Some(name) => {
                self.context.declare(N::NOUN, &name.to_string(), self.node.place, "call one of them something else");
            }
            None => self.context.declaration_lost(N::NOUN),
        }
        name
    }

    fn name<N: Name + Value>(&mut self) -> Option<N> {
        let text = self.text::<N>()?;
        let name = text.parse().ok();
        if name.is_none() {
            let reason = match text {
                "" => format!("`{}` is empty", self.key),
                _ => format!("`{}` is not {}", short(text), N::WHAT),
            };
            self.wrong(reason, N::rule());
        }
        name
    }

    /// What it should hold, in words.
    pub(crate) fn shape<V: Value>(&self) -> String {
        match &self.range {
            Some((least, largest)) => format!("{} from {least} to {largest}", V::SHAPE_IN_RANGE),
            None => V::SHAPE.to_owned(),
        }
    }

    /// Reports the wrong type, unless a syntax error has said it already.
    pub(crate) fn wrong_type<V: Value, T>(&mut self) -> Option<T> {
        let bare = is_bare::<V>();
        let example: Cow<'_, str> = match &self.range {
            Some((least, _)) => least.into(),
            None => written::<V>(),
        };
        let remedy = match &self.node.data {
            Data::Broken => {
                self.context.passed_over += 1;
                return None;
            }
            Data::Text(text) if bare && (text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()) => {
                format!("remove the quotes: {text}")
            }
            Data::List { .. } if !V::EXAMPLE.starts_with('{') => {
                format!("write a single one, such as {} = {example}", self.key)
            }
            _ => format!("write it like {} = {example}", self.key),
        };
        let reason = format!("`{}` is {}, and should be {}", self.key, self.node.data.describe(), self.shape::<V>());
        self.wrong(reason, remedy);
        None
    }
}

/// Whether values of this kind are written without quotes.
fn is_bare<V: Value>() -> bool {
    !V::EXAMPLE.starts_with('"')
}

/// How a value of this kind is written: a table with the keys that it needs, all else by its example.
fn written<V: Value>() -> Cow<'static, str> {
    let needed: Vec<_> = V::keys().into_iter().filter(|key| key.need == Need::Required).collect();
    if needed.is_empty() || !V::EXAMPLE.starts_with('{') {
        return V::EXAMPLE.into();
    }
    let needed: Vec<_> = needed.iter().map(|key| format!("{} = …", key.name)).collect();
    format!("{{ {} }}", needed.join(", ")).into()
}

/// The value as one writes it in the policy: in quotes if its kind is.
pub(crate) fn as_toml<V: Value + fmt::Display>(value: &V) -> String {
    if is_bare::<V>() { value.to_string() } else { format!("\"{value}\"") }
}

/// As much of a text as fits a message.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().escape_debug()),
        None => text.escape_debug().to_string(),
    }
}
