//! A client of HTTP/1.1 without any library, with a deadline on everything: a gate that hangs can't pass.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Deadline of every read and write.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// A connection.
pub(super) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    /// Connects to a port of loopback; `None` where nobody listens.
    pub(super) fn connect(port: u16) -> Option<Self> {
        Self::within(port, DEADLINE)
    }

    /// The same with another deadline.
    pub(super) fn within(port: u16, deadline: Duration) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), deadline).ok()?;
        stream.set_read_timeout(Some(deadline)).ok()?;
        stream.set_write_timeout(Some(deadline)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, input: Vec::new() })
    }

    pub(super) fn send(&mut self, text: &str) {
        // What was refused meanwhile shows in the reply.
        drop(self.stream.write_all(text.as_bytes()));
    }

    /// Sends bytes; whether they were taken.
    pub(super) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            // What the kernel says to a read with a deadline when the process was stopped and goes on (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Ok(0) | Err(_) => false,
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                true
            }
        }
    }

    /// So many bytes, or fewer where the connection ends.
    pub(super) fn read(&mut self, bytes: usize) -> Vec<u8> {
        while self.input.len() < bytes && self.fill() {}
        let there = bytes.min(self.input.len());
        self.input.drain(..there).collect()
    }

    pub(super) fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.input)
    }

    /// A head with its end, empty where the connection ends first.
    pub(super) fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return String::from_utf8_lossy(&head).into_owned();
            }
            if !self.fill() {
                return String::new();
            }
        }
    }

    /// The reply to this request.
    pub(super) fn ask(&mut self, request: &str) -> Reply {
        self.send(request);
        reply(self)
    }

    /// The reply to a `HEAD`.
    pub(super) fn ask_head(&mut self, request: &str) -> Reply {
        self.send(request);
        self.reply(true).expect("a reply")
    }

    /// The next reply; `None` where the connection ends in the middle of it, or before.
    pub(super) fn reply(&mut self, is_head: bool) -> Option<Reply> {
        loop {
            let head = self.head();
            let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
            if status == 100 {
                continue;
            }
            let mut reply = Reply { status, head, body: Vec::new() };
            if is_head || matches!(status, 204 | 304) {
                return Some(reply);
            }
            if reply.field("transfer-encoding").is_some() {
                loop {
                    let size = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
                    let data = self.read(size + 2);
                    if data.len() < size + 2 {
                        return None;
                    }
                    if size == 0 {
                        return Some(reply);
                    }
                    reply.body.extend_from_slice(&data[..size]);
                }
            }
            let Some(length) = reply.field("content-length") else {
                reply.body = self.read_to_end();
                return Some(reply);
            };
            let length: usize = length.parse().ok()?;
            reply.body = self.read(length);
            return (reply.body.len() == length).then_some(reply);
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return String::from_utf8(line).ok();
            }
            if !self.fill() {
                return None;
            }
        }
    }
}

/// The next reply.
pub(super) fn reply(client: &mut Client) -> Reply {
    client.reply(false).expect("a whole reply within the deadline")
}

/// The status of the reply to one request on a connection of its own; 0 where it ends without one.
pub(super) fn exchange(port: u16, request: &str) -> u16 {
    let Some(mut client) = Client::connect(port) else { return 0 };
    client.send(request);
    client.reply(false).map_or(0, |reply| reply.status)
}
