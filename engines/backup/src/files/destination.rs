//! Where files are restored to: a directory, and nothing outside of it.
//!
//! Each path is resolved by the kernel below the directory and through no link (`openat2`): neither a name in a tree nor somebody who
//! puts a link in the way leads out of it. What is made belongs to us alone until its owner and mode are set, which is done last, for a
//! directory after all that is in it.

use std::ffi::{CString, OsStr};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, linkat,
    mkdirat, mknodat, openat, openat2, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{FilesError, node, walk};

/// Zeros that are this long, and lie so, are left out of a file: it has a hole there.
const HOLE_BYTES: usize = 64 * 1024;
/// Attributes that a new file has from the default of its directory.
const INHERITED: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// See the head of the module.
#[derive(Debug)]
pub(super) struct Destination {
    root: OwnedFd,
    /// Whether what is there is replaced.
    over: bool,
    /// The directory that was resolved last.
    last: Mutex<Option<(PathBuf, Arc<OwnedFd>)>>,
}

impl Destination {
    /// The directory at `into`, which is made where there is none, for us alone.
    ///
    /// # Errors
    /// Something is in it, unless `over`.
    pub(super) fn open(into: &Path, over: bool) -> Result<Self, FilesError> {
        let failed = |error| FilesError::Local { path: into.display().to_string(), error };
        match DirBuilder::new().mode(0o700).create(into) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        if !over && !walk::is_empty(into).map_err(failed)? {
            let reason =
                "something is in it; restore into an empty directory, or say that what is there may be replaced";
            return Err(failed(io::Error::new(io::ErrorKind::DirectoryNotEmpty, reason)));
        }
        let flags = OFlags::DIRECTORY.bits().cast_signed();
        let root = OpenOptions::new().read(true).custom_flags(flags).open(into).map_err(failed)?;
        Ok(Self { root: root.into(), over, last: Mutex::default() })
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(&self.root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)?)
    }

    /// The directory of a path, and its name in it.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((found, opened)) = &*last
            && found == folder
        {
            return Ok((Arc::clone(opened), name));
        }
        let opened = Arc::new(self.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY)?);
        *last = Some((folder.to_owned(), Arc::clone(&opened)));
        Ok((opened, name))
    }

    /// Makes something; where something is in its place and may be replaced, in its place.
    fn make(&self, path: &Path, make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<()>) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        match make(&folder, name) {
            Err(Errno::EXIST) if self.over => {
                unlinkat(&*folder, name, AtFlags::empty())?;
                Ok(make(&folder, name)?)
            }
            made => Ok(made?),
        }
    }

    /// Makes a directory, for us alone; one that is there stays, where what is there may be replaced.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        if self.over && self.beneath(path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        self.make(path, |folder, name| mkdirat(folder, name, Mode::RWXU))
    }

    /// Makes a file of a size, all of it a hole.
    pub(super) fn make_file(&self, path: &Path, size: u64) -> io::Result<()> {
        self.make(path, |folder, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
            rustix::fs::ftruncate(&file, size)
        })
    }

    /// Opens a file that was made, to write.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        Ok(self.beneath(path, OFlags::WRONLY)?.into())
    }

    /// Makes what is neither a file nor a directory.
    pub(super) fn make_special(&self, path: &Path, node: &Node) -> io::Result<()> {
        let (kind, device) = match &node.node_type {
            NodeType::Symlink { .. } => {
                let target = node.node_type.to_link();
                return self.make(path, |folder, name| symlinkat(target, folder, name));
            }
            NodeType::Dev { device } => (FileType::BlockDevice, *device),
            NodeType::Chardev { device } => (FileType::CharacterDevice, *device),
            NodeType::Fifo => (FileType::Fifo, 0),
            NodeType::Socket => (FileType::Socket, 0),
            NodeType::File | NodeType::Dir => return Ok(()),
        };
        self.make(path, |folder, name| mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device))
    }

    /// Gives a file a further name.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from_name) = self.place(from)?;
        self.make(to, |folder, name| linkat(&*from_folder, from_name, folder, name, AtFlags::empty()))
    }

    /// Removes a file that was made and can't be filled.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(unlinkat(&*folder, name, AtFlags::empty())?)
    }

    /// Sets owner, mode, attributes and times, in the order in which none undoes another; what can't be set is told to `problem`.
    pub(super) fn set_metadata(&self, path: &Path, node: &Node, mut problem: impl FnMut(String)) {
        let mut tell = |what: &str, done: io::Result<()>| {
            if let Err(error) = done {
                problem(format!("{what}: {error}"));
            }
        };
        let (folder, name) = match self.place(path) {
            Ok(place) => place,
            Err(error) => return tell("it is not there", Err(error)),
        };
        let folder = &*folder;
        let owner = (node.meta.uid.map(Uid::from_raw), node.meta.gid.map(Gid::from_raw));
        let owned = chownat(folder, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
        tell("its owner can't be set", owned.map_err(io::Error::from));
        // The calls below follow links or know no directory to begin from: they are given the thing itself, by its number.
        let opened = openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return tell("it is not there", Err(error.into())),
        };
        let itself = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let is_link = node.is_symlink();
        if !is_link {
            let mode = Mode::from_raw_mode(node::mode(node));
            tell("its mode can't be set", rustix::fs::chmod(&itself, mode).map_err(io::Error::from));
        }
        set_attributes(folder, name, &itself, node, &mut tell);
        let time = |at: Option<rustic_core::jiff::Timestamp>| {
            let at = at.unwrap_or_default();
            // Before 1970 both parts are negative; the kernel counts nanoseconds forward alone.
            let nanoseconds = i64::from(at.subsec_nanosecond());
            let tv_sec = at.as_second() - i64::from(nanoseconds < 0);
            Timespec { tv_sec, tv_nsec: nanoseconds.rem_euclid(1_000_000_000) }
        };
        if node.meta.mtime.is_some() {
            let times = Timestamps {
                last_access: time(node.meta.atime.or(node.meta.mtime)),
                last_modification: time(node.meta.mtime),
            };
            let set = utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW);
            tell("its times can't be set", set.map_err(io::Error::from));
        }
    }

    /// Writes everything through to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.root.as_fd())?)
    }
}

/// Sets the extended attributes of what is at `itself`, and in `folder` under `name`.
fn set_attributes(
    folder: &OwnedFd,
    name: &OsStr,
    itself: &Path,
    node: &Node,
    tell: &mut impl FnMut(&str, io::Result<()>),
) {
    let attributes = &node.meta.extended_attributes;
    if node.is_symlink() {
        // Through its number a link would be followed; through its directory it is not.
        let link = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        for attribute in attributes {
            let value = attribute.value.as_deref().unwrap_or_default();
            let set = rustix::fs::lsetxattr(&link, attribute.name.as_str(), value, XattrFlags::empty());
            tell(&format!("its attribute {} can't be set", attribute.name), set.map_err(io::Error::from));
        }
        return;
    }
    for inherited in INHERITED {
        if attributes.iter().all(|attribute| attribute.name != inherited)
            && let Ok(inherited) = CString::new(inherited)
        {
            match rustix::fs::removexattr(itself, &*inherited) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                // Only a directory has a default.
                Err(Errno::ACCESS | Errno::PERM) if !node.is_dir() && !node.is_file() => {}
                Err(error) => tell("an access control list can't be removed", Err(error.into())),
            }
        }
    }
    for attribute in attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        let set = rustix::fs::setxattr(itself, attribute.name.as_str(), value, XattrFlags::empty());
        tell(&format!("its attribute {} can't be set", attribute.name), set.map_err(io::Error::from));
    }
}

/// Writes a part of a file that was made as a hole, without its zeros.
pub(super) fn write(file: &File, at: u64, data: &[u8]) -> io::Result<()> {
    let (mut rest, mut at) = (data, at);
    while !rest.is_empty() {
        // Up to the next border of a hole.
        let behind = usize::try_from(at % HOLE_BYTES as u64).unwrap_or_default();
        let (block, after) = rest.split_at((HOLE_BYTES - behind).min(rest.len()));
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at)?;
        }
        at += block.len() as u64;
        rest = after;
    }
    Ok(())
}
