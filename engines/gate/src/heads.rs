//! Writes heads: of requests to upstreams, of their replies to clients, and of replies of the gate itself. Everything is written anew
//! from what was understood.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use http::Uri;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TE};

use crate::hardening::Added;
use crate::message::{Length, Name, Reply, Request};
use crate::stream::TlsVersion;

/// Who has sent a request, and how it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    pub(crate) address: IpAddr,
    pub(crate) is_tls: bool,
    /// The version of TLS that it came over.
    pub(crate) tls: Option<TlsVersion>,
}

/// Writes a field.
pub(crate) fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The head of a request to an upstream. `target` is the canonical one, `gate` what this gate calls itself.
pub(crate) fn put_request(out: &mut BytesMut, request: &Request, target: &str, visitor: Visitor, gate: &str) {
    out.reserve(512 + target.len() + request.fields.bytes());
    out.put_slice(request.method.as_bytes());
    out.put_u8(b' ');
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\nHost: ");
    out.put_slice(request.host.as_bytes());
    // Writing into memory does not fail.
    if let Some(port) = request.port {
        _ = write!(out, ":{port}");
    }
    out.put_slice(b"\r\n");
    for field in request.fields.passed_on() {
        put_field(out, field.name, field.value);
    }
    put_forwarded(out, request, visitor, gate);
    match request.length {
        Length::None => {}
        Length::Known(bytes) => _ = write!(out, "Content-Length: {bytes}\r\n"),
        Length::Unknown => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if request.upgrades {
        out.put_slice(b"Connection: upgrade\r\nUpgrade: websocket\r\n");
    } else if request.wants_trailers() {
        // It is of one hop, and this is the next one (RFC 9110, section 10.1.4).
        out.put_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    out.put_slice(b"\r\n");
}

/// The same for HTTP/2: its fields, and where it goes.
pub(crate) fn http2_request(
    request: &Request,
    target: &str,
    visitor: Visitor,
    gate: &str,
) -> Result<http::Request<()>, http::Error> {
    let mut authority = request.host.clone();
    if let Some(port) = request.port {
        // Writing into memory does not fail.
        _ = write!(authority, ":{port}");
    }
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(target).build()?;
    let mut built = http::Request::builder().method(request.method.as_bytes()).uri(uri).body(())?;
    let fields = built.headers_mut();
    for field in request.fields.passed_on() {
        fields.append(HeaderName::from_bytes(field.name)?, HeaderValue::from_bytes(field.value)?);
    }
    let mut forwarded = BytesMut::new();
    put_forwarded(&mut forwarded, request, visitor, gate);
    for line in forwarded.as_ref().split(|byte: &u8| *byte == b'\n') {
        let line = line.trim_ascii_end();
        if let Some(colon) = memchr::memchr(b':', line) {
            let (name, value) = line.split_at(colon);
            let value = value.get(2..).unwrap_or_default();
            fields.append(HeaderName::from_bytes(name)?, HeaderValue::from_bytes(value)?);
        }
    }
    if let Length::Known(bytes) = request.length {
        fields.append(CONTENT_LENGTH, bytes.into());
    }
    // The one thing of this hop that the next one needs to know (RFC 9113, section 8.2.2): trailers come through.
    if request.wants_trailers() {
        fields.append(TE, HeaderValue::from_static("trailers"));
    }
    Ok(built)
}

/// What the gate knows of the client, in the words that programs expect (RFC 7239, and the older ones), and that it was here (RFC 8586):
/// by `CDN-Loop` and not by `Via`, for which nginx and IIS do not compress what they answer.
fn put_forwarded(out: &mut BytesMut, request: &Request, visitor: Visitor, gate: &str) {
    let address = visitor.address.to_canonical();
    let scheme = if visitor.is_tls { "https" } else { "http" };
    let (open, close) = if address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    // Writing into memory does not fail.
    _ = write!(
        out,
        "X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: {scheme}\r\nX-Forwarded-Host: {host}",
        host = request.host
    );
    if let Some(port) = request.port {
        _ = write!(out, ":{port}");
    }
    let quote = if request.host.starts_with('[') || request.port.is_some() { "\"" } else { "" };
    _ = write!(out, "\r\nForwarded: for={open}{address}{close};proto={scheme};host={quote}{}", request.host);
    if let Some(port) = request.port {
        _ = write!(out, ":{port}");
    }
    _ = write!(out, "{quote}\r\nCDN-Loop: {gate}\r\n");
}

/// What the gate adds to a reply of an upstream.
#[derive(Default, Debug)]
pub(crate) struct Extras {
    /// A cookie to set.
    pub(crate) cookie: Option<String>,
    /// The time, for a reply that has none (RFC 9110, section 6.6.1).
    pub(crate) date: Option<Arc<str>>,
    pub(crate) added: Added,
}

impl Extras {
    /// By name and value.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let added = self.added.pairs().map(|(name, value)| -> (&str, &str) { (name, value) });
        let date = self.date.iter().map(|date| ("Date", date.as_ref()));
        self.cookie.iter().map(|cookie| ("Set-Cookie", cookie.as_str())).chain(date).chain(added)
    }
}

/// The head of a reply of an upstream, to the client. `keeps` is whether the connection takes another request.
pub(crate) fn put_reply(out: &mut BytesMut, reply: &Reply, is_chunked: bool, keeps: bool, extras: &Extras) {
    out.reserve(256 + reply.fields.bytes());
    // Writing into memory does not fail.
    _ = write!(out, "HTTP/1.1 {} {}\r\n", reply.status, reply.reason);
    for field in reply.fields.of_all_hops() {
        put_field(out, field.name, field.value);
    }
    for (name, value) in extras.pairs() {
        put_field(out, name.as_bytes(), value.as_bytes());
    }
    match reply.length {
        // To HEAD, and of 304: the length that there would be.
        Length::None if reply.status == 304 || reply.status >= 200 && reply.status != 204 => {
            if let Some(length) = reply.fields.first(Name::ContentLength) {
                put_field(out, b"Content-Length", length);
            }
        }
        Length::Known(bytes) => _ = write!(out, "Content-Length: {bytes}\r\n"),
        Length::Unknown if is_chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::None | Length::Unknown => {}
    }
    if reply.status == 101 {
        out.put_slice(b"Connection: upgrade\r\nUpgrade: websocket\r\n");
    } else if !keeps {
        out.put_slice(b"Connection: close\r\n");
    }
    out.put_slice(b"\r\n");
}

/// A reply of the gate itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OwnReply<'r> {
    pub(crate) status: u16,
    /// Where to go instead.
    pub(crate) location: Option<String>,
    /// Whether it may be better soon.
    pub(crate) retry_after_s: Option<u32>,
    /// A document to show, and its kind; without it, the words of the status.
    pub(crate) document: Option<(&'static str, &'r [u8])>,
    /// What it says as any reply of its site.
    pub(crate) added: Added,
}

impl OwnReply<'_> {
    pub(crate) const fn of(status: u16) -> Self {
        Self { status, location: None, retry_after_s: None, document: None, added: Added::NONE }
    }

    /// Its body.
    pub(crate) fn body(&self) -> Cow<'_, [u8]> {
        match self.document {
            Some((_, document)) => Cow::Borrowed(document),
            None => Cow::Owned(format!("{} {}\n", self.status, reason(self.status)).into_bytes()),
        }
    }

    /// Its fields, each by name and value. `date` is the time in the form of HTTP.
    pub(crate) fn fields(&self, date: &str, mut put: impl FnMut(&str, &str)) {
        put("Date", date);
        put("Content-Type", self.document.map_or("text/plain; charset=utf-8", |(kind, _)| kind));
        put("Content-Length", &self.body().len().to_string());
        put("Cache-Control", "no-store");
        self.added.pairs().for_each(|(name, value)| put(name, value));
        if let Some(location) = &self.location {
            put("Location", location);
        }
        if let Some(seconds) = self.retry_after_s {
            put("Retry-After", &seconds.to_string());
        }
        if self.status == 405 {
            put("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
    }

    /// Writes it for HTTP/1.1; how many bytes its body has.
    pub(crate) fn put(&self, out: &mut BytesMut, date: &str, keeps: bool, is_head: bool) -> u64 {
        // Writing into memory does not fail.
        _ = write!(out, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        self.fields(date, |name, value| put_field(out, name.as_bytes(), value.as_bytes()));
        if !keeps {
            out.put_slice(b"Connection: close\r\n");
        }
        out.put_slice(b"\r\n");
        if is_head {
            return 0;
        }
        let body = self.body();
        out.put_slice(&body);
        u64::try_from(body.len()).unwrap_or(0)
    }
}

/// The words of a status that the gate itself answers (RFC 9110, section 15).
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Bad Request",
    }
}
