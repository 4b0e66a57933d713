//! One request over one connection.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use event::Span;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use url::{Position, Url};

use super::redirect::{Jar, RedirectFault, location};
use super::{
    Enough, HeaderMap, HeaderValue, HttpFailure, Method, Request, RequestPhases, Response, USER_AGENT, header,
};
use crate::net::{Deadline, Net, Phase, Shown, Stopwatch, Stream, Target, TlsBroken};

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a field beside its name and its value: colon, space, end of the line.
const FIELD_BYTES: usize = 4;
/// Most fields of the head of an answer.
const HEADERS_MAX: usize = 300;

/// Fields that say what is understood, and so may go to any server. Every other one was meant for the origin that the request
/// names: nobody can tell by its name which is a token.
const FOR_ANYBODY: [header::HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT_CHARSET, header::USER_AGENT];

/// A request, where it goes now, and what it has met on its way.
pub(super) struct Hop {
    request: Request,
    pub(super) url: Url,
    jar: Jar,
    /// Of a redirect: who answered before.
    led_by: Option<IpAddr>,
    followed: u8,
}

impl Hop {
    pub(super) fn first(request: Request) -> Result<Self, (String, HttpFailure)> {
        let failed = |url: &str, reason: String| Err((url.to_owned(), HttpFailure::Request(reason)));
        if let Some(name) = request.extra.as_ref().and_then(|extra| extra.bad_header.as_ref()) {
            let reason = format!("the header field `{name}` has a name or a value that HTTP does not allow");
            return failed(&request.url, reason);
        }
        let Ok(url) = request.url.parse::<Url>() else {
            return failed(&request.url, "its address is not a URL".to_owned());
        };
        if !matches!(url.scheme(), "http" | "https") {
            return failed(&request.url, "its address must start with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Shown without name and password: this text ends up in logs.
            let reason = "its address must not hold a name and password: use an `Authorization` header";
            let shown = format!("//{}{}", url.host_str().unwrap_or_default(), url.path());
            return failed(&shown, reason.to_owned());
        }
        Ok(Self { request, url, jar: Jar::default(), led_by: None, followed: 0 })
    }

    fn secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn target(&self) -> Target {
        let (host, port) = (self.url.host_str().unwrap_or_default(), self.url.port_or_known_default().unwrap_or(80));
        let target = if self.secure() { Target::tls(host, port, self.request.verify) } else { Target::tcp(host, port) };
        let mut target = Target { led_by: self.led_by, public_only: self.request.public_only, ..target };
        if let Some(extra) = &self.request.extra {
            target.family = extra.family;
            if let Some((host, port)) = &extra.at {
                if let Some(tls) = &mut target.tls {
                    tls.server_name = Some(target.host.clone());
                }
                target.host.clone_from(host);
                target.port = *port;
            }
        }
        target
    }

    /// The body to send.
    pub(super) fn body(&self) -> Bytes {
        self.request.extra.as_ref().map(|extra| extra.body.clone()).unwrap_or_default()
    }

    /// Longest body of the answer.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.request.body_bytes_max
    }

    pub(super) fn is_put(&self) -> bool {
        self.request.method == Method::PUT
    }

    /// The head and body to send.
    pub(super) fn message(&self) -> Result<hyper::Request<Full<Bytes>>, HttpFailure> {
        let request = &self.request;
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        let mut message = hyper::Request::new(Full::new(self.body()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = path.parse().map_err(|_| not_http("path"))?;
        let headers = message.headers_mut();
        let host = HeaderValue::from_str(&self.url[Position::BeforeHost..Position::BeforePath]);
        headers.insert(header::HOST, host.map_err(|_| not_http("host"))?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(request.extra.as_ref().map(|extra| extra.headers.clone()).unwrap_or_default());
        if let Some(cookies) = self.jar.value(&self.url, headers.get(header::COOKIE)) {
            headers.insert(header::COOKIE, cookies);
        }
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(message)
    }

    /// Connects, asks, reads until the answer ends or `enough` of it is there; of a redirect that is followed the head only.
    /// Adds to `phases` whatever was reached; a failure after TLS was agreed upon leaves the certificates in `shown`.
    pub(super) async fn send(
        &self,
        net: &Net,
        deadline: Deadline,
        phases: &mut RequestPhases,
        shown: &mut Option<Box<Shown>>,
        enough: &mut Enough<'_>,
    ) -> Result<Response, HttpFailure> {
        let message = self.message()?;
        let mut watch = Stopwatch::start();
        let dialed = match net.dial(&self.target(), deadline).await {
            Ok(dialed) => dialed,
            Err(error) => {
                let spent = watch.read();
                match error.phase() {
                    Phase::Dns => phases.dns = phases.dns + spent,
                    Phase::Tls => phases.tls = phases.tls + spent,
                    _ => phases.connect = phases.connect + spent,
                }
                return Err(HttpFailure::Dial(error));
            }
        };
        phases.dns = phases.dns + dialed.phases.dns;
        phases.connect = phases.connect + dialed.phases.connect;
        phases.tls = phases.tls + dialed.phases.tls;

        let (remote, peer) = (dialed.remote, dialed.peer);
        let cut_off = AtomicBool::new(false);
        watch.lap();
        let first_byte = FirstByte { asked: watch, came: OnceLock::new() };
        let exchange = async {
            let io = TokioIo::new(Lenient { stream: dialed.stream, cut_off: &cut_off, first_byte: &first_byte });
            let (mut sender, connection) = client().handshake(io).await.map_err(head_broken)?;
            let work = async {
                let answer = sender.send_request(message).await.map_err(head_broken)?;
                let (head, body) = answer.into_parts();
                head_is_bounded(&head.headers)?;
                let status = head.status.as_u16();
                let read = if self.leads(status, &head.headers).is_some() {
                    Bytes::new()
                } else {
                    let mut enough = |body: &[u8]| enough(status, &head.headers, body);
                    read(body, self.request.body_bytes_max, &mut enough).await?
                };
                Ok((head, read))
            };
            driven(connection, work).await
        };
        let exchanged: Option<Result<_, HttpFailure>> = deadline.run(exchange).await;
        let came = first_byte.came.get().copied();
        phases.first_byte = phases.first_byte + came.unwrap_or(Span::ZERO);
        let phase = if came.is_some() { Phase::Body } else { Phase::FirstByte };
        let exchanged = exchanged.ok_or(HttpFailure::Timeout { phase, within: deadline.span() }).flatten();
        let (head, body) = match exchanged {
            Ok(answer) => answer,
            Err(failure) => {
                *shown = peer.map(|peer| Box::new(peer.shown));
                return Err(failure);
            }
        };
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            close_notify_missing: cut_off.into_inner(),
            phases: *phases,
            peer,
            remote,
            url: self.url.to_string(),
        })
    }

    /// Where an answer leads that the request follows.
    fn leads(&self, status: u16, headers: &HeaderMap) -> Option<Result<Url, RedirectFault>> {
        let asks = matches!(status, 301 | 302 | 303 | 307 | 308) && self.request.redirects_max > 0;
        asks.then(|| location(&self.url, headers)).flatten()
    }

    /// The next hop, if the response asks for one and the request allows it.
    pub(super) fn follow(&self, response: &Response) -> Result<Option<Self>, HttpFailure> {
        let Some(led) = self.leads(response.status, &response.headers) else { return Ok(None) };
        if self.followed == self.request.redirects_max {
            return Err(HttpFailure::Redirect(RedirectFault::TooOften(self.followed)));
        }
        let url = led.map_err(HttpFailure::Redirect)?;
        if self.secure() && url.scheme() != "https" {
            return Err(HttpFailure::Redirect(RedirectFault::Downgrade));
        }
        let mut request = self.request.clone();
        // Fetch, section 4.4: the answer is to be had with a GET.
        let get = match response.status {
            303 => !matches!(request.method, Method::GET | Method::HEAD),
            301 | 302 => request.method == Method::POST,
            _ => false,
        };
        if get {
            request.method = Method::GET;
            let extra = request.extra_mut();
            extra.body = Bytes::new();
            extra.headers.remove(header::CONTENT_TYPE);
        }
        let mut led_by = self.led_by;
        if url.origin() != self.url.origin() {
            let extra = request.extra_mut();
            extra.at = None;
            extra.body = Bytes::new();
            let kept = FOR_ANYBODY.into_iter().filter_map(|name| Some((name.clone(), extra.headers.remove(name)?)));
            extra.headers = kept.collect();
            led_by = Some(response.remote.ip());
        }
        let mut jar = self.jar.clone();
        jar.keep(&self.url, &response.headers);
        Ok(Some(Self { request, url, jar, led_by, followed: self.followed + 1 }))
    }
}

/// What reads an answer: as much of it as browsers and curl forgive is forgiven.
pub(super) fn client() -> http1::Builder {
    let mut client = http1::Builder::new();
    client
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    client
}

/// A connection on which the other side may leave without saying so. Many servers close TLS by closing TCP; whether that cuts an
/// answer short, its length or its last chunk says. Of an answer without either nobody can tell, and it is taken as whole, as
/// browsers do, with a note.
///
/// A status line that curl reads and hyper does not is put straight before hyper sees it.
struct Lenient<'a> {
    stream: Stream,
    cut_off: &'a AtomicBool,
    first_byte: &'a FirstByte,
}

/// When the first byte of an answer came: before its head is whole, which a slow server may send for seconds.
struct FirstByte {
    /// Since when it is waited for.
    asked: Stopwatch,
    /// How long it took.
    came: OnceLock<Span>,
}

impl AsyncRead for Lenient<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() > before && self.first_byte.came.get().is_none() => {
                self.first_byte.came.get_or_init(|| self.first_byte.asked.read());
                straighten(buf.filled_mut().get_mut(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.cut_off.store(true, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Lenient<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Runs `work` while driving the connection it needs. A connection that ends first has left its result for `work`.
pub(super) async fn driven<T>(connection: impl Future<Output = hyper::Result<()>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        ended = connection => {
            if let Err(error) = ended {
                tracing::trace!(%error, "the connection ended early");
            }
            work.await
        }
    }
}

/// Puts a status line straight whose version is in lower case, whose status has two spaces before it or a letter right after
/// it; and says HTTP/1.1 for HTTP/1.0, whose chunks hyper refuses. Only one that came in one piece, as all of them do.
fn straighten(start: &mut [u8]) {
    let Some(line) = start.split_mut(|&byte| byte == b'\n').next() else { return };
    let Some((version, rest)) = line.split_at_mut_checked(8) else { return };
    if !version.eq_ignore_ascii_case(b"HTTP/1.0") && !version.eq_ignore_ascii_case(b"HTTP/1.1") {
        return;
    }
    version.copy_from_slice(b"HTTP/1.1");
    if let Some(digit) = rest.iter().position(|&byte| byte != b' ').filter(|&digit| digit > 1) {
        // The spaces too many go behind the status.
        if let Some(status) = rest.get_mut(1..digit + 3) {
            status.rotate_left(digit - 1);
        }
    }
    if let [b' ', a, b, c, after, ..] = rest
        && [&*a, b, c].iter().all(|digit| digit.is_ascii_digit())
        && after.is_ascii_alphabetic()
    {
        *after = b' ';
    }
}

fn not_http(part: &str) -> HttpFailure {
    HttpFailure::Request(format!("its {part} holds a character that HTTP does not allow"))
}

/// What went wrong before the head was whole, in our words.
#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub(super) fn head_broken(error: hyper::Error) -> HttpFailure {
    let reason = if error.is_parse_version_h2() {
        "it answers in HTTP/2, which was not asked for".to_owned()
    } else if error.is_parse() {
        format!("what it sends is no head of HTTP/1, or {}", too_long_a_head())
    } else if error.is_incomplete_message() {
        "it closed the connection before the head of its answer was whole".to_owned()
    } else {
        connection_broken(&error)
    };
    HttpFailure::Protocol { phase: Phase::FirstByte, reason }
}

/// Refuses a long head. What reads it takes a longer one now and then, depending on how it is cut into packets.
pub(super) fn head_is_bounded(headers: &HeaderMap) -> Result<(), HttpFailure> {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    if fields.sum::<usize>() > HEAD_BYTES_MAX {
        let reason = format!("its head is {}", too_long_a_head());
        return Err(HttpFailure::Protocol { phase: Phase::FirstByte, reason });
    }
    Ok(())
}

fn too_long_a_head() -> String {
    format!("one of more than {} KiB or {HEADERS_MAX} fields", HEAD_BYTES_MAX / 1024)
}

/// What went wrong with the body, of which so many bytes had come.
fn body_broken(error: &hyper::Error, came: usize, announced: Option<u64>) -> HttpFailure {
    let reason = match (io_kind(error), announced) {
        (Some(io::ErrorKind::InvalidData), _) if tls_said(error).is_some() => connection_broken(error),
        (Some(io::ErrorKind::UnexpectedEof), Some(announced)) => {
            format!("the connection ended after {came} of {announced} bytes")
        }
        (Some(io::ErrorKind::UnexpectedEof), None) => {
            format!("the connection ended after {came} bytes, before the last chunk")
        }
        (Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData), _) if tls_said(error).is_none() => {
            format!("after {came} bytes comes what is no chunk of HTTP/1")
        }
        _ => connection_broken(error),
    };
    HttpFailure::Protocol { phase: Phase::Body, reason }
}

fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(error)?;
    Some(source.downcast_ref::<io::Error>()?.kind())
}

/// What the other side said in TLS as it broke off, such as that it wants a certificate of the client.
fn tls_said(error: &hyper::Error) -> Option<String> {
    let source = std::error::Error::source(error)?.downcast_ref::<io::Error>()?.get_ref()?;
    source.downcast_ref::<TlsBroken>().map(ToString::to_string)
}

fn connection_broken(error: &hyper::Error) -> String {
    if let Some(said) = tls_said(error) {
        return said;
    }
    match io_kind(error) {
        Some(io::ErrorKind::ConnectionReset) => "it reset the connection",
        Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted) => "it closed the connection",
        Some(io::ErrorKind::TimedOut) => "the connection went dead",
        _ => "the connection broke off",
    }
    .to_owned()
}

/// Reads the body, `max` bytes at most, until it ends or `enough` of it is there.
pub(super) async fn read(
    mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin,
    max: usize,
    enough: &mut (dyn FnMut(&[u8]) -> bool + Send),
) -> Result<Bytes, HttpFailure> {
    let too_large = HttpFailure::BodyTooLarge { limit_bytes: max };
    // A length that is announced is enough to refuse; one that is announced too small is counted below all the same.
    let announced = body.size_hint().exact();
    if announced.is_some_and(|announced| announced > u64::try_from(max).unwrap_or(u64::MAX)) {
        return Err(too_large);
    }
    let mut whole = BytesMut::new();
    while !enough(&whole) {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| body_broken(&error, whole.len(), announced))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > max {
            return Err(too_large);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
