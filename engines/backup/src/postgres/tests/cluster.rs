//! A cluster of PostgreSQL in a temporary folder, a repository in another, and somebody who follows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::clock::SystemClock;
use engine::program::Companion;
use engine::random::SystemRandom;
use engine::sim::World;
use engine::{CancellationToken, Context, Program, Programs};
use event::{Clock as _, Span, Time};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::wire::{Connection, Mode, Row};
use super::super::{Lsn, Postgres};
use crate::config::Connection as Settings;
use crate::database::{Database as _, DatabaseError, Restored, Shipped};
use crate::objects::Directory;
use crate::sealed::{Copy, Repository, RepositoryKey};

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A program, as the user postgres where this process is root.
pub(crate) fn as_postgres(path: impl AsRef<Path>) -> Program {
    let path = path.as_ref().to_owned();
    if rustix::process::geteuid().is_root() {
        let whom = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
        Program::new("setpriv").args(whom).arg(path).deadline(Span::from_secs(300))
    } else {
        Program::at("a program of PostgreSQL", path).deadline(Span::from_secs(300))
    }
}

pub(crate) async fn run(program: Program) -> String {
    let output =
        Programs::of_system().run(&program.output_bytes_max(256 << 20)).await.expect("a program of PostgreSQL");
    String::from_utf8(output.stdout).expect("text")
}

/// The means of an engine, of this machine.
pub(crate) fn context() -> Context {
    let world = World::at(SystemClock.now());
    let context = world.context("server.backup".parse().expect("an observer")).expect("a context");
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        programs: Arc::new(Programs::of_system()),
        ..context
    }
}

pub(crate) fn now() -> Time {
    SystemClock.now()
}

/// A folder that the user postgres can write to.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("pg").tempdir().expect("a folder");
    if rustix::process::geteuid().is_root() {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("passwd");
        let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres");
        let uid = line.split(':').nth(2).and_then(|uid| uid.parse().ok());
        std::os::unix::fs::chown(folder.path(), uid, None).expect("chown");
    }
    folder
}

/// A server, a child of this process: a container may have nobody else who buries it.
pub(crate) struct Cluster {
    folder: TempDir,
    pub(crate) data: PathBuf,
    server: Mutex<Option<Companion>>,
    /// Where it was restored, if it was.
    _restored: Option<TempDir>,
    /// How far its clock is ahead of that of the machine, if it has one of its own.
    clock: Option<&'static str>,
}

impl Cluster {
    /// A new one that runs, with these lines in its settings.
    pub(crate) async fn new(settings: &str) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        let initdb = as_postgres(format!("{BIN}/initdb")).args(["-k", "-N", "-A", "trust", "-U", "postgres"]);
        run(initdb.args(["--no-locale", "-E", "UTF8", "-D"]).arg(&data)).await;
        let cluster = Self { folder, data, server: Mutex::default(), _restored: None, clock: None };
        cluster
            .configure(&format!("fsync = off\nshared_buffers = '16MB'\nmax_slot_wal_keep_size = '1GB'\n{settings}\n"));
        cluster.start().await;
        cluster
    }

    /// A server on a directory of data that was restored.
    pub(crate) async fn on(data: &Path, restored: TempDir) -> Self {
        let (data, server) = (data.to_owned(), Mutex::default());
        let cluster = Self { folder: folder(), data, server, _restored: Some(restored), clock: None };
        cluster.start().await;
        cluster
    }

    /// Starts it again with a clock of its own, which is so many seconds ahead of that of the machine: `+3600`.
    pub(crate) async fn with_clock(&mut self, seconds: &'static str) {
        self.stop().await;
        self.clock = Some(seconds);
        self.start().await;
    }

    pub(crate) fn configure(&self, settings: &str) {
        use std::io::Write as _;
        let path = self.data.join("postgresql.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("its settings");
        file.write_all(settings.as_bytes()).expect("written");
    }

    pub(crate) async fn start(&self) {
        let folder = self.folder.path().display();
        let settings =
            ["listen_addresses=".to_owned(), format!("unix_socket_directories={folder}"), "autovacuum=off".to_owned()];
        let script = format!("exec \"$0\" \"$@\" >>{folder}/log 2>&1");
        let mut server = as_postgres("/usr/bin/env");
        if let Some(clock) = self.clock {
            let library = run(Program::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"])).await;
            server = server.arg(format!("LD_PRELOAD={}", library.trim())).arg(format!("FAKETIME={clock}"));
            server = server.args(["FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_RESET=1"]);
        }
        let server = server.args(["/bin/sh", "-c", &script]).arg(format!("{BIN}/postgres")).arg("-D");
        let server = server.arg(&self.data).args(settings.iter().flat_map(|setting| ["-c", setting]));
        let mut companion = Programs::of_system().companion(&server).expect("started");
        for _ in 0..6000 {
            let state = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let is_own = companion.id().is_some_and(|id| state.lines().next() == Some(&id.to_string()));
            if is_own && state.lines().nth(7).is_some_and(|state| state.trim() == "ready") {
                *self.server.lock().expect("no panic") = Some(companion);
                return;
            }
            assert!(!companion.has_ended(), "the server does not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not start: {}", self.log());
    }

    fn signal(&self, signal: Signal) -> Option<Companion> {
        let companion = self.server.lock().expect("no panic").take()?;
        let pid = companion.id().and_then(|id| Pid::from_raw(i32::try_from(id).expect("a number")))?;
        kill_process(pid, signal).expect("it runs");
        Some(companion)
    }

    /// Kills it as the machine would: nobody gets to finish anything. Returns when all its processes have gone.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::KILL).expect("it runs").ended().await.expect("its end");
        // The others notice, and go.
        for _ in 0..1000 {
            let others = run(Program::new("sh").args(["-c", "ls -l /proc/[0-9]*/cwd 2>/dev/null || true"])).await;
            if !others.contains(&*self.data.to_string_lossy()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("processes of the server do not go");
    }

    pub(crate) async fn stop(&self) {
        self.signal(Signal::INT).expect("it runs").ended().await.expect("its end");
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(in crate::postgres) async fn sql(&self) -> Connection {
        let socket = self.socket().join(".s.PGSQL.5432");
        Connection::open(&socket, "postgres", None, Mode::Sql).await.expect("connected")
    }

    pub(super) async fn in_database(&self, name: &str) -> Connection {
        let socket = self.socket().join(".s.PGSQL.5432");
        Connection::open(&socket, "postgres", None, Mode::Database(name)).await.expect("connected")
    }

    /// The first column of the first row.
    pub(crate) async fn ask(&self, query: &str) -> String {
        value(&self.sql().await.query(query).await.expect(query))
    }

    /// Drops the slot, once the server has noticed that nobody receives any more.
    pub(crate) async fn drop_slot(&self) {
        while self.ask("select count(*) from pg_replication_slots where active").await != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.ask("select pg_drop_replication_slot('garant_crm_db')").await;
    }

    pub(crate) async fn written(&self) -> Lsn {
        self.ask("select pg_current_wal_insert_lsn()").await.parse().expect("a position")
    }

    pub(crate) fn backup(&self) -> Postgres {
        let user = Some("postgres".to_owned());
        let backup = Postgres::new("crm-db", Settings { socket: self.socket(), user, password: None });
        Postgres { ship_after: Span::from_secs(1), ..backup }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.signal(Signal::QUIT));
    }
}

pub(crate) fn value(rows: &[Row]) -> String {
    rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default()
}

/// A repository of one copy in a folder.
pub(crate) struct Kept {
    pub(crate) folder: TempDir,
    pub(crate) repository: Arc<Repository>,
}

impl Kept {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = RepositoryKey::random(&SystemRandom);
        let objects = Arc::new(Directory::new(folder.path()));
        let copies = vec![Copy { name: "near".into(), objects }];
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let repository = Arc::new(Repository::new(copies, key, Span::from_days(90), clock, random));
        Self { folder, repository }
    }
}

/// A folder to restore into, and what comes of it.
pub(crate) async fn restored(kept: &Kept, to: Time) -> (TempDir, Result<Restored, DatabaseError>) {
    let folder = folder();
    let (into, work) = (folder.path().join("data"), folder.path().join("work"));
    let restored = Postgres::restore(&context(), &kept.repository, "crm-db", to, &into, &work, &()).await;
    assert!(std::fs::read_dir(&work).map_or(true, |mut left| left.next().is_none()), "nothing is left of the work");
    (folder, restored)
}

/// The same, of an instant that can be reached, with a server on it.
pub(crate) async fn rewound(kept: &Kept, to: Time) -> (Cluster, Restored) {
    let (folder, restored) = restored(kept, to).await;
    let restored = restored.unwrap_or_else(|error| panic!("{}: {error}", to.micros()));
    (Cluster::on(&restored.folder, folder).await, restored)
}

/// Somebody who follows a cluster.
pub(crate) struct Follower {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), DatabaseError>>,
    shipped: mpsc::UnboundedReceiver<Shipped>,
    pub(crate) all: Vec<Shipped>,
}

impl Follower {
    pub(crate) fn start(of: &Postgres, repository: &Arc<Repository>) -> Self {
        Self::with(context(), of, repository)
    }

    pub(crate) fn with(context: Context, of: &Postgres, repository: &Arc<Repository>) -> Self {
        let (of, repository, stop) = (of.clone(), Arc::clone(repository), CancellationToken::new());
        let context = Context { stop: stop.clone(), ..context };
        let (send, shipped) = mpsc::unbounded_channel();
        let task =
            tokio::spawn(
                async move { of.follow(&context, &repository, &mut |shipped| drop(send.send(shipped))).await },
            );
        Self { stop, task, shipped, all: Vec::new() }
    }

    /// Waits for the next piece.
    pub(crate) async fn next(&mut self) -> Option<Shipped> {
        let next = tokio::time::timeout(Duration::from_mins(3), self.shipped.recv()).await.expect("a piece in time");
        self.all.extend(next.clone());
        next
    }

    /// The next piece, if there is one within two looks at what is due.
    pub(crate) async fn soon(&mut self) -> Option<Shipped> {
        let next = tokio::time::timeout(Duration::from_millis(2500), self.shipped.recv()).await.ok().flatten();
        self.all.extend(next.clone());
        next
    }

    /// Waits until whatever was committed before that instant is durable.
    pub(crate) async fn through(&mut self, instant: Time) {
        while self.next().await.expect("it follows").through < instant {}
    }

    /// Tells it to stop, and waits for its end.
    pub(crate) async fn told_to_stop(self) -> (Result<(), DatabaseError>, Vec<Shipped>) {
        self.stop.cancel();
        self.ended().await
    }

    /// Lets it end in good order, and returns all pieces.
    pub(crate) async fn stop(self) -> Vec<Shipped> {
        let (result, all) = self.told_to_stop().await;
        result.expect("a good end");
        all
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> (Result<(), DatabaseError>, Vec<Shipped>) {
        let ended = tokio::time::timeout(Duration::from_mins(3), &mut self.task).await.expect("an end in time");
        while let Ok(shipped) = self.shipped.try_recv() {
            self.all.push(shipped);
        }
        (ended.expect("no panic"), std::mem::take(&mut self.all))
    }

    /// Kills it where it is.
    pub(crate) async fn kill(mut self) -> Vec<Shipped> {
        self.task.abort();
        _ = (&mut self.task).await;
        while let Ok(shipped) = self.shipped.try_recv() {
            self.all.push(shipped);
        }
        std::mem::take(&mut self.all)
    }
}
