//! The roles `agent` and `gate`: engines of this host, in a process of their own with the rights that they need: those that change the
//! host, and the one that strangers speak with.
//!
//! The process follows a desired state that a server gives it over its socket, and keeps it. What it does waits in a spool on its
//! disk until a server has it. It never reads the journal, and never the policy.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::net::{Net, NetOptions};
use engine::random::SystemRandom;
use engine::{CancellationToken, Clock, Context, Program, Programs, Progress, Random, Recorder, Secrets, Supervisor};
use event::{BootId, Span};
use hosts::Role;
use hosts::agent::{FollowedState, Link};
use hosts::succession::{Succession, SuccessionDoor, Taken};
use store::spool::{DiskSpool, SpoolBounds};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::registry::{HostGiven, Registry};
use crate::runtime::{self, Handles};
use crate::signals::StopSignals;

/// Deadline of the engines to stop.
const STOP_DEADLINE: Span = Span::from_secs(3);
/// Deadline at the stop for events that the spool had refused.
const FLUSH: Span = Span::from_secs(2);

/// The arguments of `garant agent` and `garant gate`.
pub(crate) struct AgentSettings {
    /// Which of the two.
    pub(crate) role: &'static Role,
    /// Where its state is kept.
    pub(crate) state: PathBuf,
    /// Its socket; in the directory of its state unless said.
    pub(crate) socket: PathBuf,
    /// Whether it takes the place of the process that runs on this state.
    pub(crate) takes_over: bool,
    /// Sockets that systemd has opened for it.
    pub(crate) given: Vec<OwnedFd>,
}

impl AgentSettings {
    /// Of a process that takes nobody's place, with the socket where it is unless said.
    pub(crate) fn new(role: &'static Role, state: PathBuf, socket: Option<PathBuf>) -> Self {
        let socket = socket.unwrap_or_else(|| state.join(role.file("sock")));
        Self { role, state, socket, takes_over: false, given: Vec::new() }
    }
}

/// Runs the engines of the process until a signal stops it. Calls `ready` once its socket answers.
pub(crate) async fn agent(
    settings: AgentSettings,
    registry: &Registry,
    runtimes: &Handles,
    ready: impl FnOnce(&Path),
) -> Result<(), Failure> {
    runtime::raise_descriptors();
    let AgentSettings { role, state, socket, takes_over, given } = settings;
    let (state, noun) = (&state, role.noun);
    // Told before anything is opened: what the process whose place it takes has kept is on the disk by then, and left alone.
    let mut taken = if takes_over { Some(take_over(&socket, noun)?) } else { None };
    let lock = match &taken {
        Some(taken) => taken.lock.try_clone().map_err(|error| Failure::new("no descriptor is left").because(&error))?,
        None => lock(state, role)?,
    };
    // Open to the end: by it a server that stops finds the processes on a state, also one that has handed its lock on.
    let _at = File::open(state).map_err(|error| Failure::new("the state can't be opened").because(&error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("the state of the {noun} in {} can't be used", state.display())).because(error)
    };
    let spool = DiskSpool::open(&state.join("spool"), SpoolBounds::default(), Arc::clone(&clock))
        .map_err(|error| unusable(&error))?;
    let followed = FollowedState::load(state).map_err(|error| unusable(&error))?;
    let listener = match &taken {
        Some(taken) => taken.listener.try_clone().map_err(|error| unusable(&error))?,
        None => listen(&socket, noun)?,
    };
    let net = Net::new(&NetOptions::default(), Arc::clone(&clock)).map_err(|error| {
        Failure::new("the certificates that this machine trusts can't be read")
            .because(&error)
            .remedy("install the package ca-certificates")
    })?;
    let mut boot = [0; 16];
    random.fill(&mut boot);
    let observer = format!("{}.{}", hosts::VANTAGE, role.supervisor).parse();
    let observer =
        observer.map_err(|error: event::BadName| Failure::new(format!("the {noun} has no name")).because(&error))?;
    let sink = Arc::new(Arc::clone(&spool));
    let recorder = Recorder::new(sink, observer, BootId::from_bytes(boot), Arc::clone(&clock));
    let programs = Arc::new(Programs::of_system());
    let context = Context {
        clock: Arc::clone(&clock),
        random,
        net: Arc::new(net),
        programs: Arc::clone(&programs),
        secrets: Arc::new(Secrets::of_system()),
        recorder: recorder.clone(),
        progress: Progress::default(),
        stop: CancellationToken::new(),
    };

    let mut supervisor = Supervisor::new(context).stop_deadline(STOP_DEADLINE);
    if role.engine == Role::AGENT.engine {
        // The server's may be dead while the clock steps, and then what was seen here is dated by a clock that nobody doubts.
        supervisor = supervisor.add(Arc::new(engine::clock::timekeeper_of_agent()));
    }
    let (mut doors, mut figures, mut handover) = (Vec::new(), Vec::new(), None);
    for entry in registry.engines_of(role) {
        let folder = state.join(entry.name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| unusable(&error))?;
        let made = (entry.make)(HostGiven { desired: followed.of_engine(entry.name), state: folder })?;
        doors.extend(made.door.map(|door| (entry.name, door)));
        figures.extend(made.told.map(|told| (entry.name, told)));
        handover = made.handover.or(handover);
        supervisor = match runtimes.get(entry.name) {
            Some(runtime) => supervisor.add_on(runtime, made.engine),
            None => supervisor.add(made.engine),
        };
    }
    let stop = CancellationToken::new();
    let mut succession = None;
    if let Some(handover) = &handover {
        if let Some(taken) = &mut taken {
            handover.take(std::mem::take(&mut taken.sockets), Some(&taken.known));
        }
        handover.take(given, None);
        let made = Succession::new(lock, Arc::clone(handover), announce, stop.clone());
        let program = Program::of_ourselves("garant").map_err(|error| unusable(&error))?.with_flag("--take-over");
        doors.push(("link", Arc::new(SuccessionDoor::new(Arc::clone(&made), programs, program)) as _));
        succession = Some(made);
    }
    let board = watch::Sender::new(None);
    let path = socket.clone();
    let is_gone = move || matches!(fs::symlink_metadata(&path), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let path = socket.clone();
    let link = Link::new(listener, spool, followed, doors, figures, board.subscribe());
    let link = link.listening_again(move || is_gone().then(|| listen(&path, noun).ok()).flatten());
    let link = link.handing_over(succession.clone());
    supervisor = supervisor.add(Arc::new(link));
    board.send_replace(Some(supervisor.board()));

    let mut signals = StopSignals::taken(clock)?;
    let stopping = stop.clone();
    drop(tokio::spawn(async move {
        signals.next().await;
        stopping.cancel();
        let kind = signals.next().await;
        #[expect(clippy::exit, reason = "an orderly end would wait for what somebody has no patience for")]
        std::process::exit(128 + kind.as_raw_value());
    }));
    // Ends with the process.
    drop(tokio::spawn(engine::memory::keep_giving_back()));
    drop(tokio::spawn(async move {
        if let (Some(handover), Some(taken)) = (handover, taken) {
            handover.serves().await;
            taken.serves();
        }
    }));
    ready(&socket);
    // The process whose place it takes was ready already, and is the one that systemd listens to.
    if !takes_over {
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    }
    let ended = supervisor.run(stop).await;
    if succession.is_some_and(|succession| succession.has_successor()) {
        // State and socket are another's: what was seen here since is seen there too.
        return Ok(());
    }
    if recorder.flush(FLUSH).await > 0 {
        tracing::error!("the spool took no more: the last events are lost");
    }
    // Another process may have taken the place of this one, when the directory was moved.
    drop(fs::remove_file(&socket));
    match ended.failure {
        None => Ok(()),
        Some((engine, reason)) => Err(Failure::new(format!("{engine} failed, and nothing works without it: {reason}"))),
    }
}

/// Tells systemd which process is the one of the unit from now on.
fn announce(pid: i32) {
    if let Ok(pid) = u32::try_from(pid) {
        drop(sd_notify::notify(&[sd_notify::NotifyState::MainPid(pid)]));
    }
}

/// What the process at this socket serves.
fn take_over(socket: &Path, noun: &str) -> Result<Taken, Failure> {
    Taken::from(socket).map_err(|error| {
        Failure::new(format!("the {noun} at {} hands nothing over", socket.display()))
            .because(&error)
            .remedy(format!("look at its log; where none runs, start the {noun} without --take-over"))
    })
}

/// The lock on the directory of the state, for as long as the process lives. The directory is made where it is missing.
fn lock(state: &Path, role: &Role) -> Result<File, Failure> {
    let noun = role.noun;
    let failed = |error: &io::Error| {
        Failure::new(format!("the state of the {noun} in {} can't be used", state.display()))
            .because(error)
            .remedy("name a directory of its own with --state, which the user that runs it may write")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| failed(&error))?;
    let file = File::options().create(true).truncate(false).write(true).open(state.join(role.file("lock")));
    let file = file.map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {
            store::refuse_of_another(state).map_err(|error| {
                Failure::new(format!("the state of the {noun} in {} is not used", state.display())).because(&error)
            })?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!("{} runs on {} already", role.one, state.display()))
            .remedy("stop that one first, or name another directory with --state")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// The listener on the socket, which its owner and group may open. A socket on which nobody listens any more is replaced.
fn listen(path: &Path, noun: &str) -> Result<UnixListener, Failure> {
    let failed = |error: &io::Error| {
        Failure::new(format!("nothing can listen at {}", path.display()))
            .because(error)
            .remedy(format!("name another place with --socket, in a directory that the user of the {noun} may write"))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed(&io::Error::other("there is something else in its place")));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(failed(&io::Error::other("another process listens there")));
        }
        Ok(_) => fs::remove_file(path).map_err(|error| failed(&error))?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| failed(&error))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(|error| failed(&error))?;
    listener.set_nonblocking(true).map_err(|error| failed(&error))?;
    Ok(listener)
}
