//! What every place for objects must do, whatever it is made of.

use bytes::Bytes;

use super::{Destroy, LISTED_MAX, OBJECT_BYTES_MAX, Objects, Why, list_all};

/// Puts, gets, lists: the contract of [`Objects`], on an empty place.
pub(crate) async fn keeps_the_contract(objects: &dyn Objects) {
    let body = Bytes::from_static(b"0123456789");
    objects.put("keys/a/1", body.clone(), None).await.expect("it is added");
    objects.put("keys/a/1", body.clone(), None).await.expect("the same again is a success");
    let other = objects.put("keys/a/1", Bytes::from_static(b"other"), None).await.expect_err("never overwritten");
    assert_eq!(other.why, Why::Exists);
    assert_eq!(objects.get("keys/a/1", None).await.expect("it is there"), body);
    assert_eq!(objects.get("keys/a/1", Some(2..5)).await.expect("a part"), &body[2..5]);
    assert_eq!(objects.get("keys/a/1", Some(8..50)).await.expect("its end"), &body[8..]);
    assert_eq!(objects.size("keys/a/1").await.expect("it answers"), Some(10));
    assert_eq!(objects.size("keys/a/2").await.expect("it answers"), None);
    assert_eq!(objects.get("keys/a/2", None).await.expect_err("none").why, Why::Missing);
    let empty = Bytes::new();
    objects.put("empty", empty.clone(), None).await.expect("an empty one");
    assert_eq!(objects.get("empty", None).await.expect("it is there"), empty);
    for name in ["", "/a", "a//b", "../a", "a/..", "a/./b", "a b", "a\n", "é", "a/"] {
        let error = objects.put(name, body.clone(), None).await.expect_err(name);
        assert_eq!(error.why, Why::Impossible, "{name:?}");
    }
    assert_eq!(objects.locked_until("keys/a/1").await.expect("it answers"), None, "nobody has locked it");

    let large = Bytes::from(vec![0; OBJECT_BYTES_MAX + 1]);
    assert_eq!(objects.put("large", large, None).await.expect_err("too large").why, Why::Impossible);

    for number in 0..(LISTED_MAX + 5) {
        objects.put(&format!("many/{number:04}"), Bytes::from_static(b"x"), None).await.expect("added");
    }
    // Sorts before `many/`, and after it.
    objects.put("many-", Bytes::from_static(b"x"), None).await.expect("added");
    objects.put("many0/1", Bytes::from_static(b"x"), None).await.expect("added");
    let some = objects.list("many/", None).await.expect("some");
    assert_eq!((some.len(), some[0].name.as_str(), some[0].size), (LISTED_MAX, "many/0000", 1));
    let all = list_all(objects, "many/", 10_000).await.expect("all");
    assert_eq!(all.len(), LISTED_MAX + 5);
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    let some = list_all(objects, "many", 10_000).await.expect("all");
    assert_eq!(some.len(), LISTED_MAX + 7);
    assert!(some.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(list_all(objects, "many/", 10).await.expect_err("a bound").why, Why::Impossible);
    assert_eq!(objects.list("nothing/", None).await.expect("none"), []);
    assert_eq!(objects.folders("").await.expect("folders"), ["keys", "many", "many0"]);
    assert_eq!(objects.folders("keys/").await.expect("folders"), ["a"]);
    assert_eq!(objects.folders("nothing/").await.expect("none"), Vec::<String>::new());
}

/// Deletes: the contract of [`Destroy`].
pub(crate) async fn destroys(objects: &dyn Destroy) {
    objects.put("gone/1", Bytes::from_static(b"x"), None).await.expect("added");
    objects.delete("gone/1").await.expect("deleted");
    objects.delete("gone/1").await.expect("it is no error to delete what is not there");
    assert_eq!(objects.size("gone/1").await.expect("it answers"), None);
    objects.put("gone/1", Bytes::from_static(b"y"), None).await.expect("its name is free");
    objects.delete("gone/1").await.expect("deleted");
    objects.put("gone/2", Bytes::from_static(b"z"), None).await.expect("added");
    objects.hide("gone/2").await.expect("hidden");
    assert_eq!(objects.size("gone/2").await.expect("it answers"), None);
    assert_eq!(objects.list("gone/", None).await.expect("a listing"), []);
    objects.delete("gone/2").await.expect("deleted, with what is hidden");
}
