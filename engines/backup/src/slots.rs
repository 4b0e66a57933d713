//! Replication slots of clusters whose backup has left the policy.
//!
//! A slot holds back the log of its cluster until we have it. When nobody follows any more it holds back everything, until the disk of
//! the database is full. So the agent writes down which clusters it follows, before it does, and drops the slot of one that the policy
//! has no more; where that can't be done, `garant backup status` says so until it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Context;
use event::Span;

use crate::board::Board;
use crate::config::{Connection, DatabaseSettings};
use crate::database::DatabaseError;
use crate::job::wait;
use crate::postgres::Postgres;

/// How often it is tried to drop a slot.
const AGAIN: Span = Span::from_secs(60);

/// Where it is written down, in the folder of the engine.
fn file(state: &Path) -> PathBuf {
    state.join("slots.json")
}

/// The clusters that were followed, by the backup and how they were reached.
type Followed = Vec<(String, Connection)>;

fn read(state: &Path) -> Result<Followed, String> {
    let path = file(state);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn write(state: &Path, followed: &Followed) -> Result<(), String> {
    let path = file(state);
    let bytes = serde_json::to_vec_pretty(followed).map_err(|error| error.to_string())?;
    store::write_whole(&path, &bytes, 0o600).map_err(|error| format!("{}: {error}", path.display()))
}

/// Drops the slot of a cluster that is not followed as it was, unless it is the one that is followed `now` under the same name, which
/// has only been given another path to its socket.
async fn drop_slot(
    (name, connection): &(String, Connection),
    now: Option<&DatabaseSettings>,
    context: &Context,
) -> Result<bool, DatabaseError> {
    let before = Postgres::new(name, connection.clone());
    if let Some(now) = now {
        let followed = Postgres::new(name, now.connection.clone());
        if followed.system(context).await? == before.system(context).await? {
            return Ok(false);
        }
    }
    before.drop_slot(context).await
}

/// Writes down which clusters are followed, and drops the slots of those that are not any more, until there are none or the engine stops.
pub(crate) async fn tend(state: PathBuf, wanted: Vec<DatabaseSettings>, board: Arc<Board>, context: Context) {
    let is_wanted = |(name, connection): &(String, Connection)| {
        wanted.iter().any(|database| database.name == *name && database.connection.socket == connection.socket)
    };
    while !context.stop.is_cancelled() {
        let mut orphans = BTreeMap::new();
        let known = read(&state).unwrap_or_else(|why| {
            orphans.insert("slots".to_owned(), format!("which clusters were followed is not known: {why}"));
            Vec::new()
        });
        let mut left: Followed =
            wanted.iter().map(|database| (database.name.clone(), database.connection.clone())).collect();
        for followed in known.into_iter().filter(|followed| !is_wanted(followed)) {
            let (name, connection) = &followed;
            let now = wanted.iter().find(|database| database.name == *name);
            match drop_slot(&followed, now, &context).await {
                Ok(true) => {
                    tracing::info!(backup = name, "its replication slot is dropped: it is not backed up any more");
                }
                Ok(false) => {}
                Err(error) => {
                    let why = format!(
                        "the backup `{name}` {}, and its replication slot still holds back the log of the cluster at {}, \
                         which fills its disk: {error}. Drop it there: SELECT pg_drop_replication_slot('{}');",
                        if now.is_some() { "follows another cluster" } else { "has left the policy" },
                        connection.socket.display(),
                        Postgres::slot_of(name)
                    );
                    tracing::error!(why, "a replication slot is left");
                    orphans.insert(name.clone(), why);
                    left.push(followed);
                }
            }
        }
        if let Err(why) = write(&state, &left) {
            orphans.insert("slots".to_owned(), format!("which clusters are followed can't be written down: {why}"));
        }
        let is_done = orphans.is_empty();
        board.orphans(orphans.into_values().collect());
        if is_done {
            return;
        }
        wait(&context, AGAIN).await;
    }
}
