//! Child processes, their processor time and memory from `/proc`, and real time.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A child process, killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    #[expect(clippy::disallowed_methods, reason = "a benchmark starts real programs")]
    pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
        Command::new(program)
    }

    pub(crate) fn start(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Processor seconds used by a process so far, all threads, user and system (proc(5), fields 14 and 15 of stat).
pub(crate) fn cpu_s(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    // USER_HZ is 100 on every Linux that runs Debian.
    Some((user + system) / 100.0)
}

/// Resident memory of a process, in MB (10^6 bytes).
pub(crate) fn resident_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// The most resident memory that a process has had, in MB (10^6 bytes).
pub(crate) fn peak_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Has the kernel begin anew with the most resident memory of a process (proc(5), `clear_refs`).
pub(crate) fn forget_peak(pid: u32) -> std::io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The processes that a process has started, whichever of its threads did.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children.flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The monotonic clock of the machine.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits in real time")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Builds `garant` for release; returns its path. `GARANT_BENCH_BINARY` names one that is built already.
pub(crate) fn garant() -> Result<std::path::PathBuf, Box<dyn std::error::Error>> {
    if let Some(binary) = std::env::var_os("GARANT_BENCH_BINARY") {
        return Ok(binary.into());
    }
    // Together with the benchmarks, as scripts/bench does: alone, its dependencies would be built with other features.
    let packages = ["build", "--release", "--quiet", "--package", "garant", "--package", "garant-bench"];
    let built = Process::command(env!("CARGO")).args(packages).status()?;
    if !built.success() {
        return Err("garant does not build".into());
    }
    let here = std::env::current_exe()?;
    Ok(here.with_file_name("garant"))
}

/// Processor seconds used by all children that have ended and been waited for, with theirs (proc(5), fields 16 and 17 of stat).
pub(crate) fn children_cpu_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}
