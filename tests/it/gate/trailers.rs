//! Trailers over HTTP/1.1: they come to a client that keeps them apart, and to nobody else; and from one version of HTTP to the other.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};

use super::Gate;
use super::client::Client;
use super::http2_client::Http2Client;
use super::tls::Certificate;
use super::upstream::Recorder;
use crate::harness::free_port;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
    2\r\nhi\r\n0\r\nX-Sum: 1\r\nX_Sum: 2\r\nX-Sum: 3\r\n\r\n";

/// All that comes to a request whose head has these fields.
fn ask(gate: &Gate, line: &str, fields: &str) -> String {
    let mut client = Client::connect(gate.http).expect("it listens");
    client.send(&format!("{line}\r\nHost: t.example\r\n{fields}\r\n"));
    String::from_utf8(client.read_to_end()).expect("UTF-8")
}

/// RFC 9110, section 6.5: a client says with `TE` that it does not take them for fields of the head, and the server behind is told so.
#[test]
fn trailers_come_to_who_wants_them() {
    let upstream = Recorder::start(ANSWER);
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", upstream.address()));
    let reply = ask(&gate, "GET / HTTP/1.1", "TE: deflate;q=0.5, trailers\r\nConnection: TE, close\r\n");
    assert!(reply.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\nx-sum: 3\r\n\r\n"), "{reply}");
    let heard = upstream.heard();
    assert!(heard.contains("\r\nConnection: TE\r\nTE: trailers\r\n") && !heard.contains("deflate"), "{heard}");
    upstream.forget();
    for (line, fields, expected) in [
        ("GET / HTTP/1.1", "Connection: close\r\n", "\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("GET / HTTP/1.1", "TE: deflate\r\nConnection: TE, close\r\n", "\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("GET / HTTP/1.0", "TE: trailers\r\n", "\r\n\r\nhi"),
    ] {
        let reply = ask(&gate, line, fields);
        assert!(reply.ends_with(expected), "{line} {fields}: {reply}");
    }
    assert!(!upstream.heard().contains("TE:"), "{}", upstream.heard());
}

/// Those of a request are judged as any, and end at the gate: no program behind HTTP/1.1 says that it keeps them apart.
#[test]
fn trailers_of_a_request_end_at_the_gate() {
    let upstream = Recorder::answering_whole_requests("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", upstream.address()));
    let chunked = "Transfer-Encoding: chunked\r\nTrailer: X-In\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\n";
    let reply = ask(&gate, "POST / HTTP/1.1", &format!("{chunked}X-In: 1\r\n"));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let heard = upstream.heard();
    assert!(heard.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n") && !heard.contains("X-In"), "{heard}");
    let reply = ask(&gate, "POST / HTTP/1.1", &format!("{chunked}Host: other.example\r\n"));
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
}

/// What would decide something, had somebody merged it into the head, ends the reply where it is.
#[test]
fn a_trailer_that_decides_is_no_reply() {
    let upstream = Recorder::start(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n",
    );
    let gate = Gate::start(&format!("upstream = [{{ url = \"http://{}\" }}]", upstream.address()));
    let reply = ask(&gate, "GET / HTTP/1.1", "TE: trailers\r\nConnection: TE\r\n");
    assert!(upstream.has_answered() && !reply.contains("x-sum") && !reply.ends_with("0\r\n\r\n"), "{reply}");
}

/// A server of HTTP/2 in clear that says in the body of its reply which trailer `X-In` a request had, and has a trailer itself.
fn http2_server() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    drop(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            tell.send(listener.local_addr().expect("an address")).expect("somebody waits");
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(speak(stream)));
            }
        });
    }));
    told.recv().expect("an address")
}

async fn speak(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(next) = connection.accept().await {
        let (request, mut respond) = next?;
        drop(tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            let trailers = body.trailers().await?.unwrap_or_default();
            let said = trailers.get("x-in").map_or(&b"none"[..], HeaderValue::as_bytes);
            let mut reply = respond.send_response(Response::new(()), false)?;
            reply.send_data(Bytes::copy_from_slice(said), false)?;
            reply.send_trailers(HeaderMap::from_iter([(
                "x-sum".parse().expect("a name"),
                HeaderValue::from_static("1"),
            )]))
        }));
    }
    Ok(())
}

/// Between the versions of HTTP: to a server over HTTP/2 go those of a request too, and from any server to any client that wants them.
#[test]
fn trailers_go_from_one_version_to_the_other() {
    let (old, new, certificate, https) = (Recorder::start(ANSWER), http2_server(), Certificate::make(), free_port());
    let site = format!(
        "{}\nredirect_to_https = false\nupstream = [{{ url = \"http://{new}\", protocol = \"h2\" }}]\n\
         route = [{{ path = \"/old\", upstream = [{{ url = \"http://{}\" }}] }}]",
        certificate.keys(),
        old.address()
    );
    let gate = Gate::start_with(&format!("https = [\"127.0.0.1:{https}\"]"), &site);
    let chunked =
        "Transfer-Encoding: chunked\r\nConnection: close\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\nX-In: seven\r\n";
    let reply = ask(&gate, "POST / HTTP/1.1", chunked);
    assert!(reply.ends_with("\r\n\r\n5\r\nseven\r\n0\r\nx-sum: 1\r\n\r\n"), "{reply}");
    let reply = ask(&gate, "GET / HTTP/1.1", "Connection: close\r\n");
    assert!(reply.ends_with("\r\n\r\n4\r\nnone\r\n0\r\n\r\n"), "{reply}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let trailers = runtime.block_on(async {
        let mut client = Http2Client::connect(&certificate.path("ca.pem"), https).await;
        client.trailers("/old").await
    });
    let sums: Vec<&[u8]> = trailers.get_all("x-sum").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!((sums, trailers.len()), (vec![&b"1"[..], b"3"], 2));
}
