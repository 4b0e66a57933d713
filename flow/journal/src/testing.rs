//! A small log in memory, for the tests of this crate and of those above it. Everything is repeatable: salts are counted,
//! time passes only when told to.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use event::policy::{Applied, Clause, Promise, Text};
use event::promise::{Outcome, Verdict};
use event::{Body, BootId, Envelope, InstallationId, Interval, Kind, Observed, ObserverId, Span, Time};

use crate::audit::ExportSource;
use crate::checkpoint::Checkpoint;
use crate::disclosure::Disclosure;
use crate::export::{ExportSink, ExportWriter, Extras, ListedVerdict};
use crate::leaf::Leaf;
use crate::listing::Listing;
use crate::note::SigningKey;
use crate::seal::{self, Salt};
use crate::tlog_policy::{TlogPolicy, Witness};
use crate::tlog_proof::TlogProof;
use crate::tree::{self, HashSource};
use crate::{Hash, cosignature};

/// Files by path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files(pub BTreeMap<String, Vec<u8>>);

impl ExportSource for Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).cloned())
    }
}

impl ExportSink for Files {
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>> {
        self.read(crate::export::CHECKPOINT)
    }

    fn paths(&self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.0.remove(path);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every complete subtree of a tree.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    levels: Vec<Vec<Hash>>,
    frontier: tree::Frontier,
}

impl Tree {
    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.frontier.push_noting(leaf, |level, index, hash| {
            let level = usize::from(level);
            if levels.len() == level {
                levels.push(Vec::new());
            }
            debug_assert_eq!(levels[level].len() as u64, index, "subtrees of a level are completed in order");
            levels[level].push(hash);
        });
    }

    /// Its right edge.
    pub const fn frontier(&self) -> &tree::Frontier {
        &self.frontier
    }
}

impl<L: AsRef<[u8]>> FromIterator<L> for Tree {
    fn from_iter<I: IntoIterator<Item = L>>(leaves: I) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(tree::leaf_hash(leaf.as_ref())));
        tree
    }
}

impl HashSource for Tree {
    type Error = Outside;
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Outside> {
        let found = self.levels.get(usize::from(level)).and_then(|hashes| hashes.get(usize::try_from(index).ok()?));
        found.copied().ok_or(Outside)
    }
}

/// A subtree was asked for that is not complete, or not in the tree: a mistake in the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outside;

/// One entry of a [`Log`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its leaf.
    pub leaf: Leaf,
    /// Its salt.
    pub salt: Salt,
    /// Its payload; `None` once destroyed.
    pub payload: Option<Vec<u8>>,
}

/// A log in memory.
#[derive(Clone, Debug)]
pub struct Log {
    /// Origin.
    pub origin: String,
    /// Keys that sign checkpoints.
    pub keys: Vec<SigningKey>,
    /// Witnesses that cosign them.
    pub witnesses: Vec<SigningKey>,
    /// The sequencer's clock.
    pub now: Time,
    /// Entries, by sequence.
    pub entries: Vec<Entry>,
    /// Checkpoints signed by two keys.
    pub rotations: Vec<String>,
}

impl Log {
    /// A log that begins on 2026-11-22 at 23:00 UTC with its `journal.opened`.
    pub fn new(origin: &str, seed: u8) -> Self {
        let now = Time::from_secs(1_795_388_400);
        let mut log = Self {
            origin: origin.to_owned(),
            keys: vec![test_key(seed, origin)],
            witnesses: Vec::new(),
            now,
            entries: Vec::new(),
            rotations: Vec::new(),
        };
        log.append(&event::journal::Opened { origin: origin.to_owned(), vkey: log.keys[0].vkey().to_string() });
        log
    }

    /// Lets time pass, or step back.
    pub fn advance(&mut self, span: Span) -> &mut Self {
        self.now = self.now + span;
        self
    }

    /// Appends an event and returns its sequence.
    pub fn append<B: Body>(&mut self, body: &B) -> u64 {
        let text = serde_json::to_string(body).unwrap_or_default();
        self.append_text(B::KIND.name, B::KIND.version, &B::KIND.coarse(), &text)
    }

    /// Appends an event of a kind that the vocabulary may not have.
    pub fn append_text(&mut self, kind: &str, version: u16, coarse: &str, body: &str) -> u64 {
        let sequence = self.entries.len() as u64;
        let Ok(observer) = "here".parse::<ObserverId>() else { return sequence };
        let Ok(body) = serde_json::value::RawValue::from_string(body.to_owned()) else { return sequence };
        let event = Observed {
            kind: kind.to_owned(),
            version,
            coarse: coarse.to_owned(),
            retention: event::Retention::Evidence,
            observer,
            boot: BootId::from_bytes([7; 16]),
            sequence,
            observed_at: self.now,
            signature: None,
            body,
        };
        let envelope = event.record(InstallationId::from_bytes([9; 16]), &self.origin, self.now);
        self.append_envelope(coarse, &envelope)
    }

    /// Appends an envelope as it is.
    pub fn append_envelope(&mut self, coarse: &str, envelope: &Envelope) -> u64 {
        let sequence = self.entries.len() as u64;
        let payload = envelope.encode();
        let salt = *Hash::of(&[b"salt", &sequence.to_be_bytes()]).as_bytes();
        let leaf = Leaf {
            coarse: coarse.to_owned(),
            sequence,
            hour: envelope.recorded_at.hour(),
            commitment: seal::commitment(&salt, &payload),
        };
        self.entries.push(Entry { leaf, salt, payload: Some(payload) });
        sequence
    }

    /// Destroys what was recorded on a day in a class, and says so in the log.
    pub fn destroy(&mut self, class: event::Retention, day: event::Day) -> u64 {
        let entries = self.forget(class, day);
        self.append(&event::journal::Destroyed { class: class.as_str().to_owned(), day, entries })
    }

    /// Destroys it, and says nothing. Returns how many entries it concerned.
    pub fn forget(&mut self, class: event::Retention, day: event::Day) -> u64 {
        let of_that_day = |entry: &&mut Entry| {
            event::Day::of_hour(entry.leaf.hour) == day && entry.leaf.retention() == class && entry.payload.is_some()
        };
        self.entries.iter_mut().filter(of_that_day).map(|entry| entry.payload = None).count() as u64
    }

    /// The envelope of an entry, while it can be read.
    pub fn envelope(&self, sequence: u64) -> Option<Envelope> {
        let entry = self.entries.get(usize::try_from(sequence).ok()?)?;
        Envelope::decode(entry.payload.as_deref()?).ok()
    }

    /// The tree of the first `size` entries.
    pub fn tree(&self, size: usize) -> Tree {
        self.entries.iter().take(size).map(|entry| entry.leaf.encode()).collect()
    }

    /// The head of the first `size` entries.
    pub fn head(&self, size: usize) -> Checkpoint {
        let tree = self.tree(size);
        Checkpoint { origin: self.origin.clone(), size: tree.frontier.size(), root: tree.frontier.root() }
    }

    /// The same, signed by all keys and cosigned by all witnesses.
    pub fn checkpoint(&self, size: usize) -> String {
        let head = self.head(size);
        let mut note = head.sign(&self.keys.iter().collect::<Vec<_>>());
        for witness in &self.witnesses {
            note.push_str(&cosignature::cosign(witness, &head.to_text(), self.now).to_string());
            note.push('\n');
        }
        note
    }

    /// A trust policy that asks for all its witnesses.
    pub fn tlog_policy(&self) -> TlogPolicy {
        let witnesses = self.witnesses.iter().enumerate();
        let witnesses =
            witnesses.map(|(n, key)| Witness { name: format!("w{n}"), vkey: key.cosigner_vkey(), url: None });
        let witnesses: Vec<_> = witnesses.collect();
        let all = witnesses.len();
        TlogPolicy::of_log(self.keys[self.keys.len() - 1].vkey(), None, witnesses, all)
    }

    /// What lies beside the tree of the first `size` entries.
    pub fn listing(&self, size: usize) -> Listing {
        let mut listing = Listing::new();
        for entry in self.entries.iter().take(size) {
            match self.envelope(entry.leaf.sequence) {
                Some(envelope) => listing.take(entry.leaf.sequence, &envelope),
                None => listing.lose(&entry.leaf.coarse),
            }
        }
        listing
    }

    /// The whole log as files. Public kinds are disclosed, `team:` kinds are not.
    pub fn export(&self) -> Files {
        let mut files = Files::default();
        if self.export_to(&mut files) { files } else { Files::default() }
    }

    /// The same with the payloads of `team:` kinds, as the team has them.
    pub fn export_for_the_team(&self) -> Files {
        let mut files = Files::default();
        if self.export_disclosing(&mut files, |_| true) { files } else { Files::default() }
    }

    /// The whole log into a place where there may be an earlier export; whether it succeeded.
    pub fn export_to(&self, sink: &mut dyn ExportSink) -> bool {
        self.export_disclosing(sink, Leaf::is_public)
    }

    fn export_disclosing(&self, sink: &mut dyn ExportSink, is_disclosed: impl Fn(&Leaf) -> bool) -> bool {
        let note = self.checkpoint(self.entries.len());
        let tree = self.tree(self.entries.len());
        let (listing, mut proofs) = (self.listing(self.entries.len()), Vec::new());
        let mut writer = ExportWriter::new(sink);
        for entry in &self.entries {
            let disclosed = entry.payload.as_deref().filter(|_| is_disclosed(&entry.leaf));
            writer.push(&entry.leaf.encode(), disclosed.map(|payload| (&entry.salt, payload))).unwrap_or_default();
        }
        let verdicts = listing.verdicts();
        for ListedVerdict { sequence, .. } in &verdicts {
            let proof = TlogProof::new(*sequence, tree.frontier.size(), &tree, note.clone());
            let entry = usize::try_from(*sequence).ok().and_then(|index| self.entries.get(index));
            let (Ok(proof), Some(entry)) = (proof, entry) else { continue };
            let disclosure =
                entry.payload.as_deref().map(|payload| Disclosure { sequence: *sequence, salt: entry.salt, payload });
            proofs.push((*sequence, proof.with_evidence(&entry.leaf.encode(), disclosure.as_ref()).to_text()));
        }
        let extras = Extras {
            checkpoint_note: &note,
            vkey: &self.keys[self.keys.len() - 1].vkey(),
            tlog_policy: &self.tlog_policy().to_text(),
            policy: listing.policy_body(),
            verdicts: &verdicts,
            rotations: &self.rotations,
            proofs: &proofs,
        };
        writer.finish(&extras).is_ok()
    }
}

/// A policy with these promises: id, revision, and how many objectives.
#[expect(clippy::unwrap_used, reason = "test support; the names are given by tests")]
pub fn policy_of(promises: &[(&str, &str, usize)]) -> Applied {
    let coverage = r#"{"objective":"coverage","service":"shop","at_least":1000000000,"over":86400000000}"#;
    let coverage: Clause = serde_json::from_str(coverage).unwrap();
    let promises = promises.iter().map(|(id, revision, objectives)| Promise {
        id: id.parse().unwrap(),
        revision: (*revision).to_owned(),
        text: Text::default(),
        objectives: vec![coverage.clone(); *objectives],
    });
    let (services, probes, findings, maintenance) = (vec![], vec![], vec![], vec![]);
    Applied { revision: "a".to_owned(), services, probes, findings, maintenance, promises: promises.collect() }
}

/// A verdict that says nothing.
#[expect(clippy::unwrap_used, reason = "test support; the names are given by tests")]
pub fn verdict(log: &Log, promise: &str, revision: &str, objective: u32) -> Verdict {
    Verdict {
        promise: promise.parse().unwrap(),
        revision: revision.to_owned(),
        objective,
        evaluator: 1,
        tree_size: 1,
        at: log.now,
        window: Interval::new(log.now, log.now),
        outcome: Outcome::Unproven,
        figure: None,
        reasons: vec![],
        evidence: vec![],
    }
}

/// Each way to spoil one place of a document, one after another.
pub fn spoiled(document: &Value) -> Vec<Value> {
    let extremes = || [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX / 1000, i64::MAX - 1, i64::MAX].map(Value::from);
    match document {
        Value::Number(_) => extremes().into_iter().chain([Value::from(u64::MAX), Value::Null]).collect(),
        Value::String(_) => vec![Value::from(""), Value::from("x".repeat(300)), Value::from(0)],
        Value::Bool(yes) => vec![Value::from(!yes), Value::Null],
        Value::Null => Vec::new(),
        Value::Array(items) => {
            let with = |place: usize, new: Value| {
                let mut items = items.clone();
                items[place] = new;
                Value::Array(items)
            };
            let inside = items.iter().enumerate().flat_map(|(place, item)| {
                spoiled(item).into_iter().map(move |new| with(place, new)).collect::<Vec<_>>()
            });
            let twice = Value::Array(items.iter().chain(items).cloned().collect());
            inside.chain([Value::Array(Vec::new()), twice]).collect()
        }
        Value::Object(keys) => {
            let inside = keys.iter().flat_map(|(key, item)| {
                spoiled(item).into_iter().map(|new| {
                    let mut keys = keys.clone();
                    keys.insert(key.clone(), new);
                    Value::Object(keys)
                })
            });
            inside.collect()
        }
    }
}

/// A key that is always the same for the same seed and name.
#[expect(clippy::unwrap_used, reason = "test support; the names are given by tests")]
pub fn test_key(seed: u8, name: &str) -> SigningKey {
    SigningKey::generate([seed; 32], name).unwrap()
}

/// A kind that only exists in tests, for the team.
pub const TEAM_NOTE: Kind = Kind::team("test.note", event::Family::Security);
