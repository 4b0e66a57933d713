//! A ledger that many write, each of whose transactions its writer remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drawn::Draws;
use event::Time;

use super::cluster::{Cluster, now};

/// How many write at once.
pub(crate) const WRITERS: usize = 6;

/// A transaction as its writer remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    name: String,
    /// Before anything of it was sent.
    begun: Time,
    /// After its commit was acknowledged; `None` where the writer never learned.
    pub(crate) acknowledged: Option<Time>,
    is_rolled_back: bool,
}

/// Writes until everything is killed: entries of a ledger, two of each transaction, whose sum is 0.
async fn write(
    cluster: Arc<Cluster>,
    (number, is_asynchronous): (usize, bool),
    seed: u64,
    stop: Arc<AtomicBool>,
) -> Vec<Remembered> {
    let mut draws = Draws::of(seed);
    let mut sql = cluster.sql().await;
    if is_asynchronous {
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

/// A ledger that is being written.
pub(crate) struct Ledger {
    cluster: Arc<Cluster>,
    /// Whether a writer does not wait until its commits are on the disk: a crash loses some of them.
    one_is_asynchronous: bool,
    writers: Vec<tokio::task::JoinHandle<Vec<Remembered>>>,
    stop: Arc<AtomicBool>,
    /// How many writers there were so far.
    count: usize,
    pub(crate) remembered: Vec<Remembered>,
}

impl Ledger {
    /// Makes the table, in which nobody writes yet.
    pub(crate) async fn new(cluster: &Arc<Cluster>, one_is_asynchronous: bool) -> Self {
        cluster.ask("create table ledger (name text, amount bigint, filler text)").await;
        let (cluster, stop) = (Arc::clone(cluster), Arc::default());
        Self { cluster, one_is_asynchronous, writers: Vec::new(), stop, count: 0, remembered: Vec::new() }
    }

    /// Starts writers, after those before have ended.
    pub(crate) fn go_on(&mut self, draws: &mut Draws) {
        for number in 0..WRITERS {
            let (cluster, stop) = (Arc::clone(&self.cluster), Arc::clone(&self.stop));
            let of = (self.count, self.one_is_asynchronous && number == 0);
            self.writers.push(tokio::spawn(write(cluster, of, draws.number(), stop)));
            self.count += 1;
        }
    }

    /// Waits until no writer writes any more, as the server has gone.
    pub(crate) async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            self.remembered.extend(writer.await.expect("no panic"));
        }
        self.stop.store(false, Ordering::Relaxed);
    }

    /// Fails unless a server shows the ledger as it was at the instant.
    pub(crate) async fn check(&self, server: &Cluster, at: Time) -> usize {
        let (there, wrong) = compare(server, at, &self.remembered).await;
        assert!(wrong.is_empty(), "at {} µs: {wrong:?}", at.micros());
        there
    }
}

/// How many transactions the ledger of a server shows, and what is wrong with them for the instant that it is to show.
async fn compare(cluster: &Cluster, at: Time, remembered: &[Remembered]) -> (usize, Vec<String>) {
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
    (there.len(), wrong)
}
