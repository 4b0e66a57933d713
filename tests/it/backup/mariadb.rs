//! MariaDB of Debian.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::{folder, is_kept};
use crate::harness::{Up, command, eventually, transcript};

/// A server on a folder. Killed when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) socket: PathBuf,
}

impl Server {
    pub(super) fn start(data: &Path, options: &[&str]) -> Self {
        let socket = data.join("socket");
        let errors = std::fs::File::create(data.with_extension("err")).expect("made");
        let child = command("mariadbd")
            .args(["--no-defaults", "--user=mysql", "--skip-networking", "--innodb-buffer-pool-size=32M"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", data.join("pid").display()))
            .args(options)
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("mariadbd is installed");
        let server = Self { child, socket };
        eventually("the server", || server.try_sql("SELECT 1"));
        server
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let mut client = command("mariadb");
        client.args(["--no-defaults", "--user=root", "-N", "-B", "-e", sql]);
        let done = client.arg(format!("--socket={}", self.socket.display())).output().expect("mariadb is installed");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql} failed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(super) fn installed() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut install = command("mariadb-install-db");
    install.args(["--no-defaults", "--user=mysql", "--skip-test-db", "--auth-root-authentication-method=socket"]);
    let made = install.arg(format!("--datadir={}", folder.path().join("data").display())).output().expect("it runs");
    assert!(made.status.success(), "{}", transcript(&made));
    folder
}

/// A check of what was restored, to whatever instant.
const CHECK: &str = "check = [{ name = \"there is a shop\", database = \"information_schema\", \
                     sql = \"SELECT COUNT(*) FROM SCHEMATA WHERE SCHEMA_NAME = 'shop'\" }]\n\
                     canary = \"shop.garant_canary\"\ncanary_every = \"5 s\"\n";

#[test]
fn a_server_of_mariadb_is_followed_restored_and_judged() {
    let installed = installed();
    let data = installed.path().join("data");
    let log = ["--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1", "--gtid-strict-mode=1", "--server-id=7"];
    let server = Server::start(&data, &log);
    // A user of Debian that owns nothing of the server: what it reads, it reads by its capability alone.
    server.sql("CREATE USER backup@localhost IDENTIFIED VIA unix_socket");
    server.sql("GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE ON *.* TO backup@localhost");
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.ledger (n INT PRIMARY KEY) ENGINE=InnoDB");
    server.sql("CREATE TABLE shop.garant_canary (n BIGINT PRIMARY KEY, written_us BIGINT NOT NULL)");
    let socket = server.socket.display().to_string();
    server.sql("GRANT INSERT, SELECT, DELETE ON shop.garant_canary TO backup@localhost");
    let folder =
        folder("backup", |_| format!("[[backup.mariadb]]\nname = \"shop-db\"\nsocket = \"{socket}\"\n{CHECK}"));
    let up = Up::start_in(folder);
    let restored = |into: &Path| {
        let restored = Server::start(into, &["--skip-log-bin"]);
        restored.sql("SELECT COUNT(*) FROM shop.ledger").parse().expect("a number")
    };
    let insert = |n: i64| drop(server.sql(&format!("INSERT INTO shop.ledger VALUES ({n})")));
    is_kept(&up, restored, insert, || drop(server.sql("DROP TABLE shop.ledger")));
}
