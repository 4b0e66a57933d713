//! The smallest engine: a greeter, with everything that an engine may bring along.
//!
//! It has a table in the policy, a kind of event for the team, public evidence, a finding with its title, a figure in
//! `/metrics`, a door and a command that asks there. Nothing outside this crate knows any of it: `main.rs` puts it into the lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Arg, ArgMatches};
use engine::command::{CommandContext, Question, Style};
use engine::door::{self, Access, Call, Door, DoorPage, Listeners, Method, Mount, Reply};
use engine::metrics::{MetricsSource, MetricsText};
use engine::{BoxFuture, Command, Context, Engine, EngineError, Failure};
use event::evidence::Found;
use event::policy::{Agreement, Applied, Detector};
use event::{Body, Family, FindingId, Kind, ObserverId, ProbeId, ServiceId, Span};
use policy::{Document, Nouns, Part, Section, SectionDoc, Table};
use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;

/// The name of the engine.
pub const NAME: &str = "toy";
/// Kinds of events that the engine writes for the team.
pub const KINDS: &[Kind] = &[Greeted::KIND];
/// The finding: a person whom nobody greeted.
const UNGREETED: &str = "toy-ungreeted";
const EVERY: Span = Span::from_secs(60);

/// The event that a person was greeted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Greeted {
    /// The words of the greeting.
    pub words: String,
}

impl Body for Greeted {
    const KIND: Kind = Kind::team("toy.greeted", Family::Debugging);
}

/// `[[toy]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Toy {
    probe: ProbeId,
    service: ServiceId,
    words: String,
}

impl Section for Toy {
    const ABOUT: &'static str = "Somebody to greet.";
    const EXAMPLE: &'static str = "[[toy]]\nname = \"world\"\nservice = \"shop\"\nwords = \"hello, world\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let probe = table.declare("name", "whom to greet");
        let service = table.required("service", "on whose behalf");
        let words = table.required("words", "what to say");
        Some(Self { probe: probe?, service: service?, words: words? })
    }
}

/// The part of the policy that the engine reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    toys: Vec<Toy>,
}

impl Part for Config {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        let toys: Vec<Toy> = document.tables("toy");
        if let (false, Ok(finding)) = (toys.is_empty(), UNGREETED.parse::<FindingId>()) {
            document.provide(&finding);
        }
        Self { toys }
    }

    fn reference() -> Vec<SectionDoc> {
        vec![SectionDoc::of::<Toy>("toy", true)]
    }

    fn publish(&self, public: &mut Applied) {
        let Ok(observer) = "server.toy".parse::<ObserverId>() else { return };
        public.probes.extend(self.toys.iter().map(|toy| event::policy::Probe {
            id: toy.probe.clone(),
            kind: NAME.into(),
            service: toy.service.clone(),
            every: EVERY,
            observers: [observer.clone()].into(),
            agreement: Agreement::default(),
        }));
        if let (false, Ok(finding)) = (self.toys.is_empty(), UNGREETED.parse()) {
            let title =
                event::policy::Text { fr: "Personne non saluée".to_owned(), en: "Nobody said hello".to_owned() };
            let probes = self.toys.iter().map(|toy| toy.probe.clone()).collect();
            public.findings.push(Detector { finding, title, probes });
        }
    }
}

/// The engine.
pub struct Greeter {
    config: Receiver<Arc<Config>>,
    figures: Arc<Figures>,
}

/// Figures of the engine, for `/metrics`.
#[derive(Default)]
pub struct Figures {
    greeted: AtomicU64,
}

impl MetricsSource for Figures {
    fn write(&self, text: &mut MetricsText) {
        let greeted = self.greeted.load(Ordering::Relaxed);
        text.counter("garant_toy_greeted", "", "Greetings since the start.").sample(&[], greeted);
    }
}

impl Greeter {
    /// An engine that greets the people whom the policy names.
    pub fn new(config: Receiver<Arc<Config>>) -> Self {
        Self { config, figures: Arc::default() }
    }

    /// The figures, to be put into `/metrics`.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// The door, to be mounted.
    pub fn door(&self) -> Arc<ToyDoor> {
        Arc::default()
    }

    async fn greet(&self, context: Context) -> Result<(), EngineError> {
        let mut config = self.config.clone();
        loop {
            let toys = config.borrow_and_update().toys.clone();
            for toy in toys {
                let now = context.clock.now();
                let finding = UNGREETED.parse()?;
                let found = Found { finding, probe: toy.probe, open: false, after: now, by: now };
                // The public evidence and the team's event are one transaction.
                let greeted = context.recorder.seal(&Greeted { words: toy.words }, now)?;
                context.recorder.send(vec![context.recorder.seal(&found, now)?, greeted]).await?;
                self.figures.greeted.fetch_add(1, Ordering::Relaxed);
            }
            context.progress.tick();
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(Span::from_secs(10).to_std()) => {}
                Ok(()) = config.changed() => {}
            }
        }
    }
}

impl Engine for Greeter {
    fn name(&self) -> &'static str {
        NAME
    }

    fn stop_order(&self) -> u8 {
        4
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.greet(context))
    }
}

/// The mount of the team's commands.
const API: &str = "/api/v1/toy";
/// The mount of the page for everybody.
const PAGE: &str = "/toy";
/// What the last segment of the page's address must be. A real one is random, and kept as its hash.
const LINK: &str = "not-so-secret";

const MOUNTS: &[Mount] = &[
    Mount {
        prefix: API,
        listeners: Listeners::Team,
        access: Access::TeamToken,
        methods: &[Method::Get, Method::Post],
        body_bytes_max: 1024,
    },
    Mount {
        prefix: PAGE,
        listeners: Listeners::Everybody,
        access: Access::OfTheEngine,
        methods: &[Method::Get, Method::Post],
        body_bytes_max: 64,
    },
];

/// The door: counts greetings that were asked for, by the team or by a link.
#[derive(Default)]
pub struct ToyDoor {
    asked: AtomicU64,
}

impl Door for ToyDoor {
    fn mounts(&self) -> &'static [Mount] {
        MOUNTS
    }

    fn admit(&self, call: &Call) -> Result<(), Reply> {
        if call.segments() == [LINK] { Ok(()) } else { Err(Reply::Refused(404)) }
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let asked = match call.method {
                Method::Get => self.asked.load(Ordering::Relaxed),
                Method::Post | Method::Delete => self.asked.fetch_add(1, Ordering::Relaxed) + 1,
            };
            match (call.mount, &call.segments()[..]) {
                (PAGE, _) => DoorPage::titled("Saluer", "Greet")
                    .row(door::both("Salutations", "Greetings"), door::alike(asked.to_string()))
                    .button(door::both("Saluer", "Greet"), "do", "greet")
                    .reply(200),
                (API, []) => Reply::json(&serde_json::json!({ "asked": asked })),
                (API, [somebody]) => Reply::json(&serde_json::json!({ "words": format!("hello, {somebody}") })),
                _ => Reply::error(404, "there is nobody of that name"),
            }
        })
    }
}

/// The command `garant toy`: has the running garant say hello.
pub fn commands() -> Vec<Command> {
    let somebody = Arg::new("somebody").required(true).help("Whom to greet");
    vec![Command { arguments: clap::Command::new(NAME).about("Greet somebody").arg(somebody), run: say_hello }]
}

fn say_hello(arguments: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let somebody = arguments.get_one::<String>("somebody").map_or("", String::as_str);
    let answer = context.ask(Question::post(API).segment(somebody))?.accepted("nobody was greeted")?;
    let said: Said = answer.json()?;
    context.line(&context.painted(Style::Good, &said.words));
    Ok(0)
}

/// What the door says to the command.
#[derive(Deserialize)]
struct Said {
    words: String,
}
