//! Live databases are brought back to an instant, in their own place.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{entries, folder, kind, now, reads, until_shipped};
use crate::harness::{Up, command, eventually, pause, transcript};

/// A server that is started and stopped by scripts, as by a unit. Killed when dropped.
struct Scripted {
    folder: TempDir,
    /// Asks it, as its administrator.
    sql: fn(&Path, &str) -> Option<String>,
}

impl Scripted {
    fn new(user: &str, install: &str, start: &str, stop: &str, sql: fn(&Path, &str) -> Option<String>) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
        let at = folder.path().display().to_string();
        for name in ["run", "data"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        // The first time that it stops the server, it kills who wanted that.
        let stop = format!("{stop}\n[ ! -e \"$F/kills\" ] || {{ rm \"$F/kills\"; kill -9 $PPID; }}\n");
        for (name, text) in [("install", install), ("start", start), ("stop", &stop)] {
            let text = format!("set -e\nF={at}\n{text}\n");
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let owned = command("chown")
            .arg(format!("{user}:{user}"))
            .args(["run", "data"].map(|name| folder.path().join(name)))
            .output()
            .expect("chown runs");
        assert!(owned.status.success(), "{}", transcript(&owned));
        let server = Self { folder, sql };
        server.script("install");
        server.script("start");
        eventually("the server", || server.try_sql("SELECT 1"));
        server
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str) {
        let done = command("sh").arg(self.at(name)).output().expect("sh runs");
        assert!(done.status.success(), "{name}: {}", transcript(&done));
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        (self.sql)(self.folder.path(), sql)
    }

    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql} failed"))
    }

    /// The keys of the policy that name its data, and its scripts.
    fn keys(&self) -> String {
        let script = |name: &str| format!("[\"sh\", \"{}\"]", self.at(name).display());
        format!("data = \"{}\"\nstop = {}\nstart = {}\n", self.at("data").display(), script("stop"), script("start"))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        drop(std::fs::remove_file(self.at("kills")));
        drop(command("sh").arg(self.at("stop")).output());
    }
}

/// What every database must show: nothing happens before somebody says so, a kill in the middle is gone on from, and every instant of
/// before and after can be restored.
fn is_rewound(server: &Scripted, up: &Up, of_loss: &str, restored: impl Fn(&Path) -> String) {
    let at = up.folder.path();
    eventually("the first base", || kind(at, "full")["succeeded"].as_str().map(str::to_owned));
    // A log that comes behind the first base has another one taken, which would show the rows below, and not how they came.
    until_shipped(at, &now());
    eventually("no base under way", || kind(at, "full")["doing"].is_null().then_some(()));
    for n in [1, 2] {
        server.sql(&format!("INSERT INTO ledger VALUES ({n})"));
    }
    pause(2.0);
    let before = now();
    pause(2.0);
    server.sql("INSERT INTO ledger VALUES (3)");
    pause(2.0);
    let with_three = now();
    pause(2.0);
    server.sql("DROP TABLE ledger");
    until_shipped(at, &now());

    let data = at.join("data").display().to_string();
    let rewind = |arguments: &[&str]| reads(at, &[&["rewind", "shop-db", "--data", &data], arguments].concat());
    let none = rewind(&["--resume"]);
    assert_eq!(none.status.code(), Some(2), "{}", transcript(&none));
    let early = rewind(&["--to", "2020-01-01T00:00:00Z"]);
    assert_eq!(early.status.code(), Some(4), "{}", transcript(&early));

    let waits = rewind(&["--to", &before]);
    let said = transcript(&waits);
    assert_eq!(waits.status.code(), Some(5), "{said}");
    assert!(said.contains("passed: two rows") && said.contains("garant rewind shop-db --resume --yes"), "{said}");
    let (shown, lost) = said.split_once("────────").expect("the instant");
    assert!(shown.contains("insert") && shown.contains("ledger") && lost.contains(of_loss), "{said}");
    assert_eq!(server.try_sql("SELECT COUNT(*) FROM ledger"), None, "nothing has changed");
    let again = rewind(&["--to", &before]);
    assert_eq!(again.status.code(), Some(2), "{}", transcript(&again));
    let unsaid = rewind(&["--resume", "--yes", "--agent", "/nowhere"]);
    assert_eq!(unsaid.status.code(), Some(5), "{}", transcript(&unsaid));
    assert!(transcript(&unsaid).contains("No agent journals what is done"), "{}", transcript(&unsaid));
    let undone = rewind(&["--undo"]);
    assert!(undone.status.success(), "{}", transcript(&undone));
    assert_eq!(server.try_sql("SELECT COUNT(*) FROM ledger"), None, "nothing has changed");

    std::fs::write(server.at("kills"), "").expect("written");
    let killed = rewind(&["--to", &before, "--yes"]);
    assert_eq!(killed.status.signal(), Some(9), "{}", transcript(&killed));
    assert_eq!(server.try_sql("SELECT 1"), None, "it is stopped");
    // A server that has removed its files may be about to end still: then it says so, and can be gone on with again.
    let done = eventually("it to go on", || {
        let done = rewind(&["--resume", "--json"]);
        assert!(done.status.success() || transcript(&done).contains("then go on with"), "{}", transcript(&done));
        done.status.success().then_some(done)
    });
    let done: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", transcript(&done)));
    assert_eq!((&done["state"], &done["checks"][0]["passed"]), (&Value::from("rewound"), &Value::from(true)), "{done}");
    assert_eq!(server.sql("SELECT COUNT(*) FROM ledger"), "2");
    assert!(Path::new(done["old"].as_str().expect("a path")).is_dir(), "{done}");
    assert!(!server.at("data.garant-rewind").exists());
    // What was restored and removed again has changed nothing; the promotion is journaled, once, over the kill.
    let states = || entries(at, "backup.rewound").iter().map(|it| it["state"].clone()).collect::<Vec<_>>();
    eventually("the rewind in the journal", || (states() == ["intended", "done"]).then_some(()));

    // The log behind it is another one, with a base of its own, and each instant of before is still there.
    eventually("a new base", || (super::listed(at, "full").len() >= 2).then_some(()));
    server.sql("INSERT INTO ledger VALUES (10)");
    pause(2.0);
    let behind = now();
    pause(2.0);
    server.sql("DELETE FROM ledger");
    until_shipped(at, &now());
    for (instant, rows) in [(&with_three, "3"), (&before, "2"), (&behind, "3")] {
        let into = tempfile::tempdir().expect("a folder");
        let to = into.path().join("restored");
        std::fs::set_permissions(into.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        let done = reads(at, &["restore", "shop-db", "--to", instant, "--into", to.to_str().expect("UTF-8")]);
        assert!(done.status.success(), "{instant}: {}", transcript(&done));
        assert_eq!(restored(&to), rows, "{instant}");
    }
}

const CHECK: &str =
    "check = [{ name = \"two rows\", database = \"DATABASE\", sql = \"SELECT COUNT(*) = 2 FROM ledger\" }]\n";

/// BK-2, BK-3: MariaDB, whose binary log is outside of its data.
#[test]
fn a_server_of_mariadb_is_rewound() {
    fn sql(at: &Path, sql: &str) -> Option<String> {
        let mut client = command("mariadb");
        client.args(["--no-defaults", "--user=root", "-N", "-B", "shop", "-e", sql]);
        let done = client.arg(format!("--socket={}", at.join("run/socket").display())).output().expect("mariadb runs");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
    let server = Scripted::new(
        "mysql",
        "mkdir $F/log && chown mysql:mysql $F/log\n\
         mariadb-install-db --no-defaults --user=mysql --skip-test-db --auth-root-authentication-method=socket --datadir=$F/data\n\
         mkdir $F/data/shop && chown mysql:mysql $F/data/shop",
        "setsid mariadbd --no-defaults --user=mysql --skip-networking --innodb-buffer-pool-size=32M --datadir=$F/data \
         --socket=$F/run/socket --pid-file=$F/run/pid --log-bin=$F/log/binlog --binlog-format=ROW --sync-binlog=1 \
         --gtid-strict-mode=1 --server-id=7 >$F/errors 2>&1 </dev/null &",
        "kill $(cat $F/run/pid)\nwhile [ -e $F/run/pid ]; do sleep 0.1; done",
        sql,
    );
    server.sql("CREATE USER IF NOT EXISTS mysql@localhost IDENTIFIED VIA unix_socket");
    server.sql("GRANT ALL ON *.* TO mysql@localhost");
    server.sql("CREATE TABLE ledger (n INT PRIMARY KEY) ENGINE=InnoDB");
    let socket = server.at("run/socket").display().to_string();
    let folder = folder("mysql", |_| {
        let check = CHECK.replace("DATABASE", "shop");
        format!("[[backup.mariadb]]\nname = \"shop-db\"\nsocket = \"{socket}\"\n{}{check}", server.keys())
    });
    let up = Up::start_in(folder);
    is_rewound(&server, &up, "DROP TABLE `ledger`", |into| {
        let restored = super::mariadb::Server::start(into, &["--skip-log-bin"]);
        restored.sql("SELECT COUNT(*) FROM shop.ledger")
    });
}

/// BK-1, BK-2: PostgreSQL.
#[test]
fn a_cluster_of_postgres_is_rewound() {
    fn sql(at: &Path, sql: &str) -> Option<String> {
        let mut client = super::postgres::program("psql");
        client.args(["-X", "-q", "-A", "-t", "-d", "postgres", "-c", sql, "-h"]);
        let done = client.arg(at.join("run")).output().expect("psql runs");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
    let run = "setpriv --reuid=postgres --regid=postgres --init-groups -- /usr/lib/postgresql/15/bin";
    let server = Scripted::new(
        "postgres",
        &format!("cd /\nchmod 700 $F/data\n{run}/initdb -k -A peer -D $F/data"),
        &format!("cd /\n{run}/pg_ctl -D $F/data -w -l $F/run/log -o \"-c listen_addresses= -k $F/run\" start"),
        &format!("cd /\n{run}/pg_ctl -D $F/data -w -m fast stop"),
        sql,
    );
    server.sql("CREATE TABLE ledger (n int PRIMARY KEY)");
    let socket = server.at("run").display().to_string();
    let folder = folder("postgres", |_| {
        let check = CHECK.replace("DATABASE", "postgres");
        format!("[[backup.postgres]]\nname = \"shop-db\"\nsocket = \"{socket}\"\n{}{check}", server.keys())
    });
    let up = Up::start_in(folder);
    is_rewound(&server, &up, "files of tables or indexes are dropped", |into| {
        let folder = tempfile::tempdir().expect("a folder");
        let owned = command("chown").arg("postgres:postgres").arg(folder.path()).output().expect("chown runs");
        assert!(owned.status.success(), "{}", transcript(&owned));
        let restored = super::postgres::Server::start(into, folder.path());
        restored.sql("SELECT count(*) FROM ledger")
    });
}
