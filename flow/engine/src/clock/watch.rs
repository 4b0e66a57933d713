//! Noticing that a clock has stepped, or that everything has stood still.
//!
//! **Problem.** Entries are labelled by the wall clock. When it steps, or when the machine sleeps, the labels around that
//! moment say something about the clock and nothing about the world.
//!
//! **Principle.** On Linux, the wall clock and the boot clock are slewed alike, so their difference changes by steps only.
//! It is compared with what it was after the last reported step, not a second ago, so many small steps add up. A look that
//! comes much later than it should means that nobody looked meanwhile.

use std::sync::Arc;
use std::time::Duration;

use event::engine::{Blind, BlindCause, ClockStepped};
use event::{Clock, Interval, Monotonic, Span, Time};
use tokio::time::MissedTickBehavior;

use crate::{BoxFuture, Context, Engine, EngineError};

/// A step up to this length is ignored: leap seconds, and clocks that are set by hand to the second.
pub const STEP_MIN: Span = Span::from_secs(2);

/// How much too late a look must be to count as having stood still. A busy machine is late by less.
const STANDSTILL_MIN: Span = Span::from_secs(5);

/// What a look at the clocks showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// The wall clock stepped by more than [`STEP_MIN`] since it was last right.
    Stepped(ClockStepped),
    /// Nobody looked during this interval: the process or the machine stood still. Labelled as if the clock had not
    /// stepped meanwhile.
    StoodStill(Interval),
}

/// Compares the two clocks at every look.
pub struct ClockWatch {
    clock: Arc<dyn Clock>,
    every: Span,
    /// Readings at the first look, or after the last step.
    right: (Time, Monotonic),
    /// Readings at the last look.
    last: (Time, Monotonic),
}

impl ClockWatch {
    /// Starts to watch `clock`, with a look promised `every` so often.
    pub fn new(clock: Arc<dyn Clock>, every: Span) -> Self {
        let reading = (clock.now(), clock.monotonic());
        Self { clock, every, right: reading, last: reading }
    }

    /// Looks. Both oddities may be seen at once: clocks are often set when a machine wakes.
    pub fn look(&mut self) -> Vec<Oddity> {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let mut seen = Vec::new();
        let passed = monotonic.since(self.last.1);
        if passed > self.every + STANDSTILL_MIN {
            seen.push(Oddity::StoodStill(Interval::new(self.last.0, self.last.0 + passed)));
        }
        let expected = self.right.0 + monotonic.since(self.right.1);
        let off = now.since(expected);
        if off.micros().abs() > STEP_MIN.micros() {
            seen.push(Oddity::Stepped(ClockStepped { from: expected, to: now }));
            self.right = (now, monotonic);
        }
        self.last = (now, monotonic);
        seen
    }

    /// Goes on after something else was waited for: that nobody looked meanwhile is no standstill. A step is still seen by
    /// the next look.
    pub fn resume(&mut self) {
        self.last = (self.clock.now(), self.clock.monotonic());
    }
}

/// The engine that looks at the clocks every second and journals what it sees.
#[derive(Clone, Copy, Default, Debug)]
pub struct Timekeeper;

/// The name under which a standstill is journaled: it blinded every engine of the process.
const EVERY_ENGINE: &str = "all";

impl Engine for Timekeeper {
    fn name(&self) -> &'static str {
        "timekeeper"
    }

    fn floor(&self) -> u8 {
        3
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let every = Span::from_secs(1);
            let mut watch = ClockWatch::new(context.clock.clone(), every);
            let mut turns = tokio::time::interval(Duration::from_secs(1));
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = context.stop.cancelled() => return Ok(()),
                    _ = turns.tick() => {}
                }
                context.progress.tick();
                let oddities = watch.look();
                if oddities.is_empty() {
                    continue;
                }
                for oddity in oddities {
                    match oddity {
                        Oddity::Stepped(stepped) => context.recorder.record(&stepped).await?,
                        Oddity::StoodStill(interval) => {
                            let engine = EVERY_ENGINE.to_owned();
                            context.recorder.record(&Blind { engine, interval, cause: BlindCause::Suspended }).await?
                        }
                    };
                }
                // A store that took its time over these entries is not a process that stood still.
                watch.resume();
            }
        })
    }
}

#[cfg(test)]
mod tests;
