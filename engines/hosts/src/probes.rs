//! The current state of the probes of agents, for pages and status: folded from what the agents journal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::standing::{OpenFinding, Phases, ProbeStanding, Probes};
use event::evidence::{Changed, Covered, Found};
use event::{Body, FindingId, ObserverId, ProbeId, Sent, Span, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::server::AgentView;

/// Most probes of agents that are shown.
const PROBES_MAX: usize = 10_000;

/// What is known of the probes of agents.
#[derive(Default)]
pub(crate) struct Standings(Mutex<BTreeMap<(ProbeId, ObserverId), ProbeStanding>>);

/// The words of an engine beside a finding, which come after it: any event `….detail` with these fields.
#[derive(Deserialize)]
struct Words {
    probe: ProbeId,
    #[serde(default)]
    finding: Option<FindingId>,
    text: String,
}

impl Standings {
    /// The probes, for the pages. While their agent is not attached nobody knows how they are, whatever it said last.
    pub(crate) fn probes(self: &Arc<Self>, agent: watch::Receiver<AgentView>) -> Probes {
        let standings = Arc::clone(self);
        Arc::new(move || {
            let away = absence(&agent.borrow());
            let as_known = |standing: &ProbeStanding| match &away {
                Some(why) => ProbeStanding { state: None, text: why.clone(), ..standing.clone() },
                None => standing.clone(),
            };
            standings.lock().values().map(as_known).collect()
        })
    }

    /// Takes an event in.
    pub(crate) fn take(&self, event: &Sent) {
        let mut all = self.lock();
        if let Some(changed) = body::<Changed>(event) {
            let Some(standing) = entry(&mut all, changed.probe, &event.observer, changed.by) else { return };
            standing.state = Some((changed.state, changed.by));
            standing.at = changed.by;
        } else if let Some(covered) = body::<Covered>(event) {
            for standing in all.values_mut().filter(|standing| standing.observer == event.observer) {
                standing.at = standing.at.max(covered.interval.end);
            }
        } else if let Some(found) = body::<Found>(event) {
            let Some(standing) = entry(&mut all, found.probe, &event.observer, found.by) else { return };
            standing.findings.retain(|open| open.finding != found.finding);
            if found.open {
                // Until it has words of its own those of the probe say most; not those of another finding.
                let is_of_another = standing.findings.iter().any(|open| open.text == standing.text);
                let text = if is_of_another { String::new() } else { standing.text.clone() };
                standing.findings.push(OpenFinding { finding: found.finding, text, since: found.by });
            }
            if standing.findings.is_empty() {
                standing.text.clear();
            }
        } else if event.kind.ends_with(".detail")
            && let Ok(words) = serde_json::from_str::<Words>(event.body.get())
            && let Some(standing) = entry(&mut all, words.probe, &event.observer, event.observed_at)
        {
            if let Some(open) = standing.findings.iter_mut().find(|open| Some(&open.finding) == words.finding.as_ref())
            {
                open.text.clone_from(&words.text);
            }
            standing.text = words.text;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ProbeId, ObserverId), ProbeStanding>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nothing is known of what the agent does, if it is not attached.
fn absence(agent: &AgentView) -> Option<String> {
    (agent.is_wanted && agent.standing.is_none()).then(|| match &agent.fault {
        Some(fault) => format!("the agent of this host is not attached: {fault}"),
        None => "the agent of this host is not attached yet".to_owned(),
    })
}

fn body<B: Body + DeserializeOwned>(event: &Sent) -> Option<B> {
    (event.kind == B::KIND.name).then(|| serde_json::from_str(event.body.get()).ok())?
}

fn entry<'a>(
    all: &'a mut BTreeMap<(ProbeId, ObserverId), ProbeStanding>,
    probe: ProbeId,
    observer: &ObserverId,
    at: Time,
) -> Option<&'a mut ProbeStanding> {
    let key = (probe.clone(), observer.clone());
    if !all.contains_key(&key) && all.len() >= PROBES_MAX {
        return None;
    }
    Some(all.entry(key).or_insert_with(|| ProbeStanding {
        probe,
        observer: observer.clone(),
        state: None,
        or_before: false,
        at,
        took: Span::ZERO,
        value: None,
        phases: Phases::default(),
        certificate_expires: None,
        text: String::new(),
        findings: Vec::new(),
    }))
}
