//! A client for HTTP/1.1 that measures each phase.
//!
//! **Problem.** A client made for convenience follows redirects, reuses connections, waits for ever and reads whatever it
//! is sent. As a probe it then measures the wrong server over an old connection, and one hostile answer fills the memory.
//! **Principle.** One request, one new connection, one deadline over everything, a limit on the answer; what went wrong is
//! told by phase. Nothing is retried and, unless asked for, nothing is followed: that is for whoever asks to decide. What is
//! followed is followed as browsers do it, with cookies for as long as the request lasts, but never to an address that is not
//! public from one that is: see [`crate::net`].
//!
//! The connection is driven by the very future that waits for the answer. Nothing is spawned, so dropping the future ends
//! it all, and a thousand requests a second cost a thousand connections and no task.
//!
//! Who asks one server for thousands of objects, and measures nothing, keeps [`Connections`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use event::Span;
pub use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::net::{Deadline, Family, Net, Peer, Stopwatch, Verify};

mod connections;
mod error;
mod exchange;
mod redirect;
#[cfg(test)]
mod tests;

pub use connections::Connections;
pub use error::{HttpError, HttpFailure};
pub use redirect::RedirectFault;

/// How long a request may take unless it says otherwise.
const WITHIN: Span = Span::from_secs(10);

/// Longest answer unless the request says otherwise, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The `User-Agent`, unless the request sets one.
const USER_AGENT: &str = concat!("garant/", env!("CARGO_PKG_VERSION"));

/// A request, built field by field. There may be ten thousand of them at rest, so the fields that few have are apart, and
/// clones share them.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    url: Arc<str>,
    within: Span,
    body_bytes_max: usize,
    redirects_max: u8,
    verify: Verify,
    public_only: bool,
    extra: Option<Arc<Extra>>,
}

/// Says of the status, the header fields and the body as far as it has come whether that is all that is needed.
pub type Enough<'a> = dyn FnMut(u16, &HeaderMap, &[u8]) -> bool + Send + 'a;

/// The fields that few requests have.
#[derive(Clone, Default)]
struct Extra {
    headers: HeaderMap,
    body: Bytes,
    /// Host and port to connect to.
    at: Option<(String, u16)>,
    family: Option<Family>,
    /// Name of the first header field that is not valid.
    bad_header: Option<String>,
}

impl fmt::Debug for Extra {
    /// Names only: any value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { headers, body, at, family, bad_header } = self;
        f.debug_struct("Extra")
            .field("headers", &headers.keys())
            .field("body_bytes", &body.len())
            .field("at", at)
            .field("family", family)
            .field("bad_header", bad_header)
            .finish()
    }
}

/// How long each phase took. Over redirects, the sum of all hops.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RequestPhases {
    /// Resolving the name.
    pub dns: Span,
    /// Opening the TCP connection.
    pub connect: Span,
    /// The TLS handshake.
    pub tls: Span,
    /// From the connection being ready to the first byte of the answer.
    pub first_byte: Span,
    /// From the call to the last byte of the answer; what the phases leave over is the transfer of the rest.
    pub total: Span,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Whether nothing but the end of the TLS connection, without the goodbye of TLS, says that the body is whole.
    pub close_notify_missing: bool,
    /// How long each phase took.
    pub phases: RequestPhases,
    /// The TLS peer and its certificates; `None` without TLS.
    pub peer: Option<Peer>,
    /// The address that answered.
    pub remote: SocketAddr,
    /// The address asked for, after redirects.
    pub url: String,
}

impl Response {
    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// Whether the status asks for another address that is not there: `Location` is missing, empty, or not a header field of
    /// HTTP, as one with control characters.
    pub fn leads_nowhere(&self) -> bool {
        let asks = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        asks && self.headers.get(header::LOCATION).is_none_or(HeaderValue::is_empty)
    }

    /// Whether the status is 2xx.
    pub fn success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Request {
    /// A request for `url`, with `http:` or `https:`.
    pub fn new(method: Method, url: impl Into<Arc<str>>) -> Self {
        Self {
            method,
            url: url.into(),
            within: WITHIN,
            body_bytes_max: BODY_BYTES_MAX,
            redirects_max: 0,
            verify: Verify::Require,
            public_only: false,
            extra: None,
        }
    }

    fn extra_mut(&mut self) -> &mut Extra {
        Arc::make_mut(self.extra.get_or_insert_default())
    }

    /// A GET.
    pub fn get(url: impl Into<Arc<str>>) -> Self {
        Self::new(Method::GET, url)
    }

    /// A POST of `body`.
    pub fn post(url: impl Into<Arc<str>>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, url).body(body)
    }

    /// Sets a header field; the last value counts. `Host`, `Connection` and `Content-Length` are set by the client, but a
    /// `Host` given here is used instead. Another origin that the request is redirected to gets none of them but `Accept`
    /// and its like, nor the body.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        match (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_ref())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.extra_mut().headers.insert(name, value);
            }
            // The value may be a secret: the error shows the name only.
            _ => drop(self.extra_mut().bad_header.get_or_insert_with(|| name.to_owned())),
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.extra_mut().body = body.into();
        self
    }

    /// How long all of it may take, redirects included; ten seconds otherwise.
    #[must_use]
    pub fn within(mut self, within: Span) -> Self {
        self.within = within;
        self
    }

    /// Longest body of the answer, in bytes; one MiB otherwise. A longer one is an error.
    #[must_use]
    pub fn body_bytes_max(mut self, max: usize) -> Self {
        self.body_bytes_max = max;
        self
    }

    /// How many redirects to follow; none otherwise, and the answer is then the redirect itself.
    #[must_use]
    pub fn redirects_max(mut self, max: u8) -> Self {
        self.redirects_max = max;
        self
    }

    /// What to do about a certificate that can't be trusted; it is refused otherwise.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Connects only to public addresses, and those that `notifications_may_reach` of [`crate::net::NetOptions`] names.
    #[must_use]
    pub fn public_only(mut self) -> Self {
        self.public_only = true;
        self
    }

    /// Connects to this host and port instead of those of the URL, which `Host` and TLS still name. Redirects to other origins
    /// lead to where they say.
    #[must_use]
    pub fn at(mut self, host: impl Into<String>, port: u16) -> Self {
        self.extra_mut().at = Some((host.into(), port));
        self
    }

    /// Connects over this family of addresses only, redirects included.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.extra_mut().family = Some(family);
        self
    }

    /// Sends the request and reads the whole answer.
    pub async fn send(self, net: &Net) -> Result<Response, HttpError> {
        self.send_until(net, &mut |_, _, _| false).await
    }

    /// Sends the request and reads the answer to its end, or until `enough` of it is there, for an answer that may have none.
    pub async fn send_until(self, net: &Net, enough: &mut Enough<'_>) -> Result<Response, HttpError> {
        let watch = Stopwatch::start();
        let deadline = Deadline::within(self.within);
        let mut phases = RequestPhases::default();
        let mut hop =
            exchange::Hop::first(self).map_err(|(url, failure)| HttpError { url, failure, phases, shown: None })?;
        loop {
            let mut shown = None;
            let sent = hop.send(net, deadline, &mut phases, &mut shown, enough).await;
            phases.total = watch.read();
            let failed = |hop: &exchange::Hop, failure| HttpError { url: hop.url.to_string(), failure, phases, shown };
            let response = match sent {
                Ok(response) => response,
                Err(failure) => return Err(failed(&hop, failure)),
            };
            match hop.follow(&response) {
                Ok(None) => return Ok(Response { phases, ..response }),
                Ok(Some(further)) => hop = further,
                Err(failure) => return Err(failed(&hop, failure)),
            }
        }
    }
}

/// Gets `url` with the usual limits; see [`Request`] for others.
pub async fn get(net: &Net, url: &str) -> Result<Response, HttpError> {
    Request::get(url).send(net).await
}
