//! A proxy in front of the gate: HAProxy says who its clients are, and nobody else can.

use std::process::{Child, Stdio};

use super::Gate;
use super::client::{Client, exchange};
use super::tls::{Certificate, curl};
use super::upstream::Upstream;
use crate::harness::{command, eventually, free_port, transcript};

/// Where HAProxy comes from: it is told apart from its clients by that.
const PROXY: &str = "127.0.0.9";

/// HAProxy in front of two ports of the gate, which it checks.
struct HaProxy(Child);

impl HaProxy {
    fn start(folder: &std::path::Path, ports: [(u16, u16); 2]) -> Self {
        let listen = |(own, gate): (u16, u16)| {
            format!(
                "listen to{gate}\n bind 127.0.0.1:{own}\n option httpchk GET / HTTP/1.0\n \
                 server gate 127.0.0.1:{gate} send-proxy-v2 source {PROXY}\n"
            )
        };
        let config = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n{}{}",
            listen(ports[0]),
            listen(ports[1])
        );
        let path = folder.join("haproxy.cfg");
        std::fs::write(&path, config).expect("written");
        let mut haproxy = command("haproxy");
        haproxy.arg("-db").arg("-f").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        Self(haproxy.spawn().expect("haproxy starts; scripts/test installs it"))
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        drop((self.0.kill(), self.0.wait()));
    }
}

/// Behind HAProxy the client is the one that it names, over TLS too; a declared proxy that names nobody is refused, and a client that is
/// no proxy names nobody.
#[test]
fn a_declared_proxy_says_who_its_client_is() {
    let (near, certificate, folder) = (Upstream::start(1), Certificate::make(), tempfile::tempdir().expect("a folder"));
    let (https, clear, tls) = (free_port(), free_port(), free_port());
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nredirect_to_https = false\n{}",
        near.address(),
        certificate.keys()
    );
    let log = tempfile::NamedTempFile::new().expect("a file");
    let listen = format!(
        "https = [\"127.0.0.1:{https}\"]\nproxy_from = [\"{PROXY}/32\"]\naccess_log = \"{}\"",
        log.path().display()
    );
    let gate = Gate::start_with(&listen, &site);
    let _proxy = HaProxy::start(folder.path(), [(clear, gate.http), (tls, https)]);
    eventually("haproxy to listen", || Client::connect(clear));
    let mut client = Client::connect(clear).expect("it listens");
    for _ in 0..2 {
        let said = client.ask("GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n");
        assert!(said.text().contains("for=127.0.0.1 proto=http"), "{}", said.text());
    }
    let authority = certificate.path("ca.pem");
    for version in ["--http1.1", "--http2"] {
        let said = curl(&authority, tls, &format!("https://t.example:{tls}/echo"), &[version]);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("for=127.0.0.1 proto=https"), "{}", transcript(&said));
    }
    let from_proxy = |url: String, port: u16| curl(&authority, port, &url, &["--interface", PROXY]);
    for (url, port) in [
        (format!("http://t.example:{}/echo", gate.http), gate.http),
        (format!("https://t.example:{https}/echo"), https),
    ] {
        let refused = from_proxy(url, port);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "it names nobody: {}", transcript(&refused));
    }
    let mut forger = Client::connect(gate.http).expect("it listens");
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x06\x06\x06\x06\x7f\0\0\x01\x1f\x90\0\x50";
    assert!(forger.send_bytes(head));
    let refused = forger.ask("GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert_eq!(refused.status, 400, "nobody has declared this one");
    assert_eq!(
        exchange(gate.http, "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n"),
        200,
        "and it needs to name nobody"
    );
    let lines = eventually("the access log", || {
        std::fs::read_to_string(log.path()).ok().filter(|lines| lines.matches("/echo").count() >= 5)
    });
    assert!(!lines.contains(PROXY) && !lines.contains("6.6.6.6"), "{lines}");
    eventually("the figure", || {
        let figures = String::from_utf8(crate::harness::get(&gate.up.url("metrics"))?).ok()?;
        figures.contains("garant_gate_proxy_heads_refused_total 2").then_some(())
    });
}
