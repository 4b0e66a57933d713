//! The state behind the pages: channels that the roles fill and requests read.
//!
//! A page must answer at once, whatever the judge, the publisher or the watch are doing. So nothing is computed for a
//! reader: each role sends its latest result through a `watch` channel, whole, and a request reads the latest. Two reads of
//! one request may straddle a change by milliseconds; nothing on a page is wrong because of it, since every verdict carries
//! the log size that it was computed from.

use std::sync::Arc;

use engine::heartbeat::Pings;
use engine::metrics::MetricsSource;
use engine::standing::Probes;
use event::policy::Applied;
use event::{Clock, Zone};
use journal::note::VerifierKey;
use journal::published::Published;
use promise::InEffect;
use tokio::sync::watch;

use crate::budget::AnswerBudget;
use crate::door::Doors;
use crate::status::Present;

/// The state that all routers share.
pub struct State {
    /// The journal. Readers get entries below the published checkpoint.
    pub journal: Arc<dyn store::Proofs>,
    /// The queue that pings are handed to.
    pub pings: Pings,
    /// States of the engines.
    pub engines: engine::HealthBoard,
    /// Current states of all probes.
    pub probes: Probes,
    /// The policy in effect; sent at the start and at each reload.
    pub policy: watch::Receiver<Arc<ShownPolicy>>,
    /// The verdicts in effect; sent by the judge at each evaluation.
    pub in_effect: watch::Receiver<Arc<InEffect>>,
    /// The published checkpoint; sent by the publisher with each one.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Name, address and key of the log; sent at the start, at a reload, and when the key changes.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The memory that answers of all listeners may take together.
    pub budget: AnswerBudget,
    /// Names of the kinds that are for the team: never disclosed, whatever a leaf says.
    pub team_kinds: Vec<&'static str>,
    /// The state of the services that pages show.
    pub present: Present,
    /// Sources of figures for `/metrics`.
    pub figures: Vec<Arc<dyn MetricsSource>>,
    /// The doors of the engines.
    pub doors: Doors,
}

/// The listener that an answer is for: the team sees what is not public, and everything before it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listener {
    /// The team's listener.
    Team,
    /// The public listener.
    Public,
}

/// The parts of the policy in effect that the pages need.
#[derive(Clone, Default, Debug)]
pub struct ShownPolicy {
    /// Its public form; `None` until a first policy was applied.
    pub applied: Option<Arc<Applied>>,
    /// Whether the public listener shows anything.
    pub publish: bool,
    /// The zone of all times that people read.
    pub zone: Zone,
    /// Why the last reload was refused; nothing after one that was taken.
    pub reload_error: Option<String>,
    /// Whether the public listener takes pings before it shows anything.
    pub public_pings: bool,
    /// Hosts that the team's listener answers to beside those of loopback, as in a URL.
    pub team_hosts: Vec<String>,
}

/// Name, address and key under which the pages speak.
#[derive(Clone, Default, Debug)]
pub struct Identity {
    /// Name that the page shows: the origin of the log without its number.
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
