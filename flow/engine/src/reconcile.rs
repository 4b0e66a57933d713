//! Work that is done again and again: one driver for all of it.
//!
//! **Principle.** A [`Reconcile`] looks at how things are and brings them nearer to how they should be. It is given no reason
//! for being called: the same path runs at the start, after a crash, when something changed and when nothing did. The
//! [`Driver`] owns the rest, so that no engine writes that loop anew: the period, what wakes it, the pace, the sign of life, and
//! a last turn when everything stops.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use event::Span;
use tokio::sync::watch;

use crate::{BoxFuture, Context, Engine, EngineError};

/// How often a driver ticks while it waits. Shorter than any engine's patience.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(10);

/// Periodic, idempotent work.
///
/// # Contract
///
/// * [`activate`](Self::activate) may be called at any time, any number of times, and does what is to be done *now*. An error is
///   a failure of the engine: the supervisor starts it again, with a new value.
/// * It may be aborted at any `await`, as an [`Engine`] may. The value is not used again afterwards.
/// * It ticks [`Context::progress`] in long work. While it waits, the driver does.
/// * The last activation, after [`Context::stop`] was cancelled, finishes what must not be left to the next start. It is not to
///   wait for others longer than the supervisor waits for it.
pub trait Reconcile: Send {
    /// When the next activation is due at the latest, counted from the end of the last one.
    fn every(&self) -> Span;

    /// The least time between the starts of two activations. What wakes the driver meanwhile is taken together.
    fn spacing(&self) -> Span {
        Span::ZERO
    }

    /// Brings the state nearer to what it should be.
    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// The engine that drives a [`Reconcile`]. Each attempt starts with a new one, made by the function given.
pub struct Driver<F> {
    name: &'static str,
    stop_order: u8,
    start: F,
    wakes: Vec<Box<dyn Wake>>,
}

impl<R: Reconcile, F: Fn() -> R + Send + Sync> Driver<F> {
    /// A driver with this name and [stop order](Engine::stop_order).
    pub fn new(name: &'static str, stop_order: u8, start: F) -> Self {
        Self { name, stop_order, start, wakes: Vec::new() }
    }

    /// Adds a wake-up: the driver activates also when this value changes, such as a value of the policy, or the size of the
    /// journal ([`store::Read::size_watch`]).
    #[must_use]
    pub fn woken_by<T: Send + Sync + 'static>(mut self, changes: watch::Receiver<T>) -> Self {
        self.wakes.push(Box::new(changes));
        self
    }

    async fn drive(&self, context: &Context) -> Result<(), EngineError> {
        let mut work = (self.start)();
        let mut wakes: Vec<Box<dyn Wake>> = self.wakes.iter().map(|wake| wake.copy()).collect();
        loop {
            let stopping = context.stop.is_cancelled();
            // Marked as seen before the activation, so that a change during it wakes the driver again.
            for wake in &mut wakes {
                wake.see();
            }
            let spacing = tokio::time::sleep(work.spacing().to_std());
            work.activate(context).await?;
            context.progress.tick();
            if stopping {
                return Ok(());
            }
            let every = work.every().to_std();
            let due = async {
                spacing.await;
                tokio::select! {
                    () = any_changed(&mut wakes) => {}
                    () = tokio::time::sleep(every) => {}
                }
            };
            tokio::pin!(due);
            loop {
                tokio::select! {
                    () = context.stop.cancelled() => break,
                    () = &mut due => break,
                    () = tokio::time::sleep(SIGN_OF_LIFE_EVERY) => context.progress.tick(),
                }
            }
        }
    }
}

impl<R: Reconcile, F: Fn() -> R + Send + Sync> Engine for Driver<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn stop_order(&self) -> u8 {
        self.stop_order
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move { self.drive(&context).await })
    }
}

/// A value whose changes wake a driver, of whatever type.
trait Wake: Send + Sync {
    /// A receiver of the same value, for another attempt.
    fn copy(&self) -> Box<dyn Wake>;
    /// Marks the current value as seen.
    fn see(&mut self);
    /// Waits for a value that is not marked as seen; for ever once no change can come.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

impl<T: Send + Sync + 'static> Wake for watch::Receiver<T> {
    fn copy(&self) -> Box<dyn Wake> {
        Box::new(self.clone())
    }

    fn see(&mut self) {
        self.mark_unchanged();
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if Self::changed(self).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

async fn any_changed(wakes: &mut [Box<dyn Wake>]) {
    let mut changes: Vec<_> = wakes.iter_mut().map(|wake| wake.changed()).collect();
    poll_fn(|context| {
        let changed = changes.iter_mut().any(|change| change.as_mut().poll(context).is_ready());
        if changed { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use event::Time;

    use super::*;
    use crate::sim::World;

    const START: Time = Time::from_secs(1_800_000_000);

    /// A test subject that notes when it was activated, in seconds since the start.
    #[derive(Clone)]
    struct Noting {
        activated: Arc<Mutex<Vec<i64>>>,
        every: Span,
        spacing: Span,
        takes: Span,
        /// The activation that fails.
        fails: Option<usize>,
    }

    impl Noting {
        fn every(seconds: i64) -> Self {
            let every = Span::from_secs(seconds);
            Self { activated: Arc::default(), every, spacing: Span::ZERO, takes: Span::ZERO, fails: None }
        }
    }

    impl Reconcile for Noting {
        fn every(&self) -> Span {
            self.every
        }

        fn spacing(&self) -> Span {
            self.spacing
        }

        fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
            Box::pin(async {
                let count = {
                    let mut activated = self.activated.lock().expect("not poisoned");
                    activated.push(context.clock.now().since(START).secs());
                    activated.len()
                };
                tokio::time::sleep(self.takes.to_std()).await;
                if self.fails == Some(count) { Err(EngineError::new("failed")) } else { Ok(()) }
            })
        }
    }

    struct Test {
        world: World,
        activated: Arc<Mutex<Vec<i64>>>,
        context: Context,
        task: tokio::task::JoinHandle<Result<(), EngineError>>,
    }

    impl Test {
        /// Starts a driver that activates every `every` seconds, and no more often than every `spacing`.
        fn start(every: i64, spacing: i64, takes: i64, wake: watch::Receiver<u64>) -> Self {
            let world = World::at(START);
            let context = world.context("server".parse().expect("a name")).expect("a network");
            let noting = Noting::every(every);
            let noting = Noting { spacing: Span::from_secs(spacing), takes: Span::from_secs(takes), ..noting };
            let activated = Arc::clone(&noting.activated);
            let driver = Driver::new("noting", 3, move || noting.clone()).woken_by(wake);
            let given = context.clone();
            Self { world, activated, context, task: tokio::spawn(async move { driver.run(given).await }) }
        }

        async fn at(&self, second: i64) {
            let wait = (START + Span::from_secs(second)).since(self.world.now());
            tokio::time::sleep(wait.to_std()).await;
        }

        /// Stops the driver, and returns when it activated.
        async fn stop(self) -> Vec<i64> {
            self.world.stop.cancel();
            self.task.await.expect("no panic").expect("no error");
            self.activated.lock().expect("not poisoned").clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_has_a_period_and_a_last_turn() {
        let (_wake, changes) = watch::channel(0);
        let test = Test::start(60, 0, 5, changes);
        test.at(151).await;
        let ticks = test.context.progress.ticks();
        assert!(ticks >= 12, "it shows that it lives while it waits: {ticks}");
        // The period is counted from the end of an activation.
        assert_eq!(test.stop().await, [0, 65, 130, 151]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_wake_it_no_more_often_than_it_says() {
        let (wake, changes) = watch::channel(0);
        let test = Test::start(3600, 10, 2, changes);
        for second in [100, 101, 103, 104, 105, 120, 200] {
            test.at(second).await;
            wake.send_modify(|value| *value += 1);
        }
        // At 101 during an activation, at 103 and later within the spacing: one activation for all. At 120 the spacing after
        // 110 is over.
        test.at(3000).await;
        assert_eq!(test.stop().await, [0, 100, 110, 120, 200, 3000]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_to_wake_it_any_more_is_no_wake_up() {
        let (wake, changes) = watch::channel(0);
        let test = Test::start(60, 0, 0, changes);
        test.at(30).await;
        drop(wake);
        test.at(61).await;
        assert_eq!(test.stop().await, [0, 60, 61]);
    }

    #[tokio::test(start_paused = true)]
    async fn stopped_during_an_activation_it_takes_one_more() {
        let (_wake, changes) = watch::channel(0);
        let test = Test::start(60, 0, 10, changes);
        test.at(72).await;
        assert_eq!(test.stop().await, [0, 70, 80]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_starts_anew_and_a_failure_is_one_of_the_engine() {
        let world = World::at(START);
        let context = world.context("server".parse().expect("a name")).expect("a network");
        let noting = Noting { fails: Some(2), ..Noting::every(60) };
        let activated = Arc::clone(&noting.activated);
        let driver = Driver::new("noting", 3, move || noting.clone());
        assert_eq!((driver.name(), driver.stop_order()), ("noting", 3));
        assert!(driver.run(context.clone()).await.is_err());
        let second = driver.run(context);
        assert!(tokio::time::timeout(Duration::from_secs(61), second).await.is_err(), "it goes on");
        assert_eq!(*activated.lock().expect("not poisoned"), [0, 60, 60, 120]);
    }
}
