//! The watch as an engine: real servers and the running clock; one test each for what only the task can get wrong.

use std::time::Duration;

use engine::heartbeat::{Ping, Receipt};
use engine::sim::World;
use event::Time;
use event::evidence::{Changed, Covered, State};
use policy::Document;

use super::*;
use crate::source::testing::{closed_port, plain, serve};

const UUID: &str = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";

fn config(text: &str, revision: &str) -> Arc<Config> {
    let mut document = Document::from_text("test", text);
    let observers = [policy::Observer::named("local".parse().expect("a name"))];
    let mut config = Config::of_observers(&mut document, &observers);
    assert!(!config.probes.is_empty(), "{text}");
    revision.clone_into(&mut config.revision);
    Arc::new(config)
}

fn http(name: &str, address: std::net::SocketAddr) -> String {
    format!("[[probe.http]]\nname = \"{name}\"\nservice = \"shop\"\nurl = \"http://{address}/\"\nevery = \"1 s\"\n")
}

/// Waits until it holds, for ten seconds of the running clock at most.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not: {what}");
}

struct Running {
    world: World,
    figures: Arc<Figures>,
    pings: Pings,
    config: watch::Sender<Arc<Config>>,
    task: tokio::task::JoinHandle<Result<(), EngineError>>,
}

fn start(world: World, first: Arc<Config>) -> Running {
    let (config, receiver) = watch::channel(first);
    let pings = Pings::new();
    let watch = Watch::new(receiver, pings.clone(), world.samples.clone(), world.journal.clone());
    let figures = watch.figures();
    let context = world.context_with("garant".parse().expect("a name"), plain());
    let task = tokio::spawn(async move { watch.run(context).await });
    Running { world, figures, pings, config, task }
}

impl Running {
    fn states(&self, probe: &str) -> Vec<State> {
        let changes = self.world.journal.of::<Changed>();
        changes.iter().filter(|changed| changed.probe.as_str() == probe).map(|changed| changed.state).collect()
    }

    async fn stop(self) -> World {
        self.world.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it stops in time");
        ended.expect("no panic").expect("no error");
        self.world
    }
}

/// AV-1: from a real server to the journal, through a policy change, to the last record at the end.
#[tokio::test]
async fn a_site_is_watched_from_start_to_stop() {
    let ok = serve(None, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let closed = closed_port().await;
    let first = config(&format!("{}{}", http("front", ok), http("api", closed)), "r1");
    let running = start(World::at(Time::from_secs(1_800_000_000)), first);
    until("front is up and api is down", || {
        running.states("front") == [State::Up] && running.states("api") == [State::Down]
    })
    .await;
    let standings = running.figures.standings();
    assert_eq!(standings.len(), 2);
    assert!(standings.iter().any(|(_, standing)| standing.text.contains("refuses the connection")), "{standings:?}");

    let second = config(&format!("{}{}", http("front", ok), http("new", ok)), "r2");
    running.config.send(second).expect("it listens");
    until("new is up", || running.states("new") == [State::Up]).await;
    assert_eq!(running.states("front"), [State::Up], "its state went on");
    assert!(!running.world.samples.all().is_empty());

    let world = running.stop().await;
    let coverage = world.journal.of::<Covered>();
    let revisions: Vec<&str> = coverage.iter().map(|record| record.revision.as_str()).collect();
    assert_eq!((revisions.first(), revisions.last()), (Some(&"r1"), Some(&"r2")), "partial minutes are told too");
    for event in world.journal.events() {
        assert_eq!(event.observer.as_str(), "local.watch", "seen by the observer, not by the process");
        let body = event.body.get();
        assert!(!event.coarse.starts_with("watch.") || !body.contains("127.0.0.1"), "public: {body}");
    }
}

/// A ping is acknowledged once it is in the journal, refused while nothing can be journaled, and remembered by the next
/// run.
#[tokio::test]
async fn heartbeats_are_heard_and_remembered() {
    let text = format!(
        "[[probe.heartbeat]]\nname = \"job\"\nservice = \"shop\"\nuuid = \"{UUID}\"\nevery = \"10 s\"\ngrace = \"1 s\"\n"
    );
    let running = start(World::at(Time::from_secs(1_800_000_000)), config(&text, "r1"));
    until("the watch listens", || running.figures.counts().lanes == 1).await;
    let ping = |uuid: &str, world: &World| Ping {
        uuid: uuid.to_owned(),
        ping: engine::heartbeat::Said::Success,
        run: None,
        at: world.now(),
        body_bytes: 0,
    };
    assert_eq!(running.pings.deliver(ping(UUID, &running.world)).await, Receipt::Known);
    assert_eq!(running.pings.deliver(ping("0", &running.world)).await, Receipt::Unknown);
    assert_eq!(running.world.journal.of::<Succeeded>().len(), 1, "in the journal before the receipt");
    until("the job is up", || running.states("job") == [State::Up]).await;

    // Each ping that is acknowledged is an entry, whatever came before it. A flood is refused, and takes no room from
    // another message.
    let mut receipts = Vec::new();
    for _ in 0..100 {
        receipts.push(running.pings.deliver(ping(UUID, &running.world)).await);
    }
    let acknowledged = receipts.iter().filter(|receipt| **receipt == Receipt::Known).count();
    assert!(acknowledged >= 19 && receipts.contains(&Receipt::TooMany), "{receipts:?}");
    assert_eq!(running.world.journal.of::<Succeeded>().len(), 1 + acknowledged, "each is an entry, and no other");
    for said in [Said::Start, Said::Fail] {
        let ping = Ping { ping: said, ..ping(UUID, &running.world) };
        assert_eq!(running.pings.deliver(ping).await, Receipt::Known, "{said:?}");
    }
    let pinged: Vec<Said> = running.world.journal.of::<Pinged>().iter().map(|pinged| pinged.ping).collect();
    assert_eq!(pinged, [Said::Start, Said::Fail]);

    running.world.journal.refuse(Some(store::StoreError::Read { what: "a test", reason: "refused".to_owned() }));
    let fail = Ping { ping: Said::Fail, ..ping(UUID, &running.world) };
    assert_eq!(running.pings.deliver(fail).await, Receipt::Busy, "200 OK is a promise");
    running.world.journal.refuse(None);
    let world = running.stop().await;

    // The next run knows what the last one heard, and that it is too long ago.
    let running = start(world.restarted(Span::from_secs(60)), config(&text, "r1"));
    until("the job is down", || running.states("job").last() == Some(&State::Down)).await;
    let world = running.stop().await;
    // And for how long nobody looked: from the last record to the start.
    let records = world.journal.of::<Covered>();
    let blind: Vec<_> = world.journal.of::<event::engine::Blind>().into_iter().map(|b| (b.cause, b.interval)).collect();
    let [(event::engine::BlindCause::Restart, restart)] = blind[..] else { panic!("{blind:?}") };
    assert!(restart.length() >= Span::from_secs(60), "{restart:?}");
    assert!(records.iter().any(|record| record.interval.end == restart.start), "{records:?}");
    assert!(records.iter().any(|record| record.interval.start == restart.end), "{records:?}");
}

/// The wall clock of the machine steps while everything runs: told, and no alarm.
#[tokio::test]
async fn a_step_of_the_clock_is_journaled() {
    let ok = serve(None, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let running = start(World::at(Time::from_secs(1_800_000_000)), config(&http("front", ok), "r1"));
    until("front is up", || running.states("front") == [State::Up]).await;
    running.world.clock.step(Span::from_secs(-3600));
    until("its state is told again", || running.states("front") == [State::Up, State::Up]).await;
    let steps = running.world.journal.of::<event::engine::ClockStepped>();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].to.since(steps[0].from).secs(), -3600);
    running.stop().await;
}

/// The machine sleeps for five minutes: nobody observed them, and nothing is called down.
#[tokio::test]
async fn a_suspended_machine_leaves_a_hole() {
    let ok = serve(None, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let asleep = Time::from_secs(1_800_000_000);
    let running = start(World::at(asleep), config(&http("front", ok), "r1"));
    until("front is up", || running.states("front") == [State::Up]).await;
    let before = running.figures.counts().samples[0];
    running.world.clock.suspend(Span::from_secs(300));
    until("it is asked again", || running.figures.counts().samples[0] > before + 1).await;
    let world = running.stop().await;
    let states: Vec<State> = world.journal.of::<Changed>().iter().map(|changed| changed.state).collect();
    assert_eq!(states, [State::Up], "its state went on");
    let hole = event::Interval::new(asleep + Span::from_secs(15), asleep + Span::from_secs(300));
    for record in world.journal.of::<Covered>() {
        assert!(record.interval.intersect(hole).is_empty(), "{record:?}");
    }
}
