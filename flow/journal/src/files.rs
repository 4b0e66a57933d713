//! A log as files in a directory: what `export` writes and `audit` reads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::audit::ExportSource;
use crate::export::{self, ExportSink};

/// Longest file that is read, in bytes. A payload bundle has 256 payloads, of a few hundred bytes each as a rule.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Folders of an export that have folders in them.
const FOLDERS: [&str; 3] = ["tile", "payload", "proof"];
/// Folders within folders that are looked into; a log of 2^64 entries has no more.
const DEPTH_MAX: usize = 10;

/// A directory that holds an export, or will.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    path: PathBuf,
    /// Written or changed since the last [`ExportSink::sync`]: files, and folders.
    unsynced: BTreeSet<PathBuf>,
}

impl Directory {
    /// The directory at `path`; nothing is created or read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), unsynced: BTreeSet::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the files in the folder at the relative path `folder`, and in folders below. Links are not followed.
    fn list(&self, folder: &str, depth: usize, into: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(self.path.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_file() {
                into.push(path);
            } else if kind.is_dir() && depth < DEPTH_MAX && (depth > 0 || FOLDERS.contains(&path.as_str())) {
                self.list(&path, depth + 1, into)?;
            }
        }
        Ok(())
    }
}

impl ExportSource for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.path.join(path)) {
            Ok(file) => file,
            // `payload/000` may be missing, and so may the directory above it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if u64::try_from(read).is_ok_and(|read| read > FILE_BYTES_MAX) {
            return Err(io::Error::other(format!("the file is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(Some(bytes))
    }
}

impl ExportSink for Directory {
    /// Writes beside the file and renames over it, so that a reader sees the old bytes or the new ones. A file that has
    /// these bytes already is let alone.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.path.join(path);
        let parent = target.parent().unwrap_or(&self.path).to_owned();
        self.unsynced.insert(target.clone());
        let length = fs::symlink_metadata(&target).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
        if length == u64::try_from(bytes.len()).ok() && fs::read(&target).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        fs::create_dir_all(&parent)?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(export::UNFINISHED);
        let beside = parent.join(name);
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(beside, target)
    }

    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        self.read(export::CHECKPOINT)
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        let mut paths = Vec::new();
        self.list("", 0, &mut paths)?;
        Ok(paths)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let target = self.path.join(path);
        fs::remove_file(&target)?;
        self.unsynced.remove(&target);
        let mut folder = target.parent();
        // The folder of a partial tile goes with it; one that is not empty stays.
        while let Some(path) = folder.filter(|path| *path != self.path && fs::remove_dir(path).is_ok()) {
            folder = path.parent();
        }
        self.unsynced.extend(folder.map(Path::to_owned));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for path in &self.unsynced {
            fs::File::open(path)?.sync_all()?;
            folders.extend(
                path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.path)).map(Path::to_owned),
            );
        }
        folders.extend(self.path.parent().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned));
        for folder in folders {
            fs::File::open(folder)?.sync_all()?;
        }
        self.unsynced.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut files = Directory::new(directory.path().join("export"));
        assert_eq!(files.read("tile/0/000").expect("absent is no error"), None);
        files.write("tile/0/000", b"one").expect("written");
        files.write("tile/0/000", b"two").expect("replaced");
        files.write("tile/0/000", b"two").expect("the same");
        files.sync().expect("on the disk");
        assert_eq!(files.read("tile/0/000").expect("read"), Some(b"two".to_vec()));
        assert_eq!(files.read("tile/0/000/x").expect("below a file there is nothing"), None);
        assert!(files.read("tile/0").is_err(), "a directory is not a file");
        let left: Vec<_> = fs::read_dir(files.path().join("tile/0")).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
    }

    #[test]
    fn what_is_removed_is_gone_with_its_empty_folders() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut files = Directory::new(directory.path());
        for path in ["tile/0/000", "tile/0/001.p/7", "payload/000", "checkpoint", "notes/mine", "tile/0/notes/deep"] {
            files.write(path, b"x").expect("written");
        }
        std::os::unix::fs::symlink("/etc", directory.path().join("proof")).expect("linked");
        let mut paths = files.paths().expect("listed");
        paths.sort();
        let all = ["checkpoint", "payload/000", "tile/0/000", "tile/0/001.p/7", "tile/0/notes/deep"];
        assert_eq!(paths, all, "neither what is not ours nor behind a link");
        files.remove("tile/0/001.p/7").expect("removed");
        files.remove("payload/000").expect("removed");
        files.sync().expect("on the disk");
        assert!(!files.path().join("payload").exists() && !files.path().join("tile/0/001.p").exists());
        assert!(files.path().join("tile/0/000").exists() && files.path().join("notes/mine").exists());
    }
}
