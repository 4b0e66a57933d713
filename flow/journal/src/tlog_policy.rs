//! Whose signatures count (C2SP tlog-policy): logs, witnesses, groups of them, and a quorum.
//!
//! A log that nobody watches can show one history to you and another to your neighbour. Witnesses stop that, but only those
//! that *you* chose: so the list is the verifier's own file, and the one that a log publishes is a proposal.

use std::collections::HashSet;

use event::Time;

use crate::cosignature::{self, CosignatureError};
use crate::note::{KeyType, Note, NoteError, VerifierKey, ml_dsa_key};

/// Most lines of one sort that are read. The specification asks for 32 at least.
const LINES_MAX: usize = 1024;

/// A log whose checkpoints are accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Its key; the key's name is the origin.
    pub vkey: VerifierKey,
    /// Where it is.
    pub url: Option<String>,
}

/// A witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// Its name inside the policy.
    pub name: String,
    /// Its key, of type 0x04 (Ed25519 cosignature/v1).
    pub vkey: VerifierKey,
    /// Submission prefix of its tlog-witness service.
    pub url: Option<String>,
}

/// A witness whose cosignatures this release can't verify. It never counts as having cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unverifiable {
    /// Its name inside the policy.
    pub name: String,
    /// Its key, of type 0x06 (ML-DSA-44), as it is written.
    pub vkey: String,
    /// Submission prefix of its tlog-witness service.
    pub url: Option<String>,
}

/// A group of witnesses and groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name inside the policy.
    pub name: String,
    /// How many members must have witnessed.
    pub threshold: usize,
    /// Names of witnesses and of groups defined before.
    pub members: Vec<String>,
}

/// A trust policy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlogPolicy {
    /// Logs; a checkpoint must be signed by one of them.
    pub logs: Vec<Log>,
    /// Witnesses.
    pub witnesses: Vec<Witness>,
    /// Witnesses with keys that the specification allows and this release can't use.
    pub unverifiable: Vec<Unverifiable>,
    /// Groups, each after its members.
    pub groups: Vec<Group>,
    /// The witness or group that must have witnessed a checkpoint; `None` for `quorum none`.
    pub quorum: Option<String>,
}

/// A line that is not one of a policy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} of the tlog-policy: {what}")]
pub struct PolicyError {
    /// Which one, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// A note that carries a false signature of a key of the policy, or none of its logs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EvaluationError {
    /// About the signature of the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// About a cosignature.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
}

/// The signatures on a note that count by a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evaluation {
    /// Witnesses of the policy that cosigned, with the time of their cosignature.
    pub witnessed_by: Vec<(Witness, Time)>,
    /// Whether these are enough.
    pub quorum_met: bool,
}

impl TlogPolicy {
    /// A policy for one log and its witnesses, all of which must cosign when `threshold` is their number; `quorum none`
    /// when there are none.
    pub fn of_log(vkey: VerifierKey, url: Option<String>, witnesses: Vec<Witness>, threshold: usize) -> Self {
        let members: Vec<_> = witnesses.iter().map(|witness| witness.name.clone()).collect();
        let name = "witnesses".to_owned();
        let groups = (!members.is_empty() && threshold > 0).then(|| Group {
            name: name.clone(),
            threshold: threshold.min(members.len()),
            members,
        });
        let quorum = groups.as_ref().map(|_| name);
        let (logs, unverifiable) = (vec![Log { vkey, url }], Vec::new());
        Self { logs, witnesses, unverifiable, groups: groups.into_iter().collect(), quorum }
    }

    /// Reads a policy. The first mistake is reported.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        for (number, line) in text.split('\n').enumerate() {
            let at_line = |what| PolicyError { line: number + 1, what };
            if line.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(at_line("control characters other than tab are not allowed".to_owned()));
            }
            let words: Vec<_> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if !words.first().is_none_or(|word| word.starts_with('#')) {
                reader.line(&words).map_err(at_line)?;
            }
        }
        if !reader.has_quorum {
            return Err(PolicyError { line: 0, what: "there is no quorum line".to_owned() });
        }
        Ok(reader.policy)
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let url = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        let logs = self.logs.iter().map(|log| format!("log {}{}", log.vkey, url(&log.url)));
        let witnesses = self.witnesses.iter();
        let witnesses =
            witnesses.map(|witness| format!("witness {} {}{}", witness.name, witness.vkey, url(&witness.url)));
        let unverifiable = self.unverifiable.iter();
        let unverifiable =
            unverifiable.map(|witness| format!("witness {} {}{}", witness.name, witness.vkey, url(&witness.url)));
        let groups = self.groups.iter();
        let groups =
            groups.map(|group| format!("group {} {} {}", group.name, group.threshold, group.members.join(" ")));
        let quorum = format!("quorum {}\n", self.quorum.as_deref().unwrap_or(NONE));
        logs.chain(witnesses).chain(unverifiable).chain(groups).chain([quorum]).collect::<Vec<_>>().join("\n")
    }

    /// The keys of its logs.
    pub fn log_keys(&self) -> Vec<VerifierKey> {
        self.logs.iter().map(|log| log.vkey.clone()).collect()
    }

    /// Counts the cosignatures of a note. A line that claims to come from a witness of the policy and does not verify is
    /// an error, not an absence. The signature of the log is not looked at.
    pub fn count(&self, note: &Note) -> Result<Evaluation, CosignatureError> {
        let mut witnessed_by = Vec::new();
        for witness in &self.witnesses {
            let found = cosignature::cosigners(note, [&witness.vkey])?;
            witnessed_by.extend(found.into_iter().map(|(_, time)| (witness.clone(), time)));
        }
        let mut witnessed: HashSet<&str> = witnessed_by.iter().map(|(witness, _)| witness.name.as_str()).collect();
        for group in &self.groups {
            if group.members.iter().filter(|member| witnessed.contains(member.as_str())).count() >= group.threshold {
                witnessed.insert(&group.name);
            }
        }
        let quorum_met = self.quorum.as_ref().is_none_or(|quorum| witnessed.contains(quorum.as_str()));
        Ok(Evaluation { witnessed_by, quorum_met })
    }

    /// Judges a note whole: signed by one of the logs, when the policy names any, and cosigned by a quorum.
    pub fn evaluate(&self, note: &Note) -> Result<Evaluation, EvaluationError> {
        if !self.logs.is_empty() {
            note.signed_by(&self.log_keys())?;
        }
        Ok(self.count(note)?)
    }
}

const NONE: &str = "none";

#[derive(Default)]
struct Reader {
    policy: TlogPolicy,
    has_quorum: bool,
    /// Names that are members of a group already: each counts once.
    members: HashSet<String>,
}

impl Reader {
    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["log", vkey, url @ ..] => {
                let vkey = key(vkey, KeyType::Ed25519)?;
                let duplicate = self.policy.logs.iter().any(|log| log.vkey.public_bytes() == vkey.public_bytes());
                not_twice(duplicate, "this log")?;
                bounded(self.policy.logs.len())?;
                self.policy.logs.push(Log { vkey, url: optional(url)? });
            }
            ["witness", name, vkey, url @ ..] if ml_dsa_key(vkey).is_some() => {
                ml_dsa_key(vkey).unwrap_or(Ok(())).map_err(|error| error.to_string())?;
                not_twice(self.policy.unverifiable.iter().any(|w| w.vkey == *vkey), "this witness")?;
                self.new_name(name)?;
                bounded(self.policy.witnesses.len() + self.policy.unverifiable.len())?;
                let (name, vkey, url) = ((*name).to_owned(), (*vkey).to_owned(), optional(url)?);
                self.policy.unverifiable.push(Unverifiable { name, vkey, url });
            }
            ["witness", name, vkey, url @ ..] => {
                let vkey = key(vkey, KeyType::Cosignature)?;
                let duplicate = self.policy.witnesses.iter().any(|w| w.vkey.public_bytes() == vkey.public_bytes());
                not_twice(duplicate, "this witness")?;
                self.new_name(name)?;
                bounded(self.policy.witnesses.len() + self.policy.unverifiable.len())?;
                self.policy.witnesses.push(Witness { name: (*name).to_owned(), vkey, url: optional(url)? });
            }
            ["group", name, threshold, members @ ..] if !members.is_empty() => {
                self.new_name(name)?;
                bounded(self.policy.groups.len())?;
                for member in members {
                    self.known_name(member)?;
                    not_twice(!self.members.insert((*member).to_owned()), &format!("`{member}` in a group"))?;
                }
                let threshold = match *threshold {
                    "all" => members.len(),
                    "any" => 1,
                    number => {
                        crate::tile::parse_decimal(number).filter(|k| (1..=members.len()).contains(k)).ok_or_else(
                            || format!("`{number}` is not `any`, `all` or a number from 1 to {}", members.len()),
                        )?
                    }
                };
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                self.policy.groups.push(Group { name: (*name).to_owned(), threshold, members });
            }
            ["quorum", name] => {
                not_twice(std::mem::replace(&mut self.has_quorum, true), "the quorum")?;
                if *name != NONE {
                    self.known_name(name)?;
                    self.policy.quorum = Some((*name).to_owned());
                }
            }
            _ => {
                let mut what = "one of these expected: ".to_owned();
                what.push_str("`log <vkey> [<url>]`, `witness <name> <vkey> [<url>]`, ");
                what.push_str("`group <name> all|any|<k> <name>…`, `quorum <name>|none`");
                return Err(what);
            }
        }
        Ok(())
    }

    fn is_known(&self, name: &str) -> bool {
        self.policy.witnesses.iter().any(|witness| witness.name == name)
            || self.policy.unverifiable.iter().any(|witness| witness.name == name)
            || self.policy.groups.iter().any(|group| group.name == name)
    }

    fn known_name(&self, name: &str) -> Result<(), String> {
        if self.is_known(name) { Ok(()) } else { Err(format!("no witness or group `{name}` on the lines before")) }
    }

    fn new_name(&self, name: &str) -> Result<(), String> {
        not_twice(self.is_known(name) || name == NONE, &format!("the name `{name}`"))
    }
}

fn key(text: &str, key_type: KeyType) -> Result<VerifierKey, String> {
    let key: VerifierKey = text.parse().map_err(|error| format!("{error}"))?;
    if key.key_type() == key_type {
        return Ok(key);
    }
    Err(match key_type {
        KeyType::Ed25519 => "the key of a log is of type 0x01, this one is a witness's".to_owned(),
        KeyType::Cosignature => "the key of a witness is of type 0x04, this one is a log's".to_owned(),
    })
}

fn optional(url: &[&str]) -> Result<Option<String>, String> {
    match url {
        [] => Ok(None),
        [url] => Ok(Some((*url).to_owned())),
        _ => Err("nothing may follow the URL".to_owned()),
    }
}

fn not_twice(twice: bool, what: &str) -> Result<(), String> {
    if twice { Err(format!("{what} can't be given twice")) } else { Ok(()) }
}

fn bounded(length: usize) -> Result<(), String> {
    if length < LINES_MAX { Ok(()) } else { Err(format!("more than {LINES_MAX} lines of this sort")) }
}

#[cfg(test)]
mod tests;
