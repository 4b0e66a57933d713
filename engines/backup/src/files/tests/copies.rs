//! Copies that are away, damaged or incomplete.

use super::*;

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

async fn check(host: &Host, share: Share) -> FilesChecked {
    host.files().check(&host.context, &host.repository, share, &()).await.expect("checked")
}

/// Promises BK-4 and BK-5.
#[tokio::test]
async fn what_is_damaged_at_one_copy_is_read_from_the_other_and_named() {
    let host = Host::new();
    host.write("a", host.noise(20_000_000));
    host.write("b/c", "small");
    host.take(&host.files()).await.expect("taken");
    // Every object of the first copy: packs, index, snapshot, even the configuration.
    for kind in ["data", "index", "snapshots", "keys"] {
        host.objects(0, kind).iter().for_each(|path| damage(path));
    }
    damage(&host.path("copy0/restic/shop/config"));
    let (restored, data) = host.restore("ours").await;
    assert!(restored.unwritten.is_empty(), "{restored:?}");
    host.same(&host.path("data"), &data).await;
    host.take(&host.files()).await.expect("taken");
    let checked = check(&host, Share::None).await;
    assert!(checked.findings.iter().any(|finding| finding.copy == "copy0"), "{checked:?}");
    assert!(checked.findings.iter().all(|finding| finding.copy == "copy0"), "{checked:?}");
}

#[tokio::test]
async fn a_damaged_or_missing_pack_is_found_by_the_check_that_reads_it() {
    let host = Host::new();
    host.write("a", host.noise(40_000_000));
    host.take(&host.files()).await.expect("taken");
    let packs = host.objects(1, "data");
    let large = packs.iter().find(|path| fs::metadata(path).expect("there").len() > 10_000_000).expect("a large one");
    damage(large);
    assert_eq!(check(&host, Share::None).await.wrong, 0, "its size is as it was");
    let checked = check(&host, Share::All).await;
    assert!(checked.wrong > 0 && checked.findings.iter().all(|finding| finding.copy == "copy1"), "{checked:?}");
    // In parts, one part finds it.
    let mut wrong = 0;
    for number in 1..=3 {
        wrong += check(&host, Share::Part { number, of: 3 }).await.wrong;
    }
    assert!(wrong > 0);
    fs::remove_file(large).expect("removed");
    let checked = check(&host, Share::None).await;
    assert!(checked.wrong > 0 && checked.findings[0].copy == "copy1", "{checked:?}");
}

/// The index says that a chunk is there, and the pack is gone: it is stored again, not believed.
#[tokio::test]
async fn a_pack_that_is_gone_from_every_copy_is_stored_again() {
    let host = Host::new();
    host.write("a", host.noise(20_000_000));
    host.take(&host.files()).await.expect("taken");
    for copy in 0..2 {
        let packs = host.objects(copy, "data");
        packs.iter().filter(|path| fs::metadata(path).expect("there").len() > 10_000_000).for_each(|path| {
            fs::remove_file(path).expect("removed");
        });
    }
    let taken = host.take(&host.files()).await.expect("taken");
    assert!(taken.added > 15_000_000 && taken.copies.len() == 2, "{taken:?}");
    let (restored, data) = host.restore("ours").await;
    assert!(restored.unwritten.is_empty(), "{restored:?}");
    host.same(&host.path("data"), &data).await;
}

#[tokio::test]
async fn a_copy_that_is_away_is_said_to_lack_the_snapshot_until_it_is_levelled() {
    let host = Host::new();
    fs::rename(host.path("copy1"), host.path("away")).expect("moved");
    host.write("a", host.noise(1_000_000));
    let error = host.take(&host.files()).await.expect_err("a repository is made at every copy").to_string();
    assert!(error.contains("copy1"), "{error}");
    fs::rename(host.path("away"), host.path("copy1")).expect("moved back");
    assert_eq!(host.take(&host.files()).await.expect("taken").copies, ["copy0", "copy1"]);
    fs::rename(host.path("copy1"), host.path("away")).expect("moved");
    host.write("b", host.noise(1_000_000));
    assert_eq!(host.take(&host.files()).await.expect("taken").copies, ["copy0"]);
    fs::rename(host.path("away"), host.path("copy1")).expect("moved back");
    let checked = check(&host, Share::None).await;
    assert!(checked.findings.iter().any(|finding| finding.copy == "copy1" && finding.what.contains("is missing")));
    // What the next one refers to is not at the copy that was away.
    let taken = host.take(&host.files()).await.expect("taken");
    assert_eq!(taken.copies, ["copy0"], "{taken:?}");
    host.repository.level("restic/", |_| false).await.expect("levelled");
    assert_eq!(check(&host, Share::All).await.wrong, 0);
    assert_eq!(host.take(&host.files()).await.expect("taken").copies, ["copy0", "copy1"]);
}

#[tokio::test]
async fn nothing_is_found_where_nothing_was_backed_up() {
    let host = Host::new();
    assert_eq!(host.snapshots().await, []);
    let into = host.path("restored");
    let point = Point::At(host.world.now());
    let restored =
        host.files().restore(&host.context, &host.repository, &point, &into, RestoreOptions::default(), &()).await;
    assert!(matches!(restored, Err(FilesError::NoSnapshot(_))), "{restored:?}");
    // Another key opens nothing, and says so.
    host.write("a", "a");
    host.take(&host.files()).await.expect("taken");
    let other = RepositoryKey::random(&SeededRandom::new(8));
    let copies = host.repository.copies().to_vec();
    let clock = Arc::clone(&host.world.clock) as _;
    let other = Arc::new(Repository::new(copies, other, Span::ZERO, clock, Arc::new(SeededRandom::new(9))));
    let error = host.files().snapshots(&host.context, &other).await.expect_err("another key").to_string();
    assert!(error.contains("was written under another key"), "{error}");
}
