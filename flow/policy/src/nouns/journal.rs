//! `[journal]`: the name of the log, who remembers its head, how long payloads are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use event::{Retention, Span};

use crate::address::Url;
use crate::document::Document;
use crate::mistake::Mistake;
use crate::place::Place;
use crate::table::{Section, Table};
use crate::value::{Located, Slot, Value};

/// How long evidence is kept when the policy does not say.
const EVIDENCE_DEFAULT: Span = Span::from_days(1100);
/// How long records are kept when the policy does not say.
const RECORDS_DEFAULT: Span = Span::from_days(1830);
/// How long traces are kept when the policy does not say.
const TRACES_DEFAULT: Span = Span::from_days(14);
/// How long events for forensics are kept when the policy does not say.
const AUDIT_DEFAULT: Span = Span::from_days(90);
/// By how much evidence must outlive a window. After a day is destroyed it takes two days until everything known before is
/// told again, and the verdict in effect may be a day old: with less, it could not always be computed again.
const EVIDENCE_MARGIN: Span = Span::from_days(4);
/// A century: longer is a slip of the finger.
const RETENTION_MAX: Span = Span::from_days(36_500);

/// The name of the log among all logs of the world: the origin of its checkpoints without the number that follows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin(String);

impl Origin {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = ();

    /// A URL without scheme, as C2SP tlog-checkpoint recommends, in the one spelling that makes comparison safe.
    fn from_str(text: &str) -> Result<Self, ()> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        let sound = text.len() <= 100 && text.split('/').all(|part| !part.is_empty() && part.bytes().all(letter));
        if sound { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl Value for Origin {
    const SHAPE: &'static str = "a domain, perhaps with a path, in lower case";
    const EXAMPLE: &'static str = "\"shop.example\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// A public key as C2SP signed-note writes it, `name+hash+key`; whether it is one is for `journal` to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VerifierKeyText(String);

impl VerifierKeyText {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VerifierKeyText {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '+');
        let name = parts.next().is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace));
        let hash = parts.next().is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        // One byte of algorithm and 32 of key.
        let key = parts.next().is_some_and(|key| key.len() == 44 && key.bytes().all(base64));
        if name && hash && key { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for VerifierKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for VerifierKeyText {
    const SHAPE: &'static str = "a verifier key";
    const EXAMPLE: &'static str = "\"witness.example+4f2c1b0a+BHfQ6…\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.parse()
    }
}

/// A witness: remembers the checkpoints of the log, and signs that they are consistent (C2SP tlog-witness).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witness {
    /// What the team calls it: the name in its key when not given.
    pub name: String,
    /// Where it takes checkpoints: `add-checkpoint` is appended.
    pub url: Url,
    /// Its cosignature key.
    pub vkey: VerifierKeyText,
}

impl Section for Witness {
    const ABOUT: &'static str = "Somebody else who remembers the checkpoints of the log.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.optional("name", "what the team calls it; the name in its key when absent");
        let url = table.required("url", "where it takes checkpoints, without the final `/add-checkpoint`");
        let vkey: Option<VerifierKeyText> =
            table.required("vkey", "its cosignature key, as `garant witness` prints it");
        let vkey = vkey?;
        let name = name.unwrap_or_else(|| vkey.as_str().split('+').next().unwrap_or_default().to_owned());
        Some(Self { name, url: url?, vkey })
    }
}

/// How long the payloads of each class can be read; then the key of their day is destroyed. What the log says of itself is
/// of another class, which is kept as long as the log and has no key here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionPeriods {
    /// Evidence, which verdicts rest on.
    pub evidence: Span,
    /// Records: changes, approvals, access.
    pub records: Span,
    /// Events for forensics.
    pub audit: Span,
    /// Traces for finding faults in garant itself.
    pub traces: Span,
}

impl Default for RetentionPeriods {
    fn default() -> Self {
        Self { evidence: EVIDENCE_DEFAULT, records: RECORDS_DEFAULT, audit: AUDIT_DEFAULT, traces: TRACES_DEFAULT }
    }
}

impl RetentionPeriods {
    /// How long a class is kept; `None` for as long as the log.
    pub const fn of(&self, class: Retention) -> Option<Span> {
        match class {
            Retention::Evidence => Some(self.evidence),
            Retention::Records => Some(self.records),
            Retention::Audit => Some(self.audit),
            Retention::Traces => Some(self.traces),
            Retention::Permanent => None,
        }
    }
}

impl Section for RetentionPeriods {
    const ABOUT: &'static str = "How long payloads can be read. What the log says of itself (its keys, its clock, what was destroyed) holds \
        no personal data and is kept as long as the log.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let range = Span::from_days(1)..=RETENTION_MAX;
        let evidence =
            table.or_in("evidence", EVIDENCE_DEFAULT, &range, "what verdicts rest on: 4 days longer than any window");
        let about = "what the team must be able to show: who changed, approved or was let in to what";
        let records = table.or_in("records", RECORDS_DEFAULT, &range, about);
        let audit = table.or_in("audit", AUDIT_DEFAULT, &range, "what the team needs for forensics");
        let traces = table.or_in("traces", TRACES_DEFAULT, &range, "what helps to find a fault in garant itself");
        for (key, span) in [("evidence", evidence), ("records", records), ("audit", audit), ("traces", traces)] {
            if span.micros() % Span::from_days(1).micros() != 0 {
                let reason = format!("`{key}` is not a number of days");
                table.mistake(key, reason, "write whole days, such as \"90 d\": keys are destroyed by the day");
            }
        }
        Some(Self { evidence, records, audit, traces })
    }
}

/// The settings of the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// Name of the log.
    pub name: Origin,
    /// Files outside the data directory that remember the newest checkpoint, beside the one that always does.
    pub remember: Vec<PathBuf>,
    /// The witnesses.
    pub witnesses: Vec<Witness>,
    /// How long payloads are kept.
    pub retention: RetentionPeriods,
}

impl Section for JournalSettings {
    const ABOUT: &'static str = "The append-only log that everything is recorded in. Its name is part of every signature and can't be \
        changed afterwards: take a domain that is yours.";
    const EXAMPLE: &'static str = r#"
[journal]
name = "shop.example"
remember = ["/mnt/elsewhere/garant.head"]
retention = { evidence = "1100 d", records = "1830 d", audit = "90 d", traces = "14 d" }
witness = [
  { url = "https://witness.example", vkey = "witness.example+4f2c1b0a+BHfQ6v4cCzJ5rK0kxmyyTzmJqF3vJmQ0b6mEo3hFhXkA" },
]
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let name = table.required("name", "its name among all logs of the world: a domain of yours");
        let remember =
            table.list("remember", "more files, outside the data directory, that remember its newest checkpoint");
        let witnesses = table.list("witness", "who else remembers its checkpoints and signs that they are consistent");
        let retention: Option<RetentionPeriods> = table.optional(
            "retention",
            "how long payloads can be read; what the log says of its keys, its clock and its destructions is kept as long as the log",
        );
        Some(Self { name: name?, remember, witnesses, retention: retention.unwrap_or_default() })
    }
}

impl JournalSettings {
    /// Evidence must outlive the longest window of any objective by some days, or the verdict on it could no longer be
    /// computed again.
    /// Call this with that window, before the document is finished.
    pub fn check_retention(&self, document: &mut Document, longest: Located<Span>) {
        let Located { value: window, place } = longest;
        if self.retention.evidence >= window + EVIDENCE_MARGIN {
            return;
        }
        let (kept, margin) = (self.retention.evidence, EVIDENCE_MARGIN);
        let reason = format!("evidence is kept for {kept}, and this window is {window} long: {margin} more are needed");
        let needed = (window + EVIDENCE_MARGIN).micros();
        let days = needed.saturating_add(Span::from_days(1).micros() - 1).div_euclid(Span::from_days(1).micros());
        let remedy =
            format!("keep it longer, with retention.evidence = \"{days} d\" in [journal], or shorten the window");
        let kept = document.place_of("journal.retention.evidence");
        document.mistake(Mistake::new(place, reason, remedy).also(kept, "how long evidence is kept"));
    }
}

/// The journal, which every policy must name.
pub(super) fn journal(document: &mut Document) -> Option<JournalSettings> {
    let journal = document.table("journal");
    if !document.has("journal") && !document.is_broken() {
        let remedy = "add [journal] with name = \"shop.example\", a domain of yours: it is part of every signature";
        document.mistake(Mistake::new(Place::default(), "the journal has no name", remedy));
    }
    journal
}
