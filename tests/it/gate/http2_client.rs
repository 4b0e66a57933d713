//! A client of HTTP/2 over TLS that keeps a connection for as long as its server does, with a deadline for every answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::client::DEADLINE;

/// Why a request has no answer that the server has not looked at, and that may be sent again.
pub(super) const UNSEEN: &str = "unseen";

/// A connection.
pub(super) struct Http2Client {
    send: SendRequest<Bytes>,
    port: u16,
}

impl Http2Client {
    /// Connects to a port of loopback, at which `t.example` is, by a certificate of this authority.
    pub(super) async fn connect(authority: &Path, port: u16) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        #[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("t.example").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        drop(tokio::spawn(connection));
        Self { send, port }
    }

    /// Whether the server takes another request on the connection. It is asked before anything is sent.
    pub(super) async fn is_open(&mut self) -> bool {
        let send = self.send.clone();
        timeout(DEADLINE, send.ready()).await.expect("in time").is_ok()
    }

    /// Waits until the server takes no more requests.
    pub(super) async fn closes(&mut self) {
        timeout(DEADLINE, async {
            while self.is_open().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the server to say so");
    }

    /// The status of the answer to one request whose body comes in two pieces; why there is none.
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: Option<Bytes>) -> Result<u16, String> {
        let uri = format!("https://t.example:{}{path}", self.port);
        let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
        let exchange = async {
            let (response, mut stream) = self.send.send_request(request, body.is_none())?;
            if let Some(mut body) = body {
                let rest = body.split_off(body.len() / 2);
                stream.send_data(body, false)?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Err(error) = stream.send_data(rest, true) {
                    // A stream that is over meanwhile says in its answer why.
                    return Err(response.await.err().unwrap_or(error));
                }
            }
            let (head, mut body) = response.await?.into_parts();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            Ok::<_, h2::Error>(head.status.as_u16())
        };
        timeout(DEADLINE, exchange).await.map_err(|_| "too late".to_owned())?.map_err(|error| {
            if error.is_go_away() && error.is_remote() { UNSEEN.to_owned() } else { error.to_string() }
        })
    }

    /// The trailers of the answer to one request.
    pub(super) async fn trailers(&mut self, path: &str) -> HeaderMap {
        let uri = format!("https://t.example:{}{path}", self.port);
        let request = Request::builder().uri(uri).header("te", "trailers").body(()).expect("a request");
        let exchange = async {
            let (response, _) = self.send.send_request(request, true)?;
            let mut body = response.await?.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            Ok::<_, h2::Error>(body.trailers().await?.unwrap_or_default())
        };
        timeout(DEADLINE, exchange).await.expect("in time").expect("an answer")
    }

    /// The body of a reply that has begun.
    pub(super) async fn begin(&mut self, path: &str) -> RecvStream {
        let uri = format!("https://t.example:{}{path}", self.port);
        let request = Request::get(uri).body(()).expect("a request");
        let (response, _) = self.send.send_request(request, true).expect("it takes it");
        timeout(DEADLINE, response).await.expect("in time").expect("a reply").into_body()
    }

    /// Sends a part of a body of so many bytes and no more; the status of the answer to that.
    pub(super) async fn stall(&mut self, method: &str, path: &str, part: Bytes, length: u64) -> Result<u16, String> {
        let uri = format!("https://t.example:{}{path}", self.port);
        let request = Request::builder().method(method).uri(uri).header("content-length", length);
        let request = request.body(()).expect("a request");
        let exchange = async {
            let (response, mut stream) = self.send.send_request(request, false)?;
            stream.send_data(part, false)?;
            Ok::<_, h2::Error>(response.await?.status().as_u16())
        };
        timeout(DEADLINE, exchange).await.map_err(|_| "too late".to_owned())?.map_err(|error| error.to_string())
    }
}
