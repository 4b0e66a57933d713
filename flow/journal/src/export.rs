//! Export of a log as files: the output of `garant log export DIR`, which any web server can serve.
//!
//! Entries go in one after another and come out as tiles, entry bundles and payload bundles as soon as these are full, so
//! the size of the log does not matter. The checkpoint is written last, once all else is on the disk: whoever reads while we
//! write, or after a crash, never sees a checkpoint without its tree.
//!
//! An export into the folder of an earlier one leaves the new one and nothing else of a log: a policy, a verdict or a proof
//! that lies there and is no longer so would be taken for a forgery, and an old partial bundle may hold payloads that are
//! destroyed since. Files that are none of ours are let alone.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disclosure::Disclosure;
use crate::note::{Note, NoteError, VerifierKey};
use crate::seal::Salt;
use crate::tile::{self, BundleError, BundleId, TILE_WIDTH, TileId, Tiler};
use crate::tree;

pub use crate::files::Directory;

/// The signed head.
pub const CHECKPOINT: &str = "checkpoint";
/// The log's key, one line.
pub const VKEY: &str = "vkey";
/// The trust policy that the log proposes.
pub const TLOG_POLICY: &str = "tlog-policy";
/// The body of the `policy.applied` in effect.
pub const POLICY: &str = "policy.json";
/// The latest verdict of each objective: an array of [`ListedVerdict`], as [`listing`](crate::listing) says.
pub const VERDICTS: &str = "verdicts.json";
/// Checkpoints signed by two keys of the log, each the next of the other.
pub const ROTATIONS: &str = "rotations";

/// Path of the proof of entry `sequence`.
pub fn proof_path(sequence: u64) -> String {
    format!("proof/{sequence}.tlog-proof")
}

/// The destination of an export.
pub trait ExportSink {
    /// Writes `bytes` at `path`, a relative path with `/` between its parts, in place of what was there.
    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// The checkpoint that is there, if any.
    fn checkpoint(&self) -> io::Result<Option<Vec<u8>>>;

    /// Paths of the files that are there: at least those whose path [`is_of_an_export`] knows.
    fn paths(&self) -> io::Result<Vec<String>>;

    /// Removes a file.
    fn remove(&mut self, path: &str) -> io::Result<()>;

    /// Returns when all that was written and removed survives a power loss.
    fn sync(&mut self) -> io::Result<()>;
}

/// Suffix of a file that is being written.
pub(crate) const UNFINISHED: &str = ".tmp";

/// Whether an export may have a file at this path, or may have left one there while it was being written.
pub fn is_of_an_export(path: &str) -> bool {
    let path = path.strip_suffix(UNFINISHED).unwrap_or(path);
    [CHECKPOINT, VKEY, TLOG_POLICY, POLICY, VERDICTS, ROTATIONS].contains(&path)
        || tile::parse_path(path).is_some()
        || proof_of(path).is_some()
}

/// Sequence of the entry whose proof is at this path.
fn proof_of(path: &str) -> Option<u64> {
    let number = path.strip_prefix("proof/")?.strip_suffix(".tlog-proof")?;
    tile::parse_decimal(number)
}

/// One element of [`VERDICTS`].
#[derive(Clone, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ListedVerdict {
    /// Sequence of the entry that holds the verdict.
    pub sequence: u64,
    /// The body of that entry.
    pub verdict: Box<RawValue>,
}

/// The files beside the tree.
#[derive(Clone, Copy, Debug)]
pub struct Extras<'a> {
    /// The signed checkpoint over exactly the entries that were pushed.
    pub checkpoint_note: &'a str,
    /// The key that signed it.
    pub vkey: &'a VerifierKey,
    /// The trust policy that the log proposes, as text.
    pub tlog_policy: &'a str,
    /// The body of the `policy.applied` in effect, if there is one.
    pub policy: Option<&'a RawValue>,
    /// The latest verdict of each objective.
    pub verdicts: &'a [ListedVerdict],
    /// Notes signed by two keys, oldest first.
    pub rotations: &'a [String],
    /// Text of the tlog-proof of each verdict, by sequence.
    pub proofs: &'a [(u64, String)],
}

/// The reason why an export is not complete. Files written so far stay; the checkpoint is not among them.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be written.
    #[error("`{path}` can't be written: {source}")]
    Write {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What an earlier export left can't be removed.
    #[error("`{path}`, which an earlier export left, can't be removed: {source}")]
    Remove {
        /// Which one.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The disk did not confirm that it has the files.
    #[error("the files can't be written through to the disk: {0}")]
    Sync(io::Error),
    /// A leaf is longer than 65,535 bytes.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The checkpoint can't be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A verdict can't be written as JSON.
    #[error("`{VERDICTS}` can't be made: {0}")]
    Verdicts(serde_json::Error),
    /// The checkpoint is of another tree: entries were left out, added or changed on the way.
    #[error("the entries make {made}, the checkpoint signs {signed}; nothing was published")]
    OtherTree {
        /// Head of what was pushed.
        made: TreeHead,
        /// Head in the checkpoint.
        signed: TreeHead,
    },
}

/// Size and root of a tree, for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeHead {
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: crate::Hash,
}

impl std::fmt::Display for TreeHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries with the root {}", self.size, self.root)
    }
}

/// An export under way.
pub struct ExportWriter<'s> {
    sink: &'s mut dyn ExportSink,
    tiler: Tiler,
    /// Leaves of the bundle that is being filled.
    leaves: Vec<Vec<u8>>,
    /// Lines of the payload bundle that is being filled.
    payloads: Vec<u8>,
}

fn write(sink: &mut dyn ExportSink, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
    sink.write(path, bytes).map_err(|source| ExportError::Write { path: path.to_owned(), source })
}

impl<'s> ExportWriter<'s> {
    /// An export from the first entry of the log on.
    pub fn new(sink: &'s mut dyn ExportSink) -> Self {
        Self { sink, tiler: Tiler::new(), leaves: Vec::new(), payloads: Vec::new() }
    }

    /// Takes the next entry: its leaf and, when it is disclosed, salt and payload.
    pub fn push(&mut self, leaf: &[u8], disclosed: Option<(&Salt, &[u8])>) -> Result<(), ExportError> {
        if let Some((salt, payload)) = disclosed {
            let sequence = self.tiler.frontier().size();
            Disclosure { sequence, salt: *salt, payload }.write_line(&mut self.payloads);
        }
        self.leaves.push(leaf.to_vec());
        let sink = &mut *self.sink;
        self.tiler.push(tree::leaf_hash(leaf), |id: TileId, bytes| write(sink, &id.path(), bytes))?;
        if self.leaves.len() == usize::from(TILE_WIDTH) {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the bundles of the leaves at hand.
    fn flush(&mut self) -> Result<(), ExportError> {
        let size = self.tiler.frontier().size();
        let Some(BundleId { index, width }) = tile::bundles_for(size).last() else { return Ok(()) };
        let bundle = BundleId { index, width };
        write(self.sink, &bundle.entries_path(), &tile::encode_bundle(&self.leaves)?)?;
        write(self.sink, &bundle.payload_path(), &self.payloads)?;
        self.leaves.clear();
        self.payloads.clear();
        Ok(())
    }

    /// Writes the right edge of the tree, what goes beside it and, once it is known to be the head of what was pushed,
    /// the checkpoint.
    pub fn finish(mut self, extras: &Extras<'_>) -> Result<Checkpoint, ExportError> {
        let note = Note::parse(extras.checkpoint_note).map_err(|error: NoteError| CheckpointError::from(error))?;
        let checkpoint = Checkpoint::parse(&note.text)?;
        let frontier = self.tiler.frontier();
        let made = TreeHead { size: frontier.size(), root: frontier.root() };
        let signed = TreeHead { size: checkpoint.size, root: checkpoint.root };
        if made != signed {
            return Err(ExportError::OtherTree { made, signed });
        }
        if !self.leaves.is_empty() {
            self.flush()?;
        }
        for (id, bytes) in self.tiler.partial() {
            write(self.sink, &id.path(), bytes)?;
        }
        for (sequence, proof) in extras.proofs {
            write(self.sink, &proof_path(*sequence), proof.as_bytes())?;
        }
        write(self.sink, VKEY, format!("{}\n", extras.vkey).as_bytes())?;
        write(self.sink, TLOG_POLICY, extras.tlog_policy.as_bytes())?;
        if let Some(policy) = extras.policy {
            write(self.sink, POLICY, policy.get().as_bytes())?;
        }
        let verdicts = serde_json::to_vec(extras.verdicts).map_err(ExportError::Verdicts)?;
        write(self.sink, VERDICTS, &verdicts)?;
        if !extras.rotations.is_empty() {
            write(self.sink, ROTATIONS, extras.rotations.join("\n").as_bytes())?;
        }
        let sink = self.sink;
        let stale = stale(sink, checkpoint.size, extras)?;
        let (beside, tree): (Vec<_>, Vec<_>) = stale.into_iter().partition(|path| tile::parse_path(path).is_none());
        remove(sink, beside)?;
        sink.sync().map_err(ExportError::Sync)?;
        write(sink, CHECKPOINT, extras.checkpoint_note.as_bytes())?;
        sink.sync().map_err(ExportError::Sync)?;
        // Until now they belonged to the checkpoint before.
        remove(sink, tree)?;
        sink.sync().map_err(ExportError::Sync)?;
        Ok(checkpoint)
    }
}

/// The files that an earlier export left and this one does not have.
fn stale(sink: &dyn ExportSink, size: u64, extras: &Extras<'_>) -> Result<Vec<String>, ExportError> {
    let unlisted = |source| ExportError::Remove { path: CHECKPOINT.to_owned(), source };
    let before = sink.checkpoint().map_err(unlisted)?.and_then(|bytes| String::from_utf8(bytes).ok());
    let is_export = |text: String| Checkpoint::parse(&Note::parse(&text).ok()?.text).ok();
    if before.and_then(is_export).is_none() {
        return Ok(Vec::new());
    }
    let is_here = |path: &str| match path {
        CHECKPOINT | VKEY | TLOG_POLICY | VERDICTS => true,
        POLICY => extras.policy.is_some(),
        ROTATIONS => !extras.rotations.is_empty(),
        _ => match proof_of(path) {
            Some(sequence) => extras.proofs.iter().any(|(there, _)| *there == sequence),
            None => tile::parse_path(path).is_some_and(|resource| resource.is_of(size)),
        },
    };
    let paths = sink.paths().map_err(unlisted)?.into_iter();
    Ok(paths.filter(|path| is_of_an_export(path) && !is_here(path)).collect())
}

fn remove(sink: &mut dyn ExportSink, paths: Vec<String>) -> Result<(), ExportError> {
    paths.into_iter().try_for_each(|path| sink.remove(&path).map_err(|source| ExportError::Remove { path, source }))
}

#[cfg(test)]
mod tests;
