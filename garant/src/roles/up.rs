//! `garant up`: every role in one process, on the embedded store.
//!
//! The order of the start is the order of the reasons not to: the policy is judged before anything is opened, the data
//! directory is locked and the log proved before anything is bound, ports are bound before anything runs. The order of
//! the stop has an order, too; see [`engine::Supervisor`].

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::{SystemClock, timekeeper};
use engine::heartbeat::Pings;
use engine::net::Net;
use engine::random::SystemRandom;
use engine::{CancellationToken, Clock, Context, Progress, Random, Recorder, Supervisor};
use event::{BootId, Span};
use journal::note::{KeyType, VerifierKey};
use journal::published::Published;
use judge::judge;
use notary::publisher::publisher;
use notary::remembered::{self, Memory};
use notary::retention::retention;
use notary::witnessing::{self, Peer};
use notary::{keys, log};
use policy::RetentionPeriods;
use promise::InEffect;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::sqlite::{Options, Sqlite};
use store::{Consumers as _, Read as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use web::{Identity, Policy};

use crate::changes::{self, Journaled, Trigger};
use crate::configuration::Configuration;
use crate::data::{self, Running};
use crate::failure::Failure;
use crate::figures;
use crate::roles::pages::Pages;
use crate::runtime::Handles;
use crate::step;
use crate::terminal::counted;

/// How long the engines of one stop order may take to stop.
const STOP_DEADLINE: Span = Span::from_secs(5);
/// How long events that the store refused may take to be written on the way out.
const FLUSH: Span = Span::from_secs(3);
/// How long the first start of every engine may take before the ready line says so without them.
const READY_WITHIN: Span = Span::from_secs(20);

/// What `garant reload` sends. SIGHUP does the same, and is what process managers send: the record of changes says which
/// of the two it was.
pub(crate) const RELOAD: SignalKind = SignalKind::user_defined1();

/// What `garant up` was told.
pub(crate) struct Settings {
    pub(crate) policy: PathBuf,
    pub(crate) data: PathBuf,
}

/// Everything, started.
pub(crate) struct Up {
    context: Context,
    store: Arc<Sqlite>,
    supervisor: Supervisor,
    stop: CancellationToken,
    data: PathBuf,
    running: Running,
    keys: Vec<VerifierKey>,
    channels: Channels,
}

/// What a reload fills again.
struct Channels {
    configuration: watch::Sender<Arc<Configuration>>,
    policy: watch::Sender<Arc<Policy>>,
    probes: watch::Sender<Arc<::watch::Config>>,
    identity: watch::Sender<Arc<Identity>>,
    memory: watch::Sender<Arc<Memory>>,
    witnesses: watch::Sender<Arc<Vec<Peer>>>,
    retention: watch::Sender<RetentionPeriods>,
}

/// Takes as many file descriptors as the system allows: the low limit that most start with is for programs that use
/// `select`, and a thousand is not enough when every probe waits for an answer.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if raised.current != limit.current
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of file descriptors can't be raised; going on with {:?}", limit.current);
    }
}

impl Up {
    /// Opens, proves, binds; nothing runs yet.
    pub(crate) async fn prepare(
        settings: &Settings,
        configuration: Configuration,
        runtimes: &Handles,
    ) -> Result<Self, Failure> {
        raise_descriptors();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let data = settings.data.clone();
        log::make_private(&data)?;

        let memory = Memory::of(&data, &configuration.shared.journal);
        // What was never published contradicts nobody, as after a start that found its port taken.
        let has_a_past = match Sqlite::open_read_only(&data) {
            Ok(store) => store.published().await.is_ok_and(|published| published.is_some()),
            Err(_) => data.join(keys::KEY).exists(),
        };
        if has_a_past && memory.read()?.is_empty() {
            tracing::warn!(
                "nothing remembers the head of the log in {}: whether this is an older copy of it can't be told. If it is, \
                 stop now and put the newest data back, with its {}: what is signed from here on would contradict what was \
                 signed before",
                data.display(),
                remembered::remembered_beside(&data).display()
            );
        }
        let signers =
            keys::load_or_create(&data, configuration.shared.journal.name.as_str(), &memory, random.as_ref())?;
        let keys: Vec<VerifierKey> = signers.iter().map(journal::note::SigningKey::vkey).collect();
        let origin = keys::origin(&signers)?;
        let options = Options {
            dir: data.clone(),
            origin: origin.clone(),
            observer: log::server_observer("store")?,
            signers,
            remembered: memory.of_log(&data, &keys).await?,
            continues: None,
            clock: Arc::clone(&clock),
        };
        let store = Sqlite::open(options).map_err(|error| log::refused(&data, &error))?;

        let newest_before = log::last_recorded(store.as_ref()).await?;

        let shared = &configuration.shared;
        let team = bind(shared.pages.listen, "listen")?;
        let public = shared.pages.public.map(|address| bind(address, "public")).transpose()?;
        let team_url = base_url(&team)?;
        let public_url = public.as_ref().map(base_url).transpose()?;

        let net = Net::new(&configuration.network.options(), Arc::clone(&clock)).map_err(|error| {
            Failure::new("the certificates that this machine trusts can't be read")
                .because(&error)
                .remedy("install the package ca-certificates, or correct `authorities` in [network]")
        })?;
        let net = Arc::new(net);
        let witnesses = peers(&configuration)?;
        witnessing::refuse_a_fork(&net, store.as_ref(), &keys, &witnesses, &memory).await?;

        let mut boot = [0; 16];
        random.fill(&mut boot);
        let observer = log::server_observer("supervisor")?;
        let recorder = Recorder::new(Arc::clone(&store) as _, observer, BootId::from_bytes(boot), Arc::clone(&clock));
        let context = Context {
            clock: Arc::clone(&clock),
            random,
            net,
            recorder,
            progress: Progress::default(),
            stop: CancellationToken::new(),
        };

        let identity = identity(&configuration, &keys, public_url.as_deref().unwrap_or(&team_url))?;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let started = data::started(pid).unwrap_or_else(|error| {
            tracing::warn!(%error, "other commands will not find this process");
            String::new()
        });
        let running = Running {
            pid,
            started,
            policy: std::path::absolute(&settings.policy).unwrap_or_else(|_| settings.policy.clone()),
            team: team_url,
            public: public_url,
            reloads: 0,
            reload_error: None,
            revision: configuration.applied.revision.clone(),
            publish: configuration.shared.publication.publish,
            fixed: configuration.fixed(),
        };
        let configuration = Arc::new(configuration);
        let policy = Policy {
            applied: Some(Arc::clone(&configuration.applied)),
            publish: configuration.shared.publication.publish,
        };
        let channels = Channels {
            probes: watch::Sender::new(Arc::clone(&configuration.watch)),
            policy: watch::Sender::new(Arc::new(policy)),
            identity: watch::Sender::new(Arc::new(identity)),
            memory: watch::Sender::new(Arc::new(memory)),
            witnesses: watch::Sender::new(Arc::new(witnesses)),
            retention: watch::Sender::new(configuration.shared.journal.retention),
            configuration: watch::Sender::new(configuration),
        };

        let in_effect = watch::Sender::new(Arc::new(InEffect::default()));
        let published = watch::Sender::new(None::<Arc<Published>>);
        let pings = Pings::new();
        let eyes = Arc::new(::watch::Watch::new(
            channels.probes.subscribe(),
            pings.clone(),
            Arc::clone(&store) as _,
            Arc::clone(&store) as _,
        ));
        let supervisor = Supervisor::new(context.clone()).stop_deadline(STOP_DEADLINE);
        let state = Arc::new(web::State {
            journal: Arc::clone(&store) as _,
            pings,
            engines: supervisor.board(),
            policy: channels.policy.subscribe(),
            in_effect: in_effect.subscribe(),
            published: published.subscribe(),
            identity: channels.identity.subscribe(),
            clock,
            budget: web::Budget::default(),
            probes: figures::probes(eyes.figures()),
            figures: vec![Arc::new(figures::Watch(eyes.figures()))],
        });
        let publisher = publisher(
            Arc::clone(&store) as _,
            keys.clone(),
            channels.memory.subscribe(),
            channels.witnesses.subscribe(),
            published,
        );
        let retention =
            retention(Arc::clone(&store) as _, Arc::clone(&store) as _, channels.retention.subscribe(), newest_before);
        let pages = Pages { name: "pages", listener: team, router: web::team(Arc::clone(&state)) };
        let mut supervisor = supervisor
            .add(Arc::new(timekeeper()))
            .add(Arc::new(publisher))
            .add(Arc::new(retention))
            .add(Arc::new(judge(Arc::clone(&store) as _, Arc::clone(&store) as _, in_effect)))
            .add_on(&runtimes.watch, eyes)
            .add_on(&runtimes.pages, Arc::new(pages));
        if let Some(listener) = public {
            let router = web::public(state);
            let pages = Pages { name: "public-pages", listener, router };
            supervisor = supervisor.add_on(&runtimes.pages, Arc::new(pages));
        }
        Ok(Self { context, store, supervisor, stop: CancellationToken::new(), data, running, keys, channels })
    }

    /// Journals the policy, runs everything, and returns when it was told to stop. `ready` is called once all is up.
    pub(crate) async fn run(self, ready: impl FnOnce(&Running, &VerifierKey)) -> Result<(), Failure> {
        let Self { context, store, supervisor, stop, data, mut running, keys, channels } = self;
        let signals =
            |kind: SignalKind| signal(kind).map_err(|error| Failure::new("signals can't be received").because(&error));
        let (terminate, interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
        let (mut hang_up, mut asked) = (signals(SignalKind::hangup())?, signals(RELOAD)?);

        let configuration = channels.configuration.borrow().clone();
        // What waits for room on the disk is written in its turn.
        step::tell(&context.recorder, context.clock.as_ref(), store.as_ref(), &configuration.applied).await?;
        apply(&context, store.as_ref(), &configuration, None, Trigger::Start).await?;
        drop(configuration);
        propose(&channels.identity.borrow(), &data);
        // Listens until the very end: closing the store waits for the disk, and somebody may not want to.
        drop(tokio::spawn(stop_on_a_signal(stop.clone(), data.clone(), terminate, interrupt)));
        let mut engines = supervisor.board();
        let supervised = tokio::spawn(supervisor.run(stop.clone()));
        tokio::pin!(supervised);
        drop(tokio::time::timeout(READY_WITHIN.to_std(), engines.wait_ready()).await);
        write_running(&running, &data);
        notify(&[sd_notify::NotifyState::Ready]);
        if let Some(key) = keys.first() {
            ready(&running, key);
        }

        let ended = loop {
            let trigger = tokio::select! {
                ended = &mut supervised => break ended,
                _ = hang_up.recv() => Trigger::Signal,
                _ = asked.recv() => Trigger::Reload,
            };
            notify(&[sd_notify::NotifyState::Reloading]);
            let outcome = reload(&context, store.as_ref(), &channels, &data, &keys, &running, trigger).await;
            running.reloads += 1;
            running.revision.clone_from(&channels.configuration.borrow().applied.revision);
            running.publish = channels.policy.borrow().publish;
            running.reload_error = outcome.err().map(|failure| failure.to_string());
            if let Some(error) = &running.reload_error {
                tracing::error!(%error, "the policy was not taken; the one from before stays in effect");
            }
            write_running(&running, &data);
            notify(&[sd_notify::NotifyState::Ready]);
        };
        Running::remove(&data);
        let lost = context.recorder.flush(FLUSH).await;
        if lost > 0 {
            tracing::error!(events = lost, "the store took no more: these events are lost");
        }
        drop((context, channels, store));
        let ended = ended.map_err(|error| Failure::new("the supervisor failed").because(&error))?;
        for engine in &ended.missed {
            tracing::warn!(engine, "did not stop in time and was cut off");
        }
        match ended.failure {
            None => Ok(()),
            Some((engine, reason)) => {
                Err(Failure::new(format!("{engine} failed, and nothing works without it: {reason}"))
                    .remedy("look at what it says; the process manager will start garant again"))
            }
        }
    }
}

/// The first signal stops in order. The second says that somebody has no patience left: the process ends there and then,
/// whatever it waits for. What was acknowledged is on the disk, as after a crash.
async fn stop_on_a_signal(stop: CancellationToken, data: PathBuf, mut terminate: Signal, mut interrupt: Signal) {
    let mut stopping = false;
    loop {
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        };
        if stopping {
            Running::remove(&data);
            tracing::warn!("a second signal: stopping at once");
            #[expect(clippy::exit, reason = "an orderly end would wait for what somebody has no patience for")]
            std::process::exit(128 + kind.as_raw_value());
        }
        stopping = true;
        notify(&[sd_notify::NotifyState::Stopping]);
        stop.cancel();
    }
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    drop(sd_notify::notify(state));
}

fn write_running(running: &Running, data: &Path) {
    if let Err(error) = running.write(data) {
        tracing::warn!(%error, "other commands will not find this process: {} can't be written", data.display());
    }
}

fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    let refused = |error: std::io::Error| {
        Failure::new(format!("nothing can listen on {address}"))
            .because(&error)
            .remedy(format!("stop what uses that port, or name another in `{key}` of [pages]"))
    };
    #[expect(clippy::disallowed_methods, reason = "this is where garant starts")]
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

fn base_url(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener.local_addr().map_err(|error| Failure::new("the listener has no address").because(&error))?;
    Ok(format!("http://{address}/"))
}

fn peers(configuration: &Configuration) -> Result<Vec<Peer>, Failure> {
    let peer = |witness: &policy::Witness| {
        let url = witness.url.to_string();
        let failed = || Failure::new(format!("the key of the witness {} can't be used", witness.name));
        let vkey: VerifierKey =
            witness.vkey.as_str().parse().map_err(|error: journal::note::BadKey| failed().because(&error))?;
        if vkey.key_type() != KeyType::Cosignature {
            return Err(failed().remedy("it is the key of a log: give the one that `garant witness init` printed"));
        }
        let url = if url.ends_with('/') { url } else { format!("{url}/") };
        Ok(Peer { name: witness.name.clone(), url, vkey })
    };
    configuration.shared.journal.witnesses.iter().map(peer).collect()
}

fn identity(configuration: &Configuration, keys: &[VerifierKey], listening: &str) -> Result<Identity, Failure> {
    let key = keys.first().ok_or_else(|| Failure::new("the log has no key"))?;
    let url = configuration.shared.pages.url.as_ref().map_or_else(|| listening.to_owned(), ToString::to_string);
    let policy =
        witnessing::proposed_policy(key, &format!("{}/log/", url.trim_end_matches('/')), &peers(configuration)?);
    Ok(Identity::new(key, url, policy))
}

/// Leaves the proposed trust policy for `garant log export`.
fn propose(identity: &Identity, data: &Path) {
    if let Err(error) = witnessing::write_proposed_policy(data, &identity.tlog_policy) {
        tracing::warn!(%error, "exports will propose no witnesses: the data directory takes no file");
    }
}

/// Journals the policy in effect, as far as it is another than what the journal says: the public projection for
/// everybody, the diff of the files for the team.
async fn apply(
    context: &Context,
    store: &Sqlite,
    configuration: &Configuration,
    before: Option<&Configuration>,
    trigger: Trigger,
) -> Result<(), Failure> {
    let failed =
        |error: &(dyn std::error::Error + 'static)| Failure::new("the policy can't be journaled").because(error);
    let applied = &configuration.applied;
    let is_new = match before {
        Some(before) => before.applied != *applied,
        None => log::last_applied(store).await?.as_ref() != Some(applied.as_ref()),
    };
    let journaled = Journaled::load(store).await.map_err(|error| failed(&error))?;
    let diff = journaled.diff(configuration.sources());
    let now = context.clock.now();
    let mut events = Vec::new();
    if is_new {
        events.push(context.recorder.seal(applied.as_ref(), now).map_err(|error| failed(&error))?);
    }
    if let Some(diff) = diff {
        let changed = changes::changed(&applied.revision, diff, trigger);
        events.push(context.recorder.seal(&changed, now).map_err(|error| failed(&error))?);
        // What waits for room on the disk comes first.
        if context.recorder.health().waiting == 0 {
            let step = journaled.step(events.clone(), configuration.sources(), context.random.as_ref());
            match store.step(step).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%error, "the next change of the policy will be journaled together with this one");
                }
            }
        }
    }
    context.recorder.send(events).await.map_err(|error| failed(&error))?;
    Ok(())
}

/// Takes the policy again: whole, or not at all. Nothing is written or told to anybody before the journal has it.
async fn reload(
    context: &Context,
    store: &Sqlite,
    channels: &Channels,
    data: &Path,
    keys: &[VerifierKey],
    running: &Running,
    trigger: Trigger,
) -> Result<(), Failure> {
    let before = channels.configuration.borrow().clone();
    let now = Configuration::load(&running.policy).map_err(|mistakes| mistaken(&mistakes, &running.policy))?;
    if let Some(key) = now.needs_a_restart(&running.fixed) {
        return Err(
            Failure::new(format!("`{key}` can't change while garant runs")).remedy("restart garant to change it")
        );
    }
    let witnesses = peers(&now)?;
    let listening = running.public.as_deref().unwrap_or(&running.team);
    let identity = identity(&now, keys, listening)?;
    apply(context, store, &now, Some(&before), trigger).await?;
    propose(&identity, data);
    let now = Arc::new(now);
    let policy = Policy { applied: Some(Arc::clone(&now.applied)), publish: now.shared.publication.publish };
    channels.memory.send_replace(Arc::new(Memory::of(data, &now.shared.journal)));
    channels.witnesses.send_replace(Arc::new(witnesses));
    channels.retention.send_replace(now.shared.journal.retention);
    channels.identity.send_replace(Arc::new(identity));
    channels.probes.send_replace(Arc::clone(&now.watch));
    channels.policy.send_replace(Arc::new(policy));
    channels.configuration.send_replace(now);
    Ok(())
}

/// A policy that was not taken, without a line of it: this ends up in the log of the machine, and lines of a policy hold
/// names and numbers of people.
fn mistaken(mistakes: &policy::Mistakes, policy: &Path) -> Failure {
    let first = mistakes.list().first().map(policy::Mistake::place).unwrap_or_default();
    let file = mistakes.sources().files().get(first.file_index()).map_or("the policy", policy::Source::name);
    let line = mistakes.sources().position(first).0.line;
    Failure::new(format!("the policy has {}, the first in line {line} of {file}", counted(mistakes.count(), "mistake")))
        .remedy(format!("`garant check --policy {}` shows them", policy.display()))
}
