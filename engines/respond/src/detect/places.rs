//! Where services run and what they depend on, by the policy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use event::policy::Text;
use event::{HostId, ProbeId, RegionId, ServiceId};
use policy::Nouns;

/// Regions, hosts, services and their dependencies.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Places {
    /// Of a service without place, dependency and title of its own only the name: most of ten thousand are so.
    services: BTreeMap<ServiceId, Option<Box<ServicePlace>>>,
    regions: BTreeSet<RegionId>,
    hosts: BTreeMap<HostId, Option<RegionId>>,
    probe_hosts: BTreeMap<ProbeId, HostId>,
    services_of_host: BTreeMap<HostId, usize>,
    services_of_region: BTreeMap<RegionId, usize>,
    hosts_of_region: BTreeMap<RegionId, usize>,
    /// The services that can't do without this one, however many steps away.
    dependents: BTreeMap<ServiceId, Vec<ServiceId>>,
}

/// Where a service is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct ServicePlace {
    title: Text,
    hosts: BTreeSet<HostId>,
    regions: BTreeSet<RegionId>,
    /// All that it can't do without, however many steps away.
    depends_on: BTreeSet<ServiceId>,
}

impl Places {
    /// The places that the policy declares, and the hosts that its probes name.
    pub fn new(nouns: &Nouns, probe_hosts: BTreeMap<ProbeId, HostId>) -> Self {
        let hosts: BTreeMap<_, _> = nouns.hosts.iter().map(|host| (host.id.clone(), host.region.clone())).collect();
        let direct: BTreeMap<&ServiceId, Vec<&ServiceId>> = nouns
            .services
            .iter()
            .map(|service| (&service.id, service.depends_on.iter().map(|on| &on.value).collect()))
            .collect();
        let regions = nouns.regions.iter().map(|region| region.id.clone()).collect();
        let mut places = Self { regions, hosts, probe_hosts, ..Self::default() };
        for service in &nouns.services {
            let of_hosts = service.hosts.iter().filter_map(|host| places.hosts.get(host).cloned().flatten());
            let mut regions: BTreeSet<RegionId> = of_hosts.collect();
            regions.extend(service.region.clone());
            let place = ServicePlace {
                title: service.title.clone(),
                hosts: service.hosts.iter().cloned().collect(),
                regions,
                depends_on: reachable(&service.id, &direct),
            };
            for host in &place.hosts {
                *places.services_of_host.entry(host.clone()).or_default() += 1;
            }
            for cause in &place.depends_on {
                places.dependents.entry(cause.clone()).or_default().push(service.id.clone());
            }
            for region in &place.regions {
                *places.services_of_region.entry(region.clone()).or_default() += 1;
            }
            let is_bare = place.hosts.is_empty() && place.regions.is_empty() && place.depends_on.is_empty();
            let is_bare =
                is_bare && [&place.title.fr, &place.title.en].iter().all(|title| *title == service.id.as_str());
            places.services.insert(service.id.clone(), (!is_bare).then(|| Box::new(place)));
        }
        for region in places.hosts.values().flatten() {
            *places.hosts_of_region.entry(region.clone()).or_default() += 1;
        }
        places
    }

    fn place(&self, service: &ServiceId) -> Option<&ServicePlace> {
        self.services.get(service)?.as_deref()
    }

    /// The hosts of what a probe of a service shows: the probe's own, or those of its service.
    pub fn hosts(&self, service: &ServiceId, probe: Option<&ProbeId>) -> BTreeSet<HostId> {
        match probe.and_then(|probe| self.probe_hosts.get(probe)) {
            Some(host) => [host.clone()].into(),
            None => self.place(service).map(|place| place.hosts.clone()).unwrap_or_default(),
        }
    }

    /// The region of a service, or of these hosts of it; `None` when there is none, or several.
    pub fn region(&self, service: &ServiceId, hosts: &BTreeSet<HostId>) -> Option<RegionId> {
        let mut of_hosts: BTreeSet<&RegionId> =
            hosts.iter().filter_map(|host| self.hosts.get(host)?.as_ref()).collect();
        if of_hosts.is_empty() {
            of_hosts = self.place(service).map(|place| place.regions.iter().collect()).unwrap_or_default();
        }
        let mut regions = of_hosts.into_iter();
        match (regions.next(), regions.next()) {
            (Some(region), None) => Some(region.clone()),
            _ => None,
        }
    }

    /// Whether the policy names this host.
    pub fn knows_host(&self, host: &HostId) -> bool {
        self.hosts.contains_key(host)
    }

    /// Whether the policy names this region.
    pub fn knows_region(&self, region: &RegionId) -> bool {
        self.regions.contains(region)
    }

    /// Whether the policy names this service.
    pub fn knows_service(&self, service: &ServiceId) -> bool {
        self.services.contains_key(service)
    }

    /// The region of a host.
    pub fn region_of_host(&self, host: &HostId) -> Option<&RegionId> {
        self.hosts.get(host)?.as_ref()
    }

    /// Whether `service` can't do without `other`.
    pub fn depends(&self, service: &ServiceId, other: &ServiceId) -> bool {
        self.place(service).is_some_and(|place| place.depends_on.contains(other))
    }

    /// All services that `service` can't do without.
    pub fn depends_on(&self, service: &ServiceId) -> impl Iterator<Item = &ServiceId> {
        self.place(service).into_iter().flat_map(|place| &place.depends_on)
    }

    /// All services that can't do without `service`.
    pub fn dependents(&self, service: &ServiceId) -> &[ServiceId] {
        self.dependents.get(service).map_or(&[], Vec::as_slice)
    }

    /// What customers call the service.
    pub fn title(&self, service: &ServiceId) -> Text {
        self.place(service)
            .map_or_else(|| Text { fr: service.to_string(), en: service.to_string() }, |place| place.title.clone())
    }

    /// The number of services on a host.
    pub fn services_of_host(&self, host: &HostId) -> usize {
        self.services_of_host.get(host).copied().unwrap_or_default()
    }

    /// The number of services of a region.
    pub fn services_of_region(&self, region: &RegionId) -> usize {
        self.services_of_region.get(region).copied().unwrap_or_default()
    }

    /// The number of hosts of a region.
    pub fn hosts_of_region(&self, region: &RegionId) -> usize {
        self.hosts_of_region.get(region).copied().unwrap_or_default()
    }
}

/// How far a dependency is followed: a chain as long as the policy would cost its square.
const REACHABLE_MAX: usize = 256;

/// The names that can be reached from `from`, without itself, the nearest first. The policy has no cycles, and one would do no
/// harm.
fn reachable(from: &ServiceId, direct: &BTreeMap<&ServiceId, Vec<&ServiceId>>) -> BTreeSet<ServiceId> {
    let mut found = BTreeSet::new();
    let mut next: VecDeque<&ServiceId> = direct.get(from).into_iter().flatten().copied().collect();
    while let Some(service) = next.pop_front()
        && found.len() < REACHABLE_MAX
    {
        if service != from && found.insert(service.clone()) {
            next.extend(direct.get(service).into_iter().flatten().copied());
        }
    }
    found
}
