//! One commit: everything that waits, in one transaction.

use std::collections::HashMap;
use std::io;
use std::mem::take;
use std::sync::Arc;

use event::journal::KeyAnnounced;
use event::{Body as _, BootId, Clock, Day, Observed, ObserverId, Retention};
use journal::note::SigningKey;
use journal::seal::DayKey;
use journal::tree::Frontier;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::database::{SqliteError, class_number};
use super::queries;
use super::work::{Mark, Work};
use crate::keys::KeyRing;
use crate::open_files::OpenFiles;
use crate::sequence::{self, Draft, EntryRow, LogIdentity};
use crate::{Numbers, Row, Step, StoreError};

/// Runs of observers whose numbers are remembered; beyond, all are forgotten and looked up again.
const RUNS_REMEMBERED_MAX: usize = 1024;

/// The log, as its only writer holds it.
pub(super) struct Log {
    pub(super) conn: Connection,
    pub(super) identity: LogIdentity,
    pub(super) keys: Arc<KeyRing>,
    pub(super) files: OpenFiles,
    pub(super) signers: Vec<SigningKey>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) frontier: Frontier,
    pub(super) runs: Runs,
}

impl Log {
    /// Commits all the work or nothing, and sets each answer; an answer may itself be a refusal (a conflict of cursors),
    /// which leaves the rest of the commit as it is.
    pub(super) fn commit(&mut self, works: &mut [Work]) -> Result<(), SqliteError> {
        let committed = self.try_commit(works);
        if committed.is_err() {
            // The cache holds rows that were rolled back.
            self.runs.forget();
        }
        committed
    }

    fn try_commit(&mut self, works: &mut [Work]) -> Result<(), SqliteError> {
        let count = works.iter().map(Work::events).sum();
        let mut draft = Draft::new(&self.identity, self.clock.now(), &self.frontier, count)?;
        let mut new_signers = None;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut appending = Appending { tx: &tx, keys: &self.keys, used: HashMap::new(), announced: None };
        for work in works {
            match work {
                Work::Append { events, reply } => {
                    reply.set(Ok(appending.append(&mut draft, &mut self.runs, take(events))?));
                }
                Work::Step { step, reply } => {
                    if let Some(conflict) = conflict(&tx, step)? {
                        reply.set(Err(conflict));
                        continue;
                    }
                    write_step(&tx, step)?;
                    reply.set(Ok(appending.append(&mut draft, &mut self.runs, take(&mut step.events))?));
                }
                Work::Publish { note, size, reply } => reply.set(publish(&tx, note, *size)?),
                Work::Sign { signers, reply } => {
                    let refused = refuse_keys(&self.signers, signers, &self.identity.origin);
                    reply.set(refused.map_or(Ok(()), |reason| Err(StoreError::Keys { reason })));
                    if reply.is_ok() {
                        new_signers = Some(take(signers));
                    }
                }
                Work::Mark { event, mark, reply } => {
                    let places = appending.append(&mut draft, &mut self.runs, vec![Observed::clone(event)])?;
                    note_mark(&tx, *mark, places.first().copied())?;
                    reply.set(places.first().copied().ok_or(StoreError::Closed));
                }
            }
        }
        let announced = appending.announced;
        appending.finish()?;
        self.runs.store(&tx)?;
        let grown = draft.checkpoint().size > self.frontier.size();
        if grown || new_signers.is_some() {
            store_head(&tx, &draft, new_signers.as_ref().unwrap_or(&self.signers), &self.identity, announced)?;
        }
        tx.commit()?;
        self.frontier = draft.into_frontier();
        if let Some(keys) = new_signers {
            self.signers = keys;
        }
        Ok(())
    }
}

/// The entries of one commit.
struct Appending<'a> {
    tx: &'a Transaction<'a>,
    keys: &'a KeyRing,
    used: HashMap<Retention, Used>,
    /// The last entry that announces a key.
    announced: Option<u64>,
}

/// A key in use, and the entries that it sealed.
struct Used {
    key: DayKey,
    day: Day,
    entries: i64,
    first: i64,
    last: i64,
}

impl Appending<'_> {
    /// Appends the events that are new. Returns their places.
    fn append(
        &mut self,
        draft: &mut Draft<'_>,
        runs: &mut Runs,
        events: Vec<Observed>,
    ) -> Result<Vec<u64>, SqliteError> {
        let mut places = Vec::with_capacity(events.len());
        let mut insert = self.tx.prepare_cached("INSERT INTO entry (sequence, leaf) VALUES (?1, ?2)")?;
        let mut insert_payload =
            self.tx.prepare_cached("INSERT INTO payload (sequence, class, day, sealed) VALUES (?1, ?2, ?3, ?4)")?;
        for event in events {
            if !runs.take(self.tx, &event)? {
                continue;
            }
            let announces = event.kind == KeyAnnounced::KIND.name;
            let EntryRow { sequence, leaf, class, day, sealed } = match self.used.get_mut(&event.retention) {
                Some(used) => {
                    let row = draft.add(event, &used.key)?;
                    used.entries += 1;
                    used.last = row.sequence.cast_signed();
                    row
                }
                None => self.add_first(draft, event)?,
            };
            let place = sequence.cast_signed();
            insert.execute(params![place, leaf])?;
            insert_payload.execute(params![place, class_number(class), day.days(), sealed])?;
            places.push(sequence);
            if announces {
                self.announced = Some(sequence);
            }
        }
        Ok(places)
    }

    /// Appends the first entry of its class in this commit, with a key that is durable before the entry is.
    fn add_first(&mut self, draft: &mut Draft<'_>, event: Observed) -> Result<EntryRow, SqliteError> {
        let (class, day) = (event.retention, draft.day());
        let key = match self.keys.get(class, day)? {
            Some(key) => key,
            None if queries::has_payloads(self.tx, class, day)? => {
                let path = self.keys.path(class, day);
                return Err(io::Error::other(format!("{} is missing: put it back", path.display())).into());
            }
            None => self.keys.create(class, day)?,
        };
        let row = draft.add(event, &key)?;
        let place = row.sequence.cast_signed();
        self.used.insert(row.class, Used { key, day: row.day, entries: 1, first: place, last: place });
        Ok(row)
    }

    fn finish(self) -> Result<(), SqliteError> {
        let mut note = self.tx.prepare_cached(
            "INSERT INTO retained (class, day, entries, first, last) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (class, day) DO UPDATE SET
                entries = entries + excluded.entries, first = min(first, excluded.first), last = max(last, excluded.last)",
        )?;
        for (class, used) in &self.used {
            note.execute(params![class_number(*class), used.day.days(), used.entries, used.first, used.last])?;
        }
        Ok(())
    }
}

/// Notes in the row of a retained day what an entry of the store says of it.
fn note_mark(tx: &Transaction<'_>, mark: Mark, place: Option<u64>) -> Result<(), SqliteError> {
    match mark {
        Mark::Intended { class, day } => tx.execute(
            "UPDATE retained SET intended = ?3 WHERE class = ?1 AND day = ?2",
            params![class_number(class), day.days(), place.map(u64::cast_signed)],
        ),
        Mark::Destroyed { class, day } => {
            tx.execute("DELETE FROM retained WHERE class = ?1 AND day = ?2", params![class_number(class), day.days()])
        }
    }?;
    Ok(())
}

fn store_head(
    tx: &Transaction<'_>,
    draft: &Draft<'_>,
    signers: &[SigningKey],
    identity: &LogIdentity,
    announced: Option<u64>,
) -> Result<(), SqliteError> {
    let mut insert = tx.prepare_cached("INSERT INTO tile_root (level, place, hash) VALUES (?1, ?2, ?3)")?;
    for (level, place, hash) in &draft.tile_roots {
        insert.execute(params![level, place.cast_signed(), hash.as_bytes()])?;
    }
    let checkpoint = draft.checkpoint();
    let note = sequence::sign(&checkpoint, signers);
    let size = checkpoint.size.cast_signed();
    tx.prepare_cached(
        "INSERT INTO log (id, installation, origin, size, root, note, announced) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note,
            announced = coalesce(excluded.announced, announced)",
    )?
    .execute(params![
        identity.installation.bytes(),
        identity.origin,
        size,
        checkpoint.root.as_bytes(),
        note,
        announced.map(u64::cast_signed)
    ])?;
    if signers.len() > 1 {
        let vkeys: Vec<_> = signers.iter().map(|key| key.vkey().to_string()).collect();
        // A checkpoint that has the announcement among its entries stays. A later one proves no more, and would always be
        // ahead of the published one.
        tx.prepare_cached(
            "INSERT INTO rotation (vkeys, size, note) VALUES (?1, ?2, ?3)
             ON CONFLICT (vkeys) DO UPDATE SET size = excluded.size, note = excluded.note
             WHERE rotation.size <= (SELECT coalesce(announced, excluded.size) FROM log)",
        )?
        .execute(params![vkeys.join(" "), size, note])?;
    }
    Ok(())
}

/// The conflict, if the cursor is not where the step starts.
fn conflict(tx: &Transaction<'_>, step: &Step) -> Result<Option<StoreError>, SqliteError> {
    let found: Option<i64> = tx
        .prepare_cached("SELECT cursor FROM consumer WHERE name = ?1")?
        .query_row([step.consumer], |row| row.get(0))
        .optional()?;
    let (found, expected) = (found.map(i64::cast_unsigned), step.from);
    Ok((found != expected).then(|| StoreError::Conflict { name: step.consumer.to_owned(), expected, found }))
}

/// Writes the cursor and the rows of a step.
fn write_step(tx: &Transaction<'_>, step: &Step) -> Result<(), SqliteError> {
    tx.prepare_cached(
        "INSERT INTO consumer (name, cursor) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
    )?
    .execute(params![step.consumer, step.to.cast_signed()])?;
    for row in &step.rows {
        match row {
            Row::Put { key, value } => tx
                .prepare_cached(
                    "INSERT INTO consumer_row (consumer, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT (consumer, key) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![step.consumer, key.as_bytes(), value])?,
            Row::Delete { key } => tx
                .prepare_cached("DELETE FROM consumer_row WHERE consumer = ?1 AND key = ?2")?
                .execute(params![step.consumer, key.as_bytes()])?,
        };
    }
    Ok(())
}

fn publish(tx: &Transaction<'_>, note: &str, size: u64) -> Result<Result<(), StoreError>, SqliteError> {
    let own: i64 = tx.query_row("SELECT size FROM log", [], |row| row.get(0))?;
    let own = own.cast_unsigned();
    if size > own {
        return Ok(Err(StoreError::OutOfRange { what: "published size", asked: size, size: own }));
    }
    tx.prepare_cached("UPDATE log SET published_note = ?1, published_size = ?2 WHERE published_size <= ?2")?
        .execute(params![note, size.cast_signed()])?;
    Ok(Ok(()))
}

fn refuse_keys(current: &[SigningKey], wanted: &[SigningKey], origin: &str) -> Option<String> {
    let known = |key: &SigningKey| current.iter().any(|current| current.vkey() == key.vkey());
    sequence::refuse_signers(wanted, origin).or_else(|| {
        (!wanted.iter().any(known))
            .then(|| "none of them is in use: announce the new key beside the old one first".to_owned())
    })
}

/// The numbers taken in each run of each observer: as stored, but for the changes of the transaction under way.
#[derive(Default)]
pub(super) struct Runs {
    known: HashMap<BootId, Vec<Run>>,
    count: usize,
}

struct Run {
    observer: ObserverId,
    taken: Numbers,
    /// Whether the transaction under way has changed it.
    changed: bool,
}

impl Runs {
    fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes the number of an event. Returns whether the event is new.
    fn take(&mut self, tx: &Transaction<'_>, event: &Observed) -> Result<bool, SqliteError> {
        if self.count >= RUNS_REMEMBERED_MAX {
            self.store(tx)?;
            self.forget();
        }
        let of_boot = self.known.entry(event.boot).or_default();
        let position = if let Some(known) = of_boot.iter().position(|run| run.observer == event.observer) {
            known
        } else {
            of_boot.push(Run::find(tx, &event.observer, event.boot)?);
            self.count += 1;
            of_boot.len() - 1
        };
        let run = &mut of_boot[position];
        let is_new = run.taken.take(event.sequence);
        run.changed |= is_new;
        Ok(is_new)
    }

    /// Stores the numbers that have changed.
    fn store(&mut self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut insert = tx.prepare_cached(
            "INSERT INTO run (observer, boot, taken) VALUES (?1, ?2, ?3)
             ON CONFLICT (observer, boot) DO UPDATE SET taken = excluded.taken",
        )?;
        for (boot, runs) in &mut self.known {
            for run in runs.iter_mut().filter(|run| run.changed) {
                insert.execute(params![run.observer.as_str(), boot.bytes(), run.taken.encode()])?;
                run.changed = false;
            }
        }
        Ok(())
    }
}

impl Run {
    fn find(tx: &Transaction<'_>, observer: &ObserverId, boot: BootId) -> Result<Self, SqliteError> {
        let stored: Option<Vec<u8>> = tx
            .prepare_cached("SELECT taken FROM run WHERE observer = ?1 AND boot = ?2")?
            .query_row(params![observer.as_str(), boot.bytes()], |row| row.get(0))
            .optional()?;
        let taken = stored.map_or_else(|| Some(Numbers::default()), |bytes| Numbers::decode(&bytes));
        let damaged = || io::Error::other(format!("which events of `{observer}` are recorded can't be read"));
        Ok(Self { observer: observer.clone(), taken: taken.ok_or_else(damaged)?, changed: false })
    }
}
