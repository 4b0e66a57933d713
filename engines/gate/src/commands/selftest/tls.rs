//! The battery of TLS: which handshakes a gate of this command's own makes, and which certificates it takes for good.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BufMut as _;
use engine::Context;
use event::{Span, Time};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs, version};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Found, WITHIN};
use crate::codec::head::{HeadLimits, HeadParser};
use crate::message::Reply;
use crate::pump::Sink as _;
use crate::tls::{Loaded, Shown, server_config};
use crate::wire::Wire;

/// The site of the battery.
const SITE: &str = "t.example";
/// A day.
const DAY: Span = Span::from_days(1);

/// A certificate that has signed itself, as the gate takes one.
pub(super) struct Certificate {
    loaded: Loaded,
    roots: RootCertStore,
    pem: String,
}

impl Certificate {
    /// For this name, valid from and until then.
    pub(super) fn of(name: &str, from: Time, until: Time) -> Result<Self, String> {
        let second = |time: Time| {
            let seconds = time.micros().div_euclid(1_000_000);
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
        };
        let failed = |error: rcgen::Error| format!("no certificate can be made: {error}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        (parameters.not_before, parameters.not_after) = (second(from)?, second(until)?);
        let certificate = parameters.self_signed(&key).map_err(failed)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).map_err(|error| error.to_string())?;
        let pem = certificate.pem();
        let loaded = Loaded::of(pem.as_bytes(), key.serialize_pem().as_bytes(), [SITE].into_iter())?;
        Ok(Self { loaded, roots, pem })
    }

    /// What a gate serves that has no other.
    pub(super) fn config(&self) -> Option<Arc<rustls::ServerConfig>> {
        let sites = HashMap::from([(SITE.to_owned(), self.loaded.key())]);
        server_config(sites, Arc::default(), false, None)
    }
}

/// What the gate makes of certificates that browsers do not take, and of one that they do.
pub(super) fn certificates(now: Time) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for (name, domain, from, until, expected) in [
        ("certificate: good", SITE, now - DAY, now + DAY, "good"),
        ("certificate: expired", SITE, now - DAY - DAY, now - DAY, "it has expired"),
        ("certificate: not valid yet", SITE, now + DAY, now + DAY + DAY, "it is valid from"),
        ("certificate: of another name", "other.example", now - DAY, now + DAY, "it is not for t.example"),
    ] {
        let got = match Certificate::of(domain, from, until)?.loaded.shown(now) {
            Shown::Good { .. } => "good".to_owned(),
            Shown::Nothing => "nothing".to_owned(),
            Shown::Wrong { why, .. } => why,
        };
        found.push(Found {
            name: name.to_owned(),
            passed: got.starts_with(expected),
            expected: expected.to_owned(),
            got,
        });
    }
    let (one, other) =
        (Certificate::of(SITE, now, now + DAY)?, KeyPair::generate().map_err(|error| error.to_string())?);
    let mixed = Loaded::of(one.pem.as_bytes(), other.serialize_pem().as_bytes(), [SITE].into_iter());
    found.push(Found {
        name: "certificate: with another key".to_owned(),
        expected: "refused".to_owned(),
        got: if mixed.is_err() { "refused" } else { "taken" }.to_owned(),
        passed: mixed.is_err(),
    });
    Ok(found)
}

/// A handshake that a client of today makes.
struct Handshake {
    name: &'static str,
    versions: &'static [&'static SupportedProtocolVersion],
    server_name: &'static str,
    host: &'static str,
    /// The status of a request in it; `None` where there is to be no handshake.
    expected: Option<u16>,
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

const HANDSHAKES: [Handshake; 5] = [
    Handshake { name: "TLS 1.3", versions: &[&version::TLS13], server_name: SITE, host: SITE, expected: Some(200) },
    Handshake { name: "TLS 1.2", versions: &[&version::TLS12], server_name: SITE, host: SITE, expected: Some(200) },
    Handshake {
        name: "TLS: another host than in the handshake",
        versions: BOTH,
        server_name: SITE,
        host: "u.example",
        expected: Some(421),
    },
    Handshake {
        name: "TLS: a name without a site",
        versions: BOTH,
        server_name: "u.example",
        host: "u.example",
        expected: None,
    },
    Handshake {
        name: "TLS: an address for a name",
        versions: BOTH,
        server_name: "127.0.0.1",
        host: SITE,
        expected: None,
    },
];

/// A hello that no client of today sends, which is to be answered by an alert (RFC 8446, section 6).
const OLD_HELLOS: [(&str, [u8; 2], &[u16]); 7] = [
    ("SSL 3", [3, 0], &[0x002f, 0x000a]),
    ("TLS 1.0", [3, 1], &[0xc013, 0xc014, 0x002f]),
    ("TLS 1.1", [3, 2], &[0xc013, 0xc014, 0x002f]),
    ("TLS: suites of RC4 and 3DES", [3, 3], &[0x0005, 0x000a, 0xc011, 0xc012]),
    ("TLS: suites of CBC", [3, 3], &[0xc009, 0xc00a, 0xc013, 0xc014, 0xc023, 0xc027]),
    ("TLS: suites without forward secrecy", [3, 3], &[0x002f, 0x009c, 0x009d]),
    ("TLS: suites without encryption or certificate", [3, 3], &[0x0001, 0x0002, 0xc018, 0x006d]),
];

/// Asks the gate at this address.
pub(super) async fn battery(gate: SocketAddr, certificate: &Certificate, means: &Context) -> Vec<Found> {
    let mut found = Vec::new();
    for handshake in &HANDSHAKES {
        let got = timeout(WITHIN, ask(gate, certificate, handshake, b"http/1.1")).await.ok().flatten();
        let words = |status: Option<u16>| status.map_or("no handshake".to_owned(), |status| status.to_string());
        found.push(Found {
            name: handshake.name.to_owned(),
            expected: words(handshake.expected),
            got: words(got),
            passed: got == handshake.expected,
        });
    }
    for (offered, expected) in [(&b"h2"[..], "h2"), (b"http/1.1", "http/1.1"), (b"acme-tls/1", "no handshake")] {
        let agreed = timeout(WITHIN, agree(gate, certificate, offered)).await.ok().flatten();
        let got = agreed.unwrap_or_else(|| "no handshake".to_owned());
        let name = format!("TLS: {} offered", String::from_utf8_lossy(offered));
        found.push(Found { name, passed: got == expected, expected: expected.to_owned(), got });
    }
    for (name, version, suites) in OLD_HELLOS {
        let got = timeout(WITHIN, greet(gate, version, suites, means)).await.unwrap_or("no reply");
        found.push(Found {
            name: name.to_owned(),
            expected: "alert".to_owned(),
            got: got.to_owned(),
            passed: got == "alert",
        });
    }
    found
}

async fn connect(gate: SocketAddr) -> Option<TcpStream> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a gate of this very command is asked, and the caller bounds the time"
    )]
    let connecting = TcpStream::connect(gate);
    connecting.await.ok()
}

async fn shake(
    gate: SocketAddr,
    certificate: &Certificate,
    versions: &[&'static SupportedProtocolVersion],
    server_name: &str,
    protocol: &[u8],
) -> Option<tokio_rustls::client::TlsStream<TcpStream>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).ok()?;
    let mut config = builder.with_root_certificates(certificate.roots.clone()).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(server_name.to_owned()).ok()?;
    TlsConnector::from(Arc::new(config)).connect(name, connect(gate).await?).await.ok()
}

/// The status of a request over such a handshake.
async fn ask(gate: SocketAddr, certificate: &Certificate, handshake: &Handshake, protocol: &[u8]) -> Option<u16> {
    let Handshake { versions, server_name, host, .. } = handshake;
    let mut wire = Wire::new(shake(gate, certificate, versions, server_name, protocol).await?);
    wire.head().put_slice(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    poll_fn(|cx| wire.poll_send(cx)).await.ok()?;
    let (mut parser, mut reply) = (HeadParser::default(), Reply::default());
    poll_fn(|cx| wire.poll_reply(cx, &mut parser, HeadLimits::default(), false, &mut reply)).await.ok()?;
    Some(reply.status)
}

/// The protocol that the gate agrees to.
async fn agree(gate: SocketAddr, certificate: &Certificate, protocol: &[u8]) -> Option<String> {
    let stream = shake(gate, certificate, BOTH, SITE, protocol).await?;
    stream.get_ref().1.alpn_protocol().map(|agreed| String::from_utf8_lossy(agreed).into_owned())
}

/// What comes back to a hello of this version with these suites.
async fn greet(gate: SocketAddr, version: [u8; 2], suites: &[u16], means: &Context) -> &'static str {
    let mut random = [0; 32];
    means.random.fill(&mut random);
    let Some(mut stream) = connect(gate).await else { return "no connection" };
    if stream.write_all(&hello(version, suites, random)).await.is_err() {
        return "no connection";
    }
    let mut kind = [0];
    match stream.read_exact(&mut kind).await {
        Ok(_) if kind == [0x15] => "alert",
        Ok(_) => "handshake",
        Err(_) => "closed",
    }
}

/// A hello (RFC 5246, section 7.4.1.2) that names the site.
fn hello(version: [u8; 2], suites: &[u16], random: [u8; 32]) -> Vec<u8> {
    let short = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()[..], bytes].concat();
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let name = short(&[&[0][..], &short(SITE.as_bytes())].concat());
    let extensions = [
        &[0, 0][..],
        &short(&name),
        // Groups: P-256 and X25519; points uncompressed; signatures of the kinds of then and now.
        &[0, 10],
        &short(&short(&[0, 23, 0, 29])),
        &[0, 11],
        &short(&[1, 0]),
        &[0, 13],
        &short(&short(&[4, 3, 4, 1, 2, 3, 2, 1])),
    ]
    .concat();
    let body = [&version[..], &random, &[0], &short(&suites), &[1, 0], &short(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 3, u8::from(version[1] != 0)][..], &short(&message)].concat()
}
