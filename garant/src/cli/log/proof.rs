//! `garant log proof`: writes the proof that an entry is in the log, or that the log continues an older state of itself.
//!
//! The second is a proof of consistency. C2SP's tlog-proof has no form for it; tlog-witness has one, the question that a
//! log puts to its witnesses, and readers exist for it. So that is what `--from` writes: the older size, the hashes of
//! RFC 6962, and the newer checkpoint, signed. A newer *size* would be nothing that anybody signed: `--to` takes a
//! checkpoint.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use journal::checkpoint::{self, Checkpoint};
use journal::disclosure::Disclosure;
use journal::leaf::Leaf;
use journal::note::Note;
use journal::tlog_proof::TlogProof;
use journal::witness::encode_request;
use notary::head;
use store::sqlite::SqliteReader;
use store::{Proofs as _, Read as _};

use super::{note_if_outdated, open_to_read, unreadable};
use crate::cli::{DataArgument, runtime};
use crate::failure::{Failure, USAGE};
use crate::terminal::Terminal;

#[derive(Args, Debug)]
#[command(after_help = "\
Two forms:
  garant log proof 17           entry 17 is in the log: a tlog-proof with the newest checkpoint
  garant log proof --from 1000  the log continues its first 1000 entries: the older size, the hashes of
                                RFC 6962, section 2.1.2, and the newest checkpoint (C2SP tlog-witness)

To be convinced by the second, have a checkpoint of the older size that you kept. Who has the whole log
needs no such file: `garant verify --since CHECKPOINT` computes the older root from the entries.")]
pub(crate) struct ProofCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Which entry, counted from 0
    #[arg(required_unless_present = "from")]
    sequence: Option<u64>,

    /// Prove instead that the log continues what it was when it had this many entries
    #[arg(long, value_name = "SIZE", conflicts_with = "sequence")]
    from: Option<u64>,

    /// A later checkpoint of this log to prove it to, instead of the newest
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with = "sequence")]
    to: Option<PathBuf>,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl ProofCommand {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        let store = open_to_read(&self.data.data)?;
        note_if_outdated(&store, &self.data.data, terminal)?;
        let (what, text) = runtime()?.block_on(async {
            match (self.from, self.sequence) {
                (Some(old), _) => self.consistency(&store, old).await,
                (None, Some(sequence)) => self.inclusion(&store, sequence).await,
                (None, None) => Err(Failure::new("there is nothing to prove").remedy("name an entry, or --from SIZE")),
            }
        })?;
        if self.json {
            let mut answer = what;
            answer["origin"] = store.origin().into();
            answer["proof"] = text.into();
            terminal.json(&answer);
        } else {
            terminal.raw(text.as_bytes());
        }
        Ok(())
    }

    async fn consistency(&self, store: &SqliteReader, old: u64) -> Result<(serde_json::Value, String), Failure> {
        let head = head::handed_out(store, &self.data.data).await?;
        let (size, note) = match &self.to {
            None => (head.size, head.note),
            Some(file) => {
                let wrong = || Failure::new(format!("{} is no checkpoint of this log", file.display())).code(USAGE);
                let text = fs::read_to_string(file).map_err(|error| {
                    Failure::new(format!("{} can't be read", file.display())).because(&error).code(USAGE)
                })?;
                let note = Note::parse(&text).map_err(|error| wrong().because(&error))?;
                let Checkpoint { origin, size, root } = Checkpoint::parse(&note.text)
                    .map_err(|error: checkpoint::CheckpointError| wrong().because(&error))?;
                if origin != store.origin() {
                    return Err(wrong().remedy(format!("it is of the log {origin}, and this is {}", store.origin())));
                }
                if size > head.size {
                    return Err(
                        wrong().remedy(format!("it has {size} entries, and only {} are published here", head.size))
                    );
                }
                if store.root_at(size).await.map_err(|error| unreadable(&error))? != root {
                    return Err(wrong()
                        .remedy("its root is not that of the same number of entries here: keep it, it is evidence"));
                }
                (size, text)
            }
        };
        if old > size {
            return Err(Failure::new(format!(
                "a log of {size} entries can't continue one of {old}: --from names the older size"
            ))
            .code(USAGE));
        }
        let hashes = store.consistency(old, size).await.map_err(|error| unreadable(&error))?;
        Ok((serde_json::json!({ "from": old, "to": size }), encode_request(old, &hashes, &note)))
    }

    async fn inclusion(&self, store: &SqliteReader, sequence: u64) -> Result<(serde_json::Value, String), Failure> {
        let head = head::handed_out(store, &self.data.data).await?;
        if sequence >= head.size {
            return Err(Failure::new(format!("the log has no entry {sequence}: {} are published, from 0", head.size)));
        }
        let text = tlog_proof(store, sequence, head.size, &head.note).await?;
        Ok((serde_json::json!({ "sequence": sequence, "size": head.size }), text))
    }
}

pub(super) async fn tlog_proof(store: &SqliteReader, sequence: u64, size: u64, note: &str) -> Result<String, Failure> {
    let proof = store.inclusion(sequence, size).await.map_err(|error| unreadable(&error))?;
    let entries = store.entries(sequence..sequence + 1).await.map_err(|error| unreadable(&error))?;
    let entry = entries.into_iter().next().ok_or_else(|| Failure::new(format!("entry {sequence} can't be read")))?;
    let public = Leaf::parse(&entry.leaf).is_ok_and(|leaf| leaf.is_public());
    let payload = entry.payload.filter(|_| public);
    let disclosure =
        payload.as_ref().map(|payload| Disclosure { sequence, salt: payload.salt, payload: &payload.bytes });
    let proof = TlogProof { index: sequence, proof, checkpoint_note: note.to_owned(), extra: None };
    Ok(proof.with_evidence(&entry.leaf, disclosure.as_ref()).to_text())
}
