//! A process of a host hands what it serves to the one that takes its place, and goes on when that fails.
//!
//! **Principle.** The new process asks at the socket of the old one, and is given, with one message, the lock on the state, that
//! socket, and the sockets that its engine listens on (`SCM_RIGHTS`, unix(7)): descriptors that are shared, so there is no instant
//! in which nobody has them. The old one leaves the state alone from then on, and goes on serving. Once the new one says that it
//! serves too, the old one begins nothing new, and ends when all that it had begun has. When it never says so, it is killed, and the
//! old one has its state back: a release that does not start costs nothing.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::door::{Access, Call, Door, Listeners, Method, Mount, Reply};
use engine::program::Companion;
use engine::succession::{API, Handover, SOCKETS_MAX};
use engine::{BoxFuture, CancellationToken, Program, Programs};
use event::Span;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::value::RawValue;
use store::spool::DiskSpool;
use tokio::io::{AsyncWriteExt as _, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use crate::wire::{self, FromAgent, HANDOVER, LINE_BYTES_MAX, ToAgent};

/// How long the new process may take until it serves.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// How long one that has failed may take to end by itself.
const ENDS_WITHIN: Span = Span::from_secs(2);
/// How long a command waits for that: less than its own patience.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
/// How long the old process may take to say what it has observed.
const SAID_WITHIN: Duration = Duration::from_secs(2);
/// How long the old process may take to give what it has.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);
/// Connections to the socket that wait.
const BACKLOG: i32 = 128;
/// Room for the descriptors of one message.
const ROOM: usize = 4096;

/// How far a process is with handing over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Nobody takes its place.
    Alone,
    /// Another process has been given what it serves, and does not say yet that it serves.
    Handing,
    /// That one serves.
    Succeeded,
}

/// What a process can hand over, and how far it is with that.
pub struct Succession {
    /// Until the other process serves: a lock that this one still held would keep out whoever comes after that one.
    lock: Mutex<Option<File>>,
    handover: Arc<dyn Handover>,
    stage: watch::Sender<Stage>,
    /// Tells whoever watches over this process the number of the one that takes its place.
    announce: Box<dyn Fn(i32) + Send + Sync>,
    /// Cancelled once nothing is left to do here.
    done: CancellationToken,
}

impl Succession {
    /// What is handed over: the `lock` on the state, and what the engine serves.
    pub fn new(
        lock: File,
        handover: Arc<dyn Handover>,
        announce: impl Fn(i32) + Send + Sync + 'static,
        done: CancellationToken,
    ) -> Arc<Self> {
        let lock = Mutex::new(Some(lock));
        Arc::new(Self { lock, handover, stage: watch::Sender::new(Stage::Alone), announce: Box::new(announce), done })
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether another process serves in the place of this one: socket and state are no longer its own.
    pub fn has_successor(&self) -> bool {
        *self.stage.borrow() == Stage::Succeeded
    }

    /// Hands over to the process at the other end; returns when nothing is left to do, or when that has failed.
    pub(crate) async fn hand_over(
        &self,
        own: OwnedFd,
        spool: &DiskSpool,
        mut read: BufReader<OwnedReadHalf>,
        mut write: OwnedWriteHalf,
    ) -> io::Result<()> {
        let peer = write.as_ref().peer_cred()?;
        // Whoever may open the socket may ask; only this user itself may be given what it has.
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("a process of another user can't take the place of this one"));
        }
        let pid = peer.pid().unwrap_or_default();
        let process = Pid::from_raw(pid).ok_or_else(|| io::Error::other("it has no number"))?;
        let process = pidfd_open(process, PidfdFlags::empty())?;
        // Before anybody is let go: what is said now still comes to whoever listens.
        if tokio::time::timeout(SAID_WITHIN, self.handover.says_all()).await.is_err() {
            tracing::warn!("what was observed last can't be said before the spool is another's: that time is unproven");
        }
        let begins =
            |stage: &mut Stage| *stage == Stage::Alone && std::mem::replace(stage, Stage::Handing) == Stage::Alone;
        if !self.stage.send_if_modified(begins) {
            return Err(io::Error::other("another process takes the place of this one already"));
        }
        spool.lend();
        tracing::info!(pid, "another process is to take the place of this one");
        let handing = async {
            self.give(&own, &mut write).await?;
            match wire::read::<ToAgent>(&mut read).await? {
                Some(ToAgent::Serving {}) => Ok(()),
                _ => Err(io::Error::other("it has ended")),
            }
        };
        let late = |_| io::Error::other(format!("it does not serve within {} s", SERVES_WITHIN.as_secs()));
        match tokio::time::timeout(SERVES_WITHIN, handing).await.map_err(late).and_then(|handed| handed) {
            Ok(()) => {
                (self.announce)(pid);
                spool.give_away();
                self.stage.send_replace(Stage::Succeeded);
                drop((own, self.lock().take()));
                tracing::info!(pid, "another process serves: this one lets go, and ends with its last connection");
                self.handover.let_go().await;
                self.done.cancel();
                Ok(())
            }
            Err(error) => {
                // It says why as its last word, and must not go on with a state that is not its own.
                drop(tokio::task::spawn_blocking(move || end(&process, ENDS_WITHIN)).await);
                if let Err(error) = rustix::net::listen(&own, BACKLOG) {
                    tracing::error!(%error, "the socket can't be taken back: whoever asks there is told of a process that has ended");
                }
                if let Err(error) = spool.take_back() {
                    tracing::error!(%error, "the spool can't be read: events wait in memory until it can");
                }
                self.stage.send_replace(Stage::Alone);
                tracing::error!(pid, %error, "the process that was to take the place of this one has failed, and says why above: this one goes on");
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the descriptors with the first bytes of the line.
    async fn give(&self, own: &OwnedFd, write: &mut OwnedWriteHalf) -> io::Result<()> {
        let (sockets, known) = self.handover.give();
        let lock = self.lock().as_ref().map(File::try_clone);
        let lock = lock.ok_or_else(|| io::Error::other("it has handed everything over already"))??;
        let descriptors: Vec<BorrowedFd<'_>> =
            [lock.as_fd(), own.as_fd()].into_iter().chain(sockets.iter().map(OwnedFd::as_fd)).collect();
        if descriptors.len() > SOCKETS_MAX {
            return Err(io::Error::other(format!(
                "it has {} sockets, more than can be handed over",
                descriptors.len()
            )));
        }
        let mut line = serde_json::to_vec(&FromAgent::Handed { sockets: descriptors.len(), known })?;
        line.push(b'\n');
        let stream = write.as_ref();
        let sent = stream.async_io(Interest::WRITABLE, || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut control = SendAncillaryBuffer::new(&mut room);
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(io::Error::other("there is no room for so many descriptors"));
            }
            Ok(rustix::net::sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?)
        });
        let sent = sent.await?;
        write.write_all(line.get(sent..).unwrap_or_default()).await
    }
}

/// Waits until a process ends, and kills it when it does not: then `false`.
pub(crate) fn end(process: &OwnedFd, within: Span) -> bool {
    let seconds = within.micros().div_euclid(1_000_000);
    let has_ended = matches!(
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })),
        Ok(1)
    );
    if !has_ended {
        // One that has ended meanwhile can't be killed.
        _ = pidfd_send_signal(process, Signal::KILL);
    }
    has_ended
}

/// What a process was given by the one whose place it takes.
pub struct Taken {
    /// The lock on the state.
    pub lock: File,
    /// The socket at which a server and commands reach it.
    pub listener: UnixListener,
    /// What its engine listens on.
    pub sockets: Vec<OwnedFd>,
    /// What the engine knew.
    pub known: Box<RawValue>,
    stream: UnixStream,
}

impl Taken {
    /// Asks the process at this socket for all that it serves.
    ///
    /// # Errors
    /// Nobody is there, or hands nothing over, or not within ten seconds.
    pub fn from(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(GIVEN_WITHIN))?;
        stream.set_write_timeout(Some(GIVEN_WITHIN))?;
        say(&mut stream, &ToAgent::TakeOver { protocol: HANDOVER })?;
        let (line, mut descriptors) = receive(&mut stream)?;
        let FromAgent::Handed { sockets: count, known } = serde_json::from_slice(&line)? else {
            return Err(io::Error::other("it says something else"));
        };
        if descriptors.len() != count || count < 2 {
            return Err(io::Error::other(format!("{} descriptors came of {count}", descriptors.len())));
        }
        let sockets = descriptors.split_off(2);
        let mut own = descriptors.into_iter();
        let (Some(lock), Some(listener)) = (own.next(), own.next()) else {
            return Err(io::Error::other("its own descriptors did not come"));
        };
        // Whoever connects is told which process has listened last, and has that one stop (`SO_PEERCRED`, unix(7)).
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self { lock: lock.into(), listener: listener.into(), sockets, known, stream })
    }

    /// Tells the other process that this one serves, once it does. It has killed this one when it no longer waited for that; when it
    /// was killed itself, there is nobody to be told.
    pub fn serves(mut self) {
        if let Err(error) = say(&mut self.stream, &ToAgent::Serving {}) {
            tracing::warn!(%error, "the process whose place this one takes is gone");
        }
    }
}

fn say(stream: &mut UnixStream, line: &ToAgent) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stream.write_all(&text)
}

/// One line, and the descriptors that came with it.
fn receive(stream: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (vec![0; 64 * 1024], Vec::new());
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let bytes = rustix::net::recvmsg(&*stream, &mut [IoSliceMut::new(&mut line)], &mut control, flags)?.bytes;
    line.truncate(bytes);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let mut more = vec![0; 64 * 1024];
    while bytes > 0 && line.last() != Some(&b'\n') && line.len() < LINE_BYTES_MAX {
        match stream.read(&mut more)? {
            0 => break,
            bytes => line.extend_from_slice(more.get(..bytes).unwrap_or_default()),
        }
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::other("it hands nothing over, and says why in its log"));
    }
    Ok((line, descriptors))
}

/// The door at which a command has the process start the one that takes its place.
pub struct SuccessionDoor {
    succession: Arc<Succession>,
    programs: Arc<Programs>,
    /// This program, as it lies on the disk.
    program: Program,
    /// The one that was started last; it is reaped here when it ends.
    started: Mutex<Option<Companion>>,
}

impl SuccessionDoor {
    /// The door, with the program that is started.
    pub const fn new(succession: Arc<Succession>, programs: Arc<Programs>, program: Program) -> Self {
        Self { succession, programs, program, started: Mutex::new(None) }
    }

    async fn replace(&self) -> Reply {
        let mut stage = self.succession.stage();
        if *stage.borrow_and_update() != Stage::Alone {
            return Reply::error(409, "another process takes its place already: ask that one");
        }
        if let Some(why) = self.succession.handover.obstacle().await {
            return Reply::error(409, &why);
        }
        let mut companion = match self.programs.companion(&self.program) {
            Ok(companion) => companion,
            Err(error) => return Reply::error(500, &format!("{error}: the one that runs goes on")),
        };
        let pid = companion.id();
        let outcome = tokio::time::timeout(ANSWERED_WITHIN, async {
            tokio::select! {
                ended = companion.ended() => Err(ended.unwrap_or_else(|error| error.to_string())),
                _ = stage.wait_for(|stage| *stage == Stage::Succeeded) => Ok(()),
            }
        });
        let outcome = outcome.await;
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(companion);
        match outcome {
            Ok(Ok(())) => Reply::json(&serde_json::json!({ "pid": pid })),
            Ok(Err(how)) => Reply::error(
                500,
                &format!(
                    "the new process has ended ({how}), and said why in the log of the gate: the one that runs goes on"
                ),
            ),
            Err(_late) => Reply::error(
                504,
                &format!(
                    "the new process does not serve yet: the log of the gate says within {} s whether it does",
                    SERVES_WITHIN.as_secs()
                ),
            ),
        }
    }
}

impl Door for SuccessionDoor {
    fn mounts(&self) -> &'static [Mount] {
        &[Mount {
            prefix: API,
            listeners: Listeners::Team,
            access: Access::TeamToken,
            methods: &[Method::Post],
            body_bytes_max: 1024,
        }]
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            match (call.method, &call.segments()[..]) {
                (Method::Post, []) => self.replace().await,
                _ => Reply::error(404, "nothing of that name is here"),
            }
        })
    }
}
