//! Destruction of the payloads of one class and day, in steps that survive a crash.
//!
//! A destruction that half happened must neither look like one that did not, nor like payloads kept back. So it has three
//! steps, each of them durable before the next, and a crash anywhere leaves a row of `retained` that says what is left to do:
//!
//! 1. the intention is an entry, in the transaction that notes it in the row;
//! 2. once the intention is published, so that no reader is left without an explanation, rows go, then the key. A day may have
//!    millions of rows, so they go a few thousand at a time, between commits of entries;
//! 3. that it is done is an entry, in the transaction that removes the row.

use event::journal::{Destroyed, DestructionIntended};
use event::{Day, Retention};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::database::{SqliteError, class_number};
use super::own::{OwnEvent, OwnEvents};
use super::transaction::Log;
use super::work::Mark;
use crate::StoreError;

/// Sequences looked at in one step.
const STEP: i64 = 4096;
/// How often truncating the write-ahead log is tried, half a second each, while readers hold it.
const TRUNCATIONS_MAX: u32 = 10;

/// The row of `retained` of a class and day.
struct Found {
    entries: i64,
    first: i64,
    last: i64,
    intended: Option<i64>,
}

fn find(log: &Log, class: Retention, day: Day) -> Result<Option<Found>, SqliteError> {
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Found { entries: row.get(0)?, first: row.get(1)?, last: row.get(2)?, intended: row.get(3)? })
    };
    let sql = "SELECT entries, first, last, intended FROM retained WHERE class = ?1 AND day = ?2";
    Ok(log.conn.query_row(sql, [class_number(class), day.days()], row).optional()?)
}

/// Why nothing of this class and day is ever destroyed, or not yet.
fn refuse(log: &Log, class: Retention, day: Day) -> Option<StoreError> {
    if class == Retention::Permanent {
        return Some(StoreError::KeptForEver { class, day });
    }
    (day >= log.clock.now().day()).then_some(StoreError::DayNotOver { class, day })
}

/// Journals the intention, once. `None` when there is nothing to destroy.
pub(super) fn intend(
    log: &mut Log,
    own: &mut OwnEvents,
    class: Retention,
    day: Day,
) -> Result<Result<Option<u64>, StoreError>, SqliteError> {
    if let Some(refusal) = refuse(log, class, day) {
        return Ok(Err(refusal));
    }
    let Some(found) = find(log, class, day)? else { return Ok(Ok(None)) };
    if let Some(place) = found.intended {
        return Ok(Ok(Some(place.cast_unsigned())));
    }
    let entries = found.entries.cast_unsigned();
    let intended = DestructionIntended { class: class.as_str().to_owned(), day, entries };
    own.append_marking(log, &OwnEvent::Intended(intended), Mark::Intended { class, day }).map(Ok)
}

/// A destruction under way: which entries are left.
pub(super) struct Destruction {
    class: Retention,
    day: Day,
    entries: i64,
    next: i64,
    last: i64,
    truncations: u32,
}

impl Destruction {
    /// Starts the destruction; `None` when there is nothing to destroy (any more).
    pub(super) fn begin(
        log: &Log,
        class: Retention,
        day: Day,
    ) -> Result<Result<Option<Self>, StoreError>, SqliteError> {
        if let Some(refusal) = refuse(log, class, day) {
            return Ok(Err(refusal));
        }
        let Some(Found { entries, first, last, intended }) = find(log, class, day)? else { return Ok(Ok(None)) };
        let published: i64 = log.conn.query_row("SELECT published_size FROM log", [], |row| row.get(0))?;
        if intended.is_none_or(|place| published <= place) {
            return Ok(Err(StoreError::NotAnnounced { class, day }));
        }
        Ok(Ok(Some(Self { class, day, entries, next: first, last, truncations: 0 })))
    }

    /// Destroys some of the payloads. Returns how many entries the whole destruction concerned once all are destroyed.
    pub(super) fn step(&mut self, log: &mut Log, own: &mut OwnEvents) -> Result<Option<u64>, SqliteError> {
        let (class, day) = (self.class, self.day);
        if self.next <= self.last {
            let tx = log.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute(
                "DELETE FROM payload WHERE sequence >= ?1 AND sequence < ?2 AND class = ?3 AND day = ?4",
                params![self.next, self.next + STEP, class_number(class), day.days()],
            )?;
            tx.commit()?;
            self.next += STEP;
            return Ok(None);
        }
        // The rows are overwritten in the database (secure_delete); older versions of their pages may be in its log.
        self.truncations += 1;
        if !truncate_log(log)? && self.truncations < TRUNCATIONS_MAX {
            return Ok(None);
        }
        log.keys.destroy(class, day)?;
        let entries = self.entries.cast_unsigned();
        let destroyed = Destroyed { class: class.as_str().to_owned(), day, entries };
        own.append_marking(log, &OwnEvent::Destroyed(destroyed), Mark::Destroyed { class, day })?;
        Ok(Some(entries))
    }
}

/// Moves the write-ahead log into the database and cuts it to nothing; `false` while a reader needs it.
fn truncate_log(log: &Log) -> Result<bool, SqliteError> {
    log.conn.busy_timeout(std::time::Duration::from_millis(500))?;
    let busy = log.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    log.conn.busy_timeout(super::database::BUSY_TIMEOUT)?;
    Ok(!busy?)
}
