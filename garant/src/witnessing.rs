//! A witness, as the log sees it: asked over HTTP to cosign each checkpoint (C2SP tlog-witness).

use engine::http::{Request, header};
use engine::net::Net;
use event::Span;
use journal::note::{Note, Signature, VerifierKey};
use journal::tlog_policy::{self, TlogPolicy};
use journal::witness::{Refusal, accept_answer, encode_request};

use crate::failure::Failure;

/// How long a witness may take.
const WITHIN: Span = Span::from_secs(3);
/// Longest answer: a few signature lines.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A witness and where to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Base URL, with the final `/`.
    pub(crate) url: String,
    /// Its cosignature key.
    pub(crate) vkey: VerifierKey,
}

/// What came of asking.
pub(crate) enum Answer {
    /// Its cosignature, verified.
    Cosigned(Signature),
    /// Nothing usable.
    Failed {
        /// Why.
        why: String,
        /// Size that it says it knows, when it said so.
        known: Option<u64>,
    },
}

impl Peer {
    /// Asks for a cosignature of the checkpoint `note` of `size` entries. `known` is the size that the witness is believed
    /// to know; when it knows another, it says so and is asked once more.
    pub(crate) async fn ask(
        &self,
        net: &Net,
        log: &dyn store::Journal,
        note: &Note,
        size: u64,
        known: Option<u64>,
    ) -> Answer {
        let mut old = known.unwrap_or(0);
        for _ in 0..2 {
            let failed = |why: String, known| Answer::Failed { why, known };
            if old > size {
                let why = format!("it has seen {old} entries of this log, which has only {size}");
                return failed(why, Some(old));
            }
            // A consistency proof between equal trees, or from the empty one, is empty.
            let proof = match log.consistency(old, size).await {
                Ok(proof) => proof,
                Err(error) => return failed(error.to_string(), None),
            };
            let url = format!("{}add-checkpoint", self.url);
            let body = encode_request(old, &proof, &note.to_string());
            let request = Request::post(url, body).within(WITHIN).body_bytes_max(ANSWER_BYTES_MAX);
            let response = match request.send(net).await {
                Ok(response) => response,
                Err(error) => return failed(error.to_string(), None),
            };
            let text = response.text();
            if response.status == 200 {
                return match accept_answer(note, &text, &self.vkey) {
                    Ok((signature, _)) => Answer::Cosigned(signature),
                    Err(error) => failed(error.to_string(), None),
                };
            }
            let content_type = response.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            match Refusal::known_size(response.status, content_type.unwrap_or_default(), &text) {
                Some(known) if known != old => old = known,
                _ => return failed(format!("{} {}", response.status, text.trim_end()), None),
            }
        }
        Answer::Failed { why: "it changes its mind about what it has seen".to_owned(), known: Some(old) }
    }
}

/// What a reader may copy: this log, these witnesses, and a majority of them required.
pub(crate) fn proposed_policy(log: &VerifierKey, url: &str, peers: &[Peer]) -> String {
    let witness = |peer: &Peer| tlog_policy::Witness {
        name: peer.vkey.name().replace('/', "-"),
        vkey: peer.vkey.clone(),
        url: Some(peer.url.clone()),
    };
    let witnesses: Vec<_> = peers.iter().map(witness).collect();
    let majority = if witnesses.is_empty() { 0 } else { witnesses.len() / 2 + 1 };
    TlogPolicy::of_log(log.clone(), Some(url.to_owned()), witnesses, majority).to_text()
}

/// Asks the witnesses, before anything is signed, whether one of them has seen more of this log than there is. Silence is
/// no answer: a network that is down must not keep the watch from starting, and the remembered head is checked anyway.
pub(crate) async fn refuse_a_rollback(net: &Net, log: &dyn store::Journal, peers: &[Peer]) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::new("the journal can't be read").because(error);
    let head = log.head().await.map_err(|error| failed(&error))?;
    let note = Note::parse(&head.note).map_err(|error| failed(&error))?;
    for peer in peers {
        // Nothing to fear from a witness that has seen as much as we remember having shown it, or less.
        if let Answer::Failed { known: Some(known), why } = peer.ask(net, log, &note, head.size, Some(head.size)).await
            && known > head.size
        {
            return Err(Failure::new(format!("the witness {} contradicts this log: {why}", peer.vkey.name())).remedy(
                "an older copy of the data was put back: recover the newer one. If it is lost, `garant log succeed \
                 --reason …` opens a new log that cites what is known of this one",
            ));
        }
    }
    Ok(())
}
