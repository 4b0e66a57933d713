//! Intake of pings, at the addresses of Healthchecks: `/ping/<uuid>`, `…/start`, `…/fail`, `…/log`, `…/<exit status>`, by
//! GET, HEAD or POST. A job that reports there needs a new host name and nothing else. `?rid=<uuid>` names a run of the job,
//! for runs that overlap.
//!
//! `200 OK` is answered once the ping is recorded on the disk, not before: the job may then forget about it. While it can't be
//! recorded the answer is 503, beyond a few pings a second of one heartbeat it is 429, and nothing is kept of the ping;
//! `curl --retry`, which the documentation of Healthchecks recommends, comes again.
//!
//! A body is read so that its sender gets an answer, and thrown away: the output of a job is full of names and addresses,
//! and no promise needs it. So `…/log`, which carries output and changes no state, is answered and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State as FromState};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::heartbeat::{Ping, Receipt};
use http_body_util::BodyExt as _;
use store::AppendsRefused;

use crate::answer;
use crate::state::State;

/// How much of a body is read, so that a sender that writes before it reads gets its answer. Healthchecks keeps the first
/// 100 kB of one; we keep nothing. What is beyond is not read, and the connection is closed after the answer.
const BODY_BYTES_MAX: u64 = 1_000_000;

/// Longest time in which a body is read.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/ping/{uuid}", get(plain).post(plain))
        .route("/ping/{uuid}/", get(plain).post(plain))
        .route("/ping/{uuid}/{action}", get(with_action).post(with_action))
}

async fn plain(
    FromState(state): FromState<Arc<State>>,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    take(&state, &uuid, "", query.as_deref(), body).await
}

async fn with_action(
    FromState(state): FromState<Arc<State>>,
    Path((uuid, action)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    take(&state, &uuid, &action, query.as_deref(), body).await
}

async fn take(state: &State, uuid: &str, action: &str, query: Option<&str>, body: Body) -> Response {
    let at = state.clock.now();
    let (Some(uuid), Some(meaning)) = (canonical(uuid), meaning(action)) else {
        return answer::line(StatusCode::NOT_FOUND, "not found\n");
    };
    let Ok(run) = run(query) else {
        return answer::line(StatusCode::BAD_REQUEST, "invalid uuid format: write rid=<uuid>\n");
    };
    // The body of a ping with an unknown uuid is not read.
    if !state.pings.knows(&uuid) {
        return answer::line(StatusCode::NOT_FOUND, "not found\n");
    }
    let (body_bytes, whole) = discard(body).await;
    let receipt = match meaning {
        Meaning::Sign(ping) => state.pings.deliver(Ping { uuid, ping, run, at, body_bytes }).await,
        Meaning::Output if state.pings.knows(&uuid) => Receipt::Known,
        Meaning::Output => Receipt::Unknown,
    };
    let mut response = match receipt {
        Receipt::Known => answer::line(StatusCode::OK, "OK"),
        Receipt::Unknown => answer::line(StatusCode::NOT_FOUND, "not found\n"),
        Receipt::TooMany => {
            let retry = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
            (retry, answer::line(StatusCode::TOO_MANY_REQUESTS, "too many pings: this one is not recorded\n"))
                .into_response()
        }
        Receipt::Busy => {
            let retry = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
            let why = match state.journal.health().fault {
                Some(AppendsRefused { full: true, .. }) => {
                    "the disk is full: nothing is recorded until there is room\n"
                }
                Some(_) => "the storage fails: nothing is recorded until it works again\n",
                None => "busy, try again\n",
            };
            (retry, answer::line(StatusCode::SERVICE_UNAVAILABLE, why)).into_response()
        }
    };
    if !whole {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The message of a ping, from the end of its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    /// A message that changes the state of the heartbeat.
    Sign(engine::heartbeat::Said),
    /// Output of the job, which changes no state.
    Output,
}

/// The message that the end of the address stands for; `None` for an unknown one.
fn meaning(action: &str) -> Option<Meaning> {
    use engine::heartbeat::Said::{Fail, Start, Success};
    match action {
        "" => Some(Meaning::Sign(Success)),
        "start" => Some(Meaning::Sign(Start)),
        "fail" => Some(Meaning::Sign(Fail)),
        "log" => Some(Meaning::Output),
        status if status.len() <= 3 && status.bytes().all(|b| b.is_ascii_digit()) => match status.parse::<u8>() {
            Ok(0) => Some(Meaning::Sign(Success)),
            Ok(_) => Some(Meaning::Sign(Fail)),
            Err(_beyond_255) => None,
        },
        _ => None,
    }
}

/// The run that the query names, `rid=<uuid>`; the last one if there are several.
fn run(query: Option<&str>) -> Result<Option<String>, ()> {
    let named = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("rid=")).next_back();
    match named {
        Some(uuid) => canonical(uuid).map(Some).ok_or(()),
        None => Ok(None),
    }
}

/// The canonical spelling of a UUID (RFC 9562, section 4): 8-4-4-4-12 hexadecimal digits, lower case.
fn canonical(uuid: &str) -> Option<String> {
    let right = uuid.len() == 36
        && uuid.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    right.then(|| uuid.to_ascii_lowercase())
}

/// Reads a body and drops it: its length, and whether all of it was read.
async fn discard(mut body: Body) -> (u64, bool) {
    let mut bytes = 0;
    let read_to_end = tokio::time::timeout(BODY_TIME_MAX, async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > BODY_BYTES_MAX {
                return false;
            }
        }
        true
    });
    let whole = read_to_end.await.unwrap_or(false);
    (bytes.min(BODY_BYTES_MAX), whole)
}

#[cfg(test)]
mod tests;
