//! `garant protect`: from nothing to a first base.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::{mariadb, postgres, read, reads};
use crate::harness::{Up, binary, folder_with, garant, python_script, transcript};

/// A policy as somebody wrote it, with comments, whose agent runs as `user`.
fn policy(user: &str) -> String {
    format!(
        "\
# Ours.
[journal]
name = \"shop.example\"        # for good

[pages]
listen = \"127.0.0.1:0\"

[agent]
user = \"{user}\" # not ours

[[service]]
name = \"shop\"
# The end.
"
    )
}

/// A folder with that policy, in which everybody may look.
fn folder(user: &str) -> TempDir {
    let folder = folder_with(&policy(user));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    folder
}

fn protect_words(at: &Path, arguments: &[&str]) -> Vec<String> {
    let (policy, data) = (at.join("garant.toml").display().to_string(), at.join("data").display().to_string());
    let words = ["protect"].iter().chain(arguments).map(|word| (*word).to_owned());
    words.chain(["--policy".to_owned(), policy, "--data".to_owned(), data]).collect()
}

fn protect(at: &Path, arguments: &[&str]) -> Output {
    garant(&protect_words(at, arguments))
}

/// The same, for programs: its exit code, and its JSON.
fn protect_json(at: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let done = protect(at, &[arguments, &["--json"]].concat());
    let json = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", transcript(&done)));
    (done.status.code(), json)
}

fn text(at: &Path) -> String {
    std::fs::read_to_string(at.join("garant.toml")).unwrap_or_default()
}

/// What a person wrote is there, line by line and in its order.
fn keeps(before: &str, after: &str) {
    let mut lines = after.lines();
    for line in before.lines() {
        assert!(lines.any(|it| it == line), "`{line}` is not kept:\n{after}");
    }
}

#[test]
fn a_policy_is_made_where_there_is_none_and_a_second_call_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let www = at.join("www");
    std::fs::create_dir(&www).expect("made");
    std::fs::write(www.join("index.html"), "hello").expect("written");
    let (www, copy) = (www.display().to_string(), at.join("copy").display().to_string());
    let words = ["files", "www", &www, "--copy", &copy];

    let nowhere = protect(at, &words[..3]);
    assert_eq!(nowhere.status.code(), Some(2), "no place is named: {}", transcript(&nowhere));
    let dry = protect(at, &[&words[..], &["--dry-run"]].concat());
    assert_eq!(dry.status.code(), Some(0), "{}", transcript(&dry));
    assert!(
        String::from_utf8_lossy(&dry.stdout).contains("+[[backup.files]]\n+name = \"www\"\n"),
        "{}",
        transcript(&dry)
    );
    let unasked = protect(at, &words);
    assert_eq!(unasked.status.code(), Some(2), "nobody agreed: {}", transcript(&unasked));
    assert!(!at.join("garant.toml").exists() && !at.join("backup.key").exists() && !at.join("copy").exists());

    let done = protect(at, &[&words[..], &["--yes"]].concat());
    assert_eq!(done.status.code(), Some(3), "nothing runs yet: {}", transcript(&done));
    let said = transcript(&done);
    let key = std::fs::read_to_string(at.join("backup.key")).expect("a key");
    assert!(
        said.contains("start it as root") && !said.contains(key.trim()),
        "the key is shown to a person only: {said}"
    );
    assert_eq!(at.join("backup.key").metadata().expect("there").mode() & 0o777, 0o600);
    let checked = garant(&["check", "--policy", at.join("garant.toml").to_str().expect("UTF-8")]);
    assert!(checked.status.success(), "{}", transcript(&checked));

    let written = text(at);
    for again in [protect(at, &words), protect(at, &[&words[..], &["--yes"]].concat())] {
        assert_eq!(again.status.code(), Some(0), "{}", transcript(&again));
        assert!(String::from_utf8_lossy(&again.stdout).contains("already"), "{}", transcript(&again));
    }
    let other = protect(at, &["mariadb", "www", "--yes"]);
    assert_eq!(other.status.code(), Some(2), "it is of another kind: {}", transcript(&other));
    assert_eq!(text(at), written);
}

/// BK-7: the policy stays as its author wrote it, with its owner and its mode; what runs takes it, and the first snapshot comes.
#[test]
fn files_are_protected_under_a_garant_that_runs() {
    let folder = folder("root");
    let at = folder.path().to_owned();
    std::fs::set_permissions(at.join("garant.toml"), std::fs::Permissions::from_mode(0o640)).expect("set");
    std::os::unix::fs::chown(at.join("garant.toml"), Some(65534), None).expect("owned");
    let www = at.join("www");
    std::fs::create_dir(&www).expect("made");
    std::fs::write(www.join("index.html"), "hello\n".repeat(10_000)).expect("written");
    let before = text(&at);
    let up = Up::start_in(folder);
    let (www, copy) = (www.display().to_string(), at.join("www/copy").display().to_string());

    let (code, said) = protect_json(&at, &["files", "www", &www, "--copy", &copy, "--yes"]);
    assert_eq!((code, said["state"].as_str()), (Some(0), Some("protected")), "{said}");
    assert_eq!(said["restorable"].as_array().map(Vec::len), Some(1), "{said}");
    assert!(said["missing"].to_string().contains("one copy"), "{said}");
    assert!(said["key"]["is_new"] == true && !said.to_string().contains("garant-key"), "{said}");
    keeps(&before, &text(&at));
    let there = at.join("garant.toml").metadata().expect("there");
    assert_eq!((there.mode() & 0o777, there.uid()), (0o640, 65534));
    let shown = read(&at, &["backup", "show", "www"]);
    assert_eq!(shown["count"], 1, "the copy is not in itself: {shown}");

    // What is not sound as a whole is not written.
    std::fs::write(at.join("garant.toml"), format!("{}\n[[service]]\nname = \"shop\"\n", text(&at))).expect("written");
    let broken = text(&at);
    let refused = protect(&at, &["files", "etc", "/etc/hostname", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "{}", transcript(&refused));
    assert_eq!(text(&at), broken);
    drop(up);
}

/// A person at a terminal sees the key once, and shows that it is kept.
#[test]
fn a_person_at_a_terminal_keeps_the_key() {
    let python = Path::new("/usr/bin/python3");
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let copy = at.join("copy").display().to_string();
    let mut words = vec![String::new(), binary().display().to_string()];
    words.extend(protect_words(at, &["files", "www", "/etc/hostname", "--copy", &copy]));

    for (what, code) in [("mistype", 1), ("interrupt", 130)] {
        words[0] = what.to_owned();
        let refused = python_script(python, "protect_at_terminal.py", &words);
        assert_eq!(refused.status.code(), Some(code), "{}", transcript(&refused));
        assert!(!at.join("garant.toml").exists() && !at.join("backup.key").exists(), "{}", transcript(&refused));
    }

    words[0] = "keep".to_owned();
    let kept = python_script(python, "protect_at_terminal.py", &words);
    assert_eq!(kept.status.code(), Some(3), "{}", transcript(&kept));
    let key = std::fs::read_to_string(at.join("backup.key")).expect("a key");
    let shown = String::from_utf8_lossy(&kept.stdout);
    assert_eq!(shown.matches(key.trim()).count(), 1, "{shown}");
}

/// BK-1, BK-2: what a server lacks is said with what mends it, the user is made, and every second is there from the first base on.
#[test]
fn a_server_of_mariadb_is_protected_from_nothing() {
    let installed = mariadb::installed();
    let data = installed.path().join("data");
    let folder = folder("mysql");
    let at = folder.path().to_owned();
    let (near, far) =
        (at.join("near").display().to_string(), format!("{},region=far,provider=two", at.join("far").display()));
    let before = text(&at);

    let unfit = mariadb::Server::start(&data, &[]);
    unfit.sql("DROP USER IF EXISTS mysql@localhost");
    let socket = unfit.socket.display().to_string();
    let words = ["mariadb", "shop-db", "--socket", &socket, "--copy", &near, "--copy", &far, "--yes"];
    let (code, said) = protect_json(&at, &words);
    assert_eq!((code, said["state"].as_str()), (Some(1), Some("not ready")), "{said}");
    let script = said["script"].as_str().expect("a script");
    for part in
        ["CREATE USER 'mysql'@'localhost'", "log_bin = binlog\n", "sync_binlog = 1\n", "systemctl restart mariadb"]
    {
        assert!(script.contains(part), "{part} is not in\n{script}");
    }
    let shown = protect(&at, &words);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("log_bin is 0"), "{}", transcript(&shown));
    assert!(text(&at) == before && !at.join("backup.key").exists(), "nothing is changed");
    drop(unfit);

    let log = ["--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1", "--gtid-strict-mode=1", "--server-id=7"];
    let server = mariadb::Server::start(&data, &log);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.ledger (n INT PRIMARY KEY) ENGINE=InnoDB");
    let up = Up::start_in(folder);
    let refused = protect(&at, &words);
    assert_eq!(refused.status.code(), Some(1), "the user is not there: {}", transcript(&refused));
    let dry = protect(&at, &[&words[..], &["--fix", "--dry-run"]].concat());
    assert_eq!(dry.status.code(), Some(1), "{}", transcript(&dry));
    assert_eq!(server.sql("SELECT COUNT(*) FROM mysql.user WHERE user = 'mysql'"), "0", "a dry run makes no user");

    let (code, said) = protect_json(&at, &[&words[..], &["--fix"]].concat());
    assert_eq!((code, said["state"].as_str()), (Some(0), Some("protected")), "{said}");
    assert!(said["restorable"][0]["log"].is_string(), "{said}");
    keeps(&before, &text(&at));
    let listed = super::listed(&at, "full");
    assert_eq!(listed[0]["copies"].as_array().map(Vec::len), Some(2), "{listed:?}");
    let checked = reads(&at, &["backup", "check", "shop-db"]);
    assert!(checked.status.success(), "{}", transcript(&checked));
    drop(up);
}

/// BK-1, BK-2: the same of PostgreSQL.
#[test]
fn a_cluster_of_postgres_is_protected_from_nothing() {
    let installed = postgres::installed();
    let server = postgres::Server::start(&installed.path().join("data"), installed.path());
    let folder = folder("mysql");
    let at = folder.path().to_owned();
    let (socket, near) = (installed.path().display().to_string(), at.join("near").display().to_string());
    let words = ["postgres", "crm-db", "--socket", &socket, "--copy", &near, "--yes", "--fix"];
    let up = Up::start_in(folder);
    let (code, said) = protect_json(&at, &words);
    assert_eq!((code, said["state"].as_str()), (Some(1), Some("not ready")), "{said}");
    assert!(said["script"].as_str().expect("a script").contains("max_slot_wal_keep_size"), "{said}");
    assert_eq!(server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'mysql' AND rolreplication"), "1");

    server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'");
    server.sql("SELECT pg_reload_conf()");
    crate::harness::eventually("the setting", || (server.sql("SHOW max_slot_wal_keep_size") == "1GB").then_some(()));
    let done = protect(&at, &words);
    assert_eq!(done.status.code(), Some(0), "{}", transcript(&done));
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains("crm-db is protected") && said.contains("every second from"), "{said}");
    drop(up);
}
