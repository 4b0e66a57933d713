//! The copy of the fold in the rows of the judge.
//!
//! The fold hands out the rows that changed since it was asked before, so a save writes what some minutes brought, and not the
//! whole. A copy counts only whole and of this form: that of the fold, and [`FORMAT`], which is to be raised with each change
//! of what else is serialised. The release does not matter: one that changes a comment need not read the journal again.
//!
//! A save that is longer than one transaction of the store takes several, and is no copy until the last of them: the first
//! removes the head of the fold, the last writes it. What stops in between is read again from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promise::{ChangedRow, InEffect};
use serde::{Deserialize, Serialize};
use store::{Consumers, LongValue, ROWS_MAX, Row, Step, StoreError};

use crate::Knowledge;

/// Under this name the rows are kept.
const CONSUMER: &str = "judge";
/// Of what is serialised in [`Beside`].
const FORMAT: u32 = 3;
/// What the keys of the rows of the fold start with.
const FOLD: &str = "fold/";
/// The row of the fold without which the others are nothing.
const HEAD: &str = "judge";
/// What one transaction of a save holds of the fold at most: a quarter of what a store takes.
const STEP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The name of what is kept beside the fold.
const BESIDE: &str = "beside";

/// What is kept beside the fold.
#[derive(Serialize, Deserialize)]
struct Beside {
    format: u32,
    in_effect: InEffect,
    policy_journaled_at: Option<event::Time>,
}

/// Where the copy stands.
pub(crate) struct Saved {
    consumers: Arc<dyn Consumers>,
    position: Option<u64>,
    /// What is stored beside the fold, but for its bytes.
    beside: LongValue,
    /// Rows of the fold that are to be written or removed: those of attempts that failed, too.
    waiting: BTreeMap<String, Option<Vec<u8>>>,
    /// Rows of a fold that the next one takes the place of.
    replaced: BTreeSet<String>,
    /// The fold could not be serialised: what changed since is no longer known, so nothing more is saved in this run.
    is_over: bool,
}

impl Saved {
    /// The copy, if there is one of this form.
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

    /// The next fold that is saved was not read from this copy.
    pub(crate) async fn replace(&mut self) -> Result<(), StoreError> {
        self.replaced = fold(&*self.consumers).await?.into_keys().collect();
        self.waiting.clear();
        Ok(())
    }

    /// Saves, unless nothing was read since. A failure is a warning: this is a cache.
    pub(crate) async fn save(&mut self, knowledge: &mut Knowledge) {
        let next = knowledge.judge.next();
        if self.is_over || self.position == Some(next) && self.waiting.is_empty() {
            return;
        }
        // A first copy may take longer than a thread may be blocked.
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
                    // An earlier attempt was saved after all, or another process judges, too: this copy is as good as that.
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

/// Steps that write these rows and then, with the last of them, those of `last`. Of several, the first removes the head.
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

/// The rows of the fold.
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

/// The rows of the fold that changed, and what is kept beside them.
type Written = (Vec<ChangedRow>, Vec<u8>);

fn write(knowledge: &mut Knowledge) -> Result<Written, serde_json::Error> {
    let Knowledge { judge, in_effect, policy_journaled_at } = knowledge;
    let beside = Beside { format: FORMAT, in_effect: in_effect.clone(), policy_journaled_at: *policy_journaled_at };
    Ok((judge.changed_parts()?, serde_json::to_vec(&beside)?))
}

fn read(
    position: u64,
    beside: &[u8],
    rows: BTreeMap<String, Vec<u8>>,
) -> Result<Knowledge, Box<dyn std::error::Error>> {
    let Beside { format, in_effect, policy_journaled_at } = serde_json::from_slice(beside)?;
    if format != FORMAT {
        return Err(format!("it is of format {format}").into());
    }
    let judge = promise::Judge::from_parts(position, rows)?;
    Ok(Knowledge { judge, in_effect, policy_journaled_at })
}
