use event::engine::Started;
use event::{BootId, Monotonic};
use tempfile::TempDir;

use super::*;

struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time::from_secs(1_000)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }
}

fn open(dir: &TempDir, bounds: SpoolBounds) -> Arc<DiskSpool> {
    DiskSpool::open(dir.path(), bounds, Arc::new(Still)).expect("opened")
}

fn event(sequence: u64) -> Observed {
    let body = Started { engine: "guard".to_owned(), attempt: u32::try_from(sequence).expect("small") };
    let observer = "server.guard".parse().expect("a name");
    let at = Time::from_secs(100) + Span::from_secs(sequence.cast_signed());
    Observed::new(&body, observer, BootId::from_bytes([1; 16]), sequence, at).expect("it serialises")
}

async fn take(spool: &Arc<DiskSpool>, sequences: std::ops::Range<u64>) {
    for sequence in sequences {
        assert_eq!(spool.take(vec![event(sequence)]).await.expect("taken"), Taken::Spooled);
    }
}

/// Reads and acknowledges everything; the sequences that came.
fn drain(spool: &DiskSpool, bytes_max: usize) -> Vec<u64> {
    let mut came = Vec::new();
    while let Some(batch) = spool.next(bytes_max).expect("readable") {
        came.extend(batch.events.iter().map(|event| event.sequence));
        spool.acknowledge(batch.through).expect("acknowledged");
    }
    came
}

const SMALL: SpoolBounds = SpoolBounds { bytes_max: 64 * 1024, segment_bytes: 2048 };

#[tokio::test]
async fn what_was_taken_comes_out_in_order_whatever_stops_in_between() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    take(&spool, 0..20).await;
    spool.take(vec![event(20), event(21), event(22)]).await.expect("a group");
    let first = spool.next(700).expect("readable").expect("some");
    assert!(first.events.len() > 1 && first.events.len() < 20, "{}", first.events.len());
    // Not acknowledged: it comes again, also from the next process.
    drop(spool);
    let spool = open(&dir, SMALL);
    assert_eq!(spool.next(700).expect("readable").expect("some").through, first.through);
    spool.acknowledge(first.through).expect("acknowledged");
    let rest = drain(&spool, 1);
    assert_eq!(rest, ((first.events.len() as u64)..23).collect::<Vec<_>>());
    assert_eq!(spool.state().borrow().groups, 0);
    // Groups are whole: with room for one byte, three events that were taken together come together.
    take(&spool, 30..31).await;
    assert_eq!(drain(&spool, usize::MAX), [30]);
}

#[tokio::test]
async fn numbers_go_on_after_everything_was_delivered() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    take(&spool, 0..30).await;
    drain(&spool, 4096);
    let next = spool.state().borrow().next;
    drop(spool);
    let spool = open(&dir, SMALL);
    assert_eq!(spool.state().borrow().next, next, "a number given again would be acknowledged unread");
    take(&spool, 30..33).await;
    // What is still in the segment that was written to comes again; the server knows it by its sequence.
    let came = drain(&spool, 4096);
    assert!(came.ends_with(&[30, 31, 32]), "{came:?}");
    let files = fs::read_dir(dir.path()).expect("a folder").count();
    assert!(files <= 2, "{files} files");
}

#[tokio::test]
async fn a_segment_that_is_delivered_is_emptied_and_numbers_go_on() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SpoolBounds::default());
    let on_disk = || -> u64 {
        fs::read_dir(dir.path())
            .expect("a folder")
            .map(|file| file.expect("a file").metadata().expect("it is").len())
            .sum()
    };
    let large = || (0..500).map(event).collect::<Vec<_>>();
    spool.take(large()).await.expect("taken");
    assert!(on_disk() > FREED_FROM, "{}", on_disk());
    assert_eq!(drain(&spool, usize::MAX).len(), 500);
    assert_eq!((on_disk(), spool.state().borrow().next), (0, 1));
    // What follows comes out, also of the next process.
    take(&spool, 500..502).await;
    drop(spool);
    let spool = open(&dir, SpoolBounds::default());
    assert_eq!(drain(&spool, usize::MAX), [500, 501]);
    assert_eq!(spool.state().borrow().next, 3);
    // A disk that takes nothing gets back what little there is.
    assert!(on_disk() > 0);
    drop(spool.refused(&io::Error::from(io::ErrorKind::StorageFull)));
    spool.acknowledge(3).expect("acknowledged");
    assert_eq!((on_disk(), spool.state().borrow().next), (0, 3));
}

#[tokio::test]
async fn half_a_record_is_dropped() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    take(&spool, 0..3).await;
    drop(spool);
    let path = segment_path(dir.path(), 0);
    let whole = fs::read(&path).expect("a segment");
    let record = whole.len() / 3;
    for cut in [1, 4, 9, record - 1] {
        fs::write(&path, &whole[..whole.len() - cut]).expect("written");
        let spool = open(&dir, SMALL);
        take(&spool, 7..8).await;
        let came: Vec<u64> = spool
            .next(usize::MAX)
            .expect("readable")
            .expect("some")
            .events
            .iter()
            .map(|event| event.sequence)
            .collect();
        assert_eq!(came, [0, 1, 7], "{cut} bytes missing");
        drop(spool);
    }
    let mut bent = whole.clone();
    *bent.last_mut().expect("bytes") ^= 1;
    fs::write(&path, &bent).expect("written");
    assert_eq!(drain(&open(&dir, SMALL), usize::MAX), [0, 1]);
}

#[tokio::test]
async fn at_the_bound_the_oldest_go_and_it_is_said() {
    let dir = TempDir::new().expect("a folder");
    let bounds = SpoolBounds { bytes_max: 8 * 1024, segment_bytes: 2048 };
    let spool = open(&dir, bounds);
    take(&spool, 0..200).await;
    let state = *spool.state().borrow();
    assert!(state.bytes <= bounds.bytes_max, "{state:?}");
    let losses = spool.losses();
    let (observer, gap) = losses.first_key_value().expect("a loss");
    assert_eq!((observer.to_string().as_str(), gap.start), ("server.guard", Time::from_secs(100)));
    drop(spool);
    let spool = open(&dir, bounds);
    assert_eq!(spool.losses(), losses);
    let came = drain(&spool, usize::MAX);
    assert_eq!(came.last(), Some(&199));
    assert_eq!(came.len() as u64 + state.lost, 200, "every event is delivered or said to be lost");
    let first = came.first().copied().expect("some").cast_signed();
    assert_eq!(gap.end, Time::from_secs(100 + first - 1) + Span::from_micros(1));
    spool.forget(&losses).expect("forgotten");
    assert!(spool.losses().is_empty() && open(&dir, bounds).losses().is_empty());
}

#[tokio::test]
async fn what_can_not_be_written_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    fs::remove_dir_all(dir.path()).expect("removed");
    let refused = spool.take(vec![event(0)]).await.expect_err("no folder");
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    fs::create_dir(dir.path()).expect("made");
    take(&spool, 0..1).await;
    assert_eq!(drain(&spool, usize::MAX), [0]);
}

/// What was given away for good is no storage that fails: nothing is written here, and nothing waits.
#[tokio::test]
async fn a_spool_that_was_given_away_takes_nothing_and_says_so_to_nobody() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    take(&spool, 0..1).await;
    spool.lend();
    let refused = spool.take(vec![event(1)]).await.expect_err("it may come back");
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    spool.give_away();
    take(&spool, 1..3).await;
    assert_eq!(drain(&open(&dir, SMALL), usize::MAX), [0], "the other process has it alone");
}

/// What another process adds while it has the spool is there when it comes back, and nothing is written or deleted here meanwhile.
#[tokio::test]
async fn a_spool_that_is_lent_comes_back_as_it_was_left() {
    let dir = TempDir::new().expect("a folder");
    let spool = open(&dir, SMALL);
    take(&spool, 0..3).await;
    spool.lend();
    assert!(spool.take(vec![event(3)]).await.is_err(), "it is kept by whoever records it");
    assert!(spool.next(usize::MAX).expect("nothing is read").is_none());
    let other = open(&dir, SMALL);
    let first = other.next(1).expect("readable").expect("some");
    other.acknowledge(first.through).expect("acknowledged");
    take(&other, 10..12).await;
    drop(other);
    spool.take_back().expect("it is back");
    take(&spool, 3..4).await;
    let came = drain(&spool, usize::MAX);
    assert_eq!(came, [0, 1, 2, 10, 11, 3], "what the other has delivered may come twice, and nothing is missing");
}
