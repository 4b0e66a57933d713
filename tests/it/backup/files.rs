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
        format!("[[backup.files]]\nname = \"shop-db\"\npaths = [\"{}\"]\n", www.display())
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

    let listed = read(&at, &["backup", "list", "shop-db"]);
    assert_eq!(listed["snapshots"][0]["files"], 1, "{listed}");
    super::is_explained(&at);
    let shown = read(&at, &["backup", "show", "shop-db"]);
    assert_eq!((&shown["id"], &shown["count"]), (&listed["snapshots"][0]["id"], &1.into()), "{shown}");
    assert_eq!(shown["copies"].as_array().map(Vec::len), Some(2), "{shown}");
    let checked = reads(&at, &["backup", "check", "shop-db"]);
    assert!(checked.status.success(), "{}", transcript(&checked));
    let into = at.join("restored");
    let to = super::now();
    let done = reads(&at, &["restore", "shop-db", "--to", &to, "--into", into.to_str().expect("UTF-8")]);
    assert!(done.status.success(), "{}", transcript(&done));
    let restored = into.join(at.strip_prefix("/").expect("absolute")).join("www");
    let same = command("diff").arg("-r").arg(at.join("www")).arg(restored).output().expect("diff runs");
    assert!(same.status.success(), "{}", transcript(&same));

    ask(&at, &["backup", "run", "shop-db", "restore"]);
    let tested = eventually("a restore test", || super::entries(&at, "backup.tested").pop());
    assert_eq!(tested["error"], serde_json::Value::Null, "{tested}");

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
