//! TLS to clients: certificates out of files, chosen by the name that the client asks for.
//!
//! TLS 1.2 and 1.3, with the suites of rustls. Tickets are sealed with keys in memory that rustls replaces every six hours, and that
//! outlive a reload: else each reload would cost every returning client a whole handshake. A client that names no site gets no
//! certificate, so nobody learns from an address which sites are there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use engine::Secrets;
use engine::net::Certificate;
use event::Time;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme;
use crate::acme::challenges::{ALPN, Challenges};
use crate::settings::{KeyPlace, Site};
use crate::stream::TlsVersion;

/// Certificates by name.
#[derive(Debug)]
struct Certificates {
    of_sites: HashMap<String, Arc<CertifiedKey>>,
    challenges: Arc<Challenges>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        // Nobody but an authority offers that protocol, and it offers no other (RFC 8737, section 3).
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN)) {
            return self.challenges.certificate(name);
        }
        self.of_sites.get(name).map(Arc::clone)
    }
}

/// What TLS keeps from one desired state to the next.
#[derive(Default)]
pub(crate) struct Tls {
    tickets: Option<Arc<dyn ProducesTickets>>,
    challenges: Arc<Challenges>,
    /// The folder of certificates from an authority.
    ordered: PathBuf,
    /// By the domain of the site.
    loaded: HashMap<String, Loaded>,
}

/// A certificate, read.
pub(crate) struct Loaded {
    stamp: Stamp,
    key: Arc<CertifiedKey>,
    validity: Option<(Time, Time)>,
    /// Names of the site that it is not for.
    lacks: Vec<String>,
}

/// What browsers make of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    /// There is none.
    Nothing,
    /// They take it until then, whoever has signed it.
    Good { from: Time, until: Time },
    /// They do not, for this reason, whenever it ends.
    Wrong { why: String, until: Option<Time> },
}

impl Shown {
    /// When it ends.
    pub(crate) const fn until(&self) -> Option<Time> {
        match self {
            Self::Nothing => None,
            Self::Good { until, .. } => Some(*until),
            Self::Wrong { until, .. } => *until,
        }
    }
}

/// When the files of a certificate were changed last.
type Stamp = [Option<SystemTime>; 2];

impl Tls {
    /// Nothing loaded yet. Certificates that an authority gave are in this folder.
    pub(crate) fn new(challenges: Arc<Challenges>, ordered: PathBuf) -> Self {
        Self { challenges, ordered, ..Self::default() }
    }

    /// The configuration for these sites; `None` where none speaks TLS. A certificate that can't be read leaves the site with the one
    /// that it had, and is said in `problems`.
    pub(crate) fn configure(
        &mut self,
        sites: &[Site],
        secrets: &Secrets,
        problems: &mut Vec<String>,
    ) -> Option<Arc<ServerConfig>> {
        let mut of_sites = HashMap::new();
        self.loaded.retain(|domain, _| sites.iter().any(|site| site.domain == *domain && site.speaks_tls()));
        for site in sites {
            let Some((path, key)) = self.place(site) else { continue };
            // One that is ordered is not there at first.
            if site.acme && !path.exists() {
                continue;
            }
            match load(site, &path, &key, secrets) {
                Ok(loaded) => drop(self.loaded.insert(site.domain.clone(), loaded)),
                Err(why) => problems.push(format!("the certificate of {} can't be used: {why}", site.domain)),
            }
            let Some(loaded) = self.loaded.get(&site.domain) else { continue };
            for name in site.names() {
                of_sites.insert(name.to_owned(), Arc::clone(&loaded.key));
            }
        }
        if !sites.iter().any(Site::speaks_tls) {
            return None;
        }
        if self.tickets.is_none() {
            self.tickets = aws_lc_rs::Ticketer::new().ok();
        }
        let is_ordered = sites.iter().any(|site| site.acme);
        server_config(of_sites, Arc::clone(&self.challenges), is_ordered, self.tickets.clone())
    }

    /// Whether a file of a certificate is another one than that which was read.
    pub(crate) fn is_outdated(&self, sites: &[Site]) -> bool {
        let stamp_of = |site: &Site| self.place(site).map(|(path, key)| stamp(&path, &key)).unwrap_or_default();
        let is_outdated = |site: &Site| match self.loaded.get(&site.domain) {
            Some(loaded) => loaded.stamp != stamp_of(site),
            None => stamp_of(site)[0].is_some() || !site.acme,
        };
        sites.iter().filter(|site| site.speaks_tls()).any(is_outdated)
    }

    /// What browsers make of the certificate of each site that speaks TLS.
    pub(crate) fn shown<'s>(&self, sites: &'s [Site], now: Time) -> Vec<(&'s str, Shown)> {
        let shown = |site: &Site| self.loaded.get(&site.domain).map_or(Shown::Nothing, |loaded| loaded.shown(now));
        sites.iter().filter(|site| site.speaks_tls()).map(|site| (site.domain.as_str(), shown(site))).collect()
    }

    /// Where the certificate of a site and its key are.
    fn place(&self, site: &Site) -> Option<(PathBuf, KeyPlace)> {
        if site.acme {
            let path = acme::file(&self.ordered, &site.domain);
            return Some((path.clone(), KeyPlace::File(path)));
        }
        Some((site.certificate.clone()?, site.key.clone()?))
    }
}

fn stamp(certificate: &Path, key: &KeyPlace) -> Stamp {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let of_key = match key {
        KeyPlace::File(path) => modified(path),
        KeyPlace::Credential(_) => None,
    };
    [modified(certificate), of_key]
}

/// Reads the certificate of a site and its key, and proves that they belong together.
fn load(site: &Site, path: &Path, key: &KeyPlace, secrets: &Secrets) -> Result<Loaded, String> {
    let stamp = stamp(path, key);
    let chain = std::fs::read(path).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let opened = secrets.open_now(&key.secret()).map_err(|error| error.to_string())?;
    let loaded =
        Loaded::of(&chain, opened.bytes(), site.names()).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(Loaded { stamp, ..loaded })
}

impl Loaded {
    /// A chain and a key in PEM, which must belong together, for a site with these names.
    pub(crate) fn of<'n>(chain: &[u8], key: &[u8], names: impl Iterator<Item = &'n str>) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| "it can't be read as certificates in PEM".to_owned())?;
        let Some(first) = chain.first() else { return Err("it holds no certificate".to_owned()) };
        let validity = Certificate::of_der(first).map(|certificate| (certificate.not_before, certificate.not_after));
        let lacks = lacks(first, names);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "its key is none in PEM".to_owned())?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let otherwise = "its key is not the one of the certificate, or of a kind that is not known";
        let key = certified.map(Arc::new).map_err(|_| otherwise.to_owned())?;
        Ok(Self { stamp: Stamp::default(), key, validity, lacks })
    }

    /// It and its key, as they are shown.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// What browsers make of it.
    pub(crate) fn shown(&self, now: Time) -> Shown {
        let Some((from, until)) = self.validity else {
            return Shown::Wrong { why: "nothing can be read of it".to_owned(), until: None };
        };
        let why = match () {
            () if now < from => format!("it is valid from {} on", from.to_rfc3339()),
            () if now > until => format!("it has expired on {}", until.to_rfc3339()),
            () if !self.lacks.is_empty() => format!("it is not for {}", self.lacks.join(", ")),
            () => return Shown::Good { from, until },
        };
        Shown::Wrong { why, until: Some(until) }
    }
}

/// What is said to clients in a handshake.
pub(crate) fn server_config(
    of_sites: HashMap<String, Arc<CertifiedKey>>,
    challenges: Arc<Challenges>,
    answers_challenges: bool,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Option<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let certificates = Certificates { of_sites, challenges };
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificates));
    // Ours, whatever the client prefers: all are sound, and public testers ask for it.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if answers_challenges {
        config.alpn_protocols.push(ALPN.to_vec());
    }
    if let Some(tickets) = tickets {
        config.ticketer = tickets;
    }
    Some(Arc::new(config))
}

/// The lowest version that a handshake may agree on.
pub(crate) fn lowest_allowed() -> Option<TlsVersion> {
    let version = |supported: &&rustls::SupportedProtocolVersion| TlsVersion::of(supported.version);
    rustls::DEFAULT_VERSIONS.iter().map(version).min()
}

/// The names that a certificate is not for.
fn lacks<'n>(certificate: &CertificateDer<'_>, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return Vec::new() };
    let is_for =
        |name: &str| ServerName::try_from(name).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok());
    names.filter(|name| !is_for(name)).map(ToOwned::to_owned).collect()
}
