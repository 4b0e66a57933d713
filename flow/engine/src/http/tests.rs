use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use event::Span;

use super::{HttpError, HttpFailure, RedirectFault, Request, Response};
use crate::net::test_server::{Authority, VALID, closed_port, serve};
use crate::net::{DialError, Net, Phase, TlsFailure, Verify};

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Here: yes\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(status: u16, to: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Look\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn net() -> Net {
    Authority::new().net()
}

async fn get(net: &Net, address: SocketAddr) -> Result<Response, HttpError> {
    Request::get(format!("http://{address}/")).within(Span::from_secs(5)).send(net).await
}

#[tokio::test]
async fn a_request_and_its_answer() {
    let asked = Arc::new(Mutex::new(String::new()));
    let noted = asked.clone();
    let address = serve(None, move |request| {
        request.clone_into(&mut noted.lock().expect("not poisoned"));
        Some(ok("welcome"))
    })
    .await;
    let response = Request::post(format!("http://{address}/order?id=1"), "{}")
        .header("content-type", "application/json")
        .header("User-Agent", "Test/1")
        .send(&net())
        .await
        .expect("an answer");
    assert_eq!((response.status, &*response.text(), response.success()), (200, "welcome", true));
    assert_eq!((response.headers["x-here"].as_bytes(), response.remote), (b"yes".as_slice(), address));
    let phases = response.phases;
    assert!(phases.connect > Span::ZERO && phases.first_byte > Span::ZERO, "{phases:?}");
    assert!(phases.total >= phases.dns + phases.connect + phases.tls + phases.first_byte, "{phases:?}");
    assert_eq!(phases.tls, Span::ZERO);

    let asked = asked.lock().expect("not poisoned").to_ascii_lowercase();
    assert!(asked.starts_with("post /order?id=1 http/1.1\r\n"), "{asked}");
    let host = format!("host: {address}");
    for line in
        [&*host, "content-type: application/json", "user-agent: test/1", "connection: close", "content-length: 2"]
    {
        assert_eq!(asked.lines().filter(|l| *l == line).count(), 1, "{line} in {asked}");
    }
    assert!(asked.ends_with("\r\n\r\n{}"), "{asked}");
}

#[tokio::test]
async fn over_tls_the_certificate_counts() {
    let (known, stranger) = (Authority::new(), Authority::named("Stranger"));
    let net = known.net();
    let good = serve(Some(known.tls("shop.example", VALID)), |_| Some(ok("safe"))).await;
    let bad = serve(Some(stranger.tls("shop.example", VALID)), |_| Some(ok("unsafe"))).await;
    let request = |address: SocketAddr| {
        Request::get(format!("https://shop.example:{}/", address.port())).at(address.ip().to_string(), address.port())
    };
    let response = request(good).send(&net).await.expect("an answer");
    assert_eq!((&*response.text(), response.phases.tls > Span::ZERO), ("safe", true));
    assert!(response.peer.expect("a peer").shown.faults.is_empty());

    let error = request(bad).send(&net).await.expect_err("refused");
    assert!(matches!(error.failure, HttpFailure::Dial(DialError::Tls { failure: TlsFailure::Certificate(_), .. })));
    assert!(error.to_string().contains("its issuer is not trusted"), "{error}");
    let told = request(bad).verify(Verify::Record).send(&net).await.expect("recorded");
    assert_eq!(told.peer.expect("a peer").shown.faults.len(), 1);
}

#[tokio::test]
async fn broken_answers_are_told_by_phase() {
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes();
    let head = "HTTP/1.1 200 OK\r\n";
    for (what, answer, phase) in [
        ("half a body", format!("{head}Content-Length: 100\r\n\r\nhalf").into_bytes(), Phase::Body),
        ("half a chunk", chunked("64\r\nhalf"), Phase::Body),
        ("half a head", head.as_bytes().to_vec(), Phase::FirstByte),
        ("nothing", Vec::new(), Phase::FirstByte),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), Phase::FirstByte),
        ("an endless head", [head.as_bytes(), &b"X: yyyyyyyyyyyyy\r\n".repeat(100_000)].concat(), Phase::FirstByte),
    ] {
        let address = serve(None, move |_| Some(answer.clone())).await;
        let error = get(&net(), address).await.expect_err(what);
        assert!(matches!(error.failure, HttpFailure::Protocol { .. }), "{what}: {error:?}");
        assert_eq!(error.phase(), Some(phase), "{what}: {error}");
    }
    // As long as curl and browsers read it.
    let long = [head.as_bytes(), b"X: ", "y".repeat(200_000).as_bytes(), b"\r\nContent-Length: 0\r\n\r\n"].concat();
    let address = serve(None, move |_| Some(long.clone())).await;
    assert_eq!(get(&net(), address).await.expect("an answer").headers["x"].len(), 200_000);
    // The bound holds however it is cut into packets.
    let longer = [head.as_bytes(), b"X: ", "y".repeat(263_000).as_bytes(), b"\r\nContent-Length: 0\r\n\r\n"].concat();
    let address = serve(None, move |_| Some(longer.clone())).await;
    let error = get(&net(), address).await.expect_err("too long a head").to_string();
    assert!(error.contains("one of more than 256 KiB"), "{error}");
    // Without a length the end of the connection is the end of the body.
    let address = serve(None, |_| Some(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec())).await;
    assert_eq!(get(&net(), address).await.expect("an answer").text(), "all of it");
}

#[tokio::test]
async fn limits_are_kept() {
    let net = net();
    let announced = ok(&"x".repeat(2000));
    let streamed = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2000)).into_bytes();
    for answer in [announced, streamed] {
        let address = serve(None, move |_| Some(answer.clone())).await;
        let request = Request::get(format!("http://{address}/"));
        let error = request.clone().body_bytes_max(1999).send(&net).await.expect_err("too large");
        assert_eq!(error.failure, HttpFailure::BodyTooLarge { limit_bytes: 1999 });
        assert_eq!(request.body_bytes_max(2000).send(&net).await.expect("just fits").body.len(), 2000);
    }

    let silent = serve(None, |_| None).await;
    let within = Span::from_millis(200);
    let error = Request::get(format!("http://{silent}/")).within(within).send(&net).await.expect_err("silent");
    assert_eq!(error.failure, HttpFailure::Timeout { phase: Phase::FirstByte, within });
    assert!(error.timed_out() && error.phases.total >= within && error.phases.total < Span::from_secs(3), "{error:?}");

    let closed = closed_port().await;
    let error = get(&net, closed).await.expect_err("closed");
    assert_eq!(error.failure, HttpFailure::Dial(DialError::Refused { address: closed }));
    assert_eq!(error.to_string(), format!("http://{closed}/: {closed} refuses the connection: nobody listens there"));
}

/// What a slow server sends of its head is no waiting for its first byte: that came long ago.
#[tokio::test]
async fn a_slow_head_has_begun_with_its_first_byte() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    for start in ["HTTP/1.1 2", "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"] {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(start.as_bytes()).await.expect("writable");
            // The rest never comes.
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
        });
        let within = Span::from_millis(500);
        let request = Request::get(format!("http://{address}/")).within(within);
        let error = request.send(&net()).await.expect_err("slow");
        assert_eq!(error.failure, HttpFailure::Timeout { phase: Phase::Body, within }, "{start}");
        let phases = error.phases;
        assert!(phases.first_byte > Span::ZERO && phases.first_byte < phases.total, "{phases:?}");
    }
}

#[tokio::test]
async fn a_slow_body_does_not_outlive_the_deadline() {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.expect("writable");
        // A byte at a time keeps every timer per read alive; only one over everything helps.
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let within = Span::from_millis(300);
    let error = Request::get(format!("http://{address}/")).within(within).send(&net()).await.expect_err("slow");
    assert_eq!(error.failure, HttpFailure::Timeout { phase: Phase::Body, within });
    assert!(error.phases.first_byte > Span::ZERO);
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked_for_and_never_with_secrets() {
    let net = net();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let elsewhere = serve(None, move |request| {
        noted.lock().expect("not poisoned").push(request.to_ascii_lowercase());
        Some(ok("elsewhere"))
    })
    .await;
    let address = serve(None, move |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        Some(match path {
            "/away" => redirect(302, &format!("http://{elsewhere}/new")),
            "/kept" => redirect(307, "here"),
            "/turn" => redirect(303, "/here"),
            "/loop" => redirect(301, "/loop"),
            "/odd" => redirect(301, "ftp://shop.example/"),
            _ => ok(request.split(' ').next().unwrap_or_default()),
        })
    })
    .await;
    let url = |path: &str| format!("http://{address}{path}");

    let untouched = Request::get(url("/away")).send(&net).await.expect("the redirect itself");
    assert_eq!((untouched.status, asked.lock().expect("not poisoned").len()), (302, 0));

    let secret = Request::get(url("/away")).header("X-Api-Key", "s3cret").header("Accept", "text/html");
    assert!(!format!("{secret:?}").contains("s3cret"), "{secret:?}");
    let followed = secret.redirects_max(3).send(&net).await.expect("an answer");
    assert_eq!((&*followed.text(), followed.url.clone()), ("elsewhere", format!("http://{elsewhere}/new")));
    let asked = asked.lock().expect("not poisoned").remove(0);
    assert!(
        asked.contains(&format!("host: {elsewhere}"))
            && !asked.contains("s3cret")
            && asked.contains("accept: text/html"),
        "{asked}"
    );

    for (path, method) in [("/kept", "POST"), ("/turn", "GET")] {
        let answer = Request::post(url(path), "x").redirects_max(1).send(&net).await.expect("an answer");
        assert_eq!(answer.text(), method, "{path}");
    }
    for (path, fault) in [("/loop", RedirectFault::TooOften(3)), ("/odd", RedirectFault::NoUrl)] {
        let error = Request::get(url(path)).redirects_max(3).send(&net).await.expect_err(path);
        assert_eq!(error.failure, HttpFailure::Redirect(fault));
    }

    let authority = Authority::new();
    let plain = address.port();
    let downgrade = move |_: &str| Some(redirect(301, &format!("http://127.0.0.1:{plain}/here")));
    let secure = serve(Some(authority.tls("shop.example", VALID)), downgrade).await;
    let request =
        Request::get(format!("https://shop.example:{}/", secure.port())).at(secure.ip().to_string(), secure.port());
    let error = request.redirects_max(3).send(&authority.net()).await.expect_err("not followed");
    assert!(error.to_string().contains("from https to http"), "{error}");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_not_sent() {
    let net = net();
    for (request, reason) in [
        (Request::get("shop.example/health"), "not a URL"),
        (Request::get("/health"), "not a URL"),
        (Request::get("gopher://shop.example/"), "must start with http:// or https://"),
        (Request::get("http://me:s3cret@shop.example/"), "must not hold a name and password"),
        (Request::get("http://shop.example/").header("X-Key", "s3cret\r\nX: y"), "`X-Key`"),
    ] {
        let error = request.send(&net).await.expect_err(reason);
        assert!(matches!(&error.failure, HttpFailure::Request(said) if said.contains(reason)), "{error}");
        assert!(error.phase().is_none());
        assert!(!format!("{error:?} {error}").contains("s3cret"), "a secret is shown: {error}");
    }
}

/// A page that sets a cookie and redirects to itself is up, as in a browser; the cookies of one request are not those of the next.
#[tokio::test]
async fn cookies_live_for_one_request() {
    let net = net();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let address = serve(None, move |request| {
        noted.lock().expect("not poisoned").push(request.to_ascii_lowercase());
        Some(if request.to_ascii_lowercase().contains("seen=1") {
            ok("welcome")
        } else {
            b"HTTP/1.1 302 Look\r\nLocation: /\r\nSet-Cookie: seen=1; Path=/\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    })
    .await;
    for _ in 0..2 {
        let response = Request::get(format!("http://{address}/")).redirects_max(5).send(&net).await.expect("an answer");
        assert_eq!(response.text(), "welcome");
    }
    let asked = asked.lock().expect("not poisoned");
    let with: Vec<bool> = asked.iter().map(|request| request.contains("\r\ncookie: seen=1\r\n")).collect();
    assert_eq!(with, [false, true, false, true]);
}

/// Who is public can't lead us inside; what the request names is asked as it is written, and so is where it is led from inside.
#[tokio::test]
async fn a_public_address_leads_to_no_private_one() {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.expect("a port");
    let public = listener.local_addr().expect("an address");
    let inside = serve(None, |_| Some(ok("inside"))).await;
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            if stream.read(&mut heard).await.is_ok() {
                drop(stream.write_all(&redirect(302, &format!("http://{inside}/"))).await);
            }
        }
    });
    let ask = async |net: &Net| Request::get(format!("http://{public}/")).redirects_max(3).send(net).await;
    let mut net = net();
    assert_eq!(ask(&net).await.expect("from inside").text(), "inside");
    net.reach.taken_for_public = vec![public.ip()];
    let error = ask(&net).await.expect_err("not followed");
    assert_eq!(error.failure, HttpFailure::Dial(DialError::Forbidden { address: inside.ip() }));
    assert!(error.to_string().contains("add it to `redirects_may_reach` in [network]"), "{error}");
    net.reach.redirects = vec!["127.0.0.1/32".parse().expect("a range")];
    assert_eq!(ask(&net).await.expect("allowed").text(), "inside");
}

/// An answer that never ends is left when enough of it is there, and the body of a redirect that is followed is not waited for.
#[tokio::test]
async fn enough_is_enough() {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = vec![0; 1024];
            let read = stream.read(&mut heard).await.expect("a request");
            let moved = String::from_utf8_lossy(&heard[..read]).starts_with("GET /moved ");
            let head = if moved { "302 Look\r\nLocation: /\r\nContent-Length: 100" } else { "200 OK" };
            stream.write_all(format!("HTTP/1.1 {head}\r\n\r\ndata: hello\n\n").as_bytes()).await.expect("written");
            open.push(stream);
        }
    });
    let request = Request::get(format!("http://{address}/moved")).redirects_max(1);
    let mut seen = |status: u16, _: &super::HeaderMap, body: &[u8]| status == 200 && body.ends_with(b"hello\n\n");
    let response = request.send_until(&net(), &mut seen).await.expect("enough");
    assert_eq!((response.status, &*response.text()), (200, "data: hello\n\n"));
}
