//! The access log: a line for each request, gathered in memory and written a few times a second.
//!
//! A request never waits for a disk. What is gathered has a bound; beyond it lines are lost, counted, and said once. A file that was
//! moved away (logrotate) is opened anew.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::exchange::Outcome;
use crate::message::{Name, Request};
use crate::settings::LogFormat;

/// Most bytes that wait to be written.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request that was answered.
pub(crate) struct Logged<'l> {
    pub(crate) address: IpAddr,
    pub(crate) is_tls: bool,
    pub(crate) request: &'l Request,
    pub(crate) target: &'l str,
    /// The request line of one that was not understood, as far as it was read.
    pub(crate) unread: &'l [u8],
    pub(crate) outcome: &'l Outcome,
    pub(crate) took: Duration,
}

/// Most bytes of a request line that was not understood.
const UNREAD_BYTES_MAX: usize = 256;

/// Lines that wait, of all threads.
#[derive(Default)]
pub(crate) struct AccessLog {
    waiting: Mutex<String>,
    lost: AtomicU64,
}

impl AccessLog {
    /// Adds a line. `time` is the time in the form of the log.
    pub(crate) fn add(&self, logged: &Logged<'_>, format: LogFormat, shortens: bool, time: &str) {
        let mut waiting = self.waiting();
        if waiting.len() > WAITING_BYTES_MAX {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match format {
            LogFormat::Combined => combined(&mut waiting, logged, shortens, time),
            LogFormat::Json => json(&mut waiting, logged, shortens, time),
        }
    }

    /// What waits, and how many lines were lost since the last time.
    pub(crate) fn take(&self) -> (String, u64) {
        let mut waiting = self.waiting();
        let capacity = waiting.len();
        let lines = std::mem::replace(&mut *waiting, String::with_capacity(capacity.min(64 * 1024)));
        (lines, self.lost.swap(0, Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, String> {
        // Nothing that can panic runs under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address as it is logged: whole, or without what tells one customer from another (an IPv4 /24, an IPv6 /48).
pub(crate) fn shown(address: IpAddr, shortens: bool) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) if shortens => IpAddr::V4((address.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(address) if shortens => IpAddr::V6((address.to_bits() >> 80 << 80).into()),
        address => address,
    }
}

/// As Apache and nginx write it: `%h - - [%t] "%r" %>s %b "%{Referer}i" "%{User-agent}i"`.
fn combined(line: &mut String, logged: &Logged<'_>, shortens: bool, time: &str) {
    let Logged { address, request, target, unread, outcome, .. } = logged;
    let version = request.version.word();
    // Writing into memory does not fail.
    _ = write!(line, "{} - - [{time}] \"", shown(*address, shortens));
    if !unread.is_empty() {
        escape(line, unread.get(..UNREAD_BYTES_MAX).unwrap_or(unread));
    } else if request.method.is_empty() || outcome.refused.is_some_and(|_| request.host.is_empty()) {
        line.push('-');
    } else {
        escape(line, request.method.as_bytes());
        line.push(' ');
        escape(line, target.as_bytes());
        _ = write!(line, " {version}");
    }
    _ = write!(line, "\" {} {} \"", outcome.status, outcome.bytes);
    escape(line, request.fields.first(Name::Referer).unwrap_or(b"-"));
    line.push_str("\" \"");
    escape(line, request.fields.first(Name::UserAgent).unwrap_or(b"-"));
    line.push_str("\"\n");
}

/// Printable ASCII as it is, all else as `\xHH`: a line stays one line, and a terminal that shows it obeys nobody.
fn escape(line: &mut String, text: &[u8]) {
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => _ = write!(line, "\\x{byte:02X}"),
            printable => line.push(char::from(*printable)),
        }
    }
}

fn json(line: &mut String, logged: &Logged<'_>, shortens: bool, time: &str) {
    let Logged { address, is_tls, request, target, unread, outcome, took } = logged;
    let text = |name| request.fields.first(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let unread = (!unread.is_empty()).then(|| {
        let mut text = String::new();
        escape(&mut text, unread.get(..UNREAD_BYTES_MAX).unwrap_or(unread));
        text
    });
    let object = serde_json::json!({
        "time": time,
        "address": shown(*address, shortens).to_string(),
        "method": request.method,
        "host": request.host,
        "target": target,
        "line": unread,
        "tls": is_tls,
        "status": outcome.status,
        "bytes": outcome.bytes,
        "took_us": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "upstream": outcome.upstream.map(|address| address.to_string()),
        "tries": outcome.tries,
        "cut": outcome.cut,
        "refused": outcome.refused.map(crate::codec::refusal::Refusal::class),
        "referer": text(Name::Referer),
        "agent": text(Name::UserAgent),
    });
    // Writing into memory does not fail.
    _ = writeln!(line, "{object}");
}

/// The file of the log.
pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes lines to its end; opens it first, where it is not open or was moved away.
    pub(crate) fn write(&mut self, lines: &str) -> io::Result<()> {
        let is_there = |file: &File| -> io::Result<bool> {
            let (open, named) = (file.metadata()?, std::fs::metadata(&self.path)?);
            Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
        };
        if !self.file.as_ref().is_some_and(|file| is_there(file).unwrap_or(false)) {
            use std::os::unix::fs::OpenOptionsExt as _;
            self.file = Some(File::options().create(true).append(true).mode(0o640).open(&self.path)?);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_other_programs_read_and_no_more() {
        let mut request = Request { method: "GET".into(), host: "a".into(), ..Request::default() };
        request.fields.push(b"User-Agent", b"x\"y\x1b[31m\xc3\xa9");
        let outcome = Outcome { status: 200, bytes: 7, ..Outcome::default() };
        let logged = Logged {
            address: "::ffff:192.0.2.77".parse().expect("an address"),
            is_tls: true,
            request: &request,
            target: "/a?b",
            unread: b"",
            outcome: &outcome,
            took: Duration::from_micros(1234),
        };
        let log = AccessLog::default();
        log.add(&logged, LogFormat::Combined, true, "30/Nov/2026:08:00:00 +0000");
        let expected = "192.0.2.0 - - [30/Nov/2026:08:00:00 +0000] \"GET /a?b HTTP/1.1\" 200 7 \"-\" \"x\\x22y\\x1B[31m\\xC3\\xA9\"\n";
        assert_eq!(log.take(), (expected.to_owned(), 0));
        log.add(&logged, LogFormat::Json, false, "now");
        let (line, _) = log.take();
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["address"], "192.0.2.77");
        assert_eq!((line.matches('\n').count(), value["took_us"].as_u64()), (1, Some(1234)));
        let unread = [&b"\x16\x03 \"/"[..], &[b'x'; 300]].concat();
        let refused = Outcome { status: 400, ..Outcome::default() };
        let (request, outcome) = (&Request::default(), &refused);
        log.add(&Logged { unread: &unread, request, outcome, ..logged }, LogFormat::Combined, true, "now");
        let expected = format!("192.0.2.0 - - [now] \"\\x16\\x03 \\x22/{}\" 400 0 \"-\" \"-\"\n", "x".repeat(251));
        assert_eq!(log.take().0, expected, "as far as it was read, and no raw byte");
        assert_eq!(shown("2001:db8:1:2::3".parse().expect("one"), true).to_string(), "2001:db8:1::");
    }

    /// logrotate moves the file away: the next line is in a new one.
    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut file = LogFile::at(path.clone());
        file.write("1\n").expect("written");
        file.write("2\n").expect("written");
        std::fs::rename(&path, folder.path().join("access.log.1")).expect("moved");
        file.write("3\n").expect("written");
        let read = |name| std::fs::read_to_string(folder.path().join(name)).expect("there");
        assert_eq!((read("access.log.1"), read("access.log")), ("1\n2\n".into(), "3\n".into()));
    }
}
