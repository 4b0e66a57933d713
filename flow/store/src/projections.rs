//! What a consumer of the journal has folded so far.

use async_trait::async_trait;

use crate::StoreError;

/// Longest state of a projection, in bytes.
pub const STATE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A state, and how far into the log it reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Projection {
    /// Entries below this sequence are folded in.
    pub cursor: u64,
    /// The state, in the consumer's own encoding.
    pub state: Vec<u8>,
}

/// Durable states of consumers, by name.
///
/// # Contract
///
/// A consumer folds entries into its state and saves state and cursor together, so after a crash it goes on from an instant
/// at which both agreed. [`save`](Self::save) is a compare-and-set on the cursor: of two consumers that believe to be the
/// only one, the second is told. A state longer than 32 MiB is refused.
#[async_trait]
pub trait Projections: Send + Sync {
    /// What was saved last under that name.
    async fn load(&self, name: &str) -> Result<Option<Projection>, StoreError>;

    /// Saves cursor and state, if the cursor saved before is `expected` (`None`: nothing was saved before); otherwise
    /// [`StoreError::Conflict`].
    async fn save(&self, name: &str, expected: Option<u64>, cursor: u64, state: Vec<u8>) -> Result<(), StoreError>;
}
