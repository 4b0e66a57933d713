//! What is missing on the host and clocks that are wrong: logs are read all the same, and what can't be done is said.

use std::ffi::OsStr;
use std::path::Path;

use super::bench::{
    ATTACKER, Bench, Daemon, OTHER, SSHD, append, ask, banned, done, entries, failures, folder, until_banned,
};
use crate::harness::{Up, binary, eventually, faketime, transcript};

/// The part of a policy that names the agent of a unit.
fn unit(at: &Path) -> String {
    format!("[agent]\nsocket = \"{}\"\n", at.join("data.agent/agent.sock").display())
}

/// Starts `garant agent` as a unit would, by these words before it, and `garant up` beside it.
fn with_agent(
    bench: &Bench,
    folder: tempfile::TempDir,
    before: &[&str],
    environment: &[(&str, &OsStr)],
) -> (Daemon, Up) {
    let at = folder.path().to_path_buf();
    let mut text = std::fs::read_to_string(at.join("garant.toml")).expect("a policy");
    text.push_str(&unit(&at));
    std::fs::write(at.join("garant.toml"), text).expect("written");
    let (state, program) = (at.join("data.agent"), binary().to_str().expect("UTF-8").to_owned());
    let arguments = ["agent", "--state", state.to_str().expect("UTF-8")];
    let stderr = std::fs::File::create(at.join("agent.log")).expect("made");
    let mut agent = bench.host(&[before, &[&program], &arguments].concat());
    let agent = agent.envs(environment.iter().copied()).stderr(stderr).spawn().expect("it starts");
    let agent = Daemon(agent);
    eventually("its socket", || super::bench::socket(&at).exists().then_some(()));
    let up = bench.up(folder);
    (agent, up)
}

/// Detection runs and nobody is banned, for a reason that is said.
fn is_unenforced(at: &Path, reason: &str) {
    let status = eventually("the guard to be at work", || ask(at, &["status"]));
    assert_eq!(status["enforced"], false, "{status}");
    append(&at.join("auth.log"), failures(ATTACKER, 3));
    let entry = eventually("the offence", || entries(at, "guard.banned").pop());
    assert_eq!((&entry["address"], &entry["enforced"]), (&ATTACKER.into(), &false.into()), "{entry}");
    assert_eq!(banned(at), Vec::<String>::new());
    let said = ask(at, &["status"]).expect("a status")["impaired"].to_string();
    assert!(said.contains("packet filter") && said.contains(reason), "{said}");
    eventually("the finding", || {
        let open = |found: &serde_json::Value| found["finding"] == "bans-not-enforced" && found["open"] == true;
        entries(at, "evidence.found").iter().any(open).then_some(())
    });
    let ordered = super::bench::guard(at, &["ban", "10.97.9.9"]);
    let words = String::from_utf8_lossy(&ordered.stderr).into_owned();
    assert!(!ordered.status.success() && words.contains(reason), "{}", transcript(&ordered));
}

#[test]
fn without_the_capability_logs_are_read_and_it_is_said_that_nobody_is_banned() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    std::fs::create_dir(at.join("data.agent")).expect("made");
    done(&["chown", "nobody", at.join("data.agent").to_str().expect("UTF-8")]);
    let as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    let (agent, up) = with_agent(&bench, folder, &as_nobody, &[]);
    is_unenforced(&at, "CAP_NET_ADMIN");
    drop(up.stop());
    drop(agent);
}

#[test]
fn without_nft_logs_are_read_and_it_is_said_that_nobody_is_banned() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    // A /usr/sbin without it, for this process alone.
    let hidden = format!(
        "mkdir {0}/sbin && for f in /usr/sbin/*; do case $f in */nft) ;; *) ln -s /hidden/${{f##*/}} {0}/sbin/;; esac; done; \
         mount --bind {0}/sbin /usr/sbin; exec \"$@\"",
        at.display()
    );
    let before = ["unshare", "-m", "--propagation", "private", "sh", "-c", &hidden, "sh"];
    let (agent, up) = with_agent(&bench, folder, &before, &[]);
    is_unenforced(&at, "nft");
    drop(up.stop());
    drop(agent);
}

#[test]
fn a_date_without_a_year_and_a_clock_that_jumps_change_nobodys_ban() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let clock = at.join("clock");
    std::fs::write(&clock, "@2027-01-01 00:00:20").expect("written");
    let (library, zone) = (faketime(), OsStr::new("UTC"));
    let environment = [
        ("LD_PRELOAD", library.as_os_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_os_str()),
        ("FAKETIME_NO_CACHE", OsStr::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ("TZ", zone),
    ];
    let _ssh = bench.listen(&[22]);
    let (agent, up) = with_agent(&bench, folder, &[], &environment);
    eventually("the guard to be at work", || (ask(&at, &["status"])?["enforced"] == true).then_some(()));
    // The last line of the old year and the first ones of the new one are seconds apart.
    let line = |date: &str, port: u16, from: &str| {
        format!("{date} web sshd[812]: Failed password for root from {from} port {port} ssh2\n")
    };
    for (date, port) in [("Dec 31 23:59:50", 1), ("Dec 31 23:59:58", 2), ("Jan  1 00:00:10", 3)] {
        append(&at.join("auth.log"), line(date, port, ATTACKER));
    }
    until_banned(&at, ATTACKER, "sshd");
    let until = |at: &Path| ask(at, &["bans"])?[0]["until"].as_str().map(ToOwned::to_owned);
    assert!(until(&at).is_some_and(|until| until.starts_with("2027-01-01T00:")), "{:?}", until(&at));
    // The clock is set a day on: its ban lasts as long as before, and new failures count.
    std::fs::write(&clock, "@2027-01-02 06:00:00").expect("written");
    eventually("the label to move", || until(&at).filter(|until| until.starts_with("2027-01-02T06:")));
    bench.is_dropped(ATTACKER, 22);
    for port in 1..=3 {
        append(&at.join("auth.log"), line("Jan  2 06:00:01", port, OTHER));
    }
    until_banned(&at, OTHER, "sshd");
    bench.is_dropped(OTHER, 22);
    // And back.
    std::fs::write(&clock, "@2026-12-31 12:00:00").expect("written");
    eventually("the label to move back", || until(&at).filter(|until| until.starts_with("2026-12-31T1")));
    bench.is_dropped(ATTACKER, 22);
    assert_eq!(banned(&at), [format!("{ATTACKER} sshd"), format!("{OTHER} sshd")]);
    drop(up.stop());
    drop(agent);
}
