//! The gate in front of real servers: what a client gets, whatever happens behind it.
//!
//! Regions are addresses of loopback: 127.1.x.x is one, 127.2.x.x another. Each upstream is an nginx of one process, so that a signal
//! stops all of it.

mod acme;
mod bans;
mod client;
mod closing;
mod edges;
mod faults;
mod framing;
mod hardening;
mod hardship;
mod http2;
mod http2_client;
mod http2_upstream;
mod observed;
mod proxy;
mod stays;
mod systemd;
mod testers;
mod tls;
mod trailers;
mod upstream;

use std::path::Path;

use serde_json::Value;

use crate::harness::{Up, eventually, folder_with, free_port, garant, transcript};
use client::{Client, exchange, reply};
use upstream::{Recorder, Upstream};

/// A gate before a site, told what to do by a `garant up`.
struct Gate {
    up: Up,
    team: u16,
    http: u16,
}

impl Gate {
    /// Starts one before `t.example`, with these keys of its site.
    fn start(site: &str) -> Self {
        Self::start_with("", site)
    }

    fn start_with(gate: &str, site: &str) -> Self {
        Self::start_at(free_port(), gate, site)
    }

    /// The same at this port for HTTP in clear.
    fn start_at(http: u16, gate: &str, site: &str) -> Self {
        let team = free_port();
        let up = Up::start_in(folder_with(&policy(team, http, gate, site)));
        let gate = Self { up, team, http };
        eventually("the gate to listen", || Client::connect(gate.http));
        gate
    }

    fn ask(&self, arguments: &[&str]) -> std::process::Output {
        let data = self.up.path("data");
        let arguments = [&["gate"], arguments, &["--data", data.to_str().expect("UTF-8")]].concat();
        garant(&arguments)
    }

    fn status(&self) -> Value {
        let shown = self.ask(&["status", "--json"]);
        serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("no status: {}", transcript(&shown)))
    }

    /// Takes another site, or another of its keys.
    fn reload(&self, gate: &str, site: &str) {
        std::fs::write(self.up.path("garant.toml"), policy(self.team, self.http, gate, site)).expect("written");
        let data = self.up.path("data");
        let done = garant(&["reload", "--data", data.to_str().expect("UTF-8")]);
        assert!(done.status.success(), "{}", transcript(&done));
    }
}

fn policy(team: u16, http: u16, gate: &str, site: &str) -> String {
    format!(
        "[journal]\nname = \"t.example\"\n[pages]\nlisten = \"127.0.0.1:{team}\"\n\
         [[region]]\nname = \"near\"\nprovider = \"one\"\n[[region]]\nname = \"far\"\nprovider = \"two\"\n\
         [gate]\nhttp = [\"127.0.0.1:{http}\"]\n{gate}\n[[site]]\ndomain = \"t.example\"\n{site}\n"
    )
}

/// Kilobytes that a process has resident.
fn resident_kib(pid: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

/// The threads of a gate that carry connections.
fn threads(pid: &str) -> usize {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid).join("task")).expect("it runs").flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names
        .filter(|name| name.strip_prefix("garant-gate-").is_some_and(|rest| rest.trim().parse::<u32>().is_ok()))
        .count()
}

/// Requests go through a real nginx and back, with what the gate says of the client; connections are kept on both sides.
#[test]
fn the_gate_carries_requests_and_says_who_sent_them() {
    let near = Upstream::start(1);
    let site = format!(
        "redirect_from = [\"www.t.example\"]\nupstream = [{{ url = \"http://{}\" }}]\n\
         redirect = [{{ from = \"/old\", to = \"https://elsewhere.example/new\", permanent = false }}]\n\
         route = [{{ path = \"/r\", upstream = [{{ url = \"http://{}\" }}] }}]\naffinity = \"at\"",
        near.address(),
        near.address()
    );
    let log = tempfile::NamedTempFile::new().expect("a file");
    let gate = Gate::start_with(&format!("access_log = \"{}\"\nshorten_addresses = true", log.path().display()), &site);
    let mut client = Client::connect(gate.http).expect("it listens");
    let hello =
        client.ask("GET /echo?x=1 HTTP/1.1\r\nHost: t.example\r\nX-Forwarded-For: 6.6.6.6\r\nX_Evil: 1\r\n\r\n");
    assert_eq!(hello.status, 200);
    let body = hello.text();
    assert_eq!(body.trim(), "uri=/echo?x=1 host=t.example for=127.0.0.1 proto=http evil= length=", "{body}");
    assert!(hello.field("set-cookie").is_some_and(|cookie| cookie.starts_with("at=")), "{:?}", hello.head);
    let cookie = hello.field("set-cookie").and_then(|cookie| cookie.split(';').next()).unwrap_or_default().to_owned();
    // One connection goes on, in several ways to ask.
    for (request, expected) in [
        (format!("GET /echo HTTP/1.1\r\nHost: t.example\r\nCookie: a=b; {cookie}\r\n\r\n"), "length="),
        ("POST /echo HTTP/1.1\r\nHost: t.example\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "length=5"),
        (
            "POST /echo HTTP/1.1\r\nHost: t.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_owned(),
            "uri=/echo",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: t.example\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "length=0",
        ),
        ("GET /%65cho/../echo HTTP/1.1\r\nHost: t.example\r\n\r\n".to_owned(), "uri=/echo "),
    ] {
        let reply = client.ask(&request);
        assert!(reply.status == 200 && reply.text().contains(expected), "{request}: {} {}", reply.status, reply.text());
        assert!(!request.contains("Cookie") || reply.field("set-cookie").is_none(), "it is there already");
    }
    let head = client.ask_head("HEAD /big HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("3000000")));
    let big = client.ask("GET /big HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert!(big.body == std::fs::read(near.folder().join("big")).expect("there"), "{} bytes", big.body.len());
    let chunked = client.ask("GET /chunked HTTP/1.1\r\nHost: t.example\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!((chunked.status, chunked.field("transfer-encoding")), (200, Some("chunked")));
    let moved = client.ask("GET /old HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert_eq!((moved.status, moved.field("location")), (302, Some("https://elsewhere.example/new")));
    let alias = client.ask("GET /a?b HTTP/1.1\r\nHost: www.t.example\r\n\r\n");
    let expected = format!("http://t.example:{}/a?b", gate.http);
    assert_eq!((alias.status, alias.field("location")), (301, Some(expected.as_str())));
    assert_eq!(exchange(gate.http, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"), 421);
    assert_eq!(exchange(gate.http, "GET /none HTTP/1.0\r\nHost: t.example\r\n\r\n"), 404, "nginx has no such file");
    let lines = eventually("the access log", || {
        std::fs::read_to_string(log.path()).ok().filter(|lines| lines.contains("HTTP/1.0"))
    });
    assert!(lines.starts_with("127.0.0.0 - - ["), "{lines}");
    assert!(lines.contains("\"GET /echo?x=1 HTTP/1.1\" 200 "), "{lines}");
    let figures = String::from_utf8(crate::harness::get(&gate.up.url("metrics")).expect("figures")).expect("UTF-8");
    assert!(figures.contains("garant_gates_gate_attached 1"), "{figures}");
}

/// AV-4, ED-5: the gate carries on alone from what it was told last, a site can be closed at once, and a reload costs nothing.
#[test]
fn the_gate_serves_while_its_server_is_dead_and_closes_a_site_at_once() {
    let near = Upstream::start(1);
    let site = format!("upstream = [{{ url = \"http://{}\" }}]", near.address());
    let gate = Gate::start(&site);
    let hello = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
    let mut kept = Client::connect(gate.http).expect("it listens");
    assert_eq!(kept.ask(hello).status, 200);

    let closed = gate.ask(&["close", "t.example", "--except", "192.0.2.0/24", "--json"]);
    assert!(closed.status.success(), "{}", transcript(&closed));
    assert_eq!(kept.ask(hello).status, 403, "on a connection that was open too");
    let state = gate.up.path("data.gate");
    let pid = upstream::process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    assert_eq!(threads(&pid), 2);
    gate.reload("idle_max = \"20 s\"\ndrain = \"1 s\"\nthreads = 3", &site);
    eventually("the reload", || (threads(&pid) == 3).then_some(()));
    gate.reload("drain = \"1 s\"\nthreads = 1", &site);
    eventually("the threads to end", || (threads(&pid) == 1).then_some(()));
    let mut kept = Client::connect(gate.http).expect("it listens");
    assert_eq!(kept.ask(hello).status, 403, "a reload opens nothing");
    assert!(gate.ask(&["open", "t.example"]).status.success());
    assert_eq!(kept.ask(hello).status, 200);
    assert!(gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]).status.success());
    assert_eq!(kept.ask(hello).status, 200, "whoever is excepted is let in");
    assert_eq!(gate.ask(&["close", "nobody.example"]).status.code(), Some(1));

    // The gate itself is killed: its server starts it again, and what was closed stays closed.
    assert!(crate::harness::command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    let mut kept = eventually("the gate to be there again", || {
        let mut client = Client::connect(gate.http)?;
        client.send(hello);
        client.reply(false).filter(|reply| reply.status == 200).map(|_| client)
    });
    assert_eq!(gate.status()["sites"][0]["closed"], true);

    let http = gate.http;
    let folder = gate.up.crash();
    assert_eq!(kept.ask(hello).status, 200, "the server is dead");
    // So is the gate now: one that starts alone does what the last one was told.
    let state = folder.path().join("data.gate");
    let pid = upstream::process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    assert!(crate::harness::command("kill").args(["-9", &pid]).status().expect("kill runs").success());
    eventually("its end", || Client::connect(http).is_none().then_some(()));
    let mut alone = crate::harness::command(crate::harness::binary());
    alone.args(["gate", "--state"]).arg(&state).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut alone = alone.spawn().expect("garant starts");
    let mut kept = eventually("a gate without a server", || Client::connect(http));
    assert_eq!(kept.ask(hello).status, 200);
    let again = Up::start_in(folder);
    assert_eq!(kept.ask(hello).status, 200, "and there again");
    let shown = garant(&["gate", "status", "--json", "--data", again.path("data").to_str().expect("UTF-8")]);
    let status: Value = serde_json::from_slice(&shown.stdout).expect("a status");
    assert_eq!(status["sites"][0]["closed"], true);
    assert_eq!(status["sites"][0]["upstreams"][0]["state"], "up");
    drop(again.stop());
    eventually("the gate to stop with its server", || Client::connect(http).is_none().then_some(()));
    assert!(alone.wait().expect("it ends").success());
}

/// A `garant up` without any right starts its gate all the same, for ports that everybody may open: it needs no other.
#[test]
fn a_gate_needs_no_rights() {
    let near = Upstream::start(1);
    let (team, http) = (free_port(), free_port());
    let site = format!("upstream = [{{ url = \"http://{}\" }}]", near.address());
    let folder = folder_with(&policy(team, http, "", &site));
    // The directory of the state is beside that of the data.
    let owned =
        crate::harness::command("chown").args(["-R", "nobody"]).arg(folder.path()).status().expect("chown runs");
    assert!(owned.success());
    let up = Up::start_as(folder, "65534");
    let mut client = eventually("the gate to listen", || Client::connect(http));
    assert_eq!(client.ask("GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n").status, 200);
    let state = up.path("data.gate");
    let pid = upstream::process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).expect("it runs");
    assert!(status.lines().any(|line| line.starts_with("Uid:") && line.ends_with("65534")), "{status}");
    assert!(status.lines().any(|line| line == "CapEff:\t0000000000000000"), "{status}");
}

/// `garant gate check` finds what would not work, before anybody is served by it.
#[test]
fn what_would_not_work_is_said_before() {
    let near = Upstream::start(1);
    let nobody = free_port();
    let site = format!(
        "certificate = \"/nowhere/chain.pem\"\nkey = {{ file = \"/nowhere/key.pem\" }}\n\
         upstream = [{{ url = \"http://{}\" }}, {{ url = \"http://127.0.0.1:{nobody}\" }}]",
        near.address()
    );
    let folder = folder_with(&policy(free_port(), free_port(), "", &site));
    let path = folder.path().join("garant.toml");
    let checked = garant(&["gate", "check", "--json", "--policy", path.to_str().expect("UTF-8")]);
    assert_eq!(checked.status.code(), Some(1), "{}", transcript(&checked));
    let found: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    let problems: Vec<&str> = found["problems"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(
        problems.iter().any(|problem| problem.contains("the certificate of t.example can't be used")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains(&format!("127.0.0.1:{nobody} does not work: the connection is refused"))),
        "{problems:?}"
    );
    assert_eq!(problems.len(), 2);

    std::fs::write(&path, "colour = 1\n").expect("written");
    let checked = garant(&["gate", "check", "--policy", path.to_str().expect("UTF-8")]);
    let said = transcript(&checked);
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.contains("the policy has mistakes:") && !said.contains("left as it is"), "{said}");
}

/// What the gate itself would find is found before: what an upstream answers, and who has the port that it is to listen at, which is no
/// fault where that is the gate.
#[test]
fn a_check_finds_what_the_gate_would_find() {
    let near = Upstream::start(1);
    let problems = |arguments: &[&str]| {
        let checked = garant(&[&["gate", "check", "--json"], arguments].concat());
        let found: Value =
            serde_json::from_slice(&checked.stdout).unwrap_or_else(|_| panic!("{}", transcript(&checked)));
        found["problems"].as_array().expect("a list").iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    #[expect(clippy::disallowed_methods, reason = "somebody else listens there")]
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let site = format!("upstream = [{{ url = \"http://{}\" }}]\ncheck = \"/no-such-file\"", near.address());
    let folder = folder_with(&policy(free_port(), port, "", &site));
    let path = folder.path().join("garant.toml");
    let found = problems(&["--policy", path.to_str().expect("UTF-8")]);
    assert!(found.contains(&format!("{} does not work: it answers 404", near.address())), "{found}");
    let holder = format!("(process {})", std::process::id());
    assert!(found.contains(&format!("can't listen at 127.0.0.1:{port}")) && found.contains(&holder), "{found}");
    drop(taken);

    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    let (path, data) = (gate.up.path("garant.toml"), gate.up.path("data"));
    let arguments = ["--policy", path.to_str().expect("UTF-8"), "--data", data.to_str().expect("UTF-8")];
    assert_eq!(problems(&arguments), "", "the gate has that port itself");
}

/// A tunnel begins after the upstream has answered 101, and not before: what a client sends with its request is the next request
/// otherwise.
#[test]
fn a_tunnel_begins_after_the_upstream_has_agreed() {
    let agrees =
        Recorder::start("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome");
    let refuses = Recorder::start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let unasked = Recorder::start("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n");
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nroute = [{{ path = \"/no\", upstream = [{{ url = \"http://{}\" }}] }}, \
         {{ path = \"/odd\", upstream = [{{ url = \"http://{}\" }}] }}]",
        agrees.address(),
        refuses.address(),
        unasked.address()
    );
    let gate = Gate::start(&site);
    let upgrade = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
        )
    };
    let mut client = Client::connect(gate.http).expect("it listens");
    client.send(&format!("{}early", upgrade("/")));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!(client.read(7), b"welcome");
    client.send("ping");
    eventually("the tunnel to carry it", || agrees.heard().ends_with("earlyping").then_some(()));

    let mut client = Client::connect(gate.http).expect("it listens");
    let second = "GET /no/second HTTP/1.1\r\nHost: t.example\r\n\r\n";
    client.send(&format!("{}{second}", upgrade("/no")));
    assert_eq!((reply(&mut client).status, reply(&mut client).status), (200, 200));
    let heard = eventually("both requests", || Some(refuses.heard()).filter(|heard| heard.contains("/no/second")));
    assert_eq!(heard.matches("X-Forwarded-For").count(), 2, "the second is a request of its own: {heard}");
    assert_eq!(exchange(gate.http, "GET /odd HTTP/1.1\r\nHost: t.example\r\n\r\n"), 502, "nobody had asked for it");
}

/// NH-11: whoever is slow is cut off, be it with a head, a body or the next request.
#[test]
fn slow_clients_are_cut_off_at_the_deadline_of_the_phase() {
    let near = Upstream::start(1);
    let patient = Recorder::start("");
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\nbody_bytes_max = 1000\n\
         route = [{{ path = \"/wait\", upstream = [{{ url = \"http://{}\" }}] }}]",
        near.address(),
        patient.address()
    );
    let gate = Gate::start_with("head_within = \"1 s\"\nidle_max = \"2 s\"\nrate_min = 1000", &site);
    let mut dripping = Client::connect(gate.http).expect("it listens");
    dripping.send("GET / HTTP/1.1\r\nHo");
    assert_eq!(reply(&mut dripping).status, 408);
    let mut silent = Client::connect(gate.http).expect("it listens");
    assert_eq!(silent.read_to_end(), b"", "no request, no answer");
    let mut idle = Client::connect(gate.http).expect("it listens");
    assert_eq!(idle.ask("GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n").status, 200);
    assert_eq!(idle.read_to_end(), b"");
    let mut slow = Client::connect(gate.http).expect("it listens");
    slow.send("POST /wait HTTP/1.1\r\nHost: t.example\r\nContent-Length: 900\r\n\r\nx");
    assert_eq!(reply(&mut slow).status, 408, "a body has a floor");
    assert_eq!(exchange(gate.http, "POST /echo HTTP/1.1\r\nHost: t.example\r\nContent-Length: 1001\r\n\r\n"), 413);
    let large = format!(
        "POST /wait HTTP/1.1\r\nHost: t.example\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2048)
    );
    assert_eq!(exchange(gate.http, &large), 413);
}

/// NH-11: a connection that waits for its next request costs little; a thousand at once are served, or as many as GARANT_IDLE says. Whoever
/// comes then is served too.
#[test]
fn idle_connections_cost_little() {
    let near = Upstream::start(1);
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", near.address()));
    let state = gate.up.path("data.gate");
    let pid = upstream::process_with(&["gate", "--state", state.to_str().expect("UTF-8")]);
    let (count, before) = (crate::harness::number("GARANT_IDLE", 1000), resident_kib(&pid));
    let mut open: Vec<Client> = (0..count).map(|_| Client::connect(gate.http).expect("it takes it")).collect();
    // As many at once as the server behind takes.
    for some in open.chunks_mut(1000) {
        for client in &mut *some {
            client.send("GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n");
        }
        assert!(some.iter_mut().all(|client| reply(client).status == 200));
    }
    let grown = resident_kib(&pid).saturating_sub(before);
    crate::harness::report(&format!("{count} idle connections: {grown} KiB"));
    assert!(grown < 20 * count, "{grown} KiB for {count} connections");
    assert_eq!(exchange(gate.http, "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n"), 200);
}
