//! Opens the repository of a policy: its key, and each of its copies.

use std::sync::Arc;

use engine::Context;
use event::{Span, Time};

use crate::config::{PlaceSettings, Settings};
use crate::objects::{Directory, Objects, S3};
use crate::residency;
use crate::sealed::{Copy, Repository, RepositoryError, RepositoryKey};

/// How long it is looked whether two directories are the same one.
const LOOKS_FOR: Span = Span::from_secs(5);

/// How long a command leaves a copy alone that did not answer: somebody waits for its end.
const AWAY_OF_A_COMMAND: Span = Span::from_secs(600);

/// As what the copies are read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Reading {
    /// As they are.
    #[default]
    AsItIs,
    /// As they were first written, whatever was put over it or deleted since, and without what was first written after this instant. A
    /// directory knows no versions, and is not read at all.
    AsFirstWritten(Option<Time>),
}

/// The repository of `settings`.
///
/// # Errors
/// The key can't be read, or is none.
pub async fn open(settings: &Settings, context: &Context) -> Result<Arc<Repository>, RepositoryError> {
    opened(settings, context, Reading::AsItIs).await.map(Arc::new)
}

/// The repository of `settings`, to be read so by a command: a copy that does not answer is waited for once.
///
/// # Errors
/// The key can't be read, or is none; or no copy keeps versions.
pub async fn open_as(
    settings: &Settings,
    context: &Context,
    reading: Reading,
) -> Result<Arc<Repository>, RepositoryError> {
    Ok(Arc::new(opened(settings, context, reading).await?.leaving_alone_for(AWAY_OF_A_COMMAND)))
}

async fn opened(settings: &Settings, context: &Context, reading: Reading) -> Result<Repository, RepositoryError> {
    let key = key(settings, context).await?;
    let mut copies = Vec::new();
    let doubles = doubles(settings).await;
    for copy in settings.copies.iter().filter(|copy| !doubles.contains(&copy.name)) {
        let objects: Arc<dyn Objects> = match (&copy.place, reading) {
            (PlaceSettings::Directory(path), Reading::AsItIs) => Arc::new(Directory::new(path)),
            (PlaceSettings::Directory(_), Reading::AsFirstWritten(_)) => continue,
            (PlaceSettings::S3(bucket), Reading::AsItIs) => Arc::new(S3::new(bucket, context)?),
            (PlaceSettings::S3(bucket), Reading::AsFirstWritten(before)) => {
                Arc::new(S3::new(bucket, context)?.as_first_written(before))
            }
        };
        copies.push(Copy { name: copy.name.clone(), objects });
    }
    if copies.is_empty() {
        let reason = "no copy is a bucket, and a directory keeps nothing of what it held first: read it as it is";
        return Err(RepositoryError::Unusable(reason.into()));
    }
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    let repository = Repository::new(copies, key, settings.keep, clock, random);
    Ok(repository.bases_apart(settings.intervals()))
}

/// The copies that are at the place of another one, which counts for both. Where a file system does not answer they are not known.
async fn doubles(settings: &Settings) -> Vec<String> {
    let settings = settings.clone();
    let looked = tokio::task::spawn_blocking(move || residency::doubles(&settings));
    match tokio::time::timeout(LOOKS_FOR.to_std(), looked).await {
        Ok(Ok(doubles)) => doubles.into_iter().map(|double| double.copy).collect(),
        _ => Vec::new(),
    }
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

#[cfg(test)]
mod tests;
