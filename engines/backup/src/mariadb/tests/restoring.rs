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

/// BK-3: where nobody received the log, it can't be told when a statement that ran for long was committed; and what a log has as a
/// statement may do something else the second time. Both are said.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_to_be_exact_is_said() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    following.next().await;
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.orders VALUES (1)"]).await;
    let watched = next_second().await;
    following.caught_up().await;
    following.stop().await;
    server.run(&["INSERT INTO shop.orders SELECT 2 + SLEEP(4)"]).await;
    let unwatched = SystemClock.now() - Span::from_secs(2);
    tokio::time::sleep(Span::from_secs(2).to_std()).await;
    let mut following = Following::of(&server, &shelf);
    following.caught_up().await;
    server.run(&["SET SESSION binlog_format = STATEMENT", "INSERT INTO shop.orders SELECT 3"]).await;
    following.caught_up().await;
    let by_statement = next_second().await;
    following.caught_up().await;
    following.stop().await;

    let doubts = async |to| Place::new().restore(&shelf, to).await.expect("restored").doubts;
    assert_eq!(doubts(watched).await, Vec::<String>::new());
    let said = doubts(unwatched).await;
    assert!(matches!(&said[..], [said] if said.contains("nobody received the log")), "{said:?}");
    let said = doubts(by_statement).await;
    assert!(matches!(&said[..], [said] if said.starts_with("1 of the statements")), "{said:?}");
}

/// Tables that are encrypted at rest, in the base and behind it: they are prepared and played by the keys of the server, which no backup
/// holds.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_encrypted_come_back() {
    let keys = server::folder();
    let file = keys.path().join("keys");
    std::fs::write(&file, format!("1;{}\n", "0123456789abcdef".repeat(4))).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("set");
    let named = format!("--file-key-management-filename={}", file.display());
    let server = Server::new(&["--plugin-load-add=file_key_management", &named]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    let table = |name: &str| {
        [
            format!("CREATE TABLE shop.{name} (note VARCHAR(40)) ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=1"),
            format!("INSERT INTO shop.{name} VALUES ('kept as a secret')"),
        ]
    };
    server.run(&["CREATE DATABASE shop"]).await;
    server.run(&table("early").each_ref().map(String::as_str)).await;
    following.next().await;
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.early VALUES ('more')"]).await;
    base(&server, &shelf, false).await;
    server.run(&table("late").each_ref().map(String::as_str)).await;
    let to = next_second().await;
    following.caught_up().await;
    following.stop().await;
    let place = Place::new();
    let restored = place.restore(&shelf, to).await.expect("restored");
    assert_eq!(restored.passed_over, []);
    let on_disk = std::fs::read(place.data().join("shop/early.ibd")).expect("there");
    assert!(!on_disk.windows(16).any(|part| part == b"kept as a secret"), "it is encrypted still");
    let restored = Server::on_with(place, &["--plugin-load-add=file_key_management", &named]).await;
    let notes = restored.rows("SELECT note FROM shop.early UNION ALL SELECT note FROM shop.late").await;
    assert_eq!(notes.len(), 3);

    // Without the keys nothing is said to be restored.
    std::fs::remove_file(&file).expect("removed");
    let error = Place::new().restore(&shelf, to).await.expect_err("nobody can read it").to_string();
    assert!(error.contains("key"), "{error}");
}

/// Tables whose data lie elsewhere (`DATA DIRECTORY`), made before the base and behind it: a restore holds them, and touches nothing of
/// the server that runs.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_tables_of_the_server_that_runs() {
    let server = Server::new(&[]).await;
    let (shelf, elsewhere) = (Shelf::new(), server::folder());
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("set");
    let table = |name: &str| {
        let folder = elsewhere.path().display();
        format!("CREATE TABLE shop.{name} (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{folder}'")
    };
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", &table("early"), "INSERT INTO shop.early VALUES (1)"]).await;
    following.next().await;
    // The agent is root, and may read everything; it may write to nothing of another user.
    if server::is_root() {
        let place = server.path().join("data/shop/early.isl");
        let said = |problems: &[crate::database::Problem]| {
            problems
                .iter()
                .map(|problem| format!("{}: {}", problem.what, problem.remedy))
                .collect::<Vec<_>>()
                .join("; ")
        };
        let found = said(&mariadb(&server).problems(&context()).await.expect("asked"));
        assert!(
            found.contains("the table shop/early") && found.contains(&format!("rw {}", place.display())),
            "{found}"
        );
        let allowed = engine::Program::new("setfacl").args(["-m", "u:root:rw"]).arg(&place);
        Programs::of_system().run(&allowed).await.expect("allowed");
        assert_eq!(said(&mariadb(&server).problems(&context()).await.expect("asked")), "");
    }
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.early VALUES (2)", &table("late"), "INSERT INTO shop.late VALUES (3)"]).await;
    let to = next_second().await;
    server.run(&["DELETE FROM shop.early", "INSERT INTO shop.late VALUES (4), (5)", "DROP TABLE shop.early"]).await;
    following.caught_up().await;
    following.stop().await;
    let files = || std::fs::read_dir(elsewhere.path().join("shop")).expect("there").count();
    let before = files();

    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    let restored = Server::on(place).await;
    let ids = restored.rows("SELECT id FROM shop.early UNION ALL SELECT id FROM shop.late ORDER BY id").await;
    assert_eq!(ids.concat(), ["1", "2", "3"].map(|id| Some(id.to_owned())));
    assert_eq!(files(), before);
    let ids = server.rows("SELECT id FROM shop.late ORDER BY id").await;
    assert_eq!(ids.concat(), ["3", "4", "5"].map(|id| Some(id.to_owned())));
}
