//! The declarations of all policies as functions of time: the fold of `policy.applied`.
//!
//! A policy is in effect from the moment it was recorded until the next one is. Verdicts look back over months, during
//! which probes come and go; so every declaration is kept as a function of time. Recorded times that go back, because
//! the clock of the sequencer did, are lifted to the one before: nothing is ever declared for the past.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use event::evidence::Covered;
use event::policy::{Agreement, Applied, Promise};
use event::{FindingId, Interval, ObserverId, ProbeId, PromiseId, ServiceId, Span, Time};
use serde::{Deserialize, Serialize};

use crate::eras::Eras;

/// The declaration of a probe, as far as verdicts read it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct ProbeDeclaration {
    /// The observers that ask.
    #[serde(with = "event::policy::shared")]
    pub observers: Arc<[ObserverId]>,
    /// How many of them must see the probe down.
    pub agreement: Agreement,
    /// The longest time between two looks.
    pub every: Span,
}

/// One revision of a promise, in effect without interruption since `since`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Declaration {
    promise: PromiseId,
    revision: String,
    since: Time,
}

/// The fold of all policies.
#[derive(Clone, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Declarations {
    /// Number of policies applied, each different from the one before.
    count: u32,
    /// Times at which the first and the newest were applied.
    applied: Option<Interval>,
    /// The policy in effect, and the newest entry that holds it.
    current: Option<(u64, Applied)>,
    /// The number of the policy with that revision.
    revisions: BTreeMap<String, u32>,
    probes: BTreeMap<ProbeId, Eras<Option<ProbeDeclaration>>>,
    services: BTreeMap<ServiceId, Eras<Vec<ProbeId>>>,
    findings: BTreeMap<FindingId, Eras<Vec<ProbeId>>>,
    maintenance: BTreeMap<ServiceId, Eras<Vec<Interval>>>,
    promises: Vec<Declaration>,
}

/// Sets each name to its value from `from` on, and every other name to the default.
fn set_all<K: Ord + Clone, T: PartialEq + Default>(
    eras: &mut BTreeMap<K, Eras<T>>,
    mut values: BTreeMap<K, T>,
    from: Time,
    policy: u32,
) {
    for (name, eras) in &mut *eras {
        eras.set(from, policy, values.remove(name).unwrap_or_default());
    }
    let begun = values.into_iter().map(|(name, value)| {
        let mut eras = Eras::default();
        eras.set(from, policy, value);
        (name, eras)
    });
    // Together: a tree to which is added one by one, in order, stays half empty.
    eras.append(&mut begun.collect());
}

/// Values of which equal ones are kept once.
struct Alike<T>(HashSet<T>);

impl<T: Clone + Eq + Hash> Alike<T> {
    fn of<'a>(values: impl Iterator<Item = &'a T>) -> Self
    where
        T: 'a,
    {
        Self(values.cloned().collect())
    }

    /// Replaces `value` by the equal one that is kept.
    fn share(&mut self, value: &mut T) {
        match self.0.get(value) {
            Some(kept) => value.clone_from(kept),
            None => drop(self.0.insert(value.clone())),
        }
    }
}

impl Declarations {
    /// Folds entry `sequence`, which put `applied` into effect. Returns the instant from which on something is declared
    /// otherwise, if anything is. The same policy again changes nothing but the entry that verdicts cite for it, since the
    /// payload of the first one is destroyed one day.
    pub(crate) fn apply(&mut self, sequence: u64, recorded_at: Time, applied: &Applied) -> Option<Time> {
        if let Some((told, current)) = &mut self.current
            && current == applied
        {
            *told = sequence;
            return None;
        }
        let before = self.applied.unwrap_or(Interval::new(recorded_at, recorded_at));
        let (from, policy) = (recorded_at.max(before.end), self.count);
        self.applied = Some(Interval::new(before.start, from));
        self.count += 1;
        self.revisions.insert(applied.revision.clone(), policy);

        let mut services: BTreeMap<ServiceId, Vec<ProbeId>> = BTreeMap::new();
        let mut probes = BTreeMap::new();
        for probe in &applied.probes {
            services.entry(probe.service.clone()).or_default().push(probe.id.clone());
            let (observers, agreement, every) = (probe.observers.clone(), probe.agreement, probe.every);
            let asked = ProbeDeclaration { observers, agreement, every };
            probes.insert(probe.id.clone(), Some(asked));
        }
        let findings = applied.findings.iter().map(|d| (d.finding.clone(), d.probes.clone())).collect();
        let mut maintenance: BTreeMap<ServiceId, Vec<Interval>> = BTreeMap::new();
        for window in &applied.maintenance {
            for service in &window.services {
                maintenance.entry(service.clone()).or_default().push(window.interval);
            }
        }
        set_all(&mut self.probes, probes, from, policy);
        set_all(&mut self.services, services, from, policy);
        set_all(&mut self.findings, findings, from, policy);
        set_all(&mut self.maintenance, maintenance, from, policy);

        let before = std::mem::take(&mut self.promises);
        let since = |promise: &Promise| {
            before.iter().find(|b| b.promise == promise.id && b.revision == promise.revision).map_or(from, |b| b.since)
        };
        self.promises = applied
            .promises
            .iter()
            .map(|p| Declaration { promise: p.id.clone(), revision: p.revision.clone(), since: since(p) })
            .collect();
        self.current = Some((sequence, applied.clone()));
        self.share();
        Some(from)
    }

    /// Keeps once in memory what is equal: ten thousand probes have a few observers, and each name stands in several places.
    /// In what was
    /// just read nothing is shared.
    fn share(&mut self) {
        let (mut probes, mut services) = (Alike::of(self.probes.keys()), Alike::of(self.services.keys()));
        let (mut kinds, mut observers) = (Alike::of([].iter()), Alike::of([].iter()));
        for probe in self.current.iter_mut().flat_map(|(_, applied)| &mut applied.probes) {
            probes.share(&mut probe.id);
            kinds.share(&mut probe.kind);
            services.share(&mut probe.service);
            observers.share(&mut probe.observers);
        }
        for asked in self.probes.values_mut().flat_map(Eras::values_mut).flatten() {
            observers.share(&mut asked.observers);
        }
        self.services.values_mut().flat_map(Eras::values_mut).flatten().for_each(|probe| probes.share(probe));
    }

    /// What was read of what was saved.
    pub(crate) fn shared(mut self) -> Self {
        self.share();
        self
    }

    /// Whether a policy of this revision was applied.
    pub(crate) fn knows(&self, revision: &str) -> bool {
        self.revisions.contains_key(revision)
    }

    /// The policy in effect.
    pub(crate) fn policy(&self) -> Option<&Applied> {
        self.current.as_ref().map(|(_, applied)| applied)
    }

    /// The instant at which the policy in effect came into effect.
    pub(crate) fn newest(&self) -> Option<Time> {
        self.applied.map(|applied| applied.end)
    }

    /// The newest entry that holds the policy in effect.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.current.as_ref().map(|(sequence, _)| *sequence)
    }

    /// The instant at which the first policy was applied.
    pub(crate) fn beginning(&self) -> Option<Time> {
        self.applied.map(|applied| applied.start)
    }

    /// The window of an objective of this promise that ends at `end`: as long as `over`, but not older than this revision.
    pub(crate) fn window(&self, promise: &Promise, over: Span, end: Time) -> Interval {
        let declared = self.promises.iter().find(|p| p.promise == promise.id && p.revision == promise.revision);
        let since = declared.map_or(end, |p| p.since);
        let start = since.max(end - over);
        Interval::new(start, end.max(start))
    }

    /// Whether records of this revision and class by this observer speak of this probe: the policy of the revision asks the
    /// observer to look at it, and so often.
    pub(crate) fn counts(&self, revision: &str, every: Option<Span>, probe: &ProbeId, observer: &ObserverId) -> bool {
        let asked = self.revisions.get(revision).and_then(|policy| self.probes.get(probe)?.under(*policy)?.as_ref());
        asked.is_some_and(|asked| Covered::class(asked.every) == every && asked.observers.contains(observer))
    }

    /// The declaration of a probe in the policy in effect.
    pub(crate) fn asked(&self, probe: &ProbeId) -> Option<&ProbeDeclaration> {
        self.probes.get(probe)?.last()?.as_ref()
    }

    /// The declarations of a probe over time.
    pub(crate) fn probe(&self, probe: &ProbeId) -> Option<&Eras<Option<ProbeDeclaration>>> {
        self.probes.get(probe)
    }

    /// Every observer that any policy had ask this probe.
    pub(crate) fn observers(&self, probe: &ProbeId) -> BTreeSet<&ObserverId> {
        let eras = self.probes.get(probe).map(Eras::all).unwrap_or_default();
        eras.iter().filter_map(|era| era.value.as_ref()).flat_map(|asked| &*asked.observers).collect()
    }

    /// Whether no policy so far has this probe asked, or a finding looked for in it, at `from` or later. A probe that was never
    /// declared is not removed.
    pub(crate) fn is_removed(&self, probe: &ProbeId, from: Time) -> bool {
        let last = self.probes.get(probe).and_then(|eras| eras.all().last());
        let named = |eras: &Eras<Vec<ProbeId>>| eras.since(from).iter().any(|era| era.value.contains(probe));
        last.is_some_and(|era| era.value.is_none() && era.from <= from) && !self.findings.values().any(named)
    }

    /// The probes of a service over time.
    pub(crate) fn service(&self, service: &ServiceId) -> Option<&Eras<Vec<ProbeId>>> {
        self.services.get(service)
    }

    /// The services that had a probe at some time of `window`, by name.
    pub(crate) fn services_over(&self, window: Interval) -> Vec<&ServiceId> {
        let had_probes = |eras: &Eras<Vec<ProbeId>>| eras.over(window).any(|(_, probes)| !probes.is_empty());
        self.services.iter().filter(|(_, eras)| had_probes(eras)).map(|(service, _)| service).collect()
    }

    /// The probes in which a finding was looked for, over time.
    pub(crate) fn finding(&self, finding: &FindingId) -> Option<&Eras<Vec<ProbeId>>> {
        self.findings.get(finding)
    }

    /// The maintenance windows of every service over time.
    pub(crate) fn maintained(&self) -> impl Iterator<Item = (&ServiceId, &Eras<Vec<Interval>>)> {
        self.maintenance.iter()
    }

    /// The maintenance windows of a service over time.
    pub(crate) fn maintenance(&self, service: &ServiceId) -> Option<&Eras<Vec<Interval>>> {
        self.maintenance.get(service)
    }
}
