//! The battery of framing, sent to the gate and to nginx, HAProxy and Apache in front of one server: per case the gate is at least as
//! strict as the strictest of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Gate;
use super::client::Client;
use super::upstream::{Recorder, connects};
use crate::harness::{command, eventually, free_port, garant, report, transcript};

const CASES: &str = include_str!("../../../engines/gate/src/codec/cases.txt");
/// How long a server may take for a case: some wait for more.
const WITHIN: Duration = Duration::from_millis(1500);
/// How long one may take that is to let a case through, where it did not at once: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy of Debian, in front of the server. Killed when dropped.
struct Peer {
    name: &'static str,
    port: u16,
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Peer {
    fn start(name: &'static str, folder: &Path, config: &dyn Fn(u16) -> String, arguments: &[&str]) -> Self {
        let port = free_port();
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(&file, config(port)).expect("written");
        let mut program = command(name);
        program.current_dir(folder).args(arguments).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let child = program.spawn().unwrap_or_else(|error| panic!("{name}: {error}: scripts/test installs it"));
        let peer = Self { name, port, child };
        eventually(name, || connects(SocketAddr::from(([127, 0, 0, 1], port))).then_some(()));
        peer
    }
}

fn peers(folder: &Path, origin: SocketAddr) -> Vec<Peer> {
    let at = folder.display();
    let nginx = |port: u16| {
        format!(
            "daemon off; master_process off; pid {at}/n.pid; error_log {at}/n.log;\nevents {{ }}\nhttp {{ access_log off;\n\
             client_body_temp_path {at}/nb; proxy_temp_path {at}/np; fastcgi_temp_path {at}/nf; uwsgi_temp_path {at}/nu;\n\
             scgi_temp_path {at}/ns;\nserver {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{origin};\n\
             proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection \"\"; }} }} }}\n"
        )
    };
    let haproxy = |port: u16| {
        format!(
            "defaults\n mode http\n timeout client 3s\n timeout server 3s\n timeout connect 3s\n timeout http-request 3s\n\
             frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s {origin}\n"
        )
    };
    let modules = std::env::var("GARANT_APACHE_MODULES").unwrap_or_else(|_| "/usr/lib/apache2/modules".to_owned());
    let apache = |port: u16| {
        let load = |name: &str| format!("LoadModule {name}_module {modules}/mod_{name}.so\n");
        let loaded = ["mpm_event", "authz_core", "proxy", "proxy_http"].map(load).concat();
        format!(
            "ServerRoot {at}\n{loaded}PidFile {at}/a.pid\nErrorLog {at}/a.log\nListen 127.0.0.1:{port}\nServerName t.example\n\
             DefaultRuntimeDir {at}\nProxyPass / http://{origin}/ retry=0\nProxyPreserveHost On\nTimeOut 3\n"
        )
    };
    let error_log = format!("{at}/n.log");
    vec![
        Peer::start("nginx", folder, &nginx, &["-e", &error_log, "-c"]),
        Peer::start("haproxy", folder, &haproxy, &["-db", "-f"]),
        Peer::start("apache2", folder, &apache, &["-X", "-f"]),
    ]
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let used = match rest.as_bytes()[0] {
            b'r' => {
                bytes.push(b'\r');
                1
            }
            b'n' => {
                bytes.push(b'\n');
                1
            }
            _ => {
                bytes.push(u8::from_str_radix(&rest[1..3], 16).expect("two digits"));
                3
            }
        };
        rest = &rest[used..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Whether a server lets a request through: what it answers is the answer of the server behind.
fn passes(port: u16, bytes: &[u8], within: Duration) -> bool {
    let mut client = Client::within(port, within).expect("it listens");
    client.send_bytes(bytes) && client.reply(false).is_some_and(|reply| reply.status == 200)
}

/// What two programs could read in two ways goes no further; every case beside Debian's nginx, HAProxy and Apache.
#[test]
fn the_gate_is_as_strict_as_the_strictest() {
    // One behind the gate and one behind its peers: what a slow peer still sends is not the gate's.
    let [origin, of_peers] = [(); 2].map(|()| Recorder::answering_whole_requests(ANSWER));
    let folder = tempfile::tempdir().expect("a folder");
    let peers = peers(folder.path(), of_peers.address());
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", origin.address()));
    let (mut laxer, mut refused) = (Vec::new(), BTreeMap::<&str, usize>::new());
    let mut count = 0;
    for (class, escaped) in CASES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
    {
        count += 1;
        let bytes = unescaped(escaped);
        origin.forget();
        let gate_passes = passes(gate.http, &bytes, WITHIN) || (class == "-" && passes(gate.http, &bytes, PATIENCE));
        assert_eq!(gate_passes, class == "-", "{class}: {escaped}");
        if !gate_passes {
            *refused.entry("garant").or_default() += 1;
            assert!(!origin.has_answered(), "{class}: {escaped} was answered by the server behind");
        }
        for peer in &peers {
            if !passes(peer.port, &bytes, WITHIN) {
                *refused.entry(peer.name).or_default() += 1;
                if gate_passes && !passes(peer.port, &bytes, PATIENCE) {
                    laxer.push(format!("{} refuses {escaped}", peer.name));
                }
            }
        }
    }
    report(&format!("of {count} cases refused: {refused:?}"));
    assert_eq!(laxer, [""; 0], "the gate is laxer");
}

/// The battery as a command.
#[test]
fn the_selftest_finds_every_case_as_it_should_be() {
    let tested = garant(&["gate", "selftest", "--json"]);
    assert!(tested.status.success(), "{}", transcript(&tested));
    let found: Value = serde_json::from_slice(&tested.stdout).expect("JSON");
    let cases = found["cases"].as_array().expect("a list");
    assert_eq!((found["failed"].as_u64(), found["passed"].as_u64()), (Some(0), u64::try_from(cases.len()).ok()));
    assert!(cases.len() > 100 && cases.iter().all(|case| case["passed"] == true));
    assert_eq!((cases[0]["name"].as_str(), cases[0]["expected"].as_str()), (Some("bare-lf 1"), Some("400")));
}
