//! The engine that destroys backups which were kept for as long as the policy says (BK-6). It runs in the server, which alone holds the
//! right to.
//!
//! **Problem.** Whoever has a host has all that it writes: manifests, dates, the index of a repository. If these decided what is
//! destroyed, the host could have its backups destroyed by somebody else's hand. And a clock that wakes years ahead would destroy all.
//! **Principle.** What is destroyed is decided by the names of objects, which are never changed once they are there, and by the clock of
//! the server, once it is [steady](Steady). A base goes when everything that builds on it is older than what is kept; the newest base of
//! a backup and the logs behind it never go. First the data key goes, so that the rest is of no use to anybody, then the rest; a listing
//! shows that nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::clock::Steady;
use engine::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};
use event::evidence::{Covered, Found, Gap};
use event::{Interval, Monotonic, Span, Time};
use tokio::sync::watch;

use crate::config::{
    BucketSettings, Config, EXPIRED_KEPT, EXPIRY_EVERY, EXPIRY_PROBE, Identity, PlaceSettings, Settings,
};
use crate::events::Destroyed;
use crate::objects::{Destroy, Directory, ObjectError, S3, list_all};

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
/// Most objects of one copy.
const OBJECTS_MAX: usize = 2_000_000;

/// The engine. `newest_before` is the time at which the newest entry from before this start of the process was recorded.
pub fn expiry(config: watch::Receiver<Arc<Config>>, newest_before: Option<Time>) -> impl Engine {
    let start = move || Expiry {
        config: config.clone(),
        newest_before,
        steady: None,
        look_at: None,
        looked_at: None,
        is_late: None,
    };
    Driver::new(EXPIRY, 2, start)
}

struct Expiry {
    config: watch::Receiver<Arc<Config>>,
    newest_before: Option<Time>,
    steady: Option<Steady>,
    look_at: Option<Monotonic>,
    /// When all copies were looked at last.
    looked_at: Option<Time>,
    /// What was said last: whether something is there that was to be destroyed.
    is_late: Option<bool>,
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
        let (mut late, mut unseen) = (false, false);
        for copy in &settings.copies {
            context.progress.tick();
            let place = match place(&copy.place, context) {
                Ok(place) => place,
                Err(why) => {
                    tracing::error!(copy = copy.name, why, "what has expired at this copy can't be destroyed");
                    unseen = true;
                    continue;
                }
            };
            let names = match list_all(&*place, "", OBJECTS_MAX).await {
                Ok(listed) => listed.into_iter().map(|listed| listed.name).collect::<Vec<_>>(),
                Err(error) => {
                    tracing::error!(%error, "what has expired at this copy is not known");
                    unseen = true;
                    continue;
                }
            };
            for (folder, (objects, since)) in due(&names, settings, now) {
                context.progress.tick();
                let is_gone = may_destroy
                    && match destroy(&*place, &folder, &objects).await {
                        Ok(()) => {
                            let destroyed =
                                Destroyed { copy: copy.name.clone(), folder, objects: objects.len() as u64 };
                            context.recorder.record(&destroyed).await?;
                            true
                        }
                        Err(error) => {
                            tracing::warn!(%error, "what has expired is not destroyed yet");
                            false
                        }
                    };
                late |= !is_gone && now.since(since) > LATE;
            }
        }
        self.say(context, revision, late, unseen).await
    }

    /// Says whether something is there that was to be destroyed, and which time was looked at.
    async fn say(&mut self, context: &Context, revision: &str, late: bool, unseen: bool) -> Result<(), EngineError> {
        let now = context.clock.now();
        let before = self.looked_at.replace(now);
        let (Ok(probe), Ok(finding)) = (EXPIRY_PROBE.parse::<event::ProbeId>(), EXPIRED_KEPT.parse()) else {
            return Ok(());
        };
        if !unseen && self.is_late != Some(late) {
            let after = if self.is_late.is_none() { now } else { before.unwrap_or(now).min(now) };
            self.is_late = Some(late);
            context.recorder.record(&Found { finding, probe: probe.clone(), open: late, after, by: now }).await?;
        }
        let Some(from) = before.filter(|before| *before < now && now.since(*before) <= EXPIRY_EVERY) else {
            return Ok(());
        };
        let interval = Interval::new(from, now);
        let gaps = if unseen { vec![Gap { probe, finding: None, interval }] } else { Vec::new() };
        let covered = Covered { interval, revision: revision.to_owned(), every: Some(EXPIRY_EVERY), gaps };
        context.recorder.record(&covered).await?;
        Ok(())
    }
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

/// When a set was begun, by its name.
fn set_time(set: &str) -> Option<Time> {
    let (second, random) = set.split_once('-')?;
    let digits =
        |from: usize, to: usize| second.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if second.len() != 16 || random.len() != 8 {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (hour, minute, second) = (digits(9, 11)?, digits(11, 13)?, digits(13, 15)?);
    Time::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// The end of the day of a folder of logs, by its name.
fn day_end(folder: &str) -> Option<Time> {
    let day = Time::parse_rfc3339(&format!("{}T00:00:00Z", folder.get(..10)?))?;
    Some(day + Span::from_days(1))
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::objects::Objects as _;

    fn settings() -> Settings {
        let policy = r#"
            [journal]
            name = "shop.example"
            [[service]]
            name = "backup"
            [[region]]
            name = "near"
            provider = "ovh"
            [backup]
            service = "backup"
            key = { file = "/etc/garant/backup.key" }
            copy = [{ name = "near", region = "near", directory = "/mnt/backup" }]
            mariadb = [{ name = "shop-db", full_every = "6 h" }]
        "#;
        let mut document = policy::Document::from_text("garant.toml", policy);
        let nouns = policy::Nouns::read(&mut document);
        let config = <Config as policy::Part>::read(&mut document, &nouns);
        config.settings().expect("it is sound").clone()
    }

    fn names() -> Vec<String> {
        let set = |set: &str| [format!("keys/sets/shop-db/{set}"), format!("sets/shop-db/{set}/manifest")];
        let day = |day: &str| {
            let folder = format!("logs/shop-db/log1/{day}-00c0ffee");
            [format!("keys/{folder}"), format!("{folder}/0000000001-00000001.{:016x}-{:016x}", 0, 9)]
        };
        let sets = ["20260801T000000Z-00000001", "20260801T060000Z-00000002", "20260801T120000Z-00000003"].map(set);
        let days = ["2026-07-31", "2026-08-01", "2026-08-02"].map(day);
        let others = ["sets/other/20200101T000000Z-00000001/manifest", "stray", "restic/data/00/aa"];
        sets.into_iter().chain(days).flatten().chain(others.map(str::to_owned)).collect()
    }

    fn folders_due(now: &str) -> Vec<String> {
        due(&names(), &settings(), Time::parse_rfc3339(now).expect("a time")).into_keys().collect()
    }

    /// BK-6: kept for 90 days, and destroyed once nothing that is kept builds on it.
    #[test]
    fn a_base_goes_when_all_that_builds_on_it_is_older_than_what_is_kept() {
        assert_eq!(folders_due("2026-10-30T05:59:00Z"), Vec::<String>::new(), "90 days, and not the 6 hours behind");
        let first = ["logs/shop-db/log1/2026-07-31-00c0ffee", "sets/shop-db/20260801T000000Z-00000001"];
        assert_eq!(folders_due("2026-10-30T06:01:00Z"), first);
        assert_eq!(folders_due("2026-10-30T12:01:00Z").len(), 3);
    }

    #[test]
    fn the_newest_base_and_its_log_stay_whatever_the_clock_says() {
        let kept: Vec<String> = folders_due("2126-01-01T00:00:00Z");
        assert!(!kept.iter().any(|folder| folder.contains("T120000Z") || folder.contains("2026-08-02")), "{kept:?}");
        // The day in which the newest base was begun holds the log that goes on from it.
        assert!(!kept.iter().any(|folder| folder.contains("2026-08-01-")), "{kept:?}");
    }

    #[tokio::test]
    async fn a_folder_goes_with_its_key_and_nothing_else_does() {
        let root = tempfile::tempdir().expect("a folder");
        let place = Directory::new(root.path());
        for name in names() {
            place.put(&name, Bytes::from_static(b"x"), None).await.expect("put");
        }
        let now = Time::parse_rfc3339("2026-10-30T12:01:00Z").expect("a time");
        let all = list_all(&place, "", 100).await.expect("listed").len();
        let due = due(&names(), &settings(), now);
        for (folder, (objects, _)) in &due {
            destroy(&place, folder, objects).await.expect("destroyed");
        }
        let left: Vec<String> =
            list_all(&place, "", 100).await.expect("listed").into_iter().map(|listed| listed.name).collect();
        assert_eq!(left.len(), all - 6);
        assert!(!left.iter().any(|name| due.keys().any(|folder| name.contains(folder.as_str()))), "{left:?}");
    }
}
