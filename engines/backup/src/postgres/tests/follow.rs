//! Receiving, while things happen to the server, to the repository and to us.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drawn::Draws;
use event::Span;
use tokio::sync::Notify;

use super::super::Lsn;
use super::super::records::Records;
use super::super::resume::PieceFacts;
use super::cluster::{Cluster, Follower, Kept, as_postgres, context, now, rewound, run};
use crate::check::open_gaps;
use crate::database::{Database as _, PieceHead, WAITING_BYTES_MAX};
use crate::job::Job;
use crate::job::tests::settings;
use crate::restorable::restorable;
use crate::sealed::{Catalog, LogPiece, LogWriter, Repository};

/// All pieces of the only log, in order, and its bytes.
async fn pieces(kept: &Kept, log: &str, file: u32, start: Lsn) -> (Vec<LogPiece>, Vec<u8>, bool) {
    let catalog = Catalog::read(&kept.repository, "crm-db").await.expect("a catalog");
    let (pieces, more) = catalog.pieces(log, (file, start.0), |_, _| false).await.expect("pieces");
    let mut bytes = Vec::new();
    for piece in &pieces {
        let (_, payload) = kept.repository.fetch(&piece.folder, &piece.name.to_string()).await.expect("a piece");
        let known = bytes.len() + usize::try_from(start.0).expect("small");
        bytes.extend(&payload[known - usize::try_from(piece.name.start).expect("small")..]);
    }
    (pieces, bytes, more)
}

/// What the server itself has of the log.
fn log_of(cluster: &Cluster, start: Lsn, length: usize) -> Vec<u8> {
    let (segment_bytes, mut bytes) = (16u64 << 20, Vec::new());
    let last = start.0 + u64::try_from(length).expect("small");
    for number in start.0 / segment_bytes..=last / segment_bytes {
        let path = cluster.data.join("pg_wal").join(format!("0000000100000000{number:08X}"));
        bytes.extend(std::fs::read(path).unwrap_or_default());
    }
    let from = usize::try_from(start.0 % segment_bytes).expect("small");
    bytes[from..from + length].to_vec()
}

/// BK-2: every byte of the log is in the repository, whoever is killed meanwhile.
#[tokio::test]
async fn the_log_is_received_byte_for_byte_whoever_is_killed() {
    let (cluster, kept) = (Cluster::new("wal_keep_size = '1GB'").await, Kept::new());
    let of = cluster.backup();
    let system = cluster.ask("select system_identifier from pg_control_system()").await;
    let mut follower = Follower::start(&of, &kept.repository);
    cluster.ask("create table t (a int, b text)").await;
    let first = follower.next().await.expect("a piece");
    assert!(first.is_new_log && first.log == system && first.bytes > 0, "{first:?}");
    let mut sql = cluster.sql().await;
    let insert = "insert into t select i, md5(i::text) from generate_series(1, 60000) i";
    sql.query(insert).await.expect("inserted");
    follower.next().await.expect("a piece of 8 MiB at once");
    // We are killed while a piece may be on its way, and start again from the repository.
    sql.query(insert).await.expect("inserted");
    follower.kill().await;
    sql.query(insert).await.expect("inserted");
    let mut follower = Follower::start(&of, &kept.repository);
    let again = follower.next().await.expect("a piece");
    assert!(!again.is_new_log, "{again:?}");
    // Now the server is.
    sql.query(insert).await.expect("inserted");
    cluster.kill().await;
    let (error, _) = follower.ended().await;
    assert!(error.expect_err("the server is gone").to_string().contains("PostgreSQL of the backup crm-db"));
    cluster.start().await;
    let mut follower = Follower::start(&of, &kept.repository);
    follower.next().await.expect("it follows");
    cluster.ask(insert).await;
    let (committed, end) = (now(), cluster.written().await);
    let all = follower.stop().await;
    let last = all.last().expect("a piece");
    assert!(!last.is_new_log && last.through >= committed, "{last:?}, {committed}");

    let start = Lsn(16 << 20);
    let (pieces, bytes, more) = pieces(&kept, &system, 1, start).await;
    assert!(!more && pieces.len() > 3);
    assert!(start.0 + u64::try_from(bytes.len()).expect("small") >= end.0, "{} bytes", bytes.len());
    assert!(bytes == log_of(&cluster, start, bytes.len()), "the same bytes");
}

/// Writes some megabytes.
const WORK: &str = "insert into t select i, repeat(md5(i::text), 8) from generate_series(1, 20000) i";

async fn with_table(settings: &str) -> (Cluster, Kept) {
    let cluster = Cluster::new(settings).await;
    cluster.ask("create table t (a int, b text)").await;
    (cluster, Kept::new())
}

/// BK-2: killed at any instant, we go on where the repository ends, and nothing is missing.
#[tokio::test]
async fn killed_at_any_instant_it_goes_on_from_the_repository() {
    let (cluster, kept) = with_table("wal_keep_size = '4GB'").await;
    let of = cluster.backup();
    let mut draws = Draws::from_environment();
    let mut sql = cluster.sql().await;
    let enough = engine::CancellationToken::new();
    let is_enough = enough.clone();
    let work = tokio::spawn(async move {
        while !is_enough.is_cancelled() {
            sql.query(WORK).await.expect("inserted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for _ in 0..6 {
        let follower = Follower::start(&of, &kept.repository);
        tokio::time::sleep(Duration::from_millis(100 + draws.below(500))).await;
        assert!(follower.kill().await.iter().skip(1).all(|piece| !piece.is_new_log));
    }
    enough.cancel();
    work.await.expect("no panic");
    // What is written was shipped in part, or all of it is left to the last.
    let mut follower = Follower::start(&of, &kept.repository);
    // The server writes by itself now and then, behind what is asked for here.
    let written = cluster.written().await;
    cluster.ask("insert into t values (0, 'the last')").await;
    follower.through(now()).await;
    let log = follower.stop().await.pop().expect("a piece").log;
    let start = Lsn(16 << 20);
    let (pieces, bytes, more) = pieces(&kept, &log, 1, start).await;
    assert!(!more, "a gap behind {} pieces", pieces.len());
    assert!(start.0 + u64::try_from(bytes.len()).expect("small") >= written.0);
    assert!(bytes == log_of(&cluster, start, bytes.len()), "the same bytes");
}

/// BK-2: killed while it received what fills up a segment that was ended early, which is more than may wait, it goes on.
#[tokio::test]
async fn killed_within_a_segment_that_was_ended_early_it_goes_on() {
    let (cluster, kept) = with_table("").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    let log = follower.next().await.expect("a piece").log;
    follower.stop().await;
    // The end of what is received is put there by hand: behind the record that ends the segment, with most of it to come.
    cluster.ask("select pg_switch_wal()").await;
    let segment_bytes = 16 << 20;
    let (mut writer, last) = LogWriter::open(Arc::clone(&kept.repository), "crm-db", &log).await.expect("open");
    let last = last.expect("a piece");
    let head = kept.repository.fetch_head(&last.folder, &last.name.to_string()).await.expect("its head");
    let (head, facts) = PieceFacts::read(&head).expect("a head");
    let start = Lsn(last.name.end);
    let mut records = Records::starting_at(start, segment_bytes, facts.last_record);
    let bytes = log_of(&cluster, start, 64 << 10);
    let to_block = bytes.len() - usize::try_from((start.0 + (64 << 10)) % 8192).expect("small");
    records.feed(&bytes[..to_block], |_| {}).expect("records");
    let end = Lsn(start.0 + u64::try_from(to_block).expect("small"));
    assert!(records.is_skipping() && records.boundary().at == end, "{:?}", records.boundary());
    assert!(end.0.next_multiple_of(segment_bytes) - end.0 > WAITING_BYTES_MAX as u64, "{end}");
    let facts = PieceFacts { last_record: records.boundary().previous, ..facts };
    let head = PieceHead { facts: serde_json::to_value(facts).expect("JSON"), ..head };
    writer.append(last.name.file, start.0, end.0, &head, bytes[..to_block].to_vec()).await.expect("added");

    let mut follower = Follower::start(&of, &kept.repository);
    cluster.ask(WORK).await;
    follower.through(now()).await;
    assert!(follower.stop().await.iter().all(|piece| !piece.is_new_log && piece.log == log));
    let (_, bytes, more) = pieces(&kept, &log, 1, Lsn(16 << 20)).await;
    assert!(!more && bytes == log_of(&cluster, Lsn(16 << 20), bytes.len()), "the same bytes");
}

/// While the repository is away, the log waits at the server; when it is back, nothing is missing.
#[tokio::test]
async fn while_the_repository_is_away_the_server_keeps_the_log() {
    let (cluster, kept) = with_table("").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    let log = follower.next().await.expect("a piece").log;
    let away = kept.folder.path().with_extension("away");
    std::fs::rename(kept.folder.path(), &away).expect("moved");
    for _ in 0..8 {
        cluster.ask(WORK).await;
    }
    let (asked, end) = (now(), cluster.written().await);
    let held = "select pg_current_wal_insert_lsn() - restart_lsn from pg_replication_slots where active";
    // Longer than the server is patient with somebody who says nothing: it is asked to be impatient.
    cluster.ask("alter system set wal_sender_timeout = '12s'").await;
    cluster.ask("select pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let held: u64 = cluster.ask(held).await.parse().expect("it still follows");
    assert!(held > 20_000_000, "the slot holds back {held} bytes");
    std::fs::rename(&away, kept.folder.path()).expect("moved back");
    follower.through(asked).await;
    let shipped = follower.stop().await;
    assert!(shipped.iter().skip(1).all(|piece| !piece.is_new_log && piece.bytes < 10 << 20));
    let (_, bytes, more) = pieces(&kept, &log, 1, Lsn(16 << 20)).await;
    assert!(!more && (16 << 20) + u64::try_from(bytes.len()).expect("small") >= end.0);
}

/// BK-2: where the server has thrown away what was not received, the names show a gap and a new base is asked for.
#[tokio::test]
async fn what_the_server_has_thrown_away_is_a_gap_that_is_seen() {
    let small = "min_wal_size = '32MB'\nmax_wal_size = '32MB'\nmax_slot_wal_keep_size = '16MB'";
    let (cluster, kept) = with_table(small).await;
    let of = cluster.backup();
    for is_dropped in [true, false] {
        let mut follower = Follower::start(&of, &kept.repository);
        cluster.ask(WORK).await;
        let log = follower.next().await.expect("a piece").log;
        let before = follower.stop().await.pop().expect("a piece");
        if is_dropped {
            cluster.drop_slot().await;
        }
        for _ in 0..6 {
            cluster.ask(WORK).await;
            cluster.ask("select pg_switch_wal()").await;
            cluster.ask("checkpoint").await;
        }
        let status = cluster.ask("select wal_status from pg_replication_slots").await;
        assert_eq!(status, if is_dropped { "" } else { "lost" });
        let mut follower = Follower::start(&of, &kept.repository);
        cluster.ask("insert into t values (0, 'behind the gap')").await;
        let behind = follower.next().await.expect("a piece");
        assert!(behind.is_new_log && behind.log == log && behind.through >= before.through, "{behind:?}");
        follower.stop().await;
        let (_, _, more) = pieces(&kept, &log, 1, Lsn(16 << 20)).await;
        assert!(more, "there is more behind what is missing");
    }
}

/// BK-2: the agent was killed between a gap in the log and the base that it needs: it is seen at the next start, and a base is asked for.
#[tokio::test]
async fn a_gap_without_a_base_behind_it_is_seen_after_a_restart() {
    let small = "min_wal_size = '32MB'\nmax_wal_size = '32MB'";
    let (cluster, kept) = with_table(small).await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    follower.next().await.expect("a piece");
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    cluster.ask(WORK).await;
    follower.through(now()).await;
    follower.stop().await;
    cluster.drop_slot().await;
    for _ in 0..6 {
        cluster.ask(WORK).await;
        cluster.ask("select pg_switch_wal()").await;
        cluster.ask("checkpoint").await;
    }
    let mut follower = Follower::start(&of, &kept.repository);
    cluster.ask("insert into t values (0, 'behind the gap')").await;
    follower.through(now()).await;
    let behind = follower.kill().await.pop().expect("a piece");

    let job = Arc::new(Job {
        settings: settings("crm-db"),
        database: Arc::new(of.clone()),
        repository: Arc::clone(&kept.repository),
        board: Arc::default(),
        elsewhere: Arc::default(),
        restore_every: Span::from_days(1),
        work: kept.folder.path().with_extension("work"),
        base_now: Arc::default(),
        base_asked: Notify::new(),
        test_now: Notify::new(),
        log_of_base: std::sync::Mutex::default(),
    });
    let context = context();
    let bases = tokio::spawn(Arc::clone(&job).bases(context.clone()));
    while job.board.is_broken("crm-db").is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let why = job.board.broken().remove("crm-db").unwrap_or_default();
    assert!(why.contains("has a gap"), "{why}");
    let sets = async || Catalog::read(&kept.repository, "crm-db").await.expect("read").sets.len();
    while sets().await == 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    context.stop.cancel();
    bases.await.expect("no panic");
    let mut follower = Follower::start(&of, &kept.repository);
    cluster.ask("insert into t values (0, 'behind the base')").await;
    follower.through(now()).await;
    follower.stop().await;
    let catalog = Catalog::read(&kept.repository, "crm-db").await.expect("read");
    let all = restorable(&kept.repository, &catalog).await.expect("read");
    assert!(all.len() == 2 && all[0].through < behind.through && behind.through < all[1].through, "{all:?}");
    assert_eq!(open_gaps(&kept.repository, &catalog).await.expect("read"), []);
}

/// A slot that was dropped loses nothing while the server still has what comes next.
#[tokio::test]
async fn a_slot_that_was_dropped_is_made_again() {
    let (cluster, kept) = with_table("").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    let log = follower.next().await.expect("a piece").log;
    follower.stop().await;
    cluster.drop_slot().await;
    cluster.ask(WORK).await;
    let mut follower = Follower::start(&of, &kept.repository);
    let next = follower.next().await.expect("a piece");
    assert!(!next.is_new_log && next.log == log, "{next:?}");
    follower.stop().await;
    assert!(!pieces(&kept, &log, 1, Lsn(16 << 20)).await.2, "no gap");
}

/// A log whose key is gone from every copy is followed by another one, and a base of that can be restored.
#[tokio::test]
async fn a_log_whose_key_is_lost_is_followed_by_another() {
    let (cluster, mut kept) = with_table("").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    let log = follower.next().await.expect("a piece").log;
    follower.stop().await;
    std::fs::remove_dir_all(kept.folder.path().join("keys/logs")).expect("removed");
    // Another process knows no key.
    let (copies, key) = (kept.repository.copies().to_vec(), kept.repository.key().clone());
    let (clock, random) = (context().clock, context().random);
    kept.repository = Arc::new(Repository::new(copies, key, Span::from_days(90), clock, random));
    let mut follower = Follower::start(&of, &kept.repository);
    let next = follower.next().await.expect("a piece");
    assert!(next.is_new_log && next.log != log, "{next:?}");
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let between = now();
    cluster.ask(WORK).await;
    follower.stop().await;
    rewound(&kept, between).await;
}

/// A cluster that was set back in time without a new timeline is not mixed with what it was before.
#[tokio::test]
async fn a_server_that_was_set_back_is_another_log() {
    let (cluster, kept) = with_table("").await;
    let of = cluster.backup();
    let snapshot = cluster.data.with_extension("snapshot");
    let copy = |from: PathBuf, to: PathBuf| async move {
        if to.exists() {
            std::fs::remove_dir_all(&to).expect("removed");
        }
        run(as_postgres("/bin/cp").arg("-a").arg(from).arg(to)).await;
    };
    let mut follower = Follower::start(&of, &kept.repository);
    let first = follower.next().await.expect("a piece").log;
    follower.stop().await;
    cluster.stop().await;
    copy(cluster.data.clone(), snapshot.clone()).await;
    // Less, then more is written than was received: only the second needs a look at the records.
    for (number, rounds) in [(2, 0), (3, 5)] {
        cluster.start().await;
        let mut follower = Follower::start(&of, &kept.repository);
        cluster.ask(WORK).await;
        follower.next().await.expect("a piece");
        let log = follower.stop().await.pop().expect("a piece").log;
        cluster.stop().await;
        copy(snapshot.clone(), cluster.data.clone()).await;
        cluster.start().await;
        for _ in 0..rounds {
            cluster.ask("insert into t select i, 'other' from generate_series(1, 100000) i").await;
        }
        let mut follower = Follower::start(&of, &kept.repository);
        cluster.ask("insert into t values (0, 'set back')").await;
        let next = follower.next().await.expect("a piece");
        assert!(next.is_new_log && next.log == format!("{first}.{number}"), "{next:?} after {log}");
        follower.stop().await;
        cluster.stop().await;
    }
}

/// Told to stop while it can't make durable what it has received, it does not say that all is well.
#[tokio::test]
async fn what_could_not_be_added_before_the_end_is_said() {
    let (cluster, kept) = with_table("").await;
    let mut follower = Follower::start(&cluster.backup(), &kept.repository);
    follower.next().await.expect("a piece");
    let away = kept.folder.path().with_extension("away");
    std::fs::rename(kept.folder.path(), &away).expect("moved");
    cluster.ask("insert into t values (1)").await;
    let (ended, _) = follower.told_to_stop().await;
    let error = ended.expect_err("it is not durable").to_string();
    assert!(error.contains("is not in the repository"), "{error}");
    std::fs::rename(&away, kept.folder.path()).expect("moved back");
}

/// Another cluster behind the name of a backup is another log, and each is restored as itself.
#[tokio::test]
async fn another_cluster_behind_the_same_name_is_another_log() {
    let kept = Kept::new();
    let mut logs = Vec::new();
    for number in [1, 2] {
        let cluster = Cluster::new("").await;
        cluster.ask(&format!("create table t as select {number} a")).await;
        let of = cluster.backup();
        let mut follower = Follower::start(&of, &kept.repository);
        let first = follower.next().await.expect("a piece");
        let system = cluster.ask("select system_identifier from pg_control_system()").await;
        assert!(first.is_new_log && first.log == system, "{first:?}");
        let base = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
        assert_eq!(base.log.as_ref(), Some(&system));
        cluster.ask(&format!("insert into t values ({number}0)")).await;
        let to = now();
        follower.through(to).await;
        follower.stop().await;
        logs.push((base.set, to));
    }
    for ((set, to), rows) in logs.into_iter().zip(["1,10", "2,20"]) {
        let (server, done) = rewound(&kept, to).await;
        assert_eq!(
            (done.set, server.ask("select string_agg(a::text, ',' order by a) from t").await),
            (set, rows.to_owned())
        );
    }
}
