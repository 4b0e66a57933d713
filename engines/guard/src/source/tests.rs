//! Real files, rotated in every way there is, against what was written to them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use event::{Clock, Monotonic, Span, Time};

use super::{Batch, Encoding, Follow, Notice, Positions, Problem, Start, Tail, TailLimits};

mod drawn_rotations;
mod logrotate;

/// A clock that a test sets.
#[derive(Default)]
struct Hand(AtomicI64);

impl Hand {
    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Time {
        Time::from_micros(1_800_000_000_000_000 + self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed))
    }
}

/// A directory of logs, and what follows them.
struct Logs {
    directory: tempfile::TempDir,
    clock: Hand,
    tail: Tail,
    follows: Vec<Follow>,
    limits: TailLimits,
    notices: Vec<Notice>,
}

impl Logs {
    /// Follows `pattern` in a directory of its own, from its beginning.
    fn of(pattern: &str) -> Self {
        Self::starting(pattern, Start::Beginning, TailLimits::default())
    }

    fn starting(pattern: &str, start: Start, limits: TailLimits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pattern = directory.path().join(pattern).display().to_string();
        let follows = vec![Follow { pattern, start }];
        let tail = Tail::new(follows.clone(), limits, &Positions::default());
        Self { directory, clock: Hand::default(), tail, follows, limits, notices: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).expect("a log");
        file.write_all(text.as_ref()).expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("renamed");
    }

    /// Has `log` be written a second after `other`.
    fn is_written_after(&self, log: &str, other: &str) {
        let modified = fs::metadata(self.path(other)).and_then(|other| other.modified()).expect("a time");
        let log = File::open(self.path(log)).expect("a log");
        log.set_modified(modified + Duration::from_secs(1)).expect("its time");
    }

    fn batch(&mut self) -> Batch {
        let batch = self.tail.look(&self.clock, &mut |_, line| time_in(line));
        self.notices.extend(batch.notices.iter().cloned());
        batch
    }

    /// Everything that is new, as text.
    fn read(&mut self) -> Vec<String> {
        self.tail.expand_again();
        let mut lines = Vec::new();
        loop {
            let batch = self.batch();
            lines.extend(batch.lines().map(|line| Encoding::Utf8.decode(line.bytes).into_owned()));
            if !batch.has_more() {
                return lines;
            }
        }
    }

    /// Ends the process at this moment, and starts it from what was stored.
    fn crash(&mut self, stored: &Positions) {
        let text = serde_json::to_string(stored).expect("a value");
        let stored = serde_json::from_str(&text).expect("the same");
        self.tail = Tail::new(self.follows.clone(), self.limits, &stored);
    }

    fn restart(&mut self) {
        let positions = self.tail.positions();
        self.crash(&positions);
    }
}

/// The time in a line of the tests: `@` and seconds.
fn time_in(line: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix('@')?;
    Some(Time::from_secs(text.split(' ').next()?.parse().ok()?))
}

#[test]
fn a_copy_that_ends_before_what_was_read_has_nothing_left() {
    let patterns = ["a.log", "a.log*"].into_iter();
    let cases =
        patterns.flat_map(|pattern| [(pattern, false, 0), (pattern, true, 0), (pattern, false, 9), (pattern, true, 9)]);
    for (pattern, is_stopped, length) in cases {
        let mut logs = Logs::of(pattern);
        logs.write("a.log", "@1 one\n@2 two\n");
        assert_eq!(logs.read(), ["@1 one", "@2 two"]);
        fs::copy(logs.path("a.log"), logs.path("a.log.1")).expect("copied");
        logs.write("a.log", "@3 written while it is copied\n");
        assert_eq!(logs.read(), ["@3 written while it is copied"]);
        File::create(logs.path("a.log")).expect("truncated");
        let four = format!("@4 four, {}", "longer than all that was there before ".repeat(length));
        logs.write("a.log", format!("{four}\n"));
        if is_stopped {
            logs.restart();
        }
        assert_eq!(logs.read(), [four], "{pattern} {length}, stopped meanwhile: {is_stopped}");
        assert!(logs.read().is_empty(), "{pattern} {length}, stopped meanwhile: {is_stopped}");
        logs.clock.pass(100);
        assert!(logs.read().is_empty());
        let is_known = |notice: &Notice| matches!(notice, Notice::Truncated { has_copy: true, .. });
        assert!(logs.notices.iter().any(is_known), "{:?}", logs.notices);
    }
}

#[test]
fn what_is_appended_is_read_once_and_over_a_restart() {
    let mut logs = Logs::of("a.log");
    assert!(logs.read().is_empty(), "a log that is not there yet");
    logs.write("a.log", "one\ntwo\n");
    assert_eq!(logs.read(), ["one", "two"]);
    assert!(logs.read().is_empty());
    logs.write("a.log", "three\n");
    logs.restart();
    assert_eq!(logs.read(), ["three"]);
    logs.restart();
    assert!(logs.read().is_empty());
}

#[test]
fn a_batch_that_was_not_stored_is_read_again() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "one\n");
    logs.read();
    let stored = logs.tail.positions();
    logs.write("a.log", "two\n");
    assert_eq!(logs.read(), ["two"]);
    logs.crash(&stored);
    assert_eq!(logs.read(), ["two"]);
}

#[test]
fn a_line_without_its_end_waits_for_it() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "one\nfrom 192.0.2.1");
    assert_eq!(logs.read(), ["one"]);
    logs.restart();
    logs.clock.pass(3600);
    assert!(logs.read().is_empty());
    logs.write("a.log", "23\n");
    assert_eq!(logs.read(), ["from 192.0.2.123"]);
}

#[test]
fn a_line_without_its_end_is_taken_after_the_time_that_is_set_and_when_its_file_was_rotated() {
    let limits = TailLimits { partial_after: Some(Span::from_secs(5)), ..TailLimits::default() };
    let mut logs = Logs::starting("a.log", Start::Beginning, limits);
    logs.write("a.log", "one");
    assert!(logs.read().is_empty());
    logs.clock.pass(5);
    assert_eq!(logs.read(), ["one"]);
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "one\ntwo");
    assert_eq!(logs.read(), ["one"]);
    logs.rename("a.log", "a.log.1");
    logs.write("a.log", "three\n");
    assert_eq!(logs.read(), ["three"]);
    logs.clock.pass(60);
    assert_eq!(logs.read(), ["two"]);
}

#[test]
fn the_rest_of_a_renamed_log_comes_before_the_new_one() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "1\n");
    assert_eq!(logs.read(), ["1"]);
    logs.write("a.log", "2\n");
    logs.rename("a.log", "a.log.1");
    logs.write("a.log", "3\n");
    assert_eq!(logs.read(), ["2", "3"]);
    // Its daemon was not told yet.
    logs.write("a.log.1", "4\n");
    logs.write("a.log", "5\n");
    assert_eq!(logs.read(), ["4", "5"]);
    logs.write("a.log.1", "6\n");
    logs.restart();
    assert_eq!(logs.read(), ["6"]);
    assert_eq!(logs.notices, [Notice::Rotated { path: logs.path("a.log").display().to_string() }]);
}

#[test]
fn a_log_that_was_rotated_more_than_once_between_two_looks_is_read_whole() {
    for crashes in [false, true] {
        let mut logs = Logs::of("a.log");
        logs.write("a.log", "1\n");
        assert_eq!(logs.read(), ["1"]);
        let stored = logs.tail.positions();
        logs.write("a.log", "2\n");
        for round in 3..6 {
            for (from, to) in [("a.log.2", "a.log.3"), ("a.log.1", "a.log.2"), ("a.log", "a.log.1")] {
                if logs.path(from).exists() {
                    logs.rename(from, to);
                }
            }
            logs.write("a.log", format!("{round}\n"));
        }
        if crashes {
            logs.crash(&stored);
        }
        let mut lines = logs.read();
        assert_eq!((lines.first().map(String::as_str), lines.last().map(String::as_str)), (Some("2"), Some("5")));
        lines.sort();
        assert_eq!(lines, ["2", "3", "4", "5"]);
        logs.restart();
        assert!(logs.read().is_empty());
    }
}

#[test]
fn a_truncated_log_starts_anew_however_large_it_is_by_then() {
    for grown in [
        "short\n",
        "exactly the same size as it was\n",
        "much longer than everything that was in it before this look\n",
    ] {
        let mut logs = Logs::of("a.log");
        logs.write("a.log", "just some line of thirty bytes.\n");
        logs.read();
        File::create(logs.path("a.log")).expect("truncated");
        logs.write("a.log", grown);
        assert_eq!(logs.read(), [grown.trim_end()]);
        let Some(Notice::Truncated { has_copy: false, .. }) = logs.notices.last() else { panic!("{:?}", logs.notices) };
        logs.restart();
        assert!(logs.read().is_empty());
    }
}

#[test]
fn of_a_log_that_was_copied_and_truncated_the_rest_is_read_from_the_copy() {
    for (pattern, crashes) in [("a.log", false), ("a.log", true), ("a.log*", false), ("a.log*", true)] {
        let mut logs = Logs::of(pattern);
        logs.write("a.log", "1\n");
        assert_eq!(logs.read(), ["1"]);
        let stored = logs.tail.positions();
        logs.write("a.log", "2\n");
        fs::copy(logs.path("a.log"), logs.path("a.log.1")).expect("copied");
        if !crashes {
            assert_eq!(logs.read(), ["2"], "the copy is none of its own: {pattern}");
            logs.write("a.log", "lost, between copy and truncation\n");
        }
        File::create(logs.path("a.log")).expect("truncated");
        logs.write("a.log", "3\n");
        if crashes {
            logs.crash(&stored);
        }
        let expected: &[&str] = if crashes { &["2", "3"] } else { &["3"] };
        assert_eq!(logs.read(), expected, "{pattern}");
        logs.clock.pass(100);
        assert!(logs.read().is_empty());
        logs.restart();
        assert!(logs.read().is_empty(), "{pattern}");
    }
}

/// Of a log with a constant first line, or with the hole of a writer that does not append, the start tells nothing.
#[test]
fn a_copy_is_found_beside_an_older_rotated_log_that_starts_alike() {
    for start in [b"# a header\n".to_vec(), vec![0; 300]] {
        for is_stopped in [false, true] {
            let mut logs = Logs::of("a.log");
            logs.write("a.log", [&start[..], b"1\n"].concat());
            logs.read();
            logs.rename("a.log", "a.log.2");
            logs.write("a.log", [&start[..], b"2, which is longer\n"].concat());
            assert_eq!(logs.read().last().map(String::as_str), Some("2, which is longer"));
            // The old one is closed.
            logs.clock.pass(100);
            assert!(logs.read().is_empty());
            logs.write("a.log", "3\n");
            fs::copy(logs.path("a.log"), logs.path("a.log.1")).expect("copied");
            File::create(logs.path("a.log")).expect("truncated");
            logs.write("a.log", "4\n");
            if is_stopped {
                logs.restart();
            }
            assert_eq!(logs.read(), ["3", "4"], "start {start:?}, stopped meanwhile: {is_stopped}");
        }
    }
}

#[test]
fn of_several_copies_the_last_one_has_the_rest() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "1\n");
    assert_eq!(logs.read(), ["1"]);
    logs.write("a.log", "2\n");
    fs::copy(logs.path("a.log"), logs.path("a.log.2")).expect("copied");
    logs.write("a.log", "3\n");
    fs::copy(logs.path("a.log"), logs.path("a.log.1")).expect("copied");
    logs.is_written_after("a.log.1", "a.log.2");
    File::create(logs.path("a.log")).expect("truncated");
    logs.write("a.log", "4\n");
    assert_eq!(logs.read(), ["2", "3", "4"]);
}

#[test]
fn a_log_that_came_and_went_is_read_however_it_starts() {
    for is_stopped in [false, true] {
        let mut logs = Logs::of("a.log");
        logs.write("a.log", "# a header\n1, which is longer\n");
        logs.read();
        logs.rename("a.log", "a.log.2");
        logs.write("a.log.1", "# a header\n2\n");
        logs.is_written_after("a.log.1", "a.log.2");
        logs.write("a.log", "# a header\n3\n");
        if is_stopped {
            logs.restart();
        }
        assert_eq!(logs.read(), ["# a header", "2", "# a header", "3"], "stopped meanwhile: {is_stopped}");
    }
}

#[test]
fn a_writer_that_does_not_append_leaves_a_hole_that_is_no_line() {
    let mut logs = Logs::of("a.log");
    let mut writer = File::create(logs.path("a.log")).expect("a log");
    writer.write_all(&vec![b'x'; 1_000_000]).expect("written");
    writer.write_all(b"\n").expect("written");
    assert_eq!(logs.read().len(), 1);
    OpenOptions::new().write(true).open(logs.path("a.log")).expect("the log").set_len(0).expect("truncated");
    writer.write_all(b"after the hole\n").expect("written");
    assert_eq!(logs.read(), ["after the hole"]);
    writer.write_all(b"next\n").expect("written");
    assert_eq!(logs.read(), ["next"]);
    logs.restart();
    assert!(logs.read().is_empty());
}

#[test]
fn a_deleted_log_is_read_to_its_end_and_an_inode_used_again_is_another_file() {
    let mut logs = Logs::of("a.log");
    for round in 0..20 {
        logs.write("a.log", format!("{round} first\n"));
        assert_eq!(logs.read(), [format!("{round} first")]);
        logs.write("a.log", format!("{round} second\n"));
        fs::remove_file(logs.path("a.log")).expect("deleted");
        let read = logs.read();
        assert_eq!(read, [format!("{round} second")]);
        // Now the inode is free.
        logs.restart();
    }
}

#[test]
fn a_log_written_anew_by_an_editor_goes_on() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", "1\n2\n");
    logs.read();
    fs::copy(logs.path("a.log"), logs.path("other")).expect("copied");
    logs.write("other", "3\n");
    logs.rename("other", "a.log");
    assert_eq!(logs.read(), ["3"]);
    fs::copy(logs.path("a.log"), logs.path("other")).expect("copied");
    logs.rename("other", "a.log");
    logs.restart();
    assert!(logs.read().is_empty());
}

#[test]
fn a_link_that_is_switched_there_and_back_reads_nothing_twice() {
    let mut logs = Logs::of("current.log");
    let link = |logs: &Logs, to: &str| {
        std::os::unix::fs::symlink(logs.path(to), logs.path("new")).expect("linked");
        logs.rename("new", "current.log");
    };
    logs.write("monday", "1\n");
    logs.write("tuesday", "3\n");
    link(&logs, "monday");
    assert_eq!(logs.read(), ["1"]);
    logs.write("monday", "2\n");
    link(&logs, "tuesday");
    assert_eq!(logs.read(), ["2", "3"]);
    for linger in [0, 100] {
        logs.clock.pass(linger);
        logs.read();
        link(&logs, "monday");
        assert!(logs.read().is_empty());
        logs.write("monday", "more\n");
        assert_eq!(logs.read(), ["more"]);
        link(&logs, "tuesday");
        assert!(logs.read().is_empty());
    }
}

#[test]
fn late_files_of_a_pattern_are_read_from_their_start_and_compressed_ones_never() {
    let limits = TailLimits::default();
    let mut logs = Logs::starting("*/access.log*", Start::End, limits);
    fs::create_dir(logs.path("one")).expect("a directory");
    logs.write("one/access.log", "old\n");
    assert!(logs.read().is_empty());
    fs::create_dir(logs.path("two")).expect("a directory");
    logs.write("two/access.log", "");
    logs.write("one/access.log.2.gz", "\u{1f}\u{8b}\n");
    assert!(logs.read().is_empty());
    logs.write("two/access.log", "new\n");
    logs.write("one/access.log", "new too\n");
    let mut lines = logs.read();
    lines.sort();
    assert_eq!(lines, ["new", "new too"]);
    logs.rename("one/access.log", "one/access.log.1");
    logs.write("one/access.log", "newer\n");
    assert_eq!(logs.read(), ["newer"], "the old one under its new name is not read again");
    logs.clock.pass(100);
    assert!(logs.read().is_empty());
    fs::remove_dir_all(logs.path("two")).expect("gone");
    assert!(logs.read().is_empty());
    logs.clock.pass(100);
    assert!(logs.read().is_empty());
    fs::create_dir(logs.path("two")).expect("a directory");
    logs.write("two/access.log", "again\n");
    assert_eq!(logs.read(), ["again"]);
}

#[test]
fn lines_are_what_fail2ban_makes_of_their_bytes() {
    let mut logs = Logs::of("a.log");
    logs.write("a.log", b"crlf\r\n\r\nnul \0 byte\nbad \xff\xc3\xa9 \xe2\x82 utf\n\0\0zeros\nlast\r\r\n");
    assert_eq!(logs.read(), ["crlf", "", "nul \0 byte", "bad \u{fffd}é \u{fffd} utf", "zeros", "last"]);
    assert_eq!(
        Encoding::named("ISO-8859-1").map(|latin| latin.decode(b"caf\xe9\n").into_owned()),
        Ok("café".to_owned())
    );
    assert_eq!(Encoding::Ascii.decode("é".as_bytes()), "\u{fffd}\u{fffd}");
    assert!(Encoding::named("utf-16le").is_err());
}

#[test]
fn a_line_beyond_the_bound_is_cut_and_counted_over_any_number_of_looks() {
    let limits = TailLimits { line_max: 100, ..TailLimits::default() };
    let mut logs = Logs::starting("a.log", Start::Beginning, limits);
    logs.write("a.log", format!("{}\nshort\n", "x".repeat(101)));
    let batch = logs.batch();
    assert_eq!((batch.len(), batch.cut()), (2, 1));
    assert_eq!(batch.lines().map(|line| line.bytes.len()).collect::<Vec<_>>(), [100, 5]);
    for _ in 0..4 {
        logs.write("a.log", "y".repeat(1_000_000));
        logs.read();
        logs.restart();
    }
    logs.write("a.log", "end of it\nnext\n");
    assert_eq!(logs.read(), ["next"]);
}

#[test]
fn a_full_batch_says_so_and_the_next_one_goes_on() {
    let limits = TailLimits { lines_max: 3, ..TailLimits::default() };
    let mut logs = Logs::starting("*.log", Start::Beginning, limits);
    for name in ["a.log", "b.log"] {
        logs.write(name, (0..5).fold(String::new(), |text, n| text + &format!("{name} {n}\n")));
    }
    let sizes: Vec<usize> = (0..5).map(|_| logs.batch().len()).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.iter().max()), (10, Some(&3)));
}

#[test]
fn a_log_seen_for_the_first_time_is_searched_for_where_it_is_recent() {
    let mut logs = Logs::starting("a.log", Start::Since(Span::from_secs(600)), TailLimits::default());
    let now = 1_800_000_000;
    let line = |n| format!("@{} line\n  continued\n", now - 100_000 + n);
    let lines = (0..100_000).fold(String::new(), |text, n| text + &line(n));
    logs.write("a.log", lines);
    let batch = logs.batch();
    assert!(batch.lines().all(|line| !line.in_operation));
    let first = batch.lines().find_map(|line| time_in(line.bytes)).expect("a line");
    let since = Time::from_secs(now).since(first);
    assert!(since >= Span::from_secs(600) && since < Span::from_secs(600 + 64 * 1024 / 20), "{since:?}");
    logs.write("a.log", "@1 x\n");
    let in_operation: Vec<bool> = std::iter::repeat_with(|| logs.batch())
        .take(3)
        .flat_map(|batch| batch.lines().map(|line| line.in_operation).collect::<Vec<_>>())
        .collect();
    assert_eq!(in_operation.last(), Some(&true));
}

#[test]
fn what_cannot_be_read_is_said_once_and_again_when_it_can() {
    let mut logs = Logs::of("a.log");
    fs::create_dir(logs.path("a.log")).expect("a directory");
    for _ in 0..3 {
        assert!(logs.read().is_empty());
    }
    fs::remove_dir(logs.path("a.log")).expect("removed");
    logs.write("a.log", "1\n");
    assert_eq!(logs.read(), ["1"]);
    let path = logs.path("a.log").display().to_string();
    let expected = [Notice::Unreadable { path: path.clone(), problem: Problem::NotRegular }, Notice::Readable { path }];
    assert_eq!(logs.notices, expected);
    let denied = Notice::Unreadable { path: "/var/log/auth.log".to_owned(), problem: Problem::Denied };
    assert!(denied.to_string().contains("group of the log, which is `adm`"), "{denied}");
}

#[test]
fn links_that_lead_in_a_circle_are_named() {
    let mut logs = Logs::of("a.log");
    for (link, to) in [("a.log", "b.log"), ("b.log", "a.log")] {
        std::os::unix::fs::symlink(logs.path(to), logs.path(link)).expect("linked");
    }
    for _ in 0..2 {
        assert!(logs.read().is_empty());
    }
    let path = logs.path("a.log").display().to_string();
    assert_eq!(logs.notices, [Notice::Unreadable { path: path.clone(), problem: Problem::Circle }]);
    let said = logs.notices[0].to_string();
    assert!(said.starts_with(&format!("{path} is not read: symbolic links of its path lead in a circle")), "{said}");
    let failed = Notice::Unreadable { path, problem: Problem::Failed(5) };
    assert!(failed.to_string().contains("answers Input/output error"), "{failed}");
}

#[test]
fn a_directory_that_may_not_be_read_is_said_once_until_it_may() {
    let mut logs = Logs::of("*/a.log");
    let mut said = |refused: &[&str]| {
        let mut batch = Batch::new(&TailLimits::default());
        logs.tail.refuse(refused.iter().map(|path| (*path).to_owned()).collect(), &mut batch);
        batch.notices
    };
    let unreadable = |path: &str| Notice::Unreadable { path: path.to_owned(), problem: Problem::Denied };
    assert_eq!(said(&["/a", "/b"]), [unreadable("/a"), unreadable("/b")]);
    assert_eq!(said(&["/a", "/b"]), []);
    assert_eq!(said(&["/b"]), [Notice::Readable { path: "/a".to_owned() }]);
    assert_eq!(said(&["/a", "/b"]), [unreadable("/a")]);
}

/// JO-1: a log whose file system fails is said once, and to be read again once that has lasted.
#[test]
fn a_log_that_fails_again_and_again_is_said_once() {
    for start in [Start::Beginning, Start::Since(Span::from_secs(600))] {
        let mut logs = Logs::starting("a.log", start, TailLimits::default());
        // Its first page is mapped by nobody: reading it is an I/O error.
        std::os::unix::fs::symlink("/proc/self/mem", logs.path("a.log")).expect("linked");
        for _ in 0..5 {
            assert!(logs.read().is_empty());
            logs.clock.pass(20);
        }
        let path = logs.path("a.log").display().to_string();
        let failed = Notice::Unreadable { path: path.clone(), problem: Problem::Failed(5) };
        assert_eq!(logs.notices, std::slice::from_ref(&failed), "{start:?}");
        fs::remove_file(logs.path("a.log")).expect("removed");
        logs.write("a.log", "1\n");
        let (mut lines, mut waited) = (logs.read(), 0);
        let readable = Notice::Readable { path };
        while !logs.notices.contains(&readable) {
            assert!(waited < 300, "{start:?}: {:?}", logs.notices);
            waited += 10;
            logs.clock.pass(10);
            lines.extend(logs.read());
        }
        assert!(waited >= 60 && lines == ["1"], "{start:?}: {waited} s, {lines:?}");
        let of_reading = |notice: &&Notice| matches!(notice, Notice::Unreadable { .. } | Notice::Readable { .. });
        let said: Vec<Notice> = logs.notices.iter().filter(of_reading).cloned().collect();
        assert_eq!(said, [failed, readable], "{start:?}");
    }
}

/// JO-1: of a pattern with more logs than are followed one thing is said, and no other log waits for it.
#[test]
fn too_many_logs_of_a_pattern_are_said_once_until_they_are_fewer() {
    let mut logs = Logs::starting("*.log", Start::Beginning, TailLimits { paths_max: 2, ..TailLimits::default() });
    for number in 0..9 {
        logs.write(&format!("{number}.log"), "1\n");
    }
    for _ in 0..3 {
        assert!(logs.read().len() <= 2);
    }
    let path = logs.path("*.log").display().to_string();
    assert_eq!(logs.notices, [Notice::TooMany { path: path.clone() }]);
    let said = logs.notices[0].to_string();
    assert!(said.starts_with(&path) && said.contains("more than"), "{said}");
    for number in 2..9 {
        fs::remove_file(logs.path(&format!("{number}.log"))).expect("removed");
    }
    for _ in 0..2 {
        drop(logs.read());
    }
    assert_eq!(logs.notices[1..], [Notice::Readable { path }]);
}

/// JO-1: what can't be read is not said to be read, while the file that was there before is still being finished.
#[test]
fn what_is_not_read_is_not_said_to_be_read() {
    let mut logs = Logs::of("a.log");
    let read = |logs: &Logs| logs.tail.read_paths().count();
    logs.write("a.log", "one\n");
    assert_eq!((logs.read(), read(&logs)), (vec!["one".to_owned()], 1));
    logs.rename("a.log", "a.log.1");
    fs::create_dir(logs.path("a.log")).expect("a directory");
    logs.write("a.log.1", "two\n");
    assert_eq!((logs.read(), read(&logs)), (vec!["two".to_owned()], 0));
    assert!(matches!(&logs.notices[..], [Notice::Unreadable { .. }]), "{:?}", logs.notices);
    fs::remove_dir(logs.path("a.log")).expect("removed");
    logs.write("a.log", "three\n");
    assert_eq!((logs.read(), read(&logs)), (vec!["three".to_owned()], 1));
}

#[test]
fn a_pipe_holds_nothing_up() {
    let mut logs = Logs::of("a.log");
    let path = logs.path("a.log");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o600), 0)
        .expect("a pipe");
    assert!(logs.read().is_empty());
}
