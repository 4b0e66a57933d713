//! The campaign: a real `garant up` with its agent, a real `garant restore` and a real database, killed by -9 in every phase: while a
//! base is taken, while log is shipped, while a restore fetches, prepares and replays. Each drawn second must be as those who wrote
//! remember it.
//!
//! `scripts/campaign restore` runs it with other seeds and more seconds (`GARANT_SECONDS`).

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drawn::Draws;
use engine::clock::SystemClock;
use engine::program::{Companion, Running};
use engine::random::SystemRandom;
use engine::{Clock as _, Program, Programs};
use event::{Span, Time};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::database::PieceHead;
use crate::mariadb::tests as mariadb;
use crate::objects::Directory;
use crate::postgres::tests as postgres;
use crate::restorable::{Restorable, restorable};
use crate::sealed::{Catalog, Copy, Repository, RepositoryKey};

/// The name of the backup.
const BACKUP: &str = "shop-db";
/// Longest wait for anything. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(10);
/// How many seconds are restored, unless `GARANT_SECONDS` says so.
const SECONDS: usize = 2;

/// A database with writers.
trait Subject {
    /// What the policy calls it.
    const ENGINE: &'static str;
    /// The user of its server, whom the agent runs as.
    const USER: &'static str;

    async fn start(draws: &mut Draws) -> Self;

    fn socket(&self) -> PathBuf;

    /// Kills it, and waits until its writers have noticed.
    async fn kill(&mut self);

    /// Starts it again, with other writers.
    async fn go_on(&mut self, draws: &mut Draws);

    /// How many transactions there were.
    fn len(&self) -> usize;

    /// Fails unless the data in the folder `data` of `place` are as they were at the instant; how many transactions they have.
    async fn check(&self, place: TempDir, to: Time) -> usize;
}

struct MariaDb {
    server: mariadb::server::Server,
    ledger: mariadb::ledger::Ledger,
}

impl Subject for MariaDb {
    const ENGINE: &'static str = "mariadb";
    const USER: &'static str = "mysql";

    async fn start(draws: &mut Draws) -> Self {
        let server = mariadb::server::Server::new(&["--max-binlog-size=1M"]).await;
        let user = "CREATE USER IF NOT EXISTS mysql@localhost IDENTIFIED VIA unix_socket";
        server.run(&[user, "GRANT ALL ON *.* TO mysql@localhost"]).await;
        let ledger = mariadb::ledger::Ledger::start(&server, draws, 4).await;
        Self { server, ledger }
    }

    fn socket(&self) -> PathBuf {
        self.server.socket()
    }

    async fn kill(&mut self) {
        self.server.kill().await;
        self.ledger.end(false).await;
    }

    async fn go_on(&mut self, draws: &mut Draws) {
        self.server.start().await;
        self.ledger.go_on(&self.server, draws).await;
    }

    fn len(&self) -> usize {
        self.ledger.len()
    }

    async fn check(&self, place: TempDir, to: Time) -> usize {
        let restored = mariadb::server::Server::on(mariadb::Place(place)).await;
        self.ledger.check(&restored, to).await
    }
}

struct Postgres {
    cluster: Arc<postgres::cluster::Cluster>,
    ledger: postgres::ledger::Ledger,
}

impl Subject for Postgres {
    const ENGINE: &'static str = "postgres";
    const USER: &'static str = "postgres";

    async fn start(draws: &mut Draws) -> Self {
        let settings = "max_prepared_transactions = 100\nsynchronous_commit = on";
        let cluster = Arc::new(postgres::cluster::Cluster::new(settings).await);
        let mut ledger = postgres::ledger::Ledger::new(&cluster, false).await;
        ledger.go_on(draws);
        Self { cluster, ledger }
    }

    fn socket(&self) -> PathBuf {
        self.cluster.socket()
    }

    async fn kill(&mut self) {
        self.cluster.kill().await;
        self.ledger.end().await;
    }

    async fn go_on(&mut self, draws: &mut Draws) {
        self.cluster.start().await;
        self.ledger.go_on(draws);
    }

    fn len(&self) -> usize {
        self.ledger.remembered.len()
    }

    async fn check(&self, place: TempDir, to: Time) -> usize {
        let data = place.path().join("data");
        let restored = postgres::cluster::Cluster::on(&data, place).await;
        self.ledger.check(&restored, to).await
    }
}

/// The program of this very tree, or the one that `GARANT_BINARY` names.
async fn garant() -> PathBuf {
    if let Some(built) = std::env::var_os("GARANT_BINARY") {
        return built.into();
    }
    let here = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/garant_backup-… → target/debug
    let profile = here.parent().and_then(Path::parent).expect("a target directory");
    let cargo = Program::at("cargo", env!("CARGO").into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let build = cargo.args(["build", "--quiet", "--package", "garant", "--manifest-path", root]);
    Programs::of_system().run(&build.deadline(Span::from_secs(3600))).await.expect("garant builds");
    profile.join("garant")
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a number")
}

/// Processes with this among their arguments, or as the folder that they work in, each with its arguments.
fn processes(with: &Path) -> Vec<(u32, String)> {
    let words = with.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("there").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let line = |number: u32| {
        let bytes = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        // Those of a server of PostgreSQL that has gone show no path.
        let works_there = || std::fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|at| at.starts_with(with));
        (line.contains(&words) || works_there()).then_some((number, line))
    };
    numbers.filter_map(line).collect()
}

/// Asks until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

async fn pause(draws: &mut Draws, below_ms: u64) {
    tokio::time::sleep(Duration::from_millis(draws.below(below_ms))).await;
}

/// A policy, a repository at two places, and a running garant.
struct Installed {
    folder: TempDir,
    garant: PathBuf,
    repository: Arc<Repository>,
    up: Option<Companion>,
}

impl Installed {
    async fn new<S: Subject>(socket: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        let at = folder.path().display();
        let (engine, user, socket) = (S::ENGINE, S::USER, socket.display());
        let policy = format!(
            r#"
journal = {{ name = "shop.example" }}
pages = {{ listen = "127.0.0.1:0" }}
agent = {{ user = "{user}" }}
service = [{{ name = "backup", title.fr = "Les sauvegardes", title.en = "The backups" }}]
region = [{{ name = "near", provider = "one" }}, {{ name = "far", provider = "two" }}]
[backup]
service = "backup"
key = {{ file = "{at}/key" }}
copy = [{{ name = "near", region = "near", directory = "{at}/near" }}, {{ name = "far", region = "far", directory = "{at}/far" }}]
[[backup.{engine}]]
name = "{BACKUP}"
socket = "{socket}"
"#
        );
        std::fs::write(folder.path().join("policy"), policy).expect("written");
        let garant = garant().await;
        let key = folder.path().join("key");
        let make = Program::at("garant", garant.clone()).args(["backup", "key", "new"]).arg(&key);
        Programs::of_system().run(&make).await.expect("a key");
        let passwd = std::fs::read_to_string("/etc/passwd").expect("there");
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let owner = fields.into_iter().find(|fields| fields[0] == user).expect("the user of the database");
        let number = |at: usize| owner[at].parse::<u32>().ok();
        let mut copies = Vec::new();
        for name in ["near", "far"] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("made");
            chown(&path, number(2), number(3)).expect("given");
            copies.push(Copy { name: name.to_owned(), objects: Arc::new(Directory::new(path)) });
        }
        chown(&key, number(2), number(3)).expect("given");
        let key = RepositoryKey::parse(&std::fs::read_to_string(&key).expect("a key")).expect("a key");
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let repository = Arc::new(Repository::new(copies, key, Span::ZERO, clock, random));
        let mut installed = Self { folder, garant, repository, up: None };
        installed.start();
        installed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self) -> Program {
        Program::at("garant", self.garant.clone())
    }

    /// Starts `garant up`, which starts the agent, or finds the one that lives.
    fn start(&mut self) {
        let script = format!("exec \"$0\" \"$@\" >>{} 2>&1", self.path("log").display());
        let up = Program::new("sh").args(["-c", &script]).arg(&self.garant).args(["up", "--policy"]);
        let up = up.arg(self.path("policy")).arg("--data").arg(self.path("data"));
        self.up = Some(Programs::of_system().companion(&up).expect("it starts"));
    }

    /// Kills `garant up`.
    async fn kill_up(&mut self) {
        let mut up = self.up.take().expect("it runs");
        kill_process(pid(up.id().expect("it runs")), Signal::KILL).expect("killed");
        up.ended().await.expect("its end");
    }

    /// The agent.
    fn agent(&self) -> Option<u32> {
        let all = processes(self.folder.path()).into_iter();
        all.filter(|(_, line)| line.contains("garant agent ")).map(|(number, _)| number).next()
    }

    async fn kill_agent(&self) {
        let agent = eventually("the agent", async || self.agent()).await;
        _ = kill_process(pid(agent), Signal::KILL);
    }

    /// How many bases were begun.
    fn begun(&self) -> usize {
        std::fs::read_dir(self.path("near/keys/sets").join(BACKUP)).map_or(0, Iterator::count)
    }

    /// Asks for a base, and waits until it is begun.
    async fn begin_base(&self) {
        let before = self.begun();
        let ask = self.program().args(["backup", "run", BACKUP, "--data"]).arg(self.path("data"));
        eventually("the beginning of a base", async || {
            drop(Programs::of_system().run(&ask).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
            (self.begun() > before).then_some(())
        })
        .await;
    }

    async fn catalog(&self) -> Catalog {
        Catalog::read(&self.repository, BACKUP).await.expect("a catalog")
    }

    /// Up to where the log is in the repository.
    async fn through(&self) -> Option<Time> {
        let catalog = self.catalog().await;
        let mut newest = None;
        for log in catalog.logs().await.ok()? {
            let Some(last) = catalog.last_piece(&log).await.ok()? else { continue };
            let head = self.repository.fetch_head(&last.folder, &last.name.to_string()).await.ok()?;
            newest = newest.max(Some(serde_json::from_slice::<PieceHead>(&head).ok()?.through));
        }
        newest
    }

    /// Waits until everything that was committed by now is in the repository.
    async fn caught_up(&self) {
        let now = SystemClock.now();
        eventually("the log", async || self.through().await.filter(|through| *through > now)).await;
    }

    fn restore(&self, to: Time, place: &Path) -> Running {
        let restore = self.program().args(["restore", BACKUP, "--to", &to.to_rfc3339(), "--policy"]);
        let restore = restore.arg(self.path("policy")).arg("--into").arg(place.join("data"));
        Programs::of_system().stream(&restore).expect("it starts")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
        }
        for (number, _) in processes(self.folder.path()) {
            _ = kill_process(pid(number), Signal::KILL);
        }
    }
}

/// Whom a fault meets, and when.
#[derive(Clone, Copy, Debug)]
enum Fault {
    AgentInBase,
    DatabaseInBase,
    EverythingInBase,
    AgentInLog,
    DatabaseInLog,
    ServerInLog,
}

const FAULTS: [Fault; 6] = [
    Fault::AgentInBase,
    Fault::DatabaseInLog,
    Fault::EverythingInBase,
    Fault::AgentInLog,
    Fault::DatabaseInBase,
    Fault::ServerInLog,
];

/// Meets a database and its backup with every fault.
async fn live<S: Subject>(subject: &mut S, installed: &mut Installed, draws: &mut Draws) {
    for fault in FAULTS {
        if matches!(fault, Fault::AgentInBase | Fault::DatabaseInBase | Fault::EverythingInBase) {
            installed.begin_base().await;
            pause(draws, 1500).await;
        } else {
            pause(draws, 6000).await;
        }
        println!("{}: {fault:?}, {} transactions", S::ENGINE, subject.len());
        match fault {
            Fault::AgentInBase | Fault::AgentInLog => installed.kill_agent().await,
            Fault::DatabaseInBase | Fault::DatabaseInLog => {
                subject.kill().await;
                subject.go_on(draws).await;
            }
            Fault::EverythingInBase => {
                let before = installed.catalog().await.sets.len();
                installed.kill_up().await;
                installed.kill_agent().await;
                subject.kill().await;
                subject.go_on(draws).await;
                installed.start();
                installed.begin_base().await;
                eventually("a base", async || (installed.catalog().await.sets.len() > before).then_some(())).await;
            }
            Fault::ServerInLog => {
                installed.kill_up().await;
                installed.start();
            }
        }
        // A second around which nobody asked the server how far it is has no voucher: most are to have one.
        installed.caught_up().await;
    }
    pause(draws, 3000).await;
    installed.caught_up().await;
}

/// What has come of a restore that ran to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It says that it is exact.
    Exact,
    /// It says why it may not be.
    Doubtful,
    Failed,
}

async fn outcome(running: &mut Running) -> (Outcome, String) {
    match tokio::time::timeout(PATIENCE, running.ended()).await.expect("it ends") {
        Ok(()) => (Outcome::Exact, String::new()),
        Err(error) if error.to_string().contains("exit status: 3") => (Outcome::Doubtful, error.to_string()),
        Err(error) => (Outcome::Failed, error.to_string()),
    }
}

/// Restores a second, and kills once on the way garant itself, or a program that it has started.
async fn restored(installed: &Installed, to: Time, took: &mut Duration, draws: &mut Draws) -> (TempDir, Outcome) {
    let place = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut running = installed.restore(to, place.path());
    let id = running.id().expect("it runs");
    let after = Duration::from_millis(draws.below(u64::try_from(took.as_millis()).expect("short").max(1)));
    tokio::time::sleep(after).await;
    let started = processes(place.path()).into_iter().rfind(|(number, _)| *number != id);
    let (whom, words) = match started {
        Some((number, line)) if draws.chance(50) => (number, line),
        _ => (id, "garant restore".to_owned()),
    };
    _ = kill_process(pid(whom), Signal::KILL);
    let (ended, why) = outcome(&mut running).await;
    eventually("the end of what it has started", async || processes(place.path()).is_empty().then_some(())).await;
    let words: String = words.chars().take(60).collect();
    println!("{to}: killed after {after:?}: {words}: {ended:?} {why}");
    if ended != Outcome::Failed {
        return (place, ended);
    }
    let data = place.path().join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data).expect("nobody works there any more");
    }
    let began = SystemClock.monotonic();
    let (ended, why) = outcome(&mut installed.restore(to, place.path())).await;
    assert_ne!(ended, Outcome::Failed, "{to}: {why}");
    let left: Vec<PathBuf> =
        std::fs::read_dir(place.path()).expect("there").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [data], "what the killed one has left is gone as well");
    *took = SystemClock.monotonic().since(began).to_std();
    (place, ended)
}

async fn campaign<S: Subject>() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can let an agent run as another user: not tested as this user");
        return;
    }
    let mut draws = Draws::from_environment();
    let seconds = std::env::var("GARANT_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number"));
    let mut subject = S::start(&mut draws).await;
    let mut installed = Installed::new::<S>(&subject.socket()).await;
    eventually("the first base", async || (!installed.catalog().await.sets.is_empty()).then_some(())).await;
    live(&mut subject, &mut installed, &mut draws).await;
    installed.kill_up().await;
    installed.kill_agent().await;
    subject.kill().await;

    let catalog = installed.catalog().await;
    let stretches = restorable(&installed.repository, &catalog).await.expect("listed");
    // The last base may have been complete before the log up to it had left, when the agent was killed.
    let is_base_alone = |it: &Restorable| it.log == stretches[0].log && it.from == it.through;
    assert!(stretches.iter().skip(1).all(is_base_alone), "no kill has broken the log: {stretches:?}");
    let (first, last) =
        (stretches[0].from.micros().div_euclid(1_000_000) + 1, stretches[0].through.micros().div_euclid(1_000_000));
    assert!(last - first > 5 && subject.len() > 100, "{} transactions in {} s", subject.len(), last - first);
    println!("{}: {} transactions in {} s, {} bases", S::ENGINE, subject.len(), last - first, catalog.sets.len());
    let (mut took, mut exact, mut doubtful) = (Duration::from_secs(3), 0, 0);
    while exact < seconds {
        let to = Time::from_secs(first + draws.below(last - first + 1));
        let (place, ended) = restored(&installed, to, &mut took, &mut draws).await;
        if ended == Outcome::Doubtful {
            doubtful += 1;
            assert!(doubtful < 20 + 2 * seconds, "hardly a second is vouched for");
            continue;
        }
        exact += 1;
        let (there, all) = (subject.check(place, to).await, subject.len());
        println!("{}: second {exact} of {seconds}, {to}: exact, {there} of {all} transactions, {took:?}", S::ENGINE);
    }
    println!("{}: {exact} seconds exact, {doubtful} that nobody vouches for", S::ENGINE);
}

/// BK-2, BK-3, BK-5: whoever is killed, and whenever.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_phase_a_second_of_mariadb_is_exact() {
    campaign::<MariaDb>().await;
}

/// BK-2, BK-3, BK-5: whoever is killed, and whenever.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_phase_a_second_of_postgres_is_exact() {
    campaign::<Postgres>().await;
}
