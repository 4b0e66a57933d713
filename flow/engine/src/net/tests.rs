use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use event::{Span, Time};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata};
use tokio::net::UdpSocket;

use super::test_server::{Authority, NOW, VALID, closed_port, serve};
use super::{
    CertificateFault, Deadline, DialError, KeyKind, Link, Net, NetOptions, Phase, ResolveFailure, Resolver, Stream,
    Target, TlsFailure, Verify,
};
use crate::clock::SimClock;

fn second() -> Deadline {
    Deadline::within(Span::from_secs(5))
}

fn tls_target(address: SocketAddr, verify: Verify) -> Target {
    Target { addresses: vec![address.ip()], ..Target::tls("shop.example", address.port(), verify) }
}

/// Every bad certificate: told apart when recorded, refused with the same reasons when required.
#[tokio::test]
async fn certificate_faults_are_told_apart() {
    let (known, stranger) = (Authority::new(), Authority::named("Stranger"));
    // Bears the name of the authority that is trusted, but has another key.
    let impostor = Authority::new();
    let net = known.net();
    let expired = || CertificateFault::Expired {
        link: Link::Own,
        since: Time::parse_rfc3339("2026-01-01T00:00:00Z").expect("a time"),
    };
    let early = || CertificateFault::NotYetValid {
        link: Link::Own,
        from: Time::parse_rfc3339("2027-01-01T00:00:00Z").expect("a time"),
    };
    let other = || CertificateFault::WrongName {
        expected: "shop.example".to_owned(),
        presented: vec!["other.example".to_owned()],
    };
    let unknown = || CertificateFault::UnknownIssuer { issuer: "CN=Stranger".to_owned() };
    for (authority, name, years, faults) in [
        (&known, "shop.example", VALID, vec![]),
        (&known, "shop.example", (2025, 2026), vec![expired()]),
        (&known, "shop.example", (2027, 2028), vec![early()]),
        (&known, "other.example", VALID, vec![other()]),
        (&stranger, "shop.example", VALID, vec![unknown()]),
        (
            &impostor,
            "shop.example",
            VALID,
            vec![CertificateFault::OtherKey { link: Link::Own, issuer: "CN=Test Authority".to_owned() }],
        ),
        (&known, "other.example", (2025, 2026), vec![expired(), other()]),
        (&stranger, "other.example", (2025, 2026), vec![expired(), unknown(), other()]),
    ] {
        let address = serve(Some(authority.tls(name, years)), |_| None).await;
        let dialed = net.dial(&tls_target(address, Verify::Record), second()).await.expect("recorded, not refused");
        let peer = dialed.peer.expect("a peer");
        assert_eq!(peer.shown.faults, faults, "{name} {years:?}");
        let certificate = peer.shown.certificate.expect("a certificate");
        assert_eq!(certificate.names, [name]);

        let required = net.dial(&tls_target(address, Verify::Require), second()).await;
        match required {
            Ok(dialed) => assert!(faults.is_empty(), "{name} {years:?} accepted: {dialed:?}"),
            Err(error) => {
                assert_eq!(error.phase(), Phase::Tls);
                let DialError::Tls { failure, shown: Some(shown), .. } = error else { panic!("{error}") };
                assert_eq!(failure, TlsFailure::Certificate(faults));
                assert_eq!(shown.certificate, Some(certificate), "what was shown is told with the failure");
            }
        }
    }
}

#[tokio::test]
async fn the_peer_is_described_and_never_remembered() {
    let authority = Authority::new();
    let net = authority.net();
    let address = serve(Some(authority.tls("shop.example", VALID)), |_| None).await;
    // A resumed session would show the certificate of the time before.
    for _ in 0..3 {
        let dialed = net.dial(&tls_target(address, Verify::Require), second()).await.expect("connected");
        assert_eq!(dialed.remote, address);
        let peer = dialed.peer.expect("a peer");
        assert_eq!((peer.version, peer.alpn.as_deref()), ("TLSv1.3", Some("http/1.1")));
        assert_eq!(peer.cipher_suite, "TLS13_AES_256_GCM_SHA384");
        let certificate = peer.shown.certificate.expect("a certificate");
        assert_eq!(certificate.not_after, Time::parse_rfc3339("2028-01-01T00:00:00Z").expect("a time"));
        assert_eq!(peer.shown.first_to_end.map(|first| first.until), Some(certificate.not_after));
        assert_eq!((certificate.key, certificate.key_bits), (KeyKind::Ecdsa, 256));
        assert!(certificate.issuer.contains("CN=Test Authority"), "{}", certificate.issuer);
        assert!(!certificate.serial.is_empty());
        let Stream::Tls(stream) = dialed.stream else { panic!("not TLS") };
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(dialed.phases.tls > Span::ZERO && dialed.phases.connect > Span::ZERO);
    }
    let old = serve(Some(authority.tls_of("shop.example", VALID, &[&rustls::version::TLS12])), |_| None).await;
    let dialed = net.dial(&tls_target(old, Verify::Require), second()).await.expect("1.2 is fine");
    assert_eq!(dialed.peer.expect("a peer").version, "TLSv1.2");
}

#[tokio::test]
async fn failures_name_their_phase() {
    let net = Authority::new().net();
    let short = || Deadline::within(Span::from_millis(200));

    let address = closed_port().await;
    let refused = net.dial(&Target::tcp(address.ip().to_string(), address.port()), second()).await;
    assert_eq!(refused.expect_err("closed"), DialError::Refused { address });

    // A server that speaks TLS 1.1 at most answers with this alert (RFC 8446, section 6.2: protocol_version).
    let ancient = raw_server(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]).await;
    let plain = raw_server(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let hangs_up = raw_server(b"").await;
    for (address, expected) in
        [(ancient, "neither TLS 1.2 nor TLS 1.3"), (plain, "speaks SSH, not TLS"), (hangs_up, "ends it without a word")]
    {
        let error = net.dial(&tls_target(address, Verify::Record), second()).await.expect_err("no TLS");
        assert_eq!(error.phase(), Phase::Tls);
        assert!(error.to_string().contains(expected), "{error}");
    }

    let silent = serve(None, |_| None).await;
    let late = net.dial(&tls_target(silent, Verify::Record), short()).await.expect_err("silent");
    assert_eq!(late, DialError::Timeout { phase: Phase::Tls, within: Span::from_millis(200) });

    let unknown = net.dial(&Target::tcp("no such name", 80), second()).await.expect_err("no name");
    assert_eq!(unknown.phase(), Phase::Dns);
}

/// Reads a little and answers with these bytes, whatever it was asked.
async fn raw_server(bytes: &'static [u8]) -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _read = stream.read(&mut asked).await.expect("readable");
            stream.write_all(bytes).await.expect("writable");
        }
    });
    address
}

#[tokio::test]
async fn another_address_helps_out() {
    let net = Authority::new().net();
    let address = serve(None, |_| None).await;
    let local: IpAddr = address.ip();
    let nobody: Vec<IpAddr> = ["127.0.0.2", "::1", "192.0.2.1"].iter().map(|ip| ip.parse().expect("an ip")).collect();
    for first in &nobody {
        let target = Target { addresses: vec![*first, local], ..Target::tcp("shop.example", address.port()) };
        assert_eq!(net.dial(&target, second()).await.expect("the second answers").remote, address, "{first}");
    }
    let closed = closed_port().await;
    let target = Target { addresses: vec![nobody[0], local], ..Target::tcp("shop.example", closed.port()) };
    assert!(matches!(net.dial(&target, second()).await, Err(DialError::Refused { .. })));
}

/// Answers for `shop.example`, in the ways that a name server can.
async fn name_server() -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).expect("a question");
            let query = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
            answer.add_query(query.clone());
            let name = query.name().to_string();
            let data = match (name.as_str(), query.query_type()) {
                ("shop.example.", RecordType::A) => vec![RData::A(rdata::A::new(192, 0, 2, 7))],
                ("shop.example.", RecordType::AAAA) => {
                    vec![RData::AAAA(rdata::AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))]
                }
                ("shop.example.", RecordType::MX) => {
                    let mx =
                        |preference, host: &str| RData::MX(rdata::MX::new(preference, host.parse().expect("a name")));
                    vec![mx(20, "b.example."), mx(10, "a.example.")]
                }
                ("silent.example.", _) => continue,
                ("refused.example.", _) => {
                    answer.metadata.response_code = ResponseCode::Refused;
                    vec![]
                }
                ("shop.example.", _) => vec![],
                _ => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    vec![]
                }
            };
            for data in data {
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            socket.send_to(&answer.to_vec().expect("encodes"), peer).await.expect("sent");
        }
    });
    address
}

#[tokio::test]
async fn names_are_resolved_and_their_failures_told_apart() {
    let server = name_server().await;
    let resolver = Resolver::watching(&[server]).expect("a resolver");
    let addresses = resolver.addresses("shop.example", second()).await.expect("resolves");
    assert_eq!(addresses, ["2001:db8::7", "192.0.2.7"].map(|ip| ip.parse::<IpAddr>().expect("an ip")), "IPv6 first");
    let literal = Deadline::within(Span::from_millis(1));
    assert_eq!(
        resolver.addresses("::1", literal).await.expect("no question"),
        ["::1".parse::<IpAddr>().expect("an ip")]
    );
    let mail = resolver.records("shop.example", RecordType::MX, second()).await.expect("resolves");
    assert_eq!(
        (mail.records, mail.server),
        (["10 a.example.", "20 b.example."].map(str::to_owned).to_vec(), Some(server))
    );

    for (name, failure) in [
        ("gone.example", ResolveFailure::NoSuchName),
        ("refused.example", ResolveFailure::Refused("REFUSED".to_owned())),
        ("silent.example", ResolveFailure::Timeout),
        ("not a name!..", ResolveFailure::BadName),
    ] {
        let error = resolver.records(name, RecordType::A, Deadline::within(Span::from_millis(800))).await;
        assert_eq!(error.expect_err("no answer").failure, failure, "{name}");
    }
    let none = resolver.records("shop.example", RecordType::TXT, second()).await.expect_err("no such record");
    assert_eq!((none.failure, none.server), (ResolveFailure::NoRecords, Some(server)));
}

#[tokio::test]
async fn a_network_asks_the_servers_it_was_given() {
    let options = NetOptions { name_servers: vec![name_server().await], ..NetOptions::default() };
    let net = Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network");
    let late = net.dial(&Target::tcp("silent.example", 80), Deadline::within(Span::from_millis(300))).await;
    assert_eq!(late.expect_err("silent"), DialError::Timeout { phase: Phase::Dns, within: Span::from_millis(300) });
    let gone = net.dial(&Target::tcp("gone.example", 80), second()).await.expect_err("gone");
    assert_eq!(gone.to_string(), "the name `gone.example` does not exist (NXDOMAIN)");
}

#[test]
fn unusable_roots_are_refused() {
    let clock = Arc::new(SimClock::starting_at(NOW));
    for (text, words) in [
        ("", "no certificate that can be a root"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "number 1 is not well encoded"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "a block lacks its line"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not written in base64"),
    ] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let options = NetOptions { extra_roots: Some(file.path().to_owned()), ..NetOptions::default() };
        let error = Net::new(&options, clock.clone()).expect_err("no root in it").to_string();
        assert!(error.contains(words), "{error}");
    }
    for (path, words) in [("/nonexistent/ca.pem", "No such file"), ("/dev/zero", "not a file"), ("/", "not a file")] {
        let options = NetOptions { extra_roots: Some(path.into()), ..NetOptions::default() };
        let error = Net::new(&options, clock.clone()).expect_err("no file").to_string();
        assert!(error.contains(path) && error.contains(words), "{error}");
    }
}

#[test]
fn targets_read_well() {
    assert_eq!(Target::tcp("[::1]", 80), Target::tcp("::1", 80));
    assert_eq!(Target::tcp("::1", 80).to_string(), "[::1]:80");
    assert_eq!(Target::tcp("shop.example", 443).to_string(), "shop.example:443");
}
