//! HTTP/2 to upstreams: connections that many requests share, and one request on a stream of one of them.
//!
//! A connection belongs to one thread, and its frames are carried by a task beside its requests. It gets a stream as long as the
//! upstream lets it have one; then another connection is opened. One on which an answer did not come in time, or that its upstream has
//! said it leaves, gets no further stream.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use event::{Monotonic, Span};
use h2::client::{ResponseFuture, SendRequest};
use http::StatusCode;
use tokio::net::TcpStream;

use super::stream::{Inbound, Outbound, fault};
use super::{SEND_BUFFER, STREAMS_MAX, WINDOW};
use crate::codec::framing;
use crate::codec::head::{HeadLimits, is_field};
use crate::codec::refusal::Refusal;
use crate::message::{Length, Reply};
use crate::pump::{Fault, Front, Sink, Source};

/// Connections to one upstream, of one thread. At the bound a request waits for a stream of the last one.
const CONNECTIONS_MAX: usize = 16;
/// How long one without a request is kept.
const IDLE_FOR: Span = Span::from_secs(30);

/// A connection.
struct Connection {
    send: SendRequest<Bytes>,
    standing: Arc<Standing>,
    used: Monotonic,
}

/// How a connection stands, as its requests and the task that carries it know.
#[derive(Default)]
struct Standing {
    /// It gets no further stream.
    is_spent: AtomicBool,
    /// Streams that it has.
    streams: AtomicUsize,
}

impl Standing {
    fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    fn spend(&self) {
        self.is_spent.store(true, Ordering::Relaxed);
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

/// A stream of a connection, counted until it is dropped.
struct Counted(Arc<Standing>);

impl Counted {
    fn of(standing: &Arc<Standing>) -> Self {
        standing.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(standing))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Whether it may have another stream at once.
    fn has_room(&self) -> bool {
        let most = self.send.current_max_send_streams().min(STREAMS_MAX as usize);
        !self.standing.is_spent() && self.standing.streams() < most
    }
}

/// The connections of one thread.
#[derive(Default)]
pub(crate) struct Connections(Mutex<HashMap<SocketAddr, Vec<Connection>>>);

impl Connections {
    /// Sends the head of a request on a connection that is there; `None` where none is that takes it.
    pub(crate) async fn call(
        &self,
        upstream: SocketAddr,
        request: &http::Request<()>,
        has_body: bool,
        now: Monotonic,
    ) -> Option<Call> {
        loop {
            let (send, standing) = {
                let mut all = self.lock();
                let of_it = all.get_mut(&upstream)?;
                let is_full = of_it.len() >= CONNECTIONS_MAX;
                let index = of_it.iter().position(Connection::has_room).or_else(|| is_full.then(|| of_it.len() - 1))?;
                let connection = of_it.get_mut(index)?;
                connection.used = now;
                (connection.send.clone(), Arc::clone(&connection.standing))
            };
            if let Ok(call) = Call::begin(send, &standing, request.clone(), has_body).await {
                return Some(call);
            }
            // It has ended while it waited: nothing was sent on it.
            standing.spend();
            self.forget_spent(upstream);
        }
    }

    /// Begins a connection on this stream of bytes, for one request at first.
    pub(crate) async fn open(
        &self,
        upstream: SocketAddr,
        stream: TcpStream,
        request: http::Request<()>,
        has_body: bool,
        now: Monotonic,
    ) -> Result<Call, Fault> {
        let (send, connection) = handshake(stream).await?;
        let standing = Arc::<Standing>::default();
        let ended = Arc::clone(&standing);
        // Ends when the upstream ends it, or when nobody has a handle to it any more.
        drop(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %upstream, "a connection of HTTP/2 to an upstream has ended");
            }
            ended.spend();
        }));
        let call = Call::begin(send.clone(), &standing, request, has_body).await?;
        self.forget_spent(upstream);
        let mut all = self.lock();
        let of_it = all.entry(upstream).or_default();
        if of_it.len() < CONNECTIONS_MAX {
            of_it.push(Connection { send, standing, used: now });
        }
        Ok(call)
    }

    /// Closes what nobody has used for long. Called every second.
    pub(crate) fn prune(&self, now: Monotonic) {
        self.lock().retain(|_, of_it| {
            of_it.retain(|connection| {
                let is_idle = connection.standing.streams() == 0 && now.since(connection.used) >= IDLE_FOR;
                !is_idle && !connection.standing.is_spent()
            });
            !of_it.is_empty()
        });
    }

    fn forget_spent(&self, upstream: SocketAddr) {
        if let Some(of_it) = self.lock().get_mut(&upstream) {
            of_it.retain(|connection| !connection.standing.is_spent());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Connection>>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins HTTP/2 on a stream of bytes, with the bounds of the gate.
pub(crate) async fn handshake(
    stream: TcpStream,
) -> Result<(SendRequest<Bytes>, h2::client::Connection<TcpStream, Bytes>), Fault> {
    let begun = h2::client::Builder::new()
        .enable_push(false)
        // Until it has said how many it takes: what it refuses costs a try.
        .initial_max_send_streams(1)
        .initial_window_size(WINDOW)
        // Replies whose clients are slow fill their own windows, and never that of the others.
        .initial_connection_window_size(WINDOW * STREAMS_MAX)
        .max_header_list_size(u32::try_from(HeadLimits::default().bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(stream)
        .await;
    begun.map_err(|error| fault(&error))
}

/// A request on a stream. Dropped before its end, it is given up, and the upstream is told so.
pub(crate) struct Call {
    reply: Pin<Box<ResponseFuture>>,
    request: Outbound,
    body: Option<Inbound>,
    counted: Counted,
}

impl Call {
    async fn begin(
        mut send: SendRequest<Bytes>,
        standing: &Arc<Standing>,
        request: http::Request<()>,
        has_body: bool,
    ) -> Result<Self, Fault> {
        let counted = Counted::of(standing);
        poll_fn(|cx| send.poll_ready(cx)).await.map_err(|error| fault(&error))?;
        let (reply, stream) = send.send_request(request, !has_body).map_err(|error| fault(&error))?;
        let request = if has_body { Outbound::of(stream) } else { Outbound::ended(stream) };
        Ok(Self { reply: Box::pin(reply), request, body: None, counted })
    }

    /// Has the connection get no further stream: something did not come on it.
    pub(crate) fn doubt(&self) {
        self.counted.0.spend();
    }

    /// Reads the head of the reply.
    pub(crate) fn poll_reply(
        &mut self,
        cx: &mut Context<'_>,
        is_head: bool,
        reply: &mut Reply,
    ) -> Poll<Result<(), Fault>> {
        let (head, body) = ready!(self.reply.as_mut().poll(cx)).map_err(|error| fault(&error))?.into_parts();
        let body = Inbound::of(body);
        reply.clear();
        reply.status = head.status.as_u16();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Err(Refusal::UnaskedSwitch.into()));
        }
        reply.reason.push_str(head.status.canonical_reason().unwrap_or_default());
        let limits = HeadLimits::default();
        for (name, value) in &head.headers {
            if reply.fields.len() >= limits.fields_max {
                return Poll::Ready(Err(Refusal::TooManyFields.into()));
            }
            if !is_field(name.as_str().as_bytes(), value.as_bytes()) {
                return Poll::Ready(Err(Refusal::BadField.into()));
            }
            reply.fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        reply.is_1_1 = true;
        framing::judge_reply(reply, is_head)?;
        if reply.length == Length::Unknown && body.has_ended() {
            reply.length = Length::Known(0);
        }
        self.body = Some(body);
        Poll::Ready(Ok(()))
    }
}

impl Source for Call {
    fn front(&mut self) -> Result<Front, Fault> {
        self.body.as_mut().map_or(Ok(Front::Empty), Source::front)
    }

    fn data(&self) -> &[u8] {
        self.body.as_ref().map_or(&[], Source::data)
    }

    fn take(&mut self, bytes: usize) {
        if let Some(body) = &mut self.body {
            body.take(bytes);
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.body.as_mut().map_or(Poll::Ready(Err(Fault::ended())), |body| body.poll_more(cx))
    }

    fn trailers(&self) -> Option<&http::HeaderMap> {
        self.body.as_ref()?.trailers()
    }
}

impl Sink for Call {
    fn poll_take(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Fault>> {
        self.request.poll_take(cx, data)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.request.poll_send(cx)
    }

    fn put_trailers(&mut self, trailers: &http::HeaderMap) {
        self.request.put_trailers(trailers);
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.request.poll_finish(cx)
    }
}
