//! The work on one database, in three loops that know nothing of each other but the board: its log is followed, bases are taken, and a
//! random instant is restored.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::Context;
use event::{Monotonic, Span, Time};
use tokio::sync::Notify;

use crate::board::{Board, OnBoard};
use crate::canary;
use crate::check::{self, OpenGap};
use crate::checks;
use crate::config::{Canary, DatabaseSettings, Kind};
use crate::database::{Database, DatabaseError, Mend, Problem, Shipped};
use crate::dependents;
use crate::elsewhere::Elsewhere;
use crate::events::{Taken, Tested};
use crate::restorable::restorable;
use crate::restore_tests::{self, Outcome, RestoreTests, from_copy, in_turn, nothing_elsewhere};
use crate::sealed::{Catalog, Manifest, Repository};
use crate::sources::{self, Asked};
use crate::versions;

/// The shortest and the longest wait after a failure.
pub(crate) const AGAIN_MIN: Span = Span::from_secs(5);
const AGAIN_MAX: Span = Span::from_secs(600);
/// How often settings and rights of a database are looked at.
const LOOK_EVERY: Span = Span::from_secs(300);
/// How many instants a restore test draws, where what was restored is not known to be exact.
const INSTANTS_MAX: usize = 3;
/// How often the locks of what can be restored, and the ends of the log, are looked at.
const LOCKED_EVERY: Span = Span::from_secs(3600);
/// How many bases the log may have taken at once, one after another; each one behind them waits, twice as long as the one before.
const HURRIED_MAX: u32 = 3;
const HURRIED_AGAIN_MAX: Span = Span::from_secs(3600);
/// Without one for so long, the next one is taken at once again.
const HURRIED_WITHIN: Span = Span::from_secs(6 * 3600);
/// How long after the first base the first restore test waits.
pub(crate) const FIRST_TEST_AFTER: Span = Span::from_secs(120);

/// The file that knows the rows of the canary, in the folder of the backup.
const CANARY: &str = "canary";

/// The work on one database.
pub(crate) struct Job {
    pub(crate) settings: DatabaseSettings,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) repository: Arc<Repository>,
    pub(crate) board: Arc<Board>,
    /// The copies that count for what would be left of it.
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) restore_every: Span,
    /// Where restore tests have room.
    pub(crate) work: PathBuf,
    /// A base is needed at once: the log is a new one, or what there was is damaged.
    pub(crate) base_now: Arc<Notify>,
    /// Somebody asks for a base.
    pub(crate) base_asked: Notify,
    /// A restore test is asked for.
    pub(crate) test_now: Notify,
    /// The log that goes on from the base that was taken last since the start.
    pub(crate) log_of_base: Mutex<Option<String>>,
}

impl Job {
    fn name(&self) -> &str {
        &self.settings.name
    }

    /// Follows the log until the engine stops.
    pub(crate) async fn follow(self: Arc<Self>, context: Context) {
        let mut again = AGAIN_MIN;
        loop {
            let catalog = Catalog::read(&self.repository, self.name()).await;
            let bases = catalog.map(|catalog| catalog.sets).unwrap_or_default();
            let (job, mut came) = (Arc::clone(&self), false);
            let mut shipped = |shipped: Shipped| {
                // The agent may have been killed before it took a base for a new log.
                let is_without = !came
                    && !bases.is_empty()
                    && bases.iter().all(|base| base.manifest.log.as_ref() != Some(&shipped.log));
                let replaces = shipped.is_new_log && (!bases.is_empty() || job.has_base());
                // The first log of a backup replaces none, and its first base is due anyway, or was quicker than the first piece.
                let is_first = !came && bases.is_empty() && job.took_base_of(&shipped.log);
                came = true;
                if (is_without || replaces) && !is_first {
                    let why = "the log that there was has ended: a new base is taken, and what lies between can't be restored";
                    job.board.log_broken(job.name(), why);
                    job.base_now.notify_one();
                }
                job.board.change(job.name(), Kind::Log, |line| line.log_bytes += shipped.bytes);
                if job.elsewhere.has_all(&job.repository) {
                    job.board.succeeded(job.name(), Kind::Log, shipped.through);
                } else {
                    // It is received, and would burn with this host: it is not as fresh as that.
                    job.board.change(job.name(), Kind::Log, |line| line.error = None);
                }
                if shipped.needs_base {
                    tracing::info!(
                        backup = job.name(),
                        "a tablespace was made: a base is taken, for the log can't make it elsewhere"
                    );
                    job.base_now.notify_one();
                }
            };
            let followed = self.database.follow(&context, &self.repository, &mut shipped).await;
            if context.stop.is_cancelled() {
                if let Err(error) = followed {
                    tracing::warn!(backup = self.name(), %error, "what was received last is received again at the next start");
                }
                return;
            }
            let error = followed.err().map_or_else(|| "it has ended by itself".to_owned(), |error| error.to_string());
            tracing::warn!(backup = self.name(), error, "the log is not followed");
            self.board.failed(self.name(), Kind::Log, error);
            again = if came { AGAIN_MIN } else { twice(again) };
            wait(&context, again).await;
        }
    }

    /// Whether a base was taken, or found, since the start.
    fn has_base(&self) -> bool {
        let lines = self.board.lines();
        lines.get(&(self.name().to_owned(), Kind::Full)).is_some_and(|line| line.succeeded.is_some())
    }

    /// Whether the base that was taken last since the start is of this log.
    fn took_base_of(&self, log: &str) -> bool {
        self.log_of_base.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(log)
    }

    /// Writes to the board what keeps the database from being backed up, each with what mends it, until the engine stops: settings and
    /// rights may change at any time.
    pub(crate) async fn look(self: Arc<Self>, context: Context) {
        let words = |problem: &Problem| format!("{}: {}", problem.what, problem.remedy);
        while !context.stop.is_cancelled() {
            // Where the database does not answer, what is known of it stays: following its log says so.
            if let Ok(mut problems) = self.database.problems(&context).await {
                let passed = versions::passed(&self.work);
                problems.retain(|it| !matches!(&it.mend, Mend::RestoreTest(release) if passed.contains(release)));
                let (warnings, wrong): (Vec<Problem>, Vec<Problem>) =
                    problems.into_iter().partition(|it| it.is_warning);
                self.board.change(self.name(), Kind::Log, |line| {
                    line.notes = warnings.iter().map(|problem| format!("warning: {}", words(problem))).collect();
                    line.wrong = wrong.iter().map(words).collect();
                });
            }
            wait(&context, LOOK_EVERY).await;
        }
    }

    /// Takes bases until the engine stops.
    pub(crate) async fn bases(self: Arc<Self>, context: Context) {
        let (mut again, mut hurried) = (AGAIN_MIN, Hurried::default());
        let mut lock_at = context.clock.monotonic();
        while !context.stop.is_cancelled() {
            let now = context.clock.monotonic();
            if now >= lock_at {
                lock_at = Monotonic(now.0.saturating_add(LOCKED_EVERY.micros()));
                if let Err(error) = self.keep_locked().await {
                    tracing::warn!(backup = self.name(), %error, "whether what can be restored is locked is not known");
                }
                if let Err(error) = self.look_for_gaps().await {
                    tracing::warn!(backup = self.name(), %error, "whether the log has a gap is not known");
                }
            }
            let (kind, due) = match self.next_base(context.clock.now()).await {
                Ok(next) => next,
                Err(error) => {
                    self.board.failed(self.name(), Kind::Full, error.to_string());
                    pause(&context, again, &self.base_asked).await;
                    again = twice(again);
                    continue;
                }
            };
            self.board.change(self.name(), kind, |line| line.due = Some(due));
            let left = due.since(context.clock.now()).max(Span::ZERO);
            let is_urgent = tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = self.base_asked.notified() => Some(false),
                () = self.base_now.notified() => Some(true),
                // A clock that is set meanwhile moves what is due: nobody sleeps for longer than a minute.
                () = tokio::time::sleep(left.min(Span::from_secs(60)).to_std()) => None,
            };
            if is_urgent.is_none() && left > Span::ZERO {
                continue;
            }
            if is_urgent == Some(true) {
                let rest = hurried.rest(context.clock.monotonic());
                if rest > Span::ZERO {
                    self.board.change(self.name(), Kind::Full, |line| line.due = Some(context.clock.now() + rest));
                    tracing::warn!(
                        backup = self.name(),
                        rest_s = rest.secs(),
                        "the log has had base after base taken: the next one waits"
                    );
                    tokio::select! {
                        () = wait(&context, rest) => {}
                        () = self.base_asked.notified() => {}
                    }
                    if context.stop.is_cancelled() {
                        return;
                    }
                }
            }
            let kind = if is_urgent.is_some() { Kind::Full } else { kind };
            again = match self.take_base(&context, kind).await {
                Ok(()) => {
                    if is_urgent == Some(true) {
                        hurried.taken(context.clock.monotonic());
                    }
                    AGAIN_MIN
                }
                Err(error) => {
                    tracing::warn!(backup = self.name(), %error, "no base could be taken");
                    self.board.failed(self.name(), kind, error.to_string());
                    pause(&context, again, &self.base_asked).await;
                    // What it was needed for still needs it.
                    match is_urgent {
                        Some(true) => self.base_now.notify_one(),
                        Some(false) => self.base_asked.notify_one(),
                        None => {}
                    }
                    twice(again)
                }
            };
        }
    }

    /// Which base is next, and when: from what the repository holds, so that a restart takes none too many.
    async fn next_base(&self, now: Time) -> Result<(Kind, Time), DatabaseError> {
        let catalog = Catalog::read(&self.repository, self.name()).await?;
        let newest = |full: bool| {
            let sets = catalog.sets.iter().filter(|set| !full || set.manifest.kind == Kind::Full.word());
            sets.map(|set| &set.manifest).max_by_key(|manifest| manifest.consistent_at)
        };
        let Some(full) = newest(true) else { return Ok((Kind::Full, now)) };
        self.known(Kind::Full, full);
        let full_due = full.began_at + self.settings.full_every;
        // Also where an incremental one is next: what was due has been taken.
        self.board.change(self.name(), Kind::Full, |line| line.due = Some(full_due));
        let Some(every) = self.settings.incremental_every else { return Ok((Kind::Full, full_due)) };
        let last = newest(false).unwrap_or(full);
        if last.kind == Kind::Incremental.word() {
            self.known(Kind::Incremental, last);
        }
        let due = last.began_at + every;
        Ok(if full_due <= due { (Kind::Full, full_due) } else { (Kind::Incremental, due) })
    }

    /// Has a base taken where the log goes on behind a gap and no base does: the agent may have been killed before it was whole.
    async fn look_for_gaps(&self) -> Result<(), DatabaseError> {
        let catalog = Catalog::read(&self.repository, self.name()).await?;
        let newest = catalog.sets.iter().map(|set| set.manifest.consistent_at).max();
        // A log that ends before the newest base is an older one, or is still to come as far; without a base the first one is due anyway.
        let is_open = |gap: &OpenGap| newest.is_some_and(|newest| gap.through > newest);
        match check::open_gaps(&self.repository, &catalog).await?.into_iter().find(is_open) {
            Some(gap) => {
                self.board.log_broken(self.name(), &format!("{gap}: a new base is taken"));
                self.base_now.notify_one();
            }
            None => self.board.no_gap_found(self.name()),
        }
        Ok(())
    }

    /// Has what can be restored locked for as long as it is kept, where the next base is late.
    async fn keep_locked(&self) -> Result<(), DatabaseError> {
        let catalog = Catalog::read(&self.repository, self.name()).await?;
        let unlocked = dependents::keep_locked(&self.repository, &catalog, self.name()).await?;
        let Some(first) = unlocked.into_iter().next() else { return Ok(()) };
        let why =
            format!("the log and the bases that it goes on from are not locked for as long as they are kept: {first}");
        self.board.failed(self.name(), Kind::Full, why);
        Ok(())
    }

    /// A base of an earlier run is known, and was said when it was taken.
    fn known(&self, kind: Kind, manifest: &Manifest) {
        self.board.change(self.name(), kind, |line| {
            line.succeeded = line.succeeded.max(Some(manifest.consistent_at));
        });
    }

    async fn take_base(&self, context: &Context, kind: Kind) -> Result<(), DatabaseError> {
        let began = context.clock.monotonic();
        let watcher = OnBoard { board: &self.board, name: self.name(), kind };
        let manifest = self.database.take_base(context, &self.repository, kind == Kind::Full, &watcher).await?;
        self.log_of_base.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&manifest.log);
        let taken = Taken {
            backup: manifest.backup.clone(),
            set: manifest.set.clone(),
            kind: manifest.kind.clone(),
            consistent_at: manifest.consistent_at,
            bytes: manifest.size(),
            took_s: u64::try_from(context.clock.monotonic().since(began).secs()).unwrap_or(0),
        };
        if let Err(error) = context.recorder.record(&taken).await {
            tracing::error!(%error, "a base is not recorded");
        }
        let took = context.clock.monotonic().since(began);
        self.board
            .change(self.name(), kind, |line| (line.last_bytes, line.last_took) = (Some(taken.bytes), Some(took)));
        self.board.succeeded(self.name(), kind, manifest.consistent_at);
        // A full base shows all that an incremental one would.
        if kind == Kind::Full {
            if self.settings.incremental_every.is_some() {
                self.board.succeeded(self.name(), Kind::Incremental, manifest.consistent_at);
            }
            self.board.log_mended(self.name());
        }
        Ok(())
    }

    /// Commits the rows of its canary, until the engine stops.
    pub(crate) async fn canary(self: Arc<Self>, canary: Canary, context: Context) {
        let remembered = self.work.join(CANARY);
        loop {
            let put = canary::put(&*self.database, &canary.table, &remembered, &context).await;
            if let Err(error) = &put {
                tracing::warn!(backup = self.name(), error, "no canary row is committed");
            }
            self.board.canary_wrong(self.name(), put.err());
            wait(&context, canary.every).await;
            if context.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Restores a random instant each [`Job::restore_every`], until the engine stops.
    pub(crate) async fn tests(self: Arc<Self>, context: Context) {
        restore_tests::run(&*self, &context).await;
    }

    /// How much would be lost if this host burnt now: how old the newest instant is that a copy elsewhere can be restored to.
    async fn lost(&self, now: Time) -> Result<Span, DatabaseError> {
        let mut newest = None;
        let mut unread = Vec::new();
        for copy in self.elsewhere.counting(&self.repository) {
            let alone = Arc::new(self.repository.only(copy));
            let read = async {
                let catalog = Catalog::read(&alone, self.name()).await?;
                restorable(&alone, &catalog).await
            };
            match read.await {
                Ok(stretches) => newest = newest.max(stretches.iter().map(|stretch| stretch.through).max()),
                // It has nothing that anybody could read.
                Err(error) => unread.push(error.to_string()),
            }
        }
        let newest = newest.ok_or_else(|| DatabaseError::Unreachable(nothing_elsewhere(&self.elsewhere, &unread)))?;
        Ok(now.since(newest).max(Span::ZERO))
    }

    /// Remembers that a restore test has passed with the release that a base is of.
    async fn trust_release(&self, set: &str) {
        let Ok(catalog) = Catalog::read(&self.repository, self.name()).await else { return };
        if let Some(entry) = catalog.sets.iter().find(|entry| entry.manifest.set == *set) {
            let (engine, version) = (&entry.manifest.engine, &entry.manifest.engine_version);
            versions::remember(&self.work, &versions::release(engine, version));
        }
    }
}

/// The bases that the log had taken lately: where each of them breaks it again, as with a server that keeps less of its log than a base
/// takes, they would come without end.
#[derive(Default)]
struct Hurried {
    count: u32,
    last: Option<Monotonic>,
}

impl Hurried {
    /// How long the next one waits.
    fn rest(&mut self, now: Monotonic) -> Span {
        let Some(last) = self.last.filter(|last| now.since(*last) < HURRIED_WITHIN) else {
            self.count = 0;
            return Span::ZERO;
        };
        let Some(behind) = self.count.checked_sub(HURRIED_MAX) else { return Span::ZERO };
        let wait = Span::from_secs(60 << behind.min(10)).min(HURRIED_AGAIN_MAX);
        Span::from_micros(wait.micros().saturating_sub(now.since(last).micros()).max(0))
    }

    fn taken(&mut self, now: Monotonic) {
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }
}

/// An instant, each one of all that can be restored as likely as any other.
async fn random_instant(context: &Context, repository: &Arc<Repository>, backup: &str) -> Result<Time, DatabaseError> {
    let catalog = Catalog::read(repository, backup).await?;
    let stretches = restorable(repository, &catalog).await?;
    let length = |from: Time, through: Time| through.since(from).micros().max(0).unsigned_abs();
    let all: u64 = stretches.iter().map(|stretch| length(stretch.from, stretch.through)).sum();
    let Some(first) = stretches.first() else {
        return Err(DatabaseError::Unreachable("there is no base yet: nothing can be restored".into()));
    };
    let mut at = context.random.number() % all.max(1);
    for stretch in &stretches {
        let length = length(stretch.from, stretch.through);
        if at < length {
            let micros = stretch.from.micros().saturating_add(i64::try_from(at).unwrap_or(0));
            return Ok(Time::from_micros(micros));
        }
        at -= length;
    }
    Ok(first.from)
}

impl RestoreTests for Job {
    fn name(&self) -> &str {
        self.name()
    }

    fn board(&self) -> &Board {
        &self.board
    }

    fn work(&self) -> &Path {
        &self.work
    }

    fn every(&self) -> Span {
        self.restore_every
    }

    fn asked(&self) -> &Notify {
        &self.test_now
    }

    async fn first(&self, _: &Context) -> Option<Time> {
        let catalog = Catalog::read(&self.repository, self.name()).await.ok()?;
        let stretches = restorable(&self.repository, &catalog).await.ok()?;
        stretches.iter().map(|stretch| stretch.from).min()
    }

    async fn test(&self, context: &Context, to: Option<Time>) -> Outcome {
        let began = context.clock.monotonic();
        let folder = self.work.join("restored");
        let mut tested = Tested {
            backup: self.name().to_owned(),
            to: to.unwrap_or_else(|| context.clock.now()),
            copy: None,
            set: None,
            error: None,
            checks: Vec::new(),
            bytes: 0,
            took: Span::ZERO,
        };
        // From one copy alone: what another one has hides nothing of it.
        let (repository, copy) = in_turn(&self.repository, &self.work);
        tested.copy = Some(copy.clone());
        let lost = match self.lost(context.clock.now()).await {
            Ok(lost) => lost,
            Err(error) => return Outcome::unmeasured(tested, context.clock.monotonic().since(began), &error),
        };
        let (mut notes, mut is_of_instant) = (Vec::new(), to.is_some());
        let restored = async {
            remove_folder(&folder).await?;
            let scratch = self.work.join("scratch");
            remove_folder(&scratch).await?;
            let watcher = OnBoard { board: &self.board, name: self.name(), kind: Kind::Restore };
            let mut doubts = String::new();
            for _ in 0..if to.is_some() { 1 } else { INSTANTS_MAX } {
                if to.is_none() {
                    tested.to = random_instant(context, &repository, self.name()).await?;
                    is_of_instant = true;
                }
                let (into, work) = (folder.clone(), scratch.clone());
                let restored =
                    sources::restore(context, &repository, self.name(), tested.to, &into, &work, &watcher).await;
                let asked = match &restored {
                    Ok(restored) if restored.doubts.is_empty() => {
                        let remembered = self.work.join(CANARY);
                        let of = (&self.settings, Some(remembered.as_path()));
                        sources::check(context, &repository, of, restored, &work, &watcher).await
                    }
                    _ => Ok(Asked::default()),
                };
                remove_folder(&folder).await?;
                remove_folder(&scratch).await?;
                let restored = restored?;
                if restored.doubts.is_empty() {
                    return Ok((restored, asked?));
                }
                doubts = restored.doubts.join("; ");
                // Another one may be known to be exact.
                is_of_instant = to.is_some();
            }
            Err(DatabaseError::Unreachable(format!(
                "what is restored to {} is not known to be exact: {doubts}",
                tested.to
            )))
        };
        match restored.await {
            Ok((restored, asked)) => {
                if !restored.passed_over.is_empty() {
                    tracing::error!(backup = self.name(), "the newest base is of no use: another one is taken");
                    self.base_now.notify_one();
                }
                tested.bytes = restored.bytes;
                tested.error = checks::failure(&asked.checks).map(|error| from_copy(&copy, &error));
                if tested.error.is_none() {
                    self.trust_release(&restored.set).await;
                }
                tested.set = Some(restored.set);
                tested.checks = asked.checks;
                notes = asked.notes;
            }
            Err(error) => tested.error = Some(from_copy(&copy, &error)),
        }
        tested.took = context.clock.monotonic().since(began);
        Outcome { tested, lost, notes, is_of_instant }
    }
}

/// Removes a folder of ours with all that is in it.
pub(crate) async fn remove_folder(folder: &Path) -> Result<(), DatabaseError> {
    let mut removed = tokio::fs::remove_dir_all(folder).await;
    if matches!(&removed, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied) {
        // Directories were restored that their owner may not write to.
        let opened = folder.to_owned();
        drop(tokio::task::spawn_blocking(move || open_up(opened)).await);
        removed = tokio::fs::remove_dir_all(folder).await;
    }
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(DatabaseError::Files { path: folder.to_owned(), error })
        }
        _ => Ok(()),
    }
}

/// Has this user write to a directory and all below it. What can't be changed is met again when it is removed.
fn open_up(folder: PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        if std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).is_err() {
            continue;
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
}

pub(crate) fn read_time(path: &Path) -> Option<Time> {
    Time::parse_rfc3339(std::fs::read_to_string(path).ok()?.trim())
}

pub(crate) fn twice(wait: Span) -> Span {
    Span::from_micros(wait.micros().saturating_mul(2)).min(AGAIN_MAX)
}

pub(crate) async fn wait(context: &Context, span: Span) {
    let sleep = tokio::time::sleep(Duration::from_micros(span.micros().unsigned_abs()));
    tokio::select! {
        () = context.stop.cancelled() => {}
        () = sleep => {}
    }
}

/// Waits before work that failed is tried again, unless somebody asks for it; that is found by who waits for the next turn.
pub(crate) async fn pause(context: &Context, span: Span, asked: &Notify) {
    tokio::select! {
        () = wait(context, span) => {}
        () = asked.notified() => asked.notify_one(),
    }
}

/// Waits until a piece of work is due, or somebody asks for it, be it before; the board shows when it is due.
pub(crate) async fn until(context: &Context, board: &Board, of: (&str, Kind), due: Time, asked: &Notify) {
    board.change(of.0, of.1, |line| line.due = Some(due));
    loop {
        let left = due.since(context.clock.now()).max(Span::ZERO);
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            () = asked.notified() => return,
            // A clock that is set meanwhile moves what is due: nobody sleeps for longer than a minute.
            () = tokio::time::sleep(left.min(Span::from_secs(60)).to_std()) => {}
        }
        if left == Span::ZERO {
            return;
        }
    }
}

#[cfg(test)]
mod by_itself;

#[cfg(test)]
pub(crate) mod tests {
    use engine::BoxFuture;
    use engine::Watcher;
    use engine::clock::SimClock;
    use engine::random::SeededRandom;
    use engine::sim::World;

    use super::*;
    use crate::canary::CanaryTable;
    use crate::config::Connection;
    use crate::objects::Directory;
    use crate::sealed::{Copy, RepositoryKey, SetWriter};

    /// Settings of a database that nobody asks.
    pub(crate) fn settings(name: &str) -> DatabaseSettings {
        DatabaseSettings {
            name: name.into(),
            service: None,
            connection: Connection { socket: "/nowhere".into(), user: None, password: None },
            full_every: Span::from_days(1),
            incremental_every: None,
            checks: Vec::new(),
            canary: None,
            data: None,
            stop: Vec::new(),
            start: Vec::new(),
        }
    }

    /// A database that goes on with a log that it has begun before.
    struct GoesOn {
        log: &'static str,
        has_shipped: Arc<Notify>,
    }

    impl Database for GoesOn {
        fn problems<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn take_base<'a>(
            &'a self,
            _: &'a Context,
            _: &'a Arc<Repository>,
            _: bool,
            _: &'a dyn Watcher,
        ) -> BoxFuture<'a, Result<Manifest, DatabaseError>> {
            Box::pin(std::future::pending())
        }

        fn follow<'a>(
            &'a self,
            context: &'a Context,
            _: &'a Arc<Repository>,
            shipped: &'a mut (dyn FnMut(Shipped) + Send),
        ) -> BoxFuture<'a, Result<(), DatabaseError>> {
            let (log, through) = (self.log.to_owned(), context.clock.now());
            shipped(Shipped { log, through, bytes: 1, is_new_log: false, needs_base: false });
            self.has_shipped.notify_one();
            Box::pin(async {
                context.stop.cancelled().await;
                Ok(())
            })
        }

        fn newest_canary<'a>(
            &'a self,
            _: &'a Context,
            _: &'a CanaryTable,
        ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>> {
            Box::pin(std::future::pending())
        }

        fn put_canary<'a>(
            &'a self,
            _: &'a Context,
            _: &'a CanaryTable,
            _: canary::Row,
        ) -> BoxFuture<'a, Result<(), DatabaseError>> {
            Box::pin(std::future::pending())
        }
    }

    /// A database that gives no base.
    struct GivesNone(Notify);

    impl Database for GivesNone {
        fn problems<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Vec<Problem>, DatabaseError>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn take_base<'a>(
            &'a self,
            _: &'a Context,
            _: &'a Arc<Repository>,
            is_full: bool,
            _: &'a dyn Watcher,
        ) -> BoxFuture<'a, Result<Manifest, DatabaseError>> {
            assert!(is_full, "who asks gets a full base");
            self.0.notify_one();
            Box::pin(async { Err(DatabaseError::Database("no base today".to_owned())) })
        }

        fn follow<'a>(
            &'a self,
            _: &'a Context,
            _: &'a Arc<Repository>,
            _: &'a mut (dyn FnMut(Shipped) + Send),
        ) -> BoxFuture<'a, Result<(), DatabaseError>> {
            Box::pin(std::future::pending())
        }

        fn newest_canary<'a>(
            &'a self,
            _: &'a Context,
            _: &'a CanaryTable,
        ) -> BoxFuture<'a, Result<Option<u64>, DatabaseError>> {
            Box::pin(std::future::pending())
        }

        fn put_canary<'a>(
            &'a self,
            _: &'a Context,
            _: &'a CanaryTable,
            _: canary::Row,
        ) -> BoxFuture<'a, Result<(), DatabaseError>> {
            Box::pin(std::future::pending())
        }
    }

    fn repository(at: Time, folder: &Path) -> Arc<Repository> {
        let (clock, random) = (Arc::new(SimClock::starting_at(at)), Arc::new(SeededRandom::new(7)));
        let copies = vec![Copy { name: "near".into(), objects: Arc::new(Directory::new(folder)) }];
        let key = RepositoryKey::random(&*random);
        Arc::new(Repository::new(copies, key, Span::ZERO, clock, random))
    }

    fn job(database: Arc<dyn Database>, repository: &Arc<Repository>, folder: &Path) -> Arc<Job> {
        Arc::new(Job {
            settings: settings("shop"),
            database,
            repository: Arc::clone(repository),
            board: Arc::default(),
            elsewhere: Arc::default(),
            restore_every: Span::from_days(1),
            work: folder.to_owned(),
            base_now: Arc::default(),
            base_asked: Notify::new(),
            test_now: Notify::new(),
            log_of_base: Mutex::default(),
        })
    }

    /// A base that failed is tried again after a while, at most ten minutes, and one that somebody asks for is taken at once.
    #[tokio::test(start_paused = true)]
    async fn a_base_that_is_asked_for_waits_for_no_delay() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = Time::from_secs(1_796_000_000);
        let repository = repository(at, folder.path());
        let database = Arc::new(GivesNone(Notify::new()));
        let job = job(Arc::clone(&database) as Arc<dyn Database>, &repository, folder.path());
        let context = World::at(at).context("host".parse().expect("an observer")).expect("a context");
        let taking = tokio::spawn(Arc::clone(&job).bases(context.clone()));
        for _ in 0..10 {
            database.0.notified().await;
        }
        for _ in 0..3 {
            job.base_asked.notify_one();
            let tried = tokio::time::timeout(Duration::from_secs(500), database.0.notified()).await;
            tried.expect("at once, not after ten minutes");
        }
        context.stop.cancel();
        taking.await.expect("no panic");
    }

    /// What is asked for is done at once too where the wait is for a restore test or a snapshot.
    #[tokio::test(start_paused = true)]
    async fn who_asks_while_work_waits_to_be_tried_again_is_found_by_its_next_turn() {
        let at = Time::from_secs(1_796_000_000);
        let context = World::at(at).context("host".parse().expect("an observer")).expect("a context");
        let (asked, board) = (Notify::new(), Board::default());
        asked.notify_one();
        let next = async {
            pause(&context, AGAIN_MAX, &asked).await;
            until(&context, &board, ("shop", Kind::Restore), at + Span::from_days(1), &asked).await;
            // It was one request: what is due is done once.
            until(&context, &board, ("shop", Kind::Restore), at, &asked).await;
        };
        tokio::time::timeout(Duration::from_millis(1), next).await.expect("at once");
        let again = until(&context, &board, ("shop", Kind::Restore), at + Span::from_days(1), &asked);
        tokio::time::timeout(Duration::from_hours(1), again).await.expect_err("nobody asks any more");
    }

    /// What a restore test has restored is removed, also by a user who may not write to a directory of it.
    #[test]
    fn directories_that_may_not_be_written_to_are_opened_up() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("made");
        for (path, mode) in [(&inner, 0o000), (&folder.path().join("a"), 0o555)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
        }
        open_up(folder.path().to_owned());
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!([mode(&inner), mode(&folder.path().join("a"))], [0o700; 2]);
    }

    /// BK-3: the agent was killed between the beginning of a new log and its base.
    #[tokio::test]
    async fn a_log_without_a_base_gets_one_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = Time::from_secs(1_796_000_000);
        let repository = repository(at, folder.path());
        let base = SetWriter::begin(Arc::clone(&repository), "shop", "mariadb").await.expect("begun");
        base.finish(|manifest| manifest.log = Some("000001-first".into())).await.expect("finished");
        for (log, is_due) in [("000001-first", false), ("000002-second", true)] {
            let has_shipped = Arc::new(Notify::new());
            let database = Arc::new(GoesOn { log, has_shipped: Arc::clone(&has_shipped) });
            let job = job(database, &repository, folder.path());
            let context = World::at(at).context("host".parse().expect("an observer")).expect("a context");
            let followed = tokio::spawn(Arc::clone(&job).follow(context.clone()));
            has_shipped.notified().await;
            context.stop.cancel();
            followed.await.expect("no panic");
            let asked = tokio::time::timeout(Duration::from_millis(1), job.base_now.notified()).await;
            assert_eq!(asked.is_ok(), is_due, "{log}");
        }
    }
}
