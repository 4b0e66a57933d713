//! The judge on a log of a million entries with a hundred promises: time to fold it, time of a turn, size of what is saved,
//! resident memory.
//!
//! There is no peer: no other program computes verdicts from a log. The limits are the project's own.

use std::sync::Arc;

use event::evidence::{Changed, Covered, Found, State, Succeeded};
use event::policy::{Agreement, Applied, Clause, Detector, Probe, Promise, Service, Text};
use event::{Body, BootId, Envelope, InstallationId, Interval, Observed, ObserverId, Ppb, Span, Time};
use promise::Judge;
use promise::objective::{Absence, Availability, Configuration, Coverage, Freshness, Objective};

use crate::process::{now, resident_mb};
use crate::{Outcome, row};

const ENTRIES: u64 = 1_000_000;
const SERVICES: u64 = 20;
const PROMISES: usize = 100;
const ORIGIN: &str = "bench.example/1";

pub(crate) fn run() -> Outcome {
    let policy = policy()?;
    let resident = || resident_mb(std::process::id()).ok_or("no memory figure");
    let before = resident()?;
    let mut log = Log { judge: Judge::new(), next: 0, spent: std::time::Duration::ZERO, batch: Vec::new() };
    let start = Time::from_secs(1_700_000_000).minute_start();
    log.write(&policy, &"server.policy".parse()?, start)?;
    let mut minute = 0;
    while log.next < ENTRIES {
        log.minute(&policy, start, minute)?;
        if minute % 1440 == 0 {
            log.fold()?;
            let begun = now();
            log.judge.forget(start + Span::from_secs(60 * i64::try_from(minute)?));
            log.spent += begun.elapsed();
        }
        minute += 1;
    }
    log.fold()?;
    row(&format!("folding {} entries", log.next), &format!("{:.1} s", log.spent.as_secs_f64()), "≤ 15 s");

    let end = |minute: u64| -> Result<Time, std::num::TryFromIntError> {
        Ok(start + Span::from_secs(60 * i64::try_from(minute)? + 2))
    };
    let begun = now();
    let verdicts = log.judge.verdicts(end(minute)?);
    let first = begun.elapsed().as_secs_f64() * 1000.0;
    let promises = policy.promises.len();
    let what = format!("the first turn: {} verdicts on {promises} promises", verdicts.len());
    row(&what, &format!("{first:.0} ms"), "–");
    let mut turns: Vec<f64> = Vec::new();
    for _ in 0..30 {
        log.minute(&policy, start, minute)?;
        log.fold()?;
        minute += 1;
        let begun = now();
        let remembered = log.judge.remembers(end(minute)?);
        let judged = log.judge.verdicts(end(minute)?).len();
        turns.push(begun.elapsed().as_secs_f64() * 1000.0);
        if !remembered || judged != verdicts.len() {
            return Err("the judge forgot what it needs".into());
        }
    }
    turns.sort_by(f64::total_cmp);
    let (median, slowest) = (turns[turns.len() / 2], turns[turns.len() - 1]);
    let figure = format!("{slowest:.1} ms (median {median:.1} ms)");
    row("a turn after a minute of entries, the slowest of 30", &figure, "≤ 50 ms");
    let resident = resident()? - before;
    row("resident, above that of the empty process", &format!("{resident:.0} MB"), "≤ 60 MB");
    let size = |rows: &[promise::ChangedRow]| {
        rows.iter().map(|(_, value)| value.as_ref().map_or(0, Vec::len)).sum::<usize>() as f64 / 1e6
    };
    let begun = now();
    let whole = log.judge.changed_parts()?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    row("saving the fold for the first time", &format!("{:.1} MB, {took:.0} ms", size(&whole)), "–");
    for _ in 0..5 {
        log.minute(&policy, start, minute)?;
        minute += 1;
    }
    log.fold()?;
    let begun = now();
    let changed = log.judge.changed_parts()?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    let figure = format!("{:.2} MB in {} rows, {took:.0} ms", size(&changed), changed.len());
    row("saving what five minutes changed", &figure, "–");
    Ok(())
}

/// Twenty services of three probes each, seen by three observers, with five promises each.
fn policy() -> Result<Applied, Box<dyn std::error::Error>> {
    let text = |words: &str| Text { fr: words.to_owned(), en: words.to_owned() };
    let observers: Arc<[ObserverId]> = OBSERVERS.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let (mut services, mut probes, mut promises) = (Vec::new(), Vec::new(), Vec::new());
    let target = Ppb::new(999_000_000);
    let days = Span::from_days;
    for number in 0..SERVICES {
        let service: event::ServiceId = format!("service-{number}").parse()?;
        services.push(Service { id: service.clone(), title: text("x") });
        for (kind, every) in [("http", 10), ("tls", 60), ("job", 60)] {
            let (id, kind, every) = (format!("{kind}-{number}").parse()?, kind.into(), Span::from_secs(every));
            let (service, observers, agreement) = (service.clone(), observers.clone(), Agreement::Majority);
            probes.push(Probe { id, kind, service, every, observers, agreement });
        }
        let availability = |over| {
            Objective::Availability(Availability { service: service.clone(), at_least: target, over: days(over) })
        };
        let (tls, job) = (format!("tls-{number}").parse()?, format!("job-{number}").parse()?);
        let of = [
            vec![availability(30), availability(90), availability(365)],
            vec![Objective::Coverage(Coverage { service: service.clone(), at_least: target, over: days(90) })],
            vec![Objective::Configuration(Configuration { probe: tls, observed: target, over: days(90) })],
            vec![Objective::Absence(Absence { finding: "disk-usage".parse()?, observed: target, over: days(30) })],
            vec![Objective::Freshness(Freshness { probe: job, at_most: Span::from_secs(3600), over: days(365) })],
        ];
        for (place, objectives) in of.into_iter().enumerate() {
            let objectives = objectives.iter().map(Clause::from).collect();
            let id = format!("P-{number}-{place}").parse()?;
            let mut promise = Promise { id, revision: String::new(), text: text("x"), objectives };
            promise.revision = promise::revision::of_promise(&promise);
            promises.push(promise);
        }
    }
    assert!(promises.len() == PROMISES, "{} promises", promises.len());
    let detector = Detector {
        finding: "disk-usage".parse()?,
        title: text("x"),
        probes: (0..SERVICES).map(|number| format!("http-{number}").parse()).collect::<Result<_, _>>()?,
    };
    let (findings, maintenance) = (vec![detector], Vec::new());
    let mut policy = Applied { revision: String::new(), services, probes, findings, maintenance, promises };
    policy.revision = promise::revision::of_policy(&policy);
    Ok(policy)
}

const OBSERVERS: [&str; 3] = ["gravelines.watch", "strasbourg.watch", "witness.watch"];

/// A drawn-up log, folded in batches while it is made.
struct Log {
    judge: Judge,
    next: u64,
    /// Time spent folding, without making the entries.
    spent: std::time::Duration,
    batch: Vec<(u64, Vec<u8>)>,
}

impl Log {
    /// Writes the entries of one minute: coverage of each observer, a success of each job every 15 minutes, and, every other
    /// minute, an outage of one service that lasts a minute.
    fn minute(&mut self, policy: &Applied, start: Time, minute: u64) -> Outcome {
        let from = start + Span::from_secs(60 * i64::try_from(minute)?);
        let to = from + Span::from_secs(60);
        for (place, name) in OBSERVERS.iter().enumerate() {
            let observer: ObserverId = name.parse()?;
            let at = from + Span::from_millis(7000 + 300 * i64::try_from(place)?);
            let say = |log: &mut Self, number: u64, kind: &str, state| {
                let (after, by) = (at - Span::from_secs(9), at);
                let changed = Changed {
                    probe: format!("{kind}-{number}").parse()?,
                    service: format!("service-{number}").parse()?,
                    state,
                    after,
                    by,
                };
                log.write(&changed, &observer, to)
            };
            if minute == 0 {
                for number in 0..SERVICES {
                    for kind in ["http", "tls", "job"] {
                        say(self, number, kind, State::Up)?;
                    }
                }
            } else {
                let number = minute / 2 * 7 % SERVICES;
                say(self, number, "http", if minute.is_multiple_of(2) { State::Down } else { State::Up })?;
            }
            if minute % 1000 == 500 || minute % 1000 == 510 {
                let (after, by) = (at - Span::from_secs(9), at);
                let (finding, probe) = ("disk-usage".parse()?, format!("http-{}", minute / 1000 % SERVICES).parse()?);
                self.write(&Found { finding, probe, open: minute % 1000 == 500, after, by }, &observer, to)?;
            }
            let (interval, revision) = (Interval::new(from, to), policy.revision.clone());
            self.write(&Covered { interval, revision, every: None, gaps: Vec::new() }, &observer, to)?;
        }
        for number in (0..SERVICES).filter(|number| (minute + number).is_multiple_of(15)) {
            let succeeded = Succeeded { probe: format!("job-{number}").parse()?, at: from };
            self.write(&succeeded, &OBSERVERS[0].parse()?, to)?;
        }
        Ok(())
    }

    fn write<B: Body>(&mut self, body: &B, observer: &ObserverId, at: Time) -> Outcome {
        let observed = Observed::new(body, observer.clone(), BootId::from_bytes([1; 16]), self.next, at)?;
        let envelope = observed.record(InstallationId::from_bytes([2; 16]), ORIGIN, at);
        self.batch.push((self.next, envelope.encode()));
        self.next += 1;
        if self.batch.len() >= 4096 { self.fold() } else { Ok(()) }
    }

    fn fold(&mut self) -> Outcome {
        let begun = now();
        for (sequence, payload) in self.batch.drain(..) {
            self.judge.apply(sequence, &Envelope::decode(&payload)?)?;
        }
        self.spent += begun.elapsed();
        Ok(())
    }
}
