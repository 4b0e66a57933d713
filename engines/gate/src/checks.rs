//! Active checks: each upstream is asked again and again whether it works, by a connection of its own.
//!
//! A request is asked, not only a connection, where the policy names a path: the kernel of a server that is stopped or hangs goes on
//! accepting connections for it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut as _;
use event::Span;
use h2::Ping;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::codec::head::{HeadLimits, HeadParser};
use crate::group::{Group, Upstream};
use crate::http2::fault;
use crate::http2::upstream::handshake;
use crate::message::Reply;
use crate::plan::{Plan, Site};
use crate::pump::{Fault, Sink as _};
use crate::settings::{self, Protocol};
use crate::wire::Wire;
use crate::worker::Shared;

/// Begins to check every upstream of a plan. Dropping the set ends it.
pub(crate) fn begin(plan: &Plan, shared: &Arc<Shared>, random: &dyn engine::Random) -> JoinSet<()> {
    let mut checks = JoinSet::new();
    for site in &plan.sites {
        for (_, group) in site.groups() {
            for upstream in &group.upstreams {
                // Spread over their turn: a hundred checks at once are a load of their own.
                let every = u64::try_from(site.settings.check_every.micros()).unwrap_or(1).max(1);
                let first = Duration::from_micros(random.number() % every);
                let check = Check {
                    site: Arc::clone(site),
                    group: Arc::clone(group),
                    upstream: Arc::clone(upstream),
                    shared: Arc::clone(shared),
                };
                checks.spawn(check.go_on(first));
            }
        }
    }
    checks
}

/// The checks of one upstream.
struct Check {
    site: Arc<Site>,
    group: Arc<Group>,
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
}

impl Check {
    async fn go_on(self, first: Duration) {
        let settings = &self.site.settings;
        tokio::time::sleep(first).await;
        let mut turns = tokio::time::interval(settings.check_every.to_std());
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let began = self.shared.clock.monotonic();
            let within = settings.check_within.to_std();
            let outcome = timeout(within, ask(&self.site.settings, self.upstream.address, self.upstream.protocol))
                .await
                .unwrap_or(Err(Fault::Late));
            let (now, wall) = (self.shared.clock.monotonic(), self.shared.clock.now());
            if now.since(began) > settings.check_within + Span::from_secs(1) {
                // This process itself stood still: that says nothing of the upstream.
                continue;
            }
            if outcome.as_ref().is_err_and(Fault::is_ours) {
                continue;
            }
            let outcome = judged(outcome);
            let outcome = outcome.as_ref().copied().map_err(String::as_str);
            if self.upstream.change(wall, |health| health.checked(outcome, self.group.rules, now)) {
                self.shared.tell_change(&settings.domain, &self.group, &self.upstream);
            }
        }
    }
}

/// Whether an upstream works that has answered so, or why not.
pub(crate) fn judged(outcome: Result<Option<u16>, Fault>) -> Result<(), String> {
    match outcome {
        Ok(None | Some(200..=399)) => Ok(()),
        Ok(Some(status)) => Err(format!("it answers {status}")),
        Err(fault) => Err(fault.words()),
    }
}

/// Asks an upstream of a site; the status of its answer, `None` where a connection is enough.
pub(crate) async fn ask(site: &settings::Site, upstream: SocketAddr, protocol: Protocol) -> Result<Option<u16>, Fault> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the gate owns the connector to its upstreams; the caller bounds its time"
    )]
    let stream = TcpStream::connect(upstream).await?;
    if protocol == Protocol::Http2 {
        return ask_http2(site, stream).await;
    }
    let Some(path) = &site.check else { return Ok(None) };
    let mut wire = Wire::new(stream);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: garant-gate-check\r\nConnection: close\r\n\r\n",
        site.domain
    );
    wire.head().put_slice(head.as_bytes());
    let (mut parser, mut reply) = (HeadParser::default(), Reply::default());
    poll_fn(|cx| wire.poll_send(cx)).await?;
    poll_fn(|cx| wire.poll_reply(cx, &mut parser, HeadLimits::default(), false, &mut reply)).await?;
    Ok(Some(reply.status))
}

/// The same over HTTP/2, where a ping is what shows that a server is at work which is asked for no path.
async fn ask_http2(site: &settings::Site, stream: TcpStream) -> Result<Option<u16>, Fault> {
    let (mut send, mut connection) = handshake(stream).await?;
    let asking = async {
        let Some(path) = &site.check else {
            let mut ping = connection.ping_pong().ok_or_else(Fault::ended)?;
            let pong = async { ping.ping(Ping::opaque()).await.map(|_| None) };
            return tokio::select! {
                pong = pong => pong.map_err(|error| fault(&error)),
                _ = &mut connection => Err(Fault::ended()),
            };
        };
        let uri = format!("http://{}{path}", site.domain);
        let request = http::Request::get(uri).header("user-agent", "garant-gate-check").body(());
        let request = request.map_err(|_| Fault::ended())?;
        let asked = async {
            poll_fn(|cx| send.poll_ready(cx)).await?;
            let (reply, _) = send.send_request(request, true)?;
            Ok::<_, h2::Error>(Some(reply.await?.status().as_u16()))
        };
        tokio::select! {
            asked = asked => asked.map_err(|error| fault(&error)),
            _ = &mut connection => Err(Fault::ended()),
        }
    };
    asking.await
}
