//! The saved copy of the fold: rows of the consumer `judge` in the store.
//!
//! [`promise::Judge::changed_parts`] gives the rows that changed since the last save, so a save writes the changes of some minutes.
//! A copy counts only if it is whole and of this format: that of the fold, and [`FORMAT`] for the rest, which is raised with each
//! change of [`SavedBeside`]. The release does not matter.
//!
//! A save that is longer than one transaction of the store takes several: the first removes the head row of the fold, the last
//! writes it. If the process ends in between, there is no copy, and the journal is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promise::{ChangedRow, InEffect};
use serde::{Deserialize, Serialize};
use store::{Consumers, LongValue, ROWS_MAX, Row, Step, StoreError};

use crate::Knowledge;

/// The name of the consumer.
const CONSUMER: &str = "judge";
/// Version of [`SavedBeside`].
const FORMAT: u32 = 3;
/// Prefix of the keys of the fold.
const FOLD: &str = "fold/";
/// Key, after [`FOLD`], of the row without which the others are no copy.
const HEAD: &str = "judge";
/// Most bytes of the fold in one transaction of a save: a quarter of what a store takes.
const STEP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Key of the long value [`SavedBeside`].
const BESIDE: &str = "beside";

/// The part of [`Knowledge`] that is not the fold.
#[derive(Serialize, Deserialize)]
struct SavedBeside {
    format: u32,
    in_effect: InEffect,
    policy_journaled_at: Option<event::Time>,
}

/// The state of the copy.
pub(crate) struct Saved {
    consumers: Arc<dyn Consumers>,
    position: Option<u64>,
    /// The stored [`SavedBeside`], without its bytes.
    beside: LongValue,
    /// Rows of the fold that are to be written or removed, those of failed attempts included.
    waiting: BTreeMap<String, Option<Vec<u8>>>,
    /// Keys of an older copy, which the next save removes.
    replaced: BTreeSet<String>,
    /// Whether the fold could not be serialised: what changed since is no longer known, so nothing more is saved in this run.
    is_over: bool,
}

impl Saved {
    /// Reads the copy, if there is one of this format.
    pub(crate) async fn load(consumers: Arc<dyn Consumers>) -> Result<(Self, Option<Knowledge>), StoreError> {
        let position = consumers.position(CONSUMER).await?;
        let mut beside = LongValue::read(&*consumers, CONSUMER, BESIDE).await?;
        let bytes = std::mem::take(&mut beside.bytes);
        let rows = fold(&*consumers).await?;
        let keys: BTreeSet<String> = rows.keys().cloned().collect();
        let knowledge = match position {
            None => None,
            Some(position) => read(position, &bytes, rows)
                .inspect_err(|error| {
                    tracing::warn!(%error, "the saved state of the judge is not used: the journal is read again");
                })
                .ok(),
        };
        let replaced = if knowledge.is_some() { BTreeSet::new() } else { keys };
        Ok((Self { consumers, position, beside, waiting: BTreeMap::new(), replaced, is_over: false }, knowledge))
    }

    /// Called when the fold starts anew: the next save replaces the whole copy.
    pub(crate) async fn replace(&mut self) -> Result<(), StoreError> {
        self.replaced = fold(&*self.consumers).await?.into_keys().collect();
        self.waiting.clear();
        Ok(())
    }

    /// Writes what changed, unless no entry was read since. A failure is a warning: the copy is a cache.
    pub(crate) async fn save(&mut self, knowledge: &mut Knowledge) {
        let next = knowledge.judge.next();
        if self.is_over || self.position == Some(next) && self.waiting.is_empty() {
            return;
        }
        // The first save serialises the whole fold, which would block the runtime.
        let mut taken = std::mem::take(knowledge);
        let written = tokio::task::spawn_blocking(move || (write(&mut taken), taken)).await;
        let written = match written {
            Ok((written, given_back)) => {
                *knowledge = given_back;
                written
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let (changed, beside) = match written {
            Ok(written) => written,
            Err(error) => {
                tracing::warn!(%error, "the state of the judge can't be saved any more: the next start reads what comes from now on again");
                self.is_over = true;
                return;
            }
        };
        self.waiting.extend(std::mem::take(&mut self.replaced).into_iter().map(|key| (key, None)));
        self.waiting.extend(changed);
        let mut beside = LongValue::from(beside);
        let mut last = beside.rows(BESIDE, &self.beside);
        beside.bytes = Vec::new();
        let mut rows = Vec::new();
        for (key, value) in &self.waiting {
            let is_head = key == HEAD;
            let key = format!("{FOLD}{key}");
            let row = match value {
                Some(value) => Row::Put { key, value: value.clone() },
                None => Row::Delete { key },
            };
            if is_head { last.push(row) } else { rows.push(row) }
        }
        for rows in in_steps(rows, last, STEP_BYTES_MAX) {
            let step = Step { rows, ..Step::new(CONSUMER, self.position, next) };
            match self.consumers.step(step).await {
                Ok(_) => self.position = Some(next),
                Err(error) => {
                    tracing::warn!(%error, "the state of the judge was not saved; tried again in some minutes");
                    // An earlier attempt was saved after all: the next save goes on from its cursor.
                    if let StoreError::Conflict { found, .. } = error {
                        self.position = found;
                    }
                    return;
                }
            }
        }
        self.beside = beside;
        self.waiting.clear();
    }
}

/// Cuts a save into steps of at most `bytes_max`: `rows` first, `last` with the last step. Of several, the first also removes the
/// head.
pub(crate) fn in_steps(rows: Vec<Row>, last: Vec<Row>, bytes_max: usize) -> Vec<Vec<Row>> {
    let rows_max = ROWS_MAX.saturating_sub(last.len() + 1);
    let (mut steps, mut step, mut size) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let length = if let Row::Put { value, .. } = &row { value.len() } else { 0 };
        if !step.is_empty() && (size + length > bytes_max || step.len() >= rows_max) {
            steps.push(std::mem::take(&mut step));
            size = 0;
        }
        size += length;
        step.push(row);
    }
    if let Some(first) = steps.first_mut() {
        first.push(Row::Delete { key: format!("{FOLD}{HEAD}") });
    }
    step.extend(last);
    steps.push(step);
    steps
}

/// Reads the rows of the fold; their keys without [`FOLD`].
async fn fold(consumers: &dyn Consumers) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
    let mut rows = BTreeMap::new();
    let mut last: Option<String> = None;
    loop {
        let some = consumers.rows(CONSUMER, FOLD, last.as_deref(), ROWS_MAX).await?;
        let Some((key, _)) = some.last() else { return Ok(rows) };
        last = Some(key.clone());
        rows.extend(some.into_iter().map(|(key, value)| (key.split_at(FOLD.len()).1.to_owned(), value)));
    }
}

/// The changed rows of the fold, and [`SavedBeside`] as JSON.
type Written = (Vec<ChangedRow>, Vec<u8>);

fn write(knowledge: &mut Knowledge) -> Result<Written, serde_json::Error> {
    let Knowledge { judge, in_effect, policy_journaled_at } = knowledge;
    let beside =
        SavedBeside { format: FORMAT, in_effect: in_effect.clone(), policy_journaled_at: *policy_journaled_at };
    Ok((judge.changed_parts()?, serde_json::to_vec(&beside)?))
}

fn read(
    position: u64,
    beside: &[u8],
    rows: BTreeMap<String, Vec<u8>>,
) -> Result<Knowledge, Box<dyn std::error::Error>> {
    let SavedBeside { format, in_effect, policy_journaled_at } = serde_json::from_slice(beside)?;
    if format != FORMAT {
        return Err(format!("it is of format {format}").into());
    }
    let judge = promise::Judge::from_parts(position, rows)?;
    Ok(Knowledge { judge, in_effect, policy_journaled_at })
}
