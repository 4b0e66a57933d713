//! The server's side: an engine that starts the agent of this host where it may, tells it what to do, and journals what comes.
//!
//! What an agent may say is decided here: its events are of its own observers, and of kinds that its engines write. Their
//! audience and class are those of the kind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::metrics::{MetricsSource, MetricsText, ToldFigure};
use engine::program::Companion;
use engine::{BoxFuture, Context, Engine, EngineError, Program};
use event::policy::Applied;
use event::{Kind, Observed, Sent, Span};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::value::RawValue;
use store::{Sink, StoreError};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::account::{Account, group_numbers};
use crate::config::Agent;
use crate::events::{Attached, Lost};
use crate::probes::Standings;
use crate::role::Role;
use crate::succession;
use crate::wire::{self, Desired, FromAgent, PROTOCOL, Standing, ToAgent};

/// Shortest and longest wait before the agent is looked for again.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the agent's first words, and for the next ones: it says how it is doing every ten seconds.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// How long a started agent has to stop.
const STOPS_WITHIN: Span = Span::from_secs(4);

/// What one engine of the agent is to do, by the policy in effect; `None` for nothing.
pub type Desire = Arc<dyn Fn() -> Result<Option<Box<RawValue>>, serde_json::Error> + Send + Sync>;

/// An engine of the agent.
#[derive(Clone)]
pub struct Wanted {
    /// Its name.
    pub engine: &'static str,
    /// What it is to do.
    pub desire: Desire,
    /// The capabilities that the agent needs for it, as setpriv(1) calls them.
    pub capabilities: &'static [&'static str],
}

/// How the agent of this host is started, and where it keeps its state.
#[derive(Clone, Debug)]
pub struct AgentPlace {
    /// The directory of its state, for an agent that `garant up` starts.
    pub state: PathBuf,
}

impl AgentPlace {
    /// The socket of a process whose state is in this directory.
    pub fn socket(&self, role: &Role) -> PathBuf {
        self.state.join(role.file("sock"))
    }
}

/// What is known of the agent; for pages and metrics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AgentView {
    /// Whether an engine of the agent has something to do.
    pub is_wanted: bool,
    /// What it said last, while it is connected.
    pub standing: Option<Standing>,
    /// Why it is not connected.
    pub fault: Option<String>,
}

/// What the policy in effect says of the process.
pub type AgentNow = Arc<dyn Fn() -> Agent + Send + Sync>;

/// The engine.
pub struct Hosts {
    role: &'static Role,
    agent: AgentNow,
    applied: watch::Receiver<Arc<Applied>>,
    also: watch::Receiver<()>,
    sink: Arc<dyn Sink>,
    kinds: Vec<&'static Kind>,
    desires: Vec<Wanted>,
    figures: Vec<(&'static str, &'static [ToldFigure])>,
    place: AgentPlace,
    view: Arc<watch::Sender<AgentView>>,
    standings: Arc<Standings>,
    /// The agent that this process has started. It outlives a failed attempt of the engine.
    companion: Mutex<Option<Companion>>,
}

/// What the engine is given.
pub struct Given {
    /// The process that it speaks with.
    pub role: &'static Role,
    /// What the policy in effect says of that process.
    pub agent: AgentNow,
    /// Changes whenever the policy does, after all of its parts.
    pub applied: watch::Receiver<Arc<Applied>>,
    /// Changes whenever something else does that the engines are to do: bans. What changes often is told at a pace.
    pub also: watch::Receiver<()>,
    /// Takes the events of agents.
    pub sink: Arc<dyn Sink>,
    /// The kinds that engines of agents write, beside those of `event`.
    pub kinds: Vec<&'static Kind>,
    /// The engines of agents, and what the policy wants of them.
    pub desires: Vec<Wanted>,
    /// The figures that engines of agents have.
    pub figures: Vec<(&'static str, &'static [ToldFigure])>,
    /// Where a started agent is.
    pub place: AgentPlace,
}

/// How long a desired state rests that changes often: a second, or longer for one that is long, which the agent writes to its disk
/// each time.
fn pace(desired: &Desired) -> Duration {
    const BYTES_PER_S: u64 = 200_000;
    let bytes: usize = desired.engines.values().map(|engine| engine.get().len()).sum();
    Duration::from_secs(1 + u64::try_from(bytes).unwrap_or(u64::MAX) / BYTES_PER_S)
}

/// How a conversation with the agent ended.
enum Parted {
    /// The engine is to stop.
    Stopped,
    /// The agent is gone, or speaks another language.
    Gone(String),
    /// Another process takes its place, at the same socket.
    Succeeded,
}

/// What is remembered from one conversation with the agent to the next.
struct Talks {
    /// Wait before the agent is looked for again.
    wait: Duration,
    /// The last [`Attached`] in the journal.
    attached: Option<Attached>,
    /// The reason of the last [`Lost`] in the journal, until a conversation goes well: one that ends again and again for one
    /// reason is told once.
    lost: Option<String>,
    /// Whether another server has the agent now.
    is_let_go: bool,
    /// Whether this process has told the agent what to do.
    has_told: bool,
}

impl Talks {
    /// Another server has the agent now.
    fn let_go(&mut self, role: &Role) -> Parted {
        self.is_let_go = true;
        let Role { noun, table, .. } = role;
        Parted::Gone(format!(
            "another server has attached to the {noun}, and this one stays away: name another socket in {table}, or take the {noun} \
             back with `garant reload`"
        ))
    }

    /// The conversation goes well.
    fn go_well(&mut self) {
        (self.wait, self.lost) = (AGAIN_MIN, None);
    }
}

impl Hosts {
    /// The engine.
    pub fn new(given: Given) -> Self {
        let Given { role, agent, applied, also, sink, kinds, desires, figures, place } = given;
        let view = Arc::default();
        let standings = Arc::default();
        Self {
            role,
            agent,
            applied,
            also,
            sink,
            kinds,
            desires,
            figures,
            place,
            view,
            standings,
            companion: Mutex::default(),
        }
    }

    /// What is known of the agent, for metrics.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::new(Figures { role: self.role, view: self.view.subscribe(), of_engines: self.figures.clone() })
    }

    /// The probes of agents, for the pages.
    pub fn probes(&self) -> engine::standing::Probes {
        self.standings.probes(self.view.subscribe())
    }

    fn engines(&self) -> Result<BTreeMap<String, Box<RawValue>>, EngineError> {
        let mut engines = BTreeMap::new();
        for wanted in &self.desires {
            if let Some(desired) = (wanted.desire)()? {
                engines.insert(wanted.engine.to_owned(), desired);
            }
        }
        Ok(engines)
    }

    async fn supervise(&self, context: Context) -> Result<(), EngineError> {
        let mut talks = Talks { wait: AGAIN_MIN, attached: None, lost: None, is_let_go: false, has_told: false };
        // Whether the processes on the state are for this one to stop: those of a unit are not.
        let mut is_ours = false;
        loop {
            context.progress.tick();
            let wanted = self.engines()?;
            let agent = (self.agent)();
            let socket = agent.socket.clone().unwrap_or_else(|| self.place.socket(self.role));
            let fault = match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    is_ours = agent.socket.is_none();
                    match self.converse(&context, stream, &mut talks).await? {
                        Parted::Stopped => break,
                        Parted::Succeeded => continue,
                        Parted::Gone(reason) => {
                            is_ours &= !talks.is_let_go;
                            if talks.lost.as_ref() != Some(&reason) {
                                context.recorder.record(&Lost { reason: reason.clone() }).await?;
                                talks.lost = Some(reason.clone());
                            }
                            Some(reason)
                        }
                    }
                }
                Err(_) if wanted.is_empty() => None,
                Err(error) if agent.socket.is_some() => {
                    let (socket, noun) = (socket.display(), self.role.noun);
                    Some(format!("no {noun} answers at {socket} ({error}): start its unit, garant-{noun}.service"))
                }
                Err(_) => self.start(&context, &agent.user).err(),
            };
            self.show(|view| {
                view.is_wanted = !wanted.is_empty();
                view.standing = None;
                if let Some(fault) = &fault
                    && view.fault.as_ref() != Some(fault)
                {
                    let engines: Vec<&str> = wanted.keys().map(String::as_str).collect();
                    tracing::warn!("{fault}. Until then these engines can't act: {}", engines.join(", "));
                }
                view.fault = fault;
            });
            let mut applied = self.applied.clone();
            // A policy that was applied earlier is no news.
            applied.mark_unchanged();
            // Two servers that want one agent would take it from each other for ever.
            while std::mem::take(&mut talks.is_let_go) {
                context.progress.tick();
                tokio::select! {
                    () = context.stop.cancelled() => {}
                    () = tokio::time::sleep(AGAIN_MAX) => talks.is_let_go = true,
                    _ = applied.changed() => {}
                }
            }
            tokio::select! {
                () = context.stop.cancelled() => break,
                () = tokio::time::sleep(talks.wait) => talks.wait = (talks.wait * 2).min(AGAIN_MAX),
                _ = applied.changed() => talks.wait = AGAIN_MIN,
            }
        }
        let companion = self.companion().take();
        let started = companion.as_ref().and_then(Companion::id);
        let others = async {
            // After an upgrade the process that was started may still end what it has begun, and another one serves.
            if is_ours {
                stop_others(self.role, &self.place.state, started).await;
            }
        };
        let own = async {
            if let Some(mut companion) = companion
                && !companion.has_ended()
            {
                companion.stop(STOPS_WITHIN).await;
            }
        };
        tokio::join!(own, others);
        Ok(())
    }

    /// Starts the agent, unless it is starting already.
    fn start(&self, context: &Context, user: &str) -> Result<(), String> {
        let mut has_ended = None;
        if let Some(companion) = self.companion().as_mut()
            && let Some(pid) = companion.id()
        {
            if !companion.has_ended() {
                return Ok(());
            }
            has_ended = Some(pid);
        }
        let (me, noun) = (rustix::process::geteuid(), self.role.noun);
        if !me.is_root() && self.role.needs_root {
            return Err(format!(
                "garant runs as user {}, which may not change this host: start `garant agent` as a unit of its own \
                 (docs/agent.md), and name its socket in [agent]",
                me.as_raw()
            ));
        }
        if let Some(why) = crate::socket_too_long(&self.place.socket(self.role)) {
            return Err(format!("{why}; run garant with a data directory of a shorter path (--data)"));
        }
        let program = if me.is_root() { self.program(user)? } else { self.program_as_it_is()? };
        let companion = context.programs.companion(&program).map_err(|error| error.to_string())?;
        tracing::info!(pid = companion.id(), state = %self.place.state.display(), "the {noun} is started");
        *self.companion() = Some(companion);
        match has_ended {
            Some(pid) => Err(format!("the {noun} (process {pid}) has ended and is started again; it says why above")),
            None => Ok(()),
        }
    }

    /// The process as a program of the user that this one runs as.
    fn program_as_it_is(&self) -> Result<Program, String> {
        let executable = std::env::current_exe().map_err(|error| format!("garant does not find itself: {error}"))?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        make_private(&self.place.state, uid, gid)
            .map_err(|error| format!("{} can't be made: {error}", self.place.state.display()))?;
        Ok(Program::at("garant", executable).args([self.role.noun, "--state"]).arg(&self.place.state))
    }

    /// The agent as a program: as its own user, in the groups that may read logs, with the capabilities that its engines need.
    fn program(&self, user: &str) -> Result<Program, String> {
        let executable = std::env::current_exe().map_err(|error| format!("garant does not find itself: {error}"))?;
        let account = Account::named(user).map_err(|error| format!("/etc/passwd can't be read: {error}"))?;
        let (uid, gid) = account.as_ref().map_or((0, 0), |account| (account.uid, account.gid));
        if account.is_none() {
            tracing::warn!(
                "there is no user {user}: the {} runs as root, with few capabilities, and could still write what belongs to root. \
                 Make the user with `adduser --system --group {user}`",
                self.role.noun
            );
        }
        make_private(&self.place.state, uid, gid)
            .map_err(|error| format!("{} can't be made: {error}", self.place.state.display()))?;
        let groups = group_numbers(self.role.groups).map_err(|error| format!("/etc/group can't be read: {error}"))?;
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let groups =
            if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={}", groups.join(",")) };
        let wanted = self.desires.iter().filter(|wanted| matches!((wanted.desire)(), Ok(Some(_))));
        let capabilities: BTreeSet<&str> = wanted.flat_map(|wanted| wanted.capabilities).copied().collect();
        let capabilities: Vec<String> = capabilities.iter().map(|name| format!(",+{name}")).collect();
        let capabilities = capabilities.concat();
        let only = |set: &str| format!("--{set}=-all{capabilities}");
        Ok(Program::new("setpriv")
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg(groups)
            .args(["inh-caps", "ambient-caps", "bounding-set"].map(only))
            // Without it access(2), which programs ask before they read, does not count capabilities (capabilities(7)).
            .args(["--securebits=+no_setuid_fixup", "--no-new-privs", "--"])
            .arg(executable)
            .args([self.role.noun, "--state"])
            .arg(&self.place.state))
    }

    /// Speaks with the agent until one of the two goes.
    async fn converse(&self, context: &Context, stream: UnixStream, talks: &mut Talks) -> Result<Parted, EngineError> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        match self.talk(context, &mut read, &mut write, talks).await {
            Ok(parted) => Ok(parted),
            Err(Talk::Stream(error)) => Ok(Parted::Gone(format!("the {} does not answer: {error}", self.role.noun))),
            Err(Talk::Engine(error)) => Err(error),
        }
    }

    async fn talk(
        &self,
        context: &Context,
        read: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
        write: &mut tokio::net::unix::OwnedWriteHalf,
        talks: &mut Talks,
    ) -> Result<Parted, Talk> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        wire::write(write, &ToAgent::Attach { protocol: PROTOCOL, version }).await?;
        let hello = tokio::time::timeout(SILENT_MAX, wire::read::<FromAgent>(read)).await;
        let hello = hello.map_err(|_| io::Error::other("it says nothing"))??;
        let Some(FromAgent::Hello { protocol, version, mut following, pid }) = hello else {
            return Ok(Parted::Gone(format!("the {} ended the conversation", self.role.noun)));
        };
        if protocol != PROTOCOL {
            return Ok(Parted::Gone(format!(
                "the {} is of release {version}, which this one does not understand: run the same release",
                self.role.noun
            )));
        }
        let attached = Attached { version, pid, revision: following.revision };
        if talks.lost.is_none() || talks.attached.as_ref() != Some(&attached) {
            context.recorder.record(&attached).await.map_err(EngineError::from)?;
            tracing::info!(pid, "the {} is attached", self.role.noun);
            talks.attached = Some(attached);
        }
        let mut applied = self.applied.clone();
        applied.borrow_and_update();
        let (lines, mut line) = tokio::sync::mpsc::channel(4);
        let reading = async {
            loop {
                match tokio::time::timeout(SILENT_MAX, wire::read::<FromAgent>(read)).await {
                    Err(_) => return io::Error::other("it says nothing"),
                    Ok(Err(error)) => return error,
                    Ok(Ok(None)) => return io::Error::other("it has ended"),
                    Ok(Ok(Some(said))) => {
                        if lines.send(said).await.is_err() {
                            return io::Error::other("nobody listens");
                        }
                    }
                }
            }
        };
        tokio::pin!(reading);
        // Once also when it is what the agent does: a server that starts knows nothing of what its engines found out before.
        if !std::mem::replace(&mut talks.has_told, true) || !following.asks_for(&self.engines()?) {
            self.tell(&mut following, write).await?;
        }
        let mut also = self.also.clone();
        also.mark_unchanged();
        let (mut has_more, mut rest) = (false, Box::pin(tokio::time::sleep(Duration::ZERO)));
        // Why the agent does not follow what it was told last.
        let mut refusal: Option<String> = None;
        let mut standings = 0_u32;
        // While the storage takes nothing it goes on for as long, beside everything else: an agent that dies meanwhile is missed at once.
        let mut journaling = None;
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return Ok(Parted::Stopped),
                _ = tick.tick() => {
                    context.progress.tick();
                    // One whose place another has taken has ended by itself: that is not waited for anywhere else.
                    self.companion().take_if(Companion::has_ended);
                    if refusal.is_some() {
                        self.tell(&mut following, write).await?;
                    }
                }
                error = &mut reading => {
                    // It may have said why it goes.
                    while let Ok(said) = line.try_recv() {
                        match said {
                            FromAgent::LetGo {} => return Ok(talks.let_go(self.role)),
                            FromAgent::HandsOver {} => return Ok(Parted::Succeeded),
                            _ => {}
                        }
                    }
                    return Err(error.into());
                }
                answer = next(&mut journaling) => {
                    journaling = None;
                    wire::write(write, &answer?).await?;
                    talks.go_well();
                }
                // What the policy leads to may have changed where it did not itself: the files that it names.
                _ = applied.changed() => self.tell(&mut following, write).await?,
                Ok(()) = also.changed(), if !has_more => has_more = true,
                () = &mut rest, if has_more => {
                    has_more = false;
                    self.tell(&mut following, write).await?;
                    rest.as_mut().set(tokio::time::sleep(pace(&following)));
                }
                Some(said) = line.recv() => match said {
                    FromAgent::Events { through, events } if journaling.is_none() => {
                        journaling = Some(Box::pin(self.journal(context, through, events)));
                    }
                    FromAgent::Standing(standing) => {
                        // The first one comes at once; the second shows that it lasts.
                        standings = standings.saturating_add(1);
                        if standings > 1 {
                            talks.go_well();
                        }
                        self.show(|view| {
                            view.is_wanted = !following.engines.is_empty();
                            view.standing = Some(standing);
                            view.fault = None;
                        });
                    }
                    FromAgent::Following { revision, refused } => {
                        if let Some(refused) = &refused
                            && refusal.as_ref() != Some(refused)
                        {
                            tracing::error!(revision, refused, "the {} does not follow the policy: it is told again", self.role.noun);
                        }
                        // Its revision may be above ours, where another server told it more.
                        following.revision = following.revision.max(revision);
                        refusal = refused;
                    }
                    FromAgent::LetGo {} => {
                        return Ok(talks.let_go(self.role));
                    }
                    FromAgent::HandsOver {} => return Ok(Parted::Succeeded),
                    // Events come once those before them are taken.
                    FromAgent::Events { .. }
                    | FromAgent::Hello { .. }
                    | FromAgent::Handed { .. }
                    | FromAgent::Answer { .. } => {
                        return Ok(Parted::Gone(format!("the {} said something that does not belong there", self.role.noun)));
                    }
                },
            }
        }
    }

    /// Tells the agent what to do.
    async fn tell(&self, following: &mut Desired, write: &mut tokio::net::unix::OwnedWriteHalf) -> Result<(), Talk> {
        let engines = self.engines()?;
        *following = Desired { revision: following.revision.saturating_add(1), engines };
        wire::write(write, &ToAgent::Desired(following.clone())).await?;
        Ok(())
    }

    /// Journals events of the agent; what to answer. Waits while the storage takes nothing.
    async fn journal(&self, context: &Context, through: u64, events: Vec<Sent>) -> Result<ToAgent, Talk> {
        let mut observed = Vec::with_capacity(events.len());
        let mut refusal = None;
        for event in events {
            let kind = self.kinds.iter().chain(&OWN_KINDS).find(|kind| kind.name == event.kind);
            let Some(kind) = kind.filter(|kind| event.version <= kind.version) else {
                return Err(io::Error::other(format!(
                    "it sends a `{}` of version {}, which this release does not know: upgrade the server first",
                    event.kind, event.version
                ))
                .into());
            };
            if event.observer.vantage() == VANTAGE {
                self.standings.take(&event);
                observed.push(event.received(kind));
            } else {
                // The others of its batch are none the worse for it.
                refusal = Some(format!("`{}` is no observer of this {}", event.observer, self.role.noun));
            }
        }
        let refused = match self.keep(context, observed.clone()).await? {
            Err(error) if observed.len() > 1 => {
                tracing::debug!(%error, "events of the {} are taken one by one", self.role.noun);
                let mut refused = None;
                for event in observed {
                    refused = self.keep(context, vec![event]).await?.err().or(refused);
                }
                refused
            }
            kept => kept.err(),
        };
        Ok(match refused.map(|error| error.to_string()).or(refusal) {
            Some(reason) => {
                tracing::error!(reason, "an event of the {} can't be journaled, and is dropped", self.role.noun);
                ToAgent::Refused { through, reason }
            }
            None => ToAgent::Taken { through },
        })
    }

    /// Journals these events together, and waits while the storage takes nothing; or says why it will never take them.
    async fn keep(&self, context: &Context, events: Vec<Observed>) -> Result<Result<(), StoreError>, Talk> {
        if events.is_empty() {
            return Ok(Ok(()));
        }
        loop {
            match self.sink.take(events.clone()).await {
                Ok(_) => return Ok(Ok(())),
                Err(error @ (StoreError::Malformed { .. } | StoreError::TooLarge { .. })) => return Ok(Err(error)),
                Err(error) => {
                    tracing::debug!(%error, "events of the {} wait", self.role.noun);
                    context.progress.tick();
                    tokio::select! {
                        () = context.stop.cancelled() => return Err(io::Error::other("garant stops").into()),
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
            }
        }
    }

    fn companion(&self) -> MutexGuard<'_, Option<Companion>> {
        self.companion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, change: impl FnOnce(&mut AgentView)) {
        self.view.send_modify(change);
    }
}

impl Engine for Hosts {
    fn name(&self) -> &'static str {
        self.role.engine
    }

    fn stop_order(&self) -> u8 {
        4
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.supervise(context))
    }
}

/// Figures of the engine, and of those in the agent.
pub struct Figures {
    role: &'static Role,
    view: watch::Receiver<AgentView>,
    of_engines: Vec<(&'static str, &'static [ToldFigure])>,
}

impl MetricsSource for Figures {
    fn write(&self, text: &mut MetricsText) {
        let view = self.view.borrow().clone();
        if !view.is_wanted {
            return;
        }
        let Role { noun, figures, .. } = self.role;
        let about = format!("Whether the {noun} of this host is attached.");
        text.gauge(&format!("{figures}_{noun}_attached"), "", &about).sample(&[], view.standing.is_some());
        let Some(standing) = view.standing else { return };
        let about = format!("Groups of events that wait in the {noun}'s spool.");
        text.gauge(&format!("{figures}_spooled"), "", &about).sample(&[], standing.spooled);
        let about = format!("Events lost at the bound of the {noun}'s spool since it started.");
        text.counter(&format!("{figures}_lost"), "", &about).sample(&[], standing.lost);
        let mut running =
            text.gauge(&format!("{figures}_engine_running"), "", &format!("Whether an engine of the {noun} runs."));
        for engine in &standing.engines {
            running.sample(&[("engine", &engine.engine)], engine.state == "running");
        }
        for (engine, figures) in &self.of_engines {
            if let Some(told) = standing.figures.get(*engine) {
                text.told(figures, told.get(..wire::FIGURES_MAX).unwrap_or(told));
            }
        }
    }
}

/// What comes of the work, if there is any; nothing ever does of none.
async fn next<T>(work: &mut Option<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// The failure of a conversation: of the stream, which ends it, or of this engine.
enum Talk {
    Stream(io::Error),
    Engine(EngineError),
}

impl From<io::Error> for Talk {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

impl From<EngineError> for Talk {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// The vantage point of the agent on the server's own host.
pub const VANTAGE: &str = "server";

/// The kinds of `event` that an agent may write: what it observed, and how its engines are doing. Not what the log says of
/// itself, nor what a policy or a verdict is.
const OWN_KINDS: [&Kind; 12] = {
    use event::{Body, engine, evidence};
    [
        &engine::Started::KIND,
        &engine::Failed::KIND,
        &engine::Stopped::KIND,
        &engine::Blind::KIND,
        &engine::ClockStepped::KIND,
        &evidence::Changed::KIND,
        &evidence::Covered::KIND,
        &evidence::Succeeded::KIND,
        &evidence::Found::KIND,
        &evidence::Reacted::KIND,
        &evidence::Restored::KIND,
        &evidence::Counted::KIND,
    ]
};

/// Stops the processes of a role on a state that are no children of this one, as [`Companion::stop`] does one that is: those of a
/// `garant up` before, those that have taken the place of another, and those that still end what they had begun.
async fn stop_others(role: &'static Role, state: &std::path::Path, but: Option<u32>) {
    let state = state.to_owned();
    let found = tokio::task::spawn_blocking(move || processes_on(role, &state, but)).await.unwrap_or_default();
    let mut ending = tokio::task::JoinSet::new();
    for (pid, process) in found {
        if let Err(error) = pidfd_send_signal(&process, Signal::TERM) {
            tracing::warn!(pid, %error, "the {} could not be told to stop", role.noun);
        }
        ending.spawn_blocking(move || {
            if !succession::end(&process, STOPS_WITHIN) {
                tracing::warn!(pid, "the {} does not stop, and is killed", role.noun);
            }
        });
    }
    while ending.join_next().await.is_some() {}
}

/// The processes of a role on a state, but one: those that are called so, and have the directory of the state open as long as they
/// live. Each is held by a descriptor, for its number may be another's by the time that it is told to stop.
fn processes_on(role: &Role, state: &std::path::Path, but: Option<u32>) -> Vec<(i32, OwnedFd)> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(wanted) = std::fs::metadata(state) else { return Vec::new() };
    let is_it = |file: std::fs::Metadata| (file.dev(), file.ino()) == (wanted.dev(), wanted.ino());
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if u32::try_from(number).ok() == but {
            continue;
        }
        let Some(pid) = rustix::process::Pid::from_raw(number) else { continue };
        let Ok(opened) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).nth(1) != Some(role.noun.as_bytes()) {
            continue;
        }
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        if files.filter_map(|file| std::fs::metadata(file.path()).ok()).any(is_it) {
            found.push((number, opened));
        }
    }
    found
}

/// Makes the directory of the agent's state, of its user and closed to all others. What is in it of the user that had it before, as
/// root before there was a user of the agent, goes to the new one.
fn make_private(dir: &std::path::Path, uid: u32, gid: u32) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let before = std::fs::symlink_metadata(dir)?;
    if !before.is_dir() {
        return Err(io::Error::other("there is something else in its place"));
    }
    hand_over(dir, before.uid(), (uid, gid), HANDED_DEPTH_MAX)
}

/// How deep directories are that are handed over.
const HANDED_DEPTH_MAX: u32 = 32;

/// Gives what is of the user `from` to another one: no link is followed, and what is of others stays theirs.
fn hand_over(path: &std::path::Path, from: u32, to: (u32, u32), depth: u32) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, lchown};
    let is = std::fs::symlink_metadata(path)?;
    if is.uid() != from {
        return Ok(());
    }
    if is.is_dir() && from != to.0 && depth > 0 {
        for entry in std::fs::read_dir(path)? {
            hand_over(&entry?.path(), from, to, depth - 1)?;
        }
    }
    lchown(path, Some(to.0), Some(to.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever follows the advice to make a user for the agent has an agent that reads its own state.
    #[test]
    fn the_state_goes_to_the_new_user_of_the_agent() {
        use std::os::unix::fs::{MetadataExt as _, symlink};
        if !rustix::process::geteuid().is_root() {
            println!("not root: nobody else can be given anything");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (state, other) = (folder.path().join("state"), folder.path().join("other"));
        make_private(&state, 0, 0).expect("made");
        std::fs::create_dir(state.join("spool")).expect("made");
        std::fs::write(state.join("spool/1"), "x").expect("written");
        std::fs::write(&other, "x").expect("written");
        symlink(&other, state.join("link")).expect("linked");
        let owners = || ["", "spool", "spool/1"].map(|name| std::fs::metadata(state.join(name)).expect("there").uid());
        make_private(&state, 4242, 4242).expect("handed over");
        assert_eq!((owners(), std::fs::metadata(&other).expect("there").uid()), ([4242; 3], 0));
        make_private(&state, 0, 0).expect("handed back");
        assert_eq!(owners(), [0; 3]);
    }
}
