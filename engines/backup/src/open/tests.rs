//! What is read after an attack.

use std::path::Path;

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

/// Writes a secret into a folder.
fn secret(folder: &Path, name: &str, text: &str) -> SecretPlace {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    SecretPlace::File(path)
}

/// The bucket, by an identity.
fn bucket(folder: &Path, server: &StrictS3, identity: strict_s3::Identity) -> BucketSettings {
    BucketSettings {
        endpoint: server.endpoint(),
        bucket: "shop".into(),
        prefix: None,
        path_style: true,
        region: "eu-north-1".into(),
        access_key: identity.access_key.into(),
        secret_key: secret(folder, identity.access_key, identity.secret_key),
        lock: true,
        bytes_per_second_max: None,
        destroys: None,
    }
}

/// A policy with a copy in a directory and one in the bucket.
fn settings(folder: &Path, server: &StrictS3) -> Settings {
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
    let mut settings = Config::of_text(policy).settings().expect("it is sound").clone();
    settings.copies[0].place = PlaceSettings::Directory(folder.join("near"));
    settings.copies[1].place = PlaceSettings::S3(Box::new(bucket(folder, server, HOST)));
    settings.key = secret(folder, "key", &RepositoryKey::random(&SeededRandom::new(7)).text());
    settings
}

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
    let bucket = |identity| bucket(folder.path(), &server, identity);
    let mut settings = settings(folder.path(), &server);
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

/// BK-9: whoever has the host, with its credentials and the repository key, adds what is of a time to come, and keys of his own first. What
/// is there is restored as ever; and once he has put keys over ours as well, as it was first written.
#[tokio::test]
async fn neither_a_future_nor_another_key_keeps_anything_from_coming_back() {
    let server = StrictS3::start(&[("shop", Behaviour::default())]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["near", "state", "data"] {
        std::fs::create_dir(path(name)).expect("made");
    }
    let settings = settings(folder.path(), &server);
    let world = World::at(SystemClock.now());
    let context = world.context("agent".parse().expect("a name")).expect("a context");
    let repository = open(&settings, &context).await.expect("open");
    std::fs::write(path("data/text"), "as it was").expect("written");
    let files = Files { name: "www".into(), paths: vec![path("data")], ..Files::left("www") };
    let taken = files.take(&context, &repository, &path("state"), &()).await.expect("taken");
    let mut set = SetWriter::begin(Arc::clone(&repository), "shop-db", "mariadb").await.expect("begun");
    set.stream("base", &b"rows"[..], |_| {}).await.expect("added");
    let manifest = set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("complete");
    let (mut log, _) = LogWriter::open(Arc::clone(&repository), "shop-db", "log1").await.expect("open");
    log.append(1, 0, 9, &(), b"committed".to_vec()).await.expect("added");
    let point = Point::At(world.now());
    drop(log);

    // The future: whole bases and logs, sealed as ours are, and names that are of no time at all.
    server.pass(std::time::Duration::from_hours(24));
    let to_come = World::at(world.now() + Span::from_days(20_000));
    let (key, random) = (repository.key().clone(), Arc::clone(&context.random));
    let copies = repository.copies().to_vec();
    let by_host =
        Repository::new(copies.clone(), key, settings.keep, Arc::clone(&to_come.clock) as _, Arc::clone(&random));
    let by_host = Arc::new(by_host);
    let mut set = SetWriter::begin(Arc::clone(&by_host), "shop-db", "mariadb").await.expect("begun");
    set.stream("base", RANSOM, |_| {}).await.expect("added");
    set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("complete");
    let (mut log, _) = LogWriter::open(Arc::clone(&by_host), "shop-db", "log1").await.expect("open");
    log.append(7, 0, 1 << 40, &(), RANSOM.to_vec()).await.expect("added");
    // Another repository key, under which a base is added; and key files of restic that sort first.
    let other = RepositoryKey::random(&SeededRandom::new(666));
    let clock = Arc::clone(&context.clock);
    let of_other = Arc::new(Repository::new(copies, other.clone(), settings.keep, clock, random));
    let mut set = SetWriter::begin(Arc::clone(&of_other), "shop-db", "mariadb").await.expect("begun");
    set.stream("base", RANSOM, |_| {}).await.expect("added");
    set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("complete");
    let foreign = files.take(&context, &of_other, &path("state"), &()).await;
    assert!(foreign.is_err(), "another key opens nothing: {foreign:?}");
    let theirs = Files { name: "theirs".into(), ..files.clone() };
    theirs.take(&context, &of_other, &path("state"), &()).await.expect("taken");
    let (keys, _) = of_other.list("restic/theirs/keys/").await.expect("listed");
    let name = keys.keys().next().expect("a key file").clone();
    let file = of_other.get(&name, None, |_| true).await.expect("there");
    for first in ["0".repeat(64), "1".repeat(64)] {
        of_other.put(&format!("restic/www/keys/{first}"), file.clone()).await.expect("added");
    }
    drop((log, by_host, of_other));

    let restore = async |reading, into: &str| {
        let repository = open_as(&settings, &context, reading).await.expect("open");
        let options = RestoreOptions::default();
        let restored = files.restore(&context, &repository, &point, &path(into), options, &()).await?;
        assert!(restored.unwritten.is_empty() && restored.snapshot.id == taken.snapshot, "{restored:?}");
        let data = path(into).join(path("data").strip_prefix("/").expect("absolute"));
        assert_eq!(std::fs::read_to_string(data.join("text")).expect("there"), "as it was");
        Ok::<_, crate::files::FilesError>(())
    };
    let as_it_was = async |reading| {
        let repository = open_as(&settings, &context, reading).await.expect("open");
        let catalog = Catalog::read(&repository, "shop-db").await.expect("read");
        assert_eq!(catalog.sets.iter().map(|set| &set.manifest).collect::<Vec<_>>(), [&manifest]);
        let mut base = Vec::new();
        catalog.read_stream(&manifest.set, &manifest.streams[0], &mut base, |_| {}).await.expect("whole");
        assert_eq!(base, b"rows");
        let (_, last) = LogWriter::open(Arc::clone(&repository), "shop-db", "log1").await.expect("open");
        assert_eq!(last.map(|last| (last.name.file, last.name.end)), Some((1, 9)), "the log goes on from ours");
        // The next base is due by ours, and locks are extended of ours.
        crate::dependents::keep_locked(&repository, &catalog, "shop-db").await.expect("listed");
    };
    restore(Reading::AsItIs, "as it is").await.expect("restored");
    as_it_was(Reading::AsItIs).await;

    // Keys over ours: the directory is lost, the bucket keeps what came first.
    server.set("shop", Behaviour { conditions: false, ..Behaviour::default() });
    let bucket = S3::new(&bucket(folder.path(), &server, HOST), &context).expect("a bucket");
    for name in [format!("keys/sets/shop-db/{}", manifest.set), "restic/www/config".to_owned()] {
        std::fs::remove_file(path("near").join(&name)).expect("removed");
        let wrapped = other.wrap(&crate::sealed::DataKey::random(&*context.random), "sets", &*context.random);
        bucket.put(&name, wrapped.expect("wrapped").into(), None).await.expect("put over it");
    }
    restore(Reading::AsItIs, "lost").await.expect_err("the configuration is another one");
    let before = Reading::AsFirstWritten(Some(world.now() + Span::from_secs(12 * 3600)));
    restore(before, "as first written").await.expect("restored");
    as_it_was(before).await;
}
