//! The saved form of the fold: rows under keys, from which a restart goes on.
//!
//! | key | holds |
//! |---|---|
//! | `judge` | the versions of rules and format, the entries read, from when on everything is remembered |
//! | `declared/…` | what the policies declared |
//! | `observer/<name>/…` | stretches reported by an observer |
//! | `vantage/<name>/…` | when the clock of a vantage stepped |
//! | `services/…` | since when each service has been in its state, and each finding open |
//! | `tracks/<bucket>/…` | what observers said of probes; pairs are spread over a fixed number of buckets |
//!
//! A part that is longer than a row takes several, numbered. Only rows whose bytes changed are handed out. Rows of another format
//! are no fault: the log is read again from its first entry.

use std::collections::{BTreeMap, BTreeSet};

use event::{ObserverId, ProbeId, Spans, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::judge::Judge;
use crate::observed::{Observations, Reports, Track};
use crate::services::{SavedStandings, Standings};
use crate::{EVALUATOR, declared};

/// Version of the rows, raised whenever a type in them changes.
const FORMAT: u32 = 8;

/// Longest row, in bytes: a quarter of what a store takes. A save writes mostly the last row of each long list, so shorter rows make
/// it smaller.
const ROW_BYTES_MAX: usize = 16 * 1024;

/// Number of buckets over which the pairs of observer and probe are spread.
const BUCKETS: u64 = 256;

/// The key of the row without which the others are nothing: it has the version and the cursor.
const HEAD: &str = "judge";

/// A row that changed: its key, and its value or `None` when it is to be removed.
pub type ChangedRow = (String, Option<Vec<u8>>);

/// The parts of the fold that changed since rows were last handed out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaved {
    declared: bool,
    observers: BTreeSet<ObserverId>,
    vantages: BTreeSet<String>,
    buckets: BTreeSet<u64>,
    /// A digest of each row that was handed out.
    rows: BTreeMap<String, u64>,
}

impl Unsaved {
    pub(crate) fn declared(&mut self) {
        self.declared = true;
    }

    pub(crate) fn observer(&mut self, observer: &ObserverId) {
        if !self.observers.contains(observer) {
            self.observers.insert(observer.clone());
        }
    }

    pub(crate) fn vantage(&mut self, observer: &ObserverId) {
        self.vantages.insert(observer.vantage().to_owned());
    }

    pub(crate) fn track(&mut self, observer: &ObserverId, probe: &ProbeId) {
        self.buckets.insert(bucket(observer, probe));
    }

    pub(crate) fn all_observed(&mut self, observed: &Observations) {
        self.observers.extend(observed.reports().map(|(observer, _)| observer.clone()));
        self.vantages.extend(observed.vantages().cloned());
        self.buckets.extend(0..BUCKETS);
    }
}

/// FNV-1a: the same in every release, which a hash of the standard library need not be.
fn digest<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn bucket(observer: &ObserverId, probe: &ProbeId) -> u64 {
    digest(observer.as_str().as_bytes().iter().chain(b"/").chain(probe.as_str().as_bytes())) % BUCKETS
}

/// The row under [`HEAD`].
#[derive(Serialize, Deserialize)]
struct HeadRow {
    evaluator: u32,
    format: u32,
    next: u64,
    since: Time,
}

/// An error: these rows are not a fold of this release, or not a whole one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the saved state of the judge can't be read: {0}; the log is read again from its first entry")]
pub struct NotAFold(String);

impl Judge {
    /// The rows that changed since this was last called. The caller saves all of them together, with [`next`](Self::next) as the
    /// cursor. No value is longer than 16 KiB.
    ///
    /// # Errors
    ///
    /// Something can't be written as JSON, which no fold comes to.
    pub fn changed_parts(&mut self) -> Result<Vec<ChangedRow>, serde_json::Error> {
        let mut changed = Vec::new();
        let Self { next, since, declared, observed, standings, unsaved, .. } = self;
        put(&mut changed, &mut unsaved.rows, "services", &standings.to_json()?);
        if std::mem::take(&mut unsaved.declared) {
            put(&mut changed, &mut unsaved.rows, "declared", &serde_json::to_vec(declared)?);
        }
        for observer in std::mem::take(&mut unsaved.observers) {
            let key = format!("observer/{observer}");
            let bytes = observed.reports_of(&observer).map(serde_json::to_vec).transpose()?.unwrap_or_default();
            put(&mut changed, &mut unsaved.rows, &key, &bytes);
        }
        for vantage in std::mem::take(&mut unsaved.vantages) {
            let key = format!("vantage/{vantage}");
            let bytes = observed.stepped(&vantage).map(serde_json::to_vec).transpose()?.unwrap_or_default();
            put(&mut changed, &mut unsaved.rows, &key, &bytes);
        }
        let wanted = std::mem::take(&mut unsaved.buckets);
        let mut buckets: BTreeMap<u64, Vec<(&ObserverId, &ProbeId, &Track)>> =
            wanted.into_iter().map(|bucket| (bucket, Vec::new())).collect();
        for (observer, probe, track) in observed.tracks() {
            if let Some(tracks) = buckets.get_mut(&bucket(observer, probe)) {
                tracks.push((observer, probe, track));
            }
        }
        for (bucket, tracks) in buckets {
            let bytes = if tracks.is_empty() { Vec::new() } else { serde_json::to_vec(&tracks)? };
            put(&mut changed, &mut unsaved.rows, &format!("tracks/{bucket:02x}"), &bytes);
        }
        let head = HeadRow { evaluator: EVALUATOR, format: FORMAT, next: *next, since: *since };
        changed.push((HEAD.to_owned(), Some(serde_json::to_vec(&head)?)));
        Ok(changed)
    }

    /// The fold that these rows hold, saved under the cursor `next`.
    ///
    /// # Errors
    ///
    /// They are those of another release, or something of them is missing.
    pub fn from_parts(next: u64, rows: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, NotAFold> {
        let mut rows: BTreeMap<String, Vec<u8>> = rows.into_iter().collect();
        let head = rows.remove(HEAD).ok_or_else(|| NotAFold("it has no head".to_owned()))?;
        let head: HeadRow = read(HEAD, &head)?;
        if (head.evaluator, head.format, head.next) != (EVALUATOR, FORMAT, next) {
            return Err(NotAFold(format!("it is of evaluator {}, format {}", head.evaluator, head.format)));
        }
        let mut judge = Self::default();
        (judge.next, judge.since) = (next, head.since);
        judge.unsaved.rows = rows.iter().map(|(key, value)| (key.clone(), digest(value))).collect();
        let mut parts: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (key, value) in &rows {
            let (part, number) = key.rsplit_once('/').ok_or_else(|| NotAFold(format!("it has a row `{key}`")))?;
            let part = parts.entry(part).or_default();
            if number.parse() != Ok(part.len() / ROW_BYTES_MAX) {
                return Err(NotAFold(format!("a row before `{key}` is missing")));
            }
            part.extend_from_slice(value);
        }
        let mut standings = SavedStandings::default();
        for (key, bytes) in parts {
            match key.split_once('/') {
                None if key == "declared" => judge.declared = read::<declared::Declarations>(key, &bytes)?.shared(),
                None if key == "services" => standings = read::<SavedStandings>(key, &bytes)?,
                Some(("observer", observer)) => {
                    let observer = observer.parse().map_err(|error| NotAFold(format!("{error}")))?;
                    judge.observed.restore_reports(observer, read::<Reports>(key, &bytes)?);
                }
                Some(("vantage", vantage)) => judge.observed.restore_stepped(vantage, read::<Spans>(key, &bytes)?),
                Some(("tracks", _)) => {
                    for (observer, probe, track) in read::<Vec<(ObserverId, ProbeId, Track)>>(key, &bytes)? {
                        judge.observed.restore_track(observer, probe, track);
                    }
                }
                _ => return Err(NotAFold(format!("it has a row `{key}`"))),
            }
        }
        judge.standings = Standings::restore(&judge.declared, &judge.observed, standings);
        Ok(judge)
    }
}

fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, NotAFold> {
    serde_json::from_slice(bytes).map_err(|error| NotAFold(format!("`{key}`: {error}")))
}

/// The rows of a part that differ from those handed out before; a part without bytes has none.
fn put(changed: &mut Vec<ChangedRow>, rows: &mut BTreeMap<String, u64>, part: &str, bytes: &[u8]) {
    let mut count = 0;
    for (number, row) in bytes.chunks(ROW_BYTES_MAX).enumerate() {
        let key = format!("{part}/{number:05}");
        let digest = digest(row);
        if rows.insert(key.clone(), digest) != Some(digest) {
            changed.push((key, Some(row.to_vec())));
        }
        count = number + 1;
    }
    loop {
        let key = format!("{part}/{count:05}");
        if rows.remove(&key).is_none() {
            return;
        }
        changed.push((key, None));
        count += 1;
    }
}
