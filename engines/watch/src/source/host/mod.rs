//! The machine itself: processors, memory, disks, RAID (promise WA-2).
//!
//! It asks nobody, so it needs no confirmation, and what can't be read is unknown. It is up as long as it can be read: a
//! full disk is a finding (`disk-usage`), not an outage. Its figure is the use of the processors in hundredths of a
//! percent.

mod mdstat;
mod proc;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use event::{FindingId, Ppb, Span};
use policy::{Section, Table};

use self::proc::CpuTicks;
use crate::config::Common;
use crate::source::{Answer, Asking, Level, Probe, Settings, Symptom};

/// A finding ends when its figure is this far under its threshold, in hundredths of a percent.
const UNDER: i64 = 500;
const PROC: &str = "/proc";
/// What it looks for.
const FINDINGS: [&str; 4] = ["cpu-usage", "memory-usage", "disk-usage", "raid-degraded"];

/// `[[probe.host]]`.
#[derive(Clone, Debug)]
pub struct Host {
    common: Common,
    limits: Limits,
    disks: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    cpu: Ppb,
    memory: Ppb,
    disk: Ppb,
    lasting: Span,
}

impl Section for Host {
    const ABOUT: &'static str = "The machine on which garant runs. Findings: `cpu-usage`, `memory-usage` and `disk-usage` when \
        the figure stays over its threshold, `raid-degraded` as soon as an array of `/proc/mdstat` lacks a member.";
    const EXAMPLE: &'static str = "[[probe.host]]\nname = \"machine\"\nservice = \"shop\"\ndisk = \"90 %\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_here(table, Span::from_secs(1)..=Span::from_secs(3600), Span::from_secs(10));
        let usual = Ppb::new(800_000_000);
        let cpu = table.or("cpu", usual, "Share of the processors in use from which on it is a finding.");
        let memory = table.or("memory", usual, "Share of the memory that a new process can't have.");
        let disk = table.or("disk", usual, "Share of any disk in use.");
        let range = Span::ZERO..=Span::from_days(1);
        let about = "How long it must last; so long it must then be five points under the threshold to be over.";
        let lasting = table.or_in("for", Span::from_secs(300), &range, about);
        let about =
            "Directories whose disks are looked at. By default every disk of the machine, but network file systems.";
        let disks = table.list("disks", about);
        for finding in FINDINGS.into_iter().filter_map(finding) {
            table.provide(&finding);
        }
        Some(Self { common: common?, limits: Limits { cpu, memory, disk, lasting }, disks })
    }
}

impl Settings for Host {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self) -> Arc<dyn Probe> {
        Arc::new(Machine { limits: self.limits, disks: self.disks, ticks: Mutex::new(None), reading: Arc::default() })
    }
}

/// The machine, ready to be looked at.
struct Machine {
    limits: Limits,
    disks: Vec<PathBuf>,
    /// Of the look before: use of the processors is a difference.
    ticks: Mutex<Option<CpuTicks>>,
    /// A look is under way; a file system that hangs makes it last.
    reading: Arc<AtomicBool>,
}

/// The look under way is over when this is dropped, however it ended.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The figures of one look.
struct Look {
    ticks: CpuTicks,
    memory: i64,
    disk: Option<(i64, String)>,
    raid: Vec<String>,
}

/// Reads all figures. Blocks, for as long as a hanging file system does.
fn look(proc: &Path, disks: &[PathBuf]) -> Result<Look, String> {
    let read = |name: &str| {
        let path = proc.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))
    };
    let understood = |name: &str| format!("{}/{name} is not as Linux writes it", proc.display());
    let ticks = CpuTicks::parse(&read("stat")?).ok_or_else(|| understood("stat"))?;
    let memory = proc::memory_share(&read("meminfo")?).ok_or_else(|| understood("meminfo"))?;
    let directories = if disks.is_empty() {
        proc::disks(&read("mounts")?).into_iter().map(PathBuf::from).collect()
    } else {
        disks.to_vec()
    };
    let mut fullest: Option<(i64, String)> = None;
    for directory in &directories {
        let Some(share) = disk_share(directory)? else { continue };
        if fullest.as_ref().is_none_or(|(most, _)| share > *most) {
            fullest = Some((share, directory.display().to_string()));
        }
    }
    let raid = match std::fs::read_to_string(proc.join("mdstat")) {
        Ok(text) => mdstat::parse(&text).iter().filter_map(mdstat::Array::trouble).collect(),
        // A kernel without software RAID has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{}/mdstat can't be read: {error}", proc.display())),
    };
    Ok(Look { ticks, memory, disk: fullest, raid })
}

/// How full a disk is for those who may not use the reserve of root, as `df` says it. `None`: it has no size, or is a mount
/// that this user may not look at.
fn disk_share(directory: &Path) -> Result<Option<i64>, String> {
    match rustix::fs::statvfs(directory) {
        Ok(stat) => {
            let used = stat.f_blocks.saturating_sub(stat.f_bfree);
            Ok(proc::share(used, used + stat.f_bavail))
        }
        Err(rustix::io::Errno::ACCESS) => Ok(None),
        Err(error) => Err(format!("the disk of {} can't be looked at: {error}", directory.display())),
    }
}

fn finding(name: &'static str) -> Option<FindingId> {
    name.parse().ok()
}

impl Machine {
    fn answer(&self, look: &Look) -> Answer {
        let before = self.ticks.lock().unwrap_or_else(PoisonError::into_inner).replace(look.ticks);
        let cpu = before.and_then(|before| look.ticks.share_since(before));
        let Limits { cpu: cpu_limit, memory: memory_limit, disk: disk_limit, lasting } = self.limits;
        let mut symptoms = Vec::new();
        let mut usage = |name, figure: Option<i64>, limit: Ppb, what: &str| {
            if let (Some(finding), Some(figure)) = (finding(name), figure) {
                let text = format!("{what} {} % used, threshold {limit}", percent(figure));
                symptoms.push(Symptom { finding, level: level(figure, limit), lasting, text });
            }
        };
        usage("cpu-usage", cpu, cpu_limit, "processors");
        usage("memory-usage", Some(look.memory), memory_limit, "memory");
        if let Some((share, directory)) = &look.disk {
            usage("disk-usage", Some(*share), disk_limit, &format!("disk of {directory}"));
        }
        if let Some(finding) = finding("raid-degraded") {
            let (level, text) = match look.raid.as_slice() {
                [] => (Level::Low, "all RAID arrays are complete".to_owned()),
                troubles => (Level::High, troubles.join("; ")),
            };
            symptoms.push(Symptom { finding, level, lasting: Span::ZERO, text });
        }
        let text = symptoms.iter().map(|symptom| symptom.text.as_str()).collect::<Vec<_>>().join("; ");
        Answer { value: cpu, symptoms, ..Answer::up(text) }
    }
}

/// Hundredths of a percent as `81.25`.
fn percent(share: i64) -> String {
    format!("{}.{:02}", share / 100, share % 100)
}

fn level(figure: i64, limit: Ppb) -> Level {
    let limit = limit.parts() / 100_000;
    if figure >= limit {
        Level::High
    } else if figure < limit - UNDER {
        Level::Low
    } else {
        Level::Between
    }
}

#[async_trait]
impl Probe for Machine {
    async fn ask(&self, _: &Asking<'_>) -> Answer {
        if self.reading.swap(true, Ordering::AcqRel) {
            return Answer::unknown("a disk does not answer: the look before this one is still waiting for it");
        }
        let (disks, over) = (self.disks.clone(), Over(Arc::clone(&self.reading)));
        let looked = tokio::task::spawn_blocking(move || {
            let looked = look(Path::new(PROC), &disks);
            drop(over);
            looked
        });
        match looked.await {
            Ok(Ok(look)) => self.answer(&look),
            Ok(Err(reason)) => Answer::unknown(reason),
            Err(_) => Answer::unknown("the look at the machine was abandoned"),
        }
    }

    fn reaches_out(&self) -> bool {
        false
    }

    fn confirm(&self) -> bool {
        false
    }

    fn findings(&self) -> Vec<FindingId> {
        FINDINGS.into_iter().filter_map(finding).collect()
    }
}

#[cfg(test)]
mod tests;
