//! The reference of every key, made from what the sections ask for.

use std::fmt;
use std::ops::RangeInclusive;

use crate::document::Document;
use crate::mistake::Mistakes;
use crate::table::{self, Section};
use crate::value::{Value, as_toml};

/// Whether a key must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    /// The key must be given.
    Required,
    /// The key may be absent.
    Optional,
    /// This holds when it is absent, as one would write it.
    Default(String),
}

/// A key of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyDoc {
    /// The key.
    pub name: &'static str,
    /// What it holds.
    pub shape: String,
    /// Whether one value or a list may be given.
    pub many: bool,
    /// Whether it must be there.
    pub need: Need,
    /// What it means.
    pub about: &'static str,
    /// Whether it is kept out of the journal, see [`crate::Private`].
    pub private: bool,
    /// The keys inside, if it holds a table.
    pub keys: Vec<Self>,
}

impl KeyDoc {
    pub(crate) fn of<V: Value>(name: &'static str, need: Need, about: &'static str) -> Self {
        let keys = V::keys();
        // The example of a plain text says nothing, and some shapes are their own example.
        let telling = V::EXAMPLE.starts_with('"') && !V::EXAMPLE.contains('…') && !V::SHAPE.contains('"');
        let shape = if telling { format!("{}, such as `{}`", V::SHAPE, V::EXAMPLE) } else { V::SHAPE.to_owned() };
        Self { name, shape, many: false, need, about, private: V::PRIVATE, keys }
    }

    pub(crate) fn list(self) -> Self {
        Self { many: true, ..self }
    }

    pub(crate) fn shape(self, shape: &str) -> Self {
        Self { shape: shape.to_owned(), ..self }
    }

    pub(crate) fn within<V: Value + fmt::Display>(self, range: &RangeInclusive<V>) -> Self {
        let shape = format!("{} from `{}` to `{}`", V::SHAPE_IN_RANGE, as_toml(range.start()), as_toml(range.end()));
        Self { shape, ..self }
    }
}

/// A kind of table, as the reference shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionDoc {
    /// Its header, `[[probe.http]]` or `[journal]`; empty for the keys at the top of the file.
    pub header: String,
    /// What it is for.
    pub about: &'static str,
    /// An example in TOML.
    pub example: &'static str,
    /// Its keys, in the order in which they are read.
    pub keys: Vec<KeyDoc>,
}

impl SectionDoc {
    /// The table of that path, `[[path]]` if there may be many, `[path]` otherwise.
    pub fn of<S: Section>(path: &str, many: bool) -> Self {
        let header = if many { format!("[[{path}]]") } else { format!("[{path}]") };
        Self { header, about: S::ABOUT, example: S::EXAMPLE, keys: table::record::<S>() }
    }

    /// For the test of a section: whether its example reads without a mistake, and whether its reference has every key
    /// that reading asks for.
    ///
    /// # Errors
    /// The mistakes in the example.
    pub fn check<S: Section>(path: &'static str, many: bool) -> Result<(), Mistakes> {
        let mut document = Document::of_example(S::EXAMPLE);
        if many {
            drop(document.tables::<S>(path));
        } else {
            drop(document.table::<S>(path));
        }
        document.finish().map(drop)
    }

    /// Keys at the top of the file.
    pub fn top<S: Section>() -> Self {
        Self { header: String::new(), about: S::ABOUT, example: S::EXAMPLE, keys: table::record::<S>() }
    }
}

/// `docs/policy.md`: one chapter per table, with an example and all its keys. A table with several readers is one chapter,
/// which starts with what the first of them says of it.
pub fn reference(sections: &[SectionDoc]) -> String {
    let mut chapters: Vec<SectionDoc> = Vec::new();
    for section in sections {
        match chapters.iter_mut().find(|chapter| chapter.header == section.header) {
            None => chapters.push(section.clone()),
            Some(chapter) => {
                let known: Vec<_> = chapter.keys.iter().map(|key| key.name).collect();
                chapter.keys.extend(section.keys.iter().filter(|key| !known.contains(&key.name)).cloned());
            }
        }
    }
    std::iter::once(HEAD.to_owned()).chain(chapters.iter().map(chapter)).collect()
}

fn chapter(section: &SectionDoc) -> String {
    let title = if section.header.is_empty() { "Top of the file".to_owned() } else { format!("`{}`", section.header) };
    let example = match section.example.trim() {
        "" => String::new(),
        example => format!("\n```toml\n{example}\n```\n"),
    };
    let rows = rows("", &section.keys);
    let about = section.about;
    format!(
        "\n## {title}\n\n{about}\n{example}\n| key | holds | if absent | what it means |\n|---|---|---|---|\n{rows}"
    )
}

const HEAD: &str = "\
# The policy, key by key

<!-- Generated from the code that reads the policy: change it there. -->

The policy is `garant.toml` and every `*.toml` of the directory `conf.d` beside it, read in alphabetical order as if they
were one file. It is [TOML](https://toml.io). `garant check` shows every mistake of it at once; a policy with a mistake is
not used at all. A key or a table that is not on this page is a mistake. A policy may be 16 MiB long, in one file or in a
hundred.

A length of time is a whole number and a unit (`ms`, `s`, `min`, `h`, `d`, `w`), a share is a percentage, and where a list
is possible a single value may stand without brackets. A change of the policy is journaled for the team as a diff, without
comments, queries of URLs, and the values of keys marked *never journaled*. `text.fr = \"…\"` is short for `text = { fr = \"…\" }`.
";

fn rows(prefix: &str, keys: &[KeyDoc]) -> String {
    let row = |key: &KeyDoc| {
        let name = format!("{prefix}{}", key.name);
        let need = match &key.need {
            Need::Required => "required".to_owned(),
            Need::Optional => "—".to_owned(),
            Need::Default(default) => format!("`{}`", cell(default)),
        };
        let (many, inside) = if key.many { (", or a list", "[].") } else { ("", ".") };
        let (shape, about) = (cell(&key.shape), cell(key.about));
        let private = if key.private { " *Never journaled.*" } else { "" };
        format!("| `{name}` | {shape}{many} | {need} | {about}{private} |\n")
            + &rows(&format!("{name}{inside}"), &key.keys)
    };
    keys.iter().map(row).collect()
}

/// A vertical bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
