//! A bucket as the far copy, on a server that checks what it is sent: who adds, who destroys, and what is left when the host is gone.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use strict_s3::{BucketSettings, HOST, SERVER, StrictS3};

use super::{entries, folder, kind, next_second, read, reads};
use crate::harness::{Up, binary, command, eventually, transcript};

/// BK-4, BK-7, BK-9: what is added with the identity of a host, locked, is all that a restore elsewhere needs; the identity that destroys
/// is the server's, and the agent can't even read it.
#[test]
fn a_bucket_alone_is_enough() {
    let s3 = StrictS3::start(&[("shop-backup", BucketSettings::default())]);
    let folder = folder("mysql", |at| {
        std::fs::create_dir(at.join("www")).expect("made");
        std::fs::write(at.join("www/index.html"), "hello\n".repeat(10_000)).expect("written");
        format!("[[backup.files]]\nname = \"shop-db\"\npaths = [\"{}/www\"]\n", at.display())
    });
    let at = folder.path().to_owned();
    for (name, secret, owner) in
        [("host.secret", HOST.secret_key, "mysql"), ("server.secret", SERVER.secret_key, "root")]
    {
        let path = at.join(name);
        std::fs::write(&path, secret).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        let owned = command("chown").arg(owner).arg(&path).output().expect("chown runs");
        assert!(owned.status.success(), "{}", transcript(&owned));
    }
    let bucket = format!(
        "endpoint = \"{}\", bucket = \"shop-backup\", access_key = \"{}\", secret_key = {{ file = \"{}/host.secret\" }}, \
         destroy_access_key = \"{}\", destroy_secret_key = {{ file = \"{}/server.secret\" }}",
        s3.endpoint(),
        HOST.access_key,
        at.display(),
        SERVER.access_key,
        at.display()
    );
    let policy = at.join("garant.toml");
    let text = std::fs::read_to_string(&policy).expect("read").replace("kind = \"log\"", "kind = \"full\"");
    let (far, directory) = (format!("{}/far", at.display()), "directory = ");
    let text = text.replace(&format!("{directory}\"{far}\""), &bucket);
    std::fs::write(&policy, text).expect("written");
    let checked = reads(&at, &["check"]);
    assert!(checked.status.success(), "{}", transcript(&checked));

    let up = Up::start_in(folder);
    eventually("a snapshot", || kind(&at, "full")["succeeded"].as_str().map(str::to_owned));
    let explained = eventually("the bucket to have it", || {
        let explained = read(&at, &["backup", "explain", "shop-db"]);
        explained["copies"][1]["through"].is_string().then_some(explained)
    });
    assert!(explained["lost_s"].is_i64() && explained["copies"][1]["burns"] == false, "{explained}");
    let shown = read(&at, &["backup", "show", "shop-db"]);
    assert_eq!(shown["copies"].as_array().map(Vec::len), Some(2), "{shown}");
    // The server lists with its own identity; had it none that works, it would not say that nothing is late.
    let looked = eventually("expiry", || {
        let mut found = entries(&at, "evidence.found").into_iter();
        found.rfind(|found| found["finding"] == "expired-backups-kept")
    });
    assert_eq!(looked["open"], false, "{looked}");
    let status = super::ask(&at, &["backup", "status"]);
    assert_eq!(status["copies_lack"], serde_json::json!([]), "the bucket is as it should be: {status}");
    // The drill, with the key that is in the safe: it is asked for until it was made.
    assert!(status["key_warning"].as_str().is_some_and(|it| it.contains("nobody has shown yet")), "{status}");
    let mut drill = command(binary());
    drill.args(["backup", "key", "check", "--policy"]).arg(&policy).arg("--data").arg(at.join("data"));
    let mut drill =
        drill.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let key = std::fs::read(at.join("backup.key")).expect("read");
    drill.stdin.take().expect("piped").write_all(&key).expect("written");
    let drilled = drill.wait_with_output().expect("it ends");
    assert!(drilled.status.success() && drilled.stderr.is_empty(), "{}", transcript(&drilled));
    assert_eq!(super::ask(&at, &["backup", "status"])["key_warning"], serde_json::Value::Null);
    let deleted: Vec<String> = s3.requests().into_iter().filter(|request| request.starts_with("DELETE")).collect();
    assert_eq!(deleted, Vec::<String>::new(), "nothing is due");
    let requests = s3.requests();
    let snapshot = requests.iter().rfind(|it| it.starts_with("PUT /shop-backup/restic/shop-db/snapshots/"));
    let snapshot = snapshot.expect("a snapshot");
    let name = snapshot.trim_start_matches("PUT /shop-backup/").split('?').next().expect("a name").to_owned();
    assert!(s3.versions("shop-backup", &name)[0].locked_until.is_some(), "{name} is locked");

    // The host burns: what is left is the bucket, the policy and the key.
    let _folder = up.stop();
    std::fs::remove_dir_all(at.join("near")).expect("removed");
    let into = at.join("restored");
    let to = next_second();
    let done = reads(&at, &["restore", "shop-db", "--to", &to, "--into", into.to_str().expect("UTF-8")]);
    assert!(done.status.success(), "{}", transcript(&done));
    let restored = into.join(at.strip_prefix("/").expect("absolute")).join("www");
    let same = command("diff").arg("-r").arg(at.join("www")).arg(restored).output().expect("diff runs");
    assert!(same.status.success(), "{}", transcript(&same));
}
