//! The engine that destroys backups which were kept for as long as the policy says (BK-6). It runs in the server, which alone holds the
//! right to.
//!
//! **Problem.** Whoever has a host has all that it writes: manifests, dates, the index of a repository. If these decided what is
//! destroyed, the host could have its backups destroyed by somebody else's hand. And a clock that wakes years ahead would destroy all.
//! **Principle.** What is destroyed is decided by the names of objects, which are never changed once they are there, and by the clock of
//! the server, once it is [steady](Steady). A base goes when everything that builds on it is older than what is kept; the newest base of
//! a backup and the logs behind it never go. First the data key goes, so that the rest is of no use to anybody, then the rest; a listing
//! shows that nothing is left. Of files the names say no time, so the server goes by when it [saw](Seen) a snapshot first; what only
//! expired ones hold is found by reading the trees, with the repository key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::clock::Steady;
use engine::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};
use event::evidence::{Covered, Found, Gap};
use event::{Interval, Monotonic, Span, Time};
use store::Consumers;
use tokio::sync::{mpsc, watch};

use crate::config::{
    BucketSettings, Config, CopySettings, EXPIRED_KEPT, EXPIRY_EVERY, EXPIRY_PROBE, FilesSettings, HOST_CAN_DESTROY,
    Identity, PlaceSettings, SAME_HOST, Settings,
};
use crate::events::{Destroyed, Detail};
use crate::files::{FilesDestroyed, Hidden, Intended};
use crate::objects::{Destroy, Directory, ObjectError, S3, list_all};
use crate::open::key;
use crate::sealed::{Copy, Repository, day_end, set_time};
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

/// What is due at one copy: folders, with their objects, and since when.
type Due = BTreeMap<String, (Vec<String>, Time)>;

impl Expiry {
    async fn look(
        &mut self,
        context: &Context,
        settings: &Settings,
        revision: &str,
        may_destroy: bool,
    ) -> Result<(), EngineError> {
        let now = context.clock.now();
        let mut looked = Looked { destroyable: destroyable(settings), ..Looked::default() };
        let (mut places, mut snapshots) = (Vec::new(), BTreeMap::<&str, BTreeSet<String>>::new());
        for copy in &settings.copies {
            context.progress.tick();
            let place = match place(&copy.place, context) {
                Ok(place) => place,
                Err(why) => {
                    tracing::error!(copy = copy.name, why, "what has expired at this copy can't be destroyed");
                    looked.unseen = true;
                    continue;
                }
            };
            let names = match list_all(&*place, "", OBJECTS_MAX).await {
                Ok(listed) => listed.into_iter().map(|listed| listed.name).collect::<Vec<_>>(),
                Err(error) => {
                    tracing::error!(%error, "what has expired at this copy is not known");
                    looked.unseen = true;
                    continue;
                }
            };
            for files in &settings.files {
                let prefix = format!("restic/{}/snapshots/", files.name);
                let ids = names.iter().filter_map(|name| name.strip_prefix(&prefix)).filter(|id| is_snapshot(id));
                snapshots.entry(&files.name).or_default().extend(ids.map(str::to_owned));
            }
            for (folder, (objects, since)) in due(&names, settings, now) {
                context.progress.tick();
                let why = if may_destroy {
                    match destroy(&*place, &folder, &objects).await {
                        Ok(()) => {
                            let objects = objects.len() as u64;
                            let destroyed =
                                Destroyed { copy: copy.name.clone(), folder, objects, locked: 0, locked_until: None };
                            context.recorder.record(&destroyed).await?;
                            continue;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "what has expired is not destroyed yet");
                            error.to_string()
                        }
                    }
                } else {
                    "the clock is not trusted yet".to_owned()
                };
                if now.since(since) > LATE {
                    looked.late(format!("{}: {folder}: {why}", copy.name));
                }
            }
            if may_destroy {
                self.delete_unlocked(context, copy, &*place, &mut looked).await?;
            }
            places.push(place);
        }
        for files in &settings.files {
            let listed = snapshots.remove(&*files.name).unwrap_or_default();
            self.look_at_files(context, settings, files, &listed, &places, may_destroy, &mut looked).await?;
        }
        self.say(context, revision, looked).await
    }

    /// Looks at the snapshots of one backup, and destroys those that are due; `places` are the copies that answer.
    #[expect(clippy::too_many_arguments, reason = "one look at one backup, with all that it is of")]
    async fn look_at_files(
        &mut self,
        context: &Context,
        settings: &Settings,
        files: &FilesSettings,
        listed: &BTreeSet<String>,
        places: &[Arc<dyn Destroy>],
        may_destroy: bool,
        looked: &mut Looked,
    ) -> Result<(), EngineError> {
        let now = context.clock.now();
        let kept = settings.keep + files.every;
        let next_pass = self.next_pass.get(&files.name).copied();
        let seen = self.seen().await?;
        // By a clock that may be wrong nothing is seen either: what it saw years ago would be due when it is right.
        if may_destroy && seen.see(&files.name, listed, now, kept).await.map_err(stored)? {
            tracing::error!(
                backup = files.name,
                "there are more snapshots than any policy makes: some are never destroyed"
            );
            looked.unseen = true;
        }
        let due = seen.due(&files.name, listed, kept, now);
        let Some(since) = due.since else { return Ok(()) };
        let is_late = now.since(since) > LATE;
        let monotonic = context.clock.monotonic();
        if !may_destroy || next_pass.is_some_and(|at| at > monotonic) {
            if is_late {
                looked.late(format!("{}: a snapshot is due since {since}", files.name));
            }
            return Ok(());
        }
        let why = if places.len() < settings.copies.len() {
            Some("a copy does not answer, or nobody may delete from it: nothing is destroyed".to_owned())
        } else {
            match pass(context, settings, files, places, &due, seen).await {
                Ok(done) => {
                    let mut events = Vec::new();
                    for (at, copy) in settings.copies.iter().enumerate().filter(|_| done.objects > 0) {
                        let locked = done.hidden.iter().filter(|hidden| hidden.copy == at);
                        let destroyed = Destroyed {
                            copy: copy.name.clone(),
                            folder: format!("restic/{}", files.name),
                            objects: done.objects,
                            locked: locked.clone().count() as u64,
                            locked_until: locked.map(|hidden| hidden.until).max(),
                        };
                        events.push(context.recorder.seal(&destroyed, now)?);
                    }
                    seen.destroyed(&files.name, &due.expired, now, events).await.map_err(stored)?;
                    let next = monotonic.0.saturating_add(PASS_EVERY.micros());
                    self.next_pass.insert(files.name.clone(), Monotonic(next));
                    None
                }
                Err(why) => Some(why),
            }
        };
        if let Some(why) = why {
            tracing::warn!(backup = files.name, why, "what has expired is not destroyed yet");
            if is_late {
                looked.late(format!("{}: {why}", files.name));
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
    files: &FilesSettings,
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
    let files = sources::files(files);
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

/// A copy, with the right to delete from it.
fn place(place: &PlaceSettings, context: &Context) -> Result<Arc<dyn Destroy>, String> {
    match place {
        PlaceSettings::Directory(path) => Ok(Arc::new(Directory::new(path))),
        PlaceSettings::S3(bucket) => {
            let Some(identity) = &bucket.destroys else {
                return Err(
                    "no identity may delete there: write `destroy_access_key` and `destroy_secret_key`".to_owned()
                );
            };
            let Identity { access_key, secret_key } = identity.clone();
            let as_destroyer = BucketSettings { access_key, secret_key, ..(**bucket).clone() };
            S3::new(&as_destroyer, context).map(|place| Arc::new(place) as _).map_err(|error| error.to_string())
        }
    }
}

/// What is due for destruction, of the objects of these names.
fn due(names: &[String], settings: &Settings, now: Time) -> Due {
    let mut folders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in names {
        if let Some((folder, _)) = name.rsplit_once('/') {
            folders.entry(folder.strip_prefix("keys/").unwrap_or(folder)).or_default().push(name.clone());
        }
        // A key that is alone, without objects beside it, is that of its own folder.
        if let Some(folder) = name.strip_prefix("keys/") {
            folders.entry(folder).or_default();
        }
    }
    let mut due = Due::new();
    for (backup, full_every) in settings.databases() {
        let kept = settings.keep + full_every;
        let sets = format!("sets/{backup}/");
        let begun: BTreeMap<&str, Time> =
            folders.keys().filter_map(|folder| Some((*folder, set_time(folder.strip_prefix(&sets)?)?))).collect();
        // Whatever the clock says, the newest base that is older than all that is due stays.
        let Some(newest) = begun.values().max().copied() else { continue };
        for (folder, at) in &begun {
            let since = *at + kept;
            if since < now && *at < newest {
                due.insert((*folder).to_owned(), (Vec::new(), since));
            }
        }
        let oldest_kept = begun.iter().filter(|(folder, _)| !due.contains_key(**folder)).map(|(_, at)| *at).min();
        let logs = format!("logs/{backup}/");
        for folder in folders.keys().filter(|folder| folder.starts_with(&logs)) {
            let Some(end) = folder.rsplit('/').next().and_then(day_end) else { continue };
            let since = end + kept;
            if since < now && oldest_kept.is_none_or(|oldest| end < oldest) {
                due.insert((*folder).to_owned(), (Vec::new(), since));
            }
        }
    }
    for (folder, (objects, _)) in &mut due {
        *objects = folders.get(folder.as_str()).cloned().unwrap_or_default();
        objects.retain(|name| !name.starts_with("keys/"));
    }
    due
}

/// Destroys a folder: its data key first, then its objects; then there is none of both.
async fn destroy(place: &dyn Destroy, folder: &str, objects: &[String]) -> Result<(), ObjectError> {
    place.delete(&format!("keys/{folder}")).await?;
    for name in objects {
        place.delete(name).await?;
    }
    let left: BTreeSet<String> =
        list_all(place, &format!("{folder}/"), OBJECTS_MAX).await?.into_iter().map(|listed| listed.name).collect();
    match left.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(ObjectError {
            why: crate::objects::Why::Unavailable,
            place: place.place().to_owned(),
            name,
            reason: "it was deleted, and is still listed".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
