//! Real sockets: the limits are about what a peer does with one.

use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn start(limits: Limits) -> Server {
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/slow",
            get(|| async {
                time::sleep(Duration::from_millis(300)).await;
                "done"
            }),
        )
        .route("/endless", get(|| async { vec![b'x'; 64 * 1024 * 1024] }));
    #[expect(clippy::disallowed_methods, reason = "the test gives `web` its listener")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve_within(listener, crate::answer::finish(router), stop.clone(), limits));
    Server { address, stop, task }
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

#[expect(clippy::disallowed_methods, reason = "the test is the peer, and has nothing but a socket")]
async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.expect("connected")
}

/// Sends, then reads until the server closes.
async fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server).await;
    stream.write_all(request).await.expect("sent");
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A server that cuts a connection resets it; what came before counts.
    let _reset = time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn it_serves() {
    let server = start(Limits::default()).await;
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.to_lowercase().contains("\r\nserver:"), "no banner: {answer}");
    let head = exchange(&server, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn a_slow_header_is_not_waited_for() {
    let server = start(quick()).await;
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let before = Instant::now();
    let said_nothing = exchange(&server, b"").await;
    assert_eq!(said_nothing, "", "a connection without a request is closed");
    let half = exchange(&server, b"GET / HTTP/1.1\r\nHost:").await;
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    // And one that was useful once is not kept for ever.
    let idle = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(idle.ends_with("hello"), "{idle}");
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_long_header_is_refused() {
    let server = start(Limits { connection_time_max: Duration::from_mins(1), ..quick() }).await;
    for request in [
        format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(20_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "c".repeat(20_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000)),
    ] {
        let mut stream = connect(&server).await;
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
#[tokio::test]
async fn more_connections_than_there_is_room_for() {
    let limits =
        Limits { header_time_max: Duration::from_mins(1), connection_time_max: Duration::from_mins(1), ..quick() };
    let server = start(limits).await;
    let (mut silent, mut useful) = (connect(&server).await, connect(&server).await);
    useful.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    assert!(useful.read(&mut answer).await.expect("read") > 0);
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let before = Instant::now();
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(before.elapsed() < Duration::from_secs(10), "a newcomer does not wait: {:?}", before.elapsed());
    assert_eq!(read_to_end(&mut silent).await, "", "who said nothing went");
    useful.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
    assert!(read_to_end(&mut useful).await.ends_with("hello"), "who was useful stayed");

    let mut busy = [connect(&server).await, connect(&server).await];
    for stream in &mut busy {
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
    }
    time::sleep(Duration::from_millis(50)).await;
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let before = Instant::now();
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(before.elapsed() >= Duration::from_millis(150), "while all are being served: {:?}", before.elapsed());
    let mut answers = Vec::new();
    for stream in &mut busy {
        answers.push(read_to_end(stream).await);
    }
    assert!(answers.iter().all(|answer| answer.ends_with("done")), "{answers:?}");
}

/// An engine that is aborted is started again with the room of a new one: nothing of the old one may stay.
#[tokio::test]
async fn connections_end_with_the_server_that_has_them() {
    let server = start(Limits::default()).await;
    let mut reader = connect(&server).await;
    reader.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    time::sleep(Duration::from_millis(50)).await;
    server.task.abort();
    assert!(server.task.await.is_err_and(|error| error.is_cancelled()));
    let received = read_to_end(&mut reader).await.len();
    assert!(received < 64 * 1024 * 1024, "{received} bytes after its server was gone");
}

/// Who asks and does not read is cut off: otherwise a thousand of them take the server.
#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    let server = start(quick()).await;
    let mut deaf = [connect(&server).await, connect(&server).await];
    for stream in &mut deaf {
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    }
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let before = Instant::now();
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(before.elapsed() < quick().connection_time_max, "a newcomer does not wait: {:?}", before.elapsed());
    let got = [read_to_end(&mut deaf[0]).await.len(), read_to_end(&mut deaf[1]).await.len()];
    assert!(got.iter().any(|bytes| *bytes < 64 * 1024 * 1024), "{got:?}");
}

#[tokio::test]
async fn a_stop_lets_the_answer_under_way_end() {
    let server = start(Limits { header_time_max: Duration::from_mins(1), ..quick() }).await;
    let mut busy = connect(&server).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let idle = connect(&server).await;
    time::sleep(Duration::from_millis(50)).await;
    server.stop.cancel();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let before = Instant::now();
    server.task.await.expect("no panic");
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "an idle connection does not hold it up: {:?}",
        before.elapsed()
    );
    drop(idle);
}
