//! The feed of one consumer: new entries of the journal, each read and decoded once.
//!
//! Most entries do not concern most consumers, and the leaf of an entry tells whether it does. So a [`Feed`] leaves out what was
//! not [selected](Select) before anything is unsealed, and decodes the rest once. It is read when the
//! [`Driver`](crate::Driver) of the consumer is woken by the journal, or its period is over.

use std::sync::Arc;

use event::Envelope;
use store::{Read, Select, StoreError};

use crate::Progress;

/// An entry of the journal, decoded.
#[derive(Clone, Debug)]
pub struct FeedEntry {
    /// Its place in the log.
    pub sequence: u64,
    /// The decoded payload; `None` when it is destroyed, or is no envelope.
    pub envelope: Option<Envelope>,
}

/// Entries read together, and the cursor after them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The selected entries, in their order; may be none.
    pub entries: Vec<FeedEntry>,
    /// Entries below this place need not be read again: the cursor for the consumer's next [`store::Step`].
    pub to: u64,
}

/// Reads the selected entries from a cursor on, once each, for one consumer.
pub struct Feed {
    journal: Arc<dyn Read>,
    select: Select,
    cursor: u64,
}

impl Feed {
    /// A feed of the entries from `cursor` on.
    pub fn new(journal: Arc<dyn Read>, cursor: u64, select: Select) -> Self {
        Self { journal, select, cursor }
    }

    /// The next entries that are there already; `None` when all have been read. Ticks `progress` when it has read some.
    pub async fn read(&mut self, progress: &Progress) -> Result<Option<Batch>, StoreError> {
        let selected = self.journal.select(self.cursor..u64::MAX, &self.select).await?;
        if selected.to <= self.cursor {
            return Ok(None);
        }
        self.cursor = selected.to;
        let decoded = selected.entries.into_iter().map(|entry| FeedEntry {
            sequence: entry.sequence,
            envelope: entry.payload.and_then(|payload| Envelope::decode(&payload.bytes).ok()),
        });
        // A leaf names the family of a team kind only: which kind it is, the envelope knows.
        let wanted = |entry: &FeedEntry| match (&self.select, &entry.envelope) {
            (Select::Kinds(kinds), Some(envelope)) => kinds.iter().any(|kind| kind.name == envelope.kind),
            _ => true,
        };
        let entries = decoded.filter(wanted).collect();
        progress.tick();
        Ok(Some(Batch { entries, to: self.cursor }))
    }
}

#[cfg(test)]
mod tests {
    use event::engine::{Blind, BlindCause, Started, Stopped};
    use event::{Body as _, Interval, Span, Time};
    use store::Append as _;

    use super::*;
    use crate::Recorder;
    use crate::sim::World;

    const START: Time = Time::from_secs(1_800_000_000);

    async fn record_some(recorder: &Recorder) {
        let stopped = Stopped { engine: "watch".to_owned(), in_time: true };
        let interval = Interval::new(START, START + Span::from_secs(1));
        let blind = Blind { engine: "watch".to_owned(), interval, cause: BlindCause::Restart };
        recorder.record(&Started { engine: "watch".to_owned(), attempt: 1 }).await.expect("recorded");
        recorder.record(&blind).await.expect("recorded");
        recorder.record(&stopped).await.expect("recorded");
    }

    fn places(batch: &Batch) -> Vec<u64> {
        batch.entries.iter().map(|entry| entry.sequence).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_selected_is_never_opened() {
        let world = World::at(START);
        record_some(&world.recorder("paris".parse().expect("a name"))).await;
        assert_eq!(Started::KIND.coarse(), Stopped::KIND.coarse(), "one family");
        for (select, opened, yielded) in [
            (Select::All, vec![0, 1, 2], vec![0, 1, 2]),
            (Select::Public, vec![1], vec![1]),
            (Select::Kinds(vec![Blind::KIND]), vec![1], vec![1]),
            (Select::Kinds(vec![Stopped::KIND]), vec![0, 2], vec![2]),
            (Select::Kinds(vec![event::promise::Verdict::KIND]), vec![], vec![]),
        ] {
            let progress = Progress::default();
            let mut feed = Feed::new(world.journal.clone(), 0, select.clone());
            let batch = feed.read(&progress).await.expect("readable").expect("there are entries");
            assert_eq!((world.journal.take_opened(), places(&batch)), (opened, yielded), "{select:?}");
            assert_eq!((batch.to, progress.ticks()), (3, 1));
            assert!(feed.read(&progress).await.expect("readable").is_none(), "all is read");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_its_cursor_and_says_what_is_gone() {
        let world = World::at(START);
        record_some(&world.recorder("paris".parse().expect("a name"))).await;
        world.journal.destroy(2);
        let mut feed = Feed::new(world.journal.clone(), 1, Select::All);
        let batch = feed.read(&Progress::default()).await.expect("readable").expect("there are entries");
        assert_eq!(places(&batch), [1, 2]);
        assert!(batch.entries[0].envelope.is_some() && batch.entries[1].envelope.is_none());
    }

    /// More than one read of the store takes.
    #[tokio::test(start_paused = true)]
    async fn a_long_log_comes_in_pieces() {
        let world = World::at(START);
        let recorder = world.recorder("paris".parse().expect("a name"));
        let count = store::RANGE_MAX + 10;
        let started = |_| recorder.seal(&Started { engine: "watch".to_owned(), attempt: 1 }, START).expect("sealed");
        world.journal.append((0..count).map(started).collect()).await.expect("appended");
        let (mut feed, progress) = (Feed::new(world.journal.clone(), 0, Select::Public), Progress::default());
        let mut to = Vec::new();
        while let Some(batch) = feed.read(&progress).await.expect("readable") {
            assert!(batch.entries.is_empty());
            to.push(batch.to);
        }
        assert_eq!(to, [store::RANGE_MAX, count]);
    }
}
