//! Files that failed, and when each may be tried again.
//!
//! One file that can't be read or written must not keep the others from being rolled up and dropped, nor be tried five
//! times a second, nor fill the operator's log.

use std::collections::HashMap;

use event::{Monotonic, Span};

use super::super::database::SqliteError;
use super::partition::Partition;

/// How long a file is not tried after its first failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Span = Span::from_secs(10);
const RETRY_MAX: Span = Span::from_secs(3600);

/// A failure, and the file that failed.
pub(super) struct PartitionError {
    pub(super) partition: Partition,
    pub(super) failure: SqliteError,
}

/// For `map_err` of an operation on one file.
pub(super) fn of<E: Into<SqliteError>>(partition: &Partition) -> impl Fn(E) -> PartitionError {
    |error| PartitionError { partition: partition.clone(), failure: error.into() }
}

#[derive(Default)]
pub(super) struct Trouble(HashMap<Partition, Wait>);

struct Wait {
    since: Monotonic,
    length: Span,
}

impl Trouble {
    /// Notes a failure of the file; returns whether it is the first one in a row.
    pub(super) fn failed(&mut self, partition: &Partition, now: Monotonic) -> bool {
        let before = self.0.get(partition).map(|wait| wait.length);
        let length = before.map_or(RETRY_MIN, |length| (length + length).clamp(RETRY_MIN, RETRY_MAX));
        self.0.insert(partition.clone(), Wait { since: now, length });
        before.is_none()
    }

    /// Whether the file must not be tried yet.
    pub(super) fn must_wait(&self, partition: &Partition, now: Monotonic) -> bool {
        self.0.get(partition).is_some_and(|wait| now.since(wait.since) < wait.length)
    }

    /// Forgets the failures of the file: it works again, or is gone.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }

    /// Lets every file be tried again at once.
    pub(super) fn end_waits(&mut self) {
        for wait in self.0.values_mut() {
            wait.length = Span::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Time;

    use super::super::partition::Grain;
    use super::*;

    #[test]
    fn a_file_waits_longer_after_each_failure() {
        let file = Partition::of(Grain::Sample, Time::from_secs(0));
        let other = Partition::of(Grain::Minute, Time::from_secs(0));
        let at = |seconds: i64| Monotonic(seconds * 1_000_000);
        let mut trouble = Trouble::default();
        assert!(!trouble.must_wait(&file, at(0)));
        let mut now = 0;
        for length in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            assert_eq!(trouble.failed(&file, at(now)), now == 0, "only the first is news");
            assert!(
                trouble.must_wait(&file, at(now + length - 1)) && !trouble.must_wait(&file, at(now + length)),
                "{length}"
            );
            assert!(!trouble.must_wait(&other, at(now)));
            now += length;
        }
        trouble.end_waits();
        assert!(!trouble.must_wait(&file, at(now)));
        assert!(!trouble.failed(&file, at(now)), "no news");
        trouble.forget(&file);
        assert!(trouble.failed(&file, at(now)));
    }
}
