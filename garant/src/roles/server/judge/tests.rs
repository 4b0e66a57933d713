//! The decisions that the judge adds to the rules of `promise`: when to write.

use engine::sim::World;
use event::InstallationId;
use event::policy::{Service, Text};

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
