//! Regions, hosts, services, maintenance, and the vantage points of observers.

use std::collections::{BTreeMap, BTreeSet};

use event::policy::Text;
use event::{HostId, Interval, RegionId, ServiceId, Time, VantageId};

use crate::address::HostPort;
use crate::document::Document;
use crate::mistake::Mistake;
use crate::name::HostGroup;
use crate::place::Place;
use crate::table::{Section, Table};
use crate::value::Located;

/// How many canaries an observer may have: all are asked at once.
const CANARIES_MAX: usize = 8;

/// A region of a provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its name.
    pub id: RegionId,
    /// Name of the provider.
    pub provider: String,
}

impl Section for Region {
    const ABOUT: &'static str =
        "A place where machines run, at one provider. Failures of one region are told as one: see [respond].";
    const EXAMPLE: &'static str = r#"
[[region]]
name = "gravelines"
provider = "ovh"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.declare("name", "what hosts and observers call it");
        let provider = table.required("provider", "whose it is");
        Some(Self { id: id?, provider: provider? })
    }
}

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// The region that the host is in.
    pub region: Option<RegionId>,
    /// The groups that it belongs to.
    pub groups: Vec<HostGroup>,
}

impl Section for Host {
    const ABOUT: &'static str =
        "A machine of the team. Never public. Failures on one host are told as one: see [respond].";
    const EXAMPLE: &'static str = r#"
[[host]]
name = "web-1"
region = "gravelines"
groups = ["web"]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.declare("name", "what the team calls it");
        let region = table.optional("region", "where it is");
        let groups: Vec<HostGroup> = table.list("groups", "the groups of hosts that it belongs to");
        // A group is there as soon as a host belongs to it.
        for group in &groups {
            table.provide(group);
        }
        Some(Self { id: id?, region, groups })
    }
}

/// A service that customers use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// What customers call it.
    pub title: Text,
    /// The services that it can't do without, each with the place where the policy says so.
    pub depends_on: Vec<Located<ServiceId>>,
    /// The hosts that it runs on.
    pub hosts: Vec<HostId>,
    /// The region that it runs in, when no host names one.
    pub region: Option<RegionId>,
}

impl Section for Service {
    const ABOUT: &'static str = "Something that customers use, and that probes and promises speak of. Public.";
    const EXAMPLE: &'static str = r#"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
depends_on = ["database"]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id: Option<ServiceId> = table.declare("name", "what probes and promises call it");
        let title: Option<Text> = table.optional("title", "what customers call it; its name when absent");
        let depends_on = table.list(
            "depends_on",
            "the services that it can't do without: while one of them fails, nobody is told of this one by itself",
        );
        let hosts = table.list("host", "the hosts that it runs on; never public");
        let region = table.optional("region", "where it runs, when no host says so");
        let id = id?;
        let title = title.unwrap_or_else(|| Text { fr: id.to_string(), en: id.to_string() });
        Some(Self { id, title, depends_on, hosts, region })
    }
}

/// All services. One that depends on itself, however many steps away, is a mistake.
pub(super) fn services(document: &mut Document) -> Vec<Service> {
    let services: Vec<Service> = document.tables("service");
    for (place, path) in cycles(&services) {
        let reason = format!("a service that depends on itself: {}", path.join(" → "));
        document.mistake(Mistake::new(place, reason, "remove one of these dependencies"));
    }
    services
}

/// Each cycle once: the dependency that closes it, and the names along it.
fn cycles(services: &[Service]) -> Vec<(Place, Vec<&str>)> {
    let by_name: BTreeMap<&str, &Service> = services.iter().map(|service| (service.id.as_str(), service)).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for service in services {
        // Depth first with the path kept by hand: a chain may be as long as the policy.
        let mut path: Vec<(&Service, usize)> = vec![(service, 0)];
        while let Some((current, next)) = path.last_mut() {
            let Some(dependency) = current.depends_on.get(*next) else {
                done.insert(current.id.as_str());
                path.pop();
                continue;
            };
            *next += 1;
            let name = dependency.value.as_str();
            if let Some(start) = path.iter().position(|(on_path, _)| on_path.id.as_str() == name) {
                let names = path.get(start..).unwrap_or_default().iter().map(|(on_path, _)| on_path.id.as_str());
                found.push((dependency.place, names.chain([name]).collect()));
            } else if let Some(next) = by_name.get(name)
                && !done.contains(name)
            {
                path.push((next, 0));
            }
        }
    }
    found
}

/// A maintenance window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maintenance {
    /// Services concerned.
    pub services: Vec<ServiceId>,
    /// When.
    pub interval: Interval,
    /// What it means for customers.
    pub text: Text,
}

impl Section for Maintenance {
    const ABOUT: &'static str = "Maintenance announced to customers. It excuses an outage only if it is in the policy, and so in \
        the journal, before it begins. Public.";
    const EXAMPLE: &'static str = r#"
[[maintenance]]
services = ["shop"]
from = "2026-12-01T02:00:00+01:00"
to = "2026-12-01T04:00:00+01:00"
text.fr = "Mise à jour de la base de données : le paiement est interrompu."
text.en = "Database upgrade: payment is interrupted."
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let services = table.required_list("services", "the services concerned");
        let from: Option<Time> = table.required("from", "when it begins");
        let to: Option<Time> = table.required("to", "when it ends");
        let text = table.required("text", "what it means for customers");
        let interval = Interval::new(from?, to?);
        if interval.is_empty() {
            table.mistake("to", "the maintenance ends before it begins", "write a `to` that is after `from`");
            return None;
        }
        Some(Self { services: services?, interval, text: text? })
    }
}

/// A vantage point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observer {
    /// Its name: public, so it names a place or a role, never a host.
    pub id: VantageId,
    /// The region that it is in.
    pub region: Option<RegionId>,
    /// Targets that answer for as long as its own network works.
    pub canaries: Vec<HostPort>,
}

impl Observer {
    /// A vantage point of which nothing but its name is known.
    pub const fn named(id: VantageId) -> Self {
        Self { id, region: None, canaries: Vec::new() }
    }
}

impl Section for Observer {
    const ABOUT: &'static str = "A vantage point from which probes look. Its name is public: let it name a place or a role, never a \
        host. When none is declared there is one, called `local`.";
    const EXAMPLE: &'static str = r#"
[[observer]]
name = "strasbourg"
region = "strasbourg"
canary = ["192.0.2.1:443", "resolver.example:53"]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let id = table.declare("name", "what probes and the trust page call it");
        let region =
            table.optional("region", "where it is; declared now, used from the release with remote observers on");
        let about = "hosts of others, with their ports, that answer whenever its own way out works; while none does, a \
                     failure is unknown, not down. Never public";
        let canaries: Vec<HostPort> = table.list("canary", about);
        if canaries.len() > CANARIES_MAX {
            let reason = format!("more than {CANARIES_MAX} canaries");
            table.mistake("canary", reason, "name two or three, at different providers: one answer is enough");
        }
        Some(Self { id: id?, region, canaries })
    }
}

/// All observers: `local` when none is declared.
pub(super) fn observers(document: &mut Document) -> Vec<Observer> {
    let observers = document.tables("observer");
    if document.has("observer") {
        return observers;
    }
    let local: Option<VantageId> = "local".parse().ok();
    if let Some(id) = &local {
        document.provide(id);
    }
    local.into_iter().map(Observer::named).collect()
}
