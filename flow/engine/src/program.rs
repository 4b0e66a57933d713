//! Programs of the machine: `nft`, `journalctl`. Each runs without a shell, with a deadline and bounded output.
//!
//! Arguments are a list, never a line; what came from outside (a log, a request) goes to standard input, where the program reads
//! it as data. A program sees none of garant's environment, unless it is garant itself: `PATH` is that of the system, and messages are
//! in English.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use event::Span;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::printable;

/// Where programs are looked for.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The program that ties another one to its parent (util-linux).
const SETPRIV: &str = "/usr/bin/setpriv";
/// How long it takes at most to read what a program that has ended said last, where others still have its standard error.
const SAID_WITHIN: Span = Span::from_secs(1);
/// How often it is looked whether a program that was told to quit has ended, and how long apart.
const QUIT_LOOKS: u32 = 500;
const QUIT_LOOK: std::time::Duration = std::time::Duration::from_millis(10);
/// The most that is kept of standard error.
const ERRORS_BYTES_MAX: usize = 4096;

/// A program to run: name, arguments, standard input, limits.
#[derive(Clone, Debug)]
pub struct Program {
    name: &'static str,
    path: Option<PathBuf>,
    args: Vec<OsString>,
    input: Vec<u8>,
    owner: Option<(u32, u32)>,
    is_tied: bool,
    ended_by: Option<Signal>,
    ends_alone: bool,
    is_our_own: bool,
    deadline: Span,
    output_bytes_max: usize,
}

impl Program {
    /// The program of this name, without arguments and input; 30 s and 1 MiB of output are its limits.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            path: None,
            args: Vec::new(),
            input: Vec::new(),
            owner: None,
            is_tied: false,
            ended_by: None,
            ends_alone: false,
            is_our_own: false,
            deadline: Span::from_secs(30),
            output_bytes_max: 1024 * 1024,
        }
    }

    /// The program at this path, which somebody named; errors call it `name`.
    #[must_use]
    pub fn at(name: &'static str, path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::new(name) }
    }

    /// The program that this process runs, as it lies on the disk whenever it is started: with the same arguments, in the same
    /// folder and with the same environment. Asked while the process starts, for later the file may be another one.
    ///
    /// # Errors
    /// The system does not say where it is.
    pub fn of_ourselves(name: &'static str) -> io::Result<Self> {
        let program = Self::at(name, std::env::current_exe()?).args(std::env::args_os().skip(1));
        Ok(Self { is_our_own: true, ..program })
    }

    /// Adds an argument unless it is there.
    #[must_use]
    pub fn with_flag(self, flag: &str) -> Self {
        if self.args.iter().any(|arg| arg == flag) { self } else { self.arg(flag) }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item: AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What is written to its standard input; nothing unless said.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs it as this user and this group, and in no other group: a right of root.
    #[must_use]
    pub const fn owner(mut self, user: u32, group: u32) -> Self {
        self.owner = Some((user, group));
        self
    }

    /// Ties it to this process: when that is killed, the kernel kills it (`PR_SET_PDEATHSIG`). For what reads no pipe of ours, whose end
    /// it would see. The thread that starts it must not end before it.
    #[must_use]
    pub const fn tied(mut self) -> Self {
        self.is_tied = true;
        self
    }

    /// Has it end what it has started before it ends itself, when the [`Running`] is dropped: it is told SIGQUIT, and killed where it
    /// takes longer than five seconds. For a server of several processes, which would go on for some seconds if one was killed.
    #[must_use]
    pub const fn quits(mut self) -> Self {
        self.ended_by = Some(Signal::QUIT);
        self
    }

    /// Takes its own end for the end, whatever it has left running behind it: for what somebody else wrote, with [`Programs::run`]. Its
    /// standard output is nobody's, its standard error is closed after its end, and it has no input.
    #[must_use]
    pub const fn ends_alone(mut self) -> Self {
        self.ends_alone = true;
        self
    }

    /// Longest time that it may take; it is killed then. Not for [`Programs::stream`].
    #[must_use]
    pub const fn deadline(mut self, deadline: Span) -> Self {
        self.deadline = deadline;
        self
    }

    /// Most bytes of standard output; it is killed beyond them. Not for [`Programs::stream`].
    #[must_use]
    pub const fn output_bytes_max(mut self, bytes: usize) -> Self {
        self.output_bytes_max = bytes;
        self
    }
}

/// The result of a program that ran to its end with exit code 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The end of its standard error.
    pub stderr: String,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The program is not installed.
    #[error("the program `{0}` is not installed")]
    Missing(&'static str),
    /// The program can't be started.
    #[error("`{0}` can't be started: {1}")]
    Start(&'static str, io::Error),
    /// Its input or output broke.
    #[error("`{0}` can't be talked to: {1}")]
    Broken(&'static str, io::Error),
    /// The program failed: how it ended, and what it said last on standard error.
    #[error("`{name}` failed ({ended}){}", said(.stderr))]
    Failed {
        /// The program.
        name: &'static str,
        /// Its exit code or signal.
        ended: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program took too long, and was killed.
    #[error("`{0}` took longer than {1}, and was killed")]
    Late(&'static str, Span),
    /// The program wrote too much, and was killed.
    #[error("`{0}` wrote more than {1} bytes, and was killed")]
    TooMuch(&'static str, usize),
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// The right to run programs, of the whole machine or of none.
#[derive(Clone, Debug)]
pub struct Programs {
    path: OsString,
}

impl Programs {
    /// The programs of the system.
    pub fn of_system() -> Self {
        Self { path: SYSTEM_PATH.into() }
    }

    /// The programs in these folders and no others; for tests. Without a folder, there is none.
    pub fn in_folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { path: std::env::join_paths(folders).unwrap_or_default() }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It is missing, fails, takes too long or writes too much: it has been killed then. Dropping the future kills it too.
    pub async fn run(&self, program: &Program) -> Result<Output, ProgramError> {
        let name = program.name;
        if program.ends_alone {
            let ended = tokio::time::timeout(program.deadline.to_std(), self.run_alone(program)).await;
            return ended.unwrap_or(Err(ProgramError::Late(name, program.deadline)));
        }
        let mut child = self.start(program, !program.input.is_empty())?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program may fail before it has read everything: its own words say why, not the broken pipe.
                match stdin.write_all(&program.input).await {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        let read = read_bounded(stdout, program.output_bytes_max);
        let all = async {
            let mut stderr = Tail::of(stderr);
            let (written, read, stderr) = tokio::join!(write, read, stderr.read());
            let broken = |error| ProgramError::Broken(name, error);
            written.map_err(broken)?;
            let Some(stdout) = read.map_err(broken)? else {
                return Err(ProgramError::TooMuch(name, program.output_bytes_max));
            };
            let status = child.wait().await.map_err(broken)?;
            if status.success() {
                return Ok(Output { stdout, stderr });
            }
            Err(ProgramError::Failed { name, ended: status.to_string(), stderr })
        };
        // A child that is dropped is killed.
        tokio::time::timeout(program.deadline.to_std(), all)
            .await
            .unwrap_or(Err(ProgramError::Late(name, program.deadline)))
    }

    /// Runs a program to its own end, whoever else still has its standard error.
    async fn run_alone(&self, program: &Program) -> Result<Output, ProgramError> {
        let name = program.name;
        let mut child = self.start(program, false)?;
        let mut stderr = Tail::of(child.stderr.take());
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(|error| ProgramError::Broken(name, error))?,
                _ = stderr.read(), if !is_read => is_read = true,
            }
        };
        if status.success() {
            return Ok(Output { stdout: Vec::new(), stderr: String::new() });
        }
        // What it said itself is in the pipe by now.
        let said = tokio::time::timeout(SAID_WITHIN.to_std(), stderr.read()).await;
        let stderr = said.unwrap_or_else(|_| stderr.said());
        Err(ProgramError::Failed { name, ended: status.to_string(), stderr })
    }

    /// Starts a program that goes on writing, until it ends by itself or the [`Running`] is dropped.
    ///
    /// # Errors
    /// It is missing, or can't be started.
    pub fn stream(&self, program: &Program) -> Result<Running, ProgramError> {
        self.start(program, false).map(|child| Running::of(program, child))
    }

    /// Starts a program as [`Self::stream`] does, whose standard input is written to while it runs: see [`Running::stdin`].
    ///
    /// # Errors
    /// It is missing, or can't be started.
    pub fn filter(&self, program: &Program) -> Result<Running, ProgramError> {
        self.start(program, true).map(|child| Running::of(program, child))
    }

    /// Starts a program that belongs to this process and writes its log where this one does. It is told to stop (SIGTERM) by
    /// [`Companion::stop`], and outlives this process when that is killed.
    ///
    /// # Errors
    /// It is missing, or can't be started.
    pub fn companion(&self, program: &Program) -> Result<Companion, ProgramError> {
        let mut command = self.command(program)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(false);
        // A signal of the terminal is for this process, which stops its companions in their turn.
        command.process_group(0);
        let child = command.spawn().map_err(|error| ProgramError::Start(program.name, error))?;
        Ok(Companion { name: program.name, child })
    }

    fn command(&self, program: &Program) -> Result<Command, ProgramError> {
        let name = program.name;
        let in_folders =
            || std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| path.is_file());
        let found = program
            .path
            .clone()
            .filter(|path| path.is_file())
            .or_else(|| if program.path.is_some() { None } else { in_folders() });
        let path = found.ok_or(ProgramError::Missing(name))?;
        #[expect(clippy::disallowed_methods, reason = "this is where programs are started, with their bounds")]
        let mut command = Command::new(if program.is_tied { Path::new(SETPRIV) } else { &path });
        if program.is_tied {
            command.args(["--pdeathsig", "KILL", "--"]).arg(&path);
        }
        command.args(&program.args);
        if !program.is_our_own {
            command.env_clear().env("PATH", &self.path).env("LC_ALL", "C.UTF-8").current_dir("/");
        }
        if let Some((user, group)) = program.owner {
            command.uid(user).gid(group);
        }
        Ok(command)
    }

    fn start(&self, program: &Program, with_input: bool) -> Result<Child, ProgramError> {
        let name = program.name;
        let mut command = self.command(program)?;
        command
            .stdin(if with_input { Stdio::piped() } else { Stdio::null() })
            .stdout(if program.ends_alone { Stdio::null() } else { Stdio::piped() })
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ProgramError::Missing(name),
            _ => ProgramError::Start(name, error),
        })
    }
}

/// A program that is running, and writes. Dropped, it is killed, or told to [quit](Program::quits).
pub struct Running {
    name: &'static str,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Tail,
    child: Child,
    ended_by: Option<Signal>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("name", &self.name).field("id", &self.child.id()).finish_non_exhaustive()
    }
}

impl Running {
    fn of(program: &Program, mut child: Child) -> Self {
        let Program { name, ended_by, .. } = *program;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), Tail::of(child.stderr.take()));
        Self { name, stdin, stdout, stderr, child, ended_by }
    }

    /// Number of the process; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its standard input, the first time it is asked for; the program sees its end when it is dropped. `None` of a program that
    /// [`Programs::stream`] started.
    pub fn stdin(&mut self) -> Option<impl AsyncWrite + Send + Unpin + use<>> {
        self.stdin.take()
    }

    /// Its standard output, the first time it is asked for.
    pub fn stdout(&mut self) -> Option<impl AsyncRead + Send + Unpin + use<>> {
        self.stdout.take()
    }

    /// Waits for its end. It is to be polled while the output is read: what the program writes to standard error is drained here.
    /// It may be given up and called again.
    ///
    /// # Errors
    /// It ended with another exit code than 0.
    pub async fn ended(&mut self) -> Result<(), ProgramError> {
        let stderr = self.stderr.read().await;
        let status = self.child.wait().await.map_err(|error| ProgramError::Broken(self.name, error))?;
        if status.success() {
            return Ok(());
        }
        Err(ProgramError::Failed { name: self.name, ended: status.to_string(), stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some((signal, pid)) = self.ended_by.zip(self.child.id().and_then(pid)) else { return };
        if kill_process(pid, signal).is_err() {
            return;
        }
        for _ in 0..QUIT_LOOKS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing can be awaited where something is dropped; it takes some milliseconds"
            )]
            std::thread::sleep(QUIT_LOOK);
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// A program that belongs to this process.
#[derive(Debug)]
pub struct Companion {
    name: &'static str,
    child: Child,
}

impl Companion {
    /// Number of the process; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether it has ended, without waiting.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end, however it comes, and says how.
    ///
    /// # Errors
    /// The system can't say.
    pub async fn ended(&mut self) -> Result<String, ProgramError> {
        let status = self.child.wait().await.map_err(|error| ProgramError::Broken(self.name, error))?;
        Ok(status.to_string())
    }

    /// Tells it to stop, waits for `within`, then kills it.
    pub async fn stop(&mut self, within: Span) {
        if let Some(pid) = self.child.id().and_then(pid)
            && kill_process(pid, Signal::TERM).is_ok()
            && tokio::time::timeout(within.to_std(), self.child.wait()).await.is_ok()
        {
            return;
        }
        if let Err(error) = self.child.kill().await {
            tracing::warn!(program = self.name, %error, "a program could not be killed");
        }
    }
}

/// All that is read, or `None` when it is more than `max` bytes.
async fn read_bounded(from: Option<ChildStdout>, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let Some(from) = from else { return Ok(Some(all)) };
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_to_end(&mut all).await?;
    Ok((all.len() <= max).then_some(all))
}

/// The last bytes of standard error.
struct Tail {
    from: Option<ChildStderr>,
    last: VecDeque<u8>,
}

impl Tail {
    fn of(from: Option<ChildStderr>) -> Self {
        Self { from, last: VecDeque::new() }
    }

    /// Reads until the end; given up in between, it goes on the next time. A program whose standard error is closed is killed when it
    /// writes there.
    async fn read(&mut self) -> String {
        let mut buffer = [0; 1024];
        if let Some(from) = &mut self.from {
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                self.last.extend(&buffer[..read]);
                let over = self.last.len().saturating_sub(ERRORS_BYTES_MAX);
                self.last.drain(..over);
            }
        }
        self.said()
    }

    /// What was read so far.
    fn said(&mut self) -> String {
        let last = String::from_utf8_lossy(self.last.make_contiguous());
        let lines: Vec<_> = last.lines().map(str::trim).filter(|line| !line.is_empty()).map(printable::text).collect();
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_reads_its_input_and_its_arguments_as_they_are() {
        let programs = Programs::of_system();
        let output = programs.run(&Program::new("cat").arg("-").input("; rm -rf $HOME\n")).await.expect("cat");
        assert_eq!(output.stdout, b"; rm -rf $HOME\n");
        let output = programs.run(&Program::new("printf").args(["%s|", "$(id)", "a b"])).await.expect("printf");
        assert_eq!(output.stdout, b"$(id)|a b|");
        let environment = programs.run(&Program::new("env")).await.expect("env").stdout;
        let environment = String::from_utf8_lossy(&environment);
        let mut environment: Vec<&str> = environment.lines().collect();
        environment.sort_unstable();
        assert_eq!(environment, ["LC_ALL=C.UTF-8", &format!("PATH={SYSTEM_PATH}")]);
    }

    #[tokio::test]
    async fn a_failure_says_what_failed() {
        let programs = Programs::of_system();
        let error = programs.run(&Program::new("ls").arg("/nowhere/at/all")).await.expect_err("no such file");
        let error = error.to_string();
        assert!(error.starts_with("`ls` failed (exit status: 2): "), "{error}");
        assert!(error.contains("/nowhere/at/all"), "{error}");
        let missing = programs.run(&Program::new("no-such-program")).await.expect_err("missing");
        assert_eq!(missing.to_string(), "the program `no-such-program` is not installed");
        let none = Programs::in_folders([]).run(&Program::new("cat")).await.expect_err("no folder");
        assert!(matches!(none, ProgramError::Missing("cat")), "{none}");
    }

    #[tokio::test]
    async fn time_and_output_are_bounded() {
        let programs = Programs::of_system();
        let slow = Program::new("sleep").arg("60").deadline(Span::from_millis(50));
        assert!(matches!(programs.run(&slow).await, Err(ProgramError::Late("sleep", _))));
        let endless = Program::new("yes").output_bytes_max(10_000);
        assert!(matches!(programs.run(&endless).await, Err(ProgramError::TooMuch("yes", 10_000))));
        // More input than a pipe holds, to a program that reads none of it.
        let deaf = Program::new("true").input(vec![b'x'; 1_000_000]);
        programs.run(&deaf).await.expect("its own end counts");
    }

    #[tokio::test]
    async fn the_end_of_a_program_that_ends_alone_is_its_own() {
        let programs = Programs::of_system();
        let shell = |script| Program::new("sh").args(["-c", script]).ends_alone().deadline(Span::from_secs(60));
        programs.run(&shell("sleep 600 & echo done; exit 0")).await.expect("its own exit counts");
        let failed = programs.run(&shell("sleep 600 & echo why >&2; exit 3")).await.expect_err("it fails");
        assert_eq!(failed.to_string(), "`sh` failed (exit status: 3): why");
        let failed = programs.run(&shell("yes no | head -c 1000000 >&2; exit 4")).await.expect_err("it fails");
        assert!(
            failed.to_string().starts_with("`sh` failed (exit status: 4): no; no"),
            "more than a pipe holds: {failed}"
        );
        let slow = shell("sleep 600").deadline(Span::from_millis(50));
        assert!(matches!(programs.run(&slow).await, Err(ProgramError::Late("sh", _))));
    }

    #[tokio::test]
    async fn a_filter_reads_what_is_written_while_it_runs() {
        let programs = Programs::of_system();
        let mut running = programs.filter(&Program::new("tr").args(["a-z", "A-Z"])).expect("it starts");
        let (mut stdin, mut stdout) = (running.stdin().expect("once"), running.stdout().expect("once"));
        let mut read = Vec::new();
        let write = async {
            // More than the pipes hold.
            for _ in 0..40 {
                stdin.write_all(&[b'a'; 10_000]).await.expect("it reads");
            }
            drop(stdin);
        };
        let (ended, ..) = tokio::join!(running.ended(), write, stdout.read_to_end(&mut read));
        ended.expect("its own end");
        assert!(read.len() == 400_000 && read.iter().all(|byte| *byte == b'A'));
        let mut fails = programs.filter(&Program::new("grep").arg("--no-such-option")).expect("it starts");
        assert!(fails.ended().await.expect_err("it fails").to_string().contains("no-such-option"));
        // Whoever asks now and then whether it has ended hears all of it too.
        let mut slow =
            programs.filter(&Program::new("sh").args(["-c", "read line; echo $line >&2; exit 3"])).expect("it starts");
        for _ in 0..3 {
            let ended = tokio::time::timeout(std::time::Duration::from_millis(5), slow.ended()).await;
            assert!(ended.is_err(), "it waits for its input");
        }
        slow.stdin().expect("once").write_all(b"words\n").await.expect("it reads");
        assert_eq!(slow.ended().await.expect_err("it fails").to_string(), "`sh` failed (exit status: 3): words");
    }

    #[tokio::test]
    async fn a_program_runs_as_whom_it_is_told_to() {
        let programs = Programs::of_system();
        let id = |option, user, group| Program::new("id").arg(option).owner(user, group);
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let own = programs.run(&id("-u", user, group)).await.expect("who it is already");
        assert_eq!(own.stdout, format!("{user}\n").into_bytes());
        if user == 0 {
            assert_eq!(programs.run(&id("-u", 65_534, 65_533)).await.expect("root may").stdout, b"65534\n");
            let groups = programs.run(&id("-G", 65_534, 65_533)).await.expect("root may").stdout;
            assert_eq!(groups, b"65533\n", "no group of root is left");
        } else {
            programs.run(&id("-u", 0, 0)).await.expect_err("nobody else may");
        }
    }

    /// A server whose processes would go on without it.
    #[tokio::test]
    async fn a_program_that_quits_ends_what_it_has_started() {
        let script = "sleep 1000 >&2 & trap 'kill $!; wait; exit 2' QUIT; echo $!; while :; do sleep 0.05; done";
        // Whoever runs the tests in the background ignores the signal, and a shell goes on doing so.
        let program = Program::new("env").args(["--default-signal=QUIT", "sh", "-c", script]).quits();
        let mut running = Programs::of_system().stream(&program).expect("it starts");
        let mut line = vec![0; 32];
        let read = running.stdout().expect("once").read(&mut line).await.expect("it writes");
        let pid: u32 = std::str::from_utf8(&line[..read]).expect("a number").trim().parse().expect("a number");
        drop(running);
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "it goes on: {state}");
    }

    #[test]
    fn a_program_that_is_tied_ends_with_who_started_it() {
        let start = |program: Program| {
            let started = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let running = runtime.block_on(async { Programs::of_system().stream(&program).expect("it starts") });
                let pid = running.id().expect("it runs");
                while std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs").trim() != "sleep" {
                    std::thread::yield_now();
                }
                // As a process that is killed: nobody drops anything.
                std::mem::forget((running, runtime));
                pid
            });
            let pid = started.join().expect("no panic");
            rustix::process::Pid::from_raw(i32::try_from(pid).expect("a number")).expect("a number")
        };
        let wait = Program::new("sleep").arg("600");
        let (left, tied) = (start(wait.clone()), start(wait.tied()));
        let ended =
            rustix::process::waitpid(Some(tied), rustix::process::WaitOptions::empty()).expect("a child of ours");
        let (_, status) = ended.expect("it has ended");
        assert_eq!(status.terminating_signal(), Some(rustix::process::Signal::KILL.as_raw()));
        rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it runs: nothing ties it");
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_reader() {
        let programs = Programs::of_system();
        let mut running = programs.stream(&Program::new("yes").arg("line")).expect("it starts");
        let pid = running.child.id().expect("it runs");
        let mut stdout = running.stdout().expect("once");
        let mut some = [0; 10];
        stdout.read_exact(&mut some).await.expect("it writes");
        assert_eq!(&some, b"line\nline\n");
        drop((running, stdout));
        let gone = async {
            while std::path::Path::new(&format!("/proc/{pid}/exe")).exists() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("it was killed");
    }
}
