//! After a day was destroyed, no file holds a byte of its payloads, sealed or not.

use std::path::Path;
use std::sync::Arc;

use event::{Retention, Span};

use super::{options, temporary};
use crate::Journal as _;
use crate::conformance::{ManualClock, START, event};
use crate::sqlite::Sqlite;

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
