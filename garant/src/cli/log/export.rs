//! `garant log export`: the log as files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use event::policy::Applied;
use event::promise::Verdict;
use event::{Envelope, PromiseId};
use journal::audit::Directory;
use journal::checkpoint::Checkpoint;
use journal::export::{Extras, ListedVerdict, Writer};
use journal::leaf::Leaf;
use journal::note::{Note, SigningKey, VerifierKey};
use serde_json::value::RawValue;
use store::Journal as _;
use store::sqlite::Sqlite;

use super::proof::tlog_proof;
use super::{open_to_read, unreadable};
use crate::cli::{DataArgument, runtime};
use crate::failure::Failure;
use crate::keys;
use crate::remembered::History;
use crate::terminal::Terminal;
use crate::witnessing;

/// Entries are read in pieces of this many.
const PIECE: u64 = 1024;

#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    data: DataArgument,

    /// Where to write; files of an earlier export of the same log are brought up to date
    directory: PathBuf,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        let store = open_to_read(&self.data.data)?;
        runtime()?.block_on(self.export(&store, terminal))
    }

    async fn export(&self, store: &Arc<Sqlite>, terminal: &mut Terminal) -> Result<(), Failure> {
        let (data, directory) = (&self.data.data, &self.directory);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the log can't be exported to {}", directory.display())).because(error)
        };
        let head = store.head().await.map_err(|error| unreadable(&error))?;
        // With the cosignatures that were collected, when they are of this very head.
        let published = store.published().await.map_err(|error| unreadable(&error))?;
        let is_head = |note: &String| {
            Note::parse(note)
                .ok()
                .and_then(|note| Checkpoint::parse(&note.text).ok())
                .is_some_and(|c| c.size == head.size)
        };
        let note = published.filter(is_head).unwrap_or(head.note);

        let mut sink = Directory::new(directory);
        let mut writer = Writer::new(&mut sink);
        let mut policy: Option<Box<RawValue>> = None;
        let mut verdicts: BTreeMap<(PromiseId, u32), (u64, Box<RawValue>)> = BTreeMap::new();
        let bar = terminal.progress("exporting", head.size);
        let mut next = 0;
        while next < head.size {
            let entries = store.entries(next..head.size.min(next + PIECE)).await.map_err(|error| unreadable(&error))?;
            if entries.is_empty() {
                return Err(Failure::new(format!("entry {next} of {} can't be read", head.size)));
            }
            for entry in entries {
                let public = Leaf::parse(&entry.leaf).is_ok_and(|leaf| leaf.is_public());
                let payload = entry.payload.filter(|_| public);
                writer
                    .push(&entry.leaf, payload.as_ref().map(|payload| (&payload.salt, payload.bytes.as_slice())))
                    .map_err(|error| failed(&error))?;
                next = entry.sequence + 1;
                let Some(Ok(envelope)) = payload.map(|payload| Envelope::decode(&payload.bytes)) else { continue };
                if envelope.body::<Applied>().is_some() {
                    policy = Some(envelope.body);
                } else if let Some(Ok(verdict)) = envelope.body::<Verdict>() {
                    verdicts.insert((verdict.promise, verdict.objective), (entry.sequence, envelope.body));
                }
            }
            bar.set_position(next);
        }
        bar.finish_and_clear();

        let mut listed = Vec::new();
        let mut proofs = Vec::new();
        for (sequence, verdict) in verdicts.into_values() {
            proofs.push((sequence, tlog_proof(store, sequence, head.size, &note).await?));
            listed.push(ListedVerdict { sequence, verdict });
        }
        let vkey = vkey(store, data).await?;
        let proposed = keys::proposed_policy(data).unwrap_or_else(|| witnessing::proposed_policy(&vkey, "", &[]));
        let extras = Extras {
            checkpoint_note: &note,
            vkey: &vkey,
            tlog_policy: &proposed,
            policy: policy.as_deref(),
            verdicts: &listed,
            rotations: &store.rotations().await.map_err(|error| unreadable(&error))?,
            proofs: &proofs,
        };
        let checkpoint = writer.finish(&extras).map_err(|error| failed(&error))?;
        if self.json {
            terminal.json(&serde_json::json!({
                "directory": directory, "origin": checkpoint.origin, "size": checkpoint.size,
                "root": checkpoint.root.to_string(), "vkey": vkey.to_string(),
            }));
            return Ok(());
        }
        terminal.note(format!(
            "{} entries of {} are in {dir}; verify them with\n\n    garant verify {dir} --vkey '{vkey}'\n",
            checkpoint.size,
            checkpoint.origin,
            dir = directory.display(),
        ));
        Ok(())
    }
}

/// The key in use: of the signer, or, where that is a credential of the service and not of this command, as the log
/// itself announced it.
async fn vkey(store: &Arc<Sqlite>, data: &Path) -> Result<VerifierKey, Failure> {
    if let Some(key) = keys::load(data)?.unwrap_or_default().first() {
        return Ok(SigningKey::vkey(key));
    }
    let history = History::read(store).await?;
    history.key_in_use().cloned().ok_or_else(|| keys::missing(data, store.origin()))
}
