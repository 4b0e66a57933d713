//! Whatever breaks, a restore is exact or is none, and says why.

use std::path::PathBuf;

use drawn::Draws;

use super::ledger::Ledger;
use super::*;
use crate::small_disk::SmallDisk;

/// Objects of the logs in a repository, the oldest first.
pub(super) fn pieces(shelf: &Shelf) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![shelf.path().join("logs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("there").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { all.push(entry) }
        }
    }
    all.sort();
    all
}

async fn refused(shelf: &Shelf, to: Time) -> String {
    let place = Place::new();
    let error = place.restore(shelf, to).await.expect_err("it can't be reached");
    assert!(matches!(error, DatabaseError::Unreachable(_)), "{error}");
    assert!(!place.data().exists(), "nothing was restored");
    error.to_string()
}

/// BK-3: an instant that is not proved to be there is refused, and never another one given instead.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_reached_is_refused() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let nothing = refused(&shelf, SystemClock.now()).await;
    assert!(nothing.contains("it has no base"), "{nothing}");
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    let early = next_second().await;
    let full = base(&server, &shelf, true).await;
    let between = next_second().await;
    for order in 0..3 {
        server.run(&[&format!("INSERT INTO shop.orders VALUES ({order})")]).await;
        following.caught_up().await;
    }
    let in_first = next_second().await;
    server.run(&["INSERT INTO shop.orders VALUES (3)"]).await;
    let through = following.caught_up().await.through;
    let said = refused(&shelf, through + Span::from_secs(1)).await;
    assert!(said.contains("its log ends behind"), "{said}");
    let said = refused(&shelf, early).await;
    assert!(said.contains("its first base shows"), "{said}");

    // The log is begun anew: behind its end there is nothing until the next base.
    server.run(&["RESET MASTER", "INSERT INTO shop.orders VALUES (4)"]).await;
    following.failed().await;
    let lost = next_second().await;
    let mut following = Following::of(&server, &shelf);
    assert!(following.next().await.is_new_log);
    let second = base(&server, &shelf, false).await;
    assert_eq!(second.kind, "full", "an incremental one would build on another past");
    assert!(second.log.is_some() && second.log != full.log);
    let in_second = next_second().await;
    server.run(&["INSERT INTO shop.orders VALUES (5)"]).await;
    following.caught_up().await;
    following.stop().await;
    let said = refused(&shelf, lost).await;
    assert!(said.contains("its log ends behind") && said.contains("; the next base shows"), "{said}");
    for (to, orders) in [(in_first, 3), (in_second, 5)] {
        let place = Place::new();
        place.restore(&shelf, to).await.expect("restored");
        assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), orders);
    }

    // A piece is lost: what lies before can be restored, and what lies behind can't.
    let of_first = pieces(&shelf).into_iter().filter(|path| path.to_string_lossy().contains("/000001-"));
    let with_bytes: Vec<PathBuf> = of_first.collect();
    std::fs::remove_file(&with_bytes[with_bytes.len() - 3]).expect("removed");
    let said = refused(&shelf, in_first).await;
    assert!(said.contains("a piece of its log is missing behind"), "{said}");
    let place = Place::new();
    place.restore(&shelf, between).await.expect("restored");

    // Another key, and a base that is damaged.
    let other = shelf.open_with(RepositoryKey::random(&SystemRandom));
    let error = Place::new().restore_with(&other, in_second).await.expect_err("another key");
    assert!(error.to_string().contains("which is not the one that is given"), "{error}");
    let part = shelf.path().join(format!("sets/{BACKUP}/{}/base.00001", second.set));
    let mut bytes = std::fs::read(&part).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).expect("written");
    let error = Place::new().restore(&shelf, in_second).await.expect_err("damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
}

/// Told to stop while it can't make durable what it has received, it does not say that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_added_before_the_end_is_said() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    following.next().await;
    let away = shelf.path().with_extension("away");
    std::fs::rename(shelf.path(), &away).expect("moved");
    server.run(&["CREATE DATABASE shop"]).await;
    next_second().await;
    following.context.stop.cancel();
    let error = following.failed().await;
    assert!(matches!(error, DatabaseError::Repository(_)), "{error}");
    std::fs::rename(&away, shelf.path()).expect("moved back");
}

/// A repository whose disk is full takes neither log nor base; once there is room it has all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_repository_delays_and_loses_nothing() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let disk = SmallDisk::at(shelf.path(), "size=64m").await;
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.orders VALUES (1)"]).await;
    following.caught_up().await;

    let filler = disk.fill();
    let before = next_second().await;
    server.run(&["INSERT INTO shop.orders VALUES (2)"]).await;
    let shipped = tokio::time::timeout(Span::from_secs(8).to_std(), following.shipped.recv()).await;
    assert!(shipped.is_err(), "nothing is said to be durable: {shipped:?}");
    let (context, repository) = (context(), shelf.open());
    let error = mariadb(&server).take_base(&context, &repository, true, &()).await.expect_err("it is full");
    assert!(error.to_string().contains("full") || error.to_string().contains("No space"), "{error}");
    let after = next_second().await;
    server.run(&["INSERT INTO shop.orders VALUES (3)"]).await;

    std::fs::remove_file(filler).expect("removed");
    following.caught_up().await;
    base(&server, &shelf, true).await;
    following.stop().await;
    for (to, orders) in [(before, 1), (after, 2)] {
        let place = Place::new();
        place.restore(&shelf, to).await.expect("restored");
        assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), orders);
    }
}

/// A disk that is too small for the base is refused before anything is written; one that becomes full later ends the restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_a_restore() {
    let server = Server::new(&["--max-allowed-packet=64M"]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.notes (note LONGBLOB)"]).await;
    following.next().await;
    let full = base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.notes VALUES (REPEAT('a', 30000000))"]).await;
    let to = next_second().await;
    following.caught_up().await;
    following.stop().await;
    let megabytes = full.streams[0].size / 1_000_000;
    let sizes = [
        (megabytes - 5, "the disk has room for"),
        (megabytes + 10, "the disk is full"),
        (megabytes + 35, "the disk is full"),
    ];
    for (size, why) in sizes {
        let place = Place::new();
        let _disk = SmallDisk::at(&place.data(), &format!("size={size}m")).await;
        let error = place.restore(&shelf, to).await.expect_err("it is full").to_string();
        assert!(error.contains(why), "{size} MB: {error}");
    }
}

/// Kills mariadb-backup when it has given something.
struct Killer(PathBuf);

impl crate::database::Watcher for Killer {
    fn doing(&self, _: &str, done: u64, _: Option<u64>) {
        use std::os::unix::ffi::OsStrExt as _;
        let path = self.0.as_os_str().as_bytes();
        for entry in std::fs::read_dir("/proc").expect("there").flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_backup =
                arguments.split(|byte| *byte == 0).next().is_some_and(|name| name.ends_with(b"mariadb-backup"));
            if done > 0 && is_backup && arguments.windows(path.len()).any(|part| part == path) {
                let pid = rustix::process::Pid::from_raw(number).expect("a number");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
            }
        }
    }
}

/// BK-1: what gives a base fails in the middle of it: there is no base, and the one before is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_base_is_none() {
    let server = Server::new(&["--max-allowed-packet=64M"]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.notes (note LONGBLOB)"]).await;
    following.next().await;
    let before = base(&server, &shelf, true).await;
    for _ in 0..3 {
        server.run(&["INSERT INTO shop.notes VALUES (REPEAT('a', 30000000))"]).await;
    }
    let (context, repository) = (context(), shelf.open());
    let killer = Killer(server.path().to_owned());
    let error = mariadb(&server).take_base(&context, &repository, true, &killer).await.expect_err("it was killed");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    let catalog = crate::sealed::Catalog::read(&repository, BACKUP).await.expect("a catalog");
    assert_eq!((catalog.sets.len(), &catalog.sets[0].manifest, catalog.unfinished.len()), (1, &before, 1));
    assert!(
        !server.path().join("garant").read_dir().expect("there").any(|_| true),
        "nothing is left in the folder of work"
    );
    following.stop().await;
}

/// BK-2: killed again and again while the log is received under load, each side in its turn, nothing is lost and nothing mixed.
#[tokio::test(flavor = "multi_thread")]
async fn kills_leave_no_trace_in_the_log() {
    let mut draws = Draws::from_environment();
    let mut server = Server::new(&["--max-binlog-size=1M"]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    let mut ledger = Ledger::start(&server, &mut draws, 2).await;
    following.next().await;
    base(&server, &shelf, true).await;
    for round in 0..6 {
        tokio::time::sleep(Span::from_millis(draws.below(3000_i64)).to_std()).await;
        if round % 3 == 2 {
            server.kill().await;
            ledger.end(false).await;
            following.failed().await;
            server.start().await;
            ledger.go_on(&server, &mut draws).await;
        } else {
            following.kill().await;
        }
        following = Following::of(&server, &shelf);
    }
    tokio::time::sleep(Span::from_secs(2).to_std()).await;
    ledger.end(true).await;
    let to = next_second().await;
    let last = following.caught_up().await;
    following.stop().await;
    assert_eq!(
        crate::mariadb::lineage::logs(&shelf.open(), BACKUP).await.expect("listed"),
        std::slice::from_ref(&last.log)
    );
    super::following::same(&server, &shelf, &last.log).await;
    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    let there = ledger.check(&Server::on(place).await, to).await;
    assert!(there >= ledger.acknowledged(), "all of them");
}

/// The last transaction of a file of the binary log once more, with the next number, up to the middle of the event that commits it: what
/// a server that is killed leaves.
fn half_a_transaction(file: &[u8]) -> Vec<u8> {
    let (mut events, mut at) = (Vec::new(), 4);
    while at < file.len() {
        let size = u32::from_le_bytes(file[at + 9..at + 13].try_into().expect("four")) as usize;
        events.push(file[at..at + size].to_vec());
        at += size;
    }
    let gtid = events.iter().rposition(|event| event[4] == 162).expect("a transaction");
    let mut events = events.split_off(gtid);
    let sequence = u64::from_le_bytes(events[0][19..27].try_into().expect("eight")) + 1;
    events[0][19..27].copy_from_slice(&sequence.to_le_bytes());
    let mut half = Vec::new();
    for event in &mut events {
        let end = u32::try_from(file.len() + half.len() + event.len()).expect("small");
        event[13..17].copy_from_slice(&end.to_le_bytes());
        let body = event.len() - 4;
        let sum = crc32fast::hash(&event[..body]);
        event[body..].copy_from_slice(&sum.to_le_bytes());
        half.extend(&*event);
    }
    let last = events.last().expect("one").len();
    half.truncate(half.len() - last / 2);
    half
}

/// BK-2: a server that was killed while it wrote has left a transaction at the end of a file without its end: the same log goes on with
/// the next file, nothing that was committed is missing, and nothing of that transaction is there.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_transaction_at_the_end_of_a_file_ends_nothing() {
    let mut server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (name VARCHAR(20))"]).await;
    let first = following.caught_up().await;
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.orders VALUES ('one')"]).await;
    following.caught_up().await;
    server.kill().await;
    following.failed().await;
    let file = server.binlog(1);
    let mut log = std::fs::OpenOptions::new().append(true).open(server.path().join("data/binlog.000001")).expect("one");
    std::io::Write::write_all(&mut log, &half_a_transaction(&file)).expect("written");
    drop(log);
    server.start().await;
    server.run(&["INSERT INTO shop.orders VALUES ('two')"]).await;
    let mut following = Following::of(&server, &shelf);
    let again = following.caught_up().await;
    assert!(!again.is_new_log && again.log == first.log, "{again:?}");
    // Whoever follows again begins behind it, too.
    following.kill().await;
    server.run(&["INSERT INTO shop.orders VALUES ('three')"]).await;
    let to = next_second().await;
    let mut following = Following::of(&server, &shelf);
    assert_eq!(following.caught_up().await.log, first.log);
    following.stop().await;
    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    let rows = Server::on(place).await.rows("SELECT name FROM shop.orders ORDER BY name").await;
    assert_eq!(rows, [[Some("one".to_owned())], [Some("three".to_owned())], [Some("two".to_owned())]]);
}

/// A base, sealed as it is to be, of which nothing can be made: its one file is none of a server.
async fn no_base(shelf: &Shelf, like: &Manifest) -> String {
    let folder = server::folder();
    std::fs::write(folder.path().join("file"), "none of a server").expect("written");
    let pack = engine::Program::new("mbstream").args(["-c", "file", "-C"]).arg(folder.path());
    let packed = Programs::of_system().run(&pack).await.expect("packed").stdout;
    let mut writer = crate::sealed::SetWriter::begin(shelf.open(), BACKUP, &like.engine).await.expect("begun");
    writer.stream("base", &packed[..], |_| {}).await.expect("added");
    let finished = writer.finish(|manifest| {
        manifest.engine_version.clone_from(&like.engine_version);
        manifest.log.clone_from(&like.log);
        manifest.facts.clone_from(&like.facts);
    });
    finished.await.expect("finished").set
}

/// BK-3: the newest base is damaged, or nothing can be made of it: the one before does, and the restore says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_of_no_use_is_passed_over() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    let mut bases = Vec::new();
    for full in [true, false, true, false] {
        server.run(&[&format!("INSERT INTO shop.orders VALUES ({})", bases.len())]).await;
        bases.push(base(&server, &shelf, full).await);
        next_second().await;
    }
    let unpreparable = no_base(&shelf, &bases[2]).await;
    let unreadable = base(&server, &shelf, true).await.set;
    server.run(&["INSERT INTO shop.orders VALUES (4)"]).await;
    let to = next_second().await;
    following.caught_up().await;
    following.stop().await;
    let damage = |set: &str, object: &str| {
        let path = shelf.path().join(format!("sets/{BACKUP}/{set}/{object}"));
        let mut bytes = std::fs::read(&path).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    damage(&unreadable, "manifest");
    damage(&bases[3].set, "incremental.00001");

    let place = Place::new();
    let restored = place.restore(&shelf, to).await.expect("restored");
    let passed: Vec<(&str, &str)> =
        restored.passed_over.iter().map(|passed| (passed.set.as_str(), passed.why.as_str())).collect();
    assert_eq!(passed.len(), 3, "{passed:?}");
    assert!(passed[0].0 == unreadable && passed[0].1.contains("manifest"), "{passed:?}");
    assert!(passed[1].0 == unpreparable && passed[1].1.contains("mariadb-backup"), "{passed:?}");
    assert!(passed[2].0 == bases[3].set && passed[2].1.contains("damaged"), "{passed:?}");
    assert_eq!(restored.set, bases[2].set);
    assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), 5);

    // The full one that an incremental one builds on: both are of no use.
    damage(&bases[2].set, "base.00001");
    damage(&bases[0].set, "base.00001");
    let error = Place::new().restore(&shelf, to).await.expect_err("nothing is left");
    assert!(matches!(error, DatabaseError::Unreachable(_)), "{error}");
    for set in [&bases[0].set, &bases[2].set, &unpreparable, &unreadable] {
        assert!(error.to_string().contains(&format!("without the base {set}: ")), "{set}: {error}");
    }
}
