//! The files of a log, and how each is made.

use event::Envelope;
use journal::disclosure::Disclosure;
use journal::export;
use journal::leaf::Leaf;
use journal::published::Published;
use journal::tile::{self, BundleId, Resource, TileId};
use journal::tlog_proof::TlogProof;
use store::{Entry, StoreError};

use crate::answer::Caching;
use crate::budget::Share;
use crate::state::State;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// Entries read at once for a bundle of payloads: they are in memory beside what was made of them.
const READ_AT_ONCE: u64 = 16;

/// Most bytes of payload in one bundle. 256 entries hold a hundred kilobytes or so; only hundreds of huge policies in a row
/// come near. At the bound the answer is 503, and `garant log export` still writes the file.
const PAYLOAD_BUNDLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A whole file.
pub(crate) struct File {
    pub(crate) content_type: &'static str,
    pub(crate) caching: Caching,
    pub(crate) bytes: Vec<u8>,
    /// Share of the budget that all answers have together.
    pub(crate) share: Share,
}

/// The reason why a file of the log can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the bundle can't be encoded: {0}")]
    Bundle(#[from] tile::BundleError),
    #[error("the store returned fewer entries than the published checkpoint covers")]
    Short,
    #[error("the answers under way take all the memory that they may")]
    Busy,
    #[error(
        "the payloads of the bundle have more than {PAYLOAD_BUNDLE_BYTES_MAX} bytes; `garant log export` writes them"
    )]
    TooLarge,
}

/// Makes the file at `path`, relative to the root of the log; `None` when the published log has no such file.
pub(crate) async fn read(state: &State, path: &str) -> Result<Option<File>, FileError> {
    let Some(published) = state.published.borrow().clone() else { return Ok(None) };
    if let Some(resource) = tile::parse_path(path) {
        return match resource {
            Resource::Tile(id) => tile(state, &published, id).await,
            Resource::Entries(id) => entries(state, &published, id).await,
            Resource::Payload(id) => payloads(state, &published, id).await,
        };
    }
    if let Some(number) = path.strip_prefix("proof/").and_then(|name| name.strip_suffix(".tlog-proof")) {
        let index = number.parse().ok().filter(|index| export::proof_path(*index) == path);
        return match index {
            Some(index) => proof(state, &published, index).await,
            None => Ok(None),
        };
    }
    let file = |content_type, bytes| {
        Some(File { content_type, caching: Caching::Revalidate, bytes, share: state.budget.share() })
    };
    Ok(match path {
        export::CHECKPOINT => file(TEXT, published.note.clone().into_bytes()),
        export::VKEY => file(TEXT, format!("{}\n", state.identity.borrow().vkey).into_bytes()),
        export::TLOG_POLICY => file(TEXT, state.identity.borrow().tlog_policy.clone().into_bytes()),
        export::POLICY => published.beside.policy.as_ref().and_then(|body| file(JSON, body.get().as_bytes().to_vec())),
        export::VERDICTS => file(JSON, published.beside.verdicts.clone()),
        export::ROTATIONS => {
            let notes = state.journal.rotations(published.size).await?;
            if notes.is_empty() { None } else { file(TEXT, notes.join("\n").into_bytes()) }
        }
        _ => None,
    })
}

async fn tile(state: &State, published: &Published, id: TileId) -> Result<Option<File>, FileError> {
    // How many hashes of this level the published tree has.
    let hashes = published.size >> (8 * u32::from(id.level));
    if !within(id.index, id.width, hashes) {
        return Ok(None);
    }
    let bytes = state.journal.tile(id).await?.ok_or(FileError::Short)?;
    Ok(Some(File { content_type: BINARY, caching: Caching::Immutable, bytes, share: state.budget.share() }))
}

async fn entries(state: &State, published: &Published, id: BundleId) -> Result<Option<File>, FileError> {
    if !within(id.index, id.width, published.size) {
        return Ok(None);
    }
    let range = id.start()..id.start() + u64::from(id.width);
    let leaves = state.journal.leaves(range).await?;
    if leaves.len() != usize::from(id.width) {
        return Err(FileError::Short);
    }
    let bytes = tile::encode_bundle(&leaves)?;
    Ok(Some(File { content_type: BINARY, caching: Caching::Immutable, bytes, share: state.budget.share() }))
}

/// Not immutable: payloads are destroyed when they are old enough, and their lines go.
async fn payloads(state: &State, published: &Published, id: BundleId) -> Result<Option<File>, FileError> {
    if !within(id.index, id.width, published.size) {
        return Ok(None);
    }
    let _turn = state.budget.turn().await;
    let (mut bytes, mut share) = (Vec::new(), state.budget.share());
    let (mut next, end) = (id.start(), id.start() + u64::from(id.width));
    while next < end {
        let entries = state.journal.entries(next..end.min(next + READ_AT_ONCE)).await?;
        if entries.is_empty() {
            return Err(FileError::Short);
        }
        for entry in &entries {
            if let Some(disclosure) = disclosed(entry, &state.team_kinds) {
                disclosure.write_line(&mut bytes);
            }
            if bytes.len() > PAYLOAD_BUNDLE_BYTES_MAX {
                return Err(FileError::TooLarge);
            }
            if !share.covers(bytes.capacity()) {
                return Err(FileError::Busy);
            }
        }
        next += entries.len() as u64;
    }
    Ok(Some(File { content_type: TEXT, caching: Caching::Revalidate, bytes, share }))
}

async fn proof(state: &State, published: &Published, index: u64) -> Result<Option<File>, FileError> {
    if index >= published.size {
        return Ok(None);
    }
    let _turn = state.budget.turn().await;
    let entries = state.journal.entries(index..index + 1).await?;
    let entry = entries.first().ok_or(FileError::Short)?;
    let proof = state.journal.inclusion(index, published.size).await?;
    let proof = TlogProof { index, proof, checkpoint_note: published.note.clone(), extra: None }
        .with_evidence(&entry.leaf, disclosed(entry, &state.team_kinds).as_ref());
    let bytes = proof.to_text().into_bytes();
    Ok(Some(File { content_type: TEXT, caching: Caching::Revalidate, bytes, share: state.budget.share() }))
}

/// Whether the first `width` things of group `index` are among the first `count`.
fn within(index: u64, width: u16, count: u64) -> bool {
    let end = index.checked_mul(u64::from(tile::TILE_WIDTH)).and_then(|start| start.checked_add(u64::from(width)));
    end.is_some_and(|end| end <= count)
}

/// The part of an entry that everybody may read. The committed leaf decides; the payload must say the same, so that a
/// mistake of the sequencer, or a kind that was public by error, discloses nothing.
pub(crate) fn disclosed<'a>(entry: &'a Entry, team_kinds: &[&str]) -> Option<Disclosure<'a>> {
    let payload = entry.payload.as_ref()?;
    let leaf = Leaf::parse(&entry.leaf).ok().filter(Leaf::is_public)?;
    let kind = Envelope::decode(&payload.bytes).ok()?.kind;
    if kind != leaf.coarse || team_kinds.contains(&kind.as_str()) {
        tracing::error!(sequence = entry.sequence, leaf = leaf.coarse, %kind, "leaf and payload disagree on who may read it");
        return None;
    }
    Some(Disclosure { sequence: entry.sequence, salt: payload.salt, payload: &payload.bytes })
}
