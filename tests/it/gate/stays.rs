//! The gate stays: whatever is replaced of it, its policy, its listeners or its own program, no request and no WebSocket is lost.

use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use super::client::{Client, exchange};
use super::faults::Load;
use super::http2_client::{Http2Client, UNSEEN};
use super::tls::{Certificate, curl};
use super::upstream::{Echo, Upstream, process_of};
use super::{Gate, policy};
use crate::harness::{
    Up, binary, command, eventually, free_port, garant, number, put_program, put_script, report, transcript,
};

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
/// A masked frame of five bytes, as clients send them.
const FRAME: [u8; 11] = [0x82, 0x85, 1, 2, 3, 4, b'h', b'e', b'l', b'l', b'o'];
/// `1001 (Going Away)`, to a client.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A WebSocket through the gate.
pub(super) fn websocket(port: u16) -> Client {
    let mut client = Client::connect(port).expect("it listens");
    client.send("GET /ws HTTP/1.1\r\nHost: t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// Whether a WebSocket carries a frame there and back.
pub(super) fn is_alive(socket: &mut Client) -> bool {
    socket.send_bytes(&FRAME) && socket.read(FRAME.len()) == FRAME
}

/// Clients of every kind beside those of [`Load`], until they are told to stop.
pub(super) struct Others {
    stop: Arc<AtomicBool>,
    done: Arc<[AtomicU64; 3]>,
    clients: Vec<std::thread::JoinHandle<()>>,
}

impl Others {
    pub(super) fn begin(http: u16, https: u16, authority: &Path) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<[AtomicU64; 3]>::default());
        let mut clients = Vec::new();
        for _ in 0..3 {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            clients.push(std::thread::spawn(move || keep_websocket(http, &stop, &done[0])));
        }
        for _ in 0..2 {
            let (upload_stop, upload_done) = (Arc::clone(&stop), Arc::clone(&done));
            clients.push(std::thread::spawn(move || upload_slowly(http, &upload_stop, &upload_done[1])));
            let (stop, done, authority) = (Arc::clone(&stop), Arc::clone(&done), authority.to_owned());
            clients.push(std::thread::spawn(move || ask_by_http2(&authority, https, &stop, &done[2])));
        }
        Self { stop, done, clients }
    }

    fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|index: usize| self.done[index].load(Ordering::Relaxed))
    }

    /// Waits until each kind has done some more: one that hangs fails by its own deadline, or here.
    pub(super) fn go_on(&self) {
        let before = self.counts();
        eventually("clients of every kind to go on", || {
            self.counts().iter().zip(before).all(|(now, before)| *now >= before + 2).then_some(())
        });
    }

    pub(super) fn end(self) -> [u64; 3] {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.counts();
        for client in self.clients {
            client.join().expect("nothing of it has failed");
        }
        counts
    }
}

/// One WebSocket, for all of the time.
fn keep_websocket(port: u16, stop: &AtomicBool, done: &AtomicU64) {
    let mut socket = websocket(port);
    while !stop.load(Ordering::Relaxed) {
        assert!(is_alive(&mut socket), "a WebSocket is lost");
        done.fetch_add(1, Ordering::Relaxed);
        crate::harness::pause(0.02);
    }
}

/// Uploads whose bytes come little by little.
fn upload_slowly(port: u16, stop: &AtomicBool, done: &AtomicU64) {
    let piece = "x".repeat(20_000);
    while !stop.load(Ordering::Relaxed) {
        let mut client = Client::connect(port).expect("it listens");
        client.send(&format!("PUT /echo HTTP/1.1\r\nHost: t.example\r\nContent-Length: {}\r\n\r\n", 20 * piece.len()));
        for _ in 0..20 {
            client.send(&piece);
            crate::harness::pause(0.02);
        }
        let reply = client.reply(false).expect("an upload is answered");
        assert_eq!(reply.status, 200);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Requests with and without bodies, on a connection for as long as its server takes more.
fn ask_by_http2(authority: &Path, port: u16, stop: &AtomicBool, done: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Http2Client::connect(authority, port).await;
        while !stop.load(Ordering::Relaxed) {
            if !client.is_open().await {
                client = Http2Client::connect(authority, port).await;
            }
            for (method, body) in [("GET", None), ("PUT", Some(Bytes::from(vec![b'x'; 30_000])))] {
                if client.is_open().await {
                    match client.ask(method, "/echo", body).await {
                        Ok(status) => assert_eq!(status, 200),
                        // Sent while the GOAWAY was under way that says that it was not looked at (RFC 9113, section 6.8): every
                        // client sends it again, as this one does.
                        Err(why) => assert_eq!(why, UNSEEN, "{method}"),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
}

/// The process that a server is attached to.
fn pid_of(gate: &Gate) -> String {
    pid_of_any(gate).expect("such a process")
}

/// The same; `None` where there is none.
fn pid_of_any(gate: &Gate) -> Option<String> {
    process_of(&["gate", "--state", gate.up.path("data.gate").to_str().expect("UTF-8")])
}

/// AV-4: reloads that change upstreams, listeners and threads, and upgrades of the program, under load of every kind: no request
/// fails, and no WebSocket. `scripts/campaign stay` does more of them.
#[test]
fn reloads_and_upgrades_cost_no_request_and_no_websocket() {
    let (reloads, upgrades) = (number("GARANT_RELOADS", 6), number("GARANT_UPGRADES", 3));
    let (near, far, echo, certificate) = (Upstream::start(1), Upstream::start(2), Echo::start(), Certificate::make());
    let (https, more) = (free_port(), free_port());
    let site = |number: u64| {
        let order = if number.is_multiple_of(2) { [&near, &far] } else { [&far, &near] };
        let upstreams = order.map(|it| format!("{{ url = \"http://{}\" }},", it.address())).concat();
        format!(
            "upstream = [{upstreams}]\ncheck = \"/health\"\nreplay_bytes_max = {}\n\
             {}\nredirect_to_https = false\n\
             route = [{{ path = \"/ws\", upstream = [{{ url = \"http://{}\" }}] }}]",
            10_000 + number,
            certificate.keys(),
            echo.address()
        )
    };
    let listen = |number: u64| {
        // A listener comes and goes, and so does a thread.
        let also = if number.is_multiple_of(3) { format!(", \"127.0.0.1:{more}\"") } else { String::new() };
        format!("https = [\"127.0.0.1:{https}\"{also}]\nthreads = {}\ndrain = \"10 min\"", 1 + number % 2)
    };
    let gate = Gate::start_with(&listen(0), &site(0));
    // Open to the end: the process that `garant up` has started has it, and has not ended when that stops.
    let held = websocket(gate.http);
    let (load, others) = (Load::begin(gate.http, 4), Others::begin(gate.http, https, &certificate.path("ca.pem")));
    others.go_on();
    for number in 1..=reloads.max(upgrades) {
        if number <= reloads {
            gate.reload(&listen(number), &site(number));
        }
        if number <= upgrades {
            let before = gate.ask(&["status", "--json"]);
            let upgraded = gate.ask(&["upgrade", "--json"]);
            assert!(
                upgraded.status.success(),
                "{} after {}: {}",
                transcript(&upgraded),
                transcript(&before),
                gate.up.errors()
            );
        }
        others.go_on();
    }
    load.go_on("after reloads and upgrades", 1.0, 50);
    load.end();
    let [frames, uploads, streams] = others.end();
    report(&format!(
        "{reloads} reloads, {upgrades} upgrades: {frames} frames, {uploads} uploads, {streams} requests of HTTP/2, 0 failed"
    ));
    eventually("the server to be attached to the last one", || {
        let figures = String::from_utf8(crate::harness::get(&gate.up.url("metrics"))?).ok()?;
        figures.contains("garant_gates_gate_attached 1").then_some(())
    });
    assert_eq!(gate.status()["sites"][0]["failed"], 0);
    let http = gate.http;
    drop(gate.up.stop());
    eventually("the last one to stop with its server", || Client::connect(http).is_none().then_some(()));
    drop(held);
}

/// A server that stops leaves no gate behind: neither the one that it has started, nor those that have taken its place, nor one that
/// still ends what it had begun.
#[test]
fn a_server_that_stops_leaves_no_gate() {
    let echo = Echo::start();
    let gate =
        Gate::start_with("drain = \"10 min\"", &format!("upstream = [{{ url = \"http://{}\" }}]", echo.address()));
    let first = pid_of(&gate);
    assert!(command("kill").args(["-9", &first]).status().expect("kill runs").success());
    let again = eventually("the gate to be there again", || Some(pid_of_any(&gate)?).filter(|pid| *pid != first));
    let mut held = Vec::new();
    for _ in 0..2 {
        // Each of them has something to end.
        held.push(eventually("it to serve", || {
            let mut client = Client::connect(gate.http)?;
            client.send("GET /ws HTTP/1.1\r\nHost: t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
            client.head().starts_with("HTTP/1.1 101 ").then_some(client)
        }));
        let upgraded = gate.ask(&["upgrade"]);
        assert!(upgraded.status.success(), "{}", transcript(&upgraded));
    }
    let alive = |pid: &str| Path::new("/proc").join(pid).exists();
    assert!(alive(&again) && pid_of(&gate) != again, "three of them are there");
    let (http, state) = (gate.http, gate.up.path("data.gate"));
    let folder = gate.up.stop();
    assert!(Client::connect(http).is_none(), "nobody listens any more");
    let left = process_of(&["gate", "--state", state.to_str().expect("UTF-8")]);
    assert_eq!(left, None, "none is left");
    drop((held, folder));
}

/// AV-4: what is still open when `drain` is over is told so: a WebSocket by 1001, to both of its ends, HTTP/2 by GOAWAY; and what the gate
/// knew the next one knows.
#[test]
fn what_outlives_the_drain_is_told_to_go() {
    let (near, echo, certificate) = (Upstream::start(1), Echo::start(), Certificate::make());
    let mut gone = Upstream::start(2);
    let https = free_port();
    let site = format!(
        "upstream = [{{ url = \"http://{}\", region = \"near\" }}, {{ url = \"http://{}\", region = \"far\" }}]\n\
         check_every = \"200 ms\"\ndown_after = 1\nredirect_to_https = false\n\
         {}\n\
         route = [{{ path = \"/ws\", upstream = [{{ url = \"http://{}\" }}] }}]",
        near.address(),
        gone.address(),
        certificate.keys(),
        echo.address()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]\ndrain = \"6 s\""), &site);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut http2 = runtime.block_on(Http2Client::connect(&certificate.path("ca.pem"), https));
    assert_eq!(runtime.block_on(http2.ask("GET", "/echo", None)), Ok(200));
    let mut kept = Client::connect(gate.http).expect("it listens");
    assert_eq!(kept.ask(HELLO).status, 200);
    let mut socket = websocket(gate.http);
    assert!(is_alive(&mut socket));
    let in_frame = {
        let mut socket = websocket(gate.http);
        assert!(socket.send_bytes(&FRAME[..4]) && socket.read(4) == FRAME[..4]);
        socket
    };
    gone.kill();
    eventually("it to be down", || (gate.status()["sites"][0]["upstreams"][1]["state"] == "down").then_some(()));
    assert!(gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]).status.success());
    assert!(gate.ask(&["drain", &echo.address().to_string()]).status.success());

    let before = pid_of(&gate);
    let upgraded = gate.ask(&["upgrade", "--json"]);
    assert!(upgraded.status.success(), "{}", transcript(&upgraded));
    let status = gate.status();
    assert_eq!(status["sites"][0]["closed"], true);
    assert_eq!(status["sites"][0]["upstreams"][1]["state"], "down", "it has not to be found out again");
    assert_eq!(status["sites"][0]["upstreams"][2]["state"], "drained");
    assert!(is_alive(&mut socket), "it goes on with the old process");
    let last = kept.ask(HELLO);
    assert_eq!(
        (last.status, last.field("connection")),
        (200, Some("close")),
        "a request that comes is answered, as the last one"
    );
    runtime.block_on(http2.closes());
    assert_eq!(socket.read_to_end(), GOING_AWAY, "1001, and the end");
    let heard = eventually("the upstream to be told too", || {
        Some(echo.heard()).filter(|heard| heard.len() >= 2 * FRAME.len() + 12)
    });
    let close = heard.windows(8).find(|window| window[..2] == [0x88, 0x82]).expect("a frame that closes");
    assert_eq!([close[6] ^ close[2], close[7] ^ close[3]], [0x03, 0xe9]);
    eventually("the old process to end", || (!Path::new("/proc").join(&before).exists()).then_some(()));
    let mut in_frame = in_frame;
    assert_eq!(in_frame.read_to_end(), b"", "nothing is put into the middle of a frame");
    assert_ne!(pid_of(&gate), before);
    assert!(gate.ask(&["open", "t.example"]).status.success());
    assert_eq!(exchange(gate.http, HELLO), 200);
}

/// A gate that no server has started, with the state that one has left: its program may be replaced.
struct Alone {
    folder: TempDir,
    http: u16,
    child: Child,
    heard: UnixDatagram,
    _upstream: Upstream,
}

impl Alone {
    fn start(by: impl FnOnce(&Path, u16) -> Vec<String>) -> Self {
        let (upstream, http) = (Upstream::start(1), free_port());
        let site = format!("upstream = [{{ url = \"http://{}\" }}]", upstream.address());
        let folder = crate::harness::folder_with(&policy(free_port(), http, "drain = \"10 min\"", &site));
        let up = Up::start_in(folder);
        eventually("the gate to listen", || Client::connect(http));
        let folder = up.stop();
        eventually("its end", || Client::connect(http).is_none().then_some(()));
        put_program(binary(), &folder.path().join("garant"));
        let notified = folder.path().join("notify.sock");
        let heard = UnixDatagram::bind(&notified).expect("bound");
        heard.set_read_timeout(Some(super::client::DEADLINE)).expect("set");
        let program = by(folder.path(), http);
        let log = std::fs::File::create(folder.path().join("gate.log")).expect("a log");
        let mut gate = command(&program[0]);
        gate.args(&program[1..]).args(["gate", "--state"]).arg(folder.path().join("data.gate"));
        gate.env("NOTIFY_SOCKET", &notified).stdout(Stdio::null()).stderr(log);
        let child = gate.spawn().expect("it starts");
        eventually("the gate to serve", || (exchange(http, HELLO) == 200).then_some(()));
        Self { folder, http, child, heard, _upstream: upstream }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("garant")
    }

    /// Puts another program in the place of the gate's, as packages do.
    fn replace(&self, script: &str) {
        let new = self.folder.path().join("new");
        put_script(script, &new);
        std::fs::rename(&new, self.program()).expect("replaced");
    }

    fn upgrade(&self) -> std::process::Output {
        self.upgrading().wait_with_output().expect("it ends")
    }

    /// The command, while it waits.
    fn upgrading(&self) -> Child {
        let socket = self.folder.path().join("data.gate/gate.sock");
        let mut garant = command(binary());
        garant.args(["gate", "upgrade", "--gate"]).arg(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        garant.spawn().expect("garant starts")
    }

    /// The next thing that systemd is told.
    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let bytes = self.heard.recv(&mut buffer).expect("something is said");
        String::from_utf8_lossy(&buffer[..bytes]).trim().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("gate.log")).expect("a log")
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let state = self.folder.path().join("data.gate");
        while let Some(pid) = process_of(&["gate", "--state", state.to_str().expect("UTF-8")]) {
            drop(command("kill").args(["-9", &pid]).status());
            crate::harness::pause(0.05);
        }
    }
}

/// AV-4: a program that does not start, or starts and then can't go on, costs nothing: the one that runs goes on, says so, and can be
/// replaced by one that works.
#[test]
fn a_program_that_does_not_start_takes_no_place() {
    let mut alone = Alone::start(|folder, _| vec![folder.join("garant").display().to_string()]);
    let mut kept = Client::connect(alone.http).expect("it listens");
    assert_eq!(kept.ask(HELLO).status, 200);
    let real = alone.folder.path().join("real");
    std::fs::rename(alone.program(), &real).expect("moved");
    let refused = alone.upgrade();
    assert!(transcript(&refused).contains("the one that runs goes on"), "it is missing: {}", transcript(&refused));
    alone.replace("#!/bin/sh\necho broken >&2\nexit 3\n");
    let refused = alone.upgrade();
    assert_eq!(refused.status.code(), Some(1));
    assert!(transcript(&refused).contains("exit status: 3"), "{}", transcript(&refused));
    assert!(alone.log().contains("broken"), "why is in the log");
    // One that is given everything, and then fails.
    let (own, away) = (alone.folder.path().join("data.gate/gate"), alone.folder.path().join("away"));
    std::fs::rename(&own, &away).expect("moved");
    std::fs::write(&own, "in its place").expect("written");
    alone.replace(&format!("#!/bin/sh\nexec {} \"$@\"\n", real.display()));
    let refused = alone.upgrade();
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
    let log = eventually("the log to say so", || Some(alone.log()).filter(|log| log.contains("this one goes on")));
    assert!(log.contains("can't be used"), "{log}");
    assert!(alone.child.try_wait().expect("it can be waited for").is_none());
    assert_eq!(kept.ask(HELLO).status, 200, "nothing has happened");
    assert_eq!(exchange(alone.http, HELLO), 200);
    std::fs::remove_file(&own).expect("removed");
    std::fs::rename(&away, &own).expect("moved back");
    let upgraded = alone.upgrade();
    assert!(upgraded.status.success(), "{} {}", transcript(&upgraded), alone.log());
    assert_eq!(kept.ask(HELLO).field("connection"), Some("close"));
    eventually("the old one to end", || alone.child.try_wait().expect("it can be waited for"));
    assert_eq!(exchange(alone.http, HELLO), 200);
}

/// A file that a process which takes over reads before it serves: it waits there for as long as this is kept.
struct Gap {
    path: PathBuf,
    _writer: std::fs::File,
}

impl Gap {
    /// Has `begin` start such a process, and waits until it is there.
    fn of<T>(alone: &Alone, begin: impl FnOnce() -> T) -> (Self, T) {
        const NONBLOCK: i32 = 0o4000;
        let path = alone.folder.path().join("data.gate/gate/hsts.json");
        assert!(command("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        let begun = begin();
        // It opens only once somebody reads at the other end.
        let open = || std::fs::OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&path).ok();
        let writer = eventually("the new process to have been given everything", open);
        (Self { path, _writer: writer }, begun)
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn kill(pid: &str) {
    assert!(command("kill").args(["-9", pid]).status().expect("kill runs").success(), "{pid}");
}

/// AV-4, ED-1: an upgrade after which a site would be served without its certificate is refused, and changes nothing; one that was never
/// served does not stand in the way.
#[test]
fn an_upgrade_that_would_end_tls_is_refused() {
    let (near, https) = (Upstream::start(1), free_port());
    let (certificate, other) = (Certificate::make(), Certificate::make());
    let site = format!(
        "upstream = [{{ url = \"http://{0}\" }}]\n{1}\n\
         [[site]]\ndomain = \"u.example\"\ncertificate = \"/nowhere/chain.pem\"\nkey = {{ file = \"/nowhere/key.pem\" }}\n\
         upstream = [{{ url = \"http://{0}\" }}]",
        near.address(),
        certificate.keys()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    let is_served = || {
        let url = format!("https://t.example:{https}/echo");
        let hello = curl(&certificate.path("ca.pem"), https, &url, &["--http1.1"]);
        assert!(hello.stdout.starts_with(b"HTTP/1.1 200 "), "{}", transcript(&hello));
    };
    is_served();
    let before = pid_of(&gate);
    let is_refused = |why: &str| {
        let refused = gate.ask(&["upgrade"]);
        let said = transcript(&refused);
        assert_eq!(refused.status.code(), Some(1), "{why}: {said}");
        for part in ["the certificate of t.example can't be used", why, "Mend the files, then upgrade again"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("u.example"), "{said}");
        assert_eq!(pid_of(&gate), before);
        is_served();
    };
    let [chain, key, away] = ["chain.pem", "key.pem", "away"].map(|name| certificate.path(name));
    let own = std::fs::read(&key).expect("a key");
    // At once: the gate has not looked at the files since.
    std::fs::write(&key, std::fs::read(other.path("key.pem")).expect("a key")).expect("written");
    is_refused(&format!("{}, with its key in {}", chain.display(), key.display()));
    std::fs::write(&key, "junk").expect("written");
    is_refused("its key is none in PEM");
    std::fs::write(&key, &own).expect("written");
    std::fs::rename(&chain, &away).expect("moved");
    is_refused("can't be read");
    assert!(command("mkfifo").arg(&chain).status().expect("mkfifo runs").success());
    is_refused("it is no regular file");
    std::fs::rename(&away, &chain).expect("moved back");
    let upgraded = gate.ask(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", transcript(&upgraded));
    is_served();
}

/// AV-4: `kill -9` of either process, after everything was given and before the new one serves. That of the new one costs nothing. That
/// of the old one costs its connections: whoever comes meanwhile waits for the new one, and is answered.
#[test]
fn a_kill_before_the_new_one_serves_leaves_one_of_them() {
    let mut alone = Alone::start(|folder, _| vec![folder.join("garant").display().to_string()]);
    let (old, state) = (alone.child.id().to_string(), alone.folder.path().join("data.gate"));
    let arguments = ["gate", "--state", state.to_str().expect("UTF-8")];
    let newer = || process_of(&arguments).filter(|pid| *pid != old);
    let mut kept = Client::connect(alone.http).expect("it listens");
    assert_eq!(kept.ask(HELLO).status, 200);

    let (gap, upgrading) = Gap::of(&alone, || alone.upgrading());
    kill(&eventually("the new process", newer));
    let refused = upgrading.wait_with_output().expect("it ends");
    assert_eq!(refused.status.code(), Some(1), "{}", transcript(&refused));
    assert!(transcript(&refused).contains("the one that runs goes on"), "{}", transcript(&refused));
    drop(gap);
    eventually("the old one to have its state back", || alone.log().contains("this one goes on").then_some(()));
    assert_eq!(kept.ask(HELLO).status, 200, "nothing has happened");
    assert_eq!(exchange(alone.http, HELLO), 200);

    let (gap, upgrading) = Gap::of(&alone, || alone.upgrading());
    let new = eventually("the new process", newer);
    alone.child.kill().expect("it can be killed");
    alone.child.wait().expect("it ends");
    drop(upgrading.wait_with_output().expect("it ends"));
    assert_eq!(kept.read_to_end(), b"", "its connections end with it");
    let mut waiting = Client::connect(alone.http).expect("the socket is there");
    waiting.send(HELLO);
    drop(gap);
    assert_eq!(waiting.reply(false).map(|reply| reply.status), Some(200), "{}", alone.log());
    assert_eq!(newer(), Some(new));
    let upgraded = alone.upgrade();
    assert!(upgraded.status.success(), "and it can be replaced: {}", transcript(&upgraded));
    assert_eq!(exchange(alone.http, HELLO), 200);
}

/// AV-4: `kill -9` of either process once the new one serves. That of the old one costs what it had left, and nothing else. That of the new
/// one is that of any gate: its server starts another, while the old one goes on with what it has left.
#[test]
fn a_kill_after_the_new_one_serves_costs_its_own_connections() {
    let (near, echo) = (Upstream::start(1), Echo::start());
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nroute = [{{ path = \"/ws\", upstream = [{{ url = \"http://{}\" }}] }}]",
        near.address(),
        echo.address()
    );
    let gate = Gate::start_with("drain = \"10 min\"", &site);
    let upgrade = || {
        let before = pid_of(&gate);
        let upgraded = gate.ask(&["upgrade", "--json"]);
        assert!(upgraded.status.success(), "{}", transcript(&upgraded));
        let said: serde_json::Value = serde_json::from_slice(&upgraded.stdout).expect("JSON");
        (before, said["pid"].to_string())
    };
    let mut socket = websocket(gate.http);
    let (old, new) = upgrade();
    assert!(is_alive(&mut socket), "it goes on with the old process");
    kill(&old);
    assert_eq!(socket.read_to_end(), b"", "and ends with it");
    assert_eq!(exchange(gate.http, HELLO), 200);
    assert_eq!(gate.status()["sites"][0]["closed"], false, "the new one answers for itself");

    let mut socket = websocket(gate.http);
    assert!(gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]).status.success());
    let (old, newest) = upgrade();
    assert_eq!(old, new, "nobody has started another one");
    kill(&newest);
    let another = || process_of(&["gate", "--state", gate.up.path("data.gate").to_str()?]);
    eventually("another gate", || another().filter(|pid| *pid != old && *pid != newest));
    eventually("it to serve", || (exchange(gate.http, HELLO) == 200).then_some(()));
    assert_eq!(gate.status()["sites"][0]["closed"], true, "it knows what was decided");
    assert!(is_alive(&mut socket), "what the old process had begun goes on");
    assert!(Path::new("/proc").join(&old).exists());
}

/// AV-4: sockets that systemd has opened are used, also by the process that takes the place of the first one; systemd is told which it is
/// before that one lets go.
#[test]
fn sockets_of_systemd_are_used_and_it_is_told_who_serves() {
    let alone = Alone::start(|folder, http| {
        let notified = format!("NOTIFY_SOCKET={}", folder.join("notify.sock").display());
        let program = folder.join("garant").display().to_string();
        ["systemd-socket-activate", "-E", &notified, "-l", &format!("127.0.0.1:{http}"), &program]
            .map(str::to_owned)
            .to_vec()
    });
    assert_eq!(alone.told(), "READY=1");
    let state = alone.folder.path().join("data.gate");
    let own = format!("{}", state.join("gate.sock").display());
    let before = alone.child.id();
    let mut kept = Client::connect(alone.http).expect("it listens");
    assert_eq!(kept.ask(HELLO).status, 200);
    let upgraded = garant(&["gate", "upgrade", "--json", "--gate", &own]);
    let said: serde_json::Value = serde_json::from_slice(&upgraded.stdout).expect("JSON");
    assert_eq!(alone.told(), format!("MAINPID={}", said["pid"]));
    assert!(Path::new("/proc").join(before.to_string()).exists(), "a connection of it is open");
    let status = garant(&["gate", "status", "--json", "--gate", &own]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["problems"], serde_json::json!([]));
    assert_eq!(kept.ask(HELLO).status, 200);
    assert_eq!(exchange(alone.http, HELLO), 200);
}

/// An upstream that is drained ends what it has begun, and begins nothing; over reloads and restarts, until it is resumed.
#[test]
fn a_drained_upstream_ends_what_it_has_begun() {
    let (near, echo) = (Upstream::start(1), Echo::start());
    let site = |more: &str| {
        format!(
            "upstream = [{{ url = \"http://{0}\", region = \"near\" }}, {{ url = \"http://{1}\", region = \"far\" }}]\n{more}\n\
             route = [{{ path = \"/ws\", upstream = [{{ url = \"http://{0}\" }}] }}]",
            echo.address(),
            near.address()
        )
    };
    let gate = Gate::start(&site(""));
    let mut socket = websocket(gate.http);
    let address = echo.address().to_string();
    let drained = gate.ask(&["drain", &address, "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&drained.stdout).expect("JSON");
    assert_eq!(
        said,
        serde_json::json!({ "upstream": address, "drained": true, "in_flight": 1, "kept": true, "came_after": false })
    );
    assert!(is_alive(&mut socket), "what was begun goes on");
    let who = |path: &str| exchange(gate.http, &format!("GET {path} HTTP/1.1\r\nHost: t.example\r\n\r\n"));
    assert_eq!((who("/who"), who("/ws")), (200, 503), "the next region takes it; and nobody, where there is no other");
    gate.reload("", &site("replay_bytes_max = 1"));
    eventually("the reload", || (gate.status()["sites"][0]["upstreams"][0]["state"] == "drained").then_some(()));
    assert_eq!((who("/who"), who("/ws")), (200, 503), "a reload changes nothing");
    let pid = pid_of(&gate);
    assert!(command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    eventually("the gate to be there again", || (who("/who") == 200).then_some(()));
    assert_eq!(who("/ws"), 503, "nor does a restart");
    assert_eq!(gate.ask(&["drain", "192.0.2.1:80"]).status.code(), Some(1));
    assert!(gate.ask(&["resume", &address]).status.success());
    drop(websocket(gate.http));
    let data = gate.up.path("data");
    eventually("both in the journal", || {
        let shown =
            garant(&["log", "show", "--kind", "gate.drained", "--json", "--data", data.to_str().expect("UTF-8")]);
        let entries = String::from_utf8(shown.stdout).ok()?;
        (entries.contains("\"drained\":true") && entries.contains("\"drained\":false")).then_some(())
    });
}
