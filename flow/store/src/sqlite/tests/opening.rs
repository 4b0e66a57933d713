//! Reasons to refuse a directory, and the contents of one that opens.

use std::path::Path;
use std::sync::Arc;

use event::journal::{Continued, KeyAnnounced, Opened};
use event::{Envelope, Observed, Retention};
use journal::checkpoint::{self, Checkpoint};
use journal::note::SigningKey;

use super::{open, options, temporary};
use crate::conformance::{ManualClock, ORIGIN, START, events, journal_cases, signing_key};
use crate::sqlite::{Sqlite, SqliteOptions};
use crate::{Append as _, OpenError, Read as _, Retain as _, StoreError};

fn with(dir: &Path, change: impl FnOnce(&mut SqliteOptions)) -> Result<Arc<Sqlite>, OpenError> {
    let mut options = options(dir, &ManualClock::at(START));
    change(&mut options);
    Sqlite::open(options)
}

fn sql(dir: &Path, statement: &str) {
    let conn = rusqlite::Connection::open(dir.join("garant.db")).expect("a database");
    conn.execute_batch(statement).expect(statement);
}

async fn checkpoint_of(store: &Sqlite) -> Checkpoint {
    let note = store.head().await.expect("a head").note;
    checkpoint::open(&note, &[signing_key(1).vkey()]).expect("signed").checkpoint
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Opens what was closed just now. A program that another test starts in this instant has the lock too, until it is executed.
async fn open_again(dir: &Path) -> Arc<Sqlite> {
    for _ in 0..100 {
        match open(dir) {
            Err(OpenError::InUse { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            opened => return opened.expect("it opens again"),
        }
    }
    panic!("it stays in use");
}

fn bytes_of_log(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("garant.db")).expect("a database")
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended() {
    let dir = temporary();
    let store = open(dir.path()).expect("a new directory");
    let installation = store.installation();
    store.append(events(1, 0..300)).await.expect("appended");
    let head = store.head().await.expect("a head");
    drop(store);
    let store = open_again(dir.path()).await;
    assert_eq!((store.installation(), store.origin()), (installation, ORIGIN));
    assert_eq!(store.head().await.expect("a head"), head);
    assert_eq!(*store.size_watch().borrow(), 301);
    // What was seen before the restart is still known, and what is new follows.
    assert_eq!(store.append(events(1, 299..301)).await.expect("appended"), [301]);
    // One row for all of them, of one range.
    let conn = rusqlite::Connection::open(dir.path().join("garant.db")).expect("a database");
    let sizes = "SELECT length(taken) FROM run WHERE observer = 'gravelines'";
    let sizes: Vec<i64> =
        conn.prepare(sizes).and_then(|mut sizes| sizes.query_map([], |row| row.get(0))?.collect()).expect("readable");
    assert_eq!(sizes, [16]);
    let first = journal_cases::everything(&*store).await.remove(0).payload.expect("there");
    let opened: Opened =
        Envelope::decode(&first.bytes).expect("an envelope").body().expect("journal.opened").expect("readable");
    assert_eq!(opened, Opened { origin: ORIGIN.to_owned(), vkey: signing_key(1).vkey().to_string() });
}

/// Whoever can write to the directory could put a link in the place of any file.
#[tokio::test]
async fn what_others_can_write_to_is_not_opened() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = temporary();
    drop(open(dir.path()).expect("a new directory"));
    for (mode, opens) in [(0o770, false), (0o702, false), (0o1777, false), (0o755, true), (0o700, true)] {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).expect("ours");
        match open(dir.path()) {
            Ok(_) => assert!(opens, "{mode:o}"),
            Err(error) => {
                assert!(!opens && matches!(error, OpenError::OthersWrite { .. }), "{mode:o}: {error}");
                assert!(error.to_string().contains("chmod 700"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn no_link_is_followed() {
    let (dir, elsewhere) = (temporary(), temporary());
    let store = open(dir.path()).expect("a new directory");
    store.append(events(1, 0..3)).await.expect("appended");
    drop(store);
    let victim = elsewhere.path().join("victim");
    for name in
        ["garant.lock", "garant.db", "garant.db-wal", "garant.db-shm", "reserve", "samples", "keys", "keys/permanent"]
    {
        let (place, aside) = (dir.path().join(name), elsewhere.path().join("aside"));
        let was_there = std::fs::rename(&place, &aside).is_ok();
        std::fs::write(&victim, "mine").expect("written");
        std::os::unix::fs::symlink(&victim, &place).expect("linked");
        let error = open(dir.path()).map(drop).expect_err(name);
        assert!(matches!(&error, OpenError::Link { link } if *link == place), "{name}: {error}");
        assert_eq!(std::fs::read(&victim).expect("there"), b"mine", "{name}");
        std::fs::remove_file(&place).expect("a link");
        if was_there {
            std::fs::rename(&aside, &place).expect("put back");
        }
    }
    drop(open(dir.path()).expect("all is as it was"));
}

#[tokio::test]
async fn an_older_copy_put_back_is_not_opened() {
    let (dir, older, emptied) = (temporary(), temporary(), temporary());
    let store = open(dir.path()).expect("a new directory");
    store.append(events(1, 0..10)).await.expect("appended");
    let early = checkpoint_of(&store).await;
    drop(store);
    copy(dir.path(), older.path());
    let store = open(dir.path()).expect("it opens");
    store.append(events(1, 10..20)).await.expect("appended");
    let late = checkpoint_of(&store).await;
    drop(store);

    with(dir.path(), |options| options.remembered = vec![late.clone(), early.clone()])
        .map(drop)
        .expect("a prefix is fine");
    let before = bytes_of_log(older.path());
    let refused = with(older.path(), |options| options.remembered = vec![early.clone(), late.clone()]);
    assert!(matches!(refused, Err(OpenError::RolledBack { remembered: 21, own: 11, .. })), "{refused:?}");
    assert_eq!(bytes_of_log(older.path()), before, "nothing was signed or written");
    let refused = with(emptied.path(), |options| options.remembered = vec![late.clone()]);
    assert!(matches!(refused, Err(OpenError::RolledBack { remembered: 21, own: 0, .. })), "{refused:?}");

    // The copy goes its own way, to the same size: another history.
    let store = open(older.path()).expect("nothing remembered, nothing noticed");
    store.append(events(2, 0..10)).await.expect("appended");
    drop(store);
    let refused = with(older.path(), |options| options.remembered = vec![late]);
    assert!(matches!(refused, Err(OpenError::Forked { size: 21, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    let dir = temporary();
    drop(open(dir.path()).expect("a new directory"));
    assert!(rustix::process::geteuid().is_root(), "this test gives a directory away, which takes root");
    std::os::unix::fs::chown(dir.path(), Some(65_534), None).expect("given away");
    let refused = open(dir.path()).expect_err("refused");
    assert!(matches!(refused, OpenError::OtherOwner { owner: 65_534, us: 0, .. }), "{refused}");
    assert!(refused.to_string().contains("belongs to user 65534, and this process runs as user 0"), "{refused}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let dir = temporary();
    let store = open(dir.path()).expect("a new directory");
    store.append(events(1, 0..600)).await.expect("appended");
    drop(store);

    let refused = with(dir.path(), |options| options.signers.clear());
    assert!(matches!(refused, Err(OpenError::NoKey { .. })), "{refused:?}");
    let other_name = || SigningKey::generate([1; 32], "other.example/1").expect("a name");
    let refused = with(dir.path(), |options| options.signers = vec![other_name()]);
    assert!(matches!(refused, Err(OpenError::NoKey { .. })), "{refused:?}");
    let refused = with(dir.path(), |options| {
        options.signers = vec![other_name()];
        options.origin = "other.example/1".to_owned();
    });
    assert!(matches!(refused, Err(OpenError::OtherLog { .. })), "{refused:?}");
    let refused = with(dir.path(), |options| options.signers = vec![signing_key(2)]);
    assert!(matches!(refused, Err(OpenError::StrangeKey { .. })), "{refused:?}");

    for (damage, repair) in [
        (
            "UPDATE entry SET leaf = CAST(leaf || 'x' AS BLOB) WHERE sequence = 600",
            "UPDATE entry SET leaf = substr(leaf, 1, length(leaf) - 1) WHERE sequence = 600",
        ),
        ("UPDATE tile_root SET place = 9 WHERE place = 1", "UPDATE tile_root SET place = 1 WHERE place = 9"),
        ("UPDATE log SET size = 600", "UPDATE log SET size = 601"),
        ("UPDATE log SET size = 602", "UPDATE log SET size = 601"),
    ] {
        sql(dir.path(), damage);
        let refused = open(dir.path());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{damage}: {refused:?}");
        sql(dir.path(), repair);
        open(dir.path()).map(drop).expect(repair);
    }
    sql(dir.path(), "PRAGMA user_version = 99");
    let refused = open(dir.path());
    assert!(matches!(refused, Err(OpenError::NewerSchema { found: 99, .. })), "{refused:?}");
    let refused = Sqlite::open_read_only(dir.path());
    assert!(matches!(refused, Err(OpenError::NewerSchema { found: 99, .. })), "{refused:?}");
    sql(dir.path(), "PRAGMA application_id = 1");
    let refused = Sqlite::open_read_only(dir.path()).map(drop).expect_err("of another program").to_string();
    assert!(refused.contains("of another program"), "{refused}");
}

#[tokio::test]
async fn readers_stand_beside_the_writer() {
    let dir = temporary();
    let refused = Sqlite::open_read_only(dir.path());
    assert!(matches!(refused, Err(OpenError::Missing { .. })), "{refused:?}");
    let writer = open(dir.path()).expect("a new directory");
    writer.append(events(1, 0..10)).await.expect("appended");
    let reader = Sqlite::open_read_only(dir.path()).expect("beside the writer");
    writer.append(events(1, 10..20)).await.expect("appended");
    assert_eq!(reader.head().await.expect("a head"), writer.head().await.expect("a head"));
    assert_eq!(journal_cases::everything(&*reader).await, journal_cases::everything(&*writer).await);
    assert_eq!((reader.installation(), reader.origin()), (writer.installation(), ORIGIN));
    drop(writer);
    let alone = Sqlite::open_read_only(dir.path()).expect("without a writer");
    assert_eq!(alone.head().await.expect("a head"), reader.head().await.expect("a head"));
}

#[tokio::test]
async fn a_key_is_replaced_under_the_eyes_of_readers() {
    let dir = temporary();
    let (old, new) = (signing_key(1), signing_key(2));
    let store = open(dir.path()).expect("a new directory");
    let refused = store.sign_with(vec![new.clone()]).await;
    assert!(matches!(refused, Err(StoreError::Keys { .. })), "{refused:?}");
    assert_eq!(store.rotations(u64::MAX).await.expect("readable"), Vec::<String>::new());
    // Signed by both before the announcement: a crash between the key's file and its entry leaves that.
    store.sign_with(vec![old.clone(), new.clone()]).await.expect("in use");
    store.append(events(1, 0..1)).await.expect("appended");
    let announced = KeyAnnounced { vkey: new.vkey().to_string(), replaces: old.vkey().to_string() };
    let (observer, boot) = ("here".parse().expect("a name"), event::BootId::from_bytes([5; 16]));
    let announced = Observed::new(&announced, observer, boot, 0, START).expect("an event");
    store.append(vec![announced]).await.expect("announced");
    let both = store.head().await.expect("a head");
    // The first one after the announcement stays, and nobody sees it before it is published.
    store.append(events(1, 1..3)).await.expect("appended");
    assert_eq!(store.rotations(both.size - 1).await.expect("readable"), Vec::<String>::new());
    let both = both.note;
    store.sign_with(vec![new.clone()]).await.expect("the old one goes");
    store.append(events(1, 3..4)).await.expect("appended");

    for key in [&old, &new] {
        checkpoint::open(&both, &[key.vkey()]).expect("signed by both");
    }
    assert_eq!(store.rotations(u64::MAX).await.expect("readable"), [both]);
    let note = store.head().await.expect("a head").note;
    checkpoint::open(&note, &[new.vkey()]).expect("signed by the new one");
    checkpoint::open(&note, &[old.vkey()]).expect_err("not by the old one");
    drop(store);
    assert!(matches!(open(dir.path()), Err(OpenError::StrangeKey { .. })), "the old key alone");
    with(dir.path(), |options| options.signers = vec![new]).map(drop).expect("the new key");
}

#[tokio::test]
async fn a_log_that_follows_another_says_so_in_its_second_entry() {
    let dir = temporary();
    let continued = Continued {
        old_origin: "shop.example/0".to_owned(),
        old_checkpoint: "a note".to_owned(),
        old_size_at_hand: 7,
        reason: "the disk died".to_owned(),
    };
    let store = with(dir.path(), |options| options.continues = Some(continued.clone())).expect("a new directory");
    let entries = journal_cases::everything(&*store).await;
    assert_eq!(entries.len(), 2);
    let payload = entries[1].payload.as_ref().expect("there");
    let body = Envelope::decode(&payload.bytes).expect("an envelope").body::<Continued>().expect("of that kind");
    assert_eq!(body.expect("readable"), continued);
    assert_eq!(store.days_before(Retention::Audit, START.day()).await.expect("days"), []);
}

/// A restore without `keys/`, and a key that somebody removed: nothing goes on under a new key of that name.
#[tokio::test]
async fn a_missing_key_is_not_made_anew() {
    let dir = temporary();
    let store = open(dir.path()).expect("a new directory");
    store.append(events(1, 0..3)).await.expect("appended");
    let whole = journal_cases::everything(&*store).await;
    drop(store);
    let file = |class: Retention| dir.path().join(format!("keys/{}/{}.key", class.as_str(), START.day()));
    for class in [Retention::Evidence, Retention::Audit, Retention::Permanent] {
        let (path, kept) = (file(class), dir.path().join("kept"));
        std::fs::rename(&path, &kept).expect("there");
        let refused = open(dir.path()).expect_err("it is missing");
        assert!(matches!(&refused, OpenError::KeyMissing { first, more: 0, .. } if *first == path), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("put it back") && text.contains("garant log continue"), "{text}");
        assert!(!path.exists(), "nothing was made in its place");
        std::fs::rename(&kept, &path).expect("put back");
    }
    let store = open(dir.path()).expect("it opens again");
    assert_eq!(journal_cases::everything(&*store).await, whole);
    drop(store);

    // All of them, on the next day: without those of what the log says of itself nobody can verify it.
    let tomorrow = || {
        let mut options = options(dir.path(), &ManualClock::at(START + event::Span::from_days(1)));
        options.signers = vec![signing_key(1)];
        Sqlite::open(options)
    };
    std::fs::rename(dir.path().join("keys"), dir.path().join("kept")).expect("there");
    let refused = tomorrow().expect_err("they are missing");
    assert!(matches!(&refused, OpenError::KeyMissing { more: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("and 2 more"), "{refused}");
    std::fs::rename(dir.path().join("kept"), dir.path().join("keys")).expect("put back");
    // Of a day that is over, what can be done without is warned of.
    std::fs::remove_file(file(Retention::Evidence)).expect("there");
    let store = tomorrow().expect("it opens");
    store.append(events(2, 0..3)).await.expect("under keys of the new day");
    drop(store);

    // A day whose payloads are destroyed, and its key with them, as a crash leaves it before the entry that says so.
    sql(dir.path(), "DELETE FROM payload WHERE class = 2");
    std::fs::remove_file(file(Retention::Audit)).expect("there");
    tomorrow().expect("it opens");
}
