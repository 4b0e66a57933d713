//! Where a data directory is: what tells it from a copy of it.
//!
//! A copy brings everything along: the key, the log, `running.json`, even the remembered head when that is copied too. What
//! it can't bring is its place in the file system. So `running.json` says of which directory it is, and the store
//! where garant ran on it last. `garant up` and `garant log rotate` compare before they record anything: two processes that
//! append to two copies of one log sign two histories, and nothing mends that. Moving a directory and restoring a backup
//! are legitimate, and look the same from here; so a start elsewhere is warned of and journaled, and refused only when the
//! process that ran there runs still.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use engine::{Clock, Recorder};
use event::engine::DataMoved;
use journal::Hash;
use serde::{Deserialize, Serialize};
use store::sqlite::Sqlite;
use store::{Consumers as _, Row, Rows as _, Step};

use crate::data::Running;
use crate::failure::Failure;

/// Consumer name of the row that holds the place of the last run.
const CONSUMER: &str = "data.place";
/// Key of that row.
const PLACE: &str = "place";

/// A directory of a machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Place {
    /// Its absolute path. Says where to look, and is not compared: a directory may be renamed, or mounted elsewhere.
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
    boot: String,
    /// A hash of machine-id(5), which is nobody's business; `None` on a machine that has none.
    machine: Option<String>,
}

impl Place {
    /// The place of the directory `data`.
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(data)?;
        let machine = std::fs::read_to_string("/etc/machine-id").ok();
        let machine = machine.filter(|id| !id.trim().is_empty());
        Ok(Self {
            path: std::path::absolute(data)?,
            device: metadata.dev(),
            inode: metadata.ino(),
            boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            machine: machine.map(|id| Hash::of(&[b"garant ", id.trim().as_bytes()]).to_string()),
        })
    }

    /// Whether both are one directory. Devices get their numbers anew at each boot, so they count within one only; then
    /// the root of a file system looks like that of any other, and what tells them apart is the machine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same_device = self.boot != other.boot || self.device == other.device;
        self.inode == other.inode && same_device && self.machine == other.machine
    }

    /// The path, and that it is on another machine if it is.
    fn seen_from(&self, here: &Self) -> String {
        let elsewhere = if self.machine == here.machine { "" } else { " on another machine" };
        format!("{}{elsewhere}", self.path.display())
    }
}

/// Where garant runs on a log now, and where it did last.
pub(crate) struct LastRun {
    cursor: Option<u64>,
    last: Option<Place>,
    now: Place,
}

impl LastRun {
    /// Reads where garant ran last on this log; refused while it runs there.
    pub(crate) async fn look(store: &Sqlite, data: &Path) -> Result<Self, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new("where garant ran last on this log can't be read").because(error)
        };
        let cursor = store.position(CONSUMER).await.map_err(|error| failed(&error))?;
        let rows = store.rows(CONSUMER, PLACE, None, 1).await.map_err(|error| failed(&error))?;
        let last = rows.first().and_then(|(_, value)| serde_json::from_slice(value).ok());
        let now = Place::of(data).map_err(|error| {
            Failure::new(format!("the data directory {} can't be looked at", data.display())).because(&error)
        })?;
        let found = Self { cursor, last, now };
        if let Some(last) = found.moved()
            && let Ok(running) = Running::read(&last.path)
            && Sqlite::open_read_only(&last.path).is_ok_and(|other| other.installation() == store.installation())
        {
            return Err(Failure::new(format!(
                "{} is a copy of {}, on which process {} runs: two processes that sign one log contradict each other",
                data.display(),
                last.path.display(),
                running.pid
            ))
            .remedy(
                "stop that process first if this copy is to take its place, and never start it again. A second \
                 installation starts with an empty data directory, and with another `name` in [journal]",
            ));
        }
        Ok(found)
    }

    /// Where garant runs now.
    pub(crate) const fn now(&self) -> &Place {
        &self.now
    }

    /// Where garant ran last, if that is not here.
    fn moved(&self) -> Option<&Place> {
        self.last.as_ref().filter(|last| !last.is(&self.now))
    }

    /// What people must know before anything is signed here; `None` where garant ran last.
    pub(crate) fn warning(&self) -> Option<String> {
        let last = self.moved()?;
        let there = if last.machine == self.now.machine && last.path != self.now.path && last.path.exists() {
            ", which is still there"
        } else {
            ""
        };
        let place = if last.path == self.now.path && last.machine == self.now.machine {
            "another directory of the same path, which this one has replaced".to_owned()
        } else {
            format!("{}{there}", last.seen_from(&self.now))
        };
        Some(format!(
            "the data directory {} is not where garant ran on this log last: that was {place}. If it was moved, or restored \
             from the newest backup, nothing is to be done, as long as garant never runs there again. If it is a copy, stop \
             garant now: two processes that sign one log contradict each other, and nobody can trust it again. A second \
             installation starts with an empty data directory, and with another `name` in [journal]; what to do after a loss \
             is in `garant log continue --help`",
            self.now.path.display(),
        ))
    }

    /// Keeps where garant runs now, and journals that it is elsewhere than before. A store that takes neither says so at
    /// the next start again.
    pub(crate) async fn keep(&self, store: &Sqlite, recorder: &Recorder, clock: &dyn Clock) {
        if self.last.as_ref() == Some(&self.now) {
            return;
        }
        let mut step = Step::new(CONSUMER, self.cursor, self.cursor.map_or(0, |cursor| cursor + 1));
        step.rows = vec![Row::Put { key: PLACE.to_owned(), value: serde_json::to_vec(&self.now).unwrap_or_default() }];
        if let Some(last) = self.moved() {
            let moved = DataMoved { from: last.seen_from(&self.now), to: self.now.path.display().to_string() };
            match recorder.seal(&moved, clock.now()) {
                Ok(event) => step.events.push(event),
                Err(error) => tracing::warn!(%error, "that the data directory is elsewhere can't be journaled"),
            }
        }
        if let Err(error) = store.step(step).await {
            tracing::warn!(%error, "the place of the data directory was not kept: the next start compares it anew");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_told_from_its_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("a")).expect("made");
        let here = Place::of(&at("a")).expect("a place");
        std::fs::create_dir(at("copy")).expect("made");
        assert!(!here.is(&Place::of(&at("copy")).expect("a place")));
        std::fs::rename(at("a"), at("renamed")).expect("renamed");
        assert!(here.is(&Place::of(&at("renamed")).expect("a place")), "its path is not compared");

        let other_device = Place { device: here.device + 1, ..here.clone() };
        assert!(!here.is(&other_device));
        assert!(here.is(&Place { boot: "the next".to_owned(), ..other_device.clone() }), "numbers are given anew");
        let other_machine = Place { machine: Some("x".to_owned()), boot: "its own".to_owned(), ..other_device };
        assert!(!here.is(&other_machine), "of two roots of file systems");
        assert!(other_machine.seen_from(&here).ends_with("a on another machine"));

        // Restored over itself: one path is not told twice.
        let restored = Place { inode: here.inode + 1, ..here.clone() };
        let warning = |last: &Place, now: &Place| {
            LastRun { cursor: None, last: Some(last.clone()), now: now.clone() }.warning().expect("elsewhere")
        };
        let warned = warning(&here, &restored);
        assert!(warned.contains("another directory of the same path"), "{warned}");
        assert_eq!(warned.matches(&here.path.display().to_string()).count(), 1, "{warned}");
        let warned = warning(&other_machine, &here);
        assert!(warned.contains("a on another machine"), "{warned}");
    }
}
