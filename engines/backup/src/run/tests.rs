//! The engine as a whole, in simulated time: what comes by itself.

use std::os::unix::fs::PermissionsExt as _;

use engine::door::{Call, CallBody, Door as _, Method};
use engine::sim::World;
use event::evidence::Found;

use super::*;
use crate::config::{CopySettings, FilesSettings, PlaceSettings, SecretPlace};
use crate::door::API;
use crate::events::{Inspected, Taken, Tested};
use crate::sealed::RepositoryKey;

/// Damages each object below a folder.
fn damage(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).expect("listed") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            damage(&path);
        } else {
            let mut bytes = std::fs::read(&path).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).expect("written");
        }
    }
}

/// BK-5: snapshots, restore tests from each copy in its turn, and checks come without anybody asking; a copy that has rotted is red though
/// the other one is whole.
#[tokio::test(start_paused = true)]
async fn what_is_promised_each_day_comes_each_day() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    for name in ["near", "far", "state", "www"] {
        std::fs::create_dir(at.join(name)).expect("made");
    }
    std::fs::write(at.join("www/index.html"), "hello").expect("written");
    let world = World::at(Time::from_secs(1_796_000_000));
    let context = world.context("agent".parse().expect("a name")).expect("a context");
    let key = at.join("key");
    let repository_key = RepositoryKey::random(&*context.random);
    std::fs::write(&key, &*repository_key.text()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
    let copy = |name: &str| CopySettings {
        name: name.into(),
        region: name.parse().expect("a name"),
        provider: None,
        place: PlaceSettings::Directory(at.join(name)),
    };
    let settings = Settings {
        service: "backup".parse().expect("a name"),
        key: SecretPlace::File(key),
        keep: Span::from_days(90),
        restore_every: Span::from_days(1),
        copies: vec![copy("near"), copy("far")],
        mariadb: Vec::new(),
        postgres: Vec::new(),
        files: vec![FilesSettings {
            name: "www".into(),
            service: None,
            paths: vec![at.join("www")],
            volumes: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            may_be_empty: false,
            every: Span::from_secs(6 * 3600),
            checks: Vec::new(),
        }],
    };
    let desired = serde_json::value::to_raw_value(&Desired { settings, revision: "r1".into() }).expect("it serialises");
    let backup = Arc::new(Backup::new(DesiredState::fixed(Some(desired)), at.join("state")));
    let runs = tokio::spawn({
        let (backup, context) = (Arc::clone(&backup), context.clone());
        async move { backup.run(context).await }
    });
    let days = async |days: u64| tokio::time::sleep(Duration::from_hours(24 * days)).await;
    let open = || {
        let found = world.journal.of::<Found>().into_iter();
        let state: std::collections::BTreeMap<_, _> =
            found.map(|found| ((found.finding.to_string(), found.probe.to_string()), found.open)).collect();
        state.into_iter().filter(|(_, open)| *open).map(|(key, _)| key).collect::<Vec<_>>()
    };
    days(3).await;
    tokio::time::sleep(Duration::from_hours(1)).await;
    let (taken, tested) = (world.journal.of::<Taken>(), world.journal.of::<Tested>());
    assert_eq!(taken.len(), 13, "one each six hours");
    assert!(tested.iter().all(|test| test.error.is_none()), "{tested:?}");
    let from: Vec<&str> = tested.iter().filter_map(|test| test.copy.as_deref()).collect();
    assert_eq!(from, ["near", "far", "near", "far"], "one each day, from each copy in its turn");
    let checked = world.journal.of::<Inspected>();
    assert!(checked.len() == 4 && checked.iter().all(|it| it.wrong.is_empty() && it.unseen.is_empty()), "{checked:?}");
    let is_of_damage = |finding: &(String, String)| finding.0 == "backup-damaged" || finding.0 == "backup-failing";
    assert!(!open().iter().any(is_of_damage), "{:?}", open());

    // A key that is lost while it is in use is missed at once, not by the restore that needs it.
    let key_file = at.join("key");
    let is_missed = |kind: &str| open().contains(&("backup-failing".into(), format!("www-{kind}")));
    assert!(!is_missed("full"), "{:?}", open());
    std::fs::write(&key_file, "").expect("emptied");
    tokio::time::sleep(Duration::from_mins(2)).await;
    let status = asked(&backup, Wish::Status).await;
    assert!(is_missed("full") && status.contains("is lost here"), "{status}");
    std::fs::write(&key_file, &*RepositoryKey::random(&*context.random).text()).expect("written");
    tokio::time::sleep(Duration::from_mins(2)).await;
    let status = asked(&backup, Wish::Status).await;
    assert!(status.contains("is another one"), "{status}");
    std::fs::write(&key_file, &*repository_key.text()).expect("put back");
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(!is_missed("full"), "{:?}", open());

    damage(&at.join("far/restic/www/data"));
    days(2).await;
    let tested = world.journal.of::<Tested>();
    assert!(tested[4].error.is_none() && tested[4].copy.as_deref() == Some("near"), "{:?}", tested[4]);
    let far = &tested[5];
    let error = far.error.clone().expect("it is damaged");
    assert!(far.copy.as_deref() == Some("far") && error.contains("from the copy `far`: "), "{far:?}");
    assert!(open().contains(&("backup-failing".into(), "www-restore".into())), "{:?}", open());
    // Its words come once it is open: who reads them earlier does not know what they are of.
    let events = world.journal.events();
    let place = |kind: &str, part: &str| {
        let is_it = |event: &event::Observed| event.kind == kind && event.body.get().contains(part);
        events.iter().position(is_it).unwrap_or_else(|| panic!("no {kind} with {part}"))
    };
    let opened = place("evidence.found", r#""finding":"backup-failing","probe":"www-restore","open":true"#);
    assert!(place("backup.detail", r#""probe":"www-restore","finding":"backup-failing""#) > opened);
    let status = backup.board.lines()[&("www".to_owned(), Kind::Restore)].failing();
    assert!(status.is_some_and(|why| why.contains("far")));

    // Rotten everywhere: it is said the same day, by the check, or by the snapshot that would build on it where trees have rotted too.
    damage(&at.join("near/restic/www/data"));
    days(1).await;
    let is_said = |finding: &str| open().contains(&(finding.into(), "www-full".into()));
    assert!(is_said("backup-damaged") || is_said("backup-failing"), "{:?}", open());
    // A snapshot that stores again what had rotted mends the one before: it is open until that was restored from there.
    let is_mended = || {
        let tested = world.journal.of::<Tested>();
        tested.iter().skip(6).any(|test| test.to == far.to && test.error.is_none() && test.copy == far.copy)
    };
    let is_open = open().contains(&("backup-failing".into(), "www-restore".into()));
    assert!(is_open || is_mended(), "{:?}", world.journal.of::<Tested>());
    let status = asked(&backup, Wish::Status).await;

    // BK-3: that the key is kept elsewhere is to be shown once a year.
    assert!(status.contains("nobody has shown yet"), "{status}");
    let another = asked(&backup, Wish::KeyShown { identity: "another".into() }).await;
    assert!(another.contains("409"), "{another}");
    asked(&backup, Wish::KeyShown { identity: repository_key.identity() }).await;
    let status = asked(&backup, Wish::Status).await;
    assert!(status.contains("\"key_warning\":null"), "{status}");
    world.clock.step(Span::from_days(367));
    let status = asked(&backup, Wish::Status).await;
    assert!(status.contains("more than a year ago"), "{status}");
    world.stop.cancel();
    runs.await.expect("no panic").expect("it stops");
}

/// What a command is answered.
async fn asked(backup: &Backup, wish: Wish) -> String {
    let body = CallBody::Json(serde_json::to_vec(&wish).expect("it serialises").into());
    let call = Call { body, ..Call::new(Method::Post, API, &["run"], Time::from_micros(0)) };
    let Reply::Json(status, bytes) = backup.door().call(call).await else { return String::new() };
    format!("{status} {}", String::from_utf8_lossy(&bytes))
}
