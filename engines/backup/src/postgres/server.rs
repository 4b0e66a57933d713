//! What is asked of a server: who it is, how far it has written, and the slot that holds back its log for us.

use event::{Span, Time};
use serde::{Deserialize, Serialize};

use super::records::{BLOCK_BYTES, EPOCH_MICROS};
use super::wire::{Connection, Row, WireError};
use super::{Lsn, OLDEST_MAJOR, Postgres};
use crate::database::DatabaseError;

/// The state in which the server says that something of that name is there: a duplicate object.
const ALREADY_THERE: &str = "42710";

/// What does not change while a server runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    /// `15.20`.
    pub(super) version: String,
    /// Size of a segment of the log.
    pub(super) segment_bytes: u64,
}

impl Server {
    /// Asks for it, and refuses one that can't be backed up.
    pub(super) async fn ask(of: &Postgres, sql: &mut Connection) -> Result<Self, DatabaseError> {
        let query = "select current_setting('server_version_num'), pg_is_in_recovery(), \
                     (select setting from pg_settings where name = 'wal_segment_size'), current_setting('wal_block_size')";
        let rows = sql.query(query).await.map_err(|error| of.error(error))?;
        let [number, in_recovery, segment, block] = first::<4>(&rows).map_err(|error| of.error(error))?;
        let major = number.parse::<u32>().unwrap_or(0) / 10_000;
        if major < OLDEST_MAJOR {
            return Err(
                of.error(format!("it is of version {major}, and {OLDEST_MAJOR} is the oldest that can be backed up"))
            );
        }
        if in_recovery == "t" {
            return Err(of.error("it is a standby: name its primary, which alone knows what was committed when"));
        }
        if block != BLOCK_BYTES.to_string() {
            return Err(of.error(format!("its log has blocks of {block} bytes, and only {BLOCK_BYTES} are known here")));
        }
        let version = sql.parameter("server_version").unwrap_or_default();
        // Debian adds its own words behind the number.
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        let segment_bytes = segment.parse().map_err(|_| of.error("it does not say how large its segments are"))?;
        Ok(Self { version, segment_bytes })
    }
}

/// Who a server is, and how far its log is safe on its own disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// Its system identifier, which the cluster has had since it was made.
    pub(super) system: String,
    /// Its timeline.
    pub(super) timeline: u32,
    /// How far the log is flushed.
    pub(super) flushed: Lsn,
    /// How it came to its timeline.
    pub(super) history: History,
}

impl Identity {
    pub(super) async fn ask(replication: &mut Connection) -> Result<Self, WireError> {
        let rows = replication.query("IDENTIFY_SYSTEM").await?;
        let [system, timeline, flushed] = first::<3>(&rows)?;
        let timeline = timeline.parse().map_err(|_| bad("its timeline"))?;
        let flushed = flushed.parse().map_err(|_| bad("its position"))?;
        let history = if timeline > 1 {
            let rows = replication.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
            let [_, text] = first::<2>(&rows)?;
            History::parse(&text).ok_or_else(|| bad("the history of its timeline"))?
        } else {
            History::default()
        };
        Ok(Self { system, timeline, flushed, history })
    }
}

/// The timelines before one, the oldest first, each with the position at which it was left.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub(super) struct History(pub(super) Vec<(u32, Lsn)>);

impl History {
    /// Reads a file of the server, `00000002.history`.
    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let switch = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        lines.map(switch).collect::<Option<Vec<_>>>().map(Self)
    }

    /// The same as a file that the server reads.
    pub(super) fn file(&self) -> String {
        let lines = self.0.iter().map(|(timeline, at)| format!("{timeline}\t{at}\tas garant has followed it\n"));
        lines.collect::<Vec<_>>().concat()
    }

    /// Where `timeline` was left.
    pub(super) fn left(&self, timeline: u32) -> Option<Lsn> {
        self.0.iter().find(|(of, _)| *of == timeline).map(|(_, at)| *at)
    }

    /// The timeline behind `timeline`, where `newest` is the last one.
    pub(super) fn next(&self, timeline: u32, newest: u32) -> u32 {
        self.0.iter().map(|(of, _)| *of).find(|of| *of > timeline).unwrap_or(newest)
    }

    /// The timeline that the byte at `at` belongs to, where `newest` is the last one.
    pub(super) fn owner(&self, at: Lsn, newest: u32) -> u32 {
        self.0.iter().find(|(_, left)| at < *left).map_or(newest, |(timeline, _)| *timeline)
    }

    /// The history of `timeline`, which is one of these or the one behind them.
    pub(super) fn of(&self, timeline: u32) -> Self {
        Self(self.0.iter().copied().filter(|(of, _)| *of < timeline).collect())
    }
}

/// A replication slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// The oldest position that is held back for it; `None` where the server has thrown that away.
    pub(super) restart: Option<Lsn>,
    /// Whether somebody uses it, or makes it.
    is_active: bool,
}

/// How often a slot that somebody uses is looked at again, and after how long: a base and the receiver may make it at the same time, and a
/// receiver that has just ended holds it until its server has noticed.
const LOOKS_MAX: u32 = 20;
const LOOK_AGAIN_AFTER: Span = Span::from_millis(500);

impl Slot {
    /// The slot of that name; made, or made anew, where there is none that holds anything back.
    pub(super) async fn have(
        name: &str,
        sql: &mut Connection,
        replication: &mut Connection,
    ) -> Result<Self, WireError> {
        if let Some(slot) = Self::free(name, sql, |slot| slot.restart.is_some()).await? {
            if slot.restart.is_some() {
                return Ok(slot);
            }
            replication.query(&format!("DROP_REPLICATION_SLOT {name}")).await?;
        }
        match replication.query(&format!("CREATE_REPLICATION_SLOT {name} PHYSICAL RESERVE_WAL")).await {
            // A base and the receiver may begin at the same time.
            Err(error) if error.code() == Some(ALREADY_THERE) => {}
            made => drop(made?),
        }
        let made = Self::free(name, sql, |slot| slot.restart.is_some()).await?;
        made.ok_or_else(|| WireError::Unexpected(format!("the slot {name} was made, and is not there")))
    }

    /// The slot of that name, once nobody uses it, or it `will_do` as it is; after [`LOOKS_MAX`] looks, as it is.
    pub(super) async fn free(
        name: &str,
        sql: &mut Connection,
        will_do: impl Fn(&Self) -> bool,
    ) -> Result<Option<Self>, WireError> {
        let mut looks = 1;
        loop {
            let found = Self::find(name, sql).await?;
            if looks == LOOKS_MAX || found.as_ref().is_none_or(|slot| !slot.is_active || will_do(slot)) {
                return Ok(found);
            }
            looks += 1;
            tokio::time::sleep(LOOK_AGAIN_AFTER.to_std()).await;
        }
    }

    pub(super) async fn find(name: &str, sql: &mut Connection) -> Result<Option<Self>, WireError> {
        let query =
            format!("select restart_lsn, wal_status, active from pg_replication_slots where slot_name = '{name}'");
        let rows = sql.query(&query).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let is_lost = row.get(1).and_then(Option::as_deref) == Some("lost");
        let restart = row.first().and_then(Option::as_deref).and_then(|text| text.parse().ok());
        let is_active = row.get(2).and_then(Option::as_deref) == Some("t");
        Ok(Some(Self { restart: restart.filter(|_| !is_lost), is_active }))
    }
}

/// How far a server has written, and what its clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    /// The end of the last record. Whatever was acknowledged before the answer ends at or before it.
    pub(super) end: Lsn,
    /// Its clock.
    pub(super) clock: Time,
}

impl Written {
    /// Asks for it. That a record is safe on the disk of the server is not asked: one that was acknowledged without
    /// (`synchronous_commit = off`) counts too.
    pub(super) async fn ask(sql: &mut Connection, segment_bytes: u64) -> Result<Self, WireError> {
        let query = "select pg_current_wal_insert_lsn(), (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let rows = sql.query(query).await?;
        let [end, clock] = first::<2>(&rows)?;
        let end: Lsn = end.parse().map_err(|_| bad("its position"))?;
        let clock = clock.parse().map_err(|_| bad("its clock"))?;
        // At the start of a block it names the place behind the header, which is not written before the next record is.
        let header = if end.0 % segment_bytes < BLOCK_BYTES { 40 } else { 24 };
        let end = if end.0 % BLOCK_BYTES == header { Lsn(end.0 - header) } else { end };
        Ok(Self { end, clock: Time::from_micros(clock) })
    }
}

/// When the server was started, by its own clock.
pub(super) async fn started(sql: &mut Connection) -> Result<Time, WireError> {
    let rows = sql.query("select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint").await?;
    let [started] = first::<1>(&rows)?;
    Ok(Time::from_micros(started.parse().map_err(|_| bad("when it was started"))?))
}

/// An instant in the messages of replication: µs after 2000.
pub(super) fn micros_of_message(time: Time) -> i64 {
    time.micros().saturating_sub(EPOCH_MICROS)
}

/// The first columns of the only row.
fn first<const N: usize>(rows: &[Row]) -> Result<[String; N], WireError> {
    let row = rows.first().ok_or_else(|| bad("a row"))?;
    let columns: Option<Vec<String>> = row.iter().take(N).cloned().collect();
    columns.and_then(|columns| columns.try_into().ok()).ok_or_else(|| bad("all columns"))
}

fn bad(what: &str) -> WireError {
    WireError::Unexpected(format!("its answer does not have {what} as it should"))
}
