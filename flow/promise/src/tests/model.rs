//! The rules once more, as slowly and plainly as possible: an array with one element for each second.
//!
//! Nothing here is shared with the evaluator but the vocabulary. All times of a story are whole seconds, so every second
//! is one thing from its start to its end.

use std::collections::BTreeSet;
use std::ops::Range;

use event::evidence::{Covered, Gap, ReactedTo, State};
use event::policy::{Agreement, Applied, Probe};
use event::{FindingId, Interval, ObserverId, ProbeId, ServiceId, Span, Time};

use super::scene::Entry;
use crate::fact::Fact;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Second {
    Unknown,
    Up,
    Undecided,
    Down,
}

use Second::{Down, Undecided, Unknown, Up};

const DAY: i64 = 86_400;
/// How long a record may be late.
const LATE: i64 = 120;

pub(super) struct LongestReaction {
    /// Low and high.
    pub figure: Option<(i64, i64)>,
    /// Whether it is that of a failure or of a test message.
    pub is_proved: bool,
}

/// What the exact restores of a window come to, low and high, in seconds.
pub(super) struct Restores {
    /// The longest time without one; `None` when nobody looked, and none was told.
    pub gap: Option<(i64, i64)>,
    /// The longest time that one took.
    pub took: Option<(i64, i64)>,
    /// The most that one would have lost.
    pub lost: Option<(i64, i64)>,
}

/// What was counted in a window.
#[derive(Default)]
pub(super) struct Requested {
    /// Answered and failed.
    pub surely: (i64, i64),
    /// The same of counts that reach beyond it.
    pub perhaps: (i64, i64),
    /// How many seconds of it were counted.
    pub seconds: i64,
}

pub(super) struct Model<'a> {
    entries: &'a [Entry],
    /// Every policy, and the second in which it was applied.
    policies: Vec<(i64, &'a Applied)>,
    /// How many seconds there are, counted from 0.
    seconds: i64,
}

fn inside(interval: Interval, second: i64) -> bool {
    interval.start <= Time::from_secs(second) && Time::from_secs(second) < interval.end
}

fn index(seconds: i64) -> usize {
    usize::try_from(seconds).expect("not negative")
}

/// Low and high of a share, rounded outwards.
pub(super) fn share(low: i64, high: i64, whole: i64) -> (i64, i64) {
    (low * 1_000_000_000 / whole, (high * 1_000_000_000 + whole - 1) / whole)
}

/// The second of `time`, which the observer of `entry` can't have seen much later than it was recorded.
fn seen(time: Time, entry: &Entry) -> i64 {
    time.min(entry.recorded_at + Span::from_secs(5)).micros() / 1_000_000
}

impl<'a> Model<'a> {
    pub(super) fn of(entries: &'a [Entry], seconds: i64) -> Self {
        let applied = |entry: &'a Entry| match &entry.fact {
            Fact::Applied(policy) => Some((entry.recorded_at.micros() / 1_000_000, &**policy)),
            _ => None,
        };
        Self { entries, policies: entries.iter().filter_map(applied).collect(), seconds }
    }

    /// The seconds inside an interval.
    fn inside(&self, interval: Interval) -> std::ops::Range<i64> {
        let second = |time: Time| (time.micros() / 1_000_000).clamp(0, self.seconds);
        second(interval.start)..second(interval.end)
    }

    fn policy_at(&self, second: i64) -> Option<&Applied> {
        self.policies.iter().rfind(|(from, _)| *from <= second).map(|(_, policy)| *policy)
    }

    fn fill(&self, initial: Second, changes: &[(i64, i64, Second)]) -> Vec<Second> {
        let mut line = vec![initial; index(self.seconds)];
        let mut since = (initial != Unknown).then_some((0, initial));
        for &(after, by, new) in changes {
            let by = by.max(after);
            let (start, until) = match since {
                None => (by, by),
                Some((since, last)) => {
                    let told = &line[index(after.min(since))..index(since)];
                    let long_ago = after < since - DAY;
                    let contradicted = told
                        .iter()
                        .any(|second| [Up, Down].contains(second) && [Up, Down].contains(&new) && *second != new);
                    let start = if last != new || contradicted || long_ago { after } else { by.max(since) };
                    (start, by.max(since))
                }
            };
            line[index(start)..index(until)].fill(Undecided);
            line[index(until)..].fill(new);
            since = Some((until, new));
        }
        line
    }

    fn standing(&self, observer: &ObserverId, probe: &ProbeId) -> Vec<Second> {
        let mut changes = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.observer == *observer) {
            if let Fact::Changed(changed) = &entry.fact
                && changed.probe == *probe
            {
                let state = match changed.state {
                    State::Up | State::Degraded => Up,
                    State::Down => Down,
                    State::Flapping => Undecided,
                };
                changes.push((seen(changed.after, entry), seen(changed.by, entry), state));
            }
        }
        self.fill(Unknown, &changes)
    }

    fn open(&self, observer: &ObserverId, probe: &ProbeId, finding: &FindingId) -> Vec<Second> {
        let mut changes = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.observer == *observer) {
            if let Fact::Found(found) = &entry.fact
                && (&found.probe, &found.finding) == (probe, finding)
            {
                let state = if found.open { Down } else { Up };
                changes.push((seen(found.after, entry), seen(found.by, entry), state));
            }
        }
        self.fill(Up, &changes)
    }

    /// Whether this record speaks of the probe: its policy asks its observer to look at it, and so often.
    fn speaks_of(&self, coverage: &Covered, observer: &ObserverId, probe: &ProbeId) -> bool {
        let of_revision = self.policies.iter().filter(|(_, policy)| policy.revision == coverage.revision);
        of_revision.flat_map(|(_, policy)| &policy.probes).any(|declared| {
            let minute = declared.every <= Span::from_secs(60);
            let same_class = coverage.every == if minute { None } else { Some(declared.every) };
            declared.id == *probe && declared.observers.contains(observer) && same_class
        })
    }

    /// Up to where a verdict at `at` on the requests that this probe counts speaks.
    pub(super) fn counts_reach(&self, probe: &ProbeId, at: i64) -> i64 {
        let (_, policy) = self.policies.last().expect("a policy");
        let Some(declared) = policy.probes.iter().find(|declared| declared.id == *probe) else { return at };
        let until = |observer: &ObserverId| {
            let counts = self.counts(probe).filter(|(entry, _)| entry.observer == *observer);
            let latest = counts.map(|(_, (_, end, ..))| end).max().unwrap_or(0);
            latest.max(at - declared.every.secs().max(300) - LATE).min(at)
        };
        declared.observers.iter().map(until).min().unwrap_or(at)
    }

    /// The counts of requests of a probe: from, to, answered, failed.
    fn counts(&self, probe: &ProbeId) -> impl Iterator<Item = (&Entry, (i64, i64, i64, i64))> {
        let told = self.entries.iter().filter_map(move |entry| match &entry.fact {
            Fact::Counted(counted) if counted.probe == *probe => Some((entry, counted)),
            _ => None,
        });
        told.filter_map(|(entry, counted)| {
            let (start, end) = (counted.interval.start.micros() / 1_000_000, seen(counted.interval.end, entry));
            let (mut answered, mut failed) = (0, 0);
            for minute in &counted.minutes {
                answered += i64::from(minute.answered);
                failed += i64::from(minute.failed);
            }
            (start < end).then_some((entry, (start, end, answered, failed)))
        })
    }

    /// The requests of a window.
    pub(super) fn requests(&self, probe: &ProbeId, window: Range<i64>) -> Requested {
        let asked = self.observers(probe);
        let mut found = Requested::default();
        for (_, (start, end, answered, failed)) in self.counts(probe).filter(|(e, _)| asked.contains(&e.observer)) {
            if end <= window.start || start >= window.end {
                continue;
            }
            let is_inside = window.contains(&start) && end <= window.end;
            let of = if is_inside { &mut found.surely } else { &mut found.perhaps };
            (of.0, of.1) = (of.0 + answered, of.1 + failed);
        }
        found.seconds =
            i64::try_from(window.clone().filter(|second| self.is_counted(probe, *second)).count()).expect("few");
        found
    }

    /// Whether all who are asked to count the requests of the probe in this second did.
    fn is_counted(&self, probe: &ProbeId, second: i64) -> bool {
        let Some(declared) = self.declared(probe, second) else { return false };
        let counts = |observer: &ObserverId| {
            let mut own = self.counts(probe).filter(|(entry, _)| entry.observer == *observer);
            let is_doubtful = self.doubtful(&[observer.clone()].into())[index(second)];
            !is_doubtful && own.any(|(_, (start, end, ..))| (start..end).contains(&second))
        };
        !declared.observers.is_empty() && declared.observers.iter().all(counts)
    }

    /// Up to where a verdict at `at` on something that rests on these probes speaks.
    pub(super) fn reach(&self, probes: &[ProbeId], at: i64) -> i64 {
        let (_, policy) = self.policies.last().expect("a policy");
        let mut reach = at;
        for declared in policy.probes.iter().filter(|declared| probes.contains(&declared.id)) {
            for observer in declared.observers.iter() {
                let mut until = at - declared.every.secs() - LATE;
                for entry in self.entries.iter().filter(|entry| entry.observer == *observer) {
                    if let Fact::Covered(coverage) = &entry.fact
                        && self.speaks_of(coverage, observer, &declared.id)
                        && seen(coverage.interval.end, entry) > coverage.interval.start.micros() / 1_000_000
                    {
                        until = until.max(seen(coverage.interval.end, entry));
                    }
                }
                reach = reach.min(until.min(at));
            }
        }
        reach
    }

    /// When what the newest policy promises was first promised, without a break since.
    pub(super) fn since(&self) -> i64 {
        let (_, newest) = self.policies.last().expect("a policy");
        let same = |policy: &Applied| policy.promises == newest.promises;
        let (since, _) = self.policies.iter().rev().take_while(|(_, policy)| same(policy)).last().expect("the newest");
        *since
    }

    /// All probes of the newest policy.
    pub(super) fn declared_probes(&self) -> Vec<ProbeId> {
        let (_, policy) = self.policies.last().expect("a policy");
        policy.probes.iter().map(|probe| probe.id.clone()).collect()
    }

    /// The probes of a service, and those in which a finding is looked for, by the newest policy.
    pub(super) fn probes_of(&self, service: &ServiceId, finding: &FindingId) -> (Vec<ProbeId>, Vec<ProbeId>) {
        let (_, policy) = self.policies.last().expect("a policy");
        let of_service = policy.probes.iter().filter(|probe| probe.service == *service).map(|probe| probe.id.clone());
        let detectors = policy.findings.iter().filter(|detector| detector.finding == *finding);
        (of_service.collect(), detectors.flat_map(|detector| detector.probes.clone()).collect())
    }

    /// Whether the observer looked at the probe in each second; with a finding, whether it looked for that.
    fn covered(&self, observer: &ObserverId, probe: &ProbeId, finding: Option<&FindingId>) -> Vec<bool> {
        let mut covered = vec![false; index(self.seconds)];
        let mut spoiled = vec![false; index(self.seconds)];
        let vantage = |observer: &ObserverId| observer.as_str().split('.').next().expect("a part").to_owned();
        for entry in self.entries {
            match &entry.fact {
                Fact::Covered(coverage) if entry.observer == *observer => {
                    let asked = self.speaks_of(coverage, observer, probe);
                    let end = coverage.interval.end.min(entry.recorded_at + Span::from_secs(5));
                    let interval = Interval::new(coverage.interval.start, end);
                    let concerns = |gap: &Gap| gap.finding.is_none() || gap.finding.as_ref() == finding;
                    let gaps: Vec<_> =
                        coverage.gaps.iter().filter(|gap| gap.probe == *probe && concerns(gap)).collect();
                    for second in self.inside(interval) {
                        covered[index(second)] |= asked;
                        spoiled[index(second)] |= gaps.iter().any(|gap| inside(gap.interval, second));
                    }
                }
                Fact::ClockStepped(stepped) if vantage(&entry.observer) == vantage(observer) => {
                    for second in self.inside(stepped.doubtful()) {
                        spoiled[index(second)] = true;
                    }
                }
                _ => {}
            }
        }
        covered.iter().zip(spoiled).map(|(covered, spoiled)| *covered && !spoiled).collect()
    }

    fn observers(&self, probe: &ProbeId) -> BTreeSet<ObserverId> {
        let probes = self.policies.iter().flat_map(|(_, policy)| &policy.probes);
        probes.filter(|p| p.id == *probe).flat_map(|p| p.observers.to_vec()).collect()
    }

    /// What each observer says of the probe in each second, where it covers it.
    fn votes(
        &self,
        probe: &ProbeId,
        finding: Option<&FindingId>,
        standing: impl Fn(&ObserverId) -> Vec<Second>,
    ) -> Vec<Vec<Second>> {
        let mut votes = vec![Vec::new(); index(self.seconds)];
        for observer in self.observers(probe) {
            let says = standing(&observer).into_iter().zip(self.covered(&observer, probe, finding));
            for (votes, (second, covered)) in votes.iter_mut().zip(says) {
                if covered && second != Unknown {
                    votes.push(second);
                }
            }
        }
        votes
    }

    fn agreed(votes: &[Second], agreement: Agreement) -> Second {
        let count = |wanted: Second| votes.iter().filter(|vote| **vote == wanted).count();
        let (up, down, all) = (count(Up), count(Down), votes.len());
        match agreement {
            _ if all == 0 => Unknown,
            Agreement::Majority if down > all - down => Down,
            Agreement::Majority if up > all - up => Up,
            Agreement::Any if down >= 1 => Down,
            Agreement::Any if up == all => Up,
            Agreement::All if down == all => Down,
            Agreement::All if up >= 1 => Up,
            _ => Undecided,
        }
    }

    fn declared(&self, probe: &ProbeId, second: i64) -> Option<&Probe> {
        self.policy_at(second)?.probes.iter().find(|p| p.id == *probe)
    }

    /// The state of a probe in each second.
    pub(super) fn probe(&self, probe: &ProbeId) -> Vec<Second> {
        let votes = self.votes(probe, None, |observer| self.standing(observer, probe));
        let agreed = |(second, votes): (i64, &Vec<Second>)| {
            self.declared(probe, second).map_or(Unknown, |declared| Self::agreed(votes, declared.agreement))
        };
        (0..).zip(&votes).map(agreed).collect()
    }

    fn worst(parts: &[Second]) -> (Second, bool) {
        let worst = [Down, Undecided, Unknown].into_iter().find(|bad| parts.contains(bad)).unwrap_or(Up);
        if parts.is_empty() { (Unknown, true) } else { (worst, parts.contains(&Unknown)) }
    }

    fn all_probes(&self) -> BTreeSet<ProbeId> {
        self.policies.iter().flat_map(|(_, policy)| &policy.probes).map(|p| p.id.clone()).collect()
    }

    /// The state of a service in each second, and whether one of its probes was not observed.
    pub(super) fn service(&self, service: &ServiceId) -> Vec<(Second, bool)> {
        let lines: Vec<(ProbeId, Vec<Second>)> =
            self.all_probes().into_iter().map(|p| (p.clone(), self.probe(&p))).collect();
        let at = |second: i64| {
            let belongs = |probe: &ProbeId| self.declared(probe, second).is_some_and(|p| p.service == *service);
            let parts: Vec<Second> =
                lines.iter().filter(|(p, _)| belongs(p)).map(|(_, line)| line[index(second)]).collect();
            Self::worst(&parts)
        };
        (0..self.seconds).map(at).collect()
    }

    /// The same; of all services together, when none is given.
    pub(super) fn together(&self, service: Option<&ServiceId>) -> Vec<(Second, bool)> {
        if let Some(service) = service {
            return self.service(service);
        }
        let lines: Vec<(ProbeId, Vec<Second>)> =
            self.all_probes().into_iter().map(|p| (p.clone(), self.probe(&p))).collect();
        let at = |second: i64| {
            let declared = lines.iter().filter(|(p, _)| self.declared(p, second).is_some());
            Self::worst(&declared.map(|(_, line)| line[index(second)]).collect::<Vec<_>>())
        };
        (0..self.seconds).map(at).collect()
    }

    /// Whether the clock of the vantage of one of these observers stepped over each second.
    fn doubtful(&self, observers: &BTreeSet<ObserverId>) -> Vec<bool> {
        let vantage = |observer: &ObserverId| observer.as_str().split('.').next().expect("a part").to_owned();
        let vantages: BTreeSet<String> = observers.iter().map(vantage).collect();
        let mut doubtful = vec![false; index(self.seconds)];
        for entry in self.entries.iter().filter(|entry| vantages.contains(&vantage(&entry.observer))) {
            if let Fact::ClockStepped(stepped) = &entry.fact {
                for second in self.inside(stepped.doubtful()) {
                    doubtful[index(second)] = true;
                }
            }
        }
        doubtful
    }

    /// The least and the most seconds from one second to another.
    fn lasted(doubtful: &[bool], from: i64, to: i64) -> (i64, i64) {
        let (first, last) = (from, from.max(to));
        let mut doubt = 0;
        let mut second = 0;
        while index(second) < doubtful.len() {
            let start = second;
            while doubtful.get(index(second)) == Some(&true) {
                second += 1;
            }
            if second > start && start <= last && second >= first {
                doubt += second - start;
            }
            second += 1;
        }
        let length = (to - from).max(0);
        ((length - doubt).max(0), length + doubt)
    }

    /// The longest reaction in the window, in seconds.
    pub(super) fn reaction(&self, service: Option<&ServiceId>, within: i64, window: Range<i64>) -> LongestReaction {
        let declared_in = |probe: &ProbeId| -> Vec<&Probe> {
            window.clone().filter_map(|second| self.declared(probe, second)).collect()
        };
        let services: BTreeSet<ServiceId> = match service {
            Some(service) => [service.clone()].into(),
            None => self.all_probes().iter().flat_map(declared_in).map(|probe| probe.service.clone()).collect(),
        };
        let second = |time: Time| time.micros() / 1_000_000;
        let sent = self.entries.iter().enumerate().filter_map(|(place, entry)| match &entry.fact {
            Fact::Reacted(reacted) if reacted.at <= entry.recorded_at + Span::from_secs(5) => {
                Some((place, entry, reacted))
            }
            _ => None,
        });
        let mut all: Vec<(i64, i64)> = Vec::new();
        let mut is_proved = false;
        for service in &services {
            let states = &self.service(service)[..index(window.end)];
            let apart = self.apart(service, states);
            let probes: BTreeSet<ProbeId> = self.all_probes();
            let belonged = |probe: &ProbeId| declared_in(probe).iter().any(|declared| declared.service == *service);
            let probes: BTreeSet<&ProbeId> = probes.iter().filter(|probe| belonged(probe)).collect();
            let observers: BTreeSet<ObserverId> = probes.iter().flat_map(|probe| self.observers(probe)).collect();
            let mut recovered = None;
            let mut now = window.start;
            while now < window.end {
                let begun = now;
                let is_up = |second: i64| states[index(second)].0 == Up;
                while now < window.end && is_up(now) == is_up(begun) {
                    now += 1;
                }
                if is_up(begun) {
                    recovered = Some(begun);
                    continue;
                }
                let Some(recovered) = recovered else { continue };
                let seconds = |wanted: Second| {
                    (begun..now).filter(move |i| states[index(*i)].0 == wanted).filter(|i| !apart[index(*i)])
                };
                let Some(start) = seconds(Down).next().or_else(|| seconds(Undecided).next()) else { continue };
                let is_failure = seconds(Down).next().is_some();
                let about = sent.clone().filter(|(_, _, reacted)| {
                    let (since, at) = (second(reacted.since), second(reacted.at));
                    reacted.to == ReactedTo::Failure
                        && reacted.finding.is_none()
                        && reacted.probe.as_ref().is_some_and(|probe| probes.contains(probe))
                        && (recovered..now).contains(&since)
                        && (since >= begun || at >= begun)
                });
                let told = about.min_by_key(|(place, _, reacted)| (reacted.at, *place));
                let mut clocks = observers.clone();
                clocks.extend(told.map(|(_, entry, _)| entry.observer.clone()));
                let doubtful = self.doubtful(&clocks);
                let since_start = |until: i64| Self::lasted(&doubtful, start, until);
                let told = told.map(|(_, _, reacted)| second(reacted.at));
                let over = since_start(now).1 <= within;
                let certain = seconds(Down).next_back().map_or(0, |last| since_start(last + 1).0);
                let bears = match told {
                    Some(at) if at <= start + within => is_failure.then(|| since_start(at)),
                    _ if over => None,
                    Some(at) if certain > within => Some(since_start(at)),
                    Some(at) => Some((0, since_start(at).1)),
                    None if certain > within && window.end >= start + within + LATE => {
                        Some((certain, since_start(now).1))
                    }
                    None => Some((0, since_start(now).1)),
                };
                is_proved |= is_failure && bears.is_some();
                all.extend(bears);
            }
        }
        if !is_proved {
            let tests = sent.filter(|(_, _, reacted)| reacted.to == ReactedTo::Test);
            for (_, entry, test) in
                tests.filter(|(_, _, test)| [test.since, test.at].iter().all(|time| window.contains(&second(*time))))
            {
                let doubtful = self.doubtful(&[entry.observer.clone()].into());
                all.push(Self::lasted(&doubtful, second(test.since), second(test.at)));
                is_proved = true;
            }
        }
        let figure = all.iter().map(|(low, _)| *low).max().zip(all.iter().map(|(_, high)| *high).max());
        LongestReaction { figure, is_proved }
    }

    /// The longest wait for a ban in the window, in seconds, of the offences that the probes of the service saw.
    pub(super) fn bans(&self, service: &ServiceId, window: Range<i64>) -> Option<(i64, i64)> {
        let belongs = |probe: &ProbeId, second: i64| {
            self.declared(probe, second).is_some_and(|declared| declared.service == *service)
        };
        let belonged = |probe: &ProbeId| window.clone().any(|second| belongs(probe, second));
        let second = |time: Time| time.micros() / 1_000_000;
        let waits = self.entries.iter().filter_map(|entry| {
            let Fact::Reacted(reacted) = &entry.fact else { return None };
            let counts = reacted.to == ReactedTo::Offence
                && reacted.finding.is_none()
                && reacted.at <= entry.recorded_at + Span::from_secs(5)
                && reacted.probe.as_ref().is_some_and(belonged)
                && window.contains(&second(reacted.at));
            let doubtful = self.doubtful(&[entry.observer.clone()].into());
            counts.then(|| Self::lasted(&doubtful, second(reacted.since).max(window.start), second(reacted.at)))
        });
        waits.reduce(|(low, high), (other_low, other_high)| (low.max(other_low), high.max(other_high)))
    }

    /// Whether a finding was open in each second, and whether it was not looked for somewhere.
    pub(super) fn finding(&self, finding: &FindingId) -> Vec<(Second, bool)> {
        let line = |probe: ProbeId| {
            let votes = self.votes(&probe, Some(finding), |observer| self.open(observer, &probe, finding));
            let line: Vec<Second> = votes.iter().map(|votes| Self::agreed(votes, Agreement::Any)).collect();
            (probe, line)
        };
        let lines: Vec<(ProbeId, Vec<Second>)> = self.all_probes().into_iter().map(line).collect();
        let at = |second: i64| {
            let detectors = self.policy_at(second).into_iter().flat_map(|policy| &policy.findings);
            let looked: Vec<&ProbeId> = detectors.filter(|d| d.finding == *finding).flat_map(|d| &d.probes).collect();
            let parts: Vec<Second> =
                lines.iter().filter(|(p, _)| looked.contains(&p)).map(|(_, line)| line[index(second)]).collect();
            Self::worst(&parts)
        };
        (0..self.seconds).map(at).collect()
    }

    /// Whether each second is set apart for maintenance.
    pub(super) fn apart(&self, service: &ServiceId, states: &[(Second, bool)]) -> Vec<bool> {
        let policies = &self.policies;
        let windows = |policy: &Applied| -> Vec<Interval> {
            let concerned = policy.maintenance.iter().filter(|m| m.services.contains(service));
            concerned.map(|m| m.interval).collect()
        };
        let is_up = |second: i64| second >= 0 && states[index(second)].0 == Up;
        // Whether `second` belongs to an outage that was going on at `recorded`.
        let same_outage = |recorded: i64, second: i64| {
            let trouble = |second: i64| [Down, Undecided].contains(&states[index(second)].0);
            let up_between = (recorded..=second).any(is_up);
            !up_between && (0..=recorded).rev().take_while(|second| !is_up(*second)).any(trouble)
        };
        let excused = |second: i64| {
            (0..policies.len()).any(|i| {
                let (recorded, policy) = policies[i];
                let mut ahead = windows(policy).into_iter().filter(|window| Time::from_secs(recorded) < window.start);
                let announced = ahead.any(|window| inside(window, second));
                let mut later = policies[i + 1..].iter().filter(|(from, _)| *from <= second);
                announced
                    && !same_outage(recorded, second)
                    && later.all(|(_, policy)| windows(policy).into_iter().any(|window| inside(window, second)))
            })
        };
        (0..).take(states.len()).map(excused).collect()
    }

    /// The longest time without a success that was listened to, and the longest between two successes, in seconds.
    pub(super) fn gaps(&self, probe: &ProbeId, window: Range<i64>) -> (i64, i64) {
        let asked = self.observers(probe);
        let success = |entry: &Entry| match &entry.fact {
            Fact::Succeeded(p) if p.at > entry.recorded_at + Span::from_secs(5) => None,
            Fact::Succeeded(p) if p.probe == *probe => Some(p.at.micros() / 1_000_000),
            _ => None,
        };
        let told = self.entries.iter().filter(|entry| asked.contains(&entry.observer));
        let (low, high, _) = self.between(probe, &told.filter_map(success).collect(), window);
        (low, high)
    }

    /// The longest time between these seconds that was listened to, the longest, and whether anybody listened at all.
    fn between(&self, probe: &ProbeId, successes: &BTreeSet<i64>, window: Range<i64>) -> (i64, i64, bool) {
        let listened: Vec<Vec<bool>> = self.observers(probe).iter().map(|o| self.covered(o, probe, None)).collect();
        let (mut low, mut high, mut listening, mut silent) = (0, 0, 0, 0);
        for second in window {
            if successes.contains(&second) {
                (listening, silent) = (0, 0);
            }
            listening = if listened.iter().any(|line| line[index(second)]) { listening + 1 } else { 0 };
            silent += 1;
            (low, high) = (low.max(listening), high.max(silent));
        }
        (low, high, low > 0)
    }

    /// The exact restores of a probe that ended in the window.
    pub(super) fn restores(&self, probe: &ProbeId, window: Range<i64>) -> Restores {
        let asked = self.observers(probe);
        let second = |time: Time| time.micros() / 1_000_000;
        let (mut took, mut lost, mut ends) = (Vec::new(), Vec::new(), BTreeSet::new());
        for entry in self.entries.iter().filter(|entry| asked.contains(&entry.observer)) {
            let Fact::Restored(restored) = &entry.fact else { continue };
            let end = second(restored.at);
            let is_told = restored.at <= entry.recorded_at + Span::from_secs(5);
            if restored.probe != *probe || !is_told || !window.contains(&end) {
                continue;
            }
            let doubtful = self.doubtful(&[entry.observer.clone()].into());
            let lasted = |from: i64, to: i64| {
                let length = (to - from).max(0);
                // Only what the clock did in the window is known.
                let (from, to) = (from.max(window.start), to.max(from).max(window.start));
                let doubt = Self::lasted(&doubtful, from, to).1 - (to - from);
                ((length - doubt).max(0), length + doubt)
            };
            let began = end - restored.took.secs();
            took.push(lasted(began, end));
            lost.push(lasted(began - restored.lost.secs(), began));
            ends.insert(end);
        }
        let (low, high, is_looked) = self.between(probe, &ends, window);
        let most = |all: Vec<(i64, i64)>| all.into_iter().reduce(|(a, b), (c, d)| (a.max(c), b.max(d)));
        let gap = (is_looked || !ends.is_empty()).then_some((low, high));
        Restores { gap, took: most(took), lost: most(lost) }
    }
}
