//! A directory as object storage: a disk of its own, a mount of another machine.
//!
//! Each object is a file of its name. It is written under a temporary name, written through, and linked to its own name, which fails
//! where one is there: half an object is never found, and none is overwritten. A directory can't lock: whoever may write to it can
//! delete from it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use engine::BoxFuture;
use event::Time;

use super::{Destroy, LISTED_MAX, Listed, OBJECT_BYTES_MAX, ObjectError, Objects, Why, is_name};

/// Folder of objects that are being written; no object may have a name in it.
const UNFINISHED: &str = ".unfinished";

/// Object storage in a directory.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    place: String,
    written: AtomicU64,
}

impl Directory {
    /// The directory at `root`, which is there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let place = root.display().to_string();
        Self(Arc::new(Inner { root, place, written: AtomicU64::new(0) }))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the task that did it has ended before its time")));
        done.map_err(|error| {
            // Without its root nothing can be said of an object: a file system that is not mounted has not lost any.
            if error.kind() == io::ErrorKind::NotFound && !self.0.root.is_dir() {
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
        let written = write_through(&temporary, body).and_then(|()| match fs::hard_link(&temporary, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && holds(&path, body)? => Ok(()),
            linked => linked,
        });
        let removed = fs::remove_file(&temporary);
        written?;
        removed?;
        File::open(folder)?.sync_all()
    }

    fn get(&self, name: &str, range: Option<Range<u64>>) -> io::Result<Bytes> {
        let mut file = File::open(self.root.join(name))?;
        let most = u64::try_from(OBJECT_BYTES_MAX).unwrap_or(u64::MAX);
        let length = match range {
            Some(range) => {
                file.seek(SeekFrom::Start(range.start))?;
                range.end.saturating_sub(range.start).min(most)
            }
            None => most,
        };
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> io::Result<Vec<Listed>> {
        fs::metadata(&self.root)?;
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        collect(&self.root, folder, prefix, after, &mut found)?;
        found.truncate(LISTED_MAX);
        Ok(found)
    }

    fn folders(&self, folder: &str) -> io::Result<Vec<String>> {
        fs::metadata(&self.root)?;
        let folder = folder.trim_end_matches('/');
        let mut found = Vec::new();
        for (name, is_folder) in entries(&self.root.join(folder))? {
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
    File::open(above)?.sync_all()
}

fn write_through(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn holds(path: &Path, body: &[u8]) -> io::Result<bool> {
    if fs::metadata(path)?.len() != u64::try_from(body.len()).unwrap_or(u64::MAX) {
        return Ok(false);
    }
    Ok(fs::read(path)? == body)
}

/// Names in a folder in the order of their bytes, and whether each is a folder; none where the folder is not there.
fn entries(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        // What is no name of ours is nothing of ours.
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.file_type()?.is_dir()));
        }
    }
    // As the whole names sort: a folder by its name with the slash behind it.
    found.sort_by_cached_key(|(name, is_folder)| if *is_folder { format!("{name}/") } else { name.clone() });
    Ok(found)
}

/// Adds the objects below a folder, in order, until there are enough for one answer.
fn collect(root: &Path, folder: &str, prefix: &str, after: Option<&str>, found: &mut Vec<Listed>) -> io::Result<()> {
    for (name, is_folder) in entries(&root.join(folder))? {
        if found.len() >= LISTED_MAX {
            return Ok(());
        }
        let whole = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if is_folder {
            let below = format!("{whole}/");
            let is_behind = after.is_none_or(|after| *below > *after || after.starts_with(&below));
            let fits = below.starts_with(prefix) || prefix.starts_with(&below);
            if name != UNFINISHED && is_behind && fits {
                collect(root, &whole, prefix, after, found)?;
            }
        } else if whole.starts_with(prefix) && after.is_none_or(|after| *whole > *after) {
            let size = fs::metadata(root.join(&whole))?.len();
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
            self.blocking(name, move |inner| inner.put(&file, &body)).await
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            self.blocking(name, move |inner| inner.get(&file, range)).await
        })
    }

    fn size<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<u64>, ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            let size = self.blocking(name, move |inner| Ok(fs::metadata(inner.root.join(file))?.len())).await;
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
            self.blocking(prefix, move |inner| inner.list(&below, behind.as_deref())).await
        })
    }

    fn folders<'a>(&'a self, folder: &'a str) -> BoxFuture<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(async move {
            let below = folder.to_owned();
            self.blocking(folder, move |inner| inner.folders(&below)).await
        })
    }
}

impl Destroy for Directory {
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.check(name)?;
            let file = name.to_owned();
            let deleted = self.blocking(name, move |inner| fs::remove_file(inner.root.join(file))).await;
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
