//! What the kinds of objective share in the policy: the terms of each, and the windows over which it is judged.

use std::collections::BTreeSet;

use event::policy::Objective;
use event::{Ppb, Span};
use policy::{Section, Table};

/// How much of the window must have been observed for "never" or "always" to mean something, when the policy does not say.
pub(crate) const ENOUGH: Ppb = Ppb::new(990_000_000);

/// Windows shorter than this say nothing: coverage comes by the minute.
pub(crate) const WINDOW_MIN: Span = Span::from_secs(60);

/// Windows longer than this outlive the evidence they would rest on.
pub(crate) const WINDOW_MAX: Span = Span::from_days(1100);

/// The terms of a kind of objective, as the policy writes them: one objective for each window.
pub(crate) trait Terms: Section {
    fn objectives(self) -> Vec<Objective>;
}

/// The windows of an objective: each of them is an objective of its own.
pub(crate) fn windows(table: &mut Table<'_>) -> Option<Vec<Span>> {
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
