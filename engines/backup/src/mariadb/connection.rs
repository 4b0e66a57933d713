//! A connection to a server of MariaDB over its socket: handshake, authentication, queries in text.
//!
//! As whom: by `unix_socket`, where the server asks the kernel who connects, or by `mysql_native_password`, where a password is given
//! and never sent. Other plugins are refused with their name.

use std::time::Duration;

use engine::{Context, SecretError};
use event::Span;
use sha1::{Digest as _, Sha1};
use tokio::net::UnixStream;

use super::packets::{Packets, ProtocolError, refused};
use crate::Connection as Place;
use crate::sealed::hex;

/// How long a handshake may take.
const OPEN_WITHIN: Span = Span::from_secs(10);
/// How long a query may take.
const ANSWER_WITHIN: Span = Span::from_secs(60);
/// Most rows and columns of an answer.
const ROWS_MAX: usize = 100_000;
const COLUMNS_MAX: u64 = 256;
/// Most questions of a server before it lets us in.
const QUESTIONS_MAX: usize = 8;

/// What a client can, of which the server is told: long passwords, the protocol of 4.1, transactions, the authentication of 4.1, its
/// plugins.
const CAPABILITIES: u32 = 1 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
/// `utf8mb4_general_ci`.
const UTF8: u8 = 45;

const COM_QUERY: u8 = 3;
const OK: u8 = 0;
const ERROR: u8 = 255;
const END: u8 = 254;
const NULL: u8 = 251;

const NATIVE: &str = "mysql_native_password";

/// A row of an answer; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// A connection that was let in.
pub(super) struct Connection {
    pub(super) packets: Packets,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The server, or its socket.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The password can't be opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Nobody knows as whom to ask.
    #[error("who this process runs as has no name in /etc/passwd: name the `user`")]
    Nobody,
    /// The server asks for what we don't have.
    #[error(
        "it authenticates `{user}` by {plugin}, which is not spoken here: use unix_socket, or mysql_native_password"
    )]
    Plugin {
        /// The user.
        user: String,
        /// What it asks for.
        plugin: String,
    },
}

impl Connection {
    /// Connects and is let in.
    pub(super) async fn open(context: &Context, place: &Place) -> Result<Self, OpenError> {
        let password = match &place.password {
            Some(secret) => Some(context.secrets.open(&secret.secret()).await?),
            None => None,
        };
        let user = place.user.clone().or_else(own_name).ok_or(OpenError::Nobody)?;
        let opened = async {
            let stream = UnixStream::connect(&place.socket).await.map_err(ProtocolError::Broken)?;
            let mut packets = Packets::new(stream);
            let password = password.as_ref().map(engine::OpenedSecret::bytes);
            let_in(&mut packets, &user, password).await?;
            Ok(Self { packets })
        };
        in_time(OPEN_WITHIN, opened).await.unwrap_or(Err(ProtocolError::Silent(OPEN_WITHIN).into()))
    }

    /// The rows of the answer to a query.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, ProtocolError> {
        in_time(ANSWER_WITHIN, self.ask(sql, None)).await.unwrap_or(Err(ProtocolError::Silent(ANSWER_WITHIN)))
    }

    /// The first rows of the answer to a query that may take so long. The connection is at its end then.
    pub(super) async fn first_rows(mut self, sql: &str, within: Span, rows: usize) -> Result<Vec<Row>, ProtocolError> {
        in_time(within, self.ask(sql, Some(rows))).await.unwrap_or(Err(ProtocolError::Silent(within)))
    }

    async fn ask(&mut self, sql: &str, rows_wanted: Option<usize>) -> Result<Vec<Row>, ProtocolError> {
        self.packets.restart();
        self.packets.write(&[&[COM_QUERY], sql.as_bytes()].concat()).await?;
        let first = self.packets.read().await?;
        let mut reader = Reader(&first);
        let columns = match first.first() {
            Some(&OK) => return Ok(Vec::new()),
            Some(&ERROR) => return Err(refused(&first)),
            _ => reader.length().filter(|columns| (1..=COLUMNS_MAX).contains(columns)),
        };
        let columns = columns.ok_or(ProtocolError::Malformed("an answer without columns"))?;
        for _ in 0..=columns {
            // Their definitions, and the end of them.
            self.packets.read().await?;
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.packets.read().await?;
            match packet.first() {
                Some(&ERROR) => return Err(refused(&packet)),
                Some(&END) if packet.len() < 9 => return Ok(rows),
                _ if rows_wanted.is_some_and(|wanted| rows.len() >= wanted) => return Ok(rows),
                _ if rows.len() >= ROWS_MAX => return Err(ProtocolError::Malformed("an answer is too long")),
                _ => {}
            }
            let mut reader = Reader(&packet);
            let row: Option<Row> = (0..columns).map(|_| reader.value()).collect();
            rows.push(row.ok_or(ProtocolError::Malformed("a row ends before its time"))?);
        }
    }

    /// The first value of the first row; empty where there is none.
    pub(super) async fn value(&mut self, sql: &str) -> Result<String, ProtocolError> {
        let rows = self.query(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default())
    }
}

async fn in_time<T>(within: Span, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_micros(within.micros().unsigned_abs()), work).await.ok()
}

/// The name of whom this process runs as.
pub(super) fn own_name() -> Option<String> {
    let own = rustix::process::geteuid().as_raw().to_string();
    name_of(&std::fs::read_to_string("/etc/passwd").ok()?, &own)
}

fn name_of(passwd: &str, number: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

/// The handshake: <https://mariadb.com/kb/en/connection/>.
async fn let_in(packets: &mut Packets, user: &str, password: Option<&[u8]>) -> Result<(), OpenError> {
    let greeting = packets.read().await?;
    if greeting.first() == Some(&ERROR) {
        return Err(refused(&greeting).into());
    }
    let (scramble, plugin) = greeted(&greeting).ok_or(ProtocolError::Malformed("its greeting"))?;
    // What the server proposes is a guess: it knows the user's plugin once it knows the user.
    let answer = if plugin == NATIVE { native(password, &scramble) } else { Vec::new() };
    let mut hello = CAPABILITIES.to_le_bytes().to_vec();
    hello.extend(0x00ff_ffff_u32.to_le_bytes());
    hello.push(UTF8);
    hello.extend([0; 23]);
    hello.extend([user.as_bytes(), &[0]].concat());
    hello.push(u8::try_from(answer.len()).unwrap_or(0));
    hello.extend(answer);
    hello.extend([NATIVE.as_bytes(), &[0]].concat());
    packets.write(&hello).await?;
    for _ in 0..QUESTIONS_MAX {
        let packet = packets.read().await?;
        match packet.split_first() {
            Some((&OK, _)) => return Ok(()),
            Some((&ERROR, _)) => return Err(refused(&packet).into()),
            Some((&END, rest)) => {
                let mut reader = Reader(rest);
                let plugin = reader.word().ok_or(ProtocolError::Malformed("a question without a plugin"))?;
                let scramble = reader.0.strip_suffix(&[0]).unwrap_or(reader.0);
                let answer = match plugin.as_str() {
                    NATIVE => native(password, scramble),
                    "unix_socket" | "auth_socket" | "" => Vec::new(),
                    _ => return Err(OpenError::Plugin { user: user.to_owned(), plugin }),
                };
                packets.write(&answer).await?;
            }
            _ => return Err(ProtocolError::Malformed("a question that is none").into()),
        }
    }
    Err(ProtocolError::Malformed("it goes on asking who we are").into())
}

/// The scramble of a greeting, and the plugin that it proposes.
fn greeted(greeting: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut reader = Reader(greeting);
    if reader.bytes(1)? != [10] {
        return None;
    }
    reader.word()?;
    reader.bytes(4)?;
    let mut scramble = reader.bytes(8)?.to_vec();
    // A zero, capabilities, character set, status, capabilities.
    reader.bytes(1 + 2 + 1 + 2 + 2)?;
    let length = usize::from(*reader.bytes(1)?.first()?);
    reader.bytes(10)?;
    let rest = reader.bytes(length.saturating_sub(8).max(13))?;
    scramble.extend(rest.strip_suffix(&[0]).unwrap_or(rest));
    Some((scramble, reader.word().unwrap_or_default()))
}

/// What proves the knowledge of a password: SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password))).
fn native(password: Option<&[u8]>, scramble: &[u8]) -> Vec<u8> {
    let Some(password) = password else { return Vec::new() };
    let once = Sha1::digest(password);
    let mut hash = Sha1::new();
    hash.update(scramble);
    hash.update(Sha1::digest(once));
    once.iter().zip(hash.finalize()).map(|(a, b)| a ^ b).collect()
}

/// What the server keeps of a password.
pub(super) fn password_hash(password: &str) -> String {
    format!("*{}", hex(&Sha1::digest(Sha1::digest(password))).to_uppercase())
}

/// Reads the parts of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A text that ends with a zero, or with the payload.
    fn word(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let word = self.bytes(end.unwrap_or(self.0.len()))?;
        if end.is_some() {
            self.bytes(1)?;
        }
        Some(String::from_utf8_lossy(word).into_owned())
    }

    /// A number of one byte, or of two, three or eight behind a byte that says so.
    fn length(&mut self) -> Option<u64> {
        let count = match *self.bytes(1)?.first()? {
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            NULL | ERROR => return None,
            small => return Some(u64::from(small)),
        };
        let mut number = [0; 8];
        number.get_mut(..count)?.copy_from_slice(self.bytes(count)?);
        Some(u64::from_le_bytes(number))
    }

    /// A value of a row.
    #[expect(clippy::option_option, reason = "a row that ends, and NULL")]
    fn value(&mut self) -> Option<Option<String>> {
        if self.0.first() == Some(&NULL) {
            self.bytes(1)?;
            return Some(None);
        }
        let length = usize::try_from(self.length()?).ok()?;
        Some(Some(String::from_utf8_lossy(self.bytes(length)?).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read() {
        let mut greeting = b"\x0a5.5.5-10.11.19-MariaDB\0".to_vec();
        greeting.extend(7_u32.to_le_bytes());
        greeting.extend(b"abcdefgh\0");
        greeting.extend([0xfe, 0xff, 45, 2, 0, 0xff, 0x81, 21]);
        greeting.extend([0; 10]);
        greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
        assert_eq!(greeted(&greeting), Some((b"abcdefghijklmnopqrst".to_vec(), NATIVE.to_owned())));
        for length in 0..60 {
            assert_eq!(greeted(&greeting[..length]), None, "{length}");
        }
        assert_eq!(greeted(b"\x09old"), None);
    }

    /// The hash that the server keeps is SHA1(SHA1(password)): what is sent, and it, give SHA1(password).
    #[test]
    fn a_password_is_proved_and_not_sent() {
        let scramble = b"abcdefghijklmnopqrst";
        let answer = native(Some(b"secret"), scramble);
        let kept = Sha1::digest(Sha1::digest(b"secret"));
        let mut hash = Sha1::new();
        hash.update(scramble);
        hash.update(kept);
        let once: Vec<u8> = answer.iter().zip(hash.finalize()).map(|(a, b)| a ^ b).collect();
        assert_eq!(Sha1::digest(&once), kept);
        assert!(native(None, scramble).is_empty());
        assert_eq!(password_hash("secret"), "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7");
    }

    #[test]
    fn values_are_read_within_their_row() {
        let mut reader = Reader(b"\x02ab\xfb\x00\xfc\x03\x00abc\xfc\xff\xff");
        let read: Vec<_> = (0..5).map(|_| reader.value()).collect();
        let text = |text: &str| Some(Some(text.to_owned()));
        assert_eq!(read, [text("ab"), Some(None), text(""), text("abc"), None]);
        assert_eq!(name_of("root:x:0:0::/:\ngarant:x:104:1::/:", "104").as_deref(), Some("garant"));
        assert_eq!(name_of("root:x:0:0::/:", "1"), None);
    }
}
