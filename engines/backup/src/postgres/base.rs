//! A base: all files of a cluster, sent by the server as archives of tar, one for each tablespace (`BASE_BACKUP`, PostgreSQL 15,
//! chapter 55.4). They go into the repository as they come, and nothing lies on a disk of ours meanwhile.
//!
//! The server reads the files while they change, so a base is good only with the log from its start on: the slot is there before the
//! base is begun, and keeps that log until it was received. The server checks each block by its checksum, where it has them, and fails
//! at the end when one is wrong.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use engine::{Context, Watcher};
use event::Span;
use postgres_protocol::message::backend::Message;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use super::server::{History, Identity, Server, Slot};
use super::wire::{Connection, Row, WireError, columns, unexpected, within};
use super::{Lsn, Postgres, resume};
use crate::database::DatabaseError;
use crate::sealed::{Manifest, Repository, SetWriter};

/// Name of the engine in manifests.
pub(super) const ENGINE: &str = "postgres";
/// Name of the stream that holds the manifest of the server: each file with its CRC-32C, and of all together a SHA-256.
pub(super) const SERVER_MANIFEST: &str = "backup_manifest";
/// Name of the stream that holds the directory of data.
pub(super) const BASE_ARCHIVE: &str = "base.tar";

/// How long the server may say nothing. It writes all that has changed to its disk before it begins.
const SILENT_MAX: Span = Span::from_secs(3600);
/// Bytes between the connection and the stream.
const BETWEEN_BYTES: usize = 1024 * 1024;
const COMMAND: &str = "BASE_BACKUP (LABEL 'garant', PROGRESS, CHECKPOINT 'fast', WAIT false, MANIFEST 'yes', \
                       MANIFEST_CHECKSUMS 'CRC32C', TABLESPACE_MAP)";

/// What a manifest says of a base beside.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct BaseFacts {
    /// Where the log begins that it needs.
    pub(super) start: Lsn,
    /// Up to where it needs the log.
    pub(super) stop: Lsn,
    /// The timeline of both.
    pub(super) timeline: u32,
    /// The timelines before.
    #[serde(default)]
    pub(super) history: History,
    /// Size of a segment of the log.
    pub(super) segment_bytes: u64,
    /// Tablespaces beside the directory of data.
    #[serde(default)]
    pub(super) tablespaces: Vec<Tablespace>,
}

/// A tablespace.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct Tablespace {
    /// Its number.
    pub(super) oid: u32,
    /// Where it was.
    pub(super) location: String,
}

impl Tablespace {
    /// Name of the stream that holds it.
    pub(super) fn archive(&self) -> String {
        format!("{}.tar", self.oid)
    }
}

/// See [`crate::database::Database::take_base`].
pub(super) async fn take(
    of: &Postgres,
    context: &Context,
    repository: &Arc<Repository>,
    watcher: &dyn Watcher,
) -> Result<Manifest, DatabaseError> {
    let failed = |error: WireError| of.error(error);
    let mut sql = of.sql(context).await?;
    let server = Server::ask(of, &mut sql).await?;
    let mut wire = of.replication(context).await?;
    let identity = Identity::ask(&mut wire).await.map_err(failed)?;
    Slot::have(&of.slot(), &mut sql, &mut wire).await.map_err(failed)?;
    drop(sql);
    let log = resume::log_of_base(of, repository, &identity).await?;
    let mut set = SetWriter::begin(Arc::clone(repository), &of.name, ENGINE).await?;

    wire.send(COMMAND).await.map_err(failed)?;
    let (start, timeline) = place(&rows(&mut wire).await.map_err(failed)?).map_err(failed)?;
    if timeline != identity.timeline {
        return Err(of.error("it has gone on to another timeline: take the base again"));
    }
    let (tablespaces, size) = tablespaces(&rows(&mut wire).await.map_err(failed)?);
    let mut part = next(&mut wire).await.map_err(failed)?;
    let mut sent = 0;
    loop {
        let name = match part {
            Part::Archive(name) => name,
            Part::Manifest => SERVER_MANIFEST.to_owned(),
            Part::End => break,
            Part::Data(_) | Part::Progress => return Err(failed(unexpected("before the first archive of a base"))),
        };
        // What comes in goes out at the speed of the repository: the server waits meanwhile.
        let (mut to, from) = tokio::io::duplex(BETWEEN_BYTES);
        let feed = async {
            let fed = async {
                loop {
                    match next(&mut wire).await? {
                        Part::Data(data) => {
                            to.write_all(&data).await?;
                            sent += u64::try_from(data.len()).unwrap_or(0);
                            watcher.doing("base", sent, Some(size.max(sent)));
                        }
                        Part::Progress => {}
                        other => return Ok(other),
                    }
                }
            };
            let fed = fed.await;
            drop(to);
            fed
        };
        // The set is not finished after an error of either, so that what the other one made of it does not matter.
        let (fed, streamed) = tokio::join!(feed, set.stream(&name, from, |_| {}));
        streamed?;
        part = fed.map_err(failed)?;
    }
    let end = rows(&mut wire).await.map_err(failed)?;
    let consistent_at = context.clock.now();
    let (stop, _) = place(&end).map_err(failed)?;
    // What it says last of all is that every block was as its checksum says.
    loop {
        match within(SILENT_MAX, wire.next()).await.map_err(failed)? {
            Message::CommandComplete(_) => {}
            Message::ReadyForQuery(_) => break,
            _ => return Err(failed(unexpected("behind a base"))),
        }
    }
    let history = identity.history;
    let facts = BaseFacts { start, stop, timeline, history, segment_bytes: server.segment_bytes, tablespaces };
    let facts = serde_json::to_value(facts).map_err(|error| of.error(error))?;
    let manifest = set.finish(|manifest| {
        manifest.engine_version = server.version;
        manifest.consistent_at = consistent_at;
        manifest.log = Some(log);
        manifest.facts = facts;
    });
    Ok(manifest.await?)
}

/// What comes while a base is sent.
enum Part {
    /// An archive begins.
    Archive(String),
    /// The manifest begins.
    Manifest,
    /// A part of one of them.
    Data(Bytes),
    /// The server says how far it is, which is counted here.
    Progress,
    /// That was all.
    End,
}

async fn next(wire: &mut Connection) -> Result<Part, WireError> {
    loop {
        let mut data = match within(SILENT_MAX, wire.next()).await? {
            Message::CopyOutResponse(_) => continue,
            Message::CopyDone => return Ok(Part::End),
            Message::CopyData(body) => body.into_bytes(),
            _ => return Err(unexpected("while it sends a base")),
        };
        if data.is_empty() {
            return Err(unexpected("while it sends a base"));
        }
        return match data.get_u8() {
            b'd' => Ok(Part::Data(data)),
            b'p' => Ok(Part::Progress),
            b'm' => Ok(Part::Manifest),
            b'n' => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                let is_known = name.strip_suffix(".tar").is_some_and(|stem| {
                    stem == "base" || (!stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()))
                });
                if is_known { Ok(Part::Archive(name)) } else { Err(unexpected("as the name of an archive")) }
            }
            _ => Err(unexpected("while it sends a base")),
        };
    }
}

/// The rows of the next result.
async fn rows(wire: &mut Connection) -> Result<Vec<Row>, WireError> {
    let mut rows = Vec::new();
    loop {
        match within(SILENT_MAX, wire.next()).await? {
            Message::RowDescription(_) => {}
            Message::DataRow(row) => rows.push(columns(&row)?),
            Message::CommandComplete(_) => return Ok(rows),
            _ => return Err(unexpected("beside a base")),
        }
    }
}

/// A position and a timeline, the only row.
fn place(rows: &[Row]) -> Result<(Lsn, u32), WireError> {
    let place = match rows.first().map(Vec::as_slice) {
        Some([Some(at), Some(timeline), ..]) => at.parse().ok().zip(timeline.parse().ok()),
        _ => None,
    };
    place.ok_or_else(|| WireError::Unexpected("it does not say where a base begins and ends".to_owned()))
}

/// The tablespaces beside the directory of data, and how many bytes all are, as the server estimates.
fn tablespaces(rows: &[Row]) -> (Vec<Tablespace>, u64) {
    let column = |row: &Row, at: usize| row.get(at).cloned().flatten();
    let tablespace = |row: &Row| Some(Tablespace { oid: column(row, 0)?.parse().ok()?, location: column(row, 1)? });
    let kib = |row: &Row| column(row, 2).and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
    let size = rows.iter().map(kib).sum::<u64>().saturating_mul(1024);
    (rows.iter().filter_map(tablespace).collect(), size)
}
