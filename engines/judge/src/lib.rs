//! The judge: folds new entries, and journals a verdict when something changed and at least once a day.
//!
//! A verdict must be the same for everybody who has the entries, so this engine adds nothing to [`promise::Judge`] but
//! one decision: *when to write it down*. When a reader would act on it: what [`promise::due`] says, each new outage, and
//! time lost from sight. What people are shown is not that: every evaluation is handed over whole, and with it, beside each
//! objective, the last verdict that was written down.
//!
//! **How.** It follows the public entries of the journal, is woken by it, and looks at the time now and then: what nobody reports
//! must be noticed, too. Verdicts of one turn are one transaction, but for more than `EVENTS_MAX` of them. The fold forgets what no window reaches, and is
//! [saved](saved) now and then. That copy is a cache: without it, or with one of another form, the journal is read again from
//! its first entry, and a copy that can't be made is worth a warning.

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

/// How often verdicts are computed while nothing is journaled.
const EVALUATE_EVERY: Span = Span::from_secs(10);
/// How often they are computed at most; an outage becomes a verdict within this and the time of its confirmation.
const EVALUATE_SPACING: Span = Span::from_secs(2);
/// How often the policy in effect is journaled again.
const REJOURNAL_POLICY_EVERY: Span = Span::from_days(1);
/// So much more unobserved time is worth a verdict of its own, unless there was ten times as much before.
const UNOBSERVED_NEWS: Span = Span::from_secs(5);
/// How often the fold is saved.
const SAVE_EVERY: Span = Span::from_secs(300);
/// How often the fold forgets what no verdict needs any more.
const FORGET_EVERY: Span = Span::from_secs(6 * 3600);
/// Most events of one transaction.
const EVENTS_MAX: usize = 1024;

/// The engine that judges what is in `journal`, and hands the verdicts in effect to `in_effect` at each evaluation: those that
/// were journaled, and beside them what the evaluation says, which is what people are shown. It saves its fold in `consumers`.
pub fn judge(
    journal: Arc<dyn Read>,
    consumers: Arc<dyn Consumers>,
    in_effect: watch::Sender<Arc<InEffect>>,
) -> impl Engine {
    let size = journal.size_watch();
    let start = move || Judge {
        journal: Arc::clone(&journal),
        consumers: Arc::clone(&consumers),
        in_effect: in_effect.clone(),
        folding: None,
    };
    Driver::new("judge", 3, start).woken_by(size)
}

/// Folds, judges, and hands the verdicts in effect over.
struct Judge {
    journal: Arc<dyn Read>,
    consumers: Arc<dyn Consumers>,
    in_effect: watch::Sender<Arc<InEffect>>,
    /// `None` before the first turn.
    folding: Option<Folding>,
}

/// The fold, where its entries come from, and its copy.
struct Folding {
    knowledge: Knowledge,
    feed: Feed,
    saved: Saved,
    saved_at: Monotonic,
    forgot_at: Monotonic,
}

/// Everything that the judge knows.
#[derive(Default)]
struct Knowledge {
    judge: promise::Judge,
    in_effect: InEffect,
    /// When the policy in effect was last journaled.
    policy_journaled_at: Option<Time>,
}

impl Knowledge {
    /// One entry whose payload can be read.
    fn fold(&mut self, sequence: u64, envelope: &Envelope) {
        if envelope.kind == Applied::KIND.name {
            self.policy_journaled_at = Some(envelope.recorded_at);
        }
        if let Some(Ok(verdict)) = envelope.body::<Verdict>() {
            self.in_effect.take(sequence, verdict);
        }
        // What can't be read counts for nothing, as it does in `garant verify`.
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

    /// Folds what is new.
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

    /// Reads everything again when verdicts need what was forgotten: a clock was set back, or somebody tells of long ago.
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

    /// Drops what no verdict needs any more, if it is time.
    fn forget(&mut self, context: &Context) {
        let now = context.clock.monotonic();
        if now.since(self.forgot_at) >= FORGET_EVERY {
            self.forgot_at = now;
            self.knowledge.judge.forget(context.clock.now());
        }
    }

    /// Saves the fold if it is time, or the `last` time. What can't be saved is read again at the next start.
    async fn save(&mut self, context: &Context, last: bool) {
        let now = context.clock.monotonic();
        if last || now.since(self.saved_at) >= SAVE_EVERY {
            self.saved_at = now;
            self.saved.save(&mut self.knowledge).await;
        }
    }
}

impl Reconcile for Judge {
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
            write(context, &mut folding.knowledge, &verdicts, now).await?;
            // A verdict is in effect once it is an entry, and what was journaled just now is.
            folding.read(context).await?;
            let Knowledge { judge, in_effect, .. } = &mut folding.knowledge;
            in_effect.services = Arc::clone(judge.services());
            in_effect.open_findings = Arc::clone(judge.open_findings());
            in_effect.evaluate(now, verdicts);
            self.in_effect.send_replace(Arc::new(folding.knowledge.in_effect.clone()));
            folding.forget(context);
            folding.save(context, context.stop.is_cancelled()).await;
            Ok(())
        })
    }
}

/// Journals the verdicts that changed or are due, `EVENTS_MAX` in a transaction. Nothing while entries wait for the journal:
/// what waits is not folded, so every verdict would seem as due as before, a turn later and again, until the verdicts push
/// the evidence out of the queue that they are judged from.
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
    // Payloads are destroyed with their day: what a verdict is judged against must be found in younger entries.
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

#[cfg(test)]
mod tests;
