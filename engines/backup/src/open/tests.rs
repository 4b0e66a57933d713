//! What is read after an attack.

use engine::Clock as _;
use engine::clock::SystemClock;
use engine::random::SeededRandom;
use engine::sim::World;
use event::Span;
use strict_s3::{BucketSettings as Behaviour, HOST, SERVER, StrictS3};

use super::*;
use crate::config::{BucketSettings, Config, SecretPlace};
use crate::files::{Files, Point, RestoreOptions, VOLUMES};
use crate::objects::{Destroy as _, list_all};
use crate::sealed::{Catalog, LogWriter, SetWriter};

const RANSOM: &[u8] = b"pay, and you may have it back";

/// BK-9: whoever has the host puts something over every object, hides half of them, adds some, and empties the directory. What was
/// backed up before comes back exactly.
#[tokio::test]
async fn after_an_attack_everything_comes_back_as_it_was_first_written() {
    let server = StrictS3::start(&[("shop", Behaviour::default())]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["near", "state", "data"] {
        std::fs::create_dir(path(name)).expect("made");
    }
    let secret = |name: &str, text: &str| {
        std::fs::write(path(name), text).expect("written");
        std::fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        SecretPlace::File(path(name))
    };
    let bucket = |identity: strict_s3::Identity| BucketSettings {
        endpoint: server.endpoint(),
        bucket: "shop".into(),
        prefix: None,
        path_style: true,
        region: "eu-north-1".into(),
        access_key: identity.access_key.into(),
        secret_key: secret(identity.access_key, identity.secret_key),
        lock: true,
        bytes_per_second_max: None,
        destroys: None,
    };
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
        copy = [
          { name = "near", region = "near", directory = "/mnt/backup" },
          { name = "far", region = "near", directory = "/mnt/other" },
        ]
        mariadb = [{ name = "shop-db" }]
    "#;
    let mut document = policy::Document::from_text("garant.toml", policy);
    let nouns = policy::Nouns::read(&mut document);
    let config = <Config as policy::Part>::read(&mut document, &nouns);
    let mut settings = config.settings().expect("it is sound").clone();
    settings.copies[0].place = PlaceSettings::Directory(path("near"));
    settings.copies[1].place = PlaceSettings::S3(Box::new(bucket(HOST)));
    settings.key = secret("key", &RepositoryKey::random(&SeededRandom::new(7)).text());
    let world = World::at(SystemClock.now());
    let context = world.context("agent".parse().expect("a name")).expect("a context");

    // Before.
    let repository = open(&settings, &context).await.expect("open");
    let mut noise = vec![0; 3_000_000];
    repository.random().fill(&mut noise);
    std::fs::write(path("data/noise"), &noise).expect("written");
    std::fs::write(path("data/text"), "as it was").expect("written");
    let files = Files {
        name: "www".into(),
        paths: vec![path("data")],
        volumes: Vec::new(),
        volumes_in: VOLUMES.into(),
        exclude: Vec::new(),
        one_file_system: false,
        may_be_empty: false,
    };
    let taken = files.take(&context, &repository, &path("state"), &()).await.expect("taken");
    let mut set = SetWriter::begin(Arc::clone(&repository), "shop-db", "mariadb").await.expect("begun");
    set.stream("data", &noise[..], |_| {}).await.expect("added");
    let manifest = set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("complete");
    let (mut log, _) = LogWriter::open(Arc::clone(&repository), "shop-db", "log1").await.expect("open");
    log.append(1, 0, 9, &(), b"committed".to_vec()).await.expect("added");
    drop((repository, log));

    // The attack, a day later. Whoever may not delete hides nothing; this one may.
    server.pass(std::time::Duration::from_hours(24));
    server.set("shop", Behaviour { conditions: false, ..Behaviour::default() });
    let by_host = S3::new(&bucket(HOST), &context).expect("a bucket");
    let by_other = S3::new(&bucket(SERVER), &context).expect("a bucket");
    let all = list_all(&by_host, "", 10_000).await.expect("listed");
    assert!(all.len() > 8, "{all:?}");
    for (number, listed) in all.iter().enumerate() {
        by_host.put(&listed.name, RANSOM.into(), None).await.expect("put over it");
        if number % 2 == 0 {
            by_other.hide(&listed.name).await.expect("hidden");
        }
    }
    let added = format!("restic/www/index/{}", "f".repeat(64));
    by_host.put(&added, RANSOM.into(), None).await.expect("added");
    std::fs::remove_dir_all(path("near")).expect("removed");
    std::fs::create_dir(path("near")).expect("made");

    let point = Point::At(world.now());
    let restore = async |reading, into: &str| {
        let repository = open_as(&settings, &context, reading).await.expect("open");
        let options = RestoreOptions::default();
        files.restore(&context, &repository, &point, &path(into), options, &()).await
    };
    restore(Reading::AsItIs, "lost").await.expect_err("nothing is left of it");
    restore(Reading::AsFirstWritten(None), "poisoned").await.expect_err("an index that the attacker has added");
    let before = Reading::AsFirstWritten(Some(world.now() + Span::from_secs(12 * 3600)));
    let restored = restore(before, "restored").await.expect("restored");
    assert!(restored.unwritten.is_empty() && restored.snapshot.id == taken.snapshot, "{restored:?}");
    let data = path("restored").join(path("data").strip_prefix("/").expect("absolute"));
    assert!(std::fs::read(data.join("noise")).expect("there") == noise);
    assert_eq!(std::fs::read_to_string(data.join("text")).expect("there"), "as it was");

    let repository = open_as(&settings, &context, before).await.expect("open");
    assert_eq!(repository.copies().len(), 1, "a directory keeps no versions");
    let catalog = Catalog::read(&repository, "shop-db").await.expect("read");
    assert_eq!(catalog.sets.iter().map(|set| &set.manifest).collect::<Vec<_>>(), [&manifest]);
    let mut base = Vec::new();
    catalog.read_stream(&manifest.set, &manifest.streams[0], &mut base, |_| {}).await.expect("whole");
    assert!(base == noise);
    let pieces = catalog.all_pieces("log1").await.expect("listed");
    let (_, piece) = repository.fetch(&pieces[0].folder, &pieces[0].name.to_string()).await.expect("whole");
    assert_eq!((pieces.len(), piece), (1, b"committed".to_vec()));

    // Where no copy keeps versions, that is said.
    settings.copies.pop();
    let error = open_as(&settings, &context, before).await.expect_err("a directory alone").to_string();
    assert!(error.contains("no copy is a bucket"), "{error}");
}
