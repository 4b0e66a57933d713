//! TLS to clients: certificates out of files, chosen by the name that the client asks for.
//!
//! TLS 1.2 and 1.3, with the suites of rustls. Tickets are sealed with keys in memory that rustls replaces every six hours, and that
//! outlive a reload: else each reload would cost every returning client a whole handshake. A client that names no site gets no
//! certificate, so nobody learns from an address which sites are there.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Secrets;
use engine::net::Certificate;
use event::{Span, Time};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme;
use crate::acme::challenges::{ALPN, Challenges};
use crate::file;
use crate::settings::{KeyPlace, Site};
use crate::stream::TlsVersion;

/// Largest file with the certificate of a site and what it rests on.
const CHAIN_BYTES_MAX: u64 = 256 * 1024;

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
    /// Whether its files had not been changed just before: then the same stamp is the same content.
    is_settled: bool,
    key: Arc<CertifiedKey>,
    validity: Option<(Time, Time)>,
    /// Names of the site, and those of them that it is not for.
    names: Vec<String>,
    lacks: Vec<String>,
}

/// What browsers make of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    /// There is none.
    Nothing,
    /// They take it until then, whoever has signed it.
    Good { from: Time, until: Time },
    /// They do not, for this reason, whenever it ends. Under the domain of the site they may take it all the same: `lets_in`.
    Wrong { why: String, until: Option<Time>, lets_in: bool },
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

/// What differs once a file, or anything about it, is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: Time,
}

/// Of the file of a certificate and of the one of its key, where these are there.
type Stamp = [Option<FileStamp>; 2];

/// How coarse times of a file system may be: of two changes within that time the second may look like the first.
const SETTLES_WITHIN: Span = Span::from_secs(2);

impl Tls {
    /// Nothing loaded yet. Certificates that an authority gave are in this folder.
    pub(crate) fn new(challenges: Arc<Challenges>, ordered: PathBuf) -> Self {
        Self { challenges, ordered, ..Self::default() }
    }

    /// The configuration for these sites; `None` where none speaks TLS. A certificate whose files have not changed is not read again;
    /// one that can't be read leaves the site with the one that it had, and is said in `problems`.
    pub(crate) fn configure(
        &mut self,
        sites: &[Site],
        secrets: &Secrets,
        now: Time,
        problems: &mut Vec<String>,
    ) -> Option<Arc<ServerConfig>> {
        let mut of_sites = HashMap::new();
        let wanted: HashSet<&str> =
            sites.iter().filter(|site| site.speaks_tls()).map(|site| site.domain.as_str()).collect();
        self.loaded.retain(|domain, _| wanted.contains(domain.as_str()));
        for site in sites {
            let Some((path, key)) = self.place(site) else { continue };
            // One that is ordered is not there at first.
            if site.acme && !path.exists() {
                continue;
            }
            if !self.loaded.get(&site.domain).is_some_and(|loaded| loaded.is_of(site, &path, &key)) {
                match load(site, &path, &key, secrets, now) {
                    Ok(loaded) => drop(self.loaded.insert(site.domain.clone(), loaded)),
                    Err(why) => problems.push(unusable(site, &why)),
                }
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
            Some(loaded) => !loaded.is_settled || loaded.stamp != stamp_of(site),
            None => stamp_of(site)[0].is_some() || !site.acme,
        };
        sites.iter().filter(|site| site.speaks_tls()).any(is_outdated)
    }

    /// Why certificates that are loaded could not be loaded again from their files as these are now. What is loaded stays.
    pub(crate) fn unreadable(&self, sites: &[Site], secrets: &Secrets, now: Time) -> Vec<String> {
        let fault = |site: &Site| {
            let (path, key) = self.place(site).filter(|_| self.loaded.contains_key(&site.domain))?;
            load(site, &path, &key, secrets, now).err().map(|why| unusable(site, &why))
        };
        sites.iter().filter_map(fault).collect()
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

/// What is said of a certificate that can't be loaded.
fn unusable(site: &Site, why: &str) -> String {
    format!("the certificate of {} can't be used: {why}", site.domain)
}

fn stamp(certificate: &Path, key: &KeyPlace) -> Stamp {
    let of = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        let changed =
            Time::from_micros(metadata.ctime().saturating_mul(1_000_000).saturating_add(metadata.ctime_nsec() / 1000));
        Some(FileStamp { device: metadata.dev(), inode: metadata.ino(), bytes: metadata.len(), changed })
    };
    let of_key = match key {
        KeyPlace::File(path) => of(path),
        KeyPlace::Credential(_) => None,
    };
    [of(certificate), of_key]
}

/// Reads the certificate of a site and its key, and proves that they belong together.
fn load(site: &Site, path: &Path, key: &KeyPlace, secrets: &Secrets, now: Time) -> Result<Loaded, String> {
    let stamp = stamp(path, key);
    let chain =
        file::read(path, CHAIN_BYTES_MAX).map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    let opened = secrets.open_now(&key.secret()).map_err(|error| error.to_string())?;
    let places = match key {
        // Chain and key are one file, where an authority gave them.
        KeyPlace::File(of_key) if of_key == path => path.display().to_string(),
        _ => format!("{}, with its key in {}", path.display(), key.secret()),
    };
    let loaded = Loaded::of(&chain, opened.bytes(), site.names()).map_err(|why| format!("{places}: {why}"))?;
    let is_settled = stamp.iter().flatten().all(|file| now.since(file.changed) > SETTLES_WITHIN);
    Ok(Loaded { stamp, is_settled, ..loaded })
}

impl Loaded {
    /// Whether these files, unchanged, are what it was read from, for these names. A key out of a credential has no file to look at.
    fn is_of(&self, site: &Site, path: &Path, key: &KeyPlace) -> bool {
        matches!(key, KeyPlace::File(_))
            && self.is_settled
            && self.stamp == stamp(path, key)
            && site.names().eq(self.names.iter().map(String::as_str))
    }

    /// A chain and a key in PEM, which must belong together, for a site with these names.
    pub(crate) fn of<'n>(chain: &[u8], key: &[u8], names: impl Iterator<Item = &'n str>) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| "it can't be read as certificates in PEM".to_owned())?;
        let Some(first) = chain.first() else { return Err("it holds no certificate".to_owned()) };
        let validity = Certificate::of_der(first).map(|certificate| (certificate.not_before, certificate.not_after));
        let names: Vec<String> = names.map(ToOwned::to_owned).collect();
        let lacks = lacks(first, &names);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "its key is none in PEM".to_owned())?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        let otherwise = "its key is not the one of the certificate, or of a kind that is not known";
        let key = certified.map(Arc::new).map_err(|_| otherwise.to_owned())?;
        Ok(Self { stamp: Stamp::default(), is_settled: false, key, validity, names, lacks })
    }

    /// It and its key, as they are shown.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// What browsers make of it.
    pub(crate) fn shown(&self, now: Time) -> Shown {
        let Some((from, until)) = self.validity else {
            return Shown::Wrong { why: "nothing can be read of it".to_owned(), until: None, lets_in: false };
        };
        let (why, lets_in) = match () {
            () if now < from => (format!("it is valid from {} on", from.to_rfc3339()), false),
            () if now > until => (format!("it has expired on {}", until.to_rfc3339()), false),
            // The domain is the last of the names, those that lead to it come before.
            () if !self.lacks.is_empty() => {
                (format!("it is not for {}", self.lacks.join(", ")), self.lacks.last() != self.names.last())
            }
            () => return Shown::Good { from, until },
        };
        Shown::Wrong { why, until: Some(until), lets_in }
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
fn lacks(certificate: &CertificateDer<'_>, names: &[String]) -> Vec<String> {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return Vec::new() };
    let is_for = |name: &String| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    };
    names.iter().filter(|name| !is_for(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use super::*;
    use crate::config::Config;

    /// A certificate that lacks a name which leads to the site lets visitors of the site itself in.
    #[test]
    fn a_certificate_lets_in_under_the_domain_that_it_is_for() {
        for (name, lets_in) in [("shop.example", true), ("www.shop.example", false)] {
            let pair = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
            let mut site = Config::of_one_site().sites.remove(0);
            (site.domain, site.redirect_from) = ("shop.example".to_owned(), vec!["www.shop.example".to_owned()]);
            let loaded = Loaded::of(chain.as_bytes(), key.as_bytes(), site.names()).expect("sound");
            let shown = loaded.shown(Time::from_secs(1_800_000_000));
            assert!(matches!(shown, Shown::Wrong { lets_in: said, .. } if said == lets_in), "{name}: {shown:?}");
        }
    }

    /// ED-1: a certificate that is replaced is read, whatever its files look like; one that is not changed is not read again.
    #[test]
    fn a_certificate_is_read_when_it_may_have_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let write = |names: &[&str]| {
            let pair =
                rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            let pair = pair.expect("a certificate");
            std::fs::write(&chain, pair.cert.pem()).expect("written");
            let mut file = std::fs::File::options();
            let mut file = file.write(true).truncate(true).create(true).mode(0o600).open(&key).expect("opened");
            file.write_all(pair.signing_key.serialize_pem().as_bytes()).expect("written");
        };
        write(&["shop.example"]);
        let mut site = Config::of_one_site().sites.remove(0);
        site.domain = "shop.example".to_owned();
        (site.certificate, site.key) = (Some(chain.clone()), Some(KeyPlace::File(key.clone())));
        let secrets = Secrets::of_system();
        let mut tls = Tls::default();
        let load = |tls: &mut Tls, site: &Site, now| {
            let mut problems = Vec::new();
            tls.configure(std::slice::from_ref(site), &secrets, now, &mut problems).expect("TLS is spoken");
            assert_eq!(problems, Vec::<String>::new());
            tls.loaded["shop.example"].key()
        };
        let changed = stamp(&chain, &KeyPlace::File(key.clone()))
            .into_iter()
            .flatten()
            .map(|file| file.changed)
            .max()
            .expect("one");

        // Just written, and so maybe written again within the same tick.
        let first = load(&mut tls, &site, changed);
        assert!(tls.is_outdated(std::slice::from_ref(&site)));
        let later = Time::from_micros(changed.micros() + 3_000_000);
        let second = load(&mut tls, &site, later);
        assert!(!Arc::ptr_eq(&first, &second), "it was read again");
        assert!(!tls.is_outdated(std::slice::from_ref(&site)));
        assert!(Arc::ptr_eq(&second, &load(&mut tls, &site, later)), "nothing has changed");

        // Other names are asked of the same certificate.
        site.redirect_from = vec!["www.shop.example".to_owned()];
        assert!(!Arc::ptr_eq(&second, &load(&mut tls, &site, later)));
        assert_eq!(tls.loaded["shop.example"].lacks, ["www.shop.example"]);

        // Another one, of the same length and with the same time of modification.
        let third = load(&mut tls, &site, later);
        let looks = || [&chain, &key].map(|path| std::fs::metadata(path).expect("there"));
        let before = looks();
        loop {
            write(&["shop.example"]);
            for (path, before) in [&chain, &key].into_iter().zip(&before) {
                let file = std::fs::File::options().write(true).open(path).expect("opened");
                file.set_modified(before.modified().expect("a time")).expect("set");
            }
            if looks().iter().zip(&before).all(|(now, before)| now.len() == before.len()) {
                break;
            }
        }
        assert!(tls.is_outdated(std::slice::from_ref(&site)));
        assert!(!Arc::ptr_eq(&third, &load(&mut tls, &site, later)));
    }
}
