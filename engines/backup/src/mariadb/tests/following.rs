//! The binary log is received byte for byte, and gone on with where it ended, or a new one is begun.

use std::collections::BTreeMap;

use super::*;
use crate::database::PieceHead;
use crate::mariadb::lineage;
use crate::mariadb::waiting::Facts;
use crate::sealed::Catalog;

/// The files of a log, put together of its pieces, and the head of the last piece.
async fn files(shelf: &Shelf, log: &str) -> (BTreeMap<u32, Vec<u8>>, PieceHead) {
    let repository = shelf.open();
    let catalog = Catalog::read(&repository, BACKUP).await.expect("a catalog");
    let next = |a: &crate::sealed::PieceName, b: &crate::sealed::PieceName| b.file == a.file + 1 && b.start == 0;
    let (pieces, more) = catalog.pieces(log, (1, 0), next).await.expect("pieces");
    assert!(!more, "no gap");
    let mut files: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut last = None;
    for piece in pieces {
        let (head, bytes) = repository.fetch(&piece.folder, &piece.name.to_string()).await.expect("fetched");
        let file = files.entry(piece.name.file).or_default();
        file.truncate(usize::try_from(piece.name.start).expect("small"));
        file.extend(bytes);
        assert_eq!(file.len() as u64, piece.name.end);
        last = Some(serde_json::from_slice(&head).expect("a head"));
    }
    (files, last.expect("a piece"))
}

/// Of a file that is written the server says so in its header, and not to its replicas.
fn closed(mut file: Vec<u8>) -> Vec<u8> {
    file[21] &= !1;
    file
}

pub(super) async fn same(server: &Server, shelf: &Shelf, log: &str) -> PieceHead {
    let (files, head) = files(shelf, log).await;
    for (number, bytes) in files {
        let theirs = closed(server.binlog(number));
        // A server that was killed while it wrote has left half an event there, which it gives to nobody.
        let rest = theirs.get(bytes.len()..).unwrap_or_default();
        let is_half =
            rest.len() < 19 || rest.len() < u32::from_le_bytes(rest[9..13].try_into().expect("four")) as usize;
        assert!(theirs.starts_with(&bytes) && (rest.is_empty() || is_half), "file {number}: {} bytes", bytes.len());
    }
    head
}

/// BK-2: what the server writes is what is kept, over rotations, restarts of either side, and events of any length.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_byte_for_byte() {
    let mut server = Server::new(&["--max-allowed-packet=64M", "--max-binlog-size=1M"]).await;
    let shelf = Shelf::new();
    server
        .run(&["CREATE DATABASE shop", "CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGBLOB)"])
        .await;
    let mut following = Following::of(&server, &shelf);
    let first = following.next().await;
    assert!(first.is_new_log && first.bytes > 0);
    server.run(&["INSERT INTO shop.notes (note) VALUES (REPEAT('a', 100)), (NULL)", "FLUSH LOGS"]).await;
    // Longer than a part, a packet, and what may wait in memory.
    for megabytes in [2, 17, 20] {
        server
            .run(&[&format!("INSERT INTO shop.notes (note) VALUES (REPEAT('b', {megabytes} * 1024 * 1024 - 12345))")])
            .await;
    }
    let caught_up = following.caught_up().await;
    assert!(!caught_up.is_new_log && caught_up.log == first.log);

    same(&server, &shelf, &first.log).await;

    // Killed while something waits, and started again.
    server.run(&["INSERT INTO shop.notes (note) VALUES ('c')"]).await;
    following.kill().await;
    server.run(&["INSERT INTO shop.notes (note) VALUES (REPEAT('d', 3000000))"]).await;
    let mut following = Following::of(&server, &shelf);
    let again = following.caught_up().await;
    assert!(!again.is_new_log && again.log == first.log);
    same(&server, &shelf, &first.log).await;

    // The server is killed and comes back: its log goes on in the next file.
    server.kill().await;
    let error = following.failed().await;
    assert!(error.to_string().contains("the connection broke"), "{error}");
    server.start().await;
    server.run(&["INSERT INTO shop.notes (note) VALUES ('e')"]).await;
    let mut following = Following::of(&server, &shelf);
    let again = following.caught_up().await;
    assert!(!again.is_new_log && again.log == first.log);
    following.stop().await;
    let head = same(&server, &shelf, &first.log).await;
    let facts: Facts = serde_json::from_value(head.facts).expect("facts");
    assert!(facts.file.version.contains("MariaDB") && facts.file.server == 7 && !facts.marks.is_empty());
    assert_eq!(lineage::logs(&shelf.open(), BACKUP).await.expect("listed"), [first.log]);
}

/// BK-2: a log that was begun anew, or of which something was purged, is another one: nothing is mixed or written over.
#[tokio::test(flavor = "multi_thread")]
async fn another_log_is_never_gone_on_with() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server
        .run(&["CREATE DATABASE shop", "CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGBLOB)"])
        .await;
    let first = following.caught_up().await;
    let (before, _) = files(&shelf, &first.log).await;
    server.run(&["RESET MASTER"]).await;
    following.failed().await;
    // The new file is soon longer than the old one was.
    server.run(&["INSERT INTO shop.notes (note) VALUES (REPEAT('f', 100000))", "FLUSH LOGS", "FLUSH LOGS"]).await;
    let mut following = Following::of(&server, &shelf);
    let second = following.next().await;
    assert!(second.is_new_log && second.log > first.log, "{second:?}");
    assert_eq!(files(&shelf, &first.log).await.0, before);
    following.stop().await;

    // Nothing follows, and what was not received is purged.
    server.run(&["INSERT INTO shop.notes (note) VALUES ('g')", "FLUSH LOGS", "FLUSH LOGS"]).await;
    let newest = server.rows("SHOW MASTER STATUS").await[0][0].clone().expect("a name");
    server.run(&[&format!("PURGE BINARY LOGS TO '{newest}'")]).await;
    let mut following = Following::of(&server, &shelf);
    let third = following.next().await;
    assert!(third.is_new_log && third.log > second.log, "{third:?}");
    following.stop().await;

    // Another server, with the same files at the same places.
    let other = Server::new(&["--server-id=8"]).await;
    other.run(&["FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS"]).await;
    let mut following = Following::of(&other, &shelf);
    let fourth = following.next().await;
    assert!(fourth.is_new_log && fourth.log > third.log, "{fourth:?}");
    following.stop().await;
}

/// The places take nothing for a while: what waits is added once they do, and in memory there is a bound.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_leaves_when_the_repository_is_back() {
    let server = Server::new(&["--max-allowed-packet=64M"]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server
        .run(&["CREATE DATABASE shop", "CREATE TABLE shop.notes (id INT PRIMARY KEY AUTO_INCREMENT, note LONGBLOB)"])
        .await;
    let first = following.caught_up().await;
    let away = shelf.path().with_extension("away");
    std::fs::rename(shelf.path(), &away).expect("moved");
    server.run(&["INSERT INTO shop.notes (note) VALUES (REPEAT('h', 20000000))"]).await;
    let nothing = tokio::time::timeout(Span::from_secs(12).to_std(), following.shipped.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    std::fs::rename(&away, shelf.path()).expect("moved back");
    following.caught_up().await;
    following.stop().await;
    same(&server, &shelf, &first.log).await;
}
