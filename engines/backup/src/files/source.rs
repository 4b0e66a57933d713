//! What the library reads from: our walk, and files that count what was read of them.
//!
//! The library passes over what it can't read, in silence. So each failure is written down here, before it is told: what was walked,
//! less what was lost, is what must be in the tree in the end.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustic_core::repofile::Node;
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::problems::Problems;
use super::thread::Thread;
use super::walk::{Plan, Step, Walk};

/// What was walked and read.
#[derive(Clone, Default, Debug)]
pub(super) struct Count {
    /// Entries that must be in the tree.
    pub(super) entries: u64,
    /// Sum of their fingerprints: the same for the same entries in any order.
    pub(super) sum: u128,
    /// Regular files among them.
    pub(super) files: u64,
    /// Directories among them.
    pub(super) folders: u64,
    /// Sum of the sizes of the files.
    pub(super) bytes: u64,
    /// What is there and could not be read.
    pub(super) unread: Problems,
    /// Files that changed while they were read: what is kept may be of two instants.
    pub(super) changed: Problems,
    /// Files that went away before they were read.
    pub(super) gone: Problems,
    /// Files among `unread` that were replaced or cut off while they were read: worth another try.
    pub(super) again: u64,
    /// Directories on which something is mounted that was not entered.
    pub(super) mounts: Problems,
    /// What patterns left out.
    pub(super) excluded: u64,
    /// Sockets.
    pub(super) sockets: u64,
    /// The path of the backup that could not be read at all, and why.
    pub(super) failed: Option<(PathBuf, String)>,
}

/// The count of one walk, shared by all who read.
#[derive(Default, Debug)]
pub(super) struct Tally(Mutex<Count>);

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The count as it is now.
    pub(super) fn count(&self) -> Count {
        self.lock().clone()
    }

    /// Something is to be in the tree.
    fn kept(&self, fingerprint: u128, found: &Metadata) {
        let mut count = self.lock();
        count.entries += 1;
        count.sum = count.sum.wrapping_add(fingerprint);
        if found.is_file() {
            count.files += 1;
            count.bytes += found.len();
        }
        count.folders += u64::from(found.is_dir());
    }

    /// A file is not in the tree after all.
    fn lost(&self, file: &Expected) -> MutexGuard<'_, Count> {
        let mut count = self.lock();
        count.entries -= 1;
        count.sum = count.sum.wrapping_sub(file.fingerprint);
        count.files -= 1;
        count.bytes -= file.size;
        count
    }
}

/// What tells an entry of a tree from others: its path and all that is kept of it but its content.
pub(super) fn fingerprint(path: &Path, node: &mut Node) -> u128 {
    let (content, subtree) = (node.content.take(), node.subtree.take());
    let mut hash = Sha256::new();
    hash.update(path.as_os_str().as_bytes());
    hash.update([0]);
    // What can't be written as JSON was not read from JSON either: the sums would differ, and the snapshot would not be kept.
    hash.update(serde_json::to_vec(node).unwrap_or_default());
    (node.content, node.subtree) = (content, subtree);
    let hash: [u8; 32] = hash.finalize().into();
    hash[..16].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// Everything that is to be backed up, for the library.
#[derive(Debug)]
pub(super) struct Source {
    plan: Plan,
    thread: Thread,
    tally: Arc<Tally>,
}

impl Source {
    /// What the plan says, counted.
    pub(super) fn new(plan: Plan, thread: Thread) -> Self {
        Self { plan, thread, tally: Arc::default() }
    }

    /// What was walked and read so far.
    pub(super) fn count(&self) -> Count {
        self.tally.count()
    }
}

impl ReadSource for Source {
    type Open = Opening;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        let mut bytes = 0;
        for step in self.plan.walk() {
            if self.thread.stop.is_cancelled() {
                return Ok(None);
            }
            if let Step::Entry(_, found) = step
                && found.is_file()
            {
                bytes += found.len();
            }
        }
        Ok(Some(bytes))
    }

    fn entries(&self) -> Entries {
        Entries { walk: self.plan.walk(), thread: self.thread.clone(), tally: Arc::clone(&self.tally) }
    }
}

/// The entries of a [`Source`].
#[derive(Debug)]
pub(super) struct Entries {
    walk: Walk,
    thread: Thread,
    tally: Arc<Tally>,
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Opening>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.thread.stop.is_cancelled() {
                return None;
            }
            match self.walk.next()? {
                Step::Entry(path, found) => match super::node::node(&path, &found) {
                    Ok((node, problem)) => {
                        if let Some(error) = problem {
                            let lacks = format!("its extended attributes could not be read: {error}");
                            self.tally.lock().unread.add(&path, lacks);
                        }
                        return Some(Ok(self.entry(path, node, &found)));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.tally.lock().gone.add(&path, "it went away");
                    }
                    Err(error) => self.tally.lock().unread.add(&path, error),
                },
                Step::Problem(path, error) => self.tally.lock().unread.add(&path, error),
                Step::Mount(path, reason) => self.tally.lock().mounts.add(&path, reason),
                Step::Gone => {}
                Step::Excluded => self.tally.lock().excluded += 1,
                Step::Socket => self.tally.lock().sockets += 1,
                Step::Failed(path, error) => self.tally.lock().failed = Some((path, error.to_string())),
            }
        }
    }
}

impl Entries {
    fn entry(&self, path: PathBuf, mut node: Node, found: &Metadata) -> ReadSourceEntry<Opening> {
        // In the tree, paths begin below the root.
        let below = path.strip_prefix("/").unwrap_or(&path);
        let fingerprint = fingerprint(below, &mut node);
        self.tally.kept(fingerprint, found);
        let open = found.is_file().then(|| {
            let (device, inode) = (found.dev(), found.ino());
            let expected =
                Expected { path: path.clone(), fingerprint, size: found.len(), device, inode, times: times(found) };
            Opening { expected, thread: self.thread.clone(), tally: Arc::clone(&self.tally) }
        });
        ReadSourceEntry { path, node, open }
    }
}

/// A file as the walk saw it.
#[derive(Debug)]
struct Expected {
    path: PathBuf,
    fingerprint: u128,
    size: u64,
    device: u64,
    inode: u64,
    times: [i64; 4],
}

/// When content and status of a file changed last.
fn times(found: &Metadata) -> [i64; 4] {
    [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()]
}

/// A file that is going to be read.
#[derive(Debug)]
pub(super) struct Opening {
    expected: Expected,
    thread: Thread,
    tally: Arc<Tally>,
}

impl Opening {
    /// Opens the file without following a link, without waiting (it may be a fifo by now), and without a new time of access where
    /// that may be avoided.
    fn try_open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::open(&self.expected.path, flags, Mode::empty());
        let file = match open(flags | OFlags::NOATIME) {
            Err(rustix::io::Errno::PERM) => open(flags),
            opened => opened,
        };
        Ok(file?.into())
    }
}

/// What was said of a file that is another one by now.
const REPLACED: &str = "it was replaced while it was backed up";
const CUT_OFF: &str = "it was cut off while it was read";

impl ReadSourceOpen for Opening {
    type Reader = Reading;

    fn open(self) -> RusticResult<Reading> {
        #[cfg(test)]
        self.thread.hook(&self.expected.path, None);
        let opened = self.try_open().and_then(|file| Ok((file.metadata()?, file)));
        let error = match opened {
            Ok((found, file)) => {
                let is_same =
                    found.is_file() && (found.dev(), found.ino()) == (self.expected.device, self.expected.inode);
                if is_same && found.len() >= self.expected.size {
                    let Self { expected, thread, tally } = self;
                    return Ok(Reading { left: expected.size, file, expected, thread, tally, is_over: false });
                }
                let reason = if is_same { CUT_OFF } else { REPLACED };
                let mut count = self.tally.lost(&self.expected);
                count.again += 1;
                count.unread.add(&self.expected.path, reason);
                io::Error::other(reason)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.tally.lost(&self.expected).gone.add(&self.expected.path, "it went away before it was read");
                error
            }
            Err(error) => {
                self.tally.lost(&self.expected).unread.add(&self.expected.path, &error);
                error
            }
        };
        Err(RusticError::with_source(ErrorKind::InputOutput, "a file could not be read", error))
    }
}

/// A file that is being read: as many bytes of it as the walk saw, no more and no less.
#[derive(Debug)]
pub(super) struct Reading {
    file: File,
    left: u64,
    expected: Expected,
    thread: Thread,
    tally: Arc<Tally>,
    /// Whether its end, or its loss, was written down.
    is_over: bool,
}

impl Reading {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.thread.stop.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, CUT_OFF)),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }

    /// The end of the file: whether it is still what the walk saw.
    fn ended(&mut self) -> io::Result<()> {
        let found = self.file.metadata()?;
        if (found.len(), times(&found)) != (self.expected.size, self.expected.times) {
            self.tally.lock().changed.add(&self.expected.path, "it changed while it was read");
        }
        Ok(())
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(test)]
        self.thread.hook(&self.expected.path, Some(self.expected.size - self.left));
        let mut result = self.try_read(buffer);
        if self.left == 0 && !self.is_over && result.is_ok() {
            self.is_over = true;
            if let Err(error) = self.ended() {
                result = Err(error);
                self.is_over = false;
            }
        }
        match &result {
            // Whoever reads tries again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !self.is_over => {
                self.is_over = true;
                let mut count = self.tally.lost(&self.expected);
                count.again += u64::from(error.kind() == io::ErrorKind::UnexpectedEof);
                count.unread.add(&self.expected.path, error);
            }
            _ => {}
        }
        result
    }
}
