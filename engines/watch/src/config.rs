//! The part of the policy that the watch reads; the tables of probes are read by [`crate::source`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event::policy::{Applied, Detector};
use event::{FindingId, ObserverId, ProbeId, ServiceId, Span};
use policy::{Document, Nouns, Part, Section, SectionDoc, Table};

use crate::in_flight;
use crate::source::canary::Canary;
use crate::source::{Declared, PROBE_KINDS};

/// A service whose probes are asked less often than this is warned of: its verdicts lag by as much.
const LAG_MAX: Span = Span::from_secs(600);

/// `[watch]`: how many questions may be under way at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchOptions {
    /// Questions under way at once, over all targets; by default as many as the probes may need.
    pub in_flight_max: Option<usize>,
    /// Questions under way at once to one host and port.
    pub per_target_max: u32,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { in_flight_max: None, per_target_max: 100 }
    }
}

impl Section for WatchOptions {
    const ABOUT: &'static str = "How much the watch has under way at once. A probe that finds no room is asked in its turn \
        once there is some; what it misses until then is unknown, not down. A quarter of the room is kept for asking again after a first failure.";
    const EXAMPLE: &'static str = "[watch]\nin_flight_max = 500\nper_target_max = 100\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let about = "Questions under way at once, over all. By default as many as there would be if nobody answered any \
            probe, as far as the file descriptors go that the process may have (two for each question).";
        let in_flight_max: Option<u32> = table.optional_in("in_flight_max", &(1..=100_000), about);
        let about = "Questions under way at once to one host and port.";
        let per_target_max = table.or_in("per_target_max", 100_u32, &(1..=100_000), about);
        let in_flight_max = in_flight_max.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
        Some(Self { in_flight_max, per_target_max })
    }
}

/// The part of the policy for the watch: observers, canaries, probes, options.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Revision of the policy, as in [`event::policy::Applied`]; empty until the whole policy is read.
    pub revision: String,
    /// Observers of the policy.
    pub observers: Vec<ObserverId>,
    /// Canary of each observer that has one.
    pub canaries: BTreeMap<ObserverId, Arc<Canary>>,
    /// Probes.
    pub probes: Vec<Arc<Declared>>,
    /// Limits of what is under way at once.
    pub options: WatchOptions,
}

impl Config {
    /// Takes its tables out of the document; mistakes stay there. `declared` are the observers of the policy.
    pub(crate) fn of_observers(document: &mut Document, declared: &[policy::Observer]) -> Self {
        let options = document.table("watch").unwrap_or_default();
        let observers: Arc<[ObserverId]> = declared.iter().map(|declared| crate::observer(&declared.id)).collect();
        let probes = PROBE_KINDS.iter().flat_map(|kind| (kind.read)(document, &observers)).map(Arc::new).collect();
        let canaries = declared
            .iter()
            .filter_map(|declared| Some((crate::observer(&declared.id), Arc::new(Canary::new(&declared.canaries)?))))
            .collect();
        Self { revision: String::new(), observers: observers.to_vec(), canaries, probes, options }
    }

    /// The public form of the probes.
    pub(crate) fn public_probes(&self) -> Vec<event::policy::Probe> {
        let kinds: HashMap<&str, Arc<str>> = PROBE_KINDS.iter().map(|kind| (kind.name, kind.name.into())).collect();
        let public = |declared: &Arc<Declared>| event::policy::Probe {
            id: declared.id.clone(),
            kind: kinds.get(declared.kind).cloned().unwrap_or_else(|| declared.kind.into()),
            service: declared.service.clone(),
            every: declared.asked_every,
            observers: Arc::clone(&declared.observers),
            agreement: declared.agreement,
        };
        self.probes.iter().map(public).collect()
    }

    /// The public form of the findings, by name.
    pub(crate) fn detectors(&self) -> Vec<Detector> {
        let mut detectors: BTreeMap<FindingId, Detector> = BTreeMap::new();
        for declared in &self.probes {
            for looked_for in declared.probe.findings() {
                let Some(finding) = looked_for.id() else { continue };
                let new = || Detector { finding: finding.clone(), title: looked_for.title(), probes: Vec::new() };
                detectors.entry(finding.clone()).or_insert_with(new).probes.push(declared.id.clone());
            }
        }
        detectors.into_values().collect()
    }

    /// The known heartbeats, by uuid.
    pub(crate) fn heartbeats(&self) -> HashMap<String, ProbeId> {
        let heartbeat = |declared: &Arc<Declared>| {
            declared.probe.heartbeat().map(|heartbeat| (heartbeat.uuid().to_string(), declared.id.clone()))
        };
        self.probes.iter().filter_map(heartbeat).collect()
    }
}

impl Part for Config {
    fn read(document: &mut Document, nouns: &Nouns) -> Self {
        let config = Self::of_observers(document, &nouns.observers);
        for detector in config.detectors() {
            document.provide(&detector.finding);
        }
        config
    }

    fn reference() -> Vec<SectionDoc> {
        let kinds = PROBE_KINDS.iter().map(|kind| (kind.reference)());
        [SectionDoc::of::<WatchOptions>("watch", false)].into_iter().chain(kinds).collect()
    }

    fn publish(&self, public: &mut Applied) {
        public.probes.extend(self.public_probes());
        public.findings.extend(self.detectors());
    }

    fn set_revision(&mut self, revision: &str) {
        revision.clone_into(&mut self.revision);
    }

    /// Warnings about a policy without mistakes: services whose verdicts lag, and what could not be looked at on this
    /// machine. Looks at this machine, and asks nothing over the network.
    fn warnings(&self) -> Vec<String> {
        let mut slowest: BTreeMap<&ServiceId, &Declared> = BTreeMap::new();
        for declared in &self.probes {
            let known = slowest.entry(&declared.service).or_insert(declared);
            if declared.asked_every > known.asked_every {
                *known = declared;
            }
        }
        let lags = slowest.into_iter().filter(|(_, slowest)| slowest.asked_every > LAG_MAX).map(|(service, slowest)| {
            let Declared { id, asked_every, .. } = slowest;
            format!(
                "service `{service}`: its probe `{id}` is asked every {asked_every}, so what is known of the service is as old as \
                 that: ask it every {LAG_MAX} or more often, or give it a service of its own"
            )
        });
        let lanes = self.probes.iter().flat_map(|declared| {
            std::iter::repeat_n((declared.timeout, declared.asked_every), declared.observers.len())
        });
        let too_few =
            self.options.in_flight_max.and_then(|max| in_flight::too_few(max, lanes).map(|(_, warning)| warning));
        let here = self.probes.iter().flat_map(|declared| {
            let warnings = declared.probe.warnings().into_iter();
            warnings.map(move |warning| format!("probe `{}`, on this machine: {warning}", declared.id))
        });
        too_few.into_iter().chain(lags).chain(here).collect()
    }
}

#[cfg(test)]
mod tests;
