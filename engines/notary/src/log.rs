//! Opens the log in a data directory, and reads its newest entries.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use engine::Failure;
use engine::clock::SystemClock;
use event::policy::Applied;
use event::{Body, ObserverId, Time, VantageId};
use journal::checkpoint::Checkpoint;
use journal::note::SigningKey;
use store::sqlite::{Sqlite, SqliteOptions};
use store::{OpenError, Read, Select};

use crate::keys;

/// Makes the data directory with mode 0700 if it is missing; refuses one that others may write to.
pub fn make_private(directory: &Path) -> Result<(), Failure> {
    if fs::metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
        return Err(Failure::new(format!("{} is not a directory", directory.display()))
            .remedy("name a directory of garant's own, with --data"));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        Failure::new(format!("the directory {} can't be made", directory.display()))
            .because(&error)
            .remedy("name a directory that you may write, with --data")
    })?;
    store::refuse_of_another(directory).map_err(|error| refused(directory, &error))
}

/// Opens the log in `data` for writing, signed by `signers`. Refused when it contradicts a `remembered` checkpoint.
pub fn open(data: &Path, signers: Vec<SigningKey>, remembered: Vec<Checkpoint>) -> Result<Arc<Sqlite>, Failure> {
    let options = SqliteOptions {
        dir: data.to_owned(),
        origin: keys::origin(&signers)?,
        observer: server_observer("store")?,
        signers,
        remembered,
        continues: None,
        clock: Arc::new(SystemClock),
    };
    Sqlite::open(options).map_err(|error| refused(data, &error))
}

/// The message for a data directory that can't be opened, with its remedy.
pub fn refused(data: &Path, error: &OpenError) -> Failure {
    let failure = Failure::new(format!("the data directory {} can't be used", data.display())).because(error);
    match error {
        OpenError::RolledBack { .. } => failure.remedy(
            "an older copy of the data was put back: recover the newer one. If it is lost, `garant log continue --reason …` \
             opens a new log that cites what is known of this one",
        ),
        OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            failure.remedy("run this command as the user that runs garant")
        }
        _ => failure,
    }
}

/// The newest policy in the log; `None` when there is none, or its payload can't be read.
pub async fn last_applied(store: &dyn Read) -> Result<Option<Applied>, Failure> {
    let failed = |error: store::StoreError| Failure::new("the journal can't be read").because(&error);
    let select = Select::Kinds(vec![Applied::KIND]);
    let mut end = store.head().await.map_err(failed)?.size;
    while end > 0 {
        let start = end.saturating_sub(store::RANGE_MAX);
        if let Some(entry) = store.select_all(start..end, &select).await.map_err(failed)?.pop() {
            let envelope = entry.payload.and_then(|payload| event::Envelope::decode(&payload.bytes).ok());
            return Ok(envelope.and_then(|envelope| envelope.body::<Applied>()?.ok()));
        }
        end = start;
    }
    Ok(None)
}

/// The time at which the last entry was recorded; `None` for an empty log, or when its payload is destroyed.
pub async fn last_recorded(store: &dyn Read) -> Result<Option<Time>, Failure> {
    let failed = |error: store::StoreError| Failure::new("the journal can't be read").because(&error);
    let Some(last) = store.head().await.map_err(failed)?.size.checked_sub(1) else { return Ok(None) };
    let entries = store.entries(last..last + 1).await.map_err(failed)?;
    let payload = entries.into_iter().next().and_then(|entry| entry.payload);
    let envelope = payload.and_then(|payload| event::Envelope::decode(&payload.bytes).ok());
    Ok(envelope.map(|envelope| envelope.recorded_at))
}

/// The observer id of a `part` of the server: `server.<part>`.
pub fn server_observer(part: &str) -> Result<ObserverId, Failure> {
    let server: Result<VantageId, event::BadName> = "server".parse();
    Ok(server.map_err(|error| Failure::new("the server has no name").because(&error))?.observer(part))
}
