//! Conditions out of the journal: probes, findings, promises, observers, engines, storage.
//!
//! A pure fold. It keeps what each observer said last of each probe, and gives a [`Signal`] for each entry that changes whether
//! something is wrong. What differs from "all is well" is kept in rows, so that a restart finds what was open; an observer of whom
//! nothing is kept is taken to see the probe up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::reason::Reason;
use event::engine::{Failed, StorageFault};
use event::evidence::{Changed, Covered, Found, State};
use event::policy::{Applied, Probe, Text};
use event::promise::{Outcome, Verdict};
use event::{Body, Envelope, Family, FindingId, Kind, ObserverId, ProbeId, Span, Time};
use serde::{Deserialize, Serialize};
use store::Row;

use super::french;
use crate::act::Severity;
use crate::config::Alerting;
use crate::detect::alert::{Opening, Signal, SignalState, Source};

/// Time without a coverage record after which an observer is silent, and no less than three records' `every`.
const SILENT_AFTER: Span = Span::from_secs(180);
/// Time for which an observer sees next to nothing before that is a condition: most of one record.
const BLIND_AFTER: Span = Span::from_secs(50);
/// Failures of an engine within [`FAILS_WITHIN`] that are a condition.
const FAILURES: usize = 3;
const FAILS_WITHIN: Span = Span::from_secs(600);

/// The words of an observer for the team, as its engine journals them beside the public evidence: any event with these fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Words {
    probe: ProbeId,
    /// The finding of the probe that they are of; none where they are of all that is open of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finding: Option<FindingId>,
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
}

/// The same in two languages.
#[derive(Clone, Default, Debug)]
struct Told {
    en: String,
    fr: String,
}

/// The kinds of events with such words.
const WORDS: [Kind; 3] = [
    Kind::team("watch.detail", Family::Monitoring),
    Kind::team("guard.detail", Family::Security),
    Kind::team("backup.detail", Family::Monitoring),
];

/// What an observer said last of a probe.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Said {
    state: State,
    after: Time,
    by: Time,
}

/// The probes of the policy in effect: the policy itself, which others hold as well, and the order of their names in it.
#[derive(Default)]
struct Watched {
    applied: Option<Arc<Applied>>,
    by_name: Vec<u32>,
}

impl Watched {
    fn of(applied: Arc<Applied>) -> Self {
        let mut by_name: Vec<u32> = (0..).take(applied.probes.len()).collect();
        by_name.sort_unstable_by_key(|place| &applied.probes[*place as usize].id);
        Self { applied: Some(applied), by_name }
    }

    fn all(&self) -> &[Probe] {
        self.applied.as_ref().map_or(&[], |applied| applied.probes.as_slice())
    }

    fn get(&self, probe: &ProbeId) -> Option<&Probe> {
        let probes = self.all();
        let place = self.by_name.binary_search_by_key(&probe, |place| &probes[*place as usize].id).ok()?;
        probes.get(*self.by_name.get(place)? as usize)
    }

    fn contains(&self, probe: &ProbeId) -> bool {
        self.get(probe).is_some()
    }
}

/// What is found, and by whom.
type Findings = BTreeMap<(FindingId, ProbeId), BTreeMap<ObserverId, Said>>;

/// Whether an observer has found something about a probe that is still so.
fn has_finding(found: &Findings, probe: &ProbeId, observer: &ObserverId) -> bool {
    found.iter().any(|((_, of), observers)| of == probe && observers.contains_key(observer))
}

/// The fold.
#[derive(Default)]
pub struct JournalFold {
    watched: Watched,
    titles: BTreeMap<FindingId, Text>,
    said: BTreeMap<ProbeId, BTreeMap<ObserverId, Said>>,
    found: Findings,
    words: BTreeMap<ProbeId, Told>,
    /// Those of one finding alone.
    of_findings: BTreeMap<(FindingId, ProbeId), Told>,
    heard: BTreeMap<ObserverId, Heard>,
    failures: BTreeMap<String, Vec<Time>>,
    dirty: BTreeSet<String>,
    /// The start of this process.
    begun: Time,
}

/// When an observer was heard last, and how often it is to be.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Time,
    every: Span,
    /// Since when it has seen next to nothing, record after record.
    blind_since: Option<Time>,
}

impl JournalFold {
    /// A fold that begins with nothing, at the start of the process.
    pub fn beginning_at(begun: Time) -> Self {
        Self { begun, ..Self::default() }
    }

    /// Called with the time of the wall clock: one that was set back makes the start earlier.
    pub fn passes(&mut self, wall: Time) {
        self.begun = self.begun.min(wall);
    }

    /// The kinds of entries that it reads.
    pub fn kinds() -> Vec<Kind> {
        let public = [Changed::KIND, Found::KIND, Covered::KIND, Verdict::KIND];
        public.into_iter().chain(WORDS).chain([Failed::KIND, StorageFault::KIND]).collect()
    }

    /// Takes a row of the run before; false for one that is not of the fold.
    pub fn take_row(&mut self, key: &str, value: &[u8]) -> bool {
        let mut parts = key.splitn(4, '/');
        let parts = [(); 4].map(|()| parts.next().unwrap_or_default());
        match parts {
            ["said", probe, observer, ""] => {
                if let (Ok(probe), Ok(observer), Ok(said)) =
                    (probe.parse::<ProbeId>(), observer.parse(), serde_json::from_slice(value))
                {
                    self.said.entry(probe).or_default().insert(observer, said);
                }
                true
            }
            ["found", finding, probe, observer] => {
                if let (Ok(finding), Ok(probe), Ok(observer), Ok(said)) =
                    (finding.parse(), probe.parse(), observer.parse(), serde_json::from_slice(value))
                {
                    self.found.entry((finding, probe)).or_default().insert(observer, said);
                }
                true
            }
            _ => false,
        }
    }

    /// The rows that changed since the last call.
    pub fn take_rows(&mut self) -> Vec<Row> {
        let dirty = std::mem::take(&mut self.dirty);
        let rows = dirty.into_iter().map(|key| match self.row(&key) {
            Some(value) => Row::Put { key, value },
            None => Row::Delete { key },
        });
        rows.collect()
    }

    fn row(&self, key: &str) -> Option<Vec<u8>> {
        let mut parts = key.split('/');
        let said = if parts.next()? == "said" {
            self.said.get(&parts.next()?.parse().ok()?)?.get(&parts.next()?.parse().ok()?)?
        } else {
            let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            self.found.get(&place)?.get(&parts.next()?.parse().ok()?)?
        };
        (said.state != State::Up).then(|| serde_json::to_vec(said).ok()).flatten()
    }

    /// Follows a policy: what it no longer watches is over, and what it watches otherwise is judged anew.
    pub fn follow(&mut self, applied: &Arc<Applied>, alerting: &Alerting, now: Time) -> Vec<Signal> {
        self.watched = Watched::of(Arc::clone(applied));
        self.titles =
            applied.findings.iter().map(|detector| (detector.finding.clone(), detector.title.clone())).collect();
        let mut signals = Vec::new();
        let gone: Vec<ProbeId> = self.said.keys().filter(|probe| !self.watched.contains(probe)).cloned().collect();
        for probe in gone {
            for observer in self.said.remove(&probe).into_iter().flatten().map(|(observer, _)| observer) {
                self.dirty.insert(format!("said/{probe}/{observer}"));
            }
            signals.push(Signal { key: probe_key(&probe), state: SignalState::Gone(now) });
        }
        let gone: Vec<(FindingId, ProbeId)> = self
            .found
            .keys()
            .filter(|(finding, probe)| !self.watched.contains(probe) || !self.titles.contains_key(finding))
            .cloned()
            .collect();
        for place in gone {
            self.of_findings.remove(&place);
            for observer in self.found.remove(&place).into_iter().flatten().map(|(observer, _)| observer) {
                self.dirty.insert(format!("found/{}/{}/{observer}", place.0, place.1));
            }
            signals.push(Signal { key: finding_key(&place.0, &place.1), state: SignalState::Gone(now) });
        }
        let mut every: BTreeMap<ObserverId, Span> = BTreeMap::new();
        for watched in self.watched.all() {
            for observer in watched.observers.iter() {
                let shortest = every.entry(observer.clone()).or_insert(watched.every);
                *shortest = (*shortest).min(watched.every);
            }
        }
        let heard: BTreeMap<ObserverId, Heard> = every
            .into_iter()
            .map(|(observer, every)| {
                let every = every.max(Covered::EVERY_MIN);
                let known = self.heard.get(&observer);
                let (at, blind_since) = known.map_or((now, None), |heard| (heard.at, heard.blind_since));
                (observer, Heard { at, every, blind_since })
            })
            .collect();
        for gone in self.heard.keys().filter(|observer| !heard.contains_key(*observer)) {
            signals.push(Signal { key: observer_key(gone), state: SignalState::Gone(now) });
        }
        self.heard = heard;
        let probes: Vec<ProbeId> = self.said.keys().cloned().collect();
        signals.extend(probes.iter().filter_map(|probe| self.judge(probe, alerting)));
        signals
    }

    /// What fires by these keys and can't be over by an entry any more: the policy has no such promise or observer now, or the
    /// failures of an engine were counted by a run before.
    pub fn reconcile(&mut self, firing: Vec<String>, applied: &Applied, now: Time) -> Vec<Signal> {
        let mut signals = Vec::new();
        for key in firing {
            let gone = match key.split_once('/') {
                Some(("promise", rest)) => !rest.rsplit_once('/').is_some_and(|(promise, objective)| {
                    let objectives = |it: &&event::policy::Promise| it.id.as_str() == promise;
                    let objectives = applied.promises.iter().find(objectives).map_or(0, |it| it.objectives.len());
                    objective.parse::<usize>().is_ok_and(|objective| objective < objectives)
                }),
                Some(("observer", observer)) => {
                    !observer.parse().is_ok_and(|observer| self.heard.contains_key::<ObserverId>(&observer))
                }
                Some(("engine", engine)) => {
                    // Over when it does not fail for a while from here on.
                    self.failures.entry(engine.to_owned()).or_insert_with(|| vec![now]);
                    false
                }
                _ => false,
            };
            if gone {
                signals.push(Signal { key, state: SignalState::Over(now) });
            }
        }
        signals
    }

    /// Takes an entry.
    pub fn take(&mut self, envelope: &Envelope, alerting: &Alerting, now: Time) -> Vec<Signal> {
        let observer = &envelope.observer;
        let has_words = WORDS.iter().any(|kind| kind.name == envelope.kind && envelope.version <= kind.version);
        if has_words && let Ok(words) = serde_json::from_str::<Words>(envelope.body.get()) {
            return self.spoken(words, alerting);
        }
        if let Some(Ok(changed)) = envelope.body::<Changed>() {
            return self.changed(observer, &changed, alerting).into_iter().collect();
        }
        if let Some(Ok(found)) = envelope.body::<Found>() {
            return self.found(observer, &found, alerting).into_iter().collect();
        }
        if let Some(Ok(covered)) = envelope.body::<Covered>() {
            return self.covered(observer, &covered, alerting, now).into_iter().collect();
        }
        if let Some(Ok(verdict)) = envelope.body::<Verdict>() {
            return vec![judged(&verdict, alerting)];
        }
        if let Some(Ok(failed)) = envelope.body::<Failed>() {
            return self.failed(&failed, alerting, envelope.recorded_at).into_iter().collect();
        }
        if let Some(Ok(fault)) = envelope.body::<StorageFault>() {
            return vec![storage(&fault, alerting, now)];
        }
        Vec::new()
    }

    /// The words come after the change that they are of: what is open gets them.
    fn spoken(&mut self, words: Words, alerting: &Alerting) -> Vec<Signal> {
        let Words { probe, finding, text, reasons } = words;
        if !self.watched.contains(&probe) {
            return Vec::new();
        }
        if let Some(finding) = finding {
            let place = (finding, probe);
            if !self.found.contains_key(&place) {
                return Vec::new();
            }
            let told = Told { fr: french::words(&text, &reasons), en: text };
            self.of_findings.insert(place.clone(), told);
            return self.opened(&place.0, &place.1, alerting).into_iter().collect();
        }
        let findings: Vec<FindingId> =
            self.found.keys().filter(|(_, of)| *of == probe).map(|(finding, _)| finding.clone()).collect();
        let is_open = self.said.contains_key(&probe);
        if !is_open && findings.is_empty() {
            return Vec::new();
        }
        let told = Told { fr: french::words(&text, &reasons), en: text };
        self.words.insert(probe.clone(), told);
        let mut signals: Vec<Signal> =
            if is_open { self.judge(&probe, alerting).into_iter().collect() } else { Vec::new() };
        signals.extend(findings.iter().filter_map(|finding| self.opened(finding, &probe, alerting)));
        signals
    }

    fn changed(&mut self, observer: &ObserverId, changed: &Changed, alerting: &Alerting) -> Option<Signal> {
        if !self.watched.get(&changed.probe)?.observers.contains(observer) {
            return None;
        }
        let probe = &changed.probe;
        // Its words follow.
        self.words.remove(probe);
        let row = || format!("said/{probe}/{observer}");
        if changed.state == State::Up {
            // Of ten thousand probes nearly all are up: nothing is kept of these.
            if let Some(said) = self.said.get_mut(probe)
                && said.remove(observer).is_some()
            {
                self.dirty.insert(row());
            }
            if self.said.get(probe).is_none_or(BTreeMap::is_empty) {
                self.said.remove(probe);
                return Some(Signal { key: probe_key(probe), state: SignalState::Over(changed.by) });
            }
            return self.judge(probe, alerting);
        }
        let said = Said { state: changed.state, after: changed.after, by: changed.by };
        self.said.entry(probe.clone()).or_default().insert(observer.clone(), said);
        self.dirty.insert(row());
        self.judge(probe, alerting)
    }

    /// What the observers of a probe agree on.
    fn judge(&self, probe: &ProbeId, alerting: &Alerting) -> Option<Signal> {
        let watched = self.watched.get(probe)?;
        let said = self.said.get(probe)?;
        let of = |observer: &ObserverId| said.get(observer).map_or(State::Up, |said| said.state);
        let agreed = promise::agreed_state(watched.agreement, watched.observers.iter().map(of))?;
        // The end of the sample that made it so: the latest of those who say so.
        let by = said.values().filter(|said| said.state != State::Up).map(|said| said.by).max();
        let since = said.values().filter(|said| said.state != State::Up).map(|said| said.by).min();
        let title = alerting.places.title(&watched.service);
        let (source, title) = match agreed {
            State::Up => {
                let over = said.values().map(|said| said.by).max()?;
                return Some(Signal { key: probe_key(probe), state: SignalState::Over(over) });
            }
            State::Down if watched.kind.as_ref() == "heartbeat" => {
                let (fr, en) =
                    (format!("La tâche {probe} n’a pas donné signe de vie"), format!("The job {probe} did not report"));
                (Source::Probe, Text { fr, en })
            }
            State::Down => {
                (Source::Probe, Text { fr: format!("{} : en panne", title.fr), en: format!("{} is down", title.en) })
            }
            State::Degraded => (
                Source::Degraded,
                Text { fr: format!("{} : trop lent", title.fr), en: format!("{} is too slow", title.en) },
            ),
            State::Flapping => {
                let (fr, en) =
                    (format!("{} : état incertain", title.fr), format!("{}: its state is uncertain", title.en));
                (Source::Undecided, Text { fr, en })
            }
        };
        let observers: Vec<&str> =
            said.iter().filter(|(_, said)| said.state != State::Up).map(|(observer, _)| observer.vantage()).collect();
        let observers = observers.join(", ");
        let mut detail = format!("{probe} from {observers}");
        let mut detail_fr = format!("{probe}, vu de {observers}");
        if let Some(words) = self.words.get(probe).filter(|words| !words.en.is_empty()) {
            detail = format!("{detail}: {}", words.en);
            detail_fr = format!("{detail_fr} : {}", words.fr);
        }
        let hosts = alerting.places.hosts(&watched.service, Some(probe));
        let opening = Opening {
            severity: alerting.severity(source, Some(&watched.service), Some(probe), None, None),
            title,
            detail,
            detail_fr,
            services: [watched.service.clone()].into(),
            probe: Some(probe.clone()),
            region: alerting.places.region(&watched.service, &hosts),
            hosts,
            shown_by: by,
            runbook: alerting.runbook(Some(&watched.service), Some(probe), None, None),
            ..Opening::bare(source, since?)
        };
        Some(Signal { key: probe_key(probe), state: SignalState::Open(Box::new(opening)) })
    }

    fn found(&mut self, observer: &ObserverId, found: &Found, alerting: &Alerting) -> Option<Signal> {
        if !self.watched.contains(&found.probe) {
            return None;
        }
        let place = (found.finding.clone(), found.probe.clone());
        self.dirty.insert(format!("found/{}/{}/{observer}", place.0, place.1));
        let observers = self.found.entry(place.clone()).or_default();
        if found.open {
            let said = Said { state: State::Down, after: found.after, by: found.by };
            observers.insert(observer.clone(), said);
            return self.opened(&found.finding, &found.probe, alerting);
        }
        observers.remove(observer);
        if !observers.is_empty() {
            return self.opened(&found.finding, &found.probe, alerting);
        }
        self.found.remove(&place);
        self.of_findings.remove(&place);
        Some(Signal { key: finding_key(&place.0, &place.1), state: SignalState::Over(found.by) })
    }

    fn opened(&self, finding: &FindingId, probe: &ProbeId, alerting: &Alerting) -> Option<Signal> {
        let place = (finding.clone(), probe.clone());
        let observers = self.found.get(&place)?;
        let watched = self.watched.get(probe)?;
        let title = self
            .titles
            .get(finding)
            .cloned()
            .unwrap_or_else(|| Text { fr: finding.to_string(), en: finding.to_string() });
        let hosts = alerting.places.hosts(&watched.service, Some(probe));
        let own = self.of_findings.get(&place);
        let words = own.or_else(|| self.words.get(probe)).cloned().unwrap_or_default();
        let opening = Opening {
            severity: alerting.severity(Source::Finding, Some(&watched.service), Some(probe), Some(finding), None),
            title: Text { fr: format!("{} ({probe})", title.fr), en: format!("{} ({probe})", title.en) },
            detail: words.en,
            detail_fr: words.fr,
            services: [watched.service.clone()].into(),
            probe: Some(probe.clone()),
            finding: Some(finding.clone()),
            region: alerting.places.region(&watched.service, &hosts),
            hosts,
            shown_by: observers.values().map(|said| said.by).min(),
            runbook: alerting.runbook(Some(&watched.service), Some(probe), Some(finding), None),
            ..Opening::bare(Source::Finding, observers.values().map(|said| said.by).min()?)
        };
        Some(Signal { key: finding_key(finding, probe), state: SignalState::Open(Box::new(opening)) })
    }

    /// A record of an observer says that it lives, and what it could not see. One that saw next to nothing for most of a minute is
    /// blind, unless it says by a finding what is the matter: a log that is not there, say. Time before the start of this process is no news, and a record that is short says little.
    fn covered(&mut self, observer: &ObserverId, covered: &Covered, alerting: &Alerting, now: Time) -> Option<Signal> {
        let heard = self.heard.get_mut(observer)?;
        heard.at = heard.at.max(now);
        let (class, interval) = (covered.every, covered.interval);
        // Of several records with other periods the most frequent ones tell first.
        if class != Covered::class(heard.every) {
            return None;
        }
        let of_record =
            |watched: &&Probe| watched.observers.contains(observer) && Covered::class(watched.every) == class;
        let probes = self.watched.all().iter().filter(of_record).count();
        let blind: BTreeSet<&ProbeId> = covered
            .gaps
            .iter()
            .filter(|gap| gap.finding.is_none() && gap.interval.intersect(interval) == interval)
            .map(|gap| &gap.probe)
            .filter(|probe| !has_finding(&self.found, probe, observer))
            .collect();
        let key = observer_key(observer);
        if probes == 0 || 2 * blind.len() <= probes {
            heard.blind_since = None;
            return Some(Signal { key, state: SignalState::Over(interval.end) });
        }
        if interval.start < self.begun {
            return None;
        }
        let since = *heard.blind_since.get_or_insert(interval.start);
        if interval.end.since(since) < BLIND_AFTER {
            return None;
        }
        let name = observer.vantage();
        let title = Text {
            fr: format!("L’observateur {name} ne voit rien : son réseau ou lui-même est en cause"),
            en: format!("The observer {name} sees nothing: its own network, or itself, is at fault"),
        };
        let opening = Opening {
            severity: alerting.severity(Source::Observer, None, None, None, None),
            title,
            detail: format!("{} of {probes} probes could not be looked at", blind.len()),
            detail_fr: format!("{} sondes sur {probes} n’ont pas pu regarder", blind.len()),
            ..Opening::bare(Source::Observer, since)
        };
        Some(Signal { key, state: SignalState::Open(Box::new(opening)) })
    }

    fn failed(&mut self, failed: &Failed, alerting: &Alerting, at: Time) -> Option<Signal> {
        let failures = self.failures.entry(failed.engine.clone()).or_default();
        failures.retain(|before| at.since(*before) < FAILS_WITHIN);
        failures.push(at);
        if failures.len() < FAILURES {
            return None;
        }
        let engine = &failed.engine;
        let opening = Opening {
            severity: alerting.severity(Source::Engine, None, None, None, None),
            title: Text {
                fr: format!("Le moteur {engine} de garant s’arrête sans cesse"),
                en: format!("garant's engine {engine} fails again and again"),
            },
            detail: failed.reason.clone(),
            detail_fr: french::quoted(&failed.reason, "garant"),
            ..Opening::bare(Source::Engine, failures.first().copied().unwrap_or(at))
        };
        Some(Signal { key: format!("engine/{engine}"), state: SignalState::Open(Box::new(opening)) })
    }

    /// All that is open by what was read.
    pub fn open(&self, alerting: &Alerting) -> Vec<Signal> {
        let probes = self.said.keys().filter_map(|probe| self.judge(probe, alerting));
        let findings = self.found.keys().filter_map(|(finding, probe)| self.opened(finding, probe, alerting));
        let open = probes.chain(findings).filter(|signal| matches!(signal.state, SignalState::Open(_)));
        open.collect()
    }

    /// Counts all observers as heard: nothing that they say can be written now.
    pub fn excuse(&mut self, now: Time) {
        for heard in self.heard.values_mut() {
            heard.at = heard.at.max(now);
        }
    }

    /// What follows from time alone: observers that say nothing, engines that have run for a while.
    pub fn look(&mut self, alerting: &Alerting, now: Time) -> Vec<Signal> {
        let mut signals = Vec::new();
        for (observer, heard) in &self.heard {
            let limit = SILENT_AFTER.max(Span::from_micros(3 * heard.every.micros()));
            if now.since(heard.at) < limit {
                continue;
            }
            let name = observer.vantage();
            let title = Text {
                fr: format!("L’observateur {name} ne dit plus rien"),
                en: format!("The observer {name} says nothing any more"),
            };
            let opening = Opening {
                severity: alerting.severity(Source::Observer, None, None, None, None),
                title,
                ..Opening::bare(Source::Observer, heard.at)
            };
            signals.push(Signal { key: observer_key(observer), state: SignalState::Open(Box::new(opening)) });
        }
        self.failures.retain(|engine, failures| {
            let last = failures.last().copied().unwrap_or(now);
            let lasts = now.since(last) < FAILS_WITHIN;
            if !lasts {
                signals.push(Signal { key: format!("engine/{engine}"), state: SignalState::Over(now) });
            }
            lasts
        });
        signals
    }
}

fn judged(verdict: &Verdict, alerting: &Alerting) -> Signal {
    let key = format!("promise/{}/{}", verdict.promise, verdict.objective);
    if verdict.outcome != Outcome::Broken {
        return Signal { key, state: SignalState::Over(verdict.at) };
    }
    let promise = &verdict.promise;
    let opening = Opening {
        severity: alerting.severity(Source::Promise, None, None, None, Some(promise)),
        title: Text {
            fr: format!("La promesse {promise} n’est pas tenue"),
            en: format!("The promise {promise} is broken"),
        },
        services: alerting.services_of(promise),
        runbook: alerting.runbook(None, None, None, Some(promise)),
        ..Opening::bare(Source::Promise, verdict.at)
    };
    Signal { key, state: SignalState::Open(Box::new(opening)) }
}

fn storage(fault: &StorageFault, alerting: &Alerting, now: Time) -> Signal {
    let key = "storage".to_owned();
    if fault.over {
        return Signal { key, state: SignalState::Over(now) };
    }
    let opening = Opening {
        severity: alerting.severity(Source::Storage, None, None, None, None),
        title: Text {
            fr: "Le journal ne peut plus être écrit : rien d’autre n’est signalé d’ici là".to_owned(),
            en: "The journal can't be written: nothing else is told until it can".to_owned(),
        },
        detail: fault.reason.clone(),
        detail_fr: french::quoted(&fault.reason, "garant"),
        ..Opening::bare(Source::Storage, fault.since)
    };
    Signal { key, state: SignalState::Open(Box::new(opening)) }
}

fn probe_key(probe: &ProbeId) -> String {
    format!("probe/{probe}")
}

fn finding_key(finding: &FindingId, probe: &ProbeId) -> String {
    format!("finding/{finding}/{probe}")
}

fn observer_key(observer: &ObserverId) -> String {
    format!("observer/{observer}")
}

/// The severity of a condition when the policy names none.
pub const fn default_severity(source: Source) -> Severity {
    match source {
        Source::Probe | Source::Observer | Source::Storage | Source::Burn => Severity::Critical,
        Source::Undecided
        | Source::Degraded
        | Source::Finding
        | Source::Promise
        | Source::Engine
        | Source::Witness
        | Source::Hold
        | Source::Outside => Severity::Warning,
    }
}

#[cfg(test)]
mod tests {
    use event::Interval;
    use event::evidence::Gap;
    use event::policy::{Agreement, Probe};

    use super::*;

    /// A log that is not there is told as what it is, and not as a network at fault.
    #[test]
    fn an_observer_that_says_why_it_sees_nothing_is_not_blind() {
        let observer: ObserverId = "server.guard".parse().expect("a name");
        let (probe, finding): (ProbeId, FindingId) =
            ("guard".parse().expect("a name"), "logs".parse().expect("a name"));
        let probes = vec![Probe {
            id: probe.clone(),
            kind: "guard".into(),
            service: "guard".parse().expect("a name"),
            every: Span::from_secs(10),
            observers: [observer.clone()].into(),
            agreement: Agreement::default(),
        }];
        let (services, findings, maintenance, promises) = (vec![], vec![], vec![], vec![]);
        let revision = "r1".to_owned();
        let applied = Applied { revision: revision.clone(), services, probes, findings, maintenance, promises };
        let (alerting, begun) = (Alerting::default(), Time::from_secs(1_000));
        let at = |seconds| begun + Span::from_secs(seconds);
        let mut fold = JournalFold::beginning_at(begun);
        fold.follow(&Arc::new(applied), &alerting, begun);
        let minute = |fold: &mut JournalFold, minute: i64| {
            let interval = Interval::new(at(60 * minute), at(60 * minute + 60));
            let gaps = vec![Gap { probe: probe.clone(), finding: None, interval }];
            let covered = Covered { interval, revision: revision.clone(), every: None, gaps };
            fold.covered(&observer, &covered, &alerting, interval.end).expect("a signal").state
        };
        assert!(matches!(minute(&mut fold, 0), SignalState::Open(_)), "nobody knows why");
        let found = Found { finding, probe: probe.clone(), open: true, after: at(60), by: at(60) };
        assert!(matches!(fold.found(&observer, &found, &alerting).expect("a signal").state, SignalState::Open(_)));
        assert!(matches!(minute(&mut fold, 1), SignalState::Over(_)), "it is said what is the matter");
        fold.found(&observer, &Found { open: false, ..found }, &alerting);
        assert!(matches!(minute(&mut fold, 2), SignalState::Open(_)), "it is over, and nothing is seen still");
    }

    fn at(seconds: i64) -> Time {
        Time::from_secs(1_000_000 + seconds)
    }

    /// The detail of the alert of this signal.
    fn detail(signals: &[Signal]) -> &str {
        match signals {
            [Signal { state: SignalState::Open(opening), .. }] => &opening.detail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_alert_has_the_words_of_its_own_finding() {
        let applied: Applied = serde_json::from_value(serde_json::json!({
            "revision": "r1", "services": [], "findings": [], "maintenance": [], "promises": [],
            "probes": [{ "id": "guard", "kind": "guard", "service": "guard", "every": 60_000_000, "agreement": "majority", "observers": ["server.guard"] }],
        }))
        .expect("a policy");
        let (alerting, observer) = (Alerting::default(), "server.guard".parse().expect("a name"));
        let mut fold = JournalFold::beginning_at(at(0));
        fold.follow(&Arc::new(applied), &alerting, at(0));
        let probe: ProbeId = "guard".parse().expect("a name");
        let found = |fold: &mut JournalFold, finding: &str, open: bool| -> Vec<Signal> {
            let finding = finding.parse().expect("a name");
            let found = Found { finding, probe: probe.clone(), open, after: at(1), by: at(1) };
            fold.found(&observer, &found, &alerting).into_iter().collect()
        };
        let spoken = |fold: &mut JournalFold, finding: Option<&str>, text: &str| -> Vec<Signal> {
            let finding = finding.map(|name| name.parse().expect("a name"));
            let words = Words { probe: probe.clone(), finding, text: text.to_owned(), reasons: Vec::new() };
            fold.spoken(words, &alerting)
        };
        found(&mut fold, "logs-unread", true);
        assert_eq!(detail(&spoken(&mut fold, Some("logs-unread"), "a log")), "a log");
        assert!(spoken(&mut fold, Some("bans-not-enforced"), "the cap").is_empty(), "it is not open");
        found(&mut fold, "bans-not-enforced", true);
        assert_eq!(detail(&spoken(&mut fold, Some("bans-not-enforced"), "the cap")), "the cap");
        assert_eq!(detail(&found(&mut fold, "logs-unread", true)), "a log");
        // Words of the probe are of all that has none of its own; and those of a finding end with it.
        spoken(&mut fold, None, "the probe");
        assert_eq!(detail(&found(&mut fold, "logs-unread", true)), "a log");
        assert_eq!(detail(&found(&mut fold, "offenders-banned", true)), "the probe");
        found(&mut fold, "logs-unread", false);
        assert_eq!(detail(&found(&mut fold, "logs-unread", true)), "the probe");
    }
}
