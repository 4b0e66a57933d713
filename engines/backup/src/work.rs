//! Folders for what is only needed meanwhile, each locked by the process that works in it.
//!
//! One that is dropped is gone. One of a process that was killed stays behind: whoever makes the next folder beside it finds that nobody
//! holds its lock, and takes it away. The servers and programs that worked in it are tied to that process ([`engine::Program::tied`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use engine::Context;
use rustix::fs::{FlockOperation, flock};

use crate::database::DatabaseError;
use crate::sealed::hex;

/// The file that is locked, which says as well that a folder is one of ours.
const LOCK: &str = "garant.lock";

/// A folder of ours, which goes when it is dropped.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    _lock: File,
}

impl WorkFolder {
    /// A new folder in `parent`, which is made if it is not there. What killed processes have left in it is taken away.
    pub(crate) fn new(parent: &Path, what: &str, context: &Context) -> Result<Self, DatabaseError> {
        let mut random = [0; 4];
        context.random.fill(&mut random);
        let path = parent.join(format!("{what}-{}", hex(&random)));
        Self::make(parent, &path).map_err(|error| DatabaseError::Files { path, error })
    }

    fn make(parent: &Path, path: &Path) -> io::Result<Self> {
        // Through the parent others may go: what is in it decides for itself.
        DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
        for entry in fs::read_dir(parent)? {
            sweep(&entry?.path());
        }
        DirBuilder::new().mode(0o700).create(path)?;
        // It is locked before anybody can find it.
        let unnamed = path.join("garant.unlocked");
        let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unnamed, path.join(LOCK))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "a folder of temporary files stays behind");
    }
}

/// Takes everything away that is in a folder.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }?;
    }
    Ok(())
}

/// Takes away a folder of ours that nobody works in any more.
fn sweep(folder: &Path) {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        tracing::info!(folder = %folder.display(), "temporary files that were left behind are taken away");
        remove(folder);
    }
}

#[cfg(test)]
mod tests {
    use engine::sim::World;
    use event::Time;

    use super::*;

    #[test]
    fn what_a_killed_process_has_left_is_taken_away() {
        let context = World::at(Time::from_secs(0)).context("host".parse().expect("an observer")).expect("a context");
        let folder = tempfile::tempdir().expect("a folder");
        let parent = folder.path().join("work");
        let held = WorkFolder::new(&parent, "restore", &context).expect("made");
        fs::write(held.path().join("pages"), "much").expect("written");
        let (left, others) = (parent.join("restore-0badcafe"), parent.join("restore-mine"));
        for folder in [&left.join("server"), &others] {
            fs::create_dir_all(folder).expect("made");
        }
        fs::write(left.join(LOCK), "").expect("written");

        let next = WorkFolder::new(&parent, "base", &context).expect("made");
        assert!(!left.exists(), "nobody holds it");
        assert!(others.exists(), "it is none of ours");
        assert!(held.path().join("pages").exists() && next.path().exists(), "somebody works there");
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
    }
}
