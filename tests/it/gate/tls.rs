//! TLS of the gate, asked by curl and openssl.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::Gate;
use super::upstream::Upstream;
use crate::harness::{Up, command, eventually, free_port, garant, transcript, wall_micros};

/// A certificate of an authority of its own, for `t.example` and `www.t.example`.
pub(super) struct Certificate {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
}

impl Certificate {
    pub(super) fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority of the test");
        let own = parameters.self_signed(&key).expect("signed");
        std::fs::write(folder.path().join("ca.pem"), own.pem()).expect("written");
        let made = Self { folder, authority: Issuer::new(parameters, key) };
        made.renew(1);
        made
    }

    /// Another certificate with another key, in the same files.
    fn renew(&self, serial: u64) {
        self.renew_for(&["t.example", "www.t.example"], serial);
    }

    /// The same for other names.
    pub(super) fn renew_for(&self, names: &[&str], serial: u64) {
        self.write(names, |parameters| parameters.serial_number = Some(SerialNumber::from(serial)));
    }

    /// One that was valid until then.
    pub(super) fn renew_until(&self, until: OffsetDateTime) {
        self.write(&["t.example", "www.t.example"], |parameters| parameters.not_after = until);
    }

    /// One that is valid from an hour ago, for so many days.
    pub(super) fn renew_for_days(&self, days: i64) {
        let now = wall_micros() / 1_000_000;
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        self.write(&["t.example", "www.t.example"], |parameters| {
            (parameters.not_before, parameters.not_after) = (at(now - 3600), at(now + days * 86_400));
        });
    }

    fn write(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().copied().map(ToOwned::to_owned).collect();
        let mut parameters = CertificateParams::new(names).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "t.example");
        change(&mut parameters);
        let signed = parameters.signed_by(&key, &self.authority).expect("signed");
        std::fs::write(self.path("key.pem"), key.serialize_pem()).expect("written");
        std::fs::set_permissions(self.path("key.pem"), std::fs::Permissions::from_mode(0o600)).expect("set");
        std::fs::write(self.path("chain.pem"), signed.pem()).expect("written");
    }

    /// The keys of a site that shows it.
    pub(super) fn keys(&self) -> String {
        let [certificate, key] = ["chain.pem", "key.pem"].map(|name| self.path(name).display().to_string());
        format!("certificate = \"{certificate}\"\nkey = {{ file = \"{key}\" }}")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What curl says to a URL of one of the names, which are all at this port of loopback.
pub(super) fn curl(authority: &Path, port: u16, url: &str, more: &[&str]) -> Output {
    let resolve = ["t.example", "www.t.example", "other.example"].map(|name| format!("{name}:{port}:127.0.0.1"));
    let mut curl = command("curl");
    curl.args(["-siS", "--max-time", "20", "--cacert"]).arg(authority);
    for at in &resolve {
        curl.args(["--resolve", at]);
    }
    curl.args(more).arg(url).output().expect("curl runs")
}

/// AV-4, ED-1: certificates are chosen by name, a name in the handshake is the one of the request, old versions are refused, clients in
/// clear are sent to https, and a certificate that was renewed is shown without a reload.
#[test]
fn tls_is_that_of_the_name_and_of_today() {
    let near = Upstream::start(1);
    let certificate = Certificate::make();
    certificate.renew_for_days(90);
    let https = free_port();
    let site = format!(
        "redirect_from = [\"www.t.example\"]\n{}\nupstream = [{{ url = \"http://{}\" }}]",
        certificate.keys(),
        near.address()
    );
    let listen = format!("https = [\"127.0.0.1:{https}\"]");
    let gate = Gate::start_with(&listen, &site);
    let authority = certificate.path("ca.pem");
    let ask = |name: &str, more: &[&str]| curl(&authority, https, &format!("https://{name}:{https}/echo"), more);
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let most = ["--tls-max", &version[6..]];
        let hello = ask("t.example", &[&[version, "--http1.1"], &most[..]].concat());
        assert!(text(&hello).starts_with("HTTP/1.1 200 "), "{}", transcript(&hello));
        assert!(text(&hello).contains("proto=https"), "{}", text(&hello));
    }
    let old = ask("t.example", &["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert_eq!(old.status.code(), Some(35), "no handshake: {}", transcript(&old));
    let stranger = ask("other.example", &["--insecure"]);
    assert_eq!(stranger.status.code(), Some(35), "a name without a site: {}", transcript(&stranger));
    let misdirected = ask("t.example", &["--http1.1", "-H", "Host: www.t.example"]);
    assert!(text(&misdirected).starts_with("HTTP/1.1 421 "), "{}", transcript(&misdirected));
    let alias = ask("www.t.example", &["--http1.1"]);
    assert!(text(&alias).contains(&format!("Location: https://t.example:{https}/echo\r\n")), "{}", transcript(&alias));
    let clear = curl(&authority, gate.http, &format!("http://t.example:{}/a?b", gate.http), &[]);
    assert!(text(&clear).starts_with("HTTP/1.1 301 "), "{}", transcript(&clear));
    assert!(text(&clear).contains(&format!("Location: https://t.example:{https}/a?b\r\n")), "{}", transcript(&clear));

    // How it was served is told in figures, good or bad.
    let served = &gate.status()["sites"][0]["served"];
    let versions = json!({ "below 1.2": 0, "1.2": 1, "1.3": 1 });
    assert_eq!(served["tls"], json!({ "lowest_allowed": "1.2", "lowest_seen": "1.2", "requests": versions }));
    assert_eq!((&served["certificate"]["days_left"], &served["certificate"]["problem"]), (&json!(89), &Value::Null));
    assert_eq!(served["clear"], json!({ "redirects_to_https": true, "redirected": 1, "requests": 0 }));
    assert_eq!(served["headers"], json!({ "all": 2, "lacking": 0, "hsts": "max-age=300" }));
    assert_eq!((&served["answered"], &served["failed"]), (&json!(2), &json!(0)));
    let shown = text(&gate.ask(&["status"]));
    for line in [
        "TLS 1.2 or newer: 1 over 1.2, 1 over 1.3",
        "certificate: 89 days left",
        "in clear: 1 sent to https, 0 requests",
        "fields for browsers: all on 2 of 2 replies; HSTS max-age=300",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    // A session goes on over a reload: its ticket is sealed with a key that the reload keeps.
    let session = certificate.path("session");
    let to = format!("127.0.0.1:{https}");
    let connect = |more: &[&str]| {
        let mut openssl = command("openssl");
        openssl.args(["s_client", "-connect", &to, "-servername", "t.example", "-tls1_2"]).args(more);
        let output = openssl.stdin(std::process::Stdio::null()).output().expect("openssl runs");
        text(&output)
    };
    let session = session.to_str().expect("UTF-8");
    assert!(connect(&["-sess_out", session]).contains("New, "));
    gate.reload(&format!("{listen}\nidle_max = \"30 s\""), &site);
    assert!(connect(&["-sess_in", session]).contains("Reused, "), "the session is resumed");

    certificate.renew(77);
    eventually("the renewed certificate", || {
        let shown = connect(&["-showcerts"]);
        let mut x509 = command("openssl");
        x509.args(["x509", "-noout", "-serial"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = x509.spawn().expect("openssl runs");
        // What it does not read it does not need.
        drop(std::io::Write::write_all(child.stdin.as_mut().expect("piped"), shown.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        text(&output).contains("serial=4D").then_some(())
    });
    // One that does not belong to its key changes nothing, and is said.
    std::fs::write(certificate.path("chain.pem"), std::fs::read(&authority).expect("there")).expect("written");
    let said = eventually("the wrong certificate to be said", || {
        let problems = gate.status()["problems"].to_string();
        problems.contains("the certificate of t.example can't be used").then_some(problems)
    });
    assert!(!said.contains("PRIVATE"));
    assert!(text(&ask("t.example", &["--http1.1"])).starts_with("HTTP/1.1 200 "), "the one before goes on");
}

/// A gate for development is made from nothing, is good for names of this machine alone, and what is made is what `check` takes.
#[test]
fn a_gate_for_development_is_for_this_machine_alone() {
    let near = Upstream::start(1);
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("garant.toml");
    let (team, https) = (free_port(), free_port());
    let upstream = near.address().to_string();
    let init = |url: &str| {
        let output = policy.to_str().expect("UTF-8");
        garant(&["init", url, "--development", &upstream, "--output", output])
    };
    for url in ["https://shop.example/", "https://127.0.0.1/", "http://localhost/"] {
        let refused = init(url);
        assert_eq!(refused.status.code(), Some(2), "{url}: {}", transcript(&refused));
        assert!(!policy.exists() && !folder.path().join("garant-development").exists(), "{url}");
    }
    let made = init(&format!("https://shop.localhost:{https}/"));
    assert!(made.status.success(), "{}", transcript(&made));
    let text = std::fs::read_to_string(&policy).expect("written");
    std::fs::write(&policy, text.replace("127.0.0.1:8480", &format!("127.0.0.1:{team}"))).expect("written");
    let authority = folder.path().join("garant-development/ca.pem");
    let key = std::fs::metadata(folder.path().join("garant-development/site.key")).expect("there");
    assert_eq!(key.permissions().mode() & 0o077, 0);
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path().join("garant-development")).expect("a folder").flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let names: Vec<_> = names.iter().map(std::fs::DirEntry::file_name).collect();
    assert_eq!(names, ["ca.pem", "site.key", "site.pem"], "the key of the authority is nowhere");
    let up = Up::start_in(folder);
    eventually("the site", || {
        let mut curl = command("curl");
        let at = format!("shop.localhost:{https}:127.0.0.1");
        curl.args(["-sS", "--max-time", "10", "--cacert"]).arg(&authority).args(["--resolve", &at]);
        let hello = curl.arg(format!("https://shop.localhost:{https}/echo")).output().expect("curl runs");
        String::from_utf8_lossy(&hello.stdout).contains("proto=https").then_some(())
    });
    drop(up.stop());
}
