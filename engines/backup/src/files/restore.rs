//! Restoring a snapshot.
//!
//! The contents are written pack by pack, so that each pack is read once and a few are in memory; packs with something of the files that
//! were modified last come first (BK-8). A file of one chunk is made, filled and set at once; the others are made before, and their
//! owners, modes, attributes and times come after. What can't be restored is named and counted; a file of which a part is missing is not
//! left there as if it were whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs::File, io, thread};

use bytes::Bytes;
use engine::{Context, Watcher};
use event::Time;
use rustic_core::repofile::{BlobType, Node, NodeType, SnapshotFile};
use rustic_core::{BlobId, DataId, FileType, Id, IndexedFullStatus, LsOptions};
use sha2::{Digest as _, Sha256};

use super::backend::Backend;
use super::chunk::Opener;
use super::destination::{Basics, Destination, Hand, write};
use super::index::indexed;
use super::node::is_plain_name;
use super::open::{Open, open};
use super::problems::Problems;
use super::take::INCOMPLETE;
use super::thread::{Thread, on_thread};
use super::words::failed;
use super::{Files, FilesError, Snapshot};
use crate::sealed::Repository;

/// Most threads that read and write; each has a pack and a chunk in memory.
const THREADS_MAX: usize = 3;

type Indexed = rustic_core::Repository<IndexedFullStatus>;

/// Which snapshot is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Point {
    /// The newest that was begun at this instant or before it.
    At(Time),
    /// The one with this identifier, or with the only one that begins so.
    Snapshot(String),
}

/// How to restore.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RestoreOptions {
    /// Whether what is in the directory already may be replaced. What the snapshot does not have stays in any case.
    pub over: bool,
    /// Whether devices are left out, as by whoever may not make them (`CAP_MKNOD`).
    pub without_devices: bool,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilesRestored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Number of files that were restored.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// What could not be restored, and is not there.
    pub unwritten: Problems,
    /// What was restored without its owner, mode, times or an attribute.
    pub unset: Problems,
}

impl Files {
    /// The snapshots, the oldest first.
    ///
    /// # Errors
    /// The repository can't be read.
    pub async fn snapshots(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
    ) -> Result<Vec<Snapshot>, FilesError> {
        self.check_name()?;
        let (backend, name) = (self.backend(repository), self.name.clone());
        on_thread(context, &(), move |thread| {
            let Some(open) = open(&backend, &name, &thread.telling)? else { return Ok(Vec::new()) };
            Ok(snapshots(&open)?.into_iter().map(|file| listed(&file)).collect())
        })
        .await
    }

    /// Restores a snapshot into the directory `into`: each path below it as it is below `/`.
    ///
    /// # Errors
    /// There is no such snapshot, something is in the directory, the disk is full, the repository can't be read, or it was told to
    /// stop.
    pub async fn restore(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
        point: &Point,
        into: &Path,
        options: RestoreOptions,
        watcher: &dyn Watcher,
    ) -> Result<FilesRestored, FilesError> {
        self.check_name()?;
        let (backend, name) = (self.backend(repository), self.name.clone());
        let (point, into) = (point.clone(), into.to_owned());
        on_thread(context, watcher, move |thread| {
            thread.telling.step("opening the repository");
            let none =
                || FilesError::NoSnapshot(format!("`{name}` was never backed up here: no copy has a repository of it"));
            let open = open(&backend, &name, &thread.telling)?.ok_or_else(none)?;
            let snapshot = choose(snapshots(&open)?, &point)?;
            let destination = Destination::open(&into, options.over)?;
            let repository = indexed(&backend, open)?;
            Restore::new(thread, &backend, &repository, &destination, options.without_devices).run(&snapshot, &into)
        })
        .await
    }
}

/// All snapshots, the oldest first.
fn snapshots(open: &Open) -> Result<Vec<SnapshotFile>, FilesError> {
    let mut all = open.get_all_snapshots().map_err(failed)?;
    all.sort_by(|a, b| a.time.cmp(&b.time));
    Ok(all)
}

fn begun(file: &SnapshotFile) -> Time {
    Time::from_micros(file.time.timestamp().as_microsecond())
}

fn listed(file: &SnapshotFile) -> Snapshot {
    let summary = file.summary.as_ref();
    let lacks = file.description.clone().unwrap_or_else(|| "it says that it lacks something, and not what".to_owned());
    Snapshot {
        id: file.id.to_hex().to_string(),
        // As it is shown: whoever asks for the second that is shown gets this one.
        at: Time::from_secs(begun(file).micros().saturating_add(999_999).div_euclid(1_000_000)),
        paths: (&file.paths).into_iter().cloned().collect(),
        files: summary.map_or(0, |summary| summary.total_files_processed),
        bytes: summary.map_or(0, |summary| summary.total_bytes_processed),
        lacks: file.tags.contains(INCOMPLETE).then_some(lacks),
    }
}

fn choose(snapshots: Vec<SnapshotFile>, point: &Point) -> Result<SnapshotFile, FilesError> {
    let oldest = snapshots.first().map(|file| listed(file).at);
    match point {
        Point::At(to) => {
            let newest = snapshots.into_iter().rfind(|file| begun(file) <= *to);
            newest.ok_or_else(|| {
                FilesError::NoSnapshot(match oldest {
                    Some(oldest) => format!("there is no snapshot of {to} or before; the oldest is of {oldest}"),
                    None => "there is no snapshot".to_owned(),
                })
            })
        }
        Point::Snapshot(id) => {
            let mut found: Vec<_> =
                snapshots.into_iter().filter(|file| file.id.to_hex().as_str().starts_with(id.as_str())).collect();
            match (found.pop(), found.is_empty()) {
                (Some(one), true) => Ok(one),
                (None, _) => Err(FilesError::NoSnapshot(format!("there is no snapshot `{id}`"))),
                _ => Err(FilesError::NoSnapshot(format!("several snapshots begin with `{id}`: give more of it"))),
            }
        }
    }
}

/// A file that is to be filled.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    size: u64,
    /// When it was modified last.
    modified: Option<Time>,
    /// What it has beside its one chunk, where that is all: it is made when that is read.
    basics: Option<Basics>,
    is_made: AtomicBool,
    has_failed: AtomicBool,
}

/// Where a chunk is, and where it goes.
#[derive(Debug)]
struct Piece {
    pack: u32,
    /// Where it is in the pack, and its bytes there.
    offset: u32,
    sealed: u32,
    is_compressed: bool,
    /// Its bytes in the file.
    length: u32,
    target: u32,
    at: u64,
    id: DataId,
}

/// What is known of the whole tree.
#[derive(Default, Debug)]
struct Contents {
    targets: Vec<Target>,
    pieces: Vec<Piece>,
    packs: Vec<Id>,
    /// The first name of each file that has several.
    links: BTreeMap<(u64, u64), PathBuf>,
    /// What could not be made, or not be filled.
    missing: BTreeSet<PathBuf>,
}

/// A restore that is under way.
struct Restore<'a> {
    thread: &'a Thread,
    backend: &'a Backend,
    repository: &'a Indexed,
    destination: &'a Destination,
    without_devices: bool,
    unwritten: Mutex<Problems>,
    unset: Mutex<Problems>,
    /// The disk is full: nothing more is tried.
    full: AtomicBool,
}

impl<'a> Restore<'a> {
    fn new(
        thread: &'a Thread,
        backend: &'a Backend,
        repository: &'a Indexed,
        destination: &'a Destination,
        without_devices: bool,
    ) -> Self {
        let (unwritten, unset, full) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { thread, backend, repository, destination, without_devices, unwritten, unset, full }
    }

    fn run(&self, snapshot: &SnapshotFile, into: &Path) -> Result<FilesRestored, FilesError> {
        self.thread.telling.step("reading the tree");
        let mut contents = self.prepare(snapshot)?;
        contents.pieces.sort_unstable_by_key(|piece| (piece.pack, piece.offset));
        self.thread.telling.step("restoring the files");
        self.thread.telling.of(contents.targets.iter().map(|target| target.size).sum());
        self.fill(&contents)?;
        if self.full.load(Ordering::Relaxed) {
            let error = io::Error::new(io::ErrorKind::StorageFull, "the disk is full; what is there is not the whole");
            return Err(FilesError::Local { path: into.display().to_string(), error });
        }
        let mut bytes = 0;
        let mut files = 0;
        let mut hand = self.destination.hand();
        for target in &contents.targets {
            if target.has_failed.load(Ordering::Relaxed) {
                contents.missing.insert(target.path.clone());
                if target.is_made.load(Ordering::Relaxed)
                    && let Err(error) = hand.remove(&target.path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    self.unwritten(&target.path, format!("it is not whole, and can't be removed: {error}"));
                }
            } else {
                files += 1;
                bytes += target.size;
            }
        }
        self.thread.telling.step("setting owners, modes and times");
        self.finish(snapshot, &contents, &mut hand)?;
        self.destination.sync().map_err(|error| FilesError::Local { path: into.display().to_string(), error })?;
        let taken = |problems: &Mutex<_>| std::mem::take(&mut *problems.lock().unwrap_or_else(PoisonError::into_inner));
        let (unwritten, unset) = (taken(&self.unwritten), taken(&self.unset));
        Ok(FilesRestored { snapshot: listed(snapshot), files, bytes, unwritten, unset })
    }

    fn unwritten(&self, path: &Path, reason: impl std::fmt::Display) {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).add(path, reason);
    }

    fn unset(&self, path: &Path, problem: String) {
        self.unset.lock().unwrap_or_else(PoisonError::into_inner).add(path, problem);
    }

    /// Goes through the tree; each entry is checked to be below its directory.
    fn each(
        &self,
        snapshot: &SnapshotFile,
        mut entry: impl FnMut(PathBuf, Node) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let root = self.repository.node_from_snapshot_and_path(snapshot, "").map_err(failed)?;
        for found in self.repository.ls(&root, &LsOptions::default()).map_err(failed)? {
            if self.thread.stop.is_cancelled() {
                return Err(FilesError::Stopped);
            }
            let (path, node) = found.map_err(failed)?;
            if !is_plain_name(&node.name()) {
                let reason = "a name in the tree leads out of its directory: nobody who means well wrote it";
                return Err(FilesError::Stored(reason.into()));
            }
            entry(path, node)?;
        }
        Ok(())
    }

    /// Makes the directories and, empty, the files that have more than one chunk or none, and finds out where their contents are.
    fn prepare(&self, snapshot: &SnapshotFile) -> Result<Contents, FilesError> {
        let mut contents = Contents::default();
        let mut hand = self.destination.hand();
        let mut numbers: BTreeMap<Id, u32> = BTreeMap::new();
        self.each(snapshot, |path, node| {
            if node.is_dir() {
                if let Err(error) = hand.make_folder(&path) {
                    self.unwritten(&path, error);
                }
                return Ok(());
            }
            if let Some(key) = link_key(&node) {
                if contents.links.contains_key(&key) {
                    return Ok(());
                }
                contents.links.insert(key, path.clone());
            }
            if !node.is_file() {
                return Ok(());
            }
            let is_plain = node.meta.extended_attributes.is_empty() && node.meta.links <= 1;
            let has_one = node.content.as_ref().is_some_and(|content| content.len() == 1);
            let basics = (is_plain && has_one).then(|| Basics::of(&node));
            if basics.is_none()
                && let Err(error) = hand.make_file(&path, node.meta.size)
            {
                self.full.fetch_or(error.kind() == io::ErrorKind::StorageFull, Ordering::Relaxed);
                self.unwritten(&path, error);
                contents.missing.insert(path);
                return Ok(());
            }
            let target = u32::try_from(contents.targets.len())
                .map_err(|_| FilesError::Stored("the snapshot has more files than can be restored at once".into()))?;
            let mut at = 0;
            for id in node.content.iter().flatten() {
                let found = self.repository.get_index_entry(id).map_err(failed)?;
                let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                let pack = *numbers.entry(*found.pack).or_insert_with(|| {
                    contents.packs.push(*found.pack);
                    next
                });
                let length = found.location.data_length();
                let (offset, sealed) = (found.location.offset, found.location.length);
                let is_compressed = found.location.uncompressed_length.is_some();
                contents.pieces.push(Piece { pack, offset, sealed, is_compressed, length, target, at, id: *id });
                at += u64::from(length);
            }
            let has_failed = at != node.meta.size;
            if has_failed {
                self.unwritten(&path, format!("{at} of its {} bytes are stored", node.meta.size));
            }
            let modified = node.meta.mtime.as_ref().map(|at| Time::from_micros(at.as_microsecond()));
            let (size, is_made) = (node.meta.size, basics.is_none().into());
            contents.targets.push(Target { path, size, modified, basics, is_made, has_failed: has_failed.into() });
            Ok(())
        })?;
        Ok(contents)
    }

    /// Writes the contents, pack by pack.
    fn fill(&self, contents: &Contents) -> Result<(), FilesError> {
        let sizes = self.backend.listed(FileType::Pack)?;
        let groups = newest_first(contents);
        let next = AtomicUsize::new(0);
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut hand = self.destination.hand();
                    let mut opener = Opener::new(self.backend.repository().key(), self.backend.name());
                    while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.thread.stop.is_cancelled() || self.full.load(Ordering::Relaxed) {
                            return;
                        }
                        let pack = contents.packs.get(group[0].pack as usize);
                        let size = pack.and_then(|pack| sizes.get(pack)).and_then(|at| at.iter().map(|it| it.1).max());
                        let of = (pack, size.unwrap_or_default());
                        self.fill_from(group, of, contents, (&mut hand, opener.as_mut()));
                    }
                });
            }
        });
        if self.thread.stop.is_cancelled() { Err(FilesError::Stopped) } else { Ok(()) }
    }

    /// Writes what comes out of one pack, of that size.
    fn fill_from(
        &self,
        group: &[Piece],
        (pack, size): (Option<&Id>, u64),
        contents: &Contents,
        (hand, mut opener): (&mut Hand<'_>, Option<&mut Opener>),
    ) {
        // Of a pack that is mostly needed, one request gets all; each chunk in it is proved by its own name.
        let needed: u64 = group.iter().map(|piece| u64::from(piece.sealed)).sum();
        let whole = pack.filter(|_| needed.saturating_mul(2) >= size);
        let whole = whole.and_then(|pack| self.backend.unproved_pack(pack, size).ok());
        let mut last: Option<(DataId, Result<Bytes, String>)> = None;
        let mut open: Option<(u32, File)> = None;
        for piece in group {
            let Some(target) = contents.targets.get(piece.target as usize) else { continue };
            if self.thread.stop.is_cancelled() || target.has_failed.load(Ordering::Relaxed) {
                continue;
            }
            let opened = whole.as_ref().zip(opener.as_deref_mut()).and_then(|(whole, opener)| {
                let start = usize::try_from(piece.offset).ok()?;
                let sealed = whole.get(start..start.checked_add(usize::try_from(piece.sealed).ok()?)?)?;
                opener.open(sealed, piece.is_compressed, piece.length, &piece.id)
            });
            // What is wrong at the copy that was read first may be right at another one, and is said of each chunk.
            if opened.is_none() && last.as_ref().is_none_or(|(id, _)| *id != piece.id) {
                last = Some((piece.id, self.chunk(piece.id, pack)));
            }
            let data = match (opened, &last) {
                (Some(data), _) => Ok(data),
                (None, Some((_, Ok(data)))) => Ok(&**data),
                (None, Some((_, Err(reason)))) => Err(reason.clone()),
                (None, None) => continue,
            };
            let written = data.and_then(|data| {
                let written = self.write(piece, target, data, &mut open, hand);
                let is_full = matches!(&written, Err(error) if error.kind() == io::ErrorKind::StorageFull);
                self.full.fetch_or(is_full, Ordering::Relaxed);
                written.map_err(|error| error.to_string())
            });
            match written {
                Ok(()) => self.thread.telling.more(piece.length.into()),
                Err(reason) if !target.has_failed.swap(true, Ordering::Relaxed) => self.unwritten(&target.path, reason),
                Err(_) => {}
            }
        }
    }

    /// Writes a chunk to its place; `open` is the file that was written to last.
    fn write(
        &self,
        piece: &Piece,
        target: &Target,
        data: &[u8],
        open: &mut Option<(u32, File)>,
        hand: &mut Hand<'_>,
    ) -> io::Result<()> {
        if let Some(basics) = &target.basics {
            let file = hand.make_file(&target.path, target.size)?;
            target.is_made.store(true, Ordering::Relaxed);
            write(&file, piece.at, data)?;
            hand.set_basics(&file, basics, |problem| self.unset(&target.path, problem));
            return Ok(());
        }
        let file = match open.take_if(|(number, _)| *number == piece.target) {
            Some((_, file)) => file,
            None => hand.open_file(&target.path)?,
        };
        let (_, file) = open.insert((piece.target, file));
        write(file, piece.at, data)
    }

    /// A chunk, checked against its name.
    fn chunk(&self, id: DataId, pack: Option<&Id>) -> Result<Bytes, String> {
        let get = || self.repository.get_blob_cached(&BlobId::from(id), BlobType::Data);
        let data = get().or_else(|error| {
            // A part of a pack has no name to be checked by: where it is damaged at one copy, the whole of another one is asked for.
            let whole = pack.map(|pack| self.backend.pack(pack));
            if matches!(whole, Some(Ok(_))) { get() } else { Err(error) }
        });
        let data = data.map_err(|error| failed(error).to_string())?;
        if Id::new(Sha256::digest(&data).into()) == *id {
            return Ok(data);
        }
        Err("what is stored is not what was stored: its digest is another".to_owned())
    }

    /// Makes what has no content, and sets what files have beside it.
    fn finish(&self, snapshot: &SnapshotFile, contents: &Contents, hand: &mut Hand<'_>) -> Result<(), FilesError> {
        let mut folders: Vec<(PathBuf, Node)> = Vec::new();
        // They come in the same order again.
        let mut targets = contents.targets.iter().peekable();
        let set = |path: &Path, node: &Node, hand: &mut Hand<'_>| {
            hand.set_metadata(path, node, |problem| self.unset(path, problem));
        };
        self.each(snapshot, |path, node| {
            // A directory is done when what comes is not below it.
            while let Some((folder, node)) = folders.pop_if(|(folder, _)| !path.starts_with(folder)) {
                set(&folder, &node, hand);
            }
            if targets.next_if(|target| target.path == path).is_some_and(|target| target.basics.is_some()) {
                return Ok(());
            }
            if node.is_dir() {
                folders.push((path, node));
                return Ok(());
            }
            if let Some(first) = link_key(&node).and_then(|key| contents.links.get(&key))
                && *first != path
            {
                if contents.missing.contains(first) {
                    self.unwritten(&path, "the file that it is another name of could not be restored");
                } else if let Err(error) = hand.link(first, &path) {
                    self.unwritten(&path, error);
                }
                return Ok(());
            }
            if self.without_devices && matches!(node.node_type, NodeType::Dev { .. } | NodeType::Chardev { .. }) {
                return Ok(());
            }
            if !node.is_file()
                && let Err(error) = hand.make_special(&path, &node)
            {
                self.unwritten(&path, error);
                return Ok(());
            }
            if !contents.missing.contains(&path) {
                set(&path, &node, hand);
            }
            Ok(())
        })?;
        while let Some((folder, node)) = folders.pop() {
            set(&folder, &node, hand);
        }
        Ok(())
    }
}

/// The contents pack by pack; first the packs that hold something of the files that were modified last (BK-8).
fn newest_first(contents: &Contents) -> Vec<&[Piece]> {
    let mut groups: Vec<&[Piece]> = contents.pieces.chunk_by(|a, b| a.pack == b.pack).collect();
    let modified = |piece: &Piece| contents.targets.get(piece.target as usize).and_then(|target| target.modified);
    groups.sort_by_cached_key(|group| Reverse(group.iter().filter_map(modified).max()));
    groups
}

/// What files that are one file under several names have in common.
fn link_key(node: &Node) -> Option<(u64, u64)> {
    let meta = &node.meta;
    (!node.is_dir() && meta.links > 1 && meta.inode != 0).then_some((meta.device_id, meta.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BK-8: the most recent data is back first.
    #[test]
    fn packs_with_the_newest_files_are_written_first() {
        let target = |name: &str, modified| Target {
            path: name.into(),
            size: 1,
            modified: Some(Time::from_secs(modified)),
            basics: None,
            is_made: true.into(),
            has_failed: false.into(),
        };
        let piece = |pack, target| Piece {
            pack,
            offset: 0,
            sealed: 33,
            is_compressed: false,
            length: 1,
            target,
            at: 0,
            id: DataId::default(),
        };
        let contents = Contents {
            targets: vec![target("old", 1), target("new", 3), target("between", 2)],
            // The pack 2 holds a part of an old file and of the newest one.
            pieces: vec![piece(0, 0), piece(1, 2), piece(2, 0), piece(2, 1), piece(3, 0)],
            ..Contents::default()
        };
        let order: Vec<u32> = newest_first(&contents).iter().map(|group| group[0].pack).collect();
        assert_eq!(order, [2, 1, 0, 3], "and each pack once");
    }
}
