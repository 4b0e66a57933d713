//! Drawn logs, honest and not, verified by two programs that share no line: this crate, and `tests/verify-go`, which was
//! written from `docs/evaluator.md` alone (BX-1, BX-4).

use std::path::{Path, PathBuf};
use std::process::Output;

use drawn::Draws;
use event::evidence::Covered;
use event::promise::Verdict;
use event::{Body, BootId, InstallationId, Observed, ObserverId, Time};
use journal::audit::Directory;
use journal::testing::{Files, Log, spoiled};
use serde_json::Value;

use super::golden::{trust, verify};
use super::random::{SECONDS, some_log};
use super::scene::*;
use crate::Judge;
use crate::fact::Fact;

const ORIGIN: &str = "stranger.example/1";

#[expect(clippy::disallowed_methods, reason = "a compiler, and a verifier that is not ours")]
fn run(program: &Path, arguments: &[&str], folder: &Path) -> Output {
    std::process::Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")])
        .output()
        .unwrap_or_else(|error| panic!("{} does not start; scripts/test installs it: {error}", program.display()))
}

/// A log in the making, and the judge of it.
struct Writer {
    log: Log,
    judge: Judge,
}

impl Writer {
    fn begin() -> Self {
        let mut log = Log::new(ORIGIN, 1);
        log.entries.clear();
        log.now = t(0);
        let opened = event::journal::Opened { origin: ORIGIN.to_owned(), vkey: log.keys[0].vkey().to_string() };
        log.append(&opened);
        let mut judge = Judge::default();
        judge.skip(0);
        Self { log, judge }
    }

    fn append<B: Body>(&mut self, body: &B, observer: &ObserverId, recorded_at: Time) -> u64 {
        let sequence = self.log.entries.len() as u64;
        let observed = Observed::new(body, observer.clone(), BootId::from_bytes([7; 16]), sequence, recorded_at);
        let envelope = observed.expect("serialises").record(InstallationId::from_bytes([9; 16]), ORIGIN, recorded_at);
        self.log.append_envelope(&B::KIND.coarse(), &envelope)
    }

    fn tell(&mut self, Entry { recorded_at, observer, fact }: &Entry) {
        let (observer, at) = (observer, *recorded_at);
        let sequence = match fact {
            Fact::Applied(body) => self.append(&**body, observer, at),
            Fact::Changed(body) => self.append(body, observer, at),
            Fact::Covered(body) => self.append(body, observer, at),
            Fact::Succeeded(body) => self.append(body, observer, at),
            Fact::Found(body) => self.append(body, observer, at),
            Fact::Reacted(body) => self.append(body, observer, at),
            Fact::Restored(body) => self.append(body, observer, at),
            Fact::Counted(body) => self.append(body, observer, at),
            Fact::ClockStepped(body) => self.append(body, observer, at),
        };
        self.judge.fold(sequence, observer, at, fact);
    }

    /// Writes a verdict on every objective, as of `at`; returns how many.
    fn judge(&mut self, at: Time, recorded_at: Time) -> usize {
        let verdicts = self.judge.verdicts(at);
        for verdict in &verdicts {
            let sequence = self.append(verdict, &name("server"), recorded_at);
            self.judge.skip(sequence);
        }
        verdicts.len()
    }
}

/// A story in the order in which it was recorded, judged now and then. With the log, how many verdicts are in it.
fn some_judged_log(draws: &mut Draws) -> (Log, usize) {
    let mut entries = some_log(draws).entries;
    entries.sort_by_key(|entry| entry.recorded_at);
    let (mut writer, mut verdicts) = (Writer::begin(), 0);
    for entry in &entries {
        writer.tell(entry);
        if draws.chance(3) && writer.judge.policy().is_some() {
            verdicts += writer.judge(entry.recorded_at - s(draws.below(30)), entry.recorded_at);
        }
    }
    for at in [SECONDS - draws.below(30), SECONDS] {
        verdicts += writer.judge(t(at), t(SECONDS));
    }
    (writer.log, verdicts)
}

/// Every way to say another thing in one place of a verdict.
fn altered(body: &Value, draws: &mut Draws) -> Value {
    let mut altered = body.clone();
    let keys = ["at", "window", "outcome", "figure", "reasons", "evidence", "revision", "tree_size"];
    match draws.pick(&keys) {
        "outcome" => {
            let others = ["kept", "broken", "unproven"].into_iter().filter(|word| body["outcome"] != **word);
            altered["outcome"] = draws.pick(&others.collect::<Vec<_>>()).into();
        }
        "window" => altered["window"]["start"] = (body["window"]["start"].as_i64().expect("an instant") - 1).into(),
        "figure" if body["figure"].is_object() => {
            let which = draws.pick(&["low", "high", "target"]);
            altered["figure"][which] = (body["figure"][which].as_i64().expect("a number") + 1).into();
        }
        "figure" => altered["figure"] = serde_json::json!({ "unit": "ppb", "low": 0, "high": 0, "target": 0 }),
        list @ ("reasons" | "evidence") => {
            let more = if list == "reasons" { serde_json::json!({ "reason": "at_risk" }) } else { 0.into() };
            altered[list].as_array_mut().expect("a list").push(more);
        }
        "revision" => altered["revision"] = "0123456789abcdef".into(),
        "at" => altered["at"] = (body["at"].as_i64().expect("an instant") + 3_600_000_000).into(),
        _ => altered["tree_size"] = (body["tree_size"].as_i64().expect("a size") + 100_000).into(),
    }
    altered
}

/// One verdict of the log says something else, and the log's key signs it.
fn forged(honest: &Log, draws: &mut Draws) -> Log {
    let verdicts: Vec<usize> = honest
        .entries
        .iter()
        .enumerate()
        .filter_map(|(place, entry)| (entry.leaf.coarse == Verdict::KIND.name).then_some(place))
        .collect();
    let place = draws.pick(&verdicts);
    let mut log = honest.clone();
    let mut envelope = honest.envelope(place as u64).expect("there");
    let body = altered(&serde_json::from_str(envelope.body.get()).expect("JSON"), draws);
    envelope.body = serde_json::value::to_raw_value(&body).expect("serialises");
    let after = log.entries.split_off(place);
    log.append_envelope(Verdict::KIND.name, &envelope);
    log.entries.extend(after.into_iter().skip(1));
    log
}

/// The verifier in Go, built in a folder of its own.
struct Stranger {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Stranger {
    fn build() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/verify-go");
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("verify-go");
        let built = run(Path::new("go"), &["build", "-o", program.to_str().expect("UTF-8"), "."], &source);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { folder, program }
    }

    /// Its exit code on this log, and what it says.
    fn verify(&self, log: &Log) -> (Option<i32>, String) {
        let to = self.folder.path().join("export");
        assert!(log.export_to(&mut Directory::new(&to)), "exported");
        let key = log.keys[0].vkey().to_string();
        let said = run(&self.program, &[to.to_str().expect("UTF-8"), &key], self.folder.path());
        std::fs::remove_dir_all(&to).expect("removed");
        let text = [said.stdout, said.stderr].concat();
        (said.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// The holder of the key commits to what he wants, in any field of any entry: both programs make the same of it.
#[test]
fn a_stranger_refuses_the_same_logs() {
    let stranger = Stranger::build();
    let mut codes = std::collections::BTreeMap::<i32, usize>::new();
    for seed in 0..2 * drawn_logs() {
        let mut draws = Draws::of(900_000 + seed);
        let (mut log, _) = some_judged_log(&mut draws);
        let place = draws.below(log.entries.len());
        let entry = &mut log.entries[place];
        let payload = entry.payload.take().expect("there");
        let envelope: Value = serde_json::from_slice(&payload).expect("JSON");
        let ways = spoiled(&envelope);
        let envelope = ways[draws.below(ways.len())].clone();
        let payload = envelope.to_string().into_bytes();
        entry.leaf.commitment = journal::seal::commitment(&entry.salt, &payload);
        let recorded_at = envelope["recorded_at"].as_i64();
        entry.leaf.hour = recorded_at.map_or(entry.leaf.hour, |micros| Time::from_micros(micros).hour());
        entry.payload = Some(payload);
        let what = format!("seed {seed}, entry {place}: {envelope}");

        let (code, said) = stranger.verify(&log);
        let ours = verify(&log.export(), &trust(&log.keys[0].vkey().to_string()));
        let (expect, why) = match &ours {
            Err(error) => (1, error.to_string()),
            Ok((_, rechecked)) if !rechecked.faults.is_empty() => (1, format!("{:?}", rechecked.faults[0])),
            Ok((_, rechecked)) if rechecked.is_confirmed() => (0, String::new()),
            Ok((report, _)) => (4, format!("{report:?}")),
        };
        assert_eq!(code, Some(expect), "{what}\nhere: {why}\nthere: {said}");
        *codes.entry(expect).or_default() += 1;
    }
    println!("{codes:?}");
    assert!(codes[&1] > 10 && codes[&0] > 0, "{codes:?}: the draws reach too little");
}

#[test]
fn a_stranger_computes_the_same_verdicts() {
    let stranger = Stranger::build();
    let (mut computed, mut covered) = (0, 0);
    for seed in 0..drawn_logs() {
        let mut draws = Draws::of(500_000 + seed);
        let (log, verdicts) = some_judged_log(&mut draws);
        let key = trust(&log.keys[0].vkey().to_string());
        let files: Files = log.export();
        let (_, rechecked) = verify(&files, &key).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(rechecked.faults, [], "seed {seed}");
        assert_eq!(rechecked.verdicts, verdicts as u64, "seed {seed}");
        let (code, said) = stranger.verify(&log);
        assert_eq!(code, Some(0), "seed {seed}: {said}");
        assert!(said.contains(&format!("verdicts: {verdicts} computed again")), "seed {seed}: {said}");
        computed += verdicts;
        covered += log.entries.iter().filter(|entry| entry.leaf.coarse == Covered::KIND.name).count();

        let forged = forged(&log, &mut draws);
        let (_, rechecked) = verify(&forged.export(), &key).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(!rechecked.faults.is_empty(), "seed {seed}: a forged verdict passes here");
        let (code, said) = stranger.verify(&forged);
        assert_eq!(code, Some(1), "seed {seed}: a forged verdict passes there: {said}");
    }
    println!("{computed} verdicts computed again by both, over {covered} records");
    assert!(computed > 300 && covered > 300, "{computed} verdicts, {covered} records: the draws reach too little");
}

/// How many logs are drawn; `GARANT_LOGS` says so for a campaign.
fn drawn_logs() -> u64 {
    std::env::var("GARANT_LOGS").ok().and_then(|count| count.parse().ok()).unwrap_or(20)
}
