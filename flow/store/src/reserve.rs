//! Space kept back for the one entry that says there is no space.
//!
//! A full disk is itself a thing that happened, and must be in the journal. So a file of a few megabytes is kept, really
//! allocated, and given back when the storage refuses an append: that pays for the entry. Nothing more is appended until the
//! file can be made again, which is also how one knows that there is space again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::lock::no_follow;
use crate::random;

/// Bytes kept back: the write-ahead log at its usual size, twice.
pub(crate) const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// The file that keeps the space.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join("reserve") }
    }

    /// Allocates the space. After an error nothing is kept back.
    pub(crate) fn fill(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&self.path)?;
        let result = allocate(&file);
        if result.is_err() {
            drop(file);
            self.release()?;
        }
        result
    }

    /// Gives the space back when there is no room without it to open the database: the reserve of the run before pays for a
    /// start on a full disk, and for the entry that says so.
    pub(crate) fn make_room(&self) -> io::Result<()> {
        if self.path.try_exists()? && !self.has_room_beside()? {
            tracing::warn!("the disk is full: the reserve is given up for this start");
            self.release()?;
        }
        Ok(())
    }

    /// Whether there is room for the write-ahead log beside the reserve: otherwise the next append would need the reserve
    /// again.
    pub(crate) fn has_room_beside(&self) -> io::Result<bool> {
        let free = rustix::fs::statvfs(&self.path)?;
        Ok(free.f_bavail.saturating_mul(free.f_frsize) >= RESERVE_BYTES / 2)
    }

    /// Gives the space back.
    pub(crate) fn release(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn allocate(mut file: &File) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            // Random bytes: a file system that compresses would keep nothing back for zeros.
            let mut block = vec![0; 1024 * 1024];
            for _ in 0..RESERVE_BYTES / block.len() as u64 {
                random::fill(&mut block)?;
                file.write_all(&block)?;
            }
            file.sync_all()
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// A link in its place is refused, and what it leads to is left alone.
    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "mine").expect("written");
        std::os::unix::fs::symlink(&victim, dir.path().join("reserve")).expect("linked");
        Reserve::new(dir.path()).fill().expect_err("a link");
        assert_eq!(std::fs::read(&victim).expect("there"), b"mine");
    }

    #[test]
    fn the_space_is_really_allocated() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let reserve = Reserve::new(dir.path());
        for _ in 0..2 {
            reserve.fill().expect("there is room");
            let allocated = std::fs::metadata(dir.path().join("reserve")).expect("there").blocks() * 512;
            assert!(allocated >= RESERVE_BYTES, "{allocated} bytes allocated");
        }
        reserve.release().expect("removed");
        reserve.release().expect("nothing to remove is no error");
        assert!(!dir.path().join("reserve").exists());
    }
}
