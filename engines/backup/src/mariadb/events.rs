//! Events of the binary log, as far as they are read here: what is received is kept byte for byte, whatever it says.
//!
//! An event is a header of 19 bytes (second, type, server, length, end, flags; lowest byte first), a body, and where the file says
//! so the CRC-32 of both.

use event::Time;

use super::sql;

/// The first bytes of a file.
pub(super) const MAGIC: [u8; 4] = *b"\xfebin";
/// Length of a header.
pub(super) const HEADER_BYTES: usize = 19;
/// Length of a checksum.
pub(super) const CHECKSUM_BYTES: usize = 4;

pub(super) const QUERY: u8 = 2;
pub(super) const STOP: u8 = 3;
pub(super) const ROTATE: u8 = 4;
pub(super) const FORMAT_DESCRIPTION: u8 = 15;
pub(super) const XID: u8 = 16;
pub(super) const EXECUTE_LOAD_QUERY: u8 = 18;
pub(super) const HEARTBEAT: u8 = 27;
pub(super) const XA_PREPARE: u8 = 38;
pub(super) const GTID: u8 = 162;
pub(super) const START_ENCRYPTION: u8 = 164;

/// Flag of an event that the server made for us: it is in no file.
const ARTIFICIAL: u16 = 0x20;

/// The header of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// When, by the clock of the server: the second in which the statement began that commits.
    pub(super) at: Time,
    /// Its type.
    pub(super) kind: u8,
    /// The server that made it.
    pub(super) server: u32,
    /// Its length, with this header.
    pub(super) size: u32,
    /// Where it ends in its file, without what does not fit into 32 bits.
    pub(super) end: u32,
    flags: u16,
}

impl Header {
    /// Reads the first 19 bytes of an event.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let at = u32_at(bytes, 0)?;
        let (kind, server, size, end) = (*bytes.get(4)?, u32_at(bytes, 5)?, u32_at(bytes, 9)?, u32_at(bytes, 13)?);
        let flags = u16::from_le_bytes([*bytes.get(17)?, *bytes.get(18)?]);
        let is_whole = usize::try_from(size).is_ok_and(|size| size >= HEADER_BYTES);
        is_whole.then_some(Self { at: Time::from_secs(i64::from(at)), kind, server, size, end, flags })
    }

    /// Whether the server made it for us.
    pub(super) const fn is_artificial(&self) -> bool {
        // The first event of a file is sent for what comes from its middle too, without a place.
        self.flags & ARTIFICIAL != 0 || (self.kind == FORMAT_DESCRIPTION && self.end == 0)
    }
}

/// What a file says of itself in its first event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Format {
    /// The whole event, as it was received.
    pub(super) event: Vec<u8>,
    /// The second in which the file was begun.
    pub(super) began_at: Time,
    /// The server.
    pub(super) server: u32,
    /// Its version.
    pub(super) version: String,
    /// Whether the events of the file have checksums.
    pub(super) is_checked: bool,
}

impl Format {
    /// Reads the event; its own checksum is judged too.
    pub(super) fn parse(event: &[u8]) -> Option<Self> {
        let header = Header::parse(event).filter(|header| header.kind == FORMAT_DESCRIPTION)?;
        let body = event.get(HEADER_BYTES..)?;
        // Version 4 of the format, version of the server, 4 bytes, length of headers, lengths of bodies, kind of the checksum.
        if body.get(..2)? != [4, 0] || usize::from(*body.get(56)?) != HEADER_BYTES {
            return None;
        }
        let version = body.get(2..52)?.split(|byte| *byte == 0).next()?;
        let is_checked = match *event.get(event.len().checked_sub(CHECKSUM_BYTES + 1)?)? {
            0 => false,
            1 if is_sound(event) => true,
            _ => return None,
        };
        Some(Self {
            event: event.to_vec(),
            began_at: header.at,
            server: header.server,
            version: String::from_utf8_lossy(version).into_owned(),
            is_checked,
        })
    }
}

/// Which file goes on: of a ROTATE event, its name and where.
pub(super) fn rotation(event: &[u8]) -> Option<(String, u64)> {
    // One that the server makes has a checksum or not, whatever the file says.
    let event = if is_sound(event) { event.get(..event.len() - CHECKSUM_BYTES)? } else { event };
    let (position, name) = event.get(HEADER_BYTES..)?.split_first_chunk::<8>()?;
    let name = std::str::from_utf8(name).ok()?;
    file_number(name)?;
    Some((name.to_owned(), u64::from_le_bytes(*position)))
}

/// The number of a file: `binlog.000017` is 17.
pub(super) fn file_number(name: &str) -> Option<u32> {
    let (base, number) = name.rsplit_once('.')?;
    let is_name = !base.is_empty() && name.len() <= 255 && !name.contains('/') && number.len() >= 6;
    number.parse().ok().filter(|_| is_name && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The GTID that a transaction begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gtid {
    pub(super) domain: u32,
    pub(super) server: u32,
    pub(super) sequence: u64,
    /// Whether it is of a statement that defines something and has rows beside, as CREATE TABLE … SELECT: played by a client, that commits
    /// twice, and the rows get the number behind.
    pub(super) has_rows_behind: bool,
    /// Whether its only statement ends it.
    pub(super) is_standalone: bool,
}

/// Flags of a GTID event: nothing ends the transaction but its only statement; a statement that defines something.
const STANDALONE: u8 = 1;
const DDL: u8 = 32;

impl Gtid {
    /// Reads a GTID event.
    pub(super) fn parse(event: &[u8]) -> Option<Self> {
        let header = Header::parse(event).filter(|header| header.kind == GTID)?;
        let (sequence, rest) = event.get(HEADER_BYTES..)?.split_first_chunk::<8>()?;
        let flags = *rest.get(4)?;
        Some(Self {
            domain: u32_at(rest, 0)?,
            server: header.server,
            sequence: u64::from_le_bytes(*sequence),
            has_rows_behind: flags & DDL != 0 && flags & STANDALONE == 0,
            is_standalone: flags & STANDALONE != 0,
        })
    }
}

impl std::fmt::Display for Gtid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

/// Whether a QUERY event, of which the beginning is there, is a statement of which the log does not hold all that it made: it is done
/// again where the log is played, and what it computes then need not be the same.
pub(super) fn is_done_again(event: &[u8]) -> bool {
    statement(event).is_none_or(|(text, is_whole)| !sql::is_same_each_time(&text, is_whole))
}

/// Whether a QUERY event ends a transaction that is more than itself.
pub(super) fn is_end(event: &[u8]) -> bool {
    let Some((text, _)) = statement(event) else { return false };
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let verb = if first.eq_ignore_ascii_case("XA") { words.next().unwrap_or_default() } else { first };
    ["COMMIT", "ROLLBACK"].iter().any(|end| verb.eq_ignore_ascii_case(end))
}

/// The text of a QUERY event of which the beginning is there, and whether that is all of it.
fn statement(event: &[u8]) -> Option<(String, bool)> {
    // Thread, seconds, length of the name of the database, error, length of variables; then variables, the name with a zero, the text.
    let variables = event.get(HEADER_BYTES + 11..).and_then(|rest| rest.first_chunk::<2>());
    let (database, variables) = (event.get(HEADER_BYTES + 8)?, variables?);
    let text = HEADER_BYTES + 13 + usize::from(u16::from_le_bytes(*variables)) + usize::from(*database) + 1;
    // Its checksum is no part of the text; of a long one only the beginning is there, without it.
    let is_whole = is_sound(event);
    let end = event.len() - if is_whole { CHECKSUM_BYTES } else { 0 };
    let text = event.get(text..end)?;
    Some((String::from_utf8_lossy(text).into_owned(), is_whole))
}

/// Whether an event ends with its own checksum.
pub(super) fn is_sound(event: &[u8]) -> bool {
    let parts = event.split_last_chunk::<CHECKSUM_BYTES>();
    parts.is_some_and(|(event, sum)| crc32fast::hash(event) == u32::from_le_bytes(*sum))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An event that ends at `end`, with a checksum.
    pub(in super::super) fn event(kind: u8, second: u32, end: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER_BYTES + body.len() + CHECKSUM_BYTES).expect("small");
        let mut event = second.to_le_bytes().to_vec();
        event.push(kind);
        for number in [7, size, end] {
            event.extend(number.to_le_bytes());
        }
        event.extend(flags.to_le_bytes());
        event.extend(body);
        let sum = crc32fast::hash(&event);
        event.extend(sum.to_le_bytes());
        event
    }

    /// The first event of a file that was begun in that second.
    pub(in super::super) fn format_event(second: u32, end: u32) -> Vec<u8> {
        let mut body = vec![4, 0];
        body.extend(b"10.11.19-MariaDB-log");
        body.resize(52, 0);
        body.extend([0; 4]);
        body.push(19);
        body.extend([0; 20]);
        body.push(1);
        event(FORMAT_DESCRIPTION, second, end, 0, &body)
    }

    #[test]
    fn events_are_read() {
        let gtid = [&42_u64.to_le_bytes()[..], &3_u32.to_le_bytes(), &[0; 7]].concat();
        let gtid = event(GTID, 1_796_000_000, 325, 0, &gtid);
        let header = Header::parse(&gtid).expect("a header");
        assert_eq!((header.at, header.server, header.end), (Time::from_secs(1_796_000_000), 7, 325));
        assert!(!header.is_artificial() && is_sound(&gtid));
        assert_eq!(Gtid::parse(&gtid).expect("a GTID").to_string(), "3-7-42");
        for (flags, has_rows_behind) in [(0, false), (DDL | STANDALONE, false), (STANDALONE, false), (DDL, true)] {
            let gtid = [&42_u64.to_le_bytes()[..], &3_u32.to_le_bytes(), &[flags], &[0; 6]].concat();
            let gtid = event(GTID, 1_796_000_000, 325, 0, &gtid);
            assert_eq!(Gtid::parse(&gtid).expect("a GTID").has_rows_behind, has_rows_behind, "{flags}");
        }
        let mut damaged = gtid.clone();
        damaged[20] ^= 1;
        assert!(!is_sound(&damaged));
        assert_eq!(Gtid::parse(&gtid[..30]), None);
        assert_eq!(Header::parse(&gtid[..18]), None);

        let format = format_event(1_796_000_000, 124);
        let read = Format::parse(&format).expect("a format");
        assert_eq!((read.version.as_str(), read.is_checked, read.server), ("10.11.19-MariaDB-log", true, 7));
        let mut damaged = format;
        damaged[25] ^= 1;
        assert_eq!(Format::parse(&damaged), None);
        assert_eq!(Format::parse(&gtid), None);
    }

    #[test]
    fn statements_that_change_rows_are_told_from_those_that_define() {
        let query = |text: &str| {
            let head = [&[0; 8][..], &[4], &[0; 2], &3_u16.to_le_bytes(), &[9; 3], b"shop\0"].concat();
            is_done_again(&event(QUERY, 1_796_000_000, 325, 0, &[&head, text.as_bytes()].concat()))
        };
        assert!(!query("create table t (a int)"));
        assert!(query("INSERT INTO t VALUES (UUID())"));
        let long = format!("ALTER TABLE t COMMENT '{}'", "x".repeat(100));
        assert!(!query(&long));
        let head = [&[0; 8][..], &[0], &[0; 2], &0_u16.to_le_bytes(), b"\0"].concat();
        let whole = event(QUERY, 1_796_000_000, 325, 0, &[&head, long.as_bytes()].concat());
        assert!(is_done_again(&whole[..whole.len() - 40]), "of an ALTER TABLE all has to be there");
        assert!(is_done_again(&[0; HEADER_BYTES]), "what can't be read is no proof");
        // The checksum may begin with a letter.
        let commit = [&[0; 8][..], &[0], &[0; 2], &0_u16.to_le_bytes(), b"\0COMMIT"].concat();
        for second in 0..1000 {
            assert!(!is_done_again(&event(QUERY, second, 325, 0, &commit)), "{second}");
        }
    }

    #[test]
    fn a_rotation_names_the_next_file() {
        let body = [&4_u64.to_le_bytes()[..], b"binlog.000018"].concat();
        let rotate = event(ROTATE, 0, 0, ARTIFICIAL, &body);
        assert_eq!(rotation(&rotate), Some(("binlog.000018".into(), 4)));
        let without = &rotate[..rotate.len() - CHECKSUM_BYTES];
        assert_eq!(rotation(without), Some(("binlog.000018".into(), 4)));
        assert_eq!(rotation(&rotate[..24]), None);
        for (name, number) in
            [("a.b.000001", Some(1)), ("binlog.1000000", Some(1_000_000)), ("../x.000001", None), ("binlog", None)]
        {
            assert_eq!(file_number(name), number, "{name}");
        }
    }
}
