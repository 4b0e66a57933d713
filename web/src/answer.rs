//! Answers: the headers that each carries, and the pages for refusals.
//!
//! A page that shows figures to strangers is worth attacking: it can be framed, scripted, or sniffed into another type. So
//! every answer, a refusal too, forbids all of that; a page may load nothing but its own style, named by its hash. No header
//! names the software.
//!
//! Strict-Transport-Security is not among the headers: without TLS it must not be sent (RFC 6797, section 7.2), and the
//! proxy that speaks TLS knows for which names it may be. With it, the grader of Mozilla gives A+.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use journal::Hash;

use crate::budget::Share;
use crate::lang::{Language, Words};
use crate::state::{Listener, State};
use crate::{door, host};

/// The style of every page, in the page itself: it is one request, and can be kept as one file.
pub(crate) const STYLE: &str = include_str!("../templates/style.css");

/// Longest time until an answer must be ready to be sent. At the bound the reader gets a 503.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| content_security_policy("'none'"));

/// The content security policy of a page that sends forms to this listener.
pub(crate) static WITH_FORMS: LazyLock<HeaderValue> = LazyLock::new(|| content_security_policy("'self'"));

/// What a page may load, frame and send: its own style, nothing, and forms to `form_action`.
fn content_security_policy(form_action: &str) -> HeaderValue {
    let style = Hash::of(&[STYLE.as_bytes()]).to_base64();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action {form_action}; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The router of a listener over the shared state: the routes, then the doors of engines, then what every answer has.
pub(crate) fn listener(routes: Router<Arc<State>>, state: Arc<State>, listener: Listener) -> Router {
    let doors = Arc::clone(&state);
    let routes = routes
        .fallback(move |request: Request| door::answer(Arc::clone(&doors), listener, request))
        .method_not_allowed_fallback(|| async { refusal(StatusCode::METHOD_NOT_ALLOWED) })
        .with_state(Arc::clone(&state));
    let routes = match listener {
        Listener::Team => routes.layer(middleware::from_fn_with_state(state, host::of_the_team)),
        Listener::Public => routes,
    };
    routes.layer(middleware::from_fn(guard))
}

/// Adds what every answer has: pages for unknown addresses and methods, a bound on the time, and the headers that forbid
/// everything.
pub(crate) fn finish(router: Router) -> Router {
    router
        .fallback(|| async { refusal(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { refusal(StatusCode::METHOD_NOT_ALLOWED) })
        .layer(middleware::from_fn(guard))
}

async fn guard(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => refusal(StatusCode::SERVICE_UNAVAILABLE),
    };
    let headers = response.headers_mut();
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY.clone());
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(Caching::Never.header()));
    }
    response
}

/// The rule for copies of an answer in caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caching {
    /// The bytes at this address never change.
    Immutable,
    /// The bytes change every minute or so.
    Short,
    /// A cache asks again each time; unchanged bytes are not sent again.
    Revalidate,
    /// No copy is kept.
    Never,
}

impl Caching {
    const fn header(self) -> &'static str {
        match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Short => "public, max-age=15",
            Self::Revalidate => "no-cache",
            Self::Never => "no-store",
        }
    }
}

/// Bytes with a type, an entity tag, and a rule for copies; 304 when the reader has them already (RFC 9110, section 13.1.2).
/// They keep their share of the budget until they are sent.
pub(crate) fn bytes(
    request: &HeaderMap,
    content_type: &'static str,
    caching: Caching,
    body: Vec<u8>,
    mut share: Share,
) -> Response {
    let tag = entity_tag(&body);
    let unchanged =
        request.get_all(header::IF_NONE_MATCH).iter().any(|value| matches(value.as_bytes(), tag.as_bytes()));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else if share.covers(body.capacity()) {
        ([(header::CONTENT_TYPE, content_type)], share.hold(body)).into_response()
    } else {
        return busy();
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching.header()));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The answer while too many large answers are under way: 503.
pub(crate) fn busy() -> Response {
    let retry = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
    (retry, refusal(StatusCode::SERVICE_UNAVAILABLE)).into_response()
}

fn entity_tag(body: &[u8]) -> String {
    format!("\"{}\"", Hash::of(&[body]).to_base64())
}

/// Whether a field value of If-None-Match names the tag, by weak comparison. A base64 tag has no comma in it.
fn matches(value: &[u8], tag: &[u8]) -> bool {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|candidate| {
        candidate == b"*" || candidate == tag || candidate.strip_prefix(b"W/").is_some_and(|weak| weak == tag)
    })
}

/// Makes an answer on a thread for long work: figures of ten thousand probes are megabytes of text, and the threads that
/// serve connections also ask the probes, on time.
pub(crate) async fn off_the_way(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer can't be made");
        refusal(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

/// JSON for the team's tools.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer can't be written as JSON");
            refusal(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// One line of text.
pub(crate) fn line(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct Refusal<'a> {
    style: &'a str,
    status: u16,
    parts: [Part; 2],
}

struct Part {
    lang: &'static str,
    title: &'static str,
    why: &'static str,
}

/// The page of a refusal, in both languages, since the reader may speak either. It gives no reason, and does not tell what
/// exists.
pub(crate) fn refusal(status: StatusCode) -> Response {
    let said = |words: &Words| match status {
        StatusCode::NOT_FOUND => (words.not_found, words.not_found_why),
        StatusCode::METHOD_NOT_ALLOWED => (words.not_allowed, words.not_allowed_why),
        StatusCode::PAYLOAD_TOO_LARGE => (words.too_large, words.too_large_why),
        StatusCode::BAD_REQUEST => (words.bad_request, words.bad_request_why),
        StatusCode::MISDIRECTED_REQUEST => (words.misdirected, words.misdirected_why),
        _ => (words.unavailable, words.unavailable_why),
    };
    let parts = Language::ALL.map(|language| {
        let (title, why) = said(language.words());
        Part { lang: language.code(), title, why }
    });
    match (Refusal { style: STYLE, status: status.as_u16(), parts }).render() {
        Ok(html) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(_unwritable) => status.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_compared_weakly() {
        let tag = entity_tag(b"x");
        for (value, expected) in [
            (tag.clone(), true),
            (format!("W/{tag}"), true),
            (format!("\"other\", {tag}"), true),
            ("*".to_owned(), true),
            ("\"other\"".to_owned(), false),
            (String::new(), false),
            (tag.trim_matches('"').to_owned(), false),
        ] {
            assert_eq!(matches(value.as_bytes(), tag.as_bytes()), expected, "{value}");
        }
        assert_ne!(entity_tag(b"x"), entity_tag(b"y"));
    }

    #[test]
    fn the_style_is_the_one_that_the_policy_allows() {
        let policy = CONTENT_SECURITY_POLICY.to_str().expect("ASCII");
        assert!(policy.contains(&Hash::of(&[STYLE.as_bytes()]).to_base64()), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
