//! Locks of what later objects build on.
//!
//! An incremental base is nothing without the one that it builds on, and a piece of log is nothing without a base and the pieces between
//! them. Whatever is stored of a database is locked from the start for `keep` and one interval of its full bases, which covers all that
//! is built on it as long as full bases come in time. Where the next one is late, the locks of the newest chain are extended, so that what
//! can be restored today can be restored for `keep`, whoever has the credentials of the host.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::Span;

use crate::objects::ObjectError;
use crate::sealed::{Catalog, Repository, RepositoryError, SetEntry};

/// Extends the locks of the newest chain of a backup where its next full base is late, and says what a copy does not lock.
///
/// # Errors
/// No copy can be listed.
pub(crate) async fn keep_locked(
    repository: &Arc<Repository>,
    catalog: &Catalog,
    backup: &str,
) -> Result<Vec<ObjectError>, RepositoryError> {
    let Some(newest) = catalog.sets.iter().max_by_key(|set| set.manifest.consistent_at) else { return Ok(Vec::new()) };
    let mut chain: Vec<&SetEntry> = vec![newest];
    while let Some(last) = chain.last()
        && let Some(parent) = &last.manifest.parent
        && let Some(parent) = catalog.sets.iter().find(|set| set.manifest.set == *parent)
        && chain.len() <= catalog.sets.len()
    {
        chain.push(parent);
    }
    let began = chain.iter().map(|set| set.manifest.began_at).min().unwrap_or(newest.manifest.began_at);
    let now = repository.now();
    if now.since(began) <= repository.interval(backup) {
        return Ok(Vec::new());
    }
    let mut names = BTreeSet::new();
    for set in chain {
        let folder = format!("sets/{backup}/{}", set.manifest.set);
        names.extend(repository.list(&format!("{folder}/")).await?.0.into_keys());
        names.insert(format!("keys/{folder}"));
    }
    if let Some(log) = &newest.manifest.log {
        let first_day: String = (began - Span::from_days(1)).to_rfc3339().chars().take(10).collect();
        let root = format!("logs/{backup}/{log}/");
        for day in repository.folders(&root).await?.into_iter().filter(|day| *day.as_str() >= *first_day) {
            names.extend(repository.list(&format!("{root}{day}/")).await?.0.into_keys());
            names.insert(format!("keys/{root}{day}"));
        }
    }
    Ok(repository.keep_locked(&names, now - repository.interval(backup)).await.into_values().collect())
}

#[cfg(test)]
mod tests {
    use engine::Clock as _;
    use engine::clock::SystemClock;
    use engine::random::SeededRandom;
    use engine::sim::World;
    use strict_s3::{BucketSettings as Behaviour, HOST, StrictS3};

    use super::*;
    use crate::config::{BucketSettings, SecretPlace};
    use crate::objects::S3;
    use crate::sealed::{Copy, LogWriter, RepositoryKey, SetWriter};

    const KEEP: Span = Span::from_days(90);

    /// BK-9: what can be restored is locked for as long as it is kept, though the next base does not come.
    #[tokio::test]
    async fn the_base_of_a_log_is_locked_as_long_as_the_log() {
        let server = StrictS3::start(&[("shop", Behaviour::default())]);
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, HOST.secret_key).expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        let settings = BucketSettings {
            endpoint: server.endpoint(),
            bucket: "shop".into(),
            prefix: None,
            path_style: true,
            region: "eu-north-1".into(),
            access_key: HOST.access_key.into(),
            secret_key: SecretPlace::File(secret),
            lock: true,
            bytes_per_second_max: None,
            destroys: None,
        };
        // What is signed is signed by the clock of the machine, whatever time it is here.
        let outside = World::at(SystemClock.now()).context("agent".parse().expect("a name")).expect("a context");
        let bucket = Arc::new(S3::new(&settings, &outside).expect("a bucket"));
        let world = World::at(SystemClock.now());
        let random = Arc::new(SeededRandom::new(1));
        let key = RepositoryKey::random(&*random);
        let copies = vec![Copy { name: "far".into(), objects: bucket }];
        let repository = Repository::new(copies, key, KEEP, Arc::clone(&world.clock) as _, random);
        let repository = repository.bases_apart([("shop-db".to_owned(), Span::from_secs(6 * 3600))].into());
        let repository = Arc::new(repository);

        let base = async || {
            let mut set = SetWriter::begin(Arc::clone(&repository), "shop-db", "mariadb").await.expect("begun");
            set.stream("data", &b"a base"[..], |_| {}).await.expect("added");
            set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("complete")
        };
        let first = base().await;
        let (mut log, _) = LogWriter::open(Arc::clone(&repository), "shop-db", "log1").await.expect("open");
        log.append(1, 0, 9, &(), b"a piece".to_vec()).await.expect("added");
        let all = || async { repository.list("").await.expect("listed").0.into_keys().collect::<Vec<_>>() };
        // The first to be unlocked of what there was in the beginning.
        let begun = all().await;
        let locked = async || {
            let mut until = None::<event::Time>;
            for name in &begun {
                let found = repository.copies()[0].objects.locked_until(name).await.expect("it answers");
                until = Some(until.map_or(found.expect("locked"), |until| until.min(found.expect("locked"))));
            }
            until.expect("there is something")
        };
        let look = async || {
            let catalog = Catalog::read(&repository, "shop-db").await.expect("read");
            let asked = server.requests().len();
            let unlocked = keep_locked(&repository, &catalog, "shop-db").await.expect("listed");
            assert_eq!(unlocked, []);
            server.requests().len() - asked
        };
        world.clock.suspend(Span::from_secs(5 * 3600));
        log.append(1, 9, 12, &(), b"another".to_vec()).await.expect("added");
        assert!(locked().await >= world.now() + KEEP, "as long as the piece that was added last");
        assert_eq!(look().await, 0, "the next base is not late, and nothing is asked");
        // The next base does not come, and the log goes on.
        for hours in [15, 1, 30] {
            world.clock.suspend(Span::from_secs(hours * 3600));
            log.append(1, 12, 15, &(), b"more".to_vec()).await.expect("added");
            let now = world.now();
            assert!(locked().await < now + KEEP + Span::from_days(1));
            look().await;
            assert!(locked().await >= now + KEEP, "after {hours} hours");
        }
        let second = base().await;
        assert_ne!(first.set, second.set);
        assert_eq!(look().await, 0, "what comes now goes on from the new base");
    }
}
