//! A live server that is rewound: where its files are, and whether all that it has committed is in the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{BoxFuture, Context, Program};
use event::Span;

use super::connection::{Connection, OpenError};
use super::events::file_number;
use super::lineage::{newest, status};
use super::packets::ProtocolError;
use super::{Asking as _, MariaDb};
use crate::database::DatabaseError;
use crate::owner::Owner;
use crate::rewind::{Hold, Layout, Live, SHIPPED_WITHIN};
use crate::sealed::Repository;

/// How often it is looked whether the log is in the repository.
const LOOKS_EVERY: Span = Span::from_secs(1);
/// How long commits that are under way may take to end.
const HELD_WITHIN_S: u64 = 60;
/// Length of the event that ends a file when a server stops: nothing is committed by it.
const STOP_BYTES: u64 = 23;
/// Files of Debian, and of the server, that no backup has, and that say what was done to the data of this release.
const KEPT: [&str; 2] = ["mysql_upgrade_info", "mariadb_upgrade_info"];
const KEPT_PREFIX: &str = "debian-";
/// Variables that name folders of InnoDB and Aria, which a restore has in the directory of data.
const FOLDERS: [&str; 4] =
    ["innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory", "aria_log_dir_path"];

impl MariaDb {
    /// Asks the server.
    async fn asked_layout(&self, context: &Context) -> Result<Layout, DatabaseError> {
        let asking = self.asking();
        let mut connection = self.connect(context).await?;
        let data = PathBuf::from(connection.value("SELECT @@datadir").await.asking(&asking)?);
        let data = canonical(&data)?;
        for name in FOLDERS {
            let folder = connection.value(&format!("SELECT @@{name}")).await.asking(&asking)?;
            let folder = data.join(folder);
            if canonical(&folder)? != data {
                let why = format!(
                    "{name} of {asking} is {}, and only servers with all in one directory are rewound: restore with `garant restore`",
                    folder.display()
                );
                return Err(DatabaseError::Database(why));
            }
        }
        let log = connection.value("SELECT @@log_bin_basename").await.asking(&asking)?;
        Ok(Layout { beside: log_files(&data, &data.join(log))?, data })
    }

    /// What the configuration says of the log of a server that does not answer.
    async fn configured_layout(&self, context: &Context, data: &Path) -> Result<Layout, DatabaseError> {
        let data = canonical(data)?;
        let output = context.programs.run(&Program::new("my_print_defaults").arg("--mysqld")).await?;
        let text = String::from_utf8_lossy(&output.stdout).replace('_', "-");
        let whole = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = text.lines().zip(whole.lines()).filter(|(line, _)| line.starts_with("--log-bin=")).last();
        let log = log.and_then(|(_, line)| line.split_once('=')).map_or("", |(_, log)| log);
        // A name with something behind a dot has it cut off.
        let log = data.join(log).with_extension("");
        Ok(Layout { beside: log_files(&data, &log)?, data })
    }
}

fn canonical(path: &Path) -> Result<PathBuf, DatabaseError> {
    path.canonicalize().map_err(|error| DatabaseError::Files { path: path.to_owned(), error })
}

/// The files of a binary log that is not in the directory of data: its index, and those with a number.
fn log_files(data: &Path, log: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    if log == data || canonical(folder)? == data {
        return Ok(Vec::new());
    }
    let failed = |error| DatabaseError::Files { path: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `binlog.index` and `binlog.state` beside the files with a number.
        let is_beside = path.extension().is_some_and(|what| what == "index" || what == "state");
        if path.file_stem() == Some(name) && (file_number(&found).is_some() || is_beside) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The newest file of the binary log, by its number, and its length.
fn last_file(layout: &Layout) -> Option<(u32, u64)> {
    let in_data = fs::read_dir(&layout.data).ok()?.flatten().map(|entry| entry.path());
    let files = layout.beside.iter().cloned().chain(in_data);
    let numbered = files.filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        // Others have numbers too: the logs of Aria, and relay logs, whose names say so.
        if name.contains("relay") || !path.with_extension("index").is_file() {
            return None;
        }
        Some((file_number(&name)?, fs::metadata(&path).ok()?.len()))
    });
    numbered.max()
}

impl Live for MariaDb {
    fn layout<'a>(
        &'a self,
        context: &'a Context,
        data: Option<&'a Path>,
    ) -> BoxFuture<'a, Result<Layout, DatabaseError>> {
        Box::pin(async move {
            match (self.asked_layout(context).await, data) {
                (Ok(layout), _) => Ok(layout),
                (Err(error), Some(data)) if !self.answers(context).await => {
                    tracing::warn!(%error, "the server does not answer: where its files are is read from its configuration");
                    self.configured_layout(context, data).await
                }
                (Err(error), _) => Err(error),
            }
        })
    }

    fn answers<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            !matches!(
                Connection::open(context, &self.settings).await,
                Err(OpenError::Protocol(ProtocolError::Broken(_) | ProtocolError::Silent(_)))
            )
        })
    }

    fn ship<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
    ) -> BoxFuture<'a, Result<Hold, String>> {
        Box::pin(async move {
            let mut connection = self.connect(context).await.map_err(|error| error.to_string())?;
            let failed = |error: ProtocolError| format!("{}: {error}", self.asking());
            connection.query(&format!("SET SESSION lock_wait_timeout = {HELD_WITHIN_S}")).await.map_err(failed)?;
            let held =
                tokio::time::timeout(Span::from_secs(90).to_std(), connection.query("FLUSH TABLES WITH READ LOCK"));
            held.await.map_err(|_| "what is being committed does not end".to_owned())?.map_err(failed)?;
            let (file, at) = status(&mut connection).await.map_err(failed)?;
            let wanted = (file_number(&file).unwrap_or(0), at);
            let begun = context.clock.monotonic();
            loop {
                let newest = newest(repository, &self.name).await.map_err(|error| error.to_string())?;
                let there = newest.as_ref().map(|newest| (newest.last.name.file, newest.last.name.end));
                if there.is_some_and(|there| there >= wanted) {
                    return Ok(Hold::by(connection));
                }
                if context.clock.monotonic().since(begun) > SHIPPED_WITHIN {
                    let (number, end) = there.unwrap_or_default();
                    return Err(format!(
                        "the binary log ends at byte {at} of {file}, and the repository has it up to byte {end} of its file {number}"
                    ));
                }
                tokio::time::sleep(LOOKS_EVERY.to_std()).await;
            }
        })
    }

    fn is_shipped<'a>(
        &'a self,
        _context: &'a Context,
        repository: &'a Arc<Repository>,
        layout: &'a Layout,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let Some((number, length)) = last_file(layout) else {
                return Err(
                    "the files of the binary log are not found: whether all of it is in the repository is not known"
                        .to_owned(),
                );
            };
            let newest = newest(repository, &self.name).await.map_err(|error| error.to_string())?;
            let there = newest.map(|newest| (newest.last.name.file, newest.last.name.end)).unwrap_or_default();
            if there >= (number, length.saturating_sub(STOP_BYTES)) {
                return Ok(());
            }
            Err(format!(
                "the binary log ends at byte {length} of its file {number}, and the repository has it up to byte {} of its file {}",
                there.1, there.0
            ))
        })
    }

    fn fit(&self, aside: &Path, data: &Path) -> Result<(), DatabaseError> {
        let owner = Owner::find("mysql", "mariadb-server")?;
        let failed = |path: &Path, error| DatabaseError::Files { path: path.to_owned(), error };
        for entry in fs::read_dir(data).map_err(|error| failed(data, error))? {
            let entry = entry.map_err(|error| failed(data, error))?;
            let name = entry.file_name();
            let is_kept = name.to_str().is_some_and(|name| KEPT.contains(&name) || name.starts_with(KEPT_PREFIX));
            if is_kept && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let to = aside.join(&name);
                fs::copy(entry.path(), &to).map_err(|error| failed(&to, error))?;
                owner.give(&to)?;
            }
        }
        Ok(())
    }
}
