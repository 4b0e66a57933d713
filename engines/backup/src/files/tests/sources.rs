//! What is backed up: paths, patterns, file systems, volumes of Docker.

use rustix::process::geteuid;

use super::*;

async fn names(host: &Host, into: &str) -> Vec<String> {
    let (_, data) = host.restore(into).await;
    let shown = host.shell(&data, "find . -mindepth 1 | sort").await;
    shown.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

#[tokio::test]
async fn patterns_leave_out_what_they_name() {
    let host = Host::new();
    for name in ["a.log", "a.txt", "cache/x", "deep/cache/y", "deep/keep.log", "only/here", "deep/only/there"] {
        host.write(name, name);
    }
    let data = host.path("data");
    let exclude = vec!["*.log".into(), "!keep.log".into(), "cache/".into(), format!("{}/only", data.display())];
    let taken = host.take(&Files { exclude, ..host.files() }).await.expect("taken");
    assert_eq!(taken.excluded, 4, "{taken:?}");
    assert_eq!(names(&host, "ours").await, ["a.txt", "deep", "deep/keep.log", "deep/only", "deep/only/there"]);
    let error =
        host.take(&Files { exclude: vec!["[z-a]".into()], ..host.files() }).await.expect_err("no pattern").to_string();
    assert!(error.contains("no pattern"), "{error}");
}

#[tokio::test]
async fn paths_within_each_other_are_taken_once_and_sockets_are_counted() {
    let host = Host::new();
    host.write("a/b", "b");
    host.write("a-b", "sorts between a and a/b, by its bytes");
    let _socket = std::os::unix::net::UnixListener::bind(host.path("data/socket")).expect("bound");
    let mut files = host.files();
    files.paths = vec![host.path("data/a/b"), host.path("data/a-b"), host.path("data/a"), host.path("data/")];
    let taken = host.take(&files).await.expect("taken");
    assert_eq!((taken.files, taken.sockets), (2, 1), "{taken:?}");
    files.paths = vec![host.path("data/a/b"), host.path("data/a-b")];
    let taken = host.take(&files).await.expect("taken");
    assert_eq!(taken.files, 2, "{taken:?}");
    let checked = host.restic(0, &["check", "--read-data"]).await;
    assert!(checked.contains("no errors were found"), "{checked}");
    for paths in [vec![], vec!["relative".into()], vec!["/a/../b".into()]] {
        host.take(&Files { paths, ..host.files() }).await.expect_err("no paths to back up");
    }
    host.take(&Files { name: "../up".into(), ..host.files() }).await.expect_err("no name");
}

/// Promise BK-7.
#[tokio::test]
async fn volumes_of_docker_are_taken_by_name() {
    let host = Host::new();
    host.write("volumes/shop_db-1/_data/table", "rows");
    host.write("volumes/nfs/_data/.keep", "");
    fs::remove_file(host.path("data/volumes/nfs/_data/.keep")).expect("removed");
    host.write(
        "volumes/nfs/opts.json",
        r#"{"MountType":"nfs","MountOpts":"addr=10.0.0.1","MountDevice":":/export","Quota":{"Size":0}}"#,
    );
    host.write("volumes/local/_data/x", "x");
    host.write("volumes/local/opts.json", r#"{"MountType":"","MountOpts":"","MountDevice":"","Quota":{"Size":10}}"#);
    let volumes = |names: &[&str]| Files {
        paths: Vec::new(),
        volumes: names.iter().map(|name| (*name).to_owned()).collect(),
        volumes_in: host.path("data/volumes"),
        ..host.files()
    };
    let taken = host.take(&volumes(&["shop_db-1", "local"])).await.expect("taken");
    assert_eq!((taken.files, taken.bytes), (2, 5));
    assert!(host.snapshots().await[0].paths.iter().any(|path| path.ends_with("volumes/shop_db-1/_data")));
    for (name, why) in [("none", "docker volume ls"), ("../x", "no name of a volume"), ("nfs", "is not mounted")] {
        let error = host.take(&volumes(&["local", name])).await.expect_err("no volume").to_string();
        assert!(error.contains(why) && error.contains(name), "{error}");
    }
    assert_eq!(host.snapshots().await.len(), 1);
}

/// In a namespace of its own, which may mount.
#[tokio::test]
async fn what_is_mounted_is_entered_unless_told_otherwise_and_the_kernel_never() {
    if !is_again() {
        let test = "files::tests::sources::what_is_mounted_is_entered_unless_told_otherwise_and_the_kernel_never";
        let user: &[&str] = if geteuid().is_root() { &[] } else { &["--map-root-user"] };
        again(&[&["unshare", "--mount", "--pid", "--fork", "--mount-proc"][..], user].concat(), test).await;
        return;
    }
    let host = Host::new();
    host.write("plain", "plain");
    let data = host.path("data");
    host.shell(&data, "mkdir disk kernel volume; mount -t tmpfs none disk; echo x > disk/x; mount -t proc proc kernel")
        .await;
    let taken = host.take(&host.files()).await.expect("taken");
    assert_eq!((taken.files, taken.mounts.count), (2, 1), "{taken:?}");
    assert!(taken.mounts.named[0].path.ends_with("kernel"));
    assert_eq!(names(&host, "r1").await, ["disk", "disk/x", "kernel", "plain", "volume"]);
    let taken = host.take(&Files { one_file_system: true, ..host.files() }).await.expect("taken");
    assert_eq!((taken.files, taken.mounts.count), (1, 2), "{taken:?}");
    assert_eq!(names(&host, "r2").await, ["disk", "kernel", "plain", "volume"]);

    // A volume that is a bind mount, as Docker makes it.
    host.shell(&data, "mkdir -p volume/media/_data; mount --bind disk volume/media/_data").await;
    host.write("volume/media/opts.json", r#"{"MountType":"none","MountOpts":"o=bind","MountDevice":"/srv/media"}"#);
    let files =
        Files { paths: Vec::new(), volumes: vec!["media".into()], volumes_in: data.join("volume"), ..host.files() };
    let taken = host.take(&files).await.expect("taken");
    assert_eq!(taken.files, 1, "{taken:?}");
    host.shell(&data, "umount volume/media/_data").await;
    host.take(&files).await.expect_err("it is not mounted");
}
