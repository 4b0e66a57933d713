//! Runs engines for ever, and stops them in order.
//!
//! **Problem.** One binary holds many engines, and the one that parses what strangers send will panic one day. It must not
//! take the others along, it must come back by itself, and the time it was away must not look like a quiet time.
//!
//! **Principle.** Each attempt of an engine is a task of its own; a *keeper* per engine watches it. An error, a panic, an
//! early end and a missing sign of life are all failures. After a failure the keeper waits (one second, doubling up to a
//! minute, a little shortened at random so that many engines do not come back in step), journals the blind interval, and
//! starts the engine again. After two minutes without a failure, the wait is one second again.
//!
//! Patience is counted in checks of the keeper, one a second, not on a clock: when the whole process stands still for five
//! minutes, that is one check, and nobody is blamed for it. [`crate::clock::timekeeper`] journals it.
//!
//! A panic is not the only way to take others along: code that computes for a second holds up whatever shares its threads.
//! So an engine may be given a runtime of its own ([`Supervisor::add_on`]); keepers stay on the supervisor's, where no
//! engine can hold them up.
//!
//! Order of stopping: the highest [`Engine::stop_order`] first, with a deadline for the engines of each. An engine that
//! misses it is aborted and named in [`Ended`]. Acting on a second signal is up to the role.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use event::engine::Stopped;
use event::{Body, Span, Time};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Context, Engine, Recorder};

mod backoff;
mod keeper;
#[cfg(test)]
mod tests;

use keeper::{Fatal, Keeper};

/// How long the engines of one stop order may take to stop, unless the role says otherwise.
const STOP_DEADLINE: Span = Span::from_secs(5);

/// State of an engine.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    /// Started, and has not ticked yet.
    Starting,
    /// Started, and has ticked.
    Running,
    /// Failed, and will be started again.
    Restarting,
    /// Told to stop, and still running.
    Stopping,
    /// Stopped.
    Stopped,
    /// Failed in such a way that the process stops.
    Failed,
}

/// State of one engine, with its last failure.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct EngineHealth {
    /// Name of the engine.
    pub engine: &'static str,
    /// The state.
    pub state: EngineState,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Number of failures in a row.
    pub failures: u32,
    /// Reason of the last failure.
    pub last_error: Option<String>,
    /// Since when the engine is in this state.
    pub since: Time,
}

/// States of all engines; for `/ready`, `garant status` and metrics.
#[derive(Clone, Debug)]
pub struct HealthBoard(watch::Receiver<Vec<EngineHealth>>);

impl HealthBoard {
    /// All engines, in the order in which they were added.
    pub fn read(&self) -> Vec<EngineHealth> {
        self.0.borrow().clone()
    }

    /// Whether every engine is running.
    pub fn ready(&self) -> bool {
        self.0.borrow().iter().all(|health| health.state == EngineState::Running)
    }

    /// Waits until every engine is running; never, once the supervisor is gone.
    pub async fn wait_ready(&mut self) {
        let all_running = |board: &Vec<EngineHealth>| board.iter().all(|health| health.state == EngineState::Running);
        if self.0.wait_for(all_running).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How the supervisor ended.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Ended {
    /// The engine that took the process down, and why; `None` when the stop was asked for.
    pub failure: Option<(String, String)>,
    /// Engines that missed the deadline for stopping and were aborted.
    pub missed: Vec<&'static str>,
}

/// Runs engines: starts them, restarts those that fail, stops them in order.
pub struct Supervisor {
    context: Context,
    engines: Vec<(Arc<dyn Engine>, Option<Handle>)>,
    board: Arc<watch::Sender<Vec<EngineHealth>>>,
    stop_deadline: Span,
}

impl Supervisor {
    /// A supervisor whose engines get `context`, each with its own recorder, sign of life and stop token. The recorder of
    /// `context` is the supervisor's own.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            engines: Vec::new(),
            board: Arc::new(watch::Sender::new(Vec::new())),
            stop_deadline: STOP_DEADLINE,
        }
    }

    /// How long the engines of one stop order may take to stop. The sum over all orders belongs under systemd's
    /// `TimeoutStopSec`.
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Span) -> Self {
        self.stop_deadline = deadline;
        self
    }

    /// Adds an engine that runs where the supervisor runs.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "it adds an engine, and no reader takes it for a sum")]
    pub fn add(self, engine: Arc<dyn Engine>) -> Self {
        self.with(engine, None)
    }

    /// Adds an engine that runs on `runtime`, which must outlive the supervisor.
    #[must_use]
    pub fn add_on(self, runtime: &Handle, engine: Arc<dyn Engine>) -> Self {
        self.with(engine, Some(runtime.clone()))
    }

    fn with(mut self, engine: Arc<dyn Engine>, runtime: Option<Handle>) -> Self {
        let health = EngineHealth {
            engine: engine.name(),
            state: EngineState::Starting,
            attempts: 0,
            failures: 0,
            last_error: None,
            since: self.context.clock.now(),
        };
        self.board.send_modify(|board| board.push(health));
        self.engines.push((engine, runtime));
        self
    }

    /// The health board. It also shows engines added later.
    pub fn board(&self) -> HealthBoard {
        HealthBoard(self.board.subscribe())
    }

    /// Starts all engines and keeps them running until `stop` is cancelled, or until one fails that the others can't do
    /// without. Then stops them in their order. Dropped before, it aborts them all.
    pub async fn run(self, stop: CancellationToken) -> Ended {
        let mut orders: BTreeMap<u8, CancellationToken> = BTreeMap::new();
        let mut keepers = Keepers::default();
        for (index, (engine, runtime)) in self.engines.iter().enumerate() {
            let stop = orders.entry(engine.stop_order()).or_default();
            let keeper = Keeper {
                engine: engine.clone(),
                runtime: runtime.clone(),
                context: self.context.clone(),
                stop: stop.clone(),
                slot: Slot { board: self.board.clone(), index, clock: self.context.clock.clone() },
            };
            keepers.start(index, keeper);
        }

        let mut ended = Ended { failure: None, missed: Vec::new() };
        tokio::select! {
            () = stop.cancelled() => {}
            (index, reason) = keepers.next_fatal() => {
                ended.failure = Some((index.map_or("supervisor", |index| self.engines[index].0.name()).to_owned(), reason));
            }
        }
        for (order, token) in orders.iter().rev() {
            token.cancel();
            let of_order =
                (0..self.engines.len()).filter(|index| self.engines[*index].0.stop_order() == *order).collect();
            let stopping = keepers.running(&of_order);
            let missed = keepers.wait_for(&stopping, self.stop_deadline.to_std()).await;
            for index in stopping {
                let (engine, in_time) = (self.engines[index].0.name(), !missed.contains(&index));
                if !in_time {
                    tracing::warn!(engine, "did not stop in time and was aborted");
                    ended.missed.push(engine);
                }
                record(&self.context.recorder, &Stopped { engine: engine.to_owned(), in_time }).await;
                self.board.send_modify(|board| board[index].state = EngineState::Stopped);
            }
        }
        ended
    }
}

/// Records an event of the supervisor. When that is impossible, only the log of the process is left to say so.
async fn record<B: Body>(recorder: &Recorder, body: &B) {
    if let Err(error) = recorder.record(body).await {
        tracing::error!(%error, "an event about an engine could not be recorded");
    }
}

/// The tasks of the keepers. Dropping it aborts them, and with them their engines.
#[derive(Default)]
struct Keepers {
    tasks: JoinSet<Result<(), Fatal>>,
    running: HashMap<Id, (usize, AbortHandle)>,
}

impl Keepers {
    fn start(&mut self, index: usize, keeper: Keeper) {
        let task = self.tasks.spawn(keeper.keep());
        self.running.insert(task.id(), (index, task));
    }

    /// Which of these engines still run.
    fn running(&self, engines: &BTreeSet<usize>) -> BTreeSet<usize> {
        self.running.values().map(|(index, _)| *index).filter(|index| engines.contains(index)).collect()
    }

    /// The next keeper that ends, and which engine's it was. Waits for ever when there is none.
    async fn next(&mut self) -> (Option<usize>, Result<Result<(), Fatal>, JoinError>) {
        let (id, ended) = match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, ended))) => (id, Ok(ended)),
            Some(Err(error)) => (error.id(), Err(error)),
        };
        (self.running.remove(&id).map(|(index, _)| index), ended)
    }

    /// The next keeper that gives up, and why.
    async fn next_fatal(&mut self) -> (Option<usize>, String) {
        loop {
            match self.next().await {
                (_, Ok(Ok(()))) => {}
                (index, Ok(Err(fatal))) => return (index, fatal.reason),
                (index, Err(error)) => return (index, Fatal::unexpected(error).reason),
            }
        }
    }

    /// Waits for the keepers of these engines, aborts those that miss the deadline, and returns their engines.
    async fn wait_for(&mut self, engines: &BTreeSet<usize>, deadline: Duration) -> BTreeSet<usize> {
        let stopped = async {
            while !self.running(engines).is_empty() {
                match self.next().await {
                    (_, Ok(Ok(()))) => {}
                    (_, Ok(Err(Fatal { reason }))) => tracing::warn!(reason, "an engine failed while stopping"),
                    (_, Err(error)) => tracing::error!(%error, "a keeper ended while stopping"),
                }
            }
        };
        if tokio::time::timeout(deadline, stopped).await.is_ok() {
            return BTreeSet::new();
        }
        for (_, task) in self.running.values().filter(|(index, _)| engines.contains(index)) {
            task.abort();
        }
        self.running(engines)
    }
}

/// The entry of one engine on the board. Only its keeper writes it.
pub(super) struct Slot {
    board: Arc<watch::Sender<Vec<EngineHealth>>>,
    index: usize,
    clock: Arc<dyn event::Clock>,
}

impl Slot {
    fn set(&self, change: impl FnOnce(&mut EngineHealth)) {
        let now = self.clock.now();
        self.board.send_modify(|board| {
            if let Some(health) = board.get_mut(self.index) {
                let before = health.state;
                change(health);
                if health.state != before {
                    health.since = now;
                }
            }
        });
    }
}
