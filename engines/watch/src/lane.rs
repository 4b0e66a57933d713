//! A lane: one probe as one observer sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::events::Detail;
use engine::printable;
use engine::reason::Reason;
use engine::standing::OpenFinding;
use event::evidence::{Changed, Found, State};
use event::{FindingId, Monotonic, ObserverId, Span, Time};
use store::{Reading, Sample};

use crate::finding::Hysteresis;
use crate::observe::{Change, Observe, Seen};
use crate::order::{Effect, WatchEvent};
use crate::source::{Answer, Declared, Level};

/// The question of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    /// None until the next turn.
    None,
    /// It has a place in the queue for room.
    Waiting,
    /// It is under way.
    Asked,
}

/// The state of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LaneState {
    pub(crate) state: State,
    /// By when it was so.
    pub(crate) since: Time,
    /// Whether it may have been so before: the first look showed it.
    pub(crate) or_before: bool,
}

/// A lane: one probe as one observer sees it, with its state and findings.
pub(crate) struct Lane {
    pub(crate) declared: Arc<Declared>,
    pub(crate) observer: ObserverId,
    pub(crate) observe: Observe,
    pub(crate) findings: BTreeMap<FindingId, Hysteresis>,
    pub(crate) state: Option<LaneState>,
    /// When the whole state was last journaled.
    pub(crate) journaled_at: Monotonic,
    /// When the unconfirmed failure began, if there is one.
    pub(crate) doubted: Option<Monotonic>,
    /// Text of the last failing answer: the good one that ends a blip does not tell what was wrong.
    pub(crate) failure: String,
    /// Its reasons.
    pub(crate) failure_reasons: Vec<Reason>,
    pub(crate) question: Question,
    /// When the question under way, or the last one, began.
    pub(crate) asked_at: Monotonic,
    /// Whether a turn came while a question was under way.
    pub(crate) turn_missed: bool,
    pub(crate) called: bool,
}

impl Lane {
    /// Forgets the state; the next sample journals it anew.
    pub(crate) fn forget(&mut self) {
        self.observe = Observe::new(self.declared.asked_every, self.declared.probe.confirm());
        self.doubted = None;
        self.findings.clear();
        self.state = None;
    }

    /// Drops an unconfirmed failure.
    pub(crate) fn drop_doubt(&mut self) {
        self.observe.drop_doubt();
        self.doubted = None;
    }

    pub(crate) fn sample(&self, at: Time, took: Span, reading: Reading, value: Option<i64>) -> Sample {
        Sample { probe: self.declared.id.clone(), observer: self.observer.clone(), at, took, reading, value }
    }

    pub(crate) fn journal_change(&self, change: &Change, answer: &Answer, took: Span, effects: &mut Vec<Effect>) {
        let &Change { state, after, by } = change;
        let (probe, service) = (self.declared.id.clone(), self.declared.service.clone());
        let entry = WatchEvent::Changed(Changed { probe, service, state, after, by });
        effects.push(Effect::Journal(self.observer.clone(), entry));
        let (text, reasons) = match state {
            State::Down | State::Flapping => (&self.failure, self.failure_reasons.clone()),
            State::Up => (&answer.text, Vec::new()),
            State::Degraded => (&answer.text, answer.reasons.clone()),
        };
        let text = printable::text(text).into_owned();
        let detail = Detail { probe: self.declared.id.clone(), text, reasons, took };
        effects.push(Effect::Journal(self.observer.clone(), WatchEvent::Detail(detail)));
    }

    /// Journals the state and the findings again, though they have not changed.
    pub(crate) fn journal_again(&self, at: Time, effects: &mut Vec<Effect>) {
        let (probe, service) = (self.declared.id.clone(), self.declared.service.clone());
        let state = self
            .state
            .map(|LaneState { state, .. }| WatchEvent::Changed(Changed { probe, service, state, after: at, by: at }));
        let findings = self.findings.iter().filter_map(|(finding, hysteresis)| {
            let (finding, probe, open) = (finding.clone(), self.declared.id.clone(), hysteresis.open()?);
            Some(WatchEvent::Found(Found { finding, probe, open, after: at, by: at }))
        });
        effects.extend(state.into_iter().chain(findings).map(|entry| Effect::Journal(self.observer.clone(), entry)));
    }

    /// Findings that this answer could not look for, and those that are high since the first look and have not lasted yet: whether
    /// they are open nobody knows before. [`find`](Self::find) has taken the answer.
    pub(crate) fn blind(&self, answer: &Answer) -> BTreeSet<FindingId> {
        let is_settled = |finding: &FindingId| self.findings.get(finding).is_some_and(|known| known.open().is_some());
        let looked = |finding: &&FindingId| {
            let symptom = answer.symptoms.iter().find(|symptom| symptom.finding == **finding);
            symptom.is_some_and(|symptom| match symptom.level {
                Level::Unread => false,
                Level::High => is_settled(finding),
                Level::Low | Level::Between => true,
            })
        };
        self.declared.findings.iter().filter(|finding| !looked(finding)).cloned().collect()
    }

    /// The findings that are open.
    pub(crate) fn open_findings(&self) -> Vec<OpenFinding> {
        let open = |(finding, hysteresis): (&FindingId, &Hysteresis)| {
            let (finding, text) = (finding.clone(), hysteresis.text());
            Some(OpenFinding { finding, text, since: hysteresis.open_since()? })
        };
        self.findings.iter().filter_map(open).collect()
    }

    /// Hands the answer to the detectors of findings; returns whether a finding began or ended.
    pub(crate) fn find(&mut self, answer: &Answer, seen: Seen, took: Span, effects: &mut Vec<Effect>) -> bool {
        let mut turned = false;
        // A figure that was not read does not last.
        for (finding, hysteresis) in &mut self.findings {
            if !answer.symptoms.iter().any(|symptom| symptom.finding == *finding) {
                hysteresis.not_told();
            }
        }
        let stale = Span::from_micros(self.declared.asked_every.micros().saturating_mul(2));
        for symptom in &answer.symptoms {
            let hysteresis = self.findings.entry(symptom.finding.clone()).or_default();
            hysteresis.interrupt_if_older(seen.start, stale);
            let turn = hysteresis.take(symptom.level, symptom.lasting, seen.start, seen.end);
            hysteresis.take_text(symptom.level, &symptom.text);
            let joined = hysteresis.take_subjects(&symptom.about);
            if let Some(turn) = turn {
                turned = true;
                let (finding, probe) = (symptom.finding.clone(), self.declared.id.clone());
                let entry = Found { finding, probe, open: turn.open, after: turn.after, by: turn.by };
                effects.push(Effect::Journal(self.observer.clone(), WatchEvent::Found(entry)));
            }
            if turn.is_some() || joined {
                let text = printable::text(&symptom.text).into_owned();
                let reasons = if symptom.level == Level::High { symptom.reasons.clone() } else { Vec::new() };
                let detail = Detail { probe: self.declared.id.clone(), text, reasons, took };
                effects.push(Effect::Journal(self.observer.clone(), WatchEvent::Detail(detail)));
            }
        }
        turned
    }
}
