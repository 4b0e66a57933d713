//! What was restored is asked whether all is there.

use super::*;
use crate::canary;
use crate::checks::{Checked, SqlCheck, ask};
use crate::sources;

fn check(name: &str, sql: &str) -> SqlCheck {
    SqlCheck { name: name.into(), database: "shop".into(), sql: sql.into(), within: Span::from_secs(2) }
}

/// BK-5: the checks of the application are asked of what was restored, by an account that changes nothing, on a server that reaches
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn checks_are_asked_of_what_was_restored() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY, name TEXT)"]).await;
    server.run(&["INSERT INTO shop.orders VALUES (1, 'ada'), (2, 'grace')"]).await;
    following.next().await;
    base(&server, &shelf, true).await;
    let to = next_second().await;
    following.caught_up().await;
    following.stop().await;
    let place = Place::new();
    let restored = place.restore(&shelf, to).await.expect("restored");
    let catalog = crate::sealed::Catalog::read(&shelf.open(), BACKUP).await.expect("read");
    let set = &catalog.sets[0].manifest;
    let work = place.0.path().join("work");
    let live = [server.socket()];
    let examined = MariaDb::examine(&context(), set, &restored.folder, &work, &live).await.expect("a server");
    let checks = [
        check("two", "SELECT COUNT(*) = 2 FROM orders"),
        check("rows", "SELECT id FROM orders ORDER BY id"),
        check("three", "SELECT COUNT(*) = 3 FROM orders"),
        check("none", "SELECT 1 FROM orders WHERE id = 9"),
        check("null", "SELECT NULL"),
        check("no table", "SELECT 1 FROM customers"),
        check("slow", "SELECT SLEEP(60)"),
        check("insert", "INSERT INTO orders VALUES (3, 'mary')"),
        check("drop", "DROP TABLE orders"),
        check("several", "SELECT 1; SELECT 1"),
        check("file", "SELECT 1 INTO OUTFILE '/tmp/garant-check'"),
        check("data", "SELECT EXTRACTVALUE('<a/>', CONCAT('~', name)) FROM orders"),
    ];
    let mut checked: Vec<Checked> = Vec::new();
    for check in &checks {
        checked.push(ask(&*examined, check).await);
    }
    examined.stop().await.expect("in good order");
    let passed: Vec<&str> = checked.iter().filter(|check| check.passed).map(|check| &*check.name).collect();
    assert_eq!(passed, ["two", "rows"], "{checked:#?}");
    let why = |name: &str| checked.iter().find(|check| check.name == name).and_then(|it| it.why.clone()).expect("why");
    assert_eq!(
        (why("three"), why("none"), why("null")),
        ("it is not true".into(), "it has no row".into(), "it is NULL".into())
    );
    assert!(why("slow").contains("longer than 2 s"), "{}", why("slow"));
    assert!(why("insert").contains("denied") && why("file").contains("denied"), "{checked:#?}");
    assert!(!format!("{checked:?}").contains("ada"), "no data in errors: {checked:#?}");
    // The server of the application is what it was, and what was restored can be started by anybody.
    assert_eq!(server.rows("SELECT COUNT(*) FROM shop.orders").await.concat(), [Some("2".to_owned())]);
    assert!(!work.read_dir().expect("there").any(|_| true), "nothing is left in the folder of work");
    let restored = Server::on(place).await;
    assert_eq!(restored.rows("SELECT COUNT(*) FROM shop.orders").await.concat(), [Some("2".to_owned())]);
    let users = restored.rows("SELECT User FROM mysql.global_priv WHERE User LIKE 'garant%'").await;
    assert!(users.is_empty(), "the accounts are gone: {users:?}");
}

/// BK-5, BK-3: exactly the canary rows that were committed before the instant come back; the rows of another instant are noticed.
#[tokio::test(flavor = "multi_thread")]
async fn canary_rows_prove_the_instant() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    let table: crate::CanaryTable = "shop.garant_canary".parse().expect("a table");
    let remembered = server.path().join("canary");
    let database = mariadb(&server);
    let given = context();
    let put = || canary::put(&database, &table, &remembered, &given);
    server.run(&["CREATE DATABASE shop"]).await;
    let refused = put().await.expect_err("there is no table");
    assert!(refused.contains("CREATE TABLE `shop`.`garant_canary` (n BIGINT PRIMARY KEY"), "{refused}");
    server.run(&["CREATE TABLE shop.garant_canary (n BIGINT PRIMARY KEY, written_us BIGINT NOT NULL)"]).await;
    following.next().await;
    base(&server, &shelf, true).await;
    let mut instants = Vec::new();
    for _ in 0..3 {
        put().await.expect("a row");
        instants.push(next_second().await);
    }
    following.caught_up().await;
    following.stop().await;

    let settings = crate::DatabaseSettings {
        name: BACKUP.to_owned(),
        service: None,
        connection: Settings { socket: server.socket(), user: None, password: None },
        full_every: Span::from_secs(3600),
        incremental_every: Some(Span::from_secs(3600)),
        checks: Vec::new(),
        canary: Some(crate::config::Canary { table: table.clone(), every: Span::from_secs(60) }),
        data: None,
        stop: Vec::new(),
        start: Vec::new(),
    };
    let place = Place::new();
    let restored = place.restore(&shelf, instants[1]).await.expect("restored");
    let work = place.0.path().join("work");
    for (to, passes) in [(instants[1], true), (instants[0], false), (instants[2], false)] {
        let said = Restored { to, ..restored.clone() };
        let of = (&settings, Some(remembered.as_path()));
        let asked = sources::check(&context(), &shelf.open(), of, &said, &work, &()).await.expect("asked");
        assert_eq!(asked.checks.len(), 1, "{asked:?}");
        assert_eq!(asked.checks[0].passed, passes, "{to}: {asked:?}");
    }
}
