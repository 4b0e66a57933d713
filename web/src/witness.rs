//! The endpoint of `garant witness`: `POST /add-checkpoint` (C2SP tlog-witness).
//!
//! A witness is worth something only if it never forgets: one that cosigned 700 entries and answers after a crash as if it
//! had seen 500 helps a log to fork. So the new state is persisted *before* the cosignature is sent, requests are taken one
//! at a time (one file holds all logs, and a cosignature takes microseconds), and when the state can't be persisted the
//! answer is 503 and nothing changed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{self, Body};
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use event::Clock;
use journal::note::SigningKey;
use journal::witness::{self, REQUEST_BYTES_MAX, Refusal};
use tokio::sync::Mutex;

use crate::answer;

/// How long the body of a request may take. At the bound it is refused.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Where a witness keeps what it knows.
pub trait Persist: Send + Sync {
    /// Replaces the state, whole or not at all, and returns once it survives a power loss. May block.
    fn persist(&self, state: &witness::State) -> io::Result<()>;

    /// Keeps a request that shows a log signing two histories: the witness's evidence against it.
    fn accuse(&self, request: &str, refusal: &Refusal) -> io::Result<()>;
}

/// A witness.
pub struct Witness {
    key: SigningKey,
    state: Mutex<witness::State>,
    keeper: Arc<dyn Persist>,
    clock: Arc<dyn Clock>,
}

impl Witness {
    /// A witness that continues from `state`, as `keeper` last kept it.
    pub fn new(key: SigningKey, state: witness::State, keeper: Arc<dyn Persist>, clock: Arc<dyn Clock>) -> Self {
        Self { key, state: Mutex::new(state), keeper, clock }
    }
}

/// The router of a witness.
pub fn router(witness: Arc<Witness>) -> Router {
    answer::finish(Router::new().route("/add-checkpoint", post(add_checkpoint)).with_state(witness))
}

async fn add_checkpoint(Shared(witness): Shared<Arc<Witness>>, body: Body) -> Response {
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIME_MAX, body::to_bytes(body, REQUEST_BYTES_MAX)).await else {
        return answer::line(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or came too slowly\n");
    };
    let Ok(request) = String::from_utf8(body.into()) else {
        return answer::line(StatusCode::BAD_REQUEST, "the request is not UTF-8\n");
    };
    // A task of its own: a peer that hangs up does not end it between persisting and remembering.
    let granted = tokio::spawn(async move { grant(&witness, request).await }).await;
    granted.unwrap_or_else(|error| {
        tracing::error!(%error, "a request for a cosignature failed");
        answer::refusal(StatusCode::SERVICE_UNAVAILABLE)
    })
}

async fn grant(witness: &Witness, request: String) -> Response {
    let mut state = witness.state.lock().await;
    let mut next = state.clone();
    let cosignature = match witness::add_checkpoint(&mut next, &witness.key, &request, witness.clock.now()) {
        Ok(cosignature) => cosignature,
        Err(refusal) => {
            drop(state);
            return refuse(witness, request, refusal).await;
        }
    };
    let keeper = Arc::clone(&witness.keeper);
    let to_keep = next.clone();
    match tokio::task::spawn_blocking(move || keeper.persist(&to_keep)).await {
        Ok(Ok(())) => {
            *state = next;
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], cosignature).into_response()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the state can't be persisted; nothing was cosigned");
            answer::line(StatusCode::SERVICE_UNAVAILABLE, "the witness can't persist its state\n")
        }
        Err(error) => {
            tracing::error!(%error, "persisting the state failed; nothing was cosigned");
            answer::line(StatusCode::SERVICE_UNAVAILABLE, "the witness can't persist its state\n")
        }
    }
}

async fn refuse(witness: &Witness, request: String, refusal: Refusal) -> Response {
    if refusal.misbehaviour {
        tracing::error!(%refusal, "a log signed two histories; the request is kept as evidence");
        let keeper = Arc::clone(&witness.keeper);
        let accused = refusal.clone();
        let kept = tokio::task::spawn_blocking(move || keeper.accuse(&request, &accused)).await;
        if let Ok(Err(error)) = kept {
            tracing::error!(%error, "the evidence can't be kept");
        }
    }
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, [(header::CONTENT_TYPE, refusal.content_type)], refusal.body).into_response()
}

#[cfg(test)]
mod tests;
