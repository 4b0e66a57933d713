//! Packets of the client/server protocol of MariaDB: three bytes of length, one that counts, and the payload.
//!
//! A payload of 16 MiB − 1 goes on in the next packet. Whole payloads are read within a bound; those of the binary log, which have
//! none, are read in parts ([`Packets::begin`], [`Packets::take`], [`Packets::finish`]).

use std::io;

use engine::printable;
use event::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Length of a packet that goes on in the next one.
const LENGTH_MAX: usize = 0xff_ffff;
/// Largest payload that is read whole.
pub(super) const PAYLOAD_MAX: usize = 1024 * 1024;
/// What is read from the kernel at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A conversation with a server failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    /// The connection can't be opened, or broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The server refuses.
    #[error("{message} (error {code})")]
    Refused {
        /// Its number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// What the server sends is not what the protocol says.
    #[error("what it sends is not as the protocol says: {0}")]
    Malformed(&'static str),
    /// The server says nothing.
    #[error("it has said nothing for {0}")]
    Silent(Span),
}

/// A dump can't go on (`ER_MASTER_FATAL_ERROR_READING_BINLOG`), for many reasons.
const DUMP_FAILED: u16 = 1236;

impl ProtocolError {
    /// Whether a file of the binary log ends in the middle of an event. The server says so in words alone (`send_events` of sql_repl.cc).
    pub(super) fn is_half_an_event(&self) -> bool {
        matches!(self, Self::Refused { code: DUMP_FAILED, message } if message.contains("truncated in the middle of event"))
    }
}

/// One end of a connection.
pub(super) struct Packets {
    stream: BufReader<UnixStream>,
    sequence: u8,
    /// Bytes of this packet that were not taken.
    left: usize,
    /// Whether the payload goes on in the next packet.
    continues: bool,
}

impl Packets {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER_BYTES, stream), sequence: 0, left: 0, continues: false }
    }

    /// Whether nothing that was read from the kernel waits here.
    pub(super) fn is_drained(&self) -> bool {
        self.stream.buffer().is_empty()
    }

    /// Begins a new exchange: packets are counted from 0.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
    }

    /// Writes a payload that fits into one packet.
    pub(super) async fn write(&mut self, payload: &[u8]) -> Result<(), ProtocolError> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() < LENGTH_MAX);
        let length = length.ok_or(ProtocolError::Malformed("what we send is longer than a packet"))?.to_le_bytes();
        let packet = [&length[..3], &[self.sequence], payload].concat();
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads a whole payload of [`PAYLOAD_MAX`] at most.
    pub(super) async fn read(&mut self) -> Result<Vec<u8>, ProtocolError> {
        self.begin().await?;
        let mut payload = Vec::new();
        while self.left > 0 {
            if payload.len() + self.left > PAYLOAD_MAX {
                return Err(ProtocolError::Malformed("a packet of this kind is never that long"));
            }
            self.take(self.left, &mut payload).await?;
            if self.left == 0 && self.continues {
                self.begin().await?;
            }
        }
        Ok(payload)
    }

    /// Begins to read a payload, of which `take` gives parts.
    pub(super) async fn begin(&mut self) -> Result<(), ProtocolError> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let [low, middle, high, sequence] = head;
        if sequence != self.sequence {
            return Err(ProtocolError::Malformed("a packet is missing"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.left = usize::try_from(u32::from_le_bytes([low, middle, high, 0])).unwrap_or(LENGTH_MAX);
        self.continues = self.left == LENGTH_MAX;
        Ok(())
    }

    /// Appends the next `count` bytes of the payload to `to`.
    pub(super) async fn take(&mut self, mut count: usize, to: &mut Vec<u8>) -> Result<(), ProtocolError> {
        while count > 0 {
            if self.left == 0 {
                if !self.continues {
                    return Err(ProtocolError::Malformed("a packet is shorter than what it holds"));
                }
                self.begin().await?;
                continue;
            }
            let part = count.min(self.left);
            let begin = to.len();
            to.resize(begin + part, 0);
            self.stream.read_exact(to.get_mut(begin..).unwrap_or_default()).await?;
            (self.left, count) = (self.left - part, count - part);
        }
        Ok(())
    }

    /// The rest of the payload, which is short: an error, or an end.
    pub(super) async fn rest(&mut self, to: &mut Vec<u8>) -> Result<(), ProtocolError> {
        if self.continues || self.left > PAYLOAD_MAX {
            return Err(ProtocolError::Malformed("a packet of this kind is never that long"));
        }
        self.take(self.left, to).await
    }

    /// Ends the payload: everything in it has been taken.
    pub(super) async fn finish(&mut self) -> Result<(), ProtocolError> {
        while self.left == 0 && self.continues {
            self.begin().await?;
        }
        if self.left > 0 {
            return Err(ProtocolError::Malformed("a packet is longer than what it holds"));
        }
        Ok(())
    }
}

/// The error that a payload holds, behind its first byte, which is 255.
pub(super) fn refused(payload: &[u8]) -> ProtocolError {
    let Some((code, text)) = payload.get(1..).and_then(<[u8]>::split_first_chunk::<2>) else {
        return ProtocolError::Malformed("an error without a number");
    };
    // The state of SQL, a `#` and five characters, says nothing that the number does not.
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    let message = printable::text(&String::from_utf8_lossy(text)).chars().take(500).collect();
    ProtocolError::Refused { code: u16::from_le_bytes(*code), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(bytes: &[u8]) -> (Packets, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(bytes).await.expect("written");
        (Packets::new(ours), theirs)
    }

    #[tokio::test]
    async fn payloads_are_read_as_they_were_written() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (mut writes, mut reads) = (Packets::new(ours), Packets::new(theirs));
        for payload in [&b"a"[..], b"", b"select 1"] {
            writes.write(payload).await.expect("written");
            assert_eq!(reads.read().await.expect("read"), payload);
        }
    }

    /// A payload of exactly one full packet has an empty one behind it.
    #[tokio::test]
    async fn a_long_payload_goes_on_in_the_next_packet() {
        for extra in [0, 1, 70_000] {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair");
            let payload: Vec<u8> = (0..=250).cycle().take(LENGTH_MAX + extra).collect();
            let mut wire = vec![0xff, 0xff, 0xff, 0];
            wire.extend(&payload[..LENGTH_MAX]);
            wire.extend(&u32::try_from(extra).expect("small").to_le_bytes()[..3]);
            wire.push(1);
            wire.extend(&payload[LENGTH_MAX..]);
            let write = async move { theirs.write_all(&wire).await.expect("written") };
            let read = async {
                let (mut packets, mut read) = (Packets::new(ours), Vec::new());
                packets.begin().await.expect("begun");
                for part in [1, 1_000_000, payload.len() - 1_000_001] {
                    packets.take(part, &mut read).await.expect("taken");
                }
                packets.finish().await.expect("finished");
                assert!(read == payload, "{extra}");
            };
            tokio::join!(write, read);
        }
    }

    #[tokio::test]
    async fn what_is_no_packet_is_refused() {
        let (mut packets, _end) = received(&[1, 0, 0, 3, b'a']).await;
        assert!(matches!(packets.read().await, Err(ProtocolError::Malformed("a packet is missing"))));
        let (mut packets, _end) = received(&[0xff, 0xff, 0xff, 0]).await;
        assert!(packets.read().await.expect_err("too long").to_string().contains("never that long"));
        let (mut packets, end) = received(&[5, 0, 0, 0, b'a']).await;
        drop(end);
        assert!(matches!(packets.read().await, Err(ProtocolError::Broken(_))));
        let (mut packets, _end) = received(&[2, 0, 0, 0, b'a', b'b']).await;
        packets.begin().await.expect("begun");
        packets.take(1, &mut Vec::new()).await.expect("taken");
        assert!(matches!(packets.finish().await, Err(ProtocolError::Malformed(_))), "longer");
        assert!(matches!(packets.take(2, &mut Vec::new()).await, Err(ProtocolError::Malformed(_))), "shorter");
        let said = refused(b"\xff\x15\x04#28000Access denied\n");
        assert_eq!(said.to_string(), "Access denied\\n (error 1045)");
        assert!(matches!(refused(b"\xff"), ProtocolError::Malformed(_)));
    }
}
