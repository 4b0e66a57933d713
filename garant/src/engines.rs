//! The list of engines, and the constructor call of each.
//!
//! An engine has only the rights to the store that its constructor asks for.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use engine::Failure;
use engine::clock::timekeeper;
use engine::heartbeat::Pings;
use event::Time;
use event::policy::Applied;
use hosts::Role;
use journal::note::VerifierKey;
use journal::published::Published;
use notary::remembered::RememberedHeads;
use notary::witnessing::RemoteWitness;
use policy::{Part, RetentionPeriods};
use promise::InEffect;
use serde::Serialize;
use store::sqlite::Sqlite;
use tokio::sync::watch::{Receiver, Sender};

use crate::registry::{EngineEntry, HostEngineEntry, Made, PartChannel};
use crate::roles::up::role_state;

/// Every engine of this release. They are started in this order.
pub(crate) const ENGINES: &[EngineEntry] = &[
    EngineEntry { name: "timekeeper", make: |_| Ok(Made::new(timekeeper())), ..QUIET },
    EngineEntry { name: "publisher", make: publisher, ..QUIET },
    EngineEntry { name: "retention", make: retention, ..QUIET },
    EngineEntry { name: "judge", make: judge, ..QUIET },
    EngineEntry { name: respond::NAME, kinds: respond::KINDS, commands: respond::commands, make: respond, ..QUIET },
    EngineEntry { name: backup::EXPIRY, make: expiry, ..QUIET },
    EngineEntry { name: guard::BANNED, make: banned, ..QUIET },
    EngineEntry { name: hosts::NAME, kinds: hosts::KINDS, make: |given| hosts(given, &Role::AGENT), ..QUIET },
    EngineEntry { name: Role::GATE.engine, make: |given| hosts(given, &Role::GATE), ..QUIET },
    EngineEntry { name: watch::NAME, kinds: watch::KINDS, own_thread: true, make: watch, ..QUIET },
];

/// Every engine that runs on hosts, in `garant agent` or in `garant gate`.
pub(crate) const HOST_ENGINES: &[HostEngineEntry] = &[
    HostEngineEntry {
        name: guard::NAME,
        role: &Role::AGENT,
        kinds: guard::KINDS,
        own_thread: true,
        capabilities: &["net_admin"],
        commands: guard::commands,
        figures: guard::FIGURES,
        desire: |given| desire(given, guard::Config::desired),
        make: |given| {
            let guard = guard::Guard::new(given.desired, given.state);
            let (door, figures) = (Arc::new(guard.door()), guard.figures());
            Ok(Made::new(guard).door(door).told(figures))
        },
    },
    HostEngineEntry {
        name: backup::NAME,
        role: &Role::AGENT,
        kinds: backup::KINDS,
        own_thread: true,
        // Files of all users, and those of MariaDB, are read; none is written to.
        capabilities: &["dac_read_search"],
        commands: backup::commands,
        figures: backup::FIGURES,
        desire: |given| desire(given, backup::Config::desired),
        make: |given| {
            let backup = backup::Backup::new(given.desired, given.state);
            let (door, figures) = (Arc::new(backup.door()), backup.figures());
            Ok(Made::new(backup).door(door).told(figures))
        },
    },
    HostEngineEntry {
        name: gate::NAME,
        role: &Role::GATE,
        kinds: gate::KINDS,
        own_thread: true,
        // Ports below 1024.
        capabilities: &["net_bind_service"],
        commands: gate::commands,
        figures: gate::FIGURES,
        desire: gate_desire,
        make: |given| {
            let gate = gate::GateEngine::new(given.desired, given.state);
            let (door, figures, handover) = (Arc::new(gate.door()), gate.figures(), gate.handover());
            Ok(Made::new(gate).door(door).told(figures).handover(handover))
        },
    },
];

/// An engine without kinds, commands and a thread of its own.
const QUIET: EngineEntry = EngineEntry {
    name: "",
    kinds: &[],
    own_thread: false,
    commands: Vec::new,
    make: |_| Err(Failure::new("an engine of the list has no constructor")),
};

/// All that engines can be made from. A `make` function takes from it the part of the policy and the rights of its engine.
pub struct Given {
    pub(crate) store: Arc<Sqlite>,
    /// The engines of hosts, and the data directory, beside which they keep their state.
    pub(crate) host_engines: Vec<HostEngineEntry>,
    pub(crate) data: PathBuf,
    pub(crate) keys: Vec<VerifierKey>,
    /// The time at which the newest entry from before the start was recorded.
    pub(crate) newest_before: Option<Time>,
    pub(crate) parts: Arc<[Box<dyn PartChannel>]>,
    pub(crate) heads: Receiver<Arc<RememberedHeads>>,
    pub(crate) witnesses: Receiver<Arc<Vec<RemoteWitness>>>,
    pub(crate) retention: Receiver<RetentionPeriods>,
    pub(crate) applied: Receiver<Arc<Applied>>,
    pub(crate) in_effect: Sender<Arc<InEffect>>,
    pub(crate) published: Sender<Option<Arc<Published>>>,
    pub(crate) pings: Pings,
    pub(crate) bans: guard::BansTold,
}

impl Given {
    /// The part of the policy of this type, now and after each reload.
    ///
    /// # Errors
    /// No part of the list is read as this type.
    pub fn part<P: Part>(&self) -> Result<Receiver<Arc<P>>, Failure> {
        let sender = self.parts.iter().find_map(|channel| {
            let channel: &dyn Any = channel.as_ref();
            channel.downcast_ref::<Sender<Arc<P>>>()
        });
        sender.map(Sender::subscribe).ok_or_else(|| {
            Failure::new(format!("no part of the policy is read as {}", std::any::type_name::<P>()))
                .remedy("add it to the list of parts")
        })
    }

    /// The right to read the journal.
    pub fn journal(&self) -> Arc<dyn store::Read> {
        Arc::clone(&self.store) as _
    }

    /// The right to keep rows from one run to the next, written in one transaction with events.
    pub fn consumers(&self) -> Arc<dyn store::Consumers> {
        Arc::clone(&self.store) as _
    }

    /// The right to read and write the time series.
    pub fn samples(&self) -> Arc<dyn store::Samples> {
        Arc::clone(&self.store) as _
    }
}

fn publisher(given: &Given) -> Result<Made, Failure> {
    let (heads, witnesses) = (given.heads.clone(), given.witnesses.clone());
    let publish = Arc::clone(&given.store) as _;
    Ok(Made::new(notary::publisher::publisher(publish, given.keys.clone(), heads, witnesses, given.published.clone())))
}

fn retention(given: &Given) -> Result<Made, Failure> {
    let (retain, samples) = (Arc::clone(&given.store) as _, Arc::clone(&given.store) as _);
    Ok(Made::new(notary::retention::retention(retain, samples, given.retention.clone(), given.newest_before)))
}

fn judge(given: &Given) -> Result<Made, Failure> {
    Ok(Made::new(judge::judge(given.journal(), given.consumers(), given.in_effect.clone())))
}

fn watch(given: &Given) -> Result<Made, Failure> {
    let (samples, consumers) = (given.samples(), given.consumers());
    let watch = Arc::new(watch::Watch::new(given.part()?, given.pings.clone(), samples, consumers));
    let figures = watch.figures();
    Ok(Made::of(watch).probes(figures.probes()).figures(figures))
}

fn respond(given: &Given) -> Result<Made, Failure> {
    let (applied, in_effect) = (given.applied.clone(), given.in_effect.subscribe());
    let (part, published) = (given.part()?, given.published.subscribe());
    let respond = respond::Respond::new(part, applied, in_effect, published, given.journal(), given.consumers());
    let (door, figures) = (Arc::new(respond.door()), respond.figures());
    Ok(Made::new(respond).door(door).figures(figures))
}

fn expiry(given: &Given) -> Result<Made, Failure> {
    Ok(Made::new(backup::expiry(given.part()?, given.consumers(), given.newest_before)))
}

fn banned(given: &Given) -> Result<Made, Failure> {
    Ok(Made::new(guard::banned(given.journal(), given.consumers(), given.bans.clone())))
}

/// What the policy wants of the gate, with those whom the guard has banned.
fn gate_desire(given: &Given) -> Result<hosts::Desire, Failure> {
    let (part, bans) = (given.part::<gate::Config>()?, given.bans.clone());
    Ok(Arc::new(move || {
        let desired = part.borrow().desired().map(|desired| match bans.networks() {
            Some(networks) => desired.banning(networks.iter().map(|(network, until)| (*network, *until))),
            None => desired,
        });
        desired.map(|desired| serde_json::value::to_raw_value(&desired)).transpose()
    }))
}

/// The server's side of a process of this host.
fn hosts(given: &Given, role: &'static Role) -> Result<Made, Failure> {
    let entries: Vec<&HostEngineEntry> =
        given.host_engines.iter().filter(|entry| entry.role.engine == role.engine).collect();
    let desires = entries.iter().map(|entry| {
        Ok(hosts::Wanted { engine: entry.name, desire: (entry.desire)(given)?, capabilities: entry.capabilities })
    });
    let desires: Vec<hosts::Wanted> = desires.collect::<Result<_, Failure>>()?;
    let agent = process(given, role)?;
    let place = hosts::AgentPlace { state: role_state(&given.data, role) };
    let is_started = agent().socket.is_none() && desires.iter().any(|wanted| !matches!((wanted.desire)(), Ok(None)));
    if let Some(why) = hosts::socket_too_long(&place.socket(role)).filter(|_| is_started) {
        let Role { noun, table, .. } = role;
        return Err(Failure::new(format!("the {noun} of this host can't be started"))
            .because(&Failure::new(why))
            .remedy(format!(
                "name a data directory of a shorter path with --data; or run the {noun} as a unit of its own, and name its socket in {table}"
            )));
    }
    let hosts = hosts::Hosts::new(hosts::Given {
        role,
        agent,
        applied: given.applied.clone(),
        also: if role.engine == Role::GATE.engine { given.bans.changes() } else { Sender::new(()).subscribe() },
        sink: Arc::clone(&given.store) as _,
        kinds: entries.iter().flat_map(|entry| entry.kinds).collect(),
        desires,
        figures: entries.iter().map(|entry| (entry.name, entry.figures)).collect(),
        place,
    });
    let (figures, probes) = (hosts.figures(), hosts.probes());
    Ok(Made::new(hosts).figures(figures).probes(probes))
}

/// What the policy in effect says of a process of this host.
fn process(given: &Given, role: &'static Role) -> Result<hosts::AgentNow, Failure> {
    if role.engine == Role::GATE.engine {
        let config = given.part::<gate::Config>()?;
        return Ok(Arc::new(move || {
            let gate::Process { socket, user } = config.borrow().process();
            hosts::Agent { socket, user }
        }));
    }
    let config = given.part::<hosts::Config>()?;
    Ok(Arc::new(move || config.borrow().agent.clone()))
}

/// What the policy wants of an engine of hosts, from its part of the policy.
fn desire<P: Part, D: Serialize + 'static>(given: &Given, of: fn(&P) -> Option<D>) -> Result<hosts::Desire, Failure> {
    let part = given.part::<P>()?;
    Ok(Arc::new(move || of(&part.borrow()).map(|desired| serde_json::value::to_raw_value(&desired)).transpose()))
}
