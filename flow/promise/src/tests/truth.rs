//! The truth lies in `[low, high]`: services that really go up and down, observers that really sample them (AV-1).
//!
//! Here the world is simulated, not the log: observers ask at intervals that the policy changes, a question takes a
//! second, they are blind now and then and forget everything when they are started again. What they write is what the
//! watch writes. Outages last longer than the interval between two samples, as nothing shorter can be seen.

use drawn::Draws;
use event::evidence::{Changed, Covered, Gap, State};
use event::policy::{Agreement, Applied};
use event::{ObserverId, ProbeId, Time};

use super::scene::*;
use crate::fact::Fact;

const SECONDS: i64 = 1200;
const PROBES: [&str; 2] = ["http", "dns"];

/// Runs of up and down of at least 30 s.
fn world(draws: &mut Draws) -> Vec<bool> {
    let mut up = Vec::new();
    while up.len() < usize::try_from(SECONDS).expect("positive") {
        let down = draws.chance(30);
        let length = 30 + draws.below(200);
        up.extend((0..length).map(|_| !down));
    }
    up
}

/// What one observer says of one probe, asking every so often unless it is blind: the changes, and when it was not looking.
fn observe(draws: &mut Draws, probe: &str, up: &[bool], policies: &[(i64, Applied, i64)]) -> (Vec<Changed>, Vec<Gap>) {
    let probe: ProbeId = name(probe);
    let (mut changes, mut gaps) = (Vec::new(), Vec::new());
    // The last sample: its start and what it showed; and until when all is accounted for.
    let mut last: Option<(i64, State)> = None;
    let mut seen_until = 0;
    let mut blind = true;
    let mut second = draws.below(10);
    while second + 1 < SECONDS {
        let newest = policies.iter().rfind(|(from, _, _)| *from <= second);
        let Some((_, _, every)) = newest else { break };
        let state = if up[usize::try_from(second).expect("positive")] { State::Up } else { State::Down };
        let end = second + 1;
        let (before, known) = last.map_or((end, None), |(start, state)| (start, Some(state)));
        if known != Some(state) {
            let (after, by) = (t(before), t(end));
            changes.push(Changed { probe: probe.clone(), service: name(SHOP), state, after, by });
        }
        if blind {
            // One that forgot what was before knows nothing until its first sample ends.
            let sees_from = if last.is_some() { second } else { end };
            gaps.push(Gap { probe: probe.clone(), finding: None, interval: between(seen_until, sees_from) });
            blind = false;
        }
        seen_until = second;
        last = Some((second, state));
        second += every;
        if draws.chance(3) {
            second += draws.below(120);
            blind = true;
            if draws.chance(50) {
                last = None;
            }
        }
    }
    gaps.push(Gap { probe, finding: None, interval: between(seen_until, SECONDS) });
    (changes, gaps)
}

/// What one observer writes of all probes.
fn report(draws: &mut Draws, observer: &str, worlds: &[Vec<bool>], policies: &[(i64, Applied, i64)]) -> Vec<Entry> {
    let observer: ObserverId = name(observer);
    let entry = |recorded_at: Time, fact: Fact| Entry { recorded_at, observer: observer.clone(), fact };
    let (mut entries, mut gaps) = (Vec::new(), Vec::new());
    for (probe, up) in PROBES.iter().zip(worlds) {
        let (changes, blind) = observe(draws, probe, up, policies);
        entries.extend(changes.into_iter().map(|changed| entry(changed.by, Fact::Changed(changed))));
        gaps.extend(blind);
    }
    let ends = policies.iter().skip(1).map(|(from, _, _)| *from).chain([SECONDS]);
    for ((from, applied, _), end) in policies.iter().zip(ends) {
        let (interval, revision) = (between(*from, end), applied.revision.clone());
        entries.push(entry(t(SECONDS), Fact::Covered(Covered { interval, revision, every: None, gaps: gaps.clone() })));
    }
    entries
}

#[test]
fn the_truth_is_between_low_and_high() {
    let mut narrow = 0;
    for seed in 0..300 {
        let draws = &mut Draws::of(1_000_000 + seed);
        let observers = &["a", "b", "c"][..=usize::try_from(draws.below(3)).expect("positive")];
        let agreement = draws.pick(&[Agreement::Majority, Agreement::Any, Agreement::All]);
        let worlds: Vec<Vec<bool>> = PROBES.iter().map(|_| world(draws)).collect();
        let promised = vec![promise(&[availability("90 %", 1000)])];
        let windows = if draws.chance(50) { vec![maintenance(300, 400), maintenance(700, 710)] } else { vec![] };
        // The interval changes halfway.
        let policies: Vec<(i64, Applied, i64)> = [(0, draws.pick(&[5, 10, 20])), (600, draws.pick(&[5, 10, 20]))]
            .into_iter()
            .map(|(from, every)| {
                let probes = PROBES
                    .iter()
                    .map(|id| event::policy::Probe { every: s(every), ..probe(id, SHOP, observers, agreement) });
                (from, policy(probes.collect(), windows.clone(), promised.clone()), every)
            })
            .collect();
        let mut entries: Vec<Entry> = Vec::new();
        for (from, applied, _) in &policies {
            let fact = Fact::Applied(Box::new(applied.clone()));
            entries.push(Entry { recorded_at: t(*from), observer: name("server"), fact });
        }
        for observer in observers {
            entries.extend(report(draws, observer, &worlds, &policies));
        }
        entries.sort_by_key(|entry| entry.recorded_at);
        let verdict = Scene::of(&entries).verdict(SECONDS);
        let Some((low, high)) = bounds(&verdict) else { continue };

        let apart = |second: i64| windows.iter().any(|w| w.interval.start <= t(second) && t(second) < w.interval.end);
        let really_up = |second: i64| worlds.iter().all(|up| up[usize::try_from(second).expect("positive")]);
        let window = verdict.window.start.micros() / 1_000_000..SECONDS;
        let set_apart = verdict.reasons.iter().any(|r| matches!(r, event::promise::Reason::Maintenance { .. }));
        // What was announced counts whole or, during an outage, not at all: the truth follows what was decided.
        let counted: Vec<i64> = window.filter(|second| !(set_apart && apart(*second))).collect();
        let up = i64::try_from(counted.iter().filter(|second| really_up(**second)).count()).expect("few");
        let truth = up * 1_000_000_000 / i64::try_from(counted.len()).expect("few");
        assert!(low <= truth && truth <= high, "seed {seed}: {truth} not in [{low}, {high}]");
        narrow += i32::from(high - low < 200_000_000);
    }
    assert!(narrow > 100, "intervals that hold everything prove nothing: only {narrow} were narrow");
}
