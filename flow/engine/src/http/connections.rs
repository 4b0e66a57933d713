//! Requests that share connections: thousands of objects, one server.
//!
//! **Problem.** A new connection for each request costs two or three times the way there and back, and a key exchange. What asks the
//! same server again and again, hour after hour, waits for nothing else.
//! **Principle.** A [`Connections`] keeps what is idle, some of it and for some time. Between requests nobody drives a connection, so
//! there is still no task; whether the other side has closed it meanwhile is seen when it is taken up again. One that breaks
//! before the first byte of an answer has perhaps only been idle for too long: the request is sent once more over a new one. So
//! only requests that may be made twice go this way.
//!
//! What is sent and received may be held back to so many bytes a second, and a request that moves no byte for too long is given up,
//! long before a deadline that a large body needs.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use event::Span;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep};

use super::exchange::{Hop, client, driven, head_broken, head_is_bounded, read};
use super::{HeaderValue, HttpError, HttpFailure, Request, RequestPhases, Response, header};
use crate::net::{Deadline, Net, Peer, Phase, Stopwatch, Target};

/// Most idle connections that are kept.
const IDLE_MAX: usize = 8;
/// How long one is kept idle: less than what servers and the gateways before them allow.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// How long a connection may take to open.
const OPEN_WITHIN: Span = Span::from_secs(10);
/// Largest piece of a body that is sent at a time, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Connections that are kept for further requests, with the limits that they share. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    idle: Mutex<Vec<Open>>,
    pace: Option<Pace>,
    stalled_after: Span,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("idle", &self.0.idle().len()).finish_non_exhaustive()
    }
}

impl Connections {
    /// None yet. Requests over them that move no byte for `stalled_after` are given up; all of them together send and receive
    /// no more than `bytes_per_second_max`.
    pub fn new(stalled_after: Span, bytes_per_second_max: Option<u64>) -> Self {
        Self(Arc::new(Inner { idle: Mutex::default(), pace: bytes_per_second_max.map(Pace::new), stalled_after }))
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up the connection to `target` that was used last.
    fn take(&self, target: &Target) -> Option<Open> {
        let mut idle = self.idle();
        idle.retain(|open| open.since.elapsed() < IDLE_FOR);
        let at = idle.iter().rposition(|open| open.to == *target)?;
        Some(idle.remove(at))
    }

    #[expect(clippy::disallowed_methods, reason = "how long it is idle goes with the timers of tokio")]
    fn keep(&self, mut open: Open) {
        open.since = Instant::now();
        let mut idle = self.idle();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push(open);
    }

    /// Those to `target` are as old as the one that has just turned out to be closed.
    fn forget(&self, target: &Target) {
        self.idle().retain(|open| open.to != *target);
    }
}

/// What moves the bytes of a connection, for as long as there is one.
struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

impl Future for Driver {
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(driver) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let ended = ready!(driver.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(ended)
    }
}

/// An open connection.
struct Open {
    to: Target,
    sender: SendRequest<Measured<Pieces>>,
    driver: Driver,
    remote: std::net::SocketAddr,
    peer: Option<Peer>,
    /// Since when it is idle.
    since: Instant,
}

impl Open {
    #[expect(clippy::disallowed_methods, reason = "how long it is idle goes with the timers of tokio")]
    async fn dial(net: &Net, to: &Target, deadline: Deadline, phases: &mut RequestPhases) -> Result<Self, HttpFailure> {
        let dialed = net.dial(to, deadline.but_within(OPEN_WITHIN)).await.map_err(HttpFailure::Dial)?;
        (phases.dns, phases.connect, phases.tls) = (dialed.phases.dns, dialed.phases.connect, dialed.phases.tls);
        let (sender, driver) = client().handshake(TokioIo::new(dialed.stream)).await.map_err(head_broken)?;
        let driver = Driver(Some(Box::pin(driver)));
        Ok(Self { to: to.clone(), sender, driver, remote: dialed.remote, peer: dialed.peer, since: Instant::now() })
    }

    /// Whether the other side has not closed it, as far as is known by now.
    async fn is_open(&mut self) -> bool {
        let ended = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut self.driver).poll(cx).is_ready())).await;
        !ended && !self.sender.is_closed()
    }
}

impl Request {
    /// Sends the request over one of these connections, or a new one that they keep afterwards, and reads the whole answer.
    ///
    /// It may be sent twice: see [`Connections`]. A redirect is an answer as any other. Certificates are verified as for each
    /// request when the connection is opened.
    pub async fn send_over(self, net: &Net, connections: &Connections) -> Result<Response, HttpError> {
        let watch = Stopwatch::start();
        let deadline = Deadline::within(self.within);
        let mut phases = RequestPhases::default();
        let failed = |url: &str, failure, phases| HttpError { url: url.to_owned(), failure, phases, shown: None };
        let hop = Hop::first(self).map_err(|(url, failure)| failed(&url, failure, phases))?;
        let sent = over(&hop, net, &connections.0, deadline, &mut phases).await;
        phases.total = watch.read();
        match sent {
            Ok(response) => Ok(Response { phases, ..response }),
            Err(failure) => Err(failed(hop.url.as_str(), failure, phases)),
        }
    }
}

async fn over(
    hop: &Hop,
    net: &Net,
    connections: &Arc<Inner>,
    deadline: Deadline,
    phases: &mut RequestPhases,
) -> Result<Response, HttpFailure> {
    let target = hop.target();
    if let Some(mut open) = connections.take(&target) {
        if open.is_open().await {
            match ask(hop, open, connections, deadline, phases).await {
                Err(HttpFailure::Protocol { phase: Phase::FirstByte, .. }) => {}
                answered => return answered,
            }
        }
        connections.forget(&target);
    }
    let open = Open::dial(net, &target, deadline, phases).await?;
    ask(hop, open, connections, deadline, phases).await
}

/// Asks over an open connection, which is kept when the answer has come.
async fn ask(
    hop: &Hop,
    mut open: Open,
    connections: &Arc<Inner>,
    deadline: Deadline,
    phases: &mut RequestPhases,
) -> Result<Response, HttpFailure> {
    let moved = Arc::new(Moved::default());
    let mut message = hop.message()?.map(|_| Measured::new(Pieces(hop.body()), connections, &moved));
    let headers = message.headers_mut();
    headers.remove(header::CONNECTION);
    if hop.body().is_empty() && hop.is_put() {
        // Whoever stores objects wants to be told that this one is empty.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let watch = Stopwatch::start();
    let came = OnceLock::new();
    let Open { sender, driver, .. } = &mut open;
    let work = async {
        let answer = sender.send_request(message).await.map_err(head_broken)?;
        came.get_or_init(|| watch.read());
        let (head, body) = answer.into_parts();
        head_is_bounded(&head.headers)?;
        let body = read(Measured::new(body, connections, &moved), hop.body_bytes_max(), &mut |_| false).await?;
        Ok((head, body))
    };
    let exchange = async {
        tokio::select! {
            biased;
            done = driven(driver, work) => done.map_err(Some),
            () = moved.stalls(connections.stalled_after.to_std()) => Err(None),
        }
    };
    let exchanged = deadline.run(exchange).await;
    phases.first_byte = came.get().copied().unwrap_or(Span::ZERO);
    let phase = if came.get().is_some() { Phase::Body } else { Phase::FirstByte };
    let (head, body) = match exchanged {
        Some(Ok(answer)) => answer,
        Some(Err(Some(failure))) => return Err(failure),
        Some(Err(None)) => return Err(HttpFailure::Timeout { phase, within: connections.stalled_after }),
        None => return Err(HttpFailure::Timeout { phase, within: deadline.span() }),
    };
    let (remote, peer) = (open.remote, open.peer.clone());
    connections.keep(open);
    Ok(Response {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        close_notify_missing: false,
        phases: *phases,
        peer,
        remote,
        url: hop.url.to_string(),
    })
}

/// A body in pieces, so that it is seen how far it has gone.
struct Pieces(Bytes);

impl Body for Pieces {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.0.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.0.len()).unwrap_or(u64::MAX))
    }
}

/// A body that notes that it moves, and is held back to the pace.
struct Measured<B> {
    body: B,
    connections: Arc<Inner>,
    moved: Arc<Moved>,
    /// A frame that is held back, and until when.
    held: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
}

impl<B> Measured<B> {
    fn new(body: B, connections: &Arc<Inner>, moved: &Arc<Moved>) -> Self {
        Self { body, connections: Arc::clone(connections), moved: Arc::clone(moved), held: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Measured<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some((_, until)) = &mut this.held {
            ready!(until.as_mut().poll(cx));
            this.moved.holding.fetch_sub(1, Ordering::Relaxed);
            return Poll::Ready(this.held.take().map(|(frame, _)| Ok(frame)));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.moved.times.fetch_add(1, Ordering::Relaxed);
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let length = frame.data_ref().map_or(0, Bytes::len);
        let wait = this.connections.pace.as_ref().map_or(Duration::ZERO, |pace| pace.take(length));
        if wait.is_zero() {
            return Poll::Ready(Some(Ok(frame)));
        }
        this.moved.holding.fetch_add(1, Ordering::Relaxed);
        this.held = Some((frame, Box::pin(sleep(wait))));
        self.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before anything is held back.
        self.body.size_hint()
    }
}

/// Whether a request still moves.
#[derive(Default)]
struct Moved {
    /// How many pieces of a body have gone, or come.
    times: AtomicU64,
    /// How many are held back: by us, which is no standstill.
    holding: AtomicU32,
}

impl Moved {
    /// Ends when nothing has moved for so long; at the latest after twice that.
    async fn stalls(&self, after: Duration) {
        let mut seen = self.times.load(Ordering::Relaxed);
        loop {
            sleep(after).await;
            let now = self.times.load(Ordering::Relaxed);
            if now == seen && self.holding.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = now;
        }
    }
}

/// So many bytes a second, for all who share it: each piece is given its time behind the one before.
struct Pace {
    bytes_per_second: u64,
    /// When what was let through so far will have passed.
    free_at: Mutex<Instant>,
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "the pace is kept by timers of tokio")]
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// How long this many bytes are to wait. Nothing is saved up while nothing moves.
    #[expect(clippy::disallowed_methods, reason = "the pace is kept by timers of tokio")]
    fn take(&self, bytes: usize) -> Duration {
        let now = Instant::now();
        let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000) / self.bytes_per_second;
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = free_at.saturating_duration_since(now);
        *free_at = now + wait + Duration::from_micros(micros);
        wait
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::test_server::{Authority, VALID, serve};

    const STALLED_AFTER: Span = Span::from_secs(5);

    /// How a server goes on with a connection after the head of a request.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Then {
        Answer,
        AnswerAndClose,
        Close,
        Stay,
    }

    /// A server that does one after the other of `script` with its requests, and counts its connections.
    async fn scripted(script: Vec<Then>) -> (String, Arc<AtomicUsize>) {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/object", listener.local_addr().expect("an address"));
        let count = Arc::new(AtomicUsize::new(0));
        let connections = Arc::clone(&count);
        let script = Arc::new(Mutex::new(script.into_iter()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(play(stream, Arc::clone(&script)));
            }
        });
        (url, count)
    }

    async fn play(mut stream: TcpStream, script: Arc<Mutex<std::vec::IntoIter<Then>>>) {
        let mut head = Vec::new();
        loop {
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            head.clear();
            let then = script.lock().expect("not poisoned").next().expect("a request that the script knows");
            match then {
                Then::Close => return,
                Then::Stay => std::future::pending().await,
                Then::Answer | Then::AnswerAndClose => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
                    if then == Then::AnswerAndClose {
                        return;
                    }
                }
            }
        }
    }

    async fn get(net: &Net, connections: &Connections, url: &str) -> Result<Response, HttpError> {
        Request::get(url).send_over(net, connections).await
    }

    #[tokio::test]
    async fn connections_are_used_again() {
        let (url, count) = scripted(vec![Then::Answer; 20]).await;
        let (net, connections) = (Authority::new().net(), Connections::new(STALLED_AFTER, None));
        for _ in 0..20 {
            assert_eq!(get(&net, &connections, &url).await.expect("an answer").text(), "ok");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    /// A server closes what is idle when it likes, before a request or just as one comes.
    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_replaced() {
        for (script, connections_used) in [
            (vec![Then::AnswerAndClose, Then::AnswerAndClose, Then::Answer], 3),
            (vec![Then::Answer, Then::Close, Then::Answer], 2),
        ] {
            let (url, count) = scripted(script.clone()).await;
            let (net, connections) = (Authority::new().net(), Connections::new(STALLED_AFTER, None));
            let requests = script.iter().filter(|then| **then != Then::Close).count();
            for _ in 0..requests {
                assert_eq!(get(&net, &connections, &url).await.expect("an answer").text(), "ok", "{script:?}");
            }
            assert_eq!(count.load(Ordering::Relaxed), connections_used, "{script:?}");
        }
    }

    /// Over a new connection a request is sent once: whoever asked decides about the next attempt.
    #[tokio::test]
    async fn a_new_connection_that_breaks_is_a_failure() {
        let (url, count) = scripted(vec![Then::Close]).await;
        let error =
            get(&Authority::new().net(), &Connections::new(STALLED_AFTER, None), &url).await.expect_err("broken");
        assert_eq!(error.phase(), Some(Phase::FirstByte), "{error}");
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_request_that_stands_still_is_given_up() {
        let (url, _) = scripted(vec![Then::Stay]).await;
        let stalled_after = Span::from_millis(50);
        let connections = Connections::new(stalled_after, None);
        let error = get(&Authority::new().net(), &connections, &url).await.expect_err("no answer");
        assert_eq!(error.failure, HttpFailure::Timeout { phase: Phase::FirstByte, within: stalled_after });
    }

    #[tokio::test]
    async fn bodies_go_and_come_whole_also_over_tls_and_held_back() {
        let authority = Authority::new();
        let body = vec![b'x'; 3 * PIECE_BYTES + 5];
        let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", &vec![b'y'; 200_000][..]].concat();
        let length = body.len();
        let address = serve(Some(authority.tls("shop.example", VALID)), move |request| {
            let sent = request.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
            (sent == length).then(|| answer.clone())
        })
        .await;
        let net = authority.net();
        for pace in [None, Some(10_000_000)] {
            let url = format!("https://shop.example:{}/", address.port());
            let request = Request::new(super::super::Method::PUT, url).body(body.clone());
            let request = request.at(address.ip().to_string(), address.port());
            let answer = request.send_over(&net, &Connections::new(STALLED_AFTER, pace)).await.expect("an answer");
            assert_eq!((answer.body.len(), answer.peer.is_some()), (200_000, true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_shared_and_nothing_is_saved_up() {
        let pace = Pace::new(1000);
        assert_eq!(pace.take(500), Duration::ZERO);
        assert_eq!(pace.take(1000), Duration::from_millis(500));
        assert_eq!(pace.take(1), Duration::from_millis(1500));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(pace.take(1000), Duration::ZERO);
        assert_eq!(pace.take(1000), Duration::from_secs(1));
    }
}
