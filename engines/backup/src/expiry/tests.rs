//! What is due, and what becomes of it.

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
