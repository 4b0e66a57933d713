//! The agent of a guarded host is killed, stopped, alone or without disk: nobody is banned by a line that was read twice, nobody spared by
//! one that was missed, and each ban is in the journal once.

use std::collections::BTreeMap;
use std::path::Path;

use super::bench::{
    Bench, OTHER, SSHD, agent, append, ask, banned, done, entries, failures, folder, ready, run, signal, until_banned,
};
use crate::harness::{PATIENCE, eventually, pause, transcript, wall_micros};

/// How often each address was banned, by the journal.
fn journaled(at: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in entries(at, "guard.banned") {
        *counts.entry(entry["address"].as_str().expect("text").to_owned()).or_insert(0) += 1;
    }
    counts
}

fn jail(max_retry: usize) -> String {
    SSHD.replace("maxretry = 3", &format!("maxretry = {max_retry}"))
}

#[test]
fn an_agent_that_is_killed_while_it_reads_counts_each_line_once() {
    let bench = Bench::new();
    let folder = folder(&jail(5), "bans_per_minute_max = 1000", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let up = bench.up(folder);
    ready(&at);
    let mut victim = agent(&at);
    let offender = |number: usize| format!("10.97.10.{number}");
    let bystander = |number: usize| format!("10.97.11.{number}");
    // Each offender fails five times and each bystander four times, all through a time in which the agent is killed again and again.
    for round in 0..5 {
        for number in 0..40 {
            append(&log, failures(&offender(number), 1));
            if round < 4 {
                append(&log, failures(&bystander(number), 1));
            }
            if number % 20 == 7 {
                signal(victim, "KILL");
            }
            if number % 20 == 19 {
                let before = victim;
                victim = eventually("another agent", || Some(agent(&at)).filter(|pid| *pid != before));
            }
        }
    }
    let mut expected: Vec<String> = (0..40).map(|number| format!("{} sshd", offender(number))).collect();
    expected.sort();
    eventually("all offenders to be banned", || (banned(&at).len() >= expected.len()).then_some(()));
    // Whoever counts a line twice bans a bystander, when everything has been read.
    append(&log, failures("10.97.12.1", 5));
    until_banned(&at, "10.97.12.1", "sshd");
    expected.push("10.97.12.1 sshd".to_owned());
    expected.sort();
    assert_eq!(banned(&at), expected);
    assert_eq!(bench.held(), expected.len(), "in the kernel too");
    let once: BTreeMap<String, usize> =
        expected.iter().map(|ban| (ban.trim_end_matches(" sshd").to_owned(), 1)).collect();
    eventually("all bans in the journal", || (journaled(&at).len() == once.len()).then_some(()));
    assert_eq!(journaled(&at), once);
    // Each line is in the counts of the journal once, whichever process has read it. A reload has them told before their minute is over.
    let lines = 5 * 40 + 4 * 40 + 5;
    let counted = || -> u64 {
        entries(&at, "guard.attempts").iter().map(|minute| minute["failures"].as_u64().expect("a number")).sum()
    };
    let reloaded = super::bench::guard(&at, &["reload"]);
    assert!(reloaded.status.success(), "{}", transcript(&reloaded));
    eventually("all lines in the counts of the journal", || (counted() >= lines).then_some(()));
    assert_eq!(counted(), lines);
    drop(up.stop());
}

/// Killed in the instant of a ban, when it is written down and enforced and its event is on its way: the next start journals it, and it is
/// in the journal once whether or not the event had arrived.
#[test]
fn a_ban_of_the_instant_of_a_kill_is_journaled_once() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let up = bench.up(folder);
    ready(&at);
    let bans = eventually("the file of bans", || find(&at.join("data.agent"), "bans.log"));
    let mut victim = agent(&at);
    let mut expected = BTreeMap::new();
    for number in 0..8 {
        let offender = format!("10.97.60.{number}");
        append(&log, failures(&offender, 3));
        // Once before its event is in the spool and once behind it, when the ban is not marked as told yet. No pause: all of it takes
        // milliseconds.
        let is_made = || std::fs::read_to_string(&bans).is_ok_and(|text| text.contains(&format!("\"{offender}/32\"")));
        let is_spooled = || {
            let segments = std::fs::read_dir(at.join("data.agent/spool")).into_iter().flatten().flatten();
            let text = |segment: std::fs::DirEntry| std::fs::read(segment.path()).unwrap_or_default();
            segments.map(text).any(|text| String::from_utf8_lossy(&text).contains(&format!("\"{offender}\"")))
        };
        let is_told = || std::fs::read_to_string(&bans).is_ok_and(|text| text.ends_with("{\"told\":{}}\n"));
        let end = wall_micros() + i64::try_from(PATIENCE.as_micros()).expect("some minutes");
        while !is_made() || (number % 2 == 1 && !is_spooled() && !is_told()) {
            assert!(wall_micros() < end, "{offender} is not banned");
            std::thread::yield_now();
        }
        signal(victim, "KILL");
        let before = victim;
        victim = eventually("another agent", || Some(agent(&at)).filter(|pid| *pid != before));
        expected.insert(offender, 1);
    }
    eventually("all bans in the journal", || (journaled(&at).len() == expected.len()).then_some(()));
    assert_eq!(journaled(&at), expected);
    assert_eq!((banned(&at).len(), bench.held()), (expected.len(), expected.len()));
    drop(up.stop());
}

#[test]
fn an_agent_alone_stopped_or_dead_holds_its_bans_and_tells_of_each_once() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let _ssh = bench.listen(&[22]);
    let up = bench.up(folder);
    ready(&at);
    let pid = agent(&at);
    append(&log, failures("10.97.20.1", 3));
    until_banned(&at, "10.97.20.1", "sshd");

    // Stopped, it reads nothing; bans hold. Continued, it reads what came meanwhile.
    append(&log, failures(OTHER, 2));
    pause(1.2);
    signal(pid, "STOP");
    append(&log, failures(OTHER, 1));
    pause(1.0);
    assert_eq!(bench.held(), 1);
    bench.is_open(OTHER, 22);
    signal(pid, "CONT");
    until_banned(&at, OTHER, "sshd");
    bench.is_dropped(OTHER, 22);

    // Without a server it goes on, and the commands too.
    let folder = up.crash();
    append(&log, failures("10.97.20.3", 3));
    until_banned(&at, "10.97.20.3", "sshd");
    let lifted = super::bench::guard(&at, &["unban", OTHER]);
    assert!(lifted.status.success(), "{}", transcript(&lifted));
    bench.is_open(OTHER, 22);
    let again = super::bench::guard(&at, &["ban", OTHER, "--for", "10 min"]);
    assert!(again.status.success(), "{}", transcript(&again));
    bench.is_dropped(OTHER, 22);

    // Nobody at all is left: the kernel holds them, and lines of that time are read later.
    signal(pid, "KILL");
    eventually("the end of the agent", || (!socket_answers(&at)).then_some(()));
    append(&log, failures("10.97.20.4", 3));
    bench.is_dropped(OTHER, 22);
    assert_eq!(bench.held(), 3);
    let up = bench.up(folder);
    until_banned(&at, "10.97.20.4", "sshd");
    let all = ["10.97.0.67 manual", "10.97.20.1 sshd", "10.97.20.3 sshd", "10.97.20.4 sshd"];
    assert_eq!(banned(&at), all);
    let told = BTreeMap::from([
        (OTHER.to_owned(), 2),
        ("10.97.20.1".to_owned(), 1),
        ("10.97.20.3".to_owned(), 1),
        ("10.97.20.4".to_owned(), 1),
    ]);
    eventually("the bans in the journal", || (journaled(&at) == told).then_some(()));
    let lifted = entries(&at, "guard.unbanned");
    assert_eq!(lifted.len(), 1, "{lifted:?}");
    drop(up.stop());
}

/// That somebody was banned by a rule of which a person is to be told lasts ten minutes, whatever is started anew meanwhile.
#[test]
fn what_somebody_is_told_of_outlives_a_restart() {
    let bench = Bench::new();
    let folder = folder(&jail(3).replace("[sshd]", "[sshd]\naction = %(action_mw)s"), "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let found = || -> Vec<bool> {
        let all = entries(&at, "evidence.found");
        let ours = all.iter().filter(|found| found["finding"] == "offenders-banned");
        ours.map(|found| found["open"] == true).collect()
    };
    append(&at.join("auth.log"), failures("10.97.20.1", 3));
    eventually("the finding", || (found() == [false, true]).then_some(()));
    let up = bench.up(up.stop());
    eventually("the state after a restart", || (found().len() > 2).then_some(()));
    assert!(found()[1..].iter().all(|open| *open), "{:?}", found());
    drop(up.stop());
}

/// Somebody removes the file of the socket while no server runs: a command, and the next server, find the agent that lives.
#[test]
fn a_socket_whose_file_is_removed_is_made_again() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let up = bench.up(folder);
    ready(&at);
    let pid = agent(&at);
    let folder = up.crash();
    std::fs::remove_file(super::bench::socket(&at)).expect("removed");
    ready(&at);
    let up = bench.up(folder);
    append(&at.join("auth.log"), failures("10.97.20.1", 3));
    until_banned(&at, "10.97.20.1", "sshd");
    assert_eq!(agent(&at), pid, "the same agent");
    drop(up.stop());
}

fn socket_answers(at: &Path) -> bool {
    ask(at, &["status"]).is_some()
}

/// A small file system for the state of the agent, unmounted at the end.
pub(super) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub(super) fn new(at: &Path) -> Self {
        std::fs::create_dir(at).expect("made");
        done(&["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", at.to_str().expect("UTF-8")]);
        Self(at.to_owned())
    }

    pub(super) fn fill(&self) {
        drop(run(&["dd", "if=/dev/zero", &format!("of={}/filler", self.0.display()), "bs=4k"]));
    }

    pub(super) fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(run(&["umount", "-l", self.0.to_str().expect("UTF-8")]));
    }
}

#[test]
fn with_a_full_disk_it_goes_on_banning_and_says_so() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let _ssh = bench.listen(&[22]);
    let disk = SmallDisk::new(&at.join("data.agent"));
    let up = bench.up(folder);
    ready(&at);
    append(&log, failures("10.97.30.1", 3));
    until_banned(&at, "10.97.30.1", "sshd");
    eventually("the ban in the journal", || journaled(&at).contains_key("10.97.30.1").then_some(()));

    disk.fill();
    append(&log, failures(OTHER, 3));
    until_banned(&at, OTHER, "sshd");
    bench.is_dropped(OTHER, 22);
    eventually("a word on the disk", || {
        let status = ask(&at, &["status"])?;
        Some(status["impaired"].to_string())
            .filter(|text| text.contains("disk is full") || text.contains("No space left"))
    });
    let ordered = super::bench::guard(&at, &["ban", "10.97.30.5"]);
    assert!(ordered.status.success(), "{}", transcript(&ordered));

    // Killed on the full disk: the kernel still has them, and they are known again.
    signal(agent(&at), "KILL");
    eventually("the agent at work", || ask(&at, &["status"]));
    bench.is_dropped(OTHER, 22);
    disk.free();
    append(&log, failures("10.97.30.3", 3));
    until_banned(&at, "10.97.30.3", "sshd");
    eventually("an end of what was wrong", || {
        (ask(&at, &["status"])?["impaired"].as_array()?.is_empty()).then_some(())
    });
    eventually("the bans in the journal", || {
        let told = journaled(&at);
        ["10.97.30.1", "10.97.30.3", OTHER].iter().all(|address| told.contains_key(*address)).then_some(())
    });
    assert_eq!(bench.held(), 4);
    let folder = up.stop();
    // Before its folder is removed.
    drop(disk);
    drop(folder);
}

/// A database of fail2ban with many bans.
const MANY: &str = "
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
db.executescript('''CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON);
CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail));
CREATE INDEX bips_ip ON bips(ip);''')
now = int(time.time())
rows = [('sshd', '11.%d.%d.%d' % (n >> 16, n >> 8 & 255, n & 255), now - 10, 86400, 1, '{}') for n in range(100000)]
db.executemany('INSERT INTO bans VALUES(?,?,?,?,?,?)', rows)
db.executemany('INSERT INTO bips(jail,ip,timeofban,bantime,bancount,data) VALUES(?,?,?,?,?,?)', rows)
db.commit()
";

#[test]
fn a_hundred_thousand_bans_are_taken_over_and_made_again_at_a_start() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    let database = at.join("f2b.sqlite3").to_str().expect("UTF-8").to_owned();
    done(&["/usr/bin/python3", "-c", MANY, &database]);
    let up = bench.up(folder);
    ready(&at);
    let conf = at.join("fail2ban");
    let taken = super::bench::guard(&at, &["import", conf.to_str().expect("UTF-8"), "--database", &database, "--json"]);
    assert!(taken.status.success(), "{}", transcript(&taken));
    let report: serde_json::Value = serde_json::from_slice(&taken.stdout).expect("JSON");
    assert_eq!(report["bans"]["taken"], 100_000, "{}", report["bans"]);
    assert_eq!(ready(&at)["bans"], 100_000);
    assert_eq!(bench.held(), 100_000);

    // Nothing is left in the kernel, as after a reboot; what `nft` is asked for at the start is one transaction.
    let folder = up.stop();
    bench.on_host(&["nft", "flush", "ruleset"]);
    let mut monitor = bench
        .host(&["nft", "-j", "monitor", "rules"])
        .stdout(std::fs::File::create(at.join("monitor")).expect("made"))
        .spawn()
        .expect("it starts");
    pause(0.3);
    let up = bench.up(folder);
    eventually("the guard to be at work", || (ask(&at, &["status"])?["enforced"] == true).then_some(()));
    assert_eq!(bench.held(), 100_000);
    drop(monitor.kill());
    drop(monitor.wait());
    drop(up.stop());
}

#[test]
fn a_damaged_state_is_said_and_followed_as_far_as_it_goes() {
    let bench = Bench::new();
    let folder = folder(&jail(3), "", "");
    let at = folder.path().to_path_buf();
    let log = at.join("auth.log");
    append(&log, "");
    let up = bench.up(folder);
    ready(&at);
    append(&log, failures("10.97.40.1", 3));
    append(&log, failures("10.97.40.2", 3));
    until_banned(&at, "10.97.40.2", "sshd");
    let folder = up.stop();
    let state = at.join("data.agent");
    let bans = eventually("the file of bans", || find(&state, "bans.log"));
    append(&bans, "half a li");
    std::fs::write(find(&state, "logs.json").expect("positions"), "{").expect("written");
    let up = bench.up(folder);
    ready(&at);
    assert_eq!(banned(&at), ["10.97.40.1 sshd", "10.97.40.2 sshd"]);
    append(&log, failures("10.97.40.3", 3));
    until_banned(&at, "10.97.40.3", "sshd");
    assert!(up.errors().contains("the positions in logs can't be read"), "{}", up.errors());

    drop(up.stop());
}

pub(super) fn find(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let found = run(&["find", folder.to_str().expect("UTF-8"), "-name", name]);
    String::from_utf8_lossy(&found.stdout).lines().next().map(Into::into)
}
