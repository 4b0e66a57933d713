//! The real logrotate, under a writer that never rests: each line is counted once. `scripts/campaign rotate GB` does gigabytes of it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use drawn::Draws;

use super::{Logs, Notice};

/// Longest text of a line behind its number.
const TEXT_MAX: usize = 160;
const GIGABYTE: u64 = 1_000_000_000;

/// How a log is rotated.
#[derive(Clone, Copy, Debug)]
struct Way {
    copies: bool,
    /// More words of the configuration.
    words: &'static str,
    /// Whether the writer rests from the copy to the truncation, between which a line would be lost for any reader.
    rests: bool,
}

#[derive(Default)]
struct Shared {
    /// Held while lines are written.
    gate: Mutex<()>,
    is_to_rest: AtomicBool,
    written: AtomicUsize,
    bytes: AtomicU64,
    /// How far it may write, in bytes: it is faster than logrotate starts.
    allowed: AtomicU64,
}

/// While it lives, the writer writes nothing.
struct Rest<'a>(&'a Shared, #[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>);

impl<'a> Rest<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.is_to_rest.store(true, Ordering::SeqCst);
        Self(shared, shared.gate.lock().expect("a writer that lives"))
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.is_to_rest.store(false, Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "a writer and a program of real time")]
fn breathe() {
    thread::sleep(Duration::from_micros(300));
}

/// Appends numbered lines until there are `bytes` of them, and opens the log anew when `reopen` appears, as a daemon does when told.
fn write(shared: &Shared, log: &Path, reopen: &Path, bytes: u64, splits: bool) {
    let mut draws = Draws::from_environment();
    let open = || OpenOptions::new().append(true).create(true).open(log).expect("a log");
    let (mut file, mut number, mut text): (File, usize, Vec<u8>) = (open(), 0, Vec::new());
    let padding = "x".repeat(TEXT_MAX);
    while shared.bytes.load(Ordering::SeqCst) < bytes {
        if shared.is_to_rest.load(Ordering::SeqCst)
            || shared.bytes.load(Ordering::SeqCst) >= shared.allowed.load(Ordering::SeqCst)
        {
            breathe();
            continue;
        }
        let held = shared.gate.lock().expect("a reader that lives");
        if reopen.exists() {
            fs::remove_file(reopen).expect("removed");
            file = open();
        }
        text.clear();
        for _ in 0..=draws.below(400) {
            writeln!(text, "{number:012} {}", &padding[..draws.below(TEXT_MAX)]).expect("text");
            number += 1;
        }
        // Half a line is in the file for a moment.
        let half = if splits { draws.below(text.len()) } else { 0 };
        file.write_all(&text[..half]).expect("written");
        file.write_all(&text[half..]).expect("written");
        shared.bytes.fetch_add(text.len() as u64, Ordering::SeqCst);
        shared.written.store(number, Ordering::SeqCst);
        drop(held);
    }
}

/// What was counted of each line, by its number.
#[derive(Default)]
struct Counts(Vec<u8>);

impl Counts {
    fn count(&mut self, line: &[u8]) {
        let number = number_of(line).unwrap_or_else(|| panic!("{:?} is no line", String::from_utf8_lossy(line)));
        if self.0.len() <= number {
            self.0.resize(number + 1, 0);
        }
        self.0[number] += 1;
    }

    fn numbers(&self, wanted: impl Fn(u8) -> bool, written: usize) -> Vec<usize> {
        (0..written).filter(|number| wanted(self.0.get(*number).copied().unwrap_or(0))).collect()
    }
}

fn number_of(line: &[u8]) -> Option<usize> {
    std::str::from_utf8(line.get(..12)?).ok()?.parse().ok()
}

struct Trial {
    logs: Logs,
    counts: Counts,
    shared: Arc<Shared>,
    rotations: u64,
    restarts: u64,
}

impl Trial {
    /// Counts what is new; whether there was anything.
    fn look(&mut self) -> bool {
        let batch = self.logs.batch();
        batch.lines().for_each(|line| self.counts.count(line.bytes));
        !batch.is_empty()
    }

    fn catch_up(&mut self) {
        while self.look() {}
    }
}

#[expect(clippy::disallowed_methods, reason = "the real logrotate")]
fn logrotate(directory: &Path) -> Child {
    let state = directory.join("state");
    std::process::Command::new("logrotate")
        .args(["--force", "--state", state.to_str().expect("UTF-8")])
        .arg(directory.join("logrotate.conf"))
        .stderr(Stdio::inherit())
        .spawn()
        .expect("install logrotate")
}

/// Writes so many bytes of lines while they are rotated each time there are `each` more, and counts. A word on what came of it.
fn rotated(way: Way, bytes: u64, each: u64) -> String {
    let mut trial =
        Trial { logs: Logs::of("a.log"), counts: Counts::default(), shared: Arc::default(), rotations: 0, restarts: 0 };
    let directory = trial.logs.directory.path().to_owned();
    let (log, reopen) = (directory.join("a.log"), directory.join("reopen"));
    let told = format!("create\npostrotate\n touch {}\nendscript", reopen.display());
    let how = if way.copies { "copytruncate" } else { &told };
    let configuration = format!("{} {{\n{how}\n{}\nmissingok\n}}\n", log.display(), way.words);
    fs::write(directory.join("logrotate.conf"), configuration).expect("written");
    let (shared, splits) = (Arc::clone(&trial.shared), way.rests || !way.copies);
    let writer = thread::spawn(move || write(&shared, &log, &reopen, bytes, splits));
    let shared = Arc::clone(&trial.shared);
    let mut rotated_at = 0;
    shared.allowed.store(2 * each, Ordering::SeqCst);
    loop {
        let is_over = writer.is_finished();
        let was_anything = trial.look();
        if is_over && !was_anything {
            break;
        }
        let written = shared.bytes.load(Ordering::SeqCst);
        if written < rotated_at + each {
            if !was_anything {
                breathe();
            }
            continue;
        }
        rotated_at = written;
        shared.allowed.store(written + 2 * each, Ordering::SeqCst);
        let rest = way.rests.then(|| Rest::new(&shared));
        if way.rests {
            trial.catch_up();
        }
        let mut program = logrotate(&directory);
        let status = loop {
            match program.try_wait().expect("a child") {
                Some(status) => break status,
                None if !trial.look() => breathe(),
                None => {}
            }
        };
        assert!(status.success(), "logrotate of {way:?}: {status}");
        trial.rotations += 1;
        drop(rest);
        // The file that is at the path now is opened before the next rotation, and old ones are let go.
        trial.look();
        trial.logs.clock.pass(10);
        if trial.rotations.is_multiple_of(5) {
            let rest = Rest::new(&shared);
            trial.catch_up();
            trial.logs.restart();
            trial.restarts += 1;
            drop(rest);
        }
    }
    writer.join().expect("a writer");
    trial.logs.clock.pass(61);
    trial.logs.tail.expand_again();
    trial.catch_up();
    trial.told(way)
}

impl Trial {
    fn told(self, way: Way) -> String {
        let written = self.shared.written.load(Ordering::SeqCst);
        let twice = self.counts.numbers(|count| count > 1, written);
        let missed = self.counts.numbers(|count| count == 0, written);
        let kept = if way.copies && !way.rests { kept(self.logs.directory.path()) } else { HashSet::new() };
        let counted = written - missed.len();
        let told = format!(
            "{way:?}: {written} lines ({} bytes) in {} rotations and {} restarts: {counted} counted, {} missed, {} twice",
            self.shared.bytes.load(Ordering::SeqCst),
            self.rotations,
            self.restarts,
            missed.len(),
            twice.len()
        );
        assert!(twice.is_empty(), "{told}: {:?}", &twice[..twice.len().min(10)]);
        if way.copies && !way.rests {
            // What no file has was lost by the truncation, and what a file has must have been counted.
            let unread: Vec<_> = missed.iter().filter(|number| kept.contains(number)).collect();
            assert!(unread.is_empty(), "{told}: {:?} are in files", &unread[..unread.len().min(10)]);
            let lost = (0..written).filter(|number| !kept.contains(number)).count();
            return format!("{told}; {lost} are in no file");
        }
        assert!(missed.is_empty(), "{told}: {:?}", &missed[..missed.len().min(10)]);
        let bad = |notice: &&Notice| matches!(notice, Notice::RestGone { .. } | Notice::GivenUp { .. });
        let bad: Vec<_> = self.logs.notices.iter().filter(bad).collect();
        assert!(bad.is_empty() && self.rotations > 3, "{told}: {bad:?}");
        told
    }
}

/// The numbers of all whole lines that are in files. A copy may end in the middle of one: a file system shows a reader a write that is
/// under way, and truncates after it.
fn kept(directory: &Path) -> HashSet<usize> {
    let files = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("a file").path());
    let logs =
        files.filter(|path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("a.log")));
    let lines = logs.flat_map(|path| {
        let text = fs::read(path).expect("a log");
        text.split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .map(number_of)
            .collect::<Vec<_>>()
    });
    lines.flatten().collect()
}

const WAYS: [Way; 4] = [
    Way { copies: false, words: "rotate 4\ncompress", rests: false },
    Way { copies: false, words: "rotate 4\ncompress\ndelaycompress", rests: false },
    Way { copies: true, words: "rotate 4\ncompress", rests: true },
    Way { copies: true, words: "rotate 4\ncompress\ndelaycompress", rests: true },
];

fn told(text: &str) {
    println!("{text}");
}

#[test]
fn logrotate_under_a_writer_loses_no_line_and_has_none_counted_twice() {
    let gigabytes = std::env::var("GARANT_GIGABYTES").ok().map(|text| text.parse::<u64>().expect("a number"));
    let (bytes, each) = gigabytes.map_or((12_000_000, 1_000_000), |gigabytes| (gigabytes * GIGABYTE / 4, 20_000_000));
    for way in WAYS {
        told(&rotated(way, bytes, each));
    }
}

/// A writer that does not rest while its log is copied and truncated: what it writes in between is in no file. Nothing else is missed, and
/// nothing is counted twice.
#[test]
fn what_copytruncate_loses_is_what_no_file_has() {
    told(&rotated(Way { copies: true, words: "rotate 1000", rests: false }, 12_000_000, 1_000_000));
}
