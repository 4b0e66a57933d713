//! Opening a connection, phase by phase.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use event::Span;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tls::Refused;
use super::{
    Deadline, DialPhases, Family, Net, Peer, Phase, ResolveError, ResolveFailure, Shown, Stopwatch, Stream, Target,
    Tls, TlsFailure, Verify,
};

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
    pub phases: DialPhases,
    /// Who answered, over TLS.
    pub peer: Option<Peer>,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialError {
    /// The name has no address.
    Dns(ResolveError),
    /// The name has addresses, and none of the family that is wanted.
    OtherFamily {
        /// The host.
        host: String,
        /// The family that is wanted.
        family: Family,
    },
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
    /// This machine has run out of what it takes to ask, such as file descriptors: nothing is known of the other side.
    NotAsked {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// A redirect from a public address leads to none that is public or allowed.
    Forbidden {
        /// The first address of the name.
        address: IpAddr,
    },
    /// A notification would go to an address that is neither public nor allowed.
    Inside {
        /// The first address of the name.
        address: IpAddr,
    },
    /// There is no way to that network, said by this machine or by a router: its end or ours.
    NoWay {
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
        /// The certificates that it showed before.
        shown: Option<Box<Shown>>,
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
            Self::Dns(_) | Self::OtherFamily { .. } => Phase::Dns,
            Self::Forbidden { .. }
            | Self::Inside { .. }
            | Self::Refused { .. }
            | Self::Connect { .. }
            | Self::NotAsked { .. }
            | Self::NoWay { .. } => Phase::Connect,
            Self::Tls { .. } => Phase::Tls,
            Self::Timeout { phase, .. } => *phase,
        }
    }
}

impl DialError {
    /// Whether it may say something of this machine only.
    fn is_local(&self) -> bool {
        matches!(self, Self::NotAsked { .. } | Self::NoWay { .. })
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => write!(f, "{error}"),
            Self::OtherFamily { host, family } => write!(f, "the name `{host}` has no address of {family}"),
            Self::Refused { address } => write!(f, "{address} refuses the connection: nobody listens there"),
            Self::Connect { address, reason } => write!(f, "{address} can't be reached: {reason}"),
            Self::NotAsked { address, reason } => {
                write!(f, "{address} can't be asked: {reason}; this machine has run out of it")
            }
            Self::Forbidden { address } => write!(
                f,
                "a public address redirects to {address}, which is not public: add it to `redirects_may_reach` in [network] if \
                 it may be asked"
            ),
            Self::Inside { address } => write!(
                f,
                "{address} is not public, and a notification goes there only if `notifications_may_reach` in [network] allows it"
            ),
            Self::NoWay { address, reason } => write!(f, "there is no way to {address}: {reason}"),
            Self::Tls { address, failure, .. } => write!(f, "{address} answers, but {failure}"),
            Self::Timeout { phase, within } => write!(f, "not done after {within}, while {phase}"),
        }
    }
}

impl std::error::Error for DialError {}

impl Net {
    /// Opens a connection to `target`, all of it by `deadline`.
    pub async fn dial(&self, target: &Target, deadline: Deadline) -> Result<Dialed, DialError> {
        let mut watch = Stopwatch::start();
        let mut phases = DialPhases::default();
        let late = |phase| DialError::Timeout { phase, within: deadline.span() };

        let mut addresses = if target.addresses.is_empty() {
            match self.resolver().addresses(&target.host, deadline).await {
                Ok(addresses) => addresses,
                Err(ResolveError { failure: ResolveFailure::Timeout, .. }) => return Err(late(Phase::Dns)),
                Err(error) => return Err(DialError::Dns(error)),
            }
        } else {
            target.addresses.clone()
        };
        phases.dns = watch.lap();
        if let Some(family) = target.family {
            addresses.retain(|&address| Family::of(address) == family);
            if addresses.is_empty() {
                return Err(DialError::OtherFamily { host: target.host.clone(), family });
            }
        }
        if let (Some(&address), Some(true)) = (addresses.first(), target.led_by.map(|by| self.reach.is_public(by))) {
            addresses.retain(|&address| self.reach.allows_redirect(address));
            if addresses.is_empty() {
                return Err(DialError::Forbidden { address });
            }
        }
        if let (Some(&address), true) = (addresses.first(), target.public_only) {
            addresses.retain(|&address| self.reach.allows_notification(address));
            if addresses.is_empty() {
                return Err(DialError::Inside { address });
            }
        }

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
        let (stream, peer) = match agreed.ok_or_else(|| late(Phase::Tls))? {
            Ok(agreed) => agreed,
            Err(Refused { failure: failure @ TlsFailure::Protocol(_), shown: None }) => {
                let shown = deadline.run(self.look(remote, &target.host, options)).await.flatten();
                return Err(DialError::Tls { address: remote, failure, shown });
            }
            Err(Refused { failure, shown }) => return Err(DialError::Tls { address: remote, failure, shown }),
        };
        phases.tls = watch.lap();
        Ok(Dialed { stream: Stream::Tls(Box::new(stream)), remote, phases, peer: Some(peer) })
    }

    /// Agrees on TLS over a connection that has begun in clear, as STARTTLS does, by `deadline`. Nothing that came before may be
    /// waiting unread: it would be taken for part of the handshake.
    pub async fn start_tls(
        &self,
        stream: TcpStream,
        host: &str,
        options: &Tls,
        deadline: Deadline,
    ) -> Result<(Stream, Peer), DialError> {
        let address = stream.peer_addr().map_err(|error| {
            let address = SocketAddr::from(([0, 0, 0, 0], 0));
            DialError::Connect { address, reason: error.to_string() }
        })?;
        let agreed = deadline.run(self.tls.connect(stream, host, options)).await;
        match agreed.ok_or(DialError::Timeout { phase: Phase::Tls, within: deadline.span() })? {
            Ok((stream, peer)) => Ok((Stream::Tls(Box::new(stream)), peer)),
            Err(Refused { failure, shown }) => Err(DialError::Tls { address, failure, shown }),
        }
    }

    /// The certificates of a server that shows them only to who offers another application protocol, or none.
    async fn look(&self, remote: SocketAddr, host: &str, options: &Tls) -> Option<Box<Shown>> {
        let (stream, _) = open(remote).await.ok()?;
        let options = Tls { alpn: Vec::new(), verify: Verify::Record, ..options.clone() };
        match self.tls.connect(stream, host, &options).await {
            Ok((_, peer)) => Some(Box::new(peer.shown)),
            Err(refused) => refused.shown,
        }
    }
}

/// Connects to the first address that answers. Each gets a head start over the next; the last error is the one told.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut addresses = interleaved(addresses).map(|ip| SocketAddr::new(ip, port));
    let Some(first) = addresses.next() else {
        let failure = ResolveFailure::NoRecords;
        return Err(DialError::Dns(ResolveError { name: String::new(), failure, server: None }));
    };
    let mut rest = addresses.peekable();
    if rest.peek().is_none() {
        return open(first).await;
    }
    // Dropped with this future, the set aborts whatever is still under way.
    let mut attempts = JoinSet::new();
    attempts.spawn(open(first));
    let mut last: Option<DialError> = None;
    loop {
        tokio::select! {
            tried = attempts.join_next() => match tried {
                Some(Ok(Ok(connected))) => return Ok(connected),
                // What one address says of the other side tells more than that we have no way to another, such as on a
                // machine without IPv6.
                Some(Ok(Err(error))) => last = Some(match last.take() {
                    Some(telling) if error.is_local() && !telling.is_local() => telling,
                    _ => error,
                }),
                Some(Err(_)) | None => {}
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if rest.peek().is_some() => {}
        }
        match rest.next() {
            Some(address) => drop(attempts.spawn(open(address))),
            None if attempts.is_empty() => {
                let aborted = || DialError::Connect { address: first, reason: "the attempt was aborted".to_owned() };
                return Err(last.unwrap_or_else(aborted));
            }
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
    connected.map(|stream| (stream, address)).map_err(|error| failed(address, &error))
}

fn failed(address: SocketAddr, error: &io::Error) -> DialError {
    let reason = error.to_string();
    match (Local::of(error), error.kind()) {
        (Some(Local::Shortage), _) => DialError::NotAsked { address, reason },
        (Some(Local::NoWay), _) => DialError::NoWay { address, reason },
        (None, io::ErrorKind::ConnectionRefused) => DialError::Refused { address },
        (None, _) => DialError::Connect { address, reason },
    }
}

/// What an error of the system says of this machine, and not of the other side: errno(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Local {
    /// It has run out of something.
    Shortage,
    /// It has no way to that network. A router on the way may say the same.
    NoWay,
}

impl Local {
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            // No descriptor, no local port, no memory left.
            Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM => Some(Self::Shortage),
            Errno::NETUNREACH | Errno::NETDOWN => Some(Self::NoWay),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: Errno) -> DialError {
        failed(([192, 0, 2, 1], 80).into(), &io::Error::from(errno))
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_theirs() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM] {
            assert!(matches!(of(errno), DialError::NotAsked { .. }), "{errno}");
        }
        for errno in [Errno::NETUNREACH, Errno::NETDOWN] {
            assert!(matches!(of(errno), DialError::NoWay { .. }), "{errno}");
        }
        for errno in [Errno::HOSTUNREACH, Errno::CONNRESET, Errno::TIMEDOUT] {
            assert!(matches!(of(errno), DialError::Connect { .. }), "{errno}");
        }
        assert!(matches!(of(Errno::CONNREFUSED), DialError::Refused { .. }));
    }

    /// A machine without IPv6 learns from IPv4 that nobody listens, whichever is tried last. Nothing is sent: the kernel
    /// has no way from a loopback name to an address that is reserved.
    #[tokio::test]
    async fn what_is_theirs_outweighs_what_is_ours() {
        let addresses: Vec<IpAddr> =
            ["127.0.0.1", "255.255.255.255"].iter().map(|ip| ip.parse().expect("an address")).collect();
        let error = connect(&addresses, 1).await.expect_err("nobody listens");
        assert!(matches!(error, DialError::Refused { .. }), "{error}");
    }
}
