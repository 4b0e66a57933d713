//! A rewind: a database is restored beside its directory of data, and put into its place when somebody says so.
//!
//! **Problem.** Between "stop" and "start" a server has two directories of data and none in its place. Whoever is killed there leaves a
//! state that nobody knows, and whoever deletes too early has nothing to go back to.
//! **Principle.** What is restored lies on the file system of the data, so that each move is a renaming, and nothing of the old data is
//! ever deleted. A small journal beside the data says which step has begun; each step may be done twice, for it looks at what is there.
//! From any of them [`Rewind::promote`] goes on to the one end, and [`Rewind::undo`] back to the other.
//!
//! ```text
//! restoring ─▶ restored ─▶ stopping ─▶ moving ─▶ starting ─▶ (no journal: rewound)
//!     └───────────┴────────────┴─────────┴─▶ undoing ─▶ (no journal: as it was)
//! ```

use std::any::Any;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{BoxFuture, Context, Program, ProgramError, Watcher};
use event::{Span, Time};
use serde::{Deserialize, Serialize};

use crate::checks::Checked;
use crate::database::{DatabaseError, Restored};
use crate::sealed::Repository;

#[cfg(test)]
mod tests;

/// How long a command that stops or starts a server may take, and the server itself behind it.
const COMMAND_WITHIN: Span = Span::from_secs(1800);
const STOPPED_WITHIN: Span = Span::from_secs(1800);
const ANSWERS_WITHIN: Span = Span::from_secs(600);
/// How long after its start a server may have no process, and how long one that has a process may be silent before it is told to stop.
const RUNS_WITHIN: Span = Span::from_secs(60);
/// How often it is looked whether it has stopped, or answers.
const LOOKS_EVERY: Span = Span::from_millis(200);
/// How long the newest piece of log may take to be in the repository.
pub(crate) const SHIPPED_WITHIN: Span = Span::from_secs(120);

/// How long it is waited for that where it need not be there.
const UNSHIPPED_WITHIN: Span = Span::from_secs(10);

/// What the name of a journal ends with, behind that of the data.
pub(crate) const JOURNAL: &str = "garant-rewind";

/// Where a live server has its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Its directory of data.
    pub(crate) data: PathBuf,
    /// Files elsewhere that belong to the same past: those of a binary log. They are renamed where they lie.
    pub(crate) beside: Vec<PathBuf>,
}

/// What keeps a server from committing more, for as long as it lives.
#[derive(Default)]
pub(crate) struct Hold(Option<Box<dyn Any + Send>>);

impl Hold {
    /// A hold that ends when this is dropped. [`Hold::default`] holds nobody back.
    pub(crate) fn by(held: impl Any + Send) -> Self {
        Self(Some(Box::new(held)))
    }
}

/// A live server, which is rewound.
pub(crate) trait Live: Send + Sync {
    /// Where its files are; `data` is what the policy says, for a server that does not answer.
    fn layout<'a>(
        &'a self,
        context: &'a Context,
        data: Option<&'a Path>,
    ) -> BoxFuture<'a, Result<Layout, DatabaseError>>;

    /// Whether it answers, were it only to say that it does not know who asks.
    fn answers<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, bool>;

    /// Waits until what it has committed is in the repository. Or why it is not.
    fn ship<'a>(&'a self, context: &'a Context, repository: &'a Arc<Repository>)
    -> BoxFuture<'a, Result<Hold, String>>;

    /// Whether the repository has all that the stopped server on `data` has written. Or why it has not.
    fn is_shipped<'a>(
        &'a self,
        context: &'a Context,
        repository: &'a Arc<Repository>,
        layout: &'a Layout,
    ) -> BoxFuture<'a, Result<(), String>>;

    /// Makes what was restored into `aside` fit into the place of `data`, whose server is stopped: settings are those of now.
    fn fit(&self, aside: &Path, data: &Path) -> Result<(), DatabaseError>;
}

/// How far a rewind is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// It is being restored.
    Restoring,
    /// It is restored, and waits for somebody to say so.
    Restored,
    /// The server is being stopped.
    Stopping,
    /// Directories are being renamed.
    Moving,
    /// The server is being started on what was restored.
    Starting,
    /// It is being undone.
    Undoing,
}

/// What is known of a rewind, in a file beside the data.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Journal {
    pub(crate) backup: String,
    /// The instant.
    pub(crate) to: Time,
    pub(crate) step: Step,
    /// The directory of data.
    pub(crate) data: PathBuf,
    /// Where it is restored to.
    pub(crate) aside: PathBuf,
    /// Where the old data goes.
    pub(crate) old: PathBuf,
    /// Files elsewhere, and where they go.
    pub(crate) beside: Vec<(PathBuf, PathBuf)>,
    /// What stops the server, and starts it.
    pub(crate) stop: Vec<String>,
    pub(crate) start: Vec<String>,
    /// What was restored, and what its checks have shown.
    pub(crate) restored: Option<Restored>,
    pub(crate) checks: Vec<Checked>,
    /// What of the log is in the old data alone.
    #[serde(default)]
    pub(crate) left: Option<String>,
}

fn files(path: &Path) -> impl FnOnce(io::Error) -> DatabaseError + '_ {
    |error| DatabaseError::Files { path: path.to_owned(), error }
}

/// A path with something behind its name.
fn behind(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(what);
    path.with_file_name(name)
}

/// Whether something is there, a link too.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

impl Journal {
    /// The file of a directory of data.
    pub(crate) fn path(data: &Path) -> PathBuf {
        behind(data, &format!(".{JOURNAL}"))
    }

    /// The one of a rewind that is under way.
    pub(crate) fn find(data: &Path) -> Result<Option<Self>, DatabaseError> {
        let path = Self::path(data);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(files(&path))?,
        };
        let journal = serde_json::from_slice(&text);
        journal.map(Some).map_err(|error| DatabaseError::Files { path, error: io::Error::other(error) })
    }

    /// One that begins: nothing is in its places yet.
    pub(crate) fn new(backup: &str, to: Time, layout: &Layout, (stop, start): (Vec<String>, Vec<String>)) -> Self {
        let stamp: String = to.to_rfc3339().chars().filter(|c| !"-:".contains(*c)).collect();
        let free = |what: &str| {
            let names = (1..).map(|n| if n == 1 { format!(".{what}-{stamp}") } else { format!(".{what}-{stamp}-{n}") });
            let mut paths = names.map(|name| behind(&layout.data, &name));
            paths.find(|path| !is_there(path)).unwrap_or_else(|| behind(&layout.data, what))
        };
        let old = free("before-rewind-to");
        let mut journal = Self {
            backup: backup.to_owned(),
            to,
            step: Step::Restoring,
            data: layout.data.clone(),
            aside: free("rewound-to"),
            beside: Vec::new(),
            old,
            stop,
            start,
            restored: None,
            checks: Vec::new(),
            left: None,
        };
        journal.goes_along(&layout.beside);
        journal
    }

    /// Files elsewhere that are renamed with the data.
    fn goes_along(&mut self, files: &[PathBuf]) {
        let old = self.old.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let prefix = old.rfind("before-").and_then(|at| old.get(at..)).unwrap_or(&old).to_owned();
        // In front of the name: a server that looks for the files of its log does not take it for one of them.
        let away = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            (file.clone(), file.with_file_name(format!("{prefix}.{name}")))
        };
        self.beside = files.iter().map(away).collect();
    }

    /// Where the restore has room meanwhile.
    pub(crate) fn work(&self) -> PathBuf {
        behind(&self.aside, ".work")
    }

    /// Writes it down, so that it is there after a crash.
    pub(crate) fn write(&mut self, step: Step) -> Result<(), DatabaseError> {
        self.step = step;
        let path = Self::path(&self.data);
        let beside = behind(&path, ".new");
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other);
        let written = text.and_then(|text| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder(&path)
        });
        written.map_err(files(&path))
    }

    /// Removes what was restored, and was never promoted.
    pub(crate) fn remove_restored(&self, watcher: &dyn Watcher) -> Result<(), DatabaseError> {
        for folder in [&self.aside, &self.work()] {
            watcher.doing("remove", 0, None);
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(files(folder)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives up a rewind that has changed nothing.
    pub(crate) fn discard(&self) -> Result<(), DatabaseError> {
        self.remove_restored(&())?;
        self.remove()
    }

    fn remove(&self) -> Result<(), DatabaseError> {
        let path = Self::path(&self.data);
        fs::remove_file(&path).and_then(|()| sync_folder(&path)).map_err(files(&path))
    }
}

/// Makes names in the folder of `path` durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Fails unless the data can be replaced by a renaming, by this user.
pub(crate) fn can_be_replaced(data: &Path) -> Result<(), String> {
    let parent = data.parent().ok_or_else(|| format!("{} has no folder above it", data.display()))?;
    let found = fs::symlink_metadata(data).and_then(|of| Ok((of, fs::metadata(parent)?)));
    let (of, above) = found.map_err(|error| format!("{}: {error}", data.display()))?;
    if !of.is_dir() {
        return Err(format!("{} is no directory", data.display()));
    }
    if of.dev() != above.dev() {
        return Err(format!(
            "{} is a file system of its own, and can't be renamed: restore with `garant restore`, and copy",
            data.display()
        ));
    }
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() != of.uid() {
        return Err(format!("{} belongs to somebody else: run it as root", data.display()));
    }
    Ok(())
}

/// Keeps a second rewind away from the data, until it is dropped.
pub(crate) fn lock(data: &Path) -> Result<File, String> {
    let parent = data.parent().unwrap_or(Path::new("/"));
    let folder = File::open(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let locked = rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|_| format!("another process works at {}", parent.display()))?;
    Ok(folder)
}

/// Why a rewind is not promoted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPromoted {
    /// What was committed last is not in the repository; nothing has changed.
    #[error("{0}")]
    Unshipped(String),
    /// It failed where the journal says.
    #[error(transparent)]
    Failed(#[from] DatabaseError),
}

/// A rewind under way.
pub(crate) struct Rewind<'a> {
    pub(crate) context: &'a Context,
    pub(crate) repository: &'a Arc<Repository>,
    pub(crate) live: &'a dyn Live,
    pub(crate) watcher: &'a dyn Watcher,
    pub(crate) journal: Journal,
}

impl Rewind<'_> {
    /// Puts what was restored into the place of the data. What was committed until the end must be in the repository, unless `unshipped`
    /// says that it need not.
    ///
    /// # Errors
    /// As far as it came, and not further.
    pub(crate) async fn promote(&mut self, unshipped: bool) -> Result<(), NotPromoted> {
        if matches!(self.journal.step, Step::Restored | Step::Stopping) {
            self.stop(unshipped).await?;
        }
        if self.journal.step == Step::Moving {
            // Somebody may have started it since.
            self.stop_server().await?;
            self.move_in()?;
            self.journal.write(Step::Starting)?;
        }
        if self.journal.step == Step::Starting {
            self.start_server().await?;
            self.journal.remove()?;
            return Ok(());
        }
        let step = self.journal.step;
        Err(DatabaseError::Database(format!("it is {step:?}, and can't be promoted")).into())
    }

    async fn stop(&mut self, unshipped: bool) -> Result<(), NotPromoted> {
        self.settle().await;
        let shipped = if self.is_running() {
            self.watcher.doing("ship the log", 0, None);
            let shipping = self.live.ship(self.context, self.repository);
            // Commits are held back meanwhile.
            let shipped = if unshipped {
                let late = |_| Err(format!("it was not shipped within {UNSHIPPED_WITHIN}"));
                tokio::time::timeout(UNSHIPPED_WITHIN.to_std(), shipping).await.unwrap_or_else(late)
            } else {
                shipping.await
            };
            // Files have come since it was restored.
            let layout = self.live.layout(self.context, None).await?;
            self.journal.goes_along(&layout.beside);
            shipped
        } else {
            Ok(Hold::default())
        };
        let (held, missing) = match shipped {
            Ok(held) => (held, None),
            Err(why) => (Hold::default(), Some(why)),
        };
        match missing {
            Some(why) if !unshipped => return Err(NotPromoted::Unshipped(why)),
            missing => self.journal.left = missing,
        }
        self.journal.write(Step::Stopping)?;
        self.stop_server().await?;
        let was_held = held.0.is_some();
        drop(held);
        let beside = self.journal.beside.iter().map(|(file, _)| file.clone()).collect();
        let layout = Layout { data: self.journal.data.clone(), beside };
        if let (false, Err(why)) = (unshipped, self.live.is_shipped(self.context, self.repository, &layout).await) {
            if !was_held {
                self.start_server().await?;
                self.journal.write(Step::Restored)?;
                return Err(NotPromoted::Unshipped(why));
            }
            // A server that stops ends the hold, and then the commits that waited for it, as chance has it. The old data keeps them.
            self.journal.left = Some(why);
        }
        let Journal { aside, data, .. } = &self.journal;
        self.watcher.doing("fit", 0, None);
        self.live.fit(aside, data)?;
        let fitted = fs::metadata(data).and_then(|of| {
            chown(aside, Some(of.uid()), Some(of.gid()))?;
            fs::set_permissions(aside, fs::Permissions::from_mode(of.mode() & 0o7777))
        });
        fitted.map_err(files(aside))?;
        Ok(self.journal.write(Step::Moving)?)
    }

    /// The old data goes away, and what was restored into its place: what is there says which of it was done.
    fn move_in(&self) -> Result<(), DatabaseError> {
        let Journal { data, aside, old, beside, .. } = &self.journal;
        if !is_there(old) {
            self.rename(data, old)?;
        }
        for (file, away) in beside {
            if is_there(file) && !is_there(away) {
                self.rename(file, away)?;
            }
        }
        if is_there(aside) && !is_there(data) {
            self.rename(aside, data)?;
        }
        Ok(())
    }

    /// The old data comes back into its place, and what was restored to where it was.
    fn move_back(&self) -> Result<(), DatabaseError> {
        let Journal { data, aside, old, beside, .. } = &self.journal;
        if is_there(old) {
            if is_there(data) && !is_there(aside) {
                self.rename(data, aside)?;
            }
            for (file, away) in beside {
                if is_there(away) {
                    if is_there(file) {
                        self.rename(file, &behind(file, ".undone"))?;
                    }
                    self.rename(away, file)?;
                }
            }
            self.rename(old, data)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DatabaseError> {
        self.watcher.doing("move", 0, None);
        if is_there(to) {
            let error = io::Error::other("it is there already, and nothing is written over");
            return Err(DatabaseError::Files { path: to.to_owned(), error });
        }
        fs::rename(from, to).and_then(|()| sync_folder(to)).map_err(files(from))
    }

    /// Leaves everything as it was before. What was restored is removed, unless a server ran on it.
    ///
    /// # Errors
    /// As far as it came, and not further.
    pub(crate) async fn undo(&mut self) -> Result<(), DatabaseError> {
        let (was, is_moved) = (self.journal.step, is_there(&self.journal.old));
        let was_stopped = !matches!(was, Step::Restoring | Step::Restored);
        if was_stopped {
            // Before anything is done: a server may have run on what was restored, which is then kept.
            if was != Step::Undoing {
                self.journal.restored = self.journal.restored.take().filter(|_| was == Step::Starting);
            }
            self.journal.write(Step::Undoing)?;
            if is_moved {
                self.stop_server().await?;
                self.move_back()?;
            }
            self.start_server().await?;
        }
        let has_run = was_stopped && self.journal.restored.is_some();
        if !has_run {
            self.journal.remove_restored(self.watcher)?;
        }
        self.journal.remove()
    }

    /// Whether a server works in the directory of data: its processes have it as their working directory.
    fn is_running(&self) -> bool {
        works_in(&self.journal.data)
    }

    /// Waits for the end of a server that was told to stop, by a rewind that was interrupted or by somebody else: it answers nobody any
    /// more, and still works there.
    async fn settle(&self) {
        let begun = self.context.clock.monotonic();
        while self.is_running() && !self.live.answers(self.context).await {
            if self.context.clock.monotonic().since(begun) > RUNS_WITHIN {
                return;
            }
            self.watcher.doing("wait for the server", 0, None);
            tokio::time::sleep(LOOKS_EVERY.to_std()).await;
        }
    }

    async fn stop_server(&self) -> Result<(), DatabaseError> {
        if !self.is_running() {
            return Ok(());
        }
        self.watcher.doing("stop", 0, None);
        self.run("the command that stops the server", &self.journal.stop).await?;
        let begun = self.context.clock.monotonic();
        while self.is_running() {
            if self.context.clock.monotonic().since(begun) > STOPPED_WITHIN {
                let why =
                    format!("the server still works in {}, though it was told to stop", self.journal.data.display());
                return Err(DatabaseError::Database(why));
            }
            tokio::time::sleep(LOOKS_EVERY.to_std()).await;
        }
        Ok(())
    }

    async fn start_server(&self) -> Result<(), DatabaseError> {
        if !self.is_running() {
            self.watcher.doing("start", 0, None);
            self.run("the command that starts the server", &self.journal.start).await?;
        }
        let begun = self.context.clock.monotonic();
        while !(self.live.answers(self.context).await && self.is_running()) {
            let waited = self.context.clock.monotonic().since(begun);
            if waited > RUNS_WITHIN && !self.is_running() {
                let why = format!(
                    "the server on {} was started, and does not run: see its own log",
                    self.journal.data.display()
                );
                return Err(DatabaseError::Database(why));
            }
            if waited > ANSWERS_WITHIN {
                let why = format!("the server on {} was started, and does not answer", self.journal.data.display());
                return Err(DatabaseError::Database(why));
            }
            tokio::time::sleep(LOOKS_EVERY.to_std()).await;
        }
        Ok(())
    }

    async fn run(&self, name: &'static str, argv: &[String]) -> Result<(), DatabaseError> {
        let program = Program::at(name, PathBuf::from("/usr/bin/env")).arg("--").args(argv).deadline(COMMAND_WITHIN);
        match self.context.programs.run(&program).await {
            Ok(_) => Ok(()),
            Err(ProgramError::Failed { ended, stderr, .. }) => {
                Err(DatabaseError::Database(format!("{name}, `{}`, failed ({ended}): {stderr}", argv.join(" "))))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a process has its working directory there.
fn works_in(folder: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let is_process = process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        is_process && fs::read_link(process.path().join("cwd")).is_ok_and(|found| found == folder)
    })
}
