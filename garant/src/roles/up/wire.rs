//! The second step of `garant up`: makes the engines and the pages.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::descriptors;
use engine::heartbeat::Pings;
use engine::standing::Probes;
use engine::{Context, Supervisor};
use event::Span;
use journal::note::VerifierKey;
use journal::published::Published;
use promise::InEffect;
use store::sqlite::Sqlite;
use tokio::sync::watch;

use super::open::OpenResources;
use super::policy::InForce;
use crate::configuration::Configuration;
use crate::data::Running;
use crate::engines::Given;
use crate::failure::Failure;
use crate::place::LastRun;
use crate::registry::{Made, Registry};
use crate::roles::announcer::Announcer;
use crate::roles::pages::PagesEngine;
use crate::runtime::Handles;
use event::Audience;

/// Deadline of the engines of one stop order to stop.
const STOP_DEADLINE: Span = Span::from_secs(5);

/// The name of the runtime of the pages.
pub(crate) const PAGES: &str = "pages";

/// The engines and pages, ready to run: the result of the second step.
pub(super) struct Wired {
    pub(super) context: Context,
    pub(super) store: Arc<Sqlite>,
    pub(super) supervisor: Supervisor,
    pub(super) data: PathBuf,
    pub(super) running: Running,
    pub(super) last_run: LastRun,
    pub(super) keys: Vec<VerifierKey>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) policy: InForce,
}

/// Makes every engine of the list, and the pages over all of them.
pub(super) fn wire(opened: OpenResources, registry: &Registry, runtimes: &Handles) -> Result<Wired, Failure> {
    let OpenResources {
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
    } = opened;
    let in_effect = watch::Sender::new(Arc::new(InEffect::default()));
    let published = watch::Sender::new(None::<Arc<Published>>);
    let given = Given {
        store: Arc::clone(&store),
        host_engines: registry.host_engines.clone(),
        data: data.clone(),
        keys: keys.clone(),
        newest_before,
        parts: Arc::clone(&policy.parts),
        heads: policy.heads.subscribe(),
        witnesses: policy.witnesses.subscribe(),
        retention: policy.retention.subscribe(),
        applied: policy.applied.subscribe(),
        in_effect: in_effect.clone(),
        published: published.clone(),
        pings: Pings::new(),
        bans: guard::BansTold::default(),
    };
    let mut supervisor = Supervisor::new(context.clone()).stop_deadline(STOP_DEADLINE);
    let (mut figures, mut probes, mut doors) = (Vec::new(), Vec::new(), Vec::new());
    for entry in &registry.engines {
        let made: Made = (entry.make)(&given)?;
        if made.engine.name() != entry.name {
            return Err(Failure::new(format!("the engine {} is listed as {}", made.engine.name(), entry.name))
                .remedy("name it alike in the list of engines"));
        }
        figures.extend(made.figures);
        probes.extend(made.probes);
        doors.extend(made.door.map(|door| (entry.name, door)));
        supervisor = match runtimes.get(entry.name) {
            Some(runtime) => supervisor.add_on(runtime, made.engine),
            None => supervisor.add(made.engine),
        };
    }

    let state = Arc::new(web::State {
        journal: Arc::clone(&store) as _,
        pings: given.pings,
        engines: supervisor.board(),
        policy: policy.shown.subscribe(),
        in_effect: in_effect.subscribe(),
        published: published.subscribe(),
        identity: policy.identity.subscribe(),
        clock: Arc::clone(&context.clock),
        budget: web::AnswerBudget::default(),
        present: web::status::Present::default(),
        probes: together(probes),
        team_kinds: registry.kinds().filter(|kind| kind.audience == Audience::Team).map(|kind| kind.name).collect(),
        figures,
        doors: web::Doors::new(doors, team_token.hash())?,
    });
    supervisor = supervisor.add(Arc::new(Announcer { state: Arc::clone(&state) }));
    let limit = descriptors::limit();
    let listeners = [
        ("pages", Some(team), web::team(Arc::clone(&state)), descriptors::team_connections(limit)),
        ("public-pages", public, web::public(state), descriptors::public_connections(limit)),
    ];
    for (name, listener, router, connections_max) in listeners {
        let Some(listener) = listener else { continue };
        let pages = Arc::new(PagesEngine { name, listener, router, connections_max });
        supervisor = match runtimes.get(PAGES) {
            Some(runtime) => supervisor.add_on(runtime, pages),
            None => supervisor.add(pages),
        };
    }
    Ok(Wired { context, store, supervisor, data, running, last_run, keys, configuration, policy })
}

/// Where an agent or a gate that is started keeps its state: beside the data directory, which is closed to its user.
pub(crate) fn role_state(data: &Path, role: &hosts::Role) -> PathBuf {
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(role.noun);
    std::path::absolute(data).unwrap_or_else(|_| data.to_owned()).with_file_name(name)
}

/// The probes of all engines as one list.
fn together(probes: Vec<Probes>) -> Probes {
    Arc::new(move || probes.iter().flat_map(|probes| probes()).collect())
}
