//! HTTP/2 from clients (RFC 9113): a connection with many requests at once, each of which is judged and answered like any other.
//!
//! Frames, flow control and HPACK are those of the crate `h2`. What a connection can be stretched by is bounded here: streams at a
//! time, the size of a head, streams that are reset before they are accepted, the window of bodies that nobody has asked for yet.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Answering, log};
use crate::codec::framing;
use crate::codec::head::{HeadLimits, is_field, is_method, is_target};
use crate::codec::refusal::Refusal;
use crate::downstream::Downstream;
use crate::heads::{Extras, OwnReply, Visitor};
use crate::message::{Length, Name, Reply, Request, Version, host_and_port};
use crate::pump::{Fault, Front, Sink, Source};
use crate::stream::ClientStream;
use crate::worker::Worker;

mod stream;
pub(crate) mod upstream;

pub(crate) use stream::fault;
use stream::{Inbound, Outbound};

/// Requests of a connection at a time; further ones wait at the client.
pub(crate) const STREAMS_MAX: u32 = 100;
/// Streams that a client has reset before they were accepted, and those that the gate has reset for what they sent: at the bound the
/// connection ends (CVE-2023-44487, CVE-2025-8671).
const RESETS_MAX: usize = 20;
const OWN_RESETS_MAX: usize = 100;
/// Bytes of a body that may come before they are asked for, of a stream and of a connection.
pub(crate) const WINDOW: u32 = 64 * 1024;
const WINDOW_OF_CONNECTION: u32 = 256 * 1024;
/// Bytes of replies that wait to be sent, of a stream.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;
/// How long and how much is read of a body whose request was answered before its end.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long requests may go on when the connection is to end.
const GO_WITHIN: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(crate) async fn serve(worker: &Arc<Worker>, stream: ClientStream, peer: SocketAddr) {
    let limits = HeadLimits::default();
    let server_name: Option<Arc<str>> = stream.server_name().map(Into::into);
    let visitor = Visitor { address: peer.ip(), is_tls: stream.is_tls(), tls: stream.tls_version() };
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_concurrent_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(OWN_RESETS_MAX))
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW_OF_CONNECTION)
        .max_send_buffer_size(SEND_BUFFER);
    let Ok(Ok(mut connection)) = timeout(worker.head_within(), builder.handshake::<_, Bytes>(stream)).await else {
        return;
    };
    // Dropped with the connection.
    let mut requests = JoinSet::new();
    let mut is_going = false;
    loop {
        while requests.try_join_next().is_some() {}
        if requests.len() >= STREAMS_MAX as usize {
            // A stream that was reset makes room for another at once, and what it has begun behind the gate takes a moment to end.
            tokio::select! {
                closed = poll_fn(|cx| connection.poll_closed(cx)) => return drop(closed),
                _ = requests.join_next() => continue,
            }
        }
        let patience = if is_going && !worker.is_stopping() { GO_WITHIN } else { worker.idle_max() };
        let accepted = tokio::select! {
            biased;
            accepted = timeout(patience, connection.accept()) => accepted,
            () = worker.ending() => return,
            () = worker.stopping(), if !is_going => {
                connection.graceful_shutdown();
                is_going = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(Ok((request, respond)))) => {
                let (worker, server_name) = (Arc::clone(worker), server_name.clone());
                requests.spawn(async move {
                    answer(&worker, request, respond, visitor, server_name.as_deref()).await;
                });
            }
            Ok(None | Some(Err(_))) => return,
            Err(_elapsed) => {
                while requests.try_join_next().is_some() {}
                if is_going && (requests.is_empty() || !worker.is_stopping()) {
                    return;
                }
                if requests.is_empty() {
                    connection.graceful_shutdown();
                    is_going = true;
                }
            }
        }
    }
}

async fn answer(
    worker: &Worker,
    head: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    visitor: Visitor,
    server_name: Option<&str>,
) {
    let began = worker.clock.monotonic();
    let (head, body) = head.into_parts();
    let (mut request, mut reply, mut target) = (Request::default(), Reply::default(), String::new());
    let mut client = Exchanged::new(body, respond);
    let mut unread = Vec::new();
    let outcome = match read(&head, client.body.has_ended(), &mut request) {
        Ok(()) => {
            let answering = Answering { worker, request: &request, visitor, server_name };
            answering.answer(&mut client, &mut reply, &mut target).await
        }
        Err(refusal) => {
            let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
            unread.extend_from_slice(format!("{} {target} {}", head.method, Version::Http2.word()).as_bytes());
            worker.refused(refusal);
            let said = worker.say(&mut client, &OwnReply::of(refusal.status()), false, false).await;
            crate::exchange::Outcome { refused: Some(refusal), ..said }
        }
    };
    log(worker, &request, &target, &unread, visitor, &outcome, began);
    if outcome.cut.is_some() {
        client.reset(outcome.reset.unwrap_or(Reason::INTERNAL_ERROR));
    } else {
        // A reset would take the reply along, for clients that send their body to its end first.
        drop(timeout(LINGER, poll_fn(|cx| client.poll_forget(cx, LINGER_BYTES_MAX))).await);
    }
}

/// Makes a request of the head of a stream, as strictly as of a head of HTTP/1.1: what is sent on is HTTP/1.1.
fn read(head: &http::request::Parts, has_ended: bool, request: &mut Request) -> Result<(), Refusal> {
    let limits = HeadLimits::default();
    request.version = Version::Http2;
    let method = head.method.as_str();
    if !is_method(method.as_bytes()) {
        return Err(Refusal::BadMethod);
    }
    if matches!(method, "CONNECT" | "TRACE" | "TRACK") {
        return Err(Refusal::MethodNotTaken);
    }
    if head.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Refusal::BadTarget);
    }
    request.method.push_str(method);
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if target.len() > limits.line_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    if !target.starts_with('/') || !is_target(target.as_bytes()) {
        return Err(Refusal::BadTarget);
    }
    request.target.push_str(target);
    let mut cookies: Vec<u8> = Vec::new();
    for (name, value) in &head.headers {
        if request.fields.len() >= limits.fields_max {
            return Err(Refusal::TooManyFields);
        }
        // Nobody takes spaces away there (RFC 9113, section 8.2.1).
        let value_is_bare = value.as_bytes().trim_ascii().len() == value.len();
        if !is_field(name.as_str().as_bytes(), value.as_bytes()) || !value_is_bare {
            return Err(Refusal::BadField);
        }
        match Name::of(name.as_str().as_bytes()) {
            // What is of one hop has no place in HTTP/2 (RFC 9113, section 8.2.2).
            Name::Connection | Name::TransferEncoding | Name::Upgrade => return Err(Refusal::BadField),
            // A client may send each cookie as a field of its own (section 8.2.3); servers of HTTP/1.1 read one.
            Name::Cookie => {
                if !cookies.is_empty() {
                    cookies.extend_from_slice(b"; ");
                }
                cookies.extend_from_slice(value.as_bytes());
            }
            _ => drop(request.fields.push(name.as_str().as_bytes(), value.as_bytes())),
        }
        if request.fields.bytes() + cookies.len() > limits.bytes_max {
            return Err(Refusal::HeadTooLong);
        }
    }
    if !cookies.is_empty() {
        request.fields.push(b"cookie", &cookies);
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (authority, request.fields.first(Name::Host)) {
        (None, None) => return Err(Refusal::NoHost),
        (Some(authority), None) => {
            host_and_port(authority.as_bytes())?;
            request.fields.push(b"host", authority.as_bytes());
        }
        (Some(authority), Some(host)) if host_and_port(authority.as_bytes())? != host_and_port(host)? => {
            return Err(Refusal::HostUnlikeTarget);
        }
        _ => {}
    }
    framing::judge_request(request, None)?;
    // Where a body ends is said by frames, and `h2` holds it to its length.
    request.length = match request.length {
        _ if has_ended => Length::None,
        Length::Known(bytes) if request.fields.first(Name::ContentLength).is_some() => Length::Known(bytes),
        _ => Length::Unknown,
    };
    request.keeps = true;
    Ok(())
}

/// A stream: its request, and the reply to it.
struct Exchanged {
    body: Inbound,
    /// Bytes that were read after the reply was complete.
    forgotten: usize,
    respond: SendResponse<Bytes>,
    reply: Option<Outbound>,
    has_replied: bool,
}

impl Exchanged {
    fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self { body: Inbound::of(body), forgotten: 0, respond, reply: None, has_replied: false }
    }

    /// Ends a stream whose reply can't be ended.
    fn reset(&mut self, reason: Reason) {
        match &mut self.reply {
            Some(reply) => reply.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Reads and forgets what is left of the body, to so many bytes.
    fn poll_forget(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Result<(), Fault>> {
        while self.forgotten < most {
            match self.body.front()? {
                Front::End => break,
                Front::Empty => ready!(self.body.poll_more(cx))?,
                Front::Data(bytes) => {
                    self.forgotten += bytes;
                    self.body.take(bytes);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn begin_with(&mut self, response: Response<()>, has_no_body: bool) -> Result<(), Fault> {
        let reply = self.respond.send_response(response, has_no_body).map_err(|error| fault(&error))?;
        self.has_replied = true;
        self.reply = (!has_no_body).then(|| Outbound::of(reply));
        Ok(())
    }
}

impl Source for Exchanged {
    fn front(&mut self) -> Result<Front, Fault> {
        self.body.front()
    }

    fn data(&self) -> &[u8] {
        self.body.data()
    }

    fn take(&mut self, bytes: usize) {
        self.body.take(bytes);
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.body.poll_more(cx)
    }

    fn trailers(&self) -> Option<&HeaderMap> {
        self.body.trailers()
    }
}

impl Sink for Exchanged {
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        let Some(reply) = &mut self.reply else { return Poll::Ready(Err(Fault::ended())) };
        reply.poll_take(cx, data)
    }

    fn poll_send(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        // The task of the connection sends it.
        Poll::Ready(Ok(()))
    }

    fn put_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(reply) = &mut self.reply {
            reply.put_trailers(trailers);
        }
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut self.reply {
            Some(reply) => reply.poll_finish(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Downstream for Exchanged {
    fn poll_continue(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let said = Response::builder().status(StatusCode::CONTINUE).body(());
        let said = said.map_err(|_| Fault::ended())?;
        Poll::Ready(self.respond.send_informational(said).map_err(|error| fault(&error)))
    }

    fn is_given_up(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.reply {
            Some(reply) => reply.is_reset(cx),
            None if self.has_replied => false,
            None => self.respond.poll_reset(cx).is_ready(),
        }
    }

    fn knows_the_end_of(&self, _request: &Request, _reply: &Reply) -> bool {
        true
    }

    fn begin(&mut self, request: &Request, reply: &Reply, _keeps: bool, extras: &Extras) -> Result<(), Fault> {
        let mut fields = HeaderMap::with_capacity(reply.fields.len());
        let mut put = |name: &[u8], value: &[u8]| {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        };
        for field in reply.fields.of_all_hops() {
            put(field.name, field.value);
        }
        for (name, value) in extras.pairs() {
            put(name.as_bytes(), value.as_bytes());
        }
        match reply.length {
            // A reply of HTTP/2 that ends with its head says so by a frame, and gRPC wants no more said.
            Length::Known(0) if reply.fields.first(Name::ContentLength).is_none() => {}
            Length::Known(bytes) => drop(fields.append(CONTENT_LENGTH, bytes.into())),
            // To HEAD, and of 304: the length that there would be.
            Length::None if request.method == "HEAD" || reply.status == 304 => {
                if let Some(length) = reply.fields.first(Name::ContentLength) {
                    put(b"content-length", length);
                }
            }
            Length::None | Length::Unknown => {}
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(reply.status).map_err(|_| Refusal::BadStatusLine)?;
        *response.headers_mut() = fields;
        self.begin_with(response, !reply.length.has_body())
    }

    fn say(&mut self, own: &OwnReply<'_>, date: &str, _keeps: bool, is_head: bool) -> Result<u64, Fault> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(own.status).map_err(|_| Refusal::BadStatusLine)?;
        let body = own.body();
        own.fields(date, |name, value| {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                response.headers_mut().append(name, value);
            }
        });
        self.begin_with(response, is_head)?;
        if let Some(reply) = &mut self.reply {
            reply.end_with(Bytes::copy_from_slice(&body))?;
        }
        Ok(if is_head { 0 } else { u64::try_from(body.len()).unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(uri: &str, method: &str, fields: &[(&str, &[u8])], has_ended: bool) -> Result<Request, Refusal> {
        let mut builder = http::Request::builder().uri(uri).method(method);
        for (name, value) in fields {
            builder = builder.header(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        let (head, ()) = builder.body(()).expect("a request").into_parts();
        let mut request = Request::default();
        read(&head, has_ended, &mut request).map(|()| request)
    }

    /// A head of HTTP/2 is no way around what is refused of one of HTTP/1.1, which is what is sent on.
    #[test]
    fn heads_are_judged_as_those_of_the_older_version() {
        const AT: &str = "https://t.example/a?b";
        for (uri, method, fields, refusal) in [
            ("/", "GET", &[][..], Refusal::NoHost),
            ("/", "GET", &[("host", &b"a"[..]), ("host", b"b")], Refusal::ManyHosts),
            (AT, "GET", &[("host", b"other.example")], Refusal::HostUnlikeTarget),
            ("https://u@t.example/", "GET", &[], Refusal::BadHost),
            ("ftp://t.example/", "GET", &[], Refusal::BadTarget),
            (AT, "GET", &[("x", b" y")], Refusal::BadField),
            (AT, "GET", &[("x", b"y\t")], Refusal::BadField),
            (AT, "get", &[], Refusal::BadMethod),
            (AT, "TRACE", &[], Refusal::MethodNotTaken),
            (AT, "POST", &[("transfer-encoding", b"chunked")], Refusal::BadField),
            (AT, "GET", &[("connection", b"x-auth")], Refusal::BadField),
            (AT, "GET", &[("upgrade", b"websocket")], Refusal::BadField),
            (AT, "POST", &[("content-length", b"1"), ("content-length", b"1")], Refusal::ManyLengths),
            (AT, "POST", &[("content-length", b"+1")], Refusal::BadLength),
            (AT, "POST", &[("expect", b"something")], Refusal::Expectation),
        ] {
            assert_eq!(judged(uri, method, fields, false).map(|_| ()), Err(refusal), "{method} {uri} {fields:?}");
        }
        let many: Vec<(&str, &[u8])> = vec![("x", b"y"); 101];
        assert_eq!(judged(AT, "GET", &many, true).map(|_| ()), Err(Refusal::TooManyFields));
        let large = vec![b'x'; 40_000];
        assert_eq!(judged(AT, "GET", &[("cookie", &large)], true).map(|_| ()), Err(Refusal::HeadTooLong));
    }

    #[test]
    fn a_head_becomes_one_of_the_older_version() {
        let fields = [("cookie", &b"a=b"[..]), ("accept", b"*/*"), ("cookie", b"c=d"), ("host", b"T.example")];
        let request = judged("https://t.example/a?b", "POST", &fields, false).expect("sound");
        assert_eq!((request.host.as_str(), request.target.as_str()), ("t.example", "/a?b"));
        assert_eq!(
            request.fields.first(Name::Cookie),
            Some(&b"a=b; c=d"[..]),
            "one field, as servers of HTTP/1.1 read it"
        );
        assert_eq!((request.length, request.keeps), (Length::Unknown, true));
        let sized = judged("https://t.example/", "PUT", &[("content-length", b"7")], false).expect("sound");
        assert_eq!(sized.length, Length::Known(7));
        assert_eq!(judged("https://t.example/", "GET", &[], true).expect("sound").length, Length::None);
    }
}
