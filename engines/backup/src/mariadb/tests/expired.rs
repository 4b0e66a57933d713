//! What was kept for long enough can't be restored any more, and what was not can.

use super::*;

/// Promise BK-6: on day 91 a database can't be restored to what it was before day 1, and to everything since.
#[tokio::test(flavor = "multi_thread")]
async fn day_91_can_not_be_restored() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    let mut instants = Vec::new();
    let mut bases = Vec::new();
    for full in [true, false, true] {
        bases.push(base(&server, &shelf, full).await);
        server.run(&[&format!("INSERT INTO shop.orders VALUES ({})", bases.len())]).await;
        instants.push(next_second().await);
        following.caught_up().await;
        next_second().await;
    }
    following.stop().await;
    for (to, orders) in instants.iter().zip(1..) {
        let place = Place::new();
        place.restore(&shelf, *to).await.expect("on day 1");
        assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), orders);
    }
    let destroyed =
        crate::expiry::tests::destroyed_at(shelf.path(), BACKUP, SystemClock.now() + Span::from_days(91)).await;
    assert_eq!(destroyed, [0, 1].map(|base: usize| format!("sets/{BACKUP}/{}", bases[base].set)));
    for to in &instants[..2] {
        let error = Place::new().restore(&shelf, *to).await.expect_err("on day 91");
        assert!(matches!(error, DatabaseError::Unreachable(_)), "{error}");
        assert!(error.to_string().contains("its first base shows"), "{error}");
    }
    let place = Place::new();
    place.restore(&shelf, instants[2]).await.expect("it is the newest");
    assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), 3);
}

/// Where nothing had happened for a while before a base, the log that was written last has expired before it, and is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_needs_nothing_of_the_log_before_it() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    following.caught_up().await;
    let before = faults::pieces(&shelf);
    assert!(!before.is_empty());
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.orders VALUES (1)"]).await;
    let to = next_second().await;
    following.caught_up().await;
    next_second().await;
    following.stop().await;
    for piece in before {
        std::fs::remove_file(piece).expect("removed");
    }
    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), 1);
}
