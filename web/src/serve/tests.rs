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

/// At the bound newcomers wait, and are served when others end.
#[tokio::test]
async fn more_connections_than_there_is_room_for() {
    let server = start(quick()).await;
    let (_idle, _silent) = (connect(&server).await, connect(&server).await);
    let before = Instant::now();
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(200) && waited < Duration::from_secs(2), "{waited:?}");
}

/// One address can't take all the room; a network of a provider counts as one; a proxy of this machine as everybody.
#[test]
fn an_address_has_so_many_places() {
    let crowd = Crowd::default();
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let enter = |text: &str| crowd.enter(address(text), 2);
    let (first, second) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
    assert!(first.is_some() && second.is_some());
    assert!(enter("192.0.2.1").is_none(), "at the bound");
    assert!(enter("192.0.2.2").is_some(), "another address");
    drop(first);
    assert!(enter("192.0.2.1").is_some(), "a place was given back");
    drop(second);
    let places = (enter("2001:db8:0:1::1"), enter("2001:db8:0:1:ffff::2"));
    assert!(enter("2001:db8:0:1::3").is_none(), "one network");
    assert!(enter("2001:db8:0:2::3").is_some(), "another network");
    let many: Vec<_> = (0..10).map(|_| enter("127.0.0.1").expect("not bounded")).collect();
    assert!(enter("::1").is_some());
    drop((places, many));
    assert!(crowd.lock().is_empty(), "nothing is left behind");
}

/// Who asks and does not read is cut off: otherwise a thousand of them take the server.
#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    let server = start(quick()).await;
    let mut deaf = [connect(&server).await, connect(&server).await];
    for stream in &mut deaf {
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    }
    let before = Instant::now();
    let answer = exchange(&server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
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
    let before = Instant::now();
    server.task.await.expect("no panic");
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "an idle connection does not hold it up: {:?}",
        before.elapsed()
    );
    drop(idle);
}
