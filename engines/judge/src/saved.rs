//! The copy of the fold in the rows of the judge.
//!
//! It is cut into rows, because a row has a bound. A copy counts only whole and of this form: the evaluator whose rules the fold
//! serves, and [`FORMAT`], which is to be raised with each change of what is serialised. The release does not matter: one that
//! changes a comment need not read the journal again.

use std::sync::Arc;

use promise::EVALUATOR;
use store::{Consumers, LongValue, Row, Step, StoreError};

use crate::Knowledge;

/// Under this name the rows are kept.
const CONSUMER: &str = "judge";
/// Of what is serialised in [`Knowledge`].
const FORMAT: u32 = 1;
/// Longest copy, in bytes. A longer fold is not saved, and read again at the next start.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// The row that says of which form the others are.
const FORM_KEY: &str = "form";
/// The name of the copy among the rows.
const STATE: &str = "state";

fn form() -> Vec<u8> {
    format!("evaluator {EVALUATOR}, format {FORMAT}").into_bytes()
}

/// Where the copy stands.
pub(crate) struct Saved {
    consumers: Arc<dyn Consumers>,
    position: Option<u64>,
    /// What is stored, but for its bytes.
    stored: LongValue,
}

impl Saved {
    /// The copy, if there is one of this form.
    pub(crate) async fn load(consumers: Arc<dyn Consumers>) -> Result<(Self, Option<Knowledge>), StoreError> {
        let position = consumers.position(CONSUMER).await?;
        let found = consumers.rows(CONSUMER, FORM_KEY, None, 1).await?;
        let is_ours = found.first().is_some_and(|(key, value)| key == FORM_KEY && *value == form());
        let mut stored = LongValue::read(&*consumers, CONSUMER, STATE).await?;
        let bytes = std::mem::take(&mut stored.bytes);
        let read = || match serde_json::from_slice(&bytes) {
            Ok(knowledge) => Some(knowledge),
            Err(error) => {
                tracing::warn!(%error, "the saved state of the judge can't be read: the journal is read again");
                None
            }
        };
        let knowledge = is_ours.then(read).flatten();
        Ok((Self { consumers, position, stored }, knowledge))
    }

    /// Saves, unless nothing was read since. A failure is a warning: this is a cache.
    pub(crate) async fn save(&mut self, knowledge: &mut Knowledge) {
        let next = knowledge.judge.next();
        if self.position == Some(next) {
            return;
        }
        // Tens of megabytes take longer than a thread may be blocked.
        let taken = std::mem::take(knowledge);
        let written = tokio::task::spawn_blocking(move || (serde_json::to_vec(&taken), taken)).await;
        let bytes = match written {
            Ok((bytes, given_back)) => {
                *knowledge = given_back;
                bytes
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let bytes = match bytes {
            Ok(bytes) if bytes.len() <= BYTES_MAX => bytes,
            Ok(bytes) => {
                let (bytes, max) = (bytes.len(), BYTES_MAX);
                tracing::warn!(
                    bytes,
                    max,
                    "the state of the judge is too large to be saved: the next start reads the journal again"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the state of the judge can't be saved: the next start reads the journal again");
                return;
            }
        };
        let mut value = LongValue::from(bytes);
        let mut rows = value.rows(STATE, &self.stored);
        rows.push(Row::Put { key: FORM_KEY.to_owned(), value: form() });
        value.bytes = Vec::new();
        let step = Step { rows, ..Step::new(CONSUMER, self.position, next) };
        match self.consumers.step(step).await {
            Ok(_) => (self.position, self.stored) = (Some(next), value),
            Err(error) => {
                tracing::warn!(%error, "the state of the judge was not saved; tried again in some minutes");
                // An earlier attempt was saved after all, or another process judges, too: this copy is as good as that one.
                if let StoreError::Conflict { found, .. } = error {
                    self.position = found;
                }
            }
        }
    }
}
