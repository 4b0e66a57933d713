//! The decisions that the judge adds to the rules of `promise`: when to write.

use engine::sim::World;
use event::evidence::Covered;
use event::policy::{Agreement, Clause, Objective, Probe, Promise, Service, Text};
use event::{BootId, InstallationId, Observed, Ppb};

use super::*;

fn applied() -> Applied {
    let service = Service { id: "shop".parse().expect("a name"), title: Text::default() };
    Applied {
        revision: "r1".to_owned(),
        services: vec![service],
        probes: vec![],
        findings: vec![],
        maintenance: vec![],
        promises: vec![],
    }
}

/// Folds what the journal of the world holds beyond `from`, as the judge does.
fn fold(knowledge: &mut Knowledge, world: &World, from: usize) {
    for (place, event) in world.journal.events().into_iter().enumerate().skip(from) {
        let envelope = event.record(InstallationId::from_bytes([1; 16]), "shop.example/1", world.now());
        knowledge.fold(place as u64, &envelope);
    }
}

/// What a verdict is judged against is found in entries that are younger than a day, whether or not the policy changed:
/// their payloads are destroyed with their day.
#[tokio::test]
async fn the_policy_is_told_again_each_day() {
    let world = World::at(Time::from_secs(1_800_000_000));
    let context = world.context("server".parse().expect("a name")).expect("a network");
    let mut knowledge = Knowledge::new();
    write(&context, &knowledge).await.expect("written");
    assert_eq!(world.journal.events().len(), 0, "before the first policy there is none to tell");

    context.recorder.record(&applied()).await.expect("recorded");
    fold(&mut knowledge, &world, 0);
    for day in 1..=3 {
        for hour in 0..24 {
            write(&context, &knowledge).await.expect("written");
            assert_eq!(world.journal.events().len(), day, "hour {hour} of day {day}: told already");
            world.clock.step(Span::from_secs(3600));
        }
        write(&context, &knowledge).await.expect("written");
        assert_eq!(world.journal.of::<Applied>(), vec![applied(); day + 1], "the same again, after a day");
        fold(&mut knowledge, &world, day);
    }
}

const NOW: Time = Time::from_secs(1_795_388_400);

/// A promise with two windows, on a probe that nobody has asked yet.
fn policy() -> Applied {
    let text = Text { fr: "x".to_owned(), en: "x".to_owned() };
    let over = |days| Objective::Availability {
        service: "shop".parse().expect("a name"),
        at_least: Ppb::new(999_900_000),
        over: Span::from_days(days),
    };
    Applied {
        revision: "fedcba9876543210".to_owned(),
        services: vec![Service { id: "shop".parse().expect("a name"), title: text.clone() }],
        probes: vec![Probe {
            id: "shop-answers".parse().expect("a name"),
            kind: "http".to_owned(),
            service: "shop".parse().expect("a name"),
            every: Span::from_secs(10),
            observers: vec!["here".parse().expect("a name")],
            agreement: Agreement::Majority,
        }],
        findings: Vec::new(),
        maintenance: Vec::new(),
        promises: vec![Promise {
            id: "AV-1".parse().expect("a name"),
            revision: "0123456789abcdef".to_owned(),
            text,
            objectives: [1, 7].map(|days| Clause::from(&over(days))).into(),
        }],
    }
}

/// What waits is not folded, so all of it seems due again at every turn: it must not be recorded at every turn.
#[tokio::test]
async fn nothing_is_judged_into_a_journal_that_takes_nothing() {
    let world = World::at(NOW);
    let context = world.context("server".parse().expect("a name")).expect("a network");
    let mut knowledge = Knowledge::new();
    let boot = BootId::from_bytes([1; 16]);
    let declared = NOW - Span::from_days(2);
    let applied =
        Observed::new(&policy(), "server".parse().expect("a name"), boot, 0, declared).expect("it serialises");
    knowledge.fold(0, &applied.record(InstallationId::from_bytes([1; 16]), "shop.example/1", declared));

    let full = store::StoreError::Full { since: NOW, reason: "no space left on device".to_owned() };
    world.journal.refuse(Some(full));
    for _ in 0..20 {
        write(&context, &knowledge).await.expect("nothing failed");
    }
    assert_eq!(context.recorder.health().waiting, 1, "one told that the journal takes nothing");
    world.journal.refuse(None);
    assert_eq!(context.recorder.flush(Span::from_secs(5)).await, 0);
    write(&context, &knowledge).await.expect("nothing failed");
    assert_eq!(world.journal.of::<Applied>().len(), 2, "the one that waited, and the one that is due");
    assert_eq!(world.journal.of::<Verdict>().len(), 2, "one for each window");
}

/// The verdicts of the first minute have seen nothing, and say so. When the first minute is covered, the page shows its
/// figure: not a day later, and not only when the outcome changes, which takes hours at 99.99 %.
#[tokio::test]
async fn the_first_figure_is_told_at_once() {
    let world = World::at(NOW);
    let context = world.context("here".parse().expect("a name")).expect("a network");
    let mut knowledge = Knowledge::new();
    context.recorder.record(&policy()).await.expect("recorded");
    fold(&mut knowledge, &world, 0);
    let told = |world: &World| -> Vec<bool> {
        world.journal.of::<Verdict>().iter().map(|verdict| verdict.figure.is_some()).collect()
    };
    world.clock.step(Span::from_secs(50));
    write(&context, &knowledge).await.expect("written");
    fold(&mut knowledge, &world, 1);
    assert_eq!(told(&world), [false, false], "nobody has looked yet");

    let from = NOW + Span::from_secs(1);
    let by = NOW + Span::from_secs(2);
    let (probe, service) = ("shop-answers".parse().expect("a name"), "shop".parse().expect("a name"));
    let state = event::evidence::State::Up;
    let covered = Covered {
        interval: event::Interval::new(from, NOW + Span::from_secs(60)),
        revision: policy().revision,
        every: None,
        gaps: vec![],
    };
    world.clock.step(Span::from_secs(10));
    let before = world.journal.events().len();
    context
        .recorder
        .record(&event::evidence::Changed { probe, service, state, after: by, by })
        .await
        .expect("recorded");
    context.recorder.record(&covered).await.expect("recorded");
    fold(&mut knowledge, &world, before);
    for _ in 0..2 {
        let before = world.journal.events().len();
        write(&context, &knowledge).await.expect("written");
        fold(&mut knowledge, &world, before);
        assert_eq!(told(&world), [false, false, true, true], "once each");
    }
    assert!(world.journal.of::<Verdict>().iter().all(|verdict| verdict.outcome == event::promise::Outcome::Unproven));
}
