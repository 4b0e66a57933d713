//! The judge: an engine that folds new entries, and journals a verdict when something changed and at least once a day.
//!
//! A verdict must be the same for everybody who has the entries, so this engine adds nothing to [`promise::Judge`] but the
//! decision when a verdict is journaled: when [`promise::due`] says so, at each new outage, and when noticeably more time is
//! unobserved. The pages are not limited to that: every evaluation is handed to them whole, with the last journaled verdict
//! beside each objective.
//!
//! **How.** The judge reads the public entries of the journal, woken by each append, and evaluates every ten seconds also without
//! one, since a silent observer must be noticed too. The verdicts of one turn are one transaction, unless there are more than
//! `EVENTS_MAX`. The fold forgets what no window reaches, and is [saved](saved) every five minutes. That copy is a cache: without
//! it, or with one of another format, the journal is read again from its first entry, and a copy that can't be written is a
//! warning.

use std::sync::Arc;

use engine::{BoxFuture, Context, Driver, Engine, EngineError, Feed, Reconcile, Recorded};
use event::policy::Applied;
use event::promise::{Reason, Verdict};
use event::{Body, Envelope, Monotonic, Span, Time};
use promise::InEffect;
use store::{Consumers, Read, Select};
use tokio::sync::watch;

mod saved;

use saved::Saved;

/// Longest time between two evaluations, while nothing is journaled.
const EVALUATE_EVERY: Span = Span::from_secs(10);
/// Shortest time between two evaluations.
const EVALUATE_SPACING: Span = Span::from_secs(2);
/// Time after which the policy in effect is journaled again: see [`write`].
const REJOURNAL_POLICY_EVERY: Span = Span::from_days(1);
/// Additional unobserved time that makes a verdict news, unless ten times as much was unobserved before.
const UNOBSERVED_NEWS: Span = Span::from_secs(5);
/// Time between two saves of the fold.
const SAVE_EVERY: Span = Span::from_secs(300);
/// Time between two calls of [`promise::Judge::forget`].
const FORGET_EVERY: Span = Span::from_secs(6 * 3600);
/// Most events of one transaction.
const EVENTS_MAX: usize = 1024;

/// The engine that judges the entries of `journal`, and sends the verdicts in effect to `in_effect` after each evaluation: the
/// journaled ones, and beside them those of the evaluation, which people are shown. The fold is saved in `consumers`.
pub fn judge(
    journal: Arc<dyn Read>,
    consumers: Arc<dyn Consumers>,
    in_effect: watch::Sender<Arc<InEffect>>,
) -> impl Engine {
    let size = journal.size_watch();
    let start = move || JudgeEngine {
        journal: Arc::clone(&journal),
        consumers: Arc::clone(&consumers),
        in_effect: in_effect.clone(),
        folding: None,
    };
    Driver::new("judge", 3, start).woken_by(size)
}

/// The engine between its turns.
struct JudgeEngine {
    journal: Arc<dyn Read>,
    consumers: Arc<dyn Consumers>,
    in_effect: watch::Sender<Arc<InEffect>>,
    /// `None` before the first turn.
    folding: Option<Folding>,
}

/// The fold, the feed that its entries come from, and its saved copy.
struct Folding {
    knowledge: Knowledge,
    feed: Feed,
    saved: Saved,
    saved_at: Monotonic,
    forgot_at: Monotonic,
}

/// All that follows from the entries read.
#[derive(Default)]
struct Knowledge {
    judge: promise::Judge,
    in_effect: InEffect,
    /// The time at which the policy in effect was last journaled.
    policy_journaled_at: Option<Time>,
}

impl Knowledge {
    /// Folds one entry.
    fn fold(&mut self, sequence: u64, envelope: &Envelope) {
        if envelope.kind == Applied::KIND.name {
            self.policy_journaled_at = Some(envelope.recorded_at);
        }
        if let Some(Ok(verdict)) = envelope.body::<Verdict>() {
            self.in_effect.take(sequence, verdict);
        }
        // A body that can't be read counts for nothing, as in `garant verify`.
        if self.judge.apply(sequence, envelope).is_err() {
            self.judge.skip(sequence);
        }
    }
}

impl Folding {
    async fn begin(journal: Arc<dyn Read>, consumers: Arc<dyn Consumers>, now: Monotonic) -> Result<Self, EngineError> {
        let (saved, knowledge) = Saved::load(consumers).await?;
        let knowledge = knowledge.unwrap_or_default();
        let feed = Feed::new(journal, knowledge.judge.next(), Select::Public);
        Ok(Self { knowledge, feed, saved, saved_at: now, forgot_at: now })
    }

    /// Folds all new entries.
    async fn read(&mut self, context: &Context) -> Result<(), EngineError> {
        while let Some(batch) = self.feed.read(&context.progress).await? {
            for entry in &batch.entries {
                if let Some(envelope) = &entry.envelope {
                    self.knowledge.fold(entry.sequence, envelope);
                }
            }
            self.knowledge.judge.skip(batch.to.saturating_sub(1));
        }
        if let Some(policy) = self.knowledge.judge.policy() {
            self.knowledge.in_effect.keep_only(&policy.promises);
        }
        Ok(())
    }

    /// Reads the journal again from its first entry when verdicts need what was forgotten: see [`promise::Judge::remembers`].
    async fn remember(&mut self, journal: &Arc<dyn Read>, context: &Context) -> Result<(), EngineError> {
        if self.knowledge.judge.remembers(context.clock.now()) {
            return Ok(());
        }
        tracing::warn!("verdicts need what the judge forgot, because a clock was set back: the journal is read again");
        self.saved.replace().await?;
        self.knowledge = Knowledge::default();
        self.feed = Feed::new(Arc::clone(journal), 0, Select::Public);
        self.forgot_at = context.clock.monotonic();
        self.read(context).await
    }

    /// Drops what no verdict needs any more, every [`FORGET_EVERY`].
    fn forget(&mut self, context: &Context) {
        let now = context.clock.monotonic();
        if now.since(self.forgot_at) >= FORGET_EVERY {
            self.forgot_at = now;
            self.knowledge.judge.forget(context.clock.now());
        }
    }

    /// Saves the fold, every [`SAVE_EVERY`] and at the `last` turn. What can't be saved is read again at the next start.
    async fn save(&mut self, context: &Context, last: bool) {
        let now = context.clock.monotonic();
        if last || now.since(self.saved_at) >= SAVE_EVERY {
            self.saved_at = now;
            self.saved.save(&mut self.knowledge).await;
        }
    }
}

impl Reconcile for JudgeEngine {
    fn every(&self) -> Span {
        EVALUATE_EVERY
    }

    fn spacing(&self) -> Span {
        EVALUATE_SPACING
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.folding.is_none() {
                let (journal, consumers) = (Arc::clone(&self.journal), Arc::clone(&self.consumers));
                self.folding = Some(Folding::begin(journal, consumers, context.clock.monotonic()).await?);
            }
            let Some(folding) = &mut self.folding else { return Ok(()) };
            folding.read(context).await?;
            folding.remember(&self.journal, context).await?;
            let now = context.clock.now();
            let verdicts = folding.knowledge.judge.verdicts(now);
            let burning = folding.knowledge.judge.burning(now);
            write(context, &mut folding.knowledge, &verdicts, now).await?;
            // A verdict is in effect once it is an entry: read those that were journaled just now.
            folding.read(context).await?;
            let Knowledge { judge, in_effect, .. } = &mut folding.knowledge;
            in_effect.services = Arc::clone(judge.services());
            in_effect.open_findings = Arc::clone(judge.open_findings());
            in_effect.unwatched = Arc::new(judge.unwatched());
            in_effect.burning = Arc::new(burning);
            in_effect.evaluate(now, verdicts);
            self.in_effect.send_replace(Arc::new(folding.knowledge.in_effect.clone()));
            folding.forget(context);
            folding.save(context, context.stop.is_cancelled()).await;
            Ok(())
        })
    }
}

/// Journals the verdicts that are due or news, at most `EVENTS_MAX` in a transaction, and the policy in effect once a day. Writes
/// nothing while events wait in the recorder: what waits is not folded, so the same verdicts would be due at every turn, until
/// they push the evidence out of that queue.
async fn write(
    context: &Context,
    knowledge: &mut Knowledge,
    verdicts: &[Verdict],
    now: Time,
) -> Result<(), EngineError> {
    if context.recorder.health().waiting > 0 {
        return Ok(());
    }
    let mut events = Vec::new();
    // Payloads are destroyed with their day: the policy that a verdict is judged by must be found in younger entries.
    if let (Some(policy), Some(at)) = (knowledge.judge.policy(), knowledge.policy_journaled_at)
        && now.since(at) >= REJOURNAL_POLICY_EVERY
    {
        events.push(context.recorder.seal(policy, now)?);
    }
    for verdict in verdicts {
        let before = knowledge.in_effect.latest(&verdict.promise, verdict.objective).map(|found| &found.verdict);
        if promise::due(before, verdict) || before.is_some_and(|before| is_news(before, verdict)) {
            events.push(context.recorder.seal(verdict, now)?);
        }
    }
    let mut events = events.into_iter();
    loop {
        let some: Vec<_> = events.by_ref().take(EVENTS_MAX).collect();
        if some.is_empty() || context.recorder.send(some).await? == Recorded::Waiting {
            return Ok(());
        }
    }
}

/// Whether `now` is to be journaled after `before` although the outcome is the same: it has the first figure, another number of
/// outages, or noticeably more unobserved time.
fn is_news(before: &Verdict, now: &Verdict) -> bool {
    let (outages_before, unobserved_before) = outages_and_unobserved(before);
    let (outages, unobserved) = outages_and_unobserved(now);
    let noticeable = UNOBSERVED_NEWS.max(Span::from_micros(unobserved_before.micros() / 10));
    let first_figure = before.figure.is_none() && now.figure.is_some();
    now.at > before.at && (first_figure || outages != outages_before || unobserved - unobserved_before >= noticeable)
}

/// The number of outages and the unobserved time among the reasons of a verdict.
fn outages_and_unobserved(verdict: &Verdict) -> (u64, Span) {
    verdict.reasons.iter().fold((0, Span::ZERO), |(outages, unobserved), reason| match reason {
        Reason::Down { outages, .. } => (*outages, unobserved),
        Reason::Unobserved { length } => (outages, *length),
        _ => (outages, unobserved),
    })
}

#[cfg(test)]
mod tests;
