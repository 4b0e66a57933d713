//! What the policy says to watch.
//!
//! Keys that all kinds share are read by [`Common`]; what is special to a kind is in its file under [`crate::source`].

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use event::policy::{Agreement, Detector};
use event::{FindingId, ObserverId, ProbeId, ServiceId, Span};
use policy::{Document, Section, SectionDoc, Table};

use crate::KINDS;
use crate::source::canary::Canary;
use crate::source::{Probe, Settings};

/// How often a probe may ask.
const EVERY: RangeInclusive<Span> = Span::from_secs(1)..=Span::from_days(1);
const EVERY_USUAL: Span = Span::from_secs(60);
/// The longest a probe may wait for an answer.
const TIMEOUT_MAX: Span = Span::from_secs(60);
/// How long it waits unless the policy says otherwise: this, or half of the interval if that is shorter.
const TIMEOUT_USUAL: Span = Span::from_secs(10);
/// How many observers may look at one probe.
const OBSERVERS_MAX: usize = 16;

/// The keys that all kinds of probe share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Common {
    /// Its name.
    pub id: ProbeId,
    /// The service whose state it tells.
    pub service: ServiceId,
    /// How often it is asked, or a sign of life is due.
    pub every: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// An answer that takes longer than this is degraded.
    pub slower_than: Option<Span>,
    /// Who looks; nobody named means everybody, or the first for what can only be seen in one place.
    pub from: Vec<ObserverId>,
    /// When it counts as down.
    pub agreement: Agreement,
    /// Whether it can only be seen in one place.
    pub here: bool,
}

impl Common {
    /// For a kind that asks somebody.
    pub fn read_asked(table: &mut Table<'_>) -> Option<Self> {
        let (id, service) = (name(table), service(table));
        let every = table.or_in("every", EVERY_USUAL, &EVERY, "How often to ask.");
        let usual = TIMEOUT_USUAL.min(Span::from_micros(every.micros() / 2));
        let about = "How long an answer may take. By default half of `every`, but not more than 10 s.";
        let timeout = table.optional_in("timeout", &(Span::from_millis(10)..=TIMEOUT_MAX), about).unwrap_or(usual);
        let about = "An answer that takes longer than this is degraded: it counts as up, and shows.";
        let slower_than = table.optional("slower_than", about);
        let about = "Observers that ask. By default all of them.";
        let from = observers(table, about);
        let about = "How many observers must agree that it is down: more than half, one, or all.";
        let agreement = table.optional("agreement", about).unwrap_or_default();
        if timeout >= every {
            let reason = format!("`timeout` is {timeout}, not shorter than `every`, {every}");
            table.mistake("timeout", reason, "an answer must be there before the next question: shorten `timeout`");
        }
        if let Some(slow) = slower_than.filter(|&slow| slow >= timeout) {
            let reason = format!("`slower_than` is {slow}, not shorter than the timeout, {timeout}");
            table.mistake("slower_than", reason, "no answer would ever be slow: shorten it, or lengthen `timeout`");
        }
        Some(Self { id: id?, service: service?, every, timeout, slower_than, from, agreement, here: false })
    }

    /// For a kind that asks nobody, and can only be seen in one place.
    pub fn read_here(table: &mut Table<'_>, range: RangeInclusive<Span>, usual: Span) -> Option<Self> {
        let (id, service) = (name(table), service(table));
        let every = table.or_in("every", usual, &range, "How often.");
        let from = observers(table, "The observer that looks. By default the first.");
        if from.len() > 1 {
            table.mistake("from", "it can only be seen by one observer", "name one, or remove `from`");
        }
        let timeout = TIMEOUT_USUAL;
        let agreement = Agreement::default();
        Some(Self { id: id?, service: service?, every, timeout, slower_than: None, from, agreement, here: true })
    }
}

fn name(table: &mut Table<'_>) -> Option<ProbeId> {
    table.declare("name", "What promises and pages call it. Public: no host, no address.")
}

fn service(table: &mut Table<'_>) -> Option<ServiceId> {
    table.required("service", "The service whose state it tells.")
}

fn observers(table: &mut Table<'_>, about: &'static str) -> Vec<ObserverId> {
    let from: Vec<ObserverId> = table.list("from", about);
    let mut sorted = from.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() < from.len() {
        table.mistake("from", "an observer is named twice", "name each once: its word does not count double");
    }
    if from.len() > OBSERVERS_MAX {
        table.mistake("from", format!("more than {OBSERVERS_MAX} observers"), "name fewer");
    }
    from
}

/// `[watch]`: how much is under way at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Questions under way at once, over all; as many as the probes may need, if it does not say.
    pub in_flight_max: Option<usize>,
    /// Questions under way at once to one host and port.
    pub per_target_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { in_flight_max: None, per_target_max: 100 }
    }
}

impl Section for Options {
    const ABOUT: &'static str = "How much the watch has under way at once. A probe that finds no room waits for a tenth of its \
        interval; then its sample is unknown, not down. A quarter of the room is kept for asking again after a first failure.";
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

/// A probe of the policy, ready to ask.
#[derive(Clone)]
pub struct Declared {
    /// Its name.
    pub id: ProbeId,
    /// `http`, `tcp`…
    pub kind: &'static str,
    /// The service whose state it tells.
    pub service: ServiceId,
    /// How often a sample or a sign of life is due.
    pub every: Span,
    /// How often it is asked.
    pub asked_every: Span,
    /// How long an answer may take.
    pub timeout: Span,
    /// An answer that takes longer than this is degraded.
    pub slower_than: Option<Span>,
    /// Who asks.
    pub observers: Arc<[ObserverId]>,
    /// When it counts as down.
    pub agreement: Agreement,
    /// Two declarations with the same value say the same.
    pub spec: u64,
    /// The probe.
    pub probe: Arc<dyn Probe>,
}

impl Declared {
    /// Makes a probe of its settings, to be seen by `all` observers unless it says otherwise.
    pub fn new<S: Settings>(kind: &'static str, settings: S, all: &Arc<[ObserverId]>) -> Self {
        // All settings, as they are written: a probe whose settings print alike asks alike.
        let mut hasher = DefaultHasher::new();
        (kind, format!("{settings:?}")).hash(&mut hasher);
        let asked_every = settings.asked_every();
        let Common { id, service, every, timeout, slower_than, from, agreement, here } = settings.common().clone();
        let observers = match (from.is_empty(), here) {
            (false, _) => from.into(),
            (true, false) => Arc::clone(all),
            (true, true) => all.iter().take(1).cloned().collect(),
        };
        let spec = hasher.finish();
        let probe = settings.into_probe();
        Self { id, kind, service, every, asked_every, timeout, slower_than, observers, agreement, spec, probe }
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} every {}", self.kind, self.id, self.every)
    }
}

/// Everything there is to watch.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Revision of the policy that says so, as in [`event::policy::Applied`]; see [`Config::of_revision`].
    pub revision: String,
    /// Who looks.
    pub observers: Vec<ObserverId>,
    /// What each of them can reach while its own way out works; nothing for one that was given no canary.
    pub canaries: BTreeMap<ObserverId, Arc<Canary>>,
    /// Probes.
    pub probes: Vec<Arc<Declared>>,
    /// How much at once.
    pub options: Options,
}

impl Config {
    /// Takes its tables out of the document; mistakes stay there. `declared` are the observers of the policy.
    pub fn read(document: &mut Document, declared: &[policy::Observer]) -> Self {
        let options = document.table("watch").unwrap_or_default();
        let observers: Arc<[ObserverId]> = declared.iter().map(|observer| observer.id.clone()).collect();
        let probes = KINDS.iter().flat_map(|kind| (kind.read)(document, &observers)).map(Arc::new).collect();
        let canaries = declared
            .iter()
            .filter_map(|observer| Some((observer.id.clone(), Arc::new(Canary::new(&observer.canaries)?))))
            .collect();
        Self { revision: String::new(), observers: observers.to_vec(), canaries, probes, options }
    }

    /// The same under the revision that it is part of.
    #[must_use]
    pub fn of_revision(mut self, revision: impl Into<String>) -> Self {
        self.revision = revision.into();
        self
    }

    /// The chapters of `docs/policy.md` about these tables.
    pub fn reference() -> Vec<SectionDoc> {
        let kinds = KINDS.iter().map(|kind| (kind.reference)());
        [SectionDoc::of::<Options>("watch", false)].into_iter().chain(kinds).collect()
    }

    /// The probes as everybody may know them.
    pub fn public_probes(&self) -> Vec<event::policy::Probe> {
        let public = |declared: &Arc<Declared>| event::policy::Probe {
            id: declared.id.clone(),
            kind: declared.kind.to_owned(),
            service: declared.service.clone(),
            every: declared.every,
            observers: declared.observers.to_vec(),
            agreement: declared.agreement,
        };
        self.probes.iter().map(public).collect()
    }

    /// The findings as everybody may know them, by name.
    pub fn detectors(&self) -> Vec<Detector> {
        let mut detectors: BTreeMap<FindingId, Vec<ProbeId>> = BTreeMap::new();
        for declared in &self.probes {
            for finding in declared.probe.findings() {
                detectors.entry(finding).or_default().push(declared.id.clone());
            }
        }
        detectors.into_iter().map(|(finding, probes)| Detector { finding, probes }).collect()
    }

    /// Where heartbeats arrive.
    pub(crate) fn heartbeats(&self) -> HashMap<String, ProbeId> {
        let heartbeat = |declared: &Arc<Declared>| {
            declared.probe.heartbeat().map(|heartbeat| (heartbeat.uuid().to_string(), declared.id.clone()))
        };
        self.probes.iter().filter_map(heartbeat).collect()
    }
}

#[cfg(test)]
mod tests;
