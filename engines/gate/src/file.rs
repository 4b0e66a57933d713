//! Reading of the files that the policy names: certificates, and documents that are shown when no upstream works.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a whole regular file of at most `bytes_max` bytes. A pipe or a device in its place is an error, as is more: to open a pipe is to
/// wait for somebody who writes into it, and the whole gate would.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::other(format!("it is longer than {} KiB", bytes_max / 1024)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        std::fs::write(&file, [b'x'; 2048]).expect("written");
        assert_eq!(read(&file, 2048).expect("read").len(), 2048);
        let refused = |path: &Path| read(path, 1024).expect_err("refused").to_string();
        assert_eq!(refused(&file), "it is longer than 1 KiB");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("made");
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(refused(path), "it is no regular file", "{}", path.display());
        }
        assert!(refused(&folder.path().join("none")).contains("No such file"));
    }
}
