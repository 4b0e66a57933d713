//! The head that `garant log head`, `proof` and `export` hand out.

use std::path::Path;

use engine::Failure;
use journal::checkpoint::Checkpoint;
use journal::note::{SigningKey, VerifierKey};
use store::{Head, Read};

use crate::remembered::{RememberedHeads, unreadable_journal};
use crate::{keys, log};

/// The head that may be given to others: the published one. When the log is larger and no process runs on the directory, as after
/// a crash, its head is remembered and published first; a caller that may not write there gets the published one.
pub async fn handed_out(store: &dyn Read, data: &Path) -> Result<Head, Failure> {
    let size = store.head().await.map_err(|error| unreadable_journal(&error))?.size;
    let published = store.published().await.map_err(|error| unreadable_journal(&error))?.map(head_of).transpose()?;
    if let Some(published) = published.as_ref().filter(|published| published.size >= size) {
        return Ok(published.clone());
    }
    match (publish_the_rest(data).await, published) {
        (Ok(head), _) | (Err(_), Some(head)) => Ok(head),
        (Err(failure), None) => Err(failure),
    }
}

/// Publishes the head of the log; fails while another process has the directory.
async fn publish_the_rest(data: &Path) -> Result<Head, Failure> {
    let signers = keys::load(data)?.ok_or_else(|| Failure::new(format!("{} has no key", data.display())))?;
    let verifiers: Vec<VerifierKey> = signers.iter().map(SigningKey::vkey).collect();
    let heads = RememberedHeads::beside(data);
    let remembered = heads.of_log(data, &verifiers).await?;
    heads.publish_head(log::open(data, signers, remembered)?.as_ref()).await
}

fn head_of(note: String) -> Result<Head, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new("the published checkpoint can't be read").because(error)
    };
    let Checkpoint { size, root, .. } = Checkpoint::of_note(&note).map_err(|error| failed(&error))?;
    Ok(Head { size, root, note })
}
