//! What the pages show, and who fills it.
//!
//! A page must answer at once, whatever the judge, the publisher or the watch are doing. So nothing is computed for a
//! reader: each role leaves what it last knew in a `watch` channel, whole, and a request reads the latest. Two reads of
//! one request may straddle a change by milliseconds; nothing on a page is wrong because of it, since every verdict
//! carries the log size that it was computed from.

use std::sync::Arc;

use engine::heartbeat::Pings;
use event::policy::{Applied, Promise};
use event::promise::{Outcome, Verdict};
use event::{Clock, ObserverId, ProbeId, PromiseId, Span, Time};
use journal::Hash;
use journal::checkpoint::{self, CheckpointError};
use journal::cosignature;
use journal::listing::Listing;
use journal::note::VerifierKey;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::budget::Budget;
use crate::metrics;

/// Everything the routers need. Shared by all of them.
pub struct State {
    /// The log. Readers get what is below the published checkpoint.
    pub journal: Arc<dyn store::Journal>,
    /// Where heartbeats are handed over.
    pub pings: Pings,
    /// How the engines are doing.
    pub engines: engine::Board,
    /// What the watch knows of its probes at the moment.
    pub probes: Probes,
    /// Filled at start and at each reload.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Filled by the judge at each evaluation.
    pub board: watch::Receiver<Arc<Board>>,
    /// Filled by the publisher with each checkpoint that it published.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// Filled at start, at a reload, and when the log's key changes.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much memory the answers of all listeners may take together.
    pub budget: Budget,
    /// Figures that only their owners know, for `/metrics`.
    pub figures: Vec<Arc<dyn metrics::Source>>,
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

/// The published checkpoint: what is beyond it does not exist for readers.
#[derive(Clone, Debug)]
pub struct Published {
    /// The signed note, cosignatures included.
    pub note: String,
    /// Origin in it.
    pub origin: String,
    /// Size in it.
    pub size: u64,
    /// Root in it.
    pub root: Hash,
    /// When it was published.
    pub at: Time,
    /// Cosignatures of witnesses, verified.
    pub cosignatures: Vec<Cosigned>,
    /// What lies beside the tree of exactly this size. It is not taken from the board, which runs ahead of what is
    /// published, or behind: a verifier would take the difference for a forgery.
    pub beside: Beside,
}

/// The files beside a tree.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Beside {
    /// `policy.json`, if a policy is in effect.
    pub policy: Option<Vec<u8>>,
    /// `verdicts.json`.
    pub verdicts: Vec<u8>,
}

impl Beside {
    /// The files of this list.
    pub fn of(listing: &Listing) -> Result<Self, serde_json::Error> {
        let policy = listing.policy_body().map(|body| body.get().to_owned().into_bytes());
        Ok(Self { policy, verdicts: serde_json::to_vec(&listing.verdicts())? })
    }
}

/// A witness vouches for a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosigned {
    /// Name of its key.
    pub witness: String,
    /// When it cosigned.
    pub at: Time,
}

impl Published {
    /// Reads a note that one of `log_keys` signed, as published at `at`. Cosignatures of `witnesses` are verified, those of
    /// others are passed on unread. `listing` is as of its size.
    pub fn read(
        note: &str,
        log_keys: &[VerifierKey],
        witnesses: &[VerifierKey],
        at: Time,
        listing: &Listing,
    ) -> Result<Self, NotPublishable> {
        let opened = checkpoint::open(note, log_keys)?;
        let cosigners = cosignature::cosigners(&opened.note, witnesses)?;
        let cosigned = |(key, at): (&VerifierKey, Time)| Cosigned { witness: key.name().to_owned(), at };
        Ok(Self {
            note: note.to_owned(),
            origin: opened.checkpoint.origin,
            size: opened.checkpoint.size,
            root: opened.checkpoint.root,
            at,
            cosignatures: cosigners.into_iter().map(cosigned).collect(),
            beside: Beside::of(listing)?,
        })
    }
}

/// A note that can't be shown as the published checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum NotPublishable {
    /// It is not a checkpoint of this log.
    #[error("the note is not a checkpoint signed by the log: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A line claims to come from a witness and does not.
    #[error("a cosignature does not verify: {0}")]
    Cosignature(#[from] cosignature::CosignatureError),
    /// What lies beside it can't be written.
    #[error("the verdicts can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
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

/// Verdicts in effect: the latest journaled one of each objective.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub struct Board {
    /// When everything was last evaluated, whether or not that was worth a new verdict.
    pub evaluated_at: Option<Time>,
    /// By promise and objective.
    standings: Vec<Standing>,
}

/// A verdict in effect.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Standing {
    /// The verdict.
    pub verdict: Verdict,
    /// Which entry of the log says so.
    pub sequence: u64,
    /// Since when its outcome is what it is, for this revision of the promise.
    pub since: Time,
}

impl Board {
    fn find(&self, promise: &PromiseId, objective: u32) -> Result<usize, usize> {
        self.standings.binary_search_by(|row| (&row.verdict.promise, row.verdict.objective).cmp(&(promise, objective)))
    }

    /// Takes a verdict that entry `sequence` of the log holds. To be called in the order of the log.
    pub fn take(&mut self, sequence: u64, verdict: Verdict) {
        match self.find(&verdict.promise, verdict.objective) {
            Ok(place) => {
                let before = &self.standings[place];
                let same = before.verdict.outcome == verdict.outcome && before.verdict.revision == verdict.revision;
                let since = if same { before.since } else { verdict.at };
                self.standings[place] = Standing { verdict, sequence, since };
            }
            Err(place) => {
                let since = verdict.at;
                self.standings.insert(place, Standing { verdict, sequence, since });
            }
        }
    }

    /// Forgets verdicts on what is no longer promised: other promises, other revisions.
    pub fn keep_only(&mut self, promises: &[Promise]) {
        self.standings.retain(|row| {
            promises.iter().any(|promise| promise.id == row.verdict.promise && promise.revision == row.verdict.revision)
        });
    }

    /// All of them, by promise and objective.
    pub fn rows(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter()
    }

    /// The verdict in effect on an objective; `None` when it was not judged since this revision of the promise was declared.
    pub fn standing(&self, promise: &Promise, objective: u32) -> Option<&Standing> {
        let standing = &self.standings[self.find(&promise.id, objective).ok()?];
        (standing.verdict.revision == promise.revision).then_some(standing)
    }

    /// The outcome of a promise: broken when any objective is, kept when all are, else unproven.
    pub fn outcome(&self, promise: &Promise) -> Outcome {
        let outcomes = (0..).zip(&promise.objectives).map(|(number, _)| {
            self.standing(promise, number).map_or(Outcome::Unproven, |standing| standing.verdict.outcome)
        });
        // No objective, no evidence.
        outcomes.reduce(worse).unwrap_or(Outcome::Unproven)
    }
}

const fn worse(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (Outcome::Broken, _) | (_, Outcome::Broken) => Outcome::Broken,
        (Outcome::Kept, Outcome::Kept) => Outcome::Kept,
        _ => Outcome::Unproven,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_kept_when_every_objective_is() {
        use Outcome::{Broken, Kept, Unproven};
        for (outcomes, expected) in [
            (&[Kept][..], Kept),
            (&[Kept, Kept], Kept),
            (&[Kept, Unproven], Unproven),
            (&[Unproven, Broken], Broken),
            (&[Broken, Kept], Broken),
        ] {
            assert_eq!(outcomes.iter().copied().reduce(worse), Some(expected), "{outcomes:?}");
        }
    }
}
