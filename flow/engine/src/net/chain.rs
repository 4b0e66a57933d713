//! The chain that a server sends, judged as its clients will: what is wrong with it, and when its first certificate ends.
//!
//! **Problem.** A verifier stops at its first error and says "expired", which hides that the name is wrong too, and which of
//! the certificates it was. One that looks only at the server's own certificate calls a chain good for 300 days whose
//! intermediate ends in five. **Principle.** Every way from the server's certificate over what it sent to a root is found.
//! Clients take one that is valid, whichever it is, so the chain lasts as long as its best way, and a way as long as its
//! shortest certificate. Each fault is asked for on its own, and names the certificate that it is about.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use event::Time;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::Certificate;
use super::certificate::printable;
use super::tls_words;

/// Most names of a certificate that a message tells.
const NAMES_TOLD_MAX: usize = 8;

/// Most instants at which a chain that is not valid now is tried.
const INSTANTS_MAX: usize = 8;

/// Most certificates sent along among which the signer of another is looked for.
const SIGNERS_MAX: usize = 8;

/// Which certificate of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// The server's own.
    Own,
    /// One between its own and a root; its subject.
    Intermediate(String),
    /// One that is trusted; its subject.
    Root(String),
}

impl fmt::Display for Link {
    /// As the subject of a sentence about the certificate of a server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("it"),
            Self::Intermediate(subject) => write!(f, "the intermediate certificate `{subject}` of its chain"),
            Self::Root(subject) => write!(f, "the root certificate `{subject}` of its chain"),
        }
    }
}

/// A certificate of a chain and when it is valid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateValidity {
    /// Which one.
    pub link: Link,
    /// Valid from here on.
    pub from: Time,
    /// Valid up to here, included.
    pub until: Time,
}

impl CertificateValidity {
    fn of(link: Link, certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Self { link, from: Time::from_secs(from), until: Time::from_secs(until) }
    }

    fn intermediate(certificate: &X509Certificate<'_>) -> Self {
        Self::of(Link::Intermediate(printable(&certificate.subject().to_string())), certificate)
    }

    /// What is wrong with it at this time.
    fn fault(&self, now: Time) -> Option<CertificateFault> {
        let link = self.link.clone();
        if now > self.until {
            Some(CertificateFault::Expired { link, since: self.until })
        } else if now < self.from {
            Some(CertificateFault::NotYetValid { link, from: self.from })
        } else {
            None
        }
    }
}

/// What is wrong with a certificate, or with the chain that it comes with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateFault {
    /// One of the chain is no longer valid.
    Expired {
        /// Which.
        link: Link,
        /// Since when.
        since: Time,
    },
    /// One of the chain is not valid yet.
    NotYetValid {
        /// Which.
        link: Link,
        /// From when on.
        from: Time,
    },
    /// It is for others.
    WrongName {
        /// Name it should be for.
        expected: String,
        /// Names it is for.
        presented: Vec<String>,
    },
    /// It is its own issuer, and not among those that are trusted.
    SelfSigned,
    /// Its chain leads to a root that is not trusted.
    UnknownRoot {
        /// Subject of that root.
        root: String,
    },
    /// Its chain ends before a root.
    UnknownIssuer {
        /// Whose certificate is neither trusted nor sent along.
        issuer: String,
    },
    /// One of the chain bears the name of an issuer that was sent along and has not signed it; or of itself.
    BadSignature {
        /// Which.
        link: Link,
    },
    /// One of the chain bears the name of a trusted authority as its issuer, and is signed with another key.
    OtherKey {
        /// Which.
        link: Link,
        /// The name of that authority.
        issuer: String,
    },
    /// Something else.
    Other(&'static str),
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { link, since } => write!(f, "{link} expired on {since}"),
            Self::NotYetValid { link, from } => write!(f, "{link} is not valid before {from}"),
            Self::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "it names no host, so not `{expected}` (browsers read the subject alternative names only)")
            }
            Self::WrongName { expected, presented } => {
                let told = presented.iter().take(NAMES_TOLD_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
                write!(f, "it is not for `{expected}` but for {told}")?;
                match presented.len().saturating_sub(NAMES_TOLD_MAX) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::SelfSigned => f.write_str(
                "it is self-signed, so nobody vouches for it: to trust it, put it into the file that `authorities` in \
                 [network] names",
            ),
            Self::UnknownRoot { root } => write!(
                f,
                "its chain leads to `{root}`, which is not trusted: to trust it, put it into the file that `authorities` \
                 in [network] names"
            ),
            Self::UnknownIssuer { issuer } => write!(
                f,
                "its issuer is not trusted: the certificate of `{issuer}` is neither sent along nor one of the trusted \
                 authorities"
            ),
            Self::BadSignature { link } => write!(f, "{link} is not signed by the issuer that it names"),
            Self::OtherKey { link, issuer } => write!(
                f,
                "{link} names the trusted authority `{issuer}` as its issuer, and is signed with another key than that one's: a new \
                 certificate of the authority is neither sent along nor trusted"
            ),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// The certificates that a server showed, and what they are worth.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Shown {
    /// What its own says; `None` when it can't be read.
    pub certificate: Option<Certificate>,
    /// The first of the chain to end, of the chain that clients will use: those who connect then can't any more.
    pub first_to_end: Option<CertificateValidity>,
    /// What is wrong; empty when it is trusted.
    pub faults: Vec<CertificateFault>,
}

/// The certificates that are trusted.
pub(super) struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// When each is valid, in the same order; `None` where that can't be read.
    steps: Vec<Option<CertificateValidity>>,
    /// The same as a whole: a server may show one of them as its own.
    whole: HashSet<CertificateDer<'static>>,
}

impl Roots {
    pub(super) fn none() -> Self {
        Self { anchors: Vec::new(), steps: Vec::new(), whole: HashSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Trusts this certificate; false when it can't be read as one.
    pub(super) fn add(&mut self, der: &CertificateDer<'_>) -> bool {
        let Ok(anchor) = webpki::anchor_from_trusted_cert(der) else { return false };
        let step = X509Certificate::from_der(der).ok().map(|(_, certificate)| {
            CertificateValidity::of(Link::Root(printable(&certificate.subject().to_string())), &certificate)
        });
        self.anchors.push(anchor.to_owned());
        self.steps.push(step);
        self.whole.insert(der.clone().into_owned());
        true
    }

    /// Judges what a server showed for a name; every fault, each found on its own.
    pub(super) fn judge(
        &self,
        own: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Time,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Shown {
        let unreadable = |reason| Shown { faults: vec![CertificateFault::Other(reason)], ..Shown::default() };
        let (parsed, certificate) = match (EndEntityCert::try_from(own), X509Certificate::from_der(own)) {
            (Ok(parsed), Ok((_, certificate))) => (parsed, certificate),
            (Err(error), _) => return unreadable(tls_words::certificate(&error)),
            (Ok(_), Err(_)) => return unreadable("it is not well encoded"),
        };
        let says = Certificate::of(&certificate);
        let sent_along: Vec<_> =
            sent.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, parsed)| parsed).collect();
        let chain = Chain { roots: self, own: &parsed, sent, algorithms };
        let (mut faults, first_to_end) = if self.whole.contains(own) {
            // Trusted itself, as curl does with `--cacert`, whatever it says that it is for.
            let step = CertificateValidity::of(Link::Own, &certificate);
            (step.fault(now).into_iter().collect(), Some(step))
        } else {
            chain.judge(&certificate, &sent_along, now)
        };
        if parsed.verify_is_valid_for_subject_name(name).is_err() {
            let presented = says.names.clone();
            faults.push(CertificateFault::WrongName { expected: name.to_str().into_owned(), presented });
        }
        Shown { certificate: Some(says), first_to_end, faults }
    }
}

/// What a server sent, to be verified.
struct Chain<'a> {
    roots: &'a Roots,
    own: &'a EndEntityCert<'a>,
    sent: &'a [CertificateDer<'a>],
    algorithms: WebPkiSupportedAlgorithms,
}

impl Chain<'_> {
    /// What is wrong with it but the name, and what of it ends first.
    fn judge(
        &self,
        own: &X509Certificate<'_>,
        sent: &[X509Certificate<'_>],
        now: Time,
    ) -> (Vec<CertificateFault>, Option<CertificateValidity>) {
        let own_step = CertificateValidity::of(Link::Own, own);
        // The verifier looks no further once it has seen the wrong time: a chain that is not valid now is tried at the
        // nearest right time of the server's own certificate, and whenever one of the others began.
        let nearest = now.min(own_step.until).max(own_step.from);
        let begins = sent.iter().map(|certificate| Time::from_secs(certificate.validity().not_before.timestamp()));
        let mut first_error = None;
        for instant in [now, nearest].into_iter().chain(begins).take(INSTANTS_MAX) {
            match self.ways(&own_step, instant) {
                Ok(ways) => {
                    let best = ways.into_iter().max_by_key(|way| way.iter().map(|step| step.until).min());
                    let best = best.unwrap_or_default();
                    let faults = best.iter().filter_map(|step| step.fault(now)).collect();
                    return (faults, best.into_iter().min_by_key(|step| step.until));
                }
                Err(error) if instant == nearest => first_error = first_error.or(Some(error)),
                Err(_) => {}
            }
        }
        // No way leads to a root: the names tell which certificates were meant to.
        let walk = Walk::along(own, sent);
        let mut faults: Vec<_> = own_step.fault(now).into_iter().collect();
        let stale = || walk.steps.iter().filter_map(|step| step.fault(now));
        match first_error {
            Some(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. })
                if stale().next().is_some() =>
            {
                faults.extend(stale());
            }
            Some(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) if is_self_signed(own) => {
                faults.push(CertificateFault::SelfSigned);
            }
            Some(webpki::Error::UnknownIssuer) | None => faults.push(walk.end),
            Some(webpki::Error::InvalidSignatureForPublicKey) => faults.push(self.unsigned(own, sent)),
            Some(error) => faults.push(CertificateFault::Other(tls_words::certificate(&error))),
        }
        let first_to_end = walk.steps.into_iter().chain([own_step]).min_by_key(|step| step.until);
        (faults, first_to_end)
    }

    /// What is wrong with a chain of which a verifier says that a signature is not that of a trusted authority. Another
    /// certificate may have the name of that authority: the next one of a server that signs its own, or the next root.
    fn unsigned(&self, own: &X509Certificate<'_>, sent: &[X509Certificate<'_>]) -> CertificateFault {
        let mut rest: Vec<&X509Certificate<'_>> = sent.iter().take(SIGNERS_MAX).collect();
        let (mut last, mut link) = (own, Link::Own);
        loop {
            if is_self_signed(last) {
                return match link {
                    _ if !self.signed(last, last) => CertificateFault::BadSignature { link },
                    Link::Own => CertificateFault::SelfSigned,
                    _ => CertificateFault::UnknownRoot { root: printable(&last.subject().to_string()) },
                };
            }
            let named = |issuer: &&X509Certificate<'_>| issuer.subject().as_raw() == last.issuer().as_raw();
            if !rest.iter().any(named) {
                let issuer = printable(&last.issuer().to_string());
                let trusted = self.roots.steps.iter().flatten().any(|root| root.link == Link::Root(issuer.clone()));
                return if trusted {
                    CertificateFault::OtherKey { link, issuer }
                } else {
                    CertificateFault::UnknownIssuer { issuer }
                };
            }
            let Some(next) = rest.iter().position(|issuer| named(issuer) && self.signed(last, issuer)) else {
                return CertificateFault::BadSignature { link };
            };
            last = rest.swap_remove(next);
            link = Link::Intermediate(printable(&last.subject().to_string()));
        }
    }

    /// Whether the key of `issuer` has signed a certificate.
    fn signed(&self, certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
        let issuer = CertificateDer::from(issuer.as_raw());
        let Ok(issuer) = EndEntityCert::try_from(&issuer) else { return false };
        let (message, signature) = (certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
        self.algorithms.all.iter().any(|algorithm| issuer.verify_signature(*algorithm, message, signature).is_ok())
    }

    /// All ways to a root on which every certificate that was sent is valid at this time; there is one at least.
    fn ways(&self, own: &CertificateValidity, at: Time) -> Result<Vec<Vec<CertificateValidity>>, webpki::Error> {
        let seconds = u64::try_from(at.micros().div_euclid(1_000_000)).unwrap_or(0);
        let ways = RefCell::new(Vec::new());
        let take = |path: &VerifiedPath<'_>| {
            ways.borrow_mut().push(self.way(own.clone(), path));
            // As if it did not lead anywhere: so the next one is looked for.
            Err(webpki::Error::UnknownIssuer)
        };
        let verified = self.own.verify_for_usage(
            self.algorithms.all,
            &self.roots.anchors,
            self.sent,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::server_auth(),
            None,
            Some(&take),
        );
        let error = verified.err();
        let ways = ways.into_inner();
        match error {
            Some(error) if ways.is_empty() => Err(error),
            _ => Ok(ways),
        }
    }

    fn way(&self, own: CertificateValidity, path: &VerifiedPath<'_>) -> Vec<CertificateValidity> {
        let intermediate = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der).ok().map(|(_, certificate)| CertificateValidity::intermediate(&certificate))
        };
        let root = self.roots.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let root = root.and_then(|root| self.roots.steps.get(root).cloned().flatten());
        let between = path.intermediate_certificates().filter_map(|certificate| intermediate(&certificate.der()));
        [own].into_iter().chain(between).chain(root).collect()
    }
}

/// The certificates that follow from one another by their names, from the server's own on. Nothing of it is verified.
struct Walk {
    /// Those in between.
    steps: Vec<CertificateValidity>,
    /// Where it ends, short of what is trusted.
    end: CertificateFault,
}

impl Walk {
    fn along(own: &X509Certificate<'_>, sent: &[X509Certificate<'_>]) -> Self {
        let mut steps = Vec::new();
        let mut last = own;
        let mut rest: Vec<&X509Certificate<'_>> = sent.iter().collect();
        loop {
            if is_self_signed(last) {
                let end = CertificateFault::UnknownRoot { root: printable(&last.subject().to_string()) };
                return Self { steps, end };
            }
            let issuer = last.issuer().as_raw();
            let next = rest.iter().position(|certificate| certificate.subject().as_raw() == issuer);
            let Some(next) = next else {
                let end = CertificateFault::UnknownIssuer { issuer: printable(&last.issuer().to_string()) };
                return Self { steps, end };
            };
            last = rest.swap_remove(next);
            steps.push(CertificateValidity::intermediate(last));
        }
    }
}

/// Whether a certificate names itself as its issuer, by name and, where they are there, by the identifiers of the keys
/// (RFC 5280, section 4.2.1.1).
fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return false;
    }
    let (mut of_issuer, mut of_subject) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                of_issuer = identifier.key_identifier.as_ref().map(|key| key.0);
            }
            ParsedExtension::SubjectKeyIdentifier(identifier) => of_subject = Some(identifier.0),
            _ => {}
        }
    }
    of_issuer.is_none() || of_subject.is_none() || of_issuer == of_subject
}
