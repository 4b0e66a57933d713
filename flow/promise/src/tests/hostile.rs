//! A log by somebody who wants its verifier to fall over: every field of every kind of entry, at every extreme.

use event::engine::ClockStepped;
use event::evidence::{Changed, Covered, Found, Gap, Restored, State, Succeeded};
use event::policy::Agreement;
use event::promise::Verdict;
use event::{Body, BootId, Envelope, InstallationId, Observed, Ppb};
use journal::testing::spoiled;
use serde_json::Value;
use serde_json::value::RawValue;

use super::scene::*;
use crate::audit::Recheck;
use crate::objective::{
    Absence, Availability, Configuration, Coverage, Freshness, Limit, Objective, Requests, Restore,
};
use crate::{Judge, revision};

const HOUR: i64 = 3600;
/// Later than any day that is called destroyed below.
const START: i64 = 100 * 24 * HOUR;

fn envelope<B: Body>(recorded_at: i64, body: &B) -> Envelope {
    let at = t(recorded_at);
    let observed = Observed::new(body, name("a"), BootId::from_bytes([0; 16]), 0, at).expect("serialises");
    observed.record(InstallationId::from_bytes([0; 16]), "shop.example/1", at)
}

/// An hour with every kind of entry that verdicts rest on, every kind of objective, and verdicts on all of them.
fn short_log() -> Vec<Envelope> {
    let over = s(HOUR);
    let at_least = Ppb::new(990_000_000);
    let (service, probe_id, finding) = (name(SHOP), name("http"), name("disk-usage"));
    let restore = |limit| Objective::Restore(Restore { limit, probe: name("http"), at_most: s(60), over });
    let objectives = [
        Objective::Availability(Availability { service, at_least, over }),
        Objective::Freshness(Freshness { probe: probe_id, at_most: s(60), over }),
        Objective::Coverage(Coverage { service: name(SHOP), at_least, over }),
        Objective::Configuration(Configuration { probe: name("http"), observed: at_least, over }),
        Objective::Absence(Absence { finding, observed: at_least, over }),
        restore(Limit::Every),
        restore(Limit::Within),
        restore(Limit::LosesAtMost),
        Objective::Requests(Requests { probe: name("http"), at_least, over }),
    ];
    let window = maintenance(START + 600, START + 700);
    let probes = vec![probe("http", SHOP, &["a", "b"], Agreement::Any)];
    let applied = policy(probes, vec![window], vec![promise(&objectives)]);
    let mut judge = Judge::new();
    let mut entries = Vec::new();
    let mut write = |judge: &mut Judge, entry: Envelope| {
        judge.apply(entries.len() as u64, &entry).expect("readable");
        entries.push(entry);
    };
    write(&mut judge, envelope(START, &applied));
    for minute in 0..12 {
        let (from, to) = (START + minute * 300, START + (minute + 1) * 300);
        let gaps = vec![Gap { probe: name("http"), finding: None, interval: between(from + 10, from + 20) }];
        write(
            &mut judge,
            envelope(
                to,
                &Covered { interval: between(from, to), revision: applied.revision.clone(), every: None, gaps },
            ),
        );
        let state = if minute % 2 == 0 { State::Up } else { State::Down };
        let changed = Changed { probe: name("http"), service: name(SHOP), state, after: t(to - 5), by: t(to) };
        write(&mut judge, envelope(to, &changed));
        write(&mut judge, envelope(to, &Succeeded { probe: name("http"), at: t(to) }));
        let restored = Restored { probe: name("http"), at: t(to), took: s(30), lost: s(20) };
        write(&mut judge, envelope(to, &restored));
        write(&mut judge, envelope(to, &count("http", to - 60, to, &[(u32::MAX, 1)])));
        let (finding, open) = (name("disk-usage"), minute % 2 == 0);
        write(&mut judge, envelope(to, &Found { finding, probe: name("http"), open, after: t(to - 5), by: t(to) }));
        write(&mut judge, envelope(to, &ClockStepped { from: t(to), to: t(to - 3) }));
    }
    let at = START + HOUR;
    let verdicts: Vec<Verdict> = (0..).map_while(|number| judge.verdict(&name("AV-1"), number, t(at))).collect();
    assert_eq!(verdicts.len(), objectives.len());
    for verdict in &verdicts {
        write(&mut judge, envelope(at, verdict));
    }
    entries
}

fn recheck(entries: &[Envelope], destroyed: Option<(u64, i64)>) {
    let mut recheck = Recheck::new();
    for (sequence, entry) in (0..).zip(entries) {
        match destroyed {
            Some((place, hour)) if place == sequence => recheck.destroyed(sequence, &entry.kind, hour),
            _ => recheck.entry(sequence, Some(entry)),
        }
    }
    let mut rechecked = recheck.finish(entries.len() as u64);
    // Whatever is shown of it can be shown, and asked of as of any instant.
    assert!(rechecked.faults.iter().all(|fault| !fault.to_string().is_empty()));
    for at in [t(START), t(i64::MIN), t(i64::MAX)] {
        drop(rechecked.judge.verdicts(at));
    }
    for at in [t(START + HOUR), t(i64::MAX)] {
        rechecked.judge.forget(at);
        rechecked.judge.remembers(at);
    }
}

#[test]
fn no_field_at_any_extreme_makes_a_verifier_fall_over() {
    let honest = short_log();
    let mut tried = 0;
    // Of each kind the first entry, which others follow, and every verdict.
    let mut seen = std::collections::BTreeSet::new();
    for place in 0..honest.len() {
        if !seen.insert(honest[place].kind.clone()) && honest[place].kind != Verdict::KIND.name {
            continue;
        }
        let body: Value = serde_json::from_str(honest[place].body.get()).expect("JSON");
        for body in spoiled(&body) {
            let mut log = honest.clone();
            log[place].body = RawValue::from_string(body.to_string()).expect("JSON");
            // A policy under the revision that its content has: what it says counts, and not that it calls itself wrongly.
            if let Some(Ok(mut applied)) = log[place].body::<event::policy::Applied>() {
                for promise in &mut applied.promises {
                    promise.revision = revision::of_promise(promise);
                }
                applied.revision = revision::of_policy(&applied);
                log[place] = envelope(START, &applied);
            }
            recheck(&log, None);
            tried += 1;
        }
    }
    for extreme in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for place in 0..honest.len() {
            let mut log = honest.clone();
            log[place].recorded_at = event::Time::from_micros(extreme);
            log[place].observed_at = event::Time::from_micros(extreme);
            recheck(&log, None);
            recheck(&honest, Some((place as u64, extreme)));
            tried += 2;
        }
    }
    assert!(tried > 2000, "{tried}");
}
