//! A part of the policy: the tables that one crate reads.

use std::any::Any;
use std::fmt::Debug;

use event::Span;
use event::policy::Applied;

use crate::document::Document;
use crate::nouns::Nouns;
use crate::reference::SectionDoc;

/// The tables of the policy that one crate reads, typed. `garant` has a list of all parts, reads them in its order, and
/// knows nothing else of them.
///
/// # Contract
///
/// * [`read`](Self::read) takes its tables out of the document and leaves its mistakes there. It returns something whatever
///   it finds: what it returns is only used when the whole policy has no mistake.
/// * It reads no table that another part has but for keys of its own, and of `nouns` only what it needs.
pub trait Part: Any + Debug + Send + Sync {
    /// Reads it. `nouns` are those that all parts share.
    fn read(document: &mut Document, nouns: &Nouns) -> Self
    where
        Self: Sized;

    /// Its chapters of `docs/policy.md`.
    fn reference() -> Vec<SectionDoc>
    where
        Self: Sized;

    /// Adds to the public form of the policy what everybody may know of this part: probes, findings with their titles,
    /// promises. No host, no address, no person.
    fn publish(&self, _public: &mut Applied) {}

    /// Sets the revision of the sound policy. Called once, before the part is used.
    fn set_revision(&mut self, _revision: &str) {}

    /// Keys that are read at the start only, each as people would say it (`listen in [pages]`), with its value.
    fn fixed(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What it declares that this release does nothing with, so that nobody believes that it works.
    fn unused(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// What is sound and may still surprise, each in a sentence without a full stop: `garant check` shows it.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What can't be read on this host of the files that it names, each with file, line and cause. A reload says so.
    fn unread(&self) -> Vec<String> {
        Vec::new()
    }

    /// How far back it looks into the journal: evidence must be kept for longer.
    fn looks_back(&self) -> Option<Span> {
        None
    }
}
