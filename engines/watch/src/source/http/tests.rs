use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use store::Reading;

use crate::source::testing::{Authority, ask, asking, closed_port, name_server, plain, serve};

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
    let astray = serve(None, false, reply("302 Found", "Location: http://127.0.0.1/\u{1b}[31m\u{7}\r\n", "")).await;
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
        (
            astray,
            "redirects = 1",
            Reading::Down,
            Some(302),
            vec!["status 302, which redirects to no address that can be read"],
        ),
        (closed_port().await, "", Reading::Down, None, vec!["refuses the connection"]),
    ];
    for (address, keys, reading, value, texts) in cases {
        let answer = ask(&net, "http", &format!("url = \"http://{address}/?token=secret\"\n{keys}")).await;
        assert_eq!((answer.reading, answer.value), (reading, value), "{keys}: {}", answer.text);
        assert!(!answer.text.contains("secret") && !answer.text.contains("stack trace"), "{}", answer.text);
        assert!(!answer.text.contains("TLS"), "a phase that there was not: {}", answer.text);
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
            // Refused, and told all the same.
            _ => Some("2026-11-01"),
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

/// AV-1: a name with addresses of both families is up when one of them answers, which the answer says; each can be watched apart.
#[tokio::test]
async fn families_are_watched_apart() {
    let net = asking(name_server().await);
    let server = serve(None, false, reply("200 OK", "", "welcome")).await;
    let address = format!("both.shop.example:{}", server.port());
    let secure = Authority::new();
    let tls = secure.server("both.shop.example", (2027, 6, 1), rustls::ALL_VERSIONS);
    let tls = format!("both.shop.example:{}", serve(Some(tls), false, "").await.port());
    for (kind, keys, reading, text) in [
        ("http", format!("url = \"http://{address}/\""), Reading::Up, "status 200 (over IPv4, name "),
        ("http", format!("url = \"http://{address}/\"\nfamily = \"ipv4\""), Reading::Up, "over IPv4"),
        ("http", format!("url = \"http://{address}/\"\nfamily = \"ipv6\""), Reading::Down, "[::1]:"),
        ("tcp", format!("address = \"{address}\""), Reading::Up, "127.0.0.1:"),
        ("tcp", format!("address = \"{address}\"\nfamily = \"ipv6\""), Reading::Down, "[::1]:"),
        ("tls", format!("address = \"{tls}\"\nfamily = \"ipv6\""), Reading::Down, "[::1]:"),
        (
            "tcp",
            "address = \"shop.example:9\"\nfamily = \"ipv6\"".to_owned(),
            Reading::Down,
            "the name `shop.example` has no address of IPv6",
        ),
    ] {
        let answer = ask(&net, kind, &keys).await;
        assert_eq!(answer.reading, reading, "{kind} {keys}: {}", answer.text);
        assert!(answer.text.contains(text), "{kind} {keys}: {}", answer.text);
    }
}

/// AV-1: one server of several behind a name is asked at its own address, under that name.
#[tokio::test]
async fn a_server_behind_a_name_is_asked_at_its_address() {
    let (address, heard) = listen(|_| reply("200 OK", "", "welcome")).await;
    let keys = format!("url = \"http://shop.example/health\"\naddress = \"{address}\"");
    let answer = ask(&plain(), "http", &keys).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    let heard = heard.lock().expect("not poisoned").remove(0);
    assert!(heard.starts_with("GET /health HTTP/1.1\r\nhost: shop.example\r\n"), "{heard}");

    let authority = Authority::new();
    let good = authority.server("shop.example", (2027, 6, 1), rustls::ALL_VERSIONS);
    let other = authority.server("other.example", (2027, 6, 1), rustls::ALL_VERSIONS);
    for (server, reading, text) in [
        (good, Reading::Up, "status 200"),
        (other, Reading::Down, "it is not for `shop.example` but for other.example"),
    ] {
        let address = serve(Some(server), false, reply("200 OK", "", "welcome")).await;
        let keys = format!("url = \"https://shop.example/\"\naddress = \"{address}\"");
        let answer = ask(&authority.net(), "http", &keys).await;
        assert_eq!(answer.reading, reading, "{}", answer.text);
        assert!(answer.text.contains(text), "{}", answer.text);
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
        "url = \"http://{address}/health?a=b\"\nmethod = \"POST\"\nsend = \"ping=1\"\nheaders = {{ X-Probe = \"garant\" }}"
    );
    let answer = ask(&plain(), "http", &table).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    let heard = server.await.expect("no panic");
    assert!(heard.starts_with("post /health?a=b http/1.1\r\n"), "{heard}");
    assert!(heard.contains("\r\nx-probe: garant\r\n"), "{heard}");
}

/// A server that keeps what it is asked, and answers what `answer` says of it.
async fn listen(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n")
                && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0)
            {}
            let head = String::from_utf8_lossy(&head).into_owned();
            let said = answer(&head);
            kept.lock().expect("not poisoned").push(head);
            drop(stream.write_all(said.as_bytes()).await);
        }
    });
    (address, heard)
}

fn keep(path: &Path, secret: &str, mode: u32) {
    fs::write(path, secret).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

/// A secret is what its file holds at that question; one that can't be opened is our trouble and not their outage, and the
/// file is named with what to do.
#[tokio::test]
async fn secrets_are_opened_at_each_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let (address, heard) = listen(|_| reply("200 OK", "", "")).await;
    let table = format!(
        "url = \"http://{address}/\"\nheaders = {{ Accept = \"text/html\", Authorization = {{ file = \"{}\" }} }}",
        path.display()
    );
    for token in ["Bearer f1rst", "Bearer sec0nd"] {
        keep(&path, &format!("{token}\n"), 0o600);
        let answer = ask(&plain(), "http", &table).await;
        assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
        let heard = heard.lock().expect("not poisoned").pop().expect("asked").to_ascii_lowercase();
        assert!(heard.contains(&format!("\r\nauthorization: {}\r\n", token.to_ascii_lowercase())), "{heard}");
        assert!(heard.contains("\r\naccept: text/html\r\n") && !heard.contains("*/*"), "{heard}");
    }
    for (secret, mode, reason) in [
        ("Bearer s3cret", 0o644, "others than its owner may read or change it"),
        ("Bearer s3cret\r\nHost: other.example", 0o600, "it holds a line break"),
        ("Bearer s3cr\u{e9}t", 0o600, "another character that a header field can't"),
        ("", 0o600, "it is empty"),
        (&"s3cret".repeat(8192 / 6 + 1), 0o600, "longer than 8 KiB"),
        (&"s3cret".repeat(20_000), 0o600, "longer than 64 KiB"),
    ] {
        keep(&path, secret, mode);
        let answer = ask(&plain(), "http", &table).await;
        assert_eq!(answer.reading, Reading::Unknown, "{reason}: {}", answer.text);
        assert!(answer.text.contains(reason) && answer.text.contains(&path.display().to_string()), "{}", answer.text);
        assert!(!answer.text.contains("s3cr"), "{}", answer.text);
    }
    fs::remove_file(&path).expect("removed");
    let answer = ask(&plain(), "http", &table).await;
    assert_eq!(answer.reading, Reading::Unknown);
    assert!(answer.text.contains("it is not there; write it"), "{}", answer.text);
    assert!(heard.lock().expect("not poisoned").is_empty(), "nothing is asked without the secret");
}

/// A body that holds a password is kept where it is safe, as header fields are.
#[tokio::test]
async fn a_body_may_be_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("form");
    keep(&path, "user=garant&password=s3cret\n", 0o600);
    let (address, heard) = listen(|_| reply("200 OK", "", "welcome")).await;
    let table = format!("url = \"http://{address}/\"\nmethod = \"POST\"\nsend = {{ file = \"{}\" }}", path.display());
    let answer = ask(&plain(), "http", &table).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    let asked = heard.lock().expect("not poisoned").pop().expect("asked");
    assert!(asked.to_ascii_lowercase().contains("\r\ncontent-length: 27\r\n"), "{asked}");
    keep(&path, "user=garant&password=s3cret", 0o644);
    for (kind, table) in [
        ("http", table.clone()),
        ("tcp", format!("address = \"{address}\"\nsend = {{ file = \"{}\" }}", path.display())),
    ] {
        let answer = ask(&plain(), kind, &table).await;
        assert_eq!(answer.reading, Reading::Unknown, "{kind}: {}", answer.text);
        assert!(answer.text.contains("others than its owner may read"), "{kind}: {}", answer.text);
    }
    assert!(heard.lock().expect("not poisoned").is_empty(), "nothing is asked without the secret");
}

/// What the policy declares is for the origin that it names; another one that it redirects to gets nothing of it.
#[tokio::test]
async fn another_origin_gets_nothing_that_the_policy_declared() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    keep(&path, "s3cret-token", 0o600);
    let (elsewhere, heard_elsewhere) = listen(|_| reply("200 OK", "", "")).await;
    let (address, heard_here) = listen(move |head| {
        let to = if head.starts_with("POST /here ") { format!("http://{elsewhere}/there") } else { "/here".to_owned() };
        reply("307 Look", &format!("Location: {to}\r\n"), "")
    })
    .await;
    let table = format!(
        "url = \"http://{address}/\"\nredirects = 3\nmethod = \"POST\"\nsend = \"s3cret-body\"\n\
         headers = {{ Accept = \"text/html\", Content-Type = \"text/plain\", X-Trace = \"s3cret-plain\", \
         Private-Token = {{ file = \"{}\" }} }}",
        path.display()
    );
    let answer = ask(&plain(), "http", &table).await;
    assert_eq!(answer.reading, Reading::Up, "{}", answer.text);
    let here = heard_here.lock().expect("not poisoned").clone();
    assert_eq!(here.len(), 2);
    assert!(here.iter().all(|head| head.contains("s3cret-token") && head.contains("s3cret-plain")), "{here:?}");
    let elsewhere = heard_elsewhere.lock().expect("not poisoned").join("\n").to_ascii_lowercase();
    assert!(elsewhere.contains("\r\naccept: text/html\r\n"), "{elsewhere}");
    assert!(!elsewhere.contains("s3cret") && !elsewhere.contains("content-type"), "{elsewhere}");
}

/// The policy holds no secret, in no letter case and under no usual name, and does not meddle with the connection.
#[test]
fn secrets_and_fields_of_the_client_are_refused_in_the_policy() {
    let told = |name: &str| {
        let text = format!(
            "[[probe.http]]\nname = \"it\"\nservice = \"shop\"\nurl = \"http://shop.example/\"\nheaders = {{ {name} = \"s\" }}\n"
        );
        let mut document = policy::Document::from_text("test", &text);
        let local = policy::Observer::named("local".parse().expect("a name"));
        drop(crate::Config::of_observers(&mut document, &[local]));
        document.provide::<event::ServiceId>(&"shop".parse().expect("a name"));
        document.finish().err().map(|mistakes| mistakes.render(false))
    };
    for name in [
        "Authorization",
        "authorization",
        "Cookie",
        "PROXY-AUTHORIZATION",
        "X-Api-Key",
        "x_api_key",
        "PRIVATE-TOKEN",
        "X-Auth-Token",
        "Ocp-Apim-Subscription-Key",
        "CF-Access-Client-Secret",
    ] {
        let told = told(name).unwrap_or_else(|| panic!("{name} is taken"));
        assert!(told.contains("holds a secret") && told.contains(&format!("{name} = {{ file = ")), "{told}");
    }
    for name in ["Host", "Content-Length", "transfer-encoding", "Connection", "Upgrade", "TE", "Expect"] {
        let told = told(name).unwrap_or_else(|| panic!("{name} is taken"));
        assert!(told.contains("not for a policy to set"), "{told}");
    }
    for name in ["Accept", "User-Agent", "X-Request-Id", "Idempotency-Key", "Referer", "X-Author"] {
        assert_eq!(told(name), None, "{name}");
    }
}

/// Responses of `tests/responses` that are judged otherwise than by curl, and why.
const NOT_AS_CURL: [(&str, &str); 5] = [
    ("blank-lines-first", "RFC 9112, section 2.2, has clients skip them"),
    ("chunked-with-line-feeds", "RFC 9112, section 7.1, wants CR LF around a chunk"),
    ("field-without-colon", "browsers pass it over"),
    ("length-with-plus", "RFC 9110, section 8.6: digits"),
    ("transfer-unknown", "browsers read on to the end of the connection"),
];

/// Responses as servers send them, well and badly: each of `tests/responses` is judged as the installed curl judges it, which
/// is asked beside the probe. What curl takes and finds the text in is up; all else is down, but for [`NOT_AS_CURL`].
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "curl is the reference")]
async fn responses_are_judged_as_curl_judges_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/responses");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort_unstable();
    let net = plain();
    let mut differing = Vec::new();
    let mut up = 0;
    for file in &files {
        let address = serve(None, false, fs::read(file).expect("a response")).await;
        let url = format!("http://{address}/");
        let mut curl = std::process::Command::new("curl");
        curl.args(["-q", "--silent", "--http1.1", "--compressed", "--max-time", "20", "--noproxy", "*", &url]);
        let curl =
            tokio::task::spawn_blocking(move || curl.output()).await.expect("no panic").expect("curl is installed");
        let found = curl.status.success() && String::from_utf8_lossy(&curl.stdout).contains("welcome");
        let answer = ask(&net, "http", &format!("url = \"{url}\"\nstatus = \"100-599\"\ncontains = \"welcome\"")).await;
        let name = file.file_stem().unwrap_or_default().display().to_string();
        let alike = !NOT_AS_CURL.iter().any(|(known, _)| *known == name);
        if ((answer.reading == Reading::Up) == found) != alike {
            let code = curl.status.code();
            differing
                .push(format!("{name}: curl exits with {code:?}, found: {found}; the probe says: {}", answer.text));
        }
        up += usize::from(found);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(up >= 30 && files.len() - up >= 15, "{up} of {}", files.len());
}

/// The charset and the coding of a page make no difference to what it says.
#[tokio::test]
async fn texts_are_found_as_a_reader_sees_them() {
    let latin = |content_type: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: 9\r\n\r\n");
        [head.as_bytes(), b"Verf\xfcgbar"].concat()
    };
    for (body, contains, reading) in [
        (latin("text/html; charset=ISO-8859-1"), "Verfügbar", Reading::Up),
        (latin("text/html"), "Verfügbar", Reading::Up),
        (latin("text/html; charset=utf-8"), "Verfügbar", Reading::Down),
        (latin("text/html; charset=ISO-8859-1"), "Vergriffen", Reading::Down),
    ] {
        let address = serve(None, false, body).await;
        let answer = ask(&plain(), "http", &format!("url = \"http://{address}/\"\ncontains = \"{contains}\"")).await;
        assert_eq!(answer.reading, reading, "{contains}: {}", answer.text);
    }
}

/// Many servers end TLS by ending TCP. An answer with a length or chunks says by itself whether it is whole; one without is up,
/// as in a browser, with a note.
#[tokio::test]
async fn a_missing_close_notify_is_told_from_an_answer_that_was_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let authority = Authority::new();
    let net = authority.net();
    for (head, reading, text) in [
        ("Content-Length: 7", Reading::Up, "status 200 ("),
        ("X-Length: none", Reading::Up, "status 200; the TLS connection ended without close_notify"),
        ("Content-Length: 70", Reading::Down, "the connection ended after 7 of 70 bytes"),
        ("Transfer-Encoding: chunked", Reading::Down, "before the last chunk"),
    ] {
        let body = if head.starts_with("Transfer") { "7\r\nwelcome\r\n" } else { "welcome" };
        let said = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let server = authority.server("127.0.0.1", (2026, 12, 1), rustls::ALL_VERSIONS);
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(stream).await.expect("TLS");
            let mut heard = [0; 4096];
            assert!(stream.read(&mut heard).await.is_ok_and(|read| read > 0));
            stream.write_all(said.as_bytes()).await.expect("written");
            stream.flush().await.expect("written");
            stream.get_mut().0.shutdown().await.expect("ended");
        });
        let answer = ask(&net, "http", &format!("url = \"https://{address}/\"\ncontains = \"welcome\"")).await;
        assert_eq!(answer.reading, reading, "{head}: {}", answer.text);
        assert!(answer.text.contains(text), "`{text}` in: {}", answer.text);
        assert!(!answer.text.contains("http"), "{}", answer.text);
    }
}

/// Server-sent events have no end to wait for.
#[tokio::test]
async fn an_endless_answer_is_up_once_the_text_is_there() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 4096];
            assert!(stream.read(&mut heard).await.is_ok_and(|read| read > 0));
            let said = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: alive\n\n";
            stream.write_all(said.as_bytes()).await.expect("written");
            open.push(stream);
        }
    });
    // A text that must not come is told at once; that none comes can't be said without a text up to which it is read.
    for (keys, reading, text) in [
        ("contains = \"alive\"", Reading::Up, "status 200"),
        ("contains_not = \"alive\"", Reading::Down, "the body holds \"alive\""),
        ("contains = \"alive\"\ncontains_not = \"ERROR\"", Reading::Up, "status 200"),
        ("contains = \"well\"\ncontains_not = \"alive\"", Reading::Down, "the body holds \"alive\""),
        (
            "contains_not = \"ERROR\"\ntimeout = \"1 s\"",
            Reading::Down,
            "name a text in `contains` up to which it is read",
        ),
    ] {
        let answer = ask(&plain(), "http", &format!("url = \"http://{address}/\"\n{keys}")).await;
        assert_eq!(answer.reading, reading, "{keys}: {}", answer.text);
        assert!(answer.text.contains(text), "{keys}: {}", answer.text);
    }
}
