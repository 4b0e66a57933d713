//! Opens the repository of a policy: its key, and each of its copies.

use std::sync::Arc;

use engine::Context;

use crate::config::{PlaceSettings, Settings};
use crate::objects::{Directory, Objects, S3};
use crate::sealed::{Copy, Repository, RepositoryError, RepositoryKey};

/// The repository of `settings`.
///
/// # Errors
/// The key can't be read, or is none.
pub async fn open(settings: &Settings, context: &Context) -> Result<Arc<Repository>, RepositoryError> {
    let key = key(settings, context).await?;
    let mut copies = Vec::new();
    for copy in &settings.copies {
        let objects: Arc<dyn Objects> = match &copy.place {
            PlaceSettings::Directory(path) => Arc::new(Directory::new(path)),
            PlaceSettings::S3(bucket) => Arc::new(S3::new(bucket, context)?),
        };
        copies.push(Copy { name: copy.name.clone(), objects });
    }
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    let repository = Repository::new(copies, key, settings.keep, clock, random);
    Ok(Arc::new(repository.bases_apart(settings.intervals())))
}

/// The repository key of `settings`.
///
/// # Errors
/// It can't be read, or is none.
pub(crate) async fn key(settings: &Settings, context: &Context) -> Result<RepositoryKey, RepositoryError> {
    let unusable = |error: String| RepositoryError::Unusable(error);
    let secret = settings.key.secret();
    let text = context.secrets.open(&secret).await.map_err(|error| unusable(error.to_string()))?;
    let text = std::str::from_utf8(text.bytes()).map_err(|_| unusable(format!("the key in {secret} is no text")))?;
    RepositoryKey::parse(text).map_err(|error| unusable(format!("the key in {secret}: {error}")))
}
