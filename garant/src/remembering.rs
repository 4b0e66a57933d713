//! What a log remembers of itself outside its data directory.
//!
//! A data directory that is set back to an older copy brings nothing along that says so, and the log in it would sign a
//! second history. So **nobody gets a checkpoint that is not first remembered elsewhere**: no witness, no reader of the log,
//! and nobody whom a command prints it for. Every way out of this machine goes through here.

use std::path::{Path, PathBuf};

use journal::checkpoint::Checkpoint;
use journal::note::Note;
use store::sqlite::Sqlite;
use store::{Head, Journal as _};

use crate::data;
use crate::failure::Failure;

/// Writes a checkpoint into each of these files; returns once all survive a power loss.
pub(crate) async fn remember(paths: Vec<PathBuf>, note: String) -> Result<(), Failure> {
    let failed = |path: &Path, error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("the checkpoint can't be remembered in {}", path.display())).because(error).remedy(
            "nothing is published until it can: make that file writable, or name another in `remember` of [journal]",
        )
    };
    let written = tokio::task::spawn_blocking(move || {
        paths
            .iter()
            .try_for_each(|path| data::write_whole(path, note.as_bytes(), 0o644).map_err(|error| failed(path, &error)))
    });
    written.await.map_err(|error| Failure::new("the checkpoint can't be remembered").because(&error))?
}

/// The head that may be given to others: the published one. When nothing runs on the directory and the log is larger, as
/// after a crash, the rest is remembered and published first; who may not write there gets what is published.
pub(crate) async fn handed_out(store: &Sqlite, data: &Path) -> Result<Head, Failure> {
    let unreadable = |error: store::StoreError| Failure::new("the journal can't be read").because(&error);
    let size = store.head().await.map_err(unreadable)?.size;
    let published = store.published().await.map_err(unreadable)?.map(head_of).transpose()?;
    if let Some(published) = published.as_ref().filter(|published| published.size >= size) {
        return Ok(published.clone());
    }
    match (publish_the_rest(data).await, published) {
        (Ok(head), _) | (Err(_), Some(head)) => Ok(head),
        (Err(failure), None) => Err(failure),
    }
}

async fn publish_the_rest(data: &Path) -> Result<Head, Failure> {
    let store = crate::cli::open_log(data)?;
    remember_head(&store, data).await
}

/// Remembers the head of a log that this process alone has open, and publishes it.
pub(crate) async fn remember_head(store: &Sqlite, data: &Path) -> Result<Head, Failure> {
    let head = store.head().await.map_err(|error| Failure::new("the journal can't be read").because(&error))?;
    remember(vec![data::remembered_beside(data)], head.note.clone()).await?;
    let published = store.publish(head.note.clone(), head.size).await;
    published.map_err(|error| Failure::new("the journal can't be written").because(&error))?;
    Ok(head)
}

fn head_of(note: String) -> Result<Head, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new("the published checkpoint can't be read").because(error)
    };
    let text = Note::parse(&note).map_err(|error| failed(&error))?.text;
    let Checkpoint { size, root, .. } = Checkpoint::parse(&text).map_err(|error| failed(&error))?;
    Ok(Head { size, root, note })
}
