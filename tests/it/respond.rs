//! Alerts about a real nginx by real mail: told, taken on, over, through commands, links and kills. WA-1, WA-4, WA-5, IN-8.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use drawn::Draws;
use serde_json::Value;

use crate::harness::{Nginx, Up, eventually, free_port, garant, http, number, pause, report, transcript};

/// A mail server that keeps what it is given, and can be dead.
pub(crate) struct Sink {
    pub(crate) port: u16,
    mails: Arc<Mutex<Vec<String>>>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let mut sink = Self { port: free_port(), mails: Arc::default(), running: None };
        sink.run();
        sink
    }

    #[expect(clippy::disallowed_methods, reason = "a test is a mail server")]
    fn run(&mut self) {
        // A connection of somebody else may have been given the port meanwhile.
        let listener =
            eventually("the port of the mail server to be free", || TcpListener::bind(("127.0.0.1", self.port)).ok());
        let (ends, mails) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.mails));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(mail) = connection.ok().and_then(taken) {
                    mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                }
            }
        });
        self.running = Some((ends, thread));
    }

    #[expect(clippy::disallowed_methods, reason = "the thread waits for a connection")]
    fn kill(&mut self) {
        let Some((ends, thread)) = self.running.take() else { return };
        ends.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        thread.join().expect("the mail server ends");
    }

    pub(crate) fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The mail of that place, once it is there.
    pub(crate) fn mail(&self, place: usize) -> String {
        eventually("a mail", || self.mails().get(place).cloned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One SMTP exchange (RFC 5321); the mail when one was handed over.
fn taken(stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut answer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let mut mail = None;
    answer.write_all(b"220 sink\r\n").ok()?;
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return mail;
        }
        let reply: &[u8] = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => b"250 sink\r\n",
            "DATA" => {
                answer.write_all(b"354 go on\r\n").ok()?;
                let mut text = String::new();
                loop {
                    line.clear();
                    if lines.read_line(&mut line).ok()? == 0 {
                        return None;
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    text.push_str(&line);
                }
                mail = Some(decoded(&text));
                b"250 taken\r\n"
            }
            "QUIT" => {
                drop(answer.write_all(b"221 bye\r\n"));
                return mail;
            }
            _ => b"250 ok\r\n",
        };
        if answer.write_all(reply).is_err() {
            return mail;
        }
    }
}

/// Quoted-printable as text (RFC 2045, section 6.7).
fn decoded(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let (b'=', Some(byte)) = (first, hex) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

pub(crate) fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
    let head = mail.split("\r\n\r\n").next()?;
    head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn policy(nginx: &Nginx, sink: &Sink) -> String {
    format!(
        r#"
[journal]
name = "shop.example"
[pages]
listen = "127.0.0.1:0"
public = "127.0.0.1:0"
[respond]
weekly_test = "never"
links = "https://status.shop.example"
[[person]]
name = "Lea"
language = "en"
channel = [{{ mail = "lea@shop.example" }}]
[[person]]
name = "Max"
language = "en"
channel = [{{ mail = "max@shop.example" }}]
[[schedule]]
name = "ops"
layer = [{{ people = ["Lea"], every = "day", hand_over = "08:00", from = "2020-01-01" }}]
[[escalation]]
name = "default"
step = [{{ schedule = "ops" }}, {{ person = "Max", after = "30 min" }}]
[mail]
server = "127.0.0.1:{smtp}"
tls = "none"
from = "garant@shop.example"
[[service]]
name = "shop"
title.fr = "La boutique"
title.en = "The shop"
runbook = "https://wiki.shop.example/nginx"
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

/// Runs a command beside a running garant, and returns its JSON.
pub(crate) fn asked(up: &Up, arguments: &[&str]) -> Value {
    let data = up.path("data");
    let mut all = arguments.to_vec();
    all.extend(["--json", "--data", data.to_str().expect("UTF-8")]);
    let output = garant(&all);
    assert!(output.status.success(), "{arguments:?}: {}", transcript(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", transcript(&output)))
}

/// The path of the one-time link of a mail.
fn link(mail: &str) -> String {
    let start = mail.find("https://status.shop.example/a/").expect("a link");
    let link = mail[start..].split(|c: char| c.is_whitespace() || c == '"' || c == '<').next().expect("a link");
    link.strip_prefix("https://status.shop.example/").expect("the prefix").to_owned()
}

/// A stopped nginx is a mail with its words, what to do and a link; a second mail in the same thread says that it is over. The
/// link shows a page when it is opened and acts when its button is pressed, once, for everybody, and nothing else of the team's
/// is there.
#[test]
fn a_stopped_nginx_is_told_taken_on_and_over() {
    let (mut nginx, sink) = (Nginx::start(), Sink::start());
    let up = Up::start(&policy(&nginx, &sink));
    eventually("the shop to be watched", || (up.status()["services"][0]["state"] == "up").then_some(()));
    nginx.kill();
    let first = sink.mail(0);
    assert_eq!(header(&first, "To"), Some("<lea@shop.example>"), "{first}");
    assert_eq!(header(&first, "Subject"), Some("[critical] The shop is down"), "{first}");
    for words in ["refuses the connection", "https://wiki.shop.example/nginx", "garant alert ack 1"] {
        assert!(first.contains(words), "{words}: {first}");
    }
    let public = up.ready["public"].as_str().expect("the public listener").to_owned();
    let at = format!("{public}{}", link(&first));
    let alert = |up: &Up| asked(up, &["alerts"])[0].clone();
    for _ in 0..2 {
        let (status, _, body) = http("GET", &at, &[], b"").expect("an answer");
        assert_eq!(status, 200);
        assert!(String::from_utf8_lossy(&body).contains("<form"), "a button");
    }
    assert_eq!(alert(&up)["state"], "firing", "to open the link changes nothing");
    assert_eq!(alert(&up)["key"], "probe/shop-answers");
    assert_eq!(alert(&up)["scope"]["services"][0], "shop");
    assert_eq!(alert(&up)["notified"][0]["person"], "Lea");
    assert_eq!(alert(&up)["notified"][0]["state"], "handed_over");
    for hidden in ["api/v1/alerts", "api/v1/oncall", "api/v1/holds", "api/v2/alerts", "api/v1/intake"] {
        let (status, ..) = http("GET", &format!("{public}{hidden}"), &[], b"").expect("an answer");
        assert_eq!(status, 404, "{hidden} is not public");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let post = || http("POST", &at, &form, b"action=acknowledge").expect("an answer");
    assert_eq!(post().0, 200);
    assert_eq!(alert(&up)["state"], "acknowledged");
    assert_eq!(alert(&up)["acknowledged"]["by"], "Lea");
    let again = post();
    assert!(String::from_utf8_lossy(&again.2).contains("Lea"), "who has it: {}", String::from_utf8_lossy(&again.2));
    let forged = format!("{at}x");
    assert_eq!(http("POST", &forged, &form, b"action=acknowledge").expect("an answer").0, 404);

    nginx.run();
    let second = sink.mail(1);
    assert!(header(&second, "Subject").is_some_and(|it| it.starts_with("[resolved] The shop is down")), "{second}");
    assert_eq!(header(&second, "In-Reply-To"), header(&first, "Message-ID"), "the same thread");
    assert_eq!(asked(&up, &["alerts"]), Value::Array(Vec::new()));
    let (_, _, body) = http("GET", &at, &[], b"").expect("an answer");
    assert!(!String::from_utf8_lossy(&body).contains("<form"), "nothing to press any more");
    pause(2.0);
    assert_eq!(sink.mails().len(), 2);
}

/// What people do by commands.
#[test]
fn commands_take_on_hand_over_silence_hold_and_test() {
    let (mut nginx, sink) = (Nginx::start(), Sink::start());
    let up = Up::start(&policy(&nginx, &sink));
    eventually("the shop to be watched", || (up.status()["services"][0]["state"] == "up").then_some(()));
    let on_call = asked(&up, &["oncall"]);
    assert_eq!(on_call[0]["now"]["person"], "Lea", "{on_call}");
    assert!(on_call[0]["next"].is_object(), "{on_call}");
    let test = asked(&up, &["notify", "test", "Max"]);
    assert!(sink.mail(0).contains("nothing is wrong"), "{test}");

    nginx.kill();
    assert_eq!(header(&sink.mail(1), "To"), Some("<lea@shop.example>"));
    let id = asked(&up, &["alerts"])[0]["id"].to_string();
    assert_eq!(asked(&up, &["alert", "show", &id])["key"], "probe/shop-answers");
    assert_eq!(asked(&up, &["alert", "ack", &id, "--by", "Lea"])["state"], "acknowledged");
    asked(&up, &["alert", "hand-over", &id, "Max", "--by", "Lea"]);
    assert_eq!(header(&sink.mail(2), "To"), Some("<max@shop.example>"));
    asked(&up, &["alert", "silence", "service=shop", "--for", "1 h", "--by", "Max"]);
    let silenced = asked(&up, &["alerts"])[0]["silenced_by"].clone();
    assert_eq!(silenced.as_array().map(Vec::len), Some(1), "{silenced}");

    // Whoever acts is one of the policy's.
    let data = up.path("data");
    let data = data.to_str().expect("UTF-8");
    for command in [
        &["alert", "ack", &id, "--by", "Nobody"][..],
        &["alert", "silence", "service=shop", "--for", "1 h", "--by", "Nobody"],
        &["hold", "--reason", "none", "--by", "Nobody"],
    ] {
        let refused = garant(&[command, &["--data", data]].concat());
        let said = transcript(&refused);
        assert!(
            !refused.status.success() && said.contains("no person `Nobody`") && said.contains("Lea, Max"),
            "{said}"
        );
    }

    assert_eq!(asked(&up, &["hold"])["hold"], false);
    assert_eq!(asked(&up, &["hold", "--reason", "wrong prices", "--by", "Lea"])["hold"], true);
    assert_eq!(asked(&up, &["hold"])["by"], "Lea");
    assert_eq!(asked(&up, &["release", "--by", "Lea"])["hold"], false);
    nginx.run();
    eventually("both to be told that it is over", || {
        let over = sink.mails().iter().filter(|mail| mail.contains("[resolved] The shop is down")).count();
        (over >= 2).then_some(())
    });
}

/// Kills of the slice that is run with the other tests; `scripts/campaign respond N` makes more.
const KILLS: u64 = 6;

/// So many of them at a time, each with a garant, a web server and a mail server of its own.
const AT_A_TIME: usize = 3;

/// How one kill goes.
#[derive(Clone, Copy)]
struct Killing {
    /// Whether the mail server is dead when the outage begins.
    is_dead: bool,
    /// How long garant lives on in the outage, in milliseconds.
    life: u32,
    /// How long it is gone.
    gone: u32,
    /// Whether the mail server comes back before the web server.
    mail_first: bool,
}

/// Killed at drawn instants of an outage, while the mail server lives or is dead: the outage and its end arrive all the same.
#[test]
fn killed_during_an_outage_everything_arrives() {
    let mut draws = Draws::from_environment();
    let kills: Vec<Killing> = (0..number("GARANT_KILLS", KILLS))
        .map(|_| Killing {
            is_dead: draws.chance(50),
            life: draws.below(3_000_u32),
            gone: draws.below(2_000_u32),
            mail_first: draws.chance(50),
        })
        .collect();
    let (mut done, mut twice) = (usize::try_from(number("GARANT_PART", 0)).expect("a number"), 0);
    for some in kills.get(done..).expect("a part that there is").chunks(AT_A_TIME) {
        twice += std::thread::scope(|scope| {
            let under_way: Vec<_> = some.iter().map(|kill| scope.spawn(|| killed(*kill))).collect();
            under_way.into_iter().map(|kill| kill.join().expect("everything arrives")).sum::<usize>()
        });
        done += some.len();
        report(&format!("kill {done} of {}, {twice} mails twice", kills.len()));
    }
}

/// One of them; how many mails came twice.
fn killed(kill: Killing) -> usize {
    let (mut nginx, mut sink) = (Nginx::start(), Sink::start());
    let up = Up::start(&policy(&nginx, &sink));
    eventually("the shop to be watched", || (up.status()["services"][0]["state"] == "up").then_some(()));
    if kill.is_dead {
        sink.kill();
    }
    nginx.kill();
    pause(f64::from(kill.life) / 1000.0);
    let folder = up.crash();
    pause(f64::from(kill.gone) / 1000.0);
    let up = Up::start_in(folder);
    // The outage lasts long enough to be seen, whenever the kill was.
    pause(3.0);
    if kill.is_dead && kill.mail_first {
        sink.run();
    }
    nginx.run();
    pause(2.0);
    if sink.running.is_none() {
        sink.run();
    }
    let told = eventually("the outage and its end to arrive", || {
        let mails = sink.mails();
        let is_over = asked(&up, &["alerts"]) == Value::Array(Vec::new());
        (is_over && mails.last()?.contains("Subject: [resolved]")).then_some(mails)
    });
    let ids: Vec<_> = told.iter().filter_map(|mail| header(mail, "Message-ID").map(str::to_owned)).collect();
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    report(&format!(
        "killed {} ms into the outage, the mail server {}: {} mails",
        kill.life,
        if kill.is_dead { "dead" } else { "alive" },
        ids.len()
    ));
    ids.len() - distinct.len()
}
