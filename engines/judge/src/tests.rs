//! Tests of what the judge adds to the rules of `promise`: when verdicts are journaled, and the saved copy.

use engine::sim::World;
use event::evidence::Covered;
use event::policy::{Agreement, Clause, Probe, Promise, Service, Text};
use event::{BootId, InstallationId, Observed, Ppb};

use super::*;
use promise::objective::{Availability, Objective};

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

/// Judges and writes, as a turn of the judge does.
async fn turn(context: &Context, knowledge: &mut Knowledge) -> Result<(), EngineError> {
    let now = context.clock.now();
    let verdicts = knowledge.judge.verdicts(now);
    write(context, knowledge, &verdicts, now).await
}

/// What a verdict is judged against is found in entries that are younger than a day, whether or not the policy changed:
/// their payloads are destroyed with their day.
#[tokio::test]
async fn the_policy_is_journaled_again_each_day() {
    let world = World::at(Time::from_secs(1_800_000_000));
    let context = world.context("server".parse().expect("a name")).expect("a network");
    let mut knowledge = Knowledge::default();
    turn(&context, &mut knowledge).await.expect("written");
    assert_eq!(world.journal.events().len(), 0, "before the first policy there is none to tell");

    context.recorder.record(&applied()).await.expect("recorded");
    fold(&mut knowledge, &world, 0);
    for day in 1..=3 {
        for hour in 0..24 {
            turn(&context, &mut knowledge).await.expect("written");
            assert_eq!(world.journal.events().len(), day, "hour {hour} of day {day}: told already");
            world.clock.step(Span::from_secs(3600));
        }
        turn(&context, &mut knowledge).await.expect("written");
        assert_eq!(world.journal.of::<Applied>(), vec![applied(); day + 1], "the same again, after a day");
        fold(&mut knowledge, &world, day);
    }
}

const NOW: Time = Time::from_secs(1_795_388_400);

/// A promise with two windows, on a probe that nobody has asked yet.
fn policy() -> Applied {
    let text = Text { fr: "x".to_owned(), en: "x".to_owned() };
    let over = |days| {
        Objective::Availability(Availability {
            service: "shop".parse().expect("a name"),
            at_least: Ppb::new(999_900_000),
            over: Span::from_days(days),
        })
    };
    Applied {
        revision: "fedcba9876543210".to_owned(),
        services: vec![Service { id: "shop".parse().expect("a name"), title: text.clone() }],
        probes: vec![Probe {
            id: "shop-answers".parse().expect("a name"),
            kind: "http".into(),
            service: "shop".parse().expect("a name"),
            every: Span::from_secs(10),
            observers: ["here".parse().expect("a name")].into(),
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
    let mut knowledge = Knowledge::default();
    let boot = BootId::from_bytes([1; 16]);
    let declared = NOW - Span::from_days(2);
    let applied =
        Observed::new(&policy(), "server".parse().expect("a name"), boot, 0, declared).expect("it serialises");
    knowledge.fold(0, &applied.record(InstallationId::from_bytes([1; 16]), "shop.example/1", declared));

    let full = store::StoreError::Full { since: NOW, reason: "no space left on device".to_owned() };
    world.journal.refuse(Some(full));
    for _ in 0..20 {
        turn(&context, &mut knowledge).await.expect("nothing failed");
    }
    assert_eq!(context.recorder.health().waiting, 3, "the policy and a verdict for each window, once");
    world.journal.refuse(None);
    assert_eq!(context.recorder.flush(Span::from_secs(5)).await, 0);
    assert_eq!(world.journal.of::<Applied>().len(), 1);
    assert_eq!(world.journal.of::<Verdict>().len(), 2);
}

/// The verdicts of the first minute have seen nothing, and say so. When the first minute is covered, the page shows its
/// figure: not a day later, and not only when the outcome changes, which takes hours at 99.99 %.
#[tokio::test]
async fn the_first_figure_is_told_at_once() {
    let world = World::at(NOW);
    let context = world.context("here".parse().expect("a name")).expect("a network");
    let mut knowledge = Knowledge::default();
    context.recorder.record(&policy()).await.expect("recorded");
    fold(&mut knowledge, &world, 0);
    let told = |world: &World| -> Vec<bool> {
        world.journal.of::<Verdict>().iter().map(|verdict| verdict.figure.is_some()).collect()
    };
    world.clock.step(Span::from_secs(50));
    turn(&context, &mut knowledge).await.expect("written");
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
        turn(&context, &mut knowledge).await.expect("written");
        fold(&mut knowledge, &world, before);
        assert_eq!(told(&world), [false, false, true, true], "once each");
    }
    assert!(world.journal.of::<Verdict>().iter().all(|verdict| verdict.outcome == event::promise::Outcome::Unproven));
}

/// The judge, running on a simulated world.
struct Running {
    world: World,
    in_effect: watch::Receiver<Arc<InEffect>>,
    task: tokio::task::JoinHandle<Result<(), EngineError>>,
}

impl Running {
    fn start(world: World) -> Self {
        let (sender, in_effect) = watch::channel(Arc::default());
        let engine = judge(world.journal.clone(), world.journal.clone(), sender);
        let context = world.context("server".parse().expect("a name")).expect("a network");
        Self { world, in_effect, task: tokio::spawn(async move { engine.run(context).await }) }
    }

    async fn stop(self) -> World {
        self.world.stop.cancel();
        self.task.await.expect("no panic").expect("it did not fail");
        self.world
    }

    fn form(world: &World) -> String {
        let rows = world.journal.rows_of("judge");
        rows.get("fold/judge").map_or_else(String::new, |head| String::from_utf8(head.clone()).expect("text"))
    }
}

/// An entry is judged when it comes, not when a clock says so; a second start goes on from the copy and opens nothing again,
/// and never anything that is for the team.
#[tokio::test(start_paused = true)]
async fn it_is_woken_by_the_journal_and_goes_on_from_its_copy() {
    let running = Running::start(World::at(NOW));
    let recorder = running.world.recorder("here".parse().expect("a name"));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    recorder.record(&event::engine::Started { engine: "x".to_owned(), attempt: 1 }).await.expect("recorded");
    recorder.record(&policy()).await.expect("recorded");
    let before = running.world.now();
    let mut in_effect = running.in_effect.clone();
    in_effect.wait_for(|in_effect| in_effect.all().count() == 2).await.expect("it runs");
    assert!(running.world.now().since(before) <= Span::from_secs(2), "{}", running.world.now().since(before));
    let opened = running.world.journal.take_opened();
    assert_eq!(opened, [1, 2, 3], "once each, and not the entry for the team");
    let world = running.stop().await;
    let form = Running::form(&world);
    assert!(form.contains(&format!("\"evaluator\":{},\"format\":8", promise::EVALUATOR)), "{form}");
    world.journal.take_opened();

    let running = Running::start(world.restarted(Span::from_secs(60)));
    let mut in_effect = running.in_effect.clone();
    in_effect.wait_for(|in_effect| in_effect.all().count() == 2).await.expect("it runs");
    let world = running.stop().await;
    assert!(world.journal.take_opened().iter().all(|place| *place > 3), "only what is new");
    assert_eq!(world.journal.of::<Verdict>().len(), 2, "nothing to say anew");
}

/// The figures that are handed over are of the last evaluation, also between two verdicts that are worth an entry, and also
/// while the journal takes nothing.
#[tokio::test(start_paused = true)]
async fn figures_are_those_of_the_last_evaluation() {
    let running = Running::start(World::at(NOW));
    running.world.recorder("here".parse().expect("a name")).record(&policy()).await.expect("recorded");
    let mut in_effect = running.in_effect.clone();
    in_effect.wait_for(|in_effect| in_effect.all().count() == 2).await.expect("it runs");
    for full in [false, true] {
        let error = store::StoreError::Full { since: NOW, reason: "no space left on device".to_owned() };
        running.world.journal.refuse(full.then_some(error));
        tokio::time::sleep(std::time::Duration::from_mins(10)).await;
        let handed_over = Arc::clone(&in_effect.borrow_and_update());
        let at = handed_over.evaluated_at().expect("evaluated");
        assert!(running.world.now().since(at) <= EVALUATE_EVERY, "{at}");
        let policy = policy();
        for number in [0, 1] {
            let now = handed_over.now(&policy.promises[0], number).expect("evaluated");
            assert_eq!(now.verdict.at, at);
            let journaled = handed_over.of(&policy.promises[0], number).expect("journaled");
            assert!(journaled.verdict.at < at && journaled.sequence > 0, "not worth an entry");
        }
    }
    running.stop().await;
}

/// A copy is a cache: one that can't be made or read costs time, never the engine.
#[tokio::test(start_paused = true)]
async fn a_copy_that_fails_is_no_failure() {
    let running = Running::start(World::at(NOW));
    running.world.recorder("here".parse().expect("a name")).record(&policy()).await.expect("recorded");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    let full = store::StoreError::Full { since: NOW, reason: "no space left on device".to_owned() };
    running.world.journal.refuse(Some(full));
    tokio::time::sleep(std::time::Duration::from_secs(700)).await;
    assert!(!running.task.is_finished());
    assert_eq!(Running::form(&running.world), "", "nothing could be saved");
    running.world.journal.refuse(None);
    tokio::time::sleep(std::time::Duration::from_secs(310)).await;
    assert_ne!(Running::form(&running.world), "");
    let world = running.stop().await;

    // Of another form, or damaged: read again from the first entry.
    let other = r#"{"evaluator":1,"format":1,"next":1,"since":0}"#;
    for (key, value) in [("fold/judge", other), ("fold/declared/00000", "{"), ("beside/00000", "{")] {
        let position = store::Rows::position(&*world.journal, "judge").await.expect("readable");
        let row = store::Row::Put { key: key.to_owned(), value: value.as_bytes().to_vec() };
        let step = store::Step { rows: vec![row], ..store::Step::new("judge", position, 1) };
        store::Consumers::step(&*world.journal, step).await.expect("made");
        let (_, knowledge) = Saved::load(world.journal.clone()).await.expect("readable");
        assert!(knowledge.is_none(), "{key}");
    }
}

/// A fold of many rows is read back as it was saved, also after a longer one.
#[tokio::test]
async fn a_long_copy_is_cut_into_rows() {
    let world = World::at(NOW);
    let (mut saved, none) = Saved::load(world.journal.clone()).await.expect("readable");
    assert!(none.is_none());
    let mut sizes = Vec::new();
    for (sequence, probes) in [(0, 2000), (1, 100), (2, 3000)] {
        saved.replace().await.expect("readable");
        let mut applied = policy();
        let probe = applied.probes[0].clone();
        let named = |n: u32| Probe { id: format!("probe-{n}").parse().expect("a name"), ..probe.clone() };
        applied.probes = (0..probes).map(named).collect();
        let mut knowledge = Knowledge::default();
        knowledge.judge.apply_policy(sequence, NOW, &applied);
        saved.save(&mut knowledge).await;
        assert_eq!(knowledge.judge.next(), sequence + 1, "it is given back");
        sizes.push(world.journal.rows_of("judge").len());
        let (again, loaded) = Saved::load(world.journal.clone()).await.expect("readable");
        let loaded = loaded.expect("a copy");
        assert_eq!(loaded.judge.policy(), Some(&applied));
        saved = again;
    }
    assert!(sizes[0] > 3 && sizes[1] < sizes[0] && sizes[2] > sizes[0], "{sizes:?}");
}

/// What one transaction does not hold takes several, and what stops in between is no copy.
#[tokio::test]
async fn a_save_of_several_steps_counts_only_whole() {
    let world = World::at(NOW);
    let (mut saved, _) = Saved::load(world.journal.clone()).await.expect("readable");
    let mut knowledge = Knowledge::default();
    knowledge.judge.apply_policy(0, NOW, &policy());
    saved.save(&mut knowledge).await;
    assert!(Saved::load(world.journal.clone()).await.expect("readable").1.is_some());

    let put = |key: &str| store::Row::Put { key: format!("fold/{key}"), value: vec![b'x'; 10] };
    let rows: Vec<_> = (0..5000).map(|n| put(&format!("tracks/00/{n:05}"))).collect();
    for (bytes_max, expected) in [(usize::MAX, 2), (10_000, 5), (1, 5000)] {
        let steps = saved::in_steps(rows.clone(), vec![put("judge")], bytes_max);
        assert_eq!(steps.len(), expected, "{bytes_max}");
        let keys: Vec<_> = steps.iter().flatten().map(store::Row::key).collect();
        assert_eq!(keys.iter().filter(|key| **key == "fold/judge").count(), 2, "removed, and written at last");
        assert_eq!(keys.last(), Some(&"fold/judge"));
        assert_eq!(keys.len(), rows.len() + 2, "nothing is left out");
        assert!(steps.iter().all(|rows| rows.len() <= store::ROWS_MAX));
    }
    let one = saved::in_steps(rows[..4000].to_vec(), vec![put("judge")], usize::MAX);
    assert_eq!((one.len(), one[0].len()), (1, 4001), "a single one removes nothing");

    let first = saved::in_steps(rows, vec![put("judge")], 10_000).swap_remove(0);
    let step = store::Step { rows: first, ..store::Step::new("judge", Some(1), 2) };
    store::Consumers::step(&*world.journal, step).await.expect("made");
    let (mut saved, knowledge) = Saved::load(world.journal.clone()).await.expect("readable");
    assert!(knowledge.is_none(), "half of a save");
    let mut knowledge = Knowledge::default();
    knowledge.judge.apply_policy(0, NOW, &policy());
    knowledge.judge.skip(7);
    saved.save(&mut knowledge).await;
    let (_, again) = Saved::load(world.journal.clone()).await.expect("readable");
    assert_eq!(again.expect("a copy").judge.policy(), Some(&policy()));
    assert!(world.journal.rows_of("judge").keys().all(|key| !key.contains("tracks/00")), "the half is gone");
}
