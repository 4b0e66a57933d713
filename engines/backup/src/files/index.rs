//! The index of a repository, without what is gone.
//!
//! An index file says in which pack a chunk is. Where that pack is whole at no copy any more, the chunk must be stored again, and be read from
//! wherever else it is; and a pack that no index file names, which a backup that did not end has left, must not be counted on: nobody
//! else would find it. So the library is shown the packs that are both named and there, and no others.

use std::collections::BTreeMap;

use rustic_core::repofile::IndexFile;
use rustic_core::{FileType, Id, IndexedFullStatus, IndexedIdsStatus, Repository};

use super::FilesError;
use super::backend::Backend;
use super::open::Open;
use super::words::failed;

/// Reads the index, to restore from it.
pub(super) fn indexed(backend: &Backend, repository: Open) -> Result<Repository<IndexedFullStatus>, FilesError> {
    show_known(backend, &repository)?;
    let indexed = repository.to_indexed_checked().map_err(failed);
    backend.list_all();
    indexed
}

/// Reads the index, to add to it.
pub(super) fn indexed_ids(backend: &Backend, repository: Open) -> Result<Repository<IndexedIdsStatus>, FilesError> {
    show_known(backend, &repository)?;
    let indexed = repository.to_indexed_ids_checked().map_err(failed);
    backend.list_all();
    indexed
}

fn show_known(backend: &Backend, repository: &Open) -> Result<(), FilesError> {
    backend.keep_indexes();
    let listed = backend.listed(FileType::Pack)?;
    let is_there = |pack: &Id, size: u32| {
        let is_listed = listed.get(pack).is_some_and(|at| at.iter().any(|(_, found)| *found == u64::from(size)));
        is_listed && !backend.repository().is_distrusted(&backend.object(FileType::Pack, pack))
    };
    let (mut known, mut gone) = (BTreeMap::new(), 0_u64);
    for index in repository.stream_files::<IndexFile>().map_err(failed)? {
        for pack in index.map_err(failed)?.1.packs {
            let size = pack.pack_size();
            if is_there(&pack.id, size) {
                known.insert(*pack.id, size);
            } else {
                gone += 1;
            }
        }
    }
    if gone > 0 {
        tracing::warn!(repository = ?backend, packs = gone, "packs are at no copy as they were written: run a check");
    }
    backend.list_only(known);
    Ok(())
}
