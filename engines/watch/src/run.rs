//! The task of the watch: carries clocks, answers and effects between the world and [`Rounds`], and decides nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::events::Pinged;
use engine::clock::{ClockWatch, Oddity};
use engine::heartbeat::Said;
use engine::heartbeat::{Delivery, Pings};
use engine::net::Net;
use engine::{BoxFuture, Context, Engine, EngineError, Secrets};
use event::engine::{Blind, BlindCause};
use event::evidence::Succeeded;
use event::{Clock, Interval, ObserverId, Span, Time};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use crate::config::Config;
use crate::figures::Figures;
use crate::journaling::{Journaling, Settled, Told, observed_until};
use crate::moment::Moment;
use crate::order::{Done, Effect, Order, OrderOutcome, WatchEvent};
use crate::rounds::{LOOK_EVERY, Rounds, clock_watch};
use crate::source::Asking;
use crate::source::heartbeat::SavedHeartbeats;

/// Time beyond its timeout that a probe is waited for, so that its own reason is the one reported.
const LAST_WORD: Span = Span::from_millis(20);
/// Longest wait of a ping before it is taken as having arrived now.
const WAITING_MAX: Span = Span::from_secs(10);
/// How long the journal may take for the entries of the end.
const FINISH_WITHIN: Span = Span::from_secs(5);

/// The watch, as an engine.
pub struct Watch {
    config: watch::Receiver<Arc<Config>>,
    pings: Pings,
    samples: Arc<dyn store::Samples>,
    state: Arc<dyn store::Consumers>,
    figures: Arc<Figures>,
}

impl Watch {
    /// Watches what the last value of `config` says, from the instant at which it is sent; hears heartbeats through
    /// `pings`. Answers go to `samples`; what heartbeats have said is kept in `state`.
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        pings: Pings,
        samples: Arc<dyn store::Samples>,
        state: Arc<dyn store::Consumers>,
    ) -> Self {
        Self { config, pings, samples, state, figures: Arc::default() }
    }

    /// Figures of the watch and the current state of its probes.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }
}

impl Engine for Watch {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        4
    }

    /// States are rebuilt: after a restart nothing is known, and the first sample of each probe journals its state again.
    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let heartbeats = SavedHeartbeats::load(&*self.state).await?;
            let observed_until = observed_until(&*self.state).await?;
            Run::begin(self, context, heartbeats, observed_until).run(self.config.clone()).await
        })
    }
}

/// One run of the engine.
struct Run {
    context: Context,
    clocks: ClockWatch,
    rounds: Rounds,
    effects: Vec<Effect>,
    asks: JoinSet<Done>,
    /// Number of the order of each task, for the case that it panics.
    orders: HashMap<Id, u64>,
    samples: Vec<store::Sample>,
    series: Arc<dyn store::Samples>,
    journaling: Journaling,
    /// What became of the pings that were handed to the journal.
    settled: mpsc::UnboundedReceiver<Settled>,
    heartbeats: SavedHeartbeats,
    /// Up to when observers that have not looked yet in this run had recorded what they observed.
    observed_until: BTreeMap<ObserverId, Time>,
    pings: Pings,
    /// Entries that the recorder had lost at the last look.
    lost: u64,
}

impl Run {
    fn begin(
        watch: &Watch,
        context: Context,
        heartbeats: SavedHeartbeats,
        observed_until: BTreeMap<ObserverId, Time>,
    ) -> Self {
        let now = Moment::of(&*context.clock);
        let descriptors = engine::descriptors::limit();
        let (settle, settled) = mpsc::unbounded_channel();
        let (recorder, state) = (context.recorder.clone(), Arc::clone(&watch.state));
        Self {
            clocks: clock_watch(Arc::clone(&context.clock)),
            rounds: Rounds::new(
                now,
                context.recorder.observer().clone(),
                watch.figures(),
                Arc::clone(&context.random),
                descriptors,
            ),
            effects: Vec::new(),
            asks: JoinSet::new(),
            orders: HashMap::new(),
            samples: Vec::new(),
            journaling: Journaling::start(recorder, state, heartbeats.clone(), settle),
            settled,
            series: Arc::clone(&watch.samples),
            heartbeats,
            observed_until,
            pings: watch.pings.clone(),
            lost: context.recorder.health().lost,
            context,
        }
    }

    async fn run(mut self, mut config: watch::Receiver<Arc<Config>>) -> Result<(), EngineError> {
        let mut listener = self.pings.clone().listen().await;
        let stop = self.context.stop.clone();
        let first = config.borrow_and_update().clone();
        self.apply(&first);
        loop {
            self.look();
            self.perform();
            self.context.progress.tick();
            let wake = self.until_next();
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = config.changed() => {
                    let config = config.borrow_and_update().clone();
                    self.look();
                    self.apply(&config);
                }
                Some(joined) = self.asks.join_next_with_id() => self.take(joined),
                delivery = listener.next() => self.hear(delivery),
                Some(settled) = self.settled.recv() => self.settle(settled),
                () = tokio::time::sleep(wake.to_std()) => {}
            }
        }
        self.finish().await;
        Ok(())
    }

    fn now(&self) -> Moment {
        Moment::of(&*self.context.clock)
    }

    fn until_next(&self) -> Span {
        let next = self.rounds.next().map_or(LOOK_EVERY, |next| next.since(self.now().monotonic));
        next.min(LOOK_EVERY).max(Span::ZERO)
    }

    /// Looks at the clocks and at the queue to the journal; starts the questions that are due.
    fn look(&mut self) {
        let oddities = self.clocks.look();
        let now = self.now();
        let spool = self.context.recorder.health();
        let dropped = self.journaling.has_dropped();
        if dropped || spool.lost > self.lost {
            self.lost = spool.lost;
            self.rounds.mute(now);
        } else if spool.waiting == 0 {
            self.rounds.unmute(now, &mut self.effects);
        }
        self.rounds.look(now, &oddities, &mut self.effects);
        for oddity in oddities {
            if let Oddity::Stepped(step) = oddity {
                let by = step.to.since(step.from);
                self.heartbeats.step(by);
                self.journaling.step(by);
            }
        }
    }

    fn apply(&mut self, config: &Config) {
        let now = self.now();
        let declared: HashSet<_> = config.probes.iter().map(|declared| declared.id.clone()).collect();
        // Its rows are those of the journal's task.
        drop(self.heartbeats.keep_only(|probe| declared.contains(probe)));
        self.journaling.keep_only(declared);
        for declared in &config.probes {
            if let Some(heartbeat) = declared.probe.heartbeat() {
                self.heartbeats.remind(&declared.id, heartbeat);
            }
        }
        for observer in &config.observers {
            let since = self.observed_until.remove(observer).filter(|&since| since < now.wall);
            if let Some(since) = since {
                let interval = Interval::new(since, now.wall);
                let blind = Blind { engine: crate::NAME.to_owned(), interval, cause: BlindCause::Restart };
                self.effects.push(Effect::Journal(observer.clone(), WatchEvent::Blind(blind)));
            }
        }
        self.rounds.apply(config, now, &mut self.effects);
        self.pings.know(config.heartbeats());
        tracing::info!(probes = config.probes.len(), revision = %config.revision, "watching");
    }

    /// Takes an answer, and all others that have arrived.
    fn take(&mut self, first: Result<(Id, Done), JoinError>) {
        self.look();
        let mut next = Some(first);
        while let Some(joined) = next {
            let now = self.now();
            match joined {
                Ok((id, done)) => {
                    self.orders.remove(&id);
                    self.rounds.answered(done, now, &mut self.effects);
                }
                Err(error) => {
                    tracing::error!(%error, "a probe panicked: its sample is unknown");
                    if let Some(number) = self.orders.remove(&error.id()) {
                        let done = Done { number, started: now, ended: now, outcome: OrderOutcome::Failed };
                        self.rounds.answered(done, now, &mut self.effects);
                    }
                }
            }
            next = self.asks.try_join_next_with_id();
        }
    }

    /// Takes a ping. It is heard and acknowledged once it is durable; dropped instead, it makes the job try again.
    fn hear(&mut self, delivery: Delivery) {
        self.look();
        let now = self.now();
        let (id, ping) = (delivery.probe.clone(), delivery.ping.ping);
        // A label from before a step is of another clock. No job waits this long for its receipt.
        let waited = now.wall.since(delivery.ping.at);
        let at = if (Span::ZERO..=WAITING_MAX).contains(&waited) { delivery.ping.at } else { now.wall };
        let Some((observer, probe)) = self.rounds.hearer(&id) else { return };
        let Some(heartbeat) = probe.heartbeat() else { return };
        if !heartbeat.takes(ping, at) {
            self.rounds.not_heard(&id, at);
            return delivery.refuse();
        }
        let entry = match ping {
            Said::Success => WatchEvent::Succeeded(Succeeded { probe: id, at }),
            Said::Start | Said::Fail => WatchEvent::Pinged(Pinged { probe: id, at, ping }),
        };
        self.journaling.send_ping(observer, &entry, Told { delivery, at, grace: heartbeat.grace() });
    }

    /// A ping is in the journal, and changes what is known of the job; or it was refused, and changes nothing.
    fn settle(&mut self, settled: Settled) {
        let Settled { probe: id, ping, run, at, is_recorded } = settled;
        if !is_recorded {
            return self.rounds.not_heard(&id, at);
        }
        self.look();
        // Not waited for any more since.
        let Some(probe) = self.rounds.probe(&id) else { return };
        let Some(heartbeat) = probe.heartbeat() else { return };
        heartbeat.hear(ping, run.as_deref(), at);
        self.heartbeats.note(id.clone(), heartbeat.heard());
        if ping == Said::Success {
            self.rounds.succeeded(&id, at);
        }
        self.rounds.call_probe(&id, self.now());
    }

    fn perform(&mut self) {
        let observed_at = self.context.clock.now();
        let mut entries = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Ask(order) => {
                    let number = order.number;
                    let asked = {
                        let Context { net, secrets, clock, .. } = &self.context;
                        ask(Arc::clone(net), Arc::clone(secrets), Arc::clone(clock), order)
                    };
                    self.orders.insert(self.asks.spawn(asked).id(), number);
                }
                Effect::Journal(observer, entry) => entries.push((observer, entry)),
                Effect::Sample(sample) => self.samples.push(sample),
            }
        }
        self.journaling.send(entries, observed_at);
        // The store takes samples without waiting, and writes them together.
        if !self.samples.is_empty() {
            self.series.record(std::mem::take(&mut self.samples));
        }
    }

    /// Journals everything observed until now.
    async fn finish(mut self) {
        self.look();
        let now = self.now();
        self.rounds.stop(now, &mut self.effects);
        self.effects.retain(|effect| !matches!(effect, Effect::Ask(_)));
        self.perform();
        self.asks.abort_all();
        if !self.journaling.finish(FINISH_WITHIN).await {
            tracing::error!("the journal did not take the last entries of the watch within {FINISH_WITHIN}");
        }
    }
}

async fn ask(net: Arc<Net>, secrets: Arc<Secrets>, clock: Arc<dyn Clock>, order: Order) -> Done {
    let Order { number, probe, timeout } = order;
    let started = Moment::of(&*clock);
    let asking = Asking { net: &net, secrets: &secrets, clock: &*clock, timeout };
    let answered = tokio::time::timeout((timeout + LAST_WORD).to_std(), probe.ask(&asking)).await;
    let outcome = answered.map_or(OrderOutcome::TimedOut, OrderOutcome::Answered);
    Done { number, started, ended: Moment::of(&*clock), outcome }
}

#[cfg(test)]
mod tests;
