//! Delivery receipts of gateways for text messages: Debian's Kannel, and one that a test speaks for. Promise WA-4.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Nginx, Service, Up, binary, command, eventually, free_port, garant, http, transcript};
use crate::respond::{Sink, asked, header};

fn policy(nginx: &Nginx, sink: &Sink, public: u16, sms: &str) -> String {
    format!(
        r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
public = "127.0.0.1:{public}"
[network]
notifications_may_reach = ["127.0.0.0/8"]
[respond]
weekly_test = "never"
[[person]]
name = "Lea"
language = "en"
channel = [{{ sms = "+33600000000" }}, {{ mail = "lea@shop.example" }}]
[mail]
server = "127.0.0.1:{smtp}"
tls = "none"
from = "garant@shop.example"
[sms]
{sms}
sender = "SHOP"
receipts = "http://127.0.0.1:{public}"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
[[probe.http]]
name = "shop-answers"
service = "shop"
url = "http://127.0.0.1:{http}/"
every = "1 s"
timeout = "800 ms"
"#,
        smtp = sink.port,
        http = nginx.http,
    )
}

/// What `garant alerts --json` shows of who was told of the first alert, by channel.
fn told(up: &Up) -> Vec<(String, String)> {
    let data = up.path("data");
    let shown = garant(&["alerts".as_ref(), "--json".as_ref(), "--data".as_ref(), data.as_os_str()]);
    let alerts: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let word = |told: &Value, key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let told = alerts[0]["notified"].as_array().cloned().unwrap_or_default();
    told.iter().map(|told| (word(told, "channel"), word(told, "state"))).collect()
}

fn is_told(up: &Up, expected: &[(&str, &str)]) {
    eventually(&format!("{expected:?}"), || {
        let told = told(up);
        told.iter()
            .map(|(channel, state)| (channel.as_str(), state.as_str()))
            .eq(expected.iter().copied())
            .then_some(())
    });
}

/// The states of messages in the journal, as the team sees them, in their order.
fn journaled(up: &Up) -> Vec<String> {
    let bodies = bodies(up, "respond.notified");
    bodies.iter().map(|body| body["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// What everybody may read of the first failure, in its order. It names nobody, and is about the same change.
fn public(up: &Up) -> Vec<String> {
    let bodies = bodies(up, "evidence.reacted");
    for body in &bodies {
        let keys: Vec<&str> = body.as_object().expect("a body").keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{body}");
        assert!(["to", "probe", "since", "at"].iter().all(|key| keys.contains(key)), "{body}");
        assert_eq!((&body["probe"], &body["since"]), (&json!("shop-answers"), &bodies[0]["since"]), "{body}");
    }
    bodies.iter().map(|body| body["to"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The entries of that kind, in their order.
fn bodies(up: &Up, kind: &str) -> Vec<Value> {
    let data = up.path("data");
    let mut shown = command(binary());
    shown.args(["log", "show", "--json", "--kind", kind, "--data"]).arg(&data);
    let shown = shown.output().expect("garant starts");
    assert!(shown.status.success(), "{}", transcript(&shown));
    let entries = String::from_utf8_lossy(&shown.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    let entries = entries.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    entries.map(|entry| entry["entry"]["body"].clone()).collect()
}

/// A Kannel with a centre that takes every message.
struct Kannel {
    _folder: TempDir,
    _running: Vec<Service>,
    port: u16,
}

impl Kannel {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("garant-kannel-").tempdir().expect("a temporary folder");
        let [admin, boxes, centre, port] = [free_port(), free_port(), free_port(), free_port()];
        let configuration = format!(
            "group = core\nadmin-port = {admin}\nadmin-password = x\nsmsbox-port = {boxes}\nbox-allow-ip = 127.0.0.1\n\n\
             group = smsc\nsmsc = fake\nsmsc-id = FAKE\nhost = 127.0.0.1\nport = {centre}\nconnect-allow-ip = 127.0.0.1\n\n\
             group = smsbox\nbearerbox-host = 127.0.0.1\nsendsms-port = {port}\n\n\
             group = sendsms-user\nusername = garant\npassword = s3cret\n\n\
             group = sms-service\nkeyword = default\ntext = none\nmax-messages = 0\n"
        );
        let file = folder.path().join("kannel.conf");
        std::fs::write(&file, configuration).expect("written");
        let quiet = |program: &str| {
            let mut quiet = command(program);
            quiet.stderr(std::process::Stdio::null());
            quiet
        };
        let bearerbox = Service::start(quiet("bearerbox").arg(&file), boxes);
        let mut fake = quiet("/usr/lib/kannel/test/fakesmsc");
        fake.args(["-H", "127.0.0.1", "-r", &centre.to_string(), "-i", "1", "-m", "1", "1 2 text hello"]);
        let fake = Service::start(&mut fake, centre);
        let smsbox = Service::start(quiet("smsbox").arg(&file), port);
        Self { _folder: folder, _running: vec![smsbox, fake, bearerbox], port }
    }
}

/// A real Kannel takes the message and says that the telephone has it: the state is `delivered`, in `alerts` and in the journal, and
/// everybody may read that it was, and that somebody acknowledged.
#[test]
fn kannel_says_that_a_message_was_delivered() {
    let (mut nginx, sink, kannel) = (Nginx::start(), Sink::start(), Kannel::start());
    let secrets = tempfile::tempdir().expect("a folder");
    let password = secrets.path().join("password");
    std::fs::write(&password, "s3cret").expect("written");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let sms = format!(
        "preset = \"kannel\"\nurl = \"http://127.0.0.1:{}\"\nuser = \"garant\"\npassword = {{ file = \"{}\" }}",
        kannel.port,
        password.display()
    );
    let up = Up::start(&policy(&nginx, &sink, free_port(), &sms));
    eventually("the shop to be watched", || (up.status()["services"][0]["state"] == "up").then_some(()));
    nginx.kill();
    is_told(&up, &[("sms", "delivered")]);
    assert_eq!(journaled(&up), ["queued", "handed_over", "delivered"]);
    assert_eq!(public(&up), ["failure", "delivered"]);
    for _ in 0..2 {
        let answer = asked(&up, &["alert", "ack", "1", "--by", "Lea"]);
        assert_eq!(answer["state"], "acknowledged", "{answer}");
    }
    eventually("the acknowledgement in the journal", || (public(&up).len() > 2).then_some(()));
    assert_eq!(public(&up), ["failure", "delivered", "acknowledged"]);
    assert!(sink.mails().is_empty());
}

/// A gateway that takes every message, and hands over what it was asked.
fn gateway() -> (u16, Receiver<Value>) {
    #[expect(clippy::disallowed_methods, reason = "a test is a gateway")]
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(request) = stream.ok().and_then(answered) else { continue };
            if asked.send(request).is_err() {
                return;
            }
        }
    });
    (port, requests)
}

/// Reads one request with a body of JSON, and takes it.
fn answered(mut stream: TcpStream) -> Option<Value> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").ok()?;
    serde_json::from_slice(&body).ok()
}

/// A gateway that could not deliver says so: the next channel is used. An address that nobody gave it says nothing.
#[test]
fn what_a_gateway_could_not_deliver_goes_to_the_next_channel() {
    let (mut nginx, sink) = (Nginx::start(), Sink::start());
    let (port, requests) = gateway();
    let sms = format!(
        "url = \"http://127.0.0.1:{port}/send\"\nencoding = \"json\"\n\
         body = '{{\"to\": \"{{to}}\", \"text\": \"{{text}}\", \"from\": \"{{sender}}\", \"callback\": \"{{receipt}}\"}}'\n\
         receipt = {{ key = \"/message/status\", delivered = [\"delivered\"], failed = [\"undelivered\"] }}"
    );
    let up = Up::start(&policy(&nginx, &sink, free_port(), &sms));
    eventually("the shop to be watched", || (up.status()["services"][0]["state"] == "up").then_some(()));
    nginx.kill();
    let request = eventually("a request", || requests.try_recv().ok());
    assert!(request["text"].as_str().is_some_and(|text| text.contains("The shop is down")), "{request}");
    is_told(&up, &[("sms", "handed_over")]);
    let callback = request["callback"].as_str().expect("an address").to_owned();
    let says = |to: &str, status: &str| {
        let body = json!({ "message": { "status": status } }).to_string();
        http("POST", to, &[("Content-Type", "application/json")], body.as_bytes()).expect("an answer").0
    };
    let (address, secret) = callback.rsplit_once('.').expect("a MAC");
    let mut forged: Vec<char> = secret.chars().collect();
    forged[0] = if forged[0] == 'A' { 'B' } else { 'A' };
    for stranger in
        [format!("{address}.{}", forged.iter().collect::<String>()), format!("{callback}/x"), format!("{address}.")]
    {
        assert_eq!(says(&stranger, "undelivered"), 404, "{stranger}");
    }
    let long = vec![b' '; 16 * 1024 + 1];
    let too_long = http("POST", &callback, &[("Content-Type", "application/json")], &long).expect("an answer").0;
    assert_eq!(too_long, 413);
    assert_eq!(says(&callback, "sent"), 200);
    is_told(&up, &[("sms", "handed_over")]);
    assert!(sink.mails().is_empty());

    assert_eq!(says(&callback, "undelivered"), 200);
    let mail = sink.mail(0);
    assert_eq!(header(&mail, "Subject"), Some("[critical] The shop is down"), "{mail}");
    // The first word counts.
    assert_eq!(says(&callback, "delivered"), 200);
    is_told(&up, &[("mail", "handed_over"), ("sms", "failed")]);
    assert_eq!(sink.mails().len(), 1);
    assert_eq!(journaled(&up), ["queued", "handed_over", "failed", "queued", "handed_over"]);
    assert_eq!(public(&up), ["failure"], "told once, and delivered to nobody as far as is known");
}
