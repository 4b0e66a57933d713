//! Expiry: dropping partitions that are older than what is kept.
//!
//! A disk that is full because of old samples must get room again by itself. So nothing that needs room stands before an
//! unlink that makes some, and one file that can't be removed keeps no other.

use event::Time;

use super::super::database::SqliteError;
use super::keeper::Keeper;
use super::partition::{Grain, Partition};
use crate::Expired;

/// A file system with less room than this is full, whatever the last refusal said: a file that can't be opened because its
/// index finds no room says something else.
const ROOM_MIN_BYTES: u64 = 4 * 1024 * 1024;

impl Keeper {
    /// Whether a coarser file still has to be computed from it.
    fn has_stale(&mut self, partition: &Partition) -> bool {
        let Some(coarser) = partition.grain.coarser() else { return false };
        let due = self.stale(coarser).iter().any(|place| partition.holds(coarser.start(*place)));
        due || self.unread.contains(partition)
    }

    /// Drops the partitions that are too old. First those from which nothing is still to be computed, since that needs no
    /// room and makes some; then the others are computed into coarser files, and go too. While the disk is full they go in
    /// any case: it must not stay full because of what is not kept any longer.
    pub(super) fn expire(&mut self, now: Time) -> Result<Expired, SqliteError> {
        let mut dropping = Dropping::default();
        for partition in over(Partition::all(&self.dir)?, now) {
            if !self.has_stale(&partition) {
                self.drop_partition(&partition, &mut dropping);
            }
        }
        for partition in over(Partition::all_set_aside(&self.dir)?, now) {
            dropping.count(partition.unlink_set_aside(&self.dir));
        }
        let mut all = usize::MAX;
        self.trouble.end_waits();
        self.read_what_is_due();
        for coarse in [Grain::Minute, Grain::Hour] {
            self.roll_up_due(coarse, &mut all, |below| below.is_over(now));
        }
        let full = self.is_full();
        for partition in over(Partition::all(&self.dir)?, now) {
            let has_stale = self.has_stale(&partition);
            if has_stale && (full || partition.is_long_over(now)) {
                let file = partition.path(&self.dir);
                tracing::warn!(file = %file.display(), full, "samples are dropped before they could be rolled up");
            } else if has_stale {
                continue;
            }
            self.drop_partition(&partition, &mut dropping);
        }
        dropping.outcome()
    }

    fn drop_partition(&mut self, partition: &Partition, dropping: &mut Dropping) {
        self.open.remove(partition);
        let bytes = partition.unlink(&self.dir);
        if bytes.is_ok() {
            self.forget(partition);
        }
        dropping.count(bytes);
    }

    fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.dir).is_ok_and(|free| free.f_bavail.saturating_mul(free.f_frsize) < ROOM_MIN_BYTES)
    }
}

fn over(partitions: Vec<Partition>, now: Time) -> impl Iterator<Item = Partition> {
    partitions.into_iter().filter(move |partition| partition.is_over(now))
}

/// The running result of an expiry: what was dropped, and the first failure.
#[derive(Default)]
struct Dropping {
    expired: Expired,
    failure: Option<std::io::Error>,
}

impl Dropping {
    fn count(&mut self, unlinked: std::io::Result<u64>) {
        match unlinked {
            Ok(bytes) => {
                self.expired.bytes += bytes;
                self.expired.partitions += 1;
            }
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn outcome(self) -> Result<Expired, SqliteError> {
        self.failure.map_or(Ok(self.expired), |error| Err(error.into()))
    }
}
