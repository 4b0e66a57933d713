//! Objectives on bans and on reading: kept, broken and unproven from public entries without an address (NH-1, JO-1).

use std::path::Path;

use serde_json::Value;

use super::bench::{ATTACKER, Bench, SSHD, append, entries, failures, folder, ready, until_banned};
use crate::harness::{disclosed, export, garant, pause, transcript};

const PROMISES: &str = r#"
[[promise]]
id = "NH-1"
text.fr = "Une adresse qui attaque est bannie en 10 secondes au plus."
text.en = "An address that attacks is banned within 10 seconds."
reaction = { service = "guard", to = "offences", within = "10 s", over = "1 d" }
[[promise]]
id = "NH-1.never"
text.fr = "Une adresse qui attaque est bannie en une milliseconde."
text.en = "An address that attacks is banned within a millisecond."
reaction = { service = "guard", to = "offences", within = "1 ms", over = "1 d" }
[[promise]]
id = "JO-1"
text.fr = "Tous les journaux déclarés sont lus."
text.en = "Every declared log is read."
coverage = { service = "guard", at_least = "50 %", over = "1 d" }
"#;

/// The newest verdict on a promise, from the log: the pages are in the namespace of the host.
fn outcome(folder: &Path, promise: &str) -> Option<String> {
    let mut of_promise = entries(folder, "promise.verdict").into_iter().filter(|verdict| verdict["promise"] == promise);
    Some(of_promise.next_back()?["outcome"].as_str()?.to_owned())
}

#[test]
fn reactions_and_coverage_are_judged_without_an_address() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", PROMISES);
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    append(&at.join("auth.log"), failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    // The first minute is judged once it is covered, which a record says a minute after the start.
    for (promise, expected) in [("NH-1.never", "broken"), ("NH-1", "kept"), ("JO-1", "kept")] {
        let is_judged = || outcome(&at, promise).is_some_and(|seen| seen == expected);
        let judged = (0..180).any(|_| {
            let judged = is_judged();
            if !judged {
                pause(1.0);
            }
            judged
        });
        assert!(judged, "{promise} is {:?}, not {expected}", outcome(&at, promise));
    }
    let folder = up.stop();
    let to = folder.path().join("export");
    let key = export(&folder.path().join("data"), &to);
    let text: Vec<String> = disclosed(&to).iter().map(Value::to_string).collect();
    assert!(text.len() > 5);
    for line in &text {
        for private in ["10.97.", "sshd", "auth.log"] {
            assert!(!line.contains(private), "{private} in a public entry: {line}");
        }
    }
    let verified = garant(&["verify".as_ref(), to.as_os_str(), "--vkey".as_ref(), key.as_ref()]);
    assert!(verified.status.success(), "{}", transcript(&verified));
}
