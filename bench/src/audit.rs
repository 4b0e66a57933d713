//! Verification of a log of a million entries: hashing beside the crate `tlog_tiles`, `garant verify` beside the verifier in
//! Go of `tests/verify-go`.

use std::process::Stdio;

use event::evidence::{Changed, Covered, State};
use event::journal::Opened;
use event::policy::{Applied, Clause, Probe, Promise, Service, Text};
use event::{Body, BootId, InstallationId, Interval, Observed, ObserverId, Ppb, Span, Time};
use journal::Hash;
use journal::audit::Directory;
use journal::checkpoint::Checkpoint;
use journal::disclosure::Disclosure;
use journal::export::{ExportWriter, Extras, ListedVerdict};
use journal::leaf::Leaf;
use journal::note::SigningKey;
use journal::seal::commitment;
use journal::tlog_proof::TlogProof;
use journal::tree::{Frontier, HashSource, leaf_hash};
use promise::objective::{Availability, Objective};
use tlog_tiles::tlog;

use crate::process::{Process, garant, now};
use crate::{Outcome, row};

const ENTRIES: u64 = 1_000_000;
const ORIGIN: &str = "bench.example/1";

pub(crate) fn run() -> Outcome {
    let folder = tempfile::Builder::new().prefix("garant-bench-").tempdir_in(".")?;
    let (leaves, vkey) = write_export(folder.path())?;

    let start = now();
    let mut frontier = Frontier::new();
    for leaf in &leaves {
        frontier.push(leaf_hash(leaf));
    }
    let (root, ours) = (frontier.root(), start.elapsed().as_secs_f64());
    let (peer_root, peer) = tlog_root(&leaves)?;
    if root.as_bytes() != &peer_root {
        return Err("the two roots differ".into());
    }
    row(&format!("tlog_tiles: hash {ENTRIES} leaves to the same root"), &format!("{peer:.2} s"), "the peer");
    row(&format!("hashing audit of {ENTRIES} entries"), &format!("{ours:.2} s"), "≤ 2 s");
    row("ratio", &format!("{:.1} × as fast", peer / ours), "–");

    let binary = garant()?;
    let export = folder.path().join("export");
    let start = now();
    let verified = Process::command(&binary)
        .args(["verify", "--vkey", &vkey])
        .arg(&export)
        .args(["--max-age", "any"])
        .stdout(Stdio::null())
        .status()?;
    let ours = start.elapsed().as_secs_f64();
    if verified.code() != Some(0) {
        return Err("the export does not verify".into());
    }
    let go = folder.path().join("verify-go");
    let built = Process::command("go")
        .args(["build", "-o"])
        .arg(&go)
        .arg(".")
        .current_dir("tests/verify-go")
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .status()?;
    if !built.success() {
        return Err("the Go verifier does not build; scripts/test installs what it needs".into());
    }
    let start = now();
    let by_go = Process::command(&go).arg(&export).arg(&vkey).stdout(Stdio::null()).status()?;
    let peer = start.elapsed().as_secs_f64();
    if !by_go.success() {
        return Err("the Go verifier refuses the export".into());
    }
    row("the Go verifier of `tests/verify-go`, every verdict recomputed", &format!("{peer:.2} s"), "the peer");
    row("garant verify, every verdict recomputed", &format!("{ours:.2} s"), "≤ 10 s");
    row("ratio", &format!("{:.1} × as fast", peer / ours), "–");
    Ok(())
}

/// The root as `tlog_tiles` computes it, and the seconds that it took.
fn tlog_root(leaves: &[Vec<u8>]) -> Result<([u8; 32], f64), Box<dyn std::error::Error>> {
    struct Stored(Vec<tlog::Hash>);
    impl tlog::HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
            Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap_or_default()]).collect())
        }
    }
    let start = now();
    let mut stored = Stored(Vec::new());
    let stored_leaves = leaves.len() as u64;
    for (number, leaf) in (0..).zip(leaves) {
        let hashes = tlog::stored_hashes(number, leaf, &stored).map_err(|error| format!("{error:?}"))?;
        stored.0.extend(hashes);
    }
    let root = tlog::tree_hash(stored_leaves, &stored).map_err(|error| format!("{error:?}"))?;
    Ok((root.0, start.elapsed().as_secs_f64()))
}

/// Leaf hashes as a source of subtrees, which are computed at each call.
struct Leaves<'a>(&'a [Hash]);

impl HashSource for Leaves<'_> {
    type Error = std::convert::Infallible;
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        let width = 1_usize << level;
        let start = usize::try_from(index).unwrap_or_default() * width;
        let mut frontier = Frontier::new();
        for hash in &self.0[start..start + width] {
            frontier.push(*hash);
        }
        Ok(frontier.root())
    }
}

/// The leaves of an export, and the verifier key of its log.
type Export = (Vec<Vec<u8>>, String);

/// Writes the export of a log to `folder`/export: a site that three observers look at each minute, until there are [`ENTRIES`],
/// with a short outage every 5,000 minutes and a verdict every six hours.
fn write_export(folder: &std::path::Path) -> Result<Export, Box<dyn std::error::Error>> {
    let key = SigningKey::generate([7; 32], ORIGIN)?;
    let observers: Vec<ObserverId> =
        ["gravelines", "strasbourg", "witness"].iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
    let text = |words: &str| Text { fr: words.to_owned(), en: words.to_owned() };
    let mut promise = Promise {
        id: "AV-1".parse()?,
        revision: String::new(),
        text: text("available"),
        objectives: vec![Clause::from(&Objective::Availability(Availability {
            service: "shop".parse()?,
            at_least: Ppb::new(999_900_000),
            over: Span::from_days(365),
        }))],
    };
    promise.revision = promise::revision::of_promise(&promise);
    let mut policy = Applied {
        revision: String::new(),
        services: vec![Service { id: "shop".parse()?, title: text("shop") }],
        probes: vec![Probe {
            id: "shop-answers".parse()?,
            kind: "http".into(),
            service: "shop".parse()?,
            every: Span::from_secs(10),
            observers: observers.clone().into(),
            agreement: event::policy::Agreement::Majority,
        }],
        findings: Vec::new(),
        maintenance: Vec::new(),
        promises: vec![promise],
    };
    policy.revision = promise::revision::of_policy(&policy);

    let mut log = Log { judge: promise::Judge::new(), leaves: Vec::new(), payloads: Vec::new(), verdict: None };
    let start = Time::from_secs(1_700_000_000).minute_start();
    let opened = Opened { origin: ORIGIN.to_owned(), vkey: key.vkey().to_string() };
    log.push(&opened, &observers[0], start)?;
    log.push(&policy, &observers[0], start)?;
    let mut minute = 0;
    while (log.leaves.len() as u64) < ENTRIES {
        let from = start + Span::from_secs(60 * minute);
        let to = from + Span::from_secs(60);
        for observer in &observers {
            if minute == 0 || minute % 5000 == 77 || minute % 5000 == 79 {
                let state = if minute % 5000 == 77 { State::Down } else { State::Up };
                let changed = Changed {
                    probe: "shop-answers".parse()?,
                    service: "shop".parse()?,
                    state,
                    after: from + Span::from_secs(i64::from(minute == 0)),
                    by: from + Span::from_secs(1),
                };
                log.push(&changed, observer, to)?;
            }
            let coverage = Covered {
                interval: Interval::new(from, to),
                revision: policy.revision.clone(),
                every: None,
                gaps: Vec::new(),
            };
            log.push(&coverage, observer, to)?;
        }
        if minute % 360 == 0 || minute % 5000 == 80 {
            let id = "AV-1".parse()?;
            if let Some(verdict) = log.judge.verdict(&id, 0, to) {
                let sequence = log.leaves.len() as u64;
                log.verdict = Some((sequence, serde_json::value::to_raw_value(&verdict)?));
                log.push(&verdict, &observers[0], to)?;
            }
        }
        minute += 1;
    }

    let hashes: Vec<Hash> = log.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let size = hashes.len() as u64;
    let mut frontier = Frontier::new();
    for hash in &hashes {
        frontier.push(*hash);
    }
    let note = Checkpoint { origin: ORIGIN.to_owned(), size, root: frontier.root() }.sign(&[&key]);
    let mut sink = Directory::new(folder.join("export"));
    let mut writer = ExportWriter::new(&mut sink);
    for (leaf, payload) in log.leaves.iter().zip(&log.payloads) {
        writer.push(leaf, Some((&[0x5a; 32], payload)))?;
    }
    let (sequence, verdict) = log.verdict.ok_or("no verdict")?;
    let place = usize::try_from(sequence)?;
    let disclosure = Disclosure { sequence, salt: [0x5a; 32], payload: &log.payloads[place] };
    let proof = TlogProof::new(sequence, size, &Leaves(&hashes), note.clone())?
        .with_evidence(&log.leaves[place], Some(&disclosure))
        .to_text();
    let policy = serde_json::value::to_raw_value(&policy)?;
    writer.finish(&Extras {
        checkpoint_note: &note,
        vkey: &key.vkey(),
        tlog_policy: &format!("log {}\nquorum none\n", key.vkey()),
        policy: Some(&policy),
        verdicts: &[ListedVerdict { sequence, verdict }],
        rotations: &[],
        proofs: &[(sequence, proof)],
    })?;
    Ok((log.leaves, key.vkey().to_string()))
}

/// A log in memory, with the fold that its verdicts come from.
struct Log {
    judge: promise::Judge,
    leaves: Vec<Vec<u8>>,
    payloads: Vec<Vec<u8>>,
    verdict: Option<(u64, Box<serde_json::value::RawValue>)>,
}

impl Log {
    fn push<B: Body>(&mut self, body: &B, observer: &ObserverId, at: Time) -> Result<(), Box<dyn std::error::Error>> {
        let sequence = self.leaves.len() as u64;
        let observed = Observed::new(body, observer.clone(), BootId::from_bytes([1; 16]), sequence, at)?;
        let envelope = observed.record(InstallationId::from_bytes([2; 16]), ORIGIN, at);
        self.judge.apply(sequence, &envelope)?;
        let payload = envelope.encode();
        // One salt for all entries: the verifier hashes it all the same.
        let leaf =
            Leaf { coarse: B::KIND.coarse(), sequence, hour: at.hour(), commitment: commitment(&[0x5a; 32], &payload) };
        self.leaves.push(leaf.encode());
        self.payloads.push(payload);
        Ok(())
    }
}
