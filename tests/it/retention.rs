//! Payloads older than the policy keeps them are announced, then destroyed, and every copy still verifies. Promises BX-2,
//! JO-1, JO-2.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Nginx, Up, command, disclosed, eventually, eventually_within, export, faketime, folder_with, transcript,
};
use crate::proof::{go_verifier, verify};

/// Longest wait for an hour of garant's: it takes a minute, but begins anew whenever a busy machine makes garant stand
/// still.
const HOURS_MAX: Duration = Duration::from_mins(5);

fn policy(nginx: &Nginx) -> String {
    format!(
        r#"
publish = true
[journal]
name = "shop.example"
retention = {{ evidence = "5 d", records = "5 d", audit = "5 d", traces = "5 d" }}
[pages]
listen = "127.0.0.1:0"
public = "127.0.0.1:0"
url = "http://127.0.0.1/"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
[[probe.tcp]]
name = "shop-answers"
service = "shop"
address = "127.0.0.1:{http}"
every = "20 s"
timeout = "10 s"
[[promise]]
id = "AV-1"
text.fr = "La boutique est disponible 99 % du temps."
text.en = "The shop is available 99 % of the time."
availability = {{ service = "shop", at_least = "99 %", over = "1 d" }}
"#,
        http = nginx.http
    )
}

/// Starts garant with all its clocks set by libfaketime.
fn up_at(folder: tempfile::TempDir, clocks: &str) -> Up {
    let library = faketime();
    let environment = [
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME", OsStr::new(clocks)),
        // File times stay those of the machine.
        ("NO_FAKE_STAT", OsStr::new("1")),
    ];
    Up::start_with(folder, &environment)
}

/// The days of a class whose payloads can still be read.
fn days(data: &Path, class: &str) -> BTreeSet<String> {
    let keys = std::fs::read_dir(data.join("keys").join(class)).expect("a folder of keys");
    keys.map(|key| key.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

/// Number of entries of the type `what`.
fn said(entries: &[Value], what: &str) -> usize {
    entries.iter().filter(|entry| entry["type"] == what).count()
}

/// Evidence from six days ago, some from the days since, and only five days are kept. Announced after an hour of a clock
/// that does not step, destroyed an hour after that: here a minute each, because garant's clocks run sixty times as fast.
/// Copies made before, between and after verify, also with the independent program, and each is consistent with those
/// before.
#[test]
fn a_day_that_is_over_is_announced_and_destroyed() {
    let nginx = Nginx::start();
    let mut folder = folder_with(&policy(&nginx));
    let data = folder.path().join("data");
    let mut old = Vec::new();
    // Policy and states are journaled again within two days: younger entries must not need what is destroyed.
    for ago in ["-156h x20", "-120h x20", "-84h x20", "-48h x20"] {
        let up = up_at(folder, ago);
        eventually("the shop to be up", || (up.status()["services"][0]["state"] == "up").then_some(()));
        eventually("a verdict", || up.verdicts("AV-1").pop());
        folder = up.stop();
        if old.is_empty() {
            old = ["evidence", "records", "traces"].map(|class| (class, days(&data, class))).into();
        }
    }

    // Half a day behind the machine, so that the log is never ahead of its verifier.
    let up = up_at(folder, "-12h x60");
    // A look that is 5 s late by garant's clock counts as standing still, and the hour begins anew. That is 83 ms of the
    // machine's: a busy machine would be late by as much.
    let threads = std::fs::read_dir(format!("/proc/{}/task", up.pid())).expect("threads");
    let threads = threads.map(|thread| thread.expect("a thread").file_name());
    assert!(command("renice").args(["-n", "-20", "-p"]).args(threads).output().expect("renice runs").status.success());

    let mut copies: Vec<(PathBuf, String)> = Vec::new();
    let mut copy = |name: &str| {
        let to = up.path(name);
        let vkey = export(&data, &to);
        let entries = disclosed(&to);
        copies.push((to, vkey));
        entries
    };
    let before = copy("before");
    let evidence = said(&before, "evidence.covered");
    assert!(evidence > 0 && said(&before, "promise.verdict") > 0, "there is something to destroy");
    assert_eq!(said(&before, "journal.destruction_intended"), 0);
    for (class, days_of_old) in &old {
        assert!(days_of_old.is_subset(&days(&data, class)), "an ordinary start destroys nothing");
    }

    let announced = |class: &str, entries: &[Value]| {
        let of = |entry: &&Value| entry["type"] == "journal.destruction_intended" && entry["body"]["class"] == class;
        entries.iter().filter(of).count()
    };
    eventually_within(HOURS_MAX, "all classes of the old days to be announced", || {
        let to = up.path("looked-at");
        drop(std::fs::remove_dir_all(&to));
        export(&data, &to);
        let entries = disclosed(&to);
        old.iter().all(|(class, days)| announced(class, &entries) >= days.len()).then_some(())
    });
    let between = copy("between");
    assert_eq!(said(&between, "journal.destroyed"), 0, "an hour of notice");
    let of_old = |entries: &[Value]| entries.iter().filter(|entry| before.contains(entry)).count();
    assert_eq!(of_old(&between), before.len(), "until then everything is there");

    eventually_within(HOURS_MAX, "the keys of the old days to go", || {
        old.iter().all(|(class, days_of_old)| days_of_old.is_disjoint(&days(&data, class))).then_some(())
    });
    eventually("the destruction to be told", || {
        let to = up.path("looked-at");
        export(&data, &to);
        (said(&disclosed(&to), "journal.destroyed") >= old.iter().map(|(_, days)| days.len()).sum()).then_some(())
    });
    let after = copy("after");
    assert_eq!(said(&after, "journal.opened"), 1, "what the log says of itself stays");
    assert!(of_old(&after) < before.len() - evidence / 2, "the payloads are gone from every new copy");
    let folder = up.stop();

    let mut since: Vec<String> = Vec::new();
    for (to, vkey) in &copies {
        let at = to.to_str().expect("UTF-8");
        let mut arguments = vec![at, "--vkey", vkey];
        arguments.extend(since.iter().flat_map(|checkpoint| ["--since", checkpoint]));
        let verified = verify(&arguments);
        assert_eq!(verified.status.code(), Some(0), "{at}: {}", transcript(&verified));
        let report: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        assert_eq!(report["destroyed"].as_u64() > Some(0), to.ends_with("after"), "{at}: {report}");
        let go = command(go_verifier()).args([at, vkey]).output().expect("the Go verifier starts");
        assert!(go.status.success(), "{at}: {}", transcript(&go));
        since = vec![format!("{at}/checkpoint")];
    }
    drop(folder);
}
