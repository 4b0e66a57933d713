//! The kinds of objectives: one file each.
//!
//! A new kind is one file here and one line in `objectives!`, and its rule in `docs/evaluator.md`. The policy and its reference,
//! the fold, the pages and `verify` get what they need of it from the traits [`Rule`] and [`ObjectiveKind`].

use std::collections::BTreeSet;

use event::evidence::Counted;
use event::policy::Clause;
use event::{Ppb, ServiceId, Span};
use policy::{Section, Table};
use serde::{Deserialize, Serialize};

use crate::lines::Subject;
use crate::ruling::{Case, Ruling};

/// Share of the window that must have been observed for "never" or "always" to be kept, where the policy names none.
pub(crate) const ENOUGH: Ppb = Ppb::new(990_000_000);

/// Shortest window: coverage is recorded by the minute.
pub(crate) const WINDOW_MIN: Span = Span::from_secs(60);

/// Longest window: by default, evidence is kept for as long.
pub(crate) const WINDOW_MAX: Span = Span::from_days(1100);

/// The rule by which an objective is judged. Called by the fold, for each objective in effect.
pub(crate) trait Rule {
    /// The service, probe or finding whose evidence is judged. The window ends where the records of its probes end.
    fn subject(&self) -> Subject;

    /// The promise on the figure, for people.
    fn promised(&self) -> Promised;

    /// The records that the window waits for.
    fn records(&self) -> Records {
        Records::Covered
    }

    /// Whether announced maintenance of the subject does not count.
    fn sets_maintenance_apart(&self) -> bool {
        false
    }

    /// The ruling on this objective: a function of the case alone.
    fn judge(&self, case: &mut Case<'_>) -> Ruling;
}

/// The records that say up to when something is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Records {
    /// Those of what was observed.
    Covered,
    /// Counts of requests.
    Counted,
}

impl Records {
    /// The most that lies between two of them, of a probe that is looked at this often.
    pub(crate) fn every(self, every: Span) -> Span {
        match self {
            Self::Covered => every,
            Self::Counted => every.max(Counted::EVERY),
        }
    }
}

/// A kind of objective: how the policy writes it, and its names in both languages.
///
/// In the journal an objective is an object: a member `objective` that names the kind, then its fields, integers and names only.
/// One more key, or one less, is an objective of another release, so each struct denies unknown fields. Each has a field `over`,
/// the length of its window.
pub(crate) trait ObjectiveKind: Rule + Sized {
    /// The promise in a sentence of Markdown, for the reference of the policy.
    const ABOUT: &'static str;
    /// The same in a few words, where it stands as a key of a promise.
    const DOC: &'static str;
    /// A value of that key, in TOML.
    const EXAMPLE: &'static str;
    /// The name of the figure in French and in English, the beginning of "… over 30 days".
    const MEASURE: [&'static str; 2];

    /// The same, of this one.
    fn measure(&self) -> [&'static str; 2] {
        Self::MEASURE
    }

    /// Reads the value of the key: an objective for each of its [windows]. `None` after a mistake, which `table` has.
    fn read(table: &mut Table<'_>) -> Option<Vec<Self>>;
}

/// The promise on the figure of an objective, for pages and messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promised {
    /// The figure is this share of the time, or more.
    AtLeast(Ppb),
    /// The figure is this length of time, or less.
    AtMost(Span),
    /// Without exception, with at least this share of the time observed.
    Always(Ppb),
    /// Never, with at least this share of the time observed.
    Never(Ppb),
}

/// Makes the enum `Objective` of a list of `name: Type`. The name is that of the file, the key in a `[[promise]]` and the value of
/// the member `objective` in the journal.
macro_rules! objectives {
    ($($name:ident: $kind:ident;)*) => {
        $(
            mod $name;
            pub use $name::$kind;
        )*
        pub use reaction::Answered;
        pub use restore::Limit;

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

            /// The length of the window that is judged.
            pub const fn over(&self) -> Span {
                match self {$(Self::$kind(objective) => objective.over,)*}
            }

            /// The key in a promise, `availability` say.
            pub const fn key(&self) -> &'static str {
                match self {$(Self::$kind(_) => stringify!($name),)*}
            }

            /// The name of the figure in French and in English, the beginning of "… over 30 days".
            pub fn measure(&self) -> [&'static str; 2] {
                match self {$(Self::$kind(objective) => ObjectiveKind::measure(objective),)*}
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
    reaction: Reaction;
    restore: Restore;
    requests: Requests;
}

impl Objective {
    /// Reads a clause of a public policy; `None` when this release does not know its kind or one of its keys, and so can't judge
    /// it.
    pub fn of(clause: &Clause) -> Option<Self> {
        serde_json::from_str(clause.json()).ok()
    }

    /// The service, probe or finding whose evidence is judged.
    pub fn subject(&self) -> Subject {
        self.rule().subject()
    }

    /// The promise on the figure.
    pub fn promised(&self) -> Promised {
        self.rule().promised()
    }

    pub(crate) fn records(&self) -> Records {
        self.rule().records()
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

/// The objectives of one table of a promise: one for each of its windows.
struct Windows<K>(Vec<K>);

impl<K: ObjectiveKind> Section for Windows<K> {
    const ABOUT: &'static str = K::ABOUT;
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        K::read(table).map(Self)
    }
}

/// Reads all objectives of one kind, which is the key `key` of a promise: a table, or a list of tables.
fn read_kind<K: ObjectiveKind + Into<Objective>>(table: &mut Table<'_>, key: &'static str) -> Vec<Objective> {
    // An empty list is a mistake, an absent one is not.
    let given = if table.has(key) {
        table.required_list::<Windows<K>>(key, K::DOC).unwrap_or_default()
    } else {
        table.list(key, K::DOC)
    };
    given.into_iter().flat_map(|Windows(objectives)| objectives).map(Into::into).collect()
}

/// Reads a table that promises a share of the time of a service: `service`, `at_least` (documented by `at_least_doc`) and `over`.
fn read_share<K>(
    table: &mut Table<'_>,
    at_least_doc: &'static str,
    objective: impl Fn(ServiceId, Ppb, Span) -> K,
) -> Option<Vec<K>> {
    let service: Option<ServiceId> = table.required("service", "which service");
    let at_least = table.required("at_least", at_least_doc);
    let over = windows(table);
    let (service, at_least) = (service?, at_least?);
    above_zero(table, "at_least", at_least, "0 % is kept whatever happens, so nothing is promised")?;
    Some(over?.into_iter().map(|over| objective(service.clone(), at_least, over)).collect())
}

/// Reads `observed`: the share of the window without which no promise about it is kept.
fn observed(table: &mut Table<'_>, doc: &'static str) -> Option<Ppb> {
    let observed = table.or("observed", ENOUGH, doc);
    above_zero(table, "observed", observed, "nothing would have to be observed, and what nobody observed is unproven")
}

/// A share that promises something; `reason` says what one of 0 % would mean.
fn above_zero(table: &mut Table<'_>, key: &'static str, share: Ppb, reason: &'static str) -> Option<Ppb> {
    if share == Ppb::ZERO {
        table.mistake(key, reason, format!("write a share above 0 %, such as {key} = \"99 %\""));
        return None;
    }
    Some(share)
}

/// Reads `over`: the lengths of the windows of an objective, no two the same.
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
