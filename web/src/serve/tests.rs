//! What a peer can do with a connection, in simulated time; and one real socket.

use std::net::Ipv4Addr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

/// Bytes that are under way between a peer and the server, as in the buffers of sockets.
const BUFFER_BYTES: usize = 64 * 1024;

impl Incoming for mpsc::UnboundedReceiver<DuplexStream> {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, IpAddr)> {
        match self.recv().await {
            Some(stream) => Ok((stream, Ipv4Addr::LOCALHOST.into())),
            None => std::future::pending().await,
        }
    }
}

/// How long the slow answer takes.
const SLOW: Duration = Duration::from_millis(250);
/// How long the server is left to do what takes no time.
const SETTLED: Duration = Duration::from_millis(1);

struct Server {
    peers: mpsc::UnboundedSender<DuplexStream>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn router() -> Router {
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                time::sleep(SLOW).await;
                "done"
            }),
        )
        .route("/endless", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    crate::answer::finish(router)
}

fn start(limits: Limits) -> Server {
    let (peers, incoming) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve_within(incoming, router(), stop.clone(), limits));
    Server { peers, stop, task }
}

fn quick() -> Limits {
    Limits {
        connections_max: 2,
        per_address_max: 2,
        header_time_max: Duration::from_millis(300),
        header_bytes_max: 8192,
        connection_time_max: Duration::from_millis(800),
        closing_time_max: Duration::from_millis(500),
    }
}

fn connect(server: &Server) -> DuplexStream {
    let (own, other) = tokio::io::duplex(BUFFER_BYTES);
    server.peers.send(other).expect("it accepts");
    own
}

/// What came of it, and the simulated time that it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "the time of these tests is simulated")]
    let before = Instant::now();
    let done = work.await;
    (done, before.elapsed())
}

/// Lets the server do all that it can do without time passing.
async fn settle() {
    time::sleep(SETTLED).await;
}

/// Sends, then reads until the server closes.
async fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server);
    stream.write_all(request).await.expect("sent");
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A server that cuts a connection resets it; what came before counts.
    let _reset = time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test gives `web` its listener, and is the peer")]
async fn a_listener_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(serve(listener, router(), CancellationToken::new(), 16));
    let exchange = async |request: &[u8]| {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(request).await.expect("sent");
        read_to_end(&mut stream).await
    };
    let answer = exchange(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nserver:"), "no banner: {answer}");
    let head = exchange(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    serving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_slow_header_is_not_waited_for() {
    let server = start(quick());
    let (said_nothing, took) = timed(exchange(&server, b"")).await;
    assert_eq!(
        (said_nothing.as_str(), took),
        ("", quick().header_time_max),
        "a connection without a request is closed"
    );
    let (half, took) = timed(exchange(&server, b"GET / HTTP/1.1\r\nHost:")).await;
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    assert_eq!(took, quick().header_time_max);
    let (idle, took) = timed(exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(idle.ends_with("hello"), "{idle}");
    assert_eq!(took, quick().header_time_max, "one that was useful once is not kept for ever");
}

#[tokio::test(start_paused = true)]
async fn a_long_header_is_refused() {
    let server = start(Limits { connection_time_max: Duration::from_mins(1), ..quick() });
    for request in [
        format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(20_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "c".repeat(20_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000)),
    ] {
        let mut stream = connect(&server);
        // The server may stop reading in the middle.
        let _sent = stream.write_all(request.as_bytes()).await;
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"),
            "{answer}"
        );
    }
    let nonsense = exchange(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n").await;
    assert!(nonsense.is_empty() || nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
    let still_there = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(still_there.ends_with("hello"), "{still_there}");
}

/// At the bound whoever moved nothing for the longest time goes; whoever is being served does not.
#[tokio::test(start_paused = true)]
async fn more_connections_than_there_is_room_for() {
    let limits =
        Limits { header_time_max: Duration::from_mins(1), connection_time_max: Duration::from_mins(1), ..quick() };
    let server = start(limits);
    let (mut silent, mut useful) = (connect(&server), connect(&server));
    useful.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    assert!(useful.read(&mut answer).await.expect("read") > 0);
    let (answer, took) = timed(exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(took, Duration::ZERO, "a newcomer does not wait");
    assert_eq!(read_to_end(&mut silent).await, "", "who said nothing went");
    useful.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
    assert!(read_to_end(&mut useful).await.ends_with("hello"), "who was useful stayed");

    let mut busy = [connect(&server), connect(&server)];
    for stream in &mut busy {
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
    }
    settle().await;
    let (answer, took) = timed(exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(took + SETTLED, SLOW, "it waits while all are being served");
    let mut answers = Vec::new();
    for stream in &mut busy {
        answers.push(read_to_end(stream).await);
    }
    assert!(answers.iter().all(|answer| answer.ends_with("done")), "{answers:?}");
}

/// An engine that is aborted is started again with the room of a new one: nothing of the old one may stay.
#[tokio::test(start_paused = true)]
async fn connections_end_with_the_server_that_has_them() {
    let server = start(Limits::with(1024));
    let mut reader = connect(&server);
    reader.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    settle().await;
    server.task.abort();
    assert!(server.task.await.is_err_and(|error| error.is_cancelled()));
    let received = read_to_end(&mut reader).await.len();
    assert!(received < 64 * 1024 * 1024, "{received} bytes after its server was gone");
}

/// Who asks and does not read is cut off: otherwise a thousand of them take the server.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_cut_off() {
    let server = start(quick());
    let mut deaf = [connect(&server), connect(&server)];
    for stream in &mut deaf {
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    }
    settle().await;
    let (answer, took) = timed(exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert_eq!(took, Duration::ZERO, "a newcomer does not wait");
    let got = [read_to_end(&mut deaf[0]).await.len(), read_to_end(&mut deaf[1]).await.len()];
    assert!(got.iter().any(|bytes| *bytes < 64 * 1024 * 1024), "{got:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_answer_under_way_end() {
    let server = start(Limits { header_time_max: Duration::from_mins(1), ..quick() });
    let mut busy = connect(&server);
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let idle = connect(&server);
    settle().await;
    server.stop.cancel();
    let (answer, took) = timed(read_to_end(&mut busy)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    assert_eq!(took + SETTLED, SLOW);
    let (ended, took) = timed(server.task).await;
    ended.expect("no panic");
    assert_eq!(took, Duration::ZERO, "an idle connection does not hold it up");
    drop(idle);
}
