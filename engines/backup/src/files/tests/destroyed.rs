//! What has expired is destroyed, and nothing else.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use engine::BoxFuture;
use strict_s3::{BucketSettings as Behaviour, HOST, Identity, SERVER, StrictS3};
use tokio::sync::mpsc;

use super::*;
use crate::config::{BucketSettings, SecretPlace};
use crate::objects::{Destroy, Listed, ObjectError, Objects, S3, Why};

/// A copy that does its work so many times more, and then fails: the process dies there.
#[derive(Debug)]
struct Dying(Directory, Arc<AtomicUsize>);

impl Objects for Dying {
    fn place(&self) -> &str {
        self.0.place()
    }

    fn put<'a>(&'a self, name: &'a str, body: Bytes, until: Option<Time>) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.0.put(name, body, until)
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.0.get(name, range)
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>> {
        self.0.size(name)
    }

    fn locked_until<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Time>, ObjectError>> {
        self.0.locked_until(name)
    }

    fn extend<'a>(&'a self, name: &'a str, until: Time) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.0.extend(name, until)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Listed>, ObjectError>> {
        self.0.list(prefix, after)
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>> {
        self.0.folders(folder)
    }
}

impl Destroy for Dying {
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_err() {
                let (place, name) = (self.place().to_owned(), name.to_owned());
                return Err(ObjectError { why: Why::Unavailable, place, name, reason: "it has died".into() });
            }
            self.0.delete(name).await
        })
    }

    fn hide<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.delete(name)
    }
}

impl Host {
    /// Destroys snapshots, with so many deletions until it dies.
    async fn destroy(
        &self,
        expired: &[String],
        kept: &[String],
        deletions: usize,
    ) -> Result<FilesDestroyed, FilesError> {
        let left = Arc::new(AtomicUsize::new(deletions));
        let copy = |name| Arc::new(Dying(Directory::new(self.path(name)), Arc::clone(&left))) as Arc<dyn Destroy>;
        self.destroy_at(vec![copy("copy0"), copy("copy1")], expired, kept).await
    }

    async fn destroy_at(
        &self,
        copies: Vec<Arc<dyn Destroy>>,
        expired: &[String],
        kept: &[String],
    ) -> Result<FilesDestroyed, FilesError> {
        let set = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
        let (intends, mut intended) = mpsc::channel(1);
        let writing = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(Intended { hidden, written }) = intended.recv().await {
                all.extend(hidden);
                written.send(()).ok();
            }
            all
        });
        let destroyed =
            self.files().destroy(&self.context, &self.repository, copies, set(expired), set(kept), intends).await;
        let written = writing.await.expect("no panic");
        assert!(destroyed.as_ref().is_ok_and(|done| done.hidden == written) || destroyed.is_err());
        destroyed
    }

    fn stored(&self, copy: usize) -> u64 {
        self.objects(copy, "data").iter().map(|pack| fs::metadata(pack).expect("there").len()).sum()
    }

    async fn is_whole(&self) {
        for copy in 0..2 {
            let checked = self.restic(copy, &["check", "--read-data"]).await;
            assert!(checked.contains("no errors were found"), "{checked}");
        }
        let checked = self.files().check(&self.context, &self.repository, Share::All, &()).await.expect("checked");
        assert_eq!(checked.wrong, 0, "{checked:?}");
    }
}

/// A host with three snapshots: the first has what no other has, in a pack of its own and in one with what stays.
async fn three() -> (Host, Vec<String>) {
    let host = Host::new();
    host.write("stays", host.noise(1_000_000));
    let alone = host.write("alone", host.noise(20_000_000));
    let beside = host.write("beside/it", host.noise(900_000));
    let mut taken = vec![host.take(&host.files()).await.expect("taken").snapshot];
    for gone in [alone, beside] {
        fs::remove_file(gone).expect("removed");
    }
    for name in ["second", "third"] {
        host.write(name, host.noise(200_000));
        taken.push(host.take(&host.files()).await.expect("taken").snapshot);
    }
    (host, taken)
}

/// Promise BK-6.
#[tokio::test]
async fn what_only_expired_snapshots_hold_is_destroyed_at_each_copy() {
    let (host, taken) = three().await;
    let before = host.stored(0);
    let destroyed = host.destroy(&taken[..1], &taken[1..], usize::MAX).await.expect("destroyed");
    assert!(destroyed.objects > 2 && destroyed.hidden.is_empty(), "{destroyed:?}");
    for copy in 0..2 {
        assert!((1_400_000..1_500_000).contains(&host.stored(copy)), "{} of {before}", host.stored(copy));
        let into = host.path(&format!("restored/{copy}"));
        host.restic(copy, &["restore", "latest", "--target", into.to_str().expect("text")]).await;
        host.same(&host.path("data"), &below(&into, &host.path("data"))).await;
    }
    host.is_whole().await;
    let point = Point::Snapshot(taken[0].clone());
    let options = RestoreOptions::default();
    let restored = host.files().restore(&host.context, &host.repository, &point, &host.path("old"), options, &()).await;
    assert!(matches!(restored, Err(FilesError::NoSnapshot(_))), "{restored:?}");
    // Nothing is left to do, and the next snapshot builds on what there is.
    host.destroy(&taken[..1], &taken[1..], usize::MAX).await.expect("again");
    host.write("fourth", host.noise(1000));
    let added = host.take(&host.files()).await.expect("taken").added;
    assert!(added < 20_000, "{added}");
    host.is_whole().await;
}

/// The process dies after each of its deletions: what is kept is whole each time, and the next pass brings it to its end.
#[tokio::test]
async fn a_pass_that_dies_at_any_step_leaves_what_is_kept() {
    let (host, taken) = three().await;
    let mut deletions = 0;
    loop {
        let done = host.destroy(&taken[..1], &taken[1..], deletions).await;
        let checked = host.files().check(&host.context, &host.repository, Share::None, &()).await.expect("checked");
        // What has expired may be at one copy only; what is kept is at both.
        let expired = format!("the snapshot {} is missing", taken[0]);
        assert!(checked.findings.iter().all(|finding| finding.what == expired), "{deletions}: {checked:?}");
        let (restored, data) = host.restore(&format!("after {deletions}")).await;
        assert!(restored.unwritten.is_empty(), "{restored:?}");
        host.same(&host.path("data"), &data).await;
        if done.is_ok() {
            break;
        }
        deletions += 1;
        assert!(deletions < 40, "{done:?}");
    }
    assert!(deletions > 2, "{deletions}");
    assert!(host.stored(0) < 1_500_000 && host.stored(1) < 1_500_000);
    host.is_whole().await;
}

/// A host that has its own snapshots removed must not have their chunks destroyed by the server.
#[tokio::test]
async fn nothing_is_destroyed_where_something_that_is_kept_is_missing() {
    let (host, taken) = three().await;
    let objects = [host.objects(0, ""), host.objects(1, "")];
    let refused = |error: FilesError, word: &str| {
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!([host.objects(0, "data"), host.objects(1, "data")].map(|it| it.len()), {
            objects.each_ref().map(|all| all.iter().filter(|path| path.to_string_lossy().contains("/data/")).count())
        });
    };
    let hidden = host.path(&format!("copy0/restic/shop/snapshots/{}", taken[1]));
    let other = host.path(&format!("copy1/restic/shop/snapshots/{}", taken[1]));
    for path in [&hidden, &other] {
        fs::rename(path, path.with_extension("hidden")).expect("moved");
    }
    let error = host.destroy(&taken[..1], &taken[1..], usize::MAX).await.expect_err("one is gone");
    refused(error, "somebody has removed it");
    fs::rename(hidden.with_extension("hidden"), &hidden).expect("moved back");
    // One copy has it: what it needs stays.
    fs::rename(host.path("copy1"), host.path("away")).expect("moved");
    let error = host.destroy(&taken[..1], &taken[1..], usize::MAX).await.expect_err("a copy is away");
    fs::rename(host.path("away"), host.path("copy1")).expect("moved back");
    refused(error, "a copy does not answer");
    host.world.clock.suspend(Span::from_secs(2 * 3600));
    fs::rename(other.with_extension("hidden"), &other).expect("moved back");
    let pack = host.objects(1, "data").pop().expect("a pack");
    fs::rename(&pack, host.path("pack")).expect("moved");
    host.destroy(&taken[..1], &taken[1..], 0).await.expect_err("a copy lacks a pack");
    fs::rename(host.path("pack"), &pack).expect("moved back");
    host.is_whole().await;
}

/// A bucket, by an identity.
fn bucket(folder: &Path, server: &StrictS3, context: &Context, identity: Identity) -> S3 {
    let secret = folder.join(identity.access_key);
    fs::write(&secret, identity.secret_key).expect("written");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    let settings = BucketSettings {
        endpoint: server.endpoint(),
        bucket: "shop".into(),
        prefix: None,
        path_style: true,
        region: "eu-north-1".into(),
        access_key: identity.access_key.into(),
        secret_key: SecretPlace::File(secret),
        lock: true,
        bytes_per_second_max: None,
        destroys: None,
    };
    S3::new(&settings, context).expect("a bucket")
}

/// BK-6 where objects are locked: what has expired is in no listing at once, and its bytes go with the lock. BK-9: what is kept is locked
/// for as long as it is kept, whichever snapshot stored it.
#[tokio::test]
async fn what_is_locked_is_hidden_and_what_a_snapshot_needs_is_locked_with_it() {
    let server = StrictS3::start(&[("shop", Behaviour::default())]);
    let mut host = Host::new();
    let now = engine::Clock::now(&engine::clock::SystemClock);
    host.world = World::at(now);
    // What is signed is signed by the clock of the machine, whatever time it is here.
    let outside = World::at(now).context("agent".parse().expect("a name")).expect("a context");
    let at = |identity| Arc::new(bucket(host.folder.path(), &server, &outside, identity));
    let (by_host, by_server) = (at(HOST), at(SERVER));
    let copies = vec![
        Copy { name: "copy0".into(), objects: Arc::new(Directory::new(host.path("copy0"))) },
        Copy { name: "bucket".into(), objects: Arc::clone(&by_host) as _ },
    ];
    let clock = Arc::clone(&host.world.clock) as _;
    let random = Arc::new(SeededRandom::new(1007));
    host.repository = Arc::new(Repository::new(copies, key(), Span::from_days(90), clock, random));
    host.write("stays", host.noise(300_000));
    let gone = host.write("gone", host.noise(300_000));
    let first = host.take(&host.files()).await.expect("taken").snapshot;
    let packs: Vec<Listed> = by_host.list("restic/shop/data/", None).await.expect("listed");
    fs::remove_file(gone).expect("removed");
    host.world.clock.suspend(Span::from_days(30));
    let second = host.take(&host.files()).await.expect("taken");
    assert!(second.unlocked.is_empty(), "{second:?}");
    // The pack with both files was stored thirty days before, and is locked as long as the new snapshot is kept.
    let kept_until = second.at + Span::from_days(90);
    let large = packs.iter().find(|pack| pack.size > 500_000).expect("both files are in it");
    for name in [&*large.name, "restic/shop/config"] {
        let until = by_host.locked_until(name).await.expect("it answers").expect("locked");
        assert!(until >= kept_until, "{name}: {until}");
    }
    let second = second.snapshot;
    // The first one has expired.
    server.pass(std::time::Duration::from_hours(24 * 92));
    host.world.clock.suspend(Span::from_days(62));
    let places = || vec![Arc::new(Directory::new(host.path("copy0"))) as Arc<dyn Destroy>, by_server.clone() as _];
    let kept = [second];
    let done = host.destroy_at(places(), std::slice::from_ref(&first), &kept).await.expect("destroyed");
    assert!(done.hidden.iter().all(|hidden| hidden.copy == 1 && hidden.until >= kept_until), "{done:?}");
    let bytes = |name: &str| server.versions("shop", name).iter().filter(|version| version.body.is_some()).count();
    assert!(done.hidden.iter().any(|hidden| hidden.object == large.name) && bytes(&large.name) == 1);
    assert_eq!(bytes(&format!("restic/shop/snapshots/{first}")), 0, "its own lock has ended");
    assert_eq!(by_host.size(&large.name).await.expect("it answers"), None);
    let checked = host.restic(0, &["check", "--read-data"]).await;
    assert!(checked.contains("no errors were found"), "{checked}");
    let checked = host.files().check(&host.context, &host.repository, Share::All, &()).await.expect("checked");
    assert_eq!((checked.wrong, checked.unused), (0, 0), "{checked:?}");
    let (_, data) = host.restore("ours").await;
    host.same(&host.path("data"), &data).await;
    // Nobody builds on what is hidden.
    host.write("third", "third");
    host.take(&host.files()).await.expect("taken");
    server.pass(std::time::Duration::from_hours(24 * 91));
    for hidden in &done.hidden {
        by_server.delete(&hidden.object).await.expect("its lock has ended");
        assert_eq!(server.versions("shop", &hidden.object), []);
    }
}
