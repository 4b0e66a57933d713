//! PostgreSQL of Debian.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::{folder, is_kept};
use crate::harness::{Up, command, eventually, transcript};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A program of PostgreSQL, which runs as its own user.
pub(super) fn program(name: &str) -> std::process::Command {
    let mut program = command("setpriv");
    program.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(Path::new(PROGRAMS).join(name));
    program.current_dir("/");
    program
}

/// A cluster on a folder. Killed when dropped.
pub(super) struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    pub(super) fn start(data: &Path, folder: &Path) -> Self {
        let errors = std::fs::File::create(folder.join("errors")).expect("made");
        let child = program("postgres")
            .arg("-D")
            .arg(data)
            .args(["-c", "listen_addresses=", "-c", "unix_socket_directories="])
            .args(["-k".to_owned(), folder.display().to_string()])
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("PostgreSQL is installed");
        let server = Self { child, folder: folder.to_owned() };
        eventually("the server", || server.try_sql("SELECT 1"));
        server
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let mut client = program("psql");
        client.args(["-X", "-q", "-A", "-t", "-d", "postgres", "-c", sql, "-h"]);
        let done = client.arg(&self.folder).output().expect("psql is installed");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql} failed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        drop(command("kill").args(["-QUIT", &id]).status());
        drop(self.child.wait());
    }
}

pub(super) fn installed() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let owned = command("chown").arg("postgres:postgres").arg(folder.path()).output().expect("chown runs");
    assert!(owned.status.success(), "{}", transcript(&owned));
    let mut init = program("initdb");
    let made = init.args(["-k", "-A", "peer", "-D"]).arg(folder.path().join("data")).output().expect("initdb runs");
    assert!(made.status.success(), "{}", transcript(&made));
    folder
}

/// A check of what was restored, to whatever instant.
const CHECK: &str = "check = [{ name = \"there is a shop\", database = \"postgres\", sql = \"select true\" }]\n\
                     canary = \"postgres.garant_canary\"\ncanary_every = \"5 s\"\n";

#[test]
fn a_cluster_of_postgres_is_followed_restored_and_judged() {
    let installed = installed();
    let server = Server::start(&installed.path().join("data"), installed.path());
    server.sql("CREATE TABLE ledger (n int PRIMARY KEY)");
    server.sql("CREATE TABLE garant_canary (n bigint PRIMARY KEY, written_us bigint NOT NULL)");
    let socket = installed.path().display().to_string();
    let folder =
        folder("postgres", |_| format!("[[backup.postgres]]\nname = \"shop-db\"\nsocket = \"{socket}\"\n{CHECK}"));
    let up = Up::start_in(folder);
    let restored = |into: &Path| {
        let folder = tempfile::tempdir().expect("a folder");
        let owned = command("chown").arg("postgres:postgres").arg(folder.path()).output().expect("chown runs");
        assert!(owned.status.success(), "{}", transcript(&owned));
        let restored = Server::start(into, folder.path());
        restored.sql("SELECT count(*) FROM ledger").parse().expect("a number")
    };
    let insert = |n: i64| drop(server.sql(&format!("INSERT INTO ledger VALUES ({n})")));
    is_kept(&up, restored, insert, || drop(server.sql("DROP TABLE ledger")));
}
