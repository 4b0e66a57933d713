//! TLS towards servers, and what is wrong with their certificates.
//!
//! The verifier writes down all that is wrong ([`chain`](super::chain)), and only then decides, so that who watches a
//! certificate learns everything in one handshake. [`Verify::Require`] breaks the handshake off, and the peer gets the alert;
//! [`Verify::Record`] goes on, for probes that report on a certificate and send no secret. What a server wants of its clients,
//! such as a certificate of theirs, may end the handshake; what it has shown by then is told with the failure.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event::{Clock, Time};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::chain::{CertificateFault, Roots, Shown};
use super::stream::FirstBytes;
use super::{SetupError, tls_words};

/// What to do about a certificate that can't be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verify {
    /// Refuse the connection.
    #[default]
    Require,
    /// Connect all the same, and tell; see [`Peer::shown`]. Send no secret over such a connection.
    Record,
}

/// Why there is no TLS connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsFailure {
    /// The host can't be a name in a certificate.
    BadName(String),
    /// The certificate is not to be trusted: all that is wrong with it.
    Certificate(Vec<CertificateFault>),
    /// The server asks for a certificate of the client, and goes no further without one.
    ClientCertificate,
    /// The server speaks none of the application protocols that were offered (ALPN).
    Protocol(Vec<String>),
    /// It does not speak TLS there, but something else.
    NoTls(&'static str),
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
            Self::ClientCertificate => f.write_str("it wants a certificate of the client, and there is none"),
            Self::Protocol(offered) => {
                write!(f, "it does not speak {} (ALPN), such as a server for HTTP/2 only", offered.join(" or "))
            }
            Self::NoTls(what) => f.write_str(what),
            Self::Handshake(reason) => write!(f, "the TLS handshake failed: {reason}"),
            Self::Broken(reason) => write!(f, "the connection broke during the TLS handshake: {reason}"),
        }
    }
}

/// A connection without TLS, and the certificates that were shown all the same.
pub(super) struct Refused {
    pub(super) failure: TlsFailure,
    pub(super) shown: Option<Box<Shown>>,
}

/// Who answered.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The certificates that it showed.
    pub shown: Shown,
    /// Version agreed upon: `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite agreed upon.
    pub cipher_suite: String,
    /// Application protocol agreed upon.
    pub alpn: Option<String>,
    /// Whether it asked for a certificate of the client.
    pub asks_client: bool,
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
pub(super) struct TlsSetup {
    algorithms: WebPkiSupportedAlgorithms,
    roots: Arc<Roots>,
    /// Each connection clones it and puts its own verifier in, which is some reference counts.
    config: ClientConfig,
}

impl TlsSetup {
    pub(super) fn new(extra_roots: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let roots = Arc::new(load_roots(extra_roots)?);
        let nobody = Verifier::new(Verify::Require, roots.clone(), algorithms);
        let mut config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(ContextTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| SetupError::Tls(tls_words::tls(&error)))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { algorithms, roots, config })
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
    ) -> Result<(TlsStream<FirstBytes>, Peer), Refused> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| Refused { failure: TlsFailure::BadName(name.to_owned()), shown: None })?;
        let verifier = Arc::new(Verifier::new(options.verify, self.roots.clone(), self.algorithms));
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(verifier.clone());
        config.client_auth_cert_resolver = verifier.clone();
        config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();

        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(server_name, FirstBytes::of(stream)).into_fallible().await;
        let (shown, asks_client) = verifier.seen();
        match connected {
            Ok(stream) => {
                let peer = peer(&stream, shown.unwrap_or_default(), asks_client);
                Ok((stream, peer))
            }
            Err((error, stream)) => {
                let faults = shown.as_ref().map(|shown| shown.faults.clone()).unwrap_or_default();
                let failure = match failure(&error, faults, stream.first()) {
                    // What a server says that lacks a certificate of the client differs; that it asked for one does not.
                    TlsFailure::Handshake(_) | TlsFailure::Broken(_) if asks_client => TlsFailure::ClientCertificate,
                    TlsFailure::Protocol(_) => TlsFailure::Protocol(options.alpn.clone()),
                    other => other,
                };
                Err(Refused { failure, shown: shown.map(Box::new) })
            }
        }
    }
}

fn peer(stream: &TlsStream<FirstBytes>, shown: Shown, asks_client: bool) -> Peer {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        // No other is offered.
        _ => "TLSv1.2",
    };
    Peer {
        shown,
        version,
        cipher_suite: session.negotiated_cipher_suite().map(|s| format!("{:?}", s.suite())).unwrap_or_default(),
        alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        asks_client,
    }
}

fn failure(error: &io::Error, faults: Vec<CertificateFault>, first: &[u8]) -> TlsFailure {
    if let Some(what) = tls_words::no_tls(first) {
        return TlsFailure::NoTls(what);
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason))
            if !faults.is_empty() && *reason != CertificateError::BadSignature =>
        {
            TlsFailure::Certificate(faults)
        }
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => TlsFailure::Protocol(Vec::new()),
        Some(error) => TlsFailure::Handshake(tls_words::tls(error)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => TlsFailure::Broken(
            "the server ends it without a word, as one does that speaks no TLS on this port".to_owned(),
        ),
        None => TlsFailure::Broken(error.to_string()),
    }
}

fn load_roots(extra: Option<&Path>) -> Result<Roots, SetupError> {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        let reason = native_words(&error.kind);
        tracing::warn!(reason, "some roots of the system can't be read");
    }
    let mut roots = Roots::none();
    for der in &native.certs {
        if !roots.add(der) {
            tracing::debug!("a root of the system is not well encoded: it is left out");
        }
    }
    if let Some(path) = extra {
        let unreadable = |reason: String| SetupError::Roots { path: path.to_owned(), reason };
        let bytes = read_roots(path).map_err(|error| unreadable(error.to_string()))?;
        let mut added = 0_usize;
        for der in CertificateDer::pem_slice_iter(&bytes) {
            let der = der.map_err(|error| unreadable(pem_words(&error).to_owned()))?;
            added += 1;
            if !roots.add(&der) {
                return Err(unreadable(format!("its certificate number {added} is not well encoded")));
            }
        }
        if added == 0 {
            return Err(SetupError::NoRoot { path: path.to_owned() });
        }
    }
    if roots.len() == 0 {
        tracing::warn!("no root certificate is trusted: install the package `ca-certificates`");
    }
    Ok(roots)
}

/// Longest file of extra roots: all that browsers trust are a quarter of a megabyte.
const ROOTS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The bytes of a file of roots; refused when it is no file, for a pipe or a device may have no end.
fn read_roots(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(ROOTS_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ROOTS_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", ROOTS_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

/// Why a file of the system holds no roots that can be read.
fn native_words(kind: &rustls_native_certs::ErrorKind) -> String {
    use rustls_native_certs::ErrorKind;
    match kind {
        ErrorKind::Io { inner, path } => format!("{}: {inner}", path.display()),
        ErrorKind::Pem(error) => pem_words(error).to_owned(),
        _ => "the system does not hand them out".to_owned(),
    }
}

/// Why a file is no PEM.
fn pem_words(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a block lacks its line `-----END …-----`",
        pem::Error::IllegalSectionStart { .. } => "a line that begins a block is not well written",
        pem::Error::Base64Decode(_) => "a block is not written in base64",
        pem::Error::Io(_) => "reading failed",
        pem::Error::SectionTooLarge => "a block is too long",
        _ => "it is not written as PEM",
    }
}

/// Judges the certificates of one connection, once, and remembers what the server wanted of us.
struct Verifier {
    verify: Verify,
    roots: Arc<Roots>,
    algorithms: WebPkiSupportedAlgorithms,
    shown: Mutex<Option<Shown>>,
    asks_client: AtomicBool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(verify: Verify, roots: Arc<Roots>, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { verify, roots, algorithms, shown: Mutex::default(), asks_client: AtomicBool::new(false) }
    }

    /// What was shown, and whether the server asked for a certificate of the client.
    fn seen(&self) -> (Option<Shown>, bool) {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).take();
        (shown, self.asks_client.load(Ordering::Acquire))
    }
}

/// What the peer is told about a fault.
fn alert(fault: &CertificateFault) -> CertificateError {
    match fault {
        CertificateFault::Expired { .. } => CertificateError::Expired,
        CertificateFault::NotYetValid { .. } => CertificateError::NotValidYet,
        CertificateFault::WrongName { .. } => CertificateError::NotValidForName,
        CertificateFault::SelfSigned
        | CertificateFault::UnknownRoot { .. }
        | CertificateFault::UnknownIssuer { .. }
        | CertificateFault::BadSignature { .. }
        | CertificateFault::OtherKey { .. } => CertificateError::UnknownIssuer,
        CertificateFault::Other(_) => CertificateError::ApplicationVerificationFailure,
    }
}

impl ResolvesClientCert for Verifier {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asks_client.store(true, Ordering::Release);
        None
    }

    fn has_certs(&self) -> bool {
        false
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
        let now = Time::from_secs(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let shown = self.roots.judge(end_entity, intermediates, server_name, now, self.algorithms);
        let refused = shown.faults.first().filter(|_| self.verify == Verify::Require).map(alert);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
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
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
