//! The keys of the log, what is remembered of it outside, and what is written down of the policy: what an operator does
//! once a year, and must not be left alone with. Promises BX-2, JO-1, JO-2, JO-3.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Up, binary, command, eventually, folder_with, garant, get, http, pause, transcript, up_refused};

/// A log that two files elsewhere remember, and the one beside the data directory.
fn policy(elsewhere: &Path) -> String {
    let [more, far] = ["more.head", "far.head"].map(|name| elsewhere.join(name).display().to_string());
    format!(
        "[journal]\nname = \"shop.example\"\nremember = [\"{more}\", \"{far}\"]\n[pages]\nlisten = \"127.0.0.1:0\"\n"
    )
}

fn log(folder: &Path, arguments: &[&str]) -> Output {
    log_with(folder, arguments, &[])
}

fn log_with(folder: &Path, arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut log = command(binary());
    log.arg("log").args(arguments).arg("--data").arg(folder.join("data"));
    if matches!(arguments.first(), Some(&("rotate" | "succeed"))) {
        log.arg("--policy").arg(folder.join("garant.toml"));
    }
    log.envs(environment.iter().copied()).output().expect("garant starts")
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", transcript(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&done(output)).unwrap_or_else(|error| panic!("{error}: {}", transcript(output)))
}

fn copy(from: &Path, to: &Path) {
    assert!(command("cp").arg("-a").args([from, to]).status().expect("cp runs").success());
}

fn verified(folder: &Path, name: &str) -> Value {
    let export = folder.join(name);
    let exported = json(&log(folder, &["export", "--json", export.to_str().expect("UTF-8")]));
    let vkey = exported["vkey"].as_str().expect("a key").to_owned();
    assert_eq!(fs::read_to_string(export.join("vkey")).expect("vkey").trim(), vkey);
    let verified =
        garant(&["verify".as_ref(), "--json".as_ref(), export.as_os_str(), "--vkey".as_ref(), vkey.as_ref()]);
    json(&verified)
}

/// All payloads that the data directory can open, whoever may see them: sequence and text.
fn payloads(data: &Path) -> Vec<(u64, String)> {
    let sql = "SELECT sequence, class, day, hex(sealed) FROM payload ORDER BY sequence";
    let rows = command("sqlite3").arg(data.join("garant.db")).arg(sql).output().expect("sqlite3 runs");
    let rows = done(&rows);
    let open = |row: &str| {
        let mut columns = row.split('|');
        let sequence: u64 = columns.next()?.parse().ok()?;
        let class = if columns.next()? == "1" { "evidence" } else { "audit" };
        let day = event::Day::from_days(columns.next()?.parse().ok()?);
        let sealed = columns.next()?.as_bytes();
        let bytes: Option<Vec<u8>> =
            sealed.chunks(2).map(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()).collect();
        let key = fs::read(data.join(format!("keys/{class}/{day}.key"))).ok()?;
        let key = journal::seal::DayKey::new(key.try_into().ok()?);
        let (_, payload) = journal::seal::open(&key, sequence, &bytes?).ok()?;
        Some((sequence, String::from_utf8(payload).ok()?))
    };
    let opened: Vec<_> =
        rows.lines().map(|row| open(row).unwrap_or_else(|| panic!("`{row}` can't be opened"))).collect();
    assert!(opened.len() > 2, "a log has payloads");
    opened
}

/// The bodies of all `policy.changed`.
fn changes(data: &Path) -> Vec<Value> {
    let bodies = payloads(data).into_iter().filter_map(|(_, text)| {
        let envelope: Value = serde_json::from_str(&text).expect("an envelope");
        (envelope["type"] == "policy.changed").then(|| envelope["body"].clone())
    });
    bodies.collect()
}

/// A short life with `remember` set: all three files know the head.
fn lived() -> (TempDir, TempDir) {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let up = Up::start(&policy(elsewhere.path()));
    eventually("a first checkpoint", || get(&up.url("log/checkpoint")));
    (up.stop(), elsewhere)
}

fn heads(folder: &Path, elsewhere: &Path) -> [PathBuf; 3] {
    [folder.join("data.head"), elsewhere.join("more.head"), elsewhere.join("far.head")]
}

fn all_alike(heads: &[PathBuf; 3]) -> String {
    let [first, second, third] = heads.each_ref().map(|path| fs::read_to_string(path).expect("a remembered head"));
    assert!(first == second && second == third, "{first}\n{second}\n{third}");
    first
}

/// A whole rotation without a start in between, and every file learns of it; the next start finds all in order.
#[test]
fn a_rotation_is_remembered_everywhere() {
    let (folder, elsewhere) = lived();
    let heads = heads(folder.path(), elsewhere.path());
    let before = all_alike(&heads);
    let plan = json(&log(folder.path(), &["rotate", "--dry-run", "--json"]));
    assert_eq!(plan["would"], "begin", "{plan}");
    assert_eq!(plan["remembered_in"].as_array().map(Vec::len), Some(3), "{plan}");
    assert_eq!(all_alike(&heads), before, "a dry run changes nothing");
    assert!(!folder.path().join("data/log.key.next").exists());

    let announced = json(&log(folder.path(), &["rotate", "--json"]));
    let both = all_alike(&heads);
    assert_ne!(both, before);
    assert!(
        done(&log(folder.path(), &["rotate", "--finish", "--dry-run"])).contains("would retire"),
        "the plan in words"
    );
    // One of the files misses the end of the rotation: its disk was away.
    fs::remove_file(&heads[0]).expect("removed");
    let retired = json(&log(folder.path(), &["rotate", "--finish", "--json"]));
    assert_eq!(retired["signs"], announced["announced"], "{retired}");
    let after = all_alike(&heads);
    assert_ne!(after, both);
    fs::write(&heads[2], &before).expect("written");
    assert_eq!(verified(folder.path(), "rotated")["outcome"], "authenticated");

    let up = Up::start_in(folder);
    assert_eq!(up.ready["vkey"], announced["announced"]);
    eventually("the forgetful file to learn the head", || {
        (fs::read_to_string(&heads[2]).ok()? != before).then_some(())
    });
    let _folder = up.stop();
    all_alike(&heads);
}

/// An old copy is found by any of the files, by `up` and by whatever else signs.
#[test]
fn an_old_copy_is_refused_by_what_one_file_remembers() {
    let (folder, elsewhere) = lived();
    copy(&folder.path().join("data"), &folder.path().join("early"));
    let folder = Up::start_in(folder).stop();
    let heads = heads(folder.path(), elsewhere.path());
    fs::remove_dir_all(folder.path().join("data")).expect("removed");
    copy(&folder.path().join("early"), &folder.path().join("data"));
    for left in [1, 2] {
        let kept = fs::read(&heads[left]).expect("read");
        for head in &heads {
            drop(fs::remove_file(head));
        }
        fs::write(&heads[left], kept.clone()).expect("written");
        let refused = up_refused(folder.path());
        let said = transcript(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("older copy") && said.contains("log succeed"), "{said}");
        for arguments in [&["rotate"][..], &["rotate", "--dry-run"]] {
            let refused = log(folder.path(), arguments);
            assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
            assert!(transcript(&refused).contains("older copy"), "{}", transcript(&refused));
        }
        for head in &heads {
            fs::write(head, kept.clone()).expect("written");
        }
    }
    assert!(!folder.path().join("data/log.key.next").exists(), "nothing was signed");
}

/// The highest head that any file remembers is cited, and every file learns of the new log, so that it starts.
#[test]
fn a_succession_is_remembered_everywhere() {
    let (folder, elsewhere) = lived();
    let heads = heads(folder.path(), elsewhere.path());
    let low = all_alike(&heads);
    let folder = Up::start_in(folder).stop();
    let high = all_alike(&heads);
    assert_ne!(low, high);
    fs::remove_dir_all(folder.path().join("data")).expect("the disk is lost");
    fs::remove_file(&heads[0]).expect("and what lay beside it");
    fs::write(&heads[1], &low).expect("one file was left behind");
    assert!(
        transcript(&up_refused(folder.path())).contains("log succeed"),
        "no first log is opened beside a remembered one"
    );

    let plan = log(folder.path(), &["succeed", "--reason", "the disk is lost", "--dry-run"]);
    assert!(done(&plan).contains("would open shop.example/2"), "{}", transcript(&plan));
    assert!(!folder.path().join("data/log.key").exists(), "a dry run changes nothing");
    let succeeded = json(&log(folder.path(), &["succeed", "--reason", "the disk is lost", "--json"]));
    let size = high.lines().nth(1).expect("a size");
    assert_eq!(succeeded["cites"]["size"].to_string(), size, "{succeeded}");
    let head = all_alike(&heads);
    assert!(head.starts_with("shop.example/2\n"), "{head}");

    // A file that was away still remembers the old log: it is cited, so it says nothing new.
    fs::write(&heads[1], &high).expect("written");
    fs::write(&heads[2], &low).expect("written");
    let up = Up::start_in(folder);
    assert_eq!(up.ready["origin"], "shop.example/2");
    eventually("all files to know the new log", || {
        heads
            .iter()
            .all(|head| fs::read_to_string(head).is_ok_and(|text| text.starts_with("shop.example/2\n")))
            .then_some(())
    });
    let folder = up.stop();
    assert_eq!(verified(folder.path(), "second")["outcome"], "authenticated");

    // What nothing cites is not waved through.
    fs::write(&heads[1], high.replace("shop.example/1", "shop.example/7")).expect("written");
    let refused = up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("more.head") && said.contains("shop.example/7"), "{said}");
}

/// A key that comes from systemd can't be replaced from here, and nothing is half done.
#[test]
fn a_key_that_is_a_credential_is_not_rotated() {
    let (folder, elsewhere) = lived();
    let credentials = tempfile::tempdir().expect("a folder");
    let (own, credential) = (folder.path().join("data/log.key"), credentials.path().join("log.key"));
    fs::rename(&own, &credential).expect("moved");
    // As systemd shows it to the user of a unit: the mask of its access control list where the group's rights are.
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440)).expect("set");
    let before = all_alike(&heads(folder.path(), elsewhere.path()));
    let environment = [("CREDENTIALS_DIRECTORY", credentials.path())];
    for arguments in [&["rotate"][..], &["rotate", "--finish"], &["succeed", "--reason", "x"], &["rotate", "--dry-run"]]
    {
        let refused = log_with(folder.path(), arguments, &environment);
        let said = transcript(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        for word in ["credential", "install -m 600", "LoadCredential", "nothing was changed"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    let without = log(folder.path(), &["rotate"]);
    assert_eq!(without.status.code(), Some(1), "{}", transcript(&without));
    assert!(transcript(&without).contains("not its signing key"), "{}", transcript(&without));
    assert!(!own.exists() && !folder.path().join("data/log.key.next").exists(), "no key was made");
    assert_eq!(all_alike(&heads(folder.path(), elsewhere.path())), before);
    let refused = up_refused(folder.path());
    assert!(transcript(&refused).contains("not its signing key"), "{}", transcript(&refused));
    assert!(!own.exists(), "no second key is made beside a log");
    // Whoever exports need not have the key.
    assert_eq!(verified(folder.path(), "without-key")["outcome"], "authenticated");
    let up = Up::start_with(folder, &[("CREDENTIALS_DIRECTORY", credentials.path().to_str().expect("UTF-8"))]);
    let folder = up.stop();

    // By the steps that the message names, it goes well.
    fs::copy(&credential, &own).expect("copied");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).expect("set");
    done(&log(folder.path(), &["rotate"]));
    done(&log(folder.path(), &["rotate", "--finish"]));
    let old_key = command(binary())
        .current_dir(folder.path())
        .args(["up", "--data", "data"])
        .envs(environment)
        .output()
        .expect("garant starts");
    assert_eq!(old_key.status.code(), Some(1), "the retired key is not taken: {}", transcript(&old_key));
    assert!(transcript(&old_key).contains("two signing keys"), "{}", transcript(&old_key));
    drop(Up::start_in(folder).stop());
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (folder, _elsewhere) = lived();
    let key = folder.path().join("data/log.key");
    for mode in [0o640, 0o604] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("set");
        for refused in [up_refused(folder.path()), log(folder.path(), &["rotate"])] {
            let said = transcript(&refused);
            assert_eq!(refused.status.code(), Some(1), "{said}");
            assert!(said.contains("log.key") && said.contains("chmod 600"), "{said}");
        }
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    drop(Up::start_in(folder).stop());
}

const QUIET: &str = "[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n";

/// JO-3: every change of the policy is told as what it was, and on whose word, also one made while nothing ran.
#[test]
fn every_change_of_the_policy_is_journaled() {
    let region = |name: &str| format!("[[region]]\nname = \"{name}\"\nprovider = \"p\"\n");
    let folder = folder_with(QUIET);
    let edit = |folder: &Path, names: &[&str]| {
        let text: String = std::iter::once(QUIET.to_owned()).chain(names.iter().map(|name| region(name))).collect();
        fs::write(folder.join("garant.toml"), text).expect("written");
    };
    let folder = Up::start_in(folder).stop();
    // A region is nobody's business but the team's: the public projection stays as it is.
    edit(folder.path(), &["one"]);
    let folder = Up::start_in(folder).stop();
    let up = Up::start_in(folder);
    let data = up.path("data");
    let count = || changes(&data).len();
    assert_eq!(count(), 2, "a start without a change tells nothing");

    edit(up.folder.path(), &["one", "two"]);
    let shown = json(&garant(&[
        "reload".as_ref(),
        "--dry-run".as_ref(),
        "--json".as_ref(),
        "--data".as_ref(),
        data.as_os_str(),
    ]));
    assert!(shown["diff"].as_str().is_some_and(|diff| diff.contains("+name = \"two\"")), "{shown}");
    assert_eq!(shown["needs_a_restart"], Value::Null, "{shown}");
    assert_eq!(count(), 2, "a dry run changes nothing");
    up.signal("HUP");
    eventually("the change by signal", || (count() == 3).then_some(()));
    edit(up.folder.path(), &["one", "two", "three"]);
    let applied = json(&garant(&["reload".as_ref(), "--json".as_ref(), "--data".as_ref(), data.as_os_str()]));
    assert_eq!(applied["revision"], applied["before"], "nothing public changed: {applied}");
    done(&garant(&["reload".as_ref(), "--data".as_ref(), data.as_os_str()]));

    // What can't be taken is not journaled, and nothing is written on the way.
    let proposed = fs::read(data.join("tlog-policy")).expect("the proposed policy");
    fs::write(up.path("garant.toml"), QUIET.replace("127.0.0.1:0", "127.0.0.1:1")).expect("written");
    let refused = garant(&["reload".as_ref(), "--data".as_ref(), data.as_os_str()]);
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
    assert!(transcript(&refused).contains("listen in [pages]"), "{}", transcript(&refused));
    let shown = garant(&["reload".as_ref(), "--dry-run".as_ref(), "--data".as_ref(), data.as_os_str()]);
    assert!(done(&shown).contains("would be refused"), "{}", transcript(&shown));
    assert_eq!(fs::read(data.join("tlog-policy")).expect("there"), proposed);

    let told = changes(&data);
    let triggers: Vec<_> = told.iter().map(|change| change["trigger"].as_str().unwrap_or_default()).collect();
    assert_eq!(triggers, ["start", "start", "signal", "reload"]);
    for (change, (added, kept)) in
        told.iter().zip([("+[journal]", ""), ("one", "+[journal]"), ("two", "+name = \"one\""), ("three", "two\"\n+")])
    {
        let diff = change["diff"].as_str().expect("a diff");
        assert!(diff.contains(added), "`{added}` is new: {diff}");
        assert!(kept.is_empty() || !diff.contains(kept), "`{kept}` is not: {diff}");
    }
}

/// JO-2: whatever the policy knows of people, and whatever opens doors, is in no entry of any class, nor on standard error.
#[test]
fn no_entry_holds_a_person_or_a_secret() {
    let secrets = [
        "Léa",
        "lea@shop.example",
        "+33600000001",
        "33611111112",
        "0b1c7a52",
        "t0ken",
        "s3cret-body",
        "qu3ry",
        "mobile of",
    ];
    let policy = |sms: &str| {
        format!(
            r#"{QUIET}
# [[person]]
# name = "Léa II", the mobile of which is +33611111112
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
[[person]]
name = "Léa"
channel = [{{ mail = "lea@shop.example" }}, {{ sms = "{sms}" }}]
[[probe.heartbeat]]
name = "night-job"
service = "shop"
uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10"
[[probe.http]]
name = "answers"
service = "shop"
url = "http://127.0.0.1:1/health?key=qu3ry"
headers = ["Accept: */*", "Authorization: Bearer t0ken"]
method = "POST"
send = "s3cret-body"
every = "1 s"
timeout = "500 ms"
"#
        )
    };
    let up = Up::start(&policy("+33600000001"));
    let uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";
    assert_eq!(http("POST", &up.url(&format!("ping/{uuid}")), &[], b"").map(|answer| answer.0), Some(200));
    eventually("the shop to be down", || (up.status()["services"][0]["state"] == "down").then_some(()));
    fs::write(up.path("garant.toml"), policy("+33600000002")).expect("written");
    up.signal("HUP");
    let data = up.path("data");
    eventually("the other number to be journaled", || (changes(&data).len() == 2).then_some(()));
    // A mistake in the number is told without the number.
    fs::write(up.path("garant.toml"), policy("0033600000001x")).expect("written");
    up.signal("HUP");
    eventually("the refusal", || up.errors().contains("was not taken").then_some(()));
    pause(1.0);
    let told = changes(&data);
    let diff = told[1]["diff"].as_str().expect("a diff");
    assert!(diff.contains("sms = \"…\"") && diff.contains("# changed"), "another number is a change: {diff}");
    let said = up.errors();
    for entry in payloads(&data).iter().map(|(_, text)| text).chain([&said]) {
        for secret in secrets.iter().chain(&["33600000002", "0033600000001x"]) {
            assert!(!entry.contains(secret), "`{secret}` in {entry}");
        }
    }
    drop(up.stop());
}

/// Whoever has no patience left is heard: the second signal ends it at once, and a program can tell.
#[test]
fn a_second_signal_exits_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut up = Up::start(QUIET);
        // Somebody asks, and asks, and never reads: the answers fill every buffer, and the stop waits for them.
        let host = up.team.trim_start_matches("http://").trim_end_matches('/').to_owned();
        #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
        let mut stream = std::net::TcpStream::connect(&host).expect("connected");
        stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).expect("set");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        while stream.write_all(request.as_bytes()).is_ok() {}
        up.signal(name);
        pause(1.0);
        assert_eq!(up.ended(), None, "it waits for the answers to be read");
        up.signal(name);
        pause(0.5);
        let status = up.ended().expect("the second signal ends it at once");
        assert_eq!(status.code(), Some(code), "{}", up.errors());
        assert!(!up.path("data/running.json").exists(), "nothing says that it runs");
        // What was acknowledged is there.
        let folder = std::mem::replace(&mut up.folder, tempfile::tempdir().expect("a folder"));
        drop(Up::start_in(folder).stop());
    }
}
