//! The check of a backup: copies compared, every base and every piece of log read again at each copy, and each base followed to where
//! its log ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use engine::Watcher;
use event::{Span, Time};

use crate::database::{DatabaseError, PieceHead};
use crate::restorable::restorable;
use crate::sealed::{Catalog, Manifest, Repository, RepositoryError, key_name, set_time};
use crate::sources;

/// How often what a copy lacks is looked for again: what comes while all is read is at one copy before it is at the other.
const LOOKS: u32 = 5;
/// How long before each of these looks.
const LOOK_AFTER: Duration = Duration::from_secs(2);
/// How long after a base its log may be on its way to where it ends.
const COMES_WITHIN: Span = Span::from_secs(120);

/// Reads all that there is of `backup` at each copy, and says how many bytes that were and what is wrong, in words. What is younger than
/// `keep` must not have been destroyed.
///
/// # Errors
/// No copy can be listed.
pub async fn check(
    repository: &Arc<Repository>,
    backup: &str,
    keep: Span,
    watcher: &dyn Watcher,
) -> Result<(u64, Vec<String>), DatabaseError> {
    let mut wrong = Vec::new();
    let catalog = Catalog::read(repository, backup).await?;
    if catalog.sets.is_empty() {
        wrong.push("no base of it is finished and can be opened: nothing can be restored".to_owned());
    }
    let kept = catalog.destroyed.iter().filter_map(|set| Some((set, set_time(set)? + keep)));
    wrong.extend(kept.filter(|(_, until)| *until > repository.now()).map(|(set, until)| {
        format!("the base {set} is to be kept until {until}, and was destroyed: its key is at no copy")
    }));
    wrong.extend(catalog.unreadable.iter().map(|(set, why)| format!("the base {set}: {why}")));
    let folders_of = |sets: &[String]| sets.iter().map(|set| format!("sets/{backup}/{set}/")).collect();
    // Of a base that is being written, each copy has another part.
    let (destroyed, unfinished): (Vec<String>, Vec<String>) =
        (folders_of(&catalog.destroyed), folders_of(&catalog.unfinished));
    let is_in = |name: &str, folders: &[String]| folders.iter().any(|folder| name.starts_with(folder));
    let mut objects = Vec::new();
    // One that can't be listed is named once, and asked nothing more.
    let mut unlisted = BTreeSet::new();
    for prefix in [format!("sets/{backup}/"), format!("logs/{backup}/")] {
        let (listed, errors) = repository.list(&prefix).await?;
        wrong.extend(errors.iter().map(ToString::to_string));
        unlisted.extend(errors.into_iter().map(|error| error.place));
        objects.extend(listed.into_iter().filter(|(name, _)| !is_in(name, &destroyed)));
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
    let (mut read, mut missing) = (0, Vec::new());
    for (name, at) in &objects {
        for &(index, _) in &copies {
            let Some((_, size)) = at.iter().find(|(has, _)| *has == index) else {
                missing.extend((!is_in(name, &unfinished)).then(|| (index, name.clone())));
                continue;
            };
            if let Err(error) = repository.verify(index, name).await {
                wrong.push(error.to_string());
            }
            read += size;
            watcher.doing("reading", read, Some(total));
        }
    }
    wrong.extend(lacking(repository, missing).await?);
    for set in &catalog.sets {
        if let Err(why) = sources::through(repository, &catalog, &set.manifest).await?
            && !is_to_come(repository, &catalog, &set.manifest).await?
        {
            wrong.push(format!("the base {} can't be restored: {why}", set.manifest.set));
        }
    }
    wrong.extend(gaps(repository, &catalog).await?);
    Ok((read, wrong))
}

/// Whether a base was taken just now, and its log has not come as far: what is quiet is told of once a minute.
async fn is_to_come(repository: &Arc<Repository>, catalog: &Catalog, set: &Manifest) -> Result<bool, RepositoryError> {
    let Some(log) = &set.log else { return Ok(false) };
    if repository.now().since(set.consistent_at) > COMES_WITHIN {
        return Ok(false);
    }
    Ok(match received(repository, catalog, log).await? {
        Some(Received::Through(through)) => through < set.consistent_at,
        Some(Received::Unread) => false,
        None => true,
    })
}

/// Up to where a log was received.
enum Received {
    Through(Time),
    /// Its last piece can't be read.
    Unread,
}

/// The same of a log; `None` where nothing of it is there.
async fn received(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    log: &str,
) -> Result<Option<Received>, RepositoryError> {
    let Some(last) = catalog.last_piece(log).await? else { return Ok(None) };
    let head = repository.fetch_head(&last.folder, &last.name.to_string()).await.ok();
    let head = head.and_then(|head| serde_json::from_slice::<PieceHead>(&head).ok());
    Ok(Some(head.map_or(Received::Unread, |head| Received::Through(head.through))))
}

/// What is wrong with these objects, each missing at a copy some time ago: that it still is, or that what has come is damaged.
async fn lacking(
    repository: &Arc<Repository>,
    mut missing: Vec<(usize, String)>,
) -> Result<Vec<String>, RepositoryError> {
    let mut wrong = Vec::new();
    for _ in 0..LOOKS {
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(LOOK_AFTER).await;
        let folders: BTreeSet<_> = missing.iter().filter_map(|(_, name)| Some(name.rsplit_once('/')?.0)).collect();
        let mut listed = BTreeMap::new();
        for folder in folders {
            // A copy that can't be listed any more lacks what it has lacked.
            listed.extend(repository.list(&format!("{folder}/")).await?.0);
        }
        let has = |(index, name): &(usize, String)| {
            listed.get(name).is_some_and(|at: &Vec<(usize, u64)>| at.iter().any(|(has, _)| has == index))
        };
        let (come, still): (Vec<_>, _) = missing.into_iter().partition(has);
        missing = still;
        for (index, name) in come {
            wrong.extend(repository.verify(index, &name).await.err().map(|error| error.to_string()));
        }
    }
    let copies = repository.copies();
    let place = |index: usize| copies.get(index).map_or("", |copy| copy.objects.place());
    wrong.extend(missing.iter().map(|(index, name)| format!("{}: {name} is missing", place(*index))));
    Ok(wrong)
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
    let mut ends = Vec::new();
    for log in catalog.logs().await? {
        if let Some(Received::Through(through)) = received(repository, catalog, &log).await? {
            ends.push((log, through));
        }
    }
    let stretches = restorable(repository, catalog).await?;
    let mut open = Vec::new();
    for (log, through) in ends {
        let end = stretches.iter().rfind(|stretch| stretch.log.as_deref() == Some(&*log)).map(|last| last.through);
        if end.is_none_or(|end| end < through) {
            open.push(OpenGap { log, end, through });
        }
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspection::tests::Shelf;

    const KEEP: Span = Span::from_secs(90 * 86_400);

    /// BK-4: a check beside an agent that puts objects, first at one copy and then at the other, finds nothing wrong; what stays
    /// missing is.
    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_not_missing() {
        let shelf = Shelf::new();
        shelf.base(100).await;
        shelf.log(1..4).await;
        let mut objects: Vec<_> = walk(&shelf.folder.path().join("far/logs")).collect();
        objects.sort();
        let (last, away) = (objects.pop().expect("a piece"), shelf.folder.path().join("away"));
        std::fs::rename(&last, &away).expect("moved");
        let comes = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            std::fs::rename(&away, &last).expect("moved back");
        };
        let (checked, ()) = tokio::join!(check(&shelf.repository, "shop-db", KEEP, &()), comes);
        assert_eq!(checked.expect("checked").1, Vec::<String>::new());
        std::fs::remove_file(&last).expect("removed");
        let (_, wrong) = check(&shelf.repository, "shop-db", KEEP, &()).await.expect("checked");
        assert!(wrong.len() == 1 && wrong[0].contains("is missing"), "{wrong:?}");
    }

    /// BK-4: a base that is being written is no fault, wherever its parts are.
    #[tokio::test(start_paused = true)]
    async fn of_a_base_that_is_being_written_nothing_is_missing() {
        let shelf = Shelf::new();
        let manifest = shelf.base(100).await;
        for copy in ["near", "far"] {
            let set = shelf.folder.path().join(copy).join("sets/shop-db").join(&manifest.set);
            for entry in std::fs::read_dir(set).expect("a set") {
                let path = entry.expect("an object").path();
                if copy == "far" || path.ends_with("manifest") {
                    std::fs::remove_file(path).expect("removed");
                }
            }
        }
        let (_, wrong) = check(&shelf.repository, "shop-db", KEEP, &()).await.expect("checked");
        assert_eq!(wrong, ["no base of it is finished and can be opened: nothing can be restored"]);
    }

    /// BK-4, BK-6: what was destroyed before its time is wrong, and nothing once it is over.
    #[tokio::test(start_paused = true)]
    async fn what_was_destroyed_before_its_time_is_wrong() {
        let shelf = Shelf::new();
        let first = shelf.base(100).await;
        shelf.base(200).await;
        assert!(shelf.remove("keys", &first.set) > 0);
        let destroyed = format!("the base {} is to be kept until ", first.set);
        // As another process, which has opened nothing yet.
        let (_, wrong) = check(&shelf.anew(), "shop-db", KEEP, &()).await.expect("checked");
        assert!(wrong.iter().any(|it| it.starts_with(&destroyed)), "{wrong:?}");
        shelf.world.clock.suspend(KEEP + Span::from_secs(1));
        let (_, wrong) = check(&shelf.anew(), "shop-db", KEEP, &()).await.expect("checked");
        assert!(!wrong.iter().any(|it| it.starts_with(&destroyed)), "{wrong:?}");
    }

    /// BK-4: a base whose log has not come as far yet is no fault while it may be on its way.
    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_still_to_come_is_no_fault_of_its_base() {
        let shelf = Shelf::new();
        shelf.log(1..4).await;
        shelf.world.clock.suspend(Span::from_secs(30));
        shelf.base(1000).await;
        let (_, wrong) = check(&shelf.repository, "shop-db", KEEP, &()).await.expect("checked");
        assert_eq!(wrong, Vec::<String>::new());
        shelf.world.clock.suspend(Span::from_secs(150));
        let (_, wrong) = check(&shelf.repository, "shop-db", KEEP, &()).await.expect("checked");
        assert!(wrong.len() == 1 && wrong[0].contains("does not go on from the base"), "{wrong:?}");
    }

    /// BK-4: where a part has another size than at the other copy, both are read: it is whole where it opens.
    #[tokio::test(start_paused = true)]
    async fn a_base_that_was_cut_is_whole_where_it_was_not() {
        let shelf = Shelf::new();
        let set = shelf.base(100).await.set;
        let mut parts = walk(&shelf.folder.path().join("near/sets/shop-db").join(&set));
        let part = parts.find(|part| !part.ends_with("manifest")).expect("a part");
        std::fs::OpenOptions::new().write(true).open(part).expect("open").set_len(100).expect("cut");
        let catalog = Catalog::read(&shelf.repository, "shop-db").await.expect("read");
        assert_eq!(Vec::from_iter(&catalog.sets[0].copies), [&1], "far alone");
    }

    fn walk(folder: &std::path::Path) -> Box<dyn Iterator<Item = std::path::PathBuf>> {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        Box::new(entries.flat_map(|path| if path.is_dir() { walk(&path) } else { Box::new(std::iter::once(path)) }))
    }
}
