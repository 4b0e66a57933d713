//! What is missing is named, with what mends it; and it does.

use std::io::Write as _;

use super::super::Postgres;
use super::cluster::{Cluster, Follower, Kept, context};
use crate::config::{Connection as Settings, SecretPlace};
use crate::database::{Database as _, Problem};

fn named(problems: &[Problem]) -> Vec<(&str, bool)> {
    problems
        .iter()
        .map(|problem| (problem.what.split([' ', ':']).next().unwrap_or_default(), problem.is_warning))
        .collect()
}

#[tokio::test]
async fn what_is_missing_is_named_with_what_mends_it() {
    let context = context();
    let cluster = Cluster::new("wal_level = minimal\nmax_wal_senders = 0\nmax_slot_wal_keep_size = -1").await;
    let found = cluster.backup().problems(&context).await.expect("asked");
    let expected = [
        ("wal_level", false),
        ("max_wal_senders", false),
        ("max_slot_wal_keep_size", false),
        ("fsync", true),
        ("number", false),
    ];
    assert_eq!(named(&found), expected, "{found:?}");
    // What can be mended in SQL is, as it is said.
    let mut sql = cluster.sql().await;
    for problem in &found {
        for statement in problem.remedy.split_inclusive(';').filter(|text| text.trim_start().starts_with("ALTER")) {
            sql.query(statement).await.expect(statement);
        }
    }
    cluster.stop().await;
    cluster.start().await;
    assert_eq!(cluster.backup().problems(&context).await.expect("asked"), []);

    // Nobody may come in but by what was said: a role with a password, and the lines for it.
    let hba = cluster.data.join("pg_hba.conf");
    std::fs::write(&hba, "local all postgres trust\nlocal all garant scram-sha-256\n").expect("written");
    cluster.ask("select pg_reload_conf()").await;
    let mut secret = tempfile::NamedTempFile::new().expect("a file");
    secret.write_all(b"open sesame\n").expect("written");
    let settings = |password: Option<SecretPlace>| Settings {
        socket: cluster.socket().join(".s.PGSQL.5432"),
        user: Some("garant".into()),
        password,
    };
    let with = Postgres::new("crm-db", settings(Some(SecretPlace::File(secret.path().to_owned()))));
    let mut sql = cluster.sql().await;
    let mut mended = Vec::new();
    for _ in 0..10 {
        let found = with.problems(&context).await.expect("asked");
        let Some(problem) = found.first() else { break };
        mended.push(problem.remedy.split(['"', '`', '\'']).next().unwrap_or_default().to_owned());
        if problem.remedy.contains("pg_hba.conf") {
            let line = problem.remedy.split('`').nth(1).expect("a line");
            let text = std::fs::read_to_string(&hba).expect("its lines");
            std::fs::write(&hba, format!("{line}\n{text}")).expect("written");
            sql.query("select pg_reload_conf()").await.expect("loaded");
        } else {
            let statement = problem.remedy.split_inclusive(';').next().unwrap_or_default();
            sql.query(&statement.replace('…', "open sesame")).await.expect("mended");
        }
    }
    assert_eq!(mended, ["CREATE ROLE ", "add "]);
    let without = Postgres::new("crm-db", settings(None));
    let found = without.problems(&context).await.expect("asked");
    assert!(found[0].what.contains("it asks for a password"), "{found:?}");
    let kept = Kept::new();
    let mut follower = Follower::start(&with, &kept.repository);
    cluster.ask("create table t (a int)").await;
    assert!(follower.next().await.expect("it follows with its password").bytes > 0);
    follower.stop().await;
    cluster.stop().await;
    let gone = with.problems(&context).await.expect("asked");
    assert!(gone[0].remedy.starts_with("start the server"), "{gone:?}");
}
