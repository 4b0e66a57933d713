//! Serving a router on a socket, within limits.
//!
//! Everything that a peer can stretch has a bound: how long a header may take, how long it may be, how long a connection may
//! live, and how many there may be ([`Limits`]). The pages stand on the open internet, and the cheapest attack on any server
//! is to be slow: open connections and say nothing, send a header a byte a minute, ask and never read.
//!
//! HTTP/1.1 only: TLS and HTTP/2 are the gate's, or a reverse proxy's.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;

mod progress_body;
mod slots;

use progress_body::ProgressBody;
use slots::{Slot, Slots};

/// The bounds of a listener.
#[derive(Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "each is a maximum, and says so where it is used")]
struct Limits {
    /// Connections at a time. At the bound, the one that moved nothing for the longest time is closed for a new one; while
    /// all have a request that is being worked on, new ones wait.
    connections_max: usize,
    /// Of these, how many from one address: an IPv4 address, or the 64 bits of an IPv6 address that are one customer's. At
    /// the bound a new one is closed unanswered, so that one address can't take the room of all others. Addresses of this
    /// machine are not bounded: a reverse proxy stands there for everybody.
    per_address_max: u32,
    /// How long the header of a request may take, the wait for the next request of a connection included. At the bound the
    /// connection is closed.
    header_time_max: Duration,
    /// Bytes of a header. At the bound the answer is 431.
    header_bytes_max: usize,
    /// How long a connection is kept. At the bound it is closed after the answer under way.
    connection_time_max: Duration,
    /// How long an answer under way may still take when the connection is to end, be it of age or because the server
    /// stops. At the bound it is cut. Shorter than what an engine is given to stop: a reader who takes no more must not make
    /// an ordinary stop look like a failure.
    closing_time_max: Duration,
}

impl Limits {
    /// The bounds of a listener with a share of the file descriptors of the process.
    fn with(connections_max: usize) -> Self {
        Self {
            connections_max: connections_max.max(1),
            per_address_max: u32::try_from(connections_max / 4).unwrap_or(u32::MAX).clamp(1, 64),
            header_time_max: Duration::from_secs(10),
            header_bytes_max: 16 * 1024,
            connection_time_max: Duration::from_mins(5),
            closing_time_max: Duration::from_secs(3),
        }
    }
}

/// How long accepting pauses after the system refused a connection for want of files or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// How often a connection without progress is looked for again: one that worked a moment ago may be idle now.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// Source of connections: a listener, or a test.
trait Incoming: Send {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the address of its peer. Dropped while it waits, it loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, IpAddr)>> + Send;
}

impl Incoming for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
        Ok((stream, peer.ip()))
    }
}

/// Serves the router until `stop`, then lets answers under way end, within three seconds. At most `connections_max` are
/// served at a time, a quarter of them from one address. Dropped before that, it takes its connections along.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, connections_max: usize) {
    serve_within(listener, router, stop, Limits::with(connections_max)).await;
}

async fn serve_within(mut incoming: impl Incoming, router: Router, stop: CancellationToken, limits: Limits) {
    // Ends its tasks when it is dropped: an engine that is started anew must not leave connections that nobody counts.
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let slots = Slots::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = incoming.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(slot) = slots.take(peer, limits.per_address_max) else {
                    tracing::debug!("one address has too many connections: closed");
                    continue;
                };
                let permit = tokio::select! {
                    () = stop.cancelled() => break,
                    permit = find_room(&room, &slots, &slot) => permit,
                };
                let connection = connection(stream, router.clone(), slot, stop.clone(), limits);
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted; trying again shortly");
                time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
    drop(incoming);
    while connections.join_next().await.is_some() {}
}

/// Waits until one more connection is allowed, and closes one that makes no progress for it.
async fn find_room(room: &Arc<Semaphore>, slots: &Slots, newcomer: &Slot) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Some(permit);
    }
    let mut freed = pin!(Arc::clone(room).acquire_owned());
    loop {
        slots.make_room(newcomer);
        if let Ok(permit) = time::timeout(ROOM_PAUSE, freed.as_mut()).await {
            // The semaphore is never closed.
            return permit.ok();
        }
    }
}

/// Whether the error concerns one connection, and the next may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    slot: Slot,
    stop: CancellationToken,
    limits: Limits,
) {
    let leave = slot.leave.clone();
    let slot = Arc::new(slot);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let slot = Arc::clone(&slot);
        slot.started();
        let answering = router.call(request);
        async move {
            let answer = answering.await;
            slot.progressed();
            answer.map(|answer| answer.map(|body| ProgressBody::new(body, slot)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_buf_size(limits.header_bytes_max)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = leave.cancelled() => {
            tracing::debug!("a connection was closed: it moved nothing, and somebody else wanted its slot");
            return;
        }
        () = stop.cancelled() => {}
        () = time::sleep(limits.connection_time_max) => {}
    }
    connection.as_mut().graceful_shutdown();
    match time::timeout(limits.closing_time_max, connection).await {
        Ok(ended) => log_end(ended),
        Err(_elapsed) => tracing::debug!("a connection was cut: its peer did not read the answer in time"),
    }
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        // The peer hung up, sent no HTTP, or was too slow: nothing to report.
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
