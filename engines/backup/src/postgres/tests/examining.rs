//! What was restored is asked whether all is there.

use event::Span;

use super::super::Postgres;
use super::cluster::{Cluster, Follower, Kept, context, now, restored};
use crate::canary;
use crate::checks::{Checked, SqlCheck, ask};
use crate::database::Database as _;
use crate::sources;

fn check(name: &str, sql: &str) -> SqlCheck {
    SqlCheck { name: name.into(), database: "shop".into(), sql: sql.into(), within: Span::from_secs(2) }
}

/// BK-5: the checks of the application are asked of what was restored, by a role that changes nothing, on a server that reaches
/// nothing.
#[tokio::test]
async fn checks_are_asked_of_what_was_restored() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    cluster.ask("create database shop").await;
    let mut shop = cluster.in_database("shop").await;
    for statement in ["create table orders (id int, name text)", "insert into orders values (1, 'ada'), (2, 'grace')"] {
        shop.query(statement).await.expect(statement);
    }
    cluster.ask("alter system set work_mem = '5MB'").await;
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    let to = now();
    follower.through(to).await;
    follower.stop().await;
    let (folder, done) = restored(&kept, to).await;
    let done = done.expect("restored");
    let catalog = crate::sealed::Catalog::read(&kept.repository, "crm-db").await.expect("read");
    let (set, work) = (&catalog.sets[0].manifest, folder.path().join("work"));
    let live = [cluster.socket().join(".s.PGSQL.5432")];
    let examined = Postgres::examine(&context(), set, &done.folder, &work, &live).await.expect("a server");
    let checks = [
        check("two", "select count(*) = 2 from orders"),
        check("rows", "select id from orders order by id"),
        check("three", "select count(*) = 3 from orders"),
        check("none", "select 1 from orders where id = 9"),
        check("null", "select null"),
        check("no table", "select 1 from customers"),
        check("slow", "select pg_sleep(60)"),
        check("insert", "insert into orders values (3, 'mary')"),
        check("drop", "drop table orders"),
        check("several", "select 1; select 1"),
        check("program", "copy orders to program 'true'"),
        check("data", "select name::int from orders"),
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
    assert!(why("slow").contains("longer than 2 s") && why("no table").contains("customers"), "{checked:#?}");
    assert!(!format!("{checked:?}").contains("ada"), "no data in errors: {checked:#?}");
    assert!(!work.read_dir().expect("there").any(|_| true), "nothing is left in the folder of work");
    let altered = std::fs::read_to_string(done.folder.join("postgresql.auto.conf")).expect("there");
    assert!(altered.contains("work_mem"), "what was set is there again: {altered}");
    let started = Cluster::on(&done.folder, folder).await;
    assert_eq!(started.ask("select pg_is_in_recovery()").await, "f");
}

/// BK-5, BK-2: exactly the canary rows that were committed before the instant come back; the rows of another instant are noticed.
#[tokio::test]
async fn canary_rows_prove_the_instant() {
    let (cluster, kept) = (Cluster::new("").await, Kept::new());
    let of = cluster.backup();
    let mut follower = Follower::start(&of, &kept.repository);
    let table: crate::CanaryTable = "postgres.garant_canary".parse().expect("a table");
    let remembered = cluster.socket().join("canary");
    let given = context();
    let put = || canary::put(&of, &table, &remembered, &given);
    let refused = put().await.expect_err("there is no table");
    assert!(refused.contains("CREATE TABLE \"garant_canary\" (n BIGINT PRIMARY KEY"), "{refused}");
    cluster.ask("create table garant_canary (n bigint primary key, written_us bigint not null)").await;
    of.take_base(&context(), &kept.repository, true, &()).await.expect("a base");
    let mut instants = Vec::new();
    for _ in 0..3 {
        put().await.expect("a row");
        instants.push(now());
    }
    follower.through(now()).await;
    follower.stop().await;

    let settings = crate::DatabaseSettings {
        name: "crm-db".to_owned(),
        service: None,
        connection: crate::Connection { socket: cluster.socket(), user: None, password: None },
        full_every: Span::from_secs(3600),
        incremental_every: None,
        checks: Vec::new(),
        canary: Some(crate::config::Canary { table: table.clone(), every: Span::from_secs(60) }),
        data: None,
        stop: Vec::new(),
        start: Vec::new(),
    };
    let (folder, done) = restored(&kept, instants[1]).await;
    let done = done.expect("restored");
    let work = folder.path().join("work");
    for (to, passes) in [(instants[1], true), (instants[0], false), (instants[2], false)] {
        let said = crate::database::Restored { to, ..done.clone() };
        let of = (&settings, Some(remembered.as_path()));
        let asked = sources::check(&context(), &kept.repository, of, &said, &work, &()).await.expect("asked");
        assert_eq!(asked.checks.len(), 1, "{asked:?}");
        assert_eq!(asked.checks[0].passed, passes, "{to}: {asked:?}");
    }
}
