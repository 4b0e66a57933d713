//! Names to addresses, and any record for whoever watches the DNS itself.
//!
//! **Whose silence.** A name without an answer has two reasons that look alike. Its own name servers are dead, while ours
//! tries them for longer than we wait: that name is down. Or our name server is dead, or the way to it: then nothing is
//! known of any name. So while a question stays unanswered, ours is asked for something that every name server can answer,
//! the name servers of the root. Any answer, even a refusal, shows that it is there.
//!
//! **Who answered what.** A resolver follows an alias (CNAME) from one server to the next, and calls a server silent that
//! answered with an alias into the zone of somebody else. Whoever watches name servers names them, and is told what they
//! said: each is asked on its own, and nothing is followed.
//!
//! **The machine's own configuration** changes under a process that runs for months: a DHCP lease, a VPN, a new name server.
//! `/etc/resolv.conf` and `/etc/hosts` are read again when they have changed, which costs two `stat` every few seconds.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::Span;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, TokioResolver};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dial::Local;
use super::{Deadline, RecordType, SetupError};
use crate::printable::{in_words, text as printable};

/// Longest time that an address is remembered: a name that moved to the other region is followed within a minute,
/// whatever its record says.
const TTL_MAX: Duration = Duration::from_mins(1);

/// Most names that are followed in one answer, from alias to alias: more than any resolver follows.
const ALIASES_MAX: usize = 32;

/// Longest time that the absence of a name is remembered.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(5);

/// Most names remembered.
const CACHE_NAMES_MAX: u64 = 4096;

/// Most questions under way on one connection to a name server.
const QUESTIONS_MAX: usize = 1024;

/// How long one name server may take before the next is asked.
const SERVER_LIMIT: Duration = Duration::from_secs(2);

/// How long a question may go unanswered before the servers are asked whether they are there; half of its time if that is
/// shorter.
const PATIENCE: Span = Span::from_secs(1);

/// How long before the deadline the servers that are watched have had their time.
const LAST_WORD: Duration = Duration::from_millis(50);

/// How often the machine's configuration is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why no resolver can be had, which should not happen.
const NO_DEFAULTS: &str = "the library that asks refuses its own defaults";

/// Asks name servers.
pub struct Resolver {
    current: Mutex<Current>,
}

/// The name servers to ask now, and the files that say so.
struct Current {
    servers: Arc<Servers>,
    files: Option<Files>,
}

/// The configuration of the machine: resolv.conf(5) and hosts(5).
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    looked_at: Instant,
    /// What was there when it was last read.
    seen: [Option<Stamp>; 2],
}

/// What of a file changes with it: time, length, and the file itself, for it may be replaced.
type Stamp = (i64, i64, u64, u64);

impl Files {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
        })
    }

    /// The servers, if what says so has changed since it was last read.
    fn look(&mut self, now: Instant) -> Option<Servers> {
        if now.duration_since(self.looked_at) < LOOK_EVERY {
            return None;
        }
        self.looked_at = now;
        let stamps = self.stamps();
        if stamps == self.seen {
            return None;
        }
        self.seen = stamps;
        // Half written, it changes once more.
        let unusable = |reason: &String| {
            tracing::warn!(%reason, "{} has changed and can't be used; asking as before", self.resolv_conf.display());
        };
        self.read().inspect_err(unusable).ok()
    }

    fn read(&self) -> Result<Servers, String> {
        let text = std::fs::read(&self.resolv_conf).map_err(|error| error.to_string())?;
        let (config, options) =
            hickory_resolver::system_conf::parse_resolv_conf(text).map_err(|_| "it is not as resolv.conf(5) says")?;
        Servers::new(&config, options, CACHE_NAMES_MAX).map_err(|error| error.to_string())
    }
}

/// A name server that is asked on its own.
type OneServer = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Some name servers.
struct Servers {
    /// Whom it asks, to be told.
    addresses: Vec<IpAddr>,
    names: TokioResolver,
    /// Asks the same servers, and remembers nothing.
    afresh: TokioResolver,
    /// The same servers, each on its own; none unless they are what is watched.
    watched: Vec<(SocketAddr, OneServer)>,
}

/// The name that records of type PTR for an address have (RFC 1035, section 3.5, and RFC 3596, section 2.5).
pub fn reverse_name(address: IpAddr) -> String {
    let name = Name::from(address).to_ascii();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

/// What was found out about a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Which server said so, of those that are watched.
    pub server: Option<SocketAddr>,
    /// The records, as zone files write them, sorted.
    pub records: Vec<String>,
    /// The name that it is an alias for (CNAME), when that is all that the server says of it: the records are in a zone that
    /// it does not serve.
    pub alias: Option<String>,
}

/// Why a name has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolveError {
    /// What was asked for.
    pub name: String,
    /// What went wrong.
    pub failure: ResolveFailure,
    /// Which server said so, of those that are watched.
    pub server: Option<SocketAddr>,
}

/// What can go wrong with a question to the DNS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResolveFailure {
    /// It is not a name.
    BadName,
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name is an alias (CNAME), and the name that it leads to does not exist (NXDOMAIN).
    NoSuchTarget(String),
    /// The name exists, but has no record of that type.
    NoRecords,
    /// The server answers that it fails, or that it will not: the response code as `dig` writes it (RFC 6895, section 2.3).
    Refused(String),
    /// The server says nothing of the name but that others serve it: a referral to the name servers of this zone.
    Referral(String),
    /// No answer came in time, from a name server that answers other questions: it looked, and found nobody to ask.
    Timeout,
    /// None of these name servers answers anything.
    Unreachable(Vec<IpAddr>),
    /// The question was not asked: this machine has run out of something, or has no way to any name server.
    NotAsked(String),
    /// The servers speak nonsense.
    Other(String),
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        let server = self.server.map(|server| format!(" {server}")).unwrap_or_default();
        let says = self.server.map(|server| format!(", says {server}")).unwrap_or_default();
        match &self.failure {
            ResolveFailure::BadName => write!(f, "`{name}` is not a host name"),
            ResolveFailure::NoSuchName => write!(f, "the name `{name}` does not exist (NXDOMAIN){says}"),
            ResolveFailure::NoSuchTarget(target) => {
                let target = printable(target);
                write!(f, "the name `{name}` is an alias (CNAME) for `{target}`, which does not exist (NXDOMAIN){says}")
            }
            ResolveFailure::Referral(zone) => {
                let zone = printable(zone);
                write!(
                    f,
                    "the name server{server} has no answer for `{name}`: it refers to the name servers of `{zone}`"
                )
            }
            ResolveFailure::NoRecords => write!(f, "the name `{name}` has no record of this type (NOERROR){says}"),
            ResolveFailure::Refused(code) => {
                let about = match code.as_str() {
                    "SERVFAIL" => ": it fails, or gets no answer from those that serve it",
                    "REFUSED" => ": it does not serve it, or not to us",
                    _ => "",
                };
                write!(f, "the name server{server} answers {code} for `{name}`{about}")
            }
            ResolveFailure::Timeout => write!(f, "no name server answered for `{name}` in time"),
            ResolveFailure::Unreachable(servers) => {
                let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
                write!(f, "`{name}` can't be resolved: no name server answers anything ({})", servers.join(", "))
            }
            ResolveFailure::NotAsked(reason) => write!(f, "`{name}` can't be asked for from this machine: {reason}"),
            ResolveFailure::Other(reason) => write!(f, "the name `{name}` can't be resolved: {reason}{says}"),
        }
    }
}

impl std::error::Error for ResolveError {}

impl Resolver {
    /// Asks the name servers of `/etc/resolv.conf`, after `/etc/hosts`, and follows both. Without any, the one of this
    /// machine, as resolv.conf(5) says.
    pub fn system() -> Result<Self, SetupError> {
        Self::of_file(Path::new("/etc/resolv.conf"))
    }

    fn of_file(resolv_conf: &Path) -> Result<Self, SetupError> {
        let (resolv_conf, hosts) = (resolv_conf.to_owned(), PathBuf::from("/etc/hosts"));
        #[expect(
            clippy::disallowed_methods,
            reason = "how long ago the files were looked at, on the clock of the timers"
        )]
        let mut files = Files { resolv_conf, hosts, looked_at: Instant::now(), seen: [None, None] };
        // Before it is read: what changes meanwhile is read again.
        files.seen = files.stamps();
        let read = files.read().or_else(|reason| {
            let path = files.resolv_conf.display();
            tracing::warn!(%reason, "{path} names no name server; asking the one of this machine");
            let local = servers(&[SocketAddr::from(([127, 0, 0, 1], 53))]);
            Servers::new(&local, ResolverOpts::default(), CACHE_NAMES_MAX)
        });
        Ok(Self { current: Mutex::new(Current { servers: Arc::new(read?), files: Some(files) }) })
    }

    /// Asks these name servers only, with a small cache.
    pub fn asking(addresses: &[SocketAddr]) -> Result<Self, SetupError> {
        Self::new(&servers(addresses), without_hosts(), CACHE_NAMES_MAX)
    }

    /// Asks these name servers only, every time, and each on its own: for whoever watches them.
    pub fn watching(addresses: &[SocketAddr]) -> Result<Self, SetupError> {
        let mut asked = Servers::new(&servers(addresses), without_hosts(), 0)?;
        asked.watched = each(addresses)?;
        Ok(Self { current: Mutex::new(Current { servers: Arc::new(asked), files: None }) })
    }

    fn new(config: &ResolverConfig, options: ResolverOpts, cached: u64) -> Result<Self, SetupError> {
        let servers = Arc::new(Servers::new(config, options, cached)?);
        Ok(Self { current: Mutex::new(Current { servers, files: None }) })
    }

    /// Whom to ask now.
    fn servers(&self) -> Arc<Servers> {
        #[expect(
            clippy::disallowed_methods,
            reason = "how long ago the files were looked at, on the clock of the timers"
        )]
        let now = Instant::now();
        // Nothing that can panic runs under this lock, and nothing that waits for longer than a local file.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = current.files.as_mut().and_then(|files| files.look(now)) {
            tracing::info!(servers = ?changed.addresses, "the name servers of this machine have changed");
            current.servers = Arc::new(changed);
        }
        Arc::clone(&current.servers)
    }

    /// The addresses of a host, IPv6 first. An address stands for itself and costs nothing. A name with a dot is a whole
    /// one: the search domains of the machine are for `db1`, and must not answer for a `shop.example` that is gone.
    pub async fn addresses(&self, host: &str, deadline: Deadline) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let failed = |failure| ResolveError { name: host.to_owned(), failure, server: None };
        let mut name = Name::from_str(host).map_err(|_| failed(ResolveFailure::BadName))?;
        if host.contains('.') {
            name.set_fqdn(true);
        }
        let servers = self.servers();
        let found = servers.answer(servers.names.lookup_ip(name.clone()), deadline).await.map_err(failed)?;
        let message = found.as_lookup().message();
        if let Some(failure) = said_by(message.response_code) {
            return Err(failed(failure));
        }
        // What was asked for last is the end of the aliases, or the name in a search domain.
        let said = Said::of(&[&name, found.query().name()], &message.answers);
        let mut addresses: Vec<IpAddr> =
            said.data(&[RecordType::AAAA, RecordType::A]).filter_map(RData::ip_addr).collect();
        if addresses.is_empty() {
            return Err(failed(ResolveFailure::NoRecords));
        }
        addresses.sort_by_key(IpAddr::is_ipv4);
        Ok(addresses)
    }

    /// The records of one type of a fully qualified name. Never out of the cache.
    pub async fn records(
        &self,
        name: &str,
        record_type: RecordType,
        deadline: Deadline,
    ) -> Result<Resolved, ResolveError> {
        let mut found = self.data(name, record_type, deadline, |data| Some(data.to_string())).await?;
        found.records.sort_unstable();
        Ok(found)
    }

    /// The TXT records of a fully qualified name, each as one text: the strings that it is made of, without anything
    /// between them (RFC 1035, section 3.3.14). One that is no UTF-8 is left out.
    pub async fn texts(&self, name: &str, deadline: Deadline) -> Result<Vec<String>, ResolveError> {
        let text = |data: &RData| match data {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        };
        self.data(name, RecordType::TXT, deadline, text).await.map(|found| found.records)
    }

    async fn data(
        &self,
        name: &str,
        record_type: RecordType,
        deadline: Deadline,
        read: impl Fn(&RData) -> Option<String>,
    ) -> Result<Resolved, ResolveError> {
        let failed = |server, failure| ResolveError { name: name.to_owned(), failure, server };
        let mut asked = Name::from_str(name).map_err(|_| failed(None, ResolveFailure::BadName))?;
        asked.set_fqdn(true);
        let servers = self.servers();
        if servers.watched.is_empty() {
            let found = servers.answer(servers.afresh.lookup(asked.clone(), record_type), deadline).await;
            let found = found.map_err(|failure| failed(None, failure))?;
            if let Some(failure) = said_by(found.message().response_code) {
                return Err(failed(None, failure));
            }
            let said = match record_type {
                RecordType::CNAME => Said::of_one(&asked, found.answers()),
                _ => Said::of(&[&asked, found.query().name()], found.answers()),
            };
            let records: Vec<String> = said.data(&[record_type]).filter_map(&read).collect();
            if records.is_empty() {
                return Err(failed(None, ResolveFailure::NoRecords));
            }
            return Ok(Resolved { server: None, records, alias: None });
        }
        let question = servers.ask_each(Query::query(asked.clone(), record_type), deadline);
        let (server, said) = servers.answer(question, deadline).await.map_err(|failure| failed(None, failure))?;
        let response = said.map_err(|failure| failed(Some(server), failure))?;
        let failed = |failure| Err(failed(Some(server), failure));
        let said = match record_type {
            RecordType::CNAME => Said::of_one(&asked, &response.answers),
            _ => Said::of(&[&asked], &response.answers),
        };
        let target = said.target();
        match (said_by(response.response_code), target) {
            (Some(ResolveFailure::NoSuchName), Some(target)) => {
                return failed(ResolveFailure::NoSuchTarget(target.to_string()));
            }
            (Some(failure), _) => return failed(failure),
            (None, _) => {}
        }
        let records: Vec<String> = said.data(&[record_type]).filter_map(read).collect();
        match target {
            _ if !records.is_empty() => Ok(Resolved { server: Some(server), records, alias: None }),
            Some(_) if said.circle => failed(ResolveFailure::Other("its aliases (CNAME) lead back to it".to_owned())),
            Some(target) => Ok(Resolved { server: Some(server), records, alias: Some(target.to_string()) }),
            None => failed(referral(&response.authorities).unwrap_or(ResolveFailure::NoRecords)),
        }
    }
}

/// What the answer section of a message says of a name: the records of the name itself, and of those that it is an alias
/// for (RFC 1034, section 3.6.2). What stands beside them, of other names, is no answer: whoever sends it may know nothing
/// of them.
struct Said<'a> {
    /// The name, and the aliases (CNAME) from there on, as far as [`ALIASES_MAX`].
    names: Vec<&'a Name>,
    answers: &'a [Record],
    /// An alias leads back to a name before it.
    circle: bool,
}

impl<'a> Said<'a> {
    fn of(asked: &[&'a Name], answers: &'a [Record]) -> Self {
        let (mut names, mut circle, mut at) = (asked.to_vec(), false, 0);
        while let Some(&name) = names.get(at) {
            for record in answers.iter().filter(|record| record.name.eq_ignore_root(name)) {
                let RData::CNAME(target) = &record.data else { continue };
                match names.iter().position(|known| known.eq_ignore_root(target)) {
                    Some(known) => circle |= known <= at,
                    None if names.len() < ALIASES_MAX => names.push(target),
                    None => {}
                }
            }
            at += 1;
        }
        Self { names, answers, circle }
    }

    /// Without its aliases: who asks for one does not ask where it leads.
    fn of_one(asked: &'a Name, answers: &'a [Record]) -> Self {
        Self { names: vec![asked], answers, circle: false }
    }

    /// The last of the aliases, when the answer begins with one.
    fn target(&self) -> Option<&'a Name> {
        self.names.last().copied().filter(|_| self.names.len() > 1 || self.circle)
    }

    fn data(&self, types: &[RecordType]) -> impl Iterator<Item = &'a RData> {
        let ours = |record: &&Record| self.names.iter().any(|name| record.name.eq_ignore_root(name));
        self.answers
            .iter()
            .filter(ours)
            .filter(|record| types.contains(&record.record_type()))
            .map(|record| &record.data)
    }
}

/// What a response code says, whatever else is in the answer.
fn said_by(code: ResponseCode) -> Option<ResolveFailure> {
    match code {
        ResponseCode::NoError => None,
        ResponseCode::NXDomain => Some(ResolveFailure::NoSuchName),
        code => Some(ResolveFailure::Refused(code_word(code))),
    }
}

/// The referral that an answer without records is: its authority section names the servers of a zone, and has no SOA with
/// which the server would say itself that there is no such record (RFC 2308, section 2.2).
fn referral(authorities: &[Record]) -> Option<ResolveFailure> {
    let of_type = |record_type| authorities.iter().find(move |record| record.record_type() == record_type);
    let servers = of_type(RecordType::NS).filter(|_| of_type(RecordType::SOA).is_none())?;
    Some(ResolveFailure::Referral(servers.name.to_string()))
}

/// These name servers, each to be asked on its own.
fn each(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, OneServer)>, SetupError> {
    let mut options = without_hosts();
    options.timeout = options.timeout.min(SERVER_LIMIT);
    let attempts = options.attempts;
    let tls = TlsConfig::new().map_err(|_| SetupError::Resolver(NO_DEFAULTS.to_owned()))?;
    let context = Arc::new(PoolContext::new(options, tls));
    let one = |address: &SocketAddr| {
        let pool =
            NameServerPool::from_config([server(address)], Arc::clone(&context), TokioRuntimeProvider::default());
        (*address, RetryDnsHandle::new(pool, attempts))
    };
    Ok(addresses.iter().map(one).collect())
}

impl Servers {
    fn new(config: &ResolverConfig, mut options: ResolverOpts, cached: u64) -> Result<Self, SetupError> {
        options.positive_max_ttl = Some(TTL_MAX);
        options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
        options.max_active_requests = QUESTIONS_MAX;
        options.timeout = options.timeout.min(SERVER_LIMIT);
        options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let addresses = config.name_servers().iter().map(|server| server.ip).collect();
        let build = |cached| {
            let mut builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            *builder.options_mut() = options.clone();
            builder.options_mut().cache_size = cached;
            builder.build().map_err(|_| SetupError::Resolver(NO_DEFAULTS.to_owned()))
        };
        Ok(Self { addresses, names: build(cached)?, afresh: build(0)?, watched: Vec::new() })
    }

    /// Asks all that are watched at once. The first that knows the name, or that there is none, decides; of the others, what
    /// the last of them said. An error is silence of all.
    async fn ask_each(
        &self,
        query: Query,
        deadline: Deadline,
    ) -> Result<(SocketAddr, Result<DnsResponse, ResolveFailure>), NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = ResolverOpts::default().edns0;
        let mut asked = JoinSet::new();
        for (address, server) in &self.watched {
            let (address, answer) = (*address, server.lookup(query.clone(), options).first_answer());
            asked.spawn(async move { (address, answer.await) });
        }
        let (mut said, mut silence) = (None, NetError::NoConnections);
        // Whoever is silent takes the whole time, and must not hide what another said.
        let end = deadline.at - LAST_WORD.min(deadline.span().to_std() / 10);
        while let Ok(Some(answered)) = tokio::time::timeout_at(end, asked.join_next()).await {
            match answered {
                Ok((address, Ok(response))) => match said_by(response.response_code) {
                    Some(failure @ ResolveFailure::Refused(_)) => said = Some((address, Err(failure))),
                    _ if !response.answers.is_empty() => return Ok((address, Ok(response))),
                    _ => match referral(&response.authorities) {
                        Some(referral) => said = Some((address, Err(referral))),
                        None => return Ok((address, Ok(response))),
                    },
                },
                Ok((address, Err(error))) => match failure(&error) {
                    LookupFailure::Reason(failure @ (ResolveFailure::NoSuchName | ResolveFailure::NoRecords)) => {
                        return Ok((address, Err(failure)));
                    }
                    // That this machine could not ask is nothing that a server said.
                    LookupFailure::Reason(ResolveFailure::NotAsked(_)) | LookupFailure::Silence(_) => silence = error,
                    LookupFailure::Reason(failure) => said = Some((address, Err(failure))),
                },
                Err(_aborted) => {}
            }
        }
        said.ok_or(silence)
    }

    /// Waits for the answer to a question, and finds out what its silence means.
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, NetError>>,
        deadline: Deadline,
    ) -> Result<T, ResolveFailure> {
        let patience = Span::from_micros(deadline.span().micros() / 2).min(PATIENCE);
        let (mut question, mut roll_call) = (pin!(question), pin!(self.are_there(patience)));
        let (mut silence, mut are_there) = (None, None);
        while silence.is_none() || are_there.is_none() {
            tokio::select! {
                biased;
                answer = &mut question, if silence.is_none() => match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => match failure(&error) {
                        LookupFailure::Reason(failure) => return Err(failure),
                        LookupFailure::Silence(reason) => silence = Some(reason),
                    }
                },
                there = &mut roll_call, if are_there.is_none() => are_there = Some(there),
                () = tokio::time::sleep_until(deadline.at) => break,
            }
        }
        Err(match (are_there, silence.flatten()) {
            (Some(true), _) => ResolveFailure::Timeout,
            (_, Some(no_way)) => ResolveFailure::NotAsked(no_way),
            (_, None) => ResolveFailure::Unreachable(self.addresses.clone()),
        })
    }

    /// Whether any of them answers anything, asked after a while.
    async fn are_there(&self, after: Span) -> bool {
        tokio::time::sleep(after.to_std()).await;
        match self.afresh.lookup(Name::root(), RecordType::NS).await {
            Ok(_) => true,
            Err(error) => {
                !matches!(error, NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_))
            }
        }
    }
}

fn without_hosts() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn servers(addresses: &[SocketAddr]) -> ResolverConfig {
    ResolverConfig::from_name_servers(addresses.iter().map(server).collect())
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// A failed question to one name server.
enum LookupFailure {
    /// The reason why there is no answer.
    Reason(ResolveFailure),
    /// Silence, with the reason when this machine has no way to the name server.
    Silence(Option<String>),
}

fn failure(error: &NetError) -> LookupFailure {
    LookupFailure::Reason(match error {
        NetError::Timeout | NetError::NoConnections => return LookupFailure::Silence(None),
        NetError::Io(error) => return of_system(error),
        NetError::Busy => ResolveFailure::NotAsked("too many questions are under way".to_owned()),
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NoError => {
                referral(none.authorities.as_deref().unwrap_or_default()).unwrap_or(ResolveFailure::NoRecords)
            }
            code => said_by(code).unwrap_or(ResolveFailure::NoRecords),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => ResolveFailure::Refused(code_word(*code)),
        other => ResolveFailure::Other(words(other).to_owned()),
    })
}

/// What an error of the system says of a question.
fn of_system(error: &std::io::Error) -> LookupFailure {
    let reason = in_words(&error.to_string()).into_owned();
    match Local::of(error) {
        Some(Local::Shortage) => LookupFailure::Reason(ResolveFailure::NotAsked(reason)),
        Some(Local::NoWay) => LookupFailure::Silence(Some(reason)),
        None => LookupFailure::Silence(None),
    }
}

/// What else the library of the DNS can say, and what we say.
fn words(error: &NetError) -> &'static str {
    match error {
        NetError::QueryCaseMismatch | NetError::ForeignClassRecord { .. } => "the answer is to another question",
        NetError::Proto(_) => "the answer is not well-formed",
        NetError::Truncated => "the answer is cut short, and there is no longer one to be had over TCP",
        NetError::Dns(_) => "the answer says nothing of it",
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => "no name server answers",
        NetError::Busy => "too many questions are under way",
        NetError::Message(_) | NetError::Msg(_) | NetError::ParseInt(_) => {
            "the name server was not asked, or not understood"
        }
        _ => "no answer that can be used",
    }
}

/// A response code as `dig` writes it: the names of the registry "DNS RCODEs" of IANA, in capitals.
fn code_word(code: ResponseCode) -> String {
    let word = match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        // One number for two: the other is an answer to a signed question, and ours are not signed.
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS",
        ResponseCode::BADKEY => "BADKEY",
        ResponseCode::BADTIME => "BADTIME",
        ResponseCode::BADMODE => "BADMODE",
        ResponseCode::BADNAME => "BADNAME",
        ResponseCode::BADALG => "BADALG",
        ResponseCode::BADTRUNC => "BADTRUNC",
        ResponseCode::BADCOOKIE => "BADCOOKIE",
        ResponseCode::Unknown(number) => return format!("RCODE {number}"),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests;
