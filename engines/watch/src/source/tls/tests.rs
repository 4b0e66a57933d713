use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use engine::clock::{SimClock, SystemClock};
use engine::net::{Net, NetOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use store::Reading;
use tempfile::TempDir;

use crate::source::testing::{Authority, NOW, Program, ask, ask_by, closed_port, listening, run, serve};
use crate::source::{Answer, Level};

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Everything that is wrong with a certificate is told in one answer.
#[tokio::test]
async fn certificates_are_judged_whole() {
    let authority = Authority::new();
    let net = authority.net();
    let all = rustls::ALL_VERSIONS;
    let good = serve(Some(authority.server("127.0.0.1", (2027, 6, 1), all)), false, "").await;
    let soon = serve(Some(authority.server("127.0.0.1", (2026, 12, 1), all)), false, "").await;
    let late = serve(Some(authority.server("other.example", (2026, 11, 1), all)), false, "").await;
    let old = serve(Some(authority.server("127.0.0.1", (2027, 6, 1), TLS12)), false, "").await;
    let strange = serve(Some(Authority::new().server("127.0.0.1", (2027, 6, 1), all)), false, "").await;
    let plain = serve(None, false, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let cases = [
        (good, "", Reading::Up, Some(190), vec!["TLSv1.3"]),
        (
            good,
            "certificate_days = 365",
            Reading::Degraded,
            Some(190),
            vec!["it expires in 190 days, on 2027-06-01T00:00:00Z, less than 365 days"],
        ),
        (good, "server_name = \"shop.example\"", Reading::Down, Some(190), vec!["not for `shop.example`"]),
        // Its customers still connect.
        (
            soon,
            "",
            Reading::Degraded,
            Some(8),
            vec!["it expires in 8 days, on 2026-12-01T00:00:00Z, less than 14 days"],
        ),
        (
            soon,
            "server_name = \"shop.example\"",
            Reading::Down,
            Some(8),
            vec!["it expires in 8 days, on 2026-12-01T00:00:00Z, less than 14 days", "not for `shop.example`"],
        ),
        (soon, "certificate_days = 7", Reading::Up, Some(8), vec![]),
        (late, "", Reading::Down, Some(-22), vec!["it expired on 2026-11-01", "not for `127.0.0.1`"]),
        (old, "", Reading::Up, Some(190), vec!["TLSv1.2"]),
        (old, "at_least = \"1.3\"", Reading::Down, Some(190), vec!["TLSv1.2 was agreed upon, at least TLS 1.3"]),
        (strange, "", Reading::Down, Some(190), vec!["it is not signed by the issuer that it names"]),
        (plain, "", Reading::Down, None, vec!["this port speaks plain HTTP, not HTTPS"]),
    ];
    for (address, keys, reading, days, texts) in cases {
        let answer = ask(&net, "tls", &format!("address = \"{address}\"\n{keys}")).await;
        assert_eq!((answer.reading, answer.value), (reading, days), "{keys}: {}", answer.text);
        let left = answer.certificate.map(|expiry| expiry.time().since(NOW).secs().div_euclid(86_400));
        assert_eq!(left, days, "{keys}");
        assert_eq!(answer.phases.tls > 0, days.is_some(), "{keys}: {:?}", answer.phases);
        assert_eq!((answer.phases.first_byte, answer.phases.body), (0, 0), "nothing was asked");
        for text in texts {
            assert!(answer.text.contains(text), "`{text}` in: {}", answer.text);
        }
    }
}

/// A certificate that is about to expire is a finding, until it is renewed; absence objectives may name it.
#[tokio::test]
async fn a_certificate_that_expires_soon_is_a_finding() {
    let authority = Authority::new();
    let net = authority.net();
    let all = rustls::ALL_VERSIONS;
    let soon = serve(Some(authority.server("127.0.0.1", (2026, 12, 1), all)), false, "").await;
    let late = serve(Some(authority.server("127.0.0.1", (2026, 11, 1), all)), false, "").await;
    for (address, keys, expect) in [
        (soon, "", Some(Level::High)),
        (soon, "certificate_days = 8", Some(Level::Low)),
        (soon, "certificate_days = 0", None),
        (late, "", Some(Level::High)),
    ] {
        let answer = ask(&net, "tls", &format!("address = \"{address}\"\n{keys}")).await;
        let found = answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == "certificate-expiring");
        assert_eq!(found.map(|symptom| symptom.level), expect, "{keys}: {}", answer.text);
    }
}

/// A day: year, month, day.
type Day = (i32, u8, u8);

const LONG_AGO: Day = (2020, 1, 1);
const FAR: Day = (2040, 1, 1);
/// 299 days from [`NOW`].
const LEAF_END: Day = (2027, 9, 18);

/// Certificates in files, as OpenSSL serves them.
struct Shelf(TempDir);

fn params(subject: &str, (from, until): (Day, Day), authority: bool) -> CertificateParams {
    let names = if authority { Vec::new() } else { vec!["127.0.0.1".to_owned()] };
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, subject);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let day = |(year, month, day): Day| date_time_ymd(year, month, day);
    (params.not_before, params.not_after) = (day(from), day(until));
    params
}

type Signer = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn root(subject: &str, until: Day) -> Signer {
    CertifiedIssuer::self_signed(params(subject, (LONG_AGO, until), true), key()).expect("a root")
}

fn intermediate(subject: &str, until: Day, key: KeyPair, issuer: &Issuer<'_, KeyPair>) -> Signer {
    CertifiedIssuer::signed_by(params(subject, (LONG_AGO, until), true), key, issuer).expect("an intermediate")
}

impl Shelf {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Puts a chain there: a certificate for 127.0.0.1, then what is sent along.
    fn put(&self, name: &str, valid: (Day, Day), issuer: &Issuer<'_, KeyPair>, sent: &[&Signer]) {
        let key = key();
        let leaf = params("leaf", valid, false).signed_by(&key, issuer).expect("a certificate");
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("written");
        fs::write(self.path(&format!("{name}.pem")), leaf.pem()).expect("written");
        let sent: String = sent.iter().map(|signer| signer.pem()).collect();
        fs::write(self.path(&format!("{name}.chain")), sent).expect("written");
    }

    /// Serves it with OpenSSL.
    async fn serve(&self, name: &str, options: &[&str]) -> (SocketAddr, Program) {
        let address = closed_port().await;
        let (pem, key, chain) =
            (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")), self.path(&format!("{name}.chain")));
        let at = address.to_string();
        let mut arguments = vec!["s_server", "-accept", &at, "-cert", &pem, "-key", &key, "-www"];
        if fs::metadata(&chain).is_ok_and(|file| file.len() > 0) {
            arguments.extend(["-cert_chain", &chain]);
        }
        arguments.extend(options);
        let server = Program::start("openssl", &arguments);
        listening(address).await;
        (address, server)
    }

    /// A network that trusts this, in which it is [`NOW`].
    fn net(&self, trusted: &[&Signer]) -> Net {
        let path = self.path("trusted");
        fs::write(&path, trusted.iter().map(|signer| signer.pem()).collect::<String>()).expect("written");
        let options = NetOptions { extra_roots: Some(PathBuf::from(path)), ..NetOptions::default() };
        Net::new(&options, Arc::new(SimClock::starting_at(NOW))).expect("a network")
    }
}

fn level(answer: &Answer) -> Option<Level> {
    let found = answer.symptoms.iter().find(|symptom| symptom.finding.as_str() == "certificate-expiring");
    found.map(|symptom| symptom.level)
}

/// What locks the clients out is the first end of the chain that they use, whichever certificate it is; and it is named.
#[tokio::test]
async fn the_chain_lasts_as_long_as_its_clients_can_use_it() {
    let shelf = Shelf::new();
    let authority = root("Root", FAR);
    let strange = root("Strange root", FAR);
    let stale = root("Stale root", (2026, 11, 1));
    let soon = intermediate("Soon", (2026, 11, 27), key(), &authority);
    let over = intermediate("Over", (2026, 11, 20), key(), &authority);
    let between = intermediate("Between", FAR, key(), &authority);
    let hostile = intermediate("\u{1b}[31mred\u{202e}", (2026, 11, 27), key(), &authority);
    // The same authority with two certificates for its one key, as after its renewal.
    let pem = key().serialize_pem();
    let again = || KeyPair::from_pem(&pem).expect("a key");
    let old = intermediate("Renewed", (2026, 11, 27), again(), &authority);
    let new = intermediate("Renewed", FAR, again(), &authority);
    let year = (LONG_AGO, LEAF_END);
    shelf.put("good", year, &between, &[&between]);
    shelf.put("soon", year, &soon, &[&soon]);
    shelf.put("over", year, &over, &[&over]);
    // Issued after the end of what vouches for it: at no instant were both valid.
    shelf.put("never", ((2026, 11, 21), LEAF_END), &over, &[&over]);
    shelf.put("both-over", (LONG_AGO, (2026, 11, 1)), &over, &[&over]);
    shelf.put("renewed", year, &old, &[&old, &new]);
    shelf.put("stale", year, &stale, &[]);
    shelf.put("strange", year, &strange, &[&strange]);
    shelf.put("missing", year, &between, &[]);
    shelf.put("hostile", year, &hostile, &[&hostile]);
    let net = shelf.net(&[&authority, &stale]);
    let cases = [
        ("good", Reading::Up, Some(299), Some(Level::Low), "TLSv1.3 with a valid certificate"),
        (
            "soon",
            Reading::Degraded,
            Some(4),
            Some(Level::High),
            "certificate: the intermediate certificate `CN=Soon` of its chain expires in 4 days, on 2026-11-27T00:00:00Z, \
             less than 30 days",
        ),
        (
            "over",
            Reading::Down,
            Some(-3),
            Some(Level::High),
            "certificate: the intermediate certificate `CN=Over` of its chain expired on 2026-11-20T00:00:00Z",
        ),
        ("never", Reading::Down, Some(-3), Some(Level::High), "`CN=Over` of its chain expired on 2026-11-20T00:00:00Z"),
        (
            "both-over",
            Reading::Down,
            Some(-22),
            Some(Level::High),
            "certificate: it expired on 2026-11-01T00:00:00Z; certificate: the intermediate certificate `CN=Over` of",
        ),
        ("renewed", Reading::Up, Some(299), Some(Level::Low), "with a valid certificate"),
        (
            "stale",
            Reading::Down,
            Some(-22),
            Some(Level::High),
            "the root certificate `CN=Stale root` of its chain expired",
        ),
        ("strange", Reading::Down, Some(299), Some(Level::Low), "leads to `CN=Strange root`, which is not trusted"),
        (
            "missing",
            Reading::Down,
            Some(299),
            Some(Level::Low),
            "the certificate of `CN=Between` is neither sent along",
        ),
        ("hostile", Reading::Degraded, Some(4), Some(Level::High), "`CN=\\u{1b}[31mred\\u{202e}` of its chain expires"),
    ];
    for (name, reading, days, found, text) in cases {
        let (address, _server) = shelf.serve(name, &[]).await;
        let answer = ask(&net, "tls", &format!("address = \"{address}\"\ncertificate_days = 30")).await;
        assert_eq!((answer.reading, answer.value), (reading, days), "{name}: {}", answer.text);
        assert_eq!(level(&answer), found, "{name}: {}", answer.text);
        assert!(answer.text.contains(text), "{name}: `{text}` in: {}", answer.text);
        assert!(!answer.text.chars().any(char::is_control), "{name}: {:?}", answer.text);
        let fetched = ask(&net, "http", &format!("url = \"https://{address}/\"\ncertificate_days = 30")).await;
        assert_eq!((fetched.reading, level(&fetched)), (reading, found), "{name}: {}", fetched.text);
        assert_eq!(fetched.certificate, answer.certificate, "{name}");
    }
}

/// What a server wants of its clients hides nothing of its certificate.
#[tokio::test]
async fn demanding_servers_show_their_certificate() {
    let shelf = Shelf::new();
    let authority = root("Root", FAR);
    shelf.put("good", (LONG_AGO, LEAF_END), &authority, &[]);
    shelf.put("soon", (LONG_AGO, (2026, 11, 27)), &authority, &[]);
    shelf.put("over", (LONG_AGO, (2026, 11, 20)), &authority, &[]);
    let net = shelf.net(&[&authority]);
    let (client, http2) = (["-Verify", "1"].as_slice(), ["-alpn", "h2"].as_slice());
    let old_client = ["-Verify", "1", "-tls1_2"].as_slice();
    let wants = "it asks for a certificate of the client";
    let cases = [
        ("good", client, Reading::Up, Some(Level::Low), wants),
        ("good", old_client, Reading::Up, Some(Level::Low), wants),
        ("soon", old_client, Reading::Degraded, Some(Level::High), wants),
        ("over", client, Reading::Down, Some(Level::High), "it expired on 2026-11-20T00:00:00Z"),
        ("over", old_client, Reading::Down, Some(Level::High), "it expired on 2026-11-20T00:00:00Z"),
        ("good", http2, Reading::Up, Some(Level::Low), "with a valid certificate"),
    ];
    for (name, options, reading, found, text) in cases {
        let (address, _server) = shelf.serve(name, options).await;
        let answer = ask(&net, "tls", &format!("address = \"{address}\"")).await;
        assert_eq!((answer.reading, level(&answer)), (reading, found), "{name} {options:?}: {}", answer.text);
        assert!(answer.text.contains(text), "{name} {options:?}: {}", answer.text);
    }
    let cases = [
        ("good", client, Some(Level::Low), "it wants a certificate of the client (alert certificate_required)"),
        ("soon", old_client, Some(Level::High), "it wants a certificate of the client, and there is none"),
        ("good", http2, Some(Level::Low), "it does not speak http/1.1 (ALPN), such as a server for HTTP/2 only"),
        ("over", http2, Some(Level::High), "it does not speak http/1.1"),
    ];
    for (name, options, found, text) in cases {
        let (address, _server) = shelf.serve(name, options).await;
        let table = format!("url = \"https://{address}/\"\ncertificate_days = 14");
        let answer = ask(&net, "http", &table).await;
        assert_eq!(answer.reading, Reading::Down, "{name} {options:?}: {}", answer.text);
        assert!(answer.text.contains(text), "{name} {options:?}: {}", answer.text);
        // Over TLS 1.3 the connection is there before the server says that it wants more.
        assert_eq!(level(&answer), found, "{name} {options:?}");
    }
    let ancient = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let (address, _server) = shelf.serve("good", &ancient).await;
    let answer = ask(&net, "tls", &format!("address = \"{address}\"")).await;
    assert_eq!((answer.reading, level(&answer)), (Reading::Down, None), "nothing is known of it: {}", answer.text);
    assert!(answer.text.contains("it speaks neither TLS 1.2 nor TLS 1.3"), "{}", answer.text);
}

/// A certificate that replaces a trusted one of the same name is told as what it is: one that signed itself, one of an
/// authority with a new key, or one that nobody of that name has signed.
#[tokio::test]
async fn a_renewed_certificate_is_told_from_a_forged_one() {
    let shelf = Shelf::new();
    // As `make-ssl-cert` of Debian makes them, and as `openssl req -x509` does.
    for extra in ["basicConstraints=CA:FALSE", "basicConstraints=critical,CA:TRUE"] {
        for name in ["old", "new"] {
            let (key, pem) = (shelf.path(&format!("{name}.key")), shelf.path(&format!("{name}.pem")));
            let arguments =
                ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &pem, "-days", "300"];
            let subject = ["-subj", "/CN=self.example", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", extra];
            run("openssl", &[arguments.as_slice(), subject.as_slice()].concat());
        }
        let options = NetOptions { extra_roots: Some(PathBuf::from(shelf.path("old.pem"))), ..NetOptions::default() };
        let net = Net::new(&options, Arc::new(SystemClock)).expect("a network");
        let (address, _server) = shelf.serve("new", &[]).await;
        let answer = ask_by(&SystemClock, &net, "tls", &format!("address = \"{address}\"")).await;
        assert_eq!(answer.reading, Reading::Down, "{extra}: {}", answer.text);
        assert!(answer.text.contains("certificate: it is self-signed"), "{extra}: {}", answer.text);
    }
    let (old, new) = (root("Ours", FAR), root("Ours", FAR));
    let between = intermediate("Between", FAR, key(), &new);
    let valid = (LONG_AGO, LEAF_END);
    shelf.put("alone", valid, &new, &[]);
    shelf.put("sent", valid, &new, &[&new]);
    shelf.put("below", valid, &between, &[&between]);
    shelf.put("forged", valid, &new, &[&old]);
    let net = shelf.net(&[&old]);
    for (name, text) in [
        ("alone", "it names the trusted authority `CN=Ours` as its issuer, and is signed with another key"),
        ("sent", "its chain leads to `CN=Ours`, which is not trusted"),
        ("below", "the intermediate certificate `CN=Between` of its chain names the trusted authority `CN=Ours`"),
        ("forged", "it is not signed by the issuer that it names"),
    ] {
        let (address, _server) = shelf.serve(name, &[]).await;
        let answer = ask(&net, "tls", &format!("address = \"{address}\"")).await;
        assert_eq!(answer.reading, Reading::Down, "{name}: {}", answer.text);
        assert!(answer.text.contains(text), "{name}: {}", answer.text);
    }
}

/// The certificate that `openssl req -x509` makes of its own accord is one of an authority (CA:TRUE). Who puts it into
/// `authorities` trusts it, as `curl --cacert` does.
#[tokio::test]
async fn a_self_signed_certificate_is_called_so_and_can_be_trusted() {
    let shelf = Shelf::new();
    let clock = SystemClock;
    for (name, extra) in [("authority", "basicConstraints=critical,CA:TRUE"), ("server", "basicConstraints=CA:FALSE")] {
        let (key, pem) = (shelf.path(&format!("{name}.key")), shelf.path(&format!("{name}.pem")));
        let arguments =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &pem, "-days", "300"];
        let subject = ["-subj", "/CN=self.example", "-addext", "subjectAltName=IP:127.0.0.1"];
        let extra: &[&str] = if name == "authority" { &[] } else { &["-addext", extra] };
        run("openssl", &[&arguments, subject.as_slice(), extra].concat());
        let net = |extra_roots: Option<&str>| {
            let options = NetOptions { extra_roots: extra_roots.map(PathBuf::from), ..NetOptions::default() };
            Net::new(&options, Arc::new(clock)).expect("a network")
        };
        let (address, _server) = shelf.serve(name, &[]).await;
        for (trusted, reading, text) in [
            (None, Reading::Down, "certificate: it is self-signed, so nobody vouches for it"),
            (Some(pem.as_str()), Reading::Up, "with a valid certificate"),
        ] {
            let net = net(trusted);
            let answer = ask_by(&clock, &net, "tls", &format!("address = \"{address}\"")).await;
            assert_eq!((answer.reading, answer.value), (reading, Some(299)), "{name}: {}", answer.text);
            assert!(answer.text.contains(text), "{name}: {}", answer.text);
            let fetched = ask_by(&clock, &net, "http", &format!("url = \"https://{address}/\"")).await;
            assert_eq!(fetched.reading, reading, "{name}: {}", fetched.text);
            let wrong =
                ask_by(&clock, &net, "tls", &format!("address = \"{address}\"\nserver_name = \"b.example\"")).await;
            assert!(wrong.text.contains("it is not for `b.example` but for 127.0.0.1"), "{name}: {}", wrong.text);
        }
    }
}
