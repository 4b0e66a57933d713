//! The storage of a restic repository: objects below one folder, at every copy.
//!
//! The library asks from threads of its own, and waits. What it writes goes to every copy; what it reads comes from the first copy
//! at which it is whole, by its name, which is the SHA-256 of its bytes. A snapshot is not written: it is held back until [`take`]
//! lets it out. Nothing is ever removed: where the server [destroys], what the library wants removed is written down, and
//! hidden once [`Backend::hide_superseded`] says so.
//!
//! [destroys]: super::destroy
//! [`take`]: super::take

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::words::handed;
use crate::pace::Pace;
use crate::sealed::{Repository, RepositoryError};

/// Most bytes of whole packs that are kept in memory.
const RECENT_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Folder of all restic repositories.
pub(super) const FOLDER: &str = "restic";

/// See the head of the module.
pub(super) struct Backend {
    runtime: Handle,
    repository: Arc<Repository>,
    folder: String,
    /// The configuration that is read, where a copy of it was chosen.
    config: Mutex<Option<Bytes>>,
    /// The snapshot that is held back.
    held: Mutex<Option<(Id, Bytes)>>,
    /// The packs that are listed instead of those that are there, with their sizes.
    known: Mutex<Option<BTreeMap<Id, u32>>>,
    /// Index files that were read once and are read once more; `None` while each is read once.
    indexes: Mutex<Option<BTreeMap<Id, Bytes>>>,
    /// Whole packs that were read last, the last one at the end.
    recent: Mutex<VecDeque<(Id, Bytes)>>,
    /// What the library wants removed; `None` where nobody may remove anything.
    superseded: Option<Mutex<Superseded>>,
    /// How fast is read, where that is bounded.
    pace: Option<Arc<Pace>>,
    /// Bytes that were written.
    written: AtomicU64,
    /// Why something could not be written, the first time.
    write_error: Mutex<Option<RepositoryError>>,
}

/// What is no longer needed once all that was written in its place is there.
#[derive(Clone, Default, Debug)]
pub(super) struct Superseded {
    /// Index files.
    pub(super) indexes: BTreeSet<Id>,
    /// Packs.
    pub(super) packs: BTreeSet<Id>,
    /// Whether they are no longer shown.
    is_hidden: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Backend {
    /// The storage of the repository `name`. To be used on threads that may wait, while `runtime` runs.
    pub(super) fn new(runtime: Handle, repository: Arc<Repository>, name: &str) -> Self {
        Self {
            runtime,
            repository,
            folder: format!("{FOLDER}/{name}"),
            config: Mutex::default(),
            held: Mutex::default(),
            known: Mutex::default(),
            indexes: Mutex::default(),
            recent: Mutex::default(),
            superseded: None,
            pace: None,
            written: AtomicU64::new(0),
            write_error: Mutex::default(),
        }
    }

    /// The same, which reads no faster than that, and no more once everybody is to stop.
    pub(super) fn paced(self, pace: Arc<Pace>) -> Self {
        Self { pace: Some(pace), ..self }
    }

    /// The same, for the server to destroy in: what is no longer needed is written down, and every copy has to answer and to take
    /// what is written.
    pub(super) fn destroying(self) -> Self {
        Self { superseded: Some(Mutex::default()), ..self }
    }

    /// What is no longer needed.
    pub(super) fn superseded(&self) -> Superseded {
        self.superseded.as_ref().map(|superseded| lock(superseded).clone()).unwrap_or_default()
    }

    /// Shows the repository without what is no longer needed from now on.
    pub(super) fn hide_superseded(&self) {
        if let Some(superseded) = &self.superseded {
            lock(superseded).is_hidden = true;
        }
        lock(&self.recent).clear();
    }

    /// The folder of all objects.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// The name of the restic repository.
    pub(super) fn name(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or_default()
    }

    /// The copies.
    pub(super) fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Waits for what the repository does.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Why something could not be written, the first time: the library may say instead that one of its threads has ended.
    pub(super) fn take_write_error(&self) -> Option<RepositoryError> {
        lock(&self.write_error).take()
    }

    /// Bytes that were written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Has `bytes` read as the configuration.
    pub(super) fn set_config(&self, bytes: Bytes) {
        *lock(&self.config) = Some(bytes);
    }

    /// Keeps the index files that are read from now on, for they are read twice.
    pub(super) fn keep_indexes(&self) {
        *lock(&self.indexes) = Some(BTreeMap::new());
    }

    /// Has these packs listed, and no others.
    pub(super) fn list_only(&self, packs: BTreeMap<Id, u32>) {
        *lock(&self.known) = Some(packs);
    }

    /// Has everything listed that is there, and keeps no index file.
    pub(super) fn list_all(&self) {
        *lock(&self.known) = None;
        *lock(&self.indexes) = None;
    }

    /// The snapshot that is held back.
    pub(super) fn held(&self) -> Option<Id> {
        lock(&self.held).as_ref().map(|(id, _)| *id)
    }

    /// Writes the snapshot that was held back, and says at which copies it is.
    ///
    /// # Errors
    /// There is none, or it is at no copy.
    pub(super) fn release(&self) -> Result<(Id, BTreeSet<usize>), RepositoryError> {
        let held = lock(&self.held).take();
        let (id, bytes) = held.ok_or_else(|| RepositoryError::Unusable("no snapshot is held back".into()))?;
        Ok((id, self.put(FileType::Snapshot, &id, bytes)?))
    }

    /// The name of an object.
    pub(super) fn object(&self, kind: FileType, id: &Id) -> String {
        let hex = id.to_hex();
        match kind {
            FileType::Config => format!("{}/config", self.folder),
            FileType::Pack => format!("{}/data/{}/{}", self.folder, &hex[..2], &*hex),
            _ => format!("{}/{}/{}", self.folder, kind.dirname(), &*hex),
        }
    }

    /// What is there of a kind: the size at each copy that has it.
    pub(super) fn listed(&self, kind: FileType) -> Result<BTreeMap<Id, Vec<(usize, u64)>>, RepositoryError> {
        let prefix = match kind {
            FileType::Config => format!("{}/config", self.folder),
            _ => format!("{}/{}/", self.folder, kind.dirname()),
        };
        let (listing, mut errors) = self.wait(self.repository.list(&prefix))?;
        let hidden = match &self.superseded {
            // What a copy that does not answer has alone may need what is not needed elsewhere.
            Some(_) if !errors.is_empty() => return Err(errors.swap_remove(0).into()),
            Some(superseded) => Some(lock(superseded).clone()).filter(|superseded| superseded.is_hidden),
            None => None,
        };
        let is_hidden = |id: &Id| match (&hidden, kind) {
            (Some(hidden), FileType::Index) => hidden.indexes.contains(id),
            (Some(hidden), FileType::Pack) => hidden.packs.contains(id),
            _ => false,
        };
        let id = |name: &str| match kind {
            FileType::Config => (name == prefix).then(Id::default),
            // What has no such name is nothing of restic's.
            _ => name.rsplit('/').next().filter(|hex| hex.len() == 64).and_then(|hex| hex.parse().ok()),
        };
        let found = listing.into_iter().filter_map(|(name, at)| Some((id(&name)?, at)));
        Ok(found.filter(|(id, _)| !is_hidden(id)).collect())
    }

    /// A whole pack, from memory or from the first copy that has it whole; it stays in memory for a while.
    pub(super) fn pack(&self, id: &Id) -> Result<Bytes, RepositoryError> {
        if let Some(bytes) = self.remembered(id) {
            return Ok(bytes);
        }
        let bytes = self.get(FileType::Pack, id)?;
        let mut recent = lock(&self.recent);
        recent.push_back((*id, bytes.clone()));
        while recent.len() > 1 && recent.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > RECENT_BYTES_MAX {
            recent.pop_front();
        }
        Ok(bytes)
    }

    /// A whole pack of that size, from the first copy that has one: its name was not compared with its bytes.
    pub(super) fn unproved_pack(&self, id: &Id, size: u64) -> Result<Bytes, RepositoryError> {
        let is_as_long = |bytes: &Bytes| bytes.len() as u64 == size;
        self.wait(self.repository.get(&self.object(FileType::Pack, id), None, is_as_long))
    }

    fn remembered(&self, id: &Id) -> Option<Bytes> {
        let mut recent = lock(&self.recent);
        let at = recent.iter().position(|(found, _)| found == id)?;
        let found = recent.remove(at)?;
        recent.push_back(found.clone());
        Some(found.1)
    }

    fn get(&self, kind: FileType, id: &Id) -> Result<Bytes, RepositoryError> {
        let is_whole = |bytes: &Bytes| kind == FileType::Config || Id::new(Sha256::digest(bytes).into()) == *id;
        let bytes = self.wait(self.repository.get(&self.object(kind, id), None, is_whole))?;
        if let Some(pace) = &self.pace {
            self.wait(pace.after(bytes.len() as u64));
            if pace.has_ended() {
                return Err(RepositoryError::Unusable("it was stopped before its end".into()));
            }
        }
        Ok(bytes)
    }

    /// Adds an object, and says at which copies it is.
    pub(super) fn put(&self, kind: FileType, id: &Id, bytes: Bytes) -> Result<BTreeSet<usize>, RepositoryError> {
        let size = bytes.len() as u64;
        let done = self.wait(self.repository.put(&self.object(kind, id), bytes))?;
        if self.superseded.is_some() && done.len() < self.repository.copies().len() {
            let reason = "a copy does not take what is written anew: nothing is destroyed unless all of them do";
            return Err(RepositoryError::Unusable(reason.into()));
        }
        self.written.fetch_add(size, Ordering::Relaxed);
        Ok(done)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of an object that was asked for.
fn part(bytes: &Bytes, offset: u32, length: u32) -> Option<Bytes> {
    let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        self.folder.clone()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if kind == FileType::Pack
            && let Some(known) = &*lock(&self.known)
        {
            return Ok(known.iter().map(|(id, size)| (*id, *size)).collect());
        }
        let listed = self.listed(kind).map_err(handed)?;
        // Where the copies differ, one of them was not written whole; which one, `check` says.
        let size = |at: Vec<(usize, u64)>| at.into_iter().map(|(_, size)| size).max().unwrap_or_default();
        Ok(listed.into_iter().map(|(id, at)| (id, u32::try_from(size(at)).unwrap_or(u32::MAX))).collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        if kind == FileType::Config
            && let Some(bytes) = &*lock(&self.config)
        {
            return Ok(bytes.clone());
        }
        if kind == FileType::Snapshot
            && let Some((held, bytes)) = &*lock(&self.held)
            && held == id
        {
            return Ok(bytes.clone());
        }
        if kind != FileType::Index {
            return self.get(kind, id).map_err(handed);
        }
        if let Some(bytes) = lock(&self.indexes).as_mut().and_then(|kept| kept.remove(id)) {
            return Ok(bytes);
        }
        let bytes = self.get(kind, id).map_err(handed)?;
        if let Some(kept) = &mut *lock(&self.indexes) {
            kept.insert(*id, bytes.clone());
        }
        Ok(bytes)
    }

    fn read_partial(&self, kind: FileType, id: &Id, cacheable: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        // Trees are small and near to each other: the whole pack is one request, and its name says whether it is whole.
        let whole = if cacheable { Some(self.pack(id).map_err(handed)?) } else { self.remembered(id) };
        if let Some(whole) = whole {
            let short =
                || RepositoryError::Unusable(format!("{}: it is shorter than its index", self.object(kind, id)));
            return part(&whole, offset, length).ok_or_else(|| handed(short()));
        }
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        let is_whole = |bytes: &Bytes| bytes.len() as u64 == u64::from(length);
        self.wait(self.repository.get(&self.object(kind, id), Some(range), is_whole)).map_err(handed)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.object(kind, id)
    }
}

impl WriteBackend for Backend {
    fn write_bytes(&self, kind: FileType, id: &Id, _cacheable: bool, content: BytesList) -> RusticResult<()> {
        let bytes = match content.slice() {
            [whole] => whole.clone(),
            parts => parts.concat().into(),
        };
        if kind == FileType::Snapshot {
            *lock(&self.held) = Some((*id, bytes));
            return Ok(());
        }
        if kind == FileType::Config && self.superseded.is_some() {
            // That something may be removed is said to the library, and written nowhere.
            self.set_config(bytes);
            return Ok(());
        }
        self.put(kind, id, bytes).map(drop).map_err(|error| {
            let reason = error.to_string();
            lock(&self.write_error).get_or_insert(error);
            handed(RepositoryError::Unusable(reason))
        })
    }

    fn remove(&self, kind: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        if let Some(superseded) = &self.superseded {
            let mut superseded = lock(superseded);
            match kind {
                FileType::Index => superseded.indexes.insert(*id),
                FileType::Pack => superseded.packs.insert(*id),
                _ => false,
            };
            return Ok(());
        }
        let refused = format!("{}: a host has no right to remove objects", self.object(kind, id));
        Err(RusticError::new(ErrorKind::Unsupported, refused))
    }
}
