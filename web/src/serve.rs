//! Serving a router on a socket, within limits.
//!
//! **Problem.** The pages stand on the open internet, and the cheapest attack on any server is to be slow: open
//! connections and say nothing, send a header a byte a minute, ask and never read. **Principle.** Everything that a peer
//! can stretch has an end: how long a header may take, how long it may be, how long a connection may live, and how many
//! there may be. What happens at each bound is said at its constant.
//!
//! HTTP/1.1 only: TLS and HTTP/2 are the gate's, or a reverse proxy's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. At the bound, new ones wait in the kernel's queue and are served as others end.
    pub connections_max: usize,
    /// Of these, how many from one address: an IPv4 address, or the 64 bits of an IPv6 address that are one customer's. At
    /// the bound a new one is closed unanswered, so that one address can't take the room of all others. Addresses of this
    /// machine are not bounded: a reverse proxy stands there for everybody.
    pub per_address_max: u32,
    /// How long the header of a request may take, the wait for the next request of a connection included. At the bound the
    /// connection is closed.
    pub header_time_max: Duration,
    /// Bytes of a header. At the bound the answer is 431.
    pub header_bytes_max: usize,
    /// How long a connection is kept. At the bound it is closed after the answer under way.
    pub connection_time_max: Duration,
    /// How long an answer under way may still take when the connection is to end, be it of age or because the server
    /// stops. At the bound it is cut.
    pub closing_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            per_address_max: 64,
            header_time_max: Duration::from_secs(10),
            header_bytes_max: 16 * 1024,
            connection_time_max: Duration::from_mins(5),
            closing_time_max: Duration::from_secs(5),
        }
    }
}

/// How long accepting pauses after the system refused a connection for want of files or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Serves the router until `stop`, then lets answers under way end, within [`Limits::closing_time_max`].
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(listener, router, stop, Limits::default()).await;
}

/// As [`serve`], within other limits.
pub async fn serve_within(listener: TcpListener, router: Router, stop: CancellationToken, limits: Limits) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let crowd = Crowd::default();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = crowd.enter(peer.ip(), limits.per_address_max) else {
                    tracing::debug!("one address has too many connections: closed");
                    continue;
                };
                let connection = connection(stream, router.clone(), stop.clone(), limits);
                connections.spawn(async move {
                    connection.await;
                    drop((permit, place));
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted; trying again shortly");
                time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// A place of one address, given back when it is dropped.
struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// `None` when the address has `max` places already.
    fn enter(&self, peer: IpAddr, max: u32) -> Option<Place> {
        let address = whose(peer);
        let mut places = self.lock();
        let count = places.entry(address).or_default();
        // An address that got no place has one already, so nothing is left behind here.
        if *count >= max && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.crowd.lock();
        if let Some(count) = places.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.address);
            }
        }
    }
}

/// The part of an address that stands for one customer of a provider (RFC 6177: a /64 at the least).
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        other => other,
    }
}

/// Whether the peer is to blame, and the next connection may be fine.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken, limits: Limits) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY can't be set");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_buf_size(limits.header_bytes_max)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
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
        // A peer that hangs up, sends nonsense or is too slow. Its business, not ours.
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
