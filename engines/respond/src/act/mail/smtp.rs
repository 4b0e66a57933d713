//! One mail over SMTP (RFC 5321), to one receiver.
//!
//! TLS that is asked for is never given up: a server that does not offer STARTTLS gets nothing. What a server says is read as
//! numbers only, its code and its enhanced code (RFC 3463), for its words quote addresses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::OpenedSecret;
use engine::net::{Deadline, DialError, Net, Stream, Target, Tls, Verify};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{Encryption, MailAddress, Server, is_loopback};
use crate::act::Sent;

/// Longest answer, in bytes; that to EHLO is the longest.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// What is delivered.
pub(super) struct Envelope<'a> {
    /// Who sends.
    pub(super) from: &'a MailAddress,
    /// Who receives.
    pub(super) to: &'a MailAddress,
    /// The message.
    pub(super) mail: &'a [u8],
    /// Name and password.
    pub(super) login: Option<(&'a str, OpenedSecret)>,
}

/// Hands the mail over, all of it by `deadline`. The server has it when this says so, and only then.
pub(super) async fn deliver(
    server: &Server,
    envelope: &Envelope<'_>,
    net: &Net,
    deadline: Deadline,
) -> Result<(), Sent> {
    let host = server.address.host.to_string();
    let again = |reason: String| Sent::Again { reason: format!("{host}: {reason}"), after: None };
    let target = Target::tcp(host.clone(), server.address.port);
    let tls = Tls { server_name: None, alpn: Vec::new(), verify: Verify::Require };
    let name = target.host.clone();
    let target = Target { tls: (server.encryption == Encryption::Tls).then(|| tls.clone()), ..target };
    let dialed = net.dial(&target, deadline).await.map_err(|error| again(dial_words(&error, server)))?;
    let mut session = Session { stream: dialed.stream, read: Vec::new(), doing: "greeting", host: &host, deadline };

    session.expect(2).await?;
    let mut offers = session.hello(server).await?;
    if server.encryption == Encryption::StartTls {
        if !offers.has("STARTTLS") {
            return Err(again(format!(
                "it does not offer STARTTLS, and gets no mail in clear{}",
                local_remedy(server)
            )));
        }
        session.say("STARTTLS", "STARTTLS").await?;
        session.expect(2).await?;
        if !session.read.is_empty() {
            return Err(again("it went on in clear after STARTTLS: somebody may have put words in".to_owned()));
        }
        let Stream::Tcp(stream) = session.stream else { return Err(again("TLS within TLS".to_owned())) };
        let started = net.start_tls(stream, &name, &tls, deadline).await;
        let (stream, _) = started.map_err(|error| again(dial_words(&error, server)))?;
        session = Session { stream, read: Vec::new(), doing: "EHLO", host: &host, deadline };
        offers = session.hello(server).await?;
    }
    if let Some((user, password)) = &envelope.login {
        session.log_in(&offers, user, password).await?;
    }
    if offers.size_max().is_some_and(|max| max < envelope.mail.len()) {
        let reason = format!("{host} takes no mail of {} bytes: raise its limit", envelope.mail.len());
        return Err(Sent::Refused { reason });
    }
    session.say("MAIL FROM", &format!("MAIL FROM:<{}>", envelope.from.0)).await?;
    session.expect(2).await?;
    session.say("RCPT TO", &format!("RCPT TO:<{}>", envelope.to.0)).await?;
    session.expect(2).await?;
    session.say("DATA", "DATA").await?;
    session.expect(3).await?;
    session.doing = "the end of the mail";
    session.write(&stuffed(envelope.mail)).await?;
    session.expect(2).await?;
    // The mail is theirs now, whatever comes of saying goodbye.
    drop(session.say("QUIT", "QUIT").await);
    Ok(())
}

fn dial_words(error: &DialError, server: &Server) -> String {
    match error {
        DialError::Tls { .. } if server.encryption == Encryption::StartTls => {
            format!("{error}{}", local_remedy(server))
        }
        other => other.to_string(),
    }
}

fn local_remedy(server: &Server) -> &'static str {
    if is_loopback(&server.address.host) {
        "; for a server on this machine, `tls = \"none\"` in [mail] will do"
    } else {
        ""
    }
}

/// A connection in the middle of a conversation.
struct Session<'a> {
    stream: Stream,
    /// What came and was not looked at yet.
    read: Vec<u8>,
    doing: &'static str,
    host: &'a str,
    deadline: Deadline,
}

/// What the server offers, in answer to EHLO.
struct Offers(Vec<String>);

impl Offers {
    fn has(&self, keyword: &str) -> bool {
        self.parameters(keyword).is_some()
    }

    fn parameters(&self, keyword: &str) -> Option<&str> {
        self.0.iter().find_map(|line| {
            let (word, parameters) = line.split_once([' ', '=']).unwrap_or((line, ""));
            word.eq_ignore_ascii_case(keyword).then_some(parameters)
        })
    }

    /// The largest mail it takes; 0 says that there is no limit (RFC 1870).
    fn size_max(&self) -> Option<usize> {
        self.parameters("SIZE")?.trim().parse().ok().filter(|&max| max > 0)
    }
}

/// An answer.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Session<'_> {
    fn again(&self, reason: &str) -> Sent {
        Sent::Again { reason: format!("{}: {reason}, during {}", self.host, self.doing), after: None }
    }

    /// Sends a command.
    async fn say(&mut self, doing: &'static str, command: &str) -> Result<(), Sent> {
        self.doing = doing;
        self.write(format!("{command}\r\n").as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Sent> {
        let stream = &mut self.stream;
        let written = self.deadline.run(async { stream.write_all(bytes).await.and(stream.flush().await) }).await;
        match written {
            Some(Ok(())) => Ok(()),
            // It may have said why before it closed.
            Some(Err(_)) => Err(self.reply().await.map_or_else(|sent| sent, |reply| self.refused(&reply))),
            None => Err(self.late()),
        }
    }

    fn late(&self) -> Sent {
        self.again(&format!("not done after {}", self.deadline.span()))
    }

    /// Reads an answer whose code must begin with this digit.
    async fn expect(&mut self, digit: u16) -> Result<Reply, Sent> {
        let reply = self.reply().await?;
        if reply.code / 100 == digit { Ok(reply) } else { Err(self.refused(&reply)) }
    }

    /// What an unwanted answer means for the mail.
    fn refused(&self, reply: &Reply) -> Sent {
        let (host, doing, code) = (self.host, self.doing, reply.code);
        let enhanced =
            reply.lines.first().and_then(|line| enhanced(line)).map(|code| format!(" {code}")).unwrap_or_default();
        let reason = format!("{host} answers {code}{enhanced} to {doing}");
        if code / 100 != 5 {
            return Sent::Again { reason, after: None };
        }
        let remedy = match (code, doing) {
            (530, _) => "it wants a login: add `user` and `password` to [mail]",
            (534 | 535, _) => "check `user` and `password` of [mail]",
            (552, _) => "the mailbox is full, or the mail too large for it",
            (_, "RCPT TO") => {
                "it does not take mail for this person from here: check the address, and that it may be relayed"
            }
            (_, "MAIL FROM") => "it does not take mail of this sender: check `from` of [mail]",
            (554, "greeting") => "it does not speak to this machine",
            _ => "its log says why",
        };
        Sent::Refused { reason: format!("{reason}: {remedy}") }
    }

    async fn reply(&mut self) -> Result<Reply, Sent> {
        let mut lines = Vec::new();
        let mut total = 0;
        loop {
            let line = self.line(&mut total).await?;
            let (code, rest) = line.split_at_checked(3).unwrap_or(("", ""));
            let code: u16 = match code.parse() {
                Ok(code @ 200..600) => code,
                _ => return Err(self.again("what it says is no answer of SMTP")),
            };
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    async fn line(&mut self, total: &mut usize) -> Result<String, Sent> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                *total += line.len();
                if *total > REPLY_BYTES_MAX {
                    return Err(self.again("its answer does not end"));
                }
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.read.len() > REPLY_BYTES_MAX {
                return Err(self.again("its answer does not end"));
            }
            let mut bytes = [0; 1024];
            match self.deadline.run(self.stream.read(&mut bytes)).await {
                Some(Ok(0)) => return Err(self.again("it closed the connection")),
                Some(Ok(read)) => self.read.extend_from_slice(bytes.get(..read).unwrap_or_default()),
                Some(Err(_)) => return Err(self.again("the connection broke off")),
                None => return Err(self.late()),
            }
        }
    }

    async fn hello(&mut self, server: &Server) -> Result<Offers, Sent> {
        self.say("EHLO", &format!("EHLO {}", server.from.domain())).await?;
        let reply = self.expect(2).await?;
        Ok(Offers(reply.lines.into_iter().skip(1).collect()))
    }

    /// Logs in. The connection is over TLS, or to this machine: the policy sees to it.
    async fn log_in(&mut self, offers: &Offers, user: &str, password: &OpenedSecret) -> Result<(), Sent> {
        let mechanisms = offers.parameters("AUTH").unwrap_or_default().to_ascii_uppercase();
        let offered = |mechanism: &str| mechanisms.split_ascii_whitespace().any(|offered| offered == mechanism);
        if offered("PLAIN") {
            let plain = Zeroizing::new([b"\0", user.as_bytes(), b"\0", password.bytes()].concat());
            let line = Zeroizing::new(format!("AUTH PLAIN {}", &*Zeroizing::new(STANDARD.encode(&*plain))));
            self.say("AUTH", &line).await?;
        } else if offered("LOGIN") {
            self.say("AUTH", "AUTH LOGIN").await?;
            self.expect(3).await?;
            self.say("AUTH", &STANDARD.encode(user)).await?;
            self.expect(3).await?;
            self.say("AUTH", &Zeroizing::new(STANDARD.encode(password.bytes()))).await?;
        } else {
            let remedy = "allow PLAIN or LOGIN there, or remove `user` and `password` from [mail]";
            return Err(Sent::Refused { reason: format!("{} takes no password: {remedy}", self.host) });
        }
        self.expect(2).await.map(drop)
    }
}

/// The enhanced code at the start of an answer, such as `5.1.1`.
fn enhanced(line: &str) -> Option<&str> {
    let word = line.split(' ').next()?;
    let parts: Vec<&str> = word.split('.').collect();
    let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(number)).then_some(word)
}

/// The mail as DATA takes it: dots at the start of a line are doubled, and a lone one ends it (section 4.5.2).
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(mail.len() + 8);
    for line in mail.split_inclusive(|&byte| byte == b'\n') {
        if line.first() == Some(&b'.') {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b\r\n"), b"a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(stuffed(b"a"), b"a\r\n.\r\n");
    }

    #[test]
    fn enhanced_codes_are_numbers() {
        assert_eq!(enhanced("5.1.1 <lea@shop.example>: no such user"), Some("5.1.1"));
        assert_eq!(enhanced("lea@shop.example unknown"), None);
        assert_eq!(enhanced("1.2.3.4"), None);
    }
}
