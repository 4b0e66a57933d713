//! After a day was destroyed, no file holds a byte of its payloads, sealed or not; and a crash on the way there is mended.

use std::path::Path;
use std::sync::Arc;

use event::evidence::Succeeded;
use event::{BootId, Clock as _, Observed, Retention, Span};
use journal::audit::{self, Trust};
use journal::export::{ExportWriter, Extras};
use journal::leaf::Leaf;
use journal::testing::Files;

use super::{options, temporary};
use crate::conformance::journal_cases::everything;
use crate::conformance::{ManualClock, START, event, signing_key};
use crate::sqlite::Sqlite;
use crate::{Append as _, Publish as _, Read as _, Retain as _, Retained};

/// Whether any file below holds these bytes.
fn found(dir: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            if let Some(path) = found(&path, needle) {
                return Some(path);
            }
        } else if std::fs::read(&path).expect("readable").windows(needle.len()).any(|bytes| bytes == needle) {
            return Some(path);
        }
    }
    None
}

/// A piece from the middle of some sealed payloads, which nothing else can hold by chance.
fn sealed(dir: &Path, class: i64) -> Vec<Vec<u8>> {
    let conn = rusqlite::Connection::open(dir.join("garant.db")).expect("a database");
    let mut statement = conn
        .prepare("SELECT substr(sealed, 30, 24) FROM payload WHERE class = ?1 AND day = ?2 AND (sequence % 1500 = 5 OR length(sealed) > 40000)")
        .expect("a statement");
    let pieces = statement.query_map([class, START.day().days()], |row| row.get(0)).expect("rows");
    pieces.collect::<Result<_, _>>().expect("blobs")
}

/// Announces that the first day will be destroyed, and publishes the announcement.
async fn announce(store: &Sqlite, class: Retention) -> u64 {
    let intended = store.intend(class, START.day()).await.expect("recorded").expect("there is something to destroy");
    let head = store.head().await.expect("a head");
    store.publish(head.note, head.size).await.expect("published");
    intended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_left() {
    let dir = temporary();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(dir.path(), &clock)).expect("a new directory");
    // More than one step of the work, and one payload large enough for overflow pages.
    let secret = "a secret that must be forgotten";
    for first in (0..5000).step_by(2500) {
        let batch = (first..first + 2500).map(|n| event(1, n, Retention::Audit, &format!("{secret} {n}")));
        store.append(batch.collect()).await.expect("appended");
    }
    let large = format!("{secret} {}", "x".repeat(50_000));
    store.append(vec![event(1, 5000, Retention::Audit, &large)]).await.expect("appended");
    store.append(vec![event(2, 0, Retention::Evidence, "kept")]).await.expect("appended");
    clock.advance(Span::from_days(1));

    let pieces = sealed(dir.path(), 2);
    assert_eq!(pieces.len(), 5);
    let there = pieces.iter().filter(|piece| found(dir.path(), piece).is_some()).count();
    assert_eq!(there, pieces.len(), "the search finds what is there");
    assert_eq!(found(dir.path(), secret.as_bytes()), None, "not even before is it readable");
    let key = dir.path().join(format!("keys/audit/{}.key", START.day()));
    assert!(key.exists());

    // Entries are appended while the work goes on.
    let appending = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0..20 {
                store.append(vec![event(3, n, Retention::Audit, "the next day")]).await.expect("appended");
            }
        }
    });
    announce(&store, Retention::Audit).await;
    assert_eq!(store.destroy(Retention::Audit, START.day()).await.expect("destroyed"), 5001);
    appending.await.expect("no panic");

    for piece in &pieces {
        assert_eq!(found(dir.path(), piece), None);
    }
    assert!(!key.exists());
    assert!(dir.path().join(format!("keys/evidence/{}.key", START.day())).exists());
    let kept = store.entries(5002..5003).await.expect("entries").remove(0);
    assert!(kept.payload.is_some_and(|payload| payload.bytes.ends_with(b"\"kept\"}")));
}

/// The log as files, as `garant log export` writes them.
async fn exported(store: &Sqlite) -> Files {
    let head = store.head().await.expect("a head");
    let mut files = Files::default();
    let mut writer = ExportWriter::new(&mut files);
    for entry in everything(store).await {
        let public = Leaf::parse(&entry.leaf).expect("a leaf").is_public();
        let payload = entry.payload.as_ref().filter(|_| public);
        let disclosed = payload.map(|payload| (&payload.salt, payload.bytes.as_slice()));
        writer.push(&entry.leaf, disclosed).expect("pushed");
    }
    let (vkey, checkpoint_note) = (signing_key(1).vkey(), head.note.as_str());
    let tlog_policy = "quorum none\n";
    let extras =
        Extras { checkpoint_note, vkey: &vkey, tlog_policy, policy: None, verdicts: &[], rotations: &[], proofs: &[] };
    writer.finish(&extras).expect("the tree of its checkpoint");
    files
}

/// Verifies the log as an outside reader would.
async fn verified(store: &Sqlite) -> audit::Report {
    let trust = Trust { vkey: Some(signing_key(1).vkey()), ..Trust::default() };
    audit::audit(&exported(store).await, &trust, &mut |_| (), &mut |_, _| ()).expect("verifies")
}

/// An instant at which a process may die while it destroys a day. Each is made from the one before.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Crash {
    BeforeAnyRow,
    BetweenRows,
    BeforeTheKey,
    BeforeItIsSaid,
}

impl Crash {
    /// Leaves the directory as the process leaves it when it dies there.
    fn happen(self, dir: &Path) {
        let conn = rusqlite::Connection::open(dir.join("garant.db")).expect("a database");
        let delete = |most: u32| {
            let sql = "DELETE FROM payload WHERE sequence IN (SELECT sequence FROM payload WHERE class = 1 AND day = ?1 LIMIT ?2)";
            conn.execute(sql, rusqlite::params![START.day().days(), most]).expect("deleted");
        };
        match self {
            Self::BeforeAnyRow => {}
            Self::BetweenRows => delete(3),
            Self::BeforeTheKey => delete(100),
            Self::BeforeItIsSaid => {
                delete(100);
                std::fs::remove_file(dir.join(format!("keys/evidence/{}.key", START.day()))).expect("removed");
            }
        }
    }
}

/// Whenever the process dies, the log verifies as it lies there, and the next start finishes the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_of_a_destruction_is_mended() {
    for crash in [Crash::BeforeAnyRow, Crash::BetweenRows, Crash::BeforeTheKey, Crash::BeforeItIsSaid] {
        let dir = temporary();
        let clock = ManualClock::at(START);
        let store = Sqlite::open(options(dir.path(), &clock)).expect("a new directory");
        let ping = |n: u64| {
            let body = Succeeded { probe: "nightly".parse().expect("a name"), at: START };
            Observed::new(&body, "here".parse().expect("a name"), BootId::from_bytes([1; 16]), n, START)
                .expect("an event")
        };
        store.append((0..10).map(ping).collect()).await.expect("appended");
        clock.advance(Span::from_days(1));
        store.append((10..12).map(ping).collect()).await.expect("appended");
        let intended = announce(&store, Retention::Evidence).await;
        drop(store);
        crash.happen(dir.path());

        let store = Sqlite::open(options(dir.path(), &clock)).expect("opened again");
        let gone = match crash {
            Crash::BeforeAnyRow => 0,
            Crash::BetweenRows => 3,
            Crash::BeforeTheKey | Crash::BeforeItIsSaid => 10,
        };
        assert_eq!(verified(&store).await.destroyed, gone, "{crash:?}");
        let left = store.days_before(Retention::Evidence, clock.now().day()).await.expect("days");
        assert_eq!(left, [Retained { day: START.day(), entries: 10, intended: Some(intended) }], "{crash:?}");

        assert_eq!(store.intend(Retention::Evidence, START.day()).await.expect("said before"), Some(intended));
        assert_eq!(store.destroy(Retention::Evidence, START.day()).await.expect("finished"), 10, "{crash:?}");
        assert_eq!(store.days_before(Retention::Evidence, clock.now().day()).await.expect("days"), []);
        let report = verified(&store).await;
        assert_eq!((report.destroyed, report.disclosed), (10, 5), "{crash:?}");
        let said: Vec<_> = report.destroyed_days.iter().map(|said| (said.day, said.entries)).collect();
        assert_eq!(said, [(START.day(), 10)], "{crash:?}: once");
    }
}
