//! What rots, or is removed, is found within a month, wherever it lies; what is whole, or was destroyed in its time, is not spoken of.

use std::path::PathBuf;
use std::time::Duration;

use engine::sim::World;
use serde_json::json;

use super::*;
use crate::database::PieceHead;
use crate::files::{FilesTaken, VOLUMES};
use crate::objects::Directory;
use crate::sealed::{Copy, LogWriter, Manifest, RepositoryKey, SetWriter};

const KEEP: Span = Span::from_days(90);

/// Two copies of one backup.
pub(crate) struct Shelf {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) world: World,
    pub(crate) context: Context,
    pub(crate) repository: Arc<Repository>,
    key: RepositoryKey,
    board: Arc<Board>,
    base_now: Arc<Notify>,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["near", "far", "state", "data"] {
            std::fs::create_dir(folder.path().join(name)).expect("made");
        }
        let world = World::at(Time::from_secs(1_796_000_000));
        let context = world.context("agent".parse().expect("a name")).expect("a context");
        let key = RepositoryKey::random(&*context.random);
        let repository = opened(folder.path(), &key, &context);
        Self { folder, world, context, repository, key, board: Arc::default(), base_now: Arc::default() }
    }

    /// The repository as another process opens it, which remembers nothing.
    pub(crate) fn anew(&self) -> Arc<Repository> {
        opened(self.folder.path(), &self.key, &self.context)
    }

    fn inspector(&self, of: Of) -> Inspector {
        Inspector {
            name: "shop-db".into(),
            of,
            repository: Arc::clone(&self.repository),
            board: Arc::clone(&self.board),
            remembered: self.folder.path().join("state/checked"),
            pace: Arc::new(Pace::new(self.world.stop.clone())),
            base_now: Arc::clone(&self.base_now),
        }
    }

    async fn check(&self, of: Of, last: &Inspection) -> Inspection {
        self.inspector(of).check(last, &self.context).await
    }

    /// A base behind which the log goes on at this byte of its first file.
    pub(crate) async fn base(&self, at: u64) -> Manifest {
        let mut set = SetWriter::begin(Arc::clone(&self.repository), "shop-db", "mariadb").await.expect("begun");
        set.stream("base", &b"the files of a server"[..], |_| {}).await.expect("streamed");
        let facts = json!({
            "file": file(), "first_event": "", "position": { "file": 1, "at": at }, "gtid": "", "to_lsn": 1, "variables": {},
        });
        set.finish(|manifest| (manifest.log, manifest.facts) = (Some("log1".into()), facts)).await.expect("finished")
    }

    /// Pieces of the log, each a minute after the one before.
    pub(crate) async fn log(&self, pieces: std::ops::Range<u64>) {
        let (mut log, _) = LogWriter::open(Arc::clone(&self.repository), "shop-db", "log1").await.expect("open");
        for piece in pieces {
            self.world.clock.suspend(Span::from_secs(60));
            let facts = json!({ "file": file(), "tail": { "at": 0, "sha256": "" }, "marks": [] });
            let through = self.world.now();
            let head = PieceHead { through, first_commit: None, last_commit: None, facts };
            log.append(1, piece * 100, piece * 100 + 100, &head, vec![7; 100]).await.expect("added");
        }
    }

    /// A base, and a log of ten pieces behind it.
    async fn filled(&self) -> Manifest {
        let base = self.base(4).await;
        self.log(0..10).await;
        base
    }

    /// The objects of a copy below a folder, by their paths.
    fn objects(&self, copy: &str, below: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.folder.path().join(copy).join(below)]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("listed").path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// Removes at both copies what has this in its name; says how many objects that were at each.
    pub(crate) fn remove(&self, below: &str, part: &str) -> usize {
        let mut removed = 0;
        for copy in ["near", "far"] {
            for path in self.objects(copy, below).iter().filter(|path| path.to_string_lossy().contains(part)) {
                std::fs::remove_file(path).expect("removed");
                removed += 1;
            }
        }
        removed / 2
    }

    fn events(&self) -> Vec<Inspected> {
        self.world.journal.of::<Inspected>()
    }

    async fn asks_for_a_base(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.base_now.notified()).await.is_ok()
    }
}

fn opened(folder: &std::path::Path, key: &RepositoryKey, context: &Context) -> Arc<Repository> {
    let copies =
        ["near", "far"].map(|name| Copy { name: name.into(), objects: Arc::new(Directory::new(folder.join(name))) });
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    Arc::new(Repository::new(copies.to_vec(), key.clone(), KEEP, clock, random))
}

fn file() -> serde_json::Value {
    let began_at = Time::from_secs(1_796_000_000);
    json!({ "name": "binlog.000001", "began_at": began_at, "server": 1, "version": "10.11.6-MariaDB" })
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

/// BK-5: a month of what nobody asks for. All is read, nothing is said of what is whole, and a byte that rots at one copy is found.
#[tokio::test(start_paused = true)]
async fn everything_is_read_within_a_month() {
    let shelf = Shelf::new();
    shelf.filled().await;
    let context = shelf.context.clone();
    let tended = tokio::spawn(shelf.inspector(Of::Database).tend(context));
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(shelf.events().len(), 1, "the first soon after the start");
    tokio::time::sleep(Duration::from_hours(24 * 31)).await;
    let events = shelf.events();
    assert!((30..=33).contains(&events.len()), "one each day: {}", events.len());
    assert!(events.iter().all(|event| event.wrong.is_empty() && event.unseen.is_empty()), "{events:?}");
    let stored: u64 = ["sets", "logs", "keys"]
        .iter()
        .flat_map(|below| ["near", "far"].into_iter().flat_map(|copy| shelf.objects(copy, below)))
        .map(|path| std::fs::metadata(path).expect("there").len())
        .sum();
    let read: u64 = events.iter().take(30).map(|event| event.read).sum();
    assert_eq!(read, stored, "all of it at both copies, and nothing twice");
    let found = shelf.board.inspections()["shop-db"].clone();
    assert!(found.is_well() && found.is_known(shelf.world.now()), "{found:?}");
    assert!(!shelf.asks_for_a_base().await);

    let rotten = shelf.objects("far", "logs").swap_remove(3);
    flip(&rotten);
    tokio::time::sleep(Duration::from_hours(24 * 31)).await;
    let found = shelf.board.inspections()["shop-db"].clone();
    assert_eq!((found.damaged.len(), &*found.damaged[0].copy, found.lost.len(), found.gaps.len()), (1, "far", 0, 0));
    assert!(rotten.ends_with(&found.damaged[0].object), "{found:?}");
    assert!(!shelf.asks_for_a_base().await, "it is whole at the other copy");

    // It stays what it is over a restart, until it is whole again.
    shelf.world.stop.cancel();
    tended.await.expect("no panic");
    let inspector = shelf.inspector(Of::Database);
    assert_eq!(inspector.remember(), found);
    std::fs::copy(shelf.objects("near", "logs").swap_remove(3), &rotten).expect("mended");
    let mended = inspector.check(&found, &shelf.context).await;
    assert!(mended.is_well(), "{mended:?}");
}

/// BK-2: a piece of log that was there and is at no copy is a gap at once, whether bases came after it or not, and a new base is taken.
#[tokio::test]
async fn a_piece_of_log_that_is_gone_everywhere_is_a_gap() {
    for has_later_base in [false, true] {
        let shelf = Shelf::new();
        shelf.filled().await;
        if has_later_base {
            shelf.base(1000).await;
            shelf.log(10..12).await;
        }
        let healthy = shelf.check(Of::Database, &Inspection::default()).await;
        assert!(healthy.is_well() && healthy.unseen.is_empty(), "{healthy:?}");
        assert_eq!(shelf.remove("logs", "/0000000005-"), 1);
        let found = shelf.check(Of::Database, &healthy).await;
        assert!(found.gaps[0].contains("the piece 5 of the log log1"), "{found:?}");
        assert_eq!(found.gaps.len(), if has_later_base { 1 } else { 2 }, "{found:?}");
        assert!(shelf.board.broken()["shop-db"].contains("the piece 5"), "log-broken is open");
        assert!(shelf.asks_for_a_base().await);
        // The base has come: what is known asks for no other one.
        shelf.board.log_mended("shop-db");
        let again = shelf.check(Of::Database, &found).await;
        assert!(again.gaps == found.gaps && shelf.board.broken().is_empty() && !shelf.asks_for_a_base().await);
        assert_eq!(shelf.events().last().map(|event| event.wrong.clone()), Some(found.gaps), "it is journaled");
    }
}

/// BK-5: what of a base is whole at no copy is red at once, and a new base is taken: its bytes, a part, its data key.
#[tokio::test]
async fn a_base_that_is_whole_nowhere_is_replaced() {
    // A part that is gone, and a key.
    for (below, part, words) in [
        ("sets", "/base.00001", "base.00001 is at no copy"),
        ("keys/sets", "/", "is at no copy: what is in sets/shop-db/"),
        ("keys/logs", "/", "is at no copy: what is in logs/shop-db/log1/"),
    ] {
        let shelf = Shelf::new();
        shelf.filled().await;
        assert_eq!(shelf.remove(below, part), 1, "{below}");
        let found = shelf.check(Of::Database, &Inspection::default()).await;
        assert!(found.lost.iter().any(|lost| lost.contains(words)), "{below}: {found:?}");
        assert!(shelf.asks_for_a_base().await, "{below}");
    }
    // A byte of it at both.
    let shelf = Shelf::new();
    let base = shelf.filled().await;
    let name = format!("sets/shop-db/{}/base.00001", base.set);
    let before = Inspection {
        parts: ["near", "far"].map(|copy| (copy.to_owned(), (part_of(&name) + PARTS - 2) % PARTS + 1)).into(),
        ..Inspection::default()
    };
    for copy in ["near", "far"] {
        flip(&shelf.folder.path().join(copy).join(&name));
    }
    let found = shelf.check(Of::Database, &before).await;
    assert_eq!(
        (found.damaged.len(), &*found.lost),
        (2, &[format!("{name} is damaged at every copy")][..]),
        "{found:?}"
    );
    assert!(shelf.asks_for_a_base().await);
}

/// BK-6: what the server has destroyed in its time is missed by nobody.
#[tokio::test]
async fn what_has_expired_is_not_missed() {
    let shelf = Shelf::new();
    shelf.filled().await;
    shelf.world.clock.suspend(KEEP + Span::from_days(2));
    shelf.base(1000).await;
    shelf.log(10..12).await;
    assert_eq!(shelf.remove("logs", "/0000000005-"), 1);
    let expired: Vec<PathBuf> = shelf.objects("near", "keys/sets");
    let expired = expired[0].file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(shelf.remove("keys/sets", &expired), 1);
    let found = shelf.check(Of::Database, &Inspection::default()).await;
    assert!(found.is_well() && found.unseen.is_empty(), "{found:?}");
}

/// A copy that is away proves nothing, neither that something is lost nor that all is whole.
#[tokio::test]
async fn a_copy_that_is_away_is_not_looked_at() {
    let shelf = Shelf::new();
    shelf.filled().await;
    let healthy = shelf.check(Of::Database, &Inspection::default()).await;
    // The other copy alone has all of the log.
    for path in shelf.objects("near", "logs").iter().filter(|path| path.to_string_lossy().contains("/0000000005-")) {
        std::fs::remove_file(path).expect("removed");
    }
    let (far, away) = (shelf.folder.path().join("far"), shelf.folder.path().join("away"));
    std::fs::rename(&far, &away).expect("moved");
    let found = shelf.check(Of::Database, &healthy).await;
    assert!(found.is_well() && !found.unseen.is_empty() && !found.is_known(shelf.world.now()), "{found:?}");
    assert_eq!(found.at, healthy.at, "the last one that saw everything");
    std::fs::rename(&away, &far).expect("moved back");
    let found = shelf.check(Of::Database, &found).await;
    assert!(found.is_well() && found.is_known(shelf.world.now()), "{found:?}");
    shelf.world.clock.suspend(STALE + Span::from_secs(1));
    assert!(!found.is_known(shelf.world.now()), "what is old says nothing");
}

impl Shelf {
    pub(crate) fn files(&self) -> Files {
        Files {
            name: "shop-db".into(),
            paths: vec![self.folder.path().join("data")],
            volumes: Vec::new(),
            volumes_in: VOLUMES.into(),
            exclude: Vec::new(),
            one_file_system: false,
            may_be_empty: false,
        }
    }

    pub(crate) async fn take(&self) -> FilesTaken {
        self.world.clock.suspend(Span::from_secs(3600));
        let state = self.folder.path().join("state");
        self.files().take(&self.context, &self.repository, &state, &()).await.expect("taken")
    }
}

/// BK-5, BK-7: a pack that rots is found, at one copy and at both; where it is whole nowhere, the next snapshot stores it anew.
#[tokio::test]
async fn a_rotten_pack_of_files_is_found_and_built_on_no_more() {
    let shelf = Shelf::new();
    let mut noise = vec![0; 3 * 1024 * 1024];
    shelf.repository.random().fill(&mut noise);
    std::fs::write(shelf.folder.path().join("data/noise"), &noise).expect("written");
    shelf.take().await;
    let of = || Of::Files(shelf.files());
    let healthy = shelf.check(of(), &Inspection::default()).await;
    assert!(healthy.is_well() && healthy.unseen.is_empty(), "{healthy:?}");

    let largest = |copy: &str| {
        let size = |path: &PathBuf| std::fs::metadata(path).expect("there").len();
        shelf.objects(copy, "restic/shop-db/data").into_iter().max_by_key(size).expect("a pack")
    };
    let name = largest("near").strip_prefix(shelf.folder.path().join("near")).expect("below").display().to_string();
    let its_turn = Inspection {
        parts: ["near", "far"].map(|copy| (copy.to_owned(), (part_of(&name) + PARTS - 2) % PARTS + 1)).into(),
        ..Inspection::default()
    };
    flip(&largest("far"));
    let found = shelf.check(of(), &its_turn).await;
    assert_eq!((found.damaged.len(), &*found.damaged[0].copy, found.lost.len()), (1, "far", 0), "{found:?}");
    assert!(!shelf.asks_for_a_base().await, "it is whole at the other copy");
    flip(&largest("near"));
    let found = shelf.check(of(), &found).await;
    assert_eq!((found.damaged.len(), found.lost.len()), (2, 1), "known damage is read again: {found:?}");
    assert!(shelf.asks_for_a_base().await);

    // What that snapshot needs comes from a pack that is written now.
    std::fs::write(shelf.folder.path().join("data/more"), "more").expect("written");
    std::fs::File::options().append(true).open(shelf.folder.path().join("data/noise")).expect("opened");
    let taken = shelf.take().await;
    assert!(taken.added > 3 * 1024 * 1024, "stored anew: {taken:?}");
    let into = shelf.folder.path().join("restored");
    let point = crate::files::Point::At(shelf.world.now());
    let options = crate::files::RestoreOptions::default();
    let restored = shelf.files().restore(&shelf.context, &shelf.repository, &point, &into, options, &()).await;
    restored.expect("restored");
    let below = into.join(shelf.folder.path().join("data/noise").strip_prefix("/").expect("absolute"));
    assert!(std::fs::read(below).expect("read") == noise);
}

/// BK-5: a pack that is gone everywhere is red at the first check.
#[tokio::test]
async fn a_pack_of_files_that_is_gone_everywhere_is_found_at_once() {
    let shelf = Shelf::new();
    std::fs::write(shelf.folder.path().join("data/file"), "hello").expect("written");
    shelf.take().await;
    shelf.remove("restic/shop-db/data", "");
    let found = shelf.check(Of::Files(shelf.files()), &Inspection::default()).await;
    assert!(!found.lost.is_empty() && shelf.asks_for_a_base().await, "{found:?}");
}
