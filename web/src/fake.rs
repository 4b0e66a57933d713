//! A state whose channels a test fills, with a journal in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use engine::heartbeat::Pings;
use engine::sim::World;
use engine::{BoxFuture, Context, Engine, EngineError, Supervisor};
use event::policy::{Agreement, Applied, Clause, Maintenance, Probe, Promise, Service, Text};
use event::promise::{Figure, Outcome, Reason, Unit, Verdict};
use event::{Clock, Interval, Monotonic, Ppb, Span, Time};
use http_body_util::BodyExt as _;
use journal::Hash;
use journal::leaf::Leaf;
use journal::published::Published;
use journal::testing::{Log, TEAM_NOTE, test_key};
use journal::tile::TileId;
use journal::tree;
use promise::InEffect;
use promise::objective::{Availability, Freshness, Objective};
use store::{AppendsRefused, Entry, Head, Payload, Select, Selected, StorageHealth, StoreError};
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::{AnswerBudget, Doors, Identity, ShownPolicy, State};
use engine::standing::{Phases, ProbeStanding};

/// The time in all tests.
pub(crate) const NOW: Time = Time::from_secs(1_795_388_400);
/// A text for the team alone, which no public answer may contain.
pub(crate) const SECRET: &str = "db-07.internal refused root";

/// A journal with the entries that a test gave it.
pub(crate) struct FakeJournal {
    log: Log,
    health: Mutex<StorageHealth>,
    sizes: watch::Sender<u64>,
}

impl FakeJournal {
    pub(crate) fn new(log: Log) -> Self {
        let sizes = watch::Sender::new(log.entries.len() as u64);
        Self { log, health: Mutex::default(), sizes }
    }

    fn cut(&self, range: &Range<u64>) -> &[journal::testing::Entry] {
        let index = |place: u64| usize::try_from(place).expect("small").min(self.log.entries.len());
        &self.log.entries[index(range.start)..index(range.end)]
    }
}

#[async_trait]
impl store::Read for FakeJournal {
    async fn head(&self) -> Result<Head, StoreError> {
        let size = self.log.entries.len();
        let head = self.log.head(size);
        Ok(Head { size: head.size, root: head.root, note: self.log.checkpoint(size) })
    }
    async fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.cut(&range).iter().map(|entry| entry.leaf.encode()).collect())
    }
    async fn select(&self, range: Range<u64>, select: &Select) -> Result<Selected, StoreError> {
        // Fewer than asked for, as the contract allows.
        let looked_at = &self.cut(&range)[..self.cut(&range).len().min(100)];
        let to = looked_at.last().map_or(range.start, |entry| entry.leaf.sequence + 1);
        let wanted = looked_at.iter().filter(|entry| select.wants(&entry.leaf.encode())).map(|entry| Entry {
            sequence: entry.leaf.sequence,
            leaf: entry.leaf.encode(),
            payload: entry.payload.clone().map(|bytes| Payload { salt: entry.salt, bytes }),
        });
        Ok(Selected { entries: wanted.collect(), to })
    }
    async fn published(&self) -> Result<Option<String>, StoreError> {
        Ok(None)
    }
    async fn rotations(&self, size: u64) -> Result<Vec<String>, StoreError> {
        let size_of = |note: &String| note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(u64::MAX);
        Ok(self.log.rotations.iter().filter(|note| size_of(note) <= size).cloned().collect())
    }
    fn size_watch(&self) -> watch::Receiver<u64> {
        self.sizes.subscribe()
    }
    fn health(&self) -> StorageHealth {
        self.health.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl store::Proofs for FakeJournal {
    async fn tile(&self, tile: TileId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(tile.hashes(&self.log.tree(self.log.entries.len())).ok())
    }
    async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let tree = self.log.tree(self.log.entries.len());
        Ok(tree::prove_inclusion(index, size, &tree).expect("within the log"))
    }
    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        let tree = self.log.tree(self.log.entries.len());
        Ok(tree::prove_consistency(old, new, &tree).expect("within the log"))
    }
    async fn root_at(&self, size: u64) -> Result<Hash, StoreError> {
        Ok(self.log.head(usize::try_from(size).expect("small")).root)
    }
}

/// A state, and the other ends of its channels.
pub(crate) struct Fixture {
    pub(crate) state: Arc<State>,
    pub(crate) log: Log,
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) policy: watch::Sender<Arc<ShownPolicy>>,
    pub(crate) in_effect: watch::Sender<Arc<InEffect>>,
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
    pub(crate) identity: watch::Sender<Arc<Identity>>,
    pub(crate) pings: Pings,
}

impl Fixture {
    /// A log of one tile and a bit, all of it published, with verdicts on the promises of [`applied`].
    pub(crate) fn new() -> Self {
        Self::with(applied(), log_with(300), &[])
    }

    /// With this policy, this log, and engines that have not started.
    pub(crate) fn with(applied: Applied, mut log: Log, engines: &[&'static str]) -> Self {
        let mut in_effect = InEffect::default();
        log.append(&applied);
        for verdict in verdicts(&applied) {
            in_effect.take(log.append(&verdict), verdict);
        }
        in_effect.evaluate(NOW, verdicts(&applied));
        let key = log.keys[0].vkey();
        let published = published(&log, log.entries.len());
        let identity = Identity::new(&key, "https://trust.shop.example".to_owned(), log.tlog_policy().to_text());
        let policy = watch::Sender::new(Arc::new(ShownPolicy {
            applied: Some(Arc::new(applied)),
            publish: true,
            ..ShownPolicy::default()
        }));
        let in_effect = watch::Sender::new(Arc::new(in_effect));
        let published = watch::Sender::new(Some(Arc::new(published)));
        let identity = watch::Sender::new(Arc::new(identity));
        let journal = Arc::new(FakeJournal::new(log.clone()));
        let pings = Pings::new();
        pings.know(HashMap::from([(UUID.to_owned(), "nightly".parse().expect("a name"))]));
        let state = State {
            journal: journal.clone(),
            pings: pings.clone(),
            engines: engine_board(engines),
            probes: Arc::new(standings),
            policy: policy.subscribe(),
            in_effect: in_effect.subscribe(),
            published: published.subscribe(),
            identity: identity.subscribe(),
            clock: Arc::new(Stopped),
            budget: AnswerBudget::default(),
            present: crate::status::Present::default(),
            team_kinds: vec!["watch.detail"],
            figures: Vec::new(),
            doors: Doors::new(Vec::new(), Hash::of(&[])).expect("none"),
        };
        Self { state: Arc::new(state), log, journal, policy, in_effect, published, identity, pings }
    }

    pub(crate) fn team(&self) -> Router {
        crate::team(Arc::clone(&self.state))
    }

    pub(crate) fn public(&self) -> Router {
        crate::public(Arc::clone(&self.state))
    }

    pub(crate) fn set_publish(&self, publish: bool) {
        self.policy.send_modify(|policy| Arc::make_mut(policy).publish = publish);
    }

    /// Publishes the first `size` entries instead of all.
    pub(crate) fn publish_only(&self, size: usize) {
        self.published.send_replace(Some(Arc::new(published(&self.log, size))));
    }

    /// Makes the journal refuse entries.
    pub(crate) fn break_storage(&self) {
        let fault = AppendsRefused { since: NOW, full: true, reason: "no space left on device".to_owned() };
        *self.journal.health.lock().expect("no panic") =
            StorageHealth { fault: Some(fault), ..StorageHealth::default() };
    }
}

/// The uuid of the one known heartbeat.
pub(crate) const UUID: &str = "0b1c7a52-6f6c-4e0e-9d57-1c3c1a6f2f10";

fn published(log: &Log, size: usize) -> Published {
    let keys: Vec<_> = log.keys.iter().map(journal::note::SigningKey::vkey).collect();
    let witnesses: Vec<_> = log.witnesses.iter().map(journal::note::SigningKey::cosigner_vkey).collect();
    Published::read(&log.checkpoint(size), &keys, &witnesses, NOW, &log.listing(size))
        .expect("a checkpoint of this log")
}

/// A witnessed log of `size` entries: every third is for the team, and some are of a kind that nobody knows yet.
pub(crate) fn log_with(size: usize) -> Log {
    let mut log = Log::new("shop.example/1", 1);
    log.witnesses.push(test_key(2, "witness.example"));
    for number in log.entries.len()..size {
        match number % 3 {
            0 => log.append_text(TEAM_NOTE.name, 1, &TEAM_NOTE.coarse(), &format!("{{\"text\":\"{SECRET}\"}}")),
            1 => log.append_text("some.future_kind", 1, "some.future_kind", &format!("{{\"number\":{number}}}")),
            _ => log.append(&event::evidence::Succeeded { probe: "nightly".parse().expect("a name"), at: NOW }),
        };
    }
    log
}

/// An entry whose leaf and payload disagree, as a faulty sequencer would leave it.
pub(crate) fn contradict(log: &mut Log, coarse: &str, kind: &str) -> u64 {
    let sequence = log.append_text(kind, 1, coarse, &format!("{{\"text\":\"{SECRET}\"}}"));
    assert_eq!(
        log.entries.last().map(|e| Leaf::parse(&e.leaf.encode()).expect("a leaf").coarse).as_deref(),
        Some(coarse)
    );
    sequence
}

/// Two promises, one with two windows, on one service and one heartbeat.
pub(crate) fn applied() -> Applied {
    let text = |fr: &str, en: &str| Text { fr: fr.to_owned(), en: en.to_owned() };
    let service = |at_least, days| {
        Objective::Availability(Availability {
            service: "shop".parse().expect("a name"),
            at_least: Ppb::new(at_least),
            over: Span::from_days(days),
        })
    };
    let promise = |id: &str, text, objectives: &[Objective]| Promise {
        id: id.parse().expect("a name"),
        revision: "0123456789abcdef".to_owned(),
        text,
        objectives: objectives.iter().map(Clause::from).collect(),
    };
    Applied {
        revision: "fedcba9876543210".to_owned(),
        services: vec![Service { id: "shop".parse().expect("a name"), title: text("La boutique", "The shop") }],
        probes: [("shop-answers", "http", 10), ("nightly", "heartbeat", 900)]
            .map(|(id, kind, every)| Probe {
                id: id.parse().expect("a name"),
                kind: kind.into(),
                service: "shop".parse().expect("a name"),
                every: Span::from_secs(every),
                observers: ["gravelines".parse().expect("a name"), "strasbourg".parse().expect("a name")].into(),
                agreement: Agreement::Majority,
            })
            .to_vec(),
        findings: Vec::new(),
        maintenance: vec![Maintenance {
            services: vec!["shop".parse().expect("a name")],
            interval: Interval::new(NOW + Span::from_days(1), NOW + Span::from_days(1) + Span::from_secs(3600)),
            text: text("La boutique sera en lecture seule.", "The shop will be read-only."),
        }],
        promises: vec![
            promise(
                "AV-1",
                text("La boutique est disponible 99,99 % du temps.", "The shop is available 99.99 % of the time."),
                &[service(999_900_000, 180), service(999_900_000, 365)],
            ),
            promise(
                "BK-1",
                text("Sauvegarde toutes les 15 minutes.", "Backups every 15 minutes."),
                &[Objective::Freshness(Freshness {
                    probe: "nightly".parse().expect("a name"),
                    at_most: Span::from_secs(900),
                    over: Span::from_days(30),
                })],
            ),
        ],
    }
}

/// A verdict on each objective: the first kept, the second broken, the third unproven, and so on.
pub(crate) fn verdicts(applied: &Applied) -> Vec<Verdict> {
    let objectives =
        applied.promises.iter().flat_map(|promise| (0..).zip(&promise.objectives).map(move |o| (promise, o)));
    let verdict = |(place, (promise, (number, clause))): (usize, (&Promise, (u32, &Clause)))| {
        let figure = |low, high, target| Some(Figure { unit: Unit::Ppb, low, high, target });
        let budget = |least, most| Reason::Budget {
            used_at_least: Span::from_secs(least),
            used_at_most: Span::from_secs(most),
            of: Span::from_secs(3153),
        };
        let (outcome, figure, reasons) = match place % 3 {
            0 => (
                Outcome::Kept,
                figure(999_910_000, 999_950_000, 999_900_000),
                vec![budget(60, 90), Reason::LoneObserver],
            ),
            1 => (
                Outcome::Broken,
                figure(999_899_999, 999_899_999, 999_900_000),
                vec![
                    Reason::WindowFilling { elapsed: Span::from_days(12), length: Span::from_days(365) },
                    budget(41 * 60, 46 * 60),
                    Reason::Down { length: Span::from_secs(41 * 60), outages: 2 },
                    Reason::Unobserved { length: Span::from_secs(300) },
                ],
            ),
            _ => (Outcome::Unproven, None, vec![Reason::NoEvidence]),
        };
        let figure = figure.filter(|_| !matches!(Objective::of(clause), Some(Objective::Freshness(_))));
        Verdict {
            promise: promise.id.clone(),
            revision: promise.revision.clone(),
            objective: number,
            evaluator: promise::EVALUATOR,
            tree_size: 42,
            at: NOW - Span::from_secs(60),
            window: Interval::new(NOW - Span::from_days(12), NOW - Span::from_secs(120)),
            outcome,
            figure,
            reasons,
            evidence: Vec::new(),
        }
    };
    objectives.enumerate().map(verdict).collect()
}

fn standings() -> Vec<ProbeStanding> {
    use event::evidence::State::{Down, Up};
    let ms = Span::from_millis;
    let connected = Phases { dns: ms(1), connect: ms(2), tls: ms(5), ..Phases::default() };
    let row = |observer: &str, state, phases, text: &str| ProbeStanding {
        or_before: false,
        probe: "shop-answers".parse().expect("a name"),
        observer: observer.parse().expect("a name"),
        state: Some((state, NOW - Span::from_secs(60))),
        at: NOW - Span::from_secs(5),
        took: Span::from_millis(12),
        value: None,
        phases,
        certificate_expires: Some(NOW + Span::from_days(8)),
        text: text.to_owned(),
        findings: Vec::new(),
    };
    vec![
        row("gravelines", Up, Phases { first_byte: ms(3), body: ms(1), ..connected }, ""),
        row("strasbourg", Down, connected, "status 502, \"200\" expected\\\n"),
    ]
}

/// A clock that stands at [`NOW`].
pub(crate) struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Time {
        NOW
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }
}

struct Idle(&'static str);

impl Engine for Idle {
    fn name(&self) -> &'static str {
        self.0
    }
    fn stop_order(&self) -> u8 {
        4
    }
    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            context.stop.cancelled().await;
            Ok(())
        })
    }
}

/// The health board of engines that have not started.
fn engine_board(names: &[&'static str]) -> engine::HealthBoard {
    let context = World::at(NOW).context("here".parse().expect("a name")).expect("a network");
    names.iter().fold(Supervisor::new(context), |supervisor, name| supervisor.add(Arc::new(Idle(name)))).board()
}

/// A whole answer: status, headers, body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

/// Sends a request to a router and reads the answer.
pub(crate) async fn ask(router: Router, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(body).expect("a request")).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) async fn get(router: Router, path: &str) -> Answer {
    ask(router, Method::GET, path, &[], Body::empty()).await
}

/// A body that is announced and does not come.
pub(crate) struct Never;

impl hyper::body::Body for Never {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}
