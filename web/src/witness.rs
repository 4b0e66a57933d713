//! The endpoints of `garant witness`: `POST /add-checkpoint`, and for monitors `GET /<SHA-256 of the origin>/checkpoint`
//! (C2SP tlog-witness).
//!
//! A witness is worth something only if it never forgets: one that cosigned 700 entries and answers after a crash as if it
//! had seen 500 helps a log to fork. So the new state is persisted *before* the cosignature is sent, requests are taken one
//! at a time (one file holds all logs, and a cosignature takes microseconds), and when the state can't be persisted the
//! answer is 503 and nothing changed.
//!
//! Requests carry no identity, so everything that a stranger can send is cheap: one signature is checked, and a checkpoint
//! that is known already is cosigned again without a write. A write, for a step forward, needs a signature of the log
//! itself, and happens at the pace of [`STEP_EVERY`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{self, Body};
use axum::extract::{Path, State as FromState};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use event::{Clock, Monotonic, Span};
use journal::note::SigningKey;
use journal::witness::{self, Fork, REQUEST_BYTES_MAX, Refusal};
use tokio::sync::Mutex;

use crate::answer;

/// How long the body of a request may take. At the bound it is refused.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a log may go a step forward. Each is a write to the disk that all logs wait for.
const STEP_EVERY: Span = Span::from_secs(1);
/// How many steps may be taken at once after a quiet time. At the bound the answer is 429.
const STEPS_AT_ONCE: i64 = 16;

/// Storage of what a witness remembers.
pub trait Persist: Send + Sync {
    /// Replaces the state, whole or not at all, and returns once it survives a power loss. May block.
    fn persist(&self, state: &witness::WitnessState) -> io::Result<()>;

    /// Keeps the proof that a log signed two histories, within a bound of its own. May block.
    fn accuse(&self, fork: &Fork) -> io::Result<()>;
}

/// State that all requests share.
struct Known {
    state: witness::WitnessState,
    /// Until when each log has used up its steps. Only of logs in the state, so there are as many as there.
    used_until: BTreeMap<String, Monotonic>,
}

/// A witness.
pub struct Witness {
    key: SigningKey,
    known: Mutex<Known>,
    keeper: Arc<dyn Persist>,
    clock: Arc<dyn Clock>,
}

impl Witness {
    /// A witness that continues from `state`, the last that `keeper` persisted.
    pub fn new(key: SigningKey, state: witness::WitnessState, keeper: Arc<dyn Persist>, clock: Arc<dyn Clock>) -> Self {
        let known = Mutex::new(Known { state, used_until: BTreeMap::new() });
        Self { key, known, keeper, clock }
    }
}

/// The router of a witness.
pub fn router(witness: Arc<Witness>) -> Router {
    let routes = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(latest))
        .with_state(witness);
    answer::finish(routes)
}

/// The latest cosigned checkpoint of a log, to be compared with what the log shows to others.
async fn latest(FromState(witness): FromState<Arc<Witness>>, Path(origin_hash): Path<String>) -> Response {
    let known = witness.known.lock().await;
    match known.state.checkpoint_at(&format!("{origin_hash}/checkpoint")) {
        Some(note) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note.to_owned()).into_response(),
        None => answer::line(StatusCode::NOT_FOUND, "no checkpoint of such a log was cosigned here\n"),
    }
}

impl Known {
    /// Takes one step for the log that is ahead in `next`; `false` when it has none left. A log that does not move uses up
    /// none.
    fn step(&mut self, next: &witness::WitnessState, now: Monotonic) -> bool {
        let moved = next.logs.iter().find(|(origin, log)| self.state.logs.get(*origin) != Some(log));
        let Some((origin, _)) = moved else { return true };
        let used_until = self.used_until.entry(origin.clone()).or_insert(now);
        let from = (*used_until).max(now);
        if from.since(now) >= Span::from_micros(STEP_EVERY.micros() * STEPS_AT_ONCE) {
            return false;
        }
        *used_until = Monotonic(from.0 + STEP_EVERY.micros());
        true
    }
}

async fn add_checkpoint(FromState(witness): FromState<Arc<Witness>>, body: Body) -> Response {
    let Ok(Ok(body)) = tokio::time::timeout(BODY_TIME_MAX, body::to_bytes(body, REQUEST_BYTES_MAX)).await else {
        return answer::line(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or came too slowly\n");
    };
    let Ok(request) = String::from_utf8(body.into()) else {
        return answer::line(StatusCode::BAD_REQUEST, "the request is not UTF-8\n");
    };
    // The work is a task of its own: a peer that hangs up must not end it between persisting and remembering.
    let granted = tokio::spawn(async move { grant(&witness, request).await }).await;
    granted.unwrap_or_else(|error| {
        tracing::error!(%error, "a request for a cosignature failed");
        answer::refusal(StatusCode::SERVICE_UNAVAILABLE)
    })
}

async fn grant(witness: &Witness, request: String) -> Response {
    let mut known = witness.known.lock().await;
    let mut next = known.state.clone();
    let cosignature = match witness::add_checkpoint(&mut next, &witness.key, &request, witness.clock.now()) {
        Ok(cosignature) => cosignature,
        Err(refusal) => {
            drop(known);
            return refuse(witness, refusal).await;
        }
    };
    let granted = ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], cosignature).into_response();
    if next == known.state {
        return granted;
    }
    if !known.step(&next, witness.clock.monotonic()) {
        return answer::line(StatusCode::TOO_MANY_REQUESTS, "this log moves too fast: ask once a second at most\n");
    }
    let keeper = Arc::clone(&witness.keeper);
    let to_keep = next.clone();
    match tokio::task::spawn_blocking(move || keeper.persist(&to_keep)).await {
        Ok(Ok(())) => {
            known.state = next;
            granted
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

async fn refuse(witness: &Witness, refusal: Refusal) -> Response {
    if let Some(fork) = refusal.fork {
        tracing::error!(log = fork.origin, "a log signed two histories; both checkpoints are kept as evidence");
        let keeper = Arc::clone(&witness.keeper);
        match tokio::task::spawn_blocking(move || keeper.accuse(&fork)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the evidence can't be kept"),
            Err(error) => tracing::error!(%error, "keeping the evidence failed"),
        }
    } else if refusal.status == 422 {
        // A stranger can send a checkpoint with a proof of something else: worth a line in the log, and no more.
        tracing::warn!(reason = refusal.body.trim_end(), "a checkpoint was not cosigned");
    }
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    (status, [(header::CONTENT_TYPE, refusal.content_type)], refusal.body).into_response()
}

#[cfg(test)]
mod tests;
