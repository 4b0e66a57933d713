//! What the pages show, and who fills it.
//!
//! A page must answer at once, whatever the judge, the publisher or the watch are doing. So nothing is computed for a
//! reader: each role leaves what it last knew in a `watch` channel, whole, and a request reads the latest. Two reads of
//! one request may straddle a change by milliseconds; nothing on a page is wrong because of it, since every verdict
//! carries the log size that it was computed from.

use std::sync::Arc;

use engine::heartbeat::Pings;
use engine::metrics::Source;
use engine::standing::Probes;
use event::Clock;
use event::policy::Applied;
use journal::note::VerifierKey;
use journal::published::Published;
use promise::InEffect;
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
    /// The names of the kinds that are for the team: never disclosed, whatever a leaf says.
    pub team_kinds: Vec<&'static str>,
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
