//! TLS towards servers, and what is wrong with their certificates.
//!
//! A verifier that stops at the first error says "expired" and hides that the name is wrong too. This one asks for each
//! thing on its own, writes all answers down, and only then decides, so that who watches a certificate learns everything
//! in one handshake. [`Verify::Require`] breaks the handshake off, and the peer gets the alert; [`Verify::Record`] goes
//! on, for probes that report on a certificate and send no secret.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::{Clock, Time};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Certificate, SetupError};

/// What to do about a certificate that can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verify {
    /// Refuse the connection.
    #[default]
    Require,
    /// Connect all the same, and tell; see [`Peer::faults`]. Send no secret over such a connection.
    Record,
}

/// What is wrong with a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateFault {
    /// It is no longer valid.
    Expired {
        /// Since when.
        since: Time,
    },
    /// It is not valid yet.
    NotYetValid {
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
    /// Nobody whom we trust has issued it, or the server does not send the certificates in between.
    UnknownIssuer,
    /// It bears the name of an issuer that has not signed it.
    BadSignature,
    /// Something else, in the words of the verifier.
    Other(String),
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { since } => write!(f, "it expired on {since}"),
            Self::NotYetValid { from } => write!(f, "it is not valid before {from}"),
            Self::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "it names no host, so not `{expected}`")
            }
            Self::WrongName { expected, presented } => {
                write!(f, "it is not for `{expected}` but for {}", presented.join(", "))
            }
            Self::UnknownIssuer => {
                f.write_str("its issuer is not trusted, or an intermediate certificate is not sent along")
            }
            Self::BadSignature => f.write_str("the issuer that it names has not signed it"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// Why there is no TLS connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFailure {
    /// The host can't be a name in a certificate.
    BadName(String),
    /// The certificate is not to be trusted: all that is wrong with it.
    Certificate(Vec<CertificateFault>),
    /// The two can't agree, such as on a version of TLS: 1.2 is the oldest we speak.
    Handshake(String),
    /// The connection broke meanwhile.
    Broken(String),
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(f, "`{name}` can't be the name of a certificate"),
            Self::Certificate(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                write!(f, "the certificate is refused: {}", faults.join("; "))
            }
            Self::Handshake(reason) => write!(f, "the handshake failed: {reason}"),
            Self::Broken(reason) => write!(f, "the connection broke during the handshake: {reason}"),
        }
    }
}

/// Who answered.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The certificates as sent, DER, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What its own says; `None` when it can't be read.
    pub certificate: Option<Certificate>,
    /// What is wrong with it; empty when it is trusted.
    pub faults: Vec<CertificateFault>,
    /// Version agreed upon: `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// Cipher suite agreed upon.
    pub cipher_suite: String,
    /// Application protocol agreed upon.
    pub alpn: Option<String>,
}

/// The clock of the context, for rustls.
struct ContextTime(Arc<dyn Clock>);

impl fmt::Debug for ContextTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextTime")
    }
}

impl TimeProvider for ContextTime {
    fn current_time(&self) -> Option<UnixTime> {
        let micros = u64::try_from(self.0.now().micros()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(micros)))
    }
}

/// The set-up that all connections share.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    /// Each connection clones it and puts its own verifier in, which is some reference counts.
    config: ClientConfig,
}

impl Tls {
    pub(super) fn new(extra_roots: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(load_roots(extra_roots)?);
        let nobody = Verifier::new(Verify::Require, roots.clone(), provider.clone());
        let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(ContextTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { provider, roots, config })
    }

    pub(super) fn roots(&self) -> usize {
        self.roots.len()
    }

    /// Agrees on TLS over `stream`.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        options: &super::Tls,
    ) -> Result<(TlsStream<TcpStream>, Peer), TlsFailure> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned()).map_err(|_| TlsFailure::BadName(name.to_owned()))?;
        let verifier = Arc::new(Verifier::new(options.verify, self.roots.clone(), self.provider.clone()));
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(verifier.clone());
        config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();

        let connected = TlsConnector::from(Arc::new(config)).connect(server_name, stream).await;
        let faults = verifier.faults();
        let stream = connected.map_err(|error| failure(&error, faults.clone()))?;
        let peer = peer(&stream, faults);
        Ok((stream, peer))
    }
}

fn peer(stream: &TlsStream<TcpStream>, faults: Vec<CertificateFault>) -> Peer {
    let (_, session) = stream.get_ref();
    let chain: Vec<_> =
        session.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    };
    Peer {
        certificate: chain.first().and_then(|der| Certificate::parse(der)),
        chain,
        faults,
        version,
        cipher_suite: session.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite())).unwrap_or_default(),
        alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
    }
}

fn failure(error: &io::Error, faults: Vec<CertificateFault>) -> TlsFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) if !faults.is_empty() => TlsFailure::Certificate(faults),
        Some(error) => TlsFailure::Handshake(error.to_string()),
        None => TlsFailure::Broken(error.to_string()),
    }
}

fn load_roots(extra: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some roots of the system can't be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra {
        let unreadable = |error: rustls::pki_types::pem::Error| SetupError::Roots {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect();
        let (added, _) = roots.add_parsable_certificates(certificates.map_err(unreadable)?);
        if added == 0 {
            return Err(SetupError::NoRoot { path: path.to_owned() });
        }
    }
    if roots.is_empty() {
        tracing::warn!("no root certificate is trusted: install the package `ca-certificates`");
    }
    Ok(roots)
}

/// Judges one certificate, once.
struct Verifier {
    verify: Verify,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    faults: Mutex<Vec<CertificateFault>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(verify: Verify, roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self { verify, roots, provider, faults: Mutex::default() }
    }

    fn faults(&self) -> Vec<CertificateFault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every fault, each found on its own.
    fn judge(
        &self,
        der: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Vec<CertificateFault> {
        let (parsed, says) = match (ParsedCertificate::try_from(der), Certificate::parse(der)) {
            (Ok(parsed), Some(says)) => (parsed, says),
            (Err(error), _) => return vec![CertificateFault::Other(error.to_string())],
            (Ok(_), None) => return vec![CertificateFault::Other("it is not well encoded".to_owned())],
        };
        let mut faults = Vec::new();
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let (first_s, last_s) = (says.not_before.micros() / 1_000_000, says.not_after.micros() / 1_000_000);
        if now_s > last_s {
            faults.push(CertificateFault::Expired { since: says.not_after });
        }
        if now_s < first_s {
            faults.push(CertificateFault::NotYetValid { from: says.not_before });
        }
        // The verifier looks no further once it has seen the wrong time, so it is asked about the nearest right one.
        let nearest_s = u64::try_from(now_s.min(last_s).max(first_s)).unwrap_or(0);
        let nearest = UnixTime::since_unix_epoch(Duration::from_secs(nearest_s));
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, nearest, algorithms) {
            Ok(()) => {}
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                faults.push(CertificateFault::UnknownIssuer);
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
                faults.push(CertificateFault::BadSignature);
            }
            Err(other) => faults.push(CertificateFault::Other(other.to_string())),
        }
        if verify_server_name(&parsed, name).is_err() {
            faults.push(CertificateFault::WrongName { expected: name.to_str().into_owned(), presented: says.names });
        }
        faults
    }
}

/// What the peer is told about a fault.
fn alert(fault: &CertificateFault) -> CertificateError {
    match fault {
        CertificateFault::Expired { .. } => CertificateError::Expired,
        CertificateFault::NotYetValid { .. } => CertificateError::NotValidYet,
        CertificateFault::WrongName { .. } => CertificateError::NotValidForName,
        CertificateFault::UnknownIssuer => CertificateError::UnknownIssuer,
        CertificateFault::BadSignature => CertificateError::BadSignature,
        CertificateFault::Other(_) => CertificateError::ApplicationVerificationFailure,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let faults = self.judge(end_entity, intermediates, server_name, now);
        let refused = faults.first().filter(|_| self.verify == Verify::Require).map(alert);
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
        match refused {
            Some(error) => Err(rustls::Error::InvalidCertificate(error)),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
