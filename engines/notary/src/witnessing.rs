//! A witness, as the log sees it: asked over HTTP to cosign each checkpoint (C2SP tlog-witness).
//!
//! **Problem.** A machine is set back to a snapshot, the remembered head beside the data directory included. Nothing on it knows that
//! the log was longer once, and it signs a second history. A witness knows. But a witness can be broken, or lie, and the
//! watch of a team must not stand still at the word of any server on the internet.
//!
//! **Principle.** Standing still costs availability; signing two histories costs everything that the log is for. Witnesses
//! are named by the team's own policy, so one that contradicts the log **stops it**, at the start and while it runs,
//! provided that it says so in full:
//!
//! | what a witness answers | what it is taken for |
//! |---|---|
//! | 200 with its cosignature | it has seen nothing else |
//! | 409 with a size that we have | where it stands; it is asked again from there |
//! | 409 with a size beyond ours, twice | a contradiction, unless the log has grown that far meanwhile |
//! | 422, or 409 without a size between equals, to a proof that holds by our own check, **and** then 409 with the very size that the proof begins at | a contradiction |
//! | anything else: silence, a refused connection, 5xx, a 422 alone, a size in another form, nonsense | nothing; it is left alone for a while |
//!
//! A contradiction is then put to the test: the witness is asked for the checkpoint that it has
//! ([`checkpoint_path`]). If that is signed by a key of this log and no part of it, it is *proved*: the note is remembered
//! beside the data directory, so that the log stays stopped when the witness falls silent, and the log after it cites it. If it
//! agrees with the log, the witness is broken and its word is worth nothing. If there is none, its word stands.
//!
//! So what can a lying witness do? Stop the log, loudly, until the team takes it out of its policy. It can't make the log
//! sign a second history, nor have it remember a checkpoint that its key never signed.
//!
//! One request, one connection: at one request in ten seconds (see the publisher) the connection that the specification
//! would rather see kept open would mostly be idle.

use std::path::Path;
use std::{fmt, fs, io};

use engine::Failure;
use engine::http::{Request, Response, header};
use engine::net::Net;
use event::Span;
use futures_util::future::join_all;
use journal::checkpoint;
use journal::note::{Note, Signature, VerifierKey};
use journal::tlog_policy::{self, TlogPolicy};
use journal::tree;
use journal::witness::{Refusal, accept_answer, checkpoint_path, encode_request};
use store::{Head, StoreError};

use crate::remembered::RememberedHeads;

/// Deadline of one request.
const WITHIN: Span = Span::from_secs(3);
/// Deadline of all requests to one witness for one cosignature.
const ALL_WITHIN: Span = Span::from_secs(12);
/// Most requests for one cosignature: its size, a proof from there, and both again when it contradicts.
const REQUESTS_MAX: u32 = 5;
/// Longest answer: the cosignature lines of a witness with several keys, or a checkpoint.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A witness and where to reach it.
#[derive(Clone, Debug)]
pub struct RemoteWitness {
    /// What the team calls it.
    pub name: String,
    /// Base URL, with the final `/`.
    pub url: String,
    /// Its cosignature key.
    pub vkey: VerifierKey,
}

/// The outcome of asking a witness.
#[derive(Debug)]
pub enum WitnessAnswer {
    /// Its cosignature, verified.
    Cosigned(Signature),
    /// No answer that is usable.
    Failed {
        /// Why.
        why: String,
        /// Size that it says it knows, when it said so.
        known: Option<u64>,
    },
    /// The witness has seen another history of this log.
    Contradicts(Contradiction),
}

/// The finding that a witness has seen another history of this log.
#[derive(Clone, Debug)]
pub struct Contradiction {
    witness: String,
    /// Number of entries that it has seen.
    seen: u64,
    /// Number of entries here.
    own: u64,
    /// The checkpoint that it has seen, signed by a key of this log.
    proof: Option<String>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { witness, seen, own, proof } = self;
        write!(f, "the witness {witness} contradicts this log: ")?;
        if seen > own {
            write!(f, "it has seen {seen} entries, and there are {own} here")?;
        } else {
            write!(f, "its first {seen} entries are not those that it has seen")?;
        }
        f.write_str(match proof {
            Some(_) => ". It shows a checkpoint that the key of this log signed",
            None => ". It shows no checkpoint to prove it",
        })
    }
}

impl Contradiction {
    /// The remedy, for the message.
    pub fn remedy(&self) -> String {
        let mut remedy = "nothing more is published. An older copy of the data was put back, or the log was continued \
            elsewhere: recover the true data. If it is lost, `garant log continue --reason …` opens a new log that cites \
            what is known of this one"
            .to_owned();
        if self.proof.is_none() {
            remedy.push_str(
                ". If it is the witness that is wrong, take it out of `witness` in [journal], and tell whoever relies on it",
            );
        }
        remedy
    }

    /// Writes the checkpoint that proves it to the remembered heads, so that this log stays stopped after a restart.
    pub async fn keep(&self, heads: &RememberedHeads) {
        let Some(proof) = &self.proof else { return };
        if let Err(error) = heads.write(proof.clone()).await {
            tracing::error!(%error, "the checkpoint that contradicts this log can't be remembered");
        }
    }
}

/// The answer of a witness to one request.
enum Reply {
    Cosigned(Signature),
    /// The size that the witness knows.
    Stands(u64),
    /// The witness refuses a proof that holds; with its reason.
    Refuses(String),
}

/// An error: there is no usable answer. Has the reason, and the size that the witness says it knows.
struct NoAnswer {
    why: String,
    known: Option<u64>,
}

impl From<StoreError> for NoAnswer {
    fn from(error: StoreError) -> Self {
        Self { why: error.to_string(), known: None }
    }
}

fn no_answer(why: impl Into<String>) -> NoAnswer {
    NoAnswer { why: why.into(), known: None }
}

/// The subject of a request to a witness.
pub struct About<'a> {
    /// The network to ask over.
    pub net: &'a Net,
    /// The log.
    pub log: &'a dyn store::Proofs,
    /// Keys of the log.
    pub keys: &'a [VerifierKey],
    /// The head to be cosigned.
    pub head: &'a Head,
    /// The note of that head, parsed.
    pub note: &'a Note,
}

impl RemoteWitness {
    /// Asks for a cosignature of the head in `about`, within 12 s. `known` is the size that the witness is believed to know; when it
    /// knows another, it says so and is asked again from there.
    pub async fn ask(&self, about: &About<'_>, known: Option<u64>) -> WitnessAnswer {
        match tokio::time::timeout(ALL_WITHIN.to_std(), self.converse(about, known)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(NoAnswer { why, known })) => WitnessAnswer::Failed { why, known },
            Err(_elapsed) => WitnessAnswer::Failed { why: format!("no whole answer within {ALL_WITHIN}"), known: None },
        }
    }

    async fn converse(&self, about: &About<'_>, known: Option<u64>) -> Result<WitnessAnswer, NoAnswer> {
        let own = about.head.size;
        let mut old = known.filter(|known| *known <= own).unwrap_or(0);
        // The size from which it refused a proof that holds; whether it claimed to have seen more entries than there are.
        let (mut refused_from, mut beyond) = (None, false);
        for _ in 0..REQUESTS_MAX {
            match self.submit(about, old).await? {
                Reply::Cosigned(signature) => return Ok(WitnessAnswer::Cosigned(signature)),
                Reply::Stands(at) if at > own => {
                    if about.log.head().await?.size >= at {
                        return Err(NoAnswer { why: "it was shown a newer checkpoint".to_owned(), known: Some(at) });
                    }
                    if beyond {
                        return self.contradiction(about, at).await;
                    }
                    (beyond, old) = (true, 0);
                }
                Reply::Stands(at) if refused_from == Some(at) => return self.contradiction(about, at).await,
                Reply::Stands(at) if at == old => return Err(no_answer("it refuses the very size that it stands at")),
                Reply::Stands(at) => old = at,
                // Any tree continues the empty one: there is nothing to refuse.
                Reply::Refuses(why) if old == 0 || refused_from == Some(old) => return Err(no_answer(why)),
                // A request from size 0 is answered with the size that it knows.
                Reply::Refuses(_) => (refused_from, old) = (Some(old), 0),
            }
        }
        Err(no_answer("it changes its mind about what it has seen"))
    }

    /// Sends one add-checkpoint request, with the consistency proof from `old`.
    async fn submit(&self, about: &About<'_>, old: u64) -> Result<Reply, NoAnswer> {
        let Head { size, root, .. } = about.head;
        // A consistency proof between equal trees, or from the empty one, is empty.
        let proof = about.log.consistency(old, *size).await?;
        let body = encode_request(old, &proof, &about.note.to_string());
        let response = self.send(about.net, Request::post(format!("{}add-checkpoint", self.url), body)).await?;
        let text = response.text();
        let content_type = response.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if response.status == 200 {
            let accepted = accept_answer(about.note, &text, &self.vkey);
            return accepted.map(|(line, _)| Reply::Cosigned(line)).map_err(|error| no_answer(error.to_string()));
        }
        if let Some(at) = Refusal::known_size(response.status, content_type.unwrap_or_default(), &text) {
            return Ok(Reply::Stands(at));
        }
        let why = format!("{} {}", response.status, text.lines().next().unwrap_or_default());
        // Between equal sizes 1.0.0 of the specification says 409 and drafts after it say 422.
        if response.status != 422 && (response.status != 409 || old != *size) {
            return Err(no_answer(why));
        }
        let own = about.log.root_at(old).await?;
        match tree::verify_consistency(old, &own, *size, root, &proof) {
            Ok(()) => Ok(Reply::Refuses(why)),
            Err(error) => Err(no_answer(format!("the proof for it does not hold here either: {error}"))),
        }
    }

    /// Asks the witness, which claims another history of `seen` entries, for the checkpoint that it has.
    async fn contradiction(&self, about: &About<'_>, seen: u64) -> Result<WitnessAnswer, NoAnswer> {
        let mut contradiction = Contradiction { witness: self.name.clone(), seen, own: about.head.size, proof: None };
        if let Some(shown) = self.shown(about).await {
            let size = shown.checkpoint.size;
            let grown = about.log.head().await?.size;
            if size > grown || about.log.root_at(size).await? != shown.checkpoint.root {
                contradiction.seen = size;
                contradiction.own = grown;
                contradiction.proof = Some(shown.note.to_string());
            } else if size == seen {
                let why = "it contradicts this log, but what it shows agrees: the witness is broken, tell its operator";
                return Err(no_answer(why));
            }
        }
        Ok(WitnessAnswer::Contradicts(contradiction))
    }

    /// The latest checkpoint of this log that the witness shows, if a key of the log signed it. It may be older than the one that it
    /// cosigned last.
    async fn shown(&self, about: &About<'_>) -> Option<checkpoint::VerifiedCheckpoint> {
        let origin = about.note.text.lines().next().unwrap_or_default();
        let url = format!("{}{}", self.url, checkpoint_path(origin));
        let response = self.send(about.net, Request::get(url)).await.ok()?;
        let opened = checkpoint::open(&response.text(), about.keys).ok()?;
        (response.status == 200 && opened.checkpoint.origin == origin).then_some(opened)
    }

    async fn send(&self, net: &Net, request: Request) -> Result<Response, NoAnswer> {
        let request = request.within(WITHIN).body_bytes_max(ANSWER_BYTES_MAX);
        request.send(net).await.map_err(|error| no_answer(error.to_string()))
    }
}

/// The trust policy that is proposed to readers: this log, these witnesses, and a majority of them required.
pub fn proposed_policy(log: &VerifierKey, url: &str, peers: &[RemoteWitness]) -> String {
    let mut witnesses: Vec<tlog_policy::Witness> = Vec::new();
    for peer in peers {
        if witnesses.iter().any(|known| known.vkey.public_bytes() == peer.vkey.public_bytes()) {
            continue;
        }
        let name = legal_name(&peer.name, |name| witnesses.iter().any(|known| known.name == name));
        // The submission prefix, to which a client appends `/add-checkpoint`.
        let url = Some(peer.url.trim_end_matches('/').to_owned());
        witnesses.push(tlog_policy::Witness { name, vkey: peer.vkey.clone(), url });
    }
    let majority = if witnesses.is_empty() { 0 } else { witnesses.len() / 2 + 1 };
    TlogPolicy::of_log(log.clone(), Some(url.to_owned()), witnesses, majority).to_text()
}

/// The name of a witness in a tlog-policy: one word, not `none`, not `witnesses`, the name of their group, and not one that
/// `is_taken`.
fn legal_name(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let word = |c: char| if c.is_whitespace() || c.is_control() { '-' } else { c };
    let name: String = name.trim().chars().map(word).collect();
    let name = if name.is_empty() { "witness".to_owned() } else { name };
    let is_free = |name: &str| !matches!(name, "none" | "witnesses") && !is_taken(name);
    if is_free(&name) {
        return name;
    }
    let numbered = (2..=u32::MAX).map(|number| format!("{name}-{number}")).find(|name| is_free(name));
    numbered.unwrap_or(name)
}

/// Asks the witnesses whether one of them has seen another history of this log; fails if one proves or insists on it. Called at
/// the start, before anything is signed. Silence is no failure: a network that is down must not keep the watch from starting,
/// and the publisher asks again.
pub async fn refuse_a_fork(
    net: &Net,
    log: &dyn store::Proofs,
    keys: &[VerifierKey],
    peers: &[RemoteWitness],
    heads: &RememberedHeads,
) -> Result<(), Failure> {
    if peers.is_empty() {
        return Ok(());
    }
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::new("the journal can't be read").because(error);
    let head = log.head().await.map_err(|error| failed(&error))?;
    let note = Note::parse(&head.note).map_err(|error| failed(&error))?;
    // A crash may have come between signing and remembering, and nobody gets what is not remembered.
    if let Err(error) = heads.write(head.note.clone()).await {
        tracing::warn!(%error, "the witnesses were not asked at the start");
        return Ok(());
    }
    let about = About { net, log, keys, head: &head, note: &note };
    for answer in join_all(peers.iter().map(|peer| peer.ask(&about, Some(head.size)))).await {
        if let WitnessAnswer::Contradicts(contradiction) = answer {
            contradiction.keep(heads).await;
            return Err(Failure::new(contradiction.to_string()).remedy(contradiction.remedy()));
        }
    }
    Ok(())
}

/// File in the data directory with the proposed trust policy, for exports.
const PROPOSED: &str = "tlog-policy";

/// Writes the proposed trust policy of the log to its data directory.
pub fn write_proposed_policy(data: &Path, policy: &str) -> io::Result<()> {
    store::write_whole(&data.join(PROPOSED), policy.as_bytes(), 0o644)
}

/// The trust policy that `garant up` wrote last.
pub fn last_proposed(data: &Path) -> Option<String> {
    fs::read_to_string(data.join(PROPOSED)).ok()
}

#[cfg(test)]
mod tests;
