//! The envelope of every entry, fixed from the first day.
//!
//! Its encoding is one line of JSON, keys in the order of the struct, no spaces. The bytes that [`Envelope::encode`]
//! returns are the ones that the log commits to; nobody serialises an envelope twice.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Body, BootId, InstallationId, Kind, ObserverId, Time};

/// Largest payload, in bytes. The projection of a policy with ten thousand probes fits.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An event as its observer hands it over: everything but what the sequencer adds.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `engine.verb`.
    pub kind: String,
    /// Version of the body.
    pub version: u16,
    /// What its leaf shows; see [`crate::Kind::coarse`].
    pub coarse: String,
    /// Class of its payload; see [`crate::Kind::retention`].
    pub retention: crate::Retention,
    /// The observer that saw it.
    pub observer: ObserverId,
    /// The run of the observer's process.
    pub boot: BootId,
    /// How many events this run had handed over before: a spool that is sent again changes nothing.
    pub sequence: u64,
    /// When it was seen, by the observer's wall clock.
    pub observed_at: Time,
    /// Room for the signature of a remote observer, over what it knows: `type`, `version`, `installation`, `observer`, `boot`,
    /// `sequence`, `observed_at` and `body`. Not `log`, so that an event that waited while one log took the place of another
    /// can still be recorded.
    pub signature: Option<String>,
    /// The body, serialised once.
    pub body: Box<RawValue>,
}

impl Observed {
    /// Wraps a body.
    pub fn new<B: Body>(
        body: &B,
        observer: ObserverId,
        boot: BootId,
        sequence: u64,
        observed_at: Time,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            kind: B::KIND.name.to_owned(),
            version: B::KIND.version,
            coarse: B::KIND.coarse(),
            retention: B::KIND.retention,
            observer,
            boot,
            sequence,
            observed_at,
            signature: None,
            body: serde_json::value::to_raw_value(body)?,
        })
    }

    /// The envelope as recorded now in the log `log` of `installation`.
    pub fn record(self, installation: InstallationId, log: &str, recorded_at: Time) -> Envelope {
        Envelope {
            kind: self.kind,
            version: self.version,
            installation,
            log: log.to_owned(),
            observer: self.observer,
            boot: self.boot,
            sequence: self.sequence,
            observed_at: self.observed_at,
            recorded_at,
            signature: self.signature,
            body: self.body,
        }
    }
}

/// An event on its way from an agent to the server that records it: one line of JSON.
///
/// Who may read it and how long it is kept is not in it: the server knows its [`Kind`] and says so.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Sent {
    /// `engine.verb`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the body.
    pub version: u16,
    /// The observer that saw it.
    pub observer: ObserverId,
    /// The run of the observer's process.
    pub boot: BootId,
    /// The observer's own count within that run, from 0.
    pub sequence: u64,
    /// When it was seen, by the observer's wall clock, in µs UTC.
    pub observed_at: Time,
    /// The observer's signature; see [`Observed::signature`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The body, as it was written.
    pub body: Box<RawValue>,
}

impl From<Observed> for Sent {
    fn from(observed: Observed) -> Self {
        let Observed { kind, version, observer, boot, sequence, observed_at, signature, body, .. } = observed;
        Self { kind, version, observer, boot, sequence, observed_at, signature, body }
    }
}

impl Sent {
    /// The event as its receiver knows it: `kind` says who may read it and how long it is kept.
    pub fn received(self, kind: &Kind) -> Observed {
        let Self { kind: name, version, observer, boot, sequence, observed_at, signature, body } = self;
        let (coarse, retention) = (kind.coarse(), kind.retention);
        Observed { kind: name, version, coarse, retention, observer, boot, sequence, observed_at, signature, body }
    }
}

/// A recorded event: the payload of one entry of the log.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Envelope {
    /// `engine.verb`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the body.
    pub version: u16,
    /// Which installation.
    pub installation: InstallationId,
    /// Which log: the origin of its checkpoints.
    pub log: String,
    /// The observer that saw it.
    pub observer: ObserverId,
    /// The run of the observer's process.
    pub boot: BootId,
    /// The observer's own count within that run, from 0.
    pub sequence: u64,
    /// When it was seen, by the observer's wall clock, in µs UTC.
    pub observed_at: Time,
    /// When it was sequenced, by the sequencer's wall clock, in µs UTC.
    pub recorded_at: Time,
    /// The observer's signature, once observers have keys of their own; see [`Observed::signature`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The body, as it was written.
    pub body: Box<RawValue>,
}

/// The error about bytes that are not an envelope, or a body that is not of the type asked for.
#[derive(Debug)]
pub struct Unreadable {
    what: String,
    source: serde_json::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be read: {}", self.what, self.source)
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Envelope {
    /// The exact bytes to commit: one line, without a newline.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.body.get().len() + 512);
        // Every field serialises: strings, integers and JSON that was already valid.
        serde_json::to_writer(&mut bytes, self).map(|()| bytes).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote; unknown keys are ignored, an unknown type is no error.
    pub fn decode(payload: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(payload)
            .map_err(|source| Unreadable { what: "the payload of an entry".to_owned(), source })
    }

    /// The body, when it is of type `B`; `None` when it is of another, or of a version newer than this release.
    pub fn body<B: Body>(&self) -> Option<Result<B, Unreadable>> {
        (self.kind == B::KIND.name && self.version <= B::KIND.version).then(|| {
            serde_json::from_str(self.body.get())
                .map_err(|source| Unreadable { what: format!("the body of a `{}`", self.kind), source })
        })
    }
}
