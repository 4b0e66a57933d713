//! The publisher: makes the newest checkpoint public.
//!
//! The order matters more than the speed. A checkpoint is first **remembered** in a file outside the data directory, then
//! shown to the **witnesses**, then **published**. So nobody ever holds a checkpoint that this machine has not remembered,
//! and an old copy of the data directory that is put back is found at the next start, before anything is signed.
//!
//! A witness that does not answer delays nothing: it is asked again later, and the checkpoint is published without it.
//! What a reader requires of witnesses is the reader's policy, not ours.

use std::path::PathBuf;
use std::sync::Arc;

use engine::{BoxFuture, Context, Engine, EngineError};
use event::{Span, Time};
use futures_util::future::join_all;
use journal::checkpoint::Checkpoint;
use journal::listing::Listing;
use journal::note::{Note, VerifierKey};
use store::Head;
use tokio::sync::watch;
use web::Published;

use crate::listed::Listed;
use crate::witnessing::{Answer, Peer};

/// How often to look for a newer checkpoint.
const PUBLISH_EVERY: Span = Span::from_secs(1);
/// How long a witness that failed is left alone.
const LEAVE_ALONE: Span = Span::from_secs(30);

/// Publishes checkpoints.
pub(crate) struct Publisher {
    /// Keys of the log.
    pub(crate) keys: Vec<VerifierKey>,
    /// Files outside the data directory.
    pub(crate) remember: watch::Receiver<Arc<Vec<PathBuf>>>,
    /// Who else is to see each checkpoint.
    pub(crate) witnesses: watch::Receiver<Arc<Vec<Peer>>>,
    /// For the pages.
    pub(crate) published: watch::Sender<Option<Arc<Published>>>,
}

impl Publisher {
    async fn publish(&self, context: Context) -> Result<(), EngineError> {
        let mut asked: Vec<Asked> = Vec::new();
        let mut listed = match context.journal.published().await? {
            Some(note) => {
                let size = Checkpoint::parse(&Note::parse(&note)?.text)?.size;
                let listed = Listed::at(context.journal.as_ref(), size, &context.progress).await?;
                self.show(&note, &listed.listing, &context);
                listed
            }
            None => Listed::default(),
        };
        loop {
            let head = context.journal.head().await?;
            if self
                .published
                .borrow()
                .as_ref()
                .is_none_or(|published| published.size < head.size || self.is_resigned(published, &head))
            {
                self.step(&context, &head, &mut asked, &mut listed).await?;
            }
            context.progress.tick();
            if context.stop.is_cancelled() {
                return Ok(());
            }
            // On the way out, one last look: what was journaled while stopping is published too.
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(PUBLISH_EVERY.to_std()) => {}
            }
        }
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
        asked: &mut Vec<Asked>,
        listed: &mut Listed,
    ) -> Result<(), EngineError> {
        let (paths, bytes) = (Arc::clone(&self.remember.borrow()), head.note.clone().into_bytes());
        tokio::task::spawn_blocking(move || {
            paths.iter().try_for_each(|path| {
                crate::data::write_whole(path, &bytes, 0o644).map_err(|error| (path.clone(), error))
            })
        })
        .await?
        .map_err(|(path, error)| {
            EngineError::new(format!(
                "the checkpoint of {} entries can't be remembered in {}: {error}; nothing is published until it can, so make \
                 that file writable or name another in `[journal] remember`",
                head.size,
                path.display()
            ))
        })?;

        let mut note = Note::parse(&head.note)?;
        let peers = Arc::clone(&self.witnesses.borrow());
        let now = context.clock.now();
        asked.retain(|before| peers.iter().any(|peer| peer.vkey == before.vkey));
        let due: Vec<&Peer> = peers
            .iter()
            .filter(|peer| !asked.iter().any(|before| before.vkey == peer.vkey && before.again_at > now))
            .collect();
        let answers = join_all(due.iter().map(|peer| {
            let known = asked.iter().find(|before| before.vkey == peer.vkey).map(|before| before.size);
            peer.ask(&context.net, context.journal.as_ref(), &note, head.size, known)
        }))
        .await;
        for (peer, answer) in due.iter().zip(answers) {
            let (size, again_at) = match answer {
                Answer::Cosigned(signature) => {
                    note.signatures.push(signature);
                    (head.size, now)
                }
                Answer::Failed { why, known } => {
                    tracing::warn!(witness = %peer.vkey.name(), %why, "a witness did not cosign");
                    (known.unwrap_or(0), now + LEAVE_ALONE)
                }
            };
            asked.retain(|before| before.vkey != peer.vkey);
            asked.push(Asked { vkey: peer.vkey.clone(), size, again_at });
        }

        let note = note.to_string();
        context.journal.publish(note.clone(), head.size).await?;
        listed.advance(context.journal.as_ref(), head.size, &context.progress).await?;
        self.show(&note, &listed.listing, context);
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

/// What is known of a witness since this engine started.
struct Asked {
    vkey: VerifierKey,
    /// Size of the checkpoint that it cosigned last.
    size: u64,
    again_at: Time,
}

impl Engine for Publisher {
    fn name(&self) -> &'static str {
        "publisher"
    }

    fn floor(&self) -> u8 {
        1
    }

    fn run(&self, context: Context) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.publish(context))
    }
}
