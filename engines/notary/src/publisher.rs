//! The publisher: makes the newest checkpoint public.
//!
//! The order matters more than the speed. A checkpoint is first **remembered** in a file outside the data directory, then
//! shown to the **witnesses**, then **published**. So nobody ever holds a checkpoint that this machine has not remembered,
//! and an old copy of the data directory that is put back is found at the next start, before anything is signed.
//!
//! A witness that does not answer delays nothing: the checkpoint is published without it, and again with its cosignature
//! once it has come round. What a reader requires of witnesses is the reader's policy, not ours.
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
use std::sync::atomic::{AtomicBool, Ordering};

use engine::{BoxFuture, Context, Engine, EngineError, OnFailure};
use event::{Monotonic, Span};
use futures_util::future::join_all;
use journal::checkpoint::Checkpoint;
use journal::cosignature;
use journal::listing::Listing;
use journal::note::{Note, Signature, VerifierKey};
use journal::published::Published;
use store::Head;
use tokio::sync::watch;

use crate::listed::Listed;
use crate::remembered::Memory;
use crate::witnessing::{About, Answer, Peer};

/// How often to look for a newer checkpoint.
const PUBLISH_EVERY: Span = Span::from_secs(1);
/// How often witnesses are asked at most.
const WITNESS_EVERY: Span = Span::from_secs(10);
/// How long a witness that failed is left alone.
const LEAVE_ALONE: Span = Span::from_secs(30);
/// How long witnesses may take on the way out.
const LAST_WITHIN: Span = Span::from_secs(3);

/// Publishes checkpoints.
pub struct Publisher {
    /// Keys of the log.
    keys: Vec<VerifierKey>,
    /// What is outside the data directory.
    memory: watch::Receiver<Arc<Memory>>,
    /// Who else is to see each checkpoint.
    witnesses: watch::Receiver<Arc<Vec<Peer>>>,
    /// For the pages.
    published: watch::Sender<Option<Arc<Published>>>,
    /// Whether a witness has seen another history.
    contradicted: AtomicBool,
}

impl Publisher {
    /// `memory` and `witnesses` are as the policy says; what is published goes to `published`.
    pub fn new(
        keys: Vec<VerifierKey>,
        memory: watch::Receiver<Arc<Memory>>,
        witnesses: watch::Receiver<Arc<Vec<Peer>>>,
        published: watch::Sender<Option<Arc<Published>>>,
    ) -> Self {
        Self { keys, memory, witnesses, published, contradicted: AtomicBool::new(false) }
    }

    async fn publish(&self, context: Context) -> Result<(), EngineError> {
        let mut round = Round::default();
        let mut listed = match context.journal.published().await? {
            Some(note) => {
                let size = Checkpoint::of_note(&note)?.size;
                let listed = Listed::at(context.journal.as_ref(), size, &context.progress).await?;
                self.show(&note, &listed.listing, &context);
                round.asked = self.cosigned_before(&note, context.clock.monotonic());
                listed
            }
            None => Listed::default(),
        };
        loop {
            let head = context.journal.head().await?;
            let stopping = context.stop.is_cancelled();
            let peers = Arc::clone(&self.witnesses.borrow());
            let now = context.clock.monotonic();
            round.asked.retain(|asked| peers.iter().any(|peer| peer.vkey == asked.vkey));
            let moved = self
                .published
                .borrow()
                .as_ref()
                .is_none_or(|published| published.size < head.size || self.is_resigned(published, &head));
            if round.is_due(&peers, moved.then_some(stopping), head.size, now) {
                self.step(&context, &head, &peers, &mut round, &mut listed, now).await?;
            }
            context.progress.tick();
            if stopping {
                return Ok(());
            }
            // On the way out, one last look: what was journaled while stopping is published too.
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(PUBLISH_EVERY.to_std()) => {}
            }
        }
    }

    /// What the note published before says of the witnesses: its lines are kept, and nobody is asked for them again.
    fn cosigned_before(&self, note: &str, now: Monotonic) -> Vec<Asked> {
        let Some((note, size)) = Note::parse(note).ok().zip(self.published.borrow().as_ref().map(|p| p.size)) else {
            return Vec::new();
        };
        let peers = Arc::clone(&self.witnesses.borrow());
        let lines = peers.iter().filter_map(|peer| {
            let verifies = |line: &&Signature| cosignature::verify(&peer.vkey, &note.text, line).is_ok();
            let line = note.signatures.iter().find(verifies)?.clone();
            Some(Asked { vkey: peer.vkey.clone(), size, again_at: now, line: Some(line) })
        });
        lines.collect()
    }

    /// Whether the head is signed by other keys than what was published of the same size.
    fn is_resigned(&self, published: &Published, head: &Head) -> bool {
        let signers = |note: &str| {
            Note::parse(note).ok().map(|note| {
                let claims = |key: &&VerifierKey| note.signatures.iter().any(|signature| signature.claims(key));
                self.keys.iter().filter(claims).count()
            })
        };
        published.size == head.size && signers(&published.note) != signers(&head.note)
    }

    /// Remembers, has cosigned, publishes.
    async fn step(
        &self,
        context: &Context,
        head: &Head,
        peers: &[Peer],
        round: &mut Round,
        listed: &mut Listed,
        now: Monotonic,
    ) -> Result<(), EngineError> {
        let memory = Arc::clone(&self.memory.borrow());
        memory.write(head.note.clone()).await.map_err(|failure| {
            let remedy = failure.what_to_do().unwrap_or_default();
            EngineError::new(format!("{failure}; {remedy}"))
        })?;

        let mut note = Note::parse(&head.note)?;
        round.next_at = Some(later(now, WITNESS_EVERY));
        self.witness(context, head, &note, peers, round, now).await?;
        let lines = round.asked.iter().filter(|asked| asked.size == head.size);
        note.signatures.extend(lines.filter_map(|asked| asked.line.clone()));

        let note = note.to_string();
        context.journal.publish(note.clone(), head.size).await?;
        listed.advance(context.journal.as_ref(), head.size, &context.progress).await?;
        self.show(&note, &listed.listing, context);
        Ok(())
    }

    /// Asks those witnesses whose cosignature is missing and whose time has come.
    async fn witness(
        &self,
        context: &Context,
        head: &Head,
        note: &Note,
        peers: &[Peer],
        round: &mut Round,
        now: Monotonic,
    ) -> Result<(), EngineError> {
        let (stopping, memory) = (context.stop.is_cancelled(), Arc::clone(&self.memory.borrow()));
        let lacking: Vec<&Peer> = peers
            .iter()
            .filter(|peer| round.lacks(peer, head.size, if stopping { Monotonic(i64::MAX) } else { now }))
            .collect();
        let (net, log) = (context.net.as_ref(), context.journal.as_ref());
        let about = About { net, log, keys: &self.keys, head, note };
        let answers = join_all(lacking.iter().map(|peer| peer.ask(&about, round.known(peer))));
        let answers = if stopping {
            // Whoever is slow now is asked at the next start.
            tokio::time::timeout(LAST_WITHIN.to_std(), answers).await.unwrap_or_default()
        } else {
            answers.await
        };
        for (peer, answer) in lacking.iter().zip(answers) {
            let asked = match answer {
                Answer::Cosigned(line) => Asked {
                    vkey: peer.vkey.clone(),
                    size: head.size,
                    again_at: later(now, WITNESS_EVERY),
                    line: Some(line),
                },
                Answer::Failed { why, known } => {
                    tracing::warn!(witness = peer.name, %why, "a witness did not cosign");
                    let (size, again_at) = (known.unwrap_or(0), later(now, LEAVE_ALONE));
                    Asked { vkey: peer.vkey.clone(), size, again_at, line: None }
                }
                Answer::Contradicts(contradiction) => {
                    self.contradicted.store(true, Ordering::Relaxed);
                    contradiction.keep(&memory).await;
                    return Err(EngineError::new(format!("{contradiction}: {}", contradiction.remedy())));
                }
            };
            round.asked.retain(|before| before.vkey != peer.vkey);
            round.asked.push(asked);
        }
        Ok(())
    }

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

/// What is known of the witnesses since this engine started.
#[derive(Default)]
struct Round {
    asked: Vec<Asked>,
    /// When a newer checkpoint may be shown to them.
    next_at: Option<Monotonic>,
}

/// What is known of one.
struct Asked {
    vkey: VerifierKey,
    /// Size of the checkpoint that it cosigned last.
    size: u64,
    again_at: Monotonic,
    /// Its cosignature of that size.
    line: Option<Signature>,
}

impl Round {
    fn of(&self, peer: &Peer) -> Option<&Asked> {
        self.asked.iter().find(|asked| asked.vkey == peer.vkey)
    }

    fn known(&self, peer: &Peer) -> Option<u64> {
        self.of(peer).map(|asked| asked.size)
    }

    /// Whether to publish: a head that `moved` since, or the same again with the cosignatures that were missing. `moved` says
    /// whether this is the last look, for which nobody waits.
    fn is_due(&self, peers: &[Peer], moved: Option<bool>, size: u64, now: Monotonic) -> bool {
        match moved {
            Some(last) => last || peers.is_empty() || self.next_at.is_none_or(|at| at <= now),
            None => peers.iter().any(|peer| self.lacks(peer, size, now)),
        }
    }

    /// Whether the peer has not cosigned the checkpoint of that size, and may be asked.
    fn lacks(&self, peer: &Peer, size: u64, now: Monotonic) -> bool {
        self.of(peer).is_none_or(|asked| (asked.size != size || asked.line.is_none()) && asked.again_at <= now)
    }
}

const fn later(now: Monotonic, span: Span) -> Monotonic {
    Monotonic(now.0.saturating_add(span.micros()))
}

impl Engine for Publisher {
    fn name(&self) -> &'static str {
        "publisher"
    }

    fn floor(&self) -> u8 {
        1
    }

    /// A fork is not survived by trying again.
    fn on_failure(&self) -> OnFailure {
        if self.contradicted.load(Ordering::Relaxed) { OnFailure::StopProcess } else { OnFailure::Restart }
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.publish(context))
    }
}

#[cfg(test)]
mod tests;
