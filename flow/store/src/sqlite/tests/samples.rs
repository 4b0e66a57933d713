//! Files of samples that are damaged, that fail, that are gone: samples are no evidence, and no file stops the others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use event::{Interval, Span, Time};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{options, temporary};
use crate::conformance::{ManualClock, START};
use crate::sqlite::Sqlite;
use crate::{Bucket, RAW_KEPT, Read as _, Reading, Resolution, Sample, Samples as _};

const DAY: Span = Span::from_days(1);
const HOUR: Span = Span::from_secs(3600);

struct Place {
    dir: TempDir,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        Self { dir: temporary(), clock: ManualClock::at(START) }
    }

    fn open(&self) -> Arc<Sqlite> {
        Sqlite::open(options(self.dir.path(), &self.clock)).expect("samples are no reason not to open")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("samples").join(name)
    }

    fn make_noise(&self, name: &str) {
        let noise: Vec<u8> = (0..20_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
        std::fs::write(self.file(name), noise).expect("written");
    }

    fn rows(&self, name: &str) -> i64 {
        rows(&self.file(name), "bucket")
    }
}

fn rows(file: &Path, table: &str) -> i64 {
    let conn = Connection::open(file).expect("a database");
    conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a table")
}

fn sample(probe: &str, at: Time) -> Sample {
    Sample {
        probe: probe.parse().expect("a name"),
        observer: "gravelines".parse().expect("a name"),
        at,
        took: Span::from_millis(20),
        reading: Reading::Up,
        value: None,
    }
}

async fn record(store: &Sqlite, samples: Vec<Sample>) {
    store.record(samples);
    store.settle().await.expect("the thread lives");
}

async fn count(store: &Sqlite, probe: &str, resolution: Resolution) -> u64 {
    let around = Interval::new(START - DAY - DAY, START + DAY);
    let probe = probe.parse().expect("a name");
    let found = store.range(&probe, None, around, resolution).await.expect("readable");
    found.iter().map(Bucket::samples).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_in_a_file_of_samples_does_not_stop_the_start() {
    let place = Place::new();
    let store = place.open();
    record(&store, vec![sample("shop", START), sample("shop", START - DAY)]).await;
    drop(store);
    for name in ["2026-11-22.db", "minute-2026-11-19.db", "hour-2026-09.db"] {
        place.make_noise(name);
    }
    let store = place.open();
    // Those that are read at the start; the month is met when something is rolled up into it.
    assert_eq!(store.health().sample_files_damaged, 2);
    assert!(place.file("2026-11-22.db.damaged").exists() && place.file("minute-2026-11-19.db.damaged").exists());
    record(&store, vec![sample("shop", START)]).await;
    assert_eq!(store.health().samples_dropped, 0);
    assert_eq!(count(&store, "shop", Resolution::Minute).await, 2, "yesterday's, and the new one");
    drop(store);

    // The file is damaged again: the one set aside before is replaced, and expires in its time.
    place.make_noise("2026-11-22.db");
    let store = place.open();
    assert_eq!(store.health().sample_files_damaged, 1);
    place.clock.advance(RAW_KEPT + DAY);
    let expired = store.expire(START + RAW_KEPT + DAY).await.expect("expired");
    assert!(expired.partitions >= 2, "{expired:?}");
    assert!(!place.file("2026-11-22.db.damaged").exists());
    assert!(place.file("minute-2026-11-19.db.damaged").exists(), "minutes are kept for longer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_or_fails_at_runtime_stops_no_other() {
    let place = Place::new();
    let store = place.open();
    // One file can't be opened at all; another is noise.
    std::fs::create_dir(place.file("minute-2026-11-21.db")).expect("made");
    place.make_noise("hour-2026-11.db");
    record(&store, vec![sample("shop", START - DAY), sample("shop", START)]).await;
    place.clock.advance(Span::from_secs(120));
    record(&store, vec![sample("mail", START), sample("shop", START - Span::from_secs(60))]).await;
    assert_eq!(store.health().samples_dropped, 0);
    assert!(place.rows("minute-2026-11-22.db") >= 2, "the minutes of today are rolled up all the same");
    place.clock.advance(HOUR);
    record(&store, vec![sample("mail", START + HOUR)]).await;
    assert_eq!(store.health().sample_files_damaged, 1, "the month was noise");
    record(&store, vec![sample("mail", START + HOUR + Span::from_secs(1))]).await;
    assert!(place.rows("hour-2026-11.db") >= 2, "and is made again");

    // Once the file works, what it was due is done.
    std::fs::remove_dir(place.file("minute-2026-11-21.db")).expect("removed");
    place.clock.advance(HOUR);
    record(&store, vec![sample("mail", START + HOUR + HOUR)]).await;
    assert_eq!(place.rows("minute-2026-11-21.db"), 1);
    assert_eq!(count(&store, "shop", Resolution::Hour).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_minutes_and_hours_are_made_again_from_what_is_finer() {
    for lost in ["minute-2026-11-22.db", "hour-2026-11.db"] {
        let place = Place::new();
        let store = place.open();
        let minute = |number: i64| sample("shop", START - Span::from_secs(60 * number));
        record(&store, (0..200).map(minute).collect()).await;
        place.clock.advance(HOUR + HOUR);
        for _ in 0..4 {
            record(&store, vec![sample("mail", START + HOUR + HOUR)]).await;
        }
        assert!(place.rows(lost) > 0, "{lost}");
        drop(store);
        place.make_noise(lost);
        let store = place.open();
        for _ in 0..6 {
            place.clock.advance(Span::from_secs(120));
            record(&store, vec![sample("mail", START + HOUR + HOUR)]).await;
            record(&store, vec![minute(300)]).await;
        }
        assert_eq!(store.health().sample_files_damaged, 1, "{lost}");
        for resolution in [Resolution::Minute, Resolution::Hour] {
            assert_eq!(count(&store, "shop", resolution).await, 201, "{lost}: {resolution:?}");
        }
    }
}

/// A number means one probe for ever: files without the list of numbers can't be read any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_their_numbers_files_are_set_aside() {
    for damage in [true, false] {
        let place = Place::new();
        let store = place.open();
        record(&store, vec![sample("shop", START)]).await;
        drop(store);
        if damage {
            place.make_noise("series.db");
        } else {
            std::fs::remove_file(place.file("series.db")).expect("removed");
        }
        let store = place.open();
        record(&store, vec![sample("mail", START - Span::from_secs(1))]).await;
        for (probe, expected) in [("shop", 0), ("mail", 1)] {
            assert_eq!(count(&store, probe, Resolution::Minute).await, expected, "{probe}, {damage}");
        }
        assert!(place.file("2026-11-22.db.damaged").exists());
        assert_eq!(place.file("series.db.damaged").exists(), damage);
        assert_eq!(store.health().sample_files_damaged, 1 + u64::from(damage));
    }
}

/// However many series there are, in however many parts they are rolled up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_series_are_rolled_up_whole() {
    let place = Place::new();
    let store = place.open();
    let names: Vec<_> = (0..5_000).map(|number| format!("probe-{number}")).collect();
    record(&store, names.iter().map(|name| sample(name, START)).collect()).await;
    place.clock.advance(HOUR + HOUR);
    record(&store, vec![sample("probe-0", START + HOUR)]).await;
    assert_eq!((place.rows("minute-2026-11-22.db"), place.rows("hour-2026-11.db")), (5_001, 5_000));
    for name in ["probe-0", "probe-2046", "probe-2047", "probe-2048", "probe-4999"] {
        assert_eq!(count(&store, name, Resolution::Hour).await, 1 + u64::from(name == "probe-0"), "{name}");
    }
}
