//! The packet filter belongs to others too: what they hold is left alone, and what they break of ours is mended and said.

use super::bench::{
    ATTACKER, Bench, OPERATOR, OTHER, SSHD, append, ask, banned, entries, failures, folder, guard, ready, until_banned,
};
use crate::harness::{eventually, eventually_within, transcript};
use std::time::Duration;

/// A firewall like that of ufw, and names like those of firewalld and Docker.
const OTHERS: &str = "
table ip filter {
  chain INPUT {
    type filter hook input priority 0; policy drop;
    iifname lo accept
    tcp dport 22 counter accept
    ct state established accept
  }
}
table inet firewalld {
  set garant {
    type ipv4_addr
    elements = { 192.0.2.1 }
  }
  chain filter_INPUT {
    type filter hook input priority 10; policy accept;
    ip saddr @garant drop
  }
}
table ip nat {
  chain DOCKER {
    type nat hook prerouting priority -100; policy accept;
    tcp dport 8080 redirect to :22
  }
}
";

#[test]
fn tables_of_others_are_left_alone_and_a_flush_by_somebody_else_is_mended() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    std::fs::write(at.join("others"), OTHERS).expect("written");
    let file = at.join("others").to_str().expect("UTF-8").to_owned();
    bench.on_host(&["nft", "-f", &file]);
    let theirs = || {
        // Counters count; nothing else of theirs changes.
        ["ip filter", "inet firewalld", "ip nat"].map(|table| {
            bench.on_host(&[&["nft", "-s", "list", "table"], &table.split(' ').collect::<Vec<_>>()[..]].concat())
        })
    };
    let before = theirs();
    let server = "import socket\ns = socket.create_server(('0.0.0.0', 22))\nwhile True: s.accept()[0].close()";
    let _ssh = bench.daemon(&["/usr/bin/python3", "-c", server]);
    eventually("a server behind their firewall", || (bench.reach(OTHER, 22, 1.0) == "open").then_some(()));
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    append(&log, failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    bench.is_dropped(ATTACKER, 22);
    // A port that Docker publishes is covered by a ban of all ports, and our accept opens nothing that theirs closes.
    let ordered = guard(&at, &["ban", ATTACKER]);
    assert!(ordered.status.success(), "{}", transcript(&ordered));
    bench.is_dropped(ATTACKER, 8080);
    assert_eq!(bench.reach(OPERATOR, 8081, 0.5), "dropped", "ufw drops what the allowlist lets pass");
    assert_eq!(theirs(), before);

    // All is flushed, and only ours comes back.
    bench.on_host(&["nft", "flush", "ruleset"]);
    eventually_within(Duration::from_secs(20), "the bans in force again", || {
        (bench.reach(ATTACKER, 22, 0.4) == "dropped").then_some(())
    });
    let tables = bench.on_host(&["nft", "list", "tables"]);
    assert_eq!(tables.trim(), "table inet garant");
    let mended = eventually("the entry", || entries(&at, "guard.mended").pop());
    assert!(mended["what"].as_str().is_some_and(|what| what.contains("table")), "{mended}");
    assert_eq!(bench.held(), 2);
    drop(guard(&at, &["unban", "--all"]));
    assert_eq!((banned(&at).len(), bench.held()), (0, 0));
    drop(up.stop());
    drop(ask(&at, &["status"]));
}
