//! The data directory is deleted, moved or replaced while it is written to.

use std::path::Path;
use std::time::Duration;

use super::{options, temporary};
use crate::conformance::{ManualClock, START, events};
use crate::sqlite::Sqlite;
use crate::{Append as _, AppendsRefused, Read as _, StoreError};

/// Waits until the store says of its fault what is expected, for ten seconds of the running clock at most; nothing is written
/// meanwhile.
async fn until(store: &Sqlite, holds: impl Fn(Option<AppendsRefused>) -> bool) {
    for _ in 0..200 {
        if holds(store.health().fault) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not: {:?}", store.health());
}

async fn refused(store: &Sqlite, number: u64) -> String {
    match store.append(events(1, number..number + 1)).await {
        Err(error @ StoreError::Displaced { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("readable").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// What is acknowledged is in the directory, or it is not acknowledged.
#[tokio::test]
async fn a_directory_that_is_gone_takes_nothing() {
    let folder = temporary();
    let (dir, away) = (folder.path().join("data"), folder.path().join("away"));
    let store = Sqlite::open(options(&dir, &ManualClock::at(START))).expect("a new directory");
    assert_eq!(store.append(events(1, 0..1)).await.expect("appended"), [1]);

    // Moved away: noticed by who appends, and before anybody does.
    std::fs::rename(&dir, &away).expect("moved");
    let reason = refused(&store, 1).await;
    assert!(reason.contains("data/garant.db was deleted or moved away"), "{reason}");
    assert!(store.health().fault.is_some());
    std::fs::rename(&away, &dir).expect("moved back");
    until(&store, |fault| fault.is_none()).await;
    store.append(events(1, 1..2)).await.expect("it goes on by itself");

    // Another in its place: nothing of that one is touched.
    std::fs::rename(&dir, &away).expect("moved");
    std::fs::create_dir(&dir).expect("made");
    for name in ["garant.db", "garant.db-wal", "reserve"] {
        std::fs::write(dir.join(name), "another").expect("written");
    }
    until(&store, |fault| fault.is_some_and(|fault| fault.reason.contains("data/garant.db was replaced"))).await;
    let reason = refused(&store, 2).await;
    assert!(reason.contains("Stop garant"), "{reason}");
    for name in names(&dir) {
        assert_eq!(std::fs::read(dir.join(&name)).expect("there"), b"another", "{name}");
    }
    std::fs::remove_dir_all(&dir).expect("removed");
    until(&store, |fault| fault.is_some_and(|fault| fault.reason.contains("was deleted"))).await;
    refused(&store, 2).await;
    drop(store);
    assert!(!dir.exists(), "it is not made anew");

    // The write-ahead log alone: what is committed would be in it, and nowhere.
    std::fs::rename(&away, &dir).expect("moved back");
    let store = Sqlite::open(options(&dir, &ManualClock::at(START))).expect("it opens");
    store.append(events(2, 0..1)).await.expect("appended");
    std::fs::remove_file(dir.join("garant.db-wal")).expect("removed");
    let reason = refused(&store, 3).await;
    assert!(reason.contains("garant.db-wal was deleted"), "{reason}");
}
