//! The head that `garant log head`, `proof` and `export` hand out.

use std::path::Path;

use engine::Failure;
use journal::checkpoint::Checkpoint;
use journal::note::{SigningKey, VerifierKey};
use store::{Head, Proofs, Read, StoreError};

use crate::remembered::{Remembered, RememberedHeads, remembered_beside, unreadable_journal};
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

/// What to know of a head of this log that is handed out: that a newer one, or another, is remembered beside the data
/// directory, so that `garant up` refuses it. Where nothing is remembered nothing is said.
pub async fn outdated(store: &dyn Proofs, data: &Path) -> Result<Option<String>, Failure> {
    // Before the log is looked at: a process that runs appends first, and remembers then.
    let remembered = RememberedHeads::beside(data).read()?;
    let unreadable = |error: &StoreError| unreadable_journal(error);
    let head = store.head().await.map_err(|error| unreadable(&error))?;
    let origin = Checkpoint::of_note(&head.note).map(|own| own.origin).unwrap_or_default();
    for Remembered { checkpoint, .. } in remembered.iter().filter(|remembered| remembered.checkpoint.origin == origin) {
        let what = if checkpoint.size > head.size {
            format!("is an older copy of the log: it has {} of the {} entries that are", head.size, checkpoint.size)
        } else if store.root_at(checkpoint.size).await.map_err(|error| unreadable(&error))? != checkpoint.root {
            format!("contradicts the log: its first {} entries are not those that are", checkpoint.size)
        } else {
            continue;
        };
        return Ok(Some(format!(
            "{} {what} remembered in {}: `garant up` refuses it, and what is read here is not the newest state",
            data.display(),
            remembered_beside(data).display()
        )));
    }
    Ok(None)
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
