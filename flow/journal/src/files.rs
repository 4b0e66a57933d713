//! A log as files in a directory: what `export` writes and `audit` reads.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::audit::Source;
use crate::export::Sink;

/// Longest file that is read, in bytes. A payload bundle has 256 payloads, of a few hundred bytes each as a rule.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A directory that holds an export, or will.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at `path`; nothing is created or read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Source for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.0.join(path)) {
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

impl Sink for Directory {
    /// Writes beside the file and renames over it, so that a reader sees the old bytes or the new ones.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.0.join(path);
        let parent = target.parent().unwrap_or(&self.0);
        fs::create_dir_all(parent)?;
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let beside = parent.join(name);
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(beside, target)
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
        assert_eq!(files.read("tile/0/000").expect("read"), Some(b"two".to_vec()));
        assert_eq!(files.read("tile/0/000/x").expect("below a file there is nothing"), None);
        assert!(files.read("tile/0").is_err(), "a directory is not a file");
        let left: Vec<_> = fs::read_dir(files.path().join("tile/0")).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
    }
}
