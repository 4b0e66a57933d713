//! Files against stock restic, and against what disks, users and clocks do.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SimClock;
use engine::random::SeededRandom;
use engine::sim::World;
use engine::{Context, Program, Programs};
use event::{Span, Time};
use tempfile::TempDir;

use super::thread::{Hook, Telling, Thread};
use super::*;
use crate::objects::Directory;
use crate::sealed::{Copy, Repository, RepositoryKey};

mod copies;
mod destroyed;
mod guards;
mod restored;
mod sources;
mod stock;

/// Two copies, a folder of the agent, and a folder of files to back up.
struct Host {
    folder: TempDir,
    world: World,
    context: Context,
    repository: Arc<Repository>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["copy0", "copy1", "state", "data", "restored"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        let world = World::at(Time::from_secs(1_796_000_000));
        let mut context = world.context("agent".parse().expect("a name")).expect("a context");
        context.programs = Arc::new(Programs::of_system());
        let repository = repository(folder.path(), &world.clock);
        Self { folder, world, context, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the folder `data`.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("data").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Bytes that nothing compresses.
    fn noise(&self, bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        self.repository.random().fill(&mut noise);
        noise
    }

    /// What is backed up: the folder `data`.
    fn files(&self) -> Files {
        Files {
            name: "shop".into(),
            paths: vec![self.path("data")],
            volumes: Vec::new(),
            volumes_in: VOLUMES.into(),
            exclude: Vec::new(),
            one_file_system: false,
            may_be_empty: false,
        }
    }

    /// Takes a snapshot, an hour after the last one.
    async fn take(&self, files: &Files) -> Result<FilesTaken, FilesError> {
        self.world.clock.suspend(Span::from_secs(3600));
        files.take(&self.context, &self.repository, &self.path("state"), &()).await
    }

    /// Takes a snapshot; `hook` is called when a file is opened and read.
    async fn take_while(
        &self,
        hook: impl Fn(&Path, Option<u64>) + Send + Sync + 'static,
    ) -> Result<FilesTaken, FilesError> {
        let files = self.files();
        let lease = Lease::take(&self.repository, &files.name, Role::Write).await?;
        let backend = files.backend(&self.repository);
        let stop = self.context.stop.clone();
        let thread = Thread { stop, telling: Telling::default(), hook: Hook(Some(Arc::new(hook))) };
        tokio::task::spawn_blocking(move || files.run(&thread, &backend, &lease)).await.expect("no panic")
    }

    async fn snapshots(&self) -> Vec<Snapshot> {
        self.files().snapshots(&self.context, &self.repository).await.expect("listed")
    }

    /// Restores the newest snapshot into an empty folder of this name, and gives the path of `data` in it.
    async fn restore(&self, name: &str) -> (FilesRestored, PathBuf) {
        let into = self.path(name);
        let point = Point::At(self.world.now());
        let options = RestoreOptions::default();
        let restored = self.files().restore(&self.context, &self.repository, &point, &into, options, &()).await;
        (restored.expect("restored"), below(&into, &self.path("data")))
    }

    async fn run(&self, program: Program) -> String {
        let output =
            self.context.programs.run(&program.deadline(Span::from_secs(300))).await.expect("it does its work");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a line of the shell in a folder.
    async fn shell(&self, folder: &Path, line: &str) -> String {
        self.run(Program::new("sh").args(["-euc", &format!("cd \"$1\"; {line}"), "sh"]).arg(folder)).await
    }

    /// Whether two folders hold the same names and bytes.
    async fn same(&self, one: &Path, other: &Path) {
        self.run(Program::new("diff").args(["-r", "--no-dereference"]).arg(one).arg(other)).await;
    }

    /// Runs stock restic on one of the copies.
    async fn restic(&self, copy: usize, args: &[&str]) -> String {
        let secret = self.path("password");
        fs::write(&secret, password(&key(), "shop").as_bytes()).expect("written");
        let repository = self.path(&format!("copy{copy}/restic/shop"));
        let program = Program::new("restic").arg("-r").arg(repository).arg("--password-file").arg(secret);
        self.run(program.args(["--no-cache", "--no-lock"]).args(args)).await
    }

    /// The objects of a copy whose names begin with this, in the restic repository.
    fn objects(&self, copy: usize, begin: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path(&format!("copy{copy}/restic/shop/{begin}"))];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("listed").path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

/// An absolute path, as it lies below a folder.
fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").expect("an absolute path"))
}

fn key() -> RepositoryKey {
    RepositoryKey::random(&SeededRandom::new(7))
}

fn repository(folder: &Path, clock: &Arc<SimClock>) -> Arc<Repository> {
    let copy = |name: &str| Copy { name: name.into(), objects: Arc::new(Directory::new(folder.join(name))) };
    let copies = vec![copy("copy0"), copy("copy1")];
    let random = Arc::new(SeededRandom::new(1007));
    Arc::new(Repository::new(copies, key(), Span::from_days(90), Arc::clone(clock) as _, random))
}

/// Runs the test of this name again, as the words before it say (another user, namespaces of its own), and says whether it was.
async fn again(words: &[&str], test: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open to all");
    let program = folder.path().join("tests");
    // Another process copies it: what this one writes, a child of another test could hold, and then it can't be run (`ETXTBSY`).
    let put = Program::new("install").args(["-m", "755"]).arg(std::env::current_exe().expect("a path")).arg(&program);
    Programs::of_system().run(&put).await.expect("copied");
    let (first, rest) = words.split_first().expect("a program");
    let first: &'static str = Box::leak(Box::from(*first));
    let again = Program::new(first).args(rest).arg("env").arg("GARANT_AGAIN=1").arg(program);
    let again = again.args(["--exact", test, "--nocapture"]).deadline(Span::from_secs(300));
    let output = Programs::of_system().run(&again).await.expect("the test holds there");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "there is a test of this name");
}

/// Whether this is the test that [`again`] runs.
fn is_again() -> bool {
    std::env::var_os("GARANT_AGAIN").is_some()
}
