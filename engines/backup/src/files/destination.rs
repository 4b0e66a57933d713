//! Where files are restored to: a directory, and nothing outside of it.
//!
//! Each path is resolved by the kernel below the directory and through no link (`openat2`): neither a name in a tree nor somebody who
//! puts a link in the way leads out of it. What is made belongs to us alone until its owner and mode are set, which is done last, for a
//! directory after all that is in it. Each thread that makes something has a [`Hand`].

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    futimens, linkat, mkdirat, mknodat, openat, openat2, symlinkat, unlinkat, utimensat,
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
    /// Whether what is made may have an access control list, from a directory that was there.
    inherits: bool,
}

/// Who makes things in a destination.
#[derive(Debug)]
pub(super) struct Hand<'a> {
    destination: &'a Destination,
    /// The directory that was resolved last.
    last: Option<(PathBuf, Arc<OwnedFd>)>,
}

/// What most files have beside their content, and nothing else.
#[derive(Debug)]
pub(super) struct Basics {
    owner: (Option<Uid>, Option<Gid>),
    mode: Mode,
    times: Option<Timestamps>,
}

impl Basics {
    pub(super) fn of(node: &Node) -> Self {
        let time = |at: rustic_core::jiff::Timestamp| {
            // Before 1970 both parts are negative; the kernel counts nanoseconds forward alone.
            let nanoseconds = i64::from(at.subsec_nanosecond());
            let tv_sec = at.as_second() - i64::from(nanoseconds < 0);
            Timespec { tv_sec, tv_nsec: nanoseconds.rem_euclid(1_000_000_000) }
        };
        let times = node.meta.mtime.map(|modified| Timestamps {
            last_access: time(node.meta.atime.unwrap_or(modified)),
            last_modification: time(modified),
        });
        Self {
            owner: (node.meta.uid.map(Uid::from_raw), node.meta.gid.map(Gid::from_raw)),
            mode: Mode::from_raw_mode(node::mode(node)),
            times,
        }
    }
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
        let root: OwnedFd = OpenOptions::new().read(true).custom_flags(flags).open(into).map_err(failed)?.into();
        let inherits = over || rustix::fs::fgetxattr(&root, INHERITED[1], &mut [0_u8; 0]).is_ok();
        Ok(Self { root, over, inherits })
    }

    pub(super) const fn hand(&self) -> Hand<'_> {
        Hand { destination: self, last: None }
    }

    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(&self.root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)?)
    }

    /// Writes everything through to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.root.as_fd())?)
    }
}

impl Hand<'_> {
    /// The directory of a path, and its name in it.
    fn place<'a>(&mut self, path: &'a Path) -> io::Result<(Arc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some((found, opened)) = &self.last
            && found == folder
        {
            return Ok((Arc::clone(opened), name));
        }
        let opened = Arc::new(self.destination.beneath(folder, OFlags::RDONLY | OFlags::DIRECTORY)?);
        self.last = Some((folder.to_owned(), Arc::clone(&opened)));
        Ok((opened, name))
    }

    /// Makes something; where something is in its place and may be replaced, in its place.
    fn make<T>(&mut self, path: &Path, make: impl Fn(&OwnedFd, &OsStr) -> rustix::io::Result<T>) -> io::Result<T> {
        let (folder, name) = self.place(path)?;
        match make(&folder, name) {
            Err(Errno::EXIST) if self.destination.over => {
                unlinkat(&*folder, name, AtFlags::empty())?;
                Ok(make(&folder, name)?)
            }
            made => Ok(made?),
        }
    }

    /// Makes a directory, for us alone; one that is there stays, where what is there may be replaced.
    pub(super) fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        if self.destination.over && self.destination.beneath(path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        self.make(path, |folder, name| mkdirat(folder, name, Mode::RWXU))
    }

    /// Makes a file of a size, all of it a hole.
    pub(super) fn make_file(&mut self, path: &Path, size: u64) -> io::Result<File> {
        self.make(path, |folder, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
            if let Err(error) = rustix::fs::ftruncate(&file, size) {
                unlinkat(folder, name, AtFlags::empty())?;
                return Err(error);
            }
            Ok(file.into())
        })
    }

    /// Opens a file that was made, to write.
    pub(super) fn open_file(&mut self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.place(path)?;
        Ok(openat(&*folder, name, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Makes what is neither a file nor a directory.
    pub(super) fn make_special(&mut self, path: &Path, node: &Node) -> io::Result<()> {
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
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from_name) = self.place(from)?;
        self.make(to, |folder, name| linkat(&*from_folder, from_name, folder, name, AtFlags::empty()))
    }

    /// Removes a file that was made and can't be filled.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(path)?;
        Ok(unlinkat(&*folder, name, AtFlags::empty())?)
    }

    /// Sets owner, mode, attributes and times, in the order in which none undoes another; what can't be set is told to `problem`.
    pub(super) fn set_metadata(&mut self, path: &Path, node: &Node, problem: impl FnMut(String)) {
        let mut tell = telling(problem);
        let (folder, name) = match self.place(path) {
            Ok(place) => place,
            Err(error) => return tell(GONE, Err(error)),
        };
        let folder = &*folder;
        let Basics { owner, mode, times } = Basics::of(node);
        let owned = chownat(folder, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
        tell(OWNER, owned.map_err(io::Error::from));
        // The calls below follow links or know no directory to begin from: they are given the thing itself, by its number.
        let opened = openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return tell(GONE, Err(error.into())),
        };
        let itself = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        if !node.is_symlink() {
            tell(MODE, rustix::fs::chmod(&itself, mode).map_err(io::Error::from));
            if self.destination.inherits {
                remove_lists(&itself, node, &mut tell);
            }
        }
        set_attributes(folder, name, &itself, node, &mut tell);
        if let Some(times) = times {
            tell(TIMES, utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from));
        }
    }

    /// Sets what an open file of ours has beside its content; what can't be set is told to `problem`.
    pub(super) fn set_basics(&self, file: &File, basics: &Basics, problem: impl FnMut(String)) {
        let mut tell = telling(problem);
        tell(OWNER, fchown(file, basics.owner.0, basics.owner.1).map_err(io::Error::from));
        tell(MODE, fchmod(file, basics.mode).map_err(io::Error::from));
        if self.destination.inherits {
            match rustix::fs::fremovexattr(file, INHERITED[0]) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(error) => tell(LIST, Err(error.into())),
            }
        }
        if let Some(times) = &basics.times {
            tell(TIMES, futimens(file, times).map_err(io::Error::from));
        }
    }
}

const GONE: &str = "it is not there";
const OWNER: &str = "its owner can't be set";
const MODE: &str = "its mode can't be set";
const LIST: &str = "an access control list can't be removed";
const TIMES: &str = "its times can't be set";

fn telling(mut problem: impl FnMut(String)) -> impl FnMut(&str, io::Result<()>) {
    move |what, done| {
        if let Err(error) = done {
            problem(format!("{what}: {error}"));
        }
    }
}

/// Removes the access control lists of what is at `itself` that its directory gave it.
fn remove_lists(itself: &Path, node: &Node, tell: &mut impl FnMut(&str, io::Result<()>)) {
    for inherited in INHERITED {
        if node.meta.extended_attributes.iter().any(|attribute| attribute.name == inherited) {
            continue;
        }
        match rustix::fs::removexattr(itself, inherited) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            // Only a directory has a default.
            Err(Errno::ACCESS | Errno::PERM) if !node.is_dir() && !node.is_file() => {}
            Err(error) => tell(LIST, Err(error.into())),
        }
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
