//! The commands: what they print for scripts, and what they say when something is wrong.

use super::bench::{Bench, HOST, OPERATOR, SSHD, append, ask, failures, folder, guard, ready, socket, until_banned};
use crate::harness::{binary, command, folder_with, garant, transcript};

#[test]
fn the_commands_answer_scripts_and_say_what_is_wrong() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    assert_eq!(ask(&at, &["bans"]), Some(serde_json::json!([])));
    append(&at.join("auth.log"), failures("10.97.9.9", 3));
    until_banned(&at, "10.97.9.9", "sshd");
    let ordered = ask(&at, &["ban", "2001:db8:1:2::3", "--for", "ever"]).expect("an answer");
    assert_eq!((&ordered["banned"], ordered["until"].is_null()), (&true.into(), true), "{ordered}");
    let bans = ask(&at, &["bans"]).expect("bans");
    for ban in bans.as_array().expect("an array") {
        let ban = ban.as_object().expect("an object");
        for key in ["address", "rule", "since"] {
            assert!(ban[key].is_string(), "{key} of {ban:?}");
        }
        assert!(ban["count"].is_u64() && ban.contains_key("until"), "{ban:?}");
    }
    let of = |address: &str| {
        let found = bans
            .as_array()
            .expect("an array")
            .iter()
            .find(|ban| ban["address"].as_str().is_some_and(|text| text.starts_with(address)));
        found.unwrap_or_else(|| panic!("{address} in {bans}")).clone()
    };
    assert_eq!((&of("10.97.9.9")["rule"], &of("10.97.9.9")["count"]), (&"sshd".into(), &0.into()));
    assert!(of("10.97.9.9")["until"].is_string());
    assert!(of("2001:db8:1:2::")["until"].is_null(), "for ever");

    let refused = |arguments: &[&str], code: i32, parts: &[&str]| {
        let output = guard(&at, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", transcript(&output));
        for part in parts {
            assert!(said.contains(part), "{part} in {said}");
        }
    };
    refused(&["ban", "10.97.9"], 2, &["`10.97.9` is no address", "192.0.2.7"]);
    refused(&["ban", "-1"], 2, &[]);
    refused(&["ban", "10.97.9.1", "--for", "soon"], 2, &["`soon` is no time", "10 min"]);
    refused(&["ban", "0.0.0.0/0"], 1, &["0.0.0.0/0 was not banned"]);
    refused(&["ban", "10.97.0.0/16"], 1, &["was not banned"]);
    refused(&["ban", OPERATOR], 1, &["was not banned"]);
    refused(&["ban", HOST], 1, &["was not banned"]);
    refused(&["ban", "127.0.0.1"], 1, &["was not banned"]);
    refused(&["unban"], 2, &["--all"]);
    refused(&["unban", "nobody"], 2, &["`nobody` is no address"]);
    refused(&["import", "/nonexistent", "--dry-run"], 1, &["/nonexistent"]);
    let database =
        ["import", at.join("fail2ban").to_str().expect("UTF-8"), "--database", "/nonexistent.db"].map(str::to_owned);
    refused(&database.each_ref().map(String::as_str), 1, &["/nonexistent.db"]);
    assert_eq!(ask(&at, &["unban", "192.0.2.1"]), Some(serde_json::json!({ "unbanned": 0 })));
    assert_eq!(ask(&at, &["unban", "--all"]), Some(serde_json::json!({ "unbanned": 2 })));

    // Nobody else may ask, and an agent that is not there is named.
    let socket = socket(&at);
    let socket = socket.to_str().expect("UTF-8");
    let mut theirs = command("setpriv");
    theirs.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(binary());
    let theirs = theirs.args(["guard", "unban", "--all", "--agent", socket]).output().expect("setpriv runs");
    let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
    assert_eq!(theirs.status.code(), Some(1), "{}", transcript(&theirs));
    assert!(said.contains(socket) && said.contains("root"), "{said}");
    let absent = command(binary()).args(["guard", "bans", "--agent", "/nonexistent.sock"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert_eq!(absent.status.code(), Some(1), "{}", transcript(&absent));
    assert!(["/nonexistent.sock", "garant up", "--data", "--agent"].iter().all(|part| said.contains(part)), "{said}");
    // A directory that may not be entered is not taken for one without an agent.
    let data = at.join("data");
    let mut theirs = command("setpriv");
    theirs
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(binary())
        .args(["guard", "bans", "--data"]);
    let theirs = theirs.arg(&data).output().expect("setpriv runs");
    let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
    assert!(said.contains("data.agent/agent.sock") && said.contains("Permission denied"), "{said}");
    drop(up.stop());
}

/// A filter of one's own that is wrong is named by its file; a name of a file forges no line of what is said.
#[test]
fn what_is_wrong_with_a_file_is_said_of_that_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wrong, latin, log) =
        (folder.path().join("my.conf"), folder.path().join("latin.conf"), folder.path().join("a.log"));
    std::fs::write(&wrong, "[Definition]\nfailregex = ^x( <HOST>$\n").expect("written");
    std::fs::write(&latin, b"[Definition]\n# caf\xe9\nfailregex = ^x <HOST>$\n").expect("written");
    std::fs::write(&log, "x 192.0.2.1\n").expect("written");
    for (filter, part) in [(&wrong, "correct that pattern in"), (&latin, "it is no UTF-8")] {
        let filter = filter.to_str().expect("UTF-8");
        let tried = garant(&["guard".as_ref(), "test".as_ref(), filter.as_ref(), log.as_os_str()]);
        let said = String::from_utf8_lossy(&tried.stderr).into_owned();
        assert!(!tried.status.success(), "{}", transcript(&tried));
        assert!(said.contains(part) && said.contains(filter) && !said.contains("/etc/fail2ban"), "{said}");
    }
}

#[test]
fn a_file_name_forges_no_line() {
    let bench = Bench::new();
    let folder = folder(&SSHD.replace("auth.log", "*.log"), "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    append(&at.join("a\nbans are in force: 999.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let status = guard(&at, &["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("a\\nbans are in force: 999.log"), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("bans are in force: 999")), "{said}");
    drop(up.stop());
}

/// A policy that would ban nobody says so, unless it is meant: `simulate`.
#[test]
fn a_policy_that_would_ban_nobody_is_a_mistake() {
    let policy = r#"
[journal]
name = "host.example"
[[service]]
name = "guard"
[guard]
service = "guard"
scenarios = ["sshd"]
allow = ["0.0.0.0/0", "::/0", "192.0.2.0/24"]
ban = "0 s"
within = "1 ms"
scan_ban = "0 s"
"#;
    let folder = folder_with(policy);
    let file = folder.path().join("garant.toml");
    let check = garant(&["check", "--json", "--policy", file.to_str().expect("UTF-8")]);
    assert_eq!(check.status.code(), Some(2), "{}", transcript(&check));
    let answer: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    let mistakes = answer["mistakes"].as_array().expect("a list");
    let at = |line: i64| mistakes.iter().filter(|mistake| mistake["line"] == line).count();
    assert_eq!([9, 10, 11, 12].map(at), [2, 1, 1, 1], "{answer:#}");
    assert_eq!(mistakes.len(), 5, "{answer:#}");
}
