//! Taking a snapshot: read, write, read back, and only then let the snapshot out.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use engine::Context;
use event::Time;
use rustic_core::jiff::tz::TimeZone;
use rustic_core::jiff::{Timestamp, Zoned};
use rustic_core::repofile::{SnapshotFile, SnapshotId};
use rustic_core::{BackupOptions, FileType, Id, IndexedIdsStatus, ParentOptions, SnapshotOptions};

use super::backend::Backend;
use super::index::indexed_ids;
use super::lease::{HostLock, Lease, Role};
use super::open::{Open, open_or_make};
use super::problems::Problems;
use super::source::{Count, Source};
use super::thread::{Thread, on_thread};
use super::verify::verify;
use super::walk::{self, Plan};
use super::words::failed;
use super::{Files, FilesError, LeaseError};
use crate::objects::is_name;
use crate::sealed::Repository;
use engine::Watcher;

/// How often a backup begins anew where files were replaced or cut off while they were read.
const ATTEMPTS: usize = 3;
/// The tag of a snapshot that lacks something.
pub(super) const INCOMPLETE: &str = "incomplete";

/// A snapshot that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilesTaken {
    /// Its identifier, in hexadecimal.
    pub snapshot: String,
    /// When the files were read: from this instant on.
    pub at: Time,
    /// Number of files in it.
    pub files: u64,
    /// Number of directories in it.
    pub folders: u64,
    /// Sum of the sizes of the files.
    pub bytes: u64,
    /// Bytes that were stored for it, at each copy.
    pub added: u64,
    /// What is there and could not be read: it is not in the snapshot, or not all of it.
    pub unread: Problems,
    /// Files that changed while they were read: what is kept may be of two instants.
    pub changed: Problems,
    /// Files that went away before they were read.
    pub gone: Problems,
    /// Directories on which another file system is mounted that was not entered: they are kept as empty ones.
    pub mounts: Problems,
    /// What patterns left out; what is below a directory that is left out is not counted.
    pub excluded: u64,
    /// Sockets, which are left out.
    pub sockets: u64,
    /// The copies that have all that the snapshot needs, locked for as long as it is kept where they lock, by their names.
    pub copies: Vec<String>,
    /// Why a copy does not lock something that the snapshot needs for as long.
    pub unlocked: Vec<String>,
}

impl FilesTaken {
    /// Whether everything is in it that was to be.
    pub const fn is_complete(&self) -> bool {
        self.unread.is_empty()
    }
}

impl Files {
    /// Takes a snapshot. `state` is the folder of the agent.
    ///
    /// # Errors
    /// No snapshot was kept: a path can't be read as a whole, no copy takes what is written, what was written is not what was read,
    /// another process is at it, or it was told to stop. A file that can't be read is none of them: it is in
    /// [`FilesTaken::unread`].
    pub async fn take(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
        state: &Path,
        watcher: &dyn Watcher,
    ) -> Result<FilesTaken, FilesError> {
        self.check_name()?;
        let lock = HostLock::take(state, &self.name)?;
        let lease = Arc::new(Lease::take(repository, &self.name, Role::Write).await?);
        let (files, held) = (self.clone(), Arc::clone(&lease));
        let backend = self.backend(repository);
        let work = on_thread(context, watcher, move |thread| {
            let _lock = lock;
            files.run(thread, &backend, &held)
        });
        lease.during(work).await
    }

    pub(super) fn check_name(&self) -> Result<(), FilesError> {
        if is_name(&self.name) && !self.name.contains('/') {
            return Ok(());
        }
        let reason = "the name is to be of letters, digits and `-_.:`".to_owned();
        Err(FilesError::Source { path: self.name.clone(), reason })
    }

    pub(super) fn backend(&self, repository: &Arc<Repository>) -> Arc<Backend> {
        Arc::new(Backend::new(tokio::runtime::Handle::current(), Arc::clone(repository), &self.name))
    }

    /// The whole of it, on a thread that may wait.
    pub(super) fn run(&self, thread: &Thread, backend: &Arc<Backend>, lease: &Lease) -> Result<FilesTaken, FilesError> {
        let at = backend.repository().now();
        let plan = Plan::new(&self.all_paths()?, &self.exclude, self.one_file_system)?;
        thread.telling.step("opening the repository");
        let repository = open_or_make(backend, &self.name, &thread.telling)?;
        let parent = repository.get_all_snapshots().map_err(failed)?.into_iter().max_by(|a, b| a.time.cmp(&b.time));
        let repository = indexed_ids(backend, repository)?;
        if let Some(parent) = parent.as_ref().filter(|_| !self.may_be_empty) {
            not_suddenly_empty(&repository, parent, &plan)?;
        }
        let begun = self.begun(at)?;
        let (repository, mut snapshot, count) =
            archive(thread, backend, repository, &plan, &begun, parent.as_ref().map(|parent| parent.id))?;
        let (repository, packs) = verify(thread, backend, repository, &snapshot, &count)?;
        // What the last attempt was compared with may never have been let out.
        snapshot.parent = parent.as_ref().map(|parent| parent.id);
        snapshot.parents = snapshot.parent.into_iter().collect();
        if !count.unread.is_empty() {
            snapshot.tags.add(INCOMPLETE.to_owned());
            snapshot.description = Some(format!("{} could not be read:\n{}", count.unread.count, count.unread));
        }
        repository.save_snapshots(vec![snapshot]).map_err(failed)?;
        let mut whole_at = copies_with_all(backend, &packs)?;
        if whole_at.is_empty() {
            return Err(FilesError::Unfaithful("no copy has all that it needs".into()));
        }
        thread.telling.step("locking what it needs");
        let unlocked = backend.wait(backend.repository().keep_locked(&needed(backend, &packs)?, at));
        whole_at.retain(|copy| !unlocked.contains_key(copy));
        if thread.stop.is_cancelled() {
            return Err(FilesError::Stopped);
        }
        if !lease.is_held() {
            return Err(LeaseError::Lost(self.name.clone()).into());
        }
        let (id, at_copies) = backend.release()?;
        let copies = backend.repository().copies();
        let copies = whole_at.intersection(&at_copies).filter_map(|at| Some(copies.get(*at)?.name.clone()));
        Ok(FilesTaken {
            snapshot: id.to_hex().to_string(),
            at,
            files: count.files,
            folders: count.folders,
            bytes: count.bytes,
            added: backend.written(),
            unread: count.unread,
            changed: count.changed,
            gone: count.gone,
            mounts: count.mounts,
            excluded: count.excluded,
            sockets: count.sockets,
            copies: copies.collect(),
            unlocked: unlocked.into_values().map(|error| error.to_string()).collect(),
        })
    }

    /// The snapshot before anything is in it.
    fn begun(&self, at: Time) -> Result<SnapshotFile, FilesError> {
        let options = SnapshotOptions::default().label(self.name.clone()).command("garant".to_owned()).time(zoned(at));
        let mut snapshot = options.to_snapshot().map_err(failed)?;
        snapshot.program_version = format!("garant {}", env!("CARGO_PKG_VERSION"));
        Ok(snapshot)
    }
}

/// An instant as the library has it.
fn zoned(at: Time) -> Zoned {
    Timestamp::from_microsecond(at.micros()).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC)
}

/// A path that is empty, and was not in the last snapshot, is a mount that is away until somebody says otherwise.
fn not_suddenly_empty(
    repository: &rustic_core::Repository<IndexedIdsStatus>,
    parent: &SnapshotFile,
    plan: &Plan,
) -> Result<(), FilesError> {
    for root in &plan.roots {
        if !root.is_dir() || !walk::is_empty(root).map_err(|error| walk::source(root, error))? {
            continue;
        }
        // One that was not in the last snapshot can't have been otherwise.
        let Ok(node) = repository.node_from_path(parent.tree, root) else { continue };
        let Some(tree) = node.subtree else { continue };
        if !repository.get_tree(&tree).map_err(failed)?.nodes.is_empty() {
            let reason = "it is empty, and was not when it was last backed up: is its file system mounted? Where it is meant to be \
                          empty, say `may_be_empty`";
            return Err(walk::source(root, reason));
        }
    }
    Ok(())
}

/// Reads the files and writes what is new of them; again, where files were replaced while they were read.
fn archive(
    thread: &Thread,
    backend: &Backend,
    mut repository: rustic_core::Repository<IndexedIdsStatus>,
    plan: &Plan,
    begun: &SnapshotFile,
    mut parent: Option<SnapshotId>,
) -> Result<(Open, SnapshotFile, Count), FilesError> {
    let mut attempt = 1;
    loop {
        thread.telling.step("reading the files");
        let mut options = BackupOptions::default();
        options.parent_opts = match parent {
            Some(parent) => ParentOptions::default().parents(vec![parent.to_hex().to_string()]),
            None => ParentOptions::default().force(true),
        };
        let source = Source::new(plan.clone(), thread.clone());
        let archived = repository.archive(&options, &source, begun.clone(), &plan.roots);
        let snapshot =
            archived.map_err(|error| backend.take_write_error().map_or_else(|| failed(error), FilesError::from))?;
        let count = source.count();
        if thread.stop.is_cancelled() {
            return Err(FilesError::Stopped);
        }
        if let Some((path, reason)) = count.failed {
            return Err(walk::source(&path, reason));
        }
        if count.again == 0 || attempt == ATTEMPTS {
            return Ok((repository.drop_index(), snapshot, count));
        }
        attempt += 1;
        // The next attempt finds what this one has stored, and reads what it lacks.
        parent = backend.held().map(SnapshotId::from);
        repository = indexed_ids(backend, repository.drop_index())?;
    }
}

/// The objects that a snapshot needs which needs these packs.
fn needed(backend: &Backend, packs: &BTreeSet<Id>) -> Result<BTreeSet<String>, FilesError> {
    let mut needed: BTreeSet<String> = packs.iter().map(|pack| backend.object(FileType::Pack, pack)).collect();
    for kind in [FileType::Config, FileType::Key, FileType::Index] {
        needed.extend(backend.listed(kind)?.keys().map(|id| backend.object(kind, id)));
    }
    Ok(needed)
}

/// The copies that have all that a snapshot needs which needs these packs.
pub(super) fn copies_with_all(backend: &Backend, packs: &BTreeSet<Id>) -> Result<BTreeSet<usize>, FilesError> {
    let mut whole: BTreeSet<usize> = (0..backend.repository().copies().len()).collect();
    for kind in [FileType::Config, FileType::Key, FileType::Index, FileType::Pack] {
        let listed = backend.listed(kind)?;
        let needed: Vec<_> = match kind {
            FileType::Pack => packs.iter().map(|pack| listed.get(pack)).collect(),
            _ => listed.values().map(Some).collect(),
        };
        for at in needed {
            whole.retain(|copy| at.is_some_and(|at| at.iter().any(|(has, _)| has == copy)));
        }
    }
    Ok(whole)
}
