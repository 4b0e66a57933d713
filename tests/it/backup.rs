//! Backups, end to end: real databases, followed, restored and judged by a running garant (BK-1, BK-2, BK-3, BK-5, BK-6). As root; the
//! agent runs as the user of the database.

mod bucket;
mod files;
mod hung;
mod mariadb;
mod postgres;
mod protect;
mod rewind;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Up, command, eventually, folder_with, garant, http, transcript};

/// A policy with one database, at two copies, whose agent runs as `user`.
fn policy(folder: &Path, user: &str, database: &str) -> String {
    let at = folder.display();
    format!(
        r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
[agent]
user = "{user}"
[[service]]
name = "backup"
title.fr = "Les sauvegardes"
title.en = "The backups"
[[region]]
name = "near"
provider = "one"
[[region]]
name = "far"
provider = "two"
[backup]
service = "backup"
key = {{ file = "{at}/backup.key" }}
copy = [
  {{ name = "near", region = "near", directory = "{at}/near" }},
  {{ name = "far", region = "far", directory = "{at}/far" }},
]
{database}
[[promise]]
id = "BK-1"
text.fr = "Les journaux sont sauvegardés toutes les 15 minutes au plus."
text.en = "Logs are backed up every 15 minutes at most."
freshness = {{ backup = "shop-db", kind = "log", at_most = "15 min", over = "30 d" }}
"#
    )
}

/// A folder with the policy, the key, and two empty copies, which `user` may use.
fn folder(user: &str, database: impl FnOnce(&Path) -> String) -> TempDir {
    let folder = folder_with("");
    let at = folder.path();
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).expect("set");
    std::fs::write(at.join("garant.toml"), policy(at, user, &database(at))).expect("written");
    let made = garant(&["backup", "key", "new", at.join("backup.key").to_str().expect("UTF-8")]);
    assert!(made.status.success(), "{}", transcript(&made));
    for copy in ["near", "far"] {
        std::fs::create_dir(at.join(copy)).expect("made");
    }
    let owned = ["backup.key", "near", "far"].map(|name| at.join(name));
    let chown = command("chown").arg(format!("{user}:{user}")).args(owned).output().expect("chown runs");
    assert!(chown.status.success(), "{}", transcript(&chown));
    folder
}

fn words<'a>(at: &Path, arguments: &[&'a str]) -> Vec<std::borrow::Cow<'a, str>> {
    let mut all: Vec<std::borrow::Cow<'a, str>> = arguments.iter().map(|word| (*word).into()).collect();
    all.push("--policy".into());
    all.push(at.join("garant.toml").display().to_string().into());
    all
}

/// A command that reads the repository itself.
fn reads(at: &Path, arguments: &[&str]) -> Output {
    let words: Vec<String> = words(at, arguments).into_iter().map(std::borrow::Cow::into_owned).collect();
    garant(&words)
}

/// The same, whose result is JSON.
fn read(at: &Path, arguments: &[&str]) -> Value {
    let shown = reads(at, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", transcript(&shown)))
}

/// A command that asks the agent.
fn ask(at: &Path, arguments: &[&str]) -> Value {
    let data = at.join("data").display().to_string();
    let shown = garant(&[arguments, &["--json", "--data", &data]].concat());
    serde_json::from_slice(&shown.stdout).unwrap_or(Value::Null)
}

/// One kind of the backup, as the status says it.
fn kind(at: &Path, kind: &str) -> Value {
    let status = ask(at, &["backup", "status"]);
    let kinds = status["backups"][0]["kinds"].as_array().cloned().unwrap_or_default();
    kinds.into_iter().find(|it| it["kind"] == kind).unwrap_or_default()
}

/// Bodies of the entries of this kind.
fn entries(at: &Path, kind: &str) -> Vec<Value> {
    let data = at.join("data").display().to_string();
    let shown = garant(&["log", "show", "--json", "--kind", kind, "--data", &data]);
    assert!(shown.status.success(), "{}", transcript(&shown));
    let lines = String::from_utf8(shown.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["entry"]["body"].clone()).collect()
}

/// What `backup list --json` has of this kind, of all backups.
fn listed(at: &Path, kind: &str) -> Vec<Value> {
    let all = read(at, &["backup", "list"]);
    let all = all.as_array().cloned().expect("an array");
    all.into_iter().filter(|it| it["kind"] == kind).collect()
}

/// Waits until the log up to this instant, in RFC 3339, is durable.
fn until_shipped(at: &Path, instant: &str) {
    eventually("the log to be shipped", || {
        let log = kind(at, "log");
        (log["succeeded"].as_str()? > instant).then_some(())
    });
}

/// What is on a disk of this host burns with it; each copy has something.
fn is_explained(at: &Path) {
    let explained = read(at, &["backup", "explain", "shop-db"]);
    assert_eq!(explained["lost_s"], Value::Null, "{explained}");
    let copies = explained["copies"].as_array().cloned().unwrap_or_default();
    assert!(copies.len() == 2 && copies.iter().all(|copy| copy["burns"] == true), "{explained}");
    assert!(copies.iter().all(|copy| copy["through"].is_string() && copy["all"] == true), "{explained}");
}

/// What every database must show: a base and the log come by themselves, a restore is exact, tests are made, promises judged.
fn is_kept(up: &Up, restored: impl Fn(&Path) -> i64, insert: impl Fn(i64), drop_all: impl Fn()) {
    let at = up.folder.path();
    eventually("the first base", || kind(at, "full")["succeeded"].as_str().map(str::to_owned));
    insert(1);
    insert(2);
    crate::harness::pause(2.0);
    let before = now();
    crate::harness::pause(2.0);
    insert(3);
    drop_all();
    until_shipped(at, &now());

    let into = at.join("restored");
    let done = reads(at, &["restore", "shop-db", "--to", &before, "--into", into.to_str().expect("UTF-8"), "--check"]);
    assert!(String::from_utf8_lossy(&done.stdout).contains("passed: there is a shop"), "{}", transcript(&done));
    assert!(done.status.success(), "{}", transcript(&done));
    assert!(String::from_utf8_lossy(&done.stdout).contains("first commit that is not: "), "{}", transcript(&done));
    assert_eq!(restored(&into), 2, "two rows were there, the third and the loss came later");

    let (second, work) = (at.join("second"), at.join("work"));
    std::fs::create_dir(&work).expect("made");
    std::fs::write(work.join("mine"), "mine").expect("written");
    let (to, with) = (second.to_str().expect("UTF-8"), work.to_str().expect("UTF-8"));
    let words = ["restore", "shop-db", "--to", &before, "--into", to, "--work", with, "--check", "--json"];
    let done = reads(at, &words);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", transcript(&done)));
    assert_eq!(
        (&said["name"], &said["asked"], &said["reached"]),
        (&json!("shop-db"), &said["reached"], &said["asked"])
    );
    assert_eq!((&said["exact"], &said["rpo_s"]), (&json!(true), &json!(0)), "{said}");
    assert!(said["rto_s"].as_f64() > Some(0.0) && said["asked"].as_str() == Some(&*before), "{said}");
    assert_eq!(said["checks"][0], json!({ "name": "there is a shop", "passed": true }), "{said}");
    let left: Vec<_> = std::fs::read_dir(&work).expect("read").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(left, ["mine"], "a folder of somebody else is left as it was");

    let again = reads(at, &["restore", "shop-db", "--to", &before, "--into", into.to_str().expect("UTF-8")]);
    assert_eq!(again.status.code(), Some(2), "nothing is written over: {}", transcript(&again));
    let late = reads(at, &["restore", "shop-db", "--to", "2100-01-01T00:00:00Z", "--into", "/nowhere/restored"]);
    assert_eq!(late.status.code(), Some(2), "{}", transcript(&late));
    let early = reads(at, &["restore", "shop-db", "--to", "2020-01-01T00:00:00Z", "--into", "/nowhere/restored"]);
    assert_eq!(early.status.code(), Some(4), "{}", transcript(&early));
    let (inside, now) = (at.join("near/restored"), now());
    let inside = reads(at, &["restore", "shop-db", "--to", &now, "--into", inside.to_str().expect("UTF-8")]);
    assert_eq!(inside.status.code(), Some(2), "a copy is no place to restore into: {}", transcript(&inside));

    let bases = listed(at, "full");
    let keys: Vec<&String> = bases[0].as_object().expect("an object").keys().collect();
    let mut asked =
        ["id", "name", "kind", "from", "to", "size_bytes", "stored_bytes", "copies", "locked_until", "wrong"];
    asked.sort_unstable();
    assert_eq!(keys, asked, "{bases:?}");
    assert_eq!(bases[0]["copies"], json!(["near", "far"]), "{bases:?}");
    let full = kind(at, "full");
    assert!(full["due"].as_str() > full["succeeded"].as_str(), "the next one, whatever comes before it: {full}");
    let log = listed(at, "log");
    assert!(log[0]["from"].as_str() < Some(&*before) && log[0]["to"].as_str() > Some(&*before), "{log:?}");
    let base = read(at, &["backup", "show", "shop-db", bases[0]["id"].as_str().expect("a set")]);
    assert_eq!((&base["kind"], &base["copies"][1]["is_whole"]), (&"full".into(), &true.into()), "{base}");
    assert!(base["stored_bytes"].as_u64() > Some(1000) && base["kept_until"].as_str() > base["to"].as_str(), "{base}");
    let log = read(at, &["backup", "show", "shop-db", "log"]);
    assert!(log["to"].as_str() > Some(before.as_str()) && log["wrong"] == Value::Array(Vec::new()), "{log}");
    let none = reads(at, &["backup", "show", "shop-db", "20200101T000000Z-00000000"]);
    assert_eq!(none.status.code(), Some(2), "{}", transcript(&none));
    let checked = reads(at, &["backup", "check", "shop-db"]);
    assert!(checked.status.success(), "{}", transcript(&checked));
    is_explained(at);
    let (keys, away) = (at.join("near/keys"), at.join("near.keys"));
    std::fs::rename(&keys, &away).expect("renamed");
    let checked = reads(at, &["backup", "check", "shop-db"]);
    assert_eq!(checked.status.code(), Some(1), "a copy without its keys: {}", transcript(&checked));
    std::fs::rename(&away, &keys).expect("renamed");

    ask(at, &["backup", "run", "shop-db", "restore"]);
    let tested = eventually("a restore test", || entries(at, "backup.tested").pop());
    assert_eq!(tested["error"], Value::Null, "{tested}");
    assert_eq!(tested["checks"][0]["passed"], true, "{tested}");
    let of_tests = |kind: &str| entries(at, kind).into_iter().find(|entry| entry["probe"] == "shop-db-restore");
    eventually("the success of the test", || of_tests("evidence.succeeded"));
    eventually("the restore", || of_tests("evidence.restored"));
    assert!(entries(at, "backup.taken").iter().any(|entry| entry["kind"] == "full"));
    // Public entries name no place, no file and no database.
    for kind in ["evidence.succeeded", "evidence.restored", "evidence.changed", "evidence.found", "evidence.covered"] {
        let text = Value::from(entries(at, kind)).to_string();
        assert!(!text.contains(at.to_str().expect("UTF-8")) && !text.contains("ledger"), "{kind}: {text}");
    }
    eventually("a verdict", || up.verdicts("BK-1").pop());
    figures_are_sound(up);
}

/// NH-1: what `/metrics` says of backups is what promtool takes, and what there is.
fn figures_are_sound(up: &Up) {
    let figure = |name: &str| {
        let (_, _, text) = http("GET", &up.url("metrics"), &[("Accept", "text/plain;version=0.0.4")], b"")?;
        let text = String::from_utf8(text).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        Some((line?.parse::<f64>().ok()?, text))
    };
    let (restorable, _) =
        eventually("what can be restored", || figure("garant_backup_restorable_timestamp_seconds{backup=\"shop-db\"}"));
    let now = crate::harness::wall_micros() as f64 / 1e6;
    assert!(restorable > now - 600.0 && restorable <= now, "{restorable} at {now}");
    let (tests, text) = eventually("the test", || {
        figure("garant_backup_successes_total{probe=\"shop-db-restore\"}").filter(|(tests, _)| *tests >= 1.0)
    });
    assert!(tests < 10.0 && text.contains("garant_backup_copy_away{copy=\"far\"} 0"), "{text}");
    let mut promtool = command("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool starts");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let read = promtool.wait_with_output().expect("it ends");
    assert!(read.status.success(), "{}", transcript(&read));
}

/// Waits for the next second, and gives it: what was done before lies before it.
fn next_second() -> String {
    let before = now();
    eventually("the next second", || Some(now()).filter(|now| *now != before))
}

/// The time, in RFC 3339 to the second.
fn now() -> String {
    let date = command("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date runs");
    String::from_utf8(date.stdout).expect("UTF-8").trim().to_owned()
}
