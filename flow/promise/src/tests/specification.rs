//! A stranger writes a verifier from `docs/log.md` and `docs/evaluator.md`: whatever he meets must be in there.

use std::collections::BTreeSet;

use event::engine::{Blind, BlindCause, ClockStepped};
use event::evidence::{self, Changed, Counted, Covered, Found, Gap, Reacted, ReactedTo, Restored, State};
use event::journal::{Continued, Destroyed, DestructionIntended, KeyAnnounced, KeyRetired, Opened};
use event::policy::Agreement;
use event::promise::{Figure, Outcome, Reason, Unit, Verdict};
use event::{Audience, Body, BootId, Day, InstallationId, Observed, Time};
use serde::Serialize;
use serde_json::Value;

use super::scene::*;
use crate::objective::{Answered, Limit, Objective};
use crate::{EVALUATOR, PromiseSection, audit, due, objective, observed, revision, ruling, section, steps};
use policy::Document;

const LOG: &str = include_str!("../../../../docs/log.md");
const EVALUATOR_MD: &str = include_str!("../../../../docs/evaluator.md");

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("serialises")
}

fn sample<B: Body>(body: &B) -> (&'static str, Value) {
    (B::KIND.name, value(body))
}

/// Every member that may be there is there.
fn samples() -> Vec<(&'static str, Value)> {
    let text = || "x".to_owned();
    let (at, interval, probe) = (t(1), between(0, 1), || name("http"));
    let applied = policy(
        vec![super::scene::probe("http", SHOP, &["a"], Agreement::Any)],
        vec![maintenance(0, 1)],
        vec![promise(&objectives())],
    );
    let verdict = Verdict {
        promise: name("AV-1"),
        revision: text(),
        objective: 0,
        evaluator: EVALUATOR,
        tree_size: 1,
        at,
        window: interval,
        outcome: Outcome::Kept,
        figure: Some(Figure { unit: Unit::Ppb, low: 0, high: 1, target: 1 }),
        reasons: reasons(),
        evidence: vec![0],
    };
    let changed = Changed { probe: probe(), service: name(SHOP), state: State::Up, after: at, by: at };
    let gaps = vec![Gap { probe: probe(), finding: None, interval }];
    let finding = Found { finding: name("disk-usage"), probe: probe(), open: true, after: at, by: at };
    let (class, day, entries) = (text(), Day::from_days(1), 1);
    let intended = DestructionIntended { class: class.clone(), day, entries };
    vec![
        sample(&applied),
        sample(&verdict),
        sample(&changed),
        sample(&Covered { interval, revision: text(), every: None, gaps }),
        sample(&evidence::Succeeded { probe: probe(), at }),
        sample(&finding),
        sample(&Reacted::to_failure(probe(), Some(name("disk-usage")), at, at)),
        sample(&Restored { probe: probe(), at, took: s(1), lost: s(1) }),
        sample(&count("http", 0, 1, &[(1, 1)])),
        sample(&ClockStepped { from: at, to: at }),
        sample(&Blind { engine: text(), interval, cause: BlindCause::Restart }),
        sample(&Opened { origin: text(), vkey: text() }),
        sample(&Continued { old_origin: text(), old_checkpoint: text(), old_size_at_hand: 1, reason: text() }),
        sample(&KeyAnnounced { vkey: text(), replaces: text() }),
        sample(&KeyRetired { vkey: text() }),
        sample(&intended),
        sample(&Destroyed { class, day, entries }),
    ]
}

/// One of each kind, as its example in the policy reads.
fn objectives() -> Vec<Objective> {
    let read = |(key, example): &(&str, &str)| {
        let text = format!("[[promise]]\nid = \"AV-1\"\ntext = {{ fr = \"oui\", en = \"yes\" }}\n{key} = {example}\n");
        let promise = Document::from_text("garant.toml", &text).tables::<PromiseSection>("promise").pop();
        let clause = promise.expect("the example reads").promise.objectives.pop().expect("one");
        let objective = Objective::of(&clause).expect("known");
        assert_eq!(value(&objective)["objective"], **key, "the word in the journal is the key in the policy");
        objective
    };
    objective::KEYS.iter().map(read).collect()
}

fn reasons() -> Vec<Reason> {
    vec![
        Reason::WindowFilling { elapsed: s(1), length: s(1) },
        Reason::Budget { used_at_least: s(1), used_at_most: s(1), of: s(1) },
        Reason::Unobserved { length: s(1) },
        Reason::Down { length: s(1), outages: 1 },
        Reason::Maintenance { length: s(1) },
        Reason::LoneObserver,
        Reason::NoEvidence,
        Reason::AtRisk,
    ]
}

/// The compiler misses the variants that are not listed.
macro_rules! listed {
    ($name:ident: $($variant:ident),+) => {
        const _: fn(&$name) = |of| match of { $($name::$variant { .. })|+ => {} };
    };
}

/// All variants of an enum of plain words.
macro_rules! every {
    ($name:ident: $($variant:ident),+) => {{
        listed!($name: $($variant),+);
        value(&[$($name::$variant),+])
    }};
}

/// Every word that is a value.
fn words() -> Vec<Value> {
    listed!(Reason: WindowFilling, Budget, Unobserved, Down, Maintenance, LoneObserver, NoEvidence, AtRisk);
    listed!(ReactedTo: Failure, Test, Offence, Delivered, Acknowledged, Other);
    listed!(Answered: Failures, Offences);
    listed!(Agreement: Majority, Any, All, Other);
    let plain = [
        every!(State: Up, Degraded, Down, Flapping),
        value(&[Agreement::Majority, Agreement::Any, Agreement::All]),
        value(&[
            ReactedTo::Failure,
            ReactedTo::Test,
            ReactedTo::Offence,
            ReactedTo::Delivered,
            ReactedTo::Acknowledged,
        ]),
        value(&[Answered::Failures, Answered::Offences]),
        every!(Limit: Every, Within, LosesAtMost),
        every!(Outcome: Kept, Broken, Unproven),
        every!(Unit: Ppb, Micros, Count),
        every!(BlindCause: Restart, Frozen, Stopped, Suspended, Storage, Uplink),
    ];
    let plain = plain.into_iter().flat_map(|words| words.as_array().cloned().unwrap_or_default());
    let tagged = reasons().iter().map(|reason| value(reason)["reason"].clone()).collect::<Vec<_>>();
    let objectives = objectives().iter().map(|objective| value(objective)["objective"].clone()).collect::<Vec<_>>();
    plain.chain(tagged).chain(objectives).collect()
}

fn keys(of: &Value, into: &mut BTreeSet<String>) {
    match of {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, into)),
        _ => {}
    }
}

/// Named as code on its own, or as a member of the JSON shown.
fn names(document: &str, word: &str) -> bool {
    document.contains(&format!("`{word}`")) || document.contains(&format!("\"{word}\":"))
}

#[test]
fn the_specification_names_every_kind_and_key() {
    for kind in event::kinds() {
        assert!(LOG.contains(&format!("`{}`", kind.name)), "docs/log.md does not name {}", kind.name);
    }
    let public: BTreeSet<_> =
        event::kinds().iter().filter(|kind| kind.audience == Audience::Public).map(|kind| kind.name).collect();
    let samples = samples();
    assert_eq!(samples.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>(), public, "a sample of each public kind");
    for (kind, body) in &samples {
        for key in body.as_object().expect("an object").keys() {
            assert!(names(LOG, key), "docs/log.md does not name `{key}` of {kind}");
        }
        let nested = &mut BTreeSet::new();
        keys(body, nested);
        for key in nested.iter().filter(|_| !kind.starts_with("journal.")) {
            assert!(names(EVALUATOR_MD, key), "docs/evaluator.md does not name `{key}` of {kind}");
        }
    }
    for word in words() {
        let word = word.as_str().expect("a word");
        assert!(names(EVALUATOR_MD, word), "docs/evaluator.md does not name the word `{word}`");
    }
}

#[test]
fn the_specification_names_every_key_of_an_envelope() {
    let (installation, boot) = (InstallationId::from_bytes([1; 16]), BootId::from_bytes([2; 16]));
    let body = ClockStepped { from: Time::default(), to: Time::default() };
    let mut observed = Observed::new(&body, name("a"), boot, 0, t(0)).expect("serialises");
    observed.signature = Some("x".to_owned());
    let envelope = value(&observed.record(installation, "shop.example/1", t(0)));
    for key in envelope.as_object().expect("an object").keys() {
        assert!(names(LOG, key), "docs/log.md does not name the key `{key}`");
    }
}

/// Every constant of the evaluator stands in the table, with its value.
#[test]
fn the_specification_names_every_constant() {
    let named = [
        ("EVALUATOR", EVALUATOR.to_string()),
        ("SKEW", observed::SKEW.to_string()),
        ("LATE", observed::LATE.to_string()),
        ("COUNTED_EVERY", Counted::EVERY.to_string()),
        ("REVISED_MAX", steps::REVISED_MAX.to_string()),
        ("CITED_MAX", ruling::CITED_MAX.to_string()),
        ("COVERAGE_CITED_MAX", ruling::COVERAGE_CITED_MAX.to_string()),
        ("BEHIND_MAX", audit::BEHIND_MAX.to_string()),
        ("OLD_MAX", audit::OLD_MAX.to_string()),
        ("LAPSE", audit::LAPSE.to_string()),
        ("SILENCE_MAX", audit::SILENCE_MAX.to_string()),
        ("LOOK_EVERY", audit::LOOK_EVERY.to_string()),
        ("RETOLD_WITHIN", audit::RETOLD_WITHIN.to_string()),
        ("FAULTS_MAX", audit::FAULTS_MAX.to_string()),
        ("DAILY", due::DAILY.to_string()),
        ("ENOUGH", objective::ENOUGH.to_string()),
        ("WINDOW_MIN", objective::WINDOW_MIN.to_string()),
        ("WINDOW_MAX", objective::WINDOW_MAX.to_string()),
        ("OBJECTIVES_MAX", section::OBJECTIVES_MAX.to_string()),
    ];
    for (name, value) in &named {
        let row = format!("| `{name}` | {value} |");
        assert!(EVALUATOR_MD.contains(&row), "docs/evaluator.md has no row {row}");
    }
    // The ends of time are no rule, nor is how a fold is kept, nor when people are told that something began.
    let all: BTreeSet<&str> = named
        .iter()
        .map(|(name, _)| *name)
        .chain(["BEGINNING", "END", "LOOK_BACK", "FORMAT", "ROW_BYTES_MAX", "BUCKETS", "HEAD"])
        .chain(["BEGAN_WITHIN", "BLIND_KEPT", "WATCH", "RULES", "HEARTBEAT", "BACKUP", "GATE"])
        .collect();
    let folders = [concat!(env!("CARGO_MANIFEST_DIR"), "/src"), concat!(env!("CARGO_MANIFEST_DIR"), "/src/objective")];
    for file in folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder")) {
        let path = file.expect("an entry").path();
        let Ok(source) = std::fs::read_to_string(&path) else { continue };
        let declared = source.lines().filter_map(|line| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            line.strip_prefix("const ")?.split_once(':').map(|(name, _)| name)
        });
        for constant in declared.filter(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')) {
            assert!(all.contains(constant), "{}: `{constant}` is not in docs/evaluator.md", path.display());
        }
    }
}

/// The bytes that are hashed, as the document shows them.
#[test]
fn the_digest_is_the_one_in_the_document() {
    let shown = |start: &str| EVALUATOR_MD.lines().find(|line| line.starts_with(start)).expect("an example");
    let revision = revision::Revision::of(shown(r#"{"revision":"#)).expect("it comes first");
    assert_eq!(
        revision,
        revision::Revision::of(&shown(r#"{"id":"BK-1""#).replacen(
            '{',
            &format!(r#"{{"revision":"{}","#, revision.claimed),
            1
        ))
        .expect("cut")
    );
    assert!(revision.holds());
    let named = format!("is revision `{}`", revision.computed);
    assert!(EVALUATOR_MD.contains(&named), "docs/evaluator.md should say: {named}");
}
