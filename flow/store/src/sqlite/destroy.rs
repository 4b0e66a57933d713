//! Forgetting a day.
//!
//! Rows first, key last: as long as the key is there, a crash leaves something that says there is work to finish. A day may
//! have millions of rows, so they go a few thousand at a time, between commits of entries.

use event::{Day, Retention};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::database::{Failure, class_number};
use super::transaction::Log;
use crate::StoreError;

/// Sequences looked at in one step.
const STEP: i64 = 4096;
/// How often truncating the write-ahead log is tried, half a second each, while readers hold it.
const TRUNCATIONS_MAX: u32 = 10;

/// The destruction of one class and day under way.
pub(super) struct Destruction {
    class: Retention,
    day: Day,
    entries: i64,
    next: i64,
    last: i64,
    truncations: u32,
}

impl Destruction {
    pub(super) fn begin(log: &Log, class: Retention, day: Day) -> Result<Result<Self, StoreError>, Failure> {
        if class == Retention::Permanent {
            return Ok(Err(StoreError::KeptForEver { class, day }));
        }
        if day >= log.clock.now().day() {
            return Ok(Err(StoreError::DayNotOver { class, day }));
        }
        let found: Option<(i64, i64, i64)> = log
            .conn
            .query_row(
                "SELECT entries, first, last FROM retained WHERE class = ?1 AND day = ?2",
                [class_number(class), day.days()],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()?;
        let (entries, next, last) = found.unwrap_or((0, 0, -1));
        Ok(Ok(Self { class, day, entries, next, last, truncations: 0 }))
    }

    /// Does some of it; returns how many entries it concerned when all is done.
    pub(super) fn step(&mut self, log: &mut Log) -> Result<Option<u64>, Failure> {
        if self.next <= self.last {
            let tx = log.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute(
                "DELETE FROM payload WHERE sequence >= ?1 AND sequence < ?2 AND class = ?3 AND day = ?4",
                params![self.next, self.next + STEP, class_number(self.class), self.day.days()],
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
        log.keys.destroy(self.class, self.day)?;
        log.conn.execute(
            "DELETE FROM retained WHERE class = ?1 AND day = ?2",
            [class_number(self.class), self.day.days()],
        )?;
        Ok(Some(self.entries.cast_unsigned()))
    }
}

/// Moves the write-ahead log into the database and cuts it to nothing; `false` while a reader needs it.
fn truncate_log(log: &Log) -> Result<bool, Failure> {
    log.conn.busy_timeout(std::time::Duration::from_millis(500))?;
    let busy = log.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    log.conn.busy_timeout(super::database::BUSY_TIMEOUT)?;
    Ok(!busy?)
}
