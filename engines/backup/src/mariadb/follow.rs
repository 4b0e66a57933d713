//! Follows the binary log: what is received becomes pieces in the repository, until it is told to stop or something breaks.
//!
//! Four things go on at once: events are received, marks are made, pieces leave, and somebody may say stop. When one of them ends the
//! others do, and what waits is given a last chance to leave. Whoever calls again begins with what the repository has: a crash is no
//! other way.

use std::convert::Infallible;
use std::sync::Arc;

use engine::{Clock, Context};
use event::Span;

use super::connection::Connection;
use super::dump::{Dump, Received};
use super::events::file_number;
use super::lineage::{self, Followed};
use super::mark::Mark;
use super::packets::ProtocolError;
use super::waiting::{FileIdentity, Piece, Waiting};
use super::{Asking as _, MariaDb};
use crate::database::{DatabaseError, Shipped};
use crate::objects::Why;
use crate::sealed::{LogWriter, Repository, RepositoryError};

/// How long to wait before a piece is tried again.
const RETRY_AFTER: Span = Span::from_secs(5);
/// How long what waits may take at the end.
const LAST_WITHIN: Span = Span::from_secs(10);

type Tell<'a> = &'a mut (dyn FnMut(Shipped) + Send);

pub(super) async fn follow(
    mariadb: &MariaDb,
    context: &Context,
    repository: &Arc<Repository>,
    shipped: Tell<'_>,
) -> Result<(), DatabaseError> {
    let begin = async {
        let followed = lineage::follow(mariadb, context, repository).await?;
        Ok::<_, DatabaseError>((followed, mariadb.connect(context).await?))
    };
    let (followed, connection) = tokio::select! {
        begun = begin => begun?,
        () = context.stop.cancelled() => return Ok(()),
    };
    let Followed { log, mut writer, dump, waiting, is_new } = followed;
    let mut tell = Shipping { log, is_new, shipped };
    let asking = mariadb.asking();
    let ended: Result<Infallible, DatabaseError> = tokio::select! {
        () = context.stop.cancelled() => {
            return Ok(leave_all(&waiting, &mut writer, &mut tell).await?);
        }
        ended = receive(mariadb, context, dump, &waiting) => ended,
        ended = make_marks(connection, &waiting, &*context.clock) => ended.asking(&asking),
        ended = ship(&waiting, &mut writer, &mut tell) => ended.map_err(DatabaseError::from),
    };
    if let Err(error) = leave_all(&waiting, &mut writer, &mut tell).await {
        tracing::debug!(backup = mariadb.name, %error, "what waits is received again");
    }
    ended.map(|never| match never {})
}

/// What comes within so long is read at once: a server in use would wake this thread for each commit, and pieces leave every few seconds.
const TOGETHER: Span = Span::from_millis(25);
/// Nobody waits where that much has come at once: the server would wait for us.
const BURST_BYTES: usize = 64 * 1024;

async fn receive(
    mariadb: &MariaDb,
    context: &Context,
    mut dump: Dump,
    waiting: &Waiting,
) -> Result<Infallible, DatabaseError> {
    let asking = mariadb.asking();
    let mut burst = 0;
    loop {
        waiting.room().await;
        if dump.is_drained() {
            if burst < BURST_BYTES {
                tokio::time::sleep(TOGETHER.to_std()).await;
            }
            burst = 0;
        }
        match dump.next().await {
            Ok(Received::File { name, number, format, .. }) => {
                waiting.next_file(number, FileIdentity::new(&name, &format));
            }
            Ok(Received::Bytes { begins, gtid }) => {
                burst += dump.bytes().len();
                waiting.push(dump.bytes(), begins, gtid);
            }
            Ok(Received::Nothing) => {}
            Ok(Received::End) => {
                return Err(ProtocolError::Malformed("it ends the dump, as if it were not to wait")).asking(&asking);
            }
            Err(error) if error.is_half_an_event() => match behind_half_an_event(mariadb, context, &dump).await? {
                Some(next) => dump = next,
                // The file that is written: the server has crashed, or its disk is full, and it has begun no other one yet.
                None => return Err(error).asking(&asking),
            },
            Err(error) => return Err(error).asking(&asking),
        }
    }
}

/// The log from the next file on, where the one before ends in the middle of an event: the server was killed while it wrote that, and
/// has given up what it was part of when it came back. `None` where there is no next file.
async fn behind_half_an_event(
    mariadb: &MariaDb,
    context: &Context,
    dump: &Dump,
) -> Result<Option<Dump>, DatabaseError> {
    let asking = mariadb.asking();
    let mut connection = mariadb.connect(context).await?;
    let files = connection.query("SHOW BINARY LOGS").await.asking(&asking)?;
    let names = files.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let Some(next) = names.into_iter().find(|name| file_number(name) == dump.number().checked_add(1)) else {
        return Ok(None);
    };
    tracing::warn!(
        backup = mariadb.name,
        next,
        "a file of the binary log ends in the middle of an event, which a crash of the server has left: nothing of it was committed"
    );
    let connection = mariadb.connect(context).await?;
    Dump::begin(connection, mariadb.replica(), &next, 0, true).await.asking(&asking).map(Some)
}

/// Asks at each full second where the log ends.
async fn make_marks(
    mut connection: Connection,
    waiting: &Waiting,
    clock: &dyn Clock,
) -> Result<Infallible, ProtocolError> {
    loop {
        let into_second = clock.now().micros().rem_euclid(1_000_000);
        tokio::time::sleep(Span::from_micros(1_000_000 - into_second).to_std()).await;
        let received = waiting.position();
        let asked = clock.now();
        let (file, at) = lineage::status(&mut connection).await?;
        let answered = clock.now();
        let position = lineage::position(&file, at).ok_or(ProtocolError::Malformed("the name of a file"))?;
        if position < received {
            return Err(ProtocolError::Malformed("its binary log was begun anew: RESET MASTER, or another server"));
        }
        waiting.mark(Mark { asked, answered, position });
    }
}

/// Whom to tell of pieces that have left.
struct Shipping<'a> {
    log: String,
    is_new: bool,
    shipped: Tell<'a>,
}

async fn ship(
    waiting: &Waiting,
    writer: &mut LogWriter,
    tell: &mut Shipping<'_>,
) -> Result<Infallible, RepositoryError> {
    let mut tried: u32 = 0;
    loop {
        let piece = waiting.due().await;
        match leave(&piece, writer).await {
            Ok(()) => {
                tried = 0;
                tell.of(waiting, &piece);
            }
            Err(error) if may_pass(&error) => {
                if tried == 0 {
                    tracing::warn!(log = tell.log, %error, "the log waits in memory, and is tried again");
                }
                tried = tried.saturating_add(1);
                tokio::time::sleep(RETRY_AFTER.to_std()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Lets everything leave that waits, as long as that works.
async fn leave_all(waiting: &Waiting, writer: &mut LogWriter, tell: &mut Shipping<'_>) -> Result<(), RepositoryError> {
    let all = async {
        while let Some(piece) = waiting.first() {
            leave(&piece, writer).await?;
            tell.of(waiting, &piece);
        }
        Ok(())
    };
    let late = || RepositoryError::Unusable(format!("the repository has not taken what waits within {LAST_WITHIN}"));
    tokio::time::timeout(LAST_WITHIN.to_std(), all).await.unwrap_or_else(|_| Err(late()))
}

/// Puts a piece into the repository. Where it was sealed before, and not added, it is added as it is.
async fn leave(piece: &Piece, writer: &mut LogWriter) -> Result<(), RepositoryError> {
    if writer.has_pending() {
        return writer.flush().await;
    }
    writer.append(piece.file, piece.start, piece.end, &piece.head, piece.bytes.clone()).await
}

/// Whether the place may take it later.
fn may_pass(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Object(error)
        if matches!(error.why, Why::Missing | Why::Refused | Why::Full | Why::Unavailable))
}

impl Shipping<'_> {
    fn of(&mut self, waiting: &Waiting, piece: &Piece) {
        waiting.left();
        let bytes = piece.bytes.len() as u64;
        let is_new_log = std::mem::take(&mut self.is_new);
        (self.shipped)(Shipped {
            log: self.log.clone(),
            through: piece.head.through,
            bytes,
            is_new_log,
            needs_base: false,
        });
    }
}
