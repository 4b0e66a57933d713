//! One process per data directory.
//!
//! Two writers on one log would sign two histories, which is the one thing a log must never do. SQLite's own locks last a
//! transaction, so they don't keep a second process out; a lock of the kernel on a file does, for as long as the process
//! lives and not an instant longer, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use event::Time;

use crate::OpenError;

const FILE: &str = "garant.lock";

/// Rights of a data directory that nobody but its owner may have: whoever can write there can put another file, or a link to
/// one, in the place of each.
const OTHERS_WRITE: u32 = 0o022;

/// Refuses the data directory of another user, one that others can write to, and links in it. Also called before anything
/// else is written there: files that root leaves in it are of no use to its owner.
///
/// # Errors
///
/// [`OpenError::OtherOwner`], [`OpenError::OthersWrite`], [`OpenError::Link`]; [`OpenError::Io`] when there is no such
/// directory.
pub fn refuse_of_another(dir: &Path) -> Result<(), OpenError> {
    let metadata = std::fs::metadata(dir).map_err(OpenError::io("looking at the data directory", dir))?;
    let (owner, us) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        return Err(OpenError::OtherOwner { dir: dir.to_owned(), owner, us });
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(OpenError::OthersWrite { dir: dir.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    match link_in(dir).map_err(OpenError::io("looking through the data directory", dir))? {
        None => Ok(()),
        Some(link) => Err(OpenError::Link { link }),
    }
}

/// A link in the place of a file or folder of the store, if there is one. The signing key and what the operator put there
/// are not looked at.
fn link_in(dir: &Path) -> io::Result<Option<PathBuf>> {
    const OURS: [&str; 9] = [
        FILE,
        "garant.db",
        "garant.db-wal",
        "garant.db-shm",
        "reserve",
        "running.json",
        "team.token",
        "samples",
        "keys",
    ];
    for name in OURS {
        let path = dir.join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return Ok(Some(path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut folders = vec![dir.join("samples"), dir.join("keys")];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                return Ok(Some(entry.path()));
            }
            if kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(None)
}

/// For [`OpenOptionsExt::custom_flags`]: a link in the place of the file is an error.
pub(crate) fn no_follow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// The process that has locked the data directory, if there is one that this one can see. Takes no lock itself, not for an
/// instant, for a process that starts meanwhile would find the directory in use.
pub fn holder(dir: &Path) -> Option<u32> {
    let path = dir.join(FILE);
    let line = std::fs::read_to_string(&path).ok()?;
    let pid: u32 = line.strip_prefix("process ")?.split_whitespace().next()?.parse().ok()?;
    let inode = std::fs::metadata(&path).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().any(|lock| is_lock(lock, pid, inode)).then_some(pid)
}

/// Whether a line of `/proc/locks` (proc_locks(5)) is a lock of that process on that file: `1: FLOCK ADVISORY WRITE 4711
/// fe:01:1839 0 EOF`. The device is not compared: that of some file systems is another there than in stat(2).
fn is_lock(line: &str, pid: u32, inode: u64) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, holder, file, ..] = fields[..] else { return false };
    holder.parse() == Ok(pid) && file.rsplit(':').next().and_then(|inode| inode.parse().ok()) == Some(inode)
}

/// The lock of a data directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: File,
}

impl Drop for DirLock {
    /// Unlocks, as closing would not where a program is just being started: until it is, it has the file open too.
    fn drop(&mut self) {
        _ = self.file.unlock();
    }
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
            .custom_flags(no_follow())
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
        // Not emptied first: on a full disk the room of the old line is what the new one takes.
        file.rewind()
            .and_then(|()| file.write_all(line.as_bytes()))
            .and_then(|()| file.set_len(line.len() as u64))
            .map_err(OpenError::io("writing the lock file", &path))?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_directory_is_seen() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(holder(dir.path()), None, "there is no such file");
        let lock = DirLock::take(dir.path(), Time::from_secs(1)).expect("free");
        assert_eq!(holder(dir.path()), Some(std::process::id()));
        let other = tempfile::tempdir().expect("temporary directory");
        std::fs::copy(dir.path().join(FILE), other.path().join(FILE)).expect("copied");
        assert_eq!(holder(other.path()), None, "a copy of the file is not locked");
        drop(lock);
        assert_eq!(holder(dir.path()), None, "its line is left, and says nothing");
    }

    #[test]
    fn lines_of_locks_are_read() {
        let line = "1: FLOCK  ADVISORY  WRITE 4711 fe:01:1839 0 EOF";
        assert!(is_lock(line, 4711, 1839));
        for (pid, inode) in [(4712, 1839), (4711, 839), (1, 1)] {
            assert!(!is_lock(line, pid, inode), "{pid} {inode}");
        }
        assert!(!is_lock("1: POSIX  ADVISORY  WRITE 4711 fe:01:1839 0 EOF", 4711, 1839));
        assert!(!is_lock("1: -> FLOCK  ADVISORY  WRITE 4711 fe:01:1839 0 EOF", 4711, 1839), "it waits");
        assert!(!is_lock("", 4711, 1839));
    }
}
