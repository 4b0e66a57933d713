//! The room of a disk: what a restore needs, and what has to stay free of it for others.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::database::DatabaseError;

/// How often a disk is looked at that others write to.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most that is held back for a server that runs on the same disk; of a small disk a twentieth.
const HELD_BACK_MAX: u64 = 1 << 30;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DatabaseError + '_ {
    |error| DatabaseError::Files { path: path.to_owned(), error }
}

/// Bytes that are free on the disk of a path, for whoever is not root.
pub(crate) fn free(path: &Path) -> io::Result<u64> {
    let place = rustix::fs::statvfs(path)?;
    Ok(place.f_bavail.saturating_mul(place.f_frsize))
}

/// What stays free of the disk of a path while something is restored beside a server that runs.
///
/// # Errors
/// The disk can't be asked.
pub(crate) fn held_back(path: &Path) -> Result<u64, DatabaseError> {
    let place = rustix::fs::statvfs(path).map_err(|error| failed(path)(error.into()))?;
    Ok((place.f_blocks.saturating_mul(place.f_frsize) / 20).min(HELD_BACK_MAX))
}

/// Fails unless the disk of a path has room for a base of `needs` bytes, beside what is held back.
///
/// # Errors
/// It has not, or can't be asked.
pub(crate) fn has(path: &Path, needs: u64, held_back: u64) -> Result<(), DatabaseError> {
    let free = free(path).map_err(failed(path))?;
    if free >= needs.saturating_add(held_back) {
        return Ok(());
    }
    let mb = |bytes: u64| bytes.div_ceil(1_000_000);
    let kept = if held_back == 0 {
        String::new()
    } else {
        format!(", and {} MB stay free for the server that runs there", mb(held_back))
    };
    let why = format!("the disk has room for {} MB, and the base alone has {} MB{kept}", free / 1_000_000, mb(needs));
    Err(failed(path)(io::Error::new(io::ErrorKind::StorageFull, why)))
}

/// Waits until less is free on the disk of a path than what is held back, and says so.
pub(crate) async fn is_short(path: &Path, held_back: u64) -> DatabaseError {
    loop {
        // What can't be asked now can be asked again.
        if free(path).is_ok_and(|free| free < held_back) {
            let why = format!(
                "the restore was stopped: less than {} MB are left of the disk, which stay free for the server that runs there",
                held_back.div_ceil(1_000_000)
            );
            return failed(path)(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::small_disk::SmallDisk;

    /// BK-2: what runs beside a restore keeps its room.
    #[tokio::test]
    async fn room_is_held_back_for_whoever_writes_to_the_same_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = SmallDisk::at(folder.path(), "size=40m").await;
        let spare = held_back(folder.path()).expect("asked");
        assert_eq!(spare, 2 << 20, "a twentieth of a small disk");
        has(folder.path(), 37 << 20, spare).expect("it has");
        let why = has(folder.path(), 39 << 20, spare).expect_err("it has not").to_string();
        assert!(why.contains("41 MB") && why.contains("3 MB stay free"), "{why}");
        has(folder.path(), 39 << 20, 0).expect("nobody else is there");

        let short = is_short(folder.path(), spare);
        tokio::pin!(short);
        assert!(tokio::time::timeout(LOOK_EVERY * 3, &mut short).await.is_err(), "there is room");
        let filler = disk.fill();
        let why = tokio::time::timeout(LOOK_EVERY * 50, &mut short).await.expect("it is noticed").to_string();
        assert!(why.contains("was stopped"), "{why}");
        std::fs::remove_file(filler).expect("removed");
    }
}
