//! The budget of memory that all large answers under way share.
//!
//! Large answers share a budget of memory. Their bytes count from when an answer is made until the last of them is with the
//! kernel, or the connection ended. At the bound the answer is 503 and says when to try again. Small answers are not
//! counted: the number of connections bounds them.
//!
//! Without it, a thousand readers who ask for the largest file of the log and read none of it would hold a thousand copies.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all large answers under way.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// An answer up to this length is not counted: tiles, checkpoints, pages.
const SMALL_BYTES: usize = 64 * 1024;

/// Large answers that are made at a time; the others wait. While one is made, what was read for it is in memory too: one
/// read of the store, twenty megabytes at most.
const MAKING_MAX: usize = 2;

/// The memory that large answers may take at a time. Clones share it.
#[derive(Clone, Debug)]
pub struct AnswerBudget {
    kib: Arc<Semaphore>,
    making: Arc<Semaphore>,
}

impl Default for AnswerBudget {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl AnswerBudget {
    /// A budget of this many bytes.
    pub fn of(bytes: usize) -> Self {
        Self { kib: Arc::new(Semaphore::new(bytes / 1024)), making: Arc::new(Semaphore::new(MAKING_MAX)) }
    }

    /// An empty share of the budget, for one answer.
    pub(crate) fn share(&self) -> Share {
        Share { budget: Arc::clone(&self.kib), room: None }
    }

    /// Waits until a large answer may be made. The next may be made when this is dropped.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.making).acquire_owned().await.ok()
    }
}

/// The share of one answer, returned to the budget when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    room: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes room for an answer of this many bytes; `false` at the bound.
    pub(crate) fn covers(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL_BYTES {
            return true;
        }
        let held = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(1024).saturating_sub(held);
        let Ok(Ok(more)) = u32::try_from(more).map(|more| Arc::clone(&self.budget).try_acquire_many_owned(more)) else {
            return false;
        };
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        true
    }

    /// The bytes of the answer, which keep the share until the last of them is dropped. Room beyond their length is returned
    /// at once.
    pub(crate) fn hold(mut self, mut bytes: Vec<u8>) -> Bytes {
        if let Some(room) = &mut self.room {
            bytes.shrink_to_fit();
            drop(room.split(room.num_permits().saturating_sub(bytes.len().div_ceil(1024))));
        }
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

struct Held {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_held_as_long_as_any_part_of_the_answer() {
        let budget = AnswerBudget::of(1 << 20);
        let answer = |bytes: usize| {
            let mut share = budget.share();
            (share.covers(bytes / 2) && share.covers(bytes)).then(|| share.hold(vec![0; bytes]))
        };
        let first = answer(700_000).expect("there is room");
        assert!(answer(700_000).is_none(), "for one of them");
        let small: Vec<_> = (0..100).map(|_| answer(SMALL_BYTES).expect("small ones are not counted")).collect();
        let tail = first.slice(600_000..);
        drop((first, small));
        assert!(answer(700_000).is_none(), "a part of it is still there");
        drop(tail);
        assert!(answer(700_000).is_some());
        assert!(answer(2 << 20).is_none(), "more than there is");
        let mut share = budget.share();
        assert!(share.covers(1 << 20), "what did not fit held nothing");
        let short = share.hold(vec![0; 100_000]);
        assert!(answer(900_000).is_some(), "nor does what was not needed");
        drop(short);
    }
}
