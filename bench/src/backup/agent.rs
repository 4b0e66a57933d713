//! `garant up` with its agent on one backup, and what it is asked.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Took;
use crate::process::{Process, children, cpu_s, forget_peak, garant, now, pause, peak_mb};

/// Longest wait for anything.
const WITHIN: Duration = Duration::from_mins(5);
/// How often is asked: each question is a process, and is answered by the agent that is measured.
const ASK_EVERY: Duration = Duration::from_millis(200);

type Failed = Box<dyn std::error::Error>;

/// A garant that backs up one thing, called `it`, to one directory.
pub(super) struct Agent {
    binary: PathBuf,
    folder: PathBuf,
    up: Process,
}

impl Agent {
    /// Starts it in this folder, whose owner is `user`; `backup` is the table of what is backed up.
    pub(super) fn start(folder: &Path, user: &str, backup: &str) -> Result<Self, Failed> {
        let (binary, at) = (garant()?, folder.display());
        let policy = format!(
            "[journal]\nname = \"bench.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\n[agent]\nuser = \"{user}\"\n\
             [[service]]\nname = \"backup\"\n[[region]]\nname = \"here\"\nprovider = \"own\"\n\
             [backup]\nservice = \"backup\"\nkey = {{ file = \"{at}/backup.key\" }}\n\
             copy = [{{ name = \"near\", region = \"here\", directory = \"{at}/copy\" }}]\n{backup}\n"
        );
        std::fs::write(folder.join("garant.toml"), policy)?;
        let key = folder.join("backup.key");
        let made = Process::command(&binary)
            .args(["backup", "key", "new"])
            .arg(&key)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        std::fs::create_dir(folder.join("copy"))?;
        let owned = Process::command("chown").arg(format!("{user}:")).arg(&key).arg(folder.join("copy")).status()?;
        if !made.success() || !owned.success() {
            return Err("no key is made".into());
        }
        let mut up = Process::start(
            Process::command(&binary)
                .current_dir(folder)
                .args(["up", "--json", "--policy", "garant.toml", "--data", "data"])
                .stdout(Stdio::piped())
                .stderr(std::fs::File::create(folder.join("garant.log"))?),
        )?;
        BufReader::new(up.child().stdout.take().ok_or("no output")?).read_line(&mut String::new())?;
        Ok(Self { binary, folder: folder.to_owned(), up })
    }

    /// How one kind stands.
    pub(super) fn kind(&self, kind: &str) -> Option<Value> {
        let asked = Process::command(&self.binary)
            .current_dir(&self.folder)
            .args(["backup", "status", "--json", "--data", "data"])
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let status: Value = serde_json::from_slice(&asked.stdout).ok()?;
        let kinds = status["backups"][0]["kinds"].as_array()?.clone();
        kinds.into_iter().find(|it| it["kind"] == kind)
    }

    /// Up to when this kind is safe.
    fn succeeded(&self, kind: &str) -> Option<String> {
        self.kind(kind)?["succeeded"].as_str().map(str::to_owned)
    }

    /// The number of the agent.
    fn pid(&self) -> Option<u32> {
        children(self.up.id()).into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(8).any(|part| part == b"--state\0"))
        })
    }

    pub(super) fn cpu_s(&self) -> Option<f64> {
        cpu_s(self.pid()?)
    }

    /// Waits for something.
    pub(super) fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, Failed> {
        let begun = now();
        while begun.elapsed() < WITHIN {
            if let Some(found) = ask() {
                return Ok(found);
            }
            pause(ASK_EVERY);
        }
        let said = std::fs::read_to_string(self.folder.join("garant.log")).unwrap_or_default();
        Err(format!("waited in vain for {what}; status {:?}; {said}", self.kind("full")).into())
    }

    /// Waits for the first base, which it takes by itself, and measures it from `begun` on.
    pub(super) fn first(&self, begun: Instant) -> Result<Took, Failed> {
        self.until("the first base", || self.succeeded("full"))?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Took { seconds, peak_mb: self.peak()? })
    }

    /// Takes a base, and measures it.
    pub(super) fn take(&self) -> Result<Took, Failed> {
        let before = self.succeeded("full");
        // The agent can't be told to forget its own peak; root can.
        forget_peak(self.pid().ok_or("there is no agent")?)?;
        let begun = now();
        self.command(&["backup", "run", "it", "--data", "data"])?;
        self.until("a base", || self.succeeded("full").filter(|at| Some(at) != before.as_ref()))?;
        Ok(Took { seconds: begun.elapsed().as_secs_f64(), peak_mb: self.peak()? })
    }

    /// The most memory that the agent and its programs had.
    fn peak(&self) -> Result<f64, Failed> {
        peak_mb(self.pid().ok_or("there is no agent")?).ok_or_else(|| "the agent is gone".into())
    }

    /// Waits until everything up to now is safe; returns how long that took.
    pub(super) fn shipped(&self) -> Result<f64, Failed> {
        let (instant, begun) = (second(&wall()?), now());
        self.until("the log", || self.succeeded("log").filter(|through| *through > instant))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// The sizes of the newest base of a kind: of what was read, and of what is stored.
    pub(super) fn newest(&self, kind: &str) -> Option<(u64, u64)> {
        let arguments = ["backup", "list", "it", "--policy", "garant.toml", "--json"];
        let listed = Process::command(&self.binary).current_dir(&self.folder).args(arguments).output().ok()?;
        let listed: Value = serde_json::from_slice(&listed.stdout).ok()?;
        let base = listed.as_array()?.iter().rfind(|base| base["kind"] == kind)?;
        Some((base["size_bytes"].as_u64()?, base["stored_bytes"].as_u64()?))
    }

    /// Restores the newest second into a folder, and measures it.
    pub(super) fn restore(&self, into: &str) -> Result<Took, Failed> {
        let to = match self.kind("log") {
            Some(_) => {
                // MariaDB dates commits to whole seconds.
                let to = wall()?;
                self.shipped()?;
                second(&to)
            }
            None => wall()?,
        };
        let mut command = Process::command(&self.binary);
        command.current_dir(&self.folder).args([
            "restore",
            "it",
            "--to",
            &to,
            "--policy",
            "garant.toml",
            "--into",
            into,
        ]);
        super::timed(&mut command)
    }

    fn command(&self, arguments: &[&str]) -> Result<(), Failed> {
        let done = Process::command(&self.binary).current_dir(&self.folder).args(arguments).output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        Ok(())
    }
}

/// Lets the user of an agent into a folder.
pub(super) fn open_to_all(folder: &Path) -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}

/// The second of a time, as it is shown.
fn second(time: &str) -> String {
    format!("{}Z", time.get(..19).unwrap_or(time))
}

/// The time, to the millisecond.
fn wall() -> Result<String, Failed> {
    let date = Process::command("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output()?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

impl Drop for Agent {
    fn drop(&mut self) {
        // In good order, so that the agent goes with it.
        drop(Process::command("kill").args(["-TERM", &self.up.id().to_string()]).status());
        drop(self.up.child().wait());
    }
}
