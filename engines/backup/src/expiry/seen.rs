//! Which snapshots of files and full bases there are, and since when, as the server has seen it itself.
//!
//! The name of a snapshot is a digest: it says nothing of its age, and what is in it was written by the host. So the server keeps in
//! its own store when it first saw each name in a listing, by a clock that was steady then. A host can make a snapshot no older by
//! anything that it writes. A snapshot that was destroyed is remembered for a while longer: one that comes back, out of a copy that
//! was away or by somebody's hand, is destroyed again, and is no new one.
//!
//! The name of a base does say its age, and the one before it goes once it is old enough. So it is no older than the server has seen
//! it: else one that a host puts there in the name of an old time would have others destroyed at once. Of a backup of which the server
//! knows nothing yet, the names are believed once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use event::{Observed, Span, Time};
use serde::{Deserialize, Serialize};
use store::{Consumers, KEY_BYTES_MAX, ROWS_MAX, Row, Step, StoreError};

use crate::retention::backup_of;

/// Name of the consumer whose rows these are.
const CONSUMER: &str = "expiry";
/// What the keys of snapshots begin with.
const SNAPSHOTS: &str = "snapshot/";
/// What the keys of folders of databases begin with.
const FOLDERS: &str = "folder/";
/// What the keys of objects begin with that are hidden until their locks end.
const HIDDEN: &str = "hidden/";
/// Most snapshots, or folders, of one backup that are remembered: four a day for ten years.
const SNAPSHOTS_MAX: usize = 16_384;

/// What is known of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Known {
    /// When it was first seen.
    seen: Time,
    /// When it was destroyed, with all that it alone held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destroyed: Option<Time>,
}

/// All that was seen.
pub(super) struct Seen {
    rows: Arc<dyn Consumers>,
    /// By backup and identifier.
    known: BTreeMap<(String, String), Known>,
    /// When folders of databases were first seen: full bases, and what has a name of the future; by backup and folder.
    folders: BTreeMap<(String, String), Time>,
    /// Objects that are hidden, by copy and name, and when their locks end.
    hidden: BTreeMap<(String, String), Time>,
}

/// What is due of one backup.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct DueSnapshots {
    /// Snapshots that were kept for long enough.
    pub(super) expired: BTreeSet<String>,
    /// Since when the first of them is due.
    pub(super) since: Option<Time>,
    /// Snapshots that have to be there.
    pub(super) kept: BTreeSet<String>,
}

impl Seen {
    /// Reads what was seen before this start.
    pub(super) async fn read(rows: Arc<dyn Consumers>) -> Result<Self, StoreError> {
        let known = read(&*rows, SNAPSHOTS).await?;
        let folders = read(&*rows, FOLDERS).await?;
        let hidden = read(&*rows, HIDDEN).await?;
        Ok(Self { rows, known, folders, hidden })
    }

    /// When a folder of a database was first seen.
    pub(super) fn folder(&self, folder: &str) -> Option<Time> {
        self.folders.get(&(backup_of(folder)?.to_owned(), folder.to_owned())).copied()
    }

    /// Writes down which folders of a backup are listed that were not seen before, each with the time at which it was seen, and forgets
    /// those that are gone where `all` says that nothing is hidden by a copy that is away. Says whether there are more than can be
    /// remembered.
    pub(super) async fn see_folders(
        &mut self,
        backup: &str,
        listed: &BTreeMap<&str, Time>,
        all: bool,
    ) -> Result<bool, StoreError> {
        let from = (backup.to_owned(), String::new());
        let known: BTreeSet<String> =
            self.folders.range(from..).take_while(|((of, _), _)| of == backup).map(|((_, it), _)| it.clone()).collect();
        let gone: Vec<&String> = known.iter().filter(|it| all && !listed.contains_key(it.as_str())).collect();
        let room = SNAPSHOTS_MAX.saturating_sub(known.len());
        let key = |folder: &str| format!("{FOLDERS}{backup}/{folder}");
        // A longer name is none of ours, and one that is not remembered replaces nothing.
        let is_new = |(folder, _): &(&&str, &Time)| !known.contains(**folder) && key(folder).len() <= KEY_BYTES_MAX;
        let new: Vec<(&str, Time)> = listed.iter().filter(is_new).map(|(folder, at)| (*folder, *at)).collect();
        let too_many = new.len() > room;
        let put = |(folder, at): &(&str, Time)| Row::Put {
            key: key(folder),
            value: serde_json::to_vec(at).unwrap_or_default(),
        };
        let mut rows: Vec<Row> = gone.iter().map(|folder| Row::Delete { key: key(folder) }).collect();
        rows.extend(new.iter().take(room).map(put));
        while !rows.is_empty() {
            let some = rows.drain(..rows.len().min(ROWS_MAX)).collect();
            self.step(some, Vec::new()).await?;
        }
        for folder in gone {
            self.folders.remove(&(backup.to_owned(), folder.clone()));
        }
        self.folders.extend(new.into_iter().take(room).map(|(it, at)| ((backup.to_owned(), it.to_owned()), at)));
        Ok(too_many)
    }

    /// Whether any folder of a backup was seen before.
    pub(super) fn knows(&self, backup: &str) -> bool {
        let from = (backup.to_owned(), String::new());
        self.folders.range(from..).next().is_some_and(|((of, _), _)| of == backup)
    }

    /// The objects at a copy whose locks have ended, and when.
    pub(super) fn unlocked(&self, copy: &str, now: Time) -> Vec<(String, Time)> {
        let of_copy = self.hidden.iter().filter(|((of, _), until)| of == copy && **until < now);
        of_copy.map(|((_, object), until)| (object.clone(), *until)).collect()
    }

    /// Writes down that an object that was hidden is gone.
    pub(super) async fn gone(&mut self, copy: &str, object: &str) -> Result<(), StoreError> {
        self.step(vec![Row::Delete { key: format!("{HIDDEN}{copy}/{object}") }], Vec::new()).await?;
        self.hidden.remove(&(copy.to_owned(), object.to_owned()));
        Ok(())
    }

    /// Writes down what is listed of a backup and was not seen before. What was destroyed longer than `remembered` ago is forgotten.
    /// Says whether there are more than can be remembered: then some of them are not.
    pub(super) async fn see(
        &mut self,
        backup: &str,
        listed: &BTreeSet<String>,
        now: Time,
        remembered: Span,
    ) -> Result<bool, StoreError> {
        let of_backup = self.of(backup).map(|(id, known)| (id.to_owned(), *known)).collect::<BTreeMap<_, _>>();
        let room = SNAPSHOTS_MAX.saturating_sub(of_backup.len());
        let new = listed.iter().filter(|id| !of_backup.contains_key(*id));
        let mut changes: Vec<(String, Option<Known>)> =
            new.clone().take(room).map(|id| (id.clone(), Some(Known { seen: now, destroyed: None }))).collect();
        let is_old = |known: &Known| known.destroyed.is_some_and(|destroyed| now.since(destroyed) > remembered);
        let forgotten = of_backup.iter().filter(|(id, known)| is_old(known) && !listed.contains(*id));
        changes.extend(forgotten.map(|(id, _)| (id.clone(), None)));
        let too_many = new.count() > room;
        for changes in changes.chunks(ROWS_MAX) {
            self.change(backup, changes, Vec::new()).await?;
        }
        Ok(too_many)
    }

    fn of<'a>(&'a self, backup: &str) -> impl Iterator<Item = (&'a str, &'a Known)> {
        let from = (backup.to_owned(), String::new());
        let backup = backup.to_owned();
        self.known.range(from..).take_while(move |((of, _), _)| *of == backup).map(|((_, id), known)| (&**id, known))
    }

    /// What is due of a backup whose snapshots are kept for `kept`. The newest that was seen never is, where it is `spared`. One that was
    /// destroyed and is listed again is.
    pub(super) fn due(
        &self,
        backup: &str,
        listed: &BTreeSet<String>,
        (kept, spared): (Span, bool),
        now: Time,
    ) -> DueSnapshots {
        let mut due = DueSnapshots::default();
        let live = self.of(backup).filter(|(_, known)| known.destroyed.is_none());
        let newest = live.map(|(_, known)| known.seen).max().filter(|_| spared);
        for (id, known) in self.of(backup) {
            let since = known.seen + kept;
            match known.destroyed {
                Some(_) if !listed.contains(id) => {}
                None if since >= now || Some(known.seen) == newest => drop(due.kept.insert(id.to_owned())),
                _ => {
                    due.since = Some(due.since.map_or(since, |before| before.min(since)));
                    due.expired.insert(id.to_owned());
                }
            }
        }
        due
    }

    /// Writes down what is about to be hidden: at which copy, which object, until when.
    pub(super) async fn hides(&mut self, hidden: Vec<(String, String, Time)>) -> Result<(), StoreError> {
        for hidden in hidden.chunks(ROWS_MAX) {
            let row = |(copy, object, until): &(String, String, Time)| Row::Put {
                key: format!("{HIDDEN}{copy}/{object}"),
                value: serde_json::to_vec(until).unwrap_or_default(),
            };
            self.step(hidden.iter().map(row).collect(), Vec::new()).await?;
            self.hidden.extend(hidden.iter().map(|(copy, object, until)| ((copy.clone(), object.clone()), *until)));
        }
        Ok(())
    }

    /// Writes down that snapshots were destroyed, in one transaction with what is journaled of it.
    pub(super) async fn destroyed(
        &mut self,
        backup: &str,
        ids: &BTreeSet<String>,
        now: Time,
        mut events: Vec<Observed>,
    ) -> Result<(), StoreError> {
        let changes = ids.iter().map(|id| {
            let seen = self.known.get(&(backup.to_owned(), id.clone())).map_or(now, |known| known.seen);
            (id.clone(), Some(Known { seen, destroyed: Some(now) }))
        });
        for changes in changes.collect::<Vec<_>>().chunks(ROWS_MAX) {
            self.change(backup, changes, std::mem::take(&mut events)).await?;
        }
        Ok(())
    }

    async fn change(
        &mut self,
        backup: &str,
        changes: &[(String, Option<Known>)],
        events: Vec<Observed>,
    ) -> Result<(), StoreError> {
        let row = |(id, known): &(String, Option<Known>)| {
            let key = format!("{SNAPSHOTS}{backup}/{id}");
            match known.and_then(|known| serde_json::to_vec(&known).ok()) {
                Some(value) => Row::Put { key, value },
                None => Row::Delete { key },
            }
        };
        self.step(changes.iter().map(row).collect(), events).await?;
        for (id, known) in changes {
            let key = (backup.to_owned(), id.clone());
            match known {
                Some(known) => drop(self.known.insert(key, *known)),
                None => drop(self.known.remove(&key)),
            }
        }
        Ok(())
    }

    async fn step(&self, rows: Vec<Row>, events: Vec<Observed>) -> Result<(), StoreError> {
        let from = self.rows.position(CONSUMER).await?;
        let to = from.map_or(0, |position| position + 1);
        self.rows.step(Step { rows, events, ..Step::new(CONSUMER, from, to) }).await.map(drop)
    }
}

/// The rows whose keys begin with this, by what stands before the first `/` behind it and what stands after.
async fn read<T: serde::de::DeserializeOwned>(
    rows: &dyn Consumers,
    begin: &str,
) -> Result<BTreeMap<(String, String), T>, StoreError> {
    let (mut all, mut after) = (BTreeMap::new(), None::<String>);
    loop {
        let some = rows.rows(CONSUMER, begin, after.as_deref(), ROWS_MAX).await?;
        let Some((last, _)) = some.last() else { return Ok(all) };
        after = Some(last.clone());
        for (key, value) in &some {
            let name = key.strip_prefix(begin).and_then(|name| name.split_once('/'));
            let (Some((of, name)), Ok(value)) = (name, serde_json::from_slice(value)) else { continue };
            all.insert((of.to_owned(), name.to_owned()), value);
        }
    }
}
