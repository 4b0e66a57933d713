//! The oracle: many write, everything is killed, and each instant is as those who wrote remember it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drawn::Draws;
use event::Time;

use super::cluster::{Cluster, Follower, Kept, context, now, restored, rewound};
use crate::database::{Database as _, DatabaseError};

const WRITERS: usize = 6;

/// A transaction as its writer remembers it.
#[derive(Clone, Debug)]
struct Remembered {
    name: String,
    /// Before anything of it was sent.
    begun: Time,
    /// After its commit was acknowledged; `None` where the writer never learned.
    acknowledged: Option<Time>,
    is_rolled_back: bool,
}

/// Writes until everything is killed: entries of a ledger, two of each transaction, whose sum is 0.
async fn write(cluster: Arc<Cluster>, number: usize, seed: u64, stop: Arc<AtomicBool>) -> Vec<Remembered> {
    let mut draws = Draws::of(seed);
    let mut sql = cluster.sql().await;
    if number == 0 {
        // Acknowledged before it is on a disk: received it is, all the same.
        sql.query("set synchronous_commit = off").await.expect("set");
    }
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("{number}-{}", all.len());
        let amount = draws.below(1000u64);
        let is_rolled_back = draws.chance(10);
        let mut end = vec![if is_rolled_back { "rollback".to_owned() } else { "commit".to_owned() }];
        if draws.chance(10) {
            end = vec![format!("prepare transaction '{name}'"), format!("{} prepared '{name}'", end[0])];
        }
        let filler = "x".repeat(draws.below(3000));
        let mut statements = vec![
            "begin".to_owned(),
            format!("insert into ledger values ('{name}', {amount}, '{filler}')"),
            format!("insert into ledger values ('{name}', -{amount}, '')"),
        ];
        if draws.chance(20) {
            statements.insert(2, "savepoint s".to_owned());
            statements.insert(3, "insert into ledger values ('none', 1, '')".to_owned());
            statements.insert(4, "rollback to savepoint s".to_owned());
        }
        statements.extend(end);
        let begun = now();
        let mut acknowledged = None;
        for (at, statement) in statements.iter().enumerate() {
            if sql.query(statement).await.is_err() {
                break;
            }
            if at + 1 == statements.len() {
                acknowledged = Some(now());
            }
        }
        all.push(Remembered { name, begun, acknowledged, is_rolled_back });
        if acknowledged.is_none() {
            break;
        }
        if draws.chance(30) {
            tokio::time::sleep(Duration::from_millis(draws.below(60))).await;
        }
    }
    all
}

/// What is wrong with the ledger of a server for the instant that it is to show.
async fn wrong(cluster: &Cluster, at: Time, remembered: &[Remembered]) -> Vec<String> {
    let mut sql = cluster.sql().await;
    let sum = sql.query("select coalesce(sum(amount), 0) from ledger").await.expect("asked");
    let names = sql.query("select string_agg(name || ' ' || entries, ',') from (select name, count(*) entries from ledger group by name) t");
    let names = names.await.expect("asked");
    let names = names[0][0].clone().unwrap_or_default();
    let there: std::collections::BTreeMap<&str, &str> =
        names.split(',').filter_map(|name| name.split_once(' ')).collect();
    let mut wrong = Vec::new();
    if sum[0][0].as_deref() != Some("0") {
        wrong.push(format!("the sum is {:?}", sum[0][0]));
    }
    for of in remembered {
        let found = there.get(of.name.as_str());
        let is_in = of.acknowledged.is_some_and(|acknowledged| acknowledged < at) && !of.is_rolled_back;
        let is_out = of.begun >= at || of.is_rolled_back && of.acknowledged.is_some();
        match found {
            Some(&"2") if is_out => wrong.push(format!("{of:?} is there")),
            Some(&"2") => {}
            Some(entries) => wrong.push(format!("{of:?} has {entries} entries")),
            None if is_in => wrong.push(format!("{of:?} is not there")),
            None => {}
        }
    }
    wrong
}

/// BK-2, BK-5: ten random instants, and the edges of a commit, while everybody writes and everything is killed at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_instant_is_as_those_who_wrote_remember_it() {
    let mut draws = Draws::from_environment();
    let cluster = Arc::new(Cluster::new("max_prepared_transactions = 20\nsynchronous_commit = on").await);
    let (kept, of) = (Kept::new(), cluster.backup());
    cluster.ask("create table ledger (name text, amount bigint, filler text)").await;
    let mut follower = Follower::start(&of, &kept.repository);
    let first = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(Arc::clone(&cluster), number, draws.number(), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let second = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    tokio::time::sleep(Duration::from_secs(6)).await;
    follower.next().await.expect("it follows");
    cluster.kill().await;
    stop.store(true, Ordering::Relaxed);
    let mut remembered = Vec::new();
    for writer in writers {
        remembered.extend(writer.await.expect("no panic"));
    }
    let (ended, shipped) = follower.ended().await;
    ended.expect_err("the server is gone");
    let newest = shipped.last().expect("a piece").through;
    let acknowledged: Vec<Time> = remembered.iter().filter_map(|of| of.acknowledged).collect();
    println!("{} transactions of {WRITERS} writers, {} acknowledged", remembered.len(), acknowledged.len());
    assert!(acknowledged.len() > 200 && newest > second.consistent_at, "{} {newest}", acknowledged.len());

    let from = first.consistent_at;
    let span = newest.since(from).micros();
    let mut instants: Vec<Time> = (0..10).map(|_| from + event::Span::from_micros(1 + draws.below(span))).collect();
    let edge = acknowledged.iter().copied().filter(|at| *at > from && *at < newest).nth(100).expect("a commit");
    instants.extend([edge, newest]);
    let (mut before, mut bases) = (0, std::collections::BTreeSet::new());
    for at in instants {
        let (server, restored) = rewound(&kept, at).await;
        let wrong = wrong(&server, at, &remembered).await;
        assert!(wrong.is_empty(), "at {} µs: {wrong:?}", at.micros());
        assert!(restored.last_commit.as_ref().is_none_or(|last| last.at < at), "{restored:?}");
        assert!(restored.next_commit.as_ref().is_none_or(|next| next.at >= at), "{restored:?}");
        bases.insert(restored.set);
        before += usize::from(at < second.consistent_at);
    }
    println!("{before} instants between the bases, of {}", bases.len());
    let (_folder, behind) = restored(&kept, newest + event::Span::from_micros(1)).await;
    assert!(matches!(behind, Err(DatabaseError::Unreachable(_))), "{behind:?}");
    cluster.start().await;
}
