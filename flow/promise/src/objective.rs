//! What may be promised: one file per kind of objective.
//!
//! A new kind is one file here and one line in `objectives!`, and its rule in `docs/evaluator.md`. The policy, the fold, the
//! pages and `verify` get from here what they need to know of it.

use std::collections::BTreeSet;

use event::policy::Clause;
use event::{Ppb, Span};
use policy::{Section, Table};
use serde::{Deserialize, Serialize};

use crate::lines::Subject;
use crate::ruling::{Case, Ruling};

/// How much of the window must have been observed for "never" or "always" to mean something, when the policy does not say.
pub(crate) const ENOUGH: Ppb = Ppb::new(990_000_000);

/// Windows shorter than this say nothing: coverage comes by the minute.
pub(crate) const WINDOW_MIN: Span = Span::from_secs(60);

/// Windows longer than this outlive the evidence they would rest on.
pub(crate) const WINDOW_MAX: Span = Span::from_days(1100);

/// One objective of a promise: what is measured, over which window, and what figure is promised.
pub(crate) trait Rule {
    /// Length of the window that it is judged over.
    fn over(&self) -> Span;

    /// Whose evidence it is judged by. The window ends where the records of these probes end.
    fn subject(&self) -> Subject;

    /// What is promised of the figure.
    fn promised(&self) -> Promised;

    /// Whether announced maintenance of the subject does not count.
    fn sets_maintenance_apart(&self) -> bool {
        false
    }

    /// The verdict on it in this case.
    fn judge(&self, case: &mut Case<'_>) -> Ruling;
}

/// A kind of objective: how the policy writes it, and what it is called.
///
/// In the journal it is its fields after a member `objective` that names the kind, integers and names only. A key more or less
/// makes it an objective of another release, so each denies unknown fields.
pub(crate) trait Kind: Rule + Sized {
    /// What it promises, in a sentence of Markdown for the reference of the policy.
    const ABOUT: &'static str;
    /// The same in a few words, where it stands as a key of a promise.
    const DOC: &'static str;
    /// A value of that key.
    const EXAMPLE: &'static str;
    /// What the figure is, in French and in English, as it begins "… over 30 days".
    const MEASURE: [&'static str; 2];

    /// Reads the table of it, one objective for each [window](windows).
    fn read(table: &mut Table<'_>) -> Option<Vec<Self>>;
}

/// What is promised of a figure, for whoever puts it into words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promised {
    /// A share of the time, or more.
    AtLeast(Ppb),
    /// A length of time, or less.
    AtMost(Span),
    /// Without exception, with at least this share of the time observed.
    Always(Ppb),
    /// Never, with at least this share of the time observed.
    Never(Ppb),
}

/// Each kind is the name of its file, which is its key in a promise and its word in the journal, and its type.
macro_rules! objectives {
    ($($name:ident: $kind:ident;)*) => {
        $(
            mod $name;
            pub use $name::$kind;
        )*

        /// An objective that this release knows.
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
        #[serde(tag = "objective", rename_all = "snake_case")]
        pub enum Objective {$(
            #[doc = concat!("`", stringify!($name), " = { … }` of a promise.")]
            $kind($kind),
        )*}

        impl Objective {
            fn rule(&self) -> &dyn Rule {
                match self {$(Self::$kind(objective) => objective,)*}
            }

            /// What the figure is, in French and in English, as it begins "… over 30 days".
            pub const fn measure(&self) -> [&'static str; 2] {
                match self {$(Self::$kind(_) => $kind::MEASURE,)*}
            }
        }

        $(impl From<$kind> for Objective {
            fn from(objective: $kind) -> Self {
                Self::$kind(objective)
            }
        })*

        /// The keys of a promise that are objectives, each with an example, in the order in which they stand in its public form.
        pub(crate) const KEYS: &[(&str, &str)] = &[$((stringify!($name), $kind::EXAMPLE)),*];

        /// Reads all objectives of a promise, in the order of [`KEYS`].
        pub(crate) fn read(table: &mut Table<'_>) -> Vec<Objective> {
            let read = [$(read_kind::<$kind>(table, stringify!($name))),*];
            read.concat()
        }
    };
}

objectives! {
    availability: Availability;
    freshness: Freshness;
    coverage: Coverage;
    configuration: Configuration;
    absence: Absence;
}

impl Objective {
    /// The objective that a clause of a public policy is; `None` when this release does not know it, or one of its keys: then
    /// it can't judge it.
    pub fn of(clause: &Clause) -> Option<Self> {
        serde_json::from_str(clause.json()).ok()
    }

    /// Length of the window that it is judged over.
    pub fn over(&self) -> Span {
        self.rule().over()
    }

    /// Whose evidence it is judged by.
    pub fn subject(&self) -> Subject {
        self.rule().subject()
    }

    /// What is promised of the figure.
    pub fn promised(&self) -> Promised {
        self.rule().promised()
    }

    pub(crate) fn sets_maintenance_apart(&self) -> bool {
        self.rule().sets_maintenance_apart()
    }

    pub(crate) fn judge(&self, case: &mut Case<'_>) -> Ruling {
        self.rule().judge(case)
    }
}

impl From<&Objective> for Clause {
    fn from(objective: &Objective) -> Self {
        Self::of(objective)
    }
}

/// The windows of one table of a promise: each of them is an objective of its own.
struct Windows<K>(Vec<K>);

impl<K: Kind> Section for Windows<K> {
    const ABOUT: &'static str = K::ABOUT;
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        K::read(table).map(Self)
    }
}

fn read_kind<K: Kind + Into<Objective>>(table: &mut Table<'_>, key: &'static str) -> Vec<Objective> {
    // An empty list is a mistake, an absent one is not.
    let given = if table.has(key) {
        table.required_list::<Windows<K>>(key, K::DOC).unwrap_or_default()
    } else {
        table.list(key, K::DOC)
    };
    given.into_iter().flat_map(|Windows(objectives)| objectives).map(Into::into).collect()
}

/// The windows of an objective, each given once.
fn windows(table: &mut Table<'_>) -> Option<Vec<Span>> {
    let doc = "the length of the window that is looked back over; of a list, each is judged by itself";
    let windows = table.required_list_in("over", &(WINDOW_MIN..=WINDOW_MAX), doc)?;
    let mut seen = BTreeSet::new();
    for window in &windows {
        if !seen.insert(*window) {
            table.mistake("over", format!("`over` has {window} twice"), "remove one of them");
            return None;
        }
    }
    Some(windows)
}
