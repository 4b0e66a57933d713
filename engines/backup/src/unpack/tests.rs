//! Archives that the programs of others have made.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use engine::{Program, Programs};

use super::*;

/// Unpacks bytes, so many at a time.
async fn unpacked(archive: impl Archive, bytes: &[u8], step: usize, into: &Path) -> io::Result<()> {
    let mut unpacker = Unpacker::start(archive, into, Owner::of_process())?;
    for part in bytes.chunks(step) {
        if unpacker.take(Arc::new(part.to_vec().into())).await.is_err() {
            break;
        }
    }
    unpacker.end().await
}

/// A tree with files of every size that matters, and what is in it.
fn tree(at: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let sizes = [("a", 0), ("base/1", 1), ("base/512", 512), ("base/below/513", 513), ("large", 3_000_000)];
    let files =
        sizes.map(|(name, bytes)| (PathBuf::from(name), (0..bytes).map(|at: u32| at.to_le_bytes()[0]).collect()));
    for (name, bytes) in &files {
        let path: PathBuf = at.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    files.to_vec()
}

fn holds(at: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (name, bytes) in files {
        assert!(fs::read(at.join(name)).is_ok_and(|found| found == *bytes), "{}", name.display());
    }
}

/// What a command of the shell writes.
async fn made(command: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let command = format!("({command}) > {}", file.path().display());
    Programs::of_system().run(&Program::new("sh").arg("-c").arg(command)).await.expect("it runs");
    fs::read(file.path()).expect("there")
}

#[tokio::test]
async fn what_tar_has_packed_is_unpacked() {
    let (from, into) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let files = tree(from.path());
    fs::set_permissions(from.path().join("base"), fs::Permissions::from_mode(0o750)).expect("set");
    let archive = made(&format!("tar --create --format=ustar --file=- --directory={} .", from.path().display())).await;
    for step in [511, 16_384, archive.len()] {
        let at = into.path().join(step.to_string());
        fs::create_dir(&at).expect("made");
        unpacked(Tar::default(), &archive, step, &at).await.expect("unpacked");
        holds(&at, &files);
        let mode = |name: &str| fs::metadata(at.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("base"), mode("base/1")), (0o750, 0o600));
    }
    // The end may lack, as from the server; nothing else may.
    let last = archive.iter().rposition(|byte| *byte != 0).expect("bytes");
    let at = into.path().join("no-end");
    fs::create_dir(&at).expect("made");
    unpacked(Tar::default(), &archive[..(last + 1).next_multiple_of(512)], 4096, &at).await.expect("unpacked");
    holds(&at, &files);
    for (name, cut) in [("cut", last - 700), ("cut-in-head", 512 + 100)] {
        let at = into.path().join(name);
        fs::create_dir(&at).expect("made");
        let error = unpacked(Tar::default(), &archive[..cut], 4096, &at).await.expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

/// A file of 8 GiB and more has its size in another way.
#[test]
fn sizes_are_read_as_they_are_written() {
    let padded = |text: &str| text.bytes().chain([0; 12]).take(12).collect::<Vec<u8>>();
    let read = |field: &[u8]| tar::number(field);
    assert_eq!(read(&padded("00000001000")), Some(512));
    assert_eq!(read(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 32) + 1));
    assert_eq!(read(&padded("0000000x")), None);
    assert_eq!(read(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "more than there is");
}

/// Nothing is written beside the folder, whoever has made the archive.
#[tokio::test]
async fn an_archive_stays_in_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, into) = (folder.path().join("from"), folder.path().join("into"));
    fs::create_dir_all(&from).expect("made");
    fs::create_dir(&into).expect("made");
    fs::write(folder.path().join("outside"), "x").expect("written");
    fs::write(from.join("inside"), "x").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("linked");
    let tar = format!("tar --create --format=ustar --absolute-names --file=- --directory={}", from.display());
    let absolute = from.join("inside").display().to_string();
    for (what, arguments) in [
        ("above", "../outside"),
        ("absolute", &absolute),
        ("a link", "link"),
        ("twice", "inside inside --hard-dereference"),
    ] {
        empty(&into);
        let archive = made(&format!("{tar} {arguments}")).await;
        let error = unpacked(Tar::default(), &archive, 4096, &into).await.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
        assert_eq!(fs::read_to_string(folder.path().join("outside")).expect("there"), "x");
    }
    for path in ["../outside", "/etc/garant-was-here", "a/../../outside"] {
        empty(&into);
        let error = unpacked(XbStream::default(), &piece(path, 0, b"evil"), 4096, &into).await.expect_err(path);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{path}: {error}");
        assert!(!Path::new("/etc/garant-was-here").exists());
        assert_eq!(fs::read_to_string(folder.path().join("outside")).expect("there"), "x");
    }
}

fn empty(folder: &Path) {
    crate::work::empty(folder).expect("emptied");
}

fn piece(path: &str, at: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(path.len()).expect("short").to_le_bytes();
    let mut hash = crc32fast::Hasher::new();
    hash.update(bytes);
    [
        &b"XBSTCK01\0P"[..],
        &length,
        path.as_bytes(),
        &(bytes.len() as u64).to_le_bytes(),
        &at.to_le_bytes(),
        &hash.finalize().to_le_bytes(),
        bytes,
    ]
    .concat()
}

fn end(path: &str) -> Vec<u8> {
    [&b"XBSTCK01\0E"[..], &u32::try_from(path.len()).expect("short").to_le_bytes(), path.as_bytes()].concat()
}

#[tokio::test]
async fn what_mbstream_has_packed_is_unpacked() {
    let (from, into) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let files = tree(from.path());
    let names: Vec<String> = files.iter().map(|(name, _)| name.display().to_string()).collect();
    let archive = made(&format!("mbstream -c -C {} {}", from.path().display(), names.join(" "))).await;
    for step in [13, 16_384, archive.len()] {
        let at = into.path().join(step.to_string());
        fs::create_dir(&at).expect("made");
        unpacked(XbStream::default(), &archive, step, &at).await.expect("unpacked");
        holds(&at, &files);
    }
    let at = into.path().join("cut");
    fs::create_dir(&at).expect("made");
    let error = unpacked(XbStream::default(), &archive[..archive.len() - 1], 4096, &at).await.expect_err("cut");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    let at = into.path().join("damaged");
    fs::create_dir(&at).expect("made");
    let mut damaged = archive.clone();
    let within = archive.len() - 1_000_000;
    damaged[within] ^= 1;
    let error = unpacked(XbStream::default(), &damaged, 4096, &at).await.expect_err("damaged");
    assert!(error.to_string().contains("does not have its checksum"), "{error}");
}

/// Files that are mixed are put together; what only mbstream knows is left to it.
#[tokio::test]
async fn what_is_not_known_is_left_to_mbstream() {
    let into = tempfile::tempdir().expect("a folder");
    let mixed = [
        piece("./a", 0, b"one"),
        piece("b/c", 0, b"x"),
        piece("./a", 3, b" two"),
        end("b/c"),
        end("./a"),
        end("empty"),
    ];
    unpacked(XbStream::default(), &mixed.concat(), 7, into.path()).await.expect("unpacked");
    let read = |name: &str| fs::read_to_string(into.path().join(name)).expect("there");
    assert_eq!((read("a"), read("b/c"), read("empty")), ("one two".into(), "x".into(), String::new()));
    let mut renamed = piece("d", 0, b"x");
    renamed[9] = b'R';
    let mut rewritten = piece("d", 0, b"x");
    rewritten[8] = 2;
    for (what, bytes) in [("renamed", renamed), ("rewritten", rewritten), ("behind", piece("d", 5, b"x"))] {
        empty(into.path());
        let error = unpacked(XbStream::default(), &bytes, 4096, into.path()).await.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{what}: {error}");
    }
    for (what, bytes) in [("no end", piece("d", 0, b"x")), ("no head", b"XBSTCK02\0P".repeat(4))] {
        empty(into.path());
        let error = unpacked(XbStream::default(), &bytes, 4096, into.path()).await.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
    }
}

/// Whoever unpacks has the rights of the owner: it can't write where that one may not.
#[tokio::test]
async fn files_are_written_by_their_owner() {
    let Ok(owner) = Owner::find("mysql", "mariadb-server") else { panic!("no user mysql: scripts/test installs it") };
    let Some((user, group)) = owner.numbers() else {
        println!("not root: the files are its own");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let archive = [piece("a", 0, b"x"), end("a")].concat();
    let into = folder.path().join("into");
    owner.make(&into).expect("made");
    let run = async |into: &Path| {
        let mut unpacker = Unpacker::start(XbStream::default(), into, owner).expect("started");
        drop(unpacker.take(Arc::new(archive.clone().into())).await);
        unpacker.end().await
    };
    run(&into).await.expect("unpacked");
    let there = fs::metadata(into.join("a")).expect("there");
    assert_eq!((there.uid(), there.gid()), (user, group));
    // A folder of root that has come into the place.
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).expect("made");
    let error = run(&closed).await.expect_err("it may not");
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    assert!(rustix::process::geteuid().is_root(), "this thread is as it was");
}
