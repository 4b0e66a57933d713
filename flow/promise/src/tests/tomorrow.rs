//! The log of tomorrow: what a later release may write, and this one must neither blame nor confirm.
//!
//! The log has whatever may be added without a new format: keys, words, kinds, versions, classes, an objective, an evaluator. It
//! stands among the golden logs, so that verifiers of all languages are shown it:
//!
//! ```sh
//! GARANT_GOLDEN=write cargo test -p garant-promise tomorrow
//! ```

use event::evidence::{Changed, Covered, Reacted, State};
use event::policy::{Agreement, Applied, Clause, Probe, Promise, Service, Text};
use event::promise::{Outcome, Verdict};
use event::{Body as _, Day, Span, Time};
use journal::testing::{Files, Log};

use super::golden::{folder, same_as_golden, trust, verify};
use super::scene::{name, percent, s};
use crate::audit::{NotJudged, Standing};
use crate::objective::{Availability, Objective};
use crate::revision::Revision;
use crate::{EVALUATOR, Judge};

const ORIGIN: &str = "tomorrow.example/1";

struct Tomorrow {
    log: Log,
    judge: Judge,
    revision: String,
}

/// Members added behind the first of an object that begins with its revision, and the revision made right.
fn with(json: &str, from: &str, to: &str) -> String {
    assert!(json.contains(from), "{json} has no {from}");
    renamed(&json.replacen(from, to, 1))
}

fn renamed(json: &str) -> String {
    let Revision { claimed, computed } = Revision::of(json).expect("it comes first");
    json.replacen(&claimed, &computed, 1)
}

/// The policy as this release would write it, and what another has added to it.
fn policy() -> String {
    let probe = |id: &str, service: &str| Probe {
        id: name(id),
        kind: "http".into(),
        service: name(service),
        every: s(60),
        observers: [name("here")].into(),
        agreement: Agreement::Any,
    };
    let over = s(1800);
    let availability = |service: &str| {
        Clause::from(&Objective::Availability(Availability { service: name(service), at_least: percent("50 %"), over }))
    };
    let promise = |id: &str, objectives: Vec<Clause>| {
        let text = Text { fr: id.to_owned(), en: id.to_owned() };
        let mut promise = Promise { revision: "0".repeat(16), id: name(id), text, objectives };
        promise.revision = crate::revision::of_promise(&promise);
        promise
    };
    let promises = vec![
        promise("AV-1", vec![availability("shop")]),
        promise("AV-2", vec![availability("mail")]),
        promise("AV-3", vec![availability("shop"), availability("shop")]),
    ];
    let mut applied = Applied {
        revision: "0".repeat(16),
        services: ["shop", "mail"].map(|id| Service { id: name(id), title: Text::default() }).into(),
        probes: vec![probe("front", "shop"), probe("smtp", "mail")],
        findings: vec![],
        maintenance: vec![],
        promises,
    };
    applied.revision = crate::revision::of_policy(&applied);
    let third = serde_json::to_string(&applied.promises[2]).expect("serialises");
    let known = r#"{"objective":"availability","service":"shop","at_least":500000000,"over":1800000000}"#;
    let changed = with(
        &third,
        &format!("[{known},{known}]"),
        r#"[{"objective":"restore","backup":"shop-db","within":14400000000,"over":1800000000},{"objective":"availability","service":"shop","at_least":500000000,"over":1800000000,"nights":false}],"severity":"high""#,
    );
    let all = serde_json::to_string(&applied).expect("serialises");
    let all = with(&all, &third, &changed);
    let all = with(&all, r#""services":"#, r#""zones":[{"id":"eu"}],"services":"#);
    // The probe of the mail service: the last that says so.
    let smtp = r#""observers":["here"],"agreement":"any"}],"#;
    with(&all, smtp, r#""observers":["here"],"agreement":"two_regions","weight":2}],"#)
}

impl Tomorrow {
    fn write(&mut self, kind: &str, version: u16, coarse: &str, body: &str) -> u64 {
        self.log.advance(Span::from_secs(1));
        let sequence = self.log.append_text(kind, version, coarse, body);
        self.judge.apply(sequence, &self.log.envelope(sequence).expect("there")).expect("no fault");
        sequence
    }

    fn changed(&mut self, probe: &str, word: &str) {
        let at = self.log.now;
        let service = if probe == "front" { name("shop") } else { name("mail") };
        let body = Changed { probe: name(probe), service, state: State::Up, after: at, by: at };
        let body = serde_json::to_string(&body).expect("serialises").replace("\"up\"", &format!("\"{word}\""));
        self.write(Changed::KIND.name, 1, Changed::KIND.name, &body);
    }

    fn covered(&mut self, minutes: i64) {
        for _ in 0..minutes {
            let start = self.log.now;
            self.log.advance(Span::from_secs(60));
            let interval = event::Interval::new(start, self.log.now);
            let body = Covered { interval, revision: self.revision.clone(), every: None, gaps: vec![] };
            let body =
                serde_json::to_string(&body).expect("serialises").replace("\"revision\"", "\"rounds\":3,\"revision\"");
            self.write(Covered::KIND.name, 1, Covered::KIND.name, &body);
        }
    }

    fn verdict(&mut self, promise: &str) -> Verdict {
        self.judge.verdict(&name(promise), 0, self.log.now).expect("declared, and known")
    }

    fn say(&mut self, version: u16, verdict: &Verdict, alter: impl Fn(String) -> String) -> u64 {
        let body = alter(serde_json::to_string(verdict).expect("serialises"));
        self.write(Verdict::KIND.name, version, Verdict::KIND.name, &body)
    }
}

/// Everything that can be new, and after it a verdict on each objective that this release knows.
fn story() -> Tomorrow {
    let policy = policy();
    let revision = Revision::of(&policy).expect("it comes first").claimed;
    let mut tomorrow = Tomorrow { log: Log::new(ORIGIN, 50), judge: Judge::new(), revision };
    // A kind of tomorrow, in a class of tomorrow, whose payload is gone.
    tomorrow.write("gate.counted", 1, "gate.counted", r#"{"good":3,"bad":0}"#);
    let day = tomorrow.log.now.day();
    let gone = tomorrow.log.entries.len() - 1;
    tomorrow.write(Applied::KIND.name, 1, Applied::KIND.name, &policy);
    tomorrow.changed("front", "up");
    tomorrow.changed("smtp", "up");
    tomorrow.covered(10);
    tomorrow.changed("front", "limping");
    tomorrow.write(Changed::KIND.name, 2, Changed::KIND.name, r#"{"probes":["front"],"state":7}"#);
    tomorrow.write("gate.counted", 3, "gate.counted", r#"{"good":[3]}"#);
    tomorrow.write("guard.banned", 1, "team:records", "{}");
    let now = tomorrow.log.now.micros();
    let blind = format!(r#"{{"engine":"watch","interval":{{"start":{now},"end":{now}}},"cause":"migrated"}}"#);
    tomorrow.write("engine.blind", 1, "engine.blind", &blind);
    let reacted = format!(r#"{{"to":"drill","team":"night","since":{now},"at":{now}}}"#);
    tomorrow.write(Reacted::KIND.name, 1, Reacted::KIND.name, &reacted);
    tomorrow.covered(2);
    tomorrow.changed("front", "up");
    tomorrow.covered(5);
    for (kind, entries) in [("journal.destruction_intended", 1), ("journal.destroyed", 1)] {
        let body = format!(r#"{{"class":"counters","day":{},"entries":{entries},"why":"quota"}}"#, Day::days(day));
        tomorrow.write(kind, 1, kind, &body);
    }
    tomorrow.log.entries[gone].payload = None;
    // Words and rules of another evaluator; then what this one says.
    let verdict = Verdict { evaluator: EVALUATOR + 1, ..tomorrow.verdict("AV-1") };
    tomorrow.say(1, &verdict, |body| {
        body.replace("\"kept\"", "\"kept_so_far\"").replace("\"ppb\"", "\"ppt\"").replace("window_filling", "young")
    });
    for promise in ["AV-1", "AV-2"] {
        let verdict = tomorrow.verdict(promise);
        tomorrow.say(1, &verdict, |body| body.replace("\"outcome\"", "\"confidence\":3,\"outcome\""));
    }
    tomorrow
}

/// The newest verdicts by rules, in versions and on objectives of tomorrow.
fn not_judged(tomorrow: &mut Tomorrow) {
    let verdict = tomorrow.verdict("AV-1");
    tomorrow.say(2, &verdict, |body| body.replace("\"figure\":{", "\"figure\":{\"median\":1,"));
    let verdict = Verdict { evaluator: EVALUATOR + 1, ..tomorrow.verdict("AV-2") };
    tomorrow.say(1, &verdict, |body| body.replace("\"unproven\"", "\"excused\""));
    let promises = &tomorrow.judge.policy().expect("in effect").promises;
    let revision = promises[2].revision.clone();
    for objective in [0, 1] {
        let verdict =
            Verdict { promise: name("AV-3"), revision: revision.clone(), objective, ..tomorrow.verdict("AV-1") };
        tomorrow.say(1, &verdict, |body| body);
    }
}

fn log_of(tomorrow: &Tomorrow) -> (Files, String) {
    (tomorrow.log.export(), tomorrow.log.keys[0].vkey().to_string())
}

/// What is new bears on no verdict of this release: all of them are computed again, and the old ones in between do not matter.
#[test]
fn what_is_only_new_is_passed_over() {
    let tomorrow = story();
    let (files, key) = log_of(&tomorrow);
    let (report, rechecked) = verify(&files, &trust(&key)).expect("no fault");
    assert_eq!((&report.remarks[..], report.destroyed, report.verdicts), (&[][..], 1, 2));
    let unknown: Vec<_> = report.unknown_kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(unknown, [("evidence.changed", 1), ("gate.counted", 1)]);
    assert_eq!(rechecked.faults, []);
    assert_eq!((rechecked.verdicts, rechecked.not_judged, rechecked.is_confirmed()), (2, 1, true));
    let outcomes: Vec<_> = rechecked.latest.iter().map(|latest| latest.verdict.as_ref().map(|v| v.outcome)).collect();
    assert_eq!(outcomes, [Some(Outcome::Kept), Some(Outcome::Unproven)], "unknown words are undecided");
}

/// Newest verdicts that this release can't judge are neither blamed nor confirmed, and each says why.
#[test]
fn the_log_of_tomorrow_is_not_confirmed() {
    let mut tomorrow = story();
    not_judged(&mut tomorrow);
    let (files, key) = log_of(&tomorrow);
    same_as_golden("tomorrow", &files);
    let (report, rechecked) =
        verify(&journal::audit::Directory::new(folder("tomorrow")), &trust(&key)).expect("no fault");
    assert_eq!((&report.remarks[..], report.verdicts), (&[][..], 4), "all are listed, judged or not");
    assert_eq!(rechecked.faults, []);
    assert_eq!((rechecked.verdicts, rechecked.not_judged, rechecked.is_confirmed()), (2, 5, false));
    let standings: Vec<_> = rechecked.latest.iter().map(|latest| latest.standing).collect();
    let expected = [
        NotJudged::Version(2),
        NotJudged::Evaluator(i64::from(EVALUATOR) + 1),
        NotJudged::Objective,
        NotJudged::Objective,
    ];
    assert_eq!(standings, expected.map(Standing::NotJudged));
    assert!(rechecked.policy_is_known && !rechecked.has_unknown);
}

/// Unknown or not, what was altered shows.
#[test]
fn an_objective_that_is_not_known_can_not_be_altered() {
    let mut tomorrow = story();
    let place = tomorrow.log.entries.iter().position(|entry| entry.leaf.coarse == Applied::KIND.name).expect("there");
    let mut envelope = tomorrow.log.envelope(place as u64).expect("there");
    envelope.body =
        serde_json::from_str(&envelope.body.get().replace("\"within\":144", "\"within\":900")).expect("JSON");
    let all = tomorrow.log.entries.split_off(place);
    tomorrow.log.append_envelope(Applied::KIND.name, &envelope);
    tomorrow.log.entries.extend(all.into_iter().skip(1));
    let (files, key) = log_of(&tomorrow);
    let (_, rechecked) = verify(&files, &trust(&key)).expect("the tree holds");
    assert_eq!(rechecked.faults.len(), 2, "the promise and the policy: {:?}", rechecked.faults);
    assert!(Time::default() < tomorrow.log.now);
}
