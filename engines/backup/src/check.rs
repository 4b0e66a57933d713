//! The check of a backup: copies compared, every base and every piece of log read again at each copy.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Watcher;
use event::Time;

use crate::sealed::{Catalog, Repository, RepositoryError};

/// Reads all that there is of `backup` at each copy, and says how many bytes that were and what is wrong, in words.
///
/// # Errors
/// No copy can be listed.
pub async fn check(
    repository: &Arc<Repository>,
    backup: &str,
    watcher: &dyn Watcher,
) -> Result<(u64, Vec<String>), RepositoryError> {
    let mut wrong = Vec::new();
    let catalog = Catalog::read(repository, backup).await?;
    wrong.extend(catalog.unreadable.iter().map(|(set, why)| format!("the base {set}: {why}")));
    let destroyed: BTreeSet<String> = catalog.destroyed.iter().map(|set| format!("sets/{backup}/{set}/")).collect();
    let mut objects = Vec::new();
    for prefix in [format!("sets/{backup}/"), format!("logs/{backup}/")] {
        let (listed, errors) = repository.list(&prefix).await?;
        wrong.extend(errors.iter().map(ToString::to_string));
        objects.extend(listed.into_iter().filter(|(name, _)| !destroyed.iter().any(|folder| name.starts_with(folder))));
    }
    let total: u64 = objects.iter().flat_map(|(_, at)| at).map(|(_, size)| *size).sum();
    let mut read = 0;
    for (name, at) in &objects {
        for (index, copy) in repository.copies().iter().enumerate() {
            let Some((_, size)) = at.iter().find(|(has, _)| *has == index) else {
                wrong.push(format!("{}: {name} is missing", copy.objects.place()));
                continue;
            };
            if let Err(error) = repository.verify(index, name).await {
                wrong.push(error.to_string());
            }
            read += size;
            watcher.doing("reading", read, Some(total));
        }
    }
    for log in catalog.logs().await? {
        if let Some(gap) = gap(&catalog, &log).await? {
            wrong.push(gap);
        }
    }
    Ok((read, wrong))
}

/// What is missing of a log behind its first base that goes on with it.
async fn gap(catalog: &Catalog, log: &str) -> Result<Option<String>, RepositoryError> {
    let sets = catalog.sets.iter().filter(|set| set.manifest.log.as_deref() == Some(log));
    let first: Option<Time> = sets.map(|set| set.manifest.consistent_at).min();
    let Some(first) = first else { return Ok(None) };
    let Some(hole) = catalog.first_hole(log).await? else { return Ok(None) };
    Ok(Some(format!("the log {log} has a gap behind {hole}: what came after {first} is not whole")))
}
