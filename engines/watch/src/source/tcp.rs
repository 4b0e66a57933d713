//! The kind `tcp`: a port is open, and greets as it should.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Secrets;
use engine::net::{Deadline, Family, Target};
use engine::reason::Reason;
use policy::{HostPort, Section, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::source::sent::Sent;
use crate::source::{Answer, Asking, Common, Probe, Settings, family, reason};

/// How much of what the other side says is read in search of the expected text.
const READ_BYTES_MAX: usize = 4096;

/// `[[probe.tcp]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Tcp {
    common: Common,
    address: HostPort,
    family: Option<Family>,
    send: Option<Sent>,
    expect: Option<String>,
}

impl Section for Tcp {
    const ABOUT: &'static str = "A port that accepts connections, such as a database or a mail server; with `expect`, one that says \
        the right thing.";
    const EXAMPLE: &'static str = "[[probe.tcp]]\nname = \"mail-in\"\nservice = \"mail\"\naddress = \"mx.shop.example:25\"\n\
        expect = \"220 \"\n";

    fn read(table: &mut Table<'_>) -> Option<Self> {
        let common = Common::read_asked(table);
        let address: Option<HostPort> = table.required("address", "Host and port.");
        let family = family::read(table, address.as_ref().map(|address| &address.host));
        let about = "Text to send once connected, or `{ file = … }` or `{ credential = … }` for one that holds a secret; each end \
            of a line, `\\n`, is sent as CR LF.";
        let send = table.optional("send", about);
        let expect = table.optional("expect", "Text that must be in the first 4096 bytes of the answer.");
        Some(Self { common: common?, address: address?, family, send, expect })
    }
}

impl Settings for Tcp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn into_probe(self: Arc<Self>) -> Arc<dyn Probe> {
        let settings = Arc::unwrap_or_clone(self);
        let target = Target::tcp(settings.address.host.to_string(), settings.address.port);
        let target = Target { family: settings.family, ..target };
        Arc::new(Port { name: target.to_string(), target, send: settings.send, expect: settings.expect })
    }
}

struct Port {
    name: String,
    target: Target,
    send: Option<Sent>,
    expect: Option<String>,
}

impl Port {
    /// Says what is to be sent, and listens for what is expected.
    async fn talk(&self, stream: &mut engine::net::Stream, send: &[u8]) -> Result<(), (String, Reason)> {
        let silent = |text: String| (text.clone(), Reason::NoAnswer { said: text });
        if !send.is_empty() {
            stream.write_all(send).await.map_err(|error| silent(format!("nothing can be sent: {error}")))?;
        }
        let Some(expect) = &self.expect else { return Ok(()) };
        let mut heard = Vec::new();
        loop {
            let room = READ_BYTES_MAX - heard.len();
            let read = stream.take(room as u64).read_buf(&mut heard).await;
            let read = read.map_err(|error| silent(format!("nothing can be read: {error}")))?;
            if heard.windows(expect.len()).any(|window| window == expect.as_bytes()) {
                return Ok(());
            }
            if read == 0 {
                let text =
                    format!("it accepts the connection, but {} bytes do not hold the expected text", heard.len());
                return Err((text, Reason::GreetingMissing));
            }
        }
    }
}

#[async_trait]
impl Probe for Port {
    async fn ask(&self, asking: &Asking<'_>) -> Answer {
        let deadline = Deadline::within(asking.timeout);
        let send = match &self.send {
            None => Zeroizing::default(),
            Some(send) => match send.open(asking.secrets).await {
                Ok(text) => with_crlf(&text),
                Err(error) => return Answer::unknown(error.to_string()),
            },
        };
        let mut dialed = match asking.net.dial(&self.target, deadline).await {
            Ok(dialed) => dialed,
            Err(error) => return reason::no_connection(&error),
        };
        match deadline.run(self.talk(&mut dialed.stream, &send)).await {
            Some(Ok(())) => Answer::up(format!("{} accepts connections", dialed.remote)),
            Some(Err((error, reason))) => Answer::down(error).because(vec![reason]),
            None => Answer::down(format!(
                "it accepts the connection, but does not say the expected text within {}",
                asking.timeout
            ))
            .because(vec![Reason::GreetingMissing]),
        }
    }

    fn target(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn warnings(&self) -> Vec<String> {
        self.send.iter().filter_map(|send| send.warning(&Secrets::of_system())).collect()
    }
}

/// A text with each end of a line as protocols of the internet write it.
fn with_crlf(text: &[u8]) -> Zeroizing<Vec<u8>> {
    // In one piece of memory: a buffer that grows leaves copies that nobody wipes.
    let mut sent = Zeroizing::new(Vec::with_capacity(2 * text.len()));
    for &byte in text {
        if byte == b'\n' {
            sent.push(b'\r');
        }
        sent.push(byte);
    }
    sent
}

#[cfg(test)]
mod tests;
