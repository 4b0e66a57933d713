//! Short words to tell a story in: all times are whole seconds.

use std::collections::BTreeMap;

use event::engine::ClockStepped;
use event::evidence::{Changed, Counted, CountedMinute, Covered, Found, Gap, Reacted, Restored, State, Succeeded};
use event::policy::{Agreement, Applied, Clause, Detector, Maintenance, Probe, Promise, Service, Text};
use event::promise::{Reason, Verdict};
use event::{Interval, ObserverId, Ppb, ProbeId, ServiceId, Span, Time};

use crate::fact::Fact;
use crate::objective::{Availability, Objective};
use crate::{Judge, revision};

/// The service that most stories are about.
pub(super) const SHOP: &str = "shop";

pub(super) fn name<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> N {
    text.parse().expect("a sound name")
}

pub(super) const fn t(seconds: i64) -> Time {
    Time::from_secs(seconds)
}

pub(super) fn between(start: i64, end: i64) -> Interval {
    Interval::new(t(start), t(end))
}

pub(super) const fn s(seconds: i64) -> Span {
    Span::from_secs(seconds)
}

pub(super) fn probe(id: &str, service: &str, observers: &[&str], agreement: Agreement) -> Probe {
    Probe {
        id: name(id),
        kind: "http".into(),
        service: name(service),
        every: s(10),
        observers: observers.iter().map(|o| name(o)).collect(),
        agreement,
    }
}

pub(super) fn promise(objectives: &[Objective]) -> Promise {
    let text = Text { fr: "promis".to_owned(), en: "promised".to_owned() };
    let objectives = objectives.iter().map(Clause::from).collect();
    let mut promise = Promise { revision: String::new(), id: name("AV-1"), text, objectives };
    promise.revision = revision::of_promise(&promise);
    promise
}

pub(super) fn availability(at_least: &str, over: i64) -> Objective {
    Objective::Availability(Availability { service: name(SHOP), at_least: percent(at_least), over: s(over) })
}

pub(super) fn percent(text: &str) -> Ppb {
    Ppb::parse_percent(text).expect("a percentage")
}

pub(super) fn maintenance(start: i64, end: i64) -> Maintenance {
    Maintenance { services: vec![name(SHOP)], interval: between(start, end), text: Text::default() }
}

/// A policy with these parts, under the revision of its content.
pub(super) fn policy(probes: Vec<Probe>, windows: Vec<Maintenance>, promises: Vec<Promise>) -> Applied {
    let mut services: Vec<ServiceId> = probes.iter().map(|p| p.service.clone()).collect();
    services.dedup();
    let services = services.into_iter().map(|id| Service { id, title: Text::default() }).collect();
    let detected: Vec<ProbeId> = probes.iter().map(|p| p.id.clone()).collect();
    let findings = vec![Detector { finding: name("disk-usage"), title: Text::default(), probes: detected }];
    let revision = String::new();
    let mut applied = Applied { revision, services, probes, findings, maintenance: windows, promises };
    applied.revision = revision::of_policy(&applied);
    applied
}

/// One probe `http` of the shop seen by these observers, and one promise.
pub(super) fn simple(observers: &[&str], objective: Objective) -> Applied {
    policy(vec![probe("http", SHOP, observers, Agreement::Majority)], vec![], vec![promise(&[objective])])
}

/// A count of the requests of a probe, with so many answered and failed in each of its minutes.
pub(super) fn count(probe: &str, start: i64, end: i64, minutes: &[(u32, u32)]) -> Counted {
    let interval = between(start, end);
    let minute = |(answered, failed): &(u32, u32)| CountedMinute { interval, answered: *answered, failed: *failed };
    Counted { probe: name(probe), interval, minutes: minutes.iter().map(minute).collect() }
}

/// Something that was recorded.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub recorded_at: Time,
    pub observer: ObserverId,
    pub fact: Fact,
}

/// A log, told in order.
#[derive(Clone, Default, Debug)]
pub(super) struct Scene {
    pub entries: Vec<Entry>,
    pub judge: Judge,
}

impl Scene {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut scene = Self::default();
        for entry in entries {
            scene.tell(entry.clone());
        }
        scene
    }

    pub(super) fn tell(&mut self, entry: Entry) {
        self.judge.fold(self.entries.len() as u64, &entry.observer, entry.recorded_at, &entry.fact);
        self.entries.push(entry);
    }

    fn add(&mut self, recorded_at: i64, observer: &str, fact: Fact) -> &mut Self {
        self.tell(Entry { recorded_at: t(recorded_at), observer: name(observer), fact });
        self
    }

    pub(super) fn policy(&mut self, recorded_at: i64, applied: &Applied) -> &mut Self {
        self.add(recorded_at, "server", Fact::Applied(Box::new(applied.clone())))
    }

    /// `observer` saw every probe of the newest policy from `start` to `end`, but in the gaps.
    pub(super) fn covered(&mut self, observer: &str, start: i64, end: i64, gaps: &[(i64, i64)]) -> &mut Self {
        let policy = self.judge.policy().expect("a policy was told").clone();
        let all = |(start, end): &(i64, i64)| {
            let interval = between(*start, *end);
            policy
                .probes
                .iter()
                .map(move |probe| Gap { probe: probe.id.clone(), finding: None, interval })
                .collect::<Vec<_>>()
        };
        let gaps = gaps.iter().flat_map(all).collect();
        let coverage = Covered { interval: between(start, end), revision: policy.revision.clone(), every: None, gaps };
        self.add(end, observer, Fact::Covered(coverage))
    }

    /// The same without a gap, in a record of the probes that are looked at every so many seconds.
    pub(super) fn covered_every(&mut self, observer: &str, every: Option<i64>, start: i64, end: i64) -> &mut Self {
        let revision = self.judge.policy().expect("a policy was told").revision.clone();
        let coverage = Covered { interval: between(start, end), revision, every: every.map(s), gaps: vec![] };
        self.add(end, observer, Fact::Covered(coverage))
    }

    pub(super) fn changed(&mut self, observer: &str, state: State, after: i64, by: i64) -> &mut Self {
        let changed = Changed { probe: name("http"), service: name(SHOP), state, after: t(after), by: t(by) };
        self.add(by, observer, Fact::Changed(changed))
    }

    pub(super) fn pinged(&mut self, observer: &str, at: i64) -> &mut Self {
        self.add(at, observer, Fact::Succeeded(Succeeded { probe: name("http"), at: t(at) }))
    }

    pub(super) fn finding(&mut self, observer: &str, open: bool, after: i64, by: i64) -> &mut Self {
        let (finding, probe) = (name("disk-usage"), name("http"));
        self.add(by, observer, Fact::Found(Found { finding, probe, open, after: t(after), by: t(by) }))
    }

    /// A channel accepted at `at` the message about a change of `http` that was seen by `since`.
    pub(super) fn told(&mut self, observer: &str, since: i64, at: i64) -> &mut Self {
        self.add(at, observer, Fact::Reacted(Reacted::to_failure(name("http"), None, t(since), t(at))))
    }

    /// A channel accepted at `at` a test message that was put in the queue at `since`.
    pub(super) fn tested(&mut self, observer: &str, since: i64, at: i64) -> &mut Self {
        self.add(at, observer, Fact::Reacted(Reacted::to_test(t(since), t(at))))
    }

    /// The ban of an offender was in force at `at`; `http` saw the offence, complete at `since`.
    pub(super) fn banned(&mut self, observer: &str, since: i64, at: i64) -> &mut Self {
        self.add(at, observer, Fact::Reacted(Reacted::to_offence(name("http"), t(since), t(at))))
    }

    /// An exact restore that `http` reports had ended at `at`, after `took`; `lost` is how old the newest instant was.
    pub(super) fn restored(&mut self, observer: &str, at: i64, took: i64, lost: i64) -> &mut Self {
        let restored = Restored { probe: name("http"), at: t(at), took: s(took), lost: s(lost) };
        self.add(at, observer, Fact::Restored(restored))
    }

    /// `observer` counted so many requests of `http` as answered and failed from `start` to `end`.
    pub(super) fn counted(&mut self, observer: &str, start: i64, end: i64, of: (u32, u32)) -> &mut Self {
        self.add(end, observer, Fact::Counted(count("http", start, end, &[of])))
    }

    pub(super) fn clock_stepped(&mut self, observer: &str, from: i64, to: i64) -> &mut Self {
        self.add(from.max(to), observer, Fact::ClockStepped(ClockStepped { from: t(from), to: t(to) }))
    }

    /// The verdict on the first objective of the only promise.
    pub(super) fn verdict(&self, at: i64) -> Verdict {
        self.judge.clone().verdict(&name("AV-1"), 0, t(at)).expect("declared")
    }
}

/// A judge that was saved and read again.
pub(super) fn reopened(judge: &mut Judge, rows: &mut BTreeMap<String, Vec<u8>>) -> Judge {
    for (key, value) in judge.changed_parts().expect("JSON") {
        assert!(value.as_ref().is_none_or(|value| value.len() <= 16 * 1024), "{key}");
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
    Judge::from_parts(judge.next(), rows.clone()).expect("reads what it wrote")
}

/// Low and high of a verdict.
pub(super) fn bounds(verdict: &Verdict) -> Option<(i64, i64)> {
    verdict.figure.map(|figure| (figure.low, figure.high))
}

/// Seconds of certain downtime that a verdict speaks of.
pub(super) fn down(verdict: &Verdict) -> i64 {
    let length = |reason: &Reason| if let Reason::Down { length, .. } = reason { Some(length.secs()) } else { None };
    verdict.reasons.iter().find_map(length).unwrap_or(0)
}
