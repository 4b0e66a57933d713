//! The judge: folds new entries, and journals a verdict when something changed and at least once a day.
//!
//! A verdict must be the same for everybody who has the entries, so this engine adds nothing to [`promise::Judge`] but
//! one decision: *when to write it down*. When a reader would act on it: what [`promise::due`] says, each new outage, and
//! time lost from sight.
//!
//! The fold is saved now and then with its cursor. That copy is a cache: without it, or with one of another release, the
//! journal is read again from its first entry.

use std::sync::Arc;

use engine::{BoxFuture, Context, Engine, EngineError, Recorded};
use event::policy::Applied;
use event::promise::{Reason, Verdict};
use event::{Body, Envelope, Span, Time};
use promise::{EVALUATOR, InEffect};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

const PROJECTION: &str = "judge";
/// Entries are read in pieces of this many.
const PIECE: u64 = 1024;
/// How often verdicts are computed; an outage becomes a verdict within this and the time of its confirmation.
const EVALUATE_EVERY: Span = Span::from_secs(2);
/// How often the policy in effect is journaled again.
const RETELL_EVERY: Span = Span::from_days(1);
/// So much more unobserved time is worth a verdict of its own, unless there was ten times as much before.
const UNOBSERVED_NEWS: Span = Span::from_secs(5);
/// How often the fold is saved.
const SAVE_EVERY: Span = Span::from_secs(300);

/// Folds, judges, and hands the verdicts in effect to the pages.
pub struct Judge {
    in_effect: watch::Sender<Arc<InEffect>>,
}

/// Everything that the judge knows, saved whole.
#[derive(Serialize, Deserialize)]
struct Knowledge {
    evaluator: u32,
    release: String,
    judge: promise::Judge,
    in_effect: InEffect,
    /// When the policy in effect was last journaled.
    policy_told: Option<Time>,
}

impl Knowledge {
    fn new() -> Self {
        Self {
            evaluator: EVALUATOR,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            judge: promise::Judge::new(),
            in_effect: InEffect::default(),
            policy_told: None,
        }
    }

    fn is_ours(&self) -> bool {
        self.evaluator == EVALUATOR && self.release == env!("CARGO_PKG_VERSION")
    }

    /// One entry whose payload can be read.
    fn fold(&mut self, sequence: u64, envelope: &Envelope) {
        if envelope.kind == Applied::KIND.name {
            self.policy_told = Some(envelope.recorded_at);
        }
        if let Some(Ok(verdict)) = envelope.body::<Verdict>() {
            self.in_effect.take(sequence, verdict);
        }
        // What can't be read counts for nothing, as it does for whoever verifies.
        if self.judge.apply(sequence, envelope).is_err() {
            self.judge.skip(sequence);
        }
    }
}

impl Judge {
    /// The verdicts in effect go to `in_effect`, at each evaluation.
    pub fn new(in_effect: watch::Sender<Arc<InEffect>>) -> Self {
        Self { in_effect }
    }

    async fn judge(&self, context: Context) -> Result<(), EngineError> {
        let saved = context.projections.load(PROJECTION).await?;
        let mut saved_cursor = saved.as_ref().map(|projection| projection.cursor);
        let mut saved_at = context.clock.monotonic();
        let mut knowledge = saved
            .and_then(|projection| serde_json::from_slice(&projection.state).ok())
            .filter(Knowledge::is_ours)
            .unwrap_or_else(Knowledge::new);
        loop {
            read(&context, &mut knowledge).await?;
            write(&context, &knowledge).await?;
            knowledge.in_effect.evaluated_at = Some(context.clock.now());
            self.in_effect.send_replace(Arc::new(knowledge.in_effect.clone()));
            context.progress.tick();
            let stopping = context.stop.is_cancelled();
            if stopping || context.clock.monotonic().since(saved_at) >= SAVE_EVERY {
                let cursor = knowledge.judge.next();
                let state = serde_json::to_vec(&knowledge)?;
                context.projections.save(PROJECTION, saved_cursor, cursor, state).await?;
                (saved_cursor, saved_at) = (Some(cursor), context.clock.monotonic());
            }
            if stopping {
                return Ok(());
            }
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(EVALUATE_EVERY.to_std()) => {}
            }
        }
    }
}

/// Folds what is new.
async fn read(context: &Context, knowledge: &mut Knowledge) -> Result<(), EngineError> {
    let size = context.journal.head().await?.size;
    while knowledge.judge.next() < size {
        let from = knowledge.judge.next();
        let entries = context.journal.entries(from..size.min(from + PIECE)).await?;
        if entries.is_empty() {
            return Err(EngineError::new(format!("entry {from} of {size} can't be read from the store")));
        }
        for entry in entries {
            match entry.payload.map(|payload| Envelope::decode(&payload.bytes)) {
                Some(Ok(envelope)) => knowledge.fold(entry.sequence, &envelope),
                _ => knowledge.judge.skip(entry.sequence),
            }
        }
        context.progress.tick();
    }
    if let Some(policy) = knowledge.judge.policy() {
        knowledge.in_effect.keep_only(&policy.promises);
    }
    Ok(())
}

/// Journals the verdicts that changed or are due. Nothing while entries wait for the journal: what waits is not folded, so
/// every verdict would seem as due as before, two seconds later and again, until the verdicts push the evidence out of the
/// queue that they are judged from.
async fn write(context: &Context, knowledge: &Knowledge) -> Result<(), EngineError> {
    if context.recorder.health().waiting > 0 {
        return Ok(());
    }
    let now = context.clock.now();
    // Payloads are destroyed with their day: what a verdict is judged against must be found in younger entries.
    if let (Some(policy), Some(told)) = (knowledge.judge.policy(), knowledge.policy_told)
        && now.since(told) >= RETELL_EVERY
        && context.recorder.record(policy).await? == Recorded::Waiting
    {
        return Ok(());
    }
    for verdict in knowledge.judge.verdicts(now) {
        let before = knowledge
            .in_effect
            .all()
            .map(|found| &found.verdict)
            .find(|before| before.promise == verdict.promise && before.objective == verdict.objective);
        let wanted = promise::due(before, &verdict) || before.is_some_and(|before| is_news(before, &verdict));
        if wanted && context.recorder.record(&verdict).await? == Recorded::Waiting {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether somebody who read `before` would want to read `now`, although the outcome is the same: a first figure where there
/// was no evidence yet, another outage, or noticeably more time that nobody observed.
fn is_news(before: &Verdict, now: &Verdict) -> bool {
    let (outages_before, unobserved_before) = told(before);
    let (outages, unobserved) = told(now);
    let noticeable = UNOBSERVED_NEWS.max(Span::from_micros(unobserved_before.micros() / 10));
    let first_figure = before.figure.is_none() && now.figure.is_some();
    now.at > before.at && (first_figure || outages != outages_before || unobserved - unobserved_before >= noticeable)
}

/// How many outages, and how long nobody looked.
fn told(verdict: &Verdict) -> (u64, Span) {
    verdict.reasons.iter().fold((0, Span::ZERO), |(outages, unobserved), reason| match reason {
        Reason::Down { outages, .. } => (*outages, unobserved),
        Reason::Unobserved { length } => (outages, *length),
        _ => (outages, unobserved),
    })
}

impl Engine for Judge {
    fn name(&self) -> &'static str {
        "judge"
    }

    fn floor(&self) -> u8 {
        3
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.judge(context))
    }
}

#[cfg(test)]
mod tests;
