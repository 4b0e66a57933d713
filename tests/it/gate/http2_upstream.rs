//! HTTP/2 behind the gate: gRPC by its own library, and servers that say each thing that HTTP/2 has words for.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::Gate;
use super::client::{Client, exchange};
use super::http2_client::Http2Client;
use super::tls::Certificate;
use super::upstream::connects;
use crate::harness::{command, eventually, free_port, transcript};

/// The Python that has grpcio: scripts/test makes it.
fn python() -> PathBuf {
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/gate-python/bin/python");
    std::env::var_os("GARANT_TEST_GRPC").map_or(made, PathBuf::from)
}

fn calls(arguments: &[&str]) -> std::process::Command {
    let mut program = command(python());
    program.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("gate-python/calls.py")).args(arguments);
    program
}

/// A server of gRPC.
struct Grpc {
    address: SocketAddr,
    said: tempfile::NamedTempFile,
    child: Child,
}

impl Grpc {
    fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let said = tempfile::NamedTempFile::new().expect("a file");
        let mut program = calls(&["serve", &address.port().to_string(), said.path().to_str().expect("UTF-8")]);
        let child = program.stdin(Stdio::null()).spawn().expect("Python with grpcio; scripts/test installs it");
        eventually("a server of gRPC", || connects(address).then_some(()));
        Self { address, said, child }
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

fn site(certificate: &Certificate, upstreams: &str) -> String {
    format!("{}\nredirect_to_https = false\n{upstreams}", certificate.keys())
}

/// Calls of every kind go through, with what comes before and behind them; a call that its client gives up ends behind the gate; a server
/// that is gone is said in the words of gRPC.
#[test]
fn grpc_goes_through() {
    let (mut server, certificate, https) = (Grpc::start(), Certificate::make(), free_port());
    let upstream = format!("upstream = [{{ url = \"http://{}\", protocol = \"h2\" }}]", server.address);
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site(&certificate, &upstream));
    let authority = certificate.path("ca.pem");
    let (port, authority) = (https.to_string(), authority.to_str().expect("UTF-8").to_owned());
    let ask = |what: &str| -> (Value, Output) {
        let output = calls(&[what, &port, &authority]).output().expect("it runs");
        (serde_json::from_slice(&output.stdout).unwrap_or_default(), output)
    };
    let (done, output) = ask("call");
    assert_eq!(
        done,
        json!({
            "unary": "hello", "begin": "this", "end": "trailer", "binary": [0, 255], "large": true,
            "streamed": [500, "499"], "collected": "500000",
            "chat": ["you said one", "you said two", "you said three"],
            "fail": ["NOT_FOUND", "no such thing: é", { "x-why": "it is gone" }],
            "unknown": "UNIMPLEMENTED", "late": "DEADLINE_EXCEEDED",
        }),
        "{}",
        transcript(&output)
    );
    eventually("the server to hear that the call is given up", || {
        std::fs::read_to_string(server.said.path()).ok().filter(|said| said.contains("cancelled"))
    });
    eventually("its checks", || {
        let status = gate.status();
        (status["sites"][0]["upstreams"][0]["state"] == "up").then_some(())
    });
    // A client of HTTP/1.1 is answered as well, and a WebSocket is not.
    let plain = "POST /t.Calls/None HTTP/1.1\r\nHost: t.example\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(gate.http, plain), 200);
    let upgrade = "GET / HTTP/1.1\r\nHost: t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(exchange(gate.http, upgrade), 501);
    drop((server.child.kill(), server.child.wait()));
    eventually("it to be down", || (gate.status()["sites"][0]["upstreams"][0]["state"] == "down").then_some(()));
    assert_eq!(ask("fail").0, json!("UNAVAILABLE"));
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Act {
    Answer,
    /// `REFUSED_STREAM`, `INTERNAL_ERROR`, `CANCEL`, before the reply.
    Reset(u32),
    /// The same after its head.
    ResetReply(u32),
    /// Answers what came before, and leaves the connection.
    Leave,
    /// Reads everything, and says nothing at all.
    Nothing,
}

/// A server of HTTP/2 in clear that does one thing with every request but the first of each connection, which it answers where it is to
/// leave.
struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(act: Act) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&requests);
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // It ends when the connection does.
                drop(std::thread::spawn(move || drop(speak(stream, act, &counted))));
            }
        }));
        Self { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

fn speak(mut stream: TcpStream, act: Act, counted: &AtomicUsize) -> std::io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    if !matches!(act, Act::Nothing) {
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    }
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        match kind {
            _ if matches!(act, Act::Nothing) => {}
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            HEADERS => {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = || frame(HEADERS, END_HEADERS | END_STREAM, id, OK);
                let said = match act {
                    Act::Leave if id > 1 => frame(GOAWAY, 0, 0, &[(id - 2).to_be_bytes(), [0; 4]].concat()),
                    Act::Answer | Act::Leave | Act::Nothing => answer(),
                    Act::Reset(code) => frame(RST_STREAM, 0, id, &code.to_be_bytes()),
                    Act::ResetReply(code) => {
                        [frame(HEADERS, END_HEADERS, id, OK), frame(RST_STREAM, 0, id, &code.to_be_bytes())].concat()
                    }
                };
                stream.write_all(&said)?;
            }
            _ => {}
        }
    }
}

/// What was refused unseen is sent again, whatever it is; what was begun only when that is the same; and a reply that breaks off is told
/// to the client as what it is.
#[test]
fn each_word_of_http2_is_understood() {
    const REFUSED_STREAM: u32 = 7;
    const INTERNAL_ERROR: u32 = 2;
    const CANCEL: u32 = 8;
    let good = Server::start(Act::Answer);
    let refuses = Server::start(Act::Reset(REFUSED_STREAM));
    let fails = Server::start(Act::Reset(INTERNAL_ERROR));
    let leaves = Server::start(Act::Leave);
    let cuts = Server::start(Act::ResetReply(CANCEL));
    let silent = Server::start(Act::Nothing);
    let h2 = |server: &Server, region: &str| {
        format!("{{ url = \"http://{}\", region = \"{region}\", protocol = \"h2\" }}", server.address)
    };
    let route =
        |path: &str, upstreams: &[String]| format!("{{ path = \"{path}\", upstream = [{}] }},", upstreams.join(", "));
    let routes = [
        route("/refuses", &[h2(&refuses, "near"), h2(&good, "far")]),
        route("/fails", &[h2(&fails, "near"), h2(&good, "far")]),
        route("/leaves", &[h2(&leaves, "near")]),
        route("/cuts", &[h2(&cuts, "near")]),
        route("/silent", &[h2(&silent, "near"), h2(&good, "far")]),
    ];
    let (certificate, https) = (Certificate::make(), free_port());
    let upstreams = format!(
        "upstream = [{}]\neject_after = 100\ncheck_every = \"200 ms\"\ncheck_within = \"500 ms\"\nroute = [{}]",
        h2(&good, "near"),
        routes.concat()
    );
    // One thread has one pool of connections.
    let gate =
        Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]\nthreads = 1"), &site(&certificate, &upstreams));
    let mut client = Client::connect(gate.http).expect("it listens");
    let mut ask = |method: &str, path: &str| {
        client.ask(&format!("{method} {path} HTTP/1.1\r\nHost: t.example\r\nContent-Length: 0\r\n\r\n")).status
    };
    assert_eq!((ask("POST", "/"), ask("GET", "/")), (200, 200));
    assert_eq!((ask("POST", "/refuses"), refuses.requests()), (200, 1), "it was not looked at: another one takes it");
    assert_eq!((ask("GET", "/fails"), fails.requests()), (200, 1));
    assert_eq!((ask("POST", "/fails"), fails.requests()), (502, 2), "whether it was done nobody knows");
    assert_eq!((ask("POST", "/leaves"), leaves.requests()), (200, 1));
    assert_eq!((ask("POST", "/leaves"), leaves.requests()), (200, 3), "on another connection, for this one was left");
    assert_eq!(ask("GET", "/silent"), 200, "a server that answers no ping is down, and another one answers");
    let mut cut = Client::connect(gate.http).expect("it listens");
    cut.send("GET /cuts HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert!(cut.reply(false).is_none(), "a reply without its end");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let why = runtime.block_on(async {
        let mut client = Http2Client::connect(&certificate.path("ca.pem"), https).await;
        assert_eq!(client.ask("POST", "/", None).await, Ok(200));
        client.ask("GET", "/cuts", None).await.expect_err("it is cut")
    });
    assert!(why.contains("no longer needed"), "CANCEL, as the upstream has said: {why}");
}
