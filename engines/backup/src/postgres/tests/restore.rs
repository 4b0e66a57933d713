//! Restores that must be exact, and those that must fail.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Programs, Watcher};
use event::{Span, Time};
use tokio::sync::mpsc;

use super::super::Postgres;
use super::cluster::{Cluster, Follower, Kept, context, folder, now, restored, rewound, run};
use crate::database::{Database as _, DatabaseError, Restored};
use crate::objects::{Directory, Objects as _};
use crate::sealed::SetWriter;
use crate::small_disk::SmallDisk;

/// Somebody who wants to know when it begins.
struct Told(mpsc::UnboundedSender<()>);

impl Watcher for Told {
    fn doing(&self, _step: &str, _done: u64, _of: Option<u64>) {
        _ = self.0.send(());
    }
}

fn why(restored: Result<Restored, DatabaseError>) -> String {
    match restored {
        Err(DatabaseError::Unreachable(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A base, and everything up to the instant that is returned.
async fn kept_until_now(cluster: &Cluster, kept: &Kept, work: &[&str]) -> Time {
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    follower.next().await.expect("it follows");
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    for statement in work {
        cluster.ask(statement).await;
    }
    let until = now();
    follower.stop().await;
    until
}

/// BK-2: a table that was dropped is there the instant before, and the restore says which commits lie beside it.
#[tokio::test]
async fn a_table_that_was_dropped_is_back() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    cluster.ask("create table t (a int)").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    cluster.ask("insert into t select generate_series(1, 1000)").await;
    let before = now();
    cluster.ask("drop table t").await;
    cluster.ask("create table u (a int)").await;
    follower.through(now()).await;
    follower.stop().await;
    let (server, restored) = rewound(&kept, before).await;
    assert_eq!(server.ask("select count(*) from t").await, "1000");
    assert_eq!(server.ask("select to_regclass('u') is null").await, "t");
    assert_eq!(server.ask("select count(*) from pg_replication_slots").await, "0");
    let (last, next) = (restored.last_commit.expect("the insert"), restored.next_commit.expect("the drop"));
    assert!(last.at < before && before <= next.at && restored.bytes > 16 << 20, "{last:?} {next:?}");
    // Every file is as the checksums say.
    server.stop().await;
    run(super::cluster::as_postgres(format!("{}/pg_checksums", super::cluster::BIN))
        .arg("--check")
        .arg("-D")
        .arg(&server.data))
    .await;
}

/// BK-2: an instant near which nothing was committed is reached; one that nobody can vouch for is not, and the newest is not given
/// instead.
#[tokio::test]
async fn what_is_known_is_reached_and_nothing_else() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let too_early = now();
    let of = cluster.backup();
    assert!(why(restored(&kept, too_early).await.1).ends_with("it has no base"));
    let alone = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    assert!(why(restored(&kept, alone.consistent_at).await.1).contains("does not go on from the base"));
    let mut follower = Follower::start(&of, &kept.repository);
    follower.next().await.expect("it follows");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = now();
    let newest = follower.stop().await.last().expect("a piece").through;
    assert!(newest >= idle, "that nothing happened is known too");
    let (_server, restored_idle) = rewound(&kept, idle).await;
    assert_eq!(restored_idle.set, alone.set);
    assert!(restored_idle.next_commit.is_none());
    let (_folder, early) = restored(&kept, too_early).await;
    assert!(why(early).contains("its first base shows"));
    let (folder, late) = restored(&kept, newest + Span::from_secs(1)).await;
    let late = why(late);
    assert!(late.contains("its log ends behind") && late.contains("the newest instant"), "{late}");
    assert!(!folder.path().join("data").exists(), "nothing is written where nothing can be restored");
}

/// BK-2: a restored server that is promoted goes on as a timeline of its own, of which every instant can be restored, and every one of
/// before.
#[tokio::test]
async fn a_promoted_server_goes_on_in_the_same_log() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    cluster.ask("create table t (a int)").await;
    let on_1 = kept_until_now(&cluster, &kept, &["insert into t values (1)"]).await;
    let given_up = kept_until_now(&cluster, &kept, &["insert into t values (100)"]).await;
    cluster.stop().await;
    // Twice, each from the instant before the row that is given up. The second time the new timeline must not be that of the first.
    let (second, _) = rewound(&kept, on_1).await;
    let mut follower = Follower::start(&second.backup(), &kept.repository);
    second.ask("insert into t values (2)").await;
    let on_2 = now();
    follower.through(on_2).await;
    let shipped = follower.stop().await;
    assert!(shipped.iter().all(|piece| !piece.is_new_log), "{shipped:?}");
    second.stop().await;
    let (third, _) = rewound(&kept, on_1).await;
    assert_eq!(third.ask("select string_agg(a::text, ' ') from t").await, "1");
    assert_eq!(third.ask("select timeline_id from pg_control_checkpoint()").await, "3");
    let mut follower = Follower::start(&third.backup(), &kept.repository);
    third.ask("insert into t values (3)").await;
    let (on_3, with_base) = (now(), third.backup());
    follower.through(on_3).await;
    with_base.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    third.ask("insert into t values (4)").await;
    let behind = now();
    follower.through(behind).await;
    follower.stop().await;
    for (instant, rows) in [(on_1, "1"), (given_up, "1 100"), (on_2, "1 2"), (on_3, "1 3"), (behind, "1 3 4")] {
        let (server, ..) = rewound(&kept, instant).await;
        assert_eq!(server.ask("select string_agg(a::text, ' ' order by a) from t").await, rows);
    }
}

/// BK-2: while a server is set back nothing is committed, so an instant of that time is one of the end of what was given up. Where that
/// end is not known, for the server was killed, there is none: never one of what it was set back to.
#[tokio::test]
async fn an_instant_while_a_server_is_set_back_is_none_of_what_it_goes_on_with() {
    for in_good_order in [true, false] {
        let (cluster, kept) = (Cluster::new("").await, Kept::new());
        cluster.ask("create table t (a int)").await;
        let early = kept_until_now(&cluster, &kept, &["insert into t values (1)"]).await;
        let mut follower = Follower::start(&cluster.backup(), &kept.repository);
        cluster.ask("insert into t values (2)").await;
        let given_up = now();
        follower.through(given_up).await;
        if in_good_order {
            cluster.stop().await;
        } else {
            cluster.kill().await;
        }
        follower.ended().await.0.expect_err("the server has gone");
        let between = now();
        let (second, _) = rewound(&kept, early).await;
        let mut follower = Follower::start(&second.backup(), &kept.repository);
        second.ask("insert into t values (3)").await;
        let behind = now();
        follower.through(behind).await;
        follower.stop().await;
        for (instant, rows) in [(given_up, "1 2"), (between, "1 2"), (behind, "1 3")] {
            if instant == between && !in_good_order {
                let why = why(restored(&kept, between).await.1);
                assert!(why.contains("another past was gone on with"), "{why}");
                continue;
            }
            let (server, ..) = rewound(&kept, instant).await;
            assert_eq!(server.ask("select string_agg(a::text, ' ' order by a) from t").await, rows, "{in_good_order}");
        }
    }
}

/// Tablespaces, prepared transactions, settings by ALTER SYSTEM, and a server whose settings are not in its directory.
#[tokio::test]
async fn all_that_a_cluster_may_have_comes_back() {
    let (cluster, kept, place) = (Cluster::new("max_prepared_transactions = 5").await, Kept::new(), folder());
    cluster.ask(&format!("create tablespace fast location '{}'", place.path().display())).await;
    cluster.ask("create table t (a int) tablespace fast").await;
    cluster.ask("alter system set archive_command = 'touch /tmp/never'").await;
    let prepare = "begin; insert into t values (7); prepare transaction 'p'";
    let until =
        kept_until_now(&cluster, &kept, &["insert into t values (1)", prepare, "insert into t values (2)"]).await;
    let elsewhere = cluster.data.with_extension("conf");
    std::fs::rename(cluster.data.join("postgresql.conf"), &elsewhere).expect("moved");
    let without = kept_until_settings_elsewhere(&cluster, &kept).await;
    cluster.stop().await;
    drop(place);
    for until in [until, without] {
        let (server, restored) = rewound(&kept, until).await;
        assert_eq!(server.ask("select string_agg(a::text, ' ' order by a) from t").await, "1 2");
        assert_eq!(server.ask("select gid from pg_prepared_xacts").await, "p");
        server.ask("commit prepared 'p'").await;
        assert_eq!(server.ask("select sum(a) from t").await, "10");
        let at = server.ask("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'").await;
        assert!(Path::new(&at).starts_with(&restored.folder), "{at}");
        let altered = std::fs::read_to_string(restored.folder.join("postgresql.auto.conf")).expect("there");
        assert!(altered.contains("touch /tmp/never"), "{altered}");
        let settings = std::fs::read_to_string(restored.folder.join("postgresql.conf")).expect("there");
        assert_eq!(settings.contains("the fewest that it starts with"), until == without);
    }
}

/// A tablespace that was made behind the base is never replayed: the log names its path, which is that of the server that runs.
#[tokio::test]
async fn nothing_is_written_to_the_tablespaces_of_the_server_that_runs() {
    let (cluster, kept, place) = (Cluster::new("").await, Kept::new(), folder());
    let before = kept_until_now(&cluster, &kept, &["create table t (a int)"]).await;
    let mut follower = Follower::start(&cluster.backup(), &kept.repository);
    follower.next().await.expect("it follows");
    cluster.ask(&format!("create tablespace fast location '{}'", place.path().display())).await;
    cluster.ask("create table u tablespace fast as select 1 as a").await;
    let behind = now();
    follower.through(behind).await;
    let shipped = follower.stop().await;
    assert!(shipped.iter().any(|piece| piece.needs_base), "{shipped:?}");
    let (_, refused) = restored(&kept, behind).await;
    assert!(why(refused).contains("a tablespace was made"));
    let (server, ..) = rewound(&kept, before).await;
    assert_eq!(server.ask("select count(*) from t").await, "0");
}

/// A base of a server whose settings are elsewhere, as on Debian.
async fn kept_until_settings_elsewhere(cluster: &Cluster, kept: &Kept) -> Time {
    kept_until_now(cluster, kept, &["create table u (a int)"]).await
}

/// A base that is given up, by us or by the server, is none.
#[tokio::test]
async fn a_base_that_was_not_finished_is_none() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    cluster.ask("create table t as select i, repeat(md5(i::text), 30) from generate_series(1, 100000) i").await;
    let of = cluster.backup();
    for is_killed in [false, true] {
        let (of, repository) = (of.clone(), Arc::clone(&kept.repository));
        let (began, mut has_begun) = mpsc::unbounded_channel();
        let task =
            tokio::spawn(async move { of.take_base(&context(), &repository, true, &Told(began)).await.map(|_| ()) });
        has_begun.recv().await.expect("it has begun");
        if is_killed {
            cluster.kill().await;
            let error = task.await.expect("no panic").expect_err("the server is gone");
            assert!(error.to_string().contains("PostgreSQL of the backup crm-db"), "{error}");
        } else {
            task.abort();
            _ = task.await;
        }
    }
    let catalog = crate::sealed::Catalog::read(&kept.repository, "crm-db").await.expect("a catalog");
    assert!(catalog.sets.is_empty(), "{:?}", catalog.sets);
    assert!(why(restored(&kept, now()).await.1).ends_with("it has no base"));
    cluster.start().await;
}

/// What somebody puts beside the pieces, and what is damaged of what is there twice, leads nobody astray.
#[tokio::test]
async fn a_piece_that_cannot_be_opened_is_gone_without() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let work = ["create table t (a int)", "insert into t values (1)"];
    let until = kept_until_now(&cluster, &kept, &work).await;
    let catalog = crate::sealed::Catalog::read(&kept.repository, "crm-db").await.expect("a catalog");
    let log = catalog.logs().await.expect("logs").pop_first().expect("one");
    let pieces = catalog.all_pieces(&log).await.expect("pieces");
    let (first, last) = (&pieces[0], pieces.iter().max_by_key(|piece| piece.name.seq).expect("one"));
    let place = Directory::new(kept.folder.path());
    let (start, end) = (last.name.end, last.name.end + (1 << 30));
    for name in
        [format!("0000999999-00000001.{start:016x}-{end:016x}"), format!("0000999999-ffffffff.{:016x}-{end:016x}", 0)]
    {
        let name = format!("{}/{name}", first.folder);
        place.put(&name, Bytes::from_static(b"what somebody put there"), None).await.expect("put");
    }
    let (server, ..) = rewound(&kept, until).await;
    assert_eq!(server.ask("select a from t").await, "1");
    // One that is needed is named.
    let with_bytes = pieces.iter().filter(|piece| piece.name.start < piece.name.end);
    let needed = with_bytes.max_by_key(|piece| piece.name.seq).expect("one");
    let path = kept.folder.path().join(format!("{}/{}", needed.folder, needed.name));
    let mut bytes = std::fs::read(&path).expect("a piece");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let why = why(restored(&kept, until).await.1);
    assert!(why.contains(&needed.name.to_string()) && why.contains("can't be opened"), "{why}");
}

/// A disk that is full is said to be, whichever part of a restore fills it.
#[tokio::test]
async fn a_full_disk_is_said_to_be_full() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can make a small disk: not tested as this user");
        return;
    }
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let until = kept_until_now(&cluster, &kept, &["create table t (a int)"]).await;
    let catalog = crate::sealed::Catalog::read(&kept.repository, "crm-db").await.expect("a catalog");
    let base = catalog.sets[0].manifest.size();
    let mut said = Vec::new();
    for bytes in [base / 2, base + (8 << 20), base + (20 << 20)] {
        let (place, work) = (folder(), folder());
        let _disk = SmallDisk::at(place.path(), &format!("size={bytes}")).await;
        let into = place.path().join("data");
        let error = Postgres::restore(&context(), &kept.repository, "crm-db", until, &into, work.path(), &()).await;
        said.push(error.expect_err("the disk is full").to_string());
    }
    assert!(said[0].contains("the disk has room for"), "{said:?}");
    for said in &said[1..] {
        assert!(said.contains("No space left on device") || said.contains("the disk is full"), "{said}");
    }
    let programs = Programs::in_folders([]);
    let without = engine::Context { programs: Arc::new(programs), ..context() };
    let (into, work) = (folder(), folder());
    let into = into.path().join("data");
    let error = Postgres::restore(&without, &kept.repository, "crm-db", until, &into, work.path(), &())
        .await
        .expect_err("no tar");
    assert!(error.to_string().contains("is not installed"), "{error}");
}

/// The number of the server in its file.
fn number_in(file: &std::path::Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
}

/// A server that recovers ends with whoever started it, even if nobody gets to end it: its thread has gone.
#[tokio::test]
async fn a_server_that_recovers_ends_with_us() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let until = kept_until_now(&cluster, &kept, &["create table t (a int)"]).await;
    let (folder, work) = (folder(), folder());
    let (into, work, repository) = (folder.path().join("data"), work.path().to_owned(), Arc::clone(&kept.repository));
    let file = into.join("postmaster.pid");
    let begun = file.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let context = context();
        let restore =
            async move { Postgres::restore(&context, &repository, "crm-db", until, &into, &work, &()).await.map(drop) };
        let mut restore = Box::pin(restore);
        runtime.block_on(async {
            tokio::select! {
                done = &mut restore => panic!("{done:?}"),
                () = async {
                    // It is there before its number is in it.
                    while number_in(&begun).is_none() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                } => {}
            }
        });
        // As after kill -9: nothing is dropped.
        std::mem::forget((restore, runtime));
    });
    let ended = tokio::task::spawn_blocking(move || thread.join());
    ended.await.expect("no panic").expect("no panic");
    let pid = number_in(&file).expect("a number");
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    for _ in 0..1000 {
        // Nobody may be there to bury it.
        if state().is_empty() || state().contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} goes on", state());
}

/// BK-2: the newest base is damaged, or nothing can be made of it: the one before does, and the restore says so.
#[tokio::test]
async fn a_base_that_is_of_no_use_is_passed_over() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    cluster.ask("create table t (a int)").await;
    let mut bases = Vec::new();
    for number in 0..2 {
        cluster.ask(&format!("insert into t values ({number})")).await;
        bases.push(of.take_base(&context(), &kept.repository, true, &()).await.expect("a base"));
    }
    // Sealed as it is to be, and none of a cluster.
    let mut writer = SetWriter::begin(Arc::clone(&kept.repository), "crm-db", "postgres").await.expect("begun");
    for stream in &bases[1].streams {
        writer.stream(&stream.name, &[0; 10240][..], |_| {}).await.expect("added");
    }
    let finished = writer.finish(|manifest| {
        manifest.engine_version.clone_from(&bases[1].engine_version);
        manifest.log.clone_from(&bases[1].log);
        manifest.facts.clone_from(&bases[1].facts);
    });
    let empty = finished.await.expect("finished").set;
    cluster.ask("insert into t values (2)").await;
    let to = now();
    follower.through(to).await;
    follower.stop().await;
    let damage = |set: &str| {
        let path = kept.folder.path().join(format!("sets/crm-db/{set}/base.tar.00001"));
        let mut bytes = std::fs::read(&path).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("written");
    };
    damage(&bases[1].set);
    let (server, done) = rewound(&kept, to).await;
    let passed: Vec<(&str, &str)> =
        done.passed_over.iter().map(|passed| (passed.set.as_str(), passed.why.as_str())).collect();
    assert_eq!(passed.len(), 2, "{passed:?}");
    assert!(passed[0].0 == empty && passed[0].1.contains("pg_verifybackup"), "{passed:?}");
    assert!(passed[1].0 == bases[1].set && passed[1].1.contains("damaged"), "{passed:?}");
    assert_eq!(done.set, bases[0].set);
    assert_eq!(server.ask("select count(*) from t").await, "3");

    damage(&bases[0].set);
    let error = restored(&kept, to).await.1.expect_err("nothing is left");
    assert!(matches!(error, DatabaseError::Unreachable(_)), "{error}");
    for set in [&bases[0].set, &bases[1].set, &empty] {
        assert!(error.to_string().contains(&format!("without the base {set}: ")), "{set}: {error}");
    }
}
