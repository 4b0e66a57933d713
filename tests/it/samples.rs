//! The samples of `docs/running.md`, as the programs read them that they are for.

use std::process::{Command, Stdio};

use crate::harness::{Nginx, Up, binary, command, eventually, free_port, transcript};

fn sample(name: &str) -> String {
    let path = format!("{}/../docs/samples/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// systemd finds no unknown key in the units, and nothing that it can't do.
#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["garant.service", "garant-agent.service"] {
        let unit = folder.path().join(name);
        let program = binary().display().to_string();
        std::fs::write(&unit, sample(name).replace("/usr/local/bin/garant", &program)).expect("written");
        let verified = command("systemd-analyze").arg("verify").arg(&unit).output();
        let verified = verified.expect("scripts/test installs systemd");
        let silent = verified.stdout.is_empty() && verified.stderr.is_empty();
        assert!(verified.status.success() && silent, "{}", transcript(&verified));
    }
}

/// A garant that publishes, for a proxy in front of it, and the URL of its public listener.
fn published() -> (Up, String) {
    let up = Up::start(
        "publish = true\n[journal]\nname = \"shop.example\"\n[pages]\nlisten = \"127.0.0.1:0\"\npublic = \"127.0.0.1:0\"\n\
         url = \"https://trust.shop.example/\"\n",
    );
    let public = up.ready["public"].as_str().expect("a public listener").trim_end_matches('/').to_owned();
    (up, public)
}

/// Runs a proxy, whose certificate is that of `other`, until the page came through it over TLS: nothing is changed on the
/// way, and the two headers are there that only the proxy may add and only garant can.
fn the_page_comes_through(proxy: &mut Command, port: u16, other: &Nginx) {
    let started = proxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut proxy = started.unwrap_or_else(|error| panic!("{proxy:?}: {error}; scripts/test installs it"));
    let asked = |path: &str| {
        let to = format!("trust.shop.example:{port}:127.0.0.1");
        let url = format!("https://trust.shop.example:{port}{path}");
        let answer = command("curl")
            .args(["-sS", "-i", "--http1.1", "--resolve", &to, "--cacert"])
            .arg(other.authority())
            .arg(url)
            .output()
            .expect("curl runs");
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    };
    let trust_page = eventually("the proxy to answer", || asked("/en"));
    assert!(trust_page.starts_with("HTTP/1.1 200"), "{trust_page}");
    for header in ["Strict-Transport-Security: max-age=31536000", "content-security-policy: default-src 'none'"] {
        assert!(trust_page.to_lowercase().contains(&header.to_lowercase()), "{header}: {trust_page}");
    }
    let key = asked("/log/vkey").expect("an answer");
    assert!(key.contains("shop.example/1+"), "{key}");
    proxy.kill().expect("the proxy can be killed");
    proxy.wait().expect("the proxy ends");
}

/// The page through nginx as the sample has it.
#[test]
fn the_page_behind_nginx() {
    let (up, public) = published();
    // Another one, for its certificate.
    let other = Nginx::start();
    let at = |name: &str| other.authority().with_file_name(name).display().to_string();
    let port = free_port();
    let site = sample("nginx.conf")
        .replace("http://127.0.0.1:8481", &public)
        .replace("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl"))
        .replace("    listen [::]:443 ssl;\n", "")
        .replace("/etc/ssl/trust.shop.example/fullchain.pem", &at("leaf.pem"))
        .replace("/etc/ssl/trust.shop.example/privkey.pem", &at("leaf.key"));
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().display();
    let whole = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\nevents {{}}\nhttp {{ access_log off;\n\
         client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; \
         scgi_temp_path {here}/s;\n{site}}}\n"
    );
    let configuration = folder.path().join("nginx.conf");
    std::fs::write(&configuration, whole).expect("written");
    let mut nginx = command("nginx");
    nginx.arg("-c").arg(&configuration).arg("-p").arg(folder.path());
    the_page_comes_through(&mut nginx, port, &other);
    up.stop();
}

/// The page through Caddy as the sample has it, but for the certificate, which it would get from outside.
#[test]
fn the_page_behind_caddy() {
    let (up, public) = published();
    let other = Nginx::start();
    let at = |name: &str| other.authority().with_file_name(name).display().to_string();
    let port = free_port();
    let here = format!(
        "https://trust.shop.example:{port} {{\n\tbind 127.0.0.1\n\ttls {} {}\n",
        at("leaf.pem"),
        at("leaf.key")
    );
    let site = sample("caddy.conf")
        .replace("127.0.0.1:8481\n}", &format!("{}\n}}", public.trim_start_matches("http://")))
        .replace("trust.shop.example {\n", &here);
    assert!(site.contains(&here), "{site}");
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = folder.path().join("Caddyfile");
    std::fs::write(&configuration, format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}"))
        .expect("written");
    let mut caddy = command("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&configuration);
    for home in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        caddy.env(home, folder.path());
    }
    the_page_comes_through(&mut caddy, port, &other);
    up.stop();
}
