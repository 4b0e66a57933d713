//! NH-1: the bans of a fail2ban that is taken over are found in the database that the installed fail2ban writes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use super::*;

/// Writes bans with fail2ban's own code, says `ready`, waits for a line with the database open, and writes one more.
const WRITER: &str = r#"
import sys
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.ticket import FailTicket

class Actions:
    def getBanTime(self): return 600

class Jail:
    actions = Actions()
    def __init__(self, name): self.name = name

db = Fail2BanDb(sys.argv[1])
def ban(jail, ip, time, length=None, count=1):
    ticket = FailTicket(ip, time, ["Failed password for root from %s" % ip])
    if length is not None: ticket.setBanTime(length)
    ticket.setBanCount(count)
    db.addBan(jail, ticket)

sshd, nginx = Jail("sshd"), Jail("nginx-http-auth")
for jail in (sshd, nginx): db.addJail(jail)
ban(sshd, "192.0.2.1", 1700000000.4)
ban(sshd, "192.0.2.1", 1700000900, 1200, 2)
ban(nginx, "2001:db8::1", 1700000100, -1)
print("ready", flush=True)
sys.stdin.readline()
ban(sshd, "192.0.2.2", 1700001000, 86400, 3)
print("done", flush=True)
sys.stdin.readline()
"#;

fn row(jail: &str, ip: &str, time_of_ban: i64, ban_time: i64, ban_count: u32) -> Fail2banBan {
    Fail2banBan { jail: jail.to_owned(), ip: ip.to_owned(), time_of_ban, ban_time: Some(ban_time), ban_count }
}

#[test]
fn bans_are_read_while_fail2ban_has_its_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fail2ban.sqlite3");
    #[expect(clippy::disallowed_methods, reason = "a writer that is not ours")]
    let mut writer = std::process::Command::new("/usr/bin/python3")
        .args(["-c", WRITER])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("install python3 and fail2ban (`apt-get install fail2ban`), as scripts/test does");
    let mut go_on = writer.stdin.take().unwrap();
    let mut says = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut said =
        || says.next().expect("install fail2ban (`apt-get install fail2ban`), as scripts/test does").unwrap();

    assert_eq!(said(), "ready");
    let found = read(&path).unwrap();
    let second = row("sshd", "192.0.2.1", 1_700_000_900, 1200, 2);
    let forever = row("nginx-http-auth", "2001:db8::1", 1_700_000_100, -1, 1);
    assert_eq!(found.last, [second.clone(), forever.clone()]);
    let first = row("sshd", "192.0.2.1", 1_700_000_000, 600, 1);
    assert_eq!(found.history, [second, forever, first]);
    assert_eq!((found.passed_over.len(), found.cut), (0, false));

    writeln!(go_on).unwrap();
    assert_eq!(said(), "done");
    let found = read(&path).unwrap();
    assert_eq!(found.last[0], row("sshd", "192.0.2.2", 1_700_001_000, 86_400, 3));
    drop(go_on);
    assert!(writer.wait().unwrap().success());
    let files: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["fail2ban.sqlite3"], "nothing was written beside it");
}

/// A database that somebody else filled.
fn made(sql: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fail2ban.sqlite3");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (dir, path)
}

const TABLES: &str = "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
    CREATE TABLE bips(ip, jail, timeofban, bantime, bancount, data);
    CREATE TABLE bans(jail, ip, timeofban, bantime, bancount, data);";

#[test]
fn rows_that_fail2ban_does_not_write_are_counted_and_passed_over() {
    let (_dir, path) = made(&format!(
        "{TABLES}
        INSERT INTO bans VALUES('sshd', NULL, 1, 2, 1, NULL), ('sshd', x'ff00', 1, 2, 1, NULL), ('sshd', 'a', 'then', 2, 1, 0),
            ('sshd', 'b', -1, 2, 1, 0), ('sshd', 'c', 1, 2, -1, 0), (replace(hex(zeroblob(200)), '0', 'j'), 'd', 1, 2, 1, 0),
            ('sshd', '192.0.2.7', 10, 20.75, 1, 0);"
    ));
    let found = read(&path).unwrap();
    assert_eq!(found.history, [row("sshd", "192.0.2.7", 10, 20, 1)]);
    let passed_over = [("ip", 2), ("timeofban", 2), ("bancount", 1), ("jail", 1)];
    assert_eq!(found.passed_over, passed_over.into_iter().collect());
}

/// A database of fail2ban 0.10 or before (version 2) knows neither how long a ban lasts nor how many there were, and one of between
/// (version 3) has no table of the last bans. What fail2ban did not know when it brought its database up to date is unknown, too.
#[test]
fn older_databases_are_read_as_far_as_they_go() {
    let unknown = |ip: &str, time_of_ban: i64, ban_count: u32| Fail2banBan {
        ban_time: None,
        ..row("sshd", ip, time_of_ban, 0, ban_count)
    };
    let (_dir, path) = made(
        "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(2);
        CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON);
        INSERT INTO bans VALUES('sshd', '192.0.2.1', 10, '{}'), ('sshd', '192.0.2.1', 30, '{}'), ('sshd', '192.0.2.2', 20, '{}');",
    );
    let found = read(&path).unwrap();
    assert_eq!(found.last, []);
    assert_eq!(found.history, [unknown("192.0.2.1", 30, 2), unknown("192.0.2.2", 20, 1), unknown("192.0.2.1", 10, 2)]);
    let (_dir, path) = made(
        "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(3);
        CREATE TABLE bans(jail, ip, timeofban, bantime, bancount, data);
        INSERT INTO bans VALUES('sshd', '192.0.2.1', 10, 60, 3, '{}'), ('sshd', '192.0.2.2', 5, -2, 1, '{}'), ('sshd', '192.0.2.3', 4, -1, 1, '{}');",
    );
    let found = read(&path).unwrap();
    assert_eq!(found.last, []);
    let expected =
        [row("sshd", "192.0.2.1", 10, 60, 3), unknown("192.0.2.2", 5, 1), row("sshd", "192.0.2.3", 4, -1, 1)];
    assert_eq!(found.history, expected);
    assert!(found.passed_over.is_empty());
}

#[test]
fn what_is_no_database_of_fail2ban_is_refused_with_a_reason() {
    let check = |path: &Path, expect: &str| {
        let error = read(path).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let dir = tempfile::tempdir().unwrap();
    check(&dir.path().join("none"), "there is no database of fail2ban at");
    check(dir.path(), "it is no file");
    let text = dir.path().join("text");
    std::fs::write(
        &text,
        "this is a text that is long enough to be taken for the head of a database, or so one thinks".repeat(9),
    )
    .unwrap();
    check(&text, "it is no database of SQLite");
    let (_dir, path) = made("CREATE TABLE other(x)");
    check(&path, "it has no table `fail2banDb`");
    let (_dir, path) = made(&TABLES.replace("VALUES(4)", "VALUES(5)"));
    check(&path, "has version 5, and versions 1 to 4 are known");
    // A view could ask for anything.
    let (_dir, path) = made(&TABLES.replace(
        "CREATE TABLE bips(ip, jail, timeofban, bantime, bancount, data)",
        "CREATE VIEW bips AS WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
    ));
    assert_eq!(read(&path).unwrap(), Fail2banBans::default());
    let (_dir, path) = made("CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);");
    check(&path, "it has no table `bans`");
}
