//! A directory as object storage: a disk of its own, a mount of another machine.
//!
//! Each object is a file of its name. It is written under a temporary name, written through, and linked to its own name, which fails
//! where one is there: half an object is never found, and none is overwritten. A directory can't lock: whoever may write to it can
//! delete from it. What is no regular file (a FIFO, a link) is no object: it is neither listed nor opened.
//!
//! A file system may hang, as that of a server which has gone away. What hangs is given up after [`PATIENCE`], and stays on its thread
//! until the kernel lets it go. Meanwhile nobody waits there for long, and [`HUNG_MAX`] threads are the most that it gets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use engine::BoxFuture;
use event::Time;
use rustix::fs::OFlags;
use tokio::sync::watch;

use super::{Destroy, LISTED_MAX, Listed, OBJECT_BYTES_MAX, ObjectError, Objects, Why, is_name};

/// Folder of objects that are being written; no object may have a name in it.
const UNFINISHED: &str = ".unfinished";
/// For how long work on a directory may get nowhere before it is given up; and while other work hangs there.
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(1)];
/// How many bytes are written through in a millisecond at least: 64 KiB a second.
const BYTES_PER_MS: u64 = 64;
/// How much work may hang in one directory before it is given none: each has a thread.
const HUNG_MAX: usize = 16;
/// How much of an object is read at once, in bytes.
const READ_BYTES: usize = 1024 * 1024;

/// After how many objects it is looked for those that were never finished; at the first of a process in any case.
const SWEPT_EVERY: u64 = 4096;
/// How old they are then: whoever wrote them has been killed.
const UNFINISHED_MAX: Duration = Duration::from_hours(24);

/// Object storage in a directory.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    place: String,
    written: AtomicU64,
    /// Work that was given up, and has not ended.
    hung: Arc<AtomicUsize>,
}

/// Says that work gets on.
type GetsOn = watch::Sender<()>;

/// Work of which two sides know: that which waits for it, and that which does it. Whoever leaves last sees that the other has left.
#[derive(Clone)]
struct Shared {
    has_left: Arc<AtomicBool>,
    hung: Arc<AtomicUsize>,
}

/// The side that waits: dropped before the work has ended, it leaves it hanging.
struct Waits(Shared);

impl Drop for Waits {
    fn drop(&mut self) {
        if !self.0.has_left.swap(true, Ordering::SeqCst) {
            self.0.hung.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The side that works: dropped when the work has ended.
struct Works(Shared);

impl Drop for Works {
    fn drop(&mut self) {
        if self.0.has_left.swap(true, Ordering::SeqCst) {
            self.0.hung.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Directory {
    /// The directory at `root`, which is there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let place = root.display().to_string();
        Self(Arc::new(Inner { root, place, written: AtomicU64::new(0), hung: Arc::default() }))
    }

    /// Does `work` on a thread that may wait, and gives it up when it gets nowhere for as long as `patience`.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        patience: [Duration; 2],
        work: impl FnOnce(&Inner, &GetsOn) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let hung = self.0.hung.load(Ordering::SeqCst);
        if hung >= HUNG_MAX {
            return Err(self.error(name, Why::Unavailable, "its file system hangs: nothing more is asked of it"));
        }
        let patience = patience[usize::from(hung > 0)];
        let shared = Shared { has_left: Arc::default(), hung: Arc::clone(&self.0.hung) };
        let (waits, works) = (Waits(shared.clone()), Works(shared));
        let inner = Arc::clone(&self.0);
        let (gets_on, mut got_on) = watch::channel(());
        let mut task = tokio::task::spawn_blocking(move || {
            let _works = works;
            work(&inner, &gets_on).map_err(|error| {
                // Without its root nothing can be said of an object: a file system that is not mounted has not lost any.
                let is_lost = error.kind() == io::ErrorKind::NotFound && !inner.root.is_dir();
                (error, is_lost)
            })
        });
        let done = loop {
            tokio::select! {
                biased;
                done = &mut task => break done,
                Ok(()) = got_on.changed() => {}
                () = tokio::time::sleep(patience) => {
                    let reason = "its file system hangs, as that of a server which is gone: it does not answer";
                    return Err(self.error(name, Why::Unavailable, reason));
                }
            }
        };
        drop(waits);
        let done =
            done.unwrap_or_else(|_| Err((io::Error::other("the task that did it has ended before its time"), false)));
        done.map_err(|(error, is_lost)| {
            if is_lost {
                let reason = "the directory is not there: is its file system mounted?";
                return self.error(name, Why::Unavailable, reason);
            }
            self.error(name, why(&error), error.to_string())
        })
    }

    fn error(&self, name: &str, why: Why, reason: impl Into<String>) -> ObjectError {
        ObjectError { why, place: self.0.place.clone(), name: name.to_owned(), reason: reason.into() }
    }

    fn check(&self, name: &str) -> Result<(), ObjectError> {
        if is_name(name) && !name.starts_with(UNFINISHED) {
            return Ok(());
        }
        Err(self.error(name, Why::Impossible, "that is no name of an object"))
    }
}

fn why(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::NotFound => Why::Missing,
        io::ErrorKind::AlreadyExists => Why::Exists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Why::Refused,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Why::Full,
        io::ErrorKind::InvalidData => Why::Damaged,
        _ => Why::Unavailable,
    }
}

impl Inner {
    fn put(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let path = self.root.join(name);
        let folder = path.parent().unwrap_or(&self.root);
        // A directory that was to be a mount and is none must not be made: objects would lie on the disk they are to survive.
        fs::metadata(&self.root)?;
        make_folders(&self.root, folder)?;
        let unfinished = self.root.join(UNFINISHED);
        make_folders(&self.root, &unfinished)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = unfinished.join(format!("{}-{number}", std::process::id()));
        let written = write_through(&temporary, body);
        if written.is_ok()
            && number.is_multiple_of(SWEPT_EVERY)
            && let Err(error) = sweep(&unfinished, &temporary)
        {
            tracing::warn!(folder = %unfinished.display(), %error, "what was never finished is not removed");
        }
        let written = written.and_then(|()| match fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && holds(&path, body)? => Ok(()),
            linked => linked,
        });
        let removed = fs::remove_file(&temporary);
        written?;
        removed?;
        sync_folder(folder)
    }

    fn get(&self, name: &str, range: Option<Range<u64>>, gets_on: &GetsOn) -> io::Result<Bytes> {
        let mut file = open_regular(&self.root.join(name))?;
        let most = u64::try_from(OBJECT_BYTES_MAX).unwrap_or(u64::MAX);
        let length = match range {
            Some(range) => {
                file.seek(SeekFrom::Start(range.start))?;
                range.end.saturating_sub(range.start).min(most)
            }
            None => most,
        };
        let (mut bytes, mut left) = (Vec::new(), length);
        while left > 0 {
            let read = io::Read::take(&mut file, left.min(READ_BYTES as u64)).read_to_end(&mut bytes)?;
            if read == 0 {
                break;
            }
            left -= read as u64;
            gets_on.send_replace(());
        }
        Ok(bytes.into())
    }

    fn list(&self, prefix: &str, after: Option<&str>, gets_on: &GetsOn) -> io::Result<Vec<Listed>> {
        fs::metadata(&self.root)?;
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        collect(&self.root, folder, (prefix, after), &mut found, gets_on)?;
        found.truncate(LISTED_MAX);
        Ok(found)
    }

    fn folders(&self, folder: &str, gets_on: &GetsOn) -> io::Result<Vec<String>> {
        fs::metadata(&self.root)?;
        let folder = folder.trim_end_matches('/');
        let mut found = Vec::new();
        for (name, is_folder) in entries(&self.root.join(folder), gets_on)? {
            if is_folder && name != UNFINISHED {
                found.push(name);
            }
        }
        Ok(found)
    }
}

/// Makes the folders between `root` and `folder`, and writes through that they are there.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    // The root itself is never made: a file system that goes away meanwhile has taken it along.
    let above = folder.parent().filter(|above| above.starts_with(root)).ok_or(io::ErrorKind::NotFound)?;
    make_folders(root, above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    sync_folder(above)
}

/// Writes through what a folder holds.
fn sync_folder(folder: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECTORY)).open(folder)?.sync_all()
}

fn flags(flags: OFlags) -> i32 {
    // Bits of open(2), which are those of an int.
    flags.bits().cast_signed()
}

/// Opens a file to be read: whoever may write to the directory may have put something else there, that is never to be waited for.
fn open_regular(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK | OFlags::NOFOLLOW)).open(path);
    let file = match opened {
        // ELOOP: a link. ENXIO: a socket.
        Err(error) if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => {
            return Err(irregular(Some(&error)));
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular(None)) }
}

fn irregular(error: Option<&io::Error>) -> io::Error {
    let cause = error.map_or_else(String::new, |error| format!(" ({error})"));
    let words = format!("it is no regular file{cause}: nothing of garant's, to be removed by hand");
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// Size of a regular file, in bytes.
fn size_of(path: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    if found.is_file() { Ok(found.len()) } else { Err(irregular(None)) }
}

fn write_through(path: &Path, body: &[u8]) -> io::Result<()> {
    let options = flags(OFlags::NONBLOCK | OFlags::NOFOLLOW);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(options).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(irregular(None));
    }
    file.write_all(body)?;
    file.sync_all()
}

/// Removes what is far older than `newest`, by the clock of the file system.
fn sweep(unfinished: &Path, newest: &Path) -> io::Result<()> {
    let now = fs::metadata(newest)?.modified()?;
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if age > UNFINISHED_MAX {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn holds(path: &Path, body: &[u8]) -> io::Result<bool> {
    let mut file = open_regular(path)?;
    if file.metadata()?.len() != u64::try_from(body.len()).unwrap_or(u64::MAX) {
        return Ok(false);
    }
    let mut held = Vec::new();
    file.read_to_end(&mut held)?;
    Ok(held == body)
}

/// Names of folders and regular files in a folder in the order of their bytes, and whether each is a folder; none where the folder is
/// not there.
fn entries(folder: &Path, gets_on: &GetsOn) -> io::Result<Vec<(String, bool)>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        gets_on.send_replace(());
        let kind = entry.file_type()?;
        // What is no name of ours is nothing of ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if kind.is_dir() || kind.is_file() {
            found.push((name, kind.is_dir()));
        } else {
            tracing::warn!(file = %entry.path().display(), "what is no regular file is nothing of garant's, and not looked at");
        }
    }
    // As the whole names sort: a folder by its name with the slash behind it.
    found.sort_by_cached_key(|(name, is_folder)| if *is_folder { format!("{name}/") } else { name.clone() });
    Ok(found)
}

/// Adds the objects below a folder, in order, until there are enough for one answer.
fn collect(
    root: &Path,
    folder: &str,
    (prefix, after): (&str, Option<&str>),
    found: &mut Vec<Listed>,
    gets_on: &GetsOn,
) -> io::Result<()> {
    for (name, is_folder) in entries(&root.join(folder), gets_on)? {
        if found.len() >= LISTED_MAX {
            return Ok(());
        }
        let whole = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if is_folder {
            let below = format!("{whole}/");
            let is_behind = after.is_none_or(|after| *below > *after || after.starts_with(&below));
            let fits = below.starts_with(prefix) || prefix.starts_with(&below);
            if name != UNFINISHED && is_behind && fits {
                collect(root, &whole, (prefix, after), found, gets_on)?;
            }
        } else if whole.starts_with(prefix) && after.is_none_or(|after| *whole > *after) {
            let size = fs::symlink_metadata(root.join(&whole))?.len();
            gets_on.send_replace(());
            found.push(Listed { name: whole, size });
        }
    }
    Ok(())
}

impl Objects for Directory {
    fn place(&self) -> &str {
        &self.0.place
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        body: Bytes,
        _keep_until: Option<Time>,
    ) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            if body.len() > OBJECT_BYTES_MAX {
                return Err(self.error(name, Why::Impossible, "it is larger than any object may be"));
            }
            let file = name.to_owned();
            let patience = PATIENCE.map(|least| least + Duration::from_millis(body.len() as u64 / BYTES_PER_MS));
            self.blocking(name, patience, move |inner, _| inner.put(&file, &body)).await
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            self.blocking(name, PATIENCE, move |inner, gets_on| inner.get(&file, range, gets_on)).await
        })
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            let size = self.blocking(name, PATIENCE, move |inner, _| size_of(&inner.root.join(file))).await;
            match size {
                Err(error) if error.why == Why::Missing => Ok(None),
                size => size.map(Some),
            }
        })
    }

    fn locked_until<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Time>, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            Ok(None)
        })
    }

    fn extend<'a>(&'a self, name: &'a str, _until: Time) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move { self.check(name) })
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Listed>, ObjectError>> {
        Box::pin(async move {
            let (below, behind) = (prefix.to_owned(), after.map(str::to_owned));
            let list = move |inner: &Inner, gets_on: &GetsOn| inner.list(&below, behind.as_deref(), gets_on);
            self.blocking(prefix, PATIENCE, list).await
        })
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(async move {
            let below = folder.to_owned();
            self.blocking(folder, PATIENCE, move |inner, gets_on| inner.folders(&below, gets_on)).await
        })
    }
}

impl Destroy for Directory {
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            let deleted = self.blocking(name, PATIENCE, move |inner, _| fs::remove_file(inner.root.join(file))).await;
            match deleted {
                Err(error) if error.why == Why::Missing => Ok(()),
                deleted => deleted,
            }
        })
    }

    fn hide<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        self.delete(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path());
        super::super::conformance::keeps_the_contract(&directory).await;
        super::super::conformance::destroys(&directory).await;
    }

    /// BK-4: what somebody has put in the place of an object is never waited for, nor followed.
    #[tokio::test]
    async fn what_is_no_regular_file_is_no_object() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path());
        directory.put("a/1", Bytes::from_static(b"one"), None).await.expect("added");
        for (name, kind) in [("a/2", rustix::fs::FileType::Fifo), ("a/3", rustix::fs::FileType::Socket)] {
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, folder.path().join(name), kind, mode, 0).expect("made");
        }
        std::os::unix::fs::symlink(folder.path().join("a/1"), folder.path().join("a/4")).expect("made");
        let listed = directory.list("a/", None).await.expect("listed");
        assert_eq!(listed, [Listed { name: "a/1".into(), size: 3 }]);
        for name in ["a/2", "a/3", "a/4"] {
            for error in [
                directory.get(name, None).await.expect_err("none"),
                directory.get(name, Some(0..1)).await.expect_err("none"),
                directory.size(name).await.expect_err("none"),
                directory.put(name, Bytes::from_static(b"one"), None).await.expect_err("its name is taken"),
            ] {
                assert_eq!((error.why, &*error.name), (Why::Damaged, name));
                assert!(error.reason.contains("no regular file"), "{error}");
            }
        }
        fs::rename(folder.path().join("a/2"), folder.path().join(UNFINISHED).join(format!("{}-4", std::process::id())))
            .expect("moved");
        let error = directory.put("a/5", Bytes::from_static(b"five"), None).await;
        assert!(error.is_err(), "whatever is found under the name of an unfinished one is not waited for");
    }

    /// BK-4: a file system that hangs costs neither the caller its time nor the process its threads, and is asked again once it answers.
    #[tokio::test]
    async fn a_file_system_that_hangs_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path());
        directory.put("a", Bytes::from_static(b"a"), None).await.expect("added");
        let (answers, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for hung in 1..=HUNG_MAX {
            let gate = Arc::clone(&gate);
            let hangs = move |_: &Inner, _: &GetsOn| {
                let _ended = gate.lock().expect("no panic").recv();
                Ok(())
            };
            let error = directory.blocking("a", [Duration::from_millis(1); 2], hangs).await.expect_err("it hangs");
            assert_eq!((error.why, directory.0.hung.load(Ordering::SeqCst)), (Why::Unavailable, hung));
            assert!(error.reason.contains("does not answer"), "{error}");
        }
        let error = directory.get("a", None).await.expect_err("no thread is left for it");
        assert!(error.reason.contains("nothing more is asked"), "{error}");
        drop(answers);
        while directory.0.hung.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(directory.get("a", None).await.expect("it answers again"), "a");
        // What gets on is slow, and does not hang.
        let slow = |_: &Inner, gets_on: &GetsOn| {
            for _ in 0..3 {
                gets_on.send_replace(());
            }
            Ok(())
        };
        directory.blocking("a", PATIENCE, slow).await.expect("done");
    }

    /// Promise BK-6: what a process that was killed has left half written goes as well.
    #[tokio::test]
    async fn what_was_never_finished_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let unfinished = folder.path().join(UNFINISHED);
        fs::create_dir(&unfinished).expect("made");
        let left = |name: &str, age: Duration| {
            let path = unfinished.join(name);
            let file = File::create(&path).expect("made");
            let now = file.metadata().expect("its times").modified().expect("a time");
            file.set_modified(now - age).expect("set");
            path
        };
        let (old, young) = (left("1-7", Duration::from_hours(25)), left("2-0", Duration::from_hours(1)));
        Directory::new(folder.path()).put("a", Bytes::from_static(b"a"), None).await.expect("put");
        assert!(!old.exists() && young.exists());
        assert_eq!(fs::read_dir(&unfinished).expect("there").count(), 1, "nothing of its own");
    }

    /// It was there a moment ago: what is done then ends, and makes nothing.
    #[test]
    fn a_mount_that_goes_away_meanwhile_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("mount");
        let error = make_folders(&root, &root.join("data/ab")).expect_err("not there");
        assert_eq!((error.kind(), root.exists()), (io::ErrorKind::NotFound, false));
    }

    #[tokio::test]
    async fn a_mount_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::new(folder.path().join("mount"));
        let error = directory.put("a", Bytes::from_static(b"a"), None).await.expect_err("not there");
        assert_eq!(error.why, Why::Unavailable);
        assert!(error.reason.contains("is its file system mounted?"), "{error}");
        assert!(!folder.path().join("mount").exists());
        for why in [
            directory.get("a", None).await.expect_err("not there").why,
            directory.size("a").await.expect_err("not there").why,
            directory.list("", None).await.expect_err("not there").why,
            directory.folders("").await.expect_err("not there").why,
        ] {
            assert_eq!(why, Why::Unavailable, "nothing is said to be missing from it");
        }
    }
}
