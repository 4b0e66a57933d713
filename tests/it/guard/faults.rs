//! What is missing on the host and clocks that are wrong: logs are read all the same, and what can't be done is said.

use std::ffi::OsStr;
use std::path::Path;

use super::bench::{
    ATTACKER, Bench, Daemon, OTHER, SSHD, append, ask, banned, done, entries, failures, folder, ready, until_banned,
};
use super::durability::SmallDisk;
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
    // It is installed: bans are in force without a restart.
    done(&["nsenter", "-t", &agent.0.id().to_string(), "-m", "umount", "/usr/sbin"]);
    eventually("bans in force", || (ask(&at, &["status"])?["enforced"] == true).then_some(()));
    append(&at.join("auth.log"), failures(OTHER, 3));
    until_banned(&at, OTHER, "sshd");
    assert_eq!(bench.held(), 1);
    eventually("the end of the finding", || {
        let last = entries(&at, "evidence.found").into_iter().rfind(|found| found["finding"] == "bans-not-enforced")?;
        (last["open"] == false).then_some(())
    });
    drop(up.stop());
    drop(agent);
}

/// What is said to be wrong with this log, once it is.
fn said_of(at: &Path, log: &Path) -> String {
    let log = log.to_str().expect("UTF-8");
    eventually(&format!("a word on {log}"), || {
        let status = ask(at, &["status"])?;
        let found = status["impaired"].as_array()?.iter().find(|impaired| impaired["what"] == log)?.clone();
        found["reason"].as_str().map(ToOwned::to_owned)
    })
}

/// Nothing is wrong any more, and the finding is over.
fn until_well(at: &Path) {
    eventually("an end of what was wrong", || ask(at, &["status"])?["impaired"].as_array()?.is_empty().then_some(()));
    eventually("the end of the finding", || {
        let last = entries(at, "evidence.found").into_iter().rfind(|found| found["finding"] == "logs-unread")?;
        (last["open"] == false).then_some(())
    });
}

#[test]
fn a_log_that_is_a_pipe_closed_or_late_is_said_and_read_as_soon_as_it_can_be() {
    let bench = Bench::new();
    let logs = "@/auth.log\n          @/pipe.log\n          @/closed.log\n          @/late/*/auth.log";
    let folder = folder(&SSHD.replace("@/auth.log", logs), "", "");
    let at = folder.path().to_path_buf();
    let [pipe, closed, late] = ["pipe.log", "closed.log", "late/web/auth.log"].map(|name| at.join(name));
    append(&at.join("auth.log"), "");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    done(&["mkfifo", &text(&pipe)]);
    // The agent has no right of root: what belongs to somebody else and is closed can't be read.
    append(&closed, failures("10.97.70.1", 2));
    done(&["chown", "nobody", &text(&closed)]);
    done(&["chmod", "600", &text(&closed)]);
    let up = bench.up(folder);
    assert_eq!(ready(&at)["enforced"], true);
    // Each is named, with what to do.
    let said = said_of(&at, &pipe);
    assert!(said.contains("no regular file") && said.contains("name a file"), "{said}");
    let said = said_of(&at, &closed);
    assert!(said.contains("permission denied") && said.contains("`adm`"), "{said}");
    eventually("the finding", || {
        let open = |found: &serde_json::Value| found["finding"] == "logs-unread" && found["open"] == true;
        entries(&at, "evidence.found").iter().any(open).then_some(())
    });
    for log in [&pipe, &closed] {
        assert!(up.errors().contains(&text(log)), "{}", up.errors());
    }
    // The others are read meanwhile, also one that appears late in a folder that appears late.
    append(&at.join("auth.log"), failures("10.97.70.2", 3));
    until_banned(&at, "10.97.70.2", "sshd");
    std::fs::create_dir_all(at.join("late/web")).expect("made");
    append(&late, failures("10.97.70.3", 3));
    until_banned(&at, "10.97.70.3", "sshd");

    // Put right, they are read, with what was in them.
    done(&["chmod", "644", &text(&closed)]);
    append(&closed, failures("10.97.70.1", 1));
    until_banned(&at, "10.97.70.1", "sshd");
    std::fs::remove_file(&pipe).expect("removed");
    append(&pipe, failures("10.97.70.4", 3));
    until_banned(&at, "10.97.70.4", "sshd");
    until_well(&at);
    // And wrong once more.
    done(&["chmod", "600", &text(&closed)]);
    std::fs::rename(&pipe, at.join("gone")).expect("renamed");
    done(&["mkfifo", &text(&pipe)]);
    said_of(&at, &pipe);
    drop(up.stop());
}

#[test]
fn a_log_full_of_rubbish_is_read_and_a_pattern_that_runs_away_is_given_up() {
    let bench = Bench::new();
    let runaway =
        "\n[runaway]\nenabled = true\nfilter = runaway\nlogpath = @/runaway.log\nmaxretry = 1\nbackend = auto\n";
    let folder = folder(&(SSHD.to_owned() + runaway), "", "");
    let at = folder.path().to_path_buf();
    std::fs::write(
        at.join("fail2ban/filter.d/runaway.conf"),
        "[Definition]\nfailregex = ^\\s*x: (?P<q>a?)(?:a|aa|a+)+(?:b|bb|b+)+(?P=q)c from <HOST>$\n",
    )
    .expect("written");
    let (log, runaway) = (at.join("auth.log"), at.join("runaway.log"));
    append(&log, "");
    append(&runaway, "");
    let up = bench.up(folder);
    ready(&at);
    // A line of a megabyte, NULs, no UTF-8, an end like that of Windows, and half a line.
    append(&log, failures("10.97.60.2", 1).replace("root", &"x".repeat(1_000_000)));
    append(&log, [&[0_u8; 4096][..], b"\n\xff\xfe\x80 \xc3\x28\n"].concat());
    for (number, name) in [&b"\xff\xfe\x80"[..], b"a\0b", b"caf\xc3\xa9"].into_iter().enumerate() {
        let line = failures("10.97.60.3", 1);
        let (head, tail) = line.split_once("root").expect("a user");
        let end = if number == 1 { tail.replace('\n', "\r\n") } else { tail.to_owned() };
        append(&log, [head.as_bytes(), b"invalid user ", name, end.as_bytes()].concat());
    }
    until_banned(&at, "10.97.60.3", "sshd");
    let line = failures("10.97.60.4", 3);
    let (half, rest) = line.split_at(line.len() - 7);
    append(&log, half);
    append(&log, rest);
    until_banned(&at, "10.97.60.4", "sshd");

    // A pattern that runs away is given up and said; the lines after it are read, by it too.
    let date = super::bench::syslog_date();
    append(&runaway, format!("{date} x: {}{}zc from 10.97.60.5\n", "a".repeat(3000), "b".repeat(3000)));
    eventually("a word on the pattern", || {
        ask(&at, &["status"])?["impaired"].to_string().contains("patterns of runaway").then_some(())
    });
    append(&runaway, format!("{date} x: aabc from 10.97.60.6\n"));
    until_banned(&at, "10.97.60.6", "runaway");
    assert_eq!(banned(&at), ["10.97.60.3 sshd", "10.97.60.4 sshd", "10.97.60.6 runaway"]);
    drop(up.stop());
}

#[test]
fn a_log_that_is_not_there_is_said_and_read_when_it_comes() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    let up = bench.up(folder);
    ready(&at);
    let said = said_of(&at, &log);
    assert!(said.contains("not there") && said.contains("as soon as it is"), "{said}");
    append(&log, failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    until_well(&at);
    drop(up.stop());
}

#[test]
fn an_agent_that_starts_on_a_full_disk_says_so_and_recovers() {
    let bench = Bench::new();
    let folder = folder(SSHD, "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let _ssh = bench.listen(&[22]);
    let disk = SmallDisk::new(&at.join("data.agent"));
    disk.fill();
    let up = bench.up(folder);
    let said = eventually("a word on the disk", || {
        let said = up.errors();
        let full = said.lines().find(|line| line.contains("No space left") || line.contains("disk is full"))?;
        Some(full.to_owned())
    });
    assert!(said.contains("data.agent") && said.contains("free some space"), "{said}");
    eventually("a word on what is followed, and not written", || {
        let said = up.errors();
        said.lines()
            .any(|line| line.contains("the desired state is followed") && line.contains("desired.json"))
            .then_some(())
    });
    append(&log, failures(ATTACKER, 3));
    disk.free();
    until_banned(&at, ATTACKER, "sshd");
    bench.is_dropped(ATTACKER, 22);
    eventually("the ban in the journal", || (entries(&at, "guard.banned").len() == 1).then_some(()));
    until_well(&at);
    let folder = up.stop();
    // Before its folder is removed.
    drop(disk);
    drop(folder);
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
