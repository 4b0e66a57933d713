//! `running.json` in the data directory: which process runs on it.
//!
//! `garant up` writes it for the other commands; it holds nothing secret and is removed at a clean stop.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::write_whole;

use crate::configuration::Fixed;
use crate::failure::Failure;
use crate::place::Place;

/// The process that runs on a data directory, as `running.json` describes it for the other commands.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Running {
    /// Number of the process.
    pub(crate) pid: i32,
    /// The start of that process, see [`started`]: its number alone may have been given to another one since.
    pub(crate) started: String,
    /// The directory that it runs on: a copy of the directory has a copy of this file.
    pub(crate) place: Place,
    /// The policy file of the process, absolute.
    pub(crate) policy: PathBuf,
    /// Base URL of the team's listener.
    pub(crate) team: String,
    /// Base URL of the public listener, if there is one.
    pub(crate) public: Option<String>,
    /// Number of reloads that the process has tried.
    pub(crate) reloads: u64,
    /// Why the last reload failed; `None` after one that succeeded.
    pub(crate) reload_error: Option<String>,
    /// Revision of the policy in effect.
    pub(crate) revision: String,
    /// Whether the policy in effect publishes.
    pub(crate) publish: bool,
    /// The zone of the policy in effect, in which people read times.
    #[serde(default)]
    pub(crate) time_zone: String,
    /// Keys of the policy that are read at the start only, with their values.
    pub(crate) fixed: Fixed,
}

const RUNNING: &str = "running.json";

impl Running {
    /// Reads which process runs on `data`. A file whose process is gone counts as none, and so does one that was copied here
    /// from the directory on which its process runs.
    pub(crate) fn read(data: &Path) -> Result<Self, Failure> {
        let path = data.join(RUNNING);
        let holder = store::holder(data);
        let nothing = || match holder {
            Some(pid) => {
                Failure::new(format!("process {pid} has the data directory {}, and is not up yet", data.display()))
            }
            None => Failure::new(format!("no garant runs on the data directory {}", data.display())),
        };
        let remedy = match holder {
            Some(_) => {
                "it starts, stops, or is another command of garant: try again in a moment, and look at what it says on \
                        its standard error"
            }
            None => "start it with `garant up`, or name another directory with --data",
        };
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::new(format!("{} can't be read", path.display()))
                .because(&error)
                .remedy("run this command as the user that runs garant"),
            _ => nothing().because(&error).remedy(remedy),
        })?;
        let running: Self = serde_json::from_slice(&text).map_err(|error| {
            Failure::new(format!("{} can't be read", path.display()))
                .because(&error)
                .remedy("start `garant up` anew: it writes the file again")
        })?;
        let alive = started(running.pid).is_ok_and(|started| started == running.started);
        if !alive {
            return Err(nothing().remedy(remedy));
        }
        if !Place::of(data).is_ok_and(|here| here.is(&running.place)) {
            let other = running.place.path.display();
            let elsewhere = format!("its {RUNNING} was copied from {other}, on which process {} runs", running.pid);
            return Err(nothing()
                .because(&Failure::new(elsewhere))
                .remedy(format!("name the directory of that process, --data {other}")));
        }
        Ok(running)
    }

    /// Writes `running.json`, whole or not at all; on a full disk over that of a run before, which a crash has left.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        let (path, text) = (data.join(RUNNING), serde_json::to_vec(self)?);
        write_whole(&path, &text, 0o644).or_else(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => write_over(&path, &text).map_err(|_| error),
            _ => Err(error),
        })
    }

    /// Removes the `running.json` of this process, at a clean stop. Where another process has the directory by now, because it was
    /// replaced, that one's stays.
    pub(crate) fn remove(data: &Path) {
        let path = data.join(RUNNING);
        let written = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        if written.is_some_and(|written| written.pid != rustix::process::getpid().as_raw_nonzero().get()) {
            return;
        }
        // A file that could not be removed does no harm: its process is gone, or another has its number.
        drop(fs::remove_file(path));
    }
}

/// Writes over the file in place, which needs no free space. A reader may see half of it, and fails or tries again.
fn write_over(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

/// The start of a process: the boot id, and the kernel's ticks from the boot to it (proc_pid_stat(5), field 22). With the number of
/// the process it is unique; the number alone is given again, and the signal to reload may end the process that has it then.
pub(crate) fn started(pid: i32) -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The second field is the name of the program in parentheses, and may hold anything; the third comes after the last one.
    let ticks = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(19));
    let ticks =
        ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start")))?;
    Ok(format!("{} {ticks}", boot.trim()))
}
