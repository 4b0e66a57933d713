//! Clocks that are not as they should be.

use std::sync::Arc;

use engine::Context;
use engine::clock::SimClock;
use event::{Clock as _, Span};

use super::cluster::{Cluster, Follower, Kept, context, now, rewound};
use crate::database::Database as _;

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
