//! The check of a backup: copies compared, every base and every piece of log read again at each copy, and each base followed to where
//! its log ends.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use engine::Watcher;
use event::Time;

use crate::database::{DatabaseError, PieceHead};
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
            if pair[0].has_gap_before(pair[1]) {
                wrong.push(gap(&log, pair[0].through, pair[1].from));
            }
        }
    }
    let open = open_gaps(repository, catalog).await?;
    wrong.extend(open.iter().filter(|gap| gap.end.is_some()).map(ToString::to_string));
    Ok(wrong)
}

fn gap(log: &str, end: Time, next: Time) -> String {
    format!("the log {log} has a gap: what lies between {end} and {next} can't be restored")
}

/// A log that goes on behind what the bases reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenGap {
    /// The log.
    log: String,
    /// Up to where a base reaches; `None` where none is of this log.
    end: Option<Time>,
    /// Up to where it was received.
    pub(crate) through: Time,
}

impl fmt::Display for OpenGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, end, through } = self;
        match end {
            Some(end) => f.write_str(&gap(log, *end, *through)),
            None => write!(f, "the log {log} has no base: what it holds until {through} can't be restored"),
        }
    }
}

impl OpenGap {
    /// Where it begins, in words that stay the same while the log goes on; `None` where no base is of the log.
    pub(crate) fn words(&self) -> Option<String> {
        self.end.map(|end| format!("the log {} has a gap behind {end}", self.log))
    }
}

/// The logs that go on behind what the bases reach: what comes there can't be restored without another base.
pub(crate) async fn open_gaps(repository: &Arc<Repository>, catalog: &Catalog) -> Result<Vec<OpenGap>, DatabaseError> {
    // Before it is asked how far bases lead: a piece that comes meanwhile is no gap.
    let mut received = Vec::new();
    for log in catalog.logs().await? {
        let Some(last) = catalog.last_piece(&log).await? else { continue };
        let Ok(head) = repository.fetch_head(&last.folder, &last.name.to_string()).await else { continue };
        let Ok(PieceHead { through, .. }) = serde_json::from_slice(&head) else { continue };
        received.push((log, through));
    }
    let stretches = restorable(repository, catalog).await?;
    let mut open = Vec::new();
    for (log, through) in received {
        let end = stretches.iter().rfind(|stretch| stretch.log.as_deref() == Some(&*log)).map(|last| last.through);
        if end.is_none_or(|end| end < through) {
            open.push(OpenGap { log, end, through });
        }
    }
    Ok(open)
}
