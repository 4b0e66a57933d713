//! What is hard on a gate: clients that leave, are slow, or send too much; servers that swallow everything; a full disk; nobody to tell.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::client::{Client, exchange};
use super::faults::Load;
use super::http2_client::Http2Client;
use super::stays::{Others, websocket};
use super::tls::{Certificate, curl};
use super::upstream::{Echo, Recorder, Upstream, process_with};
use super::{Gate, policy};
use crate::harness::{Up, command, eventually, folder_with, free_port, garant, report, transcript};
use bytes::Bytes;

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";

fn in_flight(gate: &Gate) -> u64 {
    gate.status()["sites"][0]["upstreams"][0]["in_flight"].as_u64().expect("a count")
}

/// A client of HTTP/1.1 that goes away takes its request along, but for one that may not be done by half.
#[test]
fn a_client_that_goes_away_ends_its_request() {
    let patient = Recorder::start("");
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", patient.address()));
    let send = |request: &str| {
        let mut client = Client::connect(gate.http).expect("it listens");
        client.send(request);
        client
    };
    let post = send("POST /post HTTP/1.1\r\nHost: t.example\r\nContent-Length: 2\r\n\r\nhi");
    eventually("the post to be under way", || patient.heard().ends_with("hi").then_some(()));
    drop(post);
    for number in 1..=3 {
        let get = send(&format!("GET /{number} HTTP/1.1\r\nHost: t.example\r\n\r\n"));
        eventually("it to be under way", || patient.heard().contains(&format!("GET /{number} ")).then_some(()));
        assert_eq!(in_flight(&gate), 2);
        drop(get);
        eventually("it to end behind the gate", || (patient.left() == number).then_some(()));
    }
    assert_eq!((in_flight(&gate), patient.left()), (1, 3), "the post goes on: it was sent whole");
    // One that asks two things at once has not gone: the second waits.
    let mut both = send("GET /4 HTTP/1.1\r\nHost: t.example\r\n\r\nGET /5 HTTP/1.1\r\nHost: t.example\r\n\r\n");
    eventually("the first", || patient.heard().contains("GET /4 ").then_some(()));
    assert!(both.send_bytes(b"GET") && !patient.heard().contains("GET /5 "));
    assert_eq!(in_flight(&gate), 2);
}

/// A reply to a request that outlives its client is read to its end, and the connection to the upstream serves the next one.
#[test]
fn what_outlives_its_client_comes_to_its_end() {
    let near = Upstream::start(1);
    let gate = Gate::start_with("threads = 1", &format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    near.signal("STOP");
    let mut client = Client::connect(gate.http).expect("it listens");
    client.send("POST /nth HTTP/1.1\r\nHost: t.example\r\nContent-Length: 2\r\n\r\nhi");
    eventually("it to be under way", || (in_flight(&gate) == 1).then_some(()));
    drop(client);
    near.signal("CONT");
    eventually("its end", || (in_flight(&gate) == 0).then_some(()));
    let mut next = Client::connect(gate.http).expect("it listens");
    let nth = next.ask("GET /nth HTTP/1.1\r\nHost: t.example\r\n\r\n").text();
    assert_eq!(nth, "2", "it was answered whole, and its connection serves the next one");
    assert_eq!(gate.status()["sites"][0]["upstreams"][0]["failed"], 0, "nothing has failed there");
}

/// NH-11: whoever takes a reply too slowly, or sends a body of HTTP/2 too slowly, is cut off; others are not held up.
#[test]
fn slow_readers_and_slow_streams_are_cut_off() {
    let (near, certificate, https) = (Upstream::start(1), Certificate::make(), free_port());
    let patient = Recorder::start("");
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nredirect_to_https = false\n{}\n\
         route = [{{ path = \"/wait\", upstream = [{{ url = \"http://{}\" }}] }}]",
        near.address(),
        certificate.keys(),
        patient.address()
    );
    std::fs::write(near.folder().join("huge"), vec![b'x'; 40_000_000]).expect("written");
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]\nrate_min = 1000"), &site);
    let mut slow = Client::connect(gate.http).expect("it listens");
    slow.send("GET /huge HTTP/1.1\r\nHost: t.example\r\n\r\n");
    eventually("it to be under way", || (in_flight(&gate) == 1).then_some(()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cut = runtime.block_on(async {
        let mut client = Http2Client::connect(&certificate.path("ca.pem"), https).await;
        let stalled = client.stall("POST", "/wait", Bytes::from_static(b"half"), 1000).await;
        (stalled, client.ask("GET", "/echo", None).await)
    });
    assert_eq!(cut, (Ok(408), Ok(200)), "the stream is over, and the connection is not");
    eventually("the slow reader to be cut off", || (in_flight(&gate) == 0).then_some(()));
    assert_eq!(exchange(gate.http, HELLO), 200);
}

/// NH-11: whatever is too large is refused as what it is, in either version of HTTP.
#[test]
fn whatever_is_too_large_is_refused() {
    let (near, certificate, https) = (Upstream::start(1), Certificate::make(), free_port());
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nredirect_to_https = false\n{}\n\
         body_bytes_max = 1000",
        near.address(),
        certificate.keys()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    let head = |first: &str, fields: &str| format!("{first} HTTP/1.1\r\nHost: t.example\r\n{fields}\r\n");
    let long = |bytes: usize| "x".repeat(bytes);
    for (request, status) in [
        (head(&format!("GET /{}", long(9000)), ""), 414),
        (head(&format!("{} /", long(9000)), ""), 414),
        (head("GET /", &format!("X: {}\r\n", long(40_000))), 431),
        (head("GET /", &format!("{}: x\r\n", long(40_000))), 431),
        (head("GET /", &"X: y\r\n".repeat(101)), 431),
        (head("POST /echo", "Content-Length: 1001\r\n"), 413),
        (head("POST /echo", "Content-Length: 99999999999999999999999\r\n"), 400),
        (head("POST /echo", "Transfer-Encoding: chunked\r\n") + &format!("3e9\r\n{}\r\n0\r\n\r\n", long(1001)), 413),
        (head("POST /echo", "Transfer-Encoding: chunked\r\n") + "fffffffffffffffff\r\n", 400),
        (head("POST /echo", "Transfer-Encoding: chunked\r\n") + &format!("1;{}\r\n", long(20_000)), 400),
        (head("POST /echo", "Transfer-Encoding: chunked\r\n") + &format!("0\r\nX: {}\r\n\r\n", long(40_000)), 400),
    ] {
        let shown = request.get(..40).unwrap_or(&request);
        let got = exchange(gate.http, &request);
        // The reply may be lost where much was left unread: a connection that ends is a refusal too.
        assert!(got == status || got == 0, "{shown}: {got}, not {status}");
        assert_eq!(exchange(gate.http, HELLO), 200, "after {shown}");
    }
    let authority = certificate.path("ca.pem");
    let url = |path: &str| format!("https://t.example:{https}{path}");
    for (path, field) in [
        (format!("/{}", long(9000)), "X: y".to_owned()),
        ("/echo".to_owned(), format!("X: {}", long(40_000))),
        ("/echo".to_owned(), format!("Cookie: {}", long(40_000))),
    ] {
        let refused = curl(&authority, https, &url(&path), &["--http2", "-H", &field]);
        let text = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert!(text.starts_with("HTTP/2 4") || !refused.status.success(), "{}", transcript(&refused));
        let hello = curl(&authority, https, &url("/echo"), &["--http2"]);
        assert!(hello.stdout.starts_with(b"HTTP/2 200 "), "{}", transcript(&hello));
    }
}

/// A port whose queue is full: connections to it are never made.
struct BlackHole {
    _silent: TcpListener,
    _held: Vec<TcpStream>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
        let silent = eventually("its port", || TcpListener::bind(address).ok());
        let mut held = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            held.push(stream);
            assert!(held.len() < 5000, "the queue has an end");
        }
        Self { _silent: silent, _held: held }
    }
}

/// AV-2: an upstream that swallows connections, or takes them and is silent, costs no client anything: of HTTP/1.1 and HTTP/2, with
/// uploads that come slowly, and no WebSocket that goes elsewhere or is opened.
#[test]
fn black_holes_swallow_nothing() {
    let (mut near, far, echo, certificate) =
        (Upstream::start(1), Upstream::start(2), Echo::start(), Certificate::make());
    let https = free_port();
    let two = |first: SocketAddr, second: SocketAddr| {
        format!(
            "[{{ url = \"http://{first}\", region = \"near\" }}, {{ url = \"http://{second}\", region = \"far\" }}]"
        )
    };
    let site = format!(
        "upstream = {}\ncheck_every = \"500 ms\"\ncheck_within = \"500 ms\"\ndown_after = 2\nconnect_within = \"500 ms\"\n\
         check = \"/health\"\nreplay_bytes_max = 1000000\nredirect_to_https = false\n\
         {}\nroute = [{{ path = \"/ws\", upstream = [{{ url = \"http://{}\" }}] }}]",
        two(near.address(), far.address()),
        certificate.keys(),
        echo.address()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    let (load, others) = (Load::begin(gate.http, 4), Others::begin(gate.http, https, &certificate.path("ca.pem")));
    others.go_on();
    let is = |state: &str| (gate.status()["sites"][0]["upstreams"][0]["state"] == state).then_some(());
    near.signal("STOP");
    others.go_on();
    eventually("checks to find that it is silent", || is("down"));
    others.go_on();
    near.signal("CONT");
    eventually("it to come back", || is("up"));
    let address = near.address();
    near.kill();
    let hole = BlackHole::at(address);
    others.go_on();
    // One is opened while the way to its upstream swallows it.
    drop(websocket(gate.http));
    eventually("checks to find that it swallows everything", || is("down"));
    others.go_on();
    drop(hole);
    load.go_on("black holes", 1.0, 50);
    load.end();
    let [frames, uploads, streams] = others.end();
    report(&format!("black holes: {frames} frames, {uploads} uploads, {streams} requests of HTTP/2, 0 failed"));
    assert_eq!(gate.status()["sites"][0]["failed"], 0);
}

/// The state of the gate and its access log on a disk that is full: it forwards, follows a reload, closes a site, and says what it can't
/// keep.
#[test]
fn a_full_disk_stops_no_request() {
    /// Goes last, with the folder that could not be removed before.
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            drop(command("umount").arg("--lazy").arg(self.0.join("data.gate")).status());
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
    let near = Upstream::start(1);
    let (team, http) = (free_port(), free_port());
    let site = |more: &str| format!("upstream = [{{ url = \"http://{}\" }}]\n{more}", near.address());
    let folder = folder_with("");
    let disk = folder.path().join("data.gate");
    let log = format!("access_log = \"{}\"", disk.join("access.log").display());
    std::fs::write(folder.path().join("garant.toml"), policy(team, http, &log, &site(""))).expect("written");
    std::fs::create_dir(&disk).expect("made");
    let mounted = command("mount").args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"]).arg(&disk).status();
    assert!(mounted.expect("mount runs").success());
    let _mounted = Mounted(folder.path().to_owned());
    let gate = Gate { up: Up::start_in(folder), team, http };
    eventually("the gate to serve", || (exchange(http, HELLO) == 200).then_some(()));
    // Until not one byte more fits.
    let filler = disk.join("filler");
    let filled = command("sh").args(["-c", "cat /dev/zero > \"$0\""]).arg(&filler).output().expect("sh runs");
    assert!(!filled.status.success(), "the disk is full");
    let load = Load::begin(http, 4);
    load.go_on("the disk is full", 1.0, 50);
    gate.reload(&log, &site("replay_bytes_max = 12345"));
    load.go_on("a reload on a full disk", 0.5, 20);
    load.end();
    eventually("the log to be missed", || {
        gate.status()["problems"].to_string().contains("can't be written").then_some(())
    });
    let drained = gate.ask(&["drain", &near.address().to_string()]);
    assert_eq!(drained.status.code(), Some(1), "{}", transcript(&drained));
    assert!(transcript(&drained).contains("it can't be written to the disk"), "{}", transcript(&drained));
    assert_eq!(exchange(http, HELLO), 503, "in effect all the same");
    assert_eq!(gate.ask(&["resume", &near.address().to_string()]).status.code(), Some(1), "nor can that be written");
    assert_eq!(exchange(http, HELLO), 200);
    let closed = gate.ask(&["close", "t.example", "--json"]);
    assert_eq!(closed.status.code(), Some(1), "it is not kept: {}", transcript(&closed));
    let said: serde_json::Value = serde_json::from_slice(&closed.stdout).expect("JSON");
    assert_eq!((said["closed"].as_bool(), said["kept"].as_bool()), (Some(true), Some(false)));
    assert_eq!(exchange(http, HELLO), 403, "in effect all the same");
    let problems = gate.status()["problems"].to_string();
    assert!(problems.contains("a restart of the gate forgets which sites are closed by commands"), "{problems}");
    std::fs::remove_file(&filler).expect("removed");
    eventually("the log to go on, and what was decided to be kept", || {
        assert_eq!(exchange(http, HELLO), 403);
        gate.status()["problems"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let pid = process_with(&["gate", "--state", disk.to_str().expect("UTF-8")]);
    assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    assert_eq!(eventually("another gate", || Some(exchange(http, HELLO)).filter(|status| *status != 0)), 403);
    assert!(gate.ask(&["open", "t.example"]).status.success());
    assert_eq!(exchange(http, HELLO), 200);
}

/// AV-4, AV-5: what happens while the server is dead is in the journal once it is back, also when the gate was killed in between.
#[test]
fn what_happens_while_nobody_listens_is_journaled_later() {
    let near = Upstream::start(1);
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    let (http, state) = (gate.http, gate.up.path("data.gate"));
    let socket = state.join("gate.sock").display().to_string();
    eventually("the gate to serve", || (exchange(http, HELLO) == 200).then_some(()));
    let folder = gate.up.crash();
    let drained = garant(&["gate", "drain", &near.address().to_string(), "--gate", &socket]);
    assert!(drained.status.success(), "{}", transcript(&drained));
    assert_eq!(exchange(http, HELLO), 503);
    let pid = process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    let up = Up::start_in(folder);
    eventually("the gate to be there again", || (exchange(http, HELLO) == 503).then_some(()));
    let data = up.path("data");
    eventually("the entry", || {
        let shown =
            garant(&["log", "show", "--kind", "gate.drained", "--json", "--data", data.to_str().expect("UTF-8")]);
        String::from_utf8(shown.stdout).ok().filter(|entries| entries.contains("\"drained\":true"))
    });
}
