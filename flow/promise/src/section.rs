//! `[[promise]]` of the policy: how promises are read and published.

use event::Span;
use event::policy::{Applied, Clause, Promise, Text};
use policy::{Document, Nouns, Part, Section, SectionDoc, Table};

use crate::objective::{self, Objective};
use crate::revision;

/// Most objectives of one promise, windows multiplied out.
pub(crate) const OBJECTIVES_MAX: usize = 64;

/// One `[[promise]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromiseSection {
    /// The promise in its public form, with its revision.
    pub promise: Promise,
}

/// All promises of the policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promises {
    /// The promises in the order of the files.
    pub promises: Vec<Promise>,
}

impl Part for Promises {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        let sections: Vec<PromiseSection> = document.tables("promise");
        Self { promises: sections.into_iter().map(|section| section.promise).collect() }
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<PromiseSection>("promise", true)]
    }

    fn publish(&self, public: &mut Applied) {
        public.promises.extend_from_slice(&self.promises);
    }

    /// The longest window of any objective.
    fn looks_back(&self) -> Option<Span> {
        let objectives = self.promises.iter().flat_map(|promise| &promise.objectives).filter_map(Objective::of);
        objectives.map(|objective| objective.over()).max()
    }
}

impl Section for PromiseSection {
    const ABOUT: &'static str = "\
A sentence to customers, and the figures that would prove it. It needs at least one objective, and is kept when all are. \
Whatever is changed in it makes another revision, whose windows start anew.";

    const EXAMPLE: &'static str = r#"
[[promise]]
id = "AV-1"
text.fr = "Le service est disponible 99,99 % du temps."
text.en = "The service is available 99.99 % of the time."
availability = { service = "shop", at_least = "99.99 %", over = ["180 d", "365 d"] }
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.declare("id", "its name on the pages and in the journal, such as `AV-1`");
        let text: Option<Text> = table.required("text", "the sentence it keeps");
        let given = objective::KEYS.iter().any(|(key, _)| table.has(key));
        let objectives = objective::read(table);
        if !given {
            let such_as = objective::KEYS.first().map(|(key, example)| format!(", such as {key} = {example}"));
            let remedy = format!("add what would prove it{}", such_as.unwrap_or_default());
            table.mistake("", "a promise without an objective can't be proved", remedy);
        }
        if objectives.len() > OBJECTIVES_MAX {
            let reason = format!("{} objectives are too many for one promise", objectives.len());
            table.mistake("", reason, format!("make it several promises, of {OBJECTIVES_MAX} objectives at most"));
            return None;
        }
        let (id, text) = (id?, text?);
        if objectives.is_empty() {
            return None;
        }
        let objectives = objectives.iter().map(Clause::from).collect();
        let mut promise = Promise { revision: String::new(), id, text, objectives };
        promise.revision = revision::of_promise(&promise);
        Some(Self { promise })
    }
}
