//! The doors of engines over HTTP: each [`Mount`] below its prefix, within the bounds that [`engine::door`] promises.
//!
//! **Problem.** A door changes things (who acknowledged, who is on call), on a listener that every user of the machine, and
//! every page in a browser on it, can reach. **Principle.** Nothing gets to an engine before its caller was judged: the team
//! token by its hash in constant time, or by the engine from the head of the request. Only then is the body read. A browser
//! sends the token by itself for no page, since it is a bearer token; a page of another site that sends a form to an engine's
//! own link is refused by `Sec-Fetch-Site`, which no page can set.
//!
//! Addresses of this crate come first, and [`Doors::new`] refuses a mount on one of them. What is below no mount is answered
//! as any unknown address, and so is a mount of the team on the public listener.
//!
//! A page of a door may send forms to its own address and nothing else (`form-action 'self'`). No other page may.

use std::fmt;
use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use engine::Failure;
use engine::door::{
    self, Access, CALL_TIME_MAX, CALLS_MAX, Call, CallBody, Credential, Door, DoorPage, Listeners, Method, Mount,
    QUERY_MAX, Reply,
};
use http_body_util::BodyExt as _;
use journal::Hash;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::answer;
use crate::lang::Language;
use crate::state::{Listener, State};

/// Addresses of this crate: no mount is one of them, nor below one.
const OWN: &[&str] = &[
    "/fr",
    "/en",
    "/log",
    "/ping",
    "/metrics",
    "/ready",
    "/healthz",
    "/robots.txt",
    "/favicon.ico",
    "/api/status.json",
];

/// The doors of all engines, and what the team shows at them.
#[derive(Clone)]
pub struct Doors {
    mounts: Arc<[Mounted]>,
    team_token: Hash,
}

/// A mount, its door, and room for calls.
struct Mounted {
    mount: &'static Mount,
    door: Arc<dyn Door>,
    calls: Arc<Semaphore>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.mounts.iter().map(|mounted| mounted.mount)).finish()
    }
}

impl Doors {
    /// The doors of these engines, each with the name of its engine, and the hash of the team token.
    ///
    /// # Errors
    /// A mount whose prefix is no path, or one of this crate or of another mount; one with the team token for everybody.
    pub fn new(doors: Vec<(&'static str, Arc<dyn Door>)>, team_token: Hash) -> Result<Self, Failure> {
        let mut mounts: Vec<Mounted> = Vec::new();
        for (engine, door) in doors {
            for mount in door.mounts() {
                let taken = mounts.iter().any(|other| other.mount.prefix == mount.prefix);
                if let Some(why) = fault(mount, taken) {
                    let prefix = mount.prefix;
                    return Err(Failure::new(format!("the engine {engine} can't be reached at {prefix}: {why}"))
                        .remedy("correct the mounts of its door"));
                }
                let calls = Arc::new(Semaphore::new(CALLS_MAX));
                mounts.push(Mounted { mount, door: Arc::clone(&door), calls });
            }
        }
        Ok(Self { mounts: mounts.into(), team_token })
    }

    /// The mount that a path is below, the one with the longest prefix, and the rest of the path.
    fn find<'a>(&self, path: &'a str, listener: Listener) -> Option<(&Mounted, &'a str)> {
        let below = self.mounts.iter().filter_map(|mounted| {
            let rest = path.strip_prefix(mounted.mount.prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((mounted, rest))
        });
        let (mounted, rest) = below.max_by_key(|(mounted, _)| mounted.mount.prefix.len())?;
        let served = listener == Listener::Team || mounted.mount.listeners == Listeners::Everybody;
        served.then_some((mounted, rest))
    }

    /// Whether the caller shows the team token.
    fn is_of_the_team(&self, credential: Option<&Credential>) -> bool {
        let Some(Credential::Bearer(token)) = credential else { return false };
        Hash::of(&[token]).as_bytes().ct_eq(self.team_token.as_bytes()).into()
    }
}

/// What is wrong with a mount.
fn fault(mount: &Mount, taken: bool) -> Option<&'static str> {
    let prefix = mount.prefix;
    let is_path = prefix.strip_prefix('/').is_some_and(|path| {
        path.split('/').all(|segment| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
        })
    });
    let below = |own: &str| prefix.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !is_path {
        Some("this is no path of letters, digits and -_. that begins with / and ends without")
    } else if OWN.iter().any(|own| below(own)) || prefix == "/api" {
        Some("the pages have that address themselves")
    } else if taken {
        Some("another mount has that address")
    } else if mount.listeners == Listeners::Everybody && mount.access == Access::TeamToken {
        Some("the team token is never asked for on the public listener")
    } else {
        None
    }
}

/// Answers a request to an address that no page has.
pub(crate) async fn answer(state: Arc<State>, listener: Listener, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Some((mounted, rest)) = state.doors.find(head.uri.path(), listener) else {
        return answer::refusal(StatusCode::NOT_FOUND);
    };
    let mut whole = hyper::body::Body::is_end_stream(&body);
    let mut response = call(&state, mounted, rest, &head, body, &mut whole).await;
    if !whole {
        // What was not read of the body is in the way of the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Judges, reads and hands over the call. `whole` says whether the body was read to its end.
async fn call(state: &State, mounted: &Mounted, rest: &str, head: &Parts, body: Body, whole: &mut bool) -> Response {
    let mount = mounted.mount;
    let Some(method) = method(&head.method).filter(|method| mount.methods.contains(method)) else {
        return not_allowed(mount);
    };
    let Some(path) = door::segments(rest) else { return answer::refusal(StatusCode::NOT_FOUND) };
    if method != Method::Get && is_cross_site(&head.headers) {
        return error(403, "a page of another site may not send this");
    }
    let query = head.uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().take(QUERY_MAX).collect();
    let (credential, at) = (credential(&head.headers), state.clock.now());
    let mut call = Call { mount: mount.prefix, method, path, query, credential, body: CallBody::Empty, at };
    match mount.access {
        Access::TeamToken if !state.doors.is_of_the_team(call.credential.as_ref()) => return no_token(),
        Access::TeamToken => {}
        Access::OfTheEngine => {
            if let Err(reply) = mounted.door.admit(&call) {
                return rendered(state, head, reply);
            }
        }
    }
    let Ok(_room) = mounted.calls.try_acquire() else {
        let retry = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
        return (retry, error(503, "too many calls are under way: try again")).into_response();
    };
    let mut asked = false;
    let answered = tokio::time::timeout(CALL_TIME_MAX.to_std(), async {
        call.body = match read(mount, &head.headers, body, whole).await {
            Ok(body) => body,
            Err(refused) => return refused,
        };
        asked = true;
        rendered(state, head, mounted.door.call(call).await)
    });
    match answered.await {
        Ok(response) => response,
        Err(_elapsed) if asked => {
            tracing::warn!(mount = mount.prefix, "a call took more than {CALL_TIME_MAX} and was dropped");
            error(503, "this takes too long just now: try again")
        }
        Err(_elapsed) => error(408, "the body came too slowly"),
    }
}

const fn method(method: &HttpMethod) -> Option<Method> {
    match *method {
        HttpMethod::GET | HttpMethod::HEAD => Some(Method::Get),
        HttpMethod::POST => Some(Method::Post),
        HttpMethod::DELETE => Some(Method::Delete),
        _ => None,
    }
}

/// Whether a browser says that another site sent the request: by Fetch Metadata (W3C), and those that know none of it by `Origin`
/// (RFC 6454), whose host is then not the one that is asked. Clients that are no browsers say nothing.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all("sec-fetch-site").iter().peekable();
    if said.peek().is_some() {
        return said.any(|site| site != "same-origin" && site != "none");
    }
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        let authority = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    !headers.get_all(header::ORIGIN).iter().all(is_own)
}

/// What the field `Authorization` holds; `None` for several fields, other schemes, and what can't be read.
fn credential(headers: &HeaderMap) -> Option<Credential> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (field, None) = (fields.next()?.as_bytes(), fields.next()) else { return None };
    let (scheme, value) = field.split_at_checked(field.iter().position(|byte| *byte == b' ')?)?;
    let value = value.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Credential::Bearer(Zeroizing::new(value.to_vec())));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = Zeroizing::new(STANDARD.decode(value).ok()?);
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(pair.get(..colon)?.to_vec()).ok()?;
    Some(Credential::Basic { user, password: Zeroizing::new(pair.get(colon + 1..)?.to_vec()) })
}

/// Reads the body, or refuses it.
async fn read(mount: &Mount, headers: &HeaderMap, mut body: Body, whole: &mut bool) -> Result<CallBody, Response> {
    let too_large = || error(413, &format!("the body is longer than {} bytes", mount.body_bytes_max));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > mount.body_bytes_max as u64) {
        return Err(too_large());
    }
    let kind = Kind::of(headers);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(error(400, "the body ended early")) };
        let Ok(data) = frame.into_data() else { continue };
        if kind == Kind::Other && !data.is_empty() {
            return Err(error(415, "the body must be JSON (application/json) or a form"));
        }
        if bytes.len() + data.len() > mount.body_bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    *whole = true;
    let bytes: Bytes = bytes.freeze();
    Ok(match kind {
        _ if bytes.is_empty() => CallBody::Empty,
        Kind::Form => CallBody::Form(bytes),
        Kind::Json | Kind::Other => CallBody::Json(bytes),
    })
}

/// The kind of a body, from its `Content-Type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Json,
    Form,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
        let (Some(Ok(field)), None) = (fields.next().map(HeaderValue::to_str), fields.next()) else {
            return Self::Other;
        };
        let essence = field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.starts_with("application/") && other.ends_with("+json") => Self::Json,
            _ => Self::Other,
        }
    }
}

/// The reply of an engine as an answer.
fn rendered(state: &State, head: &Parts, reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (content_type, body) = match reply {
        Reply::Json(_, body) => ("application/json", body),
        Reply::Text(_, text) => ("text/plain; charset=utf-8", text.into_bytes()),
        Reply::Calendar(text) => ("text/calendar; charset=utf-8", text.into_bytes()),
        Reply::DoorPage(_, shown) => return page_of(state, &head.headers, status, &shown),
        Reply::Refused(_) => return answer::refusal(status),
    };
    let mut share = state.budget.share();
    if !share.covers(body.capacity()) {
        return answer::busy();
    }
    (status, [(header::CONTENT_TYPE, content_type)], share.hold(body)).into_response()
}

#[derive(Template)]
#[template(path = "door.html")]
struct DoorTemplate<'a> {
    style: &'a str,
    language: &'static str,
    name: &'a str,
    title: &'a str,
    paragraphs: Vec<&'a str>,
    rows: Vec<(&'a str, &'a str)>,
    buttons: Vec<(&'a str, &'a str, &'a str)>,
}

fn page_of(state: &State, headers: &HeaderMap, status: StatusCode, shown: &DoorPage) -> Response {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let language = Language::preferred(accepted);
    let identity = Arc::clone(&state.identity.borrow());
    let template = DoorTemplate {
        style: answer::STYLE,
        language: language.code(),
        name: &identity.name,
        title: language.of(&shown.title),
        paragraphs: shown.paragraphs.iter().map(|text| language.of(text)).collect(),
        rows: shown.rows.iter().map(|(term, value)| (language.of(term), language.of(value))).collect(),
        buttons: shown
            .buttons
            .iter()
            .map(|button| (language.of(&button.label), button.name, button.value.as_str()))
            .collect(),
    };
    let Ok(html) = template.render() else { return answer::refusal(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut response = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, answer::WITH_FORMS.clone());
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.code()));
    headers.insert(header::VARY, HeaderValue::from_static("accept-language"));
    response
}

fn error(status: u16, why: &str) -> Response {
    let status_code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match Reply::error(status, why) {
        Reply::Json(_, body) => (status_code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        _ => status_code.into_response(),
    }
}

/// The answer to somebody without the team token.
fn no_token() -> Response {
    let asks = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    let why = "the team token is missing or wrong: send the one in team.token of the data directory as a bearer token";
    (asks, error(401, why)).into_response()
}

/// The answer to a method that the mount does not take.
fn not_allowed(mount: &Mount) -> Response {
    let mut allowed: Vec<&str> = mount.methods.iter().map(|method| method.as_str()).collect();
    if mount.methods.contains(&Method::Get) {
        allowed.insert(1.min(allowed.len()), "HEAD");
    }
    let mut response = answer::refusal(StatusCode::METHOD_NOT_ALLOWED);
    if let Ok(allowed) = HeaderValue::try_from(allowed.join(",")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests;
