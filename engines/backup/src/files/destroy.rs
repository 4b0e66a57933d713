//! Destroying what only expired snapshots hold (BK-6): by the server, never by a host.
//!
//! **Problem.** Snapshots share their chunks, and packs hold chunks of many snapshots. Whoever removes the wrong one destroys what is
//! to be kept; who stops half way leaves an index that names what is gone; and what a host says of its own snapshots may be a lie.
//! **Principle.** Which snapshots have expired is told from outside ([`crate::expiry`]). Under a lease that keeps every writer away, and
//! with every copy answering, chunks that are still needed and lie in a pack with others are written into new packs, and a new index
//! says where all is. Only when every tree that is kept was found through that index alone, at every copy, is anything removed: the
//! snapshots, then the old index files, then the packs that no index file names any more. So a crash at any step leaves a repository that is
//! whole, and the next pass goes on. What is locked at a copy stays at all of them, and is named with the time at which its lock ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Context;
use event::Time;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustic_core::repofile::SnapshotFile;
use rustic_core::{ConfigOptions, FileType, Id, IndexedFullStatus, LimitOption, PruneOptions, TreeId};
use tokio::sync::{mpsc, oneshot};

use super::backend::Backend;
use super::index::indexed;
use super::lease::{Lease, Role};
use super::open::open;
use super::take::copies_with_all;
use super::thread::{Thread, on_thread};
use super::words::failed;
use super::{Files, FilesError, LeaseError};
use crate::objects::Destroy;
use crate::sealed::{Repository, RepositoryError};

/// How many objects are removed at once.
const AT_ONCE: usize = 8;

/// An object that is locked, and hidden.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hidden {
    /// The copy, by its place in the repository.
    pub copy: usize,
    /// The object.
    pub object: String,
    /// When its lock ends.
    pub until: Time,
}

/// What a pass has done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FilesDestroyed {
    /// How many objects are in no listing any more, at each copy.
    pub objects: u64,
    /// Those of which the bytes are there still.
    pub hidden: Vec<Hidden>,
}

/// What is about to be hidden. It is to be written down before it is: a listing shows it to nobody afterwards.
#[derive(Debug)]
pub(crate) struct Intended {
    /// Which objects.
    pub(crate) hidden: Vec<Hidden>,
    /// Told once they are written down.
    pub(crate) written: oneshot::Sender<()>,
}

/// What is needed beside the backend.
struct Pass<'a> {
    thread: &'a Thread,
    backend: &'a Backend,
    copies: &'a [Arc<dyn Destroy>],
    lease: &'a Lease,
    name: &'a str,
    intends: &'a mpsc::Sender<Intended>,
    done: FilesDestroyed,
    removed: BTreeSet<String>,
}

impl Files {
    /// Destroys the snapshots `expired`, and what no other snapshot needs. `kept` are snapshots that have to be there: where one is
    /// missing, somebody has removed it, and nothing is destroyed. `copies` are those of the repository, in their order, with the right
    /// to destroy; what is to be hidden is told to `intends` first.
    ///
    /// # Errors
    /// Somebody writes to the repository, a copy does not answer or lacks something, or what is kept is not whole. Whatever was removed
    /// until then is needed by nothing that is kept.
    pub(crate) async fn destroy(
        &self,
        context: &Context,
        repository: &Arc<Repository>,
        copies: Vec<Arc<dyn Destroy>>,
        expired: BTreeSet<String>,
        kept: BTreeSet<String>,
        intends: mpsc::Sender<Intended>,
    ) -> Result<FilesDestroyed, FilesError> {
        self.check_name()?;
        let lease = Arc::new(Lease::take(repository, &self.name, Role::Destroy).await?);
        let (name, held) = (self.name.clone(), Arc::clone(&lease));
        let backend = Backend::new(tokio::runtime::Handle::current(), Arc::clone(repository), &self.name);
        let backend = Arc::new(backend.destroying());
        let work = on_thread(context, &(), move |thread| {
            let (done, removed) = (FilesDestroyed::default(), BTreeSet::new());
            let (lease, name, intends) = (&*held, &*name, &intends);
            let pass = Pass { thread, backend: &backend, copies: &copies, lease, name, intends, done, removed };
            pass.run(&backend, &expired, &kept)
        });
        lease.during(work).await
    }
}

impl Pass<'_> {
    fn run(
        mut self,
        backend: &Arc<Backend>,
        expired: &BTreeSet<String>,
        kept: &BTreeSet<String>,
    ) -> Result<FilesDestroyed, FilesError> {
        let name = self.name;
        self.thread.telling.step("looking at what has expired");
        let listed: BTreeSet<Id> = backend.listed(FileType::Snapshot)?.into_keys().collect();
        if let Some(gone) = kept.iter().find(|id| id.parse().is_ok_and(|id: Id| !listed.contains(&id))) {
            return Err(FilesError::Stored(format!(
                "the snapshot {gone} of `{name}` has not expired and is at no copy: somebody has removed it, and nothing is destroyed \
                 beside it. See what `garant backup list {name} --as-first-written` still finds"
            )));
        }
        let mut expired: BTreeSet<Id> = expired.iter().filter_map(|id| id.parse().ok()).collect();
        expired.retain(|id| listed.contains(id));
        let Some(mut repository) = open(backend, name, &self.thread.telling)? else { return Ok(self.done) };
        let may = ConfigOptions::default().set_append_only(false);
        repository.apply_config(&may).map_err(failed)?;
        self.rewrite(&repository, &expired)?;
        let superseded = backend.superseded();
        let live: Vec<Id> = listed.difference(&expired).copied().collect();
        backend.hide_superseded();
        self.thread.telling.step("reading what is kept");
        let roots = live.iter().map(|id| {
            let file: SnapshotFile = repository.get_file(&(*id).into()).map_err(failed)?;
            Ok(file.tree)
        });
        let roots = roots.collect::<Result<Vec<_>, FilesError>>()?;
        let needed = self.needed(&indexed(backend, repository)?, roots)?;
        if let Some(needed) = needed.intersection(&superseded.packs).next() {
            let pack = backend.object(FileType::Pack, needed);
            return Err(FilesError::Stored(format!("{pack} was to be destroyed, and is needed: nothing is destroyed")));
        }
        if copies_with_all(backend, &needed)?.len() < backend.repository().copies().len() {
            let reason = "a copy lacks what is kept: nothing is destroyed until it was brought there";
            return Err(FilesError::Stored(reason.into()));
        }
        self.thread.telling.step("destroying");
        let objects = |kind, ids: &BTreeSet<Id>| ids.iter().map(|id| backend.object(kind, id)).collect::<Vec<_>>();
        self.remove(objects(FileType::Snapshot, &expired))?;
        self.remove(objects(FileType::Index, &superseded.indexes))?;
        self.remove(objects(FileType::Pack, &superseded.packs))?;
        self.prove()
    }

    /// Writes chunks that are needed, and lie in a pack with others that are not, into new packs, and a new index.
    fn rewrite(&self, repository: &super::open::Open, expired: &BTreeSet<Id>) -> Result<(), FilesError> {
        self.thread.telling.step("writing anew what is kept");
        let mut options = PruneOptions::default();
        options.max_repack = LimitOption::Unlimited;
        options.max_unused = LimitOption::Percentage(0);
        options.instant_delete = true;
        options.no_resize = true;
        options.ignore_snaps = expired.iter().map(|id| (*id).into()).collect();
        let plan = repository.prune_plan(&options).map_err(failed)?;
        let pruned = repository.prune(&options, plan);
        pruned.map_err(|error| self.backend.take_write_error().map_or_else(|| failed(error), FilesError::from))
    }

    /// The packs that these trees need, each found through the index as it is shown.
    fn needed(
        &self,
        repository: &rustic_core::Repository<IndexedFullStatus>,
        mut trees: Vec<TreeId>,
    ) -> Result<BTreeSet<Id>, FilesError> {
        let (mut seen, mut packs) = (BTreeSet::new(), BTreeSet::new());
        while let Some(tree) = trees.pop() {
            if self.thread.stop.is_cancelled() {
                return Err(FilesError::Stopped);
            }
            if !seen.insert(tree) {
                continue;
            }
            packs.insert(*repository.get_index_entry(&tree).map_err(failed)?.pack);
            for node in repository.get_tree(&tree).map_err(failed)?.nodes {
                for chunk in node.content.iter().flatten() {
                    packs.insert(*repository.get_index_entry(chunk).map_err(failed)?.pack);
                }
                trees.extend(node.subtree);
            }
        }
        Ok(packs)
    }

    /// Removes objects at every copy; where one is locked, it is hidden.
    fn remove(&mut self, objects: Vec<String>) -> Result<(), FilesError> {
        let (copies, lease, name, stop) = (self.copies, self.lease, self.name, &self.thread.stop);
        let now = self.backend.repository().now();
        let looks = stream::iter(objects.clone()).map(|object| async move {
            if stop.is_cancelled() { Err(FilesError::Stopped) } else { locks(copies, object, now).await }
        });
        let hidden: Vec<Vec<Hidden>> = self.backend.wait(looks.buffer_unordered(AT_ONCE).try_collect())?;
        let hidden: Vec<Hidden> = hidden.into_iter().flatten().collect();
        if !hidden.is_empty() {
            let intends = async {
                let (written, done) = oneshot::channel();
                self.intends.send(Intended { hidden: hidden.clone(), written }).await.ok()?;
                done.await.ok()
            };
            self.backend.wait(intends).ok_or(FilesError::Stopped)?;
        }
        let locked: BTreeSet<(usize, &str)> = hidden.iter().map(|hidden| (hidden.copy, &*hidden.object)).collect();
        let locked = &locked;
        let removes = stream::iter(&objects).map(|object| async move {
            if stop.is_cancelled() {
                return Err(FilesError::Stopped);
            }
            if !lease.is_held() {
                return Err(LeaseError::Lost(name.to_owned()).into());
            }
            for (at, copy) in copies.iter().enumerate() {
                let is_locked = locked.contains(&(at, &**object));
                let removed = if is_locked { copy.hide(object).await } else { copy.delete(object).await };
                removed.map_err(RepositoryError::from)?;
            }
            Ok(())
        });
        let removed: Result<(), FilesError> = self.backend.wait(removes.buffer_unordered(AT_ONCE).try_collect());
        removed?;
        self.removed.extend(objects);
        self.done.hidden.extend(hidden);
        Ok(())
    }

    /// Looks for what was removed in the listings of all copies.
    fn prove(mut self) -> Result<FilesDestroyed, FilesError> {
        let prefix = format!("{}/", self.backend.folder());
        let (listing, errors) = self.backend.wait(self.backend.repository().list(&prefix))?;
        if let Some(error) = errors.into_iter().next() {
            return Err(RepositoryError::from(error).into());
        }
        if let Some(name) = self.removed.iter().find(|name| listing.contains_key(*name)) {
            return Err(FilesError::Stored(format!("{name} was deleted, and is listed still")));
        }
        self.done.objects = self.removed.len() as u64;
        Ok(self.done)
    }
}

/// The copies at which an object is locked.
async fn locks(copies: &[Arc<dyn Destroy>], object: String, now: Time) -> Result<Vec<Hidden>, FilesError> {
    let mut hidden = Vec::new();
    for (copy, place) in copies.iter().enumerate() {
        let until = place.locked_until(&object).await.map_err(RepositoryError::from)?;
        if let Some(until) = until.filter(|until| *until > now) {
            hidden.push(Hidden { copy, object: object.clone(), until });
        }
    }
    Ok(hidden)
}
