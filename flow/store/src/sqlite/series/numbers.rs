//! The numbers of series: a row of samples has three bytes for its probe and observer.

use std::collections::HashMap;
use std::path::Path;

use event::{ObserverId, ProbeId};
use rusqlite::{Connection, params};

use super::super::database::SqliteError;
use super::partition::{self, SERIES_MAX};

/// Name of the file with the numbers.
pub(super) const NUMBERS: &str = "series.db";

/// The number of each (probe, observer). A number, once given, means the same for ever.
pub(super) struct Numbers {
    conn: Connection,
    known: HashMap<(ProbeId, ObserverId), i64>,
    /// The first number that is not given yet.
    pub(super) next: i64,
}

impl Numbers {
    pub(super) fn load(dir: &Path) -> Result<Self, SqliteError> {
        let schema = include_str!("../../../migrations/sqlite/series.sql");
        // FULL: samples must never be found under a number that a power loss has taken back.
        let conn = partition::open(&dir.join(NUMBERS), "FULL", schema)?;
        let mut known = HashMap::new();
        {
            let mut statement = conn.prepare("SELECT probe, observer, id FROM series")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (probe, observer): (String, String) = (row.get(0)?, row.get(1)?);
                if let (Ok(probe), Ok(observer)) = (probe.parse(), observer.parse()) {
                    known.insert((probe, observer), row.get(2)?);
                }
            }
        }
        let next = conn.query_row("SELECT coalesce(max(id), 0) + 1 FROM series", [], |row| row.get(0))?;
        Ok(Self { conn, known, next })
    }

    /// The number of that series, given now if it had none; `None` when no numbers are left.
    pub(super) fn of(&mut self, probe: &ProbeId, observer: &ObserverId) -> rusqlite::Result<Option<i64>> {
        let series = (probe.clone(), observer.clone());
        if let Some(number) = self.known.get(&series) {
            return Ok(Some(*number));
        }
        let next = self.next;
        if next >= SERIES_MAX {
            return Ok(None);
        }
        self.conn.execute(
            "INSERT INTO series (id, probe, observer) VALUES (?1, ?2, ?3)",
            params![next, probe.as_str(), observer.as_str()],
        )?;
        self.known.insert(series, next);
        self.next += 1;
        Ok(Some(next))
    }
}
