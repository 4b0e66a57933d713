//! Streams that are killed at drawn instants and go on from what was kept, and rules that count bans.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drawn::Draws;
use event::{Clock, Monotonic, Span, Time, Zone};
use ipnet::IpNet;

use super::{Found, MadeBan, Stream, StreamState};
use crate::act::{Ban, Bans, History, Hold, Origin, Ports};
use crate::config::{Desired, Settings};
use crate::login::Login;
use crate::plan::Plan;
use crate::run::{answered, left};

/// 2026-11-29 10:00:00 UTC.
const START: i64 = 1_795_946_400_000_000;

/// A clock that a test sets.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Time {
        Time::from_micros(START + self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed))
    }
}

/// The installed configuration with these jails alone.
fn configured(folder: &Path, jails: &str) -> Desired {
    for name in ["filter.d", "action.d", "jail.conf", "paths-debian.conf", "paths-common.conf"] {
        let installed = Path::new("/etc/fail2ban").join(name);
        assert!(installed.exists(), "{} is missing: apt-get install fail2ban", installed.display());
        symlink(installed, folder.join(name)).expect("a link");
    }
    fs::write(folder.join("jail.local"), jails).expect("jails");
    let settings = Settings {
        probe: "guard".parse().expect("a name"),
        service: "guard".parse().expect("a name"),
        fail2ban: Some(folder.to_owned()),
        allow: Vec::new(),
        simulate: false,
        bans_per_minute_max: 1000,
        scans: false,
        scan_ban: Span::from_secs(3600),
        logins_remembered: Span::from_days(30),
        scenarios: Vec::new(),
        failures: 5,
        within: Span::from_secs(600),
        ban: Span::from_secs(600),
        on_ban: None,
        lists: Vec::new(),
    };
    Desired { revision: "1".to_owned(), settings }
}

/// A stream, and the bans that are made of its offences as the engine makes them.
struct Process {
    stream: Stream,
    kept: StreamState,
    bans: Arc<Mutex<Bans>>,
    made: Vec<(IpNet, String, Time)>,
    _folder: tempfile::TempDir,
}

impl Process {
    fn new(desired: &Desired, clock: &Hand) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = Bans::open(folder.path(), "boot", Span::from_days(30), clock.now(), clock.monotonic());
        let stream = stream(desired, clock, None);
        let (bans, _) = opened.expect("bans");
        let bans = Arc::new(Mutex::new(bans));
        Self { kept: stream.state(), stream, bans, made: Vec::new(), _folder: folder }
    }

    fn look(&mut self, clock: &Hand) {
        loop {
            let found = self.stream.look(clock, &History::of(Arc::clone(&self.bans)), &mut || 0);
            let has_more = found.has_more;
            self.act(found, clock);
            if !has_more {
                return;
            }
        }
    }

    fn act(&mut self, found: Found, clock: &Hand) {
        let now = clock.now();
        let mut bans = self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        bans.expire(now);
        for offence in found.offences {
            let left = left(&offence, now);
            let until = left.map(|left| now + left);
            if left.is_some_and(|left| left <= Span::ZERO) || answered(&bans, &offence, until, now) {
                continue;
            }
            let (network, rule) = (offence.network, offence.rule.to_string());
            let key = crate::act::BanKey { network, rule: rule.clone() };
            let current = bans.get(&key).cloned();
            let count = current.as_ref().map_or_else(|| bans.past(&key).map_or(0, |past| past.count), |ban| ban.count);
            let since = current.map_or(offence.at, |ban| ban.since);
            let (hold, origin) = (Hold { network, ports: Ports::All }, Origin::Detected);
            bans.add(vec![Ban {
                network,
                rule: rule.clone(),
                hold,
                since,
                until,
                count,
                uncounted: false,
                origin,
                event: None,
            }])
            .expect("written");
            self.made.push((network, rule, offence.at));
        }
    }

    fn keep(&mut self) {
        let text = serde_json::to_vec(&self.stream.state()).expect("a value");
        self.kept = serde_json::from_slice(&text).expect("the same");
    }

    fn kill(&mut self, desired: &Desired, clock: &Hand) {
        self.stream = stream(desired, clock, Some(self.kept.clone()));
    }
}

fn stream(desired: &Desired, clock: &Hand, kept: Option<StreamState>) -> Stream {
    let mut plan = Plan::make(desired, None, clock.now());
    assert_eq!((plan.impaired.as_slice(), plan.streams.len()), (&[][..], 1), "jails of one stream");
    Stream::new(0, plan.streams.remove(0), kept.unwrap_or_default())
}

/// JO-1 and NH-1: whatever instant it is killed at, a line counts once: the same bans are made, each once, as when it is not
/// killed.
#[test]
fn killed_at_any_instant_the_same_bans_are_made_once() {
    let mut draws = Draws::from_environment();
    let rounds: usize = std::env::var("GARANT_TRIALS").map_or(8, |text| text.parse().expect("a number"));
    let (mut bans, mut kills) = (0, 0);
    for round in 0..rounds {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("auth.log");
        let common = format!("enabled = true\nlogpath = {}\nbackend = polling\nfindtime = 1d\n", log.display());
        let desired = configured(
            folder.path(),
            &format!(
                "[sshd]\n{common}maxretry = {}\nbantime = 40\nbantime.increment = true\n[again]\n{common}filter = sshd\n\
                 maxretry = {}\nbantime = 1h\n",
                1 + draws.below(4_u32),
                1 + draws.below(6_u32)
            ),
        );
        let clock = Hand::default();
        let (mut whole, mut killed) = (Process::new(&desired, &clock), Process::new(&desired, &clock));
        let mut history = Vec::new();
        for _ in 0..120 {
            let step = draws.below(100_u32);
            history.push(step);
            match step {
                0..45 => {
                    let zone = Zone::UTC;
                    let date = zone.rfc3339(clock.now());
                    let date = date.get(..19).expect("a date").to_owned();
                    let mut file = OpenOptions::new().append(true).create(true).open(&log).expect("the log");
                    for _ in 0..draws.below(4_u32) {
                        let address = draws.below(4_u32);
                        let line = format!(
                            "{date}+00:00 host sshd[{}]: Failed password for root from 192.0.2.{address} port 4711 ssh2\n",
                            draws.below(5_u32)
                        );
                        file.write_all(line.as_bytes()).expect("written");
                    }
                }
                45..60 => {
                    clock.0.fetch_add(draws.below(8_i64) * 1_000_000, Ordering::Relaxed);
                    whole.look(&clock);
                    killed.look(&clock);
                }
                60..72 => {
                    whole.look(&clock);
                    killed.look(&clock);
                    killed.keep();
                }
                72..86 => {
                    kills += 1;
                    if draws.chance(50) {
                        whole.look(&clock);
                        killed.look(&clock);
                    }
                    killed.kill(&desired, &clock);
                }
                86..94 if log.exists() => {
                    // What is read again is of one rotation: the order of more of them is that of their times of change.
                    whole.look(&clock);
                    killed.look(&clock);
                    killed.keep();
                    fs::rename(&log, folder.path().join(format!("auth.log-{}", history.len()))).expect("rotated");
                }
                _ => _ = clock.0.fetch_add(1_000_000, Ordering::Relaxed),
            }
        }
        whole.look(&clock);
        killed.look(&clock);
        let settled = |process: &Process| {
            let bans = process.bans.lock().unwrap_or_else(PoisonError::into_inner);
            let bans = bans.iter().map(|ban| (ban.key(), ban.since, ban.until, ban.count));
            (process.made.clone(), bans.collect::<Vec<_>>())
        };
        assert_eq!(settled(&whole), settled(&killed), "round {round}: {history:?}");
        bans += whole.made.len();
    }
    assert!(bans > rounds * 3 && kills > rounds, "{bans} bans, {kills} kills");
}

/// Lines of logins that are caught up with are of their own dates, and there with the failures behind them, not after; none of a file
/// is certain to be sshd's.
#[test]
fn logins_written_while_nothing_ran_count_at_their_own_dates() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("auth.log");
    let jail = format!("[sshd]\nenabled = true\nlogpath = {}\nbackend = polling\nmaxretry = 2\n", log.display());
    let desired = configured(folder.path(), &jail);
    let clock = Hand::default();
    let date = |before: i64| {
        let date = Zone::UTC.rfc3339(clock.now() - Span::from_secs(before));
        date.get(..19).expect("a date").to_owned() + "+00:00"
    };
    let accepted = |before: i64, by: &str, last: u8| {
        format!("{} host sshd[{last}]: Accepted {by} for root from 198.51.100.{last} port 4711 ssh2: x\n", date(before))
    };
    let failed = |last: u8| {
        format!("{} host sshd[9]: Failed password for root from 198.51.100.{last} port 4712 ssh2\n", date(1)).repeat(2)
    };
    let write = |path: &Path, text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the log");
        file.write_all(text.as_bytes()).expect("written");
        let at = u64::try_from(clock.now().micros()).expect("positive");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_micros(at)).expect("set");
    };
    let days = 86_400;
    let forged = format!("{} host app[8]: sshd[8]: Accepted publickey for a from 6.6.6.6 port 1 ssh2\n", date(60));
    write(
        &log,
        &[
            accepted(3 * days, "publickey", 3),
            accepted(1200, "password", 4),
            forged,
            accepted(300, "publickey", 5),
            accepted(-7200, "publickey", 6),
            failed(5),
        ]
        .concat(),
    );
    let known = |logins: &[(Login, Time)]| {
        assert!(logins.iter().all(|(login, _)| !login.is_certain));
        let mut known: Vec<_> = logins
            .iter()
            .map(|(login, at)| (login.from.to_string(), login.by_key, clock.now().since(*at).secs()))
            .collect();
        known.sort_unstable();
        known
    };
    let expected = |all: &[(u8, bool, i64)]| {
        all.iter().map(|(last, by_key, ago)| (format!("198.51.100.{last}:4711"), *by_key, *ago)).collect::<Vec<_>>()
    };
    let mut process = Process::new(&desired, &clock);
    let history = History::of(Arc::clone(&process.bans));
    let found = process.stream.look(&clock, &history, &mut || 0);
    assert_eq!((known(&found.logins).last().cloned(), found.offences.len()), (expected(&[(5, true, 300)]).pop(), 1));
    // It is killed, and goes on from what was kept.
    process.keep();
    write(&log, &(accepted(70, "publickey", 7) + &failed(7)));
    process.kill(&desired, &clock);
    let found = process.stream.look(&clock, &history, &mut || 0);
    assert_eq!((known(&found.logins), found.offences.len()), (expected(&[(7, true, 70)]), 1));
    // While it runs it may be stopped for hours.
    write(&log, &accepted(5 * 3600, "publickey", 8));
    let found = process.stream.look(&clock, &history, &mut || 0);
    assert_eq!(known(&found.logins), expected(&[(8, true, 5 * 3600)]));
}

/// NH-1: who is banned by other rules again and again is banned by `recidive`, whose own bans do not count.
#[test]
fn recidive_counts_the_bans_of_the_other_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("fail2ban.log");
    let recidive =
        format!("[recidive]\nenabled = true\nbackend = polling\nlogpath = {}\nmaxretry = 3\n", log.display());
    let desired = configured(folder.path(), &recidive);
    let clock = Hand::default();
    let mut process = Process::new(&desired, &clock);
    assert!(process.stream.counts_bans());
    let history = History::of(Arc::clone(&process.bans));
    let banned = |process: &mut Process, address: &str, rule: &str| {
        clock.0.fetch_add(600_000_000, Ordering::Relaxed);
        let network = IpNet::from(address.parse::<std::net::IpAddr>().expect("an address"));
        let (at, until) = (clock.now(), Some(clock.now() + Span::from_secs(60)));
        let ban = MadeBan { network, rule: rule.to_owned(), at, until };
        let found = process.stream.banned(&[ban], clock.now(), &history, &mut || 0);
        found.offences.iter().map(|offence| (offence.network.to_string(), offence.failures)).collect::<Vec<_>>()
    };
    for (address, rule) in [
        ("192.0.2.1", "sshd"),
        ("192.0.2.1", "recidive"),
        ("2001:db8::1", "sshd"),
        ("192.0.2.1", "nginx-http-auth"),
        ("2001:db8::1", "sshd"),
    ] {
        assert_eq!(banned(&mut process, address, rule), [], "{address} {rule}");
    }
    // What fail2ban itself had logged before it was switched off counts too, and so does what was kept.
    process.keep();
    process.kill(&desired, &clock);
    assert_eq!(banned(&mut process, "192.0.2.1", "sshd"), [("192.0.2.1/32".to_owned(), 3)]);
    assert_eq!(banned(&mut process, "2001:db8::1", "sshd"), [("2001:db8::1/128".to_owned(), 3)]);
}

/// A flood from more addresses than are kept is said, for their failures begin anew.
#[test]
fn counts_that_are_forgotten_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("auth.log");
    let jails = format!("[sshd]\nenabled = true\nbackend = polling\nlogpath = {}\nfindtime = 1d\n", log.display());
    let desired = configured(folder.path(), &jails);
    let clock = Hand::default();
    let mut lines = String::new();
    for number in 0..100_050_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let line = format!("Nov 29 10:00:00 h sshd[1]: Failed password for root from 120.{a}.{b}.{c} port 1 ssh2\n");
        lines.push_str(&line);
    }
    fs::write(&log, lines).expect("a log");
    let mut stream = stream(&desired, &clock, None);
    let history = History::of(Process::new(&desired, &clock).bans);
    let (mut forgotten, mut read) = (Vec::new(), 0);
    loop {
        let found = stream.look(&clock, &history, &mut || 0);
        assert!(found.offences.is_empty());
        read += found.lines;
        forgotten.extend(found.forgotten);
        if !found.has_more {
            break;
        }
    }
    assert_eq!(read, 100_050);
    assert!(matches!(&*forgotten, [(rule, addresses)] if &**rule == "sshd" && *addresses > 0), "{forgotten:?}");
}

/// NH-1: what came while the process stood still is banned as fail2ban would, from now on, and no reaction to it is told that is faster
/// than it was.
#[test]
fn an_offence_of_a_standstill_is_as_old_as_its_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("auth.log");
    let jail = format!("[sshd]\nenabled = true\nlogpath = {}\nbackend = polling\nmaxretry = 2\n", log.display());
    let desired = configured(folder.path(), &jail);
    let clock = Hand::default();
    fs::write(&log, "").expect("a log");
    let pass = |seconds: i64| _ = clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    let failed = |last: u8, ago: &[i64]| {
        for ago in ago {
            let date = Zone::UTC.rfc3339(clock.now() - Span::from_secs(*ago));
            let date = date.get(..19).expect("a date");
            let line = format!("{date}+00:00 h sshd[9]: Failed password for root from 192.0.2.{last} port 7 ssh2\n");
            let mut file = OpenOptions::new().append(true).open(&log).expect("the log");
            file.write_all(line.as_bytes()).expect("written");
        }
    };
    let mut process = Process::new(&desired, &clock);
    let history = History::of(Arc::clone(&process.bans));
    // How long ago each offence was: for its ban, and when it was complete.
    let mut offences = || {
        let found = process.stream.look(&clock, &history, &mut || 0);
        let ago = |at: Time| clock.now().since(at).secs();
        found.offences.iter().map(|offence| (ago(offence.at), ago(offence.complete))).collect::<Vec<_>>()
    };
    assert_eq!(offences(), []);
    // A log whose dates are off, and nobody stood still: nobody knows better than that it was now.
    pass(5);
    failed(1, &[3600, 3600]);
    assert_eq!(offences(), [(0, 0)]);
    pass(80);
    failed(2, &[75, 70]);
    failed(3, &[75, 20]);
    failed(4, &[20, 20]);
    // Dates that are off: it came after the look before, and more is not known.
    failed(5, &[3600, 3600]);
    failed(6, &[-7200, -7200]);
    assert_eq!(offences(), [(0, 70), (0, 20), (20, 20), (0, 80), (0, 80)]);
    // The path has no file for long, which is no standstill.
    fs::rename(&log, folder.path().join("auth.log.1")).expect("rotated");
    for _ in 0..30 {
        pass(5);
        assert_eq!(offences(), []);
    }
    fs::write(&log, "").expect("a log");
    failed(7, &[3600, 3600]);
    assert_eq!(offences(), [(0, 0)]);
}
