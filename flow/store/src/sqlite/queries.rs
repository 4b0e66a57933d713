//! The queries of readers, each within one read transaction.

use std::ops::Range;

use event::{Day, Retention};
use journal::Hash;
use journal::seal;
use journal::tile::{TILE_WIDTH, TileId};
use journal::tree::{self, HashSource};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::database::{class_number, class_of, unreadable};
use crate::keys::KeyRing;
use crate::tiles::Tiles;
use crate::{Entry, Head, Payload, RANGE_MAX, ROWS_MAX, Retained, Select, Selected, StoreError};

/// Payload bytes after which one read of entries ends.
const PAYLOAD_BYTES_PER_READ: usize = 16 * 1024 * 1024;

fn damaged(what: &'static str, reason: impl Into<String>) -> StoreError {
    StoreError::Damaged { what, reason: reason.into() }
}

/// Installation, origin and head; `None` before the first entry.
pub(super) fn log(conn: &Connection) -> Result<Option<([u8; 16], String, Head)>, StoreError> {
    let row = conn
        .prepare_cached("SELECT installation, origin, size, root, note FROM log")
        .and_then(|mut statement| {
            statement
                .query_row([], |row| {
                    let head = (row.get::<_, i64>(2)?, row.get::<_, [u8; 32]>(3)?, row.get::<_, String>(4)?);
                    Ok((row.get(0)?, row.get(1)?, head))
                })
                .optional()
        })
        .map_err(unreadable("the head of the log"))?;
    Ok(row.map(|(installation, origin, (size, root, note))| {
        (installation, origin, Head { size: size.cast_unsigned(), root: Hash::new(root), note })
    }))
}

pub(super) fn head(conn: &Connection) -> Result<Head, StoreError> {
    log(conn)?.map(|(_, _, head)| head).ok_or_else(|| damaged("log", "it has no head"))
}

fn size(conn: &Connection) -> Result<u64, StoreError> {
    let size: i64 = conn
        .prepare_cached("SELECT size FROM log")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(unreadable("the size of the log"))?;
    Ok(size.cast_unsigned())
}

/// Refuses what lies past the end.
fn within(conn: &Connection, what: &'static str, asked: u64) -> Result<(), StoreError> {
    let size = size(conn)?;
    if asked > size { Err(StoreError::OutOfRange { what, asked, size }) } else { Ok(()) }
}

/// Whether a payload of that class and day is stored. Days that are being destroyed have none, and still their row.
pub(super) fn has_payloads(conn: &Connection, class: Retention, day: Day) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM retained JOIN payload
            ON payload.sequence BETWEEN retained.first AND retained.last
            AND payload.class = retained.class AND payload.day = retained.day
         WHERE retained.class = ?1 AND retained.day = ?2)",
    )?
    .query_row(params![class_number(class), day.days()], |row| row.get(0))
}

/// The classes and days that have entries with payloads, or are being destroyed.
pub(super) fn retained(conn: &Connection) -> rusqlite::Result<Vec<(i64, Day)>> {
    conn.prepare("SELECT class, day FROM retained ORDER BY day, class")?
        .query_map([], |row| Ok((row.get(0)?, Day::from_days(row.get(1)?))))?
        .collect()
}

/// Bounds for SQL of a range, cut to [`RANGE_MAX`] and to what an integer of SQL holds.
fn bounds(range: &Range<u64>) -> (i64, i64) {
    let end = range.end.min(range.start.saturating_add(RANGE_MAX));
    let signed = |place: u64| i64::try_from(place).unwrap_or(i64::MAX);
    (signed(range.start), signed(end))
}

pub(super) fn leaves(conn: &Connection, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
    let (start, end) = bounds(&range);
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut statement = conn.prepare_cached(
            "SELECT sequence, leaf FROM entry WHERE sequence >= ?1 AND sequence < ?2 ORDER BY sequence",
        )?;
        statement.query_map([start, end], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    without_gap(start, read().map_err(unreadable("the leaves"))?)
}

/// The values of rows that are numbered from `start` on. A missing row is an error: the next must not take its place.
fn without_gap<T>(start: i64, rows: Vec<(i64, T)>) -> Result<Vec<T>, StoreError> {
    let numbered = rows.into_iter().zip(start..);
    let values = numbered.map(|((place, value), expected)| if place == expected { Ok(value) } else { Err(expected) });
    values.collect::<Result<_, _>>().map_err(|missing| damaged("log", format!("row {missing} is missing")))
}

pub(super) fn select(
    conn: &Connection,
    keys: &KeyRing,
    range: Range<u64>,
    select: &Select,
) -> Result<Selected, StoreError> {
    let (start, end) = bounds(&range);
    let wrong = unreadable("the entries");
    let mut statement = conn
        .prepare_cached(
            "SELECT entry.sequence, leaf, class, day, sealed FROM entry LEFT JOIN payload USING (sequence)
             WHERE entry.sequence >= ?1 AND entry.sequence < ?2 ORDER BY entry.sequence",
        )
        .map_err(&wrong)?;
    let mut rows = statement.query([start, end]).map_err(&wrong)?;
    let mut selected = Selected { entries: Vec::new(), to: range.start };
    let mut bytes = 0;
    while bytes < PAYLOAD_BYTES_PER_READ {
        let Some(row) = rows.next().map_err(&wrong)? else { break };
        let sequence = row.get::<_, i64>(0).map_err(&wrong)?.cast_unsigned();
        let leaf: Vec<u8> = row.get(1).map_err(&wrong)?;
        selected.to = sequence.saturating_add(1);
        if !select.wants(&leaf) {
            continue;
        }
        let payload = match row.get_ref(4).and_then(|sealed| Ok(sealed.as_blob_or_null()?)).map_err(&wrong)? {
            None => None,
            Some(sealed) => {
                let class = class_of(row.get(2).map_err(&wrong)?).ok_or_else(|| damaged("payload", "unknown class"))?;
                let day = Day::from_days(row.get(3).map_err(&wrong)?);
                open_payload(keys, sequence, class, day, sealed)?
            }
        };
        bytes += payload.as_ref().map_or(0, |payload| payload.bytes.len());
        selected.entries.push(Entry { sequence, leaf, payload });
    }
    Ok(selected)
}

/// `None` when the key is gone: the day is being destroyed, or was and the row was put back from a copy.
fn open_payload(
    keys: &KeyRing,
    sequence: u64,
    class: Retention,
    day: Day,
    sealed: &[u8],
) -> Result<Option<Payload>, StoreError> {
    let key = keys
        .get(class, day)
        .map_err(|error| StoreError::Read { what: "the key of a day", reason: format!("{day}: {error}") })?;
    let Some(key) = key else { return Ok(None) };
    let (salt, bytes) =
        seal::open(&key, sequence, sealed).map_err(|error| damaged("payload", format!("entry {sequence}: {error}")))?;
    Ok(Some(Payload { salt, bytes }))
}

/// The hashes of the tree, as this connection sees it.
pub(super) fn tree_of(conn: &Connection) -> impl HashSource<Error = StoreError> {
    Tiles::new(move |level, index| {
        let start = index * u64::from(TILE_WIDTH);
        if level == 0 {
            let leaves = leaves(conn, start..start + u64::from(TILE_WIDTH))?;
            return Ok(leaves.iter().map(|leaf| tree::leaf_hash(leaf)).collect());
        }
        let start = start.cast_signed();
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = conn.prepare_cached(
                "SELECT place, hash FROM tile_root WHERE level = ?1 AND place >= ?2 AND place < ?2 + ?3 ORDER BY place",
            )?;
            let parameters = params![level * 8, start, TILE_WIDTH];
            statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        Ok(without_gap(start, read().map_err(unreadable("the tree"))?)?.into_iter().map(Hash::new).collect())
    })
}

pub(super) fn tile(conn: &Connection, tile: TileId) -> Result<Option<Vec<u8>>, StoreError> {
    let hashes_of_level = size(conn)?.checked_shr(u32::from(tile.level) * 8).unwrap_or(0);
    let end = tile.index.checked_mul(u64::from(TILE_WIDTH)).and_then(|start| start.checked_add(u64::from(tile.width)));
    if !(1..=TILE_WIDTH).contains(&tile.width) || end.is_none_or(|end| end > hashes_of_level) {
        return Ok(None);
    }
    tile.hashes(&tree_of(conn)).map(Some)
}

pub(super) fn inclusion(conn: &Connection, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
    within(conn, "tree size", size)?;
    if index >= size {
        return Err(StoreError::OutOfRange { what: "entry", asked: index, size });
    }
    tree::prove_inclusion(index, size, &tree_of(conn))
}

pub(super) fn consistency(conn: &Connection, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
    within(conn, "tree size", new)?;
    if old > new {
        return Err(StoreError::OutOfRange { what: "older tree size", asked: old, size: new });
    }
    tree::prove_consistency(old, new, &tree_of(conn))
}

pub(super) fn root_at(conn: &Connection, size: u64) -> Result<Hash, StoreError> {
    within(conn, "tree size", size)?;
    tree::root_at(size, &tree_of(conn))
}

pub(super) fn published(conn: &Connection) -> Result<Option<String>, StoreError> {
    conn.query_row("SELECT published_note FROM log", [], |row| row.get(0))
        .map_err(unreadable("the published checkpoint"))
}

pub(super) fn rotations(conn: &Connection, size: u64) -> Result<Vec<String>, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let mut statement = conn.prepare_cached("SELECT note FROM rotation WHERE size <= ?1 ORDER BY size")?;
        statement.query_map([i64::try_from(size).unwrap_or(i64::MAX)], |row| row.get(0))?.collect()
    };
    read().map_err(unreadable("the rotations"))
}

pub(super) fn days_before(conn: &Connection, class: Retention, day: Day) -> Result<Vec<Retained>, StoreError> {
    let read = || -> rusqlite::Result<_> {
        let mut statement = conn
            .prepare_cached("SELECT day, entries, intended FROM retained WHERE class = ?1 AND day < ?2 ORDER BY day")?;
        let row = |row: &rusqlite::Row<'_>| {
            let (day, entries) = (Day::from_days(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned());
            Ok(Retained { day, entries, intended: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned) })
        };
        statement.query_map([class_number(class), day.days()], row)?.collect()
    };
    read().map_err(unreadable("the retained days"))
}

pub(super) fn position(conn: &Connection, consumer: &str) -> Result<Option<u64>, StoreError> {
    let cursor: Option<i64> = conn
        .prepare_cached("SELECT cursor FROM consumer WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([consumer], |row| row.get(0)).optional())
        .map_err(unreadable("the cursor of a consumer"))?;
    Ok(cursor.map(i64::cast_unsigned))
}

pub(super) fn rows(
    conn: &Connection,
    consumer: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let wrong = unreadable("the rows of a consumer");
    let mut statement = conn
        .prepare_cached(
            "SELECT key, value FROM consumer_row
             WHERE consumer = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) ORDER BY key LIMIT ?4",
        )
        .map_err(&wrong)?;
    let mut first = prefix.as_bytes().to_vec();
    if let Some(after) = after.filter(|after| *after >= prefix) {
        // The least key that comes after it.
        first = [after.as_bytes(), &[0]].concat();
    }
    let limit = i64::try_from(limit.min(ROWS_MAX)).unwrap_or(i64::MAX);
    let mut found = statement.query(params![consumer, first, beyond(prefix), limit]).map_err(&wrong)?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    while bytes < PAYLOAD_BYTES_PER_READ {
        let Some(row) = found.next().map_err(&wrong)? else { break };
        let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0).map_err(&wrong)?, row.get(1).map_err(&wrong)?);
        bytes += value.len();
        let key = String::from_utf8(key).map_err(|_| damaged("row of a consumer", "its key is no text"))?;
        rows.push((key, value));
    }
    Ok(rows)
}

/// The least bytes that come after everything that starts with `prefix`; `None` when nothing does.
fn beyond(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    // The last byte of a text is never 255.
    *bytes.last_mut()? += 1;
    Some(bytes)
}
