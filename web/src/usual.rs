//! The addresses that clients ask any site for: whether it is alive, what robots may read, its icon.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::answer;
use crate::state::State;

/// Robots may read the page. The log is for verifiers: a crawler would fetch every tile and every proof.
const ROBOTS_OF_THE_PUBLIC: &str = "User-agent: *\nDisallow: /log/\n";
const ROBOTS_OF_THE_TEAM: &str = "User-agent: *\nDisallow: /\n";

/// `/healthz`: the process answers. Whether it does its work is for `/ready`, which only the team may ask.
pub(crate) fn health() -> Router<Arc<State>> {
    Router::new().route("/healthz", get(|| async { answer::line(StatusCode::OK, "ok\n") }))
}

/// What is there beside the pages of the public.
pub(crate) fn public() -> Router<Arc<State>> {
    beside_the_page(ROBOTS_OF_THE_PUBLIC)
}

/// What is there beside the pages of the team.
pub(crate) fn team() -> Router<Arc<State>> {
    beside_the_page(ROBOTS_OF_THE_TEAM).route("/api/", get(|| async { Redirect::to("/api/status.json") }))
}

fn beside_the_page(robots: &'static str) -> Router<Arc<State>> {
    Router::new()
        .route("/robots.txt", get(move || async move { answer::line(StatusCode::OK, robots) }))
        .route("/favicon.ico", get(no_icon))
        // A verifier is given this address; a browser finds there what to do with it.
        .route("/log", get(|| async { Redirect::to("/") }))
        .route("/log/", get(|| async { Redirect::to("/") }))
}

/// There is no icon, and no browser needs to ask again before tomorrow.
async fn no_icon() -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"))])
        .into_response()
}
