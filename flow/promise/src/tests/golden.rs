//! The golden log of release 0.1: a day of a small hoster, judged by the real judge and written by the real export.
//!
//! Every later release verifies it, verdicts included, and so does every verifier that is written from `docs/`. It holds
//! whatever may happen: an outage and a maintenance, observers that disagree, one that is blind, a clock that is set
//! back, a day whose payloads are destroyed, a key that is replaced, a witness; and kept, broken and unproven verdicts on
//! each kind of objective but `restore` and `requests`, which are younger, and which drawn logs have. The story is told
//! below, so the files can be made again as long as the format may change:
//!
//! ```sh
//! GARANT_GOLDEN=write cargo test -p garant-promise golden
//! ```
//!
//! Once 0.1 is released, its files never change again: a change of the format then begins a golden log beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use event::engine::{Blind, BlindCause, ClockStepped, Started};
use event::evidence::{Changed, Covered, Found, Gap, Reacted, State, Succeeded};
use event::journal::{DestructionIntended, KeyAnnounced, KeyRetired};
use event::policy::{Agreement, Applied, Clause, Detector, Maintenance, Probe, Promise, Service, Text};
use event::promise::{Outcome, Reason, Verdict};
use event::{
    Body, BootId, Day, Family, InstallationId, Interval, Kind, Observed, ObserverId, ProbeId, Retention, Span, Time,
};
use journal::audit::{AuditError, Authenticity, Directory, ExportSource, Report, Trust, audit};
use journal::checkpoint::Checkpoint;
use journal::export::ExportSink;
use journal::testing::{Files, Log, test_key};
use serde::{Deserialize, Serialize};

use super::scene::{name, percent, s};
use crate::audit::{Recheck, Rechecked, VerdictFault};
use crate::objective::{Absence, Answered, Availability, Configuration, Coverage, Freshness, Objective, Reaction};
use crate::{Judge, due, revision};

// What the watch tells the team, as stored: its crate stands above this one.

/// What a job said.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Ping {
    /// The job started.
    Start,
    /// The job succeeded.
    Success,
    /// The job failed.
    Fail,
}

/// A sign of life that is no success arrived: a job started, or failed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Pinged {
    /// The heartbeat.
    probe: ProbeId,
    /// When it arrived.
    at: Time,
    /// What it said.
    ping: Ping,
}

impl Body for Pinged {
    const KIND: Kind = Kind::team("watch.pinged", Family::Monitoring);
}

/// What the team needs to know about a change or a finding, and nobody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
struct Detail {
    /// The probe.
    probe: ProbeId,
    /// What was seen, in words: status, error, figure and threshold.
    text: String,
    /// How long the sample took.
    took: Span,
}

impl Body for Detail {
    const KIND: Kind = Kind::team("watch.detail", Family::Monitoring);
}

const SERVER: &str = "server.supervisor";
const GRAVELINES: &str = "gravelines.watch";
const RESPOND: &str = "gravelines.respond";
const STRASBOURG: &str = "strasbourg.watch";
const ORIGIN: &str = "golden.example/1";
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// The key of the first days, as a reader would have pinned it then.
const PINNED: &str = "golden.example/1+61259390+ARl/ayPhbIUyxqvIOPrNXqeJvgx2spIDNAOb+os9No1h";

/// The log begins at 23:00 UTC. Times below count from the midnight before, in seconds.
const MIDNIGHT: i64 = 1_795_388_400 - 23 * HOUR;
/// When the story of the last day begins.
const MAIN: i64 = 4 * DAY + 10 * HOUR;

const fn at(seconds: i64) -> Time {
    Time::from_secs(MIDNIGHT + seconds)
}

fn between(start: i64, end: i64) -> Interval {
    Interval::new(at(start), at(end))
}

fn text(fr: &str, en: &str) -> Text {
    Text { fr: fr.to_owned(), en: en.to_owned() }
}

fn probe(id: &str, kind: &str, service: &str, every: i64, observers: &[&str], agreement: Agreement) -> Probe {
    let observers = observers.iter().map(|observer| name(observer)).collect();
    Probe { id: name(id), kind: kind.into(), service: name(service), every: s(every), observers, agreement }
}

fn promise(id: &str, sentence: Text, objectives: &[Objective]) -> Promise {
    let objectives = objectives.iter().map(Clause::from).collect();
    let mut promise = Promise { revision: String::new(), id: name(id), text: sentence, objectives };
    promise.revision = revision::of_promise(&promise);
    promise
}

/// The policy of the first days; the last day announces a maintenance and then promises more coverage, and a reaction.
fn policy(announced: bool, coverage: &str) -> Applied {
    let half_an_hour = s(30 * MINUTE);
    let availability = |target| {
        Objective::Availability(Availability { service: name("shop"), at_least: percent(target), over: half_an_hour })
    };
    let mut promises = vec![
        promise(
            "AV-1",
            text("La boutique est disponible 99,9 % du temps.", "The shop is available 99.9 % of the time."),
            &[availability("99.9 %"), availability("80 %")],
        ),
        promise(
            "WA-1",
            text("La boutique est surveillée sans cesse.", "The shop is watched all the time."),
            &[Objective::Coverage(Coverage { service: name("shop"), at_least: percent(coverage), over: half_an_hour })],
        ),
        promise(
            "WA-2.disk",
            text("Aucun disque n'est plein.", "No disk is full."),
            &[Objective::Absence(Absence {
                finding: name("disk-usage"),
                observed: percent("90 %"),
                over: half_an_hour,
            })],
        ),
        promise(
            "ED-1",
            text("Le certificat est toujours valable.", "The certificate is always valid."),
            &[Objective::Configuration(Configuration {
                probe: name("certificate"),
                observed: percent("90 %"),
                over: half_an_hour,
            })],
        ),
        promise(
            "BK-1",
            text("Une sauvegarde toutes les 10 minutes.", "A backup every 10 minutes."),
            &[Objective::Freshness(Freshness { probe: name("backup"), at_most: s(10 * MINUTE), over: half_an_hour })],
        ),
    ];
    if coverage == "99 %" {
        let (service, within, observed) = (Some(name("shop")), s(MINUTE), percent("90 %"));
        promises.push(promise(
            "WA-3",
            text("L'équipe est prévenue en une minute.", "The team is told within a minute."),
            &[Objective::Reaction(Reaction { to: Answered::Failures, service, within, observed, over: half_an_hour })],
        ));
    }
    let both = [GRAVELINES, STRASBOURG];
    let probes = vec![
        probe("front", "http", "shop", 10, &both, Agreement::Majority),
        probe("api", "tcp", "shop", 10, &both[..1], Agreement::Any),
        probe("certificate", "tls", "edge", 300, &both[..1], Agreement::All),
        probe("backup", "heartbeat", "backups", 60, &both[..1], Agreement::Majority),
        probe("machine", "host", "machines", 15, &both[..1], Agreement::Majority),
    ];
    let titles = [
        ("shop", text("La boutique", "The shop")),
        ("edge", text("HTTPS", "HTTPS")),
        ("backups", text("Les sauvegardes", "Backups")),
        ("machines", text("Les serveurs", "The servers")),
    ];
    let services = titles.into_iter().map(|(id, title)| Service { id: name(id), title }).collect();
    let window = Interval::new(at(MAIN + 30 * MINUTE), at(MAIN + 36 * MINUTE));
    let maintenance = Maintenance {
        services: vec![name("shop")],
        interval: window,
        text: text("Changement de disque.", "A disk is replaced."),
    };
    let findings = vec![Detector {
        finding: name("disk-usage"),
        title: text("Disque trop plein", "Disk too full"),
        probes: vec![name("machine")],
    }];
    let maintenance = if announced { vec![maintenance] } else { vec![] };
    let mut applied = Applied { revision: String::new(), services, probes, findings, maintenance, promises };
    applied.revision = revision::of_policy(&applied);
    applied
}

/// The log, and the judge that reads along.
struct Story {
    log: Log,
    judge: Judge,
    policy: Applied,
    /// Up to when gravelines has told what it saw every five minutes.
    slow_since: i64,
    handed_over: BTreeMap<ObserverId, u64>,
    last: BTreeMap<(String, u32), Verdict>,
    outcomes: BTreeSet<(String, Outcome)>,
}

impl Story {
    fn begin() -> Self {
        let log = Log::new(ORIGIN, 42);
        let mut story = Self {
            log,
            judge: Judge::new(),
            policy: policy(false, "95 %"),
            slow_since: 0,
            handed_over: BTreeMap::new(),
            last: BTreeMap::new(),
            outcomes: BTreeSet::new(),
        };
        story.judge.skip(0);
        story
    }

    /// What `observer` saw at `seen`, recorded at `seconds`.
    fn write<B: Body>(&mut self, seconds: i64, observer: &str, body: &B) -> u64 {
        self.log.now = at(seconds);
        let observer: ObserverId = name(observer);
        let sequence = self.handed_over.entry(observer.clone()).or_default();
        let boot = BootId::from_bytes([observer.as_str().as_bytes()[0]; 16]);
        let observed = Observed::new(body, observer, boot, *sequence, self.log.now).expect("serialises");
        *sequence += 1;
        let envelope = observed.record(InstallationId::from_bytes([0x5e; 16]), ORIGIN, self.log.now);
        let sequence = self.log.append_envelope(&B::KIND.coarse(), &envelope);
        self.judge.apply(sequence, &envelope).expect("readable");
        sequence
    }

    fn apply(&mut self, seconds: i64, policy: Applied) {
        self.policy = policy;
        let policy = self.policy.clone();
        self.write(seconds, SERVER, &policy);
    }

    fn changed(&mut self, observer: &str, probe: &str, state: State, after: i64, by: i64) {
        let service = self.policy.probes.iter().find(|p| p.id.as_str() == probe).expect("declared").service.clone();
        let (after_time, by_time) = (at(after), at(by));
        let changed = Changed { probe: name(probe), service, state, after: after_time, by: by_time };
        self.write(by + 1, observer, &changed);
        if state == State::Down {
            let text = "203.0.113.7: connection refused".to_owned();
            self.write(by + 1, observer, &Detail { probe: name(probe), text, took: Span::from_millis(3) });
        }
    }

    /// A channel accepted at `accepted` the message about the outage that strasbourg saw by `since`.
    fn told(&mut self, since: i64, accepted: i64) {
        self.write(accepted + 1, RESPOND, &Reacted::to_failure(name("front"), None, at(since), at(accepted)));
    }

    fn pinged(&mut self, seconds: i64, ping: Ping) {
        match ping {
            Ping::Success => {
                self.write(seconds, GRAVELINES, &Succeeded { probe: name("backup"), at: at(seconds) });
            }
            Ping::Start | Ping::Fail => {
                self.write(seconds, GRAVELINES, &Pinged { probe: name("backup"), at: at(seconds), ping });
            }
        }
    }

    /// Everything is told: the policy, and the state of each probe as each observer knows it.
    fn tell(&mut self, seconds: i64) {
        let policy = self.policy.clone();
        self.write(seconds, SERVER, &policy);
        for probe in &policy.probes {
            for observer in probe.observers.iter() {
                self.changed(observer.as_str(), probe.id.as_str(), State::Up, seconds + 4, seconds + 4);
            }
        }
    }

    /// Both observers report a stretch, each a few seconds after it; gravelines did not see these probes in this gap.
    fn covered(&mut self, start: i64, end: i64, blind: Option<(i64, i64)>) {
        for (observer, delay) in [(GRAVELINES, 1), (STRASBOURG, 2)] {
            let asked = self
                .policy
                .probes
                .iter()
                .filter(|p| p.every <= Covered::EVERY_MIN && p.observers.contains(&name(observer)));
            let gap = |probe: &Probe| {
                blind.map(|(a, b)| Gap { probe: probe.id.clone(), finding: None, interval: between(a, b) })
            };
            let gaps = asked.filter_map(gap).filter(|_| observer == GRAVELINES).collect();
            let revision = self.policy.revision.clone();
            self.write(end + delay, observer, &Covered { interval: between(start, end), revision, every: None, gaps });
        }
    }

    /// What gravelines saw of the probe that it looks at every five minutes, since it last said so.
    fn covered_slowly(&mut self, end: i64) {
        let interval = between(self.slow_since, end);
        let blind = between(MAIN + 60 * MINUTE, MAIN + 63 * MINUTE).intersect(interval);
        let gap = Gap { probe: name("certificate"), finding: None, interval: blind };
        let gaps = if blind.is_empty() { vec![] } else { vec![gap] };
        let revision = self.policy.revision.clone();
        self.write(end + 3, GRAVELINES, &Covered { interval, revision, every: Some(s(5 * MINUTE)), gaps });
        self.slow_since = end;
    }

    /// Writes the verdicts that are due, and those that tell of another outage.
    fn judge(&mut self, seconds: i64) {
        let outages = |verdict: &Verdict| verdict.reasons.iter().filter(|r| matches!(r, Reason::Down { .. })).count();
        for verdict in self.judge.verdicts(at(seconds)) {
            let key = (verdict.promise.to_string(), verdict.objective);
            let last = self.last.get(&key);
            if due(last, &verdict) || last.is_some_and(|last| outages(last) != outages(&verdict)) {
                self.write(seconds, SERVER, &verdict);
                let objective = &self.policy.promises.iter().find(|p| p.id == verdict.promise).expect("in effect");
                let objective = &objective.objectives[usize::try_from(verdict.objective).expect("few")];
                self.outcomes.insert((kind_of(objective), verdict.outcome));
                self.last.insert(key, verdict);
            }
        }
    }
}

fn kind_of(objective: &Clause) -> String {
    let json = serde_json::to_value(objective).expect("serialises");
    json["objective"].as_str().expect("a word").to_owned()
}

/// A first day that will be destroyed, and a second on which its policy and states are told again.
fn first_days(story: &mut Story) {
    story.write(23 * HOUR, SERVER, &Started { engine: "watch".to_owned(), attempt: 1 });
    for (start, minutes) in [(DAY + 10 * HOUR, 4), (2 * DAY + 10 * HOUR + 1800, 2)] {
        story.tell(start);
        story.pinged(start + 30, Ping::Success);
        story.slow_since = start;
        for minute in 1..=minutes {
            let end = start + minute * MINUTE;
            story.covered(end - MINUTE, end, None);
            if minute == minutes {
                story.covered_slowly(end);
            }
            story.judge(end + 10);
        }
    }
}

/// What happens between the reports of one minute and the next, with times in seconds of the last day.
fn happens(story: &mut Story, minute: i64) {
    let now = MAIN + minute * MINUTE;
    match minute {
        2 | 10 | 18 | 27 | 44 | 52 | 61 | 70 => story.pinged(now + 15, Ping::Success),
        26 => story.pinged(now + 15, Ping::Start),
        35 => story.pinged(now + 15, Ping::Fail),
        8 => story.changed(GRAVELINES, "api", State::Flapping, now + 10, now + 21),
        9 => story.changed(GRAVELINES, "api", State::Up, now + 10, now + 21),
        // An outage of four minutes that both observers see, each in its own bracket; and the maintenance that was
        // announced, and used.
        12 | 16 | 31 | 34 | 71 | 72 | 73 => {
            let state = if [12, 31, 71, 73].contains(&minute) { State::Down } else { State::Up };
            story.changed(GRAVELINES, "front", state, now + 3, now + 14);
            story.changed(STRASBOURG, "front", state, now + 7, now + 18);
            if minute == 71 {
                story.told(now + 18, now + 21);
            }
        }
        // The message about the last outage comes late.
        74 => story.told(now - MINUTE + 18, now + 45),
        75 => {
            story.write(now + 6, RESPOND, &Reacted::to_test(at(now + 4), at(now + 5)));
        }
        22 => story.changed(GRAVELINES, "api", State::Degraded, now + 20, now + 31),
        23 => story.changed(GRAVELINES, "api", State::Up, now + 20, now + 31),
        40 | 46 => {
            let (finding, probe) = (name("disk-usage"), name("machine"));
            let (after, by) = (at(now + 10), at(now + 25));
            story.write(now + 26, GRAVELINES, &Found { finding, probe, open: minute == 40, after, by });
        }
        // Only one of two sees it.
        48 => story.changed(STRASBOURG, "front", State::Down, now + 7, now + 8),
        49 => story.changed(STRASBOURG, "front", State::Up, now + 7, now + 8),
        50 => story.changed(GRAVELINES, "certificate", State::Down, now + 5, now + 6),
        53 => story.changed(GRAVELINES, "certificate", State::Up, now + 5, now + 6),
        _ => {}
    }
}

/// The last day, told minute by minute. At its 56th the clock is set back by 40 s.
fn last_day(story: &mut Story) {
    story.tell(MAIN);
    story.slow_since = MAIN;
    for minute in 0..76 {
        let start = MAIN + minute * MINUTE;
        happens(story, minute);
        match minute {
            56 => {
                story.covered(start, start + 55, None);
                let (from, to) = (at(start + 58), at(start + 18));
                story.write(start + 18, GRAVELINES, &ClockStepped { from, to });
                story.covered(start + 18, start + 60, None);
            }
            60..63 => {
                story.covered(start, start + MINUTE, Some((start, start + MINUTE)));
                if minute == 62 {
                    let interval = between(MAIN + 60 * MINUTE, start + MINUTE);
                    let blind = Blind { engine: "watch".to_owned(), interval, cause: BlindCause::Uplink };
                    story.write(start + MINUTE + 3, GRAVELINES, &blind);
                }
            }
            // The policy changes in the middle of a minute: each stretch names the one that was followed.
            20 | 70 => {
                story.covered(start, start + 30, None);
                story.covered_slowly(start + 30);
                story.apply(start + 33, policy(true, if minute == 20 { "95 %" } else { "99 %" }));
                story.judge(start + 34);
                story.covered(start + 30, start + MINUTE, None);
            }
            _ => story.covered(start, start + MINUTE, None),
        }
        if minute % 5 == 4 {
            story.covered_slowly(start + MINUTE);
        }
        match minute {
            64 => rotate(story, start + MINUTE + 3),
            66 => destroy(story, start + MINUTE + 3),
            68 => {
                let old = story.log.keys.remove(0);
                story.write(start + MINUTE + 3, SERVER, &KeyRetired { vkey: old.vkey().to_string() });
            }
            _ => {}
        }
        story.judge(start + MINUTE + 4);
    }
}

/// The key is replaced: announced in the log, then a checkpoint that both keys sign.
fn rotate(story: &mut Story, seconds: i64) {
    let (old, new) = (story.log.keys[0].clone(), test_key(43, ORIGIN));
    let announced = KeyAnnounced { vkey: new.vkey().to_string(), replaces: old.vkey().to_string() };
    story.write(seconds, SERVER, &announced);
    story.log.keys.push(new);
    let note = story.log.checkpoint(story.log.entries.len());
    story.log.rotations.push(note);
}

/// The first day is kept for no longer.
fn destroy(story: &mut Story, seconds: i64) {
    let day = at(DAY).day();
    let of_day = |leaf: &journal::leaf::Leaf| leaf.is_public() && Day::of_hour(leaf.hour) == day;
    let entries = story.log.entries.iter().filter(|entry| of_day(&entry.leaf)).count() as u64;
    let class = Retention::Evidence.as_str().to_owned();
    story.write(seconds, SERVER, &DestructionIntended { class: class.clone(), day, entries });
    let sequence = story.log.destroy(Retention::Evidence, day);
    story.judge.skip(sequence);
}

fn story() -> Story {
    let mut story = Story::begin();
    story.log.witnesses = vec![test_key(44, "witness.golden.example")];
    first_days(&mut story);
    last_day(&mut story);
    story
}

/// Where a golden log lies.
pub(super) fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../journal/golden")).join(name)
}

/// Compares the files of a golden log with what a story makes, or puts them there.
pub(super) fn same_as_golden(name: &str, files: &Files) {
    assert!(files.0.values().map(Vec::len).sum::<usize>() < 300_000, "a golden log is small");
    let folder = folder(name);
    let mut golden = Directory::new(&folder);
    if std::env::var_os("GARANT_GOLDEN").is_some_and(|what| what == "write") {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("removed");
        }
        files.0.iter().for_each(|(path, bytes)| golden.write(path, bytes).expect("written"));
    }
    for (path, bytes) in &files.0 {
        let there = golden.read(path).expect("readable");
        assert!(
            there.as_ref() == Some(bytes),
            "`{path}` of the golden log {name} is not what the story makes: either the format was changed by mistake, or, \
             before 0.1 is released, make it again with GARANT_GOLDEN=write and say in CHANGELOG.md what changed"
        );
    }
}

pub(super) fn trust(vkey: &str) -> Trust {
    Trust { vkey: Some(vkey.parse().expect("a key")), ..Trust::default() }
}

/// What `garant verify` does.
pub(super) fn verify(source: &dyn ExportSource, trust: &Trust) -> Result<(Report, Rechecked), AuditError> {
    let mut recheck = Recheck::new();
    let mut entry = |entry: journal::audit::Audited| {
        if entry.envelope.is_none() && entry.leaf.is_public() {
            recheck.destroyed(entry.sequence, &entry.leaf.coarse, entry.leaf.hour);
        } else {
            recheck.entry(entry.sequence, entry.envelope.as_ref());
        }
    };
    let report = audit(source, trust, &mut entry, &mut |_, _| ())?;
    let rechecked = recheck.finish(report.size);
    Ok((report, rechecked))
}

/// As long as 0.1 is not released, its golden log is what this code makes of the story.
#[test]
fn the_golden_log_is_what_the_story_makes() {
    let story = story();
    let kinds = ["absence", "availability", "configuration", "coverage", "freshness", "reaction"];
    for (kind, outcome) in
        kinds.iter().flat_map(|k| [Outcome::Kept, Outcome::Broken, Outcome::Unproven].map(|o| (k, o)))
    {
        assert!(story.outcomes.contains(&((*kind).to_owned(), outcome)), "{kind} is never {outcome:?}");
    }
    same_as_golden("0.1", &story.log.export());
}

/// Everything holds: the tree, the keys, the witness, and every verdict.
#[test]
fn the_golden_log_of_0_1_still_verifies() {
    let golden = Directory::new(folder("0.1"));
    let (report, rechecked) = verify(&golden, &trust(PINNED)).expect("golden");
    assert_eq!(report.authenticity, Authenticity::Authenticated);
    assert_eq!(report.remarks, Vec::<String>::new());
    assert_eq!(report.cosigned_by.len(), 1);
    assert_eq!(report.destroyed_days.len(), 1);
    assert!(report.destroyed > 10 && report.withheld > 3 && report.verdicts == 7, "{report:?}");
    assert_eq!(rechecked.faults, []);
    assert_eq!((rechecked.verdicts, rechecked.out_of_reach), (33, 6), "those of the second day look back to the first");
    let of_another = trust(&test_key(1, ORIGIN).vkey().to_string());
    assert!(verify(&golden, &of_another).is_err());
}

/// One verdict turned round by somebody who has the key: the tree holds, the verdict does not follow.
#[test]
fn one_verdict_flipped_in_it_is_found() {
    let mut story = story();
    let flipped = (0..story.log.entries.len() as u64).rev().find_map(|sequence| {
        let verdict = story.log.envelope(sequence)?.body::<Verdict>()?.expect("readable");
        (verdict.outcome == Outcome::Broken).then_some((sequence, Verdict { outcome: Outcome::Kept, ..verdict }))
    });
    let (flipped, verdict) = flipped.expect("one is broken");
    let all = std::mem::take(&mut story.log.entries);
    for (sequence, entry) in (0..).zip(all) {
        if sequence == flipped {
            let payload = entry.payload.as_deref().expect("there");
            let mut envelope = event::Envelope::decode(payload).expect("an envelope");
            envelope.body = serde_json::value::to_raw_value(&verdict).expect("serialises");
            story.log.append_envelope(&entry.leaf.coarse, &envelope);
        } else {
            story.log.entries.push(entry);
        }
    }
    // The holder of the keys signs the note of the rotation anew, too.
    let size = Checkpoint::of_note(&story.log.rotations[0]).expect("a checkpoint").size;
    let both = Log { keys: vec![test_key(42, ORIGIN), test_key(43, ORIGIN)], ..story.log.clone() };
    story.log.rotations = vec![both.checkpoint(usize::try_from(size).expect("small"))];
    let files: Files = story.log.export();
    let key = story.log.keys[0].vkey().to_string();
    let (report, rechecked) = verify(&files, &trust(&key)).expect("the tree holds");
    assert_eq!(report.authenticity, Authenticity::Authenticated);
    assert!(
        matches!(&rechecked.faults[..], [VerdictFault::Mismatch { sequence, .. }] if *sequence == flipped),
        "{:?}",
        rechecked.faults
    );
}
