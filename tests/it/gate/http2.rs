//! HTTP/2 of the gate: what curl gets, and what comes of frames that no honest client sends.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Output, Stdio};

use super::Gate;
use super::resident_kib;
use super::tls::{Certificate, curl};
use super::upstream::{Recorder, Upstream, process_with};
use crate::harness::{command, eventually, free_port, report, transcript};

/// HTTP/2 by ALPN, asked by curl: heads, bodies in both directions, refusals, many requests at once; upstreams speak HTTP/1.1.
#[test]
fn http2_is_spoken_with_whoever_asks_for_it() {
    let near = Upstream::start(1);
    let reads = Recorder::answering_whole_requests("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let certificate = Certificate::make();
    let https = free_port();
    let log = tempfile::NamedTempFile::new().expect("a file");
    let site = format!(
        "redirect_from = [\"www.t.example\"]\n{}\nupstream = [{{ url = \"http://{}\" }}]\n\
         body_bytes_max = 500000\naffinity = \"at\"\n\
         route = [{{ path = \"/put\", upstream = [{{ url = \"http://{}\" }}] }}]",
        certificate.keys(),
        near.address(),
        reads.address()
    );
    let gate =
        Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]\naccess_log = \"{}\"", log.path().display()), &site);
    let authority = certificate.path("ca.pem");
    let url = |path: &str| format!("https://t.example:{https}{path}");
    let ask = |path: &str, more: &[&str]| curl(&authority, https, &url(path), &[&["--http2"], more].concat());
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let hello = ask("/echo?x", &["-H", "Cookie: a=b", "-H", "X_Evil: 1", "-H", "X-Forwarded-For: 6.6.6.6"]);
    let said = text(&hello);
    assert!(said.starts_with("HTTP/2 200 "), "{}", transcript(&hello));
    assert!(said.contains(&format!("host=t.example:{https} for=127.0.0.1 proto=https evil= length=")), "{said}");
    assert!(said.contains("set-cookie: at=") && said.contains("; Secure"), "{said}");
    // Larger than the window of a stream: it opens by what was sent on.
    let body = "x".repeat(300_000);
    std::fs::write(certificate.path("body"), &body).expect("written");
    let upload = format!("@{}", certificate.path("body").display());
    let put = ask("/put", &["-X", "PUT", "--data-binary", &upload]);
    assert!(text(&put).starts_with("HTTP/2 200 "), "{}", transcript(&put));
    assert!(reads.heard().contains("Content-Length: 300000\r\n") && reads.heard().ends_with(&body), "all of it");
    reads.forget();
    let chunked = ask("/put", &["-X", "PUT", "--data-binary", &upload, "-H", "Content-Length:"]);
    assert!(text(&chunked).starts_with("HTTP/2 200 "), "{}", transcript(&chunked));
    assert!(reads.heard().contains("Transfer-Encoding: chunked\r\n"), "its length was not known");
    std::fs::write(certificate.path("body"), body.repeat(2)).expect("written");
    let large = ask("/put", &["-X", "PUT", "--data-binary", &upload]);
    assert!(text(&large).starts_with("HTTP/2 413 "), "{}", transcript(&large));
    let got = certificate.path("got");
    let got_by = ask("/big", &["-o", got.to_str().expect("UTF-8"), "--no-include"]);
    assert!(got_by.status.success(), "{}", transcript(&got_by));
    assert!(std::fs::read(&got).expect("there") == std::fs::read(near.folder().join("big")).expect("there"));
    let head = ask("/big", &["-I"]);
    assert!(text(&head).contains("content-length: 3000000"), "{}", transcript(&head));
    for (more, status) in [
        (&["-H", "Host: www.t.example"][..], 421),
        (&["-H", "Host: other.example"], 421),
        (&["-H", "X-Bad: a\x0bb"], 0),
        (&["-X", "TRACE"], 405),
        (&["--path-as-is", "--url", &url("/a/../../b")], 400),
        (&["--path-as-is", "--url", &url("/a%2fb")], 400),
    ] {
        let refused = ask("/echo", more);
        let expected = format!("HTTP/2 {status} ");
        assert!(status == 0 || text(&refused).contains(&expected), "{more:?}: {}", transcript(&refused));
    }
    let many: Vec<String> = (0..60).map(|number| url(&format!("/echo?n={number}"))).collect();
    let mut arguments = vec!["--parallel", "--parallel-max", "60"];
    arguments.extend(many.iter().map(String::as_str));
    let at_once = ask("/echo", &arguments);
    assert_eq!(text(&at_once).matches("HTTP/2 200").count(), 61, "{}", transcript(&at_once));
    eventually("the log", || {
        let lines = std::fs::read_to_string(log.path()).ok()?;
        lines.contains("\"GET /echo?n=59 HTTP/2.0\" 200 ").then_some(())
    });
    let status = gate.status();
    assert_eq!(status["sites"][0]["failed"], 0, "{status}");
}

/// What a client says first, with empty settings (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of `GET /echo` at the site (RFC 7541), and whatever is added to it.
fn head(more: &[u8]) -> Vec<u8> {
    [&b"\x82\x87\x01\x09t.example\x04\x05/echo"[..], more].concat()
}

/// What an attacker sends after the preface, on streams of odd numbers.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let streams = |count: u32| (0..count).map(|number| 2 * number + 1);
    let open = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(b""));
    let reset = |stream| [open(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    // A window of nothing more is an error of the stream, for which the server resets it.
    let provoke = |stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat();
    let field = [&b"\x00\x01x\x7f\x81\x07"[..], &[b'y'; 1024]].concat();
    let flood = (0..2000).map(|_| frame(CONTINUATION, 0, 1, &field)).collect::<Vec<_>>().concat();
    // A field in the table of the connection, and four thousand references to it in each head; no window for any answer.
    let add = [&b"\x40\x01x\x7f\x00"[..], &[b'y'; 127]].concat();
    let bomb = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(&[b'\xbe'; 4000]));
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let first = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(&add));
    let bombs = streams(200).skip(1).map(bomb).collect::<Vec<_>>().concat();
    vec![
        ("rapid reset", streams(10_000).map(reset).collect::<Vec<_>>().concat()),
        ("MadeYouReset", streams(10_000).map(provoke).collect::<Vec<_>>().concat()),
        ("CONTINUATION flood", [frame(HEADERS, END_STREAM, 1, &head(b"")), flood].concat()),
        ("HPACK bomb", [no_window, first, bombs].concat()),
        ("no preface", vec![b'x'; 100_000]),
    ]
}

/// A gate with a site over TLS in front of this upstream, and its port.
fn secured(upstream: SocketAddr) -> (Gate, Certificate, u16) {
    let certificate = Certificate::make();
    let https = free_port();
    let site = format!("{}\nupstream = [{{ url = \"http://{upstream}\" }}]", certificate.keys());
    (Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site), certificate, https)
}

/// A connection of HTTP/2 over TLS that sends whatever it is given.
fn attacker(https: u16) -> (Child, ChildStdin) {
    let mut openssl = command("openssl");
    openssl.args(["s_client", "-quiet", "-alpn", "h2", "-servername", "t.example", "-connect"]);
    openssl.arg(format!("127.0.0.1:{https}")).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut attacker = openssl.spawn().expect("openssl runs");
    let input = attacker.stdin.take().expect("piped");
    (attacker, input)
}

/// NH-11: a connection that attacks costs its own connection and little memory, and nobody else notices.
#[test]
fn frames_that_attack_cost_the_attacker() {
    let near = Upstream::start(1);
    let (gate, certificate, https) = secured(near.address());
    let pid = process_with(&["gate", "--state", gate.up.path("data.gate").to_str().expect("UTF-8")]);
    let authority = certificate.path("ca.pem");
    let honest = || {
        let hello = curl(&authority, https, &format!("https://t.example:{https}/echo"), &["--http2"]);
        assert!(hello.stdout.starts_with(b"HTTP/2 200 "), "{}", transcript(&hello));
    };
    (0..20).for_each(|_| honest());
    let before = resident_kib(&pid);
    for (name, frames) in attacks() {
        let (mut attacker, mut input) = attacker(https);
        let preface = if name == "no preface" { &b""[..] } else { PREFACE };
        let sending = std::thread::spawn(move || {
            // The connection may end before all of it is sent.
            drop(input.write_all(preface).and_then(|()| input.write_all(&frames)));
            input
        });
        honest();
        let input = sending.join().expect("it ends");
        let grown = resident_kib(&pid).saturating_sub(before);
        report(&format!("{name}: {grown} KiB more"));
        assert!(grown < 4 * 1024, "{name}: {grown} KiB");
        eventually("the gate to end the connection", || attacker.try_wait().expect("it can be waited for"));
        drop(input);
    }
    honest();
    assert_eq!(gate.status()["sites"][0]["failed"], 0);
}

/// A client that gives requests up as soon as they are under way makes no more work behind the gate than one that waits for them.
#[test]
fn requests_that_are_given_up_end_behind_the_gate_too() {
    let patient = Recorder::start("");
    let (gate, _certificate, https) = secured(patient.address());
    let (mut attacker, mut input) = attacker(https);
    input.write_all(PREFACE).expect("it takes it");
    let in_flight = || gate.status()["sites"][0]["upstreams"][0]["in_flight"].as_u64().expect("a count");
    for round in 0..3_u32 {
        let streams: Vec<u32> = (0..50).map(|number| 2 * (round * 50 + number) + 1).collect();
        for stream in &streams {
            input.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, *stream, &head(b""))).expect("it takes it");
        }
        eventually("all to be under way", || (in_flight() == 50).then_some(()));
        for stream in &streams {
            input.write_all(&frame(RST_STREAM, 0, *stream, &8_u32.to_be_bytes())).expect("it takes it");
        }
        eventually("all to be given up", || (in_flight() == 0).then_some(()));
    }
    drop((input, attacker.kill(), attacker.wait()));
}
