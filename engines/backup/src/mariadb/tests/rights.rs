//! What a server lacks is said with what mends it, and what mends it is enough.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::SecretPlace;
use crate::database::Problem;

async fn problems(mariadb: &MariaDb) -> Vec<Problem> {
    mariadb.problems(&context()).await.expect("asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_lose_something_are_found() {
    let server = Server::new(&[]).await;
    assert_eq!(problems(&mariadb(&server)).await, []);
    drop(server);
    let server = Server::with(&[
        "--log-bin=binlog",
        "--server-id=7",
        "--sync-binlog=0",
        "--innodb-flush-log-at-trx-commit=2",
        "--binlog-checksum=NONE",
        "--binlog-ignore-db=scratch",
        "--binlog-expire-logs-seconds=3600",
    ])
    .await;
    let found = problems(&mariadb(&server)).await;
    let expected = [
        ("binlog_format is MIXED", "binlog_format = ROW", false),
        ("sync_binlog is 0", "sync_binlog = 1", false),
        ("innodb_flush_log_at_trx_commit is 2", "innodb_flush_log_at_trx_commit = 1", false),
        ("gtid_strict_mode is 0", "gtid_strict_mode = 1", true),
        ("binlog_checksum is NONE", "binlog_checksum = CRC32", true),
        ("the binary log is only of some databases", "take the lines binlog_do_db", false),
        ("the server deletes its log after 3600 s", "SET GLOBAL binlog_expire_logs_seconds = 86400;", true),
    ];
    for (problem, (what, remedy, is_warning)) in found.iter().zip(expected) {
        assert!(problem.what.starts_with(what) && problem.remedy.starts_with(remedy), "{problem:?}");
        assert_eq!(problem.is_warning, is_warning, "{problem:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    server.run(&["SET GLOBAL binlog_format = ROW"]).await;

    // All the same, a log without checksums is kept and restored.
    let shelf = Shelf::new();
    let mut following = Following::of(&server, &shelf);
    server.run(&["CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY)"]).await;
    let first = following.next().await;
    base(&server, &shelf, true).await;
    server.run(&["INSERT INTO shop.orders VALUES (1)", "FLUSH LOGS", "INSERT INTO shop.orders VALUES (2)"]).await;
    let to = next_second().await;
    following.caught_up().await;
    following.stop().await;
    super::following::same(&server, &shelf, &first.log).await;
    let place = Place::new();
    place.restore(&shelf, to).await.expect("restored");
    assert_eq!(Server::on(place).await.rows("SELECT * FROM shop.orders").await.len(), 2);
    drop(server);

    let server = Server::with(&["--server-id=7"]).await;
    let found = problems(&mariadb(&server)).await;
    assert!(found[0].what.starts_with("log_bin is 0") && found[0].remedy.starts_with("log_bin = binlog"), "{found:?}");
    let error = mariadb(&server).follow(&context(), &shelf.open(), &mut |_| {}).await.expect_err("there is no log");
    assert!(error.to_string().contains("not using binary logging"), "{error}");
}

/// The rights that are asked for are enough.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_rights_that_are_asked_for_is_enough() {
    let server = Server::new(&[]).await;
    let shelf = Shelf::new();
    let secret = server.path().join("password");
    std::fs::write(&secret, "p\"a'ss\\word #1\n").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let settings =
        Settings { socket: server.socket(), user: Some("garant".into()), password: Some(SecretPlace::File(secret)) };
    let mariadb = MariaDb::new(BACKUP, settings, server.path().join("garant"));
    let found = problems(&mariadb).await;
    assert!(
        found.len() == 1 && found[0].remedy.starts_with("CREATE USER 'garant'@'localhost' IDENTIFIED"),
        "{found:?}"
    );
    server.run(&[r#"CREATE USER 'garant'@'localhost' IDENTIFIED BY 'p"a\'ss\\word #1'"#]).await;
    let found = problems(&mariadb).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].remedy.contains("RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE"), "{found:?}");
    server.run(&[&found[0].remedy]).await;
    assert_eq!(problems(&mariadb).await, []);

    let (context, repository) = (context(), shelf.open());
    let (tell, mut shipped) = tokio::sync::mpsc::unbounded_channel();
    let mut told = move |piece: Shipped| drop(tell.send(piece));
    let work = async {
        assert!(shipped.recv().await.expect("a piece").is_new_log);
        mariadb.take_base(&context, &repository, true, &()).await.expect("a base");
        mariadb.take_base(&context, &repository, false, &()).await.expect("a base");
        context.stop.cancel();
    };
    let (followed, ()) = tokio::join!(mariadb.follow(&context, &repository, &mut told), work);
    followed.expect("followed");
}

/// Nothing is ever granted to the anonymous account, for everybody on the host may use it.
#[tokio::test(flavor = "multi_thread")]
async fn the_anonymous_account_is_given_no_right() {
    let server = Server::new(&[]).await;
    server.run(&["CREATE USER ''@'localhost'"]).await;
    let settings = Settings { socket: server.socket(), user: Some("backup".into()), password: None };
    let mariadb = MariaDb::new(BACKUP, settings, server.path().join("garant"));
    let found = problems(&mariadb).await;
    let of_account =
        found.iter().find(|problem| problem.what.contains("anonymous account ''@localhost")).expect("said");
    assert!(of_account.remedy.starts_with("CREATE USER 'backup'@'localhost' IDENTIFIED VIA unix_socket"), "{found:?}");
    assert!(found.iter().all(|problem| !problem.remedy.contains("TO ''")), "{found:?}");
}
