use store::Reading;

use crate::source::testing::{Authority, ask, closed_port, plain, serve};

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

/// WA-1, AV-1: what a good answer is like, and all that is wrong with another.
#[tokio::test]
async fn answers_are_judged_whole() {
    let net = plain();
    let good = serve(None, false, reply("200 OK", "X-Frame-Options: DENY\r\n", "welcome to the shop")).await;
    let broken = serve(None, false, reply("500 Oops", "", "stack trace")).await;
    let moved = serve(None, false, reply("302 Found", &format!("Location: http://{good}/\r\n"), "")).await;
    let cases = [
        (good, "", Reading::Up, Some(200), vec!["status 200 (name 0 ms, connection "]),
        (good, "contains = [\"welcome\", \"shop\"]", Reading::Up, Some(200), vec![]),
        (good, "contains = \"sold out\"", Reading::Down, Some(200), vec!["the body lacks \"sold out\""]),
        (good, "contains_not = \"shop\"", Reading::Down, Some(200), vec!["the body holds \"shop\""]),
        (good, "require_headers = [\"x-frame-options: deny\"]", Reading::Up, Some(200), vec![]),
        (
            good,
            "require_headers = [\"X-Frame-Options: SAMEORIGIN\", \"Strict-Transport-Security\"]",
            Reading::Down,
            Some(200),
            vec!["no header `x-frame-options` that holds \"SAMEORIGIN\"", "no header `strict-transport-security`"],
        ),
        (good, "status = [\"201\", \"300-399\"]", Reading::Down, Some(200), vec!["status 200"]),
        (good, "body_bytes_max = 5", Reading::Down, None, vec!["longer than 5 bytes"]),
        (broken, "contains = \"welcome\"", Reading::Down, Some(500), vec!["status 500", "the body lacks"]),
        (broken, "status = [\"200\", \"500\"]", Reading::Up, Some(500), vec![]),
        (moved, "", Reading::Down, Some(302), vec!["status 302"]),
        (moved, "redirects = 1\ncontains = \"shop\"", Reading::Up, Some(200), vec![]),
        (closed_port().await, "", Reading::Down, None, vec!["refuses the connection"]),
    ];
    for (address, keys, reading, value, texts) in cases {
        let answer = ask(&net, "http", &format!("url = \"http://{address}/?token=secret\"\n{keys}")).await;
        assert_eq!((answer.reading, answer.value), (reading, value), "{keys}: {}", answer.text);
        assert!(!answer.text.contains("secret") && !answer.text.contains("stack trace"), "{}", answer.text);
        for text in texts {
            assert!(answer.text.contains(text), "`{text}` in: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_certificate_counts() {
    let authority = Authority::new();
    let net = authority.net();
    let all = rustls::ALL_VERSIONS;
    let answer = reply("200 OK", "", "welcome");
    let good = serve(Some(authority.server("127.0.0.1", (2026, 12, 1), all)), false, answer.clone()).await;
    let late = serve(Some(authority.server("127.0.0.1", (2026, 11, 1), all)), false, answer.clone()).await;
    let old = serve(Some(authority.server("127.0.0.1", (2027, 6, 1), &[&rustls::version::TLS12])), false, answer).await;
    let cases = [
        (good, "", Reading::Up, "status 200"),
        (good, "certificate_days = 14", Reading::Degraded, "expires in 8 days"),
        (good, "certificate_days = 14\nstatus = \"204\"", Reading::Down, "expires in 8 days"),
        (late, "", Reading::Down, "it expired on 2026-11-01"),
        (old, "tls_at_least = \"1.3\"", Reading::Down, "TLSv1.2 was agreed upon"),
    ];
    for (address, keys, reading, text) in cases {
        let answer = ask(&net, "http", &format!("url = \"https://{address}/\"\n{keys}")).await;
        assert_eq!(answer.reading, reading, "{keys}: {}", answer.text);
        assert!(answer.text.contains(text), "`{text}` in: {}", answer.text);
        let shown = answer.certificate.map(|expiry| expiry.time().to_rfc3339()[..10].to_owned());
        let expected = match address {
            _ if address == good => Some("2026-12-01"),
            _ if address == old => Some("2027-06-01"),
            _ => None,
        };
        assert_eq!(shown.as_deref(), expected, "{keys}");
    }
}

/// A healthy answer says where its time went, for whoever plots it; so does a failed one, as far as it got.
#[tokio::test]
async fn the_time_is_told_by_phase() {
    let authority = Authority::new();
    let answer = reply("200 OK", "", "welcome");
    let plain_server = serve(None, false, answer.clone()).await;
    let server = authority.server("127.0.0.1", (2026, 12, 1), rustls::ALL_VERSIONS);
    let secure = serve(Some(server), false, answer).await;
    for (url, tls, first_byte) in [
        (format!("http://{plain_server}/"), false, true),
        (format!("https://{secure}/"), true, true),
        // It speaks no TLS: that is where the time went.
        (format!("https://{plain_server}/"), true, false),
        (format!("http://{}/", closed_port().await), false, false),
    ] {
        let answer = ask(&authority.net(), "http", &format!("url = \"{url}\"")).await;
        let phases = answer.phases;
        assert!(phases.connect > 0 || answer.reading == Reading::Down, "{url}: {phases:?}");
        assert_eq!((phases.tls > 0, phases.first_byte > 0), (tls, first_byte), "{url}: {phases:?}");
    }
}

/// What is asked is what the policy says.
#[tokio::test]
async fn the_request_is_as_declared() {
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut heard = Vec::new();
        while !heard.ends_with(b"ping=1") {
            assert!(stream.read_buf(&mut heard).await.expect("read") > 0, "{}", String::from_utf8_lossy(&heard));
        }
        stream.write_all(reply("204 No Content", "", "").as_bytes()).await.expect("written");
        String::from_utf8_lossy(&heard).to_ascii_lowercase()
    });
    let table = format!(
        "url = \"http://{address}/health?a=b\"\nmethod = \"POST\"\nsend = \"ping=1\"\nheaders = [\"X-Probe: garant\"]"
    );
    let answer = ask(&plain(), "http", &table).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    let heard = server.await.expect("no panic");
    assert!(heard.starts_with("post /health?a=b http/1.1\r\n"), "{heard}");
    assert!(heard.contains("\r\nx-probe: garant\r\n"), "{heard}");
}
