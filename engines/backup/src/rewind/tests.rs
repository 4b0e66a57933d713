//! A rewind that is killed before each of its steps, of a server that is a process with a working directory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::Programs;
use engine::clock::SystemClock;
use engine::random::SystemRandom;
use engine::sim::World;

use super::*;
use crate::objects::Directory;
use crate::sealed::{Copy, RepositoryKey};

/// A server: its stop and start are scripts, and what it says of its log is given.
struct Server {
    folder: tempfile::TempDir,
    unshipped: Mutex<[Option<&'static str>; 2]>,
    /// Whether it lets nobody commit while its log is shipped.
    holds: AtomicBool,
    /// Whether it answers nobody, as one does that is ending.
    silent: AtomicBool,
}

impl Server {
    fn new() -> Self {
        let server = Self {
            folder: tempfile::tempdir().expect("a folder"),
            unshipped: Mutex::default(),
            holds: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        };
        for (folder, which) in [("data", "old"), ("data.aside", "restored")] {
            fs::create_dir(server.at(folder)).expect("made");
            fs::write(server.at(folder).join("which"), which).expect("written");
        }
        fs::create_dir(server.at("log")).expect("made");
        fs::write(server.at("log/binlog.000001"), "old").expect("written");
        server
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn which(&self, folder: &str) -> String {
        fs::read_to_string(self.at(folder).join("which")).unwrap_or_default()
    }

    fn journal(&self) -> Journal {
        let layout = Layout { data: self.at("data"), beside: vec![self.at("log/binlog.000001")] };
        let script = |text: &str| {
            let folder = self.folder.path().display().to_string();
            ["sh", "-c", text, "sh", &folder].map(str::to_owned).to_vec()
        };
        let stop = script("kill $(cat $1/pid) && rm $1/pid");
        let start = script(
            "cd $1/data && echo new > $1/log/binlog.000001.new; setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > $1/pid",
        );
        let mut journal = Journal::new("shop-db", Time::from_secs(1_796_000_000), &layout, (stop, start));
        journal.aside = self.at("data.aside");
        let commit = |id: &str| crate::database::Commit { id: id.to_owned(), at: journal.to };
        journal.restored = Some(Restored {
            to: journal.to,
            last_commit: Some(commit("0-7-1")),
            next_commit: Some(commit("0-7-2")),
            set: "set".to_owned(),
            folder: journal.aside.clone(),
            bytes: 1,
            doubts: Vec::new(),
            passed_over: Vec::new(),
        });
        journal.write(Step::Restored).expect("written");
        journal
    }

    fn is_running(&self) -> bool {
        works_in(&self.at("data"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.at("pid"))
            && let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
        {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Live for Server {
    fn layout<'a>(&'a self, _: &'a Context, _: Option<&'a Path>) -> BoxFuture<'a, Result<Layout, DatabaseError>> {
        Box::pin(async {
            if self.silent.load(Ordering::Relaxed) {
                return Err(DatabaseError::Database("the connection broke".to_owned()));
            }
            Ok(Layout { data: self.at("data"), beside: vec![self.at("log/binlog.000001")] })
        })
    }

    fn answers<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, bool> {
        Box::pin(async { self.is_running() && !self.silent.load(Ordering::Relaxed) })
    }

    fn ship<'a>(&'a self, _: &'a Context, _: &'a Arc<Repository>) -> BoxFuture<'a, Result<Hold, String>> {
        let why = self.unshipped.lock().expect("no panic")[0];
        let held = self.holds.load(Ordering::Relaxed);
        let hold = move || if held { Hold::by(()) } else { Hold::default() };
        Box::pin(async move { why.map_or_else(|| Ok(hold()), |why| Err(why.to_owned())) })
    }

    fn is_shipped<'a>(
        &'a self,
        _: &'a Context,
        _: &'a Arc<Repository>,
        _: &'a Layout,
    ) -> BoxFuture<'a, Result<(), String>> {
        let why = self.unshipped.lock().expect("no panic")[1];
        Box::pin(async move { why.map_or(Ok(()), |why| Err(why.to_owned())) })
    }

    fn fit(&self, aside: &Path, data: &Path) -> Result<(), DatabaseError> {
        fs::copy(data.join("which"), aside.join("was")).map(drop).map_err(files(aside))
    }
}

/// Kills whoever tells of so many steps.
struct Fuse(AtomicUsize);

impl Watcher for Fuse {
    fn doing(&self, step: &str, _: u64, _: Option<u64>) {
        let left = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(left > 0, "killed before: {step}");
    }
}

fn means() -> (Context, Arc<Repository>) {
    let context = World::at(Time::from_secs(1_796_000_000)).context("host".parse().expect("an observer"));
    let context = Context {
        clock: Arc::new(SystemClock),
        programs: Arc::new(Programs::of_system()),
        ..context.expect("a context")
    };
    let copies = vec![Copy { name: "near".into(), objects: Arc::new(Directory::new("/nowhere")) }];
    let key = RepositoryKey::random(&SystemRandom);
    let repository = Repository::new(copies, key, Span::ZERO, Arc::new(SystemClock), Arc::new(SystemRandom));
    (context, Arc::new(repository))
}

/// Promotes or undoes until it ends, or is killed before its step of that number; `true` when it came to its end.
async fn run(server: &Arc<Server>, journal: Journal, promote: bool, steps: usize) -> bool {
    let (server, (context, repository)) = (Arc::clone(server), means());
    let task = tokio::spawn(async move {
        let fuse = Fuse(AtomicUsize::new(steps));
        let mut rewind = Rewind { context: &context, repository: &repository, live: &*server, watcher: &fuse, journal };
        if promote {
            rewind.promote(false).await.expect("promoted");
        } else {
            rewind.undo().await.expect("undone");
        }
    });
    match task.await {
        Ok(()) => true,
        Err(error) => {
            assert!(error.is_panic());
            false
        }
    }
}

async fn started(server: &Arc<Server>, journal: &Journal) {
    let (context, repository) = means();
    let rewind =
        Rewind { context: &context, repository: &repository, live: &**server, watcher: &(), journal: journal.clone() };
    rewind.start_server().await.expect("started");
}

const FOR_EVER: usize = 1_000_000;

/// BK-2: whatever it is killed before, one command goes on to the one end, and another one back to the other; and so when that is killed
/// too.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_was_killed_goes_to_either_end() {
    let mut killed = 0;
    for steps in 0.. {
        let mut ended = false;
        for goes_on in [true, false] {
            for again in [FOR_EVER, 1, 2, 3] {
                let server = Arc::new(Server::new());
                let journal = server.journal();
                let old = journal.old.clone();
                let away = journal.beside[0].1.clone();
                started(&server, &journal).await;
                ended = run(&server, journal, true, steps).await;
                if !ended {
                    let found = || Journal::find(&server.at("data")).expect("read").expect("it is under way");
                    killed += 1;
                    if again != FOR_EVER && !run(&server, found(), goes_on, again).await {
                        // Killed a second time: one end is as good as the other.
                        assert!(run(&server, found(), goes_on, FOR_EVER).await);
                    } else if again == FOR_EVER {
                        assert!(run(&server, found(), goes_on, FOR_EVER).await);
                    }
                }
                let is_promoted = ended || goes_on;
                assert!(server.is_running(), "{steps} {goes_on} {again}");
                assert_eq!(Journal::find(&server.at("data")).expect("read"), None);
                let which = if is_promoted { "restored" } else { "old" };
                assert_eq!(server.which("data"), which, "{steps} {goes_on} {again}");
                assert_eq!(old.exists(), is_promoted, "{steps} {goes_on} {again}");
                assert_eq!(away.exists(), is_promoted, "the log goes with its data");
                assert_eq!(server.at("log/binlog.000001").exists(), !is_promoted);
                if is_promoted {
                    assert_eq!(fs::read_to_string(old.join("which")).expect("kept"), "old");
                    assert_eq!(fs::read_to_string(server.at("data/was")).expect("fitted"), "old");
                } else if server.at("data.aside").exists() {
                    assert_eq!(server.which("data.aside"), "restored", "what a server ran on is kept");
                }
            }
        }
        if ended {
            assert!(steps > 6 && killed > 40, "{steps} {killed}");
            return;
        }
    }
}

/// BK-2: whoever goes on while the server that was told to stop is ending waits for its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_ending_is_waited_for() {
    let server = Arc::new(Server::new());
    let mut journal = server.journal();
    started(&server, &journal).await;
    journal.write(Step::Stopping).expect("written");
    server.silent.store(true, Ordering::Relaxed);
    let (context, repository) = means();
    let mut rewind = Rewind { context: &context, repository: &repository, live: &*server, watcher: &(), journal };
    let ends = async {
        tokio::time::sleep(Span::from_millis(500).to_std()).await;
        let pid = fs::read_to_string(server.at("pid")).expect("it runs").trim().parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told to end");
        while server.is_running() {
            tokio::time::sleep(Span::from_millis(20).to_std()).await;
        }
        server.silent.store(false, Ordering::Relaxed);
    };
    let (promoted, ()) = tokio::join!(rewind.promote(false), ends);
    promoted.expect("promoted");
    assert_eq!(server.which("data"), "restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_repository_keeps_the_server_as_it_is() {
    let server = Arc::new(Server::new());
    let journal = server.journal();
    started(&server, &journal).await;
    let (context, repository) = means();
    let mut rewind = Rewind { context: &context, repository: &repository, live: &*server, watcher: &(), journal };
    for (before, behind) in [(Some("a copy is away"), None), (None, Some("bytes are missing"))] {
        *server.unshipped.lock().expect("no panic") = [before, behind];
        let refused = rewind.promote(false).await.expect_err("it is not shipped");
        assert!(matches!(refused, NotPromoted::Unshipped(why) if Some(&*why) == before.or(behind)));
        let found = Journal::find(&server.at("data")).expect("read").expect("it waits");
        assert_eq!((found.step, server.which("data")), (Step::Restored, "old".to_owned()));
        assert!(server.is_running());
    }
    rewind.promote(true).await.expect("as told");
    assert_eq!(server.which("data"), "restored");
}

/// What waited for the hold of a server and was committed while it stopped delays no rewind: it is said where it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_while_a_held_server_stopped_is_kept_and_named() {
    let server = Arc::new(Server::new());
    let journal = server.journal();
    started(&server, &journal).await;
    let (context, repository) = means();
    server.holds.store(true, Ordering::Relaxed);
    *server.unshipped.lock().expect("no panic") = [None, Some("400 bytes are missing")];
    let mut rewind = Rewind { context: &context, repository: &repository, live: &*server, watcher: &(), journal };
    rewind.promote(false).await.expect("promoted");
    assert_eq!(server.which("data"), "restored");
    assert_eq!(rewind.journal.left.as_deref(), Some("400 bytes are missing"));
    assert_eq!(fs::read_to_string(rewind.journal.old.join("which")).expect("kept"), "old");
}

#[test]
fn data_that_can_not_be_replaced_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    can_be_replaced(folder.path()).expect("a directory of ours");
    assert!(can_be_replaced(Path::new("/proc")).expect_err("a file system").contains("file system of its own"));
    assert!(can_be_replaced(&folder.path().join("none")).expect_err("nothing").contains("No such file"));
    let _held = lock(&folder.path().join("data")).expect("free");
    lock(&folder.path().join("data")).expect_err("another one works there");
}
