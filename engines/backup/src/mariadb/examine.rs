//! A server on what was restored, which is asked whether all is there.

use std::path::{Path, PathBuf};

use engine::{BoxFuture, Context};
use event::Span;

use super::base::BaseFacts;
use super::connection::Connection;
use super::packets::ProtocolError;
use super::replay::{PrivateServer, Purpose};
use crate::Connection as Settings;
use crate::blank::Blank;
use crate::checks::{Examined, without_data};
use crate::database::DatabaseError;
use crate::owner::Owner;
use crate::sealed::Manifest;
use crate::work::WorkFolder;

/// The error of a statement that was cut off by `max_statement_time`.
const TOO_LONG: u16 = 1969;

/// A server of MariaDB on what was restored from `set`.
struct MariaDbExamined {
    context: Context,
    server: PrivateServer,
    reader: Settings,
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
    let base = BaseFacts::of(set)?;
    let owner = Owner::find("mysql", "mariadb-server")?;
    let work = WorkFolder::new(work, "check", context)?;
    owner.give(work.path())?;
    let blank = Blank::find(context, live).await;
    let mut server = PrivateServer::start(context, (Purpose::Ask, &blank), &owner, &base, data, work.path()).await?;
    let reader = server.let_read(context, &work.path().join("reader")).await?;
    Ok(Box::new(MariaDbExamined { context: context.clone(), server, reader, _work: work }))
}

impl Examined for MariaDbExamined {
    fn ask<'a>(
        &'a self,
        database: &'a str,
        sql: &'a str,
        within: Span,
        rows_max: u16,
    ) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>, String>> {
        Box::pin(async move {
            // One connection for each: what a check sets is not there for the next one.
            let mut connection =
                Connection::open(&self.context, &self.reader).await.map_err(|error| error.to_string())?;
            let failed = |error| match error {
                ProtocolError::Refused { code: TOO_LONG, .. } | ProtocolError::Silent(_) => {
                    format!("it took longer than {within}")
                }
                ProtocolError::Refused { code, message } => {
                    format!("{} (error {code})", without_data(&message, &['\'']))
                }
                error => error.to_string(),
            };
            let within_s = within.micros() / 1_000_000;
            let before = [
                format!("USE `{}`", database.replace('`', "``")),
                format!("SET SESSION max_statement_time = {within_s}"),
                "START TRANSACTION READ ONLY".to_owned(),
            ];
            for statement in before {
                connection.query(&statement).await.map_err(failed)?;
            }
            let late = within + Span::from_secs(5);
            connection.first_rows(sql, late, usize::from(rows_max)).await.map_err(failed)
        })
    }

    fn stop<'a>(mut self: Box<Self>) -> BoxFuture<'a, Result<(), DatabaseError>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            self.server.drop_reader(&self.reader).await?;
            self.server.stop().await
        })
    }
}
