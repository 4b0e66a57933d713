//! Names, connections and TLS, each phase with its time and its own kind of failure.
//!
//! **Problem.** "The site is down" is no finding. Whether the name did not resolve, nobody listened, the handshake failed or
//! the certificate expired is four different nights for the team, and a monitor that follows a library's convenience
//! reports them as one. **Principle.** [`Net::dial`] does one phase after the other against one deadline. It says how long
//! each took, which one failed and why, and it keeps the certificates of the peer, also those it does not trust.
//!
//! TLS sessions are never resumed: a resumed one shows the certificate of the day before, and an expired one would not be
//! noticed for as long as the server's tickets live.
//!
//! Who answers is not restricted: a policy may well watch an address of the local network. Only where a redirect leads is,
//! and where a notification goes: see [`Target::led_by`] and [`Target::public_only`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use event::{Clock, Span};
use futures_util::FutureExt as _;
use tokio::time::Instant;

mod certificate;
mod chain;
mod dial;
mod family;
mod reach;
mod resolver;
mod stream;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;
mod tls;
mod tls_words;

pub use certificate::{Certificate, KeyKind, printable};
pub use chain::{CertificateFault, CertificateValidity, Link, Shown};
pub use dial::{DialError, Dialed};
pub use family::Family;
pub use hickory_resolver::proto::rr::RecordType;
pub use reach::IpNet;
pub use resolver::{ResolveError, ResolveFailure, Resolved, Resolver, reverse_name};
pub(crate) use stream::TlsBroken;
pub use stream::{FirstBytes, Stream};
pub use tls::{Peer, TlsFailure, Verify};

/// What a [`Net`] is made of.
#[derive(Clone, Default, Debug)]
pub struct NetOptions {
    /// Name servers to ask; those of the system when there is none.
    pub name_servers: Vec<SocketAddr>,
    /// A file of PEM certificates to trust beside the roots of the system: of authorities, or of servers themselves.
    pub extra_roots: Option<PathBuf>,
    /// Addresses that redirects may lead to beside public ones.
    pub redirects_may_reach: Vec<IpNet>,
    /// Addresses that notifications may go to beside public ones.
    pub notifications_may_reach: Vec<IpNet>,
}

/// Why there is no network to be had.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of extra roots can't be read as PEM.
    #[error("the certificates in {path} can't be read: {reason}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It holds no certificate that can be a root.
    #[error("{path} holds no certificate that can be a root: it must hold PEM blocks `BEGIN CERTIFICATE`")]
    NoRoot {
        /// The file.
        path: PathBuf,
    },
    /// The cryptographic library refuses its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
    /// The resolver refuses its configuration.
    #[error("the resolver can't be set up: {0}")]
    Resolver(String),
}

/// The network.
pub struct Net {
    resolver: Resolver,
    tls: tls::TlsSetup,
    pub(crate) reach: reach::Reach,
}

impl Net {
    /// The network as the machine has it, with the roots that it trusts. Certificates are judged by `clock`.
    pub fn new(options: &NetOptions, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let resolver = if options.name_servers.is_empty() {
            Resolver::system()?
        } else {
            Resolver::asking(&options.name_servers)?
        };
        let reach = reach::Reach {
            redirects: options.redirects_may_reach.clone(),
            notifications: options.notifications_may_reach.clone(),
            ..reach::Reach::default()
        };
        Ok(Self { resolver, tls: tls::TlsSetup::new(options.extra_roots.as_deref(), clock)?, reach })
    }

    /// The resolver that [`dial`](Self::dial) uses.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// How many roots are trusted. With none, every certificate is of an unknown issuer.
    pub fn roots(&self) -> usize {
        self.tls.roots()
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("roots", &self.roots()).finish_non_exhaustive()
    }
}

/// Where to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Connects to these addresses instead of asking for the name; the name is still the one for TLS.
    pub addresses: Vec<IpAddr>,
    /// Connects over this family of addresses only.
    pub family: Option<Family>,
    /// Of the target of a redirect: the address that led there. From a public one only public addresses are connected to, and
    /// those that [`NetOptions::redirects_may_reach`] names.
    pub led_by: Option<IpAddr>,
    /// Connects only to public addresses, and those that [`NetOptions::notifications_may_reach`] names.
    pub public_only: bool,
    /// Speaks TLS, if set.
    pub tls: Option<Tls>,
}

/// How to speak TLS.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tls {
    /// Name to ask for and to find in the certificate; the host of the target when it is not set.
    pub server_name: Option<String>,
    /// Application protocols to offer, the preferred first, such as `http/1.1`.
    pub alpn: Vec<String>,
    /// What to do about a certificate that can't be trusted.
    pub verify: Verify,
}

impl Target {
    /// Plain TCP to `host`, which may be an address with or without brackets.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::to_owned);
        let host = bare.unwrap_or(host);
        Self { host, port, addresses: Vec::new(), family: None, led_by: None, public_only: false, tls: None }
    }

    /// TLS to `host`, offering `http/1.1`.
    pub fn tls(host: impl Into<String>, port: u16, verify: Verify) -> Self {
        let tls = Tls { server_name: None, alpn: vec!["http/1.1".to_owned()], verify };
        Self { tls: Some(tls), ..Self::tcp(host, port) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What a connection does, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// The name is resolved.
    Dns,
    /// The connection is opened.
    Connect,
    /// TLS is agreed upon.
    Tls,
    /// The request is sent, up to the first byte of its answer.
    FirstByte,
    /// The rest of the answer is read.
    Body,
}

impl Phase {
    /// As a label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Phase {
    /// To follow a "while": `resolving the name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "resolving the name",
            Self::Connect => "connecting",
            Self::Tls => "agreeing on TLS",
            Self::FirstByte => "waiting for an answer",
            Self::Body => "reading the answer",
        })
    }
}

/// How long the phases of a connection took; zero for a phase that it did not need.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DialPhases {
    /// Resolving the name.
    pub dns: Span,
    /// Opening the TCP connection.
    pub connect: Span,
    /// The TLS handshake.
    pub tls: Span,
}

/// Until when something must be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    at: Instant,
    within: Span,
}

impl Deadline {
    /// `within` from now.
    #[expect(clippy::disallowed_methods, reason = "a deadline is kept by a timer of tokio")]
    pub fn within(within: Span) -> Self {
        Self { at: Instant::now() + within.to_std(), within }
    }

    /// The same, or `within` from now where that is earlier.
    #[must_use]
    pub(crate) fn but_within(self, within: Span) -> Self {
        let other = Self::within(within);
        if other.at < self.at { other } else { self }
    }

    /// How long it gave in all.
    pub fn span(self) -> Span {
        self.within
    }

    /// Runs `work` until the deadline; `None` when it was not done by then.
    ///
    /// Not an async function: that would have room for `work` twice, and ten thousand questions may be under way.
    pub fn run<T>(self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        tokio::time::timeout_at(self.at, work).map(Result::ok)
    }
}

/// Measures one phase after the other.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "phases are timed on the clock that the deadlines run on")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub(crate) fn read(&self) -> Span {
        Span::from_micros(i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Since the start or the last lap.
    pub(crate) fn lap(&mut self) -> Span {
        let lap = self.read();
        *self = Self::start();
        lap
    }
}
