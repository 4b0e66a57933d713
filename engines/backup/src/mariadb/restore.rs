//! A restore: unpack, prepare, put the log together, find where the instant ends in it, play it up to there.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use engine::{Context, Program};
use event::{Span, Time};
use futures_util::stream::{self, StreamExt as _};

use super::base::{BaseFacts, STREAM, option, written};
use super::log_files::{Cut, LogFiles, Transaction};
use super::plan::{Plan, parse_head, plan};
use super::problems::release;
use super::replay::{PrivateServer, Purpose};
use crate::bases::{AttemptError, Bases, OfBase as _};
use crate::blank::Blank;
use crate::database::{DatabaseError, Restored, Watcher};
use crate::owner::Owner;
use crate::room;
use crate::sealed::{Catalog, INCREMENTAL_STREAM, LogPiece, Manifest, Repository, RepositoryError};
use crate::unpack::{self, Unpacked, XbStream};
use crate::work::{WorkFolder, empty};

/// How long mariadb-backup may take to prepare a base.
const PREPARE_WITHIN: Span = Span::from_days(2);
/// How many pieces of a log are fetched at once.
const PIECES_AT_ONCE: usize = 6;

/// See [`super::MariaDb::restore`].
pub(super) async fn restore(
    context: &Context,
    repository: &Arc<Repository>,
    backup: &str,
    to: Time,
    into: &Path,
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Restored, DatabaseError> {
    let to = Time::from_secs(to.micros().div_euclid(1_000_000));
    let catalog = Catalog::read(repository, backup).await?;
    let mut bases = Bases::of(&catalog, to, into);
    let attempt = Attempt { context, repository, catalog: &catalog, backup, to, into, work, watcher };
    loop {
        match attempt.make(&bases).await {
            Ok(restored) => {
                let passed_over = bases.newer_than(&restored.set);
                return Ok(Restored { passed_over, ..restored });
            }
            Err(error) => bases.go_without(error)?,
        }
    }
}

/// A restore from the newest base that is not known to be of no use.
struct Attempt<'a> {
    context: &'a Context,
    repository: &'a Arc<Repository>,
    catalog: &'a Catalog,
    backup: &'a str,
    to: Time,
    into: &'a Path,
    work: &'a Path,
    watcher: &'a dyn Watcher,
}

impl Attempt<'_> {
    async fn make(&self, bases: &Bases) -> Result<Restored, AttemptError> {
        let Self { context, repository, catalog, backup, to, into, work, watcher } = *self;
        let Plan { sets, base, pieces } = plan(repository, catalog, (backup, to), bases).await?;
        let Some(set) = sets.last() else {
            return Err(DatabaseError::Unreachable(format!("{backup} has no base")).into());
        };
        check_release(context, set).await?;
        let owner = Owner::find("mysql", "mariadb-server")?;
        let base_bytes = has_room(into, &sets, &owner)?;
        let work = WorkFolder::new(work, "restore", context)?;
        owner.give(work.path())?;
        owner.can_reach(context, into).await?;
        owner.can_reach(context, work.path()).await?;
        let folder = |name: &str| {
            let path = work.path().join(name);
            owner.make(&path).map(|()| path)
        };

        let mut done = 0;
        for set in &sets {
            let is_full = set.parent.is_none();
            let target = if is_full { into.to_owned() } else { folder("incremental")? };
            let at = Unpacking { done, of: base_bytes, watcher };
            done += unpack(context, catalog, set, &target, &owner, &at).await.of_base(&set.set)?;
            forget_places(&target).map_err(|error| DatabaseError::Files { path: target.clone(), error })?;
            prepare(context, into, (!is_full).then_some(target.as_path()), &owner).await.of_base(&set.set)?;
            if !is_full {
                fs::remove_dir_all(&target).map_err(|error| DatabaseError::Files { path: target.clone(), error })?;
            }
        }
        let binlog_info = written(into, "binlog_info").of_base(&set.set)?;
        let stands = format!("{}\t{}", base.file.name, base.position.at);
        if !binlog_info.starts_with(&stands) {
            let why = format!(
                "the base {} is at `{}` of the log, and its manifest says {stands}",
                set.set,
                binlog_info.trim()
            );
            return Err(DatabaseError::Database(why)).of_base(&set.set);
        }

        let log = fetch(repository, &base, &pieces, (to, 1), &folder("log")?, watcher).await?;
        let server = folder("server")?;
        let blank = Blank::find(context, &[]).await;
        let started = PrivateServer::start(context, (Purpose::Play, &blank), &owner, &base, into, &server).await;
        let mut server = started.of_base(&set.set)?;
        let played = log.files.bytes_up_to(log.cut.position);
        if !log.cut.reached.is_empty() {
            let files = log.files.cut_at(log.cut.position);
            let files = files.map_err(|error| DatabaseError::Files { path: work.path().join("log"), error })?;
            for file in &files {
                owner.give(file)?;
            }
            server.play(context, &owner, &files, base.position.at, played, watcher).await.of_base(&set.set)?;
        }
        server.assert_reached(&log.cut.reached).await.of_base(&set.set)?;
        server.stop().await.of_base(&set.set)?;
        clean(into).map_err(|error| DatabaseError::Files { path: into.to_owned(), error })?;
        Ok(Restored {
            to,
            last_commit: log.cut.last.map(|transaction| transaction.commit()),
            next_commit: log.next.map(|transaction| transaction.commit()),
            set: set.set.clone(),
            folder: into.to_owned(),
            bytes: base_bytes + log.bytes,
            doubts: log.doubts(),
            passed_over: Vec::new(),
        })
    }
}

/// What a base is of must be what is installed: the release decides how its files are prepared.
async fn check_release(context: &Context, set: &Manifest) -> Result<(), DatabaseError> {
    for name in ["mariadbd", "mariadb-backup"] {
        let output = context.programs.run(&Program::new(name).arg("--no-defaults").arg("--version")).await?;
        let said = format!("{} {}", String::from_utf8_lossy(&output.stdout), output.stderr);
        let version = said
            .split_whitespace()
            .find(|word| word.contains("MariaDB") && word.starts_with(|c: char| c.is_ascii_digit()));
        if version.and_then(release) != release(&set.engine_version) {
            let (is, of) = (version.unwrap_or("of another kind"), &set.engine_version);
            let why = format!(
                "the base {} is of MariaDB {of}, and {name} here is {is}: install the release of the base",
                set.set
            );
            return Err(DatabaseError::Database(why));
        }
    }
    Ok(())
}

/// Makes the folder to restore into, and gives the bytes that the bases take.
fn has_room(into: &Path, sets: &[Manifest], owner: &Owner) -> Result<u64, DatabaseError> {
    let failed = |error| DatabaseError::Files { path: into.to_owned(), error };
    owner.make(into)?;
    if fs::read_dir(into).map_err(failed)?.next().is_some() {
        return Err(failed(io::Error::other("the folder to restore into is not empty")));
    }
    room::has(into, sets.first().map_or(0, Manifest::size), 0)?;
    Ok(sets.iter().map(Manifest::size).sum())
}

/// How far the unpacking of all bases is.
struct Unpacking<'a> {
    done: u64,
    of: u64,
    watcher: &'a dyn Watcher,
}

/// Unpacks a base into a folder, and gives its bytes.
async fn unpack(
    context: &Context,
    catalog: &Catalog,
    set: &Manifest,
    target: &Path,
    owner: &Owner,
    at: &Unpacking<'_>,
) -> Result<u64, DatabaseError> {
    let stream = set.streams.iter().find(|stream| [STREAM, INCREMENTAL_STREAM].contains(&&*stream.name));
    let missing = || DatabaseError::Database(format!("the base {} has no stream `{STREAM}`", set.set));
    let stream = stream.ok_or_else(missing)?;
    let (of_set, tell) = ((catalog, &*set.set, stream), |bytes| at.watcher.doing("base", at.done + bytes, Some(at.of)));
    match unpack::unpack(of_set, XbStream::default(), (target, *owner), tell).await? {
        Unpacked::Whole => return Ok(stream.size),
        Unpacked::NotHere => {
            tracing::info!(base = set.set, "the base is unpacked by mbstream: something was renamed while it was read");
        }
    }
    empty(target).map_err(|error| DatabaseError::Files { path: target.to_owned(), error })?;
    let program = Program::new("mbstream").args(["-x", "-C"]).arg(target);
    let mut running = context.programs.filter(&owner.run(program))?;
    let stdin = running.stdin().ok_or_else(missing)?;
    let (read, ended) = tokio::join!(catalog.read_stream(&set.set, stream, stdin, tell), running.ended());
    match (read, ended) {
        // Where the program has failed, its pipe is broken: its own words say why.
        (Ok(()) | Err(RepositoryError::Source(_)), Err(error)) => Err(error.into()),
        (Err(error), _) => Err(error.into()),
        (Ok(()), Ok(())) => Ok(stream.size),
    }
}

async fn prepare(
    context: &Context,
    into: &Path,
    incremental: Option<&Path>,
    owner: &Owner,
) -> Result<(), DatabaseError> {
    // By the settings of the server that was backed up, which are in the base: tables that are encrypted at rest need its plugin.
    let mut program = Program::new("mariadb-backup")
        .arg(option("defaults-file", &into.join("backup-my.cnf")))
        .arg("--prepare")
        .arg(option("target-dir", into));
    if let Some(incremental) = incremental {
        program = program.arg(option("incremental-dir", incremental));
    }
    context.programs.run(&owner.run(program.deadline(PREPARE_WITHIN).tied())).await?;
    Ok(())
}

/// The log of an instant.
pub(super) struct Log {
    pub(super) files: LogFiles,
    pub(super) cut: Cut,
    /// The first transaction that does not belong to the instant.
    next: Option<Transaction>,
    bytes: u64,
    /// How many statements are done again of which the log has no rows.
    statements: u64,
}

impl Log {
    /// Why what was restored may differ from what there was.
    fn doubts(&self) -> Vec<String> {
        let unwatched = self.cut.unwatched.map(|(from, to)| {
            format!("from {from} to {to} nobody received the log: what was committed then is placed by when its statement began")
        });
        let statements = (self.statements > 0).then(|| {
            format!(
                "{} of the statements that were done again need not have made the same: the log does not hold their rows (the \
                 `binlog_format` of their session was not ROW), or they fill a column by UUID(), RAND(), SYSDATE(), a new \
                 AUTO_INCREMENT or the like",
                self.statements
            )
        });
        unwatched.into_iter().chain(statements).collect()
    }
}

/// Fetches pieces until one reaches the instant, and goes on until there are so many transactions behind it.
pub(super) async fn fetch(
    repository: &Arc<Repository>,
    base: &BaseFacts,
    pieces: &[LogPiece],
    (to, behind): (Time, usize),
    folder: &Path,
    watcher: &dyn Watcher,
) -> Result<Log, DatabaseError> {
    let failed = |error| DatabaseError::Files { path: folder.to_owned(), error };
    let mut files = LogFiles::new(folder, base).map_err(failed)?;
    let mut transactions = files.transactions();
    let mut fetched = stream::iter(pieces.iter().cloned().map(|piece| {
        let repository = Arc::clone(repository);
        async move {
            let object = repository.fetch(&piece.folder, &piece.name.to_string()).await;
            (piece, object)
        }
    }))
    .buffered(PIECES_AT_ONCE);
    let (mut bytes, mut found): (u64, Option<Cut>) = (0, None);
    let (mut next, mut seen): (Option<Transaction>, usize) = (None, 0);
    while let Some((piece, object)) = fetched.next().await {
        let (head, payload) = object?;
        let (_, facts) = parse_head(&piece.folder, &piece.name.to_string(), &head)?;
        bytes += payload.len() as u64;
        watcher.doing("log", bytes, None);
        let name = piece.name;
        // Files are written and read on a thread that may wait for a disk.
        let work = move || -> io::Result<_> {
            files.add(&name, &facts, &payload)?;
            if found.is_none()
                && let Some(window) = files.window(to)
            {
                let (cut, behind_it) = transactions.cut(&files, window, to)?;
                (found, next) = (Some(cut), behind_it);
                seen = usize::from(next.is_some());
            }
            while found.is_some() && seen < behind {
                let Some(transaction) = transactions.next(&files)? else { break };
                next.get_or_insert(transaction);
                seen += 1;
            }
            Ok((files, transactions, found, next, seen))
        };
        let worked =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("it was aborted")));
        (files, transactions, found, next, seen) = worked.map_err(failed)?;
        if found.is_some() && seen >= behind {
            break;
        }
    }
    match found {
        Some(cut) => Ok(Log { files, cut, next, bytes, statements: transactions.statements() }),
        None => Err(DatabaseError::Unreachable(format!("no piece of the log proves that it reaches {to}"))),
    }
}

/// Takes away the files `TABLE.isl` that name another place for the data of a table (`DATA DIRECTORY`): that is the place of the server
/// which was backed up. The data themselves are in the base, and InnoDB finds them where they are.
fn forget_places(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(entry.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "isl") {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Takes away what mariadb-backup has left: a folder of data has the files of a server alone, and how they are made.
fn clean(into: &Path) -> io::Result<()> {
    for entry in fs::read_dir(into)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("xtrabackup_") || name.starts_with("mariadb_backup_") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine::Programs;
    use engine::sim::World;

    use super::*;
    use crate::inspection::tests::Shelf;

    /// The release decides how files are prepared: with another one nothing is begun.
    #[tokio::test]
    async fn a_base_of_another_release_is_refused() {
        let shelf = Shelf::new();
        let mut base = shelf.base(4).await;
        let mut context = World::at(shelf.world.now()).context("agent".parse().expect("a name")).expect("a context");
        context.programs = Arc::new(Programs::of_system());
        base.engine_version = "10.11.2-MariaDB-log".into();
        check_release(&context, &base).await.expect("that of Debian");
        base.engine_version = "11.4.2-MariaDB-log".into();
        let error = check_release(&context, &base).await.expect_err("another one").to_string();
        assert!(error.contains("is of MariaDB 11.4.2") && error.contains("install the release of the base"), "{error}");
    }
}
