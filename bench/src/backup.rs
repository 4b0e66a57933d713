//! Backups beside what people use today, in the same run and of the same data: restic and borg for files, `mariadb-backup` with
//! `zstd` and `openssl` for MariaDB, `pg_basebackup`, pgBackRest and `pg_receivewal` for PostgreSQL, and for restores a raw copy.
//!
//! Ours is the real thing: `garant up` with its agent, a base asked for by `garant backup run`, a restore by `garant restore`. So its
//! times hold what the peers leave out: what was written is read again, and a restore proves the instant. What a copy is on is a
//! directory of the same disk as the peer's. Memory is the most that was resident (`VmHWM`), of the agent for backups. Each is
//! measured in several rounds, by turns, and the median is shown, with the most memory of all rounds.
//!
//! As root, with the programs of MariaDB, PostgreSQL and restic; the servers are its own, on folders of their own.

mod agent;
pub(crate) mod files;
pub(crate) mod mariadb;
pub(crate) mod postgres;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Process, children, now, pause, peak_mb};
use crate::{Outcome, row};

/// The target for the resident memory of the agent.
const AGENT_MB: &str = "≤ 150 MB";
/// What [`Measured`] calls us.
const OURS: &str = "garant";
/// How often each is measured.
const ROUNDS: usize = 3;
/// How often a program that runs is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run() -> Outcome {
    files::run()?;
    mariadb::run()?;
    postgres::run()
}

/// Restores of large databases.
pub(crate) fn large() -> Outcome {
    mariadb::large()?;
    postgres::large()
}

/// What a program, or a pipe of them, took.
struct Took {
    seconds: f64,
    /// The most memory that was resident, of all its processes together.
    peak_mb: f64,
}

/// Runs a line of the shell in a session of its own to its end, with the memory of all that it starts.
fn shell(line: &str) -> Result<Took, Box<dyn std::error::Error>> {
    let mut command = Process::command("bash");
    command.args(["-c", &format!("set -euo pipefail; {line}")]);
    timed(&mut command)
}

/// Runs a program to its end.
fn timed(command: &mut Command) -> Result<Took, Box<dyn std::error::Error>> {
    let errors = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.reopen()?);
    let begun = now();
    let mut process = Process::start(command)?;
    let mut peaks = std::collections::BTreeMap::new();
    loop {
        for pid in tree(process.id()) {
            if let Some(mb) = peak_mb(pid) {
                let peak = peaks.entry(pid).or_insert(mb);
                *peak = f64::max(*peak, mb);
            }
        }
        if let Some(status) = process.child().try_wait()? {
            let seconds = begun.elapsed().as_secs_f64();
            if !status.success() {
                let said = std::fs::read_to_string(errors.path())?;
                return Err(format!("{command:?} failed: {said}").into());
            }
            return Ok(Took { seconds, peak_mb: peaks.values().sum() });
        }
        pause(LOOK_EVERY);
    }
}

/// A process and those below it.
fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(children(pid));
        at += 1;
    }
    all
}

/// What one thing took, of each who did it, in every round.
#[derive(Default)]
struct Measured(Vec<(&'static str, Vec<Took>)>);

impl Measured {
    fn add(&mut self, who: &'static str, took: Took) {
        match self.0.iter_mut().find(|(known, _)| *known == who) {
            Some((_, all)) => all.push(took),
            None => self.0.push((who, vec![took])),
        }
    }

    /// A row for each peer, then ours with the ratios.
    fn rows(&self, what: &str, bytes: u64, wanted: &str) {
        let medians: Vec<(&str, Took)> = self.0.iter().filter_map(|(who, all)| Some((*who, median(all)?))).collect();
        let figure = |took: &Took| {
            let rate = bytes as f64 / 1e6 / took.seconds;
            let memory = if took.peak_mb > 0.0 { format!(", {:.0} MB resident", took.peak_mb) } else { String::new() };
            format!("{:.1} s, {rate:.0} MB/s{memory}", took.seconds)
        };
        let peers = || medians.iter().filter(|(who, _)| *who != OURS);
        for (who, took) in peers() {
            row(&format!("{what}: {who}"), &figure(took), "the peer");
        }
        if let Some((_, ours)) = medians.iter().find(|(who, _)| *who == OURS) {
            let ratios: Vec<String> =
                peers().map(|(who, theirs)| format!("{:.2} × {who}", theirs.seconds / ours.seconds)).collect();
            row(&format!("{what}: garant"), &format!("{}: {}", figure(ours), ratios.join(", ")), wanted);
        }
    }
}

/// The median of the seconds, and the most memory.
fn median(all: &[Took]) -> Option<Took> {
    let mut seconds: Vec<f64> = all.iter().map(|took| took.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let seconds = *seconds.get(seconds.len() / 2)?;
    Some(Took { seconds, peak_mb: all.iter().map(|took| took.peak_mb).fold(0.0, f64::max) })
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let (path, metadata) =
            (entry.as_ref().map(std::fs::DirEntry::path), entry.as_ref().map(std::fs::DirEntry::metadata));
        if let (Ok(path), Ok(Ok(metadata))) = (path, metadata) {
            bytes += if metadata.is_dir() { size_of(&path)? } else { metadata.len() };
        }
    }
    Ok(bytes)
}

/// Bytes that look like text of a table: they are compressed to about a third.
struct Words(u64);

impl Words {
    fn write(&mut self, out: &mut impl std::io::Write, bytes: usize) -> std::io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let line = format!("{:016x};customer-{};paid;{}\n", self.0, (self.0 >> 40) % 10_000, (self.0 >> 20) % 100);
            let line = line.as_bytes().get(..line.len().min(left)).unwrap_or_default();
            out.write_all(line)?;
            left -= line.len();
        }
        Ok(())
    }
}

/// Writes all that waits to the disk, so that one measurement does not pay for another.
fn settle() -> Outcome {
    Process::command("sync").status()?;
    Ok(())
}

/// Writes a file of this many bytes.
fn write(path: &Path, words: &mut Words, bytes: usize) -> Outcome {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    words.write(&mut out, bytes)?;
    Ok(out.flush()?)
}
