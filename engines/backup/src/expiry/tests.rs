//! What is due, and what becomes of it.

use bytes::Bytes;
use strict_s3::{HOST, SERVER, StrictS3};

use super::*;
use crate::config::FilesSettings;
use crate::sealed::{LogWriter, SetWriter, set_time};

fn settings() -> Settings {
    Config::sample(r#"mariadb = [{ name = "shop-db", full_every = "6 h" }]"#)
}

#[tokio::test]
async fn a_folder_goes_with_its_key_and_nothing_else_does() {
    let root = tempfile::tempdir().expect("a folder");
    let place = Directory::new(root.path());
    let set = "sets/shop-db/20260801T000000Z-00000001";
    let gone = [format!("keys/{set}"), format!("{set}/manifest"), format!("{set}/base.00001"), format!("{set}/a/b")];
    let stays = ["sets/shop-db/20260801T000000Z-000000011/manifest", "sets/shop-db/stray", "stray"];
    for name in gone.iter().map(String::as_str).chain(stays) {
        place.put(name, Bytes::from_static(b"x"), None).await.expect("put");
    }
    assert_eq!(destroy(&place, set).await.expect("destroyed"), 3);
    let left = list_all(&place, "", 100).await.expect("listed");
    assert_eq!(left.iter().map(|listed| listed.name.as_str()).collect::<Vec<_>>(), stays);
}

/// A server with files at two copies, and what it takes to look.
struct Server {
    folder: tempfile::TempDir,
    world: engine::sim::World,
    context: Context,
    settings: Settings,
    key: crate::sealed::RepositoryKey,
    expiry: Expiry,
}

const KEEP: Span = Span::from_days(30);

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["near", "far", "state", "data"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        let key = crate::sealed::RepositoryKey::random(&engine::random::SeededRandom::new(7));
        let secret = folder.path().join("key");
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.write(true).create_new(true).open(&secret).expect("a file");
        std::io::Write::write_all(&mut file, key.text().as_bytes()).expect("written");
        let mut settings = settings();
        let path = |name: &str| PlaceSettings::Directory(folder.path().join(name));
        let copy = |name: &str| crate::config::CopySettings {
            name: name.into(),
            region: "near".parse().expect("a region"),
            provider: None,
            place: path(name),
        };
        settings.copies = vec![copy("near"), copy("far")];
        settings.key = crate::config::SecretPlace::File(secret);
        settings.keep = KEEP;
        settings.mariadb.clear();
        settings.files = vec![FilesSettings {
            name: "www".into(),
            service: None,
            paths: vec![folder.path().join("data")],
            volumes: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            may_be_empty: false,
            every: Span::from_days(1),
            checks: Vec::new(),
        }];
        let world = engine::sim::World::at(Time::from_secs(1_796_000_000));
        let context = world.context("server.expiry".parse().expect("a name")).expect("a context");
        let config = watch::Sender::new(Arc::new(Config::default())).subscribe();
        let expiry = Expiry::new(config, Arc::clone(&world.journal) as _, None);
        Self { folder, world, context, settings, key, expiry }
    }

    /// The host takes a snapshot in which there is a file of this name.
    async fn take(&self, name: &str) -> String {
        std::fs::write(self.folder.path().join("data").join(name), name).expect("written");
        let (clock, random) = (Arc::clone(&self.context.clock), Arc::clone(&self.context.random));
        let copies = self.settings.copies.iter().map(|copy| {
            let objects = Arc::new(Directory::new(self.folder.path().join(&copy.name)));
            Copy { name: copy.name.clone(), objects }
        });
        let repository = Arc::new(Repository::new(copies.collect(), self.key.clone(), KEEP, clock, random));
        let files = sources::files(&self.settings.files[0]);
        let taken = files.take(&self.context, &repository, &self.folder.path().join("state"), &()).await;
        taken.expect("taken").snapshot
    }

    async fn look_after(&mut self, span: Span, may_destroy: bool) {
        self.world.clock.suspend(span);
        self.expiry.look(&self.context, &self.settings, "r1", may_destroy).await.expect("looked");
    }

    fn snapshots(&self, copy: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join(copy).join("restic/www/snapshots")).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("listed").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    fn words(&self, finding: &str) -> String {
        let mut words = self.world.journal.of::<Detail>();
        words.retain(|words| words.finding.as_ref().is_some_and(|of| of.as_str() == finding));
        words.pop().expect("words").text
    }

    fn late(&self) -> Option<bool> {
        self.world
            .journal
            .of::<Found>()
            .iter()
            .rfind(|found| found.finding.as_str() == EXPIRED_KEPT)
            .map(|found| found.open)
    }
}

/// Promise BK-6: a snapshot is destroyed when the server has known it for as long as it is kept, at both copies, and that is journaled.
#[tokio::test]
async fn a_snapshot_goes_when_the_server_has_known_it_for_long_enough() {
    let mut server = Server::new();
    let first = server.take("first").await;
    server.look_after(Span::from_secs(60), true).await;
    let second = server.take("second").await;
    server.look_after(Span::from_days(1), true).await;
    let third = server.take("third").await;
    server.look_after(KEEP - Span::from_secs(3600), true).await;
    assert_eq!(server.snapshots("near").len(), 3, "kept for 30 days and the one that is between two snapshots");
    server.look_after(Span::from_secs(2 * 3600), true).await;
    let mut kept = vec![second.clone(), third.clone()];
    kept.sort();
    assert_eq!((server.snapshots("near"), server.snapshots("far")), (kept.clone(), kept));
    let destroyed = server.world.journal.of::<Destroyed>();
    assert_eq!(
        destroyed.iter().map(|it| (&*it.copy, &*it.folder)).collect::<Vec<_>>(),
        [("near", "restic/www"), ("far", "restic/www")]
    );
    assert!(destroyed[0].objects > 0 && server.late() == Some(false));
    // A copy that was away brings it back: it is destroyed again, and is no new one.
    let snapshots = server.folder.path().join("near/restic/www/snapshots");
    std::fs::copy(snapshots.join(&second), snapshots.join(&first)).expect("copied");
    server.look_after(Span::from_days(1), true).await;
    assert!(!server.snapshots("near").contains(&first));
    // The newest stays whatever the clock says.
    server.look_after(Span::from_days(36_500), true).await;
    assert_eq!(server.snapshots("far"), [third]);
}

/// What the server remembers outlives it, and what a host writes makes no snapshot older.
#[tokio::test]
async fn a_snapshot_is_as_old_as_the_server_has_seen_and_no_older() {
    let mut server = Server::new();
    let first = server.take("first").await;
    server.look_after(Span::from_days(60), false).await;
    server.look_after(Span::from_secs(60), true).await;
    let second = server.take("second").await;
    server.look_after(Span::from_days(1), true).await;
    assert_eq!(server.snapshots("near").len(), 2, "sixty days old by its own word, and seen for one");
    // The server starts again.
    let config = watch::Sender::new(Arc::new(Config::default())).subscribe();
    server.expiry = Expiry::new(config, Arc::clone(&server.world.journal) as _, None);
    server.look_after(KEEP + Span::from_secs(3600), true).await;
    assert_eq!(server.snapshots("near"), [second]);
    assert!(!server.snapshots("far").contains(&first));
}

/// A host that hides what is kept does not have it destroyed by the server; that something is late is found.
#[tokio::test]
async fn what_can_not_be_destroyed_is_found() {
    let mut server = Server::new();
    let first = server.take("first").await;
    server.look_after(Span::from_secs(60), true).await;
    let second = server.take("second").await;
    server.look_after(KEEP, true).await;
    server.take("third").await;
    server.look_after(Span::from_secs(60), true).await;
    let hide = |server: &Server, to: &str, from: &str| {
        for copy in ["near", "far"] {
            let snapshots = server.folder.path().join(copy).join("restic/www/snapshots");
            std::fs::rename(snapshots.join(from), snapshots.join(to)).expect("moved");
        }
    };
    hide(&server, "hidden", &second);
    server.look_after(Span::from_days(2), true).await;
    assert!(server.snapshots("near").contains(&first) && server.late() == Some(false), "it is not late yet");
    server.look_after(Span::from_days(2), true).await;
    assert_eq!(server.late(), Some(true));
    let words = server.words(EXPIRED_KEPT);
    assert!(words.contains(&second) && words.contains("somebody has removed it"), "{words}");
    hide(&server, &second, "hidden");
    server.look_after(Span::from_secs(3600), true).await;
    assert!(!server.snapshots("near").contains(&first));
    assert_eq!(server.late(), Some(false));
    // Without the repository key nobody knows what is needed.
    std::fs::remove_file(server.folder.path().join("key")).expect("removed");
    server.look_after(KEEP + Span::from_days(4), true).await;
    assert_eq!(server.late(), Some(true));
    let words = server.words(EXPIRED_KEPT);
    assert!(words.contains("needs the repository key"), "{words}");
}

/// BK-9: where server and agent are one host, nothing is proved; where no copy locks, the host can destroy, and that is found.
#[tokio::test]
async fn on_one_host_it_is_unproven_that_no_host_can_destroy() {
    let mut server = Server::new();
    let found = |server: &Server| {
        let found = server.world.journal.of::<Found>();
        found.iter().rfind(|found| found.finding.as_str() == HOST_CAN_DESTROY).map(|found| found.open)
    };
    server.look_after(Span::from_secs(60), true).await;
    assert_eq!(found(&server), Some(true));
    let words = server.words(HOST_CAN_DESTROY);
    assert!(words.contains("the copy `near` is a directory") && words.contains("reason: same host"), "{words}");
    server.settings.copies[1].place = PlaceSettings::S3(Box::new(BucketSettings {
        endpoint: "https://s3.example".into(),
        bucket: "shop".into(),
        prefix: None,
        path_style: true,
        region: "eu-north-1".into(),
        access_key: "HOST".into(),
        secret_key: crate::config::SecretPlace::File("/nowhere".into()),
        lock: true,
        bytes_per_second_max: None,
        destroys: None,
    }));
    assert_eq!(destroyable(&server.settings), Vec::<String>::new(), "one copy that locks is enough");
    server.settings.copies.pop();
    server.look_after(Span::from_secs(3000), true).await;
    let covered = server.world.journal.of::<Covered>().pop().expect("a record");
    let gap = covered.gaps.iter().find_map(|gap| gap.finding.as_ref()).expect("a gap of that finding alone");
    assert_eq!(gap.as_str(), HOST_CAN_DESTROY);
}

impl Server {
    /// A server with a database instead of files.
    fn of_database() -> Self {
        let mut server = Self::new();
        server.settings.files.clear();
        server.settings.mariadb = settings().mariadb;
        server
    }

    /// The repository, as the agent has it.
    fn repository(&self) -> Arc<Repository> {
        let (clock, random) = (Arc::clone(&self.context.clock), Arc::clone(&self.context.random));
        let copies = self.settings.copies.iter().map(|copy| {
            let objects = Arc::new(Directory::new(self.folder.path().join(&copy.name)));
            Copy { name: copy.name.clone(), objects: objects as _ }
        });
        let repository = Repository::new(copies.collect(), self.key.clone(), KEEP, clock, random);
        Arc::new(repository.bases_apart(self.settings.intervals()))
    }

    /// The host takes a full base and a piece of the log behind it, so many hours after the last, and the server looks.
    async fn base_after(&mut self, backup: &str, hours: i64) -> String {
        self.world.clock.suspend(Span::from_secs(hours * 3600));
        let repository = self.repository();
        let mut set = SetWriter::begin(Arc::clone(&repository), backup, "mariadb").await.expect("begun");
        set.stream("base", &b"a base"[..], |_| {}).await.expect("streamed");
        let manifest = set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("finished");
        let (mut log, last) = LogWriter::open(repository, backup, "log1").await.expect("open");
        let at = last.map_or(0, |last| last.name.end);
        log.append(1, at, at + 9, &0, b"a piece".to_vec()).await.expect("added");
        self.look_after(Span::from_secs(60), true).await;
        manifest.set
    }

    fn is_there(&self, copy: &str, name: &str) -> bool {
        self.folder.path().join(copy).join(name).exists()
    }

    /// Whether a base is there, with its key.
    fn has(&self, copy: &str, set: &str) -> bool {
        let there = self.is_there(copy, &format!("sets/shop-db/{set}/manifest"));
        assert_eq!(there, self.is_there(copy, &format!("keys/sets/shop-db/{set}")), "{copy}: {set}");
        there
    }

    /// The host puts an object of its own at both copies.
    async fn host_puts(&self, name: &str) {
        self.repository().put(name, Bytes::from_static(b"by the host")).await.expect("put");
    }
}

/// Promise BK-6: what was destroyed at one copy is not brought back from another one, that was away or has nobody who destroys.
#[tokio::test]
async fn what_was_destroyed_at_one_copy_is_not_brought_back() {
    let mut server = Server::of_database();
    let first = server.base_after("shop-db", 0).await;
    let second = server.base_after("shop-db", 48).await;
    let (far, away) = (server.folder.path().join("far"), server.folder.path().join("away"));
    std::fs::rename(&far, &away).expect("moved");
    server.look_after(KEEP + Span::from_secs(3600), true).await;
    assert!(!server.has("near", &first) && server.has("near", &second));
    std::fs::rename(&away, &far).expect("moved back");
    let logs = |server: &Server, copy: &str| {
        let days = std::fs::read_dir(server.folder.path().join(copy).join("logs/shop-db/log1")).expect("a folder");
        days.filter(|day| day.as_ref().expect("listed").path().read_dir().expect("a folder").next().is_some()).count()
    };
    assert_eq!((logs(&server, "near"), logs(&server, "far")), (1, 2));
    let levelled = server.repository().level("", |_| false).await.expect("levelled");
    assert_eq!((levelled.copied, levelled.errors.len()), (0, 0));
    assert!(!server.has("near", &first) && server.has("far", &first) && logs(&server, "near") == 1);
    // What is kept is brought, as ever.
    std::fs::remove_file(server.folder.path().join(format!("near/sets/shop-db/{second}/manifest"))).expect("removed");
    assert_eq!(server.repository().level("", |_| false).await.expect("levelled").copied, 1);
    server.look_after(Span::from_secs(3600), true).await;
    assert!(!server.has("far", &first) && server.has("far", &second) && logs(&server, "far") == 1);
}

/// Promise BK-6: every second of what is kept can be restored, though a base came late.
#[tokio::test]
async fn a_base_stays_until_the_next_one_is_older_than_what_is_kept() {
    let mut server = Server::of_database();
    let first = server.base_after("shop-db", 0).await;
    let second = server.base_after("shop-db", 72).await;
    let third = server.base_after("shop-db", 6).await;
    server.look_after(KEEP - Span::from_secs(7 * 3600), true).await;
    assert!(server.has("near", &first), "what lies between it and the next one is kept for five hours more");
    server.look_after(Span::from_secs(2 * 3600), true).await;
    assert!(!server.has("near", &first) && !server.has("far", &first));
    assert!(server.has("near", &second) && server.has("far", &third));
    assert_eq!(server.late(), Some(false));
}

/// What a host adds has no base destroyed before its time, whatever time the name says.
#[tokio::test]
async fn a_host_has_no_base_destroyed_by_what_it_adds() {
    let mut server = Server::of_database();
    let older = server.base_after("shop-db", 0).await;
    let newest = server.base_after("shop-db", 6).await;
    // No base comes any more.
    server.look_after(KEEP + Span::from_days(10), true).await;
    assert!(!server.has("near", &older) && server.has("near", &newest));
    let day = |set: &str, days: i64| {
        let at = set_time(set).expect("a time") + Span::from_days(days);
        at.to_rfc3339().replace(['-', ':'], "")
    };
    // One in the future, one that claims to be nearly as old as the newest, one of now; with manifest and key, and without.
    for (number, days) in [(1, 40_000), (2, 1), (3, 40)] {
        for whole in [true, false] {
            let folder = format!("sets/shop-db/{}-{}000000{number}", day(&newest, days), u8::from(whole));
            if whole {
                server.host_puts(&format!("keys/{folder}")).await;
                server.host_puts(&format!("{folder}/manifest")).await;
            } else {
                server.host_puts(&format!("{folder}/base.00001")).await;
            }
        }
    }
    for _ in 0..3 {
        server.look_after(Span::from_days(9), true).await;
        assert!(server.has("near", &newest) && server.has("far", &newest));
    }
}

impl Server {
    /// What was destroyed, in which folders, at the copy `near`.
    fn destroyed(&self) -> Vec<String> {
        let all = self.world.journal.of::<Destroyed>();
        all.into_iter().filter(|it| it.copy == "near").map(|it| it.folder).collect()
    }
}

/// Looks at a backup of MariaDB in a directory as a server would at that instant, and says which folders it has destroyed.
pub(crate) async fn destroyed_at(directory: &std::path::Path, backup: &str, at: Time) -> Vec<String> {
    let mut settings = settings();
    settings.copies[0].place = PlaceSettings::Directory(directory.to_owned());
    backup.clone_into(&mut settings.mariadb[0].name);
    let world = engine::sim::World::at(at);
    let context = world.context("server.expiry".parse().expect("a name")).expect("a context");
    let config = watch::Sender::new(Arc::new(Config::default())).subscribe();
    let mut expiry = Expiry::new(config, Arc::clone(&world.journal) as _, None);
    expiry.look(&context, &settings, "r1", true).await.expect("looked");
    world.journal.of::<Destroyed>().into_iter().map(|it| it.folder).collect()
}

/// Promise BK-6: what has left the policy is kept no longer than anything else, and nothing of it is spared.
#[tokio::test]
async fn a_backup_that_has_left_the_policy_is_destroyed_like_any_other() {
    let mut server = Server::new();
    server.take("a file").await;
    server.look_after(Span::from_secs(60), true).await;
    server.settings.files.clear();
    server.settings.mariadb = settings().mariadb;
    let first = server.base_after("other", 0).await;
    let second = server.base_after("other", 48).await;
    server.look_after(KEEP - Span::from_days(3), true).await;
    assert!(server.is_there("near", &format!("sets/other/{first}/manifest")) && server.destroyed().is_empty());
    assert_eq!(server.snapshots("far").len(), 1);
    server.look_after(Span::from_secs(12 * 3600), true).await;
    assert_eq!(server.destroyed(), Vec::<String>::new());
    server.look_after(Span::from_days(5), true).await;
    server.look_after(Span::from_secs(3000), true).await;
    for copy in ["near", "far"] {
        let repository = server.repository();
        for prefix in ["sets/other/", "keys/", "logs/other/", "restic/"] {
            let (left, _) = repository.list(prefix).await.expect("listed");
            assert_eq!(left.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "{copy}");
        }
    }
    let destroyed = server.destroyed();
    for set in [first, second] {
        assert!(destroyed.contains(&format!("sets/other/{set}")), "{destroyed:?}");
    }
    assert!(destroyed.contains(&"restic/www".to_owned()), "{destroyed:?}");
    assert_eq!(server.late(), Some(false));
}

/// A lease holds for an hour: what is left of it is in nobody's way, and does not pile up.
#[tokio::test]
async fn leases_are_removed_once_they_have_ended() {
    let mut server = Server::new();
    server.take("a file").await;
    let leases = |server: &Server| {
        let folder = server.folder.path().join("near/leases/www");
        std::fs::read_dir(folder).expect("a folder").count()
    };
    server.look_after(Span::from_secs(60), true).await;
    assert!(leases(&server) > 0);
    server.look_after(Span::from_days(2), true).await;
    assert_eq!(leases(&server), 0);
}

/// A bucket with a lock, in which there are bases that were begun so many days ago, the oldest first.
struct Bucket {
    server: StrictS3,
    looks: Server,
    context: Context,
    sets: Vec<String>,
}

impl Bucket {
    async fn with_bases(days_ago: &[i64], locked_until: Option<Time>) -> Self {
        let server = StrictS3::start(&[("shop", strict_s3::BucketSettings::default())]);
        let mut looks = Server::of_database();
        // What is signed is signed by the clock of the machine.
        let now = engine::Clock::now(&engine::clock::SystemClock);
        looks.world = engine::sim::World::at(now);
        looks.context = looks.world.context("server.expiry".parse().expect("a name")).expect("a context");
        let config = watch::Sender::new(Arc::new(Config::default())).subscribe();
        looks.expiry = Expiry::new(config, Arc::clone(&looks.world.journal) as _, None);
        let mut bucket = Self { server, context: looks.context.clone(), looks, sets: Vec::new() };
        bucket.looks.settings.copies.truncate(1);
        bucket.looks.settings.copies[0].place = PlaceSettings::S3(Box::new(bucket.settings(HOST)));
        let host = S3::new(&bucket.settings(HOST), &bucket.context).expect("a bucket");
        for days in days_ago {
            let begun = (now - Span::from_days(*days)).to_rfc3339();
            let begun: String = begun.chars().take(19).filter(|c| !"-:".contains(*c)).collect();
            let set = format!("{begun}Z-0000000a");
            for name in [format!("keys/sets/shop-db/{set}"), format!("sets/shop-db/{set}/manifest")] {
                host.put(&name, Bytes::from_static(b"x"), locked_until).await.expect("put");
            }
            bucket.sets.push(set);
        }
        bucket
    }

    fn settings(&self, identity: strict_s3::Identity) -> BucketSettings {
        let secret = self.looks.folder.path().join(identity.access_key);
        std::fs::write(&secret, identity.secret_key).expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        BucketSettings {
            endpoint: self.server.endpoint(),
            bucket: "shop".into(),
            prefix: None,
            path_style: true,
            region: "eu-north-1".into(),
            access_key: identity.access_key.into(),
            secret_key: crate::config::SecretPlace::File(secret),
            lock: true,
            bytes_per_second_max: None,
            destroys: None,
        }
    }

    /// The server gets an identity that deletes.
    fn may_destroy(&mut self) {
        let (access_key, secret_key) = (SERVER.access_key.into(), self.settings(SERVER).secret_key);
        let destroys = Some(Identity { access_key, secret_key });
        let settings = BucketSettings { destroys, ..self.settings(HOST) };
        self.looks.settings.copies[0].place = PlaceSettings::S3(Box::new(settings));
    }

    fn has(&self, set: &str) -> bool {
        !self.server.versions("shop", &format!("sets/shop-db/{set}/manifest")).is_empty()
    }
}

/// Promise BK-6: where the server has no identity that deletes, what is due there is found, and destroyed once it has one.
#[tokio::test]
async fn a_bucket_that_nobody_may_delete_from_is_found() {
    let mut bucket = Bucket::with_bases(&[20, 10, 1], None).await;
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert_eq!(bucket.looks.late(), Some(false), "nothing is due");
    let mut bucket = Bucket::with_bases(&[80, 40, 1], None).await;
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert_eq!(bucket.looks.late(), Some(true));
    let words = bucket.looks.words(EXPIRED_KEPT);
    assert!(words.contains(&bucket.sets[0]) && words.contains("write `destroy_access_key`"), "{words}");
    let covered = bucket.looks.world.journal.of::<Covered>();
    assert!(covered.iter().flat_map(|it| &it.gaps).all(|gap| gap.finding.is_some()), "it was looked at: {covered:?}");
    bucket.may_destroy();
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert_eq!(bucket.looks.late(), Some(false));
    assert!(!bucket.has(&bucket.sets[0]) && bucket.has(&bucket.sets[1]) && bucket.has(&bucket.sets[2]));
}

/// `garant check` says so before anything is due.
#[test]
fn a_bucket_that_nobody_may_delete_from_is_warned_of() {
    let warnings = |destroys: &str| {
        let policy = format!(
            r#"
            [journal]
            name = "shop.example"
            [[service]]
            name = "backup"
            [[region]]
            name = "far"
            provider = "hetzner"
            [backup]
            service = "backup"
            key = {{ file = "/etc/garant/backup.key" }}
            mariadb = [{{ name = "shop-db" }}]
            [[backup.copy]]
            name = "far"
            region = "far"
            endpoint = "https://s3.example"
            bucket = "shop"
            access_key = "AK1"
            secret_key = {{ file = "/etc/garant/s3.key" }}
            {destroys}
            "#
        );
        let config = Config::of_text(&policy);
        policy::Part::warnings(&config).into_iter().filter(|warning| warning.contains(EXPIRED_KEPT)).collect::<Vec<_>>()
    };
    let warned = warnings("");
    assert!(warned.len() == 1 && warned[0].contains("nobody may delete from the copy `far`"), "{warned:?}");
    let both = "destroy_access_key = \"AK2\"\ndestroy_secret_key = { file = \"/etc/garant/s3-destroy.key\" }";
    assert_eq!(warnings(both), Vec::<String>::new());
}

/// What is locked is not late: but for a lock that is longer than any of ours.
#[tokio::test]
async fn what_is_locked_is_late_only_after_its_lock() {
    let now = engine::Clock::now(&engine::clock::SystemClock);
    let mut bucket = Bucket::with_bases(&[48, 41, 1], Some(now + Span::from_secs(7200))).await;
    bucket.looks.settings.mariadb[0].full_every = Span::from_days(7);
    bucket.may_destroy();
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert!(bucket.has(&bucket.sets[0]), "its lock is that of a base that was late");
    assert_eq!(bucket.looks.late(), Some(false), "due for four days");
    // A day is the most by which a base of every six hours is locked for longer.
    bucket.looks.settings.mariadb[0].full_every = Span::from_secs(6 * 3600);
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert_eq!(bucket.looks.late(), Some(true));
    assert!(bucket.looks.words(EXPIRED_KEPT).contains("it is locked until"), "{}", bucket.looks.words(EXPIRED_KEPT));
    bucket.server.pass(std::time::Duration::from_hours(3));
    bucket.looks.look_after(Span::from_secs(1), true).await;
    assert!(!bucket.has(&bucket.sets[0]) && bucket.looks.late() == Some(false));
}

/// What a bucket missed is locked there as if it had come in time, and not for as long again.
#[tokio::test]
async fn what_is_brought_to_a_bucket_is_locked_by_its_own_time() {
    let mut bucket = Bucket::with_bases(&[], None).await;
    let now = bucket.context.clock.now();
    let near = crate::config::CopySettings {
        name: "near".into(),
        place: PlaceSettings::Directory(bucket.looks.folder.path().join("near")),
        ..bucket.looks.settings.copies[0].clone()
    };
    bucket.looks.settings.copies = vec![near];
    // Five days ago, and what is left of a backup that ended long before.
    let at = |days: i64| engine::sim::World::at(now - Span::from_days(days));
    let mut sets = Vec::new();
    for days in [100, 5] {
        bucket.looks.context = at(days).context("agent".parse().expect("a name")).expect("a context");
        let mut set = SetWriter::begin(bucket.looks.repository(), "shop-db", "mariadb").await.expect("begun");
        set.stream("base", &b"a base"[..], |_| {}).await.expect("streamed");
        sets.push((set.set().to_owned(), bucket.looks.context.clock.now()));
        set.finish(|_| {}).await.expect("finished");
    }
    let far = Arc::new(S3::new(&bucket.settings(HOST), &bucket.context).expect("a bucket"));
    let near = Arc::new(Directory::new(bucket.looks.folder.path().join("near")));
    let level = async || {
        let copies = vec![
            Copy { name: "near".into(), objects: Arc::clone(&near) as _ },
            Copy { name: "far".into(), objects: Arc::clone(&far) as _ },
        ];
        let (clock, random) = (Arc::clone(&bucket.context.clock), Arc::clone(&bucket.context.random));
        let repository = Repository::new(copies, bucket.looks.key.clone(), KEEP, clock, random);
        let levelled = repository.bases_apart(bucket.looks.settings.intervals()).level("", |_| false).await;
        assert_eq!(levelled.expect("listed").errors, []);
    };
    level().await;
    let interval = Span::from_secs(6 * 3600);
    let (newest, begun) = &sets[1];
    let name = format!("sets/shop-db/{newest}/manifest");
    let until = far.locked_until(&name).await.expect("it answers").expect("locked");
    assert!(until <= *begun + KEEP + interval + Span::from_secs(1), "{until}");
    // Its own time is over, and it is needed still.
    assert!(far.size(&format!("sets/shop-db/{}/manifest", sets[0].0)).await.expect("it answers").is_some());
}
