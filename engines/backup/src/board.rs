//! How each kind of each backup is doing: written by those who work, read by the statement, the door and the figures.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::Watcher;
use event::evidence::Succeeded;
use event::{Span, Time};
use serde::Serialize;

use crate::config::{Kind, Settings};

/// A log that is shipped every ten seconds is said to be fresh once in this time.
const SAID_EVERY: Span = Span::from_secs(60);

/// What is worked at now.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub(crate) struct Doing {
    pub(crate) step: String,
    pub(crate) done: u64,
    pub(crate) of: Option<u64>,
}

/// How one kind of one backup is doing.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Debug)]
pub(crate) struct Standing {
    /// What the last success is of: everything before this instant is safe, or was restored exactly.
    pub(crate) succeeded: Option<Time>,
    /// Why the last attempt failed; `None` when it did not.
    pub(crate) error: Option<String>,
    /// What has to be mended before it can be relied on, whatever succeeds meanwhile: settings, rights.
    pub(crate) wrong: Vec<String>,
    /// What is worked at now.
    pub(crate) doing: Option<Doing>,
    /// When it is next due.
    pub(crate) due: Option<Time>,
    /// What is to be known beside: warnings, what a restore has shown.
    pub(crate) notes: Vec<String>,
}

impl Standing {
    /// Why it can't be relied on; `None` while it can.
    pub(crate) fn failing(&self) -> Option<String> {
        let all: Vec<&str> = self.error.iter().chain(&self.wrong).map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The board: a line for each kind of each backup.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    of: BTreeMap<(String, Kind), Standing>,
    /// When a success was last said.
    said: BTreeMap<(String, Kind), Time>,
    unsaid: Vec<Succeeded>,
    /// Logs that have a gap, by backup.
    broken: BTreeMap<String, String>,
    /// What is wrong with the copies.
    copies: Vec<String>,
}

impl Board {
    /// A line for each kind of each backup of the policy; what was known of them stays.
    pub(crate) fn configure(&self, settings: &Settings) {
        let mut lines = self.lock();
        let wanted: BTreeMap<(String, Kind), Standing> = settings
            .backups()
            .flat_map(|(name, _, kinds)| kinds.into_iter().map(move |kind| (name.to_owned(), kind)))
            .map(|line| {
                let known = lines.of.remove(&line).unwrap_or_default();
                (line, Standing { doing: None, ..known })
            })
            .collect();
        lines.of = wanted;
    }

    /// Changes a line.
    pub(crate) fn change(&self, name: &str, kind: Kind, change: impl FnOnce(&mut Standing)) {
        if let Some(line) = self.lock().of.get_mut(&(name.to_owned(), kind)) {
            change(line);
        }
    }

    /// A success: everything up to `at` is safe. It is said in its turn.
    pub(crate) fn succeeded(&self, name: &str, kind: Kind, at: Time) {
        let mut lines = self.lock();
        let key = (name.to_owned(), kind);
        let Some(line) = lines.of.get_mut(&key) else { return };
        line.succeeded = Some(line.succeeded.map_or(at, |before| before.max(at)));
        line.error = None;
        line.doing = None;
        let is_due = kind != Kind::Log || lines.said.get(&key).is_none_or(|said| at.since(*said) >= SAID_EVERY);
        if is_due && let Some(probe) = kind.probe(name) {
            lines.said.insert(key, at);
            lines.unsaid.push(Succeeded { probe, at });
        }
    }

    /// A failure.
    pub(crate) fn failed(&self, name: &str, kind: Kind, error: impl Into<String>) {
        self.change(name, kind, |line| {
            line.error = Some(error.into());
            line.doing = None;
        });
    }

    /// The log of a backup has a gap, or has none any more.
    pub(crate) fn log_broken(&self, name: &str, why: Option<String>) {
        let mut lines = self.lock();
        match why {
            Some(why) => _ = lines.broken.insert(name.to_owned(), why),
            None => _ = lines.broken.remove(name),
        }
    }

    /// What is wrong with the copies: nothing when it is empty.
    pub(crate) fn copies_wrong(&self, wrong: Vec<String>) {
        self.lock().copies = wrong;
    }

    /// Successes that were not said yet.
    pub(crate) fn take_unsaid(&self) -> Vec<Succeeded> {
        std::mem::take(&mut self.lock().unsaid)
    }

    /// All lines.
    pub(crate) fn lines(&self) -> BTreeMap<(String, Kind), Standing> {
        self.lock().of.clone()
    }

    /// Logs with a gap, with the reason.
    pub(crate) fn broken(&self) -> BTreeMap<String, String> {
        self.lock().broken.clone()
    }

    /// What is wrong with the copies.
    pub(crate) fn copies(&self) -> Vec<String> {
        self.lock().copies.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes how far work is to the board.
pub(crate) struct OnBoard<'a> {
    pub(crate) board: &'a Board,
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
}

impl Watcher for OnBoard<'_> {
    fn doing(&self, step: &str, done: u64, of: Option<u64>) {
        let doing = Doing { step: step.to_owned(), done, of };
        self.board.change(self.name, self.kind, |line| line.doing = Some(doing));
    }
}
