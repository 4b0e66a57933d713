//! The other side: a small server for HTTP and one for SMTP, which behave as they are told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    Http,
    Smtp,
}

/// What it does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Behaviour {
    /// Takes it over.
    Accept,
    /// Says that it never will.
    Refuse,
    /// Asks to be left alone for half a minute.
    Busy,
    /// Says that something in it is broken.
    Broken,
    /// Takes it, and is silent.
    Hang,
    /// Is silent from the start.
    HangAtOnce,
    /// Breaks off in the middle of its answer.
    Cut,
    /// Speaks no protocol.
    Nonsense,
    /// Leads elsewhere.
    Redirect(SocketAddr),
}

/// A message that it got.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    /// Request line and header fields; of mail its header fields.
    pub(super) head: String,
    /// The body.
    pub(super) body: String,
    /// The receiver of a mail.
    pub(super) to: String,
}

impl Recorded {
    /// The value of a header field, unfolded.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let unfolded = self.head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    hanging: Arc<Notify>,
}

#[derive(Clone)]
struct Shared {
    behaviour: Behaviour,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    hanging: Arc<Notify>,
}

impl TestServer {
    pub(super) async fn start(speaks: Speaks, behaviour: Behaviour) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Shared { behaviour, recorded: Arc::default(), hanging: Arc::default() };
        let server = Self { address, recorded: shared.recorded.clone(), hanging: shared.hanging.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                tokio::spawn(async move {
                    // The client may hang up whenever it likes.
                    drop(match speaks {
                        Speaks::Http => http(stream, shared).await,
                        Speaks::Smtp => smtp(stream, shared).await,
                    });
                });
            }
        });
        server
    }

    /// One that was there and is no more.
    pub(super) async fn gone() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test is the other side")]
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { address, recorded: Arc::default(), hanging: Arc::default() }
    }

    /// What it got since it was last asked.
    pub(super) fn recorded(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.recorded.lock().expect("not poisoned"))
    }

    /// Waits until it is silent.
    pub(super) async fn is_hanging(&self) {
        self.hanging.notified().await;
    }
}

impl Shared {
    async fn hang(&self) {
        self.hanging.notify_one();
        std::future::pending::<()>().await;
    }

    fn record(&self, recorded: Recorded) {
        self.recorded.lock().expect("not poisoned").push(recorded);
    }
}

async fn http(stream: TcpStream, shared: Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    if shared.behaviour == Behaviour::HangAtOnce {
        shared.hang().await;
    }
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let mut recorded = Recorded { head, body: String::new(), to: String::new() };
    let length = recorded.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    recorded.body = String::from_utf8(body).expect("UTF-8");
    let echo = format!("said by the server: {} {}", recorded.head.replace("\r\n", " "), recorded.body);
    let path = recorded.head.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.record(recorded);
    let whole = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = match shared.behaviour {
        Behaviour::Accept => whole("200 OK", &super::subjects::accepted(&path)),
        Behaviour::Refuse => whole("403 No", &echo),
        Behaviour::Busy => whole("429 Slowly\r\nRetry-After: 30", &echo),
        Behaviour::Broken => whole("503 Down", &echo),
        Behaviour::Redirect(to) => whole(&format!("307 There\r\nLocation: http://{to}/hook-path"), ""),
        Behaviour::Cut => "HTTP/1.1 200 O".to_owned(),
        Behaviour::Nonsense => "220 mx.shop.example ESMTP said by the server\r\n".to_owned(),
        Behaviour::Hang | Behaviour::HangAtOnce => {
            shared.hang().await;
            return Ok(());
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn smtp(stream: TcpStream, shared: Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    match shared.behaviour {
        Behaviour::HangAtOnce => shared.hang().await,
        Behaviour::Nonsense => return stream.write_all(b"HTTP/1.1 400 said by the server\r\n\r\n").await,
        _ => {}
    }
    stream.write_all(b"220-mx.shop.example\r\n220 said by the server\r\n").await?;
    let (mut from, mut to) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        assert!(line.ends_with("\r\n"), "{line:?}");
        let line = line.trim_end();
        let (command, rest) = line.split_once([' ', ':']).unwrap_or((line, ""));
        let answer = match (command, shared.behaviour) {
            ("EHLO", _) => {
                "250-mx.shop.example\r\n250-SIZE 10000000\r\n250-AUTH LOGIN PLAIN\r\n250 8BITMIME".to_owned()
            }
            ("AUTH", _) if rest == format!("PLAIN {PLAIN}") => "235 2.7.0 said by the server".to_owned(),
            ("AUTH", _) => format!("535 5.7.8 said by the server: {rest}"),
            ("MAIL", _) => {
                rest.clone_into(&mut from);
                "250 2.1.0 said by the server".to_owned()
            }
            ("RCPT", Behaviour::Refuse) => format!("550 5.1.1 said by the server: {rest}"),
            ("RCPT", Behaviour::Busy) => format!("450 4.2.0 said by the server: {rest}"),
            ("RCPT", _) => {
                rest.clone_into(&mut to);
                "250-2.1.5 said by the server\r\n250 2.1.5 yes".to_owned()
            }
            ("DATA", _) => "354 said by the server".to_owned(),
            ("QUIT", _) => return stream.write_all(b"221 2.0.0 bye\r\n").await,
            _ => "500 5.5.2 said by the server".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if command != "DATA" {
            continue;
        }
        let mut mail = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            assert!(line.ends_with("\r\n") && line.len() <= 1000, "{line:?}");
            if line == ".\r\n" {
                break;
            }
            mail.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
        let (head, body) = mail.split_once("\r\n\r\n").expect("a head and a body");
        assert!(!from.is_empty());
        let recorded = Recorded { head: format!("{head}\r\n"), body: body.to_owned(), to: to.clone() };
        match shared.behaviour {
            Behaviour::Hang => {
                shared.hang().await;
            }
            Behaviour::Cut => return stream.write_all(b"250 2.0").await,
            Behaviour::Broken => stream.write_all(b"451 4.3.0 said by the server\r\n").await?,
            _ => {
                shared.record(recorded);
                stream.write_all(b"250 2.0.0 said by the server\r\n").await?;
            }
        }
    }
}

/// `\0garant\0s3cret-password` in base 64.
const PLAIN: &str = "AGdhcmFudABzM2NyZXQtcGFzc3dvcmQ=";
