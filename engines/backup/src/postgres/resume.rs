//! Where to go on receiving: behind the last piece that the repository has, if the server goes on from there.
//!
//! | the server | the log goes on |
//! |---|---|
//! | is on the timeline of the last piece, and has written as far | at its end |
//! | is on a later timeline, which left that one at or behind its end | at its end, on the old timeline |
//! | is on a later timeline, which left that one before | where it was left, on the next timeline |
//! | is on a later timeline, which comes from an earlier one: the last was given up | where the earlier one was left |
//! | is on another branch, or has not written as far | as another log: it was set back in time |
//! | has thrown away what comes next | where its slot begins, behind a gap |

use std::sync::Arc;

use event::Time;
use serde::{Deserialize, Serialize};

use super::server::{History, Identity, Slot};
use super::{Lsn, Postgres};
use crate::database::{DatabaseError, PieceHead};
use crate::sealed::{LastPiece, LogWriter, PieceName, Repository, RepositoryError, all_pieces};

/// What the head of a piece says beside.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct PieceFacts {
    /// The version of the server.
    pub(super) version: String,
    /// Size of a segment.
    pub(super) segment_bytes: u64,
    /// The timelines before that of the piece.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(super) history: History,
    /// Where the last record before the end of the piece begins, where that is known: the next one names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_record: Option<Lsn>,
    /// How far the clock of the server was ahead of that of the agent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) clock_ahead_us: i64,
    /// When the server was started that wrote it, by the clock of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started: Option<Time>,
    /// Whether its last record is the one with which a server stops in good order.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_stopped: bool,
}

impl PieceFacts {
    /// Reads the head of a piece.
    pub(super) fn read(head: &[u8]) -> Result<(PieceHead, Self), serde_json::Error> {
        let head: PieceHead = serde_json::from_slice(head)?;
        let facts = serde_json::from_value(head.facts.clone())?;
        Ok((head, facts))
    }
}

fn is_empty(history: &History) -> bool {
    history.0.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// From where a log is to be received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// From the end of what the repository has.
    End,
    /// From where the slot begins: what comes before is gone.
    Slot,
    /// As another log, for this one does not go on.
    NewLog,
}

/// Where receiving begins.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) log: String,
    pub(super) writer: LogWriter,
    pub(super) timeline: u32,
    pub(super) at: Lsn,
    /// The record before, where it is known and what comes next must name it.
    pub(super) previous: Option<Lsn>,
    /// Whatever was committed before this instant is in the repository.
    pub(super) through: Time,
    /// Whether a new base is needed: it is another log, or has a gap here.
    pub(super) is_new: bool,
}

/// The name of the log of this system that is the current one, and its number.
pub(super) async fn current_log(
    repository: &Repository,
    backup: &str,
    system: &str,
) -> Result<(String, u32), RepositoryError> {
    let logs = repository.folders(&format!("logs/{backup}/")).await?;
    let number = |log: &String| match log.strip_prefix(system)? {
        "" => Some(1),
        rest => rest.strip_prefix('.')?.parse::<u32>().ok(),
    };
    let newest = logs.iter().filter_map(number).max().unwrap_or(1);
    Ok((log_name(system, newest), newest))
}

fn log_name(system: &str, number: u32) -> String {
    if number == 1 { system.to_owned() } else { format!("{system}.{number}") }
}

/// Where the last piece of a log says that it goes on: the timeline, the position, and whether its last record is the one before.
/// `None` where the server does not go on from it.
pub(super) fn place(last: &PieceName, facts: &PieceFacts, server: &Identity) -> Option<(u32, Lsn, bool)> {
    let end = Lsn(last.end);
    if server.history.of(last.file) != facts.history {
        return None;
    }
    if last.file == server.timeline {
        return (end <= server.flushed).then_some((last.file, end, true));
    }
    let left = server.history.left(last.file)?;
    if end < left {
        return Some((last.file, end, true));
    }
    Some((server.history.next(last.file, server.timeline), left, end == left))
}

/// The head of a piece.
async fn head_of(repository: &Repository, piece: &LastPiece) -> Result<(PieceHead, PieceFacts), RepositoryError> {
    let name = piece.name.to_string();
    let head = repository.fetch_head(&piece.folder, &name).await?;
    PieceFacts::read(&head).map_err(|error| {
        RepositoryError::Unusable(format!("{}/{name}: its head is of no use here: {error}", piece.folder))
    })
}

/// The last piece from which the server goes on, with its head and the place where it does. It is the last one of all; or, where
/// that is of a timeline that was given up, the last one of the newest timeline that the server comes from.
async fn last_in_line(
    repository: &Repository,
    (backup, log): (&str, &str),
    last: LastPiece,
    server: &Identity,
) -> Result<(LastPiece, PieceHead, PieceFacts, Option<(u32, Lsn, bool)>), RepositoryError> {
    let (head, facts) = head_of(repository, &last).await?;
    let at = place(&last.name, &facts, server);
    let is_given_up = last.name.file < server.timeline && server.history.left(last.name.file).is_none();
    if at.is_some() || !is_given_up {
        return Ok((last, head, facts, at));
    }
    let pieces = all_pieces(repository, backup, log).await?;
    for (timeline, _) in server.history.0.iter().rev() {
        let of_it = pieces.iter().filter(|piece| piece.name.file == *timeline);
        let Some(newest) = of_it.max_by_key(|piece| (piece.name.end, piece.name.seq)) else { continue };
        let newest = LastPiece { folder: newest.folder.clone(), name: newest.name };
        let (head, facts) = head_of(repository, &newest).await?;
        let at = place(&newest.name, &facts, server);
        return Ok((newest, head, facts, at));
    }
    Ok((last, head, facts, None))
}

/// The log that goes on from a base that is taken now.
///
/// # Errors
/// The server does not go on from what was received: whoever follows it must see that first, and begin another log.
pub(super) async fn log_of_base(
    of: &Postgres,
    repository: &Arc<Repository>,
    server: &Identity,
) -> Result<String, DatabaseError> {
    let (log, _) = current_log(repository, &of.name, &server.system).await?;
    let (_, last) = LogWriter::open(Arc::clone(repository), &of.name, &log).await?;
    if let Some(last) = last {
        let at = match last_in_line(repository, (&of.name, &log), last, server).await {
            Ok((.., at)) => at,
            Err(error) if Repository::is_destroyed(&error) => None,
            Err(error) => return Err(error.into()),
        };
        if at.is_none() {
            return Err(of.error(
                "it does not go on from what was received of its log: take the base again once another log is begun",
            ));
        }
    }
    Ok(log)
}

/// Finds where to begin.
pub(super) async fn start(
    of: &Postgres,
    repository: &Arc<Repository>,
    server: &Identity,
    (slot, segment_bytes): (&Slot, u64),
    from: From,
) -> Result<Start, DatabaseError> {
    let (log, number) = current_log(repository, &of.name, &server.system).await?;
    let (writer, last) = LogWriter::open(Arc::clone(repository), &of.name, &log).await?;
    let from_slot = || {
        let restart =
            slot.restart.ok_or_else(|| of.error("its slot holds back nothing: it was made too short a time ago"))?;
        let at = restart.segment_start(segment_bytes);
        Ok::<_, DatabaseError>((server.history.owner(at, server.timeline), at))
    };
    let Some(last) = last else {
        let (timeline, at) = from_slot()?;
        return Ok(Start { log, writer, timeline, at, previous: None, through: Time::default(), is_new: true });
    };
    let another = |why: &str| {
        let log = log_name(&server.system, number + 1);
        tracing::error!(backup = of.name, log, "{why}. What comes is kept as another log, and a new base is taken");
        log
    };
    let found = match last_in_line(repository, (&of.name, &log), last, server).await {
        Err(error) if Repository::is_destroyed(&error) => {
            let log = another(&format!(
                "what was received last can't be opened any more, for its key is at no copy: {error}"
            ));
            let (writer, _) = LogWriter::open(Arc::clone(repository), &of.name, &log).await?;
            let (timeline, at) = from_slot()?;
            return Ok(Start { log, writer, timeline, at, previous: None, through: Time::default(), is_new: true });
        }
        found => found?,
    };
    let (last, head, facts, at) = found;
    match (from, at) {
        (From::End, Some((timeline, at, is_next))) => {
            let previous = facts.last_record.filter(|_| is_next);
            Ok(Start { log, writer, timeline, at, previous, through: head.through, is_new: false })
        }
        (From::Slot, Some(_)) => {
            let (timeline, at) = from_slot()?;
            if (timeline, at) <= (last.name.file, Lsn(last.name.end)) {
                return Err(of.error(format!(
                    "it has thrown away its log behind {}, and its slot holds it back from {at} on: one of the two is not true",
                    Lsn(last.name.end)
                )));
            }
            tracing::error!(
                backup = of.name,
                from = %Lsn(last.name.end),
                to = %at,
                "PostgreSQL has thrown away a part of its log before it was received: nothing can be restored to an instant in it. \
                 A new base is taken. Raise max_slot_wal_keep_size, and find out who dropped the slot"
            );
            Ok(Start { log, writer, timeline, at, previous: None, through: head.through, is_new: true })
        }
        (_, _) => {
            let log = another(
                "PostgreSQL does not go on from what was received: it was set back in time, by a copy of its files or a snapshot of \
                 its machine",
            );
            let (writer, _) = LogWriter::open(Arc::clone(repository), &of.name, &log).await?;
            let (timeline, at) = from_slot()?;
            Ok(Start { log, writer, timeline, at, previous: None, through: Time::default(), is_new: true })
        }
    }
}
