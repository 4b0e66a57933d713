//! The durable state of a consumer of the journal: a cursor and keyed rows, changed together with the journal.

use async_trait::async_trait;
use event::Observed;

use crate::StoreError;

/// Most rows that one [`Step`] writes, and that one read returns.
pub const ROWS_MAX: usize = 4096;

/// Longest key of a row, in bytes. The shortest has one.
pub const KEY_BYTES_MAX: usize = 256;

/// Longest value of a row, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A change of one keyed row of a consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// Writes the value under the key, over the one before.
    Put {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: String,
        /// At most [`VALUE_BYTES_MAX`] bytes, in the consumer's own encoding.
        value: Vec<u8>,
    },
    /// Removes the row of that key, if there is one.
    Delete {
        /// The key.
        key: String,
    },
}

impl Row {
    /// The key that it changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// One transaction of a consumer. What it read up to, what it keeps of that and what it has to say are durable together or
/// not at all.
///
/// Messages to the outside (an outbox) will stand beside `events`, and the fencing epoch of a lease beside `from`, once
/// something sends the ones and two servers compete for the other.
#[derive(Clone, Debug)]
pub struct Step {
    /// Name of the consumer.
    pub consumer: &'static str,
    /// The cursor that the consumer believes is stored; `None`: none yet.
    pub from: Option<u64>,
    /// The cursor stored from now on: entries below it need not be read again. A consumer that reads no entries counts its
    /// steps.
    pub to: u64,
    /// Changes of its rows, in that order: at most [`ROWS_MAX`].
    pub rows: Vec<Row>,
    /// Events that it journals, in that order; bounded as in [`Append::append`](crate::Append::append).
    pub events: Vec<Observed>,
}

impl Step {
    /// A step that moves the cursor only.
    pub const fn new(consumer: &'static str, from: Option<u64>, to: u64) -> Self {
        Self { consumer, from, to, rows: Vec::new(), events: Vec::new() }
    }

    /// Refuses what is larger than a store takes, before it is queued.
    pub fn check(&self) -> Result<(), StoreError> {
        let too_large = |what, size: usize, max: usize| {
            let (size, max) = (size as u64, max as u64);
            if size > max { Err(StoreError::TooLarge { what, size, max }) } else { Ok(()) }
        };
        too_large("a number of rows", self.rows.len(), ROWS_MAX)?;
        for row in &self.rows {
            too_large("the key of a row", row.key().len(), KEY_BYTES_MAX)?;
            if row.key().is_empty() {
                return Err(StoreError::Malformed { what: "key of a row", reason: "is empty".to_owned() });
            }
            if let Row::Put { value, .. } = row {
                too_large("the value of a row", value.len(), VALUE_BYTES_MAX)?;
            }
        }
        Ok(())
    }
}

/// Reads the cursors and rows of consumers.
#[async_trait]
pub trait Rows: Send + Sync {
    /// The cursor of the consumer; `None` before its first step.
    async fn position(&self, consumer: &str) -> Result<Option<u64>, StoreError>;

    /// The rows of the consumer whose keys start with `prefix` and come after `after`: at most `limit`, at most [`ROWS_MAX`],
    /// and cut after 16 MiB of values; never empty while there are any.
    async fn rows(
        &self,
        consumer: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

/// The cursors and rows of consumers, by name, changed in steps.
///
/// # Contract
///
/// * **Whole.** Cursor, rows and events of a [`Step`] change in one transaction: after a crash, a row exists if and only if
///   the event of its step does.
/// * **Compared.** A step is made if the stored cursor is the one it starts `from`; otherwise it is a
///   [`StoreError::Conflict`] and nothing of it is kept. Of two consumers that both believe to be the only one, the second gets
///   that error, and reads its rows again. So does a consumer that was cancelled during a step: it may or may not have happened.
/// * **Bounded** per step by [`ROWS_MAX`], [`KEY_BYTES_MAX`], [`VALUE_BYTES_MAX`] and 64 MiB in all. How many rows it keeps
///   is up to the consumer.
/// * **Ordered.** Rows are read in the order of the bytes of their keys.
#[async_trait]
pub trait Consumers: Rows {
    /// Makes the step. Returns the places of those of its events that were not in the journal yet.
    async fn step(&self, step: Step) -> Result<Vec<u64>, StoreError>;
}

/// A value that one row may not hold, kept in rows of its own: pieces, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LongValue {
    /// The value; empty when there is none.
    pub bytes: Vec<u8>,
    pieces: usize,
}

impl LongValue {
    /// The value of that name.
    pub async fn read(rows: &dyn Rows, consumer: &str, name: &str) -> Result<Self, StoreError> {
        let prefix = format!("{name}/");
        let (mut value, mut last) = (Self::default(), None::<String>);
        loop {
            let some = rows.rows(consumer, &prefix, last.as_deref(), ROWS_MAX).await?;
            let Some((key, _)) = some.last() else { return Ok(value) };
            last = Some(key.clone());
            value.pieces += some.len();
            for (_, piece) in some {
                value.bytes.extend(piece);
            }
        }
    }

    /// The changes that write `self` under that name over the value `before`.
    pub fn rows(&self, name: &str, before: &Self) -> Vec<Row> {
        let key = |number: usize| format!("{name}/{number:05}");
        let puts = (0..).zip(self.bytes.chunks(VALUE_BYTES_MAX));
        let puts = puts.map(|(number, piece)| Row::Put { key: key(number), value: piece.to_vec() });
        puts.chain((self.pieces..before.pieces).map(|number| Row::Delete { key: key(number) })).collect()
    }
}

impl From<Vec<u8>> for LongValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self { pieces: bytes.len().div_ceil(VALUE_BYTES_MAX), bytes }
    }
}
