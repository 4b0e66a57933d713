//! Whether the files that are written to are still those in the data directory.
//!
//! A file that is deleted while it is open can be written to all the same, and is gone when the process ends. So somebody
//! who removes the data directory of a running garant, or restores another in its place, would lose everything that is
//! acknowledged from then on, without a word. The writer looks before each commit, and once a second.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files of the database, as they were when it was opened.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    dir: PathBuf,
    files: Vec<(PathBuf, Identity)>,
}

/// Device and inode of a file.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl OpenFiles {
    /// Those of these files of `dir` that are there.
    pub(crate) fn of(dir: &Path, names: &[&str]) -> io::Result<Self> {
        let mut files = Vec::with_capacity(names.len());
        for path in names.iter().map(|name| dir.join(name)) {
            match identity(&path) {
                Ok(identity) => files.push((path, identity)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// What happened to them, and what to do, in words; `None` while they are where they were.
    pub(crate) fn lost(&self) -> Option<String> {
        let (path, found) = self.files.iter().find_map(|(path, opened)| match identity(path) {
            Ok(now) if now == *opened => None,
            found => Some((path, found)),
        })?;
        let dir = self.dir.display();
        Some(match found {
            Ok(_) => format!(
                "{} was replaced while garant runs on {dir}: what it writes goes to the old file, and is gone when it stops. \
                 Stop garant, make sure that {dir} holds the newest data, and start it again",
                path.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => format!(
                "{} was deleted or moved away while garant runs on it: put {dir} back where it was, or stop garant, restore \
                 {dir}, and start it again",
                path.display()
            ),
            Err(error) => format!("{} can't be looked at: {}", path.display(), crate::words::io(&error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_any_more_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, away) = (folder.path().join("data"), folder.path().join("away"));
        std::fs::create_dir(&dir).expect("made");
        std::fs::write(dir.join("a"), "1").expect("written");
        let files = OpenFiles::of(&dir, &["a", "b"]).expect("looked at");
        std::fs::write(dir.join("a"), "2").expect("written");
        assert_eq!(files.lost(), None, "its content is not compared");
        std::fs::rename(&dir, &away).expect("moved");
        let lost = files.lost().expect("noticed");
        assert!(lost.contains("data/a was deleted or moved away"), "{lost}");
        std::fs::create_dir(&dir).expect("made");
        std::fs::copy(away.join("a"), dir.join("a")).expect("copied");
        let lost = files.lost().expect("noticed");
        assert!(lost.contains("data/a was replaced"), "{lost}");
        std::fs::remove_dir_all(&dir).expect("removed");
        std::fs::rename(&away, &dir).expect("moved back");
        assert_eq!(files.lost(), None);
    }
}
