//! Certificates from an authority: Debian's Pebble, which is made to refuse, to be away and to change its mind.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tempfile::TempDir;

use super::Gate;
use super::client::{Client, exchange};
use super::tls::curl;
use super::upstream::{Upstream, connects};
use crate::harness::{command, eventually, eventually_within, free_port, http, transcript};

/// Certificates are valid for so long, in seconds: they are renewed while the test runs.
const VALID_S: u32 = 30;
/// How long an order may be waited for: some attempts at an authority that is away come before it.
const PATIENCE: Duration = Duration::from_mins(3);

/// An authority, and the name server that it asks.
struct Authority {
    folder: TempDir,
    pebble: Option<Child>,
    names: Child,
    directory: u16,
    management: u16,
    dns: u16,
    told: u16,
}

impl Authority {
    /// One that looks for names at these ports of loopback.
    fn start(http: u16, https: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let own = parameters.self_signed(&key).expect("signed");
        std::fs::write(folder.path().join("own.pem"), own.pem()).expect("written");
        std::fs::write(folder.path().join("own.key"), key.serialize_pem()).expect("written");
        let (directory, management, dns, told) = (free_port(), free_port(), free_port(), free_port());
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.path().join("own.pem"), "privateKey": folder.path().join("own.key"),
            "httpPort": http, "tlsPort": https, "certificateValidityPeriod": VALID_S, "ocspResponderURL": "",
        }});
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
        let mut names = command("pebble-challtestsrv");
        names.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        names.args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{told}")]);
        let names = names.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let names = names.expect("pebble-challtestsrv starts; scripts/test installs it");
        let mut authority = Self { folder, pebble: None, names, directory, management, dns, told };
        authority.run();
        eventually("the name server", || connects(SocketAddr::from(([127, 0, 0, 1], told))).then_some(()));
        authority
    }

    /// Starts it, with another root and without any account.
    fn run(&mut self) {
        let mut pebble = command("pebble");
        pebble.arg("-config").arg(self.folder.path().join("config.json"));
        pebble.args(["-dnsserver", &format!("127.0.0.1:{}", self.dns)]);
        // Three nonces in ten are refused, and no name is taken as proved because it was once.
        pebble.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "30"), ("PEBBLE_AUTHZREUSE", "0")]);
        let pebble = pebble.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.pebble = Some(pebble.expect("pebble starts; scripts/test installs it"));
        eventually("pebble to listen", || connects(SocketAddr::from(([127, 0, 0, 1], self.management))).then_some(()));
    }

    fn stop(&mut self) {
        if let Some(mut pebble) = self.pebble.take() {
            drop((pebble.kill(), pebble.wait()));
        }
    }

    /// `[acme]` of it.
    fn policy(&self, more: &str) -> String {
        let (directory, own) = (self.directory, self.folder.path().join("own.pem"));
        format!(
            "[acme]\nterms_agreed = true\ndirectory = \"https://127.0.0.1:{directory}/dir\"\nauthority = \"{}\"\n{more}\n",
            own.display()
        )
    }

    /// Its root, in a file.
    fn root(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("root.pem");
        let mut curl = command("curl");
        curl.args(["-sSk", "-o"]).arg(&path).arg(format!("https://127.0.0.1:{}/roots/0", self.management));
        assert!(curl.status().expect("curl runs").success());
        path
    }

    /// Has a name lead elsewhere, or where all do.
    fn lead(&self, name: &str, address: Option<&str>) {
        let (path, told) = match address {
            Some(address) => ("add-a", json!({ "host": name, "addresses": [address] })),
            None => ("clear-a", json!({ "host": name })),
        };
        let url = format!("http://127.0.0.1:{}/{path}", self.told);
        let answer = http("POST", &url, &[], told.to_string().as_bytes()).expect("an answer");
        assert_eq!(answer.0, 200);
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
        drop((self.names.kill(), self.names.wait()));
    }
}

/// The certificate of a name, as text; empty where none is shown.
fn shown(https: u16, more: &[&str]) -> String {
    let mut openssl = command("openssl");
    let to = format!("127.0.0.1:{https}");
    openssl.args(["s_client", "-connect", &to, "-servername", "t.example", "-showcerts"]).args(more);
    let output = openssl.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let end = "-----END CERTIFICATE-----";
    text.split_once("-----BEGIN")
        .and_then(|(_, rest)| rest.split_once(end))
        .map(|(body, _)| body.to_owned())
        .unwrap_or_default()
}

fn site(upstream: &Upstream, more: &str) -> String {
    format!(
        "redirect_from = [\"www.t.example\"]\nacme = true\nupstream = [{{ url = \"http://{}\" }}]\n{more}",
        upstream.address()
    )
}

/// AV-4, ED-1: a certificate of two names is ordered by requests in clear and renewed without a request that fails, though the authority
/// refuses nonces; one that is away costs nothing but its renewals; an order that fails says why; who is asked answers.
#[test]
fn a_certificate_is_ordered_and_renewed() {
    let near = Upstream::start(1);
    let (port, https) = (free_port(), free_port());
    let mut authority = Authority::start(port, https);
    // One name leads elsewhere at first, where nobody listens.
    authority.lead("www.t.example", Some("127.0.0.9"));
    let listen = format!("https = [\"127.0.0.1:{https}\"]");
    let acme = authority.policy("");
    let gate = Gate::start_at(port, &format!("{listen}\n{acme}"), &site(&near, ""));
    let problem = |words: &str| {
        eventually_within(PATIENCE, words, || {
            let problems = gate.status()["problems"].to_string();
            problems.contains(words).then_some(problems)
        })
    };
    let said = problem("could not see that the name is ours");
    assert!(said.contains("www.t.example") || said.contains("127.0.0.9"), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
    assert_eq!(shown(https, &[]), "", "there is none yet");
    authority.lead("www.t.example", None);
    // A reload tries at once.
    gate.reload(&format!("{listen}\nidle_max = \"30 s\"\n{acme}"), &site(&near, ""));
    let first =
        eventually_within(PATIENCE, "a certificate", || Some(shown(https, &[])).filter(|shown| !shown.is_empty()));
    let root = authority.root();
    for name in ["t.example", "www.t.example"] {
        eventually("a certificate for both names", || {
            let hello = curl(&root, https, &format!("https://{name}:{https}/echo"), &["--http1.1"]);
            hello.status.success().then_some(())
        });
    }
    let state = gate.up.path("data.gate").join("gate").join("acme");
    for file in std::fs::read_dir(&state).expect("a folder").flatten() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("there").permissions());
        assert_eq!(mode & 0o077, 0, "{} is for the gate alone", file.path().display());
    }

    // Requests go on all the while, over connections that stay and over new ones.
    let (is_over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (over, count) = (Arc::clone(&is_over), Arc::clone(&asked));
    let asking = std::thread::spawn(move || {
        let mut failed = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let urls = vec![format!("https://t.example:{https}/echo"); 5];
            let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
            let got = curl(std::path::Path::new("/dev/null"), https, urls[0], &[&["--insecure"], &urls[1..]].concat());
            if String::from_utf8_lossy(&got.stdout).matches("uri=/echo").count() < 5 {
                failed.push(transcript(&got));
            }
            count.fetch_add(5, Ordering::Relaxed);
        }
        failed
    });
    let second = eventually_within(PATIENCE, "the renewal", || {
        Some(shown(https, &[])).filter(|shown| !shown.is_empty() && *shown != first)
    });
    authority.stop();
    problem("the authority does not answer as it should");
    assert_eq!(
        exchange(gate.http, "GET /.well-known/acme-challenge/a-b_c HTTP/1.1\r\nHost: www.t.example\r\n\r\n"),
        200
    );
    authority.run();
    let third = eventually_within(PATIENCE, "a certificate of the authority that is there again", || {
        Some(shown(https, &[])).filter(|shown| *shown != second && !shown.is_empty())
    });
    assert!(third != first);
    is_over.store(true, Ordering::Relaxed);
    let failed = asking.join().expect("it ends");
    assert!(asked.load(Ordering::Relaxed) > 20 && failed.is_empty(), "{}", failed.concat());
    eventually("that all is well", || gate.status()["problems"].as_array().is_some_and(Vec::is_empty).then_some(()));
    let events = gate.up.errors();
    assert!(!events.contains("PRIVATE"), "{events}");

    // Another gate with the same account answers for an order that it knows nothing of; a site that is closed answers too.
    let account = state.join("account.key");
    let shared = authority.policy(&format!("account = {{ file = \"{}\" }}", account.display()));
    let other_https = free_port();
    let other =
        Gate::start_with(&format!("https = [\"127.0.0.1:{other_https}\"]\n{shared}"), &site(&near, "closed = true"));
    let token = "GET /.well-known/acme-challenge/of-the-other HTTP/1.1\r\nHost: t.example\r\n\r\n";
    let answer = |port: u16| {
        let reply = Client::connect(port).expect("it listens").ask(token);
        (reply.status == 200).then(|| reply.text())
    };
    let answered = eventually("the other gate to know its account", || answer(other.http));
    assert_eq!(Some(&answered), answer(gate.http).as_ref());
    assert!(answered.starts_with("of-the-other.") && answered.len() == 13 + 43, "{answered}");
    // The authority looks at the first gate, which knows nothing of that order.
    eventually_within(PATIENCE, "its own certificate", || (!shown(other_https, &[]).is_empty()).then_some(()));
    assert_eq!(exchange(gate.http, "GET /.well-known/acme-challenge/a%3Cb HTTP/1.1\r\nHost: t.example\r\n\r\n"), 404);
}

/// ED-1: names are proved in a handshake as well, which nobody else gets anything of.
#[test]
fn a_certificate_is_ordered_by_handshakes() {
    let near = Upstream::start(1);
    let https = free_port();
    let authority = Authority::start(free_port(), https);
    let acme = authority.policy("challenge = \"tls-alpn-01\"");
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]\n{acme}"), &site(&near, ""));
    eventually_within(PATIENCE, "a certificate", || (!shown(https, &[]).is_empty()).then_some(()));
    let root = authority.root();
    eventually("a request", || {
        let hello = curl(&root, https, &format!("https://t.example:{https}/echo"), &[]);
        String::from_utf8_lossy(&hello.stdout).contains("uri=/echo").then_some(())
    });
    assert_eq!(shown(https, &["-alpn", "acme-tls/1"]), "", "there is no challenge");
    // What certbot behind the gate has begun is answered there.
    let behind = format!("upstream = [{{ url = \"http://{}\" }}]", near.address());
    gate.reload("", &behind);
    eventually("the reload", || {
        let status = exchange(gate.http, "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: t.example\r\n\r\n");
        (status == 404).then_some(())
    });
}
