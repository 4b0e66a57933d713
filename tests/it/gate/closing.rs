//! A site that is closed: nobody is let in, and nobody stays who is in already.

use serde_json::{Value, json};

use super::Gate;
use super::client::{Client, DEADLINE, exchange};
use super::http2_client::Http2Client;
use super::stays::{is_alive, websocket};
use super::tls::Certificate;
use super::upstream::{Echo, Recorder, Upstream};
use crate::harness::{eventually, free_port, pause, transcript};

const HELLO: &str = "GET /echo HTTP/1.1\r\nHost: t.example\r\n\r\n";
/// `1008` to a client.
const VIOLATION: [u8; 4] = [0x88, 2, 0x03, 0xf0];

/// An upstream of each kind: one that echoes, one that begins a reply and does not end it, one that does not begin.
struct Behind {
    echo: Echo,
    begins: Recorder,
    waits: Recorder,
    near: Upstream,
}

impl Behind {
    fn start() -> Self {
        let begins = Recorder::start("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        Self { echo: Echo::start(), begins, waits: Recorder::start(""), near: Upstream::start(1) }
    }

    fn site(&self, more: &str) -> String {
        let route = |path: &str, address: std::net::SocketAddr| {
            format!("{{ path = \"{path}\", upstream = [{{ url = \"http://{address}\" }}] }}")
        };
        format!(
            "upstream = [{{ url = \"http://{}\" }}]\nroute = [{}, {}, {}]\n{more}",
            self.near.address(),
            route("/ws", self.echo.address()),
            route("/begins", self.begins.address()),
            route("/waits", self.waits.address())
        )
    }
}

/// Clients in the middle of something.
struct Inside {
    socket: Client,
    downloads: Client,
    waits: Client,
    posts: Client,
    uploads: Client,
}

impl Inside {
    fn of(gate: &Gate, behind: &Behind) -> Self {
        behind.waits.forget();
        let mut socket = websocket(gate.http);
        assert!(is_alive(&mut socket));
        let mut downloads = Client::connect(gate.http).expect("it listens");
        downloads.send("GET /begins HTTP/1.1\r\nHost: t.example\r\n\r\n");
        assert!(downloads.head().starts_with("HTTP/1.1 200 "));
        assert_eq!(downloads.read(4), b"part");
        let mut waits = Client::connect(gate.http).expect("it listens");
        waits.send("GET /waits HTTP/1.1\r\nHost: t.example\r\n\r\n");
        eventually("the request to wait", || behind.waits.has_answered().then_some(()));
        let mut posts = Client::connect(gate.http).expect("it listens");
        posts.send("POST /waits HTTP/1.1\r\nHost: t.example\r\nContent-Length: 4\r\n\r\npost");
        eventually("the post to be there", || behind.waits.heard().ends_with("post").then_some(()));
        let mut uploads = Client::connect(gate.http).expect("it listens");
        uploads.send("POST /waits HTTP/1.1\r\nHost: t.example\r\nContent-Length: 100\r\n\r\npart");
        eventually("the upload to begin", || behind.waits.heard().ends_with("part").then_some(()));
        Self { socket, downloads, waits, posts, uploads }
    }

    /// All of them are out: both ends of the WebSocket are told.
    fn are_out(mut self, behind: &Behind) {
        assert_eq!(self.socket.read_to_end(), VIOLATION);
        assert_eq!(self.downloads.read_to_end(), b"", "the rest of a reply is not sent");
        assert_eq!(self.waits.reply(false).map(|reply| reply.status), Some(403));
        assert_eq!(self.posts.reply(false).map(|reply| reply.status), Some(403), "it goes on without its client");
        assert_eq!(self.uploads.reply(false).map(|reply| reply.status), Some(403), "the rest of it is not waited for");
        eventually("the upstream to hear that its client goes away", || {
            let heard = behind.echo.heard();
            let [.., close, length, a, b, _, _, high, low] = heard[..] else { return None };
            (close == 0x88 && length == 0x82 && high ^ a == 3 && low ^ b == 0xe9).then_some(())
        });
    }
}

/// ED-5: whoever is in a site that is closed has to go, by a command, by the policy, and when the policy has it no more; whoever is
/// excepted stays.
#[test]
fn nobody_stays_in_a_site_that_is_closed() {
    let behind = Behind::start();
    let gate = Gate::start(&behind.site(""));
    let mut inside = Inside::of(&gate, &behind);
    assert!(gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]).status.success());
    assert_eq!(exchange(gate.http, HELLO), 200);
    assert!(is_alive(&mut inside.socket), "whoever is excepted stays");
    let closed = gate.ask(&["close", "t.example"]);
    assert!(transcript(&closed).contains("who is connected is cut off"), "{}", transcript(&closed));
    inside.are_out(&behind);
    assert!(gate.ask(&["open", "t.example"]).status.success());

    let inside = Inside::of(&gate, &behind);
    gate.reload("", &behind.site("closed = true"));
    inside.are_out(&behind);
    gate.reload("", &behind.site(""));
    eventually("the site to be open", || (exchange(gate.http, HELLO) == 200).then_some(()));

    let inside = Inside::of(&gate, &behind);
    gate.reload("", &behind.site("range = [{ path = \"/\", deny = [\"127.0.0.0/8\"] }]"));
    inside.are_out(&behind);
    gate.reload("", &behind.site(""));
    eventually("the site to be open", || (exchange(gate.http, HELLO) == 200).then_some(()));

    let inside = Inside::of(&gate, &behind);
    take_the_site_out(&gate);
    inside.are_out(&behind);
}

/// Has the policy name another site in the place of `t.example`.
fn take_the_site_out(gate: &Gate) {
    let path = gate.up.path("garant.toml");
    let policy =
        std::fs::read_to_string(&path).expect("there").replace("domain = \"t.example\"", "domain = \"u.example\"");
    std::fs::write(&path, policy).expect("written");
    let data = gate.up.path("data");
    assert!(crate::harness::garant(&["reload", "--data", data.to_str().expect("UTF-8")]).status.success());
}

/// A process whose place another one has taken ends what it had begun, and lets nobody stay who is let in no more: by a command, by the
/// policy, and when the policy has the site no more. What is drained it asks nothing new.
#[test]
fn nobody_stays_with_a_process_that_is_replaced() {
    let behind = Behind::start();
    let gate = Gate::start_with("drain = \"10 min\"", &behind.site(""));
    let kept = || {
        let mut client = Client::connect(gate.http).expect("it listens");
        assert_eq!(client.ask(HELLO).status, 200);
        client
    };
    let enter = || {
        let (mut inside, kept) = (Inside::of(&gate, &behind), kept());
        let upgraded = gate.ask(&["upgrade"]);
        assert!(upgraded.status.success(), "{}", transcript(&upgraded));
        assert!(is_alive(&mut inside.socket), "it goes on with the old process");
        (inside, kept)
    };
    let are_out = |(inside, mut kept): (Inside, Client)| {
        inside.are_out(&behind);
        assert_eq!(kept.ask(HELLO).status, 403, "on a connection that waited");
    };

    let (mut inside, idle) = enter();
    let excepted = gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]);
    assert!(transcript(&excepted).contains("follows within two seconds"), "{}", transcript(&excepted));
    pause(2.0);
    assert!(is_alive(&mut inside.socket), "whoever is excepted stays");
    assert!(gate.ask(&["close", "t.example"]).status.success());
    are_out((inside, idle));
    assert!(gate.ask(&["open", "t.example"]).status.success());

    // What one process was told while it served holds as well, and is taken back.
    assert!(gate.ask(&["close", "t.example", "--except", "127.0.0.0/8"]).status.success());
    // Each of them is answered once.
    let waiting: Vec<Client> = (0..40).map(|_| kept()).collect();
    let (inside, _idle) = enter();
    assert!(gate.ask(&["open", "t.example"]).status.success());
    assert!(gate.ask(&["drain", &behind.near.address().to_string()]).status.success());
    let is_told = |mut client: Client| {
        pause(0.5);
        client.ask(HELLO).status == 503
    };
    assert!(waiting.into_iter().any(is_told), "its upstream is drained");
    assert!(gate.ask(&["resume", &behind.near.address().to_string()]).status.success());
    let idle = kept();
    gate.reload("drain = \"10 min\"", &behind.site("closed = true"));
    are_out((inside, idle));
    gate.reload("drain = \"10 min\"", &behind.site(""));
    eventually("the site to be open", || (exchange(gate.http, HELLO) == 200).then_some(()));

    let inside = enter();
    gate.reload("drain = \"10 min\"", &behind.site("range = [{ path = \"/\", deny = [\"127.0.0.0/8\"] }]"));
    are_out(inside);
    gate.reload("drain = \"10 min\"", &behind.site(""));
    eventually("the site to be open", || (exchange(gate.http, HELLO) == 200).then_some(()));

    let (inside, mut idle) = enter();
    take_the_site_out(&gate);
    inside.are_out(&behind);
    assert_eq!(idle.ask(HELLO).status, 421, "it has no such site any more");
}

/// A site is closed under each of its names, in whichever letters a command names it.
#[test]
fn a_site_is_closed_under_all_its_names() {
    let near = Upstream::start(1);
    let site = format!("upstream = [{{ url = \"http://{}\" }}]\nredirect_from = [\"www.t.example\"]", near.address());
    let gate = Gate::start(&site);
    let other = "GET /echo HTTP/1.1\r\nHost: www.t.example\r\n\r\n";
    let answers = || (exchange(gate.http, HELLO), exchange(gate.http, other));
    assert_eq!(answers(), (200, 301));
    let closed = gate.ask(&["close", "T.EXAMPLE"]);
    assert!(closed.status.success(), "{}", transcript(&closed));
    assert_eq!(answers(), (403, 403));
    assert!(gate.ask(&["open", "T.example"]).status.success());
    assert_eq!(answers(), (200, 301));
}

/// Over HTTP/2 the stream of a reply under way is reset, and the connection goes on for whoever is let in again.
#[test]
fn a_reply_over_http2_is_reset() {
    let (certificate, https) = (Certificate::make(), free_port());
    let behind = Behind::start();
    let files = format!(
        "certificate = \"{}\"\nkey = {{ file = \"{}\" }}",
        certificate.path("chain.pem").display(),
        certificate.path("key.pem").display()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &behind.site(&files));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Http2Client::connect(&certificate.path("ca.pem"), https).await;
        let mut body = client.begin("/begins").await;
        assert!(gate.ask(&["close", "t.example"]).status.success());
        let end = async {
            loop {
                match body.data().await.expect("no end of a whole reply") {
                    Ok(data) => assert_eq!(data, "part"),
                    Err(error) => return error.reason(),
                }
            }
        };
        assert_eq!(tokio::time::timeout(DEADLINE, end).await.expect("in time"), Some(h2::Reason::CANCEL));
        assert_eq!(client.ask("GET", "/echo", None).await, Ok(403));
        assert!(gate.ask(&["open", "t.example"]).status.success());
        assert_eq!(client.ask("GET", "/echo", None).await, Ok(200));
    });
}

/// A WebSocket whose frame does not end is cut off in its middle: nobody stays by that.
#[test]
fn half_a_frame_keeps_nobody_in() {
    let unending = Recorder::start(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{2}\u{7e}\u{7}\u{7}half",
    );
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", unending.address()));
    let mut socket = websocket(gate.http);
    assert_eq!(socket.read(8), b"\x02\x7e\x07\x07half");
    assert!(gate.ask(&["close", "t.example"]).status.success());
    eventually("its end, for the upstream too", || (unending.left() == 1).then_some(()));
    assert_eq!(socket.read_to_end(), b"", "no frame within a frame");
}

/// SE-: a command narrows what the policy says and never widens it; what it has closed it can open whatever the policy says, and both say
/// by what a site is closed.
#[test]
fn a_command_opens_nothing_that_the_policy_closes() {
    let near = Upstream::start(1);
    let site = |more: &str| format!("upstream = [{{ url = \"http://{}\" }}]\n{more}", near.address());
    let gate = Gate::start(&site("closed = true"));
    let shown = |key: &str| gate.status()["sites"][0][key].clone();
    eventually("the policy to close it", || (exchange(gate.http, HELLO) == 403).then_some(()));
    let closed = gate.ask(&["close", "t.example", "--except", "127.0.0.0/8", "--json"]);
    let said: Value = serde_json::from_slice(&closed.stdout).expect("JSON");
    assert_eq!((&said["closed"], &said["closed_by_policy"]), (&json!(true), &json!(true)));
    assert_eq!(exchange(gate.http, HELLO), 403, "the policy lets nobody in");
    assert_eq!((shown("closed_by"), shown("closed_except")), (json!(["policy", "command"]), json!(["127.0.0.0/8"])));
    let text = transcript(&gate.ask(&["status"]));
    assert!(
        text.contains("closed to visitors by the policy, and by `garant gate close` but for 127.0.0.0/8"),
        "{text}"
    );
    let opened = transcript(&gate.ask(&["open", "t.example"]));
    assert!(opened.contains("the policy still does"), "{opened}");
    assert_eq!((shown("closed"), shown("closed_by")), (json!(true), json!(["policy"])));
    gate.reload("", &site(""));
    eventually("the site to be open", || (exchange(gate.http, HELLO) == 200).then_some(()));
    assert_eq!((shown("closed"), shown("closed_by")), (json!(false), json!([])));
}
