//! Which log in the repository a server goes on with, if any.
//!
//! **Problem.** After `RESET MASTER`, a restored backup or a change of the server the names of the files begin anew, and what is called
//! `binlog.000003` is another file. Whoever goes on by names and places mixes two pasts, or overwrites one.
//! **Principle.** A log in the repository is one unbroken binary log. It is gone on with only where the server still has the file that
//! it ends in, begun in the same second by the same server, and gives the last event in it once more, byte for byte. Else a new log is
//! begun, with the file that the server writes now: the gap between the two is one that everybody sees.
//!
//! Names of logs are counted, so that the newest is known, and have random digits, so that none comes twice: `000002-9f86d081`.

use std::sync::Arc;

use engine::Context;
use sha2::{Digest as _, Sha256};

use super::connection::Connection;
use super::dump::{Dump, Received};
use super::events::file_number;
use super::mark::Position;
use super::packets::ProtocolError;
use super::plan::parse_head;
use super::waiting::{Facts, FileIdentity, Waiting};
use super::{Asking as _, MariaDb};
use crate::database::{DatabaseError, PieceHead};
use crate::sealed::{LastPiece, LogWriter, Repository, RepositoryError, hex};

/// The newest log of a backup, and its end.
pub(super) struct Newest {
    pub(super) log: String,
    pub(super) writer: LogWriter,
    pub(super) last: LastPiece,
    pub(super) head: PieceHead,
    pub(super) facts: Facts,
}

/// The logs of a backup, the oldest first.
pub(super) async fn logs(repository: &Repository, backup: &str) -> Result<Vec<String>, RepositoryError> {
    Ok(repository.folders(&format!("logs/{backup}/")).await?.into_iter().collect())
}

/// The newest log; `None` where there is none, or none that can be gone on with.
pub(super) async fn newest(repository: &Arc<Repository>, backup: &str) -> Result<Option<Newest>, RepositoryError> {
    let Some(log) = logs(repository, backup).await?.pop() else { return Ok(None) };
    let (writer, last) = LogWriter::open(Arc::clone(repository), backup, &log).await?;
    let Some(last) = last else { return Ok(None) };
    let head = match repository.fetch_head(&last.folder, &last.name.to_string()).await {
        Ok(head) => head,
        Err(error) if Repository::is_destroyed(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (head, facts) = parse_head(&last.folder, &last.name.to_string(), &head)?;
    Ok(Some(Newest { log, writer, last, head, facts }))
}

/// A name for a log behind all others.
pub(super) fn new_name(repository: &Repository, logs: &[String]) -> String {
    let last = logs.last().and_then(|log| log.get(..6)?.parse::<u32>().ok()).unwrap_or(0);
    let mut random = [0; 4];
    repository.random().fill(&mut random);
    format!("{:06}-{}", last + 1, hex(&random))
}

/// A log that was found, or begun, and the server that goes on with it.
pub(super) struct Followed {
    pub(super) log: String,
    pub(super) writer: LogWriter,
    pub(super) dump: Dump,
    pub(super) waiting: Waiting,
    pub(super) is_new: bool,
}

/// Why a server does not go on with a log.
type Parted = String;

/// Finds the log that the server goes on with, or begins one.
pub(super) async fn follow(
    mariadb: &MariaDb,
    context: &Context,
    repository: &Arc<Repository>,
) -> Result<Followed, DatabaseError> {
    let asking = mariadb.asking();
    let names = logs(repository, &mariadb.name).await?;
    if let Some(newest) = newest(repository, &mariadb.name).await? {
        match go_on(mariadb, context, &newest, mariadb.replica(), true).await? {
            Ok((dump, waiting)) => {
                let Newest { log, writer, .. } = newest;
                return Ok(Followed { log, writer, dump, waiting, is_new: false });
            }
            Err(why) => {
                tracing::warn!(backup = mariadb.name, log = newest.log, why, "the binary log is another one now");
            }
        }
    }
    let mut connection = mariadb.connect(context).await?;
    let (file, _) = status(&mut connection).await.asking(&asking)?;
    let dump = mariadb.connect(context).await?;
    let mut dump = Dump::begin(dump, mariadb.replica(), &file, 0, true).await.asking(&asking)?;
    let Received::File { name, number, format, at: 0 } = dump.next().await.asking(&asking)? else {
        return Err(ProtocolError::Malformed("a file that does not begin with its start")).asking(&asking);
    };
    let log = new_name(repository, &names);
    let (writer, _) = LogWriter::open(Arc::clone(repository), &mariadb.name, &log).await?;
    let waiting = Waiting::at_start(Arc::clone(&context.clock), number, FileIdentity::new(&name, &format));
    Ok(Followed { log, writer, dump, waiting, is_new: true })
}

/// The name of the log that the server goes on with now; `None` where it is in none.
pub(super) async fn current(
    mariadb: &MariaDb,
    context: &Context,
    repository: &Arc<Repository>,
) -> Result<Option<String>, DatabaseError> {
    let Some(newest) = newest(repository, &mariadb.name).await? else { return Ok(None) };
    // Not the number of the one that follows: the server would end that one.
    let number = u32::try_from(context.random.number() >> 34).unwrap_or(0) | 0x4000_0000;
    Ok(go_on(mariadb, context, &newest, number, false).await?.ok().map(|_| newest.log))
}

/// The first event of a file that the server has, and what it says.
pub(super) async fn first_event(
    mariadb: &MariaDb,
    context: &Context,
    file: &str,
) -> Result<(FileIdentity, Vec<u8>), DatabaseError> {
    let number = u32::try_from(context.random.number() >> 34).unwrap_or(0) | 0x4000_0000;
    let connection = mariadb.connect(context).await?;
    let asking = mariadb.asking();
    let mut dump = Dump::begin(connection, number, file, 0, false).await.asking(&asking)?;
    match dump.next().await.asking(&asking)? {
        Received::File { name, format, at: 0, .. } => Ok((FileIdentity::new(&name, &format), format.event)),
        _ => Err(ProtocolError::Malformed("a file that does not begin with its start")).asking(&asking),
    }
}

/// Where the binary log of the server ends: the name of the file, and the byte.
pub(super) async fn status(connection: &mut Connection) -> Result<(String, u64), ProtocolError> {
    let rows = connection.query("SHOW MASTER STATUS").await?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten();
    let (Some(file), Some(at)) = (row.next(), row.next().and_then(|at| at.parse().ok())) else {
        return Err(ProtocolError::Malformed("it has no binary log: set log_bin"));
    };
    Ok((file, at))
}

/// Begins a dump behind the end of a log, after the server has given its last event once more.
async fn go_on(
    mariadb: &MariaDb,
    context: &Context,
    newest: &Newest,
    number: u32,
    waits: bool,
) -> Result<Result<(Dump, Waiting), Parted>, DatabaseError> {
    let asking = mariadb.asking();
    let (name, end) = (&newest.facts.file.name, newest.last.name.end);
    let mut connection = mariadb.connect(context).await?;
    let files = connection.query("SHOW BINARY LOGS").await.asking(&asking)?;
    let size = files.iter().find_map(|row| match row.as_slice() {
        [Some(file), Some(size), ..] if file == name => size.parse::<u64>().ok(),
        _ => None,
    });
    match size {
        None => {
            let why = format!("the server has no {name} any more: it was purged, or RESET MASTER was done");
            return Ok(Err(why));
        }
        Some(size) if size < end => {
            return Ok(Err(format!("{name} ends at {size} on the server, and {end} bytes of it are kept")));
        }
        Some(_) => {}
    }
    let dump = Dump::begin(connection, number, name, newest.facts.tail.at, waits).await.asking(&asking)?;
    let compared = tokio::time::timeout(COMPARE_WITHIN.to_std(), compare(dump, newest)).await;
    let compared = compared.unwrap_or(Err(ProtocolError::Silent(COMPARE_WITHIN))).asking(&asking)?;
    let behind = |(dump, hash, rest): (Dump, Sha256, usize)| {
        let position = Position { file: newest.last.name.file, at: end };
        let clock = Arc::clone(&context.clock);
        let waiting = Waiting::behind(clock, position, &newest.facts, hash, newest.head.through);
        let bytes = dump.bytes();
        if rest > 0 {
            waiting.push(bytes.get(bytes.len() - rest..).unwrap_or_default(), false, None);
        }
        (dump, waiting)
    };
    Ok(compared.map(behind))
}

/// How long the last event of a log may take to come once more: of a file of more than 4 GiB, all of it comes.
const COMPARE_WITHIN: event::Span = event::Span::from_secs(600);

/// Compares what the server sends with the end of a log: gives the hash of the last event as far as it is kept, and how many bytes
/// behind it have come already.
async fn compare(mut dump: Dump, newest: &Newest) -> Result<Result<(Dump, Sha256, usize), Parted>, ProtocolError> {
    let (name, tail, end) = (&newest.facts.file.name, &newest.facts.tail, newest.last.name.end);
    let mut hash = Sha256::new();
    let mut is_named = false;
    loop {
        match dump.next().await? {
            Received::File { name: found, format, .. } if !is_named => {
                is_named = true;
                let found = FileIdentity::new(&found, &format);
                if found != newest.facts.file {
                    let began = found.began_at;
                    return Ok(Err(format!("{name} is another file: the server says that it was begun at {began}")));
                }
            }
            Received::Bytes { .. } => {
                let bytes = dump.bytes();
                let start = dump.position() - bytes.len() as u64;
                let within = |place: u64| usize::try_from(place.saturating_sub(start)).unwrap_or(0).min(bytes.len());
                hash.update(bytes.get(within(tail.at)..within(end)).unwrap_or_default());
                if dump.position() < end {
                    continue;
                }
                if hex(&hash.clone().finalize()) != tail.sha256 {
                    return Ok(Err(format!("{name} holds another event at {}", tail.at)));
                }
                let rest = bytes.len() - within(end);
                return Ok(Ok((dump, hash, rest)));
            }
            _ => return Ok(Err(format!("{name} ends before {end}"))),
        }
    }
}

/// Whether a name that the server gives goes on with the file before.
pub(super) fn position(file: &str, at: u64) -> Option<Position> {
    file_number(file).map(|file| Position { file, at })
}
