//! The keys that seal payloads: one per retention class and UTC day, each in a file of its own.
//!
//! Deleting a row does not delete it from yesterday's backup. So payloads are sealed, in the database and so in every copy of
//! it, and forgetting a day means destroying 32 bytes that were never in a copy: the keys are kept outside the database, and
//! `docs/log.md` tells operators to leave `keys/` out of long-lived backups.
//!
//! **A key that is missing is made anew only for a day that has no payload yet.** Otherwise a restore without `keys/` would
//! go on under new keys of the same names, and putting the true ones back would make what was recorded meanwhile unreadable.
//! Who writes asks the database before [`KeyRing::create`].
//!
//! A key is on disk, with its directory, before the first payload sealed with it is: otherwise a crash could leave
//! payloads that nobody can read. Overwriting before unlinking reaches the block on file systems that write in place; on others
//! (copy-on-write, flash) it is the best a program can do, and the disk's own encryption has to do the rest.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{Day, Retention};
use journal::seal::DayKey;

use crate::lock::no_follow;
use crate::random;

/// Most bytes that are read of a key: one of 32 is right, and any other is said how long it is.
const KEY_FILE_BYTES_MAX: u64 = 1024;

type Cache = HashMap<(Retention, Day), DayKey>;

/// The day keys of one data directory.
#[derive(Debug)]
pub(crate) struct KeyRing {
    dir: PathBuf,
    /// Keys used before; at most one for each file.
    cache: Mutex<Cache>,
}

impl KeyRing {
    /// The key ring of a data directory. No folder is made before the first key is.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("keys"), cache: Mutex::default() }
    }

    /// The file of that key.
    pub(crate) fn path(&self, class: Retention, day: Day) -> PathBuf {
        self.dir.join(class.as_str()).join(format!("{day}.key"))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of that class and day, `None` when there is none (any more).
    pub(crate) fn get(&self, class: Retention, day: Day) -> io::Result<Option<DayKey>> {
        if let Some(key) = self.cache().get(&(class, day)) {
            return Ok(Some(key.clone()));
        }
        let path = self.path(class, day);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| io::Error::other(format!("{} has {} bytes instead of 32", path.display(), bytes.len())))?;
        let key = DayKey::new(bytes);
        self.cache().insert((class, day), key.clone());
        Ok(Some(key))
    }

    /// Whether there is a file of that key.
    pub(crate) fn is_there(&self, class: Retention, day: Day) -> io::Result<bool> {
        match std::fs::symlink_metadata(self.path(class, day)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the key of that class and day, of which there is none, and of which no payload is sealed; durable when it
    /// returns.
    pub(crate) fn create(&self, class: Retention, day: Day) -> io::Result<DayKey> {
        let class_dir = self.dir.join(class.as_str());
        DirBuilder::new().recursive(true).mode(0o700).create(&class_dir)?;
        for dir in [self.dir.parent(), Some(self.dir.as_path())].into_iter().flatten() {
            File::open(dir)?.sync_all()?;
        }
        let path = self.path(class, day);
        let unfinished = path.with_extension("new");
        let key = DayKey::new(random::bytes()?);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(no_follow())
                .open(&unfinished)?;
            file.write_all(key.bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            File::open(&class_dir)?.sync_all()
        };
        write().inspect_err(|_| {
            // Half a key is of no use; if even this fails, the next attempt truncates it.
            std::fs::remove_file(&unfinished).unwrap_or_default();
        })?;
        self.cache().insert((class, day), key.clone());
        Ok(key)
    }

    /// Destroys the key; returns whether there was one. Durable when it returns.
    pub(crate) fn destroy(&self, class: Retention, day: Day) -> io::Result<bool> {
        self.cache().remove(&(class, day));
        let path = self.path(class, day);
        let mut file = match OpenOptions::new().write(true).custom_flags(no_follow()).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        file.write_all(&[0; 32])?;
        file.sync_all()?;
        std::fs::remove_file(&path)?;
        File::open(self.dir.join(class.as_str()))?.sync_all()?;
        Ok(true)
    }
}

/// Reads a key, and follows no link.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY: Day = Day::from_days(20_000);

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_key_lasts_until_it_is_destroyed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ring = KeyRing::new(dir.path());
        assert!(ring.get(Retention::Audit, DAY).expect("readable").is_none());
        let key = ring.create(Retention::Audit, DAY).expect("made");
        let other = ring.create(Retention::Evidence, DAY).expect("made");
        assert_ne!(key.bytes(), other.bytes());

        let reopened = KeyRing::new(dir.path());
        let again = reopened.get(Retention::Audit, DAY).expect("readable").expect("there");
        assert_eq!(again.bytes(), key.bytes());
        assert_eq!(mode(&dir.path().join("keys/audit/2024-10-04.key")), 0o600);
        assert_eq!(mode(&dir.path().join("keys/audit")), 0o700);
        assert_eq!(mode(&dir.path().join("keys")), 0o700);

        // The bytes themselves are overwritten, not only their name removed: seen through a second name.
        let second_name = dir.path().join("second");
        std::fs::hard_link(dir.path().join("keys/audit/2024-10-04.key"), &second_name).expect("linked");
        assert!(reopened.destroy(Retention::Audit, DAY).expect("destroyed"));
        assert_eq!(std::fs::read(second_name).expect("there"), [0; 32]);
        assert!(!reopened.destroy(Retention::Audit, DAY).expect("nothing left is no error"));
        assert!(reopened.get(Retention::Audit, DAY).expect("readable").is_none());
        assert!(reopened.get(Retention::Evidence, DAY).expect("readable").is_some());
    }

    #[test]
    fn a_link_is_no_key() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ring = KeyRing::new(dir.path());
        ring.create(Retention::Audit, DAY).expect("made");
        let (path, elsewhere) = (dir.path().join("keys/audit/2024-10-04.key"), dir.path().join("elsewhere"));
        std::fs::rename(&path, &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        KeyRing::new(dir.path()).get(Retention::Audit, DAY).expect_err("not followed to be read");
        KeyRing::new(dir.path()).destroy(Retention::Audit, DAY).expect_err("nor to be overwritten");
        assert_ne!(std::fs::read(&elsewhere).expect("there"), [0; 32]);
    }

    #[test]
    fn a_key_of_the_wrong_length_is_no_key() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ring = KeyRing::new(dir.path());
        ring.create(Retention::Audit, DAY).expect("made");
        std::fs::write(dir.path().join("keys/audit/2024-10-04.key"), [1; 31]).expect("written");
        let refused = KeyRing::new(dir.path()).get(Retention::Audit, DAY).expect_err("not made anew");
        assert!(refused.to_string().contains("31 bytes instead of 32"), "{refused}");
    }
}
