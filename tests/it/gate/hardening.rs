//! What the gate adds to replies and whom it keeps out: as curl and a client of bytes see it.

use super::Gate;
use super::client::{Client, exchange};
use super::tls::{Certificate, curl};
use super::upstream::{Recorder, Upstream, process_with};
use crate::harness::{command, eventually, free_port, transcript};

/// The fields of a reply that a browser takes care by, in small letters.
fn careful(shown: &str) -> Vec<String> {
    let names = [
        "content-security-policy:",
        "referrer-policy:",
        "strict-transport-security:",
        "x-content-type-options:",
        "x-frame-options:",
    ];
    let lines = shown.lines().take_while(|line| !line.is_empty()).map(str::to_ascii_lowercase);
    let mut found: Vec<String> = lines
        .map(|line| line.trim().to_owned())
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .collect();
    found.sort();
    found
}

const ALL: [&str; 5] = [
    "content-security-policy: frame-ancestors 'self'; base-uri 'self'; object-src 'none'",
    "referrer-policy: strict-origin-when-cross-origin",
    "strict-transport-security: max-age=300",
    "x-content-type-options: nosniff",
    "x-frame-options: sameorigin",
];

/// ED-3: whatever a site says of itself is left alone, the rest is added, in both versions of HTTP and to replies of the gate itself;
/// HSTS goes on where it was after a restart, and back when the certificate fails.
#[test]
fn replies_make_browsers_careful() {
    let near = Upstream::start(1);
    let own = Recorder::start(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-security-policy: default-src 'self'\r\n\
         STRICT-TRANSPORT-SECURITY: max-age=7\r\nX-Frame-Options: DENY\r\n\r\nok",
    );
    let certificate = Certificate::make();
    let https = free_port();
    let listen = format!("https = [\"127.0.0.1:{https}\"]");
    let site = format!(
        "redirect_from = [\"www.t.example\"]\n{}\nupstream = [{{ url = \"http://{}\" }}]\n\
         route = [{{ path = \"/own\", upstream = [{{ url = \"http://{}\" }}] }}]",
        certificate.keys(),
        near.address(),
        own.address()
    );
    let gate = Gate::start_with(&listen, &site);
    let authority = certificate.path("ca.pem");
    let ask = |name: &str, path: &str, more: &[&str]| {
        let shown = curl(&authority, https, &format!("https://{name}:{https}{path}"), more);
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    for version in ["--http1.1", "--http2"] {
        assert_eq!(careful(&ask("t.example", "/echo", &[version])), ALL, "{version}");
        assert_eq!(careful(&ask("t.example", "/big", &[version, "-I"])), ALL, "{version} HEAD");
        assert_eq!(careful(&ask("www.t.example", "/", &[version])), ALL, "{version}: a reply of the gate itself");
        let said = careful(&ask("t.example", "/own", &[version]));
        let expected = [
            "content-security-policy: default-src 'self'",
            "referrer-policy: strict-origin-when-cross-origin",
            "strict-transport-security: max-age=7",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
        ];
        assert_eq!(said, expected, "{version}");
    }
    let clear = curl(&authority, gate.http, &format!("http://t.example:{}/", gate.http), &[]);
    let clear = careful(&String::from_utf8_lossy(&clear.stdout));
    assert!(clear.len() == 4 && !clear.concat().contains("transport"), "HSTS is said over TLS alone: {clear:?}");

    // Two good days were counted when the gate stopped.
    let state = gate.up.path("data.gate");
    let kept = state.join("gate").join("hsts.json");
    let restart = |good: &str| {
        let pid = process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
        std::fs::write(&kept, good).expect("written");
        assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    };
    let hsts = |wanted: &str| {
        eventually(wanted, || ask("t.example", "/echo", &[]).to_ascii_lowercase().contains(wanted).then_some(()));
    };
    restart("{\"t.example\":172800000000}");
    hsts("strict-transport-security: max-age=604800");
    restart("{\"t.example\":864000000000}");
    hsts("strict-transport-security: max-age=63072000");
    // One that is not for all names is none that a browser takes.
    certificate.renew_for(&["t.example"], 9);
    hsts("strict-transport-security: max-age=300");
    let problems = gate.status()["problems"].to_string();
    assert!(problems.contains("it is not for www.t.example"), "{problems}");
    let written = std::fs::read_to_string(&kept).expect("it was written at once");
    assert_eq!(written, "{}");
    certificate.renew_until(rcgen::date_time_ymd(2020, 1, 1));
    let said = eventually("the expired certificate to be said", || {
        let problems = gate.status()["problems"].to_string();
        problems.contains("has expired on 2020-01-01").then_some(problems)
    });
    let checked = gate.ask(&["check", "--policy", gate.up.path("garant.toml").to_str().expect("UTF-8"), "--json"]);
    assert!(transcript(&checked).contains("has expired on 2020-01-01"), "{said}: {}", transcript(&checked));
    // Without any of it.
    gate.reload(&listen, &format!("{site}\nsecurity_headers = false\nhsts = false"));
    let bare = eventually("the reload", || {
        let shown = ask("t.example", "/echo", &["--insecure"]);
        (shown.contains(" 200") && careful(&shown).is_empty()).then_some(shown)
    });
    assert!(bare.contains("uri=/echo"));
}

/// SE: ranges decide by the path that is sent on, whatever it is written as.
#[test]
fn ranges_keep_others_out_under_every_name_of_a_path() {
    let near = Upstream::start(1);
    let site = |ranges: &str| format!("upstream = [{{ url = \"http://{}\" }}]\nrange = [{ranges}]", near.address());
    let admin = "{ path = \"/admin\", allow = [\"192.0.2.0/24\", \"2001:db8::/32\"] }, \
                 { path = \"/admin/open\", allow = [\"127.0.0.0/8\"] }, \
                 { path = \"/denied\", allow = [\"127.0.0.0/8\"], deny = [\"127.0.0.1/32\"] }";
    let gate = Gate::start(&site(admin));
    let status = |path: &str| exchange(gate.http, &format!("GET {path} HTTP/1.1\r\nHost: t.example\r\n\r\n"));
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/%61dmin",
        "/%61%64min/x?y",
        "/x/../admin",
        "//admin",
        "/./admin",
        "/admin;x=y/z",
        "/admin;x",
        "/ADMIN",
        "/%2561dmin",
        "/admin%3Bx",
        "/admin%20/x",
        "/admin./x",
        "/admin?x",
        "/denied",
    ] {
        assert_eq!(status(path), 403, "{path}");
    }
    for path in ["/administration", "/admin/open", "/admin/open/x", "/x/admin"] {
        assert_eq!(status(path), 404, "{path}: nginx has no such file");
    }
    for path in ["/;/admin", "/;x=y/admin", "/;a/;b/admin", "/.;/admin", "/x/..%3b/admin", "/%252e%252e/admin"] {
        assert_eq!(status(path), 400, "{path}");
    }
    let mut kept = Client::connect(gate.http).expect("it listens");
    let hello = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
    assert_eq!(kept.ask(hello).status, 200);
    gate.reload("", &site("{ deny = [\"127.0.0.0/8\"] }"));
    eventually("the reload", || (status("/echo") == 403).then_some(()));
    assert_eq!(kept.ask(hello).status, 403, "on a connection that was open too");
}
