//! The engine: follows the desired state, and has threads carry the connections.
//!
//! What a reload, a failed attempt and a dead server must not cost is kept in [`Shared`]: listeners, health, what is closed. An
//! attempt of the engine only starts the threads and changes what they read.
//!
//! Once another gate has taken its place it still follows who is let in, for those that it has: by the desired state and by the files of
//! what people have decided, which the other one writes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use engine::descriptors;
use engine::door::{Door, Orders, Reply};
use engine::succession::Handover;
use engine::{BoxFuture, CancellationToken, Context, DesiredState, Engine, EngineError};
use event::{Monotonic, Span};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::access_log::LogFile;
use crate::acme::{self, Keeper};
use crate::bans::Bans;
use crate::checks;
use crate::decisions::Decisions;
use crate::door::{self, Wish};
use crate::events::{AccessChanged, Certified, FailedOver, Failures, Refused, UpstreamChanged, UpstreamDrained};
use crate::figures::Figures;
use crate::group::BUDGET_OF_SECOND;
use crate::hsts::Ramp;
use crate::observed::{Observed, Stated};
use crate::plan::{Closing, Plan};
use crate::ports::{self, bind};
use crate::settings::{Desired, Gate};
use crate::succession::{Succession, becomes_true};
use crate::tls::{Shown, Tls};
use crate::worker::{Listening, News, Shared, Worker};

/// News that wait to be journaled; further ones are counted as lost.
const NEWS_MAX: usize = 1024;
/// Connections that wait to be accepted, of one listener.
const BACKLOG: u32 = 1024;
/// How often lines of the access log are written.
const TICK: Duration = Duration::from_millis(200);
/// So many ticks are a second; a minute; the time between two looks at certificates and at listeners that could not be opened.
const TICKS_OF_SECOND: u64 = 5;
const TICKS_OF_MINUTE: u64 = 300;
const TICKS_OF_LOOK: u64 = 50;
/// So many are the time between two turns of what is stated of the sites.
const TICKS_OF_TURN: u64 = 25;
/// Descriptors that are no connections of clients nor their upstreams': listeners, files, checks, connections that wait.
const DESCRIPTORS_KEPT: u64 = 512;
/// What a gate takes to end beside the time that it leaves its connections.
const PREDECESSOR_ENDS_WITHIN: Span = Span::from_secs(10);
/// What a command is told that has come to a gate whose place another one has taken meanwhile.
const REPLACED: &str = "another process has taken the place of this one just now: ask again";
/// Where it is kept how long certificates have been good.
const RAMP_FILE: &str = "hsts.json";

/// The engine.
pub struct GateEngine {
    desired: DesiredState,
    state: PathBuf,
    decisions: Decisions,
    succession: Arc<Succession>,
    orders: Orders<Wish>,
    figures: Arc<Figures>,
    kept: OnceLock<Arc<Kept>>,
}

/// What outlives an attempt.
struct Kept {
    shared: Arc<Shared>,
    news: Mutex<mpsc::Receiver<News>>,
    tls: Arc<std::sync::Mutex<Tls>>,
}

impl GateEngine {
    /// The engine, with a directory for what it keeps.
    pub fn new(desired: DesiredState, state: PathBuf) -> Self {
        let (decisions, succession) = (Decisions::in_dir(&state), Arc::default());
        let (orders, figures) = (Orders::default(), Arc::default());
        Self { desired, state, decisions, succession, orders, figures, kept: OnceLock::new() }
    }

    /// How another process takes its place.
    pub fn handover(&self) -> Arc<dyn Handover> {
        Arc::clone(&self.succession) as _
    }

    /// Its door.
    pub fn door(&self) -> impl Door + use<> {
        self.orders.door(door::MOUNT, door::wish, door::LOST)
    }

    /// Its figures.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    fn kept(&self, context: &Context) -> Arc<Kept> {
        let make = || {
            let (news, receiver) = mpsc::channel(NEWS_MAX);
            let shared = Arc::new(Shared::new(Arc::clone(&context.clock), news, context.random.number()));
            _ = self.figures.0.set(Arc::clone(&shared));
            _ = self.succession.shared.set(Arc::clone(&shared));
            let tls = Tls::new(Arc::clone(&shared.challenges), acme::folder(&self.state));
            let tls = Arc::new(std::sync::Mutex::new(tls));
            _ = self.succession.certificates.set((Arc::clone(&tls), Arc::clone(&context.secrets)));
            Arc::new(Kept { shared, news: Mutex::new(receiver), tls })
        };
        Arc::clone(self.kept.get_or_init(make))
    }

    async fn follow(&self, context: Context) -> Result<(), EngineError> {
        let kept = self.kept(&context);
        let mut desired = self.desired.clone();
        let (mut orders, mut news) = (self.orders.queue().await, kept.news.lock().await);
        let mut attempt = Attempt {
            context: &context,
            kept: &kept,
            state: &self.state,
            decisions: &self.decisions,
            succession: &self.succession,
            desired: None,
            wanted: None,
            problems: BTreeMap::new(),
            checks: JoinSet::new(),
            log_file: None,
            refusals: kept.shared.tally.refusals().map(|(_, count)| count).collect(),
            orders: BTreeMap::new(),
            ramp: Ramp::default(),
            began: context.clock.monotonic(),
            looked_at: context.clock.monotonic(),
            shown: BTreeMap::new(),
            observed: Observed::default(),
        };
        attempt.read_ramp().await;
        let stop_threads = context.stop.child_token();
        // Dropped with the attempt, however it ends.
        let _stop = stop_threads.clone().drop_guard();
        attempt.take(desired.current::<Desired>()?).await;
        let mut threads =
            Threads { shared: &kept.shared, context: &context, stop: &stop_threads, all: Vec::new(), gone: Vec::new() };
        threads.be(attempt.threads())?;
        let folder = acme::folder(&self.state);
        let keeper = Keeper { context: context.clone(), shared: Arc::clone(&kept.shared), folder };
        // Dropped with the attempt, as the checks are.
        let mut orders_of_certificates = JoinSet::new();
        orders_of_certificates.spawn(keeper.keep());
        self.succession.serves.send_replace(true);
        let lets_go = becomes_true(self.succession.lets_go.subscribe());
        tokio::pin!(lets_go);
        let mut is_to_say = self.succession.is_to_say.subscribe();
        let mut is_going = false;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick = 0_u64;
        context.progress.tick();
        loop {
            tokio::select! {
                () = context.stop.cancelled() => break,
                () = &mut lets_go, if !is_going => {
                    is_going = true;
                    stop_threads.cancel();
                    // A socket that is open here would take connections that nobody accepts, once the other process has closed it.
                    kept.shared.listeners.send_replace(Vec::new());
                    // Certificates and evidence are its own affair from now on.
                    orders_of_certificates.abort_all();
                    attempt.say_all().await?;
                }
                Ok(()) = is_to_say.changed(), if !is_going => {
                    let times = *is_to_say.borrow_and_update();
                    attempt.say_all().await?;
                    self.succession.has_said.send_replace(times);
                }
                () = desired.changed() => match desired.current::<Desired>() {
                    Ok(next) if is_going => attempt.take_who_is_let_in(next).await,
                    Err(error) if is_going => tracing::error!(
                        %error,
                        "what is desired now is not understood by this process, which is replaced: who is in it still is let in by what \
                         was desired before"
                    ),
                    next => {
                        let next = next?;
                        if !attempt.takes_bans_alone(next.as_ref()) {
                            attempt.take(next).await;
                            threads.be(attempt.threads())?;
                        }
                    }
                },
                Some((wish, answer)) = orders.recv() => {
                    let reply = if is_going { Reply::error(503, REPLACED) } else { attempt.answer(wish).await };
                    // A command that has gone away needs no answer.
                    drop(answer.send(reply));
                }
                Some(news) = news.recv() => attempt.journal(news).await?,
                _ = ticks.tick() => {
                    tick += 1;
                    attempt.write_log().await;
                    if is_going && threads.have_ended() {
                        self.succession.is_over.send_replace(true);
                    }
                    if tick.is_multiple_of(TICKS_OF_SECOND) {
                        context.progress.tick();
                        attempt.pass_time();
                        if is_going {
                            attempt.follow_decisions_of_successor().await;
                        }
                    }
                    if tick.is_multiple_of(TICKS_OF_TURN) && !is_going {
                        attempt.observe().await?;
                        attempt.keep_again().await;
                    }
                    if tick.is_multiple_of(TICKS_OF_MINUTE) {
                        attempt.journal_refusals().await?;
                    }
                    if tick.is_multiple_of(TICKS_OF_LOOK) && !is_going {
                        attempt.look_again().await;
                    }
                }
            }
        }
        kept.shared.hurry.cancel();
        stop_threads.cancel();
        let ended = threads.all.into_iter().map(|(thread, _)| thread).chain(threads.gone).collect::<Vec<_>>();
        let joined = tokio::task::spawn_blocking(move || {
            ended.into_iter().map(std::thread::JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await? > 0 {
            tracing::error!("a thread of the gate had failed: its connections were lost with it");
        }
        attempt.write_log().await;
        if is_going {
            return Ok(());
        }
        // Its last requests have ended by now.
        attempt.say_all().await
    }
}

/// The threads that carry connections, as many as are desired.
struct Threads<'a> {
    shared: &'a Arc<Shared>,
    context: &'a Context,
    stop: &'a CancellationToken,
    all: Vec<(std::thread::JoinHandle<()>, CancellationToken)>,
    /// Those that accept nothing more, and end when their connections have.
    gone: Vec<std::thread::JoinHandle<()>>,
}

impl Threads<'_> {
    /// Whether none is left.
    fn have_ended(&self) -> bool {
        self.all.iter().map(|(thread, _)| thread).chain(&self.gone).all(std::thread::JoinHandle::is_finished)
    }

    fn be(&mut self, count: usize) -> io::Result<()> {
        while let Some((thread, stop)) = (self.all.len() > count).then(|| self.all.pop()).flatten() {
            stop.cancel();
            self.gone.push(thread);
        }
        self.gone.retain(|thread| !thread.is_finished());
        while self.all.len() < count {
            let stop = self.stop.child_token();
            let worker = Worker::new(Arc::clone(self.shared), self.context.random.number(), stop.clone());
            self.all.push((start(self.all.len(), worker)?, stop));
        }
        Ok(())
    }
}

/// Starts a thread that carries connections.
fn start(number: usize, worker: Worker) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("garant-gate-{number}")).spawn(move || {
        runtime.block_on(Arc::new(worker).run());
        runtime.shutdown_background();
    })
}

impl Engine for GateEngine {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn stop_order(&self) -> u8 {
        3
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.follow(context))
    }
}

/// One attempt of the engine.
struct Attempt<'a> {
    context: &'a Context,
    kept: &'a Arc<Kept>,
    state: &'a Path,
    decisions: &'a Decisions,
    succession: &'a Succession,
    desired: Option<Desired>,
    /// `[gate]` of it, before it is bounded.
    wanted: Option<Gate>,
    /// What is wrong, by what it is about.
    problems: BTreeMap<&'static str, Vec<String>>,
    checks: JoinSet<()>,
    log_file: Option<LogFile>,
    /// How many messages of each class had been refused when that was journaled last.
    refusals: Vec<u64>,
    /// Why certificates were not obtained, by site.
    orders: BTreeMap<String, String>,
    ramp: Ramp,
    /// When it began.
    began: Monotonic,
    /// When certificates were looked at last.
    looked_at: Monotonic,
    /// What was seen of them then, by domain.
    shown: BTreeMap<String, Shown>,
    observed: Observed,
}

impl Attempt<'_> {
    /// How many threads are desired: one, while nothing is, which costs nothing.
    fn threads(&self) -> usize {
        self.desired.as_ref().map_or(1, |desired| desired.gate.threads as usize).max(1)
    }

    /// Follows a desired state that differs in its bans and in nothing else, which come often. One that differs in nothing is a
    /// reload, for the files that it names.
    fn takes_bans_alone(&mut self, next: Option<&Desired>) -> bool {
        let (Some(now), Some(next)) = (&mut self.desired, next) else { return false };
        let differs = now.bans != next.bans;
        let before = std::mem::replace(&mut now.bans, next.bans.clone());
        let is_all =
            *now == Desired { gate: now.gate.clone(), ..next.clone() } && self.wanted.as_ref() == Some(&next.gate);
        if differs && is_all {
            self.follow_bans();
            return true;
        }
        now.bans = before;
        false
    }

    /// Bans whom the desired state does.
    fn follow_bans(&self) {
        if let Some(bans) = self.desired.as_ref().and_then(|desired| desired.bans.as_ref()) {
            self.kept.shared.bans.send_replace(Arc::new(Bans::of(bans)));
        }
    }

    /// Follows another desired state.
    async fn take(&mut self, mut desired: Option<Desired>) {
        self.wanted = desired.as_ref().map(|desired| desired.gate.clone());
        // A bound of the system that serves most sites: said, and no problem of the gate.
        if let Some(bounded) =
            desired.as_mut().and_then(|desired| bound_connections(&mut desired.gate, descriptors::limit()))
        {
            tracing::warn!("{bounded}");
        }
        let Some((plan, problems)) = self.plan_of(desired.as_ref()).await else { return };
        self.say("files", problems);
        self.desired = desired;
        self.follow_bans();
        let plan = Arc::new(plan);
        self.follow_decisions(&plan).await;
        self.configure_tls().await;
        let path = self.desired.as_ref().and_then(|desired| desired.gate.access_log.clone());
        if self.log_file.as_ref().map(LogFile::path) != path.as_deref() {
            self.write_log().await;
            self.log_file = path.map(LogFile::at);
        }
        // The checks of before end here: their upstreams are in no plan any more.
        self.checks = checks::begin(&plan, &self.kept.shared, self.context.random.as_ref());
        self.kept.shared.plan.send_replace(plan);
        self.kept.shared.rule();
        self.look_at_certificates().await;
        // Last: whoever comes first finds the sites there.
        self.listen();
    }

    /// The plan for a desired state, and what can't be read for it; `None` where the process is about to end.
    async fn plan_of(&self, desired: Option<&Desired>) -> Option<(Plan, Vec<String>)> {
        let Some(desired) = desired.cloned() else { return Some((Plan::default(), Vec::new())) };
        let before = Arc::clone(&self.kept.shared.plan.borrow());
        let made = tokio::task::spawn_blocking(move || {
            let mut problems = Vec::new();
            (Plan::of(&desired, &before, &mut problems), problems)
        });
        made.await.ok()
    }

    /// Follows another desired state in who is let in and where requests go, and in nothing else: another gate serves.
    async fn take_who_is_let_in(&mut self, desired: Option<Desired>) {
        let Some((plan, _problems)) = self.plan_of(desired.as_ref()).await else { return };
        self.desired = desired;
        self.follow_bans();
        let plan = Arc::new(plan);
        self.drain_as_decided(&plan);
        self.checks = checks::begin(&plan, &self.kept.shared, self.context.random.as_ref());
        self.kept.shared.plan.send_replace(plan);
        self.kept.shared.rule();
    }

    /// Follows what people have decided since another gate has taken the place of this one.
    async fn follow_decisions_of_successor(&self) {
        let shared = &self.kept.shared;
        let plan = Arc::clone(&shared.plan.borrow());
        if let Some(closed) = self.decisions.closed.read_again().await {
            for site in &plan.sites {
                site.close(closed.get(&site.settings.domain).cloned());
            }
            shared.rule();
        }
        if let Some(drained) = self.decisions.drained.read_again().await {
            *shared.drained() = drained;
            self.drain_as_decided(&plan);
        }
    }

    /// Keeps what was decided and could not be written, and says it until it is.
    async fn keep_again(&mut self) {
        let shared = &self.kept.shared;
        let plan = Arc::clone(&shared.plan.borrow());
        // Without a desired state nobody has said yet which sites there are.
        if plan.gate.is_none() {
            return;
        }
        if self.decisions.closed.fault().is_some() {
            _ = self.decisions.closed.keep(plan.closed()).await;
        }
        if self.decisions.drained.fault().is_some() {
            let drained = shared.drained().clone();
            _ = self.decisions.drained.keep(drained).await;
        }
        self.say_what_is_not_kept();
    }

    fn say_what_is_not_kept(&mut self) {
        let beside = if self.succession.came_after() {
            ", and a process whose place it has taken, if one still runs, does not hear of it"
        } else {
            ""
        };
        let said = |fault: String, what: &str| {
            format!("{fault}: a restart of the gate forgets {what} by commands{beside}; it is tried again")
        };
        let closed = self.decisions.closed.fault().map(|fault| said(fault, "which sites are closed"));
        let drained = self.decisions.drained.fault().map(|fault| said(fault, "which upstreams are drained"));
        self.say("decisions", closed.into_iter().chain(drained).collect());
    }

    /// Keeps what is wrong about one thing, and says it once.
    fn say(&mut self, about: &'static str, problems: Vec<String>) {
        let before = self.problems.remove(about).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !before.contains(problem)) {
            tracing::error!("{problem}");
        }
        self.problems.insert(about, problems);
    }

    async fn configure_tls(&mut self) {
        let sites = self.desired.as_ref().map(|desired| desired.sites.clone()).unwrap_or_default();
        let (kept, secrets) = (Arc::clone(self.kept), Arc::clone(&self.context.secrets));
        let now = self.context.clock.now();
        let configured = tokio::task::spawn_blocking(move || {
            let mut problems = Vec::new();
            let mut tls = kept.tls.lock().unwrap_or_else(PoisonError::into_inner);
            (tls.configure(&sites, &secrets, now, &mut problems), problems)
        });
        if let Ok((config, problems)) = configured.await {
            self.kept.shared.tls.send_replace(config);
            self.say("certificates", problems);
        }
    }

    /// Looks whether browsers take the certificates, which decides for how long they are told to come by TLS alone.
    async fn look_at_certificates(&mut self) {
        let now = self.context.clock.monotonic();
        let passed = now.since(std::mem::replace(&mut self.looked_at, now));
        let sites = self.desired.as_ref().map(|desired| desired.sites.clone()).unwrap_or_default();
        let (kept, wall) = (Arc::clone(self.kept), self.context.clock.now());
        let looked = tokio::task::spawn_blocking(move || {
            let tls = kept.tls.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = tls.shown(&sites, wall).into_iter();
            shown.map(|(domain, shown)| (domain.to_owned(), shown)).collect::<BTreeMap<_, _>>()
        });
        let Ok(shown) = looked.await else { return };
        let plan = Arc::clone(&self.kept.shared.plan.borrow());
        for site in &plan.sites {
            let found = shown.get(&site.settings.domain);
            let is_good = |shown: &Shown| matches!(shown, Shown::Good { .. });
            let step = found.map(|found| self.ramp.saw(&site.settings.domain, is_good(found), passed));
            site.hardening.set_step(step.filter(|_| site.settings.hsts));
        }
        let wrong = shown.iter().filter_map(|(domain, shown)| match shown {
            Shown::Wrong { why, .. } => {
                Some(format!("the certificate of {domain} is none that a browser takes: {why}"))
            }
            // That it can't be read, or was not obtained, is said already.
            Shown::Nothing | Shown::Good { .. } => None,
        });
        self.say("certificates shown", wrong.collect());
        self.shown.clone_from(&shown);
        // Without a desired state nobody has said yet which sites there are.
        if self.desired.is_some() {
            self.ramp.keep_only(|domain| shown.contains_key(domain));
        }
        if self.ramp.is_due(passed) {
            let path = self.state.join(RAMP_FILE);
            let text = serde_json::to_vec(&self.ramp);
            let written = tokio::task::spawn_blocking(move || {
                let text = text.map_err(io::Error::other)?;
                store::write_whole(&path, &text, 0o600).map_err(io::Error::other)
            });
            if matches!(written.await, Ok(Ok(()))) {
                self.ramp.is_written();
            }
        }
    }

    /// How long certificates had been good when the gate ran last. What can't be read begins anew: a shorter promise harms nobody.
    async fn read_ramp(&mut self) {
        let path = self.state.join(RAMP_FILE);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path).ok()).await.ok().flatten();
        self.ramp = read.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    }

    /// Opens the listeners that are wanted and not there, and lets the others go.
    fn listen(&mut self) {
        let wanted: Vec<(SocketAddr, bool)> = self.desired.as_ref().map_or_else(Vec::new, |desired| {
            let of =
                |addresses: &[SocketAddr], is_tls| addresses.iter().map(move |it| (*it, is_tls)).collect::<Vec<_>>();
            [of(&desired.gate.http, false), of(&desired.gate.https, true)].concat()
        });
        let mut problems = Vec::new();
        let mut listeners = self.kept.shared.listeners.borrow().clone();
        let before = listeners.len();
        listeners.retain(|it| wanted.contains(&(it.address, it.is_tls)));
        let mut has_changed = listeners.len() != before;
        for (address, is_tls) in wanted {
            if listeners.iter().any(|it| (it.address, it.is_tls) == (address, is_tls)) {
                continue;
            }
            let given = self.succession.claim(address);
            match given.map_or_else(|| open(address), |given| given.set_nonblocking(true).map(|()| given)) {
                Ok(listener) => {
                    tracing::info!(%address, "the gate listens");
                    listeners.push(Listening { address, is_tls, listener: Arc::new(listener) });
                    has_changed = true;
                }
                Err(error) => problems.push(format!("{}; it is tried again", ports::problem(address, &error))),
            }
        }
        for address in self.succession.unclaimed() {
            problems.push(format!(
                "systemd has opened {address} for the gate, at which the policy has it not listen: name it in `http` or `https` of \
                 [gate], or remove it from the socket unit"
            ));
        }
        if has_changed {
            self.kept.shared.listeners.send_replace(listeners);
        }
        self.say("listeners", problems);
    }

    /// Looks at what may have changed outside: certificates that were renewed, ports that are free now.
    async fn look_again(&mut self) {
        self.listen();
        let sites = self.desired.as_ref().map(|desired| desired.sites.clone()).unwrap_or_default();
        let kept = Arc::clone(self.kept);
        let looked = tokio::task::spawn_blocking(move || {
            kept.tls.lock().unwrap_or_else(PoisonError::into_inner).is_outdated(&sites)
        });
        if looked.await.unwrap_or(false) {
            self.configure_tls().await;
        }
        self.look_at_certificates().await;
    }

    fn pass_time(&self) {
        let shared = &self.kept.shared;
        let now = (shared.clock.now(), shared.clock.monotonic());
        let plan = Arc::clone(&shared.plan.borrow());
        for site in &plan.sites {
            for (_, group) in site.groups() {
                group.earn(BUDGET_OF_SECOND);
                for upstream in group.pass_time(now) {
                    shared.tell_change(&site.settings.domain, group, &upstream);
                }
            }
        }
    }

    async fn write_log(&mut self) {
        let (lines, lost) = self.kept.shared.access_log.take();
        let Some(mut file) = self.log_file.take() else { return };
        if lost > 0 {
            self.kept.shared.tally.lines_lost.add_all(lost);
        }
        if lines.is_empty() {
            self.log_file = Some(file);
            return;
        }
        let written = tokio::task::spawn_blocking(move || {
            let written = file.write(&lines);
            (file, lines, written)
        });
        let Ok((file, lines, written)) = written.await else { return };
        let problem = written.err().map(|error| {
            let count = u64::try_from(lines.lines().count()).unwrap_or(0);
            self.kept.shared.tally.lines_lost.add_all(count);
            format!(
                "the access log {} can't be written ({error}): requests go on, and are not logged",
                file.path().display()
            )
        });
        self.say("access log", problem.into_iter().collect());
        self.log_file = Some(file);
    }

    async fn journal(&mut self, news: News) -> Result<(), EngineError> {
        let recorder = &self.context.recorder;
        match news {
            News::Upstream { site, upstream, state, reason, at } => {
                tracing::info!("{site}: {upstream} is {state}: {reason}");
                let (upstream, state) = (upstream.to_string(), state.to_owned());
                recorder.record_at(&UpstreamChanged { site, upstream, state, reason }, at).await?;
            }
            News::Failover { site, from, to, at } => {
                tracing::warn!("requests of {site} go to the region {to}, no longer to {from}");
                recorder.record_at(&FailedOver { site, from, to }, at).await?;
            }
            News::Certificate { site, fault, at } => {
                let before = match &fault {
                    Some(why) => self.orders.insert(site.clone(), why.clone()),
                    None => self.orders.remove(&site),
                };
                self.say("orders of certificates", self.orders.values().cloned().collect());
                let is_news = if site.is_empty() { before != fault } else { fault.is_none() || before != fault };
                if is_news {
                    let certified = Certified { site: site.clone(), failed: fault.clone() };
                    recorder.record_at(&certified, at).await?;
                }
                if fault.is_none() && !site.is_empty() {
                    self.configure_tls().await;
                    self.look_at_certificates().await;
                }
            }
        }
        Ok(())
    }

    /// States how sites were served since the turn before.
    async fn observe(&mut self) -> Result<(), EngineError> {
        let plan = Arc::clone(&self.kept.shared.plan.borrow());
        let revision = self.desired.as_ref().map_or("", |desired| &desired.revision);
        let sites = plan.sites.iter().map(AsRef::as_ref);
        let clock = &self.context.clock;
        // While the gate of before ends, it answers requests that are in nobody's count.
        let drain = self.desired.as_ref().map_or(Span::ZERO, |desired| desired.gate.drain);
        let counts_all =
            !self.succession.came_after() || clock.monotonic().since(self.began) >= drain + PREDECESSOR_ENDS_WITHIN;
        let stated = self.observed.turn(sites, revision, &self.shown, clock.now(), counts_all);
        self.state(stated).await
    }

    /// States all that was observed up to now.
    async fn say_all(&mut self) -> Result<(), EngineError> {
        self.observe().await?;
        let last = self.observed.end();
        self.state(last).await
    }

    async fn state(&self, stated: Vec<(String, Stated)>) -> Result<(), EngineError> {
        let recorder = &self.context.recorder;
        for (site, Stated { said, failures, counted }) in stated {
            if let Some((asked, failed)) = failures {
                recorder.record(&Failures { site, asked, failed }).await?;
            }
            if let Some(counted) = &counted {
                recorder.record(counted).await?;
            }
            if let Some(changed) = &said.changed {
                recorder.record(changed).await?;
            }
            for found in &said.found {
                recorder.record(found).await?;
            }
            if let Some(covered) = &said.covered {
                recorder.record(covered).await?;
            }
        }
        Ok(())
    }

    async fn journal_refusals(&mut self) -> Result<(), EngineError> {
        let counts: Vec<_> = self.kept.shared.tally.refusals().collect();
        for ((refusal, count), before) in counts.into_iter().zip(&mut self.refusals) {
            let new = count - std::mem::replace(before, count);
            if new > 0 && refusal.is_of_framing() {
                let class = refusal.class().to_owned();
                self.context.recorder.record(&Refused { class, count: new }).await?;
            }
        }
        Ok(())
    }

    async fn answer(&mut self, wish: Wish) -> Reply {
        match wish {
            Wish::Status => {
                let (shared, problems) = (&self.kept.shared, self.problems.values().flatten());
                crate::status::status(shared, self.desired.is_some(), &self.shown, problems)
            }
            Wish::Close { site, except } => {
                let closing = Closing { except, since: self.context.clock.now() };
                self.set_closing(&site, Some(closing)).await
            }
            Wish::Open { site } => self.set_closing(&site, None).await,
            Wish::Drain { upstream } => self.set_drained(upstream, true).await,
            Wish::Resume { upstream } => self.set_drained(upstream, false).await,
        }
    }

    /// Closes or opens a site: at once, then on the disk, then in the journal.
    async fn set_closing(&mut self, domain: &str, closing: Option<Closing>) -> Reply {
        let plan = Arc::clone(&self.kept.shared.plan.borrow());
        let Some(site) = plan.site(domain) else {
            return Reply::error(404, &format!("the policy has no site {domain}: see `garant gate status`"));
        };
        let event = AccessChanged {
            site: domain.to_owned(),
            closed: closing.is_some(),
            except: closing.iter().flat_map(|closing| &closing.except).map(ToString::to_string).collect(),
        };
        site.close(closing);
        self.kept.shared.rule();
        let is_kept = self.decisions.closed.keep(plan.closed()).await;
        self.say_what_is_not_kept();
        if let Err(error) = self.context.recorder.record(&event).await {
            tracing::error!(%error, "it is not in the journal that a site was closed or opened");
        }
        Reply::json(&json!({
            "site": domain,
            "closed": event.closed,
            "except": event.except,
            "closed_by_policy": site.settings.closed,
            "kept": is_kept,
            "came_after": self.succession.came_after(),
        }))
    }

    /// Gives an upstream no new requests, or some again: at once, then on the disk, then in the journal.
    async fn set_drained(&mut self, upstream: SocketAddr, is_drained: bool) -> Reply {
        let shared = &self.kept.shared;
        let plan = Arc::clone(&shared.plan.borrow());
        if !plan.upstreams().any(|it| it.address == upstream) {
            return Reply::error(404, &format!("the policy has no upstream {upstream}: see `garant gate status`"));
        }
        let drained = {
            let mut drained = shared.drained();
            if is_drained {
                drained.entry(upstream).or_insert_with(|| self.context.clock.now());
            } else {
                drained.remove(&upstream);
            }
            drained.clone()
        };
        plan.drain(&drained);
        let in_flight: u32 = plan.upstreams().filter(|it| it.address == upstream).map(|it| it.in_flight()).sum();
        let is_kept = self.decisions.drained.keep(drained).await;
        self.say_what_is_not_kept();
        let event = UpstreamDrained { upstream: upstream.to_string(), drained: is_drained };
        if let Err(error) = self.context.recorder.record(&event).await {
            tracing::error!(%error, "it is not in the journal that an upstream is drained, or no longer");
        }
        Reply::json(&json!({
            "upstream": event.upstream,
            "drained": is_drained,
            "in_flight": in_flight,
            "kept": is_kept,
            "came_after": self.succession.came_after(),
        }))
    }

    /// Has a plan follow what people have decided by commands. What was decided before this gate ran is told by the one before, or is
    /// on the disk.
    async fn follow_decisions(&mut self, plan: &Arc<Plan>) {
        let shared = Arc::clone(&self.kept.shared);
        if shared.plan.borrow().sites.is_empty() && !plan.sites.is_empty() {
            let known = self.succession.take_known();
            let (mut closed, mut drained) = (self.decisions.closed.read().await, self.decisions.drained.read().await);
            if let Some(known) = &known {
                // What the gate before could not write is written now, or said.
                if closed.as_ref() != Ok(&known.closed) {
                    _ = self.decisions.closed.keep(known.closed.clone()).await;
                }
                if drained.as_ref() != Ok(&known.drained) {
                    _ = self.decisions.drained.keep(known.drained.clone()).await;
                }
                self.say_what_is_not_kept();
                (closed, drained) = (Ok(known.closed.clone()), Ok(known.drained.clone()));
            }
            self.close_as_decided(plan, closed);
            match drained {
                Ok(drained) => *shared.drained() = drained,
                Err(why) => {
                    let why = format!("{why}, and which upstreams are drained is not known: none is. Drain them again");
                    self.say("drained upstreams", vec![why]);
                }
            }
            if let Some(known) = known {
                known.tell(plan, self.context.clock.now());
            }
        }
        self.drain_as_decided(plan);
    }

    fn drain_as_decided(&self, plan: &Plan) {
        let mut drained = self.kept.shared.drained();
        // What the policy does not name any more is another machine when it comes back.
        drained.retain(|address, _| plan.sites.is_empty() || plan.upstreams().any(|it| it.address == *address));
        plan.drain(&drained);
    }

    fn close_as_decided(&mut self, plan: &Plan, closed: Result<BTreeMap<String, Closing>, String>) {
        match closed {
            Ok(closed) => {
                for (domain, closing) in closed {
                    if let Some(site) = plan.site(&domain) {
                        site.close(Some(closing));
                    }
                }
            }
            // Whom to keep out is not known any more: nobody gets in until somebody says so.
            Err(why) => {
                let since = self.context.clock.now();
                for site in &plan.sites {
                    site.close(Some(Closing { except: Vec::new(), since }));
                }
                let why = format!(
                    "{why}, and which sites were closed is not known: all are closed. Open them with `garant gate open`"
                );
                self.say("closed sites", vec![why]);
            }
        }
    }
}

/// Has the gate take no more connections than it has descriptors for: each may need one to an upstream. What there is to say, if
/// that is fewer than is desired.
fn bound_connections(gate: &mut Gate, limit: Option<u64>) -> Option<String> {
    let room = u32::try_from(limit?.saturating_sub(DESCRIPTORS_KEPT) / 2).unwrap_or(u32::MAX).max(16);
    if room >= gate.connections_max {
        return None;
    }
    let wanted = std::mem::replace(&mut gate.connections_max, room);
    Some(format!(
        "the gate may open so few files and sockets that it takes {room} connections at a time, not {wanted}: raise its limit \
         (LimitNOFILE of systemd, `ulimit -Hn`) to {}, or lower `connections_max` in [gate]",
        u64::from(wanted) * 2 + DESCRIPTORS_KEPT
    ))
}

/// A socket that listens.
fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    bind(address)?.listen(BACKLOG)?.into_std()
}

/// Deadline of the engine to stop: its threads hurry for two seconds.
pub const STOPS_WITHIN: Span = Span::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// A bound that the system sets lower than the policy is kept, and said.
    #[test]
    fn connections_are_bounded_by_descriptors() {
        let mut gate = Config::of_one_site().gate;
        assert_eq!((bound_connections(&mut gate, None), gate.connections_max), (None, 10_000));
        assert_eq!((bound_connections(&mut gate, Some(65_536)), gate.connections_max), (None, 10_000));
        let said = bound_connections(&mut gate, Some(4096)).expect("something to say");
        assert!(said.contains("1792 connections at a time, not 10000") && said.contains("20512"), "{said}");
        assert_eq!((bound_connections(&mut gate, Some(4096)), gate.connections_max), (None, 1792));
    }
}
