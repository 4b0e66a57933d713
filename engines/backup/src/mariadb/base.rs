//! Bases: what mariadb-backup reads of the files of a server, streamed into the repository without a copy on the disk.
//!
//! An incremental base holds the pages that have changed since the newest base, if that belongs to the same log: else it would be one
//! of another server, or of another past of this one, and a full one is taken. A base is complete only when mariadb-backup says that
//! it is, and the log that was followed when it was begun is the one that the server still writes.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use engine::{Context, Program};
use event::Span;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, own_name};
use super::events::file_number;
use super::lineage;
use super::mark::Position;
use super::problems;
use super::waiting::FileIdentity;
use super::{Asking as _, MariaDb};
use crate::Connection as Settings;
use crate::database::{DatabaseError, Watcher};
use crate::sealed::{Catalog, INCREMENTAL_STREAM, Manifest, Repository, RepositoryError, SetWriter, hex};
use crate::work::WorkFolder;

/// What the manifests of bases call their engine.
pub(super) const ENGINE: &str = "mariadb";
/// The kind of a base that builds on another one.
pub(super) const INCREMENTAL: &str = "incremental";
/// The stream of a base.
pub(super) const STREAM: &str = "base";
/// How long a base waits for the log to be followed.
const LOG_WITHIN: Span = Span::from_secs(60);
/// Most bytes of a small file that mariadb-backup writes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Variables that decide what statements of the log do when they are done again.
const VARIABLES: [&str; 11] = [
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "explicit_defaults_for_timestamp",
    "ft_min_word_len",
    "innodb_default_row_format",
    "innodb_file_per_table",
    "innodb_ft_min_token_size",
    "lower_case_table_names",
    "old_mode",
    "sql_mode",
];

/// What the manifest of a base says beside ([`Manifest::facts`]).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(super) struct BaseFacts {
    /// The file of the binary log that goes on from it.
    pub(super) file: FileIdentity,
    /// The first event of that file, in hexadecimal.
    pub(super) first_event: String,
    /// Where the log goes on from it.
    pub(super) position: Position,
    /// The last GTIDs in it, as the server writes them.
    pub(super) gtid: String,
    /// The log sequence number of InnoDB that it reaches.
    pub(super) to_lsn: u64,
    /// Variables of the server, by name.
    pub(super) variables: BTreeMap<String, String>,
}

impl BaseFacts {
    pub(super) fn of(manifest: &Manifest) -> Result<Self, RepositoryError> {
        serde_json::from_value(manifest.facts.clone()).map_err(|error| {
            RepositoryError::Unusable(format!("the manifest of {} is none of MariaDB: {error}", manifest.set))
        })
    }
}

pub(super) async fn take(
    mariadb: &MariaDb,
    context: &Context,
    repository: &Arc<Repository>,
    full: bool,
    watcher: &dyn Watcher,
) -> Result<Manifest, DatabaseError> {
    let asking = mariadb.asking();
    let log = followed(mariadb, context, repository).await?;
    let mut connection = mariadb.connect(context).await?;
    let version = connection.value("SELECT @@version").await.asking(&asking)?;
    let data = connection.value("SELECT @@datadir").await.asking(&asking)?;
    let sizes = "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES";
    let size = connection.value(sizes).await.asking(&asking)?.parse().ok();
    let variables = variables(&mut connection).await?;
    if let Some(problem) = problems::elsewhere(&mut connection, Path::new(&data), problems::is_writable)
        .await
        .asking(&asking)?
        .into_iter()
        .next()
    {
        return Err(DatabaseError::Database(format!("{asking}: {}: {}", problem.what, problem.remedy)));
    }
    drop(connection);
    let parent = if full { None } else { parent(mariadb, repository, &log).await? };

    let work = WorkFolder::new(&mariadb.work, "base", context)?;
    let (lsn, defaults) = (work.path().join("lsn"), work.path().join("client.cnf"));
    fs::create_dir(&lsn).map_err(|error| DatabaseError::Files { path: lsn.clone(), error })?;
    write_defaults(&mariadb.settings, context, &defaults).await?;
    let mut program = Program::new("mariadb-backup")
        .arg(option("defaults-file", &defaults))
        .args(["--backup", "--stream=mbstream"])
        .arg(option("datadir", Path::new(&data)))
        .arg(option("extra-lsndir", &lsn))
        .arg(option("target-dir", &work.path().join("target")));
    if let Some((_, facts)) = &parent {
        program = program.arg(format!("--incremental-lsn={}", facts.to_lsn));
    }
    let mut writer = SetWriter::begin(Arc::clone(repository), &mariadb.name, ENGINE).await?;
    let mut running = context.programs.stream(&program)?;
    let stdout = running.stdout().ok_or_else(|| DatabaseError::Database("mariadb-backup has no output".to_owned()))?;
    let size = size.filter(|_| parent.is_none());
    let stream = if parent.is_some() { INCREMENTAL_STREAM } else { STREAM };
    let read = writer.stream(stream, stdout, |bytes| watcher.doing("base", bytes, size));
    let (streamed, ended) = tokio::join!(read, running.ended());
    // Where the repository takes no more the program fails as well: by a pipe that is broken.
    streamed?;
    ended?;
    let consistent_at = context.clock.now();

    let info = written(&lsn, "info")?;
    let to_lsn = field(&written(&lsn, "checkpoints")?, "to_lsn").and_then(|lsn| lsn.parse().ok());
    let place = field(&info, "binlog_pos").and_then(|place| binlog_position(&place));
    let (Some(to_lsn), Some((name, at, gtid))) = (to_lsn, place) else {
        return Err(DatabaseError::Database(format!("{asking}: mariadb-backup does not say where the log goes on")));
    };
    let (file, first_event) = lineage::first_event(mariadb, context, &name).await?;
    if lineage::current(mariadb, context, repository).await?.as_ref() != Some(&log) {
        let why = "its binary log was begun anew while a base was taken: take another one";
        return Err(DatabaseError::Database(format!("{asking}: {why}")));
    }
    let position = Position { file: file_number(&name).unwrap_or(0), at };
    let facts = BaseFacts { file, first_event: hex(&first_event), position, gtid, to_lsn, variables };
    let facts = serde_json::to_value(facts).map_err(|error| DatabaseError::Database(error.to_string()))?;
    let described = writer.finish(|manifest| {
        manifest.engine_version = version;
        if let Some((set, _)) = parent {
            INCREMENTAL.clone_into(&mut manifest.kind);
            manifest.parent = Some(set);
        }
        manifest.consistent_at = consistent_at;
        manifest.log = Some(log);
        manifest.facts = facts;
    });
    Ok(described.await?)
}

/// The log that is followed; waits for one, as it may be about to begin.
async fn followed(mariadb: &MariaDb, context: &Context, repository: &Arc<Repository>) -> Result<String, DatabaseError> {
    let begun = context.clock.monotonic();
    loop {
        if let Some(log) = lineage::current(mariadb, context, repository).await? {
            return Ok(log);
        }
        if context.clock.monotonic().since(begun) > LOG_WITHIN {
            let asking = mariadb.asking();
            let why = "its binary log is not followed: nothing after a base could be restored";
            return Err(DatabaseError::Database(format!("{asking}: {why}")));
        }
        tokio::time::sleep(Span::from_secs(1).to_std()).await;
    }
}

/// The base that an incremental one builds on: the newest, if it is of this log.
async fn parent(
    mariadb: &MariaDb,
    repository: &Arc<Repository>,
    log: &str,
) -> Result<Option<(String, BaseFacts)>, DatabaseError> {
    let catalog = Catalog::read(repository, &mariadb.name).await?;
    let of_engine = catalog.sets.into_iter().filter(|entry| entry.manifest.engine == ENGINE);
    let Some(newest) = of_engine.max_by_key(|entry| entry.manifest.consistent_at) else { return Ok(None) };
    if newest.copies.is_empty() || newest.manifest.log.as_deref() != Some(log) {
        return Ok(None);
    }
    let facts = BaseFacts::of(&newest.manifest)?;
    Ok(Some((newest.manifest.set, facts)))
}

async fn variables(connection: &mut Connection) -> Result<BTreeMap<String, String>, DatabaseError> {
    let names = VARIABLES.map(|name| format!("'{name}'")).join(", ");
    let query = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let rows = connection.query(&query).await.asking("MariaDB")?;
    let pair = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().flatten();
        Some((row.next()?, row.next()?))
    };
    Ok(rows.into_iter().filter_map(pair).collect())
}

/// `--name=path`.
pub(super) fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(format!("--{name}="));
    option.push(path);
    option
}

/// Writes how a server is reached, for programs of MariaDB: a password must not be seen among the arguments of a process.
pub(super) async fn write_defaults(settings: &Settings, context: &Context, path: &Path) -> Result<(), DatabaseError> {
    let mut text = zeroize::Zeroizing::new("[client]\n".to_owned());
    let mut add = |key: &str, value: &str| {
        if value.chars().any(char::is_control) {
            let socket = settings.socket.display();
            return Err(DatabaseError::Database(format!(
                "the {key} for MariaDB at {socket} has a control character in it"
            )));
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        text.extend([key, "=\"", &value, "\"\n"]);
        Ok(())
    };
    add("socket", &settings.socket.display().to_string())?;
    if let Some(user) = settings.user.clone().or_else(own_name) {
        add("user", &user)?;
    }
    if let Some(password) = &settings.password {
        let opened = context.secrets.open(&password.secret()).await;
        let opened = opened.map_err(|error| DatabaseError::Database(error.to_string()))?;
        add("password", &String::from_utf8_lossy(opened.bytes()))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| DatabaseError::Files { path: path.to_owned(), error })
}

/// A small file that mariadb-backup has written, under its old name or its new one.
pub(super) fn written(folder: &Path, name: &str) -> Result<String, DatabaseError> {
    let paths = ["xtrabackup", "mariadb_backup"].map(|tool| folder.join(format!("{tool}_{name}")));
    let [old, new] = &paths;
    let path = if new.exists() { new } else { old };
    let failed = |error| DatabaseError::Files { path: path.clone(), error };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > SMALL_BYTES_MAX {
        return Err(failed(std::io::Error::other("it is far longer than mariadb-backup writes it")));
    }
    fs::read_to_string(path).map_err(failed)
}

/// `name = value` in a small file.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(" = ")?;
        (found == name).then(|| value.trim().to_owned())
    })
}

/// `filename 'binlog.000001', position '525', GTID of the last change '0-7-1'`.
fn binlog_position(text: &str) -> Option<(String, u64, String)> {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    let (name, at) = (*quoted.first()?, quoted.get(1)?.parse().ok()?);
    file_number(name)?;
    Some((name.to_owned(), at, quoted.get(2).copied().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mariadb_backup_says_is_read() {
        let info = "tool_name = mariadb-backup\nbinlog_pos = filename 'binlog.000001', position '525', GTID of the last \
                    change '0-7-1,1-2-5'\ninnodb_to_lsn = 44878\n";
        let place = field(info, "binlog_pos").and_then(|place| binlog_position(&place));
        assert_eq!(place, Some(("binlog.000001".into(), 525, "0-7-1,1-2-5".into())));
        assert_eq!(
            binlog_position("filename 'binlog.000001', position '525'"),
            Some(("binlog.000001".into(), 525, String::new()))
        );
        for wrong in ["", "filename 'binlog', position '5'", "filename 'binlog.000001', position 'x'"] {
            assert_eq!(binlog_position(wrong), None, "{wrong}");
        }
        assert_eq!(field(info, "to_lsn"), None);
    }
}
