use std::time::Duration;

use event::engine::{Blind, BlindCause, Started};
use event::{Interval, Span, Time};
use store::StoreError;

use super::{RecordError, Recorded, Recorder, SPOOL_EVENTS_MAX};
use crate::sim::{MemoryJournal, World};

const START: Time = Time::from_secs(1_800_000_000);

fn full() -> StoreError {
    StoreError::Full { since: START, reason: "no space left on device".to_owned() }
}

fn started(attempt: u32) -> Started {
    Started { engine: "watch".to_owned(), attempt }
}

fn attempts(journal: &MemoryJournal) -> Vec<u32> {
    journal.of::<Started>().iter().map(|started| started.attempt).collect()
}

fn world() -> (World, Recorder) {
    let world = World::at(START);
    let recorder = world.recorder("paris".parse().expect("a name"));
    (world, recorder)
}

#[tokio::test(start_paused = true)]
async fn each_observer_counts_for_itself() {
    let (world, paris) = world();
    let lyon = paris.for_observer("lyon".parse().expect("a name"));
    for (recorder, place) in [(&paris, 0), (&lyon, 1), (&paris, 2), (&paris.for_observer(lyon.observer().clone()), 3)] {
        let recorded = recorder.record(&started(1)).await.expect("recorded");
        assert_eq!(recorded, Recorded::Logged(vec![place]));
    }
    let seen: Vec<_> = world.journal.events().iter().map(|e| (e.observer.to_string(), e.sequence)).collect();
    let expected = [("paris", 0), ("lyon", 0), ("paris", 1), ("lyon", 1)];
    assert_eq!(seen, expected.map(|(observer, sequence)| (observer.to_owned(), sequence)));
}

#[tokio::test(start_paused = true)]
async fn what_a_full_disk_refused_is_replayed_in_order() {
    let (world, recorder) = world();
    recorder.record(&started(0)).await.expect("recorded");
    world.journal.refuse(Some(full()));
    for attempt in 1..=1000 {
        assert_eq!(recorder.record(&started(attempt)).await.expect("kept"), Recorded::Waiting);
    }
    let health = recorder.health();
    assert_eq!((health.waiting, health.lost, health.since), (1000, 0, Some(START)));
    assert!(health.reason.expect("a reason").contains("free some space"));
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(attempts(&world.journal), [0], "still full");
    assert_eq!(recorder.flush(Span::from_secs(1)).await, 1000);

    world.journal.refuse(None);
    // One that comes meanwhile has to queue behind the others.
    assert_eq!(recorder.record(&started(1001)).await.expect("kept"), Recorded::Waiting);
    assert_eq!(recorder.flush(Span::from_secs(60)).await, 0);
    assert_eq!(attempts(&world.journal), (0..=1001).collect::<Vec<_>>());
    assert_eq!(world.journal.of::<Blind>(), [], "nothing was lost");
    assert_eq!(recorder.health(), super::SpoolHealth::default());
    assert_eq!(recorder.record(&started(1002)).await.expect("recorded"), Recorded::Logged(vec![1002]));
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_at_the_bound_is_told_per_observer() {
    let (world, paris) = world();
    let lyon = paris.for_observer("lyon".parse().expect("a name"));
    world.journal.refuse(Some(full()));
    // The first ten are lost: five of each, a second apart.
    for attempt in 0..10 {
        let recorder = if attempt % 2 == 0 { &paris } else { &lyon };
        recorder.record(&started(attempt)).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let kept = 10..10 + u32::try_from(SPOOL_EVENTS_MAX).expect("small");
    for attempt in kept.clone() {
        paris.record(&started(attempt)).await.expect("kept");
    }
    assert_eq!((paris.health().waiting, paris.health().lost), (SPOOL_EVENTS_MAX, 10));

    world.journal.refuse(None);
    assert_eq!(paris.flush(Span::from_secs(60)).await, 0);
    assert_eq!(attempts(&world.journal), kept.collect::<Vec<_>>());
    let blind: Vec<_> = world
        .journal
        .events()
        .into_iter()
        .filter(|event| event.kind == "engine.blind")
        .map(|event| (event.observer.to_string(), serde_json::from_str::<Blind>(event.body.get()).expect("a body")))
        .collect();
    let gap = |from: i64| Blind {
        engine: "all".to_owned(),
        interval: Interval::new(
            START + Span::from_secs(from),
            START + Span::from_secs(from + 8) + Span::from_micros(1),
        ),
        cause: BlindCause::Storage,
    };
    assert_eq!(blind, [("lyon".to_owned(), gap(1)), ("paris".to_owned(), gap(0))]);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_writer_loses_nothing_and_doubles_nothing() {
    let (world, recorder) = world();
    world.journal.stall(true);
    let writer = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.record(&started(1)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    writer.abort();
    assert!(writer.await.is_err());
    assert_eq!(recorder.health().waiting, 1, "nobody knows whether it arrived");
    // A journal that does not answer is one that refuses: nobody waits for it for ever.
    assert_eq!(recorder.record(&started(2)).await.expect("kept"), Recorded::Waiting);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(recorder.health().waiting, 2);
    world.journal.stall(false);
    assert_eq!(recorder.flush(Span::from_secs(60)).await, 0);
    assert_eq!(attempts(&world.journal), [1, 2], "each once");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_does_not_answer_is_not_waited_for() {
    let (world, recorder) = world();
    world.journal.stall(true);
    #[expect(clippy::disallowed_methods, reason = "the paused clock of tokio is the clock of this test")]
    let before = tokio::time::Instant::now();
    assert_eq!(recorder.record(&started(1)).await.expect("kept"), Recorded::Waiting);
    assert_eq!(before.elapsed(), super::TAKE_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_recorded_does_not_block_the_others() {
    let (world, recorder) = world();
    let huge = Started { engine: "x".repeat(event::PAYLOAD_BYTES_MAX), attempt: 1 };
    assert!(matches!(recorder.record(&huge).await, Err(RecordError::TooLarge { kind: "engine.started", .. })));
    world.journal.refuse(Some(StoreError::TooLarge { what: "payload", size: 2, max: 1 }));
    assert!(matches!(recorder.record(&started(1)).await, Err(RecordError::Refused { .. })));
    world.journal.refuse(None);
    assert_eq!(recorder.record(&started(2)).await.expect("recorded"), Recorded::Logged(vec![0]));
}

/// Aborted while the journal was about to refuse it for good, an event must not block those behind it.
#[tokio::test(start_paused = true)]
async fn an_unfit_event_in_the_queue_is_lost_alone_and_told() {
    let (world, recorder) = world();
    world.journal.refuse(Some(full()));
    for attempt in 0..10 {
        recorder.record(&started(attempt)).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.journal.choke_on(4);
    world.journal.refuse(None);
    assert_eq!(recorder.flush(Span::from_secs(60)).await, 0);
    assert_eq!(attempts(&world.journal), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!(recorder.health().lost, 1);
    let start = START + Span::from_secs(4);
    let interval = Interval::new(start, start + Span::from_micros(1));
    assert_eq!(world.journal.of::<Blind>(), [Blind { engine: "all".to_owned(), interval, cause: BlindCause::Storage }]);
}

/// What is sent together is one call of the sink and one transaction, at once or after it had to wait.
#[tokio::test(start_paused = true)]
async fn what_belongs_together_stays_together() {
    let (world, paris) = world();
    let lyon = paris.for_observer("lyon".parse().expect("a name"));
    let pair = |attempt| {
        let seal = |recorder: &Recorder, attempt| recorder.seal(&started(attempt), START).expect("sealed");
        vec![seal(&paris, attempt), seal(&lyon, attempt + 1)]
    };
    assert_eq!(paris.send(pair(0)).await.expect("recorded"), Recorded::Logged(vec![0, 1]));
    assert_eq!(paris.send(Vec::new()).await.expect("nothing to record"), Recorded::Logged(vec![]));
    // The second of the pair is unfit, so neither is there: a part of them would be worse than none.
    let unfit = pair(2);
    world.journal.choke_on(unfit[1].sequence);
    let refused = paris.send(unfit).await;
    assert!(matches!(refused, Err(RecordError::Refused { .. })), "{refused:?}");
    assert_eq!(attempts(&world.journal), [0, 1]);

    world.journal.refuse(Some(full()));
    let waiting: Vec<_> = (0..5).map(|n| pair(10 + 2 * n)).collect();
    world.journal.choke_on(waiting[2][0].sequence);
    for group in waiting {
        assert_eq!(paris.send(group).await.expect("kept"), Recorded::Waiting);
    }
    assert_eq!(paris.health().waiting, 10);
    world.journal.refuse(None);
    assert_eq!(paris.flush(Span::from_secs(60)).await, 0);
    assert_eq!(attempts(&world.journal), [0, 1, 10, 11, 12, 13, 16, 17, 18, 19]);
    assert_eq!(paris.health().lost, 2);
}

/// More than the queue takes: whole groups go, the oldest first.
#[tokio::test(start_paused = true)]
async fn at_the_bound_whole_groups_are_lost() {
    let (world, recorder) = world();
    world.journal.refuse(Some(full()));
    for group in 0..50u32 {
        let events = (0..300).map(|n| recorder.seal(&started(group * 300 + n), START).expect("sealed")).collect();
        recorder.send(events).await.expect("kept");
    }
    let kept = SPOOL_EVENTS_MAX / 300 * 300;
    assert_eq!((recorder.health().waiting, recorder.health().lost), (kept, 15_000 - kept as u64));
    world.journal.refuse(None);
    assert_eq!(recorder.flush(Span::from_secs(60)).await, 0);
    let first = u32::try_from(15_000 - kept).expect("small");
    assert_eq!(attempts(&world.journal), (first..15_000).collect::<Vec<_>>());
}
