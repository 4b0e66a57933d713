//! One probe as one observer sees it, and what is told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::evidence::{Changed, Found, State};
use event::watch::Detail;
use event::{FindingId, Monotonic, ObserverId, Span, Time};
use store::{Reading, Sample};

use crate::finding::Hysteresis;
use crate::observe::{Change, Observe, Seen};
use crate::order::{Effect, Entry};
use crate::source::{Answer, Declared};

/// One probe as one observer sees it.
pub(crate) struct Lane {
    pub(crate) declared: Arc<Declared>,
    pub(crate) observer: ObserverId,
    pub(crate) phase: Span,
    pub(crate) observe: Observe,
    pub(crate) findings: BTreeMap<FindingId, Hysteresis>,
    pub(crate) state: Option<(State, Time)>,
    /// When all that is known of it was last journaled.
    pub(crate) told: Monotonic,
    /// When the failure began that nobody has confirmed yet.
    pub(crate) doubted: Option<Monotonic>,
    /// What the last failing answer said: the good one that ends a blip does not tell what was wrong.
    pub(crate) failure: String,
    pub(crate) asking: bool,
    pub(crate) called: bool,
}

impl Lane {
    /// What it is becomes unknown; the next sample tells it anew.
    pub(crate) fn forget(&mut self) {
        self.observe = Observe::new(self.declared.asked_every, self.declared.probe.confirm());
        self.doubted = None;
        self.findings.clear();
        self.state = None;
    }

    /// A failure that nobody confirmed says nothing.
    pub(crate) fn drop_doubt(&mut self) {
        self.observe.drop_doubt();
        self.doubted = None;
    }

    pub(crate) fn sample(&self, at: Time, took: Span, reading: Reading, value: Option<i64>) -> Sample {
        Sample { probe: self.declared.id.clone(), observer: self.observer.clone(), at, took, reading, value }
    }

    pub(crate) fn tell(&self, change: &Change, text: &str, took: Span, effects: &mut Vec<Effect>) {
        let &Change { state, after, by } = change;
        let (probe, service) = (self.declared.id.clone(), self.declared.service.clone());
        let entry = Entry::Changed(Changed { probe, service, state, after, by });
        effects.push(Effect::Journal(self.observer.clone(), entry));
        let text = if matches!(state, State::Down | State::Flapping) { &self.failure } else { text };
        let detail = Detail { probe: self.declared.id.clone(), text: text.to_owned(), took };
        effects.push(Effect::Journal(self.observer.clone(), Entry::Detail(detail)));
    }

    /// Journals what is known and has not changed.
    pub(crate) fn retell(&self, at: Time, effects: &mut Vec<Effect>) {
        let (probe, service) = (self.declared.id.clone(), self.declared.service.clone());
        let state = self.state.map(|(state, _)| Entry::Changed(Changed { probe, service, state, after: at, by: at }));
        let findings = self.findings.iter().filter_map(|(finding, hysteresis)| {
            let (finding, probe, open) = (finding.clone(), self.declared.id.clone(), hysteresis.open()?);
            Some(Entry::Found(Found { finding, probe, open, after: at, by: at }))
        });
        effects.extend(state.into_iter().chain(findings).map(|entry| Effect::Journal(self.observer.clone(), entry)));
    }

    pub(crate) fn find(&mut self, answer: &Answer, seen: Seen, took: Span, effects: &mut Vec<Effect>) {
        // A figure that was not read does not last.
        for (finding, hysteresis) in &mut self.findings {
            if !answer.symptoms.iter().any(|symptom| symptom.finding == *finding) {
                hysteresis.interrupt();
            }
        }
        let stale = Span::from_micros(self.declared.asked_every.micros().saturating_mul(2));
        for symptom in &answer.symptoms {
            let hysteresis = self.findings.entry(symptom.finding.clone()).or_default();
            hysteresis.interrupt_if_older(seen.start, stale);
            let turn = hysteresis.take(symptom.level, symptom.lasting, seen.start, seen.end);
            let joined = hysteresis.take_subjects(&symptom.about);
            if let Some(turn) = turn {
                let (finding, probe) = (symptom.finding.clone(), self.declared.id.clone());
                let entry = Found { finding, probe, open: turn.open, after: turn.after, by: turn.by };
                effects.push(Effect::Journal(self.observer.clone(), Entry::Found(entry)));
            }
            if turn.is_some() || joined {
                let detail = Detail { probe: self.declared.id.clone(), text: symptom.text.clone(), took };
                effects.push(Effect::Journal(self.observer.clone(), Entry::Detail(detail)));
            }
        }
    }
}
