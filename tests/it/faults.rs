//! Nothing is lost: crash, frozen observer, full disk. Promises BX-1, JO-1.

use std::path::Path;

use crate::harness::{Nginx, Up, command, eventually, folder_with, garant, get, pause, transcript, wall_micros};
use crate::shadow::policy;

fn verified(folder: &Path) {
    let export = folder.join("verified-export");
    drop(std::fs::remove_dir_all(&export));
    let data = folder.join("data");
    let exported = garant(&["log", "export", "--data", data.to_str().expect("UTF-8"), export.to_str().expect("UTF-8")]);
    assert!(exported.status.success(), "{}", transcript(&exported));
    let vkey = std::fs::read_to_string(export.join("vkey")).expect("vkey");
    let verified = garant(&["verify", export.to_str().expect("UTF-8"), "--vkey", vkey.trim()]);
    assert_eq!(verified.status.code(), Some(0), "{}", transcript(&verified));
}

/// Killed at arbitrary instants, it starts again, and whatever had been published is still there and still consistent.
#[test]
fn killed_at_any_instant() {
    let nginx = Nginx::start();
    let mut folder = folder_with(&policy(&nginx));
    let mut published: Vec<Vec<u8>> = Vec::new();
    for round in 0..6 {
        let up = Up::start_in(folder);
        // Instants spread over the life of a second, not over the rounds.
        pause(1.0 + f64::from(round) * 0.37);
        published.extend(get(&up.url("log/checkpoint")));
        folder = up.crash();
    }
    assert!(published.len() >= 4, "checkpoints were published in between");
    verified(folder.path());
    let export = folder.path().join("verified-export");
    let vkey = std::fs::read_to_string(export.join("vkey")).expect("vkey");
    for (round, note) in published.iter().enumerate() {
        let remembered = folder.path().join(format!("remembered-{round}"));
        std::fs::write(&remembered, note).expect("written");
        let since = remembered.to_str().expect("UTF-8");
        let output = garant(&["verify", export.to_str().expect("UTF-8"), "--vkey", vkey.trim(), "--since", since]);
        assert_eq!(output.status.code(), Some(0), "checkpoint {round} is no prefix: {}", transcript(&output));
    }
}

/// An observer that stands still sees nothing: that time is unproven, and nobody is accused.
#[test]
fn a_frozen_observer_accuses_nobody() {
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
    // A sample covers until the next is due, plus a tolerance of a second.
    assert!(length >= to - from - 3_500_000, "{length} µs of {} are missing: {verdict}", to - from);
    assert_ne!(verdict["outcome"], "kept", "no evidence is not a kept promise: {verdict}");
    verified(up.stop().path());
}

/// The disk fills up: the fault itself is journaled, nothing acknowledged is lost, and it goes on when there is room.
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
    eventually("a first checkpoint", || get(&up.url("log/checkpoint")));
    let figure = |name: &str| {
        let metrics = String::from_utf8(get(&up.url("metrics"))?).ok()?;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    // Somebody else takes all the room, again and again: the reserve pays for the entry about it, and is taken too.
    let ballast = data.join("ballast");
    eventually("the journal to refuse", || {
        let fill = format!("of={}", ballast.display());
        drop(command("dd").args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc", &fill]).output());
        (figure("garant_journal_fault")? > 0.0).then_some(())
    });
    let acknowledged = figure("garant_journal_entries_total").expect("a size");
    assert!(up.status()["revision"].is_string(), "the pages are still served");
    std::fs::remove_file(&ballast).expect("removed");
    eventually("writing to go on", || (figure("garant_journal_fault")? < 1.0).then_some(()));
    eventually("what was seen meanwhile to be written", || {
        (figure("garant_journal_entries_total")? > acknowledged + 2.0).then_some(())
    });
    let folder = up.stop();
    verified(folder.path());
    // The fault is told, and that it is over: two entries for the team, so the leaves are all that can be counted here.
    let export = folder.path().join("verified-export/tile/entries");
    let grep = command("grep").args(["-rhoa", "team:debugging"]).arg(export).output().expect("grep runs");
    assert!(String::from_utf8_lossy(&grep.stdout).lines().count() >= 2, "{}", transcript(&grep));
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        drop(command("umount").arg("-l").arg(&self.0).status());
    }
}
