//! Opening a restic repository, or making it.
//!
//! A repository is made only where every copy answers that it has none: two configurations under one name, each at one copy, would be
//! two repositories that destroy each other's use.

use std::sync::Arc;

use rustic_core::{
    ConfigOptions, Credentials, FileType, Id, KeyOptions, OpenStatus, ReadBackend as _, RepositoryBackends,
    RepositoryOptions,
};
use sha2::{Digest as _, Sha256};

use super::FilesError;
use super::backend::Backend;
use super::key::{key_file, master_key};
use super::thread::Telling;
use super::words::failed;
use crate::objects::Why;
use crate::sealed::{RepositoryError, RepositoryKey};

/// Bytes of a pack of data; the last chunk may go over it, by 8 MiB at most.
const DATA_PACK: &str = "16 MiB";
/// Bytes of a pack of trees.
const TREE_PACK: &str = "4 MiB";

/// An open repository.
pub(super) type Open = rustic_core::Repository<OpenStatus>;

/// The key of the restic repository `name`, as rustic_core takes it.
fn credentials(key: &RepositoryKey, name: &str) -> Result<Credentials, FilesError> {
    let key = serde_json::from_value(master_key(key, name)).map_err(|error| FilesError::Stored(error.to_string()))?;
    Ok(Credentials::Masterkey(key))
}

/// Opens the repository `name`; `None` where every copy says that it has none.
pub(super) fn open(backend: &Arc<Backend>, name: &str, telling: &Telling) -> Result<Option<Open>, FilesError> {
    let credentials = credentials(backend.repository().key(), name)?;
    let config = backend.object(FileType::Config, &Id::default());
    let mut first_error: Option<FilesError> = None;
    for copy in backend.repository().copies() {
        let error = match backend.wait(copy.objects.get(&config, None)) {
            Ok(bytes) => {
                backend.set_config(bytes);
                match closed(backend, telling)?.open(&credentials) {
                    Ok(open) => return Ok(Some(open)),
                    Err(error) => match failed(error) {
                        FilesError::Stored(error) => {
                            FilesError::Stored(format!("{}: {config}: {error}", copy.objects.place()))
                        }
                        error => error,
                    },
                }
            }
            Err(error) if error.why == Why::Missing => continue,
            Err(error) => RepositoryError::from(error).into(),
        };
        first_error.get_or_insert(error);
    }
    first_error.map_or(Ok(None), Err)
}

/// Opens the repository `name`, or makes it; and a key file for stock restic where there is none.
pub(super) fn open_or_make(backend: &Arc<Backend>, name: &str, telling: &Telling) -> Result<Open, FilesError> {
    let repository = if let Some(open) = open(backend, name, telling)? {
        open
    } else {
        let credentials = credentials(backend.repository().key(), name)?;
        let mut options = ConfigOptions::default();
        options.set_datapack_size = DATA_PACK.parse().ok();
        options.set_datapack_growfactor = Some(0);
        options.set_treepack_size = TREE_PACK.parse().ok();
        options.set_treepack_growfactor = Some(0);
        options.set_extra_verify = Some(true);
        // The command `rustic` keeps to it; restic does not know it.
        options.set_append_only = Some(true);
        closed(backend, telling)?.init(&credentials, &KeyOptions::default(), &options).map_err(failed)?
    };
    if backend.list(FileType::Key).map_err(failed)?.is_empty() {
        let file = key_file(backend.repository().key(), name, backend.repository().random())?;
        backend.put(FileType::Key, &Id::new(Sha256::digest(&file).into()), file.into())?;
    }
    Ok(repository)
}

fn closed(backend: &Arc<Backend>, telling: &Telling) -> Result<rustic_core::Repository<()>, FilesError> {
    let backends = RepositoryBackends::new(Arc::clone(backend) as _, None);
    let options = RepositoryOptions::default().no_cache(true);
    rustic_core::Repository::new_with_progress(&options, &backends, telling.clone()).map_err(failed)
}
