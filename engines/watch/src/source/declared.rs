//! A probe as the policy declares it.

use std::any::Any;
use std::sync::Arc;

use event::policy::Agreement;
use event::{FindingId, HostId, ObserverId, ProbeId, ServiceId, Span};

use super::probe::{Finding, Probe, Settings};
use super::shared_keys::Common;

/// Settings of any kind of probe.
pub(crate) trait Comparable: Any + Send + Sync {
    /// Whether the other is of the same kind, and equal.
    fn is_same(&self, other: &dyn Comparable) -> bool;
}

impl<S: PartialEq + Any + Send + Sync> Comparable for S {
    fn is_same(&self, other: &dyn Comparable) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<S>() == Some(self)
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
    /// The host that it tells of.
    pub host: Option<HostId>,
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
    /// What detectors look for in its answers.
    pub findings: Box<[FindingId]>,
    /// What the policy says of it, to be compared.
    pub(crate) settings: Arc<dyn Comparable>,
    /// The probe.
    pub probe: Arc<dyn Probe>,
}

impl Declared {
    /// Makes a probe of its settings, to be seen by `all` observers unless it says otherwise.
    pub fn new<S: Settings>(kind: &'static str, settings: S, all: &Arc<[ObserverId]>) -> Self {
        let asked_every = settings.asked_every();
        let Common { id, service, host, every, timeout, slower_than, from, agreement, here } =
            settings.common().clone();
        let observers = match (from.is_empty(), here) {
            (false, _) => from.iter().map(crate::observer).collect(),
            (true, false) => Arc::clone(all),
            (true, true) => all.iter().take(1).cloned().collect(),
        };
        let settings = Arc::new(settings);
        let probe = Arc::clone(&settings).into_probe();
        let findings = probe.findings().iter().filter_map(Finding::id).collect();
        Self {
            id,
            kind,
            service,
            host,
            every,
            asked_every,
            timeout,
            slower_than,
            observers,
            agreement,
            findings,
            settings,
            probe,
        }
    }

    /// Whether a probe that was declared so before goes on unchanged.
    pub(crate) fn says_the_same(&self, before: &Self) -> bool {
        self.settings.is_same(&*before.settings)
    }
}

impl std::fmt::Debug for Declared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} every {}", self.kind, self.id, self.every)
    }
}
