//! A few connections for reading, used on blocking threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::database;
use crate::StoreError;

/// Reads at a time; the others wait. More would only make the disk and the caches change hands.
const READERS: usize = 4;
/// Connections that are kept while nobody reads. Each holds some hundred kilobytes; one is opened in less than a millisecond.
const IDLE_MAX: usize = 2;

pub(super) struct Readers {
    connections: Arc<IdleConnections>,
    permits: Arc<Semaphore>,
}

struct IdleConnections {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl IdleConnections {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| database::open_reader(&self.path).map_err(database::unreadable("the database")), Ok)
    }

    /// Keeps the connection, or closes it.
    fn give_back(&self, conn: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(conn);
        }
    }
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            connections: Arc::new(IdleConnections { path, idle: Mutex::default() }),
            permits: Arc::new(Semaphore::new(READERS)),
        }
    }

    /// Runs `read` within one read transaction, so that all it sees is of one instant.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let connections = Arc::clone(&self.connections);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let conn = connections.take()?;
            let result = {
                let instant = conn.unchecked_transaction().map_err(database::unreadable(what))?;
                read(&instant)
            };
            // After an error the connection is closed instead: the next one starts with a fresh view of the file.
            if result.is_ok() {
                connections.give_back(conn);
            }
            result
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Read { what, reason: "it was abandoned".to_owned() }))
    }
}
