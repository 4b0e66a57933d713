//! The log of a database in pieces, each an object, in the order of the log.
//!
//! ```text
//! keys/logs/BACKUP/LOG/DAY-KEY                          the data key of one day, wrapped
//! logs/BACKUP/LOG/DAY-KEY/SEQ-FILE.START-END            a piece
//! ```
//!
//! LOG names one unbroken log: of a MariaDB server from one `RESET MASTER` to the next, of a PostgreSQL cluster its system identifier.
//! DAY is the UTC day (`2026-11-29`) in which it was sealed, KEY eight random hexadecimal digits. SEQ counts the pieces, in ten
//! digits. FILE is the number of the binary log, or the timeline, in eight hexadecimal digits; START and END are the bytes of
//! that file, or the LSNs, in sixteen: a piece holds those from START up to END. So a listing shows what is missing.

use std::sync::Arc;

use bytes::Bytes;
use event::{Span, Time};
use serde::Serialize;

use super::RepositoryError;
use super::key::{DataKey, hex};
use super::object::LOG_LEVEL;
use super::repository::{OBJECTS_MAX, Repository, day_end};
use super::set::seal_apart;
use crate::objects::{Why, list_all};
use crate::retention::is_future;

/// The name of a piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PieceName {
    /// Its number among the pieces of the log, from 1.
    pub seq: u64,
    /// The file of the log, or the timeline.
    pub file: u32,
    /// Where it begins.
    pub start: u64,
    /// Where it ends: the first byte that is not in it.
    pub end: u64,
}

impl PieceName {
    /// Reads a name without its folder.
    pub fn parse(name: &str) -> Option<Self> {
        let (seq, rest) = name.split_once('-')?;
        let (file, rest) = rest.split_once('.')?;
        let (start, end) = rest.split_once('-')?;
        let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !(is_hex(seq, 10) && is_hex(file, 8) && is_hex(start, 16) && is_hex(end, 16)) {
            return None;
        }
        let piece = Self {
            seq: seq.parse().ok()?,
            file: u32::from_str_radix(file, 16).ok()?,
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
        };
        Some(piece)
    }
}

impl std::fmt::Display for PieceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seq, file, start, end } = self;
        write!(f, "{seq:010}-{file:08x}.{start:016x}-{end:016x}")
    }
}

/// The last piece of a log that is kept: where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastPiece {
    /// Its folder.
    pub folder: String,
    /// Its name.
    pub name: PieceName,
}

/// The folder of a log.
pub(super) fn log_folder(backup: &str, log: &str) -> String {
    format!("logs/{backup}/{log}/")
}

/// Adds pieces to one log.
#[derive(Debug)]
pub struct LogWriter {
    repository: Arc<Repository>,
    root: String,
    last_seq: u64,
    today: Option<Today>,
    /// A piece that is neither sealed nor added yet.
    unsealed: Option<Unsealed>,
    /// A piece that is sealed and not added yet.
    pending: Option<(String, Bytes, PieceName)>,
}

/// The folder of a day.
#[derive(Debug)]
struct Today {
    day: String,
    folder: String,
    key: DataKey,
    /// When its key was seen at a copy.
    seen: Time,
}

/// How often it is looked whether the key of today is still there: a copy may be replaced by an empty one.
const KEY_SEEN_EVERY: Span = Span::from_secs(60);

/// A piece before it is sealed, for which there may be no folder yet.
#[derive(Debug)]
struct Unsealed {
    file: u32,
    start: u64,
    end: u64,
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl LogWriter {
    /// Opens a log, new or not, and says what its last piece is: the one that ends last, of all copies that answer.
    pub async fn open(
        repository: Arc<Repository>,
        backup: &str,
        log: &str,
    ) -> Result<(Self, Option<LastPiece>), RepositoryError> {
        let root = log_folder(backup, log);
        let (last, last_seq) = last_piece(&repository, &root).await?;
        Ok((Self { repository, root, last_seq, today: None, unsealed: None, pending: None }, last))
    }

    /// Adds a piece, and returns once it is durable at one copy at least. After an error the same piece is added again by
    /// [`Self::flush`], and no other before, if [`Self::has_pending`].
    pub async fn append(
        &mut self,
        file: u32,
        start: u64,
        end: u64,
        head: &impl Serialize,
        payload: Vec<u8>,
    ) -> Result<(), RepositoryError> {
        self.flush().await?;
        let head = serde_json::to_vec(head).map_err(|error| RepositoryError::Unusable(error.to_string()))?;
        self.unsealed = Some(Unsealed { file, start, end, head, payload });
        self.flush().await
    }

    /// Whether a piece is not added yet: [`Self::flush`] adds it. After an error without one, the piece was not taken.
    pub fn has_pending(&self) -> bool {
        self.unsealed.is_some() || self.pending.is_some()
    }

    /// Adds the piece that is not added yet, if there is one.
    pub async fn flush(&mut self) -> Result<(), RepositoryError> {
        if self.unsealed.is_some() {
            let (folder, key) = self.folder_of_today().await?;
            if let Some(Unsealed { file, start, end, head, payload }) = self.unsealed.take() {
                let name = PieceName { seq: self.last_seq + 1, file, start, end };
                let whole = format!("{folder}/{name}");
                let sealed = seal_apart(&self.repository, &key, &whole, (head, payload), LOG_LEVEL).await?;
                self.pending = Some((whole, sealed.into(), name));
            }
        }
        let Some((name, sealed, piece)) = &self.pending else { return Ok(()) };
        self.repository.put(name, sealed.clone()).await?;
        self.last_seq = piece.seq;
        self.pending = None;
        Ok(())
    }

    async fn folder_of_today(&mut self) -> Result<(String, DataKey), RepositoryError> {
        let now = self.repository.now();
        let day = now.to_rfc3339().chars().take(10).collect::<String>();
        if let Some(today) = self.today.as_mut().filter(|today| today.day == day) {
            let is_known = now >= today.seen && now.since(today.seen) < KEY_SEEN_EVERY;
            if is_known || !self.repository.has_lost_key(&today.folder).await {
                today.seen = if is_known { today.seen } else { now };
                return Ok((today.folder.clone(), today.key.clone()));
            }
            tracing::error!(
                folder = today.folder,
                "the key of this folder is at no copy any more: what is in it is lost, and another one is begun"
            );
        }
        let before = self.repository.folders(&self.root).await.unwrap_or_default();
        for name in before.iter().rev().filter(|name| name.starts_with(&day)) {
            let folder = format!("{}{name}", self.root);
            match self.repository.data_key(&folder).await {
                Ok(key) => {
                    self.today = Some(Today { day, folder: folder.clone(), key: key.clone(), seen: now });
                    return Ok((folder, key));
                }
                // Its copy does not answer, or it is not there yet: another folder does as well.
                Err(RepositoryError::Object(error)) if error.why != Why::Impossible => {}
                Err(error) => return Err(error),
            }
        }
        let mut random = [0; 4];
        self.repository.random().fill(&mut random);
        let folder = format!("{}{day}-{}", self.root, hex(&random));
        let key = self.repository.make_key(&folder).await?;
        self.today = Some(Today { day, folder: folder.clone(), key: key.clone(), seen: now });
        Ok((folder, key))
    }
}

/// The piece that ends last in the log whose folder is `root`, of all copies that answer, and the highest number of a piece.
pub(super) async fn last_piece(
    repository: &Repository,
    root: &str,
) -> Result<(Option<LastPiece>, u64), RepositoryError> {
    let (mut last, mut last_seq): (Option<LastPiece>, u64) = (None, 0);
    let mut days: Vec<String> = repository.folders(root).await?.into_iter().collect();
    // A log goes on from no day that is to come, which somebody else has put there; but where the clock is wrong, all of them are.
    let now = repository.now();
    let is_past = |day: &String| day_end(day).is_none_or(|end| !is_future(end, now));
    if days.iter().any(is_past) {
        days.retain(is_past);
    }
    while let Some(day) = days.pop() {
        let folder = format!("{root}{day}");
        let prefix = format!("{folder}/");
        for copy in repository.copies() {
            let Ok(listed) = list_all(&*copy.objects, &prefix, OBJECTS_MAX).await else { continue };
            for listed in listed {
                let Some(name) = listed.name.strip_prefix(&prefix).and_then(PieceName::parse) else { continue };
                last_seq = last_seq.max(name.seq);
                let place = |name: &PieceName| (name.file, name.end, name.seq);
                if last.as_ref().is_none_or(|last| place(&last.name) < place(&name)) {
                    last = Some(LastPiece { folder: folder.clone(), name });
                }
            }
        }
        // Folders of the same day have different keys, and either may end last.
        let of_same_day = days.last().is_some_and(|before| before.get(..10) == day.get(..10));
        if last.is_some() && !of_same_day {
            break;
        }
    }
    Ok((last, last_seq))
}
