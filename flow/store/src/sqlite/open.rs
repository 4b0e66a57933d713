//! Opening a data directory: the order of checks, and the reasons to refuse.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use event::journal::Opened;
use event::{BootId, Day, InstallationId, Retention};
use journal::checkpoint::{self, Checkpoint};
use journal::note::SigningKey;
use journal::tree::{self, EMPTY_ROOT, Frontier};
use rusqlite::Connection;
use tokio::sync::watch;

use super::own::{OwnEvent, OwnEvents};
use super::readers::Readers;
use super::series::Series;
use super::transaction::{Log, Runs};
use super::writer::{Health, Writer};
use super::{ReadOnly, Sqlite, SqliteOptions, SqliteReader, Writable, database, queries};
use crate::keys::KeyRing;
use crate::lock::{DirLock, no_follow};
use crate::open_files::OpenFiles;
use crate::reserve::Reserve;
use crate::sequence::{self, LogIdentity};
use crate::{Head, OpenError, StoreError, random};

pub(super) fn open(options: SqliteOptions) -> Result<Arc<Sqlite>, OpenError> {
    let SqliteOptions { dir, origin, observer, signers, remembered, continues, clock } = options;
    if let Some(reason) = sequence::refuse_signers(&signers, &origin) {
        return Err(OpenError::NoKey { origin, reason });
    }
    let lock = DirLock::take(&dir, clock.now())?;
    let reserve = Reserve::new(&dir);
    reserve.make_room().map_err(OpenError::io("giving up the reserve in", &dir))?;
    create_private(&database::path(&dir))?;
    let conn = database::open_writer(&dir)?;
    let found = queries::log(&conn).map_err(damaged(&dir))?;
    let is_new = found.is_none();
    let (identity, frontier) = match found {
        None => {
            let installation = InstallationId::from_bytes(random_id(&dir)?);
            (LogIdentity { installation, origin }, Frontier::new())
        }
        Some((installation, found, head)) => {
            if found != origin {
                return Err(OpenError::OtherLog { dir, found, expected: origin });
            }
            let frontier = prove(&conn, &head, &origin, &signers, &dir)?;
            (LogIdentity { installation: InstallationId::from_bytes(installation), origin }, frontier)
        }
    };
    for checkpoint in &remembered {
        compare(&conn, &frontier, &identity, checkpoint, &dir)?;
    }

    let keys = Arc::new(KeyRing::new(&dir));
    refuse_missing_keys(&conn, &keys, clock.now().day(), &dir)?;
    let mut own = OwnEvents { observer, boot: BootId::from_bytes(random_id(&dir)?), next: 0 };
    let mut log = Log {
        conn,
        identity: identity.clone(),
        keys: Arc::clone(&keys),
        files: open_files(&dir)?,
        signers,
        clock: Arc::clone(&clock),
        frontier,
        runs: Runs::default(),
    };
    if is_new {
        let vkey = log.signers.first().map(|key| key.vkey().to_string()).unwrap_or_default();
        let opened = OwnEvent::Opened(Opened { origin: identity.origin.clone(), vkey });
        let first: Vec<_> = std::iter::once(opened).chain(continues.map(OwnEvent::Continued)).collect();
        own.append(&mut log, &first)
            .map_err(|failure| OpenError::Database { dir: dir.clone(), reason: failure.to_string() })?;
    }

    // The write-ahead log of a new database is there only now.
    log.files = open_files(&dir)?;
    let health = Arc::new(Health::default());
    let (size_sender, size) = watch::channel(log.frontier.size());
    let threads = OpenError::io("starting the writing threads for", &dir);
    let series = Series::open(dir.join("samples"), clock, Arc::clone(&health))?;
    let writer = Writer::start(log, reserve, Arc::clone(&health), size_sender, own).map_err(threads)?;
    let readers = Readers::new(database::path(&dir));
    let access = Writable { series, writer, _lock: lock };
    Ok(Arc::new(Sqlite { identity, readers, keys, health, size, access }))
}

pub(super) fn open_read_only(dir: &Path) -> Result<Arc<SqliteReader>, OpenError> {
    let path = database::path(dir);
    let missing = || OpenError::Missing { dir: dir.to_owned() };
    if !path.try_exists().map_err(OpenError::io("looking for the database", &path))? {
        return Err(missing());
    }
    let conn = database::open_reader(&path).map_err(|error| OpenError::database(dir, &error))?;
    if database::schema_version(&conn, dir)? == 0 {
        return Err(missing());
    }
    let (installation, origin, head) = queries::log(&conn).map_err(damaged(dir))?.ok_or_else(missing)?;
    let (_, size) = watch::channel(head.size);
    Ok(Arc::new(Sqlite {
        identity: LogIdentity { installation: InstallationId::from_bytes(installation), origin },
        readers: Readers::new(path),
        keys: Arc::new(KeyRing::new(dir)),
        health: Arc::default(),
        size,
        access: ReadOnly,
    }))
}

fn open_files(dir: &Path) -> Result<OpenFiles, OpenError> {
    OpenFiles::of(dir, &database::FILES).map_err(OpenError::io("looking at the database in", dir))
}

/// Refuses a log without the keys that it can't do without: those of `today`, under which it would go on, and those of what
/// it says of itself, without which nobody can verify it. Of others it warns: what they seal is gone, and so are the verdicts
/// that rest on it.
fn refuse_missing_keys(conn: &Connection, keys: &KeyRing, today: Day, dir: &Path) -> Result<(), OpenError> {
    let wrong = |error: rusqlite::Error| OpenError::database(dir, &error);
    let (mut needed, mut others) = (Vec::new(), Vec::new());
    for (number, day) in queries::retained(conn).map_err(wrong)? {
        // A class of a later release has keys of its own.
        let Some(class) = database::class_of(number) else { continue };
        let path = keys.path(class, day);
        let is_there = keys.is_there(class, day).map_err(OpenError::io("looking for the key", &path))?;
        if !is_there && queries::has_payloads(conn, class, day).map_err(wrong)? {
            let is_needed = day >= today || class == Retention::Permanent;
            if is_needed { needed.push(path) } else { others.push(path) }
        }
    }
    if let Some(first) = needed.first() {
        let more = needed.len() + others.len() - 1;
        return Err(OpenError::KeyMissing { dir: dir.to_owned(), first: first.clone(), more });
    }
    if let Some(first) = others.first() {
        let more = match others.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        tracing::warn!(
            "{} is missing{more}: what is sealed under it can't be read, and verdicts that rest on it can't be recomputed. Put \
             it back if there is a copy, while garant is stopped",
            first.display()
        );
    }
    Ok(())
}

fn damaged(dir: &Path) -> impl Fn(StoreError) -> OpenError {
    |error| OpenError::Damaged { dir: dir.to_owned(), reason: error.to_string() }
}

fn random_id(dir: &Path) -> Result<[u8; 16], OpenError> {
    random::bytes().map_err(OpenError::io("drawing random bytes for", dir))
}

/// Rows of consumers are not sealed, so the database is readable by its owner only; SQLite gives its log the same mode.
fn create_private(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
        .map(drop)
        .map_err(OpenError::io("creating the database", path))
}

/// The frontier of the stored tree, if it is that of the head, and if the head was signed by one of the keys.
fn prove(
    conn: &Connection,
    head: &Head,
    origin: &str,
    signers: &[SigningKey],
    dir: &Path,
) -> Result<Frontier, OpenError> {
    let damaged_because = |reason: String| OpenError::Damaged { dir: dir.to_owned(), reason };
    let beyond = queries::leaves(conn, head.size..head.size.saturating_add(1)).map_err(damaged(dir))?;
    if !beyond.is_empty() {
        return Err(damaged_because(format!("it has entries beyond the {} of its head", head.size)));
    }
    let frontier = Frontier::from_source(head.size, &queries::tree_of(conn)).map_err(damaged(dir))?;
    if frontier.root() != head.root {
        return Err(damaged_because(format!(
            "the root over its {} entries is {}, but its head says {}",
            head.size,
            frontier.root(),
            head.root
        )));
    }
    let keys: Vec<_> = signers.iter().map(SigningKey::vkey).collect();
    let signed = checkpoint::open(&head.note, &keys).map_err(|_| OpenError::StrangeKey {
        origin: origin.to_owned(),
        given: keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    })?;
    let expected = Checkpoint { origin: origin.to_owned(), size: head.size, root: head.root };
    if signed.checkpoint != expected {
        return Err(damaged_because("its signed checkpoint is not that of its head".to_owned()));
    }
    Ok(frontier)
}

/// Refuses a log of which the remembered checkpoint is not a prefix.
fn compare(
    conn: &Connection,
    frontier: &Frontier,
    identity: &LogIdentity,
    remembered: &Checkpoint,
    dir: &Path,
) -> Result<(), OpenError> {
    if remembered.origin != identity.origin {
        let (found, expected) = (identity.origin.clone(), remembered.origin.clone());
        return Err(OpenError::OtherLog { dir: dir.to_owned(), found, expected });
    }
    if remembered.size > frontier.size() {
        return Err(OpenError::RolledBack { dir: dir.to_owned(), remembered: remembered.size, own: frontier.size() });
    }
    let root = match remembered.size {
        0 => EMPTY_ROOT,
        size => tree::root_at(size, &queries::tree_of(conn)).map_err(damaged(dir))?,
    };
    if root != remembered.root {
        return Err(OpenError::Forked { dir: dir.to_owned(), size: remembered.size });
    }
    Ok(())
}
