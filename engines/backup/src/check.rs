//! The check of a backup: copies compared, every base and every piece of log read again at each copy, and each base followed to where
//! its log ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Watcher;
use event::Time;

use crate::database::DatabaseError;
use crate::restorable::restorable;
use crate::sealed::{Catalog, Repository, RepositoryError, key_name};
use crate::sources;

/// Reads all that there is of `backup` at each copy, and says how many bytes that were and what is wrong, in words.
///
/// # Errors
/// No copy can be listed.
pub async fn check(
    repository: &Arc<Repository>,
    backup: &str,
    watcher: &dyn Watcher,
) -> Result<(u64, Vec<String>), DatabaseError> {
    let mut wrong = Vec::new();
    let catalog = Catalog::read(repository, backup).await?;
    wrong.extend(catalog.unreadable.iter().map(|(set, why)| format!("the base {set}: {why}")));
    let destroyed: BTreeSet<String> = catalog.destroyed.iter().map(|set| format!("sets/{backup}/{set}/")).collect();
    let mut objects = Vec::new();
    // One that can't be listed is named once, and asked nothing more.
    let mut unlisted = BTreeSet::new();
    for prefix in [format!("sets/{backup}/"), format!("logs/{backup}/")] {
        let (listed, errors) = repository.list(&prefix).await?;
        wrong.extend(errors.iter().map(ToString::to_string));
        unlisted.extend(errors.into_iter().map(|error| error.place));
        objects.extend(listed.into_iter().filter(|(name, _)| !destroyed.iter().any(|folder| name.starts_with(folder))));
    }
    let folders: BTreeSet<&str> = objects.iter().filter_map(|(name, _)| Some(name.rsplit_once('/')?.0)).collect();
    let copies = repository.copies().iter().enumerate();
    let copies: Vec<_> = copies.filter(|(_, copy)| !unlisted.contains(copy.objects.place())).collect();
    for folder in folders {
        for &(index, copy) in &copies {
            if let Err(error) = repository.only(index).data_key(folder).await {
                let (place, name) = (copy.objects.place(), key_name(folder));
                wrong.push(match error {
                    RepositoryError::Object(error) => error.to_string(),
                    error => format!("{place}: {name}: {error}"),
                });
            }
        }
    }
    let total: u64 = objects.iter().flat_map(|(_, at)| at).map(|(_, size)| *size).sum();
    let mut read = 0;
    for (name, at) in &objects {
        for &(index, copy) in &copies {
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
    for set in &catalog.sets {
        if let Err(why) = sources::through(repository, &catalog, &set.manifest).await? {
            wrong.push(format!("the base {} can't be restored: {why}", set.manifest.set));
        }
    }
    wrong.extend(gaps(repository, &catalog).await?);
    Ok((read, wrong))
}

/// Where the log of a base ends before the next one, in a log that goes on behind.
async fn gaps(repository: &Arc<Repository>, catalog: &Catalog) -> Result<Vec<String>, DatabaseError> {
    let stretches = restorable(repository, catalog).await?;
    let mut wrong = Vec::new();
    for log in catalog.logs().await? {
        let of: Vec<_> = stretches.iter().filter(|stretch| stretch.log.as_deref() == Some(&*log)).collect();
        for pair in of.windows(2) {
            let (end, next) = (pair[0].through, pair[1].from);
            wrong.push(format!("the log {log} has a gap: what lies between {end} and {next} can't be restored"));
        }
        let ends = of.last().map(|last| last.through);
        let newest = match catalog.last_piece(&log).await? {
            Some(last) => repository.fetch_head(&last.folder, &last.name.to_string()).await.ok(),
            None => None,
        };
        let newest: Option<Time> = newest
            .and_then(|head| serde_json::from_slice::<crate::database::PieceHead>(&head).ok())
            .map(|head| head.through);
        if let (Some(ends), Some(newest)) = (ends, newest)
            && ends < newest
        {
            wrong.push(format!("the log {log} has a gap: what lies between {ends} and {newest} can't be restored"));
        }
    }
    Ok(wrong)
}
