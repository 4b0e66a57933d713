//! What can be restored: the stretches of time of a backup, from the first base to the end of its log.

use std::sync::Arc;

use event::Time;
use serde::Serialize;

use crate::database::PieceHead;
use crate::sealed::{Catalog, Repository, RepositoryError};

/// A stretch of time, each instant of which can be restored, as far as listings tell: a gap inside it is found by who reads the log.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Restorable {
    /// The log; `None` where single bases can be restored alone.
    pub log: Option<String>,
    /// The first instant.
    pub from: Time,
    /// The last instant.
    pub through: Time,
}

/// The stretches of a backup, the oldest first.
///
/// # Errors
/// No copy answers, or the last piece of a log is whole at none.
pub async fn restorable(repository: &Arc<Repository>, catalog: &Catalog) -> Result<Vec<Restorable>, RepositoryError> {
    let mut stretches: Vec<Restorable> = Vec::new();
    for set in &catalog.sets {
        let (log, at) = (&set.manifest.log, set.manifest.consistent_at);
        // A log begins before its first base; what lies before that base can't be restored.
        if log.is_some() && stretches.iter().any(|stretch| stretch.log == *log) {
            continue;
        }
        let mut stretch = Restorable { log: log.clone(), from: at, through: at };
        if let Some(log) = log
            && let Some(last) = catalog.last_piece(log).await?
        {
            let head = repository.fetch_head(&last.folder, &last.name.to_string()).await?;
            let head: Result<PieceHead, _> = serde_json::from_slice(&head);
            stretch.through = head.map_or(at, |head| head.through.max(at));
        }
        stretches.push(stretch);
    }
    stretches.sort_by_key(|stretch| stretch.from);
    Ok(stretches)
}
