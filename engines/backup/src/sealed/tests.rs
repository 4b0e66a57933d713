//! A repository as a whole: sets and logs over two copies, of which one fails.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine::BoxFuture;
use engine::clock::SimClock;
use engine::random::SeededRandom;
use event::{Span, Time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::catalog::all_pieces;
use super::*;
use crate::objects::{Destroy as _, Directory, Listed, ObjectError, Objects};

/// Longest wait for anything.
const WITHIN: std::time::Duration = std::time::Duration::from_mins(5);

/// Two copies in folders.
struct Two {
    folders: [tempfile::TempDir; 2],
    places: [Directory; 2],
    clock: Arc<SimClock>,
    repository: Arc<Repository>,
}

fn two() -> Two {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let places = [Directory::new(folders[0].path()), Directory::new(folders[1].path())];
    let clock = Arc::new(SimClock::starting_at(Time::from_secs(1_796_000_000)));
    let random = Arc::new(SeededRandom::new(7));
    let key = RepositoryKey::random(&*random);
    let copy = |at: usize| Copy { name: format!("copy{at}"), objects: Arc::new(places[at].clone()) };
    let copies = vec![copy(0), copy(1)];
    let repository = Arc::new(Repository::new(copies, key, Span::from_days(90), Arc::clone(&clock) as _, random));
    Two { folders, places, clock, repository }
}

async fn a_set(repository: &Arc<Repository>, bytes: &[u8]) -> Manifest {
    let mut set = SetWriter::begin(Arc::clone(repository), "shop", "mariadb").await.expect("begun");
    set.stream("full", bytes, |_| {}).await.expect("streamed");
    set.finish(|manifest| manifest.log = Some("log1".into())).await.expect("finished")
}

async fn read(catalog: &Catalog, manifest: &Manifest) -> Result<Vec<u8>, RepositoryError> {
    let mut out = Vec::new();
    catalog.read_stream(&manifest.set, &manifest.streams[0], &mut out, |_| {}).await?;
    Ok(out)
}

#[tokio::test]
async fn a_set_is_read_back_from_whichever_copy_is_whole() {
    let two = two();
    let mut bytes = vec![0; 33 * 1024 * 1024];
    two.repository.random().fill(&mut bytes);
    let manifest = a_set(&two.repository, &bytes).await;
    let catalog = Catalog::read(&two.repository, "shop").await.expect("read");
    assert_eq!(catalog.sets.len(), 1);
    assert_eq!((catalog.sets[0].copies.len(), manifest.streams[0].parts), (2, 3));
    assert!(read(&catalog, &manifest).await.expect("whole") == bytes);

    // One part is damaged at the first copy, the other is gone from the second.
    let part = |number| format!("sets/shop/{}/{}", manifest.set, manifest.streams[0].part(number));
    let mut damaged = two.places[0].get(&part(1), None).await.expect("there").to_vec();
    damaged[50_000] ^= 1;
    two.places[0].delete(&part(1)).await.expect("deleted");
    two.places[0].put(&part(1), damaged.into(), None).await.expect("put");
    two.places[1].delete(&part(2)).await.expect("deleted");
    assert!(read(&catalog, &manifest).await.expect("whole") == bytes);
    let catalog = Catalog::read(&two.repository, "shop").await.expect("read");
    assert_eq!(catalog.sets[0].copies, [0].into(), "a listing sees what is gone, and not what is damaged");
    two.places[1].delete(&part(1)).await.expect("deleted");
    let error = read(&catalog, &manifest).await.expect_err("at no copy whole");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_set_without_a_manifest_or_a_key_is_none() {
    let two = two();
    let mut given_up = SetWriter::begin(Arc::clone(&two.repository), "shop", "mariadb").await.expect("begun");
    given_up.stream("full", &b"half"[..], |_| {}).await.expect("streamed");
    let name = given_up.set().to_owned();
    drop(given_up);
    let manifest = a_set(&two.repository, b"whole").await;
    for place in &two.places {
        place.delete(&format!("keys/sets/shop/{}", manifest.set)).await.expect("shredded");
    }
    // Another process knows no key.
    let key = RepositoryKey::random(&SeededRandom::new(7));
    let copies = two.repository.copies().to_vec();
    let fresh = Repository::new(copies, key, Span::ZERO, Arc::clone(&two.clock) as _, Arc::new(SeededRandom::new(8)));
    let catalog = Catalog::read(&Arc::new(fresh), "shop").await.expect("read");
    assert_eq!((catalog.unfinished, catalog.destroyed, catalog.sets.len()), (vec![name], vec![manifest.set], 0));
}

#[tokio::test]
async fn another_repository_key_is_told_from_damage() {
    let two = two();
    a_set(&two.repository, b"whole").await;
    let random = Arc::new(SeededRandom::new(9));
    let key = RepositoryKey::random(&*random);
    let other = Repository::new(two.repository.copies().to_vec(), key, Span::ZERO, Arc::clone(&two.clock) as _, random);
    let error = Catalog::read(&Arc::new(other), "shop").await.expect_err("another key");
    assert!(error.to_string().contains("which is not the one that is given"), "{error}");
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended_and_shows_its_gaps() {
    let two = two();
    let (mut log, last) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    assert_eq!(last, None);
    for at in 0..5u64 {
        log.append(1, at * 10, at * 10 + 10, &at, vec![b'a'; 10]).await.expect("added");
    }
    // The next day, another file.
    two.clock.suspend(Span::from_days(1));
    log.append(2, 4, 20, &5, vec![b'b'; 16]).await.expect("added");
    let (mut log, last) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    let last = last.expect("a last one").name;
    assert_eq!(last, PieceName { seq: 6, file: 2, start: 4, end: 20 });
    log.append(2, 20, 30, &6, vec![b'c'; 10]).await.expect("added");

    let catalog = Catalog::read(&two.repository, "shop").await.expect("read");
    let next_file = |a: &PieceName, b: &PieceName| b.file == a.file + 1 && b.start == 4;
    let (pieces, more) = catalog.pieces("log1", (1, 25), next_file).await.expect("listed");
    let shown: Vec<_> = pieces.iter().map(|piece| (piece.name.file, piece.name.start)).collect();
    assert_eq!((shown, more), (vec![(1, 20), (1, 30), (1, 40), (2, 4), (2, 20)], false));
    let (head, payload) = two.repository.fetch(&pieces[3].folder, &pieces[3].name.to_string()).await.expect("fetched");
    assert_eq!((head, payload), (b"5".to_vec(), vec![b'b'; 16]));
    assert_eq!(two.repository.fetch_head(&pieces[3].folder, &pieces[3].name.to_string()).await.expect("head"), b"5");

    // Nothing happens for two minutes, then something does.
    for minute in 0..2 {
        log.append(2, 30, 30, &minute, Vec::new()).await.expect("added");
    }
    let last = |pieces: &[LogPiece]| pieces.last().map(|piece| (piece.name.seq, piece.name.start, piece.name.end));
    let (idle, _) = catalog.pieces("log1", (2, 30), next_file).await.expect("listed");
    assert_eq!((idle.len(), last(&idle)), (1, Some((9, 30, 30))));
    log.append(2, 30, 40, &7, vec![b'd'; 10]).await.expect("added");
    let (behind, _) = catalog.pieces("log1", (2, 20), next_file).await.expect("listed");
    assert_eq!((behind.len(), last(&behind)), (2, Some((10, 30, 40))));

    for place in &two.places {
        place.delete(&format!("{}/{}", pieces[1].folder, pieces[1].name)).await.expect("deleted");
    }
    let (pieces, more) = catalog.pieces("log1", (1, 0), next_file).await.expect("listed");
    assert_eq!((pieces.len(), more), (3, true), "it ends at the gap, and says so");
}

/// A copy was replaced by an empty one while the log is written: what comes can be opened by others than this process.
#[tokio::test]
async fn a_log_whose_key_is_lost_goes_on_with_another() {
    let two = two();
    let (mut log, _) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    let mut folders = Vec::new();
    for (at, lost) in [(0_u64, 0), (10, 1), (20, 2)] {
        for folder in &two.folders[..lost] {
            std::fs::remove_dir_all(folder.path().join("keys")).ok();
        }
        two.clock.suspend(Span::from_secs(61));
        log.append(1, at, at + 10, &at, vec![1; 10]).await.expect("added");
        let pieces = all_pieces(&two.repository, "shop", "log1").await.expect("listed");
        let newest = pieces.last().expect("a piece").clone();
        two.repository.fetch(&newest.folder, &newest.name.to_string()).await.expect("it can be opened");
        folders.push(newest.folder);
    }
    assert_eq!(folders[0], folders[1], "one copy has the key");
    assert_ne!(folders[1], folders[2], "none has");
}

#[tokio::test]
async fn what_one_copy_missed_is_brought_to_it() {
    let two = two();
    let (mut log, _) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    log.append(1, 0, 10, &0, vec![1; 10]).await.expect("added");
    // The second copy is a mount that has gone.
    let (there, away) = (two.folders[1].path().to_owned(), two.folders[1].path().with_extension("away"));
    std::fs::rename(&there, &away).expect("moved");
    log.append(1, 10, 20, &0, vec![2; 10]).await.expect("one copy is enough");
    let states = two.repository.states();
    assert!(!states[0].is_away && states[1].is_away, "{states:?}");
    log.append(1, 20, 30, &0, vec![3; 10]).await.expect("the one that is away is not asked");
    std::fs::rename(&away, &there).expect("moved back");
    assert!(two.places[1].list("logs/", None).await.expect("listed").len() == 1);
    let levelled = two.repository.level("", |_| false).await.expect("levelled");
    assert_eq!((levelled.copied, levelled.differing.len(), levelled.errors.len()), (2, 0, 0));
    assert_eq!(
        two.places[0].list("", None).await.expect("listed"),
        two.places[1].list("", None).await.expect("listed")
    );
    // With no copy at all a piece waits, sealed, and is added as it is.
    let first = two.folders[0].path().to_owned();
    for path in [&first, &there] {
        std::fs::rename(path, path.with_extension("away")).expect("moved");
    }
    two.clock.suspend(Span::from_secs(60));
    log.append(1, 30, 40, &0, vec![4; 10]).await.expect_err("at no copy");
    for path in [&first, &there] {
        std::fs::rename(path.with_extension("away"), path).expect("moved back");
    }
    log.flush().await.expect("added");
    log.append(1, 40, 50, &0, vec![5; 10]).await.expect("added");
    let catalog = Catalog::read(&two.repository, "shop").await.expect("read");
    let (pieces, more) = catalog.pieces("log1", (1, 0), |_, _| false).await.expect("listed");
    assert_eq!((pieces.len(), more), (5, false));
    let odd = Bytes::from_static(b"odd");
    two.places[0].put("logs/x/y", odd.clone(), None).await.expect("put");
    two.places[1].put("logs/x/y", odd.slice(1..), None).await.expect("put");
    assert_eq!(two.repository.level("", |_| false).await.expect("levelled").differing, ["logs/x/y"]);
}

/// The decoder in Python, which knows `docs/format.md` and no code of ours.
fn decode(key: &std::path::Path, root: &std::path::Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/backup-python/decode.py");
    #[expect(clippy::disallowed_methods, reason = "a test runs the decoder as a reader would")]
    let done = std::process::Command::new("python3").arg(script).arg(key).arg(root).args(arguments).output();
    let done = done.expect("python3 is installed");
    if done.status.success() { Ok(done.stdout) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

/// BK-3: what is sealed is read by a second implementation, and nothing of it is in the clear.
#[tokio::test]
async fn another_implementation_reads_what_was_sealed() {
    let two = two();
    let mut noise = vec![0; 3 * 1024 * 1024];
    two.repository.random().fill(&mut noise);
    let text = b"INSERT INTO orders VALUES (1, 'visible')\n".repeat(900_000);
    let mut set = SetWriter::begin(Arc::clone(&two.repository), "shop", "mariadb").await.expect("begun");
    set.stream("noise", &noise[..], |_| {}).await.expect("streamed");
    set.stream("text", &text[..], |_| {}).await.expect("streamed");
    set.stream("empty", &b""[..], |_| {}).await.expect("streamed");
    let manifest = set.finish(|_| {}).await.expect("finished");
    let (mut log, _) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    log.append(18, 0, 40, &1, text[..40].to_vec()).await.expect("added");
    log.append(18, 40, 2_000_000, &2, noise[40..2_000_000].to_vec()).await.expect("added");

    let root = two.folders[1].path();
    let key = root.with_extension("key");
    std::fs::write(&key, format!("{}\n", *RepositoryKey::random(&SeededRandom::new(7)).text())).expect("written");
    let stream = |name: &str| decode(&key, root, &["stream", "shop", &manifest.set, name]).expect("decoded");
    assert!(stream("noise") == noise && stream("text") == text && stream("empty").is_empty());
    let decoded = decode(&key, root, &["log", "shop", "log1", "18"]).expect("decoded");
    assert!(decoded[..40] == text[..40] && decoded[40..] == noise[40..2_000_000]);
    let listed = decode(&key, root, &["list"]).expect("decoded");
    let listed: serde_json::Value = serde_json::from_slice(&listed).expect("JSON");
    assert_eq!(listed["bases"][0], serde_json::to_value(&manifest).expect("it serialises"));
    assert_eq!(listed["pieces"][1]["head"], 2);

    let part = root.join(format!("sets/shop/{}/noise.00001", manifest.set));
    let mut damaged = std::fs::read(&part).expect("read");
    assert!(!damaged.windows(7).any(|window| window == b"visible"));
    damaged[2_000_000] ^= 1;
    std::fs::write(&part, damaged).expect("written");
    let error = decode(&key, root, &["stream", "shop", &manifest.set, "noise"]).expect_err("damaged");
    assert!(error.contains("does not fit"), "{error}");
    let other = RepositoryKey::random(&SeededRandom::new(8)).text();
    std::fs::write(&key, &*other).expect("written");
    let error = decode(&key, root, &["list"]).expect_err("another key");
    assert!(error.contains("another repository key"), "{error}");
    std::fs::remove_file(&key).expect("removed");
}

/// A copy that writes down what is put there and what is got, and waits with what is put while it is told to.
#[derive(Debug)]
struct Watched {
    place: Directory,
    put: std::sync::Mutex<Vec<String>>,
    got: std::sync::Mutex<Vec<String>>,
    listed: std::sync::Mutex<Vec<String>>,
    /// One permit for each put.
    may: tokio::sync::Semaphore,
}

impl Watched {
    fn new(place: Directory, may: usize) -> Arc<Self> {
        let [put, got, listed] = [(); 3].map(|()| std::sync::Mutex::default());
        Arc::new(Self { place, put, got, listed, may: tokio::sync::Semaphore::new(may) })
    }
}

impl Objects for Watched {
    fn place(&self) -> &'static str {
        "watched"
    }

    fn put<'a>(&'a self, name: &'a str, body: Bytes, until: Option<Time>) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.may.acquire().await.expect("open").forget();
            self.put.lock().expect("no panic").push(name.to_owned());
            self.place.put(name, body, until).await
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        self.got.lock().expect("no panic").push(name.to_owned());
        self.place.get(name, range)
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>> {
        self.place.size(name)
    }

    fn locked_until<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Time>, ObjectError>> {
        self.place.locked_until(name)
    }

    fn extend<'a>(&'a self, name: &'a str, until: Time) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.place.extend(name, until)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Listed>, ObjectError>> {
        self.listed.lock().expect("no panic").push(prefix.to_owned());
        self.place.list(prefix, after)
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>> {
        self.place.folders(folder)
    }
}

/// The repository of [`two`] with another second copy.
fn with_second(two: &Two, second: &Arc<Watched>) -> Arc<Repository> {
    let mut copies = two.repository.copies().to_vec();
    copies[1].objects = Arc::clone(second) as _;
    let random = Arc::new(SeededRandom::new(8));
    let clock = Arc::clone(&two.clock) as _;
    Arc::new(Repository::new(copies, two.repository.key().clone(), Span::from_days(90), clock, random))
}

/// Neither side of a base waits for the other: a database is read on while a copy takes its time, and the next part is fetched while the
/// last one is written.
#[tokio::test]
async fn a_base_is_read_ahead_of_who_takes_it() {
    let two = two();
    // It takes the data key, and no part until all were read.
    let copy = Watched::new(two.places[1].clone(), 1);
    let repository = Arc::new(with_second(&two, &copy).only(1));
    let mut bytes = vec![0; 40 * 1024 * 1024];
    two.repository.random().fill(&mut bytes);
    let mut set = SetWriter::begin(Arc::clone(&repository), "shop", "mariadb").await.expect("begun");
    let (mut database, read) = tokio::io::duplex(64 * 1024);
    let all = async {
        database.write_all(&bytes).await.expect("read");
        drop(database);
        copy.may.add_permits(100);
    };
    let both = async { tokio::join!(set.stream("full", read, |_| {}), all).0 };
    tokio::time::timeout(WITHIN, both).await.expect("it is read on").expect("streamed");
    let manifest = set.finish(|_| {}).await.expect("finished");

    let catalog = Catalog::read(&repository, "shop").await.expect("read");
    let (written, mut server) = tokio::io::duplex(64 * 1024);
    let all = async {
        let second = manifest.streams[0].part(2);
        while !copy.got.lock().expect("no panic").iter().any(|name| name.ends_with(&second)) {
            tokio::task::yield_now().await;
        }
        let mut out = Vec::new();
        server.read_to_end(&mut out).await.expect("written");
        out
    };
    let both = async { tokio::join!(catalog.read_stream(&manifest.set, &manifest.streams[0], written, |_| {}), all) };
    let (ended, out) = tokio::time::timeout(WITHIN, both).await.expect("it is fetched ahead");
    ended.expect("whole");
    assert!(out == bytes);
}

/// BK-8: a copy that missed days gets what the newest state needs before anything older.
#[tokio::test]
async fn a_copy_that_missed_much_gets_the_newest_state_first() {
    let two = two();
    let alone = Arc::new(two.repository.only(0));
    let (mut log, _) = LogWriter::open(Arc::clone(&alone), "shop", "log1").await.expect("open");
    let mut sets = Vec::new();
    for day in 0..4 {
        sets.push(a_set(&alone, b"a base").await.set);
        log.append(1, day * 10, day * 10 + 10, &0, vec![1; 10]).await.expect("added");
        two.clock.suspend(Span::from_days(1));
    }
    alone.put("restic/www/config", Bytes::from_static(b"files")).await.expect("put");
    let second = Watched::new(two.places[1].clone(), usize::MAX >> 3);
    let repository = with_second(&two, &second);
    repository.level("", |_| false).await.expect("levelled");
    let put = second.put.lock().expect("no panic").clone();
    let at = |part: &str| put.iter().position(|name| name.contains(part)).expect(part);
    let last = |part: &str| put.iter().rposition(|name| name.contains(part)).expect(part);
    assert!(last(&sets[3]) < at("restic/www") && at("restic/www") < at(&sets[2]), "{put:#?}");
    assert!(last(&sets[2]) < at(&sets[1]) && last(&sets[1]) < at(&sets[0]), "{put:#?}");
    // The log of the newest day goes on from the newest base, and comes with it.
    let day = format!("{}-{}-{}", &sets[3][..4], &sets[3][4..6], &sets[3][6..8]);
    assert!(last(&format!("logs/shop/log1/{day}")) < at("restic/www"), "{put:#?}");
}

/// A copy that does not answer holds nobody up; what it missed is there later.
#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_answer_delays_no_other() {
    let two = two();
    let second = Watched::new(two.places[1].clone(), 0);
    let repository = with_second(&two, &second);
    let body = Bytes::from_static(b"a piece of log");
    #[expect(clippy::disallowed_methods, reason = "the paused time of tokio")]
    let began = tokio::time::Instant::now();
    let done = repository.put("logs/a", body.clone()).await.expect("one copy is enough");
    assert_eq!(done, [0].into());
    let grace = began.elapsed();
    assert!(grace < std::time::Duration::from_secs(10), "{grace:?} of the time that is simulated");
    assert!(repository.states()[1].is_away, "{:?}", repository.states());
    assert_eq!(repository.put("logs/b", body.clone()).await.expect("put"), [0].into());
    assert_eq!(began.elapsed(), grace, "it is left alone");
    two.clock.suspend(Span::from_secs(31));
    assert_eq!(repository.put("logs/c", body.clone()).await.expect("put"), [0].into());
    assert!(began.elapsed() < 3 * grace, "it is asked again now and then");
    // It answers again: what waited there has come, the rest is brought to it.
    second.may.add_permits(1000);
    while repository.states()[1].error.is_some() {
        tokio::task::yield_now().await;
    }
    repository.level("", |_| false).await.expect("levelled");
    for name in ["logs/a", "logs/b", "logs/c"] {
        assert_eq!(second.get(name, None).await.expect("there"), body, "{name}");
    }
    assert_eq!(repository.put("logs/d", body).await.expect("put"), [0, 1].into());
}

/// BK-4: a copy that was replaced by an empty one is told of, though what it lacks is brought to it at once.
#[tokio::test]
async fn a_copy_that_was_emptied_is_told_of() {
    let two = two();
    for number in 0..30 {
        two.repository.put(&format!("logs/{number}"), Bytes::from_static(b"a piece")).await.expect("put");
    }
    let level = async || two.repository.level("", |_| false).await.expect("levelled");
    assert!(level().await.emptied.is_empty(), "nothing was there before");
    let place = two.folders[1].path();
    std::fs::remove_dir_all(place.join("logs")).expect("removed");
    let levelled = level().await;
    assert_eq!((levelled.emptied.len(), levelled.copied), (1, 30), "{levelled:?}");
    assert!(levelled.emptied[0].contains("0 are left of the 30 objects"), "{levelled:?}");
    assert!(level().await.emptied.is_empty(), "it has them again");
    for number in 0..5 {
        std::fs::remove_file(place.join(format!("logs/{number}"))).expect("removed");
    }
    assert!(level().await.emptied.is_empty(), "a few that are gone are brought back");
}

/// A restore of what is recent does not list the days before.
#[tokio::test]
async fn of_a_long_log_only_the_days_that_are_needed_are_listed() {
    let two = two();
    let second = Watched::new(two.places[1].clone(), usize::MAX >> 3);
    let repository = with_second(&two, &second);
    let (mut log, _) = LogWriter::open(Arc::clone(&repository), "shop", "log1").await.expect("open");
    for day in 0..5 {
        log.append(1, day * 20, day * 20 + 10, &0, vec![1; 10]).await.expect("added");
        log.append(1, day * 20 + 10, day * 20 + 20, &0, vec![1; 10]).await.expect("added");
        two.clock.suspend(Span::from_days(1));
    }
    let catalog = Catalog::read(&repository, "shop").await.expect("read");
    let pieces = async |from: u64| {
        second.listed.lock().expect("no panic").clear();
        let (pieces, more) = catalog.recent_pieces("log1", (1, from), |_, _| false).await.expect("listed");
        let listed = second.listed.lock().expect("no panic").clone();
        let all = catalog.pieces("log1", (1, from), |_, _| false).await.expect("listed");
        assert_eq!((&pieces, more), (&all.0, all.1), "the same as of all days");
        (pieces.len(), listed.iter().filter(|prefix| prefix.starts_with("logs/")).count())
    };
    assert_eq!(pieces(85).await, (2, 1), "of five days one");
    assert_eq!(pieces(65).await, (4, 2));
    assert_eq!(pieces(0).await, (10, 5));
}

/// BK-9: whoever has the host adds what is named, or says that it is, of a time to come. Nothing goes on from it.
#[tokio::test]
async fn what_is_to_come_is_of_no_use() {
    let two = two();
    let manifest = a_set(&two.repository, b"a base").await;
    let (mut log, _) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    log.append(1, 0, 10, &0, vec![1; 10]).await.expect("added");
    let copies = two.repository.copies().to_vec();
    let clock = Arc::new(SimClock::starting_at(two.repository.now() + Span::from_days(20_000)));
    let (key, random) = (two.repository.key().clone(), Arc::new(SeededRandom::new(9)));
    let to_come = Arc::new(Repository::new(copies, key, Span::from_days(90), clock, random));
    let (mut log, _) = LogWriter::open(Arc::clone(&to_come), "shop", "log1").await.expect("open");
    log.append(9, 0, 1000, &0, vec![1; 10]).await.expect("added");
    let other = a_set(&to_come, b"another one").await;
    let mut set = SetWriter::begin(Arc::clone(&two.repository), "shop", "mariadb").await.expect("begun");
    set.stream("full", &b"a third one"[..], |_| {}).await.expect("streamed");
    let third = set.finish(|manifest| manifest.consistent_at = to_come.now()).await.expect("finished");

    let catalog = Catalog::read(&two.repository, "shop").await.expect("read");
    assert_eq!(catalog.sets.iter().map(|set| &set.manifest).collect::<Vec<_>>(), [&manifest]);
    let mut unreadable: Vec<&str> = catalog.unreadable.iter().map(|(set, _)| set.as_str()).collect();
    unreadable.sort_unstable();
    assert_eq!(unreadable, [third.set.as_str(), other.set.as_str()]);
    assert!(catalog.unreadable[0].1.contains("which is to come"), "{:?}", catalog.unreadable);
    let (mut log, last) = LogWriter::open(Arc::clone(&two.repository), "shop", "log1").await.expect("open");
    assert_eq!(last.map(|last| (last.name.file, last.name.end)), Some((1, 10)));
    log.append(1, 10, 20, &0, vec![1; 10]).await.expect("added");
}
