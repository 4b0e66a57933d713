//! What people have decided by commands, kept on the disk: which sites are closed, which upstreams are drained.
//!
//! A decision is in effect at once, then on the disk, then in the journal. What can't be written is in effect all the same, and said, and
//! is written once there is room. The files are also how a gate whose place another one has taken hears of what is decided: it reads them,
//! and never writes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plan::Closing;

/// Where it is kept which sites are closed.
const CLOSED_FILE: &str = "closed.json";
/// Where it is kept which upstreams are drained.
const DRAINED_FILE: &str = "drained.json";

/// The decisions with their files.
#[derive(Debug)]
pub(crate) struct Decisions {
    /// Sites that are closed.
    pub(crate) closed: Kept<BTreeMap<String, Closing>>,
    /// Upstreams that are drained, and since when.
    pub(crate) drained: Kept<BTreeMap<SocketAddr, Time>>,
}

impl Decisions {
    /// Those in this directory.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { closed: Kept::at(dir.join(CLOSED_FILE)), drained: Kept::at(dir.join(DRAINED_FILE)) }
    }
}

/// Decisions of one kind, and their file.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    path: PathBuf,
    known: Mutex<Known<T>>,
}

/// What is known of a file.
#[derive(Debug)]
struct Known<T> {
    /// What it held when it was read or written last.
    held: Option<T>,
    /// Why what was to be written last is not in it.
    fault: Option<String>,
}

impl<T: Serialize + DeserializeOwned + Default + Clone + PartialEq + Send + 'static> Kept<T> {
    const fn at(path: PathBuf) -> Self {
        Self { path, known: Mutex::new(Known { held: None, fault: None }) }
    }

    fn known(&self) -> MutexGuard<'_, Known<T>> {
        // Nothing that can panic runs under this lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file holds; nothing, where there is none. Why that is not known.
    pub(crate) async fn read(&self) -> Result<T, String> {
        let read: T = read(self.path.clone()).await?;
        self.known().held = Some(read.clone());
        Ok(read)
    }

    /// What the file holds, where that is something else than when it was read or written last.
    pub(crate) async fn read_again(&self) -> Option<T> {
        let before = self.known().held.clone();
        // One that can't be read changes nothing: it is read again.
        self.read().await.ok().filter(|read| before.as_ref() != Some(read))
    }

    /// Keeps what was decided; whether that was possible.
    pub(crate) async fn keep(&self, decided: T) -> bool {
        let written = write(self.path.clone(), decided.clone()).await;
        let mut known = self.known();
        known.fault = written.as_ref().err().map(ToString::to_string);
        if written.is_ok() {
            known.held = Some(decided);
        }
        written.is_ok()
    }

    /// The file and why it does not hold what was decided last, where it does not.
    pub(crate) fn fault(&self) -> Option<String> {
        self.known().fault.as_ref().map(|fault| format!("{} can't be written ({fault})", self.path.display()))
    }
}

async fn read<T: DeserializeOwned + Default + Send + 'static>(path: PathBuf) -> Result<T, String> {
    let said = path.display().to_string();
    let of = move |path: &Path| match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        read => read.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other)),
    };
    let read = tokio::task::spawn_blocking(move || of(&path)).await;
    read.map_err(io::Error::other).and_then(|read| read).map_err(|error| format!("{said} can't be read ({error})"))
}

async fn write<T: Serialize + Send + 'static>(path: PathBuf, value: T) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(move || {
        let text = serde_json::to_vec(&value).map_err(io::Error::other)?;
        store::write_whole(&path, &text, 0o600).map_err(io::Error::other)
    });
    written.await.map_err(io::Error::other)?
}
