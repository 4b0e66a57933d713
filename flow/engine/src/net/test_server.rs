//! Real servers on this machine for the tests of `net` and `http`.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use event::Time;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Net, NetOptions};
use crate::clock::SimClock;

/// 2026-11-22T23:00:00Z, the time in these tests.
pub(crate) const NOW: Time = Time::from_secs(1_795_388_400);

/// Years in which a certificate is valid: from the start of the one to the start of the other.
pub(crate) type Years = (i32, i32);

/// The years that [`NOW`] lies in.
pub(crate) const VALID: Years = (2026, 2028);

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    /// A network that trusts it beside the roots of the system, in which it is [`NOW`].
    pub(crate) fn net(&self) -> Net {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(self.0.pem().as_bytes()).expect("written");
        let options = NetOptions { extra_roots: Some(file.path().to_owned()), ..NetOptions::default() };
        Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network")
    }

    /// TLS with a certificate for `name`.
    pub(crate) fn tls(&self, name: &str, (from, to): Years) -> Arc<ServerConfig> {
        self.tls_of(name, (from, to), rustls::ALL_VERSIONS)
    }

    /// The same with these versions only.
    pub(crate) fn tls_of(
        &self,
        name: &str,
        (from, to): Years,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Serves on a free port: each connection gets for its request what `answer` says, and is then closed. With `None` the
/// server stays silent and keeps the connection open.
pub(crate) async fn serve(
    tls: Option<Arc<ServerConfig>>,
    answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                match tls {
                    None => converse(stream, &*answer).await,
                    Some(config) => {
                        // A client that refuses the certificate is what some of the tests are about.
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            converse(stream, &*answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(dyn Fn(&str) -> Option<Vec<u8>> + Sync)) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let Some(bytes) = answer(&String::from_utf8_lossy(&request)) else {
        std::future::pending::<()>().await;
        return;
    };
    // The client may have hung up meanwhile: that is its right.
    if stream.write_all(&bytes).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// An address on which nobody listens.
pub(crate) async fn closed_port() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}
