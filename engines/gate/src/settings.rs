//! What the gate is to do, as its server tells it and as it is kept on its disk: plain values, read from the policy by
//! [`config`](crate::config).

use std::net::SocketAddr;
use std::path::PathBuf;

use event::{Ppb, ProbeId, ServiceId, Span, Time};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Desired {
    /// `[gate]`.
    pub gate: Gate,
    /// `[[site]]`.
    pub sites: Vec<Site>,
    /// `[acme]`.
    #[serde(default)]
    pub acme: Option<Acme>,
    /// The revision of the policy, which coverage records name.
    #[serde(default)]
    pub revision: String,
    /// Networks that are let in nowhere, each with the minute, counted from 1970, with which that is over; 0 for ever. `None` where the
    /// server does not know: then those go on that are known.
    #[serde(default)]
    pub bans: Option<Vec<(IpNet, u32)>>,
}

impl Desired {
    /// The same, with these networks banned until then; `None` for ever.
    #[must_use]
    pub fn banning(self, networks: impl Iterator<Item = (IpNet, Option<Time>)>) -> Self {
        // Bans are over with the minute in which they end.
        let minute = |until: Time| u32::try_from(until.micros().div_euclid(60_000_000) + 1).unwrap_or(u32::MAX);
        let bans = networks.map(|(network, until)| (network, until.map_or(0, minute))).collect();
        Self { bans: Some(bans), ..self }
    }
}

/// `[acme]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Acme {
    /// The address at which the authority begins.
    pub directory: String,
    /// Certificates of authorities of the web that it is reached by, beside those of the system.
    pub authority: Option<PathBuf>,
    /// The key of the account; the gate makes one where none is named.
    pub account: Option<KeyPlace>,
    /// How names are proved.
    pub challenge: Challenge,
}

/// How an authority sees that a name is ours.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// By a request in clear, at port 80 (RFC 8555, section 8.3).
    #[default]
    Http01,
    /// By a handshake, at port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl Site {
    /// Whether it is reached over TLS.
    pub const fn speaks_tls(&self) -> bool {
        self.acme || self.certificate.is_some()
    }

    /// All names of it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.redirect_from.iter().chain([&self.domain]).map(String::as_str)
    }
}

/// `[gate]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Gate {
    /// Where it listens for HTTP in clear.
    pub http: Vec<SocketAddr>,
    /// Where it listens for HTTP over TLS.
    pub https: Vec<SocketAddr>,
    /// Threads that carry connections.
    pub threads: u32,
    /// Connections of clients at a time.
    pub connections_max: u32,
    /// Of these, from one address.
    pub connections_per_address_max: u32,
    /// Requests under way, from one address.
    #[serde(default = "requests_per_address_max")]
    pub requests_per_address_max: u32,
    /// How long a client may take: for a handshake or the head of a request.
    pub head_within: Span,
    /// How long a connection is kept for the next request.
    pub idle_max: Span,
    /// Proxies in front, which say who their clients are.
    #[serde(default)]
    pub proxy_from: Vec<IpNet>,
    /// Least bytes per second of a body that a client sends or takes.
    pub rate_min: u32,
    /// How long requests and connections that were begun may go on once no more are taken.
    pub drain: Span,
    /// Where requests are logged.
    pub access_log: Option<PathBuf>,
    /// How they are logged.
    pub access_log_format: LogFormat,
    /// Whether addresses of clients are shortened in the log.
    pub shorten_addresses: bool,
}

/// A bound that an older server does not tell. As many as connections: an eighth of what a site takes.
pub(crate) const fn requests_per_address_max() -> u32 {
    512
}

/// How a request is logged.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// As Apache and nginx do.
    #[default]
    Combined,
    /// One object a line.
    Json,
}

/// `[[site]]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the policy, which says yes or no")]
pub struct Site {
    /// Its name.
    pub domain: String,
    /// Names that lead to it.
    pub redirect_from: Vec<String>,
    /// File of the certificate with its chain.
    pub certificate: Option<PathBuf>,
    /// Where its key is.
    pub key: Option<KeyPlace>,
    /// Whether its certificate is ordered.
    #[serde(default)]
    pub acme: bool,
    /// Whether requests in clear are sent to https.
    pub redirect_to_https: bool,
    /// What all requests go to that no route takes.
    pub upstreams: Vec<Upstream>,
    /// Parts of the site that go elsewhere.
    pub routes: Vec<Route>,
    /// Paths that have moved.
    pub redirects: Vec<Redirect>,
    /// The cookie that keeps a visitor at one upstream.
    pub affinity: Option<String>,
    /// The path that is asked to know whether an upstream works; without it, a connection is enough.
    pub check: Option<String>,
    /// How often that is asked.
    pub check_every: Span,
    /// How long the answer may take.
    pub check_within: Span,
    /// Checks in a row that must pass before an upstream is used again.
    pub up_after: u32,
    /// Checks in a row that must fail before it is not used any more.
    pub down_after: u32,
    /// Failures of requests in a row after which it is ejected.
    pub eject_after: u32,
    /// For how long, the first time.
    pub eject_for: Span,
    /// How long connecting to an upstream may take.
    pub connect_within: Span,
    /// How long an upstream may take until its reply begins, and between parts of it.
    pub reply_within: Span,
    /// Upstreams that one request is sent to at most.
    pub tries_max: u32,
    /// Largest body of a request.
    pub body_bytes_max: u64,
    /// So much of a body is kept to send it again.
    pub replay_bytes_max: u32,
    /// Requests under way at a time.
    pub requests_max: u32,
    /// Of these, at one upstream.
    pub requests_per_upstream_max: u32,
    /// The file that is shown when no upstream works; without it they are tried all the same.
    pub down_file: Option<PathBuf>,
    /// Whether `%2f` and `%5c` are let through.
    pub encoded_slashes: bool,
    /// Whether nobody is let in, by the policy.
    pub closed: bool,
    /// Who may ask for which paths.
    #[serde(default)]
    pub ranges: Vec<Range>,
    /// Whether replies are given the fields that make browsers careful.
    #[serde(default)]
    pub security_headers: bool,
    /// Whether browsers are told to come by TLS alone.
    #[serde(default)]
    pub hsts: bool,
    /// As what its real requests are evidence.
    #[serde(default)]
    pub observe: Option<Observe>,
}

/// As what the real requests of a site are evidence.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Observe {
    /// The probe.
    pub probe: ProbeId,
    /// The service that it belongs to.
    pub service: ServiceId,
    /// The share of the requests of a minute that may fail.
    pub failing_above: Ppb,
}

/// Who may ask for the paths below one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Range {
    /// The path that they begin with.
    pub path: String,
    /// These and nobody else; everybody where there is none.
    pub allow: Vec<IpNet>,
    /// Not these.
    pub deny: Vec<IpNet>,
}

/// A server behind the gate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is.
    pub region: Option<String>,
    /// What is spoken with it.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A version of HTTP that an upstream speaks, in clear.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, which is begun without asking (RFC 9113, section 3.3).
    Http2,
}

/// A part of a site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Route {
    /// The path that it begins with.
    pub path: String,
    /// What it goes to.
    pub upstreams: Vec<Upstream>,
}

/// A path that has moved.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Redirect {
    /// The path.
    pub from: String,
    /// Where it is now.
    pub to: String,
    /// Whether it stays there.
    pub permanent: bool,
}

/// Where a key is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum KeyPlace {
    /// In this file.
    File(PathBuf),
    /// In this credential of systemd.
    Credential(String),
}

impl From<policy::Secret> for KeyPlace {
    fn from(secret: policy::Secret) -> Self {
        match secret {
            policy::Secret::File(path) => Self::File(path),
            policy::Secret::Credential(name) => Self::Credential(name),
        }
    }
}

impl KeyPlace {
    /// As `engine::Secrets` opens it.
    pub fn secret(&self) -> policy::Secret {
        match self {
            Self::File(path) => policy::Secret::File(path.clone()),
            Self::Credential(name) => policy::Secret::Credential(name.clone()),
        }
    }
}
