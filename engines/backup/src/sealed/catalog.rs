//! What a repository holds of one backup: read from listings and manifests, so that nothing but the repository and its key is needed.

use std::collections::BTreeSet;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::Time;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_util::task::AbortOnDropHandle;

use super::key::hex;
use super::log::{LastPiece, PieceName, last_piece, log_folder};
use super::object::Memory;
use super::repository::{Repository, set_time};
use super::set::{MANIFEST, Manifest, set_folder};
use super::{RepositoryError, Stream};
use crate::retention::is_future;

/// Most parts of a stream that are fetched and opened while another one is written.
const PARTS_AT_ONCE: usize = 2;

/// A set, and where it is whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetEntry {
    /// What it is.
    pub manifest: Manifest,
    /// The copies that have its manifest and every part, in the size of the other copies or else whole, by their place in
    /// [`Repository::copies`].
    pub copies: BTreeSet<usize>,
    /// Bytes as they are stored, at one copy.
    pub stored: u64,
}

/// A piece of a log, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPiece {
    /// Its folder.
    pub folder: String,
    /// Its name.
    pub name: PieceName,
    /// The copies that have it.
    pub copies: BTreeSet<usize>,
    /// Bytes as they are stored.
    pub stored: u64,
}

/// What there is of one backup.
#[derive(Clone, Debug)]
pub struct Catalog {
    repository: Arc<Repository>,
    backup: String,
    /// Complete sets, the oldest first.
    pub sets: Vec<SetEntry>,
    /// Sets with a manifest that can't be read, with the cause.
    pub unreadable: Vec<(String, String)>,
    /// Sets without a manifest: being written, or given up.
    pub unfinished: Vec<String>,
    /// Sets and days of log whose data keys are gone: destroyed.
    pub destroyed: Vec<String>,
}

impl Catalog {
    /// Reads what there is of `backup`.
    ///
    /// # Errors
    /// No copy can be listed, or the repository key is another one.
    pub async fn read(repository: &Arc<Repository>, backup: &str) -> Result<Self, RepositoryError> {
        let root = format!("sets/{backup}/");
        let mut catalog = Self {
            repository: Arc::clone(repository),
            backup: backup.to_owned(),
            sets: Vec::new(),
            unreadable: Vec::new(),
            unfinished: Vec::new(),
            destroyed: Vec::new(),
        };
        let (objects, _) = repository.list(&root).await?;
        let sets: BTreeSet<&str> =
            objects.keys().filter_map(|name| Some(name.strip_prefix(&root)?.split_once('/')?.0)).collect();
        let mut locked = None;
        for set in sets {
            let folder = set_folder(backup, set);
            if !objects.contains_key(&format!("{folder}/{MANIFEST}")) {
                catalog.unfinished.push(set.to_owned());
                continue;
            }
            let fetched = match repository.manifest(&folder) {
                Some(manifest) => Ok(Ok(manifest)),
                None => repository.fetch(&folder, MANIFEST).await.map(|(head, _)| serde_json::from_slice(&head)),
            };
            let manifest: Result<Manifest, String> = match fetched {
                Ok(manifest) => manifest.map_err(|error: serde_json::Error| error.to_string()),
                Err(error) if Repository::is_destroyed(&error) => {
                    catalog.destroyed.push(set.to_owned());
                    continue;
                }
                // Another repository key opens none of them; a key that somebody put there spoils one.
                Err(RepositoryError::Unusable(why)) => {
                    locked.get_or_insert_with(|| why.clone());
                    Err(why)
                }
                Err(error) => Err(error.to_string()),
            };
            match manifest {
                // Nothing goes on from what is still to come: no base would be due, and no lock extended, for its sake.
                Ok(manifest) if is_of_the_future(&manifest, repository.now()) => {
                    let why = format!(
                        "it says that it is of {}, which is to come: the clock is wrong, or somebody else has put it there",
                        manifest.consistent_at
                    );
                    catalog.unreadable.push((set.to_owned(), why));
                }
                Ok(manifest) if manifest.format == 1 && manifest.set == *set && manifest.backup == backup => {
                    repository.remember_manifest(&folder, &manifest);
                    let parts =
                        manifest.streams.iter().flat_map(|stream| (1..=stream.parts).map(|part| stream.part(part)));
                    let (mut at, mut stored): (BTreeSet<usize>, u64) = ((0..repository.copies().len()).collect(), 0);
                    for name in parts.chain([MANIFEST.to_owned()]) {
                        let name = format!("{folder}/{name}");
                        let places = objects.get(&name).map_or(&[][..], Vec::as_slice);
                        let differ = places.windows(2).any(|pair| pair[0].1 != pair[1].1);
                        let mut whole = Vec::new();
                        for &(copy, _) in places {
                            // Of copies of several sizes, one is damaged: which one, only reading tells.
                            if !differ || repository.verify(copy, &name).await.is_ok() {
                                whole.push(copy);
                            }
                        }
                        at.retain(|copy| whole.contains(copy));
                        stored += places.first().map_or(0, |(_, size)| *size);
                    }
                    catalog.sets.push(SetEntry { manifest, copies: at, stored });
                }
                Ok(_) => {
                    catalog.unreadable.push((set.to_owned(), "its manifest is that of another set or format".into()));
                }
                Err(why) => catalog.unreadable.push((set.to_owned(), why)),
            }
        }
        match locked {
            Some(why) if catalog.sets.is_empty() => Err(RepositoryError::Unusable(why)),
            _ => Ok(catalog),
        }
    }

    /// The logs that there are of this backup.
    pub async fn logs(&self) -> Result<BTreeSet<String>, RepositoryError> {
        self.repository.folders(&format!("logs/{}/", self.backup)).await
    }

    /// The last piece of a log.
    pub async fn last_piece(&self, log: &str) -> Result<Option<LastPiece>, RepositoryError> {
        Ok(last_piece(&self.repository, &log_folder(&self.backup, log)).await?.0)
    }

    /// All pieces of a log, in the order of its files and of their places in them.
    pub async fn all_pieces(&self, log: &str) -> Result<Vec<LogPiece>, RepositoryError> {
        all_pieces(&self.repository, &self.backup, log).await
    }

    /// The pieces of a log that go on from `start` of `file`, in order; what an earlier one holds whole is left out. They end where one
    /// is missing, and the second part says whether there are more behind.
    pub async fn pieces(
        &self,
        log: &str,
        from: (u32, u64),
        goes_on: impl Fn(&PieceName, &PieceName) -> bool,
    ) -> Result<(Vec<LogPiece>, bool), RepositoryError> {
        Ok(chain(self.all_pieces(log).await?, from, &goes_on))
    }

    /// The same of the newest days alone, back to the one with a piece that begins at `from` or before it: of a long log few days are
    /// listed. Where a clock was set back some of what goes on may lie in earlier days, so that who misses something asks for
    /// [all](Self::pieces).
    pub async fn recent_pieces(
        &self,
        log: &str,
        from: (u32, u64),
        goes_on: impl Fn(&PieceName, &PieceName) -> bool,
    ) -> Result<(Vec<LogPiece>, bool), RepositoryError> {
        let root = log_folder(&self.backup, log);
        let mut days: Vec<String> = self.repository.folders(&root).await?.into_iter().collect();
        let mut all = Vec::new();
        while let Some(day) = days.pop() {
            all.extend(pieces_below(&self.repository, &format!("{root}{day}/")).await?);
            // Folders of the same day have different keys.
            let of_same_day = days.last().is_some_and(|before| before.get(..10) == day.get(..10));
            if !of_same_day && all.iter().any(|piece: &LogPiece| (piece.name.file, piece.name.start) <= from) {
                break;
            }
        }
        all.sort_by_key(|piece| (piece.name.file, piece.name.start, piece.name.end));
        Ok(chain(all, from, &goes_on))
    }

    /// Writes a stream of a set to `to`, and checks that it is the one that was read.
    ///
    /// # Errors
    /// A part is at no copy whole, or all parts together are not what the manifest says: what was written to `to` is of no use.
    pub async fn read_stream(
        &self,
        set: &str,
        stream: &Stream,
        to: impl AsyncWrite + Send + Unpin,
        progress: impl FnMut(u64) + Send,
    ) -> Result<(), RepositoryError> {
        let mut to = Written(to);
        self.read_parts(set, stream, &mut to, progress).await?;
        Ok(to.0.shutdown().await?)
    }

    /// Gives the parts of a stream of a set to `to`, in order, and checks that together they are the stream that was read.
    ///
    /// # Errors
    /// As of [`Self::read_stream`].
    pub(crate) async fn read_parts(
        &self,
        set: &str,
        stream: &Stream,
        to: &mut impl Parts,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(), RepositoryError> {
        let folder = set_folder(&self.backup, set);
        let (mut hash, mut size) = (Sha256::new(), 0u64);
        let ended = || RepositoryError::Unusable("what opens a base has ended before its time".into());
        // Tasks, for the next parts are to be fetched while this one is written.
        let spare = Spare::default();
        let fetch = |number| {
            let (repository, folder, part) = (Arc::clone(&self.repository), folder.clone(), stream.part(number));
            let memory = lock(&spare).pop().unwrap_or_default();
            AbortOnDropHandle::new(tokio::spawn(async move { repository.fetch_into(&folder, &part, memory).await }))
        };
        let mut parts = futures_util::stream::iter(1..=stream.parts).map(fetch).buffered(PARTS_AT_ONCE);
        while let Some(memory) = parts.next().await {
            let memory = memory.unwrap_or_else(|_| Err(ended()))?;
            let part = Arc::new(Part { memory, spare: Arc::clone(&spare) });
            size += u64::try_from(part.len()).unwrap_or(0);
            let hashed = Arc::clone(&part);
            let hashing = tokio::task::spawn_blocking(move || {
                hash.update(&**hashed);
                hash
            });
            let (hashed, taken) = tokio::join!(hashing, to.take(part));
            taken?;
            hash = hashed.map_err(|_| ended())?;
            progress(size);
        }
        if size != stream.size || hex(&hash.finalize()) != stream.sha256 {
            let reason = format!("the stream {} of the set {set} is not the one that was read", stream.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason).into());
        }
        Ok(())
    }
}

/// A part of a stream, opened. Its memory is used again for a later one.
pub(crate) struct Part {
    memory: Memory,
    spare: Spare,
}

/// Memory of parts that nobody reads any more.
type Spare = Arc<Mutex<Vec<Memory>>>;

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory.payload
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        lock(&self.spare).push(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
impl From<Vec<u8>> for Part {
    fn from(payload: Vec<u8>) -> Self {
        Self { memory: Memory { payload, plain: Vec::new() }, spare: Spare::default() }
    }
}

fn lock(spare: &Spare) -> MutexGuard<'_, Vec<Memory>> {
    // Nothing that can panic runs under this lock.
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the parts of a stream, in order.
pub(crate) trait Parts: Send {
    /// Takes the next one; it need not have come to its end when this returns.
    fn take(&mut self, part: Arc<Part>) -> impl Future<Output = io::Result<()>> + Send;
}

/// What parts are written to.
struct Written<W>(W);

impl<W: AsyncWrite + Send + Unpin> Parts for Written<W> {
    async fn take(&mut self, part: Arc<Part>) -> io::Result<()> {
        self.0.write_all(&part).await
    }
}

fn is_of_the_future(manifest: &Manifest, now: Time) -> bool {
    let named = set_time(&manifest.set);
    [Some(manifest.began_at), Some(manifest.consistent_at), named].into_iter().flatten().any(|at| is_future(at, now))
}

/// Of pieces in order those that go on from each other, and whether there are more behind a gap.
fn chain(
    all: Vec<LogPiece>,
    from: (u32, u64),
    goes_on: impl Fn(&PieceName, &PieceName) -> bool,
) -> (Vec<LogPiece>, bool) {
    let mut chain: Vec<LogPiece> = Vec::new();
    for piece in all {
        let name = piece.name;
        let is_idle = |name: &PieceName| name.start == name.end;
        let fits = match chain.last().map(|last| last.name) {
            None if (name.file, name.end) < from => continue,
            None if (name.file, name.end) == from && !is_idle(&name) => continue,
            None => name.file == from.0 && name.start <= from.1,
            Some(last) if name.file == last.file && name.end < last.end => continue,
            Some(last) if name.file == last.file && name.end == last.end && !is_idle(&name) => continue,
            Some(last) if name.file == last.file => name.start <= last.end,
            Some(last) => goes_on(&last, &name),
        };
        if !fits {
            return (chain, true);
        }
        // Of those that say that nothing happened, the last one says the most.
        if let Some(last) = chain.last().filter(|last| is_idle(&last.name) && last.name.file == name.file) {
            if is_idle(&name) && last.name.seq > name.seq {
                continue;
            }
            chain.pop();
        }
        chain.push(piece);
    }
    (chain, false)
}

/// All pieces of a log of `backup`, in the order of its files and of their places in them.
pub(crate) async fn all_pieces(
    repository: &Repository,
    backup: &str,
    log: &str,
) -> Result<Vec<LogPiece>, RepositoryError> {
    pieces_below(repository, &log_folder(backup, log)).await
}

/// The pieces in a folder and below, in the order of their files and of their places in them.
async fn pieces_below(repository: &Repository, folder: &str) -> Result<Vec<LogPiece>, RepositoryError> {
    let (objects, _) = repository.list(folder).await?;
    let mut all: Vec<LogPiece> = Vec::new();
    for (whole, at) in objects {
        let Some((folder, name)) = whole.rsplit_once('/') else { continue };
        let Some(name) = PieceName::parse(name) else { continue };
        let copies = at.iter().map(|(copy, _)| *copy).collect();
        all.push(LogPiece { folder: folder.to_owned(), name, copies, stored: at.first().map_or(0, |(_, size)| *size) });
    }
    all.sort_by_key(|piece| (piece.name.file, piece.name.start, piece.name.end));
    Ok(all)
}
