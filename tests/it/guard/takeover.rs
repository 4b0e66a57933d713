//! fail2ban is turned off: its configuration, its bans and its history are taken over from the real one, while it runs and after.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::bench::{
    ATTACKER, Bench, OPERATOR, OTHER, append, ask, banned, entries, failures, folder, guard, ready, until_banned,
};
use crate::harness::{eventually, eventually_within, transcript};
use std::time::Duration;

const JAILS: &str = "
[DEFAULT]
banaction = nftables-multiport
bantime.increment = true
[sshd]
enabled = true
logpath = @/auth.log
maxretry = 3
bantime = 1000
backend = polling
[brief]
enabled = true
filter = sshd
port = 22
logpath = @/brief.log
maxretry = 3
bantime = 6
backend = polling
[web]
enabled = true
filter = nginx-http-auth
logpath = @/error.log
backend = polling
action = touch-it
[spared]
enabled = true
filter = nginx-http-auth
logpath = @/error.log
backend = polling
ignorecommand = /bin/true <ip>
";

/// The real fail2ban-server on the host of the bench, with a configuration, files and a socket of its own.
struct Fail2ban<'a> {
    bench: &'a Bench,
    options: Vec<String>,
    database: String,
}

impl<'a> Fail2ban<'a> {
    fn start(bench: &'a Bench, at: &Path) -> (Self, super::bench::Daemon) {
        let file = |name: &str| at.join(name).to_str().expect("UTF-8").to_owned();
        let [conf, database, sock, pid, said] = ["fail2ban", "f2b.sqlite3", "f2b.sock", "f2b.pid", "f2b.log"].map(file);
        std::fs::write(
            at.join("fail2ban/fail2ban.local"),
            format!("[Definition]\ndbfile = {database}\nlogtarget = {said}\nsocket = {sock}\npidfile = {pid}\n"),
        )
        .expect("written");
        let options = ["-c", &conf, "-s", &sock, "-p", &pid].map(str::to_owned).to_vec();
        let fail2ban = Self { bench, options, database };
        let daemon = bench.daemon(&fail2ban.words("fail2ban-server", &["-f", "start"]));
        eventually("fail2ban to be at work", || fail2ban.client(&["status", "brief"]).status.success().then_some(()));
        (fail2ban, daemon)
    }

    fn words<'b>(&'b self, program: &'b str, arguments: &[&'b str]) -> Vec<&'b str> {
        [program].into_iter().chain(self.options.iter().map(String::as_str)).chain(arguments.iter().copied()).collect()
    }

    fn client(&self, arguments: &[&str]) -> Output {
        let words = self.words("fail2ban-client", arguments);
        self.bench.host(&words).output().expect("install fail2ban")
    }

    fn bans(&self, jail: &str, address: &str) -> bool {
        String::from_utf8_lossy(&self.client(&["status", jail]).stdout).contains(address)
    }

    /// The last ban of the address in its database: when, for how many seconds, and how many there were.
    fn row(&self, jail: &str, address: &str) -> Option<(i64, i64, i64)> {
        let query = format!("select timeofban, bantime, bancount from bips where jail = '{jail}' and ip = '{address}'");
        let text = self.bench.on_host(&["sqlite3", "-cmd", ".timeout 5000", &self.database, &query]);
        let mut numbers = text
            .trim()
            .split('|')
            .filter(|number| !number.is_empty())
            .map(|number| number.parse::<i64>().expect("a number"));
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    }
}

/// The ban of this address by this rule that is in force.
fn ban(at: &Path, address: &str, rule: &str) -> Value {
    let bans = ask(at, &["bans"]).expect("bans");
    let found = bans.as_array().expect("an array").iter().find(|ban| ban["address"] == address && ban["rule"] == rule);
    found.unwrap_or_else(|| panic!("{address} {rule} in {bans}")).clone()
}

/// Seconds since 1970 of a time that garant has written.
fn seconds(bench: &Bench, time: &Value) -> i64 {
    bench.on_host(&["date", "-d", time.as_str().expect("a time"), "+%s"]).trim().parse().expect("a number")
}

/// For how many seconds the kernel still holds this address.
fn left_in_kernel(bench: &Bench, address: &str) -> i64 {
    let listed = bench.on_host(&["nft", "-j", "list", "table", "inet", "garant"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let sets = listed["nftables"].as_array().expect("an array").iter().filter_map(|item| item.get("set"));
    let bans = sets.filter(|set| set["name"].as_str().is_some_and(|name| name.starts_with("ban")));
    let elements = bans.filter_map(|set| set["elem"].as_array()).flatten().map(|element| &element["elem"]);
    let held = elements.filter(|element| element["val"].to_string().contains(&format!("\"{address}\"")));
    held.filter_map(|element| element["expires"].as_i64()).max().unwrap_or_else(|| panic!("{address} is not held"))
}

#[test]
fn fail2ban_is_taken_over_while_it_runs_and_after() {
    let bench = Bench::new();
    let folder = folder(JAILS, "", "");
    let at = folder.path().to_path_buf();
    let (conf, log, brief) = (at.join("fail2ban"), at.join("auth.log"), at.join("brief.log"));
    let conf = conf.to_str().expect("UTF-8");
    std::fs::write(at.join("fail2ban/action.d/touch-it.conf"), "[Definition]\nactionban = touch /tmp/<ip>\n")
        .expect("written");
    for log in [&log, &brief, &at.join("error.log")] {
        append(log, "");
    }
    let _web = bench.listen(&[22, 8080]);
    let (fail2ban, server) = Fail2ban::start(&bench, &at);
    let database = fail2ban.database.clone();

    // One address is banned twice, for 6 and for 12 seconds, which is over before anything is taken over. On a busy machine
    // fail2ban may see a failure when its ban would be over: then it fails again.
    for count in 1..=2 {
        eventually("the ban of fail2ban", || {
            append(&brief, failures(OTHER, 3));
            let banned = || fail2ban.row("brief", OTHER).is_some_and(|(_, _, seen)| seen >= count);
            eventually_within(Duration::from_secs(10), "", || Some(banned())).then_some(())
        });
        eventually("the end of a ban of fail2ban", || (!fail2ban.bans("brief", OTHER)).then_some(()));
    }
    let (_, _, times) = fail2ban.row("brief", OTHER).expect("a row");
    // One is banned by the log, and others by hand: of them garant can know by the database alone.
    append(&log, failures(ATTACKER, 3));
    for address in ["10.97.9.9", "2001:db8:1:2::3", OPERATOR] {
        let ordered = fail2ban.client(&["set", "sshd", "banip", address]);
        assert!(ordered.status.success(), "{}", transcript(&ordered));
    }
    let in_force = [ATTACKER, "10.97.9.9", "2001:db8:1:2::3", OPERATOR];
    let rows = in_force.map(|address| eventually("the row of a ban", || fail2ban.row("sshd", address)));
    eventually("the packet filter of fail2ban", || (bench.reach(ATTACKER, 22, 0.5) != "open").then_some(()));

    // What becomes of it is said, and nothing is done.
    let dry = guard(&at, &["import", conf, "--database", &database, "--dry-run"]);
    let text = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success(), "{}", transcript(&dry));
    let (_, refused) = text.split_once("\nnot taken over:\n").expect("something is refused");
    for part in ["touch /tmp/", "ignorecommand", "jail.local"] {
        assert!(refused.contains(part), "{part} in:\n{text}");
    }
    assert!(text.contains("4 bans are in force, of 5 addresses"), "{text}");

    // Taken over while fail2ban runs: its lines of the last minutes are read by both.
    let up = bench.up(folder);
    let status = ready(&at);
    assert_eq!(status["enforced"], true, "{status}");
    let impaired = status["impaired"].to_string();
    assert!(impaired.contains("jail spared") && impaired.contains("ignorecommand"), "{status}");
    until_banned(&at, ATTACKER, "sshd");
    let import = || -> Value {
        let taken = guard(&at, &["import", conf, "--database", &database, "--json"]);
        assert!(taken.status.success(), "{}", transcript(&taken));
        serde_json::from_slice::<Value>(&taken.stdout).expect("JSON")["bans"].take()
    };
    let report = import();
    assert_eq!((&report["taken"], &report["spared"], &report["ended"]), (&2.into(), &1.into(), &1.into()), "{report}");
    let all = ["10.97.0.66 sshd", "10.97.9.9 sshd", "2001:db8:1:2::/64 sshd"];
    assert_eq!(banned(&at), all);
    for (address, (time, lasts, _)) in ["10.97.0.66", "10.97.9.9", "2001:db8:1:2::/64"].into_iter().zip(rows) {
        let ban = ban(&at, address, "sshd");
        assert_eq!(seconds(&bench, &ban["until"]), time + lasts, "{ban}");
        assert_eq!(ban["count"], 0, "{ban}");
    }
    assert_eq!(bench.held(), 3);
    // The kernel ends them then, too: it tells whole seconds.
    for address in ["10.97.0.66", "10.97.9.9"] {
        let until = seconds(&bench, &ban(&at, address, "sshd")["until"]);
        let now = || bench.on_host(&["date", "+%s"]).trim().parse::<i64>().expect("a number");
        let before = now();
        let left = left_in_kernel(&bench, address);
        assert!((until - now() - 2..=until - before + 2).contains(&left), "{address}: {left} of {}", until - before);
    }

    // fail2ban is switched off, and its own bans go with it: those of garant go on.
    let stopped = fail2ban.client(&["stop"]);
    assert!(stopped.status.success(), "{}", transcript(&stopped));
    drop(server);
    bench.is_dropped(ATTACKER, 22);
    bench.is_open(ATTACKER, 8080);
    bench.is_open(OPERATOR, 22);
    bench.is_open(OTHER, 22);

    // Who comes back was banned by fail2ban before: his ban is as long as fail2ban's would be.
    append(&brief, failures(OTHER, 3));
    let entry = eventually("the ban of who was banned before", || {
        entries(&at, "guard.banned").into_iter().find(|entry| entry["address"] == OTHER)
    });
    assert_eq!((&entry["rule"], &entry["count"]), (&"brief".into(), &times.into()), "{entry}");

    // Once more, after fail2ban: nothing is counted or journaled twice.
    let report = import();
    assert_eq!((&report["taken"], &report["known"]), (&0.into(), &3.into()), "{report}");
    let counts = all.map(|ban_of| {
        let (address, rule) = ban_of.split_once(' ').expect("two words");
        ban(&at, address, rule)["count"].as_u64().expect("a number")
    });
    assert_eq!(counts, [0, 0, 0]);
    let told = |address: &str| entries(&at, "guard.banned").iter().filter(|entry| entry["address"] == address).count();
    for address in ["10.97.0.66", "10.97.9.9", "2001:db8:1:2::/64"] {
        assert_eq!(told(address), 1, "{address}");
    }
    drop(up.stop());
}

/// The agent is started before anything is taken over, and bans by the log whom fail2ban has banned for the third time: the
/// history counts all the same, and the longer ban is kept.
#[test]
fn a_ban_that_was_made_before_the_history_came_gets_its_count_and_its_time() {
    let bench = Bench::new();
    let folder = folder(JAILS, "", "");
    let at = folder.path().to_path_buf();
    append(&at.join("auth.log"), "");
    append(&at.join("error.log"), "");
    append(&at.join("brief.log"), "");
    let database = at.join("f2b.sqlite3").to_str().expect("UTF-8").to_owned();
    let up = bench.up(folder);
    ready(&at);
    append(&at.join("auth.log"), failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    let now = seconds(&bench, &ban(&at, ATTACKER, "sshd")["since"]);
    bench.on_host(&["/usr/bin/python3", "-c", HISTORY, &database, ATTACKER, &now.to_string()]);
    let conf = at.join("fail2ban");
    let taken = guard(&at, &["import", conf.to_str().expect("UTF-8"), "--database", &database]);
    assert!(taken.status.success(), "{}", transcript(&taken));
    let held = ban(&at, ATTACKER, "sshd");
    assert_eq!((&held["count"], seconds(&bench, &held["until"])), (&2.into(), now + 4000), "{held}");
    // Lifted and back, it is the fourth. A failure of the second of the last one would be the same.
    drop(guard(&at, &["unban", ATTACKER]));
    crate::harness::pause(1.1);
    append(&at.join("auth.log"), failures(ATTACKER, 3));
    until_banned(&at, ATTACKER, "sshd");
    let held = ban(&at, ATTACKER, "sshd");
    assert_eq!(held["count"], 3, "{held}");
    drop(up.stop());
}

/// A database of fail2ban with one address that is banned for the third time.
const HISTORY: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript('''CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON);
CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail));''')
row = ('sshd', sys.argv[2], int(sys.argv[3]), 4000, 3, '{}')
db.execute('INSERT INTO bans VALUES(?,?,?,?,?,?)', row)
db.execute('INSERT INTO bips(jail,ip,timeofban,bantime,bancount,data) VALUES(?,?,?,?,?,?)', row)
db.commit()
";
