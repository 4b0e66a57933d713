//! Connections to upstreams that wait for their next request: a bounded number for each upstream and thread, none for long.
//!
//! A connection that its server closes at the moment in which a request is sent costs that request, unless it may be sent again. So
//! one is kept for less long than any usual server keeps it (Apache: 5 s), and looked at before it is used.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use event::{Monotonic, Span};
use rustix::net::RecvFlags;
use tokio::net::TcpStream;

use crate::wire::Wire;

/// Connections that wait, of one upstream. At the bound the one that came back last is closed.
const IDLE_MAX: usize = 64;
/// How long one waits.
const IDLE_FOR: Span = Span::from_millis(4000);

type Idle = (Wire<TcpStream>, Monotonic);

/// The connections of one thread.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<SocketAddr, Vec<Idle>>>);

impl Pool {
    /// A connection that waits there, the one that was used last. `asks` whether the kernel is asked about it at once, for a request
    /// that can't be sent twice; else what the runtime has heard of it is enough.
    pub(crate) fn take(&self, upstream: SocketAddr, now: Monotonic, asks: bool) -> Option<Wire<TcpStream>> {
        loop {
            let (wire, since) = self.lock().get_mut(&upstream)?.pop()?;
            if now.since(since) < IDLE_FOR && is_open(&wire, asks) {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection whose exchange is over.
    pub(crate) fn keep(&self, upstream: SocketAddr, mut wire: Wire<TcpStream>, now: Monotonic) {
        wire.rest();
        let mut pools = self.lock();
        let idle = pools.entry(upstream).or_default();
        if idle.len() < IDLE_MAX {
            idle.push((wire, now));
        }
    }

    /// Closes what has waited for too long. Called every second.
    pub(crate) fn prune(&self, now: Monotonic) {
        self.lock().retain(|_, idle| {
            idle.retain(|(_, since)| now.since(*since) < IDLE_FOR);
            !idle.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Idle>>> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server has neither closed the connection nor said something that nobody asked for.
fn is_open(wire: &Wire<TcpStream>, asks: bool) -> bool {
    let is_silent = if asks {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(wire.stream(), &mut [0_u8][..], flags), Err(rustix::io::Errno::AGAIN))
    } else {
        matches!(wire.stream().try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    };
    is_silent && !wire.has_input()
}
