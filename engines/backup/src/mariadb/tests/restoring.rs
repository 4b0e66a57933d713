//! Servers are restored to a second, exactly, or not at all.

use drawn::Draws;

use super::ledger::Ledger;
use super::*;

/// How many seconds are drawn.
const SECONDS: usize = 10;

/// BK-3, BK-4: whatever a client was told is there, and nothing that was begun later: at random seconds of a server under load that was
/// killed at the end.
#[tokio::test(flavor = "multi_thread")]
async fn random_seconds_are_restored_exactly() {
    let mut draws = Draws::from_environment();
    let mut server = Server::new(&["--max-binlog-size=1M"]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    let mut ledger = Ledger::start(&server, &mut draws, 4).await;
    following.next().await;
    base(&server, &shelf, true).await;
    let first = next_second().await;
    tokio::time::sleep(Span::from_secs(6).to_std()).await;
    let incremental = base(&server, &shelf, false).await;
    assert_eq!(incremental.kind, "incremental");
    tokio::time::sleep(Span::from_secs(6).to_std()).await;
    let incremental = base(&server, &shelf, false).await;
    assert_eq!(incremental.kind, "incremental");
    let caught_up = following.caught_up().await;
    server.kill().await;
    ledger.end(false).await;
    following.failed().await;
    let seconds = caught_up.through.since(first).secs();
    assert!(ledger.len() > 100 && seconds > 12, "{} transactions in {seconds} s", ledger.len());
    for _ in 0..SECONDS {
        let to = first + Span::from_secs(draws.below(seconds + 1));
        let place = Place::new();
        let restored = place.restore(&shelf, to).await.unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!((restored.to, &restored.folder), (to, &place.data()));
        let server = Server::on(place).await;
        let there = ledger.check(&server, to).await;
        println!("{to}: {there} of {} transactions, of {}", ledger.len(), restored.set);
    }
}

/// BK-3: a table that was dropped comes back as it was a second before.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_comes_back() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    server.run(&["INSERT INTO shop.orders VALUES (1), (2)"]).await;
    following.next().await;
    let full = base(&server, &shelf, true).await;
    assert_eq!((full.kind.as_str(), full.log.is_some(), full.streams.len()), ("full", true, 1));
    server.run(&["INSERT INTO shop.orders VALUES (3)"]).await;
    let to = next_second().await;
    server.run(&["DROP TABLE shop.orders"]).await;
    following.caught_up().await;
    following.stop().await;

    let place = Place::new();
    let restored = place.restore(&shelf, to).await.expect("restored");
    assert!(restored.last_commit.expect("one").at < to && restored.next_commit.expect("one").at >= to);
    assert_eq!(restored.set, full.set);
    assert!(
        !place.0.path().join("work").read_dir().expect("there").any(|_| true),
        "nothing is left in the folder of work"
    );
    let again = place.restore(&shelf, to).await.expect_err("it is not empty any more");
    assert!(again.to_string().contains("is not empty"), "{again}");
    let server = Server::on(place).await;
    let rows = server.rows("SELECT id FROM shop.orders").await;
    assert_eq!(rows.concat(), ["1", "2", "3"].map(|id| Some(id.to_owned())));
    let users = server.rows("SELECT User FROM mysql.global_priv WHERE User LIKE 'garant%'").await;
    assert!(users.is_empty(), "the account that played the log is gone: {users:?}");
}
