//! Debian's logrotate while failures are written: each counts once, whichever way the log is rotated (JO-1).

use std::path::Path;

use super::bench::{Bench, SSHD, append, ask, banned, failures, folder, ready};
use crate::harness::{eventually, transcript};

/// Rotates the log now.
fn rotate(bench: &Bench, at: &Path) {
    let state = at.join("state");
    let rotated = bench
        .host(&["logrotate", "--force", "--state", state.to_str().expect("UTF-8")])
        .arg(at.join("logrotate.conf"))
        .output()
        .expect("install logrotate");
    assert!(rotated.status.success(), "{}", transcript(&rotated));
}

fn failures_counted(at: &Path) -> u64 {
    ask(at, &["status"]).and_then(|status| status["rules"][0]["failures"].as_u64()).unwrap_or(0)
}

#[test]
fn failures_in_a_log_that_logrotate_rotates_count_once() {
    for how in [
        "create\ncompress",
        "create\ncompress\ndelaycompress",
        "copytruncate\ncompress",
        "copytruncate\ncompress\ndelaycompress",
    ] {
        let bench = Bench::new();
        let folder = folder(SSHD, "bans_per_minute_max = 1000", "");
        let at = folder.path().to_path_buf();
        let log = at.join("auth.log");
        append(&log, "");
        std::fs::write(at.join("logrotate.conf"), format!("{} {{\nrotate 3\n{how}\n}}\n", log.display()))
            .expect("written");
        let up = bench.up(folder);
        ready(&at);
        // Offenders fail three times, each time in another file; bystanders twice.
        let (mut written, mut expected) = (0, Vec::new());
        for round in 0..6 {
            for number in 0..20 {
                let offender = format!("10.97.{}.{number}", 100 + round / 3);
                append(&log, failures(&offender, 1));
                written += 1;
                if round % 3 == 2 {
                    expected.push(format!("{offender} sshd"));
                } else {
                    append(&log, failures(&format!("10.97.{}.{number}", 110 + round / 3), 1));
                    written += 1;
                }
            }
            if how.contains("copytruncate") {
                // What is compressed or truncated before it is read is lost for any reader.
                eventually("the lines to be counted", || (failures_counted(&at) >= written).then_some(()));
            }
            rotate(&bench, &at);
        }
        eventually("the lines to be counted", || (failures_counted(&at) >= written).then_some(()));
        eventually("the offenders to be banned", || (banned(&at).len() >= expected.len()).then_some(()));
        expected.sort();
        assert_eq!((banned(&at), failures_counted(&at)), (expected, written), "{how}");
        assert!(at.join("auth.log.3.gz").exists(), "{how}");
        drop(up.stop());
    }
}
