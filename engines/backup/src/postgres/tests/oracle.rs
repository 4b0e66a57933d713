//! The oracle: many write, everything is killed, and each instant is as those who wrote remember it.

use std::sync::Arc;
use std::time::Duration;

use drawn::Draws;
use event::Time;

use super::cluster::{Cluster, Follower, Kept, context, restored, rewound};
use super::ledger::{Ledger, WRITERS};
use crate::database::{Database as _, DatabaseError};

/// BK-2, BK-5: ten random instants, and the edges of a commit, while everybody writes and everything is killed at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_instant_is_as_those_who_wrote_remember_it() {
    let mut draws = Draws::from_environment();
    let cluster = Arc::new(Cluster::new("max_prepared_transactions = 20\nsynchronous_commit = on").await);
    let (kept, of) = (Kept::new(), cluster.backup());
    let mut ledger = Ledger::new(&cluster, true).await;
    let mut follower = Follower::start(&of, &kept.repository);
    let first = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    ledger.go_on(&mut draws);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let second = of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    tokio::time::sleep(Duration::from_secs(6)).await;
    follower.next().await.expect("it follows");
    cluster.kill().await;
    ledger.end().await;
    let (ended, shipped) = follower.ended().await;
    ended.expect_err("the server is gone");
    let newest = shipped.last().expect("a piece").through;
    let acknowledged: Vec<Time> = ledger.remembered.iter().filter_map(|of| of.acknowledged).collect();
    println!("{} transactions of {WRITERS} writers, {} acknowledged", ledger.remembered.len(), acknowledged.len());
    assert!(acknowledged.len() > 200 && newest > second.consistent_at, "{} {newest}", acknowledged.len());

    let from = first.consistent_at;
    let span = newest.since(from).micros();
    let mut instants: Vec<Time> = (0..10).map(|_| from + event::Span::from_micros(1 + draws.below(span))).collect();
    let edge = acknowledged.iter().copied().filter(|at| *at > from && *at < newest).nth(100).expect("a commit");
    instants.extend([edge, newest]);
    let (mut before, mut bases) = (0, std::collections::BTreeSet::new());
    for at in instants {
        let (server, restored) = rewound(&kept, at).await;
        ledger.check(&server, at).await;
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
