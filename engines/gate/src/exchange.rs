//! One request at the upstreams of its group, until one of them answers: which, how often, and what the client gets.
//!
//! A request is sent again only when nothing of it was sent, or when sending it twice is the same as once; never to an upstream that
//! was tried, within the budget of the group, and while what was read of its body is kept. A connection on which the upstream had ended
//! before it got anything is no try: it is opened anew.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event::Monotonic;
use h2::Reason;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::codec::head::HeadParser;
use crate::codec::refusal::Refusal;
use crate::downstream::Downstream;
use crate::group::{Group, Unpicked, Upstream, Visit};
use crate::hardening::Added;
use crate::heads::{Extras, OwnReply, Visitor, http2_request, put_request};
use crate::message::{Name, Reply, Request, Version};
use crate::meter::{ClientMeter, Quiet, STEP};
use crate::peer::Peer;
use crate::plan::Site;
use crate::pump::{Fault, Flow, Nowhere, Replayed, Side, Unseen};
use crate::settings::Protocol;
use crate::stay::Stay;
use crate::tunnel::{Carried, carry};
use crate::wire::Wire;
use crate::worker::Worker;

/// Replies of the kind 1xx before the one that counts.
const INFORMATIONAL_MAX: u32 = 8;

/// Why a reply ends of which the site was closed, in the log.
pub(crate) const SHUT_OUT: &str = "the site was closed";

/// One request, and where it goes.
pub(crate) struct Exchange<'e> {
    pub(crate) worker: &'e Worker,
    pub(crate) site: &'e Arc<Site>,
    pub(crate) group: &'e Arc<Group>,
    pub(crate) request: &'e Request,
    /// The canonical one.
    pub(crate) target: &'e str,
    pub(crate) visitor: Visitor,
    pub(crate) stay: Stay<'e>,
}

/// How a request was answered.
#[derive(Default, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    /// Bytes of the body that the client was sent.
    pub(crate) bytes: u64,
    /// Whether the connection of the client takes another request.
    pub(crate) keeps: bool,
    /// Who has answered.
    pub(crate) upstream: Option<SocketAddr>,
    /// Upstreams that were tried.
    pub(crate) tries: usize,
    /// Why the reply ended in the middle.
    pub(crate) cut: Option<&'static str>,
    /// How a stream of HTTP/2 is reset then.
    pub(crate) reset: Option<Reason>,
    /// The class of what was refused.
    pub(crate) refused: Option<Refusal>,
}

/// Why an upstream has not answered.
enum Unanswered {
    Client(Fault),
    Upstream { fault: Fault, was_sent: bool },
}

impl Unanswered {
    /// What a request met that was sent.
    fn of(fault: Fault) -> Self {
        let was_sent = !matches!(fault, Fault::Unseen(_));
        Self::Upstream { fault, was_sent }
    }
}

/// What a request met of which nothing was sent.
fn unsent(fault: Fault) -> Unanswered {
    Unanswered::Upstream { fault, was_sent: false }
}

/// An upstream that has answered, and how far the request is.
struct Answer {
    peer: Peer,
    sent: Flow,
    is_broken: bool,
    /// The client is gone, and the request goes on without it.
    is_alone: bool,
}

impl Exchange<'_> {
    /// Has the request answered. `reply` is memory for the head of the reply.
    pub(crate) async fn run<D: Downstream>(&self, client: &mut D, reply: &mut Reply) -> Outcome {
        let limits = &self.site.settings;
        self.group.count();
        let mut body = Replayed::new(client, limits.replay_bytes_max as usize);
        let mark = limits.affinity.as_deref().and_then(|name| self.request.fields.cookie(name));
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut status = 503;
        let mut picked = self.pick(&tried, mark);
        loop {
            let visit = match picked {
                Ok(visit) => visit,
                Err(why) => return self.unanswered(&mut body, why, status, &tried).await,
            };
            let upstream = Arc::clone(visit.upstream());
            upstream.counts.requests.add();
            let began = self.worker.clock.monotonic();
            let answered = self.attempt(&mut body, &upstream, reply).await;
            tried.push(upstream.address);
            let now = self.worker.clock.monotonic();
            let may_repeat = match answered {
                Ok(answer) => {
                    let is_failure = matches!(reply.status, 502..=504);
                    if is_failure {
                        self.failed(&upstream, &format!("it answers {}", reply.status));
                    } else {
                        upstream.answered(now.since(began));
                    }
                    let again = is_failure && answer.sent.is_done && self.request.is_idempotent();
                    if again && let Some(next) = self.again(&mut body, &tried, mark, &upstream) {
                        picked = Ok(next);
                        continue;
                    }
                    let outcome = self.relay(body, answer, reply, &visit, mark).await;
                    return Outcome { tries: tried.len(), ..outcome };
                }
                Err(Unanswered::Client(fault)) => return self.given_up(&mut body, &fault, tried.len()).await,
                Err(Unanswered::Upstream { fault, was_sent }) => {
                    if !fault.is_ours() {
                        self.failed(&upstream, &fault.words());
                    }
                    status = if matches!(fault, Fault::Late) { 504 } else { 502 };
                    !was_sent || self.request.is_idempotent()
                }
            };
            drop(visit);
            picked = match may_repeat.then(|| self.again(&mut body, &tried, mark, &upstream)).flatten() {
                Some(next) => Ok(next),
                None => Err(Unpicked::None),
            };
        }
    }

    /// An upstream that was not tried: one that may be used; any, where none may and there is no document to show instead.
    fn pick(&self, tried: &[SocketAddr], mark: Option<&[u8]>) -> Result<Visit, Unpicked> {
        let most = self.site.settings.requests_per_upstream_max;
        let pick = |any| self.group.pick(tried, mark, any, most, self.worker.draw());
        match pick(false) {
            Err(Unpicked::None) if self.site.document.is_none() => pick(true),
            picked => picked,
        }
    }

    /// Another upstream for a request that may be repeated, if the bounds allow it.
    fn again<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        tried: &[SocketAddr],
        mark: Option<&[u8]>,
        upstream: &Upstream,
    ) -> Option<Visit> {
        if !body.can_replay() || tried.len() >= self.site.settings.tries_max as usize {
            return None;
        }
        let next = self.pick(tried, mark).ok()?;
        if !self.group.may_retry() {
            return None;
        }
        upstream.counts.retried.add();
        body.replay();
        Some(next)
    }

    fn failed(&self, upstream: &Arc<Upstream>, reason: &str) {
        if !upstream.failed(self.group.rules.eject_after) {
            return;
        }
        let may_eject = self.group.may_eject();
        let (now, rules) = (self.worker.clock.monotonic(), self.group.rules);
        if upstream.change(self.worker.clock.now(), |health| health.failed(reason, rules, may_eject, now)) {
            upstream.counts.ejections.add();
            self.worker.tell_change(&self.site.settings.domain, self.group, upstream);
        }
    }

    /// Sends the request to one upstream, and waits until its reply begins.
    async fn attempt<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        upstream: &Arc<Upstream>,
        reply: &mut Reply,
    ) -> Result<Answer, Unanswered> {
        match upstream.protocol {
            Protocol::Http1 => self.attempt_http1(body, upstream, reply).await,
            Protocol::Http2 => self.attempt_http2(body, upstream, reply).await,
        }
    }

    async fn attempt_http1<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        upstream: &Arc<Upstream>,
        reply: &mut Reply,
    ) -> Result<Answer, Unanswered> {
        let may_repeat = self.request.is_idempotent();
        let waiting = self.worker.pool.take(upstream.address, self.worker.clock.monotonic(), !may_repeat);
        if let Some(wire) = waiting {
            match self.ask(body, upstream, self.begin(wire), reply).await {
                // It was closed while it waited: nothing is known of the upstream by that.
                Err(Unanswered::Upstream { fault: Fault::Broken(_), .. }) if may_repeat && body.can_replay() => {
                    body.replay();
                }
                asked => return asked,
            }
        }
        let stream = self.connect(upstream.address).await.map_err(unsent)?;
        self.ask(body, upstream, self.begin(Wire::new(stream)), reply).await
    }

    /// Writes the head of the request.
    fn begin(&self, mut wire: Wire<TcpStream>) -> Peer {
        put_request(wire.head(), self.request, self.target, self.visitor, self.worker.name());
        wire.send(self.request.length, true);
        Peer::Http1(wire)
    }

    async fn attempt_http2<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        upstream: &Arc<Upstream>,
        reply: &mut Reply,
    ) -> Result<Answer, Unanswered> {
        let head = http2_request(self.request, self.target, self.visitor, self.worker.name());
        let head = head.map_err(|_| Unanswered::Client(Refusal::BadField.into()))?;
        let (connections, has_body) = (&self.worker.connections, self.request.length.has_body());
        let now = self.worker.clock.monotonic();
        let within = self.site.settings.connect_within.to_std();
        let waiting = timeout(within, connections.call(upstream.address, &head, has_body, now));
        if let Ok(Some(call)) = waiting.await {
            match self.ask(body, upstream, Peer::Http2(call), reply).await {
                // The upstream leaves that connection, and has not looked at the request: another one is no other try.
                Err(Unanswered::Upstream { fault: Fault::Unseen(Unseen::Connection), .. }) if body.can_replay() => {
                    body.replay();
                }
                Err(Unanswered::Upstream { fault: Fault::Broken(_), .. })
                    if self.request.is_idempotent() && body.can_replay() =>
                {
                    body.replay();
                }
                asked => return asked,
            }
        }
        let stream = self.connect(upstream.address).await.map_err(unsent)?;
        let opened = connections.open(upstream.address, stream, head, has_body, now);
        let call = timeout(within, opened).await.unwrap_or(Err(Fault::Late)).map_err(unsent)?;
        self.ask(body, upstream, Peer::Http2(call), reply).await
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, Fault> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the gate owns the connector to its upstreams, and bounds its time here"
        )]
        let connecting = TcpStream::connect(address);
        let within = self.site.settings.connect_within.to_std();
        let stream = timeout(within, connecting).await.map_err(|_| Fault::Late)??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Whether the request goes on without a client that has left for this reason: it was sent whole, and is one that may not be done by
    /// half. Whoever gives up a stream of HTTP/2 says so, and means it.
    fn goes_on_without(&self, reason: &Fault, sent: &Flow) -> bool {
        // Nothing more is read of whoever is let in no more.
        self.outlives_its_client() && (sent.is_done || !matches!(reason, Fault::ShutOut))
    }

    fn outlives_its_client(&self) -> bool {
        self.request.version != Version::Http2 && !self.request.is_idempotent()
    }

    /// Why a request has nobody to answer any more: its client has given it up, or is let in no more.
    fn has_left(&self, client: &mut impl Downstream, cx: &mut Context<'_>) -> Option<Fault> {
        if self.stay.is_over() {
            return Some(Fault::ShutOut);
        }
        client.is_given_up(cx).then(Fault::ended)
    }

    async fn ask<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        upstream: &Upstream,
        mut peer: Peer,
        reply: &mut Reply,
    ) -> Result<Answer, Unanswered> {
        let settings = &self.site.settings;
        // Once: what was read of the body already was sent on the first word.
        if self.request.expects && body.is_untouched() {
            let client = body.inner();
            let said = timeout(STEP, poll_fn(|cx| client.poll_continue(cx))).await.unwrap_or(Err(Fault::Late));
            said.map_err(Unanswered::Client)?;
        }
        let is_head = self.request.method == "HEAD";
        let (mut sent, mut parser) = (Flow::default(), HeadParser::default());
        let mut broken: Option<Fault> = None;
        let (mut informational, mut is_alone, mut is_shut_out) = (0, false, false);
        let rate_min = if self.request.is_grpc() { 0 } else { self.worker.rate_min() };
        let mut meter = ClientMeter::new(rate_min);
        let mut quiet = Quiet::default();
        loop {
            let step = timeout(
                STEP,
                poll_fn(|cx| {
                    let has_left = (!is_alone).then(|| self.has_left(body.inner(), cx)).flatten();
                    if let Some(fault) = has_left {
                        if !self.goes_on_without(&fault, &sent) {
                            return Poll::Ready(Err(Unanswered::Client(fault)));
                        }
                        (is_alone, is_shut_out) = (true, matches!(fault, Fault::ShutOut));
                    }
                    if broken.is_none() && !sent.is_done {
                        match sent.poll(cx, body, &mut peer) {
                            Poll::Ready(Err((Side::Source, fault))) => {
                                return Poll::Ready(Err(Unanswered::Client(fault)));
                            }
                            // It may have answered before it closed.
                            Poll::Ready(Err((Side::Sink, fault))) => broken = Some(fault),
                            Poll::Ready(Ok(())) | Poll::Pending => {}
                        }
                        if sent.bytes > settings.body_bytes_max {
                            return Poll::Ready(Err(Unanswered::Client(Refusal::BodyTooLarge.into())));
                        }
                    }
                    let read = peer.poll_reply(cx, &mut parser, is_head, reply);
                    read.map_err(Unanswered::of)
                }),
            )
            .await;
            // Its request goes on; whoever sent it is told at once.
            if std::mem::take(&mut is_shut_out) {
                self.shut_out(body.inner()).await;
            }
            match step {
                Ok(Ok(())) if reply.status == 101 => {
                    let is_asked = self.request.upgrades
                        && reply.fields.first(Name::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
                    if !is_asked {
                        return Err(Unanswered::of(Refusal::UnaskedSwitch.into()));
                    }
                    return Ok(Answer { peer, sent, is_broken: broken.is_some(), is_alone });
                }
                // What comes before the reply is of this hop: the client was told to go on already.
                Ok(Ok(())) if reply.status < 200 => {
                    informational += 1;
                    if informational > INFORMATIONAL_MAX {
                        return Err(Unanswered::of(Refusal::BadStatusLine.into()));
                    }
                }
                Ok(Ok(())) => return Ok(Answer { peer, sent, is_broken: broken.is_some(), is_alone }),
                Ok(Err(Unanswered::Upstream { fault, .. })) => {
                    // What the whole stream met says more than that nothing could be written to it.
                    let says_more = matches!(fault, Fault::Unseen(_) | Fault::Reset(_));
                    return Err(Unanswered::of(if says_more { fault } else { broken.unwrap_or(fault) }));
                }
                Ok(Err(unanswered)) => return Err(unanswered),
                Err(_step) => {
                    let waits_for_client = !sent.is_done && sent.waits_for == Some(Side::Source);
                    if waits_for_client && rate_min > 0 {
                        if meter.is_too_slow(sent.bytes) {
                            return Err(Unanswered::Client(Refusal::TooSlow.into()));
                        }
                        quiet = Quiet::default();
                        continue;
                    }
                    let is_late = quiet.lasts(sent.bytes, settings.reply_within);
                    if is_late && waits_for_client {
                        return Err(Unanswered::Client(Refusal::TooSlow.into()));
                    }
                    // Checks have found meanwhile that it does not answer: whoever can go elsewhere does so at once.
                    let is_out = !upstream.is_well()
                        && self.request.is_idempotent()
                        && body.can_replay()
                        && self.group.upstreams.iter().any(|other| other.is_usable());
                    if is_late || is_out {
                        peer.doubt();
                        return Err(Unanswered::of(Fault::Late));
                    }
                }
            }
        }
    }

    /// Sends the reply to the client, with what is left of the request to the upstream.
    async fn relay<D: Downstream>(
        &self,
        mut body: Replayed<'_, D>,
        answer: Answer,
        reply: &Reply,
        visit: &Visit,
        mark: Option<&[u8]>,
    ) -> Outcome {
        let Answer { mut peer, mut sent, mut is_broken, mut is_alone } = answer;
        let upstream = visit.upstream();
        let is_tunnel = reply.status == 101;
        let ends_by_itself = body.inner().knows_the_end_of(self.request, reply);
        let keeps = self.request.keeps && ends_by_itself && sent.is_done && !is_tunnel && !self.worker.is_stopping();
        // No browser shows what a call of gRPC is answered, whose fields are handed to the program that called.
        let is_call = reply.fields.first(Name::ContentType).is_some_and(|kind| kind.starts_with(b"application/grpc"));
        let added = if is_tunnel || is_call {
            Added::NONE
        } else {
            self.site.hardening.missing(&reply.fields, self.visitor.is_tls)
        };
        if self.visitor.is_tls && !is_tunnel && !is_call {
            self.site.served.replied(added.is_bare);
        }
        let date = (reply.fields.first(Name::Date).is_none() && !is_tunnel && !is_call).then(|| self.worker.date());
        let extras = Extras { cookie: self.cookie(upstream, mark), date, added };
        if !is_alone && body.inner().begin(self.request, reply, keeps, &extras).is_err() {
            return Outcome { status: 499, cut: Some("the client went away"), ..Outcome::default() };
        }
        if is_tunnel {
            let Peer::Http1(mut wire) = peer else {
                return Outcome { status: 499, cut: Some("the upstream broke off"), ..Outcome::default() };
            };
            wire.tunnel();
            let Carried { bytes, cut } = carry(self.worker, &self.stay, body.inner(), &mut wire).await;
            let upstream = Some(upstream.address);
            return Outcome { status: reply.status, bytes, upstream, cut, ..Outcome::default() };
        }
        peer.receive(reply);
        let quiet_max = self.site.settings.reply_within;
        // Why the upstream has reset the stream of HTTP/2 that its reply is on.
        let mut reset = None;
        let mut is_shut_out = false;
        let mut meter = ClientMeter::new(self.worker.rate_min());
        let (mut back, mut quiet) = (Flow::default(), Quiet::default());
        let cut = loop {
            let step = timeout(
                STEP,
                poll_fn(|cx| {
                    let has_left = (!is_alone).then(|| self.has_left(body.inner(), cx)).flatten();
                    if let Some(fault) = has_left {
                        is_shut_out = matches!(fault, Fault::ShutOut);
                        if !self.goes_on_without(&fault, &sent) {
                            return Poll::Ready(Err(if is_shut_out { SHUT_OUT } else { "the client went away" }));
                        }
                        is_alone = true;
                    }
                    if !sent.is_done && !is_broken {
                        match sent.poll(cx, &mut body, &mut peer) {
                            Poll::Ready(Err((Side::Source, _))) => return Poll::Ready(Err("the client went away")),
                            Poll::Ready(Err((Side::Sink, _))) => is_broken = true,
                            Poll::Ready(Ok(())) | Poll::Pending => {}
                        }
                    }
                    if !is_alone {
                        match ready!(back.poll(cx, &mut peer, body.inner())) {
                            Err((Side::Sink, _)) if sent.is_done && self.outlives_its_client() => is_alone = true,
                            Err((Side::Sink, _)) => return Poll::Ready(Err("the client went away")),
                            Err((Side::Source, fault)) => {
                                reset = if let Fault::Reset(reason) = fault { Some(reason) } else { None };
                                return Poll::Ready(Err("the upstream broke off"));
                            }
                            Ok(()) => return Poll::Ready(Ok(())),
                        }
                    }
                    back.poll(cx, &mut peer, &mut Nowhere).map_err(|_| "the upstream broke off")
                }),
            )
            .await;
            match step {
                Ok(Ok(())) => break None,
                Ok(Err(why)) => break Some(why),
                Err(_step) => {
                    if back.waits_for == Some(Side::Sink) && !is_alone {
                        quiet = Quiet::default();
                        if meter.is_too_slow(back.bytes) {
                            break Some("the client was too slow");
                        }
                    } else if quiet.lasts(sent.bytes + back.bytes, quiet_max) {
                        break Some("the upstream fell silent");
                    }
                }
            }
        };
        if cut == Some("the upstream fell silent") {
            peer.doubt();
        }
        if matches!(cut, Some("the upstream broke off" | "the upstream fell silent")) {
            self.failed(upstream, cut.unwrap_or_default());
        }
        if cut.is_none()
            && sent.is_done
            && !is_broken
            && reply.keeps
            && let Peer::Http1(wire) = peer
        {
            self.worker.pool.keep(upstream.address, wire, self.worker.clock.monotonic());
        }
        let cut = match (is_alone, is_shut_out) {
            (true, true) => Some(SHUT_OUT),
            (true, false) => Some("the client went away"),
            (false, _) => cut,
        };
        // Nothing is wrong with the stream: it is not wanted any more.
        let reset = reset.map(passed_on).or((cut == Some(SHUT_OUT)).then_some(Reason::CANCEL));
        Outcome {
            status: if is_alone { 499 } else { reply.status },
            bytes: back.bytes,
            keeps: keeps && cut.is_none(),
            upstream: Some(upstream.address),
            reset,
            cut,
            ..Outcome::default()
        }
    }

    /// The cookie that keeps the visitor here, where it is wanted and not there.
    fn cookie(&self, upstream: &Upstream, mark: Option<&[u8]>) -> Option<String> {
        let name = self.site.settings.affinity.as_deref()?;
        let secure = if self.visitor.is_tls { "; Secure" } else { "" };
        (mark != Some(upstream.mark.as_bytes()))
            .then(|| format!("{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}", upstream.mark))
    }

    /// Answers for the upstreams, of which none did.
    async fn unanswered<D: Downstream>(
        &self,
        body: &mut Replayed<'_, D>,
        why: Unpicked,
        status: u16,
        tried: &[SocketAddr],
    ) -> Outcome {
        let status = if why == Unpicked::Busy { 503 } else { status };
        let document = self.site.document.as_deref().filter(|_| !self.group.upstreams.iter().any(|it| it.is_usable()));
        // What is shown instead of a site that is down says so, whatever the last upstream did.
        let status = if document.is_some() { 503 } else { status };
        let retry_after_s = (status == 503).then_some(5);
        let added = self.site.own_fields(self.visitor.is_tls);
        let document = document.map(|document| ("text/html; charset=utf-8", document));
        let reply = OwnReply { retry_after_s, document, added, ..OwnReply::of(status) };
        let keeps = self.request.keeps && !self.request.length.has_body() && !self.worker.is_stopping();
        let outcome = self.worker.say(body.inner(), &reply, keeps, self.request.method == "HEAD").await;
        Outcome { tries: tried.len(), ..outcome }
    }

    /// Answers a client that is let in no more.
    async fn shut_out<D: Downstream>(&self, client: &mut D) -> Outcome {
        let reply = OwnReply { added: self.site.own_fields(self.visitor.is_tls), ..OwnReply::of(403) };
        self.worker.say(client, &reply, false, self.request.method == "HEAD").await
    }

    /// The client itself can't go on.
    async fn given_up<D: Downstream>(&self, body: &mut Replayed<'_, D>, fault: &Fault, tries: usize) -> Outcome {
        let refusal = match fault {
            Fault::Refused(refusal) => *refusal,
            Fault::Late => Refusal::TooSlow,
            Fault::ShutOut => return Outcome { tries, ..self.shut_out(body.inner()).await },
            Fault::Broken(_) | Fault::Unseen(_) | Fault::Reset(_) => {
                return Outcome { status: 499, tries, cut: Some("the client went away"), ..Outcome::default() };
            }
        };
        self.worker.refused(refusal);
        let reply = OwnReply { added: self.site.own_fields(self.visitor.is_tls), ..OwnReply::of(refusal.status()) };
        let outcome = self.worker.say(body.inner(), &reply, false, false).await;
        Outcome { tries, refused: Some(refusal), ..outcome }
    }
}

/// How a client hears that the upstream has reset the stream of its reply: what is of the request itself is told, and all else is an error
/// behind the gate.
const fn passed_on(reason: Reason) -> Reason {
    match reason {
        Reason::CANCEL | Reason::ENHANCE_YOUR_CALM => reason,
        _ => Reason::INTERNAL_ERROR,
    }
}

/// How long something has taken, for the log.
pub(crate) fn elapsed(since: Monotonic, now: Monotonic) -> Duration {
    now.since(since).to_std()
}
