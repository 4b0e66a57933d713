//! Atomic creation of files, and bounded reading of small ones.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Longest key or checkpoint, in bytes; each is some hundred.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// The text of a key or a checkpoint; an error when it is no file, for a pipe or a device may have no end, or a longer one.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {} KiB", TEXT_BYTES_MAX / 1024)));
    }
    Ok(text)
}

/// Creates a file atomically and durably, with mode 0600. Fails with `AlreadyExists` when there is one.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The name is unique, the mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    fs::File::open(folder)?.sync_all()
}

/// Fails if [`store::write_whole`] could not replace the file. The file itself is not touched.
pub(crate) fn try_write(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".try");
    let beside = path.with_file_name(name);
    // Left behind by a crash, or a link that somebody else put there: removed, and not written through.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    fs::remove_file(&beside)
}
