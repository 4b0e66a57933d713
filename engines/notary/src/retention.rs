//! An engine that destroys payloads kept for as long as the policy says (JO-2, and BK-6 for the payloads of the journal).
//!
//! A reader of the log must be able to tell a destroyed payload from a withheld one at every instant, and so must somebody who
//! copies it, which takes a while. So a destruction is announced in the log, the announcement is published, and only
//! [`NOTICE`] later the payloads go: a copy begun before the announcement is finished by then. The store sees to it that
//! intention, destruction and its entry survive a crash in between; here a day that was announced is simply found again,
//! and destroyed even if the policy has changed its mind meanwhile.
//!
//! What is due is due by the wall clock, which may be wrong: see [`Steady`].

use std::sync::Arc;

use engine::clock::Steady;
use engine::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};
use event::{Envelope, Monotonic, Retention, Span, Time};
use journal::checkpoint::Checkpoint;
use policy::RetentionPeriods;
use store::{Retain, Retained, Samples};
use tokio::sync::watch;

/// Time between two searches for what is due. While the clock is steady, a day is announced within an hour of being due, and
/// destroyed within two hours of that.
const LOOK_EVERY: Span = Span::from_secs(3600);
/// Time between two looks at the clock.
const STEP: Span = Span::from_secs(10);
/// Time between the announcement in the log and the destruction.
const NOTICE: Span = Span::from_secs(3600);

/// The engine that destroys the day keys that are due by the `periods` of the policy, and drops old samples. `newest_before` is the
/// time at which the newest entry from before this start of the process was recorded.
pub fn retention(
    journal: Arc<dyn Retain>,
    samples: Arc<dyn Samples>,
    periods: watch::Receiver<RetentionPeriods>,
    newest_before: Option<Time>,
) -> impl Engine {
    let start = move || RetentionEngine {
        journal: Arc::clone(&journal),
        samples: Arc::clone(&samples),
        periods: periods.clone(),
        newest_before,
        steady: None,
        look_at: None,
    };
    Driver::new("retention", 2, start)
}

/// The state of the engine between its turns.
struct RetentionEngine {
    journal: Arc<dyn Retain>,
    samples: Arc<dyn Samples>,
    periods: watch::Receiver<RetentionPeriods>,
    newest_before: Option<Time>,
    /// `None` before the first turn.
    steady: Option<Steady>,
    /// The time of the next search for what is due.
    look_at: Option<Monotonic>,
}

impl Reconcile for RetentionEngine {
    fn every(&self) -> Span {
        STEP
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            // What is due now is as due at the next start.
            if context.stop.is_cancelled() {
                return Ok(());
            }
            let clock = &context.clock;
            let steady = self.steady.get_or_insert_with(|| Steady::new(Arc::clone(clock), STEP, self.newest_before));
            steady.look();
            // Called at each turn, since it warns.
            let may_destroy = steady.may_destroy();
            let now = clock.monotonic();
            if may_destroy && self.look_at.is_none_or(|at| at <= now) {
                self.look(context).await?;
                self.look_at = Some(Monotonic(now.0.saturating_add(LOOK_EVERY.micros())));
            }
            Ok(())
        })
    }
}

impl RetentionEngine {
    async fn look(&self, context: &Context) -> Result<(), EngineError> {
        let now = context.clock.now();
        // First, and whatever the rest does: on a full disk this frees the space that journaling the rest needs.
        if let Err(error) = self.samples.expire(now).await {
            tracing::warn!(%error, "old samples can't be dropped; tried again within the hour");
        }
        let periods = *self.periods.borrow();
        let tick = || {
            context.progress.tick();
        };
        destroy_what_is_due(self.journal.as_ref(), now, |class| periods.of(class), tick).await
    }
}

/// Announces each day that is due at `now`, and destroys each that was announced for [`NOTICE`].
async fn destroy_what_is_due(
    journal: &dyn Retain,
    now: Time,
    kept: impl Fn(Retention) -> Option<Span>,
    tick: impl Fn(),
) -> Result<(), EngineError> {
    for class in Retention::ALL {
        let Some(kept) = kept(class) else { continue };
        // A day is due once its last instant is older than what is kept.
        let first_kept = (now - kept).day();
        for Retained { day, intended, .. } in journal.days_before(class, now.day()).await? {
            match intended {
                Some(place) if was_announced(journal, place, now).await? => {
                    journal.destroy(class, day).await?;
                }
                None if day < first_kept => {
                    journal.intend(class, day).await?;
                }
                _ => {}
            }
            tick();
        }
    }
    Ok(())
}

/// Whether the announcement, the entry `place`, has been published, and was recorded [`NOTICE`] ago.
async fn was_announced(journal: &dyn Retain, place: u64, now: Time) -> Result<bool, EngineError> {
    let Some(published) = journal.published().await? else { return Ok(false) };
    if Checkpoint::of_note(&published)?.size <= place {
        return Ok(false);
    }
    let entries = journal.entries(place..place + 1).await?;
    let payload = entries.into_iter().next().and_then(|entry| entry.payload);
    let announced = payload.and_then(|payload| Envelope::decode(&payload.bytes).ok());
    // Its key is never destroyed; if it is lost all the same, waiting would not bring it back.
    Ok(announced.is_none_or(|envelope| now.since(envelope.recorded_at) >= NOTICE))
}

#[cfg(test)]
mod tests {
    use event::Clock as _;
    use store::conformance::{self, ManualClock, START, event};
    use store::sqlite::Sqlite;
    use store::{Append as _, Publish as _, Read as _};

    use super::*;

    /// What retention does at the time of the clock, when everything is kept for ten days.
    async fn look(store: &Sqlite, clock: &ManualClock) {
        let kept = |class| (class != Retention::Permanent).then_some(Span::from_days(10));
        destroy_what_is_due(store, clock.now(), kept, || ()).await.expect("nothing refuses");
    }

    async fn publish(store: &Sqlite) {
        let head = store.head().await.expect("a head");
        store.publish(head.note, head.size).await.expect("published");
    }

    async fn size(store: &Sqlite) -> u64 {
        store.head().await.expect("a head").size
    }

    async fn is_there(store: &Sqlite) -> bool {
        store.entries(1..2).await.expect("readable")[0].payload.is_some()
    }

    /// Nothing goes before everybody could know, and everything is said once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_day_is_announced_and_then_destroyed() {
        for published_at_once in [true, false] {
            let folder = tempfile::tempdir().expect("a folder");
            let clock = ManualClock::at(START);
            let store = Sqlite::open(conformance::options(folder.path(), &clock)).expect("a new directory");
            store.append(vec![event(1, 0, Retention::Evidence, "evidence")]).await.expect("appended");
            publish(&store).await;
            clock.advance(Span::from_days(10));
            look(&store, &clock).await;
            assert_eq!(size(&store).await, 2, "not due yet");

            clock.advance(Span::from_days(1));
            for _ in 0..2 {
                look(&store, &clock).await;
                assert_eq!((size(&store).await, is_there(&store).await), (3, true), "announced, once");
            }
            if published_at_once {
                publish(&store).await;
                clock.advance(NOTICE - Span::from_secs(1));
                look(&store, &clock).await;
                assert!(is_there(&store).await, "not while a copy from before may be under way");
                clock.advance(Span::from_secs(1));
            } else {
                clock.advance(NOTICE);
                look(&store, &clock).await;
                assert!(is_there(&store).await, "not while nobody could read the announcement");
                publish(&store).await;
            }
            look(&store, &clock).await;
            assert_eq!((size(&store).await, is_there(&store).await), (4, false));
            look(&store, &clock).await;
            assert_eq!(size(&store).await, 4, "done");
            clock.advance(Span::from_days(1000));
            look(&store, &clock).await;
            assert_eq!(size(&store).await, 4, "what the log says of itself stays");
        }
    }
}
