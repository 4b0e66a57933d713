//! For the tests of sources: real servers on this machine, and a probe read from its table.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use engine::Secrets;
use engine::clock::SimClock;
use engine::net::{Net, NetOptions};
use event::{Span, Time};
use policy::Document;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Asking};
use crate::config::Config;

/// 2026-11-22T23:00:00Z, the time in these tests.
pub(crate) const NOW: Time = Time::from_secs(1_795_388_400);

/// The probe of one table of the policy, asked once; `table` is what follows `name` and `service`.
pub(crate) async fn ask(net: &Net, kind: &str, table: &str) -> Answer {
    ask_by(&SimClock::starting_at(NOW), net, kind, table).await
}

/// The same by another clock.
pub(crate) async fn ask_by(clock: &dyn event::Clock, net: &Net, kind: &str, table: &str) -> Answer {
    let text = format!("[[probe.{kind}]]\nname = \"it\"\nservice = \"shop\"\n{table}\n");
    let mut document = Document::from_text("test", &text);
    let config = Config::of_observers(&mut document, &[policy::Observer::named("local".parse().expect("a name"))]);
    document.provide::<event::ServiceId>(&"shop".parse().expect("a name"));
    document.provide::<event::VantageId>(&"local".parse().expect("a name"));
    if let Err(mistakes) = document.finish() {
        panic!("{}", mistakes.render(false));
    }
    let [declared] = &config.probes[..] else { panic!("one probe") };
    let asking = Asking { net, secrets: &Secrets::default(), clock, timeout: Span::from_secs(5) };
    declared.probe.ask(&asking).await
}

/// A real server, until it is dropped.
pub(crate) struct Program(std::process::Child);

impl Program {
    /// Starts it; it may take a moment before it listens.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a program to its end, which must be a good one.
pub(crate) fn run(program: &str, arguments: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "tests start real programs")]
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until somebody listens there.
pub(crate) async fn listening(address: SocketAddr) {
    for _ in 0..1000 {
        #[expect(clippy::disallowed_methods, reason = "the test waits for the other side")]
        let connected = tokio::net::TcpStream::connect(address).await;
        if connected.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody listens on {address}");
}

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    /// A network that trusts it, in which it is [`NOW`].
    pub(crate) fn net(&self) -> Net {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(self.0.pem().as_bytes()).expect("written");
        let options = NetOptions { extra_roots: Some(file.path().to_owned()), ..NetOptions::default() };
        Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network")
    }

    /// A server with a certificate for `name`, up to that day of 2026 or the year after.
    pub(crate) fn server(
        &self,
        name: &str,
        (year, month, day): (i32, u8, u8),
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(year, month, day));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a private key"),
            )
            .expect("a server");
        Arc::new(config)
    }
}

/// A network that asks this name server.
pub(crate) fn asking(server: SocketAddr) -> Net {
    let options = NetOptions { name_servers: vec![server], ..NetOptions::default() };
    Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network")
}

/// A network without TLS to speak of.
pub(crate) fn plain() -> Net {
    Net::new(&NetOptions::default(), Arc::new(SimClock::starting_at(NOW))).expect("a network")
}

/// A server that says `answer` to whatever comes, or at once when `greeting`.
pub(crate) async fn serve(tls: Option<Arc<ServerConfig>>, greeting: bool, answer: impl Into<Vec<u8>>) -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let answer: Arc<[u8]> = answer.into().into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                match tls {
                    None => talk(stream, greeting, &answer).await,
                    Some(tls) => {
                        // A client that refuses the certificate is part of the test.
                        if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                            talk(stream, greeting, &answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, greeting: bool, answer: &[u8]) {
    let mut heard = [0; 4096];
    if greeting || stream.read(&mut heard).await.is_ok_and(|read| read > 0) {
        // The other side may have gone already.
        drop(stream.write_all(answer).await);
        drop(stream.shutdown().await);
    }
}

/// A port on which nobody listens.
pub(crate) async fn closed_port() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound")
}

/// A name server for one question at a time (RFC 1035, section 4): `shop.example` has two A records, an MX and a TXT;
/// `both.shop.example` is this machine, over IPv4 and IPv6; nothing else exists; `broken.example` makes it fail.
pub(crate) async fn name_server() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = &buffer[..length];
            socket.send_to(&reply(question), from).await.expect("sent");
        }
    });
    address
}

fn reply(query: &[u8]) -> Vec<u8> {
    let name_length = query[12..].iter().position(|&byte| byte == 0).expect("a name") + 1;
    let name = String::from_utf8_lossy(&query[12..12 + name_length]).to_ascii_lowercase();
    let record_type = query[12 + name_length + 1];
    let question = &query[12..12 + name_length + 4];
    let records: Vec<Vec<u8>> = match (name.contains("shop"), record_type) {
        (true, 1) if name.contains("longer") => vec![vec![192, 0, 2, 10]],
        (true, 1) if name.contains("both") => vec![vec![127, 0, 0, 1]],
        (true, 28) if name.contains("both") => vec![std::net::Ipv6Addr::LOCALHOST.octets().to_vec()],
        (true, 1) => vec![vec![192, 0, 2, 1], vec![192, 0, 2, 2]],
        // Preference 10, `mx`, then the name of the question.
        (true, 15) => vec![vec![0, 10, 2, b'm', b'x', 0xc0, 12]],
        (true, 16) => vec![[&[13], b"v=spf1 mx -al".as_slice()].concat()],
        _ => Vec::new(),
    };
    let code = match (name.contains("shop"), name.contains("broken")) {
        (true, _) => 0,
        (_, true) => 2,
        _ => 3,
    };
    let count = u8::try_from(records.len()).expect("few");
    let mut reply = vec![query[0], query[1], 0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    reply.extend(question);
    for data in records {
        reply.extend([0xc0, 12, 0, record_type, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).expect("short")]);
        reply.extend(data);
    }
    reply
}
