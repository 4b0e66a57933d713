//! Both ends of the agent's socket, in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::command::Question;
use engine::door::{Access, Call, Door, Listeners, Method, Mount, Reply};
use engine::sim::World;
use engine::{BoxFuture, CancellationToken, Context, Engine, EngineError, HealthBoard, Recorder, Supervisor};
use event::policy::Applied;
use event::{Body, BootId, Kind, Span, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::spool::{DiskSpool, SpoolBounds};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::agent::{FollowedState, Link, ToldDoors};
use crate::events::{Attached, Lost};
use crate::wire::{self, Desired, FromAgent, PROTOCOL, ToAgent};
use crate::{Agent, AgentPlace, Desire, Given, Hosts, Role, Wanted};

/// An event of an engine that runs in an agent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Done {
    what: u8,
}

impl Body for Done {
    const KIND: Kind = Kind::trace("toy.done");
}

/// The agent and the server of a host, without the engines of either.
struct Host {
    folder: TempDir,
    world: World,
    spool: Arc<DiskSpool>,
    /// How the engines of the agent are doing.
    board: Option<HealthBoard>,
    probes: Option<engine::standing::Probes>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A door that answers after a while.
struct Slow;

impl Door for Slow {
    fn mounts(&self) -> &'static [Mount] {
        &[Mount {
            prefix: "/slow",
            listeners: Listeners::Team,
            access: Access::TeamToken,
            methods: &[Method::Get],
            body_bytes_max: 0,
        }]
    }

    fn call(&self, _call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Reply::json(&1)
        })
    }
}

/// An engine that can't open what it needs, and the door at which it would answer.
struct Failing;

impl Engine for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn stop_order(&self) -> u8 {
        1
    }

    fn run(&self, _context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Err(EngineError::new("its state can't be opened")) })
    }
}

impl Door for Failing {
    fn mounts(&self) -> &'static [Mount] {
        &[Mount {
            prefix: "/failing",
            listeners: Listeners::Team,
            access: Access::TeamToken,
            methods: &[Method::Get],
            body_bytes_max: 0,
        }]
    }

    fn call(&self, _call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(std::future::pending())
    }
}

fn of_engine(text: &str) -> BTreeMap<String, Box<RawValue>> {
    [("toy".to_owned(), RawValue::from_string(text.to_owned()).expect("JSON"))].into()
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let world = World::at(Time::from_micros(1_800_000_000_000_000));
        let spool = DiskSpool::open(&folder.path().join("spool"), SpoolBounds::default(), world.clock.clone());
        Self { folder, spool: spool.expect("opens"), world, board: None, probes: None, tasks: Vec::new() }
    }

    fn state(&self) -> &Path {
        self.folder.path()
    }

    /// The agent's side begins to listen.
    fn agent(&mut self) {
        let socket = AgentPlace { state: self.state().to_owned() }.socket(&Role::AGENT);
        let listener = std::os::unix::net::UnixListener::bind(socket).expect("listens");
        listener.set_nonblocking(true).expect("a socket");
        let followed = FollowedState::load(self.state()).expect("readable");
        let board = watch::Sender::new(self.board.clone());
        let doors: ToldDoors = vec![("slow", Arc::new(Slow)), ("failing", Arc::new(Failing))];
        let link = Link::new(listener, Arc::clone(&self.spool), followed, doors, Vec::new(), board.subscribe());
        let context = self.world.context("server.link".parse().expect("a name")).expect("a context");
        self.tasks.push(tokio::spawn(async move {
            let _board = board;
            link.run(context).await.expect("it serves until it is stopped");
        }));
    }

    /// An engine of the agent records something.
    async fn done(&self, what: u8) {
        let observer = "server.toy".parse().expect("a name");
        let sink = Arc::new(Arc::clone(&self.spool));
        let recorder = Recorder::new(sink, observer, BootId::from_bytes([what; 16]), self.world.clock.clone());
        recorder.record(&Done { what }).await.expect("the spool takes it");
    }

    /// The server's side, which knows these kinds. It is killed, not stopped: its agent is this very process.
    fn server(&mut self, kinds: Vec<&'static Kind>) -> AbortHandle {
        let desire: Desire = Arc::new(|| RawValue::from_string("1".to_owned()).map(Some));
        let applied = Applied {
            revision: "1".to_owned(),
            services: vec![],
            probes: vec![],
            findings: vec![],
            maintenance: vec![],
            promises: vec![],
        };
        let applied = watch::Sender::new(Arc::new(applied));
        let hosts = Hosts::new(Given {
            role: &Role::AGENT,
            agent: Arc::new(Agent::default),
            applied: applied.subscribe(),
            also: watch::Sender::new(()).subscribe(),
            sink: self.world.journal.clone(),
            kinds,
            desires: vec![Wanted { engine: "toy", desire, capabilities: &[] }],
            figures: Vec::new(),
            place: AgentPlace { state: self.state().to_owned() },
        });
        self.probes = Some(hosts.probes());
        let mut context = self.world.context("server.hosts".parse().expect("a name")).expect("a context");
        context.stop = CancellationToken::new();
        let task = tokio::spawn(async move {
            let _policy = applied;
            hosts.run(context).await.expect("it goes on until it is killed");
        });
        let killed = task.abort_handle();
        self.tasks.push(task);
        killed
    }

    fn spooled(&self) -> u64 {
        self.spool.state().borrow().groups
    }
}

/// JO-1. A kind of a later release waits for a server that knows it, and is in the journal once. What ends again and again for one
/// reason is journaled once, not ten times a second.
#[tokio::test(start_paused = true)]
async fn an_event_of_a_kind_that_the_server_does_not_know_stays_in_the_spool() {
    let mut host = Host::new();
    host.agent();
    host.done(1).await;
    let old = host.server(vec![]);
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!((host.spooled(), host.world.journal.of::<Done>()), (1, vec![]));
    let lost = host.world.journal.of::<Lost>();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].reason.contains("`toy.done` of version 1, which this release does not know"), "{lost:?}");
    assert!(host.world.journal.of::<Attached>().len() <= 2, "one before it followed the policy, one after");
    old.abort();

    host.done(2).await;
    let new = host.server(vec![&Done::KIND]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((host.spooled(), host.world.journal.of::<Done>()), (0, vec![Done { what: 1 }, Done { what: 2 }]));
    new.abort();
    host.server(vec![&Done::KIND]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(host.world.journal.of::<Done>().len(), 2, "sent once");
}

/// An event that claims to be of another host is dropped, and what comes with it is not.
#[tokio::test(start_paused = true)]
async fn an_agent_speaks_for_its_own_host_only() {
    let mut host = Host::new();
    host.agent();
    let sink = Arc::new(Arc::clone(&host.spool));
    let observer = "elsewhere.toy".parse().expect("a name");
    let forger = Recorder::new(sink, observer, BootId::from_bytes([9; 16]), host.world.clock.clone());
    forger.record(&Done { what: 9 }).await.expect("the spool takes it");
    host.done(1).await;
    host.server(vec![&Done::KIND]);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((host.spooled(), host.world.journal.of::<Done>()), (0, vec![Done { what: 1 }]));
}

/// NH-1. An agent that could not write down what it is to do is told again.
#[tokio::test(start_paused = true)]
async fn a_state_that_is_not_followed_is_told_again() {
    let mut host = Host::new();
    let socket = AgentPlace { state: host.state().to_owned() }.socket(&Role::AGENT);
    let listener = tokio::net::UnixListener::bind(socket).expect("listens");
    host.server(vec![]);
    let (stream, _) = listener.accept().await.expect("a server");
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let said = wire::read::<ToAgent>(&mut read).await.expect("readable");
    assert!(matches!(said, Some(ToAgent::Attach { .. })), "{said:?}");
    let following = Desired { revision: 7, engines: BTreeMap::new() };
    let hello = FromAgent::Hello { protocol: PROTOCOL, version: "0.1".to_owned(), following, pid: 1 };
    wire::write(&mut write, &hello).await.expect("written");
    for (expected, refused) in
        [(8, Some("the disk is full".to_owned())), (9, Some("the disk is full".to_owned())), (10, None)]
    {
        let said = wire::read::<ToAgent>(&mut read).await.expect("readable");
        let Some(ToAgent::Desired(desired)) = said else { panic!("{said:?}") };
        assert_eq!(desired.revision, expected);
        assert!(desired.asks_for(&of_engine("1")), "{desired:?}");
        let revision = if refused.is_some() { 7 } else { expected };
        wire::write(&mut write, &FromAgent::Following { revision, refused }).await.expect("written");
    }
    let quiet = tokio::time::timeout(Duration::from_secs(20), wire::read::<ToAgent>(&mut read)).await;
    assert!(quiet.is_err(), "it follows, so it is told nothing: {quiet:?}");
}

/// A state that is lost is not one that asks for nothing: what can't be taken back waits until somebody has said so.
#[test]
fn a_state_that_is_lost_asks_for_nothing_that_can_not_be_taken_back() {
    let folder = TempDir::new().expect("a folder");
    let followed = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(folder.path().join("desired.json"), text).expect("written");
        }
        let mut toy = FollowedState::load(folder.path()).expect("readable").of_engine("toy");
        (toy.is_told(), toy.current::<u8>().expect("a number"))
    };
    assert_eq!(followed(None), (false, None));
    assert_eq!(followed(Some(r#"{"revision":3,"engines":{"toy":1}}"#)), (true, Some(1)));
    assert_eq!(followed(Some(r#"{"revision":4,"engines":{}}"#)), (true, None));
    assert_eq!(followed(Some(r#"{"revision":4,"eng"#)), (false, None));
}

/// NH-1. While the storage takes nothing, an agent that dies is missed and looked for again, and what it said last is not shown as so.
#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_while_the_storage_is_full_is_missed() {
    let mut host = Host::new();
    let socket = AgentPlace { state: host.state().to_owned() }.socket(&Role::AGENT);
    let listener = tokio::net::UnixListener::bind(socket).expect("listens");
    host.server(vec![]);
    let following = Desired { revision: 7, engines: of_engine("1") };
    let hello = FromAgent::Hello { protocol: PROTOCOL, version: "0.1".to_owned(), following, pid: 1 };
    let standing = FromAgent::Standing(wire::Standing::default());
    let attach = async || {
        let (stream, _) =
            tokio::time::timeout(Duration::from_mins(2), listener.accept()).await.expect("soon").expect("a server");
        let (read, mut write) = stream.into_split();
        for said in [&hello, &standing] {
            wire::write(&mut write, said).await.expect("written");
        }
        (read, write)
    };
    let now = host.world.now();
    let changed = event::evidence::Changed {
        probe: "guard".parse().expect("a name"),
        state: event::evidence::State::Up,
        service: "guard".parse().expect("a name"),
        after: now,
        by: now,
    };
    let recorder = |host: &Host| {
        let observer = "server.toy".parse().expect("a name");
        Recorder::new(
            Arc::new(Arc::clone(&host.spool)),
            observer,
            BootId::from_bytes([1; 16]),
            host.world.clock.clone(),
        )
    };
    let probes = host.probes.clone().expect("a server");
    let state = || probes().first().map(|probe| (probe.state.map(|(state, _)| state), probe.text.clone()));
    recorder(&host).record(&changed).await.expect("the spool takes it");
    let batch = host.spool.next(1_000_000).expect("readable").expect("an event");
    let (through, events) = (batch.through, batch.events);

    let (read, mut write) = attach().await;
    let reason = "no space left on device".to_owned();
    host.world.journal.refuse(Some(store::StoreError::Full { since: now, reason }));
    wire::write(&mut write, &FromAgent::Events { through, events }).await.expect("written");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(state(), Some((Some(event::evidence::State::Up), String::new())));
    drop((read, write));
    let again = attach().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(state().expect("known").0, Some(event::evidence::State::Up), "attached again");
    // One that is stopped says nothing, and is not up for that.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let (is, said) = state().expect("known");
    assert!(is.is_none() && said.contains("it says nothing"), "{is:?} {said}");
    drop(again);
}

/// The words of an engine about a finding.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct ToyDetail {
    probe: event::ProbeId,
    finding: event::FindingId,
    text: String,
}

impl Body for ToyDetail {
    const KIND: Kind = Kind::trace("toy.detail");
}

/// The words of a finding come behind it, and are shown with it.
#[tokio::test(start_paused = true)]
async fn a_finding_is_shown_with_its_words() {
    let host = Host::new();
    let (probe, finding, now) =
        ("guard".parse().expect("a name"), "logs-unread".parse().expect("a name"), host.world.now());
    let found = event::evidence::Found { finding, probe, open: true, after: now, by: now };
    let detail =
        ToyDetail { probe: found.probe.clone(), finding: found.finding.clone(), text: "a log is gone".to_owned() };
    let observer = "server.toy".parse().expect("a name");
    let recorder = Recorder::new(
        Arc::new(Arc::clone(&host.spool)),
        observer,
        BootId::from_bytes([1; 16]),
        host.world.clock.clone(),
    );
    let other = event::evidence::Found { finding: "other".parse().expect("a name"), ..found.clone() };
    recorder.record(&found).await.expect("the spool takes it");
    recorder.record(&detail).await.expect("the spool takes it");
    recorder.record(&other).await.expect("the spool takes it");
    let standings = Arc::new(crate::probes::Standings::default());
    for event in host.spool.next(1_000_000).expect("readable").expect("events").events {
        standings.take(&event);
    }
    let probes = standings.probes(watch::Sender::new(crate::AgentView::default()).subscribe())();
    let texts: Vec<&str> = probes[0].findings.iter().map(|open| &*open.text).collect();
    assert_eq!(texts, ["a log is gone", ""], "the other one has no words yet");
}

/// Two servers that want one agent do not take it from each other for ever: the first one is let go, and stays away.
#[tokio::test]
async fn a_server_that_is_let_go_stays_away() {
    let mut host = Host::new();
    host.agent();
    host.server(vec![&Done::KIND]);
    host.done(1).await;
    let mut waited = 0;
    while host.spooled() > 0 && waited < 500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        waited += 1;
    }
    assert_eq!(host.spooled(), 0, "the first server takes it");
    // Another server, which takes nothing: what waits stays, for the first one does not come back.
    let socket = AgentPlace { state: host.state().to_owned() }.socket(&Role::AGENT);
    let stream = tokio::net::UnixStream::connect(socket).await.expect("it listens");
    let (read, mut write) = stream.into_split();
    let attach = ToAgent::Attach { protocol: PROTOCOL, version: "test".to_owned() };
    wire::write(&mut write, &attach).await.expect("written");
    let mut read = BufReader::new(read);
    let hello = wire::read::<FromAgent>(&mut read).await.expect("read");
    assert!(matches!(hello, Some(FromAgent::Hello { .. })), "{hello:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    host.done(2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(host.spooled(), 1);
}

/// NH-1: many commands at once wait for each other, and none is refused.
#[tokio::test]
async fn many_commands_at_once_are_answered_in_turn() {
    let mut host = Host::new();
    host.agent();
    let socket = AgentPlace { state: host.state().to_owned() }.socket(&Role::AGENT);
    let asking = (0..60).map(|_| {
        let socket = socket.clone();
        let question = Question { method: Method::Get, target: "/slow".to_owned(), body: Vec::new() };
        tokio::spawn(async move { crate::agent::ask(&socket, &question, Span::from_secs(120)).await })
    });
    for asked in asking.collect::<Vec<_>>() {
        let (status, answer) = asked.await.expect("no panic").expect("an answer");
        assert_eq!((status, answer.trim()), (200, "1"));
    }
}

/// NH-1: a command is told why the engine does not answer that it asks.
#[tokio::test]
async fn a_command_is_told_why_an_engine_has_failed() {
    let mut host = Host::new();
    let context = host.world.context("server.agent".parse().expect("a name")).expect("a context");
    let supervisor = Supervisor::new(context).add(Arc::new(Failing));
    host.board = Some(supervisor.board());
    host.tasks.push(tokio::spawn(async move { drop(supervisor.run(CancellationToken::new()).await) }));
    host.agent();
    let socket = AgentPlace { state: host.state().to_owned() }.socket(&Role::AGENT);
    let question = Question { method: Method::Get, target: "/failing".to_owned(), body: Vec::new() };
    let (status, answer) = crate::agent::ask(&socket, &question, Span::from_secs(120)).await.expect("an answer");
    assert!(status == 503 && answer.contains("its state can't be opened"), "{status} {answer}");
}
