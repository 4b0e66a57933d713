//! A ledger that several writers move money in, each of whose transactions is written down with what its client knows of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use drawn::Draws;
use engine::Clock as _;
use engine::clock::SystemClock;
use event::Time;

use super::server::Server;

const ACCOUNTS: u64 = 20;

/// A transaction as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    writer: u64,
    number: u64,
    /// Before COMMIT was sent.
    began: Time,
    /// When it was acknowledged; `None` where it was not.
    done: Option<Time>,
}

/// A ledger that is being written.
pub(crate) struct Ledger {
    entries: Arc<Mutex<Vec<Entry>>>,
    stop: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<()>>,
    /// How many writers there were so far.
    count: u64,
    at_once: u64,
}

impl Ledger {
    /// Makes the tables, and starts writers.
    pub(crate) async fn start(server: &Server, draws: &mut Draws, writers: u64) -> Self {
        server
            .run(&[
                "CREATE DATABASE ledger",
                "CREATE TABLE ledger.accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)",
                "CREATE TABLE ledger.entries (writer INT, number INT, filler VARCHAR(500), PRIMARY KEY (writer, number))",
            ])
            .await;
        for account in 0..ACCOUNTS {
            server.run(&[&format!("INSERT INTO ledger.accounts VALUES ({account}, 0)")]).await;
        }
        let mut ledger =
            Self { entries: Arc::default(), stop: Arc::default(), writers: Vec::new(), count: 0, at_once: writers };
        ledger.go_on(server, draws).await;
        ledger
    }

    /// Starts as many writers again, after those before have ended.
    pub(crate) async fn go_on(&mut self, server: &Server, draws: &mut Draws) {
        for writer in self.count..self.count + self.at_once {
            let (mut connection, mut draws) = (server.connect().await, Draws::of(draws.number()));
            let (entries, stop) = (Arc::clone(&self.entries), Arc::clone(&self.stop));
            self.writers.push(tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (from, to) = (draws.below(ACCOUNTS), draws.below(ACCOUNTS));
                    let (from, to, amount) = (from.min(to), from.max(to), draws.below(1000_u64));
                    // In one order, so that no two wait for each other.
                    let statements = [
                        "BEGIN".to_owned(),
                        format!("UPDATE ledger.accounts SET balance = balance - {amount} WHERE id = {from}"),
                        format!("UPDATE ledger.accounts SET balance = balance + {amount} WHERE id = {to}"),
                        format!("INSERT INTO ledger.entries VALUES ({writer}, {number}, REPEAT('x', {amount} / 2))"),
                    ];
                    for statement in statements {
                        if connection.query(&statement).await.is_err() {
                            return;
                        }
                    }
                    let began = SystemClock.now();
                    let committed = connection.query("COMMIT").await.is_ok();
                    let done = committed.then(|| SystemClock.now());
                    entries.lock().expect("no panic").push(Entry { writer, number, began, done });
                    if !committed {
                        return;
                    }
                }
            }));
        }
        self.count += self.at_once;
    }

    /// Waits until no writer writes any more: told to, or as the server has gone.
    pub(crate) async fn end(&mut self, stop: bool) {
        self.stop.store(stop, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await.expect("no panic");
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().expect("no panic").len()
    }

    /// How many transactions were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.entries.lock().expect("no panic").iter().filter(|entry| entry.done.is_some()).count()
    }

    /// Compares a restored server with what the clients know: what was acknowledged before the instant is there, what was begun at or
    /// after it is not, and money is neither made nor lost.
    pub(crate) async fn check(&self, restored: &Server, to: Time) -> usize {
        let rows = restored.rows("SELECT writer, number FROM ledger.entries").await;
        let number = |value: &Option<String>| value.as_ref().expect("a value").parse::<u64>().expect("a number");
        let there: BTreeSet<(u64, u64)> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
        let entries = self.entries.lock().expect("no panic").clone();
        for entry in &entries {
            let is_there = there.contains(&(entry.writer, entry.number));
            if entry.done.is_some_and(|done| done < to) {
                assert!(is_there, "{to}: lost: {entry:?}");
            }
            if entry.began >= to {
                assert!(!is_there, "{to}: too much: {entry:?}");
            }
        }
        let sum = restored.rows("SELECT SUM(balance) FROM ledger.accounts").await;
        assert_eq!(sum[0][0].as_deref(), Some("0"), "{to}");
        there.len()
    }
}
