//! The binary log as a replica receives it, judged event by event.
//!
//! The server sends what its files hold, from a place on, then waits and says every second that nothing has come. Between the files
//! it sends events of its own, which are in none. What is given on here is what the files hold, byte for byte, their first four bytes
//! included: each event has its length, its place behind the one before, and its checksum, or the conversation ends with an error.

use event::{Span, Time};

use super::connection::Connection;
use super::events::{self, CHECKSUM_BYTES, Format, Gtid, HEADER_BYTES, Header, MAGIC};
use super::packets::{ProtocolError, refused};

const COM_BINLOG_DUMP: u8 = 0x12;
/// Flag of a dump that ends where the log ends, instead of waiting.
const NON_BLOCK: u16 = 1;
/// Flag of a dump with the statements that rows came from: they are in the file.
const ANNOTATE: u16 = 2;
/// How often the server says that nothing has come.
const HEARTBEAT_EVERY: Span = Span::from_secs(1);
/// How long the server may say nothing at all.
const SILENT_MAX: Span = Span::from_secs(20);
/// An event up to this length is judged before it is given on; of a longer one parts are.
const PART_BYTES: usize = 1024 * 1024;

/// Something of the log was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Received {
    /// What follows is of this file, from `at` on.
    File {
        /// Its name.
        name: String,
        /// Its number.
        number: u32,
        /// What it says of itself.
        format: Box<Format>,
        /// Where what follows begins.
        at: u64,
    },
    /// [`Dump::bytes`] are the next ones of the file.
    Bytes {
        /// Whether an event begins with them.
        begins: bool,
        /// The transaction that begins with them, with its second.
        gtid: Option<(Gtid, Time)>,
    },
    /// Nothing has come for a second.
    Nothing,
    /// The log ends here; of a dump that does not wait.
    End,
}

/// A dump of the binary log.
pub(super) struct Dump {
    connection: Connection,
    name: String,
    number: u32,
    /// Behind what was given on.
    position: u64,
    format: Option<Format>,
    /// What [`Self::bytes`] gives.
    part: Vec<u8>,
    /// Of an event of which parts were given: what is left, and the checksum so far.
    rest: Option<(u64, crc32fast::Hasher)>,
    /// The first bytes of a file, when its name was given and they were not.
    start_is_due: bool,
}

impl Dump {
    /// Begins a dump of the file `name` at `from`, as the replica with this number; with `waits` it goes on where the log ends now.
    ///
    /// At 0 and in the first bytes of a file it begins with the file; a place that does not fit into 32 bits can't be asked for, and
    /// the dump begins with the file too.
    pub(super) async fn begin(
        mut connection: Connection,
        replica: u32,
        name: &str,
        from: u64,
        waits: bool,
    ) -> Result<Self, ProtocolError> {
        let heartbeat = HEARTBEAT_EVERY.micros().saturating_mul(1000);
        for setting in [
            "SET @mariadb_slave_capability = 4".to_owned(),
            // Events are to come as they are in the file, with their checksums.
            "SET @master_binlog_checksum = 'CRC32'".to_owned(),
            format!("SET @master_heartbeat_period = {heartbeat}"),
        ] {
            connection.query(&setting).await?;
        }
        let from = u32::try_from(from).unwrap_or(0).max(4);
        let flags = if waits { ANNOTATE } else { ANNOTATE | NON_BLOCK };
        let mut command = vec![COM_BINLOG_DUMP];
        command.extend(from.to_le_bytes());
        command.extend(flags.to_le_bytes());
        command.extend(replica.to_le_bytes());
        command.extend(name.as_bytes());
        connection.packets.restart();
        connection.packets.write(&command).await?;
        Ok(Self {
            connection,
            name: String::new(),
            number: 0,
            position: 0,
            format: None,
            part: Vec::new(),
            rest: None,
            start_is_due: false,
        })
    }

    /// The bytes that [`Received::Bytes`] tells of.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.part
    }

    /// Whether the next one has to come from the server.
    pub(super) fn is_drained(&self) -> bool {
        self.connection.packets.is_drained() && !self.start_is_due
    }

    /// The number of the file.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Where the bytes end.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Result<Received, ProtocolError> {
        let received = tokio::time::timeout(SILENT_MAX.to_std(), self.receive()).await;
        received.unwrap_or(Err(ProtocolError::Silent(SILENT_MAX)))
    }

    async fn receive(&mut self) -> Result<Received, ProtocolError> {
        if std::mem::take(&mut self.start_is_due) {
            let event = self.format.as_ref().map(|format| format.event.clone()).unwrap_or_default();
            self.part = [&MAGIC[..], &event].concat();
            self.position = self.part.len() as u64;
            return Ok(Received::Bytes { begins: true, gtid: None });
        }
        if let Some((left, sum)) = self.rest.take() {
            return self.part_of_event(left, sum, false).await;
        }
        loop {
            self.part.clear();
            let packets = &mut self.connection.packets;
            packets.begin().await?;
            packets.take(1, &mut self.part).await?;
            match self.part.first() {
                Some(0) => self.part.clear(),
                Some(255) => {
                    packets.rest(&mut self.part).await?;
                    return Err(refused(&self.part));
                }
                Some(254) => {
                    packets.rest(&mut self.part).await?;
                    return Ok(Received::End);
                }
                _ => return Err(ProtocolError::Malformed("an event that is none")),
            }
            packets.take(HEADER_BYTES, &mut self.part).await?;
            let header = Header::parse(&self.part).ok_or(ProtocolError::Malformed("the header of an event"))?;
            let received = if header.is_artificial() || header.kind == events::HEARTBEAT {
                self.made_for_us(header).await?
            } else {
                Some(self.of_file(header).await?)
            };
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    /// The whole event of `header`, which was taken already, into the part.
    async fn whole(&mut self, header: Header) -> Result<(), ProtocolError> {
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if size > PART_BYTES {
            return Err(ProtocolError::Malformed("an event of this kind is never that long"));
        }
        self.connection.packets.take(size - HEADER_BYTES, &mut self.part).await?;
        self.connection.packets.finish().await
    }

    /// An event that is in no file.
    async fn made_for_us(&mut self, header: Header) -> Result<Option<Received>, ProtocolError> {
        self.whole(header).await?;
        match header.kind {
            events::ROTATE => {
                let (name, at) = events::rotation(&self.part).ok_or(ProtocolError::Malformed("the name of a file"))?;
                let number = events::file_number(&name).unwrap_or(0);
                // Files follow each other without a gap, from their start; only the first may begin elsewhere.
                if !self.name.is_empty() && (number != self.number.saturating_add(1) || at != MAGIC.len() as u64) {
                    return Err(ProtocolError::Malformed("a file of the binary log is left out"));
                }
                (self.name, self.number, self.position, self.format) = (name, number, at, None);
                Ok(None)
            }
            events::FORMAT_DESCRIPTION => self.file().map(Some),
            events::HEARTBEAT if header.end == low(self.position) => Ok(Some(Received::Nothing)),
            events::HEARTBEAT => Err(ProtocolError::Malformed("it has sent less than it says")),
            events::START_ENCRYPTION => Err(ProtocolError::Malformed("the binary log is encrypted (encrypt_binlog)")),
            // What is in no file is in no copy of it.
            _ => Ok(None),
        }
    }

    fn file(&mut self) -> Result<Received, ProtocolError> {
        let format = Format::parse(&self.part).ok_or(ProtocolError::Malformed("the first event of a file"))?;
        self.format = Some(format.clone());
        Ok(Received::File { name: self.name.clone(), number: self.number, format: Box::new(format), at: self.position })
    }

    /// An event of the file.
    async fn of_file(&mut self, header: Header) -> Result<Received, ProtocolError> {
        if header.end != low(self.position.saturating_add(u64::from(header.size))) {
            return Err(ProtocolError::Malformed("an event is not where the one before it ends"));
        }
        if header.kind == events::FORMAT_DESCRIPTION && self.position == MAGIC.len() as u64 {
            self.whole(header).await?;
            self.position = 0;
            self.start_is_due = true;
            return self.file();
        }
        let is_checked =
            self.format.as_ref().ok_or(ProtocolError::Malformed("a file without a first event"))?.is_checked;
        if usize::try_from(header.size).is_ok_and(|size| size <= PART_BYTES) {
            self.whole(header).await?;
            if is_checked && !events::is_sound(&self.part) {
                return Err(ProtocolError::Malformed("an event is damaged: its checksum is wrong"));
            }
            self.position += u64::from(header.size);
            let gtid = Gtid::parse(&self.part).map(|gtid| (gtid, header.at));
            return Ok(Received::Bytes { begins: true, gtid });
        }
        self.position += HEADER_BYTES as u64;
        let left = u64::from(header.size) - HEADER_BYTES as u64;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.part);
        self.part_of_event(left, sum, true).await
    }

    /// Appends the next part of a long event, of which `left` bytes were not taken.
    async fn part_of_event(
        &mut self,
        left: u64,
        mut sum: crc32fast::Hasher,
        begins: bool,
    ) -> Result<Received, ProtocolError> {
        if !begins {
            self.part.clear();
        }
        let before = self.part.len();
        // The last part has the whole checksum in it.
        let is_last = left <= (PART_BYTES + CHECKSUM_BYTES) as u64;
        let count = if is_last { usize::try_from(left).unwrap_or(PART_BYTES) } else { PART_BYTES };
        self.connection.packets.take(count, &mut self.part).await?;
        self.position += count as u64;
        let bytes = self.part.get(before..).unwrap_or_default();
        if !is_last {
            sum.update(bytes);
            self.rest = Some((left - count as u64, sum));
            return Ok(Received::Bytes { begins, gtid: None });
        }
        self.connection.packets.finish().await?;
        let (body, kept) = bytes.split_last_chunk::<CHECKSUM_BYTES>().unwrap_or((bytes, &[0; 4]));
        sum.update(body);
        let is_checked = self.format.as_ref().is_some_and(|format| format.is_checked);
        if is_checked && sum.finalize() != u32::from_le_bytes(*kept) {
            return Err(ProtocolError::Malformed("an event is damaged: its checksum is wrong"));
        }
        Ok(Received::Bytes { begins, gtid: None })
    }
}

/// What of a place is in the header of an event.
fn low(position: u64) -> u32 {
    u32::try_from(position & u64::from(u32::MAX)).unwrap_or(0)
}
