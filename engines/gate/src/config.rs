//! `[gate]` and `[[site]]`: what the gate is to do, as people write it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use event::policy::{Agreement, Applied, Detector, Text};
use event::{FindingId, ObserverId, Ppb, RegionId, Span};
use ipnet::IpNet;
use policy::{
    Address, Document, Located, Mistake, Nouns, Part, Place, Scheme, Secret, Section, SectionDoc, Slot, Table, Url,
    Value,
};

use crate::codec::target::{Leniency, canonical};
use crate::message::host_and_port;
use crate::observed::{CERTIFICATE, CLEAR, FINDINGS, HEADERS, OLD_TLS};
use crate::settings::{self, Acme, Challenge, Desired, Gate, KeyPlace, LogFormat, Observe, Protocol, Site};

/// Most upstreams of a group: each is checked all the time.
const UPSTREAMS_MAX: usize = 64;
/// The directory of Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// How long a phase may be given.
const PHASE: std::ops::RangeInclusive<Span> = Span::from_millis(50)..=Span::from_secs(3600);

/// Where the process of the gate is reached, and as whom it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// The socket of a gate that runs as a unit of its own.
    pub socket: Option<PathBuf>,
    /// The user that a gate which `garant up` starts runs as.
    pub user: String,
}

impl Default for Process {
    fn default() -> Self {
        Self { socket: None, user: "garant-gate".to_owned() }
    }
}

/// The part of the policy that the engine reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Config {
    gate: Option<GateTable>,
    sites: Vec<Site>,
    acme: Option<Acme>,
    revision: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct GateTable {
    gate: Gate,
    process: Process,
}

impl Default for GateTable {
    fn default() -> Self {
        let everywhere = |port| vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)];
        let gate = Gate {
            http: everywhere(80),
            https: everywhere(443),
            threads: 2,
            connections_max: 10_000,
            connections_per_address_max: 512,
            requests_per_address_max: settings::requests_per_address_max(),
            head_within: Span::from_secs(10),
            idle_max: Span::from_secs(60),
            proxy_from: Vec::new(),
            rate_min: 256,
            drain: Span::from_secs(60),
            access_log: None,
            access_log_format: LogFormat::Combined,
            shorten_addresses: false,
        };
        Self { gate, process: Process::default() }
    }
}

impl Config {
    /// What the gate is to do; `None` without a site: garant is then in nobody's path.
    pub fn desired(&self) -> Option<Desired> {
        if self.sites.is_empty() {
            return None;
        }
        let mut gate = self.gate.clone().unwrap_or_default().gate;
        if !self.sites.iter().any(Site::speaks_tls) {
            gate.https.clear();
        }
        Some(Desired {
            gate,
            sites: self.sites.clone(),
            acme: self.acme.clone(),
            revision: self.revision.clone(),
            bans: None,
        })
    }

    /// Which site has an upstream at which the gate listens, and at which address: a request would go round and round.
    fn leads_to_itself(&self) -> Option<(usize, SocketAddr)> {
        let gate = self.gate.clone().unwrap_or_default().gate;
        let listeners = || gate.http.iter().chain(&gate.https);
        let is_own = |address: SocketAddr| {
            listeners().any(|it| {
                it.port() == address.port()
                    && (it.ip() == address.ip() || it.ip().is_unspecified() && address.ip().is_loopback())
            })
        };
        let own = |site: &Site| {
            let of_routes = site.routes.iter().flat_map(|route| &route.upstreams);
            site.upstreams.iter().chain(of_routes).map(|upstream| upstream.address).find(|address| is_own(*address))
        };
        self.sites.iter().enumerate().find_map(|(index, site)| Some((index, own(site)?)))
    }

    /// Where the process of the gate is reached, and as whom it runs.
    pub fn process(&self) -> Process {
        self.gate.clone().unwrap_or_default().process
    }
}

impl Value for LogFormat {
    const SHAPE: &'static str = "a format of access logs";
    const EXAMPLE: &'static str = "\"combined\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("combined", Self::Combined), ("json", Self::Json)])
    }
}

impl Value for Protocol {
    const SHAPE: &'static str = "a version of HTTP";
    const EXAMPLE: &'static str = "\"h2\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("http/1.1", Self::Http1), ("h2", Self::Http2)])
    }
}

impl Section for GateTable {
    const ABOUT: &'static str = "\
The gate: the process in front of the sites. It runs by itself, from what it was told last, while nothing else of garant does. \
Without a `[[site]]` there is none.";
    const EXAMPLE: &'static str =
        "[gate]\nhttp = [\"[::]:80\"]\nhttps = [\"[::]:443\"]\naccess_log = \"/var/log/garant-gate/access.log\"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let default = Self::default();
        let gate = default.gate;
        let has_http = table.has("http");
        let http: Vec<SocketAddr> = table.list("http", "where it listens for HTTP in clear; `[::]:80` unless said");
        let has_https = table.has("https");
        let https: Vec<SocketAddr> = table
            .list("https", "where it listens for HTTP over TLS, once a site has a certificate; `[::]:443` unless said");
        let threads =
            table.or_in("threads", gate.threads, &(1..=64), "threads that carry connections; one for each core");
        let connections_max = table.or_in(
            "connections_max",
            gate.connections_max,
            &(16..=1_000_000),
            "connections of clients at a time; further ones are closed at once",
        );
        let connections_per_address_max = table.or_in(
            "connections_per_address_max",
            gate.connections_per_address_max,
            &(1..=1_000_000),
            "of these, from one address (IPv6: one /64); those of this machine are not bounded",
        );
        let requests_per_address_max = table.or_in(
            "requests_per_address_max",
            gate.requests_per_address_max,
            &(1..=1_000_000),
            "requests under way at a time from one address (IPv6: one /64), WebSockets among them; beyond it the answer is 429; those of \
             this machine are not bounded",
        );
        let doc = "how long a client may take for a handshake, and for the head of a request as a whole";
        let head_within = table.or_in("head_within", gate.head_within, &PHASE, doc);
        let idle_max =
            table.or_in("idle_max", gate.idle_max, &PHASE, "how long a connection is kept for its next request");
        let doc = "proxies in front, as addresses or networks: each connection of theirs has to begin with the PROXY protocol, version 2 \
                   (HAProxy: `send-proxy-v2`), which says who the client is; of nobody else is that believed";
        let proxy_from: Vec<IpNet> = table.list("proxy_from", doc);
        let doc = "least bytes per second of a body that a client sends or takes, while it is waited for";
        let rate_min = table.or_in("rate_min", gate.rate_min, &(0..=1_000_000), doc);
        let doc = "how long requests, downloads and WebSockets may go on when another process takes the place of this one, or a thread is \
                   one too many; then they are cut, WebSockets with 1001";
        let drain = table.or_in("drain", gate.drain, &(Span::from_secs(1)..=Span::from_secs(24 * 3600)), doc);
        let access_log: Option<PathBuf> =
            table.optional("access_log", "the file in which requests are logged; without it none are");
        let doc = "\"combined\", as Apache and nginx write it, or \"json\", one object a line";
        let format: Option<LogFormat> = table.optional("access_log_format", doc);
        let doc = "log addresses of clients without their last part (IPv4: /24, IPv6: /48)";
        let shorten_addresses = table.or("shorten_addresses", false, doc);
        let doc = "the socket of a gate that runs as a unit of its own; without it `garant up` starts the gate";
        let socket: Option<PathBuf> = table.optional("socket", doc);
        let doc = "the user that a gate which `garant up`, as root, starts runs as; \"garant-gate\" unless said";
        let user: Option<String> = table.optional("user", doc);
        if access_log.is_none() {
            for key in ["access_log_format", "shorten_addresses"] {
                if table.has(key) && !table.is_example() {
                    table.mistake(
                        key,
                        "there is no access log that it could be about",
                        "name its file in `access_log`",
                    );
                }
            }
        }
        let gate = Gate {
            http: if has_http { http } else { gate.http },
            https: if has_https { https } else { gate.https },
            threads,
            connections_max,
            connections_per_address_max,
            requests_per_address_max,
            head_within,
            idle_max,
            proxy_from,
            rate_min,
            drain,
            access_log,
            access_log_format: format.unwrap_or_default(),
            shorten_addresses,
        };
        let process = Process { socket, user: user.unwrap_or(default.process.user) };
        Some(Self { gate, process })
    }
}

/// An upstream as people write it.
struct UpstreamTable(settings::Upstream);

impl Section for UpstreamTable {
    const ABOUT: &'static str = "A server behind the gate.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let url: Option<Url> = table.required("url", "`http://`, its address and its port: `http://10.1.0.10:8080`");
        let region: Option<RegionId> = table.optional("region", "where it is");
        let doc = "\"http/1.1\", or \"h2\" for HTTP/2 in clear and without an upgrade, as servers of gRPC speak it";
        let protocol: Option<Protocol> = table.optional("protocol", doc);
        let url = url?;
        let address = match (url.scheme(), url.host()) {
            (Scheme::Http, Address::Ip(address)) => *address,
            (Scheme::Https, _) => {
                let remedy = "write `http://`: let the way to it be one that nobody reads, a VPN between regions say";
                table.mistake("url", "the gate speaks to its upstreams in clear", remedy);
                return None;
            }
            (Scheme::Http, _) => {
                let remedy = "write its address: a gate that has to ask for names fails when names do";
                table.mistake("url", "it names a host, not an address", remedy);
                return None;
            }
        };
        if url.target() != "/" {
            table.mistake("url", "it has a path", "remove it: paths are sent on as they come");
            return None;
        }
        let region = region.map(|region| region.to_string());
        let (address, protocol) = (SocketAddr::new(address, url.port()), protocol.unwrap_or_default());
        Some(Self(settings::Upstream { address, region, protocol }))
    }
}

struct RouteTable(settings::Route);

impl Section for RouteTable {
    const ABOUT: &'static str = "A part of a site that goes elsewhere.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let path: Option<String> =
            table.required("path", "what its paths begin with, in whole segments; the longest that fits counts");
        let upstreams = upstreams(table, "its upstreams, as those of the site");
        let path = path?;
        check_path(table, "path", &path)?;
        Some(Self(settings::Route { path, upstreams: upstreams? }))
    }
}

struct RangeTable(settings::Range);

impl Section for RangeTable {
    const ABOUT: &'static str = "\
Who may ask for the paths below one, as the path is sent on to upstreams and as any of them may read it; the longest that fits counts. \
Others are answered 403.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let path = table.or("path", "/".to_owned(), "what the paths begin with, in whole segments");
        let allow: Vec<IpNet> = table.list("allow", "networks that may, and nobody else");
        let deny: Vec<IpNet> = table.list("deny", "networks that may not, though `allow` names them");
        check_path(table, "path", &path)?;
        if ["allow", "deny"].into_iter().all(|key| !table.has(key) || table.has_empty_list(key)) {
            table.mistake("path", "it names no network", "add `allow = [\"203.0.113.0/24\"]` or `deny`");
            return None;
        }
        Some(Self(settings::Range { path, allow, deny }))
    }
}

struct RedirectTable(settings::Redirect);

impl Section for RedirectTable {
    const ABOUT: &'static str = "A path that has moved.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let from: Option<String> = table.required("from", "the path, whole");
        let to: Option<Url> = table.required("to", "the URL that it is at now");
        let permanent = table.or("permanent", true, "whether clients may remember it (301) or not (302)");
        let from = from?;
        check_path(table, "from", &from)?;
        let to = to?;
        let to = format!("{}://{}{}", to.scheme().as_str(), to.authority(), to.target());
        Some(Self(settings::Redirect { from, to, permanent }))
    }
}

fn finding(name: &str) -> Option<FindingId> {
    name.parse().ok()
}

impl Section for Observe {
    const ABOUT: &'static str = "\
What the real requests of a site are evidence of: a minute is down of which more has failed (answered 5xx, or cut off) than is named here; \
one without requests is what the checks of upstreams say, and down where nobody gets in for want of a certificate.";
    const EXAMPLE: &'static str = "";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let probe = table.declare("probe", "the name of the probe that says so");
        let service = table.required("service", "the service that it belongs to; best one of its own");
        let doc = "the share of the requests of a minute that may fail before it counts as down";
        let failing_above = table.or("failing_above", Ppb::new(10_000_000), doc);
        Some(Self { probe: probe?, service: service?, failing_above })
    }
}

/// Whether an authority can see whose a name is: not an address, nor a name of one machine (RFC 6761).
fn is_certified(name: &str) -> bool {
    let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
    !is_address && name.contains('.') && !name.ends_with(".localhost")
}

impl Value for Challenge {
    const SHAPE: &'static str = "a challenge of ACME";
    const EXAMPLE: &'static str = "\"http-01\"";

    fn read(slot: Slot<'_>) -> Option<Self> {
        slot.choose(&[("http-01", Self::Http01), ("tls-alpn-01", Self::TlsAlpn01)])
    }
}

impl Section for Acme {
    const ABOUT: &'static str = "\
The authority from which the gate orders certificates (ACME), for sites with `acme = true`. A certificate is renewed when two thirds of \
its life are over.";
    const EXAMPLE: &'static str = "[acme]\nterms_agreed = true\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let doc = "whether you agree to the terms of the authority, which it demands; those of Let's Encrypt: https://letsencrypt.org/repository/";
        let agreed: Option<bool> = table.required("terms_agreed", doc);
        let directory: Option<Url> =
            table.optional("directory", "the address at which the authority begins; that of Let's Encrypt unless said");
        let doc = "a file of certificates in PEM that the authority itself is trusted by, for one of your own network";
        let authority: Option<PathBuf> = table.optional("authority", doc);
        let doc = "where the key of the account is kept (P-256, PKCS #8 in PEM), the same at every gate of a site; without it each gate \
                   makes one, and only the gate that has ordered can answer for it";
        let account: Option<Secret> = table.optional("account", doc);
        let doc = "how names are proved: \"http-01\" by port 80, or \"tls-alpn-01\" by port 443, which only the gate answers that has \
                   ordered";
        let challenge: Option<Challenge> = table.optional("challenge", doc);
        if !agreed? {
            table.mistake(
                "terms_agreed",
                "without that the authority gives no certificate",
                "read them, and write `true`",
            );
            return None;
        }
        if let Some(url) = &directory
            && url.scheme() != Scheme::Https
        {
            table.mistake("directory", "it is in clear", "write `https://`");
            return None;
        }
        let directory = directory.map_or_else(|| LETS_ENCRYPT.to_owned(), |url| url.to_string());
        Some(Self {
            directory,
            authority,
            account: account.map(KeyPlace::from),
            challenge: challenge.unwrap_or_default(),
        })
    }
}

/// A path in the form in which requests are compared with it.
fn check_path(table: &mut Table<'_>, key: &str, path: &str) -> Option<()> {
    let mut own = String::new();
    let is_canonical = path.starts_with('/')
        && !path.contains(['?', '#', ';'])
        && path.bytes().all(|byte| byte.is_ascii_graphic())
        && canonical(path, Leniency { encoded_slashes: true }, &mut own).is_ok_and(|_| own == path);
    if is_canonical {
        return Some(());
    }
    let remedy = "begin with `/`, without `//`, dots as segments, parameters or a query, and encode only what has to be: `/caf%C3%A9`";
    table.mistake(key, format!("`{path}` is no path as requests are compared with it"), remedy);
    None
}

/// That each of these paths is there once, which are under `key` in each table of a list.
fn check_once<'p>(
    table: &mut Table<'_>,
    key: &str,
    remedy: &'static str,
    paths: impl Iterator<Item = (&'p str, Place)>,
) {
    let mut known = BTreeMap::new();
    for (path, place) in paths {
        let Some(first) = known.get(path) else {
            known.insert(path, place);
            continue;
        };
        let mistake = Mistake::new(place, format!("there is a `{key}` for `{path}` already"), remedy);
        table.report(mistake.also(*first, "the first one is here"));
    }
}

fn upstreams(table: &mut Table<'_>, doc: &'static str) -> Option<Vec<settings::Upstream>> {
    let upstreams: Vec<UpstreamTable> = table.required_list("upstream", doc)?;
    let upstreams: Vec<settings::Upstream> = upstreams.into_iter().map(|upstream| upstream.0).collect();
    let distinct: BTreeSet<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
    if upstreams.is_empty() || upstreams.len() > UPSTREAMS_MAX {
        table.mistake(
            "upstream",
            format!("it has {} upstreams", upstreams.len()),
            format!("name 1 to {UPSTREAMS_MAX}"),
        );
        return None;
    }
    if distinct.len() < upstreams.len() {
        table.mistake("upstream", "one address is there twice", "name each once: a retry goes to another one");
        return None;
    }
    Some(upstreams)
}

/// A name of a site, in small letters.
fn check_name(table: &mut Table<'_>, key: &str, name: &str) -> Option<()> {
    if host_and_port(name.as_bytes()).is_ok_and(|(host, port)| host == name && port.is_none()) {
        return Some(());
    }
    let reason = format!("`{name}` is no host name as clients send it");
    table.mistake(key, reason, "write it in small letters, without a port: `shop.example`; accents as `xn--…`");
    None
}

/// A site, and where its names are.
struct SiteTable {
    site: Site,
    domain: Place,
    redirect_from: Vec<Place>,
}

impl SiteTable {
    /// All names of it, in the order of [`Site::names`], each with its place.
    fn names(&self) -> impl Iterator<Item = (&str, Place)> {
        self.site.names().zip(self.redirect_from.iter().chain([&self.domain]).copied())
    }
}

impl Section for SiteTable {
    const ABOUT: &'static str = "\
A site behind the gate. The region that the list of upstreams names first takes all requests while one of its upstreams may be used; \
then the next. Idempotent and unsent requests that fail at one upstream are sent to another.";
    const EXAMPLE: &'static str = r#"
[[site]]
domain = "shop.example"
redirect_from = ["www.shop.example"]
certificate = "/etc/letsencrypt/live/shop.example/fullchain.pem"
key = { file = "/etc/letsencrypt/live/shop.example/privkey.pem" }
upstream = [
  { url = "http://10.1.0.10:8080", region = "gravelines" },
  { url = "http://10.2.0.10:8080", region = "strasbourg" },
]
check = "/health"
"#;

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let domain: Option<Located<String>> = table.required("domain", "the name that clients ask for");
        let redirect_from: Vec<Located<String>> =
            table.list("redirect_from", "further names, such as that with `www.`, which lead to it");
        let certificate: Option<PathBuf> = table.optional(
            "certificate",
            "the file of its certificate with the chain, for all of its names; read again when it has changed",
        );
        let key: Option<Secret> = table.optional("key", "where the key of the certificate is kept");
        let doc = "have the gate order its certificate from the authority of `[acme]`, and renew it";
        let acme = table.or("acme", false, doc);
        let doc = "whether requests in clear are sent to https, but for those of ACME; where it has a certificate";
        let redirect_to_https = table.or("redirect_to_https", true, doc);
        let upstreams = upstreams(table, "the servers behind it; regions in the order in which they are to be used");
        let routes: Vec<Located<RouteTable>> = table.list("route", "parts of it that go elsewhere");
        let redirects: Vec<Located<RedirectTable>> = table.list("redirect", "paths that have moved");
        let doc = "a cookie of this name keeps a visitor at one upstream while that may be used: for sessions in files";
        let affinity: Option<String> = table.optional("affinity", doc);
        let doc = "the path that is asked to know whether an upstream works: 2xx or 3xx; without it, that it takes a connection";
        let check: Option<String> = table.optional("check", doc);
        let check_every = table.or_in("check_every", Span::from_secs(2), &PHASE, "how often that is asked");
        let check_within = table.or_in("check_within", Span::from_secs(1), &PHASE, "how long its answer may take");
        let counts = 1..=100;
        let up_after = table.or_in("up_after", 2, &counts, "checks in a row that must pass before it is used again");
        let doc = "checks in a row that must fail before it is not used any more";
        let down_after = table.or_in("down_after", 3, &counts, doc);
        let doc = "requests in a row that must fail at an upstream before it is ejected; half of them stay in any case";
        let eject_after = table.or_in("eject_after", 3, &counts, doc);
        let doc = "for how long it is ejected: so long the first time, twice as long the second";
        let eject_for = table.or_in("eject_for", Span::from_secs(10), &PHASE, doc);
        let doc = "how long connecting to an upstream may take";
        let connect_within = table.or_in("connect_within", Span::from_secs(1), &PHASE, doc);
        let doc = "how long an upstream may take until its reply begins, and between parts of it";
        let reply_within = table.or_in("reply_within", Span::from_secs(60), &PHASE, doc);
        let tries_max = table.or_in("tries_max", 3, &(1..=16), "upstreams that one request is sent to at most");
        let body_bytes_max = table.or_in(
            "body_bytes_max",
            64 * 1024 * 1024_u64,
            &(0..=1 << 40),
            "largest body of a request; beyond it the answer is 413",
        );
        let doc = "so much of a body is kept, while its request is under way, to send it to another upstream";
        let replay_bytes_max = table.or_in("replay_bytes_max", 64 * 1024, &(0..=16 * 1024 * 1024), doc);
        let doc = "requests under way at a time; beyond it the answer is 503";
        let requests_max = table.or_in("requests_max", 4096, &(1..=1_000_000), doc);
        let doc = "of these, at one upstream; beyond it another one is asked";
        let requests_per_upstream_max = table.or_in("requests_per_upstream_max", 1024, &(1..=1_000_000), doc);
        let doc = "a file of HTML that is shown, with 503, when no upstream may be used; without it they are asked all the same";
        let down_file: Option<PathBuf> = table.optional("down_file", doc);
        let doc = "let `%2f` and `%5c` in paths through, for a program that takes them as part of a name";
        let encoded_slashes = table.or("encoded_slashes", false, doc);
        let closed = table.or("closed", false, "let nobody in: everybody is answered 403");
        let doc = "have its real requests be evidence: which service they are of";
        let observe: Option<Observe> = table.optional("observe", doc);
        let ranges: Vec<Located<RangeTable>> = table.list("range", "who may ask for which paths, by address");
        let doc = "give replies the fields that make browsers careful, where the upstream sets none of that name";
        let security_headers = table.or("security_headers", true, doc);
        let doc = "tell browsers to come by TLS alone: for 5 minutes, after a good day for a week, after 8 good days for two years";
        let hsts = table.or("hsts", true, doc);

        let Located { value: domain, place: at_domain } = domain?;
        check_name(table, "domain", &domain)?;
        for name in &redirect_from {
            check_name(table, "redirect_from", &name.value)?;
        }
        let of_routes = routes.iter().map(|route| (route.value.0.path.as_str(), route.place));
        check_once(table, "route", "write one with all its upstreams, or remove one", of_routes);
        let of_redirects = redirects.iter().map(|redirect| (redirect.value.0.from.as_str(), redirect.place));
        check_once(table, "redirect", "remove one of the two", of_redirects);
        let of_ranges = ranges.iter().map(|range| (range.value.0.path.as_str(), range.place));
        check_once(table, "range", "write one with all its networks", of_ranges);
        match (&certificate, &key) {
            (Some(_), None) => {
                table.mistake("certificate", "it has no key", "name it: `key = { file = \"…/privkey.pem\" }`");
                return None;
            }
            (None, Some(_)) => {
                table.mistake("key", "it has no certificate", "name its file in `certificate`");
                return None;
            }
            (Some(_), Some(_)) if acme => {
                table.mistake("acme", "it has a certificate out of files", "remove `acme`, or `certificate` and `key`");
                return None;
            }
            (None, None) if !acme && table.has("redirect_to_https") && !table.is_example() => {
                let remedy = "give the site a certificate and a key, or remove this";
                table.mistake("redirect_to_https", "the site has no certificate", remedy);
                return None;
            }
            _ => {}
        }
        if encoded_slashes && ranges.iter().any(|range| range.value.0.path != "/") {
            let remedy = "remove `encoded_slashes`, or give the range to the whole site: path = \"/\"";
            table.mistake("range", "a program that decodes slashes reaches the path under other names", remedy);
            return None;
        }
        if let Some(name) = &affinity
            && (name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
        {
            table.mistake("affinity", format!("`{name}` is no name of a cookie"), "write letters, digits, `-` and `_`");
            return None;
        }
        if let Some(path) = &check {
            check_path(table, "check", path)?;
        }
        let key = key.map(KeyPlace::from);
        let places = redirect_from.iter().map(|name| name.place).collect();
        let site = Site {
            domain,
            redirect_from: redirect_from.into_iter().map(|name| name.value).collect(),
            certificate,
            key,
            acme,
            redirect_to_https,
            upstreams: upstreams?,
            routes: routes.into_iter().map(|route| route.value.0).collect(),
            redirects: redirects.into_iter().map(|redirect| redirect.value.0).collect(),
            affinity,
            check,
            check_every,
            check_within,
            up_after,
            down_after,
            eject_after,
            eject_for,
            connect_within,
            reply_within,
            tries_max,
            body_bytes_max,
            replay_bytes_max,
            requests_max,
            requests_per_upstream_max,
            down_file,
            encoded_slashes,
            closed,
            ranges: ranges.into_iter().map(|range| range.value.0).collect(),
            security_headers,
            hsts,
            observe,
        };
        Some(Self { site, domain: at_domain, redirect_from: places })
    }
}

/// That each name leads to one site, and is there once.
fn check_names(document: &mut Document, tables: &[SiteTable]) {
    let mut known: BTreeMap<&str, (&SiteTable, Place)> = BTreeMap::new();
    for table in tables {
        for (name, place) in table.names() {
            if name == table.site.domain && place != table.domain {
                let reason = format!("`{name}` is its own domain");
                document.mistake(Mistake::new(place, reason, "remove it from `redirect_from`"));
                continue;
            }
            let Some((of, first)) = known.get(name) else {
                known.insert(name, (table, place));
                continue;
            };
            let mistake = if of.domain == table.domain {
                Mistake::new(place, format!("`{name}` is there twice"), "remove one of the two")
            } else {
                Mistake::new(place, format!("two sites are reached as `{name}`"), "give it to one of them")
            };
            document.mistake(mistake.also(*first, "the first one is here"));
        }
    }
}

impl Part for Config {
    fn read(document: &mut Document, _nouns: &Nouns) -> Self {
        let gate: Option<GateTable> = document.table("gate");
        let tables: Vec<SiteTable> = document.tables("site");
        check_names(document, &tables);
        let acme: Option<Acme> = document.table("acme");
        let ordered: Vec<&SiteTable> = tables.iter().filter(|table| table.site.acme).collect();
        if acme.is_none()
            && let Some(first) = ordered.first()
        {
            let reason = "nothing says which authority gives the certificate of `acme`";
            document.mistake(Mistake::new(first.domain, reason, "add `[acme]` with `terms_agreed = true`"));
        }
        for (name, place) in ordered.iter().flat_map(|table| table.names()).filter(|(name, _)| !is_certified(name)) {
            let reason = format!("no authority proves that `{name}` is yours");
            let remedy =
                "order certificates for names of the DNS alone; name files in `certificate` and `key` for others";
            document.mistake(Mistake::new(place, reason, remedy));
        }
        let (sites, domains): (Vec<Site>, Vec<Place>) =
            tables.into_iter().map(|table| (table.site, table.domain)).unzip();
        for name in FINDINGS.into_iter().filter_map(finding) {
            if sites.iter().any(|site| site.observe.is_some()) {
                document.provide(&name);
            }
        }
        let config = Self { gate, sites, acme, revision: String::new() };
        if let Some((index, address)) = config.leads_to_itself()
            && let (Some(site), Some(place)) = (config.sites.get(index), domains.get(index))
        {
            let reason = format!("the upstream {address} of {} is the gate itself", site.domain);
            document.mistake(Mistake::new(*place, reason, "name the server behind, which listens elsewhere"));
        }
        config
    }

    fn reference() -> Vec<SectionDoc> {
        vec![
            SectionDoc::of::<GateTable>("gate", false),
            SectionDoc::of::<Acme>("acme", false),
            SectionDoc::of::<SiteTable>("site", true),
        ]
    }

    fn set_revision(&mut self, revision: &str) {
        revision.clone_into(&mut self.revision);
    }

    fn publish(&self, public: &mut Applied) {
        let observed: Vec<&Observe> = self.sites.iter().filter_map(|site| site.observe.as_ref()).collect();
        let Ok(observer) = "server.gate".parse::<ObserverId>() else { return };
        if observed.is_empty() {
            return;
        }
        public.probes.extend(observed.iter().map(|observe| event::policy::Probe {
            id: observe.probe.clone(),
            kind: crate::NAME.into(),
            service: observe.service.clone(),
            every: engine::statement::EVERY,
            observers: [observer.clone()].into(),
            agreement: Agreement::default(),
        }));
        let titles = [
            (
                CERTIFICATE,
                "Un certificat expire bientôt ou n’est pas accepté",
                "A certificate ends soon or is not accepted",
            ),
            (
                OLD_TLS,
                "Une page est servie par une version dépassée de TLS",
                "A page is served over an outdated version of TLS",
            ),
            (CLEAR, "Une page est servie en clair", "A page is served in clear"),
            (HEADERS, "Une page est servie sans en-têtes de sécurité", "A page is served without security headers"),
        ];
        for (name, fr, en) in titles {
            let Some(finding) = finding(name) else { continue };
            let title = Text { fr: fr.to_owned(), en: en.to_owned() };
            let probes = observed.iter().map(|observe| observe.probe.clone()).collect();
            public.findings.push(Detector { finding, title, probes });
        }
    }

    fn warnings(&self) -> Vec<String> {
        let is_alone =
            |site: &&Site| site.upstreams.len() == 1 || site.routes.iter().any(|route| route.upstreams.len() == 1);
        let alone = self.sites.iter().filter(is_alone).map(|site| {
            format!("{} has a part with one upstream only: when that fails, its requests fail", site.domain)
        });
        let unused =
            (self.gate.is_some() && self.sites.is_empty()).then(|| "[gate] does nothing without a [[site]]".to_owned());
        let idle = (self.acme.is_some() && !self.sites.iter().any(|site| site.acme))
            .then(|| "[acme] does nothing: no [[site]] has `acme = true`".to_owned());
        let is_careless =
            |site: &&Site| site.observe.is_some() && site.speaks_tls() && !(site.security_headers && site.hsts);
        let careless = self.sites.iter().filter(is_careless).map(|site| {
            format!(
                "{} is observed, and has the gate leave out fields that make browsers careful: `{HEADERS}` is found until the \
                 servers behind set all of them",
                site.domain
            )
        });
        alone.chain(careless).chain(unused).chain(idle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_read() {
        SectionDoc::check::<GateTable>("gate", false).expect("read");
        SectionDoc::check::<Acme>("acme", false).expect("read");
        SectionDoc::check::<SiteTable>("site", true).expect("read");
    }

    impl Config {
        /// What is desired by a policy of one site and no more.
        pub(crate) fn of_one_site() -> Desired {
            read(SITE).expect("sound").desired().expect("a site")
        }
    }

    /// What `text` says beside a site that is well.
    fn read(text: &str) -> Result<Config, String> {
        let mut document = Document::from_text("garant.toml", text);
        let nouns = Nouns::read(&mut document);
        let config = Config::read(&mut document, &nouns);
        document.finish().map(|_| config).map_err(|mistakes| mistakes.render(false))
    }

    const SITE: &str = "[[site]]\ndomain = \"a.example\"\nupstream = [{ url = \"http://127.0.0.1:81\" }]\n";

    #[test]
    fn without_a_site_there_is_no_gate_and_without_a_certificate_no_tls() {
        assert_eq!(read("").expect("sound").desired(), None);
        assert_eq!(read("[gate]\n").expect("sound").warnings(), ["[gate] does nothing without a [[site]]"]);
        let desired = read(SITE).expect("sound").desired().expect("a site");
        assert_eq!((desired.gate.http.len(), desired.gate.https.len()), (1, 0));
        let json = serde_json::to_string(&desired).expect("JSON");
        assert_eq!(serde_json::from_str::<Desired>(&json).expect("the same"), desired);
    }

    /// Whoever leaves fields out and promises them is told, before the finding tells them.
    #[test]
    fn a_finding_that_would_never_end_is_said_before() {
        let site = |more: &str| {
            let observed =
                "certificate = \"/a\"\nkey = { file = \"/b\" }\nobserve = { service = \"s\", probe = \"p\" }\n";
            let service = "[[service]]\nname = \"s\"\n";
            read(&format!("{service}{SITE}{observed}{more}\n")).expect("sound").warnings().join("\n")
        };
        assert!(site("hsts = false").contains("`gate-headers` is found until"), "{}", site("hsts = false"));
        assert!(!site("").contains("gate-headers"));
    }

    /// The mistakes of a policy of no file: the line, what is wrong, what to write.
    fn lines_of_mistakes(text: &str) -> Vec<String> {
        let mut document = Document::from_text("garant.toml", text);
        let nouns = Nouns::read(&mut document);
        drop(Config::read(&mut document, &nouns));
        let mistakes = document.finish().expect_err(text);
        let line = |mistake: &Mistake| {
            let line = mistakes.sources().position(mistake.place()).0.line;
            format!("{line} {} | {}", mistake.reason(), mistake.remedy())
        };
        mistakes.list().iter().map(line).collect()
    }

    /// A name that is there twice is shown where it is there again, whatever site the file begins with; so is what is wrong with one site.
    #[test]
    fn mistakes_about_names_are_at_the_site_that_they_are_about() {
        let site = |domain: &str, more: &str| {
            format!("[[site]]\ndomain = \"{domain}\"\n{more}\nupstream = [{{ url = \"http://127.0.0.1:81\" }}]\n")
        };
        let text = [
            site("shop.test", ""),
            site("a.test", ""),
            site("b.test", "redirect_from = [\"b.test\", \"a.test\", \"c.test\",\n\"c.test\"]"),
            site("a.test", ""),
        ];
        assert_eq!(
            lines_of_mistakes(&text.concat()),
            [
                "11 `b.test` is its own domain | remove it from `redirect_from`",
                "11 two sites are reached as `a.test` | give it to one of them",
                "12 `c.test` is there twice | remove one of the two",
                "15 two sites are reached as `a.test` | give it to one of them",
            ]
        );
        let text =
            [site("shop.test", ""), site("b.localhost", "acme = true"), "[gate]\nhttp = \"0.0.0.0:81\"\n".into()];
        assert_eq!(
            lines_of_mistakes(&text.concat())
                .iter()
                .map(|line| line.split(' ').next().unwrap_or(""))
                .collect::<Vec<_>>(),
            ["2", "6", "6"],
            "the first of the two whose upstream is the gate, and the one of `acme`"
        );
        let both = read(&[site("shop.test", ""), site("a.test", ""), site("a.test", "")].concat()).expect_err("two");
        assert!(both.contains("the first one is here"), "{both}");
    }

    /// A path that is there twice is shown where it is there again; networks that can't be read are not said to be missing.
    #[test]
    fn a_path_is_there_once_and_what_is_written_is_not_missing() {
        let upstream = "upstream = [{ url = \"http://127.0.0.1:82\" }]";
        let routes = format!(
            "route = [\n{{ path = \"/a\", {upstream} }},\n{{ path = \"/b\", {upstream} }},\n{{ path = \"/a\", {upstream} }}]\n"
        );
        let expected = ["7 there is a `route` for `/a` already | write one with all its upstreams, or remove one"];
        assert_eq!(lines_of_mistakes(&format!("{SITE}{routes}")), expected);
        let redirects = "redirect = [\n{ from = \"/a\", to = \"https://a.example/b\" },\n{ from = \"/a\", to = \"https://a.example/c\" }]\n";
        let expected = ["6 there is a `redirect` for `/a` already | remove one of the two"];
        assert_eq!(lines_of_mistakes(&format!("{SITE}{redirects}")), expected);
        let ranges = "range = [\n{ allow = [\"192.0.2.0/24\"] },\n{ path = \"/\", deny = [\"192.0.2.1\"] }]\n";
        let expected = ["6 there is a `range` for `/` already | write one with all its networks"];
        assert_eq!(lines_of_mistakes(&format!("{SITE}{ranges}")), expected);

        let range = |keys: &str| lines_of_mistakes(&format!("{SITE}range = [{{ path = \"/y\", {keys} }}]\n"));
        let unreadable = "4 `300.1.1.1` is not a range of addresses | write it like \"10.1.0.0/16\"";
        assert_eq!(range("allow = [\"300.1.1.1\"]"), [unreadable]);
        assert_eq!(range("deny = \"300.1.1.1\""), [unreadable]);
        let nothing = "4 it names no network | add `allow = [\"203.0.113.0/24\"]` or `deny`";
        assert_eq!(range("allow = []"), [nothing]);
    }

    /// A number of the wrong kind is told the range of its key.
    #[test]
    fn the_range_of_a_key_is_said() {
        for (value, said) in [
            (
                "\"many\"",
                "4 `tries_max` is a text, and should be a whole number from 1 to 16 | write it like tries_max = 1",
            ),
            ("-1", "4 `tries_max` is -1, out of range | write a whole number from 1 to 16"),
            ("17", "4 `tries_max` is 17, out of range | write something from 1 to 16"),
        ] {
            assert_eq!(lines_of_mistakes(&format!("{SITE}tries_max = {value}\n")), [said]);
        }
    }

    /// Each mistake is named at its key.
    #[test]
    fn mistakes_are_said() {
        for (more, said) in [
            ("certificate = \"/x.pem\"", "it has no key"),
            ("key = { file = \"/x.pem\" }", "it has no certificate"),
            ("redirect_to_https = false", "the site has no certificate"),
            ("route = [{ path = \"api\", upstream = [{ url = \"http://127.0.0.1:82\" }] }]", "is no path"),
            ("route = [{ path = \"/a/../b\", upstream = [{ url = \"http://127.0.0.1:82\" }] }]", "is no path"),
            ("route = [{ path = \"/a\", upstream = [{ url = \"http://a.example:82\" }] }]", "names a host"),
            ("route = [{ path = \"/a\", upstream = [{ url = \"https://127.0.0.1\" }] }]", "in clear"),
            ("route = [{ path = \"/a\", upstream = [{ url = \"http://127.0.0.1/x\" }] }]", "has a path"),
            ("affinity = \"a b\"", "no name of a cookie"),
            ("down_file = \"x\"", "not an absolute path"),
            ("colour = 1", "colour"),
            ("range = [{ path = \"/a\" }]", "names no network"),
            ("range = [{ path = \"/a;b\", allow = [\"192.0.2.0/24\"] }]", "is no path"),
            ("range = [{ path = \"a\", allow = [\"192.0.2.0/24\"] }]", "is no path"),
            ("encoded_slashes = true\nrange = [{ path = \"/a\", deny = [\"192.0.2.0/24\"] }]", "under other names"),
            ("acme = true", "which authority"),
            ("acme = true\nredirect_from = [\"a.localhost\"]\n[acme]\nterms_agreed = true", "no authority proves"),
            ("acme = true\ncertificate = \"/a\"\nkey = { file = \"/b\" }\n[acme]\nterms_agreed = true", "out of files"),
            ("acme = true\n[acme]\nterms_agreed = false", "gives no certificate"),
            ("acme = true\n[acme]\nterms_agreed = true\ndirectory = \"http://a.example/\"", "in clear"),
            ("acme = true\n[acme]\nterms_agreed = true\nchallenge = \"dns-01\"", "http-01"),
            ("[[site]]\ndomain = \"a.example\"\nupstream = [{ url = \"http://127.0.0.1:81\" }]", "two sites"),
            ("[[site]]\ndomain = \"A.example\"\nupstream = [{ url = \"http://127.0.0.1:81\" }]", "small letters"),
            ("[gate]\nshorten_addresses = true", "no access log"),
            ("[gate]\nhttp = [\"0.0.0.0:81\"]", "is the gate itself"),
        ] {
            let mistakes = read(&format!("{SITE}{more}\n")).expect_err(more);
            assert!(mistakes.contains(said), "{more}: {mistakes}");
        }
    }
}
