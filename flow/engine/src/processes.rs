//! Programs of the machine, with a limit on everything.
//!
//! A started program inherits nothing: an empty environment but for `PATH` and a `C` locale (so that its output can be
//! read), no standard input, a process group of its own. At its deadline, at the limit of its output, and when whoever
//! waits for it goes away, the whole group is killed, so that no grandchild survives.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use event::Span;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it ended with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("`{program}` can't be started: {source}; is it installed, in {PATH}?")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It was killed at its deadline.
    #[error("`{program}` was not done after {limit} and was killed")]
    Deadline {
        /// The program.
        program: String,
        /// The deadline.
        limit: Span,
    },
    /// It was killed because it wrote too much.
    #[error("`{program}` wrote more than {limit_bytes} bytes and was killed")]
    TooMuchOutput {
        /// The program.
        program: String,
        /// Most that each of its two outputs may hold.
        limit_bytes: usize,
    },
    /// Its output could not be read.
    #[error("the output of `{program}` can't be read: {source}")]
    Read {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs programs.
#[async_trait]
pub trait Processes: Send + Sync {
    /// Runs `program` with `args` to its end, for `timeout` at most. Each of its two outputs holds `output_bytes_max`
    /// at most; one that writes more is killed, and what it wrote is not returned, because half an output misleads.
    async fn run(
        &self,
        program: &str,
        args: &[&str],
        timeout: Span,
        output_bytes_max: usize,
    ) -> Result<Output, ProcessError>;
}

/// Runs them for real.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemProcesses;

#[async_trait]
impl Processes for SystemProcesses {
    async fn run(
        &self,
        program: &str,
        args: &[&str],
        timeout: Span,
        output_bytes_max: usize,
    ) -> Result<Output, ProcessError> {
        #[expect(clippy::disallowed_methods, reason = "this is the place that everybody else is told to go through")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let name = || program.to_owned();
        let mut child = command.spawn().map_err(|source| ProcessError::Start { program: name(), source })?;
        let mut group = Group::of(child.id());

        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let whole = async {
            let outputs = tokio::try_join!(limited(stdout, output_bytes_max), limited(stderr, output_bytes_max));
            let (stdout, stderr) = match outputs {
                Ok(both) => both,
                Err(Unread::TooMuch) => {
                    return Err(ProcessError::TooMuchOutput { program: name(), limit_bytes: output_bytes_max });
                }
                Err(Unread::Failed(source)) => return Err(ProcessError::Read { program: name(), source }),
            };
            let status = child.wait().await.map_err(|source| ProcessError::Read { program: name(), source })?;
            Ok((status, stdout, stderr))
        };
        let ended: Result<(ExitStatus, _, _), _> = match tokio::time::timeout(positive(timeout), whole).await {
            Ok(ended) => ended,
            Err(_) => Err(ProcessError::Deadline { program: name(), limit: timeout }),
        };
        let (status, stdout, stderr) = ended?;
        group.ended();
        Ok(Output { code: status.code(), stdout, stderr })
    }
}

fn positive(span: Span) -> Duration {
    span.to_std().max(Duration::from_millis(1))
}

/// A process group that is killed when it is dropped before its leader was waited for.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// The leader was waited for: its number may belong to somebody else from now on.
    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0
            && let Err(error) = kill_process_group(leader, Signal::KILL)
        {
            tracing::debug!(%error, "the process group was gone already");
        }
    }
}

enum Unread {
    TooMuch,
    Failed(io::Error),
}

/// Reads to the end, `max` bytes at most.
async fn limited(pipe: Option<impl AsyncRead + Unpin>, max: usize) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        pipe.take(limit).read_to_end(&mut bytes).await.map_err(Unread::Failed)?;
    }
    if bytes.len() > max { Err(Unread::TooMuch) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, timeout: Span) -> Result<Output, ProcessError> {
        SystemProcesses.run("sh", &["-c", script], timeout, 1000).await
    }

    #[tokio::test]
    async fn output_and_code_come_back() {
        let output = sh("echo out; echo err >&2; exit 3", Span::from_secs(10)).await.expect("it runs");
        assert_eq!(output, Output { code: Some(3), stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec() });
        assert!(!output.success());
    }

    #[tokio::test]
    async fn nothing_is_inherited() {
        let output = SystemProcesses.run("env", &[], Span::from_secs(10), 1000).await.expect("it runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn limits_are_kept_and_no_grandchild_survives() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().display();
        // The grandchild would write its word after the deadline of its parent.
        let late = sh(&format!("(sleep 1; echo alive > {path}) & sleep 30"), Span::from_millis(200)).await;
        assert!(matches!(late, Err(ProcessError::Deadline { .. })), "{late:?}");
        let loud = sh("yes", Span::from_secs(10)).await;
        assert!(matches!(loud, Err(ProcessError::TooMuchOutput { limit_bytes: 1000, .. })), "{loud:?}");
        let absent = SystemProcesses.run("garant-no-such-program", &[], Span::from_secs(1), 10).await;
        assert!(matches!(absent, Err(ProcessError::Start { .. })), "{absent:?}");
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert_eq!(std::fs::read_to_string(file.path()).expect("readable"), "");
    }
}
