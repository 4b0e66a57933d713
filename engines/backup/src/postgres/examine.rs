//! A server on what was restored, which is asked whether all is there.

use std::path::{Path, PathBuf};

use engine::{BoxFuture, Context};
use event::Span;

use super::recovery::{Server, Started};
use super::wire::{Connection, Mode, WireError};
use crate::blank::Blank;
use crate::checks::{Examined, without_data};
use crate::database::DatabaseError;
use crate::sealed::Manifest;
use crate::work::WorkFolder;

/// The role that reads all tables and changes none, from PostgreSQL 14 on.
const READER: &str = "pg_read_all_data";
/// The SQLSTATE of a statement that took too long.
const CANCELLED: &str = "57014";
/// Classes of SQLSTATE whose messages show data: data exceptions, violated constraints.
const OF_DATA: [&str; 2] = ["22", "23"];
/// The SQLSTATEs of a role that is not there.
const NO_ROLE: [&str; 2] = ["28000", "28P01"];
/// Longest path of a socket (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;

/// A server of PostgreSQL on what was restored from a base.
struct PostgresExamined {
    context: Context,
    server: Server,
    started: Started,
    socket: PathBuf,
    /// Who may become the reader.
    superuser: String,
    _work: WorkFolder,
}

/// Starts a server on `data`, which was restored from `set`; what it writes beside goes into a folder in `work`, and is gone at the end.
pub(super) async fn examine<'a>(
    context: &Context,
    set: &Manifest,
    data: &Path,
    work: &Path,
    live: &[PathBuf],
) -> Result<Box<dyn Examined + 'a>, DatabaseError> {
    let server = Server::find(context, &set.engine_version).await?;
    let work = WorkFolder::new(work, "check", context)?;
    server.owner.give(work.path())?;
    let socket = work.path().join(".s.PGSQL.5432");
    if socket.as_os_str().len() > SOCKET_BYTES_MAX {
        let why = format!("{} is too long for the path of a socket: name a shorter folder", socket.display());
        return Err(DatabaseError::Database(why));
    }
    let blank = Blank::find(context, live).await;
    let started = server.ask(context, &blank, data, work.path()).await?;
    let superuser = superuser(&socket).await;
    let superuser =
        superuser.map_err(|error| DatabaseError::Database(format!("PostgreSQL on what was restored: {error}")))?;
    Ok(Box::new(PostgresExamined { context: context.clone(), server, started, socket, superuser, _work: work }))
}

/// The role that the cluster was made by.
async fn superuser(socket: &Path) -> Result<String, WireError> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let own = rustix::process::geteuid().as_raw().to_string();
    let own = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == own).then(|| name.to_owned())
    });
    let mut last = None;
    for role in ["postgres".to_owned(), "garant-agent".to_owned()].into_iter().chain(own) {
        match Connection::open(socket, &role, None, Mode::Sql).await {
            Ok(mut connection) => {
                let rows = connection.query("select rolname from pg_roles where oid = 10").await?;
                let found = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
                return Ok(found.unwrap_or(role));
            }
            Err(error) if error.code().is_some_and(|code| NO_ROLE.contains(&code)) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| WireError::Unexpected("nobody is let in".to_owned())))
}

impl Examined for PostgresExamined {
    fn ask<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
        within: Span,
        rows_max: u16,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>, String>> {
        Box::pin(async move {
            let failed = |error: WireError| match &error {
                WireError::Silent(_) => format!("it took longer than {within}"),
                WireError::Refused(refusal) if refusal.code == CANCELLED => format!("it took longer than {within}"),
                WireError::Refused(refusal) if OF_DATA.iter().any(|class| refusal.code.starts_with(class)) => {
                    format!("{} (SQLSTATE {})", without_data(&refusal.message, &['"', '\'']), refusal.code)
                }
                WireError::Refused(refusal) => format!("{} (SQLSTATE {})", refusal.message, refusal.code),
                _ => error.to_string(),
            };
            // One connection for each: what a check sets is not there for the next one.
            let opened = Connection::open(&self.socket, &self.superuser, None, Mode::Database(database)).await;
            let mut connection = opened.map_err(failed)?;
            let ms = within.micros() / 1000;
            let before = format!(
                "begin read only; set local statement_timeout = {ms}; \
                 set local role {READER}"
            );
            connection.query(&before).await.map_err(failed)?;
            connection.first_rows(sql, within + Span::from_secs(5), rows_max).await.map_err(failed)
        })
    }

    fn stop<'a>(self: Box<Self>) -> BoxFuture<'a, Result<(), DatabaseError>>
    where
        Self: 'a,
    {
        Box::pin(async move { self.started.stop(&self.context, &self.server).await })
    }
}
