//! A server of a test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use engine::program::Running;
use engine::{Program, Programs};
use event::Span;
use tokio::sync::Mutex;

use crate::Connection as Settings;
use crate::mariadb::connection::{Connection, Row, own_name};

/// What a server needs to be backed up.
const GOOD: [&str; 6] = [
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--gtid-strict-mode=1",
    "--server-id=7",
];
/// Small files, for many servers.
const SMALL: [&str; 2] = ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M"];

/// An empty folder of data, made once and copied, for as long as a test has a server.
static EMPTY: Mutex<Weak<tempfile::TempDir>> = Mutex::const_new(Weak::new());

/// A server with a folder of its own. Dropped, it is killed.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    options: Vec<String>,
    running: Option<Running>,
    _empty: Option<Arc<tempfile::TempDir>>,
}

async fn run(program: &Program) {
    let programs = Programs::of_system();
    programs.run(&program.clone().deadline(Span::from_secs(120))).await.expect("it works");
}

/// A folder that the server may reach.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    folder
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn empty() -> Arc<tempfile::TempDir> {
    let mut made = EMPTY.lock().await;
    if let Some(folder) = made.upgrade() {
        return folder;
    }
    let folder = folder();
    let mut install =
        Program::new("mariadb-install-db").args(["--no-defaults", "--skip-test-db", "--force"]).args(SMALL);
    install = install.arg("--auth-root-authentication-method=socket");
    install = install.arg(format!("--auth-root-socket-user={}", own_name().expect("a name")));
    // Each server deletes what it finds of another one in its folder of temporary files, when it starts.
    for option in ["datadir", "tmpdir"] {
        install = install.arg(format!("--{option}={}", folder.path().join("data").display()));
    }
    fs::create_dir(folder.path().join("data")).expect("made");
    if is_root() {
        install = install.arg("--user=mysql");
    }
    run(&install).await;
    let folder = Arc::new(folder);
    *made = Arc::downgrade(&folder);
    folder
}

impl Server {
    /// A server as it is to be, with these options beside.
    pub(crate) async fn new(options: &[&str]) -> Self {
        Self::with(&[&GOOD, options].concat()).await
    }

    /// A server with these options alone.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let empty = empty().await;
        let folder = folder();
        run(&Program::new("cp").arg("-a").arg(empty.path().join("data")).arg(folder.path().join("data"))).await;
        let mut server = Self {
            folder,
            options: options.iter().map(ToString::to_string).collect(),
            running: None,
            _empty: Some(empty),
        };
        server.start().await;
        server
    }

    /// A server on what was restored.
    pub(crate) async fn on(place: super::Place) -> Self {
        Self::on_with(place, &[]).await
    }

    /// The same, with these options beside.
    pub(crate) async fn on_with(place: super::Place, options: &[&str]) -> Self {
        let options = ["--skip-log-bin"].iter().chain(options).map(ToString::to_string).collect();
        let mut server = Self { folder: place.0, options, running: None, _empty: None };
        server.start().await;
        server
    }

    pub(crate) async fn start(&mut self) {
        let folder = self.path().to_owned();
        let of = |name: &str| folder.join(name).display().to_string();
        let mut program = Program::new("mariadbd").args(["--no-defaults", "--skip-networking"]).args(SMALL);
        program =
            program.args(&self.options).args(["datadir", "tmpdir"].map(|name| format!("--{name}={}", of("data"))));
        program = program.arg(format!("--socket={}", of("data/socket"))).arg(format!("--pid-file={}", of("data/pid")));
        program = program.arg(format!("--log-error={}", of("data/errors.err")));
        if is_root() {
            program = program.arg("--user=mysql");
        }
        self.running = Some(Programs::of_system().stream(&program).expect("it starts"));
        for _ in 0..600 {
            if self.try_connect().await.is_some() {
                return;
            }
            tokio::time::sleep(Span::from_millis(100).to_std()).await;
        }
        panic!("it did not start: {}", fs::read_to_string(of("data/errors.err")).unwrap_or_default());
    }

    /// Ends it as kill -9 does.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.take().expect("it runs");
        let id = running.id().expect("it runs");
        drop(running);
        while Path::new(&format!("/proc/{id}/exe")).exists() {
            tokio::time::sleep(Span::from_millis(5).to_std()).await;
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("data/socket")
    }

    async fn try_connect(&self) -> Option<Connection> {
        let settings = Settings { socket: self.socket(), user: own_name(), password: None };
        Connection::open(&super::context(), &settings).await.ok()
    }

    pub(in crate::mariadb) async fn connect(&self) -> Connection {
        self.try_connect().await.expect("it lets us in")
    }

    /// Runs statements, one after the other.
    pub(crate) async fn run(&self, statements: &[&str]) {
        let mut connection = self.connect().await;
        for statement in statements {
            connection.query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    pub(in crate::mariadb) async fn rows(&self, query: &str) -> Vec<Row> {
        self.connect().await.query(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// A file of its binary log.
    pub(crate) fn binlog(&self, number: u32) -> Vec<u8> {
        fs::read(self.path().join(format!("data/binlog.{number:06}"))).expect("there")
    }
}
