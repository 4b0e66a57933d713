//! The engine that destroys backups which were kept for as long as the policy says (BK-6). It runs in the server, which alone holds the
//! right to.
//!
//! **Problem.** Whoever has a host has all that it writes: manifests, dates, the index of a repository. If these decided what is
//! destroyed, the host could have its backups destroyed by somebody else's hand. And a clock that wakes years ahead would destroy all.
//! **Principle.** What is destroyed is decided by the names of objects, which are never changed once they are there, and by the clock of
//! the server, once it is [steady](Steady). A base goes when a later one replaces it that is itself older than what is kept
//! ([`Retention`]). First the data key goes, so that the rest is of no use to anybody, then the rest; a listing shows that nothing is
//! left. Of files the names say no time, so the server goes by when it [saw](Seen) a snapshot first; what only expired ones hold is found
//! by reading the trees, with the repository key. Of a backup that has left the policy nothing is spared. What can't be destroyed is
//! found, once it is late; what nobody may destroy, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::clock::Steady;
use engine::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};
use event::evidence::{Covered, Found, Gap};
use event::{Interval, Monotonic, Span, Time};
use policy::BackupName;
use store::Consumers;
use tokio::sync::{mpsc, watch};

use crate::config::{
    BucketSettings, Config, CopySettings, EXPIRED_KEPT, EXPIRY_EVERY, EXPIRY_PROBE, HOST_CAN_DESTROY, Identity,
    LONGEST_INTERVAL, PlaceSettings, SAME_HOST, Settings,
};
use crate::events::{Destroyed, Detail};
use crate::files::{Files, FilesDestroyed, Hidden, Intended, lease_ended};
use crate::objects::{Destroy, Directory, ObjectError, Objects, S3, Why, list_all};
use crate::open::key;
use crate::retention::{Folders, Retention, backup_of, is_future};
use crate::sealed::{Copy, Repository};
use crate::sources;

mod seen;
use seen::{DueSnapshots, Seen};

/// Name of the engine.
pub const EXPIRY: &str = "expiry";

/// Time between two looks at what is due; shorter than the stretch that a record may cover.
const LOOK_EVERY: Span = Span::from_secs(3000);
/// The same, until the clock has run for long enough.
const LOOK_SOON: Span = Span::from_secs(300);
/// Time between two looks at the clock.
const STEP: Span = Span::from_secs(10);
/// How long after it was due something may still be there before that is found: locks of objects end by the provider's clock.
const LATE: Span = Span::from_days(2);
/// How much longer a lock is made that is extended; see `sealed::repository`.
const LOCK_AHEAD: Span = Span::from_days(1);
/// Most backups that have left the policy and are looked at at once.
const LEFT_MAX: usize = 64;
/// Most leases that are removed at once, and how long after their end.
const LEASES_MAX: usize = 500;
const LEASES_AFTER: Span = Span::from_days(1);
/// Time between two passes over the files of one backup: each reads all trees of its snapshots.
const PASS_EVERY: Span = Span::from_secs(20 * 3600);
/// Most causes that are told of what is late.
const TOLD_MAX: usize = 5;
/// Most objects of one copy.
const OBJECTS_MAX: usize = 2_000_000;

/// The engine. It keeps in `rows` which snapshots it has seen; `newest_before` is the time at which the newest entry from before this
/// start of the process was recorded.
pub fn expiry(
    config: watch::Receiver<Arc<Config>>,
    rows: Arc<dyn Consumers>,
    newest_before: Option<Time>,
) -> impl Engine {
    Driver::new(EXPIRY, 2, move || Expiry::new(config.clone(), Arc::clone(&rows), newest_before))
}

struct Expiry {
    config: watch::Receiver<Arc<Config>>,
    rows: Arc<dyn Consumers>,
    newest_before: Option<Time>,
    steady: Option<Steady>,
    /// The snapshots that were seen, once they were read.
    seen: Option<Seen>,
    look_at: Option<Monotonic>,
    /// When all copies were looked at last.
    looked_at: Option<Time>,
    /// What was said last: whether something is there that was to be destroyed.
    is_late: Option<bool>,
    /// The same: whether a host can destroy its own backups.
    is_destroyable: Option<bool>,
    /// When the next pass over the files of a backup is, after one that has come to its end.
    next_pass: BTreeMap<String, Monotonic>,
}

/// What a look has found.
#[derive(Default, Debug)]
struct Looked {
    /// Something is there that was to be destroyed long ago: why, for the team.
    late: Vec<String>,
    /// A copy was not seen.
    unseen: bool,
    /// Copies from which a host can delete: why, for the team.
    destroyable: Vec<String>,
}

impl Looked {
    fn late(&mut self, why: String) {
        if self.late.len() < TOLD_MAX {
            self.late.push(why);
        }
    }
}

impl Expiry {
    fn new(config: watch::Receiver<Arc<Config>>, rows: Arc<dyn Consumers>, newest_before: Option<Time>) -> Self {
        Self {
            config,
            rows,
            newest_before,
            steady: None,
            seen: None,
            look_at: None,
            looked_at: None,
            is_late: None,
            is_destroyable: None,
            next_pass: BTreeMap::new(),
        }
    }
}

impl Reconcile for Expiry {
    fn every(&self) -> Span {
        STEP
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if context.stop.is_cancelled() {
                return Ok(());
            }
            let clock = &context.clock;
            let steady = self.steady.get_or_insert_with(|| Steady::new(Arc::clone(clock), STEP, self.newest_before));
            steady.look();
            let may_destroy = steady.may_destroy();
            let now = clock.monotonic();
            if self.look_at.is_some_and(|at| at > now) {
                return Ok(());
            }
            let config = Arc::clone(&self.config.borrow());
            if let Some(settings) = config.settings() {
                self.look(context, settings, config.revision(), may_destroy).await?;
            }
            let pause = if may_destroy { LOOK_EVERY } else { LOOK_SOON };
            self.look_at = Some(Monotonic(now.0.saturating_add(pause.micros())));
            Ok(())
        })
    }
}

/// A copy, as it was listed.
struct Listing<'a> {
    copy: &'a CopySettings,
    /// The right to delete from it, or why nobody has it.
    destroys: Result<Arc<dyn Destroy>, String>,
    /// The folders of databases.
    folders: Folders,
    /// The snapshots of files that are there, by backup.
    snapshots: BTreeMap<String, BTreeSet<String>>,
    /// Leases that have ended long ago.
    leases: Vec<String>,
}

/// Files of a backup, and how long they are kept.
struct OfFiles<'a> {
    files: Files,
    kept: Span,
    /// Whether it has left the policy: its newest snapshot goes as well.
    has_left: bool,
    listed: BTreeSet<String>,
    listings: &'a [Listing<'a>],
}

impl Expiry {
    async fn look(
        &mut self,
        context: &Context,
        settings: &Settings,
        revision: &str,
        may_destroy: bool,
    ) -> Result<(), EngineError> {
        let mut looked = Looked { destroyable: destroyable(settings), ..Looked::default() };
        let mut listings = Vec::new();
        for copy in &settings.copies {
            context.progress.tick();
            match listing(copy, context).await {
                Ok(listing) => listings.push(listing),
                Err(why) => {
                    tracing::error!(copy = copy.name, why, "what has expired at this copy is not known");
                    looked.unseen = true;
                }
            }
        }
        self.look_at_databases(context, settings, &listings, may_destroy, &mut looked).await?;
        for listing in &listings {
            if let (Ok(place), true) = (&listing.destroys, may_destroy) {
                self.delete_unlocked(context, listing.copy, &**place, &mut looked).await?;
                // Nobody needs them: one that can't be removed is tried again.
                for lease in &listing.leases {
                    if let Err(error) = place.delete(lease).await {
                        tracing::debug!(%error, "a lease that has ended is not removed");
                        break;
                    }
                }
            }
        }
        let mut of_policy: Vec<(Files, Span, bool)> =
            settings.files.iter().map(|files| (sources::files(files), settings.keep + files.every, false)).collect();
        let listed: BTreeSet<&String> = listings.iter().flat_map(|listing| listing.snapshots.keys()).collect();
        let left = listed.into_iter().filter(|name| {
            name.parse::<BackupName>().is_ok() && settings.files.iter().all(|files| files.name != **name)
        });
        of_policy.extend(left.take(LEFT_MAX).map(|name| (Files::left(name), settings.keep, true)));
        for (files, kept, has_left) in of_policy {
            let of = listings.iter().filter_map(|listing| listing.snapshots.get(&files.name));
            let listed = of.flatten().cloned().collect();
            let of_files = OfFiles { files, kept, has_left, listed, listings: &listings };
            self.look_at_files(context, settings, &of_files, may_destroy, &mut looked).await?;
        }
        self.say(context, revision, looked).await
    }

    /// Looks at bases and logs at each copy, and destroys those that are due.
    async fn look_at_databases(
        &mut self,
        context: &Context,
        settings: &Settings,
        listings: &[Listing<'_>],
        may_destroy: bool,
        looked: &mut Looked,
    ) -> Result<(), EngineError> {
        let now = context.clock.now();
        let mut all = Folders::default();
        for listing in listings {
            all.add(&listing.folders);
        }
        let intervals = settings.databases().map(|(name, every)| (name.to_owned(), every)).collect();
        let retention = Retention { keep: settings.keep, intervals: &intervals };
        let seen = self.seen().await?;
        // By a clock that may be wrong nothing is seen.
        if may_destroy {
            let is_all = listings.len() == settings.copies.len();
            let mut to_be_seen: BTreeMap<&str, BTreeMap<&str, Time>> =
                intervals.keys().map(|backup| (backup.as_str(), BTreeMap::new())).collect();
            for (folder, at) in all.to_be_seen(now) {
                let Some(backup) = backup_of(folder) else { continue };
                let has_room = to_be_seen.len() < intervals.len() + LEFT_MAX;
                if !has_room && !to_be_seen.contains_key(backup) {
                    continue;
                }
                // At first sight of a backup, and of one that nobody backs up any more, names are believed.
                let at = match intervals.get(backup) {
                    _ if is_future(at, now) => now,
                    Some(_) if seen.knows(backup) => now,
                    Some(interval) => now.min(at + *interval),
                    None => at,
                };
                to_be_seen.entry(backup).or_default().insert(folder, at);
            }
            for (backup, folders) in to_be_seen {
                if seen.see_folders(backup, &folders, is_all).await.map_err(stored)? {
                    tracing::error!(backup, "there are more bases than any policy makes: some replace none");
                    looked.unseen = true;
                }
            }
        }
        for listing in listings {
            let copy = &listing.copy.name;
            let since = retention.of(&listing.folders, &all, now, |folder| seen.folder(folder));
            for (folder, since) in since.into_iter().filter(|(_, since)| *since < now) {
                context.progress.tick();
                let interval = backup_of(&folder).and_then(|backup| intervals.get(backup)).copied();
                let left = if interval.is_none() { ", of a backup that has left the policy" } else { "" };
                let place = match &listing.destroys {
                    Ok(place) => place,
                    Err(why) => {
                        looked.late(format!("{copy}: {folder}{left}: {why}"));
                        continue;
                    }
                };
                let (why, lock) = if may_destroy {
                    match destroy(&**place, &folder).await {
                        Ok(objects) => {
                            let destroyed =
                                Destroyed { copy: copy.clone(), folder, objects, locked: 0, locked_until: None };
                            context.recorder.record(&destroyed).await?;
                            continue;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "what has expired is not destroyed yet");
                            let lock = lock_of(&**place, &error).await;
                            (error.to_string(), lock)
                        }
                    }
                } else {
                    ("the clock is not trusted yet".to_owned(), None)
                };
                if is_late(since, lock, interval.unwrap_or(LONGEST_INTERVAL), now) {
                    looked.late(format!("{copy}: {folder}{left}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// Looks at the snapshots of one backup, and destroys those that are due.
    async fn look_at_files(
        &mut self,
        context: &Context,
        settings: &Settings,
        of: &OfFiles<'_>,
        may_destroy: bool,
        looked: &mut Looked,
    ) -> Result<(), EngineError> {
        let now = context.clock.now();
        let (name, listed, kept) = (&*of.files.name, &of.listed, of.kept);
        let next_pass = self.next_pass.get(name).copied();
        let seen = self.seen().await?;
        // By a clock that may be wrong nothing is seen either: what it saw years ago would be due when it is right.
        if may_destroy && seen.see(name, listed, now, kept).await.map_err(stored)? {
            tracing::error!(backup = name, "there are more snapshots than any policy makes: some are never destroyed");
            looked.unseen = true;
        }
        let due = seen.due(name, listed, (kept, !of.has_left), now);
        let is_whole = of.listings.len() == settings.copies.len();
        let Some(since) = due.since else {
            if of.has_left && may_destroy && is_whole && listed.is_empty() && due.kept.is_empty() {
                return remove_rest(context, of, looked).await;
            }
            return Ok(());
        };
        // Nothing becomes of waiting where nobody may delete.
        let nobody = of.listings.iter().find_map(|listing| Some((listing.copy, listing.destroys.as_ref().err()?)));
        let is_late = now.since(since) > LATE || nobody.is_some();
        let monotonic = context.clock.monotonic();
        if !may_destroy || next_pass.is_some_and(|at| at > monotonic) {
            if is_late {
                looked.late(format!("{name}: a snapshot is due since {since}"));
            }
            return Ok(());
        }
        let places: Vec<_> =
            of.listings.iter().filter_map(|listing| listing.destroys.as_ref().ok().map(Arc::clone)).collect();
        let why = if let Some((copy, why)) = nobody {
            Some(format!("nothing is destroyed, for of the copy `{}` {why}", copy.name))
        } else if !is_whole {
            Some("a copy does not answer: nothing is destroyed".to_owned())
        } else {
            match pass(context, settings, &of.files, &places, &due, seen).await {
                Ok(done) => {
                    let mut events = Vec::new();
                    for (at, copy) in settings.copies.iter().enumerate().filter(|_| done.objects > 0) {
                        let locked = done.hidden.iter().filter(|hidden| hidden.copy == at);
                        let destroyed = Destroyed {
                            copy: copy.name.clone(),
                            folder: format!("restic/{name}"),
                            objects: done.objects,
                            locked: locked.clone().count() as u64,
                            locked_until: locked.map(|hidden| hidden.until).max(),
                        };
                        events.push(context.recorder.seal(&destroyed, now)?);
                    }
                    seen.destroyed(name, &due.expired, now, events).await.map_err(stored)?;
                    let next = monotonic.0.saturating_add(PASS_EVERY.micros());
                    self.next_pass.insert(name.to_owned(), Monotonic(next));
                    None
                }
                Err(why) => Some(why),
            }
        };
        if let Some(why) = why {
            tracing::warn!(backup = name, why, "what has expired is not destroyed yet");
            if is_late {
                looked.late(format!("{name}: {why}"));
            }
        }
        Ok(())
    }

    async fn seen(&mut self) -> Result<&mut Seen, EngineError> {
        Ok(match &mut self.seen {
            Some(seen) => seen,
            none => none.insert(Seen::read(Arc::clone(&self.rows)).await.map_err(stored)?),
        })
    }

    /// Deletes what was hidden at a copy until its lock ended.
    async fn delete_unlocked(
        &mut self,
        context: &Context,
        copy: &CopySettings,
        place: &dyn Destroy,
        looked: &mut Looked,
    ) -> Result<(), EngineError> {
        let now = context.clock.now();
        let seen = self.seen().await?;
        let mut gone = BTreeMap::<String, u64>::new();
        for (object, since) in seen.unlocked(&copy.name, now) {
            context.progress.tick();
            match place.delete(&object).await {
                Ok(()) => {
                    seen.gone(&copy.name, &object).await.map_err(stored)?;
                    let folder = object.split('/').take(2).collect::<Vec<_>>().join("/");
                    *gone.entry(folder).or_default() += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "what has expired is not destroyed yet");
                    if now.since(since) > LATE {
                        looked.late(error.to_string());
                    }
                }
            }
        }
        for (folder, objects) in gone {
            let destroyed = Destroyed { copy: copy.name.clone(), folder, objects, locked: 0, locked_until: None };
            context.recorder.record(&destroyed).await?;
        }
        Ok(())
    }

    /// Says whether something is there that was to be destroyed, and which time was looked at.
    async fn say(&mut self, context: &Context, revision: &str, looked: Looked) -> Result<(), EngineError> {
        let now = context.clock.now();
        let before = self.looked_at.replace(now);
        let (Ok(probe), Ok(finding)) =
            (EXPIRY_PROBE.parse::<event::ProbeId>(), EXPIRED_KEPT.parse::<event::FindingId>())
        else {
            return Ok(());
        };
        let (late, unseen) = (!looked.late.is_empty(), looked.unseen);
        if !unseen && self.is_late != Some(late) {
            let after = if self.is_late.is_none() { now } else { before.unwrap_or(now).min(now) };
            self.is_late = Some(late);
            let found = Found { finding: finding.clone(), probe: probe.clone(), open: late, after, by: now };
            context.recorder.record(&found).await?;
            if late {
                let text = looked.late.join("; ");
                context.recorder.record(&Detail { probe: probe.clone(), finding: Some(finding), text }).await?;
            }
        }
        let Ok(by_host) = HOST_CAN_DESTROY.parse::<event::FindingId>() else { return Ok(()) };
        let open = !looked.destroyable.is_empty();
        if self.is_destroyable != Some(open) {
            let after = if self.is_destroyable.is_none() { now } else { before.unwrap_or(now).min(now) };
            self.is_destroyable = Some(open);
            let found = Found { finding: by_host.clone(), probe: probe.clone(), open, after, by: now };
            context.recorder.record(&found).await?;
            let words = looked.destroyable.iter().map(String::as_str).chain([SAME_HOST]).collect::<Vec<_>>();
            let text = words.join("; ");
            context.recorder.record(&Detail { probe: probe.clone(), finding: Some(by_host.clone()), text }).await?;
        }
        let Some(from) = before.filter(|before| *before < now && now.since(*before) <= EXPIRY_EVERY) else {
            return Ok(());
        };
        let interval = Interval::new(from, now);
        // The agent is beside the server, with all that its root has: nothing that is seen here proves anything of the host.
        let unproven = Gap { probe: probe.clone(), finding: Some(by_host), interval };
        let gaps = if unseen { vec![Gap { probe, finding: None, interval }] } else { vec![unproven] };
        let covered = Covered { interval, revision: revision.to_owned(), every: Some(EXPIRY_EVERY), gaps };
        context.recorder.record(&covered).await?;
        Ok(())
    }
}

/// Destroys the snapshots of one backup that are due, with what only they hold, at all copies.
async fn pass(
    context: &Context,
    settings: &Settings,
    files: &Files,
    places: &[Arc<dyn Destroy>],
    due: &DueSnapshots,
    seen: &mut Seen,
) -> Result<FilesDestroyed, String> {
    let key = key(settings, context).await.map_err(|error| {
        format!("{error}; the server reads which chunks are still needed, so it needs the repository key")
    })?;
    let copy = |(copy, place): (&CopySettings, &Arc<dyn Destroy>)| Copy {
        name: copy.name.clone(),
        objects: Arc::clone(place) as _,
    };
    let copies = settings.copies.iter().zip(places).map(copy).collect();
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    let repository = Repository::new(copies, key, settings.keep, clock, random).bases_apart(settings.intervals());
    let repository = Arc::new(repository);
    let (expired, kept) = (due.expired.clone(), due.kept.clone());
    let (intends, mut intended) = mpsc::channel(1);
    let destroyed = files.destroy(context, &repository, places.to_vec(), expired, kept, intends);
    tokio::pin!(destroyed);
    let mut tick = tokio::time::interval(STEP.to_std());
    loop {
        tokio::select! {
            done = &mut destroyed => return done.map_err(|error| error.to_string()),
            _ = tick.tick() => context.progress.tick(),
            Some(Intended { hidden, written }) = intended.recv() => {
                let named = |hidden: Hidden| Some((settings.copies.get(hidden.copy)?.name.clone(), hidden.object, hidden.until));
                seen.hides(hidden.into_iter().filter_map(named).collect()).await.map_err(|error| error.to_string())?;
                written.send(()).ok();
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn stored(error: store::StoreError) -> EngineError {
    EngineError::new(format!("which snapshots were seen: {error}"))
}

/// Whether a name is that of a snapshot.
fn is_snapshot(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The copies from which a host can delete what it has stored there, as the policy has them.
fn destroyable(settings: &Settings) -> Vec<String> {
    let why = |copy: &CopySettings| match &copy.place {
        PlaceSettings::Directory(_) => Some(format!("the copy `{}` is a directory, which locks nothing", copy.name)),
        PlaceSettings::S3(bucket) if !bucket.lock => Some(format!("the copy `{}` locks no objects", copy.name)),
        PlaceSettings::S3(_) => None,
    };
    // One that is locked is enough: what is there can be restored.
    let all: Vec<String> = settings.copies.iter().filter_map(why).collect();
    if all.len() < settings.copies.len() { Vec::new() } else { all }
}

/// What there is at a copy, and who may delete from it.
async fn listing<'a>(copy: &'a CopySettings, context: &Context) -> Result<Listing<'a>, String> {
    let words = |error: ObjectError| error.to_string();
    let (objects, destroys): (Arc<dyn Objects>, Result<Arc<dyn Destroy>, String>) = match &copy.place {
        PlaceSettings::Directory(path) => {
            let directory = Arc::new(Directory::new(path));
            (Arc::clone(&directory) as _, Ok(directory))
        }
        PlaceSettings::S3(bucket) => {
            if let Some(Identity { access_key, secret_key }) = bucket.destroys.clone() {
                let as_destroyer = BucketSettings { access_key, secret_key, ..(**bucket).clone() };
                let bucket = Arc::new(S3::new(&as_destroyer, context).map_err(words)?);
                (Arc::clone(&bucket) as _, Ok(bucket))
            } else {
                let why = "nobody may delete there: write `destroy_access_key` and `destroy_secret_key`".to_owned();
                (Arc::new(S3::new(bucket, context).map_err(words)?), Err(why))
            }
        }
    };
    let listed = list_all(&*objects, "", OBJECTS_MAX).await.map_err(words)?;
    let names = || listed.iter().map(|listed| listed.name.as_str());
    let mut snapshots = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, object) in names().filter_map(|name| name.strip_prefix("restic/")?.split_once('/')) {
        if !snapshots.contains_key(name) {
            snapshots.insert(name.to_owned(), BTreeSet::new());
        }
        let id = object.strip_prefix("snapshots/").filter(|id| is_snapshot(id));
        if let (Some(of), Some(id)) = (snapshots.get_mut(name), id) {
            of.insert(id.to_owned());
        }
    }
    let before = context.clock.now() - LEASES_AFTER;
    let leases = names().filter(|name| lease_ended(name).is_some_and(|end| end < before));
    let leases = leases.take(LEASES_MAX).map(str::to_owned).collect();
    Ok(Listing { copy, destroys, folders: Folders::of(names()), snapshots, leases })
}

/// Destroys a folder: its data key first, then its objects; then there is none of both. Says how many objects there were.
async fn destroy(place: &dyn Destroy, folder: &str) -> Result<u64, ObjectError> {
    place.delete(&format!("keys/{folder}")).await?;
    remove_all(place, &format!("{folder}/")).await
}

/// Deletes all objects below a prefix, and sees that none is left. Says how many there were.
async fn remove_all(place: &dyn Destroy, prefix: &str) -> Result<u64, ObjectError> {
    let objects = list_all(place, prefix, OBJECTS_MAX).await?;
    for listed in &objects {
        place.delete(&listed.name).await?;
    }
    match list_all(place, prefix, OBJECTS_MAX).await?.into_iter().next() {
        None => Ok(objects.len() as u64),
        Some(listed) => Err(ObjectError {
            why: Why::Unavailable,
            place: place.place().to_owned(),
            name: listed.name,
            reason: "it was deleted, and is still listed".to_owned(),
        }),
    }
}

/// Removes what is left of files that nobody backs up any more: no snapshot needs any of it.
async fn remove_rest(context: &Context, of: &OfFiles<'_>, looked: &mut Looked) -> Result<(), EngineError> {
    let folder = format!("restic/{}", of.files.name);
    for listing in of.listings.iter().filter(|listing| listing.snapshots.contains_key(&of.files.name)) {
        let copy = &listing.copy.name;
        context.progress.tick();
        let place = match &listing.destroys {
            Ok(place) => place,
            Err(why) => {
                looked.late(format!("{copy}: {folder}, of a backup that has left the policy: {why}"));
                continue;
            }
        };
        match remove_all(&**place, &format!("{folder}/")).await {
            Ok(objects) => {
                let (copy, folder) = (copy.clone(), folder.clone());
                context.recorder.record(&Destroyed { copy, folder, objects, locked: 0, locked_until: None }).await?;
            }
            Err(error) => {
                tracing::warn!(%error, "what has expired is not destroyed yet");
                if lock_of(&**place, &error).await.is_none() {
                    looked.late(error.to_string());
                }
            }
        }
    }
    Ok(())
}

/// Until when an object is locked that was not deleted.
async fn lock_of(place: &dyn Destroy, error: &ObjectError) -> Option<Time> {
    if error.why != Why::Refused {
        return None;
    }
    place.locked_until(&error.name).await.ok().flatten()
}

/// Whether what is due since `since` is late: not before its lock ends, where that is no later than ours are made.
fn is_late(since: Time, lock: Option<Time>, interval: Span, now: Time) -> bool {
    let locked = lock.map_or(since, |until| until.min(since + interval + LOCK_AHEAD));
    now.since(since.max(locked)) > LATE
}

#[cfg(test)]
pub(crate) mod tests;
