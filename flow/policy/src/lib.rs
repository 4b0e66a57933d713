//! The policy file, typed, with places: all mistakes at once, shown in the user's own file.
//!
//! A policy is the infrastructure as code of a team, so a mistake in it must cost a minute and not an evening. Reading
//! stops at nothing: every syntax error, unknown key, wrong type, figure out of range, duplicate name, name that nobody
//! declares and contradiction is collected and shown under the line it is in, with what to write instead. A policy is
//! used whole or not at all.
//!
//! `serde` is not used for the file. It stops at the first error, and its `flatten` and `untagged` lose the place of a
//! value. Instead each kind of table is a [`Section`]: a type with a function `read` that asks a [`Table`] for its keys,
//! one after the other, each with a sentence of documentation.
//!
//! # One source for the reader and for its reference
//!
//! `Section::read` runs on two kinds of [`Table`]. On a *reading* table it gets values out of the user's file. On a
//! *recording* table it gets nothing, and every question it asks is written down: name of the key, shape, default,
//! documentation. [`reference()`] makes `docs/policy.md` from these records, so a key can't be read and undocumented, or
//! documented and not read. There is one rule for whoever writes a section: **ask for all keys first, use `?` after**.
//! A section that returns early hides later keys from its reference and later mistakes from its user;
//! [`SectionDoc::check`] finds it.
//!
//! # What must not be written down
//!
//! A policy holds names, telephone numbers and tokens, and the record of its changes must hold none. No regular
//! expression can tell a token from a word; whoever declares a key can. So being private is a property of the type that a
//! key is read as ([`Private`], or [`Value::PRIVATE`] of a type of its own), the reader notes where such values stand,
//! and [`Sources::redacted`] is the text without them. What opens a door (a token, a password) does not stand in a policy
//! at all: a key that needs it is read as a [`Secret`], which says in which file or credential it is kept.
//!
//! # In order
//!
//! 1. [`Document::load`] reads `garant.toml` and `conf.d/*.toml` beside it into one tree.
//! 2. Each crate takes its own tables: [`Document::tables`], [`Document::table`]; the nouns that all share are [`Nouns`]. A
//!    table may have several readers, each of which asks for its own keys.
//! 3. [`Document::finish`] gives all mistakes, those of what nobody took included, or the sources of a sound policy.

mod addition;
mod address;
mod context;
mod document;
mod load;
mod mistake;
mod name;
mod nouns;
mod part;
mod place;
mod redact;
mod reference;
mod secret;
mod source;
mod suggest;
mod table;
mod tree;
mod value;

pub use addition::{Addition, Unfit, with_additions};
pub use address::{Address, BadAddress, HostPort, Scheme, Url};
pub use document::Document;
pub use mistake::{Mistake, Mistakes};
pub use name::{BackupName, EscalationName, HostGroup, Name, Noun, PersonName, ScheduleName};
pub use nouns::{
    Basics, Host, JournalSettings, Maintenance, Nouns, Observer, Origin, Pages, Person, Publication, Region,
    RetentionPeriods, Service, VerifierKeyText, Witness,
};
pub use part::Part;
pub use place::Place;
pub use reference::{KeyDoc, Need, SectionDoc, reference};
pub use secret::Secret;
pub use source::{Position, SourceFile, Sources};
pub use suggest::nearest;
pub use table::{Section, Table};
pub use value::{Located, Private, Slot, Value};

#[cfg(test)]
mod tests;
