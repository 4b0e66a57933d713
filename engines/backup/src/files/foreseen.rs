//! What can be said of files before they are walked, for whoever writes the policy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::walk::{Plan, itself};
use super::{Files, FilesError};

impl Files {
    /// Why they can't be walked as they are named, whatever is there: a path or a pattern is none.
    pub(crate) fn unsound(&self) -> Option<FilesError> {
        self.plan().err()
    }

    /// Whether a walk would come to this directory, a path without links, and keep what is in it.
    pub(crate) fn reaches(&self, directory: &Path) -> bool {
        self.plan().is_ok_and(|plan| plan.reaches(directory))
    }

    /// The paths and volumes that are not there, or are links, each with the cause. What this process may not look at is none of them.
    pub(crate) fn missing(&self) -> Vec<String> {
        let cause = |path: &Path| match itself(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => Some(error.to_string()),
            Ok(_) => None,
        };
        let paths = self.paths.iter().filter_map(|path| Some(format!("{}: {}", path.display(), cause(path)?)));
        let volumes = self.volumes.iter().filter_map(|name| {
            let path = self.place_of(name);
            Some(format!("the volume `{name}` of Docker, {}: {}", path.display(), cause(&path)?))
        });
        paths.chain(volumes).collect()
    }

    fn plan(&self) -> Result<Plan, FilesError> {
        let volumes = self.volumes.iter().map(|name| self.place_of(name));
        let paths: Vec<PathBuf> = self.paths.iter().cloned().chain(volumes).collect();
        Plan::new(&paths, &self.exclude, self.one_file_system)
    }

    fn place_of(&self, volume: &str) -> PathBuf {
        let volumes = fs::canonicalize(&self.volumes_in).unwrap_or_else(|_| self.volumes_in.clone());
        volumes.join(volume).join("_data")
    }
}
