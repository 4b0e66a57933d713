//! Nothing is lost: crash, stopped observer, stepped clock, full disk. Promises AV-1, BX-1, JO-1.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drawn::Draws;
use event::engine::StorageFault;
use event::{Body, Envelope};
use serde_json::Value;
use store::Read as _;

use crate::harness::{
    Nginx, Up, command, disclosed, eventually, export, faketime, folder_with, garant, get, killed_after, number, pause,
    report, transcript, wall_micros,
};
use crate::shadow::policy;

/// Exports the log and verifies it, also against each of the remembered checkpoints. Returns the export and its key.
fn verified(folder: &Path, remembered: &[Vec<u8>]) -> (PathBuf, String) {
    let to = folder.join("verified-export");
    drop(std::fs::remove_dir_all(&to));
    let vkey = export(&folder.join("data"), &to);
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", to.to_str().expect("UTF-8"), "--vkey", &vkey];
        arguments.extend(more);
        let verified = garant(&arguments);
        assert_eq!(verified.status.code(), Some(0), "{arguments:?}: {}", transcript(&verified));
    };
    verify(&[]);
    for note in remembered {
        let since = folder.join("remembered");
        std::fs::write(&since, note).expect("written");
        verify(&["--since", since.to_str().expect("UTF-8")]);
    }
    (to, vkey)
}

/// Kills of one log before the next log is begun: each verification takes longer as the log grows.
const ROUNDS: u64 = 6;

/// Killed at drawn instants, while it starts and at work, garant starts again, and every checkpoint that was published is
/// still there and still consistent. `scripts/campaign kill N` draws another seed, and N instants.
#[test]
fn killed_at_any_instant() {
    let mut draws = Draws::from_environment();
    let kills = number("GARANT_KILLS", ROUNDS);
    let nginx = Nginx::start();
    let (mut left, mut seen) = (kills, 0);
    while left > 0 {
        let rounds = left.min(ROUNDS);
        left -= rounds;
        let folder = folder_with(&policy(&nginx));
        let mut published = Vec::new();
        for round in 0..rounds {
            // Every third kill falls into the start, the others into work.
            let at_work = round % 3 != 2;
            let life = Duration::from_micros(draws.below(if at_work { 4_000_000 } else { 300_000 }));
            let last = killed_after(folder.path(), life, at_work);
            let phase = if at_work { "its ready line" } else { "its start" };
            report(&format!(
                "killed {life:?} after {phase}, {}",
                if last.is_some() { "published" } else { "unpublished" }
            ));
            seen += u64::from(last.is_some());
            published.extend(last);
        }
        let folder = Up::start_in(folder).stop();
        verified(folder.path(), &published);
    }
    assert!(seen >= kills / 2, "only {seen} of {kills} published something: the test shows little");
}

/// Time that records of coverage of `observer` cover within that span of labels, in µs.
fn covered_us(entries: &[Value], from: i64, to: i64) -> i64 {
    let length = |interval: &Value| {
        let (start, end) = (interval["start"].as_i64().expect("start"), interval["end"].as_i64().expect("end"));
        (end.min(to) - start.max(from)).max(0)
    };
    let shop = |gap: &&Value| gap["probe"] == "shop-answers";
    let of = |coverage: &Value| {
        let gaps = coverage["gaps"].as_array().into_iter().flatten().filter(shop).map(|gap| length(&gap["interval"]));
        length(&coverage["interval"]) - gaps.sum::<i64>()
    };
    entries.iter().filter(|entry| entry["type"] == "evidence.covered").map(|entry| of(&entry["body"])).sum()
}

fn states_but_up(entries: &[Value]) -> Vec<&Value> {
    let changes = entries.iter().filter(|entry| entry["type"] == "evidence.changed").map(|entry| &entry["body"]);
    changes.filter(|change| change["state"] != "up" && change["state"] != "degraded").collect()
}

/// The time in which the observer is stopped is unproven, and no service is down. Here for twenty seconds; five minutes are
/// simulated, in `watch`.
#[test]
fn a_stopped_observer_accuses_nobody() {
    let nginx = Nginx::start();
    let up = Up::start(&policy(&nginx));
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    pause(3.0);
    up.signal("STOP");
    let from = wall_micros();
    pause(20.0);
    let to = wall_micros();
    up.signal("CONT");
    let verdict = eventually("a verdict from after the silence", || {
        up.verdicts("AV-1").into_iter().find(|v| v["window"]["end"].as_i64() > Some(to))
    });
    let reasons = verdict["reasons"].as_array().expect("reasons");
    assert!(!reasons.iter().any(|r| r["reason"] == "down"), "no false alarm: {verdict}");
    let unobserved = reasons.iter().find(|r| r["reason"] == "unobserved").unwrap_or_else(|| panic!("{verdict}"));
    let length = unobserved["length"].as_i64().expect("a length");
    // No sample covers any of it.
    assert!(length >= to - from - 500_000, "{length} µs of {} are missing: {verdict}", to - from);
    assert_eq!(verdict["outcome"], "unproven", "no evidence is neither a kept promise nor a broken one: {verdict}");
    let folder = up.stop();
    let (export, _) = verified(folder.path(), &[]);
    let entries = disclosed(&export);
    assert_eq!(states_but_up(&entries), Vec::<&Value>::new(), "nobody is accused");
    let covered = covered_us(&entries, from, to);
    assert!(covered <= 500_000, "{covered} µs of the silence are covered");
    let blind = entries.iter().any(|entry| entry["type"] == "engine.blind" && entry["body"]["cause"] == "stopped");
    assert!(blind, "and the log says why");
}

/// The wall clock of the process steps an hour ahead, and later back: no service is down, the steps are public entries, the
/// time between is unproven, and the log still verifies.
#[test]
fn a_stepped_clock_accuses_nobody() {
    const HOUR: i64 = 3_600_000_000;
    let nginx = Nginx::start();
    let folder = folder_with(&policy(&nginx));
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0\n").expect("written");
    let library = faketime();
    let up = Up::start_with(
        folder,
        &[
            ("LD_PRELOAD", library.as_os_str()),
            ("FAKETIME_TIMESTAMP_FILE", offset.as_os_str()),
            ("FAKETIME_NO_CACHE", OsStr::new("1")),
            ("NO_FAKE_STAT", OsStr::new("1")),
            // Only the wall clock steps, as it does in life.
            ("DONT_FAKE_MONOTONIC", OsStr::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ],
    );
    let window_end = |verdict: &Value| verdict["window"]["end"].as_i64().expect("end");
    let verdict_after = |end: i64| {
        eventually("a verdict from after the step", || up.verdicts("AV-1").into_iter().find(|v| window_end(v) > end))
    };
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    pause(5.0);

    let ahead = wall_micros();
    step(&offset, "+3600");
    // A verdict is as of the newest coverage, or of up to 150 s before now: less of the hour is not worth telling.
    let skipped = HOUR - 160_000_000;
    let verdict = verdict_after(ahead + skipped);
    let reasons = verdict["reasons"].as_array().expect("reasons");
    assert!(!reasons.iter().any(|r| r["reason"] == "down"), "no false alarm: {verdict}");
    let unobserved = reasons.iter().find(|r| r["reason"] == "unobserved").unwrap_or_else(|| panic!("{verdict}"));
    assert!(unobserved["length"].as_i64() > Some(skipped - 10_000_000), "{verdict}");
    assert_eq!(verdict["outcome"], "unproven", "{verdict}");

    pause(15.0);
    let back = wall_micros();
    step(&offset, "+0");
    pause(10.0);
    let folder = up.stop();
    let (export, _) = verified(folder.path(), &[]);
    let entries = disclosed(&export);
    assert_eq!(states_but_up(&entries), Vec::<&Value>::new(), "nobody is accused");
    let steps: Vec<(i64, i64)> = entries
        .iter()
        .filter(|entry| entry["type"] == "engine.clock_stepped")
        .map(|entry| (entry["body"]["from"].as_i64().expect("from"), entry["body"]["to"].as_i64().expect("to")))
        .collect();
    for (expected, at) in [(HOUR, ahead), (-HOUR, back + HOUR)] {
        let told = |(from, to): &&(i64, i64)| (to - from - expected).abs() < 2_000_000 && (from - at).abs() < 5_000_000;
        assert!(steps.iter().any(|step| told(&step)), "a step by {expected} µs at {at} is told: {steps:?}");
    }
    assert_eq!(covered_us(&entries, ahead + 5_000_000, back - 5_000_000), 0, "the skipped labels prove nothing");
}

/// Sets the file of the offset at once, so that no reader sees half of it.
fn step(offset: &Path, by: &str) {
    let new = offset.with_extension("new");
    std::fs::write(&new, format!("{by}\n")).expect("written");
    std::fs::rename(&new, offset).expect("renamed");
}

/// Every envelope of a log, those for the team too, read from the store without verification.
pub(crate) fn all_envelopes(data: &Path) -> Vec<Envelope> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = store::sqlite::Sqlite::open_read_only(data).expect("the data can be read");
        let size = store.head().await.expect("a head").size;
        let mut all = Vec::new();
        while (all.len() as u64) < size {
            let next = all.len() as u64;
            let entries = store.entries(next..size.min(next + 1024)).await.expect("entries");
            assert!(!entries.is_empty(), "entry {next} of {size} is not there");
            for entry in entries {
                let payload = entry.payload.unwrap_or_else(|| panic!("entry {} has lost its payload", entry.sequence));
                all.push(Envelope::decode(&payload.bytes).expect("an envelope"));
            }
        }
        all
    })
}

/// The disk fills up: the fault itself is journaled, nothing acknowledged is lost, and garant goes on when there is room.
#[test]
fn a_full_disk() {
    let nginx = Nginx::start();
    let folder = folder_with(&policy(&nginx));
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("made");
    let mounted = command("mount")
        .args(["-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs"])
        .arg(&data)
        .status()
        .expect("mount runs");
    assert!(mounted.success(), "tests run as root");
    let unmount = Unmount(data.clone());
    let up = Up::start_in(folder);
    eventually("a first verdict", || up.verdicts("AV-1").pop());
    let remembered = eventually("a checkpoint", || get(&up.url("log/checkpoint")));
    let figure = |name: &str| {
        let metrics = String::from_utf8(get(&up.url("metrics"))?).ok()?;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    };
    // Another program takes all the room, again and again: the reserve pays for the entry about it, and is filled too.
    let ballast = data.join("ballast");
    eventually("the journal to refuse", || {
        let fill = format!("of={}", ballast.display());
        drop(command("dd").args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc", &fill]).output());
        (figure("garant_journal_fault")? > 0).then_some(())
    });
    let acknowledged = figure("garant_journal_entries_total").expect("a size");
    assert!(up.status()["revision"].is_string(), "the pages are still served");
    std::fs::remove_file(&ballast).expect("removed");
    eventually("writing to go on", || (figure("garant_journal_fault")? == 0).then_some(()));
    eventually("what was seen meanwhile to be written", || {
        (figure("garant_journal_entries_total")? > acknowledged + 2).then_some(())
    });
    let folder = up.stop();
    verified(folder.path(), &[remembered]);
    // An entry for the team says from when to when nothing was recorded, and why.
    let envelopes = all_envelopes(&folder.path().join("data"));
    assert!(envelopes.len() as u64 > acknowledged, "what was acknowledged is there, and can be read");
    let faults: Vec<StorageFault> =
        envelopes.iter().filter_map(Envelope::body::<StorageFault>).map(|body| body.expect("read")).collect();
    for fault in &faults {
        assert!(fault.reason.contains("full") || fault.reason.contains("No space"), "{fault:?}");
    }
    let pairs: Vec<_> = faults.chunks(2).collect();
    assert!(!pairs.is_empty(), "{} is not in the log", StorageFault::KIND.name);
    for pair in pairs {
        let [open, over] = pair else { panic!("a fault that did not end: {faults:?}") };
        assert!(!open.over && over.over && open.since == over.since, "{faults:?}");
    }
    drop(unmount);
}

/// Unmounts the folder when it is dropped.
pub(crate) struct Unmount(pub(crate) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(command("umount").arg("-l").arg(&self.0).status());
    }
}
