//! The reader of records beside the one of PostgreSQL.

use drawn::Draws;

use event::{Span, Time};

use super::super::Lsn;
use super::super::log_files::{Committed, Place};
use super::super::records::{Record, Records};
use super::cluster::{BIN, Cluster, as_postgres, run};

/// Transactions of all sorts: short, long, with many locks, prepared, rolled back, without an instant of their own; early ends of a segment.
const WORK: &str = "
create table t (a int, b text);
insert into t select i, repeat('x', 200) from generate_series(1, 20000) i;
select pg_switch_wal();
begin; insert into t values (1, 'a'); savepoint s; insert into t values (2, 'b'); rollback to s; commit;
begin; insert into t values (3, 'c'); prepare transaction 'p1';
begin; insert into t values (4, 'd'); rollback;
commit prepared 'p1';
do $$ begin for i in 1..200 loop execute format('create table u%s (a int)', i); end loop; end $$;
select pg_logical_emit_message(true, 'garant', repeat('y', 3000000));
checkpoint;
update t set b = b || 'z' where a % 3 = 0;
select pg_switch_wal();
drop table t;
";

/// The commits of a log by pg_waldump: where their records begin, and their instants in seconds.
async fn by_postgres(cluster: &Cluster, start: Lsn, end: Lsn) -> Vec<(Lsn, String)> {
    let folder = cluster.data.join("pg_wal");
    let (start, end) = (format!("--start={start}"), format!("--end={end}"));
    let dump =
        as_postgres(format!("{BIN}/pg_waldump")).arg("-p").arg(folder).args(["--rmgr=Transaction", &start, &end]);
    let dump = run(dump).await;
    let commit = |line: &str| {
        let (_, rest) = line.split_once("lsn: ")?;
        let (lsn, rest) = rest.split_once(", ")?;
        let (_, rest) = rest.split_once("desc: COMMIT")?;
        let rest = rest.strip_prefix("_PREPARED").unwrap_or(rest);
        // COMMIT 2026-11-29 16:43:21.123456 UTC; …, or COMMIT_PREPARED 0x…/…: 2026-…
        let at = rest.find("20").map(|at| rest[at..].split([';', ' ']).take(2).collect::<Vec<_>>().join("T"));
        Some((lsn.parse().expect("a position"), at?))
    };
    dump.lines().filter_map(commit).collect()
}

#[tokio::test]
async fn records_are_told_apart_as_postgresql_does() {
    let cluster = Cluster::new("max_prepared_transactions = 5\nwal_keep_size = '1GB'\ntimezone = 'UTC'").await;
    let segment_bytes = 16 << 20;
    let start = cluster.written().await.segment_start(segment_bytes);
    let mut sql = cluster.sql().await;
    for statement in WORK.lines().filter(|line| !line.is_empty()) {
        sql.query(statement).await.expect(statement);
    }
    let end = cluster.written().await;
    let segment = |lsn: Lsn| format!("0000000100000000{:08X}", lsn.0 / segment_bytes);
    let mut log = Vec::new();
    for number in start.0 / segment_bytes..=end.0 / segment_bytes {
        let path = cluster.data.join("pg_wal").join(segment(Lsn(number * segment_bytes)));
        log.extend(std::fs::read(path).expect("a segment"));
    }
    log.truncate(usize::try_from(end.0 - start.0).expect("small"));
    let commits = by_postgres(&cluster, start, end).await;
    assert!(commits.len() > 5, "{commits:?}");

    let mut draws = Draws::from_environment();
    for most in [1, 7, 100, 9000, 1_000_000, usize::MAX] {
        let mut found: Vec<Record> = Vec::new();
        let mut records = Records::starting_at(start, segment_bytes, None);
        let (mut at, mut boundaries) = (0, vec![(0, records.boundary())]);
        while at < log.len() {
            let length = if most == usize::MAX { most } else { 1 + draws.below(most) };
            let to = at.saturating_add(length).min(log.len());
            records.feed(&log[at..to], |record| found.push(record)).expect("a log");
            at = to;
            if records.boundary() != boundaries[boundaries.len() - 1].1 && draws.chance(2) {
                boundaries.push((found.len(), records.boundary()));
            }
        }
        let ours: Vec<(Lsn, String)> = found
            .iter()
            .filter_map(|record| {
                let micros = record.commit?.micros();
                let whole = record.commit?.to_rfc3339();
                Some((record.start, format!("{}.{:06}", whole.trim_end_matches('Z'), micros % 1_000_000)))
            })
            .collect();
        let theirs: Vec<(Lsn, String)> =
            commits.iter().filter(|(at, _)| *at >= start).map(|(at, time)| (*at, time.replace('/', "-"))).collect();
        assert_eq!(ours, theirs, "in steps of {most}");
        assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));

        // Reading may begin again at any boundary, and notices another past.
        boundaries.truncate(40);
        for (count, boundary) in boundaries {
            let rest = &log[usize::try_from(boundary.at.0 - start.0).expect("small")..];
            let mut again = Vec::new();
            let mut records = Records::starting_at(boundary.at, segment_bytes, boundary.previous);
            records.feed(rest, |record| again.push(record)).expect("a log");
            assert!(records.goes_on() && again[..] == found[count..], "from {boundary:?}");
            if let Some(previous) = boundary.previous {
                let mut records = Records::starting_at(boundary.at, segment_bytes, Some(Lsn(previous.0 - 8)));
                records.feed(rest, |_| {}).expect_err("another record before");
                assert!(!records.goes_on());
            }
        }
    }
    let mut records = Records::starting_at(start, segment_bytes, None);
    records.feed(&vec![7; 10_000], |_| {}).expect_err("no log");

    // The place of an instant: behind the last commit before it, and never in front of what is in the base, whatever the times say.
    let mut all = Vec::new();
    let mut records = Records::starting_at(start, segment_bytes, None);
    records.feed(&log, |record| all.extend(record.commit.map(|at| (record, at)))).expect("a log");
    let place = |instant: Time, base: Lsn| {
        let mut place = Place::new(instant, (start, base), segment_bytes);
        place.read(&log, Span::ZERO).expect("a log");
        let of = |commit: Option<Committed>| commit.map(|commit| (commit.record, commit.at));
        (of(place.last), of(place.next))
    };
    assert_eq!(place(all[2].1, start), (Some(all[1]), Some(all[2])));
    assert_eq!(place(all[2].1 + Span::from_micros(1), start), (Some(all[2]), Some(all[3])));
    assert_eq!(place(all[0].1, start), (None, Some(all[0])));
    assert_eq!(place(all[0].1, all[2].0.end), (Some(all[2]), Some(all[3])));
    assert_eq!(place(all[all.len() - 1].1 + Span::from_secs(1), start), (all.last().copied(), None));
    // A clock that is ahead makes instants that are later than ours.
    let mut ahead = Place::new(all[2].1 - Span::from_secs(5), (start, start), segment_bytes);
    ahead.read(&log, Span::from_secs(5)).expect("a log");
    assert_eq!(ahead.next.map(|next| next.record), Some(all[2].0));
}
