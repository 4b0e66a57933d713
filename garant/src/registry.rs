//! The registry: the lists of the parts of the policy, of the engines of the server, and of those of hosts.
//!
//! Reading the policy, its reference, metrics, commands and the kinds of events treat all entries of these lists alike and name
//! none of them. So an engine is added by its crate in Cargo.toml, an
//! entry in [`crate::parts`] and an entry in [`crate::engines`].

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use engine::door::Door;
use engine::metrics::{FiguresTold, MetricsSource, ToldFigure};
use engine::standing::Probes;
use engine::{Command, DesiredState, Engine, Failure};
use event::Kind;
use hosts::{Desire, Role};
use policy::{Document, Nouns, Part, SectionDoc};
use tokio::sync::watch;

use crate::engines::Given;

/// The parts of the policy and the engines of a garant.
#[derive(Clone)]
pub struct Registry {
    /// Parts of the policy, in the order of its reference.
    pub parts: Vec<PolicyPart>,
    /// Engines, in the order in which they are started.
    pub engines: Vec<EngineEntry>,
    /// Engines that run in `garant agent` and in `garant gate`.
    pub host_engines: Vec<HostEngineEntry>,
}

impl Registry {
    /// The registry of this release.
    pub fn garant() -> Self {
        Self {
            parts: crate::parts::PARTS.to_vec(),
            engines: crate::engines::ENGINES.to_vec(),
            host_engines: crate::engines::HOST_ENGINES.to_vec(),
        }
    }

    /// The kinds of events that this garant can write: those of `event`, and those of its engines for the team.
    pub fn kinds(&self) -> impl Iterator<Item = &'static Kind> {
        event::kinds().iter().chain(self.team_kinds())
    }

    /// The kinds of events that its engines write for the team.
    pub(crate) fn team_kinds(&self) -> impl Iterator<Item = &'static Kind> {
        let of_hosts = self.host_engines.iter().flat_map(|entry| entry.kinds);
        self.engines.iter().flat_map(|entry| entry.kinds).chain(of_hosts)
    }

    /// Names of the threads of one owner: the pages, and the engines that ask for one.
    pub(crate) fn own_threads(&self) -> impl Iterator<Item = &'static str> {
        let engines = self.engines.iter().filter(|entry| entry.own_thread).map(|entry| entry.name);
        engines.chain([crate::roles::up::PAGES])
    }

    /// The engines that run in this process of a host.
    pub(crate) fn engines_of(&self, role: &'static Role) -> impl Iterator<Item = &HostEngineEntry> {
        self.host_engines.iter().filter(move |entry| entry.role.engine == role.engine)
    }

    /// Names of the threads of one owner in this process of a host.
    pub(crate) fn own_threads_of(&self, role: &'static Role) -> impl Iterator<Item = &'static str> {
        self.engines_of(role).filter(|entry| entry.own_thread).map(|entry| entry.name)
    }

    /// The commands of the engines.
    pub(crate) fn commands(&self) -> impl Iterator<Item = Command> {
        let of_hosts = self.host_engines.iter().flat_map(|entry| (entry.commands)());
        self.engines.iter().flat_map(|entry| (entry.commands)()).chain(of_hosts)
    }
}

/// Makes the channel of a part, filled with it; `None` for a part of another type.
type MakeChannel = fn(&Arc<dyn Part>) -> Option<Box<dyn PartChannel>>;

/// An entry of the list of parts: how the part is read, documented and handed over.
#[derive(Clone, Copy)]
pub struct PolicyPart {
    pub(crate) read: fn(&mut Document, &Nouns) -> Box<dyn Part>,
    pub(crate) reference: fn() -> Vec<SectionDoc>,
    channel: MakeChannel,
}

impl PolicyPart {
    /// The entry of a part of this type.
    pub const fn of<P: Part>() -> Self {
        Self {
            read: |document, nouns| Box::new(P::read(document, nouns)),
            reference: P::reference,
            channel: |part| Some(Box::new(watch::Sender::new(typed::<P>(part)?))),
        }
    }

    /// The channel of the part, filled with it.
    pub(crate) fn channel(&self, part: &Arc<dyn Part>) -> Result<Box<dyn PartChannel>, Failure> {
        (self.channel)(part).ok_or_else(|| Failure::new("a part of the policy was read as another type than its own"))
    }
}

/// Downcasts a part; `None` when it is of another type.
pub(crate) fn typed<P: Part>(part: &Arc<dyn Part>) -> Option<Arc<P>> {
    let any: Arc<dyn Any + Send + Sync> = Arc::<dyn Part>::clone(part);
    any.downcast().ok()
}

/// The channel of one part of the policy, whatever its type.
pub(crate) trait PartChannel: Any + Send + Sync {
    /// Sends a new value. A part of another type changes nothing; lists do not change while garant runs, so none comes.
    fn replace(&self, part: &Arc<dyn Part>);
}

impl<P: Part> PartChannel for watch::Sender<Arc<P>> {
    fn replace(&self, part: &Arc<dyn Part>) {
        if let Some(part) = typed(part) {
            self.send_replace(part);
        }
    }
}

/// An entry of the list of engines: the engine's name, what it declares, and its constructor.
#[derive(Clone, Copy)]
pub struct EngineEntry {
    /// Name of the engine, as in events, status and metrics.
    pub name: &'static str,
    /// Kinds of events that the engine writes for the team, beside the public evidence that is in `event`.
    pub kinds: &'static [Kind],
    /// Whether the engine gets a thread of its own, because it must not wait for others.
    pub own_thread: bool,
    /// The commands of the engine, `garant <command> …`.
    pub commands: fn() -> Vec<Command>,
    /// Makes the engine from its part of the policy and the rights that it needs.
    pub make: fn(&Given) -> Result<Made, Failure>,
}

/// An entry of the list of engines that run on hosts, in a process of their own.
#[derive(Clone, Copy)]
pub struct HostEngineEntry {
    /// Name of the engine, as in events and status, and of its directory in the state of the agent.
    pub name: &'static str,
    /// Kinds of events that the engine writes for the team.
    pub kinds: &'static [Kind],
    /// Whether the engine gets a thread of its own.
    pub own_thread: bool,
    /// The process that it runs in.
    pub role: &'static Role,
    /// The capabilities that the process needs for it, as capabilities(7) calls them, without `CAP_` and in small letters.
    pub capabilities: &'static [&'static str],
    /// The commands of the engine, `garant <command> …`.
    pub commands: fn() -> Vec<Command>,
    /// The figures that it has in `/metrics` of the server.
    pub figures: &'static [ToldFigure],
    /// What the policy in effect wants of the engine: asked again after each reload.
    pub desire: fn(&Given) -> Result<Desire, Failure>,
    /// Makes the engine in the agent.
    pub make: fn(HostGiven) -> Result<Made, Failure>,
}

/// All that an engine of an agent can be made from.
pub struct HostGiven {
    /// What it is to do.
    pub desired: DesiredState,
    /// Its directory in the state of the agent.
    pub state: PathBuf,
}

/// An engine ready to run, with its figures, its view of probes and its door, if it has them.
pub struct Made {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) figures: Option<Arc<dyn MetricsSource>>,
    pub(crate) told: Option<Arc<dyn FiguresTold>>,
    pub(crate) probes: Option<Probes>,
    pub(crate) door: Option<Arc<dyn Door>>,
    pub(crate) handover: Option<Arc<dyn engine::succession::Handover>>,
}

impl Made {
    /// An engine alone.
    pub fn new(engine: impl Engine + 'static) -> Self {
        Self::of(Arc::new(engine))
    }

    /// An engine alone that is shared already.
    pub fn of(engine: Arc<dyn Engine>) -> Self {
        Self { engine, figures: None, told: None, probes: None, door: None, handover: None }
    }

    /// Adds the figures of the engine, for `/metrics`.
    #[must_use]
    pub fn figures(self, figures: Arc<dyn MetricsSource>) -> Self {
        Self { figures: Some(figures), ..self }
    }

    /// Adds the figures of an engine on a host, for `/metrics` of the server.
    #[must_use]
    pub fn told(self, figures: Arc<dyn FiguresTold>) -> Self {
        Self { told: Some(figures), ..self }
    }

    /// Adds what the engine knows of its probes, for the status page.
    #[must_use]
    pub fn probes(self, probes: Probes) -> Self {
        Self { probes: Some(probes), ..self }
    }

    /// Has the work of the engine go on in a process that takes the place of this one.
    #[must_use]
    pub fn handover(self, handover: Arc<dyn engine::succession::Handover>) -> Self {
        Self { handover: Some(handover), ..self }
    }

    /// Adds the door of the engine, at which people and programs outside reach it.
    #[must_use]
    pub fn door(self, door: Arc<dyn Door>) -> Self {
        Self { door: Some(door), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use event::{Audience, Retention};

    use super::*;

    const LOG: &str = include_str!("../../docs/log.md");

    #[test]
    fn kinds_are_distinct_and_documented() {
        let registry = Registry::garant();
        let names: Vec<&str> = registry.kinds().map(|kind| kind.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        for name in names {
            assert!(LOG.contains(&format!("`{name}`")), "docs/log.md does not name {name}");
        }
    }

    /// What verdicts rest on, and what a stranger must be able to read, is in `event`: a verifier knows no engine.
    #[test]
    fn engines_write_for_the_team_under_their_own_name() {
        let registry = Registry::garant();
        let engines = registry.engines.iter().map(|entry| (entry.name, entry.kinds));
        for (name, kinds) in engines.chain(registry.host_engines.iter().map(|entry| (entry.name, entry.kinds))) {
            for kind in kinds {
                assert_eq!(kind.audience, Audience::Team, "{}", kind.name);
                assert!(!matches!(kind.retention, Retention::Evidence | Retention::Permanent), "{}", kind.name);
                assert!(kind.name.starts_with(&format!("{name}.")), "{} of {name}", kind.name);
            }
        }
    }

    #[test]
    fn engines_have_distinct_names() {
        let registry = Registry::garant();
        let engines = registry.engines.iter().map(|entry| entry.name);
        let names: BTreeSet<&str> = engines.chain(registry.host_engines.iter().map(|entry| entry.name)).collect();
        assert_eq!(names.len(), registry.engines.len() + registry.host_engines.len());
    }
}
