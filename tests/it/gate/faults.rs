//! Upstreams that fail in every way, one by one and together, under load: no idempotent or unsent request is lost.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::stays::{is_alive, websocket};
use super::upstream::{Echo, Upstream, connects};
use super::{Gate, resident_kib};
use crate::harness::{eventually, garant, pause, report};

/// How long a client waits: longer than checks take to find a server that is silent, shorter than any deadline of a reply.
const CLIENT_DEADLINE: Duration = Duration::from_secs(8);

/// Clients that ask without a pause.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<std::sync::Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins with `clients` that read, and half as many that write bodies (PUT): on connections that they keep.
    pub(super) fn begin(port: u16, clients: usize) -> Self {
        let (stop, done, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let clients = (0..clients + clients / 2).map(|number| {
            let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
            let writes = number >= clients;
            std::thread::spawn(move || ask_on(port, writes, &stop, &done, &failed))
        });
        let clients = clients.collect();
        Self { stop, done, failed, clients }
    }

    /// Lets it go on for some seconds, at a rate that hanging clients could not have.
    pub(super) fn go_on(&self, what: &str, seconds: f64, least: u64) {
        let before = self.done.load(Ordering::Relaxed);
        pause(seconds);
        // Clients that hang fail at their own deadline.
        let enough = || Some(self.done.load(Ordering::Relaxed) - before).filter(|done| *done >= least);
        let done = eventually("requests to be answered", enough);
        let failed = self.failed.lock().expect("nothing panics there").clone();
        report(&format!("{what}: {done} requests in {seconds} s, {} failed", failed.len()));
        assert_eq!(failed, [""; 0], "{what}");
    }

    pub(super) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("it ends");
        }
    }
}

fn ask_on(port: u16, writes: bool, stop: &AtomicBool, done: &AtomicU64, failed: &std::sync::Mutex<Vec<String>>) {
    let body = "x".repeat(3000);
    let request = if writes {
        format!("PUT /echo HTTP/1.1\r\nHost: t.example\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    } else {
        "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n".to_owned()
    };
    let mut client = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(connection) = client.get_or_insert_with(|| Client::within(port, CLIENT_DEADLINE)) else {
            failed.lock().expect("nothing panics there").push("no connection".to_owned());
            return;
        };
        connection.send(&request);
        match connection.reply(false) {
            Some(reply) if reply.status == 200 => {
                done.fetch_add(1, Ordering::Relaxed);
                if reply.field("connection").is_some() {
                    client = None;
                }
            }
            other => {
                let what = other.map_or("no reply".to_owned(), |reply| reply.status.to_string());
                failed.lock().expect("nothing panics there").push(what);
                client = None;
            }
        }
    }
}

fn state(gate: &Gate, upstream: &Upstream) -> String {
    let status = gate.status();
    let upstreams = status["sites"][0]["upstreams"].as_array().expect("a list").clone();
    let address = upstream.address().to_string();
    let found = upstreams.iter().find(|shown| shown["upstream"] == address).expect("it is there");
    found["state"].as_str().expect("a state").to_owned()
}

/// AV-2, AV-6: two upstreams in one region and two in another are killed, stopped, made silent and black holes, and a whole
/// region goes; clients with a deadline lose nothing, and the region that is there takes all.
#[test]
fn no_idempotent_request_is_lost_whatever_fails_behind() {
    let mut near = [Upstream::start(1), Upstream::start(1)];
    let mut far = [Upstream::start(2), Upstream::start(2)];
    let list = |region: &str, upstreams: &[Upstream]| -> String {
        let one = |it: &Upstream| format!("{{ url = \"http://{}\", region = \"{region}\" }},", it.address());
        upstreams.iter().map(one).collect()
    };
    let site = format!(
        "upstream = [{}{}]\ncheck = \"/health\"\ncheck_every = \"500 ms\"\ncheck_within = \"500 ms\"\ndown_after = 2\n\
         connect_within = \"500 ms\"\neject_for = \"2 s\"",
        list("near", &near),
        list("far", &far)
    );
    let gate = Gate::start(&site);
    let pid = super::upstream::process_with(&["gate", "--state", gate.up.path("data.gate").to_str().expect("UTF-8")]);
    let load = Load::begin(gate.http, 8);
    load.go_on("all is well", 1.0, 100);
    let before = resident_kib(&pid);

    near[0].kill();
    load.go_on("one is killed", 2.0, 100);
    near[0].run();
    eventually("it to come back", || (state(&gate, &near[0]) == "up").then_some(()));
    load.go_on("it is back", 0.5, 50);

    near[1].signal("STOP");
    load.go_on("one is stopped", 4.0, 100);
    eventually("checks to find it", || (state(&gate, &near[1]) == "down").then_some(()));
    near[0].kill();
    load.go_on("and the other is killed: the region is gone", 3.0, 100);
    eventually("it to be said", || gate.up.errors().contains("go to the region far").then_some(()));
    far[0].kill();
    load.go_on("and half of the other region", 2.0, 100);
    far[0].run();
    near[0].run();
    near[1].signal("CONT");
    eventually("the region to come back", || near.iter().all(|upstream| state(&gate, upstream) == "up").then_some(()));
    load.go_on("all is well again", 1.0, 100);

    // In its place somebody takes connections, and says nothing.
    let address = near[0].address();
    near[0].kill();
    #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
    let silent = eventually("its port", || TcpListener::bind(address).ok());
    load.go_on("one is silent", 4.0, 100);
    eventually("it to be found", || (state(&gate, &near[0]) == "down").then_some(()));
    // Its queue is full: connections to it are never made.
    let mut held = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(stream);
        assert!(held.len() < 5000, "the queue has an end");
    }
    load.go_on("one is a black hole", 3.0, 100);
    drop((silent, held));
    eventually("its port to be free", || (!connects(address)).then_some(()));
    near[0].run();
    eventually("it to come back", || (state(&gate, &near[0]) == "up").then_some(()));
    load.go_on("the end", 1.0, 100);
    load.end();

    let grown = resident_kib(&pid).saturating_sub(before);
    report(&format!("memory: {grown} KiB more than at the start"));
    assert!(grown < 16 * 1024, "{grown} KiB");
    let status = gate.status();
    assert_eq!(status["sites"][0]["failed"], 0);
    let data = gate.up.path("data");
    let journaled = eventually("the entries", || {
        let shown = garant(&["log", "show", "--kind", "gate", "--json", "--data", data.to_str().expect("UTF-8")]);
        let entries = String::from_utf8(shown.stdout).ok()?;
        ["gate.failover", "gate.upstream", "ejected", "far"]
            .iter()
            .all(|word| entries.contains(word))
            .then_some(entries)
    });
    assert!(!journaled.contains("/echo"), "no path, and nobody who asked");
}

/// An upstream that answers 503 is passed over for another; when all do, that is what the client gets. A POST that was sent is not sent
/// again, one that was not is.
#[test]
fn what_may_be_repeated_is_and_nothing_else() {
    let mut one = Upstream::start(1);
    let two = Upstream::start(1);
    let breaks = super::Recorder::start("");
    let site = format!(
        "upstream = [{{ url = \"http://{}\", region = \"near\" }}, {{ url = \"http://{}\", region = \"far\" }}]\n\
         check_every = \"1 h\"\neject_after = 100\nreply_within = \"1 s\"\n\
         route = [{{ path = \"/post\", upstream = [{{ url = \"http://{}\", region = \"near\" }}, \
         {{ url = \"http://{}\", region = \"far\" }}] }}]",
        one.address(),
        two.address(),
        breaks.address(),
        two.address(),
    );
    let gate = Gate::start(&site);
    let mut client = Client::connect(gate.http).expect("it listens");
    assert_eq!(client.ask("GET /bad HTTP/1.1\r\nHost: t.example\r\n\r\n").status, 503, "both say so");
    let who =
        |client: &mut Client| client.ask("POST /who HTTP/1.1\r\nHost: t.example\r\nContent-Length: 1\r\n\r\nx").text();
    assert_eq!(who(&mut client), "1");
    one.kill();
    assert_eq!(who(&mut client), "1", "it was never sent: another upstream of a region takes it");
    let sent = client.ask("POST /post HTTP/1.1\r\nHost: t.example\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(sent.status, 504, "whether it was done nobody knows");
    let mut client = Client::connect(gate.http).expect("it listens");
    let got = client.ask("GET /post HTTP/1.1\r\nHost: t.example\r\n\r\n");
    assert_eq!(got.status, 404, "the other one has answered");
    let heard = breaks.heard();
    assert_eq!((heard.matches("POST /post").count(), heard.matches("GET /post").count()), (1, 1), "{heard}");
}

/// The handshake of a WebSocket that nothing has answered goes to another upstream, as any GET does.
#[test]
fn a_handshake_without_a_reply_goes_elsewhere() {
    #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
    let breaks = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, echo) = (breaks.local_addr().expect("an address"), Echo::start());
    let heads: Arc<AtomicU64> = Arc::default();
    let counted = Arc::clone(&heads);
    drop(std::thread::spawn(move || {
        for mut stream in breaks.incoming().flatten() {
            let mut head = [0; 8 * 1024];
            if stream.read(&mut head).is_ok_and(|bytes| bytes > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let gate = Gate::start(&format!(
        "upstream = [{{ url = \"http://{address}\", region = \"near\" }}, {{ url = \"http://{}\", region = \"far\" }}]\n\
         check_every = \"1 h\"\neject_after = 100",
        echo.address()
    ));
    assert!(is_alive(&mut websocket(gate.http)));
    assert_eq!(heads.load(Ordering::Relaxed), 1, "the first one was asked");
}

/// An upstream whose reply has two readings is passed over as one that fails; when no upstream may be used, the file of the site is
/// shown, and the site is back when one is.
#[test]
fn wrong_replies_go_no_further_and_a_site_that_is_down_says_so() {
    let wrong = super::Recorder::start("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc");
    let mut good = Upstream::start(1);
    let document = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(document.path(), "<p>back soon</p>").expect("written");
    let site = format!(
        "upstream = [{{ url = \"http://{}\" }}]\ncheck_every = \"200 ms\"\ndown_after = 1\nup_after = 1\neject_after = 100\n\
         down_file = \"{}\"\nroute = [{{ path = \"/wrong\", upstream = [{{ url = \"http://{}\", region = \"near\" }}, \
         {{ url = \"http://{}\", region = \"far\" }}] }}]",
        good.address(),
        document.path().display(),
        wrong.address(),
        good.address(),
    );
    let gate = Gate::start(&site);
    let ask = |request: &str| Client::connect(gate.http).expect("it listens").ask(request);
    assert_eq!(ask("GET /wrong HTTP/1.1\r\nHost: t.example\r\n\r\n").status, 404, "the other one has answered");
    let post = ask("POST /wrong HTTP/1.1\r\nHost: t.example\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!((post.status, post.text().contains("abc")), (502, false));
    let hello = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
    assert_eq!(ask(hello).status, 200);
    good.kill();
    eventually("it to be down", || (state(&gate, &good) == "down").then_some(()));
    let shown = ask(hello);
    assert_eq!((shown.status, shown.text().as_str()), (503, "<p>back soon</p>"));
    assert_eq!(shown.field("retry-after"), Some("5"));
    good.run();
    eventually("it to be back", || (ask(hello).status == 200).then_some(()));
    // The part that is a route has checks of its own.
    eventually("all to be up", || gate.ask(&["status", "--json"]).status.success().then_some(()));
}

/// AV-4: thirty reloads under load, each with another policy: no request fails, and no connection is closed for it.
#[test]
fn reloads_cost_no_request() {
    let (one, two) = (Upstream::start(1), Upstream::start(2));
    let site = |number: u32| {
        let order = if number.is_multiple_of(2) { [&one, &two] } else { [&two, &one] };
        let upstreams = order.map(|it| format!("{{ url = \"http://{}\" }},", it.address())).concat();
        format!("upstream = [{upstreams}]\ncheck = \"/health\"\nreplay_bytes_max = {}", 10_000 + number)
    };
    let gate = Gate::start(&site(0));
    let load = Load::begin(gate.http, 8);
    let mut kept = Client::connect(gate.http).expect("it listens");
    let hello = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
    for number in 1..=30 {
        gate.reload("", &site(number));
        assert_eq!(kept.ask(hello).status, 200, "on the connection of before");
    }
    load.go_on("after thirty reloads", 1.0, 100);
    load.end();
    assert_eq!(gate.status()["sites"][0]["failed"], 0);
}

/// NH-11: a site and an upstream have so many requests under way and no more; beyond that the answer comes at once.
#[test]
fn what_is_too_much_is_answered_at_once() {
    let (patient, good) = (super::Recorder::start(""), Upstream::start(1));
    let site = format!(
        "upstream = [{{ url = \"http://{0}\", region = \"near\" }}, {{ url = \"http://{1}\", region = \"far\" }}]\n\
         requests_max = 3\nrequests_per_upstream_max = 2\nencoded_slashes = true\n\
         route = [{{ path = \"/wait\", upstream = [{{ url = \"http://{0}\" }}] }}]",
        patient.address(),
        good.address()
    );
    let gate = Gate::start(&site);
    let send = |path: &str| {
        let mut client = Client::connect(gate.http).expect("it listens");
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: t.example\r\n\r\n"));
        client
    };
    let in_flight = || -> u64 {
        let status = gate.status();
        let upstreams = status["sites"][0]["upstreams"].as_array().expect("a list").clone();
        upstreams.iter().filter_map(|upstream| upstream["in_flight"].as_u64()).sum()
    };
    let _two = [send("/"), send("/")];
    eventually("two requests under way", || (in_flight() == 2).then_some(()));
    let mut third = send("/echo?a%2fb");
    let reply = third.reply(false).expect("an answer");
    assert_eq!(reply.status, 200, "the near one is full, and the far one has answered");
    // The place of the one that was answered may be free a moment after its answer.
    let _more = eventually("three requests under way", || {
        let more = send("/wait");
        (0..20).find(|_| {
            crate::harness::pause(0.05);
            in_flight() == 3
        })?;
        Some(more)
    });
    let refused = send("/").reply(false).expect("an answer");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")), "the site is full");
    let encoded = send("/a%2Fb").reply(false).expect("an answer");
    assert_eq!(encoded.status, 503);
    gate.reload("", &format!("upstream = [{{ url = \"http://{}\" }}]\nclosed = true", good.address()));
    let closed = eventually("the policy to close it", || send("/").reply(false).filter(|reply| reply.status == 403));
    assert!(closed.text().contains("Forbidden"));
    assert!(gate.ask(&["open", "t.example"]).status.success(), "a command takes back what commands have closed");
    assert_eq!(send("/").reply(false).map(|reply| reply.status), Some(403), "what the policy closes it opens");
}
