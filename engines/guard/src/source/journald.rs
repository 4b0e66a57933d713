//! The journal of systemd, through `journalctl --output=export --follow`; each entry becomes the line that fail2ban makes of it
//! (`formatJournalEntry` in `server/filtersystemd.py`). The position is the cursor of the last entry.

use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;

use engine::program::{Program, ProgramError, Programs};
use event::{Span, Time};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Encoding;
use super::export::{Entry, ExportParser, FIELDS, NotExport};

/// Most entries of a batch; a few more when they came in one piece.
const ENTRIES_MAX: usize = 1000;
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// Which journal, and which of its entries.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct JournalSettings {
    /// One list for each `journalmatch`, in which `+` stands alone; any of them is enough.
    pub matches: Vec<Vec<String>>,
    /// `journalpath`: another directory than that of the system.
    pub directory: Option<String>,
    /// `journalfiles`: these files and no others.
    pub files: Vec<String>,
    /// `namespace`.
    pub namespace: Option<String>,
    /// All journals and not only that of the system (`journalflags` without `SYSTEM_ONLY`).
    pub all_journals: bool,
    /// Encoding of what is not UTF-8.
    pub encoding: Encoding,
}

/// Why the journal is not read.
#[derive(thiserror::Error, Debug)]
pub enum JournalError {
    /// A match is not one.
    #[error("journalmatch: `{0}` is not understood: write FIELD=value, with + alone between two alternatives")]
    Match(String),
    /// journalctl is missing, can't be started, or failed.
    #[error(
        "the journal is not read: {0}; see that systemd is installed and that the account of the agent is in the group `systemd-journal`"
    )]
    Program(#[from] ProgramError),
    /// It wrote something else.
    #[error(transparent)]
    NotExport(#[from] NotExport),
    /// Its output can't be read.
    #[error("the output of journalctl can't be read: {0}")]
    Broken(std::io::Error),
    /// It ended, which it does not while it follows.
    #[error("journalctl ended; the journal is read again from where it was")]
    Ended,
}

/// One entry of the journal, as a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalLine {
    /// The line, as a filter sees it: without a date.
    pub text: String,
    /// Time of the entry.
    pub time: Time,
    /// It was written after this started to read: before, a filter drops what is older than `findtime`.
    pub in_operation: bool,
    /// A program of root that is called sshd has written it, as journald saw by itself. Other fields are what a program says of itself.
    pub is_of_sshd: bool,
}

/// Entries that came together. What is made of them is committed together with the cursor.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct JournalBatch {
    /// The lines.
    pub lines: Vec<JournalLine>,
    /// Cursor of the last: the position after them.
    pub cursor: Option<String>,
}

type Ended = Pin<Box<dyn Future<Output = Result<(), ProgramError>> + Send>>;

/// A journal that is being followed.
pub struct Journal {
    /// The end of the program, which is killed with this; nothing once it ended.
    ended: Option<Ended>,
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    parser: ExportParser,
    encoding: Encoding,
    started: Time,
    in_operation: bool,
}

impl JournalSettings {
    /// What tells the journal that is read from another one; which of its entries does not matter.
    pub(crate) fn name(&self) -> String {
        let mut name = String::from("journal");
        let places = self.directory.iter().chain(&self.files).chain(&self.namespace);
        places.for_each(|place| name.extend([" ", place]));
        if self.all_journals {
            name.push_str(" of all");
        }
        name
    }

    /// Where the journal would be, when it is not there below `root`: journalctl waits in silence for one that has no file.
    pub(crate) fn missing(&self, root: &Path) -> Option<String> {
        if !self.files.is_empty() {
            // Patterns: journalctl says itself what does not match.
            return None;
        }
        let folders: Vec<String> = match &self.directory {
            Some(directory) => vec![directory.clone()],
            None => ["/var/log/journal", "/run/log/journal"].map(str::to_owned).to_vec(),
        };
        // One journal for each machine, in a folder of its own; those of a namespace are named after it.
        let is_asked = |name: &str| match &self.namespace {
            Some(namespace) if !namespace.starts_with(['*', '+']) => name.ends_with(&format!(".{namespace}")),
            _ => true,
        };
        let is_there = |folder: &String| has_journal(&root.join(folder.trim_start_matches('/')), Some(&is_asked));
        (!folders.iter().any(is_there)).then(|| folders.join(" and "))
    }

    /// The arguments of journalctl, to read on behind `cursor`, or from `since` when there is none.
    pub fn arguments(&self, cursor: Option<&str>, since: Time) -> Result<Vec<String>, JournalError> {
        let mut arguments: Vec<String> =
            ["--output=export", "--quiet", "--no-pager", "--no-tail"].map(str::to_owned).to_vec();
        arguments.push(format!("--output-fields={}", FIELDS.join(",")));
        if let Some(directory) = &self.directory {
            arguments.push(format!("--directory={directory}"));
        }
        arguments.extend(self.files.iter().map(|file| format!("--file={file}")));
        if let Some(namespace) = &self.namespace {
            arguments.push(format!("--namespace={namespace}"));
        }
        if self.directory.is_none() && self.files.is_empty() && !self.all_journals {
            arguments.push("--system".to_owned());
        }
        arguments.push(match cursor {
            Some(cursor) => format!("--after-cursor={cursor}"),
            None => format!("--since=@{}", since.micros().max(0) / 1_000_000),
        });
        arguments.push("--".to_owned());
        let groups = self.matches.iter().flat_map(|list| list.split(|part| part == "+"));
        let mut is_first = true;
        for group in groups.filter(|group| !group.is_empty()) {
            if !std::mem::take(&mut is_first) {
                arguments.push("+".to_owned());
            }
            for part in group {
                let name = part.split_once('=').map_or("", |(name, _)| name);
                let is_field = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
                if name.is_empty() || !name.bytes().all(is_field) || part.contains('\0') {
                    return Err(JournalError::Match(part.clone()));
                }
                arguments.push(part.clone());
            }
        }
        Ok(arguments)
    }
}

/// Whether there is a file of a journal in the folder, or in one of the folders in it that are `of_machines`. One that may not be
/// read may have some: journalctl says so itself.
fn has_journal(folder: &Path, of_machines: Option<&dyn Fn(&str) -> bool>) -> bool {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return error.kind() == std::io::ErrorKind::PermissionDenied,
    };
    entries.flatten().any(|entry| {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        name.ends_with(".journal") || of_machines.is_some_and(|is_asked| is_asked(&name) && has_journal(&path, None))
    })
}

impl Journal {
    /// Follows the journal behind `cursor`; without one, from `find_time` before `now`, as fail2ban starts.
    pub fn follow(
        programs: &Programs,
        settings: &JournalSettings,
        cursor: Option<&str>,
        find_time: Span,
        now: Time,
    ) -> Result<Self, JournalError> {
        let arguments = settings.arguments(cursor, now - find_time)?;
        Self::start(programs, settings, &Program::new("journalctl").arg("--follow").args(arguments), now)
    }

    /// Reads all that the journal holds; after the last entry, [`next`](Self::next) says that it ended.
    pub fn past(programs: &Programs, settings: &JournalSettings, now: Time) -> Result<Self, JournalError> {
        let arguments = settings.arguments(None, Time::default())?;
        Self::start(programs, settings, &Program::new("journalctl").args(arguments), now)
    }

    /// Reads the entries since then whose message matches, the last one first; after the first of them, [`next`](Self::next) says that
    /// it ended.
    pub fn matching(
        programs: &Programs,
        settings: &JournalSettings,
        pattern: &str,
        since: Time,
        now: Time,
    ) -> Result<Self, JournalError> {
        let program = Program::new("journalctl").args(["--reverse".to_owned(), format!("--grep={pattern}")]);
        Self::start(programs, settings, &program.args(settings.arguments(None, since)?), now)
    }

    fn start(
        programs: &Programs,
        settings: &JournalSettings,
        program: &Program,
        now: Time,
    ) -> Result<Self, JournalError> {
        let mut running = programs.stream(program)?;
        let stdout = running.stdout().ok_or(JournalError::Ended)?;
        Ok(Self {
            ended: Some(Box::pin(async move { running.ended().await })),
            stdout: Box::new(stdout),
            parser: ExportParser::new(),
            encoding: settings.encoding,
            started: now,
            in_operation: false,
        })
    }

    /// Waits for entries. After an error, follow the journal again from the last cursor. May be dropped and called again: nothing is
    /// lost that was not handed out.
    pub async fn next(&mut self) -> Result<JournalBatch, JournalError> {
        let mut batch = JournalBatch::default();
        let mut piece = vec![0; PIECE];
        while batch.lines.is_empty() {
            let read = tokio::select! {
                biased;
                read = self.stdout.read(&mut piece) => read.map_err(JournalError::Broken)?,
                result = end_of(&mut self.ended) => {
                    self.ended = None;
                    result?;
                    continue;
                }
            };
            if read == 0 {
                if let Some(ended) = &mut self.ended {
                    ended.await?;
                }
                return Err(JournalError::Ended);
            }
            let (encoding, started, in_operation) = (self.encoding, self.started, &mut self.in_operation);
            self.parser.read(&piece[..read], |entry| {
                if let Some(cursor) = entry.get("__CURSOR") {
                    batch.cursor = Some(String::from_utf8_lossy(cursor).into_owned());
                }
                if let Some(time) = time_of(&entry) {
                    *in_operation |= time >= started - Span::from_secs(1);
                    let in_operation = *in_operation;
                    let (text, is_of_sshd) = (line_of(&entry, encoding), is_of_sshd(&entry));
                    batch.lines.push(JournalLine { text, time, in_operation, is_of_sshd });
                }
            })?;
            if batch.lines.len() >= ENTRIES_MAX {
                break;
            }
        }
        Ok(batch)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("has_ended", &self.ended.is_none()).finish_non_exhaustive()
    }
}

/// Waits for the end of a program that has not ended; for ever otherwise.
async fn end_of(ended: &mut Option<Ended>) -> Result<(), ProgramError> {
    match ended {
        Some(ended) => ended.await,
        None => std::future::pending().await,
    }
}

fn micros(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

fn time_of(entry: &Entry) -> Option<Time> {
    let source = entry.get("_SOURCE_REALTIME_TIMESTAMP").and_then(micros);
    source.or_else(|| micros(entry.get("__REALTIME_TIMESTAMP")?)).map(Time::from_micros)
}

/// Whether journald saw a program of root that is called sshd write it.
fn is_of_sshd(entry: &Entry) -> bool {
    entry.get("_UID") == Some(b"0") && matches!(entry.get("_COMM"), Some(b"sshd" | b"sshd-session"))
}

/// A value as text: UTF-8 where it is, else in the encoding of the jail.
fn text(value: &[u8], encoding: Encoding) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding.decode_all(value).into_owned(),
    }
}

/// The line that fail2ban makes of an entry.
fn line_of(entry: &Entry, encoding: Encoding) -> String {
    let filled = |field| entry.get(field).filter(|value| !value.is_empty());
    let mut line = String::new();
    if let Some(host) = filled("_HOSTNAME") {
        line += &text(host, encoding);
        line.push(' ');
    }
    if let Some(name) = filled("SYSLOG_IDENTIFIER").or_else(|| filled("_COMM")) {
        let name = text(name, encoding);
        line += &name;
        let pid = filled("SYSLOG_PID").map(number).filter(|pid| pid != "0");
        let pid = pid.or_else(|| filled("_PID").map(number).filter(|pid| pid != "0"));
        if let Some(pid) = &pid {
            // Writing to a string does not fail.
            _ = write!(line, "[{pid}]");
        }
        line += ": ";
        if name == "kernel" && pid.is_none() {
            let source = entry.get("_SOURCE_MONOTONIC_TIMESTAMP").and_then(micros);
            let since_boot = source.or_else(|| micros(entry.get("__MONOTONIC_TIMESTAMP")?)).unwrap_or(0);
            _ = write!(line, "[{:5}.{:06}] ", since_boot / 1_000_000, since_boot % 1_000_000);
        }
    }
    for (at, message) in entry.all("MESSAGE").enumerate() {
        if at > 0 {
            line.push(' ');
        }
        line += &text(message, encoding);
    }
    line.replace('\n', "\\n")
}

/// A process number as Python shows it: as a whole number where it is one in any notation, else as bytes.
fn number(value: &[u8]) -> String {
    let plain = std::str::from_utf8(value).ok().map(str::trim);
    let radix = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let with =
            |prefix, radix| lower.strip_prefix(prefix).and_then(|digits| i128::from_str_radix(digits, radix).ok());
        with("0x", 16).or_else(|| with("0o", 8)).or_else(|| with("0b", 2))
    };
    match plain.and_then(|text| text.parse::<i128>().ok().or_else(|| radix(text))) {
        Some(number) => number.to_string(),
        None => format!("b'{}'", value.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NH-2: a journal that is not there is not said to be read, for journalctl waits for it in silence.
    #[test]
    fn a_journal_without_a_file_is_missing() {
        let root = tempfile::tempdir().expect("a folder");
        let of = |directory: Option<&str>, namespace: Option<&str>| JournalSettings {
            directory: directory.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            ..JournalSettings::default()
        };
        let missing = |settings: &JournalSettings| settings.missing(root.path());
        let system = of(None, None);
        assert_eq!(missing(&system).as_deref(), Some("/var/log/journal and /run/log/journal"));
        let machine = root.path().join("run/log/journal/0123");
        std::fs::create_dir_all(&machine).expect("made");
        assert!(missing(&system).is_some(), "an empty folder is no journal");
        std::fs::write(machine.join("system.journal"), "").expect("written");
        assert_eq!(missing(&system), None);
        assert!(missing(&of(None, Some("web"))).is_some());
        std::fs::rename(&machine, machine.with_extension("web")).expect("moved");
        assert_eq!(missing(&of(None, Some("web"))), None);
        assert_eq!(missing(&of(Some("/elsewhere"), None)).as_deref(), Some("/elsewhere"));
        assert_eq!(missing(&of(Some("/run/log/journal/0123.web"), None)), None);
        assert_eq!(missing(&JournalSettings { files: vec!["/a/*.journal".to_owned()], ..system }), None);
    }

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        let mut text = Vec::new();
        for (name, value) in fields {
            text.extend(name.as_bytes());
            text.push(b'\n');
            text.extend((value.len() as u64).to_le_bytes());
            text.extend(*value);
            text.push(b'\n');
        }
        text.push(b'\n');
        let mut entries = Vec::new();
        ExportParser::new().read(&text, |entry| entries.push(entry)).expect("the format");
        entries.remove(0)
    }

    #[test]
    fn only_a_program_of_root_is_sshd() {
        for (fields, expected) in [
            (&[("_UID", "0"), ("_COMM", "sshd")][..], true),
            (&[("_UID", "0"), ("_COMM", "sshd-session"), ("SYSLOG_IDENTIFIER", "sshd")], true),
            (&[("_UID", "33"), ("_COMM", "sshd")], false),
            (&[("_UID", "0"), ("_COMM", "logger"), ("SYSLOG_IDENTIFIER", "sshd")], false),
            (&[("_COMM", "sshd")], false),
            (&[("_UID", "33"), ("_UID", "0"), ("_COMM", "sshd")], false),
        ] {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            assert_eq!(is_of_sshd(&entry(&fields)), expected, "{fields:?}");
        }
    }

    #[test]
    fn lines_are_those_of_fail2ban() {
        let line = |fields: &[(&str, &[u8])]| line_of(&entry(fields), Encoding::Utf8);
        let sshd: &[(&str, &[u8])] = &[
            ("_HOSTNAME", b"web1"),
            ("SYSLOG_IDENTIFIER", b"sshd"),
            ("_PID", b"42"),
            ("MESSAGE", b"Failed\npassword"),
        ];
        assert_eq!(line(sshd), "web1 sshd[42]: Failed\\npassword");
        assert_eq!(
            line(&[("_COMM", b"cron"), ("SYSLOG_PID", b"0x10"), ("MESSAGE", b"a"), ("MESSAGE", b"b")]),
            "cron[16]: a b"
        );
        assert_eq!(
            line(&[("SYSLOG_IDENTIFIER", b""), ("_COMM", b"x"), ("SYSLOG_PID", b"me"), ("MESSAGE", b"m")]),
            "x[b'me']: m"
        );
        let kernel: &[(&str, &[u8])] =
            &[("SYSLOG_IDENTIFIER", b"kernel"), ("__MONOTONIC_TIMESTAMP", b"12345678"), ("MESSAGE", b"IN=eth0")];
        assert_eq!(line(kernel), "kernel: [   12.345678] IN=eth0");
        assert_eq!(line(&[("MESSAGE", b"only \xff this")]), "only \u{fffd} this");
    }

    #[test]
    fn matches_become_arguments_and_nothing_else() {
        let settings = |list: &[&str]| JournalSettings {
            matches: vec![list.iter().map(|part| (*part).to_owned()).collect(), vec!["A=b c".to_owned()]],
            ..JournalSettings::default()
        };
        let arguments =
            settings(&["_SYSTEMD_UNIT=ssh.service", "+", "_COMM=sshd"]).arguments(Some("s=1"), Time::default());
        let arguments = arguments.expect("they are matches");
        let behind = arguments.iter().position(|argument| argument == "--").expect("an end of the options");
        assert_eq!(arguments[behind + 1..], ["_SYSTEMD_UNIT=ssh.service", "+", "_COMM=sshd", "+", "A=b c"]);
        assert_eq!(arguments[behind - 1], "--after-cursor=s=1");
        for bad in ["--file=/etc/shadow", "/usr/bin/sshd", "lower=x", "=x"] {
            assert!(matches!(settings(&[bad]).arguments(None, Time::default()), Err(JournalError::Match(_))), "{bad}");
        }
    }

    /// A journal of these entries, made by systemd.
    fn journal(directory: &std::path::Path, messages: std::ops::Range<u64>) {
        use std::io::Write as _;
        let remote = "/usr/lib/systemd/systemd-journal-remote";
        let path = directory.join(format!("test-{}.journal", messages.start));
        #[expect(clippy::disallowed_methods, reason = "a test makes a journal")]
        let mut remote = std::process::Command::new(remote)
            .arg(format!("--output={}", path.display()))
            .arg("-")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("apt-get install systemd-journal-remote");
        let mut stdin = remote.stdin.take().expect("a pipe");
        for n in messages {
            let micros = 1_700_000_000_000_000 + n * 1_000_000;
            let boot = "0123456789abcdef0123456789abcdef";
            let text = format!(
                "__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID={boot}\n_HOSTNAME=web1\n\
                 SYSLOG_IDENTIFIER=sshd\n_SYSTEMD_UNIT={}.service\n_PID={n}\nMESSAGE=Failed password {n}\n\n",
                if n % 2 == 0 { "ssh" } else { "other" }
            );
            stdin.write_all(text.as_bytes()).expect("written");
        }
        drop(stdin);
        assert!(remote.wait().expect("it ends").success(), "systemd-journal-remote failed");
    }

    #[tokio::test]
    async fn a_journal_is_followed_over_a_restart_from_its_cursor() {
        let directory = tempfile::tempdir().expect("a directory");
        journal(directory.path(), 1..7);
        let settings = JournalSettings {
            matches: vec![vec!["_SYSTEMD_UNIT=ssh.service".to_owned()]],
            directory: Some(directory.path().display().to_string()),
            ..JournalSettings::default()
        };
        let programs = Programs::of_system();
        let now = Time::from_secs(1_700_000_010);
        let read = async |cursor: Option<String>, count: usize| {
            let mut journal =
                Journal::follow(&programs, &settings, cursor.as_deref(), Span::from_secs(7), now).expect("it starts");
            let (mut lines, mut last) = (Vec::new(), None);
            while lines.len() < count {
                let batch = journal.next().await.expect("entries");
                lines.extend(batch.lines.into_iter().map(|line| line.text));
                last = batch.cursor;
            }
            (lines, last)
        };
        let (lines, cursor) = read(None, 2).await;
        assert_eq!(lines, ["web1 sshd[4]: Failed password 4", "web1 sshd[6]: Failed password 6"]);
        journal(directory.path(), 7..10);
        let (lines, _) = read(cursor, 1).await;
        assert_eq!(lines, ["web1 sshd[8]: Failed password 8"]);
        // The last one first, and then its end.
        let since = Time::from_secs(1_700_000_002);
        let mut past =
            Journal::matching(&programs, &settings, "^Failed password [246]", since, now).expect("it starts");
        let mut lines = Vec::new();
        let end = loop {
            match past.next().await {
                Ok(batch) => lines.extend(batch.lines.into_iter().map(|line| line.text)),
                Err(end) => break end,
            }
        };
        let expected =
            ["web1 sshd[6]: Failed password 6", "web1 sshd[4]: Failed password 4", "web1 sshd[2]: Failed password 2"];
        assert_eq!(lines, expected, "{end}");
        assert!(matches!(end, JournalError::Ended), "{end}");
    }

    #[tokio::test]
    async fn a_missing_or_failing_journalctl_is_a_reason() {
        let settings = JournalSettings { directory: Some("/nowhere/at/all".to_owned()), ..JournalSettings::default() };
        let follow =
            |programs: &Programs| Journal::follow(programs, &settings, None, Span::from_secs(600), Time::default());
        let missing = follow(&Programs::in_folders([])).expect_err("it is missing");
        assert!(missing.to_string().contains("`journalctl` is not installed"), "{missing}");
        let failed = follow(&Programs::of_system()).expect("it starts").next().await.expect_err("no such directory");
        assert!(failed.to_string().contains("/nowhere/at/all"), "{failed}");
    }
}
