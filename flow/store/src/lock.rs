//! One process per data directory.
//!
//! Two writers on one log would sign two histories, which is the one thing a log must never do. SQLite's own locks last a
//! transaction, so they don't keep a second process out; a lock of the kernel on a file does, for as long as the process
//! lives and not an instant longer, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use event::Time;

use crate::OpenError;

const FILE: &str = "garant.lock";

/// Refuses the data directory of another user. Also called before anything else is written there: files that root leaves in
/// it are of no use to its owner.
///
/// # Errors
///
/// [`OpenError::OtherOwner`], and [`OpenError::Io`] when there is no such directory.
pub fn refuse_of_another(dir: &Path) -> Result<(), OpenError> {
    let owner = std::fs::metadata(dir).map_err(OpenError::io("looking at the data directory", dir))?.uid();
    let us = rustix::process::geteuid().as_raw();
    if owner == us { Ok(()) } else { Err(OpenError::OtherOwner { dir: dir.to_owned(), owner, us }) }
}

/// The lock of a data directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Creates the directory when it is missing, makes sure that it is ours, and locks it.
    pub(crate) fn take(dir: &Path, now: Time) -> Result<Self, OpenError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(OpenError::io("creating the data directory", dir))?;
        refuse_of_another(dir)?;
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::io("opening the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // A holder that just started may not have written its number yet: then the message lacks it.
                let read = file.read_to_string(&mut holder);
                let named = read.is_ok() && !holder.trim().is_empty();
                let holder = if named { holder.trim().to_owned() } else { "it has not yet said who it is".to_owned() };
                return Err(OpenError::InUse { dir: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => {
                return Err(OpenError::Io { what: "locking the file", path, source });
            }
        }
        let line = format!("process {} since {now}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(line.as_bytes()))
            .map_err(OpenError::io("writing the lock file", &path))?;
        Ok(Self { _file: file })
    }
}
