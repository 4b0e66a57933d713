use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event::engine::{Blind, BlindCause, Failed, Started, Stopped};
use event::{Span, Spans, Time};
use tokio::task::JoinHandle;

use super::{Ended, EngineState, Supervisor};
use crate::sim::World;
use crate::{BoxFuture, Context, Engine, EngineError};

const START: Time = Time::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_hours(1);

type Run = Box<dyn Fn(Context) -> BoxFuture<'static, Result<(), EngineError>> + Send + Sync>;

/// An engine as a test wants it.
struct Puppet {
    name: &'static str,
    stop_order: u8,
    run: Run,
}

impl Engine for Puppet {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stop_order(&self) -> u8 {
        self.stop_order
    }

    fn patience(&self) -> Span {
        Span::from_secs(10)
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        (self.run)(context)
    }
}

fn engine<F>(name: &'static str, stop_order: u8, run: impl Fn(Context) -> F + Send + Sync + 'static) -> Puppet
where
    F: Future<Output = Result<(), EngineError>> + Send + 'static,
{
    Puppet { name, stop_order, run: Box::new(move |context| Box::pin(run(context))) }
}

/// Ticks every second and counts.
async fn healthy(context: Context, turns: Arc<AtomicU64>) -> Result<(), EngineError> {
    loop {
        context.progress.tick();
        tokio::select! {
            () = context.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => turns.fetch_add(1, Ordering::Relaxed),
        };
    }
}

fn healthy_engine(name: &'static str, stop_order: u8) -> Puppet {
    engine(name, stop_order, |context| healthy(context, Arc::default()))
}

fn supervisor(world: &World, engines: impl IntoIterator<Item = Puppet>) -> Supervisor {
    let context = world.context("paris".parse().expect("a name")).expect("a network");
    engines.into_iter().fold(Supervisor::new(context), |supervisor, engine| supervisor.add(Arc::new(engine)))
}

fn start(world: &World, supervisor: Supervisor) -> JoinHandle<Ended> {
    tokio::spawn(supervisor.run(world.stop.clone()))
}

async fn stop(world: &World, running: JoinHandle<Ended>) -> Ended {
    world.stop.cancel();
    running.await.expect("the supervisor does not panic")
}

/// AV-5: who computes without a pause holds up its own runtime, and nobody else's. On the running clock: a blocked thread
/// is nothing that paused time can show.
#[test]
fn a_busy_engine_holds_up_its_own_runtime_only() {
    let runtime = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().expect("threads")
    };
    let (shared, own) = (runtime(1), runtime(1));
    let world = World::at(START);
    let asked = world.stop.clone();
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    let busy = engine("busy", 4, move |context| {
        let asked = asked.clone();
        async move {
            context.progress.tick();
            while !asked.is_cancelled() {
                std::hint::spin_loop();
            }
            Ok(())
        }
    });
    let quick = engine("quick", 4, move |context| {
        let counted = counted.clone();
        async move {
            while !context.stop.is_cancelled() {
                context.progress.tick();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        }
    });
    let ended = shared.block_on(async {
        let running = start(&world, supervisor(&world, [quick]).add_on(own.handle(), Arc::new(busy)));
        while turns.load(Ordering::Relaxed) < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop(&world, running).await
    });
    assert_eq!(ended, Ended { failure: None, missed: vec![] });
}

/// A simulated hour beside an engine that panics at every start.
#[tokio::test(start_paused = true)]
async fn a_panicking_engine_leaves_its_neighbour_alone() {
    let world = World::at(START);
    let turns = Arc::new(AtomicU64::new(0));
    let counted = turns.clone();
    let supervisor = supervisor(
        &world,
        [
            engine("guard", 4, |_| async { panic!("boom") }),
            engine("watch", 4, move |context| healthy(context, counted.clone())),
        ],
    );
    let board = supervisor.board();
    let running = start(&world, supervisor);
    tokio::time::sleep(HOUR).await;

    let health = board.read();
    let failures = health[0].failures;
    // 1 + 2 + … + 32 s, then once a minute or up to a fifth sooner.
    assert!((64..=82).contains(&failures), "{failures} failures in an hour");
    assert_eq!(health[0].state, EngineState::Restarting);
    assert_eq!((health[0].attempts, health[0].last_error.as_deref()), (failures, Some("panicked: boom")));
    assert_eq!((health[1].state, health[1].attempts, health[1].since), (EngineState::Running, 1, START));
    assert!(turns.load(Ordering::Relaxed) >= 3599, "{turns:?} turns of 3600");
    assert!(!board.ready());

    assert_eq!(stop(&world, running).await, Ended { failure: None, missed: vec![] });
    let failed = world.journal.of::<Failed>();
    assert_eq!(failed.len(), failures as usize);
    let delays: Vec<i64> = failed.iter().map(|failed| failed.restart_in.micros()).collect();
    assert!(delays[..6].windows(2).all(|pair| pair[0] < pair[1]), "{delays:?}");
    assert!(delays.iter().all(|delay| (800_000..=60_000_000).contains(delay)), "{delays:?}");
    assert_eq!(world.journal.of::<Started>().len(), failures as usize + 1);
    // Every instant of the hour at which the engine was away is a blind one.
    let blind = world.journal.of::<Blind>();
    assert!(blind.iter().all(|blind| blind.engine == "guard" && blind.cause == BlindCause::Restart));
    let away: Spans = blind.iter().map(|blind| blind.interval).collect();
    assert!(away.length() >= Span::from_secs(3590), "{}", away.length());
    let stopped = Stopped { engine: "watch".to_owned(), in_time: true };
    assert!(world.journal.of::<Stopped>().contains(&stopped));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_while_clears_the_count() {
    let world = World::at(START);
    let supervisor = supervisor(
        &world,
        [engine("watch", 4, |context: Context| async move {
            for _ in 0..130 {
                context.progress.tick();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(EngineError::new("the disk is gone"))
        })],
    );
    let board = supervisor.board();
    let running = start(&world, supervisor);
    tokio::time::sleep(HOUR).await;
    assert_eq!((board.read()[0].failures, board.read()[0].attempts), (1, 28));
    assert_eq!(board.read()[0].last_error.as_deref(), Some("the disk is gone"));
    stop(&world, running).await;
    assert!(world.journal.of::<Failed>().iter().all(|failed| failed.restart_in <= Span::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn silence_and_an_early_end_are_failures() {
    let world = World::at(START);
    let frozen = engine("watch", 4, |context: Context| async move {
        for _ in 0..100 {
            context.progress.tick();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending().await
    });
    let supervisor = supervisor(&world, [frozen, engine("guard", 4, |_| async { Ok(()) })]);
    let board = supervisor.board();
    let running = start(&world, supervisor);
    tokio::time::sleep(Duration::from_millis(90_500)).await;
    assert_eq!(board.read()[0].state, EngineState::Running);
    tokio::time::sleep(Duration::from_secs(30)).await;
    stop(&world, running).await;

    let failed = world.journal.of::<Failed>();
    let frozen: Vec<_> = failed.iter().filter(|failed| failed.engine == "watch").collect();
    assert_eq!(frozen.len(), 1, "{frozen:?}");
    assert_eq!(frozen[0].reason, "frozen: no sign of life for 10 s");
    assert!(failed.iter().any(|failed| failed.engine == "guard" && failed.reason == "it ended without being told to"));
    let blind = world.journal.of::<Blind>();
    let blind = blind.iter().find(|blind| blind.engine == "watch").expect("a blind interval");
    assert_eq!(blind.cause, BlindCause::Frozen);
    // From the last sign of life, seen at the next check, to the restart.
    let from = blind.interval.start.since(START);
    assert!((99..=101).contains(&from.secs()), "{from}");
    assert!((10..=13).contains(&blind.interval.length().secs()), "{}", blind.interval.length());
}

/// Promise AV-1 rests on it: an observer that was suspended is no observer that failed.
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_blames_nobody() {
    let world = World::at(START);
    let supervisor = supervisor(&world, [healthy_engine("watch", 4)]);
    let running = start(&world, supervisor);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // As SIGSTOP does: every timer is five minutes late when the process goes on.
    tokio::time::advance(Duration::from_mins(5)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    stop(&world, running).await;
    assert_eq!(world.journal.of::<Failed>(), []);
}

#[tokio::test(start_paused = true)]
async fn the_highest_order_stops_first_and_a_deaf_engine_stops_nobody_else() {
    let world = World::at(START);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noting = |name: &'static str, stop_order| {
        let order = order.clone();
        engine(name, stop_order, move |context: Context| {
            let order = order.clone();
            async move {
                let ended = healthy(context, Arc::default()).await;
                order.lock().expect("not poisoned").push(name);
                ended
            }
        })
    };
    let deaf = engine("guard", 4, |context: Context| async move {
        loop {
            context.progress.tick();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let failing = engine("drill", 5, |_| async { Err(EngineError::new("no safety lever")) });
    let supervisor = supervisor(&world, [noting("journal", 1), noting("watch", 4), deaf, noting("pages", 5), failing])
        .stop_deadline(Span::from_secs(3));
    let board = supervisor.board();
    let running = start(&world, supervisor);
    tokio::time::sleep(Duration::from_secs(10)).await;
    #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
    let before = tokio::time::Instant::now();
    let ended = stop(&world, running).await;

    assert_eq!(ended, Ended { failure: None, missed: vec!["guard"] });
    assert_eq!(before.elapsed(), Duration::from_secs(3), "one deadline is waited for, and only one");
    assert_eq!(*order.lock().expect("not poisoned"), ["pages", "watch", "journal"]);
    let stopped: Vec<_> = world.journal.of::<Stopped>().into_iter().map(|s| (s.engine, s.in_time)).collect();
    let expected = [("pages", true), ("drill", true), ("watch", true), ("guard", false), ("journal", true)];
    assert_eq!(stopped, expected.map(|(name, in_time)| (name.to_owned(), in_time)));
    assert!(board.read().iter().all(|health| health.state == EngineState::Stopped), "{:?}", board.read());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_nobody_can_do_without_stops_the_process() {
    let world = World::at(START);
    let vital = engine("judge", 2, |context: Context| async move {
        context.progress.tick();
        tokio::time::sleep(Duration::from_secs(5)).await;
        Err(EngineError::fatal("the store is damaged"))
    });
    let supervisor = supervisor(&world, [vital, healthy_engine("watch", 4)]);
    let board = supervisor.board();
    let ended = start(&world, supervisor).await.expect("no panic");
    assert_eq!(ended.failure, Some(("judge".to_owned(), "the store is damaged".to_owned())));
    assert_eq!(ended.missed, Vec::<&str>::new());
    assert_eq!((board.read()[0].state, board.read()[1].state), (EngineState::Failed, EngineState::Stopped));
    assert_eq!(world.journal.of::<Failed>()[0].restart_in, Span::ZERO);
    assert_eq!(world.journal.of::<Stopped>(), [Stopped { engine: "watch".to_owned(), in_time: true }]);
}

#[tokio::test(start_paused = true)]
async fn ready_once_everybody_has_ticked() {
    let world = World::at(START);
    let late = engine("judge", 2, |context: Context| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        healthy(context, Arc::default()).await
    });
    let supervisor = supervisor(&world, [late, healthy_engine("watch", 4)]);
    let mut board = supervisor.board();
    let running = start(&world, supervisor);
    #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
    let before = tokio::time::Instant::now();
    assert!(!board.ready());
    board.wait_ready().await;
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    let shown = serde_json::to_value(board.read()).expect("serialises");
    assert_eq!((&shown[1]["engine"], &shown[1]["state"]), (&"watch".into(), &"running".into()));
    stop(&world, running).await;
}

/// An engine that blocks its thread can't be aborted, and a second one beside it would tell everything twice.
#[test]
fn an_engine_that_blocks_its_thread_costs_the_process() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let ended = runtime.block_on(async {
        let world = World::at(START);
        let stuck = engine("guard", 4, move |_| {
            let blocked = blocked.clone();
            async move {
                // Until the test lets go of it.
                let waited = blocked.lock().expect("one attempt only").recv();
                Err(EngineError::new(format!("{waited:?}")))
            }
        });
        let context = world.context("paris".parse().expect("a name")).expect("a network");
        let stuck = Arc::new(Impatient(stuck));
        tokio::spawn(Supervisor::new(context).add(stuck).run(world.stop.clone())).await.expect("no panic")
    });
    drop(release);
    let (engine, reason) = ended.failure.expect("a failure");
    assert_eq!(
        (engine.as_str(), reason.as_str()),
        ("guard", "frozen: no sign of life for 1 s, and it blocks its thread")
    );
}

/// The same engine with the shortest patience.
struct Impatient(Puppet);

impl Engine for Impatient {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn stop_order(&self) -> u8 {
        self.0.stop_order
    }

    fn patience(&self) -> Span {
        Span::from_secs(1)
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        self.0.run(context)
    }
}
