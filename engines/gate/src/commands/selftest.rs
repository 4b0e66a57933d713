//! `garant gate selftest`: the batteries of framing and of TLS against a gate of its own on loopback, with nothing of the running one.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::BufMut as _;
use clap::ArgMatches;
use engine::command::{CommandContext, Style};
use engine::{Context, Failure};
use event::Span;
use policy::{Document, Nouns, Part as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::json_flag;
use crate::codec::cases::{Case, cases};
use crate::codec::head::{HeadLimits, HeadParser};
use crate::codec::refusal::REFUSALS;
use crate::config::Config;
use crate::message::{Length, Reply, Request};
use crate::plan::Plan;
use crate::pump::{Fault, Front, Sink as _, Source as _};
use crate::wire::Wire;
use crate::worker::{Listening, Shared, Worker};

mod tls;

/// How long certificates of the battery are valid, before and after.
const DAY: Span = Span::from_days(1);
/// How long the gate may take for one case.
const WITHIN: Duration = Duration::from_secs(5);
/// What a case expects that is not refused, and what the upstream answers.
const SOUND: u16 = 200;

pub(super) fn arguments() -> clap::Command {
    clap::Command::new("selftest")
        .about(
            "Send a gate of its own on loopback what must be refused, and what must not; exit code 1 when one is wrong",
        )
        .arg(json_flag())
}

/// What became of a case.
struct Found {
    name: String,
    expected: String,
    got: String,
    passed: bool,
}

impl Found {
    /// Of a case of framing: the status, `None` where the connection ended without one, and whether the upstream has seen a request.
    fn of(case: &Case, got: Option<u16>, has_passed: bool) -> Self {
        let refusal = REFUSALS.iter().find(|refusal| Some(refusal.class()) == case.refused_as);
        let expected = refusal.map_or(SOUND, |refusal| refusal.status());
        let passed = got == Some(expected) && has_passed == case.refused_as.is_none();
        let status = got.map_or("no reply".to_owned(), |status| status.to_string());
        let is_smuggled = has_passed && case.refused_as.is_some();
        let got = if is_smuggled { format!("{status}, and it was sent on") } else { status };
        Self { name: case.name.clone(), expected: expected.to_string(), got, passed }
    }
}

pub(super) fn run(matches: &ArgMatches, context: &mut dyn CommandContext) -> Result<u8, Failure> {
    let means = context.means()?;
    let mut outcome = Ok(Vec::new());
    context.wait(Box::pin(async {
        outcome = battery(&means).await;
    }))?;
    let found = outcome.map_err(|error| {
        Failure::new("the battery can't be run").because(&error).remedy("let this user open ports of loopback")
    })?;
    let failed = found.iter().filter(|found| !found.passed).count();
    if matches.get_flag("json") {
        let case = |found: &Found| {
            let Found { name, expected, got, passed } = found;
            json!({ "name": name, "expected": expected, "got": got, "passed": passed })
        };
        let shown: Vec<Value> = found.iter().map(case).collect();
        context.json(&json!({ "cases": shown, "passed": found.len() - failed, "failed": failed }));
        return Ok(u8::from(failed > 0));
    }
    for wrong in found.iter().filter(|found| !found.passed) {
        let words = context.painted(Style::Bad, &wrong.got);
        context.line(&format!("{}: expected {}, got {words}", wrong.name, wrong.expected));
    }
    context.line(&format!("{} cases: {} as they should be, {failed} not", found.len(), found.len() - failed));
    Ok(u8::from(failed > 0))
}

async fn listener() -> std::io::Result<(TcpListener, SocketAddr)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the gate owns its listeners; this one is of loopback, and of one command"
    )]
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The plan of the site `t.example` with this upstream.
fn plan_of(upstream: SocketAddr) -> Plan {
    let text = format!("[[site]]\ndomain = \"t.example\"\nupstream = [{{ url = \"http://{upstream}\" }}]\n");
    let mut document = Document::from_text("selftest", &text);
    let nouns = Nouns::read(&mut document);
    let desired = Config::read(&mut document, &nouns).desired();
    desired.map(|desired| Plan::of(&desired, &Plan::default(), &mut Vec::new())).unwrap_or_default()
}

/// Runs every case against a gate that is made for them.
async fn battery(means: &Context) -> std::io::Result<Vec<Found>> {
    let (origin, upstream) = listener().await?;
    let passed = Arc::new(AtomicU64::new(0));
    let origin = tokio::spawn(serve(origin, Arc::clone(&passed)));
    let (gate, address) = listener().await?;
    let (secured, over_tls) = listener().await?;
    let (news, _unread) = mpsc::channel(1);
    let shared = Arc::new(Shared::new(Arc::clone(&means.clock), news, means.random.number()));
    let now = means.clock.now();
    let certificate = tls::Certificate::of("t.example", now - DAY, now + DAY).map_err(std::io::Error::other)?;
    shared.tls.send_replace(certificate.config());
    shared.plan.send_replace(Arc::new(plan_of(upstream)));
    let listening = |listener: TcpListener, address, is_tls| {
        std::io::Result::Ok(Listening { address, is_tls, listener: Arc::new(listener.into_std()?) })
    };
    shared.listeners.send_replace(vec![listening(gate, address, false)?, listening(secured, over_tls, true)?]);
    let stop = means.stop.child_token();
    let worker = tokio::spawn(Arc::new(Worker::new(shared, means.random.number(), stop.clone())).run());
    let mut found = Vec::new();
    for case in cases() {
        let before = passed.load(Ordering::Relaxed);
        let got = timeout(WITHIN, ask(address, &case.bytes)).await.ok().flatten();
        let has_passed = passed.load(Ordering::Relaxed) > before;
        found.push(Found::of(&case, got, has_passed));
    }
    found.extend(tls::battery(over_tls, &certificate, means).await);
    found.extend(tls::certificates(now).map_err(std::io::Error::other)?);
    stop.cancel();
    origin.abort();
    drop(worker.await);
    Ok(found)
}

/// The status that these bytes are answered with.
async fn ask(gate: SocketAddr, bytes: &[u8]) -> Option<u16> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a gate of this very command is asked, and the caller bounds the time"
    )]
    let mut wire = Wire::new(TcpStream::connect(gate).await.ok()?);
    wire.head().put_slice(bytes);
    poll_fn(|cx| wire.poll_send(cx)).await.ok()?;
    let (mut parser, mut reply) = (HeadParser::default(), Reply::default());
    let read = poll_fn(|cx| wire.poll_reply(cx, &mut parser, HeadLimits::default(), false, &mut reply));
    read.await.ok()?;
    Some(reply.status)
}

/// Answers whole requests, and counts them.
async fn serve(origin: TcpListener, passed: Arc<AtomicU64>) {
    while let Ok((stream, _)) = origin.accept().await {
        let passed = Arc::clone(&passed);
        drop(tokio::spawn(async move {
            let mut wire = Wire::new(stream);
            let mut request = Request::default();
            while take(&mut wire, &mut request).await.is_ok() {
                passed.fetch_add(1, Ordering::Relaxed);
                wire.head().put_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                wire.send(Length::None, false);
                if poll_fn(|cx| wire.poll_send(cx)).await.is_err() {
                    return;
                }
            }
        }));
    }
}

/// Reads one request with its body.
async fn take(wire: &mut Wire<TcpStream>, request: &mut Request) -> Result<(), Fault> {
    let mut parser = HeadParser::default();
    poll_fn(|cx| wire.poll_request(cx, &mut parser, HeadLimits::default(), request)).await?;
    wire.receive(request.length, true);
    poll_fn(|cx| {
        loop {
            match wire.front()? {
                Front::End => return Poll::Ready(Ok(())),
                Front::Data(bytes) => wire.take(bytes),
                Front::Empty => std::task::ready!(wire.poll_more(cx))?,
            }
        }
    })
    .await
}
