//! Which copies are left when this host burns.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::Settings;
use crate::sealed::Repository;

/// Kinds of file systems whose data are on another machine (statfs(2)): NFS, SMB, CIFS, Ceph, AFS, 9P, and FUSE, as sshfs.
const OF_OTHERS: [i64; 8] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x5346_414f, 0x0102_1997, 0x6573_5546];
/// How long the kind of a file system is waited for.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);

/// Whether a directory is on a disk of this host. One that can't be looked at is taken for one.
pub(crate) async fn is_of_this_host(path: &Path) -> bool {
    let path = path.to_owned();
    // A file system that hangs does so here too.
    let looked = tokio::task::spawn_blocking(move || rustix::fs::statfs(&path));
    let Ok(Ok(Ok(kind))) = tokio::time::timeout(LOOKED_WITHIN, looked).await else { return true };
    !OF_OTHERS.contains(&(kind.f_type & 0xffff_ffff))
}

/// The copies that do not burn with this host, by their place in [`Repository::copies`]; none where the policy has no such copy.
#[derive(Default, Debug)]
pub(crate) struct Elsewhere(Mutex<BTreeSet<usize>>);

impl Elsewhere {
    /// Looks where they are: a mount may come and go.
    pub(crate) async fn look(&self, settings: &Settings) {
        let mut found = BTreeSet::new();
        for (index, copy) in settings.copies.iter().enumerate() {
            let burns = match copy.directory() {
                None => false,
                Some(path) => is_of_this_host(path).await,
            };
            if !burns {
                found.insert(index);
            }
        }
        self.set(found);
    }

    /// Has it be these.
    pub(crate) fn set(&self, copies: BTreeSet<usize>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = copies;
    }

    /// The copies that count: those that do not burn, or all, where there is no other.
    pub(crate) fn counting(&self, repository: &Repository) -> BTreeSet<usize> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if found.is_empty() { (0..repository.copies().len()).collect() } else { found }
    }

    /// Whether there is none.
    pub(crate) fn is_none(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether one of the copies that count has missed nothing that was stored.
    pub(crate) fn has_all(&self, repository: &Repository) -> bool {
        self.counting(repository).into_iter().any(|copy| repository.has_all(copy))
    }
}
