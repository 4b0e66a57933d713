//! What the entries say, in their order: are leaf and payload of one mind, is anything kept back, does time run forward.

use std::collections::BTreeMap;

use event::engine::ClockStepped;
use event::journal::{Destroyed, KeyAnnounced, KeyRetired, Opened};
use event::policy::Applied;
use event::{Body, Day, Envelope, Retention, Span, Time, kind_named};

use super::DestroyedDay;
use super::clock::ClockTrace;
use super::error::{AuditError, Finding};
use super::walk::Seen;
use crate::leaf::Leaf;
use crate::note::VerifierKey;

/// An hour, less the last microsecond.
const REST_OF_HOUR: Span = Span::from_micros(3_599_999_999);

/// What the log says of its own keys.
#[derive(Default)]
pub(super) struct KeyEvents {
    /// The key it began with.
    pub(super) opened: Option<VerifierKey>,
    /// (sequence, new key, key that it replaces)
    pub(super) announced: Vec<(u64, VerifierKey, VerifierKey)>,
    /// (sequence, key)
    pub(super) retired: Vec<(u64, VerifierKey)>,
}

/// Public entries of one day without payload.
struct Missing {
    count: u64,
    sequence: u64,
    coarse: String,
    path: String,
}

/// The policy that the log applied last.
#[derive(Default)]
pub(super) enum LatestPolicy {
    /// There never was one.
    #[default]
    Never,
    /// Its payload is destroyed.
    Destroyed,
    /// Its body.
    Applied(String),
}

/// The fold over all entries.
pub(super) struct History {
    origin: String,
    clock: ClockTrace,
    pub(super) keys: KeyEvents,
    pub(super) policy: LatestPolicy,
    missing: BTreeMap<Day, Missing>,
    pub(super) disclosed: u64,
    pub(super) withheld: u64,
    pub(super) destroyed: u64,
    pub(super) destroyed_days: Vec<DestroyedDay>,
    pub(super) unknown_kinds: BTreeMap<String, u64>,
    pub(super) remarks: Vec<String>,
}

impl History {
    pub(super) fn new(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            clock: ClockTrace::default(),
            keys: KeyEvents::default(),
            policy: LatestPolicy::Never,
            missing: BTreeMap::new(),
            disclosed: 0,
            withheld: 0,
            destroyed: 0,
            destroyed_days: Vec::new(),
            unknown_kinds: BTreeMap::new(),
            remarks: Vec::new(),
        }
    }

    /// Time of the newest entry.
    pub(super) const fn newest(&self) -> Option<Time> {
        self.clock.last()
    }

    /// The next entry.
    pub(super) fn entry(&mut self, seen: &Seen<'_>) -> Result<(), AuditError> {
        let leaf = &seen.leaf;
        let at = |sequence, finding| AuditError::of_entry(seen.payload_path, sequence, finding);
        let hour_start = Time::from_secs(leaf.hour * 3600);
        let (mut earliest, mut latest, mut stepped_back) = (hour_start, hour_start + REST_OF_HOUR, None);
        match &seen.envelope {
            Some(envelope) => {
                self.agree(leaf, envelope).map_err(|finding| at(leaf.sequence, finding))?;
                (earliest, latest) = (envelope.recorded_at, envelope.recorded_at);
                self.disclosed += 1;
                stepped_back = self.learn(leaf.sequence, envelope);
            }
            None if leaf.retention() == Retention::Permanent => {
                return Err(at(leaf.sequence, hidden(&leaf.coarse, leaf.hour)));
            }
            None if leaf.is_public() => self.miss(leaf, seen.payload_path),
            None => self.withheld += 1,
        }
        let in_order = self.clock.entry(leaf.sequence, earliest, latest, stepped_back);
        in_order.map_err(|(sequence, finding)| at(sequence, finding))
    }

    /// Whether leaf and envelope say the same.
    fn agree(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), Finding> {
        if envelope.log != self.origin {
            return Err(Finding::Foreign { found: envelope.log.clone() });
        }
        let disagree = |what, leaf: String, payload: String| Err(Finding::Disagree { what, leaf, payload });
        let hour = envelope.recorded_at.hour();
        if hour != leaf.hour {
            return disagree("hour", leaf.hour.to_string(), hour.to_string());
        }
        // Of a kind that is not known here, all that can be asked is that a public leaf names it.
        let coarse = match kind_named(&envelope.kind) {
            Some(kind) => kind.coarse(),
            None if leaf.is_public() => envelope.kind.clone(),
            None => leaf.coarse.clone(),
        };
        if coarse == leaf.coarse { Ok(()) } else { disagree("kind", leaf.coarse.clone(), coarse) }
    }

    /// Takes in what bears on the audit itself; returns by how much a clock was set back.
    fn learn(&mut self, sequence: u64, envelope: &Envelope) -> Option<Span> {
        if kind_named(&envelope.kind).is_none_or(|kind| envelope.version > kind.version) {
            *self.unknown_kinds.entry(envelope.kind.clone()).or_default() += 1;
            return None;
        }
        if envelope.kind == Applied::KIND.name {
            self.policy = LatestPolicy::Applied(envelope.body.get().to_owned());
        } else if let Some(stepped) = self.body::<ClockStepped>(sequence, envelope) {
            return Some(stepped.from.since(stepped.to));
        } else if let Some(Destroyed { class, day, entries }) = self.body(sequence, envelope) {
            self.destroyed_days.push(DestroyedDay { class, day, entries, sequence });
        } else if let Some(opened) = self.body::<Opened>(sequence, envelope) {
            self.keys.opened = self.key(sequence, &opened.vkey);
        } else if let Some(announced) = self.body::<KeyAnnounced>(sequence, envelope) {
            let keys = self.key(sequence, &announced.vkey).zip(self.key(sequence, &announced.replaces));
            self.keys.announced.extend(keys.map(|(new, old)| (sequence, new, old)));
        } else if let Some(retired) = self.body::<KeyRetired>(sequence, envelope) {
            let key = self.key(sequence, &retired.vkey);
            self.keys.retired.extend(key.map(|key| (sequence, key)));
        }
        None
    }

    /// The body, if it is a `B`. One that can't be read is a fault of the writer that no reader can mend: it is remarked
    /// upon, and counts as not said.
    fn body<B: Body>(&mut self, sequence: u64, envelope: &Envelope) -> Option<B> {
        envelope.body::<B>()?.map_err(|error| self.remarks.push(format!("entry {sequence}: {error}"))).ok()
    }

    fn key(&mut self, sequence: u64, text: &str) -> Option<VerifierKey> {
        text.parse().map_err(|error| self.remarks.push(format!("entry {sequence}: {error}"))).ok()
    }

    fn miss(&mut self, leaf: &Leaf, path: &str) {
        self.destroyed += 1;
        if leaf.coarse == Applied::KIND.name {
            self.policy = LatestPolicy::Destroyed;
        }
        let missing = self.missing.entry(Day::of_hour(leaf.hour)).or_insert_with(|| Missing {
            count: 0,
            sequence: leaf.sequence,
            coarse: leaf.coarse.clone(),
            path: path.to_owned(),
        });
        missing.count += 1;
    }

    /// After the last entry: is everything that is missing covered by a destruction?
    pub(super) fn finish(&mut self) -> Result<(), AuditError> {
        let evidence = || self.destroyed_days.iter().filter(|day| day.class == Retention::Evidence.as_str());
        for (day, missing) in &self.missing {
            let at = |finding| AuditError::of_entry(&missing.path, missing.sequence, finding);
            let destroyed =
                evidence().filter(|destroyed| destroyed.day == *day).map(|destroyed| destroyed.entries).max();
            match destroyed {
                Some(destroyed) if missing.count > destroyed => {
                    return Err(at(Finding::HiddenBeyond { day: *day, missing: missing.count, destroyed }));
                }
                Some(_) => {}
                None => return Err(at(Finding::Hidden { coarse: missing.coarse.clone(), day: *day })),
            }
        }
        if let Some(sequence) = self.clock.unexplained() {
            self.remarks
                .push(format!("at entry {sequence} the log's clock goes back; the log ends before it could say why"));
        }
        Ok(())
    }
}

/// A public entry that is not disclosed.
fn hidden(coarse: &str, hour: i64) -> Finding {
    Finding::Hidden { coarse: coarse.to_owned(), day: Day::of_hour(hour) }
}
