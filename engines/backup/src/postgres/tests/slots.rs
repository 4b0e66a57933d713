//! A backup that leaves the policy leaves no slot behind.

use std::sync::Arc;

use super::cluster::{Cluster, Follower, Kept, context};
use crate::board::Board;
use crate::config::{Connection, DatabaseSettings};
use crate::database::Database as _;
use crate::postgres::Postgres;
use crate::slots::tend;

#[tokio::test]
async fn the_slot_of_a_backup_that_left_the_policy_is_dropped_or_said_to_be_left() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let state = tempfile::tempdir().expect("a folder");
    let of = cluster.backup();
    let connection = Connection { socket: cluster.socket(), user: Some("postgres".into()), password: None };
    let wanted = DatabaseSettings {
        name: of.name.clone(),
        service: None,
        connection: connection.clone(),
        full_every: event::Span::from_secs(3600),
        incremental_every: None,
        checks: Vec::new(),
        canary: None,
        data: None,
        stop: Vec::new(),
        start: Vec::new(),
    };
    let board = Arc::new(Board::default());
    let tending = async |wanted: Vec<DatabaseSettings>| {
        tend(state.path().to_owned(), wanted, Arc::clone(&board), context()).await;
    };
    tending(vec![wanted.clone()]).await;
    let mut follower = Follower::start(&of, &kept.repository);
    follower.next().await.expect("it has begun");
    let slot = format!("select count(*) from pg_replication_slots where slot_name = '{}'", Postgres::slot_of(&of.name));
    assert_eq!(cluster.ask(&slot).await, "1");
    // The same cluster by another path keeps its slot.
    let link = state.path().join("link");
    std::os::unix::fs::symlink(cluster.socket(), &link).expect("linked");
    let by_link = Connection { socket: link, ..connection.clone() };
    tending(vec![DatabaseSettings { connection: by_link, ..wanted.clone() }]).await;
    assert_eq!((cluster.ask(&slot).await, board.left_slots()), ("1".to_owned(), Vec::new()));
    // While somebody follows it is not dropped, and that it is left is said.
    let stop = context();
    let left = tokio::spawn(tend(state.path().to_owned(), Vec::new(), Arc::clone(&board), stop.clone()));
    while board.left_slots().is_empty() {
        tokio::task::yield_now().await;
    }
    board.clear();
    let words = board.left_slots().join("; ");
    assert!(words.contains("has left the policy") && words.contains("pg_drop_replication_slot('garant_"), "{words}");
    stop.stop.cancel();
    left.await.expect("no panic");
    assert_eq!(cluster.ask(&slot).await, "1");
    follower.stop().await;
    while cluster.ask("select count(*) from pg_replication_slots where active").await != "0" {
        tokio::task::yield_now().await;
    }
    // The policy without it, after the agent has started again: what was followed is written down.
    tending(Vec::new()).await;
    assert_eq!((cluster.ask(&slot).await, board.left_slots()), ("0".to_owned(), Vec::new()));
    tending(Vec::new()).await;
    // Another cluster under the same name is another one, and what was written down of it can't be lost by a mistake.
    let elsewhere = Connection { socket: "/nowhere".into(), ..connection };
    tending(vec![DatabaseSettings { connection: elsewhere, ..wanted }]).await;
    let written = std::fs::read_to_string(state.path().join("slots.json")).expect("written");
    assert!(written.contains("/nowhere"), "{written}");
}

/// The first base and the receiver make the slot at the same time, and neither takes it from the other.
#[tokio::test]
async fn a_base_and_the_receiver_may_make_the_slot_at_once() {
    let cluster = Cluster::new("").await;
    for _ in 0..3 {
        let (of, kept) = (cluster.backup(), Kept::new());
        let mut follower = Follower::start(&of, &kept.repository);
        let (context, second) = (context(), cluster.backup());
        let (one, other) = tokio::join!(
            of.take_base(&context, &kept.repository, true, &()),
            second.take_base(&context, &kept.repository, true, &()),
        );
        one.and(other).expect("bases");
        follower.next().await.expect("it follows");
        follower.stop().await;
        while cluster.ask("select count(*) from pg_replication_slots where active").await != "0" {
            tokio::task::yield_now().await;
        }
        cluster.drop_slot().await;
    }
}
