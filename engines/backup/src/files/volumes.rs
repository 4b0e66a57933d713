//! Volumes of Docker, by their names: the directories in which they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use serde::Deserialize;

use super::{Files, FilesError};

/// Where Docker keeps its volumes, unless it is told otherwise.
pub const VOLUMES: &str = "/var/lib/docker/volumes";

/// What Docker writes down of a volume that was made with options; their names are Docker's.
#[derive(Deserialize)]
struct Options {
    #[serde(rename = "MountDevice", default)]
    mount_device: String,
}

impl Files {
    /// The paths of everything that is to be backed up.
    pub(super) fn all_paths(&self) -> Result<Vec<PathBuf>, FilesError> {
        let volumes = self.volumes.iter().map(|name| volume(&self.volumes_in, name));
        self.paths.iter().cloned().map(Ok).chain(volumes).collect()
    }
}

/// The directory of the volume `name`.
fn volume(volumes: &Path, name: &str) -> Result<PathBuf, FilesError> {
    let failed = |reason: String| FilesError::Source { path: format!("the volume `{name}` of Docker"), reason };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !is_name {
        return Err(failed("that is no name of a volume: `docker volume ls` shows them".into()));
    }
    // Docker's own directory is often a link to a larger disk.
    let folder = fs::canonicalize(volumes).unwrap_or_else(|_| volumes.to_owned()).join(name);
    let data = folder.join("_data");
    if let Err(error) = fs::metadata(&data) {
        let shown = data.display();
        return Err(failed(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no {shown}: `docker volume ls` shows the names"),
            _ => format!("{shown}: {error}"),
        }));
    }
    // A volume of another file system is mounted while a container uses it. Without that, its directory is there, and is empty.
    let options = match fs::read(folder.join("opts.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(data),
        read => read.map_err(|error| failed(format!("its options can't be read: {error}")))?,
    };
    let options: Options = serde_json::from_slice(&options).map_err(|_| {
        failed(format!("{}: its options are not as Docker writes them", folder.join("opts.json").display()))
    })?;
    if !options.mount_device.is_empty() && !is_mounted(&data).map_err(|error| failed(error.to_string()))? {
        let device = engine::printable::text(&options.mount_device).into_owned();
        return Err(failed(format!("{device} is not mounted on it: a container that uses it has to run")));
    }
    Ok(data)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
