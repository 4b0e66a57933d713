//! The connection of a client: one request after the other, each judged, answered and logged.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use event::Monotonic;
use tokio::time::{Duration, timeout};

use crate::access_log::Logged;
use crate::codec::head::{HeadLimits, HeadParser};
use crate::codec::refusal::Refusal;
use crate::codec::target::{Leniency, canonical, without_parameters};
use crate::downstream::Downstream;
use crate::exchange::{Exchange, Outcome, elapsed};
use crate::hardening::Added;
use crate::heads::{OwnReply, Visitor};
use crate::message::{Name, Reply, Request};
use crate::plan::{Named, Plan, Site};
use crate::pump::{Fault, Source as _};
use crate::settings::Protocol;
use crate::stay::Stay;
use crate::stream::ClientStream;
use crate::wire::Wire;
use crate::worker::Worker;

/// How long and how much is read from a client that was told that its connection ends: else the answer would be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// What ACME asks for in clear (RFC 8555, section 8.3): never sent to https.
const ACME_PATH: &str = "/.well-known/acme-challenge/";

/// Serves a connection to its end.
pub(crate) async fn serve(worker: &Worker, stream: ClientStream, peer: SocketAddr) {
    let visitor = Visitor { address: peer.ip(), is_tls: stream.is_tls(), tls: stream.tls_version() };
    let server_name = stream.server_name().map(ToOwned::to_owned);
    let mut client = Wire::new(stream);
    let (mut request, mut reply, mut target) = (Request::default(), Reply::default(), String::new());
    let mut is_first = true;
    loop {
        if !client.has_input() {
            client.rest();
            let most = if is_first { worker.head_within() } else { worker.idle_max() };
            let waited = tokio::select! {
                biased;
                waited = timeout(most, poll_fn(|cx| client.poll_first_byte(cx))) => waited,
                () = worker.parting() => return,
            };
            match waited {
                Ok(Ok(true)) => {}
                // It went, broke, or said nothing: there is nothing to answer.
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
        is_first = false;
        let began = worker.clock.monotonic();
        // What is logged of one that never came whole is not of the one before.
        request.clear();
        let mut parser = HeadParser::default();
        let read = poll_fn(|cx| client.poll_request(cx, &mut parser, HeadLimits::default(), &mut request));
        let mut unread = Vec::new();
        let outcome = match timeout(worker.head_within(), read).await.unwrap_or(Err(Refusal::TooSlow.into())) {
            Ok(()) => {
                client.receive(request.length, true);
                let name = server_name.as_deref();
                let answering = Answering { worker, request: &request, visitor, server_name: name };
                answering.answer(&mut client, &mut reply, &mut target).await
            }
            Err(Fault::Refused(refusal)) => {
                target.clear();
                unread.extend_from_slice(first_line(client.data()));
                worker.refused(refusal);
                let said = worker.say(&mut client, &OwnReply::of(refusal.status()), false, false).await;
                Outcome { refused: Some(refusal), ..said }
            }
            Err(Fault::Broken(_) | Fault::Late | Fault::Unseen(_) | Fault::Reset(_) | Fault::ShutOut) => return,
        };
        log(worker, &request, &target, &unread, visitor, &outcome, began);
        if !outcome.keeps {
            if outcome.cut.is_none() {
                linger(&mut client).await;
            }
            return;
        }
    }
}

/// The first line of what was received, as far as it is there.
fn first_line(input: &[u8]) -> &[u8] {
    let input = input.strip_prefix(b"\r\n").unwrap_or(input);
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Counts and logs a request that was answered. `unread` is the line of one that was not understood.
pub(crate) fn log(
    worker: &Worker,
    request: &Request,
    target: &str,
    unread: &[u8],
    visitor: Visitor,
    outcome: &Outcome,
    began: Monotonic,
) {
    worker.log(&Logged {
        address: visitor.address,
        is_tls: visitor.is_tls,
        request,
        // One that was refused has no canonical target.
        target: if target.is_empty() { &request.target } else { target },
        unread,
        outcome,
        took: elapsed(began, worker.clock.monotonic()),
    });
}

/// Ends the connection so that the client can read the answer: a socket that is closed with unread input resets what it has sent.
async fn linger(client: &mut Wire<ClientStream>) {
    let ending = async {
        poll_fn(|cx| client.poll_end(cx)).await?;
        let mut forgotten = 0;
        while forgotten < LINGER_BYTES_MAX {
            match poll_fn(|cx| client.poll_forget(cx)).await? {
                0 => break,
                bytes => forgotten += bytes,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whoever does not take it within that time gets no more.
    drop(timeout(LINGER, ending).await);
}

/// A request to be answered.
pub(crate) struct Answering<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) request: &'a Request,
    pub(crate) visitor: Visitor,
    /// The name that the client has asked for in its handshake.
    pub(crate) server_name: Option<&'a str>,
}

impl Answering<'_> {
    /// Has it answered. `reply` and `target` are memory for the head of the reply and the canonical target.
    pub(crate) async fn answer<D: Downstream>(
        &self,
        client: &mut D,
        reply: &mut Reply,
        target: &mut String,
    ) -> Outcome {
        target.clear();
        let (worker, request) = (self.worker, self.request);
        // Before it is looked at who is let in: what is decided meanwhile is looked at again.
        let ruling = worker.rulings();
        let plan = worker.plan();
        if self.visitor.is_tls && self.server_name != Some(request.host.as_str()) {
            return self.refuse(client, None, Refusal::Misdirected).await;
        }
        if request.fields.elements(Name::CdnLoop).any(|element| is_of(element, worker.name())) {
            return self.say(client, None, OwnReply::of(508)).await;
        }
        let named = plan.named(&request.host);
        // Whoever looks whether a name is ours is answered also where nobody else is let in, and under names that lead elsewhere.
        if let Some(Named::Redirect(site) | Named::Site(site)) = named
            && let Some(token) = request.target.strip_prefix(ACME_PATH)
            && site.settings.acme
        {
            let answer = self.worker.challenge(token);
            let document = answer.as_ref().map(|answer| ("application/octet-stream", answer.as_bytes()));
            let status = if document.is_some() { 200 } else { 404 };
            return self.say(client, Some(site), OwnReply { document, ..OwnReply::of(status) }).await;
        }
        let site = match named {
            None => return self.refuse(client, None, Refusal::UnknownSite).await,
            // Closed it is under each of its names.
            Some(Named::Redirect(site)) if !site.lets_in(self.visitor.address) => {
                return self.say(client, Some(site), OwnReply::of(403)).await;
            }
            Some(Named::Redirect(site)) => {
                let to = url_of(&plan, site, &request.target);
                return self.redirect(client, site, to, true).await;
            }
            Some(Named::Site(site)) => site,
        };
        site.counts.requests.add();
        let leniency = Leniency { encoded_slashes: site.settings.encoded_slashes };
        let path_length = match canonical(&request.target, leniency, target) {
            Ok(length) => length,
            Err(refusal) => return self.refuse(client, Some(site), refusal).await,
        };
        let path = target.get(..path_length).unwrap_or(target);
        if !site.lets_in(self.visitor.address) || !site.allows(self.visitor.address, path) {
            return self.say(client, Some(site), OwnReply::of(403)).await;
        }
        let goes_to_https = !self.visitor.is_tls && site.settings.speaks_tls() && site.settings.redirect_to_https;
        if goes_to_https && !path.starts_with(ACME_PATH) {
            site.served.sent_to_https.add();
            let to = url_of(&plan, site, target);
            return self.redirect(client, site, to, true).await;
        }
        // What is somewhere else is there under each of its names, as a servlet container reads them.
        let plain = without_parameters(path);
        if let Some(moved) = site.redirect(&plain) {
            return self.redirect(client, site, moved.to.clone(), moved.permanent).await;
        }
        if matches!(request.length, crate::message::Length::Known(bytes) if bytes > site.settings.body_bytes_max) {
            return self.refuse(client, Some(site), Refusal::BodyTooLarge).await;
        }
        site.served.came(self.visitor);
        let under_way = site.served.under_way(|| worker.is_ending());
        let stay = Stay::of(worker, &request.host, path, self.visitor.address, ruling);
        let outcome = self.exchange(client, reply, site, (&plain, target), stay).await;
        if under_way.has_ended(&outcome) == Some(false) {
            site.counts.failed.add();
        }
        outcome
    }

    /// Has an upstream of the site answer; `plain` is the path without parameters.
    async fn exchange<D: Downstream>(
        &self,
        client: &mut D,
        reply: &mut Reply,
        site: &Arc<Site>,
        (plain, target): (&str, &str),
        stay: Stay<'_>,
    ) -> Outcome {
        let (worker, request) = (self.worker, self.request);
        let Some(_share) = worker.admit(self.visitor.address) else {
            return self.say(client, Some(site), OwnReply { retry_after_s: Some(5), ..OwnReply::of(429) }).await;
        };
        let Some(_admission) = site.admit() else {
            return self.say(client, Some(site), OwnReply { retry_after_s: Some(5), ..OwnReply::of(503) }).await;
        };
        let group = site.group(plain);
        if request.upgrades && group.upstreams.iter().any(|upstream| upstream.protocol == Protocol::Http2) {
            // A WebSocket would be another kind of stream there (RFC 8441), which the gate does not speak.
            return self.say(client, Some(site), OwnReply::of(501)).await;
        }
        Exchange { worker, site, group, request, target, visitor: self.visitor, stay }.run(client, reply).await
    }

    async fn redirect<D: Downstream>(&self, client: &mut D, site: &Site, to: String, is_permanent: bool) -> Outcome {
        let keeps_method = !matches!(self.request.method.as_str(), "GET" | "HEAD");
        let status = match (is_permanent, keeps_method) {
            (true, true) => 308,
            (true, false) => 301,
            (false, true) => 307,
            (false, false) => 302,
        };
        self.say(client, Some(site), OwnReply { location: Some(to), ..OwnReply::of(status) }).await
    }

    async fn refuse<D: Downstream>(&self, client: &mut D, site: Option<&Site>, refusal: Refusal) -> Outcome {
        self.worker.refused(refusal);
        let reply = self.as_of(site, OwnReply::of(refusal.status()));
        let said = self.worker.say(client, &reply, false, self.request.method == "HEAD").await;
        Outcome { refused: Some(refusal), ..said }
    }

    /// Answers for the gate itself. A body that was not read ends the connection.
    async fn say<D: Downstream>(&self, client: &mut D, site: Option<&Site>, reply: OwnReply<'_>) -> Outcome {
        let reply = self.as_of(site, reply);
        let keeps = self.request.keeps && !self.request.length.has_body() && !self.worker.is_stopping();
        self.worker.say(client, &reply, keeps, self.request.method == "HEAD").await
    }

    /// The reply with what all of its site say.
    fn as_of<'r>(&self, site: Option<&Site>, reply: OwnReply<'r>) -> OwnReply<'r> {
        OwnReply { added: site.map_or(Added::NONE, |site| site.own_fields(self.visitor.is_tls)), ..reply }
    }
}

/// Whether an element of `CDN-Loop`, with its parameters (RFC 8586, section 2), is of the one of this name.
fn is_of(element: &[u8], name: &str) -> bool {
    element.split(|byte| *byte == b';').next().is_some_and(|found| found.trim_ascii() == name.as_bytes())
}

/// The address of a target at a site, as clients reach it best.
fn url_of(plan: &Plan, site: &Arc<Site>, target: &str) -> String {
    let is_tls = site.settings.speaks_tls() && plan.gate.as_ref().is_some_and(|gate| !gate.https.is_empty());
    let (scheme, usual) = if is_tls { ("https", 443) } else { ("http", 80) };
    let listeners = plan.gate.as_ref().map(|gate| if is_tls { &gate.https } else { &gate.http });
    let port = listeners.and_then(|listeners| listeners.first()).map_or(usual, SocketAddr::port);
    let port = if port == usual { String::new() } else { format!(":{port}") };
    format!("{scheme}://{}{port}{target}", site.settings.domain)
}
