//! How each kind of each backup is doing: written by those who work, read by the statement, the door and the figures.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::Watcher;
use event::evidence::Succeeded;
use event::{Span, Time};
use serde::Serialize;

use crate::config::{Kind, Settings};
use crate::inspection::Inspection;
use crate::residency::Residency;

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
    /// Bytes of the last base, snapshot or restore test.
    pub(crate) last_bytes: Option<u64>,
    /// How long it took.
    pub(crate) last_took: Option<Span>,
    /// How old the newest instant was that could be restored when the last restore test began.
    pub(crate) lost: Option<Span>,
    /// Bytes of the log that became durable, since the agent started.
    pub(crate) log_bytes: u64,
    /// Successes and failures since then.
    pub(crate) successes: u64,
    pub(crate) failures: u64,
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
    /// Logs that have a gap, by backup; `None` of one that was looked at and has none.
    broken: BTreeMap<String, Option<String>>,
    /// What the last check of each backup found.
    inspections: BTreeMap<String, Inspection>,
    /// What buckets lack, by copy.
    lacking: BTreeMap<String, Vec<String>>,
    /// Why no rows of a canary are committed, by backup.
    canaries: BTreeMap<String, String>,
    /// What is wrong with the copies.
    copies: Vec<String>,
    at_copies: AtCopies,
    /// Where they are, once that was looked at.
    residency: Option<Residency>,
    /// Replication slots of backups that have left the policy.
    orphans: Vec<String>,
}

/// How the copies stand, in numbers.
#[derive(Clone, Default, Debug)]
pub(crate) struct AtCopies {
    /// Whether each is left alone for now.
    pub(crate) away: BTreeMap<String, bool>,
    /// How many things are wrong that could not be put right.
    pub(crate) wrong: u64,
    /// Objects that were brought to a copy which lacked them, since the agent started.
    pub(crate) levelled: u64,
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
        lines.canaries.clear();
        lines.lacking.clear();
        lines.residency = None;
    }

    /// Forgets everything: nothing is to be backed up any more.
    pub(crate) fn clear(&self) {
        let mut lines = self.lock();
        let orphans = std::mem::take(&mut lines.orphans);
        *lines = Lines { orphans, ..Lines::default() };
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
        // How far a log is, is said anew each time: where the clock was set back, it is not as far as was said before.
        line.succeeded = Some(line.succeeded.filter(|_| kind != Kind::Log).map_or(at, |before| before.max(at)));
        line.successes += 1;
        line.error = None;
        line.doing = None;
        let is_due =
            kind != Kind::Log || lines.said.get(&key).is_none_or(|said| at < *said || at.since(*said) >= SAID_EVERY);
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
            line.failures += 1;
        });
    }

    /// The log of a backup has a gap.
    pub(crate) fn log_broken(&self, name: &str, why: &str) {
        self.lock().broken.insert(name.to_owned(), Some(why.to_owned()));
    }

    /// A base was taken behind the gap.
    pub(crate) fn log_mended(&self, name: &str) {
        self.lock().broken.insert(name.to_owned(), None);
    }

    /// What was received of a log before has no gap.
    pub(crate) fn no_gap_found(&self, name: &str) {
        self.lock().broken.entry(name.to_owned()).or_default();
    }

    /// Whether the log of a backup has a gap; `None` while nobody has looked.
    pub(crate) fn is_broken(&self, name: &str) -> Option<bool> {
        self.lock().broken.get(name).map(Option::is_some)
    }

    /// A bucket was tried out, and lacks this.
    pub(crate) fn lacks(&self, copy: String, lacking: Vec<String>) {
        self.lock().lacking.insert(copy, lacking);
    }

    /// What copies lack, in words.
    pub(crate) fn lacking(&self) -> Vec<String> {
        let lines = self.lock();
        let words = lines.lacking.iter().flat_map(|(copy, lacks)| lacks.iter().map(move |it| format!("{copy}: {it}")));
        words.collect()
    }

    /// A check has ended.
    pub(crate) fn inspected(&self, name: &str, found: Inspection) {
        self.lock().inspections.insert(name.to_owned(), found);
    }

    /// What the last check of each backup found.
    pub(crate) fn inspections(&self) -> BTreeMap<String, Inspection> {
        self.lock().inspections.clone()
    }

    /// No row of the canary of a backup was committed, or one was.
    pub(crate) fn canary_wrong(&self, name: &str, why: Option<String>) {
        let mut lines = self.lock();
        match why {
            Some(why) => _ = lines.canaries.insert(name.to_owned(), why),
            None => _ = lines.canaries.remove(name),
        }
    }

    /// Canaries that get no rows, with the reason.
    pub(crate) fn canaries(&self) -> BTreeMap<String, String> {
        self.lock().canaries.clone()
    }

    /// What is wrong with the copies: nothing when it is empty; and how many objects were brought to one that lacked them.
    pub(crate) fn compared(&self, wrong: Vec<String>, levelled: u64) {
        let mut lines = self.lock();
        lines.at_copies.wrong = wrong.len() as u64;
        lines.at_copies.levelled += levelled;
        lines.copies = wrong;
    }

    /// Which copies are left alone for now.
    pub(crate) fn copies_are_away(&self, away: BTreeMap<String, bool>) {
        self.lock().at_copies.away = away;
    }

    /// How the copies stand.
    pub(crate) fn at_copies(&self) -> AtCopies {
        self.lock().at_copies.clone()
    }

    /// Replication slots that nobody needs and that could not be dropped, each with the cause.
    pub(crate) fn orphans(&self, left: Vec<String>) {
        self.lock().orphans = left;
    }

    /// The same.
    pub(crate) fn left_slots(&self) -> Vec<String> {
        self.lock().orphans.clone()
    }

    /// Where the copies are.
    pub(crate) fn resides(&self, seen: Residency) {
        self.lock().residency = Some(seen);
    }

    /// Where the copies are, once that was looked at.
    pub(crate) fn residency(&self) -> Option<Residency> {
        self.lock().residency.clone()
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
        let broken = self.lock().broken.clone();
        broken.into_iter().filter_map(|(name, why)| Some((name, why?))).collect()
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
