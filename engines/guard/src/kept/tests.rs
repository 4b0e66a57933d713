//! JO-1: whatever becomes of jails, of their logs and of the process, each line counts once for each jail that reads its log.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use drawn::Draws;
use event::{Clock, Monotonic, Zone};
use serde_json::json;

use super::*;
use crate::act::{Bans, History};
use crate::config::Desired;
use crate::plan::Plan;
use crate::source::{JournalBatch, JournalLine, Position, Positions};
use crate::stream::Stream;

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

const LOGS: [&str; 2] = ["web.log", "app.log"];

/// The settings of a jail.
#[derive(Clone, Copy, PartialEq, Debug)]
struct JailOf {
    is_enabled: bool,
    hours: u32,
    /// Which of [`LOGS`] it reads; a pattern stands for both.
    logs: &'static str,
}

const WHOLE: JailOf = JailOf { is_enabled: true, hours: 1, logs: "@/web.log\n          @/app.log" };

/// A host on which jails count failures.
struct Host {
    folder: tempfile::TempDir,
    clock: Hand,
    history: History,
    jails: [JailOf; 3],
    streams: Vec<Stream>,
    left: Vec<StreamState>,
    kept: Kept,
    journaled: BTreeMap<String, u64>,
    written: u64,
}

impl Host {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Hand::default());
        for (name, text) in [
            ("jail.conf", "[DEFAULT]\nbackend = auto\nmaxretry = 1000000\nbantime = 60\nfilter = web\naction =\n"),
            ("filter.d/web.conf", "[Definition]\nfailregex = ^ from <HOST>: line \\d+$\n"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let (bans, _) =
            Bans::open(folder.path(), "boot", Span::from_days(30), clock.now(), clock.monotonic()).expect("bans");
        let history = History::of(Arc::new(Mutex::new(bans)));
        let mut host = Self {
            folder,
            clock,
            history,
            jails: [WHOLE; 3],
            streams: Vec::new(),
            left: Vec::new(),
            kept: Kept::default(),
            journaled: BTreeMap::new(),
            written: 0,
        };
        host.write_all();
        host.begin();
        host.look();
        host.end();
        host.begin();
        host
    }

    fn write_all(&mut self) {
        for log in LOGS {
            self.write(log);
        }
    }

    fn write(&mut self, log: &str) {
        let date = Zone::UTC.rfc3339(self.clock.now());
        let date = date.get(..19).expect("a date");
        let path = self.folder.path().join(log);
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the log");
        self.written += 1;
        file.write_all(format!("{date}+00:00 from 192.0.2.1: line {}\n", self.written).as_bytes()).expect("written");
    }

    /// A session, which goes on from what was kept.
    fn begin(&mut self) {
        let at = self.folder.path();
        let text = |(number, JailOf { is_enabled, hours, logs }): (usize, &JailOf)| {
            format!("[jail{number}]\nenabled = {is_enabled}\nfindtime = {hours}h\nlogpath = {logs}\n")
        };
        let text: String = self.jails.iter().enumerate().map(text).collect();
        fs::write(at.join("jail.local"), text.replace('@', at.to_str().expect("UTF-8"))).expect("written");
        self.resume();
    }

    /// A session with the jails that are written down.
    fn resume(&mut self) {
        let at = self.folder.path();
        let settings = serde_json::from_value(json!({
            "probe": "guard", "service": "guard", "fail2ban": at, "allow": [], "simulate": false, "bans_per_minute_max": 300,
            "scans": false, "scan_ban": Span::from_secs(60), "logins_remembered": Span::from_secs(60),
        }));
        let desired = Desired { settings: settings.expect("settings"), revision: "1".to_owned() };
        let now = self.clock.now();
        let plan = Plan::make(&desired, None, now);
        assert_eq!(plan.mistakes, [""; 0]);
        let Resumed { streams, left } = resume(plan.streams, self.kept.streams.clone(), now);
        self.streams =
            streams.into_iter().enumerate().map(|(number, (plan, kept))| Stream::new(number, plan, kept)).collect();
        self.left = left;
    }

    fn look(&mut self) {
        loop {
            let mut has_more = false;
            for stream in &mut self.streams {
                has_more |= stream.look(&self.clock, &self.history, &mut || 0).has_more;
            }
            Stream::join_level(&mut self.streams);
            if !has_more {
                return;
            }
        }
    }

    fn keep(&mut self) {
        let streams = self.streams.iter().map(Stream::state).chain(self.left.iter().cloned()).collect();
        let text = serde_json::to_vec(&Kept { streams, ..Kept::default() }).expect("a value");
        self.kept = serde_json::from_slice(&text).expect("the same");
    }

    /// The end of a session, in order: what was counted is journaled.
    fn end(&mut self) {
        for rule in self.streams.iter_mut().flat_map(|stream| &mut stream.rules) {
            *self.journaled.entry(rule.name.to_string()).or_default() += std::mem::take(&mut rule.failures);
        }
        self.keep();
    }
}

#[test]
fn each_line_counts_once_for_each_jail_whatever_becomes_of_it() {
    let mut draws = Draws::from_environment();
    let rounds: usize = std::env::var("GARANT_TRIALS").map_or(12, |text| text.parse().expect("a number"));
    let (mut apart, mut left) = (0, 0);
    for round in 0..rounds {
        let mut host = Host::new();
        let (mut history, mut rotations) = (Vec::new(), 0);
        for _ in 0..80 {
            let step = draws.below(100_u32);
            history.push(step);
            match step {
                0..40 => host.write(draws.pick(&LOGS)),
                40..55 => host.look(),
                55..60 => host.keep(),
                60..65 => host.begin(),
                65..70 if rotations < 8 => {
                    let log = host.folder.path().join(draws.pick(&LOGS));
                    rotations += 1;
                    if log.exists() {
                        fs::rename(&log, Path::new(&format!("{}-{}", log.display(), 100 + history.len())))
                            .expect("rotated");
                    }
                }
                70..75 => _ = host.clock.0.fetch_add(draws.below(20_i64) * 1_000_000, Ordering::Relaxed),
                _ => {
                    host.end();
                    let jail = host.jails.get_mut(draws.below(3_usize)).expect("a jail");
                    match draws.below(4_u32) {
                        0 | 1 => jail.is_enabled = !jail.is_enabled,
                        2 => jail.hours = 1 + draws.below(2_u32),
                        _ => jail.logs = draws.pick(&[WHOLE.logs, "@/web.log", "@/app.log"]),
                    }
                    history.push(1000);
                    host.begin();
                }
            }
            left += host.left.len();
            apart += usize::from(host.streams.len() > 1);
        }
        host.end();
        host.jails = [WHOLE; 3];
        host.begin();
        host.write_all();
        // Until the files that were rotated are given up.
        for _ in 0..3 {
            host.look();
            host.clock.0.fetch_add(61_000_000, Ordering::Relaxed);
        }
        assert_eq!(host.streams.len(), 1, "round {round}: all are at one place: {history:?}");
        host.end();
        let all: Vec<u64> = host.journaled.values().copied().collect();
        assert_eq!(all, [host.written; 3], "round {round}: {history:?}");
    }
    assert!(apart > rounds && left > rounds, "{apart} {left}");
}

/// The same of jails that read the journal of systemd, whichever entries of it they ask for.
#[test]
fn jails_of_the_journal_go_on_behind_their_last_entry() {
    let mut host = Host::new();
    let read = |host: &mut Host, jails: &str| {
        host.end();
        fs::write(host.folder.path().join("jail.local"), format!("[DEFAULT]\nbackend = systemd\n{jails}"))
            .expect("written");
        host.resume();
        host.streams.iter().filter_map(|stream| Some(stream.journal()?.2?.clone())).collect::<Vec<_>>()
    };
    let entry = |host: &mut Host, which: usize, cursor: &str| {
        let (text, time) = (" from 192.0.2.1: line 1".to_owned(), host.clock.now());
        let lines = vec![JournalLine { text, time, in_operation: true, is_of_sshd: false }];
        let batch = JournalBatch { lines, cursor: Some(cursor.to_owned()) };
        let stream = host.streams.get_mut(which).expect("a stream");
        stream.entries(batch, &host.clock, &host.history, &mut || 0);
        Stream::join_level(&mut host.streams);
    };
    let both = "[a]\nenabled = true\n[b]\nenabled = true\n";
    assert_eq!(read(&mut host, both), [""; 0]);
    entry(&mut host, 0, "c1");
    assert_eq!(read(&mut host, "[b]\nenabled = true\n"), ["c1"]);
    entry(&mut host, 0, "c2");
    assert_eq!(read(&mut host, both), ["c1", "c2"]);
    entry(&mut host, 0, "c2");
    assert_eq!(host.streams.len(), 1);
    entry(&mut host, 0, "c3");
    let other = "[a]\nenabled = true\njournalmatch = A=c\n[b]\nenabled = true\njournalmatch = A=b\n";
    assert_eq!(read(&mut host, other), ["c3", "c3"]);
    let elsewhere = "[a]\nenabled = true\nbackend = systemd[journalpath=/elsewhere]\n";
    assert_eq!(read(&mut host, elsewhere), [""; 0]);
    assert_eq!(read(&mut host, both), ["c3"]);
    host.end();
    assert_eq!(["a", "b"].map(|jail| host.journaled.get(jail).copied()), [Some(3); 2]);
}

/// What a rule left is kept for as long as a line of before may count, and within a bound.
#[test]
fn what_is_left_is_bounded_in_age_and_number() {
    let state = |name: &str, files: usize| {
        let text = |n: usize| {
            json!({
                "path": format!("/{name}/{n}"), "place": "current", "device": 1, "inode": n, "offset": 0, "first": null,
                "before": { "length": 0, "sha256": "" }, "within": false, "modified": 0,
            })
        };
        let mut positions = Positions::default();
        positions.files.extend((0..files).map(|n| serde_json::from_value::<Position>(text(n)).expect("a position")));
        let attempts = vec![(name.to_owned(), AttemptsState::default())];
        StreamState { key: name.to_owned(), positions, attempts, ..StreamState::default() }
    };
    let days = |days: i64| Time::from_secs(START / 1_000_000) + Span::from_days(days);
    let names = |left: &[StreamState]| left.iter().map(|state| state.key.clone()).collect::<Vec<_>>();
    let long = StreamState { find_time: Span::from_days(90), ..state("long", 1) };
    let left = resume(Vec::new(), vec![state("short", 1), long, state("nowhere", 0)], days(0)).left;
    assert_eq!(names(&left), ["short", "long"]);
    assert!(left.iter().all(|state| state.left == Some(days(0))));
    let left = resume(Vec::new(), left, days(30)).left;
    assert_eq!(names(&left), ["short", "long"]);
    let left = resume(Vec::new(), left, days(31)).left;
    assert_eq!(names(&left), ["long"]);
    let many = [vec![state("new", LEFT_MAX / 2), state("newer", LEFT_MAX / 2)], left].concat();
    assert_eq!(names(&resume(Vec::new(), many, days(32)).left), ["new", "newer"], "the one that went first goes");
}
