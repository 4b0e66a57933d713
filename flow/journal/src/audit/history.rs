//! The content of the entries, in their order: leaf and payload agree, nothing is withheld, time runs forward.

use std::collections::BTreeMap;

use event::engine::ClockStepped;
use event::journal::{Continued, Destroyed, DestructionIntended, KeyAnnounced, KeyRetired, Opened};
use event::{Body, Day, Envelope, Kind, Retention, Span, Time, kind_named};

use super::DestroyedDay;
use super::clock::ClockTrace;
use super::error::{AuditError, AuditFault};
use super::walk::Seen;
use crate::checkpoint::Checkpoint;
use crate::leaf::Leaf;
use crate::listing::Listing;
use crate::note::VerifierKey;

/// Keys that a log may announce: each is compared with all others. At the bound the log is refused.
const KEYS_MAX: usize = 256;
/// Remarks that are kept; further ones are counted.
const REMARKS_MAX: usize = 100;
/// Unknown kinds that are counted by name; of further ones nothing is kept.
const UNKNOWN_KINDS_MAX: usize = 1000;

/// An hour, less the last microsecond.
const REST_OF_HOUR: Span = Span::from_micros(3_599_999_999);

/// The entries of the log about its own keys.
#[derive(Default)]
pub(super) struct KeyEvents {
    /// The key that the log began with.
    pub(super) opened: Option<VerifierKey>,
    /// (sequence, new key, key that it replaces)
    pub(super) announced: Vec<(u64, VerifierKey, VerifierKey)>,
    /// (sequence, key)
    pub(super) retired: Vec<(u64, VerifierKey)>,
}

impl KeyEvents {
    /// Whether the key was ever one of the log's.
    fn knows(&self, key: &VerifierKey) -> bool {
        self.opened.as_ref() == Some(key) || self.announced.iter().any(|(_, new, _)| new == key)
    }

    /// Whether the key signs at this point of the log.
    fn in_use(&self, key: &VerifierKey) -> bool {
        self.knows(key) && !self.retired.iter().any(|(_, retired)| retired == key)
    }
}

/// Public entries of one day without payload.
struct Missing {
    count: u64,
    sequence: u64,
    coarse: String,
    path: String,
}

/// Public payloads of one day that the log says are destroyed.
#[derive(Default)]
struct Covered {
    /// Those that are destroyed, by all destructions of the day together: a clock that was set back may have written to it
    /// again.
    destroyed: u64,
    /// Whether that is said of all that is evidence, and not of a class of a later release alone.
    evidence: bool,
    /// Those that a destruction under way may have reached, and the entry that announced it.
    intended: Option<(u64, u64)>,
}

/// The state of the check, over all entries so far.
pub(super) struct History<'a> {
    origin: String,
    /// Kinds that are known beside those of `event`.
    team_kinds: &'a [Kind],
    clock: ClockTrace,
    pub(super) keys: KeyEvents,
    /// The head of the log before, when this one continues it.
    pub(super) continues: Option<Checkpoint>,
    pub(super) listing: Listing,
    missing: BTreeMap<Day, Missing>,
    covered: BTreeMap<Day, Covered>,
    /// Payloads of class `evidence` that are there, by day.
    shown: BTreeMap<Day, u64>,
    pub(super) disclosed: u64,
    pub(super) withheld: u64,
    pub(super) destroyed: u64,
    pub(super) destroyed_days: Vec<DestroyedDay>,
    pub(super) unknown_kinds: BTreeMap<String, u64>,
    pub(super) remarks: Vec<String>,
    more_remarks: u64,
}

impl<'a> History<'a> {
    pub(super) fn new(origin: &str, team_kinds: &'a [Kind]) -> Self {
        Self {
            origin: origin.to_owned(),
            team_kinds,
            clock: ClockTrace::default(),
            keys: KeyEvents::default(),
            continues: None,
            listing: Listing::new(),
            missing: BTreeMap::new(),
            covered: BTreeMap::new(),
            shown: BTreeMap::new(),
            disclosed: 0,
            withheld: 0,
            destroyed: 0,
            destroyed_days: Vec::new(),
            unknown_kinds: BTreeMap::new(),
            remarks: Vec::new(),
            more_remarks: 0,
        }
    }

    /// Time of the newest entry.
    pub(super) const fn newest(&self) -> Option<Time> {
        self.clock.last()
    }

    /// Takes the next entry.
    pub(super) fn entry(&mut self, seen: &Seen<'_>) -> Result<(), AuditError> {
        let leaf = &seen.leaf;
        let at = |sequence, finding| AuditError::of_entry(seen.payload_path, sequence, finding);
        let hour_start = Time::from_secs(leaf.hour * 3600);
        let (mut earliest, mut latest, mut stepped_back) = (hour_start, hour_start + REST_OF_HOUR, None);
        in_its_place(leaf).map_err(|finding| at(leaf.sequence, finding))?;
        match &seen.envelope {
            Some(envelope) => {
                self.agree(leaf, envelope).map_err(|finding| at(leaf.sequence, finding))?;
                (earliest, latest) = (envelope.recorded_at, envelope.recorded_at);
                self.disclosed += 1;
                if leaf.retention() == Retention::Evidence {
                    *self.shown.entry(Day::of_hour(leaf.hour)).or_default() += 1;
                }
                stepped_back = self
                    .learn(leaf.sequence, leaf.is_public(), envelope)
                    .map_err(|finding| at(leaf.sequence, finding))?;
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

    /// Checks that leaf and envelope agree.
    fn agree(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), AuditFault> {
        if envelope.log != self.origin {
            return Err(AuditFault::Foreign { found: envelope.log.clone() });
        }
        let disagree = |what, leaf: String, payload: String| Err(AuditFault::Disagree { what, leaf, payload });
        let hour = envelope.recorded_at.hour();
        if hour != leaf.hour {
            return disagree("hour", leaf.hour.to_string(), hour.to_string());
        }
        // Of a kind that is not known here, all that can be asked is that a public leaf names it.
        let coarse = match self.kind(&envelope.kind) {
            Some(kind) => kind.coarse(),
            None if leaf.is_public() => envelope.kind.clone(),
            None => leaf.coarse.clone(),
        };
        if coarse == leaf.coarse { Ok(()) } else { disagree("kind", leaf.coarse.clone(), coarse) }
    }

    /// Takes in entries that concern the audit itself; returns by how much a clock was set back.
    fn learn(&mut self, sequence: u64, is_public: bool, envelope: &Envelope) -> Result<Option<Span>, AuditFault> {
        self.listing.take(sequence, envelope);
        // What an engine of another garant tells the team is nothing to report.
        let unknown = self.kind(&envelope.kind).map_or(is_public, |kind| envelope.version > kind.version);
        if unknown {
            if self.unknown_kinds.len() < UNKNOWN_KINDS_MAX || self.unknown_kinds.contains_key(&envelope.kind) {
                *self.unknown_kinds.entry(envelope.kind.clone()).or_default() += 1;
            }
            return Ok(None);
        }
        if let Some(stepped) = body::<ClockStepped>(envelope)? {
            return Ok(Some(stepped.from.since(stepped.to)));
        } else if let Some(Destroyed { class, day, entries }) = body(envelope)? {
            if may_be_public(&class) {
                let covered = self.covered.entry(day).or_default();
                covered.destroyed = covered.destroyed.saturating_add(entries);
                covered.evidence |= class == Retention::Evidence.as_str();
                covered.intended = None;
            }
            self.destroyed_days.push(DestroyedDay { class, day, entries, sequence });
        } else if let Some(DestructionIntended { class, day, entries }) = body(envelope)? {
            if may_be_public(&class) {
                self.covered.entry(day).or_default().intended = Some((sequence, entries));
            }
        } else {
            self.learn_of_keys(sequence, envelope)?;
        }
        Ok(None)
    }

    /// The kind of that name, if it is known.
    fn kind(&self, name: &str) -> Option<&'a Kind> {
        kind_named(name).or_else(|| self.team_kinds.iter().find(|kind| kind.name == name))
    }

    /// Takes in what the log says of its keys, and of the log before it. Its keys form a chain: each but the first was
    /// announced once, in the place of one that was in use, and what is retired was to be replaced and is not retired twice.
    fn learn_of_keys(&mut self, sequence: u64, envelope: &Envelope) -> Result<(), AuditFault> {
        if let Some(Opened { origin, vkey }) = body(envelope)? {
            if origin != self.origin {
                return contradicts(format!("it opens the log `{origin}`"));
            }
            self.keys.opened = Some(self.key(&vkey)?);
        } else if let Some(Continued { old_origin, old_checkpoint, .. }) = body(envelope)? {
            let cited = Checkpoint::of_note(&old_checkpoint).map_err(|error| AuditFault::Contradiction {
                what: format!("what it cites is no checkpoint: {error}"),
            })?;
            if old_origin == self.origin || cited.origin != old_origin {
                return contradicts(format!(
                    "it continues `{old_origin}` and cites a checkpoint of `{}`",
                    cited.origin
                ));
            }
            self.continues = Some(cited);
        } else if let Some(KeyAnnounced { vkey, replaces }) = body(envelope)? {
            let (new, old) = (self.key(&vkey)?, self.key(&replaces)?);
            if self.keys.knows(&new) || !self.keys.in_use(&old) {
                return contradicts(format!(
                    "it announces {new} in the place of {old}: the one must be new, the other in use"
                ));
            }
            self.keys.announced.push((sequence, new, old));
            if self.keys.announced.len() > KEYS_MAX {
                return Err(AuditFault::Malformed {
                    what: format!("it is about one key more than the {KEYS_MAX} of a log"),
                });
            }
        } else if let Some(KeyRetired { vkey }) = body(envelope)? {
            let key = self.key(&vkey)?;
            if !self.keys.in_use(&key) || !self.keys.announced.iter().any(|(_, _, old)| *old == key) {
                return contradicts(format!(
                    "it retires {key}, which is not in use, or which no key was announced to replace"
                ));
            }
            self.keys.retired.push((sequence, key));
        }
        Ok(())
    }

    /// A key of this log.
    fn key(&self, text: &str) -> Result<VerifierKey, AuditFault> {
        match text.parse::<VerifierKey>() {
            Ok(key) if key.name() == self.origin => Ok(key),
            Ok(key) => contradicts(format!("{key} is no key of the log `{}`", self.origin)),
            Err(error) => contradicts(error.to_string()),
        }
    }

    fn remark(&mut self, remark: String) {
        if self.remarks.len() < REMARKS_MAX { self.remarks.push(remark) } else { self.more_remarks += 1 }
    }

    fn miss(&mut self, leaf: &Leaf, path: &str) {
        self.destroyed += 1;
        self.listing.lose(&leaf.coarse);
        let missing = self.missing.entry(Day::of_hour(leaf.hour)).or_insert_with(|| Missing {
            count: 0,
            sequence: leaf.sequence,
            coarse: leaf.coarse.clone(),
            path: path.to_owned(),
        });
        missing.count += 1;
    }

    /// Checks, after the last entry, that a destruction, done or announced, covers everything that is missing. A copy of the
    /// log made during a destruction has the announcement, and not all payloads.
    pub(super) fn finish(&mut self) -> Result<(), AuditError> {
        let mut remarks = Vec::new();
        for (day, missing) in &self.missing {
            let at = |finding| AuditError::of_entry(&missing.path, missing.sequence, finding);
            let Some(Covered { destroyed, intended, .. }) = self.covered.get(day) else {
                return Err(at(AuditFault::Hidden { coarse: missing.coarse.clone(), day: *day }));
            };
            let covered = intended.map_or(*destroyed, |(_, entries)| destroyed.saturating_add(entries));
            if missing.count > covered {
                return Err(at(AuditFault::HiddenBeyond { day: *day, missing: missing.count, destroyed: covered }));
            }
            if let Some((sequence, _)) = intended.filter(|_| missing.count > *destroyed) {
                remarks.push(format!(
                    "payloads of {day} are missing, and entry {sequence} only announces that they will be destroyed: the \
                     destruction was under way when this copy was made"
                ));
            }
        }
        for (day, missing) in &self.missing {
            // The key of a day opens all of its payloads or none. Old payloads beside a newer tree look the same, so this
            // accuses nobody.
            let done = self.covered.get(day).is_some_and(|covered| covered.evidence && covered.intended.is_none());
            if let Some(shown) = self.shown.get(day).filter(|_| done) {
                remarks.push(format!(
                    "of {day}, {} payloads are gone and {shown} are shown, although the log says that the day was destroyed: \
                     what is gone may have been picked",
                    missing.count
                ));
            }
        }
        if let Some(sequence) = self.clock.unexplained() {
            remarks
                .push(format!("at entry {sequence} the log's clock goes back; the log ends before it could say why"));
        }
        for remark in remarks {
            self.remark(remark);
        }
        if self.more_remarks > 0 {
            self.remarks.push(format!("and {} more remarks", self.more_remarks));
        }
        Ok(())
    }
}

/// Whether public entries may be of this class: those that can be destroyed are evidence, or of a class of a later release.
fn may_be_public(class: &str) -> bool {
    Retention::named(class).is_none_or(|class| class == Retention::Evidence)
}

/// The body, if it is a `B`.
fn body<B: Body>(envelope: &Envelope) -> Result<Option<B>, AuditFault> {
    envelope.body::<B>().transpose().map_err(|error| AuditFault::Contradiction { what: error.to_string() })
}

fn contradicts<T>(what: String) -> Result<T, AuditFault> {
    Err(AuditFault::Contradiction { what })
}

/// Checks that a log is opened by its first entry and continues another in its second, and nowhere else.
fn in_its_place(leaf: &Leaf) -> Result<(), AuditFault> {
    let opens = leaf.coarse == Opened::KIND.name;
    if opens != (leaf.sequence == 0) || leaf.coarse == Continued::KIND.name && leaf.sequence != 1 {
        let what =
            "a log begins with `journal.opened` and has it once; `journal.continued` is its second entry or nowhere";
        return contradicts(format!("the entry is a `{}`: {what}", leaf.coarse));
    }
    Ok(())
}

/// The finding about a public entry that is not disclosed.
fn hidden(coarse: &str, hour: i64) -> AuditFault {
    AuditFault::Hidden { coarse: coarse.to_owned(), day: Day::of_hour(hour) }
}
