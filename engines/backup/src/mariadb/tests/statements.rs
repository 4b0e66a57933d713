//! Statements of every kind are done again as they were done, and none does anything else.

use super::*;

const STATEMENTS: &[&str] = &[
    "CREATE DATABASE shop",
    "USE shop",
    "CREATE TABLE a (i INT PRIMARY KEY, t TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6), g INT AS (i + 1) PERSISTENT)",
    "INSERT INTO a (i) VALUES (1)",
    "CREATE PROCEDURE p() INSERT INTO a (i) VALUES (100)",
    "CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.t = NOW(6)",
    "CREATE VIEW v AS SELECT * FROM a",
    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO INSERT INTO a (i) VALUES (777)",
    "CREATE USER 'u'@'localhost' IDENTIFIED BY 'first'",
    "GRANT SELECT ON shop.* TO 'u'@'localhost'",
    "SET PASSWORD FOR 'u'@'localhost' = PASSWORD('second')",
    // Without the last words it is whoever plays the log.
    "CREATE ROLE r WITH ADMIN 'u'@'localhost'",
    "CREATE SEQUENCE s",
    "SELECT NEXTVAL(s)",
    "CREATE TABLE m (i INT) ENGINE=MyISAM",
    "INSERT INTO m VALUES (1), (2)",
    "CREATE TABLE ar (i INT) ENGINE=Aria",
    "INSERT INTO ar VALUES (1), (2)",
    "CREATE TABLE c AS SELECT * FROM a",
    "CREATE TABLE pt (i INT) PARTITION BY RANGE (i) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
    "INSERT INTO pt VALUES (1), (20)",
    "ALTER TABLE pt TRUNCATE PARTITION p0",
    "CALL p()",
    // These answer with rows, more of them than a pipe holds if they are many.
    "ANALYZE TABLE a",
    "OPTIMIZE TABLE a",
    "FLUSH TABLES",
    // Whoever may say so is in another century, and is not believed.
    "SET TIMESTAMP = 4000000",
    "INSERT INTO a (i) VALUES (3)",
    "SET TIMESTAMP = 2000000000",
    "INSERT INTO a (i) VALUES (4)",
    "SET TIMESTAMP = DEFAULT",
    "CREATE TEMPORARY TABLE tt (i INT)",
    "INSERT INTO tt VALUES (1)",
    "INSERT INTO a (i) SELECT i + 500 FROM tt",
    "BEGIN",
    "INSERT INTO a (i) VALUES (900)",
    "SAVEPOINT sp",
    "INSERT INTO a (i) VALUES (901)",
    "ROLLBACK TO sp",
    "INSERT INTO m VALUES (9)",
    "COMMIT",
    "SET sql_mode = ''",
    "CREATE TABLE z (d DATETIME DEFAULT '0000-00-00')",
    "INSERT INTO z VALUES ('0000-00-00')",
    "SET sql_mode = DEFAULT",
    // What the client `mariadb` would obey, if it did not read them as they are.
    "ALTER TABLE a ADD COLUMN q VARCHAR(50) DEFAULT 'é''; -- \n\\! touch /tmp/garant-obeyed\ndelimiter x\n', COMMENT = '\n\\! touch /tmp/garant-obeyed\n'",
    "CREATE TABLE `we``ird; name` (`x y` INT)",
    "DROP TABLE `we``ird; name`",
    "RENAME USER 'u'@'localhost' TO 'w'@'localhost'",
    // What a session may be allowed, and the log does not say.
    "SET innodb_strict_mode = OFF",
    "CREATE TABLE fixed (i INT) ENGINE=InnoDB ROW_FORMAT=FIXED",
    "SET innodb_strict_mode = ON",
    "CREATE TABLE sv (i INT) WITH SYSTEM VERSIONING",
    "SET system_versioning_alter_history = KEEP",
    "ALTER TABLE sv ADD COLUMN w INT DEFAULT 5",
    "INSTALL SONAME 'ha_archive'",
    "CREATE TABLE arch (i INT) ENGINE=ARCHIVE",
    "INSERT INTO arch VALUES (1)",
    "DROP TABLE arch",
    "DROP TABLE IF EXISTS never_there",
    "DROP TEMPORARY TABLE tt",
    "INSERT INTO a (i) VALUES (1000)",
];

/// What a server holds: rows and sums of its tables, and what is made of statements.
async fn holds(server: &Server) -> Vec<Vec<crate::mariadb::connection::Row>> {
    let mut all = Vec::new();
    for query in [
        "SELECT * FROM shop.a ORDER BY i",
        "SELECT * FROM shop.m ORDER BY i",
        "SELECT * FROM shop.ar ORDER BY i",
        "SELECT * FROM shop.c ORDER BY i",
        "SELECT * FROM shop.pt ORDER BY i",
        "SELECT * FROM shop.z",
        "SELECT * FROM shop.s",
        "CHECKSUM TABLE shop.a, shop.m, shop.ar, shop.c, shop.pt, shop.z, shop.s",
        "SHOW CREATE TABLE shop.a",
        "SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'",
        "SELECT ROUTINE_NAME, ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop'",
        "SELECT EVENT_NAME, EVENT_DEFINITION FROM information_schema.EVENTS",
        "SELECT TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'shop'",
        "SELECT User, Host, Priv FROM mysql.global_priv ORDER BY User, Host",
        "SELECT * FROM mysql.roles_mapping",
        "SELECT * FROM mysql.db",
    ] {
        all.push(server.rows(query).await);
    }
    all
}

/// BK-3.
#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_done_again_as_it_was() {
    let obeyed = Path::new("/tmp/garant-obeyed");
    assert!(!obeyed.exists());
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    following.next().await;
    base(&server, &shelf, true).await;
    server.run(STATEMENTS).await;
    // Two of a kind at once: one is prepared, and committed behind another one.
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for statement in ["XA START 'x'", "INSERT INTO shop.c (i) VALUES (2000)", "XA END 'x'", "XA PREPARE 'x'"] {
        first.query(statement).await.expect("done");
    }
    second.query("INSERT INTO shop.c (i) VALUES (2001)").await.expect("done");
    first.query("XA COMMIT 'x'").await.expect("done");
    let held = holds(&server).await;
    let to = next_second().await;

    // A statement that begins before the instant, and is committed after it, is not in it.
    following.caught_up().await;
    following.stop().await;
    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    let restored = holds(&Server::on(place).await).await;
    for (restored, held) in restored.into_iter().zip(held) {
        assert_eq!(restored, held);
    }
    assert!(!obeyed.exists());
}

/// BK-3: by its header a statement belongs to the second in which it began, and it is committed when it has run for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_belongs_to_when_it_was_committed() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    server.run(&["INSERT INTO shop.orders VALUES (1), (2)"]).await;
    following.next().await;
    base(&server, &shelf, true).await;
    let mut connection = server.connect().await;
    let long = tokio::spawn(async move {
        let deleted = connection.query("DELETE FROM shop.orders WHERE id > 0 AND SLEEP(2.5) = 0").await;
        deleted.expect("done");
    });
    next_second().await;
    let to = next_second().await;
    assert!(!long.is_finished());
    long.await.expect("no panic");
    following.caught_up().await;
    following.stop().await;
    let place = Place::new();
    let restored = place.restore(&shelf, to).await.expect("restored");
    assert!(restored.next_commit.expect("the statement").at < to, "its header is no proof");
    let rows = Server::on(place).await.rows("SELECT id FROM shop.orders").await;
    assert_eq!(rows.len(), 2);
}

/// BK-2: CREATE TABLE … SELECT is one commit in the log and two where it is played; a restore may end with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_of_rows_may_be_the_last_commit() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    following.next().await;
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.a (i INT)", "INSERT INTO shop.a VALUES (1), (2)"]).await;
    base(&server, &shelf, true).await;
    let mut instants = Vec::new();
    for engine in ["InnoDB", "MyISAM", "Aria"] {
        server.run(&[&*format!("CREATE TABLE shop.{engine} ENGINE={engine} SELECT i, UUID() AS u FROM shop.a")]).await;
        instants.push((next_second().await, engine, server.rows(&format!("SELECT * FROM shop.{engine}")).await));
    }
    server.run(&["INSERT INTO shop.a VALUES (3)"]).await;
    next_second().await;
    following.caught_up().await;
    following.stop().await;
    for (to, engine, rows) in instants {
        let place = Place::new();
        let restored = place.restore(&shelf, to).await.expect(engine);
        assert_eq!(restored.doubts, Vec::<String>::new(), "{engine}");
        assert_eq!(Server::on(place).await.rows(&format!("SELECT * FROM shop.{engine}")).await, rows, "{engine}");
    }
}
