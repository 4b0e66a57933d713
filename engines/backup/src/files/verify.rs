//! Verification after writing: the tree is read back from the copies, and is to be what was walked.

use std::collections::BTreeSet;

use rustic_core::repofile::SnapshotFile;
use rustic_core::{Id, LsOptions};

use super::FilesError;
use super::backend::Backend;
use super::index::indexed;
use super::open::Open;
use super::source::{Count, fingerprint};
use super::thread::Thread;
use super::words::failed;

/// Reads the tree of `snapshot` back, by the index files as they lie at the copies, and says which packs it needs.
///
/// # Errors
/// It is not what was walked and read.
pub(super) fn verify(
    thread: &Thread,
    backend: &Backend,
    repository: Open,
    snapshot: &SnapshotFile,
    count: &Count,
) -> Result<(Open, BTreeSet<Id>), FilesError> {
    thread.telling.step("reading the tree back");
    let repository = indexed(backend, repository)?;
    let mut packs = BTreeSet::new();
    packs.insert(*repository.get_index_entry(&snapshot.tree).map_err(failed)?.pack);
    let (mut entries, mut sum) = (0, 0_u128);
    let root = repository.node_from_snapshot_and_path(snapshot, "").map_err(failed)?;
    for item in repository.ls(&root, &LsOptions::default()).map_err(failed)? {
        if thread.stop.is_cancelled() {
            return Err(FilesError::Stopped);
        }
        let (path, mut node) = item.map_err(failed)?;
        entries += 1;
        sum = sum.wrapping_add(fingerprint(&path, &mut node));
        if let Some(tree) = &node.subtree {
            packs.insert(*repository.get_index_entry(tree).map_err(failed)?.pack);
        }
        let mut bytes = 0;
        for blob in node.content.iter().flatten() {
            let found = repository.get_index_entry(blob).map_err(failed)?;
            packs.insert(*found.pack);
            bytes += u64::from(found.location.data_length());
        }
        if bytes != node.meta.size {
            let shown = engine::printable::text(&path.to_string_lossy()).into_owned();
            let reason = format!("/{shown} has {} bytes, and {bytes} of them are stored", node.meta.size);
            return Err(FilesError::Unfaithful(reason));
        }
    }
    if entries != count.entries {
        let reason =
            format!("{} entries were read, and {entries} of them are in the tree that was written", count.entries);
        return Err(FilesError::Unfaithful(reason));
    }
    if sum != count.sum {
        return Err(FilesError::Unfaithful(
            "the tree that was written has other entries than those that were read".into(),
        ));
    }
    Ok((repository.drop_index(), packs))
}
