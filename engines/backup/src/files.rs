//! Files: directories, kept in the repository format of restic, so that stock restic reads what we write.
//!
//! **Problem.** What reads a disk and makes a snapshot of it is believed for years before anybody restores. A file that could not be
//! read, a mount that was away, an upload that failed: each must be known on the day, not on the day it is needed.
//! **Principle.** The format (chunks, packs, trees) is made by `rustic_core`; what it is given and what is made of its result is
//! ours. [`walk`] reads the disk and [`source`] counts what was read; [`backend`] puts objects at every copy and holds the snapshot
//! back; [`take`] reads the tree back from the copies, compares it with what was walked, and only then lets the snapshot out.
//! What could not be read is named in the snapshot and in the result: restic's exit code 3, and never less.
//!
//! Each backup has a repository of its own, in the folder `restic/NAME` of every copy, with a [`password`] that is derived from the
//! repository key. One host writes to it ([`lease`]); only the server deletes ([`destroy`]). There are no lock objects of restic, for
//! no host could remove them: stock restic is used with `--no-lock`, to read.
//!
//! [`destroy`]: self::destroy
//! [`walk`]: self::walk
//! [`source`]: self::source
//! [`backend`]: self::backend
//! [`take`]: self::take

mod backend;
mod check;
mod chunk;
mod destination;
mod destroy;
mod foreseen;
mod index;
mod key;
mod lease;
mod node;
mod open;
mod problems;
mod restore;
mod source;
mod take;
#[cfg(test)]
mod tests;
mod thread;
mod verify;
mod volumes;
mod walk;
mod words;

use std::path::PathBuf;

use event::Time;

use crate::FilesSettings;
use crate::sealed::RepositoryError;

pub use check::{FilesChecked, Finding, Share};
pub(crate) use destroy::Intended;
pub use destroy::{FilesDestroyed, Hidden};
pub use key::password;
pub(crate) use lease::{FOLDER as LEASES, lease_ended};
pub use lease::{Lease, LeaseError, Role};
pub use problems::{Problem, Problems};
pub use restore::{FilesRestored, Point, RestoreOptions};
pub use take::FilesTaken;
pub use volumes::VOLUMES;

/// What is backed up under one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// Its name, a part of the names of its objects.
    pub name: String,
    /// Directories and files, by absolute paths.
    pub paths: Vec<PathBuf>,
    /// Volumes of Docker, by their names.
    pub volumes: Vec<String>,
    /// Where Docker keeps its volumes; [`VOLUMES`] unless it was told otherwise.
    pub volumes_in: PathBuf,
    /// Patterns of what is left out, as in `.gitignore`, with `/` at the start for an absolute path.
    pub exclude: Vec<String>,
    /// Whether to stay on the file systems of `paths` and `volumes`: what is mounted below them is then an empty directory.
    pub one_file_system: bool,
    /// Whether a path that is empty now, and was not in the last snapshot, is taken as it is: else it is an error, for a mount may be
    /// away.
    pub may_be_empty: bool,
}

impl From<&FilesSettings> for Files {
    fn from(settings: &FilesSettings) -> Self {
        Self {
            name: settings.name.clone(),
            paths: settings.paths.clone(),
            volumes: settings.volumes.clone(),
            volumes_in: VOLUMES.into(),
            exclude: settings.exclude.clone(),
            one_file_system: settings.one_file_system,
            may_be_empty: settings.may_be_empty,
        }
    }
}

impl Files {
    /// The files of a backup that has left the policy.
    pub(crate) fn left(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            paths: Vec::new(),
            volumes: Vec::new(),
            volumes_in: VOLUMES.into(),
            exclude: Vec::new(),
            one_file_system: false,
            may_be_empty: false,
        }
    }
}

/// A snapshot, as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Its identifier, in hexadecimal.
    pub id: String,
    /// When its files were read.
    pub at: Time,
    /// The paths.
    pub paths: Vec<String>,
    /// Number of files.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// What it lacks, in words; `None` for a whole one.
    pub lacks: Option<String>,
}

/// Files could not be backed up, listed, checked or restored.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The repository, or a copy of it, failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// What is backed up can't be read as a whole: nothing is kept.
    #[error("{path}: {reason}")]
    Source {
        /// The path, or the name of the volume.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// What was written is not what was read: nothing is kept.
    #[error("the snapshot was not kept: {0}")]
    Unfaithful(String),
    /// Somebody else writes to the repository, or destroys in it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// No snapshot is the one that was asked for.
    #[error("{0}")]
    NoSnapshot(String),
    /// A file or a directory of this machine failed.
    #[error("{path}: {error}")]
    Local {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// What is stored is not as it was written.
    #[error("{0}")]
    Stored(String),
    /// It was told to stop.
    #[error("it was stopped before its end; nothing is kept of it, and what was stored is used by the next backup")]
    Stopped,
}
