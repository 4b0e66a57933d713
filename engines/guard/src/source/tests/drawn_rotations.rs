//! Drawn sequences of what writers, rotations and crashes do to a log: each line is read exactly once.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};

use drawn::Draws;

use super::Logs;
use crate::source::{Encoding, Positions, Start, TailLimits};

/// A log with a daemon that writes it, and what was stored of it.
struct World {
    logs: Logs,
    daemon: File,
    appends: bool,
    /// The daemon still writes to a file that was renamed.
    is_behind: bool,
    /// Half of a line was written.
    half: bool,
    written: u64,
    stored: Positions,
    counted: HashMap<String, u32>,
    history: Vec<String>,
}

impl World {
    fn new(draws: &mut Draws) -> Self {
        let pattern = draws.pick(&["a.log", "*.log", "a.log*", "*"]);
        let limits = TailLimits {
            lines_max: draws.pick(&[2, 5, 10_000]),
            bytes_max: draws.pick(&[64, 1000, 1_000_000]),
            ..TailLimits::default()
        };
        let logs = Logs::starting(pattern, Start::Beginning, limits);
        let appends = draws.chance(70);
        let mut world = Self {
            daemon: Self::open(&logs, appends),
            logs,
            appends,
            is_behind: false,
            half: false,
            written: 0,
            stored: Positions::default(),
            counted: HashMap::new(),
            history: vec![format!("{pattern} {} {} appends={appends}", limits.lines_max, limits.bytes_max)],
        };
        world.catch_up();
        world
    }

    fn open(logs: &Logs, appends: bool) -> File {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).append(appends).write(true);
        let mut file = options.open(logs.path("a.log")).expect("a log");
        file.seek(SeekFrom::End(0)).expect("its end");
        file
    }

    fn write(&mut self, lines: u64) {
        self.finish_half();
        for _ in 0..lines {
            self.written += 1;
            let padding = "p".repeat(usize::try_from(self.written % 90).expect("small"));
            let end = if self.written.is_multiple_of(7) { "\r\n" } else { "\n" };
            let text = format!("line {} {padding}{end}", self.written);
            self.daemon.write_all(text.as_bytes()).expect("written");
        }
    }

    fn write_half(&mut self) {
        self.finish_half();
        self.written += 1;
        self.daemon.write_all(format!("line {} half and ", self.written).as_bytes()).expect("written");
        self.half = true;
    }

    fn finish_half(&mut self) {
        if std::mem::take(&mut self.half) {
            self.daemon.write_all(b"half\n").expect("written");
        }
    }

    /// Looks once, or as often as there is something.
    fn look(&mut self, until_empty: bool) -> Vec<String> {
        self.logs.tail.expand_again();
        let mut lines = Vec::new();
        loop {
            let batch = self.logs.batch();
            lines.extend(batch.lines().map(|line| Encoding::Utf8.decode(line.bytes).into_owned()));
            if !until_empty || !batch.has_more() {
                return lines;
            }
        }
    }

    /// What was made of the lines, and the positions, in one write.
    fn commit(&mut self, lines: Vec<String>) {
        for line in lines {
            *self.counted.entry(line).or_default() += 1;
        }
        self.stored = self.logs.tail.positions();
    }

    fn look_and_commit(&mut self, until_empty: bool) {
        let lines = self.look(until_empty);
        self.commit(lines);
    }

    fn catch_up(&mut self) {
        self.look_and_commit(true);
    }

    fn crash(&mut self) {
        let stored = self.stored.clone();
        self.logs.crash(&stored);
    }

    /// The daemon opens its log again (a hang-up).
    fn reopen(&mut self) {
        self.finish_half();
        self.daemon = Self::open(&self.logs, self.appends);
        self.is_behind = false;
    }

    /// The numbers of a rotation move on.
    fn shift(&self) {
        for n in (1..30).rev() {
            let from = self.logs.path(&format!("a.log.{n}"));
            if from.exists() {
                fs::rename(from, self.logs.path(&format!("a.log.{}", n + 1))).expect("renamed");
            }
        }
    }

    fn step(&mut self, draws: &mut Draws) {
        let step = draws.below(100);
        self.history.push(format!("{}:{step}", self.written));
        match step {
            0..30 => self.write(draws.below(12)),
            30..35 => self.write_half(),
            35..55 => self.look_and_commit(draws.chance(50)),
            // Killed behind a look and before it was stored.
            55..62 => {
                self.look(draws.chance(50));
                self.crash();
            }
            62..67 => self.crash(),
            67..79 => {
                // `create`: a daemon goes on writing to the old one until it is told.
                if self.is_behind {
                    self.reopen();
                }
                self.shift();
                fs::rename(self.logs.path("a.log"), self.logs.path("a.log.1")).expect("renamed");
                self.is_behind = true;
                if draws.chance(30) {
                    self.look_and_commit(draws.chance(50));
                }
                if draws.chance(70) {
                    File::create(self.logs.path("a.log")).expect("created");
                }
                if draws.chance(50) {
                    self.reopen();
                }
            }
            79..84 => self.reopen(),
            84..91 => {
                // `copytruncate`. What is written between copy and truncation is lost by its nature: nothing is.
                self.reopen();
                // A copy is known by what was read of it: something must have been.
                self.write(1);
                self.catch_up();
                self.write(draws.below(5));
                self.shift();
                fs::copy(self.logs.path("a.log"), self.logs.path("a.log.1")).expect("copied");
                if draws.chance(30) {
                    self.look_and_commit(draws.chance(50));
                }
                // What was read in between is not lost. With a hole at the start, it is not seen that the copy is an older one.
                if self.appends && draws.chance(30) {
                    self.write(1 + draws.below(3));
                    self.catch_up();
                }
                if draws.chance(20) {
                    self.crash();
                }
                self.daemon.set_len(0).expect("truncated");
            }
            91..96 => {
                // A truncation without a copy: only of what was read.
                self.reopen();
                self.catch_up();
                self.daemon.set_len(0).expect("truncated");
            }
            _ => {
                // Old files are closed, compressed and deleted.
                self.reopen();
                for _ in 0..3 {
                    self.catch_up();
                    self.logs.clock.pass(100);
                }
                for n in 3..40 {
                    let path = self.logs.path(&format!("a.log.{n}"));
                    if path.exists() {
                        fs::rename(&path, self.logs.path(&format!("a.log.{n}.gz"))).expect("compressed");
                    }
                }
            }
        }
    }

    fn check(mut self, round: usize) {
        self.reopen();
        for _ in 0..3 {
            self.catch_up();
            self.logs.clock.pass(100);
        }
        let history = self.history.join(" ");
        let missed = (1..=self.written).filter(|number| {
            let start = format!("line {number} ");
            !self.counted.keys().any(|line| line.starts_with(&start))
        });
        let missed: Vec<u64> = missed.collect();
        assert!(missed.is_empty(), "missed {missed:?} of {}; round {round}: {history}", self.written);
        let twice = self.counted.iter().filter(|(_, times)| **times != 1);
        let mut twice: Vec<u64> = twice.filter_map(|(line, _)| line.split(' ').nth(1)?.parse().ok()).collect();
        twice.sort_unstable();
        assert!(twice.is_empty(), "read more than once: {twice:?}; round {round}: {history}");
        assert_eq!(self.counted.len() as u64, self.written, "torn lines; round {round}: {history}");
    }
}

/// Runs `rounds` drawn lives of a log, of `steps` steps each: for the tests some, for a campaign as many as you like.
fn each_line_is_read_once(rounds: usize, steps: usize) {
    let mut draws = Draws::from_environment();
    for round in 0..rounds {
        let mut own = Draws::of(draws.number());
        let mut world = World::new(&mut own);
        for _ in 0..steps {
            world.step(&mut own);
        }
        world.check(round);
    }
}

#[test]
fn whatever_happens_to_a_log_each_line_is_read_once() {
    let rounds = std::env::var("GARANT_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    each_line_is_read_once(rounds, 60);
}
