//! What is restored is what was there, by us and by stock restic.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

use rustix::process::geteuid;

use super::*;
use crate::small_disk::SmallDisk;

/// Everything of a tree that `find`, `getfattr` and `getfacl` show; without the times of the directories above.
async fn shown(host: &Host, folder: &Path) -> String {
    let lines = [
        r"find . -printf '%P %y %s %m %U %G %T@ %n %l\0' | sort -z | tr '\0' '\n'",
        "getfattr -R -h -d -m - -e hex . | sort",
        "getfacl -R -n -p .",
        "find . -type f -print0 | sort -z | xargs -0 sha256sum -z | tr '\\0' '\\n'",
        "find . '(' -type b -o -type c ')' -print0 | sort -z | xargs -0 -r stat -c '%n %t %T'",
    ];
    host.shell(folder, &lines.join("; ")).await
}

/// Promise BK-7: what is kept of a file is all that Linux knows of it.
#[tokio::test]
async fn everything_of_a_file_is_restored_by_us_and_by_stock_restic() {
    let host = Host::new();
    let data = host.path("data");
    let is_root = geteuid().is_root();
    host.write("plain", "content");
    host.write("empty", "");
    fs::create_dir(data.join("empty folder")).expect("made");
    fs::create_dir(data.join("shared")).expect("made");
    fs::set_permissions(data.join("shared"), PermissionsExt::from_mode(0o1777)).expect("set");
    for (name, mode) in [("secret", 0o600), ("tool", 0o4755), ("group", 0o2750), ("closed", 0o000)] {
        fs::set_permissions(host.write(name, name), PermissionsExt::from_mode(mode)).expect("set");
    }
    for name in [
        &b"latin \xe9\xff"[..],
        b"quote \" back\\slash\ttab",
        b"new\nline",
        b"-rf",
        b"\\x41",
        "déjà \u{202e}vu".as_bytes(),
    ] {
        fs::write(data.join(OsStr::from_bytes(name)), name).expect("written");
    }
    symlink("plain", data.join("link")).expect("linked");
    symlink("/no/where", data.join("dangling")).expect("linked");
    symlink(OsStr::from_bytes(b"t\xe9l\xe9"), data.join("raw link")).expect("linked");
    fs::hard_link(data.join("plain"), data.join("other name")).expect("linked");
    fs::hard_link(data.join("plain"), data.join("shared/third name")).expect("linked");
    let sparse = fs::File::create(data.join("sparse")).expect("made");
    sparse.set_len(200_000_000).expect("grown");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 100_000_007).expect("written");
    let lines = [
        "mkfifo fifo",
        "setfattr -n user.note -v kept plain; setfattr -n user.none plain; setfattr -n user.many -v 0x00ff0a 'empty folder'",
        "head -c 3000 /dev/zero | tr '\\0' x | xargs setfattr -n user.long plain -v",
        "setfacl -m u:1234:rw,g:4321:r plain; setfacl -d -m u:1234:rwx 'empty folder'",
        "touch -d '2001-02-03 04:05:06.789012345 UTC' secret shared; touch -h -d '1999-01-01 00:00:00.5 UTC' link; \
         touch -d '1969-12-30 01:02:03.123456789 UTC' empty",
    ];
    host.shell(&data, &lines.join("; ")).await;
    if is_root {
        let lines = [
            "chown 1000:1001 secret; chown -h 1002:1003 link; chown 1004 fifo shared",
            "mknod null c 1 3; mknod loop b 7 77; chmod 620 null",
            "setfattr -n trusted.note -v kept tool; setfattr -h -n trusted.note -v link link",
        ];
        host.shell(&data, &lines.join("; ")).await;
    }
    let before = shown(&host, &data).await;
    let single = host.path("single file");
    fs::write(&single, "a path that is a file").expect("written");
    let mut files = host.files();
    files.paths.push(single.clone());
    let taken = host.take(&files).await.expect("taken");
    assert!(taken.is_complete() && taken.changed.is_empty(), "{taken:?}");

    let into = host.path("restored");
    let restored = {
        let (point, options) = (Point::Snapshot(taken.snapshot.clone()), RestoreOptions::default());
        files.restore(&host.context, &host.repository, &point, &into, options, &()).await.expect("restored")
    };
    assert_eq!((restored.unwritten.clone(), restored.unset.clone()), Default::default());
    assert_eq!((restored.files, restored.bytes), (taken.files - 2, taken.bytes - 14), "two are further names of one");
    let ours = below(&into, &data);
    similar(&before, &shown(&host, &ours).await);
    assert_eq!(fs::read(below(&into, &single)).expect("there"), b"a path that is a file");
    let inode = |name: &str| fs::metadata(ours.join(name)).expect("there").ino();
    assert_eq!((inode("plain"), inode("plain")), (inode("other name"), inode("shared/third name")));
    let stored = fs::metadata(ours.join("sparse")).expect("there").blocks() * 512;
    assert!(stored <= 1_000_000, "the holes are holes: {stored}");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode(&below(&into, host.folder.path())), mode(host.folder.path()), "the folders above have theirs too");

    // What Debian's restic 0.14 does not know: attributes of links, and targets of links that are not UTF-8.
    let theirs = host.path("theirs");
    host.restic(0, &["restore", "latest", "--target", theirs.to_str().expect("text")]).await;
    let known =
        |line: &&str| !["raw link ", "# file: link", "trusted.note=0x6c696e6b"].iter().any(|no| line.starts_with(no));
    let known = |shown: &str| shown.lines().filter(known).collect::<Vec<_>>().join("\n");
    similar(&known(&before), &known(&shown(&host, &below(&theirs, &data)).await));
}

fn similar(one: &str, other: &str) {
    let lost: Vec<&str> = one.lines().filter(|line| !other.lines().any(|found| found == *line)).collect();
    let found: Vec<&str> = other.lines().filter(|line| !one.lines().any(|lost| lost == *line)).collect();
    assert!(lost.is_empty() && found.is_empty(), "lost {lost:#?}, found {found:#?}");
}

#[tokio::test]
async fn a_directory_that_is_not_empty_is_left_alone_unless_told_otherwise() {
    let host = Host::new();
    host.write("a/kept", "as it was");
    host.write("b", "as it was");
    host.take(&host.files()).await.expect("taken");
    let (into, outside) = (host.path("restored"), host.path("outside"));
    let there = below(&into, &host.path("data"));
    fs::create_dir_all(&there).expect("made");
    fs::create_dir(&outside).expect("made");
    // Somebody has put links in the way.
    symlink(&outside, there.join("a")).expect("linked");
    fs::write(outside.join("kept"), "not ours").expect("written");
    symlink(outside.join("kept"), there.join("b")).expect("linked");
    fs::write(there.join("more"), "stays").expect("written");
    let point = Point::At(host.world.now());
    let restore = |over| {
        let (files, point, into, host) = (host.files(), point.clone(), into.clone(), &host);
        async move {
            files
                .restore(
                    &host.context,
                    &host.repository,
                    &point,
                    &into,
                    RestoreOptions { over, ..RestoreOptions::default() },
                    &(),
                )
                .await
        }
    };
    let error = restore(false).await.expect_err("something is in it").to_string();
    assert!(error.contains("something is in it"), "{error}");
    assert!(!there.join("a").join("b").exists());
    let restored = restore(true).await.expect("restored");
    assert!(restored.unwritten.is_empty() && restored.unset.is_empty(), "{restored:?}");
    assert_eq!(fs::read_to_string(outside.join("kept")).expect("there"), "not ours");
    assert_eq!(fs::read_to_string(there.join("a/kept")).expect("there"), "as it was");
    assert_eq!(fs::read_to_string(there.join("b")).expect("there"), "as it was");
    assert_eq!(fs::read_to_string(there.join("more")).expect("there"), "stays");
}

/// Promise BK-2: the state of an instant, or an error; never the newest there is instead.
#[tokio::test]
async fn the_newest_snapshot_before_an_instant_is_restored() {
    let host = Host::new();
    host.write("a", "first");
    let before = host.world.now();
    let first = host.take(&host.files()).await.expect("taken");
    host.world.clock.suspend(Span::from_millis(2_300));
    host.write("a", "second");
    let second = host.take(&host.files()).await.expect("taken");
    let listed = host.snapshots().await;
    let shown = |snapshot: &Snapshot| Time::parse_rfc3339(&snapshot.at.to_rfc3339()).expect("a time");
    for (snapshot, taken) in listed.iter().zip([&first, &second]) {
        let later = shown(snapshot).since(taken.at);
        assert!((0..1_000_000).contains(&later.micros()), "{later}");
    }
    assert_eq!((listed[0].files, listed[0].bytes, listed[0].lacks.clone()), (1, 5, None));
    let restore = |point: Point, into: &str| {
        let (files, into, host) = (host.files(), host.path(into), &host);
        async move { files.restore(&host.context, &host.repository, &point, &into, RestoreOptions::default(), &()).await }
    };
    for (point, into, expect) in [
        // By the seconds that are shown.
        (Point::At(shown(&listed[0])), "r1", "first"),
        (Point::At(shown(&listed[1]) - Span::from_secs(1)), "r2", "first"),
        (Point::At(shown(&listed[1])), "r3", "second"),
        (Point::Snapshot(first.snapshot[..8].to_owned()), "r4", "first"),
    ] {
        restore(point, into).await.expect("restored");
        assert_eq!(fs::read_to_string(below(&host.path(into), &host.path("data/a"))).expect("there"), expect, "{into}");
    }
    let error = restore(Point::At(before), "r5").await.expect_err("there was none").to_string();
    assert!(error.contains("the oldest is of"), "{error}");
    restore(Point::Snapshot("zz".into()), "r6").await.expect_err("there is none");
    assert!(!host.path("r5").exists() && !host.path("r6").exists());
}

/// A restore onto a disk that is full, or has no inode left, fails and says so.
#[tokio::test]
async fn a_full_disk_ends_a_restore() {
    if !geteuid().is_root() {
        println!("only root can make a small disk: not tested as this user");
        return;
    }
    let host = Host::new();
    host.write("large", host.noise(8 << 20));
    for number in 0..20 {
        host.write(&format!("small {number}"), b"small");
    }
    host.take(&host.files()).await.expect("taken");
    for (name, options) in [("r1", "size=4m"), ("r2", "size=100m,nr_inodes=12")] {
        let into = host.path(name);
        let _disk = SmallDisk::at(&into, options).await;
        let (point, options) = (Point::At(host.world.now()), RestoreOptions::default());
        let restored = host.files().restore(&host.context, &host.repository, &point, &into, options, &()).await;
        let error = restored.expect_err("it is full").to_string();
        assert!(error.contains("the disk is full"), "{name}: {error}");
    }
}

/// A repository whose disks are full takes no snapshot, and is as good as ever once there is room.
#[tokio::test]
async fn a_full_repository_takes_no_snapshot_and_stays_whole() {
    if !geteuid().is_root() {
        println!("only root can make a small disk: not tested as this user");
        return;
    }
    let host = Host::new();
    let disks =
        [SmallDisk::at(&host.path("copy0"), "size=48m").await, SmallDisk::at(&host.path("copy1"), "size=48m").await];
    host.write("a", b"as it was");
    host.take(&host.files()).await.expect("taken");
    host.write("large", host.noise(64 << 20));
    let error = host.take(&host.files()).await.expect_err("it is full").to_string();
    assert!(error.contains("full") || error.contains("No space"), "{error}");
    assert_eq!(host.snapshots().await.len(), 1);
    let (_, before) = host.restore("before").await;
    assert_eq!(fs::read_to_string(before.join("a")).expect("there"), "as it was");
    for disk in &disks {
        disk.resize("256m").await;
    }
    host.take(&host.files()).await.expect("taken");
    let (_, after) = host.restore("after").await;
    host.same(&host.path("data"), &after).await;
    host.restic(0, &["check", "--read-data"]).await;
}
