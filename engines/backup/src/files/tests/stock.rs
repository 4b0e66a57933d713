//! Stock restic reads what we write.

use super::*;

/// Promises BK-3 and BK-7.
#[tokio::test]
async fn stock_restic_checks_and_restores_what_we_write() {
    let host = Host::new();
    host.write("a/b/c", "hello");
    host.write("empty", "");
    host.write("large", host.noise(40_000_000));
    let taken = host.take(&host.files()).await.expect("taken");
    assert_eq!((taken.files, taken.bytes, taken.copies.len()), (3, 40_000_005, 2));
    assert!(taken.is_complete() && taken.added > 40_000_000, "{taken:?}");
    host.write("a/b/c", "hello again");
    let taken = host.take(&host.files()).await.expect("taken");
    assert!(taken.added < 10_000, "what is stored already is not stored again: {taken:?}");
    for copy in 0..2 {
        let checked = host.restic(copy, &["check", "--read-data"]).await;
        assert!(checked.contains("no errors were found"), "{checked}");
        let into = host.path(&format!("restored/{copy}"));
        host.restic(copy, &["restore", "latest", "--target", into.to_str().expect("text")]).await;
        host.same(&host.path("data"), &below(&into, &host.path("data"))).await;
    }
    let checked = host.files().check(&host.context, &host.repository, Share::All, &()).await.expect("checked");
    assert_eq!((checked.snapshots, checked.wrong, checked.unused), (2, 0, 0), "{checked:?}");
    let (restored, data) = host.restore("ours").await;
    host.same(&host.path("data"), &data).await;
    assert_eq!((restored.files, restored.bytes), (3, 40_000_011));
}

#[test]
fn the_password_is_of_one_repository_alone() {
    let (shop, crm) = (password(&key(), "shop"), password(&key(), "crm"));
    assert_eq!(shop.len(), 64);
    assert_ne!(*shop, *crm);
    assert!(!key().text().contains(&shop[..16]));
}
