//! What is kept of a file beside its content, as restic keeps it.

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustic_core::jiff::Timestamp;
use rustic_core::repofile::{Metadata as NodeMetadata, Node, NodeType};
use rustix::io::Errno;

/// Most bytes of the names, and of one value, of extended attributes: the bounds of Linux.
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// The bits of a mode as Go has them, in which restic stores it.
mod go {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const FIFO: u32 = 1 << 25;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const PERMISSIONS: u32 = 0o777;
}

/// The node of what is at `path`, and what of it could not be read.
///
/// # Errors
/// It can't be kept at all.
pub(super) fn node(path: &Path, found: &Metadata) -> io::Result<(Node, Option<io::Error>)> {
    let kind = found.file_type();
    let (kind, type_bits) = if kind.is_dir() {
        (NodeType::Dir, go::DIR)
    } else if kind.is_symlink() {
        (NodeType::from_link(&fs::read_link(path)?), go::SYMLINK)
    } else if kind.is_fifo() {
        (NodeType::Fifo, go::FIFO)
    } else if kind.is_block_device() {
        (NodeType::Dev { device: found.rdev() }, go::DEVICE)
    } else if kind.is_char_device() {
        (NodeType::Chardev { device: found.rdev() }, go::DEVICE | go::CHAR_DEVICE)
    } else {
        (NodeType::File, 0)
    };
    let mut mode = type_bits | found.mode() & go::PERMISSIONS;
    for (bit, go) in [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)] {
        if found.mode() & bit != 0 {
            mode |= go;
        }
    }
    let modified = timestamp(found.mtime(), found.mtime_nsec());
    // Only what has several names is told from its likes by its device: elsewhere a new number of the device, after a restart, would
    // make every file another one.
    let has_links = found.nlink() > 1 && !found.is_dir();
    let mut meta = NodeMetadata {
        mode: Some(mode),
        mtime: modified,
        atime: modified,
        ctime: timestamp(found.ctime(), found.ctime_nsec()),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
        inode: found.ino(),
        device_id: if has_links { found.dev() } else { 0 },
        size: if found.is_file() { found.len() } else { 0 },
        links: if found.is_dir() { 0 } else { found.nlink() },
        ..NodeMetadata::default()
    };
    let mut problem = None;
    match attributes(path) {
        Ok(attributes) if attributes.is_empty() => {}
        Ok(attributes) => {
            // The library does not let its type be named.
            let names = attributes.iter().map(|(name, _)| serde_json::json!({ "name": name, "value": null })).collect();
            meta.extended_attributes = serde_json::from_value(serde_json::Value::Array(names))?;
            for (attribute, (_, value)) in meta.extended_attributes.iter_mut().zip(attributes) {
                attribute.value = Some(value);
            }
        }
        Err(error) => problem = Some(error),
    }
    let name = path.file_name().unwrap_or_default();
    Ok((Node::new_node(name, kind, meta), problem))
}

/// The mode of a node as the system has it, without its type.
pub(super) fn mode(node: &Node) -> u32 {
    let stored = node.meta.mode.unwrap_or(0o600);
    let mut mode = stored & go::PERMISSIONS;
    for (bit, go) in [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)] {
        if stored & go != 0 {
            mode |= bit;
        }
    }
    mode
}

fn timestamp(seconds: i64, nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
}

/// The extended attributes of what is at `path`, access control lists among them.
fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut buffer = vec![0; 256];
    let listed = grown(&mut buffer, |buffer| rustix::fs::llistxattr(path, buffer))?;
    let Some(listed) = listed else { return Ok(Vec::new()) };
    let mut attributes = Vec::new();
    for name in buffer[..listed].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let text =
            str::from_utf8(name).map_err(|_| io::Error::other("the name of an extended attribute is not UTF-8"))?;
        let name = CString::new(name)?;
        let mut value = vec![0; 256];
        // One that was removed meanwhile is none.
        if let Some(length) = grown(&mut value, |value| rustix::fs::lgetxattr(path, &*name, value))? {
            value.truncate(length);
            attributes.push((text.to_owned(), value));
        }
    }
    Ok(attributes)
}

/// Asks until the buffer is large enough; `None` where there is nothing of the kind.
fn grown(buffer: &mut Vec<u8>, ask: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match ask(buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(Errno::RANGE) if buffer.len() < ATTRIBUTE_BYTES_MAX => buffer.resize(buffer.len() * 16, 0),
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The raw bytes of a name, as part of a path.
pub(super) fn is_plain_name(name: &std::ffi::OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') && !bytes.contains(&0)
}
