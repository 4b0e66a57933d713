use std::sync::Arc;

use event::engine::{Blind, BlindCause, ClockStepped};
use event::{Interval, Span, Time};

use super::{ClockWatch, Oddity, timekeeper};
use crate::Engine;
use crate::clock::SimClock;
use crate::sim::World;

const HOUR: Span = Span::from_secs(3600);
const SECOND: Span = Span::from_secs(1);
const START: Time = Time::from_secs(1_800_000_000);

async fn pass(span: Span) {
    tokio::time::sleep(span.to_std()).await;
}

#[tokio::test(start_paused = true)]
async fn steps_beyond_two_seconds_are_seen_once() {
    for (by, seen) in [
        (HOUR, true),
        (Span::ZERO - HOUR, true),
        (Span::from_millis(2001), true),
        (Span::from_millis(-2001), true),
        (Span::from_secs(2), false),
        (Span::from_secs(-1), false),
    ] {
        let clock = Arc::new(SimClock::starting_at(START));
        let mut watch = ClockWatch::new(clock.clone(), SECOND);
        pass(SECOND).await;
        assert_eq!(watch.look(), []);
        clock.step(by);
        pass(SECOND).await;
        let from = START + Span::from_secs(2);
        let expected = ClockStepped { from, to: from + by };
        assert_eq!(watch.look(), if seen { vec![Oddity::Stepped(expected)] } else { vec![] }, "{by}");
        pass(SECOND).await;
        assert_eq!(watch.look(), [], "{by}: told twice");
    }
}

#[tokio::test(start_paused = true)]
async fn small_steps_add_up() {
    let clock = Arc::new(SimClock::starting_at(START));
    let mut watch = ClockWatch::new(clock.clone(), SECOND);
    let mut seen = Vec::new();
    for _ in 0..3 {
        clock.step(Span::from_millis(900));
        pass(SECOND).await;
        seen.extend(watch.look());
    }
    let from = START + Span::from_secs(3);
    assert_eq!(seen, [Oddity::Stepped(ClockStepped { from, to: from + Span::from_millis(2700) })]);
}

#[tokio::test(start_paused = true)]
async fn a_standstill_is_no_step_and_both_at_once_are_both() {
    let clock = Arc::new(SimClock::starting_at(START));
    let mut watch = ClockWatch::new(clock.clone(), SECOND);
    clock.suspend(Span::from_secs(300));
    pass(SECOND).await;
    let woke = START + Span::from_secs(301);
    assert_eq!(watch.look(), [Oddity::StoodStill(Interval::new(START, woke), BlindCause::Suspended)]);

    clock.stop(Span::from_secs(300));
    clock.step(HOUR);
    let again = woke + Span::from_secs(300);
    let stepped = ClockStepped { from: again, to: again + HOUR };
    let stopped = Oddity::StoodStill(Interval::new(woke, again), BlindCause::Stopped);
    assert_eq!(watch.look(), [stopped, Oddity::Stepped(stepped)]);
    // A busy machine is late by less.
    pass(Span::from_secs(5)).await;
    assert_eq!(watch.look(), []);
    let mut strict = ClockWatch::new(clock.clone(), SECOND).with_lateness_max(SECOND);
    clock.stop(SECOND);
    assert_eq!(strict.look(), []);
    clock.stop(Span::from_secs(2) + Span::from_micros(1));
    assert_eq!(strict.look().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_timekeeper_journals_what_it_sees() {
    let world = World::at(START);
    let context = world.context("paris".parse().expect("a name")).expect("a network");
    let progress = context.progress.clone();
    let running = tokio::spawn(async move { timekeeper().run(context).await });
    pass(Span::from_millis(10_500)).await;
    world.clock.step(HOUR);
    pass(Span::from_secs(10)).await;
    world.clock.suspend(Span::from_secs(600));
    pass(Span::from_secs(10)).await;
    world.stop.cancel();
    assert!(running.await.expect("no panic").is_ok());

    assert_eq!(progress.ticks(), 32, "and one at the end");
    let stepped = world.journal.of::<ClockStepped>();
    assert_eq!(stepped.len(), 1);
    assert_eq!(stepped[0].to.since(stepped[0].from), HOUR);
    let blind = world.journal.of::<Blind>();
    let start = START + Span::from_secs(20) + HOUR;
    let interval = Interval::new(start, start + Span::from_secs(601));
    assert_eq!(blind, [Blind { engine: "all".to_owned(), interval, cause: BlindCause::Suspended }]);
}

/// The timekeeper waits for a slow journal to take its entry: it has not stood still meanwhile. A step of that time is seen
/// all the same.
#[tokio::test(start_paused = true)]
async fn waiting_for_the_journal_is_no_standstill() {
    let world = World::at(START);
    let context = world.context("paris".parse().expect("a name")).expect("a network");
    let running = tokio::spawn(async move { timekeeper().run(context).await });
    pass(Span::from_millis(10_500)).await;
    world.journal.stall(true);
    world.clock.step(HOUR);
    pass(Span::from_secs(5)).await;
    world.clock.step(Span::ZERO - HOUR);
    pass(Span::from_secs(10)).await;
    world.journal.stall(false);
    pass(Span::from_secs(30)).await;
    world.stop.cancel();
    assert!(running.await.expect("no panic").is_ok());
    assert_eq!(world.journal.of::<Blind>(), []);
    assert_eq!(world.journal.of::<ClockStepped>().len(), 2);
}
