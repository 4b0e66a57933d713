//! What is true of SQLite beyond what every store must do.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::Sqlite;
use crate::conformance::{ConformanceSubject, ManualClock, START, options, signing_key};
use crate::{OpenError, Samples as _};

mod disk_full;
mod displaced;
mod forgetting;
mod killed;
mod opening;
mod samples;
mod size;

crate::conformance_tests!(fresh);

fn temporary() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

/// Opens a directory with a clock of its own.
fn open(dir: &Path) -> Result<Arc<Sqlite>, OpenError> {
    Sqlite::open(options(dir, &ManualClock::at(START)))
}

async fn fresh() -> ConformanceSubject {
    let dir = temporary();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(dir.path(), &clock)).expect("a new directory");
    store.settle().await.expect("its threads run");
    ConformanceSubject {
        journal: Arc::clone(&store) as _,
        consumers: Arc::clone(&store) as _,
        samples: store,
        clock,
        vkey: signing_key(1).vkey(),
        place: Box::new(dir),
    }
}
