//! Files, in the format of restic.

use super::{ask, folder, kind, read, reads};
use crate::harness::{Up, command, eventually, transcript};

/// BK-7: what `list`, `explain`, `check` and `restore` say of files is what there is.
#[test]
fn files_are_taken_listed_checked_and_restored() {
    let folder = folder("mysql", |at| {
        let www = at.join("www");
        std::fs::create_dir(&www).expect("made");
        std::fs::write(www.join("index.html"), "hello\n".repeat(10_000)).expect("written");
        format!(
            "[[backup.files]]\nname = \"shop-db\"\npaths = [\"{}\"]\n\
             check = [{{ name = \"it greets\", command = [\"grep\", \"-rq\", \"hello\", \".\"] }}]\n",
            www.display()
        )
    });
    // The promise of the policy is about a log, which files have not.
    let policy = folder.path().join("garant.toml");
    let text = std::fs::read_to_string(&policy).expect("read");
    std::fs::write(&policy, text.replace("kind = \"log\"", "kind = \"full\"")).expect("written");
    let at = folder.path().to_owned();
    let nothing = reads(&at, &["backup", "explain", "shop-db"]);
    assert_eq!(nothing.status.code(), Some(1), "{}", transcript(&nothing));
    let _up = Up::start_in(folder);
    eventually("a snapshot", || kind(&at, "full")["succeeded"].as_str().map(str::to_owned));

    let listed = super::listed(&at, "snapshot");
    assert_eq!(listed[0]["copies"], serde_json::json!(["near", "far"]), "{listed:?}");
    assert!(listed[0]["stored_bytes"].is_null() && listed[0]["from"] == listed[0]["to"], "{listed:?}");
    super::is_explained(&at);
    let shown = read(&at, &["backup", "show", "shop-db"]);
    assert_eq!((&shown["id"], &shown["count"]), (&listed[0]["id"], &1.into()), "{shown}");
    assert_eq!(shown["copies"].as_array().map(Vec::len), Some(2), "{shown}");
    let checked = reads(&at, &["backup", "check", "shop-db"]);
    assert!(checked.status.success(), "{}", transcript(&checked));
    let into = at.join("restored");
    let to = super::next_second();
    let done = reads(&at, &["restore", "shop-db", "--to", &to, "--into", into.to_str().expect("UTF-8"), "--check"]);
    assert!(done.status.success(), "{}", transcript(&done));
    assert!(String::from_utf8_lossy(&done.stdout).contains("passed: it greets"), "{}", transcript(&done));
    let restored = into.join(at.strip_prefix("/").expect("absolute")).join("www");
    let same = command("diff").arg("-r").arg(at.join("www")).arg(restored).output().expect("diff runs");
    assert!(same.status.success(), "{}", transcript(&same));

    ask(&at, &["backup", "run", "shop-db", "restore"]);
    let tested = eventually("a restore test", || super::entries(&at, "backup.tested").pop());
    assert_eq!(tested["error"], serde_json::Value::Null, "{tested}");
    assert_eq!(tested["checks"][0]["passed"], true, "{tested}");

    // BK-5: what the application says is wrong makes the test fail, by its name, and what is public says nothing of it.
    std::fs::write(at.join("www/index.html"), "bye\n").expect("written");
    ask(&at, &["backup", "run", "shop-db"]);
    eventually("a second snapshot", || (super::listed(&at, "snapshot").len() == 2).then_some(()));
    // Every other test, by lot, is of the newest snapshot; that one which fails is tried again by itself.
    eventually("the test to fail", || {
        let error = kind(&at, "restore")["error"].as_str().map(str::to_owned);
        if error.is_none() {
            ask(&at, &["backup", "run", "shop-db", "restore"]);
        }
        error.filter(|error| {
            error.contains("from the copy `") && error.ends_with("the check `it greets` failed: exit status: 1")
        })
    });
    eventually("the outage", || {
        let changed = super::entries(&at, "evidence.changed");
        changed.iter().any(|it| it["probe"] == "shop-db-restore" && it["state"] == "down").then_some(())
    });
    for kind in ["evidence.changed", "evidence.found", "evidence.restored", "evidence.succeeded"] {
        let text = serde_json::Value::from(super::entries(&at, kind)).to_string();
        assert!(!text.contains("greets"), "{kind}: {text}");
    }
    let wrong = at.join("wrong");
    let now = super::now();
    let done = reads(&at, &["restore", "shop-db", "--to", &now, "--into", wrong.to_str().expect("UTF-8"), "--check"]);
    assert_eq!(done.status.code(), Some(3), "{}", transcript(&done));

    // A pack that is damaged is found.
    let packs =
        command("find").arg(at.join("far/restic/shop-db/data")).args(["-type", "f"]).output().expect("find runs");
    let packs = String::from_utf8(packs.stdout).expect("UTF-8");
    let pack = packs.lines().next().expect("a pack");
    let mut bytes = std::fs::read(pack).expect("read");
    bytes[10] ^= 1;
    std::fs::write(pack, bytes).expect("written");
    let checked = reads(&at, &["backup", "check", "shop-db"]);
    assert_eq!(checked.status.code(), Some(1), "{}", transcript(&checked));
}
