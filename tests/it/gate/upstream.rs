//! Servers behind the gate: nginx of one process, and one that records what it hears.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::harness::{command, eventually, free_port};

/// An nginx in a region: on 127.REGION.0.1.
pub(super) struct Upstream {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl Upstream {
    pub(super) fn start(region: u8) -> Self {
        let address = SocketAddr::from(([127, region, 0, 1], free_port()));
        let folder = tempfile::Builder::new().prefix("garant-upstream-").tempdir().expect("a folder");
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; gzip on; gzip_types text/plain; gzip_min_length 1; default_type text/plain;\n\
             client_body_temp_path {at}/body; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;\n\
             scgi_temp_path {at}/s; root {at}; keepalive_requests 100000; client_max_body_size 0;\n\
             server {{ listen {address};\n\
             location = /echo {{ return 200 \"uri=$request_uri host=$http_host for=$http_x_forwarded_for \
             proto=$http_x_forwarded_proto evil=$http_x_evil length=$http_content_length\\n\"; }}\n\
             location = /who {{ return 200 \"{region}\"; }}\n\
             location = /nth {{ return 200 \"$connection_requests\"; }}\n\
             location = /health {{ return 200 \"well\"; }}\n\
             location = /chunked {{ return 200 \"{}\"; }}\n\
             location = /bad {{ return 503 \"bad\"; }}\n}} }}\n",
            "long ".repeat(500)
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("written");
        let big: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251).to_le_bytes()[0]).collect();
        std::fs::write(folder.path().join("big"), big).expect("written");
        let mut upstream = Self { folder, address, child: None };
        upstream.run();
        upstream
    }

    /// Starts it again.
    pub(super) fn run(&mut self) {
        let mut nginx = command("nginx");
        nginx.arg("-p").arg(self.folder.path()).args(["-e", "error.log", "-c", "nginx.conf"]).stderr(Stdio::null());
        self.child = Some(nginx.spawn().expect("nginx starts; scripts/test installs it"));
        eventually("nginx to listen", || connects(self.address).then_some(()));
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it: connections are reset, new ones refused.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL works on one that is stopped too.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// `STOP`, `CONT`.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = command("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test asks over the network")]
pub(super) fn connects(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// The number of the process that was started with these arguments in a row.
pub(super) fn process_with(arguments: &[&str]) -> String {
    process_of(arguments).expect("such a process")
}

/// The same; the newest where there are several, and `None` where there is none.
pub(super) fn process_of(arguments: &[&str]) -> Option<String> {
    let wanted: Vec<u8> = arguments.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let found = processes.filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.windows(wanted.len().max(1)).any(|window| window == wanted)
    });
    let numbers = found.filter_map(|process| process.file_name().to_string_lossy().parse::<u32>().ok());
    numbers.max().map(|number| number.to_string())
}

/// A server that answers every request head with the same bytes, and keeps what it hears.
pub(super) struct Recorder {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    answered: Arc<AtomicUsize>,
    left: Arc<AtomicUsize>,
}

impl Recorder {
    pub(super) fn start(answer: &'static str) -> Self {
        Self::answering(answer, |_| true)
    }

    /// One that answers once a request is whole, with its body.
    pub(super) fn answering_whole_requests(answer: &'static str) -> Self {
        Self::answering(answer, is_whole)
    }

    fn answering(answer: &'static str, is_whole: fn(&[u8]) -> bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let answered: Arc<AtomicUsize> = Arc::default();
        let left: Arc<AtomicUsize> = Arc::default();
        let (kept, counted, ended) = (Arc::clone(&heard), Arc::clone(&answered), Arc::clone(&left));
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, counted, ended) = (Arc::clone(&kept), Arc::clone(&counted), Arc::clone(&ended));
                drop(std::thread::spawn(move || {
                    if record(stream, answer, is_whole, &kept, &counted) {
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
        }));
        Self { address, heard, answered, left }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it has heard.
    pub(super) fn heard(&self) -> String {
        let heard = self.heard.lock().expect("nothing panics there");
        heard.iter().fold(String::new(), |mut text, byte| {
            match byte {
                b'\r' | b'\n' | b' '..=b'~' => text.push(char::from(*byte)),
                other => _ = write!(text, "\\x{other:02x}"),
            }
            text
        })
    }

    /// Forgets what it has heard.
    pub(super) fn forget(&self) {
        self.heard.lock().expect("nothing panics there").clear();
        self.answered.store(0, Ordering::Relaxed);
    }

    /// Connections that have sent something and ended.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether it has answered since then.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed) > 0
    }
}

/// Whether a head and its body are there.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        let body = String::from_utf8_lossy(&bytes[end + 2..]).into_owned();
        return body.contains("\r\n0\r\n") && body.ends_with("\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    bytes.len() >= end + 4 + length.unwrap_or(0)
}

/// Serves a connection to its end; whether it has sent something.
fn record(
    mut stream: TcpStream,
    answer: &str,
    is_whole: fn(&[u8]) -> bool,
    heard: &Mutex<Vec<u8>>,
    counted: &AtomicUsize,
) -> bool {
    let (mut buffer, mut mine, mut answered) = ([0; 8 * 1024], Vec::new(), 0);
    while let Ok(bytes) = stream.read(&mut buffer) {
        if bytes == 0 {
            break;
        }
        mine.extend_from_slice(&buffer[..bytes]);
        heard.lock().expect("nothing panics there").extend_from_slice(&buffer[..bytes]);
        let heads = mine.windows(4).filter(|window| window == b"\r\n\r\n").count();
        while answered < heads && is_whole(&mine) {
            answered += 1;
            counted.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(answer.as_bytes()).is_err() {
                return true;
            }
        }
    }
    !mine.is_empty()
}

/// A server of WebSocket that sends every byte back, and keeps what it hears.
pub(super) struct Echo {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    pub(super) fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a counterpart of a test")]
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&heard);
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                drop(std::thread::spawn(move || echo(stream, &kept)));
            }
        }));
        Self { address, heard }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("nothing panics there").clone()
    }
}

fn echo(mut stream: TcpStream, heard: &Mutex<Vec<u8>>) {
    let (mut buffer, mut head) = ([0; 8 * 1024], Vec::new());
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        if head.ends_with(b"\r\n\r\n") {
            heard.lock().expect("nothing panics there").extend_from_slice(&buffer[..bytes]);
            if stream.write_all(&buffer[..bytes]).is_err() {
                return;
            }
            continue;
        }
        head.extend_from_slice(&buffer[..bytes]);
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        if head.ends_with(b"\r\n\r\n") && stream.write_all(switch.as_bytes()).is_err() {
            return;
        }
    }
}
