//! Work that waits for the writer: one value per transaction that a caller asks for, with the way to answer it.
//!
//! A leaf of this folder: the thread that writes, the transaction and the destruction of a day all speak in these types.

use event::{Day, Observed, Retention};
use journal::note::SigningKey;
use tokio::sync::oneshot;

use crate::{Row, Step, StoreError};

/// A job for the writer.
pub(super) enum Job {
    /// Work to be part of the next commit.
    Commit(Work),
    /// Journals that a day will be destroyed, between commits; see [`super::destroy`].
    Intend { class: Retention, day: Day, reply: Reply<Option<u64>> },
    /// Destroys a day, a step at a time between commits; see [`super::destroy`].
    Destroy { class: Retention, day: Day, reply: Reply<u64> },
}

/// A part of a commit.
pub(super) enum Work {
    Append {
        events: Vec<Observed>,
        reply: Reply<Vec<u64>>,
    },
    Step {
        step: Step,
        reply: Reply<Vec<u64>>,
    },
    Publish {
        note: String,
        size: u64,
        reply: Reply<()>,
    },
    Sign {
        signers: Vec<SigningKey>,
        reply: Reply<()>,
    },
    /// An entry of the store itself, and what it says of a retained day.
    Mark {
        event: Box<Observed>,
        mark: Mark,
        reply: Reply<u64>,
    },
}

/// What an entry of the store itself says of the payloads of a class and day.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// The payloads will be destroyed.
    Intended { class: Retention, day: Day },
    /// The payloads are destroyed.
    Destroyed { class: Retention, day: Day },
}

/// The answer to a caller. It is set while the transaction is written, and sent once that is committed or refused.
pub(super) struct Reply<T> {
    /// The caller that waits; `None` when the store itself asked.
    caller: Option<oneshot::Sender<Result<T, StoreError>>>,
    outcome: Result<T, StoreError>,
}

impl<T> Reply<T> {
    /// A reply and the end at which the caller waits for it.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (caller, answer) = oneshot::channel();
        (Self { caller: Some(caller), outcome: Err(StoreError::Closed) }, answer)
    }

    /// A reply that nobody waits for.
    pub(super) fn unasked() -> Self {
        Self { caller: None, outcome: Err(StoreError::Closed) }
    }

    /// Sets the answer that is sent once the transaction is committed. A refusal concerns this caller alone.
    pub(super) fn set(&mut self, outcome: Result<T, StoreError>) {
        self.outcome = outcome;
    }

    /// Whether the caller gets what it asked for, if the transaction is committed.
    pub(super) fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }

    /// Sends an answer. A caller that gave up meanwhile gets nothing.
    pub(super) fn answer(self, outcome: Result<T, StoreError>) {
        if let Some(caller) = self.caller {
            caller.send(outcome).map_or_else(drop, |()| ());
        }
    }

    /// The answer that was set.
    pub(super) fn into_outcome(self) -> Result<T, StoreError> {
        self.outcome
    }

    /// Sends the answer that was set, or the refusal of the whole commit.
    fn finish(mut self, refused: Option<&StoreError>) {
        let outcome = std::mem::replace(&mut self.outcome, Err(StoreError::Closed));
        self.answer(refused.map_or(outcome, |refusal| Err(refusal.clone())));
    }
}

impl Work {
    /// Number of events that this appends.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Append { events, .. } => events.len(),
            Self::Step { step, .. } => step.events.len(),
            Self::Mark { .. } => 1,
            Self::Publish { .. } | Self::Sign { .. } => 0,
        }
    }

    /// Sends the answer that was set while the commit was written, or the refusal of all of it.
    pub(super) fn finish(self, refused: Option<&StoreError>) {
        match self {
            Self::Append { reply, .. } | Self::Step { reply, .. } => reply.finish(refused),
            Self::Mark { reply, .. } => reply.finish(refused),
            Self::Publish { reply, .. } | Self::Sign { reply, .. } => reply.finish(refused),
        }
    }
}

impl Job {
    /// Number of events that this appends.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Commit(work) => work.events(),
            Self::Intend { .. } | Self::Destroy { .. } => 0,
        }
    }

    /// Memory that this holds, roughly, in KiB.
    pub(super) fn kib(&self) -> usize {
        let events_kib =
            |events: &[Observed]| events.iter().map(|event| 1 + event.body.get().len() / 1024).sum::<usize>();
        let row_kib = |row: &Row| match row {
            Row::Put { value, .. } => 1 + value.len() / 1024,
            Row::Delete { .. } => 1,
        };
        match self {
            Self::Commit(Work::Append { events, .. }) => events_kib(events),
            Self::Commit(Work::Step { step, .. }) => {
                1 + events_kib(&step.events) + step.rows.iter().map(row_kib).sum::<usize>()
            }
            Self::Commit(Work::Publish { .. } | Work::Sign { .. } | Work::Mark { .. })
            | Self::Intend { .. }
            | Self::Destroy { .. } => 1,
        }
    }

    /// Refuses the job: its caller gets `refusal`.
    pub(super) fn refuse(self, refusal: &StoreError) {
        match self {
            Self::Commit(work) => work.finish(Some(refusal)),
            Self::Intend { reply, .. } => reply.finish(Some(refusal)),
            Self::Destroy { reply, .. } => reply.finish(Some(refusal)),
        }
    }
}
