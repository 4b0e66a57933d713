//! The archives of database servers are unpacked while they are read: what `tar --extract` and `mbstream -x` do, without a pipe between.
//!
//! **Principle.** [`Unpacker`] is given the bytes of an archive in order. A thread of its own writes the files: it has the user and group
//! that they are to belong to, and no other right, so that nothing in an archive, and nobody who changes the folder meanwhile, has it write
//! where that user may not. A second thread has the disk write large files while more is unpacked; all that is left is written
//! through in the end: what is restored outlives a loss of power.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::sync::mpsc;

use crate::database::DatabaseError;
use crate::owner::Owner;
use crate::sealed::{Catalog, Part, Parts, RepositoryError, Stream};

mod tar;
mod xbstream;

pub(crate) use tar::Tar;
pub(crate) use xbstream::XbStream;

/// Parts that wait to be unpacked, beside the one that is.
const WAITING: usize = 1;
/// Files that wait to be written through.
const SYNCS_WAITING: usize = 32;
/// Of a file so many bytes are written through at a time, and what is left at its end where that is much; all others together.
const SYNCED_AT_ONCE: u64 = 64 << 20;
const LARGE: u64 = 1 << 20;

/// An archive, as its format says what comes next.
pub(crate) trait Archive: Send + 'static {
    /// Takes the next bytes, however many.
    ///
    /// # Errors
    /// They are not what the format says ([`io::ErrorKind::InvalidData`]), or something that this reader leaves to the program of the
    /// server ([`io::ErrorKind::Unsupported`]), or a file can't be written.
    fn take(&mut self, bytes: &[u8], tree: &mut Tree) -> io::Result<()>;

    /// Fails unless the archive may end here.
    fn end(&mut self, tree: &mut Tree) -> io::Result<()>;
}

/// Unpacks a stream of a set into a folder, for the user whom the files are to belong to.
///
/// # Errors
/// The stream can't be read, or is no such archive; [`Unpacked::NotHere`] is none.
pub(crate) async fn unpack(
    (catalog, set, stream): (&Catalog, &str, &Stream),
    archive: impl Archive,
    (into, owner): (&Path, Owner),
    progress: impl FnMut(u64) + Send,
) -> Result<Unpacked, DatabaseError> {
    let files = |error| DatabaseError::Files { path: into.to_owned(), error };
    let mut unpacker = Unpacker::start(archive, into, owner).map_err(files)?;
    let read = catalog.read_parts(set, stream, &mut unpacker, progress).await;
    match (read, unpacker.end().await) {
        // Who unpacks has ended first, and says why.
        (Err(RepositoryError::Source(_)) | Ok(()), Err(error)) => match error.kind() {
            io::ErrorKind::Unsupported => Ok(Unpacked::NotHere),
            io::ErrorKind::InvalidData => {
                let why = format!("the stream {} of the base {set} can't be unpacked: {error}", stream.name);
                Err(DatabaseError::Database(why))
            }
            _ => Err(files(error)),
        },
        (Err(error), _) => Err(error.into()),
        (Ok(()), Ok(())) => Ok(Unpacked::Whole),
    }
}

/// What has come of unpacking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unpacked {
    /// All files are there, and outlive a loss of power.
    Whole,
    /// Something is in the archive that only the program of the server knows; what was unpacked so far is of no use.
    NotHere,
}

/// The thread that unpacks.
struct Unpacker {
    parts: mpsc::Sender<Arc<Part>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Unpacker {
    fn start(archive: impl Archive, into: &Path, owner: Owner) -> io::Result<Self> {
        let (parts, taken) = mpsc::channel(WAITING);
        let root = into.to_owned();
        let named = std::thread::Builder::new().name("garant-unpack".to_owned());
        let thread = named.spawn(move || {
            become_user(owner)?;
            work(archive, &root, taken)
        })?;
        Ok(Self { parts, thread })
    }

    /// Waits until all is unpacked and written through.
    async fn end(self) -> io::Result<()> {
        drop(self.parts);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        let aborted = || Err(io::Error::other("the thread that unpacks has failed"));
        joined.map_or_else(|_| aborted(), |joined| joined.unwrap_or_else(|_| aborted()))
    }
}

impl Parts for Unpacker {
    async fn take(&mut self, part: Arc<Part>) -> io::Result<()> {
        self.parts.send(part).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Gives this thread the user and group of `owner` for good; a process that is not root has them already.
fn become_user(owner: Owner) -> io::Result<()> {
    let Some((user, group)) = owner.numbers() else { return Ok(()) };
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[group])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

fn work(mut archive: impl Archive, root: &Path, mut parts: mpsc::Receiver<Arc<Part>>) -> io::Result<()> {
    let (large, files) = sync_channel(SYNCS_WAITING);
    let syncing = std::thread::Builder::new().name("garant-sync".to_owned()).spawn(move || sync(&files))?;
    let mut tree = Tree { root: root.to_owned(), large };
    let unpacked = (|| {
        while let Some(part) = parts.blocking_recv() {
            archive.take(&part, &mut tree)?;
        }
        archive.end(&mut tree)
    })();
    drop(tree);
    let synced = syncing.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has failed")));
    // Where the disk has failed, what unpacks knows no more than that.
    synced.and(unpacked)?;
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

/// Writes files through, in the order in which they come.
fn sync(files: &Receiver<File>) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync_data())
}

/// The folder that is unpacked into.
pub(crate) struct Tree {
    root: PathBuf,
    large: SyncSender<File>,
}

impl Tree {
    /// The path of an entry, which is below the folder.
    fn path(&self, name: &[u8]) -> io::Result<PathBuf> {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        let is_below = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if name.as_os_str().is_empty() || !is_below {
            return Err(malformed(format!("its entry {} is in no folder of it", name.display())));
        }
        Ok(self.root.join(name))
    }

    /// Makes a folder, where it is not there, with these permissions.
    fn folder(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let path = self.path(name)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    }

    /// A new file with these permissions; folders above it that are missing are made for their owner alone.
    fn file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let path = self.path(name)?;
        if let Some(above) = path.parent().filter(|above| !above.is_dir()) {
            DirBuilder::new().recursive(true).mode(0o700).create(above)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists {
                malformed(format!("its entry {} is there twice", String::from_utf8_lossy(name)))
            } else {
                error
            }
        })?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        Ok(file)
    }

    /// Has the disk begin with what was written so far of a file, which grew from so many bytes to so many.
    fn grown(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        if from / SYNCED_AT_ONCE == to / SYNCED_AT_ONCE { Ok(()) } else { self.sync(file.try_clone()?) }
    }

    /// Takes a file back that is whole.
    fn done(&self, file: File, bytes: u64) -> io::Result<()> {
        if bytes % SYNCED_AT_ONCE < LARGE { Ok(()) } else { self.sync(file) }
    }

    fn sync(&self, file: File) -> io::Result<()> {
        self.large.send(file).map_err(|_| io::Error::other("what was unpacked can't be written to the disk"))
    }
}

/// What is no such archive.
fn malformed(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests;
