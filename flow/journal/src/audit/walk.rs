//! The walk from the first entry to the last: every bundle hashed, every tile compared, every payload opened.

use std::collections::BTreeMap;

use event::Envelope;

use super::error::{AuditError, AuditFault};
use super::{ExportSource, optional, required};
use crate::Hash;
use crate::checkpoint::Checkpoint;
use crate::disclosure::Disclosure;
use crate::export;
use crate::leaf::Leaf;
use crate::seal;
use crate::tile::{self, BundleId, TileId, Tiler};
use crate::tree;

/// An entry whose bytes were read and whose payload, if it is there, is the committed one.
pub(super) struct Seen<'a> {
    /// Its leaf.
    pub(super) leaf: Leaf,
    /// The bytes of its leaf.
    pub(super) leaf_bytes: &'a [u8],
    /// Its payload.
    pub(super) envelope: Option<Envelope>,
    /// The file that holds its payload, or should.
    pub(super) payload_path: &'a str,
}

/// Reads all entries under `head`, hands each to `entry`, compares root and tiles, and returns the roots of the trees of
/// the `wanted` sizes (those up to the size of the log).
pub(super) fn walk(
    source: &dyn ExportSource,
    head: &Checkpoint,
    wanted: Vec<u64>,
    entry: &mut dyn FnMut(Seen<'_>) -> Result<(), AuditError>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BTreeMap<u64, Hash>, AuditError> {
    let mut wanted = wanted;
    wanted.sort_unstable();
    wanted.dedup();
    let mut wanted = wanted.into_iter().peekable();
    let mut roots = BTreeMap::new();
    let mut tiler = Tiler::new();
    let mut note_root = |tiler: &Tiler| {
        let frontier = tiler.frontier();
        if wanted.next_if_eq(&frontier.size()).is_some() {
            roots.insert(frontier.size(), frontier.root());
        }
    };
    note_root(&tiler);
    for bundle in tile::bundles_for(head.size) {
        let entries_path = bundle.entries_path();
        let bytes = required(source, &entries_path)?;
        let malformed = |what: String| AuditError::at(&entries_path, AuditFault::Malformed { what });
        let leaves = tile::decode_bundle(&bytes, bundle.width).map_err(|error| malformed(error.to_string()))?;
        let payload_path = bundle.payload_path();
        let payloads = optional(source, &payload_path)?.unwrap_or_default();
        let mut payloads = Payloads::new(&payload_path, &payloads, bundle)?;
        for (sequence, leaf_bytes) in (bundle.start()..).zip(leaves) {
            let at = |finding| AuditError::of_entry(&entries_path, sequence, finding);
            let leaf =
                Leaf::parse(leaf_bytes).map_err(|error| at(AuditFault::Malformed { what: error.to_string() }))?;
            if leaf.sequence != sequence {
                return Err(at(AuditFault::WrongSequence { found: leaf.sequence }));
            }
            tiler.push(tree::leaf_hash(leaf_bytes), |id, computed| compare(source, id, computed))?;
            note_root(&tiler);
            let envelope = payloads.open(&leaf)?;
            entry(Seen { leaf, leaf_bytes, envelope, payload_path: &payload_path })?;
        }
        payloads.finish()?;
        progress(tiler.frontier().size(), head.size);
    }
    let computed = tiler.frontier().root();
    if computed != head.root {
        let finding = AuditFault::WrongRoot { size: head.size, computed, signed: head.root };
        return Err(AuditError::at(export::CHECKPOINT, finding));
    }
    for (id, computed) in tiler.partial() {
        compare(source, id, computed)?;
    }
    Ok(roots)
}

/// Whether the tile that lies there is the one that the entries make.
fn compare(source: &dyn ExportSource, id: TileId, computed: &[u8]) -> Result<(), AuditError> {
    let path = id.path();
    if required(source, &path)? == computed { Ok(()) } else { Err(AuditError::at(&path, AuditFault::WrongTile)) }
}

/// The disclosures of one bundle, in order.
struct Payloads<'a> {
    path: &'a str,
    lines: std::iter::Peekable<std::vec::IntoIter<Disclosure<'a>>>,
}

impl<'a> Payloads<'a> {
    fn new(path: &'a str, bytes: &'a [u8], bundle: BundleId) -> Result<Self, AuditError> {
        let malformed = |what: String| AuditError::at(path, AuditFault::Malformed { what });
        let mut lines: Vec<Disclosure<'_>> = Vec::new();
        for line in Disclosure::parse_bundle(bytes) {
            let line = line.map_err(|error| malformed(error.to_string()))?;
            if lines.len() == usize::from(bundle.width) {
                return Err(malformed(format!("it has more lines than the {} entries it is about", bundle.width)));
            }
            lines.push(line);
        }
        Ok(Self { path, lines: lines.into_iter().peekable() })
    }

    /// The payload of the entry, if the next line discloses it.
    fn open(&mut self, leaf: &Leaf) -> Result<Option<Envelope>, AuditError> {
        let at = |finding| AuditError::of_entry(self.path, leaf.sequence, finding);
        let Some(line) = self.lines.next_if(|line| line.sequence == leaf.sequence) else { return Ok(None) };
        let computed = seal::commitment(&line.salt, line.payload);
        if computed != leaf.commitment {
            return Err(at(AuditFault::WrongPayload { computed, committed: leaf.commitment }));
        }
        let envelope = Envelope::decode(line.payload);
        envelope.map(Some).map_err(|error| at(AuditFault::Malformed { what: error.to_string() }))
    }

    /// A line that is left over is about another bundle, out of order, or there twice.
    fn finish(mut self) -> Result<(), AuditError> {
        let Some(line) = self.lines.next() else { return Ok(()) };
        let what = "its line is out of order, there twice, or in the wrong bundle".to_owned();
        Err(AuditError::of_entry(self.path, line.sequence, AuditFault::Malformed { what }))
    }
}
