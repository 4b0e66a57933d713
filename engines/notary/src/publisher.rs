//! The publisher: an engine that publishes the newest checkpoint.
//!
//! The order is what protects the log. A checkpoint is first **remembered** in a file outside the data directory, then
//! shown to the **witnesses**, then **published**. So nobody ever holds a checkpoint that this machine has not remembered,
//! and an old copy of the data directory that is put back is found at the next start, before anything is signed.
//!
//! A witness that does not answer holds nothing up for longer than its deadline: the checkpoint is published without it, and
//! again with its cosignature once it answers again. What a reader requires of witnesses is the reader's policy, not ours.
//!
//! **A witness that contradicts the log stops the process** ([`crate::witnessing`] says when that is believed): a second
//! history is the one thing that must not be published, and the next start finds the same.
//!
//! **Pace.** Without witnesses a new checkpoint is out within a second. A witness is somebody else's machine, often with
//! many logs to look after, and each cosignature costs it a write. So with witnesses the first change after a quiet time is
//! still published at once, and what follows is gathered: one checkpoint in [`WITNESS_EVERY`], one request each. Publishing
//! more often than the witnesses are asked would be the worse bargain, for a reader who requires a quorum would be refused
//! nine times out of ten. What it costs: what is published may be ten seconds old. What it gives: each published checkpoint
//! has all cosignatures that could be had, none older than the checkpoint itself.

use std::sync::Arc;

use engine::{BoxFuture, Context, Driver, Engine, EngineError, Reconcile};
use event::{Monotonic, Span};
use futures_util::future::join_all;
use journal::checkpoint::Checkpoint;
use journal::cosignature;
use journal::listing::Listing;
use journal::note::{Note, Signature, VerifierKey};
use journal::published::Published;
use store::{Head, Publish};
use tokio::sync::watch;

use crate::listed::Listed;
use crate::remembered::RememberedHeads;
use crate::witnessing::{About, RemoteWitness, WitnessAnswer};

/// Shortest time between two published checkpoints.
const PUBLISH_SPACING: Span = Span::from_secs(1);
/// Longest time between two turns, when the journal wakes none.
const LOOK_EVERY: Span = Span::from_secs(30);
/// Shortest time between two checkpoints that witnesses are asked to cosign.
const WITNESS_EVERY: Span = Span::from_secs(10);
/// Pause after a failure of a witness.
const LEAVE_ALONE: Span = Span::from_secs(30);
/// Deadline of all witnesses together while the process stops.
const LAST_WITHIN: Span = Span::from_secs(3);

/// The engine that publishes the checkpoints of `journal`, signed by `keys`. `heads` and `witnesses` are as the policy says;
/// what is published goes to `published`.
pub fn publisher(
    journal: Arc<dyn Publish>,
    keys: Vec<VerifierKey>,
    heads: watch::Receiver<Arc<RememberedHeads>>,
    witnesses: watch::Receiver<Arc<Vec<RemoteWitness>>>,
    published: watch::Sender<Option<Arc<Published>>>,
) -> impl Engine {
    let (size, policy) = (journal.size_watch(), witnesses.clone());
    let start = move || Publisher {
        journal: Arc::clone(&journal),
        keys: keys.clone(),
        heads: heads.clone(),
        witnesses: witnesses.clone(),
        published: published.clone(),
        round: Round::default(),
        listed: None,
        is_behind: false,
    };
    Driver::new("publisher", 1, start).woken_by(size).woken_by(policy)
}

/// The state of the publisher between its turns.
struct Publisher {
    journal: Arc<dyn Publish>,
    /// Keys of the log.
    keys: Vec<VerifierKey>,
    /// The files outside the data directory that remember the head.
    heads: watch::Receiver<Arc<RememberedHeads>>,
    /// The witnesses of the policy.
    witnesses: watch::Receiver<Arc<Vec<RemoteWitness>>>,
    /// The latest published checkpoint, for the pages.
    published: watch::Sender<Option<Arc<Published>>>,
    round: Round,
    /// The policy and verdicts listed beside the published tree; `None` before the first turn.
    listed: Option<Listed>,
    /// Whether the newest checkpoint, or a cosignature of it, is still to be published.
    is_behind: bool,
}

impl Reconcile for Publisher {
    /// Shorter while something waits for its time rather than for an append.
    fn every(&self) -> Span {
        if self.is_behind { PUBLISH_SPACING } else { LOOK_EVERY }
    }

    fn spacing(&self) -> Span {
        PUBLISH_SPACING
    }

    fn activate<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(self.publish(context))
    }
}

impl Publisher {
    async fn publish(&mut self, context: &Context) -> Result<(), EngineError> {
        if self.listed.is_none() {
            self.listed = Some(self.find_published(context).await?);
        }
        let head = self.journal.head().await?;
        // On the way out, one last look: what was journaled while stopping is published too.
        let stopping = context.stop.is_cancelled();
        let peers = Arc::clone(&self.witnesses.borrow());
        let now = context.clock.monotonic();
        self.round.asked.retain(|asked| peers.iter().any(|peer| peer.vkey == asked.vkey));
        let moved = self
            .published
            .borrow()
            .as_ref()
            .is_none_or(|published| published.size < head.size || self.is_resigned(published, &head));
        let due = self.round.is_due(&peers, moved.then_some(stopping), head.size, now);
        if due {
            self.publish_head(context, &head, &peers, now).await?;
        }
        let lacking = peers.iter().any(|peer| self.round.lacks(peer, head.size, Monotonic(i64::MAX)));
        self.is_behind = moved && !due || lacking;
        Ok(())
    }

    /// Shows the checkpoint that was published before this start. Returns the list beside it.
    async fn find_published(&mut self, context: &Context) -> Result<Listed, EngineError> {
        let Some(note) = self.journal.published().await? else { return Ok(Listed::default()) };
        let size = Checkpoint::of_note(&note)?.size;
        let listed = Listed::at(self.journal.as_ref(), size, &context.progress).await?;
        self.show(&note, &listed.listing, context);
        self.round.asked = self.cosigned_before(&note, context.clock.monotonic());
        Ok(listed)
    }

    /// The cosignatures in the note that was published before this start: witnesses are not asked for them again.
    fn cosigned_before(&self, note: &str, now: Monotonic) -> Vec<KnownWitness> {
        let Some((note, size)) = Note::parse(note).ok().zip(self.published.borrow().as_ref().map(|p| p.size)) else {
            return Vec::new();
        };
        let peers = Arc::clone(&self.witnesses.borrow());
        let lines = peers.iter().filter_map(|peer| {
            let verifies = |line: &&Signature| cosignature::verify(&peer.vkey, &note.text, line).is_ok();
            let line = note.signatures.iter().find(verifies)?.clone();
            Some(KnownWitness { vkey: peer.vkey.clone(), size, again_at: now, line: Some(line) })
        });
        lines.collect()
    }

    /// Whether the head has the published size and is signed by other keys, as after a rotation.
    fn is_resigned(&self, published: &Published, head: &Head) -> bool {
        let signers = |note: &str| {
            Note::parse(note).ok().map(|note| {
                let claims = |key: &&VerifierKey| note.signatures.iter().any(|signature| signature.claims(key));
                self.keys.iter().filter(claims).count()
            })
        };
        published.size == head.size && signers(&published.note) != signers(&head.note)
    }

    /// Remembers the head, asks the witnesses, publishes it.
    async fn publish_head(
        &mut self,
        context: &Context,
        head: &Head,
        peers: &[RemoteWitness],
        now: Monotonic,
    ) -> Result<(), EngineError> {
        let heads = Arc::clone(&self.heads.borrow());
        heads.write(head.note.clone()).await.map_err(|failure| {
            let remedy = failure.what_to_do().unwrap_or_default();
            EngineError::new(format!("{failure}; {remedy}"))
        })?;

        let mut note = Note::parse(&head.note)?;
        self.round.next_at = Some(later(now, WITNESS_EVERY));
        self.ask_witnesses(context, head, &note, peers, now).await?;
        let lines = self.round.asked.iter().filter(|asked| asked.size == head.size);
        note.signatures.extend(lines.filter_map(|asked| asked.line.clone()));

        let note = note.to_string();
        self.journal.publish(note.clone(), head.size).await?;
        let mut listed = self.listed.take().unwrap_or_default();
        listed.advance(self.journal.as_ref(), head.size, &context.progress).await?;
        self.show(&note, &listed.listing, context);
        self.listed = Some(listed);
        Ok(())
    }

    /// Asks those witnesses whose cosignature is missing and whose pause is over.
    async fn ask_witnesses(
        &mut self,
        context: &Context,
        head: &Head,
        note: &Note,
        peers: &[RemoteWitness],
        now: Monotonic,
    ) -> Result<(), EngineError> {
        let (stopping, heads) = (context.stop.is_cancelled(), Arc::clone(&self.heads.borrow()));
        let lacking: Vec<&RemoteWitness> = peers
            .iter()
            .filter(|peer| self.round.lacks(peer, head.size, if stopping { Monotonic(i64::MAX) } else { now }))
            .collect();
        let (net, log) = (context.net.as_ref(), self.journal.as_ref() as &dyn store::Proofs);
        let about = About { net, log, keys: &self.keys, head, note };
        let answers = join_all(lacking.iter().map(|peer| peer.ask(&about, self.round.known(peer))));
        let answers = if stopping {
            // A slow one is asked again at the next start.
            tokio::time::timeout(LAST_WITHIN.to_std(), answers).await.unwrap_or_default()
        } else {
            answers.await
        };
        for (peer, answer) in lacking.iter().zip(answers) {
            let asked = match answer {
                WitnessAnswer::Cosigned(line) => KnownWitness {
                    vkey: peer.vkey.clone(),
                    size: head.size,
                    again_at: later(now, WITNESS_EVERY),
                    line: Some(line),
                },
                WitnessAnswer::Failed { why, known } => {
                    tracing::warn!(witness = peer.name, %why, "a witness did not cosign");
                    let (size, again_at) = (known.unwrap_or(0), later(now, LEAVE_ALONE));
                    KnownWitness { vkey: peer.vkey.clone(), size, again_at, line: None }
                }
                WitnessAnswer::Contradicts(contradiction) => {
                    contradiction.keep(&heads).await;
                    // A fork is not survived by trying again.
                    return Err(EngineError::fatal(format!("{contradiction}: {}", contradiction.remedy())));
                }
            };
            self.round.asked.retain(|before| before.vkey != peer.vkey);
            self.round.asked.push(asked);
        }
        Ok(())
    }

    /// Hands the published checkpoint to the pages.
    fn show(&self, note: &str, listing: &Listing, context: &Context) {
        let witnesses: Vec<VerifierKey> = self.witnesses.borrow().iter().map(|peer| peer.vkey.clone()).collect();
        match Published::read(note, &self.keys, &witnesses, context.clock.now(), listing) {
            Ok(published) => {
                self.published.send_replace(Some(Arc::new(published)));
            }
            Err(error) => tracing::error!(%error, "the checkpoint can't be shown"),
        }
    }
}

/// The witnesses as they answered since this engine started.
#[derive(Default)]
struct Round {
    asked: Vec<KnownWitness>,
    /// The earliest time at which they may be asked to cosign a newer checkpoint.
    next_at: Option<Monotonic>,
}

/// The last answer of a witness.
struct KnownWitness {
    vkey: VerifierKey,
    /// Size of the checkpoint that it cosigned last, or says that it knows.
    size: u64,
    /// The earliest time at which it may be asked again.
    again_at: Monotonic,
    /// Its cosignature of the checkpoint of that size.
    line: Option<Signature>,
}

impl Round {
    fn of(&self, peer: &RemoteWitness) -> Option<&KnownWitness> {
        self.asked.iter().find(|asked| asked.vkey == peer.vkey)
    }

    fn known(&self, peer: &RemoteWitness) -> Option<u64> {
        self.of(peer).map(|asked| asked.size)
    }

    /// Whether to publish now. `moved` is `None` when the published head is still the newest: then cosignatures may be missing that
    /// can be had now. Otherwise it says whether this is the last turn, which waits for no pause.
    fn is_due(&self, peers: &[RemoteWitness], moved: Option<bool>, size: u64, now: Monotonic) -> bool {
        match moved {
            Some(last) => last || peers.is_empty() || self.next_at.is_none_or(|at| at <= now),
            None => peers.iter().any(|peer| self.lacks(peer, size, now)),
        }
    }

    /// Whether the peer has not cosigned the checkpoint of that size, and may be asked.
    fn lacks(&self, peer: &RemoteWitness, size: u64, now: Monotonic) -> bool {
        self.of(peer).is_none_or(|asked| (asked.size != size || asked.line.is_none()) && asked.again_at <= now)
    }
}

const fn later(now: Monotonic, span: Span) -> Monotonic {
    Monotonic(now.0.saturating_add(span.micros()))
}

#[cfg(test)]
mod tests;
