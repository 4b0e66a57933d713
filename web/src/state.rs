//! What the pages show, and who fills it.
//!
//! A page must answer at once, whatever the judge, the publisher or the watch are doing. So nothing is computed for a
//! reader: each role leaves what it last knew in a `watch` channel, whole, and a request reads the latest. Two reads of
//! one request may straddle a change by milliseconds; nothing on a page is wrong because of it, since every verdict
//! carries the log size that it was computed from.

use std::sync::Arc;

use engine::heartbeat::Pings;
use engine::metrics::Source;
use event::policy::Applied;
use event::{Clock, ObserverId, ProbeId, Span, Time};
use journal::note::VerifierKey;
use journal::published::Published;
use promise::InEffect;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::budget::Budget;

/// Everything the routers need. Shared by all of them.
pub struct State {
    /// The log. Readers get what is below the published checkpoint.
    pub journal: Arc<dyn store::Proofs>,
    /// Where heartbeats are handed over.
    pub pings: Pings,
    /// How the engines are doing.
    pub engines: engine::Board,
    /// What the watch knows of its probes at the moment.
    pub probes: Probes,
    /// Filled at start and at each reload.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Filled by the judge at each evaluation.
    pub in_effect: watch::Receiver<Arc<InEffect>>,
    /// Filled by the publisher with each checkpoint that it published.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Filled at start, at a reload, and when the log's key changes.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much memory the answers of all listeners may take together.
    pub budget: Budget,
    /// Figures that only their owners know, for `/metrics`.
    pub figures: Vec<Arc<dyn Source>>,
}

/// The policy in effect, as far as the pages need it.
#[derive(Clone, Default, Debug)]
pub struct Policy {
    /// Its public form; `None` until a first policy was applied.
    pub applied: Option<Arc<Applied>>,
    /// Whether the public may see anything.
    pub publish: bool,
}

/// Who speaks: the log's key and the address of the pages.
#[derive(Clone, Default, Debug)]
pub struct Identity {
    /// What the page calls itself: the name of the log without its number.
    pub name: String,
    /// Address of the public pages as customers write it, with the final `/`.
    pub url: String,
    /// Verifier key that signs checkpoints, as text.
    pub vkey: String,
    /// Its fingerprint, as text.
    pub fingerprint: String,
    /// The trust policy that the log proposes (C2SP tlog-policy), as text.
    pub tlog_policy: String,
}

impl Identity {
    /// The identity of the log that `key` signs.
    pub fn new(key: &VerifierKey, url: String, tlog_policy: String) -> Self {
        let name = key.name().rsplit_once('/').map_or(key.name(), |(name, _number)| name);
        Self {
            name: name.to_owned(),
            url: if url.ends_with('/') { url } else { format!("{url}/") },
            vkey: key.to_string(),
            fingerprint: key.fingerprint().to_string(),
            tlog_policy,
        }
    }
}

/// Asks the watch what it knows. Answers at once.
pub type Probes = Arc<dyn Fn() -> Vec<ProbeStanding> + Send + Sync>;

/// What one observer says of one probe at the moment: for the team, never for a verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeStanding {
    /// Which probe.
    pub probe: ProbeId,
    /// Who says so.
    pub observer: ObserverId,
    /// Its state and since when; `None` until it is known.
    pub state: Option<(event::evidence::State, Time)>,
    /// When it was last asked.
    pub at: Time,
    /// How long the answer took.
    pub took: Span,
    /// Its figure, in the unit of its kind.
    pub value: Option<i64>,
    /// Where the time went.
    pub phases: Phases,
    /// When the certificate that was shown expires, over TLS.
    pub certificate_expires: Option<Time>,
    /// What it said, in words; empty while all is well.
    pub text: String,
}

/// Where the time of an answer went; nothing for what it did not go through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Debug)]
pub struct Phases {
    /// Resolving the name.
    pub dns: Span,
    /// Opening the TCP connection.
    pub connect: Span,
    /// The TLS handshake.
    pub tls: Span,
    /// From the connection being ready to the head of the answer.
    pub first_byte: Span,
    /// From the head of the answer to its end.
    pub body: Span,
}

impl Phases {
    /// Those that it went through, each with its word.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, Span)> {
        let Self { dns, connect, tls, first_byte, body } = *self;
        [("dns", dns), ("connect", connect), ("tls", tls), ("first_byte", first_byte), ("body", body)]
            .into_iter()
            .filter(|(_, span)| *span > Span::ZERO)
    }
}
