//! Real servers: MariaDB of Debian, each with a folder and a socket of its own, and no network.

mod examining;
mod expired;
mod faults;
mod following;
pub(crate) mod ledger;
mod restoring;
mod rights;
pub(crate) mod server;
mod statements;

use std::path::Path;
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::sim::World;
use engine::{Clock as _, Context, Programs};
use event::{Span, Time};

use crate::Connection as Settings;
use crate::database::{Database as _, DatabaseError, Restored, Shipped};
use crate::mariadb::MariaDb;
use crate::objects::Directory;
use crate::sealed::{Copy, Manifest, Repository, RepositoryKey};

use server::Server;

/// The name of the backup.
const BACKUP: &str = "shop";

/// A repository in one folder, of which the key is known.
struct Shelf {
    folder: tempfile::TempDir,
    key: RepositoryKey,
}

impl Shelf {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), key: RepositoryKey::random(&SystemRandom) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The repository as a process opens it that knows nothing.
    fn open(&self) -> Arc<Repository> {
        self.open_with(self.key.clone())
    }

    fn open_with(&self, key: RepositoryKey) -> Arc<Repository> {
        let copies = vec![Copy { name: "near".into(), objects: Arc::new(Directory::new(self.path())) }];
        Arc::new(Repository::new(copies, key, Span::ZERO, Arc::new(SystemClock), Arc::new(SystemRandom)))
    }
}

/// The means of an engine, with the clock, the randomness and the programs of this machine.
pub(crate) fn context() -> Context {
    let context = World::at(SystemClock.now()).context("host".parse().expect("an observer")).expect("a context");
    Context {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        programs: Arc::new(Programs::of_system()),
        ..context
    }
}

fn mariadb(server: &Server) -> MariaDb {
    let settings = Settings { socket: server.socket(), user: None, password: None };
    MariaDb::new(BACKUP, settings, server.path().join("garant"))
}

/// Follows the log of a server in a task of its own.
struct Following {
    context: Context,
    task: tokio::task::JoinHandle<Result<(), DatabaseError>>,
    shipped: tokio::sync::mpsc::UnboundedReceiver<Shipped>,
}

impl Following {
    fn of(server: &Server, shelf: &Shelf) -> Self {
        let (context, mariadb, repository) = (context(), mariadb(server), shelf.open());
        let (tell, shipped) = tokio::sync::mpsc::unbounded_channel();
        let given = context.clone();
        let task = tokio::spawn(async move {
            let mut told = |piece| drop(tell.send(piece));
            mariadb.follow(&given, &repository, &mut told).await
        });
        Self { context, task, shipped }
    }

    /// The next piece that has become durable.
    async fn next(&mut self) -> Shipped {
        let next = tokio::time::timeout(Span::from_secs(120).to_std(), self.shipped.recv()).await;
        match next.expect("in time") {
            Some(shipped) => shipped,
            None => panic!("it has ended: {:?}", (&mut self.task).await),
        }
    }

    /// Waits until everything that was committed by now is durable.
    async fn caught_up(&mut self) -> Shipped {
        let now = SystemClock.now();
        loop {
            let shipped = self.next().await;
            if shipped.through > now {
                return shipped;
            }
        }
    }

    async fn stop(self) {
        self.context.stop.cancel();
        self.task.await.expect("no panic").expect("it stops in good order");
    }

    /// Ends it at once, as kill -9 does.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }

    /// How it ends by itself.
    async fn failed(self) -> DatabaseError {
        let ended = tokio::time::timeout(Span::from_secs(60).to_std(), self.task).await.expect("in time");
        ended.expect("no panic").expect_err("it failed")
    }
}

async fn base(server: &Server, shelf: &Shelf, full: bool) -> Manifest {
    let (context, repository) = (context(), shelf.open());
    mariadb(server).take_base(&context, &repository, full, &()).await.expect("a base")
}

/// Waits until the next second has begun, and gives it.
async fn next_second() -> Time {
    let next = Time::from_secs(SystemClock.now().micros().div_euclid(1_000_000) + 1);
    tokio::time::sleep((next.since(SystemClock.now()) + Span::from_millis(1)).to_std()).await;
    next
}

/// A folder to restore into, and one to work in.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(server::folder())
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    async fn restore(&self, shelf: &Shelf, to: Time) -> Result<Restored, DatabaseError> {
        self.restore_with(&shelf.open(), to).await
    }

    async fn restore_with(&self, repository: &Arc<Repository>, to: Time) -> Result<Restored, DatabaseError> {
        MariaDb::restore(&context(), repository, BACKUP, to, &self.data(), &self.0.path().join("work"), &()).await
    }
}
