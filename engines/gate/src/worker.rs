//! A thread of the gate: accepts connections and carries them to their end, with upstream connections of its own.
//!
//! Each thread has a runtime of one thread, so that a request is read, sent on and answered where it was accepted: no other thread is
//! woken for it, and nothing but counters is shared.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::{CancellationToken, Clock};
use event::Time;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::access_log::{AccessLog, Logged};
use crate::acme::challenges::{ALPN, Challenges};
use crate::bans::Bans;
use crate::client;
use crate::codec::refusal::Refusal;
use crate::customers::{Customers, Share};
use crate::downstream::Downstream;
use crate::exchange::Outcome;
use crate::group::{Group, Upstream};
use crate::heads::OwnReply;
use crate::http2;
use crate::http2::upstream::Connections;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::proxy_protocol::{self, Said};
use crate::settings::LogFormat;
use crate::stream::ClientStream;
use crate::tally::Tally;

/// How long accepting pauses after the system refused a connection for want of files or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long an own reply may take to be sent.
const SAY_WITHIN: Duration = Duration::from_secs(5);
/// How long exchanges may go on when the process stops, and how long connections may take to be ended in order: shorter, together,
/// than what an engine is given.
const HURRY: Duration = Duration::from_secs(1);
const FAREWELL: Duration = Duration::from_secs(1);

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) plan: watch::Sender<Arc<Plan>>,
    pub(crate) tls: watch::Sender<Option<Arc<ServerConfig>>>,
    pub(crate) listeners: watch::Sender<Vec<Listening>>,
    pub(crate) tally: Tally,
    pub(crate) access_log: AccessLog,
    pub(crate) news: mpsc::Sender<News>,
    connections_of: Arc<Customers>,
    requests_of: Arc<Customers>,
    /// What this gate calls itself where requests might come back to it.
    name: String,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) bans: watch::Sender<Arc<Bans>>,
    /// Upstreams that somebody drains, and since when.
    drained: Mutex<BTreeMap<SocketAddr, Time>>,
    /// How often it was decided anew who is let in: a site was closed or opened, or the policy is another one.
    rulings: AtomicU64,
    /// The process stops.
    pub(crate) hurry: CancellationToken,
}

/// A socket on which connections come.
#[derive(Clone)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) listener: Arc<std::net::TcpListener>,
}

/// Something that the engine journals.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// An upstream is in another state.
    Upstream { site: String, upstream: SocketAddr, state: &'static str, reason: String, at: Time },
    /// Requests of a site go to another region.
    Failover { site: String, from: String, to: String, at: Time },
    /// A certificate was ordered for a site: why there is none, or that it is there. About the account where it names no site.
    Certificate { site: String, fault: Option<String>, at: Time },
}

impl Shared {
    /// Nothing to do yet; `number` is one that no other gate has.
    pub(crate) fn new(clock: Arc<dyn Clock>, news: mpsc::Sender<News>, number: u64) -> Self {
        Self {
            clock,
            plan: watch::Sender::default(),
            tls: watch::Sender::default(),
            listeners: watch::Sender::default(),
            tally: Tally::default(),
            access_log: AccessLog::default(),
            news,
            connections_of: Arc::default(),
            requests_of: Arc::default(),
            name: format!("garant-gate-{number:016x}"),
            challenges: Arc::default(),
            bans: watch::Sender::default(),
            drained: Mutex::default(),
            rulings: AtomicU64::new(0),
            hurry: CancellationToken::new(),
        }
    }

    /// It was decided anew who is let in: whoever is there already is looked at again.
    pub(crate) fn rule(&self) {
        self.rulings.fetch_add(1, Ordering::Release);
    }

    /// Upstreams that somebody drains, and since when.
    pub(crate) fn drained(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Time>> {
        // Nothing that can panic runs under this lock.
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the engine of an upstream whose state has changed, and of what that means for its group.
    pub(crate) fn tell_change(&self, site: &str, group: &Group, upstream: &Upstream) {
        let (health, at) = (upstream.health().0, self.clock.now());
        let (site, state) = (site.to_owned(), health.state.word());
        self.tell(News::Upstream { site: site.clone(), upstream: upstream.address, state, reason: health.reason, at });
        if let Some((from, to)) = group.failover() {
            let (from, to) = (group.region(from), group.region(to));
            // Where upstreams are in no region, there is no other one to go to.
            if from != to {
                self.tell(News::Failover { site, from, to, at });
            }
        }
    }

    pub(crate) fn tell(&self, news: News) {
        // A request does not wait for a journal.
        if self.news.try_send(news).is_err() {
            self.tally.news_lost.add();
        }
    }
}

/// One thread.
pub(crate) struct Worker {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: Pool,
    pub(crate) connections: Connections,
    shared: Arc<Shared>,
    plan: watch::Receiver<Arc<Plan>>,
    draws: AtomicU64,
    dates: Mutex<Dates>,
    /// Nothing new is begun.
    stop: CancellationToken,
    /// What was begun has to end now.
    ends: CancellationToken,
}

/// The present second in words.
#[derive(Default)]
struct Dates {
    second: i64,
    http: Arc<str>,
    log: Arc<str>,
}

impl Dates {
    fn at(&mut self, now: Time) -> &Self {
        let second = now.micros().div_euclid(1_000_000);
        if second != self.second || self.http.is_empty() {
            let timestamp = jiff::Timestamp::from_second(second).unwrap_or_default();
            self.second = second;
            self.http = timestamp.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into();
            self.log = timestamp.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string().into();
        }
        self
    }
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, seed: u64, stop: CancellationToken) -> Self {
        let (clock, plan) = (Arc::clone(&shared.clock), shared.plan.subscribe());
        let (pool, connections, dates) = (Pool::default(), Connections::default(), Mutex::default());
        let (draws, ends) = (AtomicU64::new(seed), CancellationToken::new());
        Self { clock, pool, connections, shared, plan, draws, dates, stop, ends }
    }

    /// Carries connections until it is to stop, and then those that it has for as long as the policy says.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut listeners = self.shared.listeners.subscribe();
        let mut accepting: Vec<(SocketAddr, bool, CancellationToken)> = Vec::new();
        let connections = TaskTracker::new();
        let mut prune = tokio::time::interval(Duration::from_secs(1));
        loop {
            let wanted = listeners.borrow_and_update().clone();
            accepting.retain(|(address, is_tls, stop)| {
                let stays = wanted.iter().any(|it| it.address == *address && it.is_tls == *is_tls);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for listening in wanted {
                if accepting.iter().any(|(address, tls, _)| *address == listening.address && *tls == listening.is_tls) {
                    continue;
                }
                let stop = self.stop.child_token();
                accepting.push((listening.address, listening.is_tls, stop.clone()));
                drop(tokio::spawn(Arc::clone(&self).accept(listening, stop, connections.clone())));
            }
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => {
                        connections.close();
                        return self.drain(&connections).await;
                    }
                    changed = listeners.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        break;
                    }
                    _ = prune.tick() => {
                        let now = self.clock.monotonic();
                        self.pool.prune(now);
                        self.connections.prune(now);
                    }
                }
            }
        }
    }

    /// Waits for connections to end by themselves, then has them end.
    async fn drain(&self, connections: &TaskTracker) {
        let patience = self.gate(|gate| gate.drain.to_std(), HURRY);
        tokio::select! {
            () = connections.wait() => return,
            () = tokio::time::sleep(patience) => {}
            () = self.shared.hurry.cancelled() => drop(timeout(HURRY, connections.wait()).await),
        }
        self.ends.cancel();
        drop(timeout(FAREWELL, connections.wait()).await);
    }

    async fn accept(self: Arc<Self>, listening: Listening, stop: CancellationToken, connections: TaskTracker) {
        let listener = listening.listener.try_clone().and_then(TcpListener::from_std);
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(address = %listening.address, %error, "a thread of the gate accepts nothing there: restart it");
                return;
            }
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let proxy = self.is_proxy(peer.ip());
                    if !proxy && self.is_banned(peer.ip()) {
                        self.shared.tally.banned.add();
                        continue;
                    }
                    let Some(place) = Place::take(&self, (!proxy).then_some(peer.ip())) else {
                        self.shared.tally.turned_away.add();
                        continue;
                    };
                    let worker = Arc::clone(&self);
                    let is_tls = listening.is_tls;
                    connections.spawn(worker.connection(stream, peer, is_tls, place));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be accepted; trying again shortly");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn is_banned(&self, client: IpAddr) -> bool {
        self.shared.bans.borrow().has(client, self.clock.now())
    }

    /// Waits until a client is banned.
    async fn banned(&self, client: IpAddr) {
        let mut bans = self.shared.bans.subscribe();
        // Those of before were looked up when the connection came; a ban in between is among the next ones at the latest.
        while !self.is_banned(client) {
            if bans.changed().await.is_err() {
                // The gate stops.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether the policy names it as one that says who its clients are.
    fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.gate(|gate| gate.proxy_from.iter().any(|network| network.contains(&peer)), false)
    }

    /// The client of a connection, as the proxy says that it came through.
    async fn client_of(&self, stream: &mut TcpStream, proxy: SocketAddr, place: &mut Place) -> Option<SocketAddr> {
        let said = timeout(self.head_within(), proxy_protocol::receive(stream)).await;
        let client = match said {
            Ok(Ok(Said::OfClient(client))) => client,
            Ok(Ok(Said::OfProxy)) => proxy,
            Ok(Err(_)) | Err(_) => {
                self.shared.tally.proxy_heads_refused.add();
                return None;
            }
        };
        if !place.is_of(self, client.ip()) {
            self.shared.tally.turned_away.add();
            return None;
        }
        Some(client)
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, is_tls: bool, mut place: Place) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let peer = if place.share.is_some() {
            peer
        } else {
            let Some(client) = self.client_of(&mut stream, peer, &mut place).await else { return };
            client
        };
        if self.is_banned(peer.ip()) {
            self.shared.tally.banned.add();
            return;
        }
        tokio::select! {
            () = self.serve(stream, peer, is_tls) => {}
            () = self.banned(peer.ip()) => self.shared.tally.banned.add(),
        }
    }

    /// Serves the connection of a client.
    async fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, is_tls: bool) {
        let stream = if is_tls {
            let Some(config) = self.shared.tls.borrow().clone() else { return };
            let shaken = timeout(self.head_within(), TlsAcceptor::from(config).accept(stream)).await;
            let Ok(Ok(stream)) = shaken else {
                self.shared.tally.handshakes_failed.add();
                return;
            };
            // The handshake was all that an authority wants to see.
            if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
                return;
            }
            ClientStream::Tls(Box::new(stream))
        } else {
            ClientStream::Clear(stream)
        };
        if stream.speaks_http2() {
            http2::serve(self, stream, peer).await;
        } else {
            client::serve(self, stream, peer).await;
        }
    }

    /// How often it was decided anew who is let in.
    pub(crate) fn rulings(&self) -> u64 {
        self.shared.rulings.load(Ordering::Acquire)
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    /// A setting of the gate as a whole.
    fn gate<T>(&self, of: impl FnOnce(&crate::settings::Gate) -> T, otherwise: T) -> T {
        self.plan.borrow().gate.as_ref().map_or(otherwise, of)
    }

    pub(crate) fn head_within(&self) -> Duration {
        self.gate(|gate| gate.head_within.to_std(), Duration::from_secs(10))
    }

    pub(crate) fn idle_max(&self) -> Duration {
        self.gate(|gate| gate.idle_max.to_std(), Duration::from_mins(1))
    }

    pub(crate) fn rate_min(&self) -> u32 {
        self.gate(|gate| gate.rate_min, 0)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether what was begun has to end now.
    pub(crate) fn is_ending(&self) -> bool {
        self.ends.is_cancelled()
    }

    pub(crate) async fn ending(&self) {
        self.ends.cancelled().await;
    }

    /// Waits until a connection without a request is closed. Not as soon as nothing new is begun: the next request of its client may be
    /// under way, and is answered as the last one of the connection.
    pub(crate) async fn parting(&self) {
        tokio::select! {
            () = self.ends.cancelled() => {}
            () = self.shared.hurry.cancelled() => {}
        }
    }

    /// A number that nobody needs to be surprised by (SplitMix64; Vigna, splitmix64.c), from a seed that is random.
    pub(crate) fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let x = self.draws.fetch_add(STEP, Ordering::Relaxed);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// What this gate calls itself where requests might come back to it.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// The present time in the form of HTTP.
    pub(crate) fn date(&self) -> Arc<str> {
        Arc::clone(&self.dates().at(self.clock.now()).http)
    }

    /// Counts a request under way of a client; `None` where that has as many as it may.
    pub(crate) fn admit(&self, client: IpAddr) -> Option<Share> {
        let most = self.gate(|gate| gate.requests_per_address_max, u32::MAX);
        let share = self.shared.requests_of.take(client, most);
        if share.is_none() {
            self.shared.tally.requests_turned_away.add();
        }
        share
    }

    /// Counts a message that is refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.shared.tally.refused(refusal);
    }

    /// The answer to the token of a challenge.
    pub(crate) fn challenge(&self, token: &str) -> Option<String> {
        self.shared.challenges.answer(token)
    }

    pub(crate) fn tell_change(&self, site: &str, group: &Group, upstream: &Upstream) {
        self.shared.tell_change(site, group, upstream);
    }

    /// Answers for the gate itself.
    pub(crate) async fn say<D: Downstream>(
        &self,
        client: &mut D,
        reply: &OwnReply<'_>,
        keeps: bool,
        is_head: bool,
    ) -> Outcome {
        let date = self.date();
        let Ok(bytes) = client.say(reply, &date, keeps, is_head) else {
            return Outcome { status: reply.status, cut: Some("the client went away"), ..Outcome::default() };
        };
        let sent = timeout(SAY_WITHIN, poll_fn(|cx| client.poll_send(cx))).await;
        let cut = if matches!(sent, Ok(Ok(()))) { None } else { Some("the client went away") };
        Outcome { status: reply.status, bytes, keeps: keeps && cut.is_none(), cut, ..Outcome::default() }
    }

    /// Counts a request that was answered, and logs it where that is wanted.
    pub(crate) fn log(&self, logged: &Logged<'_>) {
        self.shared.tally.replied(logged.outcome.status);
        let wanted = |gate: &crate::settings::Gate| {
            gate.access_log.is_some().then_some((gate.access_log_format, gate.shorten_addresses))
        };
        let Some((format, shortens)) = self.gate(wanted, None) else { return };
        let now = self.clock.now();
        match format {
            LogFormat::Combined => {
                let time = Arc::clone(&self.dates().at(now).log);
                self.shared.access_log.add(logged, format, shortens, &time);
            }
            LogFormat::Json => self.shared.access_log.add(logged, format, shortens, &now.to_rfc3339()),
        }
    }

    fn dates(&self) -> std::sync::MutexGuard<'_, Dates> {
        self.dates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection within the bounds, free again when it is dropped.
struct Place {
    shared: Arc<Shared>,
    /// Whose it is; not known yet of what comes through a proxy.
    share: Option<Share>,
}

impl Place {
    /// `None` at a bound. Without a peer it is one of all, and of nobody yet.
    fn take(worker: &Worker, peer: Option<IpAddr>) -> Option<Self> {
        let most = worker.gate(|gate| gate.connections_max, u32::MAX);
        let shared = &worker.shared;
        if shared.tally.connections.fetch_add(1, Ordering::Relaxed) >= u64::from(most) {
            shared.tally.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut place = Self { shared: Arc::clone(shared), share: None };
        peer.is_none_or(|peer| place.is_of(worker, peer)).then_some(place)
    }

    /// Has it be of this peer; whether that may have one more.
    fn is_of(&mut self, worker: &Worker, peer: IpAddr) -> bool {
        let of_one = worker.gate(|gate| gate.connections_per_address_max, u32::MAX);
        self.share = self.shared.connections_of.take(peer, of_one);
        self.share.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.tally.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the error concerns one connection, and the next may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
