//! Files that made trouble, and when each is tried again.
//!
//! One file that can't be read or written must not keep the others from being rolled up and dropped, nor be tried five
//! times a second, nor fill the operator's log.

use std::collections::HashMap;

use event::{Monotonic, Span};

use super::super::database::Failure;
use super::partition::Partition;

/// How long a file is left alone after its first failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Span = Span::from_secs(10);
const RETRY_MAX: Span = Span::from_secs(3600);

/// What failed, and on which file.
pub(super) struct Fault {
    pub(super) partition: Partition,
    pub(super) failure: Failure,
}

/// For `map_err` of what is done with one file.
pub(super) fn of<E: Into<Failure>>(partition: &Partition) -> impl Fn(E) -> Fault {
    |error| Fault { partition: partition.clone(), failure: error.into() }
}

#[derive(Default)]
pub(super) struct Trouble(HashMap<Partition, Rest>);

struct Rest {
    since: Monotonic,
    length: Span,
}

impl Trouble {
    /// Takes note of a failure; returns whether it is the first of this file in a row.
    pub(super) fn note(&mut self, partition: &Partition, now: Monotonic) -> bool {
        let before = self.0.get(partition).map(|rest| rest.length);
        let length = before.map_or(RETRY_MIN, |length| (length + length).clamp(RETRY_MIN, RETRY_MAX));
        self.0.insert(partition.clone(), Rest { since: now, length });
        before.is_none()
    }

    /// Whether it is to be left alone for now.
    pub(super) fn rests(&self, partition: &Partition, now: Monotonic) -> bool {
        self.0.get(partition).is_some_and(|rest| now.since(rest.since) < rest.length)
    }

    /// It works again, or is gone.
    pub(super) fn over(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }

    /// Everything may be tried again at once.
    pub(super) fn end_rests(&mut self) {
        for rest in self.0.values_mut() {
            rest.length = Span::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Time;

    use super::super::partition::Grain;
    use super::*;

    #[test]
    fn a_file_rests_longer_after_each_failure() {
        let file = Partition::of(Grain::Sample, Time::from_secs(0));
        let other = Partition::of(Grain::Minute, Time::from_secs(0));
        let at = |seconds: i64| Monotonic(seconds * 1_000_000);
        let mut trouble = Trouble::default();
        assert!(!trouble.rests(&file, at(0)));
        let mut now = 0;
        for length in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            assert_eq!(trouble.note(&file, at(now)), now == 0, "only the first is news");
            assert!(trouble.rests(&file, at(now + length - 1)) && !trouble.rests(&file, at(now + length)), "{length}");
            assert!(!trouble.rests(&other, at(now)));
            now += length;
        }
        trouble.end_rests();
        assert!(!trouble.rests(&file, at(now)));
        assert!(!trouble.note(&file, at(now)), "no news");
        trouble.over(&file);
        assert!(trouble.note(&file, at(now)));
    }
}
