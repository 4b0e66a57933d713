//! The role `agent`: engines that change this host, in a process of their own with the rights that they need.
//!
//! The agent follows a desired state that a server gives it over its socket, and keeps it. What it does waits in a spool on its
//! disk until a server has it. It never reads the journal, and never the policy.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::net::{Net, NetOptions};
use engine::random::SystemRandom;
use engine::{CancellationToken, Clock, Context, Programs, Progress, Random, Recorder, Secrets, Supervisor};
use event::{BootId, Span};
use hosts::agent::{FollowedState, Link};
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

/// The arguments of `garant agent`.
pub(crate) struct AgentSettings {
    /// Where its state is kept.
    pub(crate) state: PathBuf,
    /// Its socket; in the directory of its state unless said.
    pub(crate) socket: PathBuf,
}

/// Runs the engines of the agent until a signal stops it. Calls `ready` once its socket answers.
pub(crate) async fn agent(
    settings: &AgentSettings,
    registry: &Registry,
    runtimes: &Handles,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let state = &settings.state;
    let _lock = lock(state)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("the state of the agent in {} can't be used", state.display())).because(error)
    };
    let spool = DiskSpool::open(&state.join("spool"), SpoolBounds::default(), Arc::clone(&clock))
        .map_err(|error| unusable(&error))?;
    let followed = FollowedState::load(state).map_err(|error| unusable(&error))?;
    let listener = listen(&settings.socket)?;
    let net = Net::new(&NetOptions::default(), Arc::clone(&clock)).map_err(|error| {
        Failure::new("the certificates that this machine trusts can't be read")
            .because(&error)
            .remedy("install the package ca-certificates")
    })?;
    let mut boot = [0; 16];
    random.fill(&mut boot);
    let observer = format!("{}.agent", hosts::VANTAGE).parse();
    let observer = observer.map_err(|error: event::BadName| Failure::new("the agent has no name").because(&error))?;
    let sink = Arc::new(Arc::clone(&spool));
    let recorder = Recorder::new(sink, observer, BootId::from_bytes(boot), Arc::clone(&clock));
    let context = Context {
        clock: Arc::clone(&clock),
        random,
        net: Arc::new(net),
        programs: Arc::new(Programs::of_system()),
        secrets: Arc::new(Secrets::of_system()),
        recorder: recorder.clone(),
        progress: Progress::default(),
        stop: CancellationToken::new(),
    };

    let mut supervisor = Supervisor::new(context).stop_deadline(STOP_DEADLINE);
    // The server's may be dead while the clock steps, and then what was seen here is dated by a clock that nobody doubts.
    supervisor = supervisor.add(Arc::new(engine::clock::timekeeper_of_agent()));
    let (mut doors, mut figures) = (Vec::new(), Vec::new());
    for entry in &registry.host_engines {
        let folder = state.join(entry.name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| unusable(&error))?;
        let made = (entry.make)(HostGiven { desired: followed.of_engine(entry.name), state: folder })?;
        doors.extend(made.door.map(|door| (entry.name, door)));
        figures.extend(made.told.map(|told| (entry.name, told)));
        supervisor = match runtimes.get(entry.name) {
            Some(runtime) => supervisor.add_on(runtime, made.engine),
            None => supervisor.add(made.engine),
        };
    }
    let board = watch::Sender::new(None);
    let socket = settings.socket.clone();
    let is_gone =
        move || matches!(fs::symlink_metadata(&socket), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let socket = settings.socket.clone();
    let link = Link::new(listener, spool, followed, doors, figures, board.subscribe());
    let link = link.listening_again(move || is_gone().then(|| listen(&socket).ok()).flatten());
    supervisor = supervisor.add(Arc::new(link));
    board.send_replace(Some(supervisor.board()));

    let stop = CancellationToken::new();
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
    drop(tokio::spawn(runtime::keep_giving_back_memory()));
    ready();
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    let ended = supervisor.run(stop).await;
    if recorder.flush(FLUSH).await > 0 {
        tracing::error!("the spool took no more: the last events are lost");
    }
    // Another process may have taken the place of this one, when the directory was moved.
    drop(fs::remove_file(&settings.socket));
    match ended.failure {
        None => Ok(()),
        Some((engine, reason)) => Err(Failure::new(format!("{engine} failed, and nothing works without it: {reason}"))),
    }
}

/// The lock on the directory of the state, for as long as the process lives. The directory is made where it is missing.
fn lock(state: &Path) -> Result<File, Failure> {
    let failed = |error: &io::Error| {
        Failure::new(format!("the state of the agent in {} can't be used", state.display()))
            .because(error)
            .remedy("name a directory of its own with --state, which the user that runs the agent may write")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| failed(&error))?;
    let file = File::options().create(true).truncate(false).write(true).open(state.join("agent.lock"));
    let file = file.map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {
            store::refuse_of_another(state).map_err(|error| {
                Failure::new(format!("the state of the agent in {} is not used", state.display())).because(&error)
            })?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!("an agent runs on {} already", state.display()))
            .remedy("stop that one first, or name another directory with --state")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// The listener on the socket, which its owner and group may open. A socket on which nobody listens any more is replaced.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |error: &io::Error| {
        Failure::new(format!("nothing can listen at {}", path.display()))
            .because(error)
            .remedy("name another place with --socket, in a directory that the user of the agent may write")
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
