//! The keys of the log, the heads remembered outside it, and the record of changes of the policy: what an operator does once
//! a year and must find explained. Promises BX-2, JO-1, JO-2, JO-3.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::ops::Add as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use journal::note::SigningKey;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Up, binary, command, eventually, folder_with, free_port, garant, get, http, pause, transcript, up_refused,
};

/// A policy whose `remember` names two files elsewhere, beside the one next to the data directory.
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
    if matches!(arguments.first(), Some(&("rotate" | "continue"))) {
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
    verified_of_age(folder, name, "25 h")
}

fn verified_of_age(folder: &Path, name: &str, max_age: &str) -> Value {
    let export = folder.join(name);
    let exported = json(&log(folder, &["export", "--json", export.to_str().expect("UTF-8")]));
    let vkey = exported["vkey"].as_str().expect("a key");
    assert_eq!(fs::read_to_string(export.join("vkey")).expect("vkey").trim(), vkey);
    let export = export.to_str().expect("UTF-8");
    json(&garant(&["verify", "--json", export, "--vkey", vkey, "--max-age", max_age]))
}

/// All payloads that the data directory can open, of every audience: sequence and text.
fn payloads(data: &Path) -> Vec<(u64, String)> {
    let sql = "SELECT sequence, class, day, hex(sealed) FROM payload ORDER BY sequence";
    let rows = command("sqlite3").arg(data.join("garant.db")).arg(sql).output().expect("sqlite3 runs");
    let rows = done(&rows);
    let open = |row: &str| {
        let mut columns = row.split('|');
        let sequence: u64 = columns.next()?.parse().ok()?;
        let class = match columns.next()? {
            "1" => "evidence",
            "2" => "audit",
            "4" => "records",
            "5" => "traces",
            _ => "permanent",
        };
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

/// Runs garant for a moment with `remember` set: all three files know the head.
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

/// A whole rotation without a start in between: every file gets the new head, and the next start succeeds.
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
    // One of the files misses the end of the rotation, as when its disk is not mounted.
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

/// A rotation that was cut off before it announced its key can't be finished, for nobody could follow the log: the next
/// `rotate` begins again, with the key that is there.
#[test]
fn a_rotation_that_was_cut_off_begins_again() {
    let (folder, elsewhere) = lived();
    let heads = heads(folder.path(), elsewhere.path());
    let before = all_alike(&heads);
    let left_behind = SigningKey::generate([9; 32], "shop.example/1").expect("a name");
    let next = folder.path().join("data/log.key.next");
    fs::write(&next, format!("{}\n", left_behind.to_text())).expect("written");
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).expect("set");

    let finish = log(folder.path(), &["rotate", "--finish"]);
    assert!(!finish.status.success(), "{}", transcript(&finish));
    assert!(transcript(&finish).contains("does not announce"), "{}", transcript(&finish));
    assert!(next.exists() && all_alike(&heads) == before, "nothing was changed");
    let plan = json(&log(folder.path(), &["rotate", "--dry-run", "--json"]));
    assert_eq!(plan["would"], "begin", "{plan}");

    let announced = json(&log(folder.path(), &["rotate", "--json"]));
    assert_eq!(announced["announced"], left_behind.vkey().to_string(), "the key that is there");
    let again = log(folder.path(), &["rotate"]);
    assert!(transcript(&again).contains("--finish"), "announced once: {}", transcript(&again));
    let retired = json(&log(folder.path(), &["rotate", "--finish", "--json"]));
    assert_eq!(retired["signs"], announced["announced"], "{retired}");
    assert_eq!(verified(folder.path(), "rotated")["outcome"], "authenticated");
}

/// JO-1: what is answered 200 is in the data directory, or it is not answered 200. Here the directory is moved away and back,
/// and then deleted, under a running garant.
#[test]
fn nothing_is_acknowledged_without_a_data_directory() {
    let uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";
    let up = Up::start(&format!(
        "[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n[[service]]\nname = \"jobs\"\n\
         [[probe.heartbeat]]\nname = \"job\"\nservice = \"jobs\"\nuuid = \"{uuid}\"\nevery = \"1 h\"\n"
    ));
    let ping = |suffix: &str| http("POST", &up.url(&format!("ping/{uuid}{suffix}")), &[], b"").map(|answer| answer.0);
    let (data, away) = (up.folder.path().join("data"), up.folder.path().join("away"));
    let said = |data: &Path| {
        let kinds = ["--kind", "evidence.succeeded", "--kind", "watch.pinged", "--json", "-n", "1000"];
        let shown = garant(&[&["log", "show", "--data", data.to_str().expect("UTF-8")][..], &kinds].concat());
        String::from_utf8_lossy(&shown.stdout).lines().count()
    };
    for _ in 0..19 {
        assert_eq!(ping(""), Some(200));
    }
    for suffix in ["/7", "/8", "/start", "/fail"] {
        assert_eq!(ping(suffix), Some(200), "{suffix}");
    }
    assert_eq!(said(&data), 23, "each is an entry");
    fs::rename(&data, &away).expect("moved away");
    assert_eq!(ping("/9"), Some(503));
    let (status, ready) =
        http("GET", &up.url("ready"), &[], b"").map(|answer| (answer.0, answer.2)).expect("an answer");
    let ready = String::from_utf8_lossy(&ready).into_owned();
    assert!(status == 503 && ready.contains("was deleted or moved away"), "{ready}");
    fs::rename(&away, &data).expect("moved back");
    eventually("it goes on", || (ping("/10") == Some(200)).then_some(()));
    assert_eq!(said(&data), 24, "and the one that was answered 503 is not there");
    fs::remove_dir_all(&data).expect("deleted");
    assert_eq!(ping("/11"), Some(503));
}

/// An old copy is refused as soon as one file remembers more, by `up` and by every other command that signs.
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
        assert!(said.contains("older copy") && said.contains("log continue"), "{said}");
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
    // What only reads says so, and reads.
    let data = folder.path().join("data");
    let (data, export) = (data.to_str().expect("UTF-8"), folder.path().join("of-the-copy"));
    for arguments in [&["head"][..], &["show"], &["export", export.to_str().expect("UTF-8")]] {
        let read = garant(&[&["log"], arguments, &["--data", data]].concat());
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(said.contains("is an older copy of the log") && said.contains("data.head"), "{}", transcript(&read));
        assert_eq!(read.status.code(), Some(0), "{}", transcript(&read));
    }
}

/// A continuation cites the highest head of all files, and writes the head of the new log into every file, so that it
/// starts.
#[test]
fn a_continuation_is_remembered_everywhere() {
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
        transcript(&up_refused(folder.path())).contains("log continue"),
        "no first log is opened beside a remembered one"
    );

    let plan = log(folder.path(), &["continue", "--reason", "the disk is lost", "--dry-run"]);
    assert!(done(&plan).contains("would open shop.example/2"), "{}", transcript(&plan));
    assert!(!folder.path().join("data/log.key").exists(), "a dry run changes nothing");
    let continued = json(&log(folder.path(), &["continue", "--reason", "the disk is lost", "--json"]));
    let size = high.lines().nth(1).expect("a size");
    assert_eq!(continued["cites"]["size"].to_string(), size, "{continued}");
    let head = all_alike(&heads);
    assert!(head.starts_with("shop.example/2\n"), "{head}");

    // A file that was not mounted still remembers the old log. It is cited, so nothing is contradicted.
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

    // A remembered log that nothing cites is refused.
    fs::write(&heads[1], high.replace("shop.example/1", "shop.example/7")).expect("written");
    let refused = up_refused(folder.path());
    let said = transcript(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("more.head") && said.contains("shop.example/7"), "{said}");
}

/// A key out of a systemd credential can't be rotated from here, and nothing is half done.
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
    for arguments in
        [&["rotate"][..], &["rotate", "--finish"], &["continue", "--reason", "x"], &["rotate", "--dry-run"]]
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
    // An export needs no signing key.
    assert_eq!(verified(folder.path(), "without-key")["outcome"], "authenticated");
    let up = Up::start_with(folder, &[("CREDENTIALS_DIRECTORY", credentials.path().as_os_str())]);
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

/// JO-3: every change of the policy is journaled as a diff, with who triggered it, also a change made while nothing ran.
#[test]
fn every_change_of_the_policy_is_journaled() {
    let region = |name: &str| format!("[[region]]\nname = \"{name}\"\nprovider = \"p\"\n");
    let folder = folder_with(QUIET);
    let edit = |folder: &Path, names: &[&str]| {
        let text: String = std::iter::once(QUIET.to_owned()).chain(names.iter().map(|name| region(name))).collect();
        fs::write(folder.join("garant.toml"), text).expect("written");
    };
    let folder = Up::start_in(folder).stop();
    // A region is not public: the public projection stays as it is.
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

    // A policy with mistakes is not journaled, and no file is written on the way.
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

/// JO-2: no entry of any class, and no line on standard error, holds what the policy knows of people or any secret.
#[test]
fn no_entry_holds_a_person_or_a_secret() {
    let secrets = [
        "Léa",
        "lea@shop.example",
        "+33600000001",
        "33611111112",
        "0b1c7a52",
        "t0ken",
        "tr4ce",
        "s3cret-body",
        "qu3ry",
        "mobile of",
    ];
    let kept = tempfile::tempdir().expect("a folder");
    let token = kept.path().join("token");
    fs::write(&token, "Bearer t0ken\n").expect("written");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("set");
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

[mail]
server = "mail.shop.example:587"
from = "garant@shop.example"

[sms]
url = "https://sms.shop.example/send?to={{to}}&text={{text}}"
[[probe.heartbeat]]
name = "night-job"
service = "shop"
uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10"
[[probe.http]]
name = "answers"
service = "shop"
url = "http://127.0.0.1:1/health?key=qu3ry"
headers = {{ Accept = "*/*", X-Trace = "tr4ce", Authorization = {{ file = "{}" }} }}
method = "POST"
send = "s3cret-body"
every = "1 s"
timeout = "500 ms"
"#,
            token.display()
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
    // The message about a mistake in a number does not quote the number.
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

/// A second signal ends the process at once, and the exit code tells it from the first.
#[test]
fn a_second_signal_exits_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut up = Up::start(QUIET);
        // A client asks and never reads: the answers fill every buffer, and the stop waits for them.
        let host = up.team.trim_start_matches("http://").trim_end_matches('/').to_owned();
        #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
        let mut stream = std::net::TcpStream::connect(&host).expect("connected");
        stream.set_write_timeout(Some(std::time::Duration::from_secs(1))).expect("set");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
        // Three seconds without room for a byte: a server that is only busy still takes some.
        let (mut sent, mut refused) = (0, 0);
        while refused < 3 {
            match stream.write(&request.as_bytes()[sent..]) {
                Ok(bytes) => (sent, refused) = ((sent + bytes) % request.len(), 0),
                Err(_) => refused += 1,
            }
        }
        up.signal(name);
        // As timeout(1) does: once to the process, and at once to its group.
        up.signal("TERM");
        pause(1.5);
        assert_eq!(up.exit(), None, "it waits for the answers to be read");
        up.signal(name);
        let status = eventually("the end", || up.exit());
        assert_eq!(status.code(), Some(code), "{}", up.errors());
        assert!(!up.path("data/running.json").exists(), "nothing says that it runs");
        // Everything acknowledged is there.
        let folder = std::mem::replace(&mut up.folder, tempfile::tempdir().expect("a folder"));
        drop(Up::start_in(folder).stop());
    }
}

/// The head of a live log, a proof of one entry, and a proof of consistency: each as text and as JSON.
#[test]
fn heads_and_proofs_of_a_live_log() {
    let up = Up::start(QUIET);
    let folder = up.folder.path();
    let vkey = up.ready["vkey"].as_str().expect("a key").to_owned();
    let keep = |name: &str| {
        let note = done(&log(folder, &["head"]));
        assert!(note.starts_with("shop.example/1\n") && note.contains("\n\n— shop.example/1 "), "{note}");
        fs::write(folder.join(name), &note).expect("written");
        note.lines().nth(1).and_then(|size| size.parse::<u64>().ok()).expect("a size")
    };
    let grow = |service: &str| {
        let published = || up.status()["journal"]["published_size"].as_u64();
        let before = published();
        fs::write(folder.join("garant.toml"), format!("{QUIET}[[service]]\nname = \"{service}\"\n")).expect("written");
        up.signal("HUP");
        eventually("a longer log", || (published() > before).then_some(()));
    };
    let old = keep("old");
    let head = json(&log(folder, &["head", "--json"]));
    assert_eq!(head["origin"], "shop.example/1");
    assert!(head["size"].as_u64() >= Some(old), "{head}");
    let inclusion = done(&log(folder, &["proof", "0"]));
    assert!(inclusion.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{inclusion}");
    let inclusion = json(&log(folder, &["proof", "0", "--json"]));
    assert!(inclusion["sequence"] == 0 && inclusion["proof"].is_string(), "{inclusion}");
    let beyond = log(folder, &["proof", "1000000"]);
    assert_eq!(beyond.status.code(), Some(1), "{}", transcript(&beyond));
    assert!(transcript(&beyond).contains("from 0"), "{}", transcript(&beyond));
    let old_file = folder.join("old");
    let old_path = old_file.to_str().expect("UTF-8");
    let wrong: [&[&str]; 5] = [
        &["proof"],
        &["proof", "1", "--from", "1"],
        &["proof", "--from", "1000000"],
        &["proof", "1", "--to", "x"],
        &["proof", "--from", "1000000", "--to", old_path],
    ];
    for wrong in wrong {
        assert_eq!(log(folder, wrong).status.code(), Some(2), "{wrong:?}");
    }

    // The log grows; the foreign verifier accepts that its older state is the beginning of the newer one.
    grow("one");
    let middle = keep("middle");
    grow("two");
    assert!(old < middle);
    let go = |proof: &str, since: &str| {
        let at = |name: &str| folder.join(name);
        let mut go = command(crate::proof::go_verifier());
        go.arg("-consistency")
            .arg(at(proof))
            .arg("-since")
            .arg(at(since))
            .arg(&vkey)
            .output()
            .expect("the Go verifier starts")
    };
    let middle_file = folder.join("middle");
    let to_the_middle = ["--to", middle_file.to_str().expect("UTF-8")];
    let size = old.to_string();
    for (name, to) in [("newest", &[][..]), ("between", &to_the_middle)] {
        let arguments: Vec<&str> = ["proof", "--from", &size].into_iter().chain(to.iter().copied()).collect();
        let proof = done(&log(folder, &arguments));
        fs::write(folder.join(name), &proof).expect("written");
        let verified = go(name, "old");
        assert!(done(&verified).contains(&format!("continue the {old} that were kept")), "{}", transcript(&verified));
        // With one hash of another tree, or another checkpoint, the proof is rejected.
        let other = proof.lines().nth(1).map(|hash| proof.replacen(hash, &"A".repeat(43).add("="), 1)).expect("a hash");
        fs::write(folder.join("forged"), other).expect("written");
        assert_eq!(go("forged", "old").status.code(), Some(1));
        assert_eq!(go(name, "middle").status.code(), Some(1));
    }
    let as_json = json(&log(folder, &["proof", "--from", &size, "--json"]));
    assert!(as_json["from"] == old && as_json["to"].as_u64() > Some(middle), "{as_json}");
    let forged = fs::read_to_string(&middle_file).expect("read").replacen(&format!("\n{middle}\n"), "\n1\n", 1);
    fs::write(&middle_file, forged).expect("written");
    let refused = log(folder, &["proof", "--from", "1", "--to", middle_file.to_str().expect("UTF-8")]);
    assert_eq!(refused.status.code(), Some(2), "{}", transcript(&refused));
    assert!(transcript(&refused).contains("evidence"), "{}", transcript(&refused));
}

/// Status of a running garant, for people and as JSON.
#[test]
fn the_status_of_a_live_garant() {
    let uuid = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";
    let up = Up::start(&format!(
        "{QUIET}[[service]]\nname = \"night-job\"\n[[probe.heartbeat]]\nname = \"ran\"\nservice = \"night-job\"\nuuid = \"{uuid}\"\n\
         every = \"10 s\"\n[[promise]]\nid = \"BK-1\"\ntext.fr = \"Le travail passe.\"\ntext.en = \"The job runs.\"\n\
         freshness = {{ probe = \"ran\", at_most = \"1 min\", over = \"30 d\" }}\n"
    ));
    assert_eq!(http("POST", &up.url(&format!("ping/{uuid}")), &[], b"").map(|answer| answer.0), Some(200));
    let data = up.path("data");
    let status = |more: &[&str]| {
        command(binary()).arg("status").arg("--data").arg(&data).args(more).output().expect("garant starts")
    };
    let said = eventually("the job to be up, and a verdict", || {
        let status = status(&[]);
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        let is_answered = status.status.success();
        (is_answered && said.contains("  up         night-job since ") && said.contains("BK-1  The job runs."))
            .then_some(said)
    });
    assert!(said.starts_with("garant 0.") && said.contains(&format!("process {}, not published", up.pid())), "{said}");
    assert!(said.contains("  log        ") && said.contains(" entries, "), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours for a program: {said}");
    let coloured =
        command(binary()).args(["--colour", "always", "status", "--data"]).arg(&data).output().expect("garant starts");
    assert!(done(&coloured).contains("\u{1b}[32mup"), "{}", transcript(&coloured));
    let whole = json(&eventually("an answer", || Some(status(&["--json"])).filter(|it| it.status.success())));
    assert_eq!(whole["revision"], up.ready["revision"], "{whole}");
    assert_eq!(whole["services"][0]["state"], "up", "{whole}");
    assert_eq!(whole["promises"][0]["promise"], "BK-1", "{whole}");
    let folder = up.stop();
    let stopped = garant(&["status".as_ref(), "--data".as_ref(), folder.path().join("data").as_os_str()]);
    assert_eq!(stopped.status.code(), Some(1), "{}", transcript(&stopped));
}

/// Colours on a terminal, and none when they are switched off.
#[test]
fn a_terminal_gets_colours() {
    let folder = folder_with(QUIET);
    let check = format!("{} check", binary().display());
    for (no_color, coloured) in [(None, true), (Some("1"), false), (Some(""), true)] {
        let mut script = command("script");
        script
            .args(["-qec", &check, "/dev/null"])
            .current_dir(folder.path())
            .env_remove("NO_COLOR")
            .env("TERM", "xterm");
        if let Some(value) = no_color {
            script.env("NO_COLOR", value);
        }
        let said = done(&script.output().expect("script runs; it is in bsdutils"));
        assert!(said.contains("no mistakes"), "{said}");
        assert_eq!(said.contains("\u{1b}[32m"), coloured, "NO_COLOR {no_color:?}: {said:?}");
    }
}

/// With `--json`, commands that create something or start to serve print what they made.
#[test]
fn beginnings_in_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let made = json(&garant(&["init", "https://shop.example/", "--json", "--output", &at("garant.toml")]));
    assert_eq!((&made["watched"], &made["promises"]), (&"https://shop.example/".into(), &4.into()), "{made}");
    let text = json(&garant(&["init", "https://shop.example/", "--json", "--output", "-"]));
    assert_eq!(text["text"].as_str().map(str::to_owned), fs::read_to_string(at("garant.toml")).ok());

    let witness = json(&garant(&["witness", "init", "--json", "--state", &at("w.json"), "--name", "witness.example"]));
    let vkey = witness["vkey"].as_str().expect("a key");
    assert!(vkey.starts_with("witness.example+"), "{witness}");
    let up = Up::start(QUIET);
    let log = up.ready["vkey"].as_str().expect("a key");
    let mut serve = command(binary());
    serve.args(["witness", "serve", "--json", "--state", &at("w.json"), "--listen", "127.0.0.1:0", "--log", log]);
    let mut serve = serve.stdout(std::process::Stdio::piped()).spawn().expect("garant starts");
    let mut line = String::new();
    std::io::BufReader::new(serve.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    serve.kill().expect("killed");
    serve.wait().expect("ended");
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(ready["ready"] == true && ready["vkey"] == vkey && ready["logs"] == 1, "{ready}");
    assert!(ready["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{ready}");
}

/// A name server on loopback.
struct Dns(std::process::Child);

impl Drop for Dns {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Fingerprints of a key in the DNS: the right one, the right one beside another, a wrong one, and none.
#[test]
fn the_fingerprint_of_a_key_out_of_the_dns() {
    let (folder, _elsewhere) = lived();
    let export = folder.path().join("export");
    let exported = json(&log(folder.path(), &["export", "--json", export.to_str().expect("UTF-8")]));
    let vkey = exported["vkey"].as_str().expect("a key");
    fs::write(folder.path().join("key"), vkey).expect("written");
    let sum = done(&command("sha256sum").arg(folder.path().join("key")).output().expect("sha256sum runs"));
    let right = format!("sha256:{}", sum.split(' ').next().expect("a sum"));
    let wrong = format!("sha256:{}", "0".repeat(64));
    let port = free_port();
    let mut dnsmasq = command("dnsmasq");
    dnsmasq.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--bind-interfaces",
    ]);
    dnsmasq.args(["--listen-address=127.0.0.1", "--local=/test/", &format!("--port={port}")]);
    for (name, text) in
        [("one", &right), ("two", &wrong), ("two", &right), ("bad", &wrong), ("other", &"v=spf1 -all".to_owned())]
    {
        dnsmasq.arg(format!("--txt-record=_garant.{name}.test,{text}"));
    }
    let child = dnsmasq.stderr(std::process::Stdio::null()).spawn().expect("dnsmasq starts; scripts/test installs it");
    let _dns = Dns(child);
    let server = format!("127.0.0.1:{port}");
    let verify = |domain: &str| {
        let arguments = ["verify", export.to_str().expect("UTF-8"), "--dns", domain, "--name-server", &server];
        garant(&arguments)
    };
    eventually("the name server", || verify("one.test").status.success().then_some(()));
    for (domain, code, words) in [
        ("one.test", 0, "authenticated"),
        ("two.test.", 0, "authenticated"),
        ("bad.test", 1, "fingerprint"),
        ("other.test", 1, "no TXT record that is a fingerprint"),
        ("none.test", 1, "_garant.none.test"),
    ] {
        let output = verify(domain);
        assert_eq!(output.status.code(), Some(code), "{domain}: {}", transcript(&output));
        assert!(transcript(&output).contains(words), "{domain} must speak of {words}: {}", transcript(&output));
    }
}
