//! The first step of `garant up`: binds the ports, opens the data directory, and verifies the log.
//!
//! Whatever can fail without a log comes before there is one, so that a first start that fails leaves none behind. Ports are
//! bound first, and answer nobody until everything runs; a second process, or a copy of the directory, is refused before.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::descriptors;
use engine::net::Net;
use engine::random::SystemRandom;
use engine::{CancellationToken, Clock, Context, Programs, Progress, Random, Recorder, Secrets};
use event::{BootId, Time};
use journal::note::{SigningKey, VerifierKey};
use notary::remembered::{self, RememberedHeads};
use notary::{keys, log, witnessing};
use store::Read as _;
use store::sqlite::{Sqlite, SqliteOptions};

use super::UpSettings;
use super::policy::{Followed, InForce, peers};
use crate::configuration::{Configuration, Network};
use crate::data::{self, Running};
use crate::failure::Failure;
use crate::place::LastRun;
use crate::registry::Registry;
use crate::team_token::TeamToken;

/// The open stores and listeners, with the policy: the result of the first step.
pub(super) struct OpenResources {
    pub(super) context: Context,
    pub(super) store: Arc<Sqlite>,
    pub(super) data: PathBuf,
    /// The keys that sign the log, the current one first.
    pub(super) keys: Vec<VerifierKey>,
    /// The time at which the newest entry from before this start was recorded.
    pub(super) newest_before: Option<Time>,
    /// The listener for the team.
    pub(super) team: TcpListener,
    /// The listener for everybody, if the policy has one.
    pub(super) public: Option<TcpListener>,
    pub(super) running: Running,
    pub(super) last_run: LastRun,
    /// The policy of the start, with its files, until it is journaled.
    pub(super) configuration: Arc<Configuration>,
    pub(super) policy: InForce,
    /// What the team shows at the doors of engines.
    pub(super) team_token: TeamToken,
}

/// Binds the ports, opens the data directory, verifies the log. Has changed nothing public when it fails.
pub(super) async fn open(
    settings: &UpSettings,
    configuration: Configuration,
    registry: &Registry,
) -> Result<OpenResources, Failure> {
    raise_descriptors();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let data = settings.data.clone();

    let pages = &configuration.basics.pages;
    let team = bind(pages.listen, "listen", &data)?;
    let public = pages.public.map(|address| bind(address, "public", &data)).transpose()?;
    let team_url = base_url(&team)?;
    let public_url = public.as_ref().map(base_url).transpose()?;
    let network = configuration.part::<Network>().unwrap_or_default();
    let net = Net::new(&network.options(), Arc::clone(&clock)).map_err(|error| {
        Failure::new("the certificates that this machine trusts can't be read")
            .because(&error)
            .remedy("install the package ca-certificates, or correct `authorities` in [network]")
    })?;
    let witnesses = peers(&configuration)?;

    log::make_private(&data)?;
    let basics = &configuration.basics;
    let heads = RememberedHeads::of(&data, &basics.journal);
    warn_if_nothing_remembers(&data, &heads).await?;
    let signers = keys::load_or_create(&data, basics.journal.name.as_str(), &heads, random.as_ref())?;
    let keys: Vec<VerifierKey> = signers.iter().map(SigningKey::vkey).collect();
    let options = SqliteOptions {
        dir: data.clone(),
        origin: keys::origin(&signers)?,
        observer: log::server_observer("store")?,
        signers,
        remembered: heads.of_log(&data, &keys).await?,
        continues: None,
        clock: Arc::clone(&clock),
    };
    let store = Sqlite::open(options).map_err(|error| log::refused(&data, &error))?;
    let last_run = LastRun::look(&store, &data).await?;
    if let Some(warning) = last_run.warning() {
        tracing::warn!("{warning}");
    }
    let team_token = TeamToken::read_or_make(&data, random.as_ref())?;
    let newest_before = log::last_recorded(store.as_ref()).await?;

    let listening = public_url.as_deref().unwrap_or(&team_url);
    let followed = Followed::of(configuration, witnesses, &keys, &data, listening)?;
    witnessing::refuse_a_fork(&net, store.as_ref(), &keys, &followed.witnesses, &followed.heads).await?;

    let mut boot = [0; 16];
    random.fill(&mut boot);
    let observer = log::server_observer("supervisor")?;
    let recorder = Recorder::new(Arc::clone(&store) as _, observer, BootId::from_bytes(boot), Arc::clone(&clock));
    let context = Context {
        clock,
        random,
        net: Arc::new(net),
        programs: Arc::new(Programs::of_system()),
        secrets: Arc::new(Secrets::of_system()),
        recorder,
        progress: Progress::default(),
        stop: CancellationToken::new(),
    };
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let started = data::started(pid).unwrap_or_else(|error| {
        tracing::warn!(%error, "other commands will not find this process");
        String::new()
    });
    let running = Running {
        pid,
        started,
        place: last_run.now().clone(),
        policy: std::path::absolute(&settings.policy).unwrap_or_else(|_| settings.policy.clone()),
        team: team_url,
        public: public_url,
        reloads: 0,
        reload_error: None,
        revision: followed.configuration.applied.revision.clone(),
        publish: followed.configuration.basics.publication.publish,
        time_zone: followed.configuration.basics.publication.zone.name().to_owned(),
        fixed: followed.configuration.fixed(),
    };
    let configuration = Arc::clone(&followed.configuration);
    let policy = InForce::new(followed, &registry.parts)?;
    Ok(OpenResources {
        context,
        store,
        data,
        keys,
        newest_before,
        team,
        public,
        running,
        last_run,
        configuration,
        policy,
        team_token,
    })
}

/// Raises the limit of file descriptors, and warns of one that is too low all the same.
fn raise_descriptors() {
    crate::runtime::raise_descriptors();
    if let Some(limit) = descriptors::limit().filter(|limit| *limit < descriptors::ENOUGH) {
        tracing::warn!(
            "this process may open {limit} files and sockets only: {} connections to the public listener, {} to the team's and \
             {} questions of probes at a time. Raise the limit to {} or more (LimitNOFILE of systemd, `ulimit -Hn`)",
            descriptors::public_connections(Some(limit)),
            descriptors::team_connections(Some(limit)),
            descriptors::questions(Some(limit)),
            descriptors::ENOUGH,
        );
    }
}

/// Warns when an older copy of the data directory could not be told from the newest. A log of which nothing was ever
/// published contradicts nobody: as after a first start that was killed.
async fn warn_if_nothing_remembers(data: &Path, heads: &RememberedHeads) -> Result<(), Failure> {
    let has_a_past = match Sqlite::open_read_only(data) {
        Ok(store) => store.published().await.is_ok_and(|published| published.is_some()),
        Err(_) => data.join(keys::KEY).exists(),
    };
    if has_a_past && heads.read()?.is_empty() {
        tracing::warn!(
            "nothing remembers the head of the log in {}: whether this is an older copy of it can't be told. If it is, \
             stop now and put the newest data back, with its {}: what is signed from here on would contradict what was \
             signed before",
            data.display(),
            remembered::remembered_beside(data).display()
        );
    }
    Ok(())
}

/// The listener of this key. When the port is taken by the garant that runs on `data`, that is what to say.
fn bind(address: SocketAddr, key: &str, data: &Path) -> Result<TcpListener, Failure> {
    let refused = |error: std::io::Error| {
        if let Ok(running) = Running::read(data) {
            return Failure::new(format!(
                "garant runs on the data directory {} already, as process {}",
                data.display(),
                running.pid
            ))
            .remedy("stop it first, or have it take its policy again with `garant reload`");
        }
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
