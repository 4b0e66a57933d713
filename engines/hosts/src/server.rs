//! The server's side: an engine that starts the agent of this host where it may, tells it what to do, and journals what comes.
//!
//! What an agent may say is decided here: its events are of its own observers, and of kinds that its engines write. Their
//! audience and class are those of the kind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::metrics::{MetricsSource, MetricsText, ToldFigure};
use engine::program::Companion;
use engine::{BoxFuture, Context, Engine, EngineError, Program};
use event::policy::Applied;
use event::{Kind, Observed, Sent, Span};
use serde_json::value::RawValue;
use store::{Sink, StoreError};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::account::{Account, LOG_GROUPS, group_numbers};
use crate::config::Config;
use crate::events::{Attached, Lost};
use crate::probes::Standings;
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
    /// The socket of an agent whose state is in this directory.
    pub fn socket(&self) -> PathBuf {
        self.state.join("agent.sock")
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

/// The engine.
pub struct Hosts {
    config: watch::Receiver<Arc<Config>>,
    applied: watch::Receiver<Arc<Applied>>,
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
    /// Its part of the policy.
    pub config: watch::Receiver<Arc<Config>>,
    /// Changes whenever the policy does, after all of its parts.
    pub applied: watch::Receiver<Arc<Applied>>,
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

/// How a conversation with the agent ended.
enum Parted {
    /// The engine is to stop.
    Stopped,
    /// The agent is gone, or speaks another language.
    Gone(String),
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
    fn let_go(&mut self) -> Parted {
        self.is_let_go = true;
        let reason = "another server has attached to the agent, and this one stays away: name another socket in [agent], or \
                      take the agent back with `garant reload`";
        Parted::Gone(reason.to_owned())
    }

    /// The conversation goes well.
    fn go_well(&mut self) {
        (self.wait, self.lost) = (AGAIN_MIN, None);
    }
}

impl Hosts {
    /// The engine.
    pub fn new(given: Given) -> Self {
        let Given { config, applied, sink, kinds, desires, figures, place } = given;
        let view = Arc::default();
        let standings = Arc::default();
        Self { config, applied, sink, kinds, desires, figures, place, view, standings, companion: Mutex::default() }
    }

    /// What is known of the agent, for metrics.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::new(Figures { view: self.view.subscribe(), of_engines: self.figures.clone() })
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
        let mut config = self.config.clone();
        let mut talks = Talks { wait: AGAIN_MIN, attached: None, lost: None, is_let_go: false, has_told: false };
        // An agent that an earlier process of garant started, and that is attached now.
        let mut adopted = None;
        loop {
            context.progress.tick();
            let wanted = self.engines()?;
            let agent = config.borrow_and_update().agent.clone();
            let socket = agent.socket.clone().unwrap_or_else(|| self.place.socket());
            let fault = match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
                    match self.converse(&context, stream, &mut talks).await? {
                        Parted::Stopped => {
                            adopted = peer.filter(|_| agent.socket.is_none()).map(|pid| (pid, socket));
                            break;
                        }
                        Parted::Gone(reason) => {
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
                    let socket = socket.display();
                    Some(format!("no agent answers at {socket} ({error}): start its unit, garant-agent.service"))
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
        if let Some(mut companion) = companion
            && !companion.has_ended()
        {
            companion.stop(STOPS_WITHIN).await;
        } else if let Some((pid, socket)) = adopted {
            stop_adopted(pid, &socket).await;
        }
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
        let me = rustix::process::geteuid();
        if !me.is_root() {
            return Err(format!(
                "garant runs as user {}, which may not change this host: start `garant agent` as a unit of its own \
                 (docs/agent.md), and name its socket in [agent]",
                me.as_raw()
            ));
        }
        if let Some(why) = crate::socket_too_long(&self.place.socket()) {
            return Err(format!("{why}; run garant with a data directory of a shorter path (--data)"));
        }
        let program = self.program(user)?;
        let companion = context.programs.companion(&program).map_err(|error| error.to_string())?;
        tracing::info!(pid = companion.id(), state = %self.place.state.display(), "the agent is started");
        *self.companion() = Some(companion);
        match has_ended {
            Some(pid) => Err(format!("the agent (process {pid}) has ended and is started again; it says why above")),
            None => Ok(()),
        }
    }

    /// The agent as a program: as its own user, in the groups that may read logs, with the capabilities that its engines need.
    fn program(&self, user: &str) -> Result<Program, String> {
        let executable = std::env::current_exe().map_err(|error| format!("garant does not find itself: {error}"))?;
        let account = Account::named(user).map_err(|error| format!("/etc/passwd can't be read: {error}"))?;
        let (uid, gid) = account.as_ref().map_or((0, 0), |account| (account.uid, account.gid));
        if account.is_none() {
            tracing::warn!(
                "there is no user {user}: the agent runs as root, with few capabilities, and could still write what belongs to root. \
                 Make the user with `adduser --system --group {user}`"
            );
        }
        make_private(&self.place.state, uid, gid)
            .map_err(|error| format!("{} can't be made: {error}", self.place.state.display()))?;
        let groups = group_numbers(&LOG_GROUPS).map_err(|error| format!("/etc/group can't be read: {error}"))?;
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
            .args(["agent", "--state"])
            .arg(&self.place.state))
    }

    /// Speaks with the agent until one of the two goes.
    async fn converse(&self, context: &Context, stream: UnixStream, talks: &mut Talks) -> Result<Parted, EngineError> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        match self.talk(context, &mut read, &mut write, talks).await {
            Ok(parted) => Ok(parted),
            Err(Talk::Stream(error)) => Ok(Parted::Gone(format!("the agent does not answer: {error}"))),
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
            return Ok(Parted::Gone("the agent ended the conversation".to_owned()));
        };
        if protocol != PROTOCOL {
            return Ok(Parted::Gone(format!(
                "the agent is of release {version}, which this one does not understand: run the same release"
            )));
        }
        let attached = Attached { version, pid, revision: following.revision };
        if talks.lost.is_none() || talks.attached.as_ref() != Some(&attached) {
            context.recorder.record(&attached).await.map_err(EngineError::from)?;
            tracing::info!(pid, "the agent is attached");
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
                    if refusal.is_some() {
                        self.tell(&mut following, write).await?;
                    }
                }
                error = &mut reading => {
                    // It may have said why it goes.
                    while let Ok(said) = line.try_recv() {
                        if matches!(said, FromAgent::LetGo {}) {
                            return Ok(talks.let_go());
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
                            tracing::error!(revision, refused, "the agent does not follow the policy: it is told again");
                        }
                        // Its revision may be above ours, where another server told it more.
                        following.revision = following.revision.max(revision);
                        refusal = refused;
                    }
                    FromAgent::LetGo {} => {
                        return Ok(talks.let_go());
                    }
                    // Events come once those before them are taken.
                    FromAgent::Events { .. } | FromAgent::Hello { .. } | FromAgent::Answer { .. } => {
                        return Ok(Parted::Gone("the agent said something that does not belong there".to_owned()));
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
                refusal = Some(format!("`{}` is no observer of this agent", event.observer));
            }
        }
        let refused = match self.keep(context, observed.clone()).await? {
            Err(error) if observed.len() > 1 => {
                tracing::debug!(%error, "events of the agent are taken one by one");
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
                tracing::error!(reason, "an event of the agent can't be journaled, and is dropped");
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
                    tracing::debug!(%error, "events of the agent wait");
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
        crate::NAME
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
    view: watch::Receiver<AgentView>,
    of_engines: Vec<(&'static str, &'static [ToldFigure])>,
}

impl MetricsSource for Figures {
    fn write(&self, text: &mut MetricsText) {
        let view = self.view.borrow().clone();
        if !view.is_wanted {
            return;
        }
        let about = "Whether the agent of this host is attached.";
        text.gauge("garant_hosts_agent_attached", "", about).sample(&[], view.standing.is_some());
        let Some(standing) = view.standing else { return };
        let about = "Groups of events that wait in the agent's spool.";
        text.gauge("garant_hosts_spooled", "", about).sample(&[], standing.spooled);
        let about = "Events lost at the bound of the agent's spool since it started.";
        text.counter("garant_hosts_lost", "", about).sample(&[], standing.lost);
        let mut running = text.gauge("garant_hosts_engine_running", "", "Whether an engine of the agent runs.");
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
const OWN_KINDS: [&Kind; 11] = {
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
    ]
};

/// Stops an agent that is no child of this process, as [`Companion::stop`] does one that is: it has ended once nobody listens at
/// its socket.
async fn stop_adopted(pid: i32, socket: &std::path::Path) {
    let Some(process) = rustix::process::Pid::from_raw(pid) else { return };
    let has_ended = async {
        while UnixStream::connect(socket).await.is_ok() {
            tokio::time::sleep(AGAIN_MIN).await;
        }
    };
    if let Err(error) = rustix::process::kill_process(process, rustix::process::Signal::TERM) {
        tracing::warn!(pid, %error, "the agent could not be told to stop");
    } else if tokio::time::timeout(STOPS_WITHIN.to_std(), has_ended).await.is_err() {
        tracing::warn!(pid, "the agent does not stop, and is killed");
        _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
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
