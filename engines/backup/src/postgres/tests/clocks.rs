//! Clocks that are not as they should be.

use std::sync::Arc;

use engine::Context;
use engine::clock::SimClock;
use event::{Clock as _, Span};

use super::super::Postgres;
use super::cluster::{Cluster, Follower, Kept, context, now, rewound};
use crate::database::{Database as _, IDLE_EVERY, SHIP_AFTER, SHIP_EVERY};

/// BK-2: an instant is one of our clock, whatever that of the server says.
#[tokio::test]
async fn a_server_with_another_clock_is_restored_to_an_instant_of_ours() {
    for clock in ["+3600", "-3600"] {
        let (mut cluster, kept) = (Cluster::new("").await, Kept::new());
        cluster.with_clock(clock).await;
        let of = cluster.backup();
        cluster.ask("create table t (a int)").await;
        let mut follower = Follower::start(&of, &kept.repository);
        follower.next().await.expect("it follows");
        of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
        cluster.ask("insert into t values (1)").await;
        let between = now();
        cluster.ask("insert into t values (2)").await;
        let newest = follower.stop().await.pop().expect("a piece").through;
        assert!(newest >= between && newest <= now(), "{newest}");
        let (server, _) = rewound(&kept, between).await;
        assert_eq!(server.ask("select string_agg(a::text, ' ') from t").await, "1", "{clock}");
    }
}

/// BK-2: clocks that were set back make instants that there are twice. Behind a new base they are those of the second time.
#[tokio::test]
async fn clocks_that_were_set_back_lose_nothing_behind_a_new_base() {
    let (mut cluster, kept) = (Cluster::new("").await, Kept::new());
    let clock = Arc::new(SimClock::starting_at(now() + Span::from_secs(3600)));
    let context = || Context { clock: Arc::clone(&clock) as _, ..context() };
    cluster.with_clock("+3600").await;
    let of = cluster.backup();
    cluster.ask("create table t (a int)").await;
    let mut follower = Follower::with(context(), &of, &kept.repository);
    follower.next().await.expect("it follows");
    follower.stop().await;
    cluster.with_clock("+0").await;
    clock.step(Span::from_secs(-3600));
    let mut follower = Follower::with(context(), &of, &kept.repository);
    follower.next().await.expect("it follows");
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    cluster.ask("insert into t values (1)").await;
    let between = clock.now();
    cluster.ask("insert into t values (2)").await;
    follower.stop().await;
    let (server, _) = rewound(&kept, between).await;
    assert_eq!(server.ask("select string_agg(a::text, ' ') from t").await, "1");
}

/// BK-2: where the clock was set back, which commits were made before an instant can't be told, and that is said, until the next base.
#[tokio::test]
async fn an_instant_that_a_clock_was_set_back_before_is_in_doubt_until_the_next_base() {
    let (mut cluster, kept) = (Cluster::new("").await, Kept::new());
    let clock = Arc::new(SimClock::starting_at(now()));
    let context = || Context { clock: Arc::clone(&clock) as _, ..context() };
    let of = cluster.backup();
    cluster.ask("create table t (a int)").await;
    let mut follower = Follower::with(context(), &of, &kept.repository);
    follower.next().await.expect("it follows");
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    follower.stop().await;
    for (seconds, row) in [("+3600", 1), ("+0", 2)] {
        cluster.with_clock(seconds).await;
        clock.step(Span::from_secs(if row == 1 { 3600 } else { -3600 }));
        let mut follower = Follower::with(context(), &of, &kept.repository);
        cluster.ask(&format!("insert into t values ({row})")).await;
        follower.next().await.expect("it follows");
        follower.stop().await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let between = clock.now();
    let mut follower = Follower::with(context(), &of, &kept.repository);
    cluster.ask("insert into t values (3)").await;
    follower.next().await.expect("it follows");
    let (_, restored) = rewound(&kept, between).await;
    let doubts = restored.doubts.join("; ");
    assert!(doubts.contains("was set back"), "{doubts:?}");

    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let between = clock.now();
    cluster.ask("insert into t values (4)").await;
    follower.stop().await;
    let (server, restored) = rewound(&kept, between).await;
    assert_eq!(restored.doubts, [""; 0], "behind a base nothing is in doubt");
    assert_eq!(server.ask("select string_agg(a::text, ' ') from t").await, "1 2 3");
}

/// BK-1: what there is to ship leaves the host within ten seconds, and a log in which nothing happens says so each minute.
#[tokio::test]
async fn a_log_leaves_within_ten_seconds_and_says_each_minute_that_nothing_happens() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let clock = Arc::new(SimClock::starting_at(now()));
    let context = Context { clock: Arc::clone(&clock) as _, ..context() };
    let of = Postgres { ship_after: SHIP_AFTER, ..cluster.backup() };
    cluster.ask("create table t (a int)").await;
    let mut follower = Follower::with(context, &of, &kept.repository);
    clock.suspend(IDLE_EVERY - Span::from_secs(30));
    while follower.soon().await.is_some() {
        clock.suspend(Span::from_secs(1));
    }
    cluster.ask("insert into t values (1)").await;
    assert!(follower.soon().await.is_none(), "it waits for more");
    // A second is for the next look, and one for the way.
    clock.suspend(SHIP_EVERY - Span::from_secs(2));
    let shipped = follower.soon().await.expect("it has left");
    assert!(shipped.bytes > 0);
    let mut waited = Span::ZERO;
    let idle = loop {
        assert!(waited < IDLE_EVERY + Span::from_secs(10), "it says nothing");
        clock.suspend(Span::from_secs(10));
        waited = waited + Span::from_secs(10);
        match follower.soon().await {
            None => {}
            Some(shipped) if shipped.bytes == 0 => break shipped,
            // The server writes a record of its own now and then.
            Some(_) => waited = Span::ZERO,
        }
    };
    // What came before it may have left just before a look.
    assert!(idle.through > shipped.through && waited + Span::from_secs(10) >= IDLE_EVERY, "{waited}");
    follower.stop().await;
}
