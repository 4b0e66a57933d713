//! What people have decided by commands, kept on the disk: which sites are closed, which upstreams are drained.
//!
//! A decision is in effect at once, then on the disk, then in the journal. What can't be written is in effect all the same, and said.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use event::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plan::Closing;

/// Where it is kept which sites are closed.
const CLOSED_FILE: &str = "closed.json";
/// Where it is kept which upstreams are drained.
const DRAINED_FILE: &str = "drained.json";

/// The files of the decisions.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    dir: PathBuf,
}

impl Decisions {
    /// Those in this directory.
    pub(crate) const fn in_dir(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Sites that were closed when the gate ran last; why that is not known.
    pub(crate) async fn closed(&self) -> Result<BTreeMap<String, Closing>, String> {
        read(self.dir.join(CLOSED_FILE)).await
    }

    /// Keeps them; whether that was possible.
    pub(crate) async fn keep_closed(&self, closed: BTreeMap<String, Closing>) -> bool {
        write(self.dir.join(CLOSED_FILE), closed).await
    }

    /// Upstreams that were drained when the gate ran last; why that is not known.
    pub(crate) async fn drained(&self) -> Result<BTreeMap<SocketAddr, Time>, String> {
        read(self.dir.join(DRAINED_FILE)).await
    }

    /// Keeps them; whether that was possible.
    pub(crate) async fn keep_drained(&self, drained: BTreeMap<SocketAddr, Time>) -> bool {
        write(self.dir.join(DRAINED_FILE), drained).await
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

async fn write<T: Serialize + Send + 'static>(path: PathBuf, value: T) -> bool {
    let written = tokio::task::spawn_blocking(move || {
        let text = serde_json::to_vec(&value).map_err(io::Error::other)?;
        store::write_whole(&path, &text, 0o600).map_err(io::Error::other)
    });
    matches!(written.await, Ok(Ok(())))
}
