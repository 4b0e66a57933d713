//! A set: one base of a database, as streams in parts, and the manifest that says that it is complete.
//!
//! ```text
//! keys/sets/BACKUP/SET                the data key, wrapped
//! sets/BACKUP/SET/STREAM.00001        a part of a stream: at most 16 MiB of it
//! sets/BACKUP/SET/manifest            written last; without it there is no set
//! ```
//!
//! SET is the time at which it was begun and eight hexadecimal digits: `20261129T164321Z-9f86d081`.

use std::sync::Arc;

use event::Time;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinSet;

use super::key::{DataKey, hex};
use super::object::{BASE_LEVEL, seal};
use super::repository::Repository;
use super::{RepositoryError, SealError};

/// Size of a part, in bytes.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Most parts of a stream: three terabytes.
const PARTS_MAX: u32 = 199_999;
/// Most parts that are sealed and added while the next one is read: what reads a database waits for none of it, and three parts with what
/// becomes of them are less than 100 MB.
const PARTS_AT_ONCE: usize = 2;
/// The name of the object that holds the manifest.
pub(crate) const MANIFEST: &str = "manifest";
/// The name of the stream of a base that builds on another one: names alone tell from which bases a restore can start.
pub(crate) const INCREMENTAL_STREAM: &str = "incremental";

/// What a set is, and all that is needed to restore it but its bytes and the logs behind it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Manifest {
    /// The format: 1.
    pub format: u8,
    /// The backup that it belongs to.
    pub backup: String,
    /// Name of the set.
    pub set: String,
    /// What made it: `mariadb`, `postgres`, `files`.
    pub engine: String,
    /// The version of the server that it is of, and that can read it.
    pub engine_version: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// The set that an incremental one builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it was begun.
    pub began_at: Time,
    /// The instant that it shows: nothing before can be restored from it. By the clock of the agent.
    pub consistent_at: Time,
    /// The log that goes on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What its engine needs to know beside: positions, settings, file names.
    #[serde(default)]
    pub facts: serde_json::Value,
    /// The streams.
    pub streams: Vec<Stream>,
}

impl Manifest {
    /// Bytes of all streams together, as they are before sealing.
    pub fn size(&self) -> u64 {
        self.streams.iter().map(|stream| stream.size).sum()
    }
}

/// One stream of a set.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Stream {
    /// Name.
    pub name: String,
    /// Number of parts, which are counted from 1.
    pub parts: u32,
    /// Bytes of all parts together.
    pub size: u64,
    /// SHA-256 of all bytes, in hexadecimal.
    pub sha256: String,
}

impl Stream {
    /// Name of the object that holds a part, in the folder of the set.
    pub fn part(&self, number: u32) -> String {
        part_name(&self.name, number)
    }
}

fn part_name(stream: &str, number: u32) -> String {
    format!("{stream}.{number:05}")
}

/// The folder of a set.
pub(super) fn set_folder(backup: &str, set: &str) -> String {
    format!("sets/{backup}/{set}")
}

/// A set that is being written.
#[derive(Debug)]
pub struct SetWriter {
    repository: Arc<Repository>,
    key: DataKey,
    folder: String,
    manifest: Manifest,
}

impl SetWriter {
    /// Begins a set of `backup`, made by `engine`.
    pub async fn begin(repository: Arc<Repository>, backup: &str, engine: &str) -> Result<Self, RepositoryError> {
        let now = repository.now();
        let second = now.to_rfc3339().replace(['-', ':'], "");
        let mut random = [0; 4];
        repository.random().fill(&mut random);
        let set = format!("{second}-{}", hex(&random));
        let folder = set_folder(backup, &set);
        let key = repository.make_key(&folder).await?;
        let manifest = Manifest {
            format: 1,
            backup: backup.to_owned(),
            set,
            engine: engine.to_owned(),
            engine_version: String::new(),
            kind: "full".to_owned(),
            parent: None,
            began_at: now,
            consistent_at: now,
            log: None,
            facts: serde_json::Value::Null,
            streams: Vec::new(),
        };
        Ok(Self { repository, key, folder, manifest })
    }

    /// Name of the set.
    pub fn set(&self) -> &str {
        &self.manifest.set
    }

    /// Adds a stream: all that `reader` gives. `progress` is told how many bytes there were so far.
    ///
    /// # Errors
    /// The reader failed or a part could be added nowhere: the set is never complete then.
    pub async fn stream(
        &mut self,
        name: &str,
        mut reader: impl AsyncRead + Send + Unpin,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(), RepositoryError> {
        let mut stream = Stream { name: name.to_owned(), parts: 0, size: 0, sha256: String::new() };
        let mut hash = Sha256::new();
        let mut adding = JoinSet::new();
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            (&mut reader).take(PART_BYTES as u64).read_to_end(&mut part).await?;
            if part.is_empty() && stream.parts > 0 {
                break;
            }
            let is_last = part.len() < PART_BYTES;
            stream.parts += 1;
            if stream.parts > PARTS_MAX {
                return Err(RepositoryError::Unusable(format!("the stream {name} has more than {PARTS_MAX} parts")));
            }
            stream.size = stream.size.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            hash.update(&part);
            if adding.len() >= PARTS_AT_ONCE {
                added(adding.join_next().await)?;
            }
            adding.spawn(self.adding(&part_name(name, stream.parts), Vec::new(), part));
            progress(stream.size);
            if is_last {
                break;
            }
        }
        while let Some(done) = adding.join_next().await {
            added(Some(done))?;
        }
        stream.sha256 = hex(&hash.finalize());
        self.manifest.streams.push(stream);
        Ok(())
    }

    /// Completes the set: `describe` says what it is.
    pub async fn finish(mut self, describe: impl FnOnce(&mut Manifest)) -> Result<Manifest, RepositoryError> {
        describe(&mut self.manifest);
        let manifest = self.manifest.clone();
        let head = serde_json::to_vec(&manifest).map_err(|error| RepositoryError::Unusable(error.to_string()))?;
        self.adding(MANIFEST, head, Vec::new()).await?;
        Ok(manifest)
    }

    /// Seals an object and adds it.
    fn adding(
        &self,
        name: &str,
        head: Vec<u8>,
        payload: Vec<u8>,
    ) -> impl Future<Output = Result<(), RepositoryError>> + Send + 'static {
        let (repository, key, whole) =
            (Arc::clone(&self.repository), self.key.clone(), format!("{}/{name}", self.folder));
        async move {
            let sealed = seal_apart(&repository, &key, &whole, (head, payload), BASE_LEVEL).await?;
            repository.put(&whole, sealed.into()).await?;
            Ok(())
        }
    }
}

/// What has come of adding a part.
fn added(done: Option<Result<Result<(), RepositoryError>, tokio::task::JoinError>>) -> Result<(), RepositoryError> {
    let ended = |_| Err(RepositoryError::Unusable("what seals a base has ended before its time".into()));
    done.map_or(Ok(()), |done| done.unwrap_or_else(ended))
}

/// Seals on a thread of its own, as compression takes long.
pub(super) async fn seal_apart(
    repository: &Arc<Repository>,
    key: &DataKey,
    name: &str,
    (head, payload): (Vec<u8>, Vec<u8>),
    level: i32,
) -> Result<Vec<u8>, RepositoryError> {
    let (repository, key, whole) = (Arc::clone(repository), key.clone(), name.to_owned());
    let work = move || seal(&key, &whole, &head, &payload, level, repository.random());
    let sealed = tokio::task::spawn_blocking(work).await;
    let sealed = sealed.unwrap_or(Err(SealError::Malformed));
    sealed.map_err(|error| RepositoryError::Seal { name: name.to_owned(), error })
}
