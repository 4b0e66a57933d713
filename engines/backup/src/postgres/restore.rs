//! A restore: unpack a base, check it, put the log together up to the instant, and let PostgreSQL recover to the last commit before it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use engine::Context;
use event::{Span, Time};
use futures_util::stream::{self, StreamExt as _};
use tokio::fs::File;

use super::base::{BASE_ARCHIVE, BaseFacts, SERVER_MANIFEST};
use super::log_files::{Committed, LogFiles, Place, is_stray};
use super::plan::{Failure, Plan, Stretch, Unread, plan, read_head};
use super::recovery::{Server, Target};
use crate::bases::{AttemptError, Bases, OfBase as _};
use crate::database::{DatabaseError, Restored, Watcher};
use crate::room;
use crate::sealed::{Catalog, LogPiece, Manifest, Repository, RepositoryError, Stream};
use crate::unpack::{Tar, Unpacked, unpack};
use crate::work::WorkFolder;

/// How many pieces of a log are fetched at once.
const PIECES_AT_ONCE: usize = 4;
/// Most pieces that can't be opened without which a restore is tried.
const UNREAD_MAX: usize = 100;
/// The folder of tablespaces in a restored directory of data.
pub(super) const TABLESPACES: &str = "tablespaces";

/// See [`super::Postgres::restore`].
pub(super) async fn restore(
    context: &Context,
    repository: &Arc<Repository>,
    backup: &str,
    to: Time,
    into: &Path,
    work: &Path,
    watcher: &dyn Watcher,
) -> Result<Restored, DatabaseError> {
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
        let Self { context, to, into, watcher, .. } = *self;
        // The log first: whether it leads to the instant is known for sure once it was read.
        let (plan, server, log) = self.log(bases).await?;
        let stray = match log.place.stray {
            None => stray_behind(self.repository, &plan, &log, to).await?,
            stray => stray,
        };
        let last = log.place.last.filter(|last| last.record.start >= plan.base.stop);
        let target = Target {
            timeline: plan.timeline,
            last_record: last.map(|last| last.record.start),
            end: last.map_or(plan.base.stop, |last| last.record.end),
        };
        // Whoever replays it writes to the path of the original, which may be that of the server that runs.
        let replayed = plan.base.start..target.end;
        if let Some(at) = log.place.tablespaces.iter().find(|at| replayed.contains(*at)) {
            let (backup, set) = (self.backup, &plan.set.set);
            return Err(AttemptError::Final(DatabaseError::Unreachable(format!(
                "{backup} can't be restored to {to}: behind its base {set}, at {at}, a tablespace was made, and to replay that would \
                 write to the place that it has on its own host. An instant before it can be restored, and each one behind the next base"
            ))));
        }
        let owner = server.owner;
        let work = WorkFolder::new(self.work, "restore", context)?;
        owner.give(work.path())?;
        owner.can_reach(context, work.path()).await?;
        let base_bytes = plan.set.size();
        let catalog = self.catalog;
        let mut unpacking = Unpacking { catalog, plan: &plan, done: 0, of: base_bytes, watcher };
        let set = &plan.set.set;
        unpacking.all(into, work.path(), &server).await.of_base(set)?;
        server.verify(context, into, &work.path().join(SERVER_MANIFEST)).await.of_base(set)?;
        write_tablespace_map(into, &plan.base, &server)?;

        // Those that this timeline does not descend from are there for their numbers, which the next one must not have.
        let history = |timeline: u32| into.join(format!("pg_wal/{timeline:08X}.history"));
        for timeline in 2..=plan.newest_timeline {
            server.write(&history(timeline), &plan.history.of(timeline).file())?;
        }
        server.recover(context, into, work.path(), &target, watcher).await.of_base(set)?;
        for timeline in plan.timeline + 1..=plan.newest_timeline {
            let path = history(timeline);
            fs::remove_file(&path).map_err(|error| DatabaseError::Files { path, error })?;
        }
        Ok(Restored {
            to,
            last_commit: log.place.last.map(Committed::commit),
            next_commit: log.place.next.map(Committed::commit),
            set: plan.set.set,
            folder: into.to_owned(),
            bytes: base_bytes + log.bytes,
            doubts: stray.map(|stray| clock_set_back(to, stray)).into_iter().collect(),
            passed_over: Vec::new(),
        })
    }

    /// Writes the log that leads from a base to the instant, without pieces that can't be opened.
    async fn log(&self, bases: &Bases) -> Result<(Plan, Server, Log), DatabaseError> {
        let Self { context, repository, backup, to, into, watcher, .. } = *self;
        let mut unread = BTreeMap::new();
        loop {
            let done = async {
                let plan = plan(repository, self.catalog, (backup, to), &unread, bases).await?;
                let server = Server::find(context, &plan.set.engine_version).await?;
                has_room(into, &plan.set, &server)?;
                server.owner.can_reach(context, into).await?;
                let log = write_log(repository, &plan, to, &into.join("pg_wal"), &server, watcher).await?;
                Ok((plan, server, log))
            };
            match done.await {
                Ok(done) => return Ok(done),
                Err(Failure::Unread(Unread { piece, error })) if unread.len() < UNREAD_MAX => {
                    tracing::warn!(backup, piece, %error, "a piece of log can't be opened: the restore tries to go without");
                    unread.insert(piece, error.to_string());
                    let path = into.join("pg_wal");
                    match fs::remove_dir_all(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(DatabaseError::Files { path, error });
                        }
                        _ => {}
                    }
                }
                Err(Failure::Unread(Unread { error, .. })) => return Err(error.into()),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }
}

/// Makes the folder to restore into, with one for the log, and sees whether the disk has room.
fn has_room(into: &Path, set: &Manifest, server: &Server) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::Files { path: into.to_owned(), error };
    server.owner.make(into)?;
    if fs::read_dir(into).map_err(failed)?.next().is_some() {
        return Err(failed(io::Error::other("the folder to restore into is not empty")));
    }
    room::has(into, set.size(), 0)?;
    server.owner.make(&into.join("pg_wal"))
}

/// The unpacking of a base.
struct Unpacking<'a> {
    catalog: &'a Catalog,
    plan: &'a Plan,
    done: u64,
    of: u64,
    watcher: &'a dyn Watcher,
}

impl Unpacking<'_> {
    async fn all(&mut self, into: &Path, work: &Path, server: &Server) -> Result<(), DatabaseError> {
        let missing =
            |name: &str| RepositoryError::Unusable(format!("the base {} has no stream {name}", self.plan.set.set));
        let stream = |name: &str| {
            let found = self.plan.set.streams.iter().find(|stream| stream.name == name);
            found.ok_or_else(|| missing(name))
        };
        let (base, manifest) = (stream(BASE_ARCHIVE)?, stream(SERVER_MANIFEST)?);
        let mut archives = Vec::new();
        for tablespace in &self.plan.base.tablespaces {
            archives.push((tablespace.oid, stream(&tablespace.archive())?));
        }
        self.archive(base, into, server).await?;
        if !archives.is_empty() {
            server.owner.make(&into.join(TABLESPACES))?;
        }
        for (oid, stream) in archives {
            let folder = into.join(TABLESPACES).join(oid.to_string());
            server.owner.make(&folder)?;
            let link = into.join("pg_tblspc").join(oid.to_string());
            symlink(&folder, &link).map_err(|error| DatabaseError::Files { path: link.clone(), error })?;
            server.owner.give(&link)?;
            self.archive(stream, &folder, server).await?;
        }
        let path = work.join(SERVER_MANIFEST);
        let file = File::create(&path).await.map_err(|error| DatabaseError::Files { path: path.clone(), error })?;
        self.catalog.read_stream(&self.plan.set.set, manifest, file, |_| {}).await?;
        server.owner.give(&path)
    }

    /// Unpacks an archive into a folder.
    async fn archive(&mut self, stream: &Stream, into: &Path, server: &Server) -> Result<(), DatabaseError> {
        let (done, of, watcher) = (self.done, self.of, self.watcher);
        let of_set = (self.catalog, &*self.plan.set.set, stream);
        let tell = |bytes| watcher.doing("base", done + bytes, Some(of));
        match unpack(of_set, Tar::default(), (into, server.owner), tell).await? {
            Unpacked::Whole => self.done += stream.size,
            Unpacked::NotHere => {
                let why = format!("the archive {} is of a kind that PostgreSQL does not make", stream.name);
                return Err(DatabaseError::Database(why));
            }
        }
        Ok(())
    }
}

/// Writes down where the tablespaces are now: the server makes its links by this file.
fn write_tablespace_map(into: &Path, base: &BaseFacts, server: &Server) -> Result<(), DatabaseError> {
    if base.tablespaces.is_empty() {
        return Ok(());
    }
    let line = |oid: u32| {
        let folder = into.join(TABLESPACES).join(oid.to_string()).display().to_string();
        let folder = folder.replace('\\', "\\\\").replace('\n', "\\\n").replace('\r', "\\\r");
        format!("{oid} {folder}\n")
    };
    let lines: Vec<String> = base.tablespaces.iter().map(|tablespace| line(tablespace.oid)).collect();
    server.write(&into.join("tablespace_map"), &lines.concat())
}

/// The log up to an instant.
struct Log {
    place: Place,
    /// Bytes that were read.
    bytes: u64,
    /// Stretches that were read.
    stretches: usize,
}

/// Why nobody can tell which commits were made before the instant.
fn clock_set_back(to: Time, stray: Time) -> String {
    format!(
        "the clock of the server was set back: behind the first commit that says that it was made at {to} or later there are others \
         that say {stray}. What is restored ends before that first one, and lacks them; an instant behind the next base is exact"
    )
}

/// How many pieces behind the place of the instant are asked whether the clock was set back there, and how many at once: nine hours of a
/// server in use.
const BEHIND_MAX: usize = 4096;
const HEADS_AT_ONCE: usize = 16;

/// The time of a commit in the pieces behind the place of the instant that claims to be of before it, as far as their heads say.
async fn stray_behind(
    repository: &Arc<Repository>,
    plan: &Plan,
    log: &Log,
    to: Time,
) -> Result<Option<Time>, AttemptError> {
    if log.place.next.is_none() {
        return Ok(None);
    }
    let behind = plan.route.iter().skip(log.stretches).filter(|stretch| stretch.from < stretch.to).take(BEHIND_MAX);
    let behind: Vec<Stretch> = behind.cloned().collect();
    let heads = stream::iter(behind).map(|Stretch { piece, .. }| async move {
        let head = repository
            .fetch_head(&piece.folder, &piece.name.to_string())
            .await
            .map_err(|error| Failure::of(&piece, error))?;
        read_head(&piece, &head)
    });
    let mut heads = heads.buffered(HEADS_AT_ONCE);
    while let Some(head) = heads.next().await {
        let (head, facts) = match head {
            Ok(head) => head,
            // It is not needed for this instant.
            Err(Failure::Unread(_)) => continue,
            Err(Failure::Final(error)) => return Err(AttemptError::Final(error)),
        };
        let ahead = Span::from_micros(facts.clock_ahead_us);
        let commits = [head.first_commit, head.last_commit].into_iter().flatten();
        if let Some(stray) = commits.map(|at| at - ahead).find(|at| is_stray(*at, to)) {
            return Ok(Some(stray));
        }
    }
    Ok(None)
}

/// Writes the log of the plan into a folder, as far as it is needed, and finds the place of the instant in it.
async fn write_log(
    repository: &Arc<Repository>,
    plan: &Plan,
    to: Time,
    folder: &Path,
    server: &Server,
    watcher: &dyn Watcher,
) -> Result<Log, Failure> {
    let BaseFacts { start, stop, segment_bytes, .. } = plan.base;
    let place = Place::new(to, (start.segment_start(segment_bytes), stop), segment_bytes);
    let mut files = LogFiles::new(folder, server.owner, segment_bytes);
    let fetched = stream::iter(plan.route.clone()).map(|stretch| {
        let repository = Arc::clone(repository);
        async move {
            let fetched = repository.fetch(&stretch.piece.folder, &stretch.piece.name.to_string()).await;
            let (head, payload) = fetched.map_err(|error| Failure::of(&stretch.piece, error))?;
            let (_, facts) = read_head(&stretch.piece, &head)?;
            Ok::<_, Failure>((stretch, facts, payload))
        }
    });
    let mut fetched = fetched.buffered(PIECES_AT_ONCE);
    let mut log = Log { place, bytes: 0, stretches: 0 };
    while let Some(piece) = fetched.next().await {
        let (stretch, facts, payload) = piece?;
        let Stretch { piece: LogPiece { name, .. }, from, to: until } = stretch;
        let bad = |why: String| Failure::of(&stretch.piece, RepositoryError::Unusable(why));
        // Files are written and records are read on a thread of their own.
        let done = tokio::task::spawn_blocking(move || {
            let range = (from.0 - name.start, until.0 - name.start);
            let bytes =
                usize::try_from(range.0).ok().zip(usize::try_from(range.1).ok()).and_then(|(a, b)| payload.get(a..b));
            let bytes = bytes.ok_or_else(|| Unwritten::Bad("it holds less than its name says".to_owned()))?;
            log.place
                .read(bytes, Span::from_micros(facts.clock_ahead_us))
                .map_err(|error| Unwritten::Bad(error.to_string()))?;
            files.write(name.file, from, bytes).map_err(Unwritten::Files)?;
            log.bytes += until.0 - from.0;
            log.stretches += 1;
            Ok((log, files))
        });
        (log, files) = match done.await {
            Ok(Ok(done)) => done,
            Ok(Err(Unwritten::Files(error))) => return Err(error.into()),
            Ok(Err(Unwritten::Bad(why))) => return Err(bad(why)),
            Err(error) => return Err(DatabaseError::Database(format!("the log could not be written: {error}")).into()),
        };
        watcher.doing("log", log.bytes, None);
        // Behind the place of the instant nothing more is needed.
        if until >= stop && log.place.next.is_some() {
            break;
        }
    }
    Ok(log)
}

/// Why a piece of log is not in the files.
enum Unwritten {
    /// It is not what it is to be.
    Bad(String),
    /// The files are to blame.
    Files(DatabaseError),
}
