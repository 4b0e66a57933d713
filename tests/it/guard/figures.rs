//! The figures of the guard in `/metrics` of the server, beside what its status says (NH-1, JO-1).

use super::bench::{ATTACKER, Bench, SSHD, append, ask, failures, folder, ready, until_banned};
use crate::harness::eventually;

#[test]
fn the_server_shows_how_the_guard_is_doing() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    append(&at.join("auth.log"), failures(ATTACKER, 4));
    until_banned(&at, ATTACKER, "sshd");
    let ask_again = format!("import urllib.request as r; print(r.urlopen('{}metrics').read().decode())", up.team);
    // The agent tells its server every ten seconds.
    let text = eventually("the ban in /metrics", || {
        let text = bench.on_host(&["python3", "-c", &ask_again]);
        text.contains("\ngarant_guard_bans 1\n").then_some(text)
    });
    let status = ask(&at, &["status"]).expect("it is there");
    for (figure, expected) in [
        ("garant_guard_enforced", 1),
        ("garant_guard_unread", 0),
        ("garant_guard_banned_total", status["bans_since_start"].as_u64().expect("a count")),
        ("garant_guard_lines_total", status["lines"].as_u64().expect("a count")),
        ("garant_guard_failures_total{rule=\"sshd\"}", 4),
        ("garant_guard_offences_total{rule=\"sshd\"}", 1),
    ] {
        assert!(text.contains(&format!("\n{figure} {expected}\n")), "{figure} is not {expected} in {text}");
    }
    assert!(text.contains("# TYPE garant_guard_failures counter"), "{text}");
    assert!(!text.contains(ATTACKER), "no address in {text}");
}
