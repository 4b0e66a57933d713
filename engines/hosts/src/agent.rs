//! The agent's side: an engine that listens on the agent's socket, delivers the spool, takes desired states and hands questions
//! of commands to the doors of engines.
//!
//! One server is attached at a time: the newest. Alone, the agent goes on from the last desired state, which it keeps on its
//! disk; nothing that it does waits for a server.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::command::Question;
use engine::door::{self, Door, Method, Reply};
use engine::metrics::FiguresTold;
use engine::{BoxFuture, Context, DesiredState, Engine, EngineError, EngineState, HealthBoard};
use event::Span;
use event::engine::{Blind, BlindCause};
use serde_json::value::RawValue;
use store::spool::DiskSpool;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::succession::{Stage, Succession};
use crate::wire::{
    self, Asked, Desired, EngineStanding, FIGURES_MAX, FromAgent, HANDOVER, PROTOCOL, Standing, ToAgent,
};

/// Connections at a time; further ones wait in the queue of the socket, which the kernel bounds.
const CONNECTIONS_MAX: usize = 16;
/// Wait before a queue that was full is tried again.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// How often it is looked whether the engine that is to answer has failed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the first line may take.
const FIRST_LINE: Duration = Duration::from_secs(5);
/// How often a process whose place another one has taken looks what is desired now.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How often an attached server hears how the engines are doing.
const STANDING_EVERY: Duration = Duration::from_secs(10);
/// Wait before a batch that could not be read or was not acknowledged is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The desired state that an agent follows, with its file.
pub struct FollowedState {
    path: PathBuf,
    current: watch::Sender<Arc<Desired>>,
    /// The current one is not on the disk yet.
    is_unwritten: AtomicBool,
    /// The file as it was read last for another process that writes it: its inode, and when it was changed.
    read: Mutex<Option<(u64, i64, i64)>>,
    engines: Mutex<BTreeMap<&'static str, watch::Sender<Option<Arc<RawValue>>>>>,
}

impl FollowedState {
    /// The state that was followed last, from `desired.json` in this directory; none where there is no such file.
    ///
    /// # Errors
    /// The file can't be read. One that is damaged is passed over: the server sends the state again.
    pub fn load(dir: &Path) -> io::Result<Arc<Self>> {
        let path = dir.join("desired.json");
        let desired = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(%error, file = %path.display(), "the desired state is damaged: waiting for the server's");
                Desired::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Desired::default(),
            Err(error) => return Err(error),
        };
        // Nobody counts so far: with such a revision, no later one would be followed.
        let desired = if desired.revision > u64::MAX / 2 { Desired::default() } else { desired };
        let current = watch::Sender::new(Arc::new(desired));
        Ok(Arc::new(Self {
            path,
            current,
            is_unwritten: AtomicBool::new(false),
            read: Mutex::default(),
            engines: Mutex::default(),
        }))
    }

    /// What one engine is to do, now and after each change.
    pub fn of_engine(&self, name: &'static str) -> DesiredState {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = engines.entry(name).or_insert_with(|| watch::Sender::new(part(&self.current.borrow(), name)));
        DesiredState::of(sender.subscribe())
    }

    /// Follows another state, and keeps it. On a full disk it is followed all the same: it may be what takes a ban back. It is
    /// written once there is room; until then, a restart without a server follows the one before.
    fn follow(&self, desired: Desired) -> Result<(), String> {
        let now = self.current.borrow().clone();
        if desired.revision < now.revision || (desired.revision == now.revision && !now.asks_for(&desired.engines)) {
            return Err(format!("revision {} is not newer than {}, which is followed", desired.revision, now.revision));
        }
        for (name, sender) in self.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // Told also when it is the same: the files that it names may be others.
            sender.send_replace(part(&desired, name));
        }
        self.current.send_replace(Arc::new(desired));
        if let Err(error) = self.write() {
            tracing::error!(
                %error,
                file = %self.path.display(),
                "the desired state is followed, and can't be written: free some space there, or let the agent write it"
            );
        }
        Ok(())
    }

    /// Follows what the file says, where that is newer: another process, which has taken the place of this one, has it written there.
    /// Called every second then. One that can't be read or understood changes nothing.
    fn follow_file(&self) {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return };
        let stamp = Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *read == stamp {
            return;
        }
        let Ok(text) = std::fs::read(&self.path) else { return };
        *read = stamp;
        let desired = match serde_json::from_slice::<Desired>(&text) {
            Ok(desired) => desired,
            Err(error) => {
                tracing::error!(%error, file = %self.path.display(), "what is desired now can't be understood: what was before is followed");
                return;
            }
        };
        if self.current.borrow().asks_for(&desired.engines) {
            return;
        }
        for (name, sender) in self.engines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            sender.send_replace(part(&desired, name));
        }
        self.current.send_replace(Arc::new(desired));
    }

    /// Writes the current state; what fails is tried again by [`write_again`](Self::write_again).
    fn write(&self) -> io::Result<()> {
        self.is_unwritten.store(true, Ordering::Relaxed);
        let text = serde_json::to_vec(&**self.current.borrow())?;
        store::write_whole(&self.path, &text, 0o600).map_err(io::Error::other)?;
        self.is_unwritten.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the current state when it could not be written before. Called every few seconds.
    fn write_again(&self) {
        if self.is_unwritten.load(Ordering::Relaxed) && self.write().is_ok() {
            tracing::info!(file = %self.path.display(), "the desired state is written");
        }
    }
}

/// The part of a desired state that is for one engine: `null` where it is to do nothing, none while nobody has said anything.
fn part(desired: &Desired, name: &str) -> Option<Arc<RawValue>> {
    let nothing = || RawValue::NULL.to_owned();
    (desired.revision > 0).then(|| desired.engines.get(name).cloned().unwrap_or_else(nothing).into())
}

/// A listener on the socket, when its file is gone.
type Again = dyn Fn() -> Option<std::os::unix::net::UnixListener> + Send + Sync;

/// The engine of the socket.
pub struct Link {
    again: Box<Again>,
    listener: Mutex<Option<std::os::unix::net::UnixListener>>,
    spool: Arc<DiskSpool>,
    followed: Arc<FollowedState>,
    doors: Arc<ToldDoors>,
    figures: Arc<ToldFigures>,
    board: watch::Receiver<Option<HealthBoard>>,
    attached: Arc<watch::Sender<u64>>,
    succession: Option<Arc<Succession>>,
}

/// The engines that have doors.
pub type ToldDoors = Vec<(&'static str, Arc<dyn Door>)>;

/// The engines that have figures.
pub type ToldFigures = Vec<(&'static str, Arc<dyn FiguresTold>)>;

impl Link {
    /// The engine that serves `listener`. `board` is filled once the supervisor is there.
    pub fn new(
        listener: std::os::unix::net::UnixListener,
        spool: Arc<DiskSpool>,
        followed: Arc<FollowedState>,
        doors: ToldDoors,
        figures: ToldFigures,
        board: watch::Receiver<Option<HealthBoard>>,
    ) -> Self {
        let (listener, attached) = (Mutex::new(Some(listener)), Arc::new(watch::Sender::new(0)));
        let again = Box::new(|| None);
        let (doors, figures, succession) = (Arc::new(doors), Arc::new(figures), None);
        Self { again, listener, spool, followed, doors, figures, board, attached, succession }
    }

    /// Has it hand over to a process that takes the place of this one.
    #[must_use]
    pub fn handing_over(mut self, succession: Option<Arc<Succession>>) -> Self {
        self.succession = succession;
        self
    }

    /// Has it listen anew when `again` says so: when somebody has removed the file of the socket. Asked every few seconds.
    #[must_use]
    pub fn listening_again(
        mut self,
        again: impl Fn() -> Option<std::os::unix::net::UnixListener> + Send + Sync + 'static,
    ) -> Self {
        self.again = Box::new(again);
        self
    }

    /// Listens anew when the file of the socket is gone.
    fn listen_again(&self) -> Result<Option<UnixListener>, EngineError> {
        let Some(listener) = (self.again)() else { return Ok(None) };
        tracing::warn!("the file of the agent's socket was gone, and is there again");
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        self.listener().map(Some)
    }

    async fn serve(&self, context: Context) -> Result<(), EngineError> {
        let mut stage = self.succession.as_ref().map(|succession| succession.stage());
        let has_successor = || self.succession.as_ref().is_some_and(|succession| succession.has_successor());
        let mut listener = if has_successor() { None } else { Some(self.listener()?) };
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        let mut look = tokio::time::interval(FOLLOW_EVERY);
        loop {
            // The file, the socket and the state belong to the other process, once it asks for them: this one only reads there.
            let is_ours = stage.as_mut().is_none_or(|stage| *stage.borrow_and_update() == Stage::Alone);
            if has_successor() {
                // Were it open here, whoever connects after the end of the other one would wait for an answer.
                listener = None;
                *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = next_stage(&mut stage) => {}
                _ = tick.tick() => {
                    context.progress.tick();
                    if is_ours {
                        self.followed.write_again();
                        if self.spool.is_lent() && self.spool.take_back().is_ok() {
                            tracing::info!("the spool can be read again");
                        }
                        if let Some(another) = self.listen_again()? {
                            listener = Some(another);
                        }
                    }
                }
                _ = look.tick(), if has_successor() => self.followed.follow_file(),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                Some(accepted) = accept(listener.as_ref()), if is_ours && connections.len() < CONNECTIONS_MAX => {
                    let (stream, own) = accepted?;
                    let connection = Connection {
                        spool: Arc::clone(&self.spool),
                        followed: Arc::clone(&self.followed),
                        doors: Arc::clone(&self.doors),
                        figures: Arc::clone(&self.figures),
                        board: self.board.clone(),
                        attached: Arc::clone(&self.attached),
                        context: context.clone(),
                        succession: self.succession.clone(),
                    };
                    connections.spawn(async move {
                        let (read, write) = stream.into_split();
                        let served = match connection.serve(BufReader::new(read), write).await {
                            Ok(Some((read, write))) => connection.hand_over(own, read, write).await,
                            ended => ended.map(drop),
                        };
                        if let Err(error) = served {
                            tracing::debug!(%error, "a connection to the agent's socket ended");
                        }
                    });
                }
            }
        }
    }

    /// The listener, for this attempt.
    fn listener(&self) -> Result<UnixListener, EngineError> {
        let held = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = held.as_ref().ok_or_else(|| EngineError::fatal("the agent's socket is gone"))?;
        Ok(UnixListener::from_std(listener.try_clone()?)?)
    }
}

impl Engine for Link {
    fn name(&self) -> &'static str {
        "link"
    }

    fn stop_order(&self) -> u8 {
        1
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.serve(context))
    }
}

struct Connection {
    spool: Arc<DiskSpool>,
    followed: Arc<FollowedState>,
    doors: Arc<ToldDoors>,
    figures: Arc<ToldFigures>,
    board: watch::Receiver<Option<HealthBoard>>,
    attached: Arc<watch::Sender<u64>>,
    context: Context,
    succession: Option<Arc<Succession>>,
}

impl Connection {
    /// Serves a connection to its end, but for one whose peer wants to take the place of this process.
    async fn serve<R, W>(&self, mut read: BufReader<R>, mut write: W) -> io::Result<Option<(BufReader<R>, W)>>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Unpin,
    {
        let first = tokio::time::timeout(FIRST_LINE, wire::read::<ToAgent>(&mut read)).await;
        match first.map_err(|_| io::Error::other("it said nothing"))?? {
            Some(ToAgent::Ask(asked)) => {
                let (status, body) = self.answer(&asked).await;
                wire::write(&mut write, &FromAgent::Answer { status, body }).await?;
                Ok(None)
            }
            Some(ToAgent::TakeOver { protocol: HANDOVER }) => Ok(Some((read, write))),
            Some(ToAgent::Attach { protocol, version }) => {
                let following = Desired::clone(&self.followed.current.borrow());
                let pid = std::process::id().cast_signed();
                let ours = env!("CARGO_PKG_VERSION").to_owned();
                let hello = FromAgent::Hello { protocol: PROTOCOL, version: ours, following, pid };
                wire::write(&mut write, &hello).await?;
                if protocol != PROTOCOL {
                    tracing::warn!(version, protocol, "a server of another release can't be understood: run the same");
                    return Ok(None);
                }
                self.attach(read, write).await?;
                Ok(None)
            }
            _ => Err(io::Error::other("the first line is neither a server's nor a command's")),
        }
    }

    async fn hand_over(&self, own: OwnedFd, read: BufReader<OwnedReadHalf>, write: OwnedWriteHalf) -> io::Result<()> {
        let Some(succession) = &self.succession else {
            return Err(io::Error::other("nothing here is handed over"));
        };
        if self.followed.is_unwritten.load(Ordering::Relaxed) {
            tracing::error!(
                "the desired state is not on the disk: no process can take the place of this one before it is"
            );
            return Err(io::Error::other("the desired state is not on the disk"));
        }
        succession.hand_over(own, &self.spool, read, write).await
    }

    async fn answer(&self, asked: &Asked) -> (u16, String) {
        let method = match asked.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            _ => return (405, String::new()),
        };
        let question = Question { method, target: asked.target.clone(), body: asked.body.clone().into_bytes() };
        let now = self.context.clock.now();
        let calls = self.doors.iter();
        let mut calls =
            calls.filter_map(|(engine, door)| Some((engine, door, door::call_of(door.as_ref(), &question, now)?)));
        let Some((engine, door, call)) = calls.next() else {
            return (404, serde_json::json!({ "error": "no engine of this agent answers that" }).to_string());
        };
        let reply = tokio::select! {
            biased;
            reply = tokio::time::timeout(door::CALL_TIME_MAX.to_std(), door.call(call)) => {
                reply.unwrap_or_else(|_| Reply::error(504, "the engine did not answer in time"))
            }
            reason = self.failure_of(engine) => {
                Reply::error(503, &format!("the engine {engine} has failed, and is started again and again: {reason}"))
            }
        };
        let status = reply.status();
        match reply {
            Reply::Json(_, body) => (status, String::from_utf8_lossy(&body).into_owned()),
            Reply::Text(_, text) | Reply::Calendar(text) => (status, text),
            Reply::DoorPage(_, shown) => (status, shown.title.en),
            Reply::Refused(_) => (status, String::new()),
        }
    }

    /// Why an engine has failed that is not at work again; it is waited for that.
    async fn failure_of(&self, engine: &str) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let engines = self.board.borrow().as_ref().map(HealthBoard::read).unwrap_or_default();
            let is_down = |state| matches!(state, EngineState::Restarting | EngineState::Failed);
            let failed = engines.into_iter().find(|health| health.engine == engine && is_down(health.state));
            if let Some(reason) = failed.and_then(|health| health.last_error) {
                return reason;
            }
        }
    }

    /// Serves an attached server until it goes, another one comes, or the agent stops.
    async fn attach<R, W>(&self, mut read: BufReader<R>, mut write: W) -> io::Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Unpin,
    {
        let mut number = 0;
        self.attached.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let mut attached = self.attached.subscribe();
        let mut stage = self.succession.as_ref().map(|succession| succession.stage());
        let mut spooled = self.spool.state();
        let mut standing_due = tokio::time::interval(STANDING_EVERY);
        // A line is read by a task of its own: half a line that a `select` dropped would be lost.
        let (lines, mut line) = tokio::sync::mpsc::channel(4);
        let reader = tokio::spawn(async move {
            while let Ok(Some(said)) = wire::read::<ToAgent>(&mut read).await {
                if lines.send(said).await.is_err() {
                    return;
                }
            }
        });
        let _stops_with_us = AbortOnDrop(reader);
        // The number that is to be acknowledged, of what is under way.
        let mut under_way = None;
        let mut paused = false;
        loop {
            self.journal_losses().await;
            if under_way.is_none() && !paused {
                spooled.borrow_and_update();
                match self.next().await {
                    Ok(Some((through, events))) => {
                        wire::write(&mut write, &FromAgent::Events { through, events }).await?;
                        under_way = Some(through);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "the spool can't be read");
                        paused = true;
                    }
                }
            }
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(()),
                () = next_stage(&mut stage) => return wire::write(&mut write, &FromAgent::HandsOver {}).await,
                () = another(&mut attached, number) => {
                    tracing::info!("another server has attached: this one is let go");
                    return wire::write(&mut write, &FromAgent::LetGo {}).await;
                }
                _ = spooled.changed(), if under_way.is_none() && !paused => {}
                () = tokio::time::sleep(AGAIN), if paused => paused = false,
                _ = standing_due.tick() => wire::write(&mut write, &FromAgent::Standing(self.standing())).await?,
                said = line.recv() => {
                    let Some(said) = said else { return Ok(()) };
                    match said {
                        ToAgent::Taken { through } if under_way == Some(through) => {
                            self.acknowledge(through).await;
                            under_way = None;
                        }
                        ToAgent::Refused { through, reason } if under_way == Some(through) => {
                            tracing::error!(reason, "the server does not take an event, which is dropped");
                            self.acknowledge(through).await;
                            under_way = None;
                        }
                        ToAgent::Desired(desired) => {
                            let refused = self.followed.follow(desired).err();
                            let revision = self.followed.current.borrow().revision;
                            wire::write(&mut write, &FromAgent::Following { revision, refused }).await?;
                        }
                        _ => return Err(io::Error::other("a line that does not belong there")),
                    }
                }
            }
        }
    }

    async fn next(&self) -> io::Result<Option<(u64, Vec<event::Sent>)>> {
        let spool = Arc::clone(&self.spool);
        let read = tokio::task::spawn_blocking(move || spool.next(wire::EVENTS_BYTES_MAX));
        Ok(read.await.map_err(io::Error::other)??.map(|batch| (batch.through, batch.events)))
    }

    async fn acknowledge(&self, through: u64) {
        let spool = Arc::clone(&self.spool);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || spool.acknowledge(through)).await {
            tracing::warn!(%error, "what the server has can't be removed from the spool: it is sent again after a restart");
        }
    }

    /// Journals when events were lost at the bound of the spool: that time is blind.
    async fn journal_losses(&self) {
        let losses = self.spool.losses();
        if losses.is_empty() {
            return;
        }
        for (observer, interval) in &losses {
            let blind = Blind { engine: "all".to_owned(), interval: *interval, cause: BlindCause::Storage };
            if self.context.recorder.for_observer(observer.clone()).record(&blind).await.is_err() {
                return;
            }
        }
        if let Err(error) = self.spool.forget(&losses) {
            tracing::warn!(%error, "a loss of the spool is journaled again after a restart");
        }
    }

    fn standing(&self) -> Standing {
        let engines = self.board.borrow().as_ref().map(HealthBoard::read).unwrap_or_default();
        let word = |state: EngineState| match serde_json::to_value(state) {
            Ok(serde_json::Value::String(word)) => word,
            _ => String::new(),
        };
        let engines = engines.into_iter().map(|health| EngineStanding {
            engine: health.engine.to_owned(),
            state: word(health.state),
            since: health.since,
            last_error: health.last_error,
        });
        let state = *self.spool.state().borrow();
        let figures = self.figures.iter().map(|(engine, figures)| {
            let mut told = figures.told();
            told.truncate(FIGURES_MAX);
            ((*engine).to_owned(), told)
        });
        Standing { engines: engines.collect(), spooled: state.groups, lost: state.lost, figures: figures.collect() }
    }
}

/// Waits until another server than this one has attached.
async fn another(attached: &mut watch::Receiver<u64>, number: u64) {
    if attached.wait_for(|newest| *newest != number).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The next connection, with the socket that it came to; `None` where none is open.
async fn accept(listener: Option<&UnixListener>) -> Option<io::Result<(UnixStream, OwnedFd)>> {
    let listener = listener?;
    let accepted = listener.accept().await;
    Some(accepted.and_then(|(stream, _)| Ok((stream, listener.as_fd().try_clone_to_owned()?))))
}

/// Waits until this process begins to hand over, or stops to; for ever, where nothing is.
async fn next_stage(stage: &mut Option<watch::Receiver<Stage>>) {
    let changed = match stage {
        Some(stage) => stage.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to a socket, and waits while its queue is full.
async fn connect(socket: &Path) -> io::Result<tokio::net::UnixStream> {
    loop {
        match tokio::net::UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(CONNECT_AGAIN).await,
            done => return done,
        }
    }
}

/// Asks the agent at this socket, and waits for the answer.
///
/// # Errors
/// Nobody listens there, this user may not open the socket, or no answer comes within `within`.
pub async fn ask(socket: &Path, question: &Question, within: Span) -> io::Result<(u16, String)> {
    let asked = Asked {
        method: question.method.as_str().to_owned(),
        target: question.target.clone(),
        body: String::from_utf8_lossy(&question.body).into_owned(),
    };
    let exchange = async {
        let stream = connect(socket).await?;
        let (read, mut write) = stream.into_split();
        wire::write(&mut write, &ToAgent::Ask(asked)).await?;
        match wire::read::<FromAgent>(&mut BufReader::new(read)).await? {
            Some(FromAgent::Answer { status, body }) => Ok((status, body)),
            _ => Err(io::Error::other("the agent gave no answer: it may be of another release")),
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the agent did not answer in time");
    tokio::time::timeout(within.to_std(), exchange).await.map_err(late)?
}
