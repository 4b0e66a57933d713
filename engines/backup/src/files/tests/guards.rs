//! The two holes of the library that writes the format: a snapshot after an error, and no locks.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::geteuid;

use super::super::verify::verify;
use super::*;
use crate::sealed::RepositoryError;

/// Promise BK-5: what could not be read is named, in the result and in the snapshot.
#[tokio::test]
async fn what_can_not_be_read_is_named_and_counted() {
    if geteuid().is_root() {
        let test = "files::tests::guards::what_can_not_be_read_is_named_and_counted";
        again(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], test).await;
        return;
    }
    let host = Host::new();
    host.write("a", "readable");
    let closed = [host.write("closed file", "secret"), host.write("closed folder/x", "x")];
    fs::set_permissions(&closed[0], PermissionsExt::from_mode(0o000)).expect("set");
    fs::set_permissions(host.path("data/closed folder"), PermissionsExt::from_mode(0o000)).expect("set");
    let taken = host.take(&host.files()).await.expect("taken");
    assert!(!taken.is_complete());
    let mut named: Vec<&str> = taken.unread.named.iter().map(|problem| problem.path.as_str()).collect();
    // What a thread comes upon first is as chance has it.
    named.sort_unstable();
    assert_eq!(taken.unread.count, 2);
    assert!(named[0].ends_with("closed file") && named[1].ends_with("closed folder"), "{named:?}");
    assert!(taken.unread.named.iter().all(|problem| problem.reason == "Permission denied"), "{:?}", taken.unread);
    assert_eq!(taken.files, 1);
    let lacks = host.snapshots().await[0].lacks.clone().expect("it says so");
    assert!(lacks.contains("2 could not be read") && lacks.contains("closed file: Permission denied"), "{lacks}");
    let listed = host.restic(0, &["snapshots"]).await;
    assert!(listed.contains("incomplete"), "{listed}");
    let (restored, data) = host.restore("ours").await;
    assert!(restored.snapshot.lacks.is_some());
    assert!(data.join("a").exists() && data.join("closed folder").exists() && !data.join("closed file").exists());
    fs::set_permissions(host.path("data/closed folder"), PermissionsExt::from_mode(0o700)).expect("set");
}

/// The file is cut off once: a log that is rotated.
#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_read_is_read_again() {
    let host = Host::new();
    host.write("before", "1");
    host.write("z after", "2");
    let log = host.write("log", host.noise(3_000_000));
    let times = Arc::new(AtomicU64::new(0));
    let (file, counted) = (log.clone(), Arc::clone(&times));
    let taken = host.take_while(move |path, read| {
        if path == file && read.is_some_and(|read| read > 1_000_000) && counted.fetch_add(1, Ordering::Relaxed) == 0 {
            fs::write(&file, "new").expect("written");
        }
    });
    let taken = taken.await.expect("taken");
    assert!(taken.is_complete() && taken.files == 3, "{taken:?}");
    assert!(times.load(Ordering::Relaxed) > 0);
    let (_, data) = host.restore("ours").await;
    assert_eq!(fs::read_to_string(data.join("log")).expect("there"), "new");
    let checked = host.restic(0, &["check", "--read-data"]).await;
    assert!(checked.contains("no errors were found"), "{checked}");
    assert_eq!(host.snapshots().await.len(), 1, "the first attempt was not let out");
}

/// The first hole: the library saves a snapshot without the file, and says nothing.
#[tokio::test]
async fn a_read_that_fails_each_time_is_no_silent_loss() {
    let host = Host::new();
    host.write("whole", "whole");
    let log = host.write("log", "as it was");
    let (file, next) = (log.clone(), host.path("next"));
    let taken = host.take_while(move |path, read| {
        if path == file && read.is_none() {
            fs::write(&next, "another one").expect("written");
            fs::rename(&next, &file).expect("renamed");
        }
    });
    let taken = taken.await.expect("taken");
    assert_eq!((taken.unread.count, taken.files, taken.bytes), (1, 1, 5), "{taken:?}");
    assert!(taken.unread.named[0].path.ends_with("log") && taken.unread.named[0].reason.contains("replaced"));
    assert!(host.snapshots().await[0].lacks.as_deref().is_some_and(|lacks| lacks.contains("log: it was replaced")));
    let (_, data) = host.restore("ours").await;
    assert!(data.join("whole").exists() && !data.join("log").exists());
}

#[tokio::test]
async fn a_file_that_changes_goes_away_or_is_replaced_is_told_from_a_whole_one() {
    let host = Host::new();
    let grows = host.write("grows", host.noise(2_000_000));
    let begin = fs::read(&grows).expect("read");
    let (gone, replaced) = (host.write("gone", "gone"), host.write("replaced", "old"));
    let other = host.path("other");
    fs::write(&other, "the new one, which is longer").expect("written");
    let hooked = [grows.clone(), gone.clone(), replaced.clone(), other.clone()];
    let taken = host.take_while(move |path, read| {
        let [grows, gone, replaced, other] = &hooked;
        match read {
            Some(read) if path == grows && read > 0 => {
                let mut file = fs::OpenOptions::new().append(true).open(grows).expect("open");
                std::io::Write::write_all(&mut file, b"more").expect("written");
            }
            None if path == gone => fs::remove_file(gone).expect("removed"),
            None if path == replaced && other.exists() => fs::rename(other, replaced).expect("renamed"),
            _ => {}
        }
    });
    let taken = taken.await.expect("taken");
    assert!(taken.is_complete(), "{taken:?}");
    assert!(taken.changed.count == 1 && taken.changed.named[0].path.ends_with("grows"), "{taken:?}");
    let (_, data) = host.restore("ours").await;
    assert!(fs::read(data.join("grows")).expect("there").starts_with(&begin));
    assert_eq!(fs::read_to_string(data.join("replaced")).expect("there"), "the new one, which is longer");
    assert!(!data.join("gone").exists());
}

#[tokio::test]
async fn a_file_that_went_away_is_named() {
    let host = Host::new();
    host.write("stays", "stays");
    let gone = host.write("gone", "gone");
    let file = gone.clone();
    let taken = host.take_while(move |path, read| {
        if path == file && read.is_none() {
            fs::remove_file(&file).expect("removed");
        }
    });
    let taken = taken.await.expect("taken");
    assert!(taken.is_complete() && taken.files == 1, "{taken:?}");
    assert!(taken.gone.count == 1 && taken.gone.named[0].path.ends_with("gone"), "{taken:?}");
}

#[tokio::test]
async fn a_path_that_is_gone_or_suddenly_empty_makes_no_snapshot() {
    let host = Host::new();
    host.write("a", "a");
    host.take(&host.files()).await.expect("taken");
    let (data, away) = (host.path("data"), host.path("away"));
    fs::rename(&data, &away).expect("moved");
    let error = host.take(&host.files()).await.expect_err("it is gone").to_string();
    assert!(
        error.ends_with("data: No such file or directory (os error 2)") || error.contains("data: No such file"),
        "{error}"
    );
    // The mount is away: its directory is there, and empty.
    fs::create_dir(&data).expect("made");
    let error = host.take(&host.files()).await.expect_err("it is empty").to_string();
    assert!(error.contains("is its file system mounted?"), "{error}");
    assert_eq!(host.snapshots().await.len(), 1);
    let files = Files { may_be_empty: true, ..host.files() };
    host.take(&files).await.expect("it may be");
    // What was empty last time may be so.
    host.take(&host.files()).await.expect("taken");
}

/// BK-7: a path that is a link, or lies behind one, would be kept as that link and nothing else.
#[tokio::test]
async fn a_path_that_is_a_link_makes_no_snapshot() {
    let host = Host::new();
    host.write("a/b", "b");
    let link = host.path("link");
    std::os::unix::fs::symlink(host.path("data"), &link).expect("linked");
    for path in [link.clone(), link.join("a")] {
        let files = Files { paths: vec![path], ..host.files() };
        let error = host.take(&files).await.expect_err("it is a link").to_string();
        assert!(error.contains("it is a link to"), "{error}");
    }
    assert_eq!(host.snapshots().await.len(), 0);
}

/// What the library passes over without a word is missed when the tree is read back.
#[tokio::test]
async fn a_tree_that_is_not_what_was_read_is_not_kept() {
    let host = Host::new();
    host.write("a", "a");
    host.write("b", "b");
    let taken = host.take(&host.files()).await.expect("taken");
    let backend = host.files().backend(&host.repository);
    let verified = tokio::task::spawn_blocking(move || {
        let telling = Telling::default();
        let thread =
            Thread { stop: engine::CancellationToken::default(), telling: telling.clone(), hook: Hook::default() };
        let open = || super::super::open::open(&backend, "shop", &telling).expect("open").expect("there");
        let mut snapshots = open().get_all_snapshots().expect("listed");
        let snapshot = snapshots.pop().expect("there");
        // As it was counted: everything that is in the tree.
        let mut count = super::super::source::Count::default();
        let repository = open().to_indexed().expect("indexed");
        let root = repository.node_from_snapshot_and_path(&snapshot, "").expect("there");
        for entry in repository.ls(&root, &rustic_core::LsOptions::default()).expect("listed") {
            let (path, mut node) = entry.expect("read");
            count.entries += 1;
            count.sum = count.sum.wrapping_add(super::super::source::fingerprint(&path, &mut node));
        }
        verify(&thread, &backend, open(), &snapshot, &count).expect("it is as it was counted");
        let more = super::super::source::Count { entries: count.entries + 1, ..count.clone() };
        let other = super::super::source::Count { sum: count.sum ^ 1, ..count };
        [more, other]
            .map(|count| verify(&thread, &backend, open(), &snapshot, &count).err().map(|error| error.to_string()))
    });
    let [more, other] = verified.await.expect("no panic");
    assert!(more.expect("one is missing").contains("of them are in the tree"), "{taken:?}");
    assert!(other.expect("one is another").contains("other entries"));
}

#[tokio::test]
async fn a_copy_that_fails_in_the_middle_leaves_no_snapshot() {
    let host = Host::new();
    host.take(&Files { may_be_empty: true, ..host.files() }).await.expect("taken");
    let large = host.write("large", host.noise(40_000_000));
    let copies = [host.path("copy0"), host.path("copy1")];
    let moved = copies.clone();
    let error = host.take_while(move |path, read| {
        if path == large && read.is_some_and(|read| read > 20_000_000) {
            for copy in moved.iter().filter(|copy| copy.exists()) {
                fs::rename(copy, copy.with_extension("away")).expect("moved");
            }
        }
    });
    let error = error.await.expect_err("no copy is there");
    assert!(matches!(error, FilesError::Repository(RepositoryError::Object(_))), "{error}");
    for copy in &copies {
        fs::rename(copy.with_extension("away"), copy).expect("moved back");
    }
    host.world.clock.suspend(Span::from_secs(60));
    assert_eq!(host.snapshots().await.len(), 1);
    let taken = host.take(&host.files()).await.expect("taken");
    assert_eq!((taken.files, taken.copies.len()), (1, 2));
    let checked = host.restic(1, &["check", "--read-data"]).await;
    assert!(checked.contains("no errors were found"), "{checked}");
}

#[tokio::test]
async fn a_backup_that_is_stopped_leaves_no_snapshot() {
    let host = Host::new();
    let large = host.write("large", host.noise(5_000_000));
    let stop = host.context.stop.clone();
    let error = host.take_while(move |path, read| {
        if path == large && read.is_some() {
            stop.cancel();
        }
    });
    assert!(matches!(error.await, Err(FilesError::Stopped)));
    assert_eq!(host.objects(0, "snapshots"), Vec::<PathBuf>::new());
}

/// The second hole: nobody locks anything.
#[tokio::test]
async fn one_process_of_a_host_backs_up_at_a_time() {
    let host = Host::new();
    host.write("a", "a");
    let held = super::super::lease::HostLock::take(&host.path("state"), "shop").expect("taken");
    let error = host.take(&host.files()).await.expect_err("another one is at it");
    assert!(matches!(error, FilesError::Lease(LeaseError::Busy(_))), "{error}");
    drop(held);
    host.take(&host.files()).await.expect("taken");
}

#[tokio::test]
async fn nothing_is_destroyed_while_somebody_writes_nor_written_while_something_is_destroyed() {
    let host = Host::new();
    host.write("a", "a");
    let lease = |role| Lease::take(&host.repository, "shop", role);
    let held = |result: Result<Lease, LeaseError>| matches!(result, Err(LeaseError::Held { .. }));
    let writing = lease(Role::Write).await.expect("taken");
    assert!(held(lease(Role::Destroy).await));
    assert!(!held(lease(Role::Write).await), "writers do not disturb each other here: a host has a lock of its own");
    host.world.clock.suspend(Span::from_secs(1800));
    writing.renew().await.expect("renewed");
    host.world.clock.suspend(Span::from_secs(3000));
    assert!(writing.is_held() && held(lease(Role::Destroy).await));
    writing.end().await.expect("ended");
    let destroying = lease(Role::Destroy).await.expect("nobody writes");
    let error = host.files().take(&host.context, &host.repository, &host.path("state"), &()).await;
    assert!(matches!(error, Err(FilesError::Lease(LeaseError::Held { .. }))), "{error:?}");
    assert!(held(lease(Role::Destroy).await), "nor do two destroy");
    // Who died is waited for no longer than its lease.
    drop(destroying);
    host.take(&host.files()).await.expect_err("it may still be at it");
    host.take(&host.files()).await.expect("it has run out");
    // A copy that is away might hold a lease.
    fs::rename(host.path("copy1"), host.path("away")).expect("moved");
    lease(Role::Destroy).await.expect_err("not every copy answers");
    lease(Role::Write).await.expect("one is enough");
}

#[tokio::test]
async fn a_lease_that_has_run_out_lets_no_snapshot_out() {
    let host = Host::new();
    let file = host.write("a", "a");
    let clock = Arc::clone(&host.world.clock);
    let error = host.take_while(move |path, read| {
        if path == file && read.is_none() {
            clock.suspend(Span::from_secs(2 * 3600));
        }
    });
    assert!(matches!(error.await, Err(FilesError::Lease(LeaseError::Lost(_)))));
    assert_eq!(host.objects(0, "snapshots"), Vec::<PathBuf>::new());
}
