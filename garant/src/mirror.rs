//! A log over HTTP, copied into a folder so that it can be verified offline.
//!
//! Files are asked for in an order that suits a log that goes on growing: the checkpoint first, then the tree below it,
//! which never changes, then what lies beside it, of which the audit knows that it may be a moment newer.

use std::path::Path;
use std::sync::Arc;

use engine::clock::SystemClock;
use engine::http::Request;
use engine::net::{Net, Options};
use event::Span;
use journal::audit::Directory;
use journal::checkpoint::Checkpoint;
use journal::export::{self, ListedVerdict, Sink as _};
use journal::note::Note;
use journal::tile::{bundles_for, tiles_for};

use crate::failure::Failure;
use crate::terminal::Terminal;

const WITHIN: Span = Span::from_secs(60);
const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;
const REDIRECTS_MAX: u8 = 3;

struct Mirror<'a> {
    net: Net,
    base: String,
    folder: Directory,
    source: &'a str,
}

/// Copies the log at `source` into `folder`.
pub(crate) async fn copy(source: &str, folder: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let net = Net::new(&Options::default(), Arc::new(SystemClock))
        .map_err(|error| Failure::new("the certificates that this machine trusts can't be read").because(&error))?;
    let base = format!("{}/", source.trim_end_matches('/'));
    let mut mirror = Mirror { net, base, folder: Directory::new(folder), source };
    mirror.copy(terminal).await
}

impl Mirror<'_> {
    async fn copy(&mut self, terminal: &Terminal) -> Result<(), Failure> {
        let note = self.file(export::CHECKPOINT).await?.ok_or_else(|| {
            Failure::new(format!("there is no log at {}", self.source))
                .remedy("name the address that ends with /log/, as the trust page shows it; is the log published?")
        })?;
        let text = String::from_utf8_lossy(&note);
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            Failure::new(format!("what {} calls its checkpoint is none", self.source)).because(error)
        };
        let note = Note::parse(&text).map_err(|error| unreadable(&error))?;
        let size = Checkpoint::parse(&note.text).map_err(|error| unreadable(&error))?.size;

        // It changes with each reload; what it must agree with is the tree of this checkpoint.
        self.file(export::POLICY).await?;
        let bar = terminal.progress("copying the log", size);
        for bundle in bundles_for(size) {
            self.file(&bundle.entries_path()).await?;
            self.file(&bundle.payload_path()).await?;
            bar.set_position(bundle.start() + u64::from(bundle.width));
        }
        bar.finish_and_clear();
        for tile in tiles_for(size) {
            self.file(&tile.path()).await?;
        }
        for path in [export::VKEY, export::TLOG_POLICY, export::ROTATIONS] {
            self.file(path).await?;
        }
        let verdicts = self.file(export::VERDICTS).await?.unwrap_or_default();
        // What can't be read here is found and told by the audit.
        let listed: Vec<ListedVerdict> = serde_json::from_slice(&verdicts).unwrap_or_default();
        for verdict in listed {
            self.file(&export::proof_path(verdict.sequence)).await?;
        }
        Ok(())
    }

    /// Copies one file and returns it; `None` when there is none.
    async fn file(&mut self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let url = format!("{}{path}", self.base);
        let request =
            Request::get(url.clone()).within(WITHIN).body_bytes_max(FILE_BYTES_MAX).redirects_max(REDIRECTS_MAX);
        let response = request
            .send(&self.net)
            .await
            .map_err(|error| Failure::new(format!("{url} can't be fetched")).because(&error))?;
        match response.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(Failure::new(format!("{url} answers {status}"))),
        }
        self.folder
            .write(path, &response.body)
            .map_err(|error| Failure::new(format!("the copy of {path} can't be written")).because(&error))?;
        Ok(Some(response.body.to_vec()))
    }
}
