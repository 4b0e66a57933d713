//! The engine on a simulated clock, with faults that are drawn: crashes at any await, channels that hang, refuse, fail or lose the
//! answer, a storage that takes nothing, clocks that step. Nothing is lost, hardly anything comes twice. WA-4.
//!
//! `scripts/campaign respond N` draws another seed, and N trials.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drawn::Draws;
use engine::clock::SimClock;
use engine::sim::World;
use engine::{CancellationToken, Clock as _, Context, Engine as _};
use event::evidence::{Changed, Covered, State as ProbeState};
use event::policy::{Agreement, Applied, Probe};
use event::{Body, BootId, Interval, Observed, ObserverId, ProbeId, ServiceId, Span, Time};
use policy::{Document, Nouns, Part as _};
use store::{Append as _, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::outside::{Arrived, Fake, Outside, lock};
use self::plan::{Act, plan};
use super::Respond;
use crate::act::Message;
use crate::config::{Config, FakeChannels};

mod outside;
mod plan;

const START: Time = Time::from_secs(1_796_727_600);
/// Seconds in which faults happen.
const FAULTS: i64 = 1500;
/// Seconds after that, in which everything arrives that is owed.
const AFTER: i64 = 4500;
/// Seconds after which the last of what began meanwhile is over.
const LONGEST: i64 = 4300;
/// Shortest outage that must be told, in seconds.
const LASTS: i64 = 2;

const SERVICES: [(&str, &str); 7] = [
    ("shop", "strasbourg"),
    ("blog", "strasbourg"),
    ("wiki", "strasbourg"),
    ("database", "strasbourg"),
    ("mail", "gravelines"),
    ("chat", "gravelines"),
    ("lonely", ""),
];
const CHANNELS: [&str; 4] = ["Léa mail", "Léa sms", "Max mail", "Noé mail"];

fn policy() -> String {
    let mut text = r#"
time_zone = "Europe/Paris"
[respond]
weekly_test = "never"
[[person]]
name = "Léa"
channel = [{ mail = "lea@shop.example" }, { sms = "+33600000000" }]
[[person]]
name = "Max"
channel = [{ mail = "max@shop.example" }]
[[person]]
name = "Noé"
channel = [{ mail = "noe@shop.example" }]
[[escalation]]
name = "default"
step = [{ person = "Léa" }, { person = "Max", after = "5 min" }]
[mail]
from = "garant@shop.example"
server = "127.0.0.1"
security = "none"
[sms]
gateway = "kannel"
url = "http://127.0.0.1:13013/cgi-bin/sendsms"
username = "u"
password = "p"
[[region]]
name = "strasbourg"
provider = "ovh"
[[region]]
name = "gravelines"
provider = "ovh"
"#
    .to_owned();
    for (service, region) in SERVICES {
        let place = if region.is_empty() { String::new() } else { format!("region = \"{region}\"\n") };
        let needs = if service == "shop" { "depends_on = [\"database\"]\n" } else { "" };
        write!(text, "[[service]]\nname = \"{service}\"\n{place}{needs}").expect("a text");
    }
    text
}

fn service(index: usize) -> ServiceId {
    SERVICES[index].0.parse().expect("a name")
}

fn probe(index: usize) -> ProbeId {
    format!("{}-answers", SERVICES[index].0).parse().expect("a name")
}

fn observer() -> ObserverId {
    "local.watch".parse().expect("a name")
}

fn applied() -> Applied {
    let probe = |index| Probe {
        id: probe(index),
        kind: "http".into(),
        service: service(index),
        every: Span::from_secs(10),
        observers: [observer()].into(),
        agreement: Agreement::Majority,
    };
    Applied {
        revision: "0123456789abcdef".to_owned(),
        services: Vec::new(),
        probes: (0..SERVICES.len()).map(probe).collect(),
        findings: Vec::new(),
        maintenance: Vec::new(),
        promises: Vec::new(),
    }
}

type Task = JoinHandle<Result<(), engine::EngineError>>;

/// A trial under way.
struct Trial {
    world: World,
    context: Context,
    outside: Arc<Outside>,
    config: watch::Sender<Arc<Config>>,
    applied: watch::Sender<Arc<Applied>>,
    engine: Option<(Arc<Respond>, Task)>,
    /// The second from which the process runs again.
    runs_from: i64,
    /// Evidence that the journal has not taken yet.
    evidence: Vec<Observed>,
    sequence: u64,
    /// How many failures each service is under.
    failures: [u32; SERVICES.len()],
    begun: [Time; SERVICES.len()],
    outages: Vec<(usize, Time, Time)>,
}

impl Trial {
    fn new(seed: u64, context: Context) -> Self {
        let outside = Arc::new(Outside {
            truth: SimClock::starting_at(START),
            modes: Mutex::default(),
            arrived: Mutex::default(),
            draws: Mutex::new(Draws::of(seed ^ 0xaaaa)),
        });
        let mut document = Document::from_text("garant.toml", &policy());
        let nouns = Nouns::read(&mut document);
        let mut config = Config::read(&mut document, &nouns);
        let channels = Arc::clone(&outside);
        config.fake = Some(FakeChannels(Arc::new(move |person, kind| {
            let to = format!("{person} {kind}");
            Arc::new(Fake { kind, to, outside: Arc::clone(&channels) })
        })));
        Self {
            world: World::at(START),
            context,
            outside,
            config: watch::Sender::new(Arc::new(config)),
            applied: watch::Sender::new(Arc::new(applied())),
            engine: None,
            runs_from: 0,
            evidence: Vec::new(),
            sequence: 0,
            failures: [0; SERVICES.len()],
            begun: [START; SERVICES.len()],
            outages: Vec::new(),
        }
    }

    fn start(&mut self) {
        let journal = &self.world.journal;
        let respond = Arc::new(Respond::new(
            self.config.subscribe(),
            self.applied.subscribe(),
            watch::Sender::default().subscribe(),
            watch::Sender::default().subscribe(),
            journal.clone(),
            journal.clone(),
        ));
        self.world.stop = CancellationToken::new();
        let context = Context {
            clock: self.world.clock.clone(),
            recorder: self.world.recorder("garant".parse().expect("a name")),
            stop: self.world.stop.clone(),
            ..self.context.clone()
        };
        let runs = Arc::clone(&respond);
        self.engine = Some((respond, tokio::spawn(async move { runs.run(context).await })));
    }

    fn say<B: Body>(&mut self, body: &B) {
        let now = self.world.now();
        let said =
            Observed::new(body, observer(), BootId::from_bytes([9; 16]), self.sequence, now).expect("it serialises");
        self.sequence += 1;
        self.evidence.push(said);
    }

    fn changed(&mut self, index: usize, state: ProbeState) {
        let now = self.world.now();
        self.say(&Changed { probe: probe(index), service: service(index), state, after: now, by: now });
    }

    async fn ended(&mut self) {
        let Some((_, task)) = self.engine.take() else { return };
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("the engine failed: {error}"),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }

    async fn act(&mut self, act: Act, second: i64, draws: &mut Draws) {
        match act {
            Act::Down(index) => {
                self.failures[index] += 1;
                if self.failures[index] == 1 {
                    self.begun[index] = self.outside.truth.now();
                    self.changed(index, ProbeState::Down);
                }
            }
            Act::Up(index) => {
                self.failures[index] -= 1;
                if self.failures[index] == 0 {
                    self.outages.push((index, self.begun[index], self.outside.truth.now()));
                    self.changed(index, ProbeState::Up);
                }
            }
            Act::Channel(channel, mode) => drop(lock(&self.outside.modes).insert(CHANNELS[channel].to_owned(), mode)),
            Act::Full(full) => {
                let error = StoreError::Full { since: self.world.now(), reason: "no space left on device".to_owned() };
                self.world.journal.refuse(full.then_some(error));
            }
            Act::Crash(down, wrong) => {
                tokio::time::sleep(Duration::from_millis(draws.below(1500))).await;
                for _ in 0..draws.below(60_u8) {
                    tokio::task::yield_now().await;
                }
                if let Some((_, task)) = &self.engine {
                    task.abort();
                }
                self.ended().await;
                let world = std::mem::replace(&mut self.world, World::at(START));
                self.world = world.restarted(Span::from_secs(wrong));
                self.runs_from = second + down;
            }
            Act::Stop(down) => {
                self.world.stop.cancel();
                self.ended().await;
                let world = std::mem::replace(&mut self.world, World::at(START));
                self.world = world.restarted(Span::ZERO);
                self.runs_from = second + down;
            }
            Act::Step(by) => self.world.clock.step(Span::from_secs(by)),
            Act::Acknowledge => {
                let Some((respond, _)) = &self.engine else { return };
                let (door, at) = (respond.door(), self.world.now());
                tokio::spawn(async move { acknowledge(&door, at).await });
            }
        }
    }

    /// One second.
    async fn second(&mut self, second: i64) {
        if second % 60 == 59 {
            let now = self.world.now();
            let interval = Interval::new(now - Span::from_secs(60), now);
            let revision = "0123456789abcdef".to_owned();
            self.say(&Covered { interval, revision, every: None, gaps: Vec::new() });
        }
        if !self.evidence.is_empty() && self.world.journal.append(self.evidence.clone()).await.is_ok() {
            self.evidence.clear();
        }
        if self.engine.as_ref().is_some_and(|(_, task)| task.is_finished()) {
            self.ended().await;
        }
        if self.engine.is_none() && second >= self.runs_from {
            self.start();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn acknowledge(door: &crate::door::RespondDoor, at: Time) {
    use engine::door::{Call, CallBody, Door as _, Method, Reply};
    let all = Call::new(Method::Get, crate::door::ALERTS, &[], at);
    let Reply::Json(200, body) = door.call(all).await else { return };
    let alerts: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("an array");
    let Some(id) = alerts.first().and_then(|alert| alert["id"].as_u64()) else { return };
    let mut call = Call::new(Method::Post, crate::door::ALERTS, &[&id.to_string(), "ack"], at);
    call.body = CallBody::Json(br#"{"by":"Max"}"#.as_slice().into());
    let _ = door.call(call).await;
}

/// Messages that arrived, and those of them that came again.
#[derive(Clone, Copy, Default, Debug)]
struct Counted {
    messages: usize,
    twice: usize,
    outages: usize,
}

/// What a message tells of each alert: its number, its services, whether it is over.
fn told(message: &Message) -> Vec<(u64, BTreeSet<String>, bool)> {
    let one = |fields: &serde_json::Value| {
        let services = fields["scope"]["services"].as_array().into_iter().flatten();
        let services = services.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        (fields["id"].as_u64().unwrap_or_default(), services, fields["what"] == "resolved")
    };
    match message.fields["alerts"].as_array() {
        Some(all) => all.iter().map(one).collect(),
        None => vec![one(&message.fields)],
    }
}

async fn trial(seed: u64, context: Context) -> Counted {
    let mut draws = Draws::of(seed);
    let acts = plan(&mut draws);
    let mut trial = Trial::new(seed, context);
    let mut next = 0;
    for second in 0..FAULTS + LONGEST + AFTER {
        while let Some((_, act)) = acts.get(next).copied().filter(|(at, _)| *at <= second) {
            next += 1;
            trial.act(act, second, &mut draws).await;
        }
        if second == FAULTS + LONGEST {
            // The team looks after its channels: what was refused is tried again.
            assert_eq!(next, acts.len(), "all of the plan has happened");
            lock(&trial.outside.modes).clear();
            let same = Arc::clone(&trial.config.borrow());
            trial.config.send_replace(same);
        }
        trial.second(second).await;
    }
    trial.world.stop.cancel();
    trial.ended().await;
    let arrived = lock(&trial.outside.arrived).clone();
    let history = || {
        let lines = arrived.iter().map(|it| {
            let second = it.at.since(START).micros() / 1_000_000;
            format!("{second} s {}: {:?} {} {:?}", it.to, it.message.what, it.message.subject, told(&it.message))
        });
        let plan = acts.iter().map(|(at, act)| format!("{at} s {act:?}")).collect::<Vec<_>>();
        format!("seed {seed}\n{}\n{}", plan.join("\n"), lines.collect::<Vec<_>>().join("\n"))
    };
    for (index, from, to) in &trial.outages {
        let name = SERVICES[*index].0;
        let is_told =
            |it: &Arrived| it.at >= *from && told(&it.message).iter().any(|(_, services, _)| services.contains(name));
        let lasted = to.since(*from) >= Span::from_secs(LASTS);
        let second = from.since(START).micros() / 1_000_000;
        assert!(!lasted || arrived.iter().any(is_told), "the outage of {name} at {second} s is lost\n{}", history());
    }
    let mut last: BTreeMap<(&str, u64), bool> = BTreeMap::new();
    for it in &arrived {
        for (alert, _, over) in told(&it.message) {
            last.insert((&it.to, alert), over);
        }
    }
    // A process that dies while nothing can be written forgets what it has told since.
    let forgotten = |(to, alert): &(&str, u64)| {
        let first = arrived.iter().find(|it| it.to == *to && told(&it.message).iter().any(|it| it.0 == *alert));
        let second = first.map_or(0, |it| it.at.since(START).micros() / 1_000_000);
        let ends = |act: &Act| matches!(act, Act::Crash(..) | Act::Stop(_));
        let full_at = acts.iter().find(|(_, act)| *act == Act::Full(true)).map(|(at, _)| *at);
        let full_to = acts.iter().find(|(_, act)| *act == Act::Full(false)).map(|(at, _)| *at + 10);
        let (Some(from), Some(to)) = (full_at, full_to) else { return false };
        (from..to).contains(&second) && acts.iter().any(|(at, act)| ends(act) && (from..to).contains(at))
    };
    for ((to, alert), over) in last {
        assert!(over || forgotten(&(to, alert)), "the end of alert {alert} is lost for {to}\n{}", history());
    }
    let mut known = BTreeSet::new();
    let twice = arrived.iter().filter(|it| !known.insert((&it.to, &it.message.id))).count();
    Counted { messages: arrived.len(), twice, outages: trial.outages.len() }
}

/// The slice that is run with the other tests, and more by `scripts/campaign`.
#[test]
fn nothing_is_lost_and_hardly_anything_comes_twice() {
    let mut draws = Draws::from_environment();
    let trials: u64 = std::env::var("GARANT_TRIALS").map_or(50, |text| text.parse().expect("a number"));
    let mut all = Counted::default();
    let world = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    };
    let context =
        world().block_on(async { World::at(START).context("garant".parse().expect("a name")).expect("a network") });
    for _ in 0..trials {
        let one = world().block_on(trial(draws.number(), context.clone()));
        all.messages += one.messages;
        all.twice += one.twice;
        all.outages += one.outages;
    }
    let Counted { messages, twice, outages } = all;
    let line = format!("{trials} trials, {outages} outages, {messages} messages, {twice} of them twice, none lost");
    println!("{line}");
    assert!(twice * 100 <= messages, "{line}");
}
