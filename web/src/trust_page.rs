//! The trust page: every promise in the customer's words, what was measured beside what was promised, and the proof
//! (promises CO-7, BX-1, BX-5, and the figures of IN-4).
//!
//! **Problem.** A page of promises that cannot be checked is advertising; one that is checked but looks like a console is
//! read by nobody. **Principle.** One page, made by the server from the policy in effect and the verdicts in the log,
//! without scripts, readable without its style, small enough for a telephone on a bad line. Each figure says its
//! uncertainty, each verdict its reasons, and each has a link to a file that proves it to somebody who trusts neither the
//! page nor us. The figures are of the last evaluation; the proof is of the last verdict in the log, which the page names. An outcome is told by a word and a sign, never by colour alone.
//!
//! The page holds nothing that is not public; the team sees the same page, with a banner while it is not published, and with the
//! findings that are open.

mod view;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::State as FromState;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;

use crate::answer::{self, Caching};
use crate::lang::Language;
use crate::state::{Listener, State};

pub(crate) fn routes(reader: Listener) -> Router<Arc<State>> {
    Router::new()
        .route(
            "/",
            get(move |FromState(state): FromState<Arc<State>>, headers: HeaderMap| async move {
                let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
                let language = Language::preferred(accepted);
                let mut response = answer_with(&state, language, reader, &headers);
                let location = match language {
                    Language::French => "/fr",
                    Language::English => "/en",
                };
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-language"));
                response.headers_mut().insert(header::CONTENT_LOCATION, HeaderValue::from_static(location));
                response
            }),
        )
        .route("/fr", in_language(Language::French, reader))
        .route("/en", in_language(Language::English, reader))
}

fn in_language(language: Language, reader: Listener) -> axum::routing::MethodRouter<Arc<State>> {
    get(move |FromState(state): FromState<Arc<State>>, headers: HeaderMap| async move {
        answer_with(&state, language, reader, &headers)
    })
}

fn answer_with(state: &State, language: Language, reader: Listener, request: &HeaderMap) -> Response {
    let caching = match reader {
        Listener::Team => Caching::Revalidate,
        Listener::Public => Caching::Short,
    };
    match view::TrustPage::new(state, language, reader).render() {
        Ok(html) => {
            let mut response =
                answer::bytes(request, "text/html; charset=utf-8", caching, html.into_bytes(), state.budget.share());
            response.headers_mut().insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
            response
        }
        Err(error) => {
            tracing::error!(%error, "the trust page can't be written");
            answer::refusal(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

#[cfg(test)]
mod tests;
