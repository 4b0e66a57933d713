//! The log over HTTP, for its verifiers (promises BX-2, BX-4; format: `docs/log.md`, C2SP tlog-tiles).
//!
//! The files are those of `garant log export`, at the same paths under `/log/`; here they are made when they are asked for.
//!
//! **What may never happen**: that a reader gets the payload of an entry for the team, or anything beyond the published
//! checkpoint. The first is decided in one place, [`files::disclosed`], from the committed leaf and once more from the
//! payload itself. The second matters because a head that no witness has seen may still be lost in a crash: its reader would
//! have evidence of a fork that never was.

pub(crate) mod files;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;

use crate::answer;
use crate::state::State;
use files::FileError;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/log/{*path}", get(file))
}

async fn file(FromState(state): FromState<Arc<State>>, uri: Uri, headers: HeaderMap) -> Response {
    // The path as it was sent: every file has one spelling, and none of them needs percent-encoding.
    let path = uri.path().strip_prefix("/log/").unwrap_or_default();
    match files::read(&state, path).await {
        Ok(Some(file)) => answer::bytes(&headers, file.content_type, file.caching, file.bytes, file.share),
        Ok(None) => answer::refusal(StatusCode::NOT_FOUND),
        Err(FileError::Busy) => answer::busy(),
        Err(error) => {
            tracing::error!(%error, path, "a file of the log can't be made");
            answer::refusal(StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

#[cfg(test)]
mod tests;
