//! Opening a connection, phase by phase.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use event::Span;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Deadline, Net, Peer, Phase, Phases, ResolveError, ResolveFailure, Stopwatch, Stream, Target, TlsFailure};

/// How long an address may be silent before the next is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A connection.
#[derive(Debug)]
pub struct Dialed {
    /// Its two ends.
    pub stream: Stream,
    /// Who answered.
    pub remote: SocketAddr,
    /// How long it took.
    pub phases: Phases,
    /// Who answered, over TLS.
    pub peer: Option<Peer>,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialError {
    /// The name has no address.
    Dns(ResolveError),
    /// Nobody listens there.
    Refused {
        /// The last address tried.
        address: SocketAddr,
    },
    /// The connection could not be opened for another reason.
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// TCP answered, TLS could not be agreed upon.
    Tls {
        /// Who answered.
        address: SocketAddr,
        /// Why.
        failure: TlsFailure,
    },
    /// The deadline passed.
    Timeout {
        /// During which phase.
        phase: Phase,
        /// How long all of it might have taken.
        within: Span,
    },
}

impl DialError {
    /// During which phase it failed.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Dns(_) => Phase::Dns,
            Self::Refused { .. } | Self::Connect { .. } => Phase::Connect,
            Self::Tls { .. } => Phase::Tls,
            Self::Timeout { phase, .. } => *phase,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "{error}"),
            Self::Refused { address } => write!(f, "{address} refuses the connection: nobody listens there"),
            Self::Connect { address, reason } => write!(f, "{address} can't be reached: {reason}"),
            Self::Tls { address, failure } => write!(f, "{address} answers, but {failure}"),
            Self::Timeout { phase, within } => write!(f, "not done after {within}, while {phase}"),
        }
    }
}

impl std::error::Error for DialError {}

impl Net {
    /// Opens a connection to `target`, all of it by `deadline`.
    pub async fn dial(&self, target: &Target, deadline: Deadline) -> Result<Dialed, DialError> {
        let mut watch = Stopwatch::start();
        let mut phases = Phases::default();
        let late = |phase| DialError::Timeout { phase, within: deadline.span() };

        let addresses = if target.addresses.is_empty() {
            match self.resolver().addresses(&target.host, deadline).await {
                Ok(addresses) => addresses,
                Err(ResolveError { failure: ResolveFailure::Timeout, .. }) => return Err(late(Phase::Dns)),
                Err(error) => return Err(DialError::Dns(error)),
            }
        } else {
            target.addresses.clone()
        };
        phases.dns = watch.lap();

        let connected = deadline.run(connect(&addresses, target.port)).await;
        let (stream, remote) = connected.ok_or_else(|| late(Phase::Connect))??;
        // Requests are written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %remote, "TCP_NODELAY is not to be had");
        }
        phases.connect = watch.lap();

        let Some(options) = &target.tls else {
            return Ok(Dialed { stream: Stream::Tcp(stream), remote, phases, peer: None });
        };
        let agreed = deadline.run(self.tls.connect(stream, &target.host, options)).await;
        let (stream, peer) =
            agreed.ok_or_else(|| late(Phase::Tls))?.map_err(|failure| DialError::Tls { address: remote, failure })?;
        phases.tls = watch.lap();
        Ok(Dialed { stream: Stream::Tls(Box::new(stream)), remote, phases, peer: Some(peer) })
    }
}

/// Connects to the first address that answers. Each gets a head start over the next; the last error is the one told.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut addresses = interleaved(addresses).map(|ip| SocketAddr::new(ip, port));
    let Some(first) = addresses.next() else {
        return Err(DialError::Dns(ResolveError { name: String::new(), failure: ResolveFailure::NoRecords }));
    };
    let mut rest = addresses.peekable();
    if rest.peek().is_none() {
        return open(first).await;
    }
    // Dropped with this future, the set aborts whatever is still under way.
    let mut attempts = JoinSet::new();
    attempts.spawn(open(first));
    let mut last = DialError::Connect { address: first, reason: "the attempt was aborted".to_owned() };
    loop {
        tokio::select! {
            tried = attempts.join_next() => match tried {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => last = error,
                Some(Err(_)) | None => {}
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if rest.peek().is_some() => {}
        }
        match rest.next() {
            Some(address) => drop(attempts.spawn(open(address))),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
    }
}

/// Both families in turn, in the order given: a host with one broken family loses a quarter of a second, not its probe.
fn interleaved(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().copied().partition(|ip| ip.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        if turn { first.pop().or_else(|| second.pop()) } else { second.pop().or_else(|| first.pop()) }
    })
    .take(ADDRESSES_MAX)
}

async fn open(address: SocketAddr) -> Result<(TcpStream, SocketAddr), DialError> {
    #[expect(clippy::disallowed_methods, reason = "this is the place that everybody else is told to go through")]
    let connected = TcpStream::connect(address).await;
    connected.map(|stream| (stream, address)).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { address },
        _ => DialError::Connect { address, reason: error.to_string() },
    })
}
