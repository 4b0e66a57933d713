//! Buckets as rows of the database, and how one is computed from finer ones.

use std::collections::BTreeMap;

use event::Span;
use rusqlite::{Connection, Row, params};

use super::partition::{Grain, Partition};
use crate::{Bucket, Histogram, Reading, Tally};

/// Longest length that is stored, in µs.
const TOOK_MAX: i64 = 1 << 40;

/// Length and reading of a sample as one number.
pub(super) fn pack(took: Span, reading: Reading) -> i64 {
    (took.micros().clamp(0, TOOK_MAX) << 2) | reading as i64
}

fn unpack(packed: i64) -> (Span, Reading) {
    (Span::from_micros(packed >> 2), Reading::ALL[usize::try_from(packed & 3).unwrap_or(0)])
}

/// Which series to read: numbers only, so they may stand in SQL.
pub(super) fn only(series: &[i64]) -> String {
    let numbers: Vec<_> = series.iter().map(ToString::to_string).collect();
    format!("id & 16777215 IN ({})", numbers.join(","))
}

/// Calls `give` for every sample of the places `[from, to)` that satisfies the condition, in order of time, with place,
/// series, reading, length and figure.
pub(super) fn each_sample(
    conn: &Connection,
    partition: &Partition,
    (from, to): (i64, i64),
    condition: &str,
    mut give: impl FnMut(i64, i64, Reading, Span, Option<i64>),
) -> rusqlite::Result<()> {
    let sql = format!("SELECT id, took, value FROM sample WHERE id >= ?1 AND id < ?2 AND {condition} ORDER BY id");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([partition.id(from, 0), partition.id(to, 0)])?;
    while let Some(row) = rows.next()? {
        let (place, series) = partition.split(row.get(0)?);
        let (took, reading) = unpack(row.get(1)?);
        give(place, series, reading, took, row.get(2)?);
    }
    Ok(())
}

/// The buckets of one place out of all that is below it in its partition, by series: of the series from `from` to below `to`.
pub(super) fn rolled(
    conn: &Connection,
    below: &Partition,
    place: i64,
    (from, to): (i64, i64),
) -> rusqlite::Result<BTreeMap<i64, Bucket>> {
    if below.grain == Grain::Sample {
        minute_of_samples(conn, below, place, &format!("id & 16777215 >= {from} AND id & 16777215 < {to}"))
    } else {
        hour_of_minutes(conn, below, place, (from, to))
    }
}

/// The samples of one minute, by series.
pub(super) fn minute_of_samples(
    conn: &Connection,
    partition: &Partition,
    minute: i64,
    condition: &str,
) -> rusqlite::Result<BTreeMap<i64, Bucket>> {
    let start = Grain::Minute.start(minute);
    let from = Grain::Sample.place(start);
    let to = Grain::Sample.place(Grain::Minute.start(minute + 1));
    let mut buckets = BTreeMap::new();
    each_sample(conn, partition, (from, to), condition, |_, series, reading, took, value| {
        buckets.entry(series).or_insert_with(|| Bucket::starting(start)).add(reading, took, value);
    })?;
    Ok(buckets)
}

/// The minutes of one hour, by series. Within a minute they are in order of series, so each minute is one look.
fn hour_of_minutes(
    conn: &Connection,
    partition: &Partition,
    hour: i64,
    (from, to): (i64, i64),
) -> rusqlite::Result<BTreeMap<i64, Bucket>> {
    let start = Grain::Hour.start(hour);
    let minutes = Grain::Minute.place(start)..Grain::Minute.place(Grain::Hour.start(hour + 1));
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE id >= ?1 AND id < ?2"))?;
    let mut buckets = BTreeMap::new();
    for minute in minutes {
        let mut rows = statement.query([partition.id(minute, from), partition.id(minute, to)])?;
        while let Some(row) = rows.next()? {
            let (_, series) = partition.split(row.get(0)?);
            buckets.entry(series).or_insert_with(|| Bucket::starting(start)).merge(&read(partition, row)?);
        }
    }
    Ok(buckets)
}

/// Columns of a bucket, as [`read`] wants them.
pub(super) const SELECT: &str = "SELECT id, up, degraded, down, unknown, took_sum, took_min, took_max, spread, value_count, \
                                 value_sum, value_min, value_max FROM bucket";

pub(super) fn read(partition: &Partition, row: &Row<'_>) -> rusqlite::Result<Bucket> {
    // A negative count was never written by this program: zero keeps it from overflowing.
    let count = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.max(0).cast_unsigned());
    let readings = [count(1)?, count(2)?, count(3)?, count(4)?];
    let (place, _) = partition.split(row.get(0)?);
    let spread = Histogram::from_bytes(row.get_ref(8)?.as_blob()?).ok_or(rusqlite::Error::InvalidQuery)?;
    Ok(Bucket {
        start: partition.grain.start(place),
        readings,
        took: Tally {
            count: readings.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)),
            sum: row.get(5)?,
            min: row.get(6)?,
            max: row.get(7)?,
        },
        spread,
        value: Tally { count: count(9)?, sum: row.get(10)?, min: row.get(11)?, max: row.get(12)? },
    })
}

/// Writes the buckets of one place, in place of those that were there.
pub(super) fn replace(
    conn: &Connection,
    partition: &Partition,
    place: i64,
    buckets: &BTreeMap<i64, Bucket>,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT OR REPLACE INTO bucket (id, up, degraded, down, unknown, took_sum, took_min, took_max, spread, value_count,
         value_sum, value_min, value_max) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for (series, bucket) in buckets {
        let [up, degraded, down, unknown] = bucket.readings.map(u64::cast_signed);
        let Bucket { took, value, spread, .. } = bucket;
        statement.execute(params![
            partition.id(place, *series),
            up,
            degraded,
            down,
            unknown,
            took.sum,
            took.min,
            took.max,
            spread.to_bytes(),
            value.count.cast_signed(),
            value.sum,
            value.min,
            value.max
        ])?;
    }
    Ok(())
}

/// The places whose coarser bucket is not up to date.
pub(super) fn stale(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached("SELECT start FROM stale ORDER BY start")?.query_map([], |row| row.get(0))?.collect()
}

/// Marks every place of the next coarser grain that has something in this partition; returns all that are marked now.
pub(super) fn mark_all_stale(conn: &mut Connection, partition: &Partition) -> rusqlite::Result<Vec<i64>> {
    let Some(coarser) = partition.grain.coarser() else { return Ok(Vec::new()) };
    let table = if partition.grain == Grain::Sample { "sample" } else { "bucket" };
    let interval = partition.interval();
    let tx = conn.transaction()?;
    {
        let mut mark = tx.prepare(&format!(
            "INSERT OR IGNORE INTO stale (start) SELECT ?1 WHERE EXISTS (SELECT 1 FROM {table} WHERE id >= ?2 AND id < ?3)"
        ))?;
        for place in coarser.place(interval.start)..coarser.place_from(interval.end) {
            let id = |place: i64| partition.id(partition.grain.place(coarser.start(place)), 0);
            mark.execute([place, id(place), id(place + 1)])?;
        }
    }
    tx.commit()?;
    stale(conn)
}

pub(super) fn mark_stale(conn: &Connection, place: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR IGNORE INTO stale (start) VALUES (?1)")?.execute([place]).map(drop)
}

pub(super) fn clear_stale(conn: &Connection, place: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM stale WHERE start = ?1")?.execute([place]).map(drop)
}
