//! The Journal Export Format of systemd, read as it comes in: <https://systemd.io/JOURNAL_EXPORT_FORMATS/>.
//!
//! Of an entry, the fields that a line is made of are kept, each up to a bound; the rest is passed over however long it is.

/// Most bytes of a field that are kept.
const FIELD_MAX: usize = 64 * 1024;
/// Longest name of a field, as in journald.
const NAME_MAX: usize = 64;
/// Most values of one field that are kept.
const VALUES_MAX: usize = 16;

/// Fields that are kept.
pub(super) const FIELDS: [&str; 12] = [
    "__CURSOR",
    "__REALTIME_TIMESTAMP",
    "__MONOTONIC_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "_HOSTNAME",
    "SYSLOG_IDENTIFIER",
    "_COMM",
    "SYSLOG_PID",
    "_PID",
    "_UID",
    "MESSAGE",
];

/// One entry of the journal.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Entry {
    values: Vec<(&'static str, Vec<u8>)>,
}

impl Entry {
    /// The values of a field, in their order.
    pub(super) fn all<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.values.iter().filter(move |(name, _)| *name == field).map(|(_, value)| value.as_slice())
    }

    /// The first value of a field.
    pub(super) fn get<'a>(&'a self, field: &'a str) -> Option<&'a [u8]> {
        self.all(field).next()
    }

    fn add(&mut self, field: Option<&'static str>, value: &[u8]) {
        if let Some(field) = field
            && self.all(field).count() < VALUES_MAX
        {
            self.values.push((field, value[..value.len().min(FIELD_MAX)].to_vec()));
        }
    }
}

/// What came is not of the format.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error, Debug)]
#[error("the output of journalctl is not of the Journal Export Format: {0}")]
pub struct NotExport(&'static str);

#[derive(Debug)]
enum State {
    Line,
    Length(Option<&'static str>),
    Data(Option<&'static str>, u64),
    DataEnd,
}

/// Reads entries from pieces of any size.
#[derive(Debug)]
pub(super) struct ExportParser {
    state: State,
    pending: Vec<u8>,
    entry: Entry,
    has_fields: bool,
}

impl ExportParser {
    pub(super) const fn new() -> Self {
        Self { state: State::Line, pending: Vec::new(), entry: Entry { values: Vec::new() }, has_fields: false }
    }

    /// Reads `bytes`, and hands out each entry that ends in them.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut take: impl FnMut(Entry)) -> Result<(), NotExport> {
        while let Some(first) = bytes.first() {
            match self.state {
                State::Line => {
                    let end = memchr::memchr(b'\n', bytes);
                    self.keep(&bytes[..end.unwrap_or(bytes.len())]);
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    if end.is_some()
                        && let Some(entry) = self.line()?
                    {
                        take(entry);
                    }
                }
                State::Length(field) => {
                    let missing = bytes.len().min(8 - self.pending.len());
                    self.pending.extend_from_slice(&bytes[..missing]);
                    bytes = &bytes[missing..];
                    if let Ok(length) = <[u8; 8]>::try_from(self.pending.as_slice()) {
                        self.pending.clear();
                        self.state = State::Data(field, u64::from_le_bytes(length));
                        self.data(field, u64::from_le_bytes(length));
                    }
                }
                State::Data(field, left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.keep(&bytes[..here]);
                    bytes = &bytes[here..];
                    self.data(field, left - here as u64);
                }
                State::DataEnd if *first == b'\n' => {
                    bytes = &bytes[1..];
                    self.state = State::Line;
                }
                State::DataEnd => return Err(NotExport("a binary field does not end where it says")),
            }
        }
        Ok(())
    }

    /// Goes on in a binary field of which so much is left.
    fn data(&mut self, field: Option<&'static str>, left: u64) {
        self.state = State::Data(field, left);
        if left == 0 {
            self.entry.add(field, &self.pending);
            self.pending.clear();
            self.state = State::DataEnd;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = (FIELD_MAX + NAME_MAX + 1).saturating_sub(self.pending.len());
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn line(&mut self) -> Result<Option<Entry>, NotExport> {
        let line = std::mem::take(&mut self.pending);
        if line.is_empty() {
            let entry = std::mem::take(&mut self.entry);
            return Ok(std::mem::take(&mut self.has_fields).then_some(entry));
        }
        self.has_fields = true;
        let equals = memchr::memchr(b'=', &line);
        let name = &line[..equals.unwrap_or(line.len())];
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(NotExport("a field without a name"));
        }
        let field = FIELDS.into_iter().find(|field| field.as_bytes() == name);
        match equals {
            Some(equals) => self.entry.add(field, &line[equals + 1..]),
            None => self.state = State::Length(field),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_the_same_in_pieces_of_any_size() {
        let mut text = b"__CURSOR=a\nMESSAGE=one\nOTHER=x\n\n\n__CURSOR=b\nMESSAGE\n".to_vec();
        text.extend(7_u64.to_le_bytes());
        text.extend(b"two\n\n\xff=\nMESSAGE=second\n_PID\n\0\0\0\0\0\0\0\0\n\n");
        for size in 1..text.len() {
            let (mut parser, mut entries) = (ExportParser::new(), Vec::new());
            for piece in text.chunks(size) {
                parser.read(piece, |entry| entries.push(entry)).expect("the format");
            }
            assert_eq!(entries.len(), 2);
            assert_eq!(entries[0].get("MESSAGE"), Some(&b"one"[..]));
            assert_eq!(entries[1].all("MESSAGE").collect::<Vec<_>>(), [&b"two\n\n\xff="[..], b"second"]);
            assert_eq!(entries[1].get("_PID"), Some(&b""[..]));
        }
    }

    #[test]
    fn fields_are_bounded_and_what_is_no_export_is_said() {
        let (mut parser, mut entries) = (ExportParser::new(), Vec::new());
        let mut text = b"MESSAGE\n".to_vec();
        text.extend(1_000_000_u64.to_le_bytes());
        text.extend(vec![b'x'; 1_000_000]);
        text.extend(b"\nOTHER=");
        text.extend(vec![b'y'; 1_000_000]);
        text.extend(b"\n\n");
        parser.read(&text, |entry| entries.push(entry)).expect("the format");
        assert_eq!(entries[0].get("MESSAGE").map(<[u8]>::len), Some(FIELD_MAX));
        let no_name = ExportParser::new().read(b"=x\n", |_| ());
        assert!(no_name.is_err());
        let mut no_end = b"MESSAGE\n".to_vec();
        no_end.extend(1_u64.to_le_bytes());
        no_end.extend(b"xy");
        assert!(ExportParser::new().read(&no_end, |_| ()).is_err());
    }
}
