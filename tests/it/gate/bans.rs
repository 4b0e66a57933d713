//! Bans at the gate: networks that are let in nowhere, on connections that are open too, with a server and without.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::Gate;
use super::client::Client;
use super::stays::{is_alive, websocket};
use super::upstream::{Echo, Upstream, process_with};
use crate::harness::{PATIENCE, binary, command, eventually, garant};

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";

/// Tells a gate its desired state as a server does, with these bans.
fn tell(state: &Path, bans: &Value) {
    let kept = std::fs::read(state.join("desired.json")).expect("a desired state");
    let mut desired: Value = serde_json::from_slice(&kept).expect("JSON");
    desired["revision"] = json!(desired["revision"].as_u64().expect("a number") + 1000);
    desired["engines"]["gate"]["bans"] = bans.clone();
    let mut socket = UnixStream::connect(state.join("gate.sock")).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let attach = json!({ "attach": { "protocol": 1, "version": "of a test" } });
    write!(socket, "{attach}\n{}\n", json!({ "desired": desired })).expect("it takes it");
    let said = BufReader::new(socket.try_clone().expect("a descriptor")).lines().map_while(Result::ok);
    let following = said
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .find_map(|line| line.get("following").cloned());
    assert_eq!(following.expect("it follows")["refused"], Value::Null);
}

fn status(state: &Path) -> Value {
    let socket = state.join("gate.sock");
    let shown = garant(&["gate", "status", "--json", "--gate", socket.to_str().expect("UTF-8")]);
    serde_json::from_slice(&shown.stdout).unwrap_or(Value::Null)
}

/// Whether the site is served to a client at this address of loopback.
fn is_served(http: u16, from: &str) -> bool {
    let mut curl = command("curl");
    curl.args(["-sS", "--max-time", "15", "--interface", from, "-H", "Host: t.example"]);
    let output = curl.arg(format!("http://127.0.0.1:{http}/echo")).output().expect("curl runs");
    String::from_utf8_lossy(&output.stdout).contains("uri=/echo")
}

/// NH-1 at the gate: 100,000 networks are banned at once, whoever has a connection loses it, nobody else notices; a gate that starts
/// without a server bans them still; what is taken back is served again.
#[test]
fn whoever_is_banned_is_let_in_nowhere() {
    let near = Upstream::start(1);
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    let (http, state) = (gate.http, gate.up.path("data.gate"));
    let mut kept = Client::connect(http).expect("it listens");
    assert_eq!(kept.ask(HELLO).status, 200);
    assert!(is_served(http, "127.0.0.5"));
    let crowd =
        (0..99_999_u32).map(|number| json!([format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + number)), 0]));
    let bans: Value = crowd.chain([json!(["127.0.0.1/32", 0])]).collect();
    tell(&state, &bans);
    assert_eq!(kept.read_to_end(), b"", "a connection that was open is closed");
    assert!(!is_served(http, "127.0.0.1") && is_served(http, "127.0.0.5"));
    assert_eq!(status(&state)["bans"], 100_000);
}

/// A ban holds at a process whose place another one has taken, for the connections that it has.
#[test]
fn who_is_banned_stays_with_no_process_that_is_replaced() {
    let echo = Echo::start();
    let gate =
        Gate::start_with("drain = \"10 min\"", &format!("upstream = [{{ url = \"http://{}\" }}]", echo.address()));
    let mut socket = websocket(gate.http);
    assert!(gate.ask(&["upgrade"]).status.success());
    assert!(is_alive(&mut socket), "it goes on with the old process");
    eventually("it to be cut off", || {
        // Each time again: the server, which comes back to the new process at some time, takes back what it has not said.
        tell(&gate.up.path("data.gate"), &json!([["127.0.0.1/32", 0]]));
        (!is_alive(&mut socket)).then_some(())
    });
}

/// What was told last holds for a gate that is started again without a server.
#[test]
fn bans_are_kept_while_the_server_is_dead() {
    let near = Upstream::start(1);
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    let http = gate.http;
    let folder = gate.up.crash();
    let state = folder.path().join("data.gate");
    tell(&state, &json!([["127.0.0.1/32", 0], ["127.0.0.9/32", 1]]));
    let arguments = ["gate", "--state", state.to_str().expect("UTF-8")];
    assert!(command("kill").args(["-9", &process_with(&arguments)]).status().expect("kill runs").success());
    eventually("its end", || Client::connect(http).is_none().then_some(()));
    let mut alone =
        command(binary()).args(arguments).stdout(std::process::Stdio::null()).spawn().expect("garant starts");
    eventually("a gate without a server", || is_served(http, "127.0.0.5").then_some(()));
    assert!(!is_served(http, "127.0.0.1"), "it bans still");
    assert!(is_served(http, "127.0.0.9"), "that ban is long over");
    tell(&state, &json!([]));
    assert!(is_served(http, "127.0.0.1"), "taken back");
    drop((alone.kill(), alone.wait()));
}
