//! `garant log export`: writes the log as files.

use std::path::{Path, PathBuf};

use clap::Args;
use event::Envelope;
use journal::audit::Directory;
use journal::checkpoint::Checkpoint;
use journal::export::{ExportWriter, Extras, ListedVerdict};
use journal::leaf::Leaf;
use journal::listing::Listing;
use journal::note::{SigningKey, VerifierKey};
use notary::remembered::KeyHistory;
use notary::{head, keys, witnessing};
use store::Read as _;
use store::sqlite::SqliteReader;

use super::proof::tlog_proof;
use super::{note_if_outdated, open_to_read, unreadable};
use crate::cli::{DataArgument, runtime};
use crate::failure::Failure;
use crate::terminal::Terminal;

/// Entries that are read at a time.
const PIECE: u64 = 1024;

#[derive(Args, Debug)]
pub(crate) struct ExportCommand {
    #[command(flatten)]
    data: DataArgument,

    /// Where to write; files of an earlier export of the same log are brought up to date
    directory: PathBuf,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl ExportCommand {
    pub(super) fn run(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        let store = open_to_read(&self.data.data)?;
        note_if_outdated(&store, &self.data.data, terminal)?;
        runtime()?.block_on(self.export(&store, terminal))
    }

    async fn export(&self, store: &SqliteReader, terminal: &mut Terminal) -> Result<(), Failure> {
        let (data, directory) = (&self.data.data, &self.directory);
        let failed = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("the log can't be exported to {}", directory.display())).because(error)
        };
        let head = head::handed_out(store, data).await?;
        let note = head.note.clone();
        refuse_what_is_there(directory, store.origin(), head.size)?;

        let mut sink = Directory::new(directory);
        let mut writer = ExportWriter::new(&mut sink);
        let mut listing = Listing::new();
        let bar = terminal.progress("exporting", head.size);
        let mut next = 0;
        while next < head.size {
            let entries = store.entries(next..head.size.min(next + PIECE)).await.map_err(|error| unreadable(&error))?;
            if entries.is_empty() {
                return Err(Failure::new(format!("entry {next} of {} can't be read", head.size)));
            }
            for entry in entries {
                let leaf = Leaf::parse(&entry.leaf).ok().filter(Leaf::is_public);
                let payload = entry.payload.filter(|_| leaf.is_some());
                writer
                    .push(&entry.leaf, payload.as_ref().map(|payload| (&payload.salt, payload.bytes.as_slice())))
                    .map_err(|error| failed(&error))?;
                next = entry.sequence + 1;
                let Some(leaf) = leaf.filter(|leaf| Listing::concerns(&leaf.coarse)) else { continue };
                match payload.map(|payload| Envelope::decode(&payload.bytes)) {
                    Some(Ok(envelope)) => listing.take(entry.sequence, &envelope),
                    _ => listing.lose(&leaf.coarse),
                }
            }
            bar.set_position(next);
        }
        bar.finish_and_clear();

        let listed = listing.verdicts();
        let mut proofs = Vec::new();
        for ListedVerdict { sequence, .. } in &listed {
            proofs.push((*sequence, tlog_proof(store, *sequence, head.size, &note).await?));
        }
        let vkey = vkey(store, data).await?;
        let proposed = witnessing::last_proposed(data).unwrap_or_else(|| witnessing::proposed_policy(&vkey, "", &[]));
        let extras = Extras {
            checkpoint_note: &note,
            vkey: &vkey,
            tlog_policy: &proposed,
            policy: listing.policy_body(),
            verdicts: &listed,
            rotations: &store.rotations(head.size).await.map_err(|error| unreadable(&error))?,
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
            "{} entries of {} are in {}; verify them with\n\n    garant verify {} --vkey '{vkey}'\n",
            checkpoint.size,
            checkpoint.origin,
            directory.display(),
            quoted(directory),
        ));
        Ok(())
    }
}

/// Refuses a folder that holds something else than an earlier export of this log.
fn refuse_what_is_there(directory: &Path, origin: &str, size: u64) -> Result<(), Failure> {
    let refused = |what: &str| {
        Failure::new(format!("{} {what}", directory.display())).remedy("name another folder, or an empty one")
    };
    if ["garant.db", keys::KEY].iter().any(|file| directory.join(file).exists()) {
        return Err(refused("is a data directory, whose keys nobody else may see"));
    }
    let there = match std::fs::read_to_string(directory.join("checkpoint")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut there = match std::fs::read_dir(directory) {
                Ok(there) => there,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(refused("can't be looked at").because(&error)),
            };
            return match there.next() {
                None => Ok(()),
                Some(_) => Err(refused("holds other files, and no export that was finished")),
            };
        }
        Err(error) => return Err(refused("holds a `checkpoint` that can't be read").because(&error)),
    };
    match Checkpoint::of_note(&there) {
        Err(_) => Err(refused("holds a `checkpoint` that is not one of a log")),
        Ok(there) if there.origin != origin => Err(refused(&format!("holds another log, {}", there.origin))),
        Ok(there) if there.size > size => {
            Err(refused(&format!("holds a newer state of this log, of {} entries; here it has {size}", there.size)))
        }
        Ok(_) => Ok(()),
    }
}

/// Quotes a text for a shell where that is needed.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let safe = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@' | '%');
    if !text.is_empty() && text.chars().all(safe) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The key in use: of the signer, or, where that is a credential of the service and not of this command, as the log
/// itself announced it.
async fn vkey(store: &SqliteReader, data: &Path) -> Result<VerifierKey, Failure> {
    if let Some(key) = keys::load(data)?.unwrap_or_default().first() {
        return Ok(SigningKey::vkey(key));
    }
    let history = KeyHistory::read(store).await?;
    history.key_in_use().cloned().ok_or_else(|| keys::missing(data, store.origin()))
}
