//! Detection of steps of the wall clock, and of times in which the process stood still.
//!
//! **Problem.** Entries are labelled by the wall clock. When it steps, or when the machine sleeps, the labels around that
//! moment say something about the clock and nothing about the world.
//!
//! **Principle.** On Linux, the wall clock and the boot clock are slewed alike, so their difference changes by steps only.
//! It is compared with what it was after the last reported step, not a second ago, so many small steps add up. A look that
//! comes much later than it should means that nobody looked meanwhile.

use std::sync::Arc;

use event::engine::{Blind, BlindCause, ClockStepped};
use event::{Clock, Interval, Monotonic, Span, Time};

use crate::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};

/// A step up to this length is ignored: leap seconds, and clocks that are set by hand to the second.
pub const STEP_MIN: Span = Span::from_secs(2);

/// How late a look must be to count as a standstill, unless [`ClockWatch::with_lateness_max`] says otherwise. A busy machine
/// is late by less.
const LATENESS_MAX: Span = Span::from_secs(5);

/// A finding of one look at the clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// The wall clock stepped by more than [`STEP_MIN`] since it was last right.
    Stepped(ClockStepped),
    /// The process did not run during this interval: it was [stopped](BlindCause::Stopped), or the machine
    /// [suspended](BlindCause::Suspended). Labelled as if the clock had not stepped meanwhile.
    StoodStill(Interval, BlindCause),
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stepped(ClockStepped { from, to }) => write!(f, "the clock stepped from {from} to {to}"),
            Self::StoodStill(Interval { start, end }, cause) => {
                let what = if *cause == BlindCause::Suspended {
                    "the machine was suspended"
                } else {
                    "the process stood still"
                };
                write!(f, "{what} from {start} to {end}")
            }
        }
    }
}

/// The values of all clocks at one look.
#[derive(Clone, Copy)]
struct ClockReading {
    wall: Time,
    monotonic: Monotonic,
    asleep: Span,
}

impl ClockReading {
    fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic(), asleep: clock.asleep() }
    }
}

/// Compares the clocks at every look.
pub struct ClockWatch {
    clock: Arc<dyn Clock>,
    every: Span,
    lateness_max: Span,
    /// Values at the first look, or after the last step.
    right: ClockReading,
    /// Values at the last look.
    last: ClockReading,
}

impl ClockWatch {
    /// A watch on `clock`, whose owner promises to look once per `every`.
    pub fn new(clock: Arc<dyn Clock>, every: Span) -> Self {
        let reading = ClockReading::of(&*clock);
        Self { clock, every, lateness_max: LATENESS_MAX, right: reading, last: reading }
    }

    /// The same with another limit: a look that is this much too late is a standstill.
    #[must_use]
    pub fn with_lateness_max(self, lateness_max: Span) -> Self {
        Self { lateness_max, ..self }
    }

    /// Compares the clocks with the last look. Both findings may be made at once: clocks are often set when a machine wakes.
    pub fn look(&mut self) -> Vec<Oddity> {
        let now = ClockReading::of(&*self.clock);
        let mut seen = Vec::new();
        let passed = now.monotonic.since(self.last.monotonic);
        if passed > self.every + self.lateness_max {
            let slept = now.asleep - self.last.asleep;
            let cause = if slept.micros() * 2 > passed.micros() { BlindCause::Suspended } else { BlindCause::Stopped };
            seen.push(Oddity::StoodStill(Interval::new(self.last.wall, self.last.wall + passed), cause));
        }
        let expected = self.right.wall + now.monotonic.since(self.right.monotonic);
        if now.wall.since(expected).micros().abs() > STEP_MIN.micros() {
            seen.push(Oddity::Stepped(ClockStepped { from: expected, to: now.wall }));
            self.right = now;
        }
        self.last = now;
        seen
    }

    /// Starts a new period after a wait for something else, which is no standstill. A step meanwhile is still found by the
    /// next look.
    pub fn resume(&mut self) {
        self.last = ClockReading::of(&*self.clock);
    }
}

/// How often the timekeeper looks.
const LOOK_EVERY: Span = Span::from_secs(1);

/// The engine name in the entry of a standstill: every engine of the process was blind.
const EVERY_ENGINE: &str = "all";

/// The engine that looks at the clocks every second and journals what it sees: steps, and standstills of two seconds or more.
pub fn timekeeper() -> impl Engine {
    Driver::new("timekeeper", 3, Timekeeper::default)
}

/// The [`timekeeper`] of an agent: an observer of its own, for the server's may run on the same host.
pub fn timekeeper_of_agent() -> impl Engine {
    Driver::new("agent-timekeeper", 3, Timekeeper::default)
}

#[derive(Default)]
struct Timekeeper {
    /// The watch; `None` before the first activation.
    watch: Option<ClockWatch>,
}

impl Reconcile for Timekeeper {
    fn every(&self) -> Span {
        LOOK_EVERY
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let start = || ClockWatch::new(context.clock.clone(), LOOK_EVERY).with_lateness_max(LOOK_EVERY);
            let watch = self.watch.get_or_insert_with(start);
            let oddities = watch.look();
            if oddities.is_empty() {
                return Ok(());
            }
            for oddity in oddities {
                match oddity {
                    Oddity::Stepped(stepped) => context.recorder.record(&stepped).await?,
                    Oddity::StoodStill(interval, cause) => {
                        let engine = EVERY_ENGINE.to_owned();
                        context.recorder.record(&Blind { engine, interval, cause }).await?
                    }
                };
            }
            // A store that took long to take these entries is no standstill.
            watch.resume();
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
