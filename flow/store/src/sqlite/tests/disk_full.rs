//! A disk that fills up while entries are appended.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use event::engine::StorageFault;
use event::{Envelope, Retention, Span};
use tempfile::TempDir;

use super::{options, temporary};
use crate::conformance::{ConformanceSubject, ManualClock, START, event, journal_cases, signing_key};
use crate::sqlite::Sqlite;
use crate::{Append as _, RAW_KEPT, Read as _, Reading, Sample, Samples as _, StoreError};

/// A file system of 24 MiB, for as long as it lives.
struct SmallDisk(TempDir);

fn run(program: &str, arguments: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test mounts a file system that it can fill")]
    let mut command = std::process::Command::new(program);
    command.args(arguments).status().is_ok_and(|status| status.success())
}

impl SmallDisk {
    fn mount() -> Self {
        let dir = temporary();
        let path = dir.path().to_str().expect("a path of plain characters");
        assert!(run("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", path]), "mounting takes root");
        Self(dir)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Fills the file system.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("made");
        for block in [1 << 20, 1 << 16, 1 << 12] {
            while file.write_all(&vec![1; block]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path = self.0.path().to_str().unwrap_or_default().to_owned();
        assert!(run("umount", &["--lazy", &path]) || std::thread::panicking());
    }
}

fn sample(second: i64) -> Sample {
    Sample {
        probe: "shop-home".parse().expect("a name"),
        observer: "gravelines".parse().expect("a name"),
        at: START + Span::from_secs(second),
        took: Span::from_millis(20),
        reading: Reading::Up,
        value: None,
    }
}

/// The faults in the log: of each, whether it is over.
async fn faults(store: &Sqlite) -> Vec<StorageFault> {
    let entries = journal_cases::everything(store).await;
    let payloads = entries.into_iter().filter_map(|entry| entry.payload);
    let envelopes = payloads.map(|payload| Envelope::decode(&payload.bytes).expect("an envelope"));
    envelopes.filter_map(|envelope| envelope.body::<StorageFault>()).map(|body| body.expect("readable")).collect()
}

fn reserve(dir: &Path) -> bool {
    dir.join("reserve").exists()
}

/// Appends events of 20 kB until one is refused; what was acknowledged is added to `places`.
async fn append_until_refused(store: &Sqlite, next: &mut u64, places: &mut BTreeMap<u64, u64>) -> StoreError {
    loop {
        let text = format!("{next} {}", "x".repeat(20_000));
        match store.append(vec![event(1, *next, Retention::Evidence, &text)]).await {
            Ok(got) => assert_eq!(places.insert(*next, got[0]), None),
            Err(refused) => return refused,
        }
        *next += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reserve_pays_for_the_entry_that_says_so() {
    let disk = SmallDisk::mount();
    let dir = disk.data();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(&dir, &clock)).expect("a new directory");
    let subject = ConformanceSubject {
        journal: Arc::clone(&store) as _,
        consumers: Arc::clone(&store) as _,
        samples: Arc::clone(&store) as _,
        clock: Arc::clone(&clock),
        vkey: signing_key(1).vkey(),
        place: Box::new(()),
    };
    let (mut next, mut places) = (0, BTreeMap::new());
    for round in 0..2 {
        assert!(reserve(&dir) && store.health().reserve_ready);
        disk.fill();
        let refused = append_until_refused(&store, &mut next, &mut places).await;
        assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
        assert!(refused.to_string().contains("free some space"), "{refused}");
        let health = store.health();
        assert!(health.fault.is_some_and(|fault| fault.full) && !health.reserve_ready, "round {round}");
        assert!(!reserve(&dir));

        let found = faults(&store).await;
        assert_eq!(found.len(), 2 * round + 1, "the fault is journaled although the disk is full: {found:?}");
        assert!(!found[2 * round].over);
        // Still refused, nothing half there, nothing lost; samples are dropped and counted.
        let head = store.head().await.expect("a head");
        clock.advance(Span::from_secs(1));
        let still = store.append(vec![event(1, next, Retention::Evidence, "small")]).await;
        assert!(matches!(still, Err(StoreError::Full { .. })), "{still:?}");
        assert_eq!(store.head().await.expect("a head"), head);
        let entries = journal_cases::check_whole_log(&subject).await;
        assert_eq!(entries.len(), 1 + places.len() + found.len());

        std::fs::remove_file(disk.filler()).expect("there is room again");
        clock.advance(Span::from_secs(1));
        let place = store.append(vec![event(1, next, Retention::Evidence, "small")]).await.expect("it works again")[0];
        assert_eq!(places.insert(next, place), None);
        next += 1;
        let found = faults(&store).await;
        assert!(found.len() == 2 * round + 2 && found[2 * round + 1].over, "{found:?}");
        assert_eq!(found[2 * round].since, found[2 * round + 1].since);
        assert!(reserve(&dir) && store.health().fault.is_none());
    }
    for sequence in places.keys() {
        let again = store.append(vec![event(1, *sequence, Retention::Evidence, "sent again")]).await;
        assert_eq!(again.expect("known"), [0; 0]);
    }
    journal_cases::check_whole_log(&subject).await;
}

/// A commit that is refused would have been the first of a run: its events must not be taken for recorded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_first_commit_was_refused_is_not_taken_for_another() {
    let disk = SmallDisk::mount();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(&disk.data(), &clock)).expect("a new directory");
    disk.fill();
    let first_of = |run: u8| vec![event(run, 0, Retention::Evidence, &format!("{run} {}", "x".repeat(100_000)))];
    let mut refused = 0;
    while store.append(first_of(refused)).await.is_ok() {
        refused += 1;
    }
    std::fs::remove_file(disk.filler()).expect("there is room again");
    clock.advance(Span::from_secs(1));
    let other = store.append(first_of(refused + 1)).await.expect("it works again");
    let again = store.append(first_of(refused)).await.expect("and takes what it refused");
    assert_eq!(again, [other[0] + 1]);
    assert_eq!(store.append(first_of(refused)).await.expect("known"), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_recovers_without_being_asked_and_samples_are_counted_meanwhile() {
    let disk = SmallDisk::mount();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(&disk.data(), &clock)).expect("a new directory");
    let (mut next, mut places) = (0, BTreeMap::new());
    disk.fill();
    append_until_refused(&store, &mut next, &mut places).await;
    disk.fill();
    store.record((0..5000).map(|second| sample(-second)).collect());
    store.settle().await.expect("the thread lives");
    assert_eq!(store.health().samples_dropped, 5000);
    std::fs::remove_file(disk.filler()).expect("there is room again");
    let mut size = store.size_watch();
    let over = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while store.health().fault.is_some() {
            size.changed().await.expect("the store lives");
        }
    });
    over.await.expect("it is tried again every second");
    store.record(vec![sample(1)]);
    store.settle().await.expect("the thread lives");
    assert_eq!(store.health().samples_dropped, 5000, "samples are kept again");
    assert!(faults(&store).await.last().is_some_and(|fault| fault.over));
}

/// A disk that is full of expired samples gets room again, although nothing can be rolled up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_goes_also_when_nothing_can_be_written() {
    let disk = SmallDisk::mount();
    let clock = ManualClock::at(START);
    let store = Sqlite::open(options(&disk.data(), &clock)).expect("a new directory");
    let file = |name: &str| disk.data().join("samples").join(name).exists();
    let day = Span::from_days(1);
    // The older day is rolled up, the younger one is not when the disk fills.
    store.record((0..20_000).map(|second| sample(second - 80_000)).collect());
    store.settle().await.expect("the thread lives");
    clock.advance(day);
    store.record((0..20_000).map(|second| sample(86_400 + second / 1_000)).collect());
    store.settle().await.expect("the thread lives");
    disk.fill();
    clock.advance(RAW_KEPT + day);
    assert!(file("2026-11-21.db") && file("2026-11-23.db"));
    let expired = store.expire(START + day + RAW_KEPT + day).await.expect("it needs no room");
    assert!(expired.partitions >= 2 && expired.bytes > 0, "{expired:?}");
    assert!(!file("2026-11-21.db") && !file("2026-11-23.db"));
}
