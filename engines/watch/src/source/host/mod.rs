//! The machine itself: processors, memory, disks, RAID (promise WA-2).
//!
//! It asks nobody, so it needs no confirmation, and what can't be read is unknown. It is up as long as it can be read: a
//! full disk is a finding (`disk-usage`), not an outage. Each figure stands for itself: a disk that can't be looked at, or
//! that hangs, makes the machine degraded, which shows, and hides neither the other disks nor a broken RAID. Nobody knows
//! how full that disk is, so as long as no other is too full either, `disk-usage` could not be looked for. Nor could it where
//! no disk is seen at all. A disk that takes no more writes is full in another sense: one whose inodes are used up, one that an
//! error or an operator made read-only. The first counts as full; the second is looked at as before, and found,
//! `disk-read-only`, unless the policy says that it is to be so. A directory of `disks` at which a disk was mounted, or should
//! be by fstab(5), and at which none is any more, could not be looked at: what lies below it is another disk. Its figure is the use of the processors in hundredths of a percent.

mod mdstat;
mod proc;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use engine::reason::{REASONS_MAX, Reason, Resource};
use event::{FindingId, Ppb, Span};
use policy::{Section, Table};

use self::proc::{CpuTicks, Mounted};
use crate::source::{Answer, Asking, Common, Finding, Level, Probe, Settings, Symptom};

/// A finding ends when its figure is this far under its threshold, in hundredths of a percent.
const UNDER: i64 = 500;
const PROC: &str = "/proc";
const FSTAB: &str = "/etc/fstab";
/// What it looks for.
const FINDINGS: [Finding; 5] = [
    Finding { name: "cpu-usage", fr: "Processeurs trop chargés", en: "Processors too busy" },
    Finding { name: "memory-usage", fr: "Mémoire trop remplie", en: "Memory too full" },
    Finding { name: "disk-usage", fr: "Disque trop plein", en: "Disk too full" },
    Finding { name: "disk-read-only", fr: "Disque en lecture seule", en: "Read-only disk" },
    Finding { name: "raid-degraded", fr: "Grappe RAID dégradée", en: "Degraded RAID array" },
];
/// How long `garant check` waits for the disks.
const CHECKED_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// `[[probe.host]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Host {
    common: Common,
    limits: Limits,
    disks: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
    arrays: Vec<String>,
    arrays_ignored: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Limits {
    cpu: Ppb,
    memory: Ppb,
    disk: Ppb,
    lasting: Span,
}

impl Section for Host {
    const ABOUT: &'static str = "The machine on which garant runs. Findings: `cpu-usage`, `memory-usage` and `disk-usage` when \
        the figure stays over its threshold, `raid-degraded` as soon as an array of `/proc/mdstat` lacks a member, \
        `disk-read-only` as soon as a disk can only be read that the policy does not name as such.";
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
        let about = "Directories whose disks are looked at. By default every disk of the machine, but network file systems. One at which \
             a disk was mounted, or is to be by `/etc/fstab`, can't be looked at while it is not.";
        let disks = table.list("disks", about);
        let about = "Directories whose disks are meant to be read-only, such as an image. Their use is looked at only if `disks` \
             names them.";
        let read_only = table.list("read_only", about);
        let about = "RAID arrays of Linux, such as `md0`, that must be there: one that was not assembled is not listed by the kernel.";
        let arrays: Vec<String> = table.list("arrays", about);
        let about = "RAID arrays that are not looked at, such as one that is meant to run without all its members.";
        let arrays_ignored: Vec<String> = table.list("arrays_ignored", about);
        if let Some(both) = arrays.iter().find(|name| arrays_ignored.contains(name)) {
            let reason = format!("`{both}` must be there, and is not looked at");
            table.mistake("arrays_ignored", reason, "name it in one of the two");
        }
        for finding in FINDINGS.iter().filter_map(Finding::id) {
            table.provide(&finding);
        }
        Some(Self {
            common: common?,
            limits: Limits { cpu, memory, disk, lasting },
            disks,
            read_only,
            arrays,
            arrays_ignored,
        })
    }
}

impl Settings for Host {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let Self { limits, disks, read_only, arrays, arrays_ignored, .. } = Arc::unwrap_or_clone(self);
        let (fstab, mounted) = (FSTAB.into(), Arc::default());
        Arc::new(Machine::new(limits, Watched { disks, read_only, fstab, mounted, arrays, arrays_ignored }))
    }
}

/// The machine, ready to be looked at.
struct Machine {
    limits: Limits,
    watched: Watched,
    /// Of the look before: use of the processors is a difference.
    ticks: Mutex<Option<CpuTicks>>,
    /// A look at the disks is under way; a file system that hangs makes it last.
    reading: Arc<AtomicBool>,
}

/// Which disks and RAID arrays are looked at.
#[derive(Clone, Default, Debug)]
struct Watched {
    /// Directories of these; of all disks when there is none.
    disks: Vec<PathBuf>,
    /// Directories of those that are meant to be read-only.
    read_only: Vec<PathBuf>,
    /// The file that says what is to be mounted.
    fstab: PathBuf,
    /// Directories of `disks` that led to something mounted at an earlier look, each with where that was: links may be in it.
    mounted: Arc<Mutex<BTreeMap<PathBuf, PathBuf>>>,
    /// RAID arrays that must be there.
    arrays: Vec<String>,
    /// RAID arrays that are passed over.
    arrays_ignored: Vec<String>,
}

impl Watched {
    /// Why the disk that belongs at a directory can't be looked at; `None` when one is mounted there, or none ever was.
    fn unmounted(&self, directory: &Path, mounts: &[Mounted], fstab: &[String]) -> Option<String> {
        let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if mounts.iter().any(|mount| Path::new(&mount.directory) == whole) {
            mounted.insert(directory.to_owned(), whole);
            return None;
        }
        let shown = directory.display();
        if let Some(before) = mounted.get(directory) {
            let is_link = before != directory && *before != whole;
            Some(if is_link {
                format!("the disk of {shown} can't be looked at: it led to {}, and does no more", before.display())
            } else {
                format!("the disk of {shown} can't be looked at: it was mounted there, and is no more")
            })
        } else if fstab.iter().any(|there| Path::new(there) == whole) {
            Some(format!(
                "the disk of {shown} can't be looked at: it is not mounted, and {} says it should be",
                self.fstab.display()
            ))
        } else {
            None
        }
    }
}

/// The look at the disks is over when this is dropped, however it ended.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The figures of one look; none for what could not be read.
#[derive(Default)]
struct Look {
    ticks: Option<CpuTicks>,
    memory: Option<i64>,
    raid: Option<Vec<mdstat::Array>>,
    disks: Disks,
    /// What could not be read, and why.
    troubles: Vec<String>,
}

/// Reads all figures but of the disks, which may hang.
fn look(proc: &Path) -> Look {
    let mut look = Look::default();
    let understood = |name: &str| format!("{}/{name} is not as Linux writes it", proc.display());
    let read = |name: &str| read(proc, name);
    match read("meminfo").and_then(|text| proc::memory_share(&text).ok_or_else(|| understood("meminfo"))) {
        Ok(share) => look.memory = Some(share),
        Err(trouble) => look.troubles.push(trouble),
    }
    match read("stat").and_then(|text| CpuTicks::parse(&text).ok_or_else(|| understood("stat"))) {
        Ok(ticks) => look.ticks = Some(ticks),
        Err(trouble) => look.troubles.push(trouble),
    }
    match std::fs::read_to_string(proc.join("mdstat")) {
        Ok(text) => match mdstat::parse(&text) {
            Some(arrays) => look.raid = Some(arrays),
            None => look.troubles.push(understood("mdstat")),
        },
        // A kernel without software RAID has no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => look.raid = Some(Vec::new()),
        Err(error) => look.troubles.push(format!("{}/mdstat can't be read: {error}", proc.display())),
    }
    look
}

fn read(proc: &Path, name: &str) -> Result<String, String> {
    let path = proc.join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))
}

/// The disks at one look.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Disks {
    /// How full each is.
    uses: Vec<Use>,
    /// Those that can only be read, and are not meant to.
    read_only: Vec<String>,
    /// What could not be looked at, and why.
    troubles: Vec<String>,
}

/// How full a disk is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Use {
    directory: String,
    /// For those who may not use the reserve of root, as `df` says it, in hundredths of a percent.
    share: i64,
    /// Whether that is the share of its inodes, which may be used up while there is room.
    of_inodes: bool,
}

impl Disks {
    fn fullest(&self) -> Option<&Use> {
        self.uses.iter().max_by_key(|found| found.share)
    }
}

impl Use {
    fn reason(&self, limit: Ppb) -> Reason {
        let what = if self.of_inodes { Resource::Inodes } else { Resource::Disk };
        Reason::used(what, &self.directory, self.share, &limit)
    }

    fn told(&self, limit: Ppb) -> String {
        let what = if self.of_inodes { "inodes of the disk of" } else { "disk of" };
        used(&format!("{what} {}", self.directory), self.share, limit)
    }
}

fn is_disk_usage(symptom: &Symptom) -> bool {
    symptom.finding.as_str() == "disk-usage"
}

/// Looks at the disks. Blocks, for as long as a hanging file system does.
fn look_at_disks(proc: &Path, watched: &Watched) -> Disks {
    let mounts = match mounts(proc) {
        Ok(mounts) => mounts,
        Err(trouble) => return Disks { troubles: vec![trouble], ..Disks::default() },
    };
    let is_named = !watched.disks.is_empty();
    let directories: Vec<(PathBuf, bool)> = if is_named {
        let read_only = |directory: &PathBuf| {
            // One that can't be followed can't be looked at either, which is told below.
            let whole = directory.canonicalize().unwrap_or_else(|_| directory.clone());
            proc::mount_of(&mounts, &whole).is_some_and(|mounted| mounted.read_only)
        };
        watched.disks.iter().map(|directory| (directory.clone(), read_only(directory))).collect()
    } else {
        let disks = proc::disks(&mounts).into_iter();
        disks.map(|disk| (PathBuf::from(&disk.directory), disk.read_only)).collect()
    };
    // A machine without that file, such as a container, mounts by other means.
    let fstab = std::fs::read_to_string(&watched.fstab).map(|text| proc::to_be_mounted(&text)).unwrap_or_default();
    let mut disks = Disks::default();
    for (directory, read_only) in directories {
        if is_named && let Some(trouble) = watched.unmounted(&directory, &mounts, &fstab) {
            disks.troubles.push(trouble);
            continue;
        }
        let is_meant = watched.read_only.contains(&directory);
        if is_meant && !is_named {
            continue;
        }
        match disk(&directory, is_named) {
            Ok(Some(found)) => {
                if read_only && !is_meant {
                    disks.read_only.push(found.directory.clone());
                }
                disks.uses.push(found);
            }
            Ok(None) => {}
            Err(trouble) => disks.troubles.push(trouble),
        }
    }
    if disks.uses.is_empty() && disks.troubles.is_empty() {
        let reason = "no disk of this machine is seen here, as in a container: name directories in `disks`";
        disks.troubles.push(reason.to_owned());
    }
    disks
}

fn mounts(proc: &Path) -> Result<Vec<Mounted>, String> {
    let text = read(proc, "self/mountinfo")?;
    proc::mounts(&text).ok_or_else(|| format!("{}/self/mountinfo is not as Linux writes it", proc.display()))
}

/// Looks at the disk of a directory. `None`, unless the policy names it: it has no size, or another mount hides it.
fn disk(directory: &Path, named: bool) -> Result<Option<Use>, String> {
    let failed =
        |reason: &dyn std::fmt::Display| format!("the disk of {} can't be looked at: {reason}", directory.display());
    let stat = match rustix::fs::statvfs(directory) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) if !named => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let share = |all: u64, free: u64, available: u64| {
        let used = all.saturating_sub(free);
        proc::share(used, used.saturating_add(available))
    };
    let of_room = share(stat.f_blocks, stat.f_bfree, stat.f_bavail);
    // A file system without a table of them, such as Btrfs, says that it has none.
    let of_inodes = share(stat.f_files, stat.f_ffree, stat.f_favail);
    match of_room {
        None if named => Err(failed(&"it has no size, so it is no disk")),
        None => Ok(None),
        Some(room) => {
            let inodes = of_inodes.filter(|inodes| *inodes > room);
            let directory = directory.display().to_string();
            Ok(Some(Use { directory, share: inodes.unwrap_or(room), of_inodes: inodes.is_some() }))
        }
    }
}

fn finding(name: &'static str) -> Option<FindingId> {
    name.parse().ok()
}

impl Machine {
    fn new(limits: Limits, watched: Watched) -> Self {
        Self { limits, watched, ticks: Mutex::new(None), reading: Arc::default() }
    }

    /// The disks, as far as they answer within half of the time.
    async fn look_at_disks(&self, timeout: Span) -> Disks {
        let silent = || {
            let troubles = vec!["a disk does not answer: nothing is known of any".to_owned()];
            Disks { troubles, ..Disks::default() }
        };
        if self.reading.swap(true, Ordering::AcqRel) {
            return silent();
        }
        let (watched, over) = (self.watched.clone(), Over(Arc::clone(&self.reading)));
        let looked = tokio::task::spawn_blocking(move || {
            let looked = look_at_disks(Path::new(PROC), &watched);
            drop(over);
            looked
        });
        let half = Span::from_micros(timeout.micros() / 2);
        match tokio::time::timeout(half.to_std(), looked).await {
            Ok(Ok(disks)) => disks,
            Ok(Err(_)) | Err(_) => silent(),
        }
    }

    fn answer(&self, look: &Look) -> Answer {
        let cpu = look.ticks.and_then(|ticks| {
            let before = self.ticks.lock().unwrap_or_else(PoisonError::into_inner).replace(ticks);
            ticks.share_since(before?)
        });
        let Limits { cpu: cpu_limit, memory: memory_limit, lasting, .. } = self.limits;
        let mut symptoms = Vec::new();
        for (name, figure, limit, what, resource) in [
            ("cpu-usage", cpu, cpu_limit, "processors", Resource::Processors),
            ("memory-usage", look.memory, memory_limit, "memory", Resource::Memory),
        ] {
            if let (Some(finding), Some(figure)) = (finding(name), figure) {
                let text = used(what, figure, limit);
                let (level, about) = (level(figure, limit), Vec::new());
                let reasons = vec![Reason::used(resource, "", figure, &limit)];
                symptoms.push(Symptom { finding, level, lasting, about, text, reasons });
            }
        }
        symptoms.extend(self.disk_usage(&look.disks));
        symptoms.extend(read_only(&look.disks));
        if let (Some(finding), Some(arrays)) = (finding("raid-degraded"), &look.raid) {
            let raid = self.raid_troubles(arrays);
            let (level, text) = match raid.as_slice() {
                [] if arrays.iter().all(|array| self.watched.arrays_ignored.contains(&array.name)) => {
                    (Level::Low, "there is no RAID array to look at".to_owned())
                }
                [] => (Level::Low, "all RAID arrays are complete".to_owned()),
                troubles => (Level::High, troubles.join("; ")),
            };
            // By array, not by what is wrong with it: a rebuild makes progress.
            let about = raid.iter().map(|trouble| trouble.split(':').next().unwrap_or(trouble).to_owned()).collect();
            let reasons = raid.iter().take(REASONS_MAX).map(|trouble| Reason::raid(trouble)).collect();
            symptoms.push(Symptom { finding, level, lasting: Span::ZERO, about, text, reasons });
        }
        // As far as disks can be looked at, people are told how full they are, though nobody knows whether the finding is there.
        let fullest = look.disks.fullest().filter(|_| !symptoms.iter().any(is_disk_usage));
        let fullest = fullest.map(|found| found.told(self.limits.disk));
        let told = symptoms.iter().map(|symptom| symptom.text.as_str()).chain(fullest.as_deref());
        let troubles: Vec<_> = look.troubles.iter().chain(&look.disks.troubles).map(String::as_str).collect();
        let text = troubles.iter().copied().chain(told).collect::<Vec<_>>().join("; ");
        let answer = match (troubles.is_empty(), symptoms.is_empty()) {
            (true, _) => Answer::up(text),
            (false, true) => Answer::unknown(text),
            (false, false) => Answer::degraded(text),
        };
        Answer { value: cpu, symptoms, ..answer }
    }

    /// What is wrong with the arrays that are looked at.
    fn raid_troubles(&self, arrays: &[mdstat::Array]) -> Vec<String> {
        let Watched { arrays: wanted, arrays_ignored: ignored, .. } = &self.watched;
        let missing = wanted.iter().filter(|name| !arrays.iter().any(|array| array.name == **name));
        let missing = missing.map(|name| format!("RAID {name}: it is not there"));
        let here = arrays.iter().filter(|array| !ignored.contains(&array.name));
        missing.chain(here.filter_map(mdstat::Array::trouble)).collect()
    }

    /// One finding for all disks, which names each that is too full.
    fn disk_usage(&self, disks: &Disks) -> Option<Symptom> {
        let Limits { disk: limit, lasting, .. } = self.limits;
        let fullest = disks.fullest()?;
        let level = level(fullest.share, limit);
        if level != Level::High && !disks.troubles.is_empty() {
            return None;
        }
        let full: Vec<_> = disks.uses.iter().filter(|found| self::level(found.share, limit) == Level::High).collect();
        let text = match full.as_slice() {
            [] => fullest.told(limit),
            full => full.iter().map(|found| found.told(limit)).collect::<Vec<_>>().join("; "),
        };
        let reasons = match full.as_slice() {
            [] => vec![fullest.reason(limit)],
            full => full.iter().take(REASONS_MAX).map(|found| found.reason(limit)).collect(),
        };
        let about = full.into_iter().map(|found| found.directory.clone()).collect();
        Some(Symptom { finding: finding("disk-usage")?, level, lasting, about, text, reasons })
    }
}

/// One finding for all disks that refuse writes.
fn read_only(disks: &Disks) -> Option<Symptom> {
    let (level, text) = match disks.read_only.as_slice() {
        [] if disks.uses.is_empty() || !disks.troubles.is_empty() => return None,
        [] => (Level::Low, "every disk can be written to".to_owned()),
        directories => (Level::High, format!("disk of {}: it can only be read", directories.join(", "))),
    };
    let about = disks.read_only.clone();
    let reasons = if about.is_empty() { Vec::new() } else { vec![Reason::disks_read_only(&about)] };
    Some(Symptom { finding: finding("disk-read-only")?, level, lasting: Span::ZERO, about, text, reasons })
}

fn used(what: &str, figure: i64, limit: Ppb) -> String {
    format!("{what} {} % used, threshold {limit}", percent(figure))
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
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        match tokio::task::spawn_blocking(|| look(Path::new(PROC))).await {
            Ok(look) => self.answer(&Look { disks: self.look_at_disks(asking.timeout).await, ..look }),
            Err(_) => Answer::unknown("the look at the machine was abandoned"),
        }
    }

    fn reaches_out(&self) -> bool {
        false
    }

    fn confirm(&self) -> bool {
        false
    }

    fn findings(&self) -> Vec<Finding> {
        FINDINGS.to_vec()
    }

    fn warnings(&self) -> Vec<String> {
        let (sender, looked) = std::sync::mpsc::channel();
        let watched = self.watched.clone();
        // A file system that hangs must not hold whoever checks a policy.
        std::thread::spawn(move || {
            let mut troubles = look(Path::new(PROC)).troubles;
            let disks = look_at_disks(Path::new(PROC), &watched);
            troubles.extend(disks.troubles);
            let meant = |directory| {
                format!("the disk of {directory} can only be read: if it is meant to, name it in `read_only`")
            };
            troubles.extend(disks.read_only.into_iter().map(meant));
            sender.send(troubles).ok();
        });
        looked.recv_timeout(CHECKED_WITHIN).unwrap_or_else(|_| vec!["a disk does not answer".to_owned()])
    }
}

#[cfg(test)]
mod tests;
